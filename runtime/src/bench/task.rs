//! A run as it is asked for, how far it has come, and why nothing came of it.
//!
//! Not here: how it is done (`run`).

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::bench::gate::Condition;
use crate::bench::report::Scenario;
use crate::bench::subject::Subject;
use crate::evidence::{Ratio, Slo, Tolerance};
use crate::observe::Process;

/// A run that is to be done.
#[derive(Debug)]
pub struct Bench {
    /// One version, or the baseline and the others.
    pub subjects: Vec<Subject>,
    /// Where the requests come from, in words.
    pub inputs: String,
    /// The way in which requests arrive.
    pub scenario: Scenario,
    /// Connections: several for a sweep. In an open loop the most that may be open.
    pub connections: Vec<usize>,
    /// Connections of the warm-up, which is a closed loop.
    pub warm_up_connections: usize,
    /// Requests a second of an open loop: several for a sweep, none for one that suits both.
    pub rates: Vec<NonZeroU32>,
    /// Longest that all may take.
    pub budget: Duration,
    /// Ends when the ratio's interval is at most so far from it to each side: 0.01 is one per cent.
    pub target_half_width: Option<f64>,
    /// Versions whose ratio differs by less are the same: 0.01 is one per cent.
    pub min_difference: Option<f64>,
    /// Look for the highest rate that keeps this, instead of comparing under one load.
    pub slo: Option<Slo>,
    /// Of schedules, orders and resampling.
    pub seed: u64,
    /// Longest that one request may take.
    pub timeout: Duration,
    /// The distance that two answers may have.
    pub tolerance: Tolerance,
    /// The conditions that decide for a script.
    pub conditions: Vec<Condition>,
    /// Of the servers that are ours.
    pub onnxruntime: Option<String>,
}

/// A step of the way.
#[derive(Debug)]
pub enum Progress<'a> {
    /// All inputs are sent to this version, so many.
    Asking(&'a str, usize),
    /// This version was loaded for a moment: answers a second.
    Warming(&'a str, f64),
    /// A load begins, in words.
    Level(&'a str),
    /// A pair of the baseline with itself is done: its number from 1, and of how many.
    Noise(u32, u32),
    /// A pair, or a round of more versions, is done: its number from 1, of about how many, and what is known of the first of them so far.
    Pair(u32, u32, Option<&'a Ratio>),
    /// A block of a version that is alone is done: its number from 1, of about how many, answers a second.
    Block(u32, u32, f64),
    /// A rate was tried on this version: in words.
    Tried(&'a str, &'a str),
}

/// The reason why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A version answers none of the requests.
    #[error("{label} at {url} answered none of the requests (tried: {count}); the first: {first}")]
    Refused {
        /// Which.
        label: String,
        /// Where.
        url: String,
        /// The number of requests that were sent.
        count: usize,
        /// The words for what came instead.
        first: String,
    },
    /// The other version does not take what the baseline takes.
    #[error(
        "{other} does not take the requests that {base} takes: {first}; give requests that both take with --input, \
         or compare versions with the same inputs"
    )]
    OtherInputs {
        /// The baseline.
        base: String,
        /// The other one.
        other: String,
        /// The words of the other one.
        first: String,
    },
    /// Conditions that no outcome would decide, one a line.
    #[error("conditions that this run cannot decide:\n{0}")]
    Undecidable(String),
    /// The budget was over before anything could be told.
    #[error("nothing was measured within {:.0} s: give more time with --budget", .0.as_secs_f64())]
    NoTime(Duration),
    /// It was asked to stop before anything was measured.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// A thread or a runtime could not be made.
    #[error("cannot start threads: {0}")]
    Threads(#[from] std::io::Error),
}

impl Bench {
    /// Processor time so far of all that answer on this machine.
    pub(super) fn servers_cpu(&self) -> Duration {
        let processes: BTreeSet<_> = self
            .subjects
            .iter()
            .filter_map(|subject| subject.process)
            .collect();
        processes.into_iter().filter_map(Process::cpu).sum()
    }

    /// Of the versions, in their order.
    pub(super) fn labels(&self) -> Vec<&str> {
        let versions = self.subjects.iter().map(|subject| &subject.version);
        versions.map(|version| version.label.as_str()).collect()
    }
}

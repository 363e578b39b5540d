//! The journal of a rollout: what happened, in the order in which it did, with the evidence for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::command::Command;
use crate::canary::guard::Finding;
use crate::canary::stable_watch::Slowed;
use crate::canary::switchback::SwitchedBack;
use crate::spec::Percent;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The step that it was at, from 0.
    pub step: usize,
    /// The canary's share, as the rollout had made it.
    pub weight: Percent,
    /// Requests that it had been told of.
    pub requests: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It began.
    Started {
        /// By whom.
        by: String,
        /// The number of steps.
        steps: usize,
    },
    /// The canary has another share.
    Moved {
        /// The one before.
        before: Percent,
    },
    /// The verdict of a metric has changed.
    Found {
        /// With all the numbers.
        finding: Box<Finding>,
    },
    /// The stable version is slower than it was before the rollout.
    Slowed {
        /// With all the numbers.
        slowed: Slowed,
    },
    /// A switchback is over.
    SwitchedBack {
        /// With all the numbers.
        found: SwitchedBack,
    },
    /// All traffic is to go back.
    GoingBack {
        /// Why.
        why: String,
    },
    /// It has gone back.
    RolledBack {
        /// Why.
        why: String,
    },
    /// The canary has all traffic.
    Promoted {
        /// Without a proof.
        is_flagged: bool,
    },
    /// It has ended because somebody wanted it, or because there is nothing left to roll out.
    Aborted {
        /// Why.
        why: String,
    },
    /// It waits for somebody.
    Paused {
        /// Why.
        why: String,
    },
    /// The time for a verdict is over.
    Undecided {
        /// Which time.
        words: String,
    },
    /// A gate has answered.
    Answered {
        /// Whether it lets the rollout pass.
        agrees: bool,
        /// What it said.
        words: String,
    },
    /// Somebody wanted something.
    Told {
        /// What.
        command: Command,
        /// Who.
        by: String,
    },
    /// What was wished was refused.
    NotDone {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Entry {
    /// A sentence with its numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (weight, requests) = (self.weight, self.requests);
        match &self.event {
            Event::Started { by, steps } => write!(f, "{by} started it, in {steps} steps"),
            Event::Moved { before } => write!(
                f,
                "the canary's share went from {before} to {weight} %, after {requests} requests"
            ),
            Event::Found { finding } => write!(f, "{finding}, after {requests} requests"),
            Event::Slowed { slowed } => write!(f, "{slowed}, after {requests} requests"),
            Event::SwitchedBack { found } => write!(f, "{found}, after {requests} requests"),
            Event::GoingBack { why } => write!(f, "all traffic is to go back: {why}"),
            Event::RolledBack { why } => write!(f, "all traffic has gone back: {why}"),
            Event::Promoted { is_flagged: false } => {
                write!(f, "the canary has all traffic: it was promoted")
            }
            Event::Promoted { is_flagged: true } => write!(
                f,
                "the canary has all traffic: it was promoted without all of the proof"
            ),
            Event::Aborted { why } => write!(f, "it was aborted: {why}"),
            Event::Paused { why } => write!(f, "it is paused: {why}"),
            Event::Undecided { words } => write!(f, "undecided: {words}"),
            Event::Answered { agrees, words } => {
                let answer = if *agrees { "agrees" } else { "does not agree" };
                write!(f, "the gate {answer}")?;
                if words.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {words}")
                }
            }
            Event::Told { command, by } => write!(f, "{by} said {command}"),
            Event::NotDone { reason } => write!(f, "it could not be done: {reason}"),
        }
    }
}

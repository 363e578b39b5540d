//! Answers of deployments whose truth is waited for: labels that come later are compared with them.
//!
//! They are handed over only while somebody wants those of their deployment, and bounded in number and in bytes; what finds no room is
//! dropped and counted.
//!
//! Threads: pushed to from the edge; wanted and drained by one consumer elsewhere.
//! Not here: what an answer is worth (`canary::marking`), those of shadows (`pairs`).

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::config::{ANSWER_BYTES_MAX, ANSWERS_MAX};
use crate::observe::answers_dropped;
use crate::router::handoff::{Handoff, Memory};

/// An answer that a client got.
#[derive(Debug)]
pub struct GivenAnswer {
    /// A hash of the request's id.
    pub id_hash: u64,
    /// The deployment (`DeploymentMetrics::series`).
    pub series: u32,
    /// What it answered.
    pub body: Bytes,
}

static MEMORY: Memory = Memory::new(ANSWER_BYTES_MAX);
static ANSWERS: LazyLock<Handoff<GivenAnswer>> =
    LazyLock::new(|| Handoff::new(ANSWERS_MAX, &MEMORY));

/// Whether [`WANTED`] has any, so that requests pay for no more while it has none.
static IS_WANTED: AtomicBool = AtomicBool::new(false);
/// The deployments whose answers are wanted.
static WANTED: LazyLock<ArcSwap<Vec<u32>>> = LazyLock::new(ArcSwap::default);

/// Says whose answers are wanted from now on. One caller.
pub fn want(series: Vec<u32>) {
    let is_wanted = !series.is_empty();
    WANTED.store(series.into());
    // Relaxed: who sees it late hands over an answer more or less.
    IS_WANTED.store(is_wanted, Ordering::Relaxed);
}

/// Whether the answers of the deployment are wanted.
pub(super) fn are_wanted(series: u32) -> bool {
    IS_WANTED.load(Ordering::Relaxed) && WANTED.load().contains(&series)
}

/// Hands an answer to the consumer, or counts it as lost.
pub(super) fn push(answer: GivenAnswer) {
    let bytes = answer.body.len();
    if !ANSWERS.push(answer, bytes) {
        answers_dropped().inc();
    }
}

/// Gives every answer that is there to `each`, and says how many that were.
pub fn drain_answers(each: impl FnMut(GivenAnswer)) -> usize {
    ANSWERS.drain(each)
}

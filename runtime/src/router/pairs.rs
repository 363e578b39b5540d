//! Pairs: a request with the answers of its deployment and of a shadow, for whoever compares them.
//!
//! They wait in one channel with a bound on their number and on their bytes; what finds no room is dropped and counted. Nobody waits
//! here, neither the request nor its copy.
//!
//! Threads: pushed to from the edge; drained by one consumer elsewhere.
//! Not here: the copies (`mirror`), what a difference means (`evidence`).

use std::sync::LazyLock;

use bytes::Bytes;

use crate::config::{PAIR_BYTES_MAX, PAIRS_MAX};
use crate::observe::{Outcome, pairs_dropped};
use crate::router::handoff::{Handoff, Memory};
use crate::spec::EndpointName;

/// One of the two that had the request.
#[derive(Debug, Clone)]
pub struct Side {
    /// The deployment (`DeploymentMetrics::series`).
    pub series: u32,
    /// Its build when the request came to it.
    pub build: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The status of a scoring script; none where a model answered, or nobody.
    pub status: Option<u16>,
    /// The answer; none where there is none.
    pub body: Option<Bytes>,
    /// Time until the model or script took it up, or until its end where none did.
    pub queue_us: u32,
    /// Time that the model itself took; 0 where it did not come to that.
    pub run_us: u32,
    /// Time from its beginning to its end.
    pub total_us: u32,
    /// It was one of the first of its instance.
    pub is_cold: bool,
}

impl Side {
    fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// A request that two had.
#[derive(Debug)]
pub struct Pair {
    /// Where it was asked.
    pub endpoint: EndpointName,
    /// When the copy ended, in microseconds since `clock_start`.
    pub at_us: u64,
    /// A hash of the request's id; 0 where it has none.
    pub id_hash: u64,
    /// What both were asked.
    pub request: Bytes,
    /// The deployment whose answer the client got.
    pub live: Side,
    /// The shadow.
    pub shadow: Side,
}

impl Pair {
    fn bytes(&self) -> usize {
        self.request.len() + self.live.bytes() + self.shadow.bytes()
    }
}

static MEMORY: Memory = Memory::new(PAIR_BYTES_MAX);

static PAIRS: LazyLock<Handoff<Pair>> = LazyLock::new(|| Handoff::new(PAIRS_MAX, &MEMORY));

/// Hands a pair to the consumer, or counts it as lost.
pub(super) fn push(pair: Pair) {
    let bytes = pair.bytes();
    if !PAIRS.push(pair, bytes) {
        pairs_dropped().inc();
    }
}

/// Gives every pair that is there to `each`, and says how many that were.
pub fn drain_pairs(each: impl FnMut(Pair)) -> usize {
    PAIRS.drain(each)
}

/// For tests, which share the channel of the process: the pairs with this shadow so far, and no test loses another's.
#[cfg(test)]
pub(super) fn take_pairs_of(shadow: u32) -> Vec<Pair> {
    use std::sync::{Mutex, PoisonError};
    static TAKEN: Mutex<Vec<Pair>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    drain_pairs(|pair| taken.push(pair));
    taken
        .extract_if(.., |pair| pair.shadow.series == shadow)
        .collect()
}

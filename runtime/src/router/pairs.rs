//! Pairs: a request with the answers of its deployment and of a shadow, for whoever compares them.
//!
//! They wait in one channel with a bound on their number and on their bytes; what finds no room is dropped and counted. Nobody waits
//! here, neither the request nor its copy.
//!
//! Threads: pushed to from the edge; drained by one consumer elsewhere.
//! Not here: the copies (`mirror`), what a difference means (`evidence`).

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::{PAIR_BYTES_MAX, PAIRS_MAX};
use crate::observe::{Outcome, pairs_dropped};
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

/// Bytes of which a bounded number is held at once.
#[derive(Debug)]
pub(super) struct Memory {
    held: AtomicUsize,
    max: usize,
}

impl Memory {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            max,
        }
    }

    /// Room for so many bytes until the guard is dropped, if there is any.
    pub(super) fn hold(&'static self, bytes: usize) -> Option<Held> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.max);
        // Relaxed: a sum and nothing else.
        let held = &self.held;
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Held {
            memory: self,
            bytes,
        })
    }
}

/// Bytes that are held.
#[derive(Debug)]
pub(super) struct Held {
    memory: &'static Memory,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

static MEMORY: Memory = Memory::new(PAIR_BYTES_MAX);

/// Both ends of the channel. A pair there holds its bytes.
type Channel = (Sender<(Pair, Held)>, Receiver<(Pair, Held)>);

static CHANNEL: LazyLock<Channel> = LazyLock::new(|| bounded(PAIRS_MAX));

/// Hands a pair to the consumer, or counts it as lost.
pub(super) fn push(pair: Pair) {
    let (to_consumer, _) = &*CHANNEL;
    let held = MEMORY.hold(pair.bytes());
    let is_kept = held.is_some_and(|held| to_consumer.try_send((pair, held)).is_ok());
    if !is_kept {
        pairs_dropped().inc();
    }
}

/// Gives every pair that is there to `each`, and says how many that were. The memory of a pair is bounded until then; who keeps one
/// answers for it.
pub fn drain_pairs(mut each: impl FnMut(Pair)) -> usize {
    let (_, pairs) = &*CHANNEL;
    let mut count = 0;
    // No more than there can be at once, so that a stream of them does not keep the consumer for ever.
    for (pair, held) in pairs.try_iter().take(PAIRS_MAX) {
        drop(held);
        each(pair);
        count += 1;
    }
    count
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_may_and_what_was_held_comes_back() {
        static MEMORY: Memory = Memory::new(100);
        let first = MEMORY.hold(60).unwrap();
        assert!(MEMORY.hold(41).is_none() && MEMORY.hold(usize::MAX).is_none());
        let second = MEMORY.hold(40).unwrap();
        drop(first);
        assert!(MEMORY.hold(61).is_none());
        drop(second);
        drop(MEMORY.hold(100).unwrap());
    }
}

//! A channel from the edge to one consumer elsewhere, with a bound on the number and on the bytes of what waits in it.
//!
//! Nobody waits here: what finds no room is dropped, and whoever pushed it is told.
//!
//! Threads: pushed to from the edge; drained by one consumer.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

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

/// Both ends of the channel. What is in it holds its bytes.
#[derive(Debug)]
pub(super) struct Handoff<T> {
    to_consumer: Sender<(T, Held)>,
    from_edge: Receiver<(T, Held)>,
    memory: &'static Memory,
    most: usize,
}

impl<T> Handoff<T> {
    /// Room for so many at once.
    pub(super) fn new(most: usize, memory: &'static Memory) -> Self {
        let (to_consumer, from_edge) = bounded(most);
        Self {
            to_consumer,
            from_edge,
            memory,
            most,
        }
    }

    /// Hands it to the consumer. Whether it found room.
    pub(super) fn push(&self, one: T, bytes: usize) -> bool {
        let held = self.memory.hold(bytes);
        held.is_some_and(|held| self.to_consumer.try_send((one, held)).is_ok())
    }

    /// Gives all that is there to `each`, and says how many that were. Their memory is bounded until then; who keeps one answers for it.
    pub(super) fn drain(&self, mut each: impl FnMut(T)) -> usize {
        let mut count = 0;
        // No more than there can be at once, so that a stream of them does not keep the consumer for ever.
        for (one, held) in self.from_edge.try_iter().take(self.most) {
            drop(held);
            each(one);
            count += 1;
        }
        count
    }
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

    #[test]
    fn what_finds_no_room_is_dropped_with_its_bytes() {
        static MEMORY: Memory = Memory::new(100);
        let handoff = Handoff::new(2, &MEMORY);
        let kept =
            [(1, 10), (2, 91), (3, 10), (4, 10)].map(|(one, bytes)| handoff.push(one, bytes));
        assert_eq!(kept, [true, false, true, false]);
        let mut seen = Vec::new();
        assert_eq!(handoff.drain(|one| seen.push(one)), 2);
        assert_eq!(seen, [1, 3]);
        assert!(handoff.push(5, 100));
    }
}

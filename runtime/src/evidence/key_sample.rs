//! Keys that were seen, in bounded memory. Pure.
//!
//! All keys as long as there is room. When it is full, a half of all keys that there are is given up, by a bit of a hash that has nothing
//! to do with which arm a key is of: those are new no more, and the others go on. So what is left out is no choice by outcome or arm.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::evidence::random::SplitMix64;

/// The keys, as mixed hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySample {
    /// Keys whose hash has a one among so many last bits are given up.
    bits: u32,
    room: usize,
    keys: BTreeSet<u64>,
}

impl KeySample {
    /// Room for so many keys.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self {
            bits: 0,
            room: room.max(1),
            keys: BTreeSet::new(),
        }
    }

    /// Whether a key is new and counts; from then on it is known.
    pub fn is_new(&mut self, key: u64) -> bool {
        // Mixed once more: a caller may hand in what drew the arm.
        let mixed = SplitMix64::new(key).next_u64();
        if !self.counts(mixed) || !self.keys.insert(mixed) {
            return false;
        }
        while self.keys.len() > self.room {
            self.bits += 1;
            let bits = self.bits;
            self.keys.retain(|key| key.trailing_zeros() >= bits);
        }
        true
    }

    fn counts(&self, mixed: u64) -> bool {
        mixed.trailing_zeros() >= self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_and_memory_stays_bounded() {
        let mut sample = KeySample::new(100);
        let new = (0..100_000_u64).filter(|key| sample.is_new(*key)).count();
        assert!(sample.keys.len() <= 100);
        // A hundred, and some fifty for each of ten halvings.
        assert!((300..1000).contains(&new), "{new}");
        assert_eq!((0..100_000).filter(|key| sample.is_new(*key)).count(), 0);
    }

    #[test]
    fn which_keys_are_given_up_has_nothing_to_do_with_the_upper_bits_that_may_draw_the_arm() {
        let mut sample = KeySample::new(1000);
        let mut random = SplitMix64::new(1);
        let drawn: Vec<_> = (0..100_000).map(|_| random.next_u64()).collect();
        let new: Vec<_> = drawn
            .into_iter()
            .filter(|key| sample.is_new(*key))
            .collect();
        let canary = new.iter().filter(|key| **key < u64::MAX / 10).count();
        let share = canary as f64 / new.len() as f64;
        assert!((share - 0.1).abs() < 0.02, "{share} of {}", new.len());
    }
}

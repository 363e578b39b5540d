//! A test of whether one arm has more bad requests than the other, slot of time by slot. Pure.
//!
//! A queue, a stall or a lane that lost its core is an arm's own: for a while all of its requests are slow and none of the other's, in
//! two versions that are the same. Then single requests prove nothing, for the arms are two draws and not thousands. What repeats
//! itself is time. So a slot is judged as one: `D`, the canary's share of bad requests in it less `edge` times the stable version's, each
//! counted up to a `reach`. Gamblers bet a part of their capital on `D`, so that it multiplies by `1 + part * D / reach`; their mean is an
//! e-process where `D` is not above 0 in the mean given the slots before. Requests within a slot may depend on each other in any way.
//!
//! What it asks for is slots that are long against the memory of the queues. Near saturation that is many times the tail of the
//! latency (`canary::gauge` makes them ten times its p99); with slots of a tenth of that the simulated error is four times too high.
//! Shares are cut at the reach so that a bet on a difference of hundredths may be large; a slot in which all stands still counts as the reach.
//!
//! Not here: when a slot ends, and what is bad.

use serde::{Deserialize, Serialize};

use crate::evidence::event_label::log_mean_exp;

/// The parts of their capital that gamblers bet: the best one is the mean of `D` by its variance, whatever that is.
const PARTS: [f64; 6] = [0.05, 0.1, 0.2, 0.4, 0.7, 0.9];

/// Bad requests and all requests of both arms in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slot {
    /// Bad ones of the canary.
    pub canary_bad: u64,
    /// All of the canary.
    pub canary: u64,
    /// Bad ones of the stable version.
    pub stable_bad: u64,
    /// All of the stable version.
    pub stable: u64,
}

/// The state of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotShares {
    /// The ratio of the shares at the edge of the hypothesis.
    edge: f64,
    /// Whether evidence is of harm; else of safety.
    of_harm: bool,
    capitals: [f64; PARTS.len()],
    highest: f64,
}

impl SlotShares {
    /// The test of "the canary's share is at most `edge` times the stable version's". Evidence is of harm.
    #[must_use]
    pub fn harm(edge: f64) -> Self {
        Self::new(edge, true)
    }

    /// The test of "the canary's share is at least `edge` times the stable version's". Evidence is of safety.
    #[must_use]
    pub fn safe(edge: f64) -> Self {
        Self::new(edge, false)
    }

    fn new(edge: f64, of_harm: bool) -> Self {
        Self {
            edge,
            of_harm,
            capitals: [0.0; PARTS.len()],
            highest: 0.0,
        }
    }

    /// Takes in a slot that has ended; `reach` is above 0 and known before it began. A slot without requests of both arms says nothing.
    pub fn slot(&mut self, slot: Slot, reach: f64) {
        if slot.canary == 0 || slot.stable == 0 {
            return;
        }
        let share = |bad: u64, of: u64| bad as f64 / of as f64;
        let canary = share(slot.canary_bad, slot.canary).min(reach);
        let stable = (self.edge * share(slot.stable_bad, slot.stable)).min(reach);
        let difference = match self.of_harm {
            true => canary - stable,
            false => stable - canary,
        } / reach;
        for (capital, part) in self.capitals.iter_mut().zip(PARTS) {
            *capital += (part * difference).ln_1p();
        }
        self.highest = self.highest.max(self.log_e());
    }

    /// The logarithm of the e-value now.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_mean_exp(&self.capitals)
    }

    /// The logarithms of the capitals whose mean is the e-value.
    #[must_use]
    pub fn capitals(&self) -> &[f64] {
        &self.capitals
    }

    /// The highest logarithm of the e-value so far.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::SplitMix64;

    fn slot(canary_bad: u64, stable_bad: u64) -> Slot {
        Slot {
            canary_bad,
            canary: 100,
            stable_bad,
            stable: 100,
        }
    }

    #[test]
    fn slots_in_which_all_of_the_canary_is_bad_are_proof_after_twelve_at_five_parts_of_a_percent() {
        let mut test = SlotShares::harm(1.0);
        let needed = (1..).find(|_| {
            test.slot(slot(100, 0), 0.05);
            test.log_e() > 200_f64.ln()
        });
        assert_eq!(needed, Some(11));
    }

    #[test]
    fn a_slot_that_stands_still_for_both_says_nothing_and_one_without_an_arm_neither() {
        let mut test = SlotShares::harm(1.0);
        let fresh = test.clone();
        test.slot(slot(100, 100), 0.05);
        test.slot(slot(7, 7), 0.05);
        test.slot(Slot::default(), 0.05);
        assert_eq!(test, fresh);
    }

    #[test]
    fn whose_share_is_half_as_large_is_safe_and_whose_is_twice_as_large_is_harm() {
        let (mut harm, mut safe) = (SlotShares::harm(1.0), SlotShares::safe(1.0));
        for _ in 0..60 {
            harm.slot(slot(2, 1), 0.05);
            safe.slot(slot(1, 2), 0.05);
        }
        assert!(harm.log_e() > 5.0 && safe.log_e() > 5.0);
        assert!((harm.log_e() - safe.log_e()).abs() < 1e-9);
    }

    #[test]
    fn arms_that_stand_still_each_by_itself_are_told_apart_as_seldom_as_is_asked_for() {
        let mut random = SplitMix64::new(1);
        let mut stalled = || if random.unit() < 0.1 { 30 } else { 0 };
        let found = (0..2000).filter(|_| {
            let mut test = SlotShares::harm(1.0);
            (0..200).for_each(|_| test.slot(slot(stalled(), stalled()), 0.05));
            test.highest() >= 20_f64.ln()
        });
        // 5 %, and three standard deviations of ten.
        let found = found.count();
        assert!(found <= 130, "{found} of 2000");
    }
}

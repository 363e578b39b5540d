//! Whether the canary slows the version that it is compared with. Pure.
//!
//! Both share the cores of one machine, so that a canary may slow both arms alike, and no comparison of them shows it. The stable version's own
//! share of slow requests, slot by slot, is held against that from before the rollout: each has a band that holds its mean with half of
//! the error, and the alarm is that the one from now is above the one from then. It holds where the share has one mean before and one
//! now; what else became worse in between, as the load, raises it too. So it holds a rollout and never condemns one. Slots with and without
//! the canary in random order tell the two apart (`slot_shares` judges them, by the order alone).

use serde::{Deserialize, Serialize};

use crate::evidence::paired::MeanBand;

/// The state of the alarm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interference {
    before: MeanBand,
    now: MeanBand,
}

impl Interference {
    /// An alarm that is false with this chance at most.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        let band = MeanBand::new(alpha / 2.0);
        Self {
            before: band,
            now: band,
        }
    }

    /// Takes in the stable version's share of slow requests in a slot from before the rollout.
    pub fn before(&mut self, slow: f64) {
        self.before.add(slow);
    }

    /// Takes in that of a slot with the canary.
    pub fn now(&mut self, slow: f64) {
        self.now.add(slow);
    }

    /// Whether the stable version's share of slow requests is proven to be more than so many times what it was.
    #[must_use]
    pub fn is_raised(&self, times: f64) -> bool {
        self.now.ends().0 > times * self.before.ends().1
    }

    /// The bands of the share before and now.
    #[must_use]
    pub fn bands(&self) -> [(f64, f64); 2] {
        [self.before.ends(), self.now.ends()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::SplitMix64;

    /// Slots of a hundred requests, of which so many are slow in the mean.
    fn alarm(before: f64, now: f64, slots: usize, random: &mut SplitMix64) -> bool {
        let mut share = |mean: f64| {
            let slow = (0..100).filter(|_| random.unit() <= mean).count();
            slow as f64 / 100.0
        };
        let mut alarm = Interference::new(0.01);
        (0..slots).for_each(|_| alarm.before(share(before)));
        (0..slots).any(|_| {
            alarm.now(share(now));
            alarm.is_raised(1.0)
        })
    }

    #[test]
    fn a_version_that_is_slowed_raises_the_alarm_and_one_that_is_not_does_not() {
        let mut random = SplitMix64::new(1);
        let mut raised = |before, now| {
            (0..100)
                .filter(|_| alarm(before, now, 120, &mut random))
                .count()
        };
        assert_eq!(raised(0.01, 0.3), 100);
        assert!(raised(0.01, 0.01) <= 4);
        assert!(raised(0.2, 0.2) <= 4);
    }

    #[test]
    fn nothing_from_before_raises_nothing() {
        let mut alarm = Interference::new(0.01);
        (0..1000).for_each(|_| alarm.now(1.0));
        assert!(!alarm.is_raised(1.0));
    }
}

//! A test of whether a rate is below or above a bar, whenever one looks, from two counts. Pure.
//!
//! It serves for pairs that disagree (certified below 1 % by 346 that all agree, at 5 %), and for events so rare that no ratio of two
//! arms can be told. It holds where each event has at least (or at most) the chance of the bar given what was before. Events may be parts
//! of one, 0 to 1: a bet to the power of a part is at most the mean bet over whether the event happens.

use crate::evidence::latency_test::Mixture;

/// Bars nearer to none or all take more requests than anybody sends.
const BAR_MIN: f64 = 1e-9;

/// The test of one bar.
#[derive(Debug, Clone)]
pub struct RateTest {
    below: Mixture,
    above: Mixture,
}

impl RateTest {
    /// The test of a bar from 0 to 1.
    #[must_use]
    pub fn new(bar: f64) -> Self {
        let bar = bar.clamp(BAR_MIN, 1.0 - BAR_MIN);
        Self {
            below: Mixture::below(bar),
            above: Mixture::above(bar),
        }
    }

    /// The logarithm of the e-value against "the rate is at or above the bar".
    #[must_use]
    pub fn log_e_below(&self, events: f64, others: f64) -> f64 {
        self.below.log_mean((others, events))
    }

    /// The logarithm of the e-value against "the rate is at or below the bar".
    #[must_use]
    pub fn log_e_above(&self, events: f64, others: f64) -> f64 {
        self.above.log_mean((others, events))
    }

    /// The number of requests without any event that prove a rate below the bar to so high a logarithm.
    #[must_use]
    pub fn requests_to_certify(&self, log_e: f64) -> u64 {
        let proven = |others: &u64| self.log_e_below(0.0, *others as f64) >= log_e;
        let enough = (0..63).map(|bits| 1_u64 << bits).find(proven);
        let Some(mut enough) = enough else {
            return u64::MAX;
        };
        let mut short = enough / 2;
        while enough - short > 1 {
            let middle = u64::midpoint(short, enough);
            match proven(&middle) {
                true => enough = middle,
                false => short = middle,
            }
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_all_agree_certify_after_the_published_counts() {
        let needed = |bar| RateTest::new(bar).requests_to_certify(20_f64.ln());
        assert_eq!([0.05, 0.01, 0.001].map(needed), [68, 346, 3471]);
    }

    #[test]
    fn a_rate_on_either_side_is_told() {
        let test = RateTest::new(0.01);
        assert!(test.log_e_above(50.0, 950.0) > 7.0 && test.log_e_below(50.0, 950.0) < 0.0);
        assert!(test.log_e_below(2.0, 1998.0) > 7.0 && test.log_e_above(2.0, 1998.0) < 0.0);
    }

    #[test]
    fn a_bar_that_nothing_reaches_takes_for_ever_and_not_the_program() {
        assert!(RateTest::new(0.0).requests_to_certify(5.0) > 1_000_000_000);
        assert_eq!(RateTest::new(1.0).requests_to_certify(5.0), 1);
    }
}

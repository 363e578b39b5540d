//! A check of whether the arms get the shares of requests that were asked for. Pure.
//!
//! A mixture of shares around the wanted one (a beta distribution worth a hundred requests) bets against it; where retries, sheds or a
//! mistake move the share, its capital grows. Where the weight changes, what was won so far stays and the next stretch begins anew. Of an exact
//! split the counts vary less than drawn ones, so that it is more careful there than it says. It raises an alarm and is no verdict.

use serde::{Deserialize, Serialize};
use statrs::function::beta::ln_beta;

/// What the mixture is worth, in requests.
const WORTH: f64 = 100.0;

/// The state of the check.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SampleRatio {
    /// The canary's share of the present stretch.
    weight: f64,
    canary: u64,
    stable: u64,
    /// The logarithm that earlier stretches have won.
    earlier: f64,
}

impl SampleRatio {
    /// Takes in a request that went to the canary, or not, where that was to be so with a chance. A chance of 0 or 1 says nothing.
    pub fn request(&mut self, of_canary: bool, weight: f64) {
        if !(weight > 0.0 && weight < 1.0) {
            return;
        }
        if weight.to_bits() != self.weight.to_bits() {
            *self = Self {
                weight,
                earlier: self.log_e(),
                ..Self::default()
            };
        }
        match of_canary {
            true => self.canary += 1,
            false => self.stable += 1,
        }
    }

    /// The logarithm of the e-value against the shares being the wanted ones.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        if self.canary + self.stable == 0 {
            return self.earlier;
        }
        let (a, b) = (WORTH * self.weight, WORTH * (1.0 - self.weight));
        let (canary, stable) = (self.canary as f64, self.stable as f64);
        let expected = canary * self.weight.ln() + stable * (1.0 - self.weight).ln();
        self.earlier + ln_beta(a + canary, b + stable) - ln_beta(a, b) - expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(canary: u64, stable: u64) -> f64 {
        let mut check = SampleRatio::default();
        (0..canary).for_each(|_| check.request(true, 0.1));
        (0..stable).for_each(|_| check.request(false, 0.1));
        check.log_e()
    }

    #[test]
    fn the_evidence_of_a_thousand_requests_is_the_published_one() {
        for (canary, stable, expected, within) in [
            (100, 900, -1.2066, 5e-5),
            (130, 870, 2.909_94, 5e-6),
            (150, 850, 9.867_12, 5e-6),
        ] {
            let found = of(canary, stable);
            assert!((found - expected).abs() <= within, "{found} {expected}");
        }
    }

    #[test]
    fn what_a_stretch_has_shown_stays_when_the_weight_changes() {
        let mut check = SampleRatio::default();
        assert!(check.log_e().abs() < 1e-12);
        (0..150).for_each(|_| check.request(true, 0.1));
        (0..850).for_each(|_| check.request(false, 0.1));
        check.request(true, 1.0);
        check.request(false, 0.5);
        assert!((check.log_e() - of(150, 850)).abs() < 1e-9);
    }
}

//! A test of whether two arms have the same percentile, whenever one looks, from counts of latencies. Pure.
//!
//! Howard and Ramdas (2022), theorem 5: for a latency `x`, `B` of an arm's `N` requests are at most `x`, and
//! `log G(B, N) = -B ln p - (N - B) ln(1 - p) + ln Beta(a + B, b + N - B) - ln Beta(a, b)` is the evidence against `x` being its percentile.
//! What is least over all `x` of the sum for both arms is evidence against the arms sharing one. Of counts in buckets only bounds of `B` are
//! known; `G` is convex in `B` and least at `p N`, so that the nearest `B` to that is taken: less evidence than there is, never more.
//!
//! It holds for independent requests, and for those only: requests of one queue or one stall are not. A guard takes `slot_shares`.

use statrs::function::beta::ln_beta;

use crate::evidence::latency_counts::LatencyCounts;

/// Requests at which the mixture is tightest.
const BEST_AT: f64 = 5000.0;

/// Which arm is slower, where the evidence is of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slower {
    /// The canary.
    Canary,
    /// The stable version.
    Stable,
    /// Neither: their percentiles are in the same bucket.
    Neither,
}

/// The test of one percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantilePair {
    quantile: f64,
    /// The parameters of the mixture.
    a: f64,
    b: f64,
    /// The logarithm of its norm.
    norm: f64,
}

impl QuantilePair {
    /// The test of a percentile, above 0 and below 1, that is tightest for an error of `alpha`.
    #[must_use]
    pub fn new(quantile: f64, alpha: f64) -> Self {
        let spread = quantile * (1.0 - quantile);
        let log = 2.0 * (1.0 / alpha).ln();
        let rho = BEST_AT * spread / (log + (1.0 + log).ln());
        let r = (rho - spread).max(1e-3 * spread);
        let (a, b) = (r / (1.0 - quantile), r / quantile);
        Self {
            quantile,
            a,
            b,
            norm: ln_beta(a, b),
        }
    }

    /// The logarithm of the evidence against a value being the percentile, where `below` of `count` are at most it.
    #[must_use]
    pub fn log_g(&self, below: f64, count: f64) -> f64 {
        let above = count - below;
        let expected = below * self.quantile.ln() + above * (1.0 - self.quantile).ln();
        ln_beta(self.a + below, self.b + above) - self.norm - expected
    }

    /// The logarithm of the e-value against both arms having the same percentile, and which is slower. For "the canary's is at most
    /// 1.1 times the stable version's", the stable version's latencies are counted 1.1 times as long, and only a slower canary is harm.
    #[must_use]
    pub fn log_e(&self, stable: &LatencyCounts, canary: &LatencyCounts) -> (f64, Slower) {
        let (at_stable, at_canary) = (
            stable.bucket_at(self.quantile),
            canary.bucket_at(self.quantile),
        );
        let (Some(at_stable), Some(at_canary)) = (at_stable, at_canary) else {
            return (0.0, Slower::Neither);
        };
        let slower = match at_canary.cmp(&at_stable) {
            std::cmp::Ordering::Greater => Slower::Canary,
            std::cmp::Ordering::Less => Slower::Stable,
            std::cmp::Ordering::Equal => Slower::Neither,
        };
        (self.least(stable, canary), slower)
    }

    fn least(&self, stable: &LatencyCounts, canary: &LatencyCounts) -> f64 {
        let (mut one, mut other) = (
            Walk::new(self, stable.count()),
            Walk::new(self, canary.count()),
        );
        let mut steps: Vec<_> = stable.filled().map(|step| (step, true)).collect();
        steps.extend(canary.filled().map(|step| (step, false)));
        steps.sort_unstable_by_key(|((bucket, _), _)| *bucket);
        let mut least = f64::INFINITY;
        for same in steps.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
            let of = |wanted: bool| {
                let own = same.iter().filter(|(_, is_stable)| *is_stable == wanted);
                own.map(|((_, count), _)| count).sum()
            };
            least = least.min(one.step(self, of(true)) + other.step(self, of(false)));
        }
        least
    }
}

/// The way through the buckets of one arm.
struct Walk {
    count: f64,
    below: f64,
    /// Where the evidence is least.
    best: f64,
}

impl Walk {
    fn new(test: &QuantilePair, count: u64) -> Self {
        let count = count as f64;
        Self {
            count,
            below: 0.0,
            best: test.quantile * count,
        }
    }

    /// The least evidence within the next bucket, which has so many.
    fn step(&mut self, test: &QuantilePair, count: u64) -> f64 {
        let from = self.below;
        self.below += count as f64;
        test.log_g(self.best.clamp(from, self.below), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::latency_counts::bucket_of;

    #[track_caller]
    fn check(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() <= within, "{found} {expected}");
    }

    #[test]
    fn the_mixture_is_the_published_one() {
        for (quantile, a, b) in [
            (0.5, 314.514_02, 314.514_02),
            (0.9, 566.125_24, 62.902_80),
            (0.99, 622.737_77, 6.290_28),
        ] {
            let test = QuantilePair::new(quantile, 0.05);
            check(test.a, a, 1e-5);
            check(test.b, b, 1e-5);
        }
    }

    #[test]
    fn the_evidence_of_a_thousand_requests_is_the_published_one() {
        for (quantile, below, expected) in [
            (0.99, 990.0, -0.483_904),
            (0.99, 960.0, 17.624_637),
            (0.9, 900.0, -0.476_604),
            (0.9, 870.0, 2.365_072),
            (0.5, 500.0, -0.476_025),
            (0.5, 470.0, 0.629_857),
        ] {
            let test = QuantilePair::new(quantile, 0.05);
            check(test.log_g(below, 1000.0), expected, 1e-6);
        }
    }

    #[test]
    fn an_arm_whose_tail_has_no_end_is_slower_and_one_without_requests_says_nothing() {
        let mut counts = [LatencyCounts::default(), LatencyCounts::default()];
        let test = QuantilePair::new(0.99, 0.05);
        assert_eq!(test.log_e(&counts[0], &counts[1]), (0.0, Slower::Neither));
        for latency in 0..2000 {
            counts
                .iter_mut()
                .for_each(|one| one.add(bucket_of(1000 + latency)));
        }
        let (even, slower) = test.log_e(&counts[0], &counts[1]);
        assert!(even < 0.0 && slower == Slower::Neither, "{even}");
        (0..100).for_each(|_| counts[1].add_endless());
        let (log_e, slower) = test.log_e(&counts[0], &counts[1]);
        assert!(log_e > 3.0 && slower == Slower::Canary, "{log_e}");
        assert_eq!(test.log_e(&counts[1], &counts[0]).1, Slower::Stable);
    }
}

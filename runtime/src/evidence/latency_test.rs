//! A test that proves whether a rate keeps a latency, however often one looks. Pure.
//!
//! Each hypothesis is bet against by 12 gamblers who believe in other rates of slow requests. Their mean capital multiplies
//! fairly where the hypothesis holds, so that it ever grows a hundredfold with a chance of one in a hundred at most (Ville), and it
//! is looked at after every request without any more danger. A rule that is made for one look does not have this: MLPerf's
//! early stopping, repeated, passes a system exactly at the bar 15 times in a hundred.
//!
//! Not here: requests that depend on each other, as those in a queue do (`dependence` says how many independent ones they are worth).

use crate::evidence::event_label::log_mean_exp;
use crate::evidence::slo::{ProbeOutcome, Slo};

/// Capital that is proof: an error in twenty tries of a rate that is exactly at the bar, whenever one stops; of other rates far fewer.
const PROOF: f64 = 20.0;

/// Beliefs of one test.
const RATES: usize = 12;

/// The rates are these fractions of the bar, and geometric between them. With them, and an error in a hundred, p99 takes 519 requests to
/// pass when none is slow, 13 % more than a rule that may be looked at once.
const FRACTION_MIN: f64 = 0.009;
/// The rate that is nearest to the bar.
const FRACTION_MAX: f64 = 0.9;

/// Shares of slow requests nearer to none or all take more requests than anybody sends.
const BAR_MIN: f64 = 1e-9;

/// The test of one rate.
#[derive(Debug, Clone)]
pub struct LatencyTest {
    /// Against "too many are slow".
    keeps: Mixture,
    /// Against "not too many are slow".
    breaks: Mixture,
    /// Capital that is proof.
    proof: f64,
}

impl LatencyTest {
    /// The test that tries of rates are judged by.
    #[must_use]
    pub fn new(slo: Slo) -> Self {
        Self::with_proof(slo, PROOF)
    }

    fn with_proof(slo: Slo, proof: f64) -> Self {
        let bar = (1.0 - slo.quantile).clamp(BAR_MIN, 1.0 - BAR_MIN);
        Self {
            keeps: Mixture::below(bar),
            breaks: Mixture::above(bar),
            proof,
        }
    }

    /// The number of requests that it takes to pass when so many of them are over the limit: how long a try must last at least.
    #[must_use]
    pub fn requests_to_pass(&self, over: u64) -> u64 {
        let passes = |in_time: u64| {
            self.keeps
                .is_proof((in_time as f64, over as f64), self.proof)
        };
        let mut enough = 1;
        while !passes(enough) {
            enough *= 2;
        }
        let mut in_time = enough / 2;
        while enough - in_time > 1 {
            let middle = u64::midpoint(in_time, enough);
            if passes(middle) {
                enough = middle;
            } else {
                in_time = middle;
            }
        }
        enough + over
    }

    /// The proof in so many independent requests that were in time, and so many that were over the limit (or failed).
    #[must_use]
    pub fn judge(&self, in_time: f64, over: f64) -> Option<ProbeOutcome> {
        if self.keeps.is_proof((in_time, over), self.proof) {
            Some(ProbeOutcome::Passed)
        } else if self.breaks.is_proof((in_time, over), self.proof) {
            Some(ProbeOutcome::Failed)
        } else {
            None
        }
    }
}

/// Beliefs of equal weight in rates other than the bar.
#[derive(Debug, Clone)]
pub(super) struct Mixture {
    beliefs: [Belief; RATES],
}

/// Logarithms of what a belief multiplies its capital with.
#[derive(Debug, Clone, Copy)]
struct Belief {
    in_time: f64,
    over: f64,
}

impl Mixture {
    /// Beliefs in rates below the bar.
    pub(super) fn below(bar: f64) -> Self {
        Self::new(bar, |fraction| bar * fraction)
    }

    /// Beliefs in rates above the bar: the same fractions of the odds, the other way, so that a rate stays below 1.
    pub(super) fn above(bar: f64) -> Self {
        let odds = bar / (1.0 - bar);
        Self::new(bar, |fraction| odds / (odds + fraction))
    }

    /// The logarithm of the mean capital. It depends on the counts only, so that no rounding adds up.
    pub(super) fn log_mean(&self, (in_time, over): (f64, f64)) -> f64 {
        let capitals = self
            .beliefs
            .map(|belief| belief.in_time * in_time + belief.over * over);
        log_mean_exp(&capitals)
    }

    fn new(bar: f64, rate_of: impl Fn(f64) -> f64) -> Self {
        let step = (FRACTION_MAX / FRACTION_MIN).powf(1.0 / (RATES as f64 - 1.0));
        let beliefs = std::array::from_fn(|at| {
            let rate = rate_of(FRACTION_MIN * step.powf(at as f64));
            Belief {
                in_time: ((1.0 - rate) / (1.0 - bar)).ln(),
                over: (rate / bar).ln(),
            }
        });
        Self { beliefs }
    }

    /// Whether the mean capital is `proof`. It depends on the counts only, so that no rounding adds up.
    fn is_proof(&self, (in_time, over): (f64, f64), proof: f64) -> bool {
        let capitals = self
            .beliefs
            .map(|belief| belief.in_time * in_time + belief.over * over);
        let most = capitals.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // The mean is never more than the most, which spares most looks the exponentials.
        most >= proof.ln() && {
            let others: f64 = capitals.iter().map(|capital| (capital - most).exp()).sum();
            most + (others / RATES as f64).ln() >= proof.ln()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::SplitMix64;

    fn slo(quantile: f64) -> Slo {
        Slo {
            quantile,
            limit_ms: 10.0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a length, of which the fraction goes"
    )]
    fn whole(length: f64) -> u64 {
        length as u64
    }

    /// An error in a hundred.
    fn sure(quantile: f64) -> LatencyTest {
        LatencyTest::with_proof(slo(quantile), 100.0)
    }

    /// Looks after every request of a system with this rate of slow ones; the first proof. While none is slow the evidence to pass only
    /// rises, and so a look at the end of such a stretch is as good as one after each of its requests.
    fn run(
        test: &LatencyTest,
        slow: f64,
        requests_max: u64,
        random: &mut SplitMix64,
    ) -> Option<ProbeOutcome> {
        let (mut in_time, mut over) = (0, 0);
        loop {
            let left = requests_max - (in_time + over);
            let more = whole(random.unit().ln() / (1.0 - slow).ln()).min(left);
            in_time += more;
            for slow in [0, 1] {
                over += slow;
                let found = test.judge(in_time as f64, over as f64);
                if found.is_some() || more == left {
                    return found;
                }
            }
        }
    }

    /// Shares of so many runs that passed and that failed.
    fn shares(runs: u32, mut run: impl FnMut() -> Option<ProbeOutcome>) -> [f64; 2] {
        let outcomes: Vec<_> = (0..runs).map(|_| run()).collect();
        [ProbeOutcome::Passed, ProbeOutcome::Failed].map(|wanted| {
            let such = outcomes.iter().filter(|outcome| **outcome == Some(wanted));
            such.count() as f64 / f64::from(runs)
        })
    }

    #[test]
    fn the_requests_that_it_takes_to_pass_are_the_published_ones() {
        let needed = |quantile| [0, 1, 2, 5, 10].map(|over| sure(quantile).requests_to_pass(over));
        assert_eq!(needed(0.9), [50, 81, 106, 167, 253]);
        assert_eq!(needed(0.99), [519, 838, 1098, 1724, 2593]);
    }

    #[test]
    fn it_passes_with_the_very_request_that_makes_the_count() {
        for test in [sure(0.9), LatencyTest::new(slo(0.9))] {
            let needed = test.requests_to_pass(0) as f64;
            assert_eq!(test.judge(needed - 1.0, 0.0), None);
            assert_eq!(test.judge(needed, 0.0), Some(ProbeOutcome::Passed));
        }
    }

    #[test]
    fn requests_that_are_all_slow_fail_soon() {
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            assert_eq!(
                sure(quantile).judge(0.0, 10.0),
                Some(ProbeOutcome::Failed),
                "{quantile}"
            );
        }
    }

    #[test]
    fn a_system_exactly_at_the_bar_passes_or_fails_as_seldom_as_is_asked_for_however_often_it_is_looked_at()
     {
        let mut random = SplitMix64::new(1);
        // Three standard deviations of what is allowed.
        let allowed = |proof: f64, runs: u32| {
            let error = 1.0 / proof;
            error + 3.0 * (error * (1.0 - error) / f64::from(runs)).sqrt()
        };
        for (quantile, runs) in [(0.99, 1000), (0.9, 250)] {
            for test in [sure(quantile), LatencyTest::new(slo(quantile))] {
                let slow = 1.0 - quantile;
                let wrong = shares(runs, || run(&test, slow, 30_000, &mut random));
                let most = allowed(test.proof, runs);
                assert!(
                    wrong.iter().all(|share| *share <= most),
                    "p{quantile}: {wrong:?}"
                );
            }
        }
    }

    #[test]
    fn half_the_allowed_rate_passes_and_twice_the_allowed_rate_fails() {
        let mut random = SplitMix64::new(2);
        let [passed, _] = shares(200, || run(&sure(0.99), 0.005, 30_000, &mut random));
        assert!(passed > 0.97, "{passed}");
        let [_, failed] = shares(200, || run(&sure(0.99), 0.02, 30_000, &mut random));
        assert!(failed > 0.97, "{failed}");
    }

    #[test]
    fn a_latency_that_none_or_all_may_exceed_can_still_be_tested() {
        assert!(sure(1.0).requests_to_pass(0) > 1_000_000_000);
        assert_eq!(sure(0.0).requests_to_pass(0), 1);
    }

    #[test]
    fn every_belief_is_a_rate_on_its_side_of_the_bar_and_plays_fairly() {
        for quantile in [0.01, 0.5, 0.9, 0.99, 0.99999] {
            let (test, bar) = (LatencyTest::new(slo(quantile)), 1.0 - quantile);
            let mean =
                |belief: &Belief| belief.in_time.exp() * (1.0 - bar) + belief.over.exp() * bar;
            for belief in test.keeps.beliefs {
                assert!(belief.over < 0.0 && belief.in_time > 0.0, "{quantile}");
                assert!((mean(&belief) - 1.0).abs() < 1e-9, "{quantile}");
            }
            for belief in test.breaks.beliefs {
                assert!(belief.over > 0.0 && belief.in_time < 0.0, "{quantile}");
                assert!((mean(&belief) - 1.0).abs() < 1e-9, "{quantile}");
            }
        }
    }
}

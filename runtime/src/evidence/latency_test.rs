//! A test that proves whether a rate keeps a latency, however often one looks. Pure.
//!
//! Each hypothesis is bet against by 12 gamblers who believe in other rates of slow requests. Their mean capital multiplies
//! fairly where the hypothesis holds, so that it ever grows a hundredfold with a chance of one in a hundred at most (Ville), and it
//! is looked at after every request without any more danger. A rule that is made for one look does not have this: MLPerf's
//! early stopping, repeated, passes a system exactly at the bar 15 times in a hundred.

use crate::evidence::slo::{ProbeOutcome, Slo};

/// Capital that is proof: an error in a hundred runs, whenever one stops.
const PROOF: f64 = 100.0;

/// Beliefs of one test.
const RATES: usize = 12;

/// The rates are these fractions of the bar, and geometric between them. With them p99 takes 519 requests to pass when none is
/// slow, 13 % more than a rule that may be looked at once.
const FRACTION_MIN: f64 = 0.009;
/// The rate that is nearest to the bar.
const FRACTION_MAX: f64 = 0.9;

/// Shares of slow requests nearer to none or all take more requests than anybody sends.
const BAR_MIN: f64 = 1e-9;

/// The test of one rate, a request at a time.
#[derive(Debug, Clone)]
pub struct LatencyTest {
    /// Against "too many are slow".
    keeps: Mixture,
    /// Against "not too many are slow".
    breaks: Mixture,
    in_time: u64,
    over: u64,
    outcome: Option<ProbeOutcome>,
}

impl LatencyTest {
    /// Nothing is seen yet.
    #[must_use]
    pub fn new(slo: Slo) -> Self {
        let bar = (1.0 - slo.quantile).clamp(BAR_MIN, 1.0 - BAR_MIN);
        let odds = bar / (1.0 - bar);
        Self {
            keeps: Mixture::new(bar, |fraction| bar * fraction),
            // The same fractions of the odds, the other way: a rate stays below 1.
            breaks: Mixture::new(bar, |fraction| odds / (odds + fraction)),
            in_time: 0,
            over: 0,
            outcome: None,
        }
    }

    /// Counts one request that was over the limit (or failed) or not, and says what is proven. The first proof stands.
    #[cfg(test)]
    fn observe(&mut self, over: bool) -> Option<ProbeOutcome> {
        if over {
            self.count(0, 1)
        } else {
            self.count(1, 0)
        }
    }

    /// The number of requests that it takes to pass when so many of them are over the limit: how long a try must last at least.
    #[must_use]
    pub fn requests_to_pass(slo: Slo, over: u64) -> u64 {
        let test = Self::new(slo);
        let mut enough = 1;
        while !test.keeps.is_proof(enough, over) {
            enough *= 2;
        }
        let mut in_time = enough / 2;
        while enough - in_time > 1 {
            let middle = u64::midpoint(in_time, enough);
            if test.keeps.is_proof(middle, over) {
                enough = middle;
            } else {
                in_time = middle;
            }
        }
        enough + over
    }

    /// The same of many requests, looked at once.
    pub fn count(&mut self, in_time: u64, over: u64) -> Option<ProbeOutcome> {
        if self.outcome.is_none() {
            self.in_time += in_time;
            self.over += over;
            self.outcome = if self.keeps.is_proof(self.in_time, self.over) {
                Some(ProbeOutcome::Passed)
            } else if self.breaks.is_proof(self.in_time, self.over) {
                Some(ProbeOutcome::Failed)
            } else {
                None
            };
        }
        self.outcome
    }
}

/// Beliefs of equal weight in rates other than the bar.
#[derive(Debug, Clone)]
struct Mixture {
    beliefs: [Belief; RATES],
}

/// Logarithms of what a belief multiplies its capital with.
#[derive(Debug, Clone, Copy)]
struct Belief {
    in_time: f64,
    over: f64,
}

impl Mixture {
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

    /// Whether the mean capital is [`PROOF`]. It depends on the counts only, so that no rounding adds up.
    fn is_proof(&self, in_time: u64, over: u64) -> bool {
        let (in_time, over) = (in_time as f64, over as f64);
        let capitals = self
            .beliefs
            .map(|belief| belief.in_time * in_time + belief.over * over);
        let most = capitals.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // The mean is never more than the most, which spares most looks the exponentials.
        most >= PROOF.ln() && {
            let others: f64 = capitals.iter().map(|capital| (capital - most).exp()).sum();
            most + (others / RATES as f64).ln() >= PROOF.ln()
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

    /// Looks after every request of a system with this rate of slow ones. While none is slow the evidence to pass only rises, and
    /// so a look at the end of such a stretch is as good as one after each of its requests.
    fn run(quantile: f64, slow: f64, requests_max: u64, random: &mut SplitMix64) -> LatencyTest {
        let mut test = LatencyTest::new(slo(quantile));
        while (test.in_time + test.over) < requests_max {
            let left = requests_max - (test.in_time + test.over);
            let in_time = whole(random.unit().ln() / (1.0 - slow).ln()).min(left);
            if test.count(in_time, 0).is_some() || in_time == left {
                break;
            }
            if test.observe(true).is_some() {
                break;
            }
        }
        test
    }

    /// Shares of so many runs that passed and that failed.
    fn shares(runs: u32, mut run: impl FnMut() -> LatencyTest) -> [f64; 2] {
        let outcomes: Vec<_> = (0..runs).map(|_| run().outcome).collect();
        [ProbeOutcome::Passed, ProbeOutcome::Failed].map(|wanted| {
            let such = outcomes.iter().filter(|outcome| **outcome == Some(wanted));
            such.count() as f64 / f64::from(runs)
        })
    }

    #[test]
    fn the_requests_that_it_takes_to_pass_are_the_published_ones() {
        let needed = |quantile| {
            [0, 1, 2, 5, 10].map(|over| LatencyTest::requests_to_pass(slo(quantile), over))
        };
        assert_eq!(needed(0.9), [50, 81, 106, 167, 253]);
        assert_eq!(needed(0.99), [519, 838, 1098, 1724, 2593]);
    }

    #[test]
    fn it_passes_with_the_very_request_that_makes_the_count() {
        let mut test = LatencyTest::new(slo(0.9));
        for _ in 0..49 {
            assert_eq!(test.observe(false), None);
        }
        assert_eq!(test.observe(false), Some(ProbeOutcome::Passed));
        assert_eq!(test.observe(true), Some(ProbeOutcome::Passed));
        assert_eq!(((test.in_time + test.over), test.over), (50, 0));
    }

    #[test]
    fn requests_that_are_all_slow_fail_soon() {
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let mut test = LatencyTest::new(slo(quantile));
            while test.observe(true).is_none() {}
            assert_eq!(test.outcome, Some(ProbeOutcome::Failed));
            assert!(
                (test.in_time + test.over) <= 10,
                "{quantile}: {}",
                (test.in_time + test.over)
            );
        }
    }

    #[test]
    fn a_system_exactly_at_the_bar_passes_or_fails_once_in_a_hundred_however_often_it_is_looked_at()
    {
        let mut random = SplitMix64::new(1);
        // Three standard deviations of 1 %.
        let allowed = |runs: u32| 0.01 + 3.0 * (0.01 * 0.99 / f64::from(runs)).sqrt();
        for (quantile, runs) in [(0.99, 2000), (0.9, 250)] {
            let wrong = shares(runs, || run(quantile, 1.0 - quantile, 30_000, &mut random));
            let most = allowed(runs);
            assert!(
                wrong.iter().all(|share| *share <= most),
                "p{quantile}: {wrong:?}"
            );
        }
    }

    #[test]
    fn half_the_allowed_rate_passes_and_twice_the_allowed_rate_fails() {
        let mut random = SplitMix64::new(2);
        let [passed, _] = shares(200, || run(0.99, 0.005, 30_000, &mut random));
        assert!(passed > 0.97, "{passed}");
        let [_, failed] = shares(200, || run(0.99, 0.02, 30_000, &mut random));
        assert!(failed > 0.97, "{failed}");
    }

    #[test]
    fn a_latency_that_none_or_all_may_exceed_can_still_be_tested() {
        assert!(LatencyTest::requests_to_pass(slo(1.0), 0) > 1_000_000_000);
        assert_eq!(LatencyTest::requests_to_pass(slo(0.0), 0), 1);
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

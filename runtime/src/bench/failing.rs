//! What failures do to a comparison: a version that fails more is not the better one, whatever the rest takes. Pure.

use crate::bench::figures::confidence_of;
use crate::bench::report::{Comparison, Failures, Figures, Metric, Outcome};
use crate::evidence::{Estimate, difference, proportion};

impl Failures {
    /// Of versions by themselves, and of each beside the first.
    pub(super) fn of(figures: &[Figures]) -> Self {
        let confidence = confidence_of(figures.len());
        let counts = |one: &Figures| (one.failures, one.sent);
        let shares = figures.iter().map(|one| {
            let (failures, sent) = counts(one);
            proportion(failures, sent, confidence)
        });
        let endless = figures.iter().map(|one| {
            let queries = one.latencies.count();
            proportion(queries - one.latencies.ended(), queries, confidence)
        });
        Self {
            shares: shares.collect(),
            endless: endless.collect(),
            differences: match figures {
                [] => Vec::new(),
                [base, others @ ..] => others
                    .iter()
                    .map(|other| difference(counts(base), counts(other), confidence))
                    .collect(),
            },
        }
    }

    /// The share of a version less that of the baseline.
    pub(super) fn difference(&self, version: usize) -> Option<Estimate> {
        self.differences.get(version.checked_sub(1)?).copied()
    }

    /// Which fails more, as it is said of a version beside the baseline.
    pub(super) fn outcome_words(&self, version: usize) -> &'static str {
        match (self.fails_more(version), self.fails_less(version)) {
            (true, _) => "more",
            (_, true) => "less",
            _ => "no evidence",
        }
    }

    /// Whether a version is proven to fail more than the baseline.
    pub(super) fn fails_more(&self, version: usize) -> bool {
        let low = self.difference(version).and_then(|found| found.low);
        low.is_some_and(|low| low > 0.0)
    }

    fn fails_less(&self, version: usize) -> bool {
        let high = self.difference(version).and_then(|found| found.high);
        high.is_some_and(|high| high < 0.0)
    }

    /// The comparison with failures as what they are: without end where a quantile reaches them, and no reason to win.
    pub(super) fn applied(&self, mut comparison: Comparison) -> Comparison {
        if let Some(quantile) = quantile(comparison.metric)
            && let (Some(base), Some(other)) = (
                self.endless.first(),
                self.endless
                    .get(comparison.version)
                    .filter(|_| comparison.version > 0),
            )
        {
            let ends = (ends(*base, quantile), ends(*other, quantile));
            if ends != (Some(true), Some(true)) {
                let (factor, outcome) = match ends {
                    (Some(true), Some(false)) => (Some(f64::INFINITY), Outcome::Slower),
                    (Some(false), Some(true)) => (Some(0.0), Outcome::Faster),
                    _ => (None, Outcome::NoEvidence),
                };
                let point = factor.unwrap_or(comparison.ratio.estimate.point);
                comparison.ratio.estimate = Estimate {
                    point,
                    low: factor,
                    high: factor,
                };
                comparison.ratio.detectable = None;
                comparison.ratio.bootstrap = None;
                comparison.outcome = outcome;
            }
        }
        comparison.outcome = match comparison.outcome {
            Outcome::Faster if self.fails_more(comparison.version) => Outcome::FailsMore,
            Outcome::Slower if self.fails_less(comparison.version) => Outcome::FailsMore,
            outcome => outcome,
        };
        comparison
    }
}

fn quantile(metric: Metric) -> Option<f64> {
    match metric {
        Metric::P50 => Some(0.5),
        Metric::P90 => Some(0.9),
        Metric::P99 => Some(0.99),
        Metric::Throughput | Metric::Mean | Metric::Cpu => None,
    }
}

/// Whether the quantile is one of answers, or surely not; none where the failures may reach it or not.
fn ends(failures: Estimate, quantile: f64) -> Option<bool> {
    let beyond = 1.0 - quantile;
    match (failures.low, failures.high) {
        // Without any failure there is nothing that it could reach.
        _ if failures.point <= 0.0 => Some(true),
        (_, Some(high)) if high < beyond => Some(true),
        (Some(low), _) if low > beyond => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::bench::sample;
    use crate::load::Summary;

    /// Made once: a sample has tens of thousands of latencies.
    static SAMPLE: LazyLock<Figures> = LazyLock::new(|| {
        let mut figures = sample::report().levels[0].figures.remove(0);
        figures.latencies = Summary::new();
        figures
    });

    fn figures(failures: u64, sent: u64) -> Figures {
        let mut figures = SAMPLE.clone();
        (figures.failures, figures.sent) = (failures, sent);
        let answers = sent.saturating_sub(failures);
        figures
            .latencies
            .record_latencies(Duration::from_millis(1), answers);
        for _ in 0..failures {
            figures.latencies.record_endless();
        }
        figures
    }

    fn failures(base: (u64, u64), other: (u64, u64)) -> Failures {
        Failures::of(&[figures(base.0, base.1), figures(other.0, other.1)])
    }

    fn applied(failures: &Failures, metric: Metric, outcome: Outcome) -> (Outcome, Option<f64>) {
        let found = failures.applied(sample::comparison(metric, [0.5, 0.4, 0.6], outcome));
        (found.outcome, found.ratio.estimate.low)
    }

    #[test]
    fn a_version_that_fails_more_wins_by_no_metric() {
        let more = failures((0, 10_000), (50, 10_000));
        for metric in [Metric::Throughput, Metric::Mean, Metric::P50, Metric::P99] {
            let found = applied(&more, metric, Outcome::Faster);
            assert_eq!(found, (Outcome::FailsMore, Some(0.4)));
            assert_eq!(applied(&more, metric, Outcome::Slower).0, Outcome::Slower);
        }
        let less = failures((50, 10_000), (0, 10_000));
        for metric in [Metric::Throughput, Metric::P99] {
            assert_eq!(
                applied(&less, metric, Outcome::Slower).0,
                Outcome::FailsMore
            );
            assert_eq!(applied(&less, metric, Outcome::Faster).0, Outcome::Faster);
        }
    }

    #[test]
    fn failures_that_are_not_proven_to_be_more_change_nothing() {
        let alike = failures((1, 10_000), (3, 10_000));
        let found = applied(&alike, Metric::P99, Outcome::Faster);
        assert_eq!(found, (Outcome::Faster, Some(0.4)));
        let one = Failures::of(&[figures(3, 10)]);
        assert_eq!(one.differences, []);
        assert_eq!(
            applied(&one, Metric::P99, Outcome::Faster).0,
            Outcome::Faster
        );
    }

    #[test]
    fn a_quantile_that_failures_reach_is_without_end() {
        let found = failures((0, 10_000), (300, 10_000));
        assert_eq!(
            applied(&found, Metric::P99, Outcome::Faster),
            (Outcome::Slower, Some(f64::INFINITY))
        );
        assert_eq!(
            applied(&found, Metric::P90, Outcome::Faster).0,
            Outcome::FailsMore
        );
        let swapped = failures((300, 10_000), (0, 10_000));
        assert_eq!(
            applied(&swapped, Metric::P99, Outcome::Slower),
            (Outcome::Faster, Some(0.0))
        );
        // Both, or perhaps.
        for (base, other) in [((300, 10_000), (300, 10_000)), ((1, 100), (1, 100))] {
            let found = failures(base, other);
            let unknown = (Outcome::NoEvidence, None);
            assert_eq!(applied(&found, Metric::P99, Outcome::Faster), unknown);
        }
    }

    #[test]
    fn failures_that_do_not_count_reach_no_quantile_and_are_no_reason_to_win() {
        // All in what is left out of a block.
        let mut other = figures(0, 10_000);
        (other.failures, other.sent) = (2_500, 12_500);
        let found = Failures::of(&[figures(0, 10_000), other]);
        let expected = (Outcome::FailsMore, Some(0.4));
        assert_eq!(applied(&found, Metric::P99, Outcome::Faster), expected);
    }

    proptest! {
        #[test]
        fn swapping_the_roles_mirrors_the_outcome(
            base in (0_u64..400, 400_u64..20_000),
            other in (0_u64..400, 400_u64..20_000),
            metric in prop::sample::select(vec![Metric::Throughput, Metric::P50, Metric::P90, Metric::P99]),
            is_faster: bool,
        ) {
            let (outcome, mirrored) = match is_faster {
                true => (Outcome::Faster, Outcome::Slower),
                false => (Outcome::Slower, Outcome::Faster),
            };
            let found = applied(&failures(base, other), metric, outcome).0;
            let swapped = applied(&failures(other, base), metric, mirrored).0;
            let expected = match found {
                Outcome::Faster => Outcome::Slower,
                Outcome::Slower => Outcome::Faster,
                same => same,
            };
            prop_assert_eq!(swapped, expected);
        }
    }
}

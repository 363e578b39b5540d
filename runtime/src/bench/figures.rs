//! From blocks to figures and comparisons. Pure.

use std::time::Duration;

use crate::bench::report::{Block, Comparison, Figures, Metric, Outcome, Phase, Scenario};
use crate::bench::samples::SavedBlock;
use crate::bench::seen::Measured;
use crate::evidence::{Estimate, Part, Ratio, Recorded, pooled, pooled_ratio, quantile_ratio};
use crate::load::Summary;

/// Of every interval, and of those of all versions together where several are compared with one baseline.
pub(super) const CONFIDENCE: f64 = 0.95;

/// The confidence of each interval where so many versions are measured: each of those that are compared with the baseline has an equal
/// part of the error (Bonferroni), so that with 95 % confidence no interval of a metric misses, whichever one looks at. Holm's steps find
/// a little more, but have no intervals that hold together, and here every table, gate and sentence is one of an interval.
pub(super) fn confidence_of(versions: usize) -> f64 {
    1.0 - (1.0 - CONFIDENCE) / versions.saturating_sub(1).max(1) as f64
}

/// A block with all that was seen of it.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) block: Block,
    pub(super) measured: Measured,
    /// The latencies, for what is compared by a percentile.
    recorded: Recorded,
}

impl AsRef<Self> for Block {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsRef<Block> for Done {
    fn as_ref(&self) -> &Block {
        &self.block
    }
}

impl Scenario {
    /// The metric that is compared first.
    #[must_use]
    pub fn primary(self) -> Metric {
        match self {
            Self::Closed | Self::Offline => Metric::Throughput,
            Self::SingleStream => Metric::P90,
            Self::Constant | Self::MultiStream | Self::Server => Metric::P99,
        }
    }

    /// All that is compared, the first one first. Throughput is given where the rate is.
    pub(super) fn metrics(self) -> Vec<Metric> {
        let all = [
            Metric::Throughput,
            Metric::P50,
            Metric::P90,
            Metric::P99,
            Metric::Mean,
            Metric::Cpu,
        ];
        let primary = self.primary();
        let is_given =
            |metric| metric == Metric::Throughput && matches!(self, Self::Constant | Self::Server);
        let others = all
            .into_iter()
            .filter(|metric| *metric != primary && !is_given(*metric));
        std::iter::once(primary).chain(others).collect()
    }
}

impl Metric {
    /// Whether a ratio below 1 is the better one.
    #[must_use]
    pub fn less_is_better(self) -> bool {
        self != Self::Throughput
    }

    /// The value of a block; none where the processor time is not known.
    pub(super) fn of(self, block: &Block) -> Option<f64> {
        Some(match self {
            Self::Throughput => block.throughput_per_s,
            Self::Mean => block.mean_ms,
            Self::P50 => block.p50_ms,
            Self::P90 => block.p90_ms,
            Self::P99 => block.p99_ms,
            Self::Cpu => block.cpu_s? / block.answers as f64,
        })
    }
}

impl Done {
    pub(super) fn new(
        (phase, pair): (Phase, u32),
        version: usize,
        start: Duration,
        measured: Measured,
    ) -> Self {
        let seen = &measured.seen;
        let elapsed_s = measured.elapsed.as_secs_f64();
        // Processor time was spent for the answers after the end of the block too.
        let counted = seen.answers as f64 / seen.served.max(1) as f64;
        let block = Block {
            phase,
            pair,
            version,
            start_s: start.as_secs_f64(),
            elapsed_s,
            answers: seen.answers,
            failures: seen.failures,
            throughput_per_s: match (answers_in_time(&measured), elapsed_s) {
                (_, 0.0) => 0.0,
                (answers, elapsed_s) => answers / elapsed_s,
            },
            mean_ms: ms(seen.latencies.mean()),
            p50_ms: ms(seen.latencies.p50()),
            p90_ms: ms(seen.latencies.p90()),
            p99_ms: ms(seen.latencies.p99()),
            cpu_s: measured.cpu.map(|cpu| cpu.as_secs_f64() * counted),
            slip_p99_ms: (seen.slips.max() > Duration::ZERO).then(|| ms(seen.slips.p99())),
        };
        let endless = seen.latencies.count() - seen.latencies.ended();
        let recorded = Recorded::new(seen.latencies.counts(), endless);
        Self {
            block,
            measured,
            recorded,
        }
    }

    /// The part of a metric that is no percentile: the sums of all blocks, divided, are the version's value. None where the processor
    /// time is not known.
    fn part(&self, metric: Metric) -> Option<Part> {
        let measured = &self.measured;
        let latencies = &measured.seen.latencies;
        let ended = latencies.ended() as f64;
        let (amount, per) = match metric {
            Metric::Throughput => (answers_in_time(measured), measured.elapsed.as_secs_f64()),
            Metric::Cpu => (self.block.cpu_s?, self.block.answers as f64),
            Metric::Mean | Metric::P50 | Metric::P90 | Metric::P99 => {
                (latencies.mean().as_secs_f64() * ended, ended)
            }
        };
        Some(Part { amount, per })
    }

    /// All that later runs may be compared with.
    pub(super) fn saved(&self) -> SavedBlock {
        let seen = &self.measured.seen;
        let latencies = &seen.latencies;
        SavedBlock {
            answers: answers_in_time(&self.measured),
            elapsed_s: self.measured.elapsed.as_secs_f64(),
            cpu_s: self.block.cpu_s,
            cpu_answers: seen.answers,
            sent: seen.sent(),
            failures: seen.failed,
            latencies_ns: latencies.counts().collect(),
            endless: latencies.count() - latencies.ended(),
        }
    }

    /// Whether all that was asked of the version in this block failed.
    fn has_failed(&self) -> bool {
        let latencies = &self.measured.seen.latencies;
        latencies.count() > 0 && latencies.ended() == 0
    }
}

/// Answers in the time that counts: in an open loop those that came in it.
fn answers_in_time(measured: &Measured) -> f64 {
    let seen = &measured.seen;
    seen.open.map_or(seen.answers, |open| open.answers) as f64
}

/// One version by itself: its blocks together.
pub(super) fn figures(blocks: &[&Done], stages: Option<(Duration, Duration)>) -> Figures {
    let mut latencies = Summary::new();
    let (mut sent, mut failures, mut refused, mut answers) = (0, 0, 0, 0);
    let mut peak_rss_mb: Option<f64> = None;
    for Done { measured, .. } in blocks {
        latencies.add(&measured.seen.latencies);
        sent += measured.seen.sent();
        failures += measured.seen.failed;
        refused += measured.seen.full;
        answers += measured.seen.answers;
        peak_rss_mb = peak_rss_mb
            .into_iter()
            .chain(measured.peak_rss_mb)
            .reduce(f64::max);
    }
    let throughputs: Vec<_> = blocks
        .iter()
        .filter_map(|done| done.part(Metric::Throughput))
        .collect();
    let cpu_s: Option<f64> = blocks.iter().map(|done| done.block.cpu_s).sum();
    let cpu_s = cpu_s.filter(|_| answers > 0);
    Figures {
        requests: latencies.count(),
        sent,
        failures,
        refused,
        throughput_per_s: pooled(&throughputs, CONFIDENCE),
        mean_ms: ms(latencies.mean()),
        p50_ms: ms(latencies.p50()),
        p90_ms: ms(latencies.p90()),
        p95_ms: ms(latencies.quantile(0.95)),
        p99_ms: ms(latencies.p99()),
        p999_ms: ms(latencies.quantile(0.999)),
        max_ms: ms(latencies.max()),
        cpu_s_per_1000: cpu_s.map(|cpu_s| cpu_s * 1000.0 / answers as f64),
        peak_rss_mb,
        queue_ms: stages.map(|(queue, _)| ms(queue)),
        compute_ms: stages.map(|(_, run)| ms(run)),
        latencies,
    }
}

/// The blocks of the baseline with itself, two and two in order.
pub(super) fn noise_pairs<'a, B: AsRef<Block>>(
    blocks: impl IntoIterator<Item = &'a B>,
) -> Vec<(&'a B, &'a B)> {
    let is_noise = |block: &&B| block.as_ref().phase == Phase::Noise;
    let blocks: Vec<_> = blocks.into_iter().filter(is_noise).collect();
    let pairs = blocks.chunks_exact(2);
    pairs.map(|both| (both[0], both[1])).collect()
}

/// The pairs of a version with the baseline, in order: of each round the baseline's block and its own. One version alone has blocks and
/// no pairs.
pub(super) fn pairs<'a, B: AsRef<Block>>(
    blocks: impl IntoIterator<Item = &'a B>,
    version: usize,
) -> Vec<(&'a B, &'a B)> {
    let counts = |block: &&B| block.as_ref().phase == Phase::Pair;
    let blocks: Vec<_> = blocks.into_iter().filter(counts).collect();
    // A round counts whole or not at all, so that its blocks stand together.
    let rounds = blocks.chunk_by(|one, two| one.as_ref().pair == two.as_ref().pair);
    let of = |round: &[&'a B], version: usize| {
        let found = round.iter().find(|block| block.as_ref().version == version);
        found.copied()
    };
    rounds
        .filter(|_| version > 0)
        .filter_map(|round| Some((of(round, 0)?, of(round, version)?)))
        .collect()
}

/// The ratio of a metric over whole pairs: that of all second blocks by that of all first. It is the quotient of what is shown of each.
/// Without an interval where a version failed in all of a block: the other pairs would speak for it.
pub(super) fn ratio(
    pairs: &[(&Done, &Done)],
    metric: Metric,
    confidence: f64,
    seed: u64,
) -> Option<Ratio> {
    let found = ratio_of_all(pairs, metric, confidence, seed);
    let mut blocks = pairs.iter().flat_map(|(base, other)| [*base, *other]);
    if pairs.len() < 2 || !blocks.any(Done::has_failed) {
        return found;
    }
    Some(Ratio {
        estimate: Estimate {
            point: found
                .as_ref()
                .map_or(f64::NAN, |ratio| ratio.estimate.point),
            low: None,
            high: None,
        },
        pairs: found.map_or(0, |ratio| ratio.pairs),
        confidence,
        detectable: None,
        bootstrap: None,
    })
}

fn ratio_of_all(
    pairs: &[(&Done, &Done)],
    metric: Metric,
    confidence: f64,
    seed: u64,
) -> Option<Ratio> {
    let by_quantile = |quantile| {
        let blocks: Vec<_> = pairs
            .iter()
            .map(|(base, other)| [&base.recorded, &other.recorded])
            .collect();
        quantile_ratio(&blocks, quantile, confidence, seed)
    };
    match metric {
        Metric::P50 => by_quantile(0.5),
        Metric::P90 => by_quantile(0.9),
        Metric::P99 => by_quantile(0.99),
        Metric::Throughput | Metric::Mean | Metric::Cpu => {
            let parts: Option<Vec<_>> = pairs
                .iter()
                .map(|(base, other)| Some([base.part(metric)?, other.part(metric)?]))
                .collect();
            pooled_ratio(&parts?, confidence, seed)
        }
    }
}

/// The outcome that an interval of a ratio stands for.
pub(super) fn outcome(metric: Metric, ratio: Estimate) -> Outcome {
    let (above, below) = match metric.less_is_better() {
        true => (Outcome::Slower, Outcome::Faster),
        false => (Outcome::Faster, Outcome::Slower),
    };
    match (ratio.low, ratio.high) {
        (Some(low), _) if low > 1.0 => above,
        (_, Some(high)) if high < 1.0 => below,
        _ => Outcome::NoEvidence,
    }
}

/// One metric of a version and the baseline; which version, the caller says.
pub(super) fn comparison(
    pairs: &[(&Done, &Done)],
    metric: Metric,
    confidence: f64,
    seed: u64,
) -> Option<Comparison> {
    let ratio = ratio(pairs, metric, confidence, seed)?;
    Some(Comparison {
        version: 1,
        metric,
        outcome: outcome(metric, ratio.estimate),
        ratio,
        same_within: None,
    })
}

/// Whether two versions are proven to differ by less than a difference, in either direction: two one-sided tests at 5 % each, which is an
/// interval of 90 % within both bounds (D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach",
/// 1987). Both must hold, so that the error of saying "the same" wrongly is 5 % and not twice that. The bounds mirror each other, so
/// that swapping the versions swaps nothing. Where several are compared with one baseline, each has its part of the error:
/// `confidence` is that of [`confidence_of`].
pub(super) fn is_same(
    pairs: &[(&Done, &Done)],
    metric: Metric,
    difference: f64,
    (confidence, seed): (f64, u64),
) -> bool {
    let error = 1.0 - confidence;
    let found = ratio(pairs, metric, 1.0 - 2.0 * error, seed);
    found.is_some_and(|ratio| is_within(ratio.estimate, difference))
}

fn is_within(estimate: Estimate, difference: f64) -> bool {
    let most = 1.0 + difference;
    let ends = estimate.low.zip(estimate.high);
    ends.is_some_and(|(low, high)| low > most.recip() && high < most)
}

/// What never ends is infinite.
fn ms(duration: Duration) -> f64 {
    match duration {
        Duration::MAX => f64::INFINITY,
        duration => duration.as_secs_f64() * 1e3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bench::seen::Seen;
    use crate::evidence::SplitMix64;
    use crate::evidence::gaussian;

    /// A block of a closed loop with these latencies, in microseconds.
    fn done(version: usize, latencies: &[u64]) -> Done {
        let mut seen = Seen::default();
        seen.answers = latencies.len() as u64;
        seen.served = 2 * latencies.len() as u64;
        for us in latencies {
            seen.latencies
                .record_latency(Duration::from_micros(*us), true);
        }
        let elapsed = Duration::from_micros(latencies.iter().sum());
        let measured = Measured {
            elapsed,
            took: elapsed,
            rate: None,
            seen,
            unsent: 0,
            cpu: Some(elapsed / 3),
            own_cpu: None,
            peak_rss_mb: None,
        };
        Done::new((Phase::Pair, 0), version, Duration::ZERO, measured)
    }

    /// A block that was refused everything.
    fn failed(version: usize) -> Done {
        let mut measured = done(version, &[]).measured;
        measured.elapsed = Duration::from_millis(100);
        (measured.seen.failures, measured.seen.failed) = (9, 9);
        for _ in 0..9 {
            measured.seen.latencies.record_endless();
        }
        Done::new((Phase::Pair, 0), version, Duration::ZERO, measured)
    }

    #[test]
    fn a_metric_of_a_version_that_failed_in_some_pair_has_no_interval_either_way() {
        let steady: Vec<_> = (900..909).map(|us| done(0, &[us; 20])).collect();
        let mut other: Vec<_> = (400..409).map(|us| done(1, &[us; 20])).collect();
        let bounds = |other: &[Done], is_swapped: bool, metric| {
            let both = steady.iter().zip(other);
            let both = both.map(|(one, two)| if is_swapped { (two, one) } else { (one, two) });
            let pairs: Vec<_> = both.collect();
            let found = comparison(&pairs, metric, CONFIDENCE, 1).unwrap();
            (found.ratio.estimate.low, found.outcome)
        };
        for metric in Scenario::Closed.metrics() {
            let (low, outcome) = bounds(&other, false, metric);
            assert!(
                low.is_some() && outcome != Outcome::NoEvidence,
                "{metric:?}"
            );
        }
        other[4] = failed(1);
        for metric in Scenario::Closed.metrics() {
            for is_swapped in [false, true] {
                let found = bounds(&other, is_swapped, metric);
                assert_eq!(found, (None, Outcome::NoEvidence), "{metric:?}");
            }
        }
        // In all of them.
        let never: Vec<_> = steady.iter().map(|_| failed(1)).collect();
        for metric in Scenario::Closed.metrics() {
            assert_eq!(bounds(&never, false, metric), (None, Outcome::NoEvidence));
        }
    }

    /// The value of a version that is shown.
    fn shown(figures: &Figures, metric: Metric) -> f64 {
        match metric {
            Metric::Throughput => figures.throughput_per_s.point,
            Metric::Mean => figures.mean_ms,
            Metric::P50 => figures.p50_ms,
            Metric::P90 => figures.p90_ms,
            Metric::P99 => figures.p99_ms,
            Metric::Cpu => figures.cpu_s_per_1000.unwrap(),
        }
    }

    proptest! {
        // Each case resamples; more would cost the tests minutes.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_compared_is_the_quotient_of_what_is_shown(
            blocks in prop::collection::vec(
                (
                    prop::collection::vec(50_u64..2_000_000, 1..150),
                    prop::collection::vec(50_u64..2_000_000, 1..150),
                ),
                2..12,
            ),
        ) {
            let both: Vec<_> = blocks.iter().map(|(base, other)| (done(0, base), done(1, other))).collect();
            let of = |pick: fn(&(Done, Done)) -> &Done| {
                figures(&both.iter().map(pick).collect::<Vec<_>>(), None)
            };
            let (base, other) = (of(|both| &both.0), of(|both| &both.1));
            let pairs: Vec<_> = both.iter().map(|both| (&both.0, &both.1)).collect();
            for metric in Scenario::Closed.metrics() {
                let found = ratio(&pairs, metric, CONFIDENCE, 1).unwrap().estimate.point;
                let expected = shown(&other, metric) / shown(&base, metric);
                prop_assert!((found / expected - 1.0).abs() < 1e-4, "{metric:?}: {found} {expected}");
            }
        }

        #[test]
        fn swapping_the_versions_mirrors_every_outcome(
            blocks in prop::collection::vec(
                (
                    prop::collection::vec(500_u64..1_000, 20),
                    prop::collection::vec(550_u64..1_200, 20),
                ),
                3..8,
            ),
        ) {
            let both: Vec<_> = blocks.iter().map(|(base, other)| (done(0, base), done(1, other))).collect();
            let pairs: Vec<_> = both.iter().map(|both| (&both.0, &both.1)).collect();
            let swapped: Vec<_> = pairs.iter().map(|(base, other)| (*other, *base)).collect();
            for metric in Scenario::Closed.metrics() {
                let found = |pairs: &[_]| comparison(pairs, metric, CONFIDENCE, 1).unwrap().outcome;
                let mirrored = match found(&swapped) {
                    Outcome::Faster => Outcome::Slower,
                    Outcome::Slower => Outcome::Faster,
                    other => other,
                };
                prop_assert_eq!(found(&pairs), mirrored, "{:?}", metric);
            }
        }
    }

    /// In how many of the runs some version of four alike is named a winner, when the intervals have this confidence.
    fn runs_with_a_winner(runs: u64, confidence: f64) -> usize {
        let mut random = SplitMix64::new(11);
        let mut block = || Part {
            amount: 1000.0 * (1.0 + 0.02 * gaussian(&mut random)),
            per: 1.0,
        };
        let mut is_won = || {
            let rounds: Vec<[Part; 4]> = (0..12).map(|_| [(); 4].map(|()| block())).collect();
            (1..4).any(|version| {
                let pairs: Vec<_> = rounds.iter().map(|all| [all[0], all[version]]).collect();
                let found = pooled_ratio(&pairs, confidence, 1).unwrap();
                outcome(Metric::Throughput, found.estimate) != Outcome::NoEvidence
            })
        };
        (0..runs).filter(|_| is_won()).count()
    }

    #[test]
    fn of_three_versions_like_the_baseline_one_is_named_in_one_run_of_twenty_at_most() {
        // Three standard deviations of 7 beside 50.
        let together = runs_with_a_winner(1000, confidence_of(4));
        assert!(together <= 71, "{together}");
        // With 95 % each it would be one run of eight or so.
        let alone = runs_with_a_winner(1000, CONFIDENCE);
        assert!(alone > 90, "{alone}");
    }

    #[test]
    fn versions_are_the_same_when_the_whole_interval_is_nearer_than_the_difference() {
        let estimate = |low, high| Estimate {
            point: 1.0,
            low: Some(low),
            high: Some(high),
        };
        assert!(is_within(estimate(0.995, 1.005), 0.01));
        for (low, high) in [(0.995, 1.01), (0.99, 1.005), (0.5, 2.0), (1.02, 1.03)] {
            assert!(!is_within(estimate(low, high), 0.01), "{low} {high}");
        }
        // Where there is no interval nothing is proven.
        let mut unknown = estimate(1.0, 1.0);
        unknown.high = None;
        assert!(!is_within(unknown, 0.5));
    }
}

//! Percentiles of two versions, over all blocks of each. Pure.
//!
//! A percentile is of all requests together, where it is shown and where it is compared. Instead of: a mean of the blocks' own
//! percentiles, which of a block of a hundred requests is its slowest, and is a number of the length of blocks. A request that failed is
//! beyond every latency, so that a percentile that it reaches has no end, and no interval.

use crate::evidence::stats::{BOOTSTRAP_PAIRS_MIN, LogEstimate, Ratio, ends, resampled};

/// The latencies of one block, counted, in any unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// Rising.
    values: Vec<u64>,
    /// Requests up to each value.
    up_to: Vec<u64>,
    /// Requests beyond every latency.
    endless: u64,
}

impl Recorded {
    /// The latencies with how often each came, by rising latency, and the number of requests that had none.
    #[must_use]
    pub fn new(counts: impl IntoIterator<Item = (u64, u64)>, endless: u64) -> Self {
        let mut recorded = Self {
            endless,
            ..Self::default()
        };
        let mut all = 0;
        for (value, count) in counts {
            all += count;
            recorded.values.push(value);
            recorded.up_to.push(all);
        }
        recorded
    }

    /// All requests.
    fn count(&self) -> u64 {
        self.up_to.last().copied().unwrap_or(0) + self.endless
    }

    fn count_up_to(&self, value: u64) -> u64 {
        match self.values.partition_point(|one| *one <= value) {
            0 => 0,
            after => self.up_to[after - 1],
        }
    }
}

/// Compares a percentile, `quantile` from 0 to 1, over pairs of blocks (baseline, other).
///
/// The interval is of the t distribution on the logarithm, with the spread of a bootstrap that draws whole pairs: requests of a block are
/// alike, so that to draw single ones would say too much. Pairs with a block without a request are left out; none with fewer than two
/// left. There is no interval where the percentile, or that of one resample, has no end.
#[must_use]
pub fn quantile_ratio(
    pairs: &[[&Recorded; 2]],
    quantile: f64,
    confidence: f64,
    seed: u64,
) -> Option<Ratio> {
    let (found, logs) = ratio_logs(pairs, quantile, seed)?;
    let is_enough = found.error.is_finite() && found.parts >= BOOTSTRAP_PAIRS_MIN;
    let bootstrap = is_enough.then(|| ends(logs, confidence));
    Some(Ratio::new(
        (found.centre, found.error),
        found.parts,
        confidence,
        bootstrap,
    ))
}

/// The logarithm of the ratio of [`quantile_ratio`], under the same conditions.
#[must_use]
pub fn quantile_ratio_log(
    pairs: &[[&Recorded; 2]],
    quantile: f64,
    seed: u64,
) -> Option<LogEstimate> {
    ratio_logs(pairs, quantile, seed).map(|(found, _)| found)
}

fn ratio_logs(
    pairs: &[[&Recorded; 2]],
    quantile: f64,
    seed: u64,
) -> Option<(LogEstimate, Vec<f64>)> {
    let pairs: Vec<_> = pairs
        .iter()
        .filter(|pair| pair.iter().all(|block| block.count() > 0))
        .collect();
    let of = |version: usize| Version::new(pairs.iter().map(|pair| pair[version]).collect());
    let (base, other) = (of(0), of(1));
    resampled_log(pairs.len(), seed, |drawn| {
        let times = times_drawn(drawn);
        other.log(&times, quantile) - base.log(&times, quantile)
    })
}

/// The logarithm of a percentile of one version, with the spread of a bootstrap that draws whole blocks; none with fewer than two.
#[must_use]
pub fn quantile_log(blocks: &[&Recorded], quantile: f64, seed: u64) -> Option<LogEstimate> {
    let blocks = blocks.iter().copied().filter(|block| block.count() > 0);
    let version = Version::new(blocks.collect());
    let found = resampled_log(version.blocks.len(), seed, |drawn| {
        version.log(&times_drawn(drawn), quantile)
    });
    found.map(|(found, _)| found)
}

/// A logarithm with its spread among resamples, which is infinite where one of them has no end; and they themselves.
fn resampled_log(
    parts: usize,
    seed: u64,
    log_of: impl Fn(&[usize]) -> f64,
) -> Option<(LogEstimate, Vec<f64>)> {
    if parts < 2 {
        return None;
    }
    let each_once: Vec<usize> = (0..parts).collect();
    let centre = log_of(&each_once);
    let logs = resampled(parts, seed, log_of);
    let has_end = centre.is_finite() && logs.iter().all(|log| log.is_finite());
    // The spread among resamples is that of a variance by n, not by n - 1.
    let count = parts as f64;
    let error = match has_end {
        true => spread(&logs) * (count / (count - 1.0)).sqrt(),
        false => f64::INFINITY,
    };
    let found = LogEstimate {
        centre,
        error,
        parts,
    };
    Some((found, logs))
}

/// Cells of a table of counts, at most: some 32 MB.
const CELLS_MAX: usize = 1 << 22;

/// The blocks of a version, with a table of how many requests of each take at most a latency: of every latency that came, or of every so many
/// where there are more than fit. A bootstrap asks a thousand times.
struct Version<'a> {
    blocks: Vec<&'a Recorded>,
    /// Every latency that came, rising.
    values: Vec<u64>,
    /// Latencies from one row of the table to the next.
    step: usize,
    /// Row by row, a count for each block.
    table: Vec<u64>,
}

impl<'a> Version<'a> {
    fn new(blocks: Vec<&'a Recorded>) -> Self {
        Self::with_table(blocks, CELLS_MAX)
    }

    fn with_table(blocks: Vec<&'a Recorded>, cells_max: usize) -> Self {
        let mut values: Vec<u64> = blocks
            .iter()
            .flat_map(|block| block.values.iter().copied())
            .collect();
        values.sort_unstable();
        values.dedup();
        let step = (values.len() * blocks.len()).div_ceil(cells_max).max(1);
        let row = |value: &u64| {
            blocks
                .iter()
                .map(|block| block.count_up_to(*value))
                .collect()
        };
        let rows = values.iter().step_by(step).map(row);
        let table = rows.collect::<Vec<Vec<u64>>>().concat();
        Self {
            blocks,
            values,
            step,
            table,
        }
    }

    /// The logarithm of the percentile, with each block counted so many times; infinite where it is one of no latency.
    fn log(&self, times: &[u64], quantile: f64) -> f64 {
        let all = self.blocks.iter().zip(times);
        let all: u64 = all.map(|(block, times)| block.count() * times).sum();
        let rank = quantile * all as f64;
        let width = self.blocks.len();
        let is_below = |row: usize| {
            let counts = &self.table[row * width..][..width];
            let up_to: u64 = counts.iter().zip(times).map(|(one, two)| one * two).sum();
            (up_to as f64) < rank
        };
        let (mut row, mut end) = (0, self.values.len().div_ceil(self.step));
        while row < end {
            let middle = usize::midpoint(row, end);
            match is_below(middle) {
                true => row = middle + 1,
                false => end = middle,
            }
        }
        // It lies after the row before, and at this one at the latest.
        let from = (row * self.step).saturating_sub(self.step - 1);
        let until = (row * self.step + 1).min(self.values.len());
        let below = |value: &u64| {
            let all = self.blocks.iter().zip(times);
            let up_to: u64 = all
                .map(|(block, times)| block.count_up_to(*value) * times)
                .sum();
            (up_to as f64) < rank
        };
        let found = match self.step {
            1 => row,
            _ => from.min(until) + self.values[from.min(until)..until].partition_point(below),
        };
        // No request takes no time, whatever a clock says.
        let log = |value: &u64| ((*value).max(1) as f64).ln();
        self.values.get(found).map_or(f64::INFINITY, log)
    }
}

/// How often each was drawn.
fn times_drawn(drawn: &[usize]) -> Vec<u64> {
    let mut times = vec![0; drawn.len()];
    for pair in drawn {
        times[*pair] += 1;
    }
    times
}

/// The standard deviation.
fn spread(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let centre = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (squares / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::SplitMix64;
    use crate::evidence::stats::{Estimate, gaussian};

    fn recorded(mut values: Vec<u64>) -> Recorded {
        values.sort_unstable();
        Recorded::new(values.into_iter().map(|value| (value, 1)), 0)
    }

    /// A block of equal latencies and of failures.
    fn failing(latency: u64, answers: u64, failures: u64) -> Recorded {
        Recorded::new((answers > 0).then_some((latency, answers)), failures)
    }

    /// Exponential latencies of mean 10,000 in a block that is as a whole slower or faster, by 5 %.
    fn block(requests: usize, scale: f64, random: &mut SplitMix64) -> Recorded {
        let mean = 1e4 * scale * (1.0 + 0.05 * gaussian(random));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "latencies are small and not negative"
        )]
        let one = |_| (-mean * random.unit().ln()) as u64;
        recorded((0..requests).map(one).collect())
    }

    fn compared(pairs: &[[Recorded; 2]], quantile: f64) -> Option<Ratio> {
        let pairs: Vec<_> = pairs.iter().map(|[base, other]| [base, other]).collect();
        quantile_ratio(&pairs, quantile, 0.95, 3)
    }

    fn is_winner(ratio: &Ratio) -> bool {
        let Estimate { low, high, .. } = ratio.estimate;
        low.is_some_and(|low| low > 1.0) || high.is_some_and(|high| high < 1.0)
    }

    #[test]
    fn a_percentile_is_of_all_blocks_together_and_not_of_each() {
        // The tail is in one block: a mean of the blocks' medians would be 200, and a mean of their slowest 2,000.
        let base = [vec![100; 99], vec![100; 100], vec![300; 1]].map(recorded);
        let other = [vec![200; 99], vec![200; 100], vec![900; 1]].map(recorded);
        let pairs: Vec<_> = base.into_iter().zip(other).map(Into::into).collect();
        let point = |quantile| compared(&pairs, quantile).unwrap().estimate.point;
        assert!((point(0.5) - 2.0).abs() < 1e-9);
        assert!((point(0.99) - 2.0).abs() < 1e-9);
        assert!((point(1.0) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_that_leaves_latencies_out_finds_the_same() {
        let mut random = SplitMix64::new(6);
        let blocks: Vec<_> = (0..7).map(|_| block(80, 1.0, &mut random)).collect();
        let of = |cells| Version::with_table(blocks.iter().collect(), cells);
        let whole = of(CELLS_MAX);
        let times: Vec<u64> = vec![1, 0, 2, 3, 0, 1, 0];
        for cells in [1, 7, 8, 40, 700, 3000] {
            let some = of(cells);
            for quantile in [0.0, 0.01, 0.3, 0.5, 0.9, 0.99, 1.0] {
                let (one, two) = (whole.log(&times, quantile), some.log(&times, quantile));
                assert!((one - two).abs() < 1e-12, "{cells} {quantile}: {one} {two}");
            }
        }
        assert_eq!(whole.step, 1);
        // Against a list of all, each as often as its block.
        let mut all: Vec<u64> = Vec::new();
        for (block, times) in blocks.iter().zip(&times) {
            for _ in 0..*times {
                all.extend(&block.values);
            }
        }
        all.sort_unstable();
        assert!((whole.log(&times, 0.5) - (all[all.len() / 2 - 1] as f64).ln()).abs() < 1e-12);
    }

    #[test]
    fn swapping_the_versions_inverts_the_ratio_and_a_seed_repeats_it() {
        let mut random = SplitMix64::new(1);
        let pairs: Vec<_> = (0..12)
            .map(|_| [block(60, 1.0, &mut random), block(90, 1.2, &mut random)])
            .collect();
        let swapped: Vec<_> = pairs
            .iter()
            .map(|[base, other]| [other.clone(), base.clone()])
            .collect();
        let (one, two) = (
            compared(&pairs, 0.9).unwrap(),
            compared(&swapped, 0.9).unwrap(),
        );
        assert_eq!(one, compared(&pairs, 0.9).unwrap());
        let inverse = |value: Option<f64>, other: Option<f64>| {
            (value.unwrap() * other.unwrap() - 1.0).abs() < 1e-9
        };
        assert!(inverse(one.estimate.low, two.estimate.high));
        assert!(inverse(one.estimate.high, two.estimate.low));
    }

    #[test]
    fn blocks_without_a_request_are_left_out() {
        let some = || recorded(vec![5, 6]);
        let none = Recorded::default;
        let pairs = [[some(), some()], [some(), none()], [none(), some()]];
        assert_eq!(compared(&pairs, 0.5), None);
        let pairs = [[some(), some()], [some(), none()], [some(), some()]];
        assert_eq!(compared(&pairs, 0.5).unwrap().pairs, 2);
    }

    #[test]
    fn a_percentile_that_failures_reach_has_no_end_and_no_interval() {
        let of = |failures| [failing(100, 100, 0), failing(50, 100 - failures, failures)];
        let pairs: Vec<_> = (0..40).map(|_| of(2)).collect();
        let p98 = compared(&pairs, 0.98).unwrap();
        assert!((p98.estimate.high.unwrap() - 0.5).abs() < 1e-9);
        let p99 = compared(&pairs, 0.99).unwrap();
        let Estimate { point, low, high } = p99.estimate;
        assert_eq!((point, low, high), (f64::INFINITY, None, None));
        assert_eq!((p99.bootstrap, p99.detectable), (None, None));
        // The failures of one block of many: the percentile has an end, and with that block drawn often it has none.
        let pairs: Vec<_> = (0..40)
            .map(|pair| of(if pair == 7 { 38 } else { 0 }))
            .collect();
        let p99 = compared(&pairs, 0.99).unwrap();
        assert!((p99.estimate.point - 0.5).abs() < 1e-9);
        assert_eq!((p99.estimate.low, p99.estimate.high), (None, None));
        // Nothing but failures.
        let pairs = [of(100), of(100)];
        assert_eq!(compared(&pairs, 0.5).unwrap().estimate.high, None);
    }

    #[test]
    fn equal_versions_have_a_winner_by_a_percentile_in_one_run_of_twenty() {
        let mut random = SplitMix64::new(2);
        for (pairs, requests, quantile) in
            [(5, 60, 0.5), (8, 25, 0.9), (8, 25, 0.99), (15, 40, 0.99)]
        {
            let runs = 200;
            let winners = (0..runs).filter(|_| {
                let pairs: Vec<_> = (0..pairs)
                    .map(|_| [(); 2].map(|()| block(requests, 1.0, &mut random)))
                    .collect();
                is_winner(&compared(&pairs, quantile).unwrap())
            });
            // 5 %, and three standard deviations of 3.1 runs.
            let winners = winners.count();
            assert!(
                winners <= 19,
                "{winners} of {runs} by {quantile} with {pairs} pairs of {requests}"
            );
        }
    }

    #[test]
    fn a_tail_that_is_half_as_long_again_is_found() {
        let mut random = SplitMix64::new(4);
        let found = (0..20).filter(|_| {
            let pairs: Vec<_> = (0..15)
                .map(|_| [block(200, 1.0, &mut random), block(200, 1.5, &mut random)])
                .collect();
            let ratio = compared(&pairs, 0.99).unwrap();
            ratio.estimate.low.unwrap() > 1.0
        });
        let found = found.count();
        assert!(found >= 18, "{found} of 20");
    }
}

//! Histograms, of durations and of rows, that are recorded to without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets, in microseconds: three for each power of ten (1, 2, 5), so that a quantile read from them is
/// at most a factor of 2.5 off. The smallest models answer in some 50 us; no request may take longer than 180 s.
const BOUNDS_US: [u64; 21] = [
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    180_000_000,
];

/// Durations by bucket. Clones record to the same buckets.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// One for each bound, and one for what is longer than all.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Durations {
    pub(super) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn counts(&self) -> Vec<u64> {
        let counts = self.0.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The duration that a share `quantile` (0 to 1) of the recorded ones do not pass, on a straight line through its bucket.
    pub(super) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = quantile * to_f64(total);
        let mut below = 0.0;
        let mut lower_us = 0;
        for (count, upper_us) in counts.iter().zip(BOUNDS_US) {
            let count = to_f64(*count);
            if count > 0.0 && below + count >= rank {
                let share = (rank - below) / count;
                let width = Duration::from_micros(upper_us - lower_us);
                return Some(
                    Duration::from_micros(lower_us) + width.mul_f64(share.clamp(0.0, 1.0)),
                );
            }
            below += count;
            lower_us = upper_us;
        }
        Some(Duration::from_micros(lower_us))
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS_US.map(|us| Duration::from_micros(us).as_secs_f64());
        let sum = Duration::from_nanos(self.0.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        encode_buckets(&mut encoder, sum, &bounds, &self.counts())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Upper bounds of the buckets of rows: powers of two, as batches are mostly made, up to what few models pay for.
const BOUNDS_ROWS: [u32; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Rows of runs by bucket. Clones record to the same buckets.
#[derive(Debug, Clone, Default)]
pub(super) struct RunRows(Arc<RowBuckets>);

#[derive(Debug, Default)]
struct RowBuckets {
    /// One for each bound, and one for what is more than all.
    counts: [AtomicU64; BOUNDS_ROWS.len() + 1],
    sum: AtomicU64,
}

impl RunRows {
    pub(super) fn record(&self, rows: u32) {
        let bucket = BOUNDS_ROWS.partition_point(|bound| *bound < rows);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(u64::from(rows), Ordering::Relaxed);
    }
}

impl EncodeMetric for RunRows {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.counts.iter();
        let counts: Vec<u64> = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = to_f64(self.0.sum.load(Ordering::Relaxed));
        encode_buckets(&mut encoder, sum, &BOUNDS_ROWS.map(f64::from), &counts)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for RunRows {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Writes counts by the upper bounds of their buckets, the last of which has none.
fn encode_buckets(
    encoder: &mut MetricEncoder<'_>,
    sum: f64,
    bounds: &[f64],
    counts: &[u64],
) -> Result<(), std::fmt::Error> {
    let bounds = bounds.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
    // The count is that of the buckets read, so that the lines agree with each other while others record.
    encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
}

/// Exact below 2^53.
pub(super) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_us(recorded: &[u64]) -> Durations {
        let durations = Durations::default();
        for us in recorded {
            durations.record(Duration::from_micros(*us));
        }
        durations
    }

    #[test]
    fn a_duration_at_a_bound_is_in_the_bucket_of_that_bound() {
        let counts = of_us(&[50, 51, 180_000_000, 180_000_001]).counts();
        assert_eq!((counts[0], counts[1]), (1, 1));
        assert_eq!((counts[20], counts[21]), (1, 1));
        let just_above = Durations::default();
        just_above.record(Duration::from_nanos(50_001));
        assert_eq!(just_above.counts()[1], 1);
    }

    #[test]
    fn quantiles_lie_in_the_bucket_that_holds_their_rank() {
        let mut recorded = vec![150; 98];
        recorded.extend([3_000, 3_000]);
        let durations = of_us(&recorded);
        let us = |quantile| durations.quantile(quantile).unwrap().as_micros();
        assert!((100..=200).contains(&us(0.5)));
        assert!((100..=200).contains(&us(0.98)));
        assert!((2_000..=5_000).contains(&us(0.99)));
        assert_eq!(us(1.0), 5_000);
    }

    #[test]
    fn as_many_rows_as_a_bound_are_in_the_bucket_of_that_bound() {
        let rows = RunRows::default();
        for recorded in [1, 2, 3, 1024, 1025, u32::MAX] {
            rows.record(recorded);
        }
        let counts = rows
            .0
            .counts
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn nothing_recorded_has_no_quantile_and_the_longest_is_the_last_bound() {
        assert_eq!(of_us(&[]).quantile(0.5), None);
        assert_eq!(
            of_us(&[u64::MAX / 1_000_000]).quantile(0.5),
            Some(Duration::from_secs(180))
        );
    }
}

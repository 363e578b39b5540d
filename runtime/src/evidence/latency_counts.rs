//! Latencies as counts in fine buckets: sparse when they are written, and added up over machines. Pure.
//!
//! A bucket is at most 1/64 of its value wide, so that a percentile is known to 1.6 %. All is whole numbers, the same on every machine. What
//! had no end in time, as a request that timed out, is in a bucket beyond all others: it is never left out.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Buckets of one power of two.
const FINE: u32 = 64;
/// The logarithm of that.
const FINE_BITS: u32 = 6;
/// Microseconds from here on are in the last bucket but one: more than an hour.
const LIMIT_BITS: u32 = 32;
/// All buckets but the endless one: those below [`FINE`] are one microsecond wide.
const BUCKETS: u32 = (LIMIT_BITS - FINE_BITS + 1) * FINE;

/// The bucket of what has no end in time.
pub(super) const ENDLESS: u32 = BUCKETS;

/// The bucket of a latency in microseconds; a longer one never has a lower bucket.
#[must_use]
pub fn bucket_of(latency_us: u64) -> u32 {
    let Ok(value) = u32::try_from(latency_us) else {
        return BUCKETS - 1;
    };
    if value < FINE {
        return value;
    }
    let shift = value.ilog2() - FINE_BITS;
    (shift + 1) * FINE + (value >> shift) - FINE
}

/// The least latency of a bucket in microseconds.
fn floor_of(bucket: u32) -> u64 {
    let (octave, fine) = (bucket / FINE, u64::from(bucket % FINE));
    match octave.checked_sub(1) {
        None => fine,
        Some(shift) => (u64::from(FINE) + fine) << shift,
    }
}

/// How many latencies there were in each bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct LatencyCounts {
    counts: Vec<u64>,
    all: u64,
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self {
            counts: vec![0; ENDLESS as usize + 1],
            all: 0,
        }
    }
}

impl LatencyCounts {
    /// Counts one of a bucket that [`bucket_of`] gave.
    pub fn add(&mut self, bucket: u32) {
        self.add_many(bucket, 1);
    }

    /// Counts one that had no end in time.
    pub fn add_endless(&mut self) {
        self.add(ENDLESS);
    }

    fn add_many(&mut self, bucket: u32, count: u64) {
        let bucket = bucket.min(ENDLESS) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
        self.all = self.all.saturating_add(count);
    }

    /// All that was counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.all
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.filled() {
            self.add_many(bucket, count);
        }
    }

    /// Forgets every second one.
    pub fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.all = self.counts.iter().sum();
    }

    /// The bucket of a percentile: the first with which so large a part of all is reached. None of nothing.
    #[must_use]
    pub fn bucket_at(&self, quantile: f64) -> Option<u32> {
        let wanted = quantile * self.all as f64;
        let mut sum = 0;
        let reached = |(_, count): &(u32, u64)| {
            sum += count;
            sum as f64 >= wanted
        };
        self.filled().find(reached).map(|(bucket, _)| bucket)
    }

    /// The percentile in microseconds, the lower end of its bucket. None of nothing, and where it has no end in time.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        self.bucket_at(quantile)
            .filter(|bucket| *bucket < ENDLESS)
            .map(floor_of)
    }

    /// Percentiles in microseconds, in one go; the quantiles have to rise.
    #[must_use]
    pub fn quantiles_us(&self, quantiles: &[f64]) -> Vec<Option<u64>> {
        let (mut filled, mut sum, mut bucket) = (self.filled(), 0, None);
        let reach = |quantile: &f64| {
            while bucket.is_none() || (sum as f64) < quantile * self.all as f64 {
                let (next, count) = filled.next()?;
                (bucket, sum) = (Some(next), sum + count);
            }
            bucket.filter(|bucket| *bucket < ENDLESS).map(floor_of)
        };
        quantiles.iter().map(reach).collect()
    }

    /// The buckets that have any, rising.
    pub(super) fn filled(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let pairs = (0..).zip(self.counts.iter().copied());
        pairs.filter(|(_, count)| *count > 0)
    }
}

impl std::fmt::Debug for LatencyCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.filled()).finish()
    }
}

/// Pairs of a bucket and its count.
impl Serialize for LatencyCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.filled())
    }
}

impl<'de> Deserialize<'de> for LatencyCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut counts = Self::default();
        for (bucket, count) in Vec::<(u32, u64)>::deserialize(deserializer)? {
            if bucket > ENDLESS {
                let message = format!("expected a bucket from 0 to {ENDLESS}, found {bucket}");
                return Err(serde::de::Error::custom(message));
            }
            counts.add_many(bucket, count);
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_in_one_go_are_those_one_by_one() {
        let mut counts = LatencyCounts::default();
        let quantiles = [0.0, 0.25, 0.5, 0.9, 0.99, 1.0];
        for latency_us in 0..3000_u64 {
            let one_by_one = quantiles.map(|quantile| counts.quantile_us(quantile));
            assert_eq!(counts.quantiles_us(&quantiles), one_by_one);
            counts.add(bucket_of(latency_us * latency_us % 70_001));
        }
        (0..100).for_each(|_| counts.add_endless());
        assert_eq!(
            counts.quantiles_us(&[0.5, 1.0]),
            [counts.quantile_us(0.5), None]
        );
    }

    #[test]
    fn a_bucket_is_at_most_a_sixty_fourth_of_its_value_wide_and_none_is_left_out() {
        let ends = (0..BUCKETS).map(|bucket| (floor_of(bucket), floor_of(bucket + 1), bucket));
        for (low, next, bucket) in ends {
            assert_eq!(bucket_of(low), bucket);
            assert_eq!(bucket_of(next - 1), bucket);
            assert!((next - low) * 64 <= low.max(64), "{low}");
        }
        assert_eq!(bucket_of(u64::from(u32::MAX)), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_percentile_that_reaches_what_has_no_end_is_none() {
        let mut counts = LatencyCounts::default();
        assert_eq!(counts.quantile_us(0.5), None);
        (0..98).for_each(|_| counts.add(bucket_of(50)));
        (0..2).for_each(|_| counts.add_endless());
        assert_eq!(counts.quantile_us(0.98), Some(50));
        assert_eq!(counts.quantile_us(0.99), None);
        assert_eq!(counts.bucket_at(0.99), Some(ENDLESS));
    }

    #[test]
    fn a_bucket_that_is_none_is_refused() {
        let refused = serde_json::from_str::<LatencyCounts>("[[99999,1]]").unwrap_err();
        assert!(refused.to_string().contains("expected a bucket from 0 to"));
    }

    proptest! {
        #[test]
        fn counts_that_are_merged_are_those_of_all_and_survive_being_written(
            one in prop::collection::vec(0_u64..10_000_000, 0..50),
            other in prop::collection::vec(0_u64..10_000_000, 0..50),
        ) {
            let counted = |values: &[u64]| {
                let mut counts = LatencyCounts::default();
                values.iter().for_each(|value| counts.add(bucket_of(*value)));
                counts
            };
            let mut merged = counted(&one);
            merged.merge(&counted(&other));
            prop_assert_eq!(&merged, &counted(&[one, other].concat()));
            let text = serde_json::to_string(&merged).unwrap();
            prop_assert_eq!(serde_json::from_str::<LatencyCounts>(&text).unwrap(), merged);
        }
    }
}

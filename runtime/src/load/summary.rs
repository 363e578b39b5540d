//! Latencies of many requests, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Sample;

/// Longest latency that is told apart, in nanoseconds: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits kept.
const DIGITS: u8 = 3;
const NS_PER_S: f64 = 1e9;

/// Counts and latencies of requests. Keep one for each label that is to be compared (deployment, phase).
#[derive(Debug, Clone)]
pub struct Summary {
    latencies_ns: Histogram<u64>,
    failures: u64,
    /// Of the failures those that count as endless.
    endless: u64,
}

/// A step of [`Summary::percentiles`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    /// Share of requests, 0 to 1.
    pub quantile: f64,
    /// The latency that this share does not pass.
    pub latency: Duration,
    /// Requests that took at most so long.
    pub count: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self::new()
    }
}

impl Summary {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latencies_ns: Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS)
                .expect("bounds and digits are in the range of the crate"),
            failures: 0,
            endless: 0,
        }
    }

    /// Counts a request. The latency of a failure counts too: it is what the client waited.
    pub fn record(&mut self, sample: &Sample) {
        self.record_latency(sample.latency(), sample.is_ok());
    }

    /// Counts a request by its latency, and whether it was answered with 2xx.
    pub fn record_latency(&mut self, latency: Duration, ok: bool) {
        self.failures += u64::from(!ok);
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies_ns.saturating_record(ns);
    }

    /// Counts so many answered requests of one latency.
    #[cfg(test)]
    pub(crate) fn record_latencies(&mut self, latency: Duration, count: u64) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies_ns.saturating_record_n(ns, count);
    }

    /// Counts a request that never had what it asked for. Its latency is without end: the mean and the slowest are of the others, and
    /// a quantile that reaches it is [`Duration::MAX`].
    pub fn record_endless(&mut self) {
        self.failures += 1;
        self.endless += 1;
    }

    /// Adds the requests of another summary.
    pub fn add(&mut self, other: &Self) {
        self.latencies_ns
            .add(&other.latencies_ns)
            .expect("all summaries have the same bounds");
        self.failures += other.failures;
        self.endless += other.endless;
    }

    /// Requests, failures included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.latencies_ns.len() + self.endless
    }

    /// Requests that have a latency: all but those without end.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.latencies_ns.len()
    }

    /// Requests without an answer, or with one that is no 2xx.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The latency that a share `quantile` (0 to 1) of requests do not pass; zero when there are none, [`Duration::MAX`] when so many
    /// never ended.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let ended = self.latencies_ns.len();
        if self.endless > 0 {
            let rank = (quantile * self.count() as f64).ceil().max(1.0);
            return match rank <= ended as f64 {
                // Half a request less is rounded up to this very one.
                true => self.ended_quantile((rank - 0.5) / ended as f64),
                false => Duration::MAX,
            };
        }
        self.ended_quantile(quantile)
    }

    fn ended_quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latencies_ns.value_at_quantile(quantile))
    }

    /// The median.
    #[must_use]
    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    /// 9 of 10 are not slower.
    #[must_use]
    pub fn p90(&self) -> Duration {
        self.quantile(0.9)
    }

    /// 99 of 100 are not slower.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// The slowest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.latencies_ns.max())
    }

    /// The mean; zero when there are none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.latencies_ns.mean() / NS_PER_S)
    }

    /// Share of requests (0 to 1) that took at most `latency`; 1 when there are none.
    #[must_use]
    pub fn share_within(&self, latency: Duration) -> f64 {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let ended = self.latencies_ns.len() as f64 / self.count().max(1) as f64;
        match self.count() {
            0 => 1.0,
            _ => self.latencies_ns.quantile_below(ns) * ended,
        }
    }

    /// Every latency of what ended, in nanoseconds and rising, with how often.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.latencies_ns
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// Quantiles of what ended, in steps that become finer towards 1: so many for each halving of what is left. The last is 1.
    pub fn percentiles(&self, steps_per_halving: u32) -> impl Iterator<Item = Percentile> + '_ {
        let mut count = 0;
        self.latencies_ns
            .iter_quantiles(steps_per_halving)
            .map(move |step| {
                count += step.count_since_last_iteration();
                Percentile {
                    quantile: step.quantile_iterated_to(),
                    latency: Duration::from_nanos(step.value_iterated_to()),
                    count,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::super::{LoadError, Reply};
    use super::*;

    fn sample(latency: Duration, status: Option<u16>) -> Sample {
        let scheduled = Instant::now();
        Sample {
            index: 0,
            connection: 0,
            scheduled,
            sent: scheduled + latency / 2,
            slip: Duration::ZERO,
            done: scheduled + latency,
            reply: match status {
                Some(status) => Ok(Reply {
                    status,
                    deployment: None,
                    body: Bytes::new(),
                }),
                None => Err(LoadError::Timeout(latency)),
            },
        }
    }

    #[test]
    fn latency_counts_from_the_scheduled_time() {
        let mut summary = Summary::new();
        for ms in 1..=100 {
            summary.record(&sample(Duration::from_millis(ms), Some(200)));
        }
        let near = |found: Duration, ms: u64| {
            let ratio = found.as_secs_f64() / Duration::from_millis(ms).as_secs_f64();
            assert!((0.999..1.001).contains(&ratio), "{found:?}, not {ms} ms");
        };
        near(summary.p50(), 50);
        near(summary.p90(), 90);
        near(summary.p99(), 99);
        near(summary.max(), 100);
        assert_eq!((summary.count(), summary.failures()), (100, 0));
    }

    #[test]
    fn other_statuses_and_missing_answers_are_failures() {
        let mut summary = Summary::new();
        for status in [Some(200), Some(429), Some(500), None] {
            summary.record(&sample(Duration::from_millis(1), status));
        }
        let mut both = Summary::new();
        both.add(&summary);
        both.add(&summary);
        assert_eq!((both.count(), both.failures()), (8, 6));
        assert_eq!(Summary::new().p99(), Duration::ZERO);
    }

    #[test]
    fn latencies_of_some_microseconds_are_told_apart() {
        let mut summary = Summary::new();
        for ns in [61_800, 62_300] {
            summary.record_latency(Duration::from_nanos(ns), true);
        }
        let (low, high) = (summary.quantile(0.5), summary.max());
        assert!(high - low >= Duration::from_nanos(400), "{low:?} {high:?}");
        assert!(
            summary.mean().abs_diff(Duration::from_nanos(62_050)) < Duration::from_nanos(62),
            "{:?}",
            summary.mean()
        );
        assert!((summary.share_within(Duration::from_micros(62)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn what_never_ends_is_beyond_every_latency() {
        let mut summary = Summary::new();
        for ms in 1..=98 {
            summary.record_latency(Duration::from_millis(ms), true);
        }
        assert!(summary.p99() < Duration::from_secs(1));
        summary.record_endless();
        summary.record_endless();
        assert_eq!(
            (summary.count(), summary.ended(), summary.failures()),
            (100, 98, 2)
        );
        assert_eq!(summary.p99(), Duration::MAX);
        let p98 = summary.quantile(0.98);
        assert!(p98 < Duration::from_millis(99) && p98 > Duration::from_millis(97));
        assert_eq!(p98, summary.max());
        assert!(summary.mean() < Duration::from_millis(50));
        assert!((summary.share_within(Duration::MAX) - 0.98).abs() < 1e-9);
        let mut both = Summary::new();
        both.record_endless();
        assert_eq!((both.p50(), both.max()), (Duration::MAX, Duration::ZERO));
        both.add(&summary);
        assert_eq!(both.failures(), 3);
    }

    #[test]
    fn percentiles_rise_to_all_requests() {
        let mut summary = Summary::new();
        for us in 1..=1000 {
            summary.record_latency(Duration::from_micros(us), true);
        }
        let steps: Vec<_> = summary.percentiles(5).collect();
        assert!(steps.is_sorted_by(|a, b| {
            a.quantile <= b.quantile && a.latency <= b.latency && a.count <= b.count
        }));
        let last = steps.last().unwrap();
        assert_eq!((last.quantile, last.count), (1.0, 1000));
        assert_eq!(Summary::new().percentiles(5).count(), 0);
    }
}

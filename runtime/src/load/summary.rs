//! Latencies of many requests, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Sample;

/// Longest latency that is told apart, in microseconds: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Significant decimal digits kept.
const DIGITS: u8 = 3;

/// Counts and latencies of requests. Keep one for each label that is to be compared (deployment, phase).
#[derive(Debug, Clone)]
pub struct Summary {
    latencies_us: Histogram<u64>,
    failures: u64,
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
            latencies_us: Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS)
                .expect("bounds and digits are in the range of the crate"),
            failures: 0,
        }
    }

    /// Counts a request. The latency of a failure counts too: it is what the client waited.
    pub fn record(&mut self, sample: &Sample) {
        self.failures += u64::from(!sample.is_ok());
        let us = u64::try_from(sample.latency().as_micros()).unwrap_or(u64::MAX);
        self.latencies_us.saturating_record(us);
    }

    /// Adds the requests of another summary.
    pub fn add(&mut self, other: &Self) {
        self.latencies_us
            .add(&other.latencies_us)
            .expect("all summaries have the same bounds");
        self.failures += other.failures;
    }

    /// Requests, failures included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.latencies_us.len()
    }

    /// Requests without an answer, or with one that is no 2xx.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The latency that a share `quantile` (0 to 1) of requests do not pass; zero when there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latencies_us.value_at_quantile(quantile))
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
        Duration::from_micros(self.latencies_us.max())
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
}

//! The percentile of a latency as a metric: which requests are slow. Pure.
//!
//! Slow is what is beyond the percentile of both arms together, as it was lately. The canary has the greater percentile just where more
//! of its requests are slow by that measure. Latencies of the stable version count as longer by what the canary may be slower. The
//! bar is set between slots, so that it is known before what is judged by it; what is long ago counts less and less.

use serde::{Deserialize, Serialize};

use crate::evidence::{LatencyCounts, bucket_of};

/// The bar is set when so many requests are expected beyond it.
const BEYOND_MIN: f64 = 20.0;
/// It is set anew when there are more by this part.
const GROWTH: f64 = 1.25;
/// Half is forgotten when there are so many times the least.
const KEPT: f64 = 8.0;

/// The state of a bar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Percentile {
    quantile: f64,
    increase_max: f64,
    lately: LatencyCounts,
    /// The greatest bucket that is not slow.
    bar: Option<u32>,
    /// The count at which it is set anew.
    next: f64,
}

impl Percentile {
    pub(super) fn new(quantile: f64, increase_max: f64) -> Self {
        Self {
            quantile,
            increase_max,
            lately: LatencyCounts::default(),
            bar: None,
            next: BEYOND_MIN / (1.0 - quantile),
        }
    }

    /// Whether a latency, or one without end, is slow; none as long as there is no bar.
    pub(super) fn is_slow(&mut self, of_canary: bool, latency_us: Option<u64>) -> Option<bool> {
        let Some(latency_us) = latency_us else {
            self.lately.add_endless();
            return self.bar.map(|_| true);
        };
        let bucket = bucket_of(match of_canary {
            true => latency_us,
            false => self.longer(latency_us),
        });
        self.lately.add(bucket);
        self.bar.map(|bar| bucket > bar)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a latency, of which the fraction goes"
    )]
    fn longer(&self, latency_us: u64) -> u64 {
        (latency_us as f64 * (1.0 + self.increase_max)) as u64
    }

    /// Sets the bar, between two slots.
    pub(super) fn set(&mut self) {
        let count = self.lately.count() as f64;
        if count < self.next {
            return;
        }
        self.bar = self.lately.bucket_at(self.quantile);
        self.next = count * GROWTH;
        if count > KEPT * BEYOND_MIN / (1.0 - self.quantile) {
            self.lately.halve();
            self.next = self.lately.count() as f64 * GROWTH;
        }
    }

    /// Whether there is none yet.
    pub(super) fn has_no_bar(&self) -> bool {
        self.bar.is_none()
    }
}

//! The number of requests that wait for a slot of a deployment, read when somebody asks for it.
//!
//! Threads: any. Not here: who waits (`router`).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Where requests wait for a slot.
pub trait WaitingLine: fmt::Debug + Send + Sync {
    /// Requests that wait now.
    fn waiting(&self) -> usize;
}

/// A gauge of a line that somebody else has. Clones read the same one; without any nobody waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<Weak<dyn WaitingLine>>>>);

impl Waiting {
    /// Reads this line from now on.
    pub(super) fn read(&self, line: Weak<dyn WaitingLine>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    fn now(&self) -> i64 {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line.as_ref().and_then(Weak::upgrade);
        line.map_or(0, |line| i64::try_from(line.waiting()).unwrap_or(i64::MAX))
    }
}

impl EncodeMetric for Waiting {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.now())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Waiting {
    const TYPE: MetricType = MetricType::Gauge;
}

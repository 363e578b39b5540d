//! Counts what was refused before a deployment was chosen, by endpoint and status.
//!
//! Threads: any; a lock is taken for each refusal, and by who reads. An endpoint is named only where there is one of that name: what
//! strangers make up is counted without a name, so the series are as many as endpoints and statuses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Refusals by endpoint, empty where none was meant, and by status. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusedRequests(Arc<Mutex<Counts>>);

type Counts = BTreeMap<String, BTreeMap<u16, u64>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    endpoint: String,
    status: u16,
}

impl RefusedRequests {
    /// One more.
    pub(super) fn count(&self, endpoint: &str, status: u16) {
        let mut counts = self.lock();
        if !counts.contains_key(endpoint) {
            counts.insert(endpoint.to_owned(), BTreeMap::new());
        }
        let of_endpoint = counts.get_mut(endpoint);
        *of_endpoint
            .expect("it was just put there")
            .entry(status)
            .or_default() += 1;
    }

    /// Forgets all endpoints but these.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.lock()
            .retain(|endpoint, _| endpoint.is_empty() || is_there(endpoint));
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncodeMetric for RefusedRequests {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        // Copied, so that nobody who is refused waits for who reads.
        let counts = self.lock().clone();
        for (endpoint, by_status) in counts {
            for (status, count) in by_status {
                let labels = Labels {
                    endpoint: endpoint.clone(),
                    status,
                };
                ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

//! Metrics as values.

use std::time::Duration;

use crate::observe::{DeploymentMetrics, Outcome};

/// What became of the requests of one deployment since it was made, and what it has now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeploymentCounts {
    /// The endpoint.
    pub endpoint: String,
    /// The deployment.
    pub deployment: String,
    /// Requests by the way in which they ended, under the words of the label `outcome`: `ok`, `model_error`, `shed`, ..
    pub requests: Vec<(&'static str, u64)>,
    /// Requests that wait for a slot or have one.
    pub in_flight: u64,
    /// Half of the timed requests took no longer, waiting included, as far as the buckets of the histogram tell.
    pub p50: Option<Duration>,
    /// 99 of 100 took no longer.
    pub p99: Option<Duration>,
}

impl DeploymentCounts {
    pub(super) fn of(endpoint: &str, deployment: &str, metrics: &DeploymentMetrics) -> Self {
        let count = |outcome: Outcome| (outcome.label(), metrics.count(outcome));
        Self {
            endpoint: endpoint.to_owned(),
            deployment: deployment.to_owned(),
            requests: Outcome::ALL.map(count).to_vec(),
            in_flight: metrics.now_in_flight(),
            p50: metrics.quantile(0.5),
            p99: metrics.quantile(0.99),
        }
    }

    /// Requests that ended in this way; 0 for a word that no outcome has.
    #[must_use]
    pub fn count(&self, outcome: &str) -> u64 {
        let mut requests = self.requests.iter();
        requests
            .find(|(label, _)| *label == outcome)
            .map_or(0, |(_, count)| *count)
    }
}

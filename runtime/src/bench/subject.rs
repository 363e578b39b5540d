//! A version that is measured: where its requests go, and what its server tells of itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::admin::{Client, ClientError};
use crate::bench::report::Version;
use crate::load::{Target, TargetError};
use crate::observe::Process;
use crate::spec::{DeploymentName, EndpointName};

/// One version.
#[derive(Debug)]
pub struct Subject {
    /// For the report.
    pub version: Version,
    /// Where requests go.
    pub target: Target,
    /// The requests that it is asked, round and round.
    pub inputs: Arc<[Bytes]>,
    /// The process that answers, where it is one of this machine.
    pub process: Option<Process>,
    /// Where the server tells how long requests waited and ran, where it does.
    pub timings: Option<ServerTimings>,
}

/// The reason why nothing can be asked of a deployment.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// Its server does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What it says of itself stands in no request.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Subject {
    /// A deployment of a serin server; `version` makes what is reported of the address.
    ///
    /// # Errors
    ///
    /// [`SubjectError`].
    pub fn deployed(
        client: Client,
        (endpoint, deployment): (EndpointName, DeploymentName),
        inputs: Arc<[Bytes]>,
        version: impl FnOnce(String) -> Version,
    ) -> Result<Self, SubjectError> {
        let address = client.server().scoring_address;
        let path = format!("/endpoints/{endpoint}/score");
        let credentials = client.credentials(&endpoint)?;
        let target = Target::new(address, &path)?
            .with_bearer(credentials.bearer())?
            .with_deployment(deployment.as_str())?;
        Ok(Self {
            version: version(format!("http://{address}{path}")),
            target,
            inputs,
            process: Some(Process(client.server().pid)),
            timings: Some(ServerTimings::new(client, endpoint, deployment)),
        })
    }
}

/// The timings of a serin server, of one deployment.
pub struct ServerTimings {
    client: Client,
    endpoint: EndpointName,
    deployment: DeploymentName,
}

impl fmt::Debug for ServerTimings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTimings({}/{})", self.endpoint, self.deployment)
    }
}

/// Sums over all requests since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Stages {
    /// Requests that were timed.
    count: f64,
    queue_s: f64,
    run_s: f64,
}

impl ServerTimings {
    /// Of this deployment.
    #[must_use]
    pub fn new(client: Client, endpoint: EndpointName, deployment: DeploymentName) -> Self {
        Self {
            client,
            endpoint,
            deployment,
        }
    }

    /// None when the server does not answer or tells nothing of the deployment.
    pub(super) fn read(&self) -> Option<Stages> {
        let text = self.client.metrics().ok()?;
        Stages::parse(&text, self.endpoint.as_str(), self.deployment.as_str())
    }
}

impl Stages {
    /// From the text format that Prometheus reads.
    fn parse(text: &str, endpoint: &str, deployment: &str) -> Option<Self> {
        let value = |series: &str, stage: &str| -> Option<f64> {
            let labels = format!(
                "serin_request_duration_seconds_{series}{{endpoint=\"{endpoint}\",deployment=\"{deployment}\",stage=\"{stage}\"}} "
            );
            let line = text.lines().find_map(|line| line.strip_prefix(&labels))?;
            line.parse().ok()
        };
        Some(Self {
            count: value("count", "run")?,
            queue_s: value("sum", "queue")?,
            run_s: value("sum", "run")?,
        })
    }

    /// Mean time in the queue and in the model since `earlier`; none when nothing ran.
    pub(super) fn means_since(&self, earlier: &Self) -> Option<(Duration, Duration)> {
        let count = self.count - earlier.count;
        let mean = |sum: f64| Duration::try_from_secs_f64(sum / count).ok();
        Some((
            mean(self.queue_s - earlier.queue_s)?,
            mean(self.run_s - earlier.run_s)?,
        ))
    }

    /// Adds what passed between two readings.
    pub(super) fn add_between(&mut self, before: &Self, after: &Self) {
        self.count += after.count - before.count;
        self.queue_s += after.queue_s - before.queue_s;
        self.run_s += after.run_s - before.run_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;

    #[test]
    fn means_are_of_what_came_between_two_readings() {
        let at = |count, queue_s, run_s| Stages {
            count,
            queue_s,
            run_s,
        };
        let means = at(30.0, 0.5, 3.0).means_since(&at(10.0, 0.1, 1.0));
        let (queue, run) = means.unwrap();
        assert!((queue.as_secs_f64() - 0.02).abs() < 1e-9, "{queue:?}");
        assert!((run.as_secs_f64() - 0.1).abs() < 1e-9, "{run:?}");
        assert_eq!(at(1.0, 1.0, 1.0).means_since(&at(1.0, 1.0, 1.0)), None);
    }

    #[test]
    fn the_server_s_own_text_is_understood() {
        let metrics = Metrics::new();
        let _blue = metrics.deployment("digits", "blue");
        let stages = Stages::parse(&metrics.render(), "digits", "blue");
        assert_eq!(stages, Some(Stages::default()), "{}", metrics.render());
        assert_eq!(Stages::parse(&metrics.render(), "digits", "green"), None);
    }
}

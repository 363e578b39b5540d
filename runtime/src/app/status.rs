//! The status of a server as lines of its log: what there is, what is on its way, what is held.
//!
//! Threads: control, or the one that waits for the end. Not here: who asks for it (`cli`, by a signal).

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::info;

use crate::control::{DeploymentView, ProvisioningState, View};
use crate::observe::{Process, STATUS_TARGET};
use crate::router::{Deployment, Endpoint};
use crate::serve::Scoring;

/// The status at one moment.
pub(super) struct Status<'a> {
    scoring: &'a Scoring,
    uptime: Duration,
    view: Option<&'a View>,
}

/// Calls `tell` whenever it is asked for; never ends by itself.
pub(super) async fn when_asked(asked: Option<watch::Receiver<()>>, tell: impl Fn()) -> Infallible {
    if let Some(mut asked) = asked {
        while asked.changed().await.is_ok() {
            tell();
        }
    }
    std::future::pending().await
}

impl<'a> Status<'a> {
    pub(super) fn of(scoring: &'a Scoring, started: Instant) -> Self {
        Self {
            scoring,
            uptime: started.elapsed(),
            view: None,
        }
    }

    /// The same with what starts, changes or has failed.
    pub(super) fn with_changes_of(self, view: &'a View) -> Self {
        Self {
            view: Some(view),
            ..self
        }
    }

    /// Writes it: a line for the server, and one for each deployment.
    pub(super) fn tell(&self) {
        let table = self.scoring.router.table();
        let deployments = table.endpoints().flat_map(|one| one.deployments());
        let (count, in_flight) = deployments.fold((0, 0), |(count, in_flight), one| {
            (count + 1, in_flight + one.admission.held())
        });
        let (open_files, sockets) = Process::own().open_files().unzip();
        info!(
            target: STATUS_TARGET,
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            uptime_s = self.uptime.as_secs(),
            ready = self.scoring.health().ready,
            revision = self.view.map(|view| view.revision.to_string()),
            endpoints = table.endpoints().count(),
            deployments = count,
            in_flight,
            held_bytes = self.scoring.metrics.bytes_in_flight().now(),
            open_files,
            sockets,
            "status"
        );
        for endpoint in table.endpoints() {
            for deployment in endpoint.deployments() {
                tell_deployment(endpoint, deployment);
            }
        }
        for endpoint in self.view.iter().flat_map(|view| &view.endpoints) {
            for deployment in endpoint.deployments.values() {
                tell_change(endpoint.spec.name.as_str(), deployment);
            }
        }
    }
}

fn tell_deployment(endpoint: &Endpoint, deployment: &Deployment) {
    info!(
        target: STATUS_TARGET,
        endpoint = endpoint.name().as_str(),
        deployment = deployment.name.as_str(),
        traffic = %endpoint.split().percent_of(&deployment.name),
        instances = deployment.instances.len(),
        slots = deployment.admission.slots(),
        in_flight = deployment.admission.held(),
        degraded = deployment.metrics.streak().degraded().is_some(),
        "status of a deployment"
    );
}

/// A line for what is not as it was asked for.
fn tell_change(endpoint: &str, deployment: &DeploymentView) {
    if deployment.provisioning_state == ProvisioningState::Succeeded {
        return;
    }
    info!(
        target: STATUS_TARGET,
        endpoint,
        deployment = deployment.spec.name.as_str(),
        state = ?deployment.provisioning_state,
        doing = deployment.progress,
        reason = deployment.reason,
        "status of a change"
    );
}

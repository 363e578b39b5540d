//! What a server does now: endpoint by endpoint what is deployed, and what it has counted.
//!
//! Every number is one that is kept anyway, read when somebody asks: no request pays for it. Rates are made by whoever asks twice.
//!
//! Threads: control.
//! Not here: what is wrong (`serve/health.rs`).

use std::sync::LazyLock;
use std::time::Instant;

use crate::admin::parts::Administration;
use crate::admin::wire::{DeploymentStatus, EndpointStatus, RolloutStatus};
use crate::control::{DeploymentView, EndpointView, RolloutView};
use crate::observe::{DeploymentMetrics, Outcome};
use crate::spec::Percent;

/// The begin of the time that is told; clocks on walls can be set back.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since this was first asked, which is when administration begins.
pub(super) fn uptime_ms() -> u64 {
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// All endpoints with what they do.
pub(super) fn endpoints(at: &Administration) -> Vec<EndpointStatus> {
    let view = at.controller.view();
    view.endpoints.iter().map(|one| endpoint(at, one)).collect()
}

fn endpoint(at: &Administration, view: &EndpointView) -> EndpointStatus {
    let name = &view.spec.name;
    let rollout = at.rollouts.of_endpoint(name);
    let deployments = view.deployments.values();
    EndpointStatus {
        name: name.clone(),
        provisioning_state: view.provisioning_state,
        reason: view.reason.clone(),
        rollout: rollout
            .filter(|one| !one.phase.has_ended())
            .map(|one| outline(&one)),
        deployments: deployments.map(|one| deployment(at, view, one)).collect(),
    }
}

fn outline(rollout: &RolloutView) -> RolloutStatus {
    RolloutStatus {
        id: rollout.id,
        from: rollout.from.clone(),
        to: rollout.to.clone(),
        weight: rollout.weight,
        standing: rollout.standing(),
    }
}

fn deployment(at: &Administration, of: &EndpointView, view: &DeploymentView) -> DeploymentStatus {
    let name = &view.spec.name;
    let table = at.scoring.router.table();
    let serving = table
        .endpoint(of.spec.name.key())
        .and_then(|endpoint| endpoint.deployment(name.key()));
    let metrics = serving.map(|serving| &serving.metrics);
    let mirrored = of.spec.shadows().find(|(shadow, _)| shadow == name);
    DeploymentStatus {
        name: name.clone(),
        provisioning_state: view.provisioning_state,
        reason: view.reason.clone(),
        progress: view.progress.clone(),
        traffic: of.spec.traffic.percent_of(name),
        mirror_traffic: mirrored.map_or(Percent::ZERO, |(_, share)| share),
        instances_ready: view.instances_ready,
        instance_count: view.spec.instance_count(),
        requests: metrics.map_or(0, |metrics| ended(metrics)),
        requests_per_s: None,
        in_flight: metrics.map_or(0, |metrics| metrics.now_in_flight()),
        degraded: metrics.is_some_and(|metrics| metrics.streak().degraded().is_some()),
    }
}

/// Requests that have ended, however they did.
fn ended(metrics: &DeploymentMetrics) -> u64 {
    let all = Outcome::ALL.into_iter();
    all.map(|outcome| metrics.count(outcome)).sum()
}

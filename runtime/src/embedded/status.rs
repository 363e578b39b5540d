//! The state of an endpoint, at one moment.

use crate::control::{DeploymentView, EndpointView, ProvisioningState};
use crate::engine::{BackendKind, Placement};
use crate::observe::Degraded;
use crate::router::{Deployment, Endpoint};

/// An endpoint at one moment: what was asked for, and what is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub endpoint: String,
    /// The way that it has come, over all deployments.
    pub state: State,
    /// Its deployments, by name.
    pub deployments: Vec<DeploymentStatus>,
    /// What is not quite as asked for, in sentences.
    pub notes: Vec<String>,
}

impl Status {
    /// A deployment, by its name without case.
    #[must_use]
    pub fn deployment(&self, name: &str) -> Option<&DeploymentStatus> {
        let mut deployments = self.deployments.iter();
        deployments.find(|one| one.name.eq_ignore_ascii_case(name))
    }
}

/// The way from what is to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It starts for the first time.
    Starting,
    /// It serves, and becomes something else.
    Changing,
    /// It is as asked for.
    Ready,
    /// It could not become as asked for; what was good before serves on.
    Failed,
    /// It goes.
    Ending,
}

/// A deployment at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// Its name.
    pub name: String,
    /// Its share of the split in force, in percent.
    pub traffic: f64,
    /// The way that it has come.
    pub state: State,
    /// The reason of its failure, or why it is degraded: requests fail in a row, by the model's fault.
    pub reason: Option<String>,
    /// The step that is under way.
    pub progress: Option<String>,
    /// Instances that were asked for.
    pub instances_asked: u32,
    /// Instances that answer requests.
    pub instances: Vec<InstanceStatus>,
    /// Requests that may run at once.
    pub slots: usize,
    /// Requests that run or wait now.
    pub held: usize,
    /// What is not quite as asked for, in sentences.
    pub notes: Vec<String>,
}

/// An instance that answers requests, and its place on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// vCPUs that were asked for.
    pub vcpus: usize,
    /// Cores that it has, by the kernel's numbers.
    pub cores: Vec<usize>,
    /// Whether another instance had some of them when it started.
    pub shared: bool,
    /// Whether its threads keep to them.
    pub pinned: bool,
    /// Requests that it computes at once.
    pub lanes: usize,
    /// Threads that take part in one run.
    pub threads: usize,
    /// Whether its lanes are processes of their own.
    pub in_processes: bool,
}

impl Status {
    pub(super) fn of(view: &EndpointView, live: Option<&Endpoint>) -> Self {
        let deployments = view.deployments.values().map(|one| {
            let live = live.and_then(|live| live.deployment(one.spec.name.key()));
            DeploymentStatus::of(view, one, live.map(AsRef::as_ref))
        });
        Self {
            endpoint: view.spec.name.to_string(),
            state: view.provisioning_state.into(),
            deployments: deployments.collect(),
            notes: view.notes.clone(),
        }
    }
}

impl From<ProvisioningState> for State {
    fn from(state: ProvisioningState) -> Self {
        match state {
            ProvisioningState::Creating => Self::Starting,
            ProvisioningState::Updating => Self::Changing,
            ProvisioningState::Succeeded => Self::Ready,
            ProvisioningState::Failed | ProvisioningState::Canceled => Self::Failed,
            ProvisioningState::Deleting => Self::Ending,
        }
    }
}

impl DeploymentStatus {
    fn of(endpoint: &EndpointView, view: &DeploymentView, live: Option<&Deployment>) -> Self {
        let degraded = live.and_then(|live| live.metrics.streak().degraded());
        let percent = endpoint.spec.traffic.percent_of(&view.spec.name);
        Self {
            name: view.spec.name.to_string(),
            traffic: f64::from(percent.hundredths()) / 100.0,
            state: view.provisioning_state.into(),
            reason: view
                .reason
                .clone()
                .or_else(|| degraded.as_ref().map(words_of)),
            progress: view.progress.clone(),
            instances_asked: view.spec.instance_count(),
            instances: view.placements.iter().map(InstanceStatus::of).collect(),
            slots: live.map_or(0, |live| live.admission.slots()),
            held: live.map_or(0, |live| live.admission.held()),
            notes: view.notes.clone(),
        }
    }
}

fn words_of(degraded: &Degraded) -> String {
    let Degraded {
        failures_in_a_row,
        why,
    } = degraded;
    format!("{failures_in_a_row} requests in a row have failed: {why}")
}

impl InstanceStatus {
    fn of(placement: &Placement) -> Self {
        Self {
            vcpus: placement.vcpus_asked,
            cores: placement.cores_given.clone(),
            shared: placement.shared,
            pinned: placement.pinned,
            lanes: placement.lanes,
            threads: placement.intra_op_threads,
            in_processes: placement.isolation == BackendKind::Process,
        }
    }
}

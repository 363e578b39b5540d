//! What `show` and `list` print: what should be, beside what is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::control::controller::Controller;
use crate::control::desired::{Revision, WantedDeployment, WantedEndpoint};
use crate::control::models::ModelDigest;
use crate::control::operation::ProvisioningState;
use crate::control::reconcile::{EndpointState, build_of};
use crate::control::steps::Live;
use crate::engine::{Batching, ModelProfile, Placement};
use crate::spec::{
    DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, Percent, TrafficSplit,
};

/// Everything, at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct View {
    /// The revision that is being worked toward.
    pub revision: Revision,
    /// All endpoints by name.
    pub endpoints: Vec<EndpointView>,
}

impl View {
    /// One endpoint.
    #[must_use]
    pub fn endpoint(&self, name: &EndpointName) -> Option<&EndpointView> {
        self.endpoints.iter().find(|one| one.spec.name == *name)
    }
}

/// One endpoint, in the fields of `az ml online-endpoint show`.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointView {
    /// As asked for; in `traffic` every deployment has an entry.
    #[serde(flatten)]
    pub spec: EndpointSpec,
    /// How far it has come.
    pub provisioning_state: ProvisioningState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where requests go. Filled in by who knows the address of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scoring_uri: Option<String>,
    /// What the files say and serin keeps without effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its deployments by name.
    pub deployments: BTreeMap<DeploymentName, DeploymentView>,
}

/// One deployment, in the fields of `az ml online-deployment show`, and how it really runs.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentView {
    /// As asked for.
    #[serde(flatten)]
    pub spec: DeploymentSpec,
    /// How far it has come.
    pub provisioning_state: ProvisioningState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The content that the model stands for.
    pub model_digest: ModelDigest,
    /// Instances that answer requests.
    pub instances_ready: usize,
    /// Cores asked for and given, of each instance.
    pub placements: Vec<Placement>,
    /// What the model was measured to cost on the threads of one lane, and whether requests share runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_profile: Option<Arc<ModelProfile>>,
    /// What is kept without effect, and what is not quite as asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Controller {
    /// Everything as it is now.
    pub(super) fn build_view(&self) -> View {
        let desired = self.shared.desired.load();
        let mut endpoints: Vec<_> = desired
            .endpoints
            .values()
            .map(|wanted| self.view_endpoint(wanted))
            .collect();
        // What shall go is shown until it is gone.
        let leaving = self
            .endpoints
            .iter()
            .filter(|(name, _)| !desired.endpoints.contains_key(name));
        for rules in leaving.filter_map(|(_, state)| state.rules()) {
            let view = self.view_endpoint(rules);
            endpoints.push(EndpointView {
                provisioning_state: ProvisioningState::Deleting,
                ..view
            });
        }
        endpoints.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
        View {
            revision: self.revision,
            endpoints,
        }
    }

    fn view_endpoint(&self, wanted: &WantedEndpoint) -> EndpointView {
        let state = self.endpoints.get(&wanted.spec.name);
        let deployments = wanted.deployments.iter();
        let deployments: BTreeMap<_, _> = deployments
            .map(|(name, wanted)| (name.clone(), self.view_deployment(state, wanted)))
            .collect();
        let failed = deployments
            .values()
            .find(|one| one.provisioning_state == ProvisioningState::Failed);
        let reason = state
            .and_then(|state| state.reason.clone())
            .or_else(|| failed.and_then(|one| one.reason.clone()));
        let provisioning_state = match state {
            Some(state) if state.is_busy() && state.rules().is_none() => {
                ProvisioningState::Creating
            }
            Some(state) if state.is_busy() => ProvisioningState::Updating,
            _ if reason.is_some() => ProvisioningState::Failed,
            _ => ProvisioningState::Succeeded,
        };
        let mut spec = wanted.spec.clone();
        spec.set_auth_mode(wanted.spec.auth_mode());
        spec.traffic = with_idle(&wanted.spec.traffic, wanted.deployments.values());
        EndpointView {
            notes: spec.notes(),
            spec,
            provisioning_state,
            reason: reason.filter(|_| provisioning_state == ProvisioningState::Failed),
            scoring_uri: None,
            deployments,
        }
    }

    fn view_deployment(
        &self,
        state: Option<&EndpointState>,
        wanted: &WantedDeployment,
    ) -> DeploymentView {
        let serving = state
            .and_then(|state| state.serving.get(&wanted.spec.name))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let live: Vec<_> = serving
            .iter()
            .filter_map(|no| self.live.get(no))
            .filter(|live| live.is_ready())
            .collect();
        let failure = state.and_then(|state| state.failure(wanted));
        let build = build_of(wanted);
        let met = live.len() as u64 == u64::from(wanted.spec.instance_count())
            && live.iter().all(|live| live.build == build);
        let provisioning_state = match (failure, met) {
            (Some(_), _) => ProvisioningState::Failed,
            (None, true) => ProvisioningState::Succeeded,
            (None, false) if live.is_empty() => ProvisioningState::Creating,
            (None, false) => ProvisioningState::Updating,
        };
        let mut spec = wanted.spec.clone();
        spec.write_instance_count();
        let profile = live.iter().find_map(|live| live.handle());
        DeploymentView {
            model_profile: profile.map(|handle| Arc::clone(handle.profile())),
            notes: self.notes_of(wanted, &live),
            spec,
            provisioning_state,
            reason: failure.map(|failure| failure.reason.clone()),
            model_digest: wanted.model.digest.clone(),
            instances_ready: live.len(),
            placements: live
                .iter()
                .filter_map(|live| live.placement.clone())
                .collect(),
        }
    }

    fn notes_of(&self, wanted: &WantedDeployment, live: &[&Live]) -> Vec<String> {
        let mut notes = wanted.spec.notes();
        notes.extend(live.iter().find_map(|live| overcommitted(live)));
        notes.extend(live.iter().find_map(|live| not_batched(live)));
        notes.extend(live.iter().find_map(|live| self.note_of_spinning(live)));
        let ready = self.ready.get(&wanted.model.digest);
        notes.extend(ready.and_then(|ready| ready.note.clone()));
        notes
    }

    /// Why threads do not spin although they were to, or whom they disturb.
    fn note_of_spinning(&self, live: &Live) -> Option<String> {
        let placement = live.placement.as_ref()?;
        let note = match (placement.spin_asked, placement.spinning) {
            (true, false) if placement.intra_op_threads == 1 => {
                "spin has no effect: a lane has one thread"
            }
            (true, false) => {
                "spin has no effect: another instance had some of the same cores at the start"
            }
            (_, true) if self.shares_cores(live) => {
                "spin: another instance has come to the same cores since, and both are slower until this deployment starts anew \
                 or spin is turned off"
            }
            _ => return None,
        };
        Some(note.to_owned())
    }
}

/// The split with an entry of 0 for every deployment that has none, as Azure shows it.
fn with_idle<'a>(
    split: &TrafficSplit,
    deployments: impl Iterator<Item = &'a WantedDeployment>,
) -> TrafficSplit {
    let idle = deployments
        .map(|one| &one.spec.name)
        .filter(|name| split.entries().iter().all(|(entry, _)| entry != *name));
    let idle = idle.map(|name| (name.clone(), Percent::ZERO));
    TrafficSplit::new(split.entries().iter().cloned().chain(idle).collect())
        .expect("zeros change no sum")
}

/// Why requests run alone although they were to run together.
fn not_batched(live: &Live) -> Option<String> {
    live.build.batch.size_max.filter(|rows| *rows > 1)?;
    let why = match live.handle()?.profile().batching {
        Batching::Pays | Batching::DoesNotPay => return None,
        Batching::FixedRows => "the model fixes the number of rows",
        Batching::RowsDepend => "the model's answer for a row depends on the other rows",
        Batching::SlowRun => "one run takes so long that a batch would make its requests wait",
        Batching::Unknown => {
            "the model did not run on inputs made from its shapes; give it a sample request"
        }
    };
    Some(format!("max_batch_size has no effect: {why}"))
}

/// What an instance has got less of than it asked for.
fn overcommitted(live: &Live) -> Option<String> {
    let placement = live.placement.as_ref()?;
    let short = placement.shared || placement.cores_given.len() < placement.vcpus_asked;
    short.then(|| {
        format!(
            "overcommitted: {} vCPUs asked for an instance, {} cores given{}",
            placement.vcpus_asked,
            placement.cores_given.len(),
            if placement.shared {
                ", shared with other instances"
            } else {
                ""
            }
        )
    })
}

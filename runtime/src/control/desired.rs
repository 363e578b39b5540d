//! The desired state: what should be, and the last of it that was good. Pure data.
//!
//! Stored as JSON with a format number; see `store`. A change of it is worked out in `apply`; what runs stands in `books`.
//!
//! The rules in force of an endpoint (its split, its credentials, the timeouts of its deployments) follow from this state alone:
//! a split that still waits for instances is a [`PendingSplit`] beside the one in force, and a deployment that is on its way to
//! something else keeps its [`DesiredDeployment::last_good`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serin_scorers::NonFinite;

use crate::control::build::{Aim, Build};
use crate::control::models::{ModelDigest, ModelRecord, Mount};
use crate::control::refusal::ChangeError;
use crate::control::revision::Revision;
use crate::control::script::{ResolvedScript, ScriptBuild};
use crate::control::timestamp::Timestamp;
use crate::engine::BatchSettings;
use crate::spec::{
    Cohorts, DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, Isolation, ModelName,
    ModelVersion, Percent, TrafficSplit,
};

/// Format of the stored state. 1 had no number, no last good states and no pending splits.
pub(super) const FORMAT: u32 = 2;

/// All endpoints that should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// [`FORMAT`] of the release that wrote it; 1 where none is written.
    #[serde(default = "first_format")]
    pub(super) format: u32,
    pub(super) endpoints: BTreeMap<EndpointName, DesiredEndpoint>,
}

fn first_format() -> u32 {
    1
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            format: FORMAT,
            endpoints: BTreeMap::new(),
        }
    }
}

/// An endpoint that should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DesiredEndpoint {
    /// As asked for; its `traffic` is the split in force, which is the last good one.
    pub(super) spec: EndpointSpec,
    pub(super) generations: Generations,
    pub(super) deployments: BTreeMap<DeploymentName, DesiredDeployment>,
    /// The split that comes in force when the deployments of the same change are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<PendingSplit>,
    /// Nothing in states of releases that did not note it, and in programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamp: Option<Stamp>,
    /// Where clients belong under the split in force; none where the endpoint has no `sticky`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cohorts: Option<Cohorts>,
}

/// Who made something and when, and when it was changed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The name of who asked for it.
    pub created_by: String,
    /// When that was accepted.
    pub created_at: Timestamp,
    /// When the last change that spoke of it was accepted.
    pub last_modified_at: Timestamp,
}

impl Stamp {
    /// The stamp after a change that speaks of the thing; the change's own where the thing is new.
    pub(super) fn after(before: Option<&Self>, change: Option<&Self>) -> Option<Self> {
        let (Some(before), Some(change)) = (before, change) else {
            return before.or(change).cloned();
        };
        Some(Self {
            last_modified_at: change.last_modified_at,
            ..before.clone()
        })
    }
}

impl DesiredEndpoint {
    /// Has the cohorts follow the rules and the split in force. The salt stays; the first is the endpoint's name, so that servers
    /// side by side agree.
    pub(super) fn follow_split(&mut self) {
        self.cohorts = self.spec.sticky.is_some().then(|| {
            let split = &self.spec.traffic;
            let before = self.cohorts.as_ref();
            before.map_or_else(
                || Cohorts::new(self.spec.name.key(), split),
                |before| before.follow(split),
            )
        });
    }

    /// Has others be the first who move. Where several deployments have traffic it would move people now, and does nothing.
    pub(super) fn salt_cohorts(&mut self, salt: &str) {
        let mut shares = self.spec.traffic.entries().iter();
        if shares.any(|(_, share)| *share == Percent::HUNDRED) {
            self.cohorts = self.cohorts.take().map(|cohorts| cohorts.salted(salt));
        }
    }
}

/// A split that waits for the instances of the change that brought it. It comes in force with the last of them or never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PendingSplit {
    pub(super) split: TrafficSplit,
    /// The change that brought it; the deployments with the same `touched` are those that it waits for.
    pub(super) revision: Revision,
    /// Deployments that go when the split comes in force: until then they may have traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) removes: Vec<DeploymentName>,
}

/// A number that keys and tokens are made from, beside the secret. Drawn at random, so it does not come back when the database is
/// lost and the secret is not; earlier releases took the number of the revision, and what they wrote stays good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Generation(pub(super) u64);

/// The generations of the endpoint's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Generations {
    pub(super) primary: Generation,
    pub(super) secondary: Generation,
    pub(super) token: Generation,
}

impl Generations {
    pub(super) fn all(generation: Generation) -> Self {
        Self {
            primary: generation,
            secondary: generation,
            token: generation,
        }
    }
}

/// A deployment that should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DesiredDeployment {
    #[serde(flatten)]
    pub(super) target: Target,
    /// The last target whose instances were ready: what serves until the present one is, and after a restart first of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_good: Option<Box<Target>>,
    /// Nothing in states of releases that did not note it, and in programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamp: Option<Stamp>,
}

/// All that a deployment should run, resolved when it was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) spec: DeploymentSpec,
    pub(super) model: ResolvedModel,
    pub(super) vcpus: usize,
    /// The script that scores; nothing where the model is scored natively, as in all states of releases that ran none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) script: Option<ResolvedScript>,
    /// Memory of the instance type; 0 where it has none, and in states of releases that did not look.
    #[serde(default)]
    pub(super) memory_mib: u64,
    /// The last change that spoke of it. A failed start is tried again when this moves on.
    pub(super) touched: Revision,
}

/// The content that a model reference meant when the change was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResolvedModel {
    pub(super) digest: ModelDigest,
    /// The registered version; none for a plain path.
    pub(super) registered: Option<(ModelName, ModelVersion)>,
    /// The name under which a script sees it; none where no script does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mount: Option<Mount>,
}

impl ResolvedModel {
    /// The model as the processes of a script see it.
    fn seen_by(&self, script: &ResolvedScript) -> ScriptBuild {
        let mount = self.mount.clone();
        let mount = mount.unwrap_or_else(|| Mount::of("model".as_ref(), None));
        let reference = match &self.registered {
            Some((name, version)) => (name.to_string(), version.to_string()),
            // One without a name is called as its file is.
            None => {
                let (stem, _) = mount.name.split_once('.').unwrap_or((&mount.name, ""));
                let name = if stem.is_empty() { "model" } else { stem };
                (name.to_owned(), "1".to_owned())
            }
        };
        ScriptBuild {
            script: script.clone(),
            reference,
            mount,
        }
    }
}

impl Target {
    /// The instances that it asks for.
    pub(super) fn aim(&self) -> Aim {
        let settings = self.spec.request_settings();
        let build = Build {
            model: self.model.digest.clone(),
            vcpus: self.vcpus,
            memory_bytes: (self.memory_mib > 0).then(|| self.memory_mib.saturating_mul(1 << 20)),
            concurrency: settings.max_concurrent_requests_per_instance(),
            lanes: settings.lanes(),
            batch: BatchSettings {
                size_max: settings.max_batch_size(),
                delay: settings.max_batch_delay(),
            },
            spin: settings.spin(),
            isolation: settings.isolation(),
            non_finite: settings.non_finite(),
            script: None,
        };
        Aim {
            build: match &self.script {
                Some(script) => self.of_script(script, build),
                None => build,
            },
            count: usize::try_from(self.spec.instance_count()).unwrap_or(usize::MAX),
        }
    }

    /// The build of a script: what is written for runs of models makes no difference to it.
    fn of_script(&self, script: &ResolvedScript, build: Build) -> Build {
        Build {
            batch: BatchSettings::default(),
            spin: false,
            isolation: Isolation::default(),
            non_finite: NonFinite::default(),
            script: Some(Arc::new(self.model.seen_by(script))),
            ..build
        }
    }

    /// The contents that its instances are made of.
    pub(super) fn contents(&self) -> impl Iterator<Item = &ModelDigest> {
        let code = self.script.as_ref().map(|script| &script.code);
        std::iter::once(&self.model.digest).chain(code)
    }
}

impl DesiredDeployment {
    /// Whether its target has been ready, so that nothing is on its way.
    pub(super) fn is_good(&self) -> bool {
        self.last_good
            .as_ref()
            .is_some_and(|good| good.touched == self.target.touched)
    }

    /// The deployment after a change that gives it another target.
    ///
    /// Where the target asks for the instances that are good already, it is good at once. Where it differs from the target
    /// before in its rules alone, those are in force at once, whatever runs.
    pub(super) fn with_target(&self, target: Target) -> Self {
        let mut last_good = self.last_good.clone();
        if let Some(good) = &mut last_good {
            if good.aim() == target.aim() {
                **good = target.clone();
            } else if self.target.aim() == target.aim() {
                good.spec.take_rules_of(&target.spec);
            }
        }
        Self {
            target,
            last_good,
            stamp: self.stamp.clone(),
        }
    }
}

/// The end of an operation's part, as far as the desired state tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) endpoint: EndpointName,
    /// The change that it is about.
    pub(super) revision: Revision,
    /// The deployment whose target has become ready, if one has.
    pub(super) good: Option<DeploymentName>,
    pub(super) split: SplitOutcome,
}

/// The fate of the pending split of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SplitOutcome {
    /// It waits on, or there is none.
    Waits,
    /// It is in force from now on.
    InForce,
    /// It will never be in force.
    Dropped,
}

impl Desired {
    /// An endpoint that must exist.
    pub(super) fn endpoint(&self, name: &EndpointName) -> Result<&DesiredEndpoint, ChangeError> {
        self.endpoints.get(name).ok_or_else(|| {
            let names: Vec<_> = self
                .endpoints
                .values()
                .map(|one| one.spec.name.as_str())
                .collect();
            ChangeError::NotFound(if names.is_empty() {
                format!("no endpoint {:?}; none exists yet", name.as_str())
            } else {
                format!(
                    "no endpoint {:?}; there are {}",
                    name.as_str(),
                    names.join(", ")
                )
            })
        })
    }

    /// One deployment.
    pub(super) fn deployment(
        &self,
        endpoint: &EndpointName,
        name: &DeploymentName,
    ) -> Option<&DesiredDeployment> {
        self.endpoints.get(endpoint)?.deployments.get(name)
    }

    /// Every deployment with its endpoint.
    pub(super) fn deployments(
        &self,
    ) -> impl Iterator<Item = (&DesiredEndpoint, &DesiredDeployment)> {
        self.endpoints.values().flat_map(|endpoint| {
            endpoint
                .deployments
                .values()
                .map(move |deployment| (endpoint, deployment))
        })
    }

    /// `endpoint/deployment` of all that run this version, or would go back to it.
    pub(super) fn users(&self, record: &ModelRecord) -> Vec<String> {
        let named = |target: &Target| {
            target
                .model
                .registered
                .as_ref()
                .is_some_and(|(name, version)| *name == record.name && *version == record.version)
        };
        self.deployments()
            .filter(|(_, one)| named(&one.target) || one.last_good.as_deref().is_some_and(named))
            .map(|(endpoint, one)| format!("{}/{}", endpoint.spec.name, one.target.spec.name))
            .collect()
    }

    /// The content of every model that a deployment runs or would go back to, and of the code of their scripts.
    pub(super) fn models(&self) -> impl Iterator<Item = &ModelDigest> {
        self.deployments().flat_map(|(_, one)| {
            let good = one.last_good.as_deref().map(Target::contents);
            one.target.contents().chain(good.into_iter().flatten())
        })
    }

    /// The state in which the deployment is to be what it last was when it was ready; as it is where it never was.
    pub(super) fn on_last_good(&self, endpoint: &EndpointName, name: &DeploymentName) -> Self {
        let mut next = self.clone();
        let endpoint = next.endpoints.get_mut(endpoint);
        let deployment = endpoint.and_then(|endpoint| endpoint.deployments.get_mut(name));
        if let Some(one) = deployment
            && let Some(good) = &one.last_good
        {
            one.target = Target::clone(good);
        }
        next
    }

    /// The state after the end of a part of an operation. A part that a newer change has overtaken changes nothing.
    pub(super) fn settled(&self, settlement: &Settlement) -> Self {
        let mut next = self.clone();
        let Some(endpoint) = next.endpoints.get_mut(&settlement.endpoint) else {
            return next;
        };
        let good = settlement.good.as_ref();
        if let Some(one) = good.and_then(|name| endpoint.deployments.get_mut(name))
            && one.target.touched == settlement.revision
        {
            one.last_good = Some(Box::new(one.target.clone()));
        }
        let is_meant = |pending: &mut PendingSplit| pending.revision == settlement.revision;
        match settlement.split {
            SplitOutcome::Waits => {}
            SplitOutcome::Dropped => {
                endpoint.pending.take_if(is_meant);
            }
            SplitOutcome::InForce => {
                if let Some(pending) = endpoint.pending.take_if(is_meant) {
                    endpoint.spec.traffic = pending.split;
                    endpoint.follow_split();
                    for gone in &pending.removes {
                        endpoint.deployments.remove(gone);
                    }
                }
            }
        }
        next
    }
}

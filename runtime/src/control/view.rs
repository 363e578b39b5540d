//! The words of `show` and `list`: what should be, beside what is. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serin_scorers::NonFinite;

use crate::control::books::{Books, InstanceBook, NeedBook, Phase, waiting_max};
use crate::control::build::InstanceNo;
use crate::control::desired::{DesiredDeployment, DesiredEndpoint, Stamp, Target};
use crate::control::event::{Key, NeedNotes};
use crate::control::models::ModelDigest;
use crate::control::operation::ProvisioningState;
use crate::control::revision::Revision;
use crate::control::script::StoredRecipe;
use crate::engine::{Batching, ModelProfile, Placement, lane_count};
use crate::observe::Degraded;
use crate::spec::{
    DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, Isolation, Percent, Scoring,
    ScoringKind, TrafficSplit,
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
    /// The way that it has come.
    pub provisioning_state: ProvisioningState,
    /// The reason of its failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The address for requests. Filled in by who knows the address of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scoring_uri: Option<String>,
    /// Settings of the files that serin keeps without effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Who made it and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_context: Option<Stamp>,
    /// Its deployments by name.
    pub deployments: BTreeMap<DeploymentName, DeploymentView>,
}

/// One deployment, in the fields of `az ml online-deployment show`, and how it really runs.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentView {
    /// As asked for.
    #[serde(flatten)]
    pub spec: DeploymentSpec,
    /// The way that it has come.
    pub provisioning_state: ProvisioningState,
    /// The reason of its failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The failures in a row that make it degraded. Filled in by who knows what becomes of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
    /// The step that is under way, for as long as one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// What counts, also where its file says nothing.
    pub effective: EffectiveSettings,
    /// The content that the model stands for.
    pub model_digest: ModelDigest,
    /// The script that scores, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptView>,
    /// Instances that answer requests.
    pub instances_ready: usize,
    /// Cores asked for and given, of each instance.
    pub placements: Vec<Placement>,
    /// The measured cost of the model on the threads of one lane, and whether requests share runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_profile: Option<Arc<ModelProfile>>,
    /// Whether requests share runs, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batching: Option<String>,
    /// Who made it and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_context: Option<Stamp>,
    /// Settings that are kept without effect, and what is not quite as asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The settings of a deployment that are in force once it is ready as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EffectiveSettings {
    /// The longest that a request may take, waiting included; none where it may take for ever.
    pub request_timeout_ms: Option<u64>,
    /// Requests that one instance runs at once.
    pub max_concurrent_requests_per_instance: u32,
    /// Requests that wait for a slot, for each instance, before the next one is refused; none where all may.
    pub max_waiting_requests_per_instance: Option<usize>,
    /// Most rows that one run takes together; none where that is not measured yet.
    pub max_batch_size: Option<usize>,
    /// Longest that a lane waits for more requests before it runs what it has.
    pub max_batch_delay_us: u64,
    /// Score threads, or processes, of one instance.
    pub lanes: usize,
    /// Whether the threads of a lane were asked to spin.
    pub spin: bool,
    /// Where the lanes compute.
    pub isolation: Isolation,
    /// The form of NaN and infinities in answers.
    pub non_finite: NonFinite,
    /// What stands for the probes.
    pub probes: &'static str,
}

/// Liveness, readiness and startup probes are kept as they are written.
const PROBES: &str = "without effect: an instance is ready when it is warmed up";

/// The script of a deployment, and what runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScriptView {
    /// Its place below the folder of the code.
    pub entry_script: String,
    /// The content of that folder, as it was copied.
    pub code_digest: ModelDigest,
    /// The interpreter, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<PathBuf>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
    /// The environment in words, else the file that it is built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// Everything as it is now.
pub(super) fn view(books: &Books, revision: Revision) -> View {
    let mut endpoints: Vec<_> = books
        .desired
        .endpoints
        .values()
        .map(|wanted| view_endpoint(books, wanted))
        .collect();
    // What shall go is shown until it is gone.
    for wanted in books.leaving.values() {
        endpoints.push(EndpointView {
            provisioning_state: ProvisioningState::Deleting,
            ..view_endpoint(books, wanted)
        });
    }
    endpoints.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    View {
        revision,
        endpoints,
    }
}

fn view_endpoint(books: &Books, wanted: &DesiredEndpoint) -> EndpointView {
    let deployments = wanted.deployments.iter();
    let deployments: BTreeMap<_, _> = deployments
        .map(|(name, one)| {
            let key = Key {
                endpoint: wanted.spec.name.clone(),
                deployment: name.clone(),
            };
            (name.clone(), view_deployment(books, &key, one))
        })
        .collect();
    let failed = deployments
        .values()
        .find(|one| one.provisioning_state == ProvisioningState::Failed);
    let reason = failed.and_then(|one| one.reason.clone());
    let never_good = wanted
        .deployments
        .values()
        .all(|one| one.last_good.is_none());
    // What a restart tries again is under way without an operation.
    let mut states = deployments.values().map(|one| one.provisioning_state);
    let busy = books.is_busy(&wanted.spec.name) || !states.all(ProvisioningState::has_ended);
    let provisioning_state = match (busy, &reason) {
        (true, _) if never_good => ProvisioningState::Creating,
        (true, _) => ProvisioningState::Updating,
        (false, Some(_)) => ProvisioningState::Failed,
        (false, None) => ProvisioningState::Succeeded,
    };
    let mut spec = wanted.spec.clone();
    spec.set_auth_mode(wanted.spec.auth_mode());
    spec.traffic = with_idle(&wanted.spec.traffic, wanted.deployments.keys());
    let mut notes = wanted.spec.notes();
    notes.extend(wanted.pending.as_ref().map(|pending| {
        format!(
            "traffic {} comes in force when operation {} has succeeded, and never if it fails",
            pending.split, pending.revision
        )
    }));
    notes.extend(notes_of_draining(books, wanted));
    EndpointView {
        notes,
        spec,
        provisioning_state,
        reason: reason.filter(|_| provisioning_state == ProvisioningState::Failed),
        scoring_uri: None,
        creation_context: wanted.stamp.clone(),
        deployments,
    }
}

/// A sentence for each deployment that was deleted, and whose instances finish what they have.
fn notes_of_draining(books: &Books, wanted: &DesiredEndpoint) -> Vec<String> {
    let mut draining: BTreeMap<&DeploymentName, usize> = BTreeMap::new();
    for one in books.instances.values() {
        let is_gone = one.key.endpoint == wanted.spec.name
            && !wanted.deployments.contains_key(&one.key.deployment);
        if is_gone && one.phase == Phase::Leaving {
            *draining.entry(&one.key.deployment).or_default() += 1;
        }
    }
    let sentence = |(name, count): (&DeploymentName, usize)| match count {
        1 => format!("deployment {name} is deleted and drains: 1 instance finishes its requests"),
        _ => format!(
            "deployment {name} is deleted and drains: {count} instances finish their requests"
        ),
    };
    draining.into_iter().map(sentence).collect()
}

fn view_deployment(books: &Books, key: &Key, wanted: &DesiredDeployment) -> DeploymentView {
    let shown = books.shown_of(key).iter();
    let live: Vec<_> = shown
        .filter_map(|no| Some((*no, books.instances.get(no)?)))
        .collect();
    let provisioning_state = state_of(books, key, wanted);
    let why = || books.why_unready(key, wanted).why;
    let reason = match (provisioning_state, books.failure(key, &wanted.target)) {
        (ProvisioningState::Failed, Some(failure)) => Some(failure.reason.clone()),
        (ProvisioningState::Failed, None) => Some(why()),
        (_, _) => None,
    };
    let mut spec = wanted.target.spec.clone();
    spec.write_instance_count();
    spec.write_scoring(match wanted.target.script {
        Some(_) => ScoringKind::Script,
        None => ScoringKind::Native,
    });
    if let Some(code) = &mut spec.code_configuration {
        code.relative_to = None;
    }
    DeploymentView {
        creation_context: wanted.stamp.clone(),
        model_profile: live.iter().find_map(|(_, one)| one.facts.profile.clone()),
        batching: live.iter().find_map(|(_, one)| words_of_batching(one)),
        notes: notes_of(books, wanted, &live),
        spec,
        provisioning_state,
        reason,
        degraded: None,
        progress: (!provisioning_state.has_ended())
            .then(|| progress_of(books, key, wanted))
            .flatten(),
        effective: effective(&wanted.target, &live, books.cores.total_and_free().0),
        model_digest: wanted.target.model.digest.clone(),
        script: script_of(books, &wanted.target),
        instances_ready: live.len(),
        placements: live
            .iter()
            .filter_map(|(_, one)| one.facts.placement.clone())
            .collect(),
    }
}

fn effective(target: &Target, live: &[Live<'_>], cores: usize) -> EffectiveSettings {
    let settings = target.spec.request_settings();
    let concurrency = settings.max_concurrent_requests_per_instance();
    let timeout = settings.request_timeout();
    let asked = settings.max_batch_size();
    let measured = || {
        let profile = live.iter().find_map(|(_, one)| one.facts.profile.as_ref());
        profile.map(|profile| profile.rows_max(asked))
    };
    let slots = usize::try_from(concurrency).unwrap_or(usize::MAX);
    EffectiveSettings {
        request_timeout_ms: (timeout != Duration::MAX)
            .then(|| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        max_concurrent_requests_per_instance: concurrency,
        max_waiting_requests_per_instance: waiting_max(settings.queueing(), slots, 1),
        max_batch_size: match &target.script {
            Some(_) => Some(1),
            None => measured(),
        },
        max_batch_delay_us: u64::try_from(settings.max_batch_delay().as_micros())
            .unwrap_or(u64::MAX),
        lanes: lane_count(concurrency, settings.lanes(), target.vcpus.min(cores)),
        spin: settings.spin(),
        isolation: settings.isolation(),
        non_finite: settings.non_finite(),
        probes: PROBES,
    }
}

fn script_of(books: &Books, target: &Target) -> Option<ScriptView> {
    let script = target.script.as_ref()?;
    let facts = notes_of_need(books, target).and_then(|notes| notes.environment.as_ref());
    let file = |recipe: &StoredRecipe| recipe.recipe().file().display().to_string();
    Some(ScriptView {
        entry_script: format!("{}/{}", script.folder, script.entry_script),
        code_digest: script.code.clone(),
        python: facts.map(|facts| facts.python.clone()),
        python_version: facts.map(|facts| facts.version.clone()),
        environment: match facts {
            Some(facts) => Some(facts.description.clone()),
            None => script.recipe.as_ref().map(file),
        },
    })
}

/// What is known of the model or the environment of a target, once that is ready.
fn notes_of_need<'a>(books: &'a Books, target: &Target) -> Option<&'a NeedNotes> {
    match books.needs.get(&target.aim().build.need())? {
        NeedBook::Ready(notes) => Some(notes),
        NeedBook::Trying { .. } => None,
    }
}

/// The step that a deployment waits for: of its model or environment, or the instance that starts.
fn progress_of(books: &Books, key: &Key, wanted: &DesiredDeployment) -> Option<String> {
    let aim = wanted.target.aim();
    if let Some(NeedBook::Trying { stage, .. }) = books.needs.get(&aim.build.need()) {
        return stage.clone();
    }
    let own = books.instances.values();
    let own = own.filter(|one| one.key == *key && one.build == aim.build);
    let (starting, others): (Vec<_>, Vec<_>) = own.partition(|one| one.is_starting());
    let next = others
        .iter()
        .filter(|one| one.phase == Phase::Ready)
        .count()
        + 1;
    (!starting.is_empty()).then(|| format!("starting instance {next} of {}", aim.count))
}

/// The way that a deployment has come toward its target.
fn state_of(books: &Books, key: &Key, wanted: &DesiredDeployment) -> ProvisioningState {
    let serves = !books.shown_of(key).is_empty();
    let trouble = books
        .deployments
        .get(key)
        .and_then(|book| book.trouble.as_ref());
    if books.failure(key, &wanted.target).is_some() || (!serves && trouble.is_some()) {
        ProvisioningState::Failed
    } else if books.is_met(key, &wanted.target.aim()) {
        ProvisioningState::Succeeded
    } else if serves {
        ProvisioningState::Updating
    } else {
        ProvisioningState::Creating
    }
}

/// An instance that requests see.
type Live<'a> = (InstanceNo, &'a InstanceBook);

fn notes_of(books: &Books, wanted: &DesiredDeployment, live: &[Live<'_>]) -> Vec<String> {
    let mut notes = wanted.target.spec.notes();
    notes.extend(live.iter().filter_map(|(_, one)| troubled(one)));
    notes.extend(live.iter().find_map(|(_, one)| overcommitted(one)));
    notes.extend(live.iter().find_map(|(_, one)| note_of_pinning(one)));
    notes.extend(live.iter().find_map(|(_, one)| note_of_batching(one)));
    notes.extend(live.iter().find_map(|(_, one)| note_of_training(one)));
    notes.extend(live.iter().find_map(|one| note_of_spinning(books, one)));
    notes.extend(note_of_isolation(books, wanted));
    notes.extend(notes_of_script(&wanted.target));
    notes.extend(notes_of_need(books, &wanted.target).and_then(|ready| ready.note.clone()));
    notes
}

/// What of the environment of a script has no effect, or that a script which the file names does not run.
fn notes_of_script(target: &Target) -> Vec<String> {
    let Some(script) = &target.script else {
        let is_named = matches!(target.spec.scoring(), Scoring::Script(_));
        let words = "code_configuration is kept but not run: the model is scored natively, as an earlier release accepted it; update                      the deployment with its file to run the script";
        return is_named.then(|| words.to_owned()).into_iter().collect();
    };
    let recipe = script.recipe.as_ref().map(StoredRecipe::recipe);
    recipe.map_or_else(Vec::new, |recipe| recipe.notes().to_vec())
}

/// What happened to lanes of an instance that goes on.
fn troubled(one: &InstanceBook) -> Option<String> {
    let troubles = one.facts.troubles.as_ref()?;
    Some(format!("degraded: {troubles}"))
}

/// The death of a server by the model of the target, or by the one that serves until that is ready.
fn note_of_isolation(books: &Books, wanted: &DesiredDeployment) -> Option<String> {
    let targets = std::iter::once(&wanted.target).chain(wanted.last_good.as_deref());
    let native = targets.filter(|target| target.script.is_none());
    let mut deaths = native.filter_map(|target| books.isolated.get(&target.model.digest));
    let death = deaths.next()?;
    Some(format!("isolated, in processes of its own: {death}"))
}

/// The reason why threads do not keep to the cores of their instance.
fn note_of_pinning(one: &InstanceBook) -> Option<String> {
    let placement = one.facts.placement.as_ref()?;
    (!placement.pinned).then(|| placement.pinning.clone())
}

/// The reason why threads do not spin although they were to, or whom they disturb.
fn note_of_spinning(books: &Books, (no, one): &Live<'_>) -> Option<String> {
    let placement = one.facts.placement.as_ref()?;
    let note = match (placement.spin_asked, placement.spinning) {
        (true, false) if placement.intra_op_threads == 1 => {
            "spin has no effect: a lane has one thread"
        }
        (true, false) if !placement.pinned => "spin has no effect: threads are not pinned",
        (true, false) => {
            "spin has no effect: another instance had some of the same cores at the start"
        }
        (_, true) if books.shares_cores(*no) => {
            "spin: another instance has come to the same cores since, and both are slower until this deployment starts anew \
             or spin is turned off"
        }
        _ => return None,
    };
    Some(note.to_owned())
}

/// The split with an entry of 0 for every deployment that has none, as Azure shows it.
fn with_idle<'a>(
    split: &TrafficSplit,
    deployments: impl Iterator<Item = &'a DeploymentName>,
) -> TrafficSplit {
    let idle = deployments.filter(|name| split.entries().iter().all(|(entry, _)| entry != *name));
    let idle = idle.map(|name| (name.clone(), Percent::ZERO));
    TrafficSplit::new(split.entries().iter().cloned().chain(idle).collect())
        .expect("zeros change no sum")
}

/// Whether the requests of an instance share runs, and why.
fn words_of_batching(one: &InstanceBook) -> Option<String> {
    let profile = one.facts.profile.as_ref()?;
    let asked = one.build.batch.size_max;
    if profile.rows_max(asked) > 1 {
        return Some(match (doubt(profile), asked) {
            (None, _) => "requests are joined: rows proven independent".to_owned(),
            (Some(doubt), _) => format!("requests are joined as max_batch_size asks, but {doubt}"),
        });
    }
    let why = match (profile.batching, doubt(profile)) {
        (Batching::FixedRows, _) => "the model fixes the number of rows".to_owned(),
        _ if asked == Some(1) => "max_batch_size is 1".to_owned(),
        (_, Some(doubt)) => doubt,
        (Batching::SlowRun, None) => {
            "one run takes so long that a batch would make its requests wait".to_owned()
        }
        (Batching::Unknown, None) => {
            "the model did not run on inputs made from its shapes; give it a sample request"
                .to_owned()
        }
        (_, None) => "a batch takes as long as its requests one by one".to_owned(),
    };
    Some(format!("not joined: {why}"))
}

/// The reason why the answer for a row may depend on the other rows.
fn doubt(profile: &ModelProfile) -> Option<String> {
    let seen = profile.batching == Batching::RowsDepend;
    match (profile.facts.rows.obstacle(), seen) {
        (Some(obstacle), _) => Some(obstacle.to_string()),
        (None, true) => {
            Some("the answer for a row was seen to change with the other rows".to_owned())
        }
        (None, false) => None,
    }
}

/// What a batch that was asked for does to answers, or why there is none.
fn note_of_batching(one: &InstanceBook) -> Option<String> {
    one.build.batch.size_max.filter(|rows| *rows > 1)?;
    let profile = one.facts.profile.as_ref()?;
    if profile.batching == Batching::FixedRows {
        return Some("max_batch_size has no effect: the model fixes the number of rows".to_owned());
    }
    let doubt = doubt(profile)?;
    Some(format!(
        "max_batch_size joins requests although the answer to one may depend on the others: {doubt}"
    ))
}

/// The operator that computes as in training, and what to do.
fn note_of_training(one: &InstanceBook) -> Option<String> {
    let profile = one.facts.profile.as_ref()?;
    let operator = profile.facts.training.as_ref()?;
    Some(format!("{operator}: export the model for inference"))
}

/// The cores that an instance has got less of than it asked for.
fn overcommitted(one: &InstanceBook) -> Option<String> {
    let placement = one.facts.placement.as_ref()?;
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

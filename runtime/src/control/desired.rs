//! All wishes, and what a change makes of them. Pure.
//!
//! [`Desired::apply`] gives the next state or everything that is wrong with the change; the old state stays as it was. What a
//! change means is decided here once: a model reference is resolved to content, an instance type to vCPUs, so that a restart
//! runs what was accepted, whatever was registered since.
//!
//! The state is stored as JSON; see `store`. Not here: disks, clocks, what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::change::{Change, ChangeError, DeploymentUpdate, EndpointUpdate, KeyType};
use crate::control::models::{ModelDigest, ModelRecord, Models};
use crate::spec::{
    Assignment, AuthMode, DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, ModelName,
    ModelRef, ModelVersion, Percent, SkuTable, SpecError, TrafficSplit, VersionRef,
    apply as apply_set,
};

/// Number of a state of all wishes. Each accepted change makes the next one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All wishes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub(super) endpoints: BTreeMap<EndpointName, WantedEndpoint>,
}

/// An endpoint that shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WantedEndpoint {
    pub(super) spec: EndpointSpec,
    pub(super) generations: Generations,
    pub(super) deployments: BTreeMap<DeploymentName, WantedDeployment>,
}

/// The revisions that made the endpoint's credentials. Numbers never come back, so neither does an old key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Generations {
    pub(super) primary: Revision,
    pub(super) secondary: Revision,
    pub(super) token: Revision,
}

/// A deployment that shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WantedDeployment {
    pub(super) spec: DeploymentSpec,
    pub(super) model: ResolvedModel,
    pub(super) vcpus: usize,
    /// The last change that spoke of it. A failed start is tried again when this moves on.
    pub(super) touched: Revision,
}

/// What deployments were when they last ran, where that is not what they shall be.
pub(super) type Fallbacks = BTreeMap<(EndpointName, DeploymentName), WantedDeployment>;

impl Desired {
    /// Whether the last change of every deployment is known to have succeeded.
    pub(super) fn is_all(&self, succeeded: impl Fn(Revision) -> bool) -> bool {
        let deployments = self
            .endpoints
            .values()
            .flat_map(|one| one.deployments.values());
        deployments.map(|one| one.touched).all(succeeded)
    }

    /// For each deployment whose last change is not known to have succeeded: what it was by the last one that did.
    ///
    /// `history` holds the states of before, newest first. A deployment that was deleted meanwhile begins anew.
    pub(super) fn fallbacks(
        &self,
        history: &[Self],
        succeeded: impl Fn(Revision) -> bool,
    ) -> Fallbacks {
        let mut fallbacks = Fallbacks::new();
        for (endpoint, wanted) in &self.endpoints {
            for (name, one) in &wanted.deployments {
                let before = history
                    .iter()
                    .map_while(|state| state.endpoints.get(endpoint)?.deployments.get(name))
                    .find(|before| succeeded(before.touched));
                if let Some(before) = before.filter(|before| before.touched != one.touched) {
                    fallbacks.insert((endpoint.clone(), name.clone()), before.clone());
                }
            }
        }
        fallbacks
    }
}

/// The content that a model reference meant when the change was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResolvedModel {
    pub(super) digest: ModelDigest,
    /// The registered version; none for a plain path.
    pub(super) registered: Option<(ModelName, ModelVersion)>,
}

/// What a change is judged by, beside the wishes themselves.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) skus: &'a SkuTable,
    pub(super) models: &'a Models,
    /// Plain paths that were copied in for this change.
    pub(super) ingested: &'a BTreeMap<PathBuf, ModelDigest>,
    /// Cores in all, where none may be given twice.
    pub(super) cores_max: Option<usize>,
    /// Deployments without an instance, and why.
    pub(super) unready: &'a BTreeMap<(EndpointName, DeploymentName), String>,
    /// The revision that the change makes.
    pub(super) revision: Revision,
}

/// What came of a change.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) desired: Desired,
    /// The one endpoint that it was about.
    pub(super) endpoint: EndpointName,
}

/// Why there is no next state.
#[derive(Debug)]
pub(super) enum NotApplied {
    Refused(ChangeError),
    /// Copy these models in and apply again.
    Needs(BTreeSet<PathBuf>),
}

impl From<ChangeError> for NotApplied {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error)
    }
}

impl Desired {
    /// The state after `change`.
    pub(super) fn apply(
        &self,
        change: &Change,
        context: &Context<'_>,
    ) -> Result<Applied, NotApplied> {
        let mut desired = self.clone();
        let endpoint = match change {
            Change::CreateEndpoint {
                endpoint,
                deployments,
            } => {
                if let Some(known) = self.endpoints.get(&endpoint.name) {
                    return Err(exists(format!("endpoint {}", known.spec.name)).into());
                }
                let mut draft = Draft::new(endpoint.clone());
                draft.declare(deployments);
                desired.settle(draft, context)?
            }
            Change::DeleteEndpoint { name } => {
                let gone = self.endpoint(name)?.spec.name.clone();
                desired.endpoints.remove(name);
                gone
            }
            Change::DeleteDeployment { endpoint, name } => {
                desired.delete_deployment(endpoint.as_ref(), name)?
            }
            Change::RegenerateKey { endpoint, key } => {
                desired.regenerate(endpoint, *key, context.revision)?
            }
            Change::UpdateEndpoint { name, update } => {
                let mut draft = Draft::of(self.endpoint(name)?);
                draft.update(update)?;
                desired.settle(draft, context)?
            }
            Change::CreateDeployment {
                endpoint,
                deployment,
                all_traffic,
            } => {
                let mut draft = Draft::of(self.endpoint(endpoint)?);
                draft.create(deployment, *all_traffic)?;
                desired.settle(draft, context)?
            }
            Change::UpdateDeployment {
                endpoint,
                name,
                update,
            } => {
                let mut draft = Draft::of(self.endpoint(endpoint)?);
                draft.update_deployment(name, update)?;
                desired.settle(draft, context)?
            }
        };
        Ok(Applied { desired, endpoint })
    }

    /// An endpoint that must exist.
    pub(super) fn endpoint(&self, name: &EndpointName) -> Result<&WantedEndpoint, ChangeError> {
        self.endpoints.get(name).ok_or_else(|| {
            let known = list(self.endpoints.values().map(|one| one.spec.name.as_str()));
            ChangeError::NotFound(match known {
                Some(known) => format!("no endpoint {:?}; there are {known}", name.as_str()),
                None => format!("no endpoint {:?}; none exists yet", name.as_str()),
            })
        })
    }

    /// `endpoint/deployment` of all that run this version.
    pub(super) fn users(&self, record: &ModelRecord) -> Vec<String> {
        let named = |one: &&WantedDeployment| {
            one.model
                .registered
                .as_ref()
                .is_some_and(|(name, version)| *name == record.name && *version == record.version)
        };
        self.endpoints
            .values()
            .flat_map(|endpoint| {
                let users = endpoint.deployments.values().filter(named);
                users.map(|one| format!("{}/{}", endpoint.spec.name, one.spec.name))
            })
            .collect()
    }

    /// Whether a deployment runs this content.
    pub(super) fn runs(&self, digest: &ModelDigest) -> bool {
        self.endpoints
            .values()
            .flat_map(|endpoint| endpoint.deployments.values())
            .any(|one| one.model.digest == *digest)
    }

    fn vcpus(&self) -> usize {
        let count = |one: &WantedDeployment| {
            usize::try_from(one.spec.instance_count()).unwrap_or(usize::MAX)
        };
        self.endpoints
            .values()
            .flat_map(|endpoint| endpoint.deployments.values())
            .fold(0, |sum, one| {
                sum.saturating_add(one.vcpus.saturating_mul(count(one)))
            })
    }

    fn delete_deployment(
        &mut self,
        endpoint: Option<&EndpointName>,
        name: &DeploymentName,
    ) -> Result<EndpointName, ChangeError> {
        let endpoint = match endpoint {
            Some(endpoint) => self.endpoint(endpoint)?.spec.name.clone(),
            None => self.only_owner(name)?,
        };
        let wanted = self
            .endpoints
            .get_mut(&endpoint)
            .expect("it was found just now");
        if !wanted.deployments.contains_key(name) {
            return Err(no_deployment(
                &endpoint,
                name,
                wanted.deployments.values().map(|one| &one.spec),
            ));
        }
        let traffic = &wanted.spec.traffic;
        if traffic.percent_of(name) > Percent::ZERO {
            return Err(ChangeError::Conflict(format!(
                "the deployment {name} has live traffic ({} %) and can't be deleted: scale down its traffic to 0 first, \
                 with `serin endpoint update --name {endpoint} --traffic {}`",
                traffic.percent_of(name),
                without_traffic(name, wanted),
            )));
        }
        wanted.spec.traffic = traffic
            .without(name)
            .expect("an entry without weight changes no sum");
        wanted.deployments.remove(name);
        Ok(endpoint)
    }

    /// The endpoint of a deployment that was named without one.
    fn only_owner(&self, name: &DeploymentName) -> Result<EndpointName, ChangeError> {
        let owners = self
            .endpoints
            .values()
            .filter(|one| one.deployments.contains_key(name));
        let owners: Vec<_> = owners.map(|one| one.spec.name.clone()).collect();
        match owners.as_slice() {
            [owner] => Ok(owner.clone()),
            [] => Err(ChangeError::NotFound(format!(
                "no endpoint has a deployment {:?}",
                name.as_str()
            ))),
            several => {
                let several: Vec<_> = several.iter().map(EndpointName::as_str).collect();
                Err(ChangeError::Conflict(format!(
                    "several endpoints have a deployment {name} ({}): say which one with --name",
                    several.join(", ")
                )))
            }
        }
    }

    fn regenerate(
        &mut self,
        name: &EndpointName,
        key: KeyType,
        revision: Revision,
    ) -> Result<EndpointName, ChangeError> {
        self.endpoint(name)?;
        let wanted = self.endpoints.get_mut(name).expect("it was found just now");
        if wanted.spec.auth_mode() != AuthMode::Key {
            return Err(ChangeError::Conflict(format!(
                "endpoint {} does not use keys for authentication: its auth_mode is aml_token",
                wanted.spec.name
            )));
        }
        match key {
            KeyType::Primary => wanted.generations.primary = revision,
            KeyType::Secondary => wanted.generations.secondary = revision,
        }
        Ok(wanted.spec.name.clone())
    }

    /// Judges a draft as a whole and takes it in.
    fn settle(&mut self, draft: Draft, context: &Context<'_>) -> Result<EndpointName, NotApplied> {
        let name = draft.endpoint.name.clone();
        let before = self.endpoints.remove(&name);
        let vcpus_before = self.vcpus() + before.as_ref().map_or(0, vcpus_of);
        let mut judge = Judge {
            context,
            problems: draft.problems,
            needs: BTreeSet::new(),
        };
        judge.traffic(&draft.endpoint, &draft.deployments, before.as_ref());
        let mut deployments = BTreeMap::new();
        for mut spec in draft.deployments {
            // Which endpoint it is for is decided by the change, whatever the file says.
            spec.endpoint_name = Some(name.clone());
            let touch = draft.touched.get(&spec.name).copied();
            let known = before
                .as_ref()
                .and_then(|one| one.deployments.get(&spec.name));
            if let Some(wanted) = judge.deployment(spec, touch, known) {
                deployments.insert(wanted.spec.name.clone(), wanted);
            }
        }
        let generations = before.map_or(Generations::all(context.revision), |one| one.generations);
        let wanted = WantedEndpoint {
            spec: draft.endpoint,
            generations,
            deployments,
        };
        self.endpoints.insert(name.clone(), wanted);
        judge.cores(vcpus_before, self.vcpus());
        if !judge.problems.is_empty() {
            return Err(ChangeError::Invalid(judge.problems).into());
        }
        if !judge.needs.is_empty() {
            return Err(NotApplied::Needs(judge.needs));
        }
        Ok(name)
    }
}

fn vcpus_of(endpoint: &WantedEndpoint) -> usize {
    let one = Desired {
        endpoints: BTreeMap::from([(endpoint.spec.name.clone(), endpoint.clone())]),
    };
    one.vcpus()
}

impl Generations {
    fn all(revision: Revision) -> Self {
        Self {
            primary: revision,
            secondary: revision,
            token: revision,
        }
    }
}

/// How a change speaks of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    /// Its settings: a model that they do not change stays the content that it is.
    Settings,
    /// By a file: `@latest` and paths are looked up again.
    File,
}

/// An endpoint while a change is worked into it; not judged yet.
#[derive(Debug)]
struct Draft {
    endpoint: EndpointSpec,
    deployments: Vec<DeploymentSpec>,
    /// The deployments that the change speaks of, and whether a file names their model anew.
    touched: BTreeMap<DeploymentName, Touch>,
    problems: Vec<String>,
}

impl Draft {
    fn new(endpoint: EndpointSpec) -> Self {
        Self {
            endpoint,
            deployments: Vec::new(),
            touched: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn of(known: &WantedEndpoint) -> Self {
        let deployments = known
            .deployments
            .values()
            .map(|one| one.spec.clone())
            .collect();
        Self {
            deployments,
            ..Self::new(known.spec.clone())
        }
    }

    fn update(&mut self, update: &EndpointUpdate) -> Result<(), ChangeError> {
        if let Some(mut file) = update.file.clone() {
            // The name that the command gives beats the one in the file.
            file.name = self.endpoint.name.clone();
            self.endpoint.merge(file);
        }
        if let Some(deployments) = &update.deployments {
            self.declare(deployments);
        }
        if let Some((name, update)) = &update.deployment {
            self.update_deployment(name, update)?;
        }
        if let Some(traffic) = &update.traffic {
            self.endpoint.traffic = traffic.clone();
        }
        self.set(&update.set);
        Ok(())
    }

    /// Makes these the deployments, all of them. Entries of the split whose deployment goes, and that have no weight, go too.
    fn declare(&mut self, deployments: &[DeploymentSpec]) {
        let before = std::mem::take(&mut self.deployments);
        for spec in deployments {
            if self.position(&spec.name).is_some() {
                self.problems
                    .push(format!("deployment {} stands there twice", spec.name));
                continue;
            }
            self.touched.insert(spec.name.clone(), Touch::File);
            self.deployments.push(spec.clone());
        }
        for gone in before
            .iter()
            .filter(|one| deployments.iter().all(|other| other.name != one.name))
        {
            // One with weight stays, for the judge to refuse: its traffic would end nowhere.
            let idle = self.endpoint.traffic.percent_of(&gone.name) == Percent::ZERO;
            if let Ok(traffic) = self.endpoint.traffic.without(&gone.name)
                && idle
            {
                self.endpoint.traffic = traffic;
            }
        }
    }

    fn create(
        &mut self,
        deployment: &DeploymentSpec,
        all_traffic: bool,
    ) -> Result<(), ChangeError> {
        if let Some(position) = self.position(&deployment.name) {
            return Err(exists(format!(
                "deployment {}/{}",
                self.endpoint.name, self.deployments[position].name
            )));
        }
        self.touched.insert(deployment.name.clone(), Touch::File);
        self.deployments.push(deployment.clone());
        if all_traffic {
            self.endpoint.traffic = TrafficSplit::all_to(deployment.name.clone());
        }
        Ok(())
    }

    fn update_deployment(
        &mut self,
        name: &DeploymentName,
        update: &DeploymentUpdate,
    ) -> Result<(), ChangeError> {
        let position = match (self.position(name), &update.file) {
            (Some(position), file) => {
                if let Some(mut file) = file.clone() {
                    file.name = self.deployments[position].name.clone();
                    self.deployments[position].merge(file);
                }
                position
            }
            (None, Some(file)) if update.upsert => {
                let mut file = file.clone();
                file.name = name.clone();
                self.deployments.push(file);
                self.deployments.len() - 1
            }
            (None, _) => {
                return Err(no_deployment(
                    &self.endpoint.name,
                    name,
                    self.deployments.iter(),
                ));
            }
        };
        let count = update
            .instance_count
            .map(|count| Assignment::new("instance_count", Value::from(count)));
        let set: Vec<_> = count
            .into_iter()
            .flatten()
            .chain(update.set.iter().cloned())
            .collect();
        let spec = &mut self.deployments[position];
        if !set.is_empty()
            && let Err(error) = spec.set(&set)
        {
            let name = spec.name.clone();
            self.take(&error, &format!("deployment {name}: "));
        }
        let touch = if update.file.is_some() {
            Touch::File
        } else {
            Touch::Settings
        };
        self.touched.insert(name.clone(), touch);
        Ok(())
    }

    fn set(&mut self, set: &[Assignment]) {
        if set.is_empty() {
            return;
        }
        let before = self.deployments.clone();
        if let Err(error) = apply_set(set, &mut self.endpoint, &mut self.deployments) {
            self.take(&error, "");
        }
        let changed = self.deployments.iter().filter(|one| !before.contains(one));
        for one in changed {
            self.touched
                .entry(one.name.clone())
                .or_insert(Touch::Settings);
        }
    }

    fn take(&mut self, error: &SpecError, prefix: &str) {
        self.problems.extend(
            error
                .problems
                .iter()
                .map(|problem| format!("{prefix}{problem}")),
        );
    }

    fn position(&self, name: &DeploymentName) -> Option<usize> {
        self.deployments.iter().position(|one| one.name == *name)
    }
}

/// Collects everything that is wrong with a draft.
#[derive(Debug)]
struct Judge<'a> {
    context: &'a Context<'a>,
    problems: Vec<String>,
    needs: BTreeSet<PathBuf>,
}

impl Judge<'_> {
    /// Azure gives traffic to deployments that exist, and so do we; and none to one that is known not to run.
    fn traffic(
        &mut self,
        endpoint: &EndpointSpec,
        deployments: &[DeploymentSpec],
        before: Option<&WantedEndpoint>,
    ) {
        for (name, percent) in endpoint.traffic.entries() {
            if !deployments.iter().any(|one| one.name == *name) {
                let known = list(deployments.iter().map(|one| one.name.as_str()));
                self.problems.push(format!(
                    "traffic names {:?}, which is not a deployment of endpoint {}; {}",
                    name.as_str(),
                    endpoint.name,
                    known.map_or("it has none yet".to_owned(), |known| format!(
                        "it has {known}"
                    ))
                ));
                continue;
            }
            let share_before =
                before.map_or(Percent::ZERO, |one| one.spec.traffic.percent_of(name));
            let unready = self
                .context
                .unready
                .get(&(endpoint.name.clone(), name.clone()));
            if let Some(why) = unready
                && *percent > share_before
            {
                self.problems.push(format!(
                    "traffic names {name}, which has no ready instance: {why}"
                ));
            }
        }
    }

    fn deployment(
        &mut self,
        spec: DeploymentSpec,
        touch: Option<Touch>,
        known: Option<&WantedDeployment>,
    ) -> Option<WantedDeployment> {
        if let Some(known) = known
            && touch.is_none()
        {
            return Some(known.clone());
        }
        let same_model = known.filter(|known| {
            known.spec.model == spec.model
                && (touch == Some(Touch::Settings) || !moves(&spec.model))
        });
        let model = match same_model {
            Some(known) => Some(known.model.clone()),
            None => self.model(&spec),
        };
        let vcpus = match self.context.skus.find(&spec.instance_type) {
            Ok(sku) => {
                let problems = spec.request_settings().problems(sku.vcpus).into_iter();
                self.problems
                    .extend(problems.map(|problem| format!("deployment {}: {problem}", spec.name)));
                Some(usize::try_from(sku.vcpus).unwrap_or(usize::MAX))
            }
            Err(unknown) => {
                self.problems.push(format!(
                    "deployment {}: instance_type: {unknown}",
                    spec.name
                ));
                None
            }
        };
        Some(WantedDeployment {
            model: model?,
            vcpus: vcpus?,
            spec,
            touched: self.context.revision,
        })
    }

    fn model(&mut self, spec: &DeploymentSpec) -> Option<ResolvedModel> {
        match &spec.model {
            ModelRef::Path(path) => {
                let digest = self.context.ingested.get(path).cloned();
                if digest.is_none() {
                    self.needs.insert(path.clone());
                }
                Some(ResolvedModel {
                    digest: digest?,
                    registered: None,
                })
            }
            ModelRef::Registered { name, version } => {
                let version = match version {
                    VersionRef::Exact(version) => Some(version),
                    VersionRef::Latest => None,
                };
                match self.context.models.find(name, version) {
                    Ok(record) => Some(ResolvedModel {
                        digest: record.digest.clone(),
                        registered: Some((record.name.clone(), record.version.clone())),
                    }),
                    Err(error) => {
                        self.problems
                            .push(format!("deployment {}: model: {error}", spec.name));
                        None
                    }
                }
            }
        }
    }

    fn cores(&mut self, before: usize, after: usize) {
        if let Some(cores_max) = self.context.cores_max
            && after > cores_max
            && after > before
        {
            self.problems.push(format!(
                "not enough cores: all deployments together would ask for {after} vCPUs, {cores_max} cores are there; lower \
                 instance_count, choose a smaller instance_type, or serve with --capacity overcommit"
            ));
        }
    }
}

/// Whether the same reference may mean other content when it is looked up again.
fn moves(model: &ModelRef) -> bool {
    matches!(
        model,
        ModelRef::Path(_)
            | ModelRef::Registered {
                version: VersionRef::Latest,
                ..
            }
    )
}

/// The split that takes the traffic away from `name`, as the user may type it.
fn without_traffic(name: &DeploymentName, endpoint: &WantedEndpoint) -> String {
    let others = endpoint
        .spec
        .traffic
        .entries()
        .iter()
        .filter(|(other, percent)| other != name && *percent > Percent::ZERO);
    let others: Vec<_> = others.map(|(other, _)| other.as_str()).collect();
    let idle = endpoint
        .deployments
        .values()
        .map(|one| one.spec.name.as_str())
        .find(|other| *other != name.as_str());
    match (others.as_slice(), idle) {
        ([only], _) => format!("'{name}:0,{only}:100'"),
        ([], Some(idle)) => format!("'{name}:0,{idle}:100'"),
        ([], None) => format!("'{name}:0'"),
        (several, _) => format!("'{name}:0,{}:..'", several.join(":..,")),
    }
}

fn exists(what: String) -> ChangeError {
    ChangeError::AlreadyExists(format!("{what} exists: update it, or choose another name"))
}

fn no_deployment<'a>(
    endpoint: &EndpointName,
    name: &DeploymentName,
    known: impl Iterator<Item = &'a DeploymentSpec>,
) -> ChangeError {
    let known = list(known.map(|one| one.name.as_str()));
    ChangeError::NotFound(match known {
        Some(known) => format!(
            "endpoint {endpoint} has no deployment {:?}; it has {known}",
            name.as_str()
        ),
        None => format!(
            "endpoint {endpoint} has no deployment {:?}; it has none yet",
            name.as_str()
        ),
    })
}

/// Names in a row; none where there are none.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<_> = names.collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wishes, and what they are judged by.
    #[derive(Debug)]
    struct World {
        desired: Desired,
        models: Models,
        ingested: BTreeMap<PathBuf, ModelDigest>,
        cores_max: Option<usize>,
        unready: BTreeMap<(EndpointName, DeploymentName), String>,
        revision: Revision,
    }

    fn record(name: &str, version: &str) -> ModelRecord {
        ModelRecord {
            name: name.parse().expect("a name"),
            version: version.parse().expect("a version"),
            digest: ModelDigest::for_test(&format!("{name}{version}")),
            size_bytes: 1,
            path: PathBuf::from("/m"),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            created_by: "me".to_owned(),
            without_onnx: None,
        }
    }

    fn endpoint_name(text: &str) -> EndpointName {
        text.parse().expect("a name")
    }

    fn name(text: &str) -> DeploymentName {
        text.parse().expect("a name")
    }

    fn deployment(text: &str, model: &str) -> DeploymentSpec {
        let model = ModelRef::Registered {
            name: "digits".parse().expect("a name"),
            version: if model == "latest" {
                VersionRef::Latest
            } else {
                VersionRef::Exact(model.parse().expect("a version"))
            },
        };
        DeploymentSpec::new(name(text), model, "Standard_F4s_v2")
    }

    fn traffic(split: &str) -> Change {
        update(EndpointUpdate {
            traffic: Some(split.parse().expect("a split")),
            ..EndpointUpdate::default()
        })
    }

    fn update(update: EndpointUpdate) -> Change {
        Change::UpdateEndpoint {
            name: endpoint_name("iris"),
            update,
        }
    }

    fn create(endpoint: &str) -> Change {
        Change::CreateEndpoint {
            endpoint: EndpointSpec::new(endpoint_name(endpoint)),
            deployments: Vec::new(),
        }
    }

    fn add(endpoint: &str, deployment: DeploymentSpec) -> Change {
        Change::CreateDeployment {
            endpoint: endpoint_name(endpoint),
            deployment,
            all_traffic: false,
        }
    }

    fn edit(deployment: &str, update: DeploymentUpdate) -> Change {
        Change::UpdateDeployment {
            endpoint: endpoint_name("iris"),
            name: name(deployment),
            update,
        }
    }

    fn remove(endpoint: Option<&str>, deployment: &str) -> Change {
        Change::DeleteDeployment {
            endpoint: endpoint.map(endpoint_name),
            name: name(deployment),
        }
    }

    fn set(assignments: &[&str]) -> Vec<Assignment> {
        assignments
            .iter()
            .map(|text| text.parse().expect("an assignment"))
            .collect()
    }

    impl World {
        fn empty() -> Self {
            Self {
                desired: Desired::default(),
                models: Models::new(vec![record("digits", "1"), record("digits", "2")]),
                ingested: BTreeMap::new(),
                cores_max: None,
                unready: BTreeMap::new(),
                revision: Revision(0),
            }
        }

        /// `iris` with blue (all traffic) and green.
        fn with_iris() -> Self {
            let mut world = Self::empty();
            for change in [
                create("iris"),
                add("iris", deployment("blue", "1")),
                add("iris", deployment("green", "2")),
                traffic("blue:100"),
            ] {
                world.accept(&change);
            }
            world
        }

        fn apply(&self, change: &Change) -> Result<Applied, NotApplied> {
            let context = Context {
                skus: &SkuTable::builtin(),
                models: &self.models,
                ingested: &self.ingested,
                cores_max: self.cores_max,
                unready: &self.unready,
                revision: self.revision.next(),
            };
            self.desired.apply(change, &context)
        }

        #[track_caller]
        fn accept(&mut self, change: &Change) {
            self.desired = self.apply(change).expect("it is accepted").desired;
            self.revision = self.revision.next();
        }

        #[track_caller]
        fn refuse(&self, change: &Change) -> ChangeError {
            match self.apply(change) {
                Err(NotApplied::Refused(error)) => error,
                other => panic!("expected a refusal, found {other:?}"),
            }
        }

        #[track_caller]
        fn check_refused(&self, change: &Change, message: &str) {
            assert_eq!(self.refuse(change).to_string(), message);
        }

        fn iris(&self) -> &WantedEndpoint {
            &self.desired.endpoints[&endpoint_name("iris")]
        }

        fn blue(&self) -> &WantedDeployment {
            &self.iris().deployments[&name("blue")]
        }
    }

    #[test]
    fn creating_what_exists_is_refused_in_any_case() {
        let world = World::with_iris();
        world.check_refused(
            &create("IRIS"),
            "endpoint iris exists: update it, or choose another name",
        );
        world.check_refused(
            &add("iris", deployment("Blue", "1")),
            "deployment iris/blue exists: update it, or choose another name",
        );
    }

    #[test]
    fn updating_what_does_not_exist_is_refused_with_what_does() {
        let world = World::with_iris();
        world.check_refused(
            &Change::DeleteEndpoint {
                name: endpoint_name("irsi"),
            },
            "no endpoint \"irsi\"; there are iris",
        );
        world.check_refused(
            &edit(
                "red",
                DeploymentUpdate {
                    instance_count: Some(2),
                    ..DeploymentUpdate::default()
                },
            ),
            "endpoint iris has no deployment \"red\"; it has blue, green",
        );
        World::empty().check_refused(
            &traffic("blue:100"),
            "no endpoint \"iris\"; none exists yet",
        );
    }

    #[test]
    fn traffic_to_a_deployment_that_is_not_there_is_refused() {
        World::with_iris().check_refused(
            &traffic("blue:50,red:50"),
            "traffic names \"red\", which is not a deployment of endpoint iris; it has blue, green",
        );
    }

    #[test]
    fn traffic_to_a_deployment_that_failed_to_start_is_refused_but_other_changes_pass() {
        let mut world = World::with_iris();
        world.unready.insert(
            (endpoint_name("iris"), name("green")),
            "the model is empty".to_owned(),
        );
        world.check_refused(
            &traffic("blue:90,green:10"),
            "traffic names green, which has no ready instance: the model is empty",
        );
        world.accept(&edit(
            "blue",
            DeploymentUpdate {
                instance_count: Some(2),
                ..DeploymentUpdate::default()
            },
        ));
    }

    #[test]
    fn a_deployment_with_live_traffic_is_not_deleted() {
        let mut world = World::with_iris();
        let error = world.refuse(&remove(Some("iris"), "blue"));
        assert_eq!(error.kind(), crate::control::ErrorKind::Conflict);
        assert_eq!(
            error.to_string(),
            "the deployment blue has live traffic (100 %) and can't be deleted: scale down its traffic to 0 first, with `serin \
             endpoint update --name iris --traffic 'blue:0,green:100'`"
        );
        world.accept(&traffic("blue:0,green:100"));
        world.accept(&remove(Some("iris"), "blue"));
        assert_eq!(world.iris().spec.traffic.to_string(), "green:100");
    }

    #[test]
    fn a_deployment_named_alone_is_found_when_one_endpoint_has_it() {
        let mut world = World::with_iris();
        world.accept(&remove(None, "green"));
        world.check_refused(
            &remove(None, "green"),
            "no endpoint has a deployment \"green\"",
        );
        world.accept(&create("wine"));
        world.accept(&add("wine", deployment("blue", "1")));
        world.check_refused(
            &remove(None, "blue"),
            "several endpoints have a deployment blue (iris, wine): say which one with --name",
        );
    }

    #[test]
    fn all_problems_of_a_change_come_at_once() {
        let mut odd = deployment("red", "7");
        odd.instance_type = "Standard_F4s_v".to_owned();
        let change = update(EndpointUpdate {
            deployment: Some((
                name("red"),
                DeploymentUpdate {
                    file: Some(odd),
                    upsert: true,
                    ..DeploymentUpdate::default()
                },
            )),
            traffic: Some("pink:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        });
        let error = World::with_iris().refuse(&change);
        assert_eq!(error.details().len(), 3, "{error}");
        assert!(
            error
                .to_string()
                .contains("model digits has no version \"7\"; it has 1, 2"),
            "{error}"
        );
    }

    #[test]
    fn the_bounds_of_a_count_hold_for_every_way_to_set_it() {
        let world = World::with_iris();
        for change in [
            edit(
                "blue",
                DeploymentUpdate {
                    instance_count: Some(0),
                    ..DeploymentUpdate::default()
                },
            ),
            edit(
                "blue",
                DeploymentUpdate {
                    set: set(&["instance_count=51"]),
                    ..DeploymentUpdate::default()
                },
            ),
            update(EndpointUpdate {
                set: set(&["deployments.blue.scale.instance_count=99"]),
                ..EndpointUpdate::default()
            }),
        ] {
            assert_eq!(
                world.refuse(&change).kind(),
                crate::control::ErrorKind::Invalid
            );
        }
    }

    #[test]
    fn the_generic_set_reaches_any_attribute_and_touches_only_what_it_changes() {
        let mut world = World::with_iris();
        let before = world.iris().deployments[&name("green")].clone();
        world.accept(&update(EndpointUpdate {
            set: set(&["deployments.blue.scale.instance_count=5"]),
            ..EndpointUpdate::default()
        }));
        assert_eq!(world.blue().spec.instance_count(), 5);
        assert_eq!(world.blue().touched, world.revision);
        assert_eq!(world.iris().deployments[&name("green")], before);
    }

    #[test]
    fn deployments_that_disappear_from_a_declaring_file_are_deleted() {
        let mut world = World::with_iris();
        world.accept(&update(EndpointUpdate {
            deployments: Some(vec![deployment("green", "2")]),
            traffic: Some("green:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        }));
        assert_eq!(
            world
                .iris()
                .deployments
                .keys()
                .map(DeploymentName::as_str)
                .collect::<Vec<_>>(),
            ["green"]
        );
        world.check_refused(
            &update(EndpointUpdate {
                deployments: Some(Vec::new()),
                ..EndpointUpdate::default()
            }),
            "traffic names \"green\", which is not a deployment of endpoint iris; it has none yet",
        );
    }

    #[test]
    fn an_upsert_makes_a_deployment_or_updates_it_in_place() {
        let mut world = World::with_iris();
        let upsert = |version| DeploymentUpdate {
            file: Some(deployment("red", version)),
            upsert: true,
            ..DeploymentUpdate::default()
        };
        world.accept(&edit("red", upsert("1")));
        world.accept(&edit("red", upsert("2")));
        assert_eq!(
            world.iris().deployments[&name("red")].model.digest,
            ModelDigest::for_test("digits2")
        );
    }

    #[test]
    fn the_latest_version_is_looked_up_when_a_file_names_it_and_stays_through_other_updates() {
        let mut world = World::with_iris();
        world.accept(&add("iris", deployment("red", "latest")));
        world.models.insert(record("digits", "10"));
        world.accept(&edit(
            "red",
            DeploymentUpdate {
                instance_count: Some(2),
                ..DeploymentUpdate::default()
            },
        ));
        let digest = |world: &World| world.iris().deployments[&name("red")].model.digest.clone();
        assert_eq!(digest(&world), ModelDigest::for_test("digits2"));
        world.accept(&edit(
            "red",
            DeploymentUpdate {
                file: Some(deployment("red", "latest")),
                ..DeploymentUpdate::default()
            },
        ));
        assert_eq!(digest(&world), ModelDigest::for_test("digits10"));
    }

    #[test]
    fn a_plain_path_is_asked_for_once_and_then_used() {
        let mut world = World::with_iris();
        let spec = DeploymentSpec::new(
            name("red"),
            ModelRef::Path("/m/a.onnx".into()),
            "Standard_F4s_v2",
        );
        let change = add("iris", spec);
        match world.apply(&change) {
            Err(NotApplied::Needs(paths)) => {
                assert_eq!(paths, BTreeSet::from([PathBuf::from("/m/a.onnx")]));
            }
            other => panic!("expected a path, found {other:?}"),
        }
        world
            .ingested
            .insert("/m/a.onnx".into(), ModelDigest::for_test("a"));
        world.accept(&change);
        world.ingested.clear();
        world.accept(&edit(
            "red",
            DeploymentUpdate {
                instance_count: Some(2),
                ..DeploymentUpdate::default()
            },
        ));
    }

    #[test]
    fn lanes_are_judged_by_what_the_deployment_becomes() {
        let mut world = World::with_iris();
        let edit_blue = |assignments: &[&str]| {
            edit(
                "blue",
                DeploymentUpdate {
                    set: set(assignments),
                    ..DeploymentUpdate::default()
                },
            )
        };
        world.check_refused(
            &edit_blue(&["request_settings.lanes=8"]),
            "deployment blue: request_settings.lanes: expected at most 1, which is max_concurrent_requests_per_instance, found \
             8: a lane beyond would never have a request\n\
             deployment blue: request_settings.lanes: expected at most 4, the vCPUs of the instance type, found 8: lower lanes, \
             or choose a larger instance_type",
        );
        world.accept(&edit_blue(&[
            "request_settings.lanes=4",
            "request_settings.max_concurrent_requests_per_instance=16",
        ]));
        assert_eq!(world.blue().spec.request_settings().lanes(), Some(4));
        // Each setting is right by itself; together with what was said before they are not.
        world.check_refused(
            &edit_blue(&["request_settings.max_concurrent_requests_per_instance=2"]),
            "deployment blue: request_settings.lanes: expected at most 2, which is max_concurrent_requests_per_instance, found \
             4: a lane beyond would never have a request",
        );
        world.check_refused(
            &edit_blue(&["request_settings.max_batch_delay_us=6000", "request_settings.request_timeout_ms=5"]),
            "deployment blue: request_settings.max_batch_delay_us: expected less than request_timeout_ms, which is 5, found 6000 \
             us: every request would time out",
        );
    }

    #[test]
    fn strict_capacity_refuses_more_vcpus_than_cores_and_lets_the_rest_pass() {
        let mut world = World::with_iris();
        world.cores_max = Some(8);
        let count = |count| {
            edit(
                "blue",
                DeploymentUpdate {
                    instance_count: Some(count),
                    ..DeploymentUpdate::default()
                },
            )
        };
        world.check_refused(
            &count(2),
            "not enough cores: all deployments together would ask for 12 vCPUs, 8 cores are there; lower instance_count, choose \
             a smaller instance_type, or serve with --capacity overcommit",
        );
        world.accept(&traffic("blue:90,green:10"));
    }

    #[test]
    fn a_regenerated_key_has_a_generation_that_never_was() {
        let mut world = World::with_iris();
        let before = world.iris().generations;
        world.accept(&Change::RegenerateKey {
            endpoint: endpoint_name("iris"),
            key: KeyType::Primary,
        });
        let after = world.iris().generations;
        assert_eq!(
            (after.primary, after.secondary),
            (world.revision, before.secondary)
        );
        world.accept(&update(EndpointUpdate {
            set: set(&["auth_mode=aml_token"]),
            ..EndpointUpdate::default()
        }));
        world.check_refused(
            &Change::RegenerateKey {
                endpoint: endpoint_name("iris"),
                key: KeyType::Primary,
            },
            "endpoint iris does not use keys for authentication: its auth_mode is aml_token",
        );
    }

    #[test]
    fn wishes_survive_json() {
        let desired = World::with_iris().desired;
        let text = serde_json::to_string(&desired).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Desired>(&text).expect("wishes"),
            desired
        );
    }
}

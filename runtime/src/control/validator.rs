//! The checks of a pending change: all that is wrong with it at once. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::control::desired::{
    DesiredDeployment, DesiredEndpoint, Generation, ResolvedModel, Target,
};
use crate::control::models::{Ingested, ModelStoreError, Models};
use crate::control::pending_change::{PendingChange, Touch};
use crate::control::refusal::ChangeError;
use crate::control::refusal::NotApplied;
use crate::control::revision::Revision;
use crate::control::split_rule;
use crate::spec::{
    DeploymentName, DeploymentSpec, EndpointName, ModelRef, SkuTable, TrafficSplit, VersionRef,
};

/// The reason why a deployment cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unready {
    pub(super) why: String,
    /// Whether something is being done about it.
    pub(super) starting: bool,
}

/// Deployments without a ready instance.
pub(super) type UnreadyDeployments = BTreeMap<(EndpointName, DeploymentName), Unready>;

/// All that a change is judged by, beside the desired state itself.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) skus: &'a SkuTable,
    pub(super) models: &'a Models,
    /// Plain paths that were copied in for this change.
    pub(super) ingested: &'a BTreeMap<PathBuf, Ingested>,
    /// Cores in all, where none may be given twice.
    pub(super) cores_max: Option<usize>,
    pub(super) unready: &'a UnreadyDeployments,
    /// The revision that the change makes.
    pub(super) revision: Revision,
    /// The generation of credentials that the change makes.
    pub(super) generation: Generation,
}

impl Context<'_> {
    /// Whether a deployment failed before it ever was ready, and nothing is being done about it.
    pub(super) fn never_ready(&self, endpoint: &DesiredEndpoint, name: &DeploymentName) -> bool {
        let unready = self
            .unready
            .get(&(endpoint.spec.name.clone(), name.clone()));
        let known = endpoint.deployments.get(name);
        known.is_some_and(|known| known.last_good.is_none())
            && unready.is_some_and(|unready| !unready.starting)
    }
}

/// Collects everything that is wrong with a pending change.
#[derive(Debug)]
pub(super) struct Validator<'a> {
    context: &'a Context<'a>,
    problems: Vec<String>,
    /// What does not fit the present state.
    early: Vec<String>,
    needs: BTreeSet<PathBuf>,
}

impl<'a> Validator<'a> {
    pub(super) fn new(context: &'a Context<'a>, problems: Vec<String>) -> Self {
        Self {
            context,
            problems,
            early: Vec::new(),
            needs: BTreeSet::new(),
        }
    }

    /// Every deployment that gets traffic must be able to answer, now or when this change has started it.
    pub(super) fn traffic(
        &mut self,
        change: &PendingChange,
        starts: impl Fn(&DeploymentName) -> bool,
        before: Option<&DesiredEndpoint>,
    ) {
        let name = &change.endpoint.name;
        let nothing = TrafficSplit::default();
        let in_force = before.map_or(&nothing, |one| &one.spec.traffic);
        let unready = |deployment: &DeploymentName| {
            if starts(deployment) {
                return None;
            }
            let key = (name.clone(), deployment.clone());
            Some(self.context.unready.get(&key)?.why.clone())
        };
        let known = change.deployments.iter().map(|one| &one.name);
        let split = &change.endpoint.traffic;
        let problems = split_rule::problems(name, split, in_force, known, unready);
        self.problems.extend(problems.wrong);
        self.early.extend(problems.early);
    }

    /// What is written for people is stored again with every revision. What was longer before there was a bound may stay.
    pub(super) fn sizes(&mut self, change: &PendingChange, before: Option<&DesiredEndpoint>) {
        let known = before.map(|before| &before.spec);
        self.problems
            .extend(change.endpoint.problems_of_size(known));
        for spec in &change.deployments {
            let known = before.and_then(|before| before.deployments.get(&spec.name));
            let problems = spec.problems_of_size(known.map(|known| &known.target.spec));
            let problems = problems.into_iter();
            self.problems
                .extend(problems.map(|problem| format!("deployment {}: {problem}", spec.name)));
        }
    }

    pub(super) fn deployment(
        &mut self,
        spec: DeploymentSpec,
        touch: Option<Touch>,
        known: Option<&DesiredDeployment>,
    ) -> Option<DesiredDeployment> {
        if let Some(known) = known
            && touch.is_none()
        {
            return Some(known.clone());
        }
        let same_model = known.map(|known| &known.target).filter(|known| {
            known.spec.model == spec.model
                && (touch == Some(Touch::Settings) || !moves(&spec.model))
        });
        let model = match same_model {
            Some(known) => Some(known.model.clone()),
            None => self.model(&spec),
        };
        let size = self.size(&spec);
        let (vcpus, memory_mib) = size?;
        let target = Target {
            model: model?,
            vcpus,
            memory_mib,
            spec,
            touched: self.context.revision,
        };
        Some(match known {
            Some(known) => known.with_target(target),
            None => DesiredDeployment {
                target,
                last_good: None,
            },
        })
    }

    /// Virtual CPUs and MiB of memory of the instance type.
    fn size(&mut self, spec: &DeploymentSpec) -> Option<(usize, u64)> {
        match self.context.skus.find(&spec.instance_type) {
            Ok(sku) => {
                let problems = spec.request_settings().problems(sku.vcpus).into_iter();
                self.problems
                    .extend(problems.map(|problem| format!("deployment {}: {problem}", spec.name)));
                let vcpus = usize::try_from(sku.vcpus).unwrap_or(usize::MAX);
                Some((vcpus, sku.memory_mib))
            }
            Err(unknown) => {
                self.problems.push(format!(
                    "deployment {}: instance_type: {unknown}",
                    spec.name
                ));
                None
            }
        }
    }

    fn model(&mut self, spec: &DeploymentSpec) -> Option<ResolvedModel> {
        let found = match &spec.model {
            ModelRef::Path(path) => {
                let Some(ingested) = self.context.ingested.get(path) else {
                    self.needs.insert(path.clone());
                    return None;
                };
                native(path, ingested)
            }
            ModelRef::Registered { name, version } => {
                let version = match version {
                    VersionRef::Exact(version) => Some(version),
                    VersionRef::Latest => None,
                };
                let record = self.context.models.find(name, version);
                record.and_then(|record| {
                    record.require_onnx()?;
                    Ok(ResolvedModel {
                        digest: record.digest.clone(),
                        registered: Some((record.name.clone(), record.version.clone())),
                    })
                })
            }
        };
        match found {
            Ok(model) => Some(model),
            Err(error) => {
                self.problems
                    .push(format!("deployment {}: model: {error}", spec.name));
                None
            }
        }
    }

    pub(super) fn cores(&mut self, before: usize, after: usize) {
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

    /// All problems, else the models that must be copied in first.
    pub(super) fn outcome(self) -> Result<(), NotApplied> {
        if !self.problems.is_empty() {
            let problems = [self.problems, self.early].concat();
            return Err(ChangeError::Invalid(problems).into());
        }
        if !self.early.is_empty() {
            return Err(ChangeError::Conflict(self.early.join("\n")).into());
        }
        if !self.needs.is_empty() {
            return Err(NotApplied::Needs(self.needs));
        }
        Ok(())
    }
}

/// A model given by path, if it can be scored without a script.
fn native(path: &Path, ingested: &Ingested) -> Result<ResolvedModel, ModelStoreError> {
    match &ingested.without_onnx {
        Some(found) => Err(ModelStoreError::NoOnnxFile {
            model: path.display().to_string(),
            found: found.clone(),
        }),
        None => Ok(ResolvedModel {
            digest: ingested.digest.clone(),
            registered: None,
        }),
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

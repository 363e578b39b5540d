//! The checks of a pending change: all that is wrong with it at once. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::control::desired::{
    Desired, DesiredDeployment, DesiredEndpoint, Generation, ResolvedModel, Stamp, Target,
};
use crate::control::gathering::{Gathered, GatheredScript};
use crate::control::models::{Ingested, ModelDigest, ModelRecord, ModelStoreError, Models, Mount};
use crate::control::needs::{Needs, ScriptSource};
use crate::control::pending_change::{PendingChange, Touch};
use crate::control::refusal::ChangeError;
use crate::control::refusal::NotApplied;
use crate::control::revision::Revision;
use crate::control::script::ResolvedScript;
use crate::control::split_rule;
use crate::spec::{
    CodeConfiguration, DeploymentName, DeploymentSpec, EndpointName, ModelRef, Percent, Scoring,
    SkuTable, TrafficSplit, VersionRef,
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

/// The state as of an earlier revision.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) desired: Desired,
    /// Content that it names and that is kept no more.
    pub(super) gone: BTreeSet<ModelDigest>,
}

/// All that a change is judged by, beside the desired state itself.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) skus: &'a SkuTable,
    pub(super) models: &'a Models,
    /// The files that were gathered for this change.
    pub(super) gathered: &'a Gathered,
    /// Cores in all, where none may be given twice.
    pub(super) cores_max: Option<usize>,
    pub(super) unready: &'a UnreadyDeployments,
    /// The revision that the change makes.
    pub(super) revision: Revision,
    /// Who asks, and when; nothing in a program.
    pub(super) stamp: Option<&'a Stamp>,
    /// The state that the change asks to have back.
    pub(super) past: Option<&'a Past>,
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
    needs: Needs,
}

impl<'a> Validator<'a> {
    pub(super) fn new(context: &'a Context<'a>, problems: Vec<String>) -> Self {
        Self {
            context,
            problems,
            early: Vec::new(),
            needs: Needs::default(),
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
        self.mirror(change, before);
    }

    /// A deployment that is to get copies must be there when that is asked for.
    fn mirror(&mut self, change: &PendingChange, before: Option<&DesiredEndpoint>) {
        let endpoint = &change.endpoint;
        let known = |name: &DeploymentName| change.deployments.iter().any(|one| one.name == *name);
        let mirrored = endpoint.mirrored();
        let was_mirrored = before.and_then(|before| before.spec.mirrored());
        let own = endpoint.shadow_traffic.keys();
        let named = mirrored.iter().map(|name| ("mirror_traffic", name));
        let named = named.chain(own.map(|name| ("shadow_traffic", name)));
        let is_old = |name: &DeploymentName| {
            let before = before.map(|before| &before.spec.shadow_traffic);
            was_mirrored.as_ref() == Some(name) || before.is_some_and(|own| own.contains_key(name))
        };
        for (key, name) in named.filter(|(_, name)| !known(name) && !is_old(name)) {
            self.problems.push(format!(
                "{key} names {:?}, which is not a deployment of endpoint {}",
                name.as_str(),
                endpoint.name
            ));
        }
        let Some(name) = mirrored else {
            return;
        };
        if endpoint.shadow_traffic.contains_key(&name) {
            self.problems.push(format!(
                "{name} stands in mirror_traffic and in shadow_traffic: take it out of one"
            ));
        }
        let share = endpoint.traffic.percent_of(&name);
        let share_before = before.map(|before| before.spec.traffic.percent_of(&name));
        let is_new = was_mirrored != Some(name.clone()) || share_before != Some(share);
        if share > Percent::ZERO && is_new {
            self.problems.push(format!(
                "{name} has live traffic ({share} %) and stands in mirror_traffic: a deployment gets requests or copies of them; take it \
                 out with `--mirror-traffic {name}=0`, or write it as shadow_traffic"
            ));
        }
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
        let before = known.map(|known| &known.target);
        let script = self.script(&spec, touch, before);
        let runs_script = !matches!(script, Some(None));
        let same_model = before.filter(|known| {
            known.spec.model == spec.model
                && (touch == Some(Touch::Settings) || !moves(&spec.model))
                // What a script ran may hold no ONNX file.
                && (known.script.is_none() || runs_script)
        });
        let model = match same_model {
            Some(known) => Some(known.model.clone()),
            None => self.model(&spec, runs_script),
        };
        let size = self.size(&spec);
        let (vcpus, memory_mib) = size?;
        let mut model = model?;
        if runs_script && model.mount.is_none() {
            model.mount = self.mount(&spec.model, &model);
        }
        let target = Target {
            model,
            script: script?,
            vcpus,
            memory_mib,
            spec,
            touched: self.context.revision,
        };
        let stamp = Stamp::after(
            known.and_then(|known| known.stamp.as_ref()),
            self.context.stamp,
        );
        Some(match known {
            Some(known) => DesiredDeployment {
                stamp,
                ..known.with_target(target)
            },
            None => DesiredDeployment {
                target,
                last_good: None,
                stamp,
            },
        })
    }

    /// Virtual CPUs and MiB of memory of the instance type.
    fn size(&mut self, spec: &DeploymentSpec) -> Option<(usize, u64)> {
        match self.context.skus.find(&spec.instance_type) {
            Ok(sku) => {
                let problems = spec.problems(sku.vcpus).into_iter();
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

    /// The script that scores, or that none does; nothing with problems, or where its files are needed first.
    fn script(
        &mut self,
        spec: &DeploymentSpec,
        touch: Option<Touch>,
        before: Option<&Target>,
    ) -> Option<Option<ResolvedScript>> {
        let problems = spec.problems_of_scoring();
        let Scoring::Script(code) = spec.scoring() else {
            return Some(None);
        };
        if !problems.is_empty() {
            self.take(spec, problems);
            return None;
        }
        // One that is native although its file names a script was accepted by an earlier release; its next file runs it.
        let same = before
            .filter(|known| touch == Some(Touch::Settings) && is_same_script(&known.spec, spec));
        if let Some(known) = same {
            return Some(known.script.clone().map(|script| ResolvedScript {
                variables: spec.variables(),
                ..script
            }));
        }
        let source = ScriptSource {
            code: code.code.clone().unwrap_or_default(),
            environment: spec.environment(),
            any_python: spec.any_python(),
        };
        match self.context.gathered.script(&source) {
            None => {
                if !self.needs.scripts.contains(&source) {
                    self.needs.scripts.push(source);
                }
                None
            }
            Some(Ok(gathered)) => match resolved(spec, code, gathered) {
                Ok(script) => Some(Some(script)),
                Err(problem) => {
                    self.take(spec, vec![problem]);
                    None
                }
            },
            Some(Err(problems)) => {
                self.take(spec, problems.clone());
                None
            }
        }
    }

    fn take(&mut self, spec: &DeploymentSpec, problems: Vec<String>) {
        let problems = problems.into_iter();
        self.problems
            .extend(problems.map(|problem| format!("deployment {}: {problem}", spec.name)));
    }

    /// The name under which a script sees a model that was resolved for none.
    fn mount(&self, written: &ModelRef, model: &ResolvedModel) -> Option<Mount> {
        match (written, &model.registered) {
            (ModelRef::Path(path), None) => Some(Mount::of(path, None)),
            (_, registered) => {
                let (name, version) = registered.as_ref()?;
                let record = self.context.models.find(name, Some(version)).ok()?;
                Some(mount_of(record))
            }
        }
    }

    fn model(&mut self, spec: &DeploymentSpec, runs_script: bool) -> Option<ResolvedModel> {
        let found = match &spec.model {
            ModelRef::Path(path) => {
                let Some(ingested) = self.context.gathered.models.get(path) else {
                    self.needs.models.insert(path.clone());
                    return None;
                };
                match runs_script {
                    true => Ok(ResolvedModel {
                        digest: ingested.digest.clone(),
                        registered: None,
                        mount: Some(Mount::of(path, ingested.is_folder)),
                    }),
                    false => native(path, ingested),
                }
            }
            ModelRef::Registered { name, version } => {
                let version = match version {
                    VersionRef::Exact(version) => Some(version),
                    VersionRef::Latest => None,
                };
                let record = self.context.models.find(name, version);
                record.and_then(|record| {
                    if !runs_script {
                        record.require_onnx()?;
                    }
                    Ok(ResolvedModel {
                        digest: record.digest.clone(),
                        registered: Some((record.name.clone(), record.version.clone())),
                        mount: runs_script.then(|| mount_of(record)),
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

    /// Asks for the content of a target of an earlier revision, where it is kept no more: a file may have it still.
    pub(super) fn content_of(
        &mut self,
        target: &Target,
        (gone, to): (&BTreeSet<ModelDigest>, Revision),
    ) {
        let name = &target.spec.name;
        let (model, script) = (&target.model.digest, target.script.as_ref());
        let code_is_gone = script.is_some_and(|script| gone.contains(&script.code));
        let model_is_gone = gone.contains(model)
            && match &target.spec.model {
                ModelRef::Registered { .. } => true,
                ModelRef::Path(path) => match self.context.gathered.models.get(path) {
                    Some(found) => found.digest != *model,
                    None => {
                        self.needs.models.insert(path.clone());
                        false
                    }
                },
            };
        for (what, is_gone) in [("model", model_is_gone), ("code", code_is_gone)] {
            if is_gone {
                self.problems.push(format!(
                    "deployment {name}: the files of its {what} as of revision {to} are kept no more; a registered model \
                     (`serin model create`) is kept until it is deleted"
                ));
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
                 instance_count, choose a smaller instance_type, or let instances share cores (capacity `overcommit`)"
            ));
        }
    }

    /// All problems, else the files that must be gathered first.
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
            mount: None,
        }),
    }
}

fn mount_of(record: &ModelRecord) -> Mount {
    Mount::of(&record.path, record.is_folder)
}

/// Whether two specs name the same files of a script. What these hold is looked at again when a file names them.
fn is_same_script(one: &DeploymentSpec, other: &DeploymentSpec) -> bool {
    one.scoring() == other.scoring()
        && one.environment() == other.environment()
        && one.any_python() == other.any_python()
}

/// The script among the files that were gathered, or a sentence that says where it was looked for.
fn resolved(
    spec: &DeploymentSpec,
    code: &CodeConfiguration,
    gathered: &GatheredScript,
) -> Result<ResolvedScript, String> {
    let folder = code.code.as_deref().unwrap_or(Path::new(""));
    let places = code.places();
    let entry_script = places.iter().find(|place| gathered.files.contains(*place));
    let Some(entry_script) = entry_script else {
        let looked: Vec<_> = places
            .iter()
            .map(|place| folder.join(place).display().to_string())
            .collect();
        return Err(format!(
            "code_configuration.scoring_script: no such file: looked for {}",
            looked.join(" and ")
        ));
    };
    Ok(ResolvedScript {
        code: gathered.code.clone(),
        folder: gathered.folder.clone(),
        entry_script: entry_script.clone(),
        recipe: gathered.recipe.clone(),
        variables: spec.variables(),
    })
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

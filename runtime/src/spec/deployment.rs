//! A deployment as it is written: a model, how many instances of what size, and how they take requests.
//!
//! The canonical form is the current (v2) form of Azure's files, and two keys of serin's own: `scoring` and `environment_python`. What
//! serin keeps without acting upon it is told by [`DeploymentSpec::notes`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use serin_scorers::NonFinite;

use super::assignment::{Assignment, assign_to_deployment};
use super::code::{CodeConfiguration, read_code};
use super::fields::{Fields, one_of, parsed, text, texts, whole, yes_or_no};
use super::kept::{Kept, Shape, kept_notes, read_kept};
use super::model_ref::read_model_type;
use super::node::{Content, Node};
use super::paths::{expanded, is_asset, resolve, resolve_value};
use super::request::beyond;
use super::sku::{KUBERNETES_DEFAULT, note_of_gpus, note_of_kubernetes};
use super::spelling::{self, modernise, old_keys};
use super::{
    DeploymentName, EndpointName, EnvironmentPython, Isolation, ModelName, ModelRef, ModelVersion,
    Problem, RequestSettings, Scoring, ScoringKind, SpecError, VersionRef,
};
#[cfg(feature = "server")]
use super::{batch, placeholder, yaml};
use crate::config::{
    BATCH_DELAY_MAX, BATCH_SIZE_MAX, CONCURRENCY_MAX, INSTANCE_COUNT_MAX, REQUEST_TIMEOUT_MAX,
    WAITING_MAX,
};

/// Keys that are kept without being understood, and the shape that each must have.
pub(super) const KEPT: &Kept = &[
    ("app_insights_enabled", Shape::Bool),
    ("data_collector", Shape::Map),
    ("egress_public_network_access", Shape::Text),
    ("environment", Shape::TextOrMap),
    ("environment_variables", Shape::Map),
    ("identity", Shape::Map),
    ("liveness_probe", Shape::Map),
    ("model_mount_path", Shape::Text),
    ("private_network_connection", Shape::Bool),
    ("readiness_probe", Shape::Map),
    ("resource_requirements", Shape::Map),
    ("resources", Shape::Map),
    ("startup_probe", Shape::Map),
];

/// Keys of a model in a deployment's file that say nothing to serin.
pub(super) const IGNORED_OF_MODELS: &[&str] = &[
    "description",
    "flavors",
    "job_name",
    "properties",
    "stage",
    "tags",
];

/// Of the keys that are kept those that a script is run by.
const OF_SCRIPTS: &[&str] = &["environment", "environment_variables"];

/// Keys that Azure writes into its answers and drops from what it reads.
pub(super) const READ_ONLY: &[&str] = &[
    "$schema",
    "id",
    "creation_context",
    "location",
    "provisioning_state",
];

/// Words for a deployment that is to scale by itself, without case and `_`.
const SCALES_ITSELF: &[&str] = &["auto", "automatic", "targetutilization"];

/// Bounds of the number of instances. Kept and shown; serin does not scale by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScaleBounds {
    /// The fewest instances.
    pub min_instances: Option<u32>,
    /// The most instances.
    pub max_instances: Option<u32>,
    /// How it was to scale by itself, if it was.
    utilization: Option<Utilization>,
}

/// The settings of a deployment that is to scale by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Utilization {
    polling_interval: Option<u32>,
    target_utilization_percentage: Option<u32>,
}

impl ScaleBounds {
    fn is_unwritten(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for ScaleBounds {
    /// As `scale_settings`, where Azure has these bounds for a deployment that scales by itself.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match self.utilization {
            Some(_) => "target_utilization",
            None => "default",
        };
        let polling = self.utilization.and_then(|how| how.polling_interval);
        let target = self
            .utilization
            .and_then(|how| how.target_utilization_percentage);
        let bounds = [
            ("min_instances", self.min_instances.map(Value::from)),
            ("max_instances", self.max_instances.map(Value::from)),
            ("polling_interval", polling.map(Value::from)),
            ("target_utilization_percentage", target.map(Value::from)),
        ];
        let written = bounds
            .into_iter()
            .filter_map(|(key, bound)| Some((key, bound?)));
        serializer.collect_map([("type", Value::from(kind))].into_iter().chain(written))
    }
}

/// A deployment as it was written.
///
/// Serialises to the canonical form, the current form of Azure's files, with only what was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeploymentSpec {
    /// The name, unique within its endpoint.
    pub name: DeploymentName,
    /// The endpoint that the file names, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_name: Option<EndpointName>,
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Tags for people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Properties for people and programs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// The model that scores.
    pub model: ModelRef,
    /// The SKU of each instance, as written; [`SkuTable::find`](super::SkuTable::find) knows it.
    pub instance_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_count: Option<u32>,
    #[serde(skip_serializing_if = "RequestSettings::is_unwritten")]
    request_settings: RequestSettings,
    /// Bounds of the number of instances, kept.
    #[serde(
        rename = "scale_settings",
        skip_serializing_if = "ScaleBounds::is_unwritten"
    )]
    pub scale_bounds: ScaleBounds,
    /// The scoring script and its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_configuration: Option<CodeConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scoring: Option<ScoringKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_python: Option<EnvironmentPython>,
    /// The name and version of a model that the file has by its path; never stored.
    #[serde(skip)]
    registers: Option<(ModelName, ModelVersion)>,
    /// Other settings of Azure's form that are kept and not acted upon, by their key.
    #[serde(flatten)]
    pub kept: BTreeMap<String, Value>,
}

impl DeploymentSpec {
    /// A deployment with nothing said beyond what is required.
    #[must_use]
    pub fn new(name: DeploymentName, model: ModelRef, instance_type: &str) -> Self {
        Self {
            name,
            endpoint_name: None,
            description: None,
            tags: BTreeMap::new(),
            properties: BTreeMap::new(),
            model,
            instance_type: instance_type.to_owned(),
            instance_count: None,
            request_settings: RequestSettings::default(),
            scale_bounds: ScaleBounds::default(),
            code_configuration: None,
            scoring: None,
            environment_python: None,
            registers: None,
            kept: BTreeMap::new(),
        }
    }

    /// The number of instances. Where nothing is written 1, or the fewest of a deployment that was to scale by itself.
    #[must_use]
    pub fn instance_count(&self) -> u32 {
        let bounds = self.scale_bounds;
        let fewest = bounds.utilization.and(bounds.min_instances);
        self.instance_count.or(fewest).unwrap_or(1)
    }

    /// All that cannot be on instances of so many vCPUs, in sentences.
    #[must_use]
    pub fn problems(&self, vcpus: u32) -> Vec<String> {
        let count = self.instance_count();
        let count = beyond(
            "instance_count",
            count.into(),
            &(1..=INSTANCE_COUNT_MAX.into()),
        );
        count
            .into_iter()
            .chain(self.request_settings.problems(vcpus))
            .collect()
    }

    /// Takes the settings of a program, whatever they are; [`Self::problems`] judges them.
    pub(super) fn take_settings(&mut self, instance_count: u32, settings: RequestSettings) {
        self.instance_count = Some(instance_count);
        self.request_settings = settings;
    }

    /// Asks for so many instances, whatever the number; [`Self::problems`] judges it.
    pub fn scale(&mut self, instances: u32) {
        self.instance_count = Some(instances);
    }

    /// Writes down how many instances there are where that was left to the default.
    pub fn write_instance_count(&mut self) {
        self.instance_count = Some(self.instance_count());
    }

    /// The way in which it scores: as `scoring` says, else by the script that is written, else natively.
    #[must_use]
    pub fn scoring(&self) -> Scoring<'_> {
        const NO_CODE: &CodeConfiguration = &CodeConfiguration {
            code: None,
            scoring_script: None,
            relative_to: None,
        };
        let code = self.code_configuration.as_ref();
        match self.scoring {
            Some(ScoringKind::Native) => Scoring::Native,
            Some(ScoringKind::Script) => Scoring::Script(code.unwrap_or(NO_CODE)),
            None => match code.filter(|code| code.scoring_script.is_some()) {
                Some(code) => Scoring::Script(code),
                None => Scoring::Native,
            },
        }
    }

    /// Writes down how it scores where that was left to what else is written.
    pub fn write_scoring(&mut self, scoring: ScoringKind) {
        self.scoring = Some(scoring);
    }

    /// Whether a Python other than the one that the environment asks for will do.
    #[must_use]
    pub fn any_python(&self) -> bool {
        self.environment_python == Some(EnvironmentPython::Any)
    }

    /// The way in which an instance takes requests.
    #[must_use]
    pub fn request_settings(&self) -> &RequestSettings {
        &self.request_settings
    }

    /// Takes over what `newer` says and keeps the rest; tags and properties merge key by key.
    ///
    /// The name stays.
    pub fn merge(&mut self, newer: Self) {
        self.endpoint_name = newer.endpoint_name.or(self.endpoint_name.take());
        self.description = newer.description.or(self.description.take());
        self.tags.extend(newer.tags);
        self.properties.extend(newer.properties);
        self.model = newer.model;
        self.instance_type = newer.instance_type;
        self.instance_count = newer.instance_count.or(self.instance_count);
        self.request_settings.merge(newer.request_settings);
        if !newer.scale_bounds.is_unwritten() {
            // Whole, because the bounds are judged together.
            self.scale_bounds = newer.scale_bounds;
        }
        self.code_configuration = newer.code_configuration.or(self.code_configuration.take());
        self.scoring = newer.scoring.or(self.scoring);
        self.environment_python = newer.environment_python.or(self.environment_python);
        self.kept.extend(newer.kept);
    }

    /// Takes over the settings of `newer` that are rules: those that no instance needs to start anew for.
    pub fn take_rules_of(&mut self, newer: &Self) {
        self.request_settings.take_rules_of(&newer.request_settings);
    }

    /// Makes the paths of model, code and environment absolute, seen from the folder `base` of the file, which has no links in it.
    ///
    /// The scoring script stays as written; see [`CodeConfiguration::places`].
    pub fn resolve_paths(&mut self, base: &Path) {
        if let ModelRef::Path(path) = &mut self.model {
            *path = resolve(path, base);
        }
        if let Some(code) = &mut self.code_configuration {
            code.resolve_paths(base);
        }
        let Some(environment) = self.kept.get_mut("environment") else {
            return;
        };
        if environment.is_string() {
            resolve_value(environment, base);
            return;
        }
        for pointer in ["/conda_file", "/build/path"] {
            if let Some(path) = environment.pointer_mut(pointer) {
                resolve_value(path, base);
            }
        }
    }

    /// The model that its file asks to be registered first: its path, and the name and version that it gets.
    #[must_use]
    pub fn model_to_register(&self) -> Option<(&Path, &ModelName, &ModelVersion)> {
        match (&self.model, &self.registers) {
            (ModelRef::Path(path), Some((name, version))) => Some((path, name, version)),
            _ => None,
        }
    }

    /// Names its model by what it was registered as.
    pub fn use_registered(&mut self, name: ModelName, version: ModelVersion) {
        self.registers = None;
        self.model = ModelRef::Registered {
            name,
            version: VersionRef::Exact(version),
        };
    }

    /// Puts the home folder in place of a `~` or `$HOME` that begins a path, which no shell has seen in a file. Says so in
    /// sentences.
    pub fn expand_home(&mut self, home: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        let mut expand = |path: &mut PathBuf| {
            if let Some(expanded) = expanded(path, home) {
                notes.push(format!(
                    "{} is taken as {}",
                    path.display(),
                    expanded.display()
                ));
                *path = expanded;
            }
        };
        if let ModelRef::Path(path) = &mut self.model {
            expand(path);
        }
        let code = self.code_configuration.as_mut();
        if let Some(code) = code.and_then(|code| code.code.as_mut()) {
            expand(code);
        }
        let environment = self.kept.get_mut("environment");
        let file = environment.and_then(|environment| match environment.is_string() {
            true => Some(environment),
            false => environment.get_mut("conda_file"),
        });
        if let Some(file) = file
            && let Some(text) = file.as_str()
        {
            let mut path = PathBuf::from(text.strip_prefix("file:").unwrap_or(text));
            let before = path.clone();
            expand(&mut path);
            if path != before {
                *file = path.to_string_lossy().into();
            }
        }
        notes
    }

    /// Says, in sentences, what is kept without effect.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let runs_script = matches!(self.scoring(), Scoring::Script(_));
        let mut notes = Vec::new();
        if self.code_configuration.is_some() && !runs_script {
            notes.push(
                "code_configuration is kept but not run: the model is scored natively".to_owned(),
            );
        }
        if self.environment_python.is_some() && !runs_script {
            notes.push("environment_python is kept without effect".to_owned());
        }
        if self.scale_bounds.utilization.is_some() {
            notes.push(
                "scale_settings are kept without effect: nothing scales by itself here, and instance_count, or else min_instances, says how many run"
                    .to_owned(),
            );
        } else if !self.scale_bounds.is_unwritten() {
            notes.push(
                "min_instances and max_instances are kept without effect: instance_count says how many run".to_owned(),
            );
        }
        if self.request_settings.max_queue_wait().is_some() {
            notes.push(
                "max_queue_wait_ms is kept without effect: request_timeout_ms covers the wait"
                    .to_owned(),
            );
        }
        if runs_script {
            let written = self.request_settings.written_for_models();
            notes.extend(written.map(|key| {
                format!("request_settings.{key} is kept without effect: a script runs one request after another in a process of its own")
            }));
        }
        notes.extend(note_of_gpus(&self.instance_type));
        notes.extend(note_of_kubernetes(&self.instance_type));
        let of_scripts = |key: &str| OF_SCRIPTS.contains(&key);
        notes.extend(kept_notes(&self.kept, |key| {
            !(runs_script && of_scripts(key))
        }));
        notes
    }
}

impl<'de> Deserialize<'de> for DeploymentSpec {
    /// By the reader of files: every spelling is understood and every check holds.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut root = Node::from_value(String::new(), Value::deserialize(deserializer)?);
        let mut problems = Vec::new();
        modernise(&mut root, spelling::DEPLOYMENT, &mut problems);
        let spec = read(root, &mut problems);
        SpecError::unless_clean("deployment", spec, problems).map_err(de::Error::custom)
    }
}

/// The content of a deployment file.
pub type DeploymentFile = DeploymentSpec;

/// Reads a deployment file of any generation. `overrides` are set before anything is checked: `name=green` for
/// `--name green`.
///
/// # Errors
///
/// All problems of the file.
#[cfg(feature = "server")]
pub fn read_deployment(
    text: &str,
    file: &str,
    overrides: &[Assignment],
) -> Result<DeploymentFile, SpecError> {
    let mut root = yaml::parse(text, file)?;
    batch::refuse(&root, file)?;
    let mut problems = Vec::new();
    modernise(&mut root, spelling::DEPLOYMENT, &mut problems);
    assign_to_deployment(overrides, &mut root, &mut problems);
    let placeholders = placeholder::in_tree(&root);
    let spec = read(root, &mut problems);
    placeholder::tell(placeholders, &mut problems);
    SpecError::unless_clean(file, spec, problems)
}

/// Reads a deployment in current spelling. None only with problems.
pub(super) fn read(root: Node, problems: &mut Vec<Problem>) -> Option<DeploymentSpec> {
    let mut fields = Fields::open(root, problems);
    fields.ignore(READ_ONLY);
    let is_of_kubernetes = reads_as_kubernetes(&mut fields);
    let name = fields.require("name", "a name", parsed);
    let endpoint_name = fields.read("endpoint_name", parsed);
    let description = fields.read("description", text);
    let tags = texts(fields.take("tags"), fields.problems());
    let properties = texts(fields.take("properties"), fields.problems());
    let model = fields
        .require(
            "model",
            "a model such as azureml:NAME:VERSION, or a path",
            Ok,
        )
        .and_then(|node| read_model(node, fields.problems()));
    let (model, registers) = model.unzip();
    let instance_type = match is_of_kubernetes && !fields.has("instance_type") {
        true => Some(KUBERNETES_DEFAULT.to_owned()),
        false => fields.require(
            "instance_type",
            "an instance type such as Standard_DS3_v2",
            text,
        ),
    };
    let instance_count = fields.read("instance_count", whole(1..=INSTANCE_COUNT_MAX));
    let scale_bounds = read_scale(fields.take("scale_settings"), fields.problems());
    let request_settings = read_requests(fields.take("request_settings"), fields.problems());
    let code_configuration = fields
        .take("code_configuration")
        .map(|node| read_code(node, fields.problems()));
    let scoring = fields.read("scoring", read_scoring);
    let environment_python = fields.read("environment_python", read_python);
    let kept = read_kept(KEPT, &mut fields);
    fields.finish(&old_keys(spelling::DEPLOYMENT, ""));
    Some(DeploymentSpec {
        name: name?,
        endpoint_name,
        description,
        tags,
        properties,
        model: model?,
        instance_type: instance_type?,
        instance_count,
        request_settings,
        scale_bounds,
        code_configuration,
        scoring,
        environment_python,
        registers: registers.flatten(),
        kept,
    })
}

/// Whether it was written for a cluster of Kubernetes, where an instance type may be left out.
fn reads_as_kubernetes(fields: &mut Fields<'_>) -> bool {
    let kind = fields.read("type", |node| {
        one_of(
            node,
            &["managed", "kubernetes", "online", "OnlineDeployment"],
        )
    });
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("kubernetes"))
        || fields.has("resources")
        || fields.has("resource_requirements")
}

/// Reads a model, and the name and version that one with a path is to get.
fn read_model(
    node: Node,
    problems: &mut Vec<Problem>,
) -> Option<(ModelRef, Option<(ModelName, ModelVersion)>)> {
    if !matches!(node.content, Content::Map(_)) {
        let at = node.clone();
        return text(node)
            .and_then(|text| ModelRef::parse(&text).map_err(|message| at.problem(message)))
            .map_err(|problem| problems.push(problem))
            .ok()
            .map(|model| (model, None));
    }
    let mut fields = Fields::open(node, problems);
    fields.ignore(IGNORED_OF_MODELS);
    fields.read("type", read_model_type);
    if let Some(store) = fields.take("datastore") {
        fields.problems().push(store.problem(
            "files in the cloud are not read here: download them, and give their path without a datastore",
        ));
    }
    let name: Option<ModelName> = fields.read("name", parsed);
    let version: Option<ModelVersion> = fields.read("version", parsed);
    let registered = name.zip(version);
    let model = match &registered {
        Some((name, version)) if !fields.has("path") => Some(ModelRef::Registered {
            name: name.clone(),
            version: VersionRef::Exact(version.clone()),
        }),
        _ => fields.require("path", "the path of a file or folder", read_path),
    };
    fields.finish(&old_keys(spelling::DEPLOYMENT, "model"));
    model.map(|model| (model, registered))
}

/// A path; the long name of a model in the cloud may stand in its place.
fn read_path(node: Node) -> Result<ModelRef, Problem> {
    let at = node.clone();
    let path = text(node)?;
    match is_asset(&path) {
        true => ModelRef::parse(&path).map_err(|message| at.problem(message)),
        false => Ok(ModelRef::Path(
            path.strip_prefix("file:").unwrap_or(&path).into(),
        )),
    }
}

fn read_scale(node: Option<Node>, problems: &mut Vec<Problem>) -> ScaleBounds {
    let Some(node) = node else {
        return ScaleBounds::default();
    };
    let whole_section = node.clone();
    let mut fields = Fields::open(node, problems);
    let kind = fields.read("type", read_scale_type);
    let min_instances = fields.read("min_instances", whole(1..=INSTANCE_COUNT_MAX));
    let max_instances = fields.read("max_instances", whole(1..=INSTANCE_COUNT_MAX));
    let mut utilization = None;
    if kind != Some(false) {
        let how = Utilization {
            polling_interval: fields.read("polling_interval", whole(1..=u32::MAX)),
            target_utilization_percentage: fields
                .read("target_utilization_percentage", whole(1..=100)),
        };
        utilization = kind.map(|_| how);
    }
    fields.finish(&old_keys(spelling::DEPLOYMENT, "scale_settings"));
    if let (Some(min), Some(max)) = (min_instances, max_instances)
        && min > max
    {
        problems.push(whole_section.problem(format!(
            "expected min_instances of at most max_instances, found {min} and {max}"
        )));
    }
    ScaleBounds {
        min_instances,
        max_instances,
        utilization,
    }
}

/// Whether it was to scale by itself.
fn read_scale_type(node: Node) -> Result<bool, Problem> {
    const EXPECTED: &str = "default, manual or target_utilization";
    let Content::Text(text) = &node.content else {
        return Err(node.expected(EXPECTED));
    };
    match text.to_lowercase().replace('_', "").as_str() {
        "default" | "manual" => Ok(false),
        word if SCALES_ITSELF.contains(&word) => Ok(true),
        _ => Err(node.expected(EXPECTED)),
    }
}

fn read_requests(node: Option<Node>, problems: &mut Vec<Problem>) -> RequestSettings {
    let Some(node) = node else {
        return RequestSettings::default();
    };
    let timeout_ms_max = u64::try_from(REQUEST_TIMEOUT_MAX.as_millis()).unwrap_or(u64::MAX);
    let delay_us_max = u64::try_from(BATCH_DELAY_MAX.as_micros()).unwrap_or(u64::MAX);
    let mut fields = Fields::open(node, problems);
    let settings = RequestSettings {
        request_timeout_ms: fields.read("request_timeout_ms", whole(1..=timeout_ms_max)),
        max_concurrent_requests_per_instance: fields.read(
            "max_concurrent_requests_per_instance",
            whole(1..=CONCURRENCY_MAX),
        ),
        max_queue_wait_ms: fields.read("max_queue_wait_ms", whole(0..=timeout_ms_max)),
        max_waiting_requests_per_instance: fields
            .read("max_waiting_requests_per_instance", whole(0..=WAITING_MAX)),
        lanes: fields.read("lanes", whole(1..=CONCURRENCY_MAX)),
        max_batch_size: fields.read("max_batch_size", whole(1..=BATCH_SIZE_MAX)),
        max_batch_delay_us: fields.read("max_batch_delay_us", whole(0..=delay_us_max)),
        spin: fields.read("spin", yes_or_no),
        isolation: fields.read("isolation", read_isolation),
        non_finite: fields.read("non_finite", non_finite),
    };
    fields.finish(&[]);
    settings
}

fn read_isolation(node: Node) -> Result<Isolation, Problem> {
    let word = one_of(node, &["auto", "thread", "process"])?;
    Ok(match word.to_ascii_lowercase().as_str() {
        "thread" => Isolation::Thread,
        "process" => Isolation::Process,
        _ => Isolation::Auto,
    })
}

fn non_finite(node: Node) -> Result<NonFinite, Problem> {
    match &node.content {
        Content::Text(word) if word == "nulls" => Ok(NonFinite::Nulls),
        Content::Text(word) if word == "tokens" => Ok(NonFinite::Tokens),
        _ => Err(node.expected("nulls or tokens")),
    }
}

fn read_scoring(node: Node) -> Result<ScoringKind, Problem> {
    let word = one_of(node, &["native", "script"])?;
    Ok(match word.eq_ignore_ascii_case("native") {
        true => ScoringKind::Native,
        false => ScoringKind::Script,
    })
}

fn read_python(node: Node) -> Result<EnvironmentPython, Problem> {
    let word = one_of(node, &["any", "exact"])?;
    Ok(match word.eq_ignore_ascii_case("any") {
        true => EnvironmentPython::Any,
        false => EnvironmentPython::Exact,
    })
}

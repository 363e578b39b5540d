//! A deployment as it is written: a model, how many instances of what size, and how they take requests.
//!
//! The canonical form is the current (v2) form of Azure's files. What serin keeps without acting upon it is told by
//! [`DeploymentSpec::notes`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Assignment, DeploymentName, EndpointName, ModelRef, RequestSettings, SpecError};

/// Bounds of the number of instances. Kept and shown; serin does not scale by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScaleBounds {
    /// The fewest instances.
    pub min_instances: Option<u32>,
    /// The most instances.
    pub max_instances: Option<u32>,
}

/// The scoring script of a deployment. Kept and shown; the model is scored natively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeConfiguration {
    /// The folder of the code.
    pub code: Option<PathBuf>,
    /// The script within it.
    pub scoring_script: Option<PathBuf>,
}

/// What was written about a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentSpec {
    /// Unique within its endpoint.
    pub name: DeploymentName,
    /// The endpoint that the file names, if it does.
    pub endpoint_name: Option<EndpointName>,
    /// For people.
    pub description: Option<String>,
    /// For people.
    pub tags: BTreeMap<String, String>,
    /// For people and programs.
    pub properties: BTreeMap<String, String>,
    /// What to score with.
    pub model: ModelRef,
    /// The SKU of each instance, as written.
    pub instance_type: String,
    pub(super) instance_count: Option<u32>,
    pub(super) request_settings: RequestSettings,
    /// Bounds of the number of instances, kept.
    pub scale_bounds: ScaleBounds,
    /// The scoring script, kept.
    pub code_configuration: Option<CodeConfiguration>,
    /// Other settings of Azure's form that are kept and not acted upon, by their key.
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
            kept: BTreeMap::new(),
        }
    }

    /// How many instances; 1 where nothing is written.
    #[must_use]
    pub fn instance_count(&self) -> u32 {
        self.instance_count.unwrap_or(1)
    }

    /// How an instance takes requests.
    #[must_use]
    pub fn request_settings(&self) -> &RequestSettings {
        &self.request_settings
    }

    /// Takes over what `newer` says and keeps the rest; tags and properties merge key by key.
    pub fn merge(&mut self, newer: Self) {
        drop(newer);
        todo!()
    }

    /// Sets attributes such as `instance_count=5`, all or none. Old spellings work as they do in files.
    ///
    /// # Errors
    ///
    /// Everything that a file with the result would be refused for, and a change of the name.
    pub fn set(&mut self, assignments: &[Assignment]) -> Result<(), SpecError> {
        todo!("{assignments:?}")
    }

    /// Makes the paths of model, code and environment absolute, seen from the folder `base` of the file.
    pub fn resolve_paths(&mut self, base: &Path) {
        todo!("{base:?}")
    }

    /// Says, in sentences, what is kept without effect.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        todo!()
    }
}

impl Serialize for DeploymentSpec {
    /// The canonical form.
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        todo!()
    }
}

impl<'de> Deserialize<'de> for DeploymentSpec {
    /// By the reader of files: every spelling is understood and every check holds.
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        todo!()
    }
}

/// What a deployment file says.
pub type DeploymentFile = DeploymentSpec;

/// Reads a deployment file of any generation. `overrides` are set before anything is checked: `name=green` for
/// `--name green`.
///
/// # Errors
///
/// All problems of the file.
pub fn read_deployment(
    text: &str,
    file: &str,
    overrides: &[Assignment],
) -> Result<DeploymentFile, SpecError> {
    todo!("{text} {file} {overrides:?}")
}

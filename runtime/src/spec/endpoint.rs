//! An endpoint as it is written: a name, how clients prove themselves, and the split of traffic.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Assignment, DeploymentSpec, EndpointName, SpecError, TrafficSplit};

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// By one of two keys that do not expire.
    #[default]
    Key,
    /// By a token that expires.
    AmlToken,
}

/// What was written about an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Unique on a server.
    pub name: EndpointName,
    /// For people.
    pub description: Option<String>,
    /// For people.
    pub tags: BTreeMap<String, String>,
    /// For people and programs.
    pub properties: BTreeMap<String, String>,
    pub(super) auth_mode: Option<AuthMode>,
    /// The split of traffic; no entries where none is written.
    pub traffic: TrafficSplit,
    /// Other settings of Azure's form that are kept and not acted upon, by their key.
    pub kept: BTreeMap<String, Value>,
}

impl EndpointSpec {
    /// An endpoint with nothing said beyond what is required.
    #[must_use]
    pub fn new(name: EndpointName) -> Self {
        Self {
            name,
            description: None,
            tags: BTreeMap::new(),
            properties: BTreeMap::new(),
            auth_mode: None,
            traffic: TrafficSplit::default(),
            kept: BTreeMap::new(),
        }
    }

    /// How clients prove who they are; by key where nothing is written.
    #[must_use]
    pub fn auth_mode(&self) -> AuthMode {
        self.auth_mode.unwrap_or_default()
    }

    /// Says how clients prove who they are.
    pub fn set_auth_mode(&mut self, auth_mode: AuthMode) {
        self.auth_mode = Some(auth_mode);
    }

    /// Takes over what `newer` says and keeps the rest. Tags and properties merge key by key; a split with entries
    /// replaces the old one whole.
    pub fn merge(&mut self, newer: Self) {
        drop(newer);
        todo!()
    }

    /// Says, in sentences, what is kept without effect.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        todo!()
    }
}

impl Serialize for EndpointSpec {
    /// The canonical form.
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        todo!()
    }
}

impl<'de> Deserialize<'de> for EndpointSpec {
    /// By the reader of files: every spelling is understood and every check holds.
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        todo!()
    }
}

/// What an endpoint file says.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointFile {
    /// The endpoint.
    pub spec: EndpointSpec,
    /// Its deployments, in files of the generations that have them there.
    pub deployments: Option<Vec<DeploymentSpec>>,
}

/// Reads an endpoint file of any generation. `overrides` are set before anything is checked: `name=iris` for
/// `--name iris`.
///
/// # Errors
///
/// All problems of the file.
pub fn read_endpoint(
    text: &str,
    file: &str,
    overrides: &[Assignment],
) -> Result<EndpointFile, SpecError> {
    todo!("{text} {file} {overrides:?}")
}

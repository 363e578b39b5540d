//! Environments that a user keeps under names, and what stands in place of such a name in a deployment.
//!
//! The server knows no such names: a deployment that says `azureml:env:1` is sent with what the name stands for.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::defaults::read_kept;
use super::workspace::Workspace;
use crate::spec::DeploymentSpec;

/// The file of the user's configuration that has them.
pub(super) const FILE: &str = "environments.json";

/// One version of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) content: Map<String, Value>,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) tags: Map<String, Value>,
    #[serde(default)]
    pub(super) is_archived: bool,
}

impl Kept {
    /// As `az` prints it.
    pub(super) fn shown(&self, workspace: &Workspace) -> Value {
        let path = format!("environments/{}/versions/{}", self.name, self.version);
        let mut shown = self.content.clone();
        let more = json!({
            "description": self.description, "id": workspace.id(&path), "name": self.name, "os_type": "linux",
            "tags": self.tags, "version": self.version,
        });
        shown.extend(more.as_object().cloned().unwrap_or_default());
        shown.sort_keys();
        shown.into()
    }
}

/// The place of a version; without one of the last that was made.
pub(super) fn find(name: &str, version: Option<&str>, kept: &[Kept]) -> Option<usize> {
    let is_it =
        |one: &Kept| one.name == name && version.is_none_or(|version| one.version == version);
    kept.iter().rposition(is_it)
}

/// Puts what a name stands for in its place; a name that is not kept stays, for the server to judge.
pub(super) fn resolve(deployment: &mut DeploymentSpec) {
    let Some(environment) = deployment.kept.get_mut("environment") else {
        return;
    };
    let Some(reference) = environment
        .as_str()
        .and_then(|text| text.strip_prefix("azureml:"))
    else {
        return;
    };
    let (name, version) = match reference.split_once('@') {
        Some((name, _)) => (name, None),
        None => match reference.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (reference, None),
        },
    };
    let kept: Vec<Kept> = read_kept(FILE);
    if let Some(at) = find(name, version, &kept) {
        *environment = kept[at].content.clone().into();
    }
}

/// Makes the path of a conda file absolute, seen from the folder of the environment's file.
pub(super) fn resolve_paths(content: &mut Map<String, Value>, folder: &Path) {
    if let Some(Value::String(path)) = content.get_mut("conda_file") {
        let bare = path.strip_prefix("file:").unwrap_or(path);
        *path = folder.join(bare).to_string_lossy().into_owned();
    }
}

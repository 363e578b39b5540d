//! Environments that a user keeps under names, and what stands in place of such a name in a deployment.
//!
//! The server knows no such names: a deployment that says `azureml:env:1` is sent with what the name stands for.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::defaults::read_kept;
use super::workspace::Workspace;
use crate::spec::{DeploymentSpec, resolve_path};

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
    let text = environment.as_str().unwrap_or_default();
    let kept: Vec<Kept> = match named(text) {
        Some(_) => read_kept(FILE),
        None => return,
    };
    let found = named(text).and_then(|(name, version)| find(name, version, &kept));
    if let Some(at) = found {
        *environment = kept[at].content.clone().into();
    }
}

/// The name and the version in a reference: `azureml:env:1`, `azureml:env@latest`, or a long name in the cloud, which ends in
/// `/environments/env/versions/1`. Without a version the last is meant.
fn named(reference: &str) -> Option<(&str, Option<&str>)> {
    let is_id = reference.starts_with("azureml:/") || reference.starts_with("/subscriptions/");
    if is_id {
        let (_, end) = reference.rsplit_once("/environments/")?;
        let mut parts = end.split('/');
        let (name, kind, last) = (parts.next()?, parts.next(), parts.next());
        return match (kind, last) {
            (Some("versions"), Some(version)) => Some((name, Some(version))),
            (None, _) | (Some("labels"), Some("latest")) => Some((name, None)),
            _ => None,
        };
    }
    let reference = reference.strip_prefix("azureml:")?;
    Some(match reference.split_once('@') {
        Some((name, _)) => (name, None),
        None => match reference.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (reference, None),
        },
    })
}

/// Makes the path of a conda file absolute, seen from the folder of the environment's file.
pub(super) fn resolve_paths(content: &mut Map<String, Value>, folder: &Path) {
    if let Some(Value::String(path)) = content.get_mut("conda_file") {
        let bare = path.strip_prefix("file:").unwrap_or(path);
        *path = resolve_path(Path::new(bare), folder)
            .to_string_lossy()
            .into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_named_in_short_or_by_a_long_name_of_the_cloud() {
        let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/environments/env/versions/3";
        for (reference, found) in [
            ("azureml:env:3", Some(("env", Some("3")))),
            ("azureml:env@latest", Some(("env", None))),
            (id, Some(("env", Some("3")))),
            (
                "azureml://registries/R/environments/env/labels/latest",
                Some(("env", None)),
            ),
            ("azureml://registries/R/models/env/versions/3", None),
            ("conda.yml", None),
        ] {
            assert_eq!(named(reference), found, "{reference}");
        }
        assert_eq!(named(&format!("azureml:{id}")), Some(("env", Some("3"))));
    }
}

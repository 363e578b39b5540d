//! A model as a deployment names it: registered, or a path.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::fields::one_of;
use super::names::{ModelName, ModelVersion};
use super::node::Node;
use super::paths::cloud_id;
use super::problem::Problem;

/// A model as a deployment names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// A model of the registry: `azureml:n:v`, `azureml:n@latest`, or the older `aml:models/n:v`.
    Registered {
        /// The model.
        name: ModelName,
        /// One of its versions, or the newest.
        version: VersionRef,
    },
    /// A file or folder on this machine, as written; see `DeploymentSpec::resolve_paths`.
    Path(PathBuf),
}

/// The version of a registered model that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    /// This one.
    Exact(ModelVersion),
    /// The newest one at the time of the change.
    Latest,
}

impl ModelRef {
    /// Reads a model as text.
    ///
    /// # Errors
    ///
    /// A sentence that says what was expected and found.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "expected a model such as azureml:NAME:VERSION, or a path, found \"\"".to_owned(),
            );
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::Path(path.into()));
        }
        if let Some(id) = cloud_id(text) {
            return Self::parse_id(text, id);
        }
        let Some(asset) = text
            .strip_prefix("azureml:")
            .or_else(|| text.strip_prefix("aml:"))
        else {
            return Self::parse_path(text);
        };
        let asset = asset.strip_prefix("models/").unwrap_or(asset);
        let (name, version) = if let Some(name) = asset.strip_suffix("@latest") {
            (name, VersionRef::Latest)
        } else if let Some((name, version)) = asset.split_once(':') {
            let version = version
                .parse()
                .map_err(|error| format!("version of the model: {error}"))?;
            (name, VersionRef::Exact(version))
        } else {
            return Err(format!(
                "expected azureml:NAME:VERSION or azureml:NAME@latest, found {text:?}"
            ));
        };
        let name = name
            .parse()
            .map_err(|error| format!("name of the model: {error}"))?;
        Ok(Self::Registered { name, version })
    }

    /// A long name in the cloud stands for what is registered here under the same name and version.
    fn parse_id(text: &str, id: &str) -> Result<Self, String> {
        let parts: Vec<&str> = id.split('/').filter(|part| !part.is_empty()).collect();
        let is = |part: &&str, word: &str| part.eq_ignore_ascii_case(word);
        let is_files = |part: &&str| is(part, "datastores") || is(part, "jobs");
        let at = parts.iter().position(|part| is(part, "models"));
        let below = at.filter(|_| !parts.iter().any(is_files));
        match below.map_or(&[][..], |at| &parts[at + 1..]) {
            [name, kind, version] if is(kind, "versions") => {
                Self::parse(&format!("azureml:{name}:{version}"))
            }
            [name, kind, label] if is(kind, "labels") => {
                Self::parse(&format!("azureml:{name}@{label}"))
            }
            _ => Err(format!(
                "expected azureml:NAME:VERSION or a path, found {text:?}: files in the cloud are not read here; download them, and give their path"
            )),
        }
    }

    /// A plain text is a path, unless it looks like a name and version whose `azureml:` was forgotten.
    fn parse_path(text: &str) -> Result<Self, String> {
        if text.contains(':') && !text.contains('/') {
            return Err(format!(
                "expected azureml:NAME:VERSION or a path, found {text:?}; write azureml:{text} for a registered model, ./{text} for a file"
            ));
        }
        Ok(Self::Path(text.into()))
    }
}

/// Reads the type of a model, in the words of all years. What it is shows in its files.
pub(super) fn read_model_type(node: Node) -> Result<String, Problem> {
    const TYPES: &[&str] = &[
        "custom_model",
        "custom",
        "mlflow_model",
        "mlflow",
        "triton_model",
        "triton",
    ];
    one_of(node, TYPES).map_err(|problem| Problem {
        message: format!("{}; serin scores ONNX files", problem.message),
        ..problem
    })
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered {
                name,
                version: VersionRef::Exact(version),
            } => write!(f, "azureml:{name}:{version}"),
            Self::Registered {
                name,
                version: VersionRef::Latest,
            } => write!(f, "azureml:{name}@latest"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Serialize for ModelRef {
    /// Text for a registered model, `{"path": ..}` for a path: the two forms that Azure's files have.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Registered { .. } => serializer.collect_str(self),
            Self::Path(path) => serializer.collect_map([("path", path.to_string_lossy())]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(
            ModelRef::parse(text).map(|model| model.to_string()),
            Ok(shown.to_owned())
        );
    }

    #[track_caller]
    fn check_refused(text: &str, message: &str) {
        assert_eq!(ModelRef::parse(text), Err(message.to_owned()));
    }

    #[test]
    fn every_spelling_of_a_registered_model_is_the_same_model() {
        check("azureml:digits:2", "azureml:digits:2");
        check("azureml:models/digits:2", "azureml:digits:2");
        check("aml:models/my-model-m1:1", "azureml:my-model-m1:1");
        check("azureml:digits@latest", "azureml:digits@latest");
    }

    #[test]
    fn other_text_is_a_path_as_written() {
        check("./models/digits/1", "./models/digits/1");
        check("file:../digits.onnx", "../digits.onnx");
        check("digits.onnx", "digits.onnx");
    }

    #[test]
    fn a_name_without_a_version_is_refused() {
        check_refused(
            "azureml:digits",
            "expected azureml:NAME:VERSION or azureml:NAME@latest, found \"azureml:digits\"",
        );
    }

    #[test]
    fn a_forgotten_prefix_is_pointed_out() {
        check_refused(
            "digits:2",
            "expected azureml:NAME:VERSION or a path, found \"digits:2\"; write azureml:digits:2 for a registered model, ./digits:2 for a file",
        );
    }

    #[test]
    fn a_long_name_in_the_cloud_is_what_is_registered_here_under_its_end() {
        let workspace = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";
        check("azureml://registries/R/models/n/versions/1", "azureml:n:1");
        check(
            "azureml://registries/R/models/n/labels/latest",
            "azureml:n@latest",
        );
        check(
            "azureml://locations/l/workspaces/w/models/n/versions/1",
            "azureml:n:1",
        );
        check(
            &format!("azureml:{workspace}/models/n/versions/2"),
            "azureml:n:2",
        );
        check(&format!("{workspace}/Models/n/Versions/2/"), "azureml:n:2");
        // A folder of this machine.
        check(
            "/subscriptions/models/n/versions/2",
            "/subscriptions/models/n/versions/2",
        );
    }

    #[test]
    fn files_in_the_cloud_are_refused() {
        for text in [
            "azureml://datastores/d/paths/models/n/versions/1",
            "azureml://jobs/j/outputs/artifacts/models/n/versions/1",
            "azureml://registries/R/environments/n/versions/1",
            "azureml://registries/R/models/n",
            "azureml://",
        ] {
            check_refused(
                text,
                &format!(
                    "expected azureml:NAME:VERSION or a path, found {text:?}: files in the cloud are not read here; download them, and give their path"
                ),
            );
        }
        let version = "azureml://registries/R/models/n/versions/-";
        assert!(
            ModelRef::parse(version)
                .unwrap_err()
                .starts_with("version of the model")
        );
    }
}

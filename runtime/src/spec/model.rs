//! Models as they are written: the file of one that is to be registered, and the model that a deployment names.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::fields::{Fields, one_of, parsed, text, texts};
use super::{Assignment, ModelName, ModelVersion, SpecError, set, yaml};

/// What describes a model to people, in Azure's files and in those of `models/`: how it was made and what it is like.
const DESCRIPTION: &[&str] = &[
    "accuracy", "flavors", "inputs", "outputs", "stage", "training",
];

/// What Azure writes into its answers and drops from what it reads.
const READ_ONLY: &[&str] = &["$schema", "creation_context", "id"];

/// What a model file says that registers a model. The rest is for people, and stays in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The same for all versions.
    pub name: ModelName,
    /// Without one the next number.
    pub version: Option<ModelVersion>,
    /// File or folder, as written: a relative path starts from the folder of the model file.
    pub path: PathBuf,
}

/// Reads a model file, in the form of `az ml model create --file`. `overrides` are set before anything is checked.
///
/// # Errors
///
/// All problems of the file.
pub fn read_model(
    yaml_text: &str,
    file: &str,
    overrides: &[Assignment],
) -> Result<ModelSpec, SpecError> {
    let mut root = yaml::parse(yaml_text, file)?;
    set::assign_to_model(overrides, &mut root);
    let mut problems = Vec::new();
    let mut fields = Fields::open(root, &mut problems);
    let name = fields.require("name", "a name", parsed);
    let version = fields.read("version", parsed);
    let path = fields.require("path", "an .onnx file, or a folder with one", text);
    fields.read("type", |node| one_of(node, &["custom_model"]));
    fields.read("description", text);
    for key in ["tags", "properties"] {
        let node = fields.take(key);
        texts(node, fields.problems());
    }
    fields.ignore(DESCRIPTION);
    fields.ignore(READ_ONLY);
    fields.finish(&[]);
    let read = name.zip(path).map(|(name, path)| ModelSpec {
        name,
        version,
        path: path.into(),
    });
    SpecError::unless_clean(file, read, problems)
}

/// A model as a deployment names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// A model of the registry: `azureml:n:v`, `azureml:n@latest`, or the older `aml:models/n:v`.
    Registered {
        /// The model.
        name: ModelName,
        /// Which of its versions.
        version: VersionRef,
    },
    /// A file or folder on this machine, as written; see `DeploymentSpec::resolve_paths`.
    Path(PathBuf),
}

/// Which version of a registered model.
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
        let Some(asset) = text
            .strip_prefix("azureml:")
            .or_else(|| text.strip_prefix("aml:"))
        else {
            return Self::parse_path(text);
        };
        if asset.starts_with("//registries/") {
            return Err(format!(
                "expected a model registered here, found {text:?}: registries live in the cloud; register the files with `serin model create`"
            ));
        }
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

    const DIGITS: &str = "name: digits\nversion: 1\npath: model.onnx\n";

    #[track_caller]
    fn check_problems(text: &str, problems: &str) {
        let error = read_model(text, "model.yml", &[]).unwrap_err();
        assert_eq!(error.to_string(), problems);
    }

    #[test]
    fn the_files_of_the_sample_models_are_read() {
        for (version, text) in [
            ("1", include_str!("../../../models/digits/1/model.yml")),
            ("2", include_str!("../../../models/digits/2/model.yml")),
        ] {
            let expected = ModelSpec {
                name: "digits".parse().unwrap(),
                version: Some(version.parse().unwrap()),
                path: "model.onnx".into(),
            };
            assert_eq!(read_model(text, "model.yml", &[]), Ok(expected));
        }
    }

    #[test]
    fn a_file_of_azure_is_read() {
        let more = "$schema: https://azuremlschemas.azureedge.net/latest/model.schema.json\ntype: custom_model\ndescription: Reads digits.\ntags: {team: vision, live: true}\nproperties: {}\nstage: Production\n";
        let read = read_model(&format!("{DIGITS}{more}"), "model.yml", &[]);
        assert_eq!(read, read_model(DIGITS, "model.yml", &[]));
    }

    #[test]
    fn a_model_without_a_version_gets_the_next() {
        let read = read_model("name: digits\npath: .\n", "model.yml", &[]).unwrap();
        assert_eq!(read.version, None);
    }

    #[test]
    fn overrides_beat_the_file_and_stand_in_for_one() {
        let assign = |path, value: &str| Assignment::new(path, value.into()).unwrap();
        let overrides = [assign("name", "letters"), assign("path", "letters.onnx")];
        let read = read_model(DIGITS, "model.yml", &overrides).unwrap();
        assert_eq!(read.name.as_str(), "letters");
        assert_eq!(read.version.as_ref().unwrap().as_str(), "1");
        assert_eq!(read.path, PathBuf::from("letters.onnx"));
        let alone = read_model("{}", "command line", &overrides).unwrap();
        assert_eq!(alone.path, read.path);
    }

    #[test]
    fn every_problem_of_a_model_file_is_told() {
        check_problems(
            "nam: digits\nversion: 1.0.0/2\ntype: mlflow_model\ntags: vision\n",
            "model.yml:1:1: nam: unknown key; did you mean `name`?\n\
             model.yml:2:1: version: expected 1 to 30 letters, digits, dots, dashes and underscores, from a letter or digit, found \"1.0.0/2\"\n\
             model.yml:3:1: type: expected custom_model, found \"mlflow_model\"\n\
             model.yml:4:1: tags: expected a mapping, found \"vision\"\n\
             model.yml: name: expected a name, found nothing\n\
             model.yml: path: expected an .onnx file, or a folder with one, found nothing",
        );
    }

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
    fn a_cloud_registry_is_refused() {
        check_refused(
            "azureml://registries/R/models/n/versions/1",
            "expected a model registered here, found \"azureml://registries/R/models/n/versions/1\": registries live in the cloud; register the files with `serin model create`",
        );
    }
}

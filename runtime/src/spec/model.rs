//! A model as it is written: the file of one that is to be registered.

use std::path::PathBuf;

use super::assignment::{Assignment, assign_to_model};
use super::fields::{Fields, parsed, text, texts};
use super::model_ref::read_model_type;
use super::node::Node;
use super::paths::is_asset;
use super::spelling::{self, modernise, old_keys};
use super::{ModelAbout, ModelName, ModelVersion, Problem, SpecError, placeholder, yaml};

/// Keys that describe a model to people, in Azure's files and in those of `models/`: how it was made and what it is like.
const DESCRIPTION: &[&str] = &["accuracy", "flavors", "inputs", "outputs", "training"];

/// Keys that Azure writes into its answers and drops from what it reads.
const READ_ONLY: &[&str] = &["$schema", "creation_context", "id"];

/// The part of a model file that registers a model. The rest is for people, and stays in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The name that all versions share.
    pub name: ModelName,
    /// The version; without one the next number.
    pub version: Option<ModelVersion>,
    /// File or folder, as written: a relative path starts from the folder of the model file.
    pub path: PathBuf,
    /// What the file says of it.
    pub about: ModelAbout,
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
    let mut problems = Vec::new();
    modernise(&mut root, spelling::MODEL, &mut problems);
    assign_to_model(overrides, &mut root);
    let placeholders = placeholder::in_tree(&root);
    let mut fields = Fields::open(root, &mut problems);
    let name = fields.require("name", "a name", parsed);
    let version = fields.read("version", parsed);
    let path = fields.require("path", "an .onnx file, or a folder with one", read_path);
    fields.read("type", read_model_type);
    let about = ModelAbout {
        description: fields.read("description", text),
        tags: texts(fields.take("tags"), fields.problems()),
        properties: texts(fields.take("properties"), fields.problems()),
        stage: fields.read("stage", text),
        is_archived: false,
    };
    fields.ignore(DESCRIPTION);
    fields.ignore(READ_ONLY);
    fields.finish(&old_keys(spelling::MODEL, ""));
    placeholder::tell(placeholders, &mut problems);
    let read = name.zip(path).map(|(name, path)| ModelSpec {
        name,
        version,
        path: path.into(),
        about,
    });
    SpecError::unless_clean(file, read, problems)
}

/// The path of a file or folder on this machine.
fn read_path(node: Node) -> Result<String, Problem> {
    let at = node.clone();
    let path = text(node)?;
    match is_asset(&path) {
        true => Err(at.expected(
            "the path of a file or folder on this machine, because files in the cloud are not read here",
        )),
        false => Ok(path.strip_prefix("file:").unwrap_or(&path).to_owned()),
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
                about: ModelAbout::default(),
            };
            let mut read = read_model(text, "model.yml", &[]).unwrap();
            read.about = ModelAbout::default();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_file_of_azure_is_read() {
        let more = "$schema: https://azuremlschemas.azureedge.net/latest/model.schema.json\ntype: custom_model\ndescription: Reads digits.\ntags: {team: vision, live: true}\nproperties: {}\nstage: Production\n";
        let read = read_model(&format!("{DIGITS}{more}"), "model.yml", &[]).unwrap();
        let plain = read_model(DIGITS, "model.yml", &[]).unwrap();
        assert_eq!(read.path, plain.path);
        assert_eq!(read.about.stage.as_deref(), Some("Production"));
        assert_eq!(read.about.tags["live"], "true");
        assert!(plain.about.is_empty());
    }

    #[test]
    fn files_of_all_years_are_read_and_files_in_the_cloud_are_refused() {
        let read = |text: &str| read_model(text, "model.yml", &[]).map(|model| model.path);
        for path in [
            "path: file:iris.onnx",
            "local_path: iris.onnx",
            "asset_path: iris.onnx\nmodel_format: Triton",
            "path: iris.onnx\ntype: MLflow_model",
        ] {
            let text = format!("name: iris\n{path}\n");
            assert_eq!(
                read(&text).as_deref(),
                Ok(std::path::Path::new("iris.onnx")),
                "{path}"
            );
        }
        let cloud = "name: iris\npath: azureml://datastores/d/paths/iris\n";
        check_problems(
            cloud,
            "model.yml:2:1: path: expected the path of a file or folder on this machine, because files in the cloud are not read here, found \"azureml://datastores/d/paths/iris\"",
        );
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
            "nam: digits\nversion: 1.0.0/2\ntype: openai_model\ntags: vision\n",
            "model.yml:1:1: nam: unknown key; did you mean `name`?\n\
             model.yml:2:1: version: expected 1 to 30 letters, digits, dots, dashes and underscores, from a letter or digit, found \"1.0.0/2\"\n\
             model.yml:3:1: type: expected custom_model or custom or mlflow_model or mlflow or triton_model or triton, found \"openai_model\"; serin scores ONNX files\n\
             model.yml:4:1: tags: expected a mapping, found \"vision\"\n\
             model.yml: name: expected a name, found nothing\n\
             model.yml: path: expected an .onnx file, or a folder with one, found nothing",
        );
    }
}

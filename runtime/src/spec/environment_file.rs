//! An environment as it is written: the file of one that is to be registered under a name.

use serde_json::{Map, Value};

use super::assignment::{Assignment, assign_to_model};
use super::fields::{Fields, one_of, parsed, text, texts};
use super::kept::{Kept, Shape, read_kept};
use super::{ModelName, ModelVersion, SpecError, yaml};

/// What an environment consists of, as it stands in a deployment.
const CONTENT: &Kept = &[
    ("build", Shape::Map),
    ("conda_file", Shape::TextOrMap),
    ("image", Shape::Text),
    ("inference_config", Shape::Map),
];

/// An environment under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentSpec {
    /// The name that all versions share.
    pub name: ModelName,
    /// The version; without one the next number.
    pub version: Option<ModelVersion>,
    /// What it consists of, as a deployment may have it in place of a name.
    pub content: Map<String, Value>,
    /// A description for people.
    pub description: Option<String>,
    /// Tags for people.
    pub tags: Map<String, Value>,
}

/// Reads an environment file, in the form of `az ml environment create --file`. `overrides` are set before anything is checked.
///
/// # Errors
///
/// All problems of the file.
pub fn read_environment(
    yaml_text: &str,
    file: &str,
    overrides: &[Assignment],
) -> Result<EnvironmentSpec, SpecError> {
    let mut root = yaml::parse(yaml_text, file)?;
    assign_to_model(overrides, &mut root);
    let mut problems = Vec::new();
    let mut fields = Fields::open(root, &mut problems);
    let name = fields.require("name", "a name", parsed);
    let version = fields.read("version", parsed);
    let content = read_kept(CONTENT, &mut fields);
    let description = fields.read("description", text);
    let tags = texts(fields.take("tags"), fields.problems());
    texts(fields.take("properties"), fields.problems());
    fields.read("os_type", |node| one_of(node, &["linux"]));
    fields.ignore(&["$schema", "creation_context", "id"]);
    fields.finish(&[]);
    let read = name.map(|name| EnvironmentSpec {
        name,
        version,
        content: content.into_iter().collect(),
        description,
        tags: tags
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect(),
    });
    SpecError::unless_clean(file, read, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_azure_is_read() {
        let text = "name: env\nversion: 1\nimage: mcr.example/base:latest\nconda_file: conda.yml\nos_type: Linux\ntags: {a: 1}\n";
        let read = read_environment(text, "env.yml", &[]).unwrap();
        assert_eq!(read.content["conda_file"], "conda.yml");
        assert_eq!(read.tags["a"], "1");
    }

    #[test]
    fn every_problem_of_an_environment_file_is_told() {
        let error = read_environment("imag: x\nconda_file: 3\n", "env.yml", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "env.yml:1:1: imag: unknown key; did you mean `image`?\nenv.yml:2:1: conda_file: expected text or a mapping, found 3\n\
             env.yml: name: expected a name, found nothing"
        );
    }
}

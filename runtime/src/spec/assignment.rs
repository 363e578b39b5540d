//! Assignments of the command line: `--set deployments.blue.scale.instance_count=5`.
//!
//! Here an assignment is read and put into a tree of values. Not here: judging what comes of it (`set`, and the readers of
//! files).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model_ref::ModelRef;
use super::names::DeploymentName;
use super::node::{Content, Node, find};
use super::paths::{resolve, resolve_value};
use super::problem::Problem;
use super::spelling::{self, Spelling, modernise};

/// A text that is no assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an assignment such as instance_count=5, found {0:?}")]
pub struct SetError(String);

/// A path and the value that it gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    path: String,
    value: Value,
}

impl Assignment {
    /// Reads `path=value`. The first `=` parts them; the value is JSON, or else the text as it stands. Where only text may stand, as in
    /// tags, the value is that text, and `1.10` does not become a number.
    ///
    /// # Errors
    ///
    /// When there is no `=`, or no path before it.
    pub fn parse(text: &str) -> Result<Self, SetError> {
        let refused = || SetError(text.to_owned());
        let (path, value) = text.split_once('=').ok_or_else(refused)?;
        let read = serde_json::from_str(value).ok();
        let read = read.filter(|read: &Value| read.is_string() || !is_of_text(path));
        Self::new(path, read.unwrap_or_else(|| value.into())).ok_or_else(refused)
    }

    /// Gives `value` to `path`; none when the path has an empty part.
    #[must_use]
    pub fn new(path: &str, value: Value) -> Option<Self> {
        let path = path.trim().to_owned();
        (!path.split('.').any(str::is_empty)).then_some(Self { path, value })
    }
}

impl fmt::Display for Assignment {
    /// For one line: the path, and the value where it is a number or a choice; a text may be long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.value {
            Value::Number(_) | Value::Bool(_) => write!(f, "={}", self.value),
            Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => Ok(()),
        }
    }
}

impl FromStr for Assignment {
    type Err = SetError;

    fn from_str(text: &str) -> Result<Self, SetError> {
        Self::parse(text)
    }
}

impl Assignment {
    /// Where the value goes.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value that goes there.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether it speaks of the traffic of an endpoint.
    #[must_use]
    pub fn is_of_traffic(&self) -> bool {
        self.path.split('.').next() == Some("traffic")
    }

    /// The same with a deployment by its name, where a file declares deployments and it is told by its position there.
    #[must_use]
    pub fn by_name(mut self, declared: &[DeploymentName]) -> Self {
        let rest = self.path.strip_prefix("deployments[");
        let position = rest.and_then(|rest| rest.split_once("]."));
        let found = position.and_then(|(index, rest)| {
            let index: usize = index.parse().ok()?;
            Some((declared.get(index)?, rest))
        });
        if let Some((name, rest)) = found {
            self.path = format!("deployments.{name}.{rest}");
        }
        self
    }

    /// Makes the path of a model, of code or of an environment absolute, seen from the folder `base` in which the assignment was typed, which has
    /// no links in it.
    pub fn resolve_paths(&mut self, base: &Path) {
        let below_deployment = || {
            let rest = self.path.strip_prefix("deployments")?;
            let (_, rest) = rest.trim_start_matches('.').split_once('.')?;
            Some(rest)
        };
        let value = match below_deployment().unwrap_or(&self.path) {
            "model" if self.value.is_object() => self.value.get_mut("path"),
            "model" | "model.path" | "model.local_path" | "model.asset_path" => {
                Some(&mut self.value)
            }
            "code_configuration.code"
            | "code_reference.code"
            | "code_reference.directory"
            | "environment"
            | "environment.conda_file" => return resolve_value(&mut self.value, base),
            _ => None,
        };
        if let Some(value) = value
            && let Some(text) = value.as_str()
            && let Ok(ModelRef::Path(path)) = ModelRef::parse(text)
        {
            *value = resolve(&path, base).to_string_lossy().into();
        }
    }

    /// Sets the value in a mapping in current spelling.
    fn assign(&self, root: &mut Node, spellings: &[Spelling]) {
        self.assign_below(&self.path, root, spellings);
    }

    /// Sets the value at `path`, the end of this assignment's path.
    fn assign_below(&self, path: &str, root: &mut Node, spellings: &[Spelling]) {
        let value = Node::from_value(self.path.clone(), self.value.clone());
        spelling::assign(root, path, value, spellings);
    }

    /// The problem that the path leads nowhere.
    fn problem(&self, message: String) -> Problem {
        Problem {
            place: None,
            field: self.path.clone(),
            message,
            suggestion: None,
        }
    }
}

/// Whether a path leads to a text for people or for other programs.
fn is_of_text(path: &str) -> bool {
    let path = path.trim();
    let below = match path.strip_prefix("deployments") {
        Some(rest) => {
            let rest = rest.trim_start_matches('.').split_once('.');
            rest.map_or("", |(_, rest)| rest)
        }
        None => path,
    };
    match below.split_once('.') {
        Some((map, _)) => matches!(map, "tags" | "properties" | "environment_variables"),
        None => below == "description",
    }
}

/// Sets attributes in the tree of one deployment in current spelling.
pub(super) fn assign_to_deployment(
    assignments: &[Assignment],
    root: &mut Node,
    problems: &mut Vec<Problem>,
) {
    for assignment in assignments {
        assignment.assign(root, spelling::DEPLOYMENT);
    }
    // A value may be a mapping in an old spelling.
    modernise(root, spelling::DEPLOYMENT, problems);
}

/// Sets attributes in the tree of a model.
pub(super) fn assign_to_model(assignments: &[Assignment], root: &mut Node) {
    for assignment in assignments {
        assignment.assign(root, &[]);
    }
}

/// Sets attributes in trees in current spelling.
pub(super) fn assign_all(
    assignments: &[Assignment],
    endpoint: &mut Node,
    deployments: &mut [Node],
    problems: &mut Vec<Problem>,
) {
    for assignment in assignments {
        let Some(rest) = assignment.path.strip_prefix("deployments") else {
            assignment.assign(endpoint, spelling::ENDPOINT);
            continue;
        };
        match locate(rest, deployments) {
            Ok((deployment, path)) => {
                assignment.assign_below(path, deployment, spelling::DEPLOYMENT);
            }
            Err(message) => problems.push(assignment.problem(message)),
        }
    }
    modernise(endpoint, spelling::ENDPOINT, problems);
    for deployment in deployments {
        modernise(deployment, spelling::DEPLOYMENT, problems);
    }
}

/// Finds the deployment that `.blue.sku` or `[0].sku` speaks of, and the path within it.
fn locate<'a, 'p>(
    path: &'p str,
    deployments: &'a mut [Node],
) -> Result<(&'a mut Node, &'p str), String> {
    let expected = || {
        format!("expected a path such as deployments.NAME.instance_count, found deployments{path}")
    };
    let names: Vec<String> = deployments.iter().map(name_of).collect();
    let (found, index, path) =
        if let Some((name, path)) = path.strip_prefix('.').and_then(|path| path.split_once('.')) {
            let same = |known: &String| known.eq_ignore_ascii_case(name);
            (name, names.iter().position(same), path)
        } else if let Some((index, path)) = path
            .strip_prefix('[')
            .and_then(|path| path.split_once("]."))
        {
            (index, index.parse().ok(), path)
        } else {
            return Err(expected());
        };
    index
        .and_then(|index| deployments.get_mut(index))
        .map(|deployment| (deployment, path))
        .ok_or_else(|| {
            format!(
                "expected one of the deployments ({}), found {found}",
                names.join(", ")
            )
        })
}

fn name_of(deployment: &Node) -> String {
    let Content::Map(entries) = &deployment.content else {
        return String::new();
    };
    match find(entries, "name").map(|name| &name.content) {
        Some(Content::Text(name)) => name.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, resolved: &str) {
        let mut assignment = Assignment::parse(typed).unwrap();
        assignment.resolve_paths(Path::new("/home/ann"));
        assert_eq!(assignment, Assignment::parse(resolved).unwrap());
    }

    #[test]
    fn the_path_of_a_model_is_seen_from_where_it_was_typed() {
        check("model=./iris.onnx", "model=/home/ann/iris.onnx");
        check("model.path=../iris", "model.path=/home/iris");
        check(
            "deployments.blue.model=iris",
            "deployments.blue.model=/home/ann/iris",
        );
        check(
            r#"deployments[0].model={"path": "iris"}"#,
            r#"deployments[0].model={"path": "/home/ann/iris"}"#,
        );
        check("model=/srv/iris", "model=/srv/iris");
    }

    #[test]
    fn code_and_environment_are_seen_from_where_they_were_typed() {
        check(
            "code_configuration.code=src",
            "code_configuration.code=/home/ann/src",
        );
        check(
            "deployments.blue.environment=./conda.yml",
            "deployments.blue.environment=/home/ann/conda.yml",
        );
        check("environment=azureml:env:1", "environment=azureml:env:1");
        check("environment.image=img", "environment.image=img");
    }

    #[test]
    fn what_is_text_is_taken_as_it_was_typed_and_all_else_is_json() {
        for below in ["", "deployments.blue.", "deployments[0]."] {
            for field in [
                "tags.a",
                "properties.a.b",
                "description",
                "environment_variables.A",
            ] {
                for text in [
                    "1.10",
                    "true",
                    "null",
                    "007",
                    "1e3",
                    "2026-01-02",
                    "",
                    "[1]",
                    "a=b",
                ] {
                    let typed = Assignment::parse(&format!("{below}{field}={text}")).unwrap();
                    assert_eq!(typed.value, Value::from(text), "{typed:?}");
                }
                let quoted = Assignment::parse(&format!(r#"{below}{field}="1.10""#)).unwrap();
                assert_eq!(quoted.value, Value::from("1.10"));
            }
            for field in [
                "instance_count",
                "traffic.tags",
                "request_settings.lanes",
                "a.tags.b",
            ] {
                let typed = Assignment::parse(&format!("{below}{field}=10")).unwrap();
                assert_eq!(typed.value, Value::from(10), "{typed:?}");
            }
        }
        let typed = Assignment::parse(r#"tags={"a": "1.10"}"#).unwrap();
        assert!(typed.value.is_object());
    }

    #[test]
    fn a_position_is_that_in_the_file_and_beyond_it_stays() {
        let declared = ["green", "blue"].map(|name| name.parse().unwrap());
        let named = |path: &str| {
            let assignment = Assignment::new(path, 1.into()).unwrap();
            assignment.by_name(&declared).path
        };
        assert_eq!(named("deployments[0].sku"), "deployments.green.sku");
        assert_eq!(named("deployments[1].tags.a"), "deployments.blue.tags.a");
        for path in [
            "deployments[2].sku",
            "deployments[-1].sku",
            "deployments[x].sku",
            "deployments[0]",
            "deployments.blue.sku",
            "tags.deployments[0].a",
        ] {
            assert_eq!(named(path), path);
        }
    }

    #[test]
    fn what_is_no_path_of_a_model_stays() {
        for typed in [
            "model=azureml:iris:1",
            "model=iris:1",
            "model=5",
            "tags.model=iris",
            "deployments.blue.tags.model=iris",
            "instance_type=iris",
        ] {
            check(typed, typed);
        }
    }
}

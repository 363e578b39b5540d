//! All that a deployment asks for its script: an environment, variables; and what keeps the script from being run. Pure.
//!
//! Not here: whether the files are there (`control`), and what an environment file says (`environments`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::paths::is_asset;
use super::{CodeConfiguration, DeploymentSpec, Scoring};

/// Where the packages of a script come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentSource {
    /// A conda file, or a `requirements.txt`.
    File(PathBuf),
    /// The record form: `name`, `image`, `conda_file`, `inference_config`.
    Record(Value),
}

impl DeploymentSpec {
    /// The environment that is written.
    #[must_use]
    pub fn environment(&self) -> Option<EnvironmentSource> {
        Some(match self.kept.get("environment")? {
            Value::String(text) => {
                EnvironmentSource::File(text.strip_prefix("file:").unwrap_or(text).into())
            }
            record => EnvironmentSource::Record(record.clone()),
        })
    }

    /// The variables of the script's processes, as text.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let written = self.kept.get("environment_variables");
        let written = written.and_then(Value::as_object).into_iter().flatten();
        written
            .filter_map(|(name, value)| Some((name.clone(), text_of(value)?)))
            .collect()
    }

    /// All that keeps the script of a deployment from being run, as far as the file says it, in sentences.
    #[must_use]
    pub fn problems_of_scoring(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let Scoring::Script(code) = self.scoring() else {
            return problems;
        };
        problems.extend(problem_of_code(code));
        problems.extend(
            self.kept
                .get("environment")
                .and_then(problem_of_environment),
        );
        let variables = self.kept.get("environment_variables");
        let variables = variables.and_then(Value::as_object).into_iter().flatten();
        problems.extend(variables.filter_map(|(name, value)| problem_of_variable(name, value)));
        problems
    }
}

fn problem_of_code(code: &CodeConfiguration) -> Option<String> {
    let Some(script) = &code.scoring_script else {
        return Some(
            "scoring: script needs a script: write code_configuration with code (its folder) and scoring_script, or scoring: native"
                .to_owned(),
        );
    };
    let Some(folder) = &code.code else {
        return Some(format!(
            "code_configuration.code: expected the folder that holds {}, found nothing",
            script.display()
        ));
    };
    if is_asset(&folder.to_string_lossy()) {
        return Some(format!(
            "code_configuration.code: expected a folder on this machine, found {:?}: code is not registered here, give its folder",
            folder.display().to_string()
        ));
    }
    code.places().is_empty().then(|| {
        format!(
            "code_configuration.scoring_script: expected a script within {}, found {}, which is outside: name a folder that holds it as code",
            folder.display(),
            script.display()
        )
    })
}

fn problem_of_environment(environment: &Value) -> Option<String> {
    if let Some(asset) = environment.as_str().filter(|text| is_asset(text)) {
        return Some(format!(
            "environment: expected a conda file or a requirements.txt, found {asset:?}: environments are not registered here, \
             give the file"
        ));
    }
    environment.get("build").map(|_| {
        "environment.build: no images are built here: list the packages in a conda_file or a requirements.txt".to_owned()
    })
}

fn problem_of_variable(name: &str, value: &Value) -> Option<String> {
    let at = format!("environment_variables.{name}");
    if name.is_empty() || name.contains(['=', '\0']) {
        return Some(format!(
            "environment_variables: expected names without `=`, found {name:?}"
        ));
    }
    let Some(text) = text_of(value) else {
        let found = if value.is_array() {
            "a list"
        } else {
            "a mapping"
        };
        return Some(format!(
            "{at}: expected text, a number, or true or false, found {found}"
        ));
    };
    text.contains('\0')
        .then(|| format!("{at}: expected text, found a zero byte in it"))
}

/// The text of a variable. Yes and no as Python writes them, which is how Azure's tools pass them on.
fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => String::new(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

//! Assignments of the command line: `--set deployments.blue.scale.instance_count=5`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DeploymentSpec, EndpointSpec, SpecError};

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
    /// Reads `path=value`. The first `=` parts them; the value is JSON, or else the text as it stands.
    ///
    /// # Errors
    ///
    /// When there is no `=`, or no path before it.
    pub fn parse(text: &str) -> Result<Self, SetError> {
        let refused = || SetError(text.to_owned());
        let (path, value) = text.split_once('=').ok_or_else(refused)?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Self::new(path, value).ok_or_else(refused)
    }

    /// Gives `value` to `path`; none when the path has an empty part.
    #[must_use]
    pub fn new(path: &str, value: Value) -> Option<Self> {
        let path = path.trim().to_owned();
        (!path.split('.').any(str::is_empty)).then_some(Self { path, value })
    }
}

impl FromStr for Assignment {
    type Err = SetError;

    fn from_str(text: &str) -> Result<Self, SetError> {
        Self::parse(text)
    }
}

/// Sets attributes of an endpoint and of its deployments, all or none.
///
/// A deployment is `deployments.blue`, or `deployments[0]` by its position. Old spellings work as they do in files.
///
/// # Errors
///
/// Everything that a file with the result would be refused for, a change of a name, and a deployment that is not there.
pub fn apply(
    assignments: &[Assignment],
    endpoint: &mut EndpointSpec,
    deployments: &mut Vec<DeploymentSpec>,
) -> Result<(), SpecError> {
    todo!("{assignments:?} {endpoint:?} {deployments:?}")
}

//! Endpoints and deployments that a command names, found among what the server shows.

use serde_json::Value;

use super::exit::CliError;
use crate::spec::{DeploymentName, EndpointName};

/// The endpoint that has the deployment, when no other has one of the name.
pub(super) fn only_endpoint_with(
    name: &DeploymentName,
    endpoints: &[Value],
) -> Result<EndpointName, CliError> {
    let having: Vec<&str> = endpoints
        .iter()
        .filter(|endpoint| deployments(endpoint).any(|(other, _)| is_same(other, name.as_str())))
        .filter_map(|endpoint| endpoint["name"].as_str())
        .collect();
    match having[..] {
        [only] => only
            .parse()
            .map_err(|_| CliError::NotFound(format!("no endpoint has a deployment {name:?}"))),
        [] => Err(CliError::NotFound(format!(
            "no endpoint has a deployment \"{name}\""
        ))),
        [..] => Err(CliError::BadInput(format!(
            "several endpoints have a deployment \"{name}\": {}; name one with --endpoint-name",
            having.join(", ")
        ))),
    }
}

/// Names are told apart without regard to case.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The deployments of an endpoint as it is shown.
pub(super) fn deployments(endpoint: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let deployments = endpoint["deployments"].as_object().into_iter().flatten();
    deployments.map(|(name, shown)| (name.as_str(), shown))
}

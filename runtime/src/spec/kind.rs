//! Whether a file is one of an endpoint or of a deployment, by its keys: what else it says may be wrong.

use super::node::{Content, Node, find};
use super::{SpecError, yaml};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// An endpoint, with deployments in it or without.
    Endpoint,
    /// One deployment.
    Deployment,
}

/// Keys that only files of endpoints have, whatever else stands there.
const OF_ENDPOINTS: &[&str] = &["deployments", "traffic", "auth_mode", "mirror_traffic"];

/// Keys that only deployments have.
const OF_DEPLOYMENTS: &[&str] = &[
    "code_configuration",
    "code_reference",
    "endpoint_name",
    "environment",
    "instance_count",
    "instance_type",
    "model",
    "request",
    "request_settings",
    "scale",
    "scale_settings",
    "sku",
];

/// The kind of a file; one with a name and little else is an endpoint.
///
/// # Errors
///
/// When the text is no YAML.
pub fn kind_of_file(text: &str, file: &str) -> Result<FileKind, SpecError> {
    Ok(kind_of(&yaml::parse(text, file)?))
}

/// Which keys a deployment's file lacks of the two that a whole one has: its model, its instance type.
///
/// # Errors
///
/// When the text is no YAML.
pub fn lacks_model_and_type(text: &str, file: &str) -> Result<(bool, bool), SpecError> {
    let root = yaml::parse(text, file)?;
    let Content::Map(entries) = &root.content else {
        return Ok((false, false));
    };
    let lacks = |keys: &[&str]| keys.iter().all(|key| find(entries, key).is_none());
    Ok((lacks(&["model"]), lacks(&["instance_type", "sku"])))
}

fn kind_of(root: &Node) -> FileKind {
    let Content::Map(entries) = &root.content else {
        return FileKind::Endpoint;
    };
    let has = |keys: &[&str]| keys.iter().any(|key| find(entries, key).is_some());
    match !has(OF_ENDPOINTS) && has(OF_DEPLOYMENTS) {
        true => FileKind::Deployment,
        false => FileKind::Endpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_file_say_what_it_is() {
        for (text, kind) in [
            ("name: iris", FileKind::Endpoint),
            (
                "name: iris\ntype: online\ndeployments: {blue: {model: m}}",
                FileKind::Endpoint,
            ),
            ("name: iris\ntraffic: {blue: 100}", FileKind::Endpoint),
            (
                "name: blue\nmodel: aml:models/m:1\nsku: F2",
                FileKind::Deployment,
            ),
            ("name: blue\nendpoint_name: iris", FileKind::Deployment),
        ] {
            assert_eq!(kind_of_file(text, "a.yml").unwrap(), kind, "{text}");
        }
    }
}

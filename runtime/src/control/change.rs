//! Changes: all that can alter the desired state.
//!
//! A [`Change`] is all that can alter what the server should run. It is kept in the journal as JSON, so its form is a stored
//! format: variants and fields may be added, not renamed.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::revision::Revision;
use crate::spec::{
    Assignment, DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, TrafficSplit,
};

/// One change. Applied whole or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "changes are few and short-lived")]
pub enum Change {
    /// A new endpoint, with the deployments that its file may hold.
    CreateEndpoint {
        endpoint: EndpointSpec,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deployments: Vec<DeploymentSpec>,
    },
    /// Anything about an endpoint and its deployments, at once.
    UpdateEndpoint {
        name: EndpointName,
        update: EndpointUpdate,
    },
    /// The endpoint goes, with all its deployments.
    DeleteEndpoint { name: EndpointName },
    /// A new deployment; with `all_traffic` it gets all traffic as soon as it is ready.
    CreateDeployment {
        endpoint: EndpointName,
        deployment: DeploymentSpec,
        #[serde(default)]
        all_traffic: bool,
    },
    /// A deployment becomes what the update says.
    UpdateDeployment {
        endpoint: EndpointName,
        name: DeploymentName,
        update: DeploymentUpdate,
    },
    /// A deployment without traffic goes. Without an endpoint: of the only endpoint that has it.
    DeleteDeployment {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<EndpointName>,
        name: DeploymentName,
    },
    /// An endpoint becomes what was in force of it as of an earlier revision, but for its credentials.
    RollBack {
        endpoint: EndpointName,
        to: Revision,
    },
    /// A new key; the old one is refused from then on. The other key stays.
    RegenerateKey {
        endpoint: EndpointName,
        key: KeyType,
    },
}

/// The parts of one atomic update, applied in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointUpdate {
    /// Merged into the endpoint; its traffic, when it has any, replaces the old one whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<EndpointSpec>,
    /// All deployments there shall be, of files that declare them: others are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployments: Option<Vec<DeploymentSpec>>,
    /// One deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<(DeploymentName, DeploymentUpdate)>,
    /// The whole split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSplit>,
    /// Any attributes of the endpoint and its deployments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Assignment>,
    /// The salt of the cohorts: another one has others who move first. It counts where one deployment has all traffic, so that nobody
    /// moves by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
}

/// The parts of an update of one deployment, applied in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, from = "DeploymentUpdateForm")]
pub struct DeploymentUpdate {
    /// Merged into the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<DeploymentSpec>,
    /// Whether `file` makes the deployment where there is none.
    pub upsert: bool,
    /// Whether `file` is all that the deployment shall be, and is not merged into what it was.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
    /// The number of instances, where a program changes that and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Any attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Assignment>,
}

/// An update as earlier releases wrote it too, with the number of instances beside the assignments.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DeploymentUpdateForm {
    file: Option<DeploymentSpec>,
    upsert: bool,
    replaces: bool,
    scale: Option<u32>,
    instance_count: Option<u32>,
    set: Vec<Assignment>,
}

impl From<DeploymentUpdateForm> for DeploymentUpdate {
    fn from(form: DeploymentUpdateForm) -> Self {
        let count = form.instance_count.map(Value::from);
        let count = count.and_then(|count| Assignment::new("instance_count", count));
        Self {
            file: form.file,
            upsert: form.upsert,
            replaces: form.replaces,
            scale: form.scale,
            set: count.into_iter().chain(form.set).collect(),
        }
    }
}

/// Which of the two keys of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// The first.
    Primary,
    /// The second, so that clients can move over while the first is renewed.
    Secondary,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

impl fmt::Display for Change {
    /// One line for people: `update deployment iris/blue`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateEndpoint { endpoint, .. } => write!(f, "create endpoint {}", endpoint.name),
            Self::UpdateEndpoint { name, update } => write!(f, "update endpoint {name}{update}"),
            Self::DeleteEndpoint { name } => write!(f, "delete endpoint {name}"),
            Self::CreateDeployment {
                endpoint,
                deployment,
                ..
            } => write!(f, "create deployment {endpoint}/{}", deployment.name),
            Self::UpdateDeployment {
                endpoint,
                name,
                update,
            } => write!(f, "update deployment {endpoint}/{name}{update}"),
            Self::DeleteDeployment {
                endpoint: Some(endpoint),
                name,
            } => write!(f, "delete deployment {endpoint}/{name}"),
            Self::DeleteDeployment {
                endpoint: None,
                name,
            } => write!(f, "delete deployment {name}"),
            Self::RollBack { endpoint, to } => {
                write!(f, "roll back endpoint {endpoint} to revision {to}")
            }
            Self::RegenerateKey { endpoint, key } => {
                write!(f, "regenerate {key} key of endpoint {endpoint}")
            }
        }
    }
}

impl fmt::Display for EndpointUpdate {
    /// The parts that it touches beyond the endpoint itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, update)) = &self.deployment {
            write!(f, ", deployment {name}{update}")?;
        }
        if let Some(traffic) = &self.traffic {
            write!(f, ", traffic {traffic}")?;
        }
        write_assignments(f, &self.set)
    }
}

impl fmt::Display for DeploymentUpdate {
    /// What it sets beyond its file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(count) = self.scale {
            write!(f, ", instance_count={count}")?;
        }
        write_assignments(f, &self.set)
    }
}

fn write_assignments(f: &mut fmt::Formatter<'_>, set: &[Assignment]) -> fmt::Result {
    set.iter().try_for_each(|one| write!(f, ", {one}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_sets() {
        let set = |text: &str| Assignment::parse(text).expect("an assignment");
        let deployment = DeploymentUpdate {
            set: vec![set("instance_count=2")],
            ..DeploymentUpdate::default()
        };
        let (endpoint, name) = ("iris".parse().unwrap(), "blue".parse().unwrap());
        let change = Change::UpdateDeployment {
            endpoint,
            name,
            update: deployment.clone(),
        };
        assert_eq!(
            change.to_string(),
            "update deployment iris/blue, instance_count=2"
        );
        let update = EndpointUpdate {
            deployment: Some(("blue".parse().unwrap(), deployment)),
            set: vec![set("description=all that it is for"), set("tags.team=ml")],
            ..EndpointUpdate::default()
        };
        let name = "iris".parse().unwrap();
        let change = Change::UpdateEndpoint { name, update };
        assert_eq!(
            change.to_string(),
            "update endpoint iris, deployment blue, instance_count=2, description, tags.team"
        );
    }

    #[test]
    fn an_update_of_an_earlier_release_keeps_its_number_of_instances() {
        let text = r#"{"instance_count": 3, "set": [{"path": "description", "value": "x"}]}"#;
        let update: DeploymentUpdate = serde_json::from_str(text).expect("an update");
        let written = serde_json::to_value(&update).expect("JSON");
        assert_eq!(
            written["set"],
            serde_json::json!([
                {"path": "instance_count", "value": 3}, {"path": "description", "value": "x"}
            ])
        );
    }
}

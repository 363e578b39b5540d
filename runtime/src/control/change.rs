//! Wishes, and why one is refused.
//!
//! A [`Change`] is all that can alter what the server should run. It is kept in the journal as JSON, so its form is a stored
//! format: variants and fields may be added, not renamed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::control::desired::Revision;
use crate::spec::{
    Assignment, DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, TrafficSplit,
};

/// One wish. Applied whole or not at all.
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
}

/// The parts of an update of one deployment, applied in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentUpdate {
    /// Merged into the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<DeploymentSpec>,
    /// Whether `file` makes the deployment where there is none.
    pub upsert: bool,
    /// The number of instances as older versions say it: read and obeyed, never written. Say it in `set`.
    #[serde(skip_serializing)]
    pub instance_count: Option<u32>,
    /// Any attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Assignment>,
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
            Self::UpdateDeployment { endpoint, name, .. } => {
                write!(f, "update deployment {endpoint}/{name}")
            }
            Self::DeleteDeployment {
                endpoint: Some(endpoint),
                name,
            } => write!(f, "delete deployment {endpoint}/{name}"),
            Self::DeleteDeployment {
                endpoint: None,
                name,
            } => write!(f, "delete deployment {name}"),
            Self::RegenerateKey { endpoint, key } => {
                write!(f, "regenerate {key} key of endpoint {endpoint}")
            }
        }
    }
}

impl fmt::Display for EndpointUpdate {
    /// What it touches beyond the endpoint itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = &self.deployment {
            write!(f, ", deployment {name}")?;
        }
        if let Some(traffic) = &self.traffic {
            write!(f, ", traffic {traffic}")?;
        }
        Ok(())
    }
}

/// What kind of refusal it is; administration answers with a status by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What the request names does not exist.
    NotFound,
    /// What it would create exists.
    AlreadyExists,
    /// It asks for what cannot be.
    Invalid,
    /// It does not fit the present state.
    Conflict,
    /// The disk refused.
    Storage,
    /// Too many wait already, or the server is stopping: try again.
    Busy,
}

/// Why a change was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// What the change names does not exist; says what does.
    #[error("{0}")]
    NotFound(String),
    /// What the change would create exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// Everything that is wrong with it. Never empty.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// It does not fit the present state, such as traffic that a deployment still has.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else changed something since the caller looked.
    #[error(
        "revision {expected} was expected, the current one is {current}: look again, then decide"
    )]
    Outdated {
        expected: Revision,
        current: Revision,
    },
    /// The change could not be made durable, so it was not accepted.
    #[error("the change cannot be stored, so nothing was changed: {0}")]
    Storage(String),
    /// The mailbox is full.
    #[error("too many changes wait already: try again")]
    Busy,
    /// The server is going away.
    #[error("the server is stopping")]
    Stopped,
}

impl ChangeError {
    /// What kind of refusal it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Conflict(_) | Self::Outdated { .. } => ErrorKind::Conflict,
            Self::Storage(_) => ErrorKind::Storage,
            Self::Busy | Self::Stopped => ErrorKind::Busy,
        }
    }

    /// Each problem by itself, where there are several.
    #[must_use]
    pub fn details(&self) -> &[String] {
        match self {
            Self::Invalid(problems) => problems,
            _ => &[],
        }
    }
}

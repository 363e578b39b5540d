//! Operations: what became of accepted changes.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::control::revision::Revision;
use crate::control::timestamp::Timestamp;
use crate::spec::{DeploymentName, EndpointName};

/// Number of an operation: the revision that its change made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub u64);

/// The reason of an operation that a newer one has overtaken.
pub(super) fn replaced_by(newer: OperationId) -> String {
    format!("operation {newer} took its place")
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// The way that the world has come toward what was asked for, in Azure's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProvisioningState {
    /// It did not exist before and is on its way.
    Creating,
    /// It exists and is on its way to something else.
    Updating,
    /// It is on its way out.
    Deleting,
    /// It is as asked for.
    Succeeded,
    /// It is not as asked for, and stays so until the next change or restart.
    Failed,
    /// A newer change took its place before it was done; nobody waits for it any more.
    Canceled,
}

impl ProvisioningState {
    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for ProvisioningState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One accepted change on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number.
    pub id: OperationId,
    /// The endpoint that the change is about.
    pub endpoint: EndpointName,
    /// The deployments that the change speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DeploymentName>,
    /// The change in one line: `update endpoint iris, traffic blue:90,green:10`.
    pub change: String,
    /// The revision that the change made.
    pub revision: Revision,
    /// The way that it has come.
    pub provisioning_state: ProvisioningState,
    /// A sentence on what the change does beyond its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it failed, or which change took its place. One that has not ended has it when a part of it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the change was accepted.
    pub started: Timestamp,
    /// When it succeeded, failed or was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

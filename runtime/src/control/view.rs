//! What `show` and `list` print: what should be, beside what is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::control::desired::Revision;
use crate::control::models::ModelDigest;
use crate::control::operation::ProvisioningState;
use crate::engine::Placement;
use crate::spec::{DeploymentName, DeploymentSpec, EndpointName, EndpointSpec};

/// Everything, at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct View {
    /// The revision that is being worked toward.
    pub revision: Revision,
    /// All endpoints by name.
    pub endpoints: Vec<EndpointView>,
}

impl View {
    /// One endpoint.
    #[must_use]
    pub fn endpoint(&self, name: &EndpointName) -> Option<&EndpointView> {
        self.endpoints.iter().find(|one| one.spec.name == *name)
    }
}

/// One endpoint, in the fields of `az ml online-endpoint show`.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointView {
    /// As asked for; in `traffic` every deployment has an entry.
    #[serde(flatten)]
    pub spec: EndpointSpec,
    /// How far it has come.
    pub provisioning_state: ProvisioningState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where requests go. Filled in by who knows the address of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scoring_uri: Option<String>,
    /// What the files say and serin keeps without effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its deployments by name.
    pub deployments: BTreeMap<DeploymentName, DeploymentView>,
}

/// One deployment, in the fields of `az ml online-deployment show`, and how it really runs.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentView {
    /// As asked for.
    #[serde(flatten)]
    pub spec: DeploymentSpec,
    /// How far it has come.
    pub provisioning_state: ProvisioningState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The content that the model stands for.
    pub model_digest: ModelDigest,
    /// Instances that answer requests.
    pub instances_ready: usize,
    /// Cores asked for and given, of each instance.
    pub placements: Vec<Placement>,
    /// What is kept without effect, and what is not quite as asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

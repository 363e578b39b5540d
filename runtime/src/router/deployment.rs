//! What a request is given to: admission and the handles of the instances.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::InstanceHandle;
use crate::observe::DeploymentMetrics;
use crate::router::AdmissionControl;
use crate::spec::DeploymentName;

/// One deployment as requests see it under one routing table. Immutable; `admission` outlives tables.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub name: DeploymentName,
    /// Shared by successive tables, so that no instance is admitted to twice over.
    pub admission: Arc<AdmissionControl>,
    pub instances: Vec<InstanceHandle>,
    pub request_timeout: Duration,
    pub metrics: Arc<DeploymentMetrics>,
}

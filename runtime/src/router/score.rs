//! The life of a request after its credential was checked: pick, admit, submit, await, record. Shared by every protocol and
//! by the embedded library.

use std::time::Instant;

use bytes::Bytes;

use crate::engine::RunError;
use crate::observe::Timings;
use crate::router::{Endpoint, Rejected, Router};
use crate::spec::DeploymentName;

/// One request, any protocol.
#[derive(Debug)]
pub struct ScoreRequest {
    /// Go straight to this deployment (header `azureml-model-deployment`), also at 0 %.
    pub deployment: Option<String>,
    pub payload: Bytes,
    /// When head and body were read; the deadline counts from here.
    pub received: Instant,
}

/// The answer, who gave it, and when it passed each point.
#[derive(Debug)]
pub struct Answer {
    pub body: Bytes,
    pub deployment: DeploymentName,
    pub timings: Timings,
}

/// Why there is no answer. Carries the deployment when one was chosen.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    #[error("endpoint {endpoint:?} has no deployment {deployment:?}")]
    NoDeployment {
        endpoint: String,
        deployment: String,
        known: Vec<String>,
    },
    #[error("endpoint {endpoint:?} sends traffic to no deployment")]
    NoTraffic { endpoint: String },
    #[error("deployment {deployment} has no ready instance")]
    NotReady { deployment: DeploymentName },
    #[error("{rejected}")]
    Rejected {
        deployment: DeploymentName,
        rejected: Rejected,
        retry_after_s: u64,
    },
    #[error("{error}")]
    Failed {
        deployment: DeploymentName,
        error: RunError,
        timings: Timings,
    },
}

impl Router {
    /// Scores one request at `endpoint`. Records the outcome once. Needs a tokio runtime with time.
    ///
    /// A deployment that drains between lookup and hand-over is looked up again in the current table. When the caller drops
    /// the future, the slot comes back only when the work has ended, and the outcome is recorded as `ClientGone`.
    pub async fn score(
        &self,
        _endpoint: &Endpoint,
        _request: ScoreRequest,
    ) -> Result<Answer, Unserved> {
        todo!()
    }
}

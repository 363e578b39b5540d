//! The life of a request after its credential was checked: pick, admit, submit, await, record. Shared by every protocol and
//! by the embedded library.
//!
//! Threads: edge. The work itself is done on a score thread.
//! Not here: credentials and bytes on the wire (`serve`).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::deadline::Deadline;
use crate::engine::{Job, Permit, Reply, RunError};
use crate::observe::{DeploymentMetrics, Outcome, Timings};
use crate::router::deployment::NotSubmitted;
use crate::router::{AdmissionControl, Deployment, Endpoint, Rejected, Router};
use crate::spec::DeploymentName;

/// How often a request looks for its deployment. Each time means that a change was published after the look before, so
/// more than two are rare.
const LOOKS_MAX: usize = 8;

/// One request, any protocol.
#[derive(Debug)]
pub struct ScoreRequest {
    /// Go straight to this deployment (header `azureml-model-deployment`), also at 0 %.
    pub deployment: Option<String>,
    /// The body, not yet decoded.
    pub payload: Bytes,
    /// When head and body were read; the deadline counts from here.
    pub received: Instant,
}

/// The answer, who gave it, and when it passed each point.
#[derive(Debug)]
pub struct Answer {
    /// The response body (JSON).
    pub body: Bytes,
    /// Whose model answered.
    pub deployment: DeploymentName,
    /// When the request passed each point.
    pub timings: Timings,
}

/// Why there is no answer. Carries the deployment when one was chosen.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    /// The request names a deployment that is not there.
    #[error(
        "endpoint {endpoint:?} has no deployment {deployment:?}; it has {}",
        or_none(.known)
    )]
    NoDeployment {
        /// The endpoint.
        endpoint: String,
        /// What the request names.
        deployment: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The split gives weight to nobody.
    #[error("endpoint {endpoint:?} sends traffic to no deployment")]
    NoTraffic {
        /// The endpoint.
        endpoint: String,
    },
    /// No instance of the deployment takes requests.
    #[error("deployment {deployment} has no ready instance")]
    NotReady {
        /// Who should have answered.
        deployment: DeploymentName,
    },
    /// Not admitted.
    #[error("{rejected}")]
    Rejected {
        /// Who should have answered.
        deployment: DeploymentName,
        /// Why not.
        rejected: Rejected,
        /// When to try again: about the time in which the requests held now are done, at least 1.
        retry_after_s: u64,
    },
    /// Handed over, and no answer came of it.
    #[error("{error}")]
    Failed {
        /// Who should have answered.
        deployment: DeploymentName,
        /// Why it did not.
        error: RunError,
        /// When the request passed each point.
        timings: Timings,
    },
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Router {
    /// Scores one request at `endpoint`. Records the outcome once. Needs a tokio runtime with time.
    ///
    /// A deployment that drains between lookup and hand-over is looked up again in the current table, by its name; only when
    /// it is gone is the split asked again.
    ///
    /// # Errors
    ///
    /// [`Unserved`]. What carries no deployment was recorded nowhere and is the caller's to count.
    ///
    /// # Cancel safety
    ///
    /// When the caller drops the future, the slot comes back only when the work has ended, and the outcome is recorded as
    /// [`Outcome::ClientGone`].
    pub async fn score(
        &self,
        endpoint: &Endpoint,
        request: ScoreRequest,
    ) -> Result<Answer, Unserved> {
        let mut deployment = choose(endpoint, request.deployment.as_deref())?;
        let mut admitted = None;
        for _ in 1..LOOKS_MAX {
            match attempt(&deployment, &request, admitted.take()).await {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(left) => {
                    let next = self.look_again(endpoint, &deployment, &request)?;
                    if Arc::ptr_eq(&next, &deployment) {
                        break;
                    }
                    admitted = left;
                    deployment = next;
                }
            }
        }
        Recording::start(&deployment.metrics, request.received).end(Outcome::NotReady);
        Err(Unserved::NotReady {
            deployment: deployment.name.clone(),
        })
    }

    /// The deployment that stands in the current table where `before` stood.
    fn look_again(
        &self,
        endpoint: &Endpoint,
        before: &Deployment,
        request: &ScoreRequest,
    ) -> Result<Arc<Deployment>, Unserved> {
        let table = self.table();
        let Some(endpoint) = table.endpoint(endpoint.name().key()) else {
            return Err(Unserved::NoDeployment {
                endpoint: endpoint.name().to_string(),
                deployment: before.name.to_string(),
                known: Vec::new(),
            });
        };
        match endpoint.deployment(before.name.key()) {
            Some(deployment) => Ok(Arc::clone(deployment)),
            None => choose(endpoint, request.deployment.as_deref()),
        }
    }
}

/// The deployment that the request names, else whose turn it is by the split.
fn choose(endpoint: &Endpoint, named: Option<&str>) -> Result<Arc<Deployment>, Unserved> {
    let chosen = match named {
        Some(name) => endpoint
            .deployment(name)
            .ok_or_else(|| Unserved::NoDeployment {
                endpoint: endpoint.name().to_string(),
                deployment: name.to_owned(),
                known: endpoint
                    .deployments()
                    .iter()
                    .map(|known| known.name.to_string())
                    .collect(),
            }),
        None => endpoint.next_by_split().ok_or_else(|| Unserved::NoTraffic {
            endpoint: endpoint.name().to_string(),
        }),
    };
    chosen.map(Arc::clone)
}

/// A permit and who gave it. It stays good when the deployment is looked up again and has the same admission.
struct Admitted {
    permit: Permit,
    by: Arc<AdmissionControl>,
}

/// Goes on with a permit, if there is one, when the deployment is to be looked up again.
type Attempt = ControlFlow<Result<Answer, Unserved>, Option<Admitted>>;

/// Tries one deployment. What ends here is recorded here.
async fn attempt(
    deployment: &Deployment,
    request: &ScoreRequest,
    admitted: Option<Admitted>,
) -> Attempt {
    let mut recording = Recording::start(&deployment.metrics, request.received);
    if deployment.instances.is_empty() {
        recording.abandon();
        return ControlFlow::Continue(admitted);
    }
    let deadline = Deadline::after(request.received, deployment.request_timeout);
    let permit = match admitted.filter(|given| Arc::ptr_eq(&given.by, &deployment.admission)) {
        Some(given) => given.permit,
        None => match deployment.admission.admit(deadline).await {
            Ok(permit) => permit,
            Err(Rejected::Draining) => {
                recording.abandon();
                return ControlFlow::Continue(None);
            }
            Err(rejected) => {
                recording.end(outcome_of_rejection(rejected));
                return ControlFlow::Break(Err(refusal(deployment, rejected)));
            }
        },
    };
    recording.timings.admitted = Some(Instant::now());
    let (reply_to, reply) = oneshot::channel();
    let job = Job {
        id: Job::next_id(),
        payload: request.payload.clone(),
        deadline,
        timings: recording.timings,
        permit,
        reply: reply_to,
    };
    let cancel = match deployment.submit(job).await {
        Ok(cancel) => cancel,
        Err(NotSubmitted::Closed(job)) => {
            recording.abandon();
            return ControlFlow::Continue(Some(Admitted {
                permit: job.permit,
                by: Arc::clone(&deployment.admission),
            }));
        }
        Err(NotSubmitted::DeadlinePassed) => {
            return ControlFlow::Break(recording.close(deployment, Err(RunError::DeadlinePassed)));
        }
    };
    let scored = match timeout_at(deadline.instant().into(), reply).await {
        Ok(Ok(Reply { outcome, timings })) => {
            recording.timings = timings;
            outcome.map(|scored| scored.body)
        }
        Ok(Err(_dropped)) => Err(RunError::InstanceGone),
        Err(_elapsed) => {
            cancel.cancel();
            Err(RunError::DeadlinePassed)
        }
    };
    ControlFlow::Break(recording.close(deployment, scored))
}

fn refusal(deployment: &Deployment, rejected: Rejected) -> Unserved {
    let admission = &deployment.admission;
    Unserved::Rejected {
        deployment: deployment.name.clone(),
        rejected,
        retry_after_s: retry_after_s(
            admission.held(),
            admission.slots(),
            deployment.metrics.service_time().as_secs_f64(),
        ),
    }
}

/// The seconds in which `slots` slots get through `held` requests, rounded up, at least 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 1 up, and a float converts to the nearest number that fits"
)]
fn retry_after_s(held: usize, slots: usize, service_s: f64) -> u64 {
    let seconds = held as f64 * service_s / slots.max(1) as f64;
    seconds.ceil().max(1.0) as u64
}

fn outcome_of_rejection(rejected: Rejected) -> Outcome {
    match rejected {
        Rejected::QueueFull { .. } => Outcome::Shed,
        Rejected::DeadlinePassed => Outcome::Timeout,
        Rejected::Draining => Outcome::NotReady,
    }
}

fn outcome_of_run<T>(scored: &Result<T, RunError>) -> Outcome {
    match scored {
        Ok(_) => Outcome::Ok,
        Err(RunError::Input(_)) => Outcome::InputError,
        Err(RunError::Output(_) | RunError::Model(_) | RunError::Panicked(_)) => {
            Outcome::ModelError
        }
        Err(RunError::DeadlinePassed) => Outcome::Timeout,
        Err(RunError::InstanceGone) => Outcome::Internal,
    }
}

/// Counts a request as in flight, and records its outcome once: as that of a client that left unless told otherwise.
struct Recording<'a> {
    metrics: &'a DeploymentMetrics,
    timings: Timings,
    outcome: Option<Outcome>,
}

impl<'a> Recording<'a> {
    fn start(metrics: &'a DeploymentMetrics, received: Instant) -> Self {
        metrics.in_flight(1);
        Self {
            metrics,
            timings: Timings::start(received),
            outcome: Some(Outcome::ClientGone),
        }
    }

    fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Another attempt records it.
    fn abandon(mut self) {
        self.outcome = None;
    }

    /// Records what came of the job, and makes the answer of it.
    fn close(
        self,
        deployment: &Deployment,
        scored: Result<Bytes, RunError>,
    ) -> Result<Answer, Unserved> {
        let (timings, outcome) = (self.timings, outcome_of_run(&scored));
        self.end(outcome);
        let deployment = deployment.name.clone();
        match scored {
            Ok(body) => Ok(Answer {
                body,
                deployment,
                timings,
            }),
            Err(error) => Err(Unserved::Failed {
                deployment,
                error,
                timings,
            }),
        }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight(-1);
        if let Some(outcome) = self.outcome {
            self.metrics.record(outcome, &self.timings);
        }
    }
}

//! Errors of the library: why something does not start or change, and why a request has no answer.

use std::time::Duration;

use serin_scorers::ScoreError as CodecError;

use crate::control::{ChangeError, LocalError};
use crate::engine::{ForkedChild, RunError};
use crate::router::{Rejected, Unserved};
use crate::spec::shown;

/// The reason why serin, an endpoint or a change of it did not come about. What was good before serves on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Names, settings, a split or a file that cannot be; each fault by itself. Nothing has begun.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// It names what is not there; says what is.
    #[error("{0}")]
    NotFound(String),
    /// It would make what is there.
    #[error("{0}")]
    AlreadyExists(String),
    /// It does not fit what is: a deployment that is to go has traffic.
    #[error("{0}")]
    Conflict(String),
    /// A model does not load or answer, there is no room for its instances, or a newer change took the place of this one.
    #[error("{0}")]
    Failed(String),
    /// ONNX Runtime is not there, or cannot be used.
    #[error("{0}")]
    OnnxRuntime(String),
    /// Something has not ended in the time that it was given. It ends by itself, or with the process.
    #[error("{0}")]
    StillRuns(String),
    /// Everything was shut down.
    #[error("serin was shut down: build another one")]
    Stopped,
    /// This process is the fork of one that uses serin: its threads were not copied.
    #[error("{ForkedChild}")]
    Forked,
    /// The system gave no thread.
    #[error("cannot start threads: {0}")]
    Threads(String),
}

/// The reason why nothing begins any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    Forked,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Stopped => Self::Stopped,
            Ended::Forked => Self::Forked,
        }
    }
}

impl From<Ended> for ScoreError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Stopped => Self::Stopped,
            Ended::Forked => Self::Forked,
        }
    }
}

impl From<LocalError> for Error {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Refused(refused) => refused.into(),
            LocalError::Failed(reason) => Self::Failed(reason),
            LocalError::StillRuns(reason) => Self::StillRuns(reason),
        }
    }
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound(words) => Self::NotFound(words),
            ChangeError::AlreadyExists(words) => Self::AlreadyExists(words),
            ChangeError::Invalid(problems) => Self::Invalid(problems),
            ChangeError::Conflict(words) => Self::Conflict(words),
            ChangeError::LiveTraffic {
                deployment,
                percent,
                ..
            } => Self::Conflict(format!(
                "deployment {deployment} has live traffic ({percent} %): take it away first, with `set_traffic`"
            )),
            ChangeError::Stopped => Self::Stopped,
            // Of a server alone: a library has no store, no mailbox that is full, and nobody who looked at a revision.
            ChangeError::Outdated { .. }
            | ChangeError::Storage(_)
            | ChangeError::Busy
            | ChangeError::Replaced(_) => Self::Conflict(error.to_string()),
        }
    }
}

/// The reason why a request has no answer. One variant for each thing that can happen; [`http_status`](Self::http_status) is what a
/// server would say.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The request names a deployment that is not there.
    #[error("endpoint {endpoint:?} has no deployment {}; it has {}", shown(.deployment), or_none(.known))]
    NoDeployment {
        /// The endpoint.
        endpoint: String,
        /// The name in the request.
        deployment: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The split gives traffic to nobody.
    #[error(
        "endpoint {endpoint:?} sends traffic to no deployment: name one in the request, or set its traffic"
    )]
    NoTraffic {
        /// The endpoint.
        endpoint: String,
    },
    /// No instance of the deployment takes requests.
    #[error("deployment {deployment} has no ready instance")]
    NotReady {
        /// Whose turn it was.
        deployment: String,
    },
    /// As many requests run and wait as may.
    #[error(
        "too many requests at deployment {deployment}: {held} run or wait, at most {held_max} may"
    )]
    QueueFull {
        /// Whose turn it was.
        deployment: String,
        /// Requests that run or wait.
        held: usize,
        /// Most that may.
        held_max: usize,
        /// The time in which those that are there are done, about.
        retry_after: Duration,
    },
    /// The time was over before the answer was there.
    #[error("the deadline passed {} (deployment {deployment})", if *.while_running { "while the model ran" } else { "before the model ran" })]
    DeadlinePassed {
        /// Whose turn it was.
        deployment: String,
        /// Its run took the time; else it waited for others.
        while_running: bool,
    },
    /// The inputs are not what the model takes, or no tensors; says what it wants.
    #[error("{source}")]
    Input {
        /// Whose model it was; nobody's where a tensor could not be made.
        deployment: Option<String>,
        /// The fault.
        source: CodecError,
    },
    /// The answer of the model has no form in the answer's codec.
    #[error("cannot encode the model's answer: {source}")]
    Output {
        /// Whose model it was.
        deployment: String,
        /// The fault.
        source: CodecError,
    },
    /// ONNX Runtime refused or failed, or the run asked for more memory than it may have.
    #[error("{message}")]
    Model {
        /// Whose model it was.
        deployment: String,
        /// ONNX Runtime's own message, or the numbers.
        message: String,
    },
    /// The model ended what ran it: its process, or by a panic.
    #[error("{message}")]
    Died {
        /// Whose model it was.
        deployment: String,
        /// How it ended.
        message: String,
    },
    /// The instance was stopped under the request.
    #[error("the instance of deployment {deployment} stopped before it answered")]
    InstanceGone {
        /// Whose it was.
        deployment: String,
    },
    /// Everything was shut down, or the endpoint was closed.
    #[error("serin was shut down, or the endpoint was closed")]
    Stopped,
    /// This process is the fork of one that uses serin: its threads were not copied.
    #[error("{ForkedChild}")]
    Forked,
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl ScoreError {
    /// The status with which serin's server answers such a request, after Azure ML's managed endpoints.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::NoDeployment { .. } | Self::NoTraffic { .. } => 404,
            Self::QueueFull { .. } => 429,
            Self::DeadlinePassed { .. } => 408,
            Self::Input { .. } | Self::Output { .. } | Self::Model { .. } | Self::Died { .. } => {
                424
            }
            Self::NotReady { .. } | Self::Stopped => 503,
            Self::InstanceGone { .. } | Self::Forked => 500,
        }
    }

    /// Whether the same request may well be answered later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::QueueFull { .. } | Self::NotReady { .. } | Self::InstanceGone { .. }
        )
    }

    /// The deployment that was chosen before it failed.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        match self {
            Self::NotReady { deployment }
            | Self::QueueFull { deployment, .. }
            | Self::DeadlinePassed { deployment, .. }
            | Self::Output { deployment, .. }
            | Self::Model { deployment, .. }
            | Self::Died { deployment, .. }
            | Self::InstanceGone { deployment } => Some(deployment),
            Self::Input { deployment, .. } => deployment.as_deref(),
            Self::NoDeployment { .. } | Self::NoTraffic { .. } | Self::Stopped | Self::Forked => {
                None
            }
        }
    }
}

impl From<CodecError> for ScoreError {
    /// A tensor that could not be made, on its way to a request.
    fn from(source: CodecError) -> Self {
        Self::Input {
            deployment: None,
            source,
        }
    }
}

impl From<Unserved> for ScoreError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::NoDeployment {
                endpoint,
                deployment,
                known,
            } => Self::NoDeployment {
                endpoint,
                deployment,
                known,
            },
            Unserved::NoTraffic { endpoint } => Self::NoTraffic { endpoint },
            // A library runs no scripts, so nothing is for them alone.
            Unserved::NoScript { deployment } | Unserved::NotReady { deployment } => {
                Self::NotReady {
                    deployment: deployment.to_string(),
                }
            }
            Unserved::Rejected {
                deployment,
                rejected,
                retry_after_s,
            } => of_rejection(deployment.to_string(), rejected, retry_after_s),
            Unserved::Failed {
                deployment, error, ..
            } => of_run(deployment.to_string(), error),
        }
    }
}

fn of_rejection(deployment: String, rejected: Rejected, retry_after_s: u64) -> ScoreError {
    match rejected {
        Rejected::QueueFull { held, held_max } => ScoreError::QueueFull {
            deployment,
            held,
            held_max,
            retry_after: Duration::from_secs(retry_after_s),
        },
        Rejected::DeadlinePassed => ScoreError::DeadlinePassed {
            deployment,
            while_running: false,
        },
        Rejected::Draining => ScoreError::NotReady { deployment },
    }
}

fn of_run(deployment: String, error: RunError) -> ScoreError {
    match error {
        RunError::Input(source) => ScoreError::Input {
            deployment: Some(deployment),
            source,
        },
        RunError::Output(source) => ScoreError::Output { deployment, source },
        RunError::Model(message) => ScoreError::Model {
            deployment,
            message,
        },
        RunError::Panicked(_) | RunError::Died { .. } => ScoreError::Died {
            message: error.to_string(),
            deployment,
        },
        RunError::ExpiredWaiting | RunError::ExpiredRunning => ScoreError::DeadlinePassed {
            deployment,
            while_running: matches!(error, RunError::ExpiredRunning),
        },
        RunError::Abandoned | RunError::InstanceGone => ScoreError::InstanceGone { deployment },
    }
}

//! Values that cross to a lane and back: the job with its permit, and the reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use serin_scorers::{ScoreError, Tensor, Value};

use crate::deadline::Deadline;
use crate::observe::Timings;

/// One request on its way to a lane, with all that it needs.
#[derive(Debug)]
pub struct Job {
    /// Number of this job within the process; names it when it must be terminated.
    pub id: u64,
    /// What the model is to answer.
    pub payload: Payload,
    /// All that a scoring script may ask of the request beside its body; none where a model scores.
    pub head: Option<Box<RequestHead>>,
    /// When the answer is no longer wanted.
    pub deadline: Deadline,
    /// When the request passed each point so far.
    pub timings: Timings,
    /// The slot that admits this work. Dropped when the work has ended, before the answer is sent.
    pub permit: Permit,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// What a request brings to the model.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A body, not yet decoded; it is answered in JSON.
    Body(Bytes),
    /// One tensor for each input, in the order of the signature; they are answered with values.
    Tensors(Vec<Tensor>),
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Self {
        Self::Body(body)
    }
}

impl Default for RequestHead {
    /// The head of a request that came without HTTP.
    fn default() -> Self {
        Self {
            method: "POST".to_owned(),
            path: "/score".to_owned(),
            query: String::new(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        }
    }
}

impl Job {
    /// The next job number of this process.
    #[must_use]
    pub fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: a number need only differ from the others.
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// The answer of a lane to a job.
#[derive(Debug)]
pub struct Reply {
    pub outcome: Result<Scored, RunError>,
    pub timings: Timings,
}

/// An answer of the model.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The outputs of the model.
    pub body: ScoredBody,
    /// What a scoring script says beside its body; none where that is 200 and JSON.
    pub head: Option<Box<ResponseHead>>,
}

/// The outputs of a model in the form that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoredBody {
    /// The response body (JSON, or what a scoring script made); for a [`Payload::Body`].
    Json(Bytes),
    /// The outputs in the order of the signature; for [`Payload::Tensors`].
    Values(Vec<Value>),
}

impl ScoredBody {
    /// The response body; empty where there are values.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Json(body) => body,
            Self::Values(_) => &[],
        }
    }

    /// The response body itself; empty where there are values.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Json(body) => body,
            Self::Values(_) => Bytes::new(),
        }
    }
}

impl From<Bytes> for ScoredBody {
    fn from(body: Bytes) -> Self {
        Self::Json(body)
    }
}

/// The form of the answer that a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerForm {
    Json,
    Values,
}

/// The head of a request, as a scoring script reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// `POST`, `GET`, `OPTIONS`.
    pub method: String,
    /// The path, as it was asked for.
    pub path: String,
    /// The query, without its question mark; empty where there is none.
    pub query: String,
    /// Names and values in their order. Bytes that are no text are left out.
    pub headers: Vec<(String, String)>,
}

/// The head of the answer of a scoring script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// The status that the script chose, or the contract for what it did.
    pub status: u16,
    /// Its headers, `content-type` among them.
    pub headers: Vec<(String, String)>,
    /// Whether `run` failed (`x-ms-run-function-failed`).
    pub failed: bool,
}

/// The reason why a lane has no answer. Whose fault each is, and its status, stand in `serve/failure.rs`.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
pub enum RunError {
    /// The body does not fit the model. The client's fault or the model's: how often it happens tells.
    #[error(transparent)]
    Input(ScoreError),
    /// The model's answer could not be encoded (the model's fault).
    #[error("cannot encode the model's answer: {0}")]
    Output(#[source] ScoreError),
    /// ONNX Runtime refused or failed; its own message, or the numbers where the run asked for more memory than it may have.
    #[error("{0}")]
    Model(String),
    /// The scorer or the model panicked; the lane lives on.
    #[error("the scorer panicked: {0}")]
    Panicked(String),
    /// The deadline passed before its run began: others were in line before it.
    #[error("the deadline passed before the model ran")]
    ExpiredWaiting,
    /// The deadline passed while the model ran: it is slow, or hangs.
    #[error("the deadline passed while the model ran")]
    ExpiredRunning,
    /// The client left. Nobody reads this.
    #[error("the client left before the answer")]
    Abandoned,
    /// The process that ran the model ended.
    #[error("the process that ran the model ended ({how}){}", of_suspect(.suspect.as_deref()))]
    Died {
        /// The signal or the exit code, in words: `signal 8, SIGFPE`.
        how: String,
        /// What of the graph is known to be able to do that, if anything is: `Div divides whole numbers .. (node 3)`.
        suspect: Option<String>,
    },
    /// The instance stopped before it answered.
    #[error("the instance stopped before it answered")]
    InstanceGone,
}

impl RunError {
    /// Whether the body is wrong for every model, and so the client's fault alone: no JSON, or one input twice.
    #[must_use]
    pub fn is_malformed_body(&self) -> bool {
        matches!(
            self,
            Self::Input(ScoreError::NotJson { .. } | ScoreError::RepeatedInput { .. })
        )
    }
}

fn of_suspect(suspect: Option<&str>) -> String {
    suspect.map_or_else(String::new, |suspect| {
        format!("; the graph says: {suspect}")
    })
}

/// The right to occupy one slot of a deployment. Dropping it gives the slot back.
///
/// Made by the router's admission control; the engine only carries and drops it.
pub struct Permit(Arc<dyn SlotOwner>);

/// Takes slots back.
pub trait SlotOwner: Send + Sync {
    /// Called exactly once per permit, when the work that it admitted has ended.
    fn give_back(&self);
}

impl Permit {
    /// A permit that calls `owner.give_back()` when dropped.
    #[must_use]
    pub fn new(owner: Arc<dyn SlotOwner>) -> Self {
        Self(owner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // A permit is neither cloned nor taken apart, so this is the once that `SlotOwner` promises.
        self.0.give_back();
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

//! Values that cross to a lane and back: the job with its permit, and the reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use serin_scorers::ScoreError;

use crate::deadline::Deadline;
use crate::observe::Timings;

/// One request on its way to a lane, with all that it needs.
#[derive(Debug)]
pub struct Job {
    /// Number of this job within the process; names it when it must be terminated.
    pub id: u64,
    /// The request body, not yet decoded.
    pub payload: Bytes,
    /// When the answer is no longer wanted.
    pub deadline: Deadline,
    /// When the request passed each point so far.
    pub timings: Timings,
    /// The slot that admits this work. Dropped when the work has ended, before the answer is sent.
    pub permit: Permit,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
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
    /// The response body (JSON).
    pub body: Bytes,
}

/// The reason why a lane has no answer.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
pub enum RunError {
    /// The body does not fit the model (the client's fault).
    #[error(transparent)]
    Input(ScoreError),
    /// The model's answer could not be encoded (the model's fault).
    #[error("cannot encode the model's answer: {0}")]
    Output(#[source] ScoreError),
    /// ONNX Runtime refused or failed; its own message.
    #[error("{0}")]
    Model(String),
    /// The scorer or the model panicked; the lane lives on.
    #[error("the scorer panicked: {0}")]
    Panicked(String),
    /// The process that ran the model ended.
    #[error("the process that ran the model ended ({how})")]
    Died {
        /// The signal or the exit code, and the last words.
        how: String,
        /// The operator that ran, if that is known.
        operator: Option<String>,
    },
    /// The deadline passed before or during the run.
    #[error("the deadline passed")]
    DeadlinePassed,
    /// The instance stopped before it answered.
    #[error("the instance stopped before it answered")]
    InstanceGone,
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

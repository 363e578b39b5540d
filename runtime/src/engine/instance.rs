//! One model copy on its cores: the owner's half ([`Instance`]) and the sender's half ([`InstanceHandle`]).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serin_scorers::Signature;

use super::{Cancel, CoreGrant, Job, Placement};

/// Number of an instance, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

/// All that is needed to start one instance.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// `endpoint/deployment`, for thread names, logs and messages.
    pub label: String,
    /// The ONNX file.
    pub model: PathBuf,
    /// `max_concurrent_requests_per_instance`.
    pub concurrency: u32,
    /// Cores given, and thread counts that follow.
    pub cores: CoreGrant,
    /// Body for the warm-up runs; without it inputs are made from the model's own shapes.
    pub sample_request: Option<Bytes>,
}

/// Why an instance did not start. The message says what is wrong with the model.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot load model {path:?}: {message}")]
    Load { path: PathBuf, message: String },
    #[error("the warm-up run failed: {0}")]
    WarmUp(String),
    #[error("cannot start a score thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Library(#[from] super::LibraryError),
}

/// The job comes back: this instance cannot take it.
#[derive(Debug)]
pub enum NotAccepted {
    /// It runs as many requests as it may.
    Full(Job),
    /// It is being drained or has stopped; look the table up again.
    Closed(Job),
}

/// Lanes of an instance, as seen by who may have to end a run.
#[derive(Debug)]
pub struct Lanes {}

impl Lanes {
    pub(super) fn cancel(&self, _job: u64) {
        todo!()
    }
}

/// The owner's half: threads to stop and join. Blocking calls; not for the edge.
#[derive(Debug)]
pub struct Instance {}

impl Instance {
    /// Pins, loads, warms up; returns when every lane is ready to answer. Blocks.
    pub fn start(_spec: InstanceSpec) -> Result<Self, StartError> {
        todo!()
    }
    pub fn id(&self) -> InstanceId {
        todo!()
    }
    pub fn handle(&self) -> InstanceHandle {
        todo!()
    }
    /// What was asked for and what the kernel says was given.
    pub fn placement(&self) -> &Placement {
        todo!()
    }
    /// Takes no more jobs from now on; [`Instance::is_idle`] becomes true when the last one ended.
    pub fn close(&self) {
        todo!()
    }
    pub fn is_idle(&self) -> bool {
        todo!()
    }
    /// Waits until idle, at most until `deadline`; false when work was still running.
    pub fn wait_idle(&self, _deadline: std::time::Instant) -> bool {
        todo!()
    }
    /// Whether a lane has died (a score thread ended without being told to).
    pub fn has_failed(&self) -> bool {
        todo!()
    }
    /// Ends the threads (terminating runs still going), joins them, frees the model.
    pub fn stop(self) -> CoreGrant {
        todo!()
    }
}

/// The sender's half: cheap to clone, held by routing tables for as long as they like.
#[derive(Debug, Clone)]
pub struct InstanceHandle {}

impl InstanceHandle {
    pub fn id(&self) -> InstanceId {
        todo!()
    }
    /// Most requests at once.
    pub fn concurrency(&self) -> u32 {
        todo!()
    }
    /// Requests it has now (atomic, relaxed).
    pub fn load(&self) -> u32 {
        todo!()
    }
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// Inputs and outputs of the model.
    pub fn signature(&self) -> &Arc<Signature> {
        todo!()
    }
    /// Hands the job over if the instance is open and has room (one compare-and-swap on its load). Never waits.
    pub fn submit(&self, _job: Job) -> Result<Cancel, NotAccepted> {
        todo!()
    }
}

//! One request to a scoring script outside any server: what `serin score-script check` tries.
//!
//! The process is that of a lane, so what holds here holds behind an endpoint.
//! Not here: which files belong to the script, and words for people (`cli`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::config::REQUEST_TIMEOUT_MAX;
use crate::deadline::Deadline;
use crate::engine::{
    Capacity, CoreMap, Instance, InstanceSpec, Job, Permit, RequestHead, ResponseHead, RunError,
    ScriptSpec, SlotOwner, StartError, Topology,
};
use crate::observe::Timings;

/// A script that was tried.
#[derive(Debug)]
pub struct Checked {
    /// From the start of its process until `init()` had returned.
    pub ready_after: Duration,
    /// The answer to the request, if there was one.
    pub answer: Option<ScriptAnswer>,
}

/// The answer of a script that was tried.
#[derive(Debug)]
pub struct ScriptAnswer {
    /// Status and headers; none where they are 200 and JSON.
    pub head: Option<Box<ResponseHead>>,
    /// The body.
    pub body: Bytes,
    /// How long `run()` took.
    pub ran_for: Option<Duration>,
}

/// The reason why a script gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot begin.
    #[error("{0}")]
    Start(#[from] StartError),
    /// It has no answer to the request.
    #[error("{0}")]
    Run(#[from] RunError),
}

/// Nobody waits for its one slot.
struct OnlySlot;

impl SlotOwner for OnlySlot {
    fn give_back(&self) {}
}

/// Starts the script, sends it the request, and ends it. Blocks; what it prints goes to the log.
///
/// # Errors
///
/// [`CheckError`] with the script's own words.
pub fn check_script(
    script: ScriptSpec,
    request: Option<(RequestHead, Bytes)>,
) -> Result<Checked, CheckError> {
    let began = Instant::now();
    let instance = start(script)?;
    let ready_after = began.elapsed();
    let answer = request.map(|(head, body)| ask(&instance, head, body));
    instance.stop();
    Ok(Checked {
        ready_after,
        answer: answer.transpose()?,
    })
}

fn start(script: ScriptSpec) -> Result<Instance, StartError> {
    let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
    Instance::start(InstanceSpec {
        lanes: Some(1),
        script: Some(script),
        ..InstanceSpec::new(
            "script".to_owned(),
            PathBuf::new(),
            cores
                .grant(1)
                .map_err(|error| StartError::Process(error.to_string()))?,
        )
    })
}

fn ask(instance: &Instance, head: RequestHead, payload: Bytes) -> Result<ScriptAnswer, RunError> {
    let (reply, answer) = oneshot::channel();
    let now = Instant::now();
    let job = Job {
        id: Job::next_id(),
        payload: payload.into(),
        head: Some(Box::new(head)),
        deadline: Deadline::after(now, REQUEST_TIMEOUT_MAX),
        timings: Timings::start(now),
        permit: Permit::new(Arc::new(OnlySlot)),
        reply,
    };
    let handle = instance.handle();
    // It is idle and has room for one.
    let reservation = handle.reserve().map_err(|_| RunError::InstanceGone)?;
    handle.queue([reservation.give_to(job)]);
    let reply = answer.blocking_recv().map_err(|_| RunError::InstanceGone)?;
    reply.outcome.map(|scored| ScriptAnswer {
        head: scored.head,
        body: scored.body.into_bytes(),
        ran_for: reply.timings.run(),
    })
}

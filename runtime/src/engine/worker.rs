//! A score thread: pins itself, starts the backend of its lane, then answers what comes to its instance.
//!
//! Threads: one per lane. It never awaits and never touches a socket.
//! Not here: how jobs are answered (`lane`), which jobs come (`inbox`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use serin_scorers::Signature;

use crate::engine::cores::{self, ThreadPlacement};
use crate::engine::inbox::{Inbox, InstanceState, Message};
use crate::engine::lane::{Backend, End, Lane, ProcessBackend, ProcessSpec, ThreadBackend};
use crate::engine::loading::{LoadedModel, Loading, StartError};
use crate::engine::profile::ModelProfile;

/// Settings of a lane.
#[derive(Clone)]
pub(super) struct LaneSpec {
    /// What it loads, and where.
    pub(super) loading: Loading,
    /// The process that computes for it; none where its own thread does.
    pub(super) process: Option<ProcessSettings>,
    /// Longest wait for more jobs that may share a run.
    pub(super) delay: Duration,
    /// Others serve: they are not to feel that this one starts.
    pub(super) background: bool,
    pub(super) jobs: Receiver<Message>,
    pub(super) state: Arc<InstanceState>,
}

/// Settings of the process of a lane.
#[derive(Debug, Clone)]
pub(super) struct ProcessSettings {
    /// The serin binary.
    pub(super) exe: PathBuf,
}

/// A lane that can answer.
pub(super) struct Ready {
    pub(super) lane: Arc<Lane>,
    pub(super) signature: Arc<Signature>,
    pub(super) measured: Option<ModelProfile>,
    pub(super) threads: Vec<ThreadPlacement>,
}

/// A backend that can answer, and what it was seen to be.
struct Started {
    backend: Backend,
    signature: Arc<Signature>,
    measured: Option<ModelProfile>,
    /// Threads but for this one.
    threads: Vec<ThreadPlacement>,
}

/// The life of a score thread. It says once whether its lane can answer.
pub(super) fn run(spec: LaneSpec, ready: impl FnOnce(Result<Ready, StartError>)) {
    let loading = &spec.loading;
    cores::pin_to(loading.cores[0]);
    let own = ThreadPlacement {
        name: cores::thread_name(&loading.label, &loading.number),
        tid: cores::thread_id(),
        cores_asked: vec![loading.cores[0]],
        cores_allowed: Vec::new(),
    };
    let mut guard = LaneGuard {
        state: Arc::clone(&spec.state),
        lane: None,
        told_to_stop: false,
    };
    match start(&spec) {
        Ok(started) => {
            let (left, wakes) = bounded(1);
            let lane = guard.lane.insert(new_lane(started.backend, left));
            let lane = Arc::clone(lane);
            // Who started it may have given up; then a stop waits in the inbox.
            ready(Ok(Ready {
                lane: Arc::clone(&lane),
                signature: started.signature,
                measured: started.measured,
                threads: std::iter::once(own).chain(started.threads).collect(),
            }));
            let inbox = Inbox {
                jobs: spec.jobs,
                wakes,
                state: Arc::clone(&spec.state),
                delay: spec.delay,
            };
            guard.told_to_stop = answer_until_told_to_stop(&lane, &inbox);
            lane.close();
        }
        Err(error) => {
            ready(Err(error));
            guard.told_to_stop = true;
        }
    }
}

fn new_lane(backend: Backend, left: Sender<()>) -> Arc<Lane> {
    Arc::new(Lane::new(backend, left))
}

/// Says so when a lane ends, and whether it was told to.
struct LaneGuard {
    state: Arc<InstanceState>,
    lane: Option<Arc<Lane>>,
    told_to_stop: bool,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        // Also when the thread unwinds from a panic, and that is what it is for.
        if let Some(lane) = &self.lane {
            lane.say_ended(End::Ended);
        }
        if !self.told_to_stop {
            self.state.lane_failed();
        }
    }
}

/// Loads and warms up, here or in a process.
fn start(spec: &LaneSpec) -> Result<Started, StartError> {
    if let Some(process) = &spec.process {
        let (backend, report) = ProcessBackend::start(ProcessSpec {
            exe: process.exe.clone(),
            loading: spec.loading.clone(),
            background: spec.background,
            state: Arc::clone(&spec.state),
        })?;
        return Ok(Started {
            backend: Backend::Process(Box::new(backend)),
            signature: Arc::new(report.signature),
            measured: report.measured,
            threads: report.threads,
        });
    }
    let LoadedModel {
        session,
        scorer,
        slot,
        measured,
        made,
    } = spec.loading.clone().begin(spec.background)?;
    Ok(Started {
        signature: Arc::clone(session.signature()),
        backend: Backend::Thread(Box::new(ThreadBackend::new(session, scorer, slot))),
        measured,
        threads: made,
    })
}

/// Whether it was told to stop; else it cannot go on.
fn answer_until_told_to_stop(lane: &Lane, inbox: &Inbox) -> bool {
    loop {
        let mut jobs = Vec::new();
        let told_to_stop = inbox.take(&mut jobs);
        if let Err(error) = lane.answer(jobs, inbox.state.rows_max()) {
            tracing::error!(%error, "a lane cannot go on");
            return told_to_stop;
        }
        // Another lane has the place of one that was given up.
        if told_to_stop || lane.is_lost() {
            return true;
        }
    }
}

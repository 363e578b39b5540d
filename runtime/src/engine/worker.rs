//! A score thread: pins itself, starts the backend of its lane, then answers what comes to its instance.
//!
//! Threads: one per lane. It never awaits and never touches a socket.
//! Not here: how jobs are answered (`lane`), which jobs come (`inbox`).

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serin_scorers::Signature;

use crate::config::LANE_OUT_PAUSE;
use crate::engine::ScriptSchemas;
use crate::engine::cores::{self, ThreadPlacement};
use crate::engine::inbox::{Inbox, InstanceState, Message, ReservedJob};
use crate::engine::lane::{
    Backend, End, Lane, ProcessBackend, ProcessSpec, Program, ThreadBackend,
};
use crate::engine::loading::{LoadedModel, Loading, StartError};
use crate::engine::profile::ModelProfile;

/// Settings of a lane.
#[derive(Clone)]
pub(super) struct LaneSpec {
    /// What it loads, and where.
    pub(super) loading: Loading,
    /// The program whose process computes for it; none where its own thread does.
    pub(super) program: Option<Program>,
    /// Longest wait for more jobs that may share a run.
    pub(super) delay: Duration,
    /// What of the model's graph may end such a process, in words.
    pub(super) suspect: Option<String>,
    /// Others serve: they are not to feel that this one starts.
    pub(super) background: bool,
    /// Lanes of the instance.
    pub(super) lanes: usize,
    pub(super) jobs: Receiver<Message>,
    /// The inbox from its other side, for jobs that the lane leaves to others.
    pub(super) back: Weak<Sender<Message>>,
    pub(super) state: Arc<InstanceState>,
}

/// A lane that can answer.
pub(super) struct Ready {
    pub(super) lane: Arc<Lane>,
    pub(super) signature: Arc<Signature>,
    pub(super) schemas: Option<Arc<ScriptSchemas>>,
    pub(super) measured: Option<ModelProfile>,
    pub(super) threads: Vec<ThreadPlacement>,
}

/// A backend that can answer, and what it was seen to be.
struct Started {
    backend: Backend,
    signature: Arc<Signature>,
    schemas: Option<Arc<ScriptSchemas>>,
    measured: Option<ModelProfile>,
    /// Threads but for this one.
    threads: Vec<ThreadPlacement>,
}

/// The life of a score thread. It says once whether its lane can answer.
pub(super) fn run(spec: LaneSpec, ready: impl FnOnce(Result<Ready, StartError>)) {
    let loading = &spec.loading;
    let placed = cores::place(loading.cores[0], loading.floats_over.as_deref());
    let name = cores::thread_name(&loading.label, &loading.number);
    let own = ThreadPlacement::of_this_thread(name, placed);
    let mut guard = LaneGuard {
        state: Arc::clone(&spec.state),
        lane: None,
        told_to_stop: false,
    };
    let (left, wakes) = bounded(1);
    match start(&spec, &left) {
        Ok(started) => {
            let threads: Vec<_> = std::iter::once(own).chain(started.threads).collect();
            let tids = threads.iter().map(|thread| thread.tid).collect();
            let lane = Arc::new(Lane::new(started.backend, tids, left));
            guard.lane = Some(Arc::clone(&lane));
            // Who started it may have given up; then a stop waits in the inbox.
            ready(Ok(Ready {
                lane: Arc::clone(&lane),
                signature: started.signature,
                schemas: started.schemas,
                measured: started.measured,
                threads,
            }));
            let inbox = Inbox {
                jobs: spec.jobs,
                back: spec.back,
                // Only what a process computes is ever left to the lane's own thread.
                wakes: spec.program.is_some().then_some(wakes),
                state: Arc::clone(&spec.state),
                delay: spec.delay,
            };
            guard.told_to_stop = answer_until_told_to_stop(&lane, &inbox, spec.lanes);
            lane.close();
        }
        Err(error) => {
            ready(Err(error));
            guard.told_to_stop = true;
        }
    }
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

/// Loads and warms up, here or in a process, whose end wakes the lane.
fn start(spec: &LaneSpec, wake: &Sender<()>) -> Result<Started, StartError> {
    if let Some(program) = &spec.program {
        let (backend, report) = ProcessBackend::start(ProcessSpec {
            program: program.clone(),
            loading: spec.loading.clone(),
            background: spec.background,
            suspect: spec.suspect.clone(),
            state: Arc::clone(&spec.state),
            ended: wake.clone(),
        })?;
        return Ok(Started {
            backend: Backend::Process(Box::new(backend)),
            signature: Arc::new(report.signature),
            schemas: report.schemas.map(Arc::new),
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
        schemas: None,
        backend: Backend::Thread(Box::new(ThreadBackend::new(session, scorer, slot))),
        measured,
        threads: made,
    })
}

/// Tries until the lane can go on, or is told to stop, for which it leaves the message where it is; whether it can go on.
fn comes_back(lane: &Lane, state: &InstanceState) -> bool {
    loop {
        if state.wait_stopping(Instant::now() + LANE_OUT_PAUSE) {
            return false;
        }
        match lane.answer(Vec::new(), 1) {
            Ok(_) => {
                state.lane_back();
                return true;
            }
            Err(error) => tracing::debug!(%error, "a lane still cannot go on"),
        }
    }
}

/// Leaves jobs to other lanes while a caller's thread has this one, which may take long.
fn leave_to_others(lane: &Lane, inbox: &Inbox, jobs: Vec<ReservedJob>, told_to_stop: bool) {
    inbox.give_back(jobs);
    if !told_to_stop && !lane.is_lost() {
        lane.wait_until_given_back();
    }
}

/// Whether it was told to stop; else it cannot go on.
fn answer_until_told_to_stop(lane: &Lane, inbox: &Inbox, lanes: usize) -> bool {
    loop {
        let mut jobs = Vec::new();
        let told_to_stop = inbox.take(&mut jobs);
        match lane.answer(jobs, inbox.state.rows_max()) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => leave_to_others(lane, inbox, left, told_to_stop),
            Err(error) => {
                let state = &inbox.state;
                tracing::error!(%error, "a lane cannot go on");
                state.lane_in_trouble(&format!("a lane cannot go on: {error}"));
                if told_to_stop || (state.lane_out() == lanes) || state.is_stopping() {
                    return told_to_stop;
                }
                // The others serve meanwhile.
                if !comes_back(lane, state) {
                    return true;
                }
            }
        }
        // Another lane has the place of one that was given up.
        if told_to_stop || lane.is_lost() {
            return true;
        }
    }
}

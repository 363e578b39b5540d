//! A score thread: pins itself, loads its session, warms up, then answers what comes to its instance.
//!
//! Threads: one per lane. It never awaits and never touches a socket.
//! Not here: how jobs are answered (`lane`), which jobs come (`inbox`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::Receiver;
use serin_scorers::{JsonScorer, ScoreError, Scorer as _, Signature, Tensor};

use crate::black_box::{Doing, Slot};
use crate::engine::CacheEntry;
use crate::engine::background::{self, Caller};
use crate::engine::cores::{self, CoreId, ThreadPlacement};
use crate::engine::inbox::{Inbox, InstanceState, Message};
use crate::engine::lane::{Lane, LoadedModel};
use crate::engine::lock::lock;
use crate::engine::profile::ModelProfile;
use crate::engine::session::{LoadError, Session, SessionThreads};

/// Runs before a lane takes traffic: the first allocates, the second is as fast as all later ones.
const WARM_UP_RUNS: usize = 2;

/// The reason why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model did not load; names the file and what is wrong with it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model refused the sample request, or failed on it.
    #[error("the warm-up run failed: {0}")]
    WarmUp(String),
    /// The system gave no thread.
    #[error("cannot start a score thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A thread ended before it was ready.
    #[error("a score thread ended while it loaded the model")]
    Ended,
}

/// Settings of a lane.
pub(super) struct LaneSpec {
    /// `endpoint/deployment`.
    pub(super) label: String,
    /// Of the instance and the lane; the end of the thread's name.
    pub(super) number: String,
    pub(super) cores: Vec<CoreId>,
    pub(super) model: PathBuf,
    /// The cache's entry of the model.
    pub(super) cached: Option<Arc<CacheEntry>>,
    pub(super) sample_request: Option<Bytes>,
    /// Longest wait for more jobs that may share a run.
    pub(super) delay: Duration,
    /// Its threads spin while they wait.
    pub(super) spin: bool,
    /// It is to measure what the model costs.
    pub(super) measures: bool,
    /// Others serve: they are not to feel that this one starts.
    pub(super) background: bool,
    pub(super) jobs: Receiver<Message>,
    pub(super) state: Arc<InstanceState>,
    /// In the black box.
    pub(super) slot: Arc<Slot>,
}

/// A lane that can answer.
pub(super) struct Ready {
    pub(super) lane: Arc<Lane>,
    pub(super) signature: Arc<Signature>,
    pub(super) measured: Option<ModelProfile>,
    pub(super) threads: Vec<ThreadPlacement>,
}

/// The life of a score thread.
pub(super) fn run(spec: LaneSpec, ready: mpsc::Sender<Result<Ready, StartError>>) {
    cores::pin_to(spec.cores[0]);
    let own = ThreadPlacement {
        name: cores::thread_name(&spec.label, &spec.number),
        tid: cores::thread_id(),
        cores_asked: vec![spec.cores[0]],
        cores_allowed: Vec::new(),
    };
    let mut guard = LaneGuard {
        state: Arc::clone(&spec.state),
        told_to_stop: false,
    };
    match start(&spec) {
        Ok(LoadedLane {
            model,
            measured,
            made,
        }) => {
            let signature = Arc::clone(model.session.signature());
            let lane = Arc::new(Lane::new(model));
            let started = Ready {
                lane: Arc::clone(&lane),
                signature,
                measured,
                threads: std::iter::once(own).chain(made).collect(),
            };
            // The starter may have given up; then a stop waits in the inbox.
            drop(ready.send(Ok(started)));
            // Held on to, it would keep the starter waiting for a lane that panicked.
            drop(ready);
            let inbox = Inbox {
                jobs: spec.jobs,
                state: Arc::clone(&spec.state),
                delay: spec.delay,
            };
            answer_until_told_to_stop(&lane, &inbox);
            // Handles live on for as long as routing tables do; the memory of the session does not. The lock waits for an I/O thread
            // that executes inline, and the next one finds no model.
            drop(lane.model().take());
        }
        Err(error) => drop(ready.send(Err(error))),
    }
    guard.told_to_stop = true;
}

/// Says so when a lane ends without being told to.
struct LaneGuard {
    state: Arc<InstanceState>,
    told_to_stop: bool,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        // Also when the thread unwinds from a panic, and that is what it is for.
        if !self.told_to_stop {
            self.state.lane_failed();
        }
    }
}

/// Arguments of loading a session, owned, for it may happen on another thread.
struct Loading {
    label: String,
    number: String,
    cores: Vec<CoreId>,
    model: PathBuf,
    cached: Option<Arc<CacheEntry>>,
    sample_request: Option<Bytes>,
    spin: bool,
    measures: bool,
    slot: Arc<Slot>,
}

/// The outcome of loading.
struct LoadedLane {
    model: LoadedModel,
    measured: Option<ModelProfile>,
    /// Intra-op threads.
    made: Vec<ThreadPlacement>,
}

/// Loads and warms up, and measures where that is asked for; in the background where that is.
fn start(spec: &LaneSpec) -> Result<LoadedLane, StartError> {
    let loading = Loading {
        label: spec.label.clone(),
        number: spec.number.clone(),
        cores: spec.cores.clone(),
        model: spec.model.clone(),
        cached: spec.cached.clone(),
        sample_request: spec.sample_request.clone(),
        spin: spec.spin,
        measures: spec.measures,
        slot: Arc::clone(&spec.slot),
    };
    if !spec.background {
        return loading.load(&Caller::itself());
    }
    // On the lane's own core, so that memory is first touched there.
    background::run(spec.cores[0], move |caller| loading.load(caller))
}

impl Loading {
    fn load(&self, caller: &Caller) -> Result<LoadedLane, StartError> {
        let _loading = self.slot.busy(Doing::Loading);
        let threads = SessionThreads {
            label: self.label.clone(),
            number: self.number.clone(),
            cores: self.cores.clone(),
            made: Arc::new(Mutex::default()),
            maker: caller.clone(),
            spin: self.spin,
        };
        let mut session = Session::load(&self.model, self.cached.as_ref(), &threads)?;
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        let sample = self.sample_request.as_deref();
        match warm_up(&mut session, &scorer, sample) {
            Err(WarmUpProblem {
                problem,
                made_up: true,
            }) => {
                tracing::debug!(
                    problem,
                    "the model did not run on inputs made from its shapes"
                );
            }
            outcome => drop(outcome.map_err(|failed| StartError::WarmUp(failed.problem))?),
        }
        let measured = self.measures.then(|| {
            let measured = ModelProfile::measure(&self.model, &mut session, &scorer, sample);
            give_back_arena(&mut session, &scorer, sample);
            measured
        });
        let made = std::mem::take(&mut *lock(&threads.made));
        Ok(LoadedLane {
            model: LoadedModel {
                session,
                scorer,
                slot: Arc::clone(&self.slot),
            },
            measured,
            made,
        })
    }
}

/// The reason why a warm-up run failed.
#[derive(Debug)]
pub(super) struct WarmUpProblem {
    /// The fault, in words.
    pub(super) problem: String,
    /// The inputs were made from the model's shapes: their failure proves nothing (a model may refuse zeros).
    pub(super) made_up: bool,
}

/// Runs the sample request, or inputs made from the model's own shapes, until later runs are as fast as this one; the answer.
///
/// # Errors
///
/// [`WarmUpProblem`] when the inputs do not fit the model or the model fails on them.
pub(super) fn warm_up(
    session: &mut Session,
    scorer: &JsonScorer,
    sample_request: Option<&[u8]>,
) -> Result<Bytes, WarmUpProblem> {
    let made_up = sample_request.is_none();
    run_sample(session, scorer, sample_request)
        .map_err(|problem| WarmUpProblem { problem, made_up })
}

fn run_sample(
    session: &mut Session,
    scorer: &JsonScorer,
    sample_request: Option<&[u8]>,
) -> Result<Bytes, String> {
    let words = |error: ScoreError| error.to_string();
    let inputs = sample_inputs(session, scorer, sample_request).map_err(words)?;
    let mut answer = Bytes::new();
    for _ in 0..WARM_UP_RUNS {
        answer = session
            .run(&inputs, |outputs| scorer.postprocess(outputs))?
            .map_err(words)?;
    }
    Ok(answer)
}

/// The sample request as the model takes it, else inputs made from the model's shapes.
fn sample_inputs(
    session: &Session,
    scorer: &JsonScorer,
    sample_request: Option<&[u8]>,
) -> Result<Vec<Tensor>, ScoreError> {
    match sample_request {
        Some(body) => scorer.preprocess(body),
        None => {
            JsonScorer::example_body(session.signature()).and_then(|body| scorer.preprocess(&body))
        }
    }
}

/// Measuring runs batches that may never come: what they needed goes back.
fn give_back_arena(session: &mut Session, scorer: &JsonScorer, sample_request: Option<&[u8]>) {
    let shrunk = sample_inputs(session, scorer, sample_request)
        .map_err(|error| error.to_string())
        .and_then(|inputs| session.run_and_shrink(&inputs));
    if let Err(problem) = shrunk {
        tracing::debug!(problem, "the memory of the first runs is kept");
    }
}

fn answer_until_told_to_stop(lane: &Lane, inbox: &Inbox) {
    let mut told_to_stop = false;
    while !told_to_stop {
        let mut jobs = Vec::new();
        told_to_stop = inbox.take(&mut jobs);
        if let Some(model) = lane.model().as_mut() {
            lane.answer(model, jobs, &inbox.state);
        }
    }
}

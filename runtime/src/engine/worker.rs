//! A score thread: pins itself, loads its session, warms up, then answers what comes to its instance.
//!
//! Threads: one per lane. It never awaits and never touches a socket.
//! Not here: how jobs are answered (`lane`), which jobs come (the inbox of the instance decides).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::channel::Receiver;
use serin_scorers::{JsonScorer, ScoreError, Scorer as _, Signature};

use crate::engine::cores::{self, CoreId, ThreadPlacement};
use crate::engine::instance::{Message, Placed, Shared};
use crate::engine::lane::{Lane, LoadedModel};
use crate::engine::profile::ModelProfile;
use crate::engine::session::{Session, SessionThreads};
use crate::engine::{BatchSettings, StartError};

/// Runs before a lane takes traffic: the first allocates, the second is as fast as all later ones.
const WARM_UP_RUNS: usize = 2;

/// What a lane needs.
pub(super) struct LaneSpec {
    /// `endpoint/deployment`.
    pub(super) label: String,
    /// Of the instance and the lane; the end of the thread's name.
    pub(super) number: String,
    pub(super) cores: Vec<CoreId>,
    pub(super) model: PathBuf,
    pub(super) sample_request: Option<Bytes>,
    pub(super) batch: BatchSettings,
    /// What was measured before; without it the lane measures.
    pub(super) profile: Option<Arc<ModelProfile>>,
    pub(super) jobs: Receiver<Message>,
    pub(super) shared: Arc<Shared>,
}

/// A lane that can answer.
pub(super) struct Ready {
    pub(super) lane: Arc<Lane>,
    pub(super) signature: Arc<Signature>,
    pub(super) profile: Arc<ModelProfile>,
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
        shared: Arc::clone(&spec.shared),
        told_to_stop: false,
    };
    match start(&spec) {
        Ok((model, profile, made)) => {
            let signature = Arc::clone(model.session.signature());
            let rows_max = model.rows_max;
            let lane = Arc::new(Lane::new(model));
            let started = Ready {
                lane: Arc::clone(&lane),
                signature,
                profile,
                threads: std::iter::once(own).chain(made).collect(),
            };
            // The starter may have given up; then a stop waits in the inbox.
            drop(ready.send(Ok(started)));
            // Held on to, it would keep the starter waiting for a lane that panicked.
            drop(ready);
            let inbox = Inbox {
                jobs: spec.jobs,
                shared: Arc::clone(&spec.shared),
                together_max: rows_max,
                delay: spec.batch.delay,
            };
            answer_until_told_to_stop(&lane, &inbox);
            // Handles live on for as long as routing tables do; the memory of the session does not.
            drop(lane.model().take());
        }
        Err(error) => drop(ready.send(Err(error))),
    }
    guard.told_to_stop = true;
}

/// Says so when a lane ends without being told to.
struct LaneGuard {
    shared: Arc<Shared>,
    told_to_stop: bool,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        if !self.told_to_stop {
            self.shared.lane_failed();
        }
    }
}

/// Loads, warms up and measures; what computes, its profile, and the threads that it made.
fn start(
    spec: &LaneSpec,
) -> Result<(LoadedModel, Arc<ModelProfile>, Vec<ThreadPlacement>), StartError> {
    let threads = SessionThreads {
        label: spec.label.clone(),
        number: spec.number.clone(),
        cores: spec.cores.clone(),
        made: Arc::new(Mutex::default()),
    };
    let mut session = Session::load(&spec.model, &threads)?;
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    match warm_up(&mut session, &scorer, spec.sample_request.as_deref()) {
        Err(WarmUpProblem {
            problem,
            made_up: true,
        }) => {
            tracing::debug!(
                problem,
                "the model did not run on inputs made from its shapes"
            );
        }
        outcome => outcome.map_err(|failed| StartError::WarmUp(failed.problem))?,
    }
    let profile = spec.profile.clone().unwrap_or_else(|| {
        let measured = ModelProfile::measure(&mut session, &scorer, spec.sample_request.as_deref());
        Arc::new(measured)
    });
    let made = std::mem::take(&mut *threads.made.lock().unwrap_or_else(PoisonError::into_inner));
    let model = LoadedModel {
        session,
        scorer,
        rows_max: profile.rows_max(spec.batch.size_max),
    };
    Ok((model, profile, made))
}

/// Why a warm-up run failed.
#[derive(Debug)]
pub(super) struct WarmUpProblem {
    /// What went wrong.
    pub(super) problem: String,
    /// The inputs were made from the model's shapes: their failure proves nothing (a model may refuse zeros).
    pub(super) made_up: bool,
}

/// Runs the sample request, or inputs made from the model's own shapes, until later runs are as fast as this one.
///
/// # Errors
///
/// [`WarmUpProblem`] when the inputs do not fit the model or the model fails on them.
pub(super) fn warm_up(
    session: &mut Session,
    scorer: &JsonScorer,
    sample_request: Option<&[u8]>,
) -> Result<(), WarmUpProblem> {
    let made_up = sample_request.is_none();
    run_sample(session, scorer, sample_request)
        .map_err(|problem| WarmUpProblem { problem, made_up })
}

fn run_sample(
    session: &mut Session,
    scorer: &JsonScorer,
    sample_request: Option<&[u8]>,
) -> Result<(), String> {
    let words = |error: ScoreError| error.to_string();
    let inputs = match sample_request {
        Some(body) => scorer.preprocess(body),
        None => {
            JsonScorer::example_body(session.signature()).and_then(|body| scorer.preprocess(&body))
        }
    }
    .map_err(words)?;
    for _ in 0..WARM_UP_RUNS {
        session
            .run(&inputs, |outputs| scorer.postprocess(outputs))?
            .map_err(words)?;
    }
    Ok(())
}

/// Where the jobs of an instance wait for a lane, as one of its lanes sees it.
struct Inbox {
    jobs: Receiver<Message>,
    shared: Arc<Shared>,
    /// Most jobs that are taken at once.
    together_max: usize,
    /// Longest wait for more of them.
    delay: Duration,
}

fn answer_until_told_to_stop(lane: &Lane, inbox: &Inbox) {
    let mut told_to_stop = false;
    while !told_to_stop {
        let mut jobs = Vec::new();
        told_to_stop = inbox.take(&mut jobs);
        if let Some(model) = lane.model().as_mut() {
            lane.answer(model, jobs, &inbox.shared);
        }
    }
}

impl Inbox {
    /// Waits for a job and takes what may run together with it; whether the lane was told to stop.
    fn take(&self, jobs: &mut Vec<Placed>) -> bool {
        self.shared.lane_idle(true);
        let first = self.jobs.recv();
        self.shared.lane_idle(false);
        if self.keep(first.ok(), jobs) {
            return true;
        }
        let until = Instant::now() + self.delay;
        while jobs.len() < self.share(jobs.len()) {
            let next = if self.delay.is_zero() {
                self.jobs.try_recv().ok()
            } else {
                self.jobs.recv_deadline(until).ok()
            };
            if next.is_none() {
                return false;
            }
            if self.keep(next, jobs) {
                return true;
            }
        }
        false
    }

    /// Keeps a job; whether the message, or the end of all senders, is the end.
    fn keep(&self, message: Option<Message>, jobs: &mut Vec<Placed>) -> bool {
        match message {
            Some(Message::Job(job)) => {
                jobs.push(job);
                false
            }
            Some(Message::Stop) | None => true,
        }
    }

    /// How many of the jobs, those that wait and the `taken`, are for this lane: idle lanes get as many.
    fn share(&self, taken: usize) -> usize {
        if self.together_max <= 1 {
            return 1;
        }
        if !self.delay.is_zero() {
            return self.together_max;
        }
        let lanes = self.shared.idle_lanes() + 1;
        (self.jobs.len() + taken)
            .div_ceil(lanes)
            .min(self.together_max)
    }
}

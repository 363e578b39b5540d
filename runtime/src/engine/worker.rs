//! A score thread: pins itself, loads its session, warms up, then answers one job after another.
//!
//! Threads: one per lane. It never awaits and never touches a socket.
//! Not here: which job it gets (the inbox of the instance decides).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use bytes::Bytes;
use crossbeam::channel::Receiver;
use serin_scorers::{JsonScorer, ScoreError, Scorer, Signature};

use crate::engine::cores::{self, CoreId, ThreadPlacement};
use crate::engine::instance::{Lane, Message, Place, Shared};
use crate::engine::quiet::{self, Caller};
use crate::engine::session::{Session, SessionThreads};
use crate::engine::{CacheEntry, Job, Reply, RunError, Scored, StartError};
use crate::observe::Timings;

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
    /// What the cache holds of the model.
    pub(super) cached: Option<Arc<CacheEntry>>,
    pub(super) sample_request: Option<Bytes>,
    /// Others serve: they are not to feel that this one starts.
    pub(super) quiet: bool,
    pub(super) jobs: Receiver<Message>,
    pub(super) shared: Arc<Shared>,
}

/// A lane that can answer.
pub(super) struct Ready {
    pub(super) lane: Arc<Lane>,
    pub(super) signature: Arc<Signature>,
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
        Ok((session, scorer, made)) => {
            let lane = Lane::new(session.terminator());
            let threads = std::iter::once(own).chain(made).collect();
            let started = Ready {
                lane: Arc::clone(&lane),
                signature: Arc::clone(session.signature()),
                threads,
            };
            // The starter may have given up; then a stop waits in the inbox.
            drop(ready.send(Ok(started)));
            // Held on to, it would keep the starter waiting for a lane that panicked.
            drop(ready);
            let mut worker = Worker {
                lane,
                session,
                scorer,
                shared: spec.shared,
            };
            while let Ok(Message::Job(job, place)) = spec.jobs.recv() {
                worker.answer(job, place);
            }
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

/// All that it takes to load a session.
struct Loading {
    label: String,
    number: String,
    cores: Vec<CoreId>,
    model: PathBuf,
    cached: Option<Arc<CacheEntry>>,
    sample_request: Option<Bytes>,
}

/// Loads and warms up, quietly where that is asked for; the session, its scorer, and the threads that it made.
fn start(spec: &LaneSpec) -> Result<(Session, JsonScorer, Vec<ThreadPlacement>), StartError> {
    let loading = Loading {
        label: spec.label.clone(),
        number: spec.number.clone(),
        cores: spec.cores.clone(),
        model: spec.model.clone(),
        cached: spec.cached.clone(),
        sample_request: spec.sample_request.clone(),
    };
    if !spec.quiet {
        return loading.load(&Caller::itself());
    }
    let loaded = quiet::run(move |caller| {
        // On the lane's own cores, so that memory is first touched there.
        cores::keep_to(&loading.cores);
        loading.load(caller)
    });
    // It may have been this thread.
    cores::pin_to(spec.cores[0]);
    loaded
}

impl Loading {
    fn load(
        &self,
        caller: &Caller,
    ) -> Result<(Session, JsonScorer, Vec<ThreadPlacement>), StartError> {
        let threads = SessionThreads {
            label: self.label.clone(),
            number: self.number.clone(),
            cores: self.cores.clone(),
            made: Arc::new(Mutex::default()),
            maker: caller.clone(),
        };
        let mut session = Session::load(&self.model, self.cached.as_ref(), &threads)?;
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        match warm_up(&mut session, &scorer, self.sample_request.as_deref()) {
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
        let made =
            std::mem::take(&mut *threads.made.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((session, scorer, made))
    }
}

/// Why a warm-up run failed.
#[derive(Debug)]
pub(super) struct WarmUpProblem {
    /// What went wrong.
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
    let inputs = match sample_request {
        Some(body) => scorer.preprocess(body),
        None => {
            JsonScorer::example_body(session.signature()).and_then(|body| scorer.preprocess(&body))
        }
    }
    .map_err(words)?;
    let mut answer = Bytes::new();
    for _ in 0..WARM_UP_RUNS {
        answer = session
            .run(&inputs, |outputs| scorer.postprocess(outputs))?
            .map_err(words)?;
    }
    Ok(answer)
}

/// A lane that answers: what its thread owns.
struct Worker {
    lane: Arc<Lane>,
    session: Session,
    scorer: JsonScorer,
    shared: Arc<Shared>,
}

impl Worker {
    /// Answers one job. The slot is free before the answer is sent.
    fn answer(&mut self, job: Job, place: Place) {
        let Job {
            id,
            payload,
            deadline,
            mut timings,
            permit,
            reply,
        } = job;
        self.lane.begin(id);
        let now = Instant::now();
        timings.started = Some(now);
        let outcome = if self.shared.is_stopping() {
            Err(RunError::InstanceGone)
        } else if reply.is_closed() || deadline.has_passed(now) {
            Err(RunError::DeadlinePassed)
        } else {
            self.lane.compute();
            catch_unwind(AssertUnwindSafe(|| {
                score(&payload, &mut self.session, &self.scorer, &mut timings)
            }))
            .unwrap_or_else(|panic| Err(RunError::Panicked(panic_message(panic.as_ref()))))
        };
        let outcome = match (self.lane.end(), outcome) {
            (true, Err(_)) if self.shared.is_stopping() => Err(RunError::InstanceGone),
            (true, Err(_)) => Err(RunError::DeadlinePassed),
            (_, outcome) => outcome,
        };
        // The instance has room before the deployment gives the slot to the next request.
        drop(place);
        drop(permit);
        // The client may have left.
        drop(reply.send(Reply { outcome, timings }));
    }
}

fn score(
    payload: &[u8],
    session: &mut Session,
    scorer: &JsonScorer,
    timings: &mut Timings,
) -> Result<Scored, RunError> {
    let inputs = scorer.preprocess(payload).map_err(RunError::Input)?;
    timings.decoded = Some(Instant::now());
    let mut ran = None;
    let body = session.run(&inputs, |outputs| {
        ran = Some(Instant::now());
        scorer.postprocess(outputs)
    });
    timings.ran = ran.or_else(|| Some(Instant::now()));
    let body = body.map_err(RunError::Model)?.map_err(RunError::Output)?;
    timings.encoded = Some(Instant::now());
    Ok(Scored { body })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

//! The way from a model file to a warm session: load, warm up, and measure where that is asked for.
//!
//! Threads: a lane's own, one at background priority that it waits for, or the first of a lane's process.
//! Not here: what the session is used for (`lane`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serin_scorers::{JsonScorer, NonFinite, ScoreError, Scorer as _, Signature, Tensor};

use crate::black_box::{Doing, Slot};
use crate::engine::CacheEntry;
use crate::engine::background::{self, Caller};
use crate::engine::cores::{self, CoreId, ThreadPlacement};
use crate::engine::job::AnswerForm;
use crate::engine::lock::lock;
use crate::engine::profile::ModelProfile;
use crate::engine::run_memory::MemoryShare;
use crate::engine::session::{LoadError, Session, SessionThreads, views};

/// Runs before a lane takes traffic: the first allocates, the second is as fast as all later ones.
const WARM_UP_RUNS: usize = 2;

/// The reason why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that no deployment can have.
    #[error("{0}")]
    Settings(String),
    /// The model did not load; names the file and what is wrong with it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model refused the sample request, or failed on it.
    #[error("the warm-up run failed: {0}")]
    WarmUp(String),
    /// The system gave no thread.
    #[error("cannot start a score thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A lane is to be a process, and nobody said of which binary.
    #[error(
        "isolation is process, which needs a serin binary to start, and none is named: name one by Builder::serin_binary, or choose thread or auto"
    )]
    NoBinary,
    /// The process of a lane did not start; its own words.
    #[error("{0}")]
    Process(String),
    /// A thread ended before it was ready.
    #[error("a score thread ended while it loaded the model")]
    Ended,
}

/// Arguments of loading a session, owned, for it may happen on another thread.
#[derive(Debug, Clone)]
pub(super) struct Loading {
    pub(super) label: String,
    pub(super) number: String,
    /// One for each thread.
    pub(super) cores: Vec<CoreId>,
    /// All cores that its threads may run on, where they keep to none.
    pub(super) floats_over: Option<Vec<CoreId>>,
    pub(super) model: PathBuf,
    pub(super) cached: Option<Arc<CacheEntry>>,
    pub(super) sample_request: Option<Bytes>,
    pub(super) spin: bool,
    /// The form of NaN and infinities in its answers.
    pub(super) non_finite: NonFinite,
    /// The memory that the runs of all lanes of the instance may take together.
    pub(super) memory: Arc<MemoryShare>,
    pub(super) measures: bool,
    /// In the black box.
    pub(super) slot: Arc<Slot>,
}

/// The outcome of loading.
pub(super) struct LoadedModel {
    pub(super) session: Session,
    pub(super) scorer: JsonScorer,
    pub(super) slot: Arc<Slot>,
    pub(super) measured: Option<ModelProfile>,
    /// Intra-op threads.
    pub(super) made: Vec<ThreadPlacement>,
}

impl Loading {
    /// Loads and warms up, and measures where that is asked for; at background priority where others are not to feel it.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the model does not load, or does not run on its sample request.
    pub(super) fn begin(self, background: bool) -> Result<LoadedModel, StartError> {
        if !background {
            return self.load(&Caller::itself());
        }
        // On the lane's own core, if it has one, so that memory is first touched there.
        let core = match self.floats_over {
            None => self.cores[0],
            Some(_) => cores::last(),
        };
        background::run(core, move |caller| self.load(caller))
    }

    fn load(&self, caller: &Caller) -> Result<LoadedModel, StartError> {
        let _loading = self.slot.busy(Doing::Loading);
        let threads = SessionThreads {
            label: self.label.clone(),
            number: self.number.clone(),
            cores: self.cores.clone(),
            floats_over: self.floats_over.clone(),
            made: Arc::new(Mutex::default()),
            maker: caller.clone(),
            spin: self.spin,
            memory: Some(Arc::clone(&self.memory)),
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
        // Only now: what is compared above must be JSON.
        let scorer = scorer.with_non_finite(self.non_finite);
        Ok(LoadedModel {
            session,
            scorer,
            slot: Arc::clone(&self.slot),
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
            .run(&views(&inputs), AnswerForm::Json, |outputs| {
                scorer.postprocess(outputs)
            })?
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
        .and_then(|inputs| session.run_and_shrink(&views(&inputs)));
    if let Err(problem) = shrunk {
        tracing::debug!(problem, "the memory of the first runs is kept");
    }
}

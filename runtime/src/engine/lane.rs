//! A lane: one session, and how it answers jobs. Who holds the lock of its model computes: the lane's own thread, or an I/O
//! thread that executes small work inline while the lane is idle.
//!
//! Jobs that came together are decoded one by one, run together where the model allows it, and encoded one by one. One that
//! does not fit the model is answered alone, and when a joint run fails each of its jobs runs once more by itself: no request
//! fails because of another.
//!
//! Not here: which jobs come together (`worker`, `instance`), whether it pays (`profile`).

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Instant;

use bytes::Bytes;
use serin_scorers::{JsonScorer, OutputView, Scorer as _, Tensor};
use tokio::sync::oneshot;

use crate::engine::inbox::InstanceState;
use crate::engine::lock::lock;
use crate::engine::run_memory::room_for_tensors;
use crate::engine::session::{Session, Terminator};
use crate::engine::{Job, Permit, Reply, Reservation, ReservedJob, RunError, Scored};
use crate::observe::Timings;

/// The parts that compute.
pub(super) struct LoadedModel {
    pub(super) session: Session,
    pub(super) scorer: JsonScorer,
}

/// One lane of an instance.
#[derive(Debug)]
pub(super) struct Lane {
    /// Gone when the lane has ended, so that its memory comes back while handles live on. Its lock is held for as long as jobs
    /// are answered; only the lane's own thread waits for it. `running` is taken under it and never the other way round.
    model: Mutex<Option<LoadedModel>>,
    /// Held for a few instructions: it orders the beginning and the end of a run with those who want to end it.
    running: Mutex<CurrentRun>,
    /// A job is wanted and being worked on.
    computing: AtomicBool,
    terminator: Terminator,
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoadedModel")
    }
}

/// The run under way.
#[derive(Debug, Default)]
struct CurrentRun {
    /// Its jobs that somebody waits for.
    wanted: Vec<u64>,
    terminated: bool,
}

impl Lane {
    pub(super) fn new(model: LoadedModel) -> Self {
        Self {
            terminator: model.session.terminator(),
            model: Mutex::new(Some(model)),
            running: Mutex::default(),
            computing: AtomicBool::new(false),
        }
    }

    /// Waits for the model; it holds none when the lane has ended.
    pub(super) fn model(&self) -> MutexGuard<'_, Option<LoadedModel>> {
        lock(&self.model)
    }

    /// The model, if nobody computes with it now.
    pub(super) fn idle_model(&self) -> Option<MutexGuard<'_, Option<LoadedModel>>> {
        match self.model.try_lock() {
            Ok(model) => Some(model),
            // A panic of a run is caught within it: whatever poisoned the lock left the session whole.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether a job is being worked on.
    pub(super) fn is_computing(&self) -> bool {
        // Relaxed: for people and for the metrics; nothing is read on the strength of it.
        self.computing.load(Ordering::Relaxed)
    }

    /// The job is not wanted any more. A run that nobody waits for is ended.
    pub(super) fn cancel(&self, job: u64) {
        let mut running = lock(&self.running);
        if let Some(at) = running.wanted.iter().position(|wanted| *wanted == job) {
            running.wanted.swap_remove(at);
            self.end_if_unwanted(&mut running);
        }
    }

    /// Ends whatever runs.
    pub(super) fn cancel_any(&self) {
        let mut running = lock(&self.running);
        if !running.wanted.is_empty() {
            running.wanted.clear();
            self.end_if_unwanted(&mut running);
        }
    }

    fn end_if_unwanted(&self, running: &mut CurrentRun) {
        if running.wanted.is_empty() {
            running.terminated = true;
            self.terminator.terminate();
        }
    }

    /// From now on [`Lane::cancel`] can end the run. Takes the jobs out of it whose clients have left, and gives them.
    fn begin(&self, run: &mut Vec<Decoded>) -> Vec<Decoded> {
        let mut running = lock(&self.running);
        // A client closes its end before it cancels, and cancels under this lock. So one that left is either seen here, or finds
        // its job among the wanted; and a job of which neither is true keeps no run alive that others have left.
        let gone = run.extract_if(.., |job| job.reply.is_closed()).collect();
        running.wanted.extend(run.iter().map(|job| job.id));
        gone
    }

    /// The run is over; whether it was terminated. The lane can run again.
    fn end(&self) -> bool {
        self.computing.store(false, Ordering::Relaxed);
        // Under the lock: who ends a run either still meets it, and its termination is cleared here, or finds nothing wanted. So no
        // termination is left over for the next run.
        let mut running = lock(&self.running);
        running.wanted.clear();
        let terminated = std::mem::take(&mut running.terminated);
        if terminated {
            self.terminator.clear();
        }
        terminated
    }

    /// Answers the jobs, in order, on the calling thread.
    pub(super) fn answer(
        &self,
        model: &mut LoadedModel,
        jobs: impl IntoIterator<Item = ReservedJob>,
        state: &InstanceState,
    ) {
        let jobs = jobs.into_iter();
        let mut decoded: VecDeque<_> = jobs
            .filter_map(|job| decode(job, &model.scorer, state))
            .collect();
        while let Some(run) = next_run(&mut decoded, state.rows_max()) {
            self.run(model, run, state);
        }
    }

    /// Runs jobs that fit together and answers them.
    fn run(&self, model: &mut LoadedModel, mut run: Vec<Decoded>, state: &InstanceState) {
        for job in self.begin(&mut run) {
            job.finish(Err(RunError::DeadlinePassed));
        }
        // Whoever stops the instance says so before it ends what runs ([`Lane::cancel_any`]): it met this run, or is seen here.
        if state.is_stopping() {
            run.drain(..)
                .for_each(|job| job.finish(Err(RunError::InstanceGone)));
        }
        if run.is_empty() {
            self.end();
            return;
        }
        self.computing.store(true, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| model.score(&mut run)))
            .unwrap_or_else(|panic| Err(RunError::Panicked(panic_message(panic.as_ref()))));
        let terminated = self.end();
        match outcome {
            Ok(bodies) => {
                for (job, body) in run.into_iter().zip(bodies) {
                    job.finish(body.map(|body| Scored { body }));
                }
            }
            Err(_) if run.len() > 1 && !terminated => {
                for job in run {
                    self.run(model, vec![job], state);
                }
            }
            Err(error) => {
                let error = match terminated {
                    true if state.is_stopping() => RunError::InstanceGone,
                    true => RunError::DeadlinePassed,
                    false => error,
                };
                for job in run {
                    job.finish(Err(error.clone()));
                }
            }
        }
    }
}

/// A job whose inputs are read.
struct Decoded {
    id: u64,
    inputs: Vec<Tensor>,
    /// Rows of each input; none when they differ, or there are none: then it runs alone.
    rows: Option<usize>,
    timings: Timings,
    reservation: Reservation,
    permit: Permit,
    reply: oneshot::Sender<Reply>,
}

impl Decoded {
    /// Answers. The instance has room, and the slot is free, before the answer is sent.
    fn finish(self, outcome: Result<Scored, RunError>) {
        finish(
            self.reservation,
            self.permit,
            self.reply,
            outcome,
            self.timings,
        );
    }

    /// Whether rows of both can stand in one input.
    fn fits(&self, other: &Self) -> bool {
        let mut pairs = self.inputs.iter().zip(&other.inputs);
        pairs.all(|(one, other)| one.shape().get(1..) == other.shape().get(1..))
    }
}

fn finish(
    reservation: Reservation,
    permit: Permit,
    reply: oneshot::Sender<Reply>,
    outcome: Result<Scored, RunError>,
    timings: Timings,
) {
    // The reservation first: who is admitted by the slot finds room at the instance.
    drop(reservation);
    drop(permit);
    // The client may have left.
    drop(reply.send(Reply { outcome, timings }));
}

/// Reads the inputs of a job; one that is not wanted any more, or does not fit the model, is answered here.
fn decode(reserved: ReservedJob, scorer: &JsonScorer, state: &InstanceState) -> Option<Decoded> {
    let (
        Job {
            id,
            payload,
            deadline,
            mut timings,
            permit,
            reply,
        },
        reservation,
    ) = reserved.into_parts();
    let now = Instant::now();
    timings.started = Some(now);
    let inputs = if state.is_stopping() {
        Err(RunError::InstanceGone)
    } else if reply.is_closed() || deadline.has_passed(now) {
        Err(RunError::DeadlinePassed)
    } else {
        room_for_tensors(payload.len(), scorer.signature())
            .map_err(RunError::Model)
            .and_then(|_room| {
                catch_unwind(AssertUnwindSafe(|| scorer.preprocess(&payload)))
                    .map_err(|panic| RunError::Panicked(panic_message(panic.as_ref())))
                    .and_then(|inputs| inputs.map_err(RunError::Input))
            })
    };
    match inputs {
        Ok(inputs) => {
            timings.decoded = Some(Instant::now());
            Some(Decoded {
                id,
                rows: common_rows(&inputs),
                inputs,
                timings,
                reservation,
                permit,
                reply,
            })
        }
        Err(error) => {
            finish(reservation, permit, reply, Err(error), timings);
            None
        }
    }
}

fn common_rows(inputs: &[Tensor]) -> Option<usize> {
    let mut rows = inputs.iter().map(|input| input.shape().first().copied());
    let first = rows.next()??;
    (first > 0 && rows.all(|other| other == Some(first))).then_some(first)
}

/// Takes the first job, and those right behind it that fit into the same run.
fn next_run(decoded: &mut VecDeque<Decoded>, rows_max: usize) -> Option<Vec<Decoded>> {
    let first = decoded.pop_front()?;
    let mut rows = first.rows.unwrap_or(rows_max);
    let mut run = vec![first];
    while let Some(more) = decoded.front().and_then(|next| next.rows)
        && rows + more <= rows_max
        && decoded.front().is_some_and(|next| run[0].fits(next))
    {
        rows += more;
        run.extend(decoded.pop_front());
    }
    Some(run)
}

/// The body of each job's answer, or why it has none.
type AnswerBodies = Vec<Result<Bytes, RunError>>;

impl LoadedModel {
    /// Runs the model once for all these jobs and encodes the answer of each.
    fn score(&mut self, run: &mut [Decoded]) -> Result<AnswerBodies, RunError> {
        let began = Instant::now();
        let joined = match &*run {
            [_] => None,
            several => Some(join(several)?),
        };
        let inputs = joined.as_deref().unwrap_or(&run[0].inputs);
        let mut ran = None;
        let bodies = self.session.run(inputs, |outputs| {
            ran = Some(Instant::now());
            encode(&self.scorer, run, outputs)
        });
        let (ran, encoded) = (ran.unwrap_or_else(Instant::now), Instant::now());
        let joined = u32::try_from(run.len()).unwrap_or(u32::MAX);
        for job in &mut *run {
            job.timings.run_began = Some(began);
            job.timings.ran = Some(ran);
            job.timings.encoded = Some(encoded);
            job.timings.joined = joined;
        }
        bodies.map_err(RunError::Model)?
    }
}

/// One tensor for each input, with the rows of all jobs.
fn join(run: &[Decoded]) -> Result<Vec<Tensor>, RunError> {
    let inputs = 0..run[0].inputs.len();
    inputs
        .map(|input| {
            let parts: Vec<_> = run.iter().map(|job| &job.inputs[input]).collect();
            Tensor::join(&parts)
                .ok_or_else(|| RunError::Model("the inputs do not fit together".to_owned()))
        })
        .collect()
}

/// The answer of each job from its rows of the outputs.
fn encode(
    scorer: &JsonScorer,
    run: &[Decoded],
    outputs: &[OutputView<'_>],
) -> Result<AnswerBodies, RunError> {
    let body = |outputs: &[OutputView<'_>]| scorer.postprocess(outputs).map_err(RunError::Output);
    if let [_] = run {
        return Ok(vec![body(outputs)]);
    }
    let rows = run.iter().map(|job| job.rows.unwrap_or(0)).sum();
    if outputs.iter().any(|output| output.rows() != Some(rows)) {
        return Err(RunError::Model(
            "an output has other rows than the inputs".to_owned(),
        ));
    }
    let mut start = 0;
    let parts = run.iter().map(|job| {
        let part = start..start + job.rows.unwrap_or(0);
        start = part.end;
        body(&parts_of(outputs, &part))
    });
    Ok(parts.collect())
}

fn parts_of<'a>(outputs: &[OutputView<'a>], rows: &Range<usize>) -> Vec<OutputView<'a>> {
    let parts = outputs.iter().map(|output| output.part(rows));
    parts
        .map(|part| part.expect("the rows were counted"))
        .collect()
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::deadline::Deadline;
    use crate::engine::SlotOwner;
    use crate::engine::background::Caller;
    use crate::engine::session::SessionThreads;
    use serin_scorers::Signature;

    struct Unbounded;

    impl SlotOwner for Unbounded {
        fn give_back(&self) {}
    }

    /// A lane without a thread of its own.
    fn lane() -> Lane {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx");
        let threads = SessionThreads {
            label: "test".to_owned(),
            number: String::new(),
            cores: vec![0],
            made: Arc::default(),
            maker: Caller::itself(),
            spin: false,
            memory: None,
        };
        let session = Session::load(&model, None, &threads).unwrap();
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        Lane::new(LoadedModel { session, scorer })
    }

    /// A request that was read already, and its client.
    fn request(lane: &Lane, state: &Arc<InstanceState>) -> (Decoded, oneshot::Receiver<Reply>) {
        let (reply, client) = oneshot::channel();
        let now = Instant::now();
        let job = Job {
            id: Job::next_id(),
            payload: format!("{{\"data\": [{:?}]}}", [0; 64]).into(),
            deadline: Deadline::after(now, Duration::from_secs(60)),
            timings: Timings::start(now),
            permit: Permit::new(Arc::new(Unbounded)),
            reply,
        };
        let job = state.reserve().unwrap().give_to(job);
        let model = lane.model();
        let decoded = decode(job, &model.as_ref().unwrap().scorer, state);
        (decoded.unwrap(), client)
    }

    /// Runs what has begun.
    fn score(lane: &Lane, run: &mut [Decoded]) -> Result<AnswerBodies, RunError> {
        lane.model().as_mut().unwrap().score(run)
    }

    #[test]
    fn a_run_that_is_shared_goes_on_until_the_last_client_leaves() {
        let (lane, state) = (lane(), Arc::new(InstanceState::new(2)));
        let ((one, _first), (other, _second)) = (request(&lane, &state), request(&lane, &state));
        let [first, second] = [one.id, other.id];
        let mut run = vec![one, other];
        assert!(lane.begin(&mut run).is_empty());
        lane.cancel(first);
        assert_eq!(score(&lane, &mut run).unwrap().len(), 2);
        lane.cancel(second);
        let outcome = score(&lane, &mut run);
        assert!(matches!(outcome, Err(RunError::Model(_))), "{outcome:?}");
        assert!(lane.end(), "it was terminated");
        score(&lane, &mut run).unwrap();
    }

    /// Its number stood among the wanted for good, and no cancel was left to take it away.
    #[test]
    fn a_client_that_left_before_the_run_does_not_keep_it_going() {
        let (lane, state) = (lane(), Arc::new(InstanceState::new(2)));
        let ((one, client), (other, _stays)) = (request(&lane, &state), request(&lane, &state));
        let [first, second] = [one.id, other.id];
        drop(client);
        lane.cancel(first);
        let mut run = vec![one, other];
        assert_eq!(lane.begin(&mut run).len(), 1);
        lane.cancel(second);
        assert!(lane.end(), "nobody wanted it");
    }

    /// It was read when nothing stopped, and not yet under way when what ran was ended: nobody would have ended it.
    #[test]
    fn a_run_that_is_about_to_begin_as_its_instance_stops_does_not_begin() {
        let (lane, state) = (lane(), Arc::new(InstanceState::new(1)));
        let (job, client) = request(&lane, &state);
        state.begin_to_stop();
        lane.cancel_any();
        lane.run(lane.model().as_mut().unwrap(), vec![job], &state);
        let outcome = client.blocking_recv().unwrap().outcome;
        assert!(matches!(outcome, Err(RunError::InstanceGone)));
    }
}

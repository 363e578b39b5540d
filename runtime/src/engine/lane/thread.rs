//! The backend that computes on the thread that has it now: a session, and how it answers requests.
//!
//! Requests that came together are decoded one by one, run together where the model allows it, and encoded one by one. One that
//! does not fit the model is answered alone, and when a joint run fails each of its requests runs once more by itself: no request
//! fails because of another.
//!
//! Threads: whoever has the lock of the lane; in the process of a lane its first thread.
//! Not here: which requests come together (`worker`, `instance`), whether it pays (`profile`).

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use serin_scorers::{JsonScorer, OutputView, Scorer as _, Tensor, TensorView, Value};

use crate::black_box::{Doing, Slot};
use crate::engine::here::{Here, HereRun};
use crate::engine::inbox::Claim;
use crate::engine::job::AnswerForm;
use crate::engine::lane::Request;
use crate::engine::lane::decoded::{
    Decoded, common_rows, decode, next_run, panic_message, rows_told,
};
use crate::engine::lane::run_control::{Ended, RunControl};
use crate::engine::session::{Session, views};
use crate::engine::{RunError, Scored, ScoredBody};

/// The parts that compute on the thread that has them now. The claims of its requests are of type `C`.
pub(in crate::engine) struct ThreadBackend<C> {
    session: Session,
    scorer: JsonScorer,
    control: Arc<RunControl<C>>,
    slot: Arc<Slot>,
}

/// Where and how requests are computed.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Manner {
    /// Most rows of one run.
    pub(in crate::engine) rows_max: usize,
    /// On an I/O thread, which must not be kept.
    pub(in crate::engine) inline: bool,
}

impl<C> std::fmt::Debug for ThreadBackend<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ThreadBackend")
    }
}

impl<C> ThreadBackend<C> {
    pub(in crate::engine) fn new(session: Session, scorer: JsonScorer, slot: Arc<Slot>) -> Self {
        Self {
            control: Arc::new(RunControl::new(session.terminator())),
            session,
            scorer,
            slot,
        }
    }

    /// The way to end its runs.
    pub(in crate::engine) fn control(&self) -> Arc<RunControl<C>> {
        Arc::clone(&self.control)
    }

    /// Answers the requests, in order, and says so after each run. Gives back those whose run was interrupted because it took too
    /// long for this thread, and all behind them.
    pub(in crate::engine) fn answer<R: Request<Claim = C>>(
        &mut self,
        requests: impl IntoIterator<Item = R>,
        manner: Manner,
        mut after_run: impl FnMut(),
    ) -> Vec<R> {
        let requests = requests.into_iter();
        let mut decoded: VecDeque<_> = requests
            .filter_map(|request| decode(request, &self.scorer))
            .collect();
        while let Some(run) = next_run(&mut decoded, manner.rows_max) {
            let interrupted = self.run(run, manner.inline);
            after_run();
            if !interrupted.is_empty() {
                let left = interrupted.into_iter().chain(decoded);
                return left.map(Decoded::into_request).collect();
            }
        }
        Vec::new()
    }

    /// Runs requests that fit together and answers them; those that are left were interrupted.
    fn run<R: Request<Claim = C>>(
        &mut self,
        mut run: Vec<Decoded<R>>,
        inline: bool,
    ) -> Vec<Decoded<R>> {
        let now = Instant::now();
        for decoded in self.control.begin(&mut run, (now, inline)) {
            decoded.refuse(now);
        }
        if run.is_empty() {
            return run;
        }
        let running = self.slot.busy(Doing::Running);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.score(&mut run, now)))
            .unwrap_or_else(|panic| Err(RunError::Panicked(panic_message(panic.as_ref()))));
        drop(running);
        let ended = self.control.end(&mut run);
        match outcome {
            Ok(answers) => {
                for (mut decoded, answer) in run.into_iter().zip(answers) {
                    decoded.request.timings().not_finite = answer.not_finite;
                    let body = answer.body;
                    decoded
                        .request
                        .finish(body.map(|body| Scored { body, head: None }));
                }
            }
            Err(_) if ended.terminated => return after_termination(run, &ended),
            Err(_) if run.len() > 1 => {
                let mut alone = run.into_iter();
                while let Some(decoded) = alone.next() {
                    let mut interrupted = self.run(vec![decoded], inline);
                    if !interrupted.is_empty() {
                        interrupted.extend(alone);
                        return interrupted;
                    }
                }
            }
            Err(error) => {
                for decoded in run {
                    decoded.request.finish(Err(error.clone()));
                }
            }
        }
        Vec::new()
    }
}

impl ThreadBackend<Claim> {
    /// Runs the model for the thread that has it now, over the memory of that thread.
    pub(in crate::engine) fn run_here<'a>(&mut self, mut run: HereRun<'a>) -> Here<'a> {
        run.timings.started = Some(Instant::now());
        if let Err(misfit) = self.scorer.signature().check(run.inputs) {
            return run.done(Err(RunError::Input(misfit)));
        }
        let began = Instant::now();
        run.timings.decoded = Some(began);
        if let Err(refusal) = self.begin_here(&mut run, began) {
            return run.done(Err(refusal));
        }
        let running = self.slot.busy(Doing::Running);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.score_here(&mut run)))
            .unwrap_or_else(|panic| Err(RunError::Panicked(panic_message(panic.as_ref()))));
        drop(running);
        let ended = self.control.end_alone();
        run.claim = ended.claim;
        match outcome {
            Err(_) if ended.terminated && ended.wanted => run.left(),
            Err(_) if ended.terminated => {
                let why = run.why_unwanted(Instant::now());
                run.done(Err(why))
            }
            outcome => run.done(outcome),
        }
    }

    fn begin_here(&self, run: &mut HereRun<'_>, began: Instant) -> Result<(), RunError> {
        let Some(claim) = run.claim.take() else {
            return Err(RunError::InstanceGone);
        };
        run.timings.run_began = Some(began);
        let manner = (began, !run.may_take_long);
        let deadline = run.deadline;
        let refusal = |claim: &Claim| match claim.is_stopping() {
            true => Some(RunError::InstanceGone),
            false => deadline
                .has_passed(began)
                .then_some(RunError::ExpiredWaiting),
        };
        let begun = self
            .control
            .begin_alone((run.id, claim), manner, deadline, refusal);
        begun.map_err(|(claim, refusal)| {
            run.claim = Some(claim);
            refusal
        })
    }

    fn score_here(&mut self, run: &mut HereRun<'_>) -> Result<Vec<Value>, RunError> {
        let mut ran = None;
        let values = self.session.run(run.inputs, AnswerForm::Values, |outputs| {
            ran = Some(Instant::now());
            outputs.iter().map(OutputView::to_value).collect()
        });
        let encoded = Instant::now();
        run.timings.ran = ran.or(Some(encoded));
        run.timings.encoded = Some(encoded);
        run.timings.joined = 1;
        run.timings.run_rows = rows_told(common_rows(run.inputs.iter().map(TensorView::rows)));
        values.map_err(RunError::Model)
    }
}

/// Answers those of a terminated run that nobody needs; the others are left.
fn after_termination<R: Request>(run: Vec<Decoded<R>>, ended: &Ended) -> Vec<Decoded<R>> {
    let now = Instant::now();
    let mut left = Vec::new();
    for decoded in run {
        if ended.wanted.contains(&decoded.request.id()) {
            left.push(decoded);
        } else {
            decoded.refuse(now);
        }
    }
    left
}

/// The outputs for one request.
#[derive(Debug)]
struct Encoded {
    /// Or why it has none.
    body: Result<ScoredBody, RunError>,
    /// They have a NaN or an infinity.
    not_finite: bool,
}

impl<C> ThreadBackend<C> {
    /// Runs the model once for all these requests and encodes the answer of each.
    fn score<R: Request>(
        &mut self,
        run: &mut [Decoded<R>],
        began: Instant,
    ) -> Result<Vec<Encoded>, RunError> {
        let joined = match &*run {
            [_] => None,
            several => Some(join(several)?),
        };
        let inputs = views(joined.as_deref().unwrap_or(&run[0].inputs));
        // The larger one, where requests of both run together.
        let wants_json = run
            .iter()
            .any(|one| one.request.wants() == AnswerForm::Json);
        let form = if wants_json {
            AnswerForm::Json
        } else {
            AnswerForm::Values
        };
        let mut ran = None;
        let answers = self.session.run(&inputs, form, |outputs| {
            ran = Some(Instant::now());
            encode(&self.scorer, run, outputs)
        });
        let (ran, encoded) = (ran.unwrap_or_else(Instant::now), Instant::now());
        let joined = u32::try_from(run.len()).unwrap_or(u32::MAX);
        let rows = run.iter().map(|one| one.rows).sum::<Option<usize>>();
        let mut rows = rows_told(rows);
        for decoded in &mut *run {
            let timings = decoded.request.timings();
            timings.run_began = Some(began);
            timings.ran = Some(ran);
            timings.encoded = Some(encoded);
            timings.joined = joined;
            // Told by the first alone.
            timings.run_rows = std::mem::take(&mut rows);
        }
        answers.map_err(RunError::Model)?
    }
}

/// One tensor for each input, with the rows of all requests.
fn join<R>(run: &[Decoded<R>]) -> Result<Vec<Tensor>, RunError> {
    let inputs = 0..run[0].inputs.len();
    inputs
        .map(|input| {
            let parts: Vec<_> = run.iter().map(|one| one.inputs[input].view()).collect();
            TensorView::join(&parts)
                .ok_or_else(|| RunError::Model("the inputs do not fit together".to_owned()))
        })
        .collect()
}

/// The answer of each request from its rows of the outputs.
fn encode<R: Request>(
    scorer: &JsonScorer,
    run: &[Decoded<R>],
    outputs: &[OutputView<'_>],
) -> Result<Vec<Encoded>, RunError> {
    let answer = |one: &Decoded<R>, outputs: &[OutputView<'_>]| match one.request.wants() {
        AnswerForm::Json => {
            let body = scorer.postprocess(outputs);
            Encoded {
                body: body.map(ScoredBody::Json).map_err(RunError::Output),
                not_finite: !outputs.iter().all(OutputView::is_finite),
            }
        }
        // Who asked for them sees them, and no evidence is made of them.
        AnswerForm::Values => Encoded {
            body: Ok(ScoredBody::Values(
                outputs.iter().map(OutputView::to_value).collect(),
            )),
            not_finite: false,
        },
    };
    if let [one] = run {
        return Ok(vec![answer(one, outputs)]);
    }
    let rows = run.iter().map(|one| one.rows.unwrap_or(0)).sum();
    if outputs.iter().any(|output| output.rows() != Some(rows)) {
        return Err(RunError::Model(
            "an output has other rows than the inputs".to_owned(),
        ));
    }
    let mut start = 0;
    let parts = run.iter().map(|one| {
        let part = start..start + one.rows.unwrap_or(0);
        start = part.end;
        answer(one, &parts_of(outputs, &part))
    });
    Ok(parts.collect())
}

fn parts_of<'a>(outputs: &[OutputView<'a>], rows: &Range<usize>) -> Vec<OutputView<'a>> {
    let parts = outputs.iter().map(|output| output.part(rows));
    parts
        .map(|part| part.expect("the rows were counted"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use serin_scorers::Signature;
    use tokio::sync::oneshot;

    use super::*;
    use crate::deadline::Deadline;
    use crate::engine::inbox::{InstanceState, ReservedJob};
    use crate::engine::lane::run_control::Look;
    use crate::engine::session::SessionThreads;
    use crate::engine::{Job, Permit, Reply, SlotOwner};
    use crate::observe::Timings;

    struct Unbounded;

    impl SlotOwner for Unbounded {
        fn give_back(&self) {}
    }

    type Backend = ThreadBackend<Claim>;

    fn backend() -> Backend {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx");
        let session = Session::load(&model, None, &SessionThreads::one("test")).unwrap();
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        ThreadBackend::new(session, scorer, Arc::new(Slot::none()))
    }

    /// A request that was read already, and its client.
    fn request(
        backend: &Backend,
        state: &Arc<InstanceState>,
    ) -> (Decoded<ReservedJob>, oneshot::Receiver<Reply>) {
        let (reply, client) = oneshot::channel();
        let now = Instant::now();
        let job = Job {
            id: Job::next_id(),
            payload: Bytes::from(format!("{{\"data\": [{:?}]}}", [0; 64])).into(),
            head: None,
            deadline: Deadline::after(now, Duration::from_secs(60)),
            timings: Timings::start(now),
            permit: Permit::new(Arc::new(Unbounded)),
            reply,
        };
        let job = state.reserve().unwrap().give_to(job);
        (decode(job, &backend.scorer).unwrap(), client)
    }

    fn begin(backend: &Backend, run: &mut Vec<Decoded<ReservedJob>>) -> usize {
        let gone = backend.control.begin(run, (Instant::now(), false));
        gone.len()
    }

    /// Runs what has begun.
    fn score(
        backend: &mut Backend,
        run: &mut [Decoded<ReservedJob>],
    ) -> Result<Vec<Encoded>, RunError> {
        backend.score(run, Instant::now())
    }

    #[test]
    fn a_run_that_is_shared_goes_on_until_the_last_client_leaves() {
        let (mut backend, state) = (backend(), Arc::new(InstanceState::new(2)));
        let (one, _first) = request(&backend, &state);
        let (other, _second) = request(&backend, &state);
        let [first, second] = [one.request.id(), other.request.id()];
        let mut run = vec![one, other];
        assert_eq!(begin(&backend, &mut run), 0);
        assert!(backend.control.cancel(first));
        assert_eq!(score(&mut backend, &mut run).unwrap().len(), 2);
        assert!(backend.control.cancel(second));
        let outcome = score(&mut backend, &mut run);
        assert!(matches!(outcome, Err(RunError::Model(_))), "{outcome:?}");
        assert!(
            backend.control.end(&mut run).terminated,
            "it was terminated"
        );
        score(&mut backend, &mut run).unwrap();
    }

    /// Its number stood among the wanted for good, and no cancel was left to take it away.
    #[test]
    fn a_client_that_left_before_the_run_does_not_keep_it_going() {
        let (backend, state) = (backend(), Arc::new(InstanceState::new(2)));
        let (one, client) = request(&backend, &state);
        let (other, _stays) = request(&backend, &state);
        let [first, second] = [one.request.id(), other.request.id()];
        drop(client);
        backend.control.cancel(first);
        let mut run = vec![one, other];
        assert_eq!(begin(&backend, &mut run), 1);
        backend.control.cancel(second);
        assert!(backend.control.end(&mut run).terminated, "nobody wanted it");
    }

    /// It was read when nothing stopped, and not yet under way when what ran was ended: nobody would have ended it.
    #[test]
    fn a_run_that_is_about_to_begin_as_its_instance_stops_does_not_begin() {
        let (mut backend, state) = (backend(), Arc::new(InstanceState::new(1)));
        let (job, client) = request(&backend, &state);
        state.begin_to_stop();
        backend.control.cancel_any();
        assert!(backend.run(vec![job], false).is_empty());
        let outcome = client.blocking_recv().unwrap().outcome;
        assert!(matches!(outcome, Err(RunError::InstanceGone)));
    }

    #[test]
    fn a_run_that_takes_long_inline_is_interrupted_and_its_requests_are_left() {
        let (mut backend, state) = (backend(), Arc::new(InstanceState::new(2)));
        let (one, mut client) = request(&backend, &state);
        let (other, _client) = request(&backend, &state);
        let mut run = vec![one];
        let began = Instant::now();
        backend.control.begin(&mut run, (began, true));
        assert_eq!(backend.control.look(began), Look::Busy);
        assert_eq!(
            backend.control.look(began + crate::config::INLINE_RUN_MAX),
            Look::Busy
        );
        let ended = backend.control.end(&mut run);
        assert!(ended.terminated);
        let left = after_termination(run, &ended);
        assert_eq!(left.len(), 1);
        assert!(client.try_recv().is_err(), "nobody has answered it");
        // The next run is not ended by what was meant for this one.
        let mut run = vec![other];
        begin(&backend, &mut run);
        score(&mut backend, &mut run).unwrap();
        assert!(!backend.control.end(&mut run).terminated);
    }

    #[test]
    fn what_the_requests_of_a_run_occupy_that_does_not_end_is_freed_once() {
        let (backend, state) = (backend(), Arc::new(InstanceState::new(1)));
        let (one, client) = request(&backend, &state);
        let id = one.request.id();
        let mut run = vec![one];
        begin(&backend, &mut run);
        drop(client);
        assert!(backend.control.give_up().is_none(), "it may yet end");
        backend.control.cancel(id);
        let later = Instant::now() + crate::config::RUN_END_MAX;
        assert_eq!(backend.control.look(Instant::now()), Look::Busy);
        assert_eq!(backend.control.look(later), Look::Stuck);
        assert_eq!(state.load(), 1);
        drop(backend.control.give_up().unwrap());
        assert_eq!(state.load(), 0);
        assert_eq!(backend.control.look(later), Look::Busy, "given up already");
        let ended = backend.control.end(&mut run);
        assert!(after_termination(run, &ended).is_empty());
        assert_eq!(state.load(), 0);
    }
}

//! The backend that computes in a process of its own: the server's side.
//!
//! Whatever a model can do to the process that runs it, it does to that one. A batch of requests goes there through shared memory,
//! and comes back answer by answer. When the process ends under a batch, then the one request that ran is answered with how it
//! ended; of several that ran together nobody knows which it was, so each runs once more, alone; and those that had not begun have
//! lost nothing.
//!
//! Threads: whoever has the lock of the lane submits and collects; an I/O thread waits for a moment at most and leaves the rest to
//! the lane's own thread, which alone starts processes, for they end with the thread that made them. Each process has a thread that
//! waits for its end.
//! Not here: the process's own side (`child`), the memory (`page`).

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use serin_scorers::{ScoreError, Tensor, pack_tensors, unpack_values};

use crate::config::{LANE_LOOK_PERIOD, LANE_RESTART_PAUSES, RUN_END_MAX, START_MAX, STOP_MAX};
use crate::engine::child_notes::warning_of_child;
use crate::engine::endings::how_it_ended;
use crate::engine::inbox::{InstanceState, ReservedJob};
use crate::engine::job::AnswerForm;
use crate::engine::lane::Request as _;
use crate::engine::lane::last_words::LastWords;
use crate::engine::lane::page::{AnswerKind, BodyKind, Page, ROWS_MAX, Row, RowState, clock_ns};
use crate::engine::lane::run_control::Look;
use crate::engine::lane::script::{self, ScriptReport};
use crate::engine::lane::words::{LANE_COMMAND, LaneOrder, LaneReport};
use crate::engine::loading::{Loading, StartError};
use crate::engine::lock::lock;
use crate::engine::{Payload, RunError, Scored, ScoredBody, ScriptSpec};
use crate::observe::{NoteOn, note};

/// The program that computes.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Program {
    /// The serin binary, which loads the model.
    Model(PathBuf),
    /// A Python, which runs a scoring script.
    Script(Arc<ScriptSpec>),
}

/// All that is needed to start the process of a lane, again and again.
#[derive(Debug)]
pub(in crate::engine) struct ProcessSpec {
    pub(in crate::engine) program: Program,
    pub(in crate::engine) loading: Loading,
    pub(in crate::engine) background: bool,
    /// What of the model's graph may end the process, in words.
    pub(in crate::engine) suspect: Option<String>,
    /// Hears what happens to the lane.
    pub(in crate::engine) state: Arc<InstanceState>,
    /// Wakes the lane's own thread when the process has ended.
    pub(in crate::engine) ended: Sender<()>,
}

/// The server's side of a lane in a process.
#[derive(Debug)]
pub(in crate::engine) struct ProcessBackend {
    spec: ProcessSpec,
    control: Arc<ProcessControl>,
    /// None where it has ended and no other was started yet.
    process: Option<Arc<LaneProcess>>,
    /// In the order of their rows; those that were answered are gone.
    submitted: Vec<Option<ReservedJob>>,
    waiting: VecDeque<ReservedJob>,
    /// So many of those that wait go one by one: a process ended under them together.
    alone: usize,
    /// The process has answered.
    is_proven: bool,
    /// The last process ended before anybody asked it anything: the next one is started when somebody does.
    rests: bool,
    /// Bytes of the bodies of the batch.
    bodies_bytes: usize,
    /// The count of the signal by which the batch was submitted.
    submissions: u32,
    rows_max: usize,
    /// The moment of the submission by the clock of this process and by that of both.
    clock: (Instant, u64),
}

/// The end of the work on what a backend was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Progress {
    /// Everything is answered.
    Done,
    /// Not in the time given: somebody has to go on.
    Left,
}

/// The way to end what runs in the process.
#[derive(Debug, Default)]
pub(in crate::engine) struct ProcessControl {
    /// Held for a few instructions.
    current: Mutex<Current>,
}

/// The batch under way.
#[derive(Debug, Default)]
struct Current {
    process: Option<Arc<LaneProcess>>,
    /// Its requests, by row. What stands in the rows themselves the process may have damaged.
    requests: Vec<SubmittedRequest>,
    /// Since when nobody waits for what runs.
    unwanted_since: Option<Instant>,
    stopping: bool,
}

/// A request of the batch as the server knows it.
#[derive(Debug, Clone, Copy)]
struct SubmittedRequest {
    id: u64,
    is_canceled: bool,
}

/// A process of a lane, and the memory that it shares.
#[derive(Debug)]
pub(in crate::engine) struct LaneProcess {
    page: Page,
    pid: Pid,
    pidfd: OwnedFd,
    /// How it ended, once it has.
    end: OnceLock<String>,
    /// It was ended because a run did not end, or is not needed any more.
    killed: AtomicBool,
}

impl LaneProcess {
    /// Ends the process, whatever it does.
    fn kill(&self) {
        // Relaxed: read by who has heard of its end, and the thread that tells has waited for the process.
        self.killed.store(true, Ordering::Relaxed);
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            // It has ended already.
            tracing::debug!(%error, "cannot end the process of a lane");
        }
    }

    fn has_ended(&self) -> bool {
        // Known to this process alone: what stands in the shared memory anybody may have written.
        self.end.get().is_some()
    }

    fn how_it_ended(&self) -> &str {
        self.end.get().map_or("it ended", String::as_str)
    }

    /// Waits until it has ended, and its memory is free, at most until the instant.
    fn wait_ended(&self, until: Instant) {
        let mut seen = self.page.words().answered.count();
        while !self.has_ended() && Instant::now() < until {
            seen = self.page.words().answered.wait(seen, Some(until));
        }
    }
}

impl Current {
    /// The requests of the batch with their rows.
    fn rows(&self) -> impl Iterator<Item = (SubmittedRequest, &Row)> {
        let rows = self.process.iter().flat_map(|process| {
            let rows = process.page.rows(self.requests.len());
            rows.iter()
        });
        self.requests.iter().copied().zip(rows)
    }

    /// Whether something is not answered yet, and nobody waits for what the process does now.
    fn is_unwanted(&self) -> bool {
        let open = || {
            let rows = self.rows();
            rows.filter(|(_, row)| !row.is(RowState::Answered))
        };
        let mut running = open().filter(|(_, row)| row.is(RowState::Running));
        match running.next() {
            Some((first, _)) => {
                first.is_canceled && running.all(|(request, _)| request.is_canceled)
            }
            // One that reads a body for ever, or was stopped, runs nothing.
            None => open().next().is_some() && open().all(|(request, _)| request.is_canceled),
        }
    }
}

impl ProcessControl {
    /// Whether a request is being worked on.
    pub(super) fn is_computing(&self) -> bool {
        let current = lock(&self.current);
        let mut rows = current.rows();
        rows.any(|(_, row)| row.is(RowState::Running))
    }

    /// The request is not wanted any more. Whether it was running; nothing where the process does not have it.
    pub(super) fn cancel(&self, id: u64) -> Option<bool> {
        let mut current = lock(&self.current);
        let index = current.requests.iter().position(|known| known.id == id)?;
        current.requests[index].is_canceled = true;
        let process = current.process.as_ref()?;
        let row = process.page.row(index)?;
        let was_running = row.is(RowState::Running);
        row.cancel();
        process.page.words().canceled.raise();
        Some(was_running)
    }

    /// Ends whatever runs, and the process where it is not ready yet.
    pub(super) fn cancel_any(&self) {
        let mut current = lock(&self.current);
        current.stopping = true;
        for request in &mut current.requests {
            request.is_canceled = true;
        }
        let Some(process) = &current.process else {
            return;
        };
        if current.requests.is_empty() {
            return process.kill();
        }
        for (_, row) in current.rows() {
            row.cancel();
        }
        process.page.words().canceled.raise();
    }

    /// Looks whether what runs was to end and does not.
    pub(super) fn look(&self, now: Instant) -> Look {
        let mut current = lock(&self.current);
        if !current.is_unwanted() {
            current.unwanted_since = None;
            return Look::Idle;
        }
        let since = *current.unwanted_since.get_or_insert(now);
        if now.saturating_duration_since(since) < RUN_END_MAX {
            return Look::Busy;
        }
        current.unwanted_since = None;
        Look::Stuck
    }

    /// Ends the process under a run that does not end; not where it has ended meanwhile. Its other requests go to the next one.
    pub(super) fn give_up(&self) -> bool {
        let current = lock(&self.current);
        let process = current.process.as_ref().filter(|_| current.is_unwanted());
        process.inspect(|process| process.kill()).is_some()
    }
}

impl ProcessBackend {
    /// Starts the process and waits until it can answer. Blocks.
    ///
    /// # Errors
    ///
    /// [`StartError::Process`] with the words of the process, or how it ended.
    pub(in crate::engine) fn start(
        mut spec: ProcessSpec,
    ) -> Result<(Self, LaneReport), StartError> {
        let control = Arc::new(ProcessControl::default());
        let (process, report) = begin(&spec, &control)?;
        // What replaces it need not be careful with others, nor measure anything: requests wait for it.
        spec.background = false;
        spec.loading.measures = false;
        let backend = Self {
            spec,
            control,
            process: Some(process),
            submitted: Vec::new(),
            waiting: VecDeque::new(),
            alone: 0,
            is_proven: false,
            rests: false,
            bodies_bytes: 0,
            submissions: 0,
            rows_max: 1,
            clock: (Instant::now(), clock_ns()),
        };
        Ok((backend, report))
    }

    /// The way to end what runs.
    pub(super) fn control(&self) -> Arc<ProcessControl> {
        Arc::clone(&self.control)
    }

    /// Whether nothing is left of what it was given.
    pub(super) fn is_free(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| !process.has_ended())
            && self.submitted.is_empty()
            && self.waiting.is_empty()
    }

    /// Answers the requests, and what was left before. With an instant it comes back by then.
    ///
    /// # Errors
    ///
    /// When the process ended and no other starts; everything is answered then.
    pub(super) fn answer(
        &mut self,
        requests: impl IntoIterator<Item = ReservedJob>,
        rows_max: usize,
        until: Option<Instant>,
    ) -> Result<Progress, StartError> {
        self.waiting.extend(requests);
        self.rows_max = rows_max;
        let progress = self.go_on(until);
        let Err(error) = progress else {
            return progress;
        };
        let how = error.to_string();
        let died = self.died(&how);
        for request in self.waiting.drain(..) {
            refuse(request, || died.clone());
        }
        // A stop ends a process that is not ready yet: the lane itself is whole, and is told to stop.
        match self.spec.state.is_stopping() {
            true => Ok(Progress::Done),
            false => Err(error),
        }
    }

    fn go_on(&mut self, until: Option<Instant>) -> Result<Progress, StartError> {
        loop {
            self.take_leave_of_one_that_ended_idle();
            let process = match (self.process.clone(), until) {
                (Some(process), _) => process,
                (None, Some(_)) => return Ok(Progress::Left),
                (None, None) if self.needs_no_other() => return Ok(Progress::Done),
                (None, None) => self.replace()?,
            };
            if self.submitted.is_empty() {
                self.submit(&process);
            }
            if self.submitted.is_empty() {
                return Ok(Progress::Done);
            }
            if self.collect(&process, until) == Progress::Left {
                return Ok(Progress::Left);
            }
        }
    }

    /// Nobody is to be blamed for the end of a process that had nothing to do.
    fn take_leave_of_one_that_ended_idle(&mut self) {
        if !self.submitted.is_empty() {
            return;
        }
        let Some(process) = self.process.take_if(|process| process.has_ended()) else {
            return;
        };
        lock(&self.control.current).process = None;
        // One that always ends by itself must not be started again and again.
        self.rests = !self.is_proven;
        self.report_end(&process, 0);
    }

    /// Whether no process is to be started in place of the one that ended. What waits for one in vain is answered.
    fn needs_no_other(&mut self) -> bool {
        if self.spec.state.is_stopping() {
            for request in self.waiting.drain(..) {
                refuse(request, || RunError::InstanceGone);
            }
            return true;
        }
        self.rests && self.waiting.is_empty()
    }

    /// Another process in place of the one that ended. Blocks.
    fn replace(&mut self) -> Result<Arc<LaneProcess>, StartError> {
        // Also a try that fails is followed by another.
        self.rests = false;
        let mut pauses = LANE_RESTART_PAUSES.into_iter();
        let process = loop {
            // What ended one as it started need not end the next: the system was short of memory, perhaps.
            match (begin(&self.spec, &self.control), pauses.next()) {
                (Ok((process, _)), _) => break process,
                (Err(error), Some(pause)) if !self.spec.state.is_stopping() => {
                    tracing::warn!(%error, "cannot start the process of a lane again; there will be another try");
                    std::thread::sleep(pause);
                }
                (Err(error), _) => return Err(error),
            }
        };
        self.process = Some(Arc::clone(&process));
        self.is_proven = false;
        Ok(process)
    }

    /// Makes a batch of what waits.
    fn submit(&mut self, process: &LaneProcess) {
        let now = Instant::now();
        let most = if self.alone > 0 { 1 } else { ROWS_MAX };
        let mut start = 0;
        while self.submitted.len() < most
            && let Some(request) = self.waiting.pop_front()
        {
            match self.place(process, request, (start, now)) {
                Placed::At(next) => start = next,
                Placed::Refused => self.alone = self.alone.saturating_sub(1),
                Placed::Full(request) => {
                    self.waiting.push_front(*request);
                    break;
                }
            }
        }
        if self.submitted.is_empty() {
            return;
        }
        self.bodies_bytes = start;
        self.clock = (now, clock_ns());
        let words = process.page.words();
        let rows = u32::try_from(self.submitted.len()).unwrap_or(u32::MAX);
        // Relaxed: the signal orders them.
        words.rows.store(rows, Ordering::Relaxed);
        let rows_max = u32::try_from(self.rows_max).unwrap_or(u32::MAX);
        words.rows_max.store(rows_max, Ordering::Relaxed);
        words.submitted.raise();
        self.submissions = words.submitted.count();
    }

    /// Gives a request its row of the batch, and its body room from `start` on.
    fn place(
        &mut self,
        process: &LaneProcess,
        request: ReservedJob,
        (start, now): (usize, Instant),
    ) -> Placed {
        if request.refusal(now).is_some() {
            refuse(request, || RunError::ExpiredWaiting);
            return Placed::Refused;
        }
        // Without the lock: a large body takes long to copy, and others want to cancel.
        let (kind, written) = match (&self.spec.program, request.payload()) {
            (Program::Model(_), Payload::Body(body)) => {
                (BodyKind::Body, process.page.write(start, body))
            }
            (Program::Model(_), Payload::Tensors(tensors)) => {
                let packed = pack_tensors(tensors.iter().map(Tensor::view));
                (BodyKind::Tensors, process.page.write(start, &packed))
            }
            (Program::Script(_), Payload::Body(body)) => {
                let head = script::framed(request.head());
                let both = process.page.write_both(start, (&head, body));
                (BodyKind::Body, both)
            }
            (Program::Script(_), Payload::Tensors(_)) => {
                request.finish(Err(RunError::Input(ScoreError::BodyWanted)));
                return Placed::Refused;
            }
        };
        let row = process.page.row(self.submitted.len());
        let Some((row, (body, next))) = row.zip(written) else {
            if start > 0 {
                return Placed::Full(Box::new(request));
            }
            request.finish(Err(too_large()));
            return Placed::Refused;
        };
        let mut current = lock(&self.control.current);
        // Who cancels has first made the request refuse itself, and cancels under this lock: it is seen here, or finds the number.
        if request.refusal(now).is_some() {
            drop(current);
            refuse(request, || RunError::ExpiredWaiting);
            return Placed::Refused;
        }
        row.begin(request.id(), kind, body);
        current.requests.push(SubmittedRequest {
            id: request.id(),
            is_canceled: false,
        });
        drop(current);
        self.submitted.push(Some(request));
        Placed::At(next)
    }

    /// Waits for the answers of the batch.
    fn collect(&mut self, process: &LaneProcess, until: Option<Instant>) -> Progress {
        loop {
            // Read before the rows: an answer that comes after the look raises it.
            let seen = process.page.words().answered.count();
            let all = self.take_answers(process);
            if all {
                self.end_batch(process);
                return Progress::Done;
            }
            if process.has_ended() {
                self.sort_out(process);
                return Progress::Done;
            }
            // Not for ever: the process may have damaged the very signal that is waited for.
            let look_again = until.unwrap_or_else(|| Instant::now() + LANE_LOOK_PERIOD);
            let count = process.page.words().answered.wait(seen, Some(look_again));
            if count == seen && until.is_some_and(|until| Instant::now() >= until) {
                return Progress::Left;
            }
        }
    }

    /// Answers whom the process has answered; whether those are all.
    fn take_answers(&mut self, process: &LaneProcess) -> bool {
        let mut all = true;
        let together = u32::try_from(self.submitted.len()).unwrap_or(u32::MAX);
        for (index, submitted) in self.submitted.iter_mut().enumerate() {
            let Some(row) = process.page.row(index) else {
                continue;
            };
            if submitted.is_some() && !row.is(RowState::Answered) {
                all = false;
            } else if let Some(mut request) = submitted.take() {
                self.is_proven = true;
                read_timings(row, self.clock, &mut request);
                let joined = row.joined().load(Ordering::Relaxed);
                request.timings().joined = joined.min(together);
                let not_finite = row.not_finite().load(Ordering::Relaxed);
                request.timings().not_finite = not_finite != 0;
                request.timings().run_rows = row.run_rows().load(Ordering::Relaxed);
                let outcome = outcome((&self.spec.program, request.wants()), &process.page, row);
                if matches!(outcome, Err(RunError::Abandoned)) {
                    refuse(request, || RunError::ExpiredRunning);
                } else {
                    request.finish(outcome);
                }
            }
        }
        all
    }

    fn end_batch(&mut self, process: &LaneProcess) {
        lock(&self.control.current).requests.clear();
        self.alone = self.alone.saturating_sub(self.submitted.len());
        let rows = process.page.rows(self.submitted.len()).iter();
        self.submitted.clear();
        let spans = rows.map(|row| row.answer().1);
        let answers_end = spans.map(|span| span.start.saturating_add(span.len)).max();
        let used = usize::try_from(answers_end.unwrap_or(0)).unwrap_or(usize::MAX);
        process.page.give_back(used.max(self.bodies_bytes));
    }

    /// Decides what becomes of the requests under which the process has ended.
    fn sort_out(&mut self, process: &LaneProcess) {
        self.take_answers(process);
        self.process = None;
        let requests = {
            let mut current = lock(&self.control.current);
            current.process = None;
            std::mem::take(&mut current.requests)
        };
        let rows = process.page.rows(requests.len()).iter();
        let (mut suspects, mut others) = (Vec::new(), Vec::new());
        for ((row, known), submitted) in rows.zip(requests).zip(self.submitted.drain(..)) {
            match submitted {
                Some(request) if known.is_canceled => refuse(request, || RunError::ExpiredRunning),
                Some(request) if row.is(RowState::Running) => suspects.push(request),
                Some(request) => others.push(request),
                None => {}
            }
        }
        self.alone = self.alone.saturating_sub(1);
        let was_begun = process.page.words().begun.load(Ordering::Acquire) == self.submissions;
        if suspects.is_empty() && was_begun {
            // It ended as it read their bodies.
            suspects = std::mem::take(&mut others);
        }
        // Relaxed: see `LaneProcess::kill`.
        if !process.killed.load(Ordering::Relaxed) {
            self.report_end(process, suspects.len());
            if suspects.len() == 1 {
                let died = self.died(process.how_it_ended());
                suspects
                    .drain(..)
                    .for_each(|request| refuse(request, || died.clone()));
            }
        }
        self.alone += suspects.len();
        for request in suspects.into_iter().chain(others).rev() {
            self.waiting.push_front(request);
        }
    }

    fn died(&self, how: &str) -> RunError {
        RunError::Died {
            how: how.to_owned(),
            suspect: self.spec.suspect.clone(),
        }
    }

    /// Says that a process ended by itself, and how many requests it may have been that ended it.
    fn report_end(&self, process: &LaneProcess, together: usize) {
        let how = process.how_it_ended();
        let what = format!("the process of a lane ended ({how})");
        self.spec.state.lane_in_trouble(&what);
        tracing::warn!(
            lane = self.spec.loading.label,
            together,
            "the process of a lane ended ({how}); another one is started"
        );
    }
}

/// The end of the try to put a request into a batch.
enum Placed {
    /// The next body may begin here.
    At(usize),
    /// It is answered already.
    Refused,
    /// There is no room left in this batch.
    Full(Box<ReservedJob>),
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.kill();
            process.wait_ended(Instant::now() + STOP_MAX);
        }
    }
}

/// Answers a request that has no answer of the model: with its own reason, where it has one.
fn refuse(request: ReservedJob, otherwise: impl FnOnce() -> RunError) {
    let refusal = request.refusal(Instant::now());
    request.finish(Err(refusal.unwrap_or_else(otherwise)));
}

fn too_large() -> RunError {
    let problem = "the body does not fit into the memory that the process of the lane shares, which the limits of the server \
                   on address space and file size (ulimit -v, -f) bound";
    RunError::Model(problem.to_owned())
}

/// The answer that the process wrote.
fn outcome(
    (program, asked): (&Program, AnswerForm),
    page: &Page,
    row: &Row,
) -> Result<Scored, RunError> {
    let nonsense = || {
        let problem = "the process of the lane wrote no answer that can be read: the answers of one run took more than its \
                       memory, or it is damaged";
        RunError::Model(problem.to_owned())
    };
    let (kind, span) = row.answer();
    let bytes = page.read(span).ok_or_else(nonsense)?;
    match (kind, program) {
        (AnswerKind::Body, _) if asked == AnswerForm::Json => Ok(Scored {
            body: bytes.into(),
            head: None,
        }),
        (AnswerKind::Values, Program::Model(_)) if asked == AnswerForm::Values => {
            let values = unpack_values(&bytes).ok_or_else(nonsense)?;
            Ok(Scored {
                body: ScoredBody::Values(values),
                head: None,
            })
        }
        (AnswerKind::Response, Program::Script(_)) => script::scored(bytes).ok_or_else(nonsense),
        (AnswerKind::Body | AnswerKind::Values, _) | (AnswerKind::Response, Program::Model(_)) => {
            Err(nonsense())
        }
        (AnswerKind::Error, _) => Err(match serde_json::from_slice(&bytes) {
            Ok(error) if is_of_a_model(&error) => error,
            Ok(_) | Err(_) => nonsense(),
        }),
    }
}

/// Whether the process may say so. Of the rest the server alone knows.
fn is_of_a_model(error: &RunError) -> bool {
    match error {
        RunError::Input(_)
        | RunError::Output(_)
        | RunError::Model(_)
        | RunError::Panicked(_)
        | RunError::Abandoned => true,
        RunError::ExpiredWaiting
        | RunError::ExpiredRunning
        | RunError::Died { .. }
        | RunError::InstanceGone => false,
    }
}

fn read_timings(row: &Row, clock: (Instant, u64), request: &mut ReservedJob) {
    let (at, ns) = clock;
    let now = Instant::now();
    let instant = |time: &AtomicU64| match time.load(Ordering::Relaxed) {
        0 => None,
        // Not in the future, whatever is written there.
        time => {
            let after = Duration::from_nanos(time.saturating_sub(ns));
            Some(
                at.checked_add(after)
                    .map_or(now, |instant| instant.min(now)),
            )
        }
    };
    let timings = request.timings();
    let [started, decoded, run_began, ran, encoded] = row.times();
    timings.started = instant(started);
    timings.decoded = instant(decoded);
    timings.run_began = instant(run_began);
    timings.ran = instant(ran);
    timings.encoded = instant(encoded);
}

/// Starts a process and waits until it can answer.
fn begin(
    spec: &ProcessSpec,
    control: &ProcessControl,
) -> Result<(Arc<LaneProcess>, LaneReport), StartError> {
    let process = spawn(spec, control).map_err(|error| {
        StartError::Process(format!("cannot start the process of a lane: {error}"))
    })?;
    let until = Instant::now() + START_MAX;
    let words = process.page.words();
    let mut seen = 0;
    let report = loop {
        if let Some(row) = process.page.row(0).filter(|row| row.is(RowState::Answered)) {
            break process.page.read(row.answer().1);
        }
        if process.has_ended() || Instant::now() >= until {
            break None;
        }
        seen = words.answered.wait(seen, Some(until));
    };
    let report = report.and_then(|report| spec.read(&report, &process));
    match report {
        Some(Ok(report)) => Ok((process, report)),
        Some(Err(problem)) => {
            // It ends by itself, unless a script has left a thread behind.
            process.kill();
            Err(StartError::Process(problem))
        }
        None => {
            process.kill();
            let what = spec.program.what_it_loads();
            let how = match process.end.get() {
                Some(how) => format!("the process of a lane ended as it loaded the {what} ({how})"),
                None => format!(
                    "the process of a lane did not load the {what} within {START_MAX:?}; it was ended"
                ),
            };
            Err(StartError::Process(how))
        }
    }
}

impl Program {
    fn what_it_loads(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Script(_) => "scoring script",
        }
    }
}

impl ProcessSpec {
    fn order(&self) -> io::Result<Vec<u8>> {
        match &self.program {
            Program::Model(_) => {
                let order = LaneOrder::new(&self.loading, self.background);
                Ok(serde_json::to_vec(&order)?)
            }
            Program::Script(script) => script::order(script, &self.loading),
        }
    }

    /// The report of a process, or its reason why it cannot answer; none where it wrote neither.
    fn read(&self, report: &[u8], process: &LaneProcess) -> Option<Result<LaneReport, String>> {
        match &self.program {
            Program::Model(_) => serde_json::from_slice(report).ok(),
            Program::Script(_) => {
                let report: Result<ScriptReport, String> = serde_json::from_slice(report).ok()?;
                let pid = process.pid.as_raw_nonzero().get();
                Some(report.map(|report| report.into_lane_report(&self.loading, pid)))
            }
        }
    }

    /// Starts the process; it, and what it prints.
    fn start(&self, page: &Page) -> io::Result<(Child, Option<OwnedFd>)> {
        let started = match &self.program {
            Program::Model(exe) => {
                let mut child = Command::new(exe)
                    .arg0("serin")
                    .arg(LANE_COMMAND)
                    .stdin(Stdio::from(page.file()?))
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn();
                let stderr = child.as_mut().ok().and_then(|child| child.stderr.take());
                child.map(|child| (child, stderr.map(OwnedFd::from)))
            }
            Program::Script(script) => {
                // The command goes at the end of this, and with it the other end of the pipe.
                let (mut command, printed) = script::command(script, &self.loading, page)?;
                command.spawn().map(|child| (child, Some(printed)))
            }
        };
        started.map_err(|error| {
            let exe = match &self.program {
                // Of a binary that is named by its process: there must be a /proc.
                Program::Model(exe) => exe,
                Program::Script(script) => &script.python,
            };
            io::Error::new(
                error.kind(),
                format!("{} cannot be run: {error}", exe.display()),
            )
        })
    }

    /// Tells the log of a line that the process printed.
    fn heard(&self) -> Heard {
        let (deployment, lane) = (self.loading.label.clone(), self.loading.number.clone());
        match &self.program {
            Program::Model(_) => Box::new(move |line| {
                if let Some(warning) = warning_of_child(line) {
                    note(&deployment, NoteOn::OnnxRuntime, &warning);
                    return false;
                }
                tracing::debug!("the process of a lane: {line}");
                true
            }),
            Program::Script(_) => Box::new(move |line| {
                note(&deployment, NoteOn::Script, &line);
                tracing::info!(deployment, lane, "script: {line}");
                script::may_be_last_words(line)
            }),
        }
    }
}

/// Hears lines; whether each may be the last words.
type Heard = Box<dyn Fn(&str) -> bool + Send>;

fn spawn(spec: &ProcessSpec, control: &ProcessControl) -> io::Result<Arc<LaneProcess>> {
    let page = Page::new().map_err(|error| {
        let what = "it shares memory, for which limits on address space and file size (ulimit -v, -f) must leave room";
        io::Error::new(error.kind(), format!("{error}; {what}"))
    })?;
    let order = spec.order()?;
    let sample = spec.loading.sample_request.as_deref().unwrap_or_default();
    let mut start = 0;
    for (index, bytes) in [&order, sample].into_iter().enumerate() {
        let written = page.row(index).zip(page.write(start, bytes));
        let (row, (span, next)) = written.ok_or(io::ErrorKind::FileTooLarge)?;
        row.begin(0, BodyKind::Body, span);
        start = next;
    }
    let (mut child, printed) = spec.start(&page)?;
    let pid = Pid::from_child(&child);
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            // Ended already, perhaps; either way it must not outlive this call.
            drop(child.kill());
            drop(child.wait());
            return Err(error.into());
        }
    };
    let process = Arc::new(LaneProcess {
        page,
        pid,
        pidfd,
        end: OnceLock::new(),
        killed: AtomicBool::new(false),
    });
    let waiter = {
        let (process, ended) = (Arc::clone(&process), spec.ended.clone());
        let (heard, has_group) = (spec.heard(), matches!(spec.program, Program::Script(_)));
        move || {
            let words = hear(printed, &process, &heard);
            if has_group {
                end_group(&process);
            }
            wait_for_end(child, words, &process);
            // Full: it is woken already. Nobody there: the lane has ended before.
            let _woken = ended.try_send(());
        }
    };
    let name = format!("wait {}", spec.loading.number);
    if let Err(error) = std::thread::Builder::new().name(name).spawn(waiter) {
        process.kill();
        // Nobody else waits for it, and it would remain as a zombie.
        let pidfd = WaitId::PidFd(process.pidfd.as_fd());
        if let Err(error) = waitid(pidfd, WaitIdOptions::EXITED) {
            tracing::debug!(%error, "cannot wait for the end of the process of a lane");
        }
        return Err(error);
    }
    let mut current = lock(&control.current);
    current.process = Some(Arc::clone(&process));
    if current.stopping {
        process.kill();
    }
    Ok(process)
}

/// Hears what a process prints, until it ends; its last words.
fn hear(printed: Option<OwnedFd>, process: &LaneProcess, heard: &Heard) -> String {
    let words = printed.map(|printed| LastWords::hear(File::from(printed), &process.pidfd, heard));
    words.and_then(Result::ok).unwrap_or_default()
}

/// Ends what a process has started and not waited for, once it has ended itself.
fn end_group(process: &LaneProcess) {
    // Not reaped yet, so its number is still that of its group and of no other.
    let pidfd = WaitId::PidFd(process.pidfd.as_fd());
    let waited = waitid(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let killed = waited.and_then(|_| kill_process_group(process.pid, Signal::KILL));
    if let Err(error) = killed {
        tracing::debug!(%error, "cannot end what a script has started");
    }
}

/// Waits for the end of a process, and wakes who waits for its answers.
fn wait_for_end(mut child: Child, words: String, process: &LaneProcess) {
    let how = match child.wait() {
        Ok(status) => how_it_ended(status),
        Err(error) => error.to_string(),
    };
    let how = match words.as_str() {
        "" => how,
        words => format!("{how}: {words}"),
    };
    // Set once, here.
    drop(process.end.set(how));
    process.page.words().answered.raise_for_sure();
}

#[cfg(test)]
mod adversaries;

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
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::config::{RUN_END_MAX, START_MAX, STOP_MAX};
use crate::engine::endings::how_it_ended;
use crate::engine::inbox::{InstanceState, ReservedJob};
use crate::engine::lane::Request as _;
use crate::engine::lane::page::{Page, ROWS_MAX, Row, RowState, clock_ns};
use crate::engine::lane::run_control::Look;
use crate::engine::lane::words::{LANE_COMMAND, LaneOrder, LaneReport};
use crate::engine::loading::{Loading, StartError};
use crate::engine::lock::lock;
use crate::engine::{RunError, Scored};

/// All that is needed to start the process of a lane, again and again.
#[derive(Debug)]
pub(in crate::engine) struct ProcessSpec {
    /// The serin binary.
    pub(in crate::engine) exe: PathBuf,
    pub(in crate::engine) loading: Loading,
    pub(in crate::engine) background: bool,
    /// Hears what happens to the lane.
    pub(in crate::engine) state: Arc<InstanceState>,
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
    /// Bytes of the bodies of the batch.
    bodies_bytes: usize,
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
    /// The numbers of its requests, by row.
    ids: Vec<u64>,
    /// Since when nobody waits for what runs.
    unwanted_since: Option<Instant>,
    stopping: bool,
}

/// A process of a lane, and the memory that it shares.
#[derive(Debug)]
pub(in crate::engine) struct LaneProcess {
    page: Page,
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
        self.page.words().ended.load(Ordering::Acquire) != 0
    }

    /// Waits until it has ended, and its memory is free, at most until the instant.
    fn wait_ended(&self, until: Instant) {
        let mut seen = self.page.words().answered.count();
        while !self.has_ended() && Instant::now() < until {
            seen = self.page.words().answered.wait(seen, Some(until));
        }
    }
}

impl ProcessControl {
    /// Whether a request is being worked on.
    pub(super) fn is_computing(&self) -> bool {
        let current = lock(&self.current);
        let process = current.process.as_ref().filter(|_| !current.ids.is_empty());
        process.is_some_and(|process| {
            let mut rows = process.page.batch().iter();
            rows.any(|row| row.is(RowState::Running))
        })
    }

    /// The request is not wanted any more; whether it was running.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let current = lock(&self.current);
        let row = current.ids.iter().position(|known| *known == id);
        let Some((row, process)) = row.zip(current.process.as_ref()) else {
            return false;
        };
        let Some(row) = process.page.row(row) else {
            return false;
        };
        let was_running = row.is(RowState::Running);
        row.cancel();
        process.page.words().canceled.raise();
        was_running
    }

    /// Ends whatever runs, and the process where it is not ready yet.
    pub(super) fn cancel_any(&self) {
        let mut current = lock(&self.current);
        current.stopping = true;
        let Some(process) = &current.process else {
            return;
        };
        if current.ids.is_empty() {
            return process.kill();
        }
        for row in process.page.batch() {
            row.cancel();
        }
        process.page.words().canceled.raise();
    }

    /// Looks whether what runs was to end and does not.
    pub(super) fn look(&self, now: Instant) -> Look {
        let mut current = lock(&self.current);
        let Some(process) = current.process.clone().filter(|_| !current.ids.is_empty()) else {
            current.unwanted_since = None;
            return Look::Idle;
        };
        let open = |row: &&Row| !row.is(RowState::Answered);
        let rows = process.page.batch();
        let mut running = rows.iter().filter(|row| row.is(RowState::Running));
        let unwanted = match running.next() {
            Some(first) => first.is_canceled() && running.all(Row::is_canceled),
            // One that reads a body for ever runs nothing.
            None => rows.iter().filter(open).all(Row::is_canceled),
        };
        if !unwanted || !rows.iter().any(|row| open(&row)) {
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

    /// Ends the process under a run that does not end. Its other requests go to the next one.
    pub(super) fn give_up(&self) {
        if let Some(process) = &lock(&self.current).process {
            process.kill();
        }
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
            bodies_bytes: 0,
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
        self.process.is_some() && self.submitted.is_empty() && self.waiting.is_empty()
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
        if let Err(error) = &progress {
            let how = error.to_string();
            for request in self.waiting.drain(..) {
                refuse(request, || died(&how));
            }
        }
        progress
    }

    fn go_on(&mut self, until: Option<Instant>) -> Result<Progress, StartError> {
        loop {
            let process = match (&self.process, until) {
                (Some(process), _) => Arc::clone(process),
                (None, None) => self.replace()?,
                (None, Some(_)) => return Ok(Progress::Left),
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

    /// Another process in place of the one that ended. Blocks.
    fn replace(&mut self) -> Result<Arc<LaneProcess>, StartError> {
        let (process, _) = begin(&self.spec, &self.control)?;
        self.process = Some(Arc::clone(&process));
        Ok(process)
    }

    /// Makes a batch of what waits.
    fn submit(&mut self, process: &LaneProcess) {
        let now = Instant::now();
        let mut refused = Vec::new();
        let mut current = lock(&self.control.current);
        let mut start = 0;
        while self.submitted.len() < if self.alone > 0 { 1 } else { ROWS_MAX }
            && let Some(request) = self.waiting.pop_front()
        {
            // Who cancels has first made the request refuse itself, and cancels under this lock: it is seen here, or finds the number.
            if request.refusal(now).is_some() {
                self.alone = self.alone.saturating_sub(1);
                refused.push(request);
                continue;
            }
            let row = process.page.row(self.submitted.len());
            let Some((row, (body, next))) = row.zip(process.page.write(start, request.body()))
            else {
                // A body has room in an empty batch: it is smaller than the room by far.
                self.waiting.push_front(request);
                break;
            };
            row.begin(request.id(), body);
            current.ids.push(request.id());
            self.submitted.push(Some(request));
            start = next;
        }
        drop(current);
        for request in refused {
            refuse(request, || RunError::ExpiredWaiting);
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
            let count = process.page.words().answered.wait(seen, until);
            if count == seen && until.is_some_and(|until| Instant::now() >= until) {
                return Progress::Left;
            }
        }
    }

    /// Answers whom the process has answered; whether those are all.
    fn take_answers(&mut self, process: &LaneProcess) -> bool {
        let mut all = true;
        for (index, submitted) in self.submitted.iter_mut().enumerate() {
            let Some(row) = process.page.row(index) else {
                continue;
            };
            if submitted.is_some() && !row.is(RowState::Answered) {
                all = false;
            } else if let Some(mut request) = submitted.take() {
                read_timings(row, self.clock, &mut request);
                let outcome = outcome(&process.page, row);
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
        lock(&self.control.current).ids.clear();
        self.alone = self.alone.saturating_sub(self.submitted.len());
        self.submitted.clear();
        let rows = process.page.batch().iter().map(|row| row.answer().1);
        let answers_end = rows.map(|span| span.start.saturating_add(span.len)).max();
        let used = usize::try_from(answers_end.unwrap_or(0)).unwrap_or(usize::MAX);
        process.page.give_back(used.max(self.bodies_bytes));
    }

    /// Decides what becomes of the requests under which the process has ended.
    fn sort_out(&mut self, process: &LaneProcess) {
        self.take_answers(process);
        self.process = None;
        {
            let mut current = lock(&self.control.current);
            current.process = None;
            current.ids.clear();
        }
        let how = process.end.get().map_or("it ended", String::as_str);
        let (mut suspects, mut others) = (Vec::new(), Vec::new());
        let rows = process.page.batch().iter();
        for (row, submitted) in rows.zip(self.submitted.drain(..)) {
            match submitted {
                Some(request) if row.is_canceled() => refuse(request, || RunError::ExpiredRunning),
                Some(request) if row.is(RowState::Running) => suspects.push(request),
                Some(request) => others.push(request),
                None => {}
            }
        }
        if suspects.is_empty() {
            // It ended as it read their bodies.
            suspects = std::mem::take(&mut others);
        }
        self.alone = self.alone.saturating_sub(1);
        // Relaxed: see `LaneProcess::kill`.
        if !process.killed.load(Ordering::Relaxed) {
            let what = format!("the process of a lane ended ({how})");
            self.spec.state.lane_in_trouble(&what);
            tracing::warn!(
                lane = self.spec.loading.label,
                together = suspects.len(),
                "the process of a lane ended ({how}); another one is started"
            );
            if suspects.len() == 1 {
                suspects
                    .drain(..)
                    .for_each(|request| refuse(request, || died(how)));
            }
        }
        self.alone += suspects.len();
        for request in suspects.into_iter().chain(others).rev() {
            self.waiting.push_front(request);
        }
    }
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

fn died(how: &str) -> RunError {
    RunError::Died {
        how: how.to_owned(),
        operator: None,
    }
}

/// The answer that the process wrote.
fn outcome(page: &Page, row: &Row) -> Result<Scored, RunError> {
    let nonsense = || {
        let problem = "the process of the lane wrote no answer that can be read: the answers of one run took more than its \
                       memory, or it is damaged";
        RunError::Model(problem.to_owned())
    };
    let (is_body, span) = row.answer();
    let bytes = page.read(span).ok_or_else(nonsense)?;
    if is_body {
        return Ok(Scored { body: bytes });
    }
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| nonsense()))
}

fn read_timings(row: &Row, clock: (Instant, u64), request: &mut ReservedJob) {
    let (at, ns) = clock;
    let instant = |time: &AtomicU64| match time.load(Ordering::Relaxed) {
        0 => None,
        time => at.checked_add(Duration::from_nanos(time.saturating_sub(ns))),
    };
    let timings = request.timings();
    let [started, decoded, run_began, ran, encoded] = row.times();
    timings.started = instant(started);
    timings.decoded = instant(decoded);
    timings.run_began = instant(run_began);
    timings.ran = instant(ran);
    timings.encoded = instant(encoded);
    timings.joined = row.joined().load(Ordering::Relaxed);
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
    let report = report.map(|report| serde_json::from_slice(&report));
    match report {
        Some(Ok(Ok(report))) => Ok((process, report)),
        Some(Ok(Err(problem))) => Err(StartError::Process(problem)),
        Some(Err(_)) | None => {
            process.kill();
            let how = match process.end.get() {
                Some(how) => format!("the process of a lane ended as it loaded the model ({how})"),
                None => format!(
                    "the process of a lane was not ready within {START_MAX:?}; it was ended"
                ),
            };
            Err(StartError::Process(how))
        }
    }
}

fn spawn(spec: &ProcessSpec, control: &ProcessControl) -> io::Result<Arc<LaneProcess>> {
    let page = Page::new()?;
    let order = LaneOrder::new(&spec.loading, spec.background);
    let order = serde_json::to_vec(&order)?;
    let sample = spec.loading.sample_request.as_deref().unwrap_or_default();
    let mut start = 0;
    for (index, bytes) in [&order, sample].into_iter().enumerate() {
        let written = page.row(index).zip(page.write(start, bytes));
        let (row, (span, next)) = written.ok_or(io::ErrorKind::FileTooLarge)?;
        row.begin(0, span);
        start = next;
    }
    let mut child = Command::new(&spec.exe)
        .arg0("serin")
        .arg(LANE_COMMAND)
        .stdin(Stdio::from(page.file()?))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
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
        pidfd,
        end: OnceLock::new(),
        killed: AtomicBool::new(false),
    });
    let stderr = child.stderr.take();
    let waiter = {
        let process = Arc::clone(&process);
        move || wait_for_end(child, stderr, &process)
    };
    let name = format!("wait {}", spec.loading.number);
    if let Err(error) = std::thread::Builder::new().name(name).spawn(waiter) {
        process.kill();
        return Err(error);
    }
    let mut current = lock(&control.current);
    current.process = Some(Arc::clone(&process));
    if current.stopping {
        process.kill();
    }
    Ok(process)
}

/// Hears the last words of a process, waits for its end, and wakes who waits for its answers.
fn wait_for_end(mut child: Child, stderr: Option<ChildStderr>, process: &LaneProcess) {
    let mut last = String::new();
    for line in stderr
        .into_iter()
        .flat_map(|pipe| BufReader::new(pipe).split(b'\n'))
    {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            tracing::debug!("the process of a lane: {line}");
            last = line.trim().to_owned();
        }
    }
    let how = match child.wait() {
        Ok(status) => how_it_ended(status),
        Err(error) => error.to_string(),
    };
    let words = if last.is_empty() {
        last
    } else {
        format!(": {last}")
    };
    // Set once, here.
    drop(process.end.set(format!("{how}{words}")));
    // Release: who sees it reads how.
    process.page.words().ended.store(1, Ordering::Release);
    process.page.words().answered.raise();
}

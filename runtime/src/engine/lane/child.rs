//! The process of a lane: its own side.
//!
//! Threads: the first thread loads the model and answers, as a lane's thread in the server would; the second hears which requests
//! are not wanted any more and ends their runs.
//! Not here: the server's side (`process`), how requests are answered (`thread`).

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::process::{Resource, Signal, getppid, set_parent_process_death_signal};
use serin_scorers::{Signature, pack_values};

use crate::config::LANE_ANSWERS_TOGETHER;
use crate::engine::child_limits::limit;
use crate::engine::child_notes::tell_parent;
use crate::engine::cores::{self, ThreadPlacement};
use crate::engine::job::AnswerForm;
use crate::engine::lane::page::{AnswerKind, BodyKind, Page, Row, RowState, Span, clock_ns};
use crate::engine::lane::run_control::RunControl;
use crate::engine::lane::thread::{Manner, ThreadBackend};
use crate::engine::lane::words::{LaneOrder, LaneReport};
use crate::engine::lane::{Brought, Request};
use crate::engine::{RunError, Scored, ScoredBody};
use crate::observe::Timings;

/// The life of the process, called by the hidden subcommand. It ends with the server, or when it has said why it does not start.
///
/// Returns the exit code.
#[must_use]
pub fn lane_child() -> u8 {
    tell_parent();
    let page = match open_page() {
        Ok(page) => Arc::new(page),
        Err(problem) => {
            tracing::error!(problem, "this process is started by the server alone");
            return 1;
        }
    };
    match start(&page) {
        Ok((mut backend, report)) => {
            if let Err(error) = hear_cancels(Arc::clone(&page), backend.control()) {
                report_start(&page, &Err(format!("cannot start a thread: {error}")));
                return 1;
            }
            // Before the server may submit: it does so from then on.
            let seen = page.words().submitted.count();
            report_start(&page, &Ok(report));
            answer_for_ever(&page, &mut backend, seen)
        }
        Err(problem) => {
            report_start(&page, &Err(problem));
            1
        }
    }
}

/// Memory that the process may take beside what its runs may: the library, weights that are not mapped, texts.
const BESIDE_RUNS_BYTES: u64 = 4 << 30;

/// Signals by which a terminal or the system ends a whole service, or asks it for something. The server ends its lanes when their
/// requests are answered.
const LEFT_TO_THE_SERVER: [libc::c_int; 4] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1];

fn leave_ending_to_the_server() {
    for signal in LEFT_TO_THE_SERVER {
        #[expect(unsafe_code, reason = "no safe form ignores a signal")]
        // SAFETY: to ignore a signal runs no code of ours.
        let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
        if before == libc::SIG_ERR {
            tracing::debug!(signal, "cannot ignore a signal");
        }
    }
}

/// The shared memory, which is this process's standard input.
fn open_page() -> Result<Page, String> {
    let words = |error: io::Error| error.to_string();
    let file = io::stdin().as_fd().try_clone_to_owned().map_err(words)?;
    let page = Page::of_file(file).map_err(words)?;
    // From here on a server that is killed takes this process along.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| words(error.into()))?;
    leave_ending_to_the_server();
    Ok(page)
}

/// Reads the order and loads the model.
fn start(page: &Page) -> Result<(ThreadBackend<()>, LaneReport), String> {
    let text = |index| page.row(index).and_then(|row| page.view(row.body()));
    let order: LaneOrder = serde_json::from_slice(text(0).unwrap_or_default())
        .map_err(|error| format!("the order of the server cannot be read: {error}"))?;
    // Killed before the signal was asked for: the parent is another process by now.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(order.parent) {
        return Err("the server has ended".to_owned());
    }
    limit_memory(&order)?;
    let sample = text(1).filter(|sample| !sample.is_empty());
    let (background, sample) = (
        order.background,
        sample.map(|sample| sample.to_vec().into()),
    );
    let loading = order.into_loading(sample);
    let placed = cores::place(loading.cores[0], loading.floats_over.as_deref());
    let name = cores::thread_name(&loading.label, &loading.number);
    let own = ThreadPlacement::of_this_thread(name, placed);
    // For `ps` and `top`; a process whose name is its binary's is as good.
    drop(std::fs::write("/proc/self/comm", &own.name));
    let mut loaded = loading
        .begin(background)
        .map_err(|error| error.to_string())?;
    let mut threads = vec![own];
    threads.append(&mut loaded.made);
    for thread in &mut threads {
        thread.verify();
    }
    let report = LaneReport {
        signature: Signature::clone(loaded.session.signature()),
        schemas: None,
        measured: loaded.measured,
        threads,
    };
    Ok((
        ThreadBackend::new(loaded.session, loaded.scorer, loaded.slot),
        report,
    ))
}

/// Bounds what the process may take.
fn limit_memory(order: &LaneOrder) -> Result<(), String> {
    // A crash is an answer; nobody wants its core file.
    limit(Resource::Core, 0).map_err(|error| format!("cannot switch core files off: {error}"))?;
    match order.memory_bytes_max {
        // The second guard, for what kernels take without asking the allocator of runs. Memory of its own: neither weights that are
        // mapped from a file nor the page that it shares count.
        Some(bytes) => limit(Resource::Data, bytes.saturating_add(BESIDE_RUNS_BYTES))
            .map_err(|error| format!("cannot limit the memory: {error}")),
        None => Ok(()),
    }
}

/// Tells the server that the lane is ready, or why it is not.
fn report_start(page: &Page, outcome: &Result<LaneReport, String>) {
    let report = serde_json::to_vec(outcome).unwrap_or_default();
    if let (Some(row), Some((span, _))) = (page.row(0), page.write(0, &report)) {
        row.set_answer(AnswerKind::Body, span);
        row.set_state(RowState::Answered);
    }
    page.words().answered.raise();
}

/// Ends runs that nobody waits for, on a thread of its own.
fn hear_cancels(page: Arc<Page>, control: Arc<RunControl<()>>) -> io::Result<()> {
    let hear = move || {
        let mut seen = 0;
        loop {
            seen = page.words().canceled.wait(seen, None);
            for id in page.batch().iter().filter_map(Row::canceled_id) {
                control.cancel(id);
            }
        }
    };
    let thread = std::thread::Builder::new().name("serin-cancels".to_owned());
    thread.spawn(hear).map(drop)
}

/// Answers batch after batch.
fn answer_for_ever(page: &Page, backend: &mut ThreadBackend<()>, mut seen: u32) -> u8 {
    loop {
        seen = page.words().submitted.wait(seen, None);
        let words = page.words();
        // Before anything of it can end this process: else the server takes it that its requests were not seen.
        words.begun.store(seen, Ordering::Release);
        let rows_max = words.rows_max.load(Ordering::Relaxed);
        let manner = Manner {
            rows_max: usize::try_from(rows_max).unwrap_or(usize::MAX),
            inline: false,
        };
        let rows = page.batch();
        // Answers stand behind the bodies.
        let bodies_end = rows.iter().map(|row| row.body().start + row.body().len);
        let end = usize::try_from(bodies_end.max().unwrap_or(0)).unwrap_or(usize::MAX);
        let free = Cell::new(end.next_multiple_of(64));
        let received = Instant::now();
        let clock = (received, clock_ns());
        let requests = (0..rows.len()).map(|index| SharedRequest {
            page,
            index,
            free: &free,
            clock,
            timings: Timings::start(received),
        });
        let mut told = received;
        // To be woken costs the server more than several short runs: it hears of them together.
        let after_run = || {
            let now = Instant::now();
            if now.duration_since(told) >= LANE_ANSWERS_TOGETHER {
                told = now;
                words.answered.raise();
            }
        };
        // No run is inline, so none is interrupted and left.
        let left = backend.answer(requests, manner, after_run);
        drop(left);
        // Also where no request came as far as a run.
        words.answered.raise();
    }
}

/// A request in the shared memory.
struct SharedRequest<'a> {
    page: &'a Page,
    index: usize,
    /// Where the next answer may begin.
    free: &'a Cell<usize>,
    /// One moment by both clocks.
    clock: (Instant, u64),
    timings: Timings,
}

impl SharedRequest<'_> {
    fn row(&self) -> &Row {
        &self.page.batch()[self.index]
    }

    /// Nanoseconds of the clock that both processes read.
    fn ns(&self, instant: Instant) -> u64 {
        let (at, ns) = self.clock;
        let since = instant.saturating_duration_since(at).as_nanos();
        ns + u64::try_from(since).unwrap_or(0)
    }

    fn write(&self, kind: AnswerKind, bytes: &[u8]) -> bool {
        let row = self.row();
        let Some((span, next)) = self.page.write(self.free.get(), bytes) else {
            return false;
        };
        self.free.set(next);
        row.set_answer(kind, span);
        true
    }
}

impl Request for SharedRequest<'_> {
    /// The server has what the request occupies.
    type Claim = ();

    fn id(&self) -> u64 {
        self.row().id()
    }

    fn brought(&mut self) -> Brought<'_> {
        let row = self.row();
        let bytes = self.page.view(row.body()).unwrap_or_default();
        match row.body_kind() {
            BodyKind::Body => Brought::Body(bytes),
            BodyKind::Tensors => Brought::Packed(bytes),
        }
    }

    fn wants(&self) -> AnswerForm {
        match self.row().body_kind() {
            BodyKind::Body => AnswerForm::Json,
            BodyKind::Tensors => AnswerForm::Values,
        }
    }

    fn refusal(&self, _now: Instant) -> Option<RunError> {
        // The server knows better why.
        let row = self.row();
        row.is_canceled().then_some(RunError::Abandoned)
    }

    fn timings(&mut self) -> &mut Timings {
        &mut self.timings
    }

    fn take_claim(&mut self) -> Option<()> {
        self.row().set_state(RowState::Running);
        Some(())
    }

    fn give_claim(&mut self, _claim: Option<()>) {
        self.row().set_state(RowState::Waiting);
    }

    fn finish(self, outcome: Result<Scored, RunError>) {
        let written = match outcome {
            Ok(scored) => match scored.body {
                ScoredBody::Json(body) => self.write(AnswerKind::Body, &body),
                ScoredBody::Values(values) => self.write(AnswerKind::Values, &pack_values(&values)),
            },
            Err(error) => {
                let text = serde_json::to_vec(&error).unwrap_or_default();
                self.write(AnswerKind::Error, &text)
            }
        };
        if !written {
            // Nothing that the server can read, which it says.
            self.row()
                .set_answer(AnswerKind::Error, Span { start: 0, len: 0 });
        }
        let row = self.row();
        let timings = &self.timings;
        let instants = [
            timings.started,
            timings.decoded,
            timings.run_began,
            timings.ran,
            timings.encoded,
        ];
        for (time, instant) in row.times().iter().zip(instants) {
            let ns = instant.map_or(0, |instant| self.ns(instant));
            AtomicU64::store(time, ns, Ordering::Relaxed);
        }
        row.joined().store(timings.joined, Ordering::Relaxed);
        let not_finite = u32::from(timings.not_finite);
        row.not_finite().store(not_finite, Ordering::Relaxed);
        row.run_rows().store(timings.run_rows, Ordering::Relaxed);
        row.set_state(RowState::Answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process of a lane in tests: their binary, told to run what has this name. Run by hand it is no such process.
    #[test]
    fn __lane() {
        let code = lane_child();
        assert_eq!(code, 1, "its standard input is no shared memory");
    }
}

//! A lane: one model that answers requests, one run at a time.
//!
//! Its backend computes on the thread that has the lane's lock, or in a process of its own. Who holds the lock answers: the
//! lane's own thread, or an I/O thread that answers small work inline while the lane is idle.
//!
//! Not here: which requests come together (`inbox`), the life of the lane's thread (`worker`), which backend (`instance`).

mod child;
mod decoded;
mod last_words;
mod lending;
mod page;
mod process;
mod request;
mod run_control;
mod script;
mod thread;
mod words;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::config::EDGE_COMPUTE_MAX;
use crate::engine::background;
use crate::engine::here::{Here, HereRun, HereWork};
use crate::engine::inbox::{Claim, ReservedJob};
use crate::engine::loading::StartError;
use crate::engine::lock::lock;
use crate::engine::watchdog;

pub use self::child::lane_child;
use self::lending::Lending;
pub(super) use self::process::{ProcessBackend, ProcessSpec, Program};
use self::process::{ProcessControl, Progress};
pub(super) use self::request::{Brought, Request};
pub(super) use self::run_control::Look;
use self::run_control::RunControl;
use self::thread::Manner;
pub(super) use self::thread::ThreadBackend;
pub use self::words::LANE_COMMAND;

/// The part that computes. A narrow place: it knows requests as bytes and numbers, and answers them.
#[derive(Debug)]
pub(super) enum Backend {
    /// On the thread that has it now.
    Thread(Box<ThreadBackend<Claim>>),
    /// In a process of its own.
    Process(Box<ProcessBackend>),
}

/// The way to end what a backend runs, from any thread.
#[derive(Debug)]
enum Control {
    Thread(Arc<RunControl<Claim>>),
    Process(Arc<ProcessControl>),
}

/// One lane of an instance.
#[derive(Debug)]
pub(super) struct Lane {
    /// Gone when the lane has ended, so that its memory comes back while handles live on. Its lock is held for as long as
    /// requests are answered; only the lane's own thread waits for it. The locks of the control and of the end are taken under it and
    /// never the other way round.
    backend: Mutex<Option<Backend>>,
    control: Control,
    /// Whether a caller's own thread has the lane.
    lending: Lending,
    /// Wakes the lane's own thread for what an I/O thread could not wait for.
    left: Sender<()>,
    /// Its thread has ended, or is not waited for any more.
    ended: (Mutex<Option<End>>, Condvar),
    /// A run did not end, and somebody else has its place.
    lost: AtomicBool,
    /// The kernel's numbers of its threads.
    tids: Vec<i32>,
}

/// The end of a lane's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It can be joined.
    Ended,
    /// It may never end.
    Lost,
}

/// What was given up with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It has ended meanwhile.
    Nothing,
    /// Its process, which another one replaces.
    Process,
    /// Its thread, and the lane with it.
    Thread,
}

/// What came of the try to answer requests inline.
#[derive(Debug)]
pub(super) enum Inline {
    /// They are answered, or will be by the lane.
    Done,
    /// The lane is busy.
    Busy(Vec<ReservedJob>),
    /// Their run was interrupted: it took too long for an I/O thread.
    Interrupted(Vec<ReservedJob>),
}

impl Lane {
    /// A lane with these threads, which `left` wakes.
    pub(super) fn new(backend: Backend, tids: Vec<i32>, left: Sender<()>) -> Self {
        let control = match &backend {
            Backend::Thread(thread) => Control::Thread(thread.control()),
            Backend::Process(process) => Control::Process(process.control()),
        };
        Self {
            backend: Mutex::new(Some(backend)),
            control,
            lending: Lending::default(),
            left,
            ended: Default::default(),
            lost: AtomicBool::new(false),
            tids,
        }
    }

    /// Whether it computes in a process of its own.
    pub(super) fn is_a_process(&self) -> bool {
        matches!(self.control, Control::Process(_))
    }

    /// Whether a request is being worked on.
    pub(super) fn is_computing(&self) -> bool {
        match &self.control {
            Control::Thread(control) => control.is_computing(),
            Control::Process(control) => control.is_computing(),
        }
    }

    /// The request is not wanted any more. A run that nobody waits for is ended. Whether the request was running.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let was_running = match &self.control {
            Control::Thread(control) => control.cancel(id).then_some(true),
            Control::Process(control) => control.cancel(id),
        };
        if was_running.is_some() {
            // Also where it was not running yet: a process that was stopped from outside never begins.
            watchdog::notice();
        }
        was_running.unwrap_or(false)
    }

    /// Ends whatever runs.
    pub(super) fn cancel_any(&self) {
        match &self.control {
            Control::Thread(control) => control.cancel_any(),
            Control::Process(control) => control.cancel_any(),
        }
        watchdog::notice();
    }

    /// Looks whether a run takes too long.
    pub(super) fn look(&self, now: Instant) -> Look {
        match &self.control {
            Control::Thread(control) => control.look(now),
            Control::Process(control) => control.look(now),
        }
    }

    /// Gives a run up that does not end: a process is ended, and its lane goes on with another one; a thread is left behind, and
    /// what its requests occupy is freed.
    pub(super) fn give_up(&self) -> GivenUp {
        match &self.control {
            Control::Process(control) if control.give_up() => GivenUp::Process,
            Control::Process(_) => GivenUp::Nothing,
            Control::Thread(control) => match control.give_up() {
                Some(freed) => {
                    // Release, with the Acquire of `is_lost`: its thread finds others in its place.
                    self.lost.store(true, Ordering::Release);
                    drop(freed);
                    for tid in &self.tids {
                        background::lower(*tid);
                    }
                    self.say_ended(End::Lost);
                    GivenUp::Thread
                }
                None => GivenUp::Nothing,
            },
        }
    }

    /// Whether somebody else has its place.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Answers requests, and what was left before, on the lane's own thread. Gives them back where a caller's thread has the lane, which
    /// may take long.
    ///
    /// # Errors
    ///
    /// When the lane cannot go on; everything is answered.
    pub(super) fn answer(
        &self,
        jobs: Vec<ReservedJob>,
        rows_max: usize,
    ) -> Result<Vec<ReservedJob>, StartError> {
        let Some(mut backend) = self.own_backend() else {
            return Ok(jobs);
        };
        match backend.as_mut() {
            Some(Backend::Thread(thread)) => {
                let manner = Manner {
                    rows_max,
                    inline: false,
                };
                let mut jobs = jobs;
                // What is left runs again. Nothing is: a run that is not inline ends before its time for want of who needs it, no more.
                while !jobs.is_empty() {
                    jobs = thread.answer(jobs, manner, || {});
                }
                Ok(Vec::new())
            }
            Some(Backend::Process(process)) => {
                process.answer(jobs, rows_max, None).map(|_| Vec::new())
            }
            None => Ok(Vec::new()),
        }
    }

    /// The backend for the lane's own thread, which waits for small work of others; none while a caller's thread has it.
    fn own_backend(&self) -> Option<MutexGuard<'_, Option<Backend>>> {
        if let Some(idle) = self.idle_backend() {
            return Some(idle);
        }
        let _awaits = self.lending.await_it();
        (!self.lending.is_lent()).then(|| lock(&self.backend))
    }

    /// Waits until a caller's thread has given the lane back, and keeps others from having it before.
    pub(super) fn wait_until_given_back(&self) {
        let _awaits = self.lending.await_it();
        drop(lock(&self.backend));
    }

    /// Runs the model on this thread, if the lane is idle, computes on threads, and nobody waits for it.
    pub(super) fn run_here<'a>(&self, work: HereWork<'a>) -> Here<'a> {
        let Some(mut backend) = self.idle_backend() else {
            return Here::Left(work);
        };
        let Some(Backend::Thread(thread)) = backend.as_mut() else {
            return Here::Left(work);
        };
        let Some(_lent) = self.lending.lend() else {
            return Here::Left(work);
        };
        watchdog::notice();
        let here = thread.run_here(HereRun::from(work));
        if self.is_lost() {
            // Somebody else has its place, and its own thread waits for nothing.
            drop(backend.take());
        }
        here
    }

    /// Answers requests on this thread, if the lane is idle: here and now, or as far as a moment goes.
    pub(super) fn try_inline(&self, jobs: Vec<ReservedJob>, rows_max: usize) -> Inline {
        let Some(mut backend) = self.idle_backend() else {
            return Inline::Busy(jobs);
        };
        match backend.as_mut() {
            Some(Backend::Thread(thread)) => {
                let manner = Manner {
                    rows_max,
                    inline: true,
                };
                watchdog::notice();
                match thread.answer(jobs, manner, || {}) {
                    left if left.is_empty() => Inline::Done,
                    left => Inline::Interrupted(left),
                }
            }
            Some(Backend::Process(process)) if process.is_free() => {
                let until = Instant::now() + EDGE_COMPUTE_MAX;
                let progress = process.answer(jobs, rows_max, Some(until));
                if matches!(progress, Ok(Progress::Left)) {
                    // Full: it is woken already.
                    let _woken = self.left.try_send(());
                }
                Inline::Done
            }
            Some(Backend::Process(_)) | None => Inline::Busy(jobs),
        }
    }

    /// The backend, if nobody uses it now.
    fn idle_backend(&self) -> Option<MutexGuard<'_, Option<Backend>>> {
        match self.backend.try_lock() {
            Ok(backend) => Some(backend),
            // A panic of a run is caught within it: whatever poisoned the lock left the session whole.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Gives the memory of the backend back. Handles live on for as long as routing tables do. The lock waits for an I/O thread that
    /// answers inline, and the next one finds nothing. A lane that is lost gives it back when its run ends, if it does.
    pub(super) fn close(&self) {
        let backend = match self.is_lost() {
            true => self.idle_backend(),
            false => Some(lock(&self.backend)),
        };
        drop(backend.and_then(|mut backend| backend.take()));
    }

    /// Its thread has come to this end; the first end counts.
    pub(super) fn say_ended(&self, end: End) {
        lock(&self.ended.0).get_or_insert(end);
        self.ended.1.notify_all();
    }

    /// Waits until the thread of the lane has ended, or is given up.
    pub(super) fn wait_ended(&self) -> End {
        let ended = lock(&self.ended.0);
        let waited = self.ended.1.wait_while(ended, |end| end.is_none());
        let ended = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        ended.unwrap_or(End::Ended)
    }
}

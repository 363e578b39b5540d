//! The run under way in a session, as those see it who may want to end it.
//!
//! Threads: who computes begins and ends a run; clients that leave cancel on the edge; the watchdog looks on.
//! Not here: the run itself (`thread`).

use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::config::{INLINE_RUN_MAX, RUN_END_MAX};
use crate::deadline::Deadline;
use crate::engine::RunError;
use crate::engine::lane::Request;
use crate::engine::lane::decoded::Decoded;
use crate::engine::lock::lock;
use crate::engine::session::Terminator;

/// A session's run, shared by who computes and who ends it.
#[derive(Debug)]
pub(in crate::engine) struct RunControl<C> {
    /// Held for a few instructions: it orders the beginning and the end of a run with those who want to end it.
    running: Mutex<CurrentRun<C>>,
    /// A request is wanted and being worked on.
    computing: AtomicBool,
    terminator: Terminator,
}

/// The run under way.
#[derive(Debug)]
struct CurrentRun<C> {
    /// Its requests that somebody waits for.
    wanted: Vec<u64>,
    /// What its requests occupy, in their order.
    claims: Vec<Option<C>>,
    /// Since when, while there is one.
    began: Option<Instant>,
    /// On an I/O thread.
    inline: bool,
    /// The instant at which it is to end, where nobody else looks at it.
    deadline: Option<Deadline>,
    /// Since when it is to end.
    terminated: Option<Instant>,
    /// Its claims were freed under it.
    given_up: bool,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// It was terminated: its outcome is none of the model's.
    pub(super) terminated: bool,
    /// Its requests that somebody waited for to the end.
    pub(super) wanted: Vec<u64>,
}

/// How the run of one request on its own thread ended.
#[derive(Debug)]
pub(super) struct EndedAlone<C> {
    /// It was terminated: its outcome is none of the model's.
    pub(super) terminated: bool,
    /// Somebody waited for it to the end.
    pub(super) wanted: bool,
    /// What the request occupies; nothing where that was freed under it.
    pub(super) claim: Option<C>,
}

/// What the watchdog finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Look {
    /// Nothing that it would have to look at again soon.
    Idle,
    /// Something that may come to take too long.
    Busy,
    /// The run was to end and does not.
    Stuck,
}

impl<C> RunControl<C> {
    pub(super) fn new(terminator: Terminator) -> Self {
        Self {
            running: Mutex::new(CurrentRun {
                wanted: Vec::new(),
                claims: Vec::new(),
                began: None,
                inline: false,
                deadline: None,
                terminated: None,
                given_up: false,
            }),
            computing: AtomicBool::new(false),
            terminator,
        }
    }

    /// Whether a request is being worked on.
    pub(super) fn is_computing(&self) -> bool {
        // Relaxed: for people and for the metrics; nothing is read on the strength of it.
        self.computing.load(Ordering::Relaxed)
    }

    /// The request is not wanted any more. A run that nobody waits for is ended. Whether the request was in the run.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let mut running = lock(&self.running);
        let Some(at) = running.wanted.iter().position(|wanted| *wanted == id) else {
            return false;
        };
        running.wanted.swap_remove(at);
        if running.wanted.is_empty() {
            self.terminate(&mut running);
        }
        true
    }

    /// Ends whatever runs.
    pub(super) fn cancel_any(&self) {
        let mut running = lock(&self.running);
        if running.began.is_some() {
            running.wanted.clear();
            self.terminate(&mut running);
        }
    }

    fn terminate(&self, running: &mut CurrentRun<C>) {
        running.terminated.get_or_insert_with(Instant::now);
        self.terminator.terminate();
    }

    /// From now on [`RunControl::cancel`] can end the run. Takes the requests out of it that nobody needs, and gives them.
    pub(super) fn begin<R>(
        &self,
        run: &mut Vec<Decoded<R>>,
        (now, inline): (Instant, bool),
    ) -> Vec<Decoded<R>>
    where
        R: Request<Claim = C>,
    {
        let mut running = lock(&self.running);
        // Who is told to cancel has first made the request refuse itself, and cancels under this lock. So one that is not wanted is
        // either seen here, or finds its number among the wanted; and a request of which neither is true keeps no run alive that
        // others have left.
        let gone = run
            .extract_if(.., |decoded| decoded.request.refusal(now).is_some())
            .collect();
        let requests = run.iter_mut().map(|decoded| &mut decoded.request);
        for request in requests {
            running.wanted.push(request.id());
            running.claims.push(request.take_claim());
        }
        running.began = (!run.is_empty()).then_some(now);
        running.inline = inline;
        self.computing.store(!run.is_empty(), Ordering::Relaxed);
        gone
    }

    /// The same for a run of one request on its own thread, of which only this knows when it is to end. Gives back what the request
    /// occupies, and why, where it is not wanted.
    pub(super) fn begin_alone(
        &self,
        (id, claim): (u64, C),
        (now, inline): (Instant, bool),
        deadline: Deadline,
        refusal: impl FnOnce(&C) -> Option<RunError>,
    ) -> Result<(), (C, RunError)> {
        let mut running = lock(&self.running);
        if let Some(refusal) = refusal(&claim) {
            return Err((claim, refusal));
        }
        running.wanted.push(id);
        running.claims.push(Some(claim));
        running.began = Some(now);
        running.inline = inline;
        running.deadline = Some(deadline);
        self.computing.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The end of such a run.
    pub(super) fn end_alone(&self) -> EndedAlone<C> {
        self.computing.store(false, Ordering::Relaxed);
        // Under the lock: see `end`.
        let mut running = lock(&self.running);
        let wanted = !running.wanted.is_empty();
        running.wanted.clear();
        let claim = running.claims.pop().flatten();
        running.claims.clear();
        EndedAlone {
            terminated: self.over(&mut running),
            wanted,
            claim,
        }
    }

    /// Nothing runs any more; whether it was terminated.
    fn over(&self, running: &mut CurrentRun<C>) -> bool {
        running.began = None;
        running.deadline = None;
        running.given_up = false;
        let terminated = running.terminated.take().is_some();
        if terminated {
            self.terminator.clear();
        }
        terminated
    }

    /// The run is over. The session can run again.
    pub(super) fn end<R>(&self, run: &mut [Decoded<R>]) -> Ended
    where
        R: Request<Claim = C>,
    {
        self.computing.store(false, Ordering::Relaxed);
        // Under the lock: who ends a run either still meets it, and its termination is cleared here, or finds nothing wanted. So no
        // termination is left over for the next run.
        let mut running = lock(&self.running);
        let wanted = mem::take(&mut running.wanted);
        for (decoded, claim) in run.iter_mut().zip(running.claims.drain(..)) {
            decoded.request.give_claim(claim);
        }
        let terminated = self.over(&mut running);
        Ended { terminated, wanted }
    }

    /// Looks whether the run takes too long for where it is: inline it is interrupted, so that others need not wait for it, and on a
    /// caller's own thread it is ended when its deadline has passed.
    pub(in crate::engine) fn look(&self, now: Instant) -> Look {
        let mut running = lock(&self.running);
        if let Some(since) = running.terminated {
            let stuck = now.saturating_duration_since(since) >= RUN_END_MAX && !running.given_up;
            return if stuck { Look::Stuck } else { Look::Busy };
        }
        match running.began {
            Some(_) if running.deadline.is_some_and(|end| end.has_passed(now)) => {
                running.wanted.clear();
                self.terminate(&mut running);
                Look::Busy
            }
            Some(began) if running.inline => {
                if now.saturating_duration_since(began) >= INLINE_RUN_MAX {
                    self.terminate(&mut running);
                }
                Look::Busy
            }
            Some(_) if running.deadline.is_some() => Look::Busy,
            _ => Look::Idle,
        }
    }

    /// Frees what the requests of a run occupy that does not end; nothing where it has ended meanwhile.
    pub(super) fn give_up(&self) -> Option<Vec<Option<C>>> {
        let mut running = lock(&self.running);
        running.terminated?;
        running.given_up = true;
        let freed = running.claims.iter_mut().map(Option::take).collect();
        Some(freed)
    }
}

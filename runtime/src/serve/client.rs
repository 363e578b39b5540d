//! The state of one connection as seen by whoever must choose one that goes: whether its client is known, whether it waits for an
//! answer, and since when it does neither.
//!
//! Threads: written by the edge thread that serves the connection, read by the one that accepts. Nothing here orders other memory:
//! who decides by a state that has just changed is corrected by the connection itself, which looks again before it goes.
//! Not here: who goes (`places`), how a connection ends (`listen`).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

use crate::serve::rest::Rest;

/// A mark that an answer carries among its extensions when the request had a valid credential.
#[derive(Clone, Copy, Debug)]
pub struct Authenticated;

/// The point that a connection has come to with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// It has none: it is idle, or the head is on its way.
    Idle = 0,
    /// A request is being answered.
    Asked = 1,
    /// The answer is known and not yet written.
    Answered = 2,
}

/// The place of a connection in the order in which they go; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    /// Whether a request with a valid credential was answered on it.
    pub(super) is_known: bool,
    /// Milliseconds from the listener's start to the end of its last answer, or to its acceptance.
    pub(super) idle_since_ms: u64,
}

impl Standing {
    /// The same, as if it had been idle since then alone.
    pub(super) fn as_of(self, now_ms: u64) -> Self {
        Self {
            idle_since_ms: now_ms,
            ..self
        }
    }
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Client {
    stage: AtomicU8,
    is_known: AtomicBool,
    idle_since_ms: AtomicU64,
    epoch: Instant,
    /// A stranger's request was answered in this turn of the task.
    had_its_turn: AtomicBool,
    /// It has been asked to go.
    leave: AtomicBool,
    task: OnceLock<Waker>,
    /// Whether there is a rest: nearly always there is none, and the lock is left alone.
    has_rest: AtomicBool,
    /// The rest of a body that was dropped before its end, until the answer is there.
    rest: Mutex<Option<Rest>>,
    /// What comes after the last answer is thrown away.
    lingers: AtomicBool,
}

impl Client {
    /// A stranger that has connected now; its time is counted from `epoch`.
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            stage: AtomicU8::new(Stage::Idle as u8),
            is_known: AtomicBool::new(false),
            idle_since_ms: AtomicU64::new(ms_since(epoch)),
            epoch,
            had_its_turn: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            task: OnceLock::new(),
            has_rest: AtomicBool::new(false),
            rest: Mutex::new(None),
            lingers: AtomicBool::new(false),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Idle,
            1 => Stage::Asked,
            _ => Stage::Answered,
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// A whole head has come.
    pub(super) fn asked(&self) {
        self.stage.store(Stage::Asked as u8, Ordering::Relaxed);
    }

    /// The answer is there; `is_known` when its request had a valid credential.
    pub(super) fn answered(&self, is_known: bool) {
        if is_known && !self.is_known() {
            self.is_known.store(true, Ordering::Relaxed);
        }
        if !self.is_known() {
            self.had_its_turn.store(true, Ordering::Relaxed);
            // It is idle from now on, whenever it takes its answer.
            self.idle_since_ms
                .store(ms_since(self.epoch), Ordering::Relaxed);
        }
        self.stage.store(Stage::Answered as u8, Ordering::Relaxed);
    }

    /// The answer has been written.
    pub(super) fn rests(&self) {
        self.idle_since_ms
            .store(ms_since(self.epoch), Ordering::Relaxed);
        self.stage.store(Stage::Idle as u8, Ordering::Relaxed);
    }

    /// Whether the next request is for the next turn: thousands of strangers who send many at once would keep the thread from all others.
    pub(super) fn has_had_its_turn(&self) -> bool {
        self.had_its_turn.load(Ordering::Relaxed)
    }

    /// Where it stands now, and whether it may go. Never while a request is answered. An answer that a stranger does not take keeps
    /// no place; one of a known client does, for as long as any answer may take.
    pub(super) fn standing(&self, now_ms: u64) -> (Standing, bool) {
        let is_known = self.is_known();
        let may_go = match self.stage() {
            Stage::Idle => true,
            Stage::Asked => false,
            Stage::Answered => !is_known,
        };
        let idle_since_ms = if may_go {
            self.idle_since_ms.load(Ordering::Relaxed)
        } else {
            now_ms
        };
        let standing = Standing {
            is_known,
            idle_since_ms,
        };
        (standing, may_go)
    }

    /// Nobody reads the rest of the body any more.
    pub(super) fn keep_rest(&self, rest: Rest) {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
        // Release, with the Acquire below: a body may be dropped on any thread.
        self.has_rest.store(true, Ordering::Release);
    }

    /// The rest of the body that was asked with, if nobody has read it.
    pub(super) fn take_rest(&self) -> Option<Rest> {
        if !self.has_rest.load(Ordering::Acquire) {
            return None;
        }
        self.has_rest.store(false, Ordering::Relaxed);
        self.rest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The next answer is the last, and the client may still send.
    pub(super) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    /// Asks the connection to go.
    pub(super) fn ask_to_leave(&self) {
        // A read-modify-write here and in `must_leave`: whichever comes second sees what the first one did before it.
        self.leave.swap(true, Ordering::AcqRel);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// Whether the connection has to go, asked at the beginning of each turn of its task, which is woken when it has to. A request that came in
    /// between has saved it.
    pub(super) fn must_leave(&self, context: &Context<'_>) -> bool {
        if self.has_had_its_turn() {
            self.had_its_turn.store(false, Ordering::Relaxed);
        }
        if self.task.get().is_none() {
            // A task keeps its waker.
            drop(self.task.set(context.waker().clone()));
            self.leave.fetch_or(false, Ordering::AcqRel);
        }
        if !self.leave.load(Ordering::Relaxed) {
            return false;
        }
        let (_, may_go) = self.standing(0);
        if !may_go {
            self.leave.store(false, Ordering::Relaxed);
        }
        may_go
    }
}

/// Whole milliseconds since then.
pub(super) fn ms_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_asked_to_leave_is_woken_and_goes() {
        let (woken, client) = (Arc::new(Woken::default()), Client::new(Instant::now()));
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        assert!(!client.must_leave(&context));
        client.ask_to_leave();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(client.must_leave(&context));
    }

    #[tokio::test]
    async fn one_that_was_asked_before_its_first_turn_goes_at_it() {
        let client = Client::new(Instant::now());
        client.ask_to_leave();
        assert!(client.must_leave(&Context::from_waker(Waker::noop())));
    }

    #[tokio::test]
    async fn a_request_that_came_in_between_saves_its_connection_for_good() {
        let client = Client::new(Instant::now());
        let context = Context::from_waker(Waker::noop());
        client.ask_to_leave();
        client.asked();
        assert!(!client.must_leave(&context));
        client.answered(false);
        client.rests();
        assert!(!client.must_leave(&context));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_keeps_the_place_of_a_known_client_alone() {
        for is_known in [false, true] {
            let client = Client::new(Instant::now());
            client.asked();
            client.answered(is_known);
            assert_eq!(client.standing(0).1, !is_known);
        }
    }
}

//! The way down of a server, as its connections see it: first readiness says no and everything is served on; then each answer is the
//! last of its connection; at the end who still waits is told so.
//!
//! A connection that is idle when the way down begins may have a request on its way, which a close would lose: it is waited for, for a
//! while, and answered. Where the server is replaced at the same address, readiness goes on saying yes.
//!
//! Threads: moved on by the thread that runs the server, read on the edge with each answer.
//! Not here: when it begins (`app`), and that nobody is accepted any more (`listen`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use tokio::sync::watch;

use crate::serve::failure::Failure;

/// The way down of one server; the clones are of the same one.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Way>);

#[derive(Debug, Default)]
struct Way {
    leaving: AtomicBool,
    closing: AtomicBool,
    /// Longest that an idle connection is waited for.
    idle_wait: watch::Sender<Duration>,
    cut: AtomicBool,
    cut_told: watch::Sender<bool>,
}

impl Drain {
    /// From now on readiness says no, so that balancers send others elsewhere. Everything is served.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Release);
    }

    /// From now on each answer is the last of its connection; one that is idle is waited for as long as this.
    pub fn close(&self, idle_wait: Duration) {
        self.0.idle_wait.send_replace(idle_wait);
        // Release, with the Acquire of who then reads how long to wait.
        self.0.closing.store(true, Ordering::Release);
    }

    /// Ends what is in flight: whoever waits for an answer gets a 503 now.
    pub fn cut(&self) {
        // Before the wake-up: who is woken sees it.
        self.0.cut.store(true, Ordering::Release);
        self.0.cut_told.send_replace(true);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Acquire)
    }

    pub(super) fn idle_wait(&self) -> Duration {
        *self.0.idle_wait.borrow()
    }

    /// Waits for the cut.
    pub async fn until_cut(&self) {
        let mut told = self.0.cut_told.subscribe();
        // The sender lives in this value.
        let _told = told.wait_for(|cut| *cut).await.is_ok();
    }

    /// Runs a connection, which looks at its requests once more when the cut comes.
    pub(super) async fn waking<F: Future>(&self, connection: F) -> F::Output {
        let (mut connection, mut cut) = (pin!(connection), pin!(self.until_cut()));
        let mut is_heard = false;
        poll_fn(|context| {
            // A task keeps its waker: to ask once is to be woken, and each further look would cost a lock.
            if !is_heard {
                is_heard = true;
                // Whoever comes after the cut finds it by itself.
                let _is_cut = cut.as_mut().poll(context).is_ready();
            }
            connection.as_mut().poll(context)
        })
        .await
    }

    /// What the work comes to, or what there is to say when it is cut. By reference: the work on a request is large, and each move a copy.
    pub(super) async fn or_cut<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T, Failure> {
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Pending if self.0.cut.load(Ordering::Acquire) => {
                Poll::Ready(Err(Failure::Stopping))
            }
            other => other,
        })
        .await
    }

    /// Marks an answer as its connection's last, if it is.
    pub(super) fn mark(&self, mut response: Response) -> Response {
        // Also where it is cut before the last answers are given.
        if self.0.closing.load(Ordering::Acquire) || self.0.cut.load(Ordering::Acquire) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

//! Futures of serin on anybody's executor, and on none.
//!
//! A request that waits has a deadline, so its future needs timers. It takes them of the thread that serin has for its control plane,
//! whatever polls it: a runtime of tokio without timers, one whose clock a test has paused, another executor, or a thread that only waits.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::Handle;

/// Polls the future as if `timers` did, wherever that happens.
pub(super) async fn with_timers<F: Future>(timers: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        // Entered for the poll alone: what the caller does in between has its own runtime.
        let _entered = timers.enter();
        future.as_mut().poll(context)
    })
    .await
}

/// Waits on this thread until the future ends. It needs no runtime, and may be called within one, whose thread it keeps then.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    }
    let mut future = pin!(future);
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                // A wake that came since the poll is remembered; one for an earlier future costs a poll.
                Poll::Pending => thread::park(),
            }
        }
    })
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

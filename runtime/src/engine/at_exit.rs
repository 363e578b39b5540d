//! The end of the process while ONNX Runtime is on its way into it, or makes a session: its library would clean up what is half made, and
//! the process die of SIGSEGV instead of ending. So the end waits for that, for a moment.
//!
//! A program that embeds serin returns from `main` when it likes, whatever other threads do; the server waits by itself before it does.
//!
//! Threads: any begins, the one that ends the process waits. Runs of models are not waited for: they meet nothing half made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::EXIT_WAIT_MAX;

/// Pause between two looks: the end of a process wakes nobody.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Things under way that the end waits for. Sequentially consistent wherever it is read or written: who begins after the look below meets
/// a process whose other threads are as good as gone.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Something that the end of the process waits for, until this is dropped.
pub(super) struct UnderWay(());

pub(super) fn begin() -> UnderWay {
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    UnderWay(())
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Has the end of the process wait, before anything is cleaned up that the library has made so far: what is registered last comes first.
#[expect(unsafe_code, reason = "no safe form of atexit is there")]
pub(super) fn register() {
    // SAFETY: the function is there for as long as the process, and neither unwinds nor ends it.
    let refused = unsafe { libc::atexit(wait) } != 0;
    if refused {
        tracing::debug!("the end of the process will not wait for a model that is being loaded");
    }
}

extern "C" fn wait() {
    let late = Instant::now() + EXIT_WAIT_MAX;
    while UNDER_WAY.load(Ordering::SeqCst) > 0 && Instant::now() < late {
        thread::sleep(LOOK_PAUSE);
    }
}

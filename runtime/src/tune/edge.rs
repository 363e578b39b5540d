//! The threads on which clients run. Like those of the server's edge each has a runtime of its own and hands jobs over once a
//! tick, so that what is measured is what a server would do with the same requests.
//!
//! Not here: what the clients do (`measure`).

use std::io;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use crate::router::deliver;

/// Threads that run clients; they end with the value.
#[derive(Debug)]
pub(super) struct Edge {
    threads: Vec<EdgeThread>,
}

#[derive(Debug)]
struct EdgeThread {
    handle: Handle,
    /// Dropped, it ends the thread.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Edge {
    /// Starts so many threads.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let threads = (0..threads.max(1)).map(EdgeThread::start);
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
        })
    }

    /// Where the clients run, one after another, without an end.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.threads.iter().map(|one| &one.handle).cycle()
    }
}

impl EdgeThread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = Builder::new()
            .name(format!("serin-edge-{number}"))
            .spawn(move || {
                // A task among those of the clients, so that it comes when they have been polled.
                runtime.spawn(deliver());
                runtime.block_on(async { drop(stopped.await) });
            })?;
        Ok(Self {
            handle,
            stop,
            thread,
        })
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        for EdgeThread { stop, thread, .. } in self.threads.drain(..) {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("a thread of clients panicked");
            }
        }
    }
}

//! The threads that serve scoring connections: each has a runtime of its own, so that a connection, the jobs of its requests
//! and their answers stay on one thread unless a score thread computes.
//!
//! Not here: what is served (`serve`), how jobs leave the thread (`router`).

use std::net::TcpListener;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::app::AppError;
use crate::config::EDGE_WOKEN_LOOK;
use crate::serve::{ConnectionLimits, Connections, Scoring, accept, connection_queue};

/// The edge, running: `serin-edge-0`, `serin-edge-1` and so on. Dropped, it accepts no more and ends by itself.
pub(super) struct Edge {
    stop: oneshot::Sender<()>,
    threads: Vec<EdgeThread>,
}

struct EdgeThread {
    /// Connections that had to be cut; nothing when the thread panicked.
    cut: oneshot::Receiver<usize>,
    thread: JoinHandle<()>,
}

impl Edge {
    /// Scores on `threads` threads. The listener must not block.
    ///
    /// # Errors
    ///
    /// [`AppError::Threads`].
    pub(super) fn start(
        listener: TcpListener,
        scoring: &Scoring,
        limits: ConnectionLimits,
        threads: usize,
    ) -> Result<Self, AppError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (queues, connections): (Vec<_>, Vec<_>) =
            (0..threads.max(1)).map(|_| connection_queue()).unzip();
        let accepting = move || async move {
            let stopped = async {
                _ = stopped.await;
            };
            // A listener that cannot be watched accepts nobody: as when it is stopped.
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, queues, limits.connections_max, stopped).await,
                Err(error) => tracing::error!(%error, "cannot listen"),
            }
        };
        let mut accepting = Some(accepting);
        let started = connections.into_iter().enumerate().map(|(number, mine)| {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.global_queue_interval(EDGE_WOKEN_LOOK);
            let runtime = runtime.enable_all().build();
            let runtime = runtime.map_err(AppError::Threads)?;
            if let Some(accepting) = accepting.take() {
                runtime.spawn(accepting());
            }
            EdgeThread::start(number, runtime, mine, scoring.clone(), limits)
        });
        Ok(Self {
            threads: started.collect::<Result<_, _>>()?,
            stop,
        })
    }

    /// Accepts no more and lets what is in flight end; how many connections had to be cut.
    pub(super) async fn stop(self) -> usize {
        // Nobody listens when the first thread has ended already.
        _ = self.stop.send(());
        let mut cut = 0;
        for thread in self.threads {
            cut += thread.cut.await.unwrap_or_default();
            if thread.thread.join().is_err() {
                tracing::error!("an edge thread panicked");
            }
        }
        cut
    }
}

impl EdgeThread {
    fn start(
        number: usize,
        runtime: Runtime,
        connections: Connections,
        scoring: Scoring,
        limits: ConnectionLimits,
    ) -> Result<Self, AppError> {
        let (ended, cut) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("serin-edge-{number}"))
            .spawn(move || {
                // A task among those of the connections, so that it comes when they have been polled.
                runtime.spawn(crate::router::deliver());
                let cut = runtime.block_on(connections.serve_scoring(scoring, limits.grace));
                // What was cut is dropped with the runtime, so that its work ends.
                drop(runtime);
                _ = ended.send(cut);
            })
            .map_err(AppError::Threads)?;
        Ok(Self { cut, thread })
    }
}

//! Accepts connections and serves routes on them, with bounds, until told to stop; then lets what is in flight end.
//!
//! Threads: one accepts; each thread with a [`ConnectionQueue`] serves the connections that it was given, each as a task of its runtime.
//! Not here: what the routes do.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::config::{ACCEPT_PAUSE, CUT_ANSWER_MAX, HEAD_READ_MAX, SMALL_BYTES};
use crate::serve::timed_writes::TimedWrites;
use crate::serve::{Drain, Scoring, http};

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most connections at once; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Longest that requests in flight may take to end after `shutdown`.
    pub grace: Duration,
}

/// A connection, and the permit by which it is one of those allowed.
#[derive(Debug)]
struct AcceptedConnection {
    stream: std::net::TcpStream,
    permit: OwnedSemaphorePermit,
}

/// The queue of accepted connections for one thread, the acceptor's end. The permits of the connections bound it.
#[derive(Debug)]
pub struct ConnectionQueue {
    accepted: mpsc::UnboundedSender<AcceptedConnection>,
    /// As many as connections that the thread has or will have.
    live: Arc<()>,
}

/// The thread's end of a [`ConnectionQueue`].
#[derive(Debug)]
pub struct Connections {
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    live: Arc<()>,
}

/// A queue of accepted connections, and the end of it for the thread that serves.
#[must_use]
pub fn connection_queue() -> (ConnectionQueue, Connections) {
    let (sender, accepted) = mpsc::unbounded_channel();
    let live = Arc::new(());
    let queue = ConnectionQueue {
        accepted: sender,
        live: Arc::clone(&live),
    };
    (queue, Connections { accepted, live })
}

/// Serves `routes` on this thread alone until `shutdown` ends: then no connection is accepted, idle ones are closed, and the
/// others get `grace` to finish their request. Returns how many had to be cut.
pub async fn listen(
    listener: TcpListener,
    routes: axum::Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let (queue, connections) = connection_queue();
    let accepting = accept(listener, vec![queue], limits.connections_max, shutdown);
    let service = || TowerToHyperService::new(routes.clone());
    let drain = Drain::default();
    let serving = connections.serve(service, &drain, limits.grace);
    let ((), cut) = tokio::join!(accepting, serving);
    cut
}

/// Accepts until `shutdown` ends, and queues each connection for the thread that has the fewest. Then the queues are closed.
pub async fn accept(
    listener: TcpListener,
    queues: Vec<ConnectionQueue>,
    connections_max: usize,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let room = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept_one(&listener, &room) => accepted,
        };
        if let Some(accepted) = accepted {
            // The counts are of a moment, and that one connection more or less is where it is not best is no harm.
            let emptiest = queues
                .iter()
                .min_by_key(|queue| Arc::strong_count(&queue.live));
            // A thread that has ended cannot serve; its connections are closed.
            drop(emptiest.map(|queue| queue.accepted.send(accepted)));
        }
    }
    // Who has connected by now would be told that the connection is reset, and may have sent a request.
    tokio::task::yield_now().await;
    let mut queues = queues.iter().cycle();
    loop {
        tokio::select! {
            biased;
            Some(accepted) = accept_one(&listener, &room) => {
                drop(queues.next().map(|queue| queue.accepted.send(accepted)));
            }
            () = std::future::ready(()) => return,
        }
    }
}

/// The next connection; `None` when the system refused one, after a pause.
async fn accept_one(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<AcceptedConnection> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let accepted = listener.accept().await;
    match accepted.and_then(|(stream, _)| stream.into_std()) {
        Ok(stream) => Some(AcceptedConnection { stream, permit }),
        Err(error) => {
            warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

impl Connections {
    /// Scores on the connections of this queue until it is closed: then idle ones are closed, and the others get `grace` to
    /// finish their request. Returns how many had to be cut.
    pub async fn serve_scoring(self, scoring: Scoring, grace: Duration) -> usize {
        let routes = http::routes(scoring.clone());
        let (drain, scoring) = (scoring.drain.clone(), Arc::new(scoring));
        let service = || http::service(&scoring, &routes);
        self.serve(service, &drain, grace).await
    }

    /// Serves each connection by a service of its own.
    async fn serve<S>(mut self, service: impl Fn() -> S, drain: &Drain, grace: Duration) -> usize
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // Reaped as they end, so that the set holds live connections alone.
                Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.accepted.recv() => accepted,
            };
            let Some(AcceptedConnection { stream, permit }) = accepted else {
                break;
            };
            let Some(stream) = adopt(stream) else {
                continue;
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_READ_MAX)
                // What the connection reads ahead is as little as a small body: it has no room.
                .max_buf_size(SMALL_BYTES)
                .serve_connection(TokioIo::new(TimedWrites::new(stream)), service());
            let connection = graceful.watch(connection);
            let (live, drain) = (Arc::clone(&self.live), drain.clone());
            connections.spawn(async move {
                // Dropped when the connection has ended, however it ends: then another may come, and this thread has one less.
                let _counted = (permit, live);
                if let Err(error) = drain.waking(connection).await {
                    debug!(%error, "a connection ended early");
                }
            });
        }
        see_out(graceful, connections, drain, grace).await
    }
}

/// Lets connections end: idle ones have a while for one more request, then they are closed; the others get `grace` in all, then their
/// requests are answered that they are cut. Returns how many.
async fn see_out(
    graceful: GracefulShutdown,
    mut connections: JoinSet<()>,
    drain: &Drain,
    grace: Duration,
) -> usize {
    let over = Instant::now() + grace;
    let idle_over = Instant::now() + drain.idle_wait().min(grace);
    if ended(reap(&mut connections), idle_over, drain).await {
        return 0;
    }
    let closing = async { tokio::join!(graceful.shutdown(), reap(&mut connections)) };
    if ended(closing, over, drain).await {
        return 0;
    }
    let cut = connections.len();
    drain.cut();
    // What they are told is short; who does not take it is closed.
    _ = timeout(CUT_ANSWER_MAX, reap(&mut connections)).await;
    cut
}

/// Waits for the end of all. Reaping keeps the count of what is left true.
async fn reap(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Whether it ends before this moment, and before the cut.
async fn ended<T>(closing: impl Future<Output = T>, over: Instant, drain: &Drain) -> bool {
    tokio::select! {
        biased;
        _ = closing => true,
        () = sleep_until(over) => false,
        () = drain.until_cut() => false,
    }
}

/// A connection of this thread's runtime.
fn adopt(stream: std::net::TcpStream) -> Option<TcpStream> {
    let stream = TcpStream::from_std(stream)
        .inspect_err(|error| warn!(%error, "cannot serve a connection"))
        .ok()?;
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection cannot send small packets at once");
    }
    Some(stream)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::observe::Metrics;
    use crate::serve::BytesInFlight;

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        cut: JoinHandle<usize>,
        entered: Arc<Notify>,
        release: Arc<Notify>,
    }

    /// A server whose `/slow` tells that it was entered and waits to be released.
    async fn server(connections_max: usize, grace: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, go_on) = (Arc::clone(&entered), Arc::clone(&release));
        let slow = move || async move {
            inside.notify_one();
            go_on.notified().await;
            "done"
        };
        let routes = axum::Router::new()
            .route("/slow", get(slow))
            .route("/", get(|| async { "here" }));
        let (stop, stopped) = oneshot::channel();
        let limits = ConnectionLimits {
            connections_max,
            grace,
        };
        let cut = tokio::spawn(listen(listener, routes, limits, async {
            _ = stopped.await;
        }));
        Server {
            address,
            stop,
            cut,
            entered,
            release,
        }
    }

    async fn request(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        stream
    }

    async fn until_end(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn at_shutdown_a_request_in_flight_is_answered_and_an_idle_connection_closed() {
        let server = server(8, Duration::from_secs(30)).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        let busy = request(server.address, "/slow").await;
        server.entered.notified().await;
        server.stop.send(()).unwrap();
        assert_eq!(until_end(idle).await, "");
        server.release.notify_one();
        let answer = until_end(busy).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"),
            "{answer}"
        );
        assert_eq!(server.cut.await.unwrap(), 0);
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn what_does_not_end_within_the_grace_period_is_cut_and_counted() {
        let server = server(8, Duration::from_millis(1)).await;
        let busy = request(server.address, "/slow").await;
        server.entered.notified().await;
        server.stop.send(()).unwrap();
        assert_eq!(server.cut.await.unwrap(), 1);
        assert_eq!(until_end(busy).await, "");
    }

    /// The answer is far larger than what the kernel takes of it.
    #[tokio::test]
    async fn an_answer_has_its_room_until_it_is_read_or_its_client_has_gone() {
        const ANSWER_BYTES: usize = 64 << 20;
        let bytes = BytesInFlight::new(0, ANSWER_BYTES, &Metrics::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = bytes.clone();
        let routes = axum::Router::new().route(
            "/",
            get(move || async move {
                let answer = answering.hold_answer(vec![b'x'; ANSWER_BYTES].into(), None);
                answer.map_err(|no_room| no_room.to_string())
            }),
        );
        let limits = ConnectionLimits {
            connections_max: 8,
            grace: Duration::from_secs(30),
        };
        tokio::spawn(listen(listener, routes, limits, std::future::pending()));
        for is_read in [true, false] {
            let mut client = request(address, "/").await;
            let mut head = [0; 15];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200 OK");
            assert_eq!(bytes.held(), ANSWER_BYTES);
            if is_read {
                let mut left = vec![0; ANSWER_BYTES];
                client.read_exact(&mut left).await.unwrap();
            } else {
                drop(client);
            }
            while bytes.held() > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_until_one_ends() {
        let server = server(1, Duration::from_secs(30)).await;
        let first = request(server.address, "/slow").await;
        server.entered.notified().await;
        let mut second = request(server.address, "/").await;
        server.release.notify_one();
        let mut first = first;
        let mut answer = [0; 15];
        first.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        // Its permit is given back when it leaves, and only then is the second one heard.
        drop(first);
        second.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

//! Accepts connections and serves routes on them, with bounds, until told to stop; then lets what is in flight end.
//!
//! Threads: runs where it is awaited; each connection is a task of that runtime.
//! Not here: what the routes do.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::config::{ACCEPT_PAUSE, HEAD_READ_MAX};

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most connections at once; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Longest that requests in flight may take to end after `shutdown`.
    pub grace: Duration,
}

/// Serves `routes` until `shutdown` ends: then no connection is accepted, idle ones are closed, and the others get `grace` to
/// finish their request. Returns how many had to be cut.
pub async fn listen(
    listener: TcpListener,
    routes: axum::Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let mut shutdown = pin!(shutdown);
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Reaped as they end, so that the set holds live connections alone.
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let service = TowerToHyperService::new(routes.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_READ_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    // Reaping during the wait keeps the count of what is left true.
    let finish = async { while connections.join_next().await.is_some() {} };
    let closing = async { tokio::join!(graceful.shutdown(), finish) };
    match tokio::time::timeout(limits.grace, closing).await {
        Ok(_) => 0,
        Err(_) => connections.len(),
    }
}

/// The next connection and its place among those allowed; `None` when the system refused one, after a pause.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, _)) => {
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "a connection cannot send small packets at once");
            }
            Some((stream, place))
        }
        Err(error) => {
            warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;

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

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_for_a_place() {
        let server = server(1, Duration::from_secs(30)).await;
        let first = request(server.address, "/slow").await;
        server.entered.notified().await;
        let mut second = request(server.address, "/").await;
        server.release.notify_one();
        let mut first = first;
        let mut answer = [0; 15];
        first.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        // Its place is given back when it leaves, and only then is the second one heard.
        drop(first);
        second.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

//! Accepts connections and serves routes on them, with bounds, until told to stop; then lets what is in flight end.
//!
//! Threads: one accepts; each thread with a [`ConnectionQueue`] serves the connections that it was given, each as a task of its runtime.
//! Not here: what the routes do, which connection makes room when there are too many (`places`).

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, warn};

use crate::config::{
    ACCEPT_PAUSE, ACCEPT_TOLD_PERIOD, CUT_ANSWER_MAX, HEAD_BYTES_MAX, HEAD_READ_MAX, SMALL_BYTES,
    STRANGER_TURNS,
};
use crate::serve::answer::MODEL_DEPLOYMENT;
use crate::serve::client::{Authenticated, Client};
use crate::serve::client_stream::ClientStream;
use crate::serve::places::{Place, Places};
use crate::serve::refusals::Refusals;
use crate::serve::request_body::{RequestBody, see_to_the_rest};
use crate::serve::request_id::RequestIds;
use crate::serve::timed_writes::TimedWrites;
use crate::serve::wrong_keys::Peer;
use crate::serve::{Drain, Scoring, head, http};

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most connections at once. When all are taken, one that is not needed makes room for the next; when all are, further ones wait
    /// in the kernel's backlog.
    pub connections_max: usize,
    /// Longest that requests in flight may take to end after `shutdown`.
    pub grace: Duration,
}

/// A connection, the place by which it is one of those allowed, and its count among those of its thread.
#[derive(Debug)]
struct AcceptedConnection {
    stream: std::net::TcpStream,
    place: Place,
    counted: Arc<()>,
}

/// The queue of accepted connections for one thread, the acceptor's end. The places of the connections bound it.
#[derive(Debug)]
pub struct ConnectionQueue {
    accepted: mpsc::UnboundedSender<AcceptedConnection>,
    /// One more than connections that the thread has or will have.
    live: Arc<()>,
}

/// The thread's end of a [`ConnectionQueue`].
#[derive(Debug)]
pub struct Connections {
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
}

/// A queue of accepted connections, and the end of it for the thread that serves.
#[must_use]
pub fn connection_queue() -> (ConnectionQueue, Connections) {
    let (sender, accepted) = mpsc::unbounded_channel();
    let queue = ConnectionQueue {
        accepted: sender,
        live: Arc::new(()),
    };
    (queue, Connections { accepted })
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
    let (service, refusals) = (|peer| routed(&routes, peer), Refusals::default());
    let drain = Drain::default();
    let serving = connections.serve(service, (&refusals, &drain), limits.grace);
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
    let mut acceptor = Acceptor {
        listener,
        places: Places::new(connections_max),
        told: None,
    };
    loop {
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = acceptor.next() => accepted,
        };
        if !hand_over(&queues, stream, place) {
            error!("no thread is left that serves connections");
            return;
        }
    }
    // Who has connected by now would be told that the connection is reset, and may have sent a request.
    tokio::task::yield_now().await;
    loop {
        let (stream, place) = tokio::select! {
            biased;
            accepted = acceptor.next() => accepted,
            () = std::future::ready(()) => return,
        };
        if !hand_over(&queues, stream, place) {
            return;
        }
    }
}

struct Acceptor {
    listener: TcpListener,
    places: Places,
    /// The time of the last line that says that none can be accepted.
    told: Option<Instant>,
}

impl Acceptor {
    /// The next connection, and its place. Room is made when somebody has come, and never ahead of it.
    async fn next(&mut self) -> (std::net::TcpStream, Place) {
        loop {
            let accepted = self.listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => return (stream, self.places.take().await),
                Err(error) => self.refused(&error).await,
            }
        }
    }

    /// The system refused a connection: mostly there is no file descriptor left, and a connection that is not needed has one.
    async fn refused(&mut self, error: &std::io::Error) {
        let made_room = self.places.make_room().is_some();
        if self
            .told
            .is_none_or(|told| told.elapsed() > ACCEPT_TOLD_PERIOD)
        {
            self.told = Some(Instant::now());
            warn!(%error, made_room, "cannot accept a connection");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Queues the connection for the thread that has the fewest of those that serve. Without any it is closed, and this is false.
fn hand_over(queues: &[ConnectionQueue], stream: std::net::TcpStream, place: Place) -> bool {
    // The counts are of a moment, and that one connection more or less is where it is not best is no harm.
    let serving = queues.iter().filter(|queue| !queue.accepted.is_closed());
    let Some(emptiest) = serving.min_by_key(|queue| Arc::strong_count(&queue.live)) else {
        return false;
    };
    let counted = Arc::clone(&emptiest.live);
    let accepted = AcceptedConnection {
        stream,
        place,
        counted,
    };
    match emptiest.accepted.send(accepted) {
        Ok(()) => true,
        // It has ended in between.
        Err(mpsc::error::SendError(AcceptedConnection { stream, place, .. })) => {
            hand_over(queues, stream, place)
        }
    }
}

impl Connections {
    /// Scores on the connections of this queue until it is closed: then idle ones are closed, and the others get `grace` to
    /// finish their request. Returns how many had to be cut.
    pub async fn serve_scoring(self, scoring: Scoring, grace: Duration) -> usize {
        let routes = http::routes(scoring.clone());
        let refusals = Refusals::counted_in(Arc::clone(&scoring.metrics));
        let (drain, scoring) = (scoring.drain.clone(), Arc::new(scoring));
        let service = |peer| http::service(&scoring, &routes, peer);
        self.serve(service, (&refusals, &drain), grace).await
    }

    /// Serves each connection by a service of its own.
    async fn serve<S>(
        mut self,
        service: impl Fn(Peer) -> S,
        (refusals, drain): (&Refusals, &Drain),
        grace: Duration,
    ) -> usize
    where
        S: Service<Request<RequestBody>, Response = Response, Error = Infallible>
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let (graceful, protocol) = (GracefulShutdown::new(), protocol());
        let turns = Arc::new(Semaphore::new(STRANGER_TURNS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // Reaped as they end, so that the set holds live connections alone.
                Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.accepted.recv() => accepted,
            };
            let Some(accepted) = accepted else {
                break;
            };
            let AcceptedConnection {
                stream,
                place,
                counted,
            } = accepted;
            let Some(stream) = adopt(stream) else {
                continue;
            };
            // One that has gone already has no address, and is not served.
            let Ok(peer) = stream.peer_addr().map(Peer::at) else {
                continue;
            };
            let client = Arc::clone(&place.client);
            let stream = ClientStream::new(stream, Arc::clone(&client), refusals.clone());
            let told_of = ToldOf {
                client: Arc::clone(&client),
                turns: Arc::clone(&turns),
                refusals: refusals.clone(),
            };
            let service = told(service(peer), told_of);
            let connection =
                protocol.serve_connection(TokioIo::new(TimedWrites::new(stream)), service);
            let connection = graceful.watch(connection);
            let drain = drain.clone();
            connections.spawn(async move {
                // Dropped when the connection has ended, however it ends: then another may come, and this thread has one less.
                let _counted = (place, counted);
                if let Err(error) = until_it_leaves(&client, drain.waking(connection)).await {
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

/// Answers the requests of one connection by `routes`, which find the peer among the extensions.
fn routed(
    routes: &axum::Router,
    peer: Peer,
) -> impl Service<Request<RequestBody>, Response = Response, Error = Infallible, Future: Send> + use<>
{
    let routes = TowerToHyperService::new(routes.clone());
    service_fn(move |mut request: Request<RequestBody>| {
        request.extensions_mut().insert(peer);
        routes.call(request)
    })
}

/// HTTP/1.1 with its bounds.
fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        // What the connection reads ahead is as little as a small body: it has no room.
        .max_buf_size(SMALL_BYTES)
        // A client that ends its side waits for its answer; whether it has left the stream finds out.
        .half_close(true);
    protocol
}

/// What a service is told about its connection.
struct ToldOf {
    client: Arc<Client>,
    /// As many strangers as may be answered again in one turn of the thread, when each has sent several requests at once.
    turns: Arc<Semaphore>,
    refusals: Refusals,
}

/// The service, which tells the connection's state what becomes of its requests, and sees none whose head is at fault.
fn told<S>(
    service: S,
    told_of: ToldOf,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + use<S>
where
    S: Service<Request<RequestBody>, Response = Response, Error = Infallible> + Send + Sync,
    S::Future: Send,
{
    // Shared, so that the work on a request, which is large, is made where it is polled and never moved.
    let (service, told_of) = (Arc::new(service), Arc::new(told_of));
    service_fn(move |request: Request<Incoming>| {
        let (service, told_of) = (Arc::clone(&service), Arc::clone(&told_of));
        async move {
            let ToldOf {
                client,
                turns,
                refusals,
            } = &*told_of;
            if client.has_had_its_turn() {
                // Idle meanwhile for who looks for a place: thousands that wait here must not keep theirs by it.
                let _turn = turns.acquire().await;
                tokio::task::yield_now().await;
            }
            client.asked();
            let request = RequestBody::of(request, Arc::clone(client));
            let answer = match head::check(request.version(), request.headers()) {
                Ok(()) => service.call(request).await?,
                Err(fault) => {
                    let ids = RequestIds::of(request.headers());
                    let ids = ids.unwrap_or_else(|_| RequestIds::fresh());
                    drop(request);
                    refusals.answer(fault, ids)
                }
            };
            let answer = see_to_the_rest(client, answer).await;
            client.answered(is_of_a_known_client(&answer));
            Ok(answer)
        }
    })
}

/// Whether the request had a valid credential, or reached a deployment of an endpoint that asks for none.
fn is_of_a_known_client(answer: &Response) -> bool {
    answer.headers().contains_key(MODEL_DEPLOYMENT)
        || answer.extensions().get::<Authenticated>().is_some()
}

/// Serves the connection until it ends, or has to make room for another.
async fn until_it_leaves<E>(
    client: &Client,
    connection: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let mut connection = pin!(connection);
    poll_fn(|context| {
        if client.must_leave(context) {
            debug!("an idle connection makes room for another");
            return Poll::Ready(Ok(()));
        }
        connection.as_mut().poll(context)
    })
    .await
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
mod tests;

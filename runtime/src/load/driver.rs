//! A run of load: arrivals and bodies in, samples out.
//!
//! In an open loop requests arrive by schedule, whatever the server does, and latency counts from the scheduled time: a
//! server that stalls delays all who arrive meanwhile, and a generator that waits for it would not see that.
//!
//! Threads: one that keeps the schedule (tokio's timers are too coarse: 1 ms), one task for each connection on the runtime
//! of the caller.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{Client, LoadError, Reply, Target};

/// What to send, when, and whom to tell.
pub struct Load {
    /// Where requests go.
    pub target: Target,
    /// Most connections, and so most requests under way.
    pub connections: usize,
    /// Longest that one exchange may take, from when it is sent.
    pub timeout: Duration,
    /// When requests are sent.
    pub pace: Pace,
    /// The body of the request with this number, counted from 0. Called on the tasks that send.
    pub bodies: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    /// Told of every request that was sent. Called on the tasks that send, so it holds up its connection.
    pub on_sample: Arc<dyn Fn(Sample) + Send + Sync>,
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("target", &self.target)
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// When requests are sent.
pub enum Pace {
    /// At these times from the start (see [`super::Arrivals`]), late ones as soon as a connection is free.
    Open(Box<dyn Iterator<Item = Duration> + Send>),
    /// The next on each connection as soon as the last is answered, so many in all; none: until stopped.
    Closed {
        /// Requests in all.
        requests: Option<u64>,
    },
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open"),
            Self::Closed { requests } => write!(f, "Closed {{ requests: {requests:?} }}"),
        }
    }
}

/// One request and what came of it.
#[derive(Debug)]
pub struct Sample {
    /// Number of the request, in order of arrival, from 0.
    pub index: u64,
    /// When it was to be sent. In a closed loop: when it was.
    pub scheduled: Instant,
    /// When it was.
    pub sent: Instant,
    /// When the whole response was there, or the failure.
    pub done: Instant,
    /// The response, whatever its status.
    pub reply: Result<Reply, LoadError>,
}

impl Sample {
    /// What a client that arrived on schedule waited.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.done.saturating_duration_since(self.scheduled)
    }

    /// Whether it was answered with a 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.reply
            .as_ref()
            .is_ok_and(|reply| (200..300).contains(&reply.status))
    }
}

impl Load {
    /// Starts to send. Needs a tokio runtime with I/O and time, on which the connections live.
    ///
    /// # Errors
    ///
    /// When the thread that keeps the schedule cannot be started.
    pub fn start(self) -> io::Result<RunningLoad> {
        let source = Arc::new(Source::default());
        let (requests_max, pacer) = match self.pace {
            Pace::Closed { requests } => (Some(requests.unwrap_or(u64::MAX)), None),
            Pace::Open(arrivals) => {
                let pacer = Pacer {
                    source: Arc::clone(&source),
                    connections: self.connections,
                };
                let pacer = thread::Builder::new()
                    .name("serin-load-pacer".to_owned())
                    .spawn(move || pacer.keep(arrivals))?;
                (None, Some(pacer.thread().clone()))
            }
        };
        let mut senders = JoinSet::new();
        for _ in 0..self.connections {
            let sender = Sender {
                source: Arc::clone(&source),
                client: Client::new(self.target.clone(), self.timeout),
                bodies: Arc::clone(&self.bodies),
                on_sample: Arc::clone(&self.on_sample),
                requests_max,
            };
            senders.spawn(sender.run());
        }
        Ok(RunningLoad {
            source,
            pacer,
            senders,
        })
    }
}

/// Load that is being sent. Stops when dropped; requests under way are cut off then.
#[derive(Debug)]
pub struct RunningLoad {
    source: Arc<Source>,
    pacer: Option<Thread>,
    senders: JoinSet<()>,
}

impl RunningLoad {
    /// Sends no more; what is under way goes on to its end.
    pub fn stop(&self) {
        self.source.stop();
        if let Some(pacer) = &self.pacer {
            pacer.unpark();
        }
    }

    /// Waits until all is sent and answered, and says how many requests were due and were not sent, because the run was
    /// stopped while all connections were busy.
    pub async fn finished(mut self) -> usize {
        while let Some(ended) = self.senders.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                // A panic of the caller's closures is the caller's.
                std::panic::resume_unwind(panic);
            }
        }
        self.source.due().len()
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One request that is to be sent.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    index: u64,
    scheduled: Instant,
}

/// Hands arrivals to whichever connection is free.
#[derive(Debug)]
struct Source {
    due: Mutex<VecDeque<Arrival>>,
    /// One permit for each arrival that is due, and in the end one for each connection, which then finds nothing.
    ready: Semaphore,
    stopped: AtomicBool,
    /// Number of the next request of a closed loop.
    next: AtomicU64,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            due: Mutex::default(),
            ready: Semaphore::new(0),
            stopped: AtomicBool::new(false),
            next: AtomicU64::new(0),
        }
    }
}

impl Source {
    fn due(&self) -> MutexGuard<'_, VecDeque<Arrival>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The next arrival by schedule, as soon as it is due.
    async fn next_due(&self) -> Option<Arrival> {
        let ready = self.ready.acquire().await.ok()?;
        ready.forget();
        if self.is_stopped() {
            return None;
        }
        self.due().pop_front()
    }

    /// The next of a closed loop: now.
    fn next_now(&self, requests_max: u64) -> Option<Arrival> {
        if self.is_stopped() {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < requests_max).then(|| Arrival {
            index,
            scheduled: Instant::now(),
        })
    }
}

/// Keeps the schedule of an open loop.
struct Pacer {
    source: Arc<Source>,
    connections: usize,
}

impl Pacer {
    fn keep(self, arrivals: impl Iterator<Item = Duration>) {
        let start = Instant::now();
        for (index, at) in (0..).zip(arrivals) {
            let scheduled = start + at;
            if !self.wait_until(scheduled) {
                break;
            }
            self.source.due().push_back(Arrival { index, scheduled });
            self.source.ready.add_permits(1);
        }
        self.source.ready.add_permits(self.connections);
    }

    /// False when the run was stopped. What is due already is not waited for, so that a rate above that of timers is kept.
    fn wait_until(&self, scheduled: Instant) -> bool {
        loop {
            if self.source.is_stopped() {
                return false;
            }
            let left = scheduled.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::park_timeout(left);
        }
    }
}

/// One connection at work.
struct Sender {
    source: Arc<Source>,
    client: Client,
    bodies: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    on_sample: Arc<dyn Fn(Sample) + Send + Sync>,
    /// Of a closed loop.
    requests_max: Option<u64>,
}

impl Sender {
    async fn run(mut self) {
        while let Some(Arrival { index, scheduled }) = self.next().await {
            let body = (self.bodies)(index);
            let sent = Instant::now();
            let reply = self.client.exchange(body).await;
            (self.on_sample)(Sample {
                index,
                scheduled,
                sent,
                done: Instant::now(),
                reply,
            });
        }
    }

    async fn next(&self) -> Option<Arrival> {
        match self.requests_max {
            Some(requests_max) => self.source.next_now(requests_max),
            None => self.source.next_due().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::num::NonZeroU32;

    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::header::CONNECTION;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::super::{Arrivals, Summary};
    use super::*;

    /// Answers with the body it got; may be told to hold its answers back.
    #[derive(Clone)]
    struct Server {
        address: SocketAddr,
        /// A permit is a gate that stands open.
        gate: Arc<Semaphore>,
        connections: Arc<AtomicU64>,
        requests: Arc<AtomicU64>,
        /// Each connection serves one request.
        closes: bool,
    }

    impl Server {
        async fn start(closes: bool) -> Self {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let server = Self {
                address: listener.local_addr().unwrap(),
                gate: Arc::new(Semaphore::new(1)),
                connections: Arc::default(),
                requests: Arc::default(),
                closes,
            };
            tokio::spawn(server.clone().accept(listener));
            server
        }

        async fn accept(self, listener: TcpListener) {
            while let Ok((stream, _)) = listener.accept().await {
                self.connections.fetch_add(1, Ordering::SeqCst);
                let server = self.clone();
                let service = service_fn(move |request| server.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        }

        async fn answer(
            self,
            request: Request<Incoming>,
        ) -> Result<Response<Full<Bytes>>, Infallible> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            drop(self.gate.acquire().await.unwrap());
            let mut response = Response::builder().header("azureml-model-deployment", "blue");
            if self.closes {
                response = response.header(CONNECTION, "close");
            }
            Ok(response.body(Full::new(body)).unwrap())
        }

        fn load(&self, pace: Pace) -> (Load, Arc<Mutex<Vec<Sample>>>) {
            let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
            let kept = Arc::clone(&samples);
            let load = Load {
                target: Target::new(self.address, "/score").unwrap(),
                connections: 8,
                timeout: Duration::from_secs(30),
                pace,
                bodies: Arc::new(|index| Bytes::from(index.to_string())),
                on_sample: Arc::new(move |sample| kept.lock().unwrap().push(sample)),
            };
            (load, samples)
        }
    }

    fn open(per_s: u32, end: Duration) -> Pace {
        let per_s = NonZeroU32::new(per_s).unwrap();
        Pace::Open(Box::new(Arrivals::constant(per_s).until(end)))
    }

    #[track_caller]
    fn check_each_answered_once(samples: &Mutex<Vec<Sample>>, count: u64) {
        let mut samples = std::mem::take(&mut *samples.lock().unwrap());
        samples.sort_by_key(|sample| sample.index);
        assert!(samples.iter().map(|sample| sample.index).eq(0..count));
        for sample in samples {
            assert!(sample.is_ok(), "{sample:?}");
            let reply = sample.reply.unwrap();
            assert_eq!(reply.body, sample.index.to_string());
            assert_eq!(reply.deployment.as_deref(), Some("blue"));
            assert!(sample.scheduled <= sample.sent && sample.sent <= sample.done);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_constant_rate_sends_exactly_its_count_over_kept_connections() {
        let server = Server::start(false).await;
        let (load, samples) = server.load(open(2000, Duration::from_millis(250)));
        assert_eq!(load.start().unwrap().finished().await, 0);
        check_each_answered_once(&samples, 500);
        assert!(server.connections.load(Ordering::SeqCst) <= 8);
    }

    #[tokio::test]
    async fn a_closed_loop_sends_exactly_its_count() {
        let server = Server::start(false).await;
        let (load, samples) = server.load(Pace::Closed {
            requests: Some(300),
        });
        assert_eq!(load.start().unwrap().finished().await, 0);
        check_each_answered_once(&samples, 300);
    }

    #[tokio::test]
    async fn a_server_that_closes_each_connection_costs_no_request() {
        let server = Server::start(true).await;
        let (load, samples) = server.load(Pace::Closed {
            requests: Some(100),
        });
        assert_eq!(load.start().unwrap().finished().await, 0);
        check_each_answered_once(&samples, 100);
        assert_eq!(server.connections.load(Ordering::SeqCst), 100);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_shows_in_the_latency_of_all_who_arrived_meanwhile() {
        let server = Server::start(false).await;
        let shut = Arc::clone(&server.gate).acquire_owned().await.unwrap();
        // 100 arrivals within 100 ms, for 8 connections: the server gets 8 of them.
        let (load, samples) = server.load(open(1000, Duration::from_millis(100)));
        let run = load.start().unwrap();
        // The gate opens when the whole schedule has been due for some time.
        while run.source.due().len() < 92 {
            tokio::task::yield_now().await;
        }
        let opened = Instant::now();
        drop(shut);
        run.finished().await;
        assert_eq!(server.requests.load(Ordering::SeqCst), 100);
        let mut summary = Summary::new();
        for sample in samples.lock().unwrap().iter() {
            summary.record(sample);
            // No latency hides the time that the server stood still.
            assert!(sample.latency() >= opened.saturating_duration_since(sample.scheduled));
        }
        let from_sent = samples
            .lock()
            .unwrap()
            .iter()
            .filter(|sample| sample.done - sample.sent >= Duration::from_millis(50))
            .count();
        assert!(
            from_sent <= 8,
            "a closed loop would have seen the stall 8 times"
        );
        assert!(
            summary.quantile(0.4) >= Duration::from_millis(40),
            "{summary:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stopped_run_ends_what_is_under_way_and_tells_what_it_did_not_send() {
        let server = Server::start(false).await;
        let shut = Arc::clone(&server.gate).acquire_owned().await.unwrap();
        let per_s = NonZeroU32::new(10_000).unwrap();
        let (load, samples) = server.load(Pace::Open(Box::new(Arrivals::constant(per_s))));
        let run = load.start().unwrap();
        while server.requests.load(Ordering::SeqCst) < 8 || run.source.due().is_empty() {
            tokio::task::yield_now().await;
        }
        run.stop();
        drop(shut);
        assert!(run.finished().await > 0);
        check_each_answered_once(&samples, 8);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_a_failure_and_the_next_is_tried_anew() {
        let server = Server::start(false).await;
        let shut = Arc::clone(&server.gate).acquire_owned().await.unwrap();
        let (mut load, samples) = server.load(Pace::Closed { requests: Some(2) });
        load.connections = 1;
        load.timeout = Duration::from_millis(20);
        load.start().unwrap().finished().await;
        drop(shut);
        let samples = samples.lock().unwrap();
        assert!(
            samples
                .iter()
                .all(|sample| matches!(sample.reply, Err(LoadError::Timeout(_))))
        );
        assert_eq!(samples.len(), 2);
        assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn no_server_is_a_failure_of_each_request() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut server = Server::start(false).await;
        server.address = listener.local_addr().unwrap();
        drop(listener);
        let (load, samples) = server.load(Pace::Closed { requests: Some(3) });
        load.start().unwrap().finished().await;
        let samples = samples.lock().unwrap();
        assert!(
            samples
                .iter()
                .all(|sample| matches!(sample.reply, Err(LoadError::Connect { .. })))
        );
        assert_eq!(samples.len(), 3);
    }
}

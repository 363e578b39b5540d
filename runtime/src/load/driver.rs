//! A run of load: arrivals and bodies in, samples out.
//!
//! In an open loop requests arrive by schedule, whatever the server does, and latency counts from the scheduled time: a
//! server that stalls delays all who arrive meanwhile, and a generator that waits for it would not see that.
//!
//! Threads: one for each run, with a runtime of its own: it keeps the schedule and has all connections, so that a request
//! crosses no thread here and the generator takes one core at most.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, LocalSet, yield_now};

use super::connection::{Client, LoadError, Reply, Target};
use super::timer::Timer;

/// Arrivals that are let in, one after the other, before connections get a turn: a schedule that is behind must not keep them
/// from answering.
const LATE_ARRIVALS: u64 = 32;

/// A load: the requests to send, their times, and whom to tell.
pub struct Load {
    /// The server that requests go to.
    pub target: Target,
    /// Most connections, and so most requests under way.
    pub connections: usize,
    /// Longest that one exchange may take, from when it is sent.
    pub timeout: Duration,
    /// The times at which requests are sent.
    pub pace: Pace,
    /// The body of the request with this number, counted from 0. Called on the thread that sends.
    pub bodies: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    /// Told of every request that was sent. Called on the thread that sends, so it holds up all connections.
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

/// The times at which requests are sent.
pub enum Pace {
    /// At these times from the start (see [`super::Arrivals`]), late ones as soon as a connection is free.
    Open(Box<dyn Iterator<Item = Duration> + Send>),
    /// The next on each connection as soon as the last is answered, so many in all; none: until stopped.
    Closed {
        /// Requests in all.
        requests: Option<u64>,
    },
    /// One on each connection at the same time, and again as soon as all are answered, until stopped.
    Together,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open"),
            Self::Closed { requests } => write!(f, "Closed {{ requests: {requests:?} }}"),
            Self::Together => f.write_str("Together"),
        }
    }
}

/// One request and what came of it.
#[derive(Debug)]
pub struct Sample {
    /// Number of the request, in order of arrival, from 0.
    pub index: u64,
    /// Number of the connection that it went over, from 0.
    pub connection: usize,
    /// The time at which it was to be sent. In a closed loop: at which it was.
    pub scheduled: Instant,
    /// The time at which it was sent.
    pub sent: Instant,
    /// The lateness of the generator itself. The wait for a free connection is not in it: that is the server's.
    pub slip: Duration,
    /// The time at which the whole response was there, or the failure.
    pub done: Instant,
    /// The response, whatever its status.
    pub reply: Result<Reply, LoadError>,
}

impl Sample {
    /// The wait of a client that arrived on schedule.
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
    /// Starts to send.
    ///
    /// # Errors
    ///
    /// When the thread or its runtime cannot be made.
    pub fn start(self) -> io::Result<RunningLoad> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let timer = {
            let _within = runtime.enter();
            Timer::new()?
        };
        let stop = Arc::new(Stop::default());
        let heard = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("serin-load".to_owned())
            .spawn(move || self.run(&runtime, timer, &heard))?;
        Ok(RunningLoad {
            stop,
            thread: Some(thread),
        })
    }

    /// Sends all; the number of requests that were due and were not sent.
    fn run(self, runtime: &Runtime, timer: Timer, stop: &Arc<Stop>) -> usize {
        let source = Rc::new(Source::new(self.pace.requests_max(), Arc::clone(stop)));
        let mut tasks = JoinSet::new();
        let local = LocalSet::new();
        for connection in 0..self.connections {
            let sender = Sender {
                connection,
                source: Rc::clone(&source),
                client: Client::new(self.target.clone(), self.timeout),
                bodies: Arc::clone(&self.bodies),
                on_sample: Arc::clone(&self.on_sample),
            };
            tasks.spawn_local_on(sender.run(), &local);
        }
        let pacer = Pacer {
            source: Rc::clone(&source),
            connections: self.connections,
        };
        match self.pace {
            Pace::Open(arrivals) => {
                tasks.spawn_local_on(pacer.keep(arrivals, timer), &local);
            }
            Pace::Together => {
                tasks.spawn_local_on(pacer.beat(), &local);
            }
            Pace::Closed { .. } => {}
        }
        local.block_on(runtime, async {
            tokio::select! {
                () = ended(&mut tasks) => {}
                () = stop.cut_off() => {}
            }
        });
        stop.due.load(Ordering::Relaxed)
    }
}

/// Waits for all. A panic of the caller's closures is the caller's.
async fn ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Pace {
    /// Requests of a closed loop; none where others say when to send.
    fn requests_max(&self) -> Option<u64> {
        match self {
            Self::Closed { requests } => Some(requests.unwrap_or(u64::MAX)),
            Self::Open(_) | Self::Together => None,
        }
    }
}

/// Load that is being sent. Stops when dropped; requests under way are cut off then.
#[derive(Debug)]
pub struct RunningLoad {
    stop: Arc<Stop>,
    /// There until it is waited for.
    thread: Option<JoinHandle<usize>>,
}

impl RunningLoad {
    /// Sends no more; what is under way goes on to its end.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Requests that are due and wait for a free connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.stop.due.load(Ordering::Relaxed)
    }

    /// Whether all is sent and answered.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all is sent and answered, and says how many requests were due and were not sent, because the run was
    /// stopped while all connections were busy. Blocks the calling thread.
    ///
    /// # Panics
    ///
    /// With the panic of one of the caller's closures.
    #[must_use]
    pub fn finish(mut self) -> usize {
        let outcome = self.join();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn join(&mut self) -> Result<usize, Box<dyn Any + Send>> {
        self.thread.take().map_or(Ok(0), JoinHandle::join)
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.stop.stop();
        self.stop.cut.notify_one();
        drop(self.join());
    }
}

/// The wishes of the caller of the thread, and what it is told.
#[derive(Debug, Default)]
struct Stop {
    stopped: AtomicBool,
    /// Wakes the one task that waits for time to pass.
    told: Notify,
    cut: Notify,
    /// Requests that are due and wait for a connection; told to the caller.
    due: AtomicUsize,
}

impl Stop {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.told.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    async fn cut_off(&self) {
        self.cut.notified().await;
    }
}

/// One request that is to be sent.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    index: u64,
    scheduled: Instant,
    /// The time at which the generator would have sent it, if all connections were busy then.
    delayed: Option<Instant>,
}

/// Hands arrivals to whichever connection is free.
#[derive(Debug)]
struct Source {
    stop: Arc<Stop>,
    due: RefCell<VecDeque<Arrival>>,
    /// One permit for each arrival that is due, and in the end one for each connection, which then finds nothing.
    ready: Semaphore,
    /// Connections that wait for an arrival.
    idle: Cell<usize>,
    /// Requests of a closed loop in all; none where a task says when to send.
    requests_max: Option<u64>,
    /// Number of the next request.
    next: Cell<u64>,
    answered: Cell<u64>,
    all_answered: Notify,
}

impl Source {
    fn new(requests_max: Option<u64>, stop: Arc<Stop>) -> Self {
        Self {
            stop,
            due: RefCell::default(),
            ready: Semaphore::new(0),
            idle: Cell::new(0),
            requests_max,
            next: Cell::new(0),
            answered: Cell::new(0),
            all_answered: Notify::new(),
        }
    }

    async fn next(&self) -> Option<Arrival> {
        match self.requests_max {
            Some(requests_max) => self.next_now(requests_max),
            None => self.next_due().await,
        }
    }

    /// The next arrival by schedule, as soon as it is due.
    async fn next_due(&self) -> Option<Arrival> {
        self.idle.set(self.idle.get() + 1);
        let ready = self.ready.acquire().await;
        self.idle.set(self.idle.get() - 1);
        ready.ok()?.forget();
        if self.stop.is_stopped() {
            return None;
        }
        let arrival = self.due.borrow_mut().pop_front()?;
        self.stop.due.fetch_sub(1, Ordering::Relaxed);
        Some(arrival)
    }

    /// The next of a closed loop: now.
    fn next_now(&self, requests_max: u64) -> Option<Arrival> {
        let index = self.next.get();
        if self.stop.is_stopped() || index == requests_max {
            return None;
        }
        self.next.set(index + 1);
        Some(Arrival {
            index,
            scheduled: Instant::now(),
            delayed: None,
        })
    }

    fn let_in(&self, scheduled: Instant) {
        let index = self.next.replace(self.next.get() + 1);
        let mut due = self.due.borrow_mut();
        let all_busy = due.len() >= self.idle.get();
        due.push_back(Arrival {
            index,
            scheduled,
            delayed: all_busy.then(Instant::now),
        });
        self.stop.due.fetch_add(1, Ordering::Relaxed);
        self.ready.add_permits(1);
    }

    fn count_answer(&self) {
        self.answered.set(self.answered.get() + 1);
        if self.answered == self.next {
            self.all_answered.notify_one();
        }
    }
}

/// Says when requests are sent.
struct Pacer {
    source: Rc<Source>,
    connections: usize,
}

impl Pacer {
    /// By a schedule.
    async fn keep(self, arrivals: impl Iterator<Item = Duration>, timer: Timer) {
        let start = Instant::now();
        let stop = &self.source.stop;
        for (index, at) in (1_u64..).zip(arrivals) {
            let scheduled = start + at;
            if scheduled > Instant::now() {
                tokio::select! {
                    slept = timer.sleep_until(scheduled) => slept.expect("a timer of our own"),
                    () = stop.told.notified() => {}
                }
            } else if index % LATE_ARRIVALS == 0 {
                yield_now().await;
            }
            if stop.is_stopped() {
                break;
            }
            self.source.let_in(scheduled);
        }
        self.source.ready.add_permits(self.connections);
    }

    /// One on each connection, when all before are answered.
    async fn beat(self) {
        while !self.source.stop.is_stopped() {
            let now = Instant::now();
            for _ in 0..self.connections {
                self.source.let_in(now);
            }
            // A connection that is told to stop leaves its arrival unsent, so that not all need be answered.
            tokio::select! {
                () = self.source.all_answered.notified() => {}
                () = self.source.stop.told.notified() => {}
            }
        }
        self.source.ready.add_permits(self.connections);
    }
}

/// One connection at work.
struct Sender {
    connection: usize,
    source: Rc<Source>,
    client: Client,
    bodies: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    on_sample: Arc<dyn Fn(Sample) + Send + Sync>,
}

impl Sender {
    async fn run(mut self) {
        while let Some(arrival) = self.source.next().await {
            let Arrival {
                index, scheduled, ..
            } = arrival;
            let body = (self.bodies)(index);
            let sent = Instant::now();
            let slip = arrival.delayed.unwrap_or(sent);
            let reply = self.client.exchange(&body).await;
            (self.on_sample)(Sample {
                index,
                connection: self.connection,
                scheduled,
                sent,
                slip: slip.saturating_duration_since(scheduled),
                done: Instant::now(),
                reply,
            });
            self.source.count_answer();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::num::NonZeroU32;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;

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
        assert_eq!(load.start().unwrap().finish(), 0);
        check_each_answered_once(&samples, 500);
        assert!(server.connections.load(Ordering::SeqCst) <= 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_closed_loop_sends_exactly_its_count() {
        let server = Server::start(false).await;
        let (load, samples) = server.load(Pace::Closed {
            requests: Some(300),
        });
        assert_eq!(load.start().unwrap().finish(), 0);
        check_each_answered_once(&samples, 300);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_closes_each_connection_costs_no_request() {
        let server = Server::start(true).await;
        let (load, samples) = server.load(Pace::Closed {
            requests: Some(100),
        });
        assert_eq!(load.start().unwrap().finish(), 0);
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
        while run.waiting() < 92 {
            yield_now().await;
        }
        let opened = Instant::now();
        drop(shut);
        _ = run.finish();
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
            summary.p50() >= Duration::from_millis(40),
            "{:?}",
            summary.p50()
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stopped_run_ends_what_is_under_way_and_tells_what_it_did_not_send() {
        let server = Server::start(false).await;
        let shut = Arc::clone(&server.gate).acquire_owned().await.unwrap();
        let per_s = NonZeroU32::new(10_000).unwrap();
        let (load, samples) = server.load(Pace::Open(Box::new(Arrivals::constant(per_s))));
        let run = load.start().unwrap();
        while server.requests.load(Ordering::SeqCst) < 8 || run.waiting() == 0 {
            yield_now().await;
        }
        run.stop();
        drop(shut);
        assert!(run.finish() > 0);
        check_each_answered_once(&samples, 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_that_does_not_come_is_a_failure_and_the_next_is_tried_anew() {
        let server = Server::start(false).await;
        let shut = Arc::clone(&server.gate).acquire_owned().await.unwrap();
        let (mut load, samples) = server.load(Pace::Closed { requests: Some(2) });
        load.connections = 1;
        load.timeout = Duration::from_millis(20);
        _ = load.start().unwrap().finish();
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_server_is_a_failure_of_each_request() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut server = Server::start(false).await;
        server.address = listener.local_addr().unwrap();
        drop(listener);
        let (load, samples) = server.load(Pace::Closed { requests: Some(3) });
        _ = load.start().unwrap().finish();
        let samples = samples.lock().unwrap();
        assert!(
            samples
                .iter()
                .all(|sample| matches!(sample.reply, Err(LoadError::Connect { .. })))
        );
        assert_eq!(samples.len(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_that_go_together_begin_together_and_wait_for_the_last() {
        let server = Server::start(false).await;
        let (load, samples) = server.load(Pace::Together);
        let run = load.start().unwrap();
        while server.requests.load(Ordering::SeqCst) < 80 {
            yield_now().await;
        }
        run.stop();
        _ = run.finish();
        let mut samples = std::mem::take(&mut *samples.lock().unwrap());
        samples.sort_by_key(|sample| sample.index);
        assert!(samples.len() >= 80);
        // All groups are whole but the last: of that one the stop may have left some unsent.
        let groups: Vec<_> = samples.chunks(8).collect();
        for group in &groups {
            assert!(group.iter().all(|one| one.scheduled == group[0].scheduled));
        }
        for pair in groups.windows(2) {
            let last = pair[0].iter().map(|one| one.done).max().unwrap();
            assert!(pair[1][0].scheduled >= last);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_that_is_dropped_cuts_off_what_is_under_way() {
        let server = Server::start(false).await;
        let _shut = Arc::clone(&server.gate).acquire_owned().await.unwrap();
        let (load, samples) = server.load(Pace::Closed { requests: None });
        let run = load.start().unwrap();
        while server.requests.load(Ordering::SeqCst) < 8 {
            yield_now().await;
        }
        drop(run);
        assert!(samples.lock().unwrap().is_empty());
    }
}

//! A steady stream of real requests: rows that neither version was trained on, sent by the clock whether or not earlier
//! ones were answered, each answer checked against the truth.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cli::exit::CliError;
use crate::spec::EndpointName;

/// Connections in parallel. A request waits for one when all are busy, and the wait counts as latency. Blue begins with 3
/// instances of 1 request at a time, so it holds 2 x 3 requests before it sheds: a machine that stalls for a moment makes
/// this client late, not refused.
const CONNECTIONS: usize = 6;

/// One request and the digit that is the right answer.
#[derive(Debug, Clone)]
pub(super) struct Row {
    body: Bytes,
    digit: u64,
}

/// What was seen of one deployment.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    latency_us: Histogram<u64>,
    right: u64,
}

/// What was seen of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    deployments: BTreeMap<String, Seen>,
    failures: u64,
    first_failure: Option<String>,
}

/// The stream. It ends when it is told to, or with the value.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    path: String,
    bearer: String,
    rows: Vec<Row>,
    interval: Duration,
    next: AtomicU64,
    ended: AtomicBool,
    tally: Mutex<Tally>,
}

impl Row {
    /// Reads a line of the held-out data: a request, and beside it the label.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let body = json!({ "data": value.get("data")? });
        Some(Self {
            body: body.to_string().into(),
            digit: value.get("label")?.as_u64()?,
        })
    }

    fn is_right(&self, answer: &[u8]) -> Option<bool> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        Some(answer.get("label")?.get(0)?.as_u64()? == self.digit)
    }
}

impl Seen {
    fn new() -> Self {
        Self {
            latency_us: Histogram::new(3).expect("three digits are within what the crate offers"),
            right: 0,
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.latency_us.len()
    }

    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency_us.value_at_quantile(quantile))
    }

    /// Right answers of all answers, from 0 to 1.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a demo are far below 2^52"
    )]
    pub(super) fn accuracy(&self) -> f64 {
        self.right as f64 / self.requests().max(1) as f64
    }
}

impl Tally {
    pub(super) fn deployments(&self) -> impl Iterator<Item = (&str, &Seen)> {
        self.deployments
            .iter()
            .map(|(name, seen)| (name.as_str(), seen))
    }

    /// All requests, those that failed included.
    pub(super) fn requests(&self) -> u64 {
        self.deployments.values().map(Seen::requests).sum::<u64>() + self.failures
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, seen) in &other.deployments {
            let sum = self
                .deployments
                .entry(name.clone())
                .or_insert_with(Seen::new);
            sum.latency_us
                .add(&seen.latency_us)
                .expect("histograms that grow take every value");
            sum.right += seen.right;
        }
        self.failures += other.failures;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }

    fn answered(&mut self, deployment: &str, latency: Duration, right: bool) {
        let seen = match self.deployments.get_mut(deployment) {
            Some(seen) => seen,
            None => self
                .deployments
                .entry(deployment.to_owned())
                .or_insert_with(Seen::new),
        };
        seen.latency_us
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        seen.right += u64::from(right);
    }

    fn failed(&mut self, why: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(why);
    }
}

impl Stream {
    /// Starts to send `rate` requests a second, on a thread of its own.
    pub(super) fn start(
        address: SocketAddr,
        endpoint: &EndpointName,
        bearer: &str,
        rows: Vec<Row>,
        rate: u32,
    ) -> Result<Self, CliError> {
        let shared = Arc::new(Shared {
            address,
            path: format!("/endpoints/{endpoint}/score"),
            bearer: format!("Bearer {bearer}"),
            rows,
            interval: Duration::from_secs(1) / rate,
            next: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            tally: Mutex::new(Tally::default()),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(CliError::Start)?;
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("traffic".to_owned())
            .spawn(move || runtime.block_on(send_all(&worker)))
            .map_err(CliError::Start)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What was seen since the last [`take`](Self::take).
    pub(super) fn peek(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// What was seen since the last time; the next one starts from zero.
    pub(super) fn take(&self) -> Tally {
        std::mem::take(&mut *self.shared.tally())
    }

    /// Ends the stream once every request that was sent has its answer.
    pub(super) fn stop(mut self) -> Tally {
        self.end();
        self.take()
    }

    fn end(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.shared
                .tally()
                .failed("the sender of requests panicked".to_owned());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Numbers are whole after each line that changes them, a panic elsewhere included.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send_all(shared: &Arc<Shared>) {
    let begin = Instant::now();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(send_some(Arc::clone(shared), begin)))
        .collect();
    for sender in senders {
        if sender.await.is_err() {
            shared
                .tally()
                .failed("a sender of requests panicked".to_owned());
        }
    }
}

/// Takes the next request of the schedule, waits for its time, sends it, and so on.
async fn send_some(shared: Arc<Shared>, begin: Instant) {
    let mut connection = None;
    loop {
        let ticket = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = begin + shared.interval.mul_f64(small(ticket));
        // A request that had to wait for a connection is late by that much. Timers go by the millisecond: a request that
        // was in time counts from when it is really sent.
        let from = if due > Instant::now() {
            tokio::time::sleep_until(due).await;
            Instant::now()
        } else {
            due
        };
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Some(row) = row_of(&shared.rows, ticket) else {
            return;
        };
        match send(&shared, row, &mut connection).await {
            Ok((deployment, right)) => shared.tally().answered(&deployment, from.elapsed(), right),
            Err(why) => {
                connection = None;
                shared.tally().failed(why);
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "tickets of a demo are far below 2^52"
)]
fn small(ticket: u64) -> f64 {
    ticket as f64
}

fn row_of(rows: &[Row], ticket: u64) -> Option<&Row> {
    let count = u64::try_from(rows.len()).ok()?;
    rows.get(usize::try_from(ticket.checked_rem(count)?).ok()?)
}

/// Sends one request over the connection, or a new one; who answered, and whether rightly.
async fn send(
    shared: &Shared,
    row: &Row,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
) -> Result<(String, bool), String> {
    let sender = match connection {
        Some(sender) => sender,
        None => connection.insert(connect(shared.address).await.map_err(|e| e.to_string())?),
    };
    let request = Request::post(&shared.path)
        .header("host", shared.address.to_string())
        .header("authorization", &shared.bearer)
        .header("content-type", "application/json")
        .body(Full::new(row.body.clone()))
        .map_err(|e| e.to_string())?;
    sender.ready().await.map_err(|e| e.to_string())?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    if !head.status.is_success() {
        return Err(format!(
            "{}: {}",
            head.status,
            String::from_utf8_lossy(&body)
        ));
    }
    let deployment = head
        .headers
        .get("azureml-model-deployment")
        .and_then(|name| name.to_str().ok())
        .ok_or("the answer does not name its deployment")?;
    let right = row.is_right(&body).ok_or("the answer has no label")?;
    Ok((deployment.to_owned(), right))
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, io::Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends by itself when the sender is dropped or the server closes.
    drop(tokio::spawn(connection));
    Ok(sender)
}

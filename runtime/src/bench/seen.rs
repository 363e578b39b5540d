//! The requests of a block, and what came of them. Pure.
//!
//! The first quarter of a block does not count: the load has just begun, and a queue is not yet what it will be. In a closed loop a
//! connection counts from its first answer after that to its first answer after the end of the block, in whole cycles of a request
//! and its answer. Both ends are by the same rule, so that the sum of cycles is to their time what it is in the long run, whatever
//! the service times are: to cut the last request off, or to count it in and not its time, is won by a shape of them. In an open loop
//! the requests count that were due after that.
//!
//! Not here: how they are sent (`block`), what is made of the numbers (`figures`).

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::load::{LoadError, Reply, Sample, Summary};

/// Share of a block that is left out at its beginning.
const LEFT_OUT: f64 = 0.25;

/// The outcome of a block.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// The time that counts: in a closed loop of all connections by their number, in an open loop that of the schedule.
    pub(super) elapsed: Duration,
    /// All of it, with what is left out.
    pub(super) took: Duration,
    /// Requests a second, in an open loop.
    pub(super) rate: Option<NonZeroU32>,
    pub(super) seen: Seen,
    /// Requests that were due and were never sent.
    pub(super) unsent: usize,
    /// Processor time of the server.
    pub(super) cpu: Option<Duration>,
    /// Processor time of this process.
    pub(super) own_cpu: Option<Duration>,
    pub(super) peak_rss_mb: Option<f64>,
}

/// The time that counts, and the kind of load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    from: Instant,
    to: Instant,
    /// Of a closed loop: what goes on by itself, a connection or all together. None in an open loop.
    streams: Option<usize>,
    /// Requests of a query.
    per_query: u64,
}

/// The requests of a block that count.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Of requests, or of queries of several requests.
    pub(super) latencies: Summary,
    pub(super) slips: Summary,
    pub(super) answers: u64,
    pub(super) failures: u64,
    pub(super) refused: u64,
    /// All answers, those that do not count too: what the server worked for.
    pub(super) served: u64,
    /// The first failure, in words.
    pub(super) first_failure: Option<String>,
    /// Of an open loop.
    pub(super) open: Option<OpenSeen>,
    streams: Vec<Stream>,
    /// The query that is under way, of several requests.
    query: Query,
}

/// The course of an open loop.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OpenSeen {
    /// Answers with 2xx within the time that counts, whenever they were due.
    pub(super) answers: u64,
    /// Answers of any kind, likewise.
    pub(super) replies: u64,
    /// Sums of latencies in seconds, and requests: due in the first half of that time, and in the second.
    pub(super) halves: [(f64, u64); 2],
    /// The shortest latency.
    pub(super) shortest: Option<Duration>,
}

/// What goes on by itself in a closed loop.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    /// The first answer that is not left out, and the last one so far.
    span: Option<(Instant, Instant)>,
    /// All that counts is there.
    has_ended: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Query {
    requests: u64,
    answers: u64,
    refused: u64,
    latency: Duration,
}

impl Window {
    pub(super) fn closed(start: Instant, length: Duration, streams: usize, per_query: u64) -> Self {
        Self {
            streams: Some(streams),
            per_query,
            ..Self::open(start, length)
        }
    }

    pub(super) fn open(start: Instant, length: Duration) -> Self {
        Self {
            from: start + length.mul_f64(LEFT_OUT),
            to: start + length,
            streams: None,
            per_query: 1,
        }
    }

    pub(super) fn length(&self) -> Duration {
        self.to - self.from
    }
}

impl Seen {
    /// Counts a request.
    pub(super) fn record(&mut self, sample: &Sample, window: &Window) {
        let ok = sample.is_ok();
        self.served += u64::from(ok);
        if !ok {
            self.first_failure
                .get_or_insert_with(|| told(&sample.reply));
        }
        let query = &mut self.query;
        query.requests += 1;
        query.answers += u64::from(ok);
        query.refused += u64::from(is_full(&sample.reply));
        query.latency = query.latency.max(sample.latency());
        if query.requests < window.per_query {
            return;
        }
        let query = std::mem::take(query);
        let counts = match window.streams {
            Some(streams) => {
                self.streams.resize(streams, Stream::default());
                // Queries of several requests are one stream.
                self.streams[sample.connection % streams].counts(sample.done, window)
            }
            None => {
                let open = self.open.get_or_insert_default();
                open.record(sample, window);
                sample.scheduled >= window.from
            }
        };
        if counts {
            self.answers += query.answers;
            self.failures += query.requests - query.answers;
            self.refused += query.refused;
            self.slips.record_latency(sample.slip, true);
            self.latencies
                .record_latency(query.latency, query.answers == query.requests);
        }
    }

    /// Whether every connection of a closed loop has had its first answer after the end.
    pub(super) fn has_ended(&self) -> bool {
        !self.streams.is_empty() && self.streams.iter().all(|stream| stream.has_ended)
    }

    /// The time of all cycles of a closed loop, by the number of what went on by itself.
    pub(super) fn cycles(&self) -> Duration {
        let time = |stream: &Stream| stream.span.map_or(Duration::ZERO, |(from, to)| to - from);
        let streams = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        self.streams.iter().map(time).sum::<Duration>() / streams.max(1)
    }
}

impl Stream {
    /// Whether a cycle that ends with this answer counts.
    fn counts(&mut self, done: Instant, window: &Window) -> bool {
        if self.has_ended || done < window.from {
            return false;
        }
        let Some((_, last)) = &mut self.span else {
            self.span = Some((done, done));
            return false;
        };
        *last = done;
        // A request that is longer than the block is measured once.
        self.has_ended = done >= window.to;
        true
    }
}

impl OpenSeen {
    fn record(&mut self, sample: &Sample, window: &Window) {
        if sample.done >= window.from && sample.done < window.to {
            self.answers += u64::from(sample.is_ok());
            self.replies += 1;
        }
        if sample.scheduled >= window.from {
            let middle = window.from + window.length() / 2;
            let latency = sample.latency();
            let (sum, count) = &mut self.halves[usize::from(sample.scheduled >= middle)];
            *sum += latency.as_secs_f64();
            *count += 1;
            let shortest = self.shortest.unwrap_or(latency);
            self.shortest = Some(shortest.min(latency));
        }
    }
}

/// Whether the server takes no more requests for now.
pub(super) fn is_full(reply: &Result<Reply, LoadError>) -> bool {
    reply.as_ref().is_ok_and(|reply| reply.status == 429)
}

/// The words for what came instead of an answer.
pub(super) fn told(reply: &Result<Reply, LoadError>) -> String {
    /// As much of a body as a message shows.
    const SHOWN: usize = 300;
    match reply {
        Ok(reply) => {
            let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(SHOWN)]);
            format!("status {}: {}", reply.status, body.trim())
        }
        Err(error) => error.words(),
    }
}

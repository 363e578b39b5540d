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

use crate::bench::ledger::Times;
use crate::load::{LoadError, Reply, Sample, Summary};

/// Share of a block that is left out at its beginning.
pub(super) const LEFT_OUT: f64 = 0.25;

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
    /// Requests of an open loop that are left out: by number, so that both blocks of a pair have the same, whenever they began.
    left_out: u64,
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
    /// All failures, those that do not count too: a version that fails does so at any time.
    pub(super) failed: u64,
    /// Of them those that the server refused because it was full.
    pub(super) full: u64,
    /// Of each input, in the order in which they are dealt.
    pub(super) inputs: Vec<Times>,
    /// Inputs that there are.
    inputs_count: usize,
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
            ..Self::open(start, length, 0)
        }
    }

    pub(super) fn open(start: Instant, length: Duration, left_out: u64) -> Self {
        Self {
            from: start + length.mul_f64(LEFT_OUT),
            to: start + length,
            streams: None,
            per_query: 1,
            left_out,
        }
    }

    pub(super) fn length(&self) -> Duration {
        self.to - self.from
    }
}

impl Seen {
    /// Of nothing yet, where there are so many inputs.
    pub(super) fn of_inputs(count: usize) -> Self {
        Self {
            inputs_count: count,
            ..Self::default()
        }
    }

    /// Counts a request.
    pub(super) fn record(&mut self, sample: &Sample, window: &Window) {
        let ok = sample.is_ok();
        self.served += u64::from(ok);
        self.record_input(sample, ok, window);
        if !ok {
            self.failed += 1;
            self.full += u64::from(is_full(&sample.reply));
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
                sample.index >= window.left_out
            }
        };
        if counts {
            self.answers += query.answers;
            self.failures += query.requests - query.answers;
            self.refused += query.refused;
            self.slips.record_latency(sample.slip, true);
            match query.answers == query.requests {
                true => self.latencies.record_latency(query.latency, true),
                // How soon a server fails is no latency of an answer.
                false => self.latencies.record_endless(),
            }
        }
    }

    /// An input is loaded whenever it is sent; its time counts after what is left out.
    fn record_input(&mut self, sample: &Sample, ok: bool, window: &Window) {
        if self.inputs_count == 0 {
            return;
        }
        let place = sample.index % self.inputs_count as u64;
        let place = usize::try_from(place).expect("below the number of inputs");
        if self.inputs.len() <= place {
            self.inputs.resize(place + 1, Times::default());
        }
        let counts = ok && sample.scheduled >= window.from;
        self.inputs[place].record(sample.latency(), counts);
    }

    /// Requests that were sent, those that do not count too.
    pub(super) fn sent(&self) -> u64 {
        self.served + self.failed
    }

    /// Requests that count.
    pub(super) fn counted(&self) -> u64 {
        self.answers + self.failures
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
        if sample.index >= window.left_out {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A request that was answered, by the milliseconds from the start at which it was due and done.
    fn sample(start: Instant, connection: usize, due: u64, done: u64) -> Sample {
        let at = |ms| start + Duration::from_millis(ms);
        Sample {
            index: 0,
            connection,
            scheduled: at(due),
            sent: at(due),
            slip: Duration::ZERO,
            done: at(done),
            reply: Ok(Reply {
                status: 200,
                deployment: None,
                body: Bytes::new(),
            }),
        }
    }

    /// The requests of connections that send the next when the last is answered, by the times of the answers; in any order.
    fn closed(length: u64, connections: &[&[u64]]) -> Seen {
        let start = Instant::now();
        let window = Window::closed(start, Duration::from_millis(length), connections.len(), 1);
        let mut seen = Seen::default();
        for (connection, times) in connections.iter().enumerate() {
            let mut due = 0;
            for done in *times {
                seen.record(&sample(start, connection, due, *done), &window);
                due = *done;
            }
        }
        seen
    }

    #[test]
    fn a_connection_counts_from_its_first_answer_after_a_quarter_to_its_first_after_the_end() {
        // Of 100 ms, 25 are left out: from 30 to 110, and what comes after is not of the block.
        let seen = closed(100, &[&[10, 30, 50, 110, 120]]);
        assert_eq!((seen.answers, seen.served), (2, 5));
        assert_eq!(seen.cycles(), Duration::from_millis(80));
        assert_eq!(seen.latencies.count(), 2);
        assert!(seen.latencies.max() >= Duration::from_millis(60));
    }

    #[test]
    fn the_time_of_a_closed_loop_is_the_mean_of_its_connections() {
        let seen = closed(100, &[&[30, 50, 110], &[40, 100]]);
        assert_eq!(seen.answers, 3);
        assert_eq!(seen.cycles(), Duration::from_millis(70));
    }

    #[test]
    fn a_block_has_ended_when_each_connection_had_an_answer_after_its_end() {
        assert!(!closed(100, &[]).has_ended());
        assert!(!closed(100, &[&[30, 99], &[40, 100]]).has_ended());
        assert!(closed(100, &[&[30, 100], &[40, 100]]).has_ended());
    }

    #[test]
    fn a_request_that_is_longer_than_the_block_is_measured_once() {
        let seen = closed(100, &[&[400]]);
        assert!(!seen.has_ended() && seen.cycles().is_zero());
        let seen = closed(100, &[&[400, 900, 1300]]);
        assert!(seen.has_ended());
        assert_eq!(
            (seen.answers, seen.cycles()),
            (1, Duration::from_millis(500))
        );
    }

    #[test]
    fn an_answer_that_is_no_2xx_ends_a_cycle_and_is_no_answer() {
        let start = Instant::now();
        let window = Window::closed(start, Duration::from_millis(100), 1, 1);
        let mut seen = Seen::default();
        for (due, done, status) in [(0, 30, 200), (30, 60, 429), (60, 100, 200)] {
            let mut sample = sample(start, 0, due, done);
            if let Ok(reply) = &mut sample.reply {
                reply.status = status;
            }
            seen.record(&sample, &window);
        }
        assert_eq!((seen.answers, seen.failures, seen.refused), (1, 1, 1));
        assert_eq!(seen.cycles(), Duration::from_millis(70));
    }

    #[test]
    fn a_failure_has_no_end_and_is_one_whenever_it_comes() {
        let start = Instant::now();
        let window = Window::closed(start, Duration::from_millis(100), 1, 1);
        let mut seen = Seen::of_inputs(4);
        let all = [
            (0, 10, 500),
            (10, 30, 429),
            (30, 60, 500),
            (60, 110, 200),
            (110, 120, 429),
        ];
        for (index, (due, done, status)) in (0..).zip(all) {
            let mut sample = sample(start, 0, due, done);
            sample.index = index;
            if let Ok(reply) = &mut sample.reply {
                reply.status = status;
            }
            seen.record(&sample, &window);
        }
        assert_eq!((seen.answers, seen.failures, seen.refused), (1, 1, 0));
        assert_eq!((seen.sent(), seen.failed, seen.full), (5, 4, 2));
        assert_eq!((seen.latencies.count(), seen.latencies.ended()), (2, 1));
        assert_eq!(seen.latencies.p99(), Duration::MAX);
        assert_eq!((seen.counted(), seen.inputs.len()), (2, 4));
    }

    #[test]
    fn a_query_of_several_requests_is_one_cycle() {
        let start = Instant::now();
        let window = Window::closed(start, Duration::from_millis(100), 1, 2);
        let mut seen = Seen::default();
        for (connection, due, done) in [(0, 0, 20), (1, 0, 30), (1, 30, 90), (0, 30, 130)] {
            seen.record(&sample(start, connection, due, done), &window);
        }
        assert!(seen.has_ended());
        assert_eq!((seen.answers, seen.latencies.count()), (2, 1));
        assert_eq!(seen.cycles(), Duration::from_millis(100));
    }

    #[test]
    fn an_open_loop_counts_what_was_due_and_apart_from_it_what_came() {
        let start = Instant::now();
        let window = Window::open(start, Duration::from_millis(100), 2);
        let mut seen = Seen::default();
        let times = [(10, 20), (20, 40), (30, 50), (60, 70), (90, 140)];
        for (index, (due, done)) in (0..).zip(times) {
            let sample = sample(start, 0, due, done);
            seen.record(&Sample { index, ..sample }, &window);
        }
        let open = seen.open.unwrap();
        assert_eq!(
            (seen.answers, seen.latencies.count(), seen.served),
            (3, 3, 5)
        );
        // The one that came after what is left out, and not the one that came after the end.
        assert_eq!((open.answers, open.replies), (3, 3));
        assert_eq!(open.halves.map(|(_, count)| count), [2, 1]);
        assert!((open.halves[1].0 - 0.05).abs() < 1e-9);
        assert_eq!(open.shortest, Some(Duration::from_millis(10)));
    }
}

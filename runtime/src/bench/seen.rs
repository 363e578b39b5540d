//! The requests of a block, and what came of them. Pure.
//!
//! Not here: how they are sent (`block`), what is made of the numbers (`figures`).

use std::time::{Duration, Instant};

use crate::bench::ledger::Times;
use crate::load::{LoadError, Reply, Sample, Summary};

/// The outcome of a block.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// From the first request to the last answer that counts; in an open loop at least to the end of its schedule.
    pub(super) elapsed: Duration,
    pub(super) seen: Seen,
    /// Requests that were due and were never sent.
    pub(super) unsent: usize,
    /// Processor time of the server.
    pub(super) cpu: Option<Duration>,
    /// Processor time of this process.
    pub(super) own_cpu: Option<Duration>,
    pub(super) peak_rss_mb: Option<f64>,
}

/// The requests of a block, counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Of requests, or of queries of several requests.
    pub(super) latencies: Summary,
    pub(super) slips: Summary,
    pub(super) answers: u64,
    pub(super) failures: u64,
    pub(super) refused: u64,
    /// Answers after the end too: what the server worked for.
    pub(super) served: u64,
    /// The first failure, in words.
    pub(super) first_failure: Option<String>,
    /// The times when the first request was due and when the last answer came.
    pub(super) span: Option<(Instant, Instant)>,
    /// Of each input, in the order in which they are dealt.
    pub(super) inputs: Vec<Times>,
    /// Inputs that there are.
    inputs_count: usize,
    /// The query that is under way, of several requests.
    query: Option<Query>,
}

#[derive(Debug, Clone, Copy)]
struct Query {
    answered: u64,
    latency: Duration,
    ok: bool,
}

impl Seen {
    /// Of nothing yet, where there are so many inputs.
    pub(super) fn of_inputs(count: usize) -> Self {
        Self {
            inputs_count: count,
            ..Self::default()
        }
    }

    /// Counts a request; answers after `until` are not of the block.
    pub(super) fn record(&mut self, sample: &Sample, per_query: u64, until: Option<Instant>) {
        let ok = sample.is_ok();
        self.served += u64::from(ok);
        if until.is_none_or(|until| sample.done <= until) {
            self.answers += u64::from(ok);
            let first = self.span.map_or(sample.scheduled, |(first, _)| first);
            self.span = Some((first.min(sample.scheduled), sample.done));
        }
        self.slips.record_latency(sample.slip, true);
        self.record_input(sample, ok);
        if !ok {
            self.failures += 1;
            self.refused += u64::from(is_full(&sample.reply));
            self.first_failure
                .get_or_insert_with(|| told(&sample.reply));
        }
        let query = self.query.get_or_insert(Query {
            answered: 0,
            latency: Duration::ZERO,
            ok: true,
        });
        query.answered += 1;
        query.latency = query.latency.max(sample.latency());
        query.ok &= ok;
        if query.answered == per_query {
            match query.ok {
                true => self.latencies.record_latency(query.latency, true),
                // How soon a server fails is no latency of an answer.
                false => self.latencies.record_endless(),
            }
            self.query = None;
        }
    }

    fn record_input(&mut self, sample: &Sample, ok: bool) {
        if self.inputs_count == 0 {
            return;
        }
        let place = sample.index % self.inputs_count as u64;
        let place = usize::try_from(place).expect("below the number of inputs");
        if self.inputs.len() <= place {
            self.inputs.resize(place + 1, Times::default());
        }
        self.inputs[place].record(sample.latency(), ok);
    }

    /// Requests that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.served + self.failures
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

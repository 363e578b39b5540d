//! A steady stream of real requests: rows that neither version was trained on, sent by the clock whether or not earlier
//! ones were answered, each answer checked against the truth.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::cli::exit::CliError;
use crate::load::{Arrivals, Load, LoadError, Pace, RunningLoad, Sample, Summary, Target};
use crate::spec::EndpointName;

/// Connections in parallel. A request waits for one when all are busy, and the wait counts as latency. Blue begins with 3
/// instances of 1 request at a time, so it holds 2 x 3 requests before it sheds: a machine that stalls for a moment makes
/// this client late, not refused.
const CONNECTIONS: usize = 6;

/// Longest that a request may take; far more than the deployments allow themselves.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One request and the digit that is the right answer.
#[derive(Debug, Clone)]
pub(super) struct Row {
    body: Bytes,
    digit: u64,
}

/// The answers of one deployment so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    latencies: Summary,
    right: u64,
    failures: u64,
}

/// The answers of all deployments so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    deployments: BTreeMap<String, Seen>,
    failures: u64,
    first_failure: Option<String>,
}

/// The stream. It ends when it is told to, or with the value.
#[derive(Debug)]
pub(super) struct Stream {
    tally: Arc<Mutex<Tally>>,
    load: RunningLoad,
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
    pub(super) fn requests(&self) -> u64 {
        self.latencies.count()
    }

    pub(super) fn p50(&self) -> Duration {
        self.latencies.p50()
    }

    pub(super) fn p99(&self) -> Duration {
        self.latencies.p99()
    }

    /// Requests that it failed, beside those that it answered.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Right answers of all answers, from 0 to 1.
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

    /// The failures that are not of this deployment.
    pub(super) fn failures_beside(&self, deployment: &str) -> u64 {
        let of_it = self.deployments.get(deployment).map_or(0, Seen::failures);
        self.failures - of_it
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, seen) in &other.deployments {
            let sum = self.deployments.entry(name.clone()).or_default();
            sum.latencies.add(&seen.latencies);
            sum.right += seen.right;
            sum.failures += seen.failures;
        }
        self.failures += other.failures;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }

    /// Counts a request; `row` is the one that was sent.
    fn record(&mut self, sample: &Sample, row: &Row) {
        match judge(sample, row) {
            Ok((deployment, right)) => {
                let seen = self.deployments.entry(deployment).or_default();
                seen.latencies.record(sample);
                seen.right += u64::from(right);
            }
            Err(why) => {
                self.failures += 1;
                if let Some(deployment) = named(sample) {
                    let seen = self.deployments.entry(deployment).or_default();
                    seen.failures += 1;
                }
                self.first_failure.get_or_insert(why);
            }
        }
    }
}

/// The deployment that a reply names, an error too.
fn named(sample: &Sample) -> Option<String> {
    sample.reply.as_ref().ok()?.deployment.clone()
}

/// The deployment that answered, and whether rightly; or the reason why it is a failure.
fn judge(sample: &Sample, row: &Row) -> Result<(String, bool), String> {
    let reply = sample.reply.as_ref().map_err(LoadError::words)?;
    if !sample.is_ok() {
        let said = String::from_utf8_lossy(&reply.body);
        return Err(format!("{}: {said}", reply.status));
    }
    let deployment = reply
        .deployment
        .clone()
        .ok_or("the answer does not name its deployment")?;
    let right = row.is_right(&reply.body).ok_or("the answer has no label")?;
    Ok((deployment, right))
}

impl Stream {
    /// Starts to send `per_s` requests a second to `endpoint`, one row after the other, on a thread of its own.
    pub(super) fn start(
        address: SocketAddr,
        endpoint: &EndpointName,
        bearer: &str,
        rows: Vec<Row>,
        per_s: NonZeroU32,
    ) -> Result<Self, CliError> {
        let target = Target::new(address, &format!("/endpoints/{endpoint}/score"))
            .and_then(|target| target.with_bearer(bearer))
            .map_err(|e| CliError::Demo(e.to_string()))?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let seen = Arc::clone(&tally);
        let rows: Arc<[Row]> = rows.into();
        let sent = Arc::clone(&rows);
        let load = Load {
            target,
            connections: CONNECTIONS,
            timeout: TIMEOUT,
            pace: Pace::Open(Box::new(Arrivals::constant(per_s))),
            bodies: Arc::new(move |index| row_of(&sent, index).body.clone()),
            on_sample: Arc::new(move |sample| {
                lock(&seen).record(&sample, row_of(&rows, sample.index));
            }),
        };
        let load = load.start().map_err(CliError::Start)?;
        Ok(Self { tally, load })
    }

    /// Everything seen since the last [`take`](Self::take).
    pub(super) fn peek(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Everything seen since the last time; the next one starts from zero.
    pub(super) fn take(&self) -> Tally {
        std::mem::take(&mut *lock(&self.tally))
    }

    /// Ends the stream once every request that was sent has its answer.
    pub(super) fn stop(self) -> Tally {
        self.load.stop();
        // Requests that were due and not sent are nobody's: the stream ends in the midst of them.
        let _unsent = self.load.finish();
        std::mem::take(&mut *lock(&self.tally))
    }
}

/// The rows go round.
fn row_of(rows: &[Row], index: u64) -> &Row {
    let index = index % rows.len() as u64;
    &rows[usize::try_from(index).expect("below the number of rows")]
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    // Numbers are whole after each line that changes them, a panic elsewhere included.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::load::Reply;

    fn sample(reply: Result<Reply, LoadError>) -> Sample {
        let now = Instant::now();
        Sample {
            index: 0,
            connection: 0,
            scheduled: now,
            sent: now,
            slip: Duration::ZERO,
            done: now + Duration::from_millis(2),
            reply,
        }
    }

    fn reply(status: u16, deployment: Option<&str>, body: &'static str) -> Sample {
        sample(Ok(Reply {
            status,
            deployment: deployment.map(str::to_owned),
            body: Bytes::from_static(body.as_bytes()),
        }))
    }

    #[track_caller]
    fn check_failure(sample: &Sample, why: &str) {
        let row = Row::parse(r#"{"data": [[0]], "label": 7}"#).unwrap();
        let mut tally = Tally::default();
        tally.record(sample, &row);
        assert_eq!((tally.requests(), tally.failures()), (1, 1));
        assert_eq!(tally.first_failure(), Some(why));
    }

    #[test]
    fn answers_count_for_their_deployment_and_against_the_truth() {
        let row = Row::parse(r#"{"data": [[0]], "label": 7}"#).unwrap();
        let (mut first, mut second) = (Tally::default(), Tally::default());
        first.record(&reply(200, Some("blue"), r#"{"label": [7]}"#), &row);
        second.record(&reply(200, Some("blue"), r#"{"label": [1]}"#), &row);
        second.record(&reply(200, Some("green"), r#"{"label": [7]}"#), &row);
        first.add(&second);
        let seen: Vec<_> = first
            .deployments()
            .map(|(name, seen)| (name, seen.requests(), seen.right, seen.p50().as_millis()))
            .collect();
        assert_eq!(seen, [("blue", 2, 1, 2), ("green", 1, 1, 2)]);
        assert_eq!((first.requests(), first.failures()), (3, 0));
    }

    #[test]
    fn a_failure_is_of_the_deployment_that_it_names() {
        let row = Row::parse(r#"{"data": [[0]], "label": 7}"#).unwrap();
        let (mut first, mut second) = (Tally::default(), Tally::default());
        first.record(&reply(500, Some("green"), "broken"), &row);
        second.record(&reply(500, Some("green"), "broken"), &row);
        second.record(&reply(500, Some("blue"), "broken"), &row);
        second.record(&reply(429, None, "too many"), &row);
        first.add(&second);
        assert_eq!((first.requests(), first.failures()), (4, 4));
        let beside = ["green", "blue", "red"].map(|name| first.failures_beside(name));
        assert_eq!(beside, [2, 3, 4]);
    }

    #[test]
    fn all_else_is_a_failure_with_its_reason() {
        check_failure(&reply(429, None, "too many"), "429: too many");
        check_failure(
            &reply(200, None, r#"{"label": [7]}"#),
            "the answer does not name its deployment",
        );
        check_failure(&reply(200, Some("blue"), "{}"), "the answer has no label");
        check_failure(
            &sample(Err(LoadError::Timeout(TIMEOUT))),
            "no answer within 30s",
        );
    }
}

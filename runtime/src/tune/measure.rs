//! One setting under load: so many clients, each of which sends its next request when it has the last answer.
//!
//! The clients are tasks on threads of the edge's kind and score through the same router as the server's, so the hand-off to the
//! lanes is part of what is measured; sockets are not.
//!
//! Threads: the caller's waits, those of `edge` send.
//! Not here: which settings, and for how long (`run`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::embedded::{Endpoint, Request, ScoreError};
use crate::tune::choice::Repetition;
use crate::tune::edge::Edge;

/// Part of a window before it, in which the clients come into step and nothing counts.
const WARM_UP_SHARE: u32 = 4;

/// An amount of load, and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Clients, each with one request at a time.
    pub(super) clients: u32,
    /// The time in which answers are counted; longer until there are as many as clients.
    pub(super) time: Duration,
}

/// The state that the clients of one window share.
#[derive(Debug)]
struct Common {
    endpoint: Arc<Endpoint>,
    body: Bytes,
    begin: Instant,
    end: Instant,
    answers_min: usize,
    seen: Mutex<Seen>,
    over: Notify,
}

/// Answers within the window.
#[derive(Debug, Default)]
struct Seen {
    latencies: Vec<Duration>,
    last: Option<Instant>,
}

/// Measures once, at most until `cut` ends. None when that came before there was enough to tell.
///
/// # Errors
///
/// The first request that was not served.
pub(super) async fn measure(
    edge: &Edge,
    endpoint: &Arc<Endpoint>,
    body: &Bytes,
    window: Window,
    cut: impl Future<Output = ()>,
) -> Result<Option<Repetition>, ScoreError> {
    let begin = Instant::now() + window.time / WARM_UP_SHARE;
    let common = Arc::new(Common {
        endpoint: Arc::clone(endpoint),
        body: body.clone(),
        begin,
        end: begin + window.time,
        answers_min: usize::try_from(window.clients).unwrap_or(usize::MAX),
        seen: Mutex::default(),
        over: Notify::new(),
    });
    let mut clients = JoinSet::new();
    for (_, handle) in (0..window.clients).zip(edge.handles()) {
        clients.spawn_on(client(Arc::clone(&common)), handle);
    }
    let failed = async {
        // Clients end only when one fails; one that panicked has its panic in the log.
        while let Some(joined) = clients.join_next().await {
            if let Ok(error) = joined {
                return error;
            }
        }
        std::future::pending().await
    };
    let failed = tokio::select! {
        () = common.over.notified() => None,
        () = cut => None,
        error = failed => Some(error),
    };
    // What is under way is given up, so that the next setting has the cores.
    clients.shutdown().await;
    if let Some(error) = failed {
        return Err(error);
    }
    let seen = std::mem::take(&mut *lock(&common.seen));
    let enough = seen.latencies.len() >= common.answers_min;
    Ok(seen
        .last
        .filter(|_| enough)
        .and_then(|last| summary(seen.latencies, last.saturating_duration_since(begin))))
}

/// Sends one request after another, until one fails.
async fn client(common: Arc<Common>) -> ScoreError {
    loop {
        let sent = Instant::now();
        if let Err(error) = common
            .endpoint
            .run(Request::json(common.body.clone()))
            .await
        {
            return error;
        }
        common.record(sent, Instant::now());
    }
}

impl Common {
    fn record(&self, sent: Instant, done: Instant) {
        let mut seen = lock(&self.seen);
        let is_over = done >= self.end && seen.latencies.len() >= self.answers_min;
        if done >= self.begin && !is_over {
            seen.latencies.push(done - sent);
            seen.last = Some(done);
        }
        if done >= self.end && seen.latencies.len() >= self.answers_min {
            self.over.notify_one();
        }
    }
}

/// Locks, also after a panic elsewhere: what is guarded is valid at every instant.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The figures of some answers within `time`; none without answers.
fn summary(mut latencies: Vec<Duration>, time: Duration) -> Option<Repetition> {
    latencies.sort_unstable();
    if time.is_zero() {
        return None;
    }
    Some(Repetition {
        requests: latencies.len() as u64,
        throughput: latencies.len() as f64 / time.as_secs_f64(),
        p50: quantile(&latencies, 50)?,
        p99: quantile(&latencies, 99)?,
    })
}

/// The value that `percent` of the sorted ones do not pass.
fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 50), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&sorted, 99), Some(Duration::from_millis(198)));
        assert_eq!(quantile(&sorted[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 50), None);
    }

    #[test]
    fn answers_within_a_time_are_a_throughput_and_none_are_nothing() {
        let some = vec![Duration::from_millis(3), Duration::from_millis(1)];
        let repetition = summary(some, Duration::from_millis(500)).unwrap();
        assert!((repetition.throughput - 4.0).abs() < 1e-9);
        assert_eq!(
            (repetition.p50, repetition.p99),
            (Duration::from_millis(1), Duration::from_millis(3))
        );
        assert_eq!(summary(Vec::new(), Duration::from_secs(1)), None);
    }
}

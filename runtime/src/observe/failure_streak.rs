//! Failures of a deployment in a row, and whether there are so many that it is degraded.
//!
//! Threads: any. A success after a success reads one word and writes nothing; a lock is taken only where failures begin, or a
//! deployment becomes degraded or is so no more. Not here: which failures count (`router`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;

use crate::config::DEGRADED_AFTER;

/// Failures since the last success.
#[derive(Debug)]
pub struct FailureStreak {
    /// `endpoint/deployment`, for the log.
    label: String,
    in_a_row: AtomicU64,
    /// The first failure since the last success: later ones may only have waited behind it.
    first: Mutex<String>,
    /// The failure that made it degraded; taken under its lock are all turns from one to the other.
    why: Mutex<Option<String>>,
    /// 1 while it is degraded.
    gauge: Gauge,
}

/// A deployment whose last requests all failed, and not by their clients' fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Degraded {
    /// Failures since the last success.
    pub failures_in_a_row: u64,
    /// The words of the first of them.
    #[serde(rename = "reason")]
    pub why: String,
}

impl FailureStreak {
    pub(super) fn new(label: String, gauge: Gauge) -> Self {
        Self {
            label,
            in_a_row: AtomicU64::new(0),
            first: Mutex::default(),
            why: Mutex::default(),
            gauge,
        }
    }

    /// A request was answered.
    pub fn succeeded(&self) {
        // Relaxed: the number orders nothing else. Nearly every success comes after a success, and leaves the word alone.
        if self.in_a_row.load(Ordering::Relaxed) > 0
            && self.in_a_row.swap(0, Ordering::Relaxed) >= DEGRADED_AFTER
        {
            self.turn(None);
        }
    }

    /// A request failed, and it was the model's fault. `why` is asked for the words where they are kept.
    pub fn failed(&self, why: impl FnOnce() -> String) {
        match self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 {
            1 => *lock(&self.first) = why(),
            DEGRADED_AFTER => self.turn(Some(why())),
            _ => {}
        }
    }

    /// A request came to nothing behind others: a failure only if nothing has succeeded since one.
    pub fn got_stuck(&self, why: impl FnOnce() -> String) {
        if self.in_a_row.load(Ordering::Relaxed) > 0 {
            self.failed(why);
        }
    }

    /// Another version serves now: what the one before did says nothing of it.
    pub fn begin_anew(&self) {
        self.succeeded();
    }

    /// Whether it is degraded, and why.
    #[must_use]
    pub fn degraded(&self) -> Option<Degraded> {
        let why = lock(&self.why).clone()?;
        Some(Degraded {
            // It may have ended since the words were read, and is shown a last time.
            failures_in_a_row: self.in_a_row.load(Ordering::Relaxed).max(DEGRADED_AFTER),
            why,
        })
    }

    /// Becomes degraded, or is so no more, unless the opposite has come about meanwhile: then who brought it about comes here too.
    fn turn(&self, why: Option<String>) {
        let mut kept = lock(&self.why);
        let is_degraded = self.in_a_row.load(Ordering::Relaxed) >= DEGRADED_AFTER;
        if is_degraded != why.is_some() || kept.is_some() == is_degraded {
            return;
        }
        // Who has the first words may be on the way to write them.
        let first = lock(&self.first).clone();
        let why = why.map(|why| if first.is_empty() { why } else { first });
        self.gauge.set(i64::from(is_degraded));
        match &why {
            Some(why) => tracing::warn!(
                deployment = self.label,
                failures_in_a_row = DEGRADED_AFTER,
                why,
                "the deployment is degraded: its last requests all failed"
            ),
            None => tracing::info!(
                deployment = self.label,
                "the deployment is not degraded any more"
            ),
        }
        *kept = why;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn streak() -> FailureStreak {
        FailureStreak::new("iris/blue".to_owned(), Gauge::default())
    }

    fn words() -> String {
        "it hangs".to_owned()
    }

    #[test]
    fn a_deployment_is_degraded_from_so_many_failures_in_a_row_until_one_succeeds() {
        let streak = streak();
        for _ in 1..DEGRADED_AFTER {
            streak.failed(words);
        }
        assert_eq!(streak.degraded(), None);
        streak.succeeded();
        for _ in 1..DEGRADED_AFTER {
            streak.failed(words);
        }
        assert_eq!((streak.degraded(), streak.gauge.get()), (None, 0));
        streak.failed(words);
        streak.failed(|| "later".to_owned());
        let degraded = streak.degraded().unwrap();
        assert_eq!(degraded.failures_in_a_row, DEGRADED_AFTER + 1);
        assert_eq!(degraded.why, "it hangs");
        assert_eq!(streak.gauge.get(), 1);
        streak.succeeded();
        assert_eq!((streak.degraded(), streak.gauge.get()), (None, 0));
    }

    #[test]
    fn requests_that_wait_in_vain_count_only_behind_a_failure() {
        let streak = streak();
        for _ in 0..2 * DEGRADED_AFTER {
            streak.got_stuck(words);
        }
        assert_eq!(
            streak.degraded(),
            None,
            "a crowd is not a fault of the model"
        );
        streak.failed(words);
        for _ in 1..DEGRADED_AFTER {
            streak.got_stuck(|| "no slot became free".to_owned());
        }
        // One hangs, and nobody gets past it.
        let degraded = streak.degraded();
        assert_eq!(degraded.map(|degraded| degraded.why), Some(words()));
    }

    #[test]
    fn what_is_shown_agrees_with_the_count_whatever_the_order_of_threads() {
        let streak = streak();
        let threads = 4;
        let barrier = Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (streak, barrier) = (&streak, &barrier);
                scope.spawn(move || {
                    for round in 0..300 {
                        barrier.wait();
                        for _ in 0..DEGRADED_AFTER / 2 {
                            streak.failed(words);
                        }
                        if (round + thread) % 3 == 0 {
                            streak.succeeded();
                        }
                        barrier.wait();
                        let counted = streak.in_a_row.load(Ordering::Relaxed) >= DEGRADED_AFTER;
                        let gauge = streak.gauge.get() == 1;
                        assert_eq!((streak.degraded().is_some(), gauge), (counted, counted));
                    }
                });
            }
        });
    }
}

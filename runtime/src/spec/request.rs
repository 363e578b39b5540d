//! Request settings: how many requests an instance takes at once, for how long, on how many threads, and how many in one run.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serin_scorers::NonFinite;

use crate::config::{
    BATCH_DELAY_MAX, BATCH_SIZE_MAX, CONCURRENCY_MAX, REQUEST_TIMEOUT_DEFAULT, WAITING_MAX,
};

/// Stands for no timeout, which a program alone can ask for; no file may have such a number.
const NEVER: u64 = u64::MAX;

/// Stands for a queue without an end, which a program alone can ask for.
const WITHOUT_END: u32 = u32::MAX;

/// The queue of a deployment: how many requests may wait for a slot before the next one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Queueing {
    /// For each slot one: as many wait as run.
    #[default]
    PerSlot,
    /// So many for each instance; with 0 a request that cannot run at once is refused.
    Waiting(u32),
    /// All of them, until a slot is free or their deadline passes.
    Unbounded,
}

/// Where the lanes of an instance compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In the server's process where the graph of the model proves that no value can end it, else in processes of their own.
    #[default]
    Auto,
    /// In the server's process, on a thread each.
    Thread,
    /// In a process each, which a model can end without ending anything else.
    Process,
}

/// `request_settings` of a deployment: what was written, and the value in force where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RequestSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_concurrent_requests_per_instance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_queue_wait_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_waiting_requests_per_instance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lanes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_batch_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_batch_delay_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) isolation: Option<Isolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) non_finite: Option<NonFinite>,
}

impl RequestSettings {
    /// The longest that a request may take, waiting included; [`Duration::MAX`] where it may take for ever.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        match self.request_timeout_ms {
            None => REQUEST_TIMEOUT_DEFAULT,
            Some(NEVER) => Duration::MAX,
            Some(ms) => Duration::from_millis(ms),
        }
    }

    /// Sets the timeout of a program, which may be longer than that of a file, or none.
    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        // Rounded up, so that a short timeout does not become 0.
        let ms = timeout.map(|timeout| timeout.as_nanos().div_ceil(1_000_000));
        self.request_timeout_ms = Some(ms.map_or(NEVER, |ms| u64::try_from(ms).unwrap_or(NEVER)));
    }

    /// The number of requests that one instance runs at once.
    #[must_use]
    pub fn max_concurrent_requests_per_instance(&self) -> u32 {
        self.max_concurrent_requests_per_instance.unwrap_or(1)
    }

    /// The queue for the slots of its instances.
    #[must_use]
    pub fn queueing(&self) -> Queueing {
        match self.max_waiting_requests_per_instance {
            None => Queueing::PerSlot,
            Some(WITHOUT_END) => Queueing::Unbounded,
            Some(waiting) => Queueing::Waiting(waiting),
        }
    }

    /// Sets the queue of a program, which may be one without an end.
    pub(super) fn set_queueing(&mut self, queueing: Queueing) {
        self.max_waiting_requests_per_instance = match queueing {
            Queueing::PerSlot => None,
            // What is far beyond the bound stays there, and is no queue without an end.
            Queueing::Waiting(waiting) => Some(waiting.min(WITHOUT_END - 1)),
            Queueing::Unbounded => Some(WITHOUT_END),
        };
    }

    /// `max_queue_wait_ms` as written. It has no effect: the request timeout covers the wait, as in Azure.
    #[must_use]
    pub fn max_queue_wait(&self) -> Option<Duration> {
        self.max_queue_wait_ms.map(Duration::from_millis)
    }

    /// Score threads of one instance, each with its share of the vCPUs. Where nothing is written there is one for each
    /// request at once, up to the vCPUs.
    #[must_use]
    pub fn lanes(&self) -> Option<u32> {
        self.lanes
    }

    /// Most rows that one run may take together; 1 turns batching off. Where nothing is written the model's measured
    /// profile decides.
    #[must_use]
    pub fn max_batch_size(&self) -> Option<u32> {
        self.max_batch_size
    }

    /// Longest that a lane waits for more requests before it runs what it has.
    #[must_use]
    pub fn max_batch_delay(&self) -> Duration {
        Duration::from_micros(self.max_batch_delay_us.unwrap_or(0))
    }

    /// Whether the threads of a lane spin while they wait for work, within a run and for a while after it. Done only where a lane
    /// has several threads and the instance has its cores to itself.
    #[must_use]
    pub fn spin(&self) -> bool {
        self.spin.unwrap_or(false)
    }

    /// Where the lanes compute.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation.unwrap_or_default()
    }

    /// The form of NaN and infinities in answers.
    #[must_use]
    pub fn non_finite(&self) -> NonFinite {
        self.non_finite.unwrap_or_default()
    }

    /// The settings that cannot be on an instance of so many vCPUs, in sentences. Judged when everything is known, for a file may
    /// leave to the deployment that it updates what another setting depends on. Numbers out of their bounds are told here too: a file
    /// with such a one was refused with its line, and a program has no lines.
    #[must_use]
    pub fn problems(&self, vcpus: u32) -> Vec<String> {
        let mut problems: Vec<_> = self.out_of_bounds().collect();
        problems.extend(self.contradictions(vcpus));
        problems
    }

    /// The settings that are beyond their own bounds.
    fn out_of_bounds(&self) -> impl Iterator<Item = String> {
        let concurrency = self.max_concurrent_requests_per_instance.map(u64::from);
        let delay_us_max = u64::try_from(BATCH_DELAY_MAX.as_micros()).unwrap_or(u64::MAX);
        let judged = [
            ("request_timeout_ms", self.request_timeout_ms, 1..=u64::MAX),
            (
                "max_concurrent_requests_per_instance",
                concurrency,
                1..=CONCURRENCY_MAX.into(),
            ),
            (
                "lanes",
                self.lanes.map(u64::from),
                1..=CONCURRENCY_MAX.into(),
            ),
            (
                "max_waiting_requests_per_instance",
                self.max_waiting_requests_per_instance
                    .filter(|waiting| *waiting != WITHOUT_END)
                    .map(u64::from),
                0..=WAITING_MAX.into(),
            ),
            (
                "max_batch_size",
                self.max_batch_size.map(u64::from),
                1..=BATCH_SIZE_MAX.into(),
            ),
            (
                "max_batch_delay_us",
                self.max_batch_delay_us,
                0..=delay_us_max,
            ),
        ];
        judged.into_iter().filter_map(|(key, found, bounds)| {
            beyond(&format!("request_settings.{key}"), found?, &bounds)
        })
    }

    /// The settings that do not go with each other.
    fn contradictions(&self, vcpus: u32) -> Vec<String> {
        let concurrency = self.max_concurrent_requests_per_instance();
        let mut problems = Vec::new();
        if let Some(lanes) = self.lanes {
            if lanes > concurrency {
                problems.push(format!(
                    "request_settings.lanes: expected at most {concurrency}, which is max_concurrent_requests_per_instance, \
                     found {lanes}: a lane beyond would never have a request"
                ));
            }
            if lanes > vcpus {
                problems.push(format!(
                    "request_settings.lanes: expected at most {vcpus}, the vCPUs of the instance type, found {lanes}: lower \
                     lanes, or choose a larger instance_type"
                ));
            }
        }
        let (delay, timeout) = (self.max_batch_delay(), self.request_timeout());
        // Of two numbers that can be: one that cannot is told by itself, and says nothing about the other.
        if delay >= timeout && delay <= BATCH_DELAY_MAX && !timeout.is_zero() {
            problems.push(format!(
                "request_settings.max_batch_delay_us: expected less than request_timeout_ms, which is {}, found {} us: every \
                 request would time out",
                timeout.as_millis(),
                delay.as_micros()
            ));
        }
        problems
    }

    /// Keys that are written and mean something for models alone.
    pub(super) fn written_for_models(&self) -> impl Iterator<Item = &'static str> {
        let written = [
            ("max_batch_size", self.max_batch_size.is_some()),
            ("max_batch_delay_us", self.max_batch_delay_us.is_some()),
            ("spin", self.spin.is_some()),
            ("isolation", self.isolation.is_some()),
            ("non_finite", self.non_finite.is_some()),
        ];
        written
            .into_iter()
            .filter_map(|(key, is_written)| is_written.then_some(key))
    }

    pub(super) fn is_unwritten(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what no instance needs to start anew for.
    pub(super) fn take_rules_of(&mut self, newer: &Self) {
        self.request_timeout_ms = newer.request_timeout_ms;
        self.max_queue_wait_ms = newer.max_queue_wait_ms;
        self.max_waiting_requests_per_instance = newer.max_waiting_requests_per_instance;
    }

    /// Takes over what `newer` says and keeps the rest.
    pub(super) fn merge(&mut self, newer: Self) {
        self.request_timeout_ms = newer.request_timeout_ms.or(self.request_timeout_ms);
        self.max_concurrent_requests_per_instance = newer
            .max_concurrent_requests_per_instance
            .or(self.max_concurrent_requests_per_instance);
        self.max_queue_wait_ms = newer.max_queue_wait_ms.or(self.max_queue_wait_ms);
        self.max_waiting_requests_per_instance = newer
            .max_waiting_requests_per_instance
            .or(self.max_waiting_requests_per_instance);
        self.lanes = newer.lanes.or(self.lanes);
        self.max_batch_size = newer.max_batch_size.or(self.max_batch_size);
        self.max_batch_delay_us = newer.max_batch_delay_us.or(self.max_batch_delay_us);
        self.spin = newer.spin.or(self.spin);
        self.isolation = newer.isolation.or(self.isolation);
        self.non_finite = newer.non_finite.or(self.non_finite);
    }
}

/// The problem of a number that is not within its bounds.
pub(super) fn beyond(key: &str, found: u64, bounds: &RangeInclusive<u64>) -> Option<String> {
    let (least, most) = (bounds.start(), bounds.end());
    (!bounds.contains(&found)).then(|| match *most {
        u64::MAX => format!("{key}: expected at least {least}, found {found}"),
        _ => format!("{key}: expected {least} to {most}, found {found}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_beyond_the_requests_at_once_and_the_vcpus_are_refused_together() {
        let mut settings = RequestSettings {
            lanes: Some(8),
            max_concurrent_requests_per_instance: Some(4),
            ..RequestSettings::default()
        };
        assert_eq!(
            settings.problems(2),
            [
                "request_settings.lanes: expected at most 4, which is max_concurrent_requests_per_instance, found 8: a lane \
                 beyond would never have a request",
                "request_settings.lanes: expected at most 2, the vCPUs of the instance type, found 8: lower lanes, or choose \
                 a larger instance_type",
            ]
        );
        settings.lanes = Some(2);
        assert!(settings.problems(2).is_empty());
    }

    #[test]
    fn a_batch_delay_of_the_whole_timeout_is_refused() {
        let mut settings = RequestSettings {
            request_timeout_ms: Some(1),
            max_batch_delay_us: Some(1000),
            ..RequestSettings::default()
        };
        assert_eq!(
            settings.problems(1),
            [
                "request_settings.max_batch_delay_us: expected less than request_timeout_ms, which is 1, found 1000 us: every \
                 request would time out"
            ]
        );
        settings.max_batch_delay_us = Some(999);
        assert!(settings.problems(1).is_empty());
    }
}

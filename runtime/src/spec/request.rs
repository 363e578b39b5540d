//! How an instance takes requests: how many at once, and for how long.

use std::time::Duration;

use serde::Serialize;

use crate::config::REQUEST_TIMEOUT_DEFAULT;

/// `request_settings` of a deployment: what was written, and the value in force where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RequestSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_concurrent_requests_per_instance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_queue_wait_ms: Option<u64>,
}

impl RequestSettings {
    /// The longest that a request may take, waiting included.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout_ms
            .map_or(REQUEST_TIMEOUT_DEFAULT, Duration::from_millis)
    }

    /// How many requests one instance runs at once.
    #[must_use]
    pub fn max_concurrent_requests_per_instance(&self) -> u32 {
        self.max_concurrent_requests_per_instance.unwrap_or(1)
    }

    /// `max_queue_wait_ms` as written. It has no effect: the request timeout covers the wait, as in Azure.
    #[must_use]
    pub fn max_queue_wait(&self) -> Option<Duration> {
        self.max_queue_wait_ms.map(Duration::from_millis)
    }

    pub(super) fn is_unwritten(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what `newer` says and keeps the rest.
    pub(super) fn merge(&mut self, newer: Self) {
        self.request_timeout_ms = newer.request_timeout_ms.or(self.request_timeout_ms);
        self.max_concurrent_requests_per_instance = newer
            .max_concurrent_requests_per_instance
            .or(self.max_concurrent_requests_per_instance);
        self.max_queue_wait_ms = newer.max_queue_wait_ms.or(self.max_queue_wait_ms);
    }
}

//! Timings: the moments at which a request passed each point.

use std::time::{Duration, Instant};

/// Instants of one request. Stages not reached are `None`.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Head and body read.
    pub received: Instant,
    /// A slot was given.
    pub admitted: Option<Instant>,
    /// The score thread took it up.
    pub started: Option<Instant>,
    /// Inputs decoded.
    pub decoded: Option<Instant>,
    /// `session.run` began, with all inputs that it takes together.
    pub run_began: Option<Instant>,
    /// `session.run` ended.
    pub ran: Option<Instant>,
    /// Outputs encoded.
    pub encoded: Option<Instant>,
    /// Requests that shared its run, itself included; 0 before one.
    pub joined: u32,
    /// The model's answer has a NaN or an infinity.
    pub not_finite: bool,
    /// Rows that the model got in its run, told by the first request of the run alone; 0 for others. A run of inputs that have no rows in
    /// common has one.
    pub run_rows: u32,
}

impl Timings {
    /// A request that was just read.
    #[must_use]
    pub fn start(received: Instant) -> Self {
        Self {
            received,
            admitted: None,
            started: None,
            decoded: None,
            run_began: None,
            ran: None,
            encoded: None,
            joined: 0,
            not_finite: false,
            run_rows: 0,
        }
    }

    /// Time until a score thread took it up: the wait for a slot, and the way to the thread.
    #[must_use]
    pub fn queue(&self) -> Option<Duration> {
        Some(self.started?.duration_since(self.received))
    }

    /// Time that decoding the inputs took.
    #[must_use]
    pub fn decode(&self) -> Option<Duration> {
        Some(self.decoded?.duration_since(self.started?))
    }

    /// Time that the model itself took.
    #[must_use]
    pub fn run(&self) -> Option<Duration> {
        Some(self.ran?.duration_since(self.run_began?))
    }

    /// Time that encoding the outputs took.
    #[must_use]
    pub fn encode(&self) -> Option<Duration> {
        Some(self.encoded?.duration_since(self.ran?))
    }
}

//! What the split decided about one request, kept until its end is known: then it is one evidence event.
//!
//! Threads: edge. Pure but for the push.
//! Not here: the decision (`table`), the life of the request (`score`), who judges (`evidence`).

use std::time::Instant;

use crate::observe::{DeploymentMetrics, Outcome, Timings};
use crate::spec::Percent;

/// The marks of a request by which evidence about it is found again. The library sets none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    /// A hash of its id; 0 where it has none.
    pub id_hash: u64,
    /// The point of its client on the line of cohorts; none where it does not say whose it is, or nobody asked.
    pub client: Option<u64>,
}

/// One decision of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arm {
    /// Differs between any two splits of the process.
    pub(super) split: u32,
    /// None where a cohort decided.
    pub(super) block: Option<u64>,
    /// The share of the deployment in this split.
    pub(super) share: Percent,
}

/// A request that the split assigned. Its event is made once: when an outcome is recorded, or, when it is dropped without one, as that
/// of a request whose deployment has gone.
#[derive(Debug)]
pub(super) struct Assigned {
    /// None for a request that named its deployment: that says nothing about the split.
    arm: Option<Arm>,
    series: u32,
    build: u32,
    marks: Marks,
    received: Instant,
    is_cold: bool,
    /// Its event is made.
    ended: Option<Ended>,
}

/// The end of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) timings: Timings,
    pub(super) now: Instant,
}

impl Assigned {
    /// Assigned to the deployment of these metrics, by the split where there is an arm.
    pub(super) fn new(
        arm: Option<Arm>,
        metrics: &DeploymentMetrics,
        marks: Marks,
        received: Instant,
    ) -> Self {
        Self {
            arm,
            series: metrics.series(),
            build: metrics.build(),
            marks,
            received,
            is_cold: false,
            ended: None,
        }
    }

    /// Tells whether its instance is new.
    pub(super) fn set_cold(&mut self, is_cold: bool) {
        self.is_cold = is_cold;
    }

    /// The request has ended `now`.
    pub(super) fn end(&mut self, outcome: Outcome, timings: &Timings, now: Instant) {
        if let (Some(arm), None) = (self.arm, self.ended) {
            self.tell(arm, outcome, timings, now);
            self.ended = Some(Ended {
                outcome,
                timings: *timings,
                now,
            });
        }
    }

    /// Where no outcome was recorded, its deployment has gone.
    pub(super) fn finish(&mut self) {
        let timings = Timings::start(self.received);
        self.end(Outcome::NotReady, &timings, Instant::now());
    }

    /// The decision; none where the request named its deployment.
    pub(super) fn arm(&self) -> Option<Arm> {
        self.arm
    }

    /// The end, once it is there.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The series of the deployment, and its build.
    pub(super) fn deployment(&self) -> (u32, u32) {
        (self.series, self.build)
    }

    /// Whether its instance was new.
    pub(super) fn is_cold(&self) -> bool {
        self.is_cold
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }

    #[cfg(feature = "server")]
    fn tell(&self, arm: Arm, outcome: Outcome, timings: &Timings, now: Instant) {
        use crate::observe::evidence::{NO_BLOCK, RequestEvent, clock_start, push, whole_us};
        let since = |from: Instant| now.saturating_duration_since(from);
        let at_us = since(clock_start()).as_micros();
        let total = since(timings.received);
        push(RequestEvent {
            at_us: u64::try_from(at_us).unwrap_or(u64::MAX),
            block: arm.block.unwrap_or(NO_BLOCK),
            key_hash: self.marks.client.unwrap_or(0),
            id_hash: self.marks.id_hash,
            split: arm.split,
            series: self.series,
            build: self.build,
            queue_us: whole_us(timings.queue().unwrap_or(total)),
            run_us: whole_us(timings.run().unwrap_or_default()),
            total_us: whole_us(total),
            share: arm.share,
            outcome,
            not_finite: timings.not_finite,
            is_cold: self.is_cold,
            is_copy: false,
        });
    }

    #[cfg(not(feature = "server"))]
    fn tell(&self, _arm: Arm, _outcome: Outcome, _timings: &Timings, _now: Instant) {}
}

impl Drop for Assigned {
    fn drop(&mut self) {
        if self.arm.is_some() && self.ended.is_none() {
            self.finish();
        }
    }
}

//! Events of requests as observations of a rollout: which arm, by which chance it came there, and how it ended. Pure.

use std::collections::VecDeque;

use crate::canary::{Arm, Ending, Observation, Routing};
use crate::config::EVIDENCE_KEPT;
use crate::evidence::Block;
use crate::observe::Outcome;
use crate::observe::evidence::{NO_BLOCK, RequestEvent};
use crate::spec::Percent;

/// Bits of the number of a block that are the split's, and the run's of the server.
const BLOCK_BITS: u32 = 36;
const SPLIT_BITS: u32 = 20;

/// The two arms of a comparison, and the clock of its observations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arms {
    /// The number of the series of the stable version.
    pub(super) stable: u32,
    /// That of the canary.
    pub(super) canary: u32,
    /// How often the server was started since: numbers of splits begin anew then, and those of blocks have to rise.
    pub(super) run: u64,
    /// The time of an event is so much more, counted from the beginning of the rollout, in microseconds.
    pub(super) clock_us: i64,
}

impl Arms {
    /// The observation that the event is; none where it is of neither arm, or of a copy.
    pub(super) fn observation(&self, event: &RequestEvent) -> Option<Observation> {
        let arm = self.arm_of(event.series).filter(|_| !event.is_copy)?;
        Some(Observation {
            arm,
            routing: self.routing(arm, event),
            ending: match event.outcome {
                Outcome::Ok if event.not_finite => Ending::BadOutput,
                outcome => outcome.into(),
            },
            at_us: i64::try_from(event.at_us)
                .unwrap_or(i64::MAX)
                .saturating_add(self.clock_us)
                .try_into()
                .unwrap_or(0),
            queue_us: event.queue_us.into(),
            run_us: event.run_us.into(),
            total_us: event.total_us.into(),
            cold: event.is_cold,
        })
    }

    /// The arm of a deployment, by its series.
    pub(super) fn arm_of(&self, series: u32) -> Option<Arm> {
        match series {
            series if series == self.stable => Some(Arm::Stable),
            series if series == self.canary => Some(Arm::Canary),
            _ => None,
        }
    }

    fn routing(&self, arm: Arm, event: &RequestEvent) -> Routing {
        let whole = Percent::HUNDRED.hundredths();
        // The event has the share of its own arm; nobody else has any.
        let canary = match arm {
            Arm::Canary => event.share.hundredths(),
            Arm::Stable => whole - event.share.hundredths(),
        };
        if event.block == NO_BLOCK {
            return Routing::Sticky {
                weight: f64::from(canary) / f64::from(whole),
                key: event.key_hash,
            };
        }
        // Blocks have a hundred places for whole percents, else ten thousand.
        let unit = if canary.is_multiple_of(100) { 100 } else { 1 };
        Routing::Exact(Block {
            number: self.number(event),
            canary: u32::from(canary / unit),
            both: u32::from(whole / unit),
        })
    }

    fn number(&self, event: &RequestEvent) -> u64 {
        let split = u64::from(event.split) & ((1 << SPLIT_BITS) - 1);
        let block = event.block & ((1 << BLOCK_BITS) - 1);
        self.run << (BLOCK_BITS + SPLIT_BITS) | split << BLOCK_BITS | block
    }
}

/// The last events of all deployments, for who asks about two that no rollout is about.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<RequestEvent>);

impl Recent {
    pub(super) fn push(&mut self, event: RequestEvent) {
        if self.0.len() >= EVIDENCE_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// What there is about the stable version as it is now.
    pub(super) fn of_newest_build(&self, arms: Arms) -> Vec<Observation> {
        let mut events = self.0.iter().rev();
        let newest = events.find(|event| arms.observation(event).is_some());
        let Some(build) = newest.map(|event| event.build) else {
            return Vec::new();
        };
        let events = self.0.iter().filter(|event| event.build == build);
        events.filter_map(|event| arms.observation(event)).collect()
    }

    /// What there is about these two.
    pub(super) fn observations(&self, arms: Arms) -> Vec<Observation> {
        let events = self.0.iter();
        events.filter_map(|event| arms.observation(event)).collect()
    }
}

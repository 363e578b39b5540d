//! Whether the latencies of an open loop are those of its rate, or those of a queue that is still growing. Pure.
//!
//! Each block begins with an idle server, and a queue takes the longer to come to what it stays at the nearer the rate is to what the
//! server can answer. So the second half of the blocks is compared with the first, and the blocks with each other; and what was offered
//! with what was answered, for of a server that is offered more than it answers no latency can be told.
//!
//! Not here: how much of a block is left out before (`bench`), words (`bench`).

use crate::evidence::stats::{Estimate, Part, pooled, pooled_ratio};

/// Of the intervals.
const CONFIDENCE: f64 = 0.95;
/// Most by which the halves of blocks may differ, in either direction. In simulated queues of known theory no more than one run in fifty
/// that is within this, and within [`MEAN_MAX`], is off by more than 15 %.
const HALVES_MAX: f64 = 1.20;
/// Most by which the mean may be off.
const MEAN_MAX: f64 = 1.15;
/// A server that answers a smaller share of what is offered is overloaded, if its latencies grow as well.
const ANSWERED_MIN: f64 = 0.98;

/// One block of an open loop, without what is left out of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// Sums of latencies and numbers of requests: of those due in the first half, and in the second.
    pub halves: [Part; 2],
    /// Requests that were due in the block.
    pub offered: f64,
    /// Requests that were answered within the block, whenever they were due.
    pub answered: f64,
}

/// The finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steadiness {
    /// The mean latency is that of the rate, within 15 %.
    Settled,
    /// It may be another: the interval of the second halves by the first, and of the mean.
    Unsettled {
        /// The mean latency of the second halves by that of the first.
        halves: Option<Estimate>,
        /// The mean latency, in the unit of the blocks.
        mean: Estimate,
    },
    /// More is offered than is answered, and latencies grow for as long as it lasts.
    Overloaded {
        /// The share of what is offered that is answered.
        answered: Estimate,
    },
}

/// The finding about the blocks of one version at one rate.
#[must_use]
pub fn steadiness(blocks: &[Course]) -> Steadiness {
    let halves: Vec<_> = blocks.iter().map(|block| block.halves).collect();
    let halves = pooled_ratio(&halves, CONFIDENCE, 0).map(|ratio| ratio.estimate);
    let whole = |block: &Course| Part {
        amount: block.halves[0].amount + block.halves[1].amount,
        per: block.halves[0].per + block.halves[1].per,
    };
    let mean = pooled(&blocks.iter().map(whole).collect::<Vec<_>>(), CONFIDENCE);
    let share = |block: &Course| Part {
        amount: block.answered,
        per: block.offered,
    };
    let answered = pooled(&blocks.iter().map(share).collect::<Vec<_>>(), CONFIDENCE);
    let grows = halves.and_then(|halves| halves.low) > Some(HALVES_MAX);
    if grows && answered.high.is_some_and(|high| high < ANSWERED_MIN) {
        return Steadiness::Overloaded { answered };
    }
    let is_steady = halves.is_some_and(|halves| is_within(halves, 1.0, HALVES_MAX));
    match is_steady && is_within(mean, mean.point, MEAN_MAX) {
        true => Steadiness::Settled,
        false => Steadiness::Unsettled { halves, mean },
    }
}

/// Whether the whole interval is nearer to a value than by this factor.
fn is_within(estimate: Estimate, value: f64, factor: f64) -> bool {
    let inside = |end: f64| end <= value * factor && end * factor >= value;
    estimate
        .low
        .zip(estimate.high)
        .is_some_and(|(low, high)| inside(low) && inside(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: f64, second: f64, answered: f64) -> Course {
        let half = |amount| Part { amount, per: 50.0 };
        Course {
            halves: [half(first), half(second)],
            offered: 100.0,
            answered,
        }
    }

    #[test]
    fn blocks_that_are_alike_are_settled() {
        let blocks = [
            block(50.0, 51.0, 100.0),
            block(52.0, 50.0, 99.0),
            block(50.0, 50.0, 101.0),
        ];
        assert_eq!(steadiness(&blocks), Steadiness::Settled);
    }

    #[test]
    fn latencies_that_grow_in_every_block_are_unsettled_though_blocks_are_alike() {
        let blocks = [block(40.0, 60.0, 100.0); 5];
        assert!(matches!(
            steadiness(&blocks),
            Steadiness::Unsettled { halves: Some(halves), .. } if (halves.point - 1.5).abs() < 1e-9
        ));
    }

    #[test]
    fn blocks_that_differ_are_unsettled_though_none_grows() {
        let blocks = [
            block(50.0, 50.0, 100.0),
            block(90.0, 90.0, 100.0),
            block(50.0, 50.0, 100.0),
        ];
        assert!(matches!(steadiness(&blocks), Steadiness::Unsettled { .. }));
    }

    #[test]
    fn more_offered_than_answered_is_overload_only_where_latencies_grow() {
        let grows = [block(40.0, 80.0, 90.0), block(41.0, 80.0, 91.0)];
        let found = steadiness(&[grows, grows].concat());
        assert!(matches!(found, Steadiness::Overloaded { .. }), "{found:?}");
        // Answers that only come late are no queue.
        let late = [block(50.0, 50.0, 90.0), block(50.5, 50.0, 91.0)];
        assert_eq!(steadiness(&[late, late].concat()), Steadiness::Settled);
    }

    #[test]
    fn one_block_or_none_says_nothing() {
        for blocks in [&[][..], &[block(50.0, 50.0, 100.0)]] {
            assert!(matches!(steadiness(blocks), Steadiness::Unsettled { .. }));
        }
    }
}

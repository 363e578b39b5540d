//! The chance that the next bad event of a block of the split is the canary's. Pure.
//!
//! A block hands its places out without putting them back: of a hundred requests ten are the canary's, and where two of the bad ones
//! were, eight of the other ninety-eight are left. With the chance of the first event for all of them, whoever may stop in the middle of
//! a block gains by it. The places are drawn uniformly, so that the events before are all that matters, not where they stood.
//!
//! Memory is bounded: of the blocks that have had an event the [`BLOCKS`] newest have their counts. An event of an older one is not counted, nor
//! is one of a block whose weight has changed since its first event: both are known before the label is looked at, so that leaving them out
//! is no choice. Events may come in any order, as those do that somebody finds out about later.

use serde::{Deserialize, Deserializer, Serialize};

/// Blocks whose counts are kept: requests that end together are of neighbouring blocks, or waited for as long as it takes to fill as many.
pub const BLOCKS: usize = 1024;

/// A block of the split, as it was when a request was routed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The number of the block, which rises, and is never used again: where a new split counts from 0, the caller adds what was before.
    pub number: u64,
    /// Requests of the block that are the canary's.
    pub canary: u32,
    /// Requests of the block that are the canary's or the stable version's.
    pub both: u32,
}

/// The counts of the blocks that have had an event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BlockChance {
    /// In the order of their numbers.
    #[serde(default, alias = "places", deserialize_with = "in_order")]
    blocks: Vec<Seen>,
    /// Events that were not counted.
    skipped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Seen {
    block: Block,
    events: u32,
    of_canary: u32,
}

/// Reads blocks as they are written, and as they were once: each at a place of its own, with places that nobody had.
fn in_order<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Seen>, D::Error> {
    let places = Vec::<Option<Seen>>::deserialize(from)?;
    let mut blocks: Vec<_> = places.into_iter().flatten().collect();
    blocks.sort_by_key(|seen| seen.block.number);
    Ok(blocks)
}

impl BlockChance {
    /// The chance that an event of the block is the canary's, given those before; afterwards it has happened. None where it is not to
    /// be counted.
    pub fn event(&mut self, block: Block, of_canary: bool) -> Option<f64> {
        let chance = self.take(block, of_canary);
        self.skipped += u64::from(chance.is_none());
        chance
    }

    /// Events that were not counted.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn take(&mut self, block: Block, of_canary: bool) -> Option<f64> {
        let place = self
            .blocks
            .binary_search_by_key(&block.number, |seen| seen.block.number);
        let place = match place {
            Ok(place) => place,
            Err(place) => self.insert(place, block)?,
        };
        let seen = &mut self.blocks[place];
        if seen.block != block {
            return None;
        }
        let left = block.canary.checked_sub(seen.of_canary)?;
        let of = block.both.checked_sub(seen.events)?;
        if of == 0 || left > of {
            return None;
        }
        seen.events += 1;
        seen.of_canary += u32::from(of_canary);
        Some(f64::from(left) / f64::from(of))
    }

    /// The place of a block that has had no event; none where it is older than all that there is room for. What has left never comes back:
    /// it is older than all that stay.
    fn insert(&mut self, place: usize, block: Block) -> Option<usize> {
        let seen = Seen {
            block,
            events: 0,
            of_canary: 0,
        };
        if self.blocks.len() < BLOCKS {
            self.blocks.insert(place, seen);
            return Some(place);
        }
        let place = place.checked_sub(1)?;
        self.blocks.remove(0);
        self.blocks.insert(place, seen);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> Block {
        Block {
            number,
            canary: 2,
            both: 10,
        }
    }

    fn chances(events: &[(u64, bool)]) -> Vec<Option<f64>> {
        let mut chances = BlockChance::default();
        let one = |(number, canary): &(u64, bool)| chances.event(block(*number), *canary);
        events.iter().map(one).collect()
    }

    #[test]
    fn places_that_were_handed_out_are_not_there_for_the_next_event() {
        let found = chances(&[(3, true), (3, false), (4, false), (3, true), (3, false)]);
        let expected = [0.2, 1.0 / 9.0, 0.2, 1.0 / 8.0, 0.0];
        assert_eq!(found, expected.map(Some));
    }

    #[test]
    fn an_event_of_a_block_that_has_left_is_not_counted_and_it_never_comes_back() {
        let late = BLOCKS as u64;
        let mut chances = BlockChance::default();
        for number in 1..=late {
            assert_eq!(chances.event(block(number), true), Some(0.2));
        }
        assert_eq!(chances.event(block(0), true), None);
        assert_eq!(chances.event(block(late + 5), true), Some(0.2));
        assert_eq!(chances.event(block(1), true), None);
        assert_eq!(chances.event(block(2), false), Some(1.0 / 9.0));
        assert_eq!(chances.event(block(late + 2), false), Some(0.2));
        assert_eq!(chances.event(block(2), true), None);
        assert_eq!(chances.event(block(late + 5), false), Some(1.0 / 9.0));
        assert_eq!((chances.blocks.len(), chances.skipped()), (BLOCKS, 3));
    }

    #[test]
    fn events_that_come_in_any_order_have_the_chances_of_those_in_theirs() {
        let orders = [[1, 2, 3, 1, 2, 1], [3, 1, 1, 2, 1, 2]];
        let of_first = |order: [u64; 6]| {
            let events = order.map(|number| (number, false));
            let told = chances(&events);
            let mut of_first: Vec<_> = told.into_iter().zip(order).collect();
            of_first.retain(|(_, number)| *number == 1);
            of_first
        };
        assert_eq!(of_first(orders[0]), of_first(orders[1]));
    }

    #[test]
    fn a_block_whose_weight_changes_counts_by_the_weight_of_its_first_event_alone() {
        let mut chances = BlockChance::default();
        let other = Block {
            canary: 5,
            ..block(1)
        };
        assert_eq!(chances.event(block(1), false), Some(0.2));
        assert_eq!(chances.event(other, true), None);
        assert_eq!(chances.event(block(1), false), Some(2.0 / 9.0));
        assert_eq!(chances.skipped(), 1);
    }

    #[test]
    fn more_events_than_a_block_has_are_not_counted() {
        let mut chances = BlockChance::default();
        let found: Vec<_> = (0..12).map(|_| chances.event(block(7), false)).collect();
        assert_eq!(found[7..], [Some(2.0 / 3.0), Some(1.0), None, None, None]);
        assert_eq!(chances.skipped(), 3);
    }

    #[test]
    fn what_an_earlier_release_has_written_goes_on() {
        let seen = |number| {
            format!(
                r#"{{"block":{{"number":{number},"canary":2,"both":10}},"events":1,"of_canary":1}}"#
            )
        };
        let old = format!(
            r#"{{"places":[{},null,{}],"skipped":0}}"#,
            seen(300),
            seen(45)
        );
        let mut chances: BlockChance = serde_json::from_str(&old).unwrap();
        assert_eq!(chances.event(block(45), false), Some(1.0 / 9.0));
        assert_eq!(chances.event(block(300), false), Some(1.0 / 9.0));
        let text = serde_json::to_string(&chances).unwrap();
        assert_eq!(serde_json::from_str::<BlockChance>(&text).unwrap(), chances);
    }
}

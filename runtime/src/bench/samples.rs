//! The raw samples of a block, as they are kept of a run. Pure.
//!
//! Not here: the file that they stand in (`saved`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One block, or some neighbouring ones together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedBlock {
    /// Answers in the time that counts.
    pub answers: f64,
    /// That time.
    pub elapsed_s: f64,
    /// Processor time of the server, where it is known.
    pub cpu_s: Option<f64>,
    /// Answers that it was spent on.
    pub cpu_answers: u64,
    /// Requests that were sent.
    pub sent: u64,
    /// Of them those that failed.
    pub failures: u64,
    /// Latencies in nanoseconds with how often each came, rising.
    pub latencies_ns: Vec<(u64, u64)>,
    /// Requests without an answer, whose latency has no end.
    pub endless: u64,
}

/// Neighbouring blocks put together until there are at most so many, as many in each as in any other but for one.
pub(super) fn batches(blocks: &[SavedBlock], most: usize) -> Vec<SavedBlock> {
    let count = blocks.len().min(most);
    let start = |batch: usize| batch * blocks.len() / count.max(1);
    let batch = |at| SavedBlock::together(&blocks[start(at)..start(at + 1)]);
    (0..count).map(batch).collect()
}

/// More requests than a block of any run has: sums of them fit.
const REQUESTS_MAX: u64 = 1 << 40;

impl SavedBlock {
    /// What cannot be in a block.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let counts = self.latencies_ns.iter().map(|(_, count)| *count);
        let counts = counts.chain([self.sent, self.endless, self.cpu_answers]);
        let is_rising = self.latencies_ns.is_sorted_by(|one, two| one.0 < two.0);
        match (
            counts.into_iter().any(|count| count > REQUESTS_MAX),
            is_rising,
        ) {
            (true, _) => Some("a block has more requests than any has"),
            (_, false) => Some("the latencies of a block do not rise"),
            _ if self.failures > self.sent => {
                Some("more requests of a block failed than were sent")
            }
            _ => None,
        }
    }

    fn together(blocks: &[Self]) -> Self {
        if let [one] = blocks {
            return one.clone();
        }
        let sum = |of: fn(&Self) -> u64| blocks.iter().map(of).sum();
        let mut latencies: BTreeMap<u64, u64> = BTreeMap::new();
        for (ns, count) in blocks.iter().flat_map(|block| &block.latencies_ns) {
            *latencies.entry(*ns).or_default() += count;
        }
        Self {
            answers: blocks.iter().map(|block| block.answers).sum(),
            elapsed_s: blocks.iter().map(|block| block.elapsed_s).sum(),
            cpu_s: blocks.iter().map(|block| block.cpu_s).sum(),
            cpu_answers: sum(|block| block.cpu_answers),
            sent: sum(|block| block.sent),
            failures: sum(|block| block.failures),
            latencies_ns: latencies.into_iter().collect(),
            endless: sum(|block| block.endless),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_that_are_put_together_lose_nothing(
            counts in prop::collection::vec((1_u64..1000, 1_u64..50), 1..60),
            most in 2_usize..20,
        ) {
            let blocks: Vec<_> = counts
                .iter()
                .map(|(ns, count)| SavedBlock {
                    answers: *count as f64,
                    elapsed_s: 1.0,
                    cpu_s: Some(0.5),
                    cpu_answers: *count,
                    sent: *count,
                    failures: 1,
                    latencies_ns: vec![(*ns, *count)],
                    endless: 2,
                })
                .collect();
            let found = batches(&blocks, most);
            prop_assert_eq!(found.len(), blocks.len().min(most));
            let all = |blocks: &[SavedBlock]| SavedBlock::together(blocks);
            prop_assert_eq!(all(&found), all(&blocks));
            let lengths = found.iter().map(|block| block.endless / 2);
            let spread = lengths.clone().max().unwrap() - lengths.min().unwrap();
            prop_assert!(spread <= 1);
        }
    }
}

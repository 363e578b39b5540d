//! Free blocks of a session, kept for its next run as far as usual runs need them.
//!
//! Threads: under the lock of the session's memory. Not here: how many may be in use (`share`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::engine::run_memory::block::{Block, MAPPED_BYTES_MIN};
use crate::engine::run_memory::share::Refused;

/// Kept for the next run in any case.
pub(super) const KEPT_BYTES_MIN: usize = 1 << 20;
/// Of the difference to a smaller run, what is usual gives up one part in so many.
const USUAL_FALLS_BY: usize = 16;

/// The blocks of one session and what its runs take.
#[derive(Default)]
pub(super) struct Pool {
    /// Free blocks by their bytes.
    free: BTreeMap<usize, Vec<Block>>,
    /// Bytes of all free blocks.
    pub(super) kept: usize,
    /// Bytes of blocks that runs have now, and the most that the current run had.
    pub(super) in_use: usize,
    pub(super) peak: usize,
    /// Bytes that a run takes as a rule.
    pub(super) usual: usize,
    pub(super) running: bool,
    /// Runs so far.
    pub(super) runs: u64,
    pub(super) refused: Option<Refused>,
    /// The look for memory that is kept and idle has it in its list.
    pub(super) watched: bool,
}

impl Pool {
    /// A free block of that size, or one that is not much larger.
    pub(super) fn reuse(&mut self, bytes: usize) -> Option<Block> {
        let much = if bytes < MAPPED_BYTES_MIN {
            bytes + bytes / 4
        } else {
            bytes.saturating_mul(2)
        };
        let mut near = self.free.range_mut(bytes..=much);
        let block = near.find_map(|(_, blocks)| blocks.pop())?;
        self.kept -= block.bytes();
        Some(block)
    }

    /// A new block. What is kept goes first where the machine has no more; the bytes that it has where that is not enough.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<Block, u64> {
        Block::new(bytes).or_else(|_| {
            self.keep_at_most(0);
            Block::new(bytes)
        })
    }

    /// The free blocks, by their sizes.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.free.values().flatten()
    }

    pub(super) fn keep(&mut self, mut block: Block) {
        block.used_in(self.runs);
        self.kept += block.bytes();
        self.free.entry(block.bytes()).or_default().push(block);
    }

    /// Gives blocks back until no more than this is kept: those that were not used for longest first, the largest of them first.
    pub(super) fn keep_at_most(&mut self, bytes_max: usize) {
        while self.kept > bytes_max
            && let Some(block) = self.oldest()
        {
            self.kept -= block.bytes();
            block.release();
        }
    }

    /// Takes the block out that was not used for longest.
    fn oldest(&mut self) -> Option<Block> {
        // The last of a size that was put there is the first to be used.
        let ages = self
            .free
            .iter()
            .filter_map(|(bytes, blocks)| Some((blocks.first()?.last_run(), Reverse(*bytes))));
        let (_, Reverse(bytes)) = ages.min()?;
        let blocks = self.free.get_mut(&bytes)?;
        let oldest = blocks.remove(0);
        if blocks.is_empty() {
            self.free.remove(&bytes);
        }
        Some(oldest)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.keep_at_most(0);
    }
}

/// The bytes that are usual after a run that took so many: a single larger run doubles them at most, and they fall slowly.
pub(super) fn usual_after(usual: usize, took: usize) -> usize {
    if took > usual {
        took.min(usual.saturating_mul(2).saturating_add(KEPT_BYTES_MIN))
    } else {
        usual - (usual - took) / USUAL_FALLS_BY
    }
}

//! The memory that the runs of an instance may take together, and what one is told that gets none.
//!
//! Threads: any. Not here: what the machine has (`machine_memory`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory that the runs of an instance may take together.
#[derive(Debug)]
pub(in crate::engine) struct MemoryShare {
    bytes_max: u64,
    used: AtomicU64,
}

impl MemoryShare {
    /// A share of so many bytes; without a number only the machine is the bound.
    pub(in crate::engine) fn new(bytes_max: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
        })
    }

    /// The number, where there is one.
    pub(in crate::engine) fn bytes_max(&self) -> Option<u64> {
        Some(self.bytes_max).filter(|bytes| *bytes != u64::MAX)
    }

    /// The refusal of bytes of which only so many are left.
    pub(super) fn refuses(&self, asked: u64, left: u64) -> Refused {
        Refused {
            asked,
            left,
            share: Some(self.bytes_max),
        }
    }

    /// Takes bytes of the share; the bytes that are left where these are fewer.
    pub(super) fn take(&self, bytes: u64) -> Result<(), u64> {
        // Relaxed: the number guards nothing but itself.
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        taken
            .map(drop)
            .map_err(|used| self.bytes_max.saturating_sub(used))
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The reason why a run got no memory, with the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Refused {
    pub(super) asked: u64,
    pub(super) left: u64,
    /// The share of the instance; nothing where it is the machine that has no more.
    pub(super) share: Option<u64>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, left) = (in_words(self.asked), in_words(self.left));
        match self.share {
            Some(share) => write!(
                f,
                "the run asked for {asked}; {left} of the {} that the runs of this instance may take are left: send less in one \
                 request, or choose an instance type with more memory",
                in_words(share)
            ),
            None => write!(
                f,
                "the run asked for {asked}; {left} are left on this machine, or in the control group that the server is in: send \
                 less in one request, or give the server more memory"
            ),
        }
    }
}

fn in_words(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1_000_000_000 {
        (1_000_000_000, "GB")
    } else {
        (1_000_000, "MB")
    };
    // Tenths in whole numbers: no float holds every count of bytes.
    let tenths = bytes.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

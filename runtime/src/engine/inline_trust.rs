//! Whether small work may be answered on the sender's own thread, by what came of it before.
//!
//! A run that was interrupted there may have been slow, or the machine stood still for a moment: a neighbour, a hypervisor, a
//! debugger. One that is slow each time is the model's way; then the measured profile was wrong about it.
//!
//! Threads: any. Not here: what small work is (`profile`), who interrupts (`watchdog`).

use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::INLINE_INTERRUPTIONS_MAX;

/// The trust of one instance.
#[derive(Debug)]
pub(super) struct InlineTrust {
    /// Interruptions in a row; at [`INLINE_INTERRUPTIONS_MAX`] there is no next run that could end well.
    in_a_row: AtomicU32,
}

impl InlineTrust {
    /// Trust from the beginning, or never.
    pub(super) fn new(is_wanted: bool) -> Self {
        let in_a_row = if is_wanted {
            0
        } else {
            INLINE_INTERRUPTIONS_MAX
        };
        Self {
            in_a_row: AtomicU32::new(in_a_row),
        }
    }

    /// Whether work may be answered inline.
    pub(super) fn may(&self) -> bool {
        // Relaxed, here and below: one that is too early or too late costs no more than a hand-over.
        self.in_a_row.load(Ordering::Relaxed) < INLINE_INTERRUPTIONS_MAX
    }

    /// Work that was answered inline ended in time.
    pub(super) fn ended_well(&self) {
        // Looked at first: a store would take the line of the cache from the other threads each time.
        if self.in_a_row.load(Ordering::Relaxed) > 0 && self.may() {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// It was interrupted. Whether that was the last time.
    pub(super) fn interrupted(&self) -> bool {
        let before = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        before + 1 == INLINE_INTERRUPTIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stands_still_now_and_then_costs_no_trust() {
        let trust = InlineTrust::new(true);
        for _ in 0..100 {
            for _ in 1..INLINE_INTERRUPTIONS_MAX {
                assert!(!trust.interrupted());
            }
            assert!(trust.may());
            trust.ended_well();
        }
        assert!(trust.may());
    }

    #[test]
    fn a_model_that_is_slow_each_time_is_answered_by_its_lane_for_good() {
        let trust = InlineTrust::new(true);
        for _ in 1..INLINE_INTERRUPTIONS_MAX {
            assert!(!trust.interrupted());
        }
        assert!(trust.interrupted(), "the last time");
        assert!(!trust.may());
        // Begun before on another thread.
        trust.ended_well();
        assert!(!trust.may());
    }

    #[test]
    fn requests_that_are_to_wait_for_each_other_are_never_answered_inline() {
        let trust = InlineTrust::new(false);
        trust.ended_well();
        assert!(!trust.may());
    }
}

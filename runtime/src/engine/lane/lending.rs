//! Lending of a lane to a caller's own thread, which may have it for long.
//!
//! The lane's own thread, and who computes for a moment, have the lane by its lock alone. A thread that would wait for that lock
//! while a caller computes asks here first: it can leave its jobs to other lanes. A caller asks too, and leaves a lane to whoever
//! waits for it, so that callers who come again and again keep nobody from it.
//!
//! Threads: any. Not here: the lock.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Who has a lane, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Lending {
    lent: AtomicBool,
    awaited: AtomicU32,
}

/// A lane that is lent, by its lock too; dropped before that is given up.
pub(super) struct Lent<'a>(&'a AtomicBool);

/// A thread that waits for the lock of a lane.
pub(super) struct Awaits<'a>(&'a AtomicU32);

impl Lending {
    /// Lends the lane, whose lock the caller has; nothing where somebody waits for it.
    pub(super) fn lend(&self) -> Option<Lent<'_>> {
        // Sequentially consistent, here and in `await_it`: of a caller and a thread that come at once, one sees the other.
        self.lent.store(true, Ordering::SeqCst);
        let lent = Lent(&self.lent);
        (self.awaited.load(Ordering::SeqCst) == 0).then_some(lent)
    }

    /// From now on no caller gets the lane.
    pub(super) fn await_it(&self) -> Awaits<'_> {
        self.awaited.fetch_add(1, Ordering::SeqCst);
        Awaits(&self.awaited)
    }

    /// Whether a caller has the lane: its lock may not come back for long.
    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::SeqCst)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drop for Awaits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_not_lent_while_somebody_waits_for_it() {
        let lending = Lending::default();
        let lent = lending.lend();
        assert!(lent.is_some() && lending.is_lent());
        drop(lent);
        assert!(!lending.is_lent());
        let awaits = lending.await_it();
        assert!(lending.lend().is_none() && !lending.is_lent());
        drop(awaits);
        assert!(lending.lend().is_some());
    }
}

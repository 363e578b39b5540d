//! An instant that a request may not pass.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use crate::config::DEADLINE_MAX;

/// The instant by which a request must be answered: arrival plus `request_timeout_ms`; or never, where a program sets no timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(When);

/// The order of the variants is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    At(Instant),
    Never,
}

impl Deadline {
    /// The deadline `timeout` after `start`; none where that is more than anybody waits ([`DEADLINE_MAX`]).
    #[must_use]
    pub fn after(start: Instant, timeout: Duration) -> Self {
        let instant = start.checked_add(timeout);
        Self(match instant.filter(|_| timeout <= DEADLINE_MAX) {
            Some(instant) => When::At(instant),
            None => When::Never,
        })
    }

    /// No deadline: there is no timer for it, also where time stands still.
    #[must_use]
    pub fn never() -> Self {
        Self(When::Never)
    }

    /// The instant itself, where there is one.
    #[must_use]
    pub fn instant(self) -> Option<Instant> {
        match self.0 {
            When::At(instant) => Some(instant),
            When::Never => None,
        }
    }

    /// Whether it is over at `now`.
    #[must_use]
    pub fn has_passed(self, now: Instant) -> bool {
        self.instant().is_some_and(|instant| now >= instant)
    }

    /// The outcome of `work`; nothing where the deadline comes first. Needs a tokio runtime with time where there is a deadline.
    pub async fn bound<W: Future>(self, work: W) -> Option<W::Output> {
        match self.0 {
            When::At(instant) => timeout_at(instant.into(), work).await.ok(),
            When::Never => Some(work.await),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_timeout_beyond_all_time_is_none() {
        let now = Instant::now();
        for timeout in [Duration::MAX, DEADLINE_MAX + Duration::from_nanos(1)] {
            assert_eq!(Deadline::after(now, timeout), Deadline::never());
        }
        let last = Deadline::after(now, DEADLINE_MAX);
        assert_eq!(last.instant(), Some(now + DEADLINE_MAX));
        assert!(last < Deadline::never());
        assert!(!Deadline::never().has_passed(now + DEADLINE_MAX * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_time_passes_for_nothing() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(Deadline::never().bound(receiver));
        // A timer would be over at once: this clock jumps to the next one when nobody has work.
        tokio::time::sleep(DEADLINE_MAX / 30).await;
        assert!(!waiting.is_finished());
        sender.send(7).expect("somebody waits");
        assert_eq!(waiting.await.expect("no panic"), Some(Ok(7)));
    }

    proptest! {
        #[test]
        fn any_timeout_makes_a_deadline(seconds: u64, nanos in 0..1_000_000_000_u32) {
            let (now, timeout) = (Instant::now(), Duration::new(seconds, nanos));
            let deadline = Deadline::after(now, timeout);
            prop_assert_eq!(deadline.has_passed(now), timeout.is_zero());
            prop_assert_eq!(deadline.instant().is_none(), timeout > DEADLINE_MAX);
        }
    }
}

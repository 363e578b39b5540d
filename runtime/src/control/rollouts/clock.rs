//! The clock of rollouts. It begins with the machine's and then goes on evenly: who sets that one forward ends no pause early.
//!
//! Not here: the date of a line of the journal of changes, which is the machine's.

use crate::observe::evidence::clock_start;

/// Time in which all rollouts of a server live, until it is started again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// When the clock of events began, in microseconds since 1970.
    start_us: i64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start_us: jiff::Timestamp::now().as_microsecond() - elapsed_us(),
        }
    }

    /// Milliseconds since 1970.
    pub(super) fn now_ms(self) -> i64 {
        (self.start_us + elapsed_us()) / 1000
    }

    /// What is to be added to the time of an event for the time since `started_ms`, in microseconds.
    pub(super) fn of_events_us(self, started_ms: i64) -> i64 {
        self.start_us - started_ms * 1000
    }

    /// Goes on from there where it is behind: the machine's clock was set back since, and time would stand still until it is there again.
    pub(super) fn go_on_from(&mut self, ms: i64) {
        let behind_ms = ms - self.now_ms();
        if behind_ms > 0 {
            self.start_us += behind_ms * 1000;
        }
    }
}

fn elapsed_us() -> i64 {
    i64::try_from(clock_start().elapsed().as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_goes_on_from_the_last_time_and_never_back() {
        let mut clock = Clock::new();
        let began_ms = clock.now_ms();
        let later_ms = began_ms + 3_600_000;
        clock.go_on_from(later_ms);
        let now_ms = clock.now_ms();
        assert!((later_ms..later_ms + 60_000).contains(&now_ms));
        clock.go_on_from(began_ms);
        assert!(clock.now_ms() >= now_ms);
        // An event of now is as long after the beginning as now is.
        let at_ms = (clock.of_events_us(began_ms) + elapsed_us()) / 1000;
        assert!((3_600_000..3_660_000).contains(&at_ms), "{at_ms}");
    }
}

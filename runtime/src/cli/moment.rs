//! Moments and spans of time as people say them: of today by the clock, of another day by its date too.
//!
//! Not here: results for programs, whose times are whole.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The day that a person has, and where.
#[derive(Debug, Clone)]
pub(super) struct Today {
    now: Timestamp,
    zone: TimeZone,
}

impl Today {
    /// The day here, by `TZ` or the settings of the machine.
    pub(super) fn here() -> Self {
        Self {
            now: Timestamp::now(),
            zone: TimeZone::system(),
        }
    }

    /// A day elsewhere, or another.
    #[cfg(test)]
    pub(super) fn at(now: Timestamp, zone: TimeZone) -> Self {
        Self { now, zone }
    }

    /// `14:03:22` of today, else `2026-01-01 14:03`.
    pub(super) fn moment(&self, at: Timestamp) -> String {
        let (at, now) = (self.zone.to_datetime(at), self.zone.to_datetime(self.now));
        let form = match at.date() == now.date() {
            true => "%H:%M:%S",
            false => "%Y-%m-%d %H:%M",
        };
        at.strftime(form).to_string()
    }
}

/// The time between two moments; none where a clock was set back between them.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Option<Duration> {
    Duration::try_from(to.duration_since(from)).ok()
}

/// `3 ms`, `1.4 s`, `2 min 5 s`, `3 h 12 min`, `4 d 2 h`: two numbers at most, the second left out where it is 0.
pub(super) fn span(time: Duration) -> String {
    let (ms, seconds) = (time.as_millis(), time.as_secs());
    if ms < 1000 {
        return format!("{ms} ms");
    }
    if seconds < 10 {
        return format!("{}.{} s", seconds, time.subsec_millis() / 100);
    }
    if seconds < 60 {
        return format!("{seconds} s");
    }
    let (unit, of, next) = match seconds {
        ..3600 => (60, "min", (1, "s")),
        3600..86_400 => (3600, "h", (60, "min")),
        _ => (86_400, "d", (3600, "h")),
    };
    let (whole, rest) = (seconds / unit, seconds % unit / next.0);
    match rest {
        0 => format!("{whole} {of}"),
        rest => format!("{whole} {of} {rest} {}", next.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_moment_of_today_has_no_date_and_one_of_another_day_no_seconds() {
        let today = Today {
            now: at("2026-01-02T12:00:00Z"),
            zone: TimeZone::fixed(jiff::tz::offset(2)),
        };
        assert_eq!(today.moment(at("2026-01-02T00:00:09.9Z")), "02:00:09");
        // The day is the one of the person, not that of Greenwich.
        assert_eq!(today.moment(at("2026-01-01T22:00:00Z")), "00:00:00");
        assert_eq!(today.moment(at("2026-01-01T21:59:59Z")), "2026-01-01 23:59");
        // A clock that was set back leaves moments that have not come yet.
        assert_eq!(today.moment(at("2027-01-01T00:00:00Z")), "2027-01-01 02:00");
    }

    #[test]
    fn a_span_has_two_numbers_at_most() {
        let said = |ms| span(Duration::from_millis(ms));
        assert_eq!(said(0), "0 ms");
        assert_eq!(said(999), "999 ms");
        assert_eq!(said(1_460), "1.4 s");
        assert_eq!(said(59_999), "59 s");
        assert_eq!(said(125_000), "2 min 5 s");
        assert_eq!(said(7_200_000), "2 h");
        assert_eq!(said(11_520_000), "3 h 12 min");
        assert_eq!(said(4 * 86_400_000 + 2 * 3_600_000 + 1), "4 d 2 h");
        assert!(
            span(Duration::MAX).ends_with(" h"),
            "{}",
            span(Duration::MAX)
        );
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_span() {
        let (one, other) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00.003Z"));
        assert_eq!(between(one, other), Some(Duration::from_millis(3)));
        assert_eq!(between(other, one), None);
    }
}

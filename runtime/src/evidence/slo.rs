//! A latency that is to be kept, as it is written, and what a test of it says. Pure.
//!
//! Not here: when a rate has passed (`latency_test`).

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Percentiles that can be asked for: a test of p99.999 needs half a million requests at least, and below p1 nothing is asked of the tail.
const PERCENT_MIN: f64 = 1.0;
/// The highest of them.
const PERCENT_MAX: f64 = 99.999;
/// Longest latency that can be asked for: one hour.
const LIMIT_MS_MAX: f64 = 3_600_000.0;

/// `p99=20ms`: so many requests must not take longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slo {
    /// Share of requests, 0 to 1.
    pub quantile: f64,
    /// Longest latency from the scheduled time.
    pub limit_ms: f64,
}

/// The outcome of one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// Proven to be kept.
    Passed,
    /// Proven not to be.
    Failed,
    /// Neither was proven in the time that it had.
    Undecided,
}

/// A mistake in the text of a latency to be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// Not two parts.
    #[error("expected a percentile and a latency such as p99=20ms, found {found:?}")]
    Form {
        /// As it was written.
        found: String,
    },
    /// The part before `=`.
    #[error(
        "expected a percentile from p{PERCENT_MIN} to p{PERCENT_MAX} such as p99 or p99.9, found {found:?}"
    )]
    Percentile {
        /// As it was written.
        found: String,
    },
    /// The part after `=`.
    #[error(
        "expected a latency above 0 and at most an hour, with its unit, such as 800us, 20ms or 1.5s, found {found:?}"
    )]
    Limit {
        /// As it was written.
        found: String,
    },
}

/// `p99=20ms`, `p99.9=1.5s`, `p50=800us`.
impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let found = |part: &str| part.to_owned();
        let (percentile, limit) = text
            .split_once('=')
            .ok_or_else(|| SloError::Form { found: found(text) })?;
        let (percentile, limit) = (percentile.trim(), limit.trim());
        let percent = percentile
            .strip_prefix(['p', 'P'])
            .and_then(number)
            .filter(|percent| (PERCENT_MIN..=PERCENT_MAX).contains(percent))
            .ok_or_else(|| SloError::Percentile {
                found: found(percentile),
            })?;
        let limit_ms = milliseconds(limit)
            .filter(|limit| *limit > 0.0 && *limit <= LIMIT_MS_MAX)
            .ok_or_else(|| SloError::Limit {
                found: found(limit),
            })?;
        Ok(Self {
            quantile: percent / 100.0,
            limit_ms,
        })
    }
}

/// As it is written: `p99=20ms`.
impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digits that a division by 100 has added go.
        let percent = (self.quantile * 1e8).round() / 1e6;
        write!(f, "p{percent}={}ms", self.limit_ms)
    }
}

/// Digits and a point: no sign, exponent, `inf` or `nan`.
fn number(text: &str) -> Option<f64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| plain)
}

fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    units.into_iter().find_map(|(unit, ms)| {
        let value = number(text.strip_suffix(unit)?.trim_end())?;
        Some(value * ms)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_percentile_and_a_latency_are_read_in_any_unit() {
        for (text, quantile, limit_ms) in [
            ("p99=20ms", 0.99, 20.0),
            ("p99.9=1.5s", 0.999, 1500.0),
            ("p50=800us", 0.5, 0.8),
            (" P90 = 2 ms ", 0.9, 2.0),
        ] {
            let slo: Slo = text.parse().unwrap();
            assert!((slo.quantile - quantile).abs() < 1e-12, "{slo:?}");
            assert!((slo.limit_ms - limit_ms).abs() < 1e-12, "{slo:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for text in ["p99=20ms", "p99.9=1500ms", "p50=0.8ms", "p99.99=3ms"] {
            assert_eq!(text.parse::<Slo>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_latency_without_its_unit_is_refused() {
        let problem = |text: &str| text.parse::<Slo>().unwrap_err().to_string();
        assert_eq!(
            problem("p99=20"),
            "expected a latency above 0 and at most an hour, with its unit, such as 800us, 20ms or 1.5s, found \"20\""
        );
        for text in [
            "p99=",
            "p99=ms",
            "p99=0ms",
            "p99=-1ms",
            "p99=infs",
            "p99=2h",
            "p99=1e3ms",
            "p99=4000s",
        ] {
            assert!(problem(text).starts_with("expected a latency"), "{text}");
        }
    }

    #[test]
    fn what_is_no_percentile_is_refused() {
        let problem = |text: &str| text.parse::<Slo>().unwrap_err().to_string();
        assert_eq!(
            problem("99=20ms"),
            "expected a percentile from p1 to p99.999 such as p99 or p99.9, found \"99\""
        );
        for text in [
            "p=1ms", "p0=1ms", "p100=1ms", "mean=1ms", "p0.5=1ms", "pinf=1ms",
        ] {
            assert!(problem(text).starts_with("expected a percentile"), "{text}");
        }
        assert!(problem("p99 20ms").starts_with("expected a percentile and a latency"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_latency_or_a_problem(text: String, near in "p[0-9.]{0,5}=?[0-9.e-]{0,5}[mu]?s?") {
            for text in [text, near] {
                if let Ok(slo) = text.parse::<Slo>() {
                    prop_assert!(slo.quantile > 0.0 && slo.quantile < 1.0 && slo.limit_ms > 0.0);
                }
            }
        }
    }
}

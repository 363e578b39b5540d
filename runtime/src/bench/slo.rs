//! The highest rate that keeps a latency: which rate to try next, and what the tries say. Pure.

use serde::Serialize;

/// `p99=20ms`: so many requests must not take longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slo {
    /// Share of requests, 0 to 1.
    pub quantile: f64,
    /// Longest latency from the scheduled time.
    pub limit_ms: f64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct SloReport {
    /// What was to be kept.
    pub slo: Slo,
    /// For each version, in their order.
    pub versions: Vec<Sustained>,
}

/// The highest rate of one version, as an interval.
#[derive(Debug, Clone, Serialize)]
pub struct Sustained {
    /// Highest rate that passed; none when not even the lowest did.
    pub passed_per_s: Option<f64>,
    /// Lowest rate above it that failed; none when the generator or the time gave out first.
    pub failed_per_s: Option<f64>,
    /// Whether `passed_per_s` passed a second time, twice as long.
    pub confirmed: Option<bool>,
    /// Why the search ended where it did, in words.
    pub ended: String,
    /// Every try, in order.
    pub probes: Vec<Probe>,
}

/// One rate that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// Requests a second.
    pub rate_per_s: f64,
    /// Requests that were looked at until it was decided.
    pub requests: u64,
    /// Of them those over the limit, failed ones included.
    pub over: u64,
    /// What came of it.
    pub outcome: ProbeOutcome,
}

/// What came of one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// Proven to be kept.
    Passed,
    /// Proven not to be.
    Failed,
    /// The time was over before either was proven; taken for failed.
    Undecided,
}

//! The highest rate of each version that keeps a latency: the data. Pure.
//!
//! Not here: what is to be kept (`crate::evidence`), which rate to try next (`search`).

use serde::Serialize;

use crate::evidence::{ProbeOutcome, Slo};

/// The outcome of a search.
#[derive(Debug, Clone, Serialize)]
pub struct SloReport {
    /// The latency that was to be kept.
    pub slo: Slo,
    /// For each version, in their order.
    pub versions: Vec<Sustained>,
}

/// The highest rate of one version, as an interval: it lies between the two ends, and of rates between them nothing is known.
#[derive(Debug, Clone, Serialize)]
pub struct Sustained {
    /// Highest rate that is proven to be kept; none when not even the lowest is.
    pub passed_per_s: Option<f64>,
    /// Lowest rate above it that is proven not to be; none when the generator or the time gave out first.
    pub failed_per_s: Option<f64>,
    /// Whether both ends were proven a second time; false where there is nothing to confirm.
    pub confirmed: bool,
    /// The reason why the search ended where it did, in words.
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
    /// The time until it was, in seconds.
    pub took_s: f64,
    /// Of them those over the limit, failed ones included.
    pub over: u64,
    /// The outcome.
    pub outcome: ProbeOutcome,
}

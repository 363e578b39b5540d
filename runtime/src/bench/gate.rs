//! Conditions of `--fail-if`: `throughput<0.97`, `p99>1.10`, `agreement<0.99`. Pure.

use serde::Serialize;

use crate::bench::stats::Estimate;

/// What came of a condition.
#[derive(Debug, Clone, Serialize)]
pub struct GateReport {
    /// As it was written.
    pub condition: String,
    /// What was found of its metric.
    pub found: Option<Estimate>,
    /// What that says.
    pub state: GateState,
}

/// Whether a condition holds, by the bound of the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// The whole interval is on the good side.
    Passed,
    /// The whole interval is on the bad side: a regression is proven.
    Failed,
    /// The interval holds the limit, or there is none.
    Undecided,
}

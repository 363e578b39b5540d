//! Intervals and tests. Pure.

use serde::Serialize;

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub point: f64,
    /// Lower end of the interval; absent where there is too little to say.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A ratio of two versions, from pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Geometric mean of the pairs' ratios, with the interval of a paired t test on their logarithms.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Pairs.
    pub pairs: usize,
    /// Of the interval: 0.95, or more where the run was looked at several times.
    pub confidence: f64,
    /// Smallest relative difference that such a run finds four times in five: 0.014 is 1.4 %. Absent with fewer than 3 pairs.
    pub detectable: Option<f64>,
    /// Interval of a percentile bootstrap of the pairs, from 30 pairs on.
    pub bootstrap: Option<(f64, f64)>,
}

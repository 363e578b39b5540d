//! Proof from numbers: intervals, tests and comparisons that another part draws its conclusions from. Pure.
//!
//! `stats` (intervals, ratios of pairs, looks at a run that is not over), `quantiles` (percentiles of two versions), `shares` (the
//! difference of two), `steadiness` (whether the latencies of an open loop are those of its rate), `order` (which version goes first,
//! and which input), `latency_test` with
//! `slo` (a latency that is to be kept) and `dependence` (for requests that stand in one queue), `answers` (whether two versions say the same), `random` (numbers that a seed repeats).
//!
//! Threads: called from any; each call works on what it is given.
//! Not here: I/O, clocks, threads, how the numbers are measured (`load`, `bench`), words about them (`bench`).

#[cfg(feature = "cli")]
mod answers;
#[cfg(feature = "cli")]
mod dependence;
#[cfg(feature = "cli")]
mod latency_test;
#[cfg(feature = "cli")]
mod order;
#[cfg(feature = "cli")]
mod quantiles;
mod random;
#[cfg(feature = "cli")]
mod shares;
#[cfg(test)]
#[cfg(feature = "cli")]
pub(crate) mod simulation;
#[cfg(feature = "cli")]
mod slo;
#[cfg(feature = "cli")]
mod stats;
#[cfg(feature = "cli")]
mod steadiness;

#[cfg(feature = "cli")]
pub use answers::{Answers, Difference, Tolerance, compare};
#[cfg(feature = "cli")]
pub use dependence::kept;
#[cfg(feature = "cli")]
pub use latency_test::LatencyTest;
#[cfg(feature = "cli")]
pub use order::{orders, shuffled};
#[cfg(feature = "cli")]
pub use quantiles::{Recorded, quantile_log, quantile_ratio, quantile_ratio_log};
pub use random::SplitMix64;
#[cfg(feature = "cli")]
pub use shares::difference;
#[cfg(feature = "cli")]
pub use slo::{ProbeOutcome, Slo, SloError};
#[cfg(test)]
#[cfg(feature = "cli")]
pub(crate) use stats::gaussian;
#[cfg(feature = "cli")]
pub use stats::{
    Estimate, LogEstimate, Looks, Part, Quotient, Ratio, pooled, pooled_log, pooled_ratio,
    pooled_ratio_log, proportion, quotient,
};
#[cfg(feature = "cli")]
pub use steadiness::{Course, Steadiness, steadiness};

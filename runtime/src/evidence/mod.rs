//! Proof from numbers: intervals, tests and comparisons that another part draws its conclusions from. Pure.
//!
//! `stats` (intervals, ratios of pairs, looks at a run that is not over), `quantiles` (percentiles of two versions), `shares` (the
//! difference of two), `steadiness` (whether the latencies of an open loop are those of its rate), `order` (which version goes first,
//! and which input), `latency_test` with
//! `slo` (a latency that is to be kept) and `dependence` (for requests that stand in one queue), `answers` (whether two versions say the same), `random` (numbers that a seed repeats).
//!
//! Threads: called from any; each call works on what it is given.
//! Not here: I/O, clocks, threads, how the numbers are measured (`load`, `bench`), words about them (`bench`).

mod answers;
mod dependence;
mod latency_test;
mod order;
mod quantiles;
mod random;
mod shares;
#[cfg(test)]
pub(crate) mod simulation;
mod slo;
mod stats;
mod steadiness;

pub use answers::{Answers, Difference, Tolerance, compare};
pub use dependence::kept;
pub use latency_test::LatencyTest;
pub use order::{orders, shuffled};
pub use quantiles::{Recorded, quantile_ratio};
pub use random::SplitMix64;
pub use shares::difference;
pub use slo::{ProbeOutcome, Slo, SloError};
pub use stats::{Estimate, Looks, Part, Ratio, pooled, pooled_ratio, proportion};
pub use steadiness::{Course, Steadiness, steadiness};

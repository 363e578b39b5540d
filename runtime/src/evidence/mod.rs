//! Proof from numbers: intervals, tests and comparisons that another part draws its conclusions from. Pure.
//!
//! `stats` (intervals, ratios of pairs, looks at a run that is not over), `quantiles` (percentiles of two versions), `shares` (the
//! difference of two), `steadiness` (whether the latencies of an open loop are those of its rate), `order` (which version goes first,
//! and which input), `latency_test` with
//! `slo` (a latency that is to be kept) and `dependence` (for requests that stand in one queue), `answers` (whether two versions say the same), `random` (numbers that a seed repeats).
//!
//! Of a canary, which may be looked at after every request: `event_label` with `block_chance` (whose the bad events are), `slot_shares`
//! (whether an arm has more of them, slot of time by slot), `quantile_pair` with `latency_counts` (percentiles of independent requests),
//! `rate_test` and `paired` (answers to the same requests), `sample_ratio` (whether the split is the one that was asked for), `interference`
//! (whether the canary slows the other), `typical` (the same by slots of which a coin says the order), `forecast` (how long a proof will take), `key_sample` (users who count once), `fleet` (several
//! machines). `docs/canary-statistics.md` has the formulas, and by which argument each test holds.
//!
//! Threads: called from any; each call works on what it is given.
//! Not here: I/O, clocks, threads, how the numbers are measured (`load`, `bench`), words about them (`bench`).

#[cfg(feature = "server")]
mod answers;
#[cfg(feature = "server")]
mod block_chance;
#[cfg(feature = "cli")]
mod dependence;
#[cfg(feature = "server")]
mod event_label;
#[cfg(feature = "server")]
mod fleet;
#[cfg(feature = "server")]
mod forecast;
#[cfg(feature = "server")]
mod interference;
#[cfg(feature = "server")]
mod key_sample;
#[cfg(feature = "server")]
mod latency_counts;
#[cfg(feature = "server")]
mod latency_test;
#[cfg(feature = "cli")]
mod order;
#[cfg(feature = "server")]
mod paired;
#[cfg(feature = "server")]
mod quantile_pair;
#[cfg(feature = "cli")]
mod quantiles;
mod random;
#[cfg(feature = "server")]
mod rate_test;
#[cfg(feature = "server")]
mod sample_ratio;
#[cfg(feature = "cli")]
mod shares;
#[cfg(test)]
#[cfg(feature = "cli")]
pub(crate) mod simulation;
#[cfg(feature = "server")]
mod slo;
#[cfg(feature = "server")]
mod slot_shares;
#[cfg(feature = "server")]
mod stats;
#[cfg(feature = "cli")]
mod steadiness;
#[cfg(feature = "server")]
mod typical;

#[cfg(feature = "server")]
pub use answers::{Answers, Difference, Tolerance, compare};
#[cfg(feature = "server")]
pub use block_chance::{BLOCKS, Block, BlockChance};
#[cfg(feature = "cli")]
pub use dependence::kept;
#[cfg(feature = "server")]
pub use event_label::{EventLabel, log_mean_exp};
#[cfg(feature = "server")]
pub use fleet::{Dependence, Fleet, Report, Tally};
#[cfg(feature = "server")]
pub use forecast::{requests_to_prove, requests_to_prove_beyond, requests_to_rule_out};
#[cfg(feature = "server")]
pub use interference::Interference;
#[cfg(feature = "server")]
pub use key_sample::KeySample;
#[cfg(feature = "server")]
pub use latency_counts::{LatencyCounts, bucket_of};
#[cfg(feature = "cli")]
pub use latency_test::LatencyTest;
#[cfg(feature = "cli")]
pub use order::{orders, shuffled};
#[cfg(feature = "server")]
pub use paired::MeanBand;
#[cfg(feature = "server")]
pub use quantile_pair::{QuantilePair, Slower};
#[cfg(feature = "cli")]
pub use quantiles::{Recorded, quantile_log, quantile_ratio, quantile_ratio_log};
pub use random::SplitMix64;
#[cfg(feature = "server")]
pub use rate_test::RateTest;
#[cfg(feature = "server")]
pub use sample_ratio::SampleRatio;
#[cfg(feature = "cli")]
pub use shares::difference;
#[cfg(feature = "cli")]
pub use slo::{ProbeOutcome, Slo, SloError};
#[cfg(feature = "server")]
pub use slot_shares::{Slot, SlotShares};
#[cfg(test)]
#[cfg(feature = "cli")]
pub(crate) use stats::gaussian;
#[cfg(feature = "server")]
pub use stats::{
    Estimate, LogEstimate, Looks, Part, Quotient, Ratio, pooled, pooled_log, pooled_ratio,
    pooled_ratio_log, proportion, quotient,
};
#[cfg(feature = "cli")]
pub use steadiness::{Course, Steadiness, steadiness};
#[cfg(feature = "server")]
pub use typical::typical;

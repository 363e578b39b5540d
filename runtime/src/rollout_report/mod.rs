//! The report of a rollout as one HTML page: the ramp, the evidence against what proves it, the latency of both versions. Pure.
//!
//! `page` fills `templates/rollout.html`, `plots` draws. Style and figures are those of the report of `bench`.
//!
//! Threads: called from the command line.
//! Not here: where the numbers come from (`admin::RolloutRecord`, which a server answers).

mod page;
mod plots;

pub use page::html;

//! Timings, metrics, log; what the machine and a process of it use.

mod failure_streak;
mod histogram;
mod log;
mod machine;
mod memory_limit;
mod metrics;
mod process;
mod timings;

pub use failure_streak::{Degraded, FailureStreak};
pub use log::{LogFormat, start_log};
pub use machine::{CpuTimes, Others};
pub use memory_limit::memory_limit;
pub use metrics::{ByteMetrics, DeploymentMetrics, Metrics, Outcome, WaitsForRoom};
pub use process::Process;
pub use timings::Timings;

//! Timings, metrics, log; what the machine and a process of it use.

mod control_groups;
mod failure_streak;
mod histogram;
mod log;
mod log_sampling;
mod log_writer;
mod machine;
mod metrics;
mod process;
mod system_cpu;
mod system_memory;
mod timings;

pub use failure_streak::{Degraded, FailureStreak};
pub use log::{LogConfig, LogError, LogFormat, STATUS_TARGET, flush_log, reopen_log, start_log};
pub use machine::{CpuTimes, Others};
pub use metrics::{ByteMetrics, DeploymentMetrics, Metrics, Outcome, WaitsForRoom};
pub use process::Process;
pub use system_cpu::cpu_quota;
pub use system_memory::{ControlGroup, memory_available, memory_limit};
pub use timings::Timings;

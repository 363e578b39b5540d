//! Timings, metrics, log; what the machine and a process of it use.

mod canary_series;
mod control_groups;
#[cfg(feature = "server")]
mod deployment_log;
mod deployment_notes;
#[cfg(feature = "server")]
pub mod evidence;
mod failure_streak;
mod histogram;
#[cfg(feature = "server")]
mod log;
#[cfg(feature = "server")]
mod log_sampling;
#[cfg(feature = "server")]
mod log_writer;
#[cfg(feature = "server")]
mod machine;
mod metrics;
#[cfg(feature = "server")]
mod process;
mod system_cpu;
mod system_memory;
mod timings;

#[cfg(feature = "server")]
pub(crate) use canary_series::pairs_dropped;
pub use canary_series::{NotCopied, ShadowMetrics, StickyMisses};
#[cfg(feature = "server")]
pub use deployment_log::DeploymentLogs;
pub use deployment_notes::{NoteKeeper, NoteOn, give_notes_to, note};
pub use failure_streak::{Degraded, FailureStreak};
#[cfg(feature = "server")]
pub use log::{LogConfig, LogError, LogFormat, STATUS_TARGET, flush_log, reopen_log, start_log};
#[cfg(feature = "server")]
pub use machine::{CpuTimes, Others};
pub use metrics::{ByteMetrics, DeploymentMetrics, Metrics, Outcome, WaitsForRoom};
#[cfg(feature = "server")]
pub use process::Process;
pub use system_cpu::cpu_quota;
pub use system_memory::{ControlGroup, memory_available, memory_limit};
pub use timings::Timings;

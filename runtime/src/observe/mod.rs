//! Timings, metrics, log; what the machine and a process of it use.

mod build_info;
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
#[cfg(all(test, feature = "server"))]
mod metrics_page;
#[cfg(feature = "server")]
mod process;
#[cfg(feature = "server")]
mod process_series;
mod refusals;
mod system_cpu;
mod system_memory;
#[cfg(feature = "server")]
mod text_format;
mod timings;
mod waiting_line;

pub(crate) use build_info::onnxruntime_is_loaded;
pub use canary_series::{NotCopied, ShadowMetrics, StickyMisses};
#[cfg(feature = "server")]
pub(crate) use canary_series::{answers_dropped, pairs_dropped};
#[cfg(feature = "server")]
pub use deployment_log::DeploymentLogs;
pub use deployment_notes::{NoteKeeper, NoteOn, give_notes_to, note};
pub use failure_streak::{Degraded, FailureStreak};
#[cfg(feature = "server")]
pub use log::{LogConfig, LogError, LogFormat, STATUS_TARGET, flush_log, reopen_log, start_log};
#[cfg(feature = "server")]
pub use machine::{CpuTimes, Others};
#[cfg(feature = "server")]
pub use metrics::MetricsFormat;
pub use metrics::{ByteMetrics, DeploymentMetrics, Metrics, Outcome, WaitsForRoom};
#[cfg(feature = "server")]
pub use process::Process;
pub use system_cpu::cpu_quota;
pub use system_memory::{ControlGroup, memory_available, memory_limit};
pub use timings::Timings;
pub use waiting_line::WaitingLine;

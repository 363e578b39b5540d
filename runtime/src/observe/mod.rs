//! Timings, metrics, log; what the machine and a process of it use.

mod histogram;
mod log;
mod machine;
mod metrics;
mod process;
mod timings;

pub use log::{LogFormat, start_log};
pub use machine::{CpuTimes, Others};
pub use metrics::{DeploymentMetrics, Metrics, Outcome};
pub use process::Process;
pub use timings::Timings;

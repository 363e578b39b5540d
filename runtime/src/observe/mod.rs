//! Timings, metrics, log.

mod histogram;
mod log;
mod metrics;
mod timings;

pub use log::{LogFormat, start_log};
pub use metrics::{DeploymentMetrics, Metrics, Outcome};
pub use timings::Timings;

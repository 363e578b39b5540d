//! Compares two versions under load, or measures one, so that the outcome can be trusted.

mod answers;
mod gate;
mod inputs;
mod latency_test;
mod order;
mod report;
mod search;
mod slo;
mod stats;
mod warmup;

pub use answers::{Answers, Difference, Tolerance, compare};
pub use gate::{Condition, ConditionError, GateMetric, GateReport, GateState};
pub use inputs::{BadBodies, Inputs, InputsError};
pub use latency_test::LatencyTest;
pub use order::orders;
pub use report::{
    Block, Check, CheckState, Comparison, Environment, Figures, Level, Metric, Outcome, Phase,
    Report, SCHEMA, Scenario, Setup, Verdict, Version,
};
pub use search::{Ended, Search, Step};
pub use slo::{Probe, ProbeOutcome, Slo, SloError, SloReport, Sustained};
pub use stats::{Estimate, Looks, Ratio, mean, paired_ratio, proportion};
pub use warmup::{WARM_UP_REQUESTS_MIN, is_steady};

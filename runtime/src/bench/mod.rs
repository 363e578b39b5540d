//! Compares two versions under load, or measures one, so that the outcome can be trusted.
//!
//! `report` is what was found, as plain data. `sentence` draws the conclusion from it; `outline` puts it in the order in which it
//! is read, which `words` writes as text and Markdown and `page` as HTML with the pictures of `plots`; `hgrm` writes latencies for
//! the tools of HdrHistogram. All of these are pure.

mod answers;
mod axes;
mod gate;
mod hgrm;
mod numbers;
mod outline;
mod page;
mod plots;
mod report;
mod sentence;
mod slo;
mod stats;
mod words;

#[cfg(test)]
mod sample;

pub use answers::{Answers, Difference, Tolerance};
pub use gate::{GateReport, GateState};
pub use hgrm::hgrm;
pub use page::html;
pub use plots::PlotError;
pub use report::{
    Block, Check, CheckState, Comparison, Environment, Figures, Level, Metric, Outcome, Phase,
    Report, SCHEMA, Scenario, Setup, Verdict, Version,
};
pub use sentence::{Evidence, verdict};
pub use slo::{Probe, ProbeOutcome, Slo, SloReport, Sustained};
pub use stats::{Estimate, Ratio};
pub use words::{markdown, table};

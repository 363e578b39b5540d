//! Compares versions with a baseline under load, or measures one, so that the outcome can be trusted.
//!
//! The versions: `subject`, `private` (a server of its own for a bare file), `inputs` (dealt in the order of `deck`). The run: `task` (what is asked for), `block`
//! (one stretch of load; `seen` its requests), `run` (the budget, the pairs), `sustain` (the highest rate). The conclusions, all pure:
//! `warmup`, `search`, `slo`, `figures`, `ledger`, `failing`, `checks`, `gate`. The words: `report` (the data), `sentence`, `outline`, `page`,
//! `plots`, `numbers`. Runs of other times: `samples` (what is kept of a block), `saved` (the file of a run), `unpaired` (what two of them say).
//!
//! Threads: [`Bench::run`] blocks its caller, and each block has one that generates its load.
//! Not here: intervals, tests and the comparison of answers (`crate::evidence`), how pictures are drawn (`crate::plot`), text for a
//! terminal, the grammar, where versions are found, exit codes (`cli`).

mod block;
mod checks;
mod deck;
mod environment;
mod failing;
mod figures;
mod gate;
mod inputs;
mod ledger;
mod numbers;
mod outline;
mod page;
mod plots;
mod private;
mod report;
mod run;
mod samples;
mod saved;
mod search;
mod seen;
mod sentence;
mod settled;
mod slo;
mod subject;
mod sustain;
mod task;
mod unpaired;
mod warmup;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod schemas;
#[cfg(test)]
mod search_simulation;

pub use gate::{Condition, ConditionError, GateMetric, Ground, undecidable};
pub use inputs::{Inputs, InputsError};
pub(crate) use outline::{Column, Part, Section, mark, outline};
pub use page::html;
pub(crate) use plots::{Plot, css, level_line};
pub use private::{InstanceShape, PrivateError, PrivateServer};
pub use report::{
    Block, Check, CheckState, Comparison, Environment, Failures, Figures, GateReport, GateState,
    InputTimes, Level, LoadedInputs, Metric, Outcome, Phase, Report, SCHEMA, Scenario, Setup,
    VERSIONS_MAX, Verdict, Version, VersionAnswers,
};
pub use samples::SavedBlock;
pub use saved::{Saved, SavedError, SavedLevel, SavedVersion};
pub use slo::{Probe, SloReport, Sustained};
pub use subject::{ServerTimings, Subject, SubjectError};
pub use task::{Bench, BenchError, Progress};
pub use unpaired::{
    Anchor, LevelChange, MetricChange, Refused, RunComparison, VersionChange, compare,
};

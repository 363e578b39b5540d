//! Finds out whether other lanes and batches than those that run now serve a model faster on this machine, by comparing servers.
//!
//! `grid` says which settings are worth a try (pure), `run` compares them in rounds with what runs now and measures the one that may be
//! better once more, `choice` draws the conclusions (pure), `report` tells the outcome, `plot` draws it.
//!
//! Every figure is one of `crate::bench`: over HTTP, to a server in a process of its own, in pairs with what runs now. Before, settings were
//! measured within this process, where a batch pays that the wire hides.
//!
//! Threads: [`Tune::run`] blocks its caller, as a benchmark does.
//! Not here: how a server is started and what a deployment has now (`cli`), how blocks are measured (`bench`), words for a terminal.

mod choice;
mod grid;
mod plot;
mod report;
mod run;

pub use choice::{Advice, P99Max};
pub use grid::{Setting, Space, candidates};
pub use plot::draw;
pub use report::{PointReport, Report, Unmeasured};
pub use run::{Progress, Started, Tune, TuneError};

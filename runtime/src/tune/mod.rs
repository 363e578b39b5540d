//! Finds how many lanes and how large batches serve a model best on this machine, by measuring.
//!
//! `grid` says what is worth measuring (pure), `measure` measures one setting under load, `choice` picks among what was
//! measured (pure), `edge` has the threads of the clients, `run` spends the time budget on the first two, `report` tells the outcome, `plot` draws it.
//!
//! Not here: the server and its deployments, words for people (`cli`).

mod choice;
mod edge;
mod grid;
mod measure;
mod plot;
mod report;
mod run;

pub use choice::{Choice, Goal, Measured, Outcome, Repetition, choose};
pub use grid::{Point, Scan, Setting, clients, divisors, more_clients};
pub use plot::draw;
pub use report::{PointReport, Report, Unmeasured};
pub use run::{Progress, Subject, Tune, TuneError};

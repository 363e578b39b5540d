//! Rollouts that run: what requests, people and time do to each, on disk before anything is done about it.
//!
//! `desk` is where people ask, `judge` the loop, `wishes` carries out what a rollout wants, `hooks` tells others, `evidence` makes
//! observations of events of requests, `pairs` compares answers to mirrored ones, `answer_book` remembers answers until labels come (`answer_table` those in memory), `board` shows all of it, `clock` is their time,
//! `present` counts what an endpoint has before one begins. What is decided, and by which numbers, is `canary`'s.
//!
//! Threads: one task on the control thread; commands and addresses of hooks are asked elsewhere.

mod answer_book;
mod answer_table;
mod board;
mod clock;
mod desk;
mod evidence;
mod hooks;
mod judge;
mod pairs;
mod present;
mod wishes;

pub use board::{LatencyAt, RolloutView, StepView, VerdictView};
pub use desk::{KnownTruth, Label, Learned, Replay, Rollouts, StartRollout};
use judge::Judge;
pub use present::present;

use std::sync::Arc;

use crate::control::ControllerHandle;
use crate::observe::Metrics;

/// Begins to judge rollouts, on the current runtime, and goes on with those that were on their way.
#[must_use]
pub fn judge(controller: ControllerHandle, metrics: Arc<Metrics>) -> Rollouts {
    Judge::start(controller, metrics)
}

//! Rollouts that run: what requests, people and time do to each, on disk before anything is done about it.
//!
//! `desk` is where people ask, `judge` the loop, `wishes` carries out what a rollout wants, `hooks` tells others, `evidence` makes
//! observations of events of requests, `board` shows all of it. What is decided, and by which numbers, is `canary`'s.
//!
//! Threads: one task on the control thread; commands and addresses of hooks are asked elsewhere.

mod board;
mod desk;
mod evidence;
mod hooks;
mod judge;
mod wishes;

pub use board::{RolloutView, StepView, VerdictView};
pub use desk::{Replay, RolloutError, Rollouts, StartRollout};
pub(super) use judge::Judge;

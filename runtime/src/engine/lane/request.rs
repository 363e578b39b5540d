//! A request as a backend of a lane sees it: bytes or tensors, somebody who may have left, and the way to answer.
//!
//! Not here: what the bytes mean (`thread`), where they came from.

use std::time::Instant;

use serin_scorers::Tensor;

use crate::engine::job::AnswerForm;
use crate::engine::{RunError, Scored};
use crate::observe::Timings;

/// What a request brings, as its backend reads it.
#[derive(Debug)]
pub(in crate::engine) enum Brought<'r> {
    /// A body, not yet decoded.
    Body(&'r [u8]),
    /// Tensors in their packed form.
    Packed(&'r [u8]),
    /// Tensors, which the backend takes out, and gives back where the request is left to another run.
    Tensors(&'r mut Vec<Tensor>),
}

/// One request that a backend is to answer.
pub(in crate::engine) trait Request: Sized {
    /// What the request occupies for as long as it is worked on.
    type Claim: Send;

    /// The number by which it is canceled.
    fn id(&self) -> u64;

    /// What it brings.
    fn brought(&mut self) -> Brought<'_>;

    /// The form of the answer that it wants.
    fn wants(&self) -> AnswerForm;

    /// The reason why nobody needs its answer any more.
    fn refusal(&self, now: Instant) -> Option<RunError>;

    /// The instants at which it passed each point.
    fn timings(&mut self) -> &mut Timings;

    /// Gives away what it occupies, for the time of its run: it can be freed under a run that never ends.
    fn take_claim(&mut self) -> Option<Self::Claim>;

    /// Takes it back.
    fn give_claim(&mut self, claim: Option<Self::Claim>);

    /// Answers.
    fn finish(self, outcome: Result<Scored, RunError>);
}

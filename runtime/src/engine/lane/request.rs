//! A request as a backend of a lane sees it: bytes, somebody who may have left, and the way to answer.
//!
//! Not here: what the bytes mean (`thread`), where they came from.

use std::time::Instant;

use crate::engine::{RunError, Scored};
use crate::observe::Timings;

/// One request that a backend is to answer.
pub(in crate::engine) trait Request: Sized {
    /// What the request occupies for as long as it is worked on.
    type Claim: Send;

    /// The number by which it is canceled.
    fn id(&self) -> u64;

    /// The body, not yet decoded.
    fn body(&self) -> &[u8];

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

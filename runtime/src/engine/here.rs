//! Work that its own thread is to do: tensors that stay where they are, and what came of them.
//!
//! Not here: the lane that is lent for it (`lane`), which thread that is (`instance`).

use std::fmt;
use std::time::Instant;

use serin_scorers::{TensorView, Value};

use crate::deadline::Deadline;
use crate::engine::inbox::{Claim, Reservation};
use crate::engine::job::{Permit, RunError};
use crate::observe::Timings;

/// One request of a thread that has nothing else to do.
#[derive(Debug)]
pub struct HereWork<'a> {
    /// Number as that of a job (`Job::next_id`); names it when it must be terminated.
    pub id: u64,
    /// One tensor for each input of the model, in its order.
    pub inputs: &'a [TensorView<'a>],
    /// When the answer is no longer wanted. The run is terminated then, within a moment.
    pub deadline: Deadline,
    /// Whether the thread may be kept for as long as the run takes. One that others wait for is given back after
    /// [`INLINE_RUN_MAX`](crate::config::INLINE_RUN_MAX), and the work is not done then.
    pub may_take_long: bool,
    /// When the request passed each point so far.
    pub timings: Timings,
    /// Its part of the load of the instance.
    pub reservation: Reservation,
    /// The slot that admits this work. Dropped when the work has ended.
    pub permit: Permit,
}

/// What came of work on the caller's own thread.
#[derive(Debug)]
pub struct HereDone {
    /// The outputs in the order of the signature.
    pub outcome: Result<Vec<Value>, RunError>,
    /// When the request passed each point.
    pub timings: Timings,
}

/// The end of a try to work on the caller's own thread.
pub enum Here<'a> {
    /// It is done; reservation and permit have gone back.
    Done(HereDone),
    /// It is not done, for no lane was free, or it took too long for this thread: the work, to be queued.
    Left(HereWork<'a>),
}

impl fmt::Debug for Here<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done(_) => "Done",
            Self::Left(_) => "Left",
        })
    }
}

/// Work under way.
#[derive(Debug)]
pub(super) struct HereRun<'a> {
    pub(super) id: u64,
    pub(super) inputs: &'a [TensorView<'a>],
    pub(super) deadline: Deadline,
    pub(super) may_take_long: bool,
    pub(super) timings: Timings,
    /// With the run while it lasts; gone where it was given up and others have the room already.
    pub(super) claim: Option<Claim>,
}

impl<'a> From<HereWork<'a>> for HereRun<'a> {
    fn from(work: HereWork<'a>) -> Self {
        Self {
            id: work.id,
            inputs: work.inputs,
            deadline: work.deadline,
            may_take_long: work.may_take_long,
            timings: work.timings,
            claim: Some(Claim::new(work.reservation, work.permit)),
        }
    }
}

impl<'a> HereRun<'a> {
    /// The reason why nobody waits for it any more, which was terminated for that.
    pub(super) fn why_unwanted(&self, now: Instant) -> RunError {
        if self.claim.as_ref().is_some_and(Claim::is_stopping) {
            RunError::InstanceGone
        } else if self.deadline.has_passed(now) {
            RunError::ExpiredRunning
        } else {
            RunError::Abandoned
        }
    }

    /// What came of it; the instance has room, and the slot is free, before that is known.
    pub(super) fn done(self, outcome: Result<Vec<Value>, RunError>) -> Here<'a> {
        drop(self.claim);
        Here::Done(HereDone {
            outcome,
            timings: self.timings,
        })
    }

    /// The work again, for somebody else to do.
    pub(super) fn left(self) -> Here<'a> {
        let Some(claim) = self.claim else {
            return self.done(Err(RunError::ExpiredRunning));
        };
        let (reservation, permit) = claim.into_parts();
        Here::Left(HereWork {
            id: self.id,
            inputs: self.inputs,
            deadline: self.deadline,
            may_take_long: self.may_take_long,
            timings: self.timings,
            reservation,
            permit,
        })
    }
}

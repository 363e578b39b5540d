//! A job that was handed to its instance, and what its end says of the deployment. Shared by requests and their copies.
//!
//! Threads: edge. Not here: who may have a slot (`admission`), what is recorded (`score`, `mirror`).

use crate::deadline::Deadline;
use crate::engine::{InstanceHandle, RunError, Scored};
use crate::observe::{Outcome, Timings};
use crate::router::script;

/// A job at its instance. Dropped while its answer is outstanding (the deadline passed, or the client left), it ends the run:
/// nobody would read the answer, and the core is for those who wait.
pub(super) struct Work {
    instance: InstanceHandle,
    job: u64,
    outstanding: bool,
}

impl Work {
    pub(super) fn new(instance: &InstanceHandle, job: u64) -> Self {
        Self {
            instance: instance.clone(),
            job,
            outstanding: true,
        }
    }

    /// The answer is there, or none will come.
    pub(super) fn is_over(&mut self) {
        self.outstanding = false;
    }

    /// Ends the run, for the deadline has passed. What took the request's time: the run, or the line for it. A run that got only the
    /// rest of the time is not at fault.
    pub(super) fn expire(mut self, timings: &Timings, deadline: Deadline) -> RunError {
        self.outstanding = false;
        let received = timings.received;
        let waited = timings.admitted.unwrap_or(received) - received;
        let timeout = deadline.instant().map(|instant| instant - received);
        let had_time = timeout.is_none_or(|timeout| waited < timeout / 2);
        if self.instance.cancel(self.job) && had_time {
            RunError::ExpiredRunning
        } else {
            RunError::ExpiredWaiting
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.outstanding {
            self.instance.cancel(self.job);
        }
    }
}

/// The outcome of a run.
pub(super) fn outcome_of_run(scored: &Result<Scored, RunError>) -> Outcome {
    match scored {
        Ok(scored) => script::outcome(script::status(scored)),
        Err(error) if error.is_malformed_body() => Outcome::Malformed,
        Err(RunError::Input(_)) => Outcome::RejectedByModel,
        Err(RunError::Output(_) | RunError::Model(_) | RunError::Panicked(_)) => {
            Outcome::ModelError
        }
        Err(RunError::Died { .. }) => Outcome::Died,
        Err(RunError::ExpiredWaiting) => Outcome::ExpiredWaiting,
        Err(RunError::ExpiredRunning) => Outcome::ExpiredRunning,
        Err(RunError::Abandoned) => Outcome::Abandoned,
        Err(RunError::InstanceGone) => Outcome::Internal,
    }
}

//! A change on its way.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::control::LocalOutcome;
use crate::embedded::error::Error;
use crate::embedded::executor::block_on;
use crate::engine::refuse_after_fork;

/// A change that is under way: await it on any executor, or [`wait`](Self::wait) for it on this thread.
///
/// It has begun when the method that gave this returned, and it goes on when this is dropped: then nobody hears how it ends. Let none be
/// under way that loads a model when the process ends: await it, or [`Serin::shutdown`](crate::Serin::shutdown).
#[derive(Debug)]
#[must_use = "a change may fail: await its end, or wait for it"]
pub struct Pending(State);

#[derive(Debug)]
enum State {
    /// It was refused before it began; taken by the poll that tells.
    Refused(Option<Error>),
    UnderWay(LocalOutcome),
    /// The end of everything, which may have come before.
    Ending(LocalOutcome),
}

impl Pending {
    pub(super) fn refused(error: Error) -> Self {
        Self(State::Refused(Some(error)))
    }

    pub(super) fn ending(outcome: LocalOutcome) -> Self {
        Self(State::Ending(outcome))
    }

    /// Blocks this thread until the change has come about, or has failed.
    ///
    /// # Errors
    ///
    /// [`Error`], as when it is awaited.
    pub fn wait(self) -> Result<(), Error> {
        block_on(self)
    }
}

impl From<Result<LocalOutcome, Error>> for Pending {
    /// A change that is under way, or was refused before it began.
    fn from(begun: Result<LocalOutcome, Error>) -> Self {
        match begun {
            Ok(outcome) => Self(State::UnderWay(outcome)),
            Err(error) => Self::refused(error),
        }
    }
}

impl Future for Pending {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The thread that would end it was not copied.
        if refuse_after_fork().is_err() {
            return Poll::Ready(Err(Error::Forked));
        }
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Stopped))),
            State::UnderWay(outcome) => Pin::new(outcome)
                .poll(context)
                .map(|outcome| outcome.map_err(Error::from)),
            State::Ending(outcome) => Pin::new(outcome).poll(context).map(|outcome| match outcome
                .map_err(Error::from)
            {
                Err(Error::Stopped) => Ok(()),
                ended => ended,
            }),
        }
    }
}

//! Requests whose inputs are read, and which of them fit into one run.
//!
//! Not here: the run (`thread`).

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serin_scorers::{JsonScorer, Scorer as _, Tensor, unpack_tensors};

use crate::engine::RunError;
use crate::engine::lane::request::{Brought, Request};
use crate::engine::run_memory::{room_for_packed, room_for_tensors};
use crate::engine::session::views;

/// A request whose inputs are read.
pub(super) struct Decoded<R> {
    pub(super) request: R,
    pub(super) inputs: Vec<Tensor>,
    /// Rows of each input; none when they differ, or there are none: then it runs alone.
    pub(super) rows: Option<usize>,
}

impl<R: Request> Decoded<R> {
    /// Answers a request that nobody needs any more.
    pub(super) fn refuse(self, now: Instant) {
        let refusal = self.request.refusal(now);
        self.request
            .finish(Err(refusal.unwrap_or(RunError::ExpiredRunning)));
    }

    /// The request, with what it brought, for another run.
    pub(super) fn into_request(mut self) -> R {
        if let Brought::Tensors(tensors) = self.request.brought() {
            *tensors = self.inputs;
        }
        self.request
    }

    /// Whether rows of both can stand in one input.
    fn fits(&self, other: &Self) -> bool {
        let mut pairs = self.inputs.iter().zip(&other.inputs);
        pairs.all(|(one, other)| one.shape().get(1..) == other.shape().get(1..))
    }
}

/// Reads the inputs of a request; one that is not wanted any more, or does not fit the model, is answered here.
pub(super) fn decode<R: Request>(mut request: R, scorer: &JsonScorer) -> Option<Decoded<R>> {
    let now = Instant::now();
    request.timings().started = Some(now);
    let inputs = match request.refusal(now) {
        Some(refusal) => Err(refusal),
        None => read(request.brought(), scorer),
    };
    match inputs {
        Ok(inputs) => {
            request.timings().decoded = Some(Instant::now());
            Some(Decoded {
                rows: common_rows(inputs.iter().map(Tensor::rows)),
                inputs,
                request,
            })
        }
        Err(error) => {
            request.finish(Err(error));
            None
        }
    }
}

fn read(brought: Brought<'_>, scorer: &JsonScorer) -> Result<Vec<Tensor>, RunError> {
    match brought {
        Brought::Body(body) => decoded(body, scorer),
        Brought::Packed(bytes) => {
            // Kept while the tensors are made.
            let _room = room_for_packed(bytes.len()).map_err(RunError::Model)?;
            let tensors = unpack_tensors(bytes).ok_or_else(damaged)?;
            checked(tensors, scorer)
        }
        Brought::Tensors(tensors) => checked(mem::take(tensors), scorer),
    }
}

fn decoded(body: &[u8], scorer: &JsonScorer) -> Result<Vec<Tensor>, RunError> {
    // Kept while the tensors are made.
    let _room = room_for_tensors(body.len(), scorer.signature()).map_err(RunError::Model)?;
    catch_unwind(AssertUnwindSafe(|| scorer.preprocess(body)))
        .map_err(|panic| RunError::Panicked(panic_message(panic.as_ref())))?
        .map_err(RunError::Input)
}

fn checked(tensors: Vec<Tensor>, scorer: &JsonScorer) -> Result<Vec<Tensor>, RunError> {
    let fits = scorer.signature().check(&views(&tensors));
    fits.map(|()| tensors).map_err(RunError::Input)
}

fn damaged() -> RunError {
    RunError::Model("the tensors on their way to the process of the lane are damaged".to_owned())
}

/// Rows of each input; none where they differ, or there are none.
pub(super) fn common_rows(mut rows: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    let first = rows.next()??;
    (first > 0 && rows.all(|other| other == Some(first))).then_some(first)
}

/// Rows of a run, to be told: without rows in common the run itself is one.
pub(super) fn rows_told(rows: Option<usize>) -> u32 {
    rows.map_or(1, |rows| u32::try_from(rows).unwrap_or(u32::MAX))
}

/// Takes the first request, and those right behind it that fit into the same run.
pub(super) fn next_run<R: Request>(
    decoded: &mut VecDeque<Decoded<R>>,
    rows_max: usize,
) -> Option<Vec<Decoded<R>>> {
    let first = decoded.pop_front()?;
    let mut rows = first.rows.unwrap_or(rows_max);
    let mut run = vec![first];
    while let Some(more) = decoded.front().and_then(|next| next.rows)
        && rows + more <= rows_max
        && decoded.front().is_some_and(|next| run[0].fits(next))
    {
        rows += more;
        run.extend(decoded.pop_front());
    }
    Some(run)
}

/// The words of a panic.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

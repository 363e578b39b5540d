//! The contract between the engine and what stands between a request and a model.

use std::fmt;

use bytes::Bytes;

use crate::error::ScoreError;
use crate::tensor::{OutputView, Tensor};

/// A scorer turns request bodies into tensors and outputs into response bodies.
///
/// Deterministic; no threads, clocks or I/O. One scorer serves all instances of a deployment, so
/// it keeps nothing from one request to the next.
pub trait Scorer: Send + Sync + fmt::Debug {
    /// Reads a body into one tensor per input, in the order of the signature.
    ///
    /// # Errors
    ///
    /// [`ScoreError`] when the body does not fit the model; says what the model wants.
    fn preprocess(&self, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError>;

    /// Writes the body of the response from the outputs, given in the order of the signature.
    ///
    /// # Errors
    ///
    /// [`ScoreError`] when an output has no form in the body.
    fn postprocess(&self, outputs: &[OutputView<'_>]) -> Result<Bytes, ScoreError>;
}

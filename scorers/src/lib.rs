//! Bytes to tensors and back: what stands between a request and an ONNX model.
//!
//! A [`Scorer`] turns the body of a request into one [`Tensor`] per input of the model
//! (preprocess), and the outputs that ONNX Runtime lends as [`OutputView`]s into the body of the
//! response (postprocess). What a model takes and gives is its [`Signature`]; [`JsonScorer`] needs
//! nothing else to score any model. What does not fit is a [`ScoreError`] that says what the model
//! wants.
//!
//! Scorers are deterministic: same bytes in, same bytes out. No threads, clocks or I/O.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod json;
mod rows;
mod scorer;
mod signature;
mod tensor;

pub use error::ScoreError;
pub use json::{JsonScorer, NonFinite};
pub use scorer::Scorer;
pub use signature::{ElementType, OutputKind, OutputSpec, Signature, TensorSpec};
pub use tensor::{OutputView, Tensor};

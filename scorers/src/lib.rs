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

#[cfg(feature = "ndarray")]
mod arrays;
mod element;
mod error;
mod json;
mod packed;
mod rows;
mod scorer;
mod signature;
mod tensor;

pub use element::Element;
pub use error::ScoreError;
pub use json::{JsonScorer, NonFinite};
pub use packed::{pack_tensors, pack_values, unpack_tensors, unpack_values};
pub use scorer::Scorer;
pub use signature::{ElementType, OutputKind, OutputSpec, Signature, TensorSpec};
pub use tensor::{OutputView, Tensor, TensorView, Value};

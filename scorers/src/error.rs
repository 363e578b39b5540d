//! Mistakes: a body that cannot become tensors, or outputs that cannot become a body.

use serde::{Deserialize, Serialize};

/// The reason why a body could not become tensors, or outputs a body. Every message says what the model wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The body is not JSON, or not only JSON.
    #[error(
        "expected {wanted}, found text that is not JSON (line {line}, column {column}: {problem})"
    )]
    NotJson {
        /// The body that the model wants.
        wanted: String,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1, in bytes.
        column: usize,
        /// The fault, in words.
        problem: String,
    },
    /// The body is JSON, but not an object that holds `data` alone.
    #[error("expected {wanted}, found {found}")]
    Envelope {
        /// The body that the model wants.
        wanted: String,
        /// The value in its place.
        found: String,
    },
    /// An input does not have the model's type or shape, or is missing.
    ///
    /// Rows and values are counted from 1, outermost first: `row 2.1, value 3`.
    #[error("input {input:?}: expected {wanted}, {found}")]
    Misfit {
        /// Name of the input.
        input: String,
        /// Type and shape that the model wants.
        wanted: String,
        /// The place where the body departs from it.
        found: String,
    },
    /// The body names an input that the model does not have.
    #[error("the model has no input {input:?}; it has {known}")]
    UnknownInput {
        /// The name in the body.
        input: String,
        /// The names of the model's inputs, quoted.
        known: String,
    },
    /// The body names an input twice.
    #[error("input {input:?} is given twice; give it once")]
    RepeatedInput {
        /// The name in the body.
        input: String,
    },
    /// The model gave more or fewer outputs than it declares.
    #[error("the model gave {found} outputs; it declares {declared}")]
    OutputCount {
        /// Outputs of the signature.
        declared: usize,
        /// Outputs of this run.
        found: usize,
    },
    /// An output is of a kind that JSON has no form for.
    #[error(
        "output {output:?} is {description}, which no answer can hold; export the model with tensor outputs"
    )]
    NoJsonForm {
        /// Name of the output.
        output: String,
        /// Its type in ONNX Runtime's words.
        description: String,
    },
    /// The declared shape is too large to make an example of.
    #[error(
        "input {input:?}: shape {shape:?} has more than {elements_max} elements, too many for an example; give a sample request"
    )]
    ExampleTooLarge {
        /// Name of the input.
        input: String,
        /// Its declared shape.
        shape: Vec<i64>,
        /// Most elements that an example may have.
        elements_max: usize,
    },
    /// The number of tensors is not that of the model's inputs.
    #[error("the model takes {wanted} tensors ({known}), found {found}")]
    TensorCount {
        /// Inputs of the model.
        wanted: usize,
        /// Their names, quoted.
        known: String,
        /// Tensors that were given.
        found: usize,
    },
    /// A tensor's shape has more or fewer elements than there are.
    #[error("a tensor of shape {shape:?} has {wanted} elements, found {found}")]
    ElementCount {
        /// The shape, outermost size first.
        shape: Vec<usize>,
        /// Elements of such a tensor.
        wanted: usize,
        /// Elements that were given.
        found: usize,
    },
    /// A shape that no memory could hold.
    #[error("expected a shape of at most {} elements, found {shape:?}", isize::MAX)]
    ShapeTooLarge {
        /// The shape, outermost size first.
        shape: Vec<usize>,
    },
    /// An array whose elements do not lie row by row, so that they cannot be lent.
    #[error(
        "expected an array whose elements lie row by row, found another layout of shape {shape:?}; copy it to standard layout"
    )]
    NotRowMajor {
        /// The shape, outermost size first.
        shape: Vec<usize>,
    },
    /// Tensors for a scoring script, which reads bodies.
    #[error(
        "expected the bytes of a body, which the scoring script reads, found tensors; send a body"
    )]
    BodyWanted,
}

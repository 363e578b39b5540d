//! Bytes to tensors and back: what stands between a request and an ONNX model.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD};
use serde::{Deserialize, Serialize};

/// Element type of a tensor, named as in ONNX and the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ElementType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Strings (`BYTES` in the Open Inference Protocol).
    Bytes,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: ElementType,
    /// -1 where the model leaves the size free.
    pub shape: Vec<i64>,
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<OutputSpec>,
}

/// One output: a tensor, or what classic models give (sequences and maps).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    pub name: String,
    pub kind: OutputKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    Tensor {
        datatype: ElementType,
        shape: Vec<i64>,
    },
    /// A list of maps, one per row (for example scikit-learn's ZipMap): written as a list of JSON objects.
    SequenceOfMaps,
    Other {
        description: String,
    },
}

/// An input tensor, owned, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    Bool(ArrayD<bool>),
    Uint8(ArrayD<u8>),
    Uint16(ArrayD<u16>),
    Uint32(ArrayD<u32>),
    Uint64(ArrayD<u64>),
    Int8(ArrayD<i8>),
    Int16(ArrayD<i16>),
    Int32(ArrayD<i32>),
    Int64(ArrayD<i64>),
    Fp16(ArrayD<f16>),
    Bf16(ArrayD<bf16>),
    Fp32(ArrayD<f32>),
    Fp64(ArrayD<f64>),
    Bytes(ArrayD<String>),
}

/// An output of the model, borrowed from ONNX Runtime.
#[derive(Debug, Clone)]
pub enum OutputView<'a> {
    Bool(ArrayViewD<'a, bool>),
    Uint8(ArrayViewD<'a, u8>),
    Uint16(ArrayViewD<'a, u16>),
    Uint32(ArrayViewD<'a, u32>),
    Uint64(ArrayViewD<'a, u64>),
    Int8(ArrayViewD<'a, i8>),
    Int16(ArrayViewD<'a, i16>),
    Int32(ArrayViewD<'a, i32>),
    Int64(ArrayViewD<'a, i64>),
    Fp16(ArrayViewD<'a, f16>),
    Bf16(ArrayViewD<'a, bf16>),
    Fp32(ArrayViewD<'a, f32>),
    Fp64(ArrayViewD<'a, f64>),
    /// Strings cannot be borrowed from ONNX Runtime.
    Bytes(ArrayD<String>),
    /// Key and value per entry, keys already text.
    Maps(Vec<Vec<(String, f64)>>),
}

/// Turns request bodies into tensors and outputs into response bodies. Deterministic; no threads, clocks or I/O.
pub trait Scorer: Send + Sync + fmt::Debug {
    /// # Errors
    /// [`ScoreError`] when the body does not fit the model; says what the model wants.
    fn preprocess(&self, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError>;
    /// Outputs in the order of the signature.
    /// # Errors
    /// [`ScoreError`] when an output has no JSON form.
    fn postprocess(&self, outputs: &[OutputView<'_>]) -> Result<Bytes, ScoreError>;
}

/// `{"data": ..}` in, `{"output": ..}` out.
#[derive(Debug, Clone)]
pub struct JsonScorer {
    _signature: Signature,
}

impl JsonScorer {
    #[must_use]
    pub fn new(signature: Signature) -> Self {
        Self {
            _signature: signature,
        }
    }
    /// A body that fits the model, made from its own shapes (zeros, free sizes 1): for warm-up and examples.
    #[must_use]
    pub fn example_body(_signature: &Signature) -> Bytes {
        todo!()
    }
}

impl Scorer for JsonScorer {
    fn preprocess(&self, _payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
        todo!()
    }
    fn postprocess(&self, _outputs: &[OutputView<'_>]) -> Result<Bytes, ScoreError> {
        todo!()
    }
}

/// Why a body could not become tensors, or outputs a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    #[error("{0}")]
    Placeholder(String),
}

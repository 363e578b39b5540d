//! Signature of a model, what it takes and gives: names, element types and shapes, as the ONNX file declares them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Element type of a tensor, named as in ONNX and the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ElementType {
    /// `true` or `false`.
    Bool,
    /// 8 bits, unsigned.
    Uint8,
    /// 16 bits, unsigned.
    Uint16,
    /// 32 bits, unsigned.
    Uint32,
    /// 64 bits, unsigned.
    Uint64,
    /// 8 bits, signed.
    Int8,
    /// 16 bits, signed.
    Int16,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// IEEE 754 half precision.
    Fp16,
    /// The upper half of an `FP32`.
    Bf16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// Strings (`BYTES` in the Open Inference Protocol).
    Bytes,
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        })
    }
}

/// One input of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name in the graph, which is also the key in a request.
    pub name: String,
    /// Type of every element.
    pub datatype: ElementType,
    /// Size of each dimension, outermost first; -1 where the model leaves the size free.
    pub shape: Vec<i64>,
    /// The model declares no shape, so that arrays of any rank fit; `shape` is empty then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_rank: bool,
}

/// The inputs and outputs of a model, each in the model's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The tensors that every request must bring.
    pub inputs: Vec<TensorSpec>,
    /// The tensors that every response holds.
    pub outputs: Vec<OutputSpec>,
}

/// One output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Name in the graph, which is also the key in a response.
    pub name: String,
    /// The kind of the output.
    pub kind: OutputKind,
}

/// A tensor, or what classic models give (sequences and maps).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Elements of one type.
    Tensor {
        /// Type of every element.
        datatype: ElementType,
        /// Size of each dimension, outermost first; -1 where the model leaves the size free.
        shape: Vec<i64>,
    },
    /// A list of tensors of one type, each of its own shape (for example scikit-learn's MultiOutputClassifier).
    Sequence {
        /// Type of every element.
        datatype: ElementType,
    },
    /// Keys, and a number for each: written as a JSON object.
    Map,
    /// A list of maps, one per row (for example scikit-learn's ZipMap): written as a list of JSON objects.
    SequenceOfMaps,
    /// Anything else; it has no JSON form, and a model that gives it cannot be scored.
    Other {
        /// The type in ONNX Runtime's words.
        description: String,
    },
}

impl OutputKind {
    /// The words for what has no JSON form in it.
    pub(crate) fn without_json_form(&self) -> Option<&str> {
        match self {
            Self::Other { description } => Some(description),
            Self::Tensor { .. } | Self::Sequence { .. } | Self::Map | Self::SequenceOfMaps => None,
        }
    }
}

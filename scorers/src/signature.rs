//! Signature of a model, what it takes and gives: names, element types and shapes, as the ONNX file declares them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ScoreError;
use crate::tensor::TensorView;

/// Most dimensions of an input whose rank the model leaves open.
pub(crate) const RANK_MAX: usize = 32;

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

impl ElementType {
    /// Its elements in words.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Bool => "values (true or false)",
            Self::Bytes => "strings",
            Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64 => "numbers",
            Self::Uint8
            | Self::Uint16
            | Self::Uint32
            | Self::Uint64
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64 => "whole numbers",
        }
    }
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

impl Signature {
    /// Whether these tensors are the model's inputs: in its order, each of its type and shape.
    ///
    /// # Errors
    ///
    /// [`ScoreError::TensorCount`], or [`ScoreError::Misfit`] of the first that is another.
    pub fn check(&self, inputs: &[TensorView<'_>]) -> Result<(), ScoreError> {
        if self.inputs.len() != inputs.len() {
            return Err(ScoreError::TensorCount {
                wanted: self.inputs.len(),
                known: self.known_inputs(),
                found: inputs.len(),
            });
        }
        let mut pairs = self.inputs.iter().zip(inputs);
        match pairs.find(|(spec, input)| !spec.takes(input)) {
            Some((spec, input)) => {
                let (datatype, shape) = (input.element_type(), input.shape());
                Err(spec.misfit(format!("found {datatype} of shape {shape:?}")))
            }
            None => Ok(()),
        }
    }

    /// The place of an input among the model's.
    #[must_use]
    pub fn index_of_input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|spec| spec.name == name)
    }

    /// For each input of the model the place of its name among these.
    ///
    /// # Errors
    ///
    /// [`ScoreError::UnknownInput`], [`ScoreError::RepeatedInput`], or [`ScoreError::Misfit`] where an input has no name among them.
    pub fn order_of(&self, names: &[&str]) -> Result<Vec<usize>, ScoreError> {
        for (place, name) in names.iter().enumerate() {
            let input = (*name).to_owned();
            if self.index_of_input(name).is_none() {
                let known = self.known_inputs();
                return Err(ScoreError::UnknownInput { input, known });
            }
            if names[..place].contains(name) {
                return Err(ScoreError::RepeatedInput { input });
            }
        }
        let place = |spec: &TensorSpec| {
            let place = names.iter().position(|name| *name == spec.name);
            place.ok_or_else(|| spec.misfit("found nothing under that name".to_owned()))
        };
        self.inputs.iter().map(place).collect()
    }

    /// The names of the inputs, quoted, for messages.
    pub(crate) fn known_inputs(&self) -> String {
        let names: Vec<_> = self
            .inputs
            .iter()
            .map(|spec| format!("{:?}", spec.name))
            .collect();
        names.join(", ")
    }
}

impl TensorSpec {
    /// Whether a tensor is of its type and shape.
    fn takes(&self, input: &TensorView<'_>) -> bool {
        let shape = input.shape();
        let fits = |(wanted, found): (&i64, &usize)| {
            *wanted < 0 || usize::try_from(*wanted).is_ok_and(|wanted| wanted == *found)
        };
        let rank_fits = match self.any_rank {
            true => shape.len() <= RANK_MAX,
            false => shape.len() == self.shape.len(),
        };
        rank_fits && input.element_type() == self.datatype && self.shape.iter().zip(shape).all(fits)
    }

    /// The words for an input that is not given as the model wants it.
    pub(crate) fn misfit(&self, found: String) -> ScoreError {
        let of = if self.any_rank { "" } else { "of shape " };
        let wanted = format!(
            "{} {} {of}{}",
            self.datatype,
            self.datatype.noun(),
            self.shape_in_words()
        );
        ScoreError::Misfit {
            input: self.name.clone(),
            wanted,
            found,
        }
    }

    pub(crate) fn shape_in_words(&self) -> String {
        if self.any_rank {
            "of any shape".to_owned()
        } else {
            format!("{:?}", self.shape)
        }
    }
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

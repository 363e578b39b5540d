//! The JSON scorer: `{"data": ..}` in, the model's outputs by name out.
//!
//! A request holds nested lists, row-major: `{"data": [[5.1, 3.5]]}` for a model with one input,
//! `{"data": {"a": [..], "b": [..]}}` by name for any model. Free sizes are taken from the body,
//! every other size must match. Numbers must fit the element type; a float type takes any JSON
//! number, a whole type also `5.0`. A float type also takes `null`, which is NaN, and the bare tokens
//! `NaN`, `Infinity` and `-Infinity`.
//!
//! A response holds the outputs in the model's order: `{"label":[3],"probabilities":[[0.1,..]]}`.
//! Floats are written in the fewest digits that read back the same; [`NonFinite`] says how those are
//! written that have none. A sequence is a list, a map an object.

mod element;
mod plain;
mod read;
mod text;
mod write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::ScoreError;
use crate::scorer::Scorer;
use crate::signature::{ElementType, Signature, TensorSpec};
use crate::tensor::{OutputView, Tensor};

/// Most elements that an example is made of: 128 MiB of zeros and commas.
const EXAMPLE_ELEMENTS_MAX: usize = 1 << 26;

/// The form of NaN and infinities in an answer. JSON has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// All three are `null`, as in JavaScript: every parser reads that.
    #[default]
    Nulls,
    /// `NaN`, `Infinity` and `-Infinity`, as Python's `json` writes and reads them: told apart, but no JSON.
    Tokens,
}

/// A scorer of any model by its signature: `{"data": ..}` in, `{"output": ..}` out.
#[derive(Debug, Clone)]
pub struct JsonScorer {
    signature: Signature,
    non_finite: NonFinite,
}

impl JsonScorer {
    /// A scorer for a model with this signature.
    #[must_use]
    pub fn new(signature: Signature) -> Self {
        Self {
            signature,
            non_finite: NonFinite::default(),
        }
    }

    /// The same, with NaN and infinities in this form.
    #[must_use]
    pub fn with_non_finite(self, non_finite: NonFinite) -> Self {
        Self { non_finite, ..self }
    }

    /// Whether a model with this signature can be scored: every output has a JSON form.
    ///
    /// # Errors
    ///
    /// [`ScoreError::NoJsonForm`] with the first output that has none.
    pub fn check(signature: &Signature) -> Result<(), ScoreError> {
        let mut outputs = signature.outputs.iter();
        match outputs.find_map(|spec| Some((spec, spec.kind.without_json_form()?))) {
            Some((spec, description)) => Err(ScoreError::NoJsonForm {
                output: spec.name.clone(),
                description: description.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The inputs and outputs of the model.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// A body that fits the model, made from its own shapes (zeros, empty strings, free sizes 1): for warm-up and examples.
    ///
    /// # Errors
    ///
    /// [`ScoreError::ExampleTooLarge`] when a declared shape is absurdly large.
    pub fn example_body(signature: &Signature) -> Result<Bytes, ScoreError> {
        let mut out = b"{\"data\":".to_vec();
        match signature.inputs.as_slice() {
            [only] => write_example(only, &mut out)?,
            several => {
                let mut entries = Vec::with_capacity(several.len());
                for spec in several {
                    let mut example = Vec::new();
                    write_example(spec, &mut example)?;
                    entries.push((&spec.name, example));
                }
                write::object(&mut out, &entries, |example, out| {
                    out.extend_from_slice(example);
                });
            }
        }
        out.push(b'}');
        Ok(out.into())
    }
}

impl Scorer for JsonScorer {
    fn preprocess(&self, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
        read::body(&self.signature, payload)
    }

    fn postprocess(&self, outputs: &[OutputView<'_>]) -> Result<Bytes, ScoreError> {
        let declared = &self.signature.outputs;
        if declared.len() != outputs.len() {
            return Err(ScoreError::OutputCount {
                declared: declared.len(),
                found: outputs.len(),
            });
        }
        Self::check(&self.signature)?;
        let entries: Vec<_> = declared
            .iter()
            .map(|spec| &spec.name)
            .zip(outputs)
            .collect();
        let mut out = Vec::with_capacity(256);
        let non_finite = self.non_finite;
        write::object(&mut out, &entries, |output, out| {
            write::output(output, non_finite, out);
        });
        Ok(out.into())
    }
}

fn write_example(spec: &TensorSpec, out: &mut Vec<u8>) -> Result<(), ScoreError> {
    let sizes: Vec<usize> = spec
        .shape
        .iter()
        .map(|&size| {
            if size < 0 {
                1
            } else {
                usize::try_from(size).unwrap_or(usize::MAX)
            }
        })
        .chain(spec.any_rank.then_some(1))
        .collect();
    // Zero sizes count as 1: the lists around an empty one are written too.
    let elements = sizes
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)));
    if elements.is_none_or(|elements| elements > EXAMPLE_ELEMENTS_MAX) {
        return Err(ScoreError::ExampleTooLarge {
            input: spec.name.clone(),
            shape: spec.shape.clone(),
            elements_max: EXAMPLE_ELEMENTS_MAX,
        });
    }
    let zero = match spec.datatype {
        ElementType::Bool => "false",
        ElementType::Bytes => "\"\"",
        _ => "0",
    };
    write_zeros(&sizes, zero, out);
    Ok(())
}

fn write_zeros(sizes: &[usize], zero: &str, out: &mut Vec<u8>) {
    let [size, inner @ ..] = sizes else {
        out.extend_from_slice(zero.as_bytes());
        return;
    };
    out.push(b'[');
    for at in 0..*size {
        if at > 0 {
            out.push(b',');
        }
        write_zeros(inner, zero, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;

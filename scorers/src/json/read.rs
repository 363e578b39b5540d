//! Reading: from the bytes of a body straight into typed tensors, with no tree of values in between.
//!
//! Depth is bound by the rank of the input: a list below the innermost dimension is refused where
//! it opens. The first thing that does not fit is kept as `problem` and ends the parse.

use std::fmt;

use ndarray::{ArrayD, IxDyn};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::element::Element;
use super::plain;
use crate::error::ScoreError;
use crate::signature::{ElementType, Signature, TensorSpec};
use crate::tensor::Tensor;

/// Longest name or key that a message repeats, in characters.
const QUOTED_MAX: usize = 60;

/// Reads a whole body into one tensor per input, in the order of the signature.
pub(super) fn body(signature: &Signature, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
    match plain::body(signature, payload) {
        Some(tensor) => Ok(vec![tensor]),
        None => general(signature, payload),
    }
}

/// Reads any body that fits, and says what is wrong with any other.
pub(super) fn general(signature: &Signature, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
    let mut problem = None;
    let mut json = serde_json::Deserializer::from_slice(payload);
    let body = Body {
        signature,
        problem: &mut problem,
    };
    (&mut json)
        .deserialize_any(body)
        .and_then(|tensors| json.end().map(|()| tensors))
        .map_err(|error| problem.unwrap_or_else(|| not_json(signature, &error)))
}

fn not_json(signature: &Signature, error: &serde_json::Error) -> ScoreError {
    let (line, column) = (error.line(), error.column());
    let mut problem = error.to_string();
    let place = format!(" at line {line} column {column}");
    problem.truncate(problem.strip_suffix(&place).map_or(problem.len(), str::len));
    ScoreError::NotJson {
        wanted: wanted_body(signature),
        line,
        column,
        problem,
    }
}

/// The body that a model wants, for messages.
fn wanted_body(signature: &Signature) -> String {
    match signature.inputs.as_slice() {
        [only] => format!("{{\"data\": ..}} with {} {:?}", only.datatype, only.shape),
        several => {
            let inputs: Vec<_> = several
                .iter()
                .map(|input| format!("{:?}: {} {:?}", input.name, input.datatype, input.shape))
                .collect();
            format!("{{\"data\": {{{}}}}}", inputs.join(", "))
        }
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}..", &name[..end]),
        None => name.to_owned(),
    }
}

/// Keeps the first problem; the error that it returns only ends the parse.
fn refuse<E: Error>(problem: &mut Option<ScoreError>, found: ScoreError) -> E {
    problem.get_or_insert(found);
    E::custom("the body does not fit the model")
}

/// Visits of everything that is neither a list nor an object, each handed to `$found`.
macro_rules! visit_scalars {
    ($found:ident) => {
        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            self.$found(Scalar::Bool(value))
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            self.$found(Scalar::Unsigned(value))
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            self.$found(Scalar::Signed(value))
        }
        fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
            self.$found(Scalar::Float(value))
        }
        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            self.$found(Scalar::Text(value))
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            self.$found(Scalar::Null)
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
    };
}

/// A JSON value without parts.
#[derive(Clone, Copy)]
enum Scalar<'t> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'t str),
}

impl Scalar<'_> {
    fn element<T: Element>(self) -> Option<T> {
        match self {
            Self::Null => None,
            Self::Bool(value) => T::from_bool(value),
            Self::Unsigned(value) => T::from_unsigned(value),
            Self::Signed(value) => T::from_signed(value),
            Self::Float(value) => T::from_float(value),
            Self::Text(value) => T::from_text(value),
        }
    }
}

/// Numbers as they are; text only by kind, since it may be long or private.
impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(_) => f.write_str("text"),
        }
    }
}

/// The outer object: `data` and nothing else.
struct Body<'s> {
    signature: &'s Signature,
    problem: &'s mut Option<ScoreError>,
}

impl Body<'_> {
    fn refuse<T, E: Error>(self, found: impl Into<String>) -> Result<T, E> {
        let wanted = wanted_body(self.signature);
        Err(refuse(
            self.problem,
            ScoreError::Envelope {
                wanted,
                found: found.into(),
            },
        ))
    }

    fn scalar<T, E: Error>(self, found: Scalar<'_>) -> Result<T, E> {
        self.refuse(found.to_string())
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Vec<Tensor>;
    visit_scalars!(scalar);

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        self.refuse("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "data" {
                return self.refuse(format!("the key {:?}", shortened(&key)));
            }
            if tensors.is_some() {
                return self.refuse("\"data\" twice");
            }
            let data = Data {
                signature: self.signature,
                problem: &mut *self.problem,
            };
            tensors = Some(map.next_value_seed(data)?);
        }
        match tensors {
            Some(tensors) => Ok(tensors),
            None => self.refuse("no \"data\""),
        }
    }
}

/// The value under `data`: an object of inputs by name, or the only input itself.
struct Data<'s> {
    signature: &'s Signature,
    problem: &'s mut Option<ScoreError>,
}

impl Data<'_> {
    fn only_input<'de, D: Deserializer<'de>>(
        self,
        json: D,
        found: &str,
    ) -> Result<Vec<Tensor>, D::Error> {
        match self.signature.inputs.as_slice() {
            [spec] => Input {
                spec,
                problem: self.problem,
            }
            .deserialize(json)
            .map(|tensor| vec![tensor]),
            _ => {
                let wanted = wanted_body(self.signature);
                let found = format!("{found} in place of the inputs by name");
                Err(refuse(self.problem, ScoreError::Envelope { wanted, found }))
            }
        }
    }

    fn scalar<E: Error>(self, found: Scalar<'_>) -> Result<Vec<Tensor>, E> {
        let words = found.to_string();
        match found {
            Scalar::Null => self.only_input(().into_deserializer(), &words),
            Scalar::Bool(value) => self.only_input(value.into_deserializer(), &words),
            Scalar::Unsigned(value) => self.only_input(value.into_deserializer(), &words),
            Scalar::Signed(value) => self.only_input(value.into_deserializer(), &words),
            Scalar::Float(value) => self.only_input(value.into_deserializer(), &words),
            Scalar::Text(value) => self.only_input(value.into_deserializer(), &words),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = Vec<Tensor>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = Vec<Tensor>;
    visit_scalars!(scalar);

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        self.only_input(SeqAccessDeserializer::new(list), "a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        MapAccessDeserializer::new(map).deserialize_any(Named {
            signature: self.signature,
            problem: self.problem,
        })
    }
}

/// Inputs by name, in any order.
struct Named<'s> {
    signature: &'s Signature,
    problem: &'s mut Option<ScoreError>,
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Vec<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inputs by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let inputs = &self.signature.inputs;
        let mut slots: Vec<Option<Tensor>> = inputs.iter().map(|_| None).collect();
        while let Some(key) = map.next_key::<String>()? {
            let Some(at) = inputs.iter().position(|spec| spec.name == key) else {
                let known: Vec<_> = inputs
                    .iter()
                    .map(|spec| format!("{:?}", spec.name))
                    .collect();
                let (input, known) = (shortened(&key), known.join(", "));
                return Err(refuse(
                    self.problem,
                    ScoreError::UnknownInput { input, known },
                ));
            };
            if slots[at].is_some() {
                return Err(refuse(
                    self.problem,
                    ScoreError::RepeatedInput { input: key },
                ));
            }
            let input = Input {
                spec: &inputs[at],
                problem: &mut *self.problem,
            };
            slots[at] = Some(map.next_value_seed(input)?);
        }
        let mut tensors = Vec::with_capacity(slots.len());
        for (slot, spec) in slots.into_iter().zip(inputs) {
            let Some(tensor) = slot else {
                return Err(refuse(
                    self.problem,
                    misfit(spec, "found nothing".to_owned()),
                ));
            };
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

fn misfit(spec: &TensorSpec, found: String) -> ScoreError {
    let wanted = format!(
        "{} {} of shape {:?}",
        spec.datatype,
        noun(spec.datatype),
        spec.shape
    );
    ScoreError::Misfit {
        input: spec.name.clone(),
        wanted,
        found,
    }
}

fn noun(datatype: ElementType) -> &'static str {
    match datatype {
        ElementType::Bool => "values (true or false)",
        ElementType::Bytes => "strings",
        ElementType::Fp16 | ElementType::Bf16 | ElementType::Fp32 | ElementType::Fp64 => "numbers",
        ElementType::Uint8
        | ElementType::Uint16
        | ElementType::Uint32
        | ElementType::Uint64
        | ElementType::Int8
        | ElementType::Int16
        | ElementType::Int32
        | ElementType::Int64 => "whole numbers",
    }
}

/// One input.
struct Input<'s> {
    spec: &'s TensorSpec,
    problem: &'s mut Option<ScoreError>,
}

impl<'de> DeserializeSeed<'de> for Input<'_> {
    type Value = Tensor;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Tensor, D::Error> {
        match self.spec.datatype {
            ElementType::Bool => grid(self, json).map(Tensor::Bool),
            ElementType::Uint8 => grid(self, json).map(Tensor::Uint8),
            ElementType::Uint16 => grid(self, json).map(Tensor::Uint16),
            ElementType::Uint32 => grid(self, json).map(Tensor::Uint32),
            ElementType::Uint64 => grid(self, json).map(Tensor::Uint64),
            ElementType::Int8 => grid(self, json).map(Tensor::Int8),
            ElementType::Int16 => grid(self, json).map(Tensor::Int16),
            ElementType::Int32 => grid(self, json).map(Tensor::Int32),
            ElementType::Int64 => grid(self, json).map(Tensor::Int64),
            ElementType::Fp16 => grid(self, json).map(Tensor::Fp16),
            ElementType::Bf16 => grid(self, json).map(Tensor::Bf16),
            ElementType::Fp32 => grid(self, json).map(Tensor::Fp32),
            ElementType::Fp64 => grid(self, json).map(Tensor::Fp64),
            ElementType::Bytes => grid(self, json).map(Tensor::Bytes),
        }
    }
}

/// Reads nested lists, row-major.
fn grid<'de, T: Element, D: Deserializer<'de>>(
    input: Input<'_>,
    json: D,
) -> Result<ArrayD<T>, D::Error> {
    let mut grid = Grid {
        spec: input.spec,
        // A negative size is free until the first list of that depth sets it.
        sizes: input
            .spec
            .shape
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect(),
        values: Vec::new(),
        path: Vec::with_capacity(input.spec.shape.len()),
        problem: input.problem,
    };
    Level(&mut grid).deserialize(json)?;
    // A dimension below an empty list was never seen: nothing says that it is not empty too.
    let sizes: Vec<usize> = grid.sizes.iter().map(|size| size.unwrap_or(0)).collect();
    let Grid {
        spec,
        values,
        problem,
        ..
    } = grid;
    ArrayD::from_shape_vec(IxDyn(&sizes), values).map_err(|error| {
        refuse(
            problem,
            misfit(spec, format!("found a shape of {sizes:?} ({error})")),
        )
    })
}

/// A tensor in the making.
struct Grid<'s, T> {
    spec: &'s TensorSpec,
    /// Sizes by depth; nothing where the size is free and not yet seen.
    sizes: Vec<Option<usize>>,
    values: Vec<T>,
    /// The place of the parse: the index at each depth that is open, counted from 0.
    path: Vec<usize>,
    problem: &'s mut Option<ScoreError>,
}

impl<T: Element> Grid<'_, T> {
    fn refuse<E: Error>(&mut self, found: &str, verb: &str) -> E {
        let found = match self.place() {
            Some(place) => format!("{place} {verb} {found}"),
            None => format!("found {found}"),
        };
        refuse(self.problem, misfit(self.spec, found))
    }

    /// `row 2`, `row 2.1, value 3`: counted from 1, as people do.
    fn place(&self) -> Option<String> {
        let (rows, value) = match self.path.split_last() {
            Some((last, rows)) if self.path.len() == self.sizes.len() => (rows, Some(last + 1)),
            _ => (self.path.as_slice(), None),
        };
        let rows: Vec<_> = rows.iter().map(|index| (index + 1).to_string()).collect();
        let row = (!rows.is_empty()).then(|| format!("row {}", rows.join(".")));
        let value = value.map(|value| format!("value {value}"));
        match (row, value) {
            (Some(row), Some(value)) => Some(format!("{row}, {value}")),
            (row, value) => row.or(value),
        }
    }

    /// Checks the list that just closed against the declared or first seen size of its dimension.
    fn close<E: Error>(&mut self, count: usize) -> Result<(), E> {
        let depth = self.path.len();
        let expected = *self.sizes[depth].get_or_insert(count);
        if expected == count {
            return Ok(());
        }
        let innermost = depth + 1 == self.sizes.len();
        let part = match (innermost, self.spec.datatype) {
            (false, _) => "rows",
            (true, ElementType::Bool) => "values",
            (true, datatype) => noun(datatype),
        };
        let free = self.spec.shape[depth] < 0;
        let found = match free {
            true => format!("{count} {part}, the rows before have {expected}"),
            false => format!("{count} {part}"),
        };
        Err(self.refuse(&found, "has"))
    }
}

/// The lists, or in the end the elements, at the depth where the parse is.
struct Level<'g, 's, T>(&'g mut Grid<'s, T>);

impl<T: Element> Level<'_, '_, T> {
    fn scalar<E: Error>(self, found: Scalar<'_>) -> Result<(), E> {
        let grid = self.0;
        if grid.path.len() < grid.sizes.len() {
            return Err(grid.refuse(&format!("{found}, not a list"), "is"));
        }
        match found.element() {
            Some(value) => {
                grid.values.push(value);
                Ok(())
            }
            None => Err(grid.refuse(&found.to_string(), "is")),
        }
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Level<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Level<'_, '_, T> {
    type Value = ();
    visit_scalars!(scalar);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let grid = self.0;
        let depth = grid.path.len();
        if depth == grid.sizes.len() {
            return Err(grid.refuse("a list", "is"));
        }
        grid.path.push(0);
        while list.next_element_seed(Level(grid))?.is_some() {
            grid.path[depth] += 1;
        }
        let count = grid.path.pop().expect("pushed above");
        grid.close(count)
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.0.refuse("an object", "is"))
    }
}

//! A node on the way of the values: what it gets, in the form in which the rules of operators ask for it.
//!
//! An input that is made of rows and that no rule has looked at stands in the way of a proof, so that a rule which forgets one is
//! no proof of anything.
//!
//! Not here: the rules (`rules`), the order of nodes (`follow`).

use std::borrow::Cow;
use std::cell::Cell;

use crate::engine::graph::proto::{Attribute, Tensor};
use crate::engine::graph::size::{Size, Unknown};
use crate::engine::graph::value::{self, Role, Value};

/// The outputs of a node, or why its rows are not independent, as a predicate of the operator.
pub(super) type Outcome = Result<Vec<Value>, String>;

/// The rule of an operator: its outputs from its inputs.
pub(super) type Rule = fn(&Call<'_>) -> Outcome;

/// A node with its inputs.
pub(super) struct Call<'a> {
    pub(super) operator: &'a str,
    /// The version of the operator set that the model asks for.
    pub(super) version: i64,
    inputs: Vec<Option<Value>>,
    attributes: Vec<Cow<'a, Attribute>>,
    pub(super) outputs: usize,
    /// Inputs that a rule has looked at.
    seen: Vec<Cell<bool>>,
    next_unknown: &'a Cell<u32>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        (operator, version): (&'a str, i64),
        inputs: Vec<Option<Value>>,
        attributes: Vec<Cow<'a, Attribute>>,
        outputs: usize,
        next_unknown: &'a Cell<u32>,
    ) -> Self {
        Self {
            operator,
            version,
            seen: vec![Cell::new(false); inputs.len()],
            inputs,
            attributes,
            outputs,
            next_unknown,
        }
    }

    /// Inputs, given or not.
    pub(super) fn count(&self) -> usize {
        self.inputs.len()
    }

    /// An input that may be left out.
    pub(super) fn optional(&self, index: usize) -> Option<&Value> {
        self.seen.get(index)?.set(true);
        self.inputs[index].as_ref()
    }

    pub(super) fn input(&self, index: usize) -> Result<&Value, String> {
        self.optional(index)
            .ok_or_else(|| "lacks an input".to_owned())
    }

    /// An input that may only be the same for all rows; nothing where it is left out.
    pub(super) fn same(&self, index: usize) -> Result<Option<&Value>, String> {
        match self.optional(index) {
            Some(value) if value.role != Role::Same => {
                Err(format!("gets its input {index} from the rows"))
            }
            value => Ok(value),
        }
    }

    /// All inputs from this one on are the same for all rows.
    pub(super) fn same_from(&self, first: usize) -> Result<(), String> {
        (first..self.count()).try_for_each(|index| self.same(index).map(|_| ()))
    }

    /// An input and its shape.
    pub(super) fn shaped(&self, index: usize) -> Result<(&Value, &[Size]), String> {
        let value = self.input(index)?;
        let shape = value.shape.as_deref();
        Ok((value, shape.ok_or("has an input whose shape is not known")?))
    }

    /// An input made of rows or the same for all, its shape, and the axis of rows if it has one.
    pub(super) fn rows(&self, index: usize) -> Result<(Option<usize>, &[Size]), String> {
        let (value, shape) = self.shaped(index)?;
        match value.role {
            Role::Same => Ok((None, shape)),
            Role::Rows(axis) => Ok((Some(axis), shape)),
            Role::Count | Role::Mixed(_) => Err("computes with the number of rows".to_owned()),
        }
    }

    /// As [`Self::rows`], where the rows lie along the first axis.
    pub(super) fn rows_first(&self, index: usize) -> Result<(Option<usize>, &[Size]), String> {
        match self.rows(index)? {
            (Some(axis), _) if axis != 0 => Err(format!(
                "works on its first axis entry by entry, but the rows lie along axis {axis}"
            )),
            found => Ok(found),
        }
    }

    /// A rule has looked at every input.
    pub(super) fn saw_all(&self) {
        self.seen.iter().for_each(|seen| seen.set(true));
    }

    /// Whether something made of rows, or counted from them, was not looked at.
    pub(super) fn overlooked(&self) -> Option<usize> {
        let mut inputs = self.inputs.iter().zip(&self.seen);
        inputs.position(|(input, seen)| {
            !seen.get() && input.as_ref().is_some_and(|input| input.role != Role::Same)
        })
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &Value> {
        self.inputs.iter().flatten()
    }

    /// A size that nobody knows.
    pub(super) fn some_size(&self) -> Size {
        some(self.next_unknown, true)
    }

    /// A number that nobody knows.
    pub(super) fn some_number(&self) -> Size {
        some(self.next_unknown, false)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes
            .iter()
            .map(AsRef::as_ref)
            .find(|one: &&Attribute| one.name == name)
    }

    /// A number; the default where there is none.
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name)
            .map_or(default, |one| one.i.unwrap_or(0))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_deref()?).ok()
    }

    /// A list of numbers; an error where it was too long to be kept.
    pub(super) fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        match self.attribute(name) {
            Some(one) if one.cut => Err(format!("has more {name} than are read")),
            one => Ok(one.map(|one| &one.ints[..])),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.attribute(name)?.t.as_deref()
    }

    /// The axis that an attribute names, from the end where it is negative.
    pub(super) fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, String> {
        at(self.int(name, default), rank)
    }

    /// Numbers of an input that is constant, or of the attribute of that name in older versions; nothing where neither is given.
    pub(super) fn numbers(&self, index: usize, name: &str) -> Result<Option<Vec<i64>>, String> {
        if let Some(input) = self.optional(index) {
            let numbers = input.numbers().filter(|_| input.role == Role::Same);
            return numbers
                .map(Some)
                .ok_or_else(|| format!("gets its {name} from somewhere, not from a constant"));
        }
        Ok(self.ints(name)?.map(<[i64]>::to_vec))
    }

    /// Axes, counted from the start.
    pub(super) fn axes(&self, index: usize, rank: usize) -> Result<Option<Vec<usize>>, String> {
        let axes = self.numbers(index, "axes")?;
        let axes = axes.map(|axes| axes.into_iter().map(|axis| at(axis, rank)).collect());
        axes.transpose()
    }
}

/// A size or number of which nothing is known.
pub(super) fn some(next_unknown: &Cell<u32>, is_size: bool) -> Size {
    let id = next_unknown.get();
    next_unknown.set(id.wrapping_add(1));
    Size::unknown(Unknown { id, is_size })
}

/// The axis from the start.
pub(super) fn at(axis: i64, rank: usize) -> Result<usize, String> {
    let whole = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_start = if axis < 0 { axis + whole } else { axis };
    match usize::try_from(from_start) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(format!("names axis {axis} of a value that has {rank}")),
    }
}

/// A value made of rows along this axis, or the same for all where there is none.
pub(super) fn made(axis: Option<usize>, shape: Vec<Size>) -> Value {
    match axis {
        Some(axis) => Value::rows(axis, shape),
        None => Value::same(Some(shape)),
    }
}

pub(super) use value::element;

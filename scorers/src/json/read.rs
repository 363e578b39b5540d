//! Reading: from the bytes of a body straight into typed tensors, with no tree of values in between.
//!
//! Depth is bound by the rank of the input: a list below the innermost dimension is refused where
//! it opens. The first thing that does not fit ends the parse. Its place is gathered on the way
//! out, so that keeping track of it costs a body that fits nothing.

use super::element::JsonElement;
use super::plain;
use super::text::{Fault, Text, shortened};
use crate::element::with_element_type;
use crate::error::ScoreError;
use crate::signature::{ElementType, RANK_MAX, Signature, TensorSpec};
use crate::tensor::Tensor;

/// Bytes that a number and its comma usually take.
const NUMBER_BYTES: usize = 8;

/// The reason why the parse ended early.
enum Stop {
    Fault(Fault),
    Refused(ScoreError),
    /// What does not fit into an input.
    Misfit(Misfit),
}

/// What does not fit into an input, and where in it.
struct Misfit {
    /// `is` or `has`.
    verb: &'static str,
    found: String,
    /// Indexes counted from 0, innermost first.
    path: Vec<usize>,
}

/// Boxed, for it is far larger than what is read.
type Stopped = Box<Stop>;

impl From<Box<Fault>> for Stopped {
    #[cold]
    fn from(fault: Box<Fault>) -> Self {
        Self::new(Stop::Fault(*fault))
    }
}

impl From<ScoreError> for Stopped {
    fn from(error: ScoreError) -> Self {
        Self::new(Stop::Refused(error))
    }
}

#[cold]
fn misfit(verb: &'static str, found: impl Into<String>) -> Stopped {
    Box::new(Stop::Misfit(Misfit {
        verb,
        found: found.into(),
        path: Vec::new(),
    }))
}

/// The same, seen from the list in which it stands at this index.
#[cold]
fn within(mut stopped: Stopped, index: usize) -> Stopped {
    if let Stop::Misfit(misfit) = stopped.as_mut() {
        misfit.path.push(index);
    }
    stopped
}

/// Reads a whole body into one tensor per input, in the order of the signature.
pub(super) fn body(signature: &Signature, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
    match plain::body(signature, payload) {
        Some(tensor) => Ok(vec![tensor]),
        None => general(signature, payload),
    }
}

/// Reads any body that fits, and says what is wrong with any other.
pub(super) fn general(signature: &Signature, payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
    let read = Text::of(payload)
        .map_err(Stopped::from)
        .and_then(|text| Body { signature, text }.read());
    read.map_err(|stopped| match *stopped {
        Stop::Refused(error) => error,
        Stop::Fault(fault) => not_json(signature, payload, fault),
        Stop::Misfit(misfit) => unreachable!("each input names itself: {}", misfit.found),
    })
}

fn not_json(signature: &Signature, payload: &[u8], fault: Fault) -> ScoreError {
    let before = &payload[..fault.at];
    let is_end = |byte: &&u8| **byte == b'\n';
    let line_start = before
        .iter()
        .rposition(|byte| is_end(&byte))
        .map_or(0, |end| end + 1);
    ScoreError::NotJson {
        wanted: wanted_body(signature),
        line: before.iter().filter(is_end).count() + 1,
        column: fault.at - line_start + 1,
        problem: fault.problem,
    }
}

/// The body that a model wants, for messages.
fn wanted_body(signature: &Signature) -> String {
    match signature.inputs.as_slice() {
        [only] => format!(
            "{{\"data\": ..}} with {} {}",
            only.datatype,
            only.shape_in_words()
        ),
        several => {
            let inputs: Vec<_> = several
                .iter()
                .map(|input| {
                    format!(
                        "{:?}: {} {}",
                        input.name,
                        input.datatype,
                        input.shape_in_words()
                    )
                })
                .collect();
            format!("{{\"data\": {{{}}}}}", inputs.join(", "))
        }
    }
}

/// The outer object: `data` and nothing else.
struct Body<'s, 't> {
    signature: &'s Signature,
    text: Text<'t>,
}

impl Body<'_, '_> {
    fn read(mut self) -> Result<Vec<Tensor>, Stopped> {
        if !self.text.takes(b'{') {
            let found = self.found()?;
            return Err(self.refusal(found));
        }
        let mut tensors = None;
        let mut more = !self.text.takes(b'}');
        while more {
            let key = self.text.key()?;
            if key != "data" {
                return Err(self.refusal(format!("the key {:?}", shortened(&key))));
            }
            if tensors.is_some() {
                return Err(self.refusal("\"data\" twice"));
            }
            tensors = Some(self.data()?);
            more = self.text.goes_on(b'}')?;
        }
        self.text.end()?;
        tensors.ok_or_else(|| self.refusal("no \"data\""))
    }

    /// The value at hand in words.
    fn found(&mut self) -> Result<String, Stopped> {
        Ok(match self.text.next_byte() {
            Some(b'[') => "a list".to_owned(),
            _ => self.text.scalar()?.to_string(),
        })
    }

    fn refusal(&self, found: impl Into<String>) -> Stopped {
        let error = ScoreError::Envelope {
            wanted: wanted_body(self.signature),
            found: found.into(),
        };
        error.into()
    }

    /// The value under `data`: an object of inputs by name, or the only input itself.
    fn data(&mut self) -> Result<Vec<Tensor>, Stopped> {
        if self.text.takes(b'{') {
            return self.named();
        }
        match self.signature.inputs.as_slice() {
            [spec] => {
                let room = self.text.left() / NUMBER_BYTES;
                Ok(vec![input(spec, &mut self.text, room)?])
            }
            _ => {
                let found = self.found()?;
                Err(self.refusal(format!("{found} in place of the inputs by name")))
            }
        }
    }

    /// Inputs by name, in any order.
    fn named(&mut self) -> Result<Vec<Tensor>, Stopped> {
        let inputs = &self.signature.inputs;
        let mut slots: Vec<Option<Tensor>> = inputs.iter().map(|_| None).collect();
        let mut more = !self.text.takes(b'}');
        while more {
            let key = self.text.key()?;
            let at = self.input_named(&key)?;
            if slots[at].is_some() {
                let input = key.into_owned();
                return Err(ScoreError::RepeatedInput { input }.into());
            }
            slots[at] = Some(input(&inputs[at], &mut self.text, 0)?);
            more = self.text.goes_on(b'}')?;
        }
        let tensors = slots
            .into_iter()
            .zip(inputs)
            .map(|(slot, spec)| slot.ok_or_else(|| spec.misfit("found nothing".to_owned()).into()));
        tensors.collect()
    }

    fn input_named(&self, key: &str) -> Result<usize, ScoreError> {
        let at = self.signature.index_of_input(key);
        at.ok_or_else(|| ScoreError::UnknownInput {
            input: shortened(key),
            known: self.signature.known_inputs(),
        })
    }
}

/// Reads one input, which has about `room` elements.
fn input(spec: &TensorSpec, text: &mut Text<'_>, room: usize) -> Result<Tensor, Stopped> {
    // A string is far larger than a number, and of any length.
    let room = if spec.datatype == ElementType::Bytes {
        0
    } else {
        room
    };
    with_element_type!(spec.datatype, T => grid::<T>(spec, text, room))
}

/// Reads nested lists, row-major.
fn grid<T: JsonElement>(
    spec: &TensorSpec,
    text: &mut Text<'_>,
    room: usize,
) -> Result<Tensor, Stopped> {
    let mut grid = Grid::<T> {
        spec,
        // A negative size is free until the first list of that depth sets it.
        sizes: spec
            .shape
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect(),
        any_rank: spec.any_rank,
        values: Vec::with_capacity(room),
    };
    if let Err(stopped) = grid.level(text, 0) {
        return Err(match *stopped {
            Stop::Misfit(misfit) => spec.misfit(grid.place(&misfit)).into(),
            other => Box::new(other),
        });
    }
    let sizes = grid.shape().map_err(|found| spec.misfit(found))?;
    Tensor::new(&sizes, grid.values).map_err(|error| {
        spec.misfit(format!("found a shape of {sizes:?} ({error})"))
            .into()
    })
}

/// A tensor in the making.
struct Grid<'s, T> {
    spec: &'s TensorSpec,
    /// Sizes by depth; nothing where the size is free and not yet seen.
    sizes: Vec<Option<usize>>,
    /// How many dimensions there are is not known yet: the first value tells.
    any_rank: bool,
    values: Vec<T>,
}

impl<T: JsonElement> Grid<'_, T> {
    /// The lists, or in the end the elements, at this depth.
    fn level(&mut self, text: &mut Text<'_>, depth: usize) -> Result<(), Stopped> {
        match text.next_byte() {
            Some(b'{') => Err(misfit("is", "an object")),
            Some(b'[') => {
                self.enter(depth)?;
                text.takes(b'[');
                self.list(text, depth)
            }
            _ if depth < self.sizes.len() => {
                let found = text.scalar()?;
                Err(misfit("is", format!("{found}, not a list")))
            }
            _ => {
                self.any_rank = false;
                self.element(text)
            }
        }
    }

    /// A list opens.
    fn enter(&mut self, depth: usize) -> Result<(), Stopped> {
        if depth < self.sizes.len() {
            return Ok(());
        }
        if !self.any_rank {
            return Err(misfit("is", "a list"));
        }
        if depth == RANK_MAX {
            return Err(misfit(
                "is",
                format!("a list, deeper than {RANK_MAX} dimensions"),
            ));
        }
        self.sizes.push(None);
        Ok(())
    }

    /// The rest of a list that has opened.
    fn list(&mut self, text: &mut Text<'_>, depth: usize) -> Result<(), Stopped> {
        let mut count = 0;
        let mut more = !text.takes(b']');
        while more {
            // Known only from the first value on, where the model leaves it open.
            let innermost = depth + 1 == self.sizes.len() && !self.any_rank;
            if innermost && self.numbers(text, &mut count) {
                break;
            }
            self.level(text, depth + 1)
                .map_err(|stopped| within(stopped, count))?;
            count += 1;
            more = text.goes_on(b']')?;
        }
        self.any_rank = false;
        self.close(depth, count)
    }

    /// Numbers, which nearly all elements are, up to what is none or does not fit; whether the list has closed.
    fn numbers(&mut self, text: &mut Text<'_>, count: &mut usize) -> bool {
        let values = &mut self.values;
        let before = values.len();
        let mut read = *text;
        let closed = loop {
            let Some(element) = T::read_number(text) else {
                break false;
            };
            match text.next_byte() {
                Some(b',') => text.skip(),
                Some(b']') => {
                    text.skip();
                    values.push(element);
                    read = *text;
                    break true;
                }
                _ => break false,
            }
            values.push(element);
            read = *text;
        };
        // What was not taken is read again in the general way, which has the words for it.
        *text = read;
        *count += values.len() - before;
        closed
    }

    fn element(&mut self, text: &mut Text<'_>) -> Result<(), Stopped> {
        let scalar = text.scalar()?;
        let value = T::from_scalar(&scalar);
        self.values
            .push(value.ok_or_else(|| misfit("is", scalar.to_string()))?);
        Ok(())
    }

    /// Checks the list that just closed against the declared or first seen size of its dimension.
    fn close(&mut self, depth: usize, count: usize) -> Result<(), Stopped> {
        let expected = *self.sizes[depth].get_or_insert(count);
        if expected == count {
            return Ok(());
        }
        let innermost = depth + 1 == self.sizes.len();
        let part = match (innermost, self.spec.datatype) {
            (false, _) => "rows",
            (true, ElementType::Bool) => "values",
            (true, datatype) => datatype.noun(),
        };
        let declared = self.spec.shape.get(depth).is_some_and(|size| *size >= 0);
        let found = match declared {
            false => format!("{count} {part}, the rows before have {expected}"),
            true => format!("{count} {part}"),
        };
        Err(misfit("has", found))
    }

    /// The sizes, when all is read; else why they cannot be told.
    ///
    /// A dimension below an empty list was never seen. It is empty too where the model wants that list empty; else nothing says
    /// what it is.
    fn shape(&self) -> Result<Vec<usize>, String> {
        let mut free = self.spec.shape.iter().zip(&self.sizes);
        let is_empty = free.any(|(declared, found)| *declared < 0 && *found == Some(0));
        match self.sizes.iter().position(Option::is_none) {
            Some(unseen) if is_empty => Err(format!(
                "found an empty list, which does not say the size of dimension {}; send one row or more",
                unseen + 1
            )),
            _ => Ok(self.sizes.iter().map(|size| size.unwrap_or(0)).collect()),
        }
    }

    /// `row 2 has ..`, `row 2.1, value 3 is ..`: counted from 1, as people do.
    fn place(&self, misfit: &Misfit) -> String {
        let Misfit { verb, found, path } = misfit;
        let mut path: Vec<_> = path
            .iter()
            .rev()
            .map(|index| (index + 1).to_string())
            .collect();
        let value = if path.len() == self.sizes.len() {
            path.pop().map(|value| format!("value {value}"))
        } else {
            None
        };
        let row = (!path.is_empty()).then(|| format!("row {}", path.join(".")));
        match (row, value) {
            (Some(row), Some(value)) => format!("{row}, {value} {verb} {found}"),
            (Some(place), None) | (None, Some(place)) => format!("{place} {verb} {found}"),
            (None, None) => format!("found {found}"),
        }
    }
}

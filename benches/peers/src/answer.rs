//! Outputs of a run as JSON: an object by output name, each a list of lists, written straight from ONNX Runtime's memory.

use ort::session::SessionOutputs;
use ort::value::ValueRef;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};

/// What a client gets.
#[derive(Debug)]
pub struct Answer<'run>(pub SessionOutputs<'run>);

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut outputs = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            outputs.serialize_entry(name, &Output(value))?;
        }
        outputs.end()
    }
}

/// One output: numbers or labels.
struct Output<'value>(ValueRef<'value>);

impl Serialize for Output<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok((shape, numbers)) = self.0.try_extract_tensor::<f32>() {
            return Rows { shape, numbers }.serialize(serializer);
        }
        match self.0.try_extract_tensor::<i64>() {
            Ok((shape, numbers)) => Rows { shape, numbers }.serialize(serializer),
            Err(error) => Err(S::Error::custom(error)),
        }
    }
}

/// Numbers in one piece, seen as lists of lists.
struct Rows<'value, T> {
    shape: &'value [i64],
    numbers: &'value [T],
}

impl<T: Serialize> Serialize for Rows<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.shape {
            [] => self.numbers.first().serialize(serializer),
            [_] => serializer.collect_seq(self.numbers),
            [count, shape @ ..] => {
                let count = usize::try_from(*count).map_err(S::Error::custom)?;
                let each = self.numbers.len().checked_div(count).unwrap_or(0);
                // No chunk is empty: without numbers there is no chunk at all.
                let rows = self.numbers.chunks(each.max(1));
                serializer.collect_seq(rows.map(|numbers| Rows { shape, numbers }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_one_piece_become_lists_of_lists() {
        let numbers = [1.0_f32, 2.5, 3.0, 4.0];
        let rows = Rows {
            shape: &[2, 1, 2],
            numbers: &numbers,
        };
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            "[[[1.0,2.5]],[[3.0,4.0]]]"
        );
    }
}

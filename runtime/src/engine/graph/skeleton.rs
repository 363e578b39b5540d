//! A model's graph without its weights, read from a file of any size and make.
//!
//! The file is walked once. What the analysis reads is copied to a small message, and only that is decoded: so neither the weights
//! of a model nor a file that is none take memory, in a process that serves others meanwhile.
//!
//! Threads: everything blocks. Not here: the tensors that lie in other files (`external_data`).

use std::path::Path;

use prost::Message as _;

use crate::engine::graph::proto::{CUT, Model};
use crate::engine::wire::{Problem, Value, Wire};
use crate::plain_file;

/// Deepest nesting of messages, as in ONNX Runtime's own reader.
const DEPTH_MAX: usize = 100;
/// Most bytes that are kept of a model; the graph of one with 50,000 nodes takes some 8 MB.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Most fields that are kept, for the smallest field takes 2 bytes in the file and a hundred in memory.
const FIELDS_MAX: usize = 3_000_000;
/// Most bytes of the values of a tensor or an attribute that are kept.
const VALUES_BYTES_MAX: usize = 16 << 10;
/// Longest text or type that is read.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// The reason why a file gave no graph, as a sentence.
pub(super) type Unread = String;

/// Reads the model in a file.
pub(super) fn read(path: &Path) -> Result<Model, Unread> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let file = plain_file::open(path).map_err(cannot)?;
    let end = file.metadata().map_err(cannot)?.len();
    let mut walk = Walk {
        wire: Wire::new(file),
        fields: 0,
        bytes: 0,
        too_large: false,
    };
    let model = match walk.copy(Message::Model, end, 0) {
        Ok(bytes) => Model::decode(&bytes[..]).ok(),
        Err(Problem::Io(error)) => return Err(cannot(error)),
        Err(Problem::Malformed) if walk.too_large => {
            return Err("the graph is larger than the analysis reads".to_owned());
        }
        Err(Problem::Malformed) => None,
    };
    model
        .filter(|model| model.graph.is_some())
        .ok_or_else(|| "the file is not an ONNX model, or only a part of one".to_owned())
}

/// Messages that are walked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

/// What is done with a field.
enum Kept {
    /// It is copied whole.
    Whole,
    /// It is copied unless there is too much of it.
    Values,
    Within(Message),
    No,
}

impl Message {
    fn keeps(self, field: u64) -> Kept {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6) => Kept::Within(Self::Graph),
            (Self::Model, 25) => Kept::Within(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Kept::Within(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Kept::Within(Self::Attribute),
            (Self::Graph, 15) => Kept::Within(Self::Sparse),
            (Self::Graph | Self::Attribute, 5) | (Self::Sparse, 1) => Kept::Within(Self::Tensor),
            (Self::Attribute, 4 | 7..=9) | (Self::Tensor, 4..=7 | 9 | 10 | 11) => Kept::Values,
            (Self::Model, 1 | 2 | 3 | 8)
            | (Self::Function, 1 | 4..=6 | 9 | 10 | 13)
            | (Self::Graph, 2 | 11 | 12)
            | (Self::Node, 1..=4 | 7 | 8)
            | (Self::Attribute, 1..=3 | 20 | 21)
            | (Self::Sparse, 3)
            | (Self::Tensor, 1 | 2 | 8 | 14) => Kept::Whole,
            _ => Kept::No,
        }
    }
}

struct Walk {
    wire: Wire,
    fields: usize,
    bytes: usize,
    too_large: bool,
}

impl Walk {
    /// What is kept of the message that ends here.
    fn copy(&mut self, message: Message, end: u64, depth: usize) -> Result<Vec<u8>, Problem> {
        let (mut kept, mut values, mut cut) = (Vec::new(), Vec::new(), false);
        while self.wire.at() < end {
            let (field, value) = self.wire.field(end)?;
            match (message.keeps(field), value) {
                (Kept::Within(_), Value::Bytes(_)) if depth == DEPTH_MAX => {
                    return Err(Problem::Malformed);
                }
                (Kept::Within(within), Value::Bytes(length)) => {
                    let end = self.wire.at() + length;
                    let inner = self.copy(within, end, depth + 1)?;
                    self.count(0)?;
                    key(field, 2, &mut kept);
                    varint(inner.len() as u64, &mut kept);
                    kept.extend(inner);
                }
                (Kept::Whole, value) => self.keep(field, value, &mut kept)?,
                (Kept::Values, value) => {
                    let length = match value {
                        Value::Number(_) => 10,
                        Value::Bytes(length) | Value::Fixed(length) => length,
                    };
                    cut |= values.len() as u64 + length > VALUES_BYTES_MAX as u64;
                    if cut {
                        self.pass_over(value)?;
                    } else {
                        self.keep(field, value, &mut values)?;
                    }
                }
                (_, value) => self.pass_over(value)?,
            }
        }
        if cut {
            key(CUT, 0, &mut kept);
            kept.push(1);
        } else {
            kept.extend(values);
        }
        Ok(kept)
    }

    fn keep(&mut self, field: u64, value: Value, kept: &mut Vec<u8>) -> Result<(), Problem> {
        match value {
            Value::Number(number) => {
                self.count(10)?;
                key(field, 0, kept);
                varint(number, kept);
            }
            Value::Fixed(length) => {
                self.count(8)?;
                key(field, if length == 8 { 1 } else { 5 }, kept);
                self.wire.append(length, kept)?;
            }
            Value::Bytes(length) if length > TEXT_BYTES_MAX => {
                self.too_large = true;
                return Err(Problem::Malformed);
            }
            Value::Bytes(length) => {
                self.count(usize::try_from(length).unwrap_or(usize::MAX))?;
                key(field, 2, kept);
                varint(length, kept);
                self.wire.append(length, kept)?;
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, value: Value) -> Result<(), Problem> {
        match value {
            Value::Number(_) => Ok(()),
            Value::Bytes(length) | Value::Fixed(length) => self.wire.skip(length),
        }
    }

    /// One more field, of this size.
    fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        self.fields += 1;
        self.bytes += bytes;
        self.too_large |= self.fields > FIELDS_MAX || self.bytes > KEPT_BYTES_MAX;
        if self.too_large {
            return Err(Problem::Malformed);
        }
        Ok(())
    }
}

fn key(field: u64, wire_type: u64, to: &mut Vec<u8>) {
    varint(field << 3 | wire_type, to);
}

fn varint(value: u64, to: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, to);
}

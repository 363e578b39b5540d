//! External data: the tensors of an ONNX file whose bytes lie in other files, read from the file's protobuf.
//!
//! The file is walked from its start to its end without holding any of it: what is of no interest, weights above all, is skipped
//! in the file. So a file of any size or make takes some kilobytes, in a process that serves others meanwhile. That is why this
//! walks the wire format itself: a decoder into structures makes memory out of whatever a file holds.
//!
//! Threads: everything blocks. Not here: whether the other files are there, and what to do if not (`control::models`); what else
//! the graph says.

use std::io::{self, Read as _};
use std::path::Path;

use crate::engine::wire::{Problem, Value, Wire};
use crate::plain_file;

/// Deepest nesting of messages that is followed, as in ONNX Runtime's own reader.
const DEPTH_MAX: usize = 100;

/// A tensor whose bytes lie in another file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalTensor {
    /// Name of the tensor, for people; empty where it has none.
    pub name: String,
    /// The file, relative to the folder of the ONNX file, as it is written there: not checked, and not always UTF-8.
    pub location: Vec<u8>,
    /// First byte in that file.
    pub offset: u64,
    /// Bytes from there; nothing where the file does not say, which means as many as the tensor has.
    pub length: Option<u64>,
}

/// The messages of ONNX's protobuf on the way to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Message {
    /// The message in a field, where it may hold tensors. The numbers are those of `onnx.proto`, which never change.
    fn within(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => {
                Some(Self::Graph)
            }
            (Self::Model, 20) => Some(Self::Training),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::Sparse),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => {
                Some(Self::Tensor)
            }
            _ => None,
        }
    }
}

/// Fields of a tensor.
const TENSOR_NAME: u64 = 8;
const TENSOR_EXTERNAL_DATA: u64 = 13;
const TENSOR_DATA_LOCATION: u64 = 14;
/// The value of the last of them that says that the bytes lie elsewhere.
const EXTERNAL: u64 = 1;
/// The field of a model without which it is none.
const MODEL_IR_VERSION: u64 = 1;

/// The parts of a tensor that were read so far.
#[derive(Debug, Default)]
struct Tensor {
    found: ExternalTensor,
    external: bool,
}

impl Tensor {
    fn read(&mut self, field: u64, value: Value, wire: &mut Wire) -> Result<(), Problem> {
        match (field, value) {
            (TENSOR_NAME, Value::Bytes(length)) => {
                self.found.name = String::from_utf8_lossy(&wire.text(length)?).into_owned();
            }
            (TENSOR_EXTERNAL_DATA, Value::Bytes(length)) => self.read_entry(length, wire)?,
            (TENSOR_DATA_LOCATION, Value::Number(kind)) => self.external = kind == EXTERNAL,
            (_, Value::Bytes(length) | Value::Fixed(length)) => wire.skip(length)?,
            (_, Value::Number(_)) => {}
        }
        Ok(())
    }

    /// A pair of texts. A number that is none counts as not written: whoever loads the model has the words for it.
    fn read_entry(&mut self, length: u64, wire: &mut Wire) -> Result<(), Problem> {
        let end = wire.at() + length;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while wire.at() < end {
            match wire.field(end)? {
                (1, Value::Bytes(length)) => key = wire.text(length)?,
                (2, Value::Bytes(length)) => value = wire.text(length)?,
                (_, Value::Bytes(length) | Value::Fixed(length)) => wire.skip(length)?,
                (_, Value::Number(_)) => {}
            }
        }
        let number = || std::str::from_utf8(&value).ok()?.parse().ok();
        match key.as_slice() {
            b"location" => self.found.location = value,
            b"offset" => self.found.offset = number().unwrap_or(0),
            b"length" => self.found.length = number(),
            _ => {}
        }
        Ok(())
    }
}

/// The external tensors of an ONNX file, one after the other.
#[derive(Debug)]
pub struct ExternalTensors {
    wire: Wire,
    /// The messages that have begun, the whole file first, and where each ends.
    open: Vec<(Message, u64)>,
    tensor: Tensor,
    has_version: bool,
    has_graph: bool,
    whole: bool,
}

impl ExternalTensors {
    /// Begins with a file of any kind.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = plain_file::open(path)?;
        let end = file.metadata()?.len();
        Ok(Self {
            wire: Wire::new(file),
            open: vec![(Message::Model, end)],
            tensor: Tensor::default(),
            has_version: false,
            has_graph: false,
            whole: true,
        })
    }

    /// The next tensor. Nothing at the end, and from where the file is no protobuf on.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn next_tensor(&mut self) -> io::Result<Option<ExternalTensor>> {
        match self.walk() {
            Ok(found) => Ok(found),
            Err(Problem::Malformed) => {
                self.whole = false;
                self.open.clear();
                Ok(None)
            }
            Err(Problem::Io(error)) => Err(error),
        }
    }

    fn walk(&mut self) -> Result<Option<ExternalTensor>, Problem> {
        while let Some((message, end)) = self.open.last().copied() {
            if self.wire.at() < end {
                let (field, value) = self.wire.field(end)?;
                match message {
                    Message::Tensor => self.tensor.read(field, value, &mut self.wire)?,
                    _ => self.enter_or_skip(message, field, value)?,
                }
                continue;
            }
            self.open.pop();
            if message == Message::Tensor {
                let tensor = std::mem::take(&mut self.tensor);
                if tensor.external {
                    return Ok(Some(tensor.found));
                }
            }
        }
        Ok(None)
    }

    fn enter_or_skip(&mut self, message: Message, field: u64, value: Value) -> Result<(), Problem> {
        let on_top = message == Message::Model;
        match (message.within(field), value) {
            (Some(_), Value::Bytes(_)) if self.open.len() == DEPTH_MAX => {
                return Err(Problem::Malformed);
            }
            (Some(within), Value::Bytes(length)) => {
                self.has_graph |= on_top && within == Message::Graph;
                self.open.push((within, self.wire.at() + length));
            }
            (None, Value::Bytes(length)) | (_, Value::Fixed(length)) => self.wire.skip(length)?,
            (_, Value::Number(number)) => {
                self.has_version |= on_top && field == MODEL_IR_VERSION && number > 0;
            }
        }
        Ok(())
    }
}

/// Whether the content of a file, whatever its name, is an ONNX model: all of it is protobuf, with a version and a graph.
///
/// # Errors
///
/// When it cannot be read.
pub fn is_onnx(path: &Path) -> io::Result<bool> {
    let mut tensors = ExternalTensors::of(path)?;
    while tensors.next_tensor()?.is_some() {}
    Ok(tensors.whole && tensors.has_version && tensors.has_graph)
}

/// The words on such a file, behind its name.
pub const ORT_FORMAT: &str = "is in ONNX Runtime's own format (ORT), whatever its name: expected an ONNX model; give the one that it was \
     converted from";

/// Whether a file is in ONNX Runtime's own format, whatever its name: a flat buffer with this mark behind its first number.
///
/// # Errors
///
/// When it cannot be read.
pub fn is_ort_format(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    plain_file::open(path)?.take(8).read_to_end(&mut start)?;
    Ok(start.get(4..) == Some(b"ORTM"))
}

/// ONNX's protobuf, as tests write it: just enough to be read here.
#[cfg(test)]
pub(crate) mod written {
    /// A field of bytes, text or a message.
    pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        let mut written = varint(field << 3 | 2);
        written.extend(varint(value.len() as u64));
        written.extend(value);
        written
    }

    pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut written = Vec::new();
        while value >= 0x80 {
            written.push(u8::try_from(value & 0x7f).expect("7 bits") | 0x80);
            value >>= 7;
        }
        written.push(u8::try_from(value).expect("7 bits"));
        written
    }

    /// A tensor whose bytes lie elsewhere.
    pub(crate) fn external(name: &str, entries: &[(&str, &str)]) -> Vec<u8> {
        let entry = |(key, value): &(&str, &str)| {
            let pair = [bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat();
            bytes(13, &pair)
        };
        let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
        [bytes(8, name.as_bytes()), entries, number(14, 1)].concat()
    }

    /// A model with this graph.
    pub(crate) fn model(graph: &[u8]) -> Vec<u8> {
        [number(1, 8), bytes(7, graph)].concat()
    }

    /// A model with one initialiser, whose first `length` bytes of `location` it is.
    pub(crate) fn model_with_data(location: &str, length: usize) -> Vec<u8> {
        let length = length.to_string();
        let entries = [("location", location), ("length", &length)];
        model(&bytes(5, &external("w", &entries)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::written::{bytes, external, model, number};
    use super::*;
    use crate::engine::wire::TEXT_BYTES_MAX;

    /// The external tensors of these bytes, and whether they are an ONNX model.
    fn read(content: &[u8]) -> (Vec<ExternalTensor>, bool) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        let mut tensors = ExternalTensors::of(file.path()).expect("opened");
        let mut found = Vec::new();
        while let Some(tensor) = tensors.next_tensor().expect("read") {
            found.push(tensor);
        }
        (found, is_onnx(file.path()).expect("read"))
    }

    fn names(content: &[u8]) -> Vec<String> {
        let (found, _) = read(content);
        found.into_iter().map(|tensor| tensor.name).collect()
    }

    #[test]
    fn a_tensor_says_where_its_bytes_are() {
        let entries = [
            ("location", "w/data.bin"),
            ("offset", "4096"),
            ("length", "12"),
            ("checksum", "abc"),
        ];
        let more = external("b", &[("location", "b"), ("offset", "x"), ("length", "-1")]);
        let graph = [bytes(5, &external("w", &entries)), bytes(5, &more)].concat();
        let (found, is_onnx) = read(&model(&graph));
        let w = ExternalTensor {
            name: "w".to_owned(),
            location: b"w/data.bin".to_vec(),
            offset: 4096,
            length: Some(12),
        };
        let b = ExternalTensor {
            name: "b".to_owned(),
            location: b"b".to_vec(),
            offset: 0,
            length: None,
        };
        assert_eq!(found, [w, b]);
        assert!(is_onnx);
    }

    #[test]
    fn weights_in_the_file_are_not_external_whatever_else_is_written() {
        let inside = [
            bytes(8, b"w"),
            bytes(9, &[7; 100_000]),
            bytes(13, &bytes(1, b"location")),
        ]
        .concat();
        let default = [external("v", &[("location", "v")]), number(14, 0)].concat();
        let graph = [bytes(5, &inside), bytes(5, &default)].concat();
        assert_eq!(read(&model(&graph)), (Vec::new(), true));
    }

    #[test]
    fn tensors_are_found_wherever_a_model_may_have_them() {
        let tensor = |name: &str| external(name, &[("location", "data")]);
        let sparse = |name: &str| [bytes(1, &tensor(name)), bytes(2, &tensor("indices"))].concat();
        let node = |attribute: &[u8]| bytes(5, attribute);
        let inner = bytes(5, &tensor("inner"));
        let deeper = bytes(1, &node(&bytes(11, &inner)));
        let graph = [
            bytes(5, &tensor("initializer")),
            bytes(15, &sparse("sparse")),
            bytes(1, &node(&bytes(5, &tensor("attribute")))),
            bytes(1, &node(&bytes(10, &tensor("attributes")))),
            bytes(1, &node(&bytes(6, &deeper))),
            bytes(1, &node(&bytes(22, &sparse("sparse attribute")))),
            bytes(1, &node(&bytes(23, &sparse("sparse attributes")))),
        ]
        .concat();
        let function = [
            bytes(7, &node(&bytes(5, &tensor("function")))),
            bytes(11, &bytes(5, &tensor("default"))),
        ]
        .concat();
        let training = [
            bytes(1, &bytes(5, &tensor("initialization"))),
            bytes(2, &bytes(5, &tensor("algorithm"))),
        ]
        .concat();
        let model = [model(&graph), bytes(25, &function), bytes(20, &training)].concat();
        let mut found = names(&model);
        found.retain(|name| name != "indices");
        let expected = [
            "initializer",
            "sparse",
            "attribute",
            "attributes",
            "inner",
            "sparse attribute",
            "sparse attributes",
            "function",
            "default",
            "initialization",
            "algorithm",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_protobuf_is_no_model() {
        let whole = model(&bytes(5, &external("w", &[("location", "w")])));
        assert!(read(&whole).1);
        for cut in 0..whole.len() {
            assert!(!read(&whole[..cut]).1, "cut to {cut} bytes");
        }
        let text = b"import pickle\n".to_vec();
        // What Python's pickle and ONNX Runtime's own format begin with.
        let pickle = b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x05model\x94.".to_vec();
        let ort = b"\x18\x00\x00\x00ORTM\x00\x00\x0e\x00".to_vec();
        // Protobuf, but with no graph, or no version.
        let others = [number(1, 8), bytes(7, b"")];
        for content in [text, pickle, ort].into_iter().chain(others) {
            assert_eq!(read(&content), (Vec::new(), false), "{content:?}");
        }
    }

    #[test]
    fn the_repository_s_models_are_onnx() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        for model in ["digits/1/model.onnx", "test/add.onnx", "test/zipmap.onnx"] {
            assert!(is_onnx(&models.join(model)).expect("read"), "{model}");
        }
    }

    #[test]
    fn nesting_without_end_is_no_model() {
        let mut graph = bytes(5, &external("w", &[("location", "w")]));
        for _ in 0..DEPTH_MAX {
            graph = bytes(1, &bytes(5, &bytes(6, &graph)));
        }
        assert_eq!(read(&model(&graph)), (Vec::new(), false));
    }

    #[test]
    fn a_text_of_any_length_takes_little_memory_and_what_follows_is_read() {
        let long = "n".repeat(100_000);
        let entries = [("location", long.as_str()), ("length", "3")];
        let graph = [
            bytes(5, &external(&long, &entries)),
            bytes(5, &external("next", &[("location", "w")])),
        ]
        .concat();
        let (found, is_onnx) = read(&model(&graph));
        assert_eq!(found[0].location.len() as u64, TEXT_BYTES_MAX);
        assert_eq!((found[0].length, found[1].name.as_str()), (Some(3), "next"));
        assert!(is_onnx);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_to_their_end(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&content);
            // The same where a model begins well.
            read(&model(&content));
            read(&model(&bytes(5, &content)));
        }
    }
}

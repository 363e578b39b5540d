//! Models of any size, made when they are needed: layers of `Gemm` and `Relu` with weights out of a fixed sequence.
//!
//! The bytes are ONNX's protobuf, written by hand: a field is its number and kind, then a number or a length and bytes.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// A model of square layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mlp {
    /// Inputs and outputs of each layer.
    pub(crate) width: usize,
    /// Layers.
    pub(crate) layers: usize,
    /// Begins the sequence of weights: other seeds, other models.
    pub(crate) seed: u64,
    /// Whether the weights lie in `weights.data` beside the model.
    pub(crate) external: bool,
}

/// The file beside a model with external weights.
const EXTERNAL_FILE: &str = "weights.data";
/// ONNX's number of the type.
const FLOAT: u64 = 1;

impl Mlp {
    /// Weights of about this size, in three layers.
    pub(crate) fn of_megabytes(megabytes: usize) -> Self {
        let floats = megabytes * 1_000_000 / 4 / 3;
        Self {
            width: floats.isqrt() + 1,
            layers: 3,
            seed: 1,
            external: false,
        }
    }

    /// Writes `model.onnx` into the folder, and its weights beside it where they are external.
    pub(crate) fn write(&self, folder: &Path) {
        let mut external = self
            .external
            .then(|| BufWriter::new(File::create(folder.join(EXTERNAL_FILE)).expect("a file")));
        let mut weights = Weights(self.seed);
        let mut graph = Vec::new();
        for layer in 0..self.layers {
            let (input, last) = (name("x", layer), layer + 1 == self.layers);
            let output = if last {
                "y".to_owned()
            } else {
                name("x", layer + 1)
            };
            let (sum, weight, bias) = (name("s", layer), name("w", layer), name("b", layer));
            bytes(
                &mut graph,
                1,
                &node("Gemm", &[&input, &weight, &bias], &sum),
            );
            bytes(&mut graph, 1, &node("Relu", &[&sum], &output));
            let raw = weights.take(self.width * self.width, self.width);
            let tensor = match &mut external {
                Some(file) => {
                    file.write_all(&raw).expect("room on the disk");
                    self.outside(&weight, layer * raw.len(), raw.len())
                }
                None => inside(&weight, &[self.width, self.width], &raw),
            };
            bytes(&mut graph, 5, &tensor);
            let raw = weights.take(self.width, self.width);
            bytes(&mut graph, 5, &inside(&bias, &[self.width], &raw));
        }
        bytes(&mut graph, 2, b"mlp");
        bytes(&mut graph, 11, &self.value("x0"));
        bytes(&mut graph, 12, &self.value("y"));
        let mut opset = Vec::new();
        number(&mut opset, 2, 17);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        bytes(&mut model, 7, &graph);
        bytes(&mut model, 8, &opset);
        std::fs::write(folder.join("model.onnx"), model).expect("room on the disk");
    }

    /// A request of one row.
    pub(crate) fn request(&self) -> String {
        let row: Vec<_> = (0..self.width).map(|at| (at % 7).to_string()).collect();
        format!("{{\"data\": [[{}]]}}", row.join(","))
    }

    /// An input or output: any number of rows.
    fn value(&self, name: &str) -> Vec<u8> {
        let (mut rows, mut columns, mut shape) = (Vec::new(), Vec::new(), Vec::new());
        bytes(&mut rows, 2, b"rows");
        number(&mut columns, 1, self.width as u64);
        bytes(&mut shape, 1, &rows);
        bytes(&mut shape, 1, &columns);
        let (mut tensor, mut kind, mut value) = (Vec::new(), Vec::new(), Vec::new());
        number(&mut tensor, 1, FLOAT);
        bytes(&mut tensor, 2, &shape);
        bytes(&mut kind, 1, &tensor);
        bytes(&mut value, 1, name.as_bytes());
        bytes(&mut value, 2, &kind);
        value
    }

    /// A square of weights that lies in the file beside the model.
    fn outside(&self, name: &str, offset: usize, length: usize) -> Vec<u8> {
        let mut tensor = head(name, &[self.width, self.width]);
        for (key, value) in [
            ("location", EXTERNAL_FILE.to_owned()),
            ("offset", offset.to_string()),
            ("length", length.to_string()),
        ] {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, key.as_bytes());
            bytes(&mut entry, 2, value.as_bytes());
            bytes(&mut tensor, 13, &entry);
        }
        number(&mut tensor, 14, 1);
        tensor
    }
}

/// Weights that keep the size of what passes through them.
struct Weights(u64);

impl Weights {
    /// Little-endian floats.
    fn take(&mut self, count: usize, width: usize) -> Vec<u8> {
        #[expect(clippy::cast_precision_loss, reason = "a scale need not be exact")]
        let scale = 2.0 / (width as f32).sqrt();
        let mut raw = Vec::with_capacity(count * 4);
        for _ in 0..count {
            // A linear congruential generator: Knuth's constants, the upper bits.
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let upper = u16::try_from(self.0 >> 48).expect("16 bits");
            let unit = f32::from(upper) / f32::from(u16::MAX) - 0.5;
            raw.extend_from_slice(&(unit * scale).to_le_bytes());
        }
        raw
    }
}

fn name(what: &str, layer: usize) -> String {
    format!("{what}{layer}")
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node = Vec::new();
    for input in inputs {
        bytes(&mut node, 1, input.as_bytes());
    }
    bytes(&mut node, 2, output.as_bytes());
    bytes(&mut node, 4, operator.as_bytes());
    node
}

/// Name, type and shape of a tensor.
fn head(name: &str, shape: &[usize]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for dimension in shape {
        number(&mut tensor, 1, *dimension as u64);
    }
    number(&mut tensor, 2, FLOAT);
    bytes(&mut tensor, 8, name.as_bytes());
    tensor
}

fn inside(name: &str, shape: &[usize], raw: &[u8]) -> Vec<u8> {
    let mut tensor = head(name, shape);
    bytes(&mut tensor, 9, raw);
    tensor
}

fn number(to: &mut Vec<u8>, field: u64, value: u64) {
    varint(to, field << 3);
    varint(to, value);
}

fn bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, value.len() as u64);
    to.extend_from_slice(value);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(u8::try_from(value & 0x7f).expect("7 bits") | 0x80);
        value >>= 7;
    }
    to.push(u8::try_from(value).expect("7 bits"));
}

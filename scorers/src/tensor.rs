//! Tensors on their way in (owned) and out (borrowed from ONNX Runtime).

use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD};

/// An input tensor, owned, row-major.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of `ElementType`")]
pub enum Tensor {
    Bool(ArrayD<bool>),
    Uint8(ArrayD<u8>),
    Uint16(ArrayD<u16>),
    Uint32(ArrayD<u32>),
    Uint64(ArrayD<u64>),
    Int8(ArrayD<i8>),
    Int16(ArrayD<i16>),
    Int32(ArrayD<i32>),
    Int64(ArrayD<i64>),
    Fp16(ArrayD<f16>),
    Bf16(ArrayD<bf16>),
    Fp32(ArrayD<f32>),
    Fp64(ArrayD<f64>),
    Bytes(ArrayD<String>),
}

/// An output of the model, borrowed from ONNX Runtime.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the variants are those of `ElementType`")]
pub enum OutputView<'a> {
    Bool(ArrayViewD<'a, bool>),
    Uint8(ArrayViewD<'a, u8>),
    Uint16(ArrayViewD<'a, u16>),
    Uint32(ArrayViewD<'a, u32>),
    Uint64(ArrayViewD<'a, u64>),
    Int8(ArrayViewD<'a, i8>),
    Int16(ArrayViewD<'a, i16>),
    Int32(ArrayViewD<'a, i32>),
    Int64(ArrayViewD<'a, i64>),
    Fp16(ArrayViewD<'a, f16>),
    Bf16(ArrayViewD<'a, bf16>),
    Fp32(ArrayViewD<'a, f32>),
    Fp64(ArrayViewD<'a, f64>),
    /// Strings cannot be borrowed from ONNX Runtime.
    Bytes(ArrayD<String>),
    /// Copied, so that nothing must outlive it.
    Sequence(Vec<Tensor>),
    /// Key and value per entry, keys already text; values are floats, the only kind that ONNX operators put in maps.
    Map(Vec<(String, f32)>),
    Maps(Vec<Vec<(String, f32)>>),
}

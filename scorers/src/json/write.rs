//! Writing: from the outputs of a model straight into the bytes of a body.

use ndarray::{ArrayViewD, CowArray, IxDyn};

use super::NonFinite;
use super::element::{Element, write_json};
use crate::tensor::{OutputView, Tensor};

/// Appends one output.
pub(super) fn output(output: &OutputView<'_>, form: NonFinite, out: &mut Vec<u8>) {
    match output {
        OutputView::Bool(view) => tensor(view, form, out),
        OutputView::Uint8(view) => tensor(view, form, out),
        OutputView::Uint16(view) => tensor(view, form, out),
        OutputView::Uint32(view) => tensor(view, form, out),
        OutputView::Uint64(view) => tensor(view, form, out),
        OutputView::Int8(view) => tensor(view, form, out),
        OutputView::Int16(view) => tensor(view, form, out),
        OutputView::Int32(view) => tensor(view, form, out),
        OutputView::Int64(view) => tensor(view, form, out),
        OutputView::Fp16(view) => tensor(view, form, out),
        OutputView::Bf16(view) => tensor(view, form, out),
        OutputView::Fp32(view) => tensor(view, form, out),
        OutputView::Fp64(view) => tensor(view, form, out),
        OutputView::Bytes(array) => tensor(&array.view(), form, out),
        OutputView::Sequence(tensors) => list(out, tensors, |tensor, out| owned(tensor, form, out)),
        OutputView::Map(pairs) => map(pairs, form, out),
        OutputView::Maps(maps) => list(out, maps, |pairs, out| map(pairs, form, out)),
    }
}

fn map(pairs: &[(String, f32)], form: NonFinite, out: &mut Vec<u8>) {
    object(out, pairs, |value, out| value.write(form, out));
}

fn owned(owned: &Tensor, form: NonFinite, out: &mut Vec<u8>) {
    match owned {
        Tensor::Bool(array) => tensor(&array.view(), form, out),
        Tensor::Uint8(array) => tensor(&array.view(), form, out),
        Tensor::Uint16(array) => tensor(&array.view(), form, out),
        Tensor::Uint32(array) => tensor(&array.view(), form, out),
        Tensor::Uint64(array) => tensor(&array.view(), form, out),
        Tensor::Int8(array) => tensor(&array.view(), form, out),
        Tensor::Int16(array) => tensor(&array.view(), form, out),
        Tensor::Int32(array) => tensor(&array.view(), form, out),
        Tensor::Int64(array) => tensor(&array.view(), form, out),
        Tensor::Fp16(array) => tensor(&array.view(), form, out),
        Tensor::Bf16(array) => tensor(&array.view(), form, out),
        Tensor::Fp32(array) => tensor(&array.view(), form, out),
        Tensor::Fp64(array) => tensor(&array.view(), form, out),
        Tensor::Bytes(array) => tensor(&array.view(), form, out),
    }
}

/// Appends an object, a key and what `write` appends for each entry.
pub(super) fn object<K: AsRef<str>, V>(
    out: &mut Vec<u8>,
    entries: &[(K, V)],
    write: impl Fn(&V, &mut Vec<u8>),
) {
    out.push(b'{');
    for (at, (key, value)) in entries.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json(key.as_ref(), out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

/// Appends a list of what `write` appends for each item.
fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, write: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn tensor<T: Element>(view: &ArrayViewD<'_, T>, form: NonFinite, out: &mut Vec<u8>) {
    // What ONNX Runtime lends is row-major already, so this borrows.
    let rows: CowArray<'_, T, IxDyn> = view.as_standard_layout();
    nested(
        view.shape(),
        rows.as_slice().expect("standard layout is contiguous"),
        form,
        out,
    );
}

fn nested<T: Element>(shape: &[usize], values: &[T], form: NonFinite, out: &mut Vec<u8>) {
    match shape {
        [] => values[0].write(form, out),
        [_] => list(out, values, |value, out| value.write(form, out)),
        [count, inner @ ..] => {
            let size = values.len().checked_div(*count).unwrap_or(0);
            list(out, 0..*count, |row, out| {
                nested(inner, &values[row * size..(row + 1) * size], form, out);
            });
        }
    }
}

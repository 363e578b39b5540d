//! Writing: from the outputs of a model straight into the bytes of a body.

use ndarray::{ArrayViewD, CowArray, IxDyn};

use super::element::{Element, write_json};
use crate::tensor::OutputView;

/// Appends one output.
pub(super) fn output(output: &OutputView<'_>, out: &mut Vec<u8>) {
    match output {
        OutputView::Bool(view) => tensor(view, out),
        OutputView::Uint8(view) => tensor(view, out),
        OutputView::Uint16(view) => tensor(view, out),
        OutputView::Uint32(view) => tensor(view, out),
        OutputView::Uint64(view) => tensor(view, out),
        OutputView::Int8(view) => tensor(view, out),
        OutputView::Int16(view) => tensor(view, out),
        OutputView::Int32(view) => tensor(view, out),
        OutputView::Int64(view) => tensor(view, out),
        OutputView::Fp16(view) => tensor(view, out),
        OutputView::Bf16(view) => tensor(view, out),
        OutputView::Fp32(view) => tensor(view, out),
        OutputView::Fp64(view) => tensor(view, out),
        OutputView::Bytes(array) => tensor(&array.view(), out),
        OutputView::Maps(maps) => list(out, maps, |map, out| {
            object(out, map, |value, out| value.write(out));
        }),
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

fn tensor<T: Element>(view: &ArrayViewD<'_, T>, out: &mut Vec<u8>) {
    // What ONNX Runtime lends is row-major already, so this borrows.
    let rows: CowArray<'_, T, IxDyn> = view.as_standard_layout();
    nested(
        view.shape(),
        rows.as_slice().expect("standard layout is contiguous"),
        out,
    );
}

fn nested<T: Element>(shape: &[usize], values: &[T], out: &mut Vec<u8>) {
    match shape {
        [] => values[0].write(out),
        [_] => list(out, values, T::write),
        [count, inner @ ..] => {
            let size = values.len().checked_div(*count).unwrap_or(0);
            list(out, 0..*count, |row, out| {
                nested(inner, &values[row * size..(row + 1) * size], out);
            });
        }
    }
}

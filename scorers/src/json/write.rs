//! Writing: from the outputs of a model straight into the bytes of a body.

use super::NonFinite;
use super::element::{JsonElement, write_json};
use crate::element::with_elements;
use crate::tensor::{OutputView, TensorView};

/// Appends one output.
pub(super) fn output(output: &OutputView<'_>, form: NonFinite, out: &mut Vec<u8>) {
    match output {
        OutputView::Tensor(view) => tensor(view, form, out),
        OutputView::Strings(strings) => tensor(&strings.view(), form, out),
        OutputView::Sequence(tensors) => {
            list(out, tensors, |one, out| tensor(&one.view(), form, out));
        }
        OutputView::Map(pairs) => map(pairs, form, out),
        OutputView::Maps(maps) => list(out, maps, |pairs, out| map(pairs, form, out)),
    }
}

fn map(pairs: &[(String, f32)], form: NonFinite, out: &mut Vec<u8>) {
    object(out, pairs, |value, out| value.write(form, out));
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

fn tensor(view: &TensorView<'_>, form: NonFinite, out: &mut Vec<u8>) {
    with_elements!(view.any_elements(), elements => nested(view.shape(), elements, form, out));
}

fn nested<T: JsonElement>(shape: &[usize], values: &[T], form: NonFinite, out: &mut Vec<u8>) {
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

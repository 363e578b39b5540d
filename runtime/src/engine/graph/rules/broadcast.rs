//! Operators that work element by element, on inputs that are stretched to one shape.

use crate::engine::graph::call::{Call, Outcome, made};
use crate::engine::graph::size::Size;
use crate::engine::graph::value::{Role, Value};

/// One input, and an output of its shape. Further inputs are the same for all rows, and scalars or of no account for the shape.
pub(in crate::engine::graph) fn unary(call: &Call<'_>) -> Outcome {
    let (axis, shape) = call.rows(0)?;
    for index in 1..call.count() {
        if let Some(other) = call.same(index)? {
            let scalar = other
                .shape
                .as_deref()
                .is_some_and(|shape| shape.len() <= shape.iter().filter(|size| size.is(1)).count());
            if axis.is_some() && !scalar {
                return Err(format!(
                    "has an input {index} that is not known to be one number"
                ));
            }
        }
    }
    let value = made(axis, shape.to_vec());
    Ok(vec![value; call.outputs.max(1)])
}

/// Inputs that are stretched to one shape.
pub(in crate::engine::graph) fn nary(call: &Call<'_>) -> Outcome {
    if call.inputs().any(|input| input.role == Role::Count) {
        return counted(call);
    }
    let stretched = stretch(call, &(0..call.count()).collect::<Vec<_>>())?;
    let folded = fold(call);
    match (stretched.role, folded) {
        (Role::Same, Some(content)) => Ok(vec![Value {
            of_data: false,
            ..content
        }]),
        _ => Ok(vec![stretched]),
    }
}

/// The first input is not stretched: the others are, to its shape.
pub(in crate::engine::graph) fn toward_first(call: &Call<'_>) -> Outcome {
    let (axis, shape) = call.rows(0)?;
    let shape = shape.to_vec();
    let stretched = stretch(call, &(0..call.count()).collect::<Vec<_>>())?;
    match (stretched.role, axis) {
        (Role::Rows(found), axis)
            if axis != Some(found) || stretched.rank() != Some(shape.len()) =>
        {
            Err("stretches what is the same for all rows to the rows".to_owned())
        }
        _ => Ok(vec![made(axis, shape); call.outputs.max(1)]),
    }
}

/// The value that these inputs are stretched to.
pub(in crate::engine::graph) fn stretch(
    call: &Call<'_>,
    inputs: &[usize],
) -> Result<Value, String> {
    let mut shape: Vec<Size> = Vec::new();
    let mut parts = Vec::new();
    for index in inputs {
        if call.optional(*index).is_some() {
            parts.push(call.rows(*index)?);
        }
    }
    let rank = parts
        .iter()
        .map(|(_, shape)| shape.len())
        .max()
        .unwrap_or(0);
    let rows = rows_axis(&parts, rank)?;
    for axis in 0..rank {
        let sizes = parts.iter().filter_map(|(_, shape)| {
            let before = rank - shape.len();
            axis.checked_sub(before).map(|axis| &shape[axis])
        });
        let mut size = Size::known(1);
        for other in sizes.filter(|size| !size.is(1)) {
            let known = |size: &Size| size.number().is_some();
            if size.is(1) || (known(other) && !known(&size)) {
                // A number above 1 is what it is stretched to; the other is the same, or 1.
                size = other.clone();
            } else if *other != size && !known(&size) {
                size = call.some_size();
            }
        }
        shape.push(size);
    }
    if let Some((axis, size)) = rows.as_ref() {
        shape[*axis] = size.clone();
    }
    Ok(made(rows.map(|(axis, _)| axis), shape))
}

/// The axis of rows after all parts are aligned at their last axes, and its size.
fn rows_axis(
    parts: &[(Option<usize>, &[Size])],
    rank: usize,
) -> Result<Option<(usize, Size)>, String> {
    let mut found: Option<(usize, Size)> = None;
    for (axis, shape) in parts {
        if let Some(axis) = axis {
            let here = (axis + rank - shape.len(), shape[*axis].clone());
            if found.as_ref().is_some_and(|other| *other != here) {
                return Err("brings each row together with the others".to_owned());
            }
            found = Some(here);
        }
    }
    let Some((at, _)) = &found else {
        return Ok(None);
    };
    for (axis, shape) in parts {
        let aligned = at.checked_sub(rank - shape.len()).map(|at| &shape[at]);
        if axis.is_none() && aligned.is_some_and(|size| !size.is(1)) {
            return Err("gives each row a number of its own by its place in the batch".to_owned());
        }
    }
    Ok(found)
}

/// Arithmetic with numbers that are known by the number of rows.
fn counted(call: &Call<'_>) -> Outcome {
    let value = fold(call).ok_or("computes with the number of rows")?;
    call.saw_all();
    Ok(vec![value])
}

/// The elements of the output, where those of all inputs are known.
fn fold(call: &Call<'_>) -> Option<Value> {
    let inputs: Vec<&Value> = call.inputs().collect();
    let contents: Vec<&[Size]> = inputs
        .iter()
        .map(|input| input.content.as_deref())
        .collect::<Option<_>>()?;
    let length = contents.iter().map(|content| content.len()).max()?;
    if contents
        .iter()
        .any(|content| content.len() != length && content.len() != 1)
    {
        return None;
    }
    let rank = inputs.iter().map(|input| input.rank()).max()??;
    let mut content = Vec::with_capacity(length);
    for at in 0..length {
        let elements = contents
            .iter()
            .map(|content| &content[at.min(content.len() - 1)]);
        content.push(element(call, &elements.collect::<Vec<_>>())?);
    }
    // Numbers of 32 bits turn over earlier than these.
    let small = |size: &Size| {
        size.number()
            .is_none_or(|number| i32::try_from(number).is_ok())
    };
    let narrow = |input: &&Value| input.element != crate::engine::graph::call::element::INT64;
    if inputs.iter().any(narrow) && !content.iter().all(small) {
        return None;
    }
    let length = Size::known(i64::try_from(length).ok()?);
    let value = Value::of_content(content, vec![length; rank.min(1)]);
    let element = match call.operator {
        "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" => {
            crate::engine::graph::call::element::BOOL
        }
        _ => inputs.last()?.element,
    };
    Some(Value { element, ..value })
}

/// One element; none where it is not known although the number of rows is in it.
fn element(call: &Call<'_>, inputs: &[&Size]) -> Option<Size> {
    let exact = match (call.operator, inputs) {
        ("Mul", [one, other]) => one.times(other),
        ("Div", [one, other]) => one.divided_by(other).or_else(|| {
            // Toward zero, as ONNX Runtime does.
            let quotient = one.number()?.checked_div(other.number()?)?;
            Some(Size::known(quotient))
        }),
        ("Add" | "Sub", [one, zero]) if zero.is(0) => Some((*one).clone()),
        ("Add", [zero, one]) if zero.is(0) => Some((*one).clone()),
        ("Add", [one, other]) => number(one, other, i64::checked_add),
        ("Sub", [one, other]) if one == other => Some(Size::known(0)),
        ("Sub", [one, other]) => number(one, other, i64::checked_sub),
        ("Max", [one, other]) => number(one, other, |one, other| Some(one.max(other))),
        ("Min", [one, other]) => number(one, other, |one, other| Some(one.min(other))),
        ("Equal", [one, other]) if one == other => Some(Size::known(1)),
        ("Equal", [size, below] | [below, size])
            if size.is_no_less_than_zero() && below.number().is_some_and(|number| number < 0) =>
        {
            Some(Size::known(0))
        }
        ("Equal", [one, other]) => number(one, other, |one, other| Some((one == other).into())),
        ("Greater", [one, other]) => number(one, other, |one, other| Some((one > other).into())),
        ("Less", [one, other]) => number(one, other, |one, other| Some((one < other).into())),
        ("GreaterOrEqual", [one, other]) => {
            number(one, other, |one, other| Some((one >= other).into()))
        }
        ("LessOrEqual", [one, other]) => {
            number(one, other, |one, other| Some((one <= other).into()))
        }
        ("And", [one, other]) => number(one, other, |one, other| {
            Some((one != 0 && other != 0).into())
        }),
        ("Or", [one, other]) => number(one, other, |one, other| {
            Some((one != 0 || other != 0).into())
        }),
        ("Where", [condition, one, other]) => match condition.number() {
            Some(0) => Some((*other).clone()),
            Some(_) => Some((*one).clone()),
            None if one == other => Some((*one).clone()),
            None => None,
        },
        _ => None,
    };
    let fixed = inputs.iter().all(|input| input.is_fixed());
    exact.or_else(|| fixed.then(|| call.some_number()))
}

fn number(one: &Size, other: &Size, of: impl Fn(i64, i64) -> Option<i64>) -> Option<Size> {
    of(one.number()?, other.number()?).map(Size::known)
}

//! Operators that speak of shapes, and those that pass a value on.

use crate::engine::graph::call::{Call, Outcome, element};
use crate::engine::graph::size::Size;
use crate::engine::graph::value::{Role, Value};

pub(in crate::engine::graph) fn shape(call: &Call<'_>) -> Outcome {
    let (_, shape) = call.shaped(0)?;
    let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
    let place = |name: &str, default: i64| {
        let place = call.int(name, default);
        let place = if place < 0 {
            place.saturating_add(rank)
        } else {
            place
        };
        usize::try_from(place.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (place("start", 0), place("end", rank));
    Ok(vec![Value::list(
        shape.get(start..end).unwrap_or_default().to_vec(),
    )])
}

pub(in crate::engine::graph) fn size(call: &Call<'_>) -> Outcome {
    let (_, shape) = call.shaped(0)?;
    let product = Size::product(shape).ok_or("makes a size beyond all numbers")?;
    Ok(vec![Value::of_content(vec![product], Vec::new())])
}

/// Passes its input on, whatever it is.
pub(in crate::engine::graph) fn identity(call: &Call<'_>) -> Outcome {
    Ok(vec![call.input(0)?.clone()])
}

pub(in crate::engine::graph) fn cast(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?.clone();
    call.same_from(1)?;
    let to = i32::try_from(call.int("to", 0)).unwrap_or(element::UNKNOWN);
    let truth = |size: &Size| match size.number() {
        Some(number) => Size::known((number != 0).into()),
        None => call.some_number(),
    };
    let content = match (to, &value.content) {
        (element::INT64, Some(content)) => Some(content.clone()),
        (element::INT32, Some(content)) => {
            let small = |size: &Size| {
                size.number()
                    .is_none_or(|number| i32::try_from(number).is_ok())
            };
            content.iter().all(small).then(|| content.clone())
        }
        (element::BOOL, Some(content)) if content.iter().all(Size::is_fixed) => {
            Some(content.iter().map(truth).collect())
        }
        _ => None,
    };
    if value.role == Role::Count && content.is_none() {
        return Err("computes with the number of rows".to_owned());
    }
    Ok(vec![Value { content, ..value }])
}

pub(in crate::engine::graph) fn constant(call: &Call<'_>) -> Outcome {
    if let Some(tensor) = call.tensor("value") {
        return Ok(vec![Value::of_tensor(tensor)]);
    }
    if let Some(one) = call.attribute("value_int") {
        return Ok(vec![Value::of_content(
            vec![Size::known(one.i.unwrap_or(0))],
            Vec::new(),
        )]);
    }
    if let Some(list) = call.ints("value_ints")? {
        return Ok(vec![Value::list(
            list.iter().copied().map(Size::known).collect(),
        )]);
    }
    let (kind, length) = match () {
        () if call.attribute("value_float").is_some() => (element::FLOAT, None),
        () if call.attribute("value_string").is_some() => (element::STRING, None),
        () => match (
            call.attribute("value_floats"),
            call.attribute("value_strings"),
        ) {
            (Some(list), _) if !list.cut => (element::FLOAT, Some(list.floats.len())),
            (_, Some(list)) if !list.cut => (element::STRING, Some(list.strings.len())),
            _ => return Ok(vec![Value::same(None)]),
        },
    };
    let length = length.map(|length| Size::known(i64::try_from(length).unwrap_or(i64::MAX)));
    Ok(vec![Value {
        element: kind,
        ..Value::same(Some(length.into_iter().collect()))
    }])
}

/// `Range`: numbers that are the same for all, unless they count the rows.
pub(in crate::engine::graph) fn range(call: &Call<'_>) -> Outcome {
    if call.inputs().any(|input| input.role != Role::Same) {
        return Err("numbers the rows by their place in the batch".to_owned());
    }
    let numbers: Vec<_> = (0..3)
        .map(|index| call.optional(index)?.numbers()?.first().copied())
        .collect();
    let length = match numbers[..] {
        [Some(start), Some(limit), Some(step @ 1..)] => limit.checked_sub(start).map(|length| {
            length.max(0).div_euclid(step) + i64::from(length.max(0).rem_euclid(step) > 0)
        }),
        _ => None,
    };
    let length = length.map_or_else(|| call.some_size(), Size::known);
    Ok(vec![Value::same(Some(vec![length]))])
}

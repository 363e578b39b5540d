//! Operators of `com.microsoft` and attention.

use crate::engine::graph::call::{Call, Outcome, Rule, made};
use crate::engine::graph::size::Size;
use crate::engine::graph::value::Role;

/// An operator whose rows share a scale that is taken from the numbers at hand.
pub(in crate::engine::graph) const SCALE_OF_ALL: Rule = |call| {
    let (rows, _) = call.rows(0)?;
    match rows {
        Some(_) => Err("takes its scale from all rows together".to_owned()),
        None => Err("is not followed".to_owned()),
    }
};

/// `QLinearAdd`, `QLinearMul`: two values, each followed by scale and zero point.
pub(in crate::engine::graph) fn q_linear_binary(call: &Call<'_>) -> Outcome {
    for index in [1, 2, 4, 5, 6, 7] {
        call.same(index)?;
    }
    Ok(vec![crate::engine::graph::rules::broadcast::stretch(
        call,
        &[0, 3],
    )?])
}

/// Queries, keys and values of three or four axes, each entry of the first axis by itself.
pub(in crate::engine::graph) fn attention(call: &Call<'_>) -> Outcome {
    let (rows, query) = call.rows_first(0)?;
    let query = query.to_vec();
    if !(3..=4).contains(&query.len()) || call.outputs > 1 {
        return Err("has a form that is not followed".to_owned());
    }
    let values = match call.operator {
        // All three in one, by weights.
        "Attention" if call.count() > 1 && call.same(1).is_ok() => None,
        _ => Some(2),
    };
    for index in 1..call.count() {
        let Some(input) = call.optional(index) else {
            continue;
        };
        let shape = input.shape.as_deref().unwrap_or_default();
        let fits = match (rows, input.role) {
            (None, Role::Same) => true,
            (Some(_), Role::Rows(0)) => shape[0] == query[0] && shape.len() > 1,
            (Some(_), Role::Same) => {
                // What is the same for all has no batch of its own.
                input.rank().is_some_and(|rank| rank < 3)
                    || shape.first().is_some_and(|size| size.is(1))
            }
            _ => false,
        };
        if !fits {
            return Err("has an input that is not the rows' own".to_owned());
        }
    }
    let mut shape = query;
    if let Some(last) = shape.last_mut() {
        let of_values = values.and_then(|index| call.optional(index)?.shape.clone()?.pop());
        *last = of_values.unwrap_or_else(|| call.some_size());
    }
    Ok(vec![made(rows, shape)])
}

/// Attention of ONNX's own domain, where a mask of two axes is for all rows alike, and its axes are not the rows.
pub(in crate::engine::graph) fn attention_of_onnx(call: &Call<'_>) -> Outcome {
    for index in 3..call.count() {
        let masks_rows = call
            .optional(index)
            .is_some_and(|mask| mask.role != Role::Same && mask.rank() != Some(4));
        if masks_rows {
            return Err("has a mask that is not the rows' own".to_owned());
        }
    }
    attention(call)
}

/// `EmbedLayerNormalization`: numbers of words and of segments, then tables.
pub(in crate::engine::graph) fn embed(call: &Call<'_>) -> Outcome {
    let (rows, words) = call.rows_first(0)?;
    let words = words.to_vec();
    for index in [1, 7] {
        if call.optional(index).is_some() {
            let (other, shape) = call.rows_first(index)?;
            if other != rows || shape.len() != 2 || shape[0] != words[0] {
                return Err("has an input that is not the rows' own".to_owned());
            }
        }
    }
    for index in [2, 3, 4, 5, 6, 8] {
        call.same(index)?;
    }
    if words.len() != 2 || call.outputs > 1 && call.count() <= 7 {
        return Err("has a form that is not followed".to_owned());
    }
    let width = call.shaped(2)?.1.last().cloned();
    let mut shape = words.clone();
    shape.push(width.unwrap_or_else(|| call.some_size()));
    Ok(vec![made(rows, shape), made(rows, vec![words[0].clone()])])
}

/// `CDist`: the distance of each row to each line of a table.
pub(in crate::engine::graph) fn c_dist(call: &Call<'_>) -> Outcome {
    let (rows, left) = call.rows_first(0)?;
    let (other, right) = call.rows_first(1)?;
    let sizes: Vec<Size> = vec![
        left.first().ok_or("has an input without rows")?.clone(),
        right.first().ok_or("has an input without rows")?.clone(),
    ];
    match (rows, other) {
        (_, None) => Ok(vec![made(rows, sizes)]),
        (None, Some(_)) => Ok(vec![made(Some(1), sizes)]),
        (Some(_), Some(_)) => Err("takes the distance of each row to the others".to_owned()),
    }
}

/// `QuantizeLinear` and `DequantizeLinear` by scales that are the same for all rows.
pub(in crate::engine::graph) fn quantize(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    call.same(2)?;
    let scale = call.same(1)?.ok_or("lacks an input")?;
    let sizes = scale
        .shape
        .as_deref()
        .ok_or("has an input whose shape is not known")?;
    let one = sizes.iter().all(|size| size.is(1));
    let axis = call.axis("axis", 1, shape.len()).unwrap_or(0);
    if rows.is_some() && !one && (rows == Some(axis) || sizes.len() > 1) {
        return Err("scales each row by its place in the batch".to_owned());
    }
    Ok(vec![made(rows, shape.to_vec())])
}

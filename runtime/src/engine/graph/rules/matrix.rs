//! Products of matrices.

use crate::engine::graph::call::{Call, Outcome, made};
use crate::engine::graph::rules::broadcast;
use crate::engine::graph::size::Size;
use crate::engine::graph::value::{Role, Value};

const EACH: &str = "multiplies each row with the others";

/// A factor of a product: its rows, and its shape.
type Factor<'a> = (Option<usize>, &'a [Size]);

/// `MatMul`; further inputs (scales, zero points) are the same for all rows.
pub(in crate::engine::graph) fn mat_mul(call: &Call<'_>) -> Outcome {
    call.same_from(2)?;
    Ok(vec![product(call, call.rows(0)?, call.rows(1)?)?])
}

/// `QLinearMatMul`: each factor is followed by its scale and zero point.
pub(in crate::engine::graph) fn q_linear_mat_mul(call: &Call<'_>) -> Outcome {
    for index in [1, 2, 4, 5, 6, 7] {
        call.same(index)?;
    }
    Ok(vec![product(call, call.rows(0)?, call.rows(3)?)?])
}

/// `MatMulIntegerToFloat`: both factors, then what is the same for all rows.
pub(in crate::engine::graph) fn fused_mat_mul(call: &Call<'_>) -> Outcome {
    call.same_from(2)?;
    if call.int("transBatchA", 0) != 0 || call.int("transBatchB", 0) != 0 {
        return Err("turns its batches".to_owned());
    }
    let (one, other) = (call.rows(0)?, call.rows(1)?);
    let turned_one = turned(one, call.int("transA", 0) != 0);
    let turned_other = turned(other, call.int("transB", 0) != 0);
    let view = |factor: &(Option<usize>, Vec<Size>)| (factor.0, factor.1.clone());
    let (one, other) = (view(&turned_one), view(&turned_other));
    Ok(vec![product(call, (one.0, &one.1), (other.0, &other.1))?])
}

fn turned((rows, shape): Factor<'_>, turn: bool) -> (Option<usize>, Vec<Size>) {
    let (mut shape, rank) = (shape.to_vec(), shape.len());
    if !turn || rank < 2 {
        return (rows, shape);
    }
    shape.swap(rank - 1, rank - 2);
    let rows = rows.map(|axis| match rank - axis {
        1 => rank - 2,
        2 => rank - 1,
        _ => axis,
    });
    (rows, shape)
}

fn product(call: &Call<'_>, one: Factor<'_>, other: Factor<'_>) -> Result<Value, String> {
    let ((a, left), (b, right)) = (one, other);
    let (left_rank, right_rank) = (left.len(), right.len());
    if left_rank == 0 || right_rank == 0 {
        return Err("multiplies with a single number".to_owned());
    }
    let summed = a.is_some_and(|a| a + 1 == left_rank)
        || b.is_some_and(|b| b + 2 == right_rank || right_rank == 1);
    if summed {
        return Err("sums over all rows".to_owned());
    }
    // What lies before the last two axes is stretched like in any other operator.
    let rank = left_rank.max(right_rank).max(2);
    let batches = rank - 2;
    let place = |axis: Option<usize>, own: usize| axis.map(|axis| axis + rank - own.max(2));
    // A list on the left is one row of a matrix, so its rows were summed over above.
    let (a, b) = (place(a, left_rank), place(b, right_rank));
    let rows = match (a, b) {
        (Some(a), Some(b)) if a == b && a < batches => {
            let sizes = (
                left[a + left_rank - rank].clone(),
                right[b + right_rank - rank].clone(),
            );
            if sizes.0 != sizes.1 {
                return Err(EACH.to_owned());
            }
            Some(a)
        }
        (Some(_), Some(_)) => return Err(EACH.to_owned()),
        (Some(a), None) => alone(a, batches, right, rank)?,
        (None, Some(b)) => alone(b, batches, left, rank)?,
        (None, None) => None,
    };
    let size = |shape: &[Size], axis: usize| {
        let at = (axis + shape.len()).checked_sub(rank);
        at.filter(|at| *at + 2 < shape.len())
            .map(|at| shape[at].clone())
    };
    let mut shape: Vec<Size> = Vec::new();
    for axis in 0..batches {
        let sizes: Vec<Size> = [size(left, axis), size(right, axis)]
            .into_iter()
            .flatten()
            .collect();
        let mut above: Vec<Size> = sizes.into_iter().filter(|size| !size.is(1)).collect();
        above.dedup();
        shape.push(match (&above[..], rows == Some(axis)) {
            ([], _) => Size::known(1),
            ([one], _) => one.clone(),
            (_, true) => return Err(EACH.to_owned()),
            (_, false) => call.some_size(),
        });
    }
    let mut dropped = 0;
    if left_rank > 1 {
        shape.push(left[left_rank - 2].clone());
    } else {
        dropped += 1;
    }
    if right_rank > 1 {
        shape.push(right[right_rank - 1].clone());
    }
    let rows = rows.map(|rows| {
        if rows + 1 == rank {
            rows - dropped
        } else {
            rows
        }
    });
    Ok(made(rows, shape))
}

/// The place of rows that only one factor has: the other must be the same for them.
fn alone(
    axis: usize,
    batches: usize,
    other: &[Size],
    rank: usize,
) -> Result<Option<usize>, String> {
    let at = (axis + other.len()).checked_sub(rank);
    let aligned = at.filter(|at| axis < batches && at + 2 < other.len());
    match aligned.is_some_and(|at| !other[at].is(1)) {
        true => {
            Err("multiplies each row with a matrix of its own by its place in the batch".to_owned())
        }
        false => Ok(Some(axis)),
    }
}

pub(in crate::engine::graph) fn gemm(call: &Call<'_>) -> Outcome {
    let left = turned(call.rows(0)?, call.int("transA", 0) != 0);
    let right = turned(call.rows(1)?, call.int("transB", 0) != 0);
    if left.1.len() != 2 || right.1.len() != 2 {
        return Err("has a factor that is no matrix".to_owned());
    }
    let result = product(call, (left.0, &left.1), (right.0, &right.1))?;
    let shape = result.shape.clone().unwrap_or_default();
    if call.optional(2).is_none() {
        return Ok(vec![result]);
    }
    let (added, sizes) = call.rows(2)?;
    let Role::Rows(rows) = result.role else {
        return match added {
            None => Ok(vec![result]),
            Some(_) => Err("adds the rows to what is the same for all".to_owned()),
        };
    };
    let at = (rows + sizes.len()).checked_sub(2);
    let fits = match (added, at) {
        (Some(added), Some(at)) => added == at && sizes[at] == shape[rows],
        (None, Some(at)) => sizes[at].is(1),
        (None, None) => true,
        (Some(_), None) => false,
    };
    match fits {
        true => Ok(vec![result]),
        false => Err("adds a number of its own to each row by its place in the batch".to_owned()),
    }
}

/// `MatMulNBits`, `QGemm` and their kind: the rows, then weights whose second size an attribute or their shape says.
pub(in crate::engine::graph) fn by_weights(call: &Call<'_>) -> Outcome {
    call.same_from(1)?;
    let (rows, shape) = call.rows(0)?;
    if rows.is_some_and(|rows| rows + 1 >= shape.len()) {
        return Err("sums over all rows".to_owned());
    }
    let added = match call.operator {
        "QGemm" => call.optional(6),
        _ => None,
    };
    if call.int("transA", 0) != 0 || added.is_some_and(|added| added.rank() != Some(1)) {
        return Err("has a form that is not followed".to_owned());
    }
    let mut shape = shape.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = match call.int("N", 0) {
            size @ 1.. => Size::known(size),
            _ => call.some_size(),
        };
    }
    Ok(vec![made(rows, shape)])
}

/// `Einsum`: rows that are named by one letter, once in each of their terms and in the result.
pub(in crate::engine::graph) fn einsum(call: &Call<'_>) -> Outcome {
    let equation: String = call
        .text("equation")
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let (terms, result) = equation
        .split_once("->")
        .ok_or("does not name its result")?;
    let terms: Vec<Vec<char>> = terms
        .split(',')
        .map(|term| term.chars().collect())
        .collect();
    let result: Vec<char> = result.chars().collect();
    if equation.contains('.') || terms.len() != call.count() {
        return Err("has terms that are not followed".to_owned());
    }
    let mut sizes: Vec<(char, Size)> = Vec::new();
    let mut rows: Option<(char, Size)> = None;
    for (index, term) in terms.iter().enumerate() {
        let (axis, shape) = call.rows(index)?;
        if shape.len() != term.len() {
            return Err("has terms that do not fit its inputs".to_owned());
        }
        if let Some(axis) = axis {
            let named = (term[axis], shape[axis].clone());
            if rows.as_ref().is_some_and(|rows| *rows != named) {
                return Err(EACH.to_owned());
            }
            rows = Some(named);
        }
        sizes.extend(term.iter().copied().zip(shape.iter().cloned()));
    }
    if let Some((letter, size)) = &rows {
        let others = sizes.iter().filter(|(other, _)| other == letter);
        let alike = others
            .into_iter()
            .all(|(_, other)| other == size || other.is(1));
        let once = |term: &Vec<char>| term.iter().filter(|other| *other == letter).count();
        if !alike || terms.iter().any(|term| once(term) > 1) || once(&result) != 1 {
            return Err("sums over all rows, or takes each with the others".to_owned());
        }
    }
    let shape = result.iter().map(|letter| {
        let mut found = sizes
            .iter()
            .filter(|(other, size)| other == letter && !size.is(1));
        match (found.next(), found.next()) {
            (Some((_, size)), None) => size.clone(),
            (Some((_, size)), Some((_, other))) if size == other => size.clone(),
            (None, _) => Size::known(1),
            _ => call.some_size(),
        }
    });
    let mut shape: Vec<Size> = shape.collect();
    let axis = rows.and_then(|(letter, size)| {
        let axis = result.iter().position(|other| *other == letter)?;
        shape[axis] = size;
        Some(axis)
    });
    Ok(vec![made(axis, shape)])
}

/// A sum of two and a scale for each last axis, as `BiasGelu` and `SkipLayerNormalization` have it.
pub(in crate::engine::graph) fn skip_norm(call: &Call<'_>) -> Outcome {
    let sum = broadcast::stretch(call, &[0, 1])?;
    let (rows, shape) = call.rows(0)?;
    if rows.is_some_and(|rows| rows + 1 >= shape.len()) {
        return Err("normalises all rows together".to_owned());
    }
    let own = rows.map_or(Role::Same, Role::Rows);
    if sum.rank() != Some(shape.len()) || sum.role != own {
        return Err("stretches what is the same for all rows to the rows".to_owned());
    }
    for index in 2..call.count() {
        let parameter = call.same(index)?;
        if rows.is_some() && parameter.is_some_and(|value| value.rank() != Some(1)) {
            return Err("scales each row by its place in the batch".to_owned());
        }
    }
    let mut statistics = shape.to_vec();
    if let Some(last) = statistics.last_mut() {
        *last = Size::known(1);
    }
    let sum = made(rows, shape.to_vec());
    let statistics = made(rows, statistics);
    Ok(vec![sum.clone(), statistics.clone(), statistics, sum])
}

//! Operators that work along axes: sums, means, softmax, normalisation, sorting.

use crate::engine::graph::call::{Call, Outcome, Rule, at, made};
use crate::engine::graph::size::Size;
use crate::engine::graph::value::{Role, Value};

fn across<T>(what: &str) -> Result<T, String> {
    Err(format!("{what} all rows together"))
}

/// `ReduceSum` and its kind.
pub(in crate::engine::graph) fn reduce(call: &Call<'_>) -> Outcome {
    if call.input(0)?.role == Role::Count {
        return product_of_sizes(call);
    }
    let (rows, shape) = call.rows(0)?;
    let axes = call.axes(1, shape.len())?.filter(|axes| !axes.is_empty());
    if axes.is_none() && call.int("noop_with_empty_axes", 0) != 0 {
        return Ok(vec![made(rows, shape.to_vec())]);
    }
    let all = (0..shape.len()).collect();
    let axes = axes.unwrap_or(all);
    if rows.is_some_and(|rows| axes.contains(&rows)) {
        return across("reduces");
    }
    let keeps = call.int("keepdims", 1) != 0;
    Ok(vec![without(rows, shape, &axes, keeps)])
}

/// The product of all sizes of a shape, as exporters write it.
fn product_of_sizes(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?;
    call.same_from(1)?;
    let product = value
        .content
        .as_ref()
        .filter(|_| call.operator == "ReduceProd");
    let product = product.and_then(Size::product);
    let product = product.ok_or("computes with the number of rows")?;
    let rank = usize::from(call.int("keepdims", 1) != 0).min(value.rank().unwrap_or(0));
    Ok(vec![Value::of_content(
        vec![product],
        vec![Size::known(1); rank],
    )])
}

fn without(rows: Option<usize>, shape: &[Size], axes: &[usize], keeps: bool) -> Value {
    let rows = rows.map(|rows| match keeps {
        true => rows,
        false => rows - axes.iter().filter(|axis| **axis < rows).count(),
    });
    let sizes =
        shape
            .iter()
            .enumerate()
            .filter_map(|(axis, size)| match (axes.contains(&axis), keeps) {
                (false, _) => Some(size.clone()),
                (true, true) => Some(Size::known(1)),
                (true, false) => None,
            });
    made(rows, sizes.collect())
}

/// `ArgMax` and `ArgMin`.
pub(in crate::engine::graph) fn arg(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    if rows == Some(axis) {
        return across("looks for the largest or smallest of");
    }
    Ok(vec![without(
        rows,
        shape,
        &[axis],
        call.int("keepdims", 1) != 0,
    )])
}

/// `Softmax` and its kind: up to version 12 of the operator set all axes from the one named are taken together.
pub(in crate::engine::graph) fn softmax(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let together = call.version < 13;
    let axis = call.axis("axis", if together { 1 } else { -1 }, shape.len());
    // Of one axis: the first version's default names the axis behind the last.
    let axis = match axis {
        Err(_) if together && shape.len() == 1 => 1,
        axis => axis?,
    };
    match rows {
        Some(rows) if rows == axis || together && rows > axis => across("normalises"),
        _ => Ok(vec![made(rows, shape.to_vec())]),
    }
}

/// One axis, named by an attribute, is worked along; the shape stays.
fn along(call: &Call<'_>, default: i64, what: &str) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    if rows == Some(call.axis("axis", default, shape.len())?) {
        return across(what);
    }
    call.same_from(1)?;
    Ok(vec![made(rows, shape.to_vec())])
}

pub(in crate::engine::graph) fn lp_normalization(call: &Call<'_>) -> Outcome {
    along(call, -1, "normalises")
}

pub(in crate::engine::graph) fn cum_sum(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let axis = call.numbers(1, "axis")?.unwrap_or_default();
    let [axis] = axis[..] else {
        return Err("names no single axis".to_owned());
    };
    match rows == Some(at(axis, shape.len())?) {
        true => across("sums up"),
        false => Ok(vec![made(rows, shape.to_vec())]),
    }
}

pub(in crate::engine::graph) fn top_k(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let axis = call.axis("axis", -1, shape.len())?;
    if rows == Some(axis) {
        return across("sorts");
    }
    let count = match call.version < 10 {
        true => Some(Size::known(call.int("k", 0))),
        false => call.same(1)?.and_then(|count| count.content.clone()?.pop()),
    };
    let mut shape = shape.to_vec();
    shape[axis] = count.unwrap_or_else(|| call.some_size());
    Ok(vec![made(rows, shape); 2])
}

/// `LayerNormalization` and its kind: all axes from the one named.
pub(in crate::engine::graph) fn layer_norm(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let axis = call.axis("axis", -1, shape.len())?;
    if rows.is_some_and(|rows| rows >= axis) {
        return across("normalises");
    }
    for index in 1..call.count() {
        let parameter = call.same(index)?;
        let fits = parameter
            .is_none_or(|value| value.rank().is_some_and(|rank| rank <= shape.len() - axis));
        if rows.is_some() && !fits {
            return Err("scales each row by its place in the batch".to_owned());
        }
    }
    let statistics = shape.iter().enumerate().map(|(at, size)| match at < axis {
        true => size.clone(),
        false => Size::known(1),
    });
    let statistics = made(rows, statistics.collect());
    Ok(vec![
        made(rows, shape.to_vec()),
        statistics.clone(),
        statistics,
    ])
}

/// Whether an operator computes as in training. Nothing where a request says it.
pub(in crate::engine::graph) fn trains(call: &Call<'_>) -> Option<bool> {
    let before_7 = || call.int("is_test", 0) == 0;
    match (call.operator, call.version) {
        ("BatchNormalization", 14..) => Some(call.int("training_mode", 0) != 0),
        ("BatchNormalization", 7..) => Some(call.outputs > 1),
        ("BatchNormalization", _) => Some(call.outputs > 1 || before_7()),
        ("Dropout", 12..) => match call.optional(2) {
            None => Some(false),
            Some(mode) => Some(mode.numbers()?.first()? != &0),
        },
        ("Dropout", ..7) => Some(before_7()),
        _ => Some(false),
    }
}

/// `BatchNormalization` with the statistics of the training.
pub(in crate::engine::graph) fn batch_norm(call: &Call<'_>) -> Outcome {
    if trains(call) != Some(false) {
        return across("is in training mode: it takes mean and variance from");
    }
    let (rows, shape) = call.rows_first(0)?;
    call.same_from(1)?;
    Ok(vec![made(rows, shape.to_vec())])
}

/// Normalisation of each entry of the first axis by itself, by parameters for each channel.
pub(in crate::engine::graph) fn instance_norm(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    call.same_from(1)?;
    if shape.len() < 2 {
        return Err("has an input without channels".to_owned());
    }
    Ok(vec![made(rows, shape.to_vec())])
}

pub(in crate::engine::graph) fn mean_variance(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let axes = call.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes: Vec<_> = axes
        .iter()
        .map(|axis| at(*axis, shape.len()))
        .collect::<Result<_, _>>()?;
    match rows.is_some_and(|rows| axes.contains(&rows)) {
        true => across("takes mean and variance from"),
        false => Ok(vec![made(rows, shape.to_vec())]),
    }
}

pub(in crate::engine::graph) const DYNAMIC_QUANTIZE: Rule = |call| {
    let (rows, shape) = call.rows(0)?;
    match rows {
        Some(_) => Err("takes its scale from all rows together".to_owned()),
        None => Ok(vec![
            Value::same(Some(shape.to_vec())),
            Value::same(Some(Vec::new())),
            Value::same(Some(Vec::new())),
        ]),
    }
};

/// `Dropout`, which does nothing but in training.
pub(in crate::engine::graph) fn dropout(call: &Call<'_>) -> Outcome {
    match trains(call) {
        Some(false) => {}
        Some(true) => return Err("is in training mode: its answer is random".to_owned()),
        None => return Err("may be in training mode: its answer is random then".to_owned()),
    }
    call.same_from(1)?;
    let (rows, shape) = call.rows(0)?;
    Ok(vec![made(rows, shape.to_vec()); 2])
}

//! Operators that look entries up.

use crate::engine::graph::call::{Call, Outcome, at, made};
use crate::engine::graph::size::Size;
use crate::engine::graph::value::{Role, Value};

const OTHERS: &str = "takes from each row what another one says";

pub(in crate::engine::graph) fn gather(call: &Call<'_>) -> Outcome {
    if let Some(found) = from_list(call)? {
        return Ok(vec![found]);
    }
    let (data_rows, data) = call.rows(0)?;
    let (index_rows, indices) = call.rows(1)?;
    let axis = call.axis("axis", 0, data.len())?;
    let shape = [&data[..axis], indices, &data[axis + 1..]].concat();
    let rows = match (data_rows, index_rows) {
        (None, None) => None,
        (None, Some(rows)) => Some(axis + rows),
        (Some(rows), None) if rows < axis => Some(rows),
        (Some(rows), None) if rows > axis => Some(rows - 1 + indices.len()),
        (Some(_), None) => return Err("takes some of the rows".to_owned()),
        (Some(_), Some(_)) => return Err(OTHERS.to_owned()),
    };
    Ok(vec![made(rows, shape)])
}

/// Entries of a list that is known.
fn from_list(call: &Call<'_>) -> Result<Option<Value>, String> {
    let (value, index) = (call.input(0)?, call.input(1)?);
    let (Some(content), Some(1)) = (&value.content, value.rank()) else {
        return Ok(None);
    };
    let Some(places) = index.numbers() else {
        return match value.role {
            Role::Same => Ok(None),
            _ => Err("computes with the number of rows".to_owned()),
        };
    };
    let places = places
        .into_iter()
        .map(|place| at(place, content.len()).map(|place| content[place].clone()));
    let found: Vec<Size> = places.collect::<Result<_, _>>()?;
    let shape = index.shape.clone().unwrap_or_default();
    Ok(Some(Value {
        element: value.element,
        ..Value::of_content(found, shape)
    }))
}

pub(in crate::engine::graph) fn gather_elements(call: &Call<'_>) -> Outcome {
    let (rows, data) = call.rows(0)?;
    let (index_rows, indices) = call.rows(1)?;
    let axis = call.axis("axis", 0, data.len())?;
    let apart = rows.is_some_and(|rows| rows != axis && data[rows] == indices[rows]);
    match rows == index_rows && data.len() == indices.len() && (rows.is_none() || apart) {
        true => Ok(vec![made(rows, indices.to_vec())]),
        false => Err(OTHERS.to_owned()),
    }
}

pub(in crate::engine::graph) fn gather_nd(call: &Call<'_>) -> Outcome {
    let (data_rows, data) = call.rows(0)?;
    let (index_rows, indices) = call.rows(1)?;
    let batches = usize::try_from(call.int("batch_dims", 0)).unwrap_or(0);
    let (Some(depth), Some(last)) = (
        indices.last().and_then(Size::number),
        indices.len().checked_sub(1),
    ) else {
        return Err("looks up entries at a depth that is not known".to_owned());
    };
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    let rest = data
        .get(batches.saturating_add(depth)..)
        .ok_or("has indices that are too deep")?;
    let shape = [&indices[..last], rest].concat();
    let rows = match (data_rows, index_rows) {
        (None, None) => None,
        (None, Some(rows)) if rows >= batches && rows < last => Some(rows),
        (Some(rows), Some(other))
            if rows == other && rows < batches && data[rows] == indices[rows] =>
        {
            Some(rows)
        }
        _ => return Err(OTHERS.to_owned()),
    };
    Ok(vec![made(rows, shape)])
}

/// `OneHot` puts an axis in.
pub(in crate::engine::graph) fn one_hot(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    call.same(2)?;
    let depth = call.same(1)?.and_then(|depth| depth.content.clone()?.pop());
    let axis = call.axis("axis", -1, shape.len() + 1)?;
    let mut shape = shape.to_vec();
    shape.insert(axis, depth.unwrap_or_else(|| call.some_size()));
    let rows = rows.map(|rows| if rows >= axis { rows + 1 } else { rows });
    Ok(vec![made(rows, shape)])
}

/// `ArrayFeatureExtractor` takes columns of the last axis. A list counts as one row, and a list of indices as all its elements.
pub(in crate::engine::graph) fn array_feature_extractor(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let (index_rows, indices) = call.rows(1)?;
    let count = Size::product(indices).ok_or("makes a size beyond all numbers")?;
    if let Some(index_rows) = index_rows {
        // The same table for all, by indices that the rows say: they come out one behind the other.
        let before = indices[..index_rows].iter().all(|size| size.is(1));
        return match (rows, shape.len(), before) {
            (None, 1, true) => Ok(vec![Value::rows(1, vec![Size::known(1), count])]),
            _ => Err(OTHERS.to_owned()),
        };
    }
    let last = shape.len().saturating_sub(1);
    if rows == Some(last) {
        return Err("takes some of the rows".to_owned());
    }
    let mut shape = shape.to_vec();
    match shape.len() {
        0 => return Err("has an input without columns".to_owned()),
        1 => shape = vec![Size::known(1), count],
        _ => shape[last] = count,
    }
    Ok(vec![made(rows, shape)])
}

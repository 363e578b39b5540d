//! Operators of `ai.onnx.ml`: tables of rows and columns.

use crate::engine::graph::call::{Call, Outcome, made};
use crate::engine::graph::size::Size;

/// The rows of a table; a list is taken for one row by most of these operators.
fn table<'a>(call: &'a Call<'_>) -> Result<(Option<usize>, &'a [Size]), String> {
    call.same_from(1)?;
    let (rows, shape) = call.rows_first(0)?;
    match (rows, shape.len()) {
        (Some(_), 2) | (None, _) => Ok((rows, shape)),
        (Some(_), 1) => Err("takes a list for one row".to_owned()),
        _ => Err("has an input that is no table".to_owned()),
    }
}

fn columns(call: &Call<'_>, columns: Option<usize>) -> Size {
    let columns = columns.and_then(|columns| i64::try_from(columns).ok());
    columns.map_or_else(|| call.some_size(), Size::known)
}

/// Number of entries of the first of these attributes that there is.
fn entries(call: &Call<'_>, names: &[&str]) -> Option<usize> {
    let found = names.iter().find_map(|name| call.attribute(name))?;
    let length = found
        .ints
        .len()
        .max(found.strings.len())
        .max(found.floats.len());
    (!found.cut && length > 0).then_some(length)
}

/// A class for each row, and a number for each class.
pub(in crate::engine::graph) fn classifier(call: &Call<'_>) -> Outcome {
    let (rows, shape) = table(call)?;
    let first = shape.first().ok_or("has an input without rows")?.clone();
    let labels = [
        "classlabels_int64s",
        "classlabels_ints",
        "classlabels_strings",
    ];
    // One number for each pair of classes, or for each class.
    let count = entries(call, &labels).filter(|_| call.operator != "SVMClassifier");
    let scores = vec![first.clone(), columns(call, count)];
    Ok(vec![made(rows, vec![first]), made(rows, scores)])
}

/// Numbers for each row.
pub(in crate::engine::graph) fn regressor(call: &Call<'_>) -> Outcome {
    let (rows, shape) = table(call)?;
    let first = shape.first().ok_or("has an input without rows")?.clone();
    let given = ["n_targets", "targets"]
        .iter()
        .find_map(|name| call.attribute(name)?.i);
    let count = match call.operator {
        "SVMRegressor" => 1,
        _ => given.unwrap_or(1),
    };
    Ok(vec![made(
        rows,
        vec![first, columns(call, usize::try_from(count).ok())],
    )])
}

/// A table of the same shape.
pub(in crate::engine::graph) fn by_columns(call: &Call<'_>) -> Outcome {
    let (rows, shape) = table(call)?;
    Ok(vec![made(rows, shape.to_vec())])
}

/// `ZipMap`: a map for each row.
pub(in crate::engine::graph) fn zip_map(call: &Call<'_>) -> Outcome {
    let (rows, shape) = table(call)?;
    let first = shape.first().ok_or("has an input without rows")?.clone();
    Ok(vec![made(rows, vec![first])])
}

pub(in crate::engine::graph) fn one_hot_encoder(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let mut shape = shape.to_vec();
    shape.push(columns(
        call,
        entries(call, &["cats_int64s", "cats_strings"]),
    ));
    Ok(vec![made(rows, shape)])
}

/// Tables beside each other.
pub(in crate::engine::graph) fn feature_vectorizer(call: &Call<'_>) -> Outcome {
    let (rows, first) = call.rows_first(0)?;
    let first = first.to_vec();
    for index in 0..call.count() {
        let (other, shape) = call.rows_first(index)?;
        if other != rows || shape.len() != 2 || shape[0] != first[0] {
            return Err("joins tables that are not all of rows".to_owned());
        }
    }
    Ok(vec![made(rows, vec![first[0].clone(), call.some_size()])])
}

/// Counts of words for each row.
pub(in crate::engine::graph) fn tf_idf(call: &Call<'_>) -> Outcome {
    let (rows, shape) = table(call)?;
    let first = shape.first().ok_or("has an input without rows")?.clone();
    Ok(vec![made(rows, vec![first, call.some_size()])])
}

/// `StringNormalizer` element by element, where it leaves no words out.
pub(in crate::engine::graph) fn string_normalizer(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    match call
        .attribute("stopwords")
        .is_some_and(|words| words.cut || !words.strings.is_empty())
    {
        true => Err("leaves words out, wherever they stand in the batch".to_owned()),
        false => Ok(vec![made(rows, shape.to_vec())]),
    }
}

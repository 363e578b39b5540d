//! Recurrences: over time, entry by entry of the batch axis.

use crate::engine::graph::call::{Call, Outcome, made};
use crate::engine::graph::size::Size;

/// `LSTM`, `GRU` and `RNN`: sequence, batch, features.
pub(in crate::engine::graph) fn recurrent(call: &Call<'_>) -> Outcome {
    if call.int("layout", 0) != 0 {
        return Err("has a layout that is not followed".to_owned());
    }
    let (rows, shape) = call.rows(0)?;
    let [time, batch, _] = shape else {
        return Err("has an input that is not of three axes".to_owned());
    };
    match rows {
        None | Some(1) => {}
        Some(0) => {
            return Err(
                "runs from one row to the next: it takes the first axis for time".to_owned(),
            );
        }
        Some(_) => return Err("takes the rows for features".to_owned()),
    }
    // Weights, recurrence and bias; then the peepholes of an LSTM.
    for index in [1, 2, 3, 7] {
        call.same(index)?;
    }
    for (index, axis) in [(4, 0), (5, 1), (6, 1)] {
        if call.optional(index).is_none() {
            continue;
        }
        let (own, sizes) = call.rows(index)?;
        let fits = own.is_none_or(|own| own == axis && sizes[axis] == *batch);
        if own.is_some() != rows.is_some() || !fits {
            return Err("begins with a state that is not the rows' own".to_owned());
        }
    }
    let directions = match call.text("direction") {
        Some("bidirectional") => 2,
        _ => 1,
    };
    let hidden = match call.int("hidden_size", 0) {
        size @ 1.. => Size::known(size),
        _ => call.some_size(),
    };
    let directions = Size::known(directions);
    let all = vec![
        time.clone(),
        directions.clone(),
        batch.clone(),
        hidden.clone(),
    ];
    let last = made(rows, vec![directions, batch.clone(), hidden]);
    Ok(vec![made(rows.map(|_| 2), all), last.clone(), last])
}

//! Operators that move, cut, join and repeat, and leave the numbers as they are.

use crate::engine::graph::call::{Call, Outcome, at, made};
use crate::engine::graph::size::Size;
use crate::engine::graph::value::{Role, Value};

/// An end that is behind all rows of any batch; some exporters write it for "to the end".
const ENDS: i64 = 1_000_000_000;

/// The place of the rows after a reshape from one shape to another, if they keep together: as much lies before them as before, and
/// of each row there is a whole number of entries. Where there are as many entries as before, what follows them has as many
/// elements as before, or ONNX Runtime refuses the shape.
fn kept_rows(rows: usize, from: &[Size], to: &[Size]) -> Option<usize> {
    let before = Size::product(&from[..rows])?;
    let mut so_far = Size::known(1);
    for (axis, size) in to.iter().enumerate() {
        if !size.is_fixed() {
            let rest_is_fixed = to[axis + 1..].iter().all(Size::is_fixed);
            let whole = size.power_of_rows() == 1 && rest_is_fixed && so_far == before;
            let fits = || Some(Size::product(from)? == Size::product(to)?);
            return (whole && (*size == from[rows] || fits()?)).then_some(axis);
        }
        so_far = so_far.times(size)?;
    }
    None
}

/// The value with another shape, its elements in the same order.
fn reshaped(call: &Call<'_>, to: Vec<Size>) -> Outcome {
    let (rows, from) = call.rows(0)?;
    match rows {
        None if to.iter().all(Size::is_fixed) => Ok(vec![Value {
            content: call.input(0)?.content.clone().filter(|_| to.len() <= 1),
            ..Value::same(Some(to))
        }]),
        None => Err("divides what is the same for all rows among them".to_owned()),
        Some(rows) => match kept_rows(rows, from, &to) {
            Some(axis) => Ok(vec![Value::rows(axis, to)]),
            None => Err("does not keep the elements of a row together".to_owned()),
        },
    }
}

pub(in crate::engine::graph) fn reshape(call: &Call<'_>) -> Outcome {
    if call.input(0)?.role == Role::Count {
        return as_list(call);
    }
    let target = match call.version < 5 {
        true => call
            .ints("shape")?
            .map(|sizes| sizes.iter().copied().map(Size::known).collect()),
        false => call.input(1)?.content.clone(),
    };
    let mut target: Vec<Size> = target.ok_or("makes a shape of numbers that are not known")?;
    let (_, from) = call.rows(0)?;
    if call.int("allowzero", 0) == 0 {
        for (axis, size) in target.iter_mut().enumerate() {
            if size.is(0) {
                *size = from
                    .get(axis)
                    .ok_or("keeps an axis that is not there")?
                    .clone();
            }
        }
    }
    if target
        .iter()
        .any(|size| !size.is(-1) && !size.is_no_less_than_zero())
    {
        return Err("makes a shape of numbers that are not known".to_owned());
    }
    let open: Vec<usize> = (0..target.len())
        .filter(|axis| target[*axis].is(-1))
        .collect();
    if let [open] = open[..] {
        let others = target.iter().filter(|size| !size.is(-1));
        let rest =
            Size::product(others).and_then(|others| Size::product(from)?.divided_by(&others));
        target[open] = match rest {
            Some(rest) => rest,
            // The rows are elsewhere, so whatever this is it does not depend on how many there are.
            None if call.input(0)?.role == Role::Same => call.some_size(),
            None => return Err("does not keep the elements of a row together".to_owned()),
        };
    }
    reshaped(call, target)
}

/// Numbers known by the number of rows, as a scalar or a list of their own.
fn as_list(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?;
    let content = value.content.clone().unwrap_or_default();
    let to = match call.operator {
        "Reshape" => call.input(1)?.numbers(),
        _ => Some(vec![-1]),
    };
    match to.as_deref() {
        Some([]) if content.len() == 1 => Ok(vec![Value::of_content(content, Vec::new())]),
        Some([_]) => Ok(vec![Value::list(content)]),
        _ => Err("computes with the number of rows".to_owned()),
    }
}

pub(in crate::engine::graph) fn flatten(call: &Call<'_>) -> Outcome {
    let (_, from) = call.rows(0)?;
    let axis = call.int("axis", 1);
    let axis = match usize::try_from(axis) {
        Ok(axis) if axis == from.len() => axis,
        _ => at(axis, from.len())?,
    };
    let sizes = Size::product(&from[..axis]).zip(Size::product(&from[axis..]));
    let (one, other) = sizes.ok_or("makes a size beyond all numbers")?;
    reshaped(call, vec![one, other])
}

pub(in crate::engine::graph) fn transpose(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let order: Vec<usize> = match call.ints("perm")? {
        None => (0..shape.len()).rev().collect(),
        Some(order) => order
            .iter()
            .map(|axis| at(*axis, shape.len()))
            .collect::<Result<_, _>>()?,
    };
    if order.len() != shape.len() || (0..shape.len()).any(|axis| !order.contains(&axis)) {
        return Err("names its axes wrongly".to_owned());
    }
    let rows = rows.and_then(|rows| order.iter().position(|axis| *axis == rows));
    Ok(vec![made(
        rows,
        order.iter().map(|axis| shape[*axis].clone()).collect(),
    )])
}

pub(in crate::engine::graph) fn unsqueeze(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?;
    if let Some(content) = &value.content
        && value.rank() == Some(0)
    {
        call.same_from(1)?;
        return Ok(vec![Value {
            element: value.element,
            ..Value::list(content.clone())
        }]);
    }
    let (rows, shape) = call.rows(0)?;
    let count = call.numbers(1, "axes")?.ok_or("names no axes")?.len();
    let rank = shape.len() + count;
    let axes = call.axes(1, rank)?.unwrap_or_default();
    let (mut old, mut new, mut place) = (shape.iter().enumerate(), Vec::new(), None);
    for axis in 0..rank {
        if axes.contains(&axis) {
            new.push(Size::known(1));
        } else if let Some((from, size)) = old.next() {
            place = place.or((rows == Some(from)).then_some(axis));
            new.push(size.clone());
        }
    }
    Ok(vec![made(place, new)])
}

pub(in crate::engine::graph) fn squeeze(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?;
    if let Some(content) = &value.content
        && content.len() == 1
        && value.rank() == Some(1)
    {
        call.same_from(1)?;
        return Ok(vec![Value {
            element: value.element,
            ..Value::of_content(content.clone(), Vec::new())
        }]);
    }
    let (rows, shape) = call.rows(0)?;
    let axes = match call.axes(1, shape.len())? {
        Some(axes) => axes,
        None if rows.is_none() => {
            return Err("drops the axes of size 1, whichever they are".to_owned());
        }
        None => return Err("drops the axis of rows when there is one row".to_owned()),
    };
    if rows.is_some_and(|rows| axes.contains(&rows)) {
        return Err("takes one row for all there are".to_owned());
    }
    let rows = rows.map(|rows| rows - axes.iter().filter(|axis| **axis < rows).count());
    let kept = shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| !axes.contains(axis));
    Ok(vec![made(
        rows,
        kept.map(|(_, size)| size.clone()).collect(),
    )])
}

pub(in crate::engine::graph) fn concat(call: &Call<'_>) -> Outcome {
    if let Some(list) = list_of_lists(call) {
        return Ok(vec![list]);
    }
    let (mut rows, first) = call.rows(0)?;
    let default = if call.version < 4 { 1 } else { 0 };
    let axis = call.axis("axis", default, first.len())?;
    let mut shape = first.to_vec();
    let mut sizes = vec![first[axis].clone()];
    for index in 1..call.count() {
        let (other_rows, other) = call.rows(index)?;
        if other.len() != shape.len() {
            return Err("joins values of different rank".to_owned());
        }
        if rows != other_rows {
            return Err("joins rows with what is the same for all".to_owned());
        }
        if rows.is_some_and(|rows| other[rows] != shape[rows]) {
            return Err("joins different numbers of rows".to_owned());
        }
        rows = other_rows;
        sizes.push(other[axis].clone());
    }
    if rows == Some(axis) && call.count() > 1 {
        return Err("joins the rows of one value with those of another".to_owned());
    }
    let numbers: Option<i64> = sizes.iter().map(Size::number).sum();
    shape[axis] = match (numbers, &sizes[..]) {
        (Some(number), _) => Size::known(number),
        (None, [one]) => one.clone(),
        (None, _) => call.some_size(),
    };
    Ok(vec![made(rows, shape)])
}

/// The lists whose elements are known, one behind the other.
fn list_of_lists(call: &Call<'_>) -> Option<Value> {
    let mut content = Vec::new();
    for value in call.inputs() {
        (value.rank() == Some(1)).then_some(())?;
        content.extend(value.content.clone()?);
    }
    call.saw_all();
    Some(Value::list(content))
}

/// One axis of a slice: start, end and step.
struct Cut {
    axis: usize,
    start: Size,
    end: Size,
    step: Size,
}

impl Cut {
    fn numbers(&self) -> Option<(i64, i64, i64)> {
        Some((
            self.start.number()?,
            self.end.number()?,
            self.step.number()?,
        ))
    }

    /// Whether all of an axis of this size stays, in order.
    fn is_whole(&self, size: &Size) -> bool {
        let ends = self.end == *size || self.end.number().is_some_and(|end| end >= ENDS);
        self.start.is(0) && self.step.is(1) && ends
    }
}

fn cuts(call: &Call<'_>, rank: usize) -> Result<Vec<Cut>, String> {
    let places = |index: usize, name: &str| -> Result<Option<Vec<Size>>, String> {
        if call.version < 10 {
            let numbers = call.ints(name)?;
            return Ok(numbers.map(|numbers| numbers.iter().copied().map(Size::known).collect()));
        }
        let Some(value) = call.optional(index) else {
            return Ok(None);
        };
        let content = value.content.clone();
        content
            .map(Some)
            .ok_or_else(|| "cuts at places that are not known".to_owned())
    };
    let missing = || "lacks an input".to_owned();
    let starts = places(1, "starts")?.ok_or_else(missing)?;
    let ends = places(2, "ends")?.ok_or_else(missing)?;
    let axes = match call.version < 10 {
        true => call.ints("axes")?.map(<[i64]>::to_vec),
        false => call.numbers(3, "axes")?,
    };
    let axes = axes.unwrap_or_else(|| (0..).take(starts.len()).collect());
    let steps = places(4, "steps")?.unwrap_or_else(|| vec![Size::known(1); starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("cuts at places that do not fit together".to_owned());
    }
    let places = starts.into_iter().zip(ends).zip(steps).zip(axes);
    let cut = |(((start, end), step), axis)| {
        Ok(Cut {
            axis: at(axis, rank)?,
            start,
            end,
            step,
        })
    };
    places.map(cut).collect()
}

pub(in crate::engine::graph) fn slice(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?;
    if value.content.is_some() && value.rank() == Some(1) {
        return part_of_list(call);
    }
    let (rows, shape) = call.rows(0)?;
    let mut shape = shape.to_vec();
    for cut in cuts(call, shape.len())? {
        if cut.is_whole(&shape[cut.axis]) {
            continue;
        }
        if rows == Some(cut.axis) {
            return Err("takes some of the rows, or turns their order".to_owned());
        }
        if [&cut.start, &cut.end, &cut.step]
            .iter()
            .any(|place| !place.is_fixed())
        {
            return Err("computes with the number of rows".to_owned());
        }
        let size = shape[cut.axis].number().zip(cut.numbers());
        let length = size.and_then(|(size, cut)| length_of_cut(size, cut));
        shape[cut.axis] = length.map_or_else(|| call.some_size(), Size::known);
    }
    Ok(vec![made(rows, shape)])
}

/// The place where a cut begins in `size` elements.
fn begin_of_cut(size: i64, start: i64, step: i64) -> i64 {
    let start = if start < 0 {
        start.saturating_add(size)
    } else {
        start
    };
    start.clamp(0, if step < 0 { size - 1 } else { size })
}

/// Elements that a cut leaves of `size`.
fn length_of_cut(size: i64, (start, end, step): (i64, i64, i64)) -> Option<i64> {
    let begin = i128::from(begin_of_cut(size.max(1), start, step));
    let end = if end < 0 {
        end.saturating_add(size)
    } else {
        end
    };
    let length = match step {
        // ONNX Runtime takes some ends behind the last element for 0 when it goes back.
        ..0 if end >= size => return None,
        0 => return None,
        1.. => i128::from(end.clamp(0, size.max(0))) - begin + i128::from(step) - 1,
        _ => begin - i128::from(end.clamp(-1, size.max(1) - 1)) - i128::from(step) - 1,
    };
    let length = length / i128::from(step).abs();
    i64::try_from(length.max(0)).ok()
}

fn part_of_list(call: &Call<'_>) -> Outcome {
    let value = call.input(0)?;
    let content = value.content.clone().unwrap_or_default();
    let size = i64::try_from(content.len()).unwrap_or(0);
    let cuts = cuts(call, 1)?;
    let cut = match &cuts[..] {
        [cut] => cut.numbers(),
        _ => None,
    };
    let (start, end, step) = cut.ok_or("cuts at places that are not known")?;
    let length =
        length_of_cut(size, (start, end, step)).ok_or("cuts at places that are not known")?;
    let begin = begin_of_cut(size.max(1), start, step);
    let places = (0..length).map(|at| {
        let at = begin.checked_add(at.checked_mul(step)?)?;
        content.get(usize::try_from(at).ok()?).cloned()
    });
    let content = places.collect::<Option<_>>();
    let list = Value::list(content.ok_or("cuts beyond the end")?);
    Ok(vec![Value {
        element: value.element,
        ..list
    }])
}

pub(in crate::engine::graph) fn split(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    if rows == Some(axis) {
        return Err("divides the rows".to_owned());
    }
    let sizes = match call.version < 13 {
        true => call
            .ints("split")?
            .map(|sizes| sizes.iter().copied().map(Size::known).collect()),
        false => call.same(1)?.and_then(|sizes| sizes.content.clone()),
    };
    let sizes: Vec<Size> = sizes.unwrap_or_default();
    let count = i64::try_from(call.outputs).unwrap_or(1).max(1);
    let even = shape[axis]
        .divided_by(&Size::known(count))
        .filter(|_| sizes.is_empty());
    let part = |index: usize| {
        let mut shape = shape.to_vec();
        let size = sizes.get(index).cloned().or_else(|| even.clone());
        shape[axis] = size.unwrap_or_else(|| call.some_size());
        made(rows, shape)
    };
    Ok((0..call.outputs).map(part).collect())
}

/// `Pad`: nothing is added to the rows.
pub(in crate::engine::graph) fn pad(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let pads = call.numbers(1, if call.version < 2 { "paddings" } else { "pads" })?;
    let pads = pads.ok_or("lacks an input")?;
    call.same(2)?;
    let all = (0..shape.len()).collect();
    let axes = match call.optional(3) {
        Some(_) => call.axes(3, shape.len())?.unwrap_or(all),
        None => all,
    };
    if pads.len() != 2 * axes.len() {
        return Err("adds to axes that are not there".to_owned());
    }
    let mut shape = shape.to_vec();
    for (index, axis) in axes.iter().enumerate() {
        let (before, after) = (pads[index], pads[index + axes.len()]);
        if (before, after) == (0, 0) {
            continue;
        }
        if rows == Some(*axis) {
            return Err("adds rows, or takes some away".to_owned());
        }
        let size = shape[*axis]
            .number()
            .and_then(|size| size.checked_add(before)?.checked_add(after));
        shape[*axis] = size.map_or_else(|| call.some_size(), Size::known);
    }
    Ok(vec![made(rows, shape)])
}

/// A block of `1`s along the row axis, or a value stretched to the rows: only one axis of the shape may count the rows.
fn stretched_to_rows(shape: &[Size]) -> Result<Option<usize>, String> {
    let mut counted = (0..shape.len()).filter(|axis| !shape[*axis].is_fixed());
    match (counted.next(), counted.next()) {
        (None, _) => Ok(None),
        (Some(axis), None) if shape[axis].power_of_rows() == 1 => Ok(Some(axis)),
        _ => Err("makes a table of each row with each".to_owned()),
    }
}

pub(in crate::engine::graph) fn expand(call: &Call<'_>) -> Outcome {
    let (rows, from) = call.rows(0)?;
    let target = call.input(1)?.content.clone();
    let target = target.ok_or("makes a shape of numbers that are not known")?;
    let rank = from.len().max(target.len());
    let rows = rows.map(|rows| rows + rank - from.len());
    let get = |shape: &[Size], axis: usize| {
        let at = axis.checked_sub(rank - shape.len());
        at.map_or(Size::known(1), |at| shape[at].clone())
    };
    let mut shape = Vec::new();
    for axis in 0..rank {
        let (own, wanted) = (get(from, axis), get(&target, axis));
        shape.push(match () {
            () if own == wanted || wanted.is(1) => own,
            () if own.is(1) => wanted,
            () if own.is_fixed() && wanted.is_fixed() => call.some_size(),
            () => return Err("stretches a value to the rows that is not one for all".to_owned()),
        });
    }
    match (rows, stretched_to_rows(&shape)?) {
        (Some(rows), Some(found)) if rows == found => Ok(vec![Value::rows(rows, shape)]),
        (Some(_), _) => Err("brings each row together with the others".to_owned()),
        (None, found) => Ok(vec![made(found, shape)]),
    }
}

pub(in crate::engine::graph) fn tile(call: &Call<'_>) -> Outcome {
    let (rows, from) = call.rows(0)?;
    let repeats = call.input(1)?.content.clone();
    let repeats = repeats.ok_or("repeats as often as nobody knows")?;
    if repeats.len() != from.len() {
        return Err("repeats axes that are not there".to_owned());
    }
    if rows.is_some_and(|rows| !repeats[rows].is(1)) {
        return Err("repeats the batch".to_owned());
    }
    let sizes = from
        .iter()
        .zip(&repeats)
        .map(|(size, times)| size.times(times));
    let shape: Vec<Size> = sizes
        .collect::<Option<_>>()
        .ok_or("makes a size beyond all numbers")?;
    match (rows, stretched_to_rows(&shape)?) {
        (Some(rows), Some(found)) if rows == found => Ok(vec![Value::rows(rows, shape)]),
        (Some(_), _) => Err("repeats each row as often as there are rows".to_owned()),
        (None, found) => Ok(vec![made(found, shape)]),
    }
}

pub(in crate::engine::graph) fn constant_of_shape(call: &Call<'_>) -> Outcome {
    let shape = call.input(0)?.content.clone();
    let shape = shape.ok_or("makes a shape of numbers that are not known")?;
    let rows = stretched_to_rows(&shape)?;
    let mut value = made(rows, shape.clone());
    let fill = call
        .tensor("value")
        .and_then(crate::engine::graph::value::whole_numbers);
    if let (None, Some([fill]), [size]) = (rows, fill.as_deref(), &shape[..])
        && let Some(size) = size.number().filter(|size| (0..=64).contains(size))
    {
        let content = (0..size).map(|_| Size::known(*fill)).collect();
        value.content = Some(content);
    }
    Ok(vec![value])
}

/// `Trilu` looks at the place in the last two axes.
pub(in crate::engine::graph) fn trilu(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    call.same(1)?;
    match rows.is_some_and(|rows| rows + 2 >= shape.len()) {
        true => Err("treats each row by its place in the batch".to_owned()),
        false => Ok(vec![made(rows, shape.to_vec())]),
    }
}

pub(in crate::engine::graph) fn reverse_sequence(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows(0)?;
    let batch = call.axis("batch_axis", 1, shape.len())?;
    let lengths = call.input(1)?.role;
    match rows {
        None if lengths == Role::Same => {}
        Some(rows) if rows == batch && lengths == Role::Rows(0) => {}
        Some(rows) if rows == batch => {
            return Err("has lengths that are not the rows' own".to_owned());
        }
        _ => return Err("turns the order of the rows".to_owned()),
    }
    Ok(vec![made(rows, shape.to_vec())])
}

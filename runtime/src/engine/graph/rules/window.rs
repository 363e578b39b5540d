//! Convolution, pooling and other work on images: entry by entry of the first axis.

use crate::engine::graph::call::{Call, Outcome, made};
use crate::engine::graph::size::Size;

/// Rank of the shape behind batch and channels.
fn spatial(shape: &[Size]) -> Result<&[Size], String> {
    shape
        .get(2..)
        .ok_or_else(|| "has an input without channels".to_owned())
}

/// The list of an attribute, one entry for each axis.
fn list(call: &Call<'_>, name: &str, axes: usize, default: i64) -> Result<Vec<i64>, String> {
    Ok(match call.ints(name)? {
        Some(list) if list.len() == axes => list.to_vec(),
        _ => vec![default; axes],
    })
}

/// Sizes after a window has gone over them; unknown where something of it is.
fn windowed(call: &Call<'_>, shape: &[Size], kernel: &[Option<i64>]) -> Result<Vec<Size>, String> {
    let sizes = spatial(shape)?;
    let axes = sizes.len();
    let strides = list(call, "strides", axes, 1)?;
    let dilations = list(call, "dilations", axes, 1)?;
    let pads = list(call, "pads", 2 * axes, 0)?;
    let auto = call.text("auto_pad").unwrap_or("NOTSET");
    let up = call.int("ceil_mode", 0) != 0;
    let size = |axis: usize| {
        let size = sizes[axis].number()?;
        let stride = strides[axis];
        if stride <= 0 || size < 0 {
            return None;
        }
        if matches!(auto, "SAME_UPPER" | "SAME_LOWER") {
            return Some((size - 1).checked_div(stride)? + 1);
        }
        let kernel = (*kernel.get(axis)?)?;
        let reach = dilations[axis]
            .checked_mul(kernel.checked_sub(1)?)?
            .checked_add(1)?;
        let (before, after) = match auto {
            "VALID" => (0, 0),
            _ => (pads[axis], pads[axis + axes]),
        };
        let left = size
            .checked_add(before)?
            .checked_add(after)?
            .checked_sub(reach)?;
        // What rounding up does at the edge is ONNX Runtime's own affair.
        let known = left >= 0 && !(up && left % stride != 0);
        known.then(|| Size::known(left / stride + 1))?.number()
    };
    Ok((0..axes)
        .map(|axis| size(axis).map_or_else(|| call.some_size(), Size::known))
        .collect())
}

/// `Conv` and its kind: weights are the input of this number, and all other inputs are the same for all rows.
fn convolution(call: &Call<'_>, weights: usize) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    call.same_from(1)?;
    let (_, filters) = call.shaped(weights)?;
    let kernel: Vec<Option<i64>> = spatial(filters)?.iter().map(Size::number).collect();
    let mut out = vec![shape.first().ok_or("has an input without rows")?.clone()];
    out.push(filters[0].clone());
    out.extend(windowed(call, shape, &kernel)?);
    Ok(vec![made(rows, out)])
}

pub(in crate::engine::graph) fn conv(call: &Call<'_>) -> Outcome {
    convolution(call, 1)
}

pub(in crate::engine::graph) fn q_linear_conv(call: &Call<'_>) -> Outcome {
    convolution(call, 3)
}

pub(in crate::engine::graph) fn conv_transpose(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    call.same_from(1)?;
    let (sizes, (_, filters)) = (spatial(shape)?, call.shaped(1)?);
    let channels = filters
        .get(1)
        .and_then(|size| size.times(&Size::known(call.int("group", 1))));
    let mut out = vec![
        shape[0].clone(),
        channels.unwrap_or_else(|| call.some_size()),
    ];
    out.extend(sizes.iter().map(|_| call.some_size()));
    Ok(vec![made(rows, out)])
}

/// `MaxPool` and its kind. The places that it may tell count over the whole batch.
pub(in crate::engine::graph) fn pool(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    call.same_from(1)?;
    if call.outputs > 1 {
        return Err("tells places that are counted over the whole batch".to_owned());
    }
    let kernel = call.ints("kernel_shape")?.unwrap_or_default();
    let kernel: Vec<Option<i64>> = kernel.iter().copied().map(Some).collect();
    let sizes = windowed(call, shape, &kernel)?;
    let out = shape[..2].iter().cloned().chain(sizes).collect();
    Ok(vec![made(rows, out)])
}

pub(in crate::engine::graph) fn global_pool(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    call.same_from(1)?;
    let ones = spatial(shape)?.iter().map(|_| Size::known(1));
    let out = shape[..2].iter().cloned().chain(ones).collect();
    Ok(vec![made(rows, out)])
}

pub(in crate::engine::graph) fn depth_to_space(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    let [batch, channels, height, width] = shape else {
        return Err("has an input that is no image".to_owned());
    };
    let block = Size::known(call.int("blocksize", 1));
    let area = block
        .times(&block)
        .ok_or("makes a size beyond all numbers")?;
    let more = |size: &Size| size.times(&block).unwrap_or_else(|| call.some_size());
    let less = |size: &Size| size.divided_by(&block).unwrap_or_else(|| call.some_size());
    let sizes = match call.operator {
        "DepthToSpace" => [
            channels
                .divided_by(&area)
                .unwrap_or_else(|| call.some_size()),
            more(height),
            more(width),
        ],
        _ => [
            channels.times(&area).unwrap_or_else(|| call.some_size()),
            less(height),
            less(width),
        ],
    };
    let out = std::iter::once(batch.clone()).chain(sizes).collect();
    Ok(vec![made(rows, out)])
}

/// `Resize` and `Upsample`, which leave the first axis as it is.
pub(in crate::engine::graph) fn resize(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    if call.attribute("axes").is_some()
        || call.text("coordinate_transformation_mode") == Some("tf_crop_and_resize")
    {
        return Err("resizes axes that are not followed".to_owned());
    }
    let sizes = call.optional(3);
    let mut out = vec![shape.first().ok_or("has an input without rows")?.clone()];
    if let Some(sizes) = sizes {
        let content = sizes
            .content
            .as_ref()
            .ok_or("makes a shape of numbers that are not known")?;
        let fits = content.len() == shape.len() && content[0] == shape[0];
        if !fits || !content[1..].iter().all(Size::is_fixed) {
            return Err("is not known to keep the rows".to_owned());
        }
        out.extend(content[1..].iter().cloned());
    } else {
        let scales = if call.operator == "Upsample" || call.version < 11 {
            1
        } else {
            2
        };
        call.same(scales)?;
        call.same(1)?;
        let first = call.optional(scales).and_then(|scales| scales.first);
        let first = first.ok_or("has scales that are not known")?;
        if (first - 1.0).abs() > 0.0 {
            return Err("is not known to keep the rows".to_owned());
        }
        out.extend(shape[1..].iter().map(|_| call.some_size()));
    }
    Ok(vec![made(rows, out)])
}

/// `GridSample`: both inputs entry by entry.
pub(in crate::engine::graph) fn grid_sample(call: &Call<'_>) -> Outcome {
    let (rows, shape) = call.rows_first(0)?;
    let (grid_rows, grid) = call.rows_first(1)?;
    if rows != grid_rows || grid.len() != shape.len() || grid.len() < 3 || grid[0] != shape[0] {
        return Err("has a grid that is not the rows' own".to_owned());
    }
    let out = shape[..2]
        .iter()
        .cloned()
        .chain(grid[1..grid.len() - 1].iter().cloned());
    Ok(vec![made(rows, out.collect())])
}

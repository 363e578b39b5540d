//! What is known of a value on its way through the graph.

use crate::engine::graph::proto::{Tensor, ValueInfo};
use crate::engine::graph::size::Size;

/// Element types by their numbers in `onnx.proto`.
pub(super) mod element {
    pub(in crate::engine::graph) const UNKNOWN: i32 = 0;
    pub(in crate::engine::graph) const FLOAT: i32 = 1;
    pub(in crate::engine::graph) const INT32: i32 = 6;
    pub(in crate::engine::graph) const INT64: i32 = 7;
    pub(in crate::engine::graph) const STRING: i32 = 8;
    pub(in crate::engine::graph) const BOOL: i32 = 9;
    const FLOAT16: i32 = 10;
    const DOUBLE: i32 = 11;
    const BFLOAT16: i32 = 16;

    pub(in crate::engine::graph) fn is_float(element: i32) -> bool {
        matches!(element, FLOAT | FLOAT16 | DOUBLE | BFLOAT16)
    }
}

/// Most elements of a tensor whose values are followed one by one.
pub(super) const ELEMENTS_MAX: usize = 4096;

/// What a value has to do with the rows of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The same whatever the rows are, and however many.
    Same,
    /// Whole numbers that are known, some of them by the number of rows. Nothing else of the rows is in them.
    Count,
    /// Made of the rows one by one: along this axis lies what was made of the first, then what was made of the second ..
    Rows(usize),
    /// Nothing is known; the number of the obstacle says why.
    Mixed(usize),
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    pub(super) role: Role,
    /// Its element type; 0 where it is not known, or the value is no tensor.
    pub(super) element: i32,
    /// Known wherever the role is `Rows`.
    pub(super) shape: Option<Vec<Size>>,
    /// Its elements, for a whole-numbered scalar or list. Known wherever the role is `Count`.
    pub(super) content: Option<Vec<Size>>,
    /// The first of its elements, for a constant of floats.
    pub(super) first: Option<f32>,
    /// It depends on the values of inputs, not on their shapes alone.
    pub(super) of_data: bool,
}

impl Value {
    pub(super) fn same(shape: Option<Vec<Size>>) -> Self {
        Self {
            role: Role::Same,
            element: element::UNKNOWN,
            shape,
            content: None,
            first: None,
            of_data: false,
        }
    }

    pub(super) fn rows(axis: usize, shape: Vec<Size>) -> Self {
        Self {
            role: Role::Rows(axis),
            shape: Some(shape),
            of_data: true,
            ..Self::same(None)
        }
    }

    pub(super) fn mixed(obstacle: usize) -> Self {
        Self {
            role: Role::Mixed(obstacle),
            of_data: true,
            ..Self::same(None)
        }
    }

    /// The same with the role that its content says.
    pub(super) fn of_content(content: Vec<Size>, shape: Vec<Size>) -> Self {
        let role = match content.iter().all(Size::is_fixed) {
            true => Role::Same,
            false => Role::Count,
        };
        Self {
            role,
            element: element::INT64,
            content: Some(content),
            ..Self::same(Some(shape))
        }
    }

    /// A list of sizes.
    pub(super) fn list(content: Vec<Size>) -> Self {
        let length = Size::known(i64::try_from(content.len()).unwrap_or(i64::MAX));
        Self::of_content(content, vec![length])
    }

    pub(super) fn first_size(&self) -> Option<&Size> {
        self.shape.as_ref()?.first()
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The elements, where all are plain numbers.
    pub(super) fn numbers(&self) -> Option<Vec<i64>> {
        self.content.as_ref()?.iter().map(Size::number).collect()
    }

    /// A constant of the model.
    pub(super) fn of_tensor(tensor: &Tensor) -> Self {
        let dims = tensor.dims.iter().map(|size| Size::known(*size));
        let shape: Vec<_> = dims.collect();
        let content = whole_numbers(tensor)
            .filter(|_| shape.len() <= 1)
            .map(|numbers| numbers.into_iter().map(Size::known).collect());
        Self {
            element: tensor.data_type,
            content,
            first: floats(tensor).and_then(|floats| floats.first().copied()),
            ..Self::same(Some(shape))
        }
    }
}

/// The elements of a tensor of whole numbers (or truth values) that lie in the message.
pub(super) fn whole_numbers(tensor: &Tensor) -> Option<Vec<i64>> {
    let count = tensor.dims.iter().try_fold(1_usize, |count, size| {
        count.checked_mul(usize::try_from(*size).ok()?)
    })?;
    if tensor.cut || tensor.data_location == 1 || count > ELEMENTS_MAX {
        return None;
    }
    let raw = &tensor.raw_data;
    let numbers: Vec<i64> = match tensor.data_type {
        element::INT64 if raw.is_empty() => tensor.int64_data.clone(),
        element::INT64 => raw
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight")))
            .collect(),
        element::INT32 if raw.is_empty() => tensor.int32_data.iter().map(|n| (*n).into()).collect(),
        element::INT32 => raw
            .chunks_exact(4)
            .map(|bytes| i32::from_le_bytes(bytes.try_into().expect("four")).into())
            .collect(),
        element::BOOL if raw.is_empty() => tensor.int32_data.iter().map(|n| (*n).into()).collect(),
        element::BOOL => raw.iter().map(|byte| (*byte).into()).collect(),
        _ => return None,
    };
    (numbers.len() == count).then_some(numbers)
}

/// The floats of a tensor that lie in the message.
pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    if tensor.cut || tensor.data_location == 1 || tensor.data_type != element::FLOAT {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    let floats = tensor.raw_data.chunks_exact(4);
    Some(
        floats
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")))
            .collect(),
    )
}

/// The sizes that an input or output is declared to have: a number, or none where it is free; nothing where no shape is declared.
pub(super) fn declared_shape(info: &ValueInfo) -> Option<Vec<Option<i64>>> {
    let shape = info.r#type.as_ref()?.tensor.as_ref()?.shape.as_ref()?;
    // ONNX Runtime takes negative sizes for free ones.
    let size = |dim: &crate::engine::graph::proto::Dimension| dim.value.filter(|size| *size >= 0);
    Some(shape.dim.iter().map(size).collect())
}

/// The element type that an input is declared to have.
pub(super) fn declared_element(info: &ValueInfo) -> i32 {
    let tensor = info.r#type.as_ref().and_then(|ty| ty.tensor.as_ref());
    tensor.map_or(element::UNKNOWN, |tensor| tensor.element)
}

//! Rows of tensors: several requests joined into one input, one output divided among them.
//!
//! A row is one step of the outermost dimension. Joining copies, dividing borrows.

use std::ops::Range;

use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, Axis, Slice, concatenate};

use crate::tensor::{OutputView, Tensor};

/// Does the same to the array inside, whatever its elements.
macro_rules! map_tensor {
    ($tensor:expr, $array:ident => $same:expr) => {
        map_tensor!($tensor, $array, _kind => $same)
    };
    // `$kind` stands for the variant.
    ($tensor:expr, $array:ident, $kind:ident => $same:expr) => {
        map_tensor!(@each $tensor, $array, $kind, $same;
            Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes)
    };
    (@each $tensor:expr, $array:ident, $kind:ident, $same:expr; $($variant:ident)*) => {
        match $tensor {
            $(Tensor::$variant($array) => {
                let $kind = Tensor::$variant;
                $same
            })*
        }
    };
}

/// Joins the arrays of one kind; `None` when one is of another kind or shape.
macro_rules! join_kind {
    ($kind:ident, $tensors:ident) => {{
        let views = $tensors.iter().map(|tensor| match tensor {
            Tensor::$kind(array) => Some(array.view()),
            _ => None,
        });
        join_views(&views.collect::<Option<Vec<_>>>()?).map(Tensor::$kind)
    }};
}

/// The number 1 as an element.
trait One {
    fn one() -> Self;
}

macro_rules! one {
    ($($element:ty: $one:expr),* $(,)?) => {
        $(impl One for $element {
            fn one() -> Self {
                $one
            }
        })*
    };
}

one! {
    bool: true,
    u8: 1, u16: 1, u32: 1, u64: 1, i8: 1, i16: 1, i32: 1, i64: 1,
    f32: 1.0, f64: 1.0,
    f16: f16::ONE, bf16: bf16::ONE,
    String: "1".to_owned(),
}

fn join_views<T: Clone>(views: &[ArrayViewD<'_, T>]) -> Option<ArrayD<T>> {
    concatenate(Axis(0), views).ok()
}

impl Tensor {
    /// Sizes of the dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        map_tensor!(self, array => array.shape())
    }

    /// Bytes of its elements; of strings, those of their handles.
    #[must_use]
    pub fn bytes(&self) -> usize {
        map_tensor!(self, array => size_of_val(array.as_slice().unwrap_or_default()))
    }

    /// The same shape, every element 1 (`true`, `"1"`).
    #[must_use]
    pub fn ones_like(&self) -> Self {
        map_tensor!(self, array, kind => kind(ArrayD::from_elem(array.raw_dim(), One::one())))
    }

    /// `rows` rows, its own over and over; `None` when it has none.
    #[must_use]
    pub fn cycled(&self, rows: usize) -> Option<Self> {
        let own = self.shape().first().copied().filter(|own| *own > 0)?;
        let order: Vec<_> = (0..rows).map(|row| row % own).collect();
        Some(map_tensor!(self, array, kind => kind(array.select(Axis(0), &order))))
    }

    /// One of its rows, as a tensor with that row alone; `None` where there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<Self> {
        let own = self.shape().first().copied()?;
        (row < own).then(|| map_tensor!(self, array, kind => kind(array.select(Axis(0), &[row]))))
    }

    /// Rows of all tensors below each other, in the order given; `None` when there are none, or they differ in kind or in the
    /// shape of a row.
    #[must_use]
    pub fn join(tensors: &[&Self]) -> Option<Self> {
        match tensors.first()? {
            Self::Bool(_) => join_kind!(Bool, tensors),
            Self::Uint8(_) => join_kind!(Uint8, tensors),
            Self::Uint16(_) => join_kind!(Uint16, tensors),
            Self::Uint32(_) => join_kind!(Uint32, tensors),
            Self::Uint64(_) => join_kind!(Uint64, tensors),
            Self::Int8(_) => join_kind!(Int8, tensors),
            Self::Int16(_) => join_kind!(Int16, tensors),
            Self::Int32(_) => join_kind!(Int32, tensors),
            Self::Int64(_) => join_kind!(Int64, tensors),
            Self::Fp16(_) => join_kind!(Fp16, tensors),
            Self::Bf16(_) => join_kind!(Bf16, tensors),
            Self::Fp32(_) => join_kind!(Fp32, tensors),
            Self::Fp64(_) => join_kind!(Fp64, tensors),
            Self::Bytes(_) => join_kind!(Bytes, tensors),
        }
    }
}

/// Does the same to the view inside, and gives an output of the same kind.
macro_rules! map_output {
    ($output:expr, $view:ident => $same:expr) => {
        match $output {
            OutputView::Bool($view) => OutputView::Bool($same),
            OutputView::Uint8($view) => OutputView::Uint8($same),
            OutputView::Uint16($view) => OutputView::Uint16($same),
            OutputView::Uint32($view) => OutputView::Uint32($same),
            OutputView::Uint64($view) => OutputView::Uint64($same),
            OutputView::Int8($view) => OutputView::Int8($same),
            OutputView::Int16($view) => OutputView::Int16($same),
            OutputView::Int32($view) => OutputView::Int32($same),
            OutputView::Int64($view) => OutputView::Int64($same),
            OutputView::Fp16($view) => OutputView::Fp16($same),
            OutputView::Bf16($view) => OutputView::Bf16($same),
            OutputView::Fp32($view) => OutputView::Fp32($same),
            OutputView::Fp64($view) => OutputView::Fp64($same),
            OutputView::Bytes(_)
            | OutputView::Sequence(_)
            | OutputView::Map(_)
            | OutputView::Maps(_) => return None,
        }
    };
}

impl<'a> OutputView<'a> {
    /// Rows of a tensor; `None` for strings, sequences and maps, which cannot be lent in part, and for a single value, which has no rows.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        macro_rules! first_size {
            ($($kind:ident),*) => {
                match self {
                    $(Self::$kind(view) => view.shape().first().copied(),)*
                    Self::Bytes(_)
                    | Self::Sequence(_)
                    | Self::Map(_)
                    | Self::Maps(_)
                    => None,
                }
            };
        }
        first_size!(
            Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64
        )
    }

    /// Whether it is a tensor of numbers or booleans: as many bytes each time as its shape says.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !matches!(
            self,
            Self::Bytes(_) | Self::Sequence(_) | Self::Map(_) | Self::Maps(_)
        )
    }

    /// Bytes of its elements, and of texts those of their characters.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_map = |map: &Vec<(String, f32)>| {
            let keys = map.iter().map(|(key, _)| key.len() + size_of::<f32>());
            keys.sum::<usize>()
        };
        macro_rules! size {
            ($($kind:ident),*) => {
                match self {
                    $(Self::$kind(view) => size_of_val(view.as_slice().unwrap_or_default()),)*
                    Self::Bytes(texts) => texts.iter().map(String::len).sum(),
                    Self::Sequence(tensors) => tensors.iter().map(Tensor::bytes).sum(),
                    Self::Map(map) => of_map(map),
                    Self::Maps(maps) => maps.iter().map(of_map).sum(),
                }
            };
        }
        size!(
            Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64
        )
    }

    /// A copy of a tensor; nothing for sequences and maps.
    #[must_use]
    pub fn to_tensor(&self) -> Option<Tensor> {
        macro_rules! copied {
            ($($kind:ident),*) => {
                Some(match self {
                    $(Self::$kind(view) => Tensor::$kind(view.to_owned()),)*
                    Self::Sequence(_) | Self::Map(_) | Self::Maps(_) => return None,
                })
            };
        }
        copied!(
            Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64,
            Bytes
        )
    }

    /// The part of it that these rows are; `None` where [`Self::rows`] has none, or fewer.
    #[must_use]
    pub fn part(&self, rows: &Range<usize>) -> Option<Self> {
        if rows.start > rows.end || self.rows()? < rows.end {
            return None;
        }
        Some(map_output!(self, view => part_of(view, rows)))
    }
}

fn part_of<'a, T>(view: &ArrayViewD<'a, T>, rows: &Range<usize>) -> ArrayViewD<'a, T> {
    let mut part = view.clone();
    part.slice_axis_inplace(Axis(0), Slice::from(rows.clone()));
    part
}

#[cfg(test)]
mod tests {
    use ndarray::{IxDyn, array};

    use super::*;

    #[test]
    fn rows_are_joined_in_order_and_parts_give_them_back() {
        let one = Tensor::Fp32(array![[1.0, 2.0]].into_dyn());
        let two = Tensor::Fp32(array![[3.0, 4.0], [5.0, 6.0]].into_dyn());
        let joined = Tensor::join(&[&one, &two]).unwrap();
        assert_eq!(joined.shape(), [3, 2]);
        let Tensor::Fp32(array) = &joined else {
            panic!("{joined:?}");
        };
        let output = OutputView::Fp32(array.view());
        assert_eq!(output.rows(), Some(3));
        match output.part(&(1..3)) {
            Some(OutputView::Fp32(part)) => {
                assert_eq!(part, array![[3.0, 4.0], [5.0, 6.0]].into_dyn());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ones_have_the_shape_and_the_type_of_what_they_stand_for() {
        let zeros = Tensor::Fp16(ArrayD::from_elem(IxDyn(&[2, 1]), f16::ZERO));
        let ones = Tensor::Fp16(ArrayD::from_elem(IxDyn(&[2, 1]), f16::ONE));
        assert_eq!(zeros.ones_like(), ones);
        let text = Tensor::Bytes(ArrayD::from_elem(IxDyn(&[1]), String::new()));
        let one = Tensor::Bytes(ArrayD::from_elem(IxDyn(&[1]), "1".to_owned()));
        assert_eq!(text.ones_like(), one);
    }

    #[test]
    fn rows_are_repeated_in_turn() {
        let two = Tensor::Int64(array![[1, 2], [3, 4]].into_dyn());
        let three = Tensor::Int64(array![[1, 2], [3, 4], [1, 2]].into_dyn());
        assert_eq!(two.cycled(3), Some(three));
        assert_eq!(two.cycled(0).unwrap().shape(), [0, 2]);
        let none = Tensor::Int64(ArrayD::zeros(IxDyn(&[0, 2])));
        assert_eq!(none.cycled(1), None);
    }

    #[test]
    fn what_does_not_fit_together_is_not_joined() {
        let floats = Tensor::Fp32(array![[1.0, 2.0]].into_dyn());
        let wider = Tensor::Fp32(array![[1.0, 2.0, 3.0]].into_dyn());
        let whole = Tensor::Int64(array![[1, 2]].into_dyn());
        let single = Tensor::Fp32(ArrayD::from_elem(IxDyn(&[]), 1.0));
        assert_eq!(Tensor::join(&[]), None);
        assert_eq!(Tensor::join(&[&floats, &wider]), None);
        assert_eq!(Tensor::join(&[&floats, &whole]), None);
        assert_eq!(Tensor::join(&[&single, &single]), None);
    }

    #[test]
    fn an_output_without_rows_or_with_too_few_has_no_part() {
        let values = array![1_i64, 2].into_dyn();
        assert!(OutputView::Int64(values.view()).part(&(1..3)).is_none());
        let single = ArrayD::from_elem(IxDyn(&[]), 1.0);
        assert_eq!(OutputView::Fp64(single.view()).rows(), None);
        let text = ArrayD::from_elem(IxDyn(&[2]), String::new());
        assert!(OutputView::Bytes(text).part(&(0..1)).is_none());
        assert!(OutputView::Maps(vec![vec![]]).part(&(0..1)).is_none());
    }
}

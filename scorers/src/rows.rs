//! Rows of tensors: several requests joined into one input, one output divided among them.
//!
//! A row is one step of the outermost dimension. Joining copies, dividing borrows.

use std::ops::Range;

use crate::element::{Element, ElementsRef, with_elements};
use crate::tensor::{OutputView, Shape, Tensor, TensorView};

/// Bytes of the entries of a map.
fn bytes_of_map(map: &[(String, f32)]) -> usize {
    let entries = map.iter().map(|(key, _)| key.len() + size_of::<f32>());
    entries.sum()
}

impl TensorView<'_> {
    /// Bytes of its elements; of strings, those of their handles.
    #[must_use]
    #[doc(hidden)]
    pub fn bytes(&self) -> usize {
        with_elements!(self.any_elements(), elements => size_of_val(elements))
    }

    /// Rows of all tensors below each other, in the order given; `None` when there are none, or they differ in kind or in the
    /// shape of a row.
    #[must_use]
    #[doc(hidden)]
    pub fn join(views: &[Self]) -> Option<Tensor> {
        let first = views.first()?;
        let row = first.shape().get(1..)?;
        let fits = |view: &Self| view.shape().get(1..) == Some(row);
        if !views.iter().all(fits) {
            return None;
        }
        let rows = views
            .iter()
            .try_fold(0_usize, |sum, view| sum.checked_add(view.rows()?))?;
        let mut shape = Shape::from_slice(first.shape());
        shape[0] = rows;
        with_elements!(first.any_elements(), elements => joined(shape, elements, views))
    }

    /// The part of it that these rows are; `None` where it has fewer, or none at all.
    #[must_use]
    #[doc(hidden)]
    pub fn part(&self, rows: &Range<usize>) -> Option<Self> {
        let own = self.rows()?;
        if rows.start > rows.end || own < rows.end {
            return None;
        }
        let mut shape = Shape::from_slice(self.shape());
        shape[0] = rows.len();
        let row: usize = shape[1..].iter().product();
        let range = rows.start * row..rows.end * row;
        let elements = with_elements!(self.any_elements(), elements => lent(&elements[range]));
        Some(Self::of_parts(shape, elements))
    }

    /// A tensor of these of its rows, in the order given, each of which it has.
    fn picked(&self, order: impl ExactSizeIterator<Item = usize>) -> Tensor {
        let mut shape = Shape::from_slice(self.shape());
        shape[0] = order.len();
        let row: usize = shape[1..].iter().product();
        with_elements!(self.any_elements(), elements => {
            let mut picked = Vec::with_capacity(order.len() * row);
            for at in order {
                picked.extend_from_slice(&elements[at * row..(at + 1) * row]);
            }
            Tensor::of_parts(shape, picked)
        })
    }
}

/// Elements of one type as those of any.
fn lent<T: Element>(elements: &[T]) -> ElementsRef<'_> {
    T::lend(elements)
}

/// The elements of all, which are of the type of the `first`.
fn joined<T: Element>(shape: Shape, first: &[T], views: &[TensorView<'_>]) -> Option<Tensor> {
    // What is joined is there already: the sum of its lengths is no number that overflows.
    let mut elements = Vec::with_capacity(
        views
            .iter()
            .map(|view| view.shape().iter().product::<usize>())
            .sum(),
    );
    elements.extend_from_slice(first);
    for view in &views[1..] {
        elements.extend_from_slice(view.elements()?);
    }
    Some(Tensor::of_parts(shape, elements))
}

impl Tensor {
    /// Bytes of its elements; of strings, those of their handles.
    #[must_use]
    #[doc(hidden)]
    pub fn bytes(&self) -> usize {
        self.view().bytes()
    }

    /// The same shape, every element 1 (`true`, `"1"`).
    #[must_use]
    #[doc(hidden)]
    pub fn ones_like(&self) -> Self {
        fn ones<T: Element>(shape: &[usize], elements: &[T]) -> Tensor {
            Tensor::of_parts(Shape::from_slice(shape), vec![T::one(); elements.len()])
        }
        with_elements!(self.view().any_elements(), elements => ones(self.shape(), elements))
    }

    /// `rows` rows, its own over and over; `None` when it has none.
    #[must_use]
    #[doc(hidden)]
    pub fn cycled(&self, rows: usize) -> Option<Self> {
        let own = self.rows().filter(|own| *own > 0)?;
        Some(self.view().picked((0..rows).map(|row| row % own)))
    }

    /// One of its rows, as a tensor with that row alone; `None` where there is no such row.
    #[must_use]
    #[doc(hidden)]
    pub fn row(&self, row: usize) -> Option<Self> {
        let part = self.view().part(&(row..row.checked_add(1)?));
        part.map(|part| part.to_tensor())
    }

    /// Rows of all tensors below each other: see [`TensorView::join`].
    #[must_use]
    #[doc(hidden)]
    pub fn join(tensors: &[&Self]) -> Option<Self> {
        let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
        TensorView::join(&views)
    }
}

impl<'a> OutputView<'a> {
    /// Rows of a tensor; `None` for strings, sequences and maps, which cannot be lent in part, and for a single value, which has no rows.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        match self {
            Self::Tensor(view) => view.rows(),
            Self::Strings(_) | Self::Sequence(_) | Self::Map(_) | Self::Maps(_) => None,
        }
    }

    /// Whether it is a tensor of numbers or booleans: as many bytes each time as its shape says.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Tensor(_))
    }

    /// Bytes of its elements, and of texts those of their characters.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Tensor(view) => view.bytes(),
            Self::Strings(tensor) => {
                let texts = tensor.elements::<String>().unwrap_or_default();
                texts.iter().map(String::len).sum()
            }
            Self::Sequence(tensors) => tensors.iter().map(Tensor::bytes).sum(),
            Self::Map(map) => bytes_of_map(map),
            Self::Maps(maps) => maps.iter().map(|map| bytes_of_map(map)).sum(),
        }
    }

    /// A copy of a tensor; nothing for sequences and maps.
    #[must_use]
    pub fn to_tensor(&self) -> Option<Tensor> {
        match self {
            Self::Tensor(view) => Some(view.to_tensor()),
            Self::Strings(tensor) => Some(tensor.clone()),
            Self::Sequence(_) | Self::Map(_) | Self::Maps(_) => None,
        }
    }

    /// The part of it that these rows are; `None` where [`Self::rows`] has none, or fewer.
    #[must_use]
    pub fn part(&self, rows: &Range<usize>) -> Option<Self> {
        match self {
            Self::Tensor(view) => view.part(rows).map(Self::Tensor),
            Self::Strings(_) | Self::Sequence(_) | Self::Map(_) | Self::Maps(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn tensor<T: Element>(shape: &[usize], elements: &[T]) -> Tensor {
        Tensor::new(shape, elements.to_vec()).unwrap()
    }

    #[test]
    fn rows_are_joined_in_order_and_parts_give_them_back() {
        let one = tensor(&[1, 2], &[1.0_f32, 2.0]);
        let two = tensor(&[2, 2], &[3.0_f32, 4.0, 5.0, 6.0]);
        let joined = Tensor::join(&[&one, &two]).unwrap();
        assert_eq!(joined.shape(), [3, 2]);
        let output = OutputView::Tensor(joined.view());
        assert_eq!(output.rows(), Some(3));
        assert_eq!(output.part(&(1..3)), Some(OutputView::Tensor(two.view())));
    }

    #[test]
    fn ones_have_the_shape_and_the_type_of_what_they_stand_for() {
        let zeros = tensor(&[2, 1], &[f16::ZERO; 2]);
        assert_eq!(zeros.ones_like(), tensor(&[2, 1], &[f16::ONE; 2]));
        let text = tensor(&[1], &[String::new()]);
        assert_eq!(text.ones_like(), tensor(&[1], &["1".to_owned()]));
    }

    #[test]
    fn rows_are_repeated_in_turn() {
        let two = tensor(&[2, 2], &[1_i64, 2, 3, 4]);
        let three = tensor(&[3, 2], &[1_i64, 2, 3, 4, 1, 2]);
        assert_eq!(two.cycled(3), Some(three));
        assert_eq!(two.cycled(0).unwrap().shape(), [0, 2]);
        assert_eq!(tensor::<i64>(&[0, 2], &[]).cycled(1), None);
        assert_eq!(two.row(1), Some(tensor(&[1, 2], &[3_i64, 4])));
        assert_eq!(two.row(2), None);
        assert_eq!(two.row(usize::MAX), None);
    }

    #[test]
    fn what_does_not_fit_together_is_not_joined() {
        let floats = tensor(&[1, 2], &[1.0_f32, 2.0]);
        let wider = tensor(&[1, 3], &[1.0_f32, 2.0, 3.0]);
        let whole = tensor(&[1, 2], &[1_i64, 2]);
        let single = tensor(&[], &[1.0_f32]);
        assert_eq!(Tensor::join(&[]), None);
        assert_eq!(Tensor::join(&[&floats, &wider]), None);
        assert_eq!(Tensor::join(&[&floats, &whole]), None);
        assert_eq!(Tensor::join(&[&single, &single]), None);
    }

    #[test]
    fn an_output_without_rows_or_with_too_few_has_no_part() {
        let values = tensor(&[2], &[1_i64, 2]);
        assert!(OutputView::Tensor(values.view()).part(&(1..3)).is_none());
        let single = tensor(&[], &[1.0_f64]);
        assert_eq!(OutputView::Tensor(single.view()).rows(), None);
        let text = tensor(&[2], &[String::new(), String::new()]);
        assert!(OutputView::Strings(text).part(&(0..1)).is_none());
        assert!(OutputView::Maps(vec![vec![]]).part(&(0..1)).is_none());
    }

    #[test]
    fn rows_of_no_elements_are_rows_all_the_same() {
        let empty = tensor::<f32>(&[3, 0], &[]);
        let view = empty.view();
        assert_eq!(view.part(&(1..3)).unwrap().shape(), [2, 0]);
        assert_eq!(
            TensorView::join(&[view.clone(), view]).unwrap().shape(),
            [6, 0]
        );
    }
}

//! The way between tensors and the arrays of `ndarray`, for programs that have their numbers in these.
//!
//! Only with the feature `ndarray`: without it no public item names that crate.

use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, Dimension, IxDyn};

use crate::element::Element;
use crate::error::ScoreError;
use crate::tensor::{Shape, Tensor, TensorView};

impl<T: Element, D: Dimension> From<Array<T, D>> for Tensor {
    /// The same elements; copied only where they do not lie row by row.
    fn from(array: Array<T, D>) -> Self {
        let shape = Shape::from_slice(array.shape());
        let elements = if array.is_standard_layout() {
            let (elements, offset) = array.into_raw_vec_and_offset();
            match offset.unwrap_or(0) {
                0 => truncated(elements, shape.iter().product()),
                offset => elements[offset..][..shape.iter().product()].to_vec(),
            }
        } else {
            array.iter().cloned().collect()
        };
        Self::of_parts(shape, elements)
    }
}

fn truncated<T>(mut elements: Vec<T>, len: usize) -> Vec<T> {
    elements.truncate(len);
    elements
}

impl<'a, T: Element, D: Dimension> TryFrom<ArrayView<'a, T, D>> for TensorView<'a> {
    type Error = ScoreError;

    fn try_from(view: ArrayView<'a, T, D>) -> Result<Self, ScoreError> {
        let shape = view.shape().to_vec();
        match view.to_slice() {
            Some(elements) => Self::new(shape, elements),
            None => Err(ScoreError::NotRowMajor { shape }),
        }
    }
}

impl Tensor {
    /// The same as an array, where its elements are of this type.
    ///
    /// # Errors
    ///
    /// The tensor, where they are of another.
    pub fn into_array<T: Element>(self) -> Result<ArrayD<T>, Self> {
        let shape = IxDyn(self.shape());
        let elements = self.into_elements()?;
        // The shape was checked where the tensor was made.
        Ok(ArrayD::from_shape_vec(shape, elements).expect("a shape of as many elements"))
    }
}

impl<'a> TensorView<'a> {
    /// The same as a view of an array, where its elements are of this type.
    #[must_use]
    pub fn to_array_view<T: Element>(&self) -> Option<ArrayViewD<'a, T>> {
        ArrayViewD::from_shape(IxDyn(self.shape()), self.elements()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, arr0, arr2};

    use super::*;

    #[test]
    fn an_array_becomes_a_tensor_and_an_array_again() {
        let array = arr2(&[[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let tensor = Tensor::from(array.clone());
        assert_eq!(tensor.shape(), [2, 3]);
        assert_eq!(
            tensor.view().to_array_view::<f32>(),
            Some(array.view().into_dyn())
        );
        assert_eq!(tensor.view().to_array_view::<f64>(), None);
        assert_eq!(tensor.into_array(), Ok(array.into_dyn()));
        assert_eq!(Tensor::from(arr0(1_i64)).shape(), [0_usize; 0]);
    }

    #[test]
    fn elements_that_lie_in_another_order_are_copied_or_refused() {
        let array = arr2(&[[1, 2], [3, 4]]);
        assert!(TensorView::try_from(array.t()).is_err());
        let turned = Tensor::from(array.clone().reversed_axes());
        assert_eq!(turned.elements(), Some(&[1, 3, 2, 4][..]));
        let part = Tensor::from(array.clone().index_axis_move(Axis(0), 1));
        assert_eq!(part.elements(), Some(&[3, 4][..]));
        let first = Tensor::from(array.index_axis_move(Axis(0), 0));
        assert_eq!(first.elements(), Some(&[1, 2][..]));
    }
}

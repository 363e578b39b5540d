//! Tensors: owned, borrowed from whoever has the numbers, and what a model gives.
//!
//! All are row-major, and their shape has as many elements as there are: both are checked where one is made, so nothing behind
//! that point asks again. No type here belongs to another crate, but for the halves.

use smallvec::SmallVec;

use crate::element::{Element, Elements, ElementsRef, with_elements};
use crate::error::ScoreError;
use crate::signature::ElementType;

/// Sizes of the dimensions, outermost first; hardly any tensor has more than these.
pub(crate) type Shape = SmallVec<[usize; 6]>;

/// A tensor, owned, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    elements: Elements,
}

/// A tensor over elements that lie in somebody else's memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorView<'a> {
    shape: Shape,
    elements: ElementsRef<'a>,
}

/// An output of the model, lent for as long as the run's memory is there.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputView<'a> {
    /// Numbers or booleans, as they lie in ONNX Runtime's memory.
    Tensor(TensorView<'a>),
    /// Strings, which ONNX Runtime does not lend.
    Strings(Tensor),
    /// A list of tensors, copied, so that nothing must outlive it.
    Sequence(Vec<Tensor>),
    /// Key and value per entry, keys already text; values are floats, the only kind that ONNX operators put in maps.
    Map(Vec<(String, f32)>),
    /// A list of maps, usually one for each row.
    Maps(Vec<Vec<(String, f32)>>),
}

/// An output of the model, owned.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Elements of one type.
    Tensor(Tensor),
    /// A list of tensors of one type, each of its own shape.
    Sequence(Vec<Tensor>),
    /// Keys as text, and a number for each.
    Map(Vec<(String, f32)>),
    /// A list of maps, usually one for each row.
    Maps(Vec<Vec<(String, f32)>>),
}

/// The shape, where it has this many elements.
fn checked(shape: &[usize], found: usize) -> Result<Shape, ScoreError> {
    // A size of 0 counts as 1: whoever multiplies in another order must not overflow either.
    let largest = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)));
    if largest.is_none_or(|elements| isize::try_from(elements).is_err()) {
        return Err(ScoreError::ShapeTooLarge {
            shape: shape.to_vec(),
        });
    }
    let wanted = shape.iter().product();
    if wanted != found {
        return Err(ScoreError::ElementCount {
            shape: shape.to_vec(),
            wanted,
            found,
        });
    }
    Ok(Shape::from_slice(shape))
}

impl Tensor {
    /// A tensor of this shape, outermost size first, and of these elements, row by row. `[]` is the shape of a single value.
    ///
    /// # Errors
    ///
    /// [`ScoreError::ElementCount`] with both numbers where the shape has more or fewer elements, [`ScoreError::ShapeTooLarge`]
    /// where no memory could hold it.
    pub fn new<T: Element>(
        shape: impl AsRef<[usize]>,
        elements: Vec<T>,
    ) -> Result<Self, ScoreError> {
        Ok(Self {
            shape: checked(shape.as_ref(), elements.len())?,
            elements: T::wrap(elements),
        })
    }

    /// The same from parts of which the caller knows that they fit.
    pub(crate) fn of_parts<T: Element>(shape: Shape, elements: Vec<T>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), elements.len());
        Self {
            shape,
            elements: T::wrap(elements),
        }
    }

    /// Type of its elements.
    #[must_use]
    pub fn element_type(&self) -> ElementType {
        self.elements.lend().element_type()
    }

    /// Sizes of the dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row by row, where they are of this type.
    #[must_use]
    pub fn elements<T: Element>(&self) -> Option<&[T]> {
        T::of(self.elements.lend())
    }

    /// Its elements themselves, where they are of this type.
    ///
    /// # Errors
    ///
    /// The tensor, where they are of another.
    pub fn into_elements<T: Element>(self) -> Result<Vec<T>, Self> {
        let shape = self.shape;
        T::take(self.elements).map_err(|elements| Self { shape, elements })
    }

    /// The outermost size; none for a single value, which has no rows.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// A view of it.
    #[must_use]
    pub fn view(&self) -> TensorView<'_> {
        TensorView {
            shape: self.shape.clone(),
            elements: self.elements.lend(),
        }
    }
}

impl<'a> TensorView<'a> {
    /// A tensor of this shape, outermost size first, over these elements, row by row. `[]` is the shape of a single value.
    ///
    /// # Errors
    ///
    /// As for [`Tensor::new`].
    pub fn new<T: Element>(
        shape: impl AsRef<[usize]>,
        elements: &'a [T],
    ) -> Result<Self, ScoreError> {
        Ok(Self {
            shape: checked(shape.as_ref(), elements.len())?,
            elements: T::lend(elements),
        })
    }

    pub(crate) fn of_parts(shape: Shape, elements: ElementsRef<'a>) -> Self {
        Self { shape, elements }
    }

    /// Type of its elements.
    #[must_use]
    pub fn element_type(&self) -> ElementType {
        self.elements.element_type()
    }

    /// Sizes of the dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row by row, where they are of this type.
    #[must_use]
    pub fn elements<T: Element>(&self) -> Option<&'a [T]> {
        T::of(self.elements)
    }

    pub(crate) fn any_elements(&self) -> ElementsRef<'a> {
        self.elements
    }

    /// The outermost size; none for a single value, which has no rows.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// A copy.
    #[must_use]
    pub fn to_tensor(&self) -> Tensor {
        let shape = self.shape.clone();
        with_elements!(self.elements, elements => Tensor::of_parts(shape, elements.to_vec()))
    }
}

impl OutputView<'_> {
    /// A copy that outlives the run.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Tensor(view) => Value::Tensor(view.to_tensor()),
            Self::Strings(tensor) => Value::Tensor(tensor.clone()),
            Self::Sequence(tensors) => Value::Sequence(tensors.clone()),
            Self::Map(map) => Value::Map(map.clone()),
            Self::Maps(maps) => Value::Maps(maps.clone()),
        }
    }

    /// Whether there is no NaN and no infinity in it.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let are_finite = |map: &Vec<(String, f32)>| map.iter().all(|(_, value)| value.is_finite());
        match self {
            Self::Tensor(view) => view.any_elements().is_finite(),
            Self::Strings(_) => true,
            Self::Sequence(tensors) => tensors
                .iter()
                .all(|tensor| tensor.view().any_elements().is_finite()),
            Self::Map(map) => are_finite(map),
            Self::Maps(maps) => maps.iter().all(are_finite),
        }
    }
}

impl Value {
    /// The tensor, where it is one.
    #[must_use]
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Sequence(_) | Self::Map(_) | Self::Maps(_) => None,
        }
    }
}

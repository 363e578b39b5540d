//! Lists of lists of numbers, as deep as the input of a model, read by serde as what they are.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Body of a request.
#[derive(Debug, Deserialize)]
pub struct Request<Rows> {
    /// The model's one input.
    pub data: Rows,
}

/// Lists with one type for each depth: `Vec<Vec<f32>>` is a tensor of two dimensions.
pub trait Nested: DeserializeOwned + Send + 'static {
    /// Appends the length of each dimension, taken from the first element of each.
    fn shape(&self, shape: &mut Vec<usize>);
    /// Appends every number.
    fn flatten(&self, numbers: &mut Vec<f32>);
}

impl Nested for Vec<f32> {
    fn shape(&self, shape: &mut Vec<usize>) {
        shape.push(self.len());
    }

    fn flatten(&self, numbers: &mut Vec<f32>) {
        numbers.extend_from_slice(self);
    }
}

impl<Inner: Nested> Nested for Vec<Inner> {
    fn shape(&self, shape: &mut Vec<usize>) {
        shape.push(self.len());
        if let Some(first) = self.first() {
            first.shape(shape);
        }
    }

    fn flatten(&self, numbers: &mut Vec<f32>) {
        for inner in self {
            inner.flatten(numbers);
        }
    }
}

impl<Rows: Nested> Request<Rows> {
    /// The shape, and all numbers in one piece.
    #[must_use]
    pub fn tensor(&self) -> (Vec<usize>, Vec<f32>) {
        let mut shape = Vec::with_capacity(4);
        self.data.shape(&mut shape);
        let mut numbers = Vec::with_capacity(shape.iter().product());
        self.data.flatten(&mut numbers);
        (shape, numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_shape_and_numbers_in_order() {
        let request: Request<Vec<Vec<f32>>> =
            serde_json::from_str(r#"{"data":[[1,2,3],[4.5,5,-6e1]]}"#).unwrap();
        let expected = (vec![2, 3], vec![1.0, 2.0, 3.0, 4.5, 5.0, -60.0]);
        assert_eq!(request.tensor(), expected);
    }

    #[test]
    fn images_become_a_shape_of_four_dimensions() {
        let request: Request<Vec<Vec<Vec<Vec<f32>>>>> =
            serde_json::from_str(r#"{"data":[[[[1],[2]],[[3],[4]]]]}"#).unwrap();
        let expected = (vec![1, 2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]);
        assert_eq!(request.tensor(), expected);
    }
}

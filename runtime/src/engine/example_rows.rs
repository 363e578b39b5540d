//! Rows to try a model with: of very different sizes, and the same at each start.
//!
//! Numbers that stand for something (words, classes, places) are taken from the rows that are given, so that they mean something
//! to the model; floats are free. Pure. Not here: running them (`profile`).

use serin_scorers::{Element, Tensor};

use crate::evidence::SplitMix64;

/// How large the random numbers are.
const SCALES: [f64; 3] = [1e-3, 1.0, 1e3];
/// Rows that are taken as they are.
const OWN_ROWS_MAX: usize = 2;

/// Rows to try, one after the other: the inputs of one row each. Ones come before what is given, which may be zeros.
pub(super) fn example_rows(inputs: &[Tensor]) -> Vec<Vec<Tensor>> {
    let mut random = SplitMix64::new(1);
    let own =
        |row: usize| -> Option<Vec<Tensor>> { inputs.iter().map(|input| input.row(row)).collect() };
    let mut rows = Vec::new();
    if let Some(first) = own(0) {
        rows.push(first.iter().map(Tensor::ones_like).collect());
    }
    rows.extend((0..OWN_ROWS_MAX).map_while(own));
    for scale in SCALES {
        rows.extend(
            inputs
                .iter()
                .map(|input| made(input, scale, &mut random))
                .collect::<Option<Vec<_>>>(),
        );
    }
    rows
}

/// A row of random floats of this size, or of elements of the input.
fn made(input: &Tensor, scale: f64, random: &mut SplitMix64) -> Option<Tensor> {
    let row = input.row(0)?;
    let mut float = || (random.unit() * 2.0 - 1.0) * scale;
    macro_rules! drawn {
        ($($type:ty),*) => {
            $(if input.elements::<$type>().is_some() {
                return drawn::<$type>(input, row.shape(), random);
            })*
        };
    }
    if let Some(floats) = row.elements::<f32>() {
        return filled(&row, floats, |_| half_of(float()));
    }
    if let Some(floats) = row.elements::<f64>() {
        return filled(&row, floats, |_| float());
    }
    if let Some(floats) = row.elements::<half::f16>() {
        return filled(&row, floats, |_| half::f16::from_f64(float()));
    }
    if let Some(floats) = row.elements::<half::bf16>() {
        return filled(&row, floats, |_| half::bf16::from_f64(float()));
    }
    drawn!(bool, u8, u16, u32, u64, i8, i16, i32, i64, String);
    None
}

/// The same shape, of other elements.
fn filled<T: Element>(row: &Tensor, elements: &[T], other: impl FnMut(&T) -> T) -> Option<Tensor> {
    Tensor::new(row.shape(), elements.iter().map(other).collect()).ok()
}

/// A row of elements that are drawn from all of the input.
fn drawn<T: Element>(input: &Tensor, shape: &[usize], random: &mut SplitMix64) -> Option<Tensor> {
    let all = input.elements::<T>()?;
    let count = shape.iter().product();
    // No elements at all, where a row has none.
    let drawn = (0..count).map(|_| all[random.below(all.len())].clone());
    Tensor::new(shape, drawn.collect()).ok()
}

/// Rounded to 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "a float of half the width")]
fn half_of(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_of_all_sizes_and_whole_numbers_are_those_given() {
        let inputs = [
            Tensor::new([2, 3], vec![0.0_f32; 6]).unwrap(),
            Tensor::new([2, 1], vec![7_i64, 9]).unwrap(),
        ];
        let rows = example_rows(&inputs);
        assert_eq!(rows.len(), 6, "ones, two of the request, three sizes");
        assert_eq!(rows, example_rows(&inputs), "the same every time");
        let mut largest = Vec::new();
        for row in &rows[3..] {
            assert_eq!(row[0].shape(), [1, 3]);
            let floats = row[0].elements::<f32>().unwrap();
            let whole = row[1].elements::<i64>().unwrap();
            assert!(
                whole.iter().all(|number| [7, 9].contains(number)),
                "{whole:?}"
            );
            largest.push(
                floats
                    .iter()
                    .fold(0.0_f32, |largest, one| largest.max(one.abs())),
            );
        }
        assert!(
            largest.is_sorted() && largest[0] < 2e-3 && largest[2] > 1.0,
            "{largest:?}"
        );
    }
}

//! Rows to try a model with: of very different sizes, and the same at each start.
//!
//! Numbers that stand for something (words, classes, places) are taken from the rows that are given, so that they mean something
//! to the model; floats are free. Pure. Not here: running them (`profile`).

use ndarray::ArrayD;
use serin_scorers::Tensor;

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

/// Whatever one array holds, and what it is made of.
macro_rules! picked {
    ($tensor:expr, $random:expr; $($variant:ident)*) => {
        match $tensor {
            $(Tensor::$variant(array) => picked(array, $random).map(Tensor::$variant),)*
            _ => None,
        }
    };
}

/// A row of random floats of this size, or of elements of the input.
fn made(input: &Tensor, scale: f64, random: &mut SplitMix64) -> Option<Tensor> {
    let mut float = || (random.unit() * 2.0 - 1.0) * scale;
    let row = input.row(0)?;
    match row {
        Tensor::Fp32(array) => Some(Tensor::Fp32(array.mapv(|_| half_of(float())))),
        Tensor::Fp64(array) => Some(Tensor::Fp64(array.mapv(|_| float()))),
        Tensor::Fp16(array) => Some(Tensor::Fp16(array.mapv(|_| half::f16::from_f64(float())))),
        Tensor::Bf16(array) => Some(Tensor::Bf16(array.mapv(|_| half::bf16::from_f64(float())))),
        _ => picked!(input, random; Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Bytes),
    }
}

/// A row of elements that are drawn from all of the input.
fn picked<T: Clone>(array: &ArrayD<T>, random: &mut SplitMix64) -> Option<ArrayD<T>> {
    let all: Vec<&T> = array.iter().collect();
    let row = array.select(ndarray::Axis(0), &[0]);
    if all.is_empty() {
        return Some(row);
    }
    let drawn = (0..row.len()).map(|_| all[random.below(all.len())].clone());
    ArrayD::from_shape_vec(row.raw_dim(), drawn.collect()).ok()
}

/// Rounded to 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "a float of half the width")]
fn half_of(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn rows_are_of_all_sizes_and_whole_numbers_are_those_given() {
        let inputs = [
            Tensor::Fp32(ArrayD::zeros(vec![2, 3])),
            Tensor::Int64(array![[7_i64], [9]].into_dyn()),
        ];
        let rows = example_rows(&inputs);
        assert_eq!(rows.len(), 6, "ones, two of the request, three sizes");
        assert_eq!(rows, example_rows(&inputs), "the same every time");
        let mut largest = Vec::new();
        for row in &rows[3..] {
            let (Tensor::Fp32(floats), Tensor::Int64(whole)) = (&row[0], &row[1]) else {
                panic!("other kinds: {row:?}");
            };
            assert_eq!(floats.shape(), [1, 3]);
            assert!(
                whole.iter().all(|number| [7, 9].contains(number)),
                "{whole}"
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

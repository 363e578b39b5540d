//! The plain body, which nearly every request has: `{"data": [..]}` for a model with one input of floats.
//!
//! It is read number by number into one vector, with no bookkeeping between. Whatever is not exactly that (other keys, other
//! inputs, ragged or empty lists, anything that is no number) is left to the general reader, which also says what is wrong
//! with it; so this one knows no errors. Both read the same numbers to the same bits.

use super::element::JsonElement;
use super::text::Text;
use crate::signature::{ElementType, Signature};
use crate::tensor::Tensor;

/// Bytes that a number and its comma usually take.
const NUMBER_BYTES: usize = 8;
/// Most dimensions of an input that is read here.
const RANK_MAX: usize = 8;

/// The only input of the model, if the body is plain and fits.
pub(super) fn body(signature: &Signature, payload: &[u8]) -> Option<Tensor> {
    let [spec] = signature.inputs.as_slice() else {
        return None;
    };
    match spec.datatype {
        ElementType::Fp32 => read::<f32>(&spec.shape, payload),
        ElementType::Fp64 => read::<f64>(&spec.shape, payload),
        _ => None,
    }
}

fn read<T: JsonElement>(shape: &[i64], payload: &[u8]) -> Option<Tensor> {
    if shape.is_empty() || shape.len() > RANK_MAX {
        return None;
    }
    let mut text = Text::of(payload).ok()?;
    if !(text.takes(b'{') && text.takes_word(b"\"data\"") && text.takes(b':')) {
        return None;
    }
    let mut sizes = vec![None; shape.len()];
    let mut values = Vec::<T>::with_capacity(payload.len() / NUMBER_BYTES);
    list(&mut text, &mut sizes, &mut values)?;
    if !text.takes(b'}') || text.next_byte().is_some() {
        return None;
    }
    let sizes: Vec<usize> = sizes.into_iter().collect::<Option<_>>()?;
    let fits = |(wanted, found): (&i64, &usize)| {
        *wanted < 0 || usize::try_from(*wanted).is_ok_and(|wanted| wanted == *found)
    };
    if !shape.iter().zip(&sizes).all(fits) {
        return None;
    }
    Tensor::new(&sizes, values).ok()
}

/// Reads a list that has as many dimensions as there are `sizes`, which it fills in or meets.
fn list<T: JsonElement>(
    text: &mut Text<'_>,
    sizes: &mut [Option<usize>],
    values: &mut Vec<T>,
) -> Option<()> {
    let (size, inner) = sizes.split_first_mut()?;
    if !text.takes(b'[') {
        return None;
    }
    let mut count = 0;
    loop {
        if inner.is_empty() {
            values.push(T::read_number(text)?);
        } else {
            list(text, inner, values)?;
        }
        count += 1;
        match text.take()? {
            b',' => {}
            b']' => break,
            _ => return None,
        }
    }
    match size {
        Some(size) => (*size == count).then_some(()),
        None => {
            *size = Some(count);
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::read;
    use crate::signature::TensorSpec;

    fn signature(datatype: ElementType, shape: &[i64]) -> Signature {
        Signature {
            inputs: vec![TensorSpec {
                name: "x".to_owned(),
                datatype,
                shape: shape.to_vec(),
                any_rank: false,
            }],
            outputs: vec![],
        }
    }

    fn plain(shape: &[i64], payload: &str) -> Option<Tensor> {
        body(&signature(ElementType::Fp32, shape), payload.as_bytes())
    }

    #[test]
    fn a_plain_body_is_read_whole() {
        let read = plain(&[-1, 2], " { \"data\" : [ [1, 2.5] ,\n[-0.25,1e-3] ] } ");
        let wanted = Tensor::new([2, 2], vec![1.0_f32, 2.5, -0.25, 0.001]);
        assert_eq!(read, Some(wanted.unwrap()));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_reader() {
        for (shape, payload) in [
            (&[-1, 2][..], "{\"data\": [[1, 2], [3]]}"),
            (&[-1, 2], "{\"data\": [[1, 2, 3]]}"),
            (&[-1, 2], "{\"data\": [1, 2]}"),
            (&[-1], "{\"data\": [[1]]}"),
            (&[-1], "{\"data\": []}"),
            (&[-1], "{\"data\": [1], \"more\": 2}"),
            (&[-1], "{\"date\": [1]}"),
            (&[-1], "{\"data\": [1]} 2"),
            (&[-1], "{\"data\": [1,]}"),
            (&[-1], "{\"data\": [01]}"),
            (&[-1], "{\"data\": [1.]}"),
            (&[-1], "{\"data\": [.5]}"),
            (&[-1], "{\"data\": [+1]}"),
            (&[-1], "{\"data\": [-]}"),
            (&[-1], "{\"data\": [1e]}"),
            (&[-1], "{\"data\": [true]}"),
            (&[-1], "{\"data\": [\"1\"]}"),
            (&[-1], "{\"data\": [1e39]}"),
            (&[-1], "{\"data\": [NaN]}"),
            (&[-1], "{\"data\": [1"),
            (&[-1], "[1]"),
            (&[], "{\"data\": 1}"),
        ] {
            assert_eq!(plain(shape, payload), None, "{payload}");
        }
        let whole = signature(ElementType::Int64, &[-1]);
        assert_eq!(body(&whole, b"{\"data\": [1]}"), None);
    }

    proptest! {
        #[test]
        fn it_reads_what_the_general_reader_reads_to_the_same_bits(
            numbers in prop::collection::vec("-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", 1..20),
            wide in any::<bool>(),
        ) {
            let payload = format!("{{\"data\": [{}]}}", numbers.join(", "));
            let kind = if wide { ElementType::Fp64 } else { ElementType::Fp32 };
            let signature = signature(kind, &[-1]);
            let general = read::general(&signature, payload.as_bytes());
            match body(&signature, payload.as_bytes()) {
                Some(tensor) => {
                    let bits = |tensor: &Tensor| match tensor.elements::<f32>() {
                        Some(narrow) => narrow.iter().map(|value| u64::from(value.to_bits())).collect::<Vec<_>>(),
                        None => tensor.elements::<f64>().unwrap().iter().map(|value| value.to_bits()).collect(),
                    };
                    let general = general.unwrap();
                    prop_assert_eq!(bits(&tensor), bits(&general[0]));
                }
                None => prop_assert!(general.is_err(), "{} is plain", payload),
            }
        }

        #[test]
        fn no_text_is_read_here_that_the_general_reader_refuses(text in "[\\[\\]{}\", :.0-9eE+-]{0,40}") {
            let signature = signature(ElementType::Fp32, &[-1, -1]);
            for payload in [text.clone(), format!("{{\"data\":{text}}}"), format!("{{\"data\":[[{text}]]}}")] {
                if let Some(tensor) = body(&signature, payload.as_bytes()) {
                    let general = read::general(&signature, payload.as_bytes());
                    prop_assert_eq!(general.unwrap(), vec![tensor], "{}", payload);
                }
            }
        }
    }
}

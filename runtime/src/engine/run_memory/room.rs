//! Leave for memory that is taken past the allocator: tensors of bodies, texts on their way to a model, answers as JSON.
//!
//! Threads: any. Not here: what the machine has (`machine_memory`).

use serin_scorers::{ElementType, Signature, TensorSpec};

use crate::engine::job::AnswerForm;
use crate::engine::machine_memory::{self, Grant};
use crate::engine::run_memory::block::ASKED_BYTES_MIN;
use crate::engine::run_memory::share::{MemoryShare, Refused};

/// Bytes of JSON that a byte of an output may become: a float of 4 bytes takes some 12.
const TEXT_BYTES_PER_BYTE: u64 = 3;
/// Bytes of tensors that a byte of a body may become: `1,` is 8 bytes of INT64, and `"",` a text of 24.
const BYTES_PER_TEXT_BYTE: u64 = 4;
const BYTES_PER_TEXT_BYTE_OF_TEXT: u64 = 8;
/// Bytes that a packed byte may become: an empty text is 8 bytes there and 24 here.
const BYTES_PER_PACKED_BYTE: u64 = 3;
/// Bytes that even an empty text takes on its way to the model and back: a copy with a 0 at its end (16, and 32 of the heap), the
/// address of it (8), a string of C++ (32) and one of Rust (24).
const BYTES_PER_TEXT: u64 = 16 + 32 + 8 + 32 + 24;
/// Copies of a text on that way.
const COPIES_OF_TEXT: u64 = 3;

/// Leave to decode a body of so many bytes, to be kept until that is done; at once where it is small.
///
/// # Errors
///
/// [`Refused`] in words, where the machine has less than the tensors may take.
pub(in crate::engine) fn room_for_tensors(
    body_bytes: usize,
    signature: &Signature,
) -> Result<Option<Grant>, String> {
    let has_text = |input: &TensorSpec| input.datatype == ElementType::Bytes;
    let times = match signature.inputs.iter().any(has_text) {
        true => BYTES_PER_TEXT_BYTE_OF_TEXT,
        false => BYTES_PER_TEXT_BYTE,
    };
    room((body_bytes as u64).saturating_mul(times))
        .map_err(|refused| format!("its body is too large: {refused}"))
}

/// Leave to unpack so many bytes of tensors, to be kept until that is done.
///
/// # Errors
///
/// [`Refused`] in words.
pub(in crate::engine) fn room_for_packed(bytes: usize) -> Result<Option<Grant>, String> {
    room((bytes as u64).saturating_mul(BYTES_PER_PACKED_BYTE))
        .map_err(|refused| format!("its tensors are too large: {refused}"))
}

/// Leave to hand texts of these lengths to a model, and to read as many of its outputs: they are copied past the allocator.
///
/// # Errors
///
/// [`Refused`] in words.
pub(in crate::engine) fn room_for_texts(
    lengths: impl Iterator<Item = usize>,
) -> Result<Option<Grant>, String> {
    let each = lengths.map(|length| BYTES_PER_TEXT + COPIES_OF_TEXT * length as u64);
    room(each.sum()).map_err(|refused| refused.to_string())
}

/// Leave to make an answer of outputs of so many bytes, to be kept until it is made.
///
/// # Errors
///
/// [`Refused`] in words, where the share or the machine has less than it may take.
pub(super) fn room_for_answer(
    outputs: usize,
    form: AnswerForm,
    share: &MemoryShare,
) -> Result<Option<Grant>, String> {
    let times = match form {
        AnswerForm::Json => TEXT_BYTES_PER_BYTE,
        AnswerForm::Values => 1,
    };
    let asked = (outputs as u64).saturating_mul(times);
    if asked < ASKED_BYTES_MIN as u64 {
        return Ok(None);
    }
    // Not held: what a body takes later is not a run's.
    let taken = share.take(asked).map(|()| share.give_back(asked));
    let taken = taken.map_err(|left| share.refuses(asked, left));
    taken
        .and_then(|()| room(asked))
        .map_err(|refused| format!("its answer is too large: {refused}"))
}

/// Leave of the machine for so many bytes; at once where they are few.
fn room(asked: u64) -> Result<Option<Grant>, Refused> {
    if asked < ASKED_BYTES_MIN as u64 {
        return Ok(None);
    }
    let granted = machine_memory::grant(asked);
    granted.map(Some).map_err(|left| Refused {
        asked,
        left,
        share: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_body_is_asked_for_by_what_it_may_become() {
        let of = |datatype| Signature {
            inputs: vec![TensorSpec {
                name: "data".to_owned(),
                datatype,
                shape: vec![-1],
                any_rank: false,
            }],
            outputs: Vec::new(),
        };
        let (numbers, texts) = (of(ElementType::Fp32), of(ElementType::Bytes));
        assert!(room_for_tensors(1000, &texts).unwrap().is_none());
        assert!(room_for_tensors(2_000_000, &numbers).unwrap().is_some());
        assert!(
            room_for_texts(std::iter::repeat_n(10, 1000))
                .unwrap()
                .is_none()
        );
        assert!(
            room_for_texts(std::iter::repeat_n(0, 50_000))
                .unwrap()
                .is_some()
        );
        assert!(room_for_texts(std::iter::once(1 << 50)).is_err());
        let words = room_for_tensors(1 << 50, &texts).unwrap_err();
        assert!(
            words.starts_with("its body is too large: the run asked for 9007199.2 GB; "),
            "{words}"
        );
    }
}

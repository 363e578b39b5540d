//! What an answer is worth by the label that came later. Pure.
//!
//! An answer and its label are compared as JSON, after what stands alone in a list or in an object was taken out of it (`[3]` and
//! `{"class": 3}` are `3`):
//!
//! - two numbers, texts or truth values: right where they are the same, else wrong;
//! - a whole number, for a list of two numbers or more: right where the greatest number of the list stands at that place, counted from 0;
//! - two lists of one length: the mean of their places, so that a batch is worth the share of its rows that are right.
//!
//! Whatever else meets is a misfit and says nothing: nobody guesses.

use serde_json::Value;

use crate::canary::observation::Worth;

/// The longest text of an answer that is remembered, in bytes.
pub(super) const MARKED_BYTES_MAX: usize = 4096;

/// The longest quotation in a misfit, in characters.
const QUOTED_MAX: usize = 60;

/// The reason why a label says nothing of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The answer is no JSON, is too long, or has nothing where it was looked for.
    #[error(
        "expected an answer in JSON of at most {MARKED_BYTES_MAX} bytes{}, found none",
        at(.pointer.as_deref())
    )]
    NoAnswer {
        /// Where in the body.
        pointer: Option<String>,
    },
    /// They have no form in common.
    #[error("label {label} fits no answer of the form {answer}{}", hint(.answer))]
    Form {
        /// The label.
        label: String,
        /// The answer.
        answer: String,
    },
}

fn at(pointer: Option<&str>) -> String {
    pointer.map_or_else(String::new, |pointer| format!(" at {pointer}"))
}

/// An answer with several parts is what labels fit least.
fn hint(answer: &str) -> &'static str {
    match answer.starts_with('{') {
        true => {
            ": say which part of an answer they are of, by feedback.answer of the rollout's file"
        }
        false => "",
    }
}

/// The part of an answer that labels are compared with; none where there is none, or where it is too long. Whether a whole answer is JSON
/// shows when a label comes for it: for most comes none.
#[must_use]
pub fn marked_part(body: &[u8], pointer: Option<&str>) -> Option<String> {
    if pointer.is_none() && body.len() <= MARKED_BYTES_MAX {
        return str::from_utf8(body).ok().map(str::to_owned);
    }
    let whole: Value = serde_json::from_slice(body).ok()?;
    let part = match pointer {
        Some(pointer) => whole.pointer(pointer)?,
        None => &whole,
    };
    Some(part.to_string()).filter(|text| text.len() <= MARKED_BYTES_MAX)
}

/// What the answer is worth.
///
/// # Errors
///
/// [`Misfit::Form`] where the label is none for such an answer.
pub fn mark(answer: &Value, label: &Value) -> Result<Worth, Misfit> {
    let misfit = || Misfit::Form {
        label: quoted(label),
        answer: quoted(answer),
    };
    let score = score(answer, label).ok_or_else(misfit)?;
    Worth::new(score).ok_or_else(misfit)
}

fn score(answer: &Value, label: &Value) -> Option<f64> {
    let (answer, label) = (alone(answer), alone(label));
    let right = match (answer, label) {
        (Value::Number(answer), Value::Number(label)) => same(answer, label),
        (Value::String(answer), Value::String(label)) => answer == label,
        (Value::Bool(answer), Value::Bool(label)) => answer == label,
        (Value::Array(answers), Value::Array(labels)) => return mean(answers, labels),
        (Value::Array(scores), Value::Number(place)) => {
            let place = usize::try_from(place.as_u64()?).ok()?;
            greatest(scores)? == Some(place).filter(|place| *place < scores.len())?
        }
        _ => return None,
    };
    Some(f64::from(u8::from(right)))
}

/// What stands alone in lists and objects.
fn alone(value: &Value) -> &Value {
    let inner = match value {
        Value::Array(items) if items.len() == 1 => items.first(),
        Value::Object(fields) if fields.len() == 1 => fields.values().next(),
        _ => None,
    };
    inner.map_or(value, alone)
}

/// Whole numbers are compared as such: beyond 2^53 two of them may be one float.
fn same(one: &serde_json::Number, other: &serde_json::Number) -> bool {
    one == other || (!(is_whole(one) && is_whole(other)) && one.as_f64() == other.as_f64())
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64()
}

fn mean(answers: &[Value], labels: &[Value]) -> Option<f64> {
    if answers.len() != labels.len() || answers.is_empty() {
        return None;
    }
    let scores = answers.iter().zip(labels);
    let scores: Option<Vec<_>> = scores.map(|(answer, label)| score(answer, label)).collect();
    Some(scores?.iter().sum::<f64>() / answers.len() as f64)
}

/// The place of the greatest of at least two numbers, the first of equal ones.
fn greatest(scores: &[Value]) -> Option<usize> {
    let scores: Option<Vec<_>> = scores.iter().map(|one| alone(one).as_f64()).collect();
    let scores = scores?;
    let mut places = scores.iter().enumerate();
    let (mut place, mut most) = places.next()?;
    for (at, score) in places {
        if score > most {
            (place, most) = (at, score);
        }
    }
    Some(place)
}

fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn worth(answer: &Value, label: &Value) -> Option<f64> {
        mark(answer, label).ok().map(|worth| 1.0 - worth.missing())
    }

    #[test]
    fn an_answer_is_right_where_it_is_the_label() {
        for (answer, label) in [
            (json!(3), json!(3)),
            (json!([3]), json!(3)),
            (json!({"class": [3.0]}), json!(3)),
            (json!("cat"), json!(["cat"])),
            (json!([[false]]), json!(false)),
            (json!([0.1, 0.7, 0.2]), json!(1)),
            (json!({"predictions": [[0.1, 0.7, 0.2]]}), json!([1])),
            (json!([0.5, 0.5]), json!(0)),
        ] {
            assert_eq!(worth(&answer, &label), Some(1.0), "{answer} {label}");
        }
    }

    #[test]
    fn an_answer_is_wrong_where_it_is_another() {
        for (answer, label) in [
            (json!(3), json!(4)),
            (json!("cat"), json!("Cat")),
            (json!(true), json!(false)),
            (json!([0.1, 0.7, 0.2]), json!(2)),
            (
                json!(9_007_199_254_740_993_u64),
                json!(9_007_199_254_740_992_u64),
            ),
        ] {
            assert_eq!(worth(&answer, &label), Some(0.0), "{answer} {label}");
        }
    }

    #[test]
    fn a_batch_is_worth_the_share_of_its_rows_that_are_right() {
        let classes = json!([1, 2, 3, 4]);
        assert_eq!(worth(&classes, &json!([1, 2, 3, 5])), Some(0.75));
        let rows = json!([[0.9, 0.1], [0.2, 0.8]]);
        assert_eq!(worth(&rows, &json!([0, 0])), Some(0.5));
    }

    #[test]
    fn what_has_no_form_in_common_says_nothing() {
        for (answer, label) in [
            (json!("3"), json!(3)),
            (json!(3), json!("3")),
            (json!([1, 2]), json!([1, 2, 3])),
            (json!([]), json!([])),
            (json!([0.1, 0.9]), json!(2)),
            (json!([0.1, 0.9]), json!(-1)),
            (json!([0.1, 0.9]), json!(0.5)),
            (json!(["a", "b"]), json!(0)),
            (json!({"a": 1, "b": 2}), json!(1)),
            (json!([1, "x"]), json!([1, 2])),
            (json!(null), json!(1)),
        ] {
            let misfit = mark(&answer, &label).unwrap_err();
            let expected = format!("label {label} fits no answer of the form {answer}");
            assert!(misfit.to_string().starts_with(&expected), "{misfit}");
        }
    }

    #[test]
    fn the_part_is_where_the_pointer_says_and_not_too_long() {
        let body = br#"{"outputs": [{"name": "label", "data": [7]}]}"#;
        let part = |pointer| marked_part(body, pointer);
        assert_eq!(part(Some("/outputs/0/data")).as_deref(), Some("[7]"));
        assert_eq!(part(Some("/outputs/1")), None);
        assert_eq!(part(None).unwrap().as_bytes(), body);
        assert_eq!(marked_part(b"no JSON", Some("")), None);
        assert_eq!(marked_part(b"\xff", None), None);
        let wide = format!("[1{}]", " ".repeat(MARKED_BYTES_MAX));
        assert_eq!(marked_part(wide.as_bytes(), None).as_deref(), Some("[1]"));
        let long = format!("[{}1]", "1,".repeat(MARKED_BYTES_MAX / 2));
        assert_eq!(marked_part(long.as_bytes(), None), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_answer_and_label_make_a_worth_or_a_misfit(answer in any_json(), label in any_json()) {
            if let Ok(worth) = mark(&answer, &label) {
                prop_assert!((0.0..=1.0).contains(&worth.missing()));
            }
        }

        #[test]
        fn an_answer_of_numbers_is_right_by_itself(numbers in prop::collection::vec(any::<i32>(), 1..6)) {
            let answer = Value::from(numbers);
            prop_assert_eq!(worth(&answer, &answer), Some(1.0));
        }
    }
}

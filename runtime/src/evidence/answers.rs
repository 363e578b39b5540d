//! The comparison of what two versions say of the same inputs. Pure.
//!
//! Answers are compared as JSON, number by number; what is not JSON is compared byte by byte.

use std::cmp::Ordering;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::evidence::stats::{Estimate, proportion};

/// Differences that are kept.
const WORST_MAX: usize = 5;

/// Stands where a version did not answer with 2xx.
const NO_ANSWER: &str = "no answer";

/// Longest text that is kept of an answer, in characters.
const QUOTED_MAX: usize = 60;

/// The distance that two numbers may have: `|other - base| <= absolute + relative * |base|`. Where both are whole (`3`, not `3.0`) the
/// relative part does not count: it is for the rounding of floats, and class 50,001 is not class 50,000.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// In units of the answer.
    pub absolute: f64,
    /// In parts of the baseline's number.
    pub relative: f64,
}

impl Default for Tolerance {
    /// 1e-4 of each: the differences of single precision over a deep model.
    fn default() -> Self {
        Self {
            absolute: 1e-4,
            relative: 1e-4,
        }
    }
}

/// All inputs together.
#[derive(Debug, Clone, Serialize)]
pub struct Answers {
    /// Inputs that both were asked and at least one answered.
    pub compared: usize,
    /// Of them those whose answers differ beyond the tolerance, or in their form, or that one alone answered.
    pub differing: usize,
    /// Of the differing those that one answered with 2xx and the other did not.
    pub answered_by_one: usize,
    /// Of the differing those that differ in their form: other keys, other shape, a number against a text, NaN.
    pub of_other_form: usize,
    /// Inputs that neither answered with 2xx: they say nothing of whether the two agree.
    pub unanswered: usize,
    /// The distance that was allowed.
    pub tolerance: Tolerance,
    /// Largest difference of two numbers.
    pub max_absolute: f64,
    /// Largest difference in parts of the baseline's number (which must not be zero).
    pub max_relative: f64,
    /// Share of answers within the tolerance, 0 to 1, with its interval (Clopper and Pearson).
    pub agreement: Estimate,
    /// Share of rows whose largest number is at the same place, where answers are rows of at least two numbers.
    pub top1: Option<Estimate>,
    /// Rows that [`Self::top1`] is of.
    pub rows: u64,
    /// The worst differences, worst first.
    pub worst: Vec<Difference>,
}

/// Where two answers differ most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Number of the input, from 0.
    pub input: usize,
    /// Where in the answer: a JSON pointer.
    pub path: String,
    /// The value of the baseline there, shortened.
    pub base: String,
    /// The value of the other.
    pub other: String,
    /// By how much, where both are numbers.
    pub difference: Option<f64>,
}

/// Compares what two versions answered to the same inputs; none where the answer was not 2xx. An input that only one list has was
/// not answered by the other. What one answers and the other does not is a disagreement: a version that fails does not say the same.
/// `confidence` is that of the intervals, such as 0.95.
#[must_use]
pub fn compare(
    base: &[Option<Bytes>],
    other: &[Option<Bytes>],
    tolerance: Tolerance,
    confidence: f64,
) -> Answers {
    let mut answers = Answers {
        compared: 0,
        differing: 0,
        answered_by_one: 0,
        of_other_form: 0,
        unanswered: 0,
        tolerance,
        max_absolute: 0.0,
        max_relative: 0.0,
        agreement: proportion(0, 0, confidence),
        top1: None,
        rows: 0,
        worst: Vec::new(),
    };
    let mut rows = Rows::default();
    let mut worst: Vec<(Rank, Difference)> = Vec::new();
    for input in 0..base.len().max(other.len()) {
        let answer = |answers: &[Option<Bytes>]| answers.get(input).cloned().flatten();
        let found = match (answer(base), answer(other)) {
            (Some(base), Some(other)) => compare_one(input, &base, &other, tolerance),
            (Some(base), None) => missing(input, &base, |answer| (answer, NO_ANSWER.to_owned())),
            (None, Some(other)) => missing(input, &other, |answer| (NO_ANSWER.to_owned(), answer)),
            (None, None) => {
                answers.unanswered += 1;
                continue;
            }
        };
        answers.compared += 1;
        answers.max_absolute = answers.max_absolute.max(found.max_absolute);
        answers.max_relative = answers.max_relative.max(found.max_relative);
        answers.of_other_form += usize::from(found.other_form);
        answers.answered_by_one += usize::from(found.one_alone);
        rows.add(found.rows);
        if let Some(one) = found.worst {
            answers.differing += 1;
            worst.push(one);
            // Stable: of equal ones the first inputs stay.
            worst.sort_by(|(one, _), (two, _)| two.total_cmp(one));
            worst.truncate(WORST_MAX);
        }
    }
    answers.worst = worst.into_iter().map(|(_, one)| one).collect();
    answers.agreement = proportion(
        (answers.compared - answers.differing) as u64,
        answers.compared as u64,
        confidence,
    );
    answers.rows = rows.all;
    answers.top1 = (rows.all > 0).then(|| proportion(rows.agreeing, rows.all, confidence));
    answers
}

/// The weight of a difference: by kind, and by how many times a number is beyond what is allowed.
#[derive(Debug, Clone, Copy)]
enum Rank {
    Number(f64),
    Text,
    Form,
    Missing,
}

impl Rank {
    fn total_cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one), Self::Number(two)) => one.total_cmp(two),
            (one, two) => one.kind().cmp(&two.kind()),
        }
    }

    fn kind(self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Text => 1,
            Self::Form => 2,
            Self::Missing => 3,
        }
    }
}

/// Rows of scores, and those whose largest number is at the same place.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    all: u64,
    agreeing: u64,
}

impl Rows {
    fn add(&mut self, other: Self) {
        self.all += other.all;
        self.agreeing += other.agreeing;
    }
}

/// One input.
#[derive(Debug, Default)]
struct Compared {
    worst: Option<(Rank, Difference)>,
    other_form: bool,
    one_alone: bool,
    max_absolute: f64,
    max_relative: f64,
    rows: Rows,
}

fn compare_one(input: usize, base: &Bytes, other: &Bytes, tolerance: Tolerance) -> Compared {
    let json = |body: &Bytes| serde_json::from_slice::<Value>(body).ok();
    let (base_json, other_json) = (json(base), json(other));
    let mut walk = Walk {
        input,
        tolerance,
        path: Vec::new(),
        found: Compared::default(),
    };
    match (&base_json, &other_json) {
        (Some(base), Some(other)) => walk.value(base, other),
        (None, None) if base == other => {}
        (None, None) => walk.differ(Rank::Text, text(base), text(other), None),
        (Some(_), None) | (None, Some(_)) => {
            walk.differ(Rank::Form, text(base), text(other), None);
        }
    }
    walk.found
}

/// An input that one version alone answered: none of its rows has its equal.
fn missing(
    input: usize,
    answer: &Bytes,
    sides: impl FnOnce(String) -> (String, String),
) -> Compared {
    let json: Option<Value> = serde_json::from_slice(answer).ok();
    let (base, other) = sides(json.as_ref().map_or_else(|| text(answer), words));
    let difference = Difference {
        input,
        path: String::new(),
        base,
        other,
        difference: None,
    };
    Compared {
        worst: Some((Rank::Missing, difference)),
        one_alone: true,
        rows: Rows {
            all: json.map_or(0, |json| rows_of(&json, false)),
            agreeing: 0,
        },
        ..Compared::default()
    }
}

/// Rows of scores in an answer.
fn rows_of(value: &Value, listed: bool) -> u64 {
    match value {
        Value::Object(object) => object.values().map(|one| rows_of(one, false)).sum(),
        Value::Array(list) => {
            let inner: u64 = list.iter().map(|one| rows_of(one, true)).sum();
            inner + u64::from(listed && place_of_largest(list).is_some())
        }
        _ => 0,
    }
}

/// Goes through two answers at once.
struct Walk<'v> {
    input: usize,
    tolerance: Tolerance,
    /// Where it is.
    path: Vec<Place<'v>>,
    found: Compared,
}

/// One step into a value.
enum Place<'v> {
    Key(&'v str),
    Index(usize),
}

impl<'v> Walk<'v> {
    fn value(&mut self, base: &'v Value, other: &'v Value) {
        match (base, other) {
            (Value::Object(base), Value::Object(other)) => self.object(base, other),
            (Value::Array(base), Value::Array(other)) => self.list(base, other),
            (Value::Number(_), Value::Number(_)) => self.number(base, other),
            (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => {
                if base != other {
                    self.differ(Rank::Text, words(base), words(other), None);
                }
            }
            (Value::Null, Value::Null) => {}
            _ => self.differ(Rank::Form, words(base), words(other), None),
        }
    }

    fn object(&mut self, base: &'v Map<String, Value>, other: &'v Map<String, Value>) {
        let nothing = || "nothing".to_owned();
        for (key, base) in base {
            self.path.push(Place::Key(key));
            match other.get(key) {
                Some(other) => self.value(base, other),
                None => self.differ(Rank::Form, words(base), nothing(), None),
            }
            self.path.pop();
        }
        for (key, other) in other.iter().filter(|(key, _)| !base.contains_key(*key)) {
            self.path.push(Place::Key(key));
            self.differ(Rank::Form, nothing(), words(other), None);
            self.path.pop();
        }
    }

    fn list(&mut self, base: &'v [Value], other: &'v [Value]) {
        if matches!(self.path.last(), Some(Place::Index(_)))
            && let Some(place) = place_of_largest(base)
        {
            let agrees = base.len() == other.len() && place_of_largest(other) == Some(place);
            self.found.rows.add(Rows {
                all: 1,
                agreeing: u64::from(agrees),
            });
        }
        if base.len() != other.len() {
            self.differ(Rank::Form, words_of_list(base), words_of_list(other), None);
            return;
        }
        for (index, (base, other)) in base.iter().zip(other).enumerate() {
            self.path.push(Place::Index(index));
            self.value(base, other);
            self.path.pop();
        }
    }

    fn number(&mut self, base: &Value, other: &Value) {
        let Tolerance { absolute, relative } = self.tolerance;
        let size = float(base).abs();
        let (difference, allowed) = match (whole(base), whole(other)) {
            (Some(base), Some(other)) => (base.abs_diff(other) as f64, absolute),
            _ => (
                (float(other) - float(base)).abs(),
                absolute + relative * size,
            ),
        };
        let found = &mut self.found;
        found.max_absolute = found.max_absolute.max(difference);
        if size > 0.0 {
            found.max_relative = found.max_relative.max(difference / size);
        }
        if difference > allowed {
            let rank = Rank::Number(difference / allowed);
            self.differ(rank, words(base), words(other), Some(difference));
        }
    }

    fn differ(&mut self, rank: Rank, base: String, other: String, difference: Option<f64>) {
        self.found.other_form |= matches!(rank, Rank::Form);
        let worst = self.found.worst.as_ref();
        if worst.is_some_and(|(worst, _)| rank.total_cmp(worst).is_le()) {
            return;
        }
        let difference = Difference {
            input: self.input,
            path: self.pointer(),
            base,
            other,
            difference,
        };
        self.found.worst = Some((rank, difference));
    }

    /// A JSON pointer (RFC 6901).
    fn pointer(&self) -> String {
        let steps = self.path.iter().map(|place| match place {
            Place::Key(key) => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Place::Index(index) => format!("/{index}"),
        });
        steps.collect()
    }
}

/// Where the first largest number of a row of at least two is; none where something is no number.
fn place_of_largest(row: &[Value]) -> Option<usize> {
    if row.len() < 2 || !row.iter().all(Value::is_number) {
        return None;
    }
    let numbers = row.iter().map(float).enumerate();
    numbers
        .reduce(|most, next| if next.1 > most.1 { next } else { most })
        .map(|(place, _)| place)
}

fn float(number: &Value) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

/// A number that was written without a fraction.
fn whole(number: &Value) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

/// Numbers as they are, text cut short, lists and objects by their size.
fn words(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => shortened(text),
        Value::Array(list) => words_of_list(list),
        Value::Object(object) => format!("an object of {}", object.len()),
    }
}

fn words_of_list(list: &[Value]) -> String {
    format!("a list of {}", list.len())
}

fn text(body: &[u8]) -> String {
    // A character has at most four bytes.
    let start = &body[..body.len().min(4 * (QUOTED_MAX + 1))];
    shortened(&String::from_utf8_lossy(start))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{:?}..", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn body(text: impl ToString) -> Option<Bytes> {
        Some(Bytes::from(text.to_string()))
    }

    fn one(base: impl ToString, other: impl ToString) -> Answers {
        compare(&[body(base)], &[body(other)], Tolerance::default(), 0.95)
    }

    /// Path, baseline, other, and whether the form is another.
    fn worst(base: impl ToString, other: impl ToString) -> (String, String, String, bool) {
        let answers = one(base, other);
        assert_eq!((answers.compared, answers.differing), (1, 1));
        let worst = answers.worst[0].clone();
        (
            worst.path,
            worst.base,
            worst.other,
            answers.of_other_form == 1,
        )
    }

    fn expected(path: &str, base: &str, other: &str, form: bool) -> (String, String, String, bool) {
        (path.to_owned(), base.to_owned(), other.to_owned(), form)
    }

    #[test]
    fn equal_answers_agree_whatever_the_order_of_their_keys() {
        let answers = one(
            r#"{"a":[1.0,2],"b":"x","c":null}"#,
            r#"{"c":null, "b":"x", "a":[1,2.0]}"#,
        );
        assert_eq!(
            (answers.compared, answers.differing, answers.worst.len()),
            (1, 0, 0)
        );
        assert!(answers.max_absolute.abs() < f64::EPSILON);
    }

    #[test]
    fn a_number_within_the_tolerance_agrees_and_its_difference_is_told() {
        let answers = one(json!({"y": [10.0]}), json!({"y": [10.0009]}));
        assert_eq!(answers.differing, 0);
        assert!((answers.max_absolute - 9e-4).abs() < 1e-9);
        assert!((answers.max_relative - 9e-5).abs() < 1e-9);
    }

    #[test]
    fn a_number_beyond_the_tolerance_is_told_with_its_place() {
        let found = worst(
            json!({"y": [[1.0, 2.0], [3.0, 4.5]]}),
            json!({"y": [[1.0, 2.0], [3.0, 4.0]]}),
        );
        assert_eq!(found, expected("/y/1/1", "4.5", "4.0", false));
    }

    #[test]
    fn whole_numbers_are_not_rounded() {
        assert_eq!(
            worst("[50000]", "[50001]"),
            expected("/0", "50000", "50001", false)
        );
        assert_eq!(one("[50000.0]", "[50001.0]").differing, 0);
        assert_eq!(one("[9007199254740993]", "[9007199254740992]").differing, 1);
        assert_eq!(
            one("[18446744073709551615]", "[-9223372036854775808]").differing,
            1
        );
    }

    #[test]
    fn another_shape_is_another_form() {
        assert_eq!(
            worst("[[1,2,3]]", "[[1,2]]"),
            expected("/0", "a list of 3", "a list of 2", true)
        );
        assert_eq!(
            worst("[[1]]", "[1]"),
            expected("/0", "a list of 1", "1", true)
        );
    }

    #[test]
    fn a_key_that_only_one_has_is_another_form() {
        assert_eq!(
            worst(r#"{"a/b~":1}"#, "{}"),
            expected("/a~1b~0", "1", "nothing", true)
        );
        assert_eq!(
            worst("{}", r#"{"x":"y"}"#),
            expected("/x", "nothing", "\"y\"", true)
        );
    }

    #[test]
    fn null_against_a_number_is_another_form() {
        assert_eq!(
            worst("[0.5]", "[null]"),
            expected("/0", "0.5", "null", true)
        );
    }

    #[test]
    fn other_words_differ_and_keep_the_form() {
        assert_eq!(
            worst(r#"["cat"]"#, r#"["dog"]"#),
            expected("/0", "\"cat\"", "\"dog\"", false)
        );
        assert_eq!(worst("true", "false"), expected("", "true", "false", false));
    }

    #[test]
    fn what_is_not_json_is_compared_byte_by_byte() {
        assert_eq!(one("plain", "plain").differing, 0);
        assert_eq!(
            worst("plain", "text"),
            expected("", "\"plain\"", "\"text\"", false)
        );
        assert_eq!(
            worst("plain", "[1]"),
            expected("", "\"plain\"", "\"[1]\"", true)
        );
        let bytes = |byte: u8| [Some(Bytes::from(vec![byte]))];
        assert_eq!(
            compare(&bytes(0xFE), &bytes(0xFF), Tolerance::default(), 0.95).differing,
            1
        );
    }

    #[test]
    fn long_text_is_cut_short() {
        let (_, base, ..) = worst(json!("x".repeat(1000)), json!("y"));
        assert_eq!(base, format!("\"{}\"..", "x".repeat(QUOTED_MAX)));
        let (_, base, ..) = worst("\u{20ac}".repeat(1000), "z");
        assert_eq!(base, format!("\"{}\"..", "\u{20ac}".repeat(QUOTED_MAX)));
    }

    #[test]
    fn an_input_that_one_alone_answers_is_a_disagreement_and_one_that_neither_answers_is_none() {
        let base = [body("1"), None, body("1"), body("1"), None];
        let other = [body("1"), body("1"), None, None, None];
        let answers = compare(&base, &other, Tolerance::default(), 0.95);
        assert_eq!(
            (answers.compared, answers.unanswered, answers.differing),
            (4, 1, 3)
        );
        assert_eq!((answers.answered_by_one, answers.of_other_form), (3, 0));
        assert!((answers.agreement.point - 0.25).abs() < 1e-12);
        let sides = |at: usize| (&*answers.worst[at].base, &*answers.worst[at].other);
        assert_eq!(
            [sides(0), sides(1)],
            [("no answer", "1"), ("1", "no answer")]
        );
    }

    #[test]
    fn a_version_that_fails_where_it_would_differ_agrees_no_better() {
        let base: Vec<_> = (0..100).map(body).collect();
        let other = |wrong: Option<Bytes>| -> Vec<_> {
            let answer = |at: usize| {
                if at.is_multiple_of(5) {
                    wrong.clone()
                } else {
                    body(at)
                }
            };
            (0..100).map(answer).collect()
        };
        let agreement = |wrong| compare(&base, &other(wrong), Tolerance::default(), 0.95).agreement;
        assert_eq!(agreement(None), agreement(body("-1")));
    }

    #[test]
    fn the_rows_of_an_answer_that_is_missing_do_not_agree() {
        let rows = body(json!({"p": [[0.1, 0.9], [0.8, 0.2]], "label": [1, 0]}));
        let answers = compare(
            &[rows.clone(), rows.clone()],
            &[rows, None],
            Tolerance::default(),
            0.95,
        );
        assert_eq!(answers.rows, 4);
        assert!((answers.top1.unwrap().point - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_worst_difference_of_each_input_is_kept_and_the_worst_of_all_come_first() {
        let bodies = |by: f64| -> Vec<_> {
            (0..8)
                .map(|at| body(json!([1.0 + by * f64::from(at), 1.0 + by])))
                .collect()
        };
        let mut other = bodies(0.1);
        other[1] = body(json!(["x", 1.0]));
        let answers = compare(&bodies(0.0), &other, Tolerance::default(), 0.95);
        let inputs: Vec<usize> = answers.worst.iter().map(|one| one.input).collect();
        assert_eq!(inputs, [1, 7, 6, 5, 4]);
        assert_eq!(answers.worst[1].path, "/0");
        assert!((answers.worst[1].difference.unwrap() - 0.7).abs() < 1e-9);
        assert_eq!((answers.differing, answers.of_other_form), (8, 1));
    }

    #[test]
    fn rows_are_compared_by_the_place_of_their_largest_number() {
        let base =
            json!({"probabilities": [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], "label": [1, 0, 1]});
        let other =
            json!({"probabilities": [[0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], "label": [1, 1, 1]});
        let top1 = one(base, other).top1.unwrap();
        assert!((top1.point - 2.0 / 3.0).abs() < 1e-12);
        assert!(top1.low.unwrap() < 0.2 && top1.high.unwrap() > 0.98);
    }

    #[test]
    fn a_row_that_the_other_does_not_have_does_not_agree() {
        let top1 = one("[[0.1, 0.9], [0.1, 0.9]]", "[[0.1, null], [0.1, 0.9]]").top1;
        assert!((top1.unwrap().point - 0.5).abs() < 1e-12);
    }

    #[test]
    fn answers_without_rows_have_no_top1() {
        for answer in [
            "[1, 2]",
            r#"{"y": [1, 2]}"#,
            r#"{"y": [[1], [2]]}"#,
            r#"[["a", "b"]]"#,
            "plain",
        ] {
            assert_eq!(one(answer, answer).top1, None, "{answer}");
        }
    }

    #[test]
    fn agreement_has_its_interval() {
        let bodies: Vec<_> = (0..300).map(body).collect();
        let answers = compare(&bodies, &bodies, Tolerance::default(), 0.95);
        // The rule of three: 1 - 3.69 / 300.
        assert!((answers.agreement.low.unwrap() - 0.987_779).abs() < 1e-5);
    }

    #[test]
    fn nothing_compared_has_no_agreement() {
        let answers = compare(&[], &[], Tolerance::default(), 0.95);
        assert_eq!(
            (answers.agreement.low, answers.agreement.high),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_agree_with_themselves(bytes: Vec<u8>, text in "[\\[\\]{},:\"0-9a.e ]{0,40}") {
            for bytes in [bytes, text.into_bytes()] {
                let bodies = [Some(Bytes::from(bytes))];
                let tolerance = Tolerance { absolute: 0.0, relative: 0.0 };
                prop_assert_eq!(compare(&bodies, &bodies, tolerance, 0.95).differing, 0);
            }
        }

        #[test]
        fn any_two_bodies_are_compared(base: Vec<u8>, other in "[\\[\\]{},:\"0-9a.e ]{0,40}") {
            let answers = one(String::from_utf8_lossy(&base), other);
            prop_assert_eq!(answers.compared, 1);
        }
    }
}

//! Whether two versions say the same of the same inputs. Pure.

use serde::Serialize;

use crate::bench::stats::Estimate;

/// How far two numbers may be apart: `|other - base| <= absolute + relative * |base|`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// In units of the answer.
    pub absolute: f64,
    /// In parts of the baseline's number.
    pub relative: f64,
}

/// All inputs together.
#[derive(Debug, Clone, Serialize)]
pub struct Answers {
    /// Inputs that both answered.
    pub compared: usize,
    /// Of them those whose answers differ beyond the tolerance, or in their form.
    pub differing: usize,
    /// Of the differing those that differ in their form: other keys, other shape, a number against a text, NaN.
    pub of_other_form: usize,
    /// Inputs that at least one did not answer with 2xx.
    pub unanswered: usize,
    /// What was allowed.
    pub tolerance: Tolerance,
    /// Largest difference of two numbers.
    pub max_absolute: f64,
    /// Largest difference in parts of the baseline's number (which must not be zero).
    pub max_relative: f64,
    /// Share of answers within the tolerance, 0 to 1, with its interval (Clopper and Pearson).
    pub agreement: Estimate,
    /// Share of rows whose largest number is at the same place, where answers are rows of at least two numbers.
    pub top1: Option<Estimate>,
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
    /// What the baseline said there, shortened.
    pub base: String,
    /// What the other said.
    pub other: String,
    /// By how much, where both are numbers.
    pub difference: Option<f64>,
}

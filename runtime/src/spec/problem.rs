//! Problems of a text: all of them at once, each with its place.

use std::fmt;

use serde::Serialize;

/// A position in a text. Both numbers start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character within the line.
    pub column: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The place where it is written; none for what is missing from a whole file or came from the command line.
    pub place: Option<Place>,
    /// The path of the field as it was written, such as `scale.instance_count`; empty for the file as a whole.
    pub field: String,
    /// A sentence that says what was expected and what was found.
    pub message: String,
    /// The word that the user may have meant, when one is near.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}

/// All problems of one text, in the order in which they stand there.
///
/// Prints one line each: `blue.yml:7:3: scale.instance_count: expected 1 to 50, found 0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecError {
    /// The name of the file, or of whatever else the text came from.
    pub file: String,
    /// Problems; never empty.
    pub problems: Vec<Problem>,
}

impl SpecError {
    /// The result of a reading, or its problems if there are any.
    pub(crate) fn unless_clean<T>(
        file: &str,
        read: Option<T>,
        problems: Vec<Problem>,
    ) -> Result<T, Self> {
        match read {
            Some(read) if problems.is_empty() => Ok(read),
            _ => Err(Self::new(file, problems)),
        }
    }

    /// Orders `problems` by place; those without one come last.
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "an error has a problem");
        problems.sort_by_key(|problem| (problem.place.is_none(), problem.place));
        Self {
            file: file.to_owned(),
            problems,
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&self.file)?;
            if let Some(place) = problem.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            write!(f, ": {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

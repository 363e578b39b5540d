//! One assignment of the command line, checked and kept as it was typed: what it means depends on flags beside it.

use std::str::FromStr;

use crate::spec::{Assignment, SetError};

/// One `path=value`, as it was typed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SetText(String);

impl FromStr for SetText {
    type Err = SetError;

    fn from_str(text: &str) -> Result<Self, SetError> {
        Assignment::parse(text).map(|_| Self(text.to_owned()))
    }
}

impl SetText {
    /// The words as they were typed.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

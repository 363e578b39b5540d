//! Scoring scripts as the router sees them: heads of requests, made for them alone, and what their answers say of a deployment.
//!
//! Pure. Not here: which heads go to a script and come from it (`serve`), the process that runs it (`engine`).

use std::fmt::{self, Write as _};

use serde::Deserialize;

use crate::engine::{RequestHead, ResponseHead, Scored};
use crate::observe::Outcome;

/// Longest words of a script that are repeated, in characters.
const WORDS_LEN_MAX: usize = 200;
/// Longest body of an answer that is looked at as JSON.
const JSON_LEN_MAX: usize = 4096;

/// The head of a request, which is made where a scoring script is to read it. Models read none, and cost none.
pub trait MakesHead: fmt::Debug + Sync {
    /// Copies what a script may know.
    fn request_head(&self) -> RequestHead;
}

/// The status of an answer: that of the script, or 200 where it gave none.
pub(super) fn status(scored: &Scored) -> u16 {
    scored.head.as_ref().map_or(200, |head| head.status)
}

/// How a request ended whose answer has this status. A script that refuses may be right or wrong, as a model may; a status that none
/// can have for an answer is the script's fault.
pub(super) fn outcome(status: u16) -> Outcome {
    match status {
        200..400 => Outcome::Ok,
        400..500 => Outcome::RejectedByModel,
        _ => Outcome::ModelError,
    }
}

/// An answer of a scoring script in a few words, for the log and for who asks why a deployment is degraded.
#[derive(Debug)]
pub struct ScriptWords<'a> {
    /// The status that it gave.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> ScriptWords<'a> {
    /// The words of an answer.
    #[must_use]
    pub fn of(head: Option<&ResponseHead>, body: &'a [u8]) -> Self {
        Self {
            status: head.map_or(200, |head| head.status),
            body,
        }
    }
}

impl fmt::Display for ScriptWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the scoring script answered with status {}", self.status)?;
        let text = message(self.body);
        let mut words = text.split_whitespace().flat_map(|word| [" ", word]);
        if words.next().is_none() {
            return Ok(());
        }
        f.write_str(": ")?;
        let mut left = words.flat_map(str::chars);
        for character in left.by_ref().take(WORDS_LEN_MAX) {
            let is_plain = !character.is_control();
            f.write_char(if is_plain { character } else { '?' })?;
        }
        match left.next() {
            Some(_) => f.write_str(".."),
            None => Ok(()),
        }
    }
}

/// The message in an answer, where it is `{"message": ..}`, else the beginning of its text.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        message: String,
    }
    if body.len() <= JSON_LEN_MAX
        && let Ok(told) = serde_json::from_slice::<Told>(body)
    {
        return told.message;
    }
    String::from_utf8_lossy(body.get(..JSON_LEN_MAX).unwrap_or(body)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(body: &[u8]) -> String {
        ScriptWords { status: 500, body }.to_string()
    }

    #[test]
    fn a_script_that_refuses_is_not_at_fault_and_one_that_fails_or_answers_nonsense_is() {
        for (status, expected) in [
            (200, Outcome::Ok),
            (204, Outcome::Ok),
            (302, Outcome::Ok),
            (399, Outcome::Ok),
            (400, Outcome::RejectedByModel),
            (499, Outcome::RejectedByModel),
            (500, Outcome::ModelError),
            (599, Outcome::ModelError),
            (0, Outcome::ModelError),
            (101, Outcome::ModelError),
            (199, Outcome::ModelError),
            (600, Outcome::ModelError),
            (u16::MAX, Outcome::ModelError),
        ] {
            assert_eq!(outcome(status), expected, "{status}");
        }
    }

    #[test]
    fn what_a_script_says_is_told_in_one_short_line_that_does_nothing_to_a_terminal() {
        let says = "the scoring script answered with status 500";
        assert_eq!(words(b""), says);
        assert_eq!(words(b" \n "), says);
        let told = words(br#"{"message": "no\nluck"}"#);
        assert_eq!(told, format!("{says}: no luck"));
        assert_eq!(
            words(b"\x1b[2Jgone\xff"),
            format!("{says}: ?[2Jgone\u{fffd}")
        );
        let long = words("\u{e4} ".repeat(9999).as_bytes());
        assert_eq!(long.chars().count(), says.len() + 2 + WORDS_LEN_MAX + 2);
        assert!(long.ends_with(".."), "{long}");
        let exact = "x".repeat(WORDS_LEN_MAX);
        assert_eq!(words(exact.as_bytes()), format!("{says}: {exact}"));
    }
}

//! What ONNX Runtime warns of in a child process, on its way to the server: lines of the child's standard error with a mark.
//!
//! Threads: any of the child's; in the server the one that hears the child.

use std::fmt::Display;
use std::io::{Write as _, stderr};
use std::sync::Arc;

use crate::observe::{NoteKeeper, NoteOn, give_notes_to};

/// The mark of such a line.
const MARK: &str = "onnxruntime: ";

#[derive(Debug)]
struct ToParent;

impl NoteKeeper for ToParent {
    fn keep(&self, _deployment: &str, _on: NoteOn, words: &dyn Display) {
        let words = words.to_string().replace(['\n', '\r'], " ");
        // A server that has gone hears nothing.
        drop(writeln!(stderr().lock(), "{MARK}{words}"));
    }
}

/// Tells the parent of this process what ONNX Runtime warns of.
pub(super) fn tell_parent() {
    give_notes_to(Some(Arc::new(ToParent)));
}

/// The warning in a line of a child, where it is one.
pub(super) fn warning_of_child(line: &str) -> Option<&str> {
    line.strip_prefix(MARK)
}

/// What a child has printed: its warnings, and all other lines as they are.
pub(super) fn split_warnings(words: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut warnings = Vec::new();
    let mut others = Vec::new();
    for line in words.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(MARK.as_bytes()) {
            Some(warning) => warnings.push(String::from_utf8_lossy(warning).trim_end().to_owned()),
            None => others.extend_from_slice(line),
        }
    }
    (warnings, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warnings_of_a_child_are_no_last_words_of_it() {
        let heard = b"onnxruntime: odd\nterminate called\nonnxruntime: \xff\nlast";
        let (warnings, others) = split_warnings(heard);
        assert_eq!(warnings, ["odd", "\u{fffd}"]);
        assert_eq!(others, b"terminate called\nlast");
        assert_eq!(warning_of_child("onnxruntime: odd"), Some("odd"));
        assert_eq!(warning_of_child("its onnxruntime: odd"), None);
    }
}

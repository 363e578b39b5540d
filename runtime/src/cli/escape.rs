//! Text that comes from files, models and other people, made fit for a terminal. Pure.
//!
//! A name in a file may hold what moves the cursor, changes the colours, or turns the order of letters round so that a line reads as
//! another one. Such characters are shown by their number.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Lines of text: all but their ends is made harmless.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_told_by_number(c), word)
}

/// One line of text, or one cell of a table.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_told_by_number, word)
}

/// JSON in another spelling that means the same.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    // What stands below is white space between values: in strings it is spelled like this already.
    let is_bare = |c: char| c >= '\u{7f}' && is_told_by_number(c);
    escaped(text, is_bare, |c| format!("\\u{:04x}", u32::from(c)))
}

/// Whether a character speaks to the terminal, or turns the order of others round.
fn is_told_by_number(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    // A line or a paragraph ends there, for some.
    let ends = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || turns || ends
}

/// The character as it would be written in a program.
fn word(c: char) -> String {
    match c {
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        c if c.is_ascii() => format!("\\x{:02x}", u32::from(c)),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    }
}

fn escaped(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    spelled: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut harmless = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            harmless.push_str(&spelled(c));
        } else {
            harmless.write_char(c).expect("text takes any text");
        }
    }
    Cow::Owned(harmless)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_speaks_to_a_terminal_is_told_by_its_number() {
        let hostile = "a\u{1b}[2J\u{7}\r\u{9b}31m\u{202e}b\tc\nd";
        assert_eq!(
            lines(hostile),
            "a\\x1b[2J\\x07\\r\\u{9b}31m\\u{202e}b\\tc\nd"
        );
        assert_eq!(line("c\nd"), "c\\nd");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let text = "modèle \u{2588} 日本 \\x1b 🦀\n";
        assert!(matches!(lines(text), Cow::Borrowed(_)));
        assert_eq!(lines(text), text);
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_speaks_to_no_terminal(text: String, turned in "[a\u{7f}\u{80}-\u{9f}\u{202a}-\u{202e}\u{2028}]{0,8}") {
            let value = Value::from(format!("{text}{turned}"));
            let spelled = json(&format!("{value:#}")).into_owned();
            prop_assert!(!spelled.contains(is_told_by_number), "{spelled:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&spelled).unwrap(), value);
        }

        #[test]
        fn no_text_speaks_to_the_terminal(text: String) {
            prop_assert!(!line(&text).contains(is_told_by_number));
            prop_assert!(!lines(&text).contains(|c| c != '\n' && is_told_by_number(c)));
        }
    }
}

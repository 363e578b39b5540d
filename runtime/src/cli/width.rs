//! The width that a table may have, and text that keeps to it.

use std::env;
use std::io;

use rustix::termios::tcgetwinsize;

use super::output;

/// Narrower than this nothing is told apart.
const NARROWEST: usize = 20;

/// Columns of the terminal that results go to: `COLUMNS`, else what it says. None where nobody bounds a line.
pub(super) fn of_output() -> Option<usize> {
    let asked = env::var("COLUMNS").ok();
    let asked = asked.and_then(|columns| columns.parse::<usize>().ok());
    let seen = || {
        let size = output::is_terminal().then(|| tcgetwinsize(io::stdout()));
        Some(usize::from(size?.ok()?.ws_col))
    };
    let width = asked.filter(|columns| *columns > 0).or_else(seen);
    width
        .filter(|columns| *columns > 0)
        .map(|columns| columns.max(NARROWEST))
}

/// A line, and what is said of it set in below, where there is no place for columns.
pub(super) fn block(head: &str, below: &str, width: usize) -> String {
    let below = wrapped(below, Some(width - 2));
    let below = below.into_iter().map(|line| format!("  {line}"));
    let lines = wrapped(head, Some(width)).into_iter().chain(below);
    lines.map(|line| line + "\n").collect()
}

/// Lines of at most so many characters, ended between words where one fits, within a word where none does.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.map(|width| width.max(1)) else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let long = word.chars().count();
        if used > 0 && used + 1 + long > width {
            lines.push(String::new());
            used = 0;
        }
        let line = lines.last_mut().expect("there is a line");
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        let mut left = word;
        while used + left.chars().count() > width {
            let end = left.char_indices().nth(width - used);
            let (head, tail) = left.split_at(end.map_or(left.len(), |(end, _)| end));
            lines.last_mut().expect("there is a line").push_str(head);
            lines.push(String::new());
            (left, used) = (tail, 0);
        }
        lines.last_mut().expect("there is a line").push_str(left);
        used += left.chars().count();
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_between_words_where_one_fits() {
        assert_eq!(
            wrapped("blue 90 -> 100, green", Some(10)),
            ["blue 90 ->", "100, green"]
        );
        assert_eq!(wrapped("abcdefg h", Some(3)), ["abc", "def", "g h"]);
        assert_eq!(wrapped("a b", None), ["a b"]);
        assert_eq!(wrapped("", Some(5)), [""]);
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_character_is_lost(text in "[a-z€ ]{0,60}", width in 1_usize..12) {
            let lines = wrapped(&text, Some(width));
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}

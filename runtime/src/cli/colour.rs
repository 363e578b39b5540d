//! Colours of `-o jsonc` and `-o yamlc`, where a terminal shows them. Pure.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

const KEY: Style = AnsiColor::Blue.on_default().bold();
const TEXT: Style = AnsiColor::Yellow.on_default();

/// JSON with its keys and texts in colours.
pub(super) fn json(text: &str) -> String {
    let mut coloured = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some(begin) = rest.find('"') {
        let (before, from) = rest.split_at(begin);
        let (string, after) = from.split_at(end_of_string(from));
        let style = match after.starts_with(':') {
            true => KEY,
            false => TEXT,
        };
        coloured.push_str(before);
        write!(coloured, "{style}{string}{style:#}").expect("text takes any text");
        rest = after;
    }
    coloured + rest
}

/// The end of a string that a text begins with, its quotes included.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = true;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// YAML as `yaml` writes it, with its keys in colours.
pub(super) fn yaml(text: &str) -> String {
    let line = |line: &str| {
        let begin = line.find(|c| !matches!(c, ' ' | '-')).unwrap_or(0);
        let (indent, rest) = line.split_at(begin);
        let key = match rest.starts_with('"') {
            true => end_of_string(rest),
            false => rest.find(": ").unwrap_or(rest.len().saturating_sub(1)),
        };
        let (key, value) = rest.split_at(key);
        match value.starts_with(':') {
            true => format!("{indent}{KEY}{key}{KEY:#}{value}\n"),
            false => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(coloured: &str) -> String {
        let codes = [format!("{KEY}"), format!("{TEXT}"), format!("{KEY:#}")];
        let codes = codes.iter();
        codes.fold(coloured.to_owned(), |text, code| text.replace(code, ""))
    }

    #[test]
    fn colours_change_no_letter_and_tell_keys_from_texts() {
        let text = "{\n  \"a\\\"b\": \"c: \\\\\",\n  \"n\": [\n    1\n  ]\n}\n";
        let coloured = json(text);
        assert_eq!(plain(&coloured), text);
        assert!(
            coloured.contains(&format!("{KEY}\"n\"{KEY:#}:")),
            "{coloured}"
        );
        assert!(
            coloured.contains(&format!("{TEXT}\"c: \\\\\"{TEXT:#}")),
            "{coloured}"
        );
    }

    #[test]
    fn the_keys_of_yaml_have_a_colour() {
        let text = "name: iris\nlist:\n- \"a: b\": 1\n- text\n- {}\n";
        let coloured = yaml(text);
        assert_eq!(plain(&coloured), text);
        assert!(
            coloured.contains(&format!("{KEY}list{KEY:#}:")),
            "{coloured}"
        );
        assert!(
            coloured.contains(&format!("- {KEY}\"a: b\"{KEY:#}: 1")),
            "{coloured}"
        );
        assert!(coloured.contains("\n- text\n- {}\n"), "{coloured}");
    }
}

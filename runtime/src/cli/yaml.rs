//! Results as YAML, in the block form that `az` prints. Pure.
//!
//! A text stands bare only where no reader could take it for something else; all others stand in quotes, spelled as in JSON.

use std::borrow::Cow;

use serde_json::Value;

use super::escape;

/// Words that some reader takes for a truth value or for nothing.
const RESERVED: &[&str] = &[
    "false", "n", "nan", "no", "null", "off", "on", "true", "y", "yes",
];

/// A result as a document.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(entries) if !entries.is_empty() => list(entries, 0, &mut text),
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                field(key, value, 0, &mut text);
            }
        }
        scalar => {
            text.push_str(&flat(scalar));
            text.push('\n');
        }
    }
    text
}

/// `key: value`, or the key and its block below.
fn field(key: &str, value: &Value, indent: usize, text: &mut String) {
    text.push_str(&" ".repeat(indent));
    text.push_str(&word(key));
    text.push(':');
    match value {
        Value::Array(entries) if !entries.is_empty() => {
            text.push('\n');
            list(entries, indent, text);
        }
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            for (key, value) in fields {
                field(key, value, indent + 2, text);
            }
        }
        scalar => {
            text.push(' ');
            text.push_str(&flat(scalar));
            text.push('\n');
        }
    }
}

/// Entries, each behind a dash; a block in one begins behind its dash.
fn list(entries: &[Value], indent: usize, text: &mut String) {
    for entry in entries {
        let mut block = String::new();
        match entry {
            Value::Array(entries) if !entries.is_empty() => list(entries, indent + 2, &mut block),
            Value::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    field(key, value, indent + 2, &mut block);
                }
            }
            scalar => block = format!("{}{}\n", " ".repeat(indent + 2), flat(scalar)),
        }
        text.push_str(&" ".repeat(indent));
        text.push_str("- ");
        text.push_str(block.trim_start_matches(' '));
    }
}

/// What fits on the line of its key.
fn flat(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => word(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string().into(),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
    }
}

/// A text, in quotes where it could be taken for something else.
fn word(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return text.into();
    }
    let quoted = Value::from(text).to_string();
    escape::json(&quoted).into_owned().into()
}

fn is_plain(text: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "_./@+(),=-".contains(c);
    let mut chars = text.chars().peekable();
    if !chars.next().is_some_and(begins) || RESERVED.contains(&&*text.to_ascii_lowercase()) {
        return false;
    }
    while let Some(c) = chars.next() {
        // A colon ends a key, and a space may end the text, where nothing else follows.
        let is_fine = match c {
            ':' | ' ' => chars.peek().copied().is_some_and(goes_on),
            c => goes_on(c),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::spec::read_endpoint;

    #[test]
    fn blocks_stand_as_az_prints_them() {
        let value = json!({
            "name": "iris",
            "tags": {},
            "traffic": {"blue": 90},
            "deployments": [{"name": "blue", "count": 1.5}, [1, [2]], {}],
            "none": null,
        });
        assert_eq!(
            document(&value),
            "name: iris\ntags: {}\ntraffic:\n  blue: 90\ndeployments:\n- name: blue\n  count: 1.5\n- - 1\n  - - 2\n- {}\nnone: null\n"
        );
        assert_eq!(document(&json!("Succeeded")), "Succeeded\n");
        assert_eq!(document(&json!([])), "[]\n");
    }

    /// The text as a reader of YAML takes it.
    fn read_back(text: &str) -> Option<String> {
        let endpoint = json!({"name": "iris", "description": text});
        let read = read_endpoint(&document(&endpoint), "e.yml", &[]);
        read.ok()?.spec.description
    }

    #[test]
    fn a_text_that_looks_like_something_else_stands_in_quotes() {
        for text in [
            "true",
            "No",
            "12",
            "1e3",
            "~",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "- a",
            "0x1f",
            "2026-01-01",
            "{}",
            "!a",
            "&a",
            "*a",
            "'a'",
            "\"",
            "a\nb",
            "\u{85}",
            "\u{7f}",
        ] {
            assert_eq!(read_back(text).as_deref(), Some(text), "{}", word(text));
        }
        assert_eq!(word("azureml:digits:1"), "azureml:digits:1");
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was(text in any::<String>()) {
            prop_assert_eq!(read_back(&text), Some(text));
        }
    }
}

//! The words for what a change has changed: `instance_count: 3 -> 5`. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// Longest value that is told whole.
const VALUE_CHARS_MAX: usize = 60;

/// Fields that say how far a change is, and those that follow from others.
const SILENT: &[&str] = &[
    "createdAt",
    "createdBy",
    "creation_context",
    "id",
    "lastModifiedAt",
    "provisioning_state",
];

/// A line for each value that differs between two forms of the same thing; one that says so where none does.
pub(super) fn told(before: &Value, after: &Value) -> String {
    let (before, after) = (leaves(before), leaves(after));
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let changed = paths.into_iter().filter_map(|path| {
        let (old, new) = (before.get(path), after.get(path));
        (old != new).then(|| format!("  {path}: {} -> {}\n", word(old), word(new)))
    });
    let lines: String = changed.collect();
    match lines.is_empty() {
        true => "nothing has changed: it was like this already\n".to_owned(),
        false => lines,
    }
}

fn word(value: Option<&String>) -> String {
    let Some(value) = value else {
        return "none".to_owned();
    };
    match value.chars().count() > VALUE_CHARS_MAX {
        true => value
            .chars()
            .take(VALUE_CHARS_MAX)
            .chain(['.', '.'])
            .collect(),
        false => value.clone(),
    }
}

/// Every value by its path; entries of lists by their names, or else by their numbers.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    gather("", value, &mut found);
    found
}

fn gather(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) => {
            let told = fields
                .iter()
                .filter(|(key, _)| !SILENT.contains(&key.as_str()));
            told.for_each(|(key, value)| gather(&below(key), value, found));
        }
        Value::Array(entries) => {
            for (at, entry) in entries.iter().enumerate() {
                match entry["name"].as_str() {
                    Some(name) => gather(&below(name), entry, found),
                    None => gather(&format!("{path}[{at}]"), entry, found),
                }
            }
        }
        Value::String(text) => {
            found.insert(path.to_owned(), text.clone());
        }
        Value::Null => {}
        scalar => {
            found.insert(path.to_owned(), scalar.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_value_that_differs_is_told_as_it_was_and_as_it_is() {
        let before = json!({"traffic": {"blue": 100}, "provisioning_state": "Updating", "deployments": [
            {"name": "blue", "instance_count": 3, "tags": {"a": "1"}}, {"name": "red", "instance_count": 1},
        ]});
        let after = json!({"traffic": {"blue": 90, "green": 10}, "provisioning_state": "Succeeded", "deployments": [
            {"name": "blue", "instance_count": 5, "tags": {}},
        ]});
        assert_eq!(
            told(&before, &after),
            "  deployments.blue.instance_count: 3 -> 5\n  deployments.blue.tags.a: 1 -> none\n  \
             deployments.red.instance_count: 1 -> none\n  deployments.red.name: red -> none\n  traffic.blue: 100 -> 90\n  \
             traffic.green: none -> 10\n"
        );
    }

    #[test]
    fn a_change_of_nothing_says_so() {
        let same = json!({"a": [1, {"b": null}]});
        assert_eq!(
            told(&same, &same),
            "nothing has changed: it was like this already\n"
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        let after = json!({"description": "x".repeat(1000)});
        assert!(told(&json!({}), &after).len() < 100);
    }
}

//! The bounds of what a spec says to people: it is stored again with every revision, and sent with every `show`.
//!
//! Not here: bounds of what has a meaning, which the readers of files judge. These are judged of a change alone, so that what was
//! stored before there were bounds can be read, and changed in all else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DeploymentSpec, EndpointSpec};
use crate::config::{
    DESCRIPTION_BYTES_MAX, SPEC_BYTES_MAX, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX,
};

/// What a spec says to people.
struct Texts<'a> {
    description: Option<&'a str>,
    tags: &'a BTreeMap<String, String>,
    properties: &'a BTreeMap<String, String>,
    /// Of the whole in its stored form.
    bytes: usize,
}

impl EndpointSpec {
    /// All that is longer than may be, in sentences; what is no longer than `before` is left in peace.
    #[must_use]
    pub fn problems_of_size(&self, before: Option<&Self>) -> Vec<String> {
        problems(&self.texts(), before.map(Self::texts).as_ref())
    }

    fn texts(&self) -> Texts<'_> {
        Texts {
            description: self.description.as_deref(),
            tags: &self.tags,
            properties: &self.properties,
            bytes: bytes(self),
        }
    }
}

impl DeploymentSpec {
    /// All that is longer than may be, in sentences; what is no longer than `before` is left in peace.
    #[must_use]
    pub fn problems_of_size(&self, before: Option<&Self>) -> Vec<String> {
        problems(&self.texts(), before.map(Self::texts).as_ref())
    }

    fn texts(&self) -> Texts<'_> {
        Texts {
            description: self.description.as_deref(),
            tags: &self.tags,
            properties: &self.properties,
            bytes: bytes(self),
        }
    }
}

fn bytes(spec: &impl Serialize) -> usize {
    let json = serde_json::to_vec(spec).expect("a spec has a JSON form");
    json.len()
}

fn problems(new: &Texts<'_>, before: Option<&Texts<'_>>) -> Vec<String> {
    let mut problems = Vec::new();
    let known = before.and_then(|before| before.description);
    if let Some(description) = new.description
        && description.len() > DESCRIPTION_BYTES_MAX.max(known.map_or(0, str::len))
    {
        problems.push(too_long(
            "description",
            DESCRIPTION_BYTES_MAX,
            description.len(),
        ));
    }
    let nothing = BTreeMap::new();
    let tags = before.map_or(&nothing, |before| before.tags);
    problems_of_map("tags", new.tags, tags, &mut problems);
    let properties = before.map_or(&nothing, |before| before.properties);
    problems_of_map("properties", new.properties, properties, &mut problems);
    // One of the others may be the reason, and has better words.
    if problems.is_empty() && new.bytes > SPEC_BYTES_MAX.max(before.map_or(0, |one| one.bytes)) {
        problems.push(too_long("all of it as JSON", SPEC_BYTES_MAX, new.bytes));
    }
    problems
}

fn problems_of_map(
    field: &str,
    new: &BTreeMap<String, String>,
    before: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) {
    if new.len() > TAGS_MAX.max(before.len()) {
        let count = new.len();
        problems.push(format!(
            "{field}: expected at most {TAGS_MAX}, found {count}"
        ));
        return;
    }
    for (name, value) in new {
        let known = before.get(name);
        if known.is_none() && name.len() > TAG_NAME_BYTES_MAX {
            let field = format!("{field}: the name {:?}..", beginning(name));
            problems.push(too_long(&field, TAG_NAME_BYTES_MAX, name.len()));
        }
        if value.len() > TAG_VALUE_BYTES_MAX.max(known.map_or(0, String::len)) {
            let field = format!("{field}.{}", beginning(name));
            problems.push(too_long(&field, TAG_VALUE_BYTES_MAX, value.len()));
        }
    }
}

/// As much of a name as a sentence bears.
fn beginning(name: &str) -> String {
    name.chars().take(40).collect()
}

fn too_long(field: &str, bytes_max: usize, found: usize) -> String {
    format!("{field}: expected at most {bytes_max} bytes, found {found}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoint(more: serde_json::Value) -> EndpointSpec {
        let mut spec = json!({"name": "iris"});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[track_caller]
    fn check(more: serde_json::Value, problems: &[&str]) {
        let spec = endpoint(more);
        assert_eq!(spec.problems_of_size(None), problems);
        // What is stored already may stay as it is.
        assert!(spec.problems_of_size(Some(&spec)).is_empty());
    }

    #[test]
    fn what_is_too_long_is_told_with_its_bound() {
        check(json!({"description": "x".repeat(4096)}), &[]);
        check(
            json!({"description": "\u{e8}".repeat(2049)}),
            &["description: expected at most 4096 bytes, found 4098"],
        );
        let many: BTreeMap<String, String> =
            (0..51).map(|no| (no.to_string(), String::new())).collect();
        check(
            json!({"tags": many, "properties": {"note": "x".repeat(1025)}}),
            &[
                "tags: expected at most 50, found 51",
                "properties.note: expected at most 1024 bytes, found 1025",
            ],
        );
        let name = "n".repeat(513);
        check(
            json!({"tags": {name: ""}}),
            &[&format!(
                "tags: the name {:?}..: expected at most 512 bytes, found 513",
                "n".repeat(40)
            )],
        );
        check(
            json!({"identity": {"type": "x".repeat(SPEC_BYTES_MAX)}}),
            &["all of it as JSON: expected at most 131072 bytes, found 131110"],
        );
    }

    #[test]
    fn what_was_longer_before_may_get_shorter_and_not_longer() {
        let of = |length: usize| {
            let text = "x".repeat(length);
            endpoint(json!({"description": text, "tags": {"a": text}}))
        };
        let before = of(9000);
        assert!(of(8000).problems_of_size(Some(&before)).is_empty());
        assert_eq!(of(9001).problems_of_size(Some(&before)).len(), 2);
    }
}

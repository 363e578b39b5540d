//! `--set`, `--add`, `--remove` and `--force-string` of an update, as assignments. Pure, but for paths seen from here.
//!
//! The server knows assignments alone. What is added to a list or a mapping, or taken from one, is worked out on what it
//! shows, and the whole list or mapping is assigned.

use serde_json::{Map, Value};

use super::args::Edits;
use super::exit::CliError;
use super::files;
use super::server::Server;
use super::set_text::SetText;
use crate::control::Revision;
use crate::spec::Assignment;

impl Edits {
    /// The revision of what is there, where the edits are worked out on that.
    pub(super) fn revision_of(&self, server: &Server) -> Result<Option<Revision>, CliError> {
        match self.depend_on_what_is() {
            true => Ok(Some(server.client.status()?.revision)),
            false => Ok(None),
        }
    }
}

/// Assignments as they were typed; paths are seen from here.
pub(super) fn assignments(set: &[SetText], as_text: bool) -> Result<Vec<Assignment>, CliError> {
    let read = |typed: &SetText| match typed.text().split_once('=') {
        Some((path, value)) if as_text => Assignment::new(path, value.into()),
        _ => Assignment::parse(typed.text()).ok(),
    };
    files::typed_here(set.iter().filter_map(read).collect())
}

/// The same for tags, which are given without the path of their mapping.
pub(super) fn tags(tags: &[SetText]) -> Vec<Assignment> {
    let read = |typed: &SetText| Assignment::parse(&format!("tags.{}", typed.text())).ok();
    tags.iter().filter_map(read).collect()
}

/// A part of a path: a key, or the number of an entry.
fn parts(path: &str) -> Vec<String> {
    let dotted = path.replace('[', ".").replace(']', "");
    dotted.split('.').map(str::to_owned).collect()
}

/// The number of parts that name a whole attribute: the rest is within it.
fn attribute(parts: &[String]) -> usize {
    match parts.first().map(String::as_str) {
        Some("deployments") => 3,
        _ => 1,
    }
    .min(parts.len())
}

/// What is shown of the thing that is edited, with the edits so far.
#[derive(Debug)]
pub(super) struct Edited {
    shown: Value,
    touched: Vec<String>,
}

impl Edited {
    pub(super) fn of(shown: Value) -> Self {
        Self {
            shown,
            touched: Vec::new(),
        }
    }

    /// Takes over what is assigned beside the edits, so that these do not undo it.
    pub(super) fn set(&mut self, assignments: &[Assignment]) {
        for assignment in assignments {
            let parts = parts(assignment.path());
            if let Ok(place) = place(&mut self.shown, &parts, assignment.path()) {
                *place = assignment.value().clone();
            }
        }
    }

    /// Adds entries: `--add PATH KEY=VALUE ..` or `--add PATH VALUE`.
    pub(super) fn add(&mut self, words: &[String], as_text: bool) -> Result<(), CliError> {
        let mut words = words.iter().peekable();
        while let Some(path) = words.next() {
            let mut pairs = Map::new();
            let mut values = Vec::new();
            while let Some(word) = words.peek() {
                match word.split_once('=') {
                    Some((key, value)) if !word.starts_with(['{', '[', '"']) => {
                        pairs.insert(key.to_owned(), read(value, as_text));
                    }
                    _ if values.is_empty() && pairs.is_empty() => values.push(read(word, as_text)),
                    _ => break,
                }
                words.next();
            }
            self.add_to(path, pairs, values)?;
        }
        Ok(())
    }

    fn add_to(
        &mut self,
        path: &str,
        mut pairs: Map<String, Value>,
        mut values: Vec<Value>,
    ) -> Result<(), CliError> {
        let parts = parts(path);
        if let ([Value::Object(fields)], true) = (values.as_mut_slice(), is_of_pairs(&parts)) {
            pairs.append(fields);
            values.clear();
        }
        if pairs.is_empty() && values.is_empty() {
            return Err(refused(format!(
                "--add {path}: expected what is to be added behind the path: `--add tags team=vision`"
            )));
        }
        let place = place(&mut self.shown, &parts, path)?;
        match place {
            Value::Object(fields) if values.is_empty() => fields.extend(pairs),
            Value::Null if values.is_empty() && is_of_pairs(&parts) => *place = pairs.into(),
            Value::Array(_) | Value::Null => {
                if !pairs.is_empty() {
                    values.push(pairs.into());
                }
                match place {
                    Value::Array(entries) => entries.append(&mut values),
                    place => *place = values.into(),
                }
            }
            other => {
                return Err(refused(format!(
                    "--add {path}: expected a list or a mapping there, found {other}"
                )));
            }
        }
        self.touch(&parts);
        Ok(())
    }

    /// Takes attributes away: `--remove PATH`, or `--remove PATH NUMBER` for an entry of a list.
    pub(super) fn remove(&mut self, words: &[String]) -> Result<(), CliError> {
        let mut words = words.iter().peekable();
        while let Some(path) = words.next() {
            let mut parts = parts(path);
            if let Some(number) = words.next_if(|word| word.parse::<usize>().is_ok()) {
                parts.push(number.clone());
            }
            let Some((last, above)) = parts.split_last() else {
                continue;
            };
            let removed = match place(&mut self.shown, above, path)? {
                Value::Object(fields) => fields.shift_remove(last),
                Value::Array(entries) => {
                    let at = last.parse().ok().filter(|at| *at < entries.len());
                    at.map(|at: usize| entries.remove(at))
                }
                _ => None,
            };
            if removed.is_none() {
                return Err(refused(format!(
                    "--remove {path}: nothing is there; `show` prints what is"
                )));
            }
            self.touch(&parts);
        }
        Ok(())
    }

    fn touch(&mut self, parts: &[String]) {
        let path = parts[..attribute(parts)].join(".");
        if !self.touched.contains(&path) {
            self.touched.push(path);
        }
    }

    /// All of it, as it is after the edits.
    pub(super) fn whole(self) -> Value {
        self.shown
    }

    /// The attributes that were edited, whole.
    pub(super) fn assignments(mut self) -> Vec<Assignment> {
        let touched = std::mem::take(&mut self.touched);
        let assign = |path: String| {
            let parts = parts(&path);
            let value = place(&mut self.shown, &parts, &path).ok()?.take();
            Assignment::new(&path, value)
        };
        touched.into_iter().filter_map(assign).collect()
    }
}

/// Whether a mapping from names to texts is kept at a path.
fn is_of_pairs(parts: &[String]) -> bool {
    let last = parts.last().map(String::as_str);
    matches!(last, Some("tags" | "properties" | "environment_variables"))
}

fn read(word: &str, as_text: bool) -> Value {
    let json = serde_json::from_str(word).ok().filter(|_| !as_text);
    json.unwrap_or_else(|| word.into())
}

/// The value at a path; what is not there yet is nothing.
fn place<'a>(root: &'a mut Value, parts: &[String], path: &str) -> Result<&'a mut Value, CliError> {
    if parts.iter().any(String::is_empty) {
        return Err(refused(format!(
            "expected the path of an attribute such as tags, found {path:?}"
        )));
    }
    let mut at = root;
    for part in parts {
        let nowhere = || refused(format!("{path}: the path leads nowhere at {part:?}"));
        at = match at {
            Value::Array(entries) => {
                let by_name = |entry: &Value| entry["name"] == part.as_str();
                let number = part.parse().ok();
                let found = number.or_else(|| entries.iter().position(by_name));
                found
                    .and_then(|at: usize| entries.get_mut(at))
                    .ok_or_else(nowhere)?
            }
            Value::Object(fields) => fields.entry(part.as_str()).or_insert(Value::Null),
            Value::Null => {
                *at = Value::Object(Map::new());
                at.as_object_mut()
                    .map(|fields| fields.entry(part.as_str()).or_insert(Value::Null))
                    .ok_or_else(nowhere)?
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(nowhere()),
        };
    }
    Ok(at)
}

fn refused(words: String) -> CliError {
    CliError::BadInput(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(add: &str, remove: &str, expected: Value) {
        let mut edited = Edited::of(json!({
            "tags": {"team": "a", "step": "1"},
            "description": "d",
            "identity": {"user_assigned_identities": [{"resource_id": "x"}]},
            "deployments": {"blue": {"tags": {"a": "b"}}},
        }));
        edited.add(&words(add), false).unwrap();
        edited.remove(&words(remove)).unwrap();
        let assigned = serde_json::to_value(edited.assignments()).unwrap();
        assert_eq!(assigned, expected);
    }

    #[test]
    fn what_is_removed_is_gone_and_the_rest_of_its_attribute_stays() {
        check(
            "",
            "tags.team",
            json!([{"path": "tags", "value": {"step": "1"}}]),
        );
        check(
            "",
            "description",
            json!([{"path": "description", "value": null}]),
        );
        check(
            "",
            "deployments.blue.tags.a identity.user_assigned_identities 0",
            json!([
                {"path": "deployments.blue.tags", "value": {}},
                {"path": "identity", "value": {"user_assigned_identities": []}},
            ]),
        );
    }

    #[test]
    fn what_is_added_joins_the_list_or_the_mapping() {
        check(
            "tags a=b c=d",
            "",
            json!([{"path": "tags", "value": {"team": "a", "step": "1", "a": "b", "c": "d"}}]),
        );
        check(
            "properties a=b",
            "",
            json!([{"path": "properties", "value": {"a": "b"}}]),
        );
        let id = json!({"user_assigned_identities": [{"resource_id": "x"}, {"resource_id": "y"}]});
        check(
            "identity.user_assigned_identities resource_id=y",
            "",
            json!([{"path": "identity", "value": id}]),
        );
    }

    #[test]
    fn an_edit_does_not_undo_what_is_set_beside_it() {
        let mut edited = Edited::of(json!({"tags": {"team": "a"}}));
        edited.set(&[Assignment::parse("tags.step=1.10").unwrap()]);
        edited.add(&words("tags a=b"), false).unwrap();
        let assigned = serde_json::to_value(edited.assignments()).unwrap();
        assert_eq!(
            assigned[0]["value"],
            json!({"team": "a", "step": "1.10", "a": "b"})
        );
    }

    #[test]
    fn an_object_joins_a_mapping_and_a_path_has_no_empty_part() {
        let mut edited = Edited::of(json!({"tags": {"a": "1"}}));
        edited.add(&words(r#"tags {"b":"2"}"#), false).unwrap();
        for path in ["", "tags.", ".tags", "[]"] {
            let added = edited.add(&[path.to_owned(), "x=y".to_owned()], false);
            assert!(added.is_err(), "{path:?}");
            assert!(edited.remove(&[path.to_owned()]).is_err(), "{path:?}");
        }
        assert_eq!(edited.whole(), json!({"tags": {"a": "1", "b": "2"}}));
    }

    #[test]
    fn an_edit_of_nothing_is_refused() {
        let mut edited = Edited::of(json!({"tags": {}, "description": "d"}));
        for (add, remove) in [
            ("tags", ""),
            ("description a=b", ""),
            ("", "tags.none"),
            ("", "a.b"),
            ("", "description.x"),
        ] {
            let outcome = edited
                .add(&words(add), false)
                .and_then(|()| edited.remove(&words(remove)));
            assert!(outcome.is_err(), "{add} {remove}");
        }
    }

    #[test]
    fn a_value_that_is_forced_to_be_a_text_is_no_number() {
        let set: SetText = "tags.version=1.10".parse().unwrap();
        let count: SetText = "instance_count=5".parse().unwrap();
        let read = |as_text| {
            serde_json::to_value(assignments(&[set.clone(), count.clone()], as_text).unwrap())
                .unwrap()
        };
        assert_eq!(read(false)[1]["value"], 5);
        assert_eq!(read(true)[1]["value"], "5");
        assert_eq!(read(true)[0]["value"], "1.10");
    }
}

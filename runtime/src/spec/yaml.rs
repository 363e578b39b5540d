//! YAML, read into a tree of values with places. The only file that names the YAML crate.
//!
//! Bounds on size, depth and aliases keep a hostile text from taking more than a moment.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, Location, Options, Spanned};

use super::node::{Content, Entries, Node, find, join};
use super::{Place, Problem, SpecError, placeholder};

/// Most values in one file, and most that its aliases may stand for. Azure's largest files have some hundreds.
const VALUES_MAX: usize = 10_000;
/// Deepest nesting of one file.
const DEPTH_MAX: usize = 32;

/// Reads a text that must hold one mapping.
///
/// # Errors
///
/// What keeps the text from being read at all, or every duplicate key.
pub(crate) fn parse(text: &str, file: &str) -> Result<Node, SpecError> {
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
            let mut problems = placeholder::in_text(text);
            if problems.is_empty() {
                problems.push(unreadable(&error));
            }
            SpecError::new(file, problems)
        })?;
    let mut problems = Vec::new();
    let root = node(raw, None, String::new(), &mut problems);
    if !matches!(root.content, Content::Map(_)) {
        problems.push(Problem {
            place: None,
            ..root.expected("a mapping of keys to values")
        });
    }
    if problems.is_empty() {
        Ok(root)
    } else {
        Err(SpecError::new(file, problems))
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: VALUES_MAX,
            max_events: 4 * VALUES_MAX,
            max_depth: DEPTH_MAX,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: VALUES_MAX,
        },
        // Duplicates are found below, so that all of them are told at once.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    }
}

fn unreadable(error: &serde_saphyr::Error) -> Problem {
    use serde_saphyr::Error;
    let mut cause = error;
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } =
        cause
    {
        cause = inner;
    }
    let message = match cause {
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("expected aliases that stand for at most {VALUES_MAX} values, found more")
        }
        Error::Budget { .. } => format!(
            "expected at most {VALUES_MAX} values, {DEPTH_MAX} levels deep and sparing with aliases, found more"
        ),
        Error::NullIntoString { .. } => "expected text as a key, found nothing".to_owned(),
        Error::MultipleDocuments { .. } => "expected one document, found several".to_owned(),
        other => {
            let text = other.to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text);
            format!("expected YAML: {}", reason.lines().next().unwrap_or(reason))
        }
    };
    Problem {
        place: error.location().and_then(place),
        field: String::new(),
        message,
        suggestion: None,
    }
}

fn place(location: Location) -> Option<Place> {
    (location != Location::UNKNOWN).then(|| Place {
        line: location.line(),
        column: location.column(),
    })
}

/// Gives each value its path and place, and drops repeated keys with a problem.
fn node(raw: Spanned<Raw>, key: Option<Place>, field: String, problems: &mut Vec<Problem>) -> Node {
    let place = key.or_else(|| place(raw.referenced));
    let content = match raw.value {
        Raw::Scalar(content) => content,
        Raw::List(items) => Content::List(
            (0..)
                .zip(items)
                .map(|(index, item)| node(item, None, format!("{field}[{index}]"), problems))
                .collect(),
        ),
        Raw::Map(entries) => Content::Map(unique(entries, &field, problems)),
    };
    Node {
        place,
        field,
        content,
    }
}

fn unique(
    entries: Vec<(Spanned<String>, Spanned<Raw>)>,
    parent: &str,
    problems: &mut Vec<Problem>,
) -> Entries {
    let mut unique = Entries::new();
    for (key, value) in entries {
        let value = node(
            value,
            place(key.referenced),
            join(parent, &key.value),
            problems,
        );
        match find(&unique, &key.value) {
            None => unique.push((key.value, value)),
            Some(first) => {
                let line = first.place.map_or(0, |place| place.line);
                problems.push(value.problem(format!(
                    "expected each key once, found it on line {line} already"
                )));
            }
        }
    }
    unique
}

/// A value as the YAML crate hands it over.
enum Raw {
    Scalar(Content),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Content::Nothing))
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Content::Bool(bool)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Content::Number(number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Content::Number(number.into())))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Raw, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("a number without end"))?;
        Ok(Raw::Scalar(Content::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Content::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_refused(text: &str, message: &str) {
        assert_eq!(
            parse(text, "a.yml").expect_err("refused").to_string(),
            message
        );
    }

    #[test]
    fn every_value_knows_its_path_and_the_place_of_its_key() {
        let root = parse("a: 1\nb:\n  - {c: x}\n", "a.yml").expect("YAML");
        let Content::Map(entries) = root.content else {
            panic!("expected a mapping")
        };
        let Content::List(items) = &find(&entries, "b").expect("b").content else {
            panic!("expected a list")
        };
        let Content::Map(inner) = &items[0].content else {
            panic!("expected a mapping")
        };
        let c = find(inner, "c").expect("c");
        assert_eq!(
            (c.field.as_str(), c.place),
            ("b[0].c", Some(Place { line: 3, column: 6 }))
        );
    }

    #[test]
    fn files_of_other_systems_read_the_same() {
        let plain = parse("name: blue\ntags: {a: b}\n", "a.yml").expect("YAML");
        assert_eq!(
            parse("\u{feff}name: blue\r\ntags: {a: b}\r\n", "a.yml").expect("YAML"),
            plain
        );
    }

    #[test]
    fn all_duplicate_keys_are_told() {
        check_refused(
            "name: a\nscale:\n  min: 1\n  min: 2\nname: b\n",
            "a.yml:4:3: scale.min: expected each key once, found it on line 3 already\n\
             a.yml:5:1: name: expected each key once, found it on line 1 already",
        );
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.extend([format!("a{level}: &a{level} [{below}]\n")]);
        }
        let error = parse(&bomb, "a.yml").expect_err("refused").to_string();
        assert!(
            error.ends_with("expected aliases that stand for at most 10000 values, found more"),
            "{error}"
        );
    }

    #[test]
    fn a_nest_without_end_is_refused() {
        check_refused(
            &format!("a: {}{}", "[".repeat(100), "]".repeat(100)),
            "a.yml:1:35: expected at most 10000 values, 32 levels deep and sparing with aliases, found more",
        );
    }

    #[test]
    fn what_is_not_a_mapping_is_refused() {
        check_refused(
            "",
            "a.yml: expected a mapping of keys to values, found nothing",
        );
        check_refused(
            "# note\n",
            "a.yml: expected a mapping of keys to values, found nothing",
        );
        check_refused(
            "- a\n",
            "a.yml: expected a mapping of keys to values, found a list",
        );
        check_refused(
            "a b\n",
            "a.yml: expected a mapping of keys to values, found \"a b\"",
        );
    }

    #[test]
    fn broken_yaml_is_refused_with_its_place() {
        check_refused(
            "a: [1\nb: 2\n",
            "a.yml:2:2: expected YAML: illegal placement of ':' indicator",
        );
        check_refused(
            "a: 1\n---\nb: 2\n",
            "a.yml:3:1: expected one document, found several",
        );
        check_refused(
            "a: 1\n\tb: 2\n",
            "a.yml:1:4: expected YAML: while scanning a plain scalar, found a tab",
        );
        check_refused(
            "null: 1\n",
            "a.yml:1:1: expected text as a key, found nothing",
        );
        check_refused("a: 'x\n", "a.yml:1:4: expected YAML: unclosed quote");
        check_refused(
            "a: *x\n",
            "a.yml:1:4: expected YAML: alias references unknown anchor",
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC\n\t]{0,200}") {
            drop(parse(&text, "a.yml"));
        }

        #[test]
        fn no_text_like_yaml_panics(text in "[a-c*&<:{}\\[\\],|>!'\"#\n -]{0,80}") {
            drop(parse(&text, "a.yml"));
        }
    }
}

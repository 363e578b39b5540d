//! A text after reading and before judging: a tree of values, each with its place and its path.

use std::fmt;

use serde_json::{Map, Number, Value};

use super::{Place, Problem};

/// One value of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The place of its key, or of the value itself in a list; none when it did not come from a text.
    pub(crate) place: Option<Place>,
    /// Its path as the user wrote it, in the user's spelling.
    pub(crate) field: String,
    pub(crate) content: Content,
}

/// The value itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Nothing,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// Entries in the order written; keys are unique.
    Map(Entries),
}

pub(crate) type Entries = Vec<(String, Node)>;

impl Node {
    /// A value that was not read from a text.
    pub(crate) fn from_value(field: String, value: Value) -> Self {
        let content = match value {
            Value::Null => Content::Nothing,
            Value::Bool(bool) => Content::Bool(bool),
            Value::Number(number) => Content::Number(number),
            Value::String(text) => Content::Text(text),
            Value::Array(items) => Content::List(
                (0..)
                    .zip(items)
                    .map(|(index, item)| Self::from_value(format!("{field}[{index}]"), item))
                    .collect(),
            ),
            Value::Object(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let node = Self::from_value(join(&field, &key), value);
                        (key, node)
                    })
                    .collect(),
            ),
        };
        Self {
            place: None,
            field,
            content,
        }
    }

    /// The plain value, for what is kept without being understood.
    pub(crate) fn into_value(self) -> Value {
        match self.content {
            Content::Nothing => Value::Null,
            Content::Bool(bool) => Value::Bool(bool),
            Content::Number(number) => Value::Number(number),
            Content::Text(text) => Value::String(text),
            Content::List(items) => items.into_iter().map(Self::into_value).collect(),
            Content::Map(entries) => Value::Object(
                entries
                    .into_iter()
                    .map(|(key, node)| (key, node.into_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// A problem with this value.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            place: self.place,
            field: self.field.clone(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// The problem that this is not what was expected.
    pub(crate) fn expected(&self, what: impl fmt::Display) -> Problem {
        self.problem(format!("expected {what}, found {self}"))
    }
}

/// Says in a message what was found.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Nothing => f.write_str("nothing"),
            Content::Bool(bool) => write!(f, "{bool}"),
            Content::Number(number) => write!(f, "{number}"),
            Content::Text(text) => write!(f, "{text:?}"),
            Content::List(_) => f.write_str("a list"),
            Content::Map(_) => f.write_str("a mapping"),
        }
    }
}

/// The path of `key` within `parent`.
pub(crate) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

/// The value of a key.
pub(crate) fn find<'a>(entries: &'a Entries, key: &str) -> Option<&'a Node> {
    entries
        .iter()
        .find(|(entry, _)| entry == key)
        .map(|(_, node)| node)
}

/// Takes the value of a key out.
pub(crate) fn remove(entries: &mut Entries, key: &str) -> Option<Node> {
    let index = entries.iter().position(|(entry, _)| entry == key)?;
    Some(entries.remove(index).1)
}

//! Settings of Azure's form that serin keeps and shows, and does not act upon.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Problem;
use super::fields::Fields;
use super::node::{Content, Node};

/// Keys that are kept, and the shape that each must have.
pub(super) type Kept = [(&'static str, Shape)];

/// The shape of a value that is kept without being understood.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Bool,
    Map,
    Text,
    TextOrMap,
}

impl Shape {
    fn judge(self, node: Node) -> Result<Value, Problem> {
        match (self, &node.content) {
            (Self::Bool, Content::Bool(_))
            | (Self::Map | Self::TextOrMap, Content::Map(_))
            | (Self::Text | Self::TextOrMap, Content::Text(_)) => Ok(node.into_value()),
            _ => Err(node.expected(self.expected())),
        }
    }

    /// The shape in words.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Map => "a mapping",
            Self::Text => "text",
            Self::TextOrMap => "text or a mapping",
        }
    }
}

/// Takes what is kept without being understood.
pub(super) fn read_kept(kept: &Kept, fields: &mut Fields<'_>) -> BTreeMap<String, Value> {
    kept.iter()
        .filter_map(|(key, shape)| {
            let value = fields.read(key, |node| shape.judge(node))?;
            Some(((*key).to_owned(), value))
        })
        .collect()
}

/// One sentence for each setting that says something and has no effect.
pub(super) fn kept_notes(
    kept: &BTreeMap<String, Value>,
    has_no_effect: impl Fn(&str) -> bool,
) -> impl Iterator<Item = String> {
    kept.iter()
        .filter(move |(key, _)| has_no_effect(key))
        .filter(|(_, value)| **value != Value::Bool(false) && **value != json!({}))
        .map(|(key, _)| format!("{key} is kept without effect"))
}

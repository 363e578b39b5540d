//! What stands in the way of a proof, in words for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason why something is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The operator in the way, with its domain where that is not ONNX's own; nothing where no operator is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The node: its number in the graph, and its name where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The reason, as a predicate of the operator, else as a sentence.
    pub why: String,
}

impl Obstacle {
    /// An obstacle that is no operator's.
    #[must_use]
    pub fn of_model(why: impl Into<String>) -> Self {
        Self {
            operator: None,
            node: None,
            why: why.into(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operator) = &self.operator {
            write!(f, "{operator} ")?;
        }
        f.write_str(&self.why)?;
        match &self.node {
            Some(node) => write!(f, " ({node})"),
            None => Ok(()),
        }
    }
}

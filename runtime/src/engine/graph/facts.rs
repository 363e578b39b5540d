//! Facts about a model, each proven or with the obstacle that stands in the way.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Facts that were derived from a model's graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphFacts {
    /// Rows are independent: each output has one row for each row of the inputs, and it is the same whatever the other rows are.
    pub rows: Fact,
    /// The work for a request follows from the shapes of its inputs, not from their values.
    pub work: Fact,
    /// No operator is known or suspected to end the process for some values.
    pub trap: Fact,
}

/// Whether something is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// It holds for all values and shapes.
    Proven,
    /// It may hold or not.
    Unproven(Obstacle),
}

impl Fact {
    /// Whether it is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.obstacle().is_none()
    }

    /// The obstacle to a proof.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            Self::Proven => None,
            Self::Unproven(obstacle) => Some(obstacle),
        }
    }
}

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

impl GraphFacts {
    /// The facts of the model in this file. A file that cannot be read or understood proves nothing.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        Self::nothing(Obstacle::of_model(format!(
            "the graph of {} was not read",
            path.display()
        )))
    }

    /// Nothing is proven, for this reason.
    #[must_use]
    pub fn nothing(obstacle: Obstacle) -> Self {
        let unproven = Fact::Unproven(obstacle);
        Self {
            rows: unproven.clone(),
            work: unproven.clone(),
            trap: unproven,
        }
    }
}

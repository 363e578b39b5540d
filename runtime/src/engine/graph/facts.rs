//! Facts about a model, each proven or with the obstacle that stands in the way.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::graph::follow::{self, Follow};
use crate::engine::graph::obstacle::Obstacle;
use crate::engine::graph::proto::{Graph, Model};
use crate::engine::graph::size::Size;
use crate::engine::graph::skeleton;
use crate::engine::graph::value::{self, Role, Value};

/// Facts that were derived from a model's graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphFacts {
    /// Rows are independent: each output has one row for each row of the inputs, and it is the same whatever the other rows are.
    pub rows: Fact,
    /// The work for a request follows from the shapes of its inputs, not from their values.
    pub work: Fact,
    /// No operator is known or suspected to end the process for some values.
    pub trap: Fact,
    /// The first operator that computes as in training; nothing where none is known to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Obstacle>,
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

impl GraphFacts {
    /// The facts of the model in this file. A file that cannot be read or understood proves nothing.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        match skeleton::read(path) {
            Ok(model) => Self::of_model(&model),
            Err(why) => Self::nothing(Obstacle::of_model(why)),
        }
    }

    pub(super) fn of_model(model: &Model) -> Self {
        let Some(graph) = &model.graph else {
            return Self::nothing(Obstacle::of_model("the model has no graph"));
        };
        let mut follow = Follow::new(model);
        let outputs = follow.run(graph);
        let fact = |obstacle: Option<Obstacle>| obstacle.map_or(Fact::Proven, Fact::Unproven);
        Self {
            rows: fact(obstacle_of_rows(graph, &outputs, &follow)),
            work: fact(follow.work),
            trap: fact(follow.trap),
            training: follow.training,
        }
    }

    /// All facts are proven.
    #[cfg(test)]
    pub(crate) fn proven() -> Self {
        Self {
            rows: Fact::Proven,
            work: Fact::Proven,
            trap: Fact::Proven,
            training: None,
        }
    }

    /// Nothing is proven, for this reason.
    #[must_use]
    pub fn nothing(obstacle: Obstacle) -> Self {
        let unproven = Fact::Unproven(obstacle);
        Self {
            rows: unproven.clone(),
            work: unproven.clone(),
            trap: unproven,
            training: None,
        }
    }
}

fn obstacle_of_rows(
    graph: &Graph,
    outputs: &[(&str, Value)],
    follow: &Follow<'_>,
) -> Option<Obstacle> {
    if outputs.is_empty() || follow::inputs_of(graph).next().is_none() {
        return Some(Obstacle::of_model("the model has no inputs, or no outputs"));
    }
    // Inputs come first: each that brings no rows left an obstacle, whether an output needs it or not.
    let without_rows = follow::inputs_of(graph).find(|info| {
        let shape = value::declared_shape(info);
        !matches!(shape.as_deref(), Some([None, ..]))
    });
    if without_rows.is_some() {
        return follow.obstacles.first().cloned();
    }
    outputs.iter().find_map(|(name, value)| {
        let words = |why: &str| Some(Obstacle::of_model(format!("output {name:?} {why}")));
        match value.role {
            Role::Rows(0) if value.first_size() == Some(&Size::rows()) => None,
            Role::Rows(0) => words("has several entries for each row"),
            Role::Rows(axis) => words(&format!("has its rows along axis {axis}")),
            Role::Same | Role::Count => words("has no rows"),
            Role::Mixed(obstacle) => follow.obstacles.get(obstacle).cloned(),
        }
    })
}

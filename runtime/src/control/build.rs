//! An instance as it is to be made, how many of them, and what must be ready before.

use std::sync::Arc;

use serin_scorers::NonFinite;

use crate::control::models::ModelDigest;
use crate::control::script::{ScriptBuild, StoredRecipe};
use crate::engine::BatchSettings;
use crate::spec::Isolation;

/// Number of an instance in the books, unique within the process. Younger instances have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct InstanceNo(pub(super) u64);

/// All that an instance is made of. One whose build differs from the one wanted must be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) model: ModelDigest,
    pub(super) vcpus: usize,
    /// Memory of its instance type; nothing where that has none.
    pub(super) memory_bytes: Option<u64>,
    pub(super) concurrency: u32,
    pub(super) lanes: Option<u32>,
    pub(super) batch: BatchSettings,
    pub(super) spin: bool,
    pub(super) isolation: Isolation,
    pub(super) non_finite: NonFinite,
    /// The script that it runs, beside which the settings of runs of models are at their defaults.
    pub(super) script: Option<Arc<ScriptBuild>>,
}

/// Something that must be ready before an instance can start, and that others may wait for too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Need {
    /// A model, tried and prepared.
    Model(ModelDigest),
    /// An environment; without a recipe the Python of the path.
    Environment(Option<StoredRecipe>),
}

impl Build {
    /// What it needs. A script knows itself what to do with its model.
    pub(super) fn need(&self) -> Need {
        match &self.script {
            Some(build) => Need::Environment(build.script.recipe.clone()),
            None => Need::Model(self.model.clone()),
        }
    }
}

/// So many instances of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) build: Build,
    pub(super) count: usize,
}

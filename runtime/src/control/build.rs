//! An instance as it is to be made, and how many of them.

use serin_scorers::NonFinite;

use crate::control::models::ModelDigest;
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
}

/// So many instances of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) build: Build,
    pub(super) count: usize,
}

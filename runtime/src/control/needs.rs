//! The files that a change names, and that must be gathered before it can be judged. Pure data.
//!
//! Not here: gathering them (`gathering`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::spec::EnvironmentSource;

/// The files of a script, where they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScriptSource {
    /// The folder of the code.
    pub(super) code: PathBuf,
    pub(super) environment: Option<EnvironmentSource>,
    /// Whether a Python other than the one that the environment asks for will do.
    pub(super) any_python: bool,
}

/// All that must be gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Models given by path.
    pub(super) models: BTreeSet<PathBuf>,
    pub(super) scripts: Vec<ScriptSource>,
}

impl Needs {
    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty() && self.scripts.is_empty()
    }
}

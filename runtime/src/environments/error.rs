//! The reasons why there is no environment.

use std::io;
use std::path::{Path, PathBuf};

use super::python::NoPython;

/// The reason why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No interpreter will do.
    #[error(transparent)]
    NoPython(#[from] NoPython),
    /// Nobody wants it any more.
    #[error("the environment is not wanted any more")]
    Canceled,
    /// It could not be built.
    #[error("cannot build the environment of {}: {reason}; all of the output is in {}", file.display(), log.display())]
    Failed {
        /// The file that asks for it.
        file: PathBuf,
        /// The tool's own words.
        reason: String,
        /// The whole output.
        log: PathBuf,
    },
    /// Another process has not ended its build in time.
    #[error("another process has been building the environment of {} for {minutes} minutes; its output is in {}", file.display(), log.display())]
    StillBuilding {
        /// The file that asks for it.
        file: PathBuf,
        /// How long it was waited for.
        minutes: u64,
        /// The output so far.
        log: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EnvironmentError {
    let path = path.to_owned();
    move |source| EnvironmentError::Io { what, path, source }
}

//! What somebody wants of a rollout that is on its way.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What somebody wants of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// To go on: past a pause, a gate or an analysis.
    Promote,
    /// To give the canary all traffic now.
    PromoteFull,
    /// To stay as it is.
    Pause,
    /// To go on after a pause by somebody.
    Resume,
    /// To give all traffic back.
    Abort,
    /// To give all traffic back after it has ended.
    Undo,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::PromoteFull => "promote --full",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Undo => "undo",
        })
    }
}

//! What a rollout remembers of answers, for the truth that comes later. Pure.

use serde::{Deserialize, Serialize};

/// How long answers are remembered where nothing is said.
const KEEP_SECONDS: u64 = 3600;

/// What is remembered, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackPlan {
    /// Where in an answer that stands which labels are compared with: a JSON pointer; the whole answer without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Labels that come later than this, in seconds, find nothing.
    pub keep_seconds: u64,
    /// Answers are kept in the data folder, so that labels find them after a restart; else in memory.
    #[serde(default)]
    pub on_disk: bool,
}

impl Default for FeedbackPlan {
    fn default() -> Self {
        Self {
            answer: None,
            keep_seconds: KEEP_SECONDS,
            on_disk: false,
        }
    }
}

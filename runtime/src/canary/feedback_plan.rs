//! What a rollout remembers of answers, for the truth that comes later. Pure.

use serde::{Deserialize, Serialize};

use crate::canary::draft::{Draft, read_seconds};
use crate::spec::{Fields, Node, Problem, pointer, yes_or_no};

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

/// Reads the `feedback` of a rollout's file.
pub(super) fn read_feedback(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let mut fields = Fields::open(node, problems);
    let plan = FeedbackPlan::default();
    draft.feedback = Some(FeedbackPlan {
        answer: fields.read("answer", pointer),
        keep_seconds: fields
            .read("keep", read_seconds)
            .unwrap_or(plan.keep_seconds),
        on_disk: fields.read("onDisk", yes_or_no).unwrap_or(plan.on_disk),
    });
    fields.finish(&[]);
}

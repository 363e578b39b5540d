//! The `feedback` of a rollout's file: what is remembered of answers.

use crate::canary::draft::{Draft, read_seconds};
use crate::canary::feedback_plan::FeedbackPlan;
use crate::spec::{Fields, Node, Problem, pointer, yes_or_no};

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

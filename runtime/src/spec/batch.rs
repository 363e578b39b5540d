//! Batch endpoints and deployments, told from online ones by their keys: serin serves none, and says so once.

use super::node::{Content, Node, find};
use super::{Problem, SpecError};

/// Keys that only batch endpoints and deployments have.
pub(super) const KEYS: &[&str] = &[
    "defaults",
    "error_threshold",
    "max_concurrency_per_instance",
    "mini_batch_size",
    "output_action",
    "output_file_name",
    "retry_settings",
];

/// Why none is served, and what to do.
pub(super) const REASON: &str = "batch endpoints are not served here: make an online endpoint of it, and send the rows of a file with `serin endpoint invoke --request-file`";

/// Types that only they have.
const TYPES: &[&str] = &[
    "batch",
    "batchdeployment",
    "batchendpoint",
    "model",
    "pipeline",
];

/// Refuses a batch endpoint or deployment, whatever else is wrong with it.
pub(super) fn refuse(root: &Node, file: &str) -> Result<(), SpecError> {
    let Content::Map(entries) = &root.content else {
        return Ok(());
    };
    let has_key = KEYS.iter().any(|key| find(entries, key).is_some());
    let has_type = find(entries, "type").is_some_and(|kind| match &kind.content {
        Content::Text(kind) => TYPES.iter().any(|one| one.eq_ignore_ascii_case(kind)),
        _ => false,
    });
    if !has_key && !has_type {
        return Ok(());
    }
    let problem = Problem {
        place: None,
        field: String::new(),
        message: REASON.to_owned(),
        suggestion: None,
    };
    Err(SpecError::new(file, vec![problem]))
}

//! store
use crate::control::desired::Revision;
use serde::{Deserialize, Serialize};

/// One line of the journal: what was asked for or what became of it, when, by whom and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Number of the line.
    pub seq: u64,
    /// The revision that it made or is about; none for models.
    pub revision: Option<Revision>,
    /// When.
    pub at: jiff::Timestamp,
    /// Who asked.
    pub by: String,
    /// The change, or `{"kind": "outcome", ..}`.
    pub change: serde_json::Value,
    /// Why, or how it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// stub
    #[error("{0}")]
    Failed(String),
}

//! The words between the server and the child process that tries a model, as JSON over pipes.
//!
//! The child hears one [`ProbeRequest`] and says two lines: what it saw of the model ([`ProbeReport`]), and then, where that was
//! asked for, what came of preparing it.
//!
//! Not here: who speaks (`probe`, `probe_child`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serin_scorers::Signature;

use crate::engine::{CacheKey, ModelCache};

/// The hidden subcommand by which the child is started.
pub const PROBE_COMMAND: &str = "__probe";

/// The order of the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProbeRequest {
    /// The server's process.
    pub(super) parent: u32,
    pub(super) model: PathBuf,
    pub(super) sample_request: Option<String>,
    pub(super) memory_bytes: u64,
    /// Others serve, and are not to feel the child.
    pub(super) background: bool,
    /// Where the prepared model goes, if it is to be prepared.
    pub(super) prepare: Option<Order>,
}

/// The place where the child puts the prepared form of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) cache: ModelCache,
    pub(super) key: CacheKey,
}

/// A model as the child saw it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Inputs and outputs of the model.
    pub signature: Signature,
    /// Time to load the model, in milliseconds.
    pub load_ms: f64,
    /// Time of the warm-up runs, in milliseconds.
    pub run_ms: f64,
    /// What ONNX Runtime warned of, also while the model was prepared. The parent hears it beside the report.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Whether the words of ONNX Runtime, of the C++ library or of Rust's say that memory ran out.
pub(super) fn is_about_memory(words: &str) -> bool {
    let marks = [
        "bad_alloc",
        "ailed to allocate",
        "memory allocation of",
        "AllocateRawInternal",
    ];
    marks.iter().any(|mark| words.contains(mark))
}

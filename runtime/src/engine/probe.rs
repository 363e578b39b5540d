//! A child process loads and runs the model once before the server does.

use std::path::Path;
use std::time::Duration;

use serin_scorers::Signature;

/// Bounds of the child.
#[derive(Debug, Clone)]
pub struct ProbeLimits {
    pub wall: Duration,
    pub memory_bytes: u64,
}

/// What the child saw.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ProbeReport {
    pub signature: Signature,
    pub load_ms: f64,
    pub run_ms: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{0}")]
    Model(String),
    #[error("the model crashed while it was tried ({0})")]
    Crashed(String),
    #[error("the model did not load and answer within {0:?}")]
    TimedOut(Duration),
    #[error("the model needs more than {0} bytes of memory to load and answer")]
    Memory(u64),
    #[error("cannot start the probe: {0}")]
    Start(#[source] std::io::Error),
}

/// Runs `exe __probe model [sample]` under the limits. Blocks.
pub fn probe(
    _exe: &Path,
    _model: &Path,
    _sample_request: Option<&[u8]>,
    _limits: &ProbeLimits,
) -> Result<ProbeReport, ProbeError> {
    todo!()
}

/// The child's side, called by the hidden subcommand: reads a request from stdin, writes a JSON report to stdout.
/// Returns the exit code.
pub fn probe_child() -> u8 {
    todo!()
}

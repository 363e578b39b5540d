//! The ONNX Runtime library: inside the binary, unpacked once, loaded once, telemetry off.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error("cannot unpack ONNX Runtime to {path:?}: {source}")]
    Unpack {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot load ONNX Runtime: {0}")]
    Load(String),
}

/// Settings that must be in force before any other thread exists: telemetry off, malloc thresholds.
/// The binary calls it first thing in `main`; embedders before they start threads. Idempotent.
pub fn prepare_process() {
    todo!()
}

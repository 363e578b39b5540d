//! What `serin --version` says.

/// The version of serin and of the ONNX Runtime that it was built with.
pub(super) fn long() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

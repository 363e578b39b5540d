//! The words of `serin --version`.

/// The version of serin and of the ONNX Runtime that it was built with.
pub(super) fn long() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        "\nONNX Runtime ",
        env!("SERIN_ONNXRUNTIME_VERSION")
    )
}

/// The version of ONNX Runtime that serin was built with.
pub(super) const ONNXRUNTIME: &str = env!("SERIN_ONNXRUNTIME_VERSION");

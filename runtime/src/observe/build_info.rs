//! The versions of what runs: serin, and the ONNX Runtime that it has loaded.
//!
//! Threads: any. Told once, when the library is loaded.

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

static LOADED: OnceLock<String> = OnceLock::new();

/// ONNX Runtime of this version was loaded. The first is the only one: no process loads two.
pub(crate) fn onnxruntime_is_loaded(version: String) {
    drop(LOADED.set(version));
}

/// The version of ONNX Runtime: of the loaded one, else of that which the binary carries.
fn onnxruntime() -> &'static str {
    LOADED
        .get()
        .map_or(env!("SERIN_ONNXRUNTIME_VERSION"), String::as_str)
}

/// Facts that stand in labels.
#[derive(Debug)]
pub(super) struct BuildInfo;

impl EncodeMetric for BuildInfo {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_info(&[
            ("version", env!("CARGO_PKG_VERSION")),
            ("onnxruntime", onnxruntime()),
        ])
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Info
    }
}

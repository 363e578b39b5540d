//! Metrics for Prometheus over HTTP, on a listener of their own or beside scoring.
//!
//! - `GET /metrics`: every series
//!
//! Threads: that of the listener. Not here: which series there are (`observe`).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::observe::Metrics;

/// The format that Prometheus asks for first.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of a listener that shows metrics and nothing else.
pub fn metrics_routes(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(shown))
        .with_state(metrics)
}

async fn shown(State(metrics): State<Arc<Metrics>>) -> Response {
    metrics_response(&metrics)
}

/// All metrics, as Prometheus reads them.
pub fn metrics_response(metrics: &Metrics) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], metrics.render()).into_response()
}

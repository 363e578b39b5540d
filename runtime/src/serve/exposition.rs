//! Metrics for Prometheus over HTTP, on a listener of their own or beside scoring.
//!
//! - `GET /metrics`: every series
//!
//! Threads: that of the listener. Not here: which series there are (`observe`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};

use crate::observe::Metrics;
use crate::serve::origin::{foreign_host, foreign_page};
use crate::serve::wrong_keys::Peer;

/// The format that Prometheus asks for first.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of a listener that shows metrics and nothing else.
pub fn metrics_routes(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(shown))
        .with_state(metrics)
}

/// Web pages get nothing, by whichever name they make a browser ask.
async fn shown(
    State(metrics): State<Arc<Metrics>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    // A page that has its own name resolve to this machine asks from there; Prometheus may know another machine by any name.
    let bound = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(host) = foreign_host(headers, uri, bound).filter(|_| peer.is_local()) {
        let words = format!("metrics are not served to this machine under the name {host:?}");
        return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
    }
    if let Some(page) = foreign_page(headers) {
        let words = format!("metrics are not for the web page {page:?}");
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    metrics_response(&metrics)
}

/// All metrics, as Prometheus reads them.
pub fn metrics_response(metrics: &Metrics) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], metrics.render()).into_response()
}

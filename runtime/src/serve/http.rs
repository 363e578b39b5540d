//! The routes of the scoring listener.
//!
//! - `POST /endpoints/{name}/score`: scores at an endpoint
//! - `POST /score`: the same, where there is one endpoint
//! - `GET /`: `Healthy`, as Azure's inference server says it
//! - `GET /health/live`: the process answers
//! - `GET /health/ready`: every deployment that has traffic can answer, else 503

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;

use crate::serve::failure::Failure;
use crate::serve::request_id::RequestIds;
use crate::serve::score::{Scoring, Target, json_response};

/// The scoring routes.
pub fn routes(scoring: Scoring) -> Router {
    Router::new()
        .route("/endpoints/{name}/score", post(score_named))
        .route("/score", post(score_only))
        .route("/", get(|| async { "Healthy" }))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(scoring)
}

async fn score_named(
    State(scoring): State<Scoring>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    scoring.score(Target::Named(&name), request).await
}

async fn score_only(State(scoring): State<Scoring>, request: Request) -> Response {
    scoring.score(Target::Only, request).await
}

async fn live() -> Response {
    json_response(StatusCode::OK, &json!({ "live": true }))
}

async fn ready(State(scoring): State<Scoring>) -> Response {
    let ready = scoring.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(status, &json!({ "ready": ready }))
}

async fn no_route(State(scoring): State<Scoring>, request: Request) -> Response {
    let failure = Failure::NoRoute {
        path: request.uri().path().to_owned(),
    };
    refuse(&scoring, &failure, request)
}

async fn method_not_allowed(State(scoring): State<Scoring>, request: Request) -> Response {
    let failure = Failure::MethodNotAllowed {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
    };
    refuse(&scoring, &failure, request)
}

fn refuse(scoring: &Scoring, failure: &Failure, request: Request) -> Response {
    let (parts, _body) = request.into_parts();
    let ids = RequestIds::of(&parts.headers).unwrap_or_else(|_| RequestIds::fresh());
    scoring.refuse(failure, &parts, ids)
}

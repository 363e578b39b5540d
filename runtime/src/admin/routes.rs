//! The routes of the admin listener. All but the last two want `Authorization: Bearer` with the token of `server.json`.
//!
//! - `POST /v1/changes`: a change; 202 with its operation once it is on disk
//! - `POST /v1/changes/preview`: what a change would do; nothing of it is done
//! - `GET /v1/operations/{id}?wait_ms=N`: what became of it; waits for its end at most so long
//! - `GET /v1/endpoints`, `/v1/endpoints/{e}`, `/v1/endpoints/{e}/deployments`, `/v1/endpoints/{e}/deployments/{d}`
//! - `GET /v1/endpoints/{e}/deployments/{d}/logs?lines=N`: the last lines of its log
//! - `GET /v1/endpoints/{e}/credentials`: keys or a token
//! - `GET /v1/models`, `/v1/models/{n}`; `POST /v1/models`;
//!   `GET /v1/models/{n}/{v}` (what its graph says), `DELETE /v1/models/{n}/{v}`;
//!   `POST /v1/models/{n}/{v}/about`: what people say of it
//! - rollouts and verdicts: see `rollouts`
//! - `GET /v1/journal?last=N`: who changed what, when and why
//! - `GET /v1/history?last=N&endpoint=E`: the changes with what each was from and to
//! - `GET /v1/revisions/{r}`: what differs from the state as of a revision, endpoint by endpoint
//! - `GET /v1/status`: version, addresses, revision, readiness, and what each deployment does
//! - `GET /metrics`: for Prometheus
//! - `GET /health`: the control thread answers
//!
//! Who asks is named in the request; else it is the user of the server, who alone can read the token.
//!
//! Requests that a web page has a browser send are refused, and so are those to another host than this one: a page could make its own
//! name lead here. Who sends wrong tokens waits, as in scoring.
//!
//! Threads: control.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path as FilePath;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use crate::admin::activity;
use crate::admin::error::AdminError;
use crate::admin::parts::{Administration, known, parse, query};
use crate::admin::rollouts;
use crate::admin::user::user_of_process;
use crate::admin::wire::{
    AboutRequest, ChangeRequest, ModelGraph, ModelRequest, ServerStatus, bounded_by,
};
use crate::config::{JOURNAL_LAST_MAX, OPERATION_WAIT_MAX};
use crate::control::{
    AsOf, Credentials, DeploymentView, EndpointView, HistoryEntry, JournalEntry, ModelDescription,
    ModelRecord, Operation, OperationId, Preview, Revision,
};
use crate::serve::{
    Authenticated, Peer, WrongKey, WrongKeys, foreign_host, foreign_page, metrics_response,
};
use crate::spec::{DeploymentName, EndpointName, ModelName, ModelVersion};

/// The admin routes.
pub fn routes(administration: Administration) -> Router {
    // From here on the server is up.
    activity::uptime_ms();
    let guarded = Router::new()
        .route("/v1/changes", post(change))
        .route("/v1/changes/preview", post(preview))
        .route("/v1/operations/{id}", get(operation))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/endpoints/{endpoint}", get(endpoint))
        .route("/v1/endpoints/{endpoint}/deployments", get(deployments))
        .route(
            "/v1/endpoints/{endpoint}/deployments/{deployment}",
            get(deployment),
        )
        .route(
            "/v1/endpoints/{endpoint}/deployments/{deployment}/logs",
            get(deployment_log),
        )
        .route("/v1/endpoints/{endpoint}/credentials", get(credentials))
        .route("/v1/models", get(models).post(register_model))
        .route("/v1/models/{name}", get(model))
        .route(
            "/v1/models/{name}/{version}",
            get(model_graph).delete(delete_model),
        )
        .route("/v1/models/{name}/{version}/about", post(describe_model))
        .route("/v1/journal", get(journal))
        .route("/v1/history", get(history))
        .route("/v1/revisions/{revision}", get(as_of))
        .route("/v1/status", get(status))
        .merge(rollouts::routes())
        .fallback(async |uri: Uri| AdminError::NoRoute(uri.path().to_owned()))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(
            (administration.clone(), WrongKeys::default()),
            guard,
        ));
    let bound = administration.server.admin_address.ip();
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(async || Json(json!({ "live": true }))))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(bound, refuse_pages))
        .with_state(administration)
}

/// Lets a request pass that was sent here by name, and by no page.
async fn refuse_pages(State(bound): State<IpAddr>, request: Request, next: Next) -> Response {
    if let Some(host) = foreign_host(request.headers(), request.uri(), bound) {
        return AdminError::OtherHost(host).into_response();
    }
    match foreign_page(request.headers()) {
        Some(page) => AdminError::ForeignPage(page).into_response(),
        None => next.run(request).await,
    }
}

/// Lets a request pass that has the token.
async fn guard(
    State((administration, wrong_keys)): State<(Administration, WrongKeys)>,
    Extension(client): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let expected = format!("Bearer {}", administration.server.token);
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    if bool::from(given.ct_eq(expected.as_bytes())) {
        let mut answer = next.run(request).await;
        answer.extensions_mut().insert(Authenticated);
        return answer;
    }
    let is_missing = given.is_empty();
    if !is_missing && wrong_keys.hold(client).await == WrongKey::TooMany {
        return AdminError::TooManyWrongTokens.into_response();
    }
    AdminError::Unauthorized.into_response()
}

async fn method_not_allowed(request: Request) -> AdminError {
    AdminError::MethodNotAllowed {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
    }
}

async fn change(
    State(at): State<Administration>,
    body: Body,
) -> Result<(StatusCode, Json<Operation>), AdminError> {
    let request: ChangeRequest = parse(body).await?;
    let by = request.by.unwrap_or_else(user_of_process);
    let operation = at
        .controller
        .submit(request.change, by, request.expected_revision)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

async fn preview(
    State(at): State<Administration>,
    body: Body,
) -> Result<Json<Preview>, AdminError> {
    let request: ChangeRequest = parse(body).await?;
    Ok(Json(at.controller.preview(request.change).await?))
}

#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

async fn operation(
    State(at): State<Administration>,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<Operation>, AdminError> {
    let unknown = || AdminError::NotFound {
        what: "operation",
        name: id.clone(),
    };
    let wait = Duration::from_millis(query(wait)?.wait_ms).min(OPERATION_WAIT_MAX);
    let number: OperationId = id.parse().map_err(|_| unknown())?;
    let ended = tokio::time::timeout(wait, at.controller.finished(number)).await;
    let found = ended.unwrap_or_else(|_| at.controller.operation(number));
    found.map(Json).ok_or_else(unknown)
}

async fn endpoints(State(at): State<Administration>) -> Json<Vec<EndpointView>> {
    let view = at.controller.view();
    Json(
        view.endpoints
            .iter()
            .map(|endpoint| at.with_what_serves(endpoint))
            .collect(),
    )
}

async fn endpoint(
    State(at): State<Administration>,
    Path(name): Path<String>,
) -> Result<Json<EndpointView>, AdminError> {
    at.endpoint(&name).map(Json)
}

async fn deployments(
    State(at): State<Administration>,
    Path(endpoint): Path<String>,
) -> Result<Json<Vec<DeploymentView>>, AdminError> {
    Ok(Json(
        at.endpoint(&endpoint)?.deployments.into_values().collect(),
    ))
}

async fn deployment(
    State(at): State<Administration>,
    Path((endpoint, name)): Path<(String, String)>,
) -> Result<Json<DeploymentView>, AdminError> {
    let mut endpoint = at.endpoint(&endpoint)?;
    let found = name
        .parse::<DeploymentName>()
        .ok()
        .and_then(|name| endpoint.deployments.remove(&name));
    found.map(Json).ok_or(AdminError::NotFound {
        what: "deployment",
        name,
    })
}

#[derive(Deserialize)]
struct Lines {
    lines: Option<usize>,
}

async fn deployment_log(
    State(at): State<Administration>,
    Path((endpoint, name)): Path<(String, String)>,
    lines: Result<Query<Lines>, QueryRejection>,
) -> Result<Json<Vec<String>>, AdminError> {
    let endpoint = at.endpoint(&endpoint)?.spec.name;
    let name = known::<DeploymentName>("deployment", &name)?;
    let lines = query(lines)?.lines.unwrap_or(usize::MAX);
    let read = at.controller.deployment_log(&endpoint, &name, lines).await;
    read.map(Json).map_err(AdminError::Log)
}

async fn credentials(
    State(at): State<Administration>,
    Path(name): Path<String>,
) -> Result<Json<Credentials>, AdminError> {
    let name = known::<EndpointName>("endpoint", &name)?;
    Ok(Json(at.controller.credentials(&name).await?))
}

async fn models(State(at): State<Administration>) -> Json<Vec<ModelRecord>> {
    Json(at.controller.models().to_vec())
}

async fn model(
    State(at): State<Administration>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ModelRecord>>, AdminError> {
    let name = known::<ModelName>("model", &name)?;
    let versions: Vec<_> = at
        .controller
        .models()
        .iter()
        .filter(|record| record.name == name)
        .cloned()
        .collect();
    if versions.is_empty() {
        return Err(AdminError::NotFound {
            what: "model",
            name: name.as_str().to_owned(),
        });
    }
    Ok(Json(versions))
}

async fn model_graph(
    State(at): State<Administration>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<ModelGraph>, AdminError> {
    let models = at.controller.models();
    let mut records = models.iter();
    let found = records
        .find(|record| record.name.as_str() == name && record.version.as_str() == version)
        .ok_or_else(|| AdminError::NotFound {
            what: "model",
            name: format!("{name}:{version}"),
        })?;
    Ok(Json(at.controller.model_summary(found).await?.into()))
}

async fn register_model(
    State(at): State<Administration>,
    body: Body,
) -> Result<(StatusCode, Json<ModelRecord>), AdminError> {
    let request: ModelRequest = parse(body).await?;
    if !FilePath::is_absolute(&request.path) {
        return Err(AdminError::RelativePath(request.path));
    }
    let by = request.by.unwrap_or_else(user_of_process);
    let record = at
        .controller
        .register_model(request.path, request.name, request.version, by)
        .await?;
    Ok((StatusCode::CREATED, Json(record)))
}

async fn describe_model(
    State(at): State<Administration>,
    Path((name, version)): Path<(String, String)>,
    body: Body,
) -> Result<Json<ModelRecord>, AdminError> {
    let request: AboutRequest = parse(body).await?;
    let description = ModelDescription {
        name: known::<ModelName>("model", &name)?,
        version: known::<ModelVersion>("model version", &version)?,
        about: request.about,
        by: request.by.unwrap_or_else(user_of_process),
    };
    Ok(Json(at.controller.describe_model(description).await?))
}

#[derive(Deserialize)]
struct By {
    #[serde(default, deserialize_with = "bounded_by")]
    by: Option<String>,
}

async fn delete_model(
    State(at): State<Administration>,
    Path((name, version)): Path<(String, String)>,
    by: Result<Query<By>, QueryRejection>,
) -> Result<StatusCode, AdminError> {
    let by = query(by)?.by.unwrap_or_else(user_of_process);
    let name = known::<ModelName>("model", &name)?;
    let version = known::<ModelVersion>("model version", &version)?;
    at.controller.delete_model(name, version, by).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Last {
    #[serde(default = "Last::usual")]
    last: usize,
}

impl Last {
    fn usual() -> usize {
        100
    }
}

async fn journal(
    State(at): State<Administration>,
    last: Result<Query<Last>, QueryRejection>,
) -> Result<Json<Vec<JournalEntry>>, AdminError> {
    let last = query(last)?.last.min(JOURNAL_LAST_MAX);
    Ok(Json(at.controller.journal(last).await?))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default = "Last::usual")]
    last: usize,
    endpoint: Option<String>,
}

async fn history(
    State(at): State<Administration>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Vec<HistoryEntry>>, AdminError> {
    let Asked { last, endpoint } = query(asked)?;
    let endpoint = endpoint.map(|name| known::<EndpointName>("endpoint", &name));
    let last = last.min(JOURNAL_LAST_MAX);
    Ok(Json(
        at.controller.history(last, endpoint.transpose()?).await?,
    ))
}

async fn as_of(
    State(at): State<Administration>,
    Path(name): Path<String>,
) -> Result<Json<Vec<AsOf>>, AdminError> {
    let unknown = || AdminError::NotFound {
        what: "revision",
        name: name.clone(),
    };
    let revision = name.parse().map(Revision).map_err(|_| unknown())?;
    let found = at.controller.as_of(revision).await?;
    found.map(Json).ok_or_else(unknown)
}

async fn status(State(at): State<Administration>) -> Json<ServerStatus> {
    let health = at.scoring.health();
    Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: at.server.pid,
        started: at.server.started,
        ready: health.ready,
        short: health.short,
        degraded: health.degraded,
        revision: at.controller.view().revision,
        scoring_address: at.server.scoring_address,
        admin_address: at.server.admin_address,
        uptime_ms: activity::uptime_ms(),
        endpoints: activity::endpoints(&at),
    })
}

async fn metrics(State(at): State<Administration>, headers: HeaderMap) -> Response {
    metrics_response(&headers, &at.scoring.metrics)
}

impl Administration {
    fn endpoint(&self, name: &str) -> Result<EndpointView, AdminError> {
        let parsed = known::<EndpointName>("endpoint", name)?;
        let view = self.controller.view();
        let found = view
            .endpoint(&parsed)
            .map(|endpoint| self.with_what_serves(endpoint));
        found.ok_or_else(|| AdminError::NotFound {
            what: "endpoint",
            name: name.to_owned(),
        })
    }

    fn with_what_serves(&self, endpoint: &EndpointView) -> EndpointView {
        let mut endpoint = endpoint.clone();
        let address = reachable(self.server.scoring_address);
        endpoint.scoring_uri = Some(format!(
            "http://{address}/endpoints/{}/score",
            endpoint.spec.name
        ));
        let table = self.scoring.router.table();
        if let Some(serving) = table.endpoint(endpoint.spec.name.key()) {
            for (name, one) in &mut endpoint.deployments {
                let serving = serving.deployment(name.key());
                one.degraded = serving.and_then(|serving| serving.metrics.streak().degraded());
            }
        }
        endpoint
    }
}

/// An address that a client on this machine can use: one that listens everywhere is also on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_reached_by_the_loopback() {
        let reach = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reach("0.0.0.0:5001"), "127.0.0.1:5001");
        assert_eq!(reach("[::]:5001"), "[::1]:5001");
        assert_eq!(reach("10.1.2.3:5001"), "10.1.2.3:5001");
    }
}

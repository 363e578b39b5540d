//! The routes of rollouts, below those of the admin listener.
//!
//! - `GET /v1/rollouts`, `/v1/rollouts/{id}`; `POST /v1/rollouts`: begins one, or says what it would be
//! - `GET /v1/rollouts/{id}/replay`: its journal, whether its record makes the same again, and the course of its evidence
//! - `GET /v1/endpoints/{e}/rollout`: the newest of an endpoint; `POST`: tells it something
//! - `POST /v1/endpoints/{e}/feedback`: what turned out about answers
//! - `GET /v1/endpoints/{e}/verdict?from=blue&to=green`: 200 promote, 409 undecided, 412 roll back
//!
//! Threads: control.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::admin::error::AdminError;
use crate::admin::parts::{Administration, known, parse, query};
use crate::admin::user::user_of_process;
use crate::admin::wire::{RolloutCommand, RolloutRecord, RolloutRequest, VerdictAnswer};
use crate::canary::{Forecast, Verdict, report_of};
use crate::control::{ChangeError, Label, Learned, RolloutView, Rollouts, StartRollout, present};
use crate::spec::EndpointName;

pub(super) fn routes() -> Router<Administration> {
    Router::new()
        .route("/v1/rollouts", get(all).post(start))
        .route("/v1/rollouts/{id}", get(one))
        .route("/v1/rollouts/{id}/replay", get(replay))
        .route("/v1/endpoints/{endpoint}/rollout", get(newest).post(tell))
        .route("/v1/endpoints/{endpoint}/verdict", get(verdict))
        .route("/v1/endpoints/{endpoint}/feedback", post(feedback))
}

async fn all(State(at): State<Administration>) -> Json<Vec<RolloutView>> {
    Json(at.rollouts.all().to_vec())
}

async fn start(
    State(at): State<Administration>,
    body: Body,
) -> Result<(StatusCode, Json<RolloutView>), AdminError> {
    let RolloutRequest { plan, dry_run, by } = parse(body).await?;
    let by = by.unwrap_or_else(user_of_process);
    let status = if dry_run {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let planned = dry_run.then(|| plan.clone());
    let start = StartRollout { plan, dry_run };
    let mut begun = at.rollouts.start(start, by).await?;
    if let Some(plan) = planned {
        let up = Timestamp::now().duration_since(at.server.started);
        let up = up.try_into().unwrap_or_default();
        let seen = present(&at.scoring.metrics, &plan, up).await;
        begun.forecast = Forecast::of(&plan, seen);
    }
    Ok((status, Json(begun)))
}

fn number(id: &str) -> Result<u64, AdminError> {
    id.parse().map_err(|_| unknown(id))
}

fn unknown(id: &str) -> AdminError {
    AdminError::NotFound {
        what: "rollout",
        name: id.to_owned(),
    }
}

async fn one(
    State(at): State<Administration>,
    Path(id): Path<String>,
) -> Result<Json<RolloutView>, AdminError> {
    let number = number(&id)?;
    let all = at.rollouts.all();
    let found = all.iter().find(|one| one.id == number);
    found.cloned().map(Json).ok_or_else(|| unknown(&id))
}

async fn replay(
    State(at): State<Administration>,
    Path(id): Path<String>,
) -> Result<Json<RolloutRecord>, AdminError> {
    Ok(Json(at.rollouts.replay(number(&id)?).await?.into()))
}

async fn newest(
    State(at): State<Administration>,
    Path(endpoint): Path<String>,
) -> Result<Json<RolloutView>, AdminError> {
    let found = at.rollouts.of_endpoint(&known("endpoint", &endpoint)?);
    found.map(Json).ok_or(AdminError::NotFound {
        what: "rollout of endpoint",
        name: endpoint,
    })
}

async fn tell(
    State(at): State<Administration>,
    Path(endpoint): Path<String>,
    body: Body,
) -> Result<Json<RolloutView>, AdminError> {
    let RolloutCommand { command, by } = parse(body).await?;
    let by = by.unwrap_or_else(user_of_process);
    let endpoint = known("endpoint", &endpoint)?;
    Ok(Json(at.rollouts.tell(endpoint, command, by).await?))
}

async fn feedback(
    State(at): State<Administration>,
    Path(endpoint): Path<String>,
    body: Body,
) -> Result<Json<Learned>, AdminError> {
    let labels: Vec<Label> = parse(body).await?;
    let endpoint = known("endpoint", &endpoint)?;
    Ok(Json(at.rollouts.learn(endpoint, labels).await?))
}

/// Hears labels that a client has sent to an endpoint, one or a list; the status and the body of the answer.
pub(crate) async fn hear_labels(
    rollouts: &Rollouts,
    endpoint: EndpointName,
    body: Bytes,
) -> (StatusCode, Value) {
    let refused = |error: AdminError| (error.status(), json!({"message": error.to_string()}));
    // Elsewhere: this is a thread that answers requests.
    let read = spawn_blocking(move || match body.trim_ascii_start().starts_with(b"{") {
        true => serde_json::from_slice::<Label>(&body).map(|label| vec![label]),
        false => serde_json::from_slice(&body),
    });
    let labels = match read.await {
        Ok(Ok(labels)) => labels,
        Ok(Err(error)) => return refused(AdminError::Body(error)),
        Err(_) => return refused(ChangeError::Stopped.into()),
    };
    match rollouts.learn(endpoint, labels).await {
        Ok(learned) => (StatusCode::OK, json!(learned)),
        Err(error) => refused(error.into()),
    }
}

/// A number that rises with each report.
fn number_of_now() -> u64 {
    Timestamp::now().as_microsecond().try_into().unwrap_or(0)
}

#[derive(Deserialize)]
struct Arms {
    from: String,
    to: String,
}

async fn verdict(
    State(at): State<Administration>,
    Path(endpoint): Path<String>,
    arms: Result<Query<Arms>, QueryRejection>,
) -> Result<(StatusCode, Json<VerdictAnswer>), AdminError> {
    let Arms { from, to } = query(arms)?;
    let arms = (known("deployment", &from)?, known("deployment", &to)?);
    let view = at
        .rollouts
        .verdict(known("endpoint", &endpoint)?, arms)
        .await?;
    let status = match view.verdict {
        Verdict::Safe => StatusCode::OK,
        Verdict::Undecided => StatusCode::CONFLICT,
        Verdict::Harm => StatusCode::PRECONDITION_FAILED,
    };
    let report = report_of(
        &view.findings,
        &view.capitals_harm,
        format!("{} {}", at.server.started, at.server.pid),
        (at.controller.view().revision.0, number_of_now()),
        view.to.to_string(),
    );
    Ok((status, Json(VerdictAnswer { view, report })))
}

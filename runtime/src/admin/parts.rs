//! The parts of the server that the admin routes work on, and the readers that they share.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde::de::DeserializeOwned;

use crate::admin::error::AdminError;
use crate::admin::server_file::ServerFile;
use crate::config::{ADMIN_BODY_BYTES_MAX, BODY_READ_MAX};
use crate::control::{ControllerHandle, Rollouts};
use crate::serve::{Scoring, read_body};

/// The parts of the server that the admin routes need.
#[derive(Clone, Debug)]
pub struct Administration {
    /// The controller, which does what is asked.
    pub controller: ControllerHandle,
    /// The judge of rollouts.
    pub rollouts: Rollouts,
    /// The scoring side, which knows whether the server is ready, and the metrics.
    pub scoring: Scoring,
    /// Addresses and token of this server.
    pub server: Arc<ServerFile>,
}

/// A name that can exist; one that breaks the rules for names does not exist either.
pub(super) fn known<N: std::str::FromStr>(what: &'static str, name: &str) -> Result<N, AdminError> {
    name.parse().map_err(|_| AdminError::NotFound {
        what,
        name: name.to_owned(),
    })
}

pub(super) async fn parse<T: DeserializeOwned>(body: Body) -> Result<T, AdminError> {
    let body = read_body(body, ADMIN_BODY_BYTES_MAX, BODY_READ_MAX).await?;
    serde_json::from_slice(&body).map_err(AdminError::Body)
}

pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, AdminError> {
    query
        .map(|Query(value)| value)
        .map_err(|rejection| AdminError::Query(rejection.body_text()))
}

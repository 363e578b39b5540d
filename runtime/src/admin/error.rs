//! Refusals of administrative requests, and the only place with their status codes.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::admin::wire::{ErrorBody, ErrorCode, Refusal};
use crate::control::{ChangeError, ErrorKind, ModelStoreError, StoreError};
use crate::serve::Failure;

/// The reason why an administrative request was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(
        "the token is missing or not that of this server: read it from server.json in the data folder"
    )]
    Unauthorized,
    #[error(
        "too many wrong tokens: send the one of server.json in the data folder, or try again later"
    )]
    TooManyWrongTokens,
    #[error(
        "this server is no {0:?}: send administrative requests to the address that is in server.json, or to localhost"
    )]
    OtherHost(String),
    #[error("this request comes from a web page ({0}), and pages may not use administration")]
    ForeignPage(String),
    #[error("nothing is served at {0}")]
    NoRoute(String),
    #[error("the method {method} is not allowed for {path}")]
    MethodNotAllowed { method: String, path: String },
    #[error("the body is not what this route takes: {0}")]
    Body(#[source] serde_json::Error),
    #[error("the query is not what this route takes: {0}")]
    Query(String),
    #[error("the path of a model must be absolute, found {0:?}")]
    RelativePath(std::path::PathBuf),
    #[error("{what} {name:?} does not exist")]
    NotFound { what: &'static str, name: String },
    #[error("the log cannot be read: {0}")]
    Log(#[source] std::io::Error),
    #[error(transparent)]
    Unread(#[from] Failure),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Model(#[from] ModelStoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdminError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized => ErrorCode::Unauthorized,
            Self::TooManyWrongTokens => ErrorCode::ServerBusy,
            Self::NoRoute(_) | Self::NotFound { .. } => ErrorCode::ResourceNotFound,
            Self::MethodNotAllowed { .. }
            | Self::Body(_)
            | Self::Query(_)
            | Self::RelativePath(_)
            | Self::OtherHost(_)
            | Self::ForeignPage(_)
            | Self::Unread(_) => ErrorCode::BadArgument,
            Self::Change(error) => code(error.kind()),
            Self::Model(error) => code(error.kind()),
            Self::Store(_) | Self::Log(_) => ErrorCode::InsufficientStorage,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyWrongTokens => StatusCode::TOO_MANY_REQUESTS,
            Self::OtherHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::ForeignPage(_) => StatusCode::FORBIDDEN,
            Self::Unread(failure) => failure.status(),
            _ => match self.code() {
                ErrorCode::BadArgument => StatusCode::BAD_REQUEST,
                ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
                ErrorCode::ResourceNotFound => StatusCode::NOT_FOUND,
                ErrorCode::ResourceAlreadyExists | ErrorCode::Conflict => StatusCode::CONFLICT,
                ErrorCode::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
                ErrorCode::ServerBusy => StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Other => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    fn details(&self) -> &[String] {
        match self {
            Self::Change(error) => error.details(),
            _ => &[],
        }
    }
}

fn code(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::NotFound => ErrorCode::ResourceNotFound,
        ErrorKind::AlreadyExists => ErrorCode::ResourceAlreadyExists,
        ErrorKind::Invalid => ErrorCode::BadArgument,
        ErrorKind::Conflict => ErrorCode::Conflict,
        ErrorKind::Storage => ErrorCode::InsufficientStorage,
        ErrorKind::Busy => ErrorCode::ServerBusy,
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        tracing::debug!(status = self.status().as_u16(), error = %self, "administrative request refused");
        let error = ErrorBody {
            code: self.code(),
            message: self.to_string(),
            details: self.details().to_vec(),
        };
        let mut response = (self.status(), Json(Refusal { error })).into_response();
        if matches!(self, Self::TooManyWrongTokens) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_refusal_has_its_status() {
        let cases: [(AdminError, u16); 13] = [
            (AdminError::Unauthorized, 401),
            (AdminError::TooManyWrongTokens, 429),
            (AdminError::OtherHost("x".into()), 421),
            (AdminError::ForeignPage("x".into()), 403),
            (AdminError::NoRoute("/x".into()), 404),
            (
                AdminError::NotFound {
                    what: "endpoint",
                    name: "iris".into(),
                },
                404,
            ),
            (
                AdminError::MethodNotAllowed {
                    method: "PUT".into(),
                    path: "/x".into(),
                },
                405,
            ),
            (AdminError::Query("x".into()), 400),
            (Failure::BodyTooLarge { bytes_max: 1 }.into(), 413),
            (ChangeError::AlreadyExists("x".into()).into(), 409),
            (ChangeError::Conflict("x".into()).into(), 409),
            (ChangeError::Storage("x".into()).into(), 507),
            (ChangeError::Busy.into(), 503),
        ];
        for (error, status) in cases {
            assert_eq!(error.status().as_u16(), status, "{error}");
        }
    }
}

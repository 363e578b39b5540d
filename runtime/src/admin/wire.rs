//! What crosses the admin listener beside the types of `control`.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::{Change, Revision};
use crate::spec::{ModelName, ModelVersion};

/// Body of `POST /v1/changes`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// What shall change.
    pub change: Change,
    /// Who asks, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Refuse unless this is the current revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_revision: Option<Revision>,
}

/// Body of `POST /v1/models`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    /// File or folder on the server's machine, absolute.
    pub path: PathBuf,
    /// Name, shared by all versions.
    pub name: ModelName,
    /// Without one the next number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ModelVersion>,
    /// Who asks, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the server.
    pub version: String,
    /// Process id of the server.
    pub pid: u32,
    /// When it was up.
    pub started: Timestamp,
    /// Whether every deployment that has traffic can answer.
    pub ready: bool,
    /// The revision of what it should run.
    pub revision: Revision,
    /// Where requests are scored.
    pub scoring_address: SocketAddr,
    /// Where it is administered.
    pub admin_address: SocketAddr,
}

/// What kind of refusal it is, in the words of Azure's control plane where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request is wrong in itself.
    BadArgument,
    /// No token, or not the one of `server.json`.
    Unauthorized,
    /// What it names does not exist.
    ResourceNotFound,
    /// What it would create exists.
    ResourceAlreadyExists,
    /// It does not fit the present state.
    Conflict,
    /// The disk refused.
    InsufficientStorage,
    /// Too much waits already, or the server is stopping.
    ServerBusy,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind of refusal it is.
    pub code: ErrorCode,
    /// What was expected, what was found, what to do.
    pub message: String,
    /// Each problem by itself, where there are several.
    #[serde(default)]
    pub details: Vec<String>,
}

/// The form of every refusal: `{"error": {..}}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: ErrorBody,
}

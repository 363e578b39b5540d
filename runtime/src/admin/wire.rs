//! Wire types of the admin listener beside the types of `control`.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::canary::{Command, Course, RolloutPlan};
use crate::config::{BY_BYTES_MAX, SPEC_BYTES_MAX};
use crate::control::{Change, LatencyAt, ProvisioningState, Replay, Revision, VerdictView};
use crate::engine::{ModelSummary, Obstacle};
use crate::evidence::Report;
use crate::serve::{DegradedDeployment, ShortDeployment};
use crate::spec::{DeploymentName, EndpointName, ModelAbout, ModelName, ModelVersion, Percent};

/// Body of `POST /v1/changes`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// The change that is asked for.
    pub change: Change,
    /// The name of who asks, for the journal.
    #[serde(
        default,
        deserialize_with = "bounded_by",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
    /// The revision that must be the current one; any other refuses the change.
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
    /// The version; without one the next number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ModelVersion>,
    /// The name of who asks, for the journal.
    #[serde(
        default,
        deserialize_with = "bounded_by",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
}

/// Body of `POST /v1/models/{name}/{version}/about`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutRequest {
    /// What is said of the version from now on.
    #[serde(deserialize_with = "bounded_about")]
    pub about: ModelAbout,
    /// The name of who asks, for the journal.
    #[serde(
        default,
        deserialize_with = "bounded_by",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
}

/// Body of `POST /v1/rollouts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The rollout as it is planned.
    pub plan: RolloutPlan,
    /// Nothing is begun: the answer says what would be.
    #[serde(default)]
    pub dry_run: bool,
    /// The name of who asks, for the journal.
    #[serde(
        default,
        deserialize_with = "bounded_by",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
}

/// Body of `POST /v1/endpoints/{endpoint}/rollout`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutCommand {
    /// What is wanted of the newest rollout of the endpoint.
    pub command: Command,
    /// The name of who asks, for the journal.
    #[serde(
        default,
        deserialize_with = "bounded_by",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
}

/// Answer of `GET /v1/rollouts/{id}/replay`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// The record, played again.
    #[serde(flatten)]
    pub replay: Replay,
    /// The course of the evidence.
    #[serde(default)]
    pub course: Course,
    /// The latency of both versions.
    #[serde(default)]
    pub latency: Vec<LatencyAt>,
}

/// Answer of `GET /v1/endpoints/{endpoint}/verdict`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerdictAnswer {
    /// What the two deployments say of each other here.
    #[serde(flatten)]
    pub view: VerdictView,
    /// The same for whoever merges several machines. The evidence of a rollout goes on over restarts: of the reports of one machine about a
    /// rollout only the newest counts, whichever start it names.
    pub report: Report,
}

impl From<Replay> for RolloutRecord {
    fn from(replay: Replay) -> Self {
        Self {
            course: replay.rollout.course.clone(),
            latency: replay.rollout.latency.clone(),
            replay,
        }
    }
}

/// Reads what is said of a model; it stands in every list of models.
fn bounded_about<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ModelAbout, D::Error> {
    let about = ModelAbout::deserialize(deserializer)?;
    let bytes = serde_json::to_vec(&about).map_or(usize::MAX, |text| text.len());
    match bytes > SPEC_BYTES_MAX {
        true => Err(de::Error::custom(format!(
            "expected at most {SPEC_BYTES_MAX} bytes of description, tags and properties, found {bytes}"
        ))),
        false => Ok(about),
    }
}

/// Reads the name of who asks; the journal keeps it with every line.
pub(crate) fn bounded_by<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let by: Option<String> = Option::deserialize(deserializer)?;
    match &by {
        Some(name) if name.len() > BY_BYTES_MAX => Err(de::Error::custom(format!(
            "`by`: expected a name of at most {BY_BYTES_MAX} bytes, found {}",
            name.len()
        ))),
        _ => Ok(by),
    }
}

/// Answer of `GET /v1/models/{name}/{version}`: one of the two.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelGraph {
    /// What the file says of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<ModelSummary>,
    /// The reason why it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_unread: Option<String>,
}

impl From<Result<ModelSummary, Obstacle>> for ModelGraph {
    fn from(read: Result<ModelSummary, Obstacle>) -> Self {
        let (graph, unread) = match read {
            Ok(graph) => (Some(graph), None),
            Err(obstacle) => (None, Some(obstacle.to_string())),
        };
        Self {
            graph,
            graph_unread: unread,
        }
    }
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the server.
    pub version: String,
    /// Process id of the server.
    pub pid: u32,
    /// The time from which it was up.
    pub started: Timestamp,
    /// Whether what was deployed before the start serves again, and some of the traffic can be answered now.
    pub ready: bool,
    /// Deployments that have traffic and no instance to answer it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short: Vec<ShortDeployment>,
    /// Deployments whose last requests all failed by the model's fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<DegradedDeployment>,
    /// The revision of what it should run.
    pub revision: Revision,
    /// The address at which requests are scored.
    pub scoring_address: SocketAddr,
    /// The address at which it is administered.
    pub admin_address: SocketAddr,
    /// The time for which it was up, by a clock that nobody sets; 0 of an earlier server.
    #[serde(default)]
    pub uptime_ms: u64,
    /// Its endpoints with what they do; none of an earlier server.
    #[serde(default)]
    pub endpoints: Vec<EndpointStatus>,
}

/// What an endpoint does now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: EndpointName,
    /// The way that it has come.
    pub provisioning_state: ProvisioningState,
    /// The reason of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rollout that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Its deployments, in the order of their names.
    pub deployments: Vec<DeploymentStatus>,
}

/// A rollout that is on its way, in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Its number.
    pub id: u64,
    /// The stable version.
    pub from: DeploymentName,
    /// The canary.
    pub to: DeploymentName,
    /// The canary's share.
    pub weight: Percent,
    /// Where it stands, in a sentence.
    pub standing: String,
}

/// What a deployment does now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Its name.
    pub name: DeploymentName,
    /// The way that it has come.
    pub provisioning_state: ProvisioningState,
    /// The reason of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The step that is under way, for as long as one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Its share of the traffic.
    pub traffic: Percent,
    /// The share of requests of which it gets copies.
    pub mirror_traffic: Percent,
    /// Instances that answer requests.
    pub instances_ready: usize,
    /// Instances that there should be.
    pub instance_count: u32,
    /// Requests that have ended since the server started, or since a deployment of this name was made.
    pub requests: u64,
    /// The same for each second lately. Filled in by who has asked twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<f64>,
    /// Requests that wait for a slot or have one.
    pub in_flight: u64,
    /// Whether its last requests all failed by the model's fault.
    pub degraded: bool,
}

/// The kind of a refusal, in the words of Azure's control plane where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request is wrong in itself.
    BadArgument,
    /// No token, or not the one of `server.json`.
    Unauthorized,
    /// Something that it names does not exist.
    ResourceNotFound,
    /// Something that it would create exists.
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

/// The reason why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The kind of the refusal.
    pub code: ErrorCode,
    /// Sentences that say what was expected, what was found, what to do.
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

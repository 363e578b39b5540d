//! The versions that were found, and what is known of them: what the other files here share.
//!
//! Not here: how they are found (`versions`).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::admin::Client;
use crate::control::FoundModel;
use crate::spec::{DeploymentName, EndpointName};

/// Requests at once where nobody says what the server takes.
pub(in crate::cli) const CONNECTIONS: usize = 8;

/// Bodies of requests.
pub(super) type Bodies = Arc<[Bytes]>;

/// A version as it was named, and what is known of it.
pub(super) struct Found {
    pub(super) label: String,
    pub(super) what: String,
    pub(super) place: Place,
    pub(super) model: Option<FoundModel>,
    pub(super) sha256: Option<String>,
}

/// A deployment of a server that runs.
pub(super) struct Deployed {
    pub(super) client: Client,
    pub(super) endpoint: EndpointName,
    pub(super) name: DeploymentName,
    /// As the server shows it.
    pub(super) shown: Value,
}

/// Where a version is.
pub(super) enum Place {
    Deployment(Box<Deployed>),
    File,
    Url {
        address: SocketAddr,
        host: String,
        path: String,
        key: Option<String>,
        /// Through TLS.
        is_secure: bool,
    },
}

/// Requests that a deployment runs at once.
pub(super) fn slots(shown: &Value) -> usize {
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let each = number(&shown["request_settings"]["max_concurrent_requests_per_instance"]);
    let instances = number(&shown["instances_ready"]).or(number(&shown["instance_count"]));
    each.unwrap_or(1) * instances.unwrap_or(1)
}

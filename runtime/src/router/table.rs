//! The immutable view that requests see, and the pointer to it.

use std::sync::Arc;

use crate::router::Deployment;
use crate::spec::{EndpointName, TrafficSplit};

/// What an endpoint checks a request's credential against; made by `control::credentials`, read by `serve::auth`.
#[derive(Debug, Clone)]
pub enum EndpointAuth {
    /// In process or `serin up`: no key.
    Open,
    /// SHA-256 of the primary and the secondary key.
    Key { hashes: [[u8; 32]; 2] },
    /// Tokens signed with this secret (HMAC-SHA-256), of this generation, not expired.
    Token {
        secret: Arc<[u8; 32]>,
        generation: u64,
    },
}

/// Why a credential does not open an endpoint. Never says which part matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// No `Authorization: Bearer ...` came with the request.
    #[error("no credential: send `Authorization: Bearer <key or token>`")]
    Missing,
    /// It is no key, or no token, of this endpoint.
    #[error("the credential is not valid for this endpoint")]
    Invalid,
    /// The token was good until then (seconds since the Unix epoch).
    #[error("the token expired at {expired_unix_s}: ask for a new one")]
    Expired { expired_unix_s: i64 },
}

impl EndpointAuth {
    /// Checks what came after `Bearer`. Takes the same time for every wrong credential of one length.
    pub fn check(&self, _bearer: Option<&str>, _now_unix_s: i64) -> Result<(), Unauthorized> {
        todo!()
    }
}

/// One endpoint under one table.
#[derive(Debug)]
pub struct Endpoint {}

impl Endpoint {
    /// `seed` keys the permuted block. The ticket counter starts at 0 with each new split and is carried over (`previous`)
    /// when the split is unchanged, so that blocks stay aligned across unrelated changes.
    pub fn new(
        _name: EndpointName,
        _auth: EndpointAuth,
        _split: TrafficSplit,
        _deployments: Vec<Arc<Deployment>>,
        _previous: Option<&Self>,
    ) -> Arc<Self> {
        todo!()
    }
    pub fn name(&self) -> &EndpointName {
        todo!()
    }
    pub fn auth(&self) -> &EndpointAuth {
        todo!()
    }
    pub fn split(&self) -> &TrafficSplit {
        todo!()
    }
    pub fn deployments(&self) -> &[Arc<Deployment>] {
        todo!()
    }
}

/// All endpoints at one revision.
#[derive(Debug, Default)]
pub struct RoutingTable {}

impl RoutingTable {
    pub fn new(_endpoints: Vec<Arc<Endpoint>>) -> Self {
        todo!()
    }
    /// By name, without case.
    pub fn endpoint(&self, _name: &str) -> Option<&Arc<Endpoint>> {
        todo!()
    }
    /// The only endpoint, when there is exactly one.
    pub fn only(&self) -> Option<&Arc<Endpoint>> {
        todo!()
    }
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        std::iter::empty()
    }
}

/// The pointer to the current table.
#[derive(Debug, Default)]
pub struct Router {}

impl Router {
    pub fn new() -> Arc<Self> {
        todo!()
    }
    pub fn table(&self) -> Arc<RoutingTable> {
        todo!()
    }
    /// One pointer swap.
    pub fn publish(&self, _table: RoutingTable) {
        todo!()
    }
}

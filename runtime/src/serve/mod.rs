//! Protocols to clients: bytes in, bytes out, and one place that turns a failure into a status.

mod answer;
mod auth;
mod body;
mod bytes_in_flight;
mod client;
mod client_stream;
mod drain;
mod exposition;
mod failure;
mod feedback;
mod head;
mod health;
mod http;
mod listen;
mod openapi;
mod origin;
mod places;
mod refusals;
mod request_body;
mod request_id;
mod rest;
mod score;
mod script;
mod sticky;
mod timed_writes;
mod wrong_keys;

pub use body::read_body;
pub use bytes_in_flight::{BytesInFlight, NoRoom};
pub use client::Authenticated;
pub use drain::Drain;
pub use exposition::{metrics_response, metrics_routes};
pub use failure::{Failure, Fault};
pub use feedback::{FeedbackDesk, Telling, Told};
pub use head::HeadFault;
pub use health::{DegradedDeployment, Health, ShortDeployment};
pub use listen::{
    ConnectionLimits, ConnectionQueue, Connections, accept, connection_queue, listen,
};
pub use origin::{foreign_host, foreign_page};
pub use score::{Readiness, Scoring};
pub use wrong_keys::{Peer, WrongKey, WrongKeys};

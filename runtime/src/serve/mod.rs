//! Protocols to clients: bytes in, bytes out, and one place that turns a failure into a status.

mod auth;
mod body;
mod bytes_in_flight;
mod drain;
mod failure;
mod health;
mod http;
mod listen;
mod request_id;
mod score;
mod timed_writes;

pub use body::read_body;
pub use bytes_in_flight::{BytesInFlight, NoRoom};
pub use drain::Drain;
pub use failure::{Failure, Fault};
pub use health::{DegradedDeployment, Health, ShortDeployment};
pub use listen::{
    ConnectionLimits, ConnectionQueue, Connections, accept, connection_queue, listen,
};
pub use score::{Readiness, Scoring};

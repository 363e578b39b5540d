//! Who gets the request, and whether.

mod admission;
pub mod auth;
mod deployment;
mod outbox;
mod score;
mod table;

pub use admission::{AdmissionControl, Rejected};
pub use auth::{EndpointAuth, Unauthorized};
pub use deployment::Deployment;
pub use outbox::deliver;
pub use score::{Answer, ScoreRequest, Unserved};
pub use table::{Endpoint, MissingDeployment, Router, RoutingTable};

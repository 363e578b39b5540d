//! Who gets the request, and whether.

mod admission;
mod deployment;
mod score;
mod table;

pub use admission::{AdmissionControl, Rejected};
pub use deployment::Deployment;
pub use score::{Answer, ScoreRequest, Unserved};
pub use table::{Endpoint, EndpointAuth, Router, RoutingTable, Unauthorized};

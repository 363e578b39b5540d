//! The data plane's decisions: who gets the request, and whether.

mod admission;
pub mod auth;
mod deployment;
mod score;
mod script;
mod submission_queue;
mod table;
mod turn;

pub use admission::{AdmissionControl, Rejected};
pub use auth::{EndpointAuth, Unauthorized};
pub use deployment::Deployment;
pub use score::{Answer, RequestInputs, ScoreRequest, Unserved};
pub use script::{MakesHead, ScriptWords};
pub use submission_queue::deliver;
pub use table::{Endpoint, MissingDeployment, Router, RoutingTable};
pub use turn::Turn;

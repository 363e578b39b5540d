//! The data plane's decisions: who gets the request, and whether.

mod admission;
#[cfg(feature = "server")]
pub mod answers;
mod assigned;
mod auth;
mod deployment;
#[cfg(feature = "server")]
mod handoff;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
mod mirror;
#[cfg(feature = "server")]
pub mod pairs;
mod routes;
mod run;
mod score;
mod script;
mod submission_queue;
mod table;
mod turn;
#[cfg(feature = "server")]
mod unauthorized;

pub use admission::{AdmissionControl, Rejected};
pub use assigned::Marks;
pub use auth::EndpointAuth;
pub use deployment::Deployment;
pub use routes::{Routes, ShadowRoute, StickyRoutes};
pub use score::{Answer, RequestInputs, ScoreRequest, Unserved};
pub use script::{MakesHead, ScriptWords};
pub use submission_queue::deliver;
pub use table::{Endpoint, MissingDeployment, Router, RoutingTable};
pub use turn::Turn;
#[cfg(feature = "server")]
pub use unauthorized::Unauthorized;

//! The control plane over HTTP: routes for the server, a client for the command line, and the file by which they meet.

mod activity;
#[cfg(feature = "cli")]
mod client;
#[cfg(feature = "cli")]
mod client_rollouts;
mod error;
mod parts;
mod rollouts;
mod routes;
mod server_file;
mod user;
mod wire;

#[cfg(feature = "cli")]
pub(crate) use client::attended;
#[cfg(feature = "cli")]
pub use client::{Answer, Client, ClientError};
pub use parts::Administration;
pub(crate) use rollouts::hear_labels;
pub use routes::routes;
pub use server_file::{ServerFile, ServerFileError};
pub use user::user_of_process;
pub use wire::{
    AboutRequest, ChangeRequest, DeploymentStatus, EndpointStatus, ErrorBody, ErrorCode,
    ModelGraph, ModelRequest, RolloutCommand, RolloutRecord, RolloutRequest, RolloutStatus,
    ServerStatus, VerdictAnswer,
};

//! What should be, what is, how to get there.
//!
//! A [`Change`] is applied to [`Desired`] (pure), stored, and only then accepted; then a plan (pure) leads from what runs to
//! what should run, and the [`Controller`] carries it out. It is the single writer of everything that requests see.

mod change;
mod controller;
mod credentials;
mod desired;
mod models;
mod operation;
mod plan;
mod reconcile;
mod starter;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod view;

pub use change::{Change, ChangeError, DeploymentUpdate, EndpointUpdate, ErrorKind, KeyType};
pub use controller::{Controller, ControllerConfig, ControllerHandle, StartupError};
pub use credentials::Credentials;
pub use desired::{Desired, Revision};
pub use models::{FoundModel, ModelDigest, ModelRecord, ModelStoreError};
pub use operation::{Operation, OperationId, ProvisioningState};
pub use store::{JournalEntry, StoreError};
pub use view::{DeploymentView, EndpointView, View};

//! The control plane: what should be, what is, how to get there.
//!
//! A [`Change`] is applied to [`Desired`] (pure), stored, and only then accepted. The reconciler (pure) compares what is with what
//! should be, event by event, and says what to do; the [`Controller`] has it done. It is the single writer of everything that
//! requests see.

mod apply;
mod backup;
mod books;
mod build;
mod change;
mod controller;
mod credentials;
mod desired;
mod event;
mod gathering;
mod last_words;
mod lending;
mod lent;
mod local;
mod mailbox;
mod migration;
mod models;
mod needs;
mod operation;
mod pending_change;
mod reconcile;
mod refusal;
mod registration;
mod registry;
mod revision;
mod script;
#[cfg(test)]
mod simulation;
mod split_rule;
mod starter;
mod store;
#[cfg(test)]
mod tests;
mod validator;
mod view;
mod work;

pub use backup::{BackupError, Copied, back_up, restore};
pub use change::{Change, DeploymentUpdate, EndpointUpdate, KeyType};
pub use controller::{Controller, ControllerConfig, StartupError};
pub use credentials::Credentials;
pub use desired::Desired;
pub use local::{Local, LocalConfig, LocalError, LocalModel};
pub use mailbox::{ControllerHandle, ModelDescription};
pub use models::{FoundModel, ModelDigest, ModelRecord, ModelStoreError};
pub use operation::{Operation, OperationId, ProvisioningState};
pub use refusal::{ChangeError, ErrorKind};
pub use revision::Revision;
pub use store::{JournalEntry, OnLoss, StoreError};
pub use view::{DeploymentView, EndpointView, ScriptView, View};

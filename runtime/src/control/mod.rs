//! The control plane: what should be, what is, how to get there.
//!
//! A [`Change`] is applied to [`Desired`] (pure), stored, and only then accepted. The reconciler (pure) compares what is with what
//! should be, event by event, and says what to do; the [`Controller`] has it done. It is the single writer of everything that
//! requests see.

mod apply;
#[cfg(feature = "server")]
mod backup;
mod books;
mod build;
mod change;
#[cfg(feature = "server")]
mod controller;
#[cfg(feature = "server")]
mod credentials;
mod desired;
mod difference;
mod event;
mod gathering;
#[cfg(feature = "server")]
mod history;
#[cfg(feature = "server")]
mod last_words;
#[cfg(feature = "server")]
mod lending;
#[cfg(feature = "server")]
mod lent;
mod local;
#[cfg(feature = "server")]
mod mailbox;
#[cfg(feature = "server")]
mod migration;
mod models;
mod needs;
#[cfg(feature = "server")]
mod notes;
mod operation;
mod pending_change;
mod reconcile;
mod refusal;
#[cfg(feature = "server")]
mod registration;
#[cfg(feature = "server")]
mod registry;
mod revision;
mod roll_back;
#[cfg(feature = "server")]
mod rollouts;
mod script;
#[cfg(test)]
#[cfg(feature = "server")]
mod simulation;
mod split_rule;
mod starter;
#[cfg(feature = "server")]
mod store;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
mod timestamp;
mod validator;
mod view;
mod work;

#[cfg(feature = "server")]
pub use backup::{BackupError, Copied, back_up, restore};
pub use change::{Change, DeploymentUpdate, EndpointUpdate, KeyType};
#[cfg(feature = "server")]
pub use controller::{Controller, ControllerConfig, StartupError};
#[cfg(feature = "server")]
pub use credentials::Credentials;
pub use desired::{Desired, Stamp};
pub use difference::Difference;
#[cfg(feature = "server")]
pub use history::{AsOf, HistoryEntry};
pub use local::{Local, LocalConfig, LocalError, LocalModel, LocalOutcome, LocalSource};
#[cfg(feature = "server")]
pub use mailbox::{ControllerHandle, ModelDescription, Preview};
#[cfg(feature = "server")]
pub use models::FoundModel;
pub use models::{ModelDigest, ModelRecord, ModelStoreError};
pub use operation::{Operation, OperationId, ProvisioningState};
pub use refusal::{ChangeError, ErrorKind};
pub use revision::Revision;
#[cfg(feature = "server")]
pub use rollouts::{
    KnownTruth, Label, LatencyAt, Learned, Replay, RolloutView, Rollouts, StartRollout, StepView,
    VerdictView, judge, present,
};
#[cfg(feature = "server")]
pub use store::{JournalEntry, OnLoss, StoreError};
pub use view::{DeploymentView, EffectiveSettings, EndpointView, ScriptView, View};

//! controller
use std::path::PathBuf;
use std::sync::Arc;

use crate::control::change::{Change, ChangeError};
use crate::control::credentials::Credentials;
use crate::control::desired::Revision;
use crate::control::models::{ModelRecord, ModelStoreError};
use crate::control::operation::{Operation, OperationId};
use crate::control::store::{JournalEntry, StoreError};
use crate::control::view::View;
use crate::engine::Capacity;
use crate::observe::Metrics;
use crate::router::Router;
use crate::spec::{EndpointName, ModelName, ModelVersion, SkuTable};

/// Settings of the controller.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// What to do when instances ask for more vCPUs than there are cores.
    pub capacity: Capacity,
    /// Instance types.
    pub skus: SkuTable,
    /// The binary that tries models in a child process; without it they are not tried first.
    pub probe_exe: Option<PathBuf>,
    /// How long a token is good for.
    pub token_life: std::time::Duration,
}

/// Why the controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The data folder or what is in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of models.
    #[error(transparent)]
    Models(#[from] ModelStoreError),
}

/// The single writer.
#[derive(Debug)]
pub struct Controller {}

impl Controller {
    /// Opens and locks the data folder, loads what should run, and begins to run it on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartupError`] when the folder cannot be used.
    pub fn start(
        _config: ControllerConfig,
        _router: Arc<Router>,
        _metrics: Arc<Metrics>,
    ) -> Result<ControllerHandle, StartupError> {
        todo!()
    }
}

/// The way to the controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct ControllerHandle {}

impl ControllerHandle {
    /// Asks for a change; returns when it is on disk, that is accepted, or refused.
    pub async fn submit(
        &self,
        _change: Change,
        _by: String,
        _expected: Option<Revision>,
    ) -> Result<Operation, ChangeError> {
        todo!()
    }
    /// Waits for the end of an operation; none when the number is unknown.
    pub async fn finished(&self, _id: OperationId) -> Option<Operation> {
        todo!()
    }
    /// An operation as it is now.
    pub fn operation(&self, _id: OperationId) -> Option<Operation> {
        todo!()
    }
    /// What should be beside what is.
    pub fn view(&self) -> Arc<View> {
        todo!()
    }
    /// What clients of an endpoint need.
    pub async fn credentials(&self, _endpoint: &EndpointName) -> Result<Credentials, ChangeError> {
        todo!()
    }
    /// Copies a model in and gives it a name and version; without a version the next number.
    pub async fn register_model(
        &self,
        _source: PathBuf,
        _name: ModelName,
        _version: Option<ModelVersion>,
        _by: String,
    ) -> Result<ModelRecord, ModelStoreError> {
        todo!()
    }
    /// Forgets a version that no deployment uses.
    pub async fn delete_model(
        &self,
        _name: ModelName,
        _version: ModelVersion,
        _by: String,
    ) -> Result<(), ModelStoreError> {
        todo!()
    }
    /// All registered versions, in the order of registration.
    pub fn models(&self) -> Arc<Vec<ModelRecord>> {
        todo!()
    }
    /// The last lines of the journal, oldest first.
    pub async fn journal(&self, _last: usize) -> Result<Vec<JournalEntry>, StoreError> {
        todo!()
    }
    /// Resolves when all that recovery started has ended.
    pub async fn settled(&self) {
        todo!()
    }
    /// Drains all, stops all, closes the store.
    pub async fn shutdown(self) {
        todo!()
    }
}

//! A server of its own for a bare model file, so that a file is measured by the same engine, over the same wire, as a
//! deployment; and its processor time and memory are its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::{ChangeRequest, Client, ClientError};
use crate::app::{ChildError, ChildServer};
use crate::control::{Change, ProvisioningState};
use crate::spec::{DeploymentName, DeploymentSpec, EndpointName, EndpointSpec};

/// The one endpoint.
const ENDPOINT: &str = "bench";
/// Its one deployment.
const DEPLOYMENT: &str = "model";
/// The instance type of it.
const INSTANCE_TYPE: &str = "bench";
/// Memory that the instance type has, in GiB. It is not enforced.
const MEMORY_GIB: u32 = 1024;

/// The shape of the one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceShape {
    /// Cores that it asks for.
    pub vcpus: usize,
    /// Requests that it takes at once.
    pub concurrency: usize,
    /// Most memory that the model may take to load and answer once, in MB.
    pub model_memory_mb: Option<u64>,
    /// Score threads; none leaves it to the engine.
    pub lanes: Option<u32>,
    /// Most rows of one run; none leaves it to the engine.
    pub batch_size: Option<u32>,
    /// Longest that a lane waits for more requests.
    pub batch_delay: Duration,
    /// The threads of a lane spin while they wait.
    pub spin: bool,
}

impl InstanceShape {
    /// As a specification has it. What is left to the engine is not written.
    fn request_settings(&self) -> Value {
        let mut settings = json!({"max_concurrent_requests_per_instance": self.concurrency});
        let numbers = [("lanes", self.lanes), ("max_batch_size", self.batch_size)];
        for (key, number) in numbers {
            if let Some(number) = number {
                settings[key] = number.into();
            }
        }
        if self.batch_delay > Duration::ZERO {
            let micros = u64::try_from(self.batch_delay.as_micros()).unwrap_or(u64::MAX);
            settings["max_batch_delay_us"] = micros.into();
        }
        if self.spin {
            settings["spin"] = true.into();
        }
        settings
    }
}

/// The server. It ends, and its folder goes, with the value.
#[derive(Debug)]
pub struct PrivateServer {
    // Before the folder, so that the server is gone when its folder goes.
    server: ChildServer,
    _folder: TempDir,
}

/// The reason why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// No folder or no file in it.
    #[error("cannot make a folder for a server")]
    Folder(#[from] std::io::Error),
    /// No server.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The server refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The model does not start.
    #[error("{file} cannot be served: {reason}")]
    Model {
        /// The file.
        file: PathBuf,
        /// The server's words.
        reason: String,
    },
}

impl PrivateServer {
    /// Serves a file by the program `exe`; returns when it answers.
    ///
    /// # Errors
    ///
    /// [`PrivateError`].
    pub fn start(exe: &Path, file: &Path, shape: InstanceShape) -> Result<Self, PrivateError> {
        let folder = tempfile::Builder::new().prefix("serin-bench-").tempdir()?;
        let skus = folder.path().join("skus.yml");
        let sku = json!({"vcpus": shape.vcpus, "memory_gib": MEMORY_GIB});
        // JSON is YAML.
        fs::write(&skus, json!({"skus": {INSTANCE_TYPE: sku}}).to_string())?;
        let skus = skus.to_string_lossy();
        let memory = shape.model_memory_mb.map(|megabytes| megabytes.to_string());
        // Both versions have the same cores: one waits while the other is measured.
        let mut arguments = vec!["--pin", "on", "--skus", &*skus];
        arguments.extend(
            memory
                .iter()
                .flat_map(|memory| ["--model-memory-mb", memory.as_str()]),
        );
        let server = ChildServer::start(exe, folder.path(), &arguments, false)?;
        let private = Self {
            server,
            _folder: folder,
        };
        private.deploy(file, shape)?;
        Ok(private)
    }

    fn deploy(&self, file: &Path, shape: InstanceShape) -> Result<(), PrivateError> {
        let refused = |reason| PrivateError::Model {
            file: file.to_owned(),
            reason,
        };
        let path = fs::canonicalize(file)?;
        let spec = json!({
            "name": DEPLOYMENT,
            "model": {"path": path},
            "instance_type": INSTANCE_TYPE,
            "request_settings": shape.request_settings(),
        });
        let deployment: DeploymentSpec =
            serde_json::from_value(spec).map_err(|error| refused(error.to_string()))?;
        let client = self.client()?;
        for change in [
            Change::CreateEndpoint {
                endpoint: EndpointSpec::new(self.endpoint()),
                deployments: Vec::new(),
            },
            Change::CreateDeployment {
                endpoint: self.endpoint(),
                deployment,
                all_traffic: true,
            },
        ] {
            let request = ChangeRequest {
                change,
                by: None,
                expected_revision: None,
            };
            let ended = client.wait(client.change(&request)?.id)?;
            if ended.provisioning_state != ProvisioningState::Succeeded {
                return Err(refused(ended.reason.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Speaks to it.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when it is gone.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::connect(self.server.data())
    }

    /// The endpoint that serves the file.
    #[must_use]
    pub fn endpoint(&self) -> EndpointName {
        ENDPOINT.parse().expect("a name by the rules")
    }

    /// Its deployment.
    #[must_use]
    pub fn deployment(&self) -> DeploymentName {
        DEPLOYMENT.parse().expect("a name by the rules")
    }
}

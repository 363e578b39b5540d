//! serin in your program: endpoints, deployments, traffic split and admission in process, without HTTP and with nothing stored.
//!
//! The same routing table, admission, instances and reconciler as in the server: what is asked for comes about in the same way,
//! and an instance that dies is replaced. Only the store is missing, because the program that embeds serin decides.
//!
//! Threads: callers' own compute where that is quicker than to hand over, those of instances do the rest, one has the control plane.
//! Nothing here blocks but what says so in its name.

mod deployment;
mod endpoint;
mod error;
mod executor;
mod metrics;
mod pending;
mod request;
mod response;
mod runtime;
mod status;

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::deployment::{Deployment, Model};
pub use self::endpoint::{Endpoint, EndpointBuilder};
use self::error::Ended;
pub use self::error::{Error, ScoreError};
pub use self::metrics::DeploymentCounts;
pub use self::pending::Pending;
pub use self::request::Request;
pub use self::response::Response;
use self::runtime::Runtime;
pub use self::status::{DeploymentStatus, InstanceStatus, State, Status};
use crate::control::{Local, LocalConfig};
use crate::engine::{
    Capacity, ForkedChild, LibraryError, Pinning, Prober, refuse_after_fork, set_library,
};
#[cfg(feature = "ort")]
use crate::engine::{Environment, environment_in_use, set_environment};
use crate::observe::Metrics;
use crate::router::Router;
use crate::spec::SkuTable;

/// Serves ONNX models in this process: endpoints with deployments, a traffic split, and admission, as the server has them.
///
/// Cheap to clone; the clones share cores and endpoints. Two that are built know of each other's cores too.
///
/// ```
/// use serin::{Request, Serin, TensorView};
///
/// let serin = Serin::new()?;
/// let digits = serin
///     .endpoint("digits")
///     .deployment("blue", "../models/digits/1/model.onnx")
///     .deployment("green", "../models/digits/2/model.onnx")
///     .traffic("blue=90 green=10")
///     .start_blocking()?;
///
/// // One request in ten goes to green, exactly; and any request can be sent there.
/// let pixels = [0.0_f32; 64];
/// let image = TensorView::new([1, 64], &pixels)?;
/// let answer = digits.run_blocking(Request::tensors([image.clone()]))?;
/// println!("{} says {:?}", answer.deployment(), answer.tensor("label"));
/// let answer = digits.run_blocking(Request::tensors([image]).to("green"))?;
/// assert_eq!(answer.deployment(), "green");
///
/// digits.set_traffic("blue=0 green=100").wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Serin {
    runtime: Arc<Runtime>,
}

/// Settings of a [`Serin`].
#[derive(Debug, Default)]
#[must_use = "nothing is built before `build`"]
pub struct Builder {
    capacity: Capacity,
    pinning: Pinning,
    prober: Option<Prober>,
    onnxruntime: Option<PathBuf>,
    #[cfg(feature = "ort")]
    environment: EnvironmentOfHost,
}

/// The environment of ONNX Runtime that the program has made, if it has.
#[cfg(feature = "ort")]
#[derive(Default)]
struct EnvironmentOfHost(Option<Environment>);

#[cfg(feature = "ort")]
impl std::fmt::Debug for EnvironmentOfHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnvironmentOfHost")
    }
}

/// The environment of ONNX Runtime that serin uses in this process, for other users of `ort`. Loads the library where that has not
/// happened.
///
/// # Errors
///
/// [`Error::OnnxRuntime`].
#[cfg(feature = "ort")]
pub fn environment() -> Result<Environment, Error> {
    environment_in_use().map_err(|error| Error::OnnxRuntime(error.to_string()))
}

impl Builder {
    /// A serin binary, by which a model is first loaded and run once in a child process, so that one which crashes, hangs or eats all
    /// memory is refused and harms nothing, and by which lanes may be processes of their own. Without one, models are tried nowhere, and
    /// lanes are threads of this process.
    pub fn serin_binary(self, path: impl Into<PathBuf>) -> Self {
        self.prober(Prober::new(path.into()))
    }

    pub(crate) fn prober(mut self, prober: Prober) -> Self {
        self.prober = Some(prober);
        self
    }

    /// The shared library of ONNX Runtime, 1.24 or later. There is one in a process: a second that is another is refused.
    pub fn onnxruntime(mut self, library: impl Into<PathBuf>) -> Self {
        self.onnxruntime = Some(library.into());
        self
    }

    /// The environment of ONNX Runtime that the program has made by itself. There is one in a process.
    #[cfg(feature = "ort")]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = EnvironmentOfHost(Some(environment));
        self
    }

    /// The rule where instances ask for more cores than there are; without it they share.
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// Whether threads keep to the cores of their instance; without it where no other server of the user has them.
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// Ready to start endpoints: one thread, which has the control plane. ONNX Runtime is loaded with the first model.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where the serin binary is not a file that can be run, [`Error::OnnxRuntime`] where the library or the environment
    /// that was given cannot be used, [`Error::Threads`];
    /// [`Error::Forked`] in a process that came of a fork of one that uses serin.
    pub fn build(self) -> Result<Serin, Error> {
        refuse_after_fork().map_err(|ForkedChild| Error::Forked)?;
        if let Some(prober) = &self.prober {
            check_binary(&prober.exe)?;
        }
        let unfit = |error: LibraryError| Error::OnnxRuntime(error.to_string());
        if let Some(library) = self.onnxruntime {
            set_library(library).map_err(unfit)?;
        }
        #[cfg(feature = "ort")]
        if let EnvironmentOfHost(Some(environment)) = self.environment {
            set_environment(environment).map_err(unfit)?;
        }
        let (router, metrics) = (Router::new(), Metrics::new());
        let config = LocalConfig {
            capacity: self.capacity,
            pinning: self.pinning,
            prober: self.prober,
        };
        let shown = (Arc::clone(&router), Arc::clone(&metrics));
        let control = Local::start(config, shown.clone())
            .map_err(|error| Error::Threads(error.to_string()))?;
        Ok(Serin {
            runtime: Arc::new(Runtime::new(shown, SkuTable::builtin(), control)),
        })
    }
}

/// Nothing is known of the binary before it is needed, but that the system would run it.
fn check_binary(binary: &Path) -> Result<(), Error> {
    let is_run = |found: Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    let problem = match std::fs::metadata(binary) {
        Ok(found) if is_run(found.clone()) => return Ok(()),
        Ok(_) => "it is not a file that may be run".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::Invalid(vec![format!(
        "the serin binary {} cannot be used: {problem}",
        binary.display()
    )]))
}

impl Serin {
    /// With the default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Settings to begin with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Describes an endpoint; nothing runs before it starts.
    pub fn endpoint(&self, name: impl Into<String>) -> EndpointBuilder {
        EndpointBuilder::new(Arc::clone(&self.runtime), name.into())
    }

    /// Ends everything: no request begins any more, also none that waits for a slot; runs under way may end within this time and are cut
    /// then. Done when every thread of every instance has ended.
    ///
    /// Comes back with [`Error::StillRuns`] soon after that time where something does not end: a node of a graph that computes for long
    /// does not look whether it is to end. It has background priority then, and ends by itself or with the process.
    pub fn shutdown(&self, within: Duration) -> Pending {
        if let Err(ended @ Ended::Forked) = self.runtime.check() {
            return Pending::refused(ended.into());
        }
        self.runtime.stop();
        Pending::ending(self.runtime.control().shutdown(within))
    }

    /// What became of the requests of each deployment so far, and what it has now. Of deployments that are there: read it before a shutdown.
    #[must_use]
    pub fn metrics(&self) -> Vec<DeploymentCounts> {
        let metrics = self.runtime.metrics();
        metrics.each_deployment(DeploymentCounts::of)
    }

    /// All metrics in the text format of Prometheus, to be joined with others: without the mark of its end.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let text = self.runtime.metrics().render();
        text.strip_suffix("# EOF\n").unwrap_or(&text).to_owned()
    }

    /// Registers all metrics, those of deployments to come too, with a registry of the program.
    #[cfg(feature = "prometheus-client")]
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.runtime.metrics().register(registry);
    }

    /// The parts that the scoring routes need to serve these endpoints over HTTP.
    pub(crate) fn parts(&self) -> (Arc<Router>, Arc<Metrics>) {
        (
            Arc::clone(self.runtime.router()),
            Arc::clone(self.runtime.metrics()),
        )
    }
}

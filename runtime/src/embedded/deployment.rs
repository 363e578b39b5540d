//! A deployment as a program describes it: a model, and the means of its instances.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use serin_scorers::NonFinite;

use crate::config::REQUEST_TIMEOUT_DEFAULT;
use crate::control::{LocalModel, LocalSource, ModelInMemory};
use crate::engine::BatchSettings;
use crate::spec::{Assignment, DeploymentName, DeploymentSpec, Isolation, ModelRef, SkuTable};

/// An ONNX model: a file, or bytes in memory.
#[derive(Debug, Clone)]
pub struct Model(LocalSource);

impl Model {
    /// An ONNX file. Tensors that it keeps in files of their own are looked for beside it. All of them are copied before they are
    /// loaded, so that they may be rewritten meanwhile.
    #[must_use]
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self(LocalSource::File(path.as_ref().to_owned()))
    }

    /// An ONNX file in memory, with all its tensors inside: `Model::bytes(include_bytes!("model.onnx"))`.
    #[must_use]
    pub fn bytes(model: impl Into<Bytes>) -> Self {
        let model = ModelInMemory::new("the model in memory".to_owned(), model.into());
        Self(LocalSource::Bytes(Arc::new(model)))
    }
}

impl<P: AsRef<Path>> From<P> for Model {
    fn from(path: P) -> Self {
        Self::file(path)
    }
}

/// A deployment: a version of a model, and the means of its instances.
///
/// Without more it is one instance on one core, which runs one request at a time; requests wait for it in order of arrival.
#[derive(Debug, Clone)]
pub struct Deployment {
    model: Model,
    settings: DeploymentSettings,
}

impl<M: Into<Model>> From<M> for Deployment {
    fn from(model: M) -> Self {
        Self::new(model)
    }
}

impl Deployment {
    /// A deployment of this model.
    #[must_use]
    pub fn new(model: impl Into<Model>) -> Self {
        Self {
            model: model.into(),
            settings: DeploymentSettings::default(),
        }
    }

    pub(crate) fn with_settings(self, settings: DeploymentSettings) -> Self {
        Self { settings, ..self }
    }

    fn with(mut self, set: impl FnOnce(&mut DeploymentSettings)) -> Self {
        set(&mut self.settings);
        self
    }

    /// Copies of the model, each on cores of its own while there are enough; 1 where nothing is said.
    #[must_use]
    pub fn instances(self, count: u32) -> Self {
        self.with(|settings| settings.instance_count = count)
    }

    /// Cores of one instance; 1 where nothing is said.
    #[must_use]
    pub fn vcpus(self, vcpus: usize) -> Self {
        self.with(|settings| settings.vcpus = vcpus)
    }

    /// Cores and memory of one instance by the name of an Azure instance type, such as `Standard_F4s_v2`; beats [`Self::vcpus`].
    #[must_use]
    pub fn instance_type(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(|settings| settings.instance_type = Some(name))
    }

    /// Requests that one instance has at once; 1 where nothing is said. Those that no lane is free for wait in the instance, where
    /// they may share a run.
    #[must_use]
    pub fn concurrency(self, requests: u32) -> Self {
        self.with(|settings| settings.max_concurrent_requests_per_instance = requests)
    }

    /// Requests that one instance computes at once, each on its share of the cores; as many as it has at once, up to its cores,
    /// where nothing is said.
    #[must_use]
    pub fn lanes(self, lanes: u32) -> Self {
        self.with(|settings| settings.lanes = Some(lanes))
    }

    /// The bounds within which requests share a run: most rows of one, and the longest wait for company. Where nothing is said, rows
    /// are joined where the graph proves that they are independent and it was measured to pay, and nobody waits.
    #[must_use]
    pub fn batching(self, rows_max: u32, delay: Duration) -> Self {
        self.with(|settings| {
            settings.batch = BatchSettings {
                size_max: Some(rows_max),
                delay,
            };
        })
    }

    /// The threads of a lane spin while they wait for work, where there are several and no other instance has their cores.
    #[must_use]
    pub fn spin(self, spin: bool) -> Self {
        self.with(|settings| settings.spin = spin)
    }

    /// The form of NaN and infinities in answers as JSON.
    #[must_use]
    pub fn non_finite(self, form: NonFinite) -> Self {
        self.with(|settings| settings.non_finite = form)
    }

    /// Where its lanes compute. Processes need a serin binary ([`Builder::serin_binary`](crate::Builder::serin_binary)).
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        self.with(|settings| settings.isolation = isolation)
    }

    /// Longest from a request to its answer, waiting included; without end where nothing is said. A run that passes it is ended.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.request_timeout = Some(timeout))
    }

    /// A request as JSON, with which the model is warmed up; without one it is made from the model's shapes.
    #[must_use]
    pub fn sample_request(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.with(|settings| settings.sample_request = Some(body))
    }

    /// The model, and the deployment as a file would say it, by this name.
    pub(super) fn described(
        &self,
        name: DeploymentName,
        skus: &mut SkuTable,
    ) -> Result<Named, Vec<String>> {
        let model = LocalModel {
            source: self.model.0.clone(),
            sample_request: self.settings.sample_request.clone(),
        };
        let place = match &model.source {
            LocalSource::File(path) => path.clone(),
            LocalSource::Bytes(_) => PathBuf::from("in-memory.onnx"),
        };
        // The name of the deployment tells apart two that have the same file and other samples.
        let place = PathBuf::from(name.key()).join(place);
        let spec = self.settings.spec(name, place.clone(), skus)?;
        Ok(Named { place, model, spec })
    }
}

/// A deployment with its name: as a file would say it, and its model by the path that this file names.
pub(super) struct Named {
    pub(super) place: PathBuf,
    pub(super) model: LocalModel,
    pub(super) spec: DeploymentSpec,
}

/// The means of the instances of a deployment, and their number.
#[derive(Clone, Debug)]
pub struct DeploymentSettings {
    /// Copies of the model, each on its own cores.
    pub instance_count: u32,
    /// Cores of one instance, by the name of an instance type such as `Standard_F2s_v2`; beats `vcpus`.
    pub instance_type: Option<String>,
    /// Cores of one instance.
    pub vcpus: usize,
    /// Requests that one instance runs at once.
    pub max_concurrent_requests_per_instance: u32,
    /// Score threads of one instance; without a number one for each request at once, up to its cores.
    pub lanes: Option<u32>,
    /// The bounds within which requests run together.
    pub batch: BatchSettings,
    /// The threads of a lane spin while they wait, where there are several and no other instance has the cores when this one starts.
    pub spin: bool,
    /// The form of NaN and infinities in an answer.
    pub non_finite: NonFinite,
    /// Where its lanes compute. Processes need a serin binary: without one `Auto` means threads, and `Process` is refused.
    pub isolation: Isolation,
    /// Longest from a request to its answer, waiting included; none: it may take as long as it takes.
    pub request_timeout: Option<Duration>,
    /// A body that warms the model up; without it one is made from the model's shapes.
    pub sample_request: Option<Bytes>,
}

impl Default for DeploymentSettings {
    /// One instance on one core, one request at a time.
    fn default() -> Self {
        Self {
            instance_count: 1,
            instance_type: None,
            vcpus: 1,
            max_concurrent_requests_per_instance: 1,
            lanes: None,
            batch: BatchSettings::default(),
            spin: false,
            non_finite: NonFinite::default(),
            isolation: Isolation::default(),
            request_timeout: None,
            sample_request: None,
        }
    }
}

impl DeploymentSettings {
    /// The deployment as a file would say it, so that the same bounds hold; all faults otherwise.
    fn spec(
        &self,
        name: DeploymentName,
        path: PathBuf,
        skus: &mut SkuTable,
    ) -> Result<DeploymentSpec, Vec<String>> {
        let instance_type = match &self.instance_type {
            Some(sku) => skus
                .find(sku)
                .map_err(|unknown| vec![unknown.to_string()])?
                .name
                .clone(),
            None => skus.add_size(u32::try_from(self.vcpus).unwrap_or(u32::MAX).max(1)),
        };
        let mut spec = DeploymentSpec::new(name, ModelRef::Path(path), &instance_type);
        let assignments: Vec<_> = self
            .written()
            .into_iter()
            .filter_map(|(path, value)| Assignment::new(path, value?))
            .collect();
        spec.set(&assignments)
            .map_err(|error| error.problems.iter().map(ToString::to_string).collect())
            .map(|()| spec)
    }

    /// The settings by their names in files; those without a value are left to their defaults.
    fn written(&self) -> [(&'static str, Option<Value>); 9] {
        let delay = u64::try_from(self.batch.delay.as_micros()).unwrap_or(u64::MAX);
        [
            ("instance_count", Some(Value::from(self.instance_count))),
            (
                "request_settings.max_concurrent_requests_per_instance",
                Some(Value::from(self.max_concurrent_requests_per_instance)),
            ),
            (
                "request_settings.request_timeout_ms",
                Some(millis(self.request_timeout.unwrap_or(REQUEST_TIMEOUT_DEFAULT))),
            ),
            ("request_settings.spin", Some(Value::from(self.spin))),
            (
                "request_settings.non_finite",
                Some(json!(self.non_finite)),
            ),
            ("request_settings.isolation", Some(json!(self.isolation))),
            ("request_settings.max_batch_delay_us", Some(Value::from(delay))),
            ("request_settings.lanes", self.lanes.map(Value::from)),
            (
                "request_settings.max_batch_size",
                self.batch.size_max.map(Value::from),
            ),
        ]
    }
}

/// Whole milliseconds, rounded up, so that no timeout becomes none.
fn millis(time: Duration) -> Value {
    let millis = time.as_nanos().div_ceil(1_000_000);
    Value::from(u64::try_from(millis).unwrap_or(u64::MAX))
}

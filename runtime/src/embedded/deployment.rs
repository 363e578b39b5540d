//! A deployment as a program describes it: a model, and the means of its instances.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serin_scorers::NonFinite;

use crate::control::{LocalModel, LocalSource};
use crate::spec::{
    DeploymentName, DeploymentSpec, Isolation, ModelRef, ProgramSettings, Queueing, SkuTable,
};

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
        Self(LocalSource::Bytes(
            "the model in memory".to_owned(),
            model.into(),
        ))
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
    settings: ProgramSettings,
    sample_request: Option<Bytes>,
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
            settings: ProgramSettings {
                queueing: Queueing::Unbounded,
                request_timeout: None,
                ..ProgramSettings::default()
            },
            sample_request: None,
        }
    }

    pub(crate) fn with_settings(self, settings: ProgramSettings) -> Self {
        Self { settings, ..self }
    }

    fn with(mut self, set: impl FnOnce(&mut ProgramSettings)) -> Self {
        set(&mut self.settings);
        self
    }

    /// Copies of the model, each on cores of its own while there are enough; 1 where nothing is said.
    #[must_use]
    pub fn instances(self, count: usize) -> Self {
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
    pub fn concurrency(self, requests: usize) -> Self {
        self.with(|settings| settings.max_concurrent_requests_per_instance = requests)
    }

    /// Requests that one instance computes at once, each on its share of the cores; as many as it has at once, up to its cores,
    /// where nothing is said.
    #[must_use]
    pub fn lanes(self, lanes: usize) -> Self {
        self.with(|settings| settings.lanes = Some(lanes))
    }

    /// The bounds within which requests share a run: most rows of one, and the longest wait for company. Where nothing is said, rows
    /// are joined where the graph proves that they are independent and it was measured to pay, and nobody waits.
    #[must_use]
    pub fn batching(self, rows_max: usize, delay: Duration) -> Self {
        self.with(|settings| {
            settings.batch_size_max = Some(rows_max);
            settings.batch_delay = delay;
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

    /// The queue for a free slot: requests that find none wait in order of arrival, as many as come, where nothing is said.
    #[must_use]
    pub fn queueing(self, queueing: Queueing) -> Self {
        self.with(|settings| settings.queueing = queueing)
    }

    /// A request as JSON, with which the model is warmed up; without one it is made from the model's shapes.
    #[must_use]
    pub fn sample_request(self, body: impl Into<Bytes>) -> Self {
        let sample_request = Some(body.into());
        Self {
            sample_request,
            ..self
        }
    }

    /// The model, and the deployment as a file would say it, by this name.
    pub(super) fn described(
        &self,
        name: DeploymentName,
        skus: &mut SkuTable,
    ) -> Result<Named, Vec<String>> {
        let model = LocalModel {
            source: self.model.0.clone(),
            sample_request: self.sample_request.clone(),
        };
        let place = match &model.source {
            LocalSource::File(path) => path.clone(),
            LocalSource::Bytes(..) => PathBuf::from("in-memory.onnx"),
        };
        // The name of the deployment tells apart two that have the same file and other samples.
        let place = PathBuf::from(name.key()).join(place);
        let model_ref = ModelRef::Path(place.clone());
        let spec = DeploymentSpec::of_program(name, model_ref, &self.settings, skus)?;
        Ok(Named { place, model, spec })
    }
}

/// A deployment with its name: as a file would say it, and its model by the path that this file names.
pub(super) struct Named {
    pub(super) place: PathBuf,
    pub(super) model: LocalModel,
    pub(super) spec: DeploymentSpec,
}

//! serin as a library: endpoints, deployments, traffic split and admission in process, without HTTP and with nothing stored.
//!
//! The same `Router`, `Endpoint`, `Deployment`, `AdmissionControl` and `Instance` as in the server; only the controller is
//! missing, because the program that embeds serin decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::config::{DRAIN_MAX, REQUEST_TIMEOUT_DEFAULT};
use crate::engine::{
    BatchSettings, Capacity, CoreMap, Instance, InstanceSpec, NotEnoughCores, ProbeError, Prober,
    ReadyModel, StartError, Topology,
};
use crate::observe::Metrics;
use crate::router::{
    AdmissionControl, Answer, Deployment, Endpoint, EndpointAuth, Router, RoutingTable,
    ScoreRequest, Unserved,
};
use crate::spec::{
    DeploymentName, EndpointName, NameError, SkuTable, TrafficError, TrafficSplit, UnknownSku,
};

/// Scores ONNX models in this process: endpoints with deployments, a traffic split, and admission, as the server has them.
///
/// Cheap to clone; the clones share cores and endpoints.
///
/// ```
/// use serin::Embedded;
///
/// let serin = Embedded::builder().build()?;
/// let digits = serin
///     .endpoint("digits")
///     .deployment("blue", "../models/digits/1/model.onnx")
///     .deployment("green", "../models/digits/2/model.onnx")
///     .traffic("blue=90 green=10")
///     .start()?;
///
/// // One request in ten goes to green, exactly; and any request can be sent there.
/// let image = format!(r#"{{"data": [{:?}]}}"#, [0; 64]);
/// let answer = digits.score_blocking(image.clone())?;
/// println!("{} says {}", answer.deployment, answer.body.escape_ascii());
/// let answer = digits.score_with_blocking("green", image)?;
/// assert_eq!(answer.deployment.as_str(), "green");
///
/// digits.set_traffic("blue=0 green=100")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    router: Arc<Router>,
    metrics: Arc<Metrics>,
    skus: SkuTable,
    prober: Option<Prober>,
    cores: Mutex<CoreMap>,
    /// Held while a table is made from the current one and published.
    publishing: Mutex<()>,
    blocking: BlockingRuntime,
}

/// For callers without a runtime of their own: timers and waits on the caller's thread, no computing. There until the end.
#[derive(Debug)]
struct BlockingRuntime(Option<Runtime>);

impl BlockingRuntime {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = self.0.as_ref();
        runtime.expect("it is taken by drop alone").block_on(future)
    }
}

impl Drop for BlockingRuntime {
    /// A runtime that is dropped waits for its threads, which asynchronous code may not do. This one has none to wait for.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why an embedded endpoint does not start or change.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The name breaks the rule for names.
    #[error("{name:?} cannot be the name of {what}: {source}")]
    Name {
        /// An endpoint or a deployment.
        what: &'static str,
        /// As given.
        name: String,
        /// The rule.
        source: NameError,
    },
    /// Another endpoint has this name.
    #[error("endpoint {0} exists already: choose another name, or drop the other one first")]
    EndpointExists(EndpointName),
    /// Two deployments of one endpoint have this name.
    #[error("deployment {0} is given twice")]
    DeploymentTwice(DeploymentName),
    /// An endpoint without deployments answers nothing.
    #[error("endpoint {0} has no deployment: add one before it starts")]
    NoDeployment(EndpointName),
    /// The split is not one.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// The split names what is not there.
    #[error("traffic names {name:?}, which is not a deployment of {endpoint:?}; there are: {}", known.join(", "))]
    UnknownDeployment {
        /// The endpoint.
        endpoint: String,
        /// What the split names.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such instance type.
    #[error(transparent)]
    Sku(#[from] UnknownSku),
    /// A deployment must have an instance, and an instance a core and a request at a time.
    #[error("deployment {deployment}: {setting} must be at least 1")]
    Zero {
        /// The deployment.
        deployment: DeploymentName,
        /// The setting.
        setting: &'static str,
    },
    /// The model failed in the child process that tried it.
    #[error("deployment {deployment}: {source}")]
    Probe {
        /// The deployment.
        deployment: DeploymentName,
        /// What happened to the child.
        source: ProbeError,
    },
    /// The machine is too small for what was asked for, and cores are not to be shared.
    #[error("deployment {deployment}: {source}")]
    Cores {
        /// The deployment.
        deployment: DeploymentName,
        /// Asked for and there.
        source: NotEnoughCores,
    },
    /// The model does not load or answer.
    #[error("deployment {deployment}: {source}")]
    Start {
        /// The deployment.
        deployment: DeploymentName,
        /// What is wrong with it.
        source: StartError,
    },
    /// The runtime for blocking callers could not be made.
    #[error("cannot start threads: {0}")]
    Threads(#[source] std::io::Error),
}

/// What an instance of a deployment is given, and how many there are.
#[derive(Clone, Debug)]
pub struct DeploymentSettings {
    /// Copies of the model, each on its own cores.
    pub instance_count: u32,
    /// Cores of one instance, by the name of an instance type such as `Standard_F4s_v2`; beats `vcpus`.
    pub instance_type: Option<String>,
    /// Cores of one instance.
    pub vcpus: usize,
    /// Requests that one instance runs at once.
    pub max_concurrent_requests_per_instance: u32,
    /// Score threads of one instance; without a number one for each request at once, up to its cores.
    pub lanes: Option<u32>,
    /// How requests run together.
    pub batch: BatchSettings,
    /// The threads of a lane spin while they wait, where there are several and no other instance has the cores when this one starts.
    pub spin: bool,
    /// Longest from [`EmbeddedEndpoint::score`] to its answer, waiting included.
    pub request_timeout: Duration,
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
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            sample_request: None,
        }
    }
}

/// Settings of an [`Embedded`].
#[derive(Debug, Default)]
pub struct EmbeddedBuilder {
    capacity: Capacity,
    skus: Option<SkuTable>,
    prober: Option<Prober>,
}

impl EmbeddedBuilder {
    /// Each model is first loaded and run once in a child process, so that one which crashes, hangs or eats all memory is refused
    /// and harms nothing; the child also prepares a large model, so that instances share its weights. The child needs a serin
    /// binary; without a prober models are neither tried nor prepared.
    #[must_use]
    pub fn prober(mut self, prober: Prober) -> Self {
        self.prober = Some(prober);
        self
    }

    /// What happens when instances ask for more cores than there are; without it they share.
    #[must_use]
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// Instance types beside or instead of the built-in ones.
    #[must_use]
    pub fn skus(mut self, skus: SkuTable) -> Self {
        self.skus = Some(skus);
        self
    }

    /// Ready to start endpoints.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Threads`].
    pub fn build(self) -> Result<Embedded, EmbeddedError> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(EmbeddedError::Threads)?;
        let shared = Shared {
            router: Router::new(),
            metrics: Metrics::new(),
            skus: self.skus.unwrap_or_else(SkuTable::builtin),
            prober: self.prober,
            cores: Mutex::new(CoreMap::new(Topology::read(), self.capacity)),
            publishing: Mutex::new(()),
            blocking: BlockingRuntime(Some(runtime)),
        };
        Ok(Embedded {
            shared: Arc::new(shared),
        })
    }
}

impl Embedded {
    /// Settings to begin with.
    #[must_use]
    pub fn builder() -> EmbeddedBuilder {
        EmbeddedBuilder::default()
    }

    /// Describes an endpoint; nothing runs before [`EndpointBuilder::start`].
    #[must_use]
    pub fn endpoint(&self, name: &str) -> EndpointBuilder {
        EndpointBuilder {
            shared: Arc::clone(&self.shared),
            name: name.to_owned(),
            deployments: Vec::new(),
            traffic: None,
        }
    }

    /// All metrics, as Prometheus reads them.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.metrics.render()
    }

    /// What the scoring routes need to serve these endpoints over HTTP.
    pub(super) fn parts(&self) -> (Arc<Router>, Arc<Metrics>) {
        (
            Arc::clone(&self.shared.router),
            Arc::clone(&self.shared.metrics),
        )
    }
}

/// An endpoint that is being described.
#[derive(Debug)]
pub struct EndpointBuilder {
    shared: Arc<Shared>,
    name: String,
    deployments: Vec<(String, PathBuf, DeploymentSettings)>,
    traffic: Option<String>,
}

impl EndpointBuilder {
    /// Adds a deployment of one model file, with the default settings.
    #[must_use]
    pub fn deployment(self, name: &str, model: impl AsRef<Path>) -> Self {
        self.deployment_with(name, model, DeploymentSettings::default())
    }

    /// Adds a deployment of one model file.
    #[must_use]
    pub fn deployment_with(
        mut self,
        name: &str,
        model: impl AsRef<Path>,
        settings: DeploymentSettings,
    ) -> Self {
        self.deployments
            .push((name.to_owned(), model.as_ref().to_owned(), settings));
        self
    }

    /// The split: `blue=90 green=10` or `blue:90,green:10`. Without one the first deployment has all traffic.
    #[must_use]
    pub fn traffic(mut self, traffic: &str) -> Self {
        self.traffic = Some(traffic.to_owned());
        self
    }

    /// Loads and warms up every instance, then takes requests. Blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError`]; what had started is stopped again.
    pub fn start(self) -> Result<EmbeddedEndpoint, EmbeddedError> {
        let name: EndpointName = name("an endpoint", &self.name)?;
        let Some((first, ..)) = self.deployments.first() else {
            return Err(EmbeddedError::NoDeployment(name));
        };
        let split = match &self.traffic {
            Some(traffic) => traffic.parse()?,
            None => TrafficSplit::all_to(self::name("a deployment", first)?),
        };
        let mut endpoint = EmbeddedEndpoint {
            shared: self.shared,
            name,
            running: BTreeMap::new(),
            open: false,
        };
        let mut deployments = Vec::new();
        for (name, model, settings) in &self.deployments {
            deployments.push(endpoint.start_deployment(
                self::name("a deployment", name)?,
                model,
                settings,
            )?);
        }
        endpoint.open(split, deployments)?;
        Ok(endpoint)
    }
}

fn name<N: std::str::FromStr<Err = NameError>>(
    what: &'static str,
    name: &str,
) -> Result<N, EmbeddedError> {
    name.parse().map_err(|source| EmbeddedError::Name {
        what,
        name: name.to_owned(),
        source,
    })
}

/// An endpoint that runs. Dropping it lets the work in flight end and stops its instances; that blocks.
#[derive(Debug)]
pub struct EmbeddedEndpoint {
    shared: Arc<Shared>,
    name: EndpointName,
    running: BTreeMap<DeploymentName, Vec<Instance>>,
    /// Whether it is in the routing table.
    open: bool,
}

impl EmbeddedEndpoint {
    /// Scores one request: the split picks the deployment.
    ///
    /// Waits for a free slot, in order of arrival, and for the model; both within the deployment's `request_timeout`. Works on
    /// any tokio runtime that has timers.
    ///
    /// # Errors
    ///
    /// [`Unserved`]: the queue is full, the time is over, the body does not fit the model, the model failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the answer up; the slot comes back when the work that it began has ended.
    pub async fn score(&self, body: impl Into<Bytes>) -> Result<Answer, Unserved> {
        self.send(None, body.into()).await
    }

    /// Scores one request at a deployment, whatever the split.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedEndpoint::score`]; [`Unserved::NoDeployment`] for a name that is not there.
    pub async fn score_with(
        &self,
        deployment: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Unserved> {
        self.send(Some(deployment.to_owned()), body.into()).await
    }

    /// [`EmbeddedEndpoint::score`] for callers without a runtime.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedEndpoint::score`].
    ///
    /// # Panics
    ///
    /// When called from asynchronous code, where it would block other tasks.
    pub fn score_blocking(&self, body: impl Into<Bytes>) -> Result<Answer, Unserved> {
        self.shared.blocking.block_on(self.score(body))
    }

    /// [`EmbeddedEndpoint::score_with`] for callers without a runtime.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedEndpoint::score_with`].
    ///
    /// # Panics
    ///
    /// When called from asynchronous code, where it would block other tasks.
    pub fn score_with_blocking(
        &self,
        deployment: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Unserved> {
        self.shared
            .blocking
            .block_on(self.score_with(deployment, body))
    }

    /// Changes the split at once: requests that come after the call see the new one.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Traffic`], [`EmbeddedError::UnknownDeployment`]; then the old split stays.
    pub fn set_traffic(&self, traffic: &str) -> Result<(), EmbeddedError> {
        let split: TrafficSplit = traffic.parse()?;
        self.check(&split)?;
        self.shared.publish(&self.name, |previous| {
            let previous = previous.expect("an endpoint is published as long as it is not dropped");
            let deployments = previous.deployments().to_vec();
            Some(self.routed(split, deployments, Some(previous)))
        });
        Ok(())
    }

    async fn send(&self, deployment: Option<String>, payload: Bytes) -> Result<Answer, Unserved> {
        let request = ScoreRequest {
            deployment,
            payload,
            received: Instant::now(),
        };
        let table = self.shared.router.table();
        let endpoint = table
            .endpoint(self.name.key())
            .expect("an endpoint is published as long as it is not dropped");
        self.shared.router.score(endpoint, request).await
    }

    /// Has a child process load, run and prepare the model, where one is wanted.
    fn make_ready(
        &self,
        name: &DeploymentName,
        model: &Path,
        settings: &DeploymentSettings,
    ) -> Result<ReadyModel, EmbeddedError> {
        let Some(prober) = &self.shared.prober else {
            return Ok(ReadyModel::default());
        };
        let sample = settings.sample_request.as_deref();
        prober
            .make_file_ready(model, sample, self.shared.serves())
            .map_err(|source| EmbeddedError::Probe {
                deployment: name.clone(),
                source,
            })
    }

    fn start_deployment(
        &mut self,
        name: DeploymentName,
        model: &Path,
        settings: &DeploymentSettings,
    ) -> Result<Arc<Deployment>, EmbeddedError> {
        if self.running.contains_key(&name) {
            return Err(EmbeddedError::DeploymentTwice(name));
        }
        let concurrency = settings.max_concurrent_requests_per_instance;
        at_least_one(&name, "instance_count", settings.instance_count)?;
        at_least_one(&name, "max_concurrent_requests_per_instance", concurrency)?;
        at_least_one(&name, "lanes", settings.lanes.unwrap_or(1))?;
        at_least_one(
            &name,
            "max_batch_size",
            settings.batch.size_max.unwrap_or(1),
        )?;
        let vcpus = match &settings.instance_type {
            Some(sku) => usize::try_from(self.shared.skus.find(sku)?.vcpus).unwrap_or(usize::MAX),
            None => settings.vcpus.max(1),
        };
        let ready = self.make_ready(&name, model, settings)?;
        let instances = self.running.entry(name.clone()).or_default();
        for _ in 0..settings.instance_count {
            let cores =
                self.shared
                    .cores()
                    .grant(vcpus)
                    .map_err(|source| EmbeddedError::Cores {
                        deployment: name.clone(),
                        source,
                    })?;
            let spec = InstanceSpec {
                label: format!("{}/{name}", self.name),
                model: model.to_owned(),
                cached: ready.cached.clone(),
                concurrency,
                lanes: settings.lanes,
                batch: settings.batch,
                spin: settings.spin,
                cores: cores.clone(),
                sample_request: settings.sample_request.clone(),
                digest: None,
                profile: None,
                background: self.shared.serves(),
            };
            match Instance::start(spec) {
                Ok(instance) => instances.push(instance),
                Err(source) => {
                    self.shared.cores().release(&cores);
                    return Err(EmbeddedError::Start {
                        deployment: name,
                        source,
                    });
                }
            }
        }
        let slots = instances.len() * usize::try_from(concurrency).unwrap_or(usize::MAX);
        let metrics = self
            .shared
            .metrics
            .deployment(self.name.as_str(), name.as_str());
        metrics.set_slots(slots);
        metrics.set_instances(instances.len());
        Ok(Arc::new(Deployment {
            name,
            admission: AdmissionControl::new(slots),
            instances: instances.iter().map(Instance::handle).collect(),
            request_timeout: settings.request_timeout,
            metrics,
        }))
    }

    /// Publishes the endpoint for the first time.
    fn open(
        &mut self,
        split: TrafficSplit,
        deployments: Vec<Arc<Deployment>>,
    ) -> Result<(), EmbeddedError> {
        self.check(&split)?;
        let mut open = false;
        self.shared.publish(&self.name, |other| {
            open = other.is_none();
            Some(match other {
                Some(other) => Arc::clone(other),
                None => self.routed(split, deployments, None),
            })
        });
        self.open = open;
        if open {
            Ok(())
        } else {
            Err(EmbeddedError::EndpointExists(self.name.clone()))
        }
    }

    /// As requests will see it. Every name of the split was checked.
    fn routed(
        &self,
        split: TrafficSplit,
        deployments: Vec<Arc<Deployment>>,
        previous: Option<&Arc<Endpoint>>,
    ) -> Arc<Endpoint> {
        let name = self.name.clone();
        let previous = previous.map(Arc::as_ref);
        Endpoint::new(name, EndpointAuth::Open, split, deployments, previous)
            .expect("the names of the split are deployments")
    }

    fn check(&self, split: &TrafficSplit) -> Result<(), EmbeddedError> {
        match split
            .entries()
            .iter()
            .find(|(name, _)| !self.running.contains_key(name))
        {
            None => Ok(()),
            Some((unknown, _)) => Err(EmbeddedError::UnknownDeployment {
                endpoint: self.name.to_string(),
                name: unknown.to_string(),
                known: self.running.keys().map(ToString::to_string).collect(),
            }),
        }
    }
}

fn at_least_one(
    deployment: &DeploymentName,
    setting: &'static str,
    value: u32,
) -> Result<(), EmbeddedError> {
    if value == 0 {
        Err(EmbeddedError::Zero {
            deployment: deployment.clone(),
            setting,
        })
    } else {
        Ok(())
    }
}

impl Drop for EmbeddedEndpoint {
    fn drop(&mut self) {
        if self.open {
            self.shared.publish(&self.name, |_| None);
        }
        let instances: Vec<_> = std::mem::take(&mut self.running).into_iter().collect();
        // Closed first, all of them, so that they drain side by side.
        instances
            .iter()
            .flat_map(|(_, instances)| instances)
            .for_each(Instance::close);
        let deadline = Instant::now() + DRAIN_MAX;
        for (deployment, instances) in instances {
            for instance in instances {
                if !instance.wait_idle(deadline) {
                    tracing::warn!(endpoint = %self.name, %deployment, "an instance is stopped with work still running");
                }
                self.shared.cores().release(&instance.stop());
            }
            self.shared
                .metrics
                .forget(self.name.as_str(), deployment.as_str());
        }
    }
}

impl Shared {
    /// Whether requests could feel it when something else takes the cores.
    fn serves(&self) -> bool {
        self.router.table().endpoints().next().is_some()
    }

    /// Replaces, adds or (with `None`) removes one endpoint of the table, by one pointer swap.
    fn publish(
        &self,
        name: &EndpointName,
        make: impl FnOnce(Option<&Arc<Endpoint>>) -> Option<Arc<Endpoint>>,
    ) {
        let _one_at_a_time = lock(&self.publishing);
        let table = self.router.table();
        let others = table
            .endpoints()
            .filter(|endpoint| endpoint.name() != name)
            .cloned();
        let endpoints = others.chain(make(table.endpoint(name.key()))).collect();
        self.router.publish(RoutingTable::new(endpoints));
    }

    fn cores(&self) -> MutexGuard<'_, CoreMap> {
        lock(&self.cores)
    }
}

/// A panic elsewhere leaves both locks' contents whole: they are changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(version: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/digits/{version}/model.onnx"))
    }

    fn image() -> Bytes {
        format!(r#"{{"data": [{:?}]}}"#, [0; 64]).into()
    }

    fn serin() -> Embedded {
        Embedded::builder().build().unwrap()
    }

    fn blue_and_green(serin: &Embedded, traffic: &str) -> Result<EmbeddedEndpoint, EmbeddedError> {
        serin
            .endpoint("digits")
            .deployment("blue", digits("1"))
            .deployment("green", digits("2"))
            .traffic(traffic)
            .start()
    }

    #[tokio::test]
    async fn a_split_is_exact_and_a_switch_is_in_force_at_once() {
        let endpoint = blue_and_green(&serin(), "blue=90 green=10").unwrap();
        let mut green = 0;
        for _ in 0..100 {
            let answer = endpoint.score(image()).await.unwrap();
            green += usize::from(answer.deployment.as_str() == "green");
        }
        assert_eq!(green, 10);
        endpoint.set_traffic("blue:0,green:100").unwrap();
        let answer = endpoint.score(image()).await.unwrap();
        assert_eq!(answer.deployment.as_str(), "green");
        let answer = endpoint.score_with("blue", image()).await.unwrap();
        assert_eq!(answer.deployment.as_str(), "blue");
        assert!(matches!(
            endpoint.score_with("red", image()).await,
            Err(Unserved::NoDeployment { .. })
        ));
    }

    #[test]
    fn a_program_without_a_runtime_scores_too() {
        let serin = serin();
        let endpoint = serin
            .endpoint("digits")
            .deployment("blue", digits("1"))
            .start()
            .unwrap();
        let answer = endpoint.score_blocking(image()).unwrap();
        assert!(answer.body.starts_with(b"{"), "{:?}", answer.body);
        assert!(serin.metrics().contains("deployment=\"blue\""));
    }

    #[test]
    fn a_name_is_free_again_when_its_endpoint_is_dropped() {
        let serin = serin();
        let first = blue_and_green(&serin, "blue=100 green=0").unwrap();
        let second = blue_and_green(&serin, "blue=100 green=0").unwrap_err();
        assert_eq!(
            second.to_string(),
            "endpoint digits exists already: choose another name, or drop the other one first"
        );
        // The refused one took nothing with it.
        first.score_blocking(image()).unwrap();
        drop(first);
        let third = blue_and_green(&serin, "blue=0 green=100").unwrap();
        let answer = third.score_blocking(image()).unwrap();
        assert_eq!(answer.deployment.as_str(), "green");
    }

    #[test]
    fn what_cannot_run_is_refused_with_the_reason() {
        let serin = serin();
        let refused = |builder: EndpointBuilder| builder.start().unwrap_err().to_string();
        let endpoint = || serin.endpoint("digits");
        assert_eq!(
            refused(endpoint()),
            "endpoint digits has no deployment: add one before it starts"
        );
        let blue = || endpoint().deployment("blue", digits("1"));
        assert_eq!(
            refused(blue().deployment("Blue", digits("2"))),
            "deployment Blue is given twice"
        );
        assert_eq!(
            refused(blue().traffic("red=100")),
            "traffic names \"red\", which is not a deployment of \"digits\"; there are: blue"
        );
        let none = DeploymentSettings {
            instance_count: 0,
            ..DeploymentSettings::default()
        };
        assert_eq!(
            refused(endpoint().deployment_with("blue", digits("1"), none)),
            "deployment blue: instance_count must be at least 1"
        );
        let missing = refused(endpoint().deployment("blue", "missing.onnx"));
        assert!(
            missing.starts_with("deployment blue: ") && missing.contains("missing.onnx"),
            "{missing}"
        );
    }

    #[test]
    fn without_room_for_its_cores_an_endpoint_is_refused_where_sharing_is_not_wanted() {
        let serin = Embedded::builder()
            .capacity(Capacity::Strict)
            .build()
            .unwrap();
        let settings = DeploymentSettings {
            vcpus: 100_000,
            ..DeploymentSettings::default()
        };
        let refused = serin
            .endpoint("digits")
            .deployment_with("blue", digits("1"), settings)
            .start();
        assert!(
            matches!(refused, Err(EmbeddedError::Cores { .. })),
            "{refused:?}"
        );
    }
}

//! serin as a library: endpoints, deployments, traffic split and admission in process, without HTTP and with nothing stored.
//!
//! The same routing table, admission, instances and reconciler as in the server: what is asked for comes about in the same way,
//! and an instance that dies is replaced. Only the store is missing, because the program that embeds serin decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use serin_scorers::NonFinite;
use tokio::runtime::Builder;

use crate::config::REQUEST_TIMEOUT_DEFAULT;
use crate::control::{
    Change, ChangeError, EndpointUpdate, Local, LocalConfig, LocalError, LocalModel,
};
use crate::engine::{BatchSettings, Capacity, Pinning, Prober};
use crate::observe::Metrics;
use crate::router::{Answer, Router, ScoreRequest, Unserved};
use crate::spec::{
    Assignment, DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, Isolation, ModelRef,
    NameError, SkuTable, TrafficError, TrafficSplit, UnknownSku,
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
    runtime: Arc<Runtime>,
}

#[derive(Debug)]
struct Runtime {
    router: Arc<Router>,
    metrics: Arc<Metrics>,
    skus: SkuTable,
    control: Local,
    blocking: BlockingRuntime,
}

/// For callers without a runtime of their own: timers and waits on the caller's thread, no computing. There until the end.
#[derive(Debug)]
struct BlockingRuntime(Option<tokio::runtime::Runtime>);

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

/// The reason why an embedded endpoint does not start or change.
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
    /// No such instance type.
    #[error(transparent)]
    Sku(#[from] UnknownSku),
    /// A setting is out of its bounds.
    #[error("deployment {deployment}: {problems}")]
    Settings {
        /// The deployment.
        deployment: DeploymentName,
        /// The faults, and what would be right.
        problems: String,
    },
    /// It asks for what cannot be: a split that names what is not there, or more cores than there are.
    #[error(transparent)]
    Refused(ChangeError),
    /// A model does not load or answer, or there is no room for its instances.
    #[error("{0}")]
    Failed(String),
    /// The runtime for blocking callers could not be made.
    #[error("cannot start threads: {0}")]
    Threads(#[source] std::io::Error),
}

/// The means of an instance of a deployment, and the number of instances.
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
    /// The bounds within which requests run together.
    pub batch: BatchSettings,
    /// The threads of a lane spin while they wait, where there are several and no other instance has the cores when this one starts.
    pub spin: bool,
    /// The form of NaN and infinities in an answer.
    pub non_finite: NonFinite,
    /// Where its lanes compute. Processes need a serin binary, which a prober names ([`EmbeddedBuilder::prober`]): without one `Auto`
    /// means threads, and `Process` is refused.
    pub isolation: Isolation,
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
            non_finite: NonFinite::default(),
            isolation: Isolation::default(),
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            sample_request: None,
        }
    }
}

/// Settings of an [`Embedded`].
#[derive(Debug, Default)]
pub struct EmbeddedBuilder {
    capacity: Capacity,
    pinning: Pinning,
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

    /// The rule where instances ask for more cores than there are; without it they share.
    #[must_use]
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// Whether threads keep to the cores of their instance; without it where no other server of the user has them.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
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
        let (router, metrics) = (Router::new(), Metrics::new());
        let config = LocalConfig {
            capacity: self.capacity,
            pinning: self.pinning,
            prober: self.prober,
        };
        let shown = (Arc::clone(&router), Arc::clone(&metrics));
        let runtime = Runtime {
            router,
            metrics,
            skus: self.skus.unwrap_or_else(SkuTable::builtin),
            control: Local::start(config, shown).map_err(EmbeddedError::Threads)?,
            blocking: BlockingRuntime(Some(runtime)),
        };
        Ok(Embedded {
            runtime: Arc::new(runtime),
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
            runtime: Arc::clone(&self.runtime),
            name: name.to_owned(),
            deployments: Vec::new(),
            traffic: None,
        }
    }

    /// All metrics, as Prometheus reads them.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.runtime.metrics.render()
    }

    /// The parts that the scoring routes need to serve these endpoints over HTTP.
    pub(crate) fn parts(&self) -> (Arc<Router>, Arc<Metrics>) {
        (
            Arc::clone(&self.runtime.router),
            Arc::clone(&self.runtime.metrics),
        )
    }
}

/// An endpoint that is being described.
#[derive(Debug)]
pub struct EndpointBuilder {
    runtime: Arc<Runtime>,
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
        let mut endpoint = EndpointSpec::new(name.clone());
        endpoint.traffic = match &self.traffic {
            Some(traffic) => traffic.parse()?,
            None => TrafficSplit::all_to(self::name("a deployment", first)?),
        };
        let mut skus = self.runtime.skus.clone();
        let (mut deployments, mut models) = (Vec::<DeploymentSpec>::new(), BTreeMap::new());
        for (given, file, settings) in &self.deployments {
            let given: DeploymentName = self::name("a deployment", given)?;
            if deployments.iter().any(|other| other.name == given) {
                return Err(EmbeddedError::DeploymentTwice(given));
            }
            // The name of the deployment tells apart two that have the same file and other samples.
            let path = PathBuf::from(given.key()).join(file);
            let model = LocalModel {
                file: file.clone(),
                sample_request: settings.sample_request.clone(),
            };
            models.insert(path.clone(), model);
            deployments.push(settings.spec(given, path, &mut skus)?);
        }
        let change = Change::CreateEndpoint {
            endpoint,
            deployments,
        };
        let carried_out = self.runtime.control.carry_out(change, models, skus);
        let endpoint = EmbeddedEndpoint {
            open: !matches!(carried_out, Err(LocalError::Refused(_))),
            runtime: self.runtime,
            name,
        };
        match carried_out {
            Ok(()) => Ok(endpoint),
            Err(LocalError::Refused(ChangeError::AlreadyExists(_))) => {
                Err(EmbeddedError::EndpointExists(endpoint.name.clone()))
            }
            Err(LocalError::Refused(error)) => Err(EmbeddedError::Refused(error)),
            // Dropped here, so nothing of it stays.
            Err(LocalError::Failed(reason)) => Err(EmbeddedError::Failed(reason)),
        }
    }
}

impl DeploymentSettings {
    /// The deployment as a file would say it, so that the same bounds hold.
    fn spec(
        &self,
        name: DeploymentName,
        path: PathBuf,
        skus: &mut SkuTable,
    ) -> Result<DeploymentSpec, EmbeddedError> {
        let instance_type = match &self.instance_type {
            Some(sku) => skus.find(sku)?.name.clone(),
            None => skus.add_size(u32::try_from(self.vcpus).unwrap_or(u32::MAX).max(1)),
        };
        let mut spec = DeploymentSpec::new(name, ModelRef::Path(path), &instance_type);
        let settings = [
            ("instance_count", Value::from(self.instance_count)),
            (
                "request_settings.max_concurrent_requests_per_instance",
                Value::from(self.max_concurrent_requests_per_instance),
            ),
            (
                "request_settings.request_timeout_ms",
                millis(self.request_timeout),
            ),
            ("request_settings.spin", Value::from(self.spin)),
            ("request_settings.non_finite", json!(self.non_finite)),
            ("request_settings.isolation", json!(self.isolation)),
            (
                "request_settings.max_batch_delay_us",
                Value::from(u64::try_from(self.batch.delay.as_micros()).unwrap_or(u64::MAX)),
            ),
        ];
        let optional = [
            ("request_settings.lanes", self.lanes),
            ("request_settings.max_batch_size", self.batch.size_max),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(path, value)| Some((path, Value::from(value?))));
        let assignments: Vec<_> = settings
            .into_iter()
            .chain(optional)
            .filter_map(|(path, value)| Assignment::new(path, value))
            .collect();
        match spec.set(&assignments) {
            Ok(()) => Ok(spec),
            Err(error) => {
                let problems = error.problems.iter().map(ToString::to_string);
                Err(EmbeddedError::Settings {
                    deployment: spec.name,
                    problems: problems.collect::<Vec<_>>().join("; "),
                })
            }
        }
    }
}

/// Whole milliseconds, rounded up, so that no timeout becomes none.
fn millis(time: Duration) -> Value {
    let millis = time.as_nanos().div_ceil(1_000_000);
    Value::from(u64::try_from(millis).unwrap_or(u64::MAX))
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
    runtime: Arc<Runtime>,
    name: EndpointName,
    /// Whether it is this one that the name stands for.
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
        self.runtime.blocking.block_on(self.score(body))
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
        self.runtime
            .blocking
            .block_on(self.score_with(deployment, body))
    }

    /// Changes the split at once: requests that come after the call see the new one.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Traffic`], [`EmbeddedError::Refused`]; then the old split stays.
    pub fn set_traffic(&self, traffic: &str) -> Result<(), EmbeddedError> {
        let change = Change::UpdateEndpoint {
            name: self.name.clone(),
            update: EndpointUpdate {
                traffic: Some(traffic.parse()?),
                ..EndpointUpdate::default()
            },
        };
        self.carry_out(change).map_err(|error| match error {
            LocalError::Refused(error) => EmbeddedError::Refused(error),
            LocalError::Failed(reason) => EmbeddedError::Failed(reason),
        })
    }

    fn carry_out(&self, change: Change) -> Result<(), LocalError> {
        let skus = self.runtime.skus.clone();
        self.runtime
            .control
            .carry_out(change, BTreeMap::new(), skus)
    }

    async fn send(&self, deployment: Option<String>, payload: Bytes) -> Result<Answer, Unserved> {
        let request = ScoreRequest {
            deployment,
            payload,
            head: None,
            is_for_scripts: false,
            received: Instant::now(),
        };
        let table = self.runtime.router.table();
        let endpoint = table
            .endpoint(self.name.key())
            .expect("an endpoint is published as long as it is not dropped");
        self.runtime.router.score(endpoint, request).await
    }
}

impl Drop for EmbeddedEndpoint {
    fn drop(&mut self) {
        if self.open {
            let change = Change::DeleteEndpoint {
                name: self.name.clone(),
            };
            if let Err(error) = self.carry_out(change) {
                tracing::warn!(endpoint = %self.name, %error, "an endpoint was not stopped");
            }
        }
    }
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

    /// Mapped from the user's file, other answers came without a word, and a file cut off ended the process (SIGBUS).
    #[test]
    fn a_model_whose_files_are_rewritten_goes_on_as_it_was() {
        let user = tempfile::tempdir().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/test");
        for file in ["outside.onnx", "outside.bin"] {
            std::fs::copy(models.join(file), user.path().join(file)).unwrap();
        }
        let serin = serin();
        let endpoint = serin
            .endpoint("outside")
            .deployment("blue", user.path().join("outside.onnx"))
            .start()
            .unwrap();
        let found = || endpoint.score_blocking(r#"{"data": [0, 1, 2]}"#);
        let before = found().unwrap().body;
        assert_eq!(before, r#"{"found":[10.0,20.0,30.0]}"#);
        let weights = user.path().join("outside.bin");
        let bytes = std::fs::metadata(&weights).unwrap().len();
        // In place, as exporters do: the file stays the same, and is cut off first.
        let file = std::fs::OpenOptions::new().write(true).open(&weights);
        std::io::Write::write_all(
            &mut file.unwrap(),
            &vec![0x40; usize::try_from(bytes).unwrap()],
        )
        .unwrap();
        assert_eq!(found().unwrap().body, before);
        std::fs::File::create(&weights).unwrap();
        assert_eq!(found().unwrap().body, before);
        std::fs::remove_dir_all(user.path()).unwrap();
        assert_eq!(found().unwrap().body, before);
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
            "traffic names \"red\", which is not a deployment of endpoint digits; it has blue"
        );
        let none = DeploymentSettings {
            instance_count: 0,
            ..DeploymentSettings::default()
        };
        assert_eq!(
            refused(endpoint().deployment_with("blue", digits("1"), none)),
            "deployment blue: instance_count: expected 1 to 50, found 0"
        );
        let missing = refused(endpoint().deployment("blue", "missing.onnx"));
        assert!(
            missing.starts_with("deployment blue: ") && missing.contains("missing.onnx"),
            "{missing}"
        );
    }

    fn tiny(model: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/test/{model}.onnx"))
    }

    #[test]
    fn missing_values_are_scored_and_answered_in_the_form_of_the_deployment() {
        let serin = serin();
        let tokens = DeploymentSettings {
            non_finite: NonFinite::Tokens,
            ..DeploymentSettings::default()
        };
        let endpoint = serin
            .endpoint("gaps")
            .deployment("nulls", tiny("gaps"))
            .deployment_with("tokens", tiny("gaps"), tokens)
            .start()
            .unwrap();
        for (deployment, same) in [("nulls", "[[null,null]]"), ("tokens", "[[NaN,-Infinity]]")] {
            let body = Bytes::from_static(b"{\"data\": [[null, -Infinity]]}");
            let answer = endpoint.score_with_blocking(deployment, body);
            let inf = if deployment == "nulls" {
                "null"
            } else {
                "-Infinity"
            };
            let expected = format!("{{\"filled\":[[7.0,{inf}]],\"same\":{same}}}");
            assert_eq!(answer.unwrap().body, expected);
        }
    }

    #[test]
    fn a_model_that_nobody_could_score_is_refused_when_it_is_deployed() {
        let serin = serin();
        for (model, part) in [
            (
                "odd-output",
                "output \"cast\" is a tensor of elements of type",
            ),
            (
                "odd-input",
                "input \"data\" is a tensor of elements of type",
            ),
            ("maybe", "output \"maybe\" is an optional value"),
        ] {
            let endpoint = serin.endpoint("odd").deployment("blue", tiny(model));
            let words = endpoint.start().unwrap_err().to_string();
            assert!(
                words.contains(part) && words.contains("no JSON form"),
                "{words}"
            );
        }
    }

    #[test]
    fn processes_without_a_binary_to_start_are_refused_and_threads_do_without() {
        let start = |isolation| {
            let settings = DeploymentSettings {
                isolation,
                ..DeploymentSettings::default()
            };
            let endpoint =
                serin()
                    .endpoint("divide")
                    .deployment_with("blue", tiny("divide"), settings);
            endpoint
                .start()
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let words = start(Isolation::Process).unwrap_err();
        assert!(words.contains("name one by a prober"), "{words}");
        // Also where the model may end the process: there is nothing else.
        assert_eq!(start(Isolation::Auto), Ok(()));
        assert_eq!(start(Isolation::Thread), Ok(()));
    }

    #[test]
    fn a_sequence_of_tensors_is_scored_and_never_joined() {
        let serin = serin();
        let settings = DeploymentSettings {
            max_concurrent_requests_per_instance: 8,
            lanes: Some(1),
            batch: BatchSettings {
                size_max: Some(8),
                delay: Duration::from_millis(50),
            },
            ..DeploymentSettings::default()
        };
        let endpoint = serin
            .endpoint("sequences")
            .deployment_with("blue", tiny("sequences"), settings)
            .start()
            .unwrap();
        std::thread::scope(|threads| {
            for row in 1..8 {
                let endpoint = &endpoint;
                threads.spawn(move || {
                    let answer = endpoint.score_blocking(format!("{{\"data\": [[{row}, 0]]}}"));
                    let start = format!("{{\"probabilities\":[[[{row}.0,0.0]],[[{row}.0],[0.0]]],");
                    let body = answer.unwrap().body;
                    assert!(body.starts_with(start.as_bytes()), "{body:?}");
                });
            }
        });
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
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.starts_with(
                "not enough cores: all deployments together would ask for 100000 vCPUs"
            ),
            "{refused}"
        );
    }
}

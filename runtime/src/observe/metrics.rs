//! Every series, unit and label, in one file.
//!
//! Threads: recorded to from anywhere, without a lock or a look-up once the series of a deployment are at hand; rendered on
//! the control thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
#[cfg(feature = "server")]
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Timings;
use super::build_info::BuildInfo;
use super::canary_series::{CanaryFamilies, ShadowMetrics, StickyMisses};
use super::failure_streak::FailureStreak;
use super::histogram::{Durations, RunRows};
#[cfg(feature = "server")]
use super::process_series::process_registry;
use super::refusals::RefusedRequests;
#[cfg(feature = "server")]
use super::text_format::text_format;
use super::waiting_line::{Waiting, WaitingLine};

/// The end of a request; the label `outcome`. Each says what happened; whose fault it is, where that can be told, stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// 200
    Ok,
    /// 424: the body is wrong for every model: it is not JSON. The client's fault.
    Malformed,
    /// 424: the body does not fit the model. The client's fault, or the model's where it is so with every request. Of a scoring script:
    /// it answered with a status from 400 to 499.
    RejectedByModel,
    /// 424: the model or scorer failed, or asked for more memory than it may have. The model's fault. Of a scoring script: it answered
    /// with 500 or more, or with what is no status of an answer.
    ModelError,
    /// 424: the process that ran the model ended. The model's fault.
    Died,
    /// 408: the deadline passed in line for a run. Load.
    ExpiredWaiting,
    /// 408: the deadline passed while the model ran. The model's fault: it is slow, or hangs.
    ExpiredRunning,
    /// The client left before the answer (499).
    Abandoned,
    /// 429: too many requests. Load.
    Shed,
    /// 503: no instance is ready, or the deployment is going away.
    NotReady,
    /// 500: serin's fault.
    Internal,
}

impl Outcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Malformed,
        Self::RejectedByModel,
        Self::ModelError,
        Self::Died,
        Self::ExpiredWaiting,
        Self::ExpiredRunning,
        Self::Abandoned,
        Self::Shed,
        Self::NotReady,
        Self::Internal,
    ];

    /// The value of the label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Malformed => "malformed",
            Self::RejectedByModel => "rejected_by_model",
            Self::ModelError => "model_error",
            Self::Died => "died",
            Self::ExpiredWaiting => "expired_waiting",
            Self::ExpiredRunning => "expired_running",
            Self::Abandoned => "abandoned",
            Self::Shed => "shed",
            Self::NotReady => "not_ready",
            Self::Internal => "internal",
        }
    }

    /// Whether the time it took says something about the deployment. What was refused at the door took none, and when a
    /// client leaves is the client's affair.
    fn is_timed(self) -> bool {
        !matches!(self, Self::Shed | Self::NotReady | Self::Abandoned)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.label().encode(encoder)
    }
}

/// Part of a request's time; the label `stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Total,
    Queue,
    Decode,
    Run,
    Encode,
}

impl Stage {
    const ALL: [Self; 5] = [
        Self::Total,
        Self::Queue,
        Self::Decode,
        Self::Run,
        Self::Encode,
    ];
}

impl EncodeLabelValue for Stage {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let label = match self {
            Self::Total => "total",
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Run => "run",
            Self::Encode => "encode",
        };
        label.encode(encoder)
    }
}

/// The labels that name one deployment in every series of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDeployment {
    endpoint: String,
    deployment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    endpoint: String,
    deployment: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStage {
    endpoint: String,
    deployment: String,
    stage: Stage,
}

impl ByDeployment {
    fn and_outcome(&self, outcome: Outcome) -> ByOutcome {
        ByOutcome {
            endpoint: self.endpoint.clone(),
            deployment: self.deployment.clone(),
            outcome,
        }
    }

    fn and_stage(&self, stage: Stage) -> ByStage {
        ByStage {
            endpoint: self.endpoint.clone(),
            deployment: self.deployment.clone(),
            stage,
        }
    }
}

/// The series, by their labels.
#[derive(Debug, Default)]
struct Families {
    requests: Family<ByOutcome, Counter>,
    assigned: Family<ByDeployment, Counter>,
    joined: Family<ByDeployment, Counter>,
    durations: Family<ByStage, Durations>,
    run_rows: Family<ByDeployment, RunRows>,
    in_flight: Family<ByDeployment, Gauge>,
    waiting: Family<ByDeployment, Waiting>,
    slots: Family<ByDeployment, Gauge>,
    instances: Family<ByDeployment, Gauge>,
    degraded: Family<ByDeployment, Gauge>,
    share: Family<ByDeployment, Gauge<f64, AtomicU64>>,
    load_time: Family<ByDeployment, Gauge<f64, AtomicU64>>,
    instances_died: Family<ByDeployment, Counter>,
    lanes_lost: Family<ByDeployment, Counter>,
    refused: RefusedRequests,
    forced_stops: Counter,
    canary: CanaryFamilies,
    bytes: ByteMetrics,
}

impl Families {
    /// Registers all, below their prefix: names, units and help. A counter's name gets `_total` behind it, a unit goes before that.
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("serin");
        self.register_requests(registry);
        self.register_deployments(registry);
        self.canary.register(registry);
        self.bytes.register(registry);
        self.register_server(registry);
    }

    fn register_requests(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests that reached a deployment, by how they ended",
            self.requests.clone(),
        );
        registry.register(
            "requests_assigned",
            "Requests for which the split of the endpoint, or the cohort of their client, chose the deployment: the share that it was given. \
             Those that name their deployment are not among them",
            self.assigned.clone(),
        );
        registry.register(
            "requests_joined",
            "Requests whose run of the model served others too",
            self.joined.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time of requests that were worked on or timed out, by stage: queue (until a score thread takes it up), decode, \
             run (the model), encode, total",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "run_rows",
            "Rows of each run of a model, of all requests that shared it; a run of inputs without rows in common counts as one row. Scoring \
             scripts have none",
            self.run_rows.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that ended before a deployment was chosen, by status code, and by endpoint where one of that name was asked for by its \
             plain path",
            self.refused.clone(),
        );
    }

    /// What deployments are and have.
    fn register_deployments(&self, registry: &mut Registry) {
        registry.register(
            "requests_in_flight",
            "Requests that wait for a slot of a deployment or have one",
            self.in_flight.clone(),
        );
        registry.register(
            "requests_waiting",
            "Requests that wait for a slot of a deployment",
            self.waiting.clone(),
        );
        registry.register(
            "slots",
            "Requests that a deployment runs at once at most: instances times concurrency",
            self.slots.clone(),
        );
        registry.register(
            "instances",
            "Instances of a deployment that take requests",
            self.instances.clone(),
        );
        registry.register(
            "degraded",
            "1 while the last requests of a deployment all failed, by the model's fault",
            self.degraded.clone(),
        );
        registry.register_with_unit(
            "traffic_share",
            "Part of the requests of the endpoint that the split in force gives to the deployment, from 0 to 1",
            Unit::Other("ratio".to_owned()),
            self.share.clone(),
        );
        registry.register_with_unit(
            "instance_load",
            "Time that the newest instance of the deployment took from the order to start until it could answer",
            Unit::Seconds,
            self.load_time.clone(),
        );
        registry.register(
            "instances_died",
            "Instances that died, and were replaced",
            self.instances_died.clone(),
        );
        registry.register(
            "lanes_lost",
            "Lanes of instances that were started anew, because their process ended or a run of theirs did not",
            self.lanes_lost.clone(),
        );
    }

    /// What is the server's.
    fn register_server(&self, registry: &mut Registry) {
        registry.register(
            "forced_stops",
            "Instances that were stopped under running requests, because their drain took too long",
            self.forced_stops.clone(),
        );
        registry.register(
            "log_dropped",
            "Lines of the log that were dropped because nobody took them",
            log_dropped(),
        );
        registry.register(
            "log_left_out",
            "Lines of the log that were not written because there were many of their kind",
            log_left_out(),
        );
        registry.register(
            "build",
            "The versions of serin and of its ONNX Runtime",
            BuildInfo,
        );
    }

    fn forget(&self, labels: &ByDeployment) {
        for outcome in Outcome::ALL {
            self.requests.remove(&labels.and_outcome(outcome));
        }
        for stage in Stage::ALL {
            self.durations.remove(&labels.and_stage(stage));
        }
        for counters in [
            &self.assigned,
            &self.joined,
            &self.instances_died,
            &self.lanes_lost,
        ] {
            counters.remove(labels);
        }
        self.run_rows.remove(labels);
        self.waiting.remove(labels);
        self.share.remove(labels);
        self.load_time.remove(labels);
        for gauges in [
            &self.in_flight,
            &self.slots,
            &self.instances,
            &self.degraded,
        ] {
            gauges.remove(labels);
        }
    }
}

/// Counts lines of the log that were dropped. One for the process, as the log is.
pub(super) fn log_dropped() -> Counter {
    static COUNTER: LazyLock<Counter> = LazyLock::new(Counter::default);
    COUNTER.clone()
}

/// Counts lines of the log that were left out. One for the process, as the log is.
pub(super) fn log_left_out() -> Counter {
    static COUNTER: LazyLock<Counter> = LazyLock::new(Counter::default);
    COUNTER.clone()
}

/// The formats that Prometheus reads.
#[cfg(feature = "server")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// All series of the process.
#[derive(Debug)]
pub struct Metrics {
    families: Families,
    registry: Registry,
    deployments: Mutex<HashMap<ByDeployment, Arc<DeploymentMetrics>>>,
}

impl Metrics {
    /// No deployment yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let families = Families::default();
        let mut registry = Registry::default();
        families.register(&mut registry);
        Arc::new(Self {
            families,
            registry,
            deployments: Mutex::default(),
        })
    }

    /// Series of one deployment: the same object for the same names until they are forgotten.
    #[must_use]
    pub fn deployment(&self, endpoint: &str, deployment: &str) -> Arc<DeploymentMetrics> {
        let labels = ByDeployment {
            endpoint: endpoint.to_owned(),
            deployment: deployment.to_owned(),
        };
        let mut deployments = self.lock_deployments();
        let metrics = deployments
            .entry(labels)
            .or_insert_with_key(|labels| Arc::new(DeploymentMetrics::new(&self.families, labels)));
        Arc::clone(metrics)
    }

    /// Forgets the series of a deleted deployment. Requests still in flight are recorded nowhere.
    pub fn forget(&self, endpoint: &str, deployment: &str) {
        let labels = ByDeployment {
            endpoint: endpoint.to_owned(),
            deployment: deployment.to_owned(),
        };
        let mut deployments = self.lock_deployments();
        deployments.remove(&labels);
        self.families.forget(&labels);
    }

    /// Counts the requests of an endpoint that do not say whose they are.
    #[must_use]
    pub fn sticky_misses(&self, endpoint: &str) -> StickyMisses {
        self.families.canary.sticky_misses(endpoint)
    }

    /// Forgets the series of an endpoint that has no cohorts, or is gone.
    pub fn forget_sticky_misses(&self, endpoint: &str) {
        self.families.canary.forget_sticky_misses(endpoint);
    }

    /// Series of the copies that a deployment gets as a shadow.
    #[must_use]
    pub fn shadow(&self, endpoint: &str, deployment: &str) -> ShadowMetrics {
        let outcomes = Outcome::ALL.into_iter().map(Outcome::label);
        self.families.canary.shadow(endpoint, deployment, outcomes)
    }

    /// Forgets the series of a deployment that is no shadow any more.
    pub fn forget_shadow(&self, endpoint: &str, deployment: &str) {
        let outcomes = Outcome::ALL.into_iter().map(Outcome::label);
        let canary = &self.families.canary;
        canary.forget_shadow(endpoint, deployment, outcomes);
    }

    /// Something about each deployment, by endpoint and name.
    pub fn each_deployment<T>(
        &self,
        about: impl Fn(&str, &str, &DeploymentMetrics) -> T,
    ) -> Vec<T> {
        let deployments = self.lock_deployments();
        let mut named: Vec<_> = deployments.iter().collect();
        named.sort_by_key(|(labels, _)| (&labels.endpoint, &labels.deployment));
        named
            .into_iter()
            .map(|(labels, metrics)| about(&labels.endpoint, &labels.deployment, metrics))
            .collect()
    }

    /// The number of a deployment's series; none where it is unknown, or forgotten.
    #[must_use]
    pub fn series_of(&self, endpoint: &str, deployment: &str) -> Option<u32> {
        let known = self.known(endpoint, deployment)?;
        Some(known.series())
    }

    /// A request ended before a deployment was chosen, with this status (401, 404, 413, ..). The endpoint is one that is there, or empty.
    pub fn refused(&self, endpoint: &str, status: u16) {
        self.families.refused.count(endpoint, status);
    }

    /// Forgets the refusals of all endpoints but these.
    pub fn keep_refusals(&self, is_there: impl Fn(&str) -> bool) {
        self.families.refused.keep(is_there);
    }

    /// Series of a deployment that has some.
    #[must_use]
    pub fn known(&self, endpoint: &str, deployment: &str) -> Option<Arc<DeploymentMetrics>> {
        let labels = ByDeployment {
            endpoint: endpoint.to_owned(),
            deployment: deployment.to_owned(),
        };
        self.lock_deployments().get(&labels).map(Arc::clone)
    }

    /// Instances whose drain took too long were stopped under running requests.
    pub fn forced_stops(&self, instances: usize) {
        let instances = u64::try_from(instances).unwrap_or(u64::MAX);
        self.families.forced_stops.inc_by(instances);
    }

    /// Series of the bytes in flight.
    #[must_use]
    pub fn bytes_in_flight(&self) -> ByteMetrics {
        self.families.bytes.clone()
    }

    /// Registers every series, those of deployments to come too, with a registry of the program.
    #[cfg(feature = "prometheus-client")]
    pub fn register(&self, registry: &mut Registry) {
        self.families.register(registry);
    }

    /// Every series in the format of OpenMetrics 1.0.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all that is written to it");
        text
    }

    /// Every series, and those of the process that this is, in one of the formats that Prometheus reads.
    #[cfg(feature = "server")]
    #[must_use]
    pub fn page(&self, format: MetricsFormat) -> String {
        let mut text = String::new();
        encode_registry(&mut text, &process_registry())
            .and_then(|()| encode(&mut text, &self.registry))
            .expect("a string takes all that is written to it");
        match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Text => text_format(&text),
        }
    }

    fn lock_deployments(&self) -> MutexGuard<'_, HashMap<ByDeployment, Arc<DeploymentMetrics>>> {
        self.deployments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhat {
    what: &'static str,
}

/// Series of the bytes of bodies and answers that the server holds, those of small ones aside.
#[derive(Debug, Clone, Default)]
pub struct ByteMetrics {
    held: Gauge,
    max: Gauge,
    waiting: Gauge,
    refused: Family<ByWhat, Counter>,
}

impl ByteMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "bytes_in_flight",
            "Bytes of request bodies and answers that are held, of those larger than 64 KiB",
            self.held.clone(),
        );
        registry.register(
            "bytes_in_flight_max",
            "Most bytes in flight at once",
            self.max.clone(),
        );
        registry.register(
            "bytes_in_flight_waiting",
            "Requests whose body waits for room among the bytes in flight",
            self.waiting.clone(),
        );
        registry.register(
            "bytes_in_flight_refused",
            "Requests that got 503 because there was no room for their body, or for their answer",
            self.refused.clone(),
        );
    }

    /// Tells the bound in force.
    pub fn set_max(&self, bytes: u64) {
        self.max.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// One that held `before` bytes holds `now`.
    pub fn held(&self, before: u64, now: u64) {
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.held.inc_by(bytes(now) - bytes(before));
    }

    /// Bytes held at this moment.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.held.get()).unwrap_or(0)
    }

    /// Counts a request as waiting until the guard is dropped.
    #[must_use]
    pub fn wait(&self) -> WaitsForRoom {
        self.waiting.inc();
        WaitsForRoom(self.waiting.clone())
    }

    /// A body found no room.
    pub fn refused_body(&self) {
        self.refused.get_or_create(&ByWhat { what: "body" }).inc();
    }

    /// An answer found no room.
    pub fn refused_answer(&self) {
        self.refused.get_or_create(&ByWhat { what: "answer" }).inc();
    }
}

/// A request that waits for room.
#[derive(Debug)]
pub struct WaitsForRoom(Gauge);

impl Drop for WaitsForRoom {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Series of one deployment.
#[derive(Debug)]
pub struct DeploymentMetrics {
    series: u32,
    build: AtomicU32,
    /// Counters in the order of [`Outcome`].
    requests: [Counter; Outcome::ALL.len()],
    assigned: Counter,
    joined: Counter,
    /// Histograms in the order of [`Stage`].
    durations: [Durations; Stage::ALL.len()],
    run_rows: RunRows,
    in_flight: Gauge,
    waiting: Waiting,
    slots: Gauge,
    instances: Gauge,
    share: Gauge<f64, AtomicU64>,
    load_time: Gauge<f64, AtomicU64>,
    instances_died: Counter,
    lanes_lost: Counter,
    service: MeanTime,
    streak: FailureStreak,
}

impl DeploymentMetrics {
    fn new(families: &Families, labels: &ByDeployment) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self {
            // Relaxed, here and for the build: numbers that need only differ, and are handed on with what they number.
            series: NEXT.fetch_add(1, Ordering::Relaxed),
            build: AtomicU32::new(0),
            requests: Outcome::ALL.map(|outcome| {
                families
                    .requests
                    .get_or_create_owned(&labels.and_outcome(outcome))
            }),
            assigned: families.assigned.get_or_create_owned(labels),
            joined: families.joined.get_or_create_owned(labels),
            durations: Stage::ALL.map(|stage| {
                families
                    .durations
                    .get_or_create_owned(&labels.and_stage(stage))
            }),
            run_rows: families.run_rows.get_or_create_owned(labels),
            in_flight: families.in_flight.get_or_create_owned(labels),
            waiting: families.waiting.get_or_create_owned(labels),
            slots: families.slots.get_or_create_owned(labels),
            instances: families.instances.get_or_create_owned(labels),
            share: families.share.get_or_create_owned(labels),
            load_time: families.load_time.get_or_create_owned(labels),
            instances_died: families.instances_died.get_or_create_owned(labels),
            lanes_lost: families.lanes_lost.get_or_create_owned(labels),
            service: MeanTime::default(),
            streak: FailureStreak::new(
                format!("{}/{}", labels.endpoint, labels.deployment),
                families.degraded.get_or_create_owned(labels),
            ),
        }
    }

    /// The number of these series, which no other deployment of the process has or had, also not one of the same name.
    #[must_use]
    pub fn series(&self) -> u32 {
        self.series
    }

    /// How many builds of the deployment came before the current one under these series.
    #[must_use]
    pub fn build(&self) -> u32 {
        self.build.load(Ordering::Relaxed)
    }

    /// Another build is about to serve: its failures are its own.
    pub fn begin_build(&self) {
        self.build.fetch_add(1, Ordering::Relaxed);
        self.streak.begin_anew();
    }

    /// Records one request, once; it ends `now`.
    pub fn record(&self, outcome: Outcome, timings: &Timings, now: Instant) {
        self.counter(outcome).inc();
        if timings.run_rows > 0 {
            self.run_rows.record(timings.run_rows);
        }
        if !outcome.is_timed() {
            return;
        }
        if timings.joined > 1 {
            self.joined.inc();
        }
        let stages = [
            Some(now.duration_since(timings.received)),
            timings.queue(),
            timings.decode(),
            timings.run(),
            timings.encode(),
        ];
        for (durations, stage) in self.durations.iter().zip(stages) {
            if let Some(duration) = stage {
                durations.record(duration);
            }
        }
        if let Some(admitted) = timings.admitted {
            self.service.record(now.duration_since(admitted));
        }
    }

    /// Its failures in a row.
    #[must_use]
    pub fn streak(&self) -> &FailureStreak {
        &self.streak
    }

    /// Requests that ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).get()
    }

    /// The time that a share `quantile` (0 to 1) of the timed requests took at most, read from the buckets; none before
    /// the first.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let [total, ..] = &self.durations;
        total.quantile(quantile)
    }

    /// The time for which one request takes a slot, a moving mean over the last few; zero before the first.
    #[must_use]
    pub fn service_time(&self) -> Duration {
        self.service.mean()
    }

    /// Tells the slots in force.
    pub fn set_slots(&self, slots: usize) {
        self.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    }

    /// Tells how many instances take requests.
    pub fn set_instances(&self, instances: usize) {
        self.instances
            .set(i64::try_from(instances).unwrap_or(i64::MAX));
    }

    /// Tells where its requests wait for a slot.
    pub fn set_line(&self, line: Weak<dyn WaitingLine>) {
        self.waiting.read(line);
    }

    /// Tells the part of its endpoint's requests that the split in force gives to it, in hundredths of a percent.
    pub fn set_share(&self, hundredths: u16) {
        self.share.set(f64::from(hundredths) / 10_000.0);
    }

    /// Tells how long its newest instance took to start.
    pub fn set_load_time(&self, took: Duration) {
        self.load_time.set(took.as_secs_f64());
    }

    /// So many instances died.
    pub fn instances_died(&self, count: u64) {
        self.instances_died.inc_by(count);
    }

    /// So many lanes were started anew.
    pub fn lanes_lost(&self, count: u64) {
        self.lanes_lost.inc_by(count);
    }

    /// The split, or a cohort, has chosen it for a request.
    pub fn assigned(&self) {
        self.assigned.inc();
    }

    /// Requests that wait for a slot or have one.
    #[must_use]
    pub fn now_in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// A request was admitted or queued (+1) or ended (-1).
    pub fn in_flight(&self, change: i64) {
        self.in_flight.inc_by(change);
    }

    fn counter(&self, outcome: Outcome) -> &Counter {
        let [
            ok,
            malformed,
            rejected_by_model,
            model_error,
            died,
            expired_waiting,
            expired_running,
            abandoned,
            shed,
            not_ready,
            internal,
        ] = &self.requests;
        match outcome {
            Outcome::Ok => ok,
            Outcome::Malformed => malformed,
            Outcome::RejectedByModel => rejected_by_model,
            Outcome::ModelError => model_error,
            Outcome::Died => died,
            Outcome::ExpiredWaiting => expired_waiting,
            Outcome::ExpiredRunning => expired_running,
            Outcome::Abandoned => abandoned,
            Outcome::Shed => shed,
            Outcome::NotReady => not_ready,
            Outcome::Internal => internal,
        }
    }
}

/// A moving mean: each new time counts one sixteenth. Two records at once may lose one of them, which a mean can bear.
#[derive(Debug, Default)]
struct MeanTime {
    ns: AtomicU64,
}

impl MeanTime {
    const WEIGHT: u64 = 16;

    fn record(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mean = match self.ns.load(Ordering::Relaxed) {
            0 => time,
            mean => mean - mean / Self::WEIGHT + time / Self::WEIGHT,
        };
        self.ns.store(mean, Ordering::Relaxed);
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// The public list of series: whoever changes it changes dashboards.
    const SERIES: &str = "\
serin_build_info version,onnxruntime
serin_bytes_in_flight
serin_bytes_in_flight_max
serin_bytes_in_flight_refused_total what
serin_bytes_in_flight_waiting
serin_degraded endpoint,deployment
serin_evidence_dropped_total
serin_feedback_answers_dropped_total
serin_forced_stops_total
serin_instance_load_seconds endpoint,deployment
serin_instances endpoint,deployment
serin_instances_died_total endpoint,deployment
serin_lanes_lost_total endpoint,deployment
serin_log_dropped_total
serin_log_left_out_total
serin_mirror_dropped_total endpoint,deployment,reason
serin_mirror_pairs_dropped_total
serin_mirrored_requests_total endpoint,deployment,outcome
serin_request_duration_seconds_bucket le,endpoint,deployment,stage
serin_request_duration_seconds_count endpoint,deployment,stage
serin_request_duration_seconds_sum endpoint,deployment,stage
serin_requests_assigned_total endpoint,deployment
serin_requests_in_flight endpoint,deployment
serin_requests_joined_total endpoint,deployment
serin_requests_refused_total endpoint,status
serin_requests_total endpoint,deployment,outcome
serin_requests_waiting endpoint,deployment
serin_run_rows_bucket le,endpoint,deployment
serin_run_rows_count endpoint,deployment
serin_run_rows_sum endpoint,deployment
serin_slots endpoint,deployment
serin_sticky_misses_total endpoint
serin_traffic_share_ratio endpoint,deployment
";

    fn line(text: &str, series: &str) -> Option<String> {
        text.lines()
            .find_map(|line| line.strip_prefix(series))
            .map(|value| value.trim().to_owned())
    }

    #[test]
    fn the_list_of_series_is_as_published() {
        let metrics = Metrics::new();
        drop(metrics.deployment("iris", "blue"));
        metrics.refused("iris", 404);
        metrics.bytes_in_flight().refused_body();
        metrics.sticky_misses("iris").count();
        drop(metrics.shadow("iris", "green"));
        let text = metrics.render();
        let mut series: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let Some((name, rest)) = line.split_once('{') else {
                    let (name, _value) = line.split_once(' ').expect("a value");
                    return format!("{name}\n");
                };
                let labels = rest.rsplit_once('}').expect("closed").0.split(',');
                let keys: Vec<_> = labels
                    .map(|label| label.split_once('=').expect("=").0)
                    .collect();
                format!("{name} {}\n", keys.join(","))
            })
            .collect();
        series.sort();
        series.dedup();
        // Rings of events and pairs are a server's.
        let of_server = [
            "serin_evidence_dropped_total",
            "serin_feedback_answers_dropped_total",
            "serin_mirror_pairs_dropped_total",
        ];
        let is_here = |line: &&str| cfg!(feature = "server") || !of_server.contains(line);
        let expected: Vec<&str> = SERIES.lines().filter(is_here).collect();
        assert_eq!(series.concat().lines().collect::<Vec<_>>(), expected);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_request_is_counted_once_and_each_stage_it_passed_is_timed() {
        let metrics = Metrics::new();
        let blue = metrics.deployment("iris", "blue");
        let received = Instant::now();
        let mut timings = Timings::start(received);
        timings.admitted = Some(received);
        timings.started = Some(received + Duration::from_micros(20));
        timings.decoded = Some(received + Duration::from_micros(80));
        timings.run_began = Some(received + Duration::from_micros(80));
        timings.ran = Some(received + Duration::from_micros(980));
        timings.encoded = Some(received + Duration::from_micros(990));
        timings.joined = 1;
        blue.record(Outcome::Ok, &timings, Instant::now());
        blue.record(
            Outcome::ExpiredWaiting,
            &Timings::start(received),
            Instant::now(),
        );
        let text = metrics.render();
        let labels = r#"endpoint="iris",deployment="blue""#;
        let joined = format!("serin_requests_joined_total{{{labels}}}");
        assert_eq!(line(&text, &joined).as_deref(), Some("0"), "{text}");
        timings.joined = 2;
        blue.record(Outcome::Ok, &timings, Instant::now());
        let later = metrics.render();
        assert_eq!(line(&later, &joined).as_deref(), Some("1"), "{later}");
        for (outcome, count) in [("ok", "1"), ("expired_waiting", "1"), ("shed", "0")] {
            let series = format!("serin_requests_total{{{labels},outcome=\"{outcome}\"}}");
            assert_eq!(line(&text, &series).as_deref(), Some(count), "{text}");
        }
        let bucket = |stage: &str, le: &str| {
            let series = format!(
                "serin_request_duration_seconds_bucket{{le=\"{le}\",{labels},stage=\"{stage}\"}}"
            );
            line(&text, &series).unwrap_or_else(|| panic!("no {series} in {text}"))
        };
        assert_eq!(bucket("queue", "0.00005"), "1");
        assert_eq!(bucket("decode", "0.00005"), "0");
        assert_eq!(bucket("decode", "0.0001"), "1");
        assert_eq!(bucket("run", "0.0005"), "0");
        assert_eq!(bucket("run", "0.001"), "1");
        assert_eq!(bucket("encode", "+Inf"), "1");
        assert_eq!(bucket("total", "+Inf"), "2");
    }

    #[test]
    fn what_was_refused_at_the_door_does_not_flatter_the_latency() {
        let blue = Metrics::new().deployment("iris", "blue");
        for outcome in [Outcome::Shed, Outcome::NotReady, Outcome::Abandoned] {
            blue.record(outcome, &Timings::start(Instant::now()), Instant::now());
            assert_eq!(blue.count(outcome), 1);
        }
        assert_eq!(blue.quantile(0.5), None);
    }

    #[test]
    fn the_same_names_give_the_same_series_until_they_are_forgotten() {
        let metrics = Metrics::new();
        let blue = metrics.deployment("iris", "blue");
        assert!(Arc::ptr_eq(&blue, &metrics.deployment("iris", "blue")));
        blue.set_slots(4);
        blue.in_flight(1);
        assert!(metrics.render().contains("deployment=\"blue\""));
        metrics.forget("iris", "blue");
        blue.record(Outcome::Ok, &Timings::start(Instant::now()), Instant::now());
        assert!(!metrics.render().contains("deployment=\"blue\""));
        assert_eq!(metrics.series_of("iris", "blue"), None);
        let again = metrics.deployment("iris", "blue");
        assert_eq!(again.count(Outcome::Ok), 0);
        assert_ne!(again.series(), blue.series());
        assert_eq!(metrics.series_of("iris", "blue"), Some(again.series()));
    }

    #[test]
    fn the_mean_follows_what_is_recorded() {
        let mean = MeanTime::default();
        assert_eq!(mean.mean(), Duration::ZERO);
        mean.record(Duration::from_millis(8));
        assert_eq!(mean.mean(), Duration::from_millis(8));
        for _ in 0..200 {
            mean.record(Duration::from_millis(2));
        }
        assert_eq!(mean.mean().as_micros(), 2000);
    }
}

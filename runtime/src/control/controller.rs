//! The single writer: one loop over a closed list of events.
//!
//! A change is applied, committed and only then accepted; its operation waits its turn at its endpoint and is carried out by
//! `reconcile`. The loop itself never blocks: commits are awaited, and starts, probes, drains, stops and copies run on short-lived
//! threads that report back as events.
//!
//! After a failed update the wishes stay as accepted and what ran before runs on; `show` says `Failed` with the reason. The next
//! change that speaks of the deployment tries again, and so does a restart; others leave it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use crate::config::{CONTROLLER_MAILBOX_MAX, HEALTH_PERIOD, OPERATIONS_KEPT};
use crate::control::change::{Change, ChangeError, ErrorKind};
use crate::control::credentials::{Credentials, Secret};
use crate::control::desired::{
    Applied, Context, Desired, Fallbacks, NotApplied, Revision, WantedEndpoint,
};
use crate::control::models::{
    Ingested, ModelDigest, ModelFiles, ModelRecord, ModelStoreError, Models,
};
use crate::control::operation::{Operation, OperationId, ProvisioningState};
use crate::control::plan::InstanceNo;
use crate::control::reconcile::{EndpointState, Task};
use crate::control::starter::{EngineStarter, Started, Starter};
use crate::control::steps::Live;
use crate::control::store::{DataFolder, JournalEntry, Loaded, NewEntry, Store, StoreError};
use crate::control::view::View;
use crate::engine::{
    Capacity, CoreMap, Prober, ReadyModel, Topology, library_id, run_in_background_if,
};
use crate::observe::Metrics;
use crate::router::{Endpoint, Router};
use crate::spec::{DeploymentName, EndpointName, ModelName, ModelVersion, SkuTable};

/// Settings of the controller.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// What to do when instances ask for more vCPUs than there are cores.
    pub capacity: Capacity,
    /// Instance types.
    pub skus: SkuTable,
    /// Tries models in a child process; without it they are not tried first.
    pub prober: Option<Prober>,
    /// How long a token is good for.
    pub token_life: Duration,
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
    /// The file that keys come from.
    #[error("cannot read the secret of the data folder: {0}")]
    Secret(#[source] std::io::Error),
}

/// Copies a model in; quietly where others serve, for a large one is hashed for a while.
fn ingest(files: &ModelFiles, source: &Path, quiet: bool) -> Result<Ingested, ModelStoreError> {
    let (files, source) = (files.clone(), source.to_owned());
    run_in_background_if(quiet, move || files.ingest(&source))
}

/// Everything that wakes the controller.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody wants something else.
    Change(Request),
    /// The plain paths of a change were copied in.
    Copied(
        Request,
        Result<BTreeMap<PathBuf, ModelDigest>, ModelStoreError>,
    ),
    /// Somebody has a model to register.
    Register(Registration),
    /// It was copied in.
    Registered(Registration, Result<Ingested, ModelStoreError>),
    /// Somebody wants to forget a version.
    DeleteModel {
        name: ModelName,
        version: ModelVersion,
        by: String,
        reply: oneshot::Sender<Result<(), ModelStoreError>>,
    },
    /// Models were tried and prepared, or one of them is no good.
    Probed {
        endpoint: EndpointName,
        outcome: Result<Vec<(ModelDigest, ReadyModel)>, (DeploymentName, String)>,
    },
    /// An instance is ready, or will never be.
    Started {
        no: InstanceNo,
        outcome: Result<Box<dyn Started>, String>,
    },
    /// An instance took too long to start.
    Overdue(InstanceNo),
    /// Instances are idle, or `forced` of them did not become so in time.
    Drained {
        endpoint: EndpointName,
        instances: Vec<(InstanceNo, Box<dyn Started>)>,
        forced: usize,
    },
    /// The threads of instances have ended; `endpoint` waits for it, if any does.
    Stopped {
        endpoint: Option<EndpointName>,
        instances: Vec<InstanceNo>,
    },
    /// Time to look for instances that died, and to replace them.
    Health,
    /// The server ends.
    Shutdown(oneshot::Sender<()>),
}

/// A change and who waits for its acceptance.
#[derive(Debug)]
pub(super) struct Request {
    change: Change,
    by: String,
    expected: Option<Revision>,
    /// Plain paths that were copied in for it.
    ingested: BTreeMap<PathBuf, ModelDigest>,
    reply: oneshot::Sender<Result<Operation, ChangeError>>,
}

/// A model and who waits for its registration.
#[derive(Debug)]
pub(super) struct Registration {
    source: PathBuf,
    name: ModelName,
    version: Option<ModelVersion>,
    by: String,
    reply: oneshot::Sender<Result<ModelRecord, ModelStoreError>>,
}

/// What the handles read without asking the loop.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) view: ArcSwap<View>,
    pub(super) desired: ArcSwap<Desired>,
    models: ArcSwap<Vec<ModelRecord>>,
    operations: Mutex<BTreeMap<OperationId, Operation>>,
    /// Whether everything that recovery began has ended.
    settled: AtomicBool,
    /// Told after each event.
    changed: watch::Sender<()>,
    secret: Secret,
    token_life: Duration,
    /// Gone after shutdown. Dropped before the folder is unlocked.
    store: Mutex<Option<(Store, DataFolder)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is whole between statements, so a panic elsewhere leaves it good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn with_store<T>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match locked(&self.store).as_mut() {
            Some((store, _)) => work(store),
            None => Err(StoreError::Stopped),
        }
    }

    pub(super) fn put_operation(&self, operation: Operation) {
        let mut operations = locked(&self.operations);
        operations.insert(operation.id, operation);
        while operations.len() > usize::try_from(OPERATIONS_KEPT).unwrap_or(usize::MAX) {
            operations.pop_first();
        }
    }

    pub(super) fn operation(&self, id: OperationId) -> Option<Operation> {
        locked(&self.operations).get(&id).cloned()
    }
}

/// The single writer. Owned by its task.
#[derive(Debug)]
pub struct Controller {
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) router: Arc<Router>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) starter: Arc<dyn Starter>,
    pub(super) files: ModelFiles,
    pub(super) cores: CoreMap,
    pub(super) capacity: Capacity,
    skus: SkuTable,
    onnx_runtime: String,
    models: Models,
    /// Copies under way; while there are any, no files are deleted.
    copying: usize,
    pub(super) revision: Revision,
    pub(super) endpoints: BTreeMap<EndpointName, EndpointState>,
    pub(super) published: BTreeMap<EndpointName, Arc<Endpoint>>,
    pub(super) live: BTreeMap<InstanceNo, Live>,
    pub(super) next_no: InstanceNo,
    /// Models that were tried and are good.
    pub(super) probed: BTreeSet<ModelDigest>,
    /// Models that instances may load, until the last instance of each has gone: then the cache is looked at anew.
    pub(super) ready: BTreeMap<ModelDigest, ReadyModel>,
    pub(super) recovering: BTreeSet<EndpointName>,
    /// What a recovery starts where the wish itself does not start.
    pub(super) fallbacks: Fallbacks,
    stopping: Option<oneshot::Sender<()>>,
}

impl Controller {
    /// Opens and locks the data folder, loads what should run, and begins to run it on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartupError`] when the folder cannot be used.
    pub fn start(
        config: ControllerConfig,
        router: Arc<Router>,
        metrics: Arc<Metrics>,
    ) -> Result<ControllerHandle, StartupError> {
        let starter = Arc::new(EngineStarter {
            prober: config.prober.clone(),
        });
        let cores = CoreMap::new(Topology::read(), config.capacity);
        Self::start_with(config, router, metrics, (starter, cores))
    }

    pub(super) fn start_with(
        config: ControllerConfig,
        router: Arc<Router>,
        metrics: Arc<Metrics>,
        (starter, cores): (Arc<dyn Starter>, CoreMap),
    ) -> Result<ControllerHandle, StartupError> {
        let onnx_runtime = library_id().to_owned();
        let folder = DataFolder::open(&config.data)?;
        let files = ModelFiles::open(folder.path())?;
        let secret = Secret::load(folder.path()).map_err(StartupError::Secret)?;
        let store = Store::open(&folder)?;
        let Loaded {
            revision,
            desired,
            operations,
            models,
            probed,
        } = store.load(&onnx_runtime)?;
        let succeeded = |revision| {
            let of = operations.iter().find(|one| one.revision == revision);
            of.is_some_and(|one| one.provisioning_state == ProvisioningState::Succeeded)
        };
        let fallbacks = if desired.is_all(succeeded) {
            Fallbacks::new()
        } else {
            desired.fallbacks(&store.history()?, succeeded)
        };
        let shared = Arc::new(Shared {
            view: ArcSwap::default(),
            desired: ArcSwap::from_pointee(desired),
            models: ArcSwap::from_pointee(models.clone()),
            operations: Mutex::new(operations.into_iter().map(|one| (one.id, one)).collect()),
            settled: AtomicBool::new(false),
            changed: watch::Sender::new(()),
            secret,
            token_life: config.token_life,
            store: Mutex::new(Some((store, folder))),
        });
        let (mailbox, requests) = mpsc::channel(CONTROLLER_MAILBOX_MAX);
        let (events, reports) = mpsc::unbounded_channel();
        let handle = ControllerHandle {
            shared: Arc::clone(&shared),
            mailbox,
        };
        let mut controller = Self {
            shared,
            events,
            router,
            metrics,
            starter,
            files,
            cores,
            capacity: config.capacity,
            skus: config.skus,
            onnx_runtime,
            models: Models::new(models),
            copying: 0,
            revision,
            endpoints: BTreeMap::new(),
            published: BTreeMap::new(),
            live: BTreeMap::new(),
            next_no: InstanceNo(1),
            probed: probed.into_iter().collect(),
            ready: BTreeMap::new(),
            recovering: BTreeSet::new(),
            fallbacks,
            stopping: None,
        };
        controller.recover();
        controller.show();
        tokio::spawn(controller.run(requests, reports));
        Ok(handle)
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Event>,
        mut reports: mpsc::UnboundedReceiver<Event>,
    ) {
        let mut health = tokio::time::interval(HEALTH_PERIOD);
        health.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                Some(event) = reports.recv() => event,
                Some(event) = requests.recv() => event,
                _ = health.tick() => Event::Health,
            };
            self.on(event).await;
            if self.stopping.is_some() && self.live.is_empty() {
                break;
            }
        }
        let closed = locked(&self.shared.store).take();
        drop(closed);
        self.show();
        if let Some(reply) = self.stopping {
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    async fn on(&mut self, event: Event) {
        match event {
            Event::Change(request) => self.change(request).await,
            Event::Copied(request, copied) => self.copied(request, copied).await,
            Event::Register(registration) => self.register(registration),
            Event::Registered(registration, ingested) => {
                self.registered(registration, ingested).await;
            }
            Event::DeleteModel {
                name,
                version,
                by,
                reply,
            } => {
                let outcome = self.delete_model(&name, &version, by).await;
                drop(reply.send(outcome));
            }
            Event::Probed { endpoint, outcome } => self.on_probed(endpoint, outcome),
            Event::Started { no, outcome } => self.on_started(no, outcome),
            Event::Overdue(no) => self.on_overdue(no),
            Event::Drained {
                endpoint,
                instances,
                forced,
            } => self.on_drained(&endpoint, instances, forced),
            Event::Stopped {
                endpoint,
                instances,
            } => self.on_stopped(endpoint, &instances),
            Event::Health => {
                if !self.on_health() {
                    return;
                }
            }
            Event::Shutdown(reply) => self.on_shutdown(reply),
        }
        self.show();
    }

    /// Brings what the handles read up to date.
    fn show(&self) {
        self.shared.view.store(Arc::new(self.build_view()));
        self.shared
            .settled
            .store(self.recovering.is_empty(), Ordering::Release);
        self.shared.changed.send_replace(());
    }

    /// Runs `work` on the store, on a thread that may block.
    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let outcome = spawn_blocking(move || shared.with_store(work)).await;
        outcome.unwrap_or(Err(StoreError::Stopped))
    }

    async fn change(&mut self, request: Request) {
        match self.accept(&request).await {
            Ok((operation, task)) => {
                let endpoint = operation.endpoint.clone();
                self.shared.put_operation(operation.clone());
                drop(request.reply.send(Ok(operation)));
                self.enqueue(endpoint, task);
            }
            Err(NotApplied::Refused(error)) => {
                drop(request.reply.send(Err(error)));
            }
            Err(NotApplied::Needs(paths)) => self.copy_in(request, paths),
        }
    }

    /// Applies and commits. Nothing has changed when it fails.
    async fn accept(&mut self, request: &Request) -> Result<(Operation, Task), NotApplied> {
        if self.stopping.is_some() {
            return Err(ChangeError::Stopped.into());
        }
        if let Some(expected) = request.expected
            && expected != self.revision
        {
            return Err(ChangeError::Outdated {
                expected,
                current: self.revision,
            }
            .into());
        }
        let revision = self.revision.next();
        let Applied { desired, endpoint } = self.apply(request, revision)?;
        let operation = Operation {
            id: OperationId(revision.0),
            endpoint: endpoint.clone(),
            change: request.change.to_string(),
            revision,
            provisioning_state: state_at_first(&request.change),
            reason: None,
            started: jiff::Timestamp::now(),
            ended: None,
        };
        let entry = NewEntry {
            revision: Some(revision),
            by: request.by.clone(),
            change: serde_json::to_value(&request.change).expect("a change is JSON"),
            why: None,
        };
        let committed = desired.clone();
        let record = operation.clone();
        let stored = self
            .store(move |store| store.commit(&committed, &record, &entry))
            .await;
        stored.map_err(|error| ChangeError::Storage(error.to_string()))?;
        let task = Task::operation(operation.id, desired.endpoints.get(&endpoint).cloned());
        self.revision = revision;
        self.shared.desired.store(Arc::new(desired));
        Ok((operation, task))
    }

    fn apply(&self, request: &Request, revision: Revision) -> Result<Applied, NotApplied> {
        let context = Context {
            skus: &self.skus,
            models: &self.models,
            ingested: &request.ingested,
            cores_max: (self.capacity == Capacity::Strict).then(|| self.cores.total_and_free().0),
            unready: &self.unready(),
            revision,
        };
        self.shared.desired.load().apply(&request.change, &context)
    }

    /// Copies the plain paths of a change in, off the loop.
    fn copy_in(&mut self, request: Request, paths: BTreeSet<PathBuf>) {
        self.copying += 1;
        let (files, events, quiet) = (self.files.clone(), self.events.clone(), self.serves());
        spawn_blocking(move || {
            let copy = |path: PathBuf| {
                let ingested = ingest(&files, &path, quiet);
                ingested.map(|model| (path, model.digest))
            };
            let copied = paths.into_iter().map(copy).collect();
            drop(events.send(Event::Copied(request, copied)));
        });
    }

    async fn copied(
        &mut self,
        mut request: Request,
        copied: Result<BTreeMap<PathBuf, ModelDigest>, ModelStoreError>,
    ) {
        self.copying -= 1;
        match copied {
            Ok(copied) => {
                request.ingested.extend(copied);
                self.change(request).await;
            }
            Err(error) => {
                let refusal = match error.kind() {
                    ErrorKind::Storage => ChangeError::Storage(error.to_string()),
                    _ => ChangeError::Invalid(vec![format!("model: {error}")]),
                };
                drop(request.reply.send(Err(refusal)));
            }
        }
    }

    fn register(&mut self, registration: Registration) {
        self.copying += 1;
        let (files, events, quiet) = (self.files.clone(), self.events.clone(), self.serves());
        spawn_blocking(move || {
            let ingested = ingest(&files, &registration.source, quiet);
            drop(events.send(Event::Registered(registration, ingested)));
        });
    }

    async fn registered(
        &mut self,
        registration: Registration,
        ingested: Result<Ingested, ModelStoreError>,
    ) {
        self.copying -= 1;
        let outcome = match ingested {
            Ok(ingested) => self.record_model(&registration, ingested).await,
            Err(error) => Err(error),
        };
        drop(registration.reply.send(outcome));
    }

    async fn record_model(
        &mut self,
        registration: &Registration,
        ingested: Ingested,
    ) -> Result<ModelRecord, ModelStoreError> {
        let name = registration.name.clone();
        let version = registration
            .version
            .clone()
            .unwrap_or_else(|| self.models.next_version(&name));
        if let Some(known) = self.models.check(&name, &version, &ingested.digest)? {
            return Ok(known.clone());
        }
        let record = ModelRecord {
            name,
            version,
            digest: ingested.digest,
            size_bytes: ingested.size_bytes,
            path: registration.source.clone(),
            created_at: jiff::Timestamp::now(),
            created_by: registration.by.clone(),
        };
        let entry = model_entry("register_model", &record, &registration.by);
        let row = record.clone();
        self.store(move |store| store.insert_model(&row, &entry))
            .await?;
        self.models.insert(record.clone());
        self.shared
            .models
            .store(Arc::new(self.models.records().to_vec()));
        Ok(record)
    }

    async fn delete_model(
        &mut self,
        name: &ModelName,
        version: &ModelVersion,
        by: String,
    ) -> Result<(), ModelStoreError> {
        let record = self.models.find(name, Some(version))?.clone();
        let users = self.shared.desired.load().users(&record);
        if !users.is_empty() {
            return Err(ModelStoreError::InUse {
                reference: record.reference(),
                users,
            });
        }
        let entry = model_entry("delete_model", &record, &by);
        let row = record.clone();
        self.store(move |store| store.delete_model(&row, &entry))
            .await?;
        self.models.remove(name, version);
        self.shared
            .models
            .store(Arc::new(self.models.records().to_vec()));
        let runs = self
            .live
            .values()
            .any(|one| one.build.model == record.digest);
        if self.copying == 0
            && !runs
            && !self.models.names(&record.digest)
            && !self.shared.desired.load().runs(&record.digest)
        {
            let files = self.files.clone();
            spawn_blocking(move || {
                if let Err(error) = files.remove(&record.digest) {
                    tracing::warn!(%error, "files of a deleted model stay");
                }
            });
        }
        Ok(())
    }

    /// Notes the end of an operation, in memory at once and in the store as soon as a thread is free.
    pub(super) fn conclude(&self, id: OperationId, outcome: Result<(), String>) {
        let Some(mut operation) = self.shared.operation(id) else {
            return;
        };
        operation.provisioning_state = match outcome {
            Ok(()) => ProvisioningState::Succeeded,
            Err(_) => ProvisioningState::Failed,
        };
        operation.reason = outcome.err();
        operation.ended = Some(jiff::Timestamp::now());
        match &operation.reason {
            None => tracing::info!(operation = %id, change = operation.change, "succeeded"),
            Some(reason) => {
                tracing::warn!(operation = %id, change = operation.change, reason, "failed");
            }
        }
        self.shared.put_operation(operation.clone());
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || {
            let entry = NewEntry {
                revision: Some(operation.revision),
                by: "serin".to_owned(),
                change: serde_json::json!({
                    "kind": "outcome", "operation": id, "provisioning_state": operation.provisioning_state,
                }),
                why: operation.reason.clone(),
            };
            if let Err(error) = shared.with_store(|store| store.conclude(&operation, &entry)) {
                tracing::warn!(%error, operation = %id, "the end of an operation is not in the journal");
            }
        });
    }

    /// Remembers models that were tried, so that the next start does not try them again.
    pub(super) fn remember_probed(&mut self, mut digests: Vec<ModelDigest>) {
        digests.retain(|digest| self.probed.insert(digest.clone()));
        if digests.is_empty() {
            return;
        }
        let (shared, onnx_runtime) = (Arc::clone(&self.shared), self.onnx_runtime.clone());
        spawn_blocking(move || {
            for digest in &digests {
                if let Err(error) =
                    shared.with_store(|store| store.insert_probe(digest, &onnx_runtime))
                {
                    tracing::warn!(%error, "a tried model will be tried again after a restart");
                }
            }
        });
    }

    /// Operations of before the last end of the process that have not ended, by endpoint.
    pub(super) fn unfinished(&self) -> Vec<Operation> {
        locked(&self.shared.operations)
            .values()
            .filter(|one| !one.provisioning_state.has_ended())
            .cloned()
            .collect()
    }

    pub(super) fn auth(&self, endpoint: &WantedEndpoint) -> crate::router::EndpointAuth {
        self.shared.secret.auth(endpoint)
    }

    fn on_shutdown(&mut self, reply: oneshot::Sender<()>) {
        self.stopping = Some(reply);
        self.retire_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }
}

fn model_entry(kind: &str, record: &ModelRecord, by: &str) -> NewEntry {
    let change = serde_json::json!({ "kind": kind, "model": record });
    NewEntry {
        revision: None,
        by: by.to_owned(),
        change,
        why: None,
    }
}

/// What the operation of a change is called until it has ended.
fn state_at_first(change: &Change) -> ProvisioningState {
    match change {
        Change::CreateEndpoint { .. } | Change::CreateDeployment { .. } => {
            ProvisioningState::Creating
        }
        Change::UpdateEndpoint { .. }
        | Change::UpdateDeployment { .. }
        | Change::RegenerateKey { .. } => ProvisioningState::Updating,
        Change::DeleteEndpoint { .. } | Change::DeleteDeployment { .. } => {
            ProvisioningState::Deleting
        }
    }
}

/// The way to the controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    shared: Arc<Shared>,
    mailbox: mpsc::Sender<Event>,
}

impl ControllerHandle {
    /// Asks for a change; returns when it is on disk, that is accepted, or refused. With `expected`, only if nothing else was
    /// accepted since that revision.
    ///
    /// # Errors
    ///
    /// Any [`ChangeError`]; then nothing has changed.
    pub async fn submit(
        &self,
        change: Change,
        by: String,
        expected: Option<Revision>,
    ) -> Result<Operation, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            change,
            by,
            expected,
            ingested: BTreeMap::new(),
            reply,
        };
        match self.mailbox.try_send(Event::Change(request)) {
            Ok(()) => answer.await.unwrap_or(Err(ChangeError::Stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ChangeError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ChangeError::Stopped),
        }
    }

    /// Waits for the end of an operation; none when the number is unknown. When the server stops first, the operation as it is.
    pub async fn finished(&self, id: OperationId) -> Option<Operation> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            let operation = self.shared.operation(id)?;
            if operation.provisioning_state.has_ended() || self.mailbox.is_closed() {
                return Some(operation);
            }
            // The sender lives in `shared`, which this handle holds.
            let _ = changed.changed().await;
        }
    }

    /// An operation as it is now.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<Operation> {
        self.shared.operation(id)
    }

    /// What should be beside what is.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// What clients of an endpoint send to prove who they are.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NotFound`].
    #[expect(
        clippy::unused_async,
        reason = "part of an interface whose other calls wait"
    )]
    pub async fn credentials(&self, endpoint: &EndpointName) -> Result<Credentials, ChangeError> {
        let desired = self.shared.desired.load();
        let now_unix_s = jiff::Timestamp::now().as_second();
        Ok(self.shared.secret.credentials(
            desired.endpoint(endpoint)?,
            now_unix_s,
            self.shared.token_life,
        ))
    }

    /// Copies a model in and gives it a name and version; without a version the next number. The same content under the same
    /// version again is fine.
    ///
    /// # Errors
    ///
    /// Any [`ModelStoreError`]; then nothing is registered.
    pub async fn register_model(
        &self,
        source: PathBuf,
        name: ModelName,
        version: Option<ModelVersion>,
        by: String,
    ) -> Result<ModelRecord, ModelStoreError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::Register(Registration {
            source,
            name,
            version,
            by,
            reply,
        });
        self.mailbox
            .send(event)
            .await
            .map_err(|_| ModelStoreError::Stopped)?;
        answer.await.unwrap_or(Err(ModelStoreError::Stopped))
    }

    /// Forgets a version that no deployment uses.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::Unknown`] and [`ModelStoreError::InUse`], naming what exists and who uses it.
    pub async fn delete_model(
        &self,
        name: ModelName,
        version: ModelVersion,
        by: String,
    ) -> Result<(), ModelStoreError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::DeleteModel {
            name,
            version,
            by,
            reply,
        };
        self.mailbox
            .send(event)
            .await
            .map_err(|_| ModelStoreError::Stopped)?;
        answer.await.unwrap_or(Err(ModelStoreError::Stopped))
    }

    /// All registered versions, in the order of registration.
    #[must_use]
    pub fn models(&self) -> Arc<Vec<ModelRecord>> {
        self.shared.models.load_full()
    }

    /// The last lines of the journal, oldest first.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn journal(&self, last: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let read = spawn_blocking(move || shared.with_store(|store| store.journal(last)));
        read.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Resolves when everything that recovery began has ended, well or not.
    pub async fn settled(&self) {
        let mut changed = self.shared.changed.subscribe();
        while !self.shared.settled.load(Ordering::Acquire) && !self.mailbox.is_closed() {
            let _ = changed.changed().await;
        }
    }

    /// Drains all, stops all, closes the store and unlocks the data folder.
    pub async fn shutdown(self) {
        let (reply, answer) = oneshot::channel();
        if self.mailbox.send(Event::Shutdown(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

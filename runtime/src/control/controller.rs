//! The single writer: a mailbox, a commit, a loop.
//!
//! A change is applied (`apply`), committed (`store`) and only then accepted; the reconciler says what follows from it
//! (`reconcile`), and that is carried out (`work`). The loop itself never blocks for longer than one write to the disk: starts,
//! tries, drains, stops and copies run on threads of their own and report back.
//!
//! After a failed update the target stays as accepted and what was good before runs on; `show` says `Failed` with the reason. The
//! next change that speaks of the deployment tries again, and so does a restart; others leave it alone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::config::{
    CONTROLLER_MAILBOX_MAX, HEALTH_PERIOD, OPERATIONS_UNDER_WAY_MAX, RECOVERY_WAIT_MAX,
};
use crate::control::apply::Applied;
use crate::control::books::Books;
use crate::control::build::Need;
use crate::control::change::Change;
use crate::control::credentials::{Issuer, Secret, SecretError, draw_generation};
use crate::control::desired::{Settlement, SplitOutcome, Stamp};
use crate::control::difference::differences;
use crate::control::event::{Command, Event, Key, Outcome};
use crate::control::last_words;
use crate::control::lent::Lent;
use crate::control::mailbox::{Asker, Bulletin, ControllerHandle, Mail, Preview, Request};
use crate::control::models::ModelDigest;
use crate::control::models::{ModelFiles, ModelStoreError, Models, ScriptFolders};
use crate::control::notes;
use crate::control::operation::{Operation, OperationId, ProvisioningState, replaced_by};
use crate::control::reconcile::on;
use crate::control::refusal::ChangeError;
use crate::control::refusal::NotApplied;
use crate::control::registry::{Places, Registry};
use crate::control::revision::Revision;
use crate::control::starter::{EngineStarter, Starter};
use crate::control::store::{
    DataFolder, JournalReader, Loaded, NewEntry, OnLoss, Store, StoreError, StoreThread,
};
use crate::control::validator::{Context, Past};
use crate::control::view::view;
use crate::control::work::{Report, Work};
use crate::engine::{Capacity, CoreMap, Pinning, Prober, Topology, library_id};
use crate::observe::{DeploymentLogs, Metrics, NoteOn, note};
use crate::router::Router;
use crate::spec::{DeploymentName, EndpointName, SkuTable};

/// Settings of the controller.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// The rule where instances ask for more vCPUs than there are cores.
    pub capacity: Capacity,
    /// Whether threads keep to the cores of their instance.
    pub pinning: Pinning,
    /// Instance types.
    pub skus: SkuTable,
    /// Tries models in a child process; without it they are not tried first.
    pub prober: Option<Prober>,
    /// The life of a token.
    pub token_life: Duration,
    /// Whether this process is a server's own, so that fatal signals are noted in the black box of the data folder.
    pub black_box: bool,
    /// What to do when the data folder has less than was accepted.
    pub on_loss: OnLoss,
}

/// The reason why the controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The data folder or what is in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of models.
    #[error(transparent)]
    Models(#[from] ModelStoreError),
    /// The file that keys come from.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system gave no thread.
    #[error("cannot start the thread of the store: {0}")]
    Threads(#[source] std::io::Error),
}

/// The single writer. Owned by its task.
#[derive(Debug)]
pub struct Controller {
    pub(super) bulletin: Arc<Bulletin>,
    pub(super) store: StoreThread,
    pub(super) books: Books,
    work: Work,
    pub(super) registry: Registry,
    /// For copies that end.
    pub(super) mail: mpsc::UnboundedSender<Mail>,
    skus: SkuTable,
    pub(super) onnx_runtime: String,
    pub(super) revision: Revision,
    started: Instant,
    pub(super) stopping: Option<oneshot::Sender<()>>,
    pub(super) data: PathBuf,
    pub(super) black_box: bool,
    /// Where the data folder is when it is not here.
    pub(super) lent: Option<Lent>,
    /// The logs of the deployments, where this process is a server's own.
    logs: Option<DeploymentLogs>,
}

/// Everything that wakes the loop.
struct Inbox {
    /// From people; bounded, and refused when it is full.
    mailbox: mpsc::Receiver<Mail>,
    /// From copies that end.
    mail: mpsc::UnboundedReceiver<Mail>,
    /// From threads that end: as many as were begun.
    reports: mpsc::UnboundedReceiver<Report>,
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
        let cores = CoreMap::new(Topology::read(), config.capacity)
            .beside_others(config.pinning, Some(&config.data));
        Self::start_with(config, (router, metrics), (starter, cores))
    }

    pub(super) fn start_with(
        config: ControllerConfig,
        shown: (Arc<Router>, Arc<Metrics>),
        (starter, cores): (Arc<dyn Starter>, CoreMap),
    ) -> Result<ControllerHandle, StartupError> {
        let onnx_runtime = library_id().to_owned();
        let folder = DataFolder::open(&config.data)?;
        // The database first: beside anything else, one that is missing is a loss.
        let mut store = Store::open(&folder, config.on_loss)?;
        let secret = Secret::load(folder.path(), &mut store, config.on_loss)?;
        let files = ModelFiles::open(folder.path())?;
        let journal = JournalReader::new(&folder);
        let mut loaded = store.load(&onnx_runtime)?;
        if config.black_box {
            last_words::take_over(&folder, &mut store, &mut loaded)?;
        }
        let Loaded {
            revision,
            desired,
            operations,
            models,
            probed,
            isolated,
        } = loaded;
        let (mailbox, requests) = mpsc::channel(CONTROLLER_MAILBOX_MAX);
        let (mail, copies) = mpsc::unbounded_channel();
        let (reports, ends) = mpsc::unbounded_channel();
        let issuer = Issuer::new(secret, config.token_life);
        let logs = config.black_box.then(|| logs_of(&config.data)).flatten();
        let bulletin = Arc::new(Bulletin::new(
            desired,
            (models.clone(), operations),
            issuer.clone(),
            (journal, files.clone(), logs.clone()),
        ));
        let places = Arc::new(Places {
            files: files.clone(),
            scripts: ScriptFolders::open(folder.path())?,
        });
        let mut books = Books::new(bulletin.desired.load_full(), cores, probed);
        books.isolated = isolated;
        let controller = Self {
            books,
            store: StoreThread::start(store, folder).map_err(StartupError::Threads)?,
            work: Work::new((starter, places), Arc::new(issuer), shown, reports),
            registry: Registry::new(files, Models::new(models)),
            bulletin: Arc::clone(&bulletin),
            mail,
            skus: config.skus,
            onnx_runtime,
            revision,
            started: Instant::now(),
            stopping: None,
            data: config.data,
            black_box: config.black_box,
            lent: None,
            logs,
        };
        controller.keep_logs();
        // What should be is known from the first moment, also to who asks before the loop has begun.
        let first = view(&controller.books, revision);
        bulletin.view.store(Arc::new(first));
        tokio::spawn(controller.run(Inbox {
            mailbox: requests,
            mail: copies,
            reports: ends,
        }));
        Ok(ControllerHandle { bulletin, mailbox })
    }

    async fn run(mut self, mut inbox: Inbox) {
        let unfinished = self.bulletin.unfinished();
        self.feed(Event::Recover { unfinished }).await;
        self.collect_models();
        self.tell_missing_models();
        let mut health = tokio::time::interval(HEALTH_PERIOD);
        health.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(report) = inbox.reports.recv() => self.on_report(report).await,
                Some(mail) = inbox.mail.recv() => self.on_mail(mail).await,
                Some(mail) = inbox.mailbox.recv() => self.on_mail(mail).await,
                _ = health.tick() => self.on_tick().await,
            }
            if self.stopping.is_some() && self.books.instances.is_empty() {
                break;
            }
        }
        self.store.close();
        if let Some(logs) = &self.logs {
            logs.close();
        }
        // Before the last word: who waits for an end sees by it that there will be no other.
        inbox.mailbox.close();
        self.show();
        if let Some(reply) = self.stopping {
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    async fn on_report(&mut self, report: Report) {
        let event = self.work.take_in(report);
        if let Event::NeedReady {
            need: Need::Model(model),
            outcome: Ok(_),
        } = &event
            && !self.books.probed.contains(model)
        {
            self.remember_tried(model.clone());
        }
        if let Event::NeedReady { need, .. } = &event {
            for key in notes::waiting_for(&self.books, need) {
                for warning in self.work.warnings(need) {
                    self.note(key, NoteOn::OnnxRuntime, warning);
                }
            }
        }
        self.feed(event).await;
    }

    async fn on_tick(&mut self) {
        self.take_back();
        for no in self.work.dead() {
            if let Some(one) = self.books.instances.get(&no) {
                let key = &one.key;
                tracing::error!(endpoint = %key.endpoint, deployment = %key.deployment, "an instance died");
            }
            self.feed(Event::Died(no)).await;
        }
        for event in self.work.troubled(&self.books) {
            self.feed(event).await;
        }
        self.feed(Event::Tick).await;
    }

    async fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Change(request) => self.change(request).await,
            Mail::Gathered(request, gathered) => self.gathered(request, gathered).await,
            Mail::Register(registration) => match self.check_is_writer() {
                Ok(()) => self.register(registration),
                Err(refused) => drop(registration.reply.send(Err(not_writer(&refused)))),
            },
            Mail::Registered(registration, ingested) => {
                self.registered(registration, ingested).await;
            }
            Mail::DescribeModel(description, reply) => {
                let outcome = match self.check_is_writer() {
                    Ok(()) => self.describe_model(description).await,
                    Err(refused) => Err(not_writer(&refused)),
                };
                drop(reply.send(outcome));
            }
            Mail::DeleteModel {
                name,
                version,
                by,
                reply,
            } => {
                let outcome = match self.check_is_writer() {
                    Ok(()) => self.delete_model(&name, &version, by).await,
                    Err(refused) => Err(not_writer(&refused)),
                };
                drop(reply.send(outcome));
            }
            Mail::Journal { last, reply } => {
                let read = move |store: &mut Store| drop(reply.send(store.journal(last)));
                self.store.send(read);
            }
            Mail::Rollouts(work) => match self.check_is_writer() {
                Ok(()) => self.store.send(move |store| (work.0)(Ok(store))),
                Err(refused) => (work.0)(Err(refused)),
            },
            Mail::Lend(reply) => drop(reply.send(self.lend())),
            Mail::TakeBack(taken) => self.want_back(taken),
            Mail::Shutdown(reply) => {
                self.stopping = Some(reply);
                self.feed(Event::Shutdown).await;
            }
        }
    }

    /// Has the reconciler look at an event, and carries out what follows from it.
    async fn feed(&mut self, event: Event) {
        let is_tick = matches!(event, Event::Tick);
        let mut events = VecDeque::from([event]);
        let mut anything = false;
        while let Some(event) = events.pop_front() {
            for (key, on, words) in notes::of_event(&self.books, &event) {
                self.note(&key, on, &words);
            }
            for command in on(&mut self.books, event, Instant::now()) {
                anything = true;
                match command {
                    Command::Settle {
                        settlement,
                        failure,
                    } => events.push_back(self.settle(settlement, failure).await),
                    Command::Conclude { id, outcome } => self.conclude(id, outcome),
                    Command::Start(new) => {
                        let (key, on, words) = notes::of_new(&new);
                        self.note(&key, on, &words);
                        self.work.carry_out(Command::Start(new));
                    }
                    other => self.work.carry_out(other),
                }
            }
        }
        self.work.finish();
        if anything || !is_tick || !self.is_settled() {
            self.show();
        }
    }

    /// Keeps the logs of what should be there, and no others.
    fn keep_logs(&self) {
        if let Some(logs) = &self.logs {
            let desired = self.bulletin.desired.load();
            let names = desired
                .deployments()
                .map(|(endpoint, one)| label(&endpoint.spec.name, &one.target.spec.name));
            logs.keep_only(names);
        }
    }

    fn note(&self, key: &Key, on: NoteOn, words: &str) {
        if self.logs.is_some() {
            note(&label(&key.endpoint, &key.deployment), on, &words);
        }
    }

    /// Refuses a change while the folder is not here.
    fn check_is_writer(&self) -> Result<(), ChangeError> {
        self.lent
            .as_ref()
            .map_or(Ok(()), |lent| Err(lent.refusal()))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.bulletin.settled.load(Ordering::Acquire)
    }

    /// Brings what the handles read up to date.
    fn show(&self) {
        let bulletin = &self.bulletin;
        let shown = view(&self.books, self.revision);
        bulletin.view.store(Arc::new(shown));
        let late = self.started.elapsed() >= RECOVERY_WAIT_MAX && self.books.serves_traffic();
        if self.books.has_recovered() || late {
            // Released after the view is stored: who sees it set sees that view, or a later one.
            bulletin.settled.store(true, Ordering::Release);
        }
        bulletin.changed.send_replace(());
    }

    pub(super) async fn change(&mut self, request: Request) {
        let past = match self.past_of(&request.change).await {
            Ok(past) => past,
            Err(error) => return request.asker.refuse(error),
        };
        if matches!(request.asker, Asker::Preview(_)) {
            return self.preview(request, past.as_ref());
        }
        match self.accept(&request, past.as_ref()).await {
            Ok(operation) => {
                let (id, endpoint) = (operation.id, operation.endpoint.clone());
                self.bulletin.put_operation(operation.clone());
                self.keep_logs();
                let desired = self.bulletin.desired.load_full();
                // In force before whoever asked is told that it was accepted.
                self.feed(Event::Accepted {
                    operation: id,
                    endpoint,
                    desired,
                })
                .await;
                // One that began nothing has ended by now.
                let now = self.bulletin.operation(id).unwrap_or(operation);
                if let Asker::Change(reply) = request.asker {
                    drop(reply.send(Ok(now)));
                }
                self.collect_models();
            }
            Err(NotApplied::Refused(error)) => {
                request.asker.refuse(error);
                self.collect_models();
            }
            Err(NotApplied::Needs(needs)) => self.gather(request, needs),
        }
    }

    /// The state that a change asks to have back; nothing for other changes, and where it is kept no more.
    async fn past_of(&self, change: &Change) -> Result<Option<Past>, ChangeError> {
        let Change::RollBack { to, .. } = change else {
            return Ok(None);
        };
        let to = *to;
        let read = self.store.run(move |store| store.state_of(to)).await;
        let desired = read.map_err(|error| ChangeError::Storage(error.to_string()))?;
        Ok(desired.map(|desired| {
            let is_gone = |model: &&ModelDigest| !self.registry.files.folder(model).exists();
            let gone = desired.models().filter(is_gone).cloned().collect();
            Past { desired, gone }
        }))
    }

    /// Works a change out, and tells what it would do.
    fn preview(&mut self, request: Request, past: Option<&Past>) {
        let now = self.bulletin.desired.load_full();
        let applied = match self.check_is_writer() {
            Ok(()) => self.apply(&request, (self.revision.next(), past)),
            Err(refused) => Err(refused.into()),
        };
        let told = match applied {
            Ok(applied) => {
                let endpoint = applied.endpoint;
                let after = applied.desired.endpoints.get(&endpoint);
                Ok(Preview {
                    revision: self.revision,
                    changed: differences(now.endpoints.get(&endpoint), after),
                    endpoint,
                    note: applied.note,
                })
            }
            Err(NotApplied::Refused(error)) => Err(error),
            Err(NotApplied::Needs(needs)) => return self.gather(request, needs),
        };
        if let Asker::Preview(reply) = request.asker {
            drop(reply.send(told));
        }
        self.collect_models();
    }

    /// Applies and commits. Nothing has changed when it fails.
    async fn accept(
        &mut self,
        request: &Request,
        past: Option<&Past>,
    ) -> Result<Operation, NotApplied> {
        if self.stopping.is_some() {
            return Err(ChangeError::Stopped.into());
        }
        self.check_is_writer()?;
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
        let applied = self.apply(request, (revision, past))?;
        self.check_under_way(&applied, revision)?;
        let overtaken = self.overtaken(&applied, OperationId(revision.0));
        let operation = Operation {
            id: OperationId(revision.0),
            endpoint: applied.endpoint.clone(),
            deployments: applied.deployments,
            change: request.change.to_string(),
            revision,
            provisioning_state: state_at_first(&request.change),
            note: applied.note,
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
        let (committed, record) = (applied.desired.clone(), operation.clone());
        let records = overtaken.clone();
        let stored = self
            .store
            .run(move |store| store.commit(&committed, (&record, &records), &entry))
            .await;
        stored.map_err(|error| ChangeError::Storage(error.to_string()))?;
        for older in overtaken {
            self.bulletin.put_operation(older);
        }
        self.revision = revision;
        self.bulletin.desired.store(Arc::new(applied.desired));
        Ok(operation)
    }

    /// Operations that will not do all they were to do when a change is accepted. Each says so from then on, also after a restart.
    fn overtaken(&self, applied: &Applied, newer: OperationId) -> Vec<Operation> {
        let overtaken = self.books.overtaken(&applied.desired, &applied.endpoint);
        let overtaken = overtaken
            .into_iter()
            .filter_map(|id| self.bulletin.operation(id));
        let overtaken = overtaken.filter(|older| older.reason.is_none());
        let replaced = |older| Operation {
            reason: Some(replaced_by(newer)),
            ..older
        };
        overtaken.map(replaced).collect()
    }

    fn apply(
        &self,
        request: &Request,
        (revision, past): (Revision, Option<&Past>),
    ) -> Result<Applied, NotApplied> {
        let cores = &self.books.cores;
        let now = jiff::Timestamp::now();
        let stamp = Stamp {
            created_by: request.by.clone(),
            created_at: now,
            last_modified_at: now,
        };
        let context = Context {
            skus: &self.skus,
            models: &self.registry.models,
            gathered: &request.gathered,
            cores_max: (cores.capacity() == Capacity::Strict).then(|| cores.total_and_free().0),
            unready: &self.books.unready(),
            revision,
            past,
            stamp: Some(&stamp),
            generation: draw_generation(),
        };
        self.bulletin
            .desired
            .load()
            .apply(&request.change, &context)
    }

    /// Refuses a change that begins something when too much of its endpoint is under way. Rules begin nothing.
    fn check_under_way(&self, applied: &Applied, revision: Revision) -> Result<(), ChangeError> {
        let deployments = applied.desired.endpoints.get(&applied.endpoint);
        let mut deployments = deployments
            .into_iter()
            .flat_map(|one| one.deployments.values());
        let begins = deployments.any(|one| one.target.touched == revision && !one.is_good());
        let under_way = self.books.operations.values();
        let under_way = under_way.filter(|one| one.endpoint == applied.endpoint);
        if begins && under_way.count() >= OPERATIONS_UNDER_WAY_MAX {
            return Err(ChangeError::Busy);
        }
        Ok(())
    }

    /// Makes the end of an operation's part durable.
    async fn settle(&self, settlement: Settlement, failure: Option<String>) -> Event {
        let desired = self.bulletin.desired.load().settled(&settlement);
        let ended = self.ended_by(&settlement, failure);
        let (revision, committed) = (self.revision, desired.clone());
        let stored = self
            .store
            .run(move |store| store.settle(revision, &committed, ended.as_ref()))
            .await;
        let outcome = match stored {
            Ok(()) => {
                let desired = Arc::new(desired);
                self.bulletin.desired.store(Arc::clone(&desired));
                Ok(desired)
            }
            Err(error) => Err(error.to_string()),
        };
        Event::Settled {
            settlement,
            outcome,
        }
    }

    /// The operation of a settlement that drops its split: it has failed then, or has ended already, which the disk may not know.
    fn ended_by(&self, settlement: &Settlement, failure: Option<String>) -> Option<Operation> {
        let operation = self
            .bulletin
            .operation(OperationId(settlement.revision.0))?;
        let Some(reason) = failure else {
            let is_dropped = settlement.split == SplitOutcome::Dropped;
            let has_ended = operation.provisioning_state.has_ended();
            return (is_dropped && has_ended).then_some(operation);
        };
        Some(Operation {
            provisioning_state: ProvisioningState::Failed,
            reason: Some(reason),
            ended: Some(jiff::Timestamp::now()),
            ..operation
        })
    }

    /// Notes the end of an operation, in memory at once and in the store as soon as it comes to it.
    fn conclude(&self, id: OperationId, outcome: Outcome) {
        let Some(mut operation) = self.bulletin.operation(id) else {
            return;
        };
        (operation.provisioning_state, operation.reason) = match outcome {
            Outcome::Succeeded => (ProvisioningState::Succeeded, None),
            Outcome::Failed(reason) => (ProvisioningState::Failed, Some(reason)),
            Outcome::Canceled(by) => (ProvisioningState::Canceled, Some(by)),
        };
        operation.ended = Some(jiff::Timestamp::now());
        let (change, reason) = (&operation.change, operation.reason.as_deref());
        match operation.provisioning_state {
            ProvisioningState::Failed => {
                tracing::warn!(operation = %id, change, reason, "failed");
            }
            ProvisioningState::Canceled => {
                tracing::info!(operation = %id, change, reason, "canceled");
            }
            _ => tracing::info!(operation = %id, change, "succeeded"),
        }
        self.bulletin.put_operation(operation.clone());
        self.store.send(move |store| {
            let entry = NewEntry {
                revision: Some(operation.revision),
                by: "serin".to_owned(),
                change: serde_json::json!({
                    "kind": "outcome", "operation": id, "provisioning_state": operation.provisioning_state,
                }),
                why: operation.reason.clone(),
            };
            if let Err(error) = store.conclude(&operation, &entry) {
                tracing::warn!(%error, operation = %id, "the end of an operation is not in the journal");
            }
        });
    }

    /// Remembers that a model was tried, so that the next start does not try it again.
    fn remember_tried(&self, model: ModelDigest) {
        let onnx_runtime = self.onnx_runtime.clone();
        self.store.send(move |store| {
            if let Err(error) = store.insert_probe(&model, &onnx_runtime) {
                tracing::warn!(%error, "a tried model will be tried again after a restart");
            }
        });
    }
}

/// The logs of the deployments of a data folder, from now on those of all that is noted in this process. A server without them serves.
fn logs_of(data: &Path) -> Option<DeploymentLogs> {
    let opened = DeploymentLogs::open(data);
    let logs = opened.inspect_err(|error| tracing::warn!(%error, "deployments have no logs"));
    logs.ok().inspect(DeploymentLogs::take_notes)
}

/// A deployment as its log is called.
fn label(endpoint: &EndpointName, deployment: &DeploymentName) -> String {
    format!("{endpoint}/{deployment}")
}

fn not_writer(refused: &ChangeError) -> ModelStoreError {
    StoreError::Lent(refused.to_string()).into()
}

/// The state of the operation of a change until it has ended.
fn state_at_first(change: &Change) -> ProvisioningState {
    match change {
        Change::CreateEndpoint { .. } | Change::CreateDeployment { .. } => {
            ProvisioningState::Creating
        }
        Change::UpdateEndpoint { .. }
        | Change::UpdateDeployment { .. }
        | Change::RollBack { .. }
        | Change::RegenerateKey { .. } => ProvisioningState::Updating,
        Change::DeleteEndpoint { .. } | Change::DeleteDeployment { .. } => {
            ProvisioningState::Deleting
        }
    }
}

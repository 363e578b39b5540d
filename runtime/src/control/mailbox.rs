//! The way to the controller: what can be asked of it, and what can be read without asking.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use crate::config::{JOURNAL_LAST_MAX, OPERATIONS_KEPT};
use crate::control::change::Change;
use crate::control::credentials::{Credentials, Issuer};
use crate::control::desired::Desired;
use crate::control::difference::Difference;
use crate::control::gathering::Gathered;
use crate::control::history::{self, AsOf, HistoryEntry};
use crate::control::models::{Ingested, ModelFiles, ModelRecord, ModelStoreError};
use crate::control::operation::{Operation, OperationId};
use crate::control::refusal::ChangeError;
use crate::control::revision::Revision;
use crate::control::store::{JournalEntry, JournalReader, Store, StoreError};
use crate::control::view::View;
use crate::engine::{ModelSummary, Obstacle};
use crate::observe::DeploymentLogs;
use crate::spec::{DeploymentName, EndpointName, ModelAbout, ModelName, ModelVersion};

/// Everything that people ask of the controller, and the ends of copies that it waits for.
#[derive(Debug)]
pub(super) enum Mail {
    /// Somebody wants something else.
    Change(Request),
    /// The files that a change names were gathered.
    Gathered(Request, Result<Gathered, ModelStoreError>),
    /// Somebody has a model to register.
    Register(Registration),
    /// It was copied in.
    Registered(Registration, Result<Ingested, ModelStoreError>),
    /// Somebody says something else of a version.
    DescribeModel(
        ModelDescription,
        oneshot::Sender<Result<ModelRecord, ModelStoreError>>,
    ),
    /// Somebody wants to forget a version.
    DeleteModel {
        name: ModelName,
        version: ModelVersion,
        by: String,
        reply: oneshot::Sender<Result<(), ModelStoreError>>,
    },
    /// Somebody wants to read the journal, and cannot do so beside the store.
    Journal {
        last: usize,
        reply: oneshot::Sender<Result<Vec<JournalEntry>, StoreError>>,
    },
    /// Somebody works on the rollouts of the store.
    Rollouts(RolloutWork),
    /// Another process is to have the data folder.
    Lend(oneshot::Sender<Result<(), ChangeError>>),
    /// It is wanted back; told when it is here, or never can be.
    TakeBack(oneshot::Sender<()>),
    /// The server ends.
    Shutdown(oneshot::Sender<()>),
}

/// Work on the rollouts of the store, which is told when the store is not here.
pub(super) struct RolloutWork(pub(super) StoreWork);

/// Work on the store, or with the reason why it is not here.
type StoreWork = Box<dyn FnOnce(Result<&mut Store, ChangeError>) + Send>;

impl fmt::Debug for RolloutWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RolloutWork")
    }
}

/// A change and who waits for its acceptance.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) by: String,
    pub(super) expected: Option<Revision>,
    /// Files that were gathered for it.
    pub(super) gathered: Gathered,
    pub(super) asker: Asker,
}

/// Who waits for a change: to be made, or to be worked out and no more.
#[derive(Debug)]
pub(super) enum Asker {
    Change(oneshot::Sender<Result<Operation, ChangeError>>),
    Preview(oneshot::Sender<Result<Preview, ChangeError>>),
}

impl Asker {
    /// Refuses, to whoever still waits.
    pub(super) fn refuse(self, error: ChangeError) {
        match self {
            Self::Change(reply) => drop(reply.send(Err(error))),
            Self::Preview(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The revision that it would be made of.
    pub revision: Revision,
    /// The endpoint that it is about.
    pub endpoint: EndpointName,
    /// What would be from what to what.
    pub changed: Vec<Difference>,
    /// A sentence on what it would do beyond its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is said of a version from now on, and who says it.
#[derive(Debug)]
pub struct ModelDescription {
    /// The name of the model.
    pub name: ModelName,
    /// Its version.
    pub version: ModelVersion,
    /// What is said, in place of what was said before.
    pub about: ModelAbout,
    /// The name of who says it, for the journal.
    pub by: String,
}

/// A model and who waits for its registration.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) source: PathBuf,
    pub(super) name: ModelName,
    pub(super) version: Option<ModelVersion>,
    pub(super) by: String,
    pub(super) reply: oneshot::Sender<Result<ModelRecord, ModelStoreError>>,
}

/// Everything that the handles read without asking the loop.
#[derive(Debug)]
pub(super) struct Bulletin {
    pub(super) view: ArcSwap<View>,
    pub(super) desired: ArcSwap<Desired>,
    pub(super) models: ArcSwap<Vec<ModelRecord>>,
    operations: Mutex<BTreeMap<OperationId, Operation>>,
    /// Whether recovery is over. Released after the view and the table that show it, acquired by who then looks at them.
    pub(super) settled: AtomicBool,
    /// Told after each event.
    pub(super) changed: watch::Sender<()>,
    pub(super) issuer: Issuer,
    pub(super) journal: JournalReader,
    pub(super) files: ModelFiles,
    pub(super) logs: Option<DeploymentLogs>,
}

impl Bulletin {
    pub(super) fn new(
        desired: Desired,
        (models, operations): (Vec<ModelRecord>, Vec<Operation>),
        issuer: Issuer,
        (journal, files, logs): (JournalReader, ModelFiles, Option<DeploymentLogs>),
    ) -> Self {
        Self {
            view: ArcSwap::default(),
            desired: ArcSwap::from_pointee(desired),
            models: ArcSwap::from_pointee(models),
            operations: Mutex::new(operations.into_iter().map(|one| (one.id, one)).collect()),
            settled: AtomicBool::new(false),
            changed: watch::Sender::new(()),
            issuer,
            journal,
            files,
            logs,
        }
    }

    fn operations(&self) -> MutexGuard<'_, BTreeMap<OperationId, Operation>> {
        // Held for a look or an insertion; the map is whole between statements, so a panic elsewhere leaves it good.
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an operation. Of those that have ended the oldest makes room; one that has not is never forgotten.
    pub(super) fn put_operation(&self, operation: Operation) {
        let mut operations = self.operations();
        operations.insert(operation.id, operation);
        let ended = operations
            .values()
            .filter(|one| one.provisioning_state.has_ended());
        let ended: BTreeSet<_> = ended.map(|one| one.id).collect();
        let kept = usize::try_from(OPERATIONS_KEPT).unwrap_or(usize::MAX);
        let surplus = operations.len().saturating_sub(kept);
        for id in ended.into_iter().take(surplus) {
            operations.remove(&id);
        }
    }

    pub(super) fn operation(&self, id: OperationId) -> Option<Operation> {
        self.operations().get(&id).cloned()
    }

    /// Operations that have not ended.
    pub(super) fn unfinished(&self) -> Vec<Operation> {
        let operations = self.operations();
        let unfinished = operations.values();
        unfinished
            .filter(|one| !one.provisioning_state.has_ended())
            .cloned()
            .collect()
    }
}

/// The states that tell what the last of these lines changed.
fn revisions_of(
    lines: &[JournalEntry],
    (last, only): (usize, Option<&EndpointName>),
) -> RangeInclusive<Revision> {
    let revisions = lines.iter().filter_map(|line| line.revision);
    let newest = revisions.clone().max().unwrap_or_default();
    let oldest = revisions.min().unwrap_or_default();
    let wanted = u64::try_from(last).unwrap_or(u64::MAX);
    let oldest = match only {
        Some(_) => oldest.0,
        None => oldest.0.max(newest.0.saturating_sub(wanted)),
    };
    Revision(oldest.saturating_sub(1))..=newest
}

/// The way to the controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    pub(super) bulletin: Arc<Bulletin>,
    pub(super) mailbox: mpsc::Sender<Mail>,
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
        self.begin(change, by, expected).await
    }

    /// The same, asked for when this returns and not when the future is looked at first: changes are made in the order of these calls.
    pub(super) fn begin(
        &self,
        change: Change,
        by: String,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Operation, ChangeError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let sent = self.send(change, by, expected, Asker::Change(reply));
        async move {
            sent?;
            answer.await.unwrap_or(Err(ChangeError::Stopped))
        }
    }

    /// Says what a change would do, and does nothing of it. Files that it names are copied meanwhile, as for the change itself.
    ///
    /// # Errors
    ///
    /// Any [`ChangeError`] by which the change would be refused now.
    pub async fn preview(&self, change: Change) -> Result<Preview, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(change, String::new(), None, Asker::Preview(reply))?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }

    fn send(
        &self,
        change: Change,
        by: String,
        expected: Option<Revision>,
        asker: Asker,
    ) -> Result<(), ChangeError> {
        let request = Request {
            change,
            by,
            expected,
            gathered: Gathered::default(),
            asker,
        };
        match self.mailbox.try_send(Mail::Change(request)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ChangeError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ChangeError::Stopped),
        }
    }

    /// Waits for the end of an operation; none when the number is unknown. When the server stops first, the operation as it is.
    pub async fn finished(&self, id: OperationId) -> Option<Operation> {
        let mut changed = self.bulletin.changed.subscribe();
        loop {
            let operation = self.bulletin.operation(id)?;
            if operation.provisioning_state.has_ended() || self.mailbox.is_closed() {
                return Some(operation);
            }
            // The sender lives in the bulletin, which this handle holds.
            let _ = changed.changed().await;
        }
    }

    /// An operation as it is now.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<Operation> {
        self.bulletin.operation(id)
    }

    /// The desired state beside what is.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.bulletin.view.load_full()
    }

    /// The keys or the token that clients of an endpoint send.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NotFound`].
    #[expect(
        clippy::unused_async,
        reason = "part of an interface whose other calls wait"
    )]
    pub async fn credentials(&self, endpoint: &EndpointName) -> Result<Credentials, ChangeError> {
        let desired = self.bulletin.desired.load();
        let now_unix_s = jiff::Timestamp::now().as_second();
        Ok(self
            .bulletin
            .issuer
            .credentials(desired.endpoint(endpoint)?, now_unix_s))
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
        let event = Mail::Register(Registration {
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

    /// Says something else of a version; its content stays as it is.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::Unknown`], naming what exists.
    pub async fn describe_model(
        &self,
        description: ModelDescription,
    ) -> Result<ModelRecord, ModelStoreError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox
            .send(Mail::DescribeModel(description, reply))
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
        let event = Mail::DeleteModel {
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
        self.bulletin.models.load_full()
    }

    /// What the file of a registered model says of it, or why it says nothing.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError`] when it has no ONNX file.
    pub async fn model_summary(
        &self,
        record: &ModelRecord,
    ) -> Result<Result<ModelSummary, Obstacle>, ModelStoreError> {
        let (bulletin, record) = (Arc::clone(&self.bulletin), record.clone());
        let read = spawn_blocking(move || {
            record.require_onnx()?;
            let file = bulletin.files.onnx_file(&record.digest)?;
            Ok(ModelSummary::of_file(&file))
        });
        let failed = |_| Ok(Err(Obstacle::of_model("reading the graph failed")));
        read.await.unwrap_or_else(failed)
    }

    /// The last lines of the journal, oldest first.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn journal(&self, last: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let bulletin = Arc::clone(&self.bulletin);
        // Beside the thread of the store, so that no change waits for a long read.
        let read = spawn_blocking(move || bulletin.journal.last(last));
        match read.await.unwrap_or(Err(StoreError::Stopped)) {
            // The server has the database for itself alone, as after a start on a full disk.
            Err(StoreError::Locked) => self.journal_of_store(last).await,
            read => read,
        }
    }

    /// Has the store do something with its rollouts, and waits for it.
    ///
    /// # Errors
    ///
    /// What the store says, or why it is not here.
    pub(super) async fn with_rollouts<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let work = RolloutWork(Box::new(move |store| {
            let done = store.and_then(|store| {
                work(store).map_err(|error| ChangeError::Storage(error.to_string()))
            });
            drop(reply.send(done));
        }));
        let sent = self.mailbox.send(Mail::Rollouts(work)).await;
        sent.map_err(|_| ChangeError::Stopped)?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }

    /// The last lines of the log of a deployment, oldest first; none where it has none.
    ///
    /// # Errors
    ///
    /// When its files cannot be read.
    pub async fn deployment_log(
        &self,
        endpoint: &EndpointName,
        deployment: &DeploymentName,
        lines: usize,
    ) -> std::io::Result<Vec<String>> {
        let Some(logs) = self.bulletin.logs.clone() else {
            return Ok(Vec::new());
        };
        let name = format!("{endpoint}/{deployment}");
        let read = spawn_blocking(move || logs.read(&name, lines));
        read.await.unwrap_or_else(|panicked| Err(panicked.into()))
    }

    /// The last changes, oldest first, with what each was from and to; of one endpoint where one is named.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn history(
        &self,
        last: usize,
        endpoint: Option<EndpointName>,
    ) -> Result<Vec<HistoryEntry>, StoreError> {
        let bulletin = Arc::clone(&self.bulletin);
        let read = spawn_blocking(move || {
            let only = endpoint.as_ref();
            // Ends are lines too, and so are those of models; of one endpoint there may be few among many.
            let lines = match only {
                Some(_) => JOURNAL_LAST_MAX,
                None => last.saturating_mul(3).min(JOURNAL_LAST_MAX),
            };
            let lines = bulletin.journal.last(lines)?;
            let states = bulletin
                .journal
                .states(revisions_of(&lines, (last, only)))?;
            Ok(history::history(&lines, &states, (last, only)))
        });
        read.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// What differs from the state as of a revision, endpoint by endpoint; nothing where that state is kept no more.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn as_of(&self, revision: Revision) -> Result<Option<Vec<AsOf>>, StoreError> {
        let bulletin = Arc::clone(&self.bulletin);
        let read = spawn_blocking(move || {
            let states = bulletin.journal.states(revision..=revision)?;
            let now = bulletin.desired.load();
            Ok(states.get(&revision).map(|then| history::as_of(then, &now)))
        });
        read.await.unwrap_or(Err(StoreError::Stopped))
    }

    async fn journal_of_store(&self, last: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.mailbox.send(Mail::Journal { last, reply }).await;
        sent.map_err(|_| StoreError::Stopped)?;
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Resolves when recovery is over: everything that was good before the start serves again or has failed to; or some
    /// traffic is served and [`RECOVERY_WAIT_MAX`](crate::config::RECOVERY_WAIT_MAX) is over.
    pub async fn settled(&self) {
        self.settled_telling(|| {}).await;
    }

    /// The same; `progress` is called after each event until then.
    pub async fn settled_telling(&self, progress: impl Fn()) {
        let mut changed = self.bulletin.changed.subscribe();
        while !self.bulletin.settled.load(Ordering::Acquire) && !self.mailbox.is_closed() {
            let _ = changed.changed().await;
            progress();
        }
    }

    /// Told after each event.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.bulletin.changed.subscribe()
    }

    /// Drains all, stops all, closes the store and unlocks the data folder.
    pub async fn shutdown(self) {
        let (reply, answer) = oneshot::channel();
        if self.mailbox.send(Mail::Shutdown(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

//! The control plane without a store: for programs that embed serin, and for `serin up`.
//!
//! The same changes, the same reconciler and the same hands as in the server, so an instance that died is replaced here too. What
//! it does not have: a disk, credentials, names of models. A change is in force when it was applied.
//!
//! Threads: one of its own, which only begins things and ends when the last handle is gone and everything has stopped.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::HEALTH_PERIOD;
use crate::control::books::Books;
use crate::control::change::Change;
use crate::control::desired::{Desired, Generations};
use crate::control::event::{Command, Event, Outcome};
use crate::control::models::{Ingested, ModelDigest, Models};
use crate::control::operation::OperationId;
use crate::control::reconcile::on;
use crate::control::refusal::ChangeError;
use crate::control::refusal::NotApplied;
use crate::control::revision::Revision;
use crate::control::starter::{EngineStarter, Starter};
use crate::control::validator::Context;
use crate::control::work::{AuthSource, ModelPlace, ModelPlaces, Report, Work};
use crate::engine::{Capacity, CoreMap, Prober, Topology};
use crate::observe::Metrics;
use crate::router::{EndpointAuth, Router};
use crate::spec::{EndpointSpec, SkuTable};

/// Settings of a control plane without a store.
#[derive(Debug)]
pub struct LocalConfig {
    /// What to do when instances ask for more vCPUs than there are cores.
    pub capacity: Capacity,
    /// Tries models in a child process; without it they are not tried first.
    pub prober: Option<Prober>,
}

/// Why a change did not come about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LocalError {
    /// It was refused, and nothing has changed.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// It was begun and failed; what it started is stopped again.
    #[error("{0}")]
    Failed(String),
}

/// A model file by the name that changes give it.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// The ONNX file.
    pub file: PathBuf,
    /// A body that tries it and warms it up.
    pub sample_request: Option<Bytes>,
}

/// A change, all that it refers to, and who waits for its end.
#[derive(Debug)]
struct Mail {
    change: Change,
    /// By the path that the change names.
    models: BTreeMap<PathBuf, LocalModel>,
    skus: SkuTable,
    reply: std_mpsc::Sender<Result<(), LocalError>>,
}

/// The way to the thread. Dropping it lets what runs finish its work and stop, elsewhere.
#[derive(Debug)]
pub struct Local {
    mailbox: mpsc::UnboundedSender<Mail>,
}

impl Local {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn start(config: LocalConfig, shown: (Arc<Router>, Arc<Metrics>)) -> std::io::Result<Self> {
        let starter = Arc::new(EngineStarter {
            prober: config.prober,
        });
        let cores = CoreMap::new(Topology::read(), config.capacity);
        Self::start_with((starter, cores), shown)
    }

    pub(super) fn start_with(
        (starter, cores): (Arc<dyn Starter>, CoreMap),
        shown: (Arc<Router>, Arc<Metrics>),
    ) -> std::io::Result<Self> {
        let (mailbox, mail) = mpsc::unbounded_channel();
        let (reports, ends) = mpsc::unbounded_channel();
        let places = Arc::new(Places::default());
        let known: Arc<dyn ModelPlaces> = Arc::clone(&places) as Arc<dyn ModelPlaces>;
        let control = LocalControl {
            books: Books::new(Arc::new(Desired::default()), cores, []),
            work: Work::new((starter, known), Arc::new(NoKeys), shown, reports),
            places,
            revision: Revision(0),
            waiting: BTreeMap::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        std::thread::Builder::new()
            .name("serin-control".to_owned())
            .spawn(move || {
                runtime.block_on(control.run(mail, ends));
                runtime.shutdown_background();
            })?;
        Ok(Self { mailbox })
    }

    /// Asks for a change and waits for its end: until what it starts is ready, or what it deletes has stopped. Blocks.
    ///
    /// # Errors
    ///
    /// [`LocalError`].
    pub fn carry_out(
        &self,
        change: Change,
        models: BTreeMap<PathBuf, LocalModel>,
        skus: SkuTable,
    ) -> Result<(), LocalError> {
        let (reply, answer) = std_mpsc::channel();
        let mail = Mail {
            change,
            models,
            skus,
            reply,
        };
        // The thread ends with the last handle, and this is one; a thread that has panicked answers nothing.
        drop(self.mailbox.send(mail));
        answer
            .recv()
            .unwrap_or(Err(LocalError::Refused(ChangeError::Stopped)))
    }
}

/// Where models are: as told with the changes.
#[derive(Debug, Default)]
struct Places {
    models: Mutex<BTreeMap<ModelDigest, LocalModel>>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelDigest, LocalModel>> {
        // Held for a look or an insertion; a panic elsewhere leaves the map whole.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ModelPlaces for Places {
    fn place(&self, model: &ModelDigest) -> Result<ModelPlace, String> {
        let known = self.lock().get(model).cloned();
        let known = known.ok_or("the model is not known any more")?;
        Ok(ModelPlace {
            file: known.file,
            sample_request: known.sample_request,
            bytes: 0,
            by_content: false,
        })
    }
}

/// Endpoints in the caller's own process are open to it.
#[derive(Debug)]
struct NoKeys;

impl AuthSource for NoKeys {
    fn auth(&self, _endpoint: &EndpointSpec, _generations: Generations) -> EndpointAuth {
        EndpointAuth::Open
    }
}

/// The loop. Owned by its thread.
#[derive(Debug)]
struct LocalControl {
    books: Books,
    work: Work,
    places: Arc<Places>,
    revision: Revision,
    /// Who waits for the end of which operation.
    waiting: BTreeMap<OperationId, std_mpsc::Sender<Result<(), LocalError>>>,
}

impl LocalControl {
    async fn run(
        mut self,
        mut mail: mpsc::UnboundedReceiver<Mail>,
        mut reports: mpsc::UnboundedReceiver<Report>,
    ) {
        let mut health = tokio::time::interval(HEALTH_PERIOD);
        health.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.books.stopping || !self.books.instances.is_empty() {
            tokio::select! {
                Some(report) = reports.recv() => {
                    let event = self.work.take_in(report);
                    self.feed(event);
                }
                next = mail.recv(), if !self.books.stopping => match next {
                    Some(mail) => self.change(mail),
                    None => self.feed(Event::Shutdown),
                },
                _ = health.tick() => {
                    for no in self.work.dead() {
                        self.feed(Event::Died(no));
                    }
                    self.feed(Event::Tick);
                }
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in on(&mut self.books, event, Instant::now()) {
                match command {
                    Command::Settle(settlement) => events.push_back(Event::Settled {
                        outcome: Ok(Arc::new(self.books.desired.settled(&settlement))),
                        settlement,
                    }),
                    Command::Conclude { id, outcome } => self.conclude(id, outcome),
                    other => self.work.carry_out(other),
                }
            }
        }
        self.work.finish();
        let used: Vec<_> = self.books.desired.models().cloned().collect();
        self.places.lock().retain(|model, _| used.contains(model));
    }

    fn conclude(&mut self, id: OperationId, outcome: Outcome) {
        if let Some(reply) = self.waiting.remove(&id) {
            let outcome = match outcome {
                Outcome::Succeeded => Ok(()),
                Outcome::Failed(reason) | Outcome::Canceled(reason) => {
                    Err(LocalError::Failed(reason))
                }
            };
            // Whoever asked may have given up waiting.
            drop(reply.send(outcome));
        }
    }

    fn change(&mut self, mail: Mail) {
        let revision = self.revision.next();
        let digests = mail.models.keys();
        // A file may change from one start to the next, so each time it is another model.
        let digest =
            |path: &PathBuf| ModelDigest::unknown(&format!("{revision}:{}", path.display()));
        let ingest = |path: &PathBuf| Ingested {
            digest: digest(path),
            size_bytes: 0,
            // The engine says what is wrong with the file.
            without_onnx: None,
        };
        let ingested: BTreeMap<_, _> = digests.map(|path| (path.clone(), ingest(path))).collect();
        let cores = &self.books.cores;
        let context = Context {
            skus: &mail.skus,
            models: &Models::default(),
            ingested: &ingested,
            cores_max: (cores.capacity() == Capacity::Strict).then(|| cores.total_and_free().0),
            unready: &self.books.unready(),
            revision,
        };
        let applied = match self.books.desired.apply(&mail.change, &context) {
            Ok(applied) => applied,
            Err(NotApplied::Refused(error)) => {
                drop(mail.reply.send(Err(error.into())));
                return;
            }
            Err(NotApplied::Needs(paths)) => {
                let problems = paths
                    .iter()
                    .map(|path| format!("no model is given for {}", path.display()));
                let error = ChangeError::Invalid(problems.collect());
                drop(mail.reply.send(Err(error.into())));
                return;
            }
        };
        self.revision = revision;
        for (path, model) in mail.models {
            self.places.lock().insert(digest(&path), model);
        }
        let operation = OperationId(revision.0);
        self.waiting.insert(operation, mail.reply);
        self.feed(Event::Accepted {
            operation,
            endpoint: applied.endpoint,
            desired: Arc::new(applied.desired),
        });
    }
}

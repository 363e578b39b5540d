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
use crate::control::desired::{Desired, Generation, Generations};
use crate::control::event::{Command, Event, Outcome};
use crate::control::gathering::Gathered;
use crate::control::models::{Ingested, ModelDigest, Models, ScriptFolder};
use crate::control::needs::Needs;
use crate::control::operation::OperationId;
use crate::control::reconcile::on;
use crate::control::refusal::ChangeError;
use crate::control::refusal::NotApplied;
use crate::control::revision::Revision;
use crate::control::script::ScriptBuild;
use crate::control::starter::{EngineStarter, Starter};
use crate::control::validator::Context;
use crate::control::work::{AuthSource, ModelPlace, ModelPlaces, Report, Work};
use crate::engine::{Capacity, CoreMap, Pinning, Prober, Topology};
use crate::observe::Metrics;
use crate::router::{EndpointAuth, Router};
use crate::spec::{EndpointSpec, SkuTable};

/// Settings of a control plane without a store.
#[derive(Debug)]
pub struct LocalConfig {
    /// The rule where instances ask for more vCPUs than there are cores.
    pub capacity: Capacity,
    /// Whether threads keep to the cores of their instance.
    pub pinning: Pinning,
    /// Tries models in a child process; without it they are not tried first.
    pub prober: Option<Prober>,
}

/// The reason why a change did not come about.
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
        let cores =
            CoreMap::new(Topology::read(), config.capacity).beside_others(config.pinning, None);
        Self::start_with((starter, cores), shown)
    }

    pub(super) fn start_with(
        (starter, cores): (Arc<dyn Starter>, CoreMap),
        shown: (Arc<Router>, Arc<Metrics>),
    ) -> std::io::Result<Self> {
        let (mailbox, mail) = mpsc::unbounded_channel();
        let (reports, ends) = mpsc::unbounded_channel();
        let control = LocalControl::new((starter, cores), shown, reports);
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

/// The places of models, as told with the changes.
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
            content: None,
            sample_request: known.sample_request,
            bytes: 0,
            by_content: false,
        })
    }

    fn lay_out(&self, _build: &ScriptBuild, _model: &ModelDigest) -> Result<ScriptFolder, String> {
        Err(NO_SCRIPTS.to_owned())
    }
}

const NO_SCRIPTS: &str =
    "scoring scripts run in a server alone: use `serin serve`, or write scoring: native";

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
    /// With all that was settled so far; the books follow, settlement by settlement.
    desired: Arc<Desired>,
    places: Arc<Places>,
    revision: Revision,
    /// Callers that wait, each for the end of an operation.
    waiting: BTreeMap<OperationId, std_mpsc::Sender<Result<(), LocalError>>>,
}

impl LocalControl {
    fn new(
        (starter, cores): (Arc<dyn Starter>, CoreMap),
        shown: (Arc<Router>, Arc<Metrics>),
        reports: mpsc::UnboundedSender<Report>,
    ) -> Self {
        let desired = Arc::new(Desired::default());
        let places = Arc::new(Places::default());
        let known: Arc<dyn ModelPlaces> = Arc::clone(&places) as Arc<dyn ModelPlaces>;
        Self {
            books: Books::new(Arc::clone(&desired), cores, []),
            work: Work::new((starter, known), Arc::new(NoKeys), shown, reports),
            desired,
            places,
            revision: Revision(0),
            waiting: BTreeMap::new(),
        }
    }

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
                    for event in self.work.troubled(&self.books) {
                        self.feed(event);
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
                    Command::Settle { settlement, .. } => {
                        self.desired = Arc::new(self.desired.settled(&settlement));
                        events.push_back(Event::Settled {
                            outcome: Ok(Arc::clone(&self.desired)),
                            settlement,
                        });
                    }
                    Command::Conclude { id, outcome } => self.conclude(id, outcome),
                    other => self.work.carry_out(other),
                }
            }
        }
        self.work.finish();
        let used: Vec<_> = self.desired.models().cloned().collect();
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
            is_folder: None,
        };
        let gathered = Gathered {
            models: digests.map(|path| (path.clone(), ingest(path))).collect(),
            scripts: Vec::new(),
        };
        let cores = &self.books.cores;
        let context = Context {
            skus: &mail.skus,
            models: &Models::default(),
            gathered: &gathered,
            cores_max: (cores.capacity() == Capacity::Strict).then(|| cores.total_and_free().0),
            unready: &self.books.unready(),
            revision,
            // There are no keys.
            generation: Generation(0),
        };
        let applied = match self.desired.apply(&mail.change, &context) {
            Ok(applied) => applied,
            Err(NotApplied::Refused(error)) => {
                drop(mail.reply.send(Err(error.into())));
                return;
            }
            Err(NotApplied::Needs(needs)) => {
                drop(mail.reply.send(Err(missing(&needs).into())));
                return;
            }
        };
        self.revision = revision;
        for (path, model) in mail.models {
            self.places.lock().insert(digest(&path), model);
        }
        let operation = OperationId(revision.0);
        self.waiting.insert(operation, mail.reply);
        self.desired = Arc::new(applied.desired);
        self.feed(Event::Accepted {
            operation,
            endpoint: applied.endpoint,
            desired: Arc::clone(&self.desired),
        });
    }
}

/// The refusal of a change that names what the caller did not give.
fn missing(needs: &Needs) -> ChangeError {
    let models = needs.models.iter();
    let models = models.map(|path| format!("no model is given for {}", path.display()));
    let scripts = needs.scripts.iter().map(|_| NO_SCRIPTS.to_owned());
    ChangeError::Invalid(models.chain(scripts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::change::{DeploymentUpdate, EndpointUpdate};
    use crate::control::starter::{Candidate, ReadyEnvironment, Started};
    use crate::engine::{Cancel, InstanceHandle, InstanceSpec, Placement, ReadyModel};
    use crate::environments::Recipe;
    use crate::spec::{CodeConfiguration, DeploymentSpec, ModelRef};

    /// An engine whose instances start at once and do nothing.
    #[derive(Debug)]
    struct Paper;

    impl Starter for Paper {
        fn make_ready(&self, _candidate: &Candidate<'_>) -> Result<ReadyModel, String> {
            Ok(ReadyModel::default())
        }

        fn environment(
            &self,
            _recipe: Option<&Recipe>,
            _tell: &dyn Fn(&str),
            _cancel: &Cancel,
        ) -> Result<ReadyEnvironment, String> {
            Err("nobody asks for one".to_owned())
        }

        fn start(&self, _spec: InstanceSpec) -> Result<Box<dyn Started>, String> {
            Ok(Box::new(Self))
        }
    }

    impl Started for Paper {
        fn handle(&self) -> Option<InstanceHandle> {
            None
        }
        fn placement(&self) -> Option<Placement> {
            None
        }
        fn close(&self) {}
        fn wait_idle(&self, _deadline: Instant) -> bool {
            true
        }
        fn has_failed(&self) -> bool {
            false
        }
        fn stop(self: Box<Self>) {}
    }

    /// The loop by hand: the test says when it hears of what.
    struct Hand {
        control: LocalControl,
        reports: mpsc::UnboundedReceiver<Report>,
    }

    impl Hand {
        fn new(cores: usize) -> Self {
            let all: Vec<_> = (0..cores).collect();
            let topology = Topology::new(&all, |core| vec![core], None);
            let cores = CoreMap::new(topology, Capacity::Strict);
            let (sender, reports) = mpsc::unbounded_channel();
            let shown = (Router::new(), Metrics::new());
            Self {
                control: LocalControl::new((Arc::new(Paper), cores), shown, sender),
                reports,
            }
        }

        fn change(
            &mut self,
            change: Change,
            model: &str,
        ) -> std_mpsc::Receiver<Result<(), LocalError>> {
            let (reply, answer) = std_mpsc::channel();
            let model = (
                PathBuf::from(model),
                LocalModel {
                    file: model.into(),
                    sample_request: None,
                },
            );
            self.control.change(Mail {
                change,
                models: BTreeMap::from([model]),
                skus: SkuTable::builtin(),
                reply,
            });
            answer
        }

        async fn next(&mut self) -> Report {
            self.reports.recv().await.expect("the control has a sender")
        }

        async fn hear(&mut self) {
            let report = self.next().await;
            self.tell(report);
        }

        fn tell(&mut self, report: Report) {
            let event = self.control.work.take_in(report);
            self.control.feed(event);
        }
    }

    fn deployment(name: &str, model: &str) -> DeploymentSpec {
        let name = name.parse().expect("a name");
        DeploymentSpec::new(name, ModelRef::Path(model.into()), "Standard_F2s_v2")
    }

    fn create(endpoint: &str, deployment: DeploymentSpec) -> Change {
        Change::CreateEndpoint {
            endpoint: EndpointSpec::new(endpoint.parse().expect("a name")),
            deployments: vec![deployment],
        }
    }

    #[tokio::test]
    async fn a_scoring_script_is_refused_with_the_way_to_run_it() {
        let mut hand = Hand::new(4);
        let mut blue = deployment("blue", "m1");
        blue.code_configuration = Some(CodeConfiguration {
            code: Some("/src".into()),
            scoring_script: Some("score.py".into()),
            relative_to: None,
        });
        let answer = hand.change(create("iris", blue), "m1");
        let refused = answer.try_recv().expect("at once").expect_err("refused");
        assert_eq!(refused.to_string(), NO_SCRIPTS);
    }

    #[tokio::test]
    async fn of_two_settlements_of_one_event_neither_undoes_the_other() {
        let mut hand = Hand::new(4);
        let first = hand.change(create("iris", deployment("blue", "m1")), "m1");
        hand.hear().await;
        hand.hear().await;
        first.try_recv().expect("it has ended").expect("well");
        let second = hand.change(create("wine", deployment("green", "m1")), "m1");
        hand.hear().await;
        let green_is_ready = hand.next().await;
        // No cores are left for it but those of an instance that it would replace: it fails when nothing moves any more.
        let blue = deployment("blue", "m2");
        let update = EndpointUpdate {
            deployment: Some((
                blue.name.clone(),
                DeploymentUpdate {
                    file: Some(blue),
                    ..DeploymentUpdate::default()
                },
            )),
            traffic: Some("blue:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        };
        let name = "iris".parse().expect("a name");
        let third = hand.change(Change::UpdateEndpoint { name, update }, "m2");
        hand.hear().await;
        hand.tell(green_is_ready);
        second.try_recv().expect("it has ended").expect("well");
        third
            .try_recv()
            .expect("it has ended")
            .expect_err("no room");
        let good = hand.control.desired.deployments();
        assert_eq!(good.filter(|(_, one)| one.last_good.is_some()).count(), 2);
        let pending = hand.control.desired.endpoints.values();
        assert_eq!(pending.filter(|one| one.pending.is_some()).count(), 0);
        assert_eq!(hand.control.books.instances.len(), 2, "both serve");
    }
}

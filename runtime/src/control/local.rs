//! The control plane without a store: for programs that embed serin, and for `serin up`.
//!
//! The same changes, the same reconciler and the same hands as in the server, so an instance that died is replaced here too. What
//! it does not have: a disk, credentials, names of models. A change is in force when it was applied.
//!
//! Threads: one of its own, which only begins things and ends when the last handle is gone and everything has stopped. Nobody waits
//! for it but who awaits a [`LocalOutcome`].

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::config::{CUT_MAX, DEADLINE_MAX, HEALTH_PERIOD};
use crate::control::books::Books;
use crate::control::change::{Change, DeploymentUpdate};
use crate::control::desired::{Desired, Generation, Generations};
use crate::control::event::{Command, Event, Outcome};
use crate::control::gathering::Gathered;
use crate::control::models::{Ingested, ModelDigest, Models, ScriptFolder};
use crate::control::needs::Needs;
use crate::control::operation::{OperationId, ProvisioningState};
use crate::control::reconcile::on;
use crate::control::refusal::ChangeError;
use crate::control::refusal::NotApplied;
use crate::control::revision::Revision;
use crate::control::script::ScriptBuild;
use crate::control::starter::{EngineStarter, Starter};
use crate::control::validator::Context;
use crate::control::view::{View, view};
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// It was refused, and nothing has changed.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// It was begun and failed; what it started is stopped again.
    #[error("{0}")]
    Failed(String),
    /// What was to end has not, after its time and the patience beyond it; it ends by itself, or never.
    #[error("{0}")]
    StillRuns(String),
}

/// A model by the name that changes give it.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Where it comes from.
    pub source: LocalSource,
    /// A body that tries it and warms it up.
    pub sample_request: Option<Bytes>,
}

/// The source of a model.
#[derive(Debug, Clone)]
pub enum LocalSource {
    /// An ONNX file, with its external data beside it.
    File(PathBuf),
    /// An ONNX file in memory, which errors call by this name.
    Bytes(String, Bytes),
}

/// An order to the thread.
#[derive(Debug)]
enum Mail {
    Change(Box<ChangeMail>),
    /// Requests may end until then; what runs longer is cut.
    Shutdown {
        cut_at: Instant,
        reply: Reply,
    },
}

type Reply = oneshot::Sender<Result<(), LocalError>>;

/// A change, all that it refers to, and who waits for its end.
#[derive(Debug)]
struct ChangeMail {
    change: Change,
    /// By the path that the change names.
    models: BTreeMap<PathBuf, LocalModel>,
    skus: Arc<SkuTable>,
    reply: Reply,
}

/// The way to the thread. Dropping it lets what runs finish its work and stop, elsewhere.
#[derive(Debug)]
pub struct Local {
    mailbox: mpsc::UnboundedSender<Mail>,
    view: Arc<ArcSwap<View>>,
    timers: Handle,
}

/// The end of a change: until what it starts is ready, or what it deletes has stopped. Dropping it ends the wait and nothing else.
#[derive(Debug)]
#[must_use = "a change may fail: await its end"]
pub struct LocalOutcome(oneshot::Receiver<Result<(), LocalError>>);

impl Future for LocalOutcome {
    type Output = Result<(), LocalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.0).poll(context);
        // The thread ends with the last handle, or when it was told to; one that has panicked answers nothing.
        outcome.map(|outcome| outcome.unwrap_or(Err(ChangeError::Stopped.into())))
    }
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
        let view = Arc::clone(&control.view);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let timers = runtime.handle().clone();
        std::thread::Builder::new()
            .name("serin-control".to_owned())
            .spawn(move || {
                runtime.block_on(control.run(mail, ends));
                runtime.shutdown_background();
            })?;
        Ok(Self {
            mailbox,
            view,
            timers,
        })
    }

    /// Asks for a change. It is under way when this returns, whoever awaits its end.
    pub fn begin(
        &self,
        change: Change,
        models: BTreeMap<PathBuf, LocalModel>,
        skus: Arc<SkuTable>,
    ) -> LocalOutcome {
        self.send(|reply| {
            Mail::Change(Box::new(ChangeMail {
                change,
                models,
                skus,
                reply,
            }))
        })
    }

    /// Asks for a change and waits for its end, on a thread that is no runtime's.
    #[cfg(test)]
    pub(super) fn carry_out(
        &self,
        change: Change,
        models: BTreeMap<PathBuf, LocalModel>,
        skus: SkuTable,
    ) -> Result<(), LocalError> {
        let outcome = self.begin(change, models, Arc::new(skus)).0.blocking_recv();
        outcome.expect("the thread answers")
    }

    /// Ends everything: what requests have begun may end within that time, and is cut then. Nothing is changed any more.
    pub fn shutdown(&self, within: Duration) -> LocalOutcome {
        let now = Instant::now();
        let cut_at = now.checked_add(within).unwrap_or(now + DEADLINE_MAX);
        self.send(|reply| Mail::Shutdown { cut_at, reply })
    }

    fn send(&self, mail: impl FnOnce(Reply) -> Mail) -> LocalOutcome {
        let (reply, outcome) = oneshot::channel();
        // A thread that has ended drops the mail, and who awaits the outcome is told.
        drop(self.mailbox.send(mail(reply)));
        LocalOutcome(outcome)
    }

    /// Everything as it was after the last event.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// A runtime with timers that nobody pauses, for futures that are polled elsewhere.
    #[must_use]
    pub fn timers(&self) -> &Handle {
        &self.timers
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
        let (file, content) = match known.source {
            LocalSource::File(file) => (file, None),
            LocalSource::Bytes(name, content) => (PathBuf::from(name), Some(content)),
        };
        Ok(ModelPlace {
            file,
            content,
            sample_request: known.sample_request,
            bytes: 0,
            by_content: false,
        })
    }

    fn lay_out(&self, _build: &ScriptBuild, _model: &ModelDigest) -> Result<ScriptFolder, String> {
        Err(NO_SCRIPTS.to_owned())
    }
}

const OVERTAKEN: &str = "a newer change of the same deployment took the place of this one";
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
    waiting: BTreeMap<OperationId, Reply>,
    /// As the books are, for who asks.
    view: Arc<ArcSwap<View>>,
    /// The end that somebody has asked for.
    end: Option<Ending>,
}

/// The end of everything.
#[derive(Debug)]
struct Ending {
    /// When work under way is cut; later when whoever waits is told that something does not end.
    next: Option<Instant>,
    is_cut: bool,
    waiting: Vec<Reply>,
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
            view: Arc::default(),
            end: None,
        }
    }

    async fn run(
        mut self,
        mut mail: mpsc::UnboundedReceiver<Mail>,
        mut reports: mpsc::UnboundedReceiver<Report>,
    ) {
        let mut health = interval(HEALTH_PERIOD);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_open = true;
        while !self.books.stopping || !self.books.instances.is_empty() {
            let next_of_end = self.end.as_ref().and_then(|end| end.next);
            tokio::select! {
                Some(report) = reports.recv() => {
                    let event = self.work.take_in(report);
                    self.feed(event);
                }
                next = mail.recv(), if is_open => match next {
                    Some(Mail::Change(mail)) => self.change(*mail),
                    Some(Mail::Shutdown { cut_at, reply }) => self.begin_to_end(cut_at, reply),
                    None => {
                        is_open = false;
                        if !self.books.stopping {
                            self.feed(Event::Shutdown);
                        }
                    }
                },
                () = until(next_of_end) => self.go_on_ending(),
                _ = health.tick() => self.look_around(),
            }
        }
        for reply in self.end.into_iter().flat_map(|end| end.waiting) {
            drop(reply.send(Ok(())));
        }
    }

    fn look_around(&mut self) {
        for no in self.work.dead() {
            self.feed(Event::Died(no));
        }
        for event in self.work.troubled(&self.books) {
            self.feed(event);
        }
        self.feed(Event::Tick);
    }

    /// Whoever asks first says when work is cut, unless a later one has less patience.
    fn begin_to_end(&mut self, cut_at: Instant, reply: Reply) {
        let end = self.end.get_or_insert_with(|| Ending {
            next: None,
            is_cut: false,
            waiting: Vec::new(),
        });
        end.waiting.push(reply);
        if !end.is_cut {
            end.next = Some(end.next.map_or(cut_at, |next| next.min(cut_at)));
        }
        if !self.books.stopping {
            self.feed(Event::Shutdown);
        }
    }

    /// The time of those who wait is over: what runs is cut, and when that does not help they are told.
    fn go_on_ending(&mut self) {
        let left = self.books.instances.len();
        let Some(end) = &mut self.end else {
            return;
        };
        if end.is_cut {
            end.next = None;
            let words = format!(
                "{left} instances have not ended after their runs were cut: a node of the graph that computes, or a start, does not \
                 look whether it is to end"
            );
            for reply in end.waiting.drain(..) {
                drop(reply.send(Err(LocalError::StillRuns(words.clone()))));
            }
        } else {
            end.is_cut = true;
            end.next = Some(Instant::now() + CUT_MAX);
            self.work.cut();
        }
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut concluded = Vec::new();
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
                    Command::Conclude { id, outcome } => concluded.push((id, outcome)),
                    other => self.work.carry_out(other),
                }
            }
        }
        self.work.finish();
        self.view.store(Arc::new(view(&self.books, self.revision)));
        // Now: who hears that a change has come about must see it.
        for (id, outcome) in concluded {
            self.conclude(id, outcome);
        }
        let used: Vec<_> = self.desired.models().cloned().collect();
        self.places.lock().retain(|model, _| used.contains(model));
    }

    fn conclude(&mut self, id: OperationId, outcome: Outcome) {
        if let Some(reply) = self.waiting.remove(&id) {
            let outcome = match outcome {
                Outcome::Succeeded => Ok(()),
                Outcome::Failed(reason) => Err(LocalError::Failed(reason)),
                // By its number a program does not know the newer one.
                Outcome::Canceled(_) => Err(LocalError::Failed(OVERTAKEN.to_owned())),
            };
            // Whoever asked may have given up waiting.
            drop(reply.send(outcome));
        }
    }

    /// The state that the change is of. Settings alone are of what serves, where the newest version has failed: nobody keeps that one.
    fn base_of(&self, change: &Change) -> Arc<Desired> {
        let Change::UpdateDeployment {
            endpoint,
            name,
            update: DeploymentUpdate { file: None, .. },
        } = change
        else {
            return Arc::clone(&self.desired);
        };
        let view = self.view.load();
        let deployment = view
            .endpoint(endpoint)
            .and_then(|endpoint| endpoint.deployments.get(name));
        match deployment.map(|one| one.provisioning_state) {
            Some(ProvisioningState::Failed) => Arc::new(self.desired.on_last_good(endpoint, name)),
            _ => Arc::clone(&self.desired),
        }
    }

    fn change(&mut self, mail: ChangeMail) {
        if self.books.stopping {
            drop(mail.reply.send(Err(ChangeError::Stopped.into())));
            return;
        }
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
            past: None,
            stamp: None,
            skus: &mail.skus,
            models: &Models::default(),
            gathered: &gathered,
            cores_max: (cores.capacity() == Capacity::Strict).then(|| cores.total_and_free().0),
            unready: &self.books.unready(),
            revision,
            // There are no keys.
            generation: Generation(0),
        };
        let applied = match self.base_of(&mail.change).apply(&mail.change, &context) {
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

/// Sleeps until then; for ever without a time.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then.into()).await,
        None => std::future::pending().await,
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
    use crate::control::change::EndpointUpdate;
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
        ) -> oneshot::Receiver<Result<(), LocalError>> {
            let (reply, answer) = oneshot::channel();
            let model = (
                PathBuf::from(model),
                LocalModel {
                    source: LocalSource::File(model.into()),
                    sample_request: None,
                },
            );
            self.control.change(ChangeMail {
                change,
                models: BTreeMap::from([model]),
                skus: Arc::new(SkuTable::builtin()),
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
        let mut answer = hand.change(create("iris", blue), "m1");
        let refused = answer.try_recv().expect("at once").expect_err("refused");
        assert_eq!(refused.to_string(), NO_SCRIPTS);
    }

    #[tokio::test]
    async fn of_two_settlements_of_one_event_neither_undoes_the_other() {
        let mut hand = Hand::new(4);
        let mut first = hand.change(create("iris", deployment("blue", "m1")), "m1");
        hand.hear().await;
        hand.hear().await;
        first.try_recv().expect("it has ended").expect("well");
        let mut second = hand.change(create("wine", deployment("green", "m1")), "m1");
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
        let mut third = hand.change(Change::UpdateEndpoint { name, update }, "m2");
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

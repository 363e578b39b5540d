//! The hands of the reconciler: carries commands out, and reports what came of them.
//!
//! It has what the books only know by number: the owner's halves of instances, the prepared models and environments, the admission controls and
//! the table that requests see. No command is waited for; what takes time runs on threads of its own, and each sends one
//! [`Report`].
//!
//! Threads: called from the control thread. Starts, tries and stops run on threads that are named and end by themselves, not on
//! a pool: a hundred models that hang leave room for everything else.
//! Not here: what is to be done (`reconcile`), when (`controller`), and the store.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::{DRAIN_MAX, THREAD_PAUSE};
use crate::control::books::Books;
use crate::control::build::{Build, InstanceNo, Need};
use crate::control::desired::Generations;
use crate::control::event::{
    Command, Event, Facts, Key, NeedNotes, NewInstance, Shown, ShownDeployment,
};
use crate::control::models::{ModelDigest, ScriptFolder};
use crate::control::script::{EnvironmentFacts, ScriptBuild, StoredRecipe};
use crate::control::starter::{Candidate, ReadyEnvironment, Started, Starter};
use crate::engine::{
    Cancel, InstanceHandle, InstanceSpec, KeptAlive, ModelFile, ReadyModel, ScriptSpec, Tell,
    give_back_memory,
};
use crate::observe::Metrics;
use crate::router::{
    AdmissionControl, Deployment, Endpoint, EndpointAuth, Router, Routes, RoutingTable,
    ShadowRoute, StickyRoutes,
};
use crate::spec::{Cohorts, DeploymentName, EndpointName, EndpointSpec};

/// The places of the files of models.
pub(super) trait ModelPlaces: std::fmt::Debug + Send + Sync + 'static {
    /// The files of a model. Blocks. The error says what is missing.
    fn place(&self, model: &ModelDigest) -> Result<ModelPlace, String>;

    /// Makes the folder in which an instance of a script runs with this model. Blocks. The error says what is missing.
    fn lay_out(&self, build: &ScriptBuild, model: &ModelDigest) -> Result<ScriptFolder, String>;
}

/// The files of one model.
#[derive(Debug, Clone)]
pub(super) struct ModelPlace {
    pub(super) file: PathBuf,
    /// The model itself, where a program has it in memory; `file` is its name then.
    pub(super) content: Option<Bytes>,
    pub(super) sample_request: Option<Bytes>,
    /// Bytes of all its files.
    pub(super) bytes: u64,
    /// Whether the digest stands for the content, so that what is found out about it may be kept under that name.
    pub(super) by_content: bool,
}

/// The proof that clients of an endpoint bring.
pub(super) trait AuthSource: std::fmt::Debug + Send + Sync + 'static {
    fn auth(&self, endpoint: &EndpointSpec, generations: Generations) -> EndpointAuth;
}

/// The end of something that took time, with what came of it.
#[derive(Debug)]
pub(super) enum Report {
    /// A trial or a build has come to its next step.
    Stage { need: Need, stage: String },
    NeedReady {
        need: Need,
        outcome: Result<Ready, String>,
    },
    Started {
        no: InstanceNo,
        outcome: Result<Box<dyn Started>, String>,
        took: Duration,
    },
    Retired {
        instances: Vec<InstanceNo>,
        /// The number of those that were stopped under running work.
        forced: usize,
    },
}

/// What instances need and what is ready.
#[derive(Debug, Clone)]
pub(super) enum Ready {
    Model(ReadyModel),
    Environment(ReadyEnvironment),
}

impl Ready {
    fn notes(&self) -> NeedNotes {
        match self {
            Self::Model(model) => NeedNotes {
                note: model.note.clone(),
                environment: None,
            },
            Self::Environment(environment) => NeedNotes {
                note: None,
                environment: Some(EnvironmentFacts {
                    python: environment.python.clone(),
                    version: environment.version.clone(),
                    description: environment.description.clone(),
                }),
            },
        }
    }
}

/// All that commands need.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) starter: Arc<dyn Starter>,
    pub(super) places: Arc<dyn ModelPlaces>,
    pub(super) credentials: Arc<dyn AuthSource>,
    pub(super) router: Arc<Router>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// The owner's halves of instances that are ready.
    instances: BTreeMap<InstanceNo, Box<dyn Started>>,
    /// The time that each of them took to start, and the troubles of its lanes that are counted.
    told: BTreeMap<InstanceNo, (Duration, u64)>,
    ready: BTreeMap<Need, Ready>,
    /// The way to end each trial and build that is under way.
    trials: BTreeMap<Need, Cancel>,
    published: BTreeMap<EndpointName, Arc<Endpoint>>,
    /// One for the life of a deployment, through all its instances.
    admissions: BTreeMap<Key, Arc<AdmissionControl>>,
    /// What serves each deployment.
    builds: BTreeMap<Key, Build>,
    /// Of deployments that no table shows any more, until what they admitted has ended.
    closing: Vec<(Key, Arc<AdmissionControl>)>,
    /// Instances that end, for who cannot wait.
    leaving: BTreeMap<InstanceNo, InstanceHandle>,
}

/// Deployments that get more slots when their table is published, and how many they have then.
type Growing = Vec<(Arc<AdmissionControl>, usize)>;

impl Work {
    pub(super) fn new(
        (starter, places): (Arc<dyn Starter>, Arc<dyn ModelPlaces>),
        credentials: Arc<dyn AuthSource>,
        (router, metrics): (Arc<Router>, Arc<Metrics>),
        reports: mpsc::UnboundedSender<Report>,
    ) -> Self {
        Self {
            starter,
            places,
            credentials,
            router,
            metrics,
            reports,
            instances: BTreeMap::new(),
            told: BTreeMap::new(),
            ready: BTreeMap::new(),
            trials: BTreeMap::new(),
            published: BTreeMap::new(),
            admissions: BTreeMap::new(),
            builds: BTreeMap::new(),
            closing: Vec::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// What ONNX Runtime warned of when a model was prepared that instances load now.
    #[cfg(feature = "server")]
    pub(super) fn warnings(&self, need: &Need) -> &[String] {
        match self.ready.get(need) {
            Some(Ready::Model(model)) => &model.warnings,
            _ => &[],
        }
    }

    /// Takes what a report brings into keeping; what is left is an event.
    pub(super) fn take_in(&mut self, report: Report) -> Event {
        match report {
            Report::Stage { need, stage } => Event::Stage { need, stage },
            Report::NeedReady { need, outcome } => {
                self.trials.remove(&need);
                let outcome = outcome.map(|ready| {
                    let notes = ready.notes();
                    self.ready.insert(need.clone(), ready);
                    notes
                });
                Event::NeedReady { need, outcome }
            }
            Report::Started { no, outcome, took } => Event::Started {
                no,
                outcome: outcome.map(|instance| {
                    // Of a script nothing was measured.
                    let handle = instance.handle().filter(|handle| !handle.runs_a_script());
                    let facts = Facts {
                        placement: instance.placement(),
                        profile: handle.map(|handle| Arc::clone(handle.profile())),
                        troubles: None,
                    };
                    self.instances.insert(no, instance);
                    self.told.insert(no, (took, 0));
                    facts
                }),
            },
            Report::Retired { instances, forced } => {
                if forced > 0 {
                    self.metrics.forced_stops(forced);
                    tracing::warn!(
                        forced,
                        "instances were stopped under running requests: the drain took too long"
                    );
                }
                for no in &instances {
                    self.leaving.remove(no);
                }
                Event::Retired(instances)
            }
        }
    }

    /// Ends the runs of all instances that leave, and of those that are still there; their requests are told.
    pub(super) fn cut(&self) {
        let ready = self.instances.values().filter_map(|one| one.handle());
        for handle in self.leaving.values().cloned().chain(ready) {
            handle.cut();
        }
    }

    /// Instances that have died since they were ready.
    pub(super) fn dead(&self) -> Vec<InstanceNo> {
        let dead = self.instances.iter();
        dead.filter(|(_, instance)| instance.has_failed())
            .map(|(no, _)| *no)
            .collect()
    }

    /// What happened to lanes of instances that the books do not know of.
    pub(super) fn troubled(&mut self, books: &Books) -> Vec<Event> {
        for (no, one) in &books.instances {
            self.count_lanes_lost(*no, &one.key);
        }
        let instances = self.instances.iter();
        instances
            .filter_map(|(no, instance)| {
                let (no, what) = (*no, instance.troubles()?);
                let known = &books.instances.get(&no)?.facts.troubles;
                (known.as_ref() != Some(&what)).then_some(Event::Troubled { no, what })
            })
            .collect()
    }

    /// Counts the lanes of an instance that were lost since the last look.
    fn count_lanes_lost(&mut self, no: InstanceNo, key: &Key) {
        let (Some(instance), Some((_, counted))) =
            (self.instances.get(&no), self.told.get_mut(&no))
        else {
            return;
        };
        let (count, before) = (instance.trouble_count(), *counted);
        if count > before
            && let Some(metrics) = self
                .metrics
                .known(key.endpoint.as_str(), key.deployment.as_str())
        {
            *counted = count;
            metrics.lanes_lost(count - before);
        }
    }

    /// Counts those of a deployment that leave because they died.
    fn count_dead(&self, key: &Key, leaving: &[Box<dyn Started>]) {
        let died = leaving.iter().filter(|one| one.has_failed()).count();
        let (endpoint, deployment) = (key.endpoint.as_str(), key.deployment.as_str());
        if died > 0
            && let Some(metrics) = self.metrics.known(endpoint, deployment)
        {
            metrics.instances_died(u64::try_from(died).unwrap_or(u64::MAX));
        }
    }

    /// Begins what a command asks for, and returns at once. Settlements and conclusions are the store's.
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::MakeReady {
                need: Need::Model(model),
                tried,
                background,
            } => self.make_ready(model, tried, background),
            Command::MakeReady {
                need: Need::Environment(recipe),
                ..
            } => self.make_environment(recipe),
            Command::EndTrial(need) => {
                if let Some(cancel) = self.trials.remove(&need) {
                    cancel.cancel();
                }
            }
            Command::Forget(need) => {
                self.ready.remove(&need);
            }
            Command::Start(new) => self.start(new),
            Command::Publish { endpoint, shown } => self.publish(&endpoint, shown),
            Command::Retire {
                key,
                instances,
                drain,
            } => self.retire(&key, instances, drain),
            Command::Settle { .. } | Command::Conclude { .. } => {}
        }
    }

    fn make_ready(&mut self, model: ModelDigest, tried: bool, background: bool) {
        let (starter, places) = (Arc::clone(&self.starter), Arc::clone(&self.places));
        let need = Need::Model(model.clone());
        let cancel = Cancel::default();
        self.trials.insert(need.clone(), cancel.clone());
        let stages = {
            let (need, reports) = (need.clone(), self.reports.clone());
            Tell::new(move |_, stage| {
                let (need, stage) = (need.clone(), stage.to_string());
                drop(reports.send(Report::Stage { need, stage }));
            })
        };
        let tell = |outcome| Report::NeedReady { need, outcome };
        self.on_thread(tell, move || {
            let place = places.place(&model)?;
            let ready = starter.make_ready(&Candidate {
                file: ModelFile {
                    path: &place.file,
                    digest: model.as_str(),
                    bytes: place.bytes,
                    sample_request: place.sample_request.as_deref(),
                },
                content: place.content.as_deref(),
                by_content: place.by_content,
                tried,
                background,
                cancel,
                tell: stages,
            });
            ready.map(Ready::Model)
        });
    }

    fn make_environment(&mut self, recipe: Option<StoredRecipe>) {
        let starter = Arc::clone(&self.starter);
        let need = Need::Environment(recipe.clone());
        let cancel = Cancel::default();
        self.trials.insert(need.clone(), cancel.clone());
        let (told, reports) = (need.clone(), self.reports.clone());
        let tell = |outcome| Report::NeedReady { need, outcome };
        self.on_thread(tell, move || {
            let recipe = recipe.map(|recipe| recipe.recipe());
            let say = |step: &str| {
                let (need, stage) = (told.clone(), format!("building the environment: {step}"));
                drop(reports.send(Report::Stage { need, stage }));
            };
            let ready = starter.environment(recipe.as_ref(), &say, &cancel);
            ready.map(Ready::Environment)
        });
    }

    fn start(&self, new: NewInstance) {
        let NewInstance {
            no,
            key,
            build,
            cores,
            background,
            isolated,
        } = new;
        let (starter, places) = (Arc::clone(&self.starter), Arc::clone(&self.places));
        let ready = self.ready.get(&build.need()).cloned();
        let began = Instant::now();
        let tell = move |outcome| Report::Started {
            no,
            outcome,
            took: began.elapsed(),
        };
        let spec = InstanceSpec {
            concurrency: build.concurrency,
            lanes: build.lanes,
            batch: build.batch,
            spin: build.spin,
            non_finite: build.non_finite,
            memory_bytes_max: build.memory_bytes,
            background,
            isolation: build.isolation,
            suspicion: isolated,
            ..InstanceSpec::new(
                format!("{}/{}", key.endpoint, key.deployment),
                PathBuf::new(),
                cores,
            )
        };
        self.on_thread(tell, move || {
            let spec = match (&build.script, ready) {
                (None, Some(Ready::Model(ready))) => of_model(spec, &*places, &build.model, &ready),
                (None, _) => of_model(spec, &*places, &build.model, &ReadyModel::default()),
                (Some(script), Some(Ready::Environment(environment))) => {
                    let folder = places.lay_out(script, &build.model);
                    folder.map(|folder| of_script(spec, script, folder, environment))
                }
                (Some(_), _) => Err("its environment has gone: update the deployment".to_owned()),
            };
            starter.start(spec?)
        });
    }

    /// Runs `work` on a thread of its own. A report comes in any case: of its end, of its panic, or that there is no thread.
    fn on_thread<T>(
        &self,
        tell: impl FnOnce(Result<T, String>) -> Report + Clone + Send + 'static,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) {
        let (reports, refused, otherwise) =
            (self.reports.clone(), self.reports.clone(), tell.clone());
        let run = move || {
            // Nothing of what `work` may have left half-done is looked at again.
            let outcome = catch_unwind(AssertUnwindSafe(work));
            let outcome = outcome.unwrap_or_else(|_| Err("a start ended in a panic".to_owned()));
            // Whoever waited is gone with the receiver: then nobody asks.
            drop(reports.send(tell(outcome)));
        };
        let thread = std::thread::Builder::new().name("serin-task".to_owned());
        if let Err(error) = thread.spawn(run) {
            drop(refused.send(otherwise(Err(format!("the system has no thread: {error}")))));
        }
    }

    /// Shows requests an endpoint as it is now.
    fn publish(&mut self, name: &EndpointName, shown: Option<Shown>) {
        let mut growing = Growing::new();
        if let Some(shown) = shown {
            let deployments = shown.deployments.iter();
            let deployments: Vec<_> = deployments
                .map(|one| self.deployment(name, one, &mut growing))
                .collect();
            for one in &deployments {
                let share = shown.spec.traffic.percent_of(&one.name);
                one.metrics.set_share(share.hundredths());
            }
            let auth = self.credentials.auth(&shown.spec, shown.generations);
            let previous = self.published.get(name).map(Arc::as_ref);
            let (name, routes) = (
                shown.spec.name.clone(),
                self.routes(shown.spec, shown.cohorts),
            );
            match Endpoint::new(name, auth, routes, deployments, previous) {
                Ok(endpoint) => {
                    self.published.insert(endpoint.name().clone(), endpoint);
                }
                // No such split is ever accepted; the old table stays.
                Err(error) => tracing::error!(%error, "an endpoint was not published"),
            }
        } else {
            self.published.remove(name);
            self.metrics.forget_sticky_misses(name.as_str());
        }
        let names = self.published.keys().map(EndpointName::as_str);
        let names: BTreeSet<&str> = names.collect();
        self.metrics.keep_refusals(|name| names.contains(name));
        let endpoints = self.published.values().cloned().collect();
        self.router.publish(RoutingTable::new(endpoints));
        // Those that shrink have lost their slots already, those that grow get theirs now: in every order the open instances can
        // take all permits.
        for (admission, slots) in growing {
            admission.resize(slots);
        }
        self.close_unseen(name);
    }

    /// Where the requests of an endpoint go.
    fn routes(&self, spec: EndpointSpec, cohorts: Option<Cohorts>) -> Routes {
        let name = spec.name.as_str();
        let sticky = spec
            .sticky
            .clone()
            .zip(cohorts)
            .map(|(rule, cohorts)| StickyRoutes {
                rule,
                cohorts,
                misses: self.metrics.sticky_misses(name),
            });
        if sticky.is_none() {
            self.metrics.forget_sticky_misses(name);
        }
        let shadow = |(shadow, share): (DeploymentName, _)| ShadowRoute {
            metrics: self.metrics.shadow(name, shadow.as_str()),
            name: shadow,
            share,
        };
        let shadows: Vec<_> = spec.shadows().map(shadow).collect();
        Routes {
            split: spec.traffic,
            sticky,
            shadows,
        }
    }

    fn deployment(
        &mut self,
        endpoint: &EndpointName,
        shown: &ShownDeployment,
        growing: &mut Growing,
    ) -> Arc<Deployment> {
        let key = Key {
            endpoint: endpoint.clone(),
            deployment: shown.name.clone(),
        };
        let before = shown
            .build
            .as_ref()
            .and_then(|build| self.builds.insert(key.clone(), build.clone()));
        let is_another = before.is_some() && before != shown.build;
        let admission = self.admissions.entry(key);
        let admission = admission.or_insert_with(|| AdmissionControl::new(shown.slots));
        admission.set_waiting_max(shown.waiting_max);
        if shown.slots < admission.slots() {
            admission.resize(shown.slots);
        } else {
            growing.push((Arc::clone(admission), shown.slots));
        }
        let metrics = self
            .metrics
            .deployment(endpoint.as_str(), shown.name.as_str());
        metrics.set_slots(shown.slots);
        metrics.set_instances(shown.instances.len());
        let line = Arc::downgrade(admission);
        metrics.set_line(line);
        let newest = shown.instances.iter().max();
        if let Some((took, _)) = newest.and_then(|no| self.told.get(no)) {
            metrics.set_load_time(*took);
        }
        if is_another {
            metrics.begin_build();
        }
        let instances = shown.instances.iter();
        let instances = instances.filter_map(|no| self.instances.get(no)?.handle());
        Arc::new(Deployment {
            name: shown.name.clone(),
            admission: Arc::clone(admission),
            instances: instances.collect(),
            request_timeout: shown.request_timeout,
            metrics,
        })
    }

    /// Closes the admission of deployments of an endpoint that the table shows no more.
    fn close_unseen(&mut self, name: &EndpointName) {
        let shown = self.published.get(name);
        let is_shown =
            |key: &Key| shown.is_some_and(|shown| shown.deployment(key.deployment.key()).is_some());
        let unseen: Vec<_> = self
            .admissions
            .keys()
            .filter(|key| key.endpoint == *name && !is_shown(key))
            .cloned()
            .collect();
        for key in unseen {
            self.builds.remove(&key);
            if let Some(admission) = self.admissions.remove(&key) {
                self.metrics
                    .forget_shadow(key.endpoint.as_str(), key.deployment.as_str());
                self.metrics
                    .forget(key.endpoint.as_str(), key.deployment.as_str());
                self.closing.push((key, admission));
            }
        }
    }

    /// Ends instances, with `drain` when what they were given has ended.
    fn retire(&mut self, key: &Key, numbers: Vec<InstanceNo>, drain: bool) {
        for no in &numbers {
            self.count_lanes_lost(*no, key);
            self.told.remove(no);
        }
        let taken: Vec<_> = numbers
            .iter()
            .filter_map(|no| self.instances.remove(no))
            .collect();
        self.count_dead(key, &taken);
        let handles = numbers.iter().zip(&taken);
        let handles = handles.filter_map(|(no, one)| Some((*no, one.handle()?)));
        self.leaving.extend(handles);
        let (closing, others) = std::mem::take(&mut self.closing)
            .into_iter()
            .partition(|(closing, _)| closing == key);
        self.closing = others;
        let reports = self.reports.clone();
        let deadline = Instant::now() + DRAIN_MAX;
        let stop = move || {
            // Nothing of an instance whose end panics is looked at again; whoever waits for its end hears of it all the same.
            let forced = catch_unwind(AssertUnwindSafe(|| stop_all(taken, drain, deadline)));
            if forced.is_err() {
                tracing::error!("an instance panicked while it was stopped");
            }
            drop(reports.send(Report::Retired {
                instances: numbers,
                forced: forced.unwrap_or_default(),
            }));
        };
        tokio::spawn(async move {
            // Slots are taken back first: whoever was admitted still finds an instance that takes the job.
            drain_all(closing, deadline).await;
            let spawn = |run| {
                let thread = std::thread::Builder::new().name("serin-task".to_owned());
                thread.spawn(run).map(drop)
            };
            run_on_thread(stop, spawn).await;
        });
    }

    /// To be called when the commands of an event have been carried out: deployments that left without any instance.
    pub(super) fn finish(&mut self) {
        if !self.closing.is_empty() {
            let closing = std::mem::take(&mut self.closing);
            tokio::spawn(drain_all(closing, Instant::now() + DRAIN_MAX));
        }
    }
}

/// An instance that scores a model natively.
fn of_model(
    spec: InstanceSpec,
    places: &dyn ModelPlaces,
    model: &ModelDigest,
    ready: &ReadyModel,
) -> Result<InstanceSpec, String> {
    let place = places.place(model)?;
    let copied = ready.copy.as_ref().map(|copy| copy.model().to_owned());
    Ok(InstanceSpec {
        model: copied.unwrap_or(place.file),
        cached: ready.cached.clone(),
        sample_request: place.sample_request,
        digest: match place.by_content {
            true => Some(model.to_string()),
            false => ready.digest.clone(),
        },
        ..spec
    })
}

/// An instance that runs a script. It has no digest: the death of its processes is no death of the server.
fn of_script(
    spec: InstanceSpec,
    build: &ScriptBuild,
    folder: ScriptFolder,
    environment: ReadyEnvironment,
) -> InstanceSpec {
    let script = &build.script;
    let file = |recipe: &StoredRecipe| recipe.recipe().file().display().to_string();
    InstanceSpec {
        model: folder.model_dir.clone(),
        script: Some(ScriptSpec {
            python: environment.python,
            entry_script: folder.source_directory.join(&script.entry_script),
            source_directory: folder.source_directory.clone(),
            app_root: folder.app_root.clone(),
            model_dir: Some(folder.model_dir.clone()),
            variables: script.variables.clone(),
            environment: script.recipe.as_ref().map(file),
            keep: environment
                .keep
                .into_iter()
                .chain([Arc::new(folder) as Arc<dyn KeptAlive>])
                .collect(),
        }),
        ..spec
    }
}

/// Ends instances; says how many were stopped under running work. Blocks.
fn stop_all(instances: Vec<Box<dyn Started>>, drain: bool, deadline: Instant) -> usize {
    let mut forced = 0;
    if drain {
        instances.iter().for_each(|instance| instance.close());
        let late = instances.iter().filter(|one| !one.wait_idle(deadline));
        forced = late.count();
    }
    instances.into_iter().for_each(Started::stop);
    give_back_memory();
    forced
}

/// What a thread is to run.
type Run = Box<dyn FnOnce() + Send>;

/// Runs `work` on a thread of its own. Where the system has none it asks again after a pause, until it has: nobody else would
/// do the work, and an operation waits for it.
async fn run_on_thread(
    work: impl FnOnce() + Send + 'static,
    spawn: impl Fn(Run) -> std::io::Result<()>,
) {
    // A thread that is refused drops what it was given.
    let work = Arc::new(Mutex::new(Some(work)));
    loop {
        let work = Arc::clone(&work);
        let run = move || {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(work) = work {
                work();
            }
        };
        let Err(error) = spawn(Box::new(run)) else {
            return;
        };
        tracing::error!(%error, "no thread to stop instances: they stay until there is one");
        tokio::time::sleep(THREAD_PAUSE).await;
    }
}

/// Refuses newcomers and those who wait, and ends with the last that was admitted, or at the deadline.
async fn drain_all(closing: Vec<(Key, Arc<AdmissionControl>)>, deadline: Instant) {
    for (_, admission) in closing {
        // What is admitted after the deadline is cut off with the instances.
        let _ = tokio::time::timeout_at(deadline.into(), admission.drain()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::DEGRADED_AFTER;
    use crate::control::desired::Generation;
    use crate::deadline::Deadline;
    use crate::engine::BatchSettings;
    use crate::environments::Recipe;
    use crate::router::Rejected;
    use crate::spec::Isolation;

    /// Neither engine nor files nor keys: only publications are tried here.
    #[derive(Debug)]
    struct Nothing;

    impl Starter for Nothing {
        fn make_ready(&self, _candidate: &Candidate<'_>) -> Result<ReadyModel, String> {
            Err("nothing".to_owned())
        }

        fn environment(
            &self,
            _recipe: Option<&Recipe>,
            _tell: &dyn Fn(&str),
            _cancel: &Cancel,
        ) -> Result<ReadyEnvironment, String> {
            Err("nothing".to_owned())
        }

        fn start(&self, _spec: InstanceSpec) -> Result<Box<dyn Started>, String> {
            Err("nothing".to_owned())
        }
    }

    impl ModelPlaces for Nothing {
        fn place(&self, _model: &ModelDigest) -> Result<ModelPlace, String> {
            Err("nothing".to_owned())
        }

        fn lay_out(
            &self,
            _build: &ScriptBuild,
            _model: &ModelDigest,
        ) -> Result<ScriptFolder, String> {
            Err("nothing".to_owned())
        }
    }

    impl AuthSource for Nothing {
        fn auth(&self, _endpoint: &EndpointSpec, _generations: Generations) -> EndpointAuth {
            EndpointAuth::Open
        }
    }

    fn work() -> Work {
        let (reports, _nobody) = mpsc::unbounded_channel();
        Work::new(
            (Arc::new(Nothing), Arc::new(Nothing)),
            Arc::new(Nothing),
            (Router::new(), Metrics::new()),
            reports,
        )
    }

    fn blue() -> Key {
        Key {
            endpoint: "iris".parse().expect("a name"),
            deployment: "blue".parse().expect("a name"),
        }
    }

    fn publish(work: &mut Work, slots: Option<usize>) {
        publish_build(work, slots, None);
    }

    fn publish_build(work: &mut Work, slots: Option<usize>, build: Option<Build>) {
        let Key {
            endpoint,
            deployment,
        } = blue();
        let shown = slots.map(|slots| Shown {
            spec: EndpointSpec::new(endpoint.clone()),
            generations: Generations::all(Generation(1)),
            deployments: vec![ShownDeployment {
                name: deployment,
                instances: Vec::new(),
                build,
                slots,
                request_timeout: Duration::from_secs(1),
                waiting_max: Some(slots),
            }],
            cohorts: None,
        });
        work.carry_out(Command::Publish { endpoint, shown });
    }

    fn admission(work: &Work) -> Arc<AdmissionControl> {
        let table = work.router.table();
        let endpoint = table.endpoint("iris").expect("it is published");
        let deployment = endpoint.deployment("blue").expect("it is published");
        Arc::clone(&deployment.admission)
    }

    fn soon() -> Deadline {
        Deadline::after(Instant::now(), Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_keeps_its_slots_through_all_its_instances() {
        let mut work = work();
        publish(&mut work, Some(2));
        let first = admission(&work);
        let _running = first.admit(soon()).await.expect("a slot is free");
        for slots in [1, 4, 0, 3] {
            publish(&mut work, Some(slots));
            assert!(Arc::ptr_eq(&first, &admission(&work)));
            assert_eq!((first.slots(), first.held()), (slots, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_made_anew_has_slots_and_series_of_its_own_while_the_old_one_drains() {
        let mut work = work();
        publish(&mut work, Some(1));
        let old = admission(&work);
        let running = old.admit(soon()).await.expect("a slot is free");
        publish(&mut work, None);
        work.carry_out(Command::Retire {
            key: blue(),
            instances: Vec::new(),
            drain: true,
        });
        publish(&mut work, Some(1));
        let new = admission(&work);
        assert!(!Arc::ptr_eq(&old, &new));
        new.admit(soon()).await.expect("its slot is free");
        tokio::task::yield_now().await;
        assert_eq!(
            old.admit(soon()).await.expect_err("it drains"),
            Rejected::Draining
        );
        assert_eq!((old.held(), new.held()), (1, 0));
        drop(running);
        assert!(work.metrics.render().contains("deployment=\"blue\""));
        publish(&mut work, None);
        work.finish();
        assert!(!work.metrics.render().contains("deployment=\"blue\""));
    }

    /// A deployment that was mended would be called degraded until somebody dares to ask it.
    #[test]
    fn what_one_version_did_makes_no_other_degraded() {
        let mut work = work();
        let lanes = |lanes| Build {
            model: ModelDigest::for_test("x"),
            vcpus: 1,
            concurrency: 1,
            lanes: Some(lanes),
            batch: BatchSettings::default(),
            spin: false,
            isolation: Isolation::Auto,
            non_finite: serin_scorers::NonFinite::default(),
            memory_bytes: None,
            script: None,
        };
        publish_build(&mut work, Some(1), Some(lanes(1)));
        let metrics = work.metrics.deployment("iris", "blue");
        for _ in 0..DEGRADED_AFTER {
            metrics.streak().failed(|| "it hangs".to_owned());
        }
        // The same again, as when an instance that died is replaced; and none, as when all have died.
        for build in [Some(lanes(1)), None, Some(lanes(1))] {
            publish_build(&mut work, Some(1), build);
            assert!(metrics.streak().degraded().is_some());
        }
        publish_build(&mut work, Some(1), Some(lanes(2)));
        assert_eq!(metrics.streak().degraded(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn instances_are_stopped_when_the_system_has_a_thread_again() {
        let (done, has_ended) = std::sync::mpsc::channel();
        let refusals = Cell::new(3);
        let spawn = |run: Run| {
            if refusals.get() > 0 {
                refusals.set(refusals.get() - 1);
                return Err(std::io::Error::other("no thread"));
            }
            run();
            Ok(())
        };
        run_on_thread(move || done.send(()).expect("it is awaited"), spawn).await;
        assert_eq!(refusals.get(), 0);
        has_ended.try_recv().expect("the work was done");
        has_ended.try_recv().expect_err("and once");
    }
}

//! The steps of plans: starts, publications, drains and stops of instances.
//!
//! Each method begins a step and returns at once. What takes time runs on short-lived threads, and its end comes back as an
//! event whose method stands beside.
//!
//! Not here: which step comes next (`reconcile`), and why (`plan`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use crate::config::{DRAIN_MAX, START_MAX};
use crate::control::controller::{Controller, Event};
use crate::control::models::ModelDigest;
use crate::control::plan::{Build, InstanceNo, NewInstance, Serving, Step};
use crate::control::starter::Started;
use crate::engine::{
    CoreGrant, InstanceHandle, InstanceSpec, ModelFile, Placement, ReadyModel, give_back_memory,
};
use crate::router::{AdmissionControl, Deployment, Endpoint, RoutingTable};
use crate::spec::{DeploymentName, EndpointName, TrafficSplit};

/// Deployments that get more slots when their table is published, and how many they have then.
type Growing = Vec<(Arc<AdmissionControl>, usize)>;

/// An instance in the controller's books, from the moment it has cores until they are free again.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) endpoint: EndpointName,
    pub(super) deployment: DeploymentName,
    pub(super) build: Build,
    pub(super) placement: Option<Placement>,
    cores: CoreGrant,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Starting,
    /// It took too long; whatever comes of it is stopped.
    Abandoned,
    Ready(Box<dyn Started>),
    /// A thread drains or stops it.
    Leaving,
}

impl Live {
    /// What requests are given to; none while it starts or leaves.
    pub(super) fn handle(&self) -> Option<InstanceHandle> {
        match &self.phase {
            Phase::Ready(instance) => instance.handle(),
            Phase::Starting | Phase::Abandoned | Phase::Leaving => None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    pub(super) fn has_failed(&self) -> bool {
        match &self.phase {
            Phase::Ready(instance) => instance.has_failed(),
            Phase::Starting | Phase::Abandoned | Phase::Leaving => false,
        }
    }

    /// Whether it runs on when the other one has come to serve: it does not leave, and neither of the two replaces the other.
    fn stays_beside(&self, other: &Self) -> bool {
        let leaves = matches!(self.phase, Phase::Abandoned | Phase::Leaving);
        let replaced = (&self.endpoint, &self.deployment) == (&other.endpoint, &other.deployment)
            && self.build != other.build;
        !leaves && !replaced
    }

    /// Hands the owner's half to a thread that drains or stops it; none when it is not here.
    pub(super) fn take(&mut self) -> Option<Box<dyn Started>> {
        match std::mem::replace(&mut self.phase, Phase::Leaving) {
            Phase::Ready(instance) => Some(instance),
            other => {
                self.phase = other;
                None
            }
        }
    }
}

impl Controller {
    /// Gives the instances cores and starts them, after their models were tried and prepared where they were not yet.
    pub(super) fn start_instances(&mut self, name: &EndpointName, new: Vec<NewInstance>) {
        let mut unready: BTreeMap<ModelDigest, DeploymentName> = BTreeMap::new();
        for one in new
            .iter()
            .filter(|one| !self.ready.contains_key(&one.build.model))
        {
            unready.insert(one.build.model.clone(), one.deployment.clone());
        }
        if !unready.is_empty() {
            self.make_ready(name, unready);
            self.with_task(name, |task| {
                task.pending = 1;
                task.steps.push_front(Step::Start(new));
            });
            return;
        }
        let mut starting = Vec::new();
        for NewInstance {
            no,
            deployment,
            build,
        } in new
        {
            match self.cores.grant(build.vcpus) {
                Ok(cores) => {
                    let live = Live {
                        endpoint: name.clone(),
                        deployment,
                        build,
                        placement: None,
                        cores,
                        phase: Phase::Starting,
                    };
                    self.live.insert(no, live);
                    starting.push(no);
                }
                Err(error) => self.with_task(name, |task| {
                    task.failure.get_or_insert((deployment, error.to_string()));
                }),
            }
        }
        // Each knows then who shares its cores.
        for no in starting {
            self.start_instance(no);
        }
    }

    fn make_ready(&self, name: &EndpointName, unready: BTreeMap<ModelDigest, DeploymentName>) {
        let (starter, files, events, endpoint) = (
            Arc::clone(&self.starter),
            self.files.clone(),
            self.events.clone(),
            name.clone(),
        );
        let (quiet, tried) = (self.serves(), self.probed.clone());
        spawn_blocking(move || {
            let ready_one = |(digest, deployment): (ModelDigest, DeploymentName)| {
                let path = files.model_file(&digest).map_err(|error| error.to_string());
                let sample = files.sample_request(&digest);
                let ready = path.and_then(|path| {
                    let model = ModelFile {
                        path: &path,
                        digest: digest.as_str(),
                        bytes: files.size_bytes(&digest),
                        sample_request: sample.as_deref(),
                    };
                    starter.make_ready(model, tried.contains(&digest), quiet)
                });
                ready
                    .map(|ready| (digest, ready))
                    .map_err(|reason| (deployment, reason))
            };
            let outcome = unready.into_iter().map(ready_one).collect();
            drop(events.send(Event::Probed { endpoint, outcome }));
        });
    }

    /// Whether requests could feel it when something else takes the cores.
    pub(super) fn serves(&self) -> bool {
        self.live.values().any(Live::is_ready)
    }

    /// Whether an instance that stays beside this one has some of its cores.
    pub(super) fn shares_cores(&self, one: &Live) -> bool {
        let mut live = self.live.values();
        live.any(|other| {
            !std::ptr::eq(other, one) && other.stays_beside(one) && other.cores.overlaps(&one.cores)
        })
    }

    fn start_instance(&mut self, no: InstanceNo) {
        let Some(live) = self.live.get(&no) else {
            return;
        };
        let label = format!("{}/{}", live.endpoint, live.deployment);
        let (name, build) = (live.endpoint.clone(), live.build.clone());
        let cores = CoreGrant {
            shared: self.shares_cores(live),
            ..live.cores.clone()
        };
        self.with_task(&name, |task| {
            task.pending += 1;
            task.unpublished.insert(no);
        });
        let (starter, files, events) = (
            Arc::clone(&self.starter),
            self.files.clone(),
            self.events.clone(),
        );
        let quiet = self.serves();
        let cached = self.ready.get(&build.model);
        let cached = cached.and_then(|ready| ready.cached.clone());
        spawn_blocking(move || {
            let model = files
                .model_file(&build.model)
                .map_err(|error| error.to_string());
            let outcome = model.and_then(|model| {
                starter.start(InstanceSpec {
                    label,
                    model,
                    cached,
                    concurrency: build.concurrency,
                    lanes: build.lanes,
                    batch: build.batch,
                    spin: build.spin,
                    cores,
                    sample_request: files.sample_request(&build.model),
                    digest: Some(build.model.to_string()),
                    profile: None,
                    background: quiet,
                })
            });
            drop(events.send(Event::Started { no, outcome }));
        });
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(START_MAX).await;
            drop(events.send(Event::Overdue(no)));
        });
    }

    pub(super) fn on_probed(
        &mut self,
        endpoint: EndpointName,
        outcome: Result<Vec<(ModelDigest, ReadyModel)>, (DeploymentName, String)>,
    ) {
        match outcome {
            Ok(ready) => {
                self.remember_probed(ready.iter().map(|(digest, _)| digest.clone()).collect());
                self.ready.extend(ready);
            }
            Err(failure) => self.with_task(&endpoint, |task| task.failure = Some(failure)),
        }
        self.step_ended(&endpoint);
    }

    pub(super) fn on_started(&mut self, no: InstanceNo, outcome: Result<Box<dyn Started>, String>) {
        let stopping = self.is_stopping();
        let Some(live) = self.live.get_mut(&no) else {
            return;
        };
        let (endpoint, deployment) = (live.endpoint.clone(), live.deployment.clone());
        let awaited = matches!(live.phase, Phase::Starting);
        match outcome {
            Ok(instance) if awaited && !stopping => {
                live.placement = instance.placement();
                live.phase = Phase::Ready(instance);
            }
            // Nobody waits for it any more.
            Ok(instance) => {
                live.phase = Phase::Leaving;
                self.stop_on_thread(None, vec![(no, instance)]);
            }
            Err(reason) => {
                self.forget_instance(no);
                if awaited {
                    self.with_task(&endpoint, |task| {
                        task.unpublished.remove(&no);
                        task.failure.get_or_insert((deployment, reason));
                    });
                }
            }
        }
        if awaited {
            self.step_ended(&endpoint);
        }
    }

    pub(super) fn on_overdue(&mut self, no: InstanceNo) {
        let Some(live) = self
            .live
            .get_mut(&no)
            .filter(|live| matches!(live.phase, Phase::Starting))
        else {
            return;
        };
        live.phase = Phase::Abandoned;
        let (endpoint, deployment) = (live.endpoint.clone(), live.deployment.clone());
        self.with_task(&endpoint, |task| {
            task.unpublished.remove(&no);
            task.failure.get_or_insert((
                deployment,
                format!("an instance was not ready within {} s", START_MAX.as_secs()),
            ));
        });
        self.step_ended(&endpoint);
    }

    /// Shows requests these instances.
    pub(super) fn publish(&mut self, name: &EndpointName, serving: Serving, rules: bool) {
        let Some(state) = self.endpoints.get_mut(name) else {
            return;
        };
        let Some(task) = &mut state.task else { return };
        if rules {
            state.rules = task.goal.clone();
        }
        for no in serving.values().flatten() {
            task.unpublished.remove(no);
        }
        state.serving = serving;
        self.publish_state(name);
    }

    /// Publishes an endpoint as its state says. In every order of growing and shrinking, open instances can take all permits.
    pub(super) fn publish_state(&mut self, name: &EndpointName) {
        let (deployments, growing) = self.deployments(name);
        let Some(state) = self.endpoints.get(name) else {
            return;
        };
        let shown = state.rules.clone().or_else(|| {
            // One by one, before the first rules: reachable by name, no traffic yet.
            let mut goal = state.task.as_ref()?.goal.clone()?;
            goal.spec.traffic = TrafficSplit::default();
            Some(goal)
        });
        if let Some(rules) = shown {
            let previous = self.published.get(name).map(Arc::as_ref);
            let auth = self.auth(&rules);
            match Endpoint::new(
                rules.spec.name,
                auth,
                rules.spec.traffic,
                deployments,
                previous,
            ) {
                Ok(endpoint) => {
                    self.published.insert(name.clone(), endpoint);
                }
                // `apply` lets no such split pass; the old table stays.
                Err(error) => tracing::error!(%error, "an endpoint was not published"),
            }
        } else {
            self.published.remove(name);
        }
        let endpoints = self.published.values().cloned().collect();
        self.router.publish(RoutingTable::new(endpoints));
        for (admission, slots) in growing {
            admission.resize(slots);
        }
    }

    /// The deployments of an endpoint for the next table. Those that shrink have lost their slots already; those that grow get
    /// theirs when the table is published.
    fn deployments(&mut self, name: &EndpointName) -> (Vec<Arc<Deployment>>, Growing) {
        let (mut deployments, mut growing) = (Vec::new(), Vec::new());
        let Some(state) = self.endpoints.get_mut(name) else {
            return (deployments, growing);
        };
        let goal = state.task.as_ref().and_then(|task| task.goal.as_ref());
        for (deployment, instances) in &state.serving {
            // The rules in force know every deployment but those that are being made.
            let known = [state.rules.as_ref(), goal];
            let mut known = known.into_iter().flatten();
            let Some(wanted) = known.find_map(|endpoint| endpoint.deployments.get(deployment))
            else {
                continue;
            };
            let live = instances.iter().filter_map(|no| self.live.get(no));
            let live: Vec<_> = live.filter(|live| live.is_ready()).collect();
            let concurrency =
                |live: &&Live| usize::try_from(live.build.concurrency).unwrap_or(usize::MAX);
            let slots = live.iter().map(concurrency).sum();
            let admission = state.admissions.entry(deployment.clone());
            let admission = admission.or_insert_with(|| AdmissionControl::new(slots));
            if slots < admission.slots() {
                admission.resize(slots);
            } else {
                growing.push((Arc::clone(admission), slots));
            }
            let metrics = self.metrics.deployment(name.as_str(), deployment.as_str());
            metrics.set_slots(slots);
            metrics.set_instances(live.len());
            deployments.push(Arc::new(Deployment {
                name: deployment.clone(),
                admission: Arc::clone(admission),
                instances: live.iter().filter_map(|live| live.handle()).collect(),
                request_timeout: wanted.spec.request_settings().request_timeout(),
                metrics,
            }));
        }
        (deployments, growing)
    }

    /// Forgets deployments that no table shows any more; gives back their admission controls.
    pub(super) fn forget_gone(&mut self, name: &EndpointName) -> Vec<Arc<AdmissionControl>> {
        let Some(state) = self.endpoints.get_mut(name) else {
            return Vec::new();
        };
        let gone: Vec<_> = state
            .admissions
            .keys()
            .filter(|one| !state.serving.contains_key(*one))
            .cloned()
            .collect();
        for deployment in &gone {
            self.metrics.forget(name.as_str(), deployment.as_str());
        }
        gone.iter()
            .filter_map(|one| state.admissions.remove(one))
            .collect()
    }

    pub(super) fn drain(&mut self, name: &EndpointName, instances: &[InstanceNo]) {
        let closing = self.forget_gone(name);
        self.with_task(name, |task| task.pending = 1);
        self.drain_on_thread(name, closing, instances);
    }

    /// Takes the slots of `closing` back, then waits until the instances are idle.
    pub(super) fn drain_on_thread(
        &mut self,
        name: &EndpointName,
        closing: Vec<Arc<AdmissionControl>>,
        instances: &[InstanceNo],
    ) {
        let taken: Vec<_> = instances
            .iter()
            .filter_map(|no| Some((*no, self.live.get_mut(no)?.take()?)))
            .collect();
        let (events, endpoint) = (self.events.clone(), name.clone());
        let deadline = Instant::now() + DRAIN_MAX;
        tokio::spawn(async move {
            for admission in closing {
                // What is admitted after the deadline is cut off below, with the instances.
                let _ = tokio::time::timeout_at(deadline.into(), admission.drain()).await;
            }
            spawn_blocking(move || {
                for (_, instance) in &taken {
                    instance.close();
                }
                let forced = taken
                    .iter()
                    .filter(|(_, instance)| !instance.wait_idle(deadline))
                    .count();
                drop(events.send(Event::Drained {
                    endpoint,
                    instances: taken,
                    forced,
                }));
            });
        });
    }

    pub(super) fn on_drained(
        &mut self,
        endpoint: &EndpointName,
        instances: Vec<(InstanceNo, Box<dyn Started>)>,
        forced: usize,
    ) {
        if forced > 0 {
            self.metrics.forced_stops(forced);
            tracing::warn!(%endpoint, forced, "instances were stopped under running requests: the drain took too long");
        }
        if self.is_stopping() {
            self.stop_on_thread(None, instances);
            return;
        }
        for (no, instance) in instances {
            if let Some(live) = self.live.get_mut(&no) {
                live.phase = Phase::Ready(instance);
            }
        }
        self.step_ended(endpoint);
    }

    pub(super) fn stop(&mut self, name: &EndpointName, instances: &[InstanceNo]) {
        let taken: Vec<_> = instances
            .iter()
            .filter_map(|no| Some((*no, self.live.get_mut(no)?.take()?)))
            .collect();
        self.with_task(name, |task| task.pending = 1);
        self.stop_on_thread(Some(name.clone()), taken);
    }

    pub(super) fn stop_on_thread(
        &self,
        endpoint: Option<EndpointName>,
        instances: Vec<(InstanceNo, Box<dyn Started>)>,
    ) {
        let events = self.events.clone();
        spawn_blocking(move || {
            let stop_one = |(no, instance): (InstanceNo, Box<dyn Started>)| {
                instance.stop();
                no
            };
            let instances = instances.into_iter().map(stop_one).collect();
            give_back_memory();
            drop(events.send(Event::Stopped {
                endpoint,
                instances,
            }));
        });
    }

    pub(super) fn on_stopped(&mut self, endpoint: Option<EndpointName>, instances: &[InstanceNo]) {
        for no in instances {
            self.forget_instance(*no);
        }
        if let Some(endpoint) = endpoint {
            self.step_ended(&endpoint);
        }
    }

    fn forget_instance(&mut self, no: InstanceNo) {
        let Some(gone) = self.live.remove(&no) else {
            return;
        };
        self.cores.release(&gone.cores);
        let model = &gone.build.model;
        if !self.live.values().any(|live| live.build.model == *model) {
            self.ready.remove(model);
        }
    }
}

//! From what runs to what should run: tasks of endpoints, step by step.
//!
//! Each endpoint does one task at a time: an operation, its recovery at start, or the repair of an instance that died. All three
//! are the same: a plan, carried out by the same steps. Nothing here waits: a step that takes time runs elsewhere and its end comes back as an event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{REPAIR_PAUSE_MAX, REPAIR_PAUSE_MIN};
use crate::control::controller::Controller;
use crate::control::desired::{Revision, WantedDeployment, WantedEndpoint};
use crate::control::operation::OperationId;
use crate::control::plan::{
    Build, Goal, Goals, InstanceNo, Observed, Room, Running, Serving, Step, plan,
};
use crate::control::steps::Live;
use crate::engine::{BatchSettings, Capacity};
use crate::router::{AdmissionControl, RoutingTable};
use crate::spec::{DeploymentName, EndpointName, Percent};

/// Why a task exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Operation(OperationId),
    Recovery,
    Repair,
}

/// What an endpoint shall become.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) purpose: Purpose,
    /// The newest change that the task carries out.
    revision: Revision,
    /// The endpoint as wished then; none when it shall go.
    pub(super) goal: Option<WantedEndpoint>,
    pub(super) steps: VecDeque<Step>,
    /// Events to come before the next step.
    pub(super) pending: usize,
    /// Instances that this task started and has not published.
    pub(super) unpublished: BTreeSet<InstanceNo>,
    /// The first thing that went wrong, and with which deployment.
    pub(super) failure: Option<(DeploymentName, String)>,
    outcome: Result<(), String>,
}

impl Task {
    pub(super) fn operation(id: OperationId, goal: Option<WantedEndpoint>) -> Self {
        Self::new(Purpose::Operation(id), Revision(id.0), goal)
    }

    fn new(purpose: Purpose, revision: Revision, goal: Option<WantedEndpoint>) -> Self {
        Self {
            purpose,
            revision,
            goal,
            steps: VecDeque::new(),
            pending: 0,
            unpublished: BTreeSet::new(),
            failure: None,
            outcome: Ok(()),
        }
    }
}

/// A deployment that is not as wished, since which change, and why.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    touched: Revision,
    pub(super) reason: String,
}

/// When dead instances are replaced.
#[derive(Debug)]
struct Repair {
    pause: Duration,
    not_before: Instant,
}

/// One endpoint as it runs.
#[derive(Debug, Default)]
pub(super) struct EndpointState {
    /// Split, credentials and timeouts in force.
    pub(super) rules: Option<WantedEndpoint>,
    pub(super) serving: Serving,
    pub(super) admissions: BTreeMap<DeploymentName, Arc<AdmissionControl>>,
    pub(super) queue: VecDeque<Task>,
    pub(super) task: Option<Task>,
    failed: BTreeMap<DeploymentName, Failure>,
    /// Why the last task did not do all it should.
    pub(super) reason: Option<String>,
    repair: Option<Repair>,
}

impl EndpointState {
    /// Why a deployment is not as this wish wants it, if it was tried and failed.
    pub(super) fn failure(&self, wanted: &WantedDeployment) -> Option<&Failure> {
        self.failed
            .get(&wanted.spec.name)
            .filter(|failure| failure.touched == wanted.touched)
    }

    pub(super) fn rules(&self) -> Option<&WantedEndpoint> {
        self.rules.as_ref()
    }

    /// Whether something is being done or waits to be done.
    pub(super) fn is_busy(&self) -> bool {
        self.task.is_some() || !self.queue.is_empty()
    }
}

/// What an instance of this deployment is made of.
pub(super) fn build_of(wanted: &WantedDeployment) -> Build {
    let settings = wanted.spec.request_settings();
    Build {
        model: wanted.model.digest.clone(),
        vcpus: wanted.vcpus,
        concurrency: settings.max_concurrent_requests_per_instance(),
        lanes: settings.lanes(),
        batch: BatchSettings {
            size_max: settings.max_batch_size(),
            delay: settings.max_batch_delay(),
        },
        spin: settings.spin(),
    }
}

fn count_of(wanted: &WantedDeployment) -> usize {
    usize::try_from(wanted.spec.instance_count()).unwrap_or(usize::MAX)
}

impl Controller {
    /// Begins to run what should run, and to end the operations that the last process left open.
    pub(super) fn recover(&mut self) {
        let desired = self.shared.desired.load_full();
        for (name, wanted) in &desired.endpoints {
            self.recovering.insert(name.clone());
            self.enqueue(
                name.clone(),
                Task::new(Purpose::Recovery, self.revision, Some(wanted.clone())),
            );
        }
        for operation in self.unfinished() {
            if !desired.endpoints.contains_key(&operation.endpoint) {
                // Nothing runs yet, so what should be gone is gone.
                self.conclude(operation.id, Ok(()));
            }
        }
    }

    /// Puts a task into the endpoint's queue.
    pub(super) fn enqueue(&mut self, name: EndpointName, task: Task) {
        self.endpoints
            .entry(name.clone())
            .or_default()
            .queue
            .push_back(task);
        self.advance(&name);
    }

    /// Does all that can be done now for an endpoint.
    pub(super) fn advance(&mut self, name: &EndpointName) {
        loop {
            let Some(state) = self.endpoints.get_mut(name) else {
                return;
            };
            let Some(task) = &mut state.task else {
                if self.is_stopping() {
                    return;
                }
                let Some(state) = self.endpoints.get_mut(name) else {
                    return;
                };
                let Some(task) = state.queue.pop_front() else {
                    return;
                };
                state.task = Some(task);
                self.plan_task(name);
                continue;
            };
            if task.pending > 0 {
                return;
            }
            if let Some((deployment, reason)) = task.failure.take() {
                self.fail(name, &deployment, reason);
                continue;
            }
            match task.steps.pop_front() {
                None => self.finish(name),
                Some(Step::Start(new)) => self.start_instances(name, new),
                Some(Step::Publish { serving, rules }) => self.publish(name, serving, rules),
                Some(Step::Drain(instances)) => self.drain(name, &instances),
                Some(Step::Stop(instances)) => self.stop(name, &instances),
            }
        }
    }

    /// Plans the task that is about to begin.
    fn plan_task(&mut self, name: &EndpointName) {
        let observed = self.observed(name);
        let room = match self.capacity {
            Capacity::Overcommit => Room::Shared,
            Capacity::Strict => {
                let (total, free) = self.cores.total_and_free();
                Room::Free { free, total }
            }
        };
        let Some(state) = self.endpoints.get_mut(name) else {
            return;
        };
        let Some(task) = &state.task else { return };
        let mut goals = Goals::new();
        for (deployment, wanted) in task.goal.iter().flat_map(|goal| &goal.deployments) {
            let run = |wanted: &WantedDeployment| Goal::Run {
                build: build_of(wanted),
                count: count_of(wanted),
            };
            let goal = match state.failure(wanted) {
                None => run(wanted),
                Some(_) if task.purpose == Purpose::Recovery => self
                    .fallbacks
                    .get(&(name.clone(), deployment.clone()))
                    .map_or(Goal::Keep, run),
                Some(_) => Goal::Keep,
            };
            goals.insert(deployment.clone(), goal);
        }
        let planned = match unserved(state, task, &goals, &observed) {
            Some(why) => Err(why),
            None => plan(&goals, &observed, room, self.next_no).map_err(|error| error.to_string()),
        };
        let task = state.task.as_mut().expect("it was looked at just now");
        match planned {
            Ok(steps) => {
                for step in &steps {
                    if let Step::Start(new) = step {
                        self.next_no.0 += u64::try_from(new.len()).unwrap_or(u64::MAX);
                    }
                }
                task.steps.extend(steps);
            }
            Err(reason) => self.refuse(name, reason),
        }
    }

    /// What runs of an endpoint, oldest first; not what died or leaves.
    fn observed(&self, name: &EndpointName) -> Observed {
        let mut observed = Observed::new();
        for (deployment, serving) in self
            .endpoints
            .get(name)
            .iter()
            .flat_map(|state| &state.serving)
        {
            let running = serving
                .iter()
                .filter_map(|no| Some((*no, self.live.get(no).filter(|live| live.is_ready())?)));
            let running = running.map(|(no, live)| Running {
                no,
                build: live.build.clone(),
            });
            observed.insert(deployment.clone(), running.collect());
        }
        observed
    }

    pub(super) fn step_ended(&mut self, endpoint: &EndpointName) {
        self.with_task(endpoint, |task| {
            task.pending = task.pending.saturating_sub(1);
        });
        self.advance(endpoint);
    }

    pub(super) fn with_task(&mut self, endpoint: &EndpointName, work: impl FnOnce(&mut Task)) {
        if let Some(task) = self
            .endpoints
            .get_mut(endpoint)
            .and_then(|state| state.task.as_mut())
        {
            work(task);
        }
    }

    /// The task cannot be planned: nothing was begun.
    fn refuse(&mut self, name: &EndpointName, reason: String) {
        self.mark_failed(name, None, &reason);
        self.with_task(name, |task| task.outcome = Err(reason));
    }

    /// A start failed: what this task started and nobody saw goes, the rest serves on.
    fn fail(&mut self, name: &EndpointName, deployment: &DeploymentName, reason: String) {
        let reason = format!("deployment {deployment}: {reason}");
        self.mark_failed(name, Some(deployment), &reason);
        self.with_task(name, |task| {
            task.steps.clear();
            let undo: Vec<_> = std::mem::take(&mut task.unpublished).into_iter().collect();
            if !undo.is_empty() {
                task.steps.push_back(Step::Stop(undo));
            }
            task.outcome = Err(reason);
        });
    }

    /// Notes which deployments are not as wished. An operation is one whole, so all that it left undone is; a recovery goes on with
    /// the others.
    fn mark_failed(&mut self, name: &EndpointName, culprit: Option<&DeploymentName>, reason: &str) {
        let observed = self.observed(name);
        let Some(state) = self.endpoints.get_mut(name) else {
            return;
        };
        let Some(task) = &state.task else { return };
        for (deployment, wanted) in task.goal.iter().flat_map(|goal| &goal.deployments) {
            let spared = match task.purpose {
                Purpose::Operation(_) => is_met(wanted, observed.get(deployment)),
                Purpose::Recovery => culprit.is_some_and(|culprit| culprit != deployment),
                Purpose::Repair => true,
            };
            if !spared && state.failure(wanted).is_some() && task.purpose == Purpose::Recovery {
                // What ran before does not start either.
                self.fallbacks.remove(&(name.clone(), deployment.clone()));
            } else if !spared {
                let failure = Failure {
                    touched: wanted.touched,
                    reason: reason.to_owned(),
                };
                state.failed.insert(deployment.clone(), failure);
            }
        }
    }

    /// All steps have been done: tells whoever waits, and begins what waits.
    fn finish(&mut self, name: &EndpointName) {
        let observed = self.observed(name);
        let Some(state) = self.endpoints.get_mut(name) else {
            return;
        };
        let Some(task) = state.task.take() else {
            return;
        };
        if task.purpose != Purpose::Repair {
            state.reason = task.outcome.clone().err();
        }
        match (&task.goal, &task.outcome) {
            (Some(goal), Ok(())) if task.purpose != Purpose::Repair => {
                let met = |deployment: &DeploymentName| {
                    goal.deployments
                        .get(deployment)
                        .is_none_or(|wanted| is_met(wanted, observed.get(deployment)))
                };
                state.failed.retain(|deployment, _| !met(deployment));
            }
            (None, Ok(())) => {
                // Later tasks, if any, make it anew.
                let (queue, admissions) = (
                    std::mem::take(&mut state.queue),
                    std::mem::take(&mut state.admissions),
                );
                *state = EndpointState {
                    queue,
                    admissions,
                    ..EndpointState::default()
                };
            }
            (_, _) => {}
        }
        self.forget_gone(name);
        match task.purpose {
            Purpose::Operation(id) => self.conclude(id, task.outcome),
            Purpose::Recovery => self.recovered(name, task),
            Purpose::Repair => self.repaired(name, task.outcome.is_ok()),
        }
        if self.endpoints.get(name).is_some_and(|state| {
            !state.is_busy() && state.rules.is_none() && state.serving.is_empty()
        }) {
            self.endpoints.remove(name);
        }
    }

    /// A recovery that failed with one deployment goes on with the others. When all is done, the operations of before end.
    fn recovered(&mut self, name: &EndpointName, task: Task) {
        let Some(state) = self.endpoints.get_mut(name) else {
            return;
        };
        if task.outcome.is_err() {
            // Ends: each failure leaves one deployment less to start.
            state
                .queue
                .push_front(Task::new(Purpose::Recovery, task.revision, task.goal));
            return;
        }
        state.reason = state
            .failed
            .values()
            .next()
            .map(|failure| failure.reason.clone());
        let reason = state.reason.clone();
        self.recovering.remove(name);
        for operation in self
            .unfinished()
            .into_iter()
            .filter(|one| one.endpoint == *name && one.revision <= task.revision)
        {
            self.conclude(operation.id, reason.clone().map_or(Ok(()), Err));
        }
    }

    /// Takes instances that died out of the tables, and replaces them when their endpoint has nothing else to do.
    /// Whether there was anything to do.
    pub(super) fn on_health(&mut self) -> bool {
        let dead: Vec<_> = self
            .live
            .iter()
            .filter(|(_, live)| live.has_failed())
            .map(|(no, live)| (*no, live.endpoint.clone()))
            .collect();
        let anyone_died = !dead.is_empty();
        for (no, name) in dead {
            tracing::error!(endpoint = %name, "an instance died");
            if let Some(instance) = self.live.get_mut(&no).and_then(Live::take) {
                self.stop_on_thread(None, vec![(no, instance)]);
            }
            if let Some(state) = self.endpoints.get_mut(&name) {
                state
                    .serving
                    .values_mut()
                    .for_each(|serving| serving.retain(|other| *other != no));
            }
            self.publish_state(&name);
        }
        let now = Instant::now();
        let names: Vec<_> = self
            .endpoints
            .keys()
            .filter(|name| self.needs_repair(name, now))
            .cloned()
            .collect();
        let anyone_is_missed = !names.is_empty();
        for name in names {
            let rules = self
                .endpoints
                .get(&name)
                .and_then(|state| state.rules.clone());
            self.enqueue(name, Task::new(Purpose::Repair, self.revision, rules));
        }
        anyone_died || anyone_is_missed
    }

    /// Whether an idle endpoint runs less, or other, than its rules in force say, and it is time to mend that.
    fn needs_repair(&self, name: &EndpointName, now: Instant) -> bool {
        let Some(state) = self.endpoints.get(name) else {
            return false;
        };
        let Some(rules) = &state.rules else {
            return false;
        };
        if state.is_busy()
            || self.is_stopping()
            || state
                .repair
                .as_ref()
                .is_some_and(|repair| now < repair.not_before)
        {
            return false;
        }
        let observed = self.observed(name);
        rules.deployments.iter().any(|(deployment, wanted)| {
            state.failure(wanted).is_none() && !is_met(wanted, observed.get(deployment))
        })
    }

    fn repaired(&mut self, name: &EndpointName, well: bool) {
        let Some(state) = self.endpoints.get_mut(name) else {
            return;
        };
        let pause = match (&state.repair, well) {
            (Some(repair), false) => (repair.pause * 2).min(REPAIR_PAUSE_MAX),
            (_, _) => REPAIR_PAUSE_MIN,
        };
        state.repair = Some(Repair {
            pause,
            not_before: Instant::now() + pause,
        });
    }

    /// Takes everything out of service and waits for what was admitted.
    pub(super) fn retire_all(&mut self) {
        self.published.clear();
        self.router.publish(RoutingTable::new(Vec::new()));
        let names: Vec<_> = self.endpoints.keys().cloned().collect();
        for name in names {
            let Some(state) = self.endpoints.remove(&name) else {
                continue;
            };
            let ready: Vec<_> = self
                .live
                .iter()
                .filter(|(_, live)| live.endpoint == name)
                .map(|(no, _)| *no)
                .collect();
            self.drain_on_thread(&name, state.admissions.into_values().collect(), &ready);
        }
    }

    /// Deployments that failed and have no instance, and why.
    pub(super) fn unready(&self) -> BTreeMap<(EndpointName, DeploymentName), String> {
        let desired = self.shared.desired.load();
        let mut unready = BTreeMap::new();
        for (name, endpoint) in &desired.endpoints {
            let Some(state) = self.endpoints.get(name) else {
                continue;
            };
            for (deployment, wanted) in &endpoint.deployments {
                let serves = state
                    .serving
                    .get(deployment)
                    .is_some_and(|serving| !serving.is_empty());
                if let Some(failure) = state.failure(wanted).filter(|_| !serves) {
                    unready.insert((name.clone(), deployment.clone()), failure.reason.clone());
                }
            }
        }
        unready
    }
}

/// Whether a deployment runs just what is wanted.
pub(super) fn is_met(wanted: &WantedDeployment, running: Option<&Vec<Running>>) -> bool {
    let build = build_of(wanted);
    let running = running.map(Vec::as_slice).unwrap_or_default();
    running.len() == count_of(wanted) && running.iter().all(|one| one.build == build)
}

/// A deployment that an operation would give more traffic although it cannot answer, and why.
fn unserved(
    state: &EndpointState,
    task: &Task,
    goals: &Goals,
    observed: &Observed,
) -> Option<String> {
    let goal = task
        .goal
        .as_ref()
        .filter(|_| matches!(task.purpose, Purpose::Operation(_)))?;
    goal.spec
        .traffic
        .entries()
        .iter()
        .find_map(|(name, percent)| {
            let share_before = state
                .rules
                .as_ref()
                .map_or(Percent::ZERO, |rules| rules.spec.traffic.percent_of(name));
            let stays_empty = goals.get(name) == Some(&Goal::Keep)
                && observed.get(name).is_none_or(Vec::is_empty);
            let why = state
                .failed
                .get(name)
                .map_or("it failed to start", |failure| &failure.reason);
            (stays_empty && *percent > share_before)
                .then(|| format!("traffic names {name}, which has no ready instance: {why}"))
        })
}

//! The books: what should run, what does, and what is on its way. Data and questions about it; no effects.
//!
//! Changed by `reconcile` alone, event by event. An instance stands in the books from the moment it has cores until they are
//! free again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::build::{Aim, Build, InstanceNo, Need};
use crate::control::desired::{Desired, DesiredDeployment, DesiredEndpoint, Target};
use crate::control::event::{Facts, Key, NeedNotes, Shown, ShownDeployment};
use crate::control::models::ModelDigest;
use crate::control::operation::OperationId;
use crate::control::revision::Revision;
use crate::control::validator::{Unready, UnreadyDeployments};
use crate::engine::{Capacity, CoreGrant, CoreMap};
use crate::spec::{DeploymentName, EndpointName, Percent, Queueing};

/// Everything that the reconciler knows.
#[derive(Debug)]
pub(super) struct Books {
    /// As it is on disk.
    pub(super) desired: Arc<Desired>,
    pub(super) cores: CoreMap,
    pub(super) deployments: BTreeMap<Key, DeploymentBook>,
    /// Changed in place; added and taken out by [`Books::add`] and [`Books::take_out`].
    pub(super) instances: BTreeMap<InstanceNo, InstanceBook>,
    /// Their numbers by deployment: an event looks at every deployment, so one must not cost a look at the instances of all.
    numbers: BTreeMap<Key, BTreeSet<InstanceNo>>,
    pub(super) needs: BTreeMap<Need, NeedBook>,
    /// Models that were tried, now or by an earlier process, and are good.
    pub(super) probed: BTreeSet<ModelDigest>,
    /// Models that have killed a server, and how: they are to run in processes of their own.
    pub(super) isolated: BTreeMap<ModelDigest, String>,
    /// Operations that have not ended.
    pub(super) operations: BTreeMap<OperationId, OperationBook>,
    /// Endpoints as requests see them.
    pub(super) shown: BTreeMap<EndpointName, Shown>,
    /// Endpoints that are deleted and whose instances have not ended.
    pub(super) leaving: BTreeMap<EndpointName, DesiredEndpoint>,
    next_no: InstanceNo,
    pub(super) stopping: bool,
}

/// One deployment on its way and in trouble. What it should run stands in the desired state.
#[derive(Debug, Default)]
pub(super) struct DeploymentBook {
    pub(super) attempt: Option<Attempt>,
    /// The reason why its target does not run, if it was tried.
    pub(super) failure: Option<Failure>,
    /// The reason why an instance of the last good target did not start, until one does.
    pub(super) trouble: Option<String>,
    /// No instance of the last good target is started before.
    pub(super) repair: Option<Repair>,
    /// The process has started, and no instance of the last good target has been ready or has failed yet.
    pub(super) recovering: bool,
    /// The last operation that spoke of it: instances that leave do so on its account.
    pub(super) operation: Option<OperationId>,
}

/// The way to a new target.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Whoever waits for it; nobody when an earlier failure is tried again after a restart.
    pub(super) operation: Option<OperationId>,
    pub(super) touched: Revision,
    pub(super) aim: Aim,
    /// Whether there was no room for all new instances at once. Then each is shown when it is ready, and takes the place of an
    /// old one; otherwise they are shown together when the last is ready.
    pub(super) one_by_one: bool,
    /// Whether all are ready, and that is being made durable.
    pub(super) settling: bool,
}

/// An update that failed: the target of which change, and why.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) touched: Revision,
    pub(super) reason: String,
}

/// The pause before an instance is replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repair {
    pub(super) pause: Duration,
    pub(super) not_before: Instant,
}

/// One instance.
#[derive(Debug)]
pub(super) struct InstanceBook {
    pub(super) key: Key,
    pub(super) build: Build,
    pub(super) cores: CoreGrant,
    pub(super) facts: Facts,
    pub(super) phase: Phase,
}

/// The life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting {
        since: Instant,
    },
    /// Nobody waits for it any more, but its start cannot be ended: whatever comes of it is stopped.
    Abandoned,
    /// Ready; whether requests see it stands in what is shown.
    Ready,
    /// It drains or stops.
    Leaving,
}

/// One model or environment, from the moment it is tried or built until no instance has it.
#[derive(Debug)]
pub(super) enum NeedBook {
    /// Child processes try and prepare, or build.
    Trying {
        since: Instant,
        trial: Trial,
        /// The step that it has come to, where that was told.
        stage: Option<String>,
    },
    Ready(NeedNotes),
}

/// The use of a trial that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Somebody waits for it.
    Wanted,
    /// Nobody does, and it was told to end. Whoever wants the model again waits for that, and then has it tried anew.
    Ended,
    /// It took too long, and whoever waited has failed.
    Overdue,
}

/// One operation that has not ended.
#[derive(Debug)]
pub(super) struct OperationBook {
    pub(super) endpoint: EndpointName,
    /// Deployments of which an attempt is under way on its account.
    pub(super) parts: BTreeSet<DeploymentName>,
    /// Whether it has brought a split that is neither in force nor dropped.
    pub(super) split: bool,
    /// Instances that leave on its account.
    pub(super) leaving: BTreeSet<InstanceNo>,
    pub(super) failure: Option<String>,
    pub(super) canceled: Option<String>,
}

impl OperationBook {
    pub(super) fn new(endpoint: EndpointName) -> Self {
        Self {
            endpoint,
            parts: BTreeSet::new(),
            split: false,
            leaving: BTreeSet::new(),
            failure: None,
            canceled: None,
        }
    }

    /// Whether all that it asked for has come about, one way or another.
    pub(super) fn has_ended(&self) -> bool {
        self.parts.is_empty() && !self.split && self.leaving.is_empty()
    }
}

impl InstanceBook {
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }

    /// Whether it runs on when the other one has come to serve: it does not leave, and neither of the two replaces the other.
    fn stays_beside(&self, other: &Self) -> bool {
        let leaves = matches!(self.phase, Phase::Abandoned | Phase::Leaving);
        let replaced = self.key == other.key && self.build != other.build;
        !leaves && !replaced
    }
}

impl Books {
    pub(super) fn new(
        desired: Arc<Desired>,
        cores: CoreMap,
        probed: impl IntoIterator<Item = ModelDigest>,
    ) -> Self {
        Self {
            desired,
            cores,
            deployments: BTreeMap::new(),
            instances: BTreeMap::new(),
            numbers: BTreeMap::new(),
            needs: BTreeMap::new(),
            probed: probed.into_iter().collect(),
            isolated: BTreeMap::new(),
            operations: BTreeMap::new(),
            shown: BTreeMap::new(),
            leaving: BTreeMap::new(),
            next_no: InstanceNo(1),
            stopping: false,
        }
    }

    /// The deployment as it should be.
    pub(super) fn wanted(&self, key: &Key) -> Option<&DesiredDeployment> {
        self.desired.deployment(&key.endpoint, &key.deployment)
    }

    /// Enters an instance, and gives its number.
    pub(super) fn add(&mut self, one: InstanceBook) -> InstanceNo {
        let no = self.next_no;
        self.next_no = InstanceNo(no.0 + 1);
        self.numbers.entry(one.key.clone()).or_default().insert(no);
        self.instances.insert(no, one);
        no
    }

    /// Strikes an instance out.
    pub(super) fn take_out(&mut self, no: InstanceNo) -> Option<InstanceBook> {
        let one = self.instances.remove(&no)?;
        if let Some(numbers) = self.numbers.get_mut(&one.key) {
            numbers.remove(&no);
            if numbers.is_empty() {
                self.numbers.remove(&one.key);
            }
        }
        Some(one)
    }

    /// The instances of a deployment, oldest first.
    pub(super) fn instances_of(
        &self,
        key: &Key,
    ) -> impl Iterator<Item = (InstanceNo, &InstanceBook)> {
        let numbers = self.numbers.get(key).into_iter().flatten();
        numbers.filter_map(|no| Some((*no, self.instances.get(no)?)))
    }

    /// The death of a server by the model of a build. A script runs in processes of its own as it is.
    pub(super) fn isolation_of(&self, build: &Build) -> Option<&String> {
        let death = self.isolated.get(&build.model);
        death.filter(|_| build.script.is_none())
    }

    /// Whether an instance of the endpoint is there.
    pub(super) fn has_instances(&self, endpoint: &EndpointName) -> bool {
        self.numbers.keys().any(|key| key.endpoint == *endpoint)
    }

    /// The instances of a deployment that requests see.
    pub(super) fn shown_of(&self, key: &Key) -> &[InstanceNo] {
        let shown = self.shown.get(&key.endpoint);
        let mut deployments = shown.iter().flat_map(|shown| &shown.deployments);
        deployments
            .find(|one| one.name == key.deployment)
            .map(|one| one.instances.as_slice())
            .unwrap_or_default()
    }

    /// Whether requests could feel it when something else takes the cores.
    pub(super) fn serves(&self) -> bool {
        self.instances.values().any(InstanceBook::is_ready)
    }

    /// Whether an instance that stays beside this one, also one of another control plane in this process, has some of its cores.
    pub(super) fn shares_cores(&self, no: InstanceNo) -> bool {
        let Some(one) = self.instances.get(&no) else {
            return false;
        };
        let mut own = self.instances.iter();
        let shares = own.any(|(other_no, other)| {
            *other_no != no && other.stays_beside(one) && other.cores.overlaps(&one.cores)
        });
        shares || self.cores.others_have_some_of(&one.cores)
    }

    /// Cores that may be given to new instances; none where they are shared when they run out.
    pub(super) fn room(&self) -> Option<usize> {
        match self.cores.capacity() {
            Capacity::Overcommit => None,
            Capacity::Strict => Some(self.cores.total_and_free().1),
        }
    }

    /// Whether something is under way after which more cores may be free.
    pub(super) fn is_in_motion(&self) -> bool {
        self.instances.values().any(|one| one.phase != Phase::Ready)
    }

    /// Whether an operation of the endpoint has not ended.
    pub(super) fn is_busy(&self, endpoint: &EndpointName) -> bool {
        self.operations
            .values()
            .any(|operation| operation.endpoint == *endpoint)
    }

    /// Operations that will not do all they were to do when this is desired: an endpoint is as a newer change makes it.
    pub(super) fn overtaken(&self, next: &Desired, endpoint: &EndpointName) -> Vec<OperationId> {
        let bringer = |desired: &Desired| {
            let pending = desired.endpoints.get(endpoint)?.pending.as_ref();
            pending.map(|pending| pending.revision)
        };
        // That of one which has failed may wait still, where its end could not be stored.
        let (before, after) = (bringer(&self.desired), bringer(next));
        let operations = self.operations.iter();
        let overtaken = operations.filter(|(id, operation)| {
            let is_mine = |revision: Revision| revision.0 == id.0;
            let split_goes = before.is_some_and(is_mine) && !after.is_some_and(is_mine);
            let mut parts = operation.parts.iter();
            let part_goes = parts.any(|name| {
                let one = next.deployment(endpoint, name);
                !one.is_some_and(|one| is_mine(one.target.touched))
            });
            operation.endpoint == *endpoint && (split_goes || part_goes)
        });
        overtaken.map(|(id, _)| *id).collect()
    }

    /// Whether everything that was good when the process started serves again, or has failed to.
    pub(super) fn has_recovered(&self) -> bool {
        self.deployments.iter().all(|(key, book)| {
            let good = self.wanted(key).and_then(|one| one.last_good.as_ref());
            let count = good.map_or(0, |good| good.aim().count);
            book.trouble.is_some() || (!book.recovering && self.shown_of(key).len() >= count)
        })
    }

    /// Whether some deployment that has traffic serves.
    pub(super) fn serves_traffic(&self) -> bool {
        self.shown.values().any(|shown| {
            let mut deployments = shown.deployments.iter();
            deployments.any(|one| {
                !one.instances.is_empty()
                    && shown.spec.traffic.percent_of(&one.name) > Percent::ZERO
            })
        })
    }

    /// Whether requests see just the instances of an aim.
    pub(super) fn is_met(&self, key: &Key, aim: &Aim) -> bool {
        let shown = self.shown_of(key);
        let is_of_aim = |no| {
            self.instances
                .get(no)
                .is_some_and(|one| one.build == aim.build)
        };
        shown.len() == aim.count && shown.iter().all(is_of_aim)
    }

    /// The reason why the target of a deployment does not run, if it was tried and failed.
    pub(super) fn failure(&self, key: &Key, target: &Target) -> Option<&Failure> {
        let book = self.deployments.get(key)?;
        let failure = book.failure.as_ref();
        failure.filter(|failure| failure.touched == target.touched)
    }

    /// Deployments without a ready instance, and why.
    pub(super) fn unready(&self) -> UnreadyDeployments {
        let mut unready = UnreadyDeployments::new();
        for (endpoint, one) in self.desired.deployments() {
            let key = Key {
                endpoint: endpoint.spec.name.clone(),
                deployment: one.target.spec.name.clone(),
            };
            if self.shown_of(&key).is_empty() {
                let why = self.why_unready(&key, one);
                unready.insert((key.endpoint, key.deployment), why);
            }
        }
        unready
    }

    /// The reason why a deployment has no instance that requests see.
    pub(super) fn why_unready(&self, key: &Key, wanted: &DesiredDeployment) -> Unready {
        let book = self.deployments.get(key);
        let operation = book
            .and_then(|book| book.attempt.as_ref())
            .map(|attempt| attempt.operation);
        let failure = self.failure(key, &wanted.target);
        let trouble = book.and_then(|book| book.trouble.as_ref());
        let why = match (operation, failure, trouble) {
            (Some(Some(id)), ..) => format!("operation {id} still starts it: wait for its end"),
            (_, Some(failure), _) => failure.reason.clone(),
            (_, _, Some(trouble)) => format!("deployment {}: {trouble}", key.deployment),
            (..) => "it still starts".to_owned(),
        };
        Unready {
            starting: operation.is_some() || failure.is_none(),
            why,
        }
    }

    /// An endpoint as requests should see it, when its deployments serve with these instances.
    pub(super) fn show(
        &self,
        wanted: &DesiredEndpoint,
        serving: &BTreeMap<Key, Vec<InstanceNo>>,
    ) -> Shown {
        let mut deployments = Vec::new();
        for (name, one) in &wanted.deployments {
            let key = Key {
                endpoint: wanted.spec.name.clone(),
                deployment: name.clone(),
            };
            let instances = serving.get(&key).cloned().unwrap_or_default();
            // One that never was ready is not there yet, as far as requests know.
            let has_traffic = wanted.spec.traffic.percent_of(name) > Percent::ZERO;
            let is_there = has_traffic || !instances.is_empty();
            let rules = one.last_good.as_deref();
            let Some(rules) = rules.or_else(|| is_there.then_some(&one.target)) else {
                continue;
            };
            let concurrency = |no: &InstanceNo| {
                let build = self.instances.get(no).map(|one| one.build.concurrency);
                usize::try_from(build.unwrap_or(0)).unwrap_or(usize::MAX)
            };
            let build = |no: &InstanceNo| self.instances.get(no).map(|one| one.build.clone());
            let slots = instances.iter().map(concurrency).sum();
            let settings = rules.spec.request_settings();
            deployments.push(ShownDeployment {
                name: name.clone(),
                build: instances.last().and_then(build),
                slots,
                request_timeout: settings.request_timeout(),
                waiting_max: waiting_max(settings.queueing(), slots, instances.len()),
                instances,
            });
        }
        Shown {
            spec: wanted.spec.clone(),
            generations: wanted.generations,
            deployments,
            cohorts: wanted.cohorts.clone(),
        }
    }
}

/// Most requests that may wait for so many slots, of so many instances; without a number all of them.
pub(super) fn waiting_max(queueing: Queueing, slots: usize, instances: usize) -> Option<usize> {
    match queueing {
        Queueing::PerSlot => Some(slots),
        Queueing::Waiting(each) => {
            let each = usize::try_from(each).unwrap_or(usize::MAX);
            Some(each.saturating_mul(instances))
        }
        Queueing::Unbounded => None,
    }
}

//! The reconciler: from an event to what is to be done about it. Pure; time is an argument.
//!
//! [`on`] takes an event into the books and then compares what is with what should be, for every deployment by itself: which of
//! its instances requests should see, which have had their day, which are missing. What differs becomes commands. So nothing is
//! remembered of a way once planned, and a newer change needs no undoing of an older one.
//!
//! Two speeds: what requests see of the rules (split, credentials, timeouts) follows from the desired state and is published with
//! the event that brings it; instances follow when they are ready. A new target is shown only when it is durable that it is good
//! ([`Command::Settle`]), together with the split of the same change.
//!
//! Not here: how a command is carried out (`work`), what a change means (`apply`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{
    ENVIRONMENT_READY_MAX, MODEL_READY_MAX, REPAIR_PAUSE_MAX, REPAIR_PAUSE_MIN, START_MAX,
};
use crate::control::books::{
    Attempt, Books, DeploymentBook, Failure, InstanceBook, NeedBook, OperationBook, Phase, Repair,
    Trial,
};
use crate::control::build::{Aim, InstanceNo, Need};
use crate::control::desired::{
    Desired, DesiredDeployment, DesiredEndpoint, Settlement, SplitOutcome,
};
use crate::control::event::{Command, Event, Facts, Key, NeedNotes, NewInstance, Outcome};
use crate::control::operation::{Operation, OperationId, replaced_by};
use crate::control::revision::Revision;
use crate::control::split_rule;
use crate::engine::CoreGrant;
use crate::spec::{DeploymentName, EndpointName};

/// Takes an event into the books, and says what is to be done now.
pub(super) fn on(books: &mut Books, event: Event, now: Instant) -> Vec<Command> {
    let mut turn = Turn {
        books,
        now,
        commands: Vec::new(),
        draining: BTreeMap::new(),
        dead: Vec::new(),
    };
    turn.take_in(event);
    turn.converge();
    turn.commands
}

/// One event on its way through the books.
struct Turn<'a> {
    books: &'a mut Books,
    now: Instant,
    commands: Vec<Command>,
    /// Instances that leave with this event, by deployment.
    draining: BTreeMap<Key, Vec<InstanceNo>>,
    /// Instances that nobody may wait for.
    dead: Vec<InstanceNo>,
}

/// The instances of a deployment in the light of its aims.
struct Ranks {
    /// Those that requests should see, oldest first.
    serve: Vec<InstanceNo>,
    /// Those that stay: the ones above, and the ready ones of an attempt that is not complete.
    keep: BTreeSet<InstanceNo>,
}

impl Turn<'_> {
    fn take_in(&mut self, event: Event) {
        match event {
            Event::Recover { unfinished } => self.recover(&unfinished),
            Event::Accepted {
                operation,
                endpoint,
                desired,
            } => {
                let before = std::mem::replace(&mut self.books.desired, desired);
                self.accepted(operation, &endpoint);
                self.show_until_gone(&before, &endpoint);
            }
            Event::Settled {
                settlement,
                outcome,
            } => match outcome {
                Ok(desired) => {
                    self.books.desired = desired;
                    self.settled(&settlement);
                }
                Err(reason) => self.not_settled(&settlement, &reason),
            },
            Event::Stage { need, stage } => self.stage(&need, stage),
            Event::NeedReady { need, outcome } => self.need_ready(&need, outcome),
            Event::Started { no, outcome } => self.started(no, outcome),
            Event::Died(no) => self.died(no),
            Event::Troubled { no, what } => {
                if let Some(one) = self.books.instances.get_mut(&no) {
                    one.facts.troubles = Some(what);
                }
            }
            Event::Retired(instances) => self.retired(&instances),
            Event::Tick => self.tick(),
            Event::Shutdown => self.shutdown(),
        }
    }

    // What should be.

    fn recover(&mut self, unfinished: &[Operation]) {
        let desired = Arc::clone(&self.books.desired);
        for (endpoint, one) in desired.deployments() {
            let id = OperationId(one.target.touched.0);
            let operation = unfinished.iter().any(|open| open.id == id).then_some(id);
            let book = DeploymentBook {
                attempt: (!one.is_good()).then(|| Attempt::new(one, operation)),
                recovering: one.last_good.is_some(),
                operation,
                ..DeploymentBook::default()
            };
            let key = key_of(&endpoint.spec.name, &one.target.spec.name);
            self.books.deployments.insert(key, book);
        }
        for open in unfinished {
            let book = self.reopen(open, desired.endpoints.get(&open.endpoint));
            self.books.operations.insert(open.id, book);
        }
    }

    /// The book of an operation that an earlier process left open.
    fn reopen(&mut self, open: &Operation, wanted: Option<&DesiredEndpoint>) -> OperationBook {
        let mut book = OperationBook::new(open.endpoint.clone());
        // Stored with the change that overtook it.
        book.canceled.clone_from(&open.reason);
        let Some(wanted) = wanted else {
            // Nothing runs yet, so what should be gone is gone.
            return book;
        };
        let touched = |one: &&DesiredDeployment| one.target.touched == open.revision;
        let mine = wanted.deployments.values().filter(touched);
        let mine = mine.filter(|one| !one.is_good());
        book.parts = mine.map(|one| one.target.spec.name.clone()).collect();
        let pending = wanted.pending.as_ref();
        if pending.is_some_and(|pending| pending.revision == open.revision) {
            book.split = !book.parts.is_empty();
            if !book.split {
                book.failure = Some("the server ended before its split came in force".to_owned());
                self.drop_split(&open.endpoint, open.revision, book.failure.clone());
            }
        }
        // Earlier releases did not store it.
        let overtaken = open
            .deployments
            .iter()
            .filter_map(|name| wanted.deployments.get(name))
            .map(|one| one.target.touched)
            .find(|touched| *touched > open.revision);
        if let Some(newer) = overtaken {
            let by = || replaced_by(OperationId(newer.0));
            book.canceled.get_or_insert_with(by);
        }
        book
    }

    fn accepted(&mut self, id: OperationId, endpoint: &EndpointName) {
        let desired = Arc::clone(&self.books.desired);
        let wanted = desired.endpoints.get(endpoint);
        let mut operation = OperationBook::new(endpoint.clone());
        let revision = Revision(id.0);
        if let Some(wanted) = wanted {
            self.books.leaving.remove(endpoint);
            let touched = wanted.deployments.values();
            for one in touched.filter(|one| one.target.touched == revision) {
                self.begin(id, endpoint, one, &mut operation);
            }
            operation.split = wanted
                .pending
                .as_ref()
                .is_some_and(|p| p.revision == revision);
        }
        // A split that waited and does so no more has met a newer one, or a change of what it waited for.
        let waits = wanted.and_then(|wanted| wanted.pending.as_ref());
        let waits = waits.map(|pending| OperationId(pending.revision.0));
        for (older, book) in &mut self.books.operations {
            if book.endpoint == *endpoint && book.split && Some(*older) != waits {
                book.split = false;
                book.canceled.get_or_insert_with(|| replaced_by(id));
            }
        }
        self.books.operations.insert(id, operation);
        self.drop_undesired(endpoint, id);
    }

    /// An endpoint that was deleted is told of until its instances have ended.
    fn show_until_gone(&mut self, before: &Desired, endpoint: &EndpointName) {
        if !self.books.desired.endpoints.contains_key(endpoint)
            && let Some(gone) = before.endpoints.get(endpoint)
            && self.books.has_instances(endpoint)
        {
            self.books.leaving.insert(endpoint.clone(), gone.clone());
        }
    }

    /// Begins the way to the target that a change gave to a deployment.
    fn begin(
        &mut self,
        id: OperationId,
        endpoint: &EndpointName,
        one: &DesiredDeployment,
        operation: &mut OperationBook,
    ) {
        let name = &one.target.spec.name;
        let key = key_of(endpoint, name);
        let book = self.books.deployments.entry(key).or_default();
        let before = book.attempt.take();
        book.failure = None;
        book.operation = Some(id);
        // Somebody takes care of it: the new target need not wait for what was before.
        book.recovering = false;
        if !one.is_good() {
            let mut attempt = Attempt::new(one, Some(id));
            // Instances that start already are taken over.
            let same = before
                .as_ref()
                .filter(|old| old.aim.build == attempt.aim.build);
            attempt.one_by_one = same.is_some_and(|old| old.one_by_one);
            book.attempt = Some(attempt);
            operation.parts.insert(name.clone());
        }
        if let Some(older) = before.and_then(|before| before.operation) {
            self.cancel_part(older, name, id);
        }
    }

    fn cancel_part(&mut self, older: OperationId, name: &DeploymentName, newer: OperationId) {
        if let Some(book) = self.books.operations.get_mut(&older)
            && book.parts.remove(name)
        {
            book.canceled.get_or_insert_with(|| replaced_by(newer));
        }
    }

    /// Lets go of deployments that should not be any more.
    fn drop_undesired(&mut self, endpoint: &EndpointName, id: OperationId) {
        let gone: Vec<_> = self
            .books
            .deployments
            .keys()
            .filter(|key| key.endpoint == *endpoint && self.books.wanted(key).is_none())
            .cloned()
            .collect();
        for key in gone {
            let book = self.books.deployments.remove(&key);
            let attempt = book.and_then(|book| book.attempt);
            if let Some(older) = attempt.and_then(|attempt| attempt.operation) {
                self.cancel_part(older, &key.deployment, id);
            }
            self.let_go(&key, &BTreeSet::new(), Some(id));
        }
    }

    fn settled(&mut self, settlement: &Settlement) {
        let id = OperationId(settlement.revision.0);
        if let Some(name) = &settlement.good {
            let key = key_of(&settlement.endpoint, name);
            if let Some(book) = self.books.deployments.get_mut(&key)
                && book
                    .attempt
                    .take_if(|one| one.touched == settlement.revision)
                    .is_some()
            {
                book.failure = None;
                book.trouble = None;
                book.repair = None;
                book.recovering = false;
            }
            if let Some(operation) = self.books.operations.get_mut(&id) {
                operation.parts.remove(name);
            }
        }
        if settlement.split != SplitOutcome::Waits
            && let Some(operation) = self.books.operations.get_mut(&id)
        {
            operation.split = false;
        }
        self.drop_undesired(&settlement.endpoint, id);
    }

    /// It is ready and not durable: it is not shown, for a restart would not know it.
    fn not_settled(&mut self, settlement: &Settlement, reason: &str) {
        let reason = format!("its instances are ready, but that could not be stored: {reason}");
        if let Some(name) = &settlement.good {
            let key = key_of(&settlement.endpoint, name);
            let book = self.books.deployments.get(&key);
            let attempt = book.and_then(|book| book.attempt.as_ref());
            if attempt.is_some_and(|one| one.touched == settlement.revision) {
                self.fail(&key, reason);
            }
        } else if let Some(operation) = self
            .books
            .operations
            .get_mut(&OperationId(settlement.revision.0))
        {
            // Never in force in this process all the same; it is dropped from the store as soon as that can be.
            operation.split = false;
        }
    }

    fn drop_split(&mut self, endpoint: &EndpointName, revision: Revision, failure: Option<String>) {
        self.commands.push(Command::Settle {
            settlement: Settlement {
                endpoint: endpoint.clone(),
                revision,
                good: None,
                split: SplitOutcome::Dropped,
            },
            failure,
        });
    }

    // What happens to models, environments and instances.

    fn stage(&mut self, need: &Need, now: String) {
        if let Some(NeedBook::Trying { stage, .. }) = self.books.needs.get_mut(need) {
            *stage = Some(now);
        }
    }

    fn need_ready(&mut self, need: &Need, outcome: Result<NeedNotes, String>) {
        match outcome {
            Ok(notes) => {
                if let Need::Model(model) = need {
                    self.books.probed.insert(model.clone());
                }
                self.books
                    .needs
                    .insert(need.clone(), NeedBook::Ready(notes));
            }
            Err(reason) => {
                let trial = match self.books.needs.remove(need) {
                    Some(NeedBook::Trying { trial, .. }) => Some(trial),
                    Some(NeedBook::Ready(_)) | None => None,
                };
                // One that was ended says nothing of the model: who wants it again has it tried again.
                if trial == Some(Trial::Wanted) {
                    self.need_failed(need, &reason);
                }
            }
        }
    }

    /// A model cannot be loaded, or an environment not be built, so nothing that misses an instance for it gets one now.
    fn need_failed(&mut self, need: &Need, reason: &str) {
        let keys: Vec<_> = self.books.deployments.keys().cloned().collect();
        for key in keys {
            let misses = |aim: &Aim| aim.build.need() == *need && self.missing(&key, aim) > 0;
            let attempt = self.active(&key).map(|attempt| attempt.aim.clone());
            let base = self.base(&key);
            let (attempt_misses, base_misses) = (
                attempt.as_ref().is_some_and(&misses),
                base.as_ref().is_some_and(&misses),
            );
            if attempt_misses {
                self.fail(&key, reason.to_owned());
            }
            if base_misses {
                self.base_failed(&key, reason);
            }
        }
    }

    fn started(&mut self, no: InstanceNo, outcome: Result<Facts, String>) {
        let Some(one) = self.books.instances.get_mut(&no) else {
            return;
        };
        let awaited = one.is_starting();
        match outcome {
            Ok(facts) if awaited => {
                one.facts = facts;
                one.phase = Phase::Ready;
                let (key, aim_is_good) = (one.key.clone(), self.is_of_base(no));
                if aim_is_good && let Some(book) = self.books.deployments.get_mut(&key) {
                    book.recovering = false;
                    book.trouble = None;
                    // One that dies as soon as it serves is not replaced in a loop.
                    book.repair = Some(Repair {
                        pause: REPAIR_PAUSE_MIN,
                        not_before: self.now + REPAIR_PAUSE_MIN,
                    });
                }
            }
            // Nobody waits for it any more.
            Ok(_) => {
                one.phase = Phase::Leaving;
                self.dead.push(no);
            }
            Err(reason) => {
                if awaited {
                    self.start_failed(no, reason);
                }
                self.forget(no);
            }
        }
    }

    /// Whether an instance is one of the last good target, and not of an attempt alone.
    fn is_of_base(&self, no: InstanceNo) -> bool {
        let one = self.books.instances.get(&no);
        one.is_some_and(|one| {
            let base = self.base(&one.key);
            base.is_some_and(|base| base.build == one.build)
        })
    }

    fn start_failed(&mut self, no: InstanceNo, reason: String) {
        let Some(one) = self.books.instances.get(&no) else {
            return;
        };
        let key = one.key.clone();
        let of_attempt = self
            .active(&key)
            .is_some_and(|attempt| attempt.aim.build == one.build);
        if of_attempt {
            self.fail(&key, reason);
        } else if self.is_of_base(no) {
            self.base_failed(&key, &reason);
        }
    }

    fn died(&mut self, no: InstanceNo) {
        let Some(one) = self.books.instances.get_mut(&no) else {
            return;
        };
        if one.phase != Phase::Ready {
            return;
        }
        one.phase = Phase::Leaving;
        let (key, build) = (one.key.clone(), one.build.clone());
        self.dead.push(no);
        // A new target whose instances die is not good, and an operation that waits for them would never end.
        let of_attempt = |attempt: &Attempt| attempt.aim.build == build;
        if self.active(&key).is_some_and(of_attempt) {
            self.fail(
                &key,
                "an instance died before the change was done".to_owned(),
            );
        }
    }

    fn retired(&mut self, instances: &[InstanceNo]) {
        for no in instances {
            self.forget(*no);
        }
    }

    fn forget(&mut self, no: InstanceNo) {
        let Some(gone) = self.books.take_out(no) else {
            return;
        };
        self.books.cores.release(&gone.cores);
        for operation in self.books.operations.values_mut() {
            operation.leaving.remove(&no);
        }
        let endpoint = &gone.key.endpoint;
        if !self.books.has_instances(endpoint) {
            self.books.leaving.remove(endpoint);
        }
    }

    fn tick(&mut self) {
        let late = |since: Instant, bound: Duration| self.now.duration_since(since) > bound;
        let overdue: Vec<_> = self
            .books
            .instances
            .iter()
            .filter(
                |(_, one)| matches!(one.phase, Phase::Starting { since } if late(since, START_MAX)),
            )
            .map(|(no, _)| *no)
            .collect();
        let stuck: Vec<_> = self
            .books
            .needs
            .iter()
            .filter(|(need, book)| {
                matches!(book, NeedBook::Trying { since, trial: Trial::Wanted, .. } if late(*since, ready_max(need)))
            })
            .map(|(need, _)| need.clone())
            .collect();
        for no in overdue {
            let reason = format!("an instance was not ready within {} s", START_MAX.as_secs());
            self.start_failed(no, reason);
            if let Some(one) = self.books.instances.get_mut(&no) {
                one.phase = Phase::Abandoned;
            }
        }
        for need in stuck {
            if let Some(NeedBook::Trying { trial, .. }) = self.books.needs.get_mut(&need) {
                *trial = Trial::Overdue;
            }
            let what = match need {
                Need::Model(_) => "the model was not tried and prepared",
                Need::Environment(_) => "the environment was not built",
            };
            let reason = format!("{what} within {} s", ready_max(&need).as_secs());
            self.need_failed(&need, &reason);
        }
        self.drop_stale_splits();
    }

    /// Drops splits whose operation has ended without them, where that could not be stored at once.
    fn drop_stale_splits(&mut self) {
        let stale: Vec<_> = self
            .books
            .desired
            .endpoints
            .values()
            .filter_map(|one| Some((one.spec.name.clone(), one.pending.as_ref()?.revision)))
            .filter(|(_, revision)| {
                let operation = self.books.operations.get(&OperationId(revision.0));
                operation.is_none_or(|operation| !operation.split)
            })
            .collect();
        for (endpoint, revision) in stale {
            // One that has failed and waits for what it started to end: a restart must not try it again without its split.
            let operation = self.books.operations.get(&OperationId(revision.0));
            let failure = operation.and_then(|operation| operation.failure.clone());
            self.drop_split(&endpoint, revision, failure);
        }
    }

    fn shutdown(&mut self) {
        self.books.stopping = true;
        let keys: BTreeSet<_> = self
            .books
            .instances
            .values()
            .map(|one| one.key.clone())
            .collect();
        for key in keys {
            self.let_go(&key, &BTreeSet::new(), None);
        }
        self.books.deployments.clear();
    }

    // What fails.

    /// The attempt of a deployment has failed: what was good goes on, or comes back.
    fn fail(&mut self, key: &Key, reason: String) {
        let reason = format!("deployment {}: {reason}", key.deployment);
        let Some(book) = self.books.deployments.get_mut(key) else {
            return;
        };
        let Some(attempt) = book.attempt.take() else {
            return;
        };
        book.failure = Some(Failure {
            touched: attempt.touched,
            reason: reason.clone(),
        });
        let wanted = self.books.desired.endpoints.get(&key.endpoint);
        let has_traffic = wanted.is_some_and(|wanted| !wanted.spec.traffic.is_empty());
        let operation = attempt
            .operation
            .and_then(|id| self.books.operations.get_mut(&id));
        if let Some(operation) = operation {
            operation.parts.remove(&key.deployment);
            let had_split = std::mem::take(&mut operation.split);
            operation
                .failure
                .get_or_insert(if had_split && has_traffic {
                    format!("{reason}; the traffic stays as it was")
                } else {
                    reason
                });
            if had_split {
                let failure = operation.failure.clone();
                self.drop_split(&key.endpoint, attempt.touched, failure);
            }
        }
    }

    /// An instance of the last good target did not start: it is tried again, after a pause that grows.
    fn base_failed(&mut self, key: &Key, reason: &str) {
        let now = self.now;
        if let Some(book) = self.books.deployments.get_mut(key) {
            let pause = match (&book.trouble, book.repair) {
                (Some(_), Some(repair)) if repair.not_before > now => repair.pause,
                (Some(_), Some(repair)) => (repair.pause * 2).min(REPAIR_PAUSE_MAX),
                (_, _) => REPAIR_PAUSE_MIN,
            };
            book.repair = Some(Repair {
                pause,
                not_before: now + pause,
            });
            book.trouble = Some(reason.to_owned());
            book.recovering = false;
        }
    }

    /// The machine has become smaller, or others have the cores: nothing is under way that would change that, so nothing waits
    /// for it. It starts with the first cores that are free.
    fn base_has_no_room(&mut self, key: &Key, vcpus: usize) {
        let problem = self.no_room(vcpus);
        if let Some(book) = self.books.deployments.get_mut(key) {
            book.trouble = Some(problem);
            book.recovering = false;
        }
    }

    fn no_room(&self, vcpus: usize) -> String {
        let (total, free) = self.books.cores.total_and_free();
        format!(
            "not enough cores: an instance asks for {vcpus} vCPUs, {free} of {total} are free; lower instance_count, choose a \
             smaller instance_type, or let instances share cores (capacity `overcommit`)"
        )
    }

    // What differs.

    fn converge(&mut self) {
        if !self.books.stopping {
            loop {
                self.complete();
                self.part_with_surplus();
                if !self.start_missing() {
                    break;
                }
            }
        }
        self.publish();
        self.retire();
        self.forget_needs();
        self.conclude();
    }

    /// The attempt of a deployment, unless it waits for what was good before.
    fn active(&self, key: &Key) -> Option<&Attempt> {
        let book = self.books.deployments.get(key)?;
        book.attempt.as_ref().filter(|_| !book.recovering)
    }

    /// The instances that serve whatever else fails.
    fn base(&self, key: &Key) -> Option<Aim> {
        let wanted = self.books.wanted(key)?;
        wanted.last_good.as_ref().map(|good| good.aim())
    }

    /// Instances of an aim that are neither ready nor starting.
    fn missing(&self, key: &Key, aim: &Aim) -> usize {
        let there = self
            .books
            .instances_of(key)
            .filter(|(_, one)| one.build == aim.build && (one.is_ready() || one.is_starting()));
        aim.count.saturating_sub(there.count())
    }

    fn ready(&self, key: &Key, of: impl Fn(&InstanceBook) -> bool) -> Vec<InstanceNo> {
        let ready = self.books.instances_of(key);
        ready
            .filter(|(_, one)| one.is_ready() && of(one))
            .map(|(no, _)| no)
            .collect()
    }

    /// Attempts whose instances are all ready become durable.
    fn complete(&mut self) {
        let keys: Vec<_> = self.books.deployments.keys().cloned().collect();
        for key in keys {
            let Some(attempt) = self.active(&key).filter(|attempt| !attempt.settling) else {
                continue;
            };
            // One part of an operation after the other, so that the last knows what became of the rest.
            if self.is_settling(attempt.operation) || self.awaits_recovery(&key.endpoint, attempt) {
                continue;
            }
            let aim = &attempt.aim;
            if self.ready(&key, |one| one.build == aim.build).len() < aim.count {
                continue;
            }
            let (id, revision) = (attempt.operation, attempt.touched);
            let split = id.map_or(SplitOutcome::Waits, |id| self.split_outcome(id, &key));
            let book = self.books.deployments.get_mut(&key);
            if let Some(attempt) = book.and_then(|book| book.attempt.as_mut()) {
                attempt.settling = true;
            }
            let operation = id.and_then(|id| self.books.operations.get(&id));
            let failure = operation.and_then(|operation| operation.failure.clone());
            self.commands.push(Command::Settle {
                settlement: Settlement {
                    endpoint: key.endpoint,
                    revision,
                    good: Some(key.deployment),
                    split,
                },
                failure: failure.filter(|_| split == SplitOutcome::Dropped),
            });
        }
    }

    fn is_settling(&self, operation: Option<OperationId>) -> bool {
        let attempts = self.books.deployments.values();
        operation.is_some()
            && attempts
                .filter_map(|book| book.attempt.as_ref())
                .any(|attempt| attempt.operation == operation && attempt.settling)
    }

    /// Whether an operation has brought a split that sends more traffic to a deployment which has not come back yet since the
    /// process started. It will, or fail: then the split is judged.
    fn awaits_recovery(&self, endpoint: &EndpointName, attempt: &Attempt) -> bool {
        let operation = attempt
            .operation
            .and_then(|id| self.books.operations.get(&id));
        let Some(wanted) = self.books.desired.endpoints.get(endpoint) else {
            return false;
        };
        let pending = operation
            .filter(|operation| operation.split)
            .and(wanted.pending.as_ref());
        let mut arms = pending
            .into_iter()
            .flat_map(|pending| pending.split.entries());
        arms.any(|(name, percent)| {
            let key = key_of(endpoint, name);
            let book = self.books.deployments.get(&key);
            // On its way back, also where somebody has spoken of it meanwhile: neither there nor known to fail.
            let returns = self.base(&key).is_some() && self.ranks(&key).serve.is_empty();
            *percent > wanted.spec.traffic.percent_of(name)
                && book.is_some_and(|book| book.recovering || (returns && book.trouble.is_none()))
        })
    }

    /// The fate of the split of an operation when a part of it is ready.
    fn split_outcome(&mut self, id: OperationId, key: &Key) -> SplitOutcome {
        let Some(operation) = self.books.operations.get(&id) else {
            return SplitOutcome::Waits;
        };
        let others = operation.parts.iter().any(|part| *part != key.deployment);
        if !operation.split || others {
            return SplitOutcome::Waits;
        }
        let problem = self.books.desired.endpoints.get(&key.endpoint);
        let problem = problem.and_then(|wanted| self.problem_of_split(wanted, &key.deployment));
        match problem {
            None => SplitOutcome::InForce,
            Some(problem) => {
                if let Some(operation) = self.books.operations.get_mut(&id) {
                    operation.failure.get_or_insert(problem);
                }
                SplitOutcome::Dropped
            }
        }
    }

    /// The reason why a split that has waited cannot come in force after all: a deployment may have died meanwhile.
    fn problem_of_split(&self, wanted: &DesiredEndpoint, ready: &DeploymentName) -> Option<String> {
        let pending = wanted.pending.as_ref()?;
        let name = &wanted.spec.name;
        let unready = |deployment: &DeploymentName| {
            let key = key_of(name, deployment);
            let serves = deployment == ready || !self.ranks(&key).serve.is_empty();
            let one = wanted.deployments.get(deployment)?;
            (!serves).then(|| self.books.why_unready(&key, one).why)
        };
        let known = wanted.deployments.keys();
        let in_force = &wanted.spec.traffic;
        let problems = split_rule::problems(name, &pending.split, in_force, known, unready);
        (problems.wrong.into_iter().chain(problems.early)).next()
    }

    /// The instances of a deployment that requests should see, and those that stay.
    fn ranks(&self, key: &Key) -> Ranks {
        let base = self.base(key);
        let count = base.as_ref().map_or(0, |base| base.count);
        let of_base =
            |one: &InstanceBook| base.as_ref().is_some_and(|base| base.build == one.build);
        let attempt = self.active(key);
        // Of neither: what an attempt one by one had shown before a newer change, or a failure, took its place.
        let is_other = |one: &InstanceBook| {
            !of_base(one) && attempt.is_none_or(|attempt| attempt.aim.build != one.build)
        };
        let mut old = self.ready(key, of_base);
        let shown = self.books.shown_of(key);
        let others = self.ready(key, is_other);
        let others = others.into_iter().filter(|no| shown.contains(no));
        let Some(attempt) = attempt else {
            old.truncate(count);
            let room = count - old.len();
            old.extend(others.take(room));
            return Ranks::all_serve(old);
        };
        let aim = &attempt.aim;
        if base.as_ref().is_some_and(|base| base.build == aim.build) {
            // Only the count differs. Fewer are seen when that is durable.
            let count = count.max(aim.count);
            old.truncate(count);
            let room = count - old.len();
            old.extend(others.take(room));
            return Ranks::all_serve(old);
        }
        old.truncate(count);
        let room = count - old.len();
        old.extend(others.take(room));
        let mut fresh = self.ready(key, |one| one.build == aim.build);
        fresh.truncate(aim.count);
        if attempt.one_by_one {
            old.truncate(aim.count - fresh.len());
            fresh.extend(old);
            fresh.sort_unstable();
            return Ranks::all_serve(fresh);
        }
        Ranks {
            keep: old.iter().chain(&fresh).copied().collect(),
            serve: old,
        }
    }

    /// Lets go of instances that no aim asks for any more.
    fn part_with_surplus(&mut self) {
        let keys: Vec<_> = self.books.deployments.keys().cloned().collect();
        for key in keys {
            let keep = self.ranks(&key).keep;
            let operation = self.books.deployments[&key].operation;
            self.let_go(&key, &keep, operation);
        }
    }

    /// Lets the instances of a deployment go but those to `keep`, and those that start for an aim.
    fn let_go(&mut self, key: &Key, keep: &BTreeSet<InstanceNo>, operation: Option<OperationId>) {
        let mut awaited: Vec<_> = self
            .base(key)
            .into_iter()
            .chain(self.active(key).map(|attempt| attempt.aim.clone()))
            .filter(|_| !self.books.stopping && self.books.deployments.contains_key(key))
            .collect();
        for aim in &mut awaited {
            let ready = self.ready(key, |one| one.build == aim.build).len();
            aim.count = aim.count.saturating_sub(ready);
        }
        let numbers: Vec<_> = self.books.instances_of(key).map(|(no, _)| no).collect();
        for no in numbers {
            let Some(one) = self.books.instances.get_mut(&no) else {
                continue;
            };
            match one.phase {
                Phase::Ready if !keep.contains(&no) => self.let_one_go(no, operation),
                Phase::Starting { .. } => {
                    let mut of_build = awaited.iter_mut().filter(|aim| aim.build == one.build);
                    match of_build.find(|aim| aim.count > 0) {
                        Some(aim) => aim.count -= 1,
                        None => one.phase = Phase::Abandoned,
                    }
                }
                Phase::Ready | Phase::Abandoned | Phase::Leaving => {}
            }
        }
    }

    fn let_one_go(&mut self, no: InstanceNo, operation: Option<OperationId>) {
        let Some(one) = self.books.instances.get_mut(&no) else {
            return;
        };
        one.phase = Phase::Leaving;
        self.draining.entry(one.key.clone()).or_default().push(no);
        if let Some(operation) = operation.and_then(|id| self.books.operations.get_mut(&id)) {
            operation.leaving.insert(no);
        }
    }

    /// Starts what is missing, as far as there is room: first what was good, then what shall be. Whether the rest
    /// must be looked at anew.
    fn start_missing(&mut self) -> bool {
        let keys: Vec<_> = self.books.deployments.keys().cloned().collect();
        let mut new = Vec::new();
        // vCPUs that are for instances of last good targets, whose time has not come yet.
        let mut reserved = 0;
        for key in &keys {
            reserved += self.start_base(key, &mut new);
        }
        let mut anew = false;
        for key in &keys {
            anew |= self.start_attempt(key, reserved, &mut new);
        }
        // All have their cores by now, so each knows who shares them.
        let background = self.books.serves();
        for no in new {
            let shared = self.books.shares_cores(no);
            let one = &self.books.instances[&no];
            self.commands.push(Command::Start(NewInstance {
                no,
                key: one.key.clone(),
                build: one.build.clone(),
                cores: CoreGrant {
                    shared,
                    ..one.cores.clone()
                },
                background,
                isolated: self.books.isolation_of(&one.build).cloned(),
            }));
        }
        anew
    }

    /// Starts instances that the last good target misses. Gives back the vCPUs that it will still ask for.
    fn start_base(&mut self, key: &Key, new: &mut Vec<InstanceNo>) -> usize {
        let Some(mut aim) = self.base(key) else {
            return 0;
        };
        if let Some(attempt) = self.active(key) {
            if attempt.aim.build == aim.build {
                // The attempt sees to it.
                return 0;
            }
            if attempt.one_by_one {
                // The old ones make room for the new ones, but for the case that nothing serves.
                aim.count = usize::from(self.ranks(key).serve.is_empty());
            }
        }
        let missing = self.missing(key, &aim);
        if missing == 0 {
            return 0;
        }
        let vcpus = aim.build.vcpus;
        let repair = self.books.deployments[key].repair;
        if repair.is_some_and(|repair| self.now < repair.not_before) {
            return missing.saturating_mul(vcpus);
        }
        let need = aim.build.need();
        match self.make_ready(&need) {
            Readiness::Ready => {}
            Readiness::Waits => return missing.saturating_mul(vcpus),
            Readiness::Stuck => {
                self.base_failed(key, stuck(&need));
                return 0;
            }
        }
        for left in (1..=missing).rev() {
            if self.books.room().is_some_and(|free| free < vcpus) {
                if left < missing || self.books.is_in_motion() || self.make_room(key, &aim) {
                    return left.saturating_mul(vcpus);
                }
                self.base_has_no_room(key, vcpus);
                return 0;
            }
            new.extend(self.grant(key, &aim));
        }
        0
    }

    /// Starts instances that an attempt misses. Whether the rest must be looked at
    /// anew, because it has failed or made room.
    fn start_attempt(&mut self, key: &Key, reserved: usize, new: &mut Vec<InstanceNo>) -> bool {
        let attempt = self.active(key).filter(|attempt| !attempt.settling);
        let Some((aim, mut one_by_one)) =
            attempt.map(|attempt| (attempt.aim.clone(), attempt.one_by_one))
        else {
            return false;
        };
        let missing = self.missing(key, &aim);
        if missing == 0 {
            return false;
        }
        let need = aim.build.need();
        match self.make_ready(&need) {
            Readiness::Ready => {}
            Readiness::Waits => return false,
            Readiness::Stuck => {
                self.fail(key, stuck(&need).to_owned());
                return true;
            }
        }
        let vcpus = aim.build.vcpus.max(1);
        let fits = self.books.room().map_or(missing, |free| {
            (free.saturating_sub(reserved) / vcpus).min(missing)
        });
        // What never was good replaces nothing: requests see it when all of it is ready, for a part of it might go again.
        one_by_one |= fits < missing && self.base(key).is_some();
        if let Some(attempt) = self
            .books
            .deployments
            .get_mut(key)
            .and_then(|book| book.attempt.as_mut())
        {
            attempt.one_by_one = one_by_one;
        }
        for _ in 0..fits {
            new.extend(self.grant(key, &aim));
        }
        if fits > 0 || self.books.is_in_motion() {
            return false;
        }
        if self.has_surplus(key) || self.make_room(key, &aim) {
            return true;
        }
        let problem = self.no_room(vcpus);
        self.fail(key, problem);
        true
    }

    /// Whether the deployment can spare instances now that it goes one by one; then there will be more room.
    fn has_surplus(&self, key: &Key) -> bool {
        let keep = self.ranks(key).keep;
        let ready = self.ready(key, |_| true);
        ready.iter().any(|no| !keep.contains(no))
    }

    /// Lets an instance that an aim would replace go before its successor is ready: there is no other room, and one of the
    /// aim's own serves already, or would never do so otherwise. Whether there was one.
    fn make_room(&mut self, key: &Key, aim: &Aim) -> bool {
        let of_aim = self.ready(key, |one| one.build == aim.build);
        let mut others = self.ready(key, |one| one.build != aim.build);
        let is_base = self.base(key).as_ref() == Some(aim);
        let Some(no) = others.pop().filter(|_| is_base || !of_aim.is_empty()) else {
            return false;
        };
        let operation = self.books.deployments[key].operation;
        self.let_one_go(no, operation);
        true
    }

    /// Gives a new instance its cores.
    fn grant(&mut self, key: &Key, aim: &Aim) -> Option<InstanceNo> {
        let cores = self.books.cores.grant(aim.build.vcpus).ok()?;
        Some(self.books.add(InstanceBook {
            key: key.clone(),
            build: aim.build.clone(),
            cores,
            facts: Facts::default(),
            phase: Phase::Starting { since: self.now },
        }))
    }

    /// Has a model tried and prepared, or an environment built, unless it is or is being.
    fn make_ready(&mut self, need: &Need) -> Readiness {
        match self.books.needs.get(need) {
            Some(NeedBook::Ready(_)) => return Readiness::Ready,
            Some(NeedBook::Trying { trial, .. }) => {
                return match trial {
                    Trial::Wanted | Trial::Ended => Readiness::Waits,
                    Trial::Overdue => Readiness::Stuck,
                };
            }
            None => {}
        }
        let trying = NeedBook::Trying {
            since: self.now,
            trial: Trial::Wanted,
            stage: None,
        };
        self.books.needs.insert(need.clone(), trying);
        self.commands.push(Command::MakeReady {
            tried: matches!(need, Need::Model(model) if self.books.probed.contains(model)),
            need: need.clone(),
            background: self.books.serves(),
        });
        Readiness::Waits
    }

    // What is to be told.

    /// Shows every endpoint as it should be seen, where that differs from how it is.
    fn publish(&mut self) {
        let mut next = BTreeMap::new();
        if !self.books.stopping {
            let keys = self.books.deployments.keys();
            let serving: BTreeMap<_, _> = keys
                .map(|key| (key.clone(), self.ranks(key).serve))
                .collect();
            for (name, wanted) in &self.books.desired.endpoints {
                next.insert(name.clone(), self.books.show(wanted, &serving));
            }
        }
        let before = std::mem::replace(&mut self.books.shown, next);
        for (endpoint, shown) in &self.books.shown {
            if before.get(endpoint) != Some(shown) {
                self.commands.push(Command::Publish {
                    endpoint: endpoint.clone(),
                    shown: Some(shown.clone()),
                });
            }
        }
        for endpoint in before.keys() {
            if !self.books.shown.contains_key(endpoint) {
                self.commands.push(Command::Publish {
                    endpoint: endpoint.clone(),
                    shown: None,
                });
            }
        }
    }

    /// Ends what left with this event: after it is out of sight.
    fn retire(&mut self) {
        for (key, instances) in std::mem::take(&mut self.draining) {
            self.commands.push(Command::Retire {
                key,
                instances,
                drain: true,
            });
        }
        for no in std::mem::take(&mut self.dead) {
            self.commands.push(Command::Retire {
                key: self.books.instances[&no].key.clone(),
                instances: vec![no],
                drain: false,
            });
        }
    }

    fn forget_needs(&mut self) {
        let mut needed: BTreeSet<_> = self
            .books
            .instances
            .values()
            .map(|one| one.build.need())
            .collect();
        let desired = &self.books.desired;
        for (key, book) in &self.books.deployments {
            let attempt = book.attempt.as_ref();
            needed.extend(attempt.map(|attempt| attempt.aim.build.need()));
            let good = desired.deployment(&key.endpoint, &key.deployment);
            let good = good.and_then(|one| one.last_good.as_ref());
            needed.extend(good.map(|good| good.aim().build.need()));
        }
        let commands = &mut self.commands;
        self.books.needs.retain(|need, book| {
            if needed.contains(need) {
                return true;
            }
            match book {
                NeedBook::Ready(_) => {
                    commands.push(Command::Forget(need.clone()));
                    false
                }
                NeedBook::Trying { trial, .. } => {
                    if *trial == Trial::Wanted {
                        *trial = Trial::Ended;
                        commands.push(Command::EndTrial(need.clone()));
                    }
                    true
                }
            }
        });
    }

    fn conclude(&mut self) {
        if self.books.stopping {
            // What has not ended goes on after the next start.
            return;
        }
        let ended: Vec<_> = self
            .books
            .operations
            .iter()
            .filter(|(_, operation)| operation.has_ended())
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            let Some(operation) = self.books.operations.remove(&id) else {
                continue;
            };
            let outcome = match (operation.failure, operation.canceled) {
                (Some(reason), _) => Outcome::Failed(reason),
                (None, Some(by)) => Outcome::Canceled(by),
                (None, None) => Outcome::Succeeded,
            };
            self.commands.push(Command::Conclude { id, outcome });
        }
    }
}

/// Whether instances may start, as far as their model or environment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    Waits,
    /// An earlier try has not come back, and another would only join it.
    Stuck,
}

fn stuck(need: &Need) -> &'static str {
    match need {
        Need::Model(_) => "an earlier try of the same model has not ended yet",
        Need::Environment(_) => "an earlier build of the same environment has not ended yet",
    }
}

/// The longest that a deployment waits for what it needs.
fn ready_max(need: &Need) -> Duration {
    match need {
        Need::Model(_) => MODEL_READY_MAX,
        Need::Environment(_) => ENVIRONMENT_READY_MAX,
    }
}

fn key_of(endpoint: &EndpointName, deployment: &DeploymentName) -> Key {
    Key {
        endpoint: endpoint.clone(),
        deployment: deployment.clone(),
    }
}

impl Ranks {
    fn all_serve(serve: Vec<InstanceNo>) -> Self {
        Self {
            keep: serve.iter().copied().collect(),
            serve,
        }
    }
}

impl Attempt {
    fn new(wanted: &DesiredDeployment, operation: Option<OperationId>) -> Self {
        Self {
            operation,
            touched: wanted.target.touched,
            aim: wanted.target.aim(),
            one_by_one: false,
            settling: false,
        }
    }
}

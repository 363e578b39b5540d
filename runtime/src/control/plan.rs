//! The way from what runs to what should run, as a list of steps. Pure.
//!
//! One plan is for one endpoint: [`plan`] compares what each deployment should run with what it runs, and says what to start,
//! publish, drain and stop, in which order. A start always comes before the drain that it allows, so the last serving instance
//! of a deployment leaves only when its successor serves, or when the deployment itself goes.
//!
//! Not here: threads, the routing table, the clock. The controller carries the steps out.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::models::ModelDigest;
use crate::spec::DeploymentName;

/// Number of an instance in the controller's books, unique within the process. Younger instances have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct InstanceNo(pub(super) u64);

/// What an instance is made of. An instance whose build differs from the one wanted must be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) model: ModelDigest,
    pub(super) vcpus: usize,
    pub(super) concurrency: u32,
}

/// What one deployment should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// So many instances of this build.
    Run { build: Build, count: usize },
    /// What it runs now: its last update failed and nobody asked to try again.
    Keep,
}

/// One instance as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) no: InstanceNo,
    pub(super) build: Build,
}

/// What every deployment of the endpoint runs, oldest instance first.
pub(super) type Observed = BTreeMap<DeploymentName, Vec<Running>>;

/// What every deployment of the endpoint should run. One that runs and is not named here goes.
pub(super) type Goals = BTreeMap<DeploymentName, Goal>;

/// The instances that requests reach, by deployment.
pub(super) type Serving = BTreeMap<DeploymentName, Vec<InstanceNo>>;

/// vCPUs that may be given to new instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Cores are shared when they run out.
    Shared,
    /// So many cores are free, of so many in all, and none is given twice.
    Free { free: usize, total: usize },
}

/// One instance to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewInstance {
    pub(super) no: InstanceNo,
    pub(super) deployment: DeploymentName,
    pub(super) build: Build,
}

/// One step; the next begins when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Starts these at the same time and waits until all are ready.
    Start(Vec<NewInstance>),
    /// Shows requests these instances. With `rules` also the endpoint's split, credentials and timeouts as they should be; without,
    /// those in force stay.
    Publish { serving: Serving, rules: bool },
    /// Takes no more work and waits until what was admitted has ended.
    Drain(Vec<InstanceNo>),
    /// Ends the threads and gives the cores back.
    Stop(Vec<InstanceNo>),
}

/// Steps in order.
pub(super) type Plan = Vec<Step>;

/// Strict capacity, and not even one instance can be moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "deployment {deployment}: not enough cores: an instance asks for {asked} vCPUs, {free} of {total} are free; lower \
     instance_count, choose a smaller instance_type, or serve with --capacity overcommit"
)]
pub(super) struct NoRoom {
    deployment: DeploymentName,
    asked: usize,
    free: usize,
    total: usize,
}

/// Plans one endpoint. `next` is the first instance number that is free.
///
/// With room for all at once: start everything new, publish, drain and stop everything old. Without: what only shrinks shrinks
/// first, the others move instance by instance, and what goes altogether goes last, with the new rules.
pub(super) fn plan(
    goals: &Goals,
    observed: &Observed,
    room: Room,
    next: InstanceNo,
) -> Result<Plan, NoRoom> {
    let mut next = next.0;
    let moves: Vec<Move> = names(goals, observed)
        .into_iter()
        .map(|name| Move::of(name, goals, observed, &mut next))
        .collect();
    let asked: usize = moves
        .iter()
        .flat_map(|one| &one.fresh)
        .map(|new| new.build.vcpus)
        .sum();
    match room {
        Room::Free { free, total } if asked > free => one_by_one(moves, free, total),
        Room::Shared | Room::Free { .. } => Ok(at_once(&moves)),
    }
}

/// What changes in one deployment.
#[derive(Debug)]
struct Move {
    name: DeploymentName,
    /// Wanted at the end.
    stays_named: bool,
    keep: Vec<Running>,
    fresh: Vec<NewInstance>,
    /// Youngest first, so that the oldest serve longest.
    leave: Vec<Running>,
}

impl Move {
    fn of(name: DeploymentName, goals: &Goals, observed: &Observed, next: &mut u64) -> Self {
        let running = observed.get(&name).cloned().unwrap_or_default();
        let (keep, mut leave, fresh) = match goals.get(&name) {
            None => (Vec::new(), running, Vec::new()),
            Some(Goal::Keep) => (running, Vec::new(), Vec::new()),
            Some(Goal::Run { build, count }) => {
                let (mut keep, mut leave): (Vec<_>, Vec<_>) =
                    running.into_iter().partition(|one| one.build == *build);
                if keep.len() > *count {
                    leave.extend(keep.split_off(*count));
                }
                let fresh = (keep.len()..*count)
                    .map(|_| {
                        let no = InstanceNo(*next);
                        *next += 1;
                        NewInstance {
                            no,
                            deployment: name.clone(),
                            build: build.clone(),
                        }
                    })
                    .collect();
                (keep, leave, fresh)
            }
        };
        leave.sort_by_key(|one| std::cmp::Reverse(one.no));
        Self {
            stays_named: goals.contains_key(&name),
            name,
            keep,
            fresh,
            leave,
        }
    }

    /// What serves at the end.
    fn serves(&self) -> Vec<InstanceNo> {
        self.keep
            .iter()
            .map(|one| one.no)
            .chain(self.fresh.iter().map(|one| one.no))
            .collect()
    }
}

fn names(goals: &Goals, observed: &Observed) -> BTreeSet<DeploymentName> {
    goals.keys().chain(observed.keys()).cloned().collect()
}

fn at_once(moves: &[Move]) -> Plan {
    let mut steps = Vec::new();
    let fresh: Vec<_> = moves
        .iter()
        .flat_map(|one| one.fresh.iter().cloned())
        .collect();
    if !fresh.is_empty() {
        steps.push(Step::Start(fresh));
    }
    steps.push(Step::Publish {
        serving: last(moves),
        rules: true,
    });
    retire(
        moves
            .iter()
            .flat_map(|one| one.leave.iter().map(|old| old.no))
            .collect(),
        &mut steps,
    );
    steps
}

/// What serves when the plan has ended.
fn last(moves: &[Move]) -> Serving {
    moves
        .iter()
        .filter(|one| one.stays_named)
        .map(|one| (one.name.clone(), one.serves()))
        .collect()
}

fn retire(old: Vec<InstanceNo>, steps: &mut Plan) {
    if !old.is_empty() {
        steps.push(Step::Drain(old.clone()));
        steps.push(Step::Stop(old));
    }
}

/// The plan of a machine that has no room for old and new side by side.
fn one_by_one(mut moves: Vec<Move>, mut free: usize, total: usize) -> Result<Plan, NoRoom> {
    let mut steps = Vec::new();
    let mut serving: Serving = moves
        .iter()
        .map(|one| {
            (
                one.name.clone(),
                one.keep
                    .iter()
                    .chain(&one.leave)
                    .map(|old| old.no)
                    .collect(),
            )
        })
        .collect();
    for one in moves
        .iter_mut()
        .filter(|one| one.stays_named && one.fresh.is_empty())
    {
        let old = std::mem::take(&mut one.leave);
        free += old.iter().map(|old| old.build.vcpus).sum::<usize>();
        swap(&mut serving, &one.name, None, &old, &mut steps);
    }
    for one in &mut moves {
        for new in &one.fresh {
            if new.build.vcpus > free {
                return Err(NoRoom {
                    deployment: one.name.clone(),
                    asked: new.build.vcpus,
                    free,
                    total,
                });
            }
            free -= new.build.vcpus;
            steps.push(Step::Start(vec![new.clone()]));
            let old: Vec<_> = one.leave.pop().into_iter().collect();
            free += old.iter().map(|old| old.build.vcpus).sum::<usize>();
            swap(&mut serving, &one.name, Some(new.no), &old, &mut steps);
        }
    }
    steps.push(Step::Publish {
        serving: last(&moves),
        rules: true,
    });
    retire(
        moves
            .iter()
            .flat_map(|one| one.leave.iter().map(|old| old.no))
            .collect(),
        &mut steps,
    );
    Ok(steps)
}

/// Publishes one deployment with `new` and without `old`, and retires `old`.
fn swap(
    serving: &mut Serving,
    name: &DeploymentName,
    new: Option<InstanceNo>,
    old: &[Running],
    steps: &mut Plan,
) {
    if new.is_none() && old.is_empty() {
        return;
    }
    let here = serving.entry(name.clone()).or_default();
    here.retain(|no| old.iter().all(|old| old.no != *no));
    here.extend(new);
    steps.push(Step::Publish {
        serving: serving.clone(),
        rules: false,
    });
    retire(old.iter().map(|old| old.no).collect(), steps);
}

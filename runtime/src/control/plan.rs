//! The way from what runs to what should run, as a list of steps. Pure.
//!
//! One plan is for one endpoint: [`plan`] compares what each deployment should run with what it runs, and says what to start,
//! publish, drain and stop, in which order. A start always comes before the drain that it allows, so the last serving instance
//! of a deployment leaves only when its successor serves, or when the deployment itself goes.
//!
//! Not here: threads, the routing table, the clock. The controller carries the steps out.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::models::ModelDigest;
use crate::engine::BatchSettings;
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
    pub(super) lanes: Option<u32>,
    pub(super) batch: BatchSettings,
    pub(super) spin: bool,
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
/// With room for all at once: start everything new, publish, drain and stop everything old. Without: what shrinks shrinks first,
/// then instances move one by one, and what goes altogether goes last, with the new rules.
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
    /// Oldest first; the youngest go first where they go one by one.
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
        leave.sort_by_key(|one| one.no);
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
        .filter(|one| !one.keep.is_empty() || !one.leave.is_empty())
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
    for one in moves.iter_mut().filter(|one| one.stays_named) {
        // As many as come stay to be replaced; what is beyond that is no longer wanted at all.
        let old = one.leave.split_off(one.fresh.len().min(one.leave.len()));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(model: &str, vcpus: usize) -> Build {
        Build {
            model: ModelDigest::for_test(model),
            vcpus,
            concurrency: 1,
            lanes: None,
            batch: BatchSettings::default(),
            spin: false,
        }
    }

    fn name(text: &str) -> DeploymentName {
        text.parse().expect("a name")
    }

    fn run(model: &str, vcpus: usize, count: usize) -> Goal {
        Goal::Run {
            build: build(model, vcpus),
            count,
        }
    }

    /// Deployments that run `model` on `vcpus`, with these instance numbers.
    fn observed(deployments: &[(&str, &str, usize, &[u64])]) -> Observed {
        let instances = |model: &str, vcpus, numbers: &[u64]| {
            numbers
                .iter()
                .map(|no| Running {
                    no: InstanceNo(*no),
                    build: build(model, vcpus),
                })
                .collect()
        };
        deployments
            .iter()
            .map(|(one, model, vcpus, numbers)| (name(one), instances(model, *vcpus, numbers)))
            .collect()
    }

    fn goals(deployments: &[(&str, Goal)]) -> Goals {
        deployments
            .iter()
            .map(|(one, goal)| (name(one), goal.clone()))
            .collect()
    }

    /// `start blue:4,5 | publish* blue:1,4,5 | drain 2 | stop 2`; the star is for new rules.
    fn show(steps: &[Step]) -> String {
        let numbers = |numbers: &[InstanceNo]| {
            numbers
                .iter()
                .map(|no| no.0.to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        let step = |step: &Step| match step {
            Step::Start(new) => {
                let new: Vec<_> = new
                    .iter()
                    .map(|new| format!("{}:{}", new.deployment, new.no.0))
                    .collect();
                format!("start {}", new.join(" "))
            }
            Step::Publish { serving, rules } => {
                let serving: Vec<_> = serving
                    .iter()
                    .map(|(one, serving)| format!(" {one}:{}", numbers(serving)))
                    .collect();
                format!(
                    "publish{}{}",
                    if *rules { "*" } else { "" },
                    serving.concat()
                )
            }
            Step::Drain(old) => format!("drain {}", numbers(old)),
            Step::Stop(old) => format!("stop {}", numbers(old)),
        };
        steps.iter().map(step).collect::<Vec<_>>().join(" | ")
    }

    #[track_caller]
    fn check(
        goal: &[(&str, Goal)],
        seen: &[(&str, &str, usize, &[u64])],
        room: Room,
        expected: &str,
    ) {
        let planned = plan(&goals(goal), &observed(seen), room, InstanceNo(10));
        assert_eq!(
            planned.map_or_else(|refusal| refusal.to_string(), |steps| show(&steps)),
            expected
        );
    }

    const TWO_OF_FOUR: Room = Room::Free { free: 2, total: 4 };

    #[test]
    fn a_first_deployment_starts_and_is_published() {
        check(
            &[("blue", run("m1", 4, 3))],
            &[],
            Room::Shared,
            "start blue:10 blue:11 blue:12 | publish* blue:10,11,12",
        );
    }

    #[test]
    fn a_change_of_how_an_instance_computes_makes_new_instances() {
        let lanes = Build {
            lanes: Some(2),
            ..build("m1", 4)
        };
        let batch = Build {
            batch: BatchSettings {
                size_max: Some(8),
                ..BatchSettings::default()
            },
            ..build("m1", 4)
        };
        let spin = Build {
            spin: true,
            ..build("m1", 4)
        };
        for build in [lanes, batch, spin] {
            check(
                &[("blue", Goal::Run { build, count: 1 })],
                &[("blue", "m1", 4, &[1])],
                Room::Shared,
                "start blue:10 | publish* blue:10 | drain 1 | stop 1",
            );
        }
    }

    #[test]
    fn more_instances_start_before_they_are_published() {
        check(
            &[("blue", run("m1", 4, 3))],
            &[("blue", "m1", 4, &[1, 2])],
            Room::Shared,
            "start blue:10 | publish* blue:1,2,10",
        );
    }

    #[test]
    fn fewer_instances_let_the_youngest_go_after_the_table_forgot_them() {
        check(
            &[("blue", run("m1", 4, 1))],
            &[("blue", "m1", 4, &[1, 2, 3])],
            Room::Shared,
            "publish* blue:1 | drain 2,3 | stop 2,3",
        );
    }

    #[test]
    fn a_new_model_takes_over_when_all_its_instances_are_ready() {
        check(
            &[("blue", run("m2", 4, 2))],
            &[("blue", "m1", 4, &[1, 2])],
            Room::Shared,
            "start blue:10 blue:11 | publish* blue:10,11 | drain 1,2 | stop 1,2",
        );
    }

    #[test]
    fn a_change_of_rules_alone_is_one_publication() {
        check(
            &[("blue", run("m1", 4, 2))],
            &[("blue", "m1", 4, &[1, 2])],
            Room::Shared,
            "publish* blue:1,2",
        );
    }

    #[test]
    fn a_deleted_deployment_leaves_the_table_first() {
        check(
            &[("green", run("m2", 4, 1))],
            &[("blue", "m1", 4, &[1]), ("green", "m2", 4, &[2])],
            Room::Shared,
            "publish* green:2 | drain 1 | stop 1",
        );
    }

    #[test]
    fn what_failed_before_is_left_as_it_runs() {
        check(
            &[("blue", Goal::Keep)],
            &[("blue", "m1", 4, &[1])],
            Room::Shared,
            "publish* blue:1",
        );
    }

    #[test]
    fn without_room_for_all_at_once_instances_move_one_by_one() {
        check(
            &[("blue", run("m2", 1, 3))],
            &[("blue", "m1", 1, &[1, 2, 3])],
            Room::Free { free: 1, total: 4 },
            "start blue:10 | publish blue:1,2,10 | drain 3 | stop 3 \
             | start blue:11 | publish blue:1,10,11 | drain 2 | stop 2 \
             | start blue:12 | publish blue:10,11,12 | drain 1 | stop 1 | publish* blue:10,11,12",
        );
    }

    #[test]
    fn what_shrinks_makes_room_for_what_grows() {
        check(
            &[("blue", run("m1", 1, 1)), ("green", run("m2", 1, 4))],
            &[("blue", "m1", 1, &[1, 2])],
            Room::Free { free: 3, total: 5 },
            "publish blue:1 | drain 2 | stop 2 | start green:10 | publish blue:1 green:10 | start green:11 | publish blue:1 green:10,11 \
             | start green:12 | publish blue:1 green:10,11,12 | start green:13 | publish blue:1 green:10,11,12,13 \
             | publish* blue:1 green:10,11,12,13",
        );
    }

    #[test]
    fn fewer_of_another_build_find_room_in_what_they_no_longer_need() {
        check(
            &[("blue", run("m2", 1, 1))],
            &[("blue", "m1", 1, &[1, 2])],
            Room::Free { free: 0, total: 2 },
            "publish blue:1 | drain 2 | stop 2 | start blue:10 | publish blue:10 | drain 1 | stop 1 | publish* blue:10",
        );
    }

    #[test]
    fn when_not_even_one_can_be_moved_the_plan_is_refused_with_numbers() {
        check(
            &[("blue", run("m2", 4, 1))],
            &[("blue", "m1", 4, &[1])],
            TWO_OF_FOUR,
            "deployment blue: not enough cores: an instance asks for 4 vCPUs, 2 of 4 are free; lower instance_count, choose a \
             smaller instance_type, or serve with --capacity overcommit",
        );
    }

    /// A machine of paper, which checks every promise on the way.
    #[derive(Debug)]
    struct Machine {
        free: Option<usize>,
        running: BTreeMap<InstanceNo, Build>,
        serving: Serving,
        drained: BTreeSet<InstanceNo>,
        /// Deployments that have instances at the end.
        lasting: BTreeSet<DeploymentName>,
    }

    impl Machine {
        fn new(goals: &Goals, seen: &Observed, free: Option<usize>) -> Self {
            let running = seen
                .values()
                .flatten()
                .map(|one| (one.no, one.build.clone()));
            let serving = seen
                .iter()
                .map(|(name, all)| (name.clone(), all.iter().map(|one| one.no).collect()));
            Self {
                free,
                running: running.collect(),
                serving: serving.collect(),
                drained: BTreeSet::new(),
                lasting: goals.keys().cloned().collect(),
            }
        }

        fn carry_out(&mut self, step: &Step) -> Result<(), TestCaseError> {
            match step {
                Step::Start(new) => {
                    for one in new {
                        let free = self.free.map(|free| free.checked_sub(one.build.vcpus));
                        prop_assert_ne!(free, Some(None), "a core is used twice");
                        self.free = free.flatten();
                        let before = self.running.insert(one.no, one.build.clone());
                        prop_assert!(before.is_none(), "a number is used twice");
                    }
                }
                Step::Publish { serving, .. } => {
                    let mut shown = serving.values().flatten();
                    prop_assert!(
                        shown.all(|no| self.running.contains_key(no)),
                        "published before it started"
                    );
                    for name in &self.lasting {
                        let count = |serving: &Serving| serving.get(name).map_or(0, Vec::len);
                        let emptied = count(&self.serving) > 0 && count(serving) == 0;
                        prop_assert!(
                            !emptied,
                            "the last serving instance went while another could start"
                        );
                    }
                    self.serving.clone_from(serving);
                }
                Step::Drain(old) => {
                    let mut shown = self.serving.values().flatten();
                    prop_assert!(
                        shown.all(|no| !old.contains(no)),
                        "drained while requests see it"
                    );
                    self.drained.extend(old.iter().copied());
                }
                Step::Stop(old) => {
                    for no in old {
                        prop_assert!(self.drained.contains(no), "stopped before it was drained");
                        let build = self.running.remove(no).expect("it runs");
                        self.free = self.free.map(|free| free + build.vcpus);
                    }
                }
            }
            Ok(())
        }

        /// What serves, which must be all that runs.
        fn ends(self) -> Result<BTreeMap<DeploymentName, Vec<Running>>, TestCaseError> {
            prop_assert_eq!(
                self.serving.values().map(Vec::len).sum::<usize>(),
                self.running.len()
            );
            let running = |no: InstanceNo| Running {
                no,
                build: self.running[&no].clone(),
            };
            let all = |numbers: Vec<InstanceNo>| numbers.into_iter().map(running).collect();
            Ok(self
                .serving
                .into_iter()
                .map(|(name, numbers)| (name, all(numbers)))
                .collect())
        }
    }

    prop_compose! {
        fn any_observed()(all in prop::collection::vec((0..3_usize, 0..3_usize, 1..3_usize), 0..8)) -> Observed {
            let mut observed = Observed::new();
            for (no, (deployment, model, vcpus)) in (1..).zip(all) {
                let one = Running { no: InstanceNo(no), build: build(["m1", "m2", "m3"][model], vcpus) };
                observed.entry(name(["blue", "green", "red"][deployment])).or_default().push(one);
            }
            observed
        }
    }

    prop_compose! {
        fn any_goals()(all in prop::collection::vec((0..3_usize, 0..3_usize, 1..3_usize, 0..5_usize), 0..4)) -> Goals {
            let goal = |(deployment, model, vcpus, count)| {
                let goal = if count == 0 { Goal::Keep } else { run(["m1", "m2", "m3"][model], vcpus, count) };
                (name(["blue", "green", "red"][deployment]), goal)
            };
            all.into_iter().map(goal).collect()
        }
    }

    proptest! {
        #[test]
        fn any_plan_ends_at_what_is_wanted_and_keeps_every_promise_on_the_way(
            goals in any_goals(),
            seen in any_observed(),
            free in prop::option::of(0..8_usize),
        ) {
            let used: usize = seen.values().flatten().map(|one| one.build.vcpus).sum();
            let room = free.map_or(Room::Shared, |free| Room::Free { free, total: used + free });
            let Ok(steps) = plan(&goals, &seen, room, InstanceNo(100)) else {
                prop_assert!(free.is_some(), "only a strict machine refuses");
                return Ok(());
            };
            let mut machine = Machine::new(&goals, &seen, free);
            for step in &steps {
                machine.carry_out(step)?;
            }
            let ends = machine.ends()?;
            prop_assert_eq!(ends.keys().collect::<Vec<_>>(), goals.keys().collect::<Vec<_>>());
            for (deployment, goal) in &goals {
                match goal {
                    Goal::Keep => prop_assert_eq!(&ends[deployment], &seen.get(deployment).cloned().unwrap_or_default()),
                    Goal::Run { build, count } => {
                        prop_assert_eq!(ends[deployment].len(), *count);
                        prop_assert!(ends[deployment].iter().all(|one| one.build == *build));
                    }
                }
            }
        }
    }
}

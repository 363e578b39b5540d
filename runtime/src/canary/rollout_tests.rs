//! Rollouts in virtual time: a world that does what is wished, or does not.

use proptest::prelude::*;

use super::*;
use crate::canary::guard_plan::{GuardPlan, Metric, MetricPlan};
use crate::canary::observation::{Ending, Routing};
use crate::evidence::Block;

/// A world with one rollout, in which a millisecond passes for each request.
struct World {
    rollout: Rollout,
    now_ms: i64,
    /// All that was taken in, with its time.
    record: Vec<(Input, i64)>,
    journal: Vec<Entry>,
    /// What the canary really gets.
    share: Percent,
    mirrored: Percent,
    instances: u32,
    asked: usize,
    /// The next wishes are refused.
    refuses: bool,
    /// Wishes wait, in their order.
    holds: bool,
    waiting: Vec<(u64, Wish)>,
    /// Somebody else has changed the traffic, and the rollout was not told.
    is_by_hand: bool,
    gate_agrees: bool,
    latency_us: u64,
    /// Runs take so much longer while the canary has traffic.
    slowed_us: u64,
    requests: u64,
}

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn weight(text: &str) -> Step {
    Step::SetWeight {
        percent: percent(text),
    }
}

fn pause(seconds: u64) -> Step {
    Step::Pause {
        seconds: Some(seconds),
    }
}

fn plan(steps: Vec<Step>) -> RolloutPlan {
    let names = ("iris", "blue", "green");
    let usual = RolloutPlan::usual(
        names.0.parse().unwrap(),
        names.1.parse().unwrap(),
        names.2.parse().unwrap(),
    );
    RolloutPlan {
        steps,
        guard: GuardPlan {
            alpha: 0.01,
            metrics: vec![MetricPlan::new(Metric::Errors)],
        },
        ..usual
    }
}

impl World {
    fn of(plan: RolloutPlan) -> Self {
        Self::after(plan, None)
    }

    /// A world in which something is known of the stable version.
    fn after(plan: RolloutPlan, usual: Option<Usual>) -> Self {
        let mut world = Self {
            rollout: Rollout::new(plan).unwrap(),
            now_ms: 1_000_000,
            record: Vec::new(),
            journal: Vec::new(),
            share: Percent::ZERO,
            mirrored: Percent::ZERO,
            instances: 1,
            asked: 0,
            refuses: false,
            holds: false,
            waiting: Vec::new(),
            is_by_hand: false,
            gate_agrees: true,
            latency_us: 1000,
            slowed_us: 0,
            requests: 0,
        };
        world.feed(Input::Began {
            by: "ann".to_owned(),
            usual,
        });
        world
    }

    fn feed(&mut self, input: Input) {
        let took = self.rollout.take(&input, self.now_ms);
        self.record.push((input, self.now_ms));
        self.journal.extend(took.entries);
        self.waiting.extend(took.wishes);
        self.work();
    }

    /// Carries out what waits, newest last.
    fn work(&mut self) {
        while !self.holds && !self.waiting.is_empty() {
            let (wish, wished) = self.waiting.remove(0);
            self.carry_out(wish, wished);
        }
    }

    /// The traffic is changed by somebody else; the rollout is told when it does not move it itself, as by the judge.
    fn by_hand(&mut self, canary: Percent) {
        (self.share, self.is_by_hand) = (canary, true);
        self.look_at_traffic();
    }

    fn look_at_traffic(&mut self) {
        if self.rollout.is_moving() || !std::mem::take(&mut self.is_by_hand) {
            return;
        }
        let (canary, split) = (self.share, "by hand".to_owned());
        let stable = Percent::from_hundredths(10_000 - canary.hundredths()).unwrap();
        self.feed(Input::FoundTraffic {
            canary,
            stable,
            split,
        });
    }

    fn carry_out(&mut self, wish: u64, wished: Wish) {
        if self.refuses {
            let failure = Some("no ready instance".to_owned());
            return self.feed(Input::Done { wish, failure });
        }
        match wished {
            Wish::Shift { canary, .. } => {
                (self.share, self.mirrored) = (canary, Percent::ZERO);
            }
            Wish::Mirror { percent } => self.mirrored = percent,
            Wish::Scale { instances } => self.instances = instances,
            Wish::Ask { .. } => {
                self.asked += 1;
                let agrees = self.gate_agrees;
                let words = String::new();
                return self.feed(Input::Answered {
                    wish,
                    agrees,
                    words,
                });
            }
        }
        let failure = None;
        self.feed(Input::Done { wish, failure });
    }

    /// Time passes; the rollout is told of it when it wants to be, and never else.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ms += 1000;
            if self
                .rollout
                .next_look_ms()
                .is_some_and(|look| look <= self.now_ms)
            {
                self.feed(Input::Passed);
            }
        }
    }

    fn tell(&mut self, command: Command) {
        self.feed(Input::Told {
            command,
            by: "bob".to_owned(),
        });
    }

    /// A hundred requests, of which so many go to the canary as it has; those for which `fails` says so fail.
    fn hundred(&mut self, fails: impl Fn(Arm, u64) -> bool) {
        let canary = u64::from(self.share.hundredths() / 100);
        let number = self.requests / 100;
        let requests = (0..100).map(|place| {
            let arm = if place < canary {
                Arm::Canary
            } else {
                Arm::Stable
            };
            let block = Block {
                number,
                canary: u32::try_from(canary).unwrap(),
                both: 100,
            };
            let fails = fails(arm, self.requests + place);
            Observation {
                arm,
                routing: Routing::Exact(block),
                ending: if fails {
                    Ending::Failed
                } else {
                    Ending::Answered
                },
                at_us: 0,
                queue_us: 0,
                run_us: 1000 + self.slowed_us * canary.min(1),
                total_us: self.latency_us,
                cold: false,
            }
        });
        let requests = requests.collect();
        self.requests += 100;
        self.now_ms += 100;
        self.feed(Input::Observed { requests });
    }

    fn told(&self) -> String {
        let lines = self.journal.iter().map(ToString::to_string);
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn compared(alike: u64) -> Input {
    Input::Compared {
        alike,
        other: 0,
        worst: Vec::new(),
    }
}

fn never(_: Arm, _: u64) -> bool {
    false
}

fn canary_fails(arm: Arm, _: u64) -> bool {
    arm == Arm::Canary
}

#[test]
fn steps_are_taken_in_their_order_and_the_canary_gets_everything_at_last() {
    let steps = vec![
        weight("1"),
        pause(60),
        weight("10"),
        Step::SetScale { instances: 3 },
        pause(5),
    ];
    let mut world = World::of(plan(steps));
    assert_eq!(world.share, percent("1"));
    world.wait(59);
    assert_eq!(world.share, percent("1"));
    world.wait(1);
    assert_eq!((world.share, world.instances), (percent("10"), 3));
    world.wait(5);
    assert_eq!(
        (world.share, world.rollout.phase()),
        (Percent::HUNDRED, &Phase::Promoted)
    );
    assert!(
        world.told().ends_with("it was promoted"),
        "{}",
        world.told()
    );
}

#[test]
fn a_canary_that_always_fails_loses_its_traffic_and_the_journal_says_by_which_numbers() {
    let mut world = World::of(plan(vec![weight("10"), pause(1000)]));
    world.hundred(canary_fails);
    assert_eq!(world.share, Percent::ZERO);
    let Phase::RolledBack { why } = world.rollout.phase() else {
        panic!("{:?}", world.rollout.phase());
    };
    assert!(
        why.starts_with("errors: HARM (canary 10 of 10, stable 0 of 90; "),
        "{why}"
    );
    world.hundred(never);
    world.wait(2000);
    assert_eq!(world.share, Percent::ZERO);
}

#[test]
fn an_analysis_ends_with_safety_and_not_before() {
    let analysis = Step::Analysis { seconds: None };
    let mut world = World::of(plan(vec![weight("50"), analysis]));
    // One request in ten fails, whoever answers.
    let mut hundreds = 0;
    while *world.rollout.phase() == Phase::Running {
        world.hundred(|_, number| number % 10 == 0);
        hundreds += 1;
        assert!(hundreds < 1000, "{}", world.told());
    }
    assert!(hundreds > 2, "a verdict after {hundreds} hundreds");
    assert_eq!(world.rollout.phase(), &Phase::Promoted);
    assert!(world.told().contains("errors: SAFE"), "{}", world.told());
}

#[test]
fn without_a_verdict_it_holds_goes_on_flagged_or_goes_back_as_the_plan_says() {
    for (on_undecided, share, flagged) in [
        (OnUndecided::Hold, "50", false),
        (OnUndecided::PromoteFlagged, "100", true),
        (OnUndecided::Abort, "0", false),
    ] {
        let seconds = Some(60);
        let plan = RolloutPlan {
            on_undecided,
            ..plan(vec![weight("50"), Step::Analysis { seconds }])
        };
        let mut world = World::of(plan);
        world.wait(61);
        assert_eq!(
            (world.share, world.rollout.is_flagged()),
            (percent(share), flagged)
        );
        let told = world.told();
        assert!(told.contains("undecided: no verdict within 1 m"), "{told}");
    }
}

#[test]
fn a_rollout_that_takes_too_long_is_undecided_once() {
    let plan = RolloutPlan {
        seconds_max: Some(3600),
        ..plan(vec![weight("50"), Step::Pause { seconds: None }])
    };
    let mut world = World::of(plan);
    world.wait(3601);
    assert!(matches!(world.rollout.phase(), Phase::Paused { .. }));
    world.tell(Command::Resume);
    world.wait(3601);
    assert_eq!(world.rollout.phase(), &Phase::Running);
    world.tell(Command::Promote);
    assert_eq!(world.rollout.phase(), &Phase::Promoted);
}

#[test]
fn who_changes_the_traffic_by_hand_pauses_it_and_resume_takes_it_back() {
    let mut world = World::of(three_shares());
    world.by_hand(percent("30"));
    world.hundred(never);
    assert_eq!(world.share, percent("30"));
    assert!(
        world
            .told()
            .contains("somebody else has changed the traffic to by hand")
    );
    world.tell(Command::Resume);
    assert_eq!((world.share, world.rollout.step()), (percent("10"), 1));
    world.tell(Command::Promote);
    assert_eq!(world.share, percent("50"));
}

fn switchback(slot_seconds: u64) -> Step {
    let plan = SwitchbackPlan {
        pairs: 8,
        slot_seconds,
        ..SwitchbackPlan::default()
    };
    Step::Switchback { plan }
}

/// 10 %, a switchback of eight pairs, and 50 % until somebody promotes.
fn switched() -> RolloutPlan {
    let until_told = Step::Pause { seconds: None };
    plan(vec![weight("10"), switchback(20), weight("50"), until_told])
}

#[test]
fn a_switchback_takes_the_share_away_and_gives_it_again_and_goes_on_where_nothing_is_slowed() {
    let mut world = World::of(switched());
    // From step 2 on, in hundreds of requests: a tenth of a second.
    let mut with_share = 0;
    let mut all = 0;
    while world.rollout.step() == 1 {
        with_share += u32::from(world.share == percent("10"));
        all += 1;
        world.hundred(never);
    }
    assert_eq!((all, with_share), (3200, 1600));
    assert_eq!(world.share, percent("50"));
    assert!(
        world
            .told()
            .contains("the canary does not slow the stable version: with 10 % at the canary its runs take 1.000 [1.000, 1.000]"),
        "{}",
        world.told()
    );
}

#[test]
fn a_canary_that_slows_the_stable_version_is_held_with_its_share_or_told_of() {
    for on_slowed in [OnSlowed::Hold, OnSlowed::Tell] {
        let mut world = World::of(RolloutPlan {
            on_slowed,
            ..switched()
        });
        world.slowed_us = 100;
        (0..3201).for_each(|_| world.hundred(never));
        let told =
            "the canary slows the stable version: with 10 % at the canary its runs take 1.100";
        assert!(world.told().contains(told), "{}", world.told());
        if on_slowed == OnSlowed::Hold {
            assert!(matches!(world.rollout.phase(), Phase::Paused { .. }));
            assert_eq!(world.share, percent("10"));
            world.tell(Command::Resume);
        }
        assert_eq!(world.share, percent("50"));
        assert!(!world.rollout.is_flagged());
    }
}

#[test]
fn a_switchback_without_requests_is_undecided_and_done_anew_when_it_is_resumed() {
    let mut world = World::of(switched());
    world.wait(400);
    assert!(matches!(world.rollout.phase(), Phase::Paused { .. }));
    assert_eq!((world.share, world.rollout.step()), (percent("10"), 1));
    world.tell(Command::Resume);
    (0..3201).for_each(|_| world.hundred(never));
    assert_eq!(world.share, percent("50"));
    let mut world = World::of(switched());
    world.wait(400);
    world.tell(Command::Promote);
    assert_eq!(world.share, percent("50"));
    assert!(world.rollout.is_flagged());
}

#[test]
fn what_a_switchback_has_taken_is_given_back_by_who_goes_past_it() {
    let mut steps = switched().steps;
    steps.insert(2, Step::Pause { seconds: None });
    let mut world = World::of(plan(steps));
    while world.share != Percent::ZERO {
        world.hundred(never);
    }
    world.tell(Command::Promote);
    assert_eq!((world.share, world.rollout.step()), (percent("10"), 2));
}

#[test]
fn a_slot_that_was_interrupted_begins_anew() {
    for interrupt in [
        |world: &mut World| {
            world.tell(Command::Pause);
            world.tell(Command::Resume);
        },
        |world: &mut World| {
            let canary = world.share;
            world.feed(Input::Restarted { canary });
        },
        |world: &mut World| {
            world.by_hand(percent("70"));
            world.tell(Command::Resume);
        },
    ] {
        let mut world = World::of(switched());
        (0..150).for_each(|_| world.hundred(never));
        interrupt(&mut world);
        let mut more = 0;
        while world.rollout.step() == 1 {
            world.hundred(never);
            more += 1;
        }
        // Fifteen seconds of the first slot are lost.
        assert_eq!((more, world.share), (3200, percent("50")));
    }
}

fn three_shares() -> RolloutPlan {
    plan(vec![
        weight("10"),
        Step::Pause { seconds: None },
        weight("50"),
        pause(9),
    ])
}

#[test]
fn harm_that_is_proven_in_somebody_elses_hands_is_not_promoted_and_turns_back_what_is_resumed() {
    let mut world = World::of(three_shares());
    world.by_hand(percent("30"));
    world.hundred(canary_fails);
    // It is told, and the traffic left to whoever has it in hand.
    assert!(world.told().contains("errors: HARM"), "{}", world.told());
    assert_eq!(world.share, percent("30"));
    for command in [Command::Promote, Command::PromoteFull] {
        let refused = world.rollout.check(command).unwrap_err();
        assert_eq!(
            refused,
            "harm is proven: `resume` or `abort` gives all traffic back"
        );
        world.tell(command);
        assert_eq!(world.share, percent("30"));
    }
    world.tell(Command::Resume);
    assert_eq!(world.share, Percent::ZERO);
    assert!(matches!(world.rollout.phase(), Phase::RolledBack { .. }));
}

#[test]
fn what_goes_back_is_not_stopped_by_the_traffic_that_it_finds_on_its_way() {
    let mut world = World::of(plan(vec![weight("10"), pause(9)]));
    world.refuses = true;
    world.hundred(canary_fails);
    world.is_by_hand = true;
    world.look_at_traffic();
    assert!(matches!(world.rollout.phase(), Phase::GoingBack { .. }));
    world.refuses = false;
    world.wait(1);
    assert_eq!(world.share, Percent::ZERO);
    assert!(matches!(world.rollout.phase(), Phase::RolledBack { .. }));
}

#[test]
fn traffic_that_is_not_given_back_stays_somebody_elses_though_the_time_is_over() {
    let plan = RolloutPlan {
        on_undecided: OnUndecided::PromoteFlagged,
        seconds_max: Some(60),
        ..three_shares()
    };
    let mut world = World::of(plan);
    world.by_hand(percent("30"));
    (world.refuses, world.now_ms) = (true, world.now_ms + 70_000);
    world.tell(Command::Resume);
    let Phase::Paused { hands_off, .. } = world.rollout.phase() else {
        panic!("{:?}", world.rollout.phase());
    };
    assert!(hands_off, "{}", world.told());
    world.refuses = false;
    world.tell(Command::Resume);
    assert_eq!(
        (world.share, world.rollout.phase()),
        (Percent::HUNDRED, &Phase::Promoted)
    );
}

#[test]
fn a_promotion_waits_for_the_traffic_that_it_promises() {
    let mut world = World::of(plan(vec![pause(9), weight("100"), pause(9)]));
    world.holds = true;
    world.wait(9);
    assert!(world.rollout.is_moving());
    world.tell(Command::PromoteFull);
    assert_eq!(
        (world.share, world.rollout.phase()),
        (Percent::ZERO, &Phase::Running)
    );
    world.holds = false;
    world.work();
    assert_eq!(
        (world.share, world.rollout.phase()),
        (Percent::HUNDRED, &Phase::Promoted)
    );
}

#[test]
fn a_stable_version_that_becomes_slower_holds_the_rollout_once_or_is_told_of() {
    let mut known = World::of(plan(vec![Step::Pause { seconds: None }]));
    (0..60).for_each(|_| known.hundred(never));
    let known = known.record.into_iter().flat_map(|(input, _)| match input {
        Input::Observed { requests } => requests,
        _ => Vec::new(),
    });
    let known: Vec<_> = known.collect();
    for on_slowed in [OnSlowed::Hold, OnSlowed::Tell] {
        let plan = RolloutPlan {
            on_slowed,
            ..three_shares()
        };
        let mut world = World::after(plan, Usual::of(&known));
        (0..60).for_each(|_| world.hundred(never));
        assert_eq!(world.rollout.phase(), &Phase::Running);
        world.latency_us = 3000;
        (0..60).for_each(|_| world.hundred(never));
        let told = world.told();
        assert!(
            told.contains("the stable version is slower than before: "),
            "{told}"
        );
        let is_held = matches!(world.rollout.phase(), Phase::Paused { .. });
        assert_eq!(is_held, on_slowed == OnSlowed::Hold, "{told}");
        assert_eq!(world.share, percent("10"));
        if is_held {
            assert!(told.ends_with("`resume` goes on all the same"), "{told}");
            world.tell(Command::Resume);
            (0..60).for_each(|_| world.hundred(never));
            assert_eq!(world.rollout.phase(), &Phase::Running);
        }
    }
}

#[test]
fn harm_turns_back_a_rollout_that_somebody_has_paused() {
    let mut world = World::of(plan(vec![weight("10"), pause(9)]));
    world.tell(Command::Pause);
    world.wait(100);
    assert_eq!(world.share, percent("10"));
    world.hundred(canary_fails);
    assert_eq!(world.share, Percent::ZERO);
}

#[test]
fn what_is_refused_pauses_and_traffic_that_is_to_go_back_is_tried_again() {
    let mut world = World::of(plan(vec![weight("10"), pause(9), weight("50"), pause(9)]));
    world.refuses = true;
    world.wait(9);
    assert!(matches!(
        world.rollout.phase(),
        Phase::Paused {
            hands_off: false,
            ..
        }
    ));
    assert_eq!(world.rollout.weight(), percent("10"));
    world.tell(Command::Abort);
    world.wait(3);
    assert!(matches!(world.rollout.phase(), Phase::GoingBack { .. }));
    let tries = world
        .journal
        .iter()
        .filter(|entry| matches!(entry.event, Event::NotDone { .. }));
    assert_eq!(tries.count(), 5);
    world.refuses = false;
    world.wait(1);
    assert_eq!(world.share, Percent::ZERO);
    assert!(matches!(world.rollout.phase(), Phase::Aborted { .. }));
}

#[test]
fn a_gate_is_asked_again_until_it_agrees() {
    let hook = Hook::Command(vec!["ask".to_owned()]);
    let mut world = World::of(plan(vec![
        pause(1),
        Step::Gate { hook },
        weight("10"),
        pause(9),
    ]));
    world.gate_agrees = false;
    world.wait(36);
    assert_eq!((world.asked, world.share), (4, Percent::ZERO));
    world.gate_agrees = true;
    world.wait(10);
    assert_eq!((world.asked, world.share), (5, percent("10")));
}

#[test]
fn copies_go_before_traffic_until_enough_pairs_are_compared() {
    let mirror = Step::Mirror {
        percent: Percent::HUNDRED,
        pairs: 100,
    };
    let mut world = World::of(plan(vec![mirror, weight("10"), pause(9)]));
    assert_eq!(
        (world.mirrored, world.share),
        (Percent::HUNDRED, Percent::ZERO)
    );
    world.feed(compared(60));
    assert_eq!(world.mirrored, Percent::HUNDRED);
    world.feed(compared(40));
    assert_eq!(
        (world.mirrored, world.share),
        (Percent::ZERO, percent("10"))
    );
}

#[test]
fn a_promotion_is_undone_and_nothing_else_is_after_the_end() {
    let mut world = World::of(plan(vec![weight("100")]));
    assert_eq!(world.rollout.phase(), &Phase::Promoted);
    for command in [
        Command::Pause,
        Command::Resume,
        Command::Promote,
        Command::Abort,
    ] {
        let lines = world.journal.len();
        assert!(world.rollout.check(command).is_err(), "{command}");
        world.tell(command);
        assert_eq!(world.journal.len(), lines, "{command}");
    }
    world.tell(Command::Undo);
    assert_eq!(world.share, Percent::ZERO);
    assert!(world.rollout.check(Command::Undo).is_err());
}

#[test]
fn a_rollout_without_its_canary_ends() {
    let mut world = World::of(plan(vec![Step::Pause { seconds: None }]));
    let what = "deployment green".to_owned();
    world.feed(Input::Gone { what });
    assert!(matches!(world.rollout.phase(), Phase::Aborted { .. }));
}

/// What may happen in a world.
#[derive(Debug, Clone)]
enum Act {
    Hundred { of_canary: bool, one_in: u64 },
    Wait(u64),
    Tell(Command),
    Refuse(bool),
    Hold(bool),
    ByHand(u16),
    Restart,
    Compare(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let command = prop::sample::select(vec![
        Command::Promote,
        Command::PromoteFull,
        Command::Pause,
        Command::Resume,
        Command::Abort,
        Command::Undo,
    ]);
    prop_oneof![
        6 => (any::<bool>(), 5_u64..200).prop_map(|(of_canary, one_in)| Act::Hundred { of_canary, one_in }),
        3 => (1_u64..90).prop_map(Act::Wait),
        2 => command.prop_map(Act::Tell),
        1 => any::<bool>().prop_map(Act::Refuse),
        1 => any::<bool>().prop_map(Act::Hold),
        1 => (0_u16..=100).prop_map(Act::ByHand),
        1 => Just(Act::Restart),
        2 => (1_u64..100).prop_map(Act::Compare),
    ]
}

fn act(world: &mut World, what: Act) {
    match what {
        Act::Hundred { of_canary, one_in } => {
            world.hundred(|arm, number| number % one_in == 0 && (arm == Arm::Canary || !of_canary));
        }
        Act::Wait(seconds) => world.wait(seconds),
        Act::Tell(command) => world.tell(command),
        Act::Refuse(refuses) => world.refuses = refuses,
        Act::Hold(holds) => {
            world.holds = holds;
            world.work();
        }
        Act::ByHand(share) => {
            if !world.rollout.phase().has_ended() {
                world.by_hand(Percent::from_hundredths(share * 100).unwrap());
            }
        }
        Act::Restart => {
            // Nobody knows of them any more.
            world.waiting.clear();
            let canary = world.share;
            world.feed(Input::Restarted { canary });
        }
        Act::Compare(alike) => world.feed(compared(alike)),
    }
    world.look_at_traffic();
}

fn any_plan() -> impl Strategy<Value = RolloutPlan> {
    let on_undecided = prop::sample::select(vec![
        OnUndecided::Hold,
        OnUndecided::PromoteFlagged,
        OnUndecided::Abort,
    ]);
    (on_undecided, prop::option::of(1_u64..300)).prop_map(|(on_undecided, seconds_max)| {
        RolloutPlan {
            on_undecided,
            seconds_max,
            ..plan(vec![
                Step::Mirror {
                    percent: Percent::HUNDRED,
                    pairs: 50,
                },
                weight("1"),
                pause(20),
                weight("10"),
                switchback(5),
                Step::Gate {
                    hook: Hook::Url("http://127.0.0.1:9".to_owned()),
                },
                Step::Analysis { seconds: Some(100) },
                weight("50"),
                Step::SetScale { instances: 2 },
                Step::Analysis { seconds: None },
            ])
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens: the share is what the rollout says unless somebody else has it in hand or it is on its way, and the record gives the
    /// same journal and the same state, to the byte, from any point on.
    #[test]
    fn what_was_recorded_is_played_again_to_the_byte(plan in any_plan(), acts in prop::collection::vec(any_act(), 0..60), cut in 0_usize..200) {
        let mut world = World::of(plan.clone());
        for what in acts {
            act(&mut world, what);
            let hands_off = matches!(world.rollout.phase(), Phase::Paused { hands_off: true, .. });
            let goes_back = matches!(world.rollout.phase(), Phase::GoingBack { .. });
            if !hands_off && !world.rollout.is_moving() && !goes_back {
                prop_assert_eq!(world.share, world.rollout.weight(), "{}", world.told());
            }
        }
        let mut again = Rollout::new(plan).unwrap();
        let mut journal = Vec::new();
        for (index, (input, now_ms)) in world.record.iter().enumerate() {
            if index == cut {
                let text = serde_json::to_string(&again).unwrap();
                again = serde_json::from_str(&text).unwrap();
            }
            journal.extend(again.take(input, *now_ms).entries);
        }
        prop_assert_eq!(serde_json::to_string(&journal).unwrap(), serde_json::to_string(&world.journal).unwrap());
        prop_assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&world.rollout).unwrap());
    }
}

//! A rollout on its way: a state, and what each thing that happens makes of it. Pure.
//!
//! The state follows from the inputs alone, times included. So what was recorded can be played again, to the same lines of its journal, and
//! a server that was killed goes on where the record ends.
//!
//! Not here: clocks, traffic, files; whoever owns a rollout feeds it and does what it wishes.

use serde::{Deserialize, Serialize};

use crate::canary::command::Command;
use crate::canary::course::{At, Course};
use crate::canary::duration::Duration;
use crate::canary::entry::{Entry, Event};
use crate::canary::guard::{Finding, Guard, Verdict};
use crate::canary::guard_plan::PlanError;
use crate::canary::observation::{Arm, Observation, Truth};
use crate::canary::plan::{Hook, OnSlowed, OnUndecided, RolloutPlan, Step};
use crate::canary::stable_watch::{StableWatch, Usual};
use crate::canary::switchback::{Slows, Switchback, SwitchbackPlan};
use crate::evidence::LatencyCounts;
use crate::spec::Percent;

/// Pairs that are kept.
const WORST_MAX: usize = 5;
/// The wait between two questions to a gate.
const ASK_AGAIN_MS: i64 = 10_000;
/// The wait before traffic that could not be given back is given back once more.
const TRY_AGAIN_MS: i64 = 1000;

/// Something that happens to a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// Somebody begins it.
    Began {
        /// Who.
        by: String,
        /// How slow the stable version is, where enough is known of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usual: Option<Usual>,
    },
    /// Requests have ended.
    Observed {
        /// In the order in which they were heard of.
        requests: Vec<Observation>,
    },
    /// Answers to mirrored requests were compared.
    Compared {
        /// Pairs that agree.
        alike: u64,
        /// Pairs that do not.
        other: u64,
        /// The worst of those that do not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        worst: Vec<WorstPair>,
    },
    /// The truth about answers has come.
    Learned {
        /// One for each.
        truths: Vec<Truth>,
    },
    /// The traffic is not what the rollout has made it.
    FoundTraffic {
        /// The canary's share.
        canary: Percent,
        /// The stable version's.
        stable: Percent,
        /// What the endpoint has, in words.
        split: String,
    },
    /// A deployment, or the endpoint, is there no more.
    Gone {
        /// Which.
        what: String,
    },
    /// A wish has come about, or has not.
    Done {
        /// Its number.
        wish: u64,
        /// The reason why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// A gate has answered.
    Answered {
        /// The number of the wish.
        wish: u64,
        /// Whether it lets the rollout pass.
        agrees: bool,
        /// What it said.
        words: String,
    },
    /// Somebody wants something of it.
    Told {
        /// What.
        command: Command,
        /// Who.
        by: String,
    },
    /// Time has passed.
    Passed,
    /// The server was started again; what was under way has to be looked at anew.
    Restarted {
        /// The canary's share now.
        canary: Percent,
    },
}

/// Something that a rollout wants to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The canary is to have this share, the stable version the rest, and no copies by the rollout any more.
    Shift {
        /// The share.
        canary: Percent,
        /// Why.
        why: String,
    },
    /// The canary is to get copies of this share.
    Mirror {
        /// The share.
        percent: Percent,
    },
    /// The canary is to have so many instances.
    Scale {
        /// The number.
        instances: u32,
    },
    /// A gate is to be asked.
    Ask {
        /// Which.
        hook: Hook,
    },
}

/// Two answers to one request that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstPair {
    /// The request, shortened.
    pub request: String,
    /// Where in the answer, as a JSON pointer.
    pub path: String,
    /// What the stable version says there.
    pub stable: String,
    /// What the canary says.
    pub canary: String,
    /// By how much, where both are numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// It goes on by itself.
    Running,
    /// It waits for somebody.
    Paused {
        /// Why.
        why: String,
        /// Somebody else has the traffic in hand: it is not moved, whatever is proven.
        hands_off: bool,
    },
    /// All traffic is on its way back.
    GoingBack {
        /// Why.
        why: String,
        /// Somebody wanted it.
        is_aborted: bool,
    },
    /// The canary has all traffic.
    Promoted,
    /// The stable version has all traffic again, for harm was proven.
    RolledBack {
        /// Why.
        why: String,
    },
    /// The stable version has all traffic again, for somebody wanted it; or there is nothing left to roll out.
    Aborted {
        /// Why.
        why: String,
    },
}

impl Phase {
    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(
            self,
            Self::Promoted | Self::RolledBack { .. } | Self::Aborted { .. }
        )
    }
}

/// What came of an input.
#[derive(Debug, Default, PartialEq)]
pub struct Took {
    /// Lines for the journal.
    pub entries: Vec<Entry>,
    /// What is to be done, once the input and the lines are on disk, with its number. Of the traffic the newest is in force at last.
    pub wishes: Vec<(u64, Wish)>,
}

/// A rollout on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    plan: RolloutPlan,
    guard: Guard,
    /// Over the stable version, until there is something to tell.
    #[serde(default)]
    watch: Option<StableWatch>,
    /// The one that this step is, once it has begun.
    #[serde(default)]
    switchback: Option<Switchback>,
    /// The canary's share that a switchback took and that is to be given back before the next step.
    #[serde(default)]
    owed: Option<Percent>,
    phase: Phase,
    /// The step that it is at; the number of steps when all are taken.
    step: usize,
    /// When that step was reached.
    since_ms: i64,
    started_ms: i64,
    /// The canary's share as the rollout has made it, or is making it.
    weight: Percent,
    /// The canary's share as it was when it last came about.
    weight_before: Percent,
    traffic: Traffic,
    /// What became of the wish of this step, where it has one beside the traffic.
    asked: Asked,
    /// When something that may be asked again was asked last.
    asked_ms: i64,
    /// Wishes so far; the number of the newest.
    wishes: u64,
    pairs: u64,
    worst: Vec<WorstPair>,
    /// It went on without a proof.
    is_flagged: bool,
    is_overdue: bool,
    /// The verdict of each metric that was told last.
    told: Vec<Verdict>,
    requests: u64,
    /// How often the server was started again since it began.
    restarts: u64,
    course: Course,
    now_ms: i64,
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    No,
    UnderWay { wish: u64 },
    Done,
}

/// Whether the traffic is as the rollout has made it. As long as it is not, no step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Traffic {
    /// It is.
    Own,
    /// Somebody else has changed it.
    Foreign,
    /// It is on its way to the weight.
    Moving {
        wish: u64,
        /// It was somebody else's before.
        was_foreign: bool,
    },
}

impl Rollout {
    /// A rollout that has not begun.
    ///
    /// # Errors
    ///
    /// All that is wrong with what it is to be judged by.
    pub fn new(plan: RolloutPlan) -> Result<Self, Vec<PlanError>> {
        let guard = Guard::new(plan.guard.clone())?;
        let told = vec![Verdict::Undecided; plan.guard.metrics.len()];
        Ok(Self {
            plan,
            guard,
            watch: None,
            switchback: None,
            owed: None,
            phase: Phase::Running,
            step: 0,
            since_ms: 0,
            started_ms: 0,
            weight: Percent::ZERO,
            weight_before: Percent::ZERO,
            traffic: Traffic::Own,
            asked: Asked::No,
            asked_ms: i64::MIN,
            wishes: 0,
            pairs: 0,
            worst: Vec::new(),
            is_flagged: false,
            is_overdue: false,
            told,
            requests: 0,
            restarts: 0,
            course: Course::default(),
            now_ms: 0,
        })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &RolloutPlan {
        &self.plan
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The step that it is at, from 0; the number of steps when all are taken.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// The canary's share as the rollout has made it, or is making it.
    #[must_use]
    pub fn weight(&self) -> Percent {
        self.weight
    }

    /// Slots of a switchback that are measured, where one is under way.
    #[must_use]
    pub fn slots_measured(&self) -> Option<usize> {
        self.switchback.as_ref().map(Switchback::measured)
    }

    /// Whether a change of the traffic is under way.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        matches!(self.traffic, Traffic::Moving { .. })
    }

    /// How often the server was started again since it began.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Whether it went on without a proof.
    #[must_use]
    pub fn is_flagged(&self) -> bool {
        self.is_flagged
    }

    /// Requests that it was told of, and pairs.
    #[must_use]
    pub fn seen(&self) -> (u64, u64) {
        (self.requests, self.pairs)
    }

    /// The pairs of answers that differ most, worst first.
    #[must_use]
    pub fn worst_pairs(&self) -> &[WorstPair] {
        &self.worst
    }

    /// When it began and when something happened last, in milliseconds since 1970.
    #[must_use]
    pub fn times_ms(&self) -> (i64, i64) {
        (self.started_ms, self.now_ms)
    }

    /// What each metric says.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.guard.findings()
    }

    /// For each metric the logarithms of the capitals whose mean is the evidence of harm now; none where it is no such mean.
    #[must_use]
    pub fn capitals_harm(&self) -> Vec<Vec<f64>> {
        self.guard.capitals_harm()
    }

    /// The course of the evidence.
    #[must_use]
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Total times of an arm, without those among the first of an instance.
    #[must_use]
    pub fn latency(&self, arm: Arm) -> &LatencyCounts {
        self.guard.latency(arm)
    }

    /// What all say.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.guard.verdict()
    }

    /// When time alone makes something of it, in milliseconds since 1970: then it is to be told that time has passed.
    #[must_use]
    pub fn next_look_ms(&self) -> Option<i64> {
        let after = |since_ms: i64, seconds: u64| {
            let wait_ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
            since_ms.saturating_add(wait_ms)
        };
        match self.phase {
            Phase::GoingBack { .. } if !self.is_moving() => {
                Some(self.asked_ms.saturating_add(TRY_AGAIN_MS))
            }
            Phase::Running => {
                let overdue = self.plan.seconds_max.filter(|_| !self.is_overdue);
                let overdue = overdue.map(|seconds| after(self.started_ms, seconds));
                let of_step = match self.plan.steps.get(self.step) {
                    Some(
                        Step::Pause {
                            seconds: Some(seconds),
                        }
                        | Step::Analysis {
                            seconds: Some(seconds),
                        },
                    ) => Some(after(self.since_ms, *seconds)),
                    Some(Step::Gate { .. }) if self.asked == Asked::No => {
                        Some(self.asked_ms.saturating_add(ASK_AGAIN_MS))
                    }
                    Some(Step::Switchback { plan }) => {
                        let switchback = self.switchback.as_ref();
                        switchback.and_then(|switchback| switchback.ends_ms(plan))
                    }
                    _ => None,
                };
                overdue.into_iter().chain(of_step).min()
            }
            _ => None,
        }
    }

    /// Whether the command fits where the rollout stands.
    ///
    /// # Errors
    ///
    /// Why not, and what would do.
    pub fn check(&self, command: Command) -> Result<(), String> {
        let standing = || match &self.phase {
            Phase::Running => "it goes on by itself".to_owned(),
            Phase::Paused { .. } => "it is paused: resume it".to_owned(),
            Phase::GoingBack { .. } => "its traffic is on its way back".to_owned(),
            Phase::Promoted => "it was promoted".to_owned(),
            Phase::RolledBack { .. } => "it was rolled back".to_owned(),
            Phase::Aborted { .. } => "it was aborted".to_owned(),
        };
        let fits = match command {
            Command::Promote | Command::PromoteFull => {
                matches!(self.phase, Phase::Running | Phase::Paused { .. })
            }
            Command::Pause => self.phase == Phase::Running,
            Command::Resume => matches!(self.phase, Phase::Paused { .. }),
            Command::Abort => !self.phase.has_ended(),
            Command::Undo => self.phase == Phase::Promoted,
        };
        let is_promotion = matches!(command, Command::Promote | Command::PromoteFull);
        if fits && is_promotion && self.verdict() == Verdict::Harm {
            return Err("harm is proven: `resume` or `abort` gives all traffic back".to_owned());
        }
        fits.then_some(()).ok_or_else(standing)
    }

    /// Takes in what has happened at this time (milliseconds since 1970).
    pub fn take(&mut self, input: &Input, now_ms: i64) -> Took {
        // A clock that was set back makes no time negative.
        self.now_ms = self.now_ms.max(now_ms);
        let mut took = Took::default();
        self.take_in(input, &mut took);
        self.look(&mut took);
        self.look_at_stable(&mut took);
        self.go_on(&mut took);
        took
    }

    fn take_in(&mut self, input: &Input, took: &mut Took) {
        match input {
            Input::Began { by, usual } => {
                self.watch = usual.as_ref().map(StableWatch::new);
                (self.started_ms, self.since_ms) = (self.now_ms, self.now_ms);
                let steps = self.plan.steps.len();
                self.tell(
                    took,
                    Event::Started {
                        by: by.clone(),
                        steps,
                    },
                );
            }
            Input::Observed { requests } => {
                self.requests += requests.len() as u64;
                for request in requests {
                    self.guard.observe(request);
                    if let Some(watch) = &mut self.watch {
                        watch.observe(request);
                    }
                    self.observe_switchback(request);
                }
            }
            Input::Compared {
                alike,
                other,
                worst,
            } => {
                self.keep_worst(worst);
                self.pairs += alike + other;
                (0..*alike).for_each(|_| self.guard.compare(true));
                (0..*other).for_each(|_| self.guard.compare(false));
            }
            Input::Learned { truths } => truths.iter().for_each(|truth| self.guard.learn(truth)),
            Input::FoundTraffic {
                canary,
                stable,
                split,
            } => self.found((*canary, *stable), split, took),
            Input::Gone { what } => self.gone(what, took),
            Input::Done { wish, failure } => self.done(*wish, failure.as_deref(), took),
            Input::Passed => {}
            Input::Answered {
                wish,
                agrees,
                words,
            } => self.answered(*wish, (*agrees, words), took),
            Input::Told { command, by } => self.told(*command, by, took),
            Input::Restarted { canary } => self.restarted(*canary, took),
        }
    }

    fn observe_switchback(&mut self, request: &Observation) {
        let step = self.plan.steps.get(self.step);
        if let (Some(Step::Switchback { plan }), Some(switchback)) = (step, &mut self.switchback) {
            switchback.observe(request, plan, self.now_ms);
        }
    }

    /// Of two that are as bad the earlier stays. A difference without a number is worse than any.
    fn keep_worst(&mut self, worst: &[WorstPair]) {
        self.worst.extend_from_slice(worst);
        let badness = |pair: &WorstPair| pair.difference.map_or(f64::INFINITY, f64::abs);
        self.worst
            .sort_by(|one, other| badness(other).total_cmp(&badness(one)));
        self.worst.truncate(WORST_MAX);
    }

    fn tell(&self, took: &mut Took, event: Event) {
        took.entries.push(Entry {
            at_ms: self.now_ms,
            step: self.step,
            weight: self.weight,
            requests: self.requests,
            event,
        });
    }

    /// Tells of every metric whose verdict has changed, and turns back on harm, however long ago it was proven: somebody else may have had
    /// the traffic then.
    fn look(&mut self, took: &mut Took) {
        if self.phase.has_ended() {
            return;
        }
        let findings = self.guard.findings();
        let mut told = findings.iter().zip(&self.told);
        let has_turned = told.any(|(finding, told)| finding.verdict != *told);
        let at = At {
            requests: self.requests,
            at_ms: self.now_ms,
            weight: self.weight,
        };
        self.course.look(at, &findings, has_turned);
        let harm = findings.iter().find(|one| one.verdict == Verdict::Harm);
        let harm = harm.map(ToString::to_string);
        for (index, finding) in findings.into_iter().enumerate() {
            let before = std::mem::replace(&mut self.told[index], finding.verdict);
            if before == finding.verdict {
                continue;
            }
            let finding = Box::new(finding);
            self.tell(took, Event::Found { finding });
        }
        if let Some(why) = harm
            && self.may_move()
        {
            self.go_back(why, false, took);
        }
    }

    /// Tells once where the stable version is slower than before, which no comparison with the canary shows.
    fn look_at_stable(&mut self, took: &mut Took) {
        if !self.may_move() {
            return;
        }
        let Some(slowed) = self.watch.as_ref().and_then(StableWatch::finding) else {
            return;
        };
        self.watch = None;
        self.tell(took, Event::Slowed { slowed });
        if self.phase == Phase::Running && self.plan.on_slowed == OnSlowed::Hold {
            let from = &self.plan.from;
            let why =
                format!("{from} is slower than before the rollout; `resume` goes on all the same");
            self.pause(why, took);
        }
    }

    /// Whether the traffic is the rollout's to move.
    fn may_move(&self) -> bool {
        matches!(
            self.phase,
            Phase::Running
                | Phase::Paused {
                    hands_off: false,
                    ..
                }
        )
    }

    fn go_back(&mut self, why: String, is_aborted: bool, took: &mut Took) {
        self.weight = Percent::ZERO;
        self.tell(took, Event::GoingBack { why: why.clone() });
        (self.asked, self.traffic) = (Asked::No, Traffic::Own);
        // At once; one that was refused waits.
        self.asked_ms = i64::MIN;
        self.phase = Phase::GoingBack { why, is_aborted };
    }

    fn pause(&mut self, why: String, took: &mut Took) {
        self.tell(took, Event::Paused { why: why.clone() });
        let hands_off = self.traffic == Traffic::Foreign;
        self.phase = Phase::Paused { why, hands_off };
    }

    fn found(&mut self, (canary, stable): (Percent, Percent), split: &str, took: &mut Took) {
        let rest = Percent::HUNDRED.hundredths() - self.weight.hundredths();
        let is_as_made = canary == self.weight && stable.hundredths() == rest;
        // What goes back goes there whatever the traffic is meanwhile, and again where it was refused.
        let goes_back = matches!(self.phase, Phase::GoingBack { .. });
        if self.phase.has_ended() || goes_back || self.is_moving() || is_as_made {
            return;
        }
        self.traffic = Traffic::Foreign;
        let (to, weight) = (&self.plan.to, self.weight);
        let why = format!(
            "somebody else has changed the traffic to {split}; {to} was to have {weight} %. `resume` gives it that again"
        );
        self.pause(why, took);
    }

    fn gone(&mut self, what: &str, took: &mut Took) {
        if self.phase.has_ended() {
            return;
        }
        let why = format!("{what} is there no more");
        self.tell(took, Event::Aborted { why: why.clone() });
        self.phase = Phase::Aborted { why };
        self.asked = Asked::No;
    }

    /// One that a newer wish has taken the place of, or whose step is over, says nothing.
    fn done(&mut self, wish: u64, failure: Option<&str>, took: &mut Took) {
        if self.phase.has_ended() {
            return;
        }
        match (self.traffic, self.asked) {
            (
                Traffic::Moving {
                    wish: of_traffic,
                    was_foreign,
                },
                _,
            ) if of_traffic == wish => match failure {
                Some(reason) => self.not_moved(reason, was_foreign, took),
                None => self.moved(took),
            },
            (_, Asked::UnderWay { wish: of_step }) if of_step == wish => match failure {
                Some(reason) => {
                    self.asked = Asked::No;
                    self.not_done(reason, took);
                }
                None => self.asked = Asked::Done,
            },
            _ => {}
        }
    }

    /// The traffic is as it was wished.
    fn moved(&mut self, took: &mut Took) {
        self.traffic = Traffic::Own;
        let before = std::mem::replace(&mut self.weight_before, self.weight);
        if before != self.weight {
            self.tell(took, Event::Moved { before });
        }
        if let Phase::GoingBack { why, is_aborted } = &self.phase {
            let why = why.clone();
            if *is_aborted {
                self.tell(took, Event::Aborted { why: why.clone() });
                self.phase = Phase::Aborted { why };
            } else {
                self.tell(took, Event::RolledBack { why: why.clone() });
                self.phase = Phase::RolledBack { why };
            }
        }
    }

    /// The traffic is as it was. On the way back it is wished again: the stable version has to get it.
    fn not_moved(&mut self, reason: &str, was_foreign: bool, took: &mut Took) {
        self.traffic = match was_foreign {
            true => Traffic::Foreign,
            false => Traffic::Own,
        };
        if !matches!(self.phase, Phase::GoingBack { .. }) {
            self.weight = self.weight_before;
        }
        self.not_done(reason, took);
    }

    fn not_done(&mut self, reason: &str, took: &mut Took) {
        self.tell(
            took,
            Event::NotDone {
                reason: reason.to_owned(),
            },
        );
        if matches!(self.phase, Phase::GoingBack { .. }) {
            return;
        }
        let why = format!("step {} could not be taken: {reason}", self.step + 1);
        self.pause(why, took);
    }

    fn answered(&mut self, wish: u64, (agrees, words): (bool, &str), took: &mut Took) {
        if self.phase.has_ended() || self.asked != (Asked::UnderWay { wish }) {
            return;
        }
        let words = words.to_owned();
        self.tell(took, Event::Answered { agrees, words });
        self.asked = if agrees { Asked::Done } else { Asked::No };
    }

    fn told(&mut self, command: Command, by: &str, took: &mut Took) {
        if self.check(command).is_err() {
            return;
        }
        let by_whom = by.to_owned();
        self.tell(
            took,
            Event::Told {
                command,
                by: by_whom,
            },
        );
        match command {
            Command::Pause => {
                let why = format!("{by} wanted it");
                self.phase = Phase::Paused {
                    why,
                    hands_off: false,
                };
            }
            Command::Resume => self.resume(),
            Command::Promote => self.promote(),
            Command::PromoteFull => {
                self.enter(self.plan.steps.len());
                self.resume();
            }
            Command::Abort => self.go_back(format!("{by} wanted it"), true, took),
            Command::Undo => self.go_back(format!("{by} wanted it undone"), true, took),
        }
    }

    /// Goes on where it was.
    fn resume(&mut self) {
        self.phase = Phase::Running;
        self.since_ms = self.now_ms;
        self.begin_slot_anew();
    }

    fn begin_slot_anew(&mut self) {
        if let Some(switchback) = &mut self.switchback {
            switchback.begin_anew();
        }
    }

    fn wish(&mut self, wish: Wish, took: &mut Took) -> u64 {
        self.wishes += 1;
        took.wishes.push((self.wishes, wish));
        self.wishes
    }

    fn shift_to(&mut self, canary: Percent, why: String, took: &mut Took) {
        self.weight = canary;
        let was_foreign = self.traffic == Traffic::Foreign;
        let wish = self.wish(Wish::Shift { canary, why }, took);
        self.traffic = Traffic::Moving { wish, was_foreign };
    }

    /// Whether the traffic is as the rollout has made it. The share that the canary was to have is made anew, whoever has changed it.
    fn has_traffic(&mut self, took: &mut Took) -> bool {
        if self.traffic == Traffic::Foreign {
            self.shift_to(self.weight, "the rollout goes on".to_owned(), took);
        }
        self.traffic == Traffic::Own
    }

    /// Goes past what it waits for.
    fn promote(&mut self) {
        let step = self.plan.steps.get(self.step);
        let proves = matches!(
            step,
            Some(Step::Analysis { .. } | Step::Mirror { .. } | Step::Switchback { .. })
        );
        if proves || matches!(step, Some(Step::Pause { .. } | Step::Gate { .. })) {
            self.is_flagged |= proves;
            self.enter(self.step + 1);
        }
        self.resume();
    }

    fn enter(&mut self, step: usize) {
        if let Some(switchback) = self.switchback.take() {
            self.owed = Some(switchback.share());
        }
        self.step = step;
        self.since_ms = self.now_ms;
        self.asked = Asked::No;
        self.asked_ms = i64::MIN;
    }

    /// What was under way before the server ended may have come about or not: the share tells.
    fn restarted(&mut self, canary: Percent, took: &mut Took) {
        self.restarts += 1;
        self.asked_ms = i64::MIN;
        self.begin_slot_anew();
        if let Asked::UnderWay { .. } = self.asked {
            self.asked = Asked::No;
        }
        let Traffic::Moving { was_foreign, .. } = self.traffic else {
            return;
        };
        self.traffic = Traffic::Own;
        if matches!(self.phase, Phase::GoingBack { .. }) {
            // It is wished anew, whether or not it came about.
        } else if canary == self.weight {
            self.moved(took);
        } else if was_foreign {
            self.traffic = Traffic::Foreign;
            if let Phase::Paused { hands_off, .. } = &mut self.phase {
                *hands_off = true;
            }
        } else {
            // The step begins anew when the rollout goes on.
            self.weight = self.weight_before;
        }
    }

    /// Takes step after step, as far as nothing is to be waited for.
    fn go_on(&mut self, took: &mut Took) {
        if let Phase::GoingBack { why, .. } = &self.phase
            && !self.is_moving()
            && self.now_ms >= self.asked_ms.saturating_add(TRY_AGAIN_MS)
        {
            let why = why.clone();
            self.asked_ms = self.now_ms;
            self.shift_to(Percent::ZERO, why, took);
        }
        self.look_at_the_time(took);
        while self.phase == Phase::Running && self.has_traffic(took) {
            let step = self.step;
            if self.is_past_step(took) {
                self.enter(step + 1);
            } else if self.step == step {
                // It waits; else it was sent on without a proof.
                return;
            }
        }
    }

    fn look_at_the_time(&mut self, took: &mut Took) {
        let Some(seconds) = self.plan.seconds_max else {
            return;
        };
        if self.phase == Phase::Running && !self.is_overdue && self.waited(self.started_ms, seconds)
        {
            self.is_overdue = true;
            let words = format!("nothing is decided after {}", Duration(seconds));
            self.undecided(words, self.plan.steps.len(), took);
        }
    }

    fn waited(&self, since_ms: i64, seconds: u64) -> bool {
        let waited_ms = u64::try_from(self.now_ms.saturating_sub(since_ms)).unwrap_or(0);
        waited_ms >= seconds.saturating_mul(1000)
    }

    /// Does what the plan says of a missing verdict; one that goes on goes on at step `next`.
    fn undecided(&mut self, words: String, next: usize, took: &mut Took) {
        self.tell(
            took,
            Event::Undecided {
                words: words.clone(),
            },
        );
        match self.plan.on_undecided {
            OnUndecided::Hold => self.pause(words, took),
            OnUndecided::PromoteFlagged => {
                self.is_flagged = true;
                self.enter(next);
            }
            OnUndecided::Abort => self.go_back(words, true, took),
        }
    }

    /// Whether the step that it is at has been taken; begins it where it has not begun.
    fn is_past_step(&mut self, took: &mut Took) -> bool {
        let Some(step) = self.plan.steps.get(self.step).cloned() else {
            return self.finish(took);
        };
        if let Some(owed) = self.owed {
            if !self.shift(owed, took) {
                return false;
            }
            self.owed = None;
        }
        match step {
            Step::SetWeight { percent } => self.shift(percent, took),
            Step::Mirror { percent, pairs } => self.mirror(percent, pairs, took),
            Step::Pause { seconds } => {
                seconds.is_some_and(|seconds| self.waited(self.since_ms, seconds))
            }
            Step::Analysis { seconds } => self.analyse(seconds, took),
            Step::Switchback { plan } => self.switch_back(&plan, took),
            Step::SetScale { instances } => self.begin(Wish::Scale { instances }, took),
            Step::Gate { hook } => self.ask(hook, took),
        }
    }

    /// Asks a gate, and again after a while as long as it does not agree.
    fn ask(&mut self, hook: Hook, took: &mut Took) -> bool {
        if self.asked == Asked::No {
            if self.now_ms < self.asked_ms.saturating_add(ASK_AGAIN_MS) {
                return false;
            }
            self.asked_ms = self.now_ms;
        }
        self.begin(Wish::Ask { hook }, took)
    }

    /// Wishes something once; whether it has come about.
    fn begin(&mut self, wish: Wish, took: &mut Took) -> bool {
        match self.asked {
            Asked::Done => true,
            Asked::UnderWay { .. } => false,
            Asked::No => {
                let wish = self.wish(wish, took);
                self.asked = Asked::UnderWay { wish };
                false
            }
        }
    }

    /// Whether the canary has this share; the traffic is the rollout's own.
    fn shift(&mut self, canary: Percent, took: &mut Took) -> bool {
        if self.weight == canary {
            return true;
        }
        let why = format!("step {} of {}", self.step + 1, self.plan.steps.len());
        self.shift_to(canary, why, took);
        false
    }

    fn mirror(&mut self, percent: Percent, pairs: u64, took: &mut Took) -> bool {
        self.begin(Wish::Mirror { percent }, took) && self.pairs >= pairs
    }

    fn analyse(&mut self, seconds: Option<u64>, took: &mut Took) -> bool {
        if self.guard.verdict() == Verdict::Safe {
            return true;
        }
        if seconds.is_some_and(|seconds| self.waited(self.since_ms, seconds)) {
            let seconds = seconds.unwrap_or(0);
            let words = format!("no verdict within {}", Duration(seconds));
            self.undecided(words, self.step + 1, took);
        }
        false
    }

    /// Goes from slot to slot, and judges when all are measured and the canary has its share again.
    fn switch_back(&mut self, plan: &SwitchbackPlan, took: &mut Took) -> bool {
        // Nobody who sends requests knows when it began to the millisecond.
        let seed = self.started_ms.unsigned_abs().rotate_left(32) ^ self.step as u64;
        let begun = self.switchback.take();
        let mut switchback = begun.unwrap_or_else(|| Switchback::new(self.weight, seed));
        while let Some(wanted) = switchback.wanted(plan) {
            let has_ended = wanted == self.weight && switchback.go_on(plan, wanted, self.now_ms);
            if !has_ended {
                self.switchback = Some(switchback);
                self.shift(wanted, took);
                return false;
            }
        }
        if !self.shift(switchback.share(), took) {
            self.switchback = Some(switchback);
            return false;
        }
        let found = switchback.found(plan);
        self.tell(took, Event::SwitchedBack { found });
        match found.slows() {
            Slows::No => true,
            Slows::Yes if self.plan.on_slowed == OnSlowed::Tell => true,
            Slows::Yes => {
                self.pause(format!("{found}; `resume` goes on all the same"), took);
                true
            }
            // Who resumes it has it measured once more.
            Slows::Unknown => {
                self.undecided(found.to_string(), self.step + 1, took);
                false
            }
        }
    }

    /// All steps are taken: the canary gets what is left, and it has ended.
    fn finish(&mut self, took: &mut Took) -> bool {
        if !self.shift(Percent::HUNDRED, took) {
            return false;
        }
        let is_flagged = self.is_flagged;
        self.tell(took, Event::Promoted { is_flagged });
        self.phase = Phase::Promoted;
        false
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;

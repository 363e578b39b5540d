//! The guard: takes what is known of each request, and says whether the canary does harm. Pure.
//!
//! Every metric has tests of its own, of "it does no harm" and of "it is not safe". The budget for false alarms is split over those of harm: a
//! half for errors, so that a canary that always fails is found with its third failure, and the rest evenly. Those of safety
//! have all of it each, because only all of them together promote. An observation belongs to the arm that the
//! request was assigned to. What was proven once stays proven.
//!
//! A guard that was written down and read again goes on to the same bits.

use serde::{Deserialize, Serialize};

use crate::canary::gauge::{Counts, Gauge, Shared};
use crate::canary::guard_plan::{GuardPlan, Metric, MetricPlan, PlanError};
use crate::canary::observation::{Arm, Ending, Observation, Routing, Truth};
use crate::canary::slots::Pace;
use crate::evidence::{KeySample, LatencyCounts, Report, SampleRatio, Tally, bucket_of};

/// Users that are known to have been seen.
const USERS_MAX: usize = 8192;

/// The part of the budget that errors have, where there are other metrics too.
const ERRORS_PART: f64 = 0.5;

/// A judgement, of one metric or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Verdict {
    /// The canary is proven to be worse.
    Harm,
    /// It is proven not to be worse by more than the margin.
    Safe,
    /// Neither is proven yet.
    Undecided,
}

/// What one metric says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The metric with its margins.
    pub plan: MetricPlan,
    /// Events and requests (or users) of the stable version.
    pub stable: Counts,
    /// Those of the canary.
    pub canary: Counts,
    /// The highest logarithm of the e-value so far against "it does no harm".
    pub log_e_harm: f64,
    /// That against "it is not safe".
    pub log_e_safe: f64,
    /// Both as they are now.
    pub log_e_now: (f64, f64),
    /// The logarithm that proves harm.
    pub threshold_harm: f64,
    /// The logarithm that proves safety.
    pub threshold_safe: f64,
    /// What is proven.
    pub verdict: Verdict,
    /// Requests of both arms that it will still take to prove safety at the present weight and rates, where the canary is no worse; absent
    /// where nothing can be said yet.
    pub forecast: Option<u64>,
    /// It is proven that labels come for one version more often than its requests do: then they prove nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_uneven: bool,
}

impl Finding {
    /// The same for a report of this machine, with the evidence as it is now, and the capitals that it is the mean of.
    #[must_use]
    pub fn tally(&self, capitals_harm: &[f64]) -> Tally {
        Tally {
            metric: self.plan.metric.name(),
            stable: (self.stable.events, self.stable.of),
            canary: (self.canary.events, self.canary.of),
            log_e_harm: self.log_e_now.0,
            log_e_safe: self.log_e_now.1,
            capitals_harm: capitals_harm.to_vec(),
        }
    }
}

/// A report of findings, with the capitals of each: of this start, revision and deployment, as its report of that number.
#[must_use]
pub fn report_of(
    findings: &[Finding],
    capitals_harm: &[Vec<f64>],
    start: String,
    (revision, number): (u64, u64),
    deployment: String,
) -> Report {
    Report {
        start,
        revision,
        deployment,
        number,
        tallies: findings
            .iter()
            .enumerate()
            .map(|(at, finding)| finding.tally(capitals_harm.get(at).map_or(&[], Vec::as_slice)))
            .collect(),
        latency: [LatencyCounts::default(), LatencyCounts::default()],
    }
}

/// The state of a judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    plan: GuardPlan,
    gauges: Vec<Gauge>,
    sample_ratio: SampleRatio,
    users: KeySample,
    pace: Pace,
    /// Total times of the stable version and of the canary.
    total: [LatencyCounts; 2],
    /// The canary's share of the last request.
    weight: f64,
}

impl Guard {
    /// A guard that has seen nothing.
    ///
    /// # Errors
    ///
    /// All that is wrong with the plan.
    pub fn new(plan: GuardPlan) -> Result<Self, Vec<PlanError>> {
        let problems = plan.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let gauges = plan.metrics.iter().copied().map(Gauge::new).collect();
        Ok(Self {
            plan,
            gauges,
            sample_ratio: SampleRatio::default(),
            users: KeySample::new(USERS_MAX),
            pace: Pace::default(),
            total: Default::default(),
            weight: 0.0,
        })
    }

    /// Takes in a request that has ended. One with a weight that is none is not counted.
    pub fn observe(&mut self, observation: &Observation) {
        let weight = observation.routing.weight();
        if !(0.0..=1.0).contains(&weight) {
            return;
        }
        self.weight = weight;
        let is_first = match observation.routing {
            Routing::Exact(_) | Routing::Random { .. } => true,
            Routing::Sticky { key, .. } => self.users.is_new(key),
        };
        if is_first {
            let of_canary = observation.arm == Arm::Canary;
            self.sample_ratio.request(of_canary, self.weight);
        }
        if !observation.counts() {
            return;
        }
        self.count_latency(observation);
        let shared = Shared {
            is_first,
            pace: self.pace,
        };
        for gauge in &mut self.gauges {
            gauge.observe(observation, shared);
        }
    }

    fn count_latency(&mut self, observation: &Observation) {
        let [stable, canary] = &mut self.total;
        let counts = match observation.arm {
            Arm::Stable => stable,
            Arm::Canary => canary,
        };
        match observation.ending {
            _ if observation.cold => {}
            Ending::Answered | Ending::BadOutput => {
                counts.add(bucket_of(observation.total_us));
                if observation.arm == Arm::Stable {
                    self.pace.run(observation.run_us);
                }
            }
            Ending::TimedOut => counts.add_endless(),
            Ending::Failed | Ending::Shed | Ending::Malformed | Ending::Abandoned => {}
        }
        self.pace.follow(&self.total[0]);
    }

    /// Takes in whether both versions gave the same answer to a mirrored request.
    pub fn compare(&mut self, agree: bool) {
        for gauge in &mut self.gauges {
            gauge.compare(agree);
        }
    }

    /// Takes in what turned out about an answer.
    pub fn learn(&mut self, truth: &Truth) {
        for gauge in &mut self.gauges {
            gauge.learn(truth);
        }
    }

    /// What each metric says, in the order of the plan.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.gauges
            .iter()
            .map(|gauge| self.finding(gauge))
            .collect()
    }

    /// For each of them the logarithms of the capitals whose mean is the evidence of harm now; none where it is no such mean.
    #[must_use]
    pub fn capitals_harm(&self) -> Vec<Vec<f64>> {
        let capitals = self.gauges.iter().map(Gauge::capitals_harm);
        capitals.map(<[f64]>::to_vec).collect()
    }

    fn finding(&self, gauge: &Gauge) -> Finding {
        let (threshold_harm, threshold_safe) = self.thresholds(gauge);
        let (harm, safe) = (gauge.harm(), gauge.safe());
        let verdict = self.verdict_of(gauge);
        Finding {
            plan: gauge.plan(),
            stable: gauge.stable,
            canary: gauge.canary,
            log_e_harm: harm.1,
            log_e_safe: safe.1,
            log_e_now: (harm.0, safe.0),
            threshold_harm,
            threshold_safe,
            verdict,
            forecast: match verdict {
                Verdict::Harm => None,
                Verdict::Safe => Some(0),
                Verdict::Undecided => gauge.forecast(threshold_safe, self.weight),
            },
            labels_uneven: gauge.has_uneven_labels(),
        }
    }

    fn verdict_of(&self, gauge: &Gauge) -> Verdict {
        let (harm, safe) = self.thresholds(gauge);
        if gauge.harm().1 >= harm {
            Verdict::Harm
        } else if gauge.safe().1 >= safe {
            Verdict::Safe
        } else {
            Verdict::Undecided
        }
    }

    /// The logarithms that prove harm, with the metric's part of the budget, and safety.
    fn thresholds(&self, gauge: &Gauge) -> (f64, f64) {
        let safe = -self.plan.alpha.ln();
        (safe - self.part(gauge).ln(), safe)
    }

    /// The part of the budget that a metric has; those of all are the whole.
    fn part(&self, gauge: &Gauge) -> f64 {
        let is_errors = |gauge: &Gauge| gauge.plan().metric == Metric::Errors;
        let all = self.gauges.len() as f64;
        match (is_errors(gauge), self.gauges.iter().any(is_errors)) {
            _ if self.gauges.len() == 1 => 1.0,
            (true, _) => ERRORS_PART,
            (false, true) => (1.0 - ERRORS_PART) / (all - 1.0),
            (false, false) => 1.0 / all,
        }
    }

    /// Harm where any metric proves it, safe where all do.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut all = Verdict::Safe;
        for gauge in &self.gauges {
            match self.verdict_of(gauge) {
                Verdict::Harm => return Verdict::Harm,
                Verdict::Undecided => all = Verdict::Undecided,
                Verdict::Safe => {}
            }
        }
        all
    }

    /// The logarithm of the e-value against the arms getting the shares of requests that were asked for.
    #[must_use]
    pub fn log_e_sample_ratio(&self) -> f64 {
        self.sample_ratio.log_e()
    }

    /// The total times of an arm, without those among the first of an instance.
    #[must_use]
    pub fn latency(&self, arm: Arm) -> &LatencyCounts {
        match arm {
            Arm::Stable => &self.total[0],
            Arm::Canary => &self.total[1],
        }
    }

    /// What this machine says, to be merged with others: of this start, revision and deployment, as its report of that number.
    #[must_use]
    pub fn report(
        &self,
        start: String,
        (revision, number): (u64, u64),
        deployment: String,
    ) -> Report {
        let (findings, capitals) = (self.findings(), self.capitals_harm());
        Report {
            latency: self.total.clone(),
            ..report_of(&findings, &capitals, start, (revision, number), deployment)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::canary::guard_plan::Time;
    use crate::canary::observation::Worth;
    use crate::evidence::{Block, SplitMix64};

    fn observation(arm: Arm, number: u64, ending: Ending) -> Observation {
        let block = Block {
            number,
            canary: 10,
            both: 100,
        };
        Observation {
            arm,
            routing: Routing::Exact(block),
            ending,
            at_us: 0,
            queue_us: 0,
            run_us: 1000,
            total_us: 1000,
            cold: false,
        }
    }

    fn guard(metrics: &[Metric]) -> Guard {
        let metrics = metrics.iter().copied().map(MetricPlan::new).collect();
        Guard::new(GuardPlan {
            alpha: 0.01,
            metrics,
        })
        .unwrap()
    }

    const P99: Metric = Metric::Quantile {
        quantile: 0.99,
        time: Time::Total,
        increase_max: 0.1,
    };

    /// A request every millisecond, of which one in ten is the canary's; `end` says how each ends.
    fn serve(
        guard: &mut Guard,
        requests: u64,
        mut end: impl FnMut(Arm, &mut SplitMix64) -> (Ending, u64),
    ) {
        let mut random = SplitMix64::new(3);
        for at in 0..requests {
            let is_canary = random.unit() <= 0.1;
            let arm = if is_canary { Arm::Canary } else { Arm::Stable };
            let (ending, total_us) = end(arm, &mut random);
            guard.observe(&Observation {
                arm,
                routing: Routing::Random { weight: 0.1 },
                ending,
                at_us: at * 1000,
                queue_us: 0,
                run_us: total_us,
                total_us,
                cold: false,
            });
        }
    }

    fn any_latency(random: &mut SplitMix64) -> u64 {
        5000 + (random.next_u64() % 1000) * (random.next_u64() % 40)
    }

    #[test]
    fn a_canary_that_always_fails_is_harm_after_three_failures_whatever_else_is_judged() {
        let mut guard = Guard::new(GuardPlan::default()).unwrap();
        for failures in 1..=3 {
            assert_eq!(guard.verdict(), Verdict::Undecided);
            guard.observe(&observation(Arm::Stable, 7, Ending::Answered));
            guard.observe(&observation(Arm::Canary, 7, Ending::Failed));
            assert_eq!(guard.findings()[0].canary.events, failures);
        }
        assert_eq!(guard.verdict(), Verdict::Harm);
    }

    #[test]
    fn the_parts_of_the_budget_are_the_whole() {
        let some = [Metric::Timeouts, Metric::Sheds, P99];
        for guard in [
            guard(&[Metric::Errors]),
            guard(&some),
            guard(&[Metric::Errors, Metric::Sheds]),
            all_metrics(),
        ] {
            let parts = guard.findings().into_iter();
            let sum: f64 = parts.map(|finding| (-finding.threshold_harm).exp()).sum();
            assert!((sum - guard.plan.alpha).abs() < 1e-12, "{sum}");
        }
    }

    #[test]
    fn a_canary_whose_requests_all_time_out_is_harm_though_it_answered_nothing() {
        let mut guard = guard(&[Metric::Errors, Metric::Timeouts, P99]);
        serve(&mut guard, 60_000, |arm, random| match arm {
            Arm::Canary => (Ending::TimedOut, 1_000_000),
            Arm::Stable => (Ending::Answered, any_latency(random)),
        });
        let verdicts: Vec<_> = guard.findings().iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts[1..], [Verdict::Harm, Verdict::Harm]);
        assert_ne!(verdicts[0], Verdict::Harm);
    }

    #[test]
    fn a_canary_that_sheds_is_found_as_such_and_not_as_one_that_fails() {
        let mut guard = guard(&[Metric::Errors, Metric::Sheds]);
        serve(&mut guard, 60_000, |arm, random| {
            let sheds = arm == Arm::Canary && random.unit() <= 0.3;
            (
                if sheds {
                    Ending::Shed
                } else {
                    Ending::Answered
                },
                1000,
            )
        });
        let found = guard.findings();
        assert_eq!(found[1].verdict, Verdict::Harm);
        assert_eq!(
            (found[0].canary.events, found[0].verdict),
            (0, Verdict::Safe)
        );
    }

    #[test]
    fn clients_that_leave_and_bodies_that_are_wrong_for_every_model_count_for_nobody() {
        let mut guard = guard(&[Metric::Errors, Metric::Timeouts]);
        for number in 0..50 {
            guard.observe(&observation(Arm::Canary, number, Ending::Abandoned));
            guard.observe(&observation(Arm::Canary, number, Ending::Malformed));
        }
        for finding in guard.findings() {
            assert_eq!(finding.canary, Counts::default());
            assert_eq!(finding.verdict, Verdict::Undecided);
        }
    }

    #[test]
    fn two_versions_that_never_fail_and_are_as_fast_become_safe_in_all() {
        let mut guard = Guard::new(GuardPlan::default()).unwrap();
        let mut length = 0;
        while guard.verdict() == Verdict::Undecided && length < 400 {
            length += 20;
            guard = Guard::new(GuardPlan::default()).unwrap();
            serve(&mut guard, length * 1000, |_, random| {
                (Ending::Answered, any_latency(random))
            });
        }
        assert_eq!(guard.verdict(), Verdict::Safe, "{:?}", guard.findings());
        assert!(length <= 200, "{length} s");
    }

    #[test]
    fn a_forecast_of_a_metric_without_events_is_what_it_takes() {
        let mut guard = guard(&[Metric::Errors]);
        serve(&mut guard, 1000, |_, _| (Ending::Answered, 1000));
        let forecast = guard.findings()[0].forecast.unwrap();
        serve(&mut guard, forecast * 9 / 10, |_, _| {
            (Ending::Answered, 1000)
        });
        assert_eq!(guard.verdict(), Verdict::Undecided);
        serve(&mut guard, forecast * 2 / 10, |_, _| {
            (Ending::Answered, 1000)
        });
        assert_eq!(guard.verdict(), Verdict::Safe);
    }

    #[test]
    fn cold_requests_have_no_latency_and_can_fail() {
        let mut guard = guard(&[Metric::Errors, P99, Metric::Slow { limit_us: 10 }]);
        let cold = Observation {
            cold: true,
            ..observation(Arm::Canary, 1, Ending::Failed)
        };
        guard.observe(&cold);
        guard.observe(&Observation {
            ending: Ending::Answered,
            ..cold
        });
        let counts = |at: usize| guard.findings()[at].canary;
        assert_eq!(counts(0), Counts { events: 1, of: 2 });
        assert_eq!([counts(1), counts(2)], [Counts::default(); 2]);
        assert_eq!(guard.latency(Arm::Canary).count(), 0);
    }

    #[test]
    fn a_user_who_fails_again_and_again_counts_once() {
        let mut guard = guard(&[Metric::Errors]);
        for _ in 0..1000 {
            guard.observe(&Observation {
                routing: Routing::Sticky {
                    weight: 0.1,
                    key: 42,
                },
                ..observation(Arm::Canary, 0, Ending::Failed)
            });
        }
        let found = &guard.findings()[0];
        assert_eq!(
            (found.canary.events, found.verdict),
            (1, Verdict::Undecided)
        );
    }

    #[test]
    fn mirrored_answers_that_agree_certify_and_those_that_do_not_condemn() {
        let agreement = Metric::Agreement { least: 0.99 };
        let mut same = guard(&[agreement]);
        (0..600).for_each(|_| same.compare(true));
        assert_eq!(same.verdict(), Verdict::Safe);
        let mut other = guard(&[agreement]);
        (0..600).for_each(|at| other.compare(at % 10 != 0));
        assert_eq!(other.verdict(), Verdict::Harm);
    }

    #[test]
    fn a_canary_that_is_wrong_where_the_other_is_right_is_harm_sooner_in_pairs() {
        let mut random = SplitMix64::new(5);
        let mut needed = |paired: bool| {
            let mut guard = guard(&[Metric::Accuracy]);
            let mut labels = 0_u32;
            while guard.verdict() != Verdict::Harm && labels < 200_000 {
                labels += 1;
                let stable_right = random.unit() > 0.1;
                let canary_right = stable_right && random.unit() > 0.03;
                let is_canary = random.unit() <= 0.5;
                guard.learn(&match (paired, is_canary) {
                    (true, _) => Truth::Paired {
                        stable: Worth::of(stable_right),
                        canary: Worth::of(canary_right),
                    },
                    (false, is_canary) => Truth::Single {
                        arm: if is_canary { Arm::Canary } else { Arm::Stable },
                        routing: Routing::Random { weight: 0.5 },
                        worth: Worth::of(if is_canary {
                            canary_right
                        } else {
                            stable_right
                        }),
                    },
                });
            }
            assert_eq!(guard.verdict(), Verdict::Harm);
            labels
        };
        let (pairs, singles) = (needed(true), needed(false));
        assert!(pairs < 1000 && singles > 2 * pairs, "{pairs} {singles}");
    }

    /// Labels until harm is found, of answers whose worth is drawn.
    fn labels_until_harm(
        mut worth: impl FnMut(Arm, &mut SplitMix64) -> f64,
        random: &mut SplitMix64,
    ) -> Option<u32> {
        let mut guard = guard(&[Metric::Accuracy]);
        for labels in 1..=20_000 {
            let is_canary = random.unit() <= 0.5;
            let arm = if is_canary { Arm::Canary } else { Arm::Stable };
            guard.learn(&Truth::Single {
                arm,
                routing: Routing::Random { weight: 0.5 },
                worth: Worth::new(worth(arm, random)).unwrap(),
            });
            if guard.verdict() == Verdict::Harm {
                return Some(labels);
            }
        }
        None
    }

    #[test]
    fn scores_find_harm_with_far_fewer_labels_than_right_and_wrong_of_the_same_mean() {
        let mut random = SplitMix64::new(6);
        let mean = |arm| if arm == Arm::Canary { 0.8 } else { 0.9 };
        let scores = labels_until_harm(
            |arm, random| mean(arm) + 0.1 * (random.unit() - 0.5),
            &mut random,
        );
        let coins = labels_until_harm(
            |arm, random| f64::from(u8::from(random.unit() <= mean(arm))),
            &mut random,
        );
        let (scores, coins) = (scores.unwrap(), coins.unwrap());
        assert!(3 * scores < coins, "{scores} {coins}");
    }

    #[test]
    fn scores_of_two_that_are_alike_are_harm_no_more_often_than_the_budget_allows() {
        let mut random = SplitMix64::new(7);
        let alarms = (0..60)
            .filter(|_| {
                // Bursts of bad ones, the same whichever version answers.
                let mut at = 0_u32;
                let bursts = |_, random: &mut SplitMix64| {
                    at += 1;
                    if (at / 40).is_multiple_of(5) {
                        0.2 * random.unit()
                    } else {
                        0.95
                    }
                };
                labels_until_harm(bursts, &mut random).is_some()
            })
            .count();
        // Of 60 at 1 %: more than 4 come about once in three thousand times.
        assert!(alarms <= 4, "{alarms}");
    }

    #[test]
    fn labels_that_come_in_any_order_find_harm_as_those_in_order_do() {
        let labels_needed = |is_shuffled: bool, seed: u64| {
            let mut random = SplitMix64::new(seed);
            // An hour of a hundred requests a second, of which a rater sees one in a hundred.
            let mut labels: Vec<_> = (0..3600_u64)
                .map(|number| {
                    let is_canary = random.unit() <= 0.1;
                    let wrong = if is_canary { 0.5 } else { 0.1 };
                    (number, is_canary, random.unit() <= wrong)
                })
                .collect();
            for last in (1..labels.len()).rev().filter(|_| is_shuffled) {
                let other = random.next_u64() % (last as u64 + 1);
                labels.swap(last, usize::try_from(other).unwrap());
            }
            let mut guard = guard(&[Metric::Accuracy]);
            let found = labels
                .into_iter()
                .position(|(number, is_canary, is_wrong)| {
                    let arm = if is_canary { Arm::Canary } else { Arm::Stable };
                    let routing = observation(arm, number, Ending::Answered).routing;
                    let worth = Worth::of(!is_wrong);
                    guard.learn(&Truth::Single {
                        arm,
                        routing,
                        worth,
                    });
                    guard.verdict() == Verdict::Harm
                });
            found.unwrap()
        };
        let of_all =
            |is_shuffled| -> usize { (0..20).map(|seed| labels_needed(is_shuffled, seed)).sum() };
        let (ordered, shuffled) = (of_all(false), of_all(true));
        assert!(shuffled < 2 * ordered, "{shuffled} {ordered}");
    }

    /// What is found of labels on an exact split of one in ten, or one in two, all of whose requests are looked at as `seen` says.
    fn found_by_labels(
        canary_of_ten: u32,
        labels: u32,
        mut seen: impl FnMut(Arm, &mut SplitMix64) -> Option<f64>,
        seed: u64,
    ) -> Verdict {
        let mut random = SplitMix64::new(seed);
        let mut guard = guard(&[Metric::Accuracy]);
        for number in 0..u64::from(labels) / 10 {
            let mut places: Vec<_> = (0..10).map(|place| place < canary_of_ten).collect();
            for last in (1..places.len()).rev() {
                let other = random.next_u64() % (last as u64 + 1);
                places.swap(last, usize::try_from(other).unwrap());
            }
            for is_canary in places {
                let arm = if is_canary { Arm::Canary } else { Arm::Stable };
                let block = Block {
                    number,
                    canary: canary_of_ten,
                    both: 10,
                };
                if let Some(worth) = seen(arm, &mut random) {
                    guard.learn(&Truth::Single {
                        arm,
                        routing: Routing::Exact(block),
                        worth: Worth::new(worth).unwrap(),
                    });
                }
            }
        }
        guard.verdict()
    }

    #[test]
    fn scores_of_one_mean_are_no_harm_and_no_proof_however_differently_they_spread() {
        // Always 0.9, or right nine times in ten and else wrong.
        let spread = |is_even: bool, random: &mut SplitMix64| match is_even {
            true => 0.9,
            false => f64::from(u8::from(random.unit() <= 0.9)),
        };
        for (canary_of_ten, even) in [(1, Arm::Canary), (1, Arm::Stable), (5, Arm::Canary)] {
            let alarms = (0..20)
                .filter(|seed| {
                    let seen = |arm, random: &mut SplitMix64| Some(spread(arm == even, random));
                    found_by_labels(canary_of_ten, 6000, seen, *seed) == Verdict::Harm
                })
                .count();
            assert!(alarms <= 2, "{canary_of_ten} {even:?}: {alarms}");
        }
    }

    #[test]
    fn labels_that_come_for_one_version_alone_prove_nothing_of_either() {
        for wrong in [0.05, 0.5, 1.0] {
            for canary_of_ten in [1, 5] {
                for alone in [Arm::Stable, Arm::Canary] {
                    let seen = |arm, random: &mut SplitMix64| {
                        let worth = f64::from(u8::from(random.unit() > wrong));
                        (arm == alone).then_some(worth)
                    };
                    let found = found_by_labels(canary_of_ten, 20_000, seen, 4);
                    assert_eq!(
                        found,
                        Verdict::Undecided,
                        "{wrong} {canary_of_ten} {alone:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn labels_that_come_for_one_version_half_as_often_turn_no_equal_versions_into_harm_or_safety() {
        for (rare, seed) in [(Arm::Stable, 1), (Arm::Canary, 2)] {
            let seen = |arm, random: &mut SplitMix64| {
                let worth = f64::from(u8::from(random.unit() > 0.1));
                (arm != rare || random.unit() > 0.5).then_some(worth)
            };
            let found = found_by_labels(5, 20_000, seen, seed);
            assert_eq!(found, Verdict::Undecided, "{rare:?}");
        }
    }

    #[test]
    fn counts_of_scores_are_whole_answers_and_nothing_is_lost_in_between() {
        let mut guard = guard(&[Metric::Accuracy]);
        for _ in 0..10 {
            let (stable, canary) = (Worth::new(0.75).unwrap(), Worth::new(0.5).unwrap());
            guard.learn(&Truth::Paired { stable, canary });
        }
        let finding = &guard.findings()[0];
        assert_eq!((finding.stable.events, finding.stable.of), (2, 10));
        assert_eq!((finding.canary.events, finding.canary.of), (5, 10));
    }

    #[test]
    fn all_that_is_wrong_with_a_plan_is_said() {
        let wrong = MetricPlan {
            ratio_max: f64::NAN,
            promote_below: 1.0,
            negligible: -1.0,
            ..MetricPlan::new(Metric::Agreement { least: 1.0 })
        };
        let plan = GuardPlan {
            alpha: 0.0,
            metrics: vec![wrong, wrong],
        };
        let problems = Guard::new(plan).unwrap_err();
        assert_eq!(problems.len(), 10, "{problems:?}");
        let mut said = problems.iter().map(ToString::to_string);
        assert_eq!(
            said.next_back().unwrap(),
            "metrics[1]: expected each metric once, found the one of metrics[0] again"
        );
        let none = GuardPlan {
            metrics: Vec::new(),
            ..GuardPlan::default()
        };
        assert_eq!(none.problems(), [PlanError::Count { found: 0 }]);
    }

    fn any_observation() -> impl Strategy<Value = Observation> {
        let ending = prop_oneof![
            4 => Just(Ending::Answered),
            1 => Just(Ending::Failed),
            1 => Just(Ending::TimedOut),
            1 => Just(Ending::Shed),
            1 => Just(Ending::BadOutput),
            1 => Just(Ending::Abandoned),
        ];
        let routing = prop_oneof![
            (0_u64..100, 0_u32..12).prop_map(|(number, canary)| Routing::Exact(Block {
                number,
                canary,
                both: 10
            })),
            prop_oneof![0.0..=1.0, Just(f64::NAN), Just(f64::INFINITY)]
                .prop_map(|weight| Routing::Random { weight }),
            (0_u64..20).prop_map(|key| Routing::Sticky { weight: 0.3, key }),
        ];
        let times = (any::<u64>(), any::<u32>(), any::<u64>(), any::<bool>());
        (any::<bool>(), routing, ending, times).prop_map(|(arm, routing, ending, times)| {
            Observation {
                arm: if arm { Arm::Canary } else { Arm::Stable },
                routing,
                ending,
                at_us: times.0,
                queue_us: 0,
                run_us: u64::from(times.1),
                total_us: times.2,
                cold: times.3,
            }
        })
    }

    fn all_metrics() -> Guard {
        let service = Metric::Quantile {
            quantile: 0.5,
            time: Time::Service,
            increase_max: 0.0,
        };
        let mut plan = GuardPlan::default();
        let more = [
            Metric::Slow { limit_us: 1000 },
            Metric::Agreement { least: 0.9 },
            Metric::Accuracy,
        ];
        plan.metrics.extend(more.map(MetricPlan::new));
        plan.metrics.push(MetricPlan {
            promote_below: 1.5,
            ..MetricPlan::new(service)
        });
        Guard::new(plan).unwrap()
    }

    #[test]
    fn a_guard_that_is_written_down_on_the_way_of_a_rollout_goes_on_to_the_same_bytes() {
        let mut straight = all_metrics();
        let mut kept = all_metrics();
        for part in 0..8 {
            let end = |_: Arm, random: &mut SplitMix64| {
                let fails = random.unit() < 0.01;
                let ending = if fails {
                    Ending::Failed
                } else {
                    Ending::Answered
                };
                (ending, any_latency(random) + part)
            };
            serve(&mut straight, 3000, end);
            serve(&mut kept, 3000, end);
            let text = serde_json::to_string(&kept).unwrap();
            kept = serde_json::from_str(&text).unwrap();
            assert_eq!(text, serde_json::to_string(&straight).unwrap());
        }
        assert_eq!(kept.findings(), straight.findings());
    }

    proptest! {
        #[test]
        fn any_observations_leave_a_guard_that_can_be_written_down_and_goes_on(
            observations in prop::collection::vec(any_observation(), 0..300),
            at in 0_usize..300,
        ) {
            let mut straight = all_metrics();
            let mut kept = all_metrics();
            for (number, observation) in observations.iter().enumerate() {
                straight.observe(observation);
                kept.observe(observation);
                if number == at {
                    kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
                }
            }
            let texts = [&straight, &kept].map(|guard| serde_json::to_string(guard).unwrap());
            prop_assert_eq!(&texts[0], &texts[1]);
            for finding in straight.findings() {
                let logs = [finding.log_e_harm, finding.log_e_safe, finding.log_e_now.0, finding.log_e_now.1];
                prop_assert!(logs.iter().all(|log| log.is_finite()), "{finding:?}");
            }
        }
    }
}

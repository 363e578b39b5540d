//! One metric with its tests and counts. Pure.

use serde::{Deserialize, Serialize};

use crate::canary::guard_plan::{Metric, MetricPlan, Time};
use crate::canary::labels::Labels;
use crate::canary::observation::{Arm, Ending, Observation, Truth};
use crate::canary::percentile::Percentile;
use crate::canary::slots::{Pace, Slots};
use crate::evidence::{RateTest, SplitMix64};

/// Events of one arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Bad events: of users' first ones, where users are drawn.
    pub events: u64,
    /// Of so many requests.
    pub of: u64,
}

/// The state of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Gauge {
    plan: MetricPlan,
    pub(super) stable: Counts,
    pub(super) canary: Counts,
    /// Parts of events of both that make no whole one yet.
    #[serde(default)]
    parts: [f64; 2],
    test: Test,
}

/// The tests of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Test {
    /// Events that a version has by itself.
    Labels(Labels),
    /// What its queue brings about.
    Slots(Slots),
    /// A percentile.
    Percentile(Percentile, Slots),
    /// Pairs of answers to the same request: the highest e-values of harm and safety.
    Pairs(f64, f64),
}

/// What the gauges of a guard share about an observation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// Whether its user is a new one; true where requests are drawn.
    pub(super) is_first: bool,
    pub(super) pace: Pace,
}

impl Gauge {
    pub(super) fn new(plan: MetricPlan) -> Self {
        let test = match plan.metric {
            Metric::Errors | Metric::BadOutputs => Test::Labels(Labels::new(&plan)),
            Metric::Accuracy => Test::Labels(Labels::of_wrong_answers(&plan)),
            Metric::Timeouts | Metric::Sheds | Metric::Slow { .. } => {
                Test::Slots(Slots::new(&plan))
            }
            Metric::Quantile {
                quantile,
                increase_max,
                ..
            } => Test::Percentile(Percentile::new(quantile, increase_max), Slots::new(&plan)),
            Metric::Agreement { .. } => Test::Pairs(0.0, 0.0),
        };
        Self {
            plan,
            stable: Counts::default(),
            canary: Counts::default(),
            parts: [0.0; 2],
            test,
        }
    }

    pub(super) fn plan(&self) -> MetricPlan {
        self.plan
    }

    /// Takes in a request that has ended.
    pub(super) fn observe(&mut self, observation: &Observation, shared: Shared) {
        let of_canary = observation.arm == Arm::Canary;
        let is_bad = match self.plan.metric {
            Metric::Errors => observation.ending == Ending::Failed,
            Metric::BadOutputs => observation.ending == Ending::BadOutput,
            Metric::Timeouts => observation.ending == Ending::TimedOut,
            Metric::Sheds => observation.ending == Ending::Shed,
            Metric::Slow { limit_us } => match latency(observation, Time::Total) {
                None => return,
                Some(latency) => latency.is_none_or(|latency_us| latency_us > limit_us),
            },
            Metric::Quantile { time, .. } => {
                return self.observe_latency(observation, time, shared);
            }
            Metric::Agreement { .. } | Metric::Accuracy => return,
        };
        let counts = match &mut self.test {
            Test::Labels(labels) => {
                labels.request(of_canary, observation.routing, is_bad, shared.is_first)
            }
            Test::Slots(slots) if shared.is_first => {
                let at = (observation.routing.weight(), observation.at_us);
                slots.request(of_canary, is_bad, at, shared.pace);
                is_bad
            }
            Test::Slots(_) | Test::Percentile(..) | Test::Pairs(..) => return,
        };
        self.count(of_canary, counts);
    }

    fn observe_latency(&mut self, observation: &Observation, time: Time, shared: Shared) {
        let of_canary = observation.arm == Arm::Canary;
        let Test::Percentile(percentile, slots) = &mut self.test else {
            return;
        };
        let Some(latency) = latency(observation, time).filter(|_| shared.is_first) else {
            return;
        };
        let is_slow = percentile.is_slow(of_canary, latency);
        if let Some(is_slow) = is_slow {
            let at = (observation.routing.weight(), observation.at_us);
            if slots.request(of_canary, is_slow, at, shared.pace) {
                percentile.set();
            }
            self.count(of_canary, is_slow);
        } else if percentile.has_no_bar() {
            percentile.set();
        }
    }

    fn count(&mut self, of_canary: bool, is_event: bool) {
        let counts = match of_canary {
            true => &mut self.canary,
            false => &mut self.stable,
        };
        counts.of += 1;
        counts.events += u64::from(is_event);
    }

    /// Takes in whether both versions gave the same answer.
    pub(super) fn compare(&mut self, agree: bool) {
        let Metric::Agreement { least } = self.plan.metric else {
            return;
        };
        self.count(true, !agree);
        let (differ, alike) = (self.canary.events, self.canary.of - self.canary.events);
        if let Test::Pairs(harm, safe) = &mut self.test {
            let test = RateTest::new(1.0 - least);
            let (differ, alike) = (differ as f64, alike as f64);
            *harm = harm.max(test.log_e_above(differ, alike));
            *safe = safe.max(test.log_e_below(differ, alike));
        }
    }

    /// Takes in what turned out about an answer.
    pub(super) fn learn(&mut self, truth: &Truth) {
        if self.plan.metric != Metric::Accuracy {
            return;
        }
        let Test::Labels(labels) = &mut self.test else {
            return;
        };
        match *truth {
            Truth::Single {
                arm,
                routing,
                worth,
            } => {
                let (of_canary, wrong) = (arm == Arm::Canary, worth.missing());
                if labels.label(of_canary, routing, wrong) {
                    self.count_part(of_canary, wrong);
                }
            }
            Truth::Paired { stable, canary } => {
                let wrong = [stable.missing(), canary.missing()];
                let (of_canary, event) = match self.plan.ratio_max > 1.0 {
                    // What one of them has more wrong is no measure of a ratio above 1: a coin says whose answer counts.
                    true => {
                        let coin = SplitMix64::new(self.canary.of).next_u64();
                        let of_canary = coin.is_multiple_of(2);
                        (of_canary, wrong[usize::from(of_canary)])
                    }
                    false => (wrong[1] > wrong[0], (wrong[1] - wrong[0]).abs()),
                };
                labels.paired_label(of_canary, event);
                self.count_part(false, wrong[0]);
                self.count_part(true, wrong[1]);
            }
        }
    }

    /// Counts an answer that is so much of an event.
    fn count_part(&mut self, of_canary: bool, event: f64) {
        let part = &mut self.parts[usize::from(of_canary)];
        *part += event;
        let is_whole = *part >= 1.0;
        *part -= f64::from(u8::from(is_whole));
        self.count(of_canary, is_whole);
    }

    /// Whether it is proven that labels come for one version more often.
    pub(super) fn has_uneven_labels(&self) -> bool {
        matches!(&self.test, Test::Labels(labels) if labels.come_unevenly())
    }

    /// The logarithms of the e-values of harm, now and at its highest.
    pub(super) fn harm(&self) -> (f64, f64) {
        match &self.test {
            Test::Labels(labels) => labels.harm(),
            Test::Slots(slots) | Test::Percentile(_, slots) => slots.harm(),
            Test::Pairs(harm, _) => (self.pairs(RateTest::log_e_above), *harm),
        }
    }

    /// The logarithms of the capitals whose mean is the evidence of harm now; none where it is no such mean.
    pub(super) fn capitals_harm(&self) -> &[f64] {
        match &self.test {
            Test::Labels(labels) => labels.capitals_harm(),
            Test::Slots(slots) | Test::Percentile(_, slots) => slots.capitals_harm(),
            Test::Pairs(..) => &[],
        }
    }

    /// Those of safety.
    pub(super) fn safe(&self) -> (f64, f64) {
        match &self.test {
            Test::Labels(labels) => labels.safe(),
            Test::Slots(slots) | Test::Percentile(_, slots) => slots.safe(),
            Test::Pairs(_, safe) => (self.pairs(RateTest::log_e_below), *safe),
        }
    }

    fn pairs(&self, log_e: impl Fn(&RateTest, f64, f64) -> f64) -> f64 {
        let Metric::Agreement { least } = self.plan.metric else {
            return 0.0;
        };
        let Counts { events, of } = self.canary;
        log_e(
            &RateTest::new(1.0 - least),
            events as f64,
            (of - events) as f64,
        )
    }

    /// The requests of both arms (pairs, for agreement) that safety will still take.
    pub(super) fn forecast(&self, threshold: f64, weight: f64) -> Option<u64> {
        match &self.test {
            Test::Labels(labels) => {
                let events = self.stable.events + self.canary.events;
                let all = (self.stable.of + self.canary.of).max(1);
                labels.forecast(threshold, events as f64 / all as f64, weight)
            }
            Test::Slots(slots) | Test::Percentile(_, slots) => slots.forecast(threshold),
            Test::Pairs(_, safe) => {
                let Metric::Agreement { least } = self.plan.metric else {
                    return None;
                };
                let needed = RateTest::new(1.0 - least).requests_to_certify(threshold);
                match (*safe >= threshold, self.canary.events) {
                    (true, _) => Some(0),
                    (false, 0) => Some(needed.saturating_sub(self.canary.of)),
                    (false, _) => None,
                }
            }
        }
    }
}

/// The latency of a request that has one, without end where its time was over; none where it says nothing, as among the first of an
/// instance, or where it did not run.
fn latency(observation: &Observation, time: Time) -> Option<Option<u64>> {
    let is_over = observation.ending == Ending::TimedOut;
    let is_told = match observation.ending {
        Ending::Answered | Ending::BadOutput => true,
        Ending::TimedOut => time == Time::Total || observation.run_us > 0,
        Ending::Failed | Ending::Shed | Ending::Malformed | Ending::Abandoned => false,
    };
    let latency_us = match time {
        Time::Service => observation.run_us,
        Time::Total => observation.total_us,
    };
    (is_told && !observation.cold).then_some((!is_over).then_some(latency_us))
}

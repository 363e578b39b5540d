//! The guard: takes what is known of each request, and says whether the canary does harm. Pure.
//!
//! Every metric has tests of its own, of "it does no harm" and of "it is not safe"; the budget for false alarms is split evenly over them. An
//! observation belongs to the arm that the request was assigned to. What was proven once stays proven.
//!
//! A guard that was written down and read again goes on to the same bits.

use serde::{Deserialize, Serialize};

use crate::canary::guard_plan::{GuardPlan, Metric, MetricPlan, PlanError};
use crate::canary::observation::{Arm, Ending, Observation, Routing, Truth};
use crate::evidence::{BlockChance, EventLabel};

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
    /// The logarithm that proves harm.
    pub threshold_harm: f64,
    /// The logarithm that proves safety.
    pub threshold_safe: f64,
    /// What is proven.
    pub verdict: Verdict,
    /// Requests of both arms that it will still take to prove safety at the present weight and rates, where the canary is no worse; absent
    /// where nothing can be said yet.
    pub forecast: Option<u64>,
}

/// Events of one arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Bad events.
    pub events: u64,
    /// Of so many.
    pub of: u64,
}

/// The state of a judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    plan: GuardPlan,
    gauges: Vec<Gauge>,
}

/// The state of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Gauge {
    plan: MetricPlan,
    stable: Counts,
    canary: Counts,
    chance: BlockChance,
    harm: EventLabel,
    safe: EventLabel,
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
        Ok(Self { plan, gauges })
    }

    /// Takes in a request that has ended.
    pub fn observe(&mut self, observation: &Observation) {
        if !observation.counts() {
            return;
        }
        for gauge in &mut self.gauges {
            gauge.observe(observation);
        }
    }

    /// Takes in whether both versions gave the same answer to a mirrored request.
    pub fn compare(&mut self, _agree: bool) {}

    /// Takes in what turned out about an answer.
    pub fn learn(&mut self, _truth: &Truth) {}

    /// What each metric says, in the order of the plan.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let harm = (self.gauges.len() as f64 / self.plan.alpha).ln();
        let safe = (1.0 / self.plan.alpha).ln();
        self.gauges
            .iter()
            .map(|gauge| gauge.finding(harm, safe))
            .collect()
    }

    /// Harm where any metric proves it, safe where all do.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let findings = self.findings();
        let all = |wanted| findings.iter().all(|finding| finding.verdict == wanted);
        if findings.iter().any(|one| one.verdict == Verdict::Harm) {
            Verdict::Harm
        } else if all(Verdict::Safe) {
            Verdict::Safe
        } else {
            Verdict::Undecided
        }
    }
}

impl Gauge {
    fn new(plan: MetricPlan) -> Self {
        Self {
            plan,
            stable: Counts::default(),
            canary: Counts::default(),
            chance: BlockChance::default(),
            harm: EventLabel::harm(plan.ratio_max),
            safe: EventLabel::safe(plan.promote_below),
        }
    }

    fn observe(&mut self, observation: &Observation) {
        let is_event = match self.plan.metric {
            Metric::Errors => observation.ending == Ending::Failed,
            Metric::Timeouts => observation.ending == Ending::TimedOut,
            Metric::Sheds => observation.ending == Ending::Shed,
            Metric::BadOutputs => observation.ending == Ending::BadOutput,
            Metric::Slow { limit_us } => observation.total_us > limit_us,
            Metric::Quantile { .. } | Metric::Agreement { .. } | Metric::Accuracy => return,
        };
        let counts = match observation.arm {
            Arm::Stable => &mut self.stable,
            Arm::Canary => &mut self.canary,
        };
        counts.of += 1;
        if is_event {
            counts.events += 1;
            self.event(observation.arm == Arm::Canary, observation.routing);
        }
    }

    fn event(&mut self, of_canary: bool, routing: Routing) {
        let chance = match routing {
            Routing::Exact(block) => self.chance.event(block, of_canary),
            Routing::Random { weight } | Routing::Sticky { weight, .. } => Some(weight),
        };
        if let Some(chance) = chance {
            self.harm.event(of_canary, chance);
            self.safe.event(of_canary, chance);
        }
    }

    fn finding(&self, threshold_harm: f64, threshold_safe: f64) -> Finding {
        let (log_e_harm, log_e_safe) = (self.harm.highest(), self.safe.highest());
        let verdict = if log_e_harm >= threshold_harm {
            Verdict::Harm
        } else if log_e_safe >= threshold_safe {
            Verdict::Safe
        } else {
            Verdict::Undecided
        };
        Finding {
            plan: self.plan,
            stable: self.stable,
            canary: self.canary,
            log_e_harm,
            log_e_safe,
            threshold_harm,
            threshold_safe,
            verdict,
            forecast: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Block;

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

    #[test]
    fn a_canary_that_always_fails_is_harm_after_three_failures() {
        let plan = GuardPlan {
            alpha: 0.01,
            metrics: vec![GuardPlan::default().metrics[0]],
        };
        let mut guard = Guard::new(plan).unwrap();
        for failures in 1..=3 {
            assert_eq!(guard.verdict(), Verdict::Undecided);
            guard.observe(&observation(Arm::Stable, 7, Ending::Answered));
            guard.observe(&observation(Arm::Canary, 7, Ending::Failed));
            assert_eq!(guard.findings()[0].canary.events, failures);
        }
        assert_eq!(guard.verdict(), Verdict::Harm);
    }
}

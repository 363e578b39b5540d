//! What a canary is judged by: metrics with their margins, and one budget for false alarms. Pure.
//!
//! Not here: how it is written in a file.

use serde::{Deserialize, Serialize};

/// Metrics of one plan at most: each takes its part of the budget.
const METRICS_MAX: usize = 32;

/// A rate of bad events that is no harm, whatever the other version has.
const NEGLIGIBLE: f64 = 0.001;

/// Latencies that can be asked for: up to an hour.
const LIMIT_US_MAX: u64 = 3_600_000_000;

/// The part of a request's time that a latency is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Time {
    /// The run alone, without the queue.
    Service,
    /// All of it.
    Total,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Requests that the version failed.
    Errors,
    /// Requests whose time was over.
    Timeouts,
    /// Requests that were turned away.
    Sheds,
    /// Requests that took longer than this in all, or timed out.
    Slow {
        /// The longest time that is not slow.
        limit_us: u64,
    },
    /// Answers with a NaN or an infinity.
    BadOutputs,
    /// A percentile of a latency.
    Quantile {
        /// From 0 to 1: 0.99.
        quantile: f64,
        /// Of which time.
        time: Time,
        /// The canary's may be greater by this part: 0.1 is 10 %.
        increase_max: f64,
    },
    /// Mirrored requests that both versions answer alike.
    Agreement {
        /// The least share of them.
        least: f64,
    },
    /// Answers that turned out right.
    Accuracy,
}

/// One metric with its margins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricPlan {
    /// What is counted.
    pub metric: Metric,
    /// Harm is proven when the canary's rate is more than so many times that of the stable version. Agreement has a bar of its own.
    pub ratio_max: f64,
    /// Safety is proven when it is less than so many times. For a percentile the rate is that of requests beyond it, with what the canary
    /// may be slower already taken into account: 1 means "not slower by more than that".
    pub promote_below: f64,
    /// Safety is proven too when the canary's rate is less than this, whatever the ratio; 0 for never.
    pub negligible: f64,
}

/// All that a canary is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardPlan {
    /// The chance that harm is found in any metric, at any time, where there is none.
    pub alpha: f64,
    /// The metrics, each once.
    pub metrics: Vec<MetricPlan>,
}

/// The reason why a plan is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The budget.
    #[error("alpha: expected a chance above 0 and at most 0.5, such as 0.01, found {found}")]
    Alpha {
        /// As it was given.
        found: f64,
    },
    /// No metric, or too many.
    #[error("metrics: expected 1 to {METRICS_MAX}, found {found}")]
    Count {
        /// So many.
        found: usize,
    },
    /// A number of a metric.
    #[error("metrics[{at}].{field}: expected {expected}, found {found}")]
    Number {
        /// The place of the metric, from 0.
        at: usize,
        /// Which of its numbers.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// A metric stands there twice.
    #[error("metrics[{at}]: expected each metric once, found the one of metrics[{first}] again")]
    Twice {
        /// The place of the second, from 0.
        at: usize,
        /// The place of the first.
        first: usize,
    },
}

impl Default for GuardPlan {
    /// Errors, timeouts, sheds, bad outputs, and the tail of the latency with a tolerance, at 1 % for all of them.
    fn default() -> Self {
        let tail = Metric::Quantile {
            quantile: 0.99,
            time: Time::Total,
            increase_max: 0.1,
        };
        let metrics = [
            Metric::Errors,
            Metric::Timeouts,
            Metric::Sheds,
            Metric::BadOutputs,
            tail,
        ];
        Self {
            alpha: 0.01,
            metrics: metrics.map(MetricPlan::new).to_vec(),
        }
    }
}

impl MetricPlan {
    /// The metric with the margins that it has where nothing is said.
    #[must_use]
    pub fn new(metric: Metric) -> Self {
        let (promote_below, negligible) = match metric {
            // What it may be slower is its margin, and a part of the requests is always beyond.
            Metric::Quantile { .. } => (1.0, 0.0),
            // Twice as many wrong answers are no success.
            Metric::Accuracy => (1.1, 0.0),
            _ => (2.0, NEGLIGIBLE),
        };
        Self {
            metric,
            ratio_max: 1.0,
            promote_below,
            negligible,
        }
    }
}

impl Metric {
    /// The name of the metric: `errors`, `slow-50ms`, `p99-total`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Errors => "errors".to_owned(),
            Self::Timeouts => "timeouts".to_owned(),
            Self::Sheds => "sheds".to_owned(),
            Self::Slow { limit_us } => format!("slow-{}ms", *limit_us as f64 / 1000.0),
            Self::BadOutputs => "bad-outputs".to_owned(),
            Self::Quantile { quantile, time, .. } => {
                let time = match time {
                    Time::Service => "service",
                    Time::Total => "total",
                };
                format!("p{}-{time}", (quantile * 1e6).round() / 1e4)
            }
            Self::Agreement { .. } => "agreement".to_owned(),
            Self::Accuracy => "accuracy".to_owned(),
        }
    }
}

impl GuardPlan {
    /// All that is wrong with the plan; nothing when it is one.
    #[must_use]
    pub fn problems(&self) -> Vec<PlanError> {
        let mut problems = Vec::new();
        if !(self.alpha > 0.0 && self.alpha <= 0.5) {
            problems.push(PlanError::Alpha { found: self.alpha });
        }
        if !(1..=METRICS_MAX).contains(&self.metrics.len()) {
            problems.push(PlanError::Count {
                found: self.metrics.len(),
            });
        }
        for (at, plan) in self.metrics.iter().enumerate() {
            problems.extend(plan.problems(at));
            let same = |other: &MetricPlan| other.metric.name() == plan.metric.name();
            if let Some(first) = self.metrics[..at].iter().position(same) {
                problems.push(PlanError::Twice { at, first });
            }
        }
        problems
    }
}

impl MetricPlan {
    fn problems(&self, at: usize) -> Vec<PlanError> {
        let wrong = |field, expected, found| PlanError::Number {
            at,
            field,
            expected,
            found,
        };
        let mut problems = Vec::new();
        if !(0.1..=100.0).contains(&self.ratio_max) {
            problems.push(wrong(
                "ratio_max",
                "a ratio from 0.1 to 100",
                self.ratio_max,
            ));
        }
        let may_be_slower =
            matches!(self.metric, Metric::Quantile { increase_max, .. } if increase_max > 0.0);
        let is_above = self.promote_below > 1.0 || (may_be_slower && self.promote_below >= 1.0);
        if !(is_above && self.promote_below <= 100.0) {
            problems.push(wrong(
                "promote_below",
                "a ratio above 1 (1 for a percentile that may increase) and at most 100",
                self.promote_below,
            ));
        }
        if !(0.0..=0.5).contains(&self.negligible) {
            problems.push(wrong("negligible", "a rate from 0 to 0.5", self.negligible));
        }
        match self.metric {
            Metric::Slow { limit_us } if !(1..=LIMIT_US_MAX).contains(&limit_us) => {
                let expected = "1 us to an hour";
                problems.push(wrong("limit_us", expected, limit_us as f64));
            }
            Metric::Quantile {
                quantile,
                increase_max,
                ..
            } => {
                if !(0.01..=0.999).contains(&quantile) {
                    problems.push(wrong("quantile", "0.01 to 0.999", quantile));
                }
                if !(0.0..=10.0).contains(&increase_max) {
                    problems.push(wrong("increase_max", "0 to 10 (1000 %)", increase_max));
                }
            }
            Metric::Agreement { least } if !(least > 0.0 && least < 1.0) => {
                problems.push(wrong("least", "a share above 0 and below 1", least));
            }
            _ => {}
        }
        problems
    }
}

//! The `guard` of a rollout's file: a budget, and metrics with their margins.

use crate::canary::draft::{Draft, read_seconds};
use crate::canary::guard_plan::{Metric, MetricPlan, Time};
use crate::canary::plan::{OnSlowed, OnUndecided};
use crate::spec::{Content, Fields, Node, Problem, one_of, text};

/// The names of metrics, as a file has them.
const METRICS: &[&str] = &[
    "errors",
    "timeouts",
    "sheds",
    "slow",
    "bad_outputs",
    "p50",
    "p90",
    "p99",
    "agreement",
    "accuracy",
];

/// Reads a guard.
pub(super) fn read_guard(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let mut fields = Fields::open(node, problems);
    let mut plan = draft.guard.take().unwrap_or_default();
    if let Some(alpha) = fields.read("alpha", number) {
        plan.alpha = alpha;
    }
    if let Some(metrics) = fields.take("metrics") {
        plan.metrics = read_metrics(metrics, fields.problems());
    }
    if let Some(on_undecided) = fields.read("onUndecided", read_on_undecided) {
        draft.on_undecided = on_undecided;
    }
    if let Some(on_slowed) = fields.read("onSlowerStable", read_on_slowed) {
        draft.on_slowed = on_slowed;
    }
    draft.seconds_max = fields
        .read("maxDuration", read_seconds)
        .or(draft.seconds_max);
    fields.finish(&[]);
    draft.guard = Some(plan);
}

fn read_on_undecided(node: Node) -> Result<OnUndecided, Problem> {
    let word = one_of(node, &["hold", "promote-flagged", "abort"])?;
    Ok(match word.to_ascii_lowercase().as_str() {
        "abort" => OnUndecided::Abort,
        "promote-flagged" => OnUndecided::PromoteFlagged,
        _ => OnUndecided::Hold,
    })
}

fn read_on_slowed(node: Node) -> Result<OnSlowed, Problem> {
    let word = one_of(node, &["hold", "tell"])?;
    Ok(match word.to_ascii_lowercase().as_str() {
        "tell" => OnSlowed::Tell,
        _ => OnSlowed::Hold,
    })
}

fn read_metrics(node: Node, problems: &mut Vec<Problem>) -> Vec<MetricPlan> {
    let wrong = node.expected("a list of metrics");
    let Content::List(items) = node.content else {
        problems.push(wrong);
        return Vec::new();
    };
    items
        .into_iter()
        .filter_map(|item| read_metric(item, problems))
        .collect()
}

fn read_metric(node: Node, problems: &mut Vec<Problem>) -> Option<MetricPlan> {
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    let name = fields.require("name", &METRICS.join(" or "), |node| one_of(node, METRICS))?;
    let name = name.to_ascii_lowercase();
    let metric = match name.as_str() {
        "errors" => Metric::Errors,
        "timeouts" => Metric::Timeouts,
        "sheds" => Metric::Sheds,
        "bad_outputs" => Metric::BadOutputs,
        "accuracy" => Metric::Accuracy,
        "slow" => {
            let limit_ms = fields.require("slo_ms", "a latency in milliseconds", number)?;
            Metric::Slow {
                limit_us: micros(limit_ms),
            }
        }
        "agreement" => {
            let least = fields.read("min", share).unwrap_or(0.99);
            Metric::Agreement { least }
        }
        quantile => {
            let quantile = match quantile {
                "p50" => 0.5,
                "p90" => 0.9,
                _ => 0.99,
            };
            let increase_max = fields.read("maxIncrease", share).unwrap_or(0.1);
            let time = fields.read("time", |node| one_of(node, &["total", "service"]));
            let time = match time.as_deref() {
                Some("service") => Time::Service,
                _ => Time::Total,
            };
            Metric::Quantile {
                quantile,
                time,
                increase_max,
            }
        }
    };
    let mut plan = MetricPlan::new(metric);
    if let Some(ratio) = fields.read("maxRatio", number) {
        plan.ratio_max = ratio;
    }
    if let Some(ratio) = fields.read("promoteIfBelow", number) {
        plan.promote_below = ratio;
    }
    if let Some(rate) = fields.read("negligible", share) {
        plan.negligible = rate;
    }
    fields.finish(&[]);
    (problems.len() == before).then_some(plan)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float converts to the nearest number that fits; its bounds are judged with the plan"
)]
fn micros(milliseconds: f64) -> u64 {
    (milliseconds * 1000.0).round() as u64
}

/// A number, also as text.
fn number(node: Node) -> Result<f64, Problem> {
    let at = node.clone();
    let number = text(node).ok().and_then(|text| text.parse::<f64>().ok());
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| at.expected("a number"))
}

/// A share: `0.1`, or `10%`.
pub(super) fn share(node: Node) -> Result<f64, Problem> {
    let at = node.clone();
    let written = text(node).unwrap_or_default();
    let share = match written.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => written.parse::<f64>(),
    };
    let share = share.ok().filter(|share| share.is_finite());
    share.ok_or_else(|| at.expected("a share such as 10% or 0.1"))
}

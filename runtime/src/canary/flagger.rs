//! The `analysis` of a canary, in the words of Flagger: an interval, a ramp of equal steps, metrics with ranges, webhooks.
//!
//! Flagger compares each interval with fixed ranges. Here the same metrics compare the canary with the stable version, by every request:
//! the intervals are how long each weight stays at least.

use crate::canary::draft::{Draft, read_seconds, read_url};
use crate::canary::guard_plan::{GuardPlan, Metric, MetricPlan};
use crate::canary::plan::{Hook, Step, StickyKey};
use crate::spec::{
    Content, Fields, Node, Percent, Problem, one_of, parsed, text, whole, yes_or_no,
};

/// The wait between two weights where the file gives none (Flagger's own).
const INTERVAL_S: u64 = 60;
/// The kinds of webhooks: the first three are asked, the others hear of something.
const WEBHOOKS: &[&str] = &[
    "confirm-rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
    "pre-rollout",
    "rollout",
    "post-rollout",
    "rollback",
    "event",
];

/// The ramp as the file says it.
#[derive(Default)]
struct Ramp {
    interval_s: u64,
    weights: Vec<Percent>,
    mirror: Option<Percent>,
    iterations: u64,
}

/// The gates of a ramp, by where they stand.
#[derive(Default)]
struct Gates {
    before: Vec<Hook>,
    each: Vec<Hook>,
    after: Vec<Hook>,
}

/// Reads an analysis.
pub(super) fn read_analysis(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    for (key, words) in [
        (
            "threshold",
            "failed intervals are not counted: the guard proves harm or does not",
        ),
        (
            "primaryReadyThreshold",
            "a deployment serves when it is ready",
        ),
        (
            "canaryReadyThreshold",
            "a deployment serves when it is ready",
        ),
        ("stepWeightPromotion", "the promotion is one step"),
        ("alerts", "use `notify`"),
    ] {
        if let Some(found) = fields.take(key) {
            draft
                .notes
                .push(format!("{}: without effect here: {words}", found.field));
        }
    }
    if let Some(found) = fields.take("match") {
        let problem = found.problem(
            "cannot be done here: a request that names its deployment goes there by itself (header `azureml-model-deployment`)",
        );
        fields.problems().push(problem);
    }
    draft.sticky = draft.sticky.take().or_else(|| read_affinity(&mut fields));
    let ramp = read_ramp(&mut fields);
    let mut gates = Gates::default();
    if let Some(webhooks) = fields.take("webhooks") {
        read_webhooks(webhooks, draft, &mut gates, fields.problems());
    }
    if let Some(metrics) = fields.take("metrics") {
        read_metrics(metrics, draft, fields.problems());
    }
    fields.finish(&[]);
    if problems.len() == before {
        draft.steps = steps_of(&ramp, &gates);
        draft.places = vec![None; draft.steps.len()];
    }
}

fn read_affinity(fields: &mut Fields<'_>) -> Option<StickyKey> {
    let affinity = fields.take("sessionAffinity")?;
    let mut inner = Fields::open(affinity, fields.problems());
    let cookie = inner.require("cookieName", "the name of a cookie", text);
    inner.ignore(&["maxAge", "primaryCookieName"]);
    inner.finish(&[]);
    cookie.map(StickyKey::Cookie)
}

fn read_ramp(fields: &mut Fields<'_>) -> Ramp {
    let interval_s = fields.read("interval", read_seconds).unwrap_or(INTERVAL_S);
    let most = fields
        .read("maxWeight", parsed::<Percent>)
        .unwrap_or(Percent::HUNDRED);
    let step = fields
        .read("stepWeight", parsed::<Percent>)
        .filter(|step| *step > Percent::ZERO);
    let listed = fields
        .take("stepWeights")
        .map(|node| read_weights(node, fields.problems()));
    let iterations = fields
        .read("iterations", whole(0..=1_000_000_u64))
        .unwrap_or(0);
    let mirror = fields.read("mirror", yes_or_no).unwrap_or(false);
    let mirrored = fields.read("mirrorWeight", parsed::<Percent>);
    let weights = listed.unwrap_or_else(|| match step {
        Some(step) => (1..)
            .map_while(|times: u32| {
                let hundredths = u32::from(step.hundredths()) * times;
                u16::try_from(hundredths)
                    .ok()
                    .and_then(Percent::from_hundredths)
            })
            .take_while(|weight| *weight <= most)
            .collect(),
        None => Vec::new(),
    });
    Ramp {
        interval_s,
        weights,
        mirror: mirror.then(|| mirrored.unwrap_or(Percent::HUNDRED)),
        iterations,
    }
}

fn read_weights(node: Node, problems: &mut Vec<Problem>) -> Vec<Percent> {
    let wrong = node.expected("a list of weights such as [1, 10, 50]");
    let Content::List(items) = node.content else {
        problems.push(wrong);
        return Vec::new();
    };
    let read = items.into_iter().map(parsed::<Percent>);
    read.filter_map(|weight| weight.map_err(|problem| problems.push(problem)).ok())
        .collect()
}

fn steps_of(ramp: &Ramp, gates: &Gates) -> Vec<Step> {
    let pause = |seconds| Step::Pause {
        seconds: Some(seconds),
    };
    let asked = |hooks: &[Hook]| {
        let gates = hooks.iter().cloned().map(|hook| Step::Gate { hook });
        gates.collect::<Vec<_>>()
    };
    let mut steps = asked(&gates.before);
    if let Some(percent) = ramp.mirror {
        steps.extend([Step::Mirror { percent, pairs: 0 }, pause(ramp.interval_s)]);
    }
    if ramp.iterations > 0 {
        steps.push(pause(ramp.interval_s.saturating_mul(ramp.iterations)));
    }
    for percent in &ramp.weights {
        steps.extend(asked(&gates.each));
        steps.push(Step::SetWeight { percent: *percent });
        if *percent < Percent::HUNDRED {
            steps.push(pause(ramp.interval_s));
        }
    }
    steps.extend(asked(&gates.after));
    if ramp.weights.last() != Some(&Percent::HUNDRED) {
        let percent = Percent::HUNDRED;
        steps.push(Step::SetWeight { percent });
    }
    steps
}

fn read_webhooks(node: Node, draft: &mut Draft, gates: &mut Gates, problems: &mut Vec<Problem>) {
    let wrong = node.expected("a list of webhooks");
    let Content::List(items) = node.content else {
        problems.push(wrong);
        return;
    };
    for item in items {
        let mut fields = Fields::open(item, problems);
        fields.ignore(&[
            "name",
            "timeout",
            "metadata",
            "muteAlert",
            "retries",
            "disableTLS",
        ]);
        let kind = fields.read("type", |node| one_of(node, WEBHOOKS));
        let url = fields.require("url", "an address", read_url);
        fields.finish(&[]);
        let Some(hook) = url.map(Hook::Url) else {
            continue;
        };
        match kind.as_deref() {
            Some("confirm-rollout") => gates.before.push(hook),
            Some("confirm-traffic-increase") => gates.each.push(hook),
            Some("confirm-promotion") => gates.after.push(hook),
            _ => draft.notify.push(hook),
        }
    }
}

fn read_metrics(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let wrong = node.expected("a list of metrics");
    let Content::List(items) = node.content else {
        problems.push(wrong);
        return;
    };
    let mut plan = GuardPlan::default();
    for item in items {
        let at = item.clone();
        let mut fields = Fields::open(item, problems);
        let name = fields.require("name", "a metric", text);
        fields.ignore(&["interval"]);
        let most_ms = fields.take("thresholdRange").and_then(|range| {
            let mut inner = Fields::open(range, fields.problems());
            inner.ignore(&["min"]);
            let most = inner.read("max", whole(1..=3_600_000_u64));
            inner.finish(&[]);
            most
        });
        let template = fields.take("templateRef").or_else(|| fields.take("query"));
        if let Some(template) = &template {
            let problem = template.problem(
                "cannot be done here: serin has no Prometheus to ask; take the metric out, and judge by `guard`",
            );
            fields.problems().push(problem);
        }
        fields.finish(&[]);
        match name.as_deref() {
            // It is judged in any case, against the stable version.
            Some("request-success-rate") => draft.notes.push(format!(
                "{}: judged against the stable version, not against a fixed share",
                at.field
            )),
            Some("request-duration") => {
                if let Some(most_ms) = most_ms {
                    plan.metrics.push(slow(most_ms));
                }
            }
            Some(other) if template.is_none() => problems.push(at.problem(format!(
                "expected request-success-rate or request-duration, found {other:?}: others are queries of a cluster's"
            ))),
            _ => {}
        }
    }
    draft.guard.get_or_insert(plan);
}

/// Requests that take longer than this.
fn slow(limit_ms: u64) -> MetricPlan {
    MetricPlan::new(Metric::Slow {
        limit_us: limit_ms * 1000,
    })
}

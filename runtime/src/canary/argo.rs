//! The `strategy` of a rollout, in the words of Argo Rollouts (`strategy.canary.steps`), with `mirror`, `switchback` and `gate` of our own.

use crate::canary::draft::{Draft, read_hook, read_seconds};
use crate::canary::guard_file::share;
use crate::canary::plan::{PAIRS_DEFAULT, Step};
use crate::canary::switchback::SwitchbackPlan;
use crate::spec::{Content, Fields, Node, Percent, Problem, parsed, whole};

/// Keys of a canary that are about pods and meshes.
const OF_THE_CLUSTER: &[&str] = &[
    "canaryService",
    "stableService",
    "canaryMetadata",
    "stableMetadata",
    "maxSurge",
    "maxUnavailable",
    "dynamicStableScale",
    "abortScaleDownDelaySeconds",
    "scaleDownDelaySeconds",
    "scaleDownDelayRevisionLimit",
    "minPodsPerReplicaSet",
    "antiAffinity",
    "trafficRouting",
];
/// The kinds of steps.
const STEPS: &str =
    "mirror, setMirrorRoute, setWeight, setCanaryScale, pause, analysis, switchback, gate";

/// Reads a strategy.
pub(super) fn read_strategy(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let mut fields = Fields::open(node, problems);
    if let Some(other) = fields.take("blueGreen") {
        let problem =
            other.problem("expected `canary`: serin's rollouts shift traffic step by step");
        fields.problems().push(problem);
    }
    if let Some(canary) = fields.take("canary") {
        read_canary(canary, draft, fields.problems());
    }
    fields.finish(&[]);
}

fn read_canary(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let mut fields = Fields::open(node, problems);
    for key in OF_THE_CLUSTER {
        if let Some(found) = fields.take(key) {
            let words = match *key {
                "scaleDownDelaySeconds" | "abortScaleDownDelaySeconds" => {
                    "without effect: both versions stay until somebody deletes one"
                }
                _ => "of the cluster, without effect here",
            };
            draft.notes.push(format!("{}: {words}", found.field));
        }
    }
    if let Some(analysis) = fields.take("analysis") {
        note_templates(&analysis, draft);
    }
    if let Some(steps) = fields.take("steps") {
        read_steps(steps, draft, fields.problems());
    }
    fields.finish(&[]);
}

/// Templates are queries of somebody's metrics. The guard judges by every request itself.
fn note_templates(analysis: &Node, draft: &mut Draft) {
    draft.notes.push(format!(
        "{}: templates are not run; the guard judges every request itself, by `guard`",
        analysis.field
    ));
}

fn read_steps(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let wrong = node.expected("a list of steps");
    let Content::List(items) = node.content else {
        problems.push(wrong);
        return;
    };
    for item in items {
        let place = item.place;
        if let Some(step) = read_step(item, draft, problems) {
            draft.steps.push(step);
            draft.places.push(place);
        }
    }
}

/// Reads one step; of one without effect nothing comes.
fn read_step(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) -> Option<Step> {
    let wrong = node.expected(format_args!("one of {STEPS}"));
    let mut entries = match node.content {
        Content::Map(entries) if entries.len() == 1 => entries.into_iter(),
        _ => {
            problems.push(wrong);
            return None;
        }
    };
    let (kind, value) = entries.next()?;
    match kind.as_str() {
        "setWeight" => {
            let percent = parsed::<Percent>(value);
            let percent = percent.map_err(|problem| problems.push(problem)).ok()?;
            Some(Step::SetWeight { percent })
        }
        "pause" => read_time("duration", value, problems).map(|seconds| Step::Pause { seconds }),
        "analysis" => read_analysis(value, draft, problems),
        "mirror" | "setMirrorRoute" => read_mirror(value, problems),
        "switchback" => read_switchback(value, problems),
        "setCanaryScale" => read_scale(value, problems),
        "gate" => read_hook(value, problems).map(|hook| Step::Gate { hook }),
        "setHeaderRoute" => refuse(
            &value,
            "a request that names its deployment goes there by itself (header `azureml-model-deployment`); take the step out",
            problems,
        ),
        "experiment" => refuse(
            &value,
            "an experiment is a rollout of its own: two deployments and a mirror step; take the step out",
            problems,
        ),
        "replicaProgressThreshold" | "plugin" => {
            refuse(&value, "it is of the cluster; take the step out", problems)
        }
        _ => {
            problems.push(value.problem(format!("unknown step: expected one of {STEPS}")));
            None
        }
    }
}

fn refuse(at: &Node, words: &str, problems: &mut Vec<Problem>) -> Option<Step> {
    problems.push(at.problem(format!("cannot be done here: {words}")));
    None
}

/// A step that may have a time; none with problems, none within where it has none.
fn read_time(key: &'static str, node: Node, problems: &mut Vec<Problem>) -> Option<Option<u64>> {
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    let seconds = fields.read(key, read_seconds);
    fields.finish(&[]);
    (problems.len() == before).then_some(seconds)
}

fn read_analysis(node: Node, draft: &mut Draft, problems: &mut Vec<Problem>) -> Option<Step> {
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    if let Some(templates) = fields.take("templates") {
        note_templates(&templates, draft);
    }
    fields.ignore(&[
        "args",
        "dryRun",
        "measurementRetention",
        "analysisRunMetadata",
    ]);
    let seconds = fields.read("timeout", read_seconds);
    fields.finish(&[]);
    (problems.len() == before).then_some(Step::Analysis { seconds })
}

fn read_mirror(node: Node, problems: &mut Vec<Problem>) -> Option<Step> {
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    // The name of a route of the mesh.
    let is_argo = fields.take("name").is_some() || fields.has("percentage");
    fields.ignore(&["match"]);
    let key = if is_argo { "percentage" } else { "percent" };
    let percent = fields.read(key, parsed::<Percent>);
    let pairs = fields.read("pairs", whole(0..=100_000_000_u64));
    fields.finish(&["percent"]);
    // A route of Argo's says only that copies go; there is no wait in it.
    let pairs = pairs.unwrap_or(if is_argo { 0 } else { PAIRS_DEFAULT });
    let percent = percent.unwrap_or(Percent::HUNDRED);
    (problems.len() == before).then_some(Step::Mirror { percent, pairs })
}

fn read_switchback(node: Node, problems: &mut Vec<Problem>) -> Option<Step> {
    let before = problems.len();
    let usual = SwitchbackPlan::default();
    let mut fields = Fields::open(node, problems);
    let pairs = fields.read("pairs", whole(8..=200_u64));
    let slot_seconds = fields.read("slot", |node| {
        let at = node.clone();
        let seconds = read_seconds(node)?;
        let is_slot = (1..=3600).contains(&seconds);
        is_slot
            .then_some(seconds)
            .ok_or_else(|| at.expected("a time of 1s to 1h"))
    });
    let increase_max = fields.read("maxIncrease", |node| {
        let at = node.clone();
        let increase = share(node)?;
        let is_increase = increase > 0.0 && increase <= 10.0;
        is_increase.then_some(increase).ok_or_else(|| {
            at.expected("a share above 0 such as 5%: the canary may slow the stable version by it")
        })
    });
    fields.finish(&[]);
    let plan = SwitchbackPlan {
        pairs: pairs.unwrap_or(usual.pairs),
        slot_seconds: slot_seconds.unwrap_or(usual.slot_seconds),
        increase_max: increase_max.unwrap_or(usual.increase_max),
    };
    (problems.len() == before).then_some(Step::Switchback { plan })
}

fn read_scale(node: Node, problems: &mut Vec<Problem>) -> Option<Step> {
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    for key in ["weight", "matchTrafficWeight"] {
        if let Some(found) = fields.take(key) {
            let problem = found.problem("expected `replicas`, the number of instances");
            fields.problems().push(problem);
        }
    }
    let instances = fields.require(
        "replicas",
        "a number of instances",
        whole(1..=crate::config::INSTANCE_COUNT_MAX),
    );
    fields.finish(&[]);
    let instances = instances.filter(|_| problems.len() == before)?;
    Some(Step::SetScale { instances })
}

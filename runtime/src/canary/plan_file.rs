//! The file of a rollout. Three forms are read: serin's own, the `strategy.canary.steps` of Argo Rollouts, and the `analysis` of Flagger, each
//! alone or in its manifest.
//!
//! What the other two leave to a cluster and changes nothing here is noted; what would change the rollout and cannot be done is refused by
//! its key. What names the deployments may come from elsewhere, as from the command line.

use crate::canary::argo::read_strategy;
use crate::canary::draft::{Draft, read_hooks};
use crate::canary::feedback_file::read_feedback;
use crate::canary::flagger::read_analysis;
use crate::canary::guard_file::read_guard;
use crate::canary::plan::{RolloutPlan, StickyKey};
use crate::spec::{
    Content, DeploymentName, EndpointName, Fields, Node, Problem, SpecError, one_of, parse, parsed,
    text,
};

/// The names that a rollout is about, where the file leaves them out; one that is given beats the file.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The endpoint.
    pub endpoint: Option<EndpointName>,
    /// The stable version.
    pub from: Option<DeploymentName>,
    /// The canary.
    pub to: Option<DeploymentName>,
}

/// Reads the file of a rollout.
///
/// # Errors
///
/// All problems of the file.
pub fn read_plan(yaml_text: &str, file: &str, names: &Names) -> Result<RolloutPlan, SpecError> {
    let root = parse(yaml_text, file)?;
    let mut problems = Vec::new();
    let plan = read_root(root, names, &mut problems);
    SpecError::unless_clean(file, plan, problems)
}

/// Keys that are easily written too high, and where they belong.
const ELSEWHERE: [(&str, &str); 12] = [
    ("steps", "strategy.canary.steps"),
    ("canary", "strategy.canary"),
    ("alpha", "guard.alpha"),
    ("metrics", "guard.metrics"),
    ("onUndecided", "guard.onUndecided"),
    ("onSlowerStable", "guard.onSlowerStable"),
    ("maxDuration", "guard.maxDuration"),
    ("header", "sticky.header"),
    ("cookie", "sticky.cookie"),
    ("answer", "feedback.answer"),
    ("keep", "feedback.keep"),
    ("onDisk", "feedback.onDisk"),
];

fn read_root(root: Node, names: &Names, problems: &mut Vec<Problem>) -> Option<RolloutPlan> {
    let mut fields = Fields::open(root, problems);
    let mut draft = Draft::default();
    let is_manifest = fields.has("kind");
    fields.ignore(&["$schema"]);
    if is_manifest {
        fields.ignore(&["apiVersion", "metadata", "status"]);
        fields.read("kind", |node| one_of(node, &["Rollout", "Canary"]));
        if let Some(spec) = fields.take("spec") {
            read_manifest(spec, &mut draft, fields.problems());
        }
    }
    let endpoint = name_of("endpoint", names.endpoint.as_ref(), &mut fields);
    let from = name_of("from", names.from.as_ref(), &mut fields);
    let to = name_of("to", names.to.as_ref(), &mut fields);
    read_split(&mut fields, &mut draft);
    if let Some(strategy) = fields.take("strategy") {
        read_strategy(strategy, &mut draft, fields.problems());
    }
    if let Some(analysis) = fields.take("analysis") {
        read_analysis(analysis, &mut draft, fields.problems());
    }
    if let Some(guard) = fields.take("guard") {
        read_guard(guard, &mut draft, fields.problems());
    }
    if let Some(feedback) = fields.take("feedback") {
        read_feedback(feedback, &mut draft, fields.problems());
    }
    if let Some(notify) = fields.take("notify") {
        draft.notify.extend(read_hooks(notify, fields.problems()));
    }
    for (key, path) in ELSEWHERE {
        if let Some(node) = fields.take(key) {
            let problem = node.problem(format!("expected at {path}"));
            fields.problems().push(problem);
        }
    }
    fields.finish(&[]);
    plan_of(draft, (endpoint?, from?, to?), problems)
}

/// The plan that the draft makes, with what is wrong with it as a whole.
fn plan_of(
    draft: Draft,
    (endpoint, from, to): (EndpointName, DeploymentName, DeploymentName),
    problems: &mut Vec<Problem>,
) -> Option<RolloutPlan> {
    let usual = RolloutPlan::usual(endpoint, from, to);
    let plan = RolloutPlan {
        steps: if draft.steps.is_empty() {
            usual.steps
        } else {
            draft.steps
        },
        guard: draft.guard.unwrap_or(usual.guard),
        on_undecided: draft.on_undecided,
        on_slowed: draft.on_slowed,
        seconds_max: draft.seconds_max,
        sticky: draft.sticky,
        feedback: draft.feedback,
        notify: draft.notify,
        notes: draft.notes,
        ..usual
    };
    // Of steps that were not read nothing is said beyond that.
    if problems.is_empty() {
        let place = |field: &str| {
            let index = field
                .strip_prefix("steps[")?
                .strip_suffix(']')?
                .parse::<usize>()
                .ok()?;
            draft.places.get(index).copied().flatten()
        };
        problems.extend(plan.problems().into_iter().map(|(field, message)| Problem {
            place: place(&field),
            field,
            message,
            suggestion: None,
        }));
    }
    problems.is_empty().then_some(plan)
}

/// The spec of a manifest: of Argo Rollouts it has a strategy, of Flagger an analysis. What else is there is the cluster's.
fn read_manifest(spec: Node, draft: &mut Draft, problems: &mut Vec<Problem>) {
    let wrong = spec.expected("a mapping with `strategy` (Argo Rollouts) or `analysis` (Flagger)");
    let Content::Map(entries) = spec.content else {
        problems.push(wrong);
        return;
    };
    let mut left = Vec::new();
    let mut is_read = false;
    for (key, node) in entries {
        match key.as_str() {
            "strategy" => read_strategy(node, draft, problems),
            "analysis" => read_analysis(node, draft, problems),
            "skipAnalysis" if node.content == Content::Bool(true) => {
                problems.push(
                    node.problem("expected false, found true: serin moves no traffic unjudged"),
                );
            }
            _ => {
                left.push(format!("`{key}`"));
                continue;
            }
        }
        is_read = true;
    }
    if !is_read {
        problems.push(wrong);
    }
    if !left.is_empty() {
        let left = left.join(", ");
        draft
            .notes
            .push(format!("spec: {left} of the cluster, without effect here"));
    }
}

fn name_of<T: Clone + std::str::FromStr<Err: std::fmt::Display>>(
    key: &'static str,
    given: Option<&T>,
    fields: &mut Fields<'_>,
) -> Option<T> {
    match given {
        Some(given) => {
            fields.ignore(&[key]);
            Some(given.clone())
        }
        None => fields.require(key, "a name", parsed),
    }
}

fn read_split(fields: &mut Fields<'_>, draft: &mut Draft) {
    let split = fields.take("split");
    let sticky = fields.take("sticky");
    draft.sticky = sticky.and_then(|node| read_sticky(node, fields.problems()));
    let Some(split) = split else {
        return;
    };
    let problem = match &split.content {
        Content::Text(word) if word == "exact" => None,
        Content::Text(word) if word == "sticky" => draft.sticky.is_none().then_some(
            "expected `sticky` beside it, with the part of a request that tells users apart, such as `sticky: {header: x-user-id}`",
        ),
        Content::Text(word) if word == "random" => Some(
            "expected exact or sticky, found \"random\": every hundred requests have exactly their shares here, in an order that nobody can guess",
        ),
        _ => Some("expected exact or sticky"),
    };
    if let Some(problem) = problem {
        let problem = split.problem(problem);
        fields.problems().push(problem);
    }
}

fn read_sticky(node: Node, problems: &mut Vec<Problem>) -> Option<StickyKey> {
    const EXPECTED: &str =
        "one of header, cookie, json_path and client_ip, as in `header: x-user-id`";
    let wrong = node.expected(EXPECTED);
    let mut entries = match node.content {
        Content::Map(entries) if entries.len() == 1 => entries.into_iter(),
        _ => {
            problems.push(wrong);
            return None;
        }
    };
    let (key, value) = entries.next()?;
    if key == "client_ip" {
        if value.content == Content::Bool(true) {
            return Some(StickyKey::ClientIp(true));
        }
        problems.push(value.expected("true: users are told apart by one thing"));
        return None;
    }
    let of: fn(String) -> StickyKey = match key.as_str() {
        "header" => StickyKey::Header,
        "cookie" => StickyKey::Cookie,
        "json_path" => StickyKey::JsonPath,
        _ => {
            problems.push(wrong);
            return None;
        }
    };
    match text(value) {
        Ok(value) => Some(of(value)),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::guard_plan::{Metric, Time};
    use crate::canary::plan::{Hook, OnSlowed, OnUndecided};

    fn names() -> Names {
        Names {
            endpoint: Some("iris".parse().unwrap()),
            from: Some("blue".parse().unwrap()),
            to: Some("green".parse().unwrap()),
        }
    }

    #[track_caller]
    fn plan(text: &str) -> RolloutPlan {
        read_plan(text, "rollout.yml", &names()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn problems(text: &str) -> String {
        read_plan(text, "rollout.yml", &Names::default())
            .expect_err("refused")
            .to_string()
    }

    fn steps(plan: &RolloutPlan) -> Vec<String> {
        plan.steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_steps_is_the_usual_plan() {
        assert_eq!(
            steps(&plan("{}")),
            steps(&RolloutPlan::usual(
                "iris".parse().unwrap(),
                "blue".parse().unwrap(),
                "green".parse().unwrap(),
            ))
        );
    }

    #[test]
    fn the_own_form_is_read_whole() {
        let read = read_plan(
            "endpoint: myEndpoint
from: blue
to: green
split: sticky
sticky: {header: x-user-id}
strategy:
  canary:
    steps:
    - mirror: {percent: 100, pairs: 3500}
    - setWeight: 1
    - pause: {duration: 2m}
    - setWeight: 10
    - analysis: {timeout: 1h30m}
    - gate: {command: [./ask.sh, now]}
    - setWeight: 50
    - pause: {}
    - setWeight: 100
    scaleDownDelaySeconds: 30
guard:
  alpha: 0.01
  metrics:
  - {name: errors, maxRatio: 1.0, promoteIfBelow: 2.0}
  - {name: slow, slo_ms: 50, maxRatio: 1.0, promoteIfBelow: 1.5}
  - {name: p99, maxIncrease: 10%, time: service}
  - {name: agreement, min: 0.99}
  onUndecided: promote-flagged
  onSlowerStable: tell
  maxDuration: 1h
notify: [{url: 'http://127.0.0.1:9/x'}, {command: ./page.sh}]
",
            "rollout.yml",
            &Names::default(),
        )
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            steps(&read),
            [
                "mirror 100 % until 3500 pairs are compared",
                "weight 1 %",
                "pause 2 m",
                "weight 10 %",
                "analysis until it is safe, 1 h 30 m at most",
                "gate ./ask.sh now",
                "weight 50 %",
                "pause until somebody promotes",
                "weight 100 %",
            ]
        );
        assert_eq!(read.sticky, Some(StickyKey::Header("x-user-id".to_owned())));
        assert_eq!(read.guard.metrics.len(), 4);
        assert_eq!(
            read.guard.metrics[1].metric,
            Metric::Slow { limit_us: 50_000 }
        );
        assert_eq!(
            read.guard.metrics[2].metric,
            Metric::Quantile {
                quantile: 0.99,
                time: Time::Service,
                increase_max: 0.1
            }
        );
        assert_eq!(
            (read.on_undecided, read.on_slowed, read.seconds_max),
            (OnUndecided::PromoteFlagged, OnSlowed::Tell, Some(3600))
        );
        assert_eq!(read.notify[1], Hook::Command(vec!["./page.sh".to_owned()]));
        assert_eq!(read.notes.len(), 1, "{:?}", read.notes);
    }

    #[test]
    fn steps_of_argo_are_read_as_written() {
        let read = plan(
            "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: guestbook}
spec:
  replicas: 5
  selector: {matchLabels: {app: guestbook}}
  strategy:
    canary:
      canaryService: green-svc
      analysis:
        templates: [{templateName: success-rate}]
        startingStep: 2
      steps:
      - setMirrorRoute: {name: mirror-route, percentage: 35}
      - setWeight: 10
      - pause: {duration: 10m}
      - setCanaryScale: {replicas: 3}
      - analysis:
          templates: [{templateName: success-rate}]
          args: [{name: service-name, value: guestbook}]
      - setWeight: 50
      - pause: {}
",
        );
        assert_eq!(
            steps(&read),
            [
                "mirror 35 %",
                "weight 10 %",
                "pause 10 m",
                "3 instances",
                "analysis until it is safe",
                "weight 50 %",
                "pause until somebody promotes",
            ]
        );
        assert_eq!(read.notes.len(), 4, "{:?}", read.notes);
    }

    #[test]
    fn an_analysis_of_flagger_is_read_as_written() {
        let read = plan(
            "analysis:
  interval: 1m
  threshold: 10
  maxWeight: 50
  stepWeight: 20
  mirror: true
  metrics:
  - {name: request-success-rate, thresholdRange: {min: 99}, interval: 1m}
  - {name: request-duration, thresholdRange: {max: 500}, interval: 1m}
  webhooks: [{name: gate, type: confirm-promotion, url: 'http://127.0.0.1:9/gate'}]
",
        );
        assert_eq!(
            steps(&read),
            [
                "mirror 100 %",
                "pause 1 m",
                "weight 20 %",
                "pause 1 m",
                "weight 40 %",
                "pause 1 m",
                "gate http://127.0.0.1:9/gate",
                "weight 100 %",
            ]
        );
        let slow = read
            .guard
            .metrics
            .iter()
            .any(|one| one.metric == Metric::Slow { limit_us: 500_000 });
        assert!(slow, "{:?}", read.guard);
        let listed = plan("analysis: {stepWeights: [1, 2, 10, 80], interval: 5}");
        assert_eq!(steps(&listed)[6], "weight 80 %");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_key() {
        let told = problems(
            "endpoint: iris
from: blue
to: green
split: random
strategy:
  canary:
    steps:
    - setHeaderRoute: {name: x}
    - experiment: {duration: 1h}
    - setWeight: 101
    - pause: {duration: soon}
    - wait: 5
analysis:
  match: [{headers: {x: {exact: y}}}]
  metrics: [{name: latency, templateRef: {name: latency}}]
guard: {alpha: many, metrics: [{name: speed}], onUndecided: shrug, onSlowerStable: cry}
notify: [{url: 'ftp://example.org'}]
colour: green
",
        );
        for part in [
            "4:1: split: expected exact or sticky, found \"random\"",
            "strategy.canary.steps[0].setHeaderRoute: cannot be done here",
            "strategy.canary.steps[1].experiment: cannot be done here",
            "strategy.canary.steps[2].setWeight: expected a percent",
            "strategy.canary.steps[3].pause.duration: expected a time such as 90s",
            "strategy.canary.steps[4].wait: unknown step",
            "analysis.match: cannot be done here",
            "analysis.metrics[0].templateRef: cannot be done here",
            "guard.alpha: expected a number, found \"many\"",
            "guard.metrics[0].name: expected errors or timeouts",
            "guard.onUndecided: expected hold or promote-flagged or abort",
            "guard.onSlowerStable: expected hold or tell",
            "notify[0].url: expected an address",
            "colour: unknown key",
        ] {
            assert!(told.contains(part), "{part} is not told:\n{told}");
        }
    }

    #[test]
    fn keys_that_are_written_too_high_are_told_their_place() {
        let told = problems(
            "endpoint: iris\nfrom: blue\nto: green\nsteps: [{setWeight: 10}]\nmetrics: []\nsticky: {client_ip: false}\n",
        );
        for part in [
            "4:1: steps: expected at strategy.canary.steps",
            "5:1: metrics: expected at guard.metrics",
            "sticky.client_ip: expected true",
        ] {
            assert!(told.contains(part), "{part} is not told:\n{told}");
        }
    }

    #[test]
    fn a_hook_has_an_address_that_can_be_asked_and_logs_leave_its_path_out() {
        let file = |url: &str| {
            format!("endpoint: iris\nfrom: blue\nto: green\nnotify: [{{url: '{url}'}}]\n")
        };
        for (url, place) in [
            (
                "https://example.org/services/T0/secret",
                "https://example.org",
            ),
            (
                "https://example.org:8443?token=1",
                "https://example.org:8443",
            ),
            ("http://[::1]:9000/hook", "http://[::1]:9000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            let hook = &plan(&file(url)).notify[0];
            assert_eq!(
                (hook.to_string(), hook.place()),
                (url.to_owned(), place.to_owned())
            );
        }
        for url in [
            "ftp://example.org",
            "https://",
            "https:///hook",
            "https://:443/hook",
            "https://example.org:x/hook",
            "https://example.org:65536",
            "https://me:mine@example.org",
            "https://example.org/a b",
        ] {
            let told = problems(&file(url));
            let expected = format!(
                "notify[0].url: expected an address such as https://example.org/hook or http://127.0.0.1:9000/hook, found \"{url}\""
            );
            assert!(told.contains(&expected), "{told}");
        }
    }

    #[test]
    fn a_ramp_that_falls_is_refused_with_its_line() {
        let told = problems(
            "endpoint: iris\nfrom: blue\nto: green\nstrategy: {canary: {steps: [\n{setWeight: 50},\n{setWeight: 10}]}}\n",
        );
        assert!(
            told.starts_with("rollout.yml:6:1: steps[1]: expected a weight above 50"),
            "{told}"
        );
    }

    #[test]
    fn budgets_that_cannot_be_are_refused() {
        let told = problems("endpoint: iris\nfrom: blue\nto: BLUE\nguard: {alpha: 1.5}\n");
        assert!(told.contains("alpha: expected a chance above 0"), "{told}");
        assert!(told.contains("to: expected another deployment"), "{told}");
    }
}

//! What is shown of a rollout.

use serde::{Deserialize, Serialize};

use crate::canary::{Arm, Course, Finding, Forecast, Phase, Rollout, Step, Verdict, WorstPair};
use crate::spec::{DeploymentName, EndpointName, Percent};

/// A rollout as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its number.
    pub id: u64,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The stable version.
    pub from: DeploymentName,
    /// The canary.
    pub to: DeploymentName,
    /// Where it stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// The canary's share, as the rollout has made it or is making it.
    pub weight: Percent,
    /// A change of the traffic is under way.
    pub is_moving: bool,
    /// It went on without a proof.
    pub is_flagged: bool,
    /// Its steps.
    pub steps: Vec<StepView>,
    /// Requests that were judged.
    pub requests: u64,
    /// Pairs of answers that were compared.
    pub pairs: u64,
    /// Requests a second since it began.
    pub requests_per_s: f64,
    /// The chance of a false alarm that it was given.
    pub alpha: f64,
    /// The pairs of answers that differ most, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_pairs: Vec<WorstPair>,
    /// What each metric says.
    pub findings: Vec<Finding>,
    /// What all say.
    pub verdict: Verdict,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When something happened last.
    pub now_ms: i64,
    /// Keys of its file that have no effect, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What it will take, where it has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// The course of its evidence; told with its record, for it is long.
    #[serde(skip)]
    pub course: Course,
    /// The latency of both versions; told with its record.
    #[serde(skip)]
    pub latency: Vec<LatencyAt>,
}

/// The latency of both versions at a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyAt {
    /// From 0 to 1.
    pub quantile: f64,
    /// The total time of the stable version in microseconds; absent where there is none, or where it has no end.
    pub stable_us: Option<u64>,
    /// That of the canary.
    pub canary_us: Option<u64>,
}

/// A step as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// In words.
    pub step: String,
    /// `done`, `now` or `to come`.
    pub state: String,
}

/// What two deployments say of each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictView {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The stable version.
    pub from: DeploymentName,
    /// The canary.
    pub to: DeploymentName,
    /// What all metrics say.
    pub verdict: Verdict,
    /// What each says.
    pub findings: Vec<Finding>,
    /// The capitals whose mean is the evidence of harm of each, for who merges several machines.
    #[serde(skip)]
    pub capitals_harm: Vec<Vec<f64>>,
    /// The number of the rollout whose evidence it is; without one it is of the last requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
    /// Requests that it rests on.
    pub requests: u64,
}

impl RolloutView {
    /// The view of a rollout of that number.
    #[must_use]
    pub fn of(id: u64, rollout: &Rollout) -> Self {
        let plan = rollout.plan();
        let (requests, pairs) = rollout.seen();
        let (started_ms, now_ms) = rollout.times_ms();
        let seconds = (now_ms - started_ms) as f64 / 1000.0;
        Self {
            id,
            endpoint: plan.endpoint.clone(),
            from: plan.from.clone(),
            to: plan.to.clone(),
            phase: rollout.phase().clone(),
            weight: rollout.weight(),
            is_moving: rollout.is_moving(),
            is_flagged: rollout.is_flagged(),
            steps: steps(rollout),
            requests,
            pairs,
            requests_per_s: if seconds > 0.0 {
                requests as f64 / seconds
            } else {
                0.0
            },
            alpha: plan.guard.alpha,
            worst_pairs: rollout.worst_pairs().to_vec(),
            findings: rollout.findings(),
            verdict: rollout.verdict(),
            started_ms,
            now_ms,
            notes: plan.notes.clone(),
            forecast: None,
            course: rollout.course().clone(),
            latency: latency(rollout),
        }
    }

    /// Where it stands, in a sentence.
    #[must_use]
    pub fn standing(&self) -> String {
        let (to, weight) = (&self.to, self.weight);
        match &self.phase {
            Phase::Running => {
                let step = self.steps.iter().find(|step| step.state == "now");
                let step = step.map_or("the last step", |step| step.step.as_str());
                format!("{to} has {weight} %: {step}")
            }
            Phase::Paused { why, .. } => format!("{to} has {weight} %, paused: {why}"),
            Phase::GoingBack { why, .. } => {
                format!("all traffic goes back to {}: {why}", self.from)
            }
            Phase::Promoted if self.is_flagged => {
                format!("{to} was promoted, and not all of the proof was there")
            }
            Phase::Promoted => format!("{to} was promoted"),
            Phase::RolledBack { why } => format!("{to} was rolled back: {why}"),
            Phase::Aborted { why } => format!("the rollout was aborted: {why}"),
        }
    }
}

/// Quantiles that are shown, rising: eighteen from none to 90 %, as many from there to 99 %, and so on.
fn quantiles() -> Vec<f64> {
    let parts = [1_u32, 10, 100, 1000].into_iter();
    let parts = parts
        .flat_map(|of| (0..18).map(move |half| 1.0 - f64::from(20 - half) / f64::from(20 * of)));
    parts.collect()
}

fn latency(rollout: &Rollout) -> Vec<LatencyAt> {
    let quantiles = quantiles();
    let [stable, canary] =
        [Arm::Stable, Arm::Canary].map(|arm| rollout.latency(arm).quantiles_us(&quantiles));
    let both = stable.into_iter().zip(canary);
    let all = quantiles.into_iter().zip(both);
    let told = all.filter(|(_, (stable, canary))| stable.is_some() || canary.is_some());
    told.map(|(quantile, (stable_us, canary_us))| LatencyAt {
        quantile,
        stable_us,
        canary_us,
    })
    .collect()
}

fn steps(rollout: &Rollout) -> Vec<StepView> {
    let now = rollout.step();
    let steps = rollout.plan().steps.iter().enumerate();
    let state = |index: usize| match index.cmp(&now) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal if !rollout.phase().has_ended() => "now",
        _ => "to come",
    };
    let words = |index: usize, step: &Step| match rollout.slots_measured() {
        Some(slots) if index == now => format!("{step}, {slots} slots measured"),
        _ => step.to_string(),
    };
    steps
        .map(|(index, step)| StepView {
            step: words(index, step),
            state: state(index).to_owned(),
        })
        .collect()
}

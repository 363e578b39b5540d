//! What is shown of a rollout.

use serde::{Deserialize, Serialize};

use crate::canary::{Finding, Phase, Rollout, Verdict, WorstPair};
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
    /// The number of the rollout whose evidence it is; without one it is of the last requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
    /// Requests that it rests on.
    pub requests: u64,
}

impl RolloutView {
    pub(super) fn of(id: u64, rollout: &Rollout) -> Self {
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
        }
    }
}

fn steps(rollout: &Rollout) -> Vec<StepView> {
    let now = rollout.step();
    let steps = rollout.plan().steps.iter().enumerate();
    let state = |index: usize| match index.cmp(&now) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal if !rollout.phase().has_ended() => "now",
        _ => "to come",
    };
    steps
        .map(|(index, step)| StepView {
            step: step.to_string(),
            state: state(index).to_owned(),
        })
        .collect()
}

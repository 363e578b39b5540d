//! What a rollout wishes, carried out like anybody's change.

use serde_json::json;

use crate::canary::{RolloutPlan, Step, StickyKey, Wish};
use crate::control::change::{Change, DeploymentUpdate, EndpointUpdate};
use crate::control::mailbox::ControllerHandle;
use crate::control::operation::ProvisioningState;
use crate::control::view::EndpointView;
use crate::spec::{Assignment, Percent, TrafficSplit};

/// The name by which copies for a shadow are asked for.
const SHADOW_TRAFFIC: &str = "shadow_traffic";
const STICKY: &str = "sticky";

/// The change that a wish comes to; none for a question to a gate.
pub(super) fn change_of(plan: &RolloutPlan, wish: &Wish) -> Option<Change> {
    let update = match wish {
        Wish::Shift { canary, .. } => EndpointUpdate {
            traffic: Some(split(plan, *canary)),
            // Copies may be on their way, so whether there are any now says nothing.
            set: mirrors(plan)
                .then(|| shadow(plan, Percent::ZERO))
                .into_iter()
                .collect(),
            ..EndpointUpdate::default()
        },
        Wish::Mirror { percent } => EndpointUpdate {
            set: vec![shadow(plan, *percent)],
            ..EndpointUpdate::default()
        },
        Wish::Scale { instances } => {
            return Some(Change::UpdateDeployment {
                endpoint: plan.endpoint.clone(),
                name: plan.to.clone(),
                update: DeploymentUpdate {
                    scale: Some(*instances),
                    ..DeploymentUpdate::default()
                },
            });
        }
        Wish::Ask { .. } => return None,
    };
    Some(Change::UpdateEndpoint {
        name: plan.endpoint.clone(),
        update,
    })
}

/// The change by which users are told apart from now on, if they are: those who meet one content of the canary first are others than
/// those who met another. The same canary has the same again, on every machine.
pub(super) fn stick(plan: &RolloutPlan, endpoint: &EndpointView) -> Option<Change> {
    let rule = plan.sticky.as_ref().map(|key| match key {
        StickyKey::Header(name) => json!({ "header": name }),
        StickyKey::Cookie(name) => json!({ "cookie": name }),
        StickyKey::JsonPath(path) => json!({ "json_path": path }),
        StickyKey::ClientIp(is_on) => json!({ "client_ip": is_on }),
    });
    if rule.is_none() && endpoint.spec.sticky.is_none() {
        return None;
    }
    let canary = endpoint.deployments.get(&plan.to);
    let model = canary.map(|canary| canary.model_digest.to_string());
    let code = canary.and_then(|canary| Some(canary.script.as_ref()?.code_digest.to_string()));
    let contents = [model, code].map(Option::unwrap_or_default);
    Some(Change::UpdateEndpoint {
        name: plan.endpoint.clone(),
        update: EndpointUpdate {
            set: rule
                .and_then(|rule| Assignment::new(STICKY, rule))
                .into_iter()
                .collect(),
            salt: Some(format!("{} {}", plan.endpoint.key(), contents.join(" "))),
            ..EndpointUpdate::default()
        },
    })
}

fn split(plan: &RolloutPlan, canary: Percent) -> TrafficSplit {
    let rest = Percent::HUNDRED.hundredths() - canary.hundredths();
    let rest = Percent::from_hundredths(rest).unwrap_or(Percent::ZERO);
    TrafficSplit::new(vec![(plan.from.clone(), rest), (plan.to.clone(), canary)])
        .expect("two shares that are a hundred")
}

fn mirrors(plan: &RolloutPlan) -> bool {
    let mut steps = plan.steps.iter();
    steps.any(|step| matches!(step, Step::Mirror { .. }))
}

fn shadow(plan: &RolloutPlan, percent: Percent) -> Assignment {
    let path = format!("{SHADOW_TRAFFIC}.{}", plan.to);
    Assignment::new(&path, json!(percent)).expect("names of files have no dots")
}

/// Asks for the change, now: who asks later gets it later, whatever order the tasks run in that wait. The future waits for its end, or says
/// why it has not come about.
pub(super) fn carry_out(
    controller: &ControllerHandle,
    change: Change,
    by: String,
) -> impl Future<Output = Result<(), String>> + Send + 'static {
    let accepted = controller.begin(change, by, None);
    let controller = controller.clone();
    async move {
        let operation = accepted.await.map_err(|refused| refused.to_string())?;
        let ended = controller.finished(operation.id).await.unwrap_or(operation);
        match ended.provisioning_state {
            ProvisioningState::Succeeded => Ok(()),
            _ => Err(ended
                .reason
                .unwrap_or_else(|| "the server stops".to_owned())),
        }
    }
}

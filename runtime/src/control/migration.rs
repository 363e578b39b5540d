//! States of earlier formats become states of today's. Pure.

use std::collections::BTreeMap;

use crate::control::desired::{Desired, DesiredEndpoint, FORMAT};
use crate::control::operation::{Operation, ProvisioningState};
use crate::control::revision::Revision;
use crate::spec::{EndpointName, TrafficSplit};

/// The newest of these states in format 2, which says itself what was good last; none where there is no state yet.
///
/// Format 1 told it by the operations that had succeeded: a deployment was good as the last of them left it, and a split was in
/// force when the operation that brought it had ended well. `history` is newest first. Once only: from format 2 on neither old
/// revisions nor operations are needed to serve.
pub(super) fn to_format_2(
    history: Vec<(Revision, Desired)>,
    operations: &[Operation],
) -> Option<(Revision, Desired)> {
    let ended_well = |revision: Revision| {
        let of = operations.iter().find(|one| one.revision == revision);
        // One that is so old that it was forgotten was followed by a thousand others.
        of.is_none_or(|one| one.provisioning_state == ProvisioningState::Succeeded)
    };
    let (revision, newest) = history.first()?.clone();
    let mut desired = Desired {
        format: FORMAT,
        endpoints: newest.endpoints,
    };
    for (name, endpoint) in &mut desired.endpoints {
        for (deployment, one) in &mut endpoint.deployments {
            // A deployment that was deleted meanwhile begins anew.
            let mut before = history
                .iter()
                .map_while(|(_, state)| state.deployment(name, deployment));
            let good = before.find(|before| ended_well(before.target.touched));
            one.last_good = good.map(|good| Box::new(good.target.clone()));
        }
        endpoint.spec.traffic = split_in_force(name, endpoint, &history, operations);
    }
    Some((revision, desired))
}

/// The split that the last operation of an endpoint which ended well left in force, as far as its deployments are still there.
fn split_in_force(
    name: &EndpointName,
    endpoint: &DesiredEndpoint,
    history: &[(Revision, Desired)],
    operations: &[Operation],
) -> TrafficSplit {
    let by_revision: BTreeMap<_, _> = operations.iter().map(|one| (one.revision, one)).collect();
    let mut states = history
        .iter()
        .map_while(|(revision, state)| Some((revision, state.endpoints.get(name)?)));
    let good = states.find(|(revision, _)| {
        by_revision.get(revision).is_none_or(|one| {
            one.endpoint == *name && one.provisioning_state == ProvisioningState::Succeeded
        })
    });
    let split = good.map_or(&endpoint.spec.traffic, |(_, state)| &state.spec.traffic);
    let is_there = |split: &TrafficSplit| {
        let mut names = split.entries().iter().map(|(name, _)| name);
        names.all(|name| endpoint.deployments.contains_key(name))
    };
    if is_there(split) {
        split.clone()
    } else {
        endpoint.spec.traffic.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::desired::{
        DesiredDeployment, Generation, Generations, ResolvedModel, Target,
    };
    use crate::control::models::ModelDigest;
    use crate::control::operation::OperationId;
    use crate::spec::{DeploymentName, DeploymentSpec, EndpointSpec, ModelRef};

    fn operation(revision: u64, state: ProvisioningState) -> Operation {
        Operation {
            id: OperationId(revision),
            endpoint: "iris".parse().expect("a name"),
            deployments: Vec::new(),
            change: "change".to_owned(),
            revision: Revision(revision),
            provisioning_state: state,
            note: None,
            reason: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }

    fn name(text: &str) -> DeploymentName {
        text.parse().expect("a name")
    }

    /// A state of the first format, as it stands in old stores: (deployment, model, touched) and a split.
    fn state(deployments: &[(&str, &str, u64)], split: &str) -> Desired {
        let mut spec = EndpointSpec::new("iris".parse().expect("a name"));
        spec.traffic = split.parse().expect("a split");
        let one = |(text, model, touched): &(&str, &str, u64)| {
            let path = ModelRef::Path(format!("/m/{model}").into());
            let target = Target {
                spec: DeploymentSpec::new(name(text), path, "Standard_F2s_v2"),
                script: None,
                model: ResolvedModel {
                    mount: None,
                    digest: ModelDigest::for_test(model),
                    registered: None,
                },
                vcpus: 2,
                memory_mib: 0,
                touched: Revision(*touched),
            };
            let one = DesiredDeployment {
                target,
                last_good: None,
                stamp: None,
            };
            (name(text), one)
        };
        let endpoint = DesiredEndpoint {
            spec,
            generations: Generations::all(Generation(1)),
            deployments: deployments.iter().map(one).collect(),
            pending: None,
            stamp: None,
            cohorts: None,
        };
        let name = endpoint.spec.name.clone();
        let state = Desired {
            format: 1,
            endpoints: BTreeMap::from([(name, endpoint)]),
        };
        let mut json = serde_json::to_value(&state).expect("JSON");
        json.as_object_mut().expect("an object").remove("format");
        serde_json::from_value(json).expect("a state without a format")
    }

    fn migrate(history: &[(u64, Desired)], operations: &[Operation]) -> Desired {
        let history = history.iter().rev();
        let history = history.map(|(revision, state)| (Revision(*revision), state.clone()));
        let migrated = to_format_2(history.collect(), operations);
        migrated.expect("a state").1
    }

    fn good(desired: &Desired, deployment: &str) -> Option<String> {
        let endpoint = desired.endpoints.values().next().expect("one");
        let good = endpoint.deployments[&name(deployment)].last_good.as_ref()?;
        Some(good.model.digest.as_str().to_owned())
    }

    fn split(desired: &Desired) -> String {
        let endpoint = desired.endpoints.values().next().expect("one");
        endpoint.spec.traffic.to_string()
    }

    #[test]
    fn what_the_last_operation_that_ended_well_left_is_the_last_good_state() {
        use ProvisioningState::{Failed, Succeeded, Updating};
        let history = [
            (1, state(&[("blue", "m1", 1)], "blue:100")),
            (
                2,
                state(&[("blue", "m1", 1), ("green", "m1", 2)], "blue:100"),
            ),
            // Green v2 and all traffic for it: it failed, and the wish stayed.
            (
                3,
                state(&[("blue", "m1", 1), ("green", "m2", 3)], "green:100"),
            ),
            (
                4,
                state(&[("blue", "m3", 4), ("green", "m2", 3)], "green:100"),
            ),
        ];
        let operations = [
            operation(1, Succeeded),
            operation(2, Succeeded),
            operation(3, Failed),
            operation(4, Updating),
        ];
        let desired = migrate(&history, &operations);
        assert_eq!(desired.format, FORMAT);
        assert_eq!(good(&desired, "blue").as_deref(), Some("m1"));
        assert_eq!(good(&desired, "green").as_deref(), Some("m1"));
        assert_eq!(split(&desired), "blue:100");
    }

    #[test]
    fn a_deployment_that_never_was_ready_has_no_last_good_state() {
        let history = [(1, state(&[("blue", "m1", 1)], "blue:0"))];
        let desired = migrate(&history, &[operation(1, ProvisioningState::Failed)]);
        assert_eq!(good(&desired, "blue"), None);
    }

    #[test]
    fn a_deployment_whose_operation_was_forgotten_is_good_as_it_is() {
        let history = [(4000, state(&[("blue", "m1", 7)], "blue:100"))];
        let desired = migrate(&history, &[]);
        assert_eq!(good(&desired, "blue").as_deref(), Some("m1"));
        assert_eq!(split(&desired), "blue:100");
    }

    #[test]
    fn an_empty_store_has_nothing_to_migrate() {
        assert!(to_format_2(Vec::new(), &[]).is_none());
    }
}

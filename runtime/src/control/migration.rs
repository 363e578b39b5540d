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

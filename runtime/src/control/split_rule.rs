//! The one rule by which a split is judged. Pure.

use crate::spec::{DeploymentName, EndpointName, TrafficSplit};

/// Everything that is wrong with a split, in sentences.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SplitProblems {
    /// What can never be.
    pub(super) wrong: Vec<String>,
    /// What does not fit the present state, and may be right later.
    pub(super) early: Vec<String>,
}

/// Everything that is wrong with a split.
///
/// Every entry must name a deployment that is there, and a deployment that gets more traffic than it has by the split
/// `in_force` must be able to answer: `unready` says why one cannot. To take traffic away, or to leave it as it is, is always
/// right.
pub(super) fn problems<'a>(
    endpoint: &EndpointName,
    split: &TrafficSplit,
    in_force: &TrafficSplit,
    deployments: impl Iterator<Item = &'a DeploymentName> + Clone,
    unready: impl Fn(&DeploymentName) -> Option<String>,
) -> SplitProblems {
    let mut problems = SplitProblems::default();
    for (name, percent) in split.entries() {
        if !deployments.clone().any(|known| known == name) {
            let known: Vec<_> = deployments.clone().map(DeploymentName::as_str).collect();
            problems.wrong.push(format!(
                "traffic names {:?}, which is not a deployment of endpoint {endpoint}; it has {}",
                name.as_str(),
                if known.is_empty() {
                    "none yet".to_owned()
                } else {
                    known.join(", ")
                }
            ));
        } else if *percent > in_force.percent_of(name)
            && let Some(why) = unready(name)
        {
            problems.early.push(format!(
                "traffic names {name}, which has no ready instance: {why}"
            ));
        }
    }
    problems
}

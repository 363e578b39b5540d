//! Assignments applied to what is written already: the result is judged as a file with it would be.

use std::fmt;

use serde::Serialize;

use super::assignment::{Assignment, assign_all, assign_to_deployment};
use super::node::Node;
use super::{DeploymentSpec, EndpointSpec, Problem, SpecError, deployment, endpoint};

/// The name in place of a file's in the problems of assignments.
const SOURCE: &str = "--set";

/// Sets attributes of an endpoint and of its deployments, all or none.
///
/// A deployment is `deployments.blue`, or `deployments[0]` by its position. Old spellings work as they do in files.
///
/// # Errors
///
/// Everything that a file with the result would be refused for, a change of a name, and a deployment that is not there.
pub fn apply(
    assignments: &[Assignment],
    endpoint: &mut EndpointSpec,
    deployments: &mut [DeploymentSpec],
) -> Result<(), SpecError> {
    let mut problems = Vec::new();
    let mut root = tree(endpoint);
    let mut nodes: Vec<Node> = deployments.iter().map(tree).collect();
    assign_all(assignments, &mut root, &mut nodes, &mut problems);
    let new_endpoint = endpoint::read(root, &mut problems)
        .filter(|new| keeps("name", &endpoint.name, &new.name, &mut problems));
    let mut new_deployments = Vec::new();
    for (node, old) in nodes.into_iter().zip(deployments.iter()) {
        new_deployments.extend(
            deployment::read(node, &mut problems)
                .filter(|new| keeps_place(old, new, &mut problems)),
        );
    }
    *endpoint = SpecError::unless_clean(SOURCE, new_endpoint, problems)?;
    for (old, new) in deployments.iter_mut().zip(new_deployments) {
        *old = new;
    }
    Ok(())
}

impl DeploymentSpec {
    /// Sets attributes such as `instance_count=5`, all or none. Old spellings work as they do in files.
    ///
    /// # Errors
    ///
    /// Everything that a file with the result would be refused for, and a change of the name.
    pub fn set(&mut self, assignments: &[Assignment]) -> Result<(), SpecError> {
        let mut problems = Vec::new();
        let mut root = tree(self);
        assign_to_deployment(assignments, &mut root, &mut problems);
        let new = deployment::read(root, &mut problems)
            .filter(|new| keeps_place(self, new, &mut problems));
        *self = SpecError::unless_clean(SOURCE, new, problems)?;
        Ok(())
    }
}

fn tree(spec: &impl Serialize) -> Node {
    let value = serde_json::to_value(spec).expect("a spec is a mapping from texts");
    Node::from_value(String::new(), value)
}

/// A deployment stays who it is and where it is.
fn keeps_place(old: &DeploymentSpec, new: &DeploymentSpec, problems: &mut Vec<Problem>) -> bool {
    let endpoint = match (&old.endpoint_name, &new.endpoint_name) {
        (Some(old), Some(new)) => keeps("endpoint_name", old, new, problems),
        _ => true,
    };
    keeps("name", &old.name, &new.name, problems) && endpoint
}

fn keeps<N: PartialEq + fmt::Display>(
    field: &str,
    old: &N,
    new: &N,
    problems: &mut Vec<Problem>,
) -> bool {
    if old != new {
        problems.push(Problem {
            place: None,
            field: field.to_owned(),
            message: format!("expected the {field} to stay {old}, found {new}"),
            suggestion: None,
        });
    }
    old == new
}

//! Whether the server can answer, and which deployments are short of instances, or degraded.
//!
//! They are told apart: a server of which one deployment at 1 % has no instance is ready, and names that deployment; a load
//! balancer that took it out would lose the other 99 %. A degraded deployment is named and never decides: only a request that
//! succeeds ends that, none comes to a server that was taken out, and a client with bad inputs could take one out.
//!
//! Names are for who may use their endpoints: a load balancer needs the status, and a stranger learns how many and no more.
//!
//! Threads: edge and control; reads the routing table. Not here: who notices that an instance is missing (`control`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::router::{Endpoint, RoutingTable};
use crate::spec::{DeploymentName, Percent};

/// The answer to `GET /health/ready`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Whether what was deployed before the start serves again, and some of the traffic can be answered now.
    pub ready: bool,
    /// The reason why a server that can answer is not ready: `draining`, it will end soon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Deployments that have traffic and no instance to answer it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short: Vec<ShortDeployment>,
    /// Deployments whose last requests all failed by the model's fault, with traffic or without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<DegradedDeployment>,
    /// The number of deployments that have traffic and no instance, and whose names are not for who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub short_unnamed: usize,
    /// The number of degraded deployments whose names are not for who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub degraded_unnamed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A deployment whose last requests all failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DegradedDeployment {
    /// Its endpoint.
    pub endpoint: String,
    /// Its name.
    pub deployment: String,
    /// Its share of the endpoint's traffic, in percent.
    pub traffic: Percent,
    /// Requests since the last one that succeeded.
    pub failures_in_a_row: u64,
    /// The words of one failure.
    pub reason: String,
}

/// A deployment that has traffic and no instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortDeployment {
    /// Its endpoint.
    pub endpoint: String,
    /// Its name.
    pub deployment: String,
    /// Its share of the endpoint's traffic, in percent.
    pub traffic: Percent,
}

impl Health {
    /// The health of a server with this table, whose start is over when it has `recovered`.
    #[must_use]
    pub(crate) fn of(table: &RoutingTable, recovered: bool) -> Self {
        let mut short = Vec::new();
        let (mut any_traffic, mut any_answer) = (false, false);
        for endpoint in table.endpoints() {
            let with_traffic = endpoint.split().entries().iter();
            for (name, percent) in with_traffic.filter(|(_, percent)| *percent > Percent::ZERO) {
                any_traffic = true;
                if has_instance(endpoint, name) {
                    any_answer = true;
                } else {
                    short.push(ShortDeployment {
                        endpoint: endpoint.name().to_string(),
                        deployment: name.to_string(),
                        traffic: *percent,
                    });
                }
            }
        }
        let mut degraded: Vec<_> = table.endpoints().flat_map(degraded_of).collect();
        degraded.sort_by(|one, other| {
            (&one.endpoint, &one.deployment).cmp(&(&other.endpoint, &other.deployment))
        });
        short.sort_by(|one, other| {
            (&one.endpoint, &one.deployment).cmp(&(&other.endpoint, &other.deployment))
        });
        Self {
            ready: recovered && (any_answer || !any_traffic),
            reason: None,
            short,
            degraded,
            short_unnamed: 0,
            degraded_unnamed: 0,
        }
    }

    /// The same for who may know these endpoints: of others only how many.
    #[must_use]
    pub(crate) fn seen_by(mut self, open: &[String]) -> Self {
        let (short, degraded) = (self.short.len(), self.degraded.len());
        self.short.retain(|one| open.contains(&one.endpoint));
        self.degraded.retain(|one| open.contains(&one.endpoint));
        self.short_unnamed = short - self.short.len();
        self.degraded_unnamed = degraded - self.degraded.len();
        self
    }

    /// The health of one that will end soon: it is not ready, whatever it can answer.
    #[must_use]
    pub(crate) fn draining(self) -> Self {
        Self {
            ready: false,
            reason: Some("draining"),
            ..self
        }
    }
}

fn degraded_of(endpoint: &Arc<Endpoint>) -> impl Iterator<Item = DegradedDeployment> {
    endpoint.deployments().iter().filter_map(|one| {
        let degraded = one.metrics.streak().degraded()?;
        Some(DegradedDeployment {
            endpoint: endpoint.name().to_string(),
            deployment: one.name.to_string(),
            traffic: endpoint.split().percent_of(&one.name),
            failures_in_a_row: degraded.failures_in_a_row,
            reason: degraded.why,
        })
    })
}

fn has_instance(endpoint: &Endpoint, name: &DeploymentName) -> bool {
    let found = endpoint.deployment(name.key());
    found.is_some_and(|deployment| !deployment.instances.is_empty())
}

//! An endpoint as it was: the change that brings an earlier revision back. Pure.
//!
//! What was in force then comes back, with the content that it had and not what its names would mean now; a target that had failed is
//! none that was in force. Credentials stay what they are: a key that was given up opens nothing again.

use std::collections::BTreeMap;

use crate::control::apply::Applied;
use crate::control::desired::{Desired, DesiredDeployment, DesiredEndpoint, Stamp, Target};
use crate::control::pending_change::{PendingChange, Touch};
use crate::control::refusal::{ChangeError, NotApplied};
use crate::control::revision::Revision;
use crate::control::validator::{Context, Validator};
use crate::spec::EndpointName;

impl Desired {
    /// The state in which an endpoint is what it was.
    pub(super) fn roll_back(
        &self,
        (name, to): (&EndpointName, Revision),
        context: &Context<'_>,
    ) -> Result<Applied, NotApplied> {
        let past = context.past.ok_or_else(|| {
            ChangeError::NotFound(format!(
                "revision {to} is not kept; `serin history` lists those that are"
            ))
        })?;
        let then = past.desired.endpoints.get(name).ok_or_else(|| {
            ChangeError::NotFound(format!(
                "endpoint {name} was not there as of revision {to}; to be rid of it, delete it"
            ))
        })?;
        let before = self.endpoints.get(name);
        let mut pending = PendingChange::whole(then.spec.clone());
        let mut validator = Validator::new(context, Vec::new());
        let mut deployments = BTreeMap::new();
        for one in then.deployments.values() {
            let target = one.last_good.as_deref().unwrap_or(&one.target);
            let deployment = target.spec.name.clone();
            pending.deployments.push(target.spec.clone());
            let known = known_deployment(before, target);
            let same = known.filter(|known| known.is_good() && is_same(&known.target, target));
            let next = match same {
                Some(known) => known.clone(),
                None => {
                    validator.content_of(target, (&past.gone, to));
                    pending.touched.insert(deployment.clone(), Touch::File);
                    taken_up(known, target, context)
                }
            };
            deployments.insert(deployment, next);
        }
        pending.note = Some(format!("endpoint {name} is as of revision {to} again"));
        self.conclude(pending, deployments, validator, context)
    }
}

fn known_deployment<'a>(
    before: Option<&'a DesiredEndpoint>,
    target: &Target,
) -> Option<&'a DesiredDeployment> {
    before?.deployments.get(&target.spec.name)
}

/// Whether two targets are the same but for the change that spoke of them last.
fn is_same(one: &Target, other: &Target) -> bool {
    let touched = one.touched;
    *one == Target {
        touched,
        ..other.clone()
    }
}

fn taken_up(
    known: Option<&DesiredDeployment>,
    target: &Target,
    context: &Context<'_>,
) -> DesiredDeployment {
    let target = Target {
        touched: context.revision,
        ..target.clone()
    };
    let stamp = Stamp::after(known.and_then(|known| known.stamp.as_ref()), context.stamp);
    match known {
        Some(known) => DesiredDeployment {
            stamp,
            ..known.with_target(target)
        },
        None => DesiredDeployment {
            target,
            last_good: None,
            stamp,
        },
    }
}

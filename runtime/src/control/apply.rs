//! The next desired state, or everything that is wrong with the change. Pure.
//!
//! [`Desired::apply`] works the change into a copy (`pending_change`), has it judged as a whole (`validator`) and takes it in.
//! The meaning of a change is decided here once: a model reference is resolved to content, an instance type to vCPUs, so that a
//! restart runs what was accepted, whatever was registered since; and a split comes in force now, or with the instances of its
//! change, or is refused.
//!
//! Not here: disks, clocks, what runs.

use std::collections::BTreeMap;

use crate::control::change::{Change, KeyType};
use crate::control::desired::{
    Desired, DesiredDeployment, DesiredEndpoint, Generation, Generations, PendingSplit, Stamp,
};
use crate::control::pending_change::PendingChange;
use crate::control::refusal::{ChangeError, NotApplied};
use crate::control::revision::Revision;
use crate::control::validator::{Context, Validator};
use crate::spec::{AuthMode, DeploymentName, EndpointName, Percent, TrafficSplit};

/// The state after a change.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) desired: Desired,
    /// The one endpoint that it was about.
    pub(super) endpoint: EndpointName,
    /// The deployments that it spoke of.
    pub(super) deployments: Vec<DeploymentName>,
    /// A sentence for the person who asked, where the change does more than its words say.
    pub(super) note: Option<String>,
}

impl Desired {
    /// The state after `change`.
    pub(super) fn apply(
        &self,
        change: &Change,
        context: &Context<'_>,
    ) -> Result<Applied, NotApplied> {
        let pending = match change {
            Change::DeleteEndpoint { name } => return Ok(self.without_endpoint(name)?),
            Change::DeleteDeployment { endpoint, name } => {
                return Ok(self.without_deployment(endpoint.as_ref(), name)?);
            }
            Change::RollBack { endpoint, to } => return self.roll_back((endpoint, *to), context),
            Change::RegenerateKey { endpoint, key } => {
                return Ok(self.regenerate(endpoint, *key, context.generation)?);
            }
            Change::CreateEndpoint {
                endpoint,
                deployments,
            } => {
                if let Some(known) = self.endpoints.get(&endpoint.name) {
                    return Err(
                        ChangeError::exists(&format!("endpoint {}", known.spec.name)).into(),
                    );
                }
                PendingChange::create(endpoint.clone(), deployments)
            }
            Change::UpdateEndpoint { name, update } => {
                let mut pending = PendingChange::of(self.endpoint(name)?);
                pending.update(update)?;
                pending
            }
            Change::CreateDeployment {
                endpoint,
                deployment,
                all_traffic,
            } => {
                let known = self.endpoint(endpoint)?;
                let mut pending = PendingChange::of(known);
                let never_ready = context.never_ready(known, &deployment.name);
                pending.create_deployment(deployment, *all_traffic, never_ready)?;
                pending
            }
            Change::UpdateDeployment {
                endpoint,
                name,
                update,
            } => {
                let mut pending = PendingChange::of(self.endpoint(endpoint)?);
                pending.update_deployment(name, update)?;
                pending
            }
        };
        self.take_in(pending.spelled(), context)
    }

    fn without_endpoint(&self, name: &EndpointName) -> Result<Applied, ChangeError> {
        let gone = self.endpoint(name)?;
        let (endpoint, deployments) = (
            gone.spec.name.clone(),
            gone.deployments.keys().cloned().collect(),
        );
        let mut desired = self.clone();
        desired.endpoints.remove(name);
        Ok(Applied {
            desired,
            endpoint,
            deployments,
            note: None,
        })
    }

    fn without_deployment(
        &self,
        endpoint: Option<&EndpointName>,
        name: &DeploymentName,
    ) -> Result<Applied, ChangeError> {
        let endpoint = match endpoint {
            Some(endpoint) => self.endpoint(endpoint)?.spec.name.clone(),
            None => self.only_owner(name)?,
        };
        let mut desired = self.clone();
        let known = desired.endpoint_mut(&endpoint);
        if !known.deployments.contains_key(name) {
            return Err(ChangeError::no_deployment(
                &endpoint,
                name,
                known.deployments.keys(),
            ));
        }
        let traffic = &known.spec.traffic;
        if traffic.percent_of(name) > Percent::ZERO {
            return Err(ChangeError::LiveTraffic {
                deployment: name.clone(),
                percent: traffic.percent_of(name),
                without: without_traffic(name, known),
                endpoint,
            });
        }
        known.spec.traffic = traffic
            .without(name)
            .expect("an entry without weight changes no sum");
        known.spec.forget_mirrored(name);
        known.pending.take_if(|pending| {
            // Whatever it waits for, a part of it will never be there.
            pending.split.percent_of(name) > Percent::ZERO
                || known.deployments[name].target.touched == pending.revision
        });
        if let Some(pending) = &mut known.pending {
            // A split that names what is gone would be refused when its time comes.
            pending.split = pending
                .split
                .without(name)
                .expect("an entry without weight changes no sum");
            pending.removes.retain(|gone| gone != name);
        }
        known.deployments.remove(name);
        Ok(Applied {
            desired,
            endpoint,
            deployments: vec![name.clone()],
            note: None,
        })
    }

    /// The endpoint of a deployment that was named without one.
    fn only_owner(&self, name: &DeploymentName) -> Result<EndpointName, ChangeError> {
        let owners = self
            .endpoints
            .values()
            .filter(|one| one.deployments.contains_key(name));
        let owners: Vec<_> = owners.map(|one| one.spec.name.clone()).collect();
        match owners.as_slice() {
            [owner] => Ok(owner.clone()),
            [] => Err(ChangeError::NotFound(format!(
                "no endpoint has a deployment {:?}",
                name.as_str()
            ))),
            several => {
                let several: Vec<_> = several.iter().map(EndpointName::as_str).collect();
                Err(ChangeError::Conflict(format!(
                    "several endpoints have a deployment {name} ({}): say which one with --name",
                    several.join(", ")
                )))
            }
        }
    }

    fn regenerate(
        &self,
        name: &EndpointName,
        key: KeyType,
        generation: Generation,
    ) -> Result<Applied, ChangeError> {
        let endpoint = self.endpoint(name)?.spec.name.clone();
        let mut desired = self.clone();
        let known = desired.endpoint_mut(&endpoint);
        if known.spec.auth_mode() != AuthMode::Key {
            return Err(ChangeError::Conflict(format!(
                "endpoint {endpoint} does not use keys for authentication: its auth_mode is aml_token"
            )));
        }
        match key {
            KeyType::Primary => known.generations.primary = generation,
            KeyType::Secondary => known.generations.secondary = generation,
        }
        Ok(Applied {
            desired,
            endpoint,
            deployments: Vec::new(),
            note: None,
        })
    }

    fn endpoint_mut(&mut self, name: &EndpointName) -> &mut DesiredEndpoint {
        self.endpoints.get_mut(name).expect("it was found just now")
    }

    /// Judges a pending change as a whole and takes it in.
    fn take_in(
        &self,
        pending: PendingChange,
        context: &Context<'_>,
    ) -> Result<Applied, NotApplied> {
        let name = pending.endpoint.name.clone();
        let before = self.endpoints.get(&name);
        let mut validator = Validator::new(context, pending.problems.clone());
        let mut deployments = BTreeMap::new();
        for spec in &pending.deployments {
            let mut spec = spec.clone();
            // Which endpoint it is for is decided by the change, whatever the file says.
            spec.endpoint_name = Some(name.clone());
            let touch = pending.touched.get(&spec.name).copied();
            let known = before.and_then(|one| one.deployments.get(&spec.name));
            if let Some(one) = validator.deployment(spec, touch, known) {
                deployments.insert(one.target.spec.name.clone(), one);
            }
        }
        self.conclude(pending, deployments, validator, context)
    }

    /// Judges what was worked out as a whole, and takes it in.
    pub(super) fn conclude(
        &self,
        pending: PendingChange,
        deployments: BTreeMap<DeploymentName, DesiredDeployment>,
        mut validator: Validator<'_>,
        context: &Context<'_>,
    ) -> Result<Applied, NotApplied> {
        let name = pending.endpoint.name.clone();
        let before = self.endpoints.get(&name);
        let touched: Vec<_> = pending.touched.keys().cloned().collect();
        // One that could not be worked out is a problem already.
        let starts = |name: &DeploymentName| {
            pending.touched.contains_key(name)
                && deployments.get(name).is_none_or(|one| !one.is_good())
        };
        validator.traffic(&pending, starts, before);
        validator.sizes(&pending, before);
        let mut desired = self.clone();
        let next = endpoint_after(&pending, deployments, before, context);
        desired.endpoints.insert(name.clone(), next);
        validator.cores(vcpus_of(self), vcpus_of(&desired));
        validator.outcome()?;
        Ok(Applied {
            desired,
            endpoint: name,
            deployments: touched,
            note: pending.note,
        })
    }
}

/// The endpoint as the change makes it: its split in force at once, or waiting for the instances of the same change.
fn endpoint_after(
    change: &PendingChange,
    mut deployments: BTreeMap<DeploymentName, DesiredDeployment>,
    before: Option<&DesiredEndpoint>,
    context: &Context<'_>,
) -> DesiredEndpoint {
    let (revision, generation) = (context.revision, context.generation);
    let in_force = before.map_or_else(TrafficSplit::default, |one| one.spec.traffic.clone());
    let starts = deployments
        .values()
        .any(|one| one.target.touched == revision && !one.is_good());
    let mut spec = change.endpoint.clone();
    let asked = std::mem::replace(&mut spec.traffic, in_force.clone());
    let pending = if !change.speaks_of_split {
        spec.traffic = asked;
        before.and_then(|one| still_pending(one, &deployments, revision))
    } else if starts && asked != in_force {
        let gone = before.into_iter().flat_map(|one| &one.deployments);
        let gone: BTreeMap<_, _> = gone
            .filter(|(name, _)| !deployments.contains_key(*name))
            .map(|(name, one)| (name.clone(), one.clone()))
            .collect();
        let removes = gone.keys().cloned().collect();
        deployments.extend(gone);
        Some(PendingSplit {
            split: asked,
            revision,
            removes,
        })
    } else {
        spec.traffic = asked;
        None
    };
    let mut next = DesiredEndpoint {
        spec,
        generations: before.map_or(Generations::all(generation), |one| one.generations),
        deployments,
        pending,
        stamp: Stamp::after(before.and_then(|one| one.stamp.as_ref()), context.stamp),
        cohorts: before.and_then(|one| one.cohorts.clone()),
    };
    next.follow_split();
    if let Some(salt) = &change.salt {
        next.salt_cohorts(salt);
    }
    next
}

/// The split that an endpoint waits for, as far as a change that does not speak of it leaves it.
fn still_pending(
    before: &DesiredEndpoint,
    deployments: &BTreeMap<DeploymentName, DesiredDeployment>,
    revision: Revision,
) -> Option<PendingSplit> {
    let mut pending = before.pending.clone()?;
    // A deployment that it waits for may be on its way to something else now, or gone.
    let mut waits_for = before.deployments.values();
    let waits = waits_for.all(|one| {
        one.target.touched != pending.revision
            || deployments.get(&one.target.spec.name) == Some(one)
    });
    // Whom this change speaks of stays: the older one knew nothing of it.
    let goes = |name: &DeploymentName| {
        let one = deployments.get(name);
        one.is_some_and(|one| one.target.touched != revision)
    };
    pending.removes.retain(goes);
    waits.then_some(pending)
}

/// vCPUs of all deployments but those that are to go.
fn vcpus_of(desired: &Desired) -> usize {
    let goes = |endpoint: &DesiredEndpoint, name: &DeploymentName| {
        let pending = endpoint.pending.as_ref();
        pending.is_some_and(|pending| pending.removes.contains(name))
    };
    desired
        .deployments()
        .filter(|(endpoint, one)| !goes(endpoint, &one.target.spec.name))
        .map(|(_, one)| one.target.aim())
        .fold(0, |sum, aim| {
            sum.saturating_add(aim.build.vcpus.saturating_mul(aim.count))
        })
}

/// The split that takes the traffic away from `name`, as the user may type it.
fn without_traffic(name: &DeploymentName, endpoint: &DesiredEndpoint) -> String {
    let others = endpoint
        .spec
        .traffic
        .entries()
        .iter()
        .filter(|(other, percent)| other != name && *percent > Percent::ZERO);
    let others: Vec<_> = others.map(|(other, _)| other.as_str()).collect();
    let idle = endpoint
        .deployments
        .keys()
        .map(DeploymentName::as_str)
        .find(|other| *other != name.as_str());
    match (others.as_slice(), idle) {
        ([only], _) => format!("'{name}:0,{only}:100'"),
        ([], Some(idle)) => format!("'{name}:0,{idle}:100'"),
        ([], None) => format!("'{name}:0'"),
        (several, _) => format!("'{name}:0,{}:..'", several.join(":..,")),
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;
    use crate::control::change::{DeploymentUpdate, EndpointUpdate};
    use crate::control::desired::{Settlement, SplitOutcome};
    use crate::control::gathering::{Gathered, GatheredScript};
    use crate::control::models::{Ingested, ModelDigest, ModelRecord, Models, Mount};
    use crate::control::needs::ScriptSource;
    use crate::control::validator::{Unready, UnreadyDeployments};
    use crate::spec::{
        Assignment, CodeConfiguration, Cohorts, DeploymentSpec, EndpointSpec, ModelRef, Queueing,
        SkuTable, VersionRef,
    };

    /// A desired state, and what changes of it are judged by.
    #[derive(Debug)]
    struct World {
        desired: Desired,
        models: Models,
        gathered: Gathered,
        cores_max: Option<usize>,
        unready: UnreadyDeployments,
        revision: Revision,
    }

    fn record(name: &str, version: &str) -> ModelRecord {
        ModelRecord {
            name: name.parse().expect("a name"),
            version: version.parse().expect("a version"),
            digest: ModelDigest::for_test(&format!("{name}{version}")),
            size_bytes: 1,
            path: PathBuf::from("/m"),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            created_by: "me".to_owned(),
            without_onnx: None,
            is_folder: None,
            about: crate::spec::ModelAbout::default(),
        }
    }

    fn endpoint_name(text: &str) -> EndpointName {
        text.parse().expect("a name")
    }

    fn name(text: &str) -> DeploymentName {
        text.parse().expect("a name")
    }

    fn deployment(text: &str, model: &str) -> DeploymentSpec {
        let model = ModelRef::Registered {
            name: "digits".parse().expect("a name"),
            version: if model == "latest" {
                VersionRef::Latest
            } else {
                VersionRef::Exact(model.parse().expect("a version"))
            },
        };
        DeploymentSpec::new(name(text), model, "Standard_F4s_v2")
    }

    fn traffic(split: &str) -> Change {
        update(EndpointUpdate {
            traffic: Some(split.parse().expect("a split")),
            ..EndpointUpdate::default()
        })
    }

    fn update(update: EndpointUpdate) -> Change {
        Change::UpdateEndpoint {
            name: endpoint_name("iris"),
            update,
        }
    }

    fn create(endpoint: &str) -> Change {
        Change::CreateEndpoint {
            endpoint: EndpointSpec::new(endpoint_name(endpoint)),
            deployments: Vec::new(),
        }
    }

    fn add(endpoint: &str, deployment: DeploymentSpec) -> Change {
        Change::CreateDeployment {
            endpoint: endpoint_name(endpoint),
            deployment,
            all_traffic: false,
        }
    }

    fn edit(deployment: &str, update: DeploymentUpdate) -> Change {
        Change::UpdateDeployment {
            endpoint: endpoint_name("iris"),
            name: name(deployment),
            update,
        }
    }

    fn remove(endpoint: Option<&str>, deployment: &str) -> Change {
        Change::DeleteDeployment {
            endpoint: endpoint.map(endpoint_name),
            name: name(deployment),
        }
    }

    fn set(assignments: &[&str]) -> Vec<Assignment> {
        assignments
            .iter()
            .map(|text| text.parse().expect("an assignment"))
            .collect()
    }

    impl World {
        fn empty() -> Self {
            Self {
                desired: Desired::default(),
                models: Models::new(vec![record("digits", "1"), record("digits", "2")]),
                gathered: Gathered::default(),
                cores_max: None,
                unready: UnreadyDeployments::new(),
                revision: Revision(0),
            }
        }

        /// `iris` with blue (all traffic) and green.
        fn with_iris() -> Self {
            let mut world = Self::empty();
            for change in [
                create("iris"),
                add("iris", deployment("blue", "1")),
                add("iris", deployment("green", "2")),
                traffic("blue:100"),
            ] {
                world.accept(&change);
            }
            world
        }

        fn apply(&self, change: &Change) -> Result<Applied, NotApplied> {
            let context = Context {
                past: None,
                stamp: None,
                skus: &SkuTable::builtin(),
                models: &self.models,
                gathered: &self.gathered,
                cores_max: self.cores_max,
                unready: &self.unready,
                revision: self.revision.next(),
                generation: Generation(self.revision.next().0),
            };
            self.desired.apply(change, &context)
        }

        /// Accepted; whatever it starts is not ready.
        #[track_caller]
        fn accept_only(&mut self, change: &Change) {
            self.desired = self.apply(change).expect("it is accepted").desired;
            self.revision = self.revision.next();
        }

        /// Accepted, and all that it starts becomes ready.
        #[track_caller]
        fn accept(&mut self, change: &Change) {
            self.accept_only(change);
            self.settle(SplitOutcome::InForce);
        }

        /// All that the last change started becomes ready.
        fn settle(&mut self, split: SplitOutcome) {
            let touched: Vec<_> = self
                .desired
                .deployments()
                .filter(|(_, one)| one.target.touched == self.revision)
                .map(|(endpoint, one)| (endpoint.spec.name.clone(), one.target.spec.name.clone()))
                .collect();
            for (endpoint, deployment) in touched {
                self.desired = self.desired.settled(&Settlement {
                    endpoint,
                    revision: self.revision,
                    good: Some(deployment),
                    split,
                });
            }
        }

        #[track_caller]
        fn refuse(&self, change: &Change) -> ChangeError {
            match self.apply(change) {
                Err(NotApplied::Refused(error)) => error,
                other => panic!("expected a refusal, found {other:?}"),
            }
        }

        #[track_caller]
        fn check_refused(&self, change: &Change, message: &str) {
            assert_eq!(self.refuse(change).to_string(), message);
        }

        fn iris(&self) -> &DesiredEndpoint {
            &self.desired.endpoints[&endpoint_name("iris")]
        }

        fn blue(&self) -> &DesiredDeployment {
            &self.iris().deployments[&name("blue")]
        }
    }

    #[test]
    fn creating_what_exists_is_refused_in_any_case() {
        let world = World::with_iris();
        world.check_refused(
            &create("IRIS"),
            "endpoint iris exists: update or replace it, or choose another name",
        );
        world.check_refused(
            &add("iris", deployment("Blue", "1")),
            "deployment iris/blue exists: update or replace it, or choose another name",
        );
    }

    #[test]
    fn updating_what_does_not_exist_is_refused_with_what_does() {
        let world = World::with_iris();
        world.check_refused(
            &Change::DeleteEndpoint {
                name: endpoint_name("irsi"),
            },
            "no endpoint \"irsi\"; there are iris",
        );
        world.check_refused(
            &edit("red", count(2)),
            "endpoint iris has no deployment \"red\"; it has blue, green",
        );
        World::empty().check_refused(
            &traffic("blue:100"),
            "no endpoint \"iris\"; none exists yet",
        );
    }

    #[test]
    fn traffic_to_a_deployment_that_is_not_there_is_refused() {
        World::with_iris().check_refused(
            &traffic("blue:50,red:50"),
            "traffic names \"red\", which is not a deployment of endpoint iris; it has blue, green",
        );
    }

    #[test]
    fn traffic_to_a_deployment_that_failed_to_start_is_refused_but_other_changes_pass() {
        let mut world = World::with_iris();
        world.unready.insert(
            (endpoint_name("iris"), name("green")),
            Unready {
                why: "the model is empty".to_owned(),
                starting: false,
            },
        );
        world.check_refused(
            &traffic("blue:90,green:10"),
            "traffic names green, which has no ready instance: the model is empty",
        );
        // It may be right later.
        let early = world.refuse(&traffic("blue:90,green:10"));
        assert_eq!(early.kind(), crate::control::ErrorKind::Conflict);
        world.accept(&edit("blue", count(2)));
    }

    #[test]
    fn a_deployment_with_live_traffic_is_not_deleted() {
        let mut world = World::with_iris();
        let error = world.refuse(&remove(Some("iris"), "blue"));
        assert_eq!(error.kind(), crate::control::ErrorKind::Conflict);
        assert_eq!(
            error.to_string(),
            "the deployment blue has live traffic (100 %) and can't be deleted: scale down its traffic to 0 first, with `serin \
             endpoint update --name iris --traffic 'blue:0,green:100'`"
        );
        world.accept(&traffic("blue:0,green:100"));
        world.accept(&remove(Some("iris"), "blue"));
        assert_eq!(world.iris().spec.traffic.to_string(), "green:100");
    }

    fn sticky(assignment: &str) -> Change {
        update(EndpointUpdate {
            set: set(&[assignment]),
            ..EndpointUpdate::default()
        })
    }

    #[test]
    fn clients_belong_where_the_split_in_force_says_while_there_is_a_rule() {
        let mut world = World::with_iris();
        assert_eq!(world.iris().cohorts, None);
        world.accept(&sticky("sticky.header=x-user-id"));
        let ends = |world: &World| -> Vec<_> {
            let cohorts = world.iris().cohorts.as_ref().expect("cohorts");
            let ends = cohorts.ends();
            ends.map(|(end, name)| (end, name.to_string())).collect()
        };
        let blue = |end| (end, "blue".to_owned());
        let green = |end| (end, "green".to_owned());
        assert_eq!(ends(&world), [blue(10_000)]);
        world.accept(&traffic("blue:90,green:10"));
        assert_eq!(ends(&world), [green(1000), blue(10_000)]);
        assert_eq!(
            world.iris().cohorts.as_ref().map(Cohorts::salt),
            Some("iris")
        );
        // Other changes, and no traffic, leave everybody where they are.
        world.accept(&edit("blue", count(2)));
        world.accept(&traffic("blue:0,green:0"));
        assert_eq!(ends(&world), [green(1000), blue(10_000)]);
        world.accept(&sticky("sticky=null"));
        assert_eq!(world.iris().cohorts, None);
    }

    #[test]
    fn another_salt_counts_where_it_moves_nobody() {
        let mut world = World::with_iris();
        let salted = |salt: &str| {
            update(EndpointUpdate {
                salt: Some(salt.to_owned()),
                ..EndpointUpdate::default()
            })
        };
        world.accept(&salted("nobody's"));
        assert_eq!(world.iris().cohorts, None);
        world.accept(&sticky("sticky.header=x-user-id"));
        world.accept(&salted("one"));
        world.accept(&traffic("blue:90,green:10"));
        let before = world.iris().cohorts.clone();
        assert_eq!(before.as_ref().map(Cohorts::salt), Some("one"));
        world.accept(&salted("two"));
        assert_eq!(world.iris().cohorts, before);
    }

    #[test]
    fn a_split_that_waits_moves_nobody_until_it_is_in_force() {
        let mut world = World::with_iris();
        world.accept(&sticky("sticky.header=x-user-id"));
        let before = world.iris().cohorts.clone();
        world.accept_only(&upsert("red", "1", "blue:50,red:50"));
        assert_eq!(world.iris().cohorts, before);
        world.settle(SplitOutcome::InForce);
        let after = world.iris().cohorts.as_ref().expect("cohorts");
        assert_eq!(
            after.ends().next().map(|(end, name)| (end, name.as_str())),
            Some((5000, "red"))
        );
    }

    #[test]
    fn a_deployment_named_alone_is_found_when_one_endpoint_has_it() {
        let mut world = World::with_iris();
        world.accept(&remove(None, "green"));
        world.check_refused(
            &remove(None, "green"),
            "no endpoint has a deployment \"green\"",
        );
        world.accept(&create("wine"));
        world.accept(&add("wine", deployment("blue", "1")));
        world.check_refused(
            &remove(None, "blue"),
            "several endpoints have a deployment blue (iris, wine): say which one with --name",
        );
    }

    #[test]
    fn all_problems_of_a_change_come_at_once() {
        let mut odd = deployment("red", "7");
        odd.instance_type = "Standard_F4s_v".to_owned();
        let change = update(EndpointUpdate {
            deployment: Some((
                name("red"),
                DeploymentUpdate {
                    file: Some(odd),
                    upsert: true,
                    ..DeploymentUpdate::default()
                },
            )),
            traffic: Some("pink:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        });
        let error = World::with_iris().refuse(&change);
        assert_eq!(error.details().len(), 3, "{error}");
        assert!(
            error
                .to_string()
                .contains("model digits has no version \"7\"; it has 1, 2"),
            "{error}"
        );
    }

    #[test]
    fn the_bounds_of_a_count_hold_for_every_way_to_set_it() {
        let world = World::with_iris();
        for change in [
            edit("blue", count(0)),
            edit(
                "blue",
                DeploymentUpdate {
                    set: set(&["instance_count=51"]),
                    ..DeploymentUpdate::default()
                },
            ),
            update(EndpointUpdate {
                set: set(&["deployments.blue.scale.instance_count=99"]),
                ..EndpointUpdate::default()
            }),
        ] {
            assert_eq!(
                world.refuse(&change).kind(),
                crate::control::ErrorKind::Invalid
            );
        }
    }

    #[test]
    fn the_generic_set_reaches_any_attribute_and_touches_only_what_it_changes() {
        let mut world = World::with_iris();
        let before = world.iris().deployments[&name("green")].clone();
        world.accept(&update(EndpointUpdate {
            set: set(&["deployments.blue.scale.instance_count=5"]),
            ..EndpointUpdate::default()
        }));
        assert_eq!(world.blue().target.spec.instance_count(), 5);
        assert_eq!(world.blue().target.touched, world.revision);
        assert_eq!(world.iris().deployments[&name("green")], before);
    }

    #[test]
    fn deployments_that_disappear_from_a_declaring_file_are_deleted() {
        let mut world = World::with_iris();
        world.accept(&update(EndpointUpdate {
            deployments: Some(vec![deployment("green", "2")]),
            traffic: Some("green:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        }));
        assert_eq!(
            world
                .iris()
                .deployments
                .keys()
                .map(DeploymentName::as_str)
                .collect::<Vec<_>>(),
            ["green"]
        );
        world.check_refused(
            &update(EndpointUpdate {
                deployments: Some(Vec::new()),
                ..EndpointUpdate::default()
            }),
            "traffic names \"green\", which is not a deployment of endpoint iris; it has none yet",
        );
    }

    fn upsert(deployment: &str, version: &str, split: &str) -> Change {
        update(EndpointUpdate {
            deployment: Some((
                name(deployment),
                DeploymentUpdate {
                    file: Some(self::deployment(deployment, version)),
                    upsert: true,
                    ..DeploymentUpdate::default()
                },
            )),
            traffic: Some(split.parse().expect("a split")),
            ..EndpointUpdate::default()
        })
    }

    impl World {
        fn split(&self) -> String {
            self.iris().spec.traffic.to_string()
        }
    }

    #[test]
    fn a_split_beside_a_new_version_waits_for_its_instances() {
        let mut world = World::with_iris();
        world.accept_only(&upsert("green", "1", "blue:0,green:100"));
        assert_eq!(world.split(), "blue:100");
        let mut failed = world.desired.clone();
        world.settle(SplitOutcome::InForce);
        assert_eq!(world.split(), "blue:0,green:100");
        assert!(world.iris().pending.is_none());
        // The other way: it fails.
        failed = failed.settled(&Settlement {
            endpoint: endpoint_name("iris"),
            revision: world.revision,
            good: None,
            split: SplitOutcome::Dropped,
        });
        world.desired = failed;
        assert_eq!(world.split(), "blue:100");
        assert!(world.iris().pending.is_none());
        world.accept(&edit("blue", count(2)));
        assert_eq!(world.split(), "blue:100");
    }

    fn count(instances: u32) -> DeploymentUpdate {
        DeploymentUpdate {
            set: set(&[&format!("instance_count={instances}")]),
            ..DeploymentUpdate::default()
        }
    }

    #[test]
    fn a_split_that_waits_never_comes_in_force_after_a_newer_change_of_it_or_of_its_deployment() {
        let newer: [&dyn Fn(&World) -> Change; 4] = [
            // The split in force, named again: a rollback before anything has moved.
            &|_| traffic("blue:100"),
            &|_| edit("green", count(3)),
            &|_| remove(Some("iris"), "green"),
            &|_| upsert("green", "2", "blue:50,green:50"),
        ];
        for newer in newer {
            let mut world = World::with_iris();
            world.accept_only(&upsert("green", "1", "blue:0,green:100"));
            let first = world.revision;
            world.accept_only(&newer(&world));
            world.desired = world.desired.settled(&Settlement {
                endpoint: endpoint_name("iris"),
                revision: first,
                good: Some(name("green")),
                split: SplitOutcome::InForce,
            });
            assert_ne!(world.split(), "blue:0,green:100");
        }
    }

    #[test]
    fn an_unrelated_change_leaves_a_split_waiting() {
        let mut world = World::with_iris();
        world.accept_only(&upsert("green", "1", "blue:0,green:100"));
        let first = world.revision;
        world.accept(&edit("blue", count(2)));
        world.accept(&Change::RegenerateKey {
            endpoint: endpoint_name("iris"),
            key: KeyType::Primary,
        });
        world.desired = world.desired.settled(&Settlement {
            endpoint: endpoint_name("iris"),
            revision: first,
            good: Some(name("green")),
            split: SplitOutcome::InForce,
        });
        assert_eq!(world.split(), "blue:0,green:100");
    }

    #[test]
    fn what_a_declaring_file_leaves_out_serves_until_its_split_is_in_force() {
        let mut world = World::with_iris();
        let mut green = deployment("green", "1");
        green.tags.insert("version".to_owned(), "2".to_owned());
        world.accept_only(&update(EndpointUpdate {
            deployments: Some(vec![green]),
            traffic: Some("green:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        }));
        assert_eq!(world.split(), "blue:100");
        assert!(world.iris().deployments.contains_key(&name("blue")));
        world.settle(SplitOutcome::InForce);
        assert_eq!(world.split(), "green:100");
        assert!(!world.iris().deployments.contains_key(&name("blue")));
    }

    #[test]
    fn what_is_spoken_of_again_does_not_go_with_the_split_that_left_it_out() {
        let mut world = World::with_iris();
        world.accept_only(&update(EndpointUpdate {
            deployments: Some(vec![deployment("red", "1")]),
            traffic: Some("red:100".parse().expect("a split")),
            ..EndpointUpdate::default()
        }));
        let first = world.revision;
        world.accept(&edit("green", count(2)));
        world.desired = world.desired.settled(&Settlement {
            endpoint: endpoint_name("iris"),
            revision: first,
            good: Some(name("red")),
            split: SplitOutcome::InForce,
        });
        assert_eq!(world.split(), "red:100");
        let left: Vec<_> = world.iris().deployments.keys().collect();
        assert_eq!(left, [&name("green"), &name("red")]);
    }

    #[test]
    fn a_split_that_waits_names_nothing_that_is_gone() {
        let mut world = World::with_iris();
        world.accept_only(&upsert("red", "1", "blue:50,red:50,green:0"));
        world.accept_only(&remove(Some("iris"), "green"));
        let pending = world.iris().pending.as_ref().expect("it waits on");
        assert_eq!(pending.split.to_string(), "blue:50,red:50");
    }

    #[test]
    fn a_timeout_is_in_force_at_once_and_another_build_is_not() {
        let timeout = |world: &World| {
            let good = world.blue().last_good.as_ref().expect("it was ready");
            good.spec.request_settings().request_timeout().as_millis()
        };
        let edit_blue = |assignment: &str| {
            edit(
                "blue",
                DeploymentUpdate {
                    set: set(&[assignment]),
                    ..DeploymentUpdate::default()
                },
            )
        };
        let mut world = World::with_iris();
        world.accept_only(&edit_blue("request_settings.request_timeout_ms=70"));
        assert_eq!(timeout(&world), 70);
        assert!(world.blue().is_good());
        world.accept_only(&edit_blue("request_settings.lanes=1"));
        assert!(!world.blue().is_good());
        // While that is on its way, and also when it has failed.
        world.accept_only(&edit_blue("request_settings.request_timeout_ms=80"));
        assert_eq!(timeout(&world), 80);
        assert!(!world.blue().is_good());
    }

    #[test]
    fn the_length_of_the_queue_is_in_force_at_once_and_starts_nothing() {
        let mut world = World::with_iris();
        let before = world.blue().target.aim();
        for (written, queueing) in [("7", Queueing::Waiting(7)), ("0", Queueing::Waiting(0))] {
            world.accept_only(&edit(
                "blue",
                DeploymentUpdate {
                    set: set(&[&format!(
                        "request_settings.max_waiting_requests_per_instance={written}"
                    )]),
                    ..DeploymentUpdate::default()
                },
            ));
            let good = world.blue().last_good.as_ref().expect("it was ready");
            assert_eq!(good.spec.request_settings().queueing(), queueing);
            assert!(world.blue().is_good());
        }
        assert_eq!(world.blue().target.aim(), before);
    }

    #[test]
    fn a_deployment_that_never_was_ready_is_replaced_by_the_corrected_one() {
        let mut world = World::with_iris();
        world.accept_only(&add("iris", deployment("red", "1")));
        let unready = |starting| Unready {
            why: "the model is empty".to_owned(),
            starting,
        };
        let key = (endpoint_name("iris"), name("red"));
        world.unready.insert(key.clone(), unready(true));
        let corrected = add("iris", deployment("red", "2"));
        world.check_refused(
            &corrected,
            "deployment iris/red exists: update or replace it, or choose another name",
        );
        world.unready.insert(key, unready(false));
        let applied = world.apply(&corrected).expect("it is accepted");
        assert_eq!(
            applied.note.as_deref(),
            Some("deployment red takes the place of one that failed and never was ready")
        );
        // One that was good is in the way, whatever has become of it.
        let key = (endpoint_name("iris"), name("green"));
        world.unready.insert(key, unready(false));
        world.check_refused(
            &add("iris", deployment("green", "1")),
            "deployment iris/green exists: update or replace it, or choose another name",
        );
    }

    #[test]
    fn an_upsert_makes_a_deployment_or_updates_it_in_place() {
        let mut world = World::with_iris();
        let upsert = |version| DeploymentUpdate {
            file: Some(deployment("red", version)),
            upsert: true,
            ..DeploymentUpdate::default()
        };
        world.accept(&edit("red", upsert("1")));
        world.accept(&edit("red", upsert("2")));
        assert_eq!(
            world.iris().deployments[&name("red")].target.model.digest,
            ModelDigest::for_test("digits2")
        );
    }

    #[test]
    fn the_latest_version_is_looked_up_when_a_file_names_it_and_stays_through_other_updates() {
        let mut world = World::with_iris();
        world.accept(&add("iris", deployment("red", "latest")));
        world.models.insert(record("digits", "10"));
        world.accept(&edit("red", count(2)));
        let digest = |world: &World| {
            world.iris().deployments[&name("red")]
                .target
                .model
                .digest
                .clone()
        };
        assert_eq!(digest(&world), ModelDigest::for_test("digits2"));
        world.accept(&edit(
            "red",
            DeploymentUpdate {
                file: Some(deployment("red", "latest")),
                ..DeploymentUpdate::default()
            },
        ));
        assert_eq!(digest(&world), ModelDigest::for_test("digits10"));
    }

    fn ingested(content: &str, without_onnx: Option<Vec<String>>) -> Ingested {
        Ingested {
            digest: ModelDigest::for_test(content),
            size_bytes: 1,
            without_onnx,
            is_folder: Some(false),
        }
    }

    #[test]
    fn what_holds_no_onnx_file_is_not_deployed() {
        let mut world = World::with_iris();
        let pickle = Some(vec!["model.pkl".to_owned()]);
        let mut registered = record("digits", "3");
        registered.without_onnx.clone_from(&pickle);
        world.models.insert(registered);
        let refused = world.refuse(&add("iris", deployment("red", "3")));
        assert!(
            refused
                .to_string()
                .starts_with("deployment red: model: model digits:3 holds no ONNX file"),
            "{refused}"
        );
        let path = PathBuf::from("/m/model.pkl");
        let pickle = ingested("p", pickle);
        world.gathered.models.insert(path.clone(), pickle);
        let spec = DeploymentSpec::new(name("red"), ModelRef::Path(path), "Standard_F4s_v2");
        let refused = world.refuse(&add("iris", spec));
        assert!(
            refused.to_string().contains("holds no ONNX file"),
            "{refused}"
        );
    }

    /// `red` with a pickle and a script.
    fn with_script() -> DeploymentSpec {
        let model = ModelRef::Path("/m/model.pkl".into());
        let mut spec = DeploymentSpec::new(name("red"), model, "Standard_F4s_v2");
        spec.code_configuration = Some(CodeConfiguration {
            code: Some("/src".into()),
            scoring_script: Some("src/m1/score.py".into()),
            relative_to: Some("/".into()),
        });
        spec
    }

    /// A world in which its files are gathered.
    fn with_files() -> World {
        let mut world = World::with_iris();
        let pickle = ingested("pickle", Some(vec!["model.pkl".to_owned()]));
        world.gathered.models.insert("/m/model.pkl".into(), pickle);
        let source = ScriptSource {
            code: "/src".into(),
            environment: None,
            any_python: false,
        };
        let files = ["m1/score.py", "other.py"].map(str::to_owned);
        let script = GatheredScript {
            code: ModelDigest::for_test("code"),
            folder: "src".to_owned(),
            files: files.into(),
            recipe: None,
        };
        world.gathered.scripts.push((source, Ok(script)));
        world
    }

    fn red(world: &World) -> &DesiredDeployment {
        &world.iris().deployments[&name("red")]
    }

    #[test]
    fn a_script_runs_any_model_and_its_files_are_asked_for_first() {
        let mut world = with_files();
        let gathered = std::mem::take(&mut world.gathered);
        let change = add("iris", with_script());
        match world.apply(&change) {
            Err(NotApplied::Needs(needs)) => {
                assert_eq!((needs.models.len(), needs.scripts.len()), (1, 1));
            }
            other => panic!("expected needs, found {other:?}"),
        }
        world.gathered = gathered;
        world.accept(&change);
        let target = &red(&world).target;
        let script = target.script.as_ref().expect("a script");
        assert_eq!(
            (script.folder.as_str(), script.entry_script.as_str()),
            ("src", "m1/score.py")
        );
        assert_eq!(
            target.model.mount,
            Some(Mount::of("/m/model.pkl".as_ref(), Some(false)))
        );
        let contents: Vec<_> = target.contents().map(ModelDigest::as_str).collect();
        assert_eq!(contents, ["pickle", "code"]);
        assert!(world.desired.models().any(|one| one.as_str() == "code"));
        let stored = serde_json::to_string(&world.desired).expect("JSON");
        let again: Desired = serde_json::from_str(&stored).expect("its own form");
        assert_eq!(again, world.desired);
    }

    #[test]
    fn a_script_that_is_not_in_its_folder_is_refused_with_the_places_looked_at() {
        let mut world = with_files();
        let mut spec = with_script();
        if let Some(code) = &mut spec.code_configuration {
            code.scoring_script = Some("src/none.py".into());
        }
        let refused = world.refuse(&add("iris", spec));
        assert_eq!(
            refused.to_string(),
            "deployment red: code_configuration.scoring_script: no such file: looked for /src/src/none.py and /src/none.py"
        );
        let wrong = vec!["environment: it is no YAML".to_owned()];
        world.gathered.scripts[0].1 = Err(wrong);
        let refused = world.refuse(&add("iris", with_script()));
        assert_eq!(
            refused.to_string(),
            "deployment red: environment: it is no YAML"
        );
    }

    #[test]
    fn scoring_native_asks_for_onnx_again_and_for_no_files_of_a_script() {
        let mut world = with_files();
        let mut spec = with_script();
        spec.set(&set(&["scoring=native"])).expect("set");
        let refused = world.refuse(&add("iris", spec));
        assert!(
            refused.to_string().contains("holds no ONNX file"),
            "{refused}"
        );
        world.accept(&add("iris", with_script()));
        let native = DeploymentUpdate {
            set: set(&["scoring=native"]),
            ..DeploymentUpdate::default()
        };
        let refused = world.refuse(&edit("red", native.clone()));
        assert!(
            refused.to_string().contains("holds no ONNX file"),
            "{refused}"
        );
        world.gathered = Gathered::default();
        let onnx = ingested("onnx", None);
        world.gathered.models.insert("/m/model.pkl".into(), onnx);
        world.accept(&edit("red", native));
        assert_eq!(red(&world).target.script, None);
    }

    #[test]
    fn other_settings_leave_a_script_the_content_that_it_is_and_variables_are_settings() {
        let mut world = with_files();
        world.accept(&add("iris", with_script()));
        let before = red(&world).target.clone();
        world.gathered = Gathered::default();
        world.accept(&edit("red", count(2)));
        assert_eq!(red(&world).target.aim().build, before.aim().build);
        // What means something for runs of models alone replaces no instance.
        let set_to = |text: &str| DeploymentUpdate {
            set: set(&[text]),
            ..DeploymentUpdate::default()
        };
        world.accept(&edit("red", set_to("request_settings.spin=true")));
        assert_eq!(red(&world).target.aim().build, before.aim().build);
        world.accept(&edit("red", set_to("environment_variables.A=1")));
        let script = red(&world).target.script.clone().expect("a script");
        assert_eq!(script.variables["A"], "1");
        assert_ne!(red(&world).target.aim().build, before.aim().build);
    }

    #[test]
    fn what_an_earlier_release_accepted_without_its_script_stays_native_until_its_file_comes_again()
    {
        let mut world = with_files();
        world
            .gathered
            .models
            .insert("/m/model.pkl".into(), ingested("onnx", None));
        world.accept(&add("iris", with_script()));
        let mut stored = serde_json::to_value(&world.desired).expect("JSON");
        let stored_red = stored.pointer_mut("/endpoints/iris/deployments/red");
        let stored_red = stored_red.and_then(serde_json::Value::as_object_mut);
        stored_red.expect("it is there").remove("script");
        world.desired = serde_json::from_value(stored).expect("an older state");
        world.accept(&edit("red", count(2)));
        assert_eq!(red(&world).target.script, None);
        let file = DeploymentUpdate {
            file: Some(with_script()),
            ..DeploymentUpdate::default()
        };
        world.accept(&edit("red", file));
        assert!(red(&world).target.script.is_some());
    }

    #[test]
    fn a_plain_path_is_asked_for_once_and_then_used() {
        let mut world = World::with_iris();
        let spec = DeploymentSpec::new(
            name("red"),
            ModelRef::Path("/m/a.onnx".into()),
            "Standard_F4s_v2",
        );
        let change = add("iris", spec);
        match world.apply(&change) {
            Err(NotApplied::Needs(needs)) => {
                let paths = BTreeSet::from([PathBuf::from("/m/a.onnx")]);
                assert_eq!((needs.models, needs.scripts), (paths, Vec::new()));
            }
            other => panic!("expected a path, found {other:?}"),
        }
        world
            .gathered
            .models
            .insert("/m/a.onnx".into(), ingested("a", None));
        world.accept(&change);
        world.gathered.models.clear();
        world.accept(&edit("red", count(2)));
    }

    #[test]
    fn lanes_are_judged_by_what_the_deployment_becomes() {
        let mut world = World::with_iris();
        let edit_blue = |assignments: &[&str]| {
            edit(
                "blue",
                DeploymentUpdate {
                    set: set(assignments),
                    ..DeploymentUpdate::default()
                },
            )
        };
        world.check_refused(
            &edit_blue(&["request_settings.lanes=8"]),
            "deployment blue: request_settings.lanes: expected at most 1, which is max_concurrent_requests_per_instance, found \
             8: a lane beyond would never have a request\n\
             deployment blue: request_settings.lanes: expected at most 4, the vCPUs of the instance type, found 8: lower lanes, \
             or choose a larger instance_type",
        );
        world.accept(&edit_blue(&[
            "request_settings.lanes=4",
            "request_settings.max_concurrent_requests_per_instance=16",
        ]));
        assert_eq!(world.blue().target.spec.request_settings().lanes(), Some(4));
        // Each setting is right by itself; together with what was said before they are not.
        world.check_refused(
            &edit_blue(&["request_settings.max_concurrent_requests_per_instance=2"]),
            "deployment blue: request_settings.lanes: expected at most 2, which is max_concurrent_requests_per_instance, found \
             4: a lane beyond would never have a request",
        );
        world.check_refused(
            &edit_blue(&["request_settings.max_batch_delay_us=6000", "request_settings.request_timeout_ms=5"]),
            "deployment blue: request_settings.max_batch_delay_us: expected less than request_timeout_ms, which is 5, found 6000 \
             us: every request would time out",
        );
    }

    #[test]
    fn strict_capacity_refuses_more_vcpus_than_cores_and_lets_the_rest_pass() {
        let mut world = World::with_iris();
        world.cores_max = Some(8);
        let count = |count| edit("blue", self::count(count));
        world.check_refused(
            &count(2),
            "not enough cores: all deployments together would ask for 12 vCPUs, 8 cores are there; lower instance_count, choose \
             a smaller instance_type, or let instances share cores (capacity `overcommit`)",
        );
        world.accept(&traffic("blue:90,green:10"));
    }

    #[test]
    fn a_regenerated_key_has_a_generation_that_never_was() {
        let mut world = World::with_iris();
        let before = world.iris().generations;
        world.accept(&Change::RegenerateKey {
            endpoint: endpoint_name("iris"),
            key: KeyType::Primary,
        });
        let after = world.iris().generations;
        assert_eq!(
            (after.primary, after.secondary),
            (Generation(world.revision.0), before.secondary)
        );
        world.accept(&update(EndpointUpdate {
            set: set(&["auth_mode=aml_token"]),
            ..EndpointUpdate::default()
        }));
        world.check_refused(
            &Change::RegenerateKey {
                endpoint: endpoint_name("iris"),
                key: KeyType::Primary,
            },
            "endpoint iris does not use keys for authentication: its auth_mode is aml_token",
        );
    }

    #[test]
    fn a_desired_state_survives_json() {
        let desired = World::with_iris().desired;
        let text = serde_json::to_string(&desired).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Desired>(&text).expect("a state"),
            desired
        );
    }
}

//! A change while it is worked into an endpoint; not judged yet. Pure.

use std::collections::BTreeMap;

use crate::control::change::{DeploymentUpdate, EndpointUpdate};
use crate::control::desired::DesiredEndpoint;
use crate::control::refusal::ChangeError;
use crate::spec::{
    Assignment, DeploymentName, DeploymentSpec, EndpointSpec, Percent, SpecError, TrafficError,
    TrafficSplit, apply as apply_set,
};

/// The way in which a change speaks of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Its settings: a model that they do not change stays the content that it is.
    Settings,
    /// By a file: `@latest` and paths are looked up again.
    File,
}

/// An endpoint while a change is worked into it.
#[derive(Debug)]
pub(super) struct PendingChange {
    /// With the split that is asked for.
    pub(super) endpoint: EndpointSpec,
    pub(super) deployments: Vec<DeploymentSpec>,
    /// The deployments that the change speaks of, and whether a file names their model anew.
    pub(super) touched: BTreeMap<DeploymentName, Touch>,
    /// Whether the change names a split, be it the one in force: then no older one is waited for any more.
    pub(super) speaks_of_split: bool,
    /// Another salt of its cohorts.
    pub(super) salt: Option<String>,
    pub(super) problems: Vec<String>,
    pub(super) note: Option<String>,
}

impl PendingChange {
    fn new(endpoint: EndpointSpec) -> Self {
        Self {
            endpoint,
            deployments: Vec::new(),
            touched: BTreeMap::new(),
            speaks_of_split: false,
            salt: None,
            problems: Vec::new(),
            note: None,
        }
    }

    /// An endpoint that is worked out whole, its split too.
    pub(super) fn whole(endpoint: EndpointSpec) -> Self {
        Self {
            speaks_of_split: true,
            ..Self::new(endpoint)
        }
    }

    /// A new endpoint.
    pub(super) fn create(endpoint: EndpointSpec, deployments: &[DeploymentSpec]) -> Self {
        let mut pending = Self::new(endpoint);
        pending.speaks_of_split = true;
        pending.declare(deployments);
        pending
    }

    /// A known endpoint before anything has changed.
    pub(super) fn of(known: &DesiredEndpoint) -> Self {
        let deployments = known.deployments.values();
        Self {
            deployments: deployments.map(|one| one.target.spec.clone()).collect(),
            ..Self::new(known.spec.clone())
        }
    }

    pub(super) fn update(&mut self, update: &EndpointUpdate) -> Result<(), ChangeError> {
        if let Some(mut file) = update.file.clone() {
            // The name that the command gives beats the one in the file.
            file.name = self.endpoint.name.clone();
            self.speaks_of_split |= !file.traffic.entries().is_empty();
            self.endpoint.merge(file);
        }
        if let Some(deployments) = &update.deployments {
            self.declare(deployments);
        }
        if let Some((name, update)) = &update.deployment {
            self.update_deployment(name, update)?;
        }
        if let Some(traffic) = &update.traffic {
            self.split(traffic.clone());
        }
        self.set(&update.set);
        self.salt.clone_from(&update.salt);
        let speaks_of_split =
            update.traffic.is_some() || update.set.iter().any(Assignment::is_of_traffic);
        if speaks_of_split && self.endpoint.traffic.entries().is_empty() {
            // Nothing at all is more likely to be a slip than a wish.
            self.problems.push(TrafficError::Empty.to_string());
        }
        Ok(())
    }

    fn split(&mut self, split: TrafficSplit) {
        self.speaks_of_split = true;
        self.endpoint.traffic = split;
    }

    /// Makes these the deployments, all of them. Entries of the split whose deployment goes, and that have no weight, go too.
    fn declare(&mut self, deployments: &[DeploymentSpec]) {
        let before = std::mem::take(&mut self.deployments);
        for spec in deployments {
            if self.position(&spec.name).is_some() {
                self.problems
                    .push(format!("deployment {} stands there twice", spec.name));
                continue;
            }
            self.touched.insert(spec.name.clone(), Touch::File);
            self.deployments.push(spec.clone());
        }
        for gone in before
            .iter()
            .filter(|one| deployments.iter().all(|other| other.name != one.name))
        {
            // One with weight stays, for the validator to refuse: its traffic would end nowhere.
            let idle = self.endpoint.traffic.percent_of(&gone.name) == Percent::ZERO;
            if let Ok(traffic) = self.endpoint.traffic.without(&gone.name)
                && idle
            {
                self.endpoint.traffic = traffic;
            }
        }
    }

    /// Adds a deployment. One of that name is in the way, unless it was `never_ready`: then this one takes its place.
    pub(super) fn create_deployment(
        &mut self,
        deployment: &DeploymentSpec,
        all_traffic: bool,
        never_ready: bool,
    ) -> Result<(), ChangeError> {
        match self.position(&deployment.name) {
            Some(position) if never_ready => {
                let before = std::mem::replace(&mut self.deployments[position], deployment.clone());
                self.note = Some(format!(
                    "deployment {} takes the place of one that failed and never was ready",
                    before.name
                ));
                self.deployments[position].name = before.name;
            }
            Some(position) => {
                return Err(ChangeError::exists(&format!(
                    "deployment {}/{}",
                    self.endpoint.name, self.deployments[position].name
                )));
            }
            None => self.deployments.push(deployment.clone()),
        }
        self.touched.insert(deployment.name.clone(), Touch::File);
        if all_traffic {
            self.split(TrafficSplit::all_to(deployment.name.clone()));
        }
        Ok(())
    }

    pub(super) fn update_deployment(
        &mut self,
        name: &DeploymentName,
        update: &DeploymentUpdate,
    ) -> Result<(), ChangeError> {
        let position = match (self.position(name), &update.file) {
            (Some(position), file) => {
                if let Some(mut file) = file.clone() {
                    file.name = self.deployments[position].name.clone();
                    if update.replaces {
                        self.deployments[position] = file;
                    } else {
                        self.deployments[position].merge(file);
                    }
                }
                position
            }
            (None, Some(file)) if update.upsert => {
                let mut file = file.clone();
                file.name = name.clone();
                self.deployments.push(file);
                self.deployments.len() - 1
            }
            (None, _) => {
                let known = self.deployments.iter().map(|one| &one.name);
                return Err(ChangeError::no_deployment(&self.endpoint.name, name, known));
            }
        };
        let spec = &mut self.deployments[position];
        if let Some(count) = update.scale {
            spec.scale(count);
        }
        if !update.set.is_empty()
            && let Err(error) = spec.set(&update.set)
        {
            let name = spec.name.clone();
            self.take(&error, &format!("deployment {name}: "));
        }
        let touch = if update.file.is_some() {
            Touch::File
        } else {
            Touch::Settings
        };
        self.touched.insert(name.clone(), touch);
        Ok(())
    }

    fn set(&mut self, set: &[Assignment]) {
        if set.is_empty() {
            return;
        }
        let before = self.deployments.clone();
        self.speaks_of_split |= set.iter().any(Assignment::is_of_traffic);
        if let Err(error) = apply_set(set, &mut self.endpoint, &mut self.deployments) {
            self.take(&error, "");
        }
        let changed = self.deployments.iter().filter(|one| !before.contains(one));
        for one in changed {
            self.touched
                .entry(one.name.clone())
                .or_insert(Touch::Settings);
        }
    }

    /// The change with the names of its split spelled as the deployments are.
    pub(super) fn spelled(mut self) -> Self {
        let names = self.deployments.iter().map(|one| &one.name);
        self.endpoint.traffic = self.endpoint.traffic.spelled_as(names);
        self
    }

    fn take(&mut self, error: &SpecError, prefix: &str) {
        let problems = error.problems.iter();
        self.problems
            .extend(problems.map(|problem| format!("{prefix}{problem}")));
    }

    fn position(&self, name: &DeploymentName) -> Option<usize> {
        self.deployments.iter().position(|one| one.name == *name)
    }
}

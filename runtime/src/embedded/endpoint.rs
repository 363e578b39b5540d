//! An endpoint: as it is described, and as it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serin_scorers::Signature;

use crate::config::PROBLEMS_TOLD_MAX;
use crate::control::{Change, DeploymentUpdate, EndpointUpdate, LocalModel, LocalOutcome};
use crate::embedded::deployment::{Deployment, Named};
use crate::embedded::error::{Error, ScoreError};
use crate::embedded::executor::{block_on, with_timers};
use crate::embedded::pending::Pending;
use crate::embedded::request::Request;
use crate::embedded::response::Response;
use crate::embedded::runtime::Runtime;
use crate::embedded::status::Status;
use crate::spec::{
    DeploymentName, DeploymentSpec, EndpointName, EndpointSpec, SkuTable, TrafficSplit,
};

/// An endpoint that is being described. Nothing runs before it starts.
#[derive(Debug)]
#[must_use = "nothing runs before it starts"]
pub struct EndpointBuilder {
    runtime: Arc<Runtime>,
    name: String,
    deployments: Vec<(String, Deployment)>,
    traffic: Option<String>,
}

/// What a change names, all of it judged.
struct Described {
    specs: Vec<DeploymentSpec>,
    models: BTreeMap<PathBuf, LocalModel>,
    skus: Arc<SkuTable>,
}

impl EndpointBuilder {
    pub(super) fn new(runtime: Arc<Runtime>, name: String) -> Self {
        Self {
            runtime,
            name,
            deployments: Vec::new(),
            traffic: None,
        }
    }

    /// Adds a deployment: a path, a [`Model`](crate::Model), or a [`Deployment`] with settings of its own.
    pub fn deployment(
        mut self,
        name: impl Into<String>,
        deployment: impl Into<Deployment>,
    ) -> Self {
        self.deployments.push((name.into(), deployment.into()));
        self
    }

    /// The split: `blue=90 green=10` or `blue:90,green:10`. Without one the first deployment has all traffic.
    pub fn traffic(mut self, split: impl Into<String>) -> Self {
        self.traffic = Some(split.into());
        self
    }

    /// Loads and warms up every instance, then takes requests.
    ///
    /// # Errors
    ///
    /// [`Error`]; what had started is stopped again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the start.
    pub async fn start(self) -> Result<Endpoint, Error> {
        let (endpoint, outcome) = self.begin()?;
        // Dropped on the way out, so nothing of it stays.
        outcome.await?;
        Ok(endpoint)
    }

    /// The same, on this thread, which waits.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_blocking(self) -> Result<Endpoint, Error> {
        block_on(self.start())
    }

    fn begin(self) -> Result<(Endpoint, LocalOutcome), Error> {
        self.runtime.check()?;
        let (name, spec, described) = self.described().map_err(Error::Invalid)?;
        // Refused here, and not by its change alone: an endpoint that is dropped is deleted by its name.
        if !self.runtime.take_name(&name) {
            return Err(Error::AlreadyExists(format!(
                "endpoint {name} exists: change it, or choose another name"
            )));
        }
        let change = Change::CreateEndpoint {
            endpoint: spec,
            deployments: described.specs,
        };
        let outcome = self
            .runtime
            .control()
            .begin(change, described.models, described.skus);
        let inner = Inner {
            runtime: self.runtime,
            name,
            is_open: AtomicBool::new(true),
        };
        Ok((Endpoint(Arc::new(inner)), outcome))
    }

    /// All that is described, or all that is wrong with it.
    fn described(&self) -> Result<(EndpointName, EndpointSpec, Described), Vec<String>> {
        let mut problems = Vec::new();
        let name = EndpointName::of_program(&self.name).map_err(|error| {
            problems.push(format!("this cannot be the name of an endpoint: {error}"));
        });
        if self.deployments.is_empty() {
            problems.push(
                "an endpoint without a deployment answers nothing: add one before it starts"
                    .to_owned(),
            );
        }
        let deployments: Vec<_> = self
            .deployments
            .iter()
            .map(|(name, deployment)| (name.as_str(), deployment))
            .collect();
        let described =
            describe(&self.runtime, &deployments).map_err(|wrong| problems.extend(wrong));
        let traffic = match &self.traffic {
            Some(traffic) => split_of(traffic).map_err(|wrong| problems.push(wrong)).ok(),
            None => None,
        };
        let (Ok(name), Ok(described), true) = (name, described, problems.is_empty()) else {
            return Err(problems);
        };
        let mut spec = EndpointSpec::new(name.clone());
        spec.traffic = match traffic {
            Some(split) => split,
            None => TrafficSplit::all_to(described.specs[0].name.clone()),
        };
        Ok((name, spec, described))
    }
}

/// The deployments as files would say them, or all that is wrong with them.
fn describe(
    runtime: &Runtime,
    deployments: &[(&str, &Deployment)],
) -> Result<Described, Vec<String>> {
    let (mut problems, mut known) = (Vec::new(), BTreeSet::new());
    let (mut specs, mut models) = (Vec::new(), BTreeMap::new());
    let mut skus = SkuTable::clone(&runtime.skus());
    for (given, deployment) in deployments {
        let name = match deployment_name(given) {
            Ok(name) => name,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if !known.insert(name.clone()) {
            problems.push(format!("deployment {name} is given twice"));
            continue;
        }
        match deployment.described(name, &mut skus) {
            Ok(Named { place, model, spec }) => {
                models.insert(place, model);
                specs.push(spec);
            }
            Err(wrong) => {
                let wrong = wrong.into_iter();
                problems.extend(wrong.map(|problem| format!("deployment {given}: {problem}")));
            }
        }
    }
    if !problems.is_empty() {
        return Err(first(problems));
    }
    runtime.keep_skus(&skus);
    Ok(Described {
        specs,
        models,
        skus: Arc::new(skus),
    })
}

/// So many of them as somebody reads, and how many more there are.
fn first(mut problems: Vec<String>) -> Vec<String> {
    let beyond = problems.len().saturating_sub(PROBLEMS_TOLD_MAX);
    if beyond > 0 {
        problems.truncate(PROBLEMS_TOLD_MAX);
        problems.push(format!("and {beyond} more"));
    }
    problems
}

fn deployment_name(given: &str) -> Result<DeploymentName, String> {
    DeploymentName::of_program(given)
        .map_err(|error| format!("this cannot be the name of a deployment: {error}"))
}

fn split_of(text: &str) -> Result<TrafficSplit, String> {
    TrafficSplit::of_program(text).map_err(|error| error.to_string())
}

/// An endpoint that runs.
///
/// Cheap to clone; the clones are the same endpoint. When the last one is dropped the endpoint goes: what its requests have begun may
/// end, its instances stop, and all that happens elsewhere. [`Self::close`] lets you wait for it.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.name()).finish()
    }
}

struct Inner {
    runtime: Arc<Runtime>,
    name: EndpointName,
    /// Nobody has closed it. Relaxed wherever it is read or written: it decides who sends the one change that deletes the endpoint, and
    /// nothing else is read on the strength of it.
    is_open: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Its end is awaited by nobody: who drops an endpoint may be a task, which must not wait.
        drop(self.end());
    }
}

impl Inner {
    /// Deletes the endpoint; none when somebody has.
    fn end(&self) -> Option<LocalOutcome> {
        if !self.is_open.swap(false, Ordering::Relaxed) {
            return None;
        }
        let change = Change::DeleteEndpoint {
            name: self.name.clone(),
        };
        let outcome = self.begin(change);
        // The change is sent before the name is free: whoever takes it comes after.
        self.runtime.free_name(&self.name);
        Some(outcome)
    }

    fn begin(&self, change: Change) -> LocalOutcome {
        let skus = self.runtime.skus();
        self.runtime.control().begin(change, BTreeMap::new(), skus)
    }
}

impl Endpoint {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// Answers one request: the split picks the deployment, unless the request names one.
    ///
    /// Waits for a free slot in order of arrival, and for the model. Small work is computed within the poll; for all else a thread of
    /// the instance computes, and the task is woken. Runs on any executor, and needs none of its features.
    ///
    /// # Errors
    ///
    /// [`ScoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the answer up and ends its run; the slot comes back when that has ended.
    pub async fn run(&self, request: Request<'_>) -> Result<Response, ScoreError> {
        let runtime = &self.0.runtime;
        runtime.check()?;
        with_timers(runtime.control().timers(), self.answer(request, false)).await
    }

    /// The same, on this thread, which waits: where a lane is idle it runs tensors itself, over the caller's memory and for as long as
    /// that takes.
    ///
    /// # Errors
    ///
    /// [`ScoreError`].
    pub fn run_blocking(&self, request: Request<'_>) -> Result<Response, ScoreError> {
        let runtime = &self.0.runtime;
        runtime.check()?;
        block_on(with_timers(
            runtime.control().timers(),
            self.answer(request, true),
        ))
    }

    async fn answer(&self, request: Request<'_>, waits: bool) -> Result<Response, ScoreError> {
        let runtime = &self.0.runtime;
        let request = request.routed(Instant::now(), waits);
        let table = runtime.router().table();
        let Some(endpoint) = table.endpoint(self.0.name.key()) else {
            return Err(ScoreError::Stopped);
        };
        let answered = runtime.router().score(endpoint, request).await;
        answered.map(Response::from).map_err(|unserved| {
            let is_open = self.0.is_open.load(Ordering::Relaxed);
            runtime.told_of_end(unserved.into(), is_open)
        })
    }

    /// Adds a deployment without traffic: it can be named in requests, and be given traffic, when it is ready.
    pub fn add(&self, name: &str, deployment: impl Into<Deployment>) -> Pending {
        self.change_with(name, &deployment.into(), |spec| Change::CreateDeployment {
            endpoint: self.0.name.clone(),
            deployment: spec,
            all_traffic: false,
        })
        .into()
    }

    /// Puts another version in the place of a deployment: it is started and warmed up beside the old one, takes over its traffic and
    /// its place in the split in one step, and the old one ends when its requests have. If it does not start, the old one serves on.
    ///
    /// What is given is all that the deployment shall be, its number of instances too: to keep those of a [`scale`](Self::scale), say them.
    pub fn replace(&self, name: &str, deployment: impl Into<Deployment>) -> Pending {
        self.change_with(name, &deployment.into(), |spec| Change::UpdateDeployment {
            endpoint: self.0.name.clone(),
            name: spec.name.clone(),
            update: DeploymentUpdate {
                file: Some(spec),
                replaces: true,
                ..DeploymentUpdate::default()
            },
        })
        .into()
    }

    /// Gives a deployment so many instances. Where its newest version failed to start, these are of the one that serves.
    pub fn scale(&self, name: &str, instances: u32) -> Pending {
        self.change_of(name, |name| Change::UpdateDeployment {
            endpoint: self.0.name.clone(),
            name,
            update: DeploymentUpdate {
                scale: Some(instances),
                ..DeploymentUpdate::default()
            },
        })
        .into()
    }

    /// Ends a deployment that has no traffic; what its requests have begun may end. Requests that name it and wait for a slot have not
    /// begun: they end with [`ScoreError::NoDeployment`] or [`ScoreError::NotReady`].
    pub fn remove(&self, name: &str) -> Pending {
        self.change_of(name, |name| Change::DeleteDeployment {
            endpoint: Some(self.0.name.clone()),
            name,
        })
        .into()
    }

    /// Changes the split, whole: `blue=90 green=10`. In force, exactly and at once, when the change has come about.
    pub fn set_traffic(&self, split: &str) -> Pending {
        self.change(split_of(split), |split| Change::UpdateEndpoint {
            name: self.0.name.clone(),
            update: EndpointUpdate {
                traffic: Some(split),
                ..EndpointUpdate::default()
            },
        })
        .into()
    }

    /// Ends the endpoint; done when its requests have ended and its instances have stopped. The clones answer nothing from now on.
    pub fn close(self) -> Pending {
        let closed = || Error::NotFound(format!("endpoint {} is closed already", self.0.name));
        self.0.end().ok_or_else(closed).into()
    }

    /// Everything about it at this moment; none when it was closed, or all was shut down.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.0.runtime.check().ok()?;
        let view = self.0.runtime.control().view();
        let table = self.0.runtime.router().table();
        let live = table.endpoint(self.0.name.key()).map(Arc::as_ref);
        Some(Status::of(view.endpoint(&self.0.name)?, live))
    }

    /// The inputs and outputs of the model of a deployment; none when it is not there, or not ready.
    #[must_use]
    pub fn signature(&self, deployment: &str) -> Option<Arc<Signature>> {
        let table = self.0.runtime.router().table();
        let endpoint = table.endpoint(self.0.name.key())?;
        let instances = &endpoint.deployment(deployment)?.instances;
        Some(Arc::clone(instances.first()?.signature()))
    }

    /// Begins a change of what was read, or says what is wrong with that.
    fn change<T>(
        &self,
        read: Result<T, String>,
        change: impl FnOnce(T) -> Change,
    ) -> Result<LocalOutcome, Error> {
        self.0.runtime.check()?;
        let read = read.map_err(|problem| Error::Invalid(vec![problem]))?;
        Ok(self.0.begin(change(read)))
    }

    fn change_of(
        &self,
        name: &str,
        change: impl FnOnce(DeploymentName) -> Change,
    ) -> Result<LocalOutcome, Error> {
        self.change(deployment_name(name), change)
    }

    fn change_with(
        &self,
        name: &str,
        deployment: &Deployment,
        change: impl FnOnce(DeploymentSpec) -> Change,
    ) -> Result<LocalOutcome, Error> {
        let runtime = &self.0.runtime;
        runtime.check()?;
        let described = describe(runtime, &[(name, deployment)]).map_err(Error::Invalid)?;
        let Described {
            mut specs,
            models,
            skus,
        } = described;
        let change = change(specs.remove(0));
        Ok(runtime.control().begin(change, models, skus))
    }
}

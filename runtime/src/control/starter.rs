//! The seam between the controller and the engine: what it takes to try, start and stop a model, and to have an environment.
//!
//! The controller is tested without threads or models by another implementation of these two traits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::config::PROBE_MEMORY_BYTES_DEFAULT;
use crate::engine::{
    Cancel, Instance, InstanceHandle, InstanceSpec, KeptAlive, ModelFile, Placement, Prober,
    ReadyModel, Tell,
};
use crate::environments::Recipe;
#[cfg(feature = "server")]
use crate::environments::{BuildSettings, Environment, Environments};

/// A model that is to be tried and prepared.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) file: ModelFile<'a>,
    /// The model itself, where a program has it in memory; the path of its file is a name then.
    pub(super) content: Option<&'a [u8]>,
    /// Whether the file's digest stands for its content; otherwise nobody has looked at it yet.
    pub(super) by_content: bool,
    /// Whether it was tried before, and is good.
    pub(super) tried: bool,
    /// Whether others serve, and are not to feel it.
    pub(super) background: bool,
    /// Ends the trial when nobody waits for it any more.
    pub(super) cancel: Cancel,
    /// Hears of the steps.
    pub(super) tell: Tell,
}

/// Tries and starts. Every call blocks.
pub(super) trait Starter: std::fmt::Debug + Send + Sync + 'static {
    /// Loads and runs a model once where it can do no harm, unless it was tried before, and has it prepared. The error says what
    /// is wrong with the model.
    fn make_ready(&self, candidate: &Candidate<'_>) -> Result<ReadyModel, String>;

    /// Has the environment of a recipe, or without one the Python of the path; builds it where it is not there, for minutes. `tell` hears of
    /// the steps, `cancel` is asked whether somebody still waits. The error says why there is none.
    fn environment(
        &self,
        recipe: Option<&Recipe>,
        tell: &dyn Fn(&str),
        cancel: &Cancel,
    ) -> Result<ReadyEnvironment, String>;

    /// Starts an instance and returns when it is ready to answer.
    fn start(&self, spec: InstanceSpec) -> Result<Box<dyn Started>, String>;
}

/// An environment that stays for as long as this lives.
#[derive(Debug, Clone)]
pub(super) struct ReadyEnvironment {
    pub(super) python: PathBuf,
    pub(super) version: String,
    pub(super) description: String,
    pub(super) keep: Option<Arc<dyn KeptAlive>>,
}

#[cfg(feature = "server")]
impl From<Environment> for ReadyEnvironment {
    fn from(environment: Environment) -> Self {
        Self {
            python: environment.python().to_owned(),
            version: environment.version().to_owned(),
            description: environment.description(),
            keep: Some(Arc::new(environment)),
        }
    }
}

/// An instance that has started: the owner's half.
pub(super) trait Started: std::fmt::Debug + Send + Sync {
    /// The half that requests are given to.
    fn handle(&self) -> Option<InstanceHandle>;
    /// Cores asked for and given.
    fn placement(&self) -> Option<Placement>;
    /// Takes no more jobs from now on.
    fn close(&self);
    /// Waits until the last job has ended; false when the deadline came first. Blocks.
    fn wait_idle(&self, deadline: Instant) -> bool;
    /// Whether it died.
    fn has_failed(&self) -> bool;
    /// What happened to its lanes that it survived, in words.
    fn troubles(&self) -> Option<String> {
        self.handle().and_then(|handle| handle.troubles())
    }
    /// How often its lanes were in trouble.
    fn trouble_count(&self) -> u64 {
        self.handle().map_or(0, |handle| handle.trouble_count())
    }
    /// Ends its threads, under running work if need be. Blocks.
    fn stop(self: Box<Self>);
}

/// The engine itself.
#[derive(Debug)]
pub(super) struct EngineStarter {
    /// Tries models; without it they are not tried.
    pub(super) prober: Option<Prober>,
}

impl EngineStarter {
    /// The bound of what the runs of an instance may take: the memory of its instance type, and what a model may take to be tried
    /// where somebody has chosen that.
    fn memory_of_runs(&self, of_type: Option<u64>) -> Option<u64> {
        let of_trial = self.prober.as_ref().map(|prober| prober.memory_bytes_max);
        let chosen = of_trial.filter(|bytes| *bytes != PROBE_MEMORY_BYTES_DEFAULT);
        chosen.into_iter().chain(of_type).min().or(of_trial)
    }
}

/// The environment of a recipe, which no library builds: a script is served by a server.
#[cfg(not(feature = "server"))]
fn environment(
    _recipe: Option<&Recipe>,
    _tell: &dyn Fn(&str),
    _cancel: &Cancel,
) -> Result<ReadyEnvironment, String> {
    Err("this program is built without the feature `server`, which runs scoring scripts".to_owned())
}

/// The environment of a recipe, or without one the Python of the path.
#[cfg(feature = "server")]
fn environment(
    recipe: Option<&Recipe>,
    tell: &dyn Fn(&str),
    cancel: &Cancel,
) -> Result<ReadyEnvironment, String> {
    let environments = Environments::in_cache();
    let environments =
        environments.map_err(|error| format!("no place for environments: {error}"))?;
    let settings = BuildSettings {
        tell,
        cancel: &|| cancel.is_canceled(),
    };
    let ready = match recipe {
        Some(recipe) => environments.ready(recipe, &settings),
        None => environments.python_of_the_path(),
    };
    let ready = ready.map_err(|error| error.to_string())?;
    Ok(ready.into())
}

impl Starter for EngineStarter {
    fn make_ready(&self, candidate: &Candidate<'_>) -> Result<ReadyModel, String> {
        let (file, background) = (candidate.file, candidate.background);
        let name = file.path.display().to_string();
        let in_memory = candidate.content.map(|content| (name.as_str(), content));
        let sample = file.sample_request;
        let Some(prober) = &self.prober else {
            return match (in_memory, candidate.by_content) {
                (Some(model), _) => ReadyModel::of_bytes(model, sample, background),
                (None, true) => Ok(ReadyModel::prepared_here(&file, background)),
                (None, false) => ReadyModel::of_untried_file(file.path, sample, background),
            };
        };
        let prober = Prober {
            cancel: candidate.cancel.clone(),
            tell: prober.tell.and(&candidate.tell),
            ..prober.clone()
        };
        let ready = match (in_memory, candidate.by_content) {
            (Some(model), _) => prober.make_bytes_ready(model, sample, background),
            (None, true) => prober.make_ready(file, candidate.tried, background),
            (None, false) => prober.make_file_ready(file.path, sample, background),
        };
        ready.map_err(|error| error.to_string())
    }

    fn environment(
        &self,
        recipe: Option<&Recipe>,
        tell: &dyn Fn(&str),
        cancel: &Cancel,
    ) -> Result<ReadyEnvironment, String> {
        environment(recipe, tell, cancel)
    }

    fn start(&self, spec: InstanceSpec) -> Result<Box<dyn Started>, String> {
        let memory_bytes_max = self.memory_of_runs(spec.memory_bytes_max);
        match Instance::start(InstanceSpec {
            memory_bytes_max,
            exe: self.prober.as_ref().map(|prober| prober.exe.clone()),
            ..spec
        }) {
            Ok(instance) => Ok(Box::new(instance)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Started for Instance {
    fn handle(&self) -> Option<InstanceHandle> {
        Some(Self::handle(self))
    }

    fn placement(&self) -> Option<Placement> {
        Some(Self::placement(self).clone())
    }

    fn close(&self) {
        Self::close(self);
    }

    fn wait_idle(&self, deadline: Instant) -> bool {
        Self::wait_idle(self, deadline)
    }

    fn has_failed(&self) -> bool {
        Self::has_failed(self)
    }

    fn stop(self: Box<Self>) {
        // The controller's books give the cores back, also those of a start that failed.
        let _grant = Self::stop(*self);
    }
}

//! All that wakes the reconciler, and all that it can ask for: two closed lists of values.
//!
//! Not here: how a command is carried out (`work`), and who waits for an operation (`controller`).

use std::sync::Arc;
use std::time::Duration;

use crate::control::build::{Build, InstanceNo, Need};
use crate::control::desired::{Desired, Generations, Settlement};
use crate::control::operation::{Operation, OperationId};
use crate::control::script::EnvironmentFacts;
use crate::engine::{CoreGrant, ModelProfile, Placement};
use crate::spec::{Cohorts, DeploymentName, EndpointName, EndpointSpec};

/// A deployment of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) endpoint: EndpointName,
    pub(super) deployment: DeploymentName,
}

/// Something that has happened.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The process has started; these operations of the one before had not ended.
    Recover { unfinished: Vec<Operation> },
    /// A change is on disk.
    Accepted {
        operation: OperationId,
        endpoint: EndpointName,
        desired: Arc<Desired>,
    },
    /// A settlement is on disk, or could not be stored.
    Settled {
        settlement: Settlement,
        outcome: Result<Arc<Desired>, String>,
    },
    /// The trial of a model, or the build of an environment, has come to its next step.
    Stage { need: Need, stage: String },
    /// A model may be loaded by instances, or is no good; an environment is there, or cannot be built.
    NeedReady {
        need: Need,
        outcome: Result<NeedNotes, String>,
    },
    /// An instance is ready, or will never be.
    Started {
        no: InstanceNo,
        outcome: Result<Facts, String>,
    },
    /// An instance that was ready has died.
    Died(InstanceNo),
    /// Something happened to lanes of an instance that goes on; what, in words.
    Troubled { no: InstanceNo, what: String },
    /// The threads of instances have ended.
    Retired(Vec<InstanceNo>),
    /// Time has passed.
    Tick,
    /// The server ends.
    Shutdown,
}

/// Remarks on a model that is ready to be loaded, or on an environment that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NeedNotes {
    /// The reason why a model is served as it is, where it was to be prepared.
    pub(super) note: Option<String>,
    /// Which environment it is.
    pub(super) environment: Option<EnvironmentFacts>,
}

/// Facts about an instance that is ready.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) placement: Option<Placement>,
    pub(super) profile: Option<Arc<ModelProfile>>,
    /// What happened to its lanes since, in words.
    pub(super) troubles: Option<String>,
}

/// Something to do. Commands of one event are carried out in their order; none waits for the end of another.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// Tries a model where it can do no harm, unless it was `tried` before, and prepares it; or builds an environment that is not there.
    /// Ends in [`Event::NeedReady`].
    MakeReady {
        need: Need,
        tried: bool,
        background: bool,
    },
    /// Nobody waits for the trial or the build any more: it ends as soon as it can, and is reported like any other.
    EndTrial(Need),
    /// No instance has the model or the environment any more.
    Forget(Need),
    /// Starts an instance; ends in [`Event::Started`].
    Start(NewInstance),
    /// Shows requests an endpoint as it is now, or that it is gone.
    Publish {
        endpoint: EndpointName,
        shown: Option<Shown>,
    },
    /// Ends instances, with `drain` when what they were given has ended; ends in [`Event::Retired`]. Never before the
    /// publication that takes them out of sight.
    Retire {
        key: Key,
        instances: Vec<InstanceNo>,
        drain: bool,
    },
    /// Makes the end of an operation's part durable; ends in [`Event::Settled`].
    Settle {
        settlement: Settlement,
        /// Why the operation fails, where a split is dropped: stored with it, or a restart would take up an operation that could
        /// no more do all it was to do.
        failure: Option<String>,
    },
    /// Tells whoever waits how an operation has ended. Once for each.
    Conclude { id: OperationId, outcome: Outcome },
}

/// An instance that has its cores and is to be started.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewInstance {
    pub(super) no: InstanceNo,
    pub(super) key: Key,
    pub(super) build: Build,
    pub(super) cores: CoreGrant,
    /// Whether others serve, and are not to feel it.
    pub(super) background: bool,
    /// The death of a server by this model, if there was one: then it is to run in a process of its own.
    pub(super) isolated: Option<String>,
}

/// The end of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed(String),
    /// A newer change has taken its place, or that of a part of it.
    Canceled(String),
}

/// An endpoint as requests see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    /// With the split in force.
    pub(super) spec: EndpointSpec,
    pub(super) generations: Generations,
    pub(super) deployments: Vec<ShownDeployment>,
    /// Where clients belong; none where the endpoint has no `sticky`.
    pub(super) cohorts: Option<Cohorts>,
}

/// A deployment as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownDeployment {
    pub(super) name: DeploymentName,
    /// Ready instances, oldest first.
    pub(super) instances: Vec<InstanceNo>,
    /// The build of the youngest of them.
    pub(super) build: Option<Build>,
    /// Requests that they may run at once, in all.
    pub(super) slots: usize,
    pub(super) request_timeout: Duration,
    /// Most requests that may wait for a slot; without a number all of them.
    pub(super) waiting_max: Option<usize>,
}

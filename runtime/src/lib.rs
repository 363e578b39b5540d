//! serin: Azure ML style online endpoints for ONNX models on one machine.
//!
//! An *endpoint* has a name, credentials and a *traffic split*. Each of its *deployments* is one version of a model with its
//! instance type, instance count and request settings. A canary release is a change of the split under live traffic.
//!
//! To score in your own process, without HTTP and with nothing stored, begin with [`Embedded`]; ONNX Runtime's telemetry is then
//! for the process to switch off ([`engine::prepare_process`]). The server is [`app::App`]; the binary `serin` is the command line
//! over both ([`cli`]).
//!
//! # Life of a request
//!
//! 1. [`serve`] reads head and body, within bounds of bytes and time, and notes the arrival.
//! 2. [`router::Router::table`] gives the current [`router::RoutingTable`]; it has the endpoint.
//! 3. [`router::EndpointAuth`] checks the key or token.
//! 4. [`router::Router::score`] picks a deployment: the one that the header `azureml-model-deployment` names, else by
//!    [`spec::TrafficSplit`], exact in every aligned block of requests.
//! 5. [`router::AdmissionControl`] gives a [`engine::Permit`], after a wait in order of arrival if need be, or refuses.
//! 6. One [`engine::Job`], the permit inside, goes to the least loaded [`engine::Instance`]: across to a score thread, or, where the
//!    work costs less than that way, into its idle session on the I/O thread itself (inline execution).
//! 7. There the body becomes tensors, the model runs, and its outputs become a body (`serin_scorers`).
//! 8. The permit is dropped, the reply goes back, the outcome is recorded once in [`observe`], and the answer is written.
//!
//! It crosses threads twice or not at all, waits on no lock, and its body is never copied. Without HTTP the same life begins at step 4.
//!
//! # Life of a change
//!
//! A [`control::Change`] is applied to the desired state (pure), committed to disk and only then accepted. Its rules (split, keys,
//! timeouts) are in force at once. The reconciler (pure) compares what runs with what should: instances start, the next routing
//! table is swapped in, the old ones drain and stop.
//!
//! `runtime/ARCHITECTURE.md` has the map, the threads, the bounds and the invariants. The modules below stand in reading order,
//! each built on those before it.

// Inside, `pub` says that other modules use a thing; whether programs do is said here. What only the server or the binary uses has no
// other user in the library, and is no dead code.
#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        unused_imports,
        unreachable_pub,
        clippy::allow_attributes,
        reason = "the server and the binary use it"
    )
)]

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod spec;
#[cfg(not(feature = "unstable"))]
mod spec;

mod cache_folder;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod config;
#[cfg(not(feature = "unstable"))]
mod config;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod deadline;
#[cfg(not(feature = "unstable"))]
mod deadline;

mod plain_file;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod black_box;
#[cfg(not(feature = "unstable"))]
mod black_box;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod budget;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod environments;
#[cfg(not(feature = "unstable"))]
mod environments;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod evidence;
#[cfg(not(feature = "unstable"))]
mod evidence;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod load;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod observe;
#[cfg(not(feature = "unstable"))]
mod observe;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod plot;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod engine;
#[cfg(not(feature = "unstable"))]
mod engine;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod router;
#[cfg(not(feature = "unstable"))]
mod router;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod control;
#[cfg(not(feature = "unstable"))]
mod control;

#[cfg(all(feature = "server", feature = "unstable"))]
#[doc(hidden)]
pub mod serve;
#[cfg(all(feature = "server", not(feature = "unstable")))]
mod serve;

#[cfg(all(feature = "server", feature = "unstable"))]
#[doc(hidden)]
pub mod admin;
#[cfg(all(feature = "server", not(feature = "unstable")))]
mod admin;

#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod embedded;
#[cfg(not(feature = "unstable"))]
mod embedded;

#[cfg(all(feature = "server", feature = "unstable"))]
#[doc(hidden)]
pub mod app;
#[cfg(all(feature = "server", not(feature = "unstable")))]
mod app;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod bench;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod tune;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

#[cfg(feature = "ort")]
pub use embedded::environment;
pub use embedded::{
    Builder, Deployment, Endpoint, EndpointBuilder, Error, Model, Pending, Request, Response,
    ScoreError, Serin,
};
pub use serin_scorers::{
    Element, ElementType, ScoreError as CodecError, Tensor, TensorView, Value,
};

/// The choices that settings of a [`Deployment`] and of a [`Builder`] have.
pub mod settings {
    pub use serin_scorers::NonFinite;

    pub use crate::engine::{Capacity, Pinning};
    pub use crate::spec::{Isolation, Queueing};
}

/// The inputs and outputs of a model ([`Endpoint::signature`]).
pub mod signature {
    pub use serin_scorers::{OutputKind, OutputSpec, Signature, TensorSpec};
}

/// What is ([`Endpoint::status`]), and what was ([`Serin::metrics`]).
pub mod status {
    pub use crate::embedded::{DeploymentCounts, DeploymentStatus, InstanceStatus, State, Status};
}

//! serin serves ONNX models inside your program: versions side by side, an exact traffic split between them, admission in order of
//! arrival, instances on cores of their own, and changes under load. No HTTP, nothing stored. Its server, Azure ML style online
//! endpoints on one machine, is one program built on it.
//!
//! ```
//! use serin::{Request, Serin, TensorView};
//!
//! let serin = Serin::new()?;
//! let digits = serin
//!     .endpoint("digits")
//!     .deployment("blue", "../models/digits/1/model.onnx")
//!     .deployment("green", "../models/digits/2/model.onnx")
//!     .traffic("blue=90 green=10")
//!     .start_blocking()?;
//!
//! let pixels = [0.0_f32; 64];
//! let image = TensorView::new([1, 64], &pixels)?;
//! let answer = digits.run_blocking(Request::tensors([image]))?;
//! println!("{} says {:?}", answer.deployment(), answer.tensor("label"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The words
//!
//! A [`Serin`] has the cores and the control plane. An [`Endpoint`] has a name and a *traffic split*. Each of its *deployments*
//! ([`Deployment`]) is one version of a [`Model`] with its instances; each *instance* is a copy of the model on its cores, with *lanes*
//! that compute one run at a time. A [`Request`] holds tensors, over the caller's memory, or JSON; a [`Response`] has what the model
//! gave, who answered and what it took.
//!
//! # What is promised
//!
//! - Any aligned hundred requests of a split of 90 and 10 are 90 and 10, also across a change of anything else.
//! - [`Endpoint::add`], [`replace`](Endpoint::replace), [`scale`](Endpoint::scale), [`remove`](Endpoint::remove) and
//!   [`set_traffic`](Endpoint::set_traffic) lose no request: what is new is warm before it is seen, what is old ends when its requests have,
//!   and what does not start leaves what was good.
//! - Nothing blocks but what says so in its name. A future needs no runtime, and ends its run when it is dropped.
//! - A setting that cannot be is an [`Error`] with all that is wrong, a request that cannot be answered is a [`ScoreError`].
//! - Nothing process-wide happens unasked: no signal handler, no environment variable, no setting of the allocator, no log of its own
//!   (it speaks through `tracing`). Copies of models and what was measured of them are kept in a cache (`SERIN_CACHE`). ONNX Runtime's
//!   official builds switch telemetry of their own on while they load, unless `ORT_DISABLE_TELEMETRY=1` is in the environment.
//! - The process ends when you say, but ONNX Runtime cleans up then whatever its threads do: await changes, or [`Serin::shutdown`], before.
//!
//! # Features
//!
//! `default-features = false` is this library. It carries no ONNX Runtime: the shared library is found as
//! [`Builder::onnxruntime`] says, else by `SERIN_ONNXRUNTIME_LIB`, beside the executable, or by the dynamic loader; with the feature
//! `carry-onnxruntime` the program carries it. `ort` shares one environment with other users of that crate, `ndarray` makes tensors of
//! its arrays, `prometheus-client` registers the metrics with a registry of yours. `server` and `cli` (the default) are the server and
//! the binary; what they need is public to them alone.

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

#[cfg(feature = "server")]
mod trust;

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

#[cfg(all(feature = "server", feature = "unstable"))]
#[doc(hidden)]
pub mod canary;
#[cfg(all(feature = "server", not(feature = "unstable")))]
mod canary;

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
pub mod rollout_report;

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

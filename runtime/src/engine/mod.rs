//! Threads and the model. See `runtime/ARCHITECTURE.md`.

mod cores;
mod instance;
mod job;
mod library;
mod memory;
mod probe;
mod session;
mod worker;

pub use cores::{Capacity, CoreGrant, CoreMap, NotEnoughCores, Placement, Topology};
pub use instance::{Instance, InstanceHandle, InstanceId, InstanceSpec, NotAccepted, StartError};
pub use job::{Cancel, Job, Permit, Reply, RunError, Scored};
pub use library::{LibraryError, prepare_process};
pub use memory::give_back_memory;
pub use probe::{ProbeError, ProbeLimits, ProbeReport, probe, probe_child};

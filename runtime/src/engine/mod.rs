//! Threads and the model.
//!
//! An [`Instance`] is one model copy on its cores; a [`Job`] goes to one of its score threads, or is executed
//! inline on the thread that brings it, and a [`Reply`] comes back.
//! Not here: HTTP, YAML, who gets which request.

mod background;
mod batch;
mod cancel;
#[cfg(carries_onnxruntime)]
mod carried;
mod child_limits;
mod child_notes;
mod content;
mod core_locks;
mod cores;
mod endings;
mod example_rows;
mod external_data;
mod fork;
mod graph;
mod here;
mod inbox;
mod inline_trust;
mod instance;
mod isolation;
#[cfg(test)]
mod isolation_tests;
mod job;
mod lane;
mod lanes;
mod library;
mod library_error;
mod loading;
mod lock;
mod machine_memory;
mod memory;
mod model_cache;
mod prepare;
mod private_copy;
mod probe;
mod probe_child;
mod probe_words;
mod profile;
mod profile_cache;
mod run_memory;
mod script;
#[cfg(test)]
mod script_tests;
mod session;
mod shared_library;
mod stage;
#[cfg(test)]
mod tensor_tests;
mod watchdog;
mod wire;
mod worker;

pub use background::run_in_background_if;
pub use batch::BatchSettings;
pub use cancel::Cancel;
pub use cores::{
    BackendKind, Capacity, CoreGrant, CoreId, CoreMap, NotEnoughCores, Pinning, Placement,
    ThreadPlacement, Topology, lane_count,
};
#[cfg(test)]
pub(crate) use external_data::written;
pub use external_data::{ExternalTensor, ExternalTensors, ORT_FORMAT, is_onnx, is_ort_format};
pub use fork::{ForkedChild, refuse_after_fork};
pub use graph::{Fact, GraphFacts, ModelSummary, Obstacle, TensorSummary};
pub use here::{Here, HereDone, HereWork};
pub use inbox::{InstanceId, Reservation, ReserveError, ReservedJob};
pub use instance::{Instance, InstanceHandle, InstanceSpec};
pub use job::{
    Job, Payload, Permit, Reply, RequestHead, ResponseHead, RunError, Scored, ScoredBody, SlotOwner,
};
pub use lane::{LANE_COMMAND, lane_child};
pub use library::{library_id, prepare_process, set_library};
pub use library_error::LibraryError;
pub use loading::StartError;
pub use memory::give_back_memory;
pub use model_cache::{CacheEntry, CacheError, CacheKey, ModelCache};
pub use prepare::{ModelFile, ReadyModel};
pub use private_copy::PrivateCopy;
pub use probe::{ProbeError, Prober};
pub use probe_child::probe_child;
pub use probe_words::{PROBE_COMMAND, ProbeReport};
pub use profile::{Batching, ModelProfile, RunTime, WorkSize};
pub use script::{KeptAlive, ScriptSchemas, ScriptSpec};
#[cfg(any(feature = "ort", feature = "unstable"))]
pub use session::environment_in_use;
#[cfg(feature = "ort")]
pub use session::{Environment, set_environment};
pub use session::{LibraryLoading, LoadError, begin_to_load_library};
pub use stage::{Stage, Tell};

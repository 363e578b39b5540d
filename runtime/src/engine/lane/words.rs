//! The words between the server and the process of a lane, as JSON in their shared memory.
//!
//! The server writes a [`LaneOrder`] before the process starts; the process answers with a [`LaneReport`], or with what is wrong.
//!
//! Not here: who speaks (`process`, `child`), requests and answers (`page`).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serin_scorers::{NonFinite, Signature};

use crate::black_box::Slot;
use crate::engine::cores::{CoreId, ThreadPlacement};
use crate::engine::loading::Loading;
use crate::engine::profile::ModelProfile;
use crate::engine::run_memory::MemoryShare;
use crate::engine::{CacheEntry, ScriptSchemas};

/// The hidden subcommand by which the process of a lane is started.
pub const LANE_COMMAND: &str = "__lane";

/// The order of the server. The sample request is no part of it, for it is any bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LaneOrder {
    /// The server's process.
    pub(super) parent: u32,
    label: String,
    number: String,
    cores: Vec<CoreId>,
    floats_over: Option<Vec<CoreId>>,
    model: PathBuf,
    /// The folder of the cache's entry of the model.
    cached: Option<PathBuf>,
    spin: bool,
    non_finite: NonFinite,
    measures: bool,
    pub(super) background: bool,
    /// Most bytes that its runs may take.
    pub(super) memory_bytes_max: Option<u64>,
}

/// A lane that can answer, as its process saw it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) struct LaneReport {
    pub(in crate::engine) signature: Signature,
    /// Those of a script that has some.
    pub(in crate::engine) schemas: Option<ScriptSchemas>,
    pub(in crate::engine) measured: Option<ModelProfile>,
    pub(in crate::engine) threads: Vec<ThreadPlacement>,
}

impl LaneOrder {
    pub(super) fn new(loading: &Loading, background: bool) -> Self {
        let cached = loading.cached.as_ref();
        Self {
            parent: std::process::id(),
            label: loading.label.clone(),
            number: loading.number.clone(),
            cores: loading.cores.clone(),
            floats_over: loading.floats_over.clone(),
            model: loading.model.clone(),
            cached: cached.map(|entry| entry.folder().to_owned()),
            spin: loading.spin,
            non_finite: loading.non_finite,
            measures: loading.measures,
            background,
            memory_bytes_max: loading.memory.bytes_max(),
        }
    }

    /// The order as a lane in this process would have it. An entry of the cache that is gone is done without.
    pub(super) fn into_loading(self, sample_request: Option<Bytes>) -> Loading {
        let cached = self.cached.as_deref().and_then(CacheEntry::in_folder);
        Loading {
            label: self.label,
            number: self.number,
            cores: self.cores,
            floats_over: self.floats_over,
            model: self.model,
            cached: cached.map(Arc::new),
            sample_request,
            spin: self.spin,
            non_finite: self.non_finite,
            memory: MemoryShare::new(self.memory_bytes_max),
            measures: self.measures,
            slot: Arc::new(Slot::none()),
        }
    }
}

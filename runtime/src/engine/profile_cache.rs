//! Where profiles of models are kept from one start to the next: one small file each in the cache folder, under the content of
//! the model, this machine's kind of processor, this ONNX Runtime, the number of threads and whether they spin. What cannot be
//! read or written is measured again.
//!
//! Not here: what a profile is (`profile`).

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::engine::{CacheKey, ModelCache, ModelProfile};

/// The threads on which a model was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads {
    /// Threads that take part in one run.
    pub(super) count: usize,
    /// They spin while they wait.
    pub(super) spin: bool,
}

/// Version of the file, of how is measured and of what the analysis of the graph proves: raise it when any of them changes.
const FORMAT: u32 = 4;

/// The measurement that was kept before.
pub(super) fn find(digest: &str, threads: Threads) -> Option<ModelProfile> {
    serde_json::from_slice(&fs::read(file(digest, threads)?).ok()?).ok()
}

/// Keeps what was measured, if it is not kept already.
pub(super) fn keep(digest: &str, threads: Threads, profile: &ModelProfile) {
    let Some(file) = file(digest, threads).filter(|file| !file.exists()) else {
        return;
    };
    let kept = || {
        let folder = file.parent().unwrap_or(&file);
        fs::create_dir_all(folder)?;
        let mut whole = NamedTempFile::new_in(folder)?;
        whole.write_all(&serde_json::to_vec_pretty(profile)?)?;
        // Two processes at once: either measured well.
        whole.persist(&file).map_err(|error| error.error)?;
        std::io::Result::Ok(())
    };
    if let Err(error) = kept() {
        tracing::debug!(%error, ?file, "the model will be measured again at its next start");
    }
}

fn file(digest: &str, threads: Threads) -> Option<PathBuf> {
    let profiles = ModelCache::open().ok()?.profiles();
    let key = CacheKey::of_model(digest);
    let Threads { count, spin } = threads;
    let spin = if spin { "-spin" } else { "" };
    Some(profiles.join(format!("{}-{count}{spin}-v{FORMAT}.json", key.as_str())))
}

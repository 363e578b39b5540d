//! Where profiles of models are kept from one start to the next: one small file each in the cache folder, under the content of
//! the model, this machine's kind of processor, this ONNX Runtime, the number of threads and whether they spin. What cannot be
//! read or written is measured again; but in one process once, however many instances start side by side.
//!
//! Threads: those that start instances. They wait for the one that measures, which waits for none of them.
//! Not here: what a profile is (`profile`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak};

use tempfile::NamedTempFile;

use crate::engine::lock::lock;
use crate::engine::{CacheKey, ModelCache, ModelProfile};

/// The threads on which a model was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Threads {
    /// Threads that take part in one run.
    pub(super) count: usize,
    /// They spin while they wait.
    pub(super) spin: bool,
}

/// Version of the file, of how is measured and of what the analysis of the graph proves: raise it when any of them changes.
const FORMAT: u32 = 4;

/// Whose it is to measure a model.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nobody's: it was measured.
    Known(Arc<ModelProfile>),
    /// The caller's.
    Mine(Measuring),
    /// Another's, who has begun.
    Another(Awaited),
}

/// The profiles of this process that are in use, or on their way, by the content of the model and the threads.
#[derive(Debug, Default)]
struct InUse {
    entries: Mutex<BTreeMap<Name, Entry>>,
    changed: Condvar,
}

type Name = (String, Threads);

#[derive(Debug)]
enum Entry {
    UnderWay,
    /// Instances keep it.
    Known(Weak<ModelProfile>),
}

static IN_USE: LazyLock<InUse> = LazyLock::new(InUse::default);

/// Says whose turn it is to measure the model of this content. Reads a file.
pub(super) fn turn(digest: &str, threads: Threads) -> Turn {
    let name = (digest.to_owned(), threads);
    let mut entries = lock(&IN_USE.entries);
    match entries.get(&name) {
        Some(Entry::UnderWay) => return Turn::Another(Awaited(name)),
        Some(Entry::Known(profile)) => {
            if let Some(profile) = profile.upgrade() {
                return Turn::Known(profile);
            }
        }
        None => {}
    }
    // Here, for the map has no other moment at which it could lose what nobody uses any more.
    entries.retain(|_, entry| match entry {
        Entry::UnderWay => true,
        Entry::Known(profile) => profile.strong_count() > 0,
    });
    // Under the lock: the file is small, and others would read it too.
    if let Some(profile) = find(digest, threads).map(Arc::new) {
        entries.insert(name, Entry::Known(Arc::downgrade(&profile)));
        return Turn::Known(profile);
    }
    entries.insert(name.clone(), Entry::UnderWay);
    Turn::Mine(Measuring(name))
}

/// The turn to measure. Dropped without a profile, as by a start that fails, it is another's.
#[derive(Debug)]
pub(super) struct Measuring(Name);

impl Measuring {
    /// Tells all who wait what was measured, and keeps it.
    pub(super) fn keep(self, profile: ModelProfile) -> Arc<ModelProfile> {
        let (digest, threads) = &self.0;
        keep(digest, *threads, &profile);
        let profile = Arc::new(profile);
        let known = Entry::Known(Arc::downgrade(&profile));
        lock(&IN_USE.entries).insert(self.0.clone(), known);
        profile
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let mut entries = lock(&IN_USE.entries);
        if matches!(entries.get(&self.0), Some(Entry::UnderWay)) {
            entries.remove(&self.0);
        }
        drop(entries);
        IN_USE.changed.notify_all();
    }
}

/// A measurement of another.
#[derive(Debug)]
pub(super) struct Awaited(Name);

impl Awaited {
    /// What was measured; nothing where that has failed. Blocks.
    pub(super) fn wait(self) -> Option<Arc<ModelProfile>> {
        let entries = lock(&IN_USE.entries);
        let is_under_way = |entries: &mut BTreeMap<Name, Entry>| {
            matches!(entries.get(&self.0), Some(Entry::UnderWay))
        };
        let waited = IN_USE.changed.wait_while(entries, is_under_way);
        match waited.unwrap_or_else(PoisonError::into_inner).get(&self.0) {
            Some(Entry::Known(profile)) => profile.upgrade(),
            Some(Entry::UnderWay) | None => None,
        }
    }
}

/// The measurement that was kept before.
fn find(digest: &str, threads: Threads) -> Option<ModelProfile> {
    serde_json::from_slice(&fs::read(file(digest, threads)?).ok()?).ok()
}

/// Keeps what was measured, if it is not kept already.
fn keep(digest: &str, threads: Threads, profile: &ModelProfile) {
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const THREADS: Threads = Threads {
        count: 3,
        spin: false,
    };

    /// A content that no file of the cache is about.
    fn digest(name: &str) -> String {
        format!("test of turns: {name}, {}", std::process::id())
    }

    fn forget(digest: &str) {
        if let Some(file) = file(digest, THREADS) {
            drop(fs::remove_file(file));
        }
    }

    #[test]
    fn of_instances_that_start_side_by_side_one_measures() {
        let digest = digest("side by side");
        let begun = Barrier::new(8);
        let start = || {
            let turn = turn(&digest, THREADS);
            begun.wait();
            match turn {
                Turn::Known(profile) => (false, Some(profile)),
                Turn::Mine(mine) => (true, Some(mine.keep(ModelProfile::instant(7)))),
                Turn::Another(another) => (false, another.wait()),
            }
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        forget(&digest);
        assert_eq!(outcomes.iter().filter(|(measured, _)| *measured).count(), 1);
        let first = outcomes[0].1.as_ref().unwrap();
        for (_, profile) in &outcomes {
            assert!(Arc::ptr_eq(profile.as_ref().unwrap(), first));
        }
        // Whoever comes later knows it, from memory alone, for as long as an instance has it.
        assert!(matches!(turn(&digest, THREADS), Turn::Known(_)));
        drop(outcomes);
        assert!(matches!(turn(&digest, THREADS), Turn::Mine(_)));
    }

    #[test]
    fn a_start_that_fails_leaves_the_turn_to_the_next() {
        let digest = digest("fails");
        let Turn::Mine(mine) = turn(&digest, THREADS) else {
            panic!("nobody else measures");
        };
        let Turn::Another(another) = turn(&digest, THREADS) else {
            panic!("it is under way");
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| another.wait());
            drop(mine);
            assert!(waiting.join().unwrap().is_none());
        });
        assert!(matches!(turn(&digest, THREADS), Turn::Mine(_)));
    }

    #[test]
    fn other_threads_are_measured_by_themselves() {
        let digest = digest("threads");
        let _mine = turn(&digest, THREADS);
        let spinning = Threads {
            spin: true,
            ..THREADS
        };
        assert!(matches!(turn(&digest, spinning), Turn::Mine(_)));
    }
}

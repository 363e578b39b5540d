//! The look for memory that is kept and idle.
//!
//! Threads: `serin-memory`, as long as some session keeps much. Not here: what is given back (`pool`).

use std::sync::{Arc, LazyLock, Mutex, Weak};

use crate::config::IDLE_MEMORY_KEPT;
use crate::engine::lock::lock;

/// Memory that can be kept and idle.
pub(super) trait Idle: Send + Sync {
    /// Gives back what is kept, if there was no run since the last look, which saw so many runs. Whether it did; then it is not looked
    /// at any more.
    fn give_back_if_idle(&self, seen: &mut u64) -> bool;
}

/// Memories that keep much, and whether a thread looks at them.
#[derive(Default)]
pub(super) struct Watched {
    /// With the runs that each had had at the last look.
    memories: Vec<(Weak<dyn Idle>, u64)>,
    looks: bool,
}

impl Watched {
    pub(super) fn add(&mut self, memory: &Arc<impl Idle + 'static>) {
        let memory: Weak<dyn Idle> = Arc::downgrade(memory) as Weak<dyn Idle>;
        self.memories.push((memory, u64::MAX));
    }
}

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(Mutex::default);

/// From now on what this memory keeps is given back when no run comes.
pub(super) fn watch(memory: &Arc<impl Idle + 'static>) {
    let mut watched = lock(&WATCHED);
    watched.add(memory);
    if watched.looks {
        return;
    }
    let look = || {
        while {
            std::thread::sleep(IDLE_MEMORY_KEPT);
            look_for_idle(&mut lock(&WATCHED))
        } {}
    };
    let thread = std::thread::Builder::new().name("serin-memory".to_owned());
    match thread.spawn(look) {
        Ok(_) => watched.looks = true,
        Err(error) => tracing::debug!(%error, "memory is kept until more runs come"),
    }
}

/// Gives back what memories keep that had no run since the last look; whether another look is worth it.
pub(super) fn look_for_idle(watched: &mut Watched) -> bool {
    watched.memories.retain_mut(|(memory, seen)| {
        let memory = memory.upgrade();
        memory.is_some_and(|memory| !memory.give_back_if_idle(seen))
    });
    watched.looks = !watched.memories.is_empty();
    watched.looks
}

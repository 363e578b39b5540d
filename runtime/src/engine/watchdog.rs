//! The watchdog: a thread that ends runs on I/O threads which take too long, and gives up runs that were ended and do not end.
//!
//! It sleeps while nothing of that kind can be: who begins something that may come to take too long wakes it ([`notice`]).
//!
//! Threads: one for the process, made when it is first needed. Not here: what is too long (`lane`), what follows (`instance`).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::Thread;
use std::time::Instant;

use crate::config::{WATCH_AFTER_NOTICE, WATCH_PERIOD};
use crate::engine::lock::lock;

/// Something that is looked at.
pub(super) trait Watched: Send + Sync {
    /// Does what is due; whether it must be looked at again soon.
    fn look(&self, now: Instant) -> bool;
}

/// The state of the one watchdog.
static WATCHDOG: Watchdog = Watchdog {
    watched: Mutex::new(Vec::new()),
    noticed: AtomicBool::new(false),
    awake: AtomicBool::new(false),
    thread: OnceLock::new(),
};

struct Watchdog {
    watched: Mutex<Vec<Weak<dyn Watched>>>,
    /// Something began since the last look.
    noticed: AtomicBool,
    awake: AtomicBool,
    /// None where the system gave no thread.
    thread: OnceLock<Option<Thread>>,
}

/// Looks at this from now on, for as long as it lives.
pub(super) fn watch(watched: &Arc<impl Watched + 'static>) {
    let watched: Weak<dyn Watched> = Arc::downgrade(watched) as Weak<dyn Watched>;
    lock(&WATCHDOG.watched).push(watched);
}

/// Something began that may come to take too long.
pub(super) fn notice() {
    // Relaxed: noticed already, and not looked at since. The watchdog goes on for a long while after it takes the note away, so what
    // begins now is looked at.
    if WATCHDOG.noticed.load(Ordering::Relaxed) {
        return;
    }
    // Sequentially consistent, here and in `live`: either it sees the note before it sleeps, or it is seen to sleep here.
    WATCHDOG.noticed.store(true, Ordering::SeqCst);
    if !WATCHDOG.awake.swap(true, Ordering::SeqCst)
        && let Some(thread) = WATCHDOG.thread.get_or_init(start)
    {
        thread.unpark();
    }
}

fn start() -> Option<Thread> {
    let builder = std::thread::Builder::new().name("serin-watchdog".to_owned());
    let started: io::Result<_> = builder.spawn(live);
    match started {
        Ok(handle) => Some(handle.thread().clone()),
        Err(error) => {
            tracing::error!(%error, "cannot start the watchdog: runs that do not end keep their lanes");
            None
        }
    }
}

fn live() {
    let mut noticed_at = Instant::now();
    loop {
        std::thread::sleep(WATCH_PERIOD);
        let now = Instant::now();
        if WATCHDOG.noticed.swap(false, Ordering::SeqCst) {
            noticed_at = now;
        }
        let busy = look_at_all(now);
        if !busy && now.duration_since(noticed_at) >= WATCH_AFTER_NOTICE {
            WATCHDOG.awake.store(false, Ordering::SeqCst);
            while !WATCHDOG.noticed.load(Ordering::SeqCst) {
                std::thread::park();
            }
            WATCHDOG.awake.store(true, Ordering::SeqCst);
        }
    }
}

/// Whether something must be looked at again soon.
fn look_at_all(now: Instant) -> bool {
    let watched = {
        let mut watched = lock(&WATCHDOG.watched);
        watched.retain(|one| one.strong_count() > 0);
        watched.clone()
    };
    // All of them, also after one that is busy; without the lock, for a look may take a while.
    let mut busy = false;
    for watched in watched.iter().filter_map(Weak::upgrade) {
        busy |= watched.look(now);
    }
    busy
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Told(Sender<()>);

    impl Watched for Told {
        fn look(&self, _now: Instant) -> bool {
            let _heard = self.0.send(());
            false
        }
    }

    #[test]
    fn what_is_noticed_is_looked_at_also_after_a_sleep() {
        let (told, looks) = channel();
        let watched = Arc::new(Told(told));
        watch(&watched);
        for _ in 0..3 {
            notice();
            looks.recv().unwrap();
            // Whether it sleeps already or not: the next note counts.
            while looks.try_recv().is_ok() {}
        }
        drop(watched);
        // Other tests may keep it awake; this one is not looked at any more.
        while looks.recv().is_ok() {}
    }
}

//! Jobs on their way from an edge thread to the instances, handed over once for each round of the thread's tasks.
//!
//! A thread that serves connections installs [`deliver`] beside them. Requests that arrive together then reach an instance
//! together: one wake-up for all of them, one run where the model allows it, and no thread at all where the work is small
//! enough for the edge to borrow an idle lane. On other threads each job is handed over by itself, at once.
//!
//! Threads: each has its own outbox; nothing is shared. Not here: which instance (`deployment`), who computes (`engine`).

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::engine::{InstanceHandle, Placed};

thread_local! {
    static OUTBOX: RefCell<Outbox> = const { RefCell::new(Outbox::new()) };
}

/// What one thread has not handed over yet.
struct Outbox {
    /// Jobs by instance, in order of arrival; the requests of one moment rarely go to more than a few.
    jobs: Vec<(InstanceHandle, Vec<Placed>)>,
    /// Wakes [`deliver`]; none where it does not run.
    deliver: Option<Waker>,
}

impl Outbox {
    const fn new() -> Self {
        Self {
            jobs: Vec::new(),
            deliver: None,
        }
    }
}

/// Hands the job over at the end of this round of tasks; at once on a thread without [`deliver`].
pub(super) fn send(instance: &InstanceHandle, job: Placed) {
    OUTBOX.with_borrow_mut(|outbox| {
        let Some(deliver) = &outbox.deliver else {
            return instance.queue([job]);
        };
        // The jobs sent first wake it; it comes after all tasks that are ready now, for the queue of tasks is first in, first out.
        if outbox.jobs.is_empty() {
            deliver.wake_by_ref();
        }
        let mut known = outbox.jobs.iter_mut();
        match known.find(|(known, _)| known.id() == instance.id()) {
            Some((_, jobs)) => jobs.push(job),
            None => outbox.jobs.push((instance.clone(), vec![job])),
        }
    });
}

/// Hands over what the tasks of this thread send, round after round. Belongs on a runtime of one thread, beside its tasks;
/// never ends. Dropped, it leaves the thread as it was.
pub async fn deliver() -> Infallible {
    let _installed = Installed;
    poll_fn(|context| {
        let jobs = OUTBOX.with_borrow_mut(|outbox| {
            let known = outbox.deliver.as_ref();
            if !known.is_some_and(|known| known.will_wake(context.waker())) {
                outbox.deliver = Some(context.waker().clone());
            }
            std::mem::take(&mut outbox.jobs)
        });
        for (instance, jobs) in jobs {
            instance.answer_or_queue(jobs);
        }
        Poll::Pending
    })
    .await
}

/// While it lives, jobs wait for [`deliver`].
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        let left = OUTBOX.with_borrow_mut(|outbox| {
            outbox.deliver = None;
            std::mem::take(&mut outbox.jobs)
        });
        for (instance, jobs) in left {
            instance.queue(jobs);
        }
    }
}

//! The lanes of one instance: how they start, how one is replaced whose run does not end, how they stop.
//!
//! Threads: who starts and stops an instance, and the watchdog. Senders only look at which lanes there are.
//! Not here: what a lane does (`lane`), the life of its thread (`worker`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;

use crate::config::LOST_THREADS_MAX;
use crate::engine::cores::{self, CoreId};
use crate::engine::inbox::{InstanceState, Message};
use crate::engine::lane::{End, GivenUp, Lane, Look, Program};
use crate::engine::loading::StartError;
use crate::engine::lock::lock;
use crate::engine::watchdog::Watched;
use crate::engine::worker::{self, LaneSpec, Ready};

/// Lanes that can answer.
#[derive(Debug)]
pub(super) struct Lanes {
    slots: Vec<Slot>,
    inbox: Arc<Sender<Message>>,
    state: Arc<InstanceState>,
    /// Threads left behind in runs that do not end.
    lost: AtomicU32,
}

/// The place of a lane, which outlives it.
struct Slot {
    /// The first of its cores.
    core: CoreId,
    /// Shared with who starts a replacement.
    lane: Arc<ArcSwap<Lane>>,
    /// Gone once the instance has stopped: it keeps the inbox open.
    spec: Mutex<Option<LaneSpec>>,
    /// The thread of the lane; taken out under the lock under which the lane is given up, so that nobody waits for its end.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.lane).finish()
    }
}

impl Lanes {
    /// No lane: the inbox has another reader.
    #[cfg(test)]
    pub(super) fn none(inbox: Arc<Sender<Message>>, state: Arc<InstanceState>) -> Self {
        Self {
            slots: Vec::new(),
            inbox,
            state,
            lost: AtomicU32::new(0),
        }
    }

    /// The lanes that are there now.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<Lane>> {
        self.slots.iter().map(|slot| slot.lane.load_full())
    }

    /// The same, and first the one on the core of this thread. A process there goes on as soon as this thread waits for it; one on an
    /// idle core is woken first, which takes several times as long as a small run.
    pub(super) fn nearest_first(&self) -> impl Iterator<Item = Arc<Lane>> {
        let here = cores::current();
        let first = self.slots.iter().position(|slot| slot.core == here);
        let (before, after) = self.slots.split_at(first.unwrap_or(0));
        after.iter().chain(before).map(|slot| slot.lane.load_full())
    }

    /// Ends what runs; a run that would begin from now on is not begun (`ReservedJob::refusal`).
    pub(super) fn cut(&self) {
        self.state.begin_to_stop();
        for lane in self.iter() {
            lane.cancel_any();
        }
    }

    /// Ends the threads, terminating what still runs, and joins them; but for those that do not end.
    pub(super) fn stop(&self) {
        // In this order: no job comes any more, for the instance is closed; a run that begins from now on is not begun
        // (`ReservedJob::refusal`); one that has begun is ended; and what waits in the inbox by then stands before the stop messages,
        // and is answered. A job that is queued later, for it had its reservation, is dropped with the channel.
        self.cut();
        for slot in &self.slots {
            if lock(&slot.thread).is_some() {
                // Fails only when every lane has ended already.
                drop(self.inbox.send(Message::Stop));
            }
        }
        for slot in &self.slots {
            slot.wait_and_join();
            drop(lock(&slot.spec).take());
        }
    }

    /// Gives up the run of a lane that was ended and does not end, and puts another lane in the place of one that is lost with it.
    fn give_up(&self, slot: &Slot) {
        let mut thread = lock(&slot.thread);
        let given_up = slot.lane.load_full().give_up();
        let what = match given_up {
            GivenUp::Nothing => return,
            GivenUp::Process => "a run did not end, and the process that ran it was ended",
            GivenUp::Thread => "a run did not end, and its thread was left behind",
        };
        self.state.lane_in_trouble(what);
        if given_up == GivenUp::Process {
            return;
        }
        // It may never end, so nobody joins it.
        drop(thread.take());
        // Relaxed: counted by the one watchdog, read by people.
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(spec) = lock(&slot.spec)
            .clone()
            .filter(|_| !self.state.is_stopping())
        else {
            return;
        };
        let label = &spec.loading.label;
        tracing::error!(
            lane = label,
            lost,
            "a run was ended and does not end: its thread is left behind"
        );
        if spec.program.is_none() && lost > LOST_THREADS_MAX {
            // Each would leave one more thread behind.
            tracing::error!(
                lane = label,
                "too many threads were left behind: this lane is not replaced"
            );
            if self.iter().all(|lane| lane.is_lost()) {
                self.state.lane_failed();
            }
            return;
        }
        *thread = self.replace(slot, spec);
    }

    /// Starts another lane in the place of one.
    fn replace(&self, slot: &Slot, spec: LaneSpec) -> Option<JoinHandle<()>> {
        let (place, state) = (Arc::clone(&slot.lane), Arc::clone(&self.state));
        let installed = move |ready: Result<Ready, StartError>| match ready {
            Ok(ready) => place.store(ready.lane),
            Err(error) => {
                tracing::error!(%error, "cannot replace a lane");
                state.lane_failed();
            }
        };
        match spawn(spec, installed) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(%error, "cannot replace a lane");
                self.state.lane_failed();
                None
            }
        }
    }
}

impl Watched for Lanes {
    fn look(&self, now: Instant) -> bool {
        let mut busy = false;
        for slot in &self.slots {
            let lane = slot.lane.load();
            if lane.is_lost() {
                continue;
            }
            match lane.look(now) {
                Look::Idle => {}
                Look::Busy => busy = true,
                Look::Stuck => {
                    busy = true;
                    self.give_up(slot);
                }
            }
        }
        busy
    }
}

impl Slot {
    /// Waits for the thread that the slot has now, unless that never ends.
    fn wait_and_join(&self) {
        // Ended, or lost: then its thread is out of the slot as soon as the lock is ours, and what is there is its replacement.
        let _end: End = self.lane.load_full().wait_ended();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("a score thread panicked");
        }
    }
}

/// Starts the thread of a lane.
fn spawn(
    spec: LaneSpec,
    ready: impl FnOnce(Result<Ready, StartError>) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let name = cores::thread_name(&spec.loading.label, &spec.loading.number);
    let thread = std::thread::Builder::new().name(name);
    thread.spawn(move || worker::run(spec, ready))
}

/// Threads on their way up; dropped before it is finished, it ends and joins them.
pub(super) struct Starting {
    inbox: Arc<Sender<Message>>,
    lanes: Vec<(LaneSpec, JoinHandle<()>)>,
    readies: mpsc::Receiver<(usize, Result<Ready, StartError>)>,
}

impl Starting {
    /// Starts a thread for each lane.
    pub(super) fn lanes(
        inbox: Arc<Sender<Message>>,
        specs: Vec<LaneSpec>,
    ) -> Result<Self, StartError> {
        let (ready, readies) = mpsc::channel();
        let mut starting = Self {
            inbox,
            lanes: Vec::new(),
            readies,
        };
        for (index, spec) in specs.into_iter().enumerate() {
            let ready = ready.clone();
            // Who starts may have given up; then a stop waits in the inbox.
            let tell = move |outcome| drop(ready.send((index, outcome)));
            let thread = spawn(spec.clone(), tell).map_err(StartError::Thread)?;
            starting.lanes.push((spec, thread));
        }
        Ok(starting)
    }

    /// Waits until every lane can answer; in order.
    pub(super) fn wait(self) -> Result<(Vec<Ready>, Self), StartError> {
        let mut ready: Vec<_> = self
            .lanes
            .iter()
            .map(|_| {
                let (index, outcome) = self.readies.recv().map_err(|_| StartError::Ended)?;
                Ok((index, outcome?))
            })
            .collect::<Result<_, StartError>>()?;
        ready.sort_by_key(|(index, _)| *index);
        Ok((ready.into_iter().map(|(_, ready)| ready).collect(), self))
    }

    /// The lanes that are ready. What replaces one of them is a process, where there is a binary to start.
    pub(super) fn finish(
        mut self,
        ready: &[Ready],
        state: Arc<InstanceState>,
        exe: Option<&PathBuf>,
    ) -> Lanes {
        let lanes = std::mem::take(&mut self.lanes);
        let slots = lanes
            .into_iter()
            .zip(ready)
            .map(|((mut spec, thread), ready)| {
                spec.program = spec.program.or_else(|| exe.cloned().map(Program::Model));
                spec.background = false;
                spec.loading.measures = false;
                Slot {
                    core: spec.loading.cores[0],
                    lane: Arc::new(ArcSwap::new(Arc::clone(&ready.lane))),
                    spec: Mutex::new(Some(spec)),
                    thread: Mutex::new(Some(thread)),
                }
            });
        Lanes {
            slots: slots.collect(),
            inbox: Arc::clone(&self.inbox),
            state,
            lost: AtomicU32::new(0),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        for _ in &self.lanes {
            // Fails only when every lane has ended already.
            drop(self.inbox.send(Message::Stop));
        }
        for (_, thread) in self.lanes.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a score thread panicked");
            }
        }
    }
}

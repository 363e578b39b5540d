//! The inbox of an instance: its reservations, the jobs that wait in it, and how a lane takes them.
//!
//! A job comes with a [`Reservation`], and there are as many of those as the inbox has room for, so no sender ever waits.
//! [`InstanceState`] counts them, and has the few facts that senders, lanes and the owner tell each other.
//!
//! Threads: senders on the edge reserve and queue, score threads take, the owner closes and waits. Reservations end wherever
//! the work does.
//! Not here: who computes (`lane`, `instance`), who starts the threads (`worker`, `instance`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, TryRecvError, select};
use crossbeam_utils::Backoff;
use tokio::sync::oneshot;

use crate::deadline::Deadline;
use crate::engine::job::AnswerForm;
use crate::engine::lane::{Brought, Request};
use crate::engine::lock::lock;
use crate::engine::{Job, Payload, Permit, Reply, RequestHead, RunError, Scored};
use crate::observe::Timings;

/// Set in the load word of an instance that takes no more jobs.
const CLOSED: u32 = 1 << 31;

/// Number of an instance, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

/// The reason why an instance has no room for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveError {
    /// It has as many requests as it may.
    Full,
    /// It is being drained or has stopped; look the table up again.
    Closed,
}

/// The facts that senders, lanes and the owner of one instance share.
#[derive(Debug)]
pub(super) struct InstanceState {
    id: InstanceId,
    concurrency: u32,
    /// Reservations in use, and [`CLOSED`]: one word, so that none is made of a closed instance.
    load: AtomicU32,
    /// Lanes whose own thread waits for a job.
    idle_lanes: AtomicUsize,
    /// Most rows that one run takes together; 1: each request runs alone.
    rows_max: AtomicUsize,
    /// Notified when a closed instance has no job left, and when it begins to stop.
    changed: (Mutex<()>, Condvar),
    /// A lane ended without being told to.
    failed: AtomicBool,
    /// Lanes that cannot compute for now.
    lanes_out: AtomicUsize,
    /// Lanes answer what they take with `InstanceGone`.
    stopping: AtomicBool,
    /// How often something happened to a lane, and what it was the last time.
    troubles: Mutex<(u64, String)>,
}

impl InstanceState {
    pub(super) fn new(concurrency: u32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            // Relaxed: an addition is atomic in any ordering, and a number need only differ from the others.
            id: InstanceId(NEXT.fetch_add(1, Ordering::Relaxed)),
            concurrency,
            load: AtomicU32::new(0),
            idle_lanes: AtomicUsize::new(0),
            rows_max: AtomicUsize::new(1),
            changed: Default::default(),
            failed: AtomicBool::new(false),
            lanes_out: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            troubles: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> InstanceId {
        self.id
    }

    /// Most requests at once.
    pub(super) fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// Reservations in use.
    pub(super) fn load(&self) -> u32 {
        // Relaxed: an estimate, for the choice of an instance and for people. What counts is decided in `reserve`.
        self.load.load(Ordering::Relaxed) & !CLOSED
    }

    pub(super) fn is_closed(&self) -> bool {
        // Acquire, with the Release of `close`: whoever finds the instance closed looks its deployment up again, and must then
        // see the table that was published before the instance was closed.
        self.load.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Makes a reservation if the instance is open and has room.
    pub(super) fn reserve(self: &Arc<Self>) -> Result<Reservation, ReserveError> {
        // Relaxed, here and where the exchange fails: a guess, which the exchange confirms.
        let mut load = self.load.load(Ordering::Relaxed);
        loop {
            if load & CLOSED != 0 {
                return Err(ReserveError::Closed);
            }
            if load >= self.concurrency {
                return Err(ReserveError::Full);
            }
            // Acquire, with the Release of `job_ended`: a job leaves the channel before its reservation ends, so who gets its room
            // finds the channel with room too. No reservation follows `close`, for both are changes of one word.
            match self.load.compare_exchange_weak(
                load,
                load + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(Reservation(Arc::clone(self))),
                Err(found) => load = found,
            }
        }
    }

    /// One job has ended.
    fn job_ended(&self) {
        // Release: all that the job did is seen by who sees the instance idle, and by who gets its room.
        if self.load.fetch_sub(1, Ordering::Release) == CLOSED + 1 {
            // A waiter looks and begins to wait under this lock. Taken here in between, it makes sure that one who has looked too
            // early waits already, and is woken.
            drop(lock(&self.changed.0));
            self.changed.1.notify_all();
        }
    }

    /// No reservation is made from now on.
    pub(super) fn close(&self) {
        // Release: see `is_closed`.
        self.load.fetch_or(CLOSED, Ordering::Release);
    }

    /// Whether it is closed and has no job left.
    pub(super) fn is_idle(&self) -> bool {
        // Acquire: see `job_ended`. Each change of the word is a read-modify-write, so this sees all jobs that ended before.
        self.load.load(Ordering::Acquire) == CLOSED
    }

    /// Waits until a closed instance is idle, at most until `until`.
    pub(super) fn wait_idle(&self, until: Instant) -> bool {
        let (mutex, changed) = &self.changed;
        let patience = until.saturating_duration_since(Instant::now());
        let waited = changed.wait_timeout_while(lock(mutex), patience, |()| !self.is_idle());
        // The guard of the empty lock; nothing is to be done under it.
        drop(waited);
        self.is_idle()
    }

    pub(super) fn lane_failed(&self) {
        // Relaxed: a flag that is looked at now and then. Who acts on it joins the thread, and that orders all else.
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// A lane cannot compute for now; so many lanes cannot.
    pub(super) fn lane_out(&self) -> usize {
        // Relaxed, here and below: of lanes that go out at once the last one sees the number of them all.
        self.lanes_out.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A lane that could not compute can again.
    pub(super) fn lane_back(&self) {
        self.lanes_out.fetch_sub(1, Ordering::Relaxed);
    }

    /// Something happened to a lane that it survived.
    pub(super) fn lane_in_trouble(&self, what: &str) {
        let mut troubles = lock(&self.troubles);
        troubles.0 += 1;
        what.clone_into(&mut troubles.1);
    }

    /// How often lanes were in trouble.
    pub(super) fn trouble_count(&self) -> u64 {
        lock(&self.troubles).0
    }

    /// What happened to lanes, in words.
    pub(super) fn troubles(&self) -> Option<String> {
        let troubles = lock(&self.troubles);
        match troubles.0 {
            0 => None,
            1 => Some(troubles.1.clone()),
            count => Some(format!("{count} times; the last time {}", troubles.1)),
        }
    }

    fn lane_idle(&self, idle: bool) {
        // Relaxed: by this count lanes share what waits. One that is off by a moment makes a batch larger or smaller, no more.
        if idle {
            self.idle_lanes.fetch_add(1, Ordering::Relaxed);
        } else {
            self.idle_lanes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn set_rows_max(&self, rows: usize) {
        // Relaxed: set before the first handle exists. Jobs come from handles, through the channel or on the handle's own thread,
        // so who reads it for a job comes after this.
        self.rows_max.store(rows, Ordering::Relaxed);
    }

    pub(super) fn rows_max(&self) -> usize {
        self.rows_max.load(Ordering::Relaxed)
    }

    /// Jobs that lanes take from now on are answered with `InstanceGone`.
    pub(super) fn begin_to_stop(&self) {
        // Relaxed: the lock of each lane's current run, which who stops takes after this, orders it (`Lane::cancel_any`).
        self.stopping.store(true, Ordering::Relaxed);
        // As in `job_ended`: who has looked too early waits already, and is woken.
        drop(lock(&self.changed.0));
        self.changed.1.notify_all();
    }

    /// Waits until the instance stops, at most until `until`; whether it does.
    pub(super) fn wait_stopping(&self, until: Instant) -> bool {
        let (mutex, changed) = &self.changed;
        let patience = until.saturating_duration_since(Instant::now());
        let waited = changed.wait_timeout_while(lock(mutex), patience, |()| !self.is_stopping());
        // The guard of the empty lock; nothing is to be done under it.
        drop(waited);
        self.is_stopping()
    }

    pub(super) fn is_stopping(&self) -> bool {
        // Relaxed: who has missed it sees it at the latest once its run has begun, for that takes the same lock.
        self.stopping.load(Ordering::Relaxed)
    }
}

/// A job's part of the load. Dropping it lowers the load, wherever the job ends: answered, or lost with the last lane.
#[derive(Debug)]
#[must_use = "dropped at once, it gives the room to another"]
pub struct Reservation(Arc<InstanceState>);

impl Reservation {
    /// The reservation is this job's.
    #[must_use]
    pub fn give_to(self, job: Job) -> ReservedJob {
        ReservedJob {
            id: job.id,
            payload: job.payload,
            head: job.head,
            deadline: job.deadline,
            timings: job.timings,
            reply: job.reply,
            claim: Some(Claim::new(self, job.permit)),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.job_ended();
    }
}

/// What a job occupies: its part of the load, and its slot of the deployment.
#[derive(Debug)]
pub(super) struct Claim {
    // Dropped in this order: who is admitted by the slot finds room at the instance.
    reservation: Reservation,
    permit: Permit,
}

impl Claim {
    pub(super) fn new(reservation: Reservation, permit: Permit) -> Self {
        Self {
            reservation,
            permit,
        }
    }

    pub(super) fn into_parts(self) -> (Reservation, Permit) {
        (self.reservation, self.permit)
    }

    /// Whether its instance answers no more requests.
    pub(super) fn is_stopping(&self) -> bool {
        self.reservation.0.is_stopping()
    }
}

/// A job with its reservation at an instance.
#[derive(Debug)]
pub struct ReservedJob {
    id: u64,
    payload: Payload,
    head: Option<Box<RequestHead>>,
    deadline: Deadline,
    timings: Timings,
    reply: oneshot::Sender<Reply>,
    /// Gone where the run was given up and others have the room already.
    claim: Option<Claim>,
}

impl ReservedJob {
    /// The head, where a scoring script is to read it.
    pub(super) fn head(&self) -> Option<&RequestHead> {
        self.head.as_deref()
    }

    /// What it brings.
    pub(super) fn payload(&self) -> &Payload {
        &self.payload
    }
}

impl Request for ReservedJob {
    type Claim = Claim;

    fn id(&self) -> u64 {
        self.id
    }

    fn brought(&mut self) -> Brought<'_> {
        match &mut self.payload {
            Payload::Body(body) => Brought::Body(body),
            Payload::Tensors(tensors) => Brought::Tensors(tensors),
        }
    }

    fn wants(&self) -> AnswerForm {
        match &self.payload {
            Payload::Body(_) => AnswerForm::Json,
            Payload::Tensors(_) => AnswerForm::Values,
        }
    }

    fn refusal(&self, now: Instant) -> Option<RunError> {
        let claim = self.claim.as_ref();
        if claim.is_some_and(Claim::is_stopping) {
            Some(RunError::InstanceGone)
        } else if self.reply.is_closed() {
            Some(RunError::Abandoned)
        } else if self.deadline.has_passed(now) {
            Some(RunError::ExpiredWaiting)
        } else {
            None
        }
    }

    fn timings(&mut self) -> &mut Timings {
        &mut self.timings
    }

    fn take_claim(&mut self) -> Option<Claim> {
        self.claim.take()
    }

    fn give_claim(&mut self, claim: Option<Claim>) {
        self.claim = claim;
    }

    fn finish(self, outcome: Result<Scored, RunError>) {
        // The instance has room, and the slot is free, before the answer is sent.
        drop(self.claim);
        let timings = self.timings;
        // The client may have left.
        drop(self.reply.send(Reply { outcome, timings }));
    }
}

/// One entry of an inbox.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "every message but the last is a job"
)]
pub(super) enum Message {
    Job(ReservedJob),
    Stop,
}

/// The jobs of an instance that wait for a lane, as one of its lanes sees them.
pub(super) struct Inbox {
    pub(super) jobs: Receiver<Message>,
    /// The way back for jobs that this lane leaves to others; gone with the last sender.
    pub(super) back: Weak<Sender<Message>>,
    /// Says that the lane has something to do that did not come with a job; none where nobody says so.
    pub(super) wakes: Option<Receiver<()>>,
    pub(super) state: Arc<InstanceState>,
    /// Longest wait for more of them.
    pub(super) delay: Duration,
}

impl Inbox {
    /// Waits for a job and takes those that may run together with it, or comes back without one when it is woken; whether the lane
    /// was told to stop.
    pub(super) fn take(&self, jobs: &mut Vec<ReservedJob>) -> bool {
        self.state.lane_idle(true);
        let first = self.first();
        self.state.lane_idle(false);
        let Some(first) = first else {
            return false;
        };
        if self.keep(first.ok(), jobs) {
            return true;
        }
        let until = Instant::now() + self.delay;
        while jobs.len() < self.share(jobs.len()) {
            let next = if self.delay.is_zero() {
                self.jobs.try_recv().ok()
            } else {
                self.jobs.recv_deadline(until).ok()
            };
            if next.is_none() {
                return false;
            }
            if self.keep(next, jobs) {
                return true;
            }
        }
        false
    }

    /// Leaves jobs to whoever comes first. Where nobody takes any more they are refused.
    pub(super) fn give_back(&self, jobs: Vec<ReservedJob>) {
        let back = self.back.upgrade().filter(|_| !self.state.is_stopping());
        for job in jobs {
            match &back {
                // Not full: the channel has room for every reservation.
                Some(back) => drop(back.try_send(Message::Job(job))),
                None => {
                    let refusal = job.refusal(Instant::now());
                    job.finish(Err(refusal.unwrap_or(RunError::InstanceGone)));
                }
            }
        }
    }

    /// Waits for a message, or the end of all senders; none when the lane is woken.
    fn first(&self) -> Option<Result<Message, RecvError>> {
        let Some(wakes) = &self.wakes else {
            return Some(self.jobs.recv());
        };
        // A wait for two channels sleeps at once, where a wait for one looks a few times more: the next job is often a moment away,
        // and to wake a sleeper costs more than the looks.
        let backoff = Backoff::new();
        while !backoff.is_completed() {
            match self.jobs.try_recv() {
                Ok(first) => return Some(Ok(first)),
                Err(TryRecvError::Disconnected) => return Some(Err(RecvError)),
                Err(TryRecvError::Empty) => {}
            }
            if !wakes.is_empty() {
                break;
            }
            backoff.snooze();
        }
        select! {
            recv(self.jobs) -> first => Some(first),
            recv(wakes) -> _ => None,
        }
    }

    /// Keeps a job; whether the message, or the end of all senders, is the end.
    fn keep(&self, message: Option<Message>, jobs: &mut Vec<ReservedJob>) -> bool {
        match message {
            Some(Message::Job(job)) => {
                jobs.push(job);
                false
            }
            Some(Message::Stop) | None => true,
        }
    }

    /// The number of the jobs, those that wait and the `taken`, that are for this lane: idle lanes get as many.
    fn share(&self, taken: usize) -> usize {
        let rows_max = self.state.rows_max();
        if rows_max <= 1 {
            return 1;
        }
        if !self.delay.is_zero() {
            return rows_max;
        }
        let lanes = self.state.idle_lanes.load(Ordering::Relaxed) + 1;
        (self.jobs.len() + taken).div_ceil(lanes).min(rows_max)
    }
}

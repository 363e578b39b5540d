//! Admission: says whether a deployment may take one more request now.
//!
//! A permit is taken before any work and travels with the request, so a slot comes back when the work ends, even if the
//! client has gone. A request is *held* from its arrival until then. Beyond those that have slots so many are held, waiting, as the
//! deployment's rule says: usually one for each slot.
//!
//! Threads: requests wait on the edge; permits are dropped where the work ends, on score threads or
//! inline on the edge; the controller resizes and drains.
//! Not here: which deployment (`table`), which instance (`deployment`).

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::deadline::Deadline;
use crate::engine::{Permit, SlotOwner};
use crate::observe::WaitingLine;

thread_local! {
    /// Whether a slot that comes back on this thread is taken over.
    static TAKEOVER: Cell<Takeover> = const { Cell::new(Takeover::None) };
}

/// The state of [`AdmissionControl::take_over`] on a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takeover {
    /// Nobody takes a slot over.
    None,
    /// The next slot of this admission, by its address, is taken over.
    Of(usize),
    /// It was.
    Done,
}

/// The reason why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// As many requests wait as may.
    #[error("too many pending requests: {held} held, at most {held_max}")]
    QueueFull {
        /// Running and waiting requests.
        held: usize,
        /// The slots, and those who may wait for one.
        held_max: usize,
    },
    /// The deadline passed while waiting.
    #[error("no slot became free before the deadline")]
    DeadlinePassed,
    /// The deployment is going away; look it up again.
    #[error("the deployment is being drained")]
    Draining,
}

/// Slots of one deployment: instances x concurrency. As many requests more are held as may wait.
#[derive(Debug)]
pub struct AdmissionControl {
    /// Free slots, and who waits for one, in order of arrival. Closed when draining.
    free: Semaphore,
    /// Running plus waiting requests.
    held: AtomicUsize,
    /// Slots taken away while in use: the next that come back pay for them and are not given out again.
    debt: AtomicUsize,
    slots: AtomicUsize,
    /// Most requests that may wait beyond those that have slots; [`usize::MAX`] is no bound.
    waiting_max: AtomicUsize,
    /// One resize at a time.
    resizing: Mutex<()>,
    /// `held` became 0.
    idle: Notify,
}

impl WaitingLine for AdmissionControl {
    fn waiting(&self) -> usize {
        // Numbers of a moment, and perhaps of several: a request more or less is told at the next look.
        let slots = self.slots() + self.debt.load(Ordering::Relaxed);
        let in_use = slots.saturating_sub(self.free.available_permits());
        self.held().saturating_sub(in_use)
    }
}

impl AdmissionControl {
    /// Admission to `slots` slots, all free; as many requests may wait.
    #[must_use]
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Semaphore::new(slots),
            held: AtomicUsize::new(0),
            debt: AtomicUsize::new(0),
            slots: AtomicUsize::new(slots),
            waiting_max: AtomicUsize::new(slots),
            resizing: Mutex::new(()),
            idle: Notify::new(),
        })
    }

    /// Waits for a slot in order of arrival, never past `deadline`, and takes it. Needs a tokio runtime with time.
    ///
    /// # Errors
    ///
    /// [`Rejected::QueueFull`] at once when as many wait as may; [`Rejected::DeadlinePassed`] when the wait is over;
    /// [`Rejected::Draining`] when the deployment is going away.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and takes nothing.
    pub async fn admit(self: &Arc<Self>, deadline: Deadline) -> Result<Permit, Rejected> {
        let queue_slot = self.enter_queue()?;
        loop {
            self.take_slot(deadline).await?;
            // A waiter that leaves with a slot already assigned to it puts the slot back past the debt; it is paid here.
            if !self.pay_debt() {
                queue_slot.keep();
                return Ok(self.permit());
            }
        }
    }

    /// A permit, if a slot is free now; whoever waits has been given all slots already.
    pub(super) fn admit_now(self: &Arc<Self>) -> Option<Permit> {
        let queue_slot = self.enter_queue().ok()?;
        self.free.try_acquire().ok()?.forget();
        if self.pay_debt() {
            return None;
        }
        queue_slot.keep();
        Some(self.permit())
    }

    /// Does `work`, and takes over the first slot that comes back on this thread meanwhile, with its place among the held.
    ///
    /// For a thread that answers the requests which have the slots itself: the slot is in use again before anybody else could have
    /// heard of it. Whoever waits in line gets it when the thread has nobody to pass it on to any more, at the end of its turn.
    pub(super) fn take_over(self: &Arc<Self>, work: impl FnOnce()) -> Option<Permit> {
        let taking = Taking(self);
        TAKEOVER.set(Takeover::Of(self.address()));
        work();
        taking.taken()
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit::new(Arc::clone(self) as Arc<dyn SlotOwner>)
    }

    /// Tells admissions apart.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether the slot that comes back is another request's already.
    fn is_taken_over(&self) -> bool {
        if TAKEOVER.get() != Takeover::Of(self.address()) || self.free.is_closed() {
            return false;
        }
        TAKEOVER.set(Takeover::Done);
        true
    }

    /// Changes the number of slots. New ones are free at once; of those taken away, free ones go at once and the others as
    /// their work ends. Requests that wait stay, also when they are now more than the bound.
    pub fn resize(&self, slots: usize) {
        let _one_at_a_time = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        // One number, changed under the lock alone; who reads it without gets an old or a new one. So for the debt: each change is a
        // read-modify-write, and the sum of free slots, slots in use and debt is right in any ordering.
        let before = self.slots.swap(slots, Ordering::Relaxed);
        if slots >= before {
            let grown = slots - before;
            self.free.add_permits(grown - self.cancel_debt(grown));
        } else {
            let shrunk = before - slots;
            // The debt is booked first, so that a slot that comes back meanwhile is not given out again.
            self.debt.fetch_add(shrunk, Ordering::Relaxed);
            let forgotten = self.free.forget_permits(shrunk);
            self.free
                .add_permits(forgotten - self.cancel_debt(forgotten));
        }
    }

    /// Changes how many requests may wait for a slot; without a number all may. Those who wait stay, also when they are now more.
    pub fn set_waiting_max(&self, waiting_max: Option<usize>) {
        // Relaxed: one number; who reads the old one came before the change.
        self.waiting_max
            .store(waiting_max.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Refuses from now on with [`Rejected::Draining`], requests that wait too; resolves when the work of the last admitted
    /// request has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and nothing else.
    pub async fn drain(&self) {
        self.free.close();
        // A request counts itself as held and then takes a free slot, without the semaphore's lock. One that was faster than the
        // closing must be seen below; `close` alone has Release, and the fence makes Acquire of it.
        fence(Ordering::Acquire);
        loop {
            // Made before the look: it hears of an end that comes between the look and the wait.
            let idle = self.idle.notified();
            if self.held() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Most requests that run at once.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    /// Whether the next request would be admitted at once; of a moment.
    pub(super) fn has_free_slots(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Requests that run or wait.
    #[must_use]
    pub fn held(&self) -> usize {
        // Acquire, with the Release of `leave`: who sees 0 sees all that the admitted work did.
        self.held.load(Ordering::Acquire)
    }

    fn enter_queue(&self) -> Result<QueueSlot<'_>, Rejected> {
        if self.free.is_closed() {
            return Err(Rejected::Draining);
        }
        let waiting_max = self.waiting_max.load(Ordering::Relaxed);
        let held_max = self.slots().saturating_add(waiting_max);
        self.held
            // Relaxed: the bound holds because look and change are one step. `drain` has its own order (see there).
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held < held_max).then_some(held + 1)
            })
            .map(|_| QueueSlot(self))
            .map_err(|held| Rejected::QueueFull { held, held_max })
    }

    async fn take_slot(&self, deadline: Deadline) -> Result<(), Rejected> {
        // A free slot needs no timer. Slots that come back go to who waits first, so this overtakes nobody.
        if let Ok(slot) = self.free.try_acquire() {
            slot.forget();
            return Ok(());
        }
        match deadline.bound(self.free.acquire()).await {
            Some(Ok(slot)) => {
                slot.forget();
                Ok(())
            }
            Some(Err(_closed)) => Err(Rejected::Draining),
            None => Err(Rejected::DeadlinePassed),
        }
    }

    /// Takes one off the debt; false when there is none.
    fn pay_debt(&self) -> bool {
        self.cancel_debt(1) == 1
    }

    /// Takes up to `slots_max` off the debt and says how many.
    fn cancel_debt(&self, slots_max: usize) -> usize {
        let before = self
            .debt
            // Relaxed: see `resize`. A debt that is seen late is paid by the next slot that comes back.
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |debt| {
                (debt > 0).then(|| debt.saturating_sub(slots_max))
            })
            .unwrap_or(0);
        before.min(slots_max)
    }

    fn leave(&self) {
        // Release: see `held`. The word is changed by read-modify-writes alone, so the last one hands on what all before it did.
        if self.held.fetch_sub(1, Ordering::Release) == 1 {
            self.idle.notify_waiters();
        }
    }
}

impl SlotOwner for AdmissionControl {
    fn give_back(&self) {
        if self.debt.load(Ordering::Relaxed) == 0 && self.is_taken_over() {
            return;
        }
        // Left before the slot is free: whoever it goes to must not be counted together with us.
        self.leave();
        if !self.pay_debt() {
            self.free.add_permits(1);
        }
    }
}

/// Takes a slot over. Dropped, also by a panic, it leaves nothing of that behind.
struct Taking<'a>(&'a Arc<AdmissionControl>);

impl Taking<'_> {
    fn taken(&self) -> Option<Permit> {
        let taken = TAKEOVER.replace(Takeover::None) == Takeover::Done;
        taken.then(|| self.0.permit())
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        drop(self.taken());
    }
}

/// One of the held, waiting. Dropped by a request that goes without a slot.
struct QueueSlot<'a>(&'a AdmissionControl);

impl QueueSlot<'_> {
    /// Leaves the count to the permit, whose end lowers it.
    fn keep(self) {
        // Not dropped, or the request would be counted out while it runs. There is nothing to free: it is one reference.
        let _kept = std::mem::ManuallyDrop::new(self);
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::task::{JoinHandle, yield_now};
    use tokio::time::Instant;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn in_time() -> Deadline {
        Deadline::after(Instant::now().into_std(), TIMEOUT)
    }

    type Waiting = JoinHandle<Result<Permit, Rejected>>;

    /// A request on its own task, polled until it waits or has its answer.
    async fn arrive(admission: &Arc<AdmissionControl>) -> Waiting {
        let admission = Arc::clone(admission);
        let waiting = tokio::spawn(async move { admission.admit(in_time()).await });
        yield_now().await;
        waiting
    }

    async fn admitted(waiting: Waiting) -> Permit {
        waiting.await.expect("no panic").expect("admitted")
    }

    async fn refused(waiting: Waiting) -> Rejected {
        waiting.await.expect("no panic").expect_err("refused")
    }

    #[tokio::test(start_paused = true)]
    async fn one_runs_and_one_waits_for_each_slot_and_the_next_is_refused_at_once() {
        let admission = AdmissionControl::new(2);
        let _running = [arrive(&admission).await, arrive(&admission).await];
        let _waiting = [arrive(&admission).await, arrive(&admission).await];
        let full = Rejected::QueueFull {
            held: 4,
            held_max: 4,
        };
        assert_eq!(refused(arrive(&admission).await).await, full);
        assert_eq!(
            full.to_string(),
            "too many pending requests: 4 held, at most 4"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_queue_what_cannot_run_at_once_is_refused_at_once() {
        let admission = AdmissionControl::new(1);
        admission.set_waiting_max(Some(0));
        let running = admitted(arrive(&admission).await).await;
        let full = Rejected::QueueFull {
            held: 1,
            held_max: 1,
        };
        assert_eq!(refused(arrive(&admission).await).await, full);
        assert!(admission.admit_now().is_none());
        drop(running);
        drop(admitted(arrive(&admission).await).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_without_an_end_refuses_nobody_and_keeps_the_order() {
        let admission = AdmissionControl::new(1);
        admission.set_waiting_max(None);
        let mut running = Some(admitted(arrive(&admission).await).await);
        let mut line = VecDeque::new();
        for _ in 0..1000 {
            line.push_back(arrive(&admission).await);
        }
        assert_eq!(admission.held(), 1001);
        while let Some(first) = line.pop_front() {
            drop(running.take());
            yield_now().await;
            assert!(line.front().is_none_or(|second| !second.is_finished()));
            running = Some(admitted(first).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_deadline_waits_until_there_is_a_slot() {
        let admission = AdmissionControl::new(1);
        let running = admission.admit_now().unwrap();
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.admit(Deadline::never()).await }
        });
        // Longer than any timeout; where a timer were set, this clock would be at it.
        tokio::time::sleep(TIMEOUT * 1000).await;
        assert!(!waiting.is_finished());
        drop(running);
        drop(admitted(waiting).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_gets_shorter_keeps_who_waits_and_takes_nobody_more() {
        let admission = AdmissionControl::new(1);
        admission.set_waiting_max(Some(3));
        let mut running = Some(admitted(arrive(&admission).await).await);
        let mut line = VecDeque::new();
        for _ in 0..3 {
            line.push_back(arrive(&admission).await);
        }
        admission.set_waiting_max(Some(1));
        let full = Rejected::QueueFull {
            held: 4,
            held_max: 2,
        };
        assert_eq!(refused(arrive(&admission).await).await, full);
        while let Some(first) = line.pop_front() {
            drop(running.take());
            running = Some(admitted(first).await);
        }
        let _next = arrive(&admission).await;
        assert_eq!(admission.held(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_the_deadline_and_leaves_the_queue() {
        let admission = AdmissionControl::new(1);
        let running = admitted(arrive(&admission).await).await;
        let before = Instant::now();
        let waiting = arrive(&admission).await;
        assert_eq!(refused(waiting).await, Rejected::DeadlinePassed);
        assert_eq!(before.elapsed(), TIMEOUT);
        assert_eq!(admission.held(), 1);
        drop(running);
        drop(admitted(arrive(&admission).await).await);
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_given_in_order_of_arrival_and_nobody_overtakes() {
        let admission = AdmissionControl::new(2);
        let mut running: VecDeque<_> = [
            admitted(arrive(&admission).await).await,
            admitted(arrive(&admission).await).await,
        ]
        .into();
        let first = arrive(&admission).await;
        let second = arrive(&admission).await;
        assert_eq!(admission.waiting(), 2);
        drop(running.pop_front());
        // The slot is the first waiter's already, although it has not been polled yet.
        let latecomer = arrive(&admission).await;
        assert!(first.is_finished());
        assert!(!second.is_finished() && !latecomer.is_finished());
        drop(running.pop_front());
        let _first = admitted(first).await;
        let _second = admitted(second).await;
        yield_now().await;
        assert!(!latecomer.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_leaves_the_queue() {
        let admission = AdmissionControl::new(1);
        let running = admitted(arrive(&admission).await).await;
        let leaver = arrive(&admission).await;
        assert_eq!(admission.held(), 2);
        leaver.abort();
        assert!(leaver.await.expect_err("left").is_cancelled());
        assert_eq!(admission.held(), 1);
        let next = arrive(&admission).await;
        drop(running);
        drop(admitted(next).await);
        assert_eq!(admission.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn new_slots_serve_those_who_wait() {
        let admission = AdmissionControl::new(1);
        let _running = admitted(arrive(&admission).await).await;
        let waiting = arrive(&admission).await;
        admission.resize(2);
        let _running = admitted(waiting).await;
        assert_eq!((admission.slots(), admission.held()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn slots_taken_away_while_in_use_are_not_given_out_again() {
        let admission = AdmissionControl::new(3);
        let mut running = VecDeque::new();
        for _ in 0..3 {
            running.push_back(admitted(arrive(&admission).await).await);
        }
        let waiting = arrive(&admission).await;
        admission.resize(1);
        // Those that have a slot do not wait, also where it is to go.
        assert_eq!(admission.waiting(), 1);
        for _ in 0..2 {
            drop(running.pop_front());
            yield_now().await;
            assert!(!waiting.is_finished());
        }
        drop(running.pop_front());
        drop(admitted(waiting).await);
        assert_eq!(admission.waiting(), 0);
        let _only = admitted(arrive(&admission).await).await;
        assert!(!arrive(&admission).await.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_a_leaver_puts_back_pays_the_debt() {
        let admission = AdmissionControl::new(2);
        let running = admitted(arrive(&admission).await).await;
        let other = admitted(arrive(&admission).await).await;
        let leaver = arrive(&admission).await;
        // The slot is assigned to the leaver, which has not taken it up when the slots shrink and it goes.
        drop(running);
        admission.resize(1);
        leaver.abort();
        assert!(leaver.await.expect_err("left").is_cancelled());
        let next = arrive(&admission).await;
        assert!(!next.is_finished(), "one slot, in use");
        drop(other);
        drop(admitted(next).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_refuses_those_who_wait_and_latecomers_and_ends_with_the_last_permit() {
        let admission = AdmissionControl::new(1);
        let running = admitted(arrive(&admission).await).await;
        let waiting = arrive(&admission).await;
        let drain = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.drain().await }
        });
        assert_eq!(refused(waiting).await, Rejected::Draining);
        assert_eq!(refused(arrive(&admission).await).await, Rejected::Draining);
        assert!(!drain.is_finished());
        drop(running);
        drain.await.expect("drained");
        assert_eq!(admission.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_is_dropped_on_another_thread_frees_its_slot() {
        let admission = AdmissionControl::new(1);
        let permit = admitted(arrive(&admission).await).await;
        std::thread::scope(|scope| {
            scope.spawn(move || drop(permit));
        });
        drop(admitted(arrive(&admission).await).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_taken_over_passes_the_line_and_the_next_one_does_not() {
        let admission = AdmissionControl::new(2);
        let running = [(); 2].map(|()| admission.admit_now().unwrap());
        let first = arrive(&admission).await;
        let second = arrive(&admission).await;
        // Both come back, and one is taken over.
        let taken = admission.take_over(|| drop(running)).unwrap();
        yield_now().await;
        assert!(first.is_finished() && !second.is_finished());
        assert_eq!(admission.held(), 3);
        assert!(admission.admit_now().is_none(), "the line comes first");
        drop(taken);
        let _both = [admitted(first).await, admitted(second).await];
        assert_eq!(admission.held(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_taken_over_only_of_its_own_admission_and_thread() {
        let (admission, other) = (AdmissionControl::new(1), AdmissionControl::new(1));
        let (mine, theirs) = (admission.admit_now().unwrap(), other.admit_now().unwrap());
        assert!(admission.take_over(|| drop(theirs)).is_none());
        assert!(other.has_free_slots());
        let elsewhere = || {
            std::thread::scope(|scope| {
                scope.spawn(move || drop(mine));
            });
        };
        assert!(admission.take_over(elsewhere).is_none());
        assert!(admission.has_free_slots(), "it came back in the usual way");
        assert_eq!((admission.held(), other.held()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_after_a_slot_was_taken_over_loses_no_slot() {
        let admission = AdmissionControl::new(1);
        let running = admission.admit_now().unwrap();
        let work = || {
            drop(running);
            panic!("the test wants a panic");
        };
        let panics = std::panic::AssertUnwindSafe(|| admission.take_over(work));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(admission.held(), 0);
        let next = admission.admit_now().unwrap();
        // And the next one that comes back is nobody's.
        drop(next);
        assert!(admission.has_free_slots());
    }

    #[tokio::test(start_paused = true)]
    async fn no_slot_is_taken_over_that_is_owed_or_of_a_deployment_that_goes_away() {
        let admission = AdmissionControl::new(2);
        let mut running = [(); 2].map(|()| admission.admit_now()).into_iter();
        admission.resize(1);
        assert!(admission.take_over(|| drop(running.next())).is_none());
        assert_eq!(admission.held(), 1);
        let mut drain = std::pin::pin!(admission.drain());
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(drain.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        assert!(admission.take_over(|| drop(running.next())).is_none());
        drain.await;
    }

    #[derive(Debug, Clone, Copy)]
    enum Action {
        Arrive,
        GiveBack(usize),
        /// The slot that comes back is taken over at once.
        PassOn(usize),
        Leave(usize),
        Resize(usize),
        /// So many may wait from now on.
        Queue(Option<usize>),
        /// Lets tasks run; without it slots are assigned to requests that have not noticed.
        Settle,
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => Just(Action::Arrive),
            3 => any::<usize>().prop_map(Action::GiveBack),
            2 => any::<usize>().prop_map(Action::PassOn),
            1 => any::<usize>().prop_map(Action::Leave),
            2 => (1..6_usize).prop_map(Action::Resize),
            1 => prop::option::of(0..6_usize).prop_map(Action::Queue),
            2 => Just(Action::Settle),
        ]
    }

    /// The view from outside: requests that wait or have a permit nobody took note of yet, and permits in use.
    #[derive(Default)]
    struct Model {
        waiting: Vec<Waiting>,
        running: Vec<Permit>,
    }

    impl Model {
        async fn act(&mut self, admission: &Arc<AdmissionControl>, action: Action) {
            match action {
                Action::Arrive => self.waiting.push(arrive(admission).await),
                Action::GiveBack(at) if !self.running.is_empty() => {
                    drop(self.running.swap_remove(at % self.running.len()));
                }
                Action::PassOn(at) if !self.running.is_empty() => {
                    let ended = self.running.swap_remove(at % self.running.len());
                    let taken = admission.take_over(|| drop(ended));
                    self.running.extend(taken);
                }
                Action::Leave(at) if !self.waiting.is_empty() => {
                    let leaver = self.waiting.swap_remove(at % self.waiting.len());
                    leaver.abort();
                    drop(leaver.await);
                }
                Action::Resize(slots) => admission.resize(slots),
                Action::Queue(waiting_max) => admission.set_waiting_max(waiting_max),
                Action::GiveBack(_) | Action::PassOn(_) | Action::Leave(_) => {}
                Action::Settle => self.settle().await,
            }
        }

        async fn settle(&mut self) {
            // Each turn may hand a slot on; as many turns as there are requests end every chain.
            for _ in 0..=self.waiting.len() {
                yield_now().await;
            }
            let (done, waiting) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(JoinHandle::is_finished);
            self.waiting = waiting;
            for request in done {
                if let Ok(permit) = request.await.expect("no panic") {
                    self.running.push(permit);
                }
            }
        }
    }

    async fn check(actions: Vec<Action>) -> Result<(), TestCaseError> {
        let admission = AdmissionControl::new(2);
        let mut model = Model::default();
        // In use never exceeds the slots, or what was in use when they were taken away.
        let mut in_use_max = 2;
        // One that arrives is refused when as many are held as may be, and at no other time.
        let mut waiting_max = 2;
        for action in actions {
            let held_before = admission.held();
            model.act(&admission, action).await;
            match action {
                Action::Queue(most) => waiting_max = most.unwrap_or(usize::MAX),
                Action::Arrive => {
                    let is_full = held_before >= admission.slots().saturating_add(waiting_max);
                    prop_assert_eq!(admission.held(), held_before + usize::from(!is_full));
                }
                _ => {}
            }
            model.settle().await;
            in_use_max = match action {
                Action::Resize(slots) => slots.max(model.running.len()),
                _ => in_use_max.min(admission.slots().max(model.running.len())),
            };
            prop_assert!(model.running.len() <= in_use_max);
            prop_assert_eq!(admission.held(), model.running.len() + model.waiting.len());
            // Work conserving: nobody waits while a slot is free.
            prop_assert!(model.waiting.is_empty() || model.running.len() >= admission.slots());
        }
        drop(model);
        admission.drain().await;
        prop_assert_eq!(admission.held(), 0);
        prop_assert_eq!(admission.free.available_permits(), admission.slots());
        prop_assert_eq!(admission.debt.load(Ordering::Acquire), 0);
        Ok(())
    }

    proptest! {
        #[test]
        fn no_slot_is_admitted_twice_over_and_none_is_lost(actions in prop::collection::vec(any_action(), 0..60)) {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime")
                .block_on(check(actions))?;
        }
    }
}

//! Evidence events: one small event for each request that the split assigned to a deployment, for whoever compares deployments.
//!
//! Each recording thread has a ring of its own, made at its first event, into which nobody else writes: no lock and no allocation on
//! the path of a request. One consumer drains all rings, in no order but that of each thread. What finds no room is counted and lost:
//! a request never waits for who judges it. A ring outlives its thread until it has been drained.
//!
//! Threads: pushed to by whichever thread records an outcome; drained by one consumer elsewhere.
//! Not here: which request makes an event (`router`), what events prove (`evidence`).

use std::cell::RefCell;
use std::mem;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use super::Outcome;
use super::canary_series::evidence_dropped;
use crate::config::{EVIDENCE_EVENTS_MAX, EVIDENCE_RINGS_MAX};
use crate::spec::Percent;

/// The end of one request, as the comparison of deployments sees it. It belongs to the deployment that the split assigned first, also
/// where another one answered because that one was gone meanwhile: else who fails could shift its failures to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestEvent {
    /// The end, in microseconds since [`clock_start`].
    pub at_us: u64,
    /// The block of the split; [`NO_BLOCK`] where a cohort decided, or for a copy.
    pub block: u64,
    /// A hash of the key of its cohort; 0 where it has none.
    pub key_hash: u64,
    /// A hash of the request's id, by which a label that comes later finds it; 0 where it has none.
    pub id_hash: u64,
    /// The split that decided: differs between any two splits of the process.
    pub split: u32,
    /// The deployment (`DeploymentMetrics::series`).
    pub series: u32,
    /// The build of the deployment that was current when the request came to it (`DeploymentMetrics::build`).
    pub build: u32,
    /// Time until the model or script took it up, or until its end where none did.
    pub queue_us: u32,
    /// Time that the model itself took; 0 where it did not come to that.
    pub run_us: u32,
    /// Time from its arrival to its end.
    pub total_us: u32,
    /// The deployment's share when the request was assigned.
    pub share: Percent,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer has a NaN or an infinity.
    pub not_finite: bool,
    /// It was one of the first of its instance.
    pub is_cold: bool,
    /// A copy for a shadow, and no request of a client.
    pub is_copy: bool,
}

/// The block of a request that no block decided about.
pub const NO_BLOCK: u64 = u64::MAX;

/// The instant from which events count their time: the first that anybody asked for it.
#[must_use]
pub fn clock_start() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START
}

/// A time as events have it; longer ones than 71 minutes are as long.
#[must_use]
pub fn whole_us(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Hands an event to the consumer, or counts it as lost.
pub fn push(event: RequestEvent) {
    // Not there any more: the thread is ending and has torn down its ring.
    let is_kept = RING.try_with(|ring| {
        let mut ring = ring.borrow_mut();
        let ring = ring.as_mut();
        ring.is_some_and(|ring| ring.push(event).is_ok())
    });
    if is_kept != Ok(true) {
        evidence_dropped().inc();
    }
}

/// Gives every event that is there to `each`, and says how many that were. One caller at a time; what comes meanwhile is left for the
/// next time.
pub fn drain(each: impl FnMut(RequestEvent)) -> usize {
    RINGS.drain(each)
}

/// Events that were lost because nobody drained in time.
#[must_use]
pub fn dropped() -> u64 {
    evidence_dropped().get()
}

static RINGS: Rings = Rings::new();

thread_local! {
    /// None where there are too many rings already.
    static RING: RefCell<Option<Producer<RequestEvent>>> = RefCell::new(RINGS.add(EVIDENCE_EVENTS_MAX));
}

/// The consumer's ends of the rings.
struct Rings {
    /// Of threads whose first event came after the last look. Locked by a thread once, and by the consumer for a moment.
    new: Mutex<Vec<Consumer<RequestEvent>>>,
    /// Locked by the consumer alone.
    known: Mutex<Vec<Consumer<RequestEvent>>>,
}

impl Rings {
    const fn new() -> Self {
        Self {
            new: Mutex::new(Vec::new()),
            known: Mutex::new(Vec::new()),
        }
    }

    /// A ring for the calling thread. Where nobody drains, threads that have ended must not pile up: their events are lost first.
    fn add(&self, capacity: usize) -> Option<Producer<RequestEvent>> {
        let mut new = lock(&self.new);
        if new.len() >= EVIDENCE_RINGS_MAX {
            new.retain(|ring| {
                let is_over = ring.is_abandoned();
                if is_over {
                    evidence_dropped().inc_by(u64::try_from(ring.slots()).unwrap_or(u64::MAX));
                }
                !is_over
            });
        }
        if new.len() >= EVIDENCE_RINGS_MAX {
            return None;
        }
        let (ours, theirs) = RingBuffer::new(capacity);
        new.push(theirs);
        Some(ours)
    }

    fn drain(&self, mut each: impl FnMut(RequestEvent)) -> usize {
        let mut known = lock(&self.known);
        known.append(&mut mem::take(&mut *lock(&self.new)));
        let mut count = 0;
        known.retain_mut(|ring| {
            // Asked before the look: what the thread pushed before it ended is seen by then.
            let is_over = ring.is_abandoned();
            // No more than there is now, so that one busy thread does not keep the consumer from the others.
            for _ in 0..ring.slots() {
                let Ok(event) = ring.pop() else { break };
                each(event);
                count += 1;
            }
            !is_over
        });
        count
    }
}

/// What stands behind these locks is whole after a panic: rings are added and removed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For tests, which share the rings of the process: the events of one deployment so far, and no test loses another's.
#[cfg(test)]
pub(crate) fn take_of(series: u32) -> Vec<RequestEvent> {
    use std::collections::HashMap;
    static TAKEN: Mutex<Option<HashMap<u32, Vec<RequestEvent>>>> = Mutex::new(None);
    let mut taken = lock(&TAKEN);
    let taken = taken.get_or_insert_with(HashMap::new);
    drain(|event| taken.entry(event.series).or_default().push(event));
    taken.remove(&series).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    /// Series that no deployment of the process has.
    static SERIES: AtomicU32 = AtomicU32::new(u32::MAX);

    fn event(series: u32, at_us: u64) -> RequestEvent {
        RequestEvent {
            at_us,
            block: 0,
            key_hash: 0,
            id_hash: 0,
            split: 0,
            series,
            build: 0,
            queue_us: 0,
            run_us: 0,
            total_us: 0,
            share: Percent::HUNDRED,
            outcome: Outcome::Ok,
            not_finite: false,
            is_cold: false,
            is_copy: false,
        }
    }

    fn times(events: &[RequestEvent]) -> Vec<u64> {
        events.iter().map(|event| event.at_us).collect()
    }

    fn drained(rings: &Rings) -> Vec<u64> {
        let mut events = Vec::new();
        let count = rings.drain(|event| events.push(event));
        assert_eq!(count, events.len());
        times(&events)
    }

    #[test]
    fn an_event_is_one_line_of_the_cache() {
        assert_eq!(size_of::<RequestEvent>(), 64);
    }

    #[test]
    fn a_full_ring_keeps_what_it_has_in_order_and_takes_again_when_it_was_drained() {
        let rings = Rings::new();
        let mut ring = rings.add(4).unwrap();
        let kept = |ring: &mut Producer<_>, at| ring.push(event(0, at)).is_ok();
        let taken: Vec<_> = (0..6).map(|at| kept(&mut ring, at)).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert_eq!(drained(&rings), [0, 1, 2, 3]);
        assert!(kept(&mut ring, 6));
        assert_eq!(drained(&rings), [6]);
        assert_eq!(drained(&rings), [0; 0]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let series = SERIES.fetch_sub(1, Ordering::Relaxed);
        let before = dropped();
        let pushed = u64::try_from(EVIDENCE_EVENTS_MAX).unwrap() * 2;
        let work = move || (0..pushed).for_each(|at| push(event(series, at)));
        thread::scope(|scope| drop(scope.spawn(work)));
        let kept = u64::try_from(take_of(series).len()).unwrap();
        // Other tests may drain meanwhile, and lose events of their own.
        assert!(kept >= pushed / 2 && kept + (dropped() - before) >= pushed);
    }

    #[test]
    fn the_events_of_a_thread_that_has_ended_are_there_and_its_ring_goes_with_them() {
        let rings = Rings::new();
        let mut ring = rings.add(4).unwrap();
        ring.push(event(0, 7)).unwrap();
        drop(ring);
        assert_eq!(drained(&rings), [7]);
        assert_eq!(lock(&rings.known).len(), 0);
    }

    #[test]
    fn a_ring_of_a_thread_that_lives_stays() {
        let rings = Rings::new();
        let ring = rings.add(4).unwrap();
        assert_eq!(drained(&rings), [0; 0]);
        assert_eq!(lock(&rings.known).len(), 1);
        drop(ring);
    }

    #[test]
    fn where_nobody_drains_rings_of_ended_threads_make_room_and_those_of_living_ones_are_bounded() {
        let rings = Rings::new();
        let mut living = Vec::new();
        for at in 0..EVIDENCE_RINGS_MAX {
            let ring = rings.add(1).unwrap();
            if at > 0 {
                living.push(ring);
            }
        }
        living.push(rings.add(1).unwrap());
        assert!(rings.add(1).is_none());
        assert_eq!(lock(&rings.new).len(), EVIDENCE_RINGS_MAX);
    }

    #[test]
    fn a_consumer_that_panics_loses_the_event_that_it_had_and_no_other() {
        let rings = Rings::new();
        let mut ring = rings.add(4).unwrap();
        (0..3).for_each(|at| ring.push(event(0, at)).unwrap());
        let panics = || rings.drain(|_| panic!("a test"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(drained(&rings), [1, 2]);
    }

    #[test]
    fn sixteen_threads_at_once_lose_nothing_that_has_room_and_keep_their_order_while_somebody_drains()
     {
        const EACH: u64 = 3000;
        let series: Vec<_> = (0..16)
            .map(|_| SERIES.fetch_sub(1, Ordering::Relaxed))
            .collect();
        let mut seen = vec![Vec::new(); series.len()];
        let mut look = || {
            for (seen, series) in seen.iter_mut().zip(&series) {
                seen.extend(times(&take_of(*series)));
            }
        };
        thread::scope(|scope| {
            let work = |series| move || (0..EACH).for_each(|at| push(event(series, at)));
            let threads: Vec<_> = series.iter().map(|one| scope.spawn(work(*one))).collect();
            while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                look();
            }
        });
        look();
        let expected: Vec<_> = (0..EACH).collect();
        assert!(seen.iter().all(|seen| *seen == expected));
    }

    #[test]
    fn a_long_time_is_as_long_as_can_be_said() {
        assert_eq!(whole_us(Duration::from_millis(3)), 3000);
        assert_eq!(whole_us(Duration::MAX), u32::MAX);
    }
}

//! The bytes of request bodies and answers that the server holds, and their bound.
//!
//! Up to [`SMALL_BYTES`] of a body, and as many of an answer, are a connection's own: the bound of connections bounds them, so small
//! requests never wait for room, whatever large ones do. What is larger takes *room*, all of it, out of one budget, and has it for
//! as long as the bytes are there: those of a body until they are decoded, those of an answer until they are written.
//!
//! A body takes room for what has arrived and as much again, as its buffer grows; never for what it announces. So who only says that
//! much will come holds nothing from others; who would fill the room has to send half of it, and must send all in `BODY_READ_MAX`.
//! Bodies that wait for each other's room would wait for ever, so one request at a time has the *reserve*: room for the largest body,
//! kept apart for whoever has waited longest. It never waits again, ends within the bounds of reading, scoring and writing, and
//! hands the reserve on. Every other wait ends after `ROOM_WAIT_MAX`. An answer is there when its size is known, and to wait with it
//! would hold what it waits for: it gets the room of its own body, more if there is some, or is given up.
//!
//! Threads: edge; room is given back where the bytes end, on any thread. Not here: a client that does not take its answer
//! (`timed_writes`), memory of the model, and callers of the library, which are not bound by this.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::config::{ROOM_WAIT_MAX, SMALL_BYTES};
use crate::observe::{ByteMetrics, Metrics};

/// Room is counted in units of so many bytes.
const UNIT_BYTES: u64 = 1024;

/// Room for bodies and answers. Clones share it.
#[derive(Debug, Clone)]
pub struct BytesInFlight(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: u64,
    /// Largest body, and so the size of the reserve.
    body_bytes_max: usize,
    /// Units beside the reserve.
    units: u32,
    free: Arc<Semaphore>,
    /// One permit: the reserve.
    reserve: Arc<Semaphore>,
    metrics: ByteMetrics,
}

/// No room came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for {bytes} bytes: the server holds {held} of at most {bytes_max} bytes of bodies and answers \
     (--bytes-in-flight-max)"
)]
pub struct NoRoom {
    /// The bytes that room was wanted for.
    pub bytes: u64,
    /// The bytes of others, and of this request so far.
    pub held: u64,
    /// The bound.
    pub bytes_max: u64,
}

impl BytesInFlight {
    /// Room for `bytes_max` bytes, of which any one body may have `body_bytes_max`; never less than for one such body.
    #[must_use]
    pub fn new(bytes_max: u64, body_bytes_max: usize, metrics: &Metrics) -> Self {
        let reserved = u64::try_from(body_bytes_max).unwrap_or(u64::MAX);
        let bytes_max = bytes_max.max(reserved);
        let units = (bytes_max - reserved) / UNIT_BYTES;
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let metrics = metrics.bytes_in_flight();
        metrics.set_max(bytes_max);
        Self(Arc::new(Budget {
            bytes_max,
            body_bytes_max,
            units,
            free: Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX))),
            reserve: Arc::new(Semaphore::new(1)),
            metrics,
        }))
    }

    /// Largest body, in bytes.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        self.0.body_bytes_max
    }

    /// Bytes that have room.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        usize::try_from(self.0.metrics.now()).unwrap_or(usize::MAX)
    }

    /// No room yet.
    pub(super) fn room(&self) -> Room {
        Room {
            budget: Arc::clone(&self.0),
            bytes: 0,
            waited: Duration::ZERO,
            taken: None,
            reserve: None,
        }
    }

    /// The bytes of an answer, which have room until they are dropped: of their own body, if that is not needed any more.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when there is none now.
    pub(super) fn hold_answer(
        &self,
        answer: Bytes,
        of_body: Option<Arc<Room>>,
    ) -> Result<Bytes, NoRoom> {
        if answer.len() <= SMALL_BYTES {
            return Ok(answer);
        }
        let of_body = of_body.and_then(Arc::into_inner);
        let mut room = of_body.unwrap_or_else(|| self.room());
        room.refit(u64::try_from(answer.len()).unwrap_or(u64::MAX))?;
        Ok(hold(answer, Arc::new(room)))
    }
}

/// Bytes with their room. It is given back when the last part of them is dropped.
pub(super) fn hold(bytes: impl AsRef<[u8]> + Send + 'static, room: Arc<Room>) -> Bytes {
    struct Held<B> {
        bytes: B,
        _room: Arc<Room>,
    }
    impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
        fn as_ref(&self) -> &[u8] {
            self.bytes.as_ref()
        }
    }
    Bytes::from_owner(Held { bytes, _room: room })
}

/// The room of one body or answer. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    /// The bytes that it is for.
    bytes: u64,
    waited: Duration,
    taken: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Waits for room for `bytes` bytes in all, in order of arrival; all its waits together take at most `ROOM_WAIT_MAX`.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when none came.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait; the room so far stays.
    pub(super) async fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if self.try_grow(bytes) {
            return Ok(());
        }
        let _waiting = self.budget.metrics.wait();
        let (reserve, free) = (&self.budget.reserve, &self.budget.free);
        let either = async {
            let reserve = Arc::clone(reserve).acquire_owned();
            match self.units_missing(bytes) {
                Some(units) => tokio::select! {
                    biased;
                    reserve = reserve => Either::Reserve(reserve),
                    more = Arc::clone(free).acquire_many_owned(units) => Either::More(more),
                },
                None => Either::Reserve(reserve.await),
            }
        };
        let began = Instant::now();
        let came = timeout(ROOM_WAIT_MAX.saturating_sub(self.waited), either).await;
        self.waited += began.elapsed();
        match came {
            Ok(Either::Reserve(Ok(reserve))) => self.take_reserve(reserve),
            Ok(Either::More(Ok(more))) => self.merge(more),
            // The semaphores are never closed.
            Ok(Either::Reserve(Err(_)) | Either::More(Err(_))) | Err(_) => {
                self.budget.metrics.refused_body();
                return Err(self.none_for(bytes));
            }
        }
        self.count(bytes);
        Ok(())
    }

    /// Takes or gives back what is between the bytes so far and these, without a wait.
    fn refit(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let units = units(bytes);
        if self.reserve.is_some() && self.fits_reserve(bytes) {
            self.count(bytes);
            return Ok(());
        }
        if let Some(taken) = &mut self.taken {
            let surplus = taken.num_permits().saturating_sub(units);
            drop(taken.split(surplus));
        }
        if self.try_grow(bytes) {
            self.reserve = None;
            self.count(bytes);
            return Ok(());
        }
        if self.fits_reserve(bytes)
            && let Ok(reserve) = Arc::clone(&self.budget.reserve).try_acquire_owned()
        {
            self.take_reserve(reserve);
            self.count(bytes);
            return Ok(());
        }
        self.budget.metrics.refused_answer();
        Err(self.none_for(bytes))
    }

    /// Whether there is room for so many bytes, or is now.
    fn try_grow(&mut self, bytes: u64) -> bool {
        if !(self.reserve.is_some() && self.fits_reserve(bytes)) {
            let more = self.units_missing(bytes).map(|units| {
                let free = Arc::clone(&self.budget.free);
                free.try_acquire_many_owned(units)
            });
            match more {
                Some(Ok(more)) => self.merge(more),
                _ => return false,
            }
        }
        self.count(bytes);
        true
    }

    /// Units to take for so many bytes; none where they will never fit beside the reserve.
    fn units_missing(&self, bytes: u64) -> Option<u32> {
        let wanted = u32::try_from(units(bytes)).ok()?;
        let taken = self.taken.as_ref().map_or(0, |taken| taken.num_permits());
        let missing = wanted.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        (wanted <= self.budget.units).then_some(missing)
    }

    fn fits_reserve(&self, bytes: u64) -> bool {
        usize::try_from(bytes).is_ok_and(|bytes| bytes <= self.budget.body_bytes_max)
    }

    fn merge(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
    }

    /// The reserve is room enough; what was taken beside it is for others.
    fn take_reserve(&mut self, reserve: OwnedSemaphorePermit) {
        self.reserve = Some(reserve);
        self.taken = None;
    }

    fn count(&mut self, bytes: u64) {
        self.budget.metrics.held(self.bytes, bytes);
        self.bytes = bytes;
    }

    fn none_for(&self, bytes: u64) -> NoRoom {
        NoRoom {
            bytes,
            held: self.budget.metrics.now(),
            bytes_max: self.budget.bytes_max,
        }
    }
}

enum Either<P> {
    Reserve(P),
    More(P),
}

impl Drop for Room {
    fn drop(&mut self) {
        self.count(0);
    }
}

/// The units that hold so many bytes.
fn units(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::task::yield_now;

    use super::*;

    const KIB: u64 = 1024;
    const BODY_MAX: usize = 100 * 1024;

    /// Room for three of the largest bodies: one of them is the reserve.
    fn budget() -> (BytesInFlight, Arc<Metrics>) {
        let metrics = Metrics::new();
        (BytesInFlight::new(300 * KIB, BODY_MAX, &metrics), metrics)
    }

    async fn filled(budget: &BytesInFlight, kib: u64) -> Room {
        let mut room = budget.room();
        room.grow(kib * KIB).await.unwrap();
        room
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_gets_the_reserve_and_hands_it_on() {
        let (budget, _) = budget();
        let (first, second) = (filled(&budget, 100).await, filled(&budget, 100).await);
        // Beyond the room beside the reserve: it goes on all the same.
        let third = filled(&budget, 100).await;
        let behind = budget.clone();
        let fourth = tokio::spawn(async move { filled(&behind, 60).await });
        yield_now().await;
        assert!(!fourth.is_finished());
        drop(third);
        let fourth = fourth.await.unwrap();
        assert!(fourth.reserve.is_some());
        drop((first, second, fourth));
        assert_eq!(budget.0.metrics.now(), 0);
        assert_eq!(budget.0.free.available_permits(), 200);
        assert_eq!(budget.0.reserve.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_wait_for_each_other_all_come_through() {
        let (budget, _) = budget();
        // Each has some, none has all, and nothing is left.
        let mut some = Vec::new();
        for _ in 0..4 {
            some.push(filled(&budget, 50).await);
        }
        let all = some.into_iter().map(|mut room| {
            tokio::spawn(async move {
                room.grow(100 * KIB).await.unwrap();
                drop(room);
            })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert_eq!(budget.0.metrics.now(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_room_ends_with_the_numbers() {
        let (budget, metrics) = budget();
        let held = [
            filled(&budget, 100).await,
            filled(&budget, 100).await,
            filled(&budget, 70).await,
        ];
        let refused = budget.room().grow(20 * KIB).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "no room for 20480 bytes: the server holds 276480 of at most 307200 bytes of bodies and answers \
             (--bytes-in-flight-max)"
        );
        let text = metrics.render();
        for line in [
            "serin_bytes_in_flight 276480\n",
            "serin_bytes_in_flight_max 307200\n",
            "serin_bytes_in_flight_waiting 0\n",
            "serin_bytes_in_flight_refused_total{what=\"body\"} 1\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        drop(held);
        assert!(metrics.render().contains("serin_bytes_in_flight 0\n"));
    }

    /// Each wait by itself would be in bounds, and a body has many.
    #[tokio::test(start_paused = true)]
    async fn all_waits_of_a_body_together_have_one_end() {
        let (budget, _) = budget();
        let reserve = {
            let _full = [filled(&budget, 100).await, filled(&budget, 100).await];
            filled(&budget, 100).await
        };
        let mut holder = filled(&budget, 200).await;
        let mut room = budget.room();
        let began = Instant::now();
        for kib in 1.. {
            let growing = room.grow(kib * KIB);
            let freeing = async {
                tokio::time::sleep(ROOM_WAIT_MAX / 4).await;
                holder.refit((200 - kib) * KIB).unwrap();
            };
            let (grown, ()) = tokio::join!(growing, freeing);
            if grown.is_err() {
                break;
            }
        }
        assert!(
            began.elapsed() <= ROOM_WAIT_MAX * 5 / 4,
            "{:?}",
            began.elapsed()
        );
        drop(reserve);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_gets_the_room_of_its_body_and_keeps_it_until_its_last_part_is_gone() {
        let (budget, metrics) = budget();
        let body = Arc::new(filled(&budget, 90).await);
        let others = [filled(&budget, 100).await, filled(&budget, 100).await];
        assert_eq!(budget.0.reserve.available_permits(), 0);
        let mut answer = budget
            .hold_answer(vec![7; 80 * 1024].into(), Some(body))
            .unwrap();
        assert_eq!(budget.0.metrics.now(), 280 * KIB);
        // One without a body's room, beside the 20 KiB that are left.
        let refused = budget.hold_answer(vec![7; 70 * 1024].into(), None);
        assert!(refused.is_err());
        assert!(
            metrics
                .render()
                .contains("serin_bytes_in_flight_refused_total{what=\"answer\"} 1\n")
        );
        let part = answer.split_to(1);
        drop(answer);
        assert_eq!(budget.0.metrics.now(), 280 * KIB);
        drop(part);
        assert_eq!(budget.0.metrics.now(), 200 * KIB);
        drop(others);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_answer_needs_no_room() {
        let (budget, _) = budget();
        let full = [
            filled(&budget, 100).await,
            filled(&budget, 100).await,
            filled(&budget, 100).await,
        ];
        let answer = Bytes::from(vec![7; SMALL_BYTES]);
        let held = budget.hold_answer(answer.clone(), None).unwrap();
        assert_eq!(held.as_ptr(), answer.as_ptr());
        drop(full);
    }

    /// A body of any allowed size has room by itself, also where the budget is smaller than one.
    #[tokio::test(start_paused = true)]
    async fn one_body_at_a_time_fits_the_smallest_budget() {
        let budget = BytesInFlight::new(1, BODY_MAX, &Metrics::new());
        for _ in 0..2 {
            drop(filled(&budget, 100).await);
        }
        let large = vec![7; BODY_MAX + 1];
        assert!(budget.hold_answer(large.into(), None).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Bodies that grow in steps, wait, are given up and become answers: never more than the bound, nothing lost at the end.
        #[test]
        fn whatever_bodies_do_the_sum_keeps_the_bound_and_all_room_comes_back(
            bodies in prop::collection::vec(
                (prop::collection::vec(1_u64..100, 1..4), 0_u64..250, any::<bool>()), 1..24)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let (budget, _) = budget();
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for (mut steps, answer_kib, leaves) in bodies {
                    steps.sort_unstable();
                    let budget = budget.clone();
                    tasks.spawn(async move {
                        let mut room = budget.room();
                        for kib in steps {
                            if room.grow(kib * KIB).await.is_err() {
                                return;
                            }
                            assert!(budget.0.metrics.now() <= 300 * KIB);
                            yield_now().await;
                        }
                        let answer = vec![0; usize::try_from(answer_kib * KIB).unwrap()];
                        let of_body = (!leaves).then(|| Arc::new(room));
                        let answer = budget.hold_answer(answer.into(), of_body);
                        assert!(budget.0.metrics.now() <= 300 * KIB);
                        yield_now().await;
                        drop(answer);
                    });
                }
                tasks.join_all().await;
            });
            prop_assert_eq!(budget.0.metrics.now(), 0);
            prop_assert_eq!(budget.0.free.available_permits(), 200);
            prop_assert_eq!(budget.0.reserve.available_permits(), 1);
        }
    }
}

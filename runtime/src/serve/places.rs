//! The places of a listener: as many as connections may be open at once. When none is free, the connection that is needed least
//! makes room, so that whoever comes with a request is heard, however many came before and said nothing.
//!
//! The order: first those on which no request with a valid credential was answered, of these the one that has been idle for longest;
//! then the known ones that have been idle for [`KNOWN_IDLE_MIN`] and more, likewise. Idle is also who sends a head and does not
//! end it, and a stranger that does not take its answer. Never one whose request is being answered.
//!
//! The order is kept as a heap that is corrected when it is asked: a connection moves only back in it, so the first one whose place
//! is still true is the first of all. Threads: the one that accepts. Not here: how a connection ends (`listen`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::config::{KNOWN_IDLE_MIN, PLACE_WAIT_MAX, STRANGERS_LEAVE_MAX, STRANGERS_LEAVE_PART};
use crate::serve::client::{Client, Standing, ms_since};

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) client: Arc<Client>,
    _permit: OwnedSemaphorePermit,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    room: Arc<Semaphore>,
    places_max: usize,
    order: BinaryHeap<Reverse<Entry>>,
    /// Tells entries of the same standing apart.
    given: u64,
    epoch: Instant,
}

/// A connection, where it stood when it was looked at last.
#[derive(Debug)]
struct Entry {
    standing: Standing,
    number: u64,
    client: Arc<Client>,
}

impl Places {
    pub(super) fn new(places_max: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(places_max)),
            places_max,
            order: BinaryHeap::new(),
            given: 0,
            epoch: Instant::now(),
        }
    }

    /// A place for a connection that has come; waits while all have better reason to stay.
    pub(super) async fn take(&mut self) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                break permit;
            }
            self.make_rooms();
            // The one that was asked may have got a request meanwhile, and where nobody may go somebody soon may.
            let freed = timeout(PLACE_WAIT_MAX, Arc::clone(&self.room).acquire_owned());
            if let Ok(permit) = freed.await {
                break permit.expect("the semaphore is never closed");
            }
        };
        let client = Arc::new(Client::new(self.epoch));
        self.note(&client);
        Place {
            client,
            _permit: permit,
        }
    }

    /// Asks several strangers to go, for where one comes more do, and each takes a turn of the thread to leave; else one known client.
    fn make_rooms(&mut self) {
        let several = (self.places_max / STRANGERS_LEAVE_PART).clamp(1, STRANGERS_LEAVE_MAX);
        for _ in 0..several {
            if self.make_room().is_none_or(|left| left.is_known) {
                return;
            }
        }
    }

    /// Asks the connection that is needed least to go; where it stood, if there is one.
    pub(super) fn make_room(&mut self) -> Option<Standing> {
        let now_ms = ms_since(self.epoch);
        // Seen once, and put back behind all others of their kind.
        let mut seen = Vec::new();
        let mut asked = None;
        while let Some(Reverse(entry)) = self.order.pop() {
            if has_ended(&entry.client) {
                continue;
            }
            let (standing, may_go) = entry.client.standing(now_ms);
            if may_go && standing > entry.standing {
                self.order.push(Reverse(Entry { standing, ..entry }));
                continue;
            }
            asked = (may_go && is_idle_enough(standing, now_ms)).then_some(standing);
            if asked.is_some() {
                entry.client.ask_to_leave();
            }
            // Who is asked comes back into the order too: a request may save it.
            let standing = if asked.is_some() {
                standing.as_of(now_ms)
            } else {
                standing
            };
            seen.push(Reverse(Entry { standing, ..entry }));
            if may_go {
                break;
            }
        }
        self.order.extend(seen);
        asked
    }

    fn note(&mut self, client: &Arc<Client>) {
        let live = self.places_max - self.room.available_permits();
        // Those that have ended are forgotten each time that they may be half of all.
        if self.order.len() > 2 * live + 64 {
            self.order
                .retain(|Reverse(entry)| !has_ended(&entry.client));
        }
        self.given += 1;
        let (standing, _) = client.standing(ms_since(self.epoch));
        self.order.push(Reverse(Entry {
            standing,
            number: self.given,
            client: Arc::clone(client),
        }));
    }
}

/// Whether nobody but the order has it.
fn has_ended(client: &Arc<Client>) -> bool {
    Arc::strong_count(client) == 1
}

fn is_idle_enough(standing: Standing, now_ms: u64) -> bool {
    let idle_ms = now_ms.saturating_sub(standing.idle_since_ms);
    !standing.is_known || u128::from(idle_ms) >= KNOWN_IDLE_MIN.as_millis()
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.standing, self.number).cmp(&(other.standing, other.number))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    fn goes(place: &Place) -> bool {
        place.client.must_leave(&Context::from_waker(Waker::noop()))
    }

    fn answer(place: &Place, is_known: bool) {
        place.client.asked();
        place.client.answered(is_known);
        place.client.rests();
    }

    /// As many places, all taken, a millisecond after each other.
    async fn taken(places_max: usize) -> (Places, Vec<Place>) {
        let mut places = Places::new(places_max);
        let mut taken = Vec::new();
        for _ in 0..places_max {
            taken.push(places.take().await);
            advance(Duration::from_millis(1)).await;
        }
        (places, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_goes_before_a_known_client_and_the_longest_idle_before_the_others() {
        let (mut places, taken) = taken(4).await;
        answer(&taken[0], true);
        // Not known, but heard of since the others came.
        answer(&taken[1], false);
        advance(KNOWN_IDLE_MIN).await;
        let mut taken: Vec<_> = taken.into_iter().map(Some).collect();
        for next in [2, 3, 1, 0] {
            assert!(places.make_room().is_some());
            let is_gone = |place: &Option<Place>| place.as_ref().is_some_and(goes);
            let gone: Vec<_> = (0..4).filter(|&one| is_gone(&taken[one])).collect();
            assert_eq!(gone, [next]);
            taken[next] = None;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_known_client_goes_only_when_it_has_been_idle_for_a_while() {
        let (mut places, taken) = taken(1).await;
        answer(&taken[0], true);
        assert!(places.make_room().is_none());
        advance(KNOWN_IDLE_MIN).await;
        assert!(places.make_room().is_some());
        assert!(goes(&taken[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_whose_request_is_being_answered() {
        let (mut places, taken) = taken(2).await;
        taken[0].client.asked();
        taken[1].client.asked();
        advance(KNOWN_IDLE_MIN * 10).await;
        assert!(places.make_room().is_none());
        taken[1].client.answered(false);
        assert!(places.make_room().is_some());
        assert!(goes(&taken[1]) && !goes(&taken[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_all_are_busy_gets_the_first_place_that_is_free() {
        let (mut places, mut taken) = taken(2).await;
        taken[0].client.asked();
        taken[1].client.asked();
        let coming = tokio::spawn(async move { places.take().await });
        tokio::task::yield_now().await;
        assert!(!coming.is_finished());
        drop(taken.pop());
        coming.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn several_strangers_make_room_at_once_and_known_clients_one_by_one() {
        let many = STRANGERS_LEAVE_PART * 4;
        let (mut places, mut taken) = taken(many).await;
        places.make_rooms();
        let gone: Vec<_> = (0..many).filter(|&one| goes(&taken[one])).collect();
        assert_eq!(gone, [0, 1, 2, 3]);
        taken.drain(..4);
        for place in &taken {
            answer(place, true);
        }
        advance(KNOWN_IDLE_MIN).await;
        places.make_rooms();
        assert_eq!(taken.iter().filter(|place| goes(place)).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_come_and_go_leave_nothing_behind() {
        let mut places = Places::new(100);
        for _ in 0..10_000 {
            drop(places.take().await);
        }
        assert!(places.order.len() < 200, "{}", places.order.len());
    }

    proptest! {
        /// Whatever the clients have done, who is asked to go is the least of those that may.
        #[test]
        fn the_order_is_exact(acts in proptest::collection::vec((0..6_usize, 0..4_u8), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async move {
                let (mut places, taken) = taken(6).await;
                for (who, act) in acts {
                    advance(Duration::from_millis(700)).await;
                    let client = &taken[who].client;
                    match act {
                        0 => client.asked(),
                        1 => answer(&taken[who], true),
                        2 => answer(&taken[who], false),
                        _ => {
                            let now_ms = ms_since(places.epoch);
                            let best = taken
                                .iter()
                                .map(|place| place.client.standing(now_ms))
                                .filter(|&(standing, may_go)| may_go && is_idle_enough(standing, now_ms))
                                .map(|(standing, _)| standing)
                                .min();
                            assert_eq!(places.make_room(), best);
                            let gone = taken.iter().find(|&place| goes(place));
                            assert_eq!(gone.map(|place| place.client.standing(now_ms).0), best);
                            if let Some(gone) = gone {
                                // Saved by a request.
                                gone.client.asked();
                                assert!(!goes(gone));
                                answer(gone, false);
                            }
                        }
                    }
                }
            });
        }
    }
}

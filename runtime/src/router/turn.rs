//! Turns: the requests that a thread takes up before it looks at what else it has to do.
//!
//! A thread that serves connections may find a thousand of them ready at once. Requests go through here before anything is done for
//! them: so many as fit into [`EDGE_TURN_MAX`] go on, the others wait in order of arrival and are let in turn by turn. Between two
//! turns the thread hands jobs over, writes answers, and comes to all that never waits here: health, new connections, timers.
//!
//! Threads: those that serve connections, each by itself; [`crate::router::deliver`] ends the turns. Elsewhere nobody waits.
//! Not here: whether a request is admitted (`admission`). Who waits here is not held by any deployment yet: the server has seen its
//! head, as if it had not been read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::config::EDGE_TURN_MAX;

thread_local! {
    static TURNS: RefCell<Turns> = const { RefCell::new(Turns::new()) };
}

/// A request's part of a turn.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    waited: Duration,
}

impl Turn {
    /// Waits until the thread has time for one more request.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line.
    pub async fn wait() -> Self {
        let mut place = None;
        let number = poll_fn(|context| poll_turn(&mut place, context)).await;
        Self {
            number,
            waited: place.map_or(Duration::ZERO, |place| place.since.elapsed()),
        }
    }

    /// Waits again if that turn is over: for a request that had to wait for something else meanwhile.
    pub async fn renew(&mut self) {
        if TURNS.with_borrow(|turns| turns.number != self.number) {
            let again = Self::wait().await;
            self.number = again.number;
            self.waited += again.waited;
        }
    }

    /// Time that the request has stood in line.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// The number of the turn in which the request goes on.
fn poll_turn(place: &mut Option<Place>, context: &Context<'_>) -> Poll<u64> {
    let now = Instant::now();
    TURNS.with_borrow_mut(|turns| {
        match place {
            None if turns.takes_one_more(now) => return Poll::Ready(turns.number),
            None => {
                *place = Some(Place {
                    ticket: turns.line_up(context.waker()),
                    since: now,
                });
            }
            Some(place) if turns.has_let_in(place.ticket) => return Poll::Ready(turns.number),
            Some(place) => turns.wakes(place.ticket, context.waker()),
        }
        Poll::Pending
    })
}

/// A place in the line of this thread.
struct Place {
    ticket: u64,
    since: Instant,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Dropped when the line is not lent out any more.
        drop(TURNS.with_borrow_mut(|turns| turns.leave(self.ticket)));
    }
}

/// The turns of one thread.
struct Turns {
    /// The number of this turn.
    number: u64,
    /// When it took its first request.
    began: Option<Instant>,
    /// The requests that it has taken.
    taken: u32,
    /// The usual time of a request, with all that the thread does beside.
    usual: Duration,
    /// Who waits, in order; nobody where one has left.
    line: VecDeque<Option<Waker>>,
    /// The ticket of the first in line. Earlier ones have been let in.
    first: u64,
    /// Wakes who ends the turn; none where nobody does.
    ends: Option<Waker>,
}

impl Turns {
    const fn new() -> Self {
        Self {
            number: 0,
            began: None,
            taken: 0,
            usual: Duration::ZERO,
            line: VecDeque::new(),
            first: 0,
            ends: None,
        }
    }

    /// Whether a request that comes now goes on at once.
    fn takes_one_more(&mut self, now: Instant) -> bool {
        let Some(ends) = &self.ends else {
            return true;
        };
        let began = *self.began.get_or_insert_with(|| {
            // It comes after all tasks that are ready now.
            ends.wake_by_ref();
            now
        });
        let takes = self.line.is_empty() && now.duration_since(began) < EDGE_TURN_MAX;
        self.taken = self.taken.saturating_add(u32::from(takes));
        takes
    }

    fn line_up(&mut self, waker: &Waker) -> u64 {
        self.line.push_back(Some(waker.clone()));
        self.first + self.line.len() as u64 - 1
    }

    fn has_let_in(&self, ticket: u64) -> bool {
        ticket < self.first
    }

    /// Its place, while it waits.
    fn place(&mut self, ticket: u64) -> Option<&mut Option<Waker>> {
        let index = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.line.get_mut(index)
    }

    fn wakes(&mut self, ticket: u64, waker: &Waker) {
        if let Some(Some(known)) = self.place(ticket) {
            known.clone_from(waker);
        }
    }

    fn leave(&mut self, ticket: u64) -> Option<Waker> {
        self.place(ticket)?.take()
    }

    /// Ends the turn and begins the next one, if somebody waits; those who are let in.
    fn next(&mut self, now: Instant) -> Vec<Waker> {
        self.learn(now);
        self.number += 1;
        self.taken = 0;
        self.began = None;
        let fit = EDGE_TURN_MAX.as_nanos() / self.usual.as_nanos().max(1);
        let fit = u32::try_from(fit).unwrap_or(u32::MAX).max(1);
        let mut let_in = Vec::new();
        while self.taken < fit
            && let Some(waiting) = self.line.pop_front()
        {
            self.first += 1;
            if let Some(waiting) = waiting {
                self.taken += 1;
                let_in.push(waiting);
            }
        }
        if !let_in.is_empty() {
            self.began = Some(now);
        }
        let_in
    }

    /// Learns what a request costs of the turn that ends.
    fn learn(&mut self, now: Instant) {
        let Some(began) = self.began.filter(|_| self.taken > 0) else {
            return;
        };
        // One that was kept by something else says little: it counts for an eighth, and for no more than a turn.
        let seen = (now.duration_since(began) / self.taken).clamp(COST_MIN, EDGE_TURN_MAX);
        self.usual = match self.usual {
            Duration::ZERO => seen,
            usual => (usual * 7 + seen) / 8,
        };
    }

    /// Lets everybody in, now and from now on.
    fn stop(&mut self) -> Vec<Waker> {
        self.ends = None;
        self.began = None;
        self.taken = 0;
        self.first += self.line.len() as u64;
        self.line.drain(..).flatten().collect()
    }
}

/// Less than any request takes.
const COST_MIN: Duration = Duration::from_micros(1);

/// From now on requests wait for turns on this thread, and `ends` is woken when one is to be ended. Whether one has begun.
pub(super) fn is_under_way(ends: &Waker) -> bool {
    TURNS.with_borrow_mut(|turns| {
        if !turns
            .ends
            .as_ref()
            .is_some_and(|known| known.will_wake(ends))
        {
            turns.ends = Some(ends.clone());
        }
        turns.began.is_some()
    })
}

/// Ends the turn of this thread, and lets in those who waited for the next one.
pub(super) fn next() {
    let let_in = TURNS.with_borrow_mut(|turns| turns.next(Instant::now()));
    let_in.into_iter().for_each(Waker::wake);
}

/// Nobody waits for turns on this thread any more.
pub(super) fn stop() {
    let let_in = TURNS.with_borrow_mut(Turns::stop);
    let_in.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::{JoinSet, LocalSet, spawn_local, yield_now};

    use super::*;
    use crate::router::deliver;

    /// Turns that somebody ends, of requests that take so long.
    fn turns(usual: Duration) -> Turns {
        Turns {
            usual,
            ends: Some(Waker::noop().clone()),
            ..Turns::new()
        }
    }

    #[test]
    fn where_nobody_ends_turns_nobody_waits() {
        let mut turns = Turns::new();
        let now = Instant::now();
        for later in [Duration::ZERO, EDGE_TURN_MAX * 10] {
            assert!(turns.takes_one_more(now + later));
        }
        assert!(turns.began.is_none());
    }

    #[test]
    fn a_turn_takes_requests_for_its_time_and_the_next_ones_wait_in_order() {
        let mut turns = turns(EDGE_TURN_MAX / 2);
        let now = Instant::now();
        assert!(turns.takes_one_more(now));
        assert!(turns.takes_one_more(now + EDGE_TURN_MAX / 2));
        assert!(
            !turns.takes_one_more(now + EDGE_TURN_MAX),
            "its time is over"
        );
        let tickets: Vec<_> = (0..5).map(|_| turns.line_up(Waker::noop())).collect();
        // Also one that comes when there would be time stands behind them.
        assert!(!turns.takes_one_more(now));
        let mut let_in = Vec::new();
        for turn in 1..4 {
            let woken = turns.next(now + EDGE_TURN_MAX * turn).len();
            let_in.push(woken);
        }
        assert_eq!(let_in, [2, 2, 1]);
        assert!(tickets.iter().all(|&ticket| turns.has_let_in(ticket)));
        assert_eq!(turns.next(now + EDGE_TURN_MAX * 4).len(), 0);
        assert!(turns.takes_one_more(now + EDGE_TURN_MAX * 5), "a new turn");
    }

    #[test]
    fn each_turn_lets_somebody_in_however_long_requests_take() {
        let mut turns = turns(EDGE_TURN_MAX);
        let mut now = Instant::now();
        turns.takes_one_more(now);
        for _ in 0..3 {
            turns.line_up(Waker::noop());
        }
        for _ in 0..3 {
            now += EDGE_TURN_MAX * 1000;
            assert_eq!(turns.next(now).len(), 1);
            assert!(turns.usual <= EDGE_TURN_MAX);
        }
    }

    #[test]
    fn who_leaves_the_line_takes_nothing_of_a_turn() {
        let mut turns = turns(EDGE_TURN_MAX);
        let now = Instant::now();
        turns.takes_one_more(now);
        let leaver = turns.line_up(Waker::noop());
        let stays = turns.line_up(Waker::noop());
        assert!(turns.leave(leaver).is_some());
        assert_eq!(turns.next(now).len(), 1);
        assert!(turns.has_let_in(stays));
        assert!(turns.leave(stays).is_none(), "it is in already");
    }

    /// A clock that goes backwards, or stands still, or jumps.
    #[test]
    fn no_clock_makes_a_turn_without_an_end() {
        let mut turns = turns(Duration::ZERO);
        let now = Instant::now() + Duration::from_secs(1000);
        for moment in [now, now - Duration::from_secs(500), now] {
            turns.takes_one_more(moment);
            turns.line_up(Waker::noop());
            assert!(!turns.next(moment).is_empty());
            assert!(turns.usual >= COST_MIN);
        }
    }

    /// Spends the time of a turn on this thread.
    fn keep_busy() {
        let began = Instant::now();
        while began.elapsed() < EDGE_TURN_MAX {
            std::hint::spin_loop();
        }
    }

    fn on_the_edge(work: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.spawn(deliver());
        runtime.block_on(async {
            // It has begun to end turns once this is over.
            yield_now().await;
            LocalSet::new().run_until(work).await;
        });
    }

    /// Each keeps the thread for a whole turn: without turns all of them come before the other task does.
    #[test]
    fn something_else_comes_between_requests_that_keep_the_thread() {
        const REQUESTS: usize = 8;
        on_the_edge(async {
            let (done, seen) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(REQUESTS)));
            let mut requests = JoinSet::new();
            for _ in 0..REQUESTS {
                let done = Rc::clone(&done);
                requests.spawn_local(async move {
                    Turn::wait().await;
                    keep_busy();
                    done.set(done.get() + 1);
                });
            }
            let (count, at) = (Rc::clone(&done), Rc::clone(&seen));
            let other = spawn_local(async move { at.set(count.get()) });
            other.await.unwrap();
            assert!(seen.get() <= 2, "after {} requests", seen.get());
            requests.join_all().await;
            assert_eq!(done.get(), REQUESTS);
        });
    }

    /// Turns of the thread that was there before are not taken for those of the next one.
    #[test]
    fn a_thread_that_ends_turns_again_leaves_nobody_in_line() {
        for _ in 0..2 {
            on_the_edge(async {
                let mut requests = JoinSet::new();
                for _ in 0..3 {
                    requests.spawn_local(async {
                        Turn::wait().await;
                        keep_busy();
                    });
                }
                requests.join_all().await;
                // One turn is left open as the thread stops.
                Turn::wait().await;
            });
        }
    }

    #[test]
    fn a_thread_that_stops_to_end_turns_lets_everybody_in() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        let delivering = runtime.spawn(deliver());
        runtime.block_on(async {
            yield_now().await;
            let mut requests = JoinSet::new();
            for _ in 0..4 {
                requests.spawn(async {
                    let turn = Turn::wait().await;
                    keep_busy();
                    turn.number
                });
            }
            delivering.abort();
            assert_eq!(requests.join_all().await.len(), 4);
            TURNS.with_borrow(|turns| assert!(turns.line.is_empty() && turns.ends.is_none()));
        });
    }

    #[test]
    fn a_request_that_waited_for_something_else_waits_for_a_turn_again() {
        on_the_edge(async {
            let mut turn = Turn::wait().await;
            let first = turn.number;
            turn.renew().await;
            assert_eq!(turn.number, first, "it is the same turn still");
            while TURNS.with_borrow(|turns| turns.number == first) {
                yield_now().await;
            }
            turn.renew().await;
            assert!(turn.number > first);
        });
    }
}

//! Wrong keys: who sends one after the other waits for each answer, and the log says so once a second.
//!
//! Clients are told apart by address, which many may share: so only what opens nothing is counted, and a right key is answered at
//! once whatever its neighbours send. A request without any key, or with a token that was good until lately, guesses nothing.
//!
//! Threads: edge and control. Not here: whether a key is right (`auth`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::{
    LOG_WINDOW, WRONG_KEY_CLIENTS_MAX, WRONG_KEY_DELAY, WRONG_KEYS_FREE, WRONG_KEYS_WAITING_MAX,
};

/// A client as far as it can be told from others: an address, of IPv6 the network of 64 bits, which one client has as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// The client at this address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self(match address.ip().to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address => address,
        })
    }

    /// The address as a key of the client.
    pub(super) fn key(self) -> String {
        self.0.to_string()
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(self) -> bool {
        self.0.is_loopback()
    }
}

/// The way in which a wrong key is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongKey {
    /// It is wrong; the client has waited for this answer where it must.
    Unauthorized,
    /// So many answers to this client wait already that this one must not.
    TooMany,
}

/// Wrong keys of late, by client. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct WrongKeys(Arc<Mutex<Table>>);

impl WrongKeys {
    /// Counts a wrong key, and holds its answer back where there were many.
    pub async fn hold(&self, client: Peer) -> WrongKey {
        let step = self.count(client);
        match step {
            Step::Answer => WrongKey::Unauthorized,
            Step::Refuse => WrongKey::TooMany,
            Step::Wait(who) => {
                // Also when the client leaves meanwhile.
                let _waiting = Waiting { keys: self, who };
                tokio::time::sleep(WRONG_KEY_DELAY).await;
                WrongKey::Unauthorized
            }
        }
    }

    fn count(&self, client: Peer) -> Step {
        let mut table = self.lock();
        let step = table.wrong(client, Instant::now());
        if table.tally.add(client, step) {
            let keys = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LOG_WINDOW).await;
                let tally = std::mem::take(&mut keys.lock().tally);
                tally.tell();
            });
        }
        step
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer that waits.
struct Waiting<'a> {
    keys: &'a WrongKeys,
    who: Option<Peer>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.keys.lock().waited(self.who);
    }
}

/// Wrong keys that the log has not told of yet.
#[derive(Debug, Default)]
struct Tally {
    tries: u64,
    delayed: u64,
    refused: u64,
    last: Option<Peer>,
}

impl Tally {
    /// Adds one; whether it is the first.
    fn add(&mut self, client: Peer, step: Step) -> bool {
        self.tries += 1;
        self.delayed += u64::from(matches!(step, Step::Wait(_)));
        self.refused += u64::from(step == Step::Refuse);
        self.last.replace(client).is_none()
    }

    fn tell(&self) {
        let last = self.last.map(|client| client.0.to_string());
        tracing::warn!(
            tries = self.tries,
            delayed = self.delayed,
            refused = self.refused,
            last_client = last,
            "keys that open nothing were sent"
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Answer,
    /// The one for whom the wait counts; none for those who have no place in the table.
    Wait(Option<Peer>),
    Refuse,
}

/// The clients. Pure: the time is an argument.
#[derive(Debug, Default)]
struct Table {
    clients: HashMap<Peer, Record>,
    /// All who have no place of their own.
    others: Record,
    /// When places were last looked for in vain.
    full_since: Option<Instant>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Record {
    /// The moment at which all is forgotten: each wrong key moves it on by the delay.
    clear_at: Option<Instant>,
    waiting: u32,
}

impl Table {
    fn wrong(&mut self, client: Peer, now: Instant) -> Step {
        if self.has_place(client, now) {
            let record = self.clients.entry(client).or_default();
            record.wrong(Some(client), now)
        } else {
            self.others.wrong(None, now)
        }
    }

    /// Whether the client has a place in the table or can have one. Places are looked for at most once in a while, so that an attack
    /// from many addresses does not cost a look at all of them each time.
    fn has_place(&mut self, client: Peer, now: Instant) -> bool {
        if self.clients.len() < WRONG_KEY_CLIENTS_MAX || self.clients.contains_key(&client) {
            return true;
        }
        let lately = |since: Instant| now.saturating_duration_since(since) < WRONG_KEY_DELAY;
        if self.full_since.is_some_and(lately) {
            return false;
        }
        self.clients.retain(|_, record| !record.is_clear(now));
        let is_full = self.clients.len() >= WRONG_KEY_CLIENTS_MAX;
        self.full_since = is_full.then_some(now);
        !is_full
    }

    fn waited(&mut self, who: Option<Peer>) {
        let record = match who {
            Some(client) => self.clients.get_mut(&client),
            None => Some(&mut self.others),
        };
        // One who waits keeps the place.
        let record = record.expect("who waits has a record");
        record.waiting -= 1;
    }
}

impl Record {
    fn wrong(&mut self, who: Option<Peer>, now: Instant) -> Step {
        let clear_at = self.clear_at.map_or(now, |at| at.max(now)) + WRONG_KEY_DELAY;
        if clear_at.saturating_duration_since(now) <= WRONG_KEY_DELAY * WRONG_KEYS_FREE {
            self.clear_at = Some(clear_at);
            return Step::Answer;
        }
        if self.waiting >= WRONG_KEYS_WAITING_MAX {
            return Step::Refuse;
        }
        self.waiting += 1;
        Step::Wait(who)
    }

    fn is_clear(&self, now: Instant) -> bool {
        self.waiting == 0 && self.clear_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn client(address: &str) -> Peer {
        Peer::at(SocketAddr::new(address.parse().unwrap(), 1))
    }

    fn numbered(number: u32) -> Peer {
        Peer::at(SocketAddr::new(Ipv4Addr::from_bits(number).into(), 1))
    }

    #[test]
    fn the_first_wrong_keys_are_answered_at_once_and_those_after_them_wait() {
        let (mut table, now) = (Table::default(), Instant::now());
        let (one, other) = (client("10.0.0.1"), client("10.0.0.2"));
        for _ in 0..WRONG_KEYS_FREE {
            assert_eq!(table.wrong(one, now), Step::Answer);
        }
        assert_eq!(table.wrong(one, now), Step::Wait(Some(one)));
        assert_eq!(table.wrong(other, now), Step::Answer, "it is another");
        // One more for each delay that passes.
        let later = now + WRONG_KEY_DELAY;
        assert_eq!(table.wrong(one, later), Step::Answer);
        assert_eq!(table.wrong(one, later), Step::Wait(Some(one)));
        let much_later = now + WRONG_KEY_DELAY * 100;
        for _ in 0..WRONG_KEYS_FREE {
            assert_eq!(table.wrong(one, much_later), Step::Answer);
        }
    }

    #[test]
    fn of_one_client_only_so_many_answers_wait_at_once() {
        let (mut table, now) = (Table::default(), Instant::now());
        let one = client("10.0.0.1");
        for _ in 0..WRONG_KEYS_FREE {
            table.wrong(one, now);
        }
        for _ in 0..WRONG_KEYS_WAITING_MAX {
            assert_eq!(table.wrong(one, now), Step::Wait(Some(one)));
        }
        assert_eq!(table.wrong(one, now), Step::Refuse);
        table.waited(Some(one));
        assert_eq!(table.wrong(one, now), Step::Wait(Some(one)));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_a_mapped_address_its_own() {
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::2"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("::1"), client("::2"), "this machine is its own");
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory_and_gets_no_more_tries_than_one() {
        let (mut table, now) = (Table::default(), Instant::now());
        let places = u32::try_from(WRONG_KEY_CLIENTS_MAX).unwrap();
        for number in 0..places {
            assert_eq!(table.wrong(numbered(number), now), Step::Answer);
        }
        let beyond: Vec<_> = (places..places + 1000)
            .map(|number| table.wrong(numbered(number), now))
            .collect();
        assert_eq!(table.clients.len(), WRONG_KEY_CLIENTS_MAX);
        let free = usize::try_from(WRONG_KEYS_FREE).unwrap();
        assert!(beyond[..free].iter().all(|step| *step == Step::Answer));
        assert_eq!(beyond[free], Step::Wait(None));
        assert_eq!(beyond.last(), Some(&Step::Refuse));
        // Who has not tried for a while makes room.
        let later = now + WRONG_KEY_DELAY * 2;
        assert_eq!(table.wrong(numbered(places), later), Step::Answer);
        assert_eq!(table.clients.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_waits_comes_after_the_delay_and_one_that_is_given_up_leaves_its_place()
    {
        let keys = WrongKeys::default();
        let one = client("10.0.0.1");
        for _ in 0..WRONG_KEYS_FREE {
            assert_eq!(keys.hold(one).await, WrongKey::Unauthorized);
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(keys.hold(one).await, WrongKey::Unauthorized);
        assert!(begun.elapsed() >= WRONG_KEY_DELAY);
        let gone = tokio::time::timeout(Duration::from_millis(1), keys.hold(one)).await;
        assert!(gone.is_err(), "it waits");
        assert_eq!(keys.lock().clients[&one].waiting, 0);
        // What was sent meanwhile has been told of, and nothing is left over.
        tokio::time::sleep(LOG_WINDOW * 2).await;
        assert_eq!(keys.lock().tally.tries, 0);
    }
}

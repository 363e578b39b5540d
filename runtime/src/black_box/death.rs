//! The last words: how the process before has died, and who is to blame. Pure but for the reading of the page.
//!
//! Blame needs proof, for it has consequences: a fatal signal that was a fault of the process itself, in a thread that computed for
//! a lane. A kill from outside, a power cut, or a fault in a thread that has nothing to do with models blames nobody; it is
//! told with all that ran.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::black_box::page::{Page, text_of};
use crate::black_box::signals::name_of;
use crate::black_box::slot::Doing;

/// The way in which a process has ended that did not end in good order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDeath {
    /// The process.
    pub pid: u32,
    /// The time at which it began.
    pub started: Timestamp,
    /// How it died.
    pub cause: Cause,
    /// Lanes that did something at that time.
    pub ran: Vec<Trace>,
    /// Those of them that may have killed it; with more than one it was one of them. None where nobody can be blamed.
    pub suspects: Vec<Trace>,
}

/// The cause of a death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A thread of it got a fatal signal.
    Signal {
        /// `SIGFPE` and the like.
        signal: &'static str,
        /// The process that sent it; nobody where it was a fault of the thread, or the process's own (`abort`).
        sender: Option<u32>,
        /// The name of the thread.
        thread: String,
    },
    /// It ended without a word: SIGKILL, as when memory runs out.
    Silence,
    /// It ended without a word, and the machine has started anew since.
    MachineDown,
}

/// One lane in the black box.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trace {
    /// `endpoint/deployment`.
    pub label: String,
    /// The number of the lane, which is the end of its thread's name.
    pub lane: String,
    /// The digest of its model.
    pub digest: String,
    /// Whether it was loading, and not yet answering requests.
    pub loading: bool,
}

/// What the page says of the thread that died.
struct Dying {
    thread: String,
    /// One more than the number of its slot; 0: none.
    slot: u32,
}

/// Lanes that did something, by the numbers of their slots from 1 on.
type Busy = Vec<(u32, Trace)>;

impl LastDeath {
    /// Reads a page that was not closed. `boot` is the one of the machine now.
    pub(super) fn read(page: &Page, boot: u128) -> Self {
        let head = &page.head;
        let busy = busy(page);
        let signal = head.signal.load(Ordering::Acquire);
        let signal = i32::try_from(signal).ok().and_then(name_of);
        let dying = Dying {
            thread: text_of(&head.thread),
            slot: head.slot.load(Ordering::Relaxed),
        };
        let sender = Some(head.sender.load(Ordering::Relaxed)).filter(|pid| *pid != 0);
        let suspects = match signal {
            Some(_) if sender.is_none() => suspects(&dying, &busy),
            _ => Vec::new(),
        };
        let cause = match signal {
            Some(signal) => Cause::Signal {
                signal,
                sender,
                thread: dying.thread,
            },
            None if page.boot() != boot => Cause::MachineDown,
            None => Cause::Silence,
        };
        let started = i64::try_from(head.started.load(Ordering::Relaxed)).ok();
        let started = started.and_then(|second| Timestamp::from_second(second).ok());
        Self {
            pid: head.pid.load(Ordering::Relaxed),
            started: started.unwrap_or_default(),
            cause,
            ran: busy.into_iter().map(|(_, trace)| trace).collect(),
            suspects,
        }
    }
}

fn busy(page: &Page) -> Busy {
    let slots = (1..).zip(&page.slots);
    let dying = page.head.slot.load(Ordering::Relaxed);
    let busy = slots.filter_map(|(number, words)| {
        let doing = Doing::of(words.doing.load(Ordering::Acquire));
        // Loading may be begun once more while the first still goes on: then one of them has ended what the other does.
        let doing = doing.or((number == dying).then_some(Doing::Loading))?;
        let text = text_of(&words.text);
        let mut lines = text.split('\n').map(str::to_owned);
        let trace = Trace {
            label: lines.next()?,
            lane: lines.next()?,
            digest: lines.next()?,
            loading: doing == Doing::Loading,
        };
        (words.taken.load(Ordering::Relaxed) == 1).then_some((number, trace))
    });
    busy.collect()
}

/// The lanes that the thread which died may have computed for.
fn suspects(dying: &Dying, busy: &Busy) -> Vec<Trace> {
    let traces = |is_meant: &dyn Fn(&(u32, Trace)) -> bool| -> Vec<Trace> {
        let meant = busy.iter().filter(|one| is_meant(one));
        meant.map(|(_, trace)| trace.clone()).collect()
    };
    let own = traces(&|(number, _)| *number == dying.slot);
    if !own.is_empty() {
        return own;
    }
    // A thread of ONNX Runtime that helps a lane has the lane's number in its name, and a number of its own: `blue#3.0.1`.
    if let Some((_, number)) = dying.thread.rsplit_once('#') {
        let lane = format!("#{number}");
        let helped = traces(&|(_, one)| {
            let rest = lane.strip_prefix(&one.lane);
            !one.lane.is_empty()
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if !helped.is_empty() {
            return helped;
        }
    } else if is_our_own(&dying.thread) {
        return Vec::new();
    }
    traces(&|_| true)
}

/// Whether the name is one of the threads that compute for no lane unless they say so.
fn is_our_own(thread: &str) -> bool {
    thread.starts_with("serin") || ["signals", "stdin"].contains(&thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(label: &str, lane: &str) -> Trace {
        Trace {
            label: label.to_owned(),
            lane: lane.to_owned(),
            digest: "abc".to_owned(),
            loading: false,
        }
    }

    /// The labels of the suspects, where lanes #1.0 and #1.1 of one deployment and #12.0 of another are busy in slots 1, 5 and 9.
    #[track_caller]
    fn check(thread: &str, slot: u32, expected: &[&str]) {
        let busy = vec![
            (1, trace("iris/blue", "#1.0")),
            (5, trace("iris/blue", "#1.1")),
            (9, trace("other/green", "#12.0")),
        ];
        let dying = Dying {
            thread: thread.to_owned(),
            slot,
        };
        let suspects = suspects(&dying, &busy);
        let lanes: Vec<_> = suspects.iter().map(|one| one.lane.as_str()).collect();
        assert_eq!(lanes, expected, "{thread:?} {slot}");
    }

    #[test]
    fn the_lane_that_the_thread_was_busy_for_is_the_only_suspect() {
        check("other/gree#12.0", 9, &["#12.0"]);
        // An I/O thread that executes inline.
        check("serin-edge-0", 5, &["#1.1"]);
    }

    #[test]
    fn a_helping_thread_blames_the_lane_whose_number_it_bears_and_no_other() {
        check("iris/blue#1.1.3", 0, &["#1.1"]);
        check("other/gr#12.0.1", 0, &["#12.0"]);
        check("iris/blue#1.0.1", 0, &["#1.0"]);
    }

    #[test]
    fn a_thread_that_nobody_knows_makes_all_that_ran_suspects() {
        let all = ["#1.0", "#1.1", "#12.0"];
        check("pool", 0, &all);
        // A lane that is idle, as far as it says.
        check("iris/blue#2.0.1", 0, &all);
        check("serins/blue#9.0", 0, &all);
        check("", 0, &all);
    }

    #[test]
    fn a_thread_of_the_server_s_own_blames_nobody() {
        for thread in ["serin-edge-0", "serin-control", "serin", "signals"] {
            check(thread, 0, &[]);
        }
        // A slot that is not busy.
        check("serin-edge-0", 4, &[]);
    }
}

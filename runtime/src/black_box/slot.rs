//! A slot: the place of one lane in the black box, and the mark of the thread that is busy for it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use crate::black_box::page::{Page, SlotWords, put_text};

thread_local! {
    /// One more than the number of the slot for which this thread is busy; 0: for none. A plain word, so that a signal handler may
    /// read it.
    static BUSY_FOR: Cell<u32> = const { Cell::new(0) };
}

/// The work of a lane, as far as it can kill the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It loads the model, or runs it before it takes requests.
    Loading = 1,
    /// It answers requests.
    Running = 2,
}

impl Doing {
    pub(super) fn of(word: u32) -> Option<Self> {
        let all = [Self::Loading, Self::Running];
        all.into_iter().find(|one| *one as u32 == word)
    }
}

/// The place of a lane in the black box, from before its model is loaded until after it is gone; given back on drop. Without a
/// black box, or when all slots are taken, it does nothing.
#[derive(Debug)]
pub struct Slot(Option<Taken>);

#[derive(Debug, Clone, Copy)]
struct Taken {
    words: &'static SlotWords,
    number: u32,
}

impl Slot {
    /// A slot without a black box.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Takes a free slot of the page, and writes the name there.
    pub(super) fn take(page: &'static Page, name: &str) -> Self {
        let free = (1_u32..).zip(&page.slots).find(|(_, words)| {
            let taken = words
                .taken
                // Acquire, with the Release of the drop: its last words come before ours.
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            taken.is_ok()
        });
        let Some((number, words)) = free else {
            tracing::warn!(
                name,
                "the black box has no room for a lane: were it to kill the server, nobody would know"
            );
            return Self::none();
        };
        put_text(&words.text, name);
        Self(Some(Taken { words, number }))
    }

    /// The lane begins to do something on the calling thread, and ends when the guard is dropped, also by a panic.
    ///
    /// Around each call into ONNX Runtime that computes: loading, warming up, every run, whatever thread it is on. Not around
    /// waiting, and not around work that is done in another process. A thread is busy for one lane at a time.
    #[must_use = "dropped at once, it ends at once"]
    pub fn busy(&self, doing: Doing) -> Busy {
        if let Some(Taken { words, number }) = self.0 {
            BUSY_FOR.set(number);
            // Release: the name, and the mark of the thread, are there before. On x86-64 it costs what a plain store does.
            words.doing.store(doing as u32, Ordering::Release);
        }
        Busy {
            taken: self.0,
            on_this_thread: PhantomData,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(Taken { words, .. }) = self.0 {
            words.doing.store(0, Ordering::Relaxed);
            words.taken.store(0, Ordering::Release);
        }
    }
}

/// A lane at work on this thread.
#[derive(Debug)]
pub struct Busy {
    taken: Option<Taken>,
    /// It must be dropped on the thread that it marks.
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(Taken { words, .. }) = self.taken {
            words.doing.store(0, Ordering::Release);
            BUSY_FOR.set(0);
        }
    }
}

/// One more than the number of the slot for which the calling thread is busy; 0: for none. Safe within a signal handler.
pub(super) fn busy_for() -> u32 {
    BUSY_FOR.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::black_box::page::text_of;
    use crate::config::BLACK_BOX_SLOTS;

    fn page() -> &'static Page {
        let file = tempfile::tempfile().unwrap();
        file.set_len(Page::BYTES as u64).unwrap();
        Page::map(&file).unwrap()
    }

    fn doing(page: &Page, slot: usize) -> Option<Doing> {
        Doing::of(page.slots[slot].doing.load(Ordering::Relaxed))
    }

    #[test]
    fn a_slot_says_what_its_lane_does_and_which_thread_is_busy_for_it() {
        let page = page();
        let (first, second) = (Slot::take(page, "a/b"), Slot::take(page, "c/d"));
        assert_eq!((doing(page, 0), doing(page, 1)), (None, None));
        let busy = second.busy(Doing::Running);
        assert_eq!(
            (doing(page, 0), doing(page, 1)),
            (None, Some(Doing::Running))
        );
        assert_eq!(busy_for(), 2);
        let elsewhere = std::thread::scope(|scope| scope.spawn(busy_for).join().unwrap());
        assert_eq!(elsewhere, 0);
        drop(busy);
        assert_eq!((doing(page, 1), busy_for()), (None, 0));
        drop(first);
        assert_eq!(text_of(&page.slots[1].text), "c/d");
    }

    #[test]
    fn a_panic_of_a_run_ends_it() {
        let page = page();
        let slot = Slot::take(page, "a/b");
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _busy = slot.busy(Doing::Loading);
            assert_eq!(doing(page, 0), Some(Doing::Loading));
            panic!("planned");
        }));
        assert!(ran.is_err());
        assert_eq!((doing(page, 0), busy_for()), (None, 0));
    }

    #[test]
    fn a_slot_is_given_back_and_one_too_many_does_nothing() {
        let page = page();
        let mut all: Vec<_> = (0..BLACK_BOX_SLOTS)
            .map(|number| Slot::take(page, &number.to_string()))
            .collect();
        let beyond = Slot::take(page, "beyond");
        drop(beyond.busy(Doing::Running));
        assert_eq!(busy_for(), 0);
        drop(all.swap_remove(7));
        let again = Slot::take(page, "again");
        assert_eq!(text_of(&page.slots[7].text), "again");
        drop(again.busy(Doing::Running));
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_touches_no_neighbour() {
        let page = page();
        let _first = Slot::take(page, &"x".repeat(1000));
        assert_eq!(text_of(&page.slots[0].text).len(), page.slots[0].text.len());
        assert_eq!(text_of(&page.slots[1].text), "");
        assert_eq!(page.slots[1].taken.load(Ordering::Relaxed), 0);
    }
}

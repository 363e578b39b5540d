//! The page: the layout of the file, and its mapping. Only words that any bits are valid for, each read and written whole.

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::config::BLACK_BOX_SLOTS;

/// The first word of a file of this layout; another layout gets another one.
const MAGIC: u64 = u64::from_le_bytes(*b"serinbb1");

/// Bytes of a name: `endpoint/deployment`, the number of the lane, the digest of the model, each on a line.
pub(super) const TEXT_BYTES: usize = 176;

/// Bytes that the kernel keeps of a thread's name.
pub(super) const THREAD_BYTES: usize = 16;

/// The content of the file. Zeros are an empty one.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Page {
    pub(super) head: Head,
    pub(super) slots: [SlotWords; BLACK_BOX_SLOTS],
}

/// The process that writes, and how it died.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Head {
    magic: AtomicU64,
    /// Whether the process runs, or has died without closing.
    open: AtomicU32,
    pub(super) pid: AtomicU32,
    /// Seconds since 1970.
    pub(super) started: AtomicU64,
    /// The boot of the machine, in two halves.
    pub(super) boot: [AtomicU64; 2],
    /// A thread has got a fatal signal and writes the rest. Later ones write nothing.
    pub(super) claimed: AtomicU32,
    /// The number of the fatal signal, written last; 0: none.
    pub(super) signal: AtomicU32,
    /// The process that sent it; 0: nobody did, it is a fault of the thread.
    pub(super) sender: AtomicU32,
    /// One more than the number of the slot in which the thread was busy; 0: in none.
    pub(super) slot: AtomicU32,
    pub(super) thread: [AtomicU8; THREAD_BYTES],
}

/// One lane.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct SlotWords {
    /// Whether the slot belongs to a lane.
    pub(super) taken: AtomicU32,
    /// What the lane does; 0: nothing.
    pub(super) doing: AtomicU32,
    pub(super) text: [AtomicU8; TEXT_BYTES],
}

impl Page {
    /// The bytes of the file.
    pub(super) const BYTES: usize = size_of::<Self>();

    /// Maps a file of this size for the rest of the process's life: a server has one.
    pub(super) fn map(file: &File) -> io::Result<&'static Self> {
        if file.metadata()?.len() != Self::BYTES as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (rights, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        #[expect(unsafe_code, reason = "mapping a file has no safe form")]
        // SAFETY: a new mapping where the kernel likes, so it overlaps nothing of ours. It is never unmapped, so the reference
        // lives as long as the process. It is as long as the file, starts at a page of memory, and is made of atomic integers
        // alone, for which any bits are valid and which others may change at any time.
        let page = unsafe {
            let at = mmap(ptr::null_mut(), Self::BYTES, rights, shared, file, 0)?;
            &*at.cast::<Self>()
        };
        Ok(page)
    }

    /// Whether a process has opened it and not closed it.
    pub(super) fn is_open(&self) -> bool {
        let (magic, open) = (&self.head.magic, &self.head.open);
        magic.load(Ordering::Acquire) == MAGIC && open.load(Ordering::Acquire) == 1
    }

    pub(super) fn close(&self) {
        self.head.open.store(0, Ordering::Release);
    }

    /// Forgets all that is in it, and opens it for this process.
    pub(super) fn reopen(&self, started: u64, boot: u128) {
        let head = &self.head;
        head.open.store(0, Ordering::Release);
        // Relaxed: nobody else reads before it is open.
        for slot in self.slots.iter().filter(|slot| slot.is_used()) {
            slot.doing.store(0, Ordering::Relaxed);
            slot.taken.store(0, Ordering::Relaxed);
        }
        for word in [&head.claimed, &head.signal, &head.sender, &head.slot] {
            word.store(0, Ordering::Relaxed);
        }
        put_text(&head.thread, "");
        head.pid.store(std::process::id(), Ordering::Relaxed);
        head.started.store(started, Ordering::Relaxed);
        let bytes = boot.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        for (word, half) in head.boot.iter().zip([low, high]) {
            let half = half.try_into().expect("half of 16 bytes");
            word.store(u64::from_le_bytes(half), Ordering::Relaxed);
        }
        head.magic.store(MAGIC, Ordering::Relaxed);
        head.open.store(1, Ordering::Release);
    }

    /// The boot of the machine in which it was opened.
    pub(super) fn boot(&self) -> u128 {
        let [low, high] = &self.head.boot;
        let half = |word: &AtomicU64| u128::from(word.load(Ordering::Relaxed));
        half(low) | half(high) << 64
    }
}

impl SlotWords {
    fn is_used(&self) -> bool {
        self.taken.load(Ordering::Relaxed) != 0 || self.doing.load(Ordering::Relaxed) != 0
    }
}

/// Writes as much of a text as there is room for, and zeros behind it.
pub(super) fn put_text(room: &[AtomicU8], text: &str) {
    let bytes = text.bytes().chain(std::iter::repeat(0));
    for (place, byte) in room.iter().zip(bytes) {
        place.store(byte, Ordering::Relaxed);
    }
}

/// The text up to the first zero. Whatever is no UTF-8 is shown as such: the file may be damaged.
pub(super) fn text_of(room: &[AtomicU8]) -> String {
    let bytes = room.iter().map(|place| place.load(Ordering::Relaxed));
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

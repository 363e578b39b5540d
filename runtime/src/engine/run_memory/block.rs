//! A block of memory: a header, and behind it what ONNX Runtime sees.
//!
//! Threads: any. Not here: whose it is (`RunMemory`), which are kept (`pool`).

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::machine_memory;

/// Bytes before each block, and the alignment of both: a line of the cache, which is what the kernels like best.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes behind each block that some kernels read beyond the end of a tensor.
const OVERRUN_BYTES: usize = 64;
/// Blocks from here on are mapped each on their own.
pub(super) const MAPPED_BYTES_MIN: usize = 1 << 20;
/// Blocks from here on are asked of the machine one by one, and touched at once; smaller ones are asked for in sums of as much.
pub(super) const ASKED_BYTES_MIN: usize = 4 << 20;

/// The beginning of a block; what ONNX Runtime sees follows.
#[repr(C, align(64))]
struct Header {
    /// What whoever lends the block finds again when it comes back.
    owner: *const (),
    /// All of the block, this header included.
    bytes: usize,
    /// Taken of the share.
    counted: u64,
    /// The last run that had it.
    run: u64,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// A block that nobody uses, or that is on its way to who asked.
pub(super) struct Block(NonNull<Header>);

#[expect(
    unsafe_code,
    reason = "a block is a pointer, and moves between threads"
)]
// SAFETY: whoever has the value alone has the memory behind it.
unsafe impl Send for Block {}

/// The bytes of the block for what is asked: with its header, and rounded up by an eighth at most, so that sizes that are nearly
/// the same share blocks.
pub(super) fn block_bytes(asked: usize) -> Option<usize> {
    let bytes = asked.checked_add(HEADER_BYTES + OVERRUN_BYTES)?;
    let step = (bytes.checked_next_power_of_two()? / 16).max(HEADER_BYTES);
    let rounded = bytes.checked_next_multiple_of(step)?;
    isize::try_from(rounded).is_ok().then_some(rounded)
}

/// The same without room for other sizes: weights stay as long as their session, and are never used for anything else.
pub(super) fn exact_bytes(asked: usize) -> Option<usize> {
    let bytes = asked.checked_add(HEADER_BYTES + OVERRUN_BYTES)?;
    let rounded = bytes.checked_next_multiple_of(HEADER_BYTES)?;
    isize::try_from(rounded).is_ok().then_some(rounded)
}

/// Bytes of small blocks since the machine was last asked.
static NOT_ASKED: AtomicU64 = AtomicU64::new(0);

impl Block {
    /// A block of the system; the bytes that there are where these are fewer.
    pub(super) fn new(bytes: usize) -> Result<Self, u64> {
        if bytes >= ASKED_BYTES_MIN {
            let granted = machine_memory::grant(bytes as u64)?;
            let block = Self::map(bytes).ok_or(0_u64)?;
            block.touch();
            drop(granted);
            return Ok(block);
        }
        // Relaxed: how often the machine is asked is no matter of order.
        let not_asked = NOT_ASKED.fetch_add(bytes as u64, Ordering::Relaxed);
        if not_asked >= ASKED_BYTES_MIN as u64 {
            NOT_ASKED.store(0, Ordering::Relaxed);
            drop(machine_memory::grant(bytes as u64)?);
        }
        let block = if bytes >= MAPPED_BYTES_MIN {
            Self::map(bytes)
        } else {
            Self::of_heap(bytes)
        };
        block.ok_or(0)
    }

    #[expect(unsafe_code, reason = "memory by the page has no safe form")]
    fn map(bytes: usize) -> Option<Self> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that anybody has.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), bytes, rights, kind, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        Self::begin(mapped.cast(), bytes)
    }

    #[expect(unsafe_code, reason = "memory of a size that is known at run time")]
    fn of_heap(bytes: usize) -> Option<Self> {
        // SAFETY: the layout is not of size 0: a header is in every block.
        let start = unsafe { std::alloc::alloc(layout(bytes)) };
        Self::begin(start.cast(), bytes)
    }

    #[expect(
        unsafe_code,
        reason = "the header lies in memory that was just allocated"
    )]
    fn begin(start: *mut Header, bytes: usize) -> Option<Self> {
        let start = NonNull::new(start)?;
        let header = Header {
            owner: ptr::null(),
            bytes,
            counted: 0,
            run: 0,
        };
        // SAFETY: the block is new, of at least a header's size, and aligned: to a page, or by its layout.
        unsafe { start.write(header) };
        Some(Self(start))
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.0.addr().get()
    }

    #[expect(unsafe_code, reason = "the header lies in the block")]
    pub(super) fn bytes(&self) -> usize {
        // SAFETY: a block that is not lent has its header, which `begin` wrote.
        unsafe { self.0.as_ref() }.bytes
    }

    #[expect(unsafe_code, reason = "the header lies in the block")]
    pub(super) fn last_run(&self) -> u64 {
        // SAFETY: as in `bytes`.
        unsafe { self.0.as_ref() }.run
    }

    #[expect(unsafe_code, reason = "the header lies in the block")]
    pub(super) fn used_in(&mut self, run: u64) {
        // SAFETY: as in `bytes`, and nobody else has the block.
        unsafe { self.0.as_mut() }.run = run;
    }

    /// Has the kernel put memory behind all pages, so that they count from now on. It is quicker than page by page.
    #[expect(unsafe_code, reason = "no safe form gives advice about memory")]
    fn touch(&self) {
        let (start, bytes) = (self.0.as_ptr(), self.bytes());
        // SAFETY: the range is the block's own mapping, which nobody else has; its content stays.
        let done = unsafe { libc::madvise(start.cast(), bytes, libc::MADV_POPULATE_WRITE) } == 0;
        if !done {
            // A kernel before 5.14. The first page has the header already.
            for at in (rustix::param::page_size()..bytes).step_by(rustix::param::page_size()) {
                // SAFETY: within the block, which is mapped, writable, and nobody else's.
                unsafe { start.cast::<u8>().add(at).write_volatile(0) };
            }
        }
    }

    /// Hands the block to ONNX Runtime: the address behind the header.
    #[expect(unsafe_code, reason = "the header lies in the block")]
    pub(super) fn lend(self, owner: *const (), counted: u64) -> NonNull<u8> {
        let Self(mut header) = self;
        // SAFETY: the block is ours alone until the address is given away, and longer than its header.
        unsafe {
            let header = header.as_mut();
            header.owner = owner;
            header.counted = counted;
        }
        // SAFETY: as above; the end of the header is within the block.
        unsafe { header.add(1) }.cast()
    }

    /// The block that was lent, its owner, and what it was counted as.
    ///
    /// # Safety
    ///
    /// [`Block::lend`] gave the address, and nobody uses the memory any more.
    #[expect(unsafe_code, reason = "the header lies before the address")]
    pub(super) unsafe fn take_back(lent: NonNull<u8>) -> (Self, *const (), u64) {
        // SAFETY: the address stands right behind a header, as the caller promises.
        unsafe {
            let header = lent.cast::<Header>().sub(1);
            let read = header.as_ref();
            (Self(header), read.owner, read.counted)
        }
    }

    /// Gives the block back to the system.
    #[expect(unsafe_code, reason = "memory that was allocated is freed")]
    pub(super) fn release(self) {
        let (start, bytes) = (self.0.as_ptr(), self.bytes());
        if bytes >= MAPPED_BYTES_MIN {
            // SAFETY: `map` made it with this size, and nobody has the block any more.
            let refused = unsafe { libc::munmap(start.cast(), bytes) } != 0;
            debug_assert!(!refused, "a mapping can be ended");
        } else {
            // SAFETY: `of_heap` made it with this layout, and nobody has the block any more.
            unsafe { std::alloc::dealloc(start.cast(), layout(bytes)) };
        }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, HEADER_BYTES)
        .expect("rounded to the alignment, below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    #[test]
    fn blocks_are_an_eighth_larger_than_what_was_asked_for_at_most() {
        for asked in (1..100_000).chain([MB - 1, MB, 5 * MB + 1, 1 << 40]) {
            let bytes = block_bytes(asked).unwrap();
            let least = asked + HEADER_BYTES + OVERRUN_BYTES;
            assert!(
                bytes >= least && bytes.is_multiple_of(HEADER_BYTES),
                "{asked}"
            );
            assert!(
                bytes <= least + (least / 8).max(HEADER_BYTES),
                "{asked}: {bytes}"
            );
        }
    }
}

//! Memory of runs: what a session allocates is counted, bounded, kept between runs as far as usual runs need it, and given back.
//!
//! ONNX Runtime asks one allocator for the tensors and the scratch memory of all sessions; which of them asks is noted for the
//! thread ([`RunMemory::within`]). A run that asks for more than its instance may take, or than the machine has, gets a C++
//! exception, as from ONNX Runtime's own allocators: that run fails, and nothing else. Freed blocks are kept for the next run;
//! after a run that was far larger than usual they go back to the system, and all but a little when no run comes for a while.
//!
//! Memory that kernels take from the C++ library on their own (lists of positions, texts) is not seen here.
//!
//! Threads: any, and `serin-memory`, which looks for memory that is kept and idle as long as some session keeps much. Not here: the names of ONNX Runtime's interface (`session`), what the machine has (`machine_memory`).

use std::alloc::Layout;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use serin_scorers::{ElementType, Signature, TensorSpec};

use crate::config::IDLE_MEMORY_KEPT;
use crate::engine::lock::lock;
use crate::engine::machine_memory;

/// Bytes before each block, and the alignment of both: a line of the cache, which is what the kernels like best.
const HEADER_BYTES: usize = 64;
/// Bytes behind each block that some kernels read beyond the end of a tensor.
const OVERRUN_BYTES: usize = 64;
/// Blocks from here on are mapped each on their own.
const MAPPED_BYTES_MIN: usize = 1 << 20;
/// Blocks from here on are asked of the machine one by one, and touched at once; smaller ones are asked for in sums of as much.
const ASKED_BYTES_MIN: usize = 4 << 20;
/// Kept for the next run in any case.
const KEPT_BYTES_MIN: usize = 1 << 20;
/// Memory from which on it is given back when no run comes for a while.
const IDLE_BYTES_MIN: usize = 8 << 20;
/// Of the difference to a smaller run, what is usual gives up one part in so many.
const USUAL_FALLS_BY: usize = 16;
/// Bytes of JSON that a byte of an output may become: a float of 4 bytes takes some 12.
const TEXT_BYTES_PER_BYTE: u64 = 3;

/// Bytes of tensors that a byte of a body may become: `1,` is 8 bytes of INT64, and `"",` a text of 24.
const BYTES_PER_TEXT_BYTE: u64 = 4;
const BYTES_PER_TEXT_BYTE_OF_TEXT: u64 = 8;
/// Bytes that even an empty text takes on its way to the model and back: a copy with a 0 at its end (16, and 32 of the heap), the
/// address of it (8), a string of C++ (32) and one of Rust (24).
const BYTES_PER_TEXT: u64 = 16 + 32 + 8 + 32 + 24;
/// Copies of a text on that way.
const COPIES_OF_TEXT: u64 = 3;

/// The memory that the runs of an instance may take together.
#[derive(Debug)]
pub(super) struct MemoryShare {
    bytes_max: u64,
    used: AtomicU64,
}

impl MemoryShare {
    /// A share of so many bytes; without a number only the machine is the bound.
    pub(super) fn new(bytes_max: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
        })
    }

    /// The number, where there is one.
    pub(super) fn bytes_max(&self) -> Option<u64> {
        Some(self.bytes_max).filter(|bytes| *bytes != u64::MAX)
    }

    /// Takes bytes of the share; the bytes that are left where these are fewer.
    fn take(&self, bytes: u64) -> Result<(), u64> {
        // Relaxed: the number guards nothing but itself.
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        taken
            .map(drop)
            .map_err(|used| self.bytes_max.saturating_sub(used))
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The reason why a run got no memory, with the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    asked: u64,
    left: u64,
    /// The share of the instance; nothing where it is the machine that has no more.
    share: Option<u64>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, left) = (in_words(self.asked), in_words(self.left));
        match self.share {
            Some(share) => write!(
                f,
                "the run asked for {asked}; {left} of the {} that the runs of this instance may take are left: send less in one \
                 request, or choose an instance type with more memory",
                in_words(share)
            ),
            None => write!(
                f,
                "the run asked for {asked}; {left} are left on this machine, or in the control group that the server is in: send \
                 less in one request, or give the server more memory"
            ),
        }
    }
}

fn in_words(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1_000_000_000 {
        (1_000_000_000, "GB")
    } else {
        (1_000_000, "MB")
    };
    // Tenths in whole numbers: no float holds every count of bytes.
    let tenths = bytes.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// The beginning of a block; what ONNX Runtime sees follows.
#[repr(C, align(64))]
struct Header {
    /// Counted by [`Arc`]: memory lives as long as its last block.
    owner: *const RunMemory,
    /// All of the block, this header included.
    bytes: usize,
    /// Taken of the share.
    counted: u64,
    /// The last run that had it.
    run: u64,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// A block that nobody uses, or that is on its way to who asked.
struct Block(NonNull<Header>);

#[expect(
    unsafe_code,
    reason = "a block is a pointer, and moves between threads"
)]
// SAFETY: whoever has the value alone has the memory behind it.
unsafe impl Send for Block {}

/// The memory of one session.
pub(super) struct RunMemory {
    share: Arc<MemoryShare>,
    pool: Mutex<Pool>,
}

impl fmt::Debug for RunMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunMemory")
    }
}

#[derive(Default)]
struct Pool {
    /// Free blocks by their bytes.
    free: BTreeMap<usize, Vec<Block>>,
    /// Bytes of all free blocks.
    kept: usize,
    /// Bytes of blocks that runs have now, and the most that the current run had.
    in_use: usize,
    peak: usize,
    /// Bytes that a run takes as a rule.
    usual: usize,
    running: bool,
    /// Runs so far.
    runs: u64,
    refused: Option<Refused>,
    /// The look for memory that is kept and idle has it in its list.
    watched: bool,
}

thread_local! {
    /// The memory of the session that this thread works for; null where it works for none.
    static CURRENT: Cell<*const RunMemory> = const { Cell::new(ptr::null()) };
}

/// Sets the thread's memory back to what it was.
struct Within(*const RunMemory);

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl RunMemory {
    /// Memory of a session of the instance with this share.
    pub(super) fn new(share: &Arc<MemoryShare>) -> Arc<Self> {
        Arc::new(Self {
            share: Arc::clone(share),
            pool: Mutex::default(),
        })
    }

    /// Whatever the calling thread allocates in `work` is this memory's.
    pub(super) fn within<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _back = Within(CURRENT.replace(Arc::as_ptr(self)));
        work()
    }

    /// One run, in the words of a refusal where it failed for want of memory.
    ///
    /// # Errors
    ///
    /// Those of the run, or [`Refused`] in their place.
    pub(super) fn run<T>(
        self: &Arc<Self>,
        run: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let began = self.begin();
        let outcome = self.within(run);
        let refused = lock(&self.pool).refused;
        drop(began);
        outcome.map_err(|words| refused.map_or(words, |refused| refused.to_string()))
    }

    fn begin(self: &Arc<Self>) -> Running<'_> {
        let mut pool = lock(&self.pool);
        pool.running = true;
        pool.runs += 1;
        pool.refused = None;
        pool.peak = pool.in_use;
        Running {
            memory: self,
            before: pool.in_use,
        }
    }

    /// Leave to make JSON of outputs of so many bytes, to be kept until it is made.
    ///
    /// # Errors
    ///
    /// [`Refused`] in words, where the machine has less than it may take.
    pub(super) fn room_for_text(
        &self,
        outputs: usize,
    ) -> Result<Option<machine_memory::Grant>, String> {
        let text = (outputs as u64).saturating_mul(TEXT_BYTES_PER_BYTE);
        if text < ASKED_BYTES_MIN as u64 {
            return Ok(None);
        }
        let refused = |left, share| Refused {
            asked: text,
            left,
            share,
        };
        // Not held: what a body takes later is not a run's.
        let share = self.share.take(text).map(|()| self.share.give_back(text));
        share
            .map_err(|left| refused(left, Some(self.share.bytes_max)))
            .and_then(|()| machine_memory::grant(text).map_err(|left| refused(left, None)))
            .map(Some)
            .map_err(|refused| format!("its answer is too large: {refused}"))
    }

    /// Loads a model, in the words of a refusal where that failed for want of memory.
    ///
    /// # Errors
    ///
    /// Those of loading, in words, or the numbers in their place.
    pub(super) fn load<T>(
        self: &Arc<Self>,
        load: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        self.within(load).map_err(|words| {
            let refused = lock(&self.pool).refused.take();
            refused.map_or(words, |refused| {
                format!("there is no memory for its weights: {refused}")
            })
        })
    }

    /// Gives back all that is not in use; from now on nothing is usual.
    pub(super) fn forget_usual(&self) {
        let mut pool = lock(&self.pool);
        pool.usual = 0;
        pool.keep_at_most(0);
    }

    fn take(self: &Arc<Self>, asked: usize) -> Result<NonNull<u8>, Refused> {
        let mut pool = lock(&self.pool);
        let taken = self.take_of(&mut pool, asked);
        if let Err(refused) = &taken {
            pool.refused = Some(*refused);
        }
        taken
    }

    fn take_of(self: &Arc<Self>, pool: &mut Pool, asked: usize) -> Result<NonNull<u8>, Refused> {
        let refused = |left, share| Refused {
            asked: asked as u64,
            left,
            share,
        };
        let bytes = match pool.running {
            true => block_bytes(asked),
            false => exact_bytes(asked),
        };
        let bytes = bytes.ok_or_else(|| refused(0, None))?;
        let counted = if pool.running { bytes as u64 } else { 0 };
        let share = self.share.bytes_max;
        self.share
            .take(counted)
            .map_err(|left| refused(left, Some(share)))?;
        let block = match pool.reuse(bytes) {
            Some(block) => block,
            None => pool.grow(bytes).map_err(|left| {
                self.share.give_back(counted);
                refused(left, None)
            })?,
        };
        pool.in_use += block.bytes();
        pool.peak = pool.peak.max(pool.in_use);
        Ok(block.lend(Arc::clone(self), counted))
    }

    fn take_back(&self, block: Block, counted: u64) {
        self.share.give_back(counted);
        let mut pool = lock(&self.pool);
        pool.in_use -= block.bytes();
        if pool.running {
            pool.keep(block);
        } else {
            block.release();
        }
    }
}

/// A run under way.
struct Running<'a> {
    memory: &'a Arc<RunMemory>,
    /// Bytes in use when it began: weights, and tensors that are bound.
    before: usize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut pool = lock(&self.memory.pool);
        pool.running = false;
        let took = pool.peak - self.before;
        pool.usual = usual_after(pool.usual, took);
        let kept_max = pool.usual + pool.usual / 4 + KEPT_BYTES_MIN;
        pool.keep_at_most(kept_max);
        if pool.kept >= IDLE_BYTES_MIN && !pool.watched {
            pool.watched = true;
            drop(pool);
            watch(self.memory);
        }
    }
}

/// Memories that keep much, and whether a thread looks at them.
#[derive(Default)]
struct Watched {
    /// With the runs that each had had at the last look.
    memories: Vec<(Weak<RunMemory>, u64)>,
    looks: bool,
}

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(Mutex::default);

/// From now on what this memory keeps is given back when no run comes.
fn watch(memory: &Arc<RunMemory>) {
    let mut watched = lock(&WATCHED);
    watched.memories.push((Arc::downgrade(memory), u64::MAX));
    if watched.looks {
        return;
    }
    let look = || {
        while {
            std::thread::sleep(IDLE_MEMORY_KEPT);
            look_for_idle(&mut lock(&WATCHED))
        } {}
    };
    let thread = std::thread::Builder::new().name("serin-memory".to_owned());
    match thread.spawn(look) {
        Ok(_) => watched.looks = true,
        Err(error) => tracing::debug!(%error, "memory is kept until more runs come"),
    }
}

/// Gives back what memories keep that had no run since the last look; whether another look is worth it.
fn look_for_idle(watched: &mut Watched) -> bool {
    watched.memories.retain_mut(|(memory, seen)| {
        let Some(memory) = memory.upgrade() else {
            return false;
        };
        let mut pool = lock(&memory.pool);
        if pool.running || pool.runs != *seen {
            *seen = pool.runs;
            return true;
        }
        pool.keep_at_most(KEPT_BYTES_MIN);
        pool.watched = false;
        false
    });
    watched.looks = !watched.memories.is_empty();
    watched.looks
}

/// The bytes that are usual after a run that took so many: a single larger run doubles them at most, and they fall slowly.
fn usual_after(usual: usize, took: usize) -> usize {
    if took > usual {
        took.min(usual.saturating_mul(2).saturating_add(KEPT_BYTES_MIN))
    } else {
        usual - (usual - took) / USUAL_FALLS_BY
    }
}

/// The bytes of the block for what is asked: with its header, and rounded up by an eighth at most, so that sizes that are nearly
/// the same share blocks.
fn block_bytes(asked: usize) -> Option<usize> {
    let bytes = asked.checked_add(HEADER_BYTES + OVERRUN_BYTES)?;
    let step = (bytes.checked_next_power_of_two()? / 16).max(HEADER_BYTES);
    let rounded = bytes.checked_next_multiple_of(step)?;
    isize::try_from(rounded).is_ok().then_some(rounded)
}

/// The same without room for other sizes: weights stay as long as their session, and are never used for anything else.
fn exact_bytes(asked: usize) -> Option<usize> {
    let bytes = asked.checked_add(HEADER_BYTES + OVERRUN_BYTES)?;
    let rounded = bytes.checked_next_multiple_of(HEADER_BYTES)?;
    isize::try_from(rounded).is_ok().then_some(rounded)
}

impl Pool {
    /// A free block of that size, or one that is not much larger.
    fn reuse(&mut self, bytes: usize) -> Option<Block> {
        let much = if bytes < MAPPED_BYTES_MIN {
            bytes + bytes / 4
        } else {
            bytes.saturating_mul(2)
        };
        let mut near = self.free.range_mut(bytes..=much);
        let block = near.find_map(|(_, blocks)| blocks.pop())?;
        self.kept -= block.bytes();
        Some(block)
    }

    /// A new block. What is kept goes first where the machine has no more; the bytes that it has where that is not enough.
    fn grow(&mut self, bytes: usize) -> Result<Block, u64> {
        Block::new(bytes).or_else(|_| {
            self.keep_at_most(0);
            Block::new(bytes)
        })
    }

    fn keep(&mut self, mut block: Block) {
        block.used_in(self.runs);
        self.kept += block.bytes();
        self.free.entry(block.bytes()).or_default().push(block);
    }

    /// Gives blocks back until no more than this is kept: those that were not used for longest first, the largest of them first.
    fn keep_at_most(&mut self, bytes_max: usize) {
        while self.kept > bytes_max
            && let Some(block) = self.oldest()
        {
            self.kept -= block.bytes();
            block.release();
        }
    }

    /// Takes the block out that was not used for longest.
    fn oldest(&mut self) -> Option<Block> {
        // The last of a size that was put there is the first to be used.
        let ages = self
            .free
            .iter()
            .filter_map(|(bytes, blocks)| Some((blocks.first()?.last_run(), Reverse(*bytes))));
        let (_, Reverse(bytes)) = ages.min()?;
        let blocks = self.free.get_mut(&bytes)?;
        let oldest = blocks.remove(0);
        if blocks.is_empty() {
            self.free.remove(&bytes);
        }
        Some(oldest)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.keep_at_most(0);
    }
}

/// Bytes of small blocks since the machine was last asked.
static NOT_ASKED: AtomicU64 = AtomicU64::new(0);

impl Block {
    /// A block of the system; the bytes that there are where these are fewer.
    fn new(bytes: usize) -> Result<Self, u64> {
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

    #[expect(unsafe_code, reason = "the header lies in the block")]
    fn bytes(&self) -> usize {
        // SAFETY: a block that is not lent has its header, which `begin` wrote.
        unsafe { self.0.as_ref() }.bytes
    }

    #[expect(unsafe_code, reason = "the header lies in the block")]
    fn last_run(&self) -> u64 {
        // SAFETY: as in `bytes`.
        unsafe { self.0.as_ref() }.run
    }

    #[expect(unsafe_code, reason = "the header lies in the block")]
    fn used_in(&mut self, run: u64) {
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
    fn lend(self, owner: Arc<RunMemory>, counted: u64) -> NonNull<u8> {
        let Self(mut header) = self;
        // SAFETY: the block is ours alone until the address is given away, and longer than its header.
        unsafe {
            let header = header.as_mut();
            header.owner = Arc::into_raw(owner);
            header.counted = counted;
        }
        // SAFETY: as above; the end of the header is within the block.
        unsafe { header.add(1) }.cast()
    }

    /// Gives the block back to the system.
    #[expect(unsafe_code, reason = "memory that was allocated is freed")]
    fn release(self) {
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

/// Leave to decode a body of so many bytes, to be kept until that is done; at once where it is small.
///
/// # Errors
///
/// [`Refused`] in words, where the machine has less than the tensors may take.
pub(super) fn room_for_tensors(
    body_bytes: usize,
    signature: &Signature,
) -> Result<Option<machine_memory::Grant>, String> {
    let has_text = |input: &TensorSpec| input.datatype == ElementType::Bytes;
    let times = match signature.inputs.iter().any(has_text) {
        true => BYTES_PER_TEXT_BYTE_OF_TEXT,
        false => BYTES_PER_TEXT_BYTE,
    };
    room((body_bytes as u64).saturating_mul(times))
        .map_err(|refused| format!("its body is too large: {refused}"))
}

/// Leave to hand texts of these lengths to a model, and to read as many of its outputs: they are copied past the allocator.
///
/// # Errors
///
/// [`Refused`] in words.
pub(super) fn room_for_texts(
    lengths: impl Iterator<Item = usize>,
) -> Result<Option<machine_memory::Grant>, String> {
    let each = lengths.map(|length| BYTES_PER_TEXT + COPIES_OF_TEXT * length as u64);
    room(each.sum()).map_err(|refused| refused.to_string())
}

/// Leave of the machine for so many bytes; at once where they are few.
fn room(asked: u64) -> Result<Option<machine_memory::Grant>, Refused> {
    if asked < ASKED_BYTES_MIN as u64 {
        return Ok(None);
    }
    let granted = machine_memory::grant(asked);
    granted.map(Some).map_err(|left| Refused {
        asked,
        left,
        share: None,
    })
}

/// Memory for who works for no session, as ONNX Runtime itself and the child that tries models: bounded by the machine alone.
static NOBODY_S: LazyLock<Arc<RunMemory>> =
    LazyLock::new(|| RunMemory::new(&MemoryShare::new(None)));

/// Memory of so many bytes for the session that the calling thread works for; none where it must not have them.
pub(super) fn allocate(bytes: usize) -> Option<NonNull<u8>> {
    let current = CURRENT.get();
    if current.is_null() {
        return NOBODY_S.take(bytes).ok();
    }
    #[expect(
        unsafe_code,
        reason = "a thread's memory is a pointer, so that looking at it costs nothing"
    )]
    // SAFETY: `within` set it, has borrowed the Arc of it, and sets it back before it returns; so it lives, and one reference more
    // is this value's.
    let current = unsafe {
        Arc::increment_strong_count(current);
        Arc::from_raw(current)
    };
    current.take(bytes).ok()
}

/// Takes back what [`allocate`] gave.
///
/// # Safety
///
/// `memory` came from [`allocate`], was not given back, and nobody uses it any more.
#[expect(unsafe_code, reason = "the header lies before the address")]
pub(super) unsafe fn free(memory: NonNull<u8>) {
    // SAFETY: `lend` gave an address right behind a header, and the caller gives it back.
    let (block, owner, counted) = unsafe {
        let header = memory.cast::<Header>().sub(1);
        let read = header.as_ref();
        (Block(header), Arc::from_raw(read.owner), read.counted)
    };
    owner.take_back(block, counted);
}

/// The function of the C++ library that throws its exception for want of memory.
pub(super) type Throw = unsafe extern "C-unwind" fn() -> !;

/// That function of the library that ONNX Runtime has loaded; none where it was built with another one.
#[expect(
    unsafe_code,
    reason = "a function of a library that is loaded at run time"
)]
pub(super) fn throw() -> Option<Throw> {
    // SAFETY: both names end in 0. The library is not loaded anew, and it never leaves, for ONNX Runtime never does.
    let function = unsafe {
        let library = libc::dlopen(
            c"libstdc++.so.6".as_ptr(),
            libc::RTLD_NOW | libc::RTLD_NOLOAD,
        );
        NonNull::new(library)?;
        libc::dlsym(library, c"_ZSt17__throw_bad_allocv".as_ptr())
    };
    let function = NonNull::new(function)?;
    // SAFETY: the mangled name is that of `void std::__throw_bad_alloc()`, which does not return.
    Some(unsafe { std::mem::transmute::<NonNull<libc::c_void>, Throw>(function) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes_max: u64) -> Arc<RunMemory> {
        RunMemory::new(&MemoryShare::new(Some(bytes_max)))
    }

    fn give_back(block: NonNull<u8>) {
        #[expect(unsafe_code, reason = "as ONNX Runtime gives back")]
        // SAFETY: each test gives back once what it took.
        unsafe {
            free(block);
        }
    }

    /// One run that takes blocks of these sizes together and writes to the ends of each.
    fn run(memory: &Arc<RunMemory>, sizes: &[usize]) -> Result<(), String> {
        memory.run(|| {
            let taken: Vec<_> = sizes.iter().map(|bytes| allocate(*bytes)).collect();
            for (block, bytes) in taken.iter().zip(sizes) {
                let Some(block) = block else { continue };
                #[expect(unsafe_code, reason = "memory is there to be written to")]
                // SAFETY: both bytes are within what was asked for.
                unsafe {
                    block.write(1);
                    block.add(bytes - 1).write(1);
                }
                assert_eq!(block.addr().get() % HEADER_BYTES, 0);
            }
            let whole = taken.iter().all(Option::is_some);
            taken.into_iter().flatten().for_each(give_back);
            whole.then_some(()).ok_or_else(|| "bad_alloc".to_owned())
        })
    }

    fn kept(memory: &RunMemory) -> usize {
        lock(&memory.pool).kept
    }

    const MB: usize = 1 << 20;

    #[test]
    fn a_run_beyond_the_share_is_refused_with_the_numbers_and_the_next_one_runs() {
        let memory = memory(100_000_000);
        let words = run(&memory, &[40_000_000, 50_000_000_000]).unwrap_err();
        assert!(
            words.starts_with("the run asked for 50.0 GB; 5"),
            "40 MB are in use: {words}"
        );
        assert!(
            words.contains("of the 100.0 MB that the runs of this instance may take are left"),
            "{words}"
        );
        run(&memory, &[40_000_000]).unwrap();
        assert_eq!(memory.share.used.load(Ordering::Relaxed), 0);
        // Its own words, where memory was not the reason.
        assert_eq!(
            memory.run(|| Err::<(), _>("no".to_owned())).unwrap_err(),
            "no"
        );
    }

    #[test]
    fn lanes_of_an_instance_share_its_bound_and_other_instances_have_their_own() {
        let share = MemoryShare::new(Some(100_000_000));
        let (one, two, other) = (
            RunMemory::new(&share),
            RunMemory::new(&share),
            memory(100_000_000),
        );
        one.run(|| {
            let block = allocate(60_000_000).unwrap();
            assert!(run(&two, &[60_000_000]).is_err());
            run(&other, &[60_000_000]).unwrap();
            give_back(block);
            run(&two, &[60_000_000])
        })
        .unwrap();
    }

    #[test]
    fn what_is_refused_does_not_count_and_no_size_is_too_large_to_refuse() {
        let memory = memory(u64::MAX);
        for bytes in [
            usize::MAX,
            usize::MAX - HEADER_BYTES,
            usize::MAX / 2,
            1 << 50,
        ] {
            let words = run(&memory, &[bytes]).unwrap_err();
            assert!(words.contains("on this machine"), "{words}");
        }
        assert_eq!(memory.share.used.load(Ordering::Relaxed), 0);
        assert_eq!(lock(&memory.pool).in_use, 0);
    }

    #[test]
    fn a_run_far_larger_than_usual_leaves_nothing_behind() {
        let memory = memory(u64::MAX);
        for _ in 0..20 {
            run(&memory, &[10_000, 20_000]).unwrap();
        }
        run(&memory, &[64 * MB, 10_000]).unwrap();
        assert!(kept(&memory) <= 4 * MB, "{}", kept(&memory));
    }

    #[test]
    fn what_usual_runs_take_is_kept_and_reused() {
        let memory = memory(u64::MAX);
        for _ in 0..10 {
            run(&memory, &[8 * MB, 3 * MB, 1000]).unwrap();
        }
        let first = kept(&memory);
        assert!(first >= 11 * MB, "{first}");
        let blocks = |memory: &RunMemory| -> Vec<usize> {
            let pool = lock(&memory.pool);
            let blocks = pool.free.values().flatten();
            blocks.map(|block| block.0.addr().get()).collect()
        };
        let before = blocks(&memory);
        // A little less is the same block.
        run(&memory, &[8 * MB - 5000, 3 * MB, 1000]).unwrap();
        assert_eq!(blocks(&memory), before);
        memory.forget_usual();
        assert_eq!(kept(&memory), 0);
    }

    #[test]
    fn sizes_that_are_not_asked_for_any_more_go_before_those_of_the_last_run() {
        let memory = memory(u64::MAX);
        for _ in 0..10 {
            run(&memory, &[5 * MB]).unwrap();
        }
        for _ in 0..10 {
            run(&memory, &[6 * MB, 7 * MB]).unwrap();
        }
        let pool = lock(&memory.pool);
        let sizes: Vec<_> = pool.free.keys().map(|bytes| bytes / MB).collect();
        assert_eq!(sizes, [6, 7], "{}", pool.kept);
    }

    #[test]
    fn memory_of_a_session_without_runs_is_given_back_and_that_of_a_busy_one_stays() {
        let (idle, busy, gone) = (memory(u64::MAX), memory(u64::MAX), memory(u64::MAX));
        for memory in [&idle, &busy, &gone] {
            for _ in 0..10 {
                run(memory, &[4 * MB, 2 * MB]).unwrap();
            }
        }
        let mut watched = Watched {
            memories: [&idle, &busy, &gone]
                .map(|memory| (Arc::downgrade(memory), u64::MAX))
                .into(),
            looks: true,
        };
        drop(gone);
        assert!(look_for_idle(&mut watched), "the first look only counts");
        assert!(kept(&idle) > 6 * MB);
        run(&busy, &[4 * MB, 2 * MB]).unwrap();
        assert!(look_for_idle(&mut watched));
        assert!(kept(&idle) <= KEPT_BYTES_MIN && kept(&busy) > 6 * MB);
        assert!(!look_for_idle(&mut watched), "nothing is left to look at");
        assert!(kept(&busy) <= KEPT_BYTES_MIN && !watched.looks);
    }

    #[test]
    fn what_outlives_its_session_is_freed_by_whoever_has_it_last() {
        let memory = memory(u64::MAX);
        let weak = Arc::downgrade(&memory);
        let block = memory.within(|| allocate(100).unwrap());
        drop(memory);
        assert!(weak.upgrade().is_some(), "the block has it");
        give_back(block);
        assert!(weak.upgrade().is_none());
        // Nobody's session.
        give_back(allocate(100).unwrap());
    }

    #[test]
    fn weights_are_not_taken_of_the_share() {
        let memory = memory(50_000_000);
        let weights = memory.within(|| allocate(80_000_000).unwrap());
        run(&memory, &[40_000_000]).unwrap();
        give_back(weights);
        assert_eq!(memory.share.used.load(Ordering::Relaxed), 0);
    }

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

    #[test]
    fn room_for_a_body_is_asked_for_by_what_it_may_become() {
        let of = |datatype| Signature {
            inputs: vec![TensorSpec {
                name: "data".to_owned(),
                datatype,
                shape: vec![-1],
                any_rank: false,
            }],
            outputs: Vec::new(),
        };
        let (numbers, texts) = (of(ElementType::Fp32), of(ElementType::Bytes));
        assert!(room_for_tensors(1000, &texts).unwrap().is_none());
        assert!(room_for_tensors(2_000_000, &numbers).unwrap().is_some());
        assert!(
            room_for_texts(std::iter::repeat_n(10, 1000))
                .unwrap()
                .is_none()
        );
        assert!(
            room_for_texts(std::iter::repeat_n(0, 50_000))
                .unwrap()
                .is_some()
        );
        assert!(room_for_texts(std::iter::once(1 << 50)).is_err());
        let words = room_for_tensors(1 << 50, &texts).unwrap_err();
        assert!(
            words.starts_with("its body is too large: the run asked for 9007199.2 GB; "),
            "{words}"
        );
    }

    #[test]
    fn weights_take_no_more_than_they_are() {
        let memory = memory(u64::MAX);
        let weights = memory.within(|| allocate(33 * MB).unwrap());
        assert!(lock(&memory.pool).in_use < 33 * MB + 4096);
        give_back(weights);
        assert_eq!(kept(&memory), 0);
        assert_eq!(lock(&memory.pool).in_use, 0);
    }

    #[test]
    fn a_model_without_room_for_its_weights_says_so() {
        let memory = memory(u64::MAX);
        let load = || {
            allocate(1 << 50)
                .map(drop)
                .ok_or_else(|| "bad_alloc".to_owned())
        };
        let words = memory.load(load).unwrap_err();
        assert!(
            words.starts_with("there is no memory for its weights: "),
            "{words}"
        );
        assert_eq!(
            memory.load(|| Err::<(), _>("no".to_owned())),
            Err("no".to_owned())
        );
    }

    #[test]
    fn an_answer_that_the_share_cannot_hold_as_text_is_refused() {
        let memory = memory(100_000_000);
        assert!(memory.room_for_text(1000).unwrap().is_none());
        assert!(memory.room_for_text(10_000_000).unwrap().is_some());
        let words = memory.room_for_text(50_000_000).unwrap_err();
        assert!(words.contains("150.0 MB"), "{words}");
    }
}

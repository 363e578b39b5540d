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

mod block;
mod idle;
mod pool;
mod room;
mod share;

use std::cell::Cell;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Arc, LazyLock, Mutex};

use crate::engine::job::AnswerForm;
use crate::engine::lock::lock;
use crate::engine::machine_memory::Grant;
use crate::engine::run_memory::block::{Block, block_bytes, exact_bytes};
use crate::engine::run_memory::idle::Idle;
use crate::engine::run_memory::pool::{KEPT_BYTES_MIN, Pool, usual_after};

pub(super) use self::room::{room_for_packed, room_for_tensors, room_for_texts};
pub(super) use self::share::{MemoryShare, Refused};

/// Memory from which on it is given back when no run comes for a while.
const IDLE_BYTES_MIN: usize = 8 << 20;

/// The memory of one session.
pub(super) struct RunMemory {
    share: Arc<MemoryShare>,
    pool: Mutex<Pool>,
}

impl Idle for RunMemory {
    fn give_back_if_idle(&self, seen: &mut u64) -> bool {
        let mut pool = lock(&self.pool);
        if pool.running || pool.runs != *seen {
            *seen = pool.runs;
            return false;
        }
        pool.keep_at_most(KEPT_BYTES_MIN);
        pool.watched = false;
        true
    }
}

impl fmt::Debug for RunMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunMemory")
    }
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

    /// Leave to make an answer of outputs of so many bytes, to be kept until it is made.
    ///
    /// # Errors
    ///
    /// [`Refused`] in words, where the machine has less than it may take.
    pub(super) fn room_for_answer(
        &self,
        outputs: usize,
        form: AnswerForm,
    ) -> Result<Option<Grant>, String> {
        room::room_for_answer(outputs, form, &self.share)
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
        let refused = |left| Refused {
            asked: asked as u64,
            left,
            share: None,
        };
        let bytes = match pool.running {
            true => block_bytes(asked),
            false => exact_bytes(asked),
        };
        let bytes = bytes.ok_or_else(|| refused(0))?;
        let counted = if pool.running { bytes as u64 } else { 0 };
        let share = &self.share;
        share
            .take(counted)
            .map_err(|left| share.refuses(asked as u64, left))?;
        let block = match pool.reuse(bytes) {
            Some(block) => block,
            None => pool.grow(bytes).map_err(|left| {
                self.share.give_back(counted);
                refused(left)
            })?,
        };
        pool.in_use += block.bytes();
        pool.peak = pool.peak.max(pool.in_use);
        // Memory lives as long as its last block.
        Ok(block.lend(Arc::into_raw(Arc::clone(self)).cast(), counted))
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
            idle::watch(self.memory);
        }
    }
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
#[expect(unsafe_code, reason = "a block knows its owner by a pointer")]
pub(super) unsafe fn free(memory: NonNull<u8>) {
    // SAFETY: `take_of` lent the block with a reference to its memory, and the caller gives it back.
    let (block, owner, counted) = unsafe {
        let (block, owner, counted) = Block::take_back(memory);
        (block, Arc::from_raw(owner.cast::<RunMemory>()), counted)
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
    use super::block::HEADER_BYTES;
    use super::idle::{Watched, look_for_idle};
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
        assert_eq!(memory.share.used(), 0);
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
        assert_eq!(memory.share.used(), 0);
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
            pool.blocks().map(Block::address).collect()
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
        let mut sizes: Vec<_> = pool.blocks().map(|block| block.bytes() / MB).collect();
        sizes.dedup();
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
        let mut watched = Watched::default();
        for memory in [&idle, &busy, &gone] {
            watched.add(memory);
        }
        drop(gone);
        assert!(look_for_idle(&mut watched), "the first look only counts");
        assert!(kept(&idle) > 6 * MB);
        run(&busy, &[4 * MB, 2 * MB]).unwrap();
        assert!(look_for_idle(&mut watched));
        assert!(kept(&idle) <= KEPT_BYTES_MIN && kept(&busy) > 6 * MB);
        assert!(!look_for_idle(&mut watched), "nothing is left to look at");
        assert!(kept(&busy) <= KEPT_BYTES_MIN);
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
        assert_eq!(memory.share.used(), 0);
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
        assert!(
            memory
                .room_for_answer(1000, AnswerForm::Json)
                .unwrap()
                .is_none()
        );
        assert!(
            memory
                .room_for_answer(10_000_000, AnswerForm::Json)
                .unwrap()
                .is_some()
        );
        assert!(
            memory
                .room_for_answer(50_000_000, AnswerForm::Values)
                .unwrap()
                .is_some()
        );
        let words = memory
            .room_for_answer(50_000_000, AnswerForm::Json)
            .unwrap_err();
        assert!(words.contains("150.0 MB"), "{words}");
    }
}

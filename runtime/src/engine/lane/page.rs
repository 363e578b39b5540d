//! The memory that the server shares with the process of a lane: two signals, a table of requests, and room for their bytes.
//!
//! The server writes a batch of requests and raises `submitted`; the process answers each in its row of the table and raises
//! `answered`. The batch is the server's before the first and after the last of them; in between its rows belong to the process, but
//! for `canceled`, which the server sets at any time. The process may be at fault in any way: what it writes is checked before it is
//! used, and read by copy.
//!
//! Who waits looks a few times first; then it sleeps in the kernel (a futex), and whoever raises the signal makes a system call only
//! then.
//! Not here: what the bytes mean (`process`, `child`).

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_utils::Backoff;
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};
use rustix::thread::futex;
use rustix::time::Timespec;
use serde::Serialize;

use crate::config::CONCURRENCY_MAX;

/// Most requests of one batch.
pub(super) const ROWS_MAX: usize = CONCURRENCY_MAX as usize;
/// Most room for the bodies and the answers of one batch, in bytes. Memory is taken for what is written alone.
const ROOM_BYTES_MAX: usize = 4 << 30;
/// Part of the address space that the room of one lane may have, where that is bounded: others need it too.
const ADDRESSES_PART: u64 = 16;
/// Bytes of the room whose memory is kept from one batch to the next.
const KEPT_BYTES: usize = 256 * 1024;
/// The beginning of each body and answer is divisible by this, so that two never share a cache line.
const ALIGN: usize = 64;

/// A count that one side raises and the other sleeps on.
#[repr(C, align(64))]
pub(super) struct Signal {
    count: AtomicU32,
    sleeps: AtomicU32,
}

impl Signal {
    /// The count; what was written before the signal was raised to it can be read.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Raises the count, and wakes who sleeps.
    pub(super) fn raise(&self) {
        // Sequentially consistent, here and in `wait`: either the sleeper sees the new count after it has said that it sleeps, or it is
        // seen to sleep here. The addition also releases what was written before.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.sleeps.swap(0, Ordering::SeqCst) != 0 {
            self.wake();
        }
    }

    /// Raises the count, and wakes who sleeps, also where the other side has damaged the note that somebody does.
    pub(super) fn raise_for_sure(&self) {
        self.raise();
        self.wake();
    }

    /// As a process at fault would: nobody seems to sleep, and one more raise makes the count what it is now.
    #[cfg(test)]
    pub(super) fn damage(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.sleeps.store(0, Ordering::SeqCst);
    }

    fn wake(&self) {
        // Fails only for an address that is no memory.
        let _woken = futex::wake(&self.count, futex::Flags::empty(), 1);
    }

    /// Sleeps until the count is another than `seen`, or until the instant; the count then. One sleeper at a time.
    pub(super) fn wait(&self, seen: u32, until: Option<Instant>) -> u32 {
        // The other side is often done within a moment, and to wake a sleeper costs more than a few looks.
        let backoff = Backoff::new();
        while !backoff.is_completed() {
            let count = self.count();
            if count != seen {
                return count;
            }
            backoff.snooze();
        }
        loop {
            self.sleeps.store(1, Ordering::SeqCst);
            let count = self.count.load(Ordering::SeqCst);
            if count != seen {
                self.sleeps.store(0, Ordering::Relaxed);
                return count;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return count;
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            // Woken, interrupted, out of time, or the count had changed: the next look tells.
            let _woken = futex::wait(&self.count, futex::Flags::empty(), seen, left.as_ref());
        }
    }
}

/// Bytes in the room.
#[repr(C)]
#[derive(Default)]
struct SpanWords {
    start: AtomicU64,
    len: AtomicU64,
}

/// Bytes in the room, as one side has found them: perhaps nonsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl SpanWords {
    // Relaxed: the signals and the states of rows order them.
    fn set(&self, span: Span) {
        self.start.store(span.start, Ordering::Relaxed);
        self.len.store(span.len, Ordering::Relaxed);
    }

    fn get(&self) -> Span {
        Span {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
        }
    }
}

/// One request of a batch.
#[repr(C, align(64))]
pub(super) struct Row {
    id: AtomicU64,
    state: AtomicU32,
    canceled: AtomicU32,
    body: SpanWords,
    answer: SpanWords,
    kind: AtomicU32,
    brought: AtomicU32,
    joined: AtomicU32,
    not_finite: AtomicU32,
    run_rows: AtomicU32,
    /// Nanoseconds of the monotonic clock, by [`Stage`]; 0 where it was not reached.
    times: [AtomicU64; 5],
}

/// The life of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum RowState {
    /// Not run yet.
    Waiting = 1,
    /// In the run under way.
    Running = 2,
    /// Answered.
    Answered = 3,
}

/// The meaning of a request's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum BodyKind {
    /// A body, which is answered as [`AnswerKind::Body`].
    Body = 0,
    /// Tensors in their packed form, answered as [`AnswerKind::Values`].
    Tensors = 1,
}

/// The meaning of an answer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum AnswerKind {
    /// The body of the response.
    Body = 0,
    /// A reason why there is none, as JSON.
    Error = 1,
    /// A head and the body, of a scoring script.
    Response = 2,
    /// Values in their packed form.
    Values = 3,
}

impl Row {
    pub(super) fn id(&self) -> u64 {
        // Relaxed, here and for all that the server writes before it submits: the signal orders it.
        self.id.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self, id: u64, kind: BodyKind, body: Span) {
        self.canceled.store(0, Ordering::Relaxed);
        // Release, with the Acquire of `canceled_id`: who sees the number sees that it is not canceled yet.
        self.id.store(id, Ordering::Release);
        self.brought.store(kind as u32, Ordering::Relaxed);
        self.body.set(body);
        // A script says nothing of it.
        self.not_finite.store(0, Ordering::Relaxed);
        self.set_state(RowState::Waiting);
        for time in &self.times {
            time.store(0, Ordering::Relaxed);
        }
    }

    /// The kind of its body, for the process that trusts the server.
    pub(super) fn body_kind(&self) -> BodyKind {
        match self.brought.load(Ordering::Relaxed) {
            kind if kind == BodyKind::Tensors as u32 => BodyKind::Tensors,
            _ => BodyKind::Body,
        }
    }

    pub(super) fn body(&self) -> Span {
        self.body.get()
    }

    pub(super) fn set_state(&self, state: RowState) {
        // Release: who sees an answered row reads its answer.
        self.state.store(state as u32, Ordering::Release);
    }

    /// Sets a state that is none.
    #[cfg(test)]
    pub(super) fn damage(&self, state: u32) {
        self.state.store(state, Ordering::Release);
    }

    /// Whether it is in this state.
    pub(super) fn is(&self, state: RowState) -> bool {
        self.state.load(Ordering::Acquire) == state as u32
    }

    pub(super) fn cancel(&self) {
        // Release, with the Acquire of `is_canceled`; the signal that follows orders it for who sleeps.
        self.canceled.store(1, Ordering::Release);
    }

    /// The number of the request, if it is canceled, for who looks at any time: the row may be another request's meanwhile.
    pub(super) fn canceled_id(&self) -> Option<u64> {
        // Read before the flag: then a flag that is set is this request's, or that of a later one, and the number that of a request
        // which has ended.
        let id = self.id.load(Ordering::Acquire);
        self.is_canceled().then_some(id)
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire) != 0
    }

    pub(super) fn set_answer(&self, kind: AnswerKind, answer: Span) {
        self.kind.store(kind as u32, Ordering::Relaxed);
        self.answer.set(answer);
    }

    /// The answer. Whatever else the process wrote as its kind is an error.
    pub(super) fn answer(&self) -> (AnswerKind, Span) {
        let kind = match self.kind.load(Ordering::Relaxed) {
            kind if kind == AnswerKind::Body as u32 => AnswerKind::Body,
            kind if kind == AnswerKind::Response as u32 => AnswerKind::Response,
            kind if kind == AnswerKind::Values as u32 => AnswerKind::Values,
            _ => AnswerKind::Error,
        };
        (kind, self.answer.get())
    }

    /// Requests that shared its run.
    pub(super) fn joined(&self) -> &AtomicU32 {
        &self.joined
    }

    /// Whether the answer has a NaN or an infinity: another number than 0.
    pub(super) fn not_finite(&self) -> &AtomicU32 {
        &self.not_finite
    }

    /// Rows of its run, where it is the first of it.
    pub(super) fn run_rows(&self) -> &AtomicU32 {
        &self.run_rows
    }

    pub(super) fn times(&self) -> &[AtomicU64; 5] {
        &self.times
    }
}

/// The beginning of the page.
#[repr(C)]
pub(super) struct Words {
    /// Batches that the server has submitted.
    pub(super) submitted: Signal,
    /// Raised after answers, when the process is ready, and when it has ended.
    pub(super) answered: Signal,
    /// Requests that the server does not want any more.
    pub(super) canceled: Signal,
    /// Requests of the batch.
    pub(super) rows: AtomicU32,
    /// Most rows of one run, in the model's sense.
    pub(super) rows_max: AtomicU32,
    /// The count of `submitted` of the last batch that the process has begun.
    pub(super) begun: AtomicU32,
    table: [Row; ROWS_MAX],
}

/// The shared memory, mapped for as long as this lives.
pub(super) struct Page {
    file: OwnedFd,
    base: NonNull<u8>,
    room_bytes: usize,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Page")
    }
}

/// Where everything is in the memory, in bytes from its beginning, for a process that is not written in Rust.
#[derive(Debug, Serialize)]
pub(super) struct Layout {
    /// The file of the memory in that process: its standard input.
    fd: u32,
    /// The server's process.
    parent: u32,
    submitted: usize,
    answered: usize,
    rows: usize,
    begun: usize,
    table: usize,
    row_bytes: usize,
    row: RowLayout,
    room: usize,
    room_bytes: usize,
}

/// Where everything is in a row, in bytes from its beginning.
#[derive(Debug, Serialize)]
struct RowLayout {
    state: usize,
    canceled: usize,
    body: usize,
    answer: usize,
    kind: usize,
    joined: usize,
    times: usize,
}

/// Where the room begins.
const ROOM_START: usize = size_of::<Words>().next_multiple_of(4096);

#[expect(
    unsafe_code,
    reason = "the pointer is to memory of this value, which threads share by atomics and copies"
)]
// SAFETY: the words are atomics; the room is read and written by the rules of this module, for which no thread is special.
unsafe impl Send for Page {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// New memory, all zero.
    pub(super) fn new() -> io::Result<Self> {
        Self::with_room(room_bytes())
    }

    fn with_room(room_bytes: usize) -> io::Result<Self> {
        let file = memfd_create(
            "serin-lane",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&file, (ROOM_START + room_bytes) as u64)?;
        // Who reads beyond the end of a file is ended by a signal: the process could end the server so.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file, room_bytes)
    }

    /// The memory that the server made.
    pub(super) fn of_file(file: OwnedFd) -> io::Result<Self> {
        let bytes = rustix::fs::fstat(&file)?.st_size;
        let room = usize::try_from(bytes).ok();
        match room.and_then(|bytes| bytes.checked_sub(ROOM_START)) {
            Some(room_bytes) if room_bytes > 0 => Self::map(file, room_bytes),
            Some(_) | None => {
                let problem = format!(
                    "expected shared memory of more than {ROOM_START} bytes, found {bytes}"
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, problem))
            }
        }
    }

    #[expect(unsafe_code, reason = "the system has no safe way to map a file")]
    fn map(file: OwnedFd, room_bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address of the system's choice, changes no memory that anybody has. The file is as long as the
        // mapping, and nobody shortens it.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                ROOM_START + room_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            file,
            base,
            room_bytes,
        })
    }

    /// Where everything is.
    pub(super) fn layout(&self) -> Layout {
        Layout {
            fd: 0,
            parent: std::process::id(),
            submitted: offset_of!(Words, submitted),
            answered: offset_of!(Words, answered),
            rows: offset_of!(Words, rows),
            begun: offset_of!(Words, begun),
            table: offset_of!(Words, table),
            row_bytes: size_of::<Row>(),
            row: RowLayout {
                state: offset_of!(Row, state),
                canceled: offset_of!(Row, canceled),
                body: offset_of!(Row, body),
                answer: offset_of!(Row, answer),
                kind: offset_of!(Row, kind),
                joined: offset_of!(Row, joined),
                times: offset_of!(Row, times),
            },
            room: ROOM_START,
            room_bytes: self.room_bytes,
        }
    }

    /// A second handle of the memory, for the process.
    pub(super) fn file(&self) -> io::Result<File> {
        Ok(self.file.as_fd().try_clone_to_owned()?.into())
    }

    #[expect(unsafe_code, reason = "a view of mapped memory")]
    pub(super) fn words(&self) -> &Words {
        // SAFETY: the mapping begins at a page, is longer than `Words`, and all of `Words` is atomics, for which any bits are values.
        unsafe { self.base.cast::<Words>().as_ref() }
    }

    /// The row, if the table has it.
    pub(super) fn row(&self, index: usize) -> Option<&Row> {
        self.words().table.get(index)
    }

    /// The first rows of the table.
    pub(super) fn rows(&self, count: usize) -> &[Row] {
        &self.words().table[..count.min(ROWS_MAX)]
    }

    /// The rows of the batch, for the process: the server knows how many it has submitted, whatever stands here.
    pub(super) fn batch(&self) -> &[Row] {
        let rows = self.words().rows.load(Ordering::Relaxed);
        self.rows(usize::try_from(rows).unwrap_or(ROWS_MAX))
    }

    /// Writes two pieces, one after the other, as one.
    pub(super) fn write_both(
        &self,
        start: usize,
        (first, second): (&[u8], &[u8]),
    ) -> Option<(Span, usize)> {
        let (head, _) = self.write(start, first)?;
        let (_, next) = self.write(start.checked_add(first.len())?, second)?;
        let len = head.len + second.len() as u64;
        Some((Span { len, ..head }, next))
    }

    /// Writes bytes at a place in the room; where the next may begin. None where there is no room.
    #[expect(unsafe_code, reason = "a copy into mapped memory")]
    pub(super) fn write(&self, start: usize, bytes: &[u8]) -> Option<(Span, usize)> {
        let end = start.checked_add(bytes.len())?;
        if end > self.room_bytes {
            return None;
        }
        // SAFETY: the destination lies within the mapping. The bytes belong to this side now: bodies before the batch is submitted,
        // answers while the row is the process's; a process that does not keep to that damages its own batch.
        unsafe {
            let room = self.base.as_ptr().add(ROOM_START + start);
            ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
        }
        let span = Span {
            start: start as u64,
            len: bytes.len() as u64,
        };
        Some((span, end.next_multiple_of(ALIGN)))
    }

    /// The bytes of a span; none where it is not within the room.
    fn range(&self, span: Span) -> Option<(usize, usize)> {
        let start = usize::try_from(span.start).ok()?;
        let len = usize::try_from(span.len).ok()?;
        (start.checked_add(len)? <= self.room_bytes).then_some((start, len))
    }

    /// Whether as much memory as this was written in all. A length that is nonsense must not make its reader take gigabytes.
    fn has_written(&self, len: usize) -> bool {
        if len <= KEPT_BYTES {
            return true;
        }
        let blocks = rustix::fs::fstat(&self.file).map_or(0, |stat| stat.st_blocks);
        u64::try_from(blocks).unwrap_or(0).saturating_mul(512) >= len as u64
    }

    /// A copy of bytes that the other side wrote; none where they do not lie within the room, or nobody wrote as many.
    #[expect(unsafe_code, reason = "a copy out of mapped memory")]
    pub(super) fn read(&self, span: Span) -> Option<Bytes> {
        let (start, len) = self.range(span).filter(|(_, len)| self.has_written(*len))?;
        let mut copy = Vec::with_capacity(len);
        // SAFETY: the source lies within the mapping, and the copy has room for it. Should a faulty process write there meanwhile, then
        // the bytes are any bytes, which is what they are taken for.
        unsafe {
            let room = self.base.as_ptr().add(ROOM_START + start);
            ptr::copy_nonoverlapping(room, copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        Some(copy.into())
    }

    /// The bytes themselves, for the process that trusts the server.
    #[expect(unsafe_code, reason = "a view of mapped memory")]
    pub(super) fn view(&self, span: Span) -> Option<&[u8]> {
        let (start, len) = self.range(span)?;
        // SAFETY: within the mapping; the server writes bodies before it submits them and not again until all are answered.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr().add(ROOM_START + start), len) })
    }

    /// Gives back the memory of a large batch, of which `used` bytes were written.
    pub(super) fn give_back(&self, used: usize) {
        if used <= KEPT_BYTES {
            return;
        }
        let given = fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            (ROOM_START + KEPT_BYTES) as u64,
            (self.room_bytes - KEPT_BYTES) as u64,
        );
        if let Err(error) = given {
            tracing::debug!(%error, "the memory of a large request is kept");
        }
    }
}

impl Drop for Page {
    #[expect(unsafe_code, reason = "the system has no safe way to unmap")]
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and every view of it borrows the value.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), ROOM_START + self.room_bytes) };
        if let Err(error) = unmapped {
            tracing::error!(%error, "cannot unmap the memory of a lane");
        }
    }
}

/// The room that a lane may have under the limits of this process.
fn room_bytes() -> usize {
    let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
    let addresses = limit(Resource::As) / ADDRESSES_PART;
    // A longer file would be refused, or end the process by a signal.
    let file = limit(Resource::Fsize).saturating_sub(ROOM_START as u64);
    let room = usize::try_from(addresses.min(file)).unwrap_or(usize::MAX);
    (room.min(ROOM_BYTES_MAX) & !4095).max(KEPT_BYTES)
}

/// The monotonic clock in nanoseconds, the same in all processes; never 0.
pub(super) fn clock_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec).unwrap_or(0);
    (seconds * 1_000_000_000 + rest).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let ours = Page::new().unwrap();
        let theirs = Page::of_file(ours.file().unwrap().into()).unwrap();
        let (span, next) = ours.write(0, b"body").unwrap();
        assert_eq!(next, ALIGN);
        ours.row(3).unwrap().begin(7, BodyKind::Body, span);
        let row = theirs.row(3).unwrap();
        assert!(row.is(RowState::Waiting) && row.id() == 7);
        assert_eq!(theirs.view(row.body()), Some(&b"body"[..]));
        let (answer, _) = theirs.write(next, b"answer").unwrap();
        row.set_answer(AnswerKind::Body, answer);
        row.set_state(RowState::Answered);
        let row = ours.row(3).unwrap();
        assert!(row.is(RowState::Answered));
        assert_eq!(ours.read(row.answer().1).unwrap(), "answer");
    }

    #[test]
    fn spans_that_lie_outside_are_no_bytes() {
        let page = Page::new().unwrap();
        let room = page.room_bytes as u64;
        for (start, len) in [(room, 1), (0, room + 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(page.read(Span { start, len }), None, "{start} {len}");
        }
        assert!(page.write(page.room_bytes - 2, b"abc").is_none());
        assert!(page.write(usize::MAX, b"abc").is_none());
        page.write(page.room_bytes - 3, b"abc").unwrap();
        assert!(page.row(ROWS_MAX).is_none());
        page.words().rows.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(page.batch().len(), ROWS_MAX);
    }

    #[test]
    fn a_span_that_nobody_wrote_takes_no_memory() {
        let page = Page::new().unwrap();
        let len = page.room_bytes as u64;
        assert_eq!(page.read(Span { start: 0, len }), None);
        let large = vec![7; 1 << 20];
        let (span, _) = page.write(0, &large).unwrap();
        assert_eq!(page.read(span).unwrap(), large);
    }

    #[test]
    fn a_small_room_is_a_room_on_both_sides() {
        let ours = Page::with_room(2 * KEPT_BYTES).unwrap();
        let theirs = Page::of_file(ours.file().unwrap().into()).unwrap();
        assert_eq!(theirs.room_bytes, 2 * KEPT_BYTES);
        assert!(theirs.write(2 * KEPT_BYTES - 3, b"abc").is_some());
        assert!(theirs.write(2 * KEPT_BYTES - 2, b"abc").is_none());
    }

    #[test]
    fn neither_side_can_cut_the_memory_off_under_the_other() {
        let page = Page::new().unwrap();
        let theirs = page.file().unwrap();
        theirs.set_len(0).unwrap_err();
        theirs.set_len(u64::MAX >> 1).unwrap_err();
        assert_eq!(page.read(Span { start: 0, len: 1 }).unwrap(), [0_u8][..]);
    }

    /// The other side says that nobody sleeps while somebody does.
    #[test]
    fn a_sleeper_is_woken_for_sure_though_its_note_is_damaged() {
        let page = Arc::new(Page::new().unwrap());
        let sleeper = Arc::clone(&page);
        let thread = std::thread::Builder::new().name("sleeper".to_owned());
        let woken = thread.spawn(move || sleeper.words().answered.wait(0, None));
        let woken = woken.unwrap();
        while page.words().answered.sleeps.swap(0, Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        page.words().answered.raise_for_sure();
        assert_eq!(woken.join().unwrap(), 1);
    }

    #[test]
    fn a_file_of_another_size_is_no_page() {
        let file = memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
        let message = Page::of_file(file).unwrap_err().to_string();
        assert!(message.contains("found 0"), "{message}");
    }

    #[test]
    fn no_signal_is_lost_however_the_two_sides_meet() {
        let page = Arc::new(Page::new().unwrap());
        let theirs = Page::of_file(page.file().unwrap().into()).unwrap();
        let thread = std::thread::Builder::new().name("echo".to_owned());
        let echo = thread.spawn(move || {
            let mut seen = 0;
            while seen != 20_000 {
                seen = theirs.words().submitted.wait(seen, None);
                theirs.words().answered.raise();
            }
        });
        let echo = echo.unwrap();
        for answers in 0..20_000 {
            page.words().submitted.raise();
            page.words().answered.wait(answers, None);
        }
        echo.join().unwrap();
    }

    #[test]
    fn a_sleeper_wakes_at_its_instant() {
        let page = Page::new().unwrap();
        let until = Instant::now() + Duration::from_millis(1);
        assert_eq!(page.words().answered.wait(0, Some(until)), 0);
        assert!(Instant::now() >= until);
    }

    #[test]
    fn the_memory_of_a_large_batch_goes_back() {
        let page = Page::new().unwrap();
        let blocks = || rustix::fs::fstat(&page.file).unwrap().st_blocks * 512;
        let large = vec![7; 8 << 20];
        let (_, used) = page.write(0, &large).unwrap();
        assert!(blocks() >= 8 << 20);
        page.give_back(used);
        assert!(blocks() <= 1 << 20, "{}", blocks());
    }
}

//! Memory settings of glibc and of the kernel: what is not used takes no memory, and what ONNX Runtime frees goes back.
//!
//! By default glibc raises its mmap threshold as large blocks are freed, so that later weights come from the heap and stay
//! there after an unload. A fixed threshold maps them one by one. Rust's allocator has no say in what ONNX Runtime allocates.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks from this size on are mapped each on their own and unmapped when freed, in bytes.
const MMAP_THRESHOLD_BYTES: libc::c_int = 256 * 1024;

/// Whether the process is serin's own: nobody else has memory in it that is given back with ours. Relaxed wherever it is read or
/// written: it is set before there is a second thread.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Takes the memory of the process to be serin's own, and fixes the threshold above which blocks are mapped each on their own.
pub(super) fn own_process() {
    IS_OURS.store(true, Ordering::Relaxed);
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "mallopt has no safe form")]
    // SAFETY: mallopt takes two integers by value and is thread-safe; the parameter is one that glibc documents.
    let accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
    #[cfg(target_env = "gnu")]
    debug_assert_eq!(accepted, 1, "glibc accepts a threshold below its maximum");
}

/// Hands memory that is free but kept, and code that was run, back to the system; called after an unload. In somebody else's process
/// it does nothing: what is free there is not ours to give.
pub fn give_back_memory() {
    if !IS_OURS.load(Ordering::Relaxed) {
        return;
    }
    forget_code();
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "malloc_trim has no safe form")]
    // SAFETY: malloc_trim takes an integer by value and is thread-safe; it moves no block that is in use.
    let _some_was_free = unsafe { libc::malloc_trim(0) };
}

/// Takes bytes of the binary out of memory, which are needed once; who reads them again gets them from the file.
#[cfg(carries_onnxruntime)]
pub(super) fn forget(bytes: &'static [u8]) {
    let page = rustix::param::page_size();
    let start = bytes.as_ptr().addr().next_multiple_of(page);
    let end = (bytes.as_ptr().addr() + bytes.len()) / page * page;
    if start < end {
        // Whole pages of an immutable static: nobody has written to them.
        drop_pages(start, end - start);
    }
}

/// The place of ONNX Runtime's code in memory, once it is loaded; it stays there.
static LIBRARY_CODE: OnceLock<Vec<(usize, usize)>> = OnceLock::new();

/// The library with this path is loaded: from now on [`forget_code`] knows its code.
pub(super) fn library_is_loaded(library: &Path) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    LIBRARY_CODE.get_or_init(|| code_of(&maps, library));
}

/// Takes the code of ONNX Runtime out of memory: what is run again comes back from the file. Most of it is run to load a model
/// and never after that.
pub(super) fn forget_code() {
    if !IS_OURS.load(Ordering::Relaxed) {
        return;
    }
    for (start, bytes) in LIBRARY_CODE.get().into_iter().flatten() {
        drop_pages(*start, *bytes);
    }
}

/// The address of a library's code, and its size: mappings of its file that are run and cannot be written.
fn code_of(maps: &str, library: &Path) -> Vec<(usize, usize)> {
    let code = maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let path = line.find('/').map(|at| Path::new(&line[at..]))?;
        if rights != "r-xp" || path != library {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        Some((
            start,
            usize::from_str_radix(end, 16).ok()?.checked_sub(start)?,
        ))
    });
    code.collect()
}

/// Takes whole pages out of memory that are mapped from a file and that nobody has changed or can change.
fn drop_pages(start: usize, bytes: usize) {
    let address = std::ptr::without_provenance_mut(start);
    #[expect(unsafe_code, reason = "no safe form gives advice about memory")]
    // SAFETY: the callers give ranges that are mapped read-only from files, so what is dropped is read from the file again, byte
    // for byte, by whoever needs it; the call itself reads and writes no memory of this process.
    let refused = unsafe { libc::madvise(address, bytes, libc::MADV_DONTNEED) } != 0;
    if refused {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the kernel keeps pages in memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_library_s_own_code_is_forgotten() {
        let maps = "\
            7f00-8f00 r--p 0 00:00 1 /lib/a b.so\n\
            8f00-9f10 r-xp 0 00:00 1    /lib/a b.so\n\
            af00-bf00 rwxp 0 00:00 1 /lib/a b.so\n\
            bf00-cf00 r-xp 0 00:00 2 /lib/c.so\n\
            cf00-df00 r-xp 0 00:00 0\n";
        assert_eq!(code_of(maps, Path::new("/lib/a b.so")), [(0x8f00, 0x1010)]);
    }

    #[cfg(carries_onnxruntime)]
    #[test]
    fn what_is_forgotten_is_read_again() {
        static BYTES: [u8; 100_000] = [7; 100_000];
        forget(&BYTES);
        assert!(BYTES.iter().all(|byte| *byte == 7));
        forget(&BYTES[..10]);
    }
}

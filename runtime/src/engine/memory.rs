//! Memory settings of glibc: what ONNX Runtime frees goes back to the system.
//!
//! By default glibc raises its mmap threshold as large blocks are freed, so that later weights come from the heap and stay
//! there after an unload. A fixed threshold maps them one by one. Rust's allocator has no say in what ONNX Runtime allocates.

/// Blocks from this size on are mapped each on their own and unmapped when freed, in bytes.
const MMAP_THRESHOLD_BYTES: libc::c_int = 256 * 1024;

/// Fixes the threshold above which blocks are mapped each on their own.
pub(super) fn fix_mmap_threshold() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "mallopt has no safe form")]
    // SAFETY: mallopt takes two integers by value and is thread-safe; the parameter is one that glibc documents.
    let accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
    #[cfg(target_env = "gnu")]
    debug_assert_eq!(accepted, 1, "glibc accepts a threshold below its maximum");
}

/// Hands memory that is free but kept back to the system; called after an unload.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "malloc_trim has no safe form")]
    // SAFETY: malloc_trim takes an integer by value and is thread-safe; it moves no block that is in use.
    let _some_was_free = unsafe { libc::malloc_trim(0) };
}

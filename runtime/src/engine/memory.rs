//! glibc's memory settings (serving.md 3.3 rule 3). The one file with unsafe code for malloc.

/// Hands freed memory back to the system (`malloc_trim`); called after an unload.
pub fn give_back_memory() {
    todo!()
}

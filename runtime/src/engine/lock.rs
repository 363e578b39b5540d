//! The lock of a mutex whose content is valid at every instant, so that a panic elsewhere takes nothing away.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock, also after a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

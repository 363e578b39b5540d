//! Room for more memory on this machine: of the kernel's own figures and of the control groups that this process is in.
//!
//! A control group that is over its limit gets no refusal: the kernel kills a process of it. So who is about to take much
//! memory asks here first, and touches all of it before the next one may ask.
//!
//! Threads: any; a question reads some small files. Not here: what a run may take (`run_memory`), how the kernel tells its figures
//! (`observe`).

use std::sync::{Mutex, OnceLock};

use crate::engine::lock::lock;
use crate::observe::{ControlGroup, memory_available};

/// Room that is left to what cannot be refused: stacks, sockets, the tensors that a body is decoded to.
const SPARED_BYTES_MAX: u64 = 64 << 20;
/// The same as a part of a small limit: one in so many.
const SPARED_PART: u64 = 32;

/// The limit without what is spared for the rest of the process.
fn spare(limit: u64) -> u64 {
    limit - (limit / SPARED_PART).min(SPARED_BYTES_MAX)
}

/// Bytes that this process may still take, by every limit on it; nothing where the kernel does not tell.
fn room() -> Option<u64> {
    static GROUPS: OnceLock<Vec<ControlGroup>> = OnceLock::new();
    let groups = GROUPS.get_or_init(ControlGroup::of_this_process).iter();
    let of_groups = groups.filter_map(|group| Some(left(group.limit()?, group.used()?)));
    of_groups.chain(memory_available().map(spare)).min()
}

/// Bytes that are left of a limit.
fn left(limit: u64, used: u64) -> u64 {
    spare(limit).saturating_sub(used)
}

/// Bytes that were granted and are not all touched yet: the kernel does not count them.
static GRANTED: Mutex<u64> = Mutex::new(0);

/// Leave to take memory; to be kept until all of it was touched.
#[derive(Debug)]
pub(super) struct Grant(u64);

impl Drop for Grant {
    fn drop(&mut self) {
        *lock(&GRANTED) -= self.0;
    }
}

/// Asks for leave to take so many bytes.
///
/// # Errors
///
/// The bytes that there are, when these are fewer.
pub(super) fn grant(bytes: u64) -> Result<Grant, u64> {
    grant_within(bytes, room)
}

fn grant_within(bytes: u64, room: impl FnOnce() -> Option<u64>) -> Result<Grant, u64> {
    let mut granted = lock(&GRANTED);
    // Under the lock: what others were granted is in the figures that are read now, or still counted here.
    let left = room().map(|room| room.saturating_sub(*granted));
    match left {
        Some(left) if left < bytes => Err(left),
        _ => {
            *granted += bytes;
            Ok(Grant(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_every_limit_is_spared() {
        assert_eq!(left(1_000_000, 350_000), 1_000_000 - 31_250 - 350_000);
        assert_eq!(left(1_000_000, 2_000_000), 0);
        assert_eq!(left(1 << 40, 0), (1 << 40) - SPARED_BYTES_MAX);
        assert!(room().is_some());
    }

    #[test]
    fn what_is_granted_and_not_yet_touched_is_not_granted_again() {
        // The figures of other tests in this process are in the sum too, so all room but for a little is asked for.
        const ROOM: u64 = 1 << 50;
        let room = || Some(ROOM);
        let first = grant_within(ROOM / 2, room).unwrap();
        let left = grant_within(ROOM / 4 * 3, room).unwrap_err();
        assert!(left <= ROOM / 2, "{left}");
        drop(first);
        drop(grant_within(ROOM / 4 * 3, room).unwrap());
        drop(grant_within(u64::MAX / 4, || None).unwrap());
    }
}

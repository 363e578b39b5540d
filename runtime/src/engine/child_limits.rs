//! Limits that a child process of the server sets itself.
//!
//! Not here: how high they are (`probe_child`, `lane`).

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits what this process may have of a resource, for good. What it inherited may be less, and then it stays: more is not given.
pub(super) fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(within(resource, most));
    let (current, maximum) = (most, most);
    setrlimit(resource, Rlimit { current, maximum })
}

/// What a child gets of a resource when it is to have this much: no more than this process may have.
pub(super) fn within(resource: Resource, most: u64) -> u64 {
    let inherited = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    most.min(inherited)
}

//! Whether this process is the child of a fork: it has the memory of the one that serves, and none of its threads.
//!
//! Whoever waits there for a thread of the parent waits for ever, so who is about to asks first. A child that starts another program
//! (`exec`) has nothing to do with this.
//!
//! Threads: any. A look is one call of the system, which has no lock that another thread could have held at the fork.

use std::sync::OnceLock;

use rustix::process::{Pid, getpid};

/// The process in which serin was used first.
static FIRST: OnceLock<Pid> = OnceLock::new();

/// The refusal of a process that has the threads of serin in its memory only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process is the fork of one that uses serin, whose threads it does not have: fork before serin is used, or start a program of its own (exec)"
)]
pub struct ForkedChild;

/// Refuses in the child of a fork. The first call says which process is the parent, so it belongs before the first thread.
///
/// # Errors
///
/// [`ForkedChild`].
pub fn refuse_after_fork() -> Result<(), ForkedChild> {
    let here = getpid();
    match *FIRST.get_or_init(|| here) == here {
        true => Ok(()),
        false => Err(ForkedChild),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    /// What the child says by its exit code.
    const REFUSED: i32 = 41;

    #[test]
    #[expect(unsafe_code, reason = "no safe form of fork is there")]
    fn a_fork_hears_of_it_at_once_and_its_parent_goes_on() {
        assert_eq!(refuse_after_fork(), Ok(()));
        // SAFETY: the child calls nothing but the system, takes no lock and allocates nothing, and ends without unwinding.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = if refuse_after_fork().is_err() {
                REFUSED
            } else {
                0
            };
            // SAFETY: ends the child at once; no handler of the parent's runs.
            unsafe { libc::_exit(code) };
        }
        let child = Pid::from_raw(child).expect("a child");
        let (_, ended) = waitpid(Some(child), WaitOptions::empty())
            .expect("a child")
            .expect("it was waited for");
        assert_eq!(ended.exit_status(), Some(REFUSED));
        assert_eq!(refuse_after_fork(), Ok(()));
    }
}

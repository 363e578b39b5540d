//! File descriptors: each connection has one, and so has each model file, child process and file of the store. What the system gives
//! is divided before anybody connects, so that strangers never take what a change or a command needs.
//!
//! Not here: who goes when the connections have used their share (`serve`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::{ADMIN_CONNECTIONS_MAX, DESCRIPTORS_RESERVED_MAX, DESCRIPTORS_RESERVED_MIN};

/// The connections that there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionShares {
    pub(super) scoring: usize,
    pub(super) admin: usize,
}

/// Raises the limit of file descriptors as far as this process may. For a process that is the server's own: a program that embeds
/// the library may rely on its limit.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of file descriptors stays as it is");
    }
}

/// The connections that this process's limit leaves room for. Says so when that is less than what was asked for.
pub(super) fn connection_shares(asked: usize) -> ConnectionShares {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(usize::MAX);
    let shares = ConnectionShares::of(limit, asked);
    if shares.scoring < asked {
        warn!(
            connections_max = shares.scoring,
            asked,
            descriptors = limit,
            "fewer connections at once than asked for: the limit of file descriptors (ulimit -n) leaves no more beside a reserve for files and administration"
        );
    }
    shares
}

impl ConnectionShares {
    /// Divides `limit` descriptors. A quarter is reserved for files, and of few as many as an idle server has and a change needs;
    /// a sixteenth at most is for administration.
    fn of(limit: usize, asked: usize) -> Self {
        let reserved = (limit / 4)
            .clamp(DESCRIPTORS_RESERVED_MIN, DESCRIPTORS_RESERVED_MAX)
            .min(limit / 4 * 3);
        let admin = (limit / 16).clamp(1, ADMIN_CONNECTIONS_MAX);
        let left = limit.saturating_sub(reserved + admin);
        Self {
            scoring: asked.min(left).max(1),
            admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_take_what_files_need() {
        let shares = |limit| ConnectionShares::of(limit, 4096);
        let of = |scoring, admin| ConnectionShares { scoring, admin };
        assert_eq!(shares(64), of(12, 4));
        assert_eq!(shares(256), of(176, 16));
        assert_eq!(shares(1024), of(704, 64));
        assert_eq!(shares(4096), of(3008, 64));
        assert_eq!(shares(1 << 20), of(4096, 64));
        assert_eq!(shares(usize::MAX), of(4096, 64));
        for limit in 16..10_000 {
            let ConnectionShares { scoring, admin } = ConnectionShares::of(limit, usize::MAX);
            let reserved = limit - scoring - admin;
            assert!(reserved >= limit.min(64) / 4 * 3, "{limit}");
            assert!(reserved >= (limit / 4).min(1024), "{limit}");
        }
    }

    #[test]
    fn there_is_a_connection_of_each_kind_however_few_descriptors_there_are() {
        let least = ConnectionShares {
            scoring: 1,
            admin: 1,
        };
        assert_eq!(ConnectionShares::of(0, 4096), least);
        assert_eq!(ConnectionShares::of(1 << 20, 1).scoring, 1);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        raise_descriptor_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}

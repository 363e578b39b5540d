//! Settings of a server, all of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{
    BODY_BYTES_DEFAULT, BYTES_IN_FLIGHT_PART, CONNECTIONS_DEFAULT, EDGE_THREADS_MAX, GRACE_DEFAULT,
    TOKEN_LIFE_DEFAULT,
};
use crate::control::OnLoss;
use crate::engine::{Capacity, Pinning, Prober};
use crate::observe::memory_limit;
use crate::spec::SkuTable;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder with all that must outlive the process; made when it is missing.
    pub data: PathBuf,
    /// The address at which requests are scored. Port 0: any free one.
    pub scoring_address: SocketAddr,
    /// The address at which the server is administered. Port 0: any free one; commands find it by `server.json` in the
    /// data folder.
    pub admin_address: SocketAddr,
    /// The rule for instances that ask for more cores than there are.
    pub capacity: Capacity,
    /// Whether threads keep to the cores of their instance.
    pub pinning: Pinning,
    /// Instance types: the built-in table, and what the user added.
    pub skus: SkuTable,
    /// Life of a token of an endpoint with `auth_mode: aml_token`.
    pub token_life: Duration,
    /// Largest body of a scoring request, in bytes.
    pub body_bytes_max: usize,
    /// Most bytes of bodies and answers that are held at once, those of small ones aside; without a number a part of the memory. It
    /// is never less than one largest body.
    pub bytes_in_flight_max: Option<u64>,
    /// Most scoring connections at once.
    pub connections_max: usize,
    /// Where metrics are shown besides administration.
    pub metrics: Option<MetricsAt>,
    /// Threads that move bytes.
    pub edge_threads: usize,
    /// The time in which a server that is asked to end says that it is not ready, and serves on.
    pub drain_delay: Duration,
    /// Longest that requests in flight may take to end when the server exits.
    pub grace: Duration,
    /// The prober, which tries a model in a child process before it is served; without one models are not tried first.
    pub prober: Option<Prober>,
    /// Whether the process is the server's own, so that it may handle fatal signals: then the next start on the data folder knows
    /// what killed it.
    pub black_box: bool,
    /// What to do when the data folder has less than was accepted.
    pub on_loss: OnLoss,
    /// Each change of it asks for the status of the server in the log.
    pub status_asked: Option<watch::Receiver<()>>,
}

impl Config {
    /// Defaults for a data folder: loopback, port 5001 for scoring (as Azure's inference server), any port for the rest.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            scoring_address: SocketAddr::from(([127, 0, 0, 1], 5001)),
            admin_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            capacity: Capacity::default(),
            pinning: Pinning::default(),
            skus: SkuTable::builtin(),
            token_life: TOKEN_LIFE_DEFAULT,
            body_bytes_max: BODY_BYTES_DEFAULT,
            bytes_in_flight_max: None,
            connections_max: CONNECTIONS_DEFAULT,
            metrics: None,
            edge_threads: edge_threads(num_cpus::get()),
            drain_delay: Duration::ZERO,
            grace: GRACE_DEFAULT,
            prober: None,
            black_box: false,
            on_loss: OnLoss::Refuse,
            status_asked: None,
        }
    }
}

/// A place where Prometheus finds the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsAt {
    /// A listener of their own. Port 0: any free one.
    Address(SocketAddr),
    /// `/metrics` of the scoring address, open to whoever reaches that.
    Scoring,
}

impl MetricsAt {
    /// The address of a listener of their own.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Scoring => None,
        }
    }
}

/// The bytes in flight that the memory allows for, where no other number is asked for.
pub(crate) fn bytes_in_flight_max(asked: Option<u64>, body_bytes_max: usize) -> u64 {
    // Where the kernel does not tell, as much as one largest body, which is the least there is.
    asked.unwrap_or_else(|| part_of_memory(memory_limit().unwrap_or(0), body_bytes_max))
}

/// A part of the memory; where large bodies are allowed up to half of it, so that there is room for others beside one of them.
fn part_of_memory(memory: u64, body_bytes_max: usize) -> u64 {
    let two_bodies = u64::try_from(body_bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_mul(2);
    (memory / BYTES_IN_FLIGHT_PART).max(two_bodies.min(memory / 2))
}

/// One edge thread for each four cores: moving bytes alone, it serves some 60,000 requests a second on one core. Small work that
/// it executes inline comes on top of that; all other work is for score threads.
pub(crate) fn edge_threads(cores: usize) -> usize {
    (cores / 4).clamp(1, EDGE_THREADS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_flight_are_a_quarter_of_the_memory_or_half_of_it_where_bodies_are_large() {
        const GB: u64 = 1_000_000_000;
        let part = |memory, body: u64| part_of_memory(memory, usize::try_from(body).unwrap());
        assert_eq!(part(24 * GB, GB / 10), 6 * GB);
        assert_eq!(part(24 * GB, 4 * GB), 8 * GB);
        assert_eq!(part(24 * GB, 20 * GB), 12 * GB);
        assert_eq!(part(0, GB), 0);
    }

    #[test]
    fn small_machines_have_one_edge_thread_and_large_ones_a_few() {
        let threads: Vec<_> = [0, 1, 2, 4, 8, 64].map(edge_threads).into();
        assert_eq!(threads, [1, 1, 1, 1, 2, 4]);
    }
}

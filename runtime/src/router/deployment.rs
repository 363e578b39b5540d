//! A deployment as requests see it: admission, and the handles of the instances.
//!
//! Threads: edge. Finds room and never waits for a model.
//! Not here: whether the request may run (`admission`), what happens to it (`engine`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::deadline::Deadline;
use crate::engine::{InstanceHandle, Reservation, ReserveError};
use crate::observe::DeploymentMetrics;
use crate::router::AdmissionControl;
use crate::spec::DeploymentName;

/// Tries at once before the pauses begin: an exchange of instances takes microseconds.
const YIELDS_MAX: u32 = 16;
/// Pause between later tries, while an instance that died is not replaced yet.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// One deployment as requests see it under one routing table. Immutable; `admission` outlives tables.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name.
    pub name: DeploymentName,
    /// Shared by successive tables, so that no instance is admitted to twice over.
    pub admission: Arc<AdmissionControl>,
    /// Those that take requests; none while the deployment is not ready.
    pub instances: Vec<InstanceHandle>,
    /// The longest that a request may take, waiting included.
    pub request_timeout: Duration,
    /// Where its requests are recorded.
    pub metrics: Arc<DeploymentMetrics>,
}

/// The reason why a job has no reservation.
#[derive(Debug)]
pub(super) enum NotReserved {
    /// No instance is open; look the deployment up again.
    Closed,
    /// Every open instance is full, and there may be others by now; look the deployment up again.
    Full,
    /// Every open instance was full until the deadline.
    DeadlinePassed,
}

impl Deployment {
    /// Whether a scoring script answers, at some instance at least: while one takes the place of a model there are both.
    #[must_use]
    pub fn runs_a_script(&self) -> bool {
        self.instances.iter().any(InstanceHandle::runs_a_script)
    }

    /// Makes a reservation at the least loaded open instance.
    ///
    /// Permits leave room at some instance, but for the moment in which instances are exchanged or one has died; then it tries
    /// again until the deadline, where this `is_current`. A request that waited for its slot while the deployment grew has a table of
    /// before: the room is at instances that it does not see.
    pub(super) async fn reserve(
        &self,
        job: u64,
        deadline: Deadline,
        is_current: bool,
    ) -> Result<(&InstanceHandle, Reservation), NotReserved> {
        for tries in 0_u32.. {
            match self.try_reserve(job) {
                Ok(reserved) => return Ok(reserved),
                Err(ReserveError::Closed) => return Err(NotReserved::Closed),
                Err(ReserveError::Full) => {}
            }
            if deadline.has_passed(Instant::now()) {
                return Err(NotReserved::DeadlinePassed);
            }
            if tries < YIELDS_MAX {
                yield_now().await;
            } else if !is_current {
                return Err(NotReserved::Full);
            } else {
                sleep(FULL_PAUSE).await;
            }
        }
        Err(NotReserved::DeadlinePassed)
    }

    /// Tries once; `Closed` only when no instance is open.
    pub(super) fn try_reserve(
        &self,
        job: u64,
    ) -> Result<(&InstanceHandle, Reservation), ReserveError> {
        let loads = self.instances.iter().map(InstanceLoad::of);
        match least_loaded(loads, job) {
            Choice::Instance(index) => {
                let instance = self.instances.get(index).ok_or(ReserveError::Full)?;
                // Another request may have been faster, or the instance was closed: that is not yet true of all.
                let reservation = instance.reserve().map_err(|_| ReserveError::Full)?;
                Ok((instance, reservation))
            }
            Choice::AllFull => Err(ReserveError::Full),
            Choice::AllClosed => Err(ReserveError::Closed),
        }
    }
}

/// The facts on which the choice rests.
#[derive(Debug, Clone, Copy)]
struct InstanceLoad {
    closed: bool,
    load: u32,
    concurrency: u32,
}

impl InstanceLoad {
    fn of(instance: &InstanceHandle) -> Self {
        Self {
            closed: instance.is_closed(),
            load: instance.load(),
            concurrency: instance.concurrency(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Instance(usize),
    AllFull,
    AllClosed,
}

/// The open instance with room that has the fewest requests. Of several such, successive jobs take successive ones.
fn least_loaded(loads: impl ExactSizeIterator<Item = InstanceLoad>, job: u64) -> Choice {
    let count = loads.len();
    let first = job % u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    let first = usize::try_from(first).unwrap_or(0);
    let mut any_open = false;
    let mut best = None;
    for (index, instance) in loads.enumerate() {
        any_open |= !instance.closed;
        if instance.closed || instance.load >= instance.concurrency {
            continue;
        }
        // How far behind the first one it stands, around the circle.
        let rank = (instance.load, (index + count - first) % count);
        if best.is_none_or(|(best_rank, _)| rank < best_rank) {
            best = Some((rank, index));
        }
    }
    match best {
        Some((_, index)) => Choice::Instance(index),
        None if any_open => Choice::AllFull,
        None => Choice::AllClosed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(load: u32) -> InstanceLoad {
        InstanceLoad {
            closed: false,
            load,
            concurrency: 4,
        }
    }

    fn closed() -> InstanceLoad {
        InstanceLoad {
            closed: true,
            ..open(0)
        }
    }

    fn choice(loads: &[InstanceLoad], job: u64) -> Choice {
        least_loaded(loads.iter().copied(), job)
    }

    #[test]
    fn the_least_loaded_open_instance_with_room_is_chosen() {
        assert_eq!(choice(&[open(2), open(1), open(3)], 0), Choice::Instance(1));
        assert_eq!(
            choice(&[open(2), closed(), open(3)], 1),
            Choice::Instance(0)
        );
        let narrow = InstanceLoad {
            concurrency: 1,
            ..open(1)
        };
        assert_eq!(choice(&[narrow, open(3)], 0), Choice::Instance(1));
    }

    #[test]
    fn equally_loaded_instances_take_turns() {
        let loads = [open(1), open(1), open(1)];
        let turns: Vec<_> = (6..10).map(|job| choice(&loads, job)).collect();
        assert_eq!(turns, [0, 1, 2, 0].map(Choice::Instance));
        let one_busy = [open(1), open(2), open(1)];
        let turns: Vec<_> = (0..3).map(|job| choice(&one_busy, job)).collect();
        assert_eq!(turns, [0, 2, 2].map(Choice::Instance));
    }

    #[test]
    fn full_and_closed_are_told_apart() {
        assert_eq!(choice(&[closed(), open(4)], 0), Choice::AllFull);
        assert_eq!(choice(&[closed(), closed()], 0), Choice::AllClosed);
        assert_eq!(choice(&[], 5), Choice::AllClosed);
    }
}

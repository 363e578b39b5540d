//! Admission: says whether a deployment may take one more request now.

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::engine::Permit;

/// Why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Running and waiting requests are at twice the slots. Carries what `Retry-After` needs.
    #[error("too many pending requests: {held} held, at most {held_max}")]
    QueueFull { held: usize, held_max: usize },
    /// The deadline passed while waiting.
    #[error("no slot became free before the deadline")]
    DeadlinePassed,
    /// The deployment is going away; look it up again.
    #[error("the deployment is being drained")]
    Draining,
}

/// Slots of one deployment: instances x concurrency; running plus waiting at most twice that.
#[derive(Debug)]
pub struct AdmissionControl {}

impl AdmissionControl {
    pub fn new(_slots: usize) -> Arc<Self> {
        todo!()
    }
    /// Waits for a slot in order of arrival, never past `deadline`. Cancel safe.
    pub async fn admit(self: &Arc<Self>, _deadline: Deadline) -> Result<Permit, Rejected> {
        todo!()
    }
    /// Changes the slots in place; slots that are in use are taken back as their work ends.
    pub fn resize(&self, _slots: usize) {
        todo!()
    }
    /// Refuses from now on with `Draining`, waiting requests too; resolves when the last admitted request ended.
    pub async fn drain(&self) {
        todo!()
    }
    pub fn slots(&self) -> usize {
        todo!()
    }
    pub fn held(&self) -> usize {
        todo!()
    }
}

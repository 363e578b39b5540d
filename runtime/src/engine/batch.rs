//! How many requests one run may take together, and how long a lane may wait for them. A value; the lane acts on it.
//!
//! Not here: which requests fit together (`worker`), what the settings are called in files (`spec`).

use std::time::Duration;

/// Bounds of the batches of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSettings {
    /// Most rows that one run may take together; 1 turns batching off. Without one the measured profile of the model
    /// decides, up to [`BATCH_SIZE_DEFAULT_MAX`](crate::config::BATCH_SIZE_DEFAULT_MAX).
    pub size_max: Option<u32>,
    /// Longest that a lane waits for more requests before it runs what it has. With none it takes what waits already.
    pub delay: Duration,
}

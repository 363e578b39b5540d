//! Desired
use serde::{Deserialize, Serialize};
use std::fmt;

/// Number of a state of all wishes. Each accepted change makes the next one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All wishes.
#[derive(Debug, Clone, Default)]
pub struct Desired {}

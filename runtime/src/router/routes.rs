//! Where the requests of an endpoint go, as the control plane says it: the split, and who stays with whom.
//!
//! Pure data. Not here: the decision about one request (`table`).

use crate::observe::StickyMisses;
use crate::spec::{Cohorts, Sticky, TrafficSplit};

/// What decides where the requests of an endpoint go.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The share of each deployment.
    pub split: TrafficSplit,
    /// The rule by which clients stay where they are; none where each request is decided by itself.
    pub sticky: Option<StickyRoutes>,
}

/// Clients that stay where they are.
#[derive(Debug, Clone)]
pub struct StickyRoutes {
    /// By what they are known.
    pub rule: Sticky,
    /// Where they belong.
    pub cohorts: Cohorts,
    /// Counts requests that do not say whose they are.
    pub misses: StickyMisses,
}

impl From<TrafficSplit> for Routes {
    fn from(split: TrafficSplit) -> Self {
        Self {
            split,
            sticky: None,
        }
    }
}

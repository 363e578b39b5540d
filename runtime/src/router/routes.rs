//! Where the requests of an endpoint go, as the control plane says it: the split, who stays with whom, who gets copies.
//!
//! Pure data. Not here: the decision about one request (`table`).

use crate::observe::{ShadowMetrics, StickyMisses};
use crate::spec::{Cohorts, DeploymentName, Percent, Sticky, TrafficSplit};

/// What decides where the requests of an endpoint go.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The share of each deployment.
    pub split: TrafficSplit,
    /// The rule by which clients stay where they are; none where each request is decided by itself.
    pub sticky: Option<StickyRoutes>,
    /// Who gets copies of requests.
    pub shadows: Vec<ShadowRoute>,
}

/// A deployment that gets copies of requests.
#[derive(Debug, Clone)]
pub struct ShadowRoute {
    /// Its name.
    pub name: DeploymentName,
    /// The share of requests that it gets.
    pub share: Percent,
    /// Where its copies are counted.
    pub metrics: ShadowMetrics,
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
            shadows: Vec::new(),
        }
    }
}

//! The parts that all endpoints of one serin share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::control::Local;
use crate::embedded::error::{Ended, ScoreError};
use crate::engine::refuse_after_fork;
use crate::observe::Metrics;
use crate::router::Router;
use crate::spec::{EndpointName, SkuTable};

/// Router, metrics and the control plane. Dropped with the last handle: what runs ends then, elsewhere.
#[derive(Debug)]
pub(super) struct Runtime {
    router: Arc<Router>,
    metrics: Arc<Metrics>,
    /// With the sizes that deployments have asked for by their number of vCPUs.
    skus: ArcSwap<SkuTable>,
    control: Local,
    /// Endpoints that somebody holds.
    names: Mutex<BTreeSet<EndpointName>>,
    /// Somebody has shut everything down. Relaxed wherever it is read or written: who misses it is told by the control plane.
    is_stopped: AtomicBool,
}

impl Runtime {
    pub(super) fn new(
        (router, metrics): (Arc<Router>, Arc<Metrics>),
        skus: SkuTable,
        control: Local,
    ) -> Self {
        Self {
            router,
            metrics,
            skus: ArcSwap::from_pointee(skus),
            control,
            names: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn skus(&self) -> Arc<SkuTable> {
        self.skus.load_full()
    }

    /// Knows the sizes of this table from now on.
    pub(super) fn keep_skus(&self, skus: &SkuTable) {
        self.skus.rcu(|known| known.joined(skus));
    }

    pub(super) fn control(&self) -> &Local {
        &self.control
    }

    /// Nothing begins from now on.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Whether anything can begin.
    pub(super) fn check(&self) -> Result<(), Ended> {
        if refuse_after_fork().is_err() {
            Err(Ended::Forked)
        } else if self.is_stopped() {
            Err(Ended::Stopped)
        } else {
            Ok(())
        }
    }

    /// The error as it is after a shutdown, or the end of its endpoint: then nothing is out of order or missing, but gone.
    pub(super) fn told_of_end(&self, error: ScoreError, is_open: bool) -> ScoreError {
        let has_ended = self.is_stopped() || !is_open;
        match error {
            ScoreError::NotReady { .. }
            | ScoreError::InstanceGone { .. }
            | ScoreError::NoDeployment { .. }
            | ScoreError::NoTraffic { .. }
                if has_ended =>
            {
                ScoreError::Stopped
            }
            error => error,
        }
    }

    /// Takes the name for an endpoint; whether nobody had it.
    pub(super) fn take_name(&self, name: &EndpointName) -> bool {
        // Held for an insertion; a panic elsewhere leaves the set whole.
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.clone())
    }

    pub(super) fn free_name(&self, name: &EndpointName) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(name);
    }
}

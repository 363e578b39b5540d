//! Every series, unit and label, in one file.

use std::sync::Arc;

use super::Timings;

/// How a request ended; the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// 200
    Ok,
    /// 424: the body did not fit the model.
    InputError,
    /// 424: the model or scorer failed.
    ModelError,
    /// 408
    Timeout,
    /// 429
    Shed,
    /// The client left before the answer (499).
    ClientGone,
    /// 500
    Internal,
}

/// All series of the process.
#[derive(Debug)]
pub struct Metrics {}

impl Metrics {
    pub fn new() -> Arc<Self> {
        todo!()
    }
    /// Series of one deployment; the same object for the same names while it lives.
    pub fn deployment(&self, _endpoint: &str, _deployment: &str) -> Arc<DeploymentMetrics> {
        todo!()
    }
    /// Forgets the series of a deleted deployment.
    pub fn forget(&self, _endpoint: &str, _deployment: &str) {
        todo!()
    }
    /// Requests that ended before a deployment was chosen (401, 404, 413, ..), by status.
    pub fn refused(&self, _status: u16) {
        todo!()
    }
    /// Prometheus text format.
    pub fn render(&self) -> String {
        todo!()
    }
}

/// Series of one deployment.
#[derive(Debug)]
pub struct DeploymentMetrics {}

impl DeploymentMetrics {
    /// Records one request, once.
    pub fn record(&self, _outcome: Outcome, _timings: &Timings) {
        todo!()
    }
    pub fn set_slots(&self, _slots: usize) {
        todo!()
    }
    pub fn set_instances(&self, _instances: usize) {
        todo!()
    }
    /// A request was admitted or queued (+1) or ended (-1).
    pub fn in_flight(&self, _change: i64) {
        todo!()
    }
}

//! The way down of the edge: readiness says no for the drain delay, then the last answers are given, then nobody waits any more.
//!
//! Threads: the one that runs the server. Not here: what connections see of it (`serve`), the way down of the rest (`server`).

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::app::config::Config;
use crate::app::edge::Edge;
use crate::app::error::AppError;
use crate::app::systemd;
use crate::config::{IDLE_WAIT_MAX, IDLE_WAIT_MIN};
use crate::serve::Drain;

/// The way down of the edge.
pub(super) struct WayDown {
    drain: Drain,
    delay: Duration,
    grace: Duration,
    /// Another process accepts already: balancers find it at the same address.
    pub(super) is_replaced: bool,
}

impl WayDown {
    pub(super) fn new(drain: Drain, config: &Config) -> Self {
        Self {
            drain,
            delay: config.drain_delay,
            grace: config.grace,
            is_replaced: false,
        }
    }

    /// Has balancers look elsewhere, then accepts no more and lets what is in flight end.
    pub(super) async fn go(
        self,
        edge: Edge,
        cut: impl Future<Output = ()> + Send,
    ) -> Result<(), AppError> {
        let (drain, grace) = (self.drain.clone(), self.grace);
        let mut stopping = pin!(self.stop(edge));
        tokio::select! {
            cut = &mut stopping => {
                if cut > 0 {
                    let grace_s = grace.as_secs();
                    warn!(cut, grace_s, "requests were cut off: they took longer than the grace period");
                }
                return Ok(());
            }
            () = cut => {}
        }
        drain.cut();
        let cut = stopping.await;
        warn!(
            cut,
            "ended at once: requests in flight were told that they are not answered"
        );
        Err(AppError::CutShort)
    }

    async fn stop(self, edge: Edge) -> usize {
        if self.is_replaced {
            info!("stopping: another process accepts, requests in flight are finished");
            self.drain.close(self.grace);
            return edge.stop().await;
        }
        self.drain.leave();
        systemd::stopping();
        if !self.delay.is_zero() {
            let delay_s = self.delay.as_secs();
            info!(
                delay_s,
                "stopping: not ready any more, and all is served on for the delay"
            );
            tokio::select! {
                () = sleep(self.delay) => {}
                () = self.drain.until_cut() => {}
            }
        }
        info!("stopping: no new requests, those in flight are finished");
        let idle_wait = self.delay.clamp(IDLE_WAIT_MIN, IDLE_WAIT_MAX);
        self.drain.close(idle_wait);
        edge.stop().await
    }
}

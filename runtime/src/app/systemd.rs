//! What systemd is told, where it has started the server and asks for it (`Type=notify`, `WatchdogSec=`). Elsewhere nothing happens.
//!
//! Not here: its sockets (`sockets`).

use std::convert::Infallible;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// The server is ready.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The server is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the server from now on.
pub(super) fn replaced_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Says again and again that the calling thread is alive, where that is asked for; never ends.
pub(super) async fn keep_watchdog_quiet() -> Infallible {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Twice as often as it must be, as systemd advises.
    let mut beat = interval((within / 2).max(std::time::Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how the server is");
    }
}

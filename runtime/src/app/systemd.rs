//! What systemd is told, where it has started the server and asks for it (`Type=notify`, `WatchdogSec=`). Elsewhere nothing happens.
//!
//! A datagram each, which waits for nobody: the queue of a systemd that does not read is short, and a full one would hold up the thread.
//!
//! Not here: its sockets (`sockets`).

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::config::{NOTIFY_MAX, WATCHDOG_NOTIFY_MAX};

/// The server is ready.
pub(super) fn ready() {
    tell("READY=1", NOTIFY_MAX);
}

/// The server is about to end.
pub(super) fn stopping() {
    tell("STOPPING=1", NOTIFY_MAX);
}

/// Another process is the server from now on.
pub(super) fn replaced_by(pid: u32) {
    tell(&format!("MAINPID={pid}"), NOTIFY_MAX);
}

/// Says again and again that the calling thread is alive, where that is asked for; never ends.
pub(super) async fn keep_watchdog_quiet() -> Infallible {
    let Some(within) = watchdog() else {
        return std::future::pending().await;
    };
    // Twice as often as it must be, as systemd advises.
    let mut beat = interval((within / 2).max(WATCHDOG_NOTIFY_MAX));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        tell("WATCHDOG=1", WATCHDOG_NOTIFY_MAX);
    }
}

/// The time within which systemd wants to hear of this very process.
fn watchdog() -> Option<Duration> {
    let within = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let of = env::var("WATCHDOG_PID").ok().filter(|pid| !pid.is_empty());
    let is_meant = of.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    (is_meant && within > 0).then(|| Duration::from_micros(within))
}

fn tell(state: &str, within: Duration) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state, within) {
        tracing::warn!(%error, state, "systemd cannot be told how the server is");
    }
}

fn send(socket: &OsStr, state: &str, within: Duration) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(within))?;
    datagram.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_a_path_or_an_abstract_name_and_one_that_nobody_reads_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("serin-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (read, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&by_name).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            let send = || send(&socket, "READY=1", WATCHDOG_NOTIFY_MAX);
            send().unwrap();
            let mut word = [0; 16];
            let length = read.recv(&mut word).unwrap();
            assert_eq!(&word[..length], b"READY=1");
            while send().is_ok() {}
            drop(read);
            assert!(send().is_err());
        }
    }
}

//! Signals: the first asks the process to finish, the second ends it at once, with a moment for last words.
//!
//! Threads: one of its own, so that a busy process still hears them.

use std::io::{self, Read as _};
use std::thread;

use rustix::process::Signal as Signo;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::exit::{CliError, INTERRUPTED};
use crate::black_box;
use crate::config::AT_ONCE_MAX;

/// Becomes true with the first SIGTERM or SIGINT.
pub(super) fn stop() -> Result<watch::Receiver<bool>, CliError> {
    let asked = shutdown(false)?;
    let (tell, told) = watch::channel(false);
    let runtime = runtime::Builder::new_current_thread()
        .build()
        .map_err(CliError::Start)?;
    thread::Builder::new()
        .name("stop".to_owned())
        .spawn(move || {
            runtime.block_on(asked);
            tell.send_replace(true);
        })
        .map_err(CliError::Start)?;
    Ok(told)
}

/// Ends with the first SIGTERM or SIGINT. With `until_stdin_closes` also when nobody holds standard input open any more.
///
/// The signals are caught from the moment that this returns.
pub(super) fn shutdown(
    until_stdin_closes: bool,
) -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    Ok(shutdowns(until_stdin_closes)?.0)
}

/// The same, and the second signal. Who listens to that has [`AT_ONCE_MAX`] for its last words.
pub(super) fn shutdowns(
    until_stdin_closes: bool,
) -> Result<
    (
        impl Future<Output = ()> + Send + 'static,
        impl Future<Output = ()> + Send + 'static,
    ),
    CliError,
> {
    let (asked, heard) = oneshot::channel();
    let (asked_again, heard_again) = oneshot::channel();
    let (runtime, mut terminate, mut interrupt) = catch().map_err(CliError::Start)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = stdin_closed(until_stdin_closes) => {}
                }
                // Nobody hears it when the server has ended by itself.
                let _unheard = asked.send(());
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if asked_again.send(()).is_ok() {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                        () = tokio::time::sleep(AT_ONCE_MAX) => {}
                    }
                }
            });
            at_once();
        })
        .map_err(CliError::Start)?;
    let at_once = async move {
        if heard_again.await.is_err() {
            // The thread has ended the process, or is about to.
            std::future::pending::<()>().await;
        }
    };
    Ok((async move { drop(heard.await) }, at_once))
}

fn catch() -> io::Result<(Runtime, Signal, Signal)> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    // Uncaught, it would end the process; caught, a write past the limit on file sizes fails as one on a full disk does.
    drop(signal(SignalKind::from_raw(Signo::XFSZ.as_raw()))?);
    drop(entered);
    Ok((runtime, terminate, interrupt))
}

/// Ends when standard input does; never when that is not wanted.
async fn stdin_closed(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (closed, heard) = oneshot::channel::<()>();
    let reader = thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut byte = [0];
            while matches!(io::stdin().read(&mut byte), Ok(1..)) {}
            drop(closed);
        });
    if reader.is_err() {
        return std::future::pending().await;
    }
    drop(heard.await);
}

#[expect(
    clippy::exit,
    reason = "a second signal means at once, whatever still runs"
)]
pub(super) fn at_once() -> ! {
    black_box::close();
    std::process::exit(i32::from(INTERRUPTED));
}

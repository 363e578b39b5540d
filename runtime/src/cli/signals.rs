//! Signals: the first that asks the process to end lets it finish, the second ends it at once, with a moment for last words. A server
//! hears two more: SIGHUP opens its log again, and SIGUSR1 has its status written there.
//!
//! What was ignored when the process began stays ignored, as under `nohup`. A terminal that is closed says so by SIGHUP too; then a
//! server that had it ends as if it were asked to.
//!
//! Threads: one of its own, so that a busy process still hears them.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _, stderr, stdin, stdout};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal as Signo;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::exit::{CliError, INTERRUPTED};
use crate::black_box;
use crate::config::{AT_ONCE_MAX, LOG_FLUSH_MAX};
use crate::observe::{flush_log, reopen_log};

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
    Ok(hear(until_stdin_closes, None::<fn()>)?.0)
}

/// The same for a server, with the second signal and what changes when its status is asked for. Who listens to the second signal has
/// [`AT_ONCE_MAX`] for its last words.
pub(super) fn serving(
    until_stdin_closes: bool,
) -> Result<
    (
        impl Future<Output = ()> + Send + 'static,
        impl Future<Output = ()> + Send + 'static,
        watch::Receiver<()>,
    ),
    CliError,
> {
    let (ask, asked) = watch::channel(());
    let tell = move || {
        ask.send_replace(());
    };
    let (shutdown, at_once) = hear(until_stdin_closes, Some(tell))?;
    Ok((shutdown, at_once, asked))
}

/// Signals that this process hears for a server in another one.
pub(super) fn to_pass_on() -> Result<UnboundedReceiver<Signo>, CliError> {
    let (tell, told) = unbounded_channel();
    let runtime = new_runtime().map_err(CliError::Start)?;
    let entered = runtime.enter();
    let mut others = Others::catch().map_err(CliError::Start)?;
    drop(entered);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    let signal = match others.next().await {
                        Heard::Reopen => Signo::HUP,
                        Heard::TellStatus => Signo::USR1,
                        Heard::TerminalGone => Signo::TERM,
                    };
                    if tell.send(signal).is_err() {
                        return;
                    }
                }
            });
        })
        .map_err(CliError::Start)?;
    Ok(told)
}

fn hear(
    until_stdin_closes: bool,
    tell_status: Option<impl Fn() + Send + 'static>,
) -> Result<
    (
        impl Future<Output = ()> + Send + 'static,
        impl Future<Output = ()> + Send + 'static,
    ),
    CliError,
> {
    let (asked, heard) = oneshot::channel();
    let (asked_again, heard_again) = oneshot::channel();
    let runtime = new_runtime().map_err(CliError::Start)?;
    let mut ends = catch(&runtime).map_err(CliError::Start)?;
    let entered = runtime.enter();
    let others = tell_status.is_some().then(Others::catch).transpose();
    let mut others = others.map_err(CliError::Start)?;
    drop(entered);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let tell_status = || tell_status.as_ref().map_or((), |tell| tell());
            runtime.block_on(async {
                tokio::select! {
                    () = ends.next() => {}
                    () = terminal_gone(&mut others, &tell_status) => {}
                    () = stdin_closed(until_stdin_closes) => {}
                }
                // Nobody hears it when the server has ended by itself.
                let _unheard = asked.send(());
                let no_terminal = async {
                    loop {
                        terminal_gone(&mut others, &tell_status).await;
                    }
                };
                tokio::select! {
                    () = ends.next() => {}
                    () = no_terminal => {}
                }
                if asked_again.send(()).is_ok() {
                    tokio::select! {
                        () = ends.next() => {}
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

fn new_runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Signals that ask the process to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn catch(runtime: &Runtime) -> io::Result<Ends> {
    let _entered = runtime.enter();
    // Uncaught, it would end the process; caught, a write past the limit on file sizes fails as one on a full disk does.
    drop(signal(SignalKind::from_raw(Signo::XFSZ.as_raw()))?);
    Ok(Ends {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

/// What a server is asked for while it serves.
enum Heard {
    /// The log was opened again.
    Reopen,
    TellStatus,
    TerminalGone,
}

/// Signals that ask a server for something else than its end. Those that were ignored are none.
struct Others {
    hangup: Option<Signal>,
    user1: Option<Signal>,
    /// Which of the standard streams are a terminal.
    terminals: [bool; 3],
}

impl Others {
    fn catch() -> io::Result<Self> {
        let ignored = ignored();
        let heard = |number: Signo, kind: SignalKind| {
            let is_ignored = ignored & (1 << (number.as_raw() - 1)) != 0;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        Ok(Self {
            hangup: heard(Signo::HUP, SignalKind::hangup())?,
            user1: heard(Signo::USR1, SignalKind::user_defined1())?,
            terminals: [
                stdin().is_terminal(),
                stdout().is_terminal(),
                stderr().is_terminal(),
            ],
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            () = each(&mut self.hangup) => {
                if self.is_terminal_gone() {
                    return Heard::TerminalGone;
                }
                reopen_log();
                Heard::Reopen
            }
            () = each(&mut self.user1) => Heard::TellStatus,
        }
    }

    /// Whether a terminal that the process had when it began is not there any more.
    fn is_terminal_gone(&self) -> bool {
        let (input, output, error) = (stdin(), stdout(), stderr());
        let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
        let mut terminals = self.terminals.iter().zip(streams);
        terminals.any(|(was_terminal, stream)| *was_terminal && is_hung_up(stream))
    }
}

fn is_hung_up(stream: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(stream, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// The next signal; none ever comes of one that is not heard.
async fn each(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Does what a server is asked for, until its terminal has gone.
async fn terminal_gone(others: &mut Option<Others>, tell_status: impl Fn()) {
    let Some(others) = others else {
        return std::future::pending().await;
    };
    loop {
        match others.next().await {
            Heard::Reopen => {}
            Heard::TellStatus => tell_status(),
            Heard::TerminalGone => return,
        }
    }
}

/// The set of signals that the process ignores; none where the kernel does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status).unwrap_or(0)
}

fn ignored_in(status: &str) -> Option<u64> {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
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
            while matches!(stdin().read(&mut byte), Ok(1..)) {}
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
    flush_log(LOG_FLUSH_MAX);
    std::process::exit(i32::from(INTERRUPTED));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tserin\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        let set = ignored_in(status).unwrap();
        assert_ne!(set & (1 << (Signo::HUP.as_raw() - 1)), 0);
        assert_eq!(set & (1 << (Signo::USR1.as_raw() - 1)), 0);
        assert_eq!(ignored_in("Name:\tserin\n"), None);
    }

    #[test]
    fn a_pipe_whose_other_end_is_closed_is_hung_up_and_an_open_one_is_not() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!is_hung_up(reader.as_fd()));
        drop(writer);
        assert!(is_hung_up(reader.as_fd()));
    }
}

//! The supervisor: a process that loads nothing, holds the listening sockets open, and keeps another one alive that serves.
//!
//! When the server dies, who connects waits in the kernel's backlog until the next one accepts, instead of being refused. A server
//! that dies again and again is started after pauses that grow.
//!
//! Threads: one, the first of the process: the kernel ends the server with the thread that started it.
//! Not here: why the server died (`black_box`, in the next server), and the words on standard output (`cli`).

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal as Signo, getppid, kill_process, set_parent_process_death_signal,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::app::AppError;
use crate::app::sockets::{HandedOver, Sockets};
use crate::config::{RESTART_PAUSE_MAX, RESTART_PAUSE_MIN, RESTART_STEADY};

/// The way to start the server.
#[derive(Debug)]
pub struct Supervised {
    /// The serin binary.
    pub exe: PathBuf,
    /// Its arguments, without those that hand the sockets over.
    pub arguments: Vec<OsString>,
    /// The flag that hands the sockets over.
    pub handed_over: &'static str,
    /// Exit codes after which there is nothing to start again: it was asked to end, or would not start with these arguments.
    pub final_codes: &'static [u8],
}

/// Has the server run until it ends for good; how it ended. `on_ready` is called once, with the line that it prints when it is ready.
/// The server also gets the signals of `pass_on`, once it is ready to hear them.
///
/// # Errors
///
/// When the process or its parts cannot be made.
pub fn supervise(
    supervised: &Supervised,
    sockets: &Sockets,
    mut pass_on: UnboundedReceiver<Signo>,
    on_ready: impl FnOnce(&str),
) -> Result<ExitStatus, AppError> {
    let handed_over = sockets.hand_over().map_err(AppError::Supervisor)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let supervising = async {
        let mut signals = Signals::catch()?;
        let mut on_ready = Some(on_ready);
        let mut record = Record::default();
        loop {
            let begun = Instant::now();
            let mut server = match Server::start(supervised, handed_over) {
                Ok(server) => server,
                // The system may have room for it later, or the binary may be replaced just now.
                Err(error) if record.ever_ready => {
                    let pause = record.next_pause(false).max(RESTART_PAUSE_MIN);
                    tracing::error!(%error, pause_ms = pause.as_millis(), "the server cannot be started: it is tried again");
                    if signals.stop.pause(pause).await.is_err() {
                        return Ok(ExitStatus::default());
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ended = server
                .run(&mut signals, &mut pass_on, &mut on_ready)
                .await?;
            let life = Life {
                ready_for: server.ready_at.map(|at| at.elapsed()),
                ended,
                asked_to_end: signals.stop.is_asked_for,
            };
            let Some(pause) = record.pause_after(&life, supervised.final_codes) else {
                return Ok(ended);
            };
            tell(&life, begun.elapsed(), &record, pause);
            if signals.stop.pause(pause).await.is_err() {
                // Nobody serves, which is what was asked for.
                return Ok(ExitStatus::default());
            }
        }
    };
    let supervising = runtime.and_then(|runtime| runtime.block_on(supervising));
    supervising.map_err(AppError::Supervisor)
}

/// Binds the calling process to its supervisor: it is killed when that is gone.
///
/// # Errors
///
/// [`AppError::Supervisor`] when the supervisor is gone already.
pub fn serve_supervised(by: HandedOver) -> Result<(), AppError> {
    let bound = set_parent_process_death_signal(Some(Signo::KILL));
    bound.map_err(|error| AppError::Supervisor(error.into()))?;
    // Gone before the signal was asked for: the parent is another process by now.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().unsigned_abs());
    if parent == Some(by.supervisor) {
        return Ok(());
    }
    let gone = format!(
        "process {}, which should supervise this one, is gone",
        by.supervisor
    );
    Err(AppError::Supervisor(io::Error::other(gone)))
}

/// The life of one server.
#[derive(Debug)]
struct Life {
    /// The time since it was ready, if it ever was.
    ready_for: Option<Duration>,
    ended: ExitStatus,
    asked_to_end: bool,
}

/// Servers so far.
#[derive(Debug, Default)]
struct Record {
    ever_ready: bool,
    /// Those that died one soon after the other.
    in_a_row: u32,
}

impl Record {
    /// The pause before the next start; none where there is to be no other.
    fn pause_after(&mut self, life: &Life, final_codes: &[u8]) -> Option<Duration> {
        self.ever_ready |= life.ready_for.is_some();
        let code = life.ended.code();
        let is_final =
            code.is_some_and(|code| final_codes.iter().any(|one| i32::from(*one) == code));
        // A server that never was ready and says why: it would say so again.
        let cannot_start = code.is_some() && !self.ever_ready;
        if life.asked_to_end || is_final || cannot_start {
            return None;
        }
        Some(self.next_pause(life.ready_for.is_some_and(|time| time >= RESTART_STEADY)))
    }

    fn next_pause(&mut self, was_steady: bool) -> Duration {
        self.in_a_row = if was_steady { 1 } else { self.in_a_row + 1 };
        match self.in_a_row {
            // One death says nothing of the next.
            1 => Duration::ZERO,
            more => {
                let doubled = 2_u32.saturating_pow(more - 2);
                RESTART_PAUSE_MIN
                    .saturating_mul(doubled)
                    .min(RESTART_PAUSE_MAX)
            }
        }
    }
}

fn tell(life: &Life, age: Duration, record: &Record, pause: Duration) {
    let (ended, age_s) = (life.ended.to_string(), age.as_secs_f64());
    let (in_a_row, pause_ms) = (record.in_a_row, pause.as_millis());
    match pause_ms {
        0 => tracing::error!(
            ended,
            age_s,
            "the server died: it is started again; its journal says what it did"
        ),
        _ => tracing::error!(
            ended,
            age_s,
            in_a_row,
            pause_ms,
            "the server died again and again: it is started after a pause; its journal says what it did"
        ),
    }
}

/// The process that serves.
struct Server {
    child: Child,
    ready_at: Option<Instant>,
}

impl Server {
    fn start(supervised: &Supervised, handed_over: HandedOver) -> io::Result<Self> {
        let child = Command::new(&supervised.exe)
            .args(&supervised.arguments)
            .arg(format!("{}={handed_over}", supervised.handed_over))
            // What systemd has handed over was for this process.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal is for this process, which passes it on; heard twice, it would mean at once.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            ready_at: None,
        })
    }

    /// Waits for its end. Meanwhile it gets the signals that this process gets, and its first line is passed on.
    async fn run(
        &mut self,
        signals: &mut Signals,
        pass_on: &mut UnboundedReceiver<Signo>,
        on_ready: &mut Option<impl FnOnce(&str)>,
    ) -> io::Result<ExitStatus> {
        let stdout = self.child.stdout.take().expect("standard output is a pipe");
        let mut first_line = std::pin::pin!(first_line(stdout));
        let mut listens = true;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::select! {
                line = &mut first_line, if listens => {
                    listens = false;
                    if let Some(line) = line {
                        self.ready_at = Some(Instant::now());
                        if let Some(on_ready) = on_ready.take() {
                            on_ready(&line);
                        }
                    }
                }
                _ = signals.child.recv() => {}
                // Before it is ready one of these could end it.
                Some(signal) = pass_on.recv(), if self.ready_at.is_some() => {
                    let _gone = kill_process(Pid::from_child(&self.child), signal);
                }
                signal = signals.stop.asked_for() => {
                    // It may have ended by now.
                    let _gone = kill_process(Pid::from_child(&self.child), signal);
                }
            }
        }
    }
}

/// The first line of the server, which says that it is ready; none where it ended before.
async fn first_line(stdout: ChildStdout) -> Option<String> {
    let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout)).ok()?;
    let mut line = String::new();
    let read = BufReader::new(pipe).read_line(&mut line).await;
    (read.is_ok() && line.ends_with('\n')).then_some(line)
}

/// Signals to this process.
struct Signals {
    child: Signal,
    stop: Stop,
}

/// Signals that ask this process to end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    is_asked_for: bool,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                is_asked_for: false,
            },
        })
    }
}

impl Stop {
    /// Waits until this process is asked to end; by which signal.
    async fn asked_for(&mut self) -> Signo {
        let signal = tokio::select! {
            _ = self.terminate.recv() => Signo::TERM,
            _ = self.interrupt.recv() => Signo::INT,
        };
        self.is_asked_for = true;
        signal
    }

    /// Waits for this long; fails when this process is asked to end.
    async fn pause(&mut self, pause: Duration) -> Result<(), Signo> {
        tokio::select! {
            signal = self.asked_for() => Err(signal),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const FINAL: &[u8] = &[0, 2];

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn killed() -> ExitStatus {
        ExitStatus::from_raw(Signo::KILL.as_raw())
    }

    fn life(ended: ExitStatus, ready_for: Option<Duration>) -> Life {
        Life {
            ready_for,
            ended,
            asked_to_end: false,
        }
    }

    #[test]
    fn the_first_death_costs_no_pause_and_each_further_one_twice_the_one_before() {
        let mut record = Record::default();
        let soon = Some(Duration::ZERO);
        let pauses: Vec<_> = (0..40)
            .map(|_| record.pause_after(&life(killed(), soon), FINAL))
            .collect();
        assert_eq!(pauses[0], Some(Duration::ZERO));
        assert_eq!(pauses[1], Some(RESTART_PAUSE_MIN));
        assert_eq!(pauses[2], Some(RESTART_PAUSE_MIN * 2));
        assert_eq!(pauses[39], Some(RESTART_PAUSE_MAX));
        // One that has served for long is not one of a row.
        let long = life(killed(), Some(RESTART_STEADY));
        assert_eq!(record.pause_after(&long, FINAL), Some(Duration::ZERO));
        let again = record.pause_after(&life(killed(), soon), FINAL);
        assert_eq!(again, Some(RESTART_PAUSE_MIN));
    }

    #[test]
    fn a_server_that_cannot_start_and_says_so_is_not_started_again() {
        let refused = life(exit(8), None);
        assert_eq!(Record::default().pause_after(&refused, FINAL), None);
        // A signal says nothing; and one that was ready once can start.
        let mut record = Record::default();
        let ready = Some(Duration::from_secs(1));
        assert!(record.pause_after(&life(killed(), None), FINAL).is_some());
        assert!(record.pause_after(&life(exit(8), ready), FINAL).is_some());
        assert!(record.pause_after(&life(exit(8), None), FINAL).is_some());
    }

    #[test]
    fn a_server_that_was_asked_to_end_or_ends_by_itself_is_not_started_again() {
        let ready = Some(Duration::from_secs(1));
        for code in FINAL {
            let ended = life(exit((*code).into()), ready);
            assert_eq!(Record::default().pause_after(&ended, FINAL), None);
        }
        for ended in [exit(1), killed()] {
            let asked = Life {
                asked_to_end: true,
                ..life(ended, ready)
            };
            assert_eq!(Record::default().pause_after(&asked, FINAL), None);
        }
    }
}

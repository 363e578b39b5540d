//! A child process loads and runs a model once before the server does, and prepares it.
//!
//! Whatever a bad file can do to the process that loads it (crash, hang, take all memory) it does to the child. The child is the
//! same binary, so it sees the same ONNX Runtime. It says two things, a line each: what it saw of the model, and then, where that
//! was asked for, what came of preparing it. Where others serve it runs in the background; when the cores leave it no time
//! at all, another one is started at the usual priority.
//!
//! Threads: everything blocks, with two short-lived threads that read the child's pipes.
//! Not here: whether there is something to prepare (`prepare`), the child's own side (`probe_child`), its words (`probe_words`).

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::Resource;

use crate::config::{
    BACKGROUND_LOOK_PERIOD, BACKGROUND_WAIT_MAX, PREPARE_MAX, PROBE_MAX, PROBE_MEMORY_BYTES_DEFAULT,
};
use crate::engine::background::CoreWait;
use crate::engine::cancel::Cancel;
use crate::engine::child_limits;
use crate::engine::child_notes::split_warnings;
use crate::engine::endings::how_it_ended;
use crate::engine::probe_words::{
    Order, PROBE_COMMAND, ProbeReport, ProbeRequest, is_about_memory,
};
use crate::engine::stage::{Stage, Tell};

/// Tries models in a child process.
#[derive(Debug, Clone)]
pub struct Prober {
    /// The serin binary that the child runs.
    pub exe: PathBuf,
    /// Longest that loading and running may take together.
    pub wall_max: Duration,
    /// Most address space of the child, in bytes; the library itself takes some 200 MB of it.
    pub memory_bytes_max: u64,
    /// Ends the child when nobody wants to know any more.
    pub cancel: Cancel,
    /// Hears of the steps.
    pub tell: Tell,
}

/// The reason why there is no prepared form.
#[derive(Debug)]
pub(super) enum NotPrepared {
    /// The child's words.
    Said(String),
    /// The model ended the child; how.
    Died(String),
    /// The child was ended from outside, by its time limit or by a machine without memory; how.
    Killed(String),
}

/// The reason why a model is not served.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It does not load or does not run; the child's own words.
    #[error("{0}")]
    Model(String),
    /// The child ended on a signal or without a word.
    #[error("the model crashed the process that tried it ({how}){words}")]
    Crashed {
        /// The signal or the exit code.
        how: String,
        /// The last line that the child wrote, if any.
        words: String,
    },
    /// The child was ended at its time limit.
    #[error("the model did not load and answer once within {0:?}; it was ended")]
    TimedOut(Duration),
    /// The child asked for more memory than it may have.
    #[error(
        "the model needs more memory than the {megabytes} MB that a model may take to load and answer once; start the server with a larger --model-memory-mb to allow it"
    )]
    Memory {
        /// The limit.
        megabytes: u64,
    },
    /// The child met the limit that the server was started with.
    #[error(
        "the model needs more memory than the {megabytes} MB of address space that the server may have: start it with a higher limit (`ulimit -v`, `LimitAS=` of systemd)"
    )]
    AddressSpace {
        /// The limit.
        megabytes: u64,
    },
    /// Nobody waited for it any more, so the child was ended.
    #[error("nobody waits for the model any more")]
    Canceled,
    /// Its files changed while they were looked at.
    #[error("{} or a file that it keeps its data in changed while it was read: start again when it is written", .0.display())]
    Changed(PathBuf),
    /// The child could not be started or spoken to.
    #[error("cannot start the process that tries the model: {0}")]
    Start(#[source] io::Error),
}

/// A model to be tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) model: &'a Path,
    pub(super) sample_request: Option<&'a [u8]>,
    /// Others serve, and are not to feel the child.
    pub(super) background: bool,
}

/// The child's report, line by line, and its last words.
struct Heard {
    lines: Vec<Vec<u8>>,
    words: Vec<u8>,
}

/// The reason why the child said no more.
enum Silence {
    /// It takes too long.
    TimedOut,
    /// The cores leave no time to a child in the background.
    Starved,
    /// Nobody wants to hear it.
    Canceled,
}

impl Prober {
    /// Tries models with this binary of serin, within the usual bounds.
    #[must_use]
    pub fn new(exe: PathBuf) -> Self {
        Self {
            exe,
            wall_max: PROBE_MAX,
            memory_bytes_max: PROBE_MEMORY_BYTES_DEFAULT,
            cancel: Cancel::default(),
            tell: Tell::default(),
        }
    }

    /// Has a child load the model and run it once, on the sample request if there is one. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub fn probe(
        &self,
        model: &Path,
        sample_request: Option<&[u8]>,
    ) -> Result<ProbeReport, ProbeError> {
        let trial = Trial {
            model,
            sample_request,
            background: false,
        };
        Ok(self.try_and_prepare(trial, None)?.0)
    }

    /// Has a child try the model and then prepare it where that is ordered; what it saw, and what came of preparing. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub(super) fn try_and_prepare(
        &self,
        trial: Trial<'_>,
        order: Option<Order>,
    ) -> Result<(ProbeReport, Result<(), NotPrepared>), ProbeError> {
        let sample = trial.sample_request.map(String::from_utf8_lossy);
        let mut request = ProbeRequest {
            parent: std::process::id(),
            model: trial.model.to_owned(),
            sample_request: sample.map(Into::into),
            memory_bytes: self.memory_bytes_max,
            background: trial.background,
            prepare: order,
        };
        let (status, heard) = match self.ask(&request)? {
            (_, Err(Silence::Starved)) => {
                tracing::info!(model = ?trial.model, "the cores are too busy to try a model in the background: it is tried at the usual priority");
                request.background = false;
                self.ask(&request)?
            }
            answered => answered,
        };
        let mut heard = heard.map_err(|silence| match silence {
            Silence::Canceled => ProbeError::Canceled,
            Silence::TimedOut | Silence::Starved => ProbeError::TimedOut(self.wall_max),
        })?;
        let (warnings, words) = split_warnings(&heard.words);
        heard.words = words;
        let first = heard.lines.first().map_or(&[][..], Vec::as_slice);
        let mut report = match serde_json::from_slice(first) {
            // The model is good; what happened afterwards is no longer about it.
            Ok(Ok::<_, String>(report)) if request.prepare.is_some() => report,
            _ => judge(status, first, &heard.words, self.memory_bytes_max)?,
        };
        report.warnings = warnings;
        let prepared = heard.lines.get(1).map(|line| serde_json::from_slice(line));
        let prepared = match prepared {
            Some(Ok(outcome)) => Result::<(), String>::map_err(outcome, NotPrepared::Said),
            None if request.prepare.is_none() => Ok(()),
            None | Some(Err(_)) => Err(not_prepared(status, &heard.words)),
        };
        Ok((report, prepared))
    }

    /// Starts a child and hears it out; how it ended, and what it said.
    fn ask(
        &self,
        request: &ProbeRequest,
    ) -> Result<(ExitStatus, Result<Heard, Silence>), ProbeError> {
        let mut child = Command::new(&self.exe)
            .arg0("serin")
            .arg(PROBE_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                // Of a binary that is named by its process: there must be a /proc.
                let exe = self.exe.display();
                let problem = format!("{exe} cannot be run: {error}");
                ProbeError::Start(io::Error::new(error.kind(), problem))
            })?;
        let heard = self.converse(&mut child, request);
        // Ended already unless it took too long; either way it must not outlive this call.
        drop(child.kill());
        let status = child.wait().map_err(ProbeError::Start)?;
        Ok((status, heard))
    }

    /// Asks, and hears all that the child says until it ends.
    fn converse(&self, child: &mut Child, request: &ProbeRequest) -> Result<Heard, Silence> {
        let (wall, cancel) = (self.wall_max, &self.cancel);
        self.tell.say(&request.model, Stage::Trying);
        let waited = request.background.then(|| CoreWait::of_process(child.id()));
        let mut until = Instant::now() + wall;
        if let (Some(mut stdin), Ok(text)) = (child.stdin.take(), serde_json::to_vec(request)) {
            // A child that ended early is judged by its exit.
            drop(stdin.write_all(&text));
        }
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Silence::TimedOut);
        };
        let answers = collect("probe-stdout", stdout, Some(b'\n'));
        let words = collect("probe-stderr", stderr, None);
        let mut lines = Vec::new();
        loop {
            match next(&answers, until, waited.as_ref(), cancel) {
                Ok(Some(line)) => {
                    lines.push(line);
                    if request.prepare.is_some() && lines.len() == 1 {
                        self.tell.say(&request.model, Stage::Preparing);
                    }
                    until = Instant::now() + PREPARE_MAX;
                }
                Ok(None) => break,
                // What it saw of the model is said already.
                Err(Silence::TimedOut) if !lines.is_empty() => {
                    let words = Vec::new();
                    return Ok(Heard { lines, words });
                }
                Err(silence) => return Err(silence),
            }
        }
        let words = next(&words, until, waited.as_ref(), cancel)?.unwrap_or_default();
        Ok(Heard { lines, words })
    }
}

/// The next thing that a pipe gave, or `None` at its end.
fn next(
    pipe: &mpsc::Receiver<Vec<u8>>,
    until: Instant,
    waited: Option<&CoreWait>,
    cancel: &Cancel,
) -> Result<Option<Vec<u8>>, Silence> {
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        match pipe.recv_timeout(rest.min(BACKGROUND_LOOK_PERIOD)) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if cancel.is_canceled() => {
                return Err(Silence::Canceled);
            }
            Err(RecvTimeoutError::Timeout) if rest.is_zero() => return Err(Silence::TimedOut),
            Err(RecvTimeoutError::Timeout) => {
                if waited.is_some_and(|waited| waited.so_far() > BACKGROUND_WAIT_MAX) {
                    return Err(Silence::Starved);
                }
            }
        }
    }
}

/// Reads a pipe to its end on a thread of its own: piece by piece up to each `end`, or as a whole.
fn collect(
    name: &str,
    pipe: impl io::Read + Send + 'static,
    end: Option<u8>,
) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut bytes = Vec::new();
            // What came before an error is all there is.
            drop(match end {
                Some(end) => pipe.read_until(end, &mut bytes),
                None => pipe.read_to_end(&mut bytes),
            });
            if bytes.is_empty() || sender.send(bytes).is_err() {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(read)
    {
        tracing::error!(%error, "cannot start a thread");
    }
    receiver
}

/// The verdict on the model by how the child ended.
fn judge(
    status: ExitStatus,
    answer: &[u8],
    words: &[u8],
    memory_bytes_max: u64,
) -> Result<ProbeReport, ProbeError> {
    let words = String::from_utf8_lossy(words);
    let report: Option<Result<ProbeReport, String>> = serde_json::from_slice(answer).ok();
    match report {
        Some(Ok(report)) if status.success() => Ok(report),
        Some(Err(problem)) if !is_about_memory(&problem) => Err(ProbeError::Model(problem)),
        Some(Err(_)) => Err(out_of_memory(memory_bytes_max)),
        _ if is_about_memory(&words) => Err(out_of_memory(memory_bytes_max)),
        _ => {
            let last = words.lines().rev().find(|line| !line.trim().is_empty());
            Err(ProbeError::Crashed {
                how: how_it_ended(status),
                words: last
                    .map(|line| format!(": {}", line.trim()))
                    .unwrap_or_default(),
            })
        }
    }
}

/// The limit that the child met: the one that it was to have, or the lower one that this process has itself.
fn out_of_memory(memory_bytes_max: u64) -> ProbeError {
    let given = child_limits::within(Resource::As, memory_bytes_max);
    let megabytes = given / 1_000_000;
    if given < memory_bytes_max {
        ProbeError::AddressSpace { megabytes }
    } else {
        ProbeError::Memory { megabytes }
    }
}

/// The reason why a child said nothing of what it was to prepare.
fn not_prepared(status: ExitStatus, words: &[u8]) -> NotPrepared {
    let how = format!(
        "the process that prepared it ended ({})",
        how_it_ended(status)
    );
    // Sent by somebody else: the kernel that runs out of memory, this process when it has waited long enough, a person.
    let from_outside = matches!(
        status.signal(),
        Some(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGXCPU)
    );
    if from_outside || is_about_memory(&String::from_utf8_lossy(words)) {
        NotPrepared::Killed(how)
    } else {
        NotPrepared::Died(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for ONNX Runtime, not for the 64 GiB that the model asks for.
    const MEMORY_BYTES_MAX: u64 = 8 << 30;

    #[test]
    fn a_child_that_was_killed_is_told_from_one_that_the_model_ended() {
        let outcome =
            |status, words: &str| not_prepared(ExitStatus::from_raw(status), words.as_bytes());
        for (status, words) in [(9, ""), (15, ""), (6, "terminate called: std::bad_alloc")] {
            assert!(
                matches!(outcome(status, words), NotPrepared::Killed(_)),
                "{status}"
            );
        }
        for (status, words) in [(11, ""), (6, "assertion failed"), (1 << 8, "")] {
            assert!(
                matches!(outcome(status, words), NotPrepared::Died(_)),
                "{status}"
            );
        }
    }

    #[test]
    fn the_end_of_the_child_is_told_in_plain_words() {
        let told = |status, answer: &str, words: &str| {
            judge(
                ExitStatus::from_raw(status),
                answer.as_bytes(),
                words.as_bytes(),
                MEMORY_BYTES_MAX,
            )
            .unwrap_err()
            .to_string()
        };
        assert_eq!(
            told(11, "", "first\nlast words\n\n"),
            "the model crashed the process that tried it (signal 11, SIGSEGV): last words"
        );
        assert_eq!(told(1 << 8, r#"{"Err":"no"}"#, ""), "no");
        for (answer, words) in [
            (r#"{"Err":"Failed to allocate memory"}"#, ""),
            ("", "terminate called after throwing std::bad_alloc"),
        ] {
            let message = told(6, answer, words);
            assert!(
                message.starts_with("the model needs more memory than the 8589 MB"),
                "{message}"
            );
        }
    }
}

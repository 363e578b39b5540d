//! A child process loads and runs a model once before the server does, and prepares it.
//!
//! What a bad file can do to the process that loads it (crash, hang, take all memory) it does to the child. The child is the
//! same binary, so it sees the same ONNX Runtime. It says two things, a line each: what it saw of the model, and then, where that
//! was asked for, what came of preparing it. Where others serve it runs at the lowest priority; when the cores leave it no time
//! at all, another one is started at the usual priority.
//!
//! Not here: whether there is something to prepare, and how (`prepare`).

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{
    Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit,
};
use serde::{Deserialize, Serialize};
use serin_scorers::{JsonScorer, Signature};

use crate::config::{
    PREPARE_MAX, PROBE_MAX, PROBE_MEMORY_BYTES_DEFAULT, QUIET_LOOK_PERIOD, QUIET_WAIT_MAX,
};
use crate::engine::cores;
use crate::engine::prepare::{self, Answer, NotPrepared, Order};
use crate::engine::quiet::{self, Caller, CoreWait};
use crate::engine::session::{Session, SessionThreads};
use crate::engine::worker::{self, WarmUpProblem};

/// The hidden subcommand by which the child is started.
pub const PROBE_COMMAND: &str = "__probe";

/// Tries models in a child process.
#[derive(Debug, Clone)]
pub struct Prober {
    /// The serin binary that the child runs.
    pub exe: PathBuf,
    /// Longest that loading and running may take together.
    pub wall_max: Duration,
    /// Most address space of the child, in bytes; the library itself takes some 200 MB of it.
    pub memory_bytes_max: u64,
}

/// What the child saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Inputs and outputs of the model.
    pub signature: Signature,
    /// Time to load the model, in milliseconds.
    pub load_ms: f64,
    /// Time of the warm-up runs, in milliseconds.
    pub run_ms: f64,
}

/// Why a model is not served.
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
    /// The child could not be started or spoken to.
    #[error("cannot start the process that tries the model: {0}")]
    Start(#[source] io::Error),
}

/// What the parent asks.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The server's process.
    parent: u32,
    model: PathBuf,
    sample_request: Option<String>,
    memory_bytes: u64,
    /// Others serve, and are not to feel the child.
    quiet: bool,
    /// Where the prepared model goes, if it is to be prepared.
    prepare: Option<Order>,
}

/// A model to be tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) model: &'a Path,
    pub(super) sample_request: Option<&'a [u8]>,
    /// Others serve, and are not to feel the child.
    pub(super) quiet: bool,
}

/// What the child said, line by line, and its last words.
struct Heard {
    lines: Vec<Vec<u8>>,
    words: Vec<u8>,
}

/// Why the child said no more.
enum Silence {
    /// It takes too long.
    TimedOut,
    /// The cores leave no time to a quiet child.
    Starved,
}

impl Prober {
    /// Tries models with this binary of serin, within the usual bounds.
    #[must_use]
    pub fn new(exe: PathBuf) -> Self {
        Self {
            exe,
            wall_max: PROBE_MAX,
            memory_bytes_max: PROBE_MEMORY_BYTES_DEFAULT,
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
            quiet: false,
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
        let mut request = Request {
            parent: std::process::id(),
            model: trial.model.to_owned(),
            sample_request: sample.map(Into::into),
            memory_bytes: self.memory_bytes_max,
            quiet: trial.quiet,
            prepare: order,
        };
        let (status, heard) = match self.ask(&request)? {
            (_, Err(Silence::Starved)) => {
                tracing::info!(model = ?trial.model, "the cores are too busy to try a model quietly: it is tried at the usual priority");
                request.quiet = false;
                self.ask(&request)?
            }
            answered => answered,
        };
        let heard = heard.map_err(|_| ProbeError::TimedOut(self.wall_max))?;
        let first = heard.lines.first().map_or(&[][..], Vec::as_slice);
        let report = match serde_json::from_slice(first) {
            // The model is good; what happened afterwards is no longer about it.
            Ok(Ok::<_, String>(report)) if request.prepare.is_some() => report,
            _ => judge(status, first, &heard.words, self.memory_bytes_max)?,
        };
        let prepared = heard.lines.get(1).map(|line| serde_json::from_slice(line));
        let prepared = match prepared {
            Some(Ok(outcome)) => Result::<(), String>::map_err(outcome, NotPrepared::Said),
            None if request.prepare.is_none() => Ok(()),
            None | Some(Err(_)) => Err(NotPrepared::Died(format!(
                "the process that prepared it ended ({})",
                how_it_ended(status)
            ))),
        };
        Ok((report, prepared))
    }

    /// Starts a child and hears it out; how it ended, and what it said.
    fn ask(&self, request: &Request) -> Result<(ExitStatus, Result<Heard, Silence>), ProbeError> {
        let mut child = Command::new(&self.exe)
            .arg(PROBE_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(ProbeError::Start)?;
        let heard = converse(&mut child, request, self.wall_max);
        // Ended already unless it took too long; either way it must not outlive this call.
        drop(child.kill());
        let status = child.wait().map_err(ProbeError::Start)?;
        Ok((status, heard))
    }
}
/// Asks, and hears all that the child says until it ends.
fn converse(child: &mut Child, request: &Request, wall: Duration) -> Result<Heard, Silence> {
    let waited = request.quiet.then(|| CoreWait::of_process(child.id()));
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
        match next(&answers, until, waited.as_ref()) {
            Ok(Some(line)) => {
                lines.push(line);
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
    let words = next(&words, until, waited.as_ref())?.unwrap_or_default();
    Ok(Heard { lines, words })
}

/// The next thing that a pipe gave, or `None` at its end.
fn next(
    pipe: &mpsc::Receiver<Vec<u8>>,
    until: Instant,
    waited: Option<&CoreWait>,
) -> Result<Option<Vec<u8>>, Silence> {
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        match pipe.recv_timeout(rest.min(QUIET_LOOK_PERIOD)) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if rest.is_zero() => return Err(Silence::TimedOut),
            Err(RecvTimeoutError::Timeout) => {
                if waited.is_some_and(|waited| waited.so_far() > QUIET_WAIT_MAX) {
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

/// What the child's end says of the model.
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
        Some(Err(_)) => Err(ProbeError::Memory {
            megabytes: memory_bytes_max / 1_000_000,
        }),
        _ if is_about_memory(&words) => Err(ProbeError::Memory {
            megabytes: memory_bytes_max / 1_000_000,
        }),
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

/// Whether the words of ONNX Runtime, of the C++ library or of Rust's say that memory ran out.
fn is_about_memory(words: &str) -> bool {
    let marks = [
        "bad_alloc",
        "ailed to allocate",
        "memory allocation of",
        "AllocateRawInternal",
    ];
    marks.iter().any(|mark| words.contains(mark))
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => signal_name(signal),
        (None, code) => format!("exit code {}", code.unwrap_or_default()),
    }
}

/// A signal as people know it.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal}, {name}")
}

/// The child's side, called by the hidden subcommand: reads a request from stdin, writes a report to stdout, and then what came
/// of preparing the model, where that is asked for.
///
/// Returns the exit code: 0 when the model can be served.
#[must_use]
pub fn probe_child() -> u8 {
    let asked = receive();
    let quietly = asked.as_ref().is_ok_and(|request| request.quiet);
    let _heartbeat = quietly.then(|| quiet::become_quiet(cores::last()));
    let tried = asked.and_then(|request| Ok((try_model(&request)?, request)));
    let report = tried.as_ref().map(|((report, _), _)| report);
    let mut written = say(&report);
    if let Ok(((_, answer), request)) = &tried
        && let Some(order) = &request.prepare
    {
        let sample = request.sample_request.as_deref().map(str::as_bytes);
        let prepared = prepare::carry_out(order, &request.model, sample, answer);
        written &= say(&prepared.map_err(|error| error.to_string()));
    }
    u8::from(tried.is_err() || !written)
}

/// Writes one line; whether the server can read it.
fn say(words: &impl Serialize) -> bool {
    let Ok(mut line) = serde_json::to_vec(words) else {
        return false;
    };
    line.push(b'\n');
    io::stdout()
        .write_all(&line)
        .and_then(|()| io::stdout().flush())
        .is_ok()
}

/// Reads what is asked. From then on a server that is killed takes the child along: nobody else would end a model that hangs.
fn receive() -> Result<Request, String> {
    let words = |error: io::Error| error.to_string();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| words(error.into()))?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(words)?;
    let request: Request = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    // Killed before the signal was asked for: the parent is another process by now.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().unsigned_abs());
    if parent == Some(request.parent) {
        Ok(request)
    } else {
        Err("the server has ended".to_owned())
    }
}

/// What the child saw, and what the model answered or said instead.
fn try_model(request: &Request) -> Result<(ProbeReport, Answer), String> {
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::As, limit(request.memory_bytes))
        .map_err(|error| format!("cannot limit the memory: {error}"))?;
    // A crash is an answer; nobody wants its core file.
    setrlimit(Resource::Core, limit(0))
        .map_err(|error| format!("cannot switch core files off: {error}"))?;
    let begun = Instant::now();
    let mut session =
        Session::load(&request.model, None, &one_thread()).map_err(|error| error.to_string())?;
    let loaded = Instant::now();
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    let sample = request.sample_request.as_deref().map(str::as_bytes);
    let answer = match worker::warm_up(&mut session, &scorer, sample) {
        Err(WarmUpProblem {
            problem,
            made_up: false,
        }) => {
            return Err(format!(
                "the model does not run on its sample request: {problem}"
            ));
        }
        // Inputs that nobody asked for may be refused, but no server should have to find that much memory for them.
        Err(WarmUpProblem {
            problem,
            made_up: true,
        }) if is_about_memory(&problem) => return Err(problem),
        answer => answer.map_err(|failed| failed.problem),
    };
    let report = ProbeReport {
        signature: Signature::clone(session.signature()),
        load_ms: loaded.duration_since(begun).as_secs_f64() * 1e3,
        run_ms: loaded.elapsed().as_secs_f64() * 1e3,
    };
    Ok((report, answer))
}

/// The child's only thread.
pub(super) fn one_thread() -> SessionThreads {
    SessionThreads {
        label: "probe".to_owned(),
        number: String::new(),
        cores: vec![0],
        made: Arc::new(Mutex::default()),
        maker: Caller::itself(),
        spin: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for ONNX Runtime, not for the 64 GiB that the model asks for.
    const MEMORY_BYTES_MAX: u64 = 8 << 30;

    /// Set in the process that plays the child.
    const CHILD: &str = "SERIN_TEST_PROBE_CHILD";

    /// In a process of its own, for the limits are the process's.
    #[test]
    fn a_model_that_takes_all_memory_is_refused_without_a_sample_request_too() {
        if std::env::var_os(CHILD).is_some() {
            let outcome = try_model(&Request {
                parent: 0,
                model: Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/test/hungry.onnx"),
                sample_request: None,
                memory_bytes: MEMORY_BYTES_MAX,
                quiet: false,
                prepare: None,
            });
            let problem = outcome.unwrap_err();
            assert!(is_about_memory(&problem), "{problem}");
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("engine::probe::tests::a_model_that_takes_all_memory_is_refused_without_a_sample_request_too")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && words.contains("1 passed"),
            "{words}{}",
            String::from_utf8_lossy(&output.stderr)
        );
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

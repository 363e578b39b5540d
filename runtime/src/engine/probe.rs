//! A child process loads and runs a model once before the server does.
//!
//! What a bad file can do to the process that loads it (crash, hang, take all memory) it does to the child. The child is the
//! same binary, so it sees the same ONNX Runtime.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{
    Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit,
};
use serde::{Deserialize, Serialize};
use serin_scorers::{JsonScorer, Signature};

use crate::config::{PROBE_MAX, PROBE_MEMORY_BYTES_DEFAULT};
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
        let request = Request {
            parent: std::process::id(),
            model: model.to_owned(),
            sample_request: sample_request.map(|body| String::from_utf8_lossy(body).into_owned()),
            memory_bytes: self.memory_bytes_max,
        };
        let mut child = Command::new(&self.exe)
            .arg(PROBE_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(ProbeError::Start)?;
        let spoken = converse(&mut child, &request, self.wall_max);
        // Ended already unless it timed out; either way it must not outlive this call.
        drop(child.kill());
        let status = child.wait().map_err(ProbeError::Start)?;
        let (answer, words) = spoken.ok_or(ProbeError::TimedOut(self.wall_max))?;
        judge(status, &answer, &words, self.memory_bytes_max)
    }
}

/// Asks, and reads all that the child says until it ends; `None` when it takes too long.
fn converse(child: &mut Child, request: &Request, wall: Duration) -> Option<(Vec<u8>, Vec<u8>)> {
    let until = Instant::now() + wall;
    if let (Some(mut stdin), Ok(text)) = (child.stdin.take(), serde_json::to_vec(request)) {
        // A child that ended early is judged by its exit.
        drop(stdin.write_all(&text));
    }
    let answer = collect("probe-stdout", child.stdout.take()?);
    let words = collect("probe-stderr", child.stderr.take()?);
    let rest = || until.saturating_duration_since(Instant::now());
    let answer = answer.recv_timeout(rest()).ok()?;
    Some((answer, words.recv_timeout(rest()).ok()?))
}

/// Reads a pipe to its end on a thread of its own.
fn collect(name: &str, mut pipe: impl io::Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut bytes = Vec::new();
        // What came before an error is all there is.
        drop(pipe.read_to_end(&mut bytes));
        drop(sender.send(bytes));
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
            let how = match (status.signal(), status.code()) {
                (Some(signal), _) => signal_name(signal),
                (None, code) => format!("exit code {}", code.unwrap_or_default()),
            };
            let last = words.lines().rev().find(|line| !line.trim().is_empty());
            Err(ProbeError::Crashed {
                how,
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

/// The child's side, called by the hidden subcommand: reads a request from stdin, writes a report to stdout.
///
/// Returns the exit code: 0 when the model can be served.
#[must_use]
pub fn probe_child() -> u8 {
    let outcome = receive().and_then(|request| try_model(&request));
    let code = u8::from(outcome.is_err());
    let written = serde_json::to_writer(io::stdout(), &outcome).is_ok();
    if written { code } else { 1 }
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

fn try_model(request: &Request) -> Result<ProbeReport, String> {
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
    let threads = SessionThreads {
        label: "probe".to_owned(),
        number: String::new(),
        cores: vec![0],
        made: Arc::new(Mutex::default()),
    };
    let mut session = Session::load(&request.model, &threads).map_err(|error| error.to_string())?;
    let loaded = Instant::now();
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    match worker::warm_up(
        &mut session,
        &scorer,
        request.sample_request.as_deref().map(str::as_bytes),
    ) {
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
        Ok(()) | Err(_) => {}
    }
    Ok(ProbeReport {
        signature: Signature::clone(session.signature()),
        load_ms: loaded.duration_since(begun).as_secs_f64() * 1e3,
        run_ms: loaded.elapsed().as_secs_f64() * 1e3,
    })
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

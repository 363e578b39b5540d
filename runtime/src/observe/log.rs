//! The structured log: to standard error or a file, text or JSON, with a level that may change while the process runs.
//!
//! Nobody who writes a line waits for whoever reads it (`log_writer`), and a flood of like lines is a few of them and a number
//! (`log_sampling`). A panic is a line like any other.
//!
//! Threads: any. Not here: the signals by which the log is opened again (`cli`).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read as _, stderr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::OFlags;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::log_sampling::Sampling;
use super::log_writer::{LogWriter, Open, Told};
use super::metrics::{log_dropped, log_left_out};
use crate::config::{LOG_LEVEL_BYTES_MAX, LOG_WINDOW};

/// The variable that names what is logged: a level, or levels by module as `tracing` writes them (`info,serin::engine=debug`).
const LEVEL_VARIABLE: &str = "SERIN_LOG";

/// The levels, from none to all.
const LEVELS: &str = "off, error, warn, info, debug or trace";

/// The target of lines that somebody has asked for by a signal: they are written whatever the level is.
pub const STATUS_TARGET: &str = "serin::status";

const STATUS_DIRECTIVE: &str = "serin::status=info";

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text for people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of the log.
#[derive(Debug, Clone, Default)]
pub struct LogConfig {
    /// Shape of its lines.
    pub format: LogFormat,
    /// The file that it is appended to; without one standard error.
    pub file: Option<PathBuf>,
    /// The file with its level, which counts before `SERIN_LOG` where it says anything.
    pub level_file: Option<PathBuf>,
}

/// The reason why the log was not started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What it would be written to cannot be opened.
    #[error("cannot write the log to {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// There is no thread that writes it, or no standard error.
    #[error("cannot start the log")]
    Start(#[source] io::Error),
    /// The file with its level cannot be read.
    #[error("cannot read the level of the log in {}", path.display())]
    LevelFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The variable, or the file with its level, says something else.
    #[error(
        "{place} must hold a level of the log, which is {LEVELS}, or levels by module such as `info,serin::engine=debug`; found {text:?}"
    )]
    Level {
        /// The variable, or the file.
        place: String,
        /// What it says.
        text: String,
        /// The reason, where there is more to say.
        #[source]
        source: Option<ParseError>,
    },
    /// The log has gone.
    #[error("cannot change the level of the log")]
    Reload(#[source] reload::Error),
}

/// The log of the process.
static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Debug)]
struct Log {
    config: LogConfig,
    writer: LogWriter,
    level: reload::Handle<EnvFilter, Registry>,
}

/// Starts the log of the process; from then on panics are lines of it. The level comes from the file of the settings, else from
/// `SERIN_LOG`, else it is `info`. A second start changes nothing.
///
/// # Errors
///
/// When what it would be written to cannot be opened, or what names its level names none.
pub fn start_log(config: LogConfig) -> Result<(), LogError> {
    let level = level(config.level_file.as_deref(), env::var_os(LEVEL_VARIABLE))?;
    let writer = start_writer(config.file.clone())?;
    let (filter, level) = reload::Layer::new(level);
    let looking = writer.clone();
    let sampling = Sampling::new(log_left_out(), move || looking.look_later());
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(sampling.clone())
        .with(lines(&config, writer.clone()))
        .try_init();
    // Refused only when a log runs already.
    if started.is_ok() {
        let log = Log {
            config,
            writer,
            level,
        };
        // Set by nobody else: only the one log that was started comes here.
        drop(LOG.set(log));
        drop(SAMPLING.set(sampling));
        panic::set_hook(Box::new(tell_panic));
    }
    Ok(())
}

/// Opens the file of the log again, which somebody may have moved away, and reads its level again.
pub fn reopen_log() {
    let Some(log) = LOG.get() else {
        return;
    };
    let level = level(
        log.config.level_file.as_deref(),
        env::var_os(LEVEL_VARIABLE),
    );
    match level.and_then(|level| log.level.reload(level).map_err(LogError::Reload)) {
        Ok(()) => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "the level of the log stays as it is");
        }
    }
    log.writer.open_again();
}

/// Waits until all lines have been written, and at most so long; how many were left out is one of them.
pub fn flush_log(at_most: Duration) {
    told(Told::TimeToLook);
    if let Some(log) = LOG.get() {
        log.writer.flush_within(at_most);
    }
}

static SAMPLING: OnceLock<Sampling> = OnceLock::new();

fn start_writer(file: Option<PathBuf>) -> Result<LogWriter, LogError> {
    let path = file.clone();
    let open: Open = match file {
        Some(path) => Box::new(move || append(&path)),
        // A descriptor of its own: a write that waits holds no lock of the standard library's.
        None => Box::new(|| Ok(File::from(stderr().as_fd().try_clone_to_owned()?))),
    };
    LogWriter::start(open, log_dropped(), LOG_WINDOW, told).map_err(|source| match path {
        Some(path) => LogError::Open { path, source },
        None => LogError::Start(source),
    })
}

/// Opens the file for lines at its end. A pipe that nobody reads is refused and does not hold up the process.
fn append(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// The lines that tell of the log itself.
fn told(what: Told) {
    match what {
        Told::Dropped(lines) => {
            tracing::warn!(
                lines,
                "lines of the log were dropped: nobody took them in time"
            );
        }
        Told::OpenedAgain(Ok(())) => {
            let level = LOG.get().and_then(|log| {
                let level = log.level.with_current(ToString::to_string);
                level.ok()
            });
            tracing::info!(level, "the log is opened again");
        }
        Told::OpenedAgain(Err(error)) => {
            tracing::warn!(%error, "the log cannot be opened again: it goes on where it was");
        }
        Told::TimeToLook => {
            if let Some(sampling) = SAMPLING.get() {
                sampling.tell();
            }
        }
    }
}

fn lines<S>(config: &LogConfig, writer: LogWriter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(move || writer.clone());
    match config.format {
        LogFormat::Text => {
            let coloured = config.file.is_none() && stderr().is_terminal();
            layer.with_ansi(coloured).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// The level that the file names; where there is none, or it is empty, that of the variable, which may be empty too.
fn level(file: Option<&Path>, variable: Option<OsString>) -> Result<EnvFilter, LogError> {
    if let Some(path) = file {
        let text = read_level(path).map_err(|source| LogError::LevelFile {
            path: path.to_owned(),
            source,
        })?;
        if !text.is_empty() {
            return filter(&text, &path.display().to_string());
        }
    }
    let variable = variable.unwrap_or_default();
    filter(variable.to_string_lossy().trim(), LEVEL_VARIABLE)
}

/// The filter of a text. A word alone is a level: taken as the name of a module, as `tracing` would, it silences all others.
fn filter(text: &str, place: &str) -> Result<EnvFilter, LogError> {
    let wrong = |source| LogError::Level {
        place: place.to_owned(),
        text: text.to_owned(),
        source,
    };
    let mut words = text.split(',').map(str::trim);
    let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    if !words.all(|word| word.contains('=') || is_level(word)) {
        return Err(wrong(None));
    }
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let parsed = builder.parse(text).map_err(|error| wrong(Some(error)))?;
    let always = STATUS_DIRECTIVE.parse().expect("a level of a target");
    Ok(parsed.add_directive(always))
}

/// The text of the file, without the space around it; empty when there is no file.
fn read_level(path: &Path) -> io::Result<String> {
    let opened = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(LOG_LEVEL_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > LOG_LEVEL_BYTES_MAX) {
        let long = format!("it is longer than {LOG_LEVEL_BYTES_MAX} bytes");
        return Err(io::Error::other(long));
    }
    Ok(text.trim().to_owned())
}

/// A panic as a line of the log. The usual way would write to standard error, and wait for it.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let words = info.payload_as_str().unwrap_or("(no words)");
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        place,
        thread = thread.name(),
        backtrace = backtrace.map(|trace| trace.to_string()),
        "panicked: {words}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_level_counts_before_the_variable_and_one_that_says_nothing_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("level");
        assert_eq!(read_level(&path).unwrap(), "", "no file is no error");
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(read_level(&path).unwrap(), "");
        std::fs::write(&path, "warn,serin::engine=debug\n").unwrap();
        let level = level(Some(&path), Some("trace".into()))
            .unwrap()
            .to_string();
        assert!(level.contains("warn"), "{level}");
        assert!(level.contains("serin::engine=debug"), "{level}");
    }

    #[test]
    fn a_variable_with_a_word_that_is_no_level_is_refused_with_those_that_there_are() {
        for text in ["verbose", "info,loud", "serin::engine", "serin=loud", "5x"] {
            let error = level(None, Some(text.into())).unwrap_err().to_string();
            let expected = format!(
                "SERIN_LOG must hold a level of the log, which is {LEVELS}, or levels by module such as \
                 `info,serin::engine=debug`; found {text:?}"
            );
            assert_eq!(error, expected);
        }
        for text in [
            "",
            " ",
            "WARN",
            "off",
            "info,serin::engine=debug",
            "serin=trace,",
        ] {
            let read = level(None, Some(text.into()));
            assert!(read.is_ok(), "{text}: {}", read.unwrap_err());
        }
        let none = level(None, None).unwrap().to_string();
        let empty = level(None, Some(OsString::new())).unwrap().to_string();
        assert_eq!(none, empty);
        assert!(none.contains("info"), "{none}");
    }

    #[test]
    fn a_file_with_anything_else_is_refused_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("level");
        std::fs::write(&path, "serin=loud").unwrap();
        let error = level(Some(&path), None).unwrap_err().to_string();
        assert!(error.contains("\"serin=loud\""), "{error}");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(matches!(
            level(Some(&path), None),
            Err(LogError::LevelFile { .. })
        ));
        assert!(matches!(
            level(Some(folder.path()), None),
            Err(LogError::LevelFile { .. })
        ));
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_no_place_for_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = start_writer(Some(path)).unwrap_err();
        assert!(matches!(error, LogError::Open { .. }), "{error}");
    }
}

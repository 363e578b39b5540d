//! Failures of commands: the words for people, and the exit codes that tell scripts the same.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::admin::{ClientError, ErrorCode};
use crate::app::{AppError, ChildError};
use crate::control::{BackupError, StoreError};
use crate::embedded::Error as DeployError;
use crate::observe::LogError;
use crate::spec::{SpecError, TrafficError, UnknownSku};

/// Declares exit codes, and the table of them with their sentences, which the page of commands shows.
macro_rules! codes {
    ($table:ident: $($(#[doc = $words:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $words])+ pub const $name: u8 = $code;)+
        /// The codes of this table, each with its sentence.
        pub(super) const $table: &[(u8, &str)] = &[$(($code, concat!($($words),+))),+];
    };
}

codes! {
    EVERY:
    /// Success: the command did what it was asked for.
    OK = 0;
    /// The change was accepted and then failed; the reason is on standard error and in `show`.
    OPERATION_FAILED = 1;
    /// The command line is wrong.
    USAGE = 2;
    /// A file or a value is wrong or cannot be read; nothing was changed.
    BAD_INPUT = 3;
    /// Something that the command names does not exist.
    NOT_FOUND = 4;
    /// Something that it would create exists, or the change does not fit the present state.
    CONFLICT = 5;
    /// No server runs with this data folder.
    NO_SERVER = 6;
    /// The endpoint did not answer the request with a score.
    SCORING_FAILED = 7;
    /// The server cannot start or go on: busy port, data folder in use, no permission.
    SERVER_FAILED = 8;
    /// The server refused for now (disk full, too many changes waiting, stopping), and nothing was changed; or it does not answer.
    UNAVAILABLE = 9;
    /// The demo saw something that must not be: a failed request, a failed step.
    DEMO_FAILED = 10;
    /// The change was accepted, and a newer one took its place before it was in force; the newer one is on standard error.
    OPERATION_REPLACED = 11;
    /// Ended by Ctrl-C.
    INTERRUPTED = 130;
}

codes! {
    OF_BENCH:
    /// `bench --fail-if`: a regression is proven.
    BENCH_REGRESSION = 1;
    /// `bench --fail-if`: the interval does not say whether there is one.
    BENCH_UNDECIDED = 2;
    /// `bench`: what was measured says nothing; with `--fail-if` also whatever else keeps it from a decision.
    BENCH_INVALID = 3;
    /// `bench --slo --fail-if`: the conditions hold, and the highest rate is not confirmed.
    BENCH_UNCONFIRMED = 4;
}

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The task, around the reason why it failed.
    #[error("cannot {doing}")]
    Cannot {
        doing: String,
        #[source]
        cause: Box<Self>,
    },
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A command line that the grammar lets through.
    #[error("{0}")]
    Usage(String),
    #[error("{} cannot be used as it stands:\n{}", .0.file, .0)]
    Spec(#[from] SpecError),
    #[error("--traffic: {0}")]
    Traffic(#[from] TrafficError),
    #[error(transparent)]
    Sku(#[from] UnknownSku),
    #[error("{0}")]
    BadInput(String),
    #[error("{0}")]
    NotFound(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the endpoint answered with status {status}: {message}")]
    Scoring { status: u16, message: String },
    #[error("{0}")]
    OperationFailed(String),
    /// A newer change took the place of this one.
    #[error("the change was replaced: {0}")]
    Replaced(String),
    #[error("not confirmed; --yes deletes without asking")]
    NotConfirmed,
    /// The answer to a question never came.
    #[error(
        "nothing was deleted: standard input ended before an answer; --yes deletes without asking"
    )]
    NotAnswered,
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A server under a supervisor ended for good.
    #[error("the server ended ({0}); its own words are above")]
    ServerEnded(ExitStatus),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot start the process's own parts")]
    Start(#[source] io::Error),
    #[error("cannot write the result")]
    Output(#[source] io::Error),
    #[error("{0}")]
    Demo(String),
    /// A condition of `bench --fail-if` is proven to be broken.
    #[error("regression: {0}")]
    Regression(String),
    /// An interval that does not say.
    #[error("undecided: {0}")]
    Undecided(String),
    /// A rate that was not proven twice.
    #[error("unconfirmed: {0}")]
    Unconfirmed(String),
    /// Measurements that say nothing.
    #[error("{0}")]
    SaysNothing(String),
    /// A decision was asked for, and there is none.
    #[error("no decision")]
    NoDecision(#[source] Box<Self>),
    #[error("interrupted")]
    Interrupted,
    /// `bench`, by Ctrl-C, with nothing to show.
    #[error("interrupted before anything was measured")]
    NothingMeasured,
}

impl CliError {
    /// Says what was being done.
    pub(super) fn while_doing(self, doing: impl Into<String>) -> Self {
        Self::Cannot {
            doing: doing.into(),
            cause: Box::new(self),
        }
    }

    /// The failure of a run that was to decide something. An interruption stays one.
    pub(super) fn into_no_decision(self) -> Self {
        match self {
            Self::Regression(_)
            | Self::Undecided(_)
            | Self::Unconfirmed(_)
            | Self::SaysNothing(_)
            | Self::Interrupted
            | Self::NothingMeasured => self,
            other => Self::NoDecision(Box::new(other)),
        }
    }

    /// The one place where errors become exit codes.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Cannot { cause, .. } => cause.code(),
            Self::Regression(_) => BENCH_REGRESSION,
            Self::Undecided(_) => BENCH_UNDECIDED,
            Self::Unconfirmed(_) => BENCH_UNCONFIRMED,
            Self::SaysNothing(_) | Self::NoDecision(_) => BENCH_INVALID,
            Self::OperationFailed(_) => OPERATION_FAILED,
            Self::Replaced(_) => OPERATION_REPLACED,
            Self::NotConfirmed | Self::Usage(_) => USAGE,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Spec(_)
            | Self::Traffic(_)
            | Self::Sku(_)
            | Self::Log(_)
            | Self::NotAnswered
            | Self::BadInput(_) => BAD_INPUT,
            Self::NotFound(_) => NOT_FOUND,
            Self::Client(error) => client_code(error),
            Self::Scoring { .. } => SCORING_FAILED,
            // It has the same codes.
            Self::ServerEnded(status) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                code.unwrap_or(SERVER_FAILED)
            }
            Self::Backup(BackupError::Exists(_) | BackupError::Occupied(_)) => CONFLICT,
            Self::Backup(BackupError::Store(StoreError::InUse { .. })) => SERVER_FAILED,
            Self::Backup(_) => BAD_INPUT,
            Self::App(error) => app_code(error),
            Self::Child(_) | Self::Start(_) => SERVER_FAILED,
            Self::Output(_) => UNAVAILABLE,
            Self::Demo(_) => DEMO_FAILED,
            Self::Interrupted | Self::NothingMeasured => INTERRUPTED,
        }
    }

    /// The message with its causes, one a line, without a cause that the line before already tells.
    pub(super) fn text(&self) -> String {
        let mut said = self.to_string();
        let mut text = format!("error: {said}\n");
        let mut next = self.source();
        while let Some(cause) = next {
            let words = cause.to_string();
            if !said.contains(&words) {
                for line in words.lines() {
                    writeln!(text, "caused by: {line}").expect("text takes any text");
                }
                said = words;
            }
            next = cause.source();
        }
        text
    }
}

/// What `serin up` was asked to serve may be wrong; all else is the server's.
fn app_code(error: &AppError) -> u8 {
    match error {
        AppError::Deploy(DeployError::Threads(_)) => SERVER_FAILED,
        AppError::Deploy(_) => BAD_INPUT,
        _ => SERVER_FAILED,
    }
}

fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::NoServer { .. } => NO_SERVER,
        ClientError::ServerFile(_)
        | ClientError::Silent { .. }
        | ClientError::Transport { .. }
        | ClientError::Answer { .. } => UNAVAILABLE,
        ClientError::Request(_) => BAD_INPUT,
        ClientError::Refused(refusal) => match refusal.code {
            ErrorCode::BadArgument => BAD_INPUT,
            ErrorCode::ResourceNotFound => NOT_FOUND,
            ErrorCode::ResourceAlreadyExists | ErrorCode::Conflict => CONFLICT,
            ErrorCode::Unauthorized
            | ErrorCode::InsufficientStorage
            | ErrorCode::ServerBusy
            | ErrorCode::Other => UNAVAILABLE,
        },
    }
}

//! Failures of a server: it does not start, or cannot go on.

use std::io;
use std::net::SocketAddr;

use crate::app::ModelFolderError;
use crate::control::StartupError;
use crate::embedded::Error;

/// The reason why a server does not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A socket could not be bound.
    #[error("cannot listen on {address}: {source}; choose another address with {flag}")]
    Bind {
        /// The address at which it should have listened.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// What was handed over is no socket of a server.
    #[error("cannot listen on socket {number}, which this process was started with: {problem}")]
    HandedOver {
        /// The number of the file descriptor.
        number: i32,
        /// What it is instead.
        problem: String,
    },
    /// There is no supervisor, or it cannot start the server.
    #[error("cannot run the server under a supervisor: {0}")]
    Supervisor(#[source] io::Error),
    /// A runtime or its threads could not be made.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
    /// The data folder cannot be used.
    #[error(transparent)]
    Start(#[from] StartupError),
    /// A bug: the thread that administers the server is gone.
    #[error("the control thread ended unexpectedly; its last words are in the log")]
    ControlEnded,
    /// `serin up` found no model in a folder.
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    /// Another server, whose place this one was to take, goes on.
    #[error("the running server was not replaced: {0}")]
    NotReplaced(String),
    /// The server was asked a second time to end, at once.
    #[error("the server was ended at once")]
    CutShort,
    /// `serin up` could not deploy a file.
    #[error(transparent)]
    Deploy(#[from] Error),
}

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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serin_scorers::ScoreError as CodecError;

    use crate::embedded::ScoreError;
    use crate::engine::RunError;
    use crate::observe::Timings;
    use crate::router::{Rejected, Unserved};
    use crate::serve::Failure;

    fn unserved() -> Vec<Unserved> {
        let blue = || "blue".parse().expect("a name");
        let rejected = |rejected| Unserved::Rejected {
            deployment: blue(),
            rejected,
            retry_after_s: 1,
        };
        let failed = |error| Unserved::Failed {
            deployment: blue(),
            error,
            timings: Timings::start(Instant::now()),
        };
        let wrong = || CodecError::RepeatedInput {
            input: "data".to_owned(),
        };
        vec![
            Unserved::NoDeployment {
                endpoint: "digits".to_owned(),
                deployment: "red".to_owned(),
                known: Vec::new(),
            },
            Unserved::NoTraffic {
                endpoint: "digits".to_owned(),
            },
            Unserved::NotReady { deployment: blue() },
            rejected(Rejected::QueueFull {
                held: 2,
                held_max: 2,
            }),
            rejected(Rejected::DeadlinePassed),
            rejected(Rejected::Draining),
            failed(RunError::Input(wrong())),
            failed(RunError::Output(wrong())),
            failed(RunError::Model("no".to_owned())),
            failed(RunError::Panicked("no".to_owned())),
            failed(RunError::Died {
                how: "signal 8".to_owned(),
                suspect: None,
            }),
            failed(RunError::ExpiredWaiting),
            failed(RunError::ExpiredRunning),
            failed(RunError::InstanceGone),
        ]
    }

    #[test]
    fn the_library_says_the_status_that_the_server_answers() {
        for (ours, of_server) in unserved().into_iter().zip(unserved()) {
            let status = Failure::from(of_server).status().as_u16();
            let error = ScoreError::from(ours);
            assert_eq!(error.http_status(), status, "{error}");
        }
    }
}

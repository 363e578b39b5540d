//! Errors of the store.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::control::revision::Revision;
use crate::control::store::schema::SCHEMA;

/// The reason why the store could not do it. Then nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data folder cannot be made, read or written.
    #[error("cannot use data folder {path:?}: {source}; choose another with --data")]
    Folder { path: PathBuf, source: io::Error },
    /// Another process has it.
    #[error("data folder {path:?} is in use by another server{}; stop it, or choose another folder with --data", pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse { path: PathBuf, pid: Option<String> },
    /// A later release has written it.
    #[error(
        "data folder {path:?} was written by a later release (schema {found}, this one knows {SCHEMA}): use that release"
    )]
    Newer { path: PathBuf, found: i64 },
    /// No room.
    #[error("the disk is full")]
    Full,
    /// The disk fails or forbids.
    #[error("the disk refuses: {0}")]
    Disk(String),
    /// The database is not whole, or none at all.
    #[error(
        "serin.db in the data folder is damaged ({0}): put a copy of the folder back, or choose another folder with --data"
    )]
    Damaged(#[source] rusqlite::Error),
    /// Anything else that SQLite says.
    #[error("{0}")]
    Sqlite(#[source] rusqlite::Error),
    /// The stored text is not what this program wrote.
    #[error("stored {what} cannot be read: {source}")]
    Unreadable {
        what: &'static str,
        source: serde_json::Error,
    },
    /// Another process that had the folder has changed what is in it.
    #[error("the data folder has revision {found} and this server knows {expected}: start it anew")]
    Changed { expected: Revision, found: Revision },
    /// Another process has the folder.
    #[error("{0}")]
    Lent(String),
    /// The server is going away.
    #[error("the server is stopping")]
    Stopped,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                Self::Disk(error.to_string())
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

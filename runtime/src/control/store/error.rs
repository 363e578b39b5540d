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
    /// No server has ever used the folder.
    #[error("no serin.db in {0:?}: expected the data folder of a server, or a backup of one")]
    NoDatabase(PathBuf),
    /// Another release has written it.
    #[error(
        "data folder {path:?} was written by another release (schema {found}, this one knows {SCHEMA}): start that server once with \
         this release, or use that release"
    )]
    OtherRelease { path: PathBuf, found: i64 },
    /// Another program has the database locked.
    #[error(
        "serin.db is locked by another program, or by a server that was started on a full disk; make room and start the server \
         again, then try again"
    )]
    Locked,
    /// No room.
    #[error("the disk is full")]
    Full,
    /// The disk fails or forbids.
    #[error("the disk refuses: {0}")]
    Disk(String),
    /// The database is not whole, or none at all.
    #[error(
        "serin.db in the data folder is damaged ({0}): put a backup back (`serin restore`), or go on with what can be read \
         (`serin serve --accept-loss`; what is there now is kept aside)"
    )]
    Damaged(String),
    /// There is less than was accepted.
    #[error(
        "data folder {path:?} has less than was accepted: expected {expected}, found {found}; put back what is missing, or a \
         backup (`serin restore`), or go on with what is there (`serin serve --accept-loss`; all of it is kept aside)"
    )]
    Lost {
        path: PathBuf,
        expected: String,
        found: String,
    },
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

impl StoreError {
    /// Whether something that was accepted is gone.
    pub(super) fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. } | Self::Damaged(_) | Self::Unreadable { .. }
        )
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                Self::Disk(error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

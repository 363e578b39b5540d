//! `server.json` in the data folder: how a command finds the server that runs on it.
//!
//! It appears whole or not at all, only its owner can read it (it holds the token of the admin listener), and it is there
//! exactly while the server answers; after a crash it may be stale, which a client notices by the refused connection.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The addresses of a server, and the token that opens its admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// Process id of the server.
    pub pid: u32,
    /// The address at which requests are scored.
    pub scoring_address: SocketAddr,
    /// The address at which the server is administered.
    pub admin_address: SocketAddr,
    /// Bearer token of the admin listener, new with each start.
    pub token: String,
    /// The time from which the server was up.
    pub started: Timestamp,
}

/// The reason why `server.json` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ServerFileError {
    /// It is there and cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is there and is something else.
    #[error("{path:?} is not a server file of this version of serin: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The mistake in it.
        source: serde_json::Error,
    },
}

impl ServerFile {
    /// The path of the file in a data folder.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("server.json")
    }

    /// Writes the file, atomically, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// The system's reason: no permission, no space.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".server-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(data)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.persist(Self::path(data)).map_err(|e| e.error)?;
        Ok(())
    }

    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ServerFileError`] when there is one and it cannot be read or understood.
    pub fn read(data: &Path) -> Result<Option<Self>, ServerFileError> {
        let path = Self::path(data);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ServerFileError::Read { path, source }),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| ServerFileError::Parse { path, source })
    }

    /// Removes the file, if it is still this server's.
    ///
    /// # Errors
    ///
    /// The system's reason. A missing file is none.
    pub fn remove(&self, data: &Path) -> io::Result<()> {
        if !matches!(Self::read(data), Ok(Some(found)) if found == *self) {
            return Ok(());
        }
        match std::fs::remove_file(Self::path(data)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pid: u32) -> ServerFile {
        ServerFile {
            pid,
            scoring_address: "127.0.0.1:5001".parse().unwrap(),
            admin_address: "127.0.0.1:40001".parse().unwrap(),
            token: "t0ken".to_owned(),
            started: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_was_written_is_read_and_only_the_owner_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), None);
        file(7).write(data.path()).unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), Some(file(7)));
        let mode = std::fs::metadata(ServerFile::path(data.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // Nothing but the file itself is left behind.
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_server_removes_its_own_file_only() {
        let data = tempfile::tempdir().unwrap();
        file(8).write(data.path()).unwrap();
        file(7).remove(data.path()).unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), Some(file(8)));
        file(8).remove(data.path()).unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), None);
        file(8).remove(data.path()).unwrap();
    }

    #[test]
    fn a_file_of_another_kind_is_named_in_the_error() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(ServerFile::path(data.path()), "{}").unwrap();
        let error = ServerFile::read(data.path()).unwrap_err().to_string();
        assert!(
            error.contains(
                "server.json\" is not a server file of this version of serin: missing field `pid`"
            ),
            "{error}"
        );
    }
}

//! `server.json` in the data folder: how a command finds the server that runs on it.
//!
//! It appears whole or not at all, only its owner can read it (it holds the token of the admin listener), and it is there
//! exactly while the server answers; after a crash it may be stale, which a client notices by the refused connection.
//!
//! A disk without room is no reason not to serve. Then the file lies in this user's folder for running programs, which is memory on
//! most machines, until there is room where it belongs; who reads takes the newer of the two.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use crate::config::ANNOUNCE_AGAIN_AFTER;

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
        self.write_to(&Self::path(data))
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".server-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(path.parent().unwrap_or(Path::new("/")))?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }

    /// Writes the file where it belongs, or for as long as that does not go where commands look as well. Never ends by itself.
    pub async fn keep_announced(&self, data: &Path) -> std::convert::Infallible {
        let elsewhere = elsewhere(data);
        if let Err(error) = self.write(data) {
            // A stale one tells of a server that is gone.
            drop(fs::remove_file(Self::path(data)));
            let told = write_elsewhere(self, &elsewhere);
            warn!(
                %error, path = ?Self::path(data), commands_find_it = told.is_ok(), elsewhere = ?elsewhere,
                "cannot write the server file: the server serves on, and tries again until there is room"
            );
            while self.write(data).is_err() {
                tokio::time::sleep(ANNOUNCE_AGAIN_AFTER).await;
            }
            drop(fs::remove_file(&elsewhere));
            info!(path = ?Self::path(data), "the server file is written");
        }
        std::future::pending().await
    }

    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ServerFileError`] when there is one and it cannot be read or understood.
    pub fn read(data: &Path) -> Result<Option<Self>, ServerFileError> {
        let here = Self::read_from(Self::path(data));
        let elsewhere = elsewhere(data);
        let there = if is_own(&elsewhere) {
            Self::read_from(elsewhere).unwrap_or_default()
        } else {
            None
        };
        match (here, there) {
            (Ok(Some(here)), Some(there)) if here.started >= there.started => Ok(Some(here)),
            (_, Some(there)) => Ok(Some(there)),
            (here, None) => here,
        }
    }

    fn read_from(path: PathBuf) -> Result<Option<Self>, ServerFileError> {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ServerFileError::Read { path, source }),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| ServerFileError::Parse { path, source })
    }

    /// Removes the file, if it is still this server's, wherever it is.
    ///
    /// # Errors
    ///
    /// The system's reason. A missing file is none.
    pub fn remove(&self, data: &Path) -> io::Result<()> {
        for path in [Self::path(data), elsewhere(data)] {
            if !matches!(Self::read_from(path.clone()), Ok(Some(found)) if found == *self) {
                continue;
            }
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The place of the file when it cannot be in the data folder: one for each data folder, in a folder of this user's.
fn elsewhere(data: &Path) -> PathBuf {
    let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let hash = Sha256::digest(data.as_os_str().as_bytes());
    let mut name = String::new();
    for byte in &hash[..16] {
        write!(name, "{byte:02x}").expect("text takes any text");
    }
    run_folder().join(name + ".json")
}

/// The folder for what is only there while programs run.
fn run_folder() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("serin"),
        None => {
            let user = rustix::process::geteuid().as_raw();
            std::env::temp_dir().join(format!("serin-{user}"))
        }
    }
}

fn write_elsewhere(file: &ServerFile, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if is_own(path) {
        file.write_to(path)
    } else {
        let owner = "the folder is not this user's alone";
        Err(io::Error::other(owner))
    }
}

/// Whether nobody else could have put a file there.
fn is_own(path: &Path) -> bool {
    let folder = path.parent().map(fs::symlink_metadata);
    folder.is_some_and(|folder| {
        folder.is_ok_and(|folder| {
            let user = rustix::process::geteuid().as_raw();
            folder.is_dir() && folder.uid() == user && folder.mode() & 0o077 == 0
        })
    })
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
        let mode = fs::metadata(ServerFile::path(data.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // Nothing but the file itself is left behind.
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
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
    fn what_cannot_be_written_in_the_data_folder_is_found_elsewhere_until_it_can() {
        let data = tempfile::tempdir().unwrap();
        // Not even the super-user puts a file over a folder.
        let blocked = ServerFile::path(data.path());
        fs::create_dir(&blocked).unwrap();
        fs::write(blocked.join("in-the-way"), "").unwrap();
        let newer = ServerFile {
            started: Timestamp::now(),
            ..file(7)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let announced = newer.keep_announced(data.path());
            let looks = async {
                // One poll of the other side has written it.
                tokio::task::yield_now().await;
                assert_eq!(ServerFile::read(data.path()).unwrap(), Some(newer.clone()));
                fs::remove_dir_all(&blocked).unwrap();
                tokio::time::sleep(ANNOUNCE_AGAIN_AFTER * 2).await;
                assert!(blocked.is_file() && !elsewhere(data.path()).exists());
            };
            tokio::select! { never = announced => match never {}, () = looks => {} }
        });
        newer.remove(data.path()).unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), None);
    }

    #[test]
    fn the_newer_of_two_files_is_believed() {
        let data = tempfile::tempdir().unwrap();
        let newer = ServerFile {
            started: Timestamp::now(),
            ..file(7)
        };
        write_elsewhere(&newer, &elsewhere(data.path())).unwrap();
        file(8).write(data.path()).unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), Some(newer.clone()));
        newer.remove(data.path()).unwrap();
        assert_eq!(ServerFile::read(data.path()).unwrap(), Some(file(8)));
    }

    #[test]
    fn a_file_of_another_kind_is_named_in_the_error() {
        let data = tempfile::tempdir().unwrap();
        fs::write(ServerFile::path(data.path()), "{}").unwrap();
        let error = ServerFile::read(data.path()).unwrap_err().to_string();
        assert!(
            error.contains(
                "server.json\" is not a server file of this version of serin: missing field `pid`"
            ),
            "{error}"
        );
    }
}

//! A loss that a person has accepted: what is there goes on, what was there stays in a folder beside it.
//!
//! Not here: how a loss is noticed (`guard`).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::control::store::error::StoreError;
use crate::control::store::mark::MARK_FILE;
use crate::control::store::schema::FILE;

/// What to do when the data folder has less than was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLoss {
    /// Not to start, and to say what is missing.
    #[default]
    Refuse,
    /// To go on with what is there, and keep the rest aside.
    Accept,
}

/// The files of the database, with those that SQLite makes beside it.
pub(super) fn database_files() -> [String; 3] {
    ["", "-wal", "-shm"].map(|end| format!("{FILE}{end}"))
}

/// Makes a folder for what is lost, named by the moment.
pub(in crate::control) fn folder_aside(data: &Path) -> Result<PathBuf, StoreError> {
    let moment = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    let aside = data.join(format!("lost-{moment}"));
    let made = fs::DirBuilder::new().mode(0o700).create(&aside);
    made.map_err(|source| refused(&aside, source))?;
    Ok(aside)
}

/// Keeps a copy of the database and of all models in a folder, and moves the mark there: the next to open finds none.
pub(super) fn keep_aside(data: &Path, aside: &Path) -> Result<(), StoreError> {
    let refused = |source| refused(aside, source);
    for name in database_files() {
        if data.join(&name).exists() {
            fs::copy(data.join(&name), aside.join(&name)).map_err(refused)?;
        }
    }
    let models = data.join("models/sha256");
    if models.is_dir() {
        link_all(&models, &aside.join("models/sha256")).map_err(refused)?;
    }
    match fs::rename(data.join(MARK_FILE), aside.join(MARK_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(error)),
        Ok(()) | Err(_) => sync_folder(aside)
            .and_then(|()| sync_folder(data))
            .map_err(refused),
    }
}

/// Takes a database away of which a copy is kept.
pub(super) fn remove_database(data: &Path) -> Result<(), StoreError> {
    for name in database_files() {
        match fs::remove_file(data.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused(&data.join(name), error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Has the same files in another folder, without a copy of their bytes where the file system can.
pub(in crate::control) fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    sync_folder(to)
}

pub(in crate::control) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn refused(path: &Path, source: io::Error) -> StoreError {
    StoreError::Folder {
        path: path.to_owned(),
        source,
    }
}

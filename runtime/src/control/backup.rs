//! Backups: all that a server must not lose, in a folder that is a data folder itself.
//!
//! A copy is made in a folder of its own, read back (structure, seal and mark of the database, digests of all models, the secret),
//! and moves to its place when all of it is on the disk. A server may run meanwhile: the database is copied at one moment, and the
//! files of models never change; where one was deleted since, the next moment is taken.
//!
//! Threads: the caller's; everything blocks. Not here: the black box and `server.json`, which belong to one process.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempDir;

use crate::control::credentials::{SECRET_FILE, Secret, SecretError};
use crate::control::models::{ModelDigest, ModelFiles, ModelStoreError};
use crate::control::store::{
    DataFolder, STATE_FILES, Snapshot, StoreError, folder_aside, snapshot,
};

/// Moments that are tried: each but the last was overtaken by the deletion of a model.
const MOMENTS_MAX: usize = 5;

/// Begins the names of unfinished copies.
const UNFINISHED: &str = ".serin-copy-";

/// The models of a data folder.
const MODELS: &str = "models";

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Where it is now.
    pub path: PathBuf,
    /// The revision of the state.
    pub revision: u64,
    pub endpoints: usize,
    /// Contents of models, each counted once.
    pub models: usize,
    /// Where the state is that was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<PathBuf>,
}

/// The reason why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there.
    #[error("{} is there already: a backup overwrites nothing; name a folder that is not there, or an empty one", .0.display())]
    Exists(PathBuf),
    /// The data folder has a state.
    #[error(
        "data folder {} has a state already: restore into another one (--data), or replace it with --force, which keeps what is \
         there aside", .0.display()
    )]
    Occupied(PathBuf),
    /// The database, also where the server still runs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model that is damaged.
    #[error(transparent)]
    Model(#[from] ModelStoreError),
    /// The secret is another one.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// Copies the state of a data folder, whole, to a folder that is not there yet.
///
/// # Errors
///
/// [`BackupError`]; then there is no copy.
pub fn back_up(data: &Path, to: &Path) -> Result<Copied, BackupError> {
    if !is_free(to)? {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let to = &std::path::absolute(to).map_err(at("find", to))?;
    let beside = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(beside).map_err(at("make", beside))?;
    let unfinished = unfinished_in(beside)?;
    let copied = copy_state(data, unfinished.path())?;
    // Takes the place of an empty folder, and of nothing else.
    fs::rename(unfinished.path(), to).map_err(at("write", to))?;
    drop(unfinished.keep());
    sync(beside)?;
    Ok(told(&copied, to, None))
}

/// Copies the state of a backup, whole, into a data folder that no server has open.
///
/// With `replace` a state that is there is kept aside, in the same folder.
///
/// # Errors
///
/// [`BackupError`]; then the data folder is as it was, or its next server refuses to start and says so.
pub fn restore(from: &Path, data: &Path, replace: bool) -> Result<Copied, BackupError> {
    let folder = DataFolder::open(data)?;
    let data = folder.path();
    let occupied = has_state(data);
    if occupied && !replace {
        return Err(BackupError::Occupied(data.to_owned()));
    }
    clear_unfinished(data)?;
    let unfinished = unfinished_in(data)?;
    let copied = copy_state(from, unfinished.path())?;
    let aside = if occupied {
        Some(set_aside(data)?)
    } else {
        let models = data.join(MODELS);
        remove(&models, fs::remove_dir_all(&models))?;
        None
    };
    // The database last: without it nothing else is taken for a state.
    for name in [MODELS, SECRET_FILE].into_iter().chain(STATE_FILES) {
        let (made, place) = (unfinished.path().join(name), data.join(name));
        if made.exists() {
            fs::rename(&made, &place).map_err(at("write", &place))?;
        }
        sync(data)?;
    }
    Ok(told(&copied, data, aside))
}

fn told(copied: &Snapshot, path: &Path, kept_in: Option<PathBuf>) -> Copied {
    Copied {
        path: path.to_owned(),
        revision: copied.revision,
        endpoints: copied.endpoints,
        models: copied.models.len(),
        kept_in,
    }
}

/// Copies everything into an empty folder, has it on disk and reads it back.
fn copy_state(from: &Path, to: &Path) -> Result<Snapshot, BackupError> {
    let mut moments = 0;
    let copied = loop {
        moments += 1;
        for name in STATE_FILES {
            let file = to.join(name);
            remove(&file, fs::remove_file(&file))?;
        }
        let copied = snapshot(from, to)?;
        match copy_models(from, to, &copied.models) {
            Ok(()) => break copied,
            // Deleted since; then the next moment does without it.
            Err(BackupError::Model(ModelStoreError::OtherFiles { .. }))
                if moments < MOMENTS_MAX => {}
            Err(error) => return Err(error),
        }
    };
    let (secret, target) = (from.join(SECRET_FILE), to.join(SECRET_FILE));
    copy_file(&secret, &target)?;
    Secret::check_copy(to, copied.secret.as_deref())?;
    sync(to)?;
    Ok(copied)
}

/// Copies models that are not there yet, and takes away those that are not asked for.
fn copy_models(from: &Path, to: &Path, models: &BTreeSet<ModelDigest>) -> Result<(), BackupError> {
    let (source, copy) = (ModelFiles::in_data(from), ModelFiles::in_data(to));
    make_folder(&to.join(MODELS).join("sha256"))?;
    for stored in copy.stored()? {
        if !models.contains(&stored) {
            let folder = copy.folder(&stored);
            remove(&folder, fs::remove_dir_all(&folder))?;
        }
    }
    for model in models {
        let (from, to) = (source.folder(model), copy.folder(model));
        if !to.exists() {
            if from.is_dir() {
                copy_folder(&from, &to)?;
            }
            // What is read back is what was registered, wherever a byte has changed.
            copy.verify(model)
                .inspect_err(|_| drop(fs::remove_dir_all(&to)))?;
        }
    }
    sync(&to.join(MODELS).join("sha256"))?;
    sync(&to.join(MODELS))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), BackupError> {
    make_folder(to)?;
    for entry in fs::read_dir(from).map_err(at("read", from))? {
        let entry = entry.map_err(at("read", from))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    sync(to)
}

/// A copy of the bytes, never a link: what happens to one of the two must not happen to the other.
fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::copy(from, to).map_err(at("copy", from))?;
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(at("write", to))
}

/// Moves the state of a data folder into a folder within it.
fn set_aside(data: &Path) -> Result<PathBuf, BackupError> {
    let aside = folder_aside(data)?;
    let logs = ["serin.db-wal", "serin.db-shm"];
    let names = STATE_FILES.into_iter().rev().chain(logs);
    for name in names.chain([SECRET_FILE, MODELS]) {
        let path = data.join(name);
        remove(&path, fs::rename(&path, aside.join(name)))?;
    }
    sync(&aside)?;
    sync(data)?;
    Ok(aside)
}

fn has_state(data: &Path) -> bool {
    let models = ModelFiles::in_data(data).stored();
    let files = [SECRET_FILE].into_iter().chain(STATE_FILES);
    models.is_ok_and(|found| !found.is_empty())
        || files.into_iter().any(|name| data.join(name).exists())
}

/// Whether nothing is there, or a folder with nothing in it.
fn is_free(path: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(path) {
        Ok(mut found) => Ok(found.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(at("read", path)(error)),
    }
}

fn unfinished_in(folder: &Path) -> Result<TempDir, BackupError> {
    let mut builder = tempfile::Builder::new();
    let private = Permissions::from_mode(0o700);
    let made = builder.prefix(UNFINISHED).permissions(private);
    let made = made.tempdir_in(folder);
    made.map_err(at("make a folder in", folder))
}

/// Deletes what a copy that was cut off has left in a folder that is locked.
fn clear_unfinished(folder: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(folder).map_err(at("read", folder))? {
        let entry = entry.map_err(at("read", folder))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            remove(&entry.path(), fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), BackupError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(at("make", path))
}

/// What is not there need not go.
fn remove(path: &Path, removed: io::Result<()>) -> Result<(), BackupError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("move", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(at("write", folder))
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { what, path, source }
}

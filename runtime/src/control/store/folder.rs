//! The data folder, locked for one process.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::control::store::error::StoreError;
use crate::plain_file::check_private;

/// The data folder, ours alone while this lives.
#[derive(Debug)]
pub(in crate::control) struct DataFolder {
    path: PathBuf,
    /// Locked; the system unlocks it when the process ends, however it ends.
    lock: File,
}

impl DataFolder {
    /// Makes the folder, readable for this user alone, and locks it.
    pub(in crate::control) fn open(path: &Path) -> Result<Self, StoreError> {
        let refused = |source| StoreError::Folder {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(refused)?;
        check_private(path).map_err(refused)?;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut lock = options.open(path.join("lock")).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let pid = lock
                    .read_to_string(&mut pid)
                    .ok()
                    .map(|_| pid.trim().to_owned())
                    .filter(|pid| !pid.is_empty());
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(source)) => return Err(refused(source)),
        }
        // The pid is for the message above alone; the lock is what counts, also where the disk has no room.
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| write!(lock, "{}", std::process::id()));
        drop(written);
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    pub(in crate::control) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // A process that was forked at this moment has the file too, until it runs its program: to close it alone would not let go, and
        // whoever takes the folder over now would find it in use. What cannot be unlocked is closed all the same.
        drop(self.lock.unlock());
    }
}

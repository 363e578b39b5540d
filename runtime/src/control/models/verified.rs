//! Whether the files of a model are those that were registered.
//!
//! All bytes are read once in the life of the process, before the model is first loaded; from then on a change of a file shows in
//! its stamp (device, inode, size, times), for the kernel moves `ctime` with every write. What a disk does by itself below that is
//! found by the next start.
//!
//! Threads: any; everything blocks, and who asks for a model that is just being read waits for that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::control::models::error::at;
use crate::control::models::folder::{Whose, files_of};
use crate::control::models::{ModelDigest, ModelStoreError};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The state of files, by which a change is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(String, [u64; 3], [i64; 4])>);

impl Stamp {
    /// Of all files in a folder.
    pub(super) fn of(folder: &Path) -> Result<Self, ModelStoreError> {
        Self::of_files(&files_of(folder, Whose::Ours)?)
    }

    fn of_files(files: &BTreeMap<String, PathBuf>) -> Result<Self, ModelStoreError> {
        let stamp = |(name, path): (&String, &PathBuf)| {
            let of = fs::metadata(path).map_err(at("read", path))?;
            let times = [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()];
            Ok((name.clone(), [of.dev(), of.ino(), of.len()], times))
        };
        files.iter().map(stamp).collect::<Result<_, _>>().map(Self)
    }
}

/// A model's stamp when all of it was read, once it was.
type Known = Arc<Mutex<Option<Stamp>>>;

/// The models that were found to be what was registered.
#[derive(Debug, Clone, Default)]
pub(super) struct Verified {
    models: Arc<Mutex<BTreeMap<ModelDigest, Known>>>,
}

impl Verified {
    /// Reads the files in a folder, unless they are those that were read before.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::OtherFiles`] when their digest is another one, or they are not there.
    pub(super) fn check(&self, digest: &ModelDigest, folder: &Path) -> Result<(), ModelStoreError> {
        let other = |found: String| ModelStoreError::OtherFiles {
            folder: folder.to_owned(),
            registered: digest.clone(),
            found,
        };
        if !folder.is_dir() {
            return Err(other("no such folder".to_owned()));
        }
        let known = Arc::clone(lock(&self.models).entry(digest.clone()).or_default());
        let mut known = lock(&known);
        let files = files_of(folder, Whose::Ours)?;
        // Of before they are read: what is written meanwhile shows the next time.
        let stamp = Stamp::of_files(&files)?;
        if known.as_ref() == Some(&stamp) {
            return Ok(());
        }
        let found = digest_of(&files)?;
        if found != *digest {
            *known = None;
            return Err(other(found.to_string()));
        }
        *known = Some(stamp);
        Ok(())
    }

    /// Remembers files that this process has just written and hashed.
    pub(super) fn note(&self, digest: &ModelDigest, stamp: Stamp) {
        let known = Arc::clone(lock(&self.models).entry(digest.clone()).or_default());
        *lock(&known) = Some(stamp);
    }
}

/// A panic elsewhere leaves what is held whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The digest of files, as it is made when they are copied in.
fn digest_of(files: &BTreeMap<String, PathBuf>) -> Result<ModelDigest, ModelStoreError> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for (name, path) in files {
        hash_file(name, path, (&mut hash, &mut chunk)).map_err(at("read", path))?;
    }
    Ok(ModelDigest::of(hash))
}

fn hash_file(name: &str, path: &Path, (hash, chunk): (&mut Sha256, &mut [u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    hash.update(format!("{name}\0{}\0", file.metadata()?.len()));
    loop {
        match file.read(chunk)? {
            0 => return Ok(()),
            read => hash.update(&chunk[..read]),
        }
    }
}

//! A copy of a model's files that nobody else writes to.
//!
//! ONNX Runtime maps the files that a model keeps its data in. In place rewritten, they would change answers under way, and cut
//! off they would end the process (SIGBUS); so a file of the user's is never loaded itself. The copy lies in the cache, so that
//! a file system that can share blocks between files does, else in the system's folder for temporary files. It is locked while
//! it is in use; what a killed process has left is found without a lock and deleted by the next one.
//!
//! Threads: everything blocks. Not here: models that are registered, whose files the server has copied already.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::{ExternalTensors, ModelCache};
use crate::plain_file;

/// Begins the names of copies.
const PREFIX: &str = ".serin-copy-";
const LOCK_FILE: &str = ".lock";
/// Longest name of a file, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;
/// The name of a model whose own cannot be that of a file.
const MODEL_NAME: &str = "model.onnx";

/// The files of a model, copied; they go when this is dropped.
#[derive(Debug)]
pub struct PrivateCopy {
    model: PathBuf,
    _folder: TempDir,
    _lock: File,
}

impl PrivateCopy {
    /// Copies the ONNX file, and those that it keeps its data in.
    ///
    /// # Errors
    ///
    /// What could not be read or written, in words.
    pub(super) fn of(model: &Path) -> Result<Self, String> {
        match ModelCache::open() {
            Ok(cache) => Self::within(&cache.copies(), model),
            Err(_) => Self::within(&std::env::temp_dir(), model),
        }
    }

    /// Writes a model that a program has in memory to a file of this name.
    ///
    /// # Errors
    ///
    /// What could not be written, or the file that it keeps data in, in words.
    pub(super) fn of_bytes(name: &str, content: &[u8]) -> Result<Self, String> {
        match ModelCache::open() {
            Ok(cache) => Self::of_bytes_within(&cache.copies(), name, content),
            Err(_) => Self::of_bytes_within(&std::env::temp_dir(), name, content),
        }
    }

    fn of_bytes_within(place: &Path, name: &str, content: &[u8]) -> Result<Self, String> {
        let problem = |error: io::Error| format!("cannot write {name} to a file: {error}");
        let (folder, lock) = locked_folder(place).map_err(problem)?;
        let model = folder.path().join(file_name(name));
        fs::write(&model, content).map_err(problem)?;
        // Whoever loads it says what is wrong with a model that cannot be read.
        let elsewhere = ExternalTensors::of(&model).and_then(|mut tensors| tensors.next_tensor());
        if let Ok(Some(tensor)) = elsewhere {
            return Err(format!(
                "{name} keeps its tensor {:?} in a file beside it ({:?}), and a model from memory has none: give the path of its \
                 file, or save it with its data inside",
                tensor.name,
                String::from_utf8_lossy(&tensor.location)
            ));
        }
        Ok(Self {
            model,
            _folder: folder,
            _lock: lock,
        })
    }

    fn within(place: &Path, model: &Path) -> Result<Self, String> {
        let problem = |error: io::Error| format!("cannot copy {}: {error}", model.display());
        let (folder, lock) = locked_folder(place).map_err(problem)?;
        let name = model.file_name().unwrap_or(OsStr::new(MODEL_NAME));
        let copied = folder.path().join(name);
        // A pipe would be waited for.
        drop(plain_file::open(model).map_err(problem)?);
        fs::copy(model, &copied).map_err(problem)?;
        let beside = model.parent().unwrap_or(Path::new(""));
        for data in data_files(&copied).map_err(problem)? {
            let to = folder.path().join(&data);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(problem)?;
            }
            // Whoever loads the model says what is missing, in words of its own.
            if to != copied && beside.join(&data).is_file() {
                let from = beside.join(&data);
                let problem = |error| format!("cannot copy {}: {error}", from.display());
                fs::copy(&from, to).map_err(problem)?;
            }
        }
        Ok(Self {
            model: copied,
            _folder: folder,
            _lock: lock,
        })
    }

    /// The ONNX file of the copy.
    #[must_use]
    pub fn model(&self) -> &Path {
        &self.model
    }
}

/// The name that a program gave its model, where a file can have it.
fn file_name(name: &str) -> &str {
    let is_one = Path::new(name).file_name() == Some(OsStr::new(name))
        && name != LOCK_FILE
        && name.len() <= FILE_NAME_BYTES_MAX
        && !name.contains('\0');
    if is_one { name } else { MODEL_NAME }
}

/// A folder for a copy, locked for as long as the file is open.
fn locked_folder(place: &Path) -> io::Result<(TempDir, File)> {
    fs::create_dir_all(place)?;
    delete_leftovers(place);
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
    let lock = File::create(folder.path().join(LOCK_FILE))?;
    lock.lock_shared()?;
    Ok((folder, lock))
}

/// The files that a model keeps its data in, relative to its folder. One that leads out of it is not followed: ONNX Runtime
/// refuses to.
pub(super) fn data_files(model: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut tensors = ExternalTensors::of(model)?;
    while let Some(tensor) = tensors.next_tensor()? {
        let path = PathBuf::from(OsStr::from_bytes(&tensor.location));
        let within = path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if within && !tensor.location.is_empty() && !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Age from which a copy without a lock is a leftover: a younger one may be on its way from its lock's file to the lock.
const LEFTOVER_AGE_MIN: Duration = Duration::from_secs(60);

fn is_old(lock: &File) -> bool {
    let made = lock.metadata().and_then(|metadata| metadata.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age >= LEFTOVER_AGE_MIN)
}

/// Deletes copies that nobody has locked.
fn delete_leftovers(place: &Path) {
    let Ok(found) = fs::read_dir(place) else {
        return;
    };
    for path in found.filter_map(|one| Some(one.ok()?.path())) {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // One without a lock has just been begun, or was cut off before it had any file of size.
        if name.starts_with(PREFIX)
            && let Ok(lock) = File::open(path.join(LOCK_FILE))
            && is_old(&lock)
            && lock.try_lock().is_ok()
        {
            drop(fs::remove_dir_all(&path));
        }
    }
}

/// The state of a model's files, by which a change is noticed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(PathBuf, Option<FileStamp>)>);

/// Size, inode, and the times of the last change of the content and of the inode.
type FileStamp = (u64, u64, (i64, i64), (i64, i64));

impl Stamp {
    pub(super) fn of(model: &Path) -> Self {
        let beside = model.parent().unwrap_or(Path::new(""));
        let data = data_files(model).unwrap_or_default().into_iter();
        let files = std::iter::once(model.to_owned()).chain(data.map(|file| beside.join(file)));
        let stamp = |of: Metadata| {
            let times = ((of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec()));
            (of.len(), of.ino(), times.0, times.1)
        };
        let files = files.map(|file| {
            let metadata = fs::metadata(&file).ok();
            (file, metadata.map(stamp))
        });
        Self(files.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::engine::written;

    /// A model that keeps its tensors in these files.
    fn model_with_data(folder: &Path, data: &[&str]) -> PathBuf {
        let tensors = data.iter().flat_map(|location| {
            let pair = [
                written::bytes(1, b"location"),
                written::bytes(2, location.as_bytes()),
            ];
            let tensor = [written::bytes(13, &pair.concat()), written::number(14, 1)];
            written::bytes(5, &tensor.concat())
        });
        let graph: Vec<u8> = tensors.collect();
        let path = folder.join("my.onnx");
        let model = [written::number(1, 8), written::bytes(7, &graph)];
        fs::write(&path, model.concat()).unwrap();
        path
    }

    #[test]
    fn a_model_from_memory_lies_within_its_folder_whatever_it_is_called() {
        let place = tempfile::tempdir().unwrap();
        let long = "x".repeat(300);
        for name in [
            "a.onnx",
            "../up",
            "/etc/passwd",
            "",
            ".",
            "..",
            "a/b",
            ".lock",
            "a\0b",
            &long,
        ] {
            let copy = PrivateCopy::of_bytes_within(place.path(), name, b"any").unwrap();
            let folder = copy.model().parent().unwrap();
            assert_eq!(folder.parent(), Some(place.path()), "{name:?}");
            assert_eq!(fs::read(copy.model()).unwrap(), b"any");
            let is_kept = copy.model().file_name() == Some("a.onnx".as_ref());
            assert_eq!(is_kept, name == "a.onnx");
        }
        let left = fs::read_dir(place.path()).unwrap();
        assert_eq!(left.count(), 0, "they go with their owners");
    }

    #[test]
    fn a_model_from_memory_that_keeps_data_in_a_file_is_refused_with_the_file() {
        let (user, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let content = fs::read(model_with_data(user.path(), &["weights.bin"])).unwrap();
        let refused = PrivateCopy::of_bytes_within(place.path(), "mine", &content).unwrap_err();
        assert!(refused.starts_with("mine keeps its tensor"), "{refused}");
        assert!(refused.contains("weights.bin"), "{refused}");
    }

    #[test]
    fn a_copy_has_the_model_and_its_data_and_goes_with_its_owner() {
        let (user, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(user.path().join("deep")).unwrap();
        fs::write(user.path().join("w"), "weights").unwrap();
        fs::write(user.path().join("deep/w"), "more").unwrap();
        fs::write(user.path().join("not-of-it"), "x").unwrap();
        let model = model_with_data(
            user.path(),
            &[
                "w",
                "deep/w",
                "w",
                "gone",
                "../out",
                "/etc/passwd",
                "",
                "my.onnx",
            ],
        );
        let copy = PrivateCopy::within(place.path(), &model).unwrap();
        // As an exporter does, first of all.
        fs::write(user.path().join("w"), "").unwrap();
        fs::write(user.path().join("deep/w"), "else").unwrap();
        let folder = copy.model().parent().unwrap().to_owned();
        assert_eq!(fs::read(folder.join("w")).unwrap(), b"weights");
        assert_eq!(fs::read(folder.join("deep/w")).unwrap(), b"more");
        assert_eq!(fs::read(copy.model()).unwrap(), fs::read(&model).unwrap());
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|one| one.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [".lock", "deep", "my.onnx", "w"]);
        drop(copy);
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_in_use_stays() {
        let (user, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = model_with_data(user.path(), &[]);
        let used = PrivateCopy::within(place.path(), &model).unwrap();
        let left = place.path().join(".serin-copy-left");
        fs::create_dir(&left).unwrap();
        let lock = File::create(left.join(LOCK_FILE)).unwrap();
        lock.set_modified(SystemTime::now() - LEFTOVER_AGE_MIN)
            .unwrap();
        fs::write(place.path().join("another-s"), "").unwrap();
        let other = PrivateCopy::within(place.path(), &model).unwrap();
        assert!(!left.exists() && used.model().exists() && other.model().exists());
        assert!(place.path().join("another-s").exists());
    }

    /// One deleted what another had just begun, between the file of its lock and the lock: one start in twenty failed.
    #[test]
    fn copies_that_are_made_at_once_do_not_delete_each_other() {
        let (user, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = model_with_data(user.path(), &[]);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..100 {
                        PrivateCopy::within(place.path(), &model).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn a_stamp_tells_a_file_that_was_rewritten_or_replaced() {
        let user = tempfile::tempdir().unwrap();
        let data = user.path().join("w");
        fs::write(&data, "1").unwrap();
        let model = model_with_data(user.path(), &["w"]);
        let before = Stamp::of(&model);
        assert_eq!(before, Stamp::of(&model));
        fs::write(&data, "12").unwrap();
        let after = Stamp::of(&model);
        assert_ne!(before, after);
        fs::write(user.path().join("new"), "12").unwrap();
        fs::rename(user.path().join("new"), &data).unwrap();
        assert_ne!(after, Stamp::of(&model));
    }
}

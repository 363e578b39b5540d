//! The cache of what was made of models: prepared forms whose weights every session, in every process, maps.
//!
//! `<cache>/models/<key>/` is one entry; `cache_folder` says where the cache is. The key stands for all that an entry depends on: the
//! content of the model, the ONNX Runtime library, the processor, and the layout below. An entry appears there whole or not at
//! all; one that is damaged is noticed when it is opened, and made anew. Whoever uses an entry holds a lock on it, which the
//! system takes back when the process ends; what nobody uses goes when the cache is too large, the least recently used first.
//!
//! ```text
//! entry.json          what was made, the size and checksum of each file
//! lock                locked by those who use the entry; its time is the last use
//! model.onnx          the prepared model, where there is one: optimised, its weights in `weights.bin`
//! weights.bin         packed as the kernels of ONNX Runtime read them
//! ```
//!
//! Threads: everything blocks. Not here: how a model is prepared (`session`), who does it (`probe`).

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache_folder::cache_folder;
use crate::config::{LEFTOVER_AGE, PREPARE_AGAIN_AFTER, PREPARED_BYTES_MAX};
use crate::engine::library;

/// Version of the layout and of the settings by which models are prepared: raise it when either changes.
const FORMAT: u32 = 1;

const MANIFEST_FILE: &str = "entry.json";
const LOCK_FILE: &str = "lock";
/// The prepared model of an entry.
pub(super) const MODEL_FILE: &str = "model.onnx";
/// Its weights.
pub(super) const WEIGHTS_FILE: &str = "weights.bin";
/// Begins the names of entries that are being made or deleted.
const UNFINISHED: &str = ".unfinished-";

/// Bytes read at a time for a checksum.
const CHUNK_BYTES: usize = 1 << 20;

/// The reason why the cache cannot be used. The model is served as it is then.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// No folder.
    #[error("neither SERIN_CACHE, XDG_CACHE_HOME nor HOME is set; set SERIN_CACHE to a folder")]
    NoFolder,
    /// Another user could put anything there.
    #[error("{} belongs to another user; set SERIN_CACHE to a folder of your own", .0.display())]
    OtherOwner(PathBuf),
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The disk has no room.
    #[error("{} has {found_mb} MB free, and preparing the model takes up to {asked_mb} MB", path.display())]
    NoRoom {
        path: PathBuf,
        asked_mb: u64,
        found_mb: u64,
    },
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { what, path, source }
}

/// The name of an entry: a digest of everything that its content depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(String);

impl CacheKey {
    /// Of the model with this content, on this machine, with this ONNX Runtime.
    #[must_use]
    pub fn of_model(digest: &str) -> Self {
        let processors = File::open("/proc/cpuinfo").map(BufReader::new);
        let lines = processors
            .into_iter()
            .flat_map(|file| file.lines().map_while(Result::ok));
        Self::of(digest, library::library_id(), &processor_of(lines))
    }

    /// As the name of a file.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn of(digest: &str, library: &str, processor: &str) -> Self {
        let hash = Sha256::digest(format!("{FORMAT}\0{digest}\0{library}\0{processor}"));
        // 128 bits: enough for a name that nobody can choose.
        Self(
            hash[..16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }
}

/// The words of `/proc/cpuinfo` on the first processor's make and abilities: the kernels, and how they pack, depend on these.
fn processor_of(cpuinfo: impl Iterator<Item = String>) -> String {
    let telling = [
        "vendor_id",
        "cpu family",
        "model",
        "stepping",
        "flags",
        "Features",
        "CPU implementer",
        "CPU architecture",
        "CPU variant",
        "CPU part",
    ];
    let first = cpuinfo.take_while(|line| !line.trim().is_empty());
    let lines = first.filter(|line| {
        let name = line.split(':').next().unwrap_or_default().trim();
        telling.contains(&name)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The statement of an entry about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    made: Made,
    files: Vec<FileSum>,
}

/// The outcome of the preparation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Made {
    /// The prepared model is there.
    Model,
    /// There is none, and another try would not change that; the reason.
    Nothing(String),
    /// There is none for now: a try at another time may end otherwise; the reason.
    NotNow(String),
}

/// A file of an entry, as it was written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileSum {
    name: String,
    bytes: u64,
    crc32: u32,
}

impl FileSum {
    fn of(folder: &Path, name: &str) -> io::Result<Self> {
        let mut file = File::open(folder.join(name))?;
        let (mut bytes, mut hasher) = (0, crc32fast::Hasher::new());
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hasher.update(&chunk[..read]);
            bytes += read as u64;
        }
        Ok(Self {
            name: name.to_owned(),
            bytes,
            crc32: hasher.finalize(),
        })
    }
}

/// One entry, locked against deletion for as long as this lives.
#[derive(Debug)]
pub struct CacheEntry {
    folder: PathBuf,
    made: Made,
    _lock: File,
}

impl CacheEntry {
    /// The entry in this folder, which another process has in use and has checked; none where it has gone.
    pub(super) fn in_folder(folder: &Path) -> Option<Self> {
        let lock = lock_shared(folder)?;
        folder.join(MODEL_FILE).exists().then(|| Self {
            folder: folder.to_owned(),
            made: Made::Model,
            _lock: lock,
        })
    }

    /// The prepared model; none where it could not be made.
    #[must_use]
    pub fn model(&self) -> Option<PathBuf> {
        matches!(self.made, Made::Model).then(|| self.folder.join(MODEL_FILE))
    }

    /// Why there is no prepared model.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.made {
            Made::Model => None,
            Made::Nothing(reason) | Made::NotNow(reason) => Some(reason),
        }
    }

    /// Where more may be kept about the model on this machine; each file is written whole or not at all, and checks itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The folder of entries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelCache {
    root: PathBuf,
}

impl ModelCache {
    /// Opens the folder of entries in the cache folder, or makes it, readable for this user alone.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when there can be none.
    pub fn open() -> Result<Self, CacheError> {
        Self::open_in(&cache_folder().ok_or(CacheError::NoFolder)?)
    }

    pub(super) fn open_in(cache: &Path) -> Result<Self, CacheError> {
        let root = cache.join("models");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&root).map_err(at("create folder", &root))?;
        let owner = fs::metadata(&root).map_err(at("read", &root))?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(CacheError::OtherOwner(root));
        }
        Ok(Self { root })
    }

    /// The folder of models that are not prepared, copied for those who map them.
    pub(super) fn copies(&self) -> PathBuf {
        self.root.with_file_name("copies")
    }

    /// The folder of measured profiles, beside the entries.
    pub(super) fn profiles(&self) -> PathBuf {
        self.root.with_file_name("profiles")
    }

    /// The entry, if it is there and whole; a damaged one is deleted.
    pub fn entry(&self, key: &CacheKey) -> Option<CacheEntry> {
        self.entry_at(key, SystemTime::now())
    }

    fn entry_at(&self, key: &CacheKey, now: SystemTime) -> Option<CacheEntry> {
        let folder = self.root.join(&key.0);
        let lock = lock_shared(&folder)?;
        match read_whole(&folder) {
            // A file of the future has an age that nobody knows.
            Ok(Made::NotNow(_))
                if age(&folder.join(MANIFEST_FILE), now)
                    .is_none_or(|age| age > PREPARE_AGAIN_AFTER) =>
            {
                self.remove(&folder);
                None
            }
            Ok(made) => {
                // The time of the last use; without it the entry goes a little earlier.
                drop(lock.set_modified(SystemTime::now()));
                Some(CacheEntry {
                    folder,
                    made,
                    _lock: lock,
                })
            }
            Err(problem) => {
                tracing::warn!(
                    ?folder,
                    problem,
                    "a damaged entry of the cache is made anew"
                );
                self.remove(&folder);
                None
            }
        }
    }

    /// Refuses when the disk has fewer free bytes than this.
    pub(super) fn require_room(&self, bytes: u64) -> Result<(), CacheError> {
        let free = rustix::fs::statvfs(&self.root)
            .map_err(|error| at("read", &self.root)(error.into()))?;
        let free = free.f_bavail.saturating_mul(free.f_frsize);
        if free >= bytes {
            return Ok(());
        }
        Err(CacheError::NoRoom {
            path: self.root.clone(),
            asked_mb: bytes / 1_000_000,
            found_mb: free / 1_000_000,
        })
    }

    /// Makes an entry: `fill` writes into a folder, and says what it made. When another process was faster, its entry stays.
    ///
    /// # Errors
    ///
    /// [`CacheError`] with the reason of `fill` or of the system; then there is no entry.
    pub(super) fn make(
        &self,
        key: &CacheKey,
        fill: impl FnOnce(&Path) -> Result<Made, CacheError>,
    ) -> Result<(), CacheError> {
        let unfinished = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.root)
            .map_err(at("create a folder in", &self.root))?;
        let folder = unfinished.path();
        let made = fill(folder)?;
        let lock = folder.join(LOCK_FILE);
        let lock = File::create(&lock).map_err(at("write", &lock))?;
        // Held until this call ends, so that what was just made does not go at once.
        lock.lock_shared().map_err(at("lock", folder))?;
        write_manifest(folder, made)?;
        let place = self.root.join(&key.0);
        match fs::rename(folder, &place) {
            // The folder has moved: nothing is left to delete.
            Ok(()) => drop(unfinished.keep()),
            // Made meanwhile by another process.
            Err(_) if place.is_dir() => {}
            Err(error) => return Err(at("move an entry to", &place)(error)),
        }
        self.clean(PREPARED_BYTES_MAX, SystemTime::now());
        Ok(())
    }

    /// Deletes what killed processes have left, and the least recently used entries beyond `bytes_max` that nobody uses.
    fn clean(&self, bytes_max: u64, now: SystemTime) {
        let Ok(found) = fs::read_dir(&self.root) else {
            return;
        };
        let mut entries = Vec::new();
        for path in found.filter_map(|one| Some(one.ok()?.path())) {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if name.starts_with(UNFINISHED) {
                if age(&path, now).is_some_and(|age| age > LEFTOVER_AGE) {
                    drop(fs::remove_dir_all(&path));
                }
            } else {
                let used = fs::metadata(path.join(LOCK_FILE)).and_then(|lock| lock.modified());
                let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push((used, bytes_of(&path), path));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in entries {
            if total <= bytes_max {
                break;
            }
            if self.remove_unused(&path) {
                total -= bytes;
            }
        }
    }

    /// Deletes an entry unless somebody uses it; whether it is gone.
    fn remove_unused(&self, folder: &Path) -> bool {
        let lock = File::open(folder.join(LOCK_FILE));
        match lock.map(|lock| lock.try_lock().map(|()| lock)) {
            // Nobody can have locked what has no lock.
            Err(_) => self.remove(folder),
            Ok(Ok(_unused)) => self.remove(folder),
            Ok(Err(_in_use)) => false,
        }
    }

    /// Deletes an entry, out of sight at once; whether it is gone.
    fn remove(&self, folder: &Path) -> bool {
        let gone = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.root)
            .and_then(|aside| {
                fs::rename(folder, aside.path())?;
                aside.close()
            });
        gone.inspect_err(
            |error| tracing::warn!(?folder, %error, "cannot delete an entry of the cache"),
        )
        .is_ok()
    }
}

/// Locks an entry against deletion; nothing where there is none.
fn lock_shared(folder: &Path) -> Option<File> {
    let path = folder.join(LOCK_FILE);
    let lock = File::open(&path).ok()?;
    // Refused while somebody deletes it.
    lock.try_lock_shared().ok()?;
    // Deleted between the two lines above.
    let same = fs::metadata(&path).ok()?.ino() == lock.metadata().ok()?.ino();
    same.then_some(lock)
}

/// The content of the entry, when every file is as it was written.
fn read_whole(folder: &Path) -> Result<Made, String> {
    let text = fs::read(folder.join(MANIFEST_FILE)).map_err(|error| error.to_string())?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if manifest.format != FORMAT {
        return Err(format!("format {}, expected {FORMAT}", manifest.format));
    }
    for written in &manifest.files {
        // Sizes first: a file that was cut off need not be read.
        let path = folder.join(&written.name);
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if bytes != written.bytes {
            return Err(format!(
                "{} has {bytes} bytes, expected {}",
                written.name, written.bytes
            ));
        }
        let found = FileSum::of(folder, &written.name).map_err(|error| error.to_string())?;
        if found != *written {
            return Err(format!("{} has another checksum", written.name));
        }
    }
    Ok(manifest.made)
}

/// Notes what was made, with the sum of each file there is. None of the files changes from now on.
fn write_manifest(folder: &Path, made: Made) -> Result<(), CacheError> {
    let mut files = Vec::new();
    for name in [MODEL_FILE, WEIGHTS_FILE] {
        let path = folder.join(name);
        if made == Made::Model && path.is_file() {
            files.push(FileSum::of(folder, name).map_err(at("read", &path))?);
            fs::set_permissions(&path, Permissions::from_mode(0o400))
                .map_err(at("protect", &path))?;
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        made,
        files,
    };
    let text = serde_json::to_vec(&manifest).expect("text and numbers have a JSON form");
    let path = folder.join(MANIFEST_FILE);
    fs::write(&path, text).map_err(at("write", &path))
}

fn age(path: &Path, now: SystemTime) -> Option<std::time::Duration> {
    now.duration_since(fs::metadata(path).ok()?.modified().ok()?)
        .ok()
}

/// Bytes of the files in a folder.
fn bytes_of(folder: &Path) -> u64 {
    let Ok(files) = fs::read_dir(folder) else {
        return 0;
    };
    files
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
        .sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: &str = "0123";

    fn key(text: &str) -> CacheKey {
        CacheKey(text.to_owned())
    }

    fn cache() -> (tempfile::TempDir, ModelCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::open_in(folder.path()).unwrap();
        (folder, cache)
    }

    /// An entry whose weights are `bytes` long.
    fn make(cache: &ModelCache, name: &str, bytes: usize) {
        let fill = |folder: &Path| {
            fs::write(folder.join(MODEL_FILE), "model").unwrap();
            fs::write(folder.join(WEIGHTS_FILE), vec![7; bytes]).unwrap();
            Ok(Made::Model)
        };
        cache.make(&key(name), fill).unwrap();
    }

    fn names(cache: &ModelCache) -> Vec<String> {
        let entries = fs::read_dir(&cache.root).unwrap();
        let mut names: Vec<_> = entries
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_entry_that_was_made_is_found_and_nothing_else_is_left() {
        let (_folder, cache) = cache();
        assert!(cache.entry(&key(KEY)).is_none());
        make(&cache, KEY, 1000);
        let entry = cache.entry(&key(KEY)).unwrap();
        assert_eq!(entry.model(), Some(entry.folder().join(MODEL_FILE)));
        assert_eq!(names(&cache), [KEY]);
    }

    #[test]
    fn that_nothing_could_be_made_is_remembered_with_the_reason() {
        let (_folder, cache) = cache();
        let nothing = |_: &Path| Ok(Made::Nothing("why".to_owned()));
        cache.make(&key(KEY), nothing).unwrap();
        let entry = cache.entry(&key(KEY)).unwrap();
        assert_eq!((entry.model(), entry.reason()), (None, Some("why")));
    }

    #[test]
    fn that_nothing_could_be_made_for_now_is_forgotten_after_a_while() {
        let (_folder, cache) = cache();
        let nothing = |_: &Path| Ok(Made::NotNow("no memory".to_owned()));
        cache.make(&key(KEY), nothing).unwrap();
        let now = SystemTime::now();
        let soon = cache.entry_at(&key(KEY), now + PREPARE_AGAIN_AFTER / 2);
        assert_eq!(soon.unwrap().reason(), Some("no memory"));
        assert!(
            cache
                .entry_at(&key(KEY), now + 2 * PREPARE_AGAIN_AFTER)
                .is_none()
        );
        assert_eq!(names(&cache), [""; 0]);
        // The clock was set back.
        cache.make(&key(KEY), nothing).unwrap();
        assert!(
            cache
                .entry_at(&key(KEY), now - PREPARE_AGAIN_AFTER)
                .is_none()
        );
    }

    #[test]
    fn a_preparation_that_fails_leaves_nothing() {
        let (_folder, cache) = cache();
        let fails = |folder: &Path| {
            fs::write(folder.join(WEIGHTS_FILE), "half").unwrap();
            Err(CacheError::NoFolder)
        };
        let error = cache.make(&key(KEY), fails).unwrap_err();
        assert!(matches!(error, CacheError::NoFolder), "{error}");
        assert_eq!(names(&cache), [""; 0]);
    }

    #[test]
    fn a_damaged_entry_is_noticed_and_can_be_made_anew() {
        let (_folder, cache) = cache();
        let damages: [fn(&Path); 5] = [
            |folder| flip(&folder.join(WEIGHTS_FILE)),
            |folder| flip(&folder.join(MODEL_FILE)),
            |folder| overwrite(&folder.join(WEIGHTS_FILE), &[7; 10]),
            |folder| fs::remove_file(folder.join(MODEL_FILE)).unwrap(),
            |folder| overwrite(&folder.join(MANIFEST_FILE), b"{\"format\":1"),
        ];
        for damage in damages {
            make(&cache, KEY, 1000);
            damage(&cache.root.join(KEY));
            assert!(cache.entry(&key(KEY)).is_none());
            assert_eq!(names(&cache), [""; 0]);
        }
        make(&cache, KEY, 1000);
        assert!(cache.entry(&key(KEY)).is_some());
    }

    fn overwrite(path: &Path, bytes: &[u8]) {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes[3] ^= 1;
        overwrite(path, &bytes);
    }

    #[test]
    fn the_entry_of_the_faster_process_stays() {
        let (_folder, cache) = cache();
        let slower = cache.clone();
        let fill = |_: &Path| {
            make(&cache, KEY, 10);
            Ok(Made::Nothing("slower".to_owned()))
        };
        slower.make(&key(KEY), fill).unwrap();
        assert!(cache.entry(&key(KEY)).unwrap().model().is_some());
        assert_eq!(names(&cache), [KEY]);
    }

    #[test]
    fn the_least_recently_used_goes_when_the_cache_is_too_large_but_never_one_in_use() {
        let (_folder, cache) = cache();
        let now = SystemTime::now();
        for (age, name) in [(4, "used"), (3, "old"), (2, "new"), (1, "newest")] {
            make(&cache, name, 1000);
            let lock = File::open(cache.root.join(name).join(LOCK_FILE)).unwrap();
            lock.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let lock = lock_shared(&cache.root.join("used")).unwrap();
        cache.clean(3 * 1300, now);
        assert_eq!(names(&cache), ["new", "newest", "used"]);
        cache.clean(0, now);
        assert_eq!(names(&cache), ["used"]);
        // A process that was forked at this moment has the file too, until it runs its program: to close it here would not let go.
        lock.unlock().unwrap();
        cache.clean(0, now);
        assert_eq!(names(&cache), [""; 0]);
    }

    #[test]
    fn what_a_killed_process_left_goes_when_it_is_old() {
        let (_folder, cache) = cache();
        let left = cache.root.join(format!("{UNFINISHED}x"));
        fs::create_dir(&left).unwrap();
        let now = SystemTime::now();
        cache.clean(0, now);
        assert!(left.is_dir(), "it may be under way");
        cache.clean(0, now + LEFTOVER_AGE + Duration::from_secs(1));
        assert!(!left.exists());
    }

    #[test]
    fn a_disk_without_room_is_told_with_numbers() {
        let (_folder, cache) = cache();
        cache.require_room(1).unwrap();
        let message = cache.require_room(u64::MAX).unwrap_err().to_string();
        assert!(message.contains("18446744073709 MB"), "{message}");
    }

    #[test]
    fn the_folder_is_for_its_user_alone_and_a_file_in_its_place_is_named() {
        let (folder, cache) = cache();
        let mode = fs::metadata(&cache.root).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let message = ModelCache::open_in(&file).unwrap_err().to_string();
        assert!(message.contains(file.to_str().unwrap()), "{message}");
    }

    #[test]
    fn the_key_changes_with_all_that_an_entry_depends_on() {
        let one = CacheKey::of("a", "b", "c");
        for other in [("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x")] {
            assert_ne!(CacheKey::of(other.0, other.1, other.2), one, "{other:?}");
        }
        assert_eq!(CacheKey::of_model("a"), CacheKey::of_model("a"));
    }

    #[test]
    fn only_the_make_and_the_abilities_of_the_first_processor_count() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: X\nflags\t\t: fpu avx2\ncpu MHz\t: 17\n\nprocessor\t: 1\nmodel\t: 2\n";
        let of = |text: &str| processor_of(text.lines().map(str::to_owned));
        assert_eq!(of(text), "model\t\t: 1\nflags\t\t: fpu avx2");
        assert_eq!(of(""), "");
    }
}

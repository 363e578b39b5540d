//! The folder of model files: copies that are there whole or not at all.
//!
//! ```text
//! <data>/models/sha256/<digest>/   one content; never changes
//!               incoming/          copies that are being made
//!               leaving/           copies that are being deleted
//! ```
//!
//! A copy is made in `incoming`, and moves to its place when all of it is on the disk; one that goes moves to `leaving` before the
//! first of its files is deleted. Whatever ends the process in between, `sha256` holds whole copies only, and the next start
//! clears the other two. A copy that is found damaged all the same is replaced by the one that came in.
//!
//! Threads: everything blocks; any number may copy at a time. Not here: which copies are needed (`controller`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::config::{
    DISK_RESERVE_BYTES_MAX, DISK_RESERVE_PART, MODEL_BYTES_MAX, MODEL_FILES_MAX, SAMPLE_BYTES_MAX,
};
use crate::control::models::error::{at, unread};
use crate::control::models::folder::{Whose, files_of, text};
use crate::control::models::source::{Source, first_names, onnx_among};
use crate::control::models::verified::{Stamp, Verified};
use crate::control::models::{ModelDigest, ModelStoreError};
use crate::plain_file;

/// Bytes read at a time while a model is hashed and copied.
pub(super) const COPY_CHUNK_BYTES: usize = 1 << 20;

/// The request that tries and warms up a model, where its folder has one.
pub(super) const SAMPLE_FILE: &str = "sample-request.json";

/// The folder of model files. Everything here blocks.
#[derive(Debug, Clone)]
pub(in crate::control) struct ModelFiles {
    root: PathBuf,
    verified: Verified,
}

/// A model that was copied in.
#[derive(Debug, Clone)]
pub(in crate::control) struct Ingested {
    pub(in crate::control) digest: ModelDigest,
    pub(in crate::control) size_bytes: u64,
    /// Its first few files, where none of them is an ONNX file; see [`ModelRecord`](super::ModelRecord).
    pub(in crate::control) without_onnx: Option<Vec<String>>,
    /// Whether it came as a folder; nothing where nobody has looked.
    pub(in crate::control) is_folder: Option<bool>,
}

/// A folder of code that was copied in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct IngestedCode {
    pub(in crate::control) digest: ModelDigest,
    /// Its name.
    pub(in crate::control) name: String,
    /// The places of its files below it.
    pub(in crate::control) files: BTreeSet<String>,
}

/// A copy that has left its place and is still to be deleted.
#[derive(Debug)]
pub(in crate::control) struct Leaving {
    aside: TempDir,
    root: PathBuf,
}

impl Leaving {
    /// Deletes the files. What a process has open or mapped of them stays until it is done with it.
    pub(in crate::control) fn delete(self) -> Result<(), ModelStoreError> {
        // The move first: after a power cut, too, nothing half-deleted may be in its old place.
        sync_folder(&self.root.join(PLACES))?;
        sync_folder(&self.root.join(LEAVING))?;
        let path = self.aside.path().to_owned();
        self.aside.close().map_err(at("delete", &path))
    }
}

const PLACES: &str = "sha256";
const INCOMING: &str = "incoming";
const LEAVING: &str = "leaving";

impl ModelFiles {
    /// The folder of a data folder, as it is; nothing is made or cleared.
    pub(in crate::control) fn in_data(data: &Path) -> Self {
        Self {
            root: data.join("models"),
            verified: Verified::default(),
        }
    }

    /// Opens `<data>/models`, and clears what interrupted copies and deletions left behind.
    pub(in crate::control) fn open(data: &Path) -> Result<Self, ModelStoreError> {
        let files = Self::in_data(data);
        for unfinished in [INCOMING, LEAVING] {
            let folder = files.root.join(unfinished);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at("clear", &folder)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        for name in [PLACES, INCOMING, LEAVING] {
            let folder = files.root.join(name);
            make_private(&folder).map_err(at("create folder", &folder))?;
        }
        // Others may have been let in by an earlier server, under a umask that hides nothing.
        make_private(&files.root).map_err(at("create folder", &files.root))?;
        sync_folder(&files.root)?;
        sync_folder(data)?;
        Ok(files)
    }

    /// Copies a file or folder in, unless its content is here already. Whole or not at all, also after a power cut.
    ///
    /// Hidden files of a folder are left out. The files in which a model keeps data must be in its folder, and come along.
    pub(in crate::control) fn ingest(&self, source: &Path) -> Result<Ingested, ModelStoreError> {
        self.check_apart(source)?;
        let found = Source::at(source)?;
        let is_whole = |copy: &Path| found.is_whole_in(copy);
        let (digest, size_bytes) = self.copy_in(source, &found.files, is_whole)?;
        Ok(Ingested {
            digest,
            size_bytes,
            without_onnx: found.without_onnx(),
            is_folder: Some(source.is_dir()),
        })
    }

    /// Copies the folder of a scoring script in, as models are: whole or not at all, and once for the same content.
    ///
    /// Hidden files and what Python has compiled are left out.
    pub(in crate::control) fn ingest_code(
        &self,
        folder: &Path,
    ) -> Result<IngestedCode, ModelStoreError> {
        let name = name_of_code(folder)?;
        self.check_apart(folder).map_err(in_words_of_code)?;
        let mut files = files_of(folder, Whose::Given).map_err(in_words_of_code)?;
        files.retain(|name, _| !name.split('/').any(|part| part == "__pycache__"));
        if files.is_empty() {
            return Err(ModelStoreError::EmptyCode(folder.to_owned()));
        }
        let (digest, _) = self.copy_in(folder, &files, |_| true)?;
        Ok(IngestedCode {
            digest,
            name,
            files: files.into_keys().collect(),
        })
    }

    /// Copies files of `source` in, by the names they get. Gives their digest, and their bytes in all.
    fn copy_in(
        &self,
        source: &Path,
        files: &BTreeMap<String, PathBuf>,
        is_whole: impl FnOnce(&Path) -> bool,
    ) -> Result<(ModelDigest, u64), ModelStoreError> {
        let sizes = sizes_of(files)?;
        self.check_room(source, &sizes)?;
        let copy = self.unfinished(INCOMING)?;
        let mut hash = Sha256::new();
        for (name, path) in files {
            let target = copy.path().join(name);
            if let Some(parent) = target.parent() {
                make_private(parent).map_err(at("create folder", parent))?;
            }
            hash.update(format!("{name}\0{}\0", sizes[name]));
            copy_hashed(path, &target, sizes[name], &mut hash)?;
        }
        if !is_whole(copy.path()) {
            return Err(changed_meanwhile(source));
        }
        let digest = ModelDigest::of(hash);
        self.settle(copy, &digest, &sizes)?;
        Ok((digest, sizes.values().sum()))
    }

    /// Refuses a folder that this one is in: the copy would hold itself.
    fn check_apart(&self, source: &Path) -> Result<(), ModelStoreError> {
        let (Ok(real), Ok(root)) = (fs::canonicalize(source), fs::canonicalize(&self.root)) else {
            // What is wrong with the path is told by who reads it.
            return Ok(());
        };
        if !root.starts_with(&real) {
            return Ok(());
        }
        Err(ModelStoreError::HoldsData {
            path: source.to_owned(),
            data: root.parent().unwrap_or(&root).to_owned(),
        })
    }

    /// Refuses what would fill the disk, before anything is written.
    fn check_room(
        &self,
        source: &Path,
        sizes: &BTreeMap<String, u64>,
    ) -> Result<(), ModelStoreError> {
        let disk = rustix::fs::statvfs(&self.root);
        let disk = disk.map_err(|error| at("look at the disk of", &self.root)(error.into()))?;
        let of_blocks = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let (bytes, free, all) = (
            sizes.values().sum(),
            of_blocks(disk.f_bavail),
            of_blocks(disk.f_blocks),
        );
        // Some file systems do not say.
        match room(bytes, free, all) {
            Err(reserve) if all > 0 => Err(ModelStoreError::NoRoom {
                path: source.to_owned(),
                files: sizes.len(),
                bytes,
                data: self.root.parent().unwrap_or(&self.root).to_owned(),
                free,
                reserve,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Moves a finished copy to its place, unless a whole one is there.
    fn settle(
        &self,
        copy: TempDir,
        digest: &ModelDigest,
        sizes: &BTreeMap<String, u64>,
    ) -> Result<(), ModelStoreError> {
        sync_folders(copy.path())?;
        let stamp = Stamp::of(copy.path())?;
        let place = self.folder(digest);
        loop {
            match fs::rename(copy.path(), &place) {
                Ok(()) => {
                    // The folder has moved: nothing is left to delete.
                    let _moved = copy.keep();
                    self.verified.note(digest, stamp);
                    break;
                }
                Err(error) if !is_taken(&error) => {
                    return Err(at("move a model to", &place)(error));
                }
                Err(_) if is_whole(&place, sizes) && self.verify(digest).is_ok() => break,
                Err(_) => {
                    tracing::warn!(?place, "a damaged copy of a model is replaced");
                    if let Some(damaged) = self.set_aside(digest)? {
                        damaged.delete()?;
                    }
                }
            }
        }
        // Also where another thread has just moved the same content in: it may not have come this far.
        sync_folder(&self.root.join(PLACES))
    }

    fn unfinished(&self, what: &str) -> Result<TempDir, ModelStoreError> {
        let folder = self.root.join(what);
        tempfile::tempdir_in(&folder).map_err(at("create a folder in", &folder))
    }

    pub(in crate::control) fn folder(&self, digest: &ModelDigest) -> PathBuf {
        self.root.join(PLACES).join(digest.as_str())
    }

    /// Checks that the files of a model are those that were ingested.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::OtherFiles`].
    pub(in crate::control) fn verify(&self, digest: &ModelDigest) -> Result<(), ModelStoreError> {
        self.verified.check(digest, &self.folder(digest))
    }

    /// The ONNX file of a model that was ingested.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::NoOnnxFile`] where it has none; where names are at hand, `ModelRecord::require_onnx` says it with the
    /// name of the model, and without asking the disk.
    pub(in crate::control) fn onnx_file(
        &self,
        digest: &ModelDigest,
    ) -> Result<PathBuf, ModelStoreError> {
        let folder = self.folder(digest);
        let files = files_of(&folder, Whose::Ours)?;
        match onnx_among(&folder, &files)? {
            Some(name) => Ok(folder.join(name)),
            None => Err(ModelStoreError::NoOnnxFile {
                model: digest.to_string(),
                found: first_names(&files),
            }),
        }
    }

    /// Bytes of all files of a model; 0 where they cannot be read.
    pub(in crate::control) fn size_bytes(&self, digest: &ModelDigest) -> u64 {
        // What is wrong with the folder shows when the model is loaded.
        let files = files_of(&self.folder(digest), Whose::Ours).unwrap_or_default();
        let sizes = files.values().filter_map(|path| fs::metadata(path).ok());
        sizes.map(|metadata| metadata.len()).sum()
    }

    /// The sample request of a model, where it came with one.
    pub(in crate::control) fn sample_request(&self, digest: &ModelDigest) -> Option<Bytes> {
        plain_file::read(&self.folder(digest).join(SAMPLE_FILE), SAMPLE_BYTES_MAX)
            .ok()
            .map(Bytes::from)
    }

    /// The contents that are on the disk, in the order of their digests.
    pub(in crate::control) fn stored(&self) -> Result<Vec<ModelDigest>, ModelStoreError> {
        let places = self.root.join(PLACES);
        let mut stored = Vec::new();
        for entry in fs::read_dir(&places).map_err(at("read folder", &places))? {
            let name = entry.map_err(at("read folder", &places))?.file_name();
            // What has another name was put there by somebody else.
            stored.extend(name.to_str().and_then(ModelDigest::of_name));
        }
        stored.sort();
        Ok(stored)
    }

    /// The contents on the disk that nothing refers to: left by changes that were refused, replaced models given by path, deleted
    /// versions that were in use.
    ///
    /// `keep` has all that registered versions, deployments (also what they fall back to) and running instances refer to. Both lists
    /// must stem from a moment in which nothing is being copied in, and hold until [`set_aside`](Self::set_aside) was called for each.
    pub(in crate::control) fn unreferenced(
        stored: Vec<ModelDigest>,
        keep: &BTreeSet<ModelDigest>,
    ) -> Vec<ModelDigest> {
        let mut unreferenced = stored;
        unreferenced.retain(|digest| !keep.contains(digest));
        unreferenced
    }

    /// Takes a content out of its place, at once and whole; nothing where it is not there. The files remain to be deleted.
    ///
    /// Safe when nothing refers to the content, and nothing is being copied in, from the moment that this is decided until
    /// this has returned: whoever copies the same content in meanwhile, or has done so and is yet to write down that
    /// it is needed, counts on what was in place. A copy that begins afterwards puts the content there again.
    pub(in crate::control) fn set_aside(
        &self,
        digest: &ModelDigest,
    ) -> Result<Option<Leaving>, ModelStoreError> {
        let place = self.folder(digest);
        let aside = self.unfinished(LEAVING)?;
        match fs::rename(&place, aside.path()) {
            Ok(()) => Ok(Some(Leaving {
                aside,
                root: self.root.clone(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("delete", &place)(error)),
        }
    }
}

/// Whether a folder could not move to a place because one with files is there. File systems differ in which they say.
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

/// Whether all files are there with all their bytes. Earlier servers deleted in place: one that was killed left a part.
fn is_whole(place: &Path, sizes: &BTreeMap<String, u64>) -> bool {
    let is_there = |(name, bytes): (&String, &u64)| {
        fs::metadata(place.join(name)).is_ok_and(|found| found.is_file() && found.len() == *bytes)
    };
    sizes.iter().all(is_there)
}

fn changed_meanwhile(source: &Path) -> ModelStoreError {
    let changed = io::Error::other("it changed while it was copied; try again");
    at("copy", source)(changed)
}

/// Bytes of each file of a model before it is copied.
fn sizes_of(files: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, u64>, ModelStoreError> {
    let size = |(name, path): (&String, &PathBuf)| {
        // Also whether it can be read at all: nothing is copied of what cannot be copied whole.
        let file = plain_file::open(path).map_err(unread(path))?;
        let kind = file.metadata().map_err(unread(path))?;
        Ok((name.clone(), kind.len()))
    };
    files.iter().map(size).collect()
}

/// The name of a folder of code. What is none is refused before it is looked into.
fn name_of_code(folder: &Path) -> Result<String, ModelStoreError> {
    let refused = |found| {
        Err(ModelStoreError::NoCode {
            path: folder.to_owned(),
            found,
        })
    };
    match fs::metadata(folder) {
        Ok(kind) if kind.is_dir() => {}
        Ok(_) => return refused("a file"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return refused("nothing"),
        Err(error) => return Err(unread(folder)(error)),
    }
    // The name that was given, but for the likes of `..`, which stands for one.
    let real = fs::canonicalize(folder).map_err(unread(folder))?;
    match folder.file_name().or(real.file_name()) {
        Some(name) if real.file_name().is_some() => text(name, folder),
        _ => refused("the root of all folders"),
    }
}

/// What is said of folders of models, said of one of code.
fn in_words_of_code(error: ModelStoreError) -> ModelStoreError {
    let too_much = |path, what| ModelStoreError::TooMuchCode { path, what };
    match error {
        ModelStoreError::TooManyFiles(path) => too_much(
            path,
            format!("more than {MODEL_FILES_MAX} files and folders"),
        ),
        ModelStoreError::TooLarge { path, bytes, .. } => too_much(
            path,
            format!("{bytes} bytes, and at most {MODEL_BYTES_MAX} are copied"),
        ),
        ModelStoreError::HoldsData { path, data } => too_much(
            path,
            format!("the data folder of this server, {}", data.display()),
        ),
        ModelStoreError::LinkOutside { link, real, .. } => {
            ModelStoreError::CodeOutside { link, real }
        }
        other => other,
    }
}

/// Whether a disk has room for so many bytes, or else how much of it stays free for everything else.
fn room(bytes: u64, free: u64, all: u64) -> Result<(), u64> {
    let reserve = (all / DISK_RESERVE_PART).min(DISK_RESERVE_BYTES_MAX);
    match bytes.saturating_add(reserve) <= free {
        true => Ok(()),
        false => Err(reserve),
    }
}

/// Makes a folder for this user alone, or takes the right to write from others where it is there.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o022 == 0 {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(mode & 0o755))
}

/// Copies one file, adds its bytes to the hash, and has it on disk when it returns. A file that is not as large as it was is refused.
fn copy_hashed(
    source: &Path,
    target: &Path,
    size_bytes: u64,
    hash: &mut Sha256,
) -> Result<(), ModelStoreError> {
    // One that grows without end is not copied without end.
    let mut from = plain_file::open(source)
        .map_err(unread(source))?
        .take(size_bytes.saturating_add(1));
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut to = options.open(target).map_err(at("write", target))?;
    let mut chunk = vec![0; COPY_CHUNK_BYTES];
    let mut copied: u64 = 0;
    loop {
        let read = from.read(&mut chunk).map_err(unread(source))?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(at("write", target))?;
        copied += read as u64;
    }
    if copied != size_bytes {
        return Err(changed_meanwhile(source));
    }
    to.sync_all().map_err(at("write", target))
}

fn sync_folders(folder: &Path) -> Result<(), ModelStoreError> {
    for entry in fs::read_dir(folder).map_err(at("read folder", folder))? {
        let path = entry.map_err(at("read folder", folder))?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<(), ModelStoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at("write folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(files: &ModelFiles, digest: &ModelDigest) -> Result<(), ModelStoreError> {
        files.set_aside(digest)?.map_or(Ok(()), Leaving::delete)
    }

    fn files() -> (TempDir, ModelFiles) {
        let data = tempfile::tempdir().expect("a folder");
        let files = ModelFiles::open(data.path()).expect("opens");
        (data, files)
    }

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        folder
    }

    #[test]
    fn the_same_content_has_one_address_wherever_it_comes_from() {
        let (_data, files) = files();
        let one = folder(&[("digits.onnx", "abc")]);
        let other = folder(&[("model.onnx", "abc")]);
        let file = files
            .ingest(&one.path().join("digits.onnx"))
            .expect("copied");
        let same = files
            .ingest(&other.path().join("model.onnx"))
            .expect("copied");
        assert_eq!(file.digest, same.digest);
        assert_eq!(
            files.ingest(other.path()).expect("copied").digest,
            file.digest
        );
        let model = files.onnx_file(&file.digest).expect("there");
        assert_eq!(fs::read(model).expect("read"), b"abc");
    }

    #[test]
    fn a_folder_keeps_its_sample_request_and_external_data() {
        let (_data, files) = files();
        let source = folder(&[
            ("big.onnx", "m"),
            ("weights/w.bin", "w"),
            ("sample-request.json", "{}"),
            (".git/x", "no"),
        ]);
        let model = files.ingest(source.path()).expect("copied");
        assert_eq!(model.size_bytes, 4);
        assert_eq!(files.sample_request(&model.digest), Some(Bytes::from("{}")));
        let place = files.onnx_file(&model.digest).expect("there");
        assert!(
            place.ends_with("big.onnx") && place.with_file_name("weights").join("w.bin").is_file()
        );
    }

    #[test]
    fn what_is_no_model_is_refused_and_leaves_nothing_behind() {
        let (data, files) = files();
        let source = folder(&[("a.onnx", "a"), ("b.onnx", "b"), ("empty.onnx", "")]);
        let shown = source.path().display();
        let check = |path: &Path, message: String| {
            assert_eq!(
                files.ingest(path).expect_err("refused").to_string(),
                message
            );
        };
        check(
            source.path(),
            format!(
                "{shown} holds several models (a.onnx, b.onnx, empty.onnx): keep one, or name one `model.onnx`"
            ),
        );
        check(
            &source.path().join("empty.onnx"),
            format!("{shown}/empty.onnx is empty: expected an ONNX model"),
        );
        check(
            &source.path().join("none"),
            format!("no model at {shown}/none: expected an ONNX file, or a folder with one"),
        );
        let bare = folder(&[(".hidden", "x")]);
        check(
            bare.path(),
            format!(
                "{} holds no model: expected `model.onnx` or exactly one `.onnx` file at its top",
                bare.path().display()
            ),
        );
        assert_eq!(left_in(&data), [0, 0, 0]);
    }

    #[test]
    fn a_folder_that_holds_the_data_folder_is_refused() {
        let place = folder(&[("model.onnx", "m")]);
        let data = place.path().join("data");
        fs::create_dir(&data).expect("made");
        let files = ModelFiles::open(&data).expect("opens");
        for source in [place.path(), &data, &data.join("models")] {
            let refused = files.ingest(source).expect_err("refused");
            let said = refused.to_string();
            assert!(
                said.contains("holds the data folder of this server"),
                "{said}"
            );
        }
        files
            .ingest(&place.path().join("model.onnx"))
            .expect("copied");
    }

    #[test]
    fn nobody_else_may_write_where_models_are() {
        let (data, files) = files();
        let root = data.path().join("models");
        let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777));
        open(&root).expect("opened");
        open(&root.join(PLACES)).expect("opened");
        ModelFiles::open(data.path()).expect("opens");
        let model = files.ingest(folder(WHOLE).path()).expect("copied");
        let place = files.folder(&model.digest);
        for path in [
            root.clone(),
            root.join(PLACES),
            place.join("a"),
            place.join("z.txt"),
            place,
        ] {
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o022, 0, "{}: {mode:o}", path.display());
        }
    }

    #[test]
    fn a_disk_keeps_a_part_of_itself_free() {
        const GB: u64 = 1_000_000_000;
        assert_eq!(room(50 * GB, 51 * GB, 100 * GB), Ok(()));
        assert_eq!(room(50 * GB + 1, 51 * GB, 100 * GB), Err(GB));
        // A small disk has a small reserve.
        assert_eq!(room(94, 99, 100), Ok(()));
        assert_eq!(room(95, 99, 100), Err(5));
        assert_eq!(room(u64::MAX, u64::MAX, 100), Ok(()));
        assert_eq!(room(u64::MAX, u64::MAX - 1, 100), Err(5));
    }

    #[test]
    fn a_file_that_grows_or_shrinks_while_it_is_copied_is_refused() {
        let (data, _files) = files();
        let source = folder(&[("a", "12345")]);
        let (from, to) = (source.path().join("a"), data.path().join("copy"));
        for size in [4, 6] {
            let refused = copy_hashed(&from, &to, size, &mut Sha256::new()).expect_err("refused");
            assert!(
                refused.to_string().contains("it changed while"),
                "{refused}"
            );
            assert!(fs::metadata(&to).expect("written").len() <= size + 1);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_before_anything_is_copied() {
        let (data, files) = files();
        let source = folder(WHOLE);
        std::os::unix::fs::symlink("z.txt", source.path().join("gone")).expect("linked");
        let pipe = source.path().join("sample-request.json");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("made");
        let refused = files.ingest(source.path()).expect_err("refused");
        assert_eq!(
            refused.kind(),
            crate::control::ErrorKind::Invalid,
            "{refused}"
        );
        assert_eq!(left_in(&data), [0, 0, 0]);
    }

    /// How much is in the places, how much is unfinished, how much is leaving.
    fn left_in(data: &TempDir) -> [usize; 3] {
        [PLACES, INCOMING, LEAVING].map(|name| {
            let folder = data.path().join("models").join(name);
            fs::read_dir(folder).expect("a folder").count()
        })
    }

    const WHOLE: &[(&str, &str)] = &[("model.onnx", "m"), ("a/w.bin", "w"), ("z.txt", "zz")];

    fn assert_whole(place: &Path) {
        for (name, content) in WHOLE {
            let found = fs::read_to_string(place.join(name)).expect("a file");
            assert_eq!(found, *content, "{name}");
        }
    }

    /// A server that was killed while it deleted a model in its place left a part of it, which was then taken for the model.
    #[test]
    fn a_part_of_a_model_is_never_taken_for_the_model() {
        let (data, files) = files();
        let source = folder(WHOLE);
        let model = files.ingest(source.path()).expect("copied");
        let place = files.folder(&model.digest);
        for damage in ["gone", "short", "empty"] {
            match damage {
                "gone" => fs::remove_file(place.join("a/w.bin")).expect("deleted"),
                "short" => fs::write(place.join("z.txt"), "z").expect("cut"),
                _ => {
                    fs::remove_dir_all(&place).expect("deleted");
                    fs::create_dir(&place).expect("made");
                }
            }
            let again = files.ingest(source.path()).expect("copied");
            assert_eq!(again.digest, model.digest);
            assert_whole(&place);
            assert_eq!(left_in(&data), [1, 0, 0], "{damage}");
        }
    }

    /// What a version means never changes, so neither may what is loaded under its name.
    #[test]
    fn a_model_with_one_byte_changed_is_refused_and_replaced_when_it_comes_in_again() {
        let (data, files) = files();
        let source = folder(WHOLE);
        let model = files.ingest(source.path()).expect("copied");
        files.verify(&model.digest).expect("just copied");
        let place = files.folder(&model.digest);
        for (name, content) in [("model.onnx", "n"), ("a/w.bin", "v"), ("z.txt", "zy")] {
            fs::write(place.join(name), content).expect("written");
            for files in [&files, &ModelFiles::in_data(data.path())] {
                let refused = files.verify(&model.digest).expect_err("other bytes");
                let words = refused.to_string();
                assert!(
                    words.contains(&format!("expected {}, found sha256:", model.digest)),
                    "{words}"
                );
            }
            files.ingest(source.path()).expect("copied");
            files.verify(&model.digest).expect("replaced");
            assert_whole(&place);
        }
        fs::write(place.join("more.bin"), "m").expect("written");
        files.verify(&model.digest).expect_err("one file more");
        fs::remove_dir_all(&place).expect("deleted");
        let gone = files.verify(&model.digest).expect_err("gone").to_string();
        assert!(gone.contains("found no such folder"), "{gone}");
    }

    #[test]
    fn a_model_leaves_its_place_before_any_of_its_files_is_deleted() {
        let (data, files) = files();
        let model = files.ingest(folder(WHOLE).path()).expect("copied");
        let leaving = files.set_aside(&model.digest).expect("moved");
        let leaving = leaving.expect("it was there");
        assert_whole(leaving.aside.path());
        assert_eq!(left_in(&data), [0, 0, 1]);
        leaving.delete().expect("deleted");
        assert_eq!(left_in(&data), [0, 0, 0]);
        remove(&files, &model.digest).expect("nothing to do");
        assert!(files.onnx_file(&model.digest).is_err());
    }

    #[test]
    fn what_a_killed_server_has_left_goes_at_the_next_start() {
        let (data, files) = files();
        let model = files.ingest(folder(WHOLE).path()).expect("copied");
        for unfinished in [INCOMING, LEAVING] {
            let left = data.path().join("models").join(unfinished).join("left");
            fs::create_dir(&left).expect("made");
            fs::write(left.join("model.onnx"), "a part").expect("written");
        }
        let files = ModelFiles::open(data.path()).expect("opens");
        assert_eq!(left_in(&data), [1, 0, 0]);
        assert_whole(&files.folder(&model.digest));
    }

    #[test]
    fn one_content_may_come_in_many_times_at_once() {
        let (data, files) = files();
        let source = folder(WHOLE);
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..10 {
                        files.ingest(source.path()).expect("copied");
                    }
                });
            }
        });
        let model = files.ingest(source.path()).expect("copied");
        assert_whole(&files.folder(&model.digest));
        assert_eq!(left_in(&data), [1, 0, 0]);
    }

    #[test]
    fn a_content_that_comes_in_while_it_is_deleted_is_whole_or_gone() {
        let (data, files) = files();
        let source = folder(WHOLE);
        let digest = files.ingest(source.path()).expect("copied").digest;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        files.ingest(source.path()).expect("copied");
                    }
                });
                scope.spawn(|| {
                    for _ in 0..100 {
                        if let Some(leaving) = files.set_aside(&digest).expect("moved") {
                            assert_whole(leaving.aside.path());
                            leaving.delete().expect("deleted");
                        }
                    }
                });
            }
        });
        files.ingest(source.path()).expect("copied");
        assert_whole(&files.folder(&digest));
        assert_eq!(left_in(&data), [1, 0, 0]);
    }

    #[test]
    fn what_nothing_refers_to_is_found_among_all_that_is_stored() {
        let (data, files) = files();
        let mut digests: Vec<_> = ["a", "b", "c"]
            .map(|content| {
                let source = folder(&[("model.onnx", content)]);
                files.ingest(source.path()).expect("copied").digest
            })
            .into();
        fs::write(data.path().join("models/sha256/notes.txt"), "").expect("written");
        digests.sort();
        let stored = files.stored().expect("read");
        assert_eq!(stored, digests);
        let keep = BTreeSet::from([digests[1].clone(), ModelDigest::for_test("elsewhere")]);
        let gone = ModelFiles::unreferenced(stored, &keep);
        assert_eq!(gone, [digests[0].clone(), digests[2].clone()]);
        for digest in &gone {
            remove(&files, digest).expect("deleted");
        }
        assert_eq!(files.stored().expect("read"), [digests[1].clone()]);
    }

    #[test]
    fn a_single_file_that_is_no_onnx_keeps_its_name_and_says_so() {
        let (_data, files) = files();
        let source = folder(&[("model.pkl", "p"), ("Digits.ONNX", "o")]);
        let model = files
            .ingest(&source.path().join("model.pkl"))
            .expect("copied");
        assert!(files.folder(&model.digest).join("model.pkl").is_file());
        assert_eq!(model.without_onnx, Some(vec!["model.pkl".to_owned()]));
        let refused = files.onnx_file(&model.digest).expect_err("none");
        assert_eq!(
            refused.to_string(),
            format!(
                "model {} holds no ONNX file (it has model.pkl): a native deployment needs `model.onnx`, or exactly one `.onnx` \
                 file, at its top",
                model.digest
            )
        );
        let digits = files.ingest(&source.path().join("Digits.ONNX"));
        let digits = digits.expect("copied");
        assert_eq!(digits.without_onnx, None);
        let onnx = files.onnx_file(&digits.digest).expect("there");
        assert!(onnx.ends_with("model.onnx"));
    }
}

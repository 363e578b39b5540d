//! Registered models: names and versions over content-addressed files.
//!
//! A file or folder is copied once to `<data>/models/sha256/<digest>/` and never changes there, so a version means the same bytes
//! for ever, and what a deployment runs does not depend on the place that the model came from. [`ModelFiles`] is the folder,
//! [`Models`] the names; the names are stored by `store`.
//!
//! Threads: everything of [`ModelFiles`] blocks. Not here: whether a model loads (`engine::probe`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::control::model_record::{ModelDigest, ModelRecord};
use crate::control::refusal::ErrorKind;
use crate::control::store::StoreError;
use crate::spec::{ModelName, ModelVersion};

/// Bytes read at a time while a model is hashed and copied.
const COPY_CHUNK_BYTES: usize = 1 << 20;

/// The file that a single registered file becomes, and the one that is taken where a folder holds several.
const MODEL_FILE: &str = "model.onnx";

/// The request that tries and warms up a model, where its folder has one.
const SAMPLE_FILE: &str = "sample-request.json";

/// Why a model was not registered or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ModelStoreError {
    /// Nothing is at the path.
    #[error("no model at {}: expected an ONNX file, or a folder with one", .0.display())]
    NoSuchPath(PathBuf),
    /// The file has no bytes.
    #[error("{} is empty: expected an ONNX model", .0.display())]
    Empty(PathBuf),
    /// The folder has no model file on top.
    #[error("{} holds no model: expected `model.onnx` or exactly one `.onnx` file at its top", .0.display())]
    NoModel(PathBuf),
    /// The folder has several and none is `model.onnx`.
    #[error("{} holds several models ({}): keep one, or name one `model.onnx`", path.display(), found.join(", "))]
    SeveralModels { path: PathBuf, found: Vec<String> },
    /// The version exists with other bytes.
    #[error(
        "model {name}:{version} is registered with other content ({registered}, not {found}); a version never changes: choose another version"
    )]
    OtherContent {
        name: ModelName,
        version: ModelVersion,
        registered: ModelDigest,
        found: ModelDigest,
    },
    /// No such name or version.
    #[error("{0}")]
    Unknown(String),
    /// A deployment refers to it.
    #[error("model {reference} is in use by {}: update or delete them first", users.join(", "))]
    InUse {
        reference: String,
        users: Vec<String>,
    },
    /// Reading the source or writing the copy failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The record could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is going away.
    #[error("the server is stopping")]
    Stopped,
}

impl ModelStoreError {
    /// What kind of refusal it is; see [`ErrorKind`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchPath(_)
            | Self::Empty(_)
            | Self::NoModel(_)
            | Self::SeveralModels { .. } => ErrorKind::Invalid,
            Self::OtherContent { .. } => ErrorKind::AlreadyExists,
            Self::Unknown(_) => ErrorKind::NotFound,
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Io { .. } | Self::Store(_) => ErrorKind::Storage,
            Self::Stopped => ErrorKind::Busy,
        }
    }
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ModelStoreError {
    let path = path.to_owned();
    move |source| ModelStoreError::Io { what, path, source }
}

/// The folder of model files. Everything here blocks.
#[derive(Debug, Clone)]
pub(super) struct ModelFiles {
    root: PathBuf,
}

/// What a copied model is.
#[derive(Debug, Clone)]
pub(super) struct Ingested {
    pub(super) digest: ModelDigest,
    pub(super) size_bytes: u64,
}

impl ModelFiles {
    /// Opens `<data>/models`, and clears what an interrupted copy left behind.
    pub(super) fn open(data: &Path) -> Result<Self, ModelStoreError> {
        let root = data.join("models");
        let incoming = root.join("incoming");
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("clear", &incoming)(error));
            }
            Ok(()) | Err(_) => {}
        }
        for folder in [&incoming, &root.join("sha256")] {
            fs::create_dir_all(folder).map_err(at("create folder", folder))?;
        }
        Ok(Self { root })
    }

    /// Copies a file or folder in, unless its content is here already. Whole or not at all, also after a power cut.
    ///
    /// Hidden files of a folder are left out. A model's external data must be in its folder.
    pub(super) fn ingest(&self, source: &Path) -> Result<Ingested, ModelStoreError> {
        let files = files_of(source)?;
        let copy = tempfile::tempdir_in(self.root.join("incoming"))
            .map_err(at("create a folder in", &self.root))?;
        let mut hash = Sha256::new();
        let mut size_bytes = 0;
        for (name, path) in &files {
            let target = copy.path().join(name);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(at("create folder", parent))?;
            }
            size_bytes += copy_hashed(name, path, &target, &mut hash)?;
        }
        model_in(copy.path()).map_err(|error| error.about(source))?;
        let digest = ModelDigest::of(hash);
        self.settle(copy, &digest)?;
        Ok(Ingested { digest, size_bytes })
    }

    /// Moves a finished copy to its place.
    fn settle(&self, copy: tempfile::TempDir, digest: &ModelDigest) -> Result<(), ModelStoreError> {
        let place = self.folder(digest);
        if place.is_dir() {
            return Ok(());
        }
        sync_folders(copy.path())?;
        fs::rename(copy.path(), &place).map_err(at("move a model to", &place))?;
        // The folder has moved: nothing is left to delete.
        let _moved = copy.keep();
        sync_folder(&self.root.join("sha256"))
    }

    fn folder(&self, digest: &ModelDigest) -> PathBuf {
        self.root.join("sha256").join(digest.as_str())
    }

    /// The ONNX file of a model that was ingested.
    pub(super) fn model_file(&self, digest: &ModelDigest) -> Result<PathBuf, ModelStoreError> {
        model_in(&self.folder(digest))
    }

    /// Bytes of all files of a model; 0 where they cannot be read.
    pub(super) fn size_bytes(&self, digest: &ModelDigest) -> u64 {
        let mut files = BTreeMap::new();
        // What is wrong with the folder shows when the model is loaded.
        drop(walk(&self.folder(digest), "", &mut files));
        let sizes = files.values().filter_map(|path| fs::metadata(path).ok());
        sizes.map(|metadata| metadata.len()).sum()
    }

    /// The sample request of a model, where it came with one.
    pub(super) fn sample_request(&self, digest: &ModelDigest) -> Option<Bytes> {
        fs::read(self.folder(digest).join(SAMPLE_FILE))
            .ok()
            .map(Bytes::from)
    }

    /// Deletes files that no version and no deployment names any more.
    pub(super) fn remove(&self, digest: &ModelDigest) -> Result<(), ModelStoreError> {
        let folder = self.folder(digest);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at("delete", &folder)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl ModelStoreError {
    /// The same, about the folder that the user knows rather than our copy of it.
    fn about(self, source: &Path) -> Self {
        let path = source.to_owned();
        match self {
            Self::NoModel(_) => Self::NoModel(path),
            Self::SeveralModels { found, .. } => Self::SeveralModels { path, found },
            other => other,
        }
    }
}

/// A model that lies somewhere on this machine.
#[derive(Debug, Clone)]
pub struct FoundModel {
    /// The ONNX file.
    pub file: PathBuf,
    /// The sample request beside it, where there is one.
    pub sample_request: Option<Bytes>,
}

impl FoundModel {
    /// The model at a path as a person gives it: a file, or a folder with one.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError`] when nothing is there, or not exactly one model.
    pub fn at(path: &Path) -> Result<Self, ModelStoreError> {
        // The same checks as when it is registered.
        files_of(path)?;
        let file = if path.is_dir() {
            model_in(path)?
        } else {
            path.to_owned()
        };
        let sample_request = fs::read(file.with_file_name(SAMPLE_FILE)).ok();
        Ok(Self {
            file,
            sample_request: sample_request.map(Bytes::from),
        })
    }

    /// SHA-256 of the ONNX file, as 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn sha256(&self) -> io::Result<String> {
        let mut file = File::open(&self.file)?;
        let (mut hash, mut chunk) = (Sha256::new(), vec![0; COPY_CHUNK_BYTES]);
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(ModelDigest::of(hash).as_str().to_owned()),
                read => hash.update(&chunk[..read]),
            }
        }
    }

    /// The copy of a model that the server of a data folder has.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError`] when it is not there any more.
    pub fn copied(data: &Path, digest: &ModelDigest) -> Result<Self, ModelStoreError> {
        let root = data.join("models");
        Self::at(&ModelFiles { root }.folder(digest))
    }
}

/// The files of a model by the name they get, sorted by it.
fn files_of(source: &Path) -> Result<BTreeMap<String, PathBuf>, ModelStoreError> {
    let kind = match fs::metadata(source) {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelStoreError::NoSuchPath(source.to_owned()));
        }
        Err(error) => return Err(at("read", source)(error)),
    };
    let mut files = BTreeMap::new();
    if kind.is_dir() {
        walk(source, "", &mut files)?;
    } else if kind.len() == 0 {
        return Err(ModelStoreError::Empty(source.to_owned()));
    } else {
        files.insert(MODEL_FILE.to_owned(), source.to_owned());
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), ModelStoreError> {
    for entry in fs::read_dir(folder).map_err(at("read folder", folder))? {
        let entry = entry.map_err(at("read folder", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let kind = fs::metadata(&path).map_err(at("read", &path))?;
        if kind.is_dir() && !entry.path().is_symlink() {
            walk(&path, &format!("{prefix}{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(format!("{prefix}{name}"), path);
        }
    }
    Ok(())
}

/// Copies one file, adds its name, size and bytes to the hash, and has it on disk when it returns.
fn copy_hashed(
    name: &str,
    source: &Path,
    target: &Path,
    hash: &mut Sha256,
) -> Result<u64, ModelStoreError> {
    let mut from = File::open(source).map_err(at("read", source))?;
    let mut to = File::create(target).map_err(at("write", target))?;
    let size_bytes = from.metadata().map_err(at("read", source))?.len();
    hash.update(format!("{name}\0{size_bytes}\0"));
    let mut chunk = vec![0; COPY_CHUNK_BYTES];
    let mut copied: u64 = 0;
    loop {
        let read = from.read(&mut chunk).map_err(at("read", source))?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(at("write", target))?;
        copied += read as u64;
    }
    if copied != size_bytes {
        let changed = io::Error::other("it changed while it was copied; try again");
        return Err(at("copy", source)(changed));
    }
    to.sync_all().map_err(at("write", target))?;
    Ok(copied)
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

/// The model of a folder: `model.onnx`, else the only `.onnx` at its top.
fn model_in(folder: &Path) -> Result<PathBuf, ModelStoreError> {
    let preferred = folder.join(MODEL_FILE);
    if preferred.is_file() {
        return Ok(preferred);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(at("read folder", folder))? {
        let path = entry.map_err(at("read folder", folder))?.path();
        if path.is_file()
            && path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
        {
            found.push(path);
        }
    }
    found.sort();
    if found.len() > 1 {
        let found = found
            .iter()
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned());
        return Err(ModelStoreError::SeveralModels {
            path: folder.to_owned(),
            found: found.collect(),
        });
    }
    found
        .pop()
        .ok_or_else(|| ModelStoreError::NoModel(folder.to_owned()))
}

/// All registered versions, in the order of registration.
#[derive(Debug, Clone, Default)]
pub(super) struct Models {
    records: Vec<ModelRecord>,
}

impl Models {
    pub(super) fn new(records: Vec<ModelRecord>) -> Self {
        Self { records }
    }

    pub(super) fn records(&self) -> &[ModelRecord] {
        &self.records
    }

    /// The version of that name; without a version the latest.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::Unknown`], naming what exists.
    pub(super) fn find(
        &self,
        name: &ModelName,
        version: Option<&ModelVersion>,
    ) -> Result<&ModelRecord, ModelStoreError> {
        let found = match version {
            Some(version) => self.versions(name).find(|one| one.version == *version),
            None => self.latest(name),
        };
        found.ok_or_else(|| ModelStoreError::Unknown(self.missing(name, version)))
    }

    fn versions<'a>(&'a self, name: &ModelName) -> impl Iterator<Item = &'a ModelRecord> {
        self.records.iter().filter(move |one| one.name == *name)
    }

    /// The highest whole number among the versions; where none is a number, the one registered last.
    fn latest(&self, name: &ModelName) -> Option<&ModelRecord> {
        self.versions(name)
            .filter_map(|one| Some((number(&one.version)?, one)))
            .max_by_key(|(number, _)| *number)
            .map(|(_, one)| one)
            .or_else(|| self.versions(name).last())
    }

    /// The version that a registration without one gets.
    pub(super) fn next_version(&self, name: &ModelName) -> ModelVersion {
        let highest = self
            .versions(name)
            .filter_map(|one| number(&one.version))
            .max()
            .unwrap_or(0);
        highest
            .saturating_add(1)
            .to_string()
            .parse()
            .expect("digits are a version")
    }

    fn missing(&self, name: &ModelName, version: Option<&ModelVersion>) -> String {
        let versions: Vec<_> = self
            .versions(name)
            .map(|one| one.version.as_str())
            .collect();
        if let Some(version) = version
            && !versions.is_empty()
        {
            return format!(
                "model {name} has no version {version:?}; it has {}",
                versions.join(", "),
                version = version.as_str()
            );
        }
        let mut near: Vec<_> = self.records.iter().map(|one| one.name.as_str()).collect();
        near.sort_by_cached_key(|other| strsim::damerau_levenshtein(other, name.as_str()));
        near.dedup();
        near.truncate(5);
        match near.as_slice() {
            [] => format!(
                "no model {:?}: none is registered; `serin model create` registers one",
                name.as_str()
            ),
            near => format!(
                "no model {:?}; registered are {}",
                name.as_str(),
                near.join(", ")
            ),
        }
    }

    /// Adds a record whose version is new. The same content again is fine and changes nothing: then the known record comes back.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::OtherContent`] when the version exists with other bytes.
    pub(super) fn check(
        &self,
        name: &ModelName,
        version: &ModelVersion,
        digest: &ModelDigest,
    ) -> Result<Option<&ModelRecord>, ModelStoreError> {
        match self.versions(name).find(|one| one.version == *version) {
            Some(known) if known.digest != *digest => Err(ModelStoreError::OtherContent {
                name: name.clone(),
                version: version.clone(),
                registered: known.digest.clone(),
                found: digest.clone(),
            }),
            known => Ok(known),
        }
    }

    pub(super) fn insert(&mut self, record: ModelRecord) {
        self.records.push(record);
    }

    pub(super) fn remove(&mut self, name: &ModelName, version: &ModelVersion) {
        self.records
            .retain(|one| one.name != *name || one.version != *version);
    }

    /// Whether a registered version has this content.
    pub(super) fn names(&self, digest: &ModelDigest) -> bool {
        self.records.iter().any(|one| one.digest == *digest)
    }
}

fn number(version: &ModelVersion) -> Option<u64> {
    version.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, ModelFiles) {
        let data = tempfile::tempdir().expect("a folder");
        let files = ModelFiles::open(data.path()).expect("opens");
        (data, files)
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        folder
    }

    fn record(version: &str, content: &str) -> ModelRecord {
        ModelRecord {
            name: "digits".parse().expect("a name"),
            version: version.parse().expect("a version"),
            digest: ModelDigest::for_test(content),
            size_bytes: 1,
            path: PathBuf::from("/m"),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            created_by: "me".to_owned(),
        }
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
        let model = files.model_file(&file.digest).expect("there");
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
        let place = files.model_file(&model.digest).expect("there");
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
        let bare = folder(&[("readme.md", "x")]);
        check(
            bare.path(),
            format!(
                "{} holds no model: expected `model.onnx` or exactly one `.onnx` file at its top",
                bare.path().display()
            ),
        );
        for place in ["incoming", "sha256"] {
            let left = fs::read_dir(data.path().join("models").join(place))
                .expect("read")
                .count();
            assert_eq!(left, 0, "{place}");
        }
    }

    #[test]
    fn a_version_never_changes_its_content() {
        let models = Models::new(vec![record("1", "a")]);
        let known = record("1", "a");
        assert_eq!(
            models
                .check(&known.name, &known.version, &known.digest)
                .expect("fine"),
            Some(&known)
        );
        let other = models
            .check(&known.name, &known.version, &ModelDigest::for_test("b"))
            .expect_err("refused");
        assert_eq!(
            other.to_string(),
            "model digits:1 is registered with other content (sha256:a, not sha256:b); a version never changes: choose another \
             version"
        );
    }

    #[test]
    fn the_latest_version_is_the_highest_number_else_the_last_registered() {
        let name = "digits".parse().expect("a name");
        let latest = |versions: &[&str]| {
            let models = Models::new(
                versions
                    .iter()
                    .map(|version| record(version, "a"))
                    .collect(),
            );
            let latest = models
                .find(&name, None)
                .expect("found")
                .version
                .as_str()
                .to_owned();
            (latest, models.next_version(&name).as_str().to_owned())
        };
        assert_eq!(
            latest(&["9", "10", "2"]),
            ("10".to_owned(), "11".to_owned())
        );
        assert_eq!(
            latest(&["beta", "alpha"]),
            ("alpha".to_owned(), "1".to_owned())
        );
        assert_eq!(
            latest(&["beta", "3", "rc"]),
            ("3".to_owned(), "4".to_owned())
        );
    }

    #[test]
    fn a_missing_model_is_answered_with_what_is_near() {
        let models = Models::new(vec![record("1", "a"), record("2", "b")]);
        let message = |name: &str, version: &str| {
            let version = version.parse().expect("a version");
            models
                .find(&name.parse().expect("a name"), Some(&version))
                .expect_err("missing")
                .to_string()
        };
        assert_eq!(
            message("digits", "3"),
            "model digits has no version \"3\"; it has 1, 2"
        );
        assert_eq!(
            message("digit", "1"),
            "no model \"digit\"; registered are digits"
        );
    }
}

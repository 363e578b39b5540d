//! Errors of the registry of models and of its files.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{MODEL_BYTES_MAX, MODEL_FILES_MAX};
use crate::control::models::ModelDigest;
use crate::control::refusal::ErrorKind;
#[cfg(feature = "server")]
use crate::control::store::StoreError;
use crate::engine::ORT_FORMAT;
use crate::spec::{ModelName, ModelVersion};

/// The reason why a model was not registered, found or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ModelStoreError {
    /// Nothing is at the path.
    #[error("no model at {}: expected an ONNX file, or a folder with one", .0.display())]
    NoSuchPath(PathBuf),
    /// The file has no bytes.
    #[error("{} is empty: expected an ONNX model", .0.display())]
    Empty(PathBuf),
    /// The file has another format.
    #[error("{} {ORT_FORMAT}", .0.display())]
    OrtFormat(PathBuf),
    /// The folder has no files, or no model file on top where one is needed.
    #[error("{} holds no model: expected `model.onnx` or exactly one `.onnx` file at its top", .0.display())]
    NoModel(PathBuf),
    /// The folder has several and none is `model.onnx`.
    #[error("{} holds several models ({}): keep one, or name one `model.onnx`", path.display(), found.join(", "))]
    SeveralModels { path: PathBuf, found: Vec<String> },
    /// The folder has more than a model can have.
    #[error(
        "{} holds more than {MODEL_FILES_MAX} files and folders, which is no model: give the folder of the model alone, or its .onnx file",
        .0.display()
    )]
    TooManyFiles(PathBuf),
    /// More bytes than a model can have.
    #[error(
        "{} holds {bytes} bytes in {files} files; expected at most {MODEL_BYTES_MAX}: give the folder of the model alone, or its .onnx file",
        path.display()
    )]
    TooLarge {
        path: PathBuf,
        files: usize,
        bytes: u64,
    },
    /// Nothing is at the path of the code, or no folder.
    #[error("expected the folder of the scoring script, found {found} at {}; scoring: native scores an ONNX model without its script", path.display())]
    NoCode { path: PathBuf, found: &'static str },
    /// The folder of the code has no files.
    #[error("{} holds no code: expected the folder of the scoring script (hidden files and __pycache__ are left out)", .0.display())]
    EmptyCode(PathBuf),
    /// The folder of the code holds more than code.
    #[error("{} holds {what}: give the folder of the code alone", path.display())]
    TooMuchCode { path: PathBuf, what: String },
    /// A link by which more than the code would be copied, as in a virtual environment.
    #[error(
        "{} is a link to {}, out of the folder of the code: put the file itself there, or keep it out of that folder",
        link.display(), real.display()
    )]
    CodeOutside { link: PathBuf, real: PathBuf },
    /// The copy would hold itself.
    #[error("{} holds the data folder of this server, {}: give the folder of the model alone", path.display(), data.display())]
    HoldsData { path: PathBuf, data: PathBuf },
    /// A link by which a file of somebody else would be copied.
    #[error(
        "{} is a link to {}, out of {}: put the file itself there, as `cp -rL` does",
        link.display(), real.display(), folder.display()
    )]
    LinkOutside {
        link: PathBuf,
        real: PathBuf,
        folder: PathBuf,
    },
    /// A link by which a folder is in itself.
    #[error("{} is a link to a folder that it is in: take it out", .0.display())]
    LinkInCircle(PathBuf),
    /// A link whose end is not there.
    #[error("{} is a link to nothing: take it out", .0.display())]
    LinkToNothing(PathBuf),
    /// A file or folder of the model cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unread { path: PathBuf, source: io::Error },
    /// The disk would be full.
    #[error(
        "{} has {bytes} bytes in {files} files, and the disk of {} has {free} bytes free, of which {reserve} stay free: delete something \
         there, or serve from a data folder on another disk",
        path.display(), data.display()
    )]
    NoRoom {
        path: PathBuf,
        files: usize,
        bytes: u64,
        data: PathBuf,
        free: u64,
        reserve: u64,
    },
    /// A name that cannot be told from another one, nor be written down.
    #[error("the name of {0:?} is not UTF-8: rename it")]
    NotText(PathBuf),
    /// A file that the ONNX file keeps data in is not there.
    #[error(
        "{} keeps its tensor {tensor:?} in {location:?}, which is not beside it: put that file into {}, or export the model with its data inside",
        model.display(), folder_of(model).display()
    )]
    MissingData {
        model: PathBuf,
        tensor: String,
        location: String,
    },
    /// The ONNX file names data that its folder does not hold.
    #[error(
        "{} keeps its tensor {tensor:?} in {location:?}, which leads out of {}: put the data itself there, and name it in the model by its path from there",
        model.display(), folder_of(model).display()
    )]
    DataOutside {
        model: PathBuf,
        tensor: String,
        location: String,
    },
    /// A file that the ONNX file keeps data in was cut off, or is another one.
    #[error(
        "{} has {bytes} bytes, and {} keeps its tensor {tensor:?} in bytes {offset} to {end} of it: copy it again, or export the model anew",
        data.display(), model.display()
    )]
    DataTooShort {
        model: PathBuf,
        data: PathBuf,
        tensor: String,
        bytes: u64,
        offset: u64,
        end: u64,
    },
    /// A deployment would run an ONNX file, and the model has none.
    #[error(
        "model {model} holds no ONNX file (it has {}): a native deployment needs `model.onnx`, or exactly one `.onnx` file, at its top",
        found.join(", ")
    )]
    NoOnnxFile { model: String, found: Vec<String> },
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
    /// The files are not those that were copied in.
    #[error(
        "the files of a model in {} are damaged or others: expected {registered}, found {found}; register the model again from \
         where it came, which replaces them, or put a backup back (`serin restore`), then update its deployments or start the \
         server again",
        folder.display()
    )]
    OtherFiles {
        folder: PathBuf,
        registered: ModelDigest,
        found: String,
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
    #[cfg(feature = "server")]
    Store(#[from] StoreError),
    /// The server is going away.
    #[error("the server is stopping")]
    Stopped,
}

impl ModelStoreError {
    /// The kind of the refusal; see [`ErrorKind`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchPath(_)
            | Self::Empty(_)
            | Self::NoCode { .. }
            | Self::EmptyCode(_)
            | Self::TooMuchCode { .. }
            | Self::CodeOutside { .. }
            | Self::OrtFormat(_)
            | Self::NoModel(_)
            | Self::SeveralModels { .. }
            | Self::NotText(_)
            | Self::TooManyFiles(_)
            | Self::TooLarge { .. }
            | Self::HoldsData { .. }
            | Self::LinkOutside { .. }
            | Self::LinkInCircle(_)
            | Self::LinkToNothing(_)
            | Self::Unread { .. }
            | Self::MissingData { .. }
            | Self::DataOutside { .. }
            | Self::DataTooShort { .. }
            | Self::NoOnnxFile { .. } => ErrorKind::Invalid,
            Self::OtherContent { .. } => ErrorKind::AlreadyExists,
            Self::Unknown(_) => ErrorKind::NotFound,
            Self::InUse { .. } => ErrorKind::Conflict,
            #[cfg(feature = "server")]
            Self::Store(StoreError::Lent(_)) => ErrorKind::Busy,
            #[cfg(feature = "server")]
            Self::Store(_) => ErrorKind::Storage,
            Self::Stopped => ErrorKind::Busy,
            Self::OtherFiles { .. } | Self::NoRoom { .. } | Self::Io { .. } => ErrorKind::Storage,
        }
    }
}

/// The folder that a file is in, also where the path does not say.
pub(super) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ModelStoreError {
    let path = path.to_owned();
    move |source| ModelStoreError::Io { what, path, source }
}

/// The reason why what a person gave cannot be used.
pub(super) fn unread(path: &Path) -> impl FnOnce(io::Error) -> ModelStoreError {
    let path = path.to_owned();
    move |source| ModelStoreError::Unread { path, source }
}

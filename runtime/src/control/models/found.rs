//! A model that lies somewhere on this machine, for commands that run it without registering it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::config::SAMPLE_BYTES_MAX;
use crate::control::models::files::{COPY_CHUNK_BYTES, ModelFiles, SAMPLE_FILE};
use crate::control::models::source::Source;
use crate::control::models::{ModelDigest, ModelStoreError};
use crate::plain_file;

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
        let source = Source::at(path)?;
        let file = if path.is_dir() {
            let onnx = source.onnx_path();
            onnx.ok_or_else(|| ModelStoreError::NoModel(path.to_owned()))?
        } else {
            path.to_owned()
        };
        let sample_request = file.with_file_name(SAMPLE_FILE);
        let sample_request = plain_file::read(&sample_request, SAMPLE_BYTES_MAX).ok();
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
        let mut file = plain_file::open(&self.file)?;
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
        Self::at(&ModelFiles::in_data(data).folder(digest))
    }
}

//! The models that the controller has: those with names, and the files of all.

use crate::control::models::{ModelDigest, ModelFiles, Models};
use crate::control::work::{ModelPlace, ModelPlaces};

/// Models that have names, and the files of all.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) files: ModelFiles,
    pub(super) models: Models,
    /// Copies and deletions under way; while there are any, no files are deleted.
    pub(super) under_way: usize,
}

impl Registry {
    pub(super) fn new(files: ModelFiles, models: Models) -> Self {
        Self {
            files,
            models,
            under_way: 0,
        }
    }
}

impl ModelPlaces for ModelFiles {
    fn place(&self, model: &ModelDigest) -> Result<ModelPlace, String> {
        self.verify(model).map_err(|error| error.to_string())?;
        Ok(ModelPlace {
            file: self.onnx_file(model).map_err(|error| error.to_string())?,
            sample_request: self.sample_request(model),
            bytes: self.size_bytes(model),
            by_content: true,
        })
    }
}

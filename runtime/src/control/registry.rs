//! The models that the controller has: those with names, and the files of all.

use crate::control::models::{
    Layout, ModelDigest, ModelFiles, Models, ScriptFolder, ScriptFolders,
};
use crate::control::script::ScriptBuild;
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

/// The places of the files of models and of scripts.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) files: ModelFiles,
    pub(super) scripts: ScriptFolders,
}

impl ModelPlaces for Places {
    fn place(&self, model: &ModelDigest) -> Result<ModelPlace, String> {
        let files = &self.files;
        files.verify(model).map_err(|error| error.to_string())?;
        Ok(ModelPlace {
            content: None,
            file: files.onnx_file(model).map_err(|error| error.to_string())?,
            sample_request: files.sample_request(model),
            bytes: files.size_bytes(model),
            by_content: true,
        })
    }

    fn lay_out(&self, build: &ScriptBuild, model: &ModelDigest) -> Result<ScriptFolder, String> {
        let (script, files) = (&build.script, &self.files);
        for content in [model, &script.code] {
            files.verify(content).map_err(|error| error.to_string())?;
        }
        let (name, version) = &build.reference;
        let made = self.scripts.lay_out(&Layout {
            code: (&files.folder(&script.code), &script.folder),
            model: (&files.folder(model), &build.mount),
            reference: (name, version),
        });
        made.map_err(|error| error.to_string())
    }
}

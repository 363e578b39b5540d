//! The way in which a script sees its model: under the name that it was given with. Pure.
//!
//! A copy of a single ONNX file is called `model.onnx`, and a copy of a folder has no name of its own: what it was called must be
//! known besides.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::control::models::source::MODEL_FILE;

/// The file or folder that a model was copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Mount {
    /// Its name, without the folder that it was in.
    pub(in crate::control) name: String,
    /// Whether it was a folder; not known of models that earlier servers copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::control) is_folder: Option<bool>,
}

impl Mount {
    /// Of what was at a path. The root has no name, and is called as a folder of models is.
    pub(in crate::control) fn of(path: &Path, is_folder: Option<bool>) -> Self {
        let name = path.file_name().unwrap_or("model".as_ref());
        Self {
            name: name.to_string_lossy().into_owned(),
            is_folder,
        }
    }

    /// The links in the folder of the model, each with what it leads to below the copy; an empty text is the copy itself. `stored` are
    /// the names on top of the copy.
    pub(super) fn links(&self, stored: &BTreeSet<String>) -> Vec<(String, String)> {
        if self
            .is_folder
            .unwrap_or_else(|| self.looks_like_a_folder(stored))
        {
            return vec![(self.name.clone(), String::new())];
        }
        let has_own_name = stored.contains(&self.name);
        let link = |name: &String| match !has_own_name && name == MODEL_FILE {
            true => (self.name.clone(), name.clone()),
            // Files in which the model keeps data lie beside it.
            false => (name.clone(), name.clone()),
        };
        stored.iter().map(link).collect()
    }

    /// A single file keeps its name, but for ONNX.
    fn looks_like_a_folder(&self, stored: &BTreeSet<String>) -> bool {
        let is_onnx = self.name.to_ascii_lowercase().ends_with(".onnx");
        let was_renamed = is_onnx && stored.contains(MODEL_FILE);
        !(was_renamed || stored.contains(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, is_folder: Option<bool>, stored: &[&str], links: &[(&str, &str)]) {
        let stored = stored.iter().map(|name| (*name).to_owned()).collect();
        let found = Mount::of(Path::new(path), is_folder).links(&stored);
        let found: Vec<_> = found
            .iter()
            .map(|(link, to)| (link.as_str(), to.as_str()))
            .collect();
        assert_eq!(found, links);
    }

    #[test]
    fn a_file_is_seen_under_its_own_name_and_a_folder_as_a_folder() {
        check(
            "/m/model.pkl",
            Some(false),
            &["model.pkl"],
            &[("model.pkl", "model.pkl")],
        );
        check(
            "/m/digits.onnx",
            Some(false),
            &["model.onnx"],
            &[("digits.onnx", "model.onnx")],
        );
        check("/m/model/", Some(true), &["a.pkl", "b"], &[("model", "")]);
        check(
            "/m/x.onnx",
            Some(false),
            &["model.onnx", "x.onnx_data"],
            &[("x.onnx", "model.onnx"), ("x.onnx_data", "x.onnx_data")],
        );
        check("/", Some(true), &["a"], &[("model", "")]);
    }

    #[test]
    fn a_model_of_an_earlier_server_is_a_file_where_its_copy_has_that_name_or_it_is_onnx() {
        check(
            "/m/model.pkl",
            None,
            &["model.pkl"],
            &[("model.pkl", "model.pkl")],
        );
        check(
            "/m/digits.ONNX",
            None,
            &["model.onnx"],
            &[("digits.ONNX", "model.onnx")],
        );
        check(
            "/m/digits",
            None,
            &["model.onnx", "sample-request.json"],
            &[("digits", "")],
        );
    }
}

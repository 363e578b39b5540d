//! The model in a folder, in the forms in which folders with models are mounted: `model.onnx`, one `.onnx` file, a `model.yml`
//! that names the file, or folders named by version numbers with one of these inside, of which the highest is taken.
//!
//! Threads: any; it reads the names of one or two folders. Not here: whether the file is a model (`engine`), copies (`control`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{SpecError, read_model};

/// The file that is taken where a folder holds several.
const MODEL_FILE: &str = "model.onnx";

/// The description of a model, as `serin model create --file` reads it.
const DESCRIPTION: &str = "model.yml";

/// Names that are told of a folder without a model.
const NAMES_TOLD_MAX: usize = 8;

/// The reason why there is no one model in a folder.
#[derive(Debug, thiserror::Error)]
pub enum ModelFolderError {
    /// It cannot be listed, or a file in it cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing in it is a model.
    #[error(
        "{folder:?} holds no model: expected model.onnx, one .onnx file, a model.yml that names the file, or folders named by version \
         numbers that hold one (1/model.onnx); found {found}"
    )]
    NoModel {
        /// The folder.
        folder: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Several files could be meant.
    #[error(
        "{folder:?} holds several models ({found}): give the path of one, or name one model.onnx"
    )]
    Several {
        /// The folder.
        folder: PathBuf,
        /// The files.
        found: String,
    },
    /// Its description does not say which file it is.
    #[error("{path:?} cannot be used as it stands:\n{problems}")]
    Description {
        /// The file.
        path: PathBuf,
        /// All problems of it.
        problems: SpecError,
    },
    /// Its description names what is not there.
    #[error(
        "{description:?} names {named:?}, which is no file: put the model there, or correct `path`"
    )]
    NotThere {
        /// The description.
        description: PathBuf,
        /// What it names.
        named: PathBuf,
    },
}

/// The file that a path stands for: itself, or the model of a folder.
pub(super) fn model_at(path: &Path) -> Result<PathBuf, ModelFolderError> {
    if path.is_dir() {
        of_folder(path)
    } else {
        Ok(path.to_owned())
    }
}

fn of_folder(folder: &Path) -> Result<PathBuf, ModelFolderError> {
    let names = names(folder)?;
    if let Some(file) = on_top(folder, &names)? {
        return Ok(file);
    }
    let versions = names.iter().filter_map(|name| {
        let version: u64 = name.parse().ok()?;
        let folder = folder.join(name);
        folder.is_dir().then_some((version, folder))
    });
    // The highest, also where it holds no model: a lower one in its stead would be served without a word.
    let Some((_, newest)) = versions.max() else {
        return Err(no_model(folder, &names));
    };
    let names = self::names(&newest)?;
    on_top(&newest, &names)?.ok_or_else(|| no_model(&newest, &names))
}

/// The model at the top of a folder. Links are followed: volumes of Kubernetes are made of them.
fn on_top(folder: &Path, names: &[String]) -> Result<Option<PathBuf>, ModelFolderError> {
    let is_file = |name: &str| folder.join(name).is_file();
    if is_file(MODEL_FILE) {
        return Ok(Some(folder.join(MODEL_FILE)));
    }
    if is_file(DESCRIPTION) {
        return described(&folder.join(DESCRIPTION)).map(Some);
    }
    let onnx: Vec<_> = names
        .iter()
        .filter(|name| has_onnx_ending(name) && is_file(name))
        .cloned()
        .collect();
    match onnx.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(folder.join(one))),
        _ => Err(ModelFolderError::Several {
            folder: folder.to_owned(),
            found: list(&onnx),
        }),
    }
}

/// The file that a description names.
fn described(description: &Path) -> Result<PathBuf, ModelFolderError> {
    let text = fs::read_to_string(description).map_err(|source| ModelFolderError::Read {
        path: description.to_owned(),
        source,
    })?;
    let read = read_model(&text, &description.display().to_string(), &[]);
    let model = read.map_err(|problems| ModelFolderError::Description {
        path: description.to_owned(),
        problems,
    })?;
    let named = description.with_file_name(model.path);
    if named.is_file() {
        return Ok(named);
    }
    Err(ModelFolderError::NotThere {
        description: description.to_owned(),
        named,
    })
}

/// The names in a folder, sorted, but for hidden ones and such as are no text.
fn names(folder: &Path) -> Result<Vec<String>, ModelFolderError> {
    let cannot_read = |source| ModelFolderError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot_read)? {
        let name = entry.map_err(cannot_read)?.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn has_onnx_ending(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
}

fn no_model(folder: &Path, names: &[String]) -> ModelFolderError {
    ModelFolderError::NoModel {
        folder: folder.to_owned(),
        found: if names.is_empty() {
            "nothing".to_owned()
        } else {
            list(names)
        },
    }
}

/// A few names for people, the rest as a number. Escaped, for they are of whoever filled the folder.
fn list(names: &[String]) -> String {
    let told = names.iter().take(NAMES_TOLD_MAX);
    let told: Vec<_> = told.map(|name| name.escape_debug().to_string()).collect();
    match names.len().checked_sub(NAMES_TOLD_MAX) {
        None | Some(0) => told.join(", "),
        Some(more) => format!("{} and {more} more", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with empty files, and what is found in it: a path from there, or the fault without the folder's own path.
    fn found(files: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        told(folder.path())
    }

    fn told(folder: &Path) -> String {
        let root = folder.to_str().unwrap();
        match model_at(folder) {
            Ok(file) => file.strip_prefix(folder).unwrap().display().to_string(),
            Err(error) => error.to_string().replace(root, "."),
        }
    }

    #[test]
    fn a_folder_is_taken_in_each_of_the_usual_forms() {
        for (files, file) in [
            (&["model.onnx"][..], "model.onnx"),
            (&["model.onnx", "other.onnx", "1/model.onnx"], "model.onnx"),
            (&["iris.ONNX", "notes.txt", ".hidden.onnx"], "iris.ONNX"),
            (
                &[
                    "1/model.onnx",
                    "9/model.onnx",
                    "10/model.onnx",
                    "config.pbtxt",
                ],
                "10/model.onnx",
            ),
            (
                &["1/iris.onnx", "latest/model.onnx", "-3/model.onnx"],
                "1/iris.onnx",
            ),
            (&["007/model.onnx", "6/model.onnx"], "007/model.onnx"),
        ] {
            assert_eq!(found(files), file, "{files:?}");
        }
    }

    #[test]
    fn a_folder_of_the_repository_is_taken_by_its_description_too() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
        assert_eq!(
            model_at(&digits.join("1")).unwrap(),
            digits.join("1/model.onnx")
        );
        assert_eq!(model_at(&digits).unwrap(), digits.join("2/model.onnx"));
        let folder = tempfile::tempdir().unwrap();
        let describe = |path| {
            let text = format!("name: iris\nversion: 1\npath: {path}\n");
            fs::write(folder.path().join("model.yml"), text).unwrap();
        };
        for file in ["a.onnx", "b.onnx"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        describe("b.onnx");
        assert_eq!(told(folder.path()), "b.onnx");
        describe("c.onnx");
        let words = told(folder.path());
        assert!(
            words.contains("names \"./c.onnx\", which is no file"),
            "{words}"
        );
        fs::write(folder.path().join("model.yml"), "name: iris\n").unwrap();
        let words = told(folder.path());
        assert!(words.contains("path"), "{words}");
    }

    #[test]
    fn a_folder_without_one_model_is_refused_with_what_is_in_it() {
        let none = found(&["b.txt", "a/model.onnx", "\u{1b}[2J.onnx.txt"]);
        assert!(
            none.starts_with("\".\" holds no model: expected model.onnx"),
            "{none}"
        );
        assert!(
            none.ends_with("found \\u{1b}[2J.onnx.txt, a, b.txt"),
            "{none}"
        );
        assert!(found(&[".hidden"]).ends_with("found nothing"));
        let many: Vec<_> = (0..20).map(|number| format!("{number}.txt")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(found(&many).ends_with("and 12 more"), "{}", found(&many));
        let several = found(&["b.onnx", "a.onnx"]);
        assert!(
            several.contains("several models (a.onnx, b.onnx)"),
            "{several}"
        );
        // A version that is only half there is not passed over in silence.
        let half = found(&["1/model.onnx", "2/model.onnx.part"]);
        assert!(half.starts_with("\"./2\" holds no model"), "{half}");
        assert!(half.ends_with("found model.onnx.part"), "{half}");
    }

    #[test]
    fn a_volume_of_links_is_taken_and_what_is_no_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..data")).unwrap();
        fs::write(folder.path().join("..data/model.onnx"), "").unwrap();
        symlink("..data/model.onnx", folder.path().join("model.onnx")).unwrap();
        assert_eq!(told(folder.path()), "model.onnx");
        fs::remove_file(folder.path().join("..data/model.onnx")).unwrap();
        fs::create_dir(folder.path().join("other.onnx")).unwrap();
        assert!(told(folder.path()).contains("holds no model"));
        let gone = folder.path().join("gone");
        assert_eq!(
            model_at(&gone).unwrap(),
            gone,
            "its fault is told when it is read"
        );
    }
}

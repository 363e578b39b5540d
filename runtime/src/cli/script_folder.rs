//! The parts of a scoring script in the folder of its code: which file it is, its model, and a request to try it with.
//!
//! What is named is taken; the rest is found by the names that samples and templates give it. Where two things could be meant, nothing is
//! guessed. All that is wrong is told at once.
//!
//! Not here: what is done with them (`score_script`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::ScriptCheck;
use crate::config::SCRIPT_FILES_MAX;

const SCRIPT_NAME: &str = "score.py";
const SAMPLE_NAME: &str = "sample-request.json";
const MODEL_FOLDERS: [&str; 2] = ["model", "models"];
/// Endings of files that are models, whatever made them.
const MODEL_ENDINGS: [&str; 17] = [
    "bin",
    "bst",
    "cbm",
    "ckpt",
    "h5",
    "joblib",
    "keras",
    "npy",
    "npz",
    "onnx",
    "pickle",
    "pkl",
    "pmml",
    "pt",
    "pth",
    "safetensors",
    "ubj",
];
/// Most files that a message names.
const TOLD_MAX: usize = 5;

/// The parts of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScriptFolder {
    /// The folder of the code, from anywhere.
    pub(super) code: PathBuf,
    /// The file with `init` and `run`, likewise.
    pub(super) script: PathBuf,
    /// A file or a folder, likewise.
    pub(super) model: Option<PathBuf>,
    /// The body of a request; `-` is standard input.
    pub(super) request: Option<PathBuf>,
    /// Words on what was not chosen.
    pub(super) notes: Vec<String>,
}

impl ScriptFolder {
    /// Finds the parts.
    ///
    /// # Errors
    ///
    /// All that is missing or not clear, one a line.
    pub(super) fn find(typed: &ScriptCheck) -> Result<Self, String> {
        let code = folder(&typed.code)?;
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        let script = or_problem(script(&code, typed.script.as_deref()), &mut problems);
        let model = match &typed.model {
            Some(named) => or_problem(file_or_folder(named).map(Some), &mut problems).flatten(),
            None => or_problem(model(&code, &mut notes), &mut problems).flatten(),
        };
        let beside = script.as_deref().and_then(Path::parent).unwrap_or(&code);
        let request = typed.request.clone().or_else(|| {
            let mut places = [beside, &code]
                .into_iter()
                .map(|place| place.join(SAMPLE_NAME));
            places.find(|sample| sample.is_file())
        });
        if request.is_none() {
            notes.push(format!(
                "there is no {SAMPLE_NAME}, so run() is not called: name the body of a request with --request"
            ));
        }
        match script {
            Some(script) if problems.is_empty() => Ok(Self {
                code,
                script,
                model,
                request,
                notes,
            }),
            _ => Err(problems.join("\n")),
        }
    }
}

fn or_problem<T>(found: Result<T, String>, problems: &mut Vec<String>) -> Option<T> {
    found.map_err(|problem| problems.push(problem)).ok()
}

/// The path from anywhere.
fn there(path: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|error| format!("cannot use {path:?}: {error}"))
}

fn file_or_folder(path: &Path) -> Result<PathBuf, String> {
    let found = there(path)?;
    if found.is_file() || found.is_dir() {
        return Ok(found);
    }
    Err(format!(
        "expected a model, found neither a file nor a folder: {path:?}"
    ))
}

fn folder(path: &Path) -> Result<PathBuf, String> {
    let found = there(path)?;
    if found.is_dir() {
        return Ok(found);
    }
    let (folder, name) = (path.parent(), path.file_name().unwrap_or_default());
    let folder = folder
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or(Path::new("."));
    Err(format!(
        "expected the folder of the code, found the file {path:?}; give {folder:?}, with --script {}",
        name.display()
    ))
}

fn script(code: &Path, named: Option<&Path>) -> Result<PathBuf, String> {
    let Some(named) = named else {
        return only_script(code);
    };
    let script = there(&code.join(named))
        .map_err(|problem| format!("{problem}; --script is seen from the folder of the code"))?;
    if !script.is_file() {
        return Err(format!(
            "expected a scoring script, found no file: {script:?}"
        ));
    }
    if !script.starts_with(code) {
        return Err(format!(
            "expected a scoring script in the folder of the code, found {script:?}, which is outside {code:?}"
        ));
    }
    Ok(script)
}

/// The only file of the usual name.
fn only_script(code: &Path) -> Result<PathBuf, String> {
    let mut found = scripts_below(code)
        .map_err(|problem| format!("cannot look through {code:?}: {problem}"))?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(format!(
            "no {SCRIPT_NAME} in {code:?}: name the scoring script with --script"
        )),
        _ => Err(format!(
            "several files are named {SCRIPT_NAME} in {code:?} ({}): name one with --script",
            listed(&found, code)
        )),
    }
}

/// All files of the usual name, but for those of packages and of what is hidden.
fn scripts_below(code: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut folders, mut found, mut looked_at) = (vec![code.to_owned()], Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            looked_at += 1;
            if looked_at > SCRIPT_FILES_MAX {
                return Err(io::Error::other(format!(
                    "it has more than {SCRIPT_FILES_MAX} files; name the scoring script with --script"
                )));
            }
            let (name, path) = (entry.file_name(), entry.path());
            // Not the folder that a link leads to, which may be a circle.
            let is_folder = entry.file_type()?.is_dir();
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            if is_folder
                && !is_hidden
                && !["__pycache__", "site-packages"]
                    .iter()
                    .any(|one| name == **one)
            {
                folders.push(path);
            } else if name == SCRIPT_NAME && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What looks like the model, where one thing does.
fn model(code: &Path, notes: &mut Vec<String>) -> Result<Option<PathBuf>, String> {
    let folders = MODEL_FOLDERS.map(|name| code.join(name));
    let mut folders: Vec<_> = folders
        .into_iter()
        .filter(|folder| folder.is_dir())
        .collect();
    if folders.len() > 1 {
        return Err(format!(
            "the folder has both {} and {}: name the model with --model",
            MODEL_FOLDERS[0], MODEL_FOLDERS[1]
        ));
    }
    if let Some(folder) = folders.pop() {
        return Ok(Some(folder));
    }
    let mut files =
        model_files(code).map_err(|error| format!("cannot look through {code:?}: {error}"))?;
    if files.len() > 1 {
        notes.push(format!(
            "several files could be the model ({}), so none is given to the script: name one with --model",
            listed(&files, code)
        ));
        return Ok(None);
    }
    Ok(files.pop())
}

fn model_files(code: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(code)?.take(SCRIPT_FILES_MAX) {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_model = ending.is_some_and(|ending| MODEL_ENDINGS.contains(&ending));
        if is_model && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The files as they are seen from the folder.
fn listed(files: &[PathBuf], code: &Path) -> String {
    let names = files.iter().take(TOLD_MAX);
    let names = names.map(|file| {
        file.strip_prefix(code)
            .unwrap_or(file)
            .display()
            .to_string()
    });
    let names = names.collect::<Vec<_>>().join(", ");
    match files.len().checked_sub(TOLD_MAX) {
        None | Some(0) => names,
        Some(more) => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// A folder with these files; a name that ends in `/` is a folder.
        fn with(names: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                let path = folder.path().join(name);
                if name.ends_with('/') {
                    fs::create_dir_all(path).unwrap();
                } else {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "").unwrap();
                }
            }
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap()
        }

        fn typed(&self) -> ScriptCheck {
            ScriptCheck {
                code: self.path(),
                script: None,
                model: None,
                environment: None,
                any_python: false,
                request: None,
            }
        }

        /// Script, model and request, as seen from the folder.
        fn found(&self) -> [Option<String>; 3] {
            let found = ScriptFolder::find(&self.typed()).unwrap();
            [Some(found.script), found.model, found.request].map(|path| {
                let path = path?.strip_prefix(self.path()).unwrap().to_owned();
                Some(path.to_str().unwrap().to_owned())
            })
        }

        fn problem(&self) -> String {
            ScriptFolder::find(&self.typed()).unwrap_err()
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_only_script_with_its_model_and_sample_is_found_wherever_it_lies() {
        let flat = Folder::with(&["score.py", "model.pkl", "sample-request.json", "README.md"]);
        let expected = [
            some("score.py"),
            some("model.pkl"),
            some("sample-request.json"),
        ];
        assert_eq!(flat.found(), expected);
        let deep = Folder::with(&[
            "onlinescoring/score.py",
            "onlinescoring/sample-request.json",
            "models/a.bin",
            "sample-request.json",
            ".git/score.py",
            "lib/site-packages/x/score.py",
            "__pycache__/score.py",
            "other_score.py",
        ]);
        let expected = [
            "onlinescoring/score.py",
            "models",
            "onlinescoring/sample-request.json",
        ];
        assert_eq!(deep.found(), expected.map(some));
        let bare = Folder::with(&["score.py"]);
        assert_eq!(bare.found(), [some("score.py"), None, None]);
        let notes = ScriptFolder::find(&bare.typed()).unwrap().notes;
        assert!(notes[0].contains("run() is not called"), "{notes:?}");
    }

    #[test]
    fn what_could_be_two_things_is_not_guessed() {
        let two = Folder::with(&["score.py", "a/score.py", "model/", "models/"]);
        let problem = two.problem();
        assert!(
            problem.contains("(a/score.py, score.py): name one with --script"),
            "{problem}"
        );
        assert!(problem.contains("both model and models"), "{problem}");
        assert_eq!(problem.lines().count(), 2);
        let typed = ScriptCheck {
            script: Some("a/score.py".into()),
            model: Some(two.path().join("models")),
            ..two.typed()
        };
        let found = ScriptFolder::find(&typed).unwrap();
        assert_eq!(found.script, two.path().join("a/score.py"));
        assert_eq!(found.model, Some(two.path().join("models")));
        let files = Folder::with(&["score.py", "a.pkl", "b.onnx"]);
        let found = ScriptFolder::find(&files.typed()).unwrap();
        assert_eq!(found.model, None);
        assert!(
            found.notes[0].contains("(a.pkl, b.onnx)"),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn what_is_missing_or_elsewhere_is_told_with_what_to_do() {
        let none = Folder::with(&["main.py"]);
        assert!(
            none.problem()
                .contains("name the scoring script with --script"),
            "{}",
            none.problem()
        );
        let file = ScriptCheck {
            code: none.path().join("main.py"),
            ..none.typed()
        };
        let problem = ScriptFolder::find(&file).unwrap_err();
        assert!(problem.ends_with("with --script main.py"), "{problem}");
        for (script, expected) in [
            ("none.py", "seen from the folder"),
            (".", "found no file"),
            ("/etc/hostname", "outside"),
        ] {
            let typed = ScriptCheck {
                script: Some(script.into()),
                ..none.typed()
            };
            let problem = ScriptFolder::find(&typed).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        for (model, expected) in [
            ("/no/such/model", "No such file"),
            ("/dev/zero", "neither a file nor a folder"),
        ] {
            let typed = ScriptCheck {
                model: Some(model.into()),
                ..none.typed()
            };
            let problem = ScriptFolder::find(&typed).unwrap_err();
            assert_eq!(problem.lines().count(), 2, "{problem}");
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn a_circle_of_links_and_a_folder_without_end_are_looked_through_in_bounded_time() {
        let folder = Folder::with(&["a/"]);
        symlink(folder.path(), folder.path().join("a/again")).unwrap();
        assert!(folder.problem().contains("no score.py"));
        for number in 0..=SCRIPT_FILES_MAX {
            fs::write(folder.path().join(format!("{number}.txt")), "").unwrap();
        }
        assert!(
            folder.problem().contains("more than"),
            "{}",
            folder.problem()
        );
    }
}

//! The files that a change names, gathered before it is accepted: models and code are copied in, environment files are read.
//!
//! What is wrong with a script's files is found here and told by the validator, beside all else that is wrong with the change.
//!
//! Threads: [`gather`] blocks, the rest is data. Not here: which files a change needs (`validator`).

use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "server")]
use std::io;
#[cfg(feature = "server")]
use std::path::Path;
use std::path::PathBuf;

#[cfg(feature = "server")]
use crate::config::SPEC_FILE_BYTES_MAX;
use crate::control::models::{Ingested, ModelDigest};
#[cfg(feature = "server")]
use crate::control::models::{ModelFiles, ModelStoreError};
#[cfg(feature = "server")]
use crate::control::needs::Needs;
use crate::control::needs::ScriptSource;
#[cfg(feature = "server")]
use crate::control::refusal::ErrorKind;
use crate::control::script::StoredRecipe;
#[cfg(feature = "server")]
use crate::environments::Recipe;
#[cfg(feature = "server")]
use crate::plain_file;
#[cfg(feature = "server")]
use crate::spec::{EnvironmentSource, SpecError};

/// All that was gathered.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    pub(super) models: BTreeMap<PathBuf, Ingested>,
    /// With all that is wrong with one, in sentences.
    pub(super) scripts: Vec<(ScriptSource, Result<GatheredScript, Vec<String>>)>,
}

/// The files of a script as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GatheredScript {
    pub(super) code: ModelDigest,
    /// The name of its folder.
    pub(super) folder: String,
    /// The places of the files of the code.
    pub(super) files: BTreeSet<String>,
    pub(super) recipe: Option<StoredRecipe>,
}

impl Gathered {
    /// Takes over what was gathered later.
    pub(super) fn extend(&mut self, later: Self) {
        self.models.extend(later.models);
        self.scripts.extend(later.scripts);
    }

    /// The files of a script, if they were gathered.
    pub(super) fn script(
        &self,
        source: &ScriptSource,
    ) -> Option<&Result<GatheredScript, Vec<String>>> {
        let found = self.scripts.iter().find(|(known, _)| known == source);
        found.map(|(_, script)| script)
    }
}

/// Gathers what a change names. Blocks.
///
/// # Errors
///
/// What is wrong with a model, and what the disk refuses.
#[cfg(feature = "server")]
pub(super) fn gather(files: &ModelFiles, needs: &Needs) -> Result<Gathered, ModelStoreError> {
    let mut gathered = Gathered::default();
    // Text first: a slip in it need not wait for gigabytes.
    for source in &needs.scripts {
        let script = gather_script(files, source)?;
        gathered.scripts.push((source.clone(), script));
    }
    for path in &needs.models {
        let ingested = files.ingest(path)?;
        gathered.models.insert(path.clone(), ingested);
    }
    Ok(gathered)
}

#[cfg(feature = "server")]
fn gather_script(
    files: &ModelFiles,
    source: &ScriptSource,
) -> Result<Result<GatheredScript, Vec<String>>, ModelStoreError> {
    let recipe = source.environment.as_ref().map(read_recipe).transpose();
    let mut problems = Vec::new();
    let recipe = recipe.unwrap_or_else(|wrong| {
        problems = wrong;
        None
    });
    match files.ingest_code(&source.code) {
        Ok(code) if problems.is_empty() => Ok(Ok(GatheredScript {
            code: code.digest,
            folder: code.name,
            files: code.files,
            recipe: recipe
                .map(|recipe| StoredRecipe::of(&recipe.with_any_python(source.any_python))),
        })),
        Ok(_) => Ok(Err(problems)),
        Err(error) if error.kind() == ErrorKind::Storage => Err(error),
        Err(error) => {
            problems.insert(0, format!("code_configuration.code: {error}"));
            Ok(Err(problems))
        }
    }
}

#[cfg(feature = "server")]
fn read_recipe(source: &EnvironmentSource) -> Result<Recipe, Vec<String>> {
    let include = |path: &Path| read_text(path);
    let in_words = |error: SpecError| {
        let problems = error.to_string();
        let problems = problems.lines().map(|line| format!("environment: {line}"));
        problems.collect()
    };
    match source {
        EnvironmentSource::File(file) => {
            let text = read_text(file).map_err(|error| vec![unread(file, &error)])?;
            Recipe::read(file, &text, &include).map_err(in_words)
        }
        EnvironmentSource::Record(record) => {
            let conda_file = record["conda_file"].as_str().map(Path::new);
            if let Some(file) = conda_file {
                read_text(file).map_err(|error| vec![unread(file, &error)])?;
            }
            let file = conda_file.unwrap_or(Path::new("the deployment's file"));
            Recipe::of_record(file, record, &include).map_err(in_words)
        }
    }
}

#[cfg(feature = "server")]
fn unread(file: &Path, error: &io::Error) -> String {
    let file = file.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "environment: expected a conda file or a requirements.txt, found nothing at {file}"
        ),
        _ => format!("environment: cannot read {file}: {error}"),
    }
}

#[cfg(feature = "server")]
fn read_text(file: &Path) -> io::Result<String> {
    let bytes = plain_file::read(file, SPEC_FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let words = format!("expected UTF-8 text, found another byte behind the first {at}");
        io::Error::new(io::ErrorKind::InvalidData, words)
    })
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        files: ModelFiles,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (file, content) in [
                ("src/m1/score.py", "def run(data): return data"),
                ("src/.git/config", "hidden"),
                ("src/m1/__pycache__/score.pyc", "compiled"),
                ("bare/.hidden", ""),
                ("file.py", "x"),
                ("env.txt", "six\n"),
            ] {
                let file = folder.path().join(file);
                fs::create_dir_all(file.parent().expect("a parent")).expect("made");
                fs::write(file, content).expect("written");
            }
            fs::write(folder.path().join("latin.txt"), b"six # caf\xe9").expect("written");
            let files = ModelFiles::open(&folder.path().join("data"));
            Self {
                files: files.expect("opens"),
                folder,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn gather(
            &self,
            code: &Path,
            environment: Option<EnvironmentSource>,
        ) -> Result<GatheredScript, Vec<String>> {
            let source = ScriptSource {
                code: code.to_owned(),
                environment,
                any_python: false,
            };
            let needs = Needs {
                scripts: vec![source.clone()],
                ..Needs::default()
            };
            let gathered = gather(&self.files, &needs).expect("the disk does its part");
            gathered.script(&source).expect("it was gathered").clone()
        }

        /// What is wrong, with the folder as `[folder]`.
        #[track_caller]
        fn check_refused(
            &self,
            code: &Path,
            environment: Option<EnvironmentSource>,
            problems: &[&str],
        ) {
            let refused = self.gather(code, environment).expect_err("refused");
            let folder = self.folder.path().display().to_string();
            let said: Vec<_> = refused
                .iter()
                .map(|said| said.replace(&folder, "[folder]"))
                .collect();
            assert_eq!(said, problems);
        }

        fn file(&self, name: &str) -> Option<EnvironmentSource> {
            Some(EnvironmentSource::File(self.path(name)))
        }
    }

    #[test]
    fn code_is_stored_without_what_is_hidden_or_compiled_and_by_its_content() {
        let place = Place::new();
        let script = place.gather(&place.path("src"), None).expect("gathered");
        assert_eq!(script.files, BTreeSet::from(["m1/score.py".to_owned()]));
        let stored = place.files.folder(&script.code);
        assert!(stored.join("m1/score.py").is_file() && !stored.join(".git").exists());
        place.files.verify(&script.code).expect("whole");
        fs::write(place.path("src/m1/__pycache__/other.pyc"), "x").expect("written");
        assert_eq!(
            place
                .gather(&place.path("src"), None)
                .expect("gathered")
                .code,
            script.code
        );
        fs::write(place.path("src/m1/score.py"), "other").expect("written");
        assert_ne!(
            place
                .gather(&place.path("src"), None)
                .expect("gathered")
                .code,
            script.code
        );
    }

    #[test]
    fn code_that_is_no_folder_of_code_is_refused() {
        let place = Place::new();
        let refused = |code: &str, said: &str| {
            place.check_refused(&place.path(code), None, &[said]);
        };
        refused(
            "file.py",
            "code_configuration.code: expected the folder of the scoring script, found a file at [folder]/file.py; scoring: native scores an ONNX model without its script",
        );
        refused(
            "none",
            "code_configuration.code: expected the folder of the scoring script, found nothing at [folder]/none; scoring: native scores an ONNX model without its script",
        );
        refused(
            "/",
            "code_configuration.code: expected the folder of the scoring script, found the root of all folders at /; scoring: native scores an ONNX model without its script",
        );
        refused(
            "bare",
            "code_configuration.code: [folder]/bare holds no code: expected the folder of the scoring script (hidden files and __pycache__ are left out)",
        );
        refused(
            "",
            "code_configuration.code: [folder]/ holds the data folder of this server, [folder]/data: give the folder of the code alone",
        );
        fs::create_dir(place.path("src/venv")).expect("made");
        std::os::unix::fs::symlink("/bin/sh", place.path("src/venv/python")).expect("a link");
        let real = fs::canonicalize("/bin/sh").expect("a shell");
        refused(
            "src",
            &format!(
                "code_configuration.code: [folder]/src/venv/python is a link to {}, out of the folder of the code: put the file \
                 itself there, or keep it out of that folder",
                real.display()
            ),
        );
    }

    #[test]
    fn a_folder_of_code_is_called_as_it_was_given_and_the_likes_of_dots_as_what_they_stand_for() {
        let place = Place::new();
        let link = place.path("current");
        std::os::unix::fs::symlink("src", &link).expect("a link");
        let dots = place.path("src/m1/..");
        for (code, name) in [
            (link, "current"),
            (dots, "src"),
            (place.path("src/."), "src"),
        ] {
            let script = place.gather(&code, None).expect("gathered");
            assert_eq!(script.folder, name);
        }
    }

    #[test]
    fn an_environment_file_that_is_no_text_is_refused_together_with_the_code() {
        let place = Place::new();
        let code = place.path("src");
        place.check_refused(&code, place.file("none.yml"), &["environment: expected a conda file or a requirements.txt, found nothing at [folder]/none.yml"]);
        place.check_refused(
            &code,
            place.file("src"),
            &["environment: cannot read [folder]/src: expected a file, found a folder"],
        );
        place.check_refused(&code, place.file("latin.txt"), &["environment: cannot read [folder]/latin.txt: expected UTF-8 text, found another byte behind the first 9"]);
        let record = json!({"image": "img", "conda_file": place.path("none.yml")});
        place.check_refused(
            &place.path("none"),
            Some(EnvironmentSource::Record(record)),
            &[
                "code_configuration.code: expected the folder of the scoring script, found nothing at [folder]/none; scoring: native scores an ONNX model without its script",
                "environment: expected a conda file or a requirements.txt, found nothing at [folder]/none.yml",
            ],
        );
    }

    #[test]
    fn the_recipe_is_kept_so_that_the_file_may_go() {
        let place = Place::new();
        let script = place
            .gather(&place.path("src"), place.file("env.txt"))
            .expect("gathered");
        let recipe = script.recipe.expect("a recipe").recipe();
        assert_eq!(recipe.file(), place.path("env.txt"));
    }
}

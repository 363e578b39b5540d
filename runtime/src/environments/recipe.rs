//! The recipe of an environment: what a file asks for, in the form by which two files that ask for the same are equal. Pure.
//!
//! Not here: the interpreters of this machine (`python`), and how a recipe becomes a folder (`cache`, `build`).

#[cfg(feature = "server")]
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
#[cfg(feature = "server")]
use serde_json::Value;
#[cfg(feature = "server")]
use sha2::{Digest as _, Sha256};

#[cfg(feature = "server")]
use super::conda;
#[cfg(feature = "server")]
use super::requirements::{Reader, Requirements};
use super::wish::PythonWish;
#[cfg(feature = "server")]
use crate::spec::{Content, Fields, Node, SpecError, parse, text};

/// Version of the normal form and of the way in which it is built: raise it when either changes.
#[cfg(feature = "server")]
const FORMAT: u32 = 1;

/// Everything that an environment is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The file that asks, for words.
    file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    python: Option<PythonWish>,
    #[serde(default)]
    any_python: bool,
    /// Requirements and options of pip, in order.
    #[serde(default)]
    lines: Vec<String>,
    #[serde(default)]
    constraints: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
}

impl Recipe {
    /// The same, content with the Python that is nearest to the one it asks for.
    #[must_use]
    pub fn with_any_python(mut self, any_python: bool) -> Self {
        self.any_python = any_python;
        self
    }

    /// The file that asks.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The name of the environment, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Requirements and options of pip, in order.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Words on what is kept without effect.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

#[cfg(feature = "server")]
impl Recipe {
    /// Reads a conda file or a `requirements.txt`; which of the two, its content says. `include` reads the files that it names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(
        file: &Path,
        text: &str,
        include: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, SpecError> {
        let mut problems = Vec::new();
        let mut recipe = Self::empty(file);
        if is_conda(file, text) {
            let node = parse(text, &file.display().to_string())?;
            recipe.take_conda(conda::read(node, file, include, &mut problems));
        } else {
            let mut reader = Reader::new(include, &mut problems);
            reader.file(file, text);
            recipe.take_requirements(reader.finish());
        }
        SpecError::unless_clean(&file.display().to_string(), Some(recipe), problems)
    }

    /// Reads the form of a record, `{name, image, conda_file, build, inference_config}`, which stands in the file of a deployment.
    /// A `conda_file` is a path seen from there, read with `include`, or the file's content itself.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, or with the file that it names.
    pub fn of_record(
        file: &Path,
        record: &Value,
        include: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, SpecError> {
        let mut problems = Vec::new();
        let node = Node::from_value("environment".to_owned(), record.clone());
        let mut fields = Fields::open(node, &mut problems);
        let mut recipe = Self::empty(file);
        recipe.name = fields.read("name", text);
        recipe.image = fields.read("image", text);
        for key in ["build", "inference_config"] {
            if fields.take(key).is_some() {
                let note =
                    format!("environment.{key} is kept without effect: serin runs no containers");
                recipe.notes.push(note);
            }
        }
        let conda_file = fields.take("conda_file");
        fields.ignore(&[
            "version",
            "os_type",
            "tags",
            "description",
            "properties",
            "docker",
            "path",
            "id",
            "$schema",
        ]);
        fields.finish(&[]);
        if let Some(image) = &recipe.image {
            recipe.notes.push(format!(
                "environment.image ({image}) is kept without effect: serin runs no containers"
            ));
        }
        match conda_file.as_ref().map(|node| &node.content) {
            None => {}
            Some(Content::Text(path)) => {
                let path = file
                    .parent()
                    .unwrap_or(Path::new(""))
                    .join(path.strip_prefix("file:").unwrap_or(path));
                match include(&path) {
                    Ok(text) => recipe.take(Self::read(&path, &text, include)?),
                    Err(error) => problems.extend(conda_file.map(|node| {
                        node.problem(format!("cannot read {}: {error}", path.display()))
                    })),
                }
            }
            Some(_) => {
                let read = conda_file.map(|node| conda::read(node, file, include, &mut problems));
                recipe.take_conda(read.unwrap_or_default());
            }
        }
        SpecError::unless_clean(&file.display().to_string(), Some(recipe), problems)
    }

    pub(super) fn python(&self) -> Option<&PythonWish> {
        self.python.as_ref()
    }

    pub(super) fn any_python(&self) -> bool {
        self.any_python
    }

    pub(super) fn constraints(&self) -> &[String] {
        &self.constraints
    }

    /// Whether the packages may come from places that no index lists, so that nothing may be added to what is asked for.
    pub(super) fn is_closed(&self) -> bool {
        self.lines.iter().any(|line| {
            line == "--no-index" || line == "--require-hashes" || line.contains("--hash=")
        })
    }

    /// The number of packages that are asked for by name.
    pub(super) fn packages(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| !line.starts_with('-'))
            .count()
    }

    /// The name of what is built from this with that version of Python: the same for files that differ in names and comments alone.
    #[must_use]
    pub fn hash(&self, python: &str) -> String {
        digest(&(FORMAT, python, &self.lines, &self.constraints))
    }

    /// The name of the choice of a Python for this.
    pub(super) fn choice_hash(&self) -> String {
        digest(&(
            FORMAT,
            &self.python,
            self.any_python,
            &self.lines,
            &self.constraints,
        ))
    }

    fn empty(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            name: None,
            image: None,
            python: None,
            any_python: false,
            lines: Vec::new(),
            constraints: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn take_requirements(&mut self, requirements: Requirements) {
        self.lines = requirements.lines;
        self.constraints = requirements.constraints;
    }

    fn take_conda(&mut self, read: conda::CondaFile) {
        self.name = self.name.take().or(read.name);
        self.python = read.python;
        self.notes.extend(read.notes);
        self.take_requirements(read.requirements);
    }

    /// Takes over what a file says that this names.
    fn take(&mut self, read: Self) {
        self.file = read.file;
        self.name = self.name.take().or(read.name);
        self.python = read.python;
        self.lines = read.lines;
        self.constraints = read.constraints;
        self.notes.extend(read.notes);
    }
}

#[cfg(feature = "server")]
fn digest(content: &impl Serialize) -> String {
    let text = serde_json::to_vec(content).expect("texts and numbers have a JSON form");
    let hash = Sha256::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A conda file is a mapping of some keys that no requirement looks like. Where nothing tells, the ending of the name does.
#[cfg(feature = "server")]
fn is_conda(file: &Path, text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let keys = ["name", "channels", "dependencies", "prefix", "variables"];
    let names_a_key = text.lines().any(|line| {
        let key = line.split_once(':').map(|(key, _)| key.trim_end());
        key.is_some_and(|key| keys.contains(&key.trim_matches(['"', '\''])))
    });
    let ending = file.extension().and_then(|ending| ending.to_str());
    names_a_key
        || text.trim_start().starts_with('{')
        || matches!(ending, Some("yml" | "yaml" | "YML" | "YAML" | "json"))
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use serde_json::json;

    use super::*;

    /// The seed's conda file, which other files of these tests name too.
    const SEED: &str =
        "name: project_environment\ndependencies:\n  - python=3.8\n  - pip:\n    - numpy==1.21.2\n";

    fn include(path: &Path) -> io::Result<String> {
        if path == Path::new("/d/env/conda.yml") {
            Ok(SEED.to_owned())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn read(file: &str, text: &str) -> Recipe {
        Recipe::read(Path::new(file), text, &include).expect("a recipe")
    }

    fn refused(file: &str, text: &str) -> String {
        let read = Recipe::read(Path::new(file), text, &include);
        read.expect_err("refused").to_string()
    }

    #[test]
    fn the_content_says_which_of_the_two_kinds_a_file_is() {
        let conda = read("/d/environment", SEED);
        assert_eq!(conda.lines(), ["numpy==1.21.2"]);
        assert_eq!(conda.python(), Some(&"3.8".parse().expect("a wish")));
        let plain = read("/d/environment", "numpy==1.21.2\n");
        assert_eq!(plain.lines(), conda.lines());
        assert_eq!(plain.python(), None);
        assert_eq!(read("/d/requirements.txt", SEED).lines(), conda.lines());
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        assert_eq!(
            refused("env.yml", "name: a\ndependencies: [numpy\nx: y\n"),
            "env.yml:3:2: expected YAML: illegal placement of ':' indicator"
        );
        assert_eq!(
            refused("env.yml", "numpy==1.21\n"),
            "env.yml: expected a mapping of keys to values, found \"numpy==1.21\""
        );
    }

    #[test]
    fn all_problems_of_a_file_are_told_with_their_lines() {
        assert_eq!(
            refused(
                "env.yml",
                "dependencies:\n- python=3.8\n- python=3.9\n- openssl\n- pip: [-e .]\nnam: x\n"
            )
            .lines()
            .map(|line| line.split(": ").next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>(),
            ["env.yml:3:3", "env.yml:4:3", "env.yml:5:9", "env.yml:6:1"]
        );
        assert_eq!(
            refused("r.txt", "numpy\n-e .\n").split("; ").next(),
            Some(
                "r.txt:2:1: expected a package of an index or an address, found an editable install"
            )
        );
    }

    #[test]
    fn names_and_comments_do_not_change_the_hash_and_anything_else_does() {
        let plain = read("/d/a.yml", SEED);
        let other = SEED.replace("project_environment", "other") + "# why\n";
        let other = read("/e/b.yml", &other);
        assert_ne!(plain, other);
        assert_eq!(plain.hash("3.8.18"), other.hash("3.8.18"));
        assert_eq!(plain.choice_hash(), other.choice_hash());
        assert_ne!(plain.hash("3.8.18"), plain.hash("3.8.17"));
        let packages = read("/d/a.yml", &SEED.replace("1.21.2", "1.21.3"));
        assert_ne!(plain.hash("3.8.18"), packages.hash("3.8.18"));
        let python = read("/d/a.yml", &SEED.replace("3.8", "3.9"));
        assert_ne!(plain.choice_hash(), python.choice_hash());
        let any = plain.clone().with_any_python(true);
        assert_ne!(plain.choice_hash(), any.choice_hash());
        assert_eq!(plain.hash("3.8.18").len(), 64);
    }

    #[test]
    fn a_recipe_that_is_stored_comes_back() {
        let recipe = read("/d/a.yml", SEED).with_any_python(true);
        let stored = serde_json::to_value(&recipe).expect("JSON");
        assert_eq!(
            serde_json::from_value::<Recipe>(stored).expect("stored"),
            recipe
        );
    }

    #[test]
    fn a_record_names_its_conda_file_or_holds_it() {
        let of = |record: Value| Recipe::of_record(Path::new("/d/blue.yml"), &record, &include);
        let named = of(
            json!({"name": "n", "version": 3, "image": "i", "conda_file": "file:env/conda.yml"}),
        )
        .expect("a recipe");
        assert_eq!(named.lines(), ["numpy==1.21.2"]);
        assert_eq!(named.name(), Some("n"));
        assert_eq!(named.file(), Path::new("/d/env/conda.yml"));
        let held =
            of(json!({"conda_file": {"dependencies": ["python=3.8", {"pip": ["numpy==1.21.2"]}]}}))
                .expect("a recipe");
        assert_eq!(held.hash("3.8.18"), named.hash("3.8.18"));
    }

    #[test]
    fn an_image_alone_asks_for_nothing_and_says_so() {
        let record = json!({"image": "mcr/x:1", "inference_config": {"scoring_route": {}}, "build": {"path": "."}});
        let recipe = Recipe::of_record(Path::new("blue.yml"), &record, &include).expect("a recipe");
        assert!(recipe.lines().is_empty());
        assert_eq!(recipe.notes().len(), 3);
        assert!(
            recipe.notes()[2].starts_with("environment.image (mcr/x:1) is kept without effect")
        );
    }

    #[test]
    fn a_record_that_is_wrong_is_refused() {
        for (record, words) in [
            (
                json!({"conda_fil": "x"}),
                "blue.yml: environment.conda_fil: unknown key; did you mean `conda_file`?",
            ),
            (
                json!({"conda_file": "gone.yml"}),
                "blue.yml: environment.conda_file: cannot read gone.yml: entity not found",
            ),
            (
                json!({"conda_file": {"dependencies": ["python=x"]}}),
                "blue.yml: environment.conda_file.dependencies[0]: expected a version of Python",
            ),
            (
                json!({"conda_file": 3}),
                "blue.yml: environment.conda_file: expected a mapping, found 3",
            ),
            (
                json!("x"),
                "blue.yml: environment: expected a mapping, found \"x\"",
            ),
        ] {
            let told = Recipe::of_record(Path::new("blue.yml"), &record, &include);
            let told = told.expect_err("refused").to_string();
            assert!(told.starts_with(words), "{told}");
        }
    }
}

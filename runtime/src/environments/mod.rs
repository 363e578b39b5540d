//! Environments of scoring scripts: from a conda file or a `requirements.txt` to a Python on this machine.
//!
//! Every recipe gets the Python of the path. Threads: everything blocks. Not here: building.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::SpecError;

/// Everything that an environment is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    file: PathBuf,
    any_python: bool,
    lines: Vec<String>,
    notes: Vec<String>,
}

impl Recipe {
    /// Reads a conda file or a `requirements.txt`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(
        file: &Path,
        text: &str,
        _include: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, SpecError> {
        Ok(Self {
            file: file.to_owned(),
            any_python: false,
            lines: text.lines().map(str::to_owned).collect(),
            notes: Vec::new(),
        })
    }

    /// Reads the form of a record.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, or with the file that it names.
    pub fn of_record(
        file: &Path,
        record: &Value,
        include: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, SpecError> {
        let text = match record["conda_file"].as_str() {
            Some(path) => include(Path::new(path)).unwrap_or_default(),
            None => record["conda_file"].to_string(),
        };
        let mut recipe = Self::read(file, &text, include)?;
        if let Some(image) = record["image"].as_str() {
            let note = format!("environment.image ({image}) is kept without effect");
            recipe.notes.push(note);
        }
        Ok(recipe)
    }

    /// The same, content with any Python.
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

    /// Words on what is kept without effect.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The reason why there is no environment.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EnvironmentError(String);

/// What a caller gives to a build besides the recipe.
pub struct BuildSettings<'a> {
    /// Told how it goes on.
    pub tell: &'a dyn Fn(&str),
    /// Asked whether to end it.
    pub cancel: &'a dyn Fn() -> bool,
}

impl fmt::Debug for BuildSettings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildSettings").finish_non_exhaustive()
    }
}

/// A Python and its packages.
#[derive(Debug, Clone)]
pub struct Environment {
    python: PathBuf,
    version: String,
}

impl Environment {
    /// The interpreter to start.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which one it is, for people.
    #[must_use]
    pub fn description(&self) -> String {
        format!("Python {} of the path", self.version)
    }
}

/// The environments of this machine.
#[derive(Debug, Clone)]
pub struct Environments;

impl Environments {
    /// Those in the cache.
    ///
    /// # Errors
    ///
    /// The reason why there can be none.
    pub fn in_cache() -> io::Result<Self> {
        Ok(Self)
    }

    /// The Python that a shell would start.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub fn python_of_the_path(&self) -> Result<Environment, EnvironmentError> {
        let asked = "import sys; print(sys.executable); print(sys.version.split()[0])";
        let answer = Command::new("python3").args(["-c", asked]).output();
        let answer = answer.map_err(|error| EnvironmentError(format!("no python3: {error}")))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let mut lines = text.lines().map(str::to_owned);
        match (lines.next(), lines.next()) {
            (Some(python), Some(version)) => Ok(Environment {
                python: python.into(),
                version,
            }),
            _ => Err(EnvironmentError("python3 does not answer".to_owned())),
        }
    }

    /// The environment of a recipe. Blocks.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub fn ready(
        &self,
        recipe: &Recipe,
        settings: &BuildSettings<'_>,
    ) -> Result<Environment, EnvironmentError> {
        (settings.tell)(&format!("reading {}", recipe.file().display()));
        if (settings.cancel)() {
            return Err(EnvironmentError("it is not wanted any more".to_owned()));
        }
        self.python_of_the_path()
    }
}

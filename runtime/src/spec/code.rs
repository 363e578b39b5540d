//! The code of a deployment as it is written: a folder, and the scoring script in it; and whether it is run. Pure.
//!
//! Files give the path of a script in two ways: seen from the folder of the code, or seen from themselves. Which of the two is meant
//! shows when somebody looks; here is said where to look. Not here: looking (`control`).

use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::Problem;
use super::fields::{Fields, text};
use super::node::Node;
use super::paths::{is_asset, resolve};
use super::spelling::{self, old_keys};

/// The scoring script of a deployment, and the folder that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodeConfiguration {
    /// The folder of the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<PathBuf>,
    /// The script within it, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scoring_script: Option<PathBuf>,
    /// The folder of the file, where the script may be meant as seen from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_to: Option<PathBuf>,
}

/// The way in which a deployment scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring<'a> {
    /// Its ONNX model, without a script.
    Native,
    /// By this script.
    Script(&'a CodeConfiguration),
}

/// `scoring` of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoringKind {
    /// The ONNX model, without a script.
    Native,
    /// A script.
    Script,
}

/// `environment_python` of a deployment: which Python will do for its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentPython {
    /// The one that the environment asks for.
    Exact,
    /// The nearest that there is.
    Any,
}

impl CodeConfiguration {
    /// Makes the folder absolute, seen from the folder `base` of the file.
    ///
    /// The script stays as written; `base` is kept where it may be seen from there too.
    pub(super) fn resolve_paths(&mut self, base: &Path) {
        let code = self.code.take();
        self.code = code.map(|code| match is_asset(&code.to_string_lossy()) {
            true => code,
            false => resolve(&code, base),
        });
        let before = self.places().len();
        self.relative_to = Some(resolve(Path::new(""), base));
        if self.places().len() == before {
            self.relative_to = None;
        }
    }

    /// The places of the script below the folder of the code, in the order in which they are to be looked at. None where it is outside.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let (Some(code), Some(script)) = (&self.code, &self.scoring_script) else {
            return Vec::new();
        };
        let bases = [Some(code), self.relative_to.as_ref()];
        let mut places = Vec::new();
        for base in bases.into_iter().flatten() {
            let place = below(&base.join(script), code);
            places.extend(place.filter(|place| !places.contains(place)));
        }
        places
    }
}

/// The path as seen from a folder that it is in.
fn below(path: &Path, folder: &Path) -> Option<String> {
    let path = tidied(path);
    let place = path.strip_prefix(tidied(folder)).ok()?;
    let place = place.to_string_lossy();
    (!place.is_empty() && !place.starts_with("..")).then(|| place.into_owned())
}

/// The path without `.`, and without `..` where it follows a folder.
fn tidied(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(tidied.components().next_back(), Some(Component::Normal(_))) =>
            {
                tidied.pop();
            }
            // Above the root there is only the root.
            Component::ParentDir if tidied.has_root() => {}
            part => tidied.push(part),
        }
    }
    tidied
}

/// Reads `code_configuration` in current spelling.
pub(super) fn read_code(node: Node, problems: &mut Vec<Problem>) -> CodeConfiguration {
    let mut fields = Fields::open(node, problems);
    let code = CodeConfiguration {
        code: fields
            .read("code", text)
            .map(|code| code.strip_prefix("file:").unwrap_or(&code).into()),
        scoring_script: fields.read("scoring_script", text).map(PathBuf::from),
        relative_to: fields.read("relative_to", text).map(PathBuf::from),
    };
    fields.finish(&old_keys(spelling::DEPLOYMENT, "code_configuration"));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of a script in a file in `/configs`.
    fn places(code: &str, script: &str) -> Vec<String> {
        let mut written = CodeConfiguration {
            code: Some(code.into()),
            scoring_script: Some(script.into()),
            relative_to: None,
        };
        written.resolve_paths(Path::new("/configs"));
        written.places()
    }

    #[test]
    fn a_script_is_looked_for_from_the_code_first_and_then_from_the_file_if_that_is_in_the_code() {
        assert_eq!(places("./src/", "m1/score.py"), ["m1/score.py"]);
        assert_eq!(
            places("./src/m2/", "./src/m2/score.py"),
            ["src/m2/score.py", "score.py"]
        );
        assert_eq!(places(".", "score.py"), ["score.py"]);
        assert_eq!(places("../code", "../code/a/score.py"), ["a/score.py"]);
        assert_eq!(places("/code", "/code/score.py"), ["score.py"]);
        assert_eq!(places("src", "deep/../score.py"), ["score.py"]);
    }

    #[test]
    fn a_script_outside_of_the_code_has_no_place() {
        for script in [
            "../score.py",
            "/score.py",
            "/srcs/score.py",
            ".",
            "",
            "a/../../x.py",
            "../../../../../src.py",
        ] {
            assert_eq!(places("/src", script), [""; 0], "{script}");
        }
        assert_eq!(places("azureml:code:1", "score.py"), ["score.py"]);
    }

    #[test]
    fn the_folder_of_the_file_is_kept_only_where_it_says_something() {
        let kept = |script: &str| {
            let mut written = CodeConfiguration {
                code: Some("src".into()),
                scoring_script: Some(script.into()),
                relative_to: None,
            };
            written.resolve_paths(Path::new("/configs"));
            written.relative_to
        };
        assert_eq!(kept("score.py"), None);
        assert_eq!(kept("src/score.py"), Some("/configs".into()));
    }
}

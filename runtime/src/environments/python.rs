//! The interpreters of this machine, and which of them a recipe gets.
//!
//! Candidates are files in the places where people have them; each is asked who it is, because a name proves nothing: pyenv puts
//! a `python3.8` on the path that only says that there is none. The choice is pure.
//!
//! Threads: blocks, and asks from a few threads of its own that are gone when it returns. Not here: environments (`cache`).

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::command::{self, Ended};
use super::recipe::Recipe;
use super::wish::Version;
use crate::config::{INTERPRETER_ANSWER_MAX, INTERPRETERS_ASKED_AT_ONCE};

/// The oldest Python that scripts run with.
const OLDEST: (u32, u32) = (3, 6);

/// The question, which Python 2 understands too.
const WHO_ARE_YOU: &str = "\
import sys
try:
    import ensurepip, venv
    able = 1
except ImportError:
    able = 0
kind = getattr(sys, 'implementation', None)
print('serin:%d.%d.%d|%s|%d|%s|%s' % (tuple(sys.version_info[:3]) + (kind.name if kind else 'cpython', able, sys.executable, sys.prefix)))
";

/// One Python of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    /// Whether it makes virtual environments with pip in them; some systems take that out.
    pub(super) makes_environments: bool,
    /// Two files with the same one are the same Python.
    prefix: PathBuf,
}

/// The reason why no interpreter will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPython {
    /// The file and the version that it asks for; none where any would do.
    wanted: Option<(PathBuf, String)>,
    found: Vec<Version>,
}

impl fmt::Display for NoPython {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = OLDEST;
        match &self.wanted {
            Some((file, wish)) => write!(
                f,
                "{} asks for Python {wish}, and this machine has ",
                file.display()
            )?,
            None => write!(
                f,
                "expected Python {major}.{minor} or later as `python3` on the path, found "
            )?,
        }
        if self.found.is_empty() {
            f.write_str("no Python (looked on the path, in ~/.pyenv/versions, in conda's folders and in uv's); install it")?;
        } else {
            let found: Vec<String> = self.found.iter().map(Version::to_string).collect();
            write!(f, "{}; install it", found.join(", "))?;
        }
        match &self.wanted {
            Some(_) if self.found.iter().any(|version| is_new_enough(*version)) => f.write_str(
                ", or write `environment_python: any` in the deployment's file to take the nearest",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for NoPython {}

/// Where interpreters are looked for.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The folders of the path, in order.
    pub(super) path: Vec<PathBuf>,
    /// Folders that hold a folder for each version, which has `bin/python`.
    pub(super) versions: Vec<PathBuf>,
    /// Folders that are one installation.
    pub(super) installations: Vec<PathBuf>,
}

impl Places {
    pub(super) fn of_machine() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        let below_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
        let pyenv = variable("PYENV_ROOT")
            .map(PathBuf::from)
            .or_else(|| below_home(".pyenv"));
        let data = variable("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| below_home(".local/share"));
        let uv = variable("UV_PYTHON_INSTALL_DIR").map(PathBuf::from);
        let mut installations: Vec<PathBuf> =
            ["miniconda3", "anaconda3", "miniforge3", "mambaforge"]
                .iter()
                .filter_map(|name| below_home(name))
                .collect();
        installations.push("/opt/conda".into());
        installations.extend(variable("CONDA_PREFIX").map(PathBuf::from));
        let mut versions: Vec<PathBuf> = installations.iter().map(|one| one.join("envs")).collect();
        versions.extend(below_home(".conda/envs"));
        versions.extend(pyenv.map(|pyenv| pyenv.join("versions")));
        versions.extend(uv.or_else(|| data.map(|data| data.join("uv/python"))));
        Self {
            path: variable("PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
            versions,
            installations,
        }
    }

    /// The first program of that name on the path.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| is_program(file))
    }

    /// The Python that a shell would start.
    ///
    /// # Errors
    ///
    /// [`NoPython`] when none answers that is new enough.
    pub(super) fn of_the_path(&self) -> Result<Interpreter, NoPython> {
        let mut found = Vec::new();
        for name in ["python3", "python"] {
            for file in self
                .path
                .iter()
                .map(|folder| folder.join(name))
                .filter(|file| is_program(file))
            {
                match ask(&file) {
                    Some(one) if is_new_enough(one.version) => return Ok(one),
                    Some(old) => found.push(old.version),
                    None => {}
                }
            }
        }
        found.dedup();
        Err(NoPython {
            wanted: None,
            found,
        })
    }

    /// Every Python there is, that of the path first.
    pub(super) fn all(&self) -> Vec<Interpreter> {
        let mut found: Vec<Interpreter> = Vec::new();
        for some in self.candidates().chunks(INTERPRETERS_ASKED_AT_ONCE) {
            for one in ask_all(some) {
                let known = |other: &Interpreter| {
                    other.prefix == one.prefix && other.version == one.version
                };
                if !found.iter().any(known) {
                    found.push(one);
                }
            }
        }
        found
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for name in ["python3", "python"] {
            files.extend(self.path.iter().map(|folder| folder.join(name)));
        }
        for folder in &self.path {
            files.extend(
                entries(folder)
                    .into_iter()
                    .filter(|file| is_named_by_version(file)),
            );
        }
        files.extend(self.installations.iter().map(|one| one.join("bin/python")));
        for folder in &self.versions {
            files.extend(
                entries(folder)
                    .into_iter()
                    .map(|one| one.join("bin/python3")),
            );
        }
        let mut seen = Vec::new();
        files.retain(|file| {
            let is_new = is_program(file) && !seen.contains(file);
            seen.push(file.clone());
            is_new
        });
        files
    }
}

/// `python3.8`; `python3.8-config` is another program.
fn is_named_by_version(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let minor = name.strip_prefix("python3.").unwrap_or_default();
    !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit())
}

/// The content of a folder in order of names; nothing where there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = found.filter_map(|one| Some(one.ok()?.path())).collect();
    found.sort();
    found
}

fn is_program(file: &Path) -> bool {
    let is_executable = rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    is_executable && fs::metadata(file).is_ok_and(|file| file.is_file())
}

fn ask_all(files: &[PathBuf]) -> Vec<Interpreter> {
    thread::scope(|scope| {
        let asked = files.iter().map(|file| {
            let builder = thread::Builder::new().name("serin-python".to_owned());
            builder.spawn_scoped(scope, move || ask(file))
        });
        // All are asked before the first answer is waited for.
        let asked: Vec<_> = asked.collect();
        let answers = asked
            .into_iter()
            .filter_map(|asked| asked.ok()?.join().ok()?);
        answers.collect()
    })
}

/// Asks a file which Python it is; nothing where it is none.
fn ask(file: &Path) -> Option<Interpreter> {
    let mut question = Command::new(file);
    question.args(["-c", WHO_ARE_YOU]).stdin(Stdio::null());
    command::leave_out_foreign_variables(&mut question);
    let mut answer = None;
    let until = Instant::now() + INTERPRETER_ANSWER_MAX;
    let ended = command::run(question, until, &|| false, &mut |line| {
        answer = answer.take().or_else(|| answer_of(line));
    });
    answer.filter(|_| matches!(ended, Ok(Ended::Status(status)) if status.success()))
}

/// Whether a program says its version: a name on the path may stand for one that is not there.
pub(super) fn answers(program: &Path) -> bool {
    let mut question = Command::new(program);
    question.arg("--version").stdin(Stdio::null());
    let until = Instant::now() + INTERPRETER_ANSWER_MAX;
    let ended = command::run(question, until, &|| false, &mut |_| {});
    matches!(ended, Ok(Ended::Status(status)) if status.success())
}

fn answer_of(line: &str) -> Option<Interpreter> {
    let mut parts = line.strip_prefix("serin:")?.splitn(5, '|');
    let version = parts.next()?.parse().ok()?;
    let kind = parts.next()?;
    let makes_environments = parts.next()? == "1";
    let path = PathBuf::from(parts.next()?);
    let prefix = PathBuf::from(parts.next()?);
    // Packages of the index are built for CPython.
    (kind == "cpython" && path.is_absolute()).then_some(Interpreter {
        path,
        version,
        makes_environments,
        prefix,
    })
}

fn is_new_enough(version: Version) -> bool {
    (version.major, version.minor) >= OLDEST
}

/// The interpreter for a recipe that asks for one, of those found, that of the path first.
///
/// Where one minor version is asked for, the highest patch of it. Where several will do, the one of the path if it is among them, for it
/// is what the person uses; else the newest. `any_python` goes on to the nearest minor version.
///
/// # Errors
///
/// [`NoPython`] with what was found.
pub(super) fn choose<'a>(
    recipe: &Recipe,
    found: &'a [Interpreter],
) -> Result<&'a Interpreter, NoPython> {
    let usable: Vec<&Interpreter> = found
        .iter()
        .filter(|one| is_new_enough(one.version))
        .collect();
    // The first of the best, where several are equally good.
    let best = |of: Vec<&'a Interpreter>| {
        of.into_iter()
            .rev()
            .max_by_key(|one| (one.version, one.makes_environments))
    };
    let none = || {
        let mut versions: Vec<Version> = found.iter().map(|one| one.version).collect();
        versions.sort_unstable();
        versions.dedup();
        NoPython {
            wanted: recipe
                .python()
                .map(|wish| (recipe.file().to_owned(), wish.to_string())),
            found: versions,
        }
    };
    let Some(wish) = recipe.python() else {
        return usable.first().copied().ok_or_else(none);
    };
    let will_do: Vec<&Interpreter> = usable
        .iter()
        .copied()
        .filter(|one| wish.grants(one.version))
        .collect();
    let of_the_path = usable
        .first()
        .filter(|one| wish.grants(one.version) && !wish.names_a_minor());
    if let Some(one) = of_the_path.copied().or_else(|| best(will_do)) {
        return Ok(one);
    }
    if !recipe.any_python() {
        return Err(none());
    }
    let (major, minor) = wish.near();
    let distance =
        |version: Version| (version.major.abs_diff(major), version.minor.abs_diff(minor));
    let nearest = usable
        .iter()
        .map(|one| distance(one.version))
        .min()
        .ok_or_else(none)?;
    best(
        usable
            .into_iter()
            .filter(|one| distance(one.version) == nearest)
            .collect(),
    )
    .ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::super::testing::write_program;
    use super::*;

    fn interpreter(version: &str, path: &str) -> Interpreter {
        Interpreter {
            path: path.into(),
            version: version.parse().expect("a version"),
            makes_environments: true,
            prefix: path.into(),
        }
    }

    fn recipe(python: &str) -> Recipe {
        let text = format!("dependencies: [\"python{python}\"]\n");
        Recipe::read(Path::new("env.yml"), &text, &|_| Ok(String::new())).expect("a recipe")
    }

    fn machine() -> Vec<Interpreter> {
        let versions = [
            "3.11.2", "2.7.18", "3.8.10", "3.8.18", "3.9.18", "3.12.1", "3.12.1",
        ];
        (0..)
            .zip(versions)
            .map(|(n, version)| interpreter(version, &format!("/{n}")))
            .collect()
    }

    fn chosen(recipe: &Recipe) -> String {
        let found = machine();
        let chosen = choose(recipe, &found).expect("a Python");
        format!("{} {}", chosen.version, chosen.path.display())
    }

    #[test]
    fn the_highest_patch_of_the_minor_version_that_is_asked_for_is_taken() {
        assert_eq!(chosen(&recipe("=3.8")), "3.8.18 /3");
        assert_eq!(chosen(&recipe("=3.8.10")), "3.8.10 /2");
        assert_eq!(chosen(&recipe("=3.12")), "3.12.1 /5");
    }

    #[test]
    fn where_several_will_do_the_one_of_the_path_is_taken_and_else_the_newest() {
        assert_eq!(chosen(&recipe("")), "3.11.2 /0");
        assert_eq!(chosen(&recipe(">=3.8")), "3.11.2 /0");
        assert_eq!(chosen(&recipe(">=3.8,<3.11")), "3.9.18 /4");
    }

    #[test]
    fn one_that_makes_environments_goes_before_its_equal() {
        let mut found = vec![interpreter("3.8.10", "/a"), interpreter("3.8.10", "/b")];
        found[0].makes_environments = false;
        assert_eq!(
            choose(&recipe("=3.8"), &found).expect("a Python").path,
            Path::new("/b")
        );
    }

    #[test]
    fn any_python_takes_the_nearest() {
        for (wish, version) in [
            ("=3.10", "3.11.2 /0"),
            ("=3.7", "3.8.18 /3"),
            ("=3.13", "3.12.1 /5"),
            ("=3.8.1", "3.8.18 /3"),
        ] {
            assert_eq!(
                chosen(&recipe(wish).with_any_python(true)),
                version,
                "{wish}"
            );
        }
    }

    #[test]
    fn where_none_will_do_it_says_what_was_found_and_how_to_go_on() {
        let told = choose(&recipe("=3.10"), &machine())
            .expect_err("refused")
            .to_string();
        assert_eq!(
            told,
            "env.yml asks for Python 3.10, and this machine has 2.7.18, 3.8.10, 3.8.18, 3.9.18, 3.11.2, 3.12.1; install it, or write \
             `environment_python: any` in the deployment's file to take the nearest"
        );
        let old = [interpreter("2.7.18", "/a")];
        let told = choose(&recipe("=2.7").with_any_python(true), &old).expect_err("refused");
        assert_eq!(
            told.to_string(),
            "env.yml asks for Python 2.7, and this machine has 2.7.18; install it"
        );
        let told = choose(&recipe(""), &[]).expect_err("refused").to_string();
        assert!(
            told.starts_with(
                "expected Python 3.6 or later as `python3` on the path, found no Python (looked on"
            ),
            "{told}"
        );
    }

    #[test]
    fn a_program_that_only_says_that_there_is_none_is_no_python() {
        let folder = tempfile::tempdir().expect("a folder");
        let shim = |name: &str, script: &str| {
            write_program(&folder.path().join(name), script);
        };
        shim(
            "python3",
            "echo 'pyenv: python3: command not found' >&2; exit 127",
        );
        shim("python3.9", "echo 'serin:3.9.1|pypy|1|/x|/y'");
        shim("python3.10", "echo 'serin:3.10.1|cpython|1|/x|/y'; exit 1");
        shim(
            "python3.11",
            "echo warning >&2; echo 'serin:3.11.1|cpython|0|/x|/y'",
        );
        shim("python3.11-config", "echo 'serin:3.11.2|cpython|1|/x|/z'");
        shim("python3.12", "exec /none");
        shim("python", "echo 'serin:3.11.1|cpython|0|/x|/y'");
        let places = Places {
            path: vec![folder.path().to_owned()],
            versions: Vec::new(),
            installations: Vec::new(),
        };
        let found: Vec<String> = places
            .all()
            .iter()
            .map(|one| one.version.to_string())
            .collect();
        assert_eq!(found, ["3.11.1"]);
        assert_eq!(
            places.of_the_path().expect("a Python").version.to_string(),
            "3.11.1"
        );
    }

    #[test]
    fn the_python_of_this_machine_is_found() {
        let found = Places::of_machine()
            .of_the_path()
            .expect("a Python on the path");
        assert!(found.path.is_file(), "{found:?}");
    }
}

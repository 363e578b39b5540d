//! One build: a virtual environment and the packages in it, by `uv` where there is one and by `venv` and pip else.
//!
//! Every command of a build has the lock of the environment as its standard input. It reads as empty, so nothing waits for an answer;
//! and a command that outlives this process holds the lock until it has ended, so that nobody builds at the same place meanwhile.
//!
//! Threads: blocks whoever calls. Not here: the lock itself, and what becomes of a failed build (`cache`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::command::{self, Ended};
use super::python::Interpreter;
use super::recipe::Recipe;
use super::settings::BuildSettings;
use super::wish::Version;
use super::words;
use crate::config::{ENVIRONMENT_BUILD_MAX, ENVIRONMENT_LAST_LINES, ENVIRONMENT_LOG_BYTES_MAX};

/// What is set for every command: nothing asks, nothing of the user's own packages is seen, and lines come when they are written.
const VARIABLES: &[(&str, &str)] = &[
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PIP_NO_INPUT", "1"),
    ("PIP_USER", "0"),
    ("PIP_PROGRESS_BAR", "off"),
    ("PYTHONNOUSERSITE", "1"),
    ("PYTHONUNBUFFERED", "1"),
    ("PYTHONIOENCODING", "utf-8"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("UV_NO_PROGRESS", "1"),
    ("UV_PYTHON_DOWNLOADS", "never"),
    ("NO_COLOR", "1"),
];

/// Settings of pip that uv has under another name: a person has told one of the two where packages are.
const SETTINGS_OF_PIP: &[(&str, &str)] = &[
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
    ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
    ("PIP_CERT", "SSL_CERT_FILE"),
];

/// Asks the system to end the command with this process, and becomes it, behind those who serve meanwhile. Where the system cannot be
/// asked, the lock still does its part.
const LAUNCH: &str = "\
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
except Exception:
    pass
os.nice(10)
if os.getppid() != int(sys.argv[1]):
    sys.exit('the process that builds has ended')
os.execv(sys.argv[2], sys.argv[2:])
";

/// The oldest Python that uv makes environments for.
const OLDEST_OF_UV: (u32, u32) = (3, 8);
/// The first Python whose `venv` leaves setuptools out.
const FIRST_WITHOUT_SETUPTOOLS: (u32, u32) = (3, 12);
/// The first Python that brings a pip which takes the packages of today.
const FIRST_WITH_GOOD_PIP: (u32, u32) = (3, 8);

/// The reason why a build did not end well.
#[derive(Debug)]
pub(super) enum BuildProblem {
    Canceled,
    /// In words.
    Failed(String),
}

impl From<io::Error> for BuildProblem {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What is built, with what, and where.
#[derive(Debug)]
pub(super) struct Build<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) interpreter: &'a Interpreter,
    pub(super) uv: Option<&'a Path>,
    /// The folder to be, which is not there yet.
    pub(super) folder: &'a Path,
    /// Held alone by this process.
    pub(super) lock: &'a File,
    pub(super) log: &'a Path,
}

/// What the commands of a build share.
struct Steps<'a> {
    until: Instant,
    settings: &'a BuildSettings<'a>,
    log: Log,
}

impl Build<'_> {
    /// Builds.
    ///
    /// # Errors
    ///
    /// [`BuildProblem`]; the folder may then hold anything.
    pub(super) fn run(&self, settings: &BuildSettings<'_>) -> Result<(), BuildProblem> {
        let mut steps = Steps {
            until: Instant::now() + ENVIRONMENT_BUILD_MAX,
            settings,
            log: Log::create(self.log)?,
        };
        let uv = self
            .uv
            .filter(|_| is_at_least(self.interpreter.version, OLDEST_OF_UV));
        let done = match uv {
            Some(uv) => self.with_uv(uv, &mut steps),
            None => self.with_pip(&mut steps),
        };
        steps.log.finish();
        done
    }

    fn with_uv(&self, uv: &Path, steps: &mut Steps<'_>) -> Result<(), BuildProblem> {
        let mut make = arguments(&["venv", "--no-project", "--python"]);
        make.extend([self.interpreter.path.clone().into(), self.folder.into()]);
        self.step(uv, &make, steps)?;
        if self.recipe.packages() == 0 {
            return Ok(());
        }
        let mut install = arguments(&["pip", "install", "--python"]);
        install.push(self.python().into());
        // pip takes the best version of all indexes, and files are written for pip.
        install.extend(arguments(&["--index-strategy", "unsafe-best-match"]));
        install.extend(uv_arguments(self.recipe.lines()));
        install.extend(self.files(uv_takes)?);
        if !is_at_least(self.interpreter.version, FIRST_WITHOUT_SETUPTOOLS)
            && !self.recipe.is_closed()
        {
            // `venv` puts it there, and many packages of that time count on it.
            install.push("setuptools".into());
        }
        self.step(uv, &install, steps)
    }

    fn with_pip(&self, steps: &mut Steps<'_>) -> Result<(), BuildProblem> {
        let base = &self.interpreter.path;
        let is_empty = self.recipe.packages() == 0;
        if !is_empty && !self.interpreter.makes_environments {
            return Err(BuildProblem::Failed(format!(
                "{} has no `venv` or `ensurepip`; install them (Debian: python{}.{}-venv), or install uv",
                base.display(),
                self.interpreter.version.major,
                self.interpreter.version.minor
            )));
        }
        let mut make = arguments(&["-m", "venv"]);
        if is_empty {
            make.push("--without-pip".into());
        }
        make.push(self.folder.into());
        self.step(base, &make, steps)?;
        if is_empty {
            return Ok(());
        }
        let python = self.python();
        if !is_at_least(self.interpreter.version, FIRST_WITH_GOOD_PIP) && !self.recipe.is_closed() {
            let better = arguments(&["-m", "pip", "install", "--upgrade", "pip"]);
            match self.step(&python, &better, steps) {
                // The old one may do: what it cannot take it says itself.
                Ok(()) | Err(BuildProblem::Failed(_)) => {}
                Err(BuildProblem::Canceled) => return Err(BuildProblem::Canceled),
            }
        }
        let mut install = arguments(&["-m", "pip", "install"]);
        install.extend(self.files(|_| true)?);
        self.step(&python, &install, steps)
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Writes down what is asked for, and says where.
    fn files(&self, takes: impl Fn(&str) -> bool) -> io::Result<Vec<OsString>> {
        let write = |name: &str, lines: &[String]| {
            let file = self.folder.join(name);
            let lines = lines.iter().filter(|line| takes(line));
            let text: String = lines.flat_map(|line| [line.as_str(), "\n"]).collect();
            fs::write(&file, text).map(|()| file)
        };
        let requirements = write("requirements.txt", self.recipe.lines())?;
        let mut files = vec!["-r".into(), requirements.into()];
        if !self.recipe.constraints().is_empty() {
            let constraints = write("constraints.txt", self.recipe.constraints())?;
            files.extend(["-c".into(), constraints.into()]);
        }
        Ok(files)
    }

    /// Runs one command to its end.
    fn step(
        &self,
        program: &Path,
        arguments: &[OsString],
        steps: &mut Steps<'_>,
    ) -> Result<(), BuildProblem> {
        let command = self.command(program, arguments)?;
        let Steps { settings, log, .. } = steps;
        log.begin(program, arguments);
        let ended = command::run(command, steps.until, settings.cancel, &mut |line| {
            log.line(line);
            if let Some(words) = words::progress(line) {
                (settings.tell)(&words);
            }
        });
        match ended {
            Ok(Ended::Status(status)) if status.success() => Ok(()),
            Ok(Ended::Status(_)) => Err(BuildProblem::Failed(words::reason(
                log.last.make_contiguous(),
                self.recipe.lines(),
            ))),
            Ok(Ended::Canceled) => Err(BuildProblem::Canceled),
            Ok(Ended::TooLong) => Err(BuildProblem::Failed(format!(
                "it took longer than {} minutes",
                ENVIRONMENT_BUILD_MAX.as_secs() / 60
            ))),
            Err(error) => Err(BuildProblem::Failed(format!(
                "cannot run {}: {error}",
                program.display()
            ))),
        }
    }

    fn command(&self, program: &Path, arguments: &[OsString]) -> io::Result<Command> {
        let mut command = Command::new(&self.interpreter.path);
        command
            .args(["-c", LAUNCH])
            .arg(std::process::id().to_string())
            .arg(program)
            .args(arguments)
            .stdin(Stdio::from(self.lock.try_clone()?))
            // A file of requirements may name what is beside it, and nothing that lies here by chance may be imported.
            .current_dir(self.folder.parent().unwrap_or(Path::new("/")));
        command::leave_out_foreign_variables(&mut command);
        for (pip, uv) in SETTINGS_OF_PIP {
            let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
            if let (Some(value), None) = (set(pip), set(uv)) {
                command.env(uv, value);
            }
        }
        command.envs(VARIABLES.iter().copied());
        Ok(command)
    }
}

fn is_at_least(version: Version, bound: (u32, u32)) -> bool {
    (version.major, version.minor) >= bound
}

fn arguments(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Options that uv takes on its command line instead of in the file.
fn uv_arguments(lines: &[String]) -> Vec<OsString> {
    let mut arguments = Vec::new();
    for line in lines {
        match line.split_once(' ') {
            None if line == "--pre" => arguments.extend(["--prerelease".into(), "allow".into()]),
            None if line == "--require-hashes" => arguments.push(line.into()),
            Some(("--trusted-host", host)) => {
                arguments.extend(["--allow-insecure-host".into(), host.into()]);
            }
            _ => {}
        }
    }
    arguments
}

/// Whether uv reads a line of a file; what it does not know it has as an argument, or does in any case.
fn uv_takes(line: &str) -> bool {
    let own = [
        "--pre",
        "--require-hashes",
        "--trusted-host",
        "--prefer-binary",
        "--use-feature",
    ];
    !own.contains(&line.split(' ').next().unwrap_or_default())
}

/// The output of a build, in a file of bounded size, and its last lines.
#[derive(Debug)]
struct Log {
    file: File,
    room: usize,
    left_out: usize,
    last: VecDeque<String>,
}

impl Log {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            room: ENVIRONMENT_LOG_BYTES_MAX,
            left_out: 0,
            last: VecDeque::new(),
        })
    }

    /// Says what is run; the reason of a failure is looked for after it.
    fn begin(&mut self, program: &Path, arguments: &[OsString]) {
        let words: Vec<String> = arguments
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        self.line(&format!("$ {} {}", program.display(), words.join(" ")));
        self.last.clear();
    }

    fn line(&mut self, line: &str) {
        self.last.push_back(line.to_owned());
        if self.last.len() > ENVIRONMENT_LAST_LINES {
            self.last.pop_front();
        }
        match self.room.checked_sub(line.len() + 1) {
            // On a full disk the build itself fails too, and says so.
            Some(room) if self.left_out == 0 => {
                self.room = room;
                drop(writeln!(self.file, "{line}"));
            }
            _ => self.left_out += 1,
        }
    }

    fn finish(&mut self) {
        if self.left_out == 0 {
            return;
        }
        let kept = self.left_out.min(self.last.len());
        let not_kept = self.left_out - kept;
        drop(writeln!(self.file, "[{not_kept} lines are left out here]"));
        for line in self.last.iter().skip(self.last.len() - kept) {
            drop(writeln!(self.file, "{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_bound_and_its_last_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut log = Log::create(&path).expect("a log");
        let line = "x".repeat(999);
        for _ in 0..=ENVIRONMENT_LOG_BYTES_MAX / 1000 {
            log.line(&line);
        }
        log.line("the last");
        log.finish();
        let text = fs::read_to_string(&path).expect("the log");
        assert!(text.len() < ENVIRONMENT_LOG_BYTES_MAX + 1000 * (ENVIRONMENT_LAST_LINES + 1));
        assert!(text.ends_with("the last\n"));
    }

    #[test]
    fn options_that_uv_does_not_read_in_a_file_are_arguments() {
        let lines = [
            "--pre",
            "--trusted-host h",
            "six",
            "--prefer-binary",
            "--extra-index-url u",
        ]
        .map(str::to_owned);
        assert_eq!(
            uv_arguments(&lines),
            ["--prerelease", "allow", "--allow-insecure-host", "h"]
        );
        let kept: Vec<&String> = lines.iter().filter(|line| uv_takes(line)).collect();
        assert_eq!(kept, ["six", "--extra-index-url u"]);
    }
}

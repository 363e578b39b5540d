//! The environments of this machine: each is built once, and stays for as long as somebody uses it or there is room.
//!
//! ```text
//! <cache>/environments/<hash>/            the virtual environment; `serin.json` in it, written last, says that it is whole
//! <cache>/environments/<hash>.lock        locked by those who use it, and alone by who builds or deletes it; its time is the last use
//! <cache>/environments/<hash>.log         the output of the last build
//! <cache>/environments/<hash>.choice      the environment that a recipe had last, so that nobody looks for a Python again
//! ```
//!
//! A virtual environment knows its own path, so it is built in its place: under the lock, and what lies there without its mark is what
//! a killed process has left. The locks are the system's, and end with whoever holds them.
//!
//! Threads: everything blocks. Not here: the commands of a build (`build`), what is asked for (`recipe`).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::build::{Build, BuildProblem};
use super::error::{EnvironmentError, at};
use super::python::{Interpreter, Places, answers, choose};
use super::recipe::Recipe;
use super::settings::BuildSettings;
use crate::cache_folder::{cache_folder_for, make_private};
use crate::config::{
    ENVIRONMENT_BUILD_MAX, ENVIRONMENT_LOGS_MAX, ENVIRONMENT_LOOK_PERIOD, ENVIRONMENTS_BYTES_MAX,
};

/// The mark of an environment that is whole.
const MARK_FILE: &str = "serin.json";
/// Version of the layout.
const FORMAT: u32 = 1;

/// A Python and its packages, which stay where they are for as long as this or a clone of it lives.
#[derive(Debug, Clone)]
pub struct Environment {
    python: PathBuf,
    version: String,
    description: String,
    _lock: Option<Arc<File>>,
}

impl Environment {
    /// The interpreter to start.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Its version, such as `3.8.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which one it is, for people.
    #[must_use]
    pub fn description(&self) -> String {
        self.description.clone()
    }
}

/// The statement of an environment about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    python: String,
    bytes: u64,
}

/// A recipe, and the Python that was found for it.
#[derive(Debug)]
struct Wanted<'a> {
    recipe: &'a Recipe,
    interpreter: Interpreter,
}

/// The folder of environments, and where their interpreters are looked for.
#[derive(Debug, Clone)]
pub struct Environments {
    root: PathBuf,
    places: Places,
    uv: Option<PathBuf>,
    bytes_max: u64,
}

impl Environments {
    /// Opens the folder in the cache, or makes it, for this user alone: what lies in it is run.
    ///
    /// # Errors
    ///
    /// The reason why there can be none.
    pub fn in_cache() -> io::Result<Self> {
        let cache = cache_folder_for("environments")?;
        Self::at(&cache.join("environments"))
    }

    /// Opens this folder, or makes it.
    ///
    /// # Errors
    ///
    /// The reason why there can be none.
    pub fn at(folder: &Path) -> io::Result<Self> {
        make_private(folder)?;
        let places = Places::of_machine();
        Ok(Self {
            // The folder is the working folder of commands, whose arguments name files in it.
            root: fs::canonicalize(folder)?,
            uv: places.program("uv"),
            places,
            bytes_max: ENVIRONMENTS_BYTES_MAX,
        })
    }

    /// The Python that a shell would start, for a deployment that names no environment.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::NoPython`].
    pub fn python_of_the_path(&self) -> Result<Environment, EnvironmentError> {
        let found = self.places.of_the_path()?;
        Ok(Environment {
            description: format!(
                "Python {} of the path ({}), because no environment is named",
                found.version,
                found.path.display()
            ),
            python: found.path,
            version: found.version.to_string(),
            _lock: None,
        })
    }

    /// The environment of a recipe: the one that is there, or a new one. Waits for another process that builds the same.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`] when there is no Python for it, when it cannot be built, or when nobody wants it any more.
    pub fn ready(
        &self,
        recipe: &Recipe,
        settings: &BuildSettings<'_>,
    ) -> Result<Environment, EnvironmentError> {
        if let Some(environment) = self.chosen_before(recipe) {
            return Ok(environment);
        }
        let interpreter = self.interpreter(recipe)?;
        let place = self.place(&recipe.hash(&interpreter.version.to_string()));
        let wanted = Wanted {
            recipe,
            interpreter,
        };
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            if (settings.cancel)() {
                return Err(EnvironmentError::Canceled);
            }
            if let Some(environment) = place.open(recipe) {
                self.remember(recipe, &place);
                return Ok(environment);
            }
            if let Some(lock) = place.lock_alone()? {
                // Another may have ended its build between the two lines above.
                if place.mark().is_none() {
                    self.build(&place, &lock, &wanted, settings)?;
                }
                continue;
            }
            if begun.elapsed() > ENVIRONMENT_BUILD_MAX {
                return Err(EnvironmentError::StillBuilding {
                    file: recipe.file().to_owned(),
                    minutes: ENVIRONMENT_BUILD_MAX.as_secs() / 60,
                    log: place.log(),
                });
            }
            if !is_told {
                is_told = true;
                (settings.tell)("waiting for another build of the same environment");
            }
            thread::sleep(ENVIRONMENT_LOOK_PERIOD);
        }
    }

    fn interpreter(&self, recipe: &Recipe) -> Result<Interpreter, EnvironmentError> {
        if recipe.python().is_none() {
            return Ok(self.places.of_the_path()?);
        }
        Ok(choose(recipe, &self.places.all())?.clone())
    }

    fn place(&self, key: &str) -> Place {
        Place {
            folder: self.root.join(key),
        }
    }

    /// The environment that this recipe had last. To look for all interpreters of a machine takes as long as to start a script.
    fn chosen_before(&self, recipe: &Recipe) -> Option<Environment> {
        // Which Python a shell starts is quickly found out, and may be another one today.
        recipe.python()?;
        let key = fs::read_to_string(self.choice(recipe)).ok()?;
        let is_key = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.place(is_key.then_some(&key)?).open(recipe)
    }

    fn remember(&self, recipe: &Recipe, place: &Place) {
        let key = place.folder.file_name().and_then(OsStr::to_str);
        if let (Some(key), Some(_)) = (key, recipe.python()) {
            // Without it the next start takes a little longer. One that is cut off is no key.
            drop(fs::write(self.choice(recipe), key));
        }
    }

    fn choice(&self, recipe: &Recipe) -> PathBuf {
        self.root.join(format!("{}.choice", recipe.choice_hash()))
    }

    /// Builds in a place that nobody else uses. Nothing but the log is left of a build that fails.
    fn build(
        &self,
        place: &Place,
        lock: &File,
        wanted: &Wanted<'_>,
        settings: &BuildSettings<'_>,
    ) -> Result<(), EnvironmentError> {
        let Wanted {
            recipe,
            interpreter,
        } = wanted;
        place.clear()?;
        (settings.tell)(&format!(
            "building an environment with Python {} for {}",
            interpreter.version,
            recipe.file().display()
        ));
        let build = Build {
            recipe,
            interpreter,
            uv: self.uv.as_deref().filter(|uv| answers(uv)),
            folder: &place.folder,
            lock,
            log: &place.log(),
        };
        let python = interpreter.version.to_string();
        let built = build
            .run(settings)
            .and_then(|()| Ok(place.set_mark(&python)?));
        let failed = match built {
            Ok(()) => None,
            Err(BuildProblem::Canceled) => Some(EnvironmentError::Canceled),
            Err(BuildProblem::Failed(reason)) => Some(EnvironmentError::Failed {
                file: recipe.file().to_owned(),
                reason,
                log: place.log(),
            }),
        };
        if let Some(failed) = failed {
            if let Err(error) = place.clear() {
                tracing::warn!(%error, "cannot delete an environment that was not built");
            }
            return Err(failed);
        }
        self.clean();
        Ok(())
    }

    /// Deletes what killed builds have left, the least recently used environments that nobody uses where all are too large, and old logs.
    fn clean(&self) {
        let mut whole = Vec::new();
        for path in self.entries() {
            let place = Place { folder: path };
            if !place.folder.is_dir() {
                continue;
            }
            match place.mark() {
                Some(mark) => whole.push((place.last_use(), mark.bytes, place)),
                None => drop(place.remove_unused()),
            }
        }
        whole.sort_by_key(|(used, _, _)| *used);
        let mut total: u64 = whole.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, place) in whole {
            if total <= self.bytes_max {
                break;
            }
            if place.remove_unused() {
                total -= bytes;
            }
        }
        self.clean_logs();
    }

    fn clean_logs(&self) {
        let of_nobody = |path: &PathBuf| {
            let ending = path.extension().and_then(OsStr::to_str);
            matches!(ending, Some("log")) && !path.with_extension("").is_dir()
        };
        let logs = self.entries().into_iter().filter(of_nobody);
        let mut logs: Vec<_> = logs
            .map(|path| {
                (
                    fs::metadata(&path).and_then(|log| log.modified()).ok(),
                    path,
                )
            })
            .collect();
        logs.sort();
        let surplus = logs.len().saturating_sub(ENVIRONMENT_LOGS_MAX);
        for (_, log) in logs.into_iter().take(surplus) {
            let place = Place {
                folder: log.with_extension(""),
            };
            place.remove_unused();
        }
    }

    fn entries(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(&self.root).into_iter().flatten();
        found.filter_map(|one| Some(one.ok()?.path())).collect()
    }
}

/// The place of one environment, built or not.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
}

impl Place {
    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.with_extension("lock")
    }

    /// The environment, when it is whole and its interpreter is still there; locked against deletion from now on.
    fn open(&self, recipe: &Recipe) -> Option<Environment> {
        let lock = File::open(self.lock_file()).ok()?;
        lock.try_lock_shared().ok()?;
        let mark = self.mark().filter(|_| self.is_current(&lock))?;
        // The time of the last use; without it the environment goes a little earlier.
        drop(lock.set_modified(SystemTime::now()));
        let python = self.folder.join("bin/python");
        let nearest = recipe
            .python()
            .filter(|wish| mark.python.parse().is_ok_and(|found| !wish.grants(found)));
        let nearest = nearest.map_or_else(String::new, |wish| format!(", the nearest to {wish},"));
        Some(Environment {
            description: format!(
                "Python {}{nearest} with what {} asks for ({})",
                mark.python,
                recipe.file().display(),
                python.display()
            ),
            python,
            version: mark.python,
            _lock: Some(Arc::new(lock)),
        })
    }

    /// Its lock, held by nobody else; nothing while somebody has it.
    fn lock_alone(&self) -> Result<Option<File>, EnvironmentError> {
        let path = self.lock_file();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(&path).map_err(at("write", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(self.is_current(&lock).then_some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(at("lock", &path)(error)),
        }
    }

    /// Whether this is the lock that others meet too: who deletes an environment deletes its lock.
    fn is_current(&self, lock: &File) -> bool {
        let found = fs::metadata(self.lock_file()).map(|found| found.ino());
        let held = lock.metadata().map(|held| held.ino());
        matches!((found, held), (Ok(found), Ok(held)) if found == held)
    }

    /// The mark of an environment that is whole; nothing when its interpreter has gone.
    fn mark(&self) -> Option<Mark> {
        let text = fs::read(self.folder.join(MARK_FILE)).ok()?;
        let mark: Mark = serde_json::from_slice(&text).ok()?;
        (mark.format == FORMAT && self.folder.join("bin/python").exists()).then_some(mark)
    }

    fn set_mark(&self, python: &str) -> io::Result<()> {
        let mark = Mark {
            format: FORMAT,
            python: python.to_owned(),
            bytes: bytes_of(&self.folder),
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer(&mut file, &mark)?;
        file.persist(self.folder.join(MARK_FILE))?;
        Ok(())
    }

    fn last_use(&self) -> SystemTime {
        let used = fs::metadata(self.lock_file()).and_then(|lock| lock.modified());
        used.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Deletes the folder; the caller has the lock alone. The mark goes first: what is left of a deletion that is cut off is not whole.
    fn clear(&self) -> Result<(), EnvironmentError> {
        let missing_is_fine = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        missing_is_fine(fs::remove_file(self.folder.join(MARK_FILE)))
            .and_then(|()| missing_is_fine(fs::remove_dir_all(&self.folder)))
            .map_err(at("delete", &self.folder))
    }

    /// Deletes it unless somebody uses it; whether it is gone.
    fn remove_unused(&self) -> bool {
        let Ok(Some(_lock)) = self.lock_alone() else {
            return false;
        };
        let gone = self.clear();
        if let Err(error) = &gone {
            tracing::warn!(%error, "cannot delete an environment");
            return false;
        }
        drop(fs::remove_file(self.log()));
        drop(fs::remove_file(self.lock_file()));
        true
    }
}

/// Bytes of all files below a folder.
fn bytes_of(folder: &Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for one in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Links are not followed: what they lead to lies elsewhere.
            match one.metadata() {
                Ok(found) if found.is_dir() => folders.push(one.path()),
                Ok(found) => total += found.len(),
                Err(_) => {}
            }
        }
    }
    total
}

#[cfg(test)]
mod tests;

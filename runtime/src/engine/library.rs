//! The ONNX Runtime library: which file it is, and its telemetry, which `main` switches off before it is loaded.
//!
//! The path is, in order: the one that the program gave ([`set_library`]), the variable `SERIN_ONNXRUNTIME_LIB`, the library that the
//! binary carries (`carried`), `libonnxruntime.so` beside the executable, and what the dynamic loader finds. A process has one.
//! A file that was named is looked at before any code of it runs; when it will not do, nothing else is taken instead, and another
//! one may be named.
//!
//! Threads: any. Not here: how it is loaded (`session`).

use std::ffi::{CStr, OsStr, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use sha2::{Digest as _, Sha256};

#[cfg(carries_onnxruntime)]
use crate::engine::carried;
use crate::engine::library_error::LibraryError;
use crate::engine::lock::lock;
use crate::engine::memory;
use crate::engine::shared_library;
use crate::observe::onnxruntime_is_loaded;

/// ONNX Runtime reads this as it initialises; its official builds send telemetry without it.
const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
/// Names a library of the user's choice.
const LIBRARY_VARIABLE: &str = "SERIN_ONNXRUNTIME_LIB";
/// The file that is looked for beside the executable.
const BESIDE: &str = "libonnxruntime.so";
/// The names that the dynamic loader is asked for.
const LOADER_NAMES: [&CStr; 2] = [c"libonnxruntime.so.1", c"libonnxruntime.so"];

/// The choice of this process.
static CHOICE: Mutex<Choice> = Mutex::new(Choice {
    given: None,
    has_failed: false,
    loaded: None,
});

struct Choice {
    /// The path that the program gave.
    given: Option<PathBuf>,
    /// Whether loading it has failed, so that another may be given.
    has_failed: bool,
    /// The library that is in the process.
    loaded: Option<PathBuf>,
}

impl Choice {
    fn give(&mut self, path: PathBuf) -> Result<(), LibraryError> {
        let given = self.given.as_ref().filter(|_| !self.has_failed);
        if let Some(first) = self.loaded.as_ref().or(given) {
            return match is_same_file(first, &path) {
                true => Ok(()),
                false => Err(LibraryError::Second {
                    first: first.clone(),
                    second: path,
                }),
            };
        }
        self.given = Some(checked(path, "the program gave")?);
        self.has_failed = false;
        Ok(())
    }
}

/// Settings of the whole process that must be in force before ONNX Runtime is loaded: telemetry off, memory thresholds.
///
/// For programs that own their process, as the first thing in `main`. Others start with `ORT_DISABLE_TELEMETRY=1` in their
/// environment. Without either, ONNX Runtime has its telemetry on while it initialises: it begins a thread of its own, and
/// keeps a device number and a database below `~/.cache/Microsoft`. Its events are switched off right then, so none of a model
/// or a run is recorded, and the log says what happened.
///
/// # Safety
///
/// It may set an environment variable: no other thread of the process may read or write the environment meanwhile. In `main`,
/// before any thread is made, that is so.
#[expect(unsafe_code, reason = "who calls it answers for the other threads")]
pub unsafe fn prepare_process() {
    // Left alone where the user or an earlier process of ours has set it, so that no write happens at all.
    if !telemetry_is_off() {
        #[expect(
            clippy::disallowed_methods,
            reason = "ONNX Runtime offers no other switch early enough"
        )]
        // SAFETY: the caller says that no other thread uses the environment.
        unsafe {
            std::env::set_var(TELEMETRY_VARIABLE, "1");
        }
    }
    memory::own_process();
}

/// Whether ONNX Runtime, when it is loaded now, comes up without telemetry.
fn telemetry_is_off() -> bool {
    std::env::var_os(TELEMETRY_VARIABLE).is_some_and(|value| value == "1")
}

/// Says so once in the log where telemetry can be switched off only after ONNX Runtime has come up: nothing in a library may
/// write the environment of a process that it does not own.
pub(super) fn warn_of_telemetry() {
    if !telemetry_is_off() {
        tracing::warn!(
            "ONNX Runtime initialises with its telemetry on and has it switched off only then: start the program with {TELEMETRY_VARIABLE}=1 in its environment to have none at all"
        );
    }
}

/// Gives the path of the ONNX Runtime that this process is to load, which comes before every other place.
///
/// # Errors
///
/// [`LibraryError::Unfit`] when the file is none; [`LibraryError::Second`] when another one is loaded, or is given and has not failed.
pub fn set_library(path: impl Into<PathBuf>) -> Result<(), LibraryError> {
    lock(&CHOICE).give(path.into())
}

/// The name of the library that models are tried with and prepared by.
#[must_use]
pub fn library_id() -> &'static str {
    static OF_FILE: OnceLock<String> = OnceLock::new();
    if let Some(id) = OF_FILE.get() {
        return id;
    }
    let loaded = lock(&CHOICE).loaded.clone();
    match loaded.map_or_else(find, Ok) {
        #[cfg(carries_onnxruntime)]
        Ok(path) if carried::is_unpacked(&path) => carried::id(),
        Ok(path) => OF_FILE.get_or_init(|| id_of(&path)),
        // Nothing can be tried or prepared without one.
        Err(_) => "none",
    }
}

/// Short form of what tells one file from another without reading megabytes: its place, size and time.
fn id_of(library: &Path) -> String {
    let place = fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let mut digest = Sha256::new_with_prefix(place.as_os_str().as_bytes());
    if let Ok(metadata) = fs::metadata(&place) {
        for word in [
            i128::from(metadata.len()),
            metadata.mtime().into(),
            metadata.mtime_nsec().into(),
        ] {
            digest.update(word.to_le_bytes());
        }
    }
    let digest = digest.finalize();
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The library that this process is to load.
pub(super) fn find() -> Result<PathBuf, LibraryError> {
    if let Some(given) = &lock(&CHOICE).given {
        return Ok(given.clone());
    }
    let mut tried = vec!["the program gave no path".to_owned()];
    match std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => return checked(path.into(), "the variable SERIN_ONNXRUNTIME_LIB names"),
        None => tried.push(format!("{LIBRARY_VARIABLE} is not set")),
    }
    #[cfg(carries_onnxruntime)]
    return carried::unpacked();
    #[cfg(not(carries_onnxruntime))]
    {
        tried.push("this binary carries none".to_owned());
        beside_the_executable(&mut tried)
            .or_else(|| by_the_loader(&mut tried))
            .ok_or_else(|| LibraryError::NotFound {
                tried: tried.join("; "),
            })
    }
}

/// The library was loaded from there.
pub(super) fn is_loaded(path: &Path) {
    let mut choice = lock(&CHOICE);
    if let Some(given) = choice
        .given
        .as_ref()
        .filter(|given| !is_same_file(given, path))
    {
        tracing::warn!(given = %given.display(), loaded = %path.display(), "another part of the program has loaded ONNX Runtime before");
    }
    choice.loaded = Some(path.to_owned());
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if let Ok(Some(version)) = shared_library::inspect(path, os, arch) {
        onnxruntime_is_loaded(version);
    }
    // The kernel names what is mapped without links.
    memory::library_is_loaded(&fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
}

/// The library that was found does not load: where the program gave it, it may give another.
pub(super) fn has_failed() {
    lock(&CHOICE).has_failed = true;
}

/// A file that somebody named.
fn checked(path: PathBuf, named_by: &'static str) -> Result<PathBuf, LibraryError> {
    let os = std::env::consts::OS;
    match shared_library::inspect(&path, os, std::env::consts::ARCH) {
        // The loader takes a bare name for one that it is to search for.
        Ok(_) => Ok(std::path::absolute(&path).unwrap_or(path)),
        Err(found) => Err(LibraryError::Unfit {
            path,
            named_by,
            found,
        }),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

/// A library beside the executable.
#[cfg_attr(
    carries_onnxruntime,
    expect(dead_code, reason = "the library that is carried comes first")
)]
fn beside_the_executable(tried: &mut Vec<String>) -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let path = executable.parent()?.join(BESIDE);
    let found = shared_library::inspect(&path, std::env::consts::OS, std::env::consts::ARCH);
    if let Err(found) = &found {
        tried.push(format!("{} is {found}", path.display()));
    }
    found.is_ok().then_some(path)
}

/// The library that the dynamic loader finds by its name: `LD_LIBRARY_PATH`, the system's folders.
#[cfg_attr(
    carries_onnxruntime,
    expect(dead_code, reason = "the library that is carried comes first")
)]
fn by_the_loader(tried: &mut Vec<String>) -> Option<PathBuf> {
    LOADER_NAMES.iter().find_map(|name| {
        let found = loaded_by_name(name);
        if found.is_none() {
            tried.push(format!(
                "the dynamic loader has no {}",
                name.to_string_lossy()
            ));
        }
        found
    })
}

#[expect(unsafe_code, reason = "only the dynamic loader knows its own search")]
fn loaded_by_name(name: &CStr) -> Option<PathBuf> {
    // SAFETY: the names end with a zero. The library stays loaded, so the address stays good; what it runs as it loads is ONNX Runtime's
    // own, which this process is about to load in any case.
    let address = unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            return None;
        }
        libc::dlsym(library, c"OrtGetApiBase".as_ptr())
    };
    file_at(address)
}

/// The file of the library that has this address.
#[expect(
    unsafe_code,
    reason = "only the dynamic loader knows what it has loaded"
)]
pub(super) fn file_at(address: *const c_void) -> Option<PathBuf> {
    // SAFETY: the structure is of plain words, for which zeros are valid. The name belongs to a library that stays loaded.
    unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        if address.is_null()
            || libc::dladdr(address, &raw mut found) == 0
            || found.dli_fname.is_null()
        {
            return None;
        }
        let name = CStr::from_ptr(found.dli_fname).to_bytes();
        Some(PathBuf::from(OsStr::from_bytes(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::shared_library::written;

    fn choice() -> Choice {
        Choice {
            given: None,
            has_failed: false,
            loaded: None,
        }
    }

    #[test]
    fn a_second_path_is_refused_by_the_name_of_the_first_until_that_one_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one.so", "other.so"].map(|name| folder.path().join(name));
        for path in [&one, &other] {
            fs::write(path, written(&["OrtGetApiBase"])).unwrap();
        }
        let mut choice = choice();
        choice.give(one.clone()).unwrap();
        choice.give(one.clone()).unwrap();
        let refused = choice.give(other.clone()).unwrap_err().to_string();
        assert!(refused.contains(one.to_str().unwrap()), "{refused}");
        choice.has_failed = true;
        choice.give(other.clone()).unwrap();
        assert_eq!(choice.given, Some(other.clone()));
        choice.loaded = Some(other);
        choice.has_failed = true;
        assert!(matches!(choice.give(one), Err(LibraryError::Second { .. })));
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_when_it_is_given_and_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text.so");
        fs::write(&file, "text").unwrap();
        let mut choice = choice();
        for wrong in [file, folder.path().to_owned(), folder.path().join("none")] {
            let refused = choice.give(wrong.clone()).unwrap_err().to_string();
            assert!(refused.contains(wrong.to_str().unwrap()), "{refused}");
            assert_eq!(choice.given, None);
        }
    }

    #[test]
    fn another_file_at_the_same_place_has_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("library.so");
        fs::write(&file, written(&["OrtGetApiBase"])).unwrap();
        let first = id_of(&file);
        assert_eq!(id_of(&file), first);
        fs::write(&file, written(&["OrtGetApiBase", "VERS_1.99.0"])).unwrap();
        assert_ne!(id_of(&file), first);
    }

    #[test]
    fn an_address_of_a_library_leads_to_its_file() {
        let function = libc::dlopen as *const c_void;
        let file = file_at(function).unwrap();
        assert!(file.is_file(), "{}", file.display());
        assert_eq!(file_at(std::ptr::null()), None);
    }
}

//! The folder of what can be made anew: the library, prepared models, environments of scripts.
//!
//! Not here: what lies in it, and who bounds it (`engine`, `environments`).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The user's choice of cache folder.
const CACHE_VARIABLE: &str = "SERIN_CACHE";

/// The folder by the first variable that is set.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder(CACHE_VARIABLE)
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("serin")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/serin")))
}

/// The same for something, by which the error names it.
///
/// # Errors
///
/// When no variable is set.
pub(crate) fn cache_folder_for(what: &str) -> io::Result<PathBuf> {
    cache_folder().ok_or_else(|| {
        let problem = format!(
            "no folder for {what}: neither SERIN_CACHE, XDG_CACHE_HOME nor HOME is set; set SERIN_CACHE to a folder"
        );
        io::Error::other(problem)
    })
}

/// Makes a folder of the cache for this user alone, or finds that it is: what lies in it is run.
///
/// # Errors
///
/// The system's reason, or that somebody else may write to it.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    let in_words = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot use {}: {error}", folder.display()),
        )
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(in_words)?;
    let found = fs::metadata(folder).map_err(in_words)?;
    if found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "expected a folder that only this user writes to, found {}; set SERIN_CACHE to a folder of your own",
            folder.display()
        ),
    ))
}

//! The folder of what can be made anew: the library, prepared models, environments of scripts.
//!
//! Not here: what lies in it, and who bounds it (`engine`, `environments`).

use std::path::PathBuf;

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

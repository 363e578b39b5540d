//! What a caller gives to a build besides the recipe.

use std::fmt;

/// Who is told how a build goes on, and who may end it.
pub struct BuildSettings<'a> {
    /// Called with a few words when there is news, such as `downloading numpy 1.26.4`.
    pub tell: &'a dyn Fn(&str),
    /// Asked again and again; the build ends soon after the first `true`.
    pub cancel: &'a dyn Fn() -> bool,
}

impl fmt::Debug for BuildSettings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildSettings").finish_non_exhaustive()
    }
}

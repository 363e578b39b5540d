//! Paths that a file or an assignment names, seen from the folder in which it was written.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// Whether a text names something registered rather than a path.
pub(super) fn is_asset(text: &str) -> bool {
    text.starts_with("azureml:") || text.starts_with("aml:") || cloud_id(text).is_some()
}

/// The part of a long name in the cloud that says where it is: `//registries/..`, or `/subscriptions/..`.
pub(super) fn cloud_id(text: &str) -> Option<&str> {
    const PROVIDER: &str = "/providers/microsoft.machinelearningservices/";
    let bare = text.strip_prefix("azureml:");
    let id = bare.unwrap_or(text);
    let begins = |start: &str| {
        id.get(..start.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(start))
    };
    // A folder of this machine may have such a name too.
    let is_id = match bare {
        Some(_) => begins("//") || begins("/subscriptions/"),
        None => begins("/subscriptions/") && id.to_ascii_lowercase().contains(PROVIDER),
    };
    is_id.then_some(id)
}

/// The path with the home folder in place of a `~` or `$HOME` at its start; none where it has no such start.
pub(crate) fn expanded(path: &Path, home: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    let first = parts.next()?.as_os_str();
    let is_home = ["~", "$HOME", "${HOME}"].iter().any(|word| first == *word);
    is_home.then(|| home.join(parts.as_path()))
}

/// Makes the path that a value holds absolute, unless it names something registered.
pub(super) fn resolve_value(value: &mut Value, base: &Path) {
    if let Some(text) = value.as_str().filter(|text| !is_asset(text)) {
        let path = resolve(Path::new(text.strip_prefix("file:").unwrap_or(text)), base);
        *value = path.to_string_lossy().into();
    }
}

/// The path seen from `base`, without the `.` in between and the `..` that it begins with.
///
/// `base` has no links in it, so that its parents are those of its name. A `..` behind a folder stays: that folder may be a link.
pub(crate) fn resolve(path: &Path, base: &Path) -> PathBuf {
    let (mut base, mut parts) = (base, path.components());
    while base.has_root()
        && let Some(step @ (Component::CurDir | Component::ParentDir)) = parts.clone().next()
    {
        parts.next();
        if step == Component::ParentDir {
            // Above the root there is only the root.
            base = base.parent().unwrap_or(base);
        }
    }
    let path: PathBuf = base.join(parts.as_path()).components().collect();
    // Specs are stored as text. A folder that is none gives a path that does not exist, and the message shows it.
    path.to_string_lossy().into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_up_from_its_base_and_not_back_out_of_a_folder_that_may_be_a_link() {
        for (path, resolved) in [
            ("m.onnx", "/a/b/m.onnx"),
            ("./m.onnx", "/a/b/m.onnx"),
            ("../m/./x.onnx", "/a/m/x.onnx"),
            ("./.././../m", "/m"),
            ("../../../../m", "/m"),
            ("..", "/a"),
            ("m/../x", "/a/b/m/../x"),
            ("../m/../x", "/a/m/../x"),
            ("/m/../x", "/m/../x"),
            ("", "/a/b"),
        ] {
            assert_eq!(
                resolve(Path::new(path), Path::new("/a/b")),
                Path::new(resolved),
                "{path}"
            );
        }
        assert_eq!(
            resolve(Path::new("../m"), Path::new("a")),
            Path::new("a/../m")
        );
    }
}

//! The files of a model's folder, looked at before any of them is read: how many there are, how large they are together, and whether
//! each is a file that lies in the folder.
//!
//! A path that slipped (`/`, a home folder) is refused here with numbers, before a byte of it is copied. Links are followed as long as
//! they stay in the folder: one that leads out would copy what nobody meant to give, and another file tomorrow.
//!
//! Threads: everything blocks. Not here: which of the files is the model (`source`), and whether the disk has room (`files`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::config::{MODEL_BYTES_MAX, MODEL_FILES_MAX};
use crate::control::models::ModelStoreError;
use crate::control::models::error::unread;
use crate::plain_file;

/// The one who put a folder there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A person: hidden files are left out, and there are bounds.
    Given,
    /// This server, which copied a model: all files belong to it.
    Ours,
}

/// All files of a folder and of those below it, by their place below it.
///
/// # Errors
///
/// When it cannot be read, or a name is not UTF-8: such a name could not be kept as it is, and two of them could become one. Of a folder
/// that is given also when it holds too much, or what is no file of its own.
pub(super) fn files_of(
    folder: &Path,
    whose: Whose,
) -> Result<BTreeMap<String, PathBuf>, ModelStoreError> {
    let root = fs::canonicalize(folder).map_err(unread(folder))?;
    let mut walk = Walk {
        given: folder,
        above: vec![root.clone()],
        root,
        whose,
        files: BTreeMap::new(),
        entries: 0,
        bytes: 0,
    };
    walk.folder(folder, "")?;
    if whose == Whose::Given && walk.bytes > MODEL_BYTES_MAX {
        return Err(ModelStoreError::TooLarge {
            path: folder.to_owned(),
            files: walk.files.len(),
            bytes: walk.bytes,
        });
    }
    Ok(walk.files)
}

/// A name that can be written down.
pub(super) fn text(name: &OsStr, path: &Path) -> Result<String, ModelStoreError> {
    let text = name.to_str().map(str::to_owned);
    text.ok_or_else(|| ModelStoreError::NotText(path.to_owned()))
}

/// A folder while it is looked at.
struct Walk<'a> {
    given: &'a Path,
    root: PathBuf,
    whose: Whose,
    files: BTreeMap<String, PathBuf>,
    entries: usize,
    bytes: u64,
    /// The folder that is looked at, and those that it is in, by their real paths.
    above: Vec<PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), ModelStoreError> {
        for entry in fs::read_dir(folder).map_err(unread(folder))? {
            let entry = entry.map_err(unread(folder))?;
            self.entries += 1;
            if self.whose == Whose::Given && self.entries > MODEL_FILES_MAX {
                return Err(ModelStoreError::TooManyFiles(self.given.to_owned()));
            }
            let is_hidden = entry.file_name().as_bytes().starts_with(b".");
            if self.whose == Whose::Given && is_hidden {
                continue;
            }
            let path = entry.path();
            let name = format!("{prefix}{}", text(&entry.file_name(), &path)?);
            let kind = self.look_at(&entry, &path)?;
            if kind.is_dir() {
                self.below(&path, &name)?;
            } else if kind.is_file() {
                self.bytes = self.bytes.saturating_add(kind.len());
                self.files.insert(name, path);
            } else if self.whose == Whose::Given {
                let words = plain_file::check_kind(kind.file_type());
                words.map_err(unread(&path))?;
            }
        }
        Ok(())
    }

    /// What is at a path, or at the end of the links from there, which must stay in the folder.
    fn look_at(&self, entry: &DirEntry, path: &Path) -> Result<Metadata, ModelStoreError> {
        let is_link = entry.file_type().map_err(unread(path))?.is_symlink();
        if is_link {
            let real = match fs::canonicalize(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(ModelStoreError::LinkToNothing(path.to_owned()));
                }
                real => real.map_err(unread(path))?,
            };
            if !real.starts_with(&self.root) {
                return Err(ModelStoreError::LinkOutside {
                    link: path.to_owned(),
                    real,
                    folder: self.given.to_owned(),
                });
            }
        }
        fs::metadata(path).map_err(unread(path))
    }

    fn below(&mut self, path: &Path, name: &str) -> Result<(), ModelStoreError> {
        let real = fs::canonicalize(path).map_err(unread(path))?;
        if self.above.contains(&real) {
            return Err(ModelStoreError::LinkInCircle(path.to_owned()));
        }
        self.above.push(real);
        self.folder(path, &format!("{name}/"))?;
        self.above.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::control::refusal::ErrorKind;

    struct Place(tempfile::TempDir);

    impl Place {
        fn with(files: &[&str]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for name in files {
                let path = place.path(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, name).unwrap();
            }
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn names(&self, name: &str) -> Vec<String> {
            let files = files_of(&self.path(name), Whose::Given).unwrap();
            files.into_keys().collect()
        }

        fn refusal(&self, name: &str) -> String {
            let refused = files_of(&self.path(name), Whose::Given).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            let folder = self.0.path().display().to_string();
            refused.to_string().replace(&folder, "[folder]")
        }
    }

    #[test]
    fn links_that_stay_in_the_folder_are_files_and_folders_like_others() {
        let place = Place::with(&["m/v2/model.onnx", "m/w"]);
        symlink("v2/model.onnx", place.path("m/model.onnx")).unwrap();
        symlink("v2", place.path("m/latest")).unwrap();
        symlink(place.path("m/w"), place.path("m/v2/w")).unwrap();
        let all = [
            "latest/model.onnx",
            "latest/w",
            "model.onnx",
            "v2/model.onnx",
            "v2/w",
            "w",
        ];
        assert_eq!(place.names("m"), all);
        // Also where the folder itself is reached by a link.
        symlink("m", place.path("link")).unwrap();
        assert_eq!(place.names("link"), all);
    }

    #[test]
    fn a_link_that_leads_out_in_circles_or_nowhere_is_refused() {
        let place = Place::with(&["m/model.onnx", "mine/secret"]);
        symlink("../mine/secret", place.path("m/out")).unwrap();
        let said = place.refusal("m");
        let out = "[folder]/m/out is a link to [folder]/mine/secret, out of [folder]/m: put the file itself there, as `cp -rL` does";
        assert_eq!(said, out);
        fs::remove_file(place.path("m/out")).unwrap();
        // A folder of the same beginning is another one.
        fs::create_dir(place.path("m2")).unwrap();
        symlink("../m2", place.path("m/out")).unwrap();
        assert!(place.refusal("m").contains("out of [folder]/m:"));
        fs::remove_file(place.path("m/out")).unwrap();
        symlink("..", place.path("m/up")).unwrap();
        assert!(place.refusal("m").contains("out of [folder]/m:"));
        fs::remove_file(place.path("m/up")).unwrap();
        symlink(".", place.path("m/again")).unwrap();
        let circle = "[folder]/m/again is a link to a folder that it is in: take it out";
        assert_eq!(place.refusal("m"), circle);
        fs::remove_file(place.path("m/again")).unwrap();
        symlink("nowhere", place.path("m/nothing")).unwrap();
        let nothing = "[folder]/m/nothing is a link to nothing: take it out";
        assert_eq!(place.refusal("m"), nothing);
        fs::remove_file(place.path("m/nothing")).unwrap();
        symlink("self", place.path("m/self")).unwrap();
        assert!(
            place
                .refusal("m")
                .starts_with("cannot read [folder]/m/self")
        );
    }

    #[test]
    fn folders_that_are_linked_into_each_other_end() {
        // 2^20 ways through twenty folders.
        let place = Place::with(&["m/model.onnx"]);
        for depth in 0..20 {
            let folder = place.path(&format!("m/f{depth}"));
            fs::create_dir(&folder).unwrap();
            for name in ["a", "b"] {
                symlink(format!("../f{}", depth + 1), folder.join(name)).unwrap();
            }
        }
        fs::create_dir(place.path("m/f20")).unwrap();
        assert!(place.refusal("m").contains("more than 10000 files"));
    }

    #[test]
    fn a_pipe_among_the_files_is_refused_and_not_waited_for() {
        let place = Place::with(&["m/model.onnx"]);
        let pipe = place.path("m/pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let said = "cannot read [folder]/m/pipe: expected a file, found a named pipe";
        assert_eq!(place.refusal("m"), said);
        fs::rename(&pipe, place.path("m/.pipe")).unwrap();
        assert_eq!(place.names("m"), ["model.onnx"]);
    }

    #[test]
    fn a_folder_of_too_many_files_or_bytes_is_refused_with_numbers() {
        let place = Place::with(&["m/model.onnx"]);
        let large = fs::File::create(place.path("m/large")).unwrap();
        large.set_len(100_000_000_000).unwrap();
        assert_eq!(
            place.refusal("m"),
            "[folder]/m holds 100000000012 bytes in 2 files; expected at most 64000000000: give the folder of the model alone, or its \
             .onnx file"
        );
        for folder in ["/", "/proc", "/sys"] {
            let refused = files_of(Path::new(folder), Whose::Given).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{folder}: {refused}");
        }
    }
}

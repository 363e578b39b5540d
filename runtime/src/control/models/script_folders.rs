//! The folders that scoring scripts run in: one for each instance, made when it starts and gone when it has ended.
//!
//! ```text
//! <data>/scripts/<random>/lock
//!                         azureml-app/<folder of the code>/..             a copy: scripts may write there
//!                         azureml-models/<name>/<version>/<file or folder>   links to the model's files
//! ```
//!
//! Each is locked for as long as its instance lives. So a server that starts clears what another has left behind, and nothing that is
//! in use, as by the server whose place it takes.
//!
//! Threads: everything blocks. Not here: what runs there (`engine`), and which code and model (`control::work`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::control::models::ModelStoreError;
use crate::control::models::error::at;
use crate::control::models::files::make_private;
use crate::control::models::folder::{Whose, files_of};
use crate::control::models::mount::Mount;

const LOCK_FILE: &str = "lock";

/// The folder of these folders.
#[derive(Debug, Clone)]
pub(in crate::control) struct ScriptFolders {
    root: PathBuf,
}

/// All that a folder is made of.
#[derive(Debug)]
pub(in crate::control) struct Layout<'a> {
    /// The copy of the code, and the name of the folder that it came from.
    pub(in crate::control) code: (&'a Path, &'a str),
    /// The copy of the model, and how it is seen.
    pub(in crate::control) model: (&'a Path, &'a Mount),
    /// Name and version of the model.
    pub(in crate::control) reference: (&'a str, &'a str),
}

/// The folder of one instance. Dropping it deletes it.
#[derive(Debug)]
pub(in crate::control) struct ScriptFolder {
    root: PathBuf,
    /// `azureml-app`.
    pub(in crate::control) app_root: PathBuf,
    /// The copy of the code.
    pub(in crate::control) source_directory: PathBuf,
    /// The folder with the links to the model.
    pub(in crate::control) model_dir: PathBuf,
    _lock: File,
}

impl ScriptFolders {
    /// Opens `<data>/scripts`, and clears what servers that are gone have left behind.
    pub(in crate::control) fn open(data: &Path) -> Result<Self, ModelStoreError> {
        let root = data.join("scripts");
        make_private(&root).map_err(at("create folder", &root))?;
        // Links lead to models from wherever they are looked at.
        let root = fs::canonicalize(&root).map_err(at("find", &root))?;
        for entry in fs::read_dir(&root).map_err(at("read folder", &root))? {
            let left = entry.map_err(at("read folder", &root))?.path();
            if !is_in_use(&left) {
                // What cannot be deleted costs room, and keeps nobody from serving.
                delete(&left);
            }
        }
        Ok(Self { root })
    }

    /// Makes the folder of an instance.
    pub(in crate::control) fn lay_out(
        &self,
        layout: &Layout<'_>,
    ) -> Result<ScriptFolder, ModelStoreError> {
        let made = tempfile::tempdir_in(&self.root);
        let made = made.map_err(at("create a folder in", &self.root))?;
        let ((code, code_name), (name, version)) = (layout.code, layout.reference);
        let lock_file = made.path().join(LOCK_FILE);
        let lock = File::create(&lock_file).map_err(at("write", &lock_file))?;
        lock.lock().map_err(at("lock", &lock_file))?;
        let made = made.keep();
        let app_root = made.join("azureml-app");
        let folder = ScriptFolder {
            source_directory: app_root.join(code_name),
            model_dir: made.join("azureml-models").join(name).join(version),
            app_root,
            root: made,
            _lock: lock,
        };
        copy(code, &folder.source_directory)?;
        link(layout.model, &folder.model_dir)?;
        Ok(folder)
    }
}

impl Drop for ScriptFolder {
    fn drop(&mut self) {
        delete(&self.root);
    }
}

/// Whether the instance of a folder lives, in whatever process.
fn is_in_use(folder: &Path) -> bool {
    let lock = File::options().write(true).open(folder.join(LOCK_FILE));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

fn delete(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, ?folder, "the folder of a script stays until the next start");
        }
        Ok(()) | Err(_) => {}
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), ModelStoreError> {
    make_private(to).map_err(at("create folder", to))?;
    for (name, source) in files_of(from, Whose::Ours)? {
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            make_private(parent).map_err(at("create folder", parent))?;
        }
        fs::copy(&source, &target).map_err(at("write", &target))?;
    }
    Ok(())
}

fn link((copy, mount): (&Path, &Mount), folder: &Path) -> Result<(), ModelStoreError> {
    make_private(folder).map_err(at("create folder", folder))?;
    let copy = fs::canonicalize(copy).map_err(at("find", copy))?;
    let entries = fs::read_dir(&copy).map_err(at("read folder", &copy))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.map(|name| name.map(|name| name.to_string_lossy().into_owned()));
    let stored = names.collect::<io::Result<_>>();
    for (name, below) in mount.links(&stored.map_err(at("read folder", &copy))?) {
        let place = folder.join(name);
        let end = if below.is_empty() {
            copy.clone()
        } else {
            copy.join(below)
        };
        symlink(end, &place).map_err(at("write", &place))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        data: tempfile::TempDir,
        folders: ScriptFolders,
    }

    impl Place {
        fn new() -> Self {
            let data = tempfile::tempdir().expect("a folder");
            for (file, content) in [
                ("code/m1/score.py", "def init(): pass"),
                ("model/model.onnx", "onnx"),
                ("model/w.bin", "weights"),
            ] {
                let file = data.path().join(file);
                fs::create_dir_all(file.parent().expect("a parent")).expect("made");
                fs::write(file, content).expect("written");
            }
            let folders = ScriptFolders::open(data.path()).expect("opens");
            Self { data, folders }
        }

        fn lay_out(&self, mount: &Mount) -> ScriptFolder {
            let made = self.folders.lay_out(&Layout {
                code: (&self.data.path().join("code"), "onlinescoring"),
                model: (&self.data.path().join("model"), mount),
                reference: ("digits", "3"),
            });
            made.expect("made")
        }

        fn left(&self) -> usize {
            let entries = fs::read_dir(self.data.path().join("scripts"));
            entries.expect("a folder").count()
        }
    }

    #[test]
    fn an_instance_has_code_to_write_to_and_its_model_as_azure_mounts_it() {
        let place = Place::new();
        let folder = place.lay_out(&Mount::of(Path::new("/m/digits.onnx"), Some(false)));
        assert!(
            folder
                .source_directory
                .ends_with("azureml-app/onlinescoring")
        );
        assert!(folder.model_dir.ends_with("azureml-models/digits/3"));
        let script = folder.source_directory.join("m1/score.py");
        fs::write(&script, "changed").expect("it may be written");
        fs::create_dir(folder.source_directory.join("m1/cache")).expect("and more be made");
        let stored = fs::read_to_string(place.data.path().join("code/m1/score.py"));
        assert_eq!(stored.expect("there"), "def init(): pass");
        let read = |name: &str| fs::read_to_string(folder.model_dir.join(name)).expect("a model");
        assert_eq!(
            (read("digits.onnx").as_str(), read("w.bin").as_str()),
            ("onnx", "weights")
        );
        let other = place.lay_out(&Mount::of(Path::new("/m/dir"), Some(true)));
        let read = fs::read_to_string(other.model_dir.join("dir/model.onnx"));
        assert_eq!(read.expect("a model"), "onnx");
        assert_ne!(other.app_root, folder.app_root);
        drop((folder, other));
        assert_eq!(place.left(), 0);
        assert!(
            place.data.path().join("model/w.bin").exists(),
            "links are not followed"
        );
    }

    #[test]
    fn what_cannot_be_laid_out_leaves_nothing_behind() {
        let place = Place::new();
        let mount = Mount::of(Path::new("/m"), Some(true));
        for (code, model) in [("none", "model"), ("code", "none")] {
            let refused = place.folders.lay_out(&Layout {
                code: (&place.data.path().join(code), "src"),
                model: (&place.data.path().join(model), &mount),
                reference: ("digits", "3"),
            });
            refused.expect_err("it is not there");
            assert_eq!(place.left(), 0);
        }
    }

    #[test]
    fn a_start_clears_what_a_dead_server_left_and_nothing_of_one_that_lives() {
        let place = Place::new();
        let mount = Mount::of(Path::new("/m"), Some(true));
        let lives = place.lay_out(&mount);
        let dead = place.data.path().join("scripts/dead/azureml-app");
        fs::create_dir_all(&dead).expect("made");
        fs::write(place.data.path().join("scripts/dead/lock"), "").expect("written");
        let half = place.data.path().join("scripts/half");
        fs::create_dir(&half).expect("made");
        ScriptFolders::open(place.data.path()).expect("opens");
        assert!(!dead.exists() && !half.exists());
        assert!(lives.source_directory.join("m1/score.py").exists());
    }
}

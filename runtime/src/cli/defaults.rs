//! Files of the user's that hold what scripts of `az` have asked to be kept: the defaults of
//! `az configure --defaults group=.. workspace=..`, and environments.
//!
//! Not here: anything that the server acts upon.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::exit::CliError;
use crate::plain_file;

/// Largest file that is read.
const BYTES_MAX: u64 = 1024 * 1024;

const FILE: &str = "az-defaults.json";

/// Values by their names, as they were kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Defaults(BTreeMap<String, String>);

/// The place of a file: in `serin` in the user's configuration.
fn place(name: &str) -> Option<PathBuf> {
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    Some(home?.join("serin").join(name))
}

/// What is kept in a file; nothing where it is not there or cannot be read.
pub(super) fn read_kept<T: DeserializeOwned + Default>(name: &str) -> T {
    let bytes = place(name).and_then(|file| plain_file::read(&file, BYTES_MAX).ok());
    let kept = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.unwrap_or_default()
}

/// Writes a file, whole or not at all.
pub(super) fn write_kept(name: &str, kept: &impl Serialize) -> Result<(), CliError> {
    let file = place(name)
        .ok_or_else(|| CliError::BadInput("no place to keep it: HOME is not set".to_owned()))?;
    write_to(&file, kept).map_err(|source| CliError::Write { path: file, source })
}

fn write_to(file: &Path, kept: &impl Serialize) -> io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder)?;
    let draft = NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&draft, kept)?;
    draft.persist(file)?;
    Ok(())
}

impl Defaults {
    /// What is kept.
    pub(super) fn read() -> Self {
        Self(read_kept(FILE))
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.0.iter();
        kept.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Keeps a value; an empty one is forgotten, as `az` has it.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        match value {
            "" => self.0.remove(name),
            value => self.0.insert(name.to_owned(), value.to_owned()),
        };
    }

    /// Writes them.
    pub(super) fn write(&self) -> Result<(), CliError> {
        write_kept(FILE, &self.0)
    }
}

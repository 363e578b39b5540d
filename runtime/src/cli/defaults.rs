//! The defaults of `az configure --defaults group=.. workspace=..`, in a file of the user's.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::exit::CliError;
use crate::plain_file;

/// Largest file of defaults that is read.
const BYTES_MAX: u64 = 64 * 1024;

/// Values by their names, as they were kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Defaults(BTreeMap<String, String>);

/// The place of the file: `serin/az-defaults.json` in the user's configuration.
fn file() -> Option<PathBuf> {
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    Some(home?.join("serin/az-defaults.json"))
}

impl Defaults {
    /// What is kept; nothing where the file is not there or cannot be read, for it only names things.
    pub(super) fn read() -> Self {
        let bytes = file().and_then(|file| plain_file::read(&file, BYTES_MAX).ok());
        let kept = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self(kept.unwrap_or_default())
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

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self) -> Result<(), CliError> {
        let file = file().ok_or_else(|| {
            CliError::BadInput("no place for defaults: HOME is not set".to_owned())
        })?;
        self.write_to(&file)
            .map_err(|source| CliError::Write { path: file, source })
    }

    fn write_to(&self, file: &PathBuf) -> io::Result<()> {
        let folder = file.parent().unwrap_or(file);
        fs::create_dir_all(folder)?;
        let draft = NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&draft, &self.0)?;
        draft.persist(file)?;
        Ok(())
    }
}

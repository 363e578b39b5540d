//! A registered version of a model, and the address of its content.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::spec::{ModelName, ModelVersion};

/// SHA-256 of a model's files, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelDigest(String);

impl ModelDigest {
    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn of(hash: Sha256) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("a string takes all that is written");
        }
        Self(text)
    }

    /// The address of content that nobody has looked at: a name of the caller's.
    pub(super) fn unknown(name: &str) -> Self {
        Self(name.to_owned())
    }

    #[cfg(test)]
    pub(super) fn for_test(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// One registered version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name, the same for all versions.
    pub name: ModelName,
    /// Version, immutable once registered.
    pub version: ModelVersion,
    /// Content of the version.
    pub digest: ModelDigest,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// Where it was copied from.
    pub path: PathBuf,
    /// When it was registered.
    pub created_at: jiff::Timestamp,
    /// Who registered it.
    pub created_by: String,
}

impl ModelRecord {
    /// `name:version`, as people refer to it.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }
}

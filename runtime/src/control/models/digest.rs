//! The content address of a model.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("a string takes all that is written");
        }
        Self(text)
    }

    /// The digest that a folder is named by; nothing where it has another name.
    pub(in crate::control) fn of_name(name: &str) -> Option<Self> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (name.len() == 64 && name.bytes().all(digits)).then(|| Self(name.to_owned()))
    }

    /// The address of content that nobody has looked at: a name of the caller's.
    pub(in crate::control) fn unknown(name: &str) -> Self {
        Self(name.to_owned())
    }

    #[cfg(test)]
    pub(in crate::control) fn for_test(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

//! The content of a model file that no store knows: a digest of it and of the files beside it that hold its weights.
//!
//! Not here: models that were registered, whose digest the control plane has; which files hold weights (`external_data`).

use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::engine::private_copy::data_files;
use crate::plain_file;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The summary that stands for a model's content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Changes with every byte of the model and of its weights.
    pub(super) digest: String,
    /// Bytes of all its files.
    pub(super) bytes: u64,
}

/// Reads all files of a model.
///
/// # Errors
///
/// When one of them cannot be read.
pub(super) fn of(model: &Path) -> io::Result<Content> {
    let folder = model.parent().unwrap_or(Path::new(""));
    let mut hash = Sha256::new();
    let mut bytes = read(model, &mut hash)?;
    for file in data_files(model)? {
        let name = file.as_os_str().as_bytes();
        hash.update(format!("\0{}\0", name.len()));
        hash.update(name);
        bytes += read(&folder.join(&file), &mut hash)?;
    }
    let digest = hash.finalize();
    Ok(Content {
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes,
    })
}

/// Hashes a file; its size.
fn read(path: &Path, hash: &mut Sha256) -> io::Result<u64> {
    let mut file = plain_file::open(path)?;
    let (mut chunk, mut bytes) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(bytes);
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::written;

    #[test]
    fn the_digest_changes_with_the_model_and_with_its_weights() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        let weights = folder.path().join("weights");
        let mut digests = BTreeSet::new();
        for (length, beside) in [(1, "1"), (2, "1"), (1, "2"), (1, "12")] {
            let whole = written::model_with_data("weights", length);
            std::fs::write(&model, &whole).unwrap();
            std::fs::write(&weights, beside).unwrap();
            let content = of(&model).unwrap();
            assert_eq!(content.bytes, (whole.len() + beside.len()) as u64);
            assert!(digests.insert(content.digest), "{beside}");
        }
        std::fs::remove_file(&weights).unwrap();
        assert!(of(&model).is_err(), "weights that are not there");
    }

    #[test]
    fn what_is_no_model_has_a_digest_of_its_own_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        let digest = |content: &[u8]| {
            std::fs::write(&file, content).unwrap();
            of(&file).unwrap().digest
        };
        assert_ne!(digest(b"import pickle"), digest(b"import pickles"));
    }
}

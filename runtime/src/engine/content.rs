//! The content of a model file that no store knows: a digest of it and of the files beside it that hold its weights.
//!
//! The model names those files in entries `location` of its external data; they are found by the bytes that ONNX's protobuf has
//! for such an entry, so nothing else of the format need be understood.
//!
//! Not here: models that were registered, whose digest the control plane has.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// An entry of external data as it begins: its first field, 8 bytes long, is `location`; its second field follows.
const LOCATION: &[u8] = b"\x0a\x08location\x12";
/// Longest name of a file that is understood, in bytes; its length takes at most two bytes then.
const NAME_BYTES_MAX: usize = 4096;
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
    let (mut hash, mut names) = (Sha256::new(), BTreeSet::new());
    let mut bytes = read(model, &mut hash, |window| find_names(window, &mut names))?;
    for name in &names {
        hash.update(format!("\0{}\0", name.len()));
        hash.update(name.as_bytes());
        bytes += read(&folder.join(name), &mut hash, |_| {})?;
    }
    let digest = hash.finalize();
    Ok(Content {
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes,
    })
}

/// Hashes a file and shows it in windows that overlap by as much as an entry takes; its size.
fn read(path: &Path, hash: &mut Sha256, mut show: impl FnMut(&[u8])) -> io::Result<u64> {
    let overlap = LOCATION.len() + 2 + NAME_BYTES_MAX;
    let mut file = File::open(path)?;
    let (mut window, mut kept, mut bytes) = (vec![0; overlap + CHUNK_BYTES], 0, 0);
    loop {
        let read = file.read(&mut window[kept..])?;
        if read == 0 {
            return Ok(bytes);
        }
        hash.update(&window[kept..kept + read]);
        bytes += read as u64;
        show(&window[..kept + read]);
        let all = kept + read;
        kept = all.min(overlap);
        window.copy_within(all - kept..all, 0);
    }
}

/// Adds the names that whole entries in these bytes have.
fn find_names(bytes: &[u8], names: &mut BTreeSet<String>) {
    let first = LOCATION[0];
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        from += at + 1;
        if let Some(entry) = bytes[from - 1..].strip_prefix(LOCATION) {
            names.extend(name_of(entry));
        }
    }
}

/// The text that begins with its length; none where it is cut off or no text.
fn name_of(entry: &[u8]) -> Option<String> {
    let (length, rest) = match *entry {
        [low @ 0..0x80, ref rest @ ..] => (usize::from(low), rest),
        [low, high @ 0..0x80, ref rest @ ..] => {
            (usize::from(low & 0x7f) | usize::from(high) << 7, rest)
        }
        _ => return None,
    };
    let name = rest.get(..length)?;
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        [LOCATION, &[length], name.as_bytes()].concat()
    }

    #[test]
    fn the_digest_changes_with_the_model_and_with_its_weights() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        let weights = folder.path().join("weights");
        let mut digests = BTreeSet::new();
        for (content, beside) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "12")] {
            std::fs::write(&model, [content.as_bytes(), &entry("weights")].concat()).unwrap();
            std::fs::write(&weights, beside).unwrap();
            let content = of(&model).unwrap();
            assert_eq!(content.bytes, 20 + beside.len() as u64);
            assert!(digests.insert(content.digest), "{beside}");
        }
        std::fs::remove_file(&weights).unwrap();
        assert!(of(&model).is_err(), "weights that are not there");
    }

    #[test]
    fn names_are_found_wherever_a_window_ends() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        std::fs::write(folder.path().join("far"), [0; 1000]).unwrap();
        for before in CHUNK_BYTES - 20..CHUNK_BYTES + 5 {
            std::fs::write(&model, [vec![LOCATION[0]; before], entry("far")].concat()).unwrap();
            let content = of(&model).unwrap();
            assert_eq!(content.bytes, (before + 15 + 1000) as u64, "{before}");
        }
    }

    #[test]
    fn long_names_are_read_and_any_bytes_are_not_taken_for_names() {
        let long = "n".repeat(300);
        let entry = [&[0xac, 0x02], long.as_bytes()].concat();
        assert_eq!(name_of(&entry), Some(long));
        for entry in [&[][..], &[0x80], &[5, b'a'], &[0xff, 0xff, 1], &[1, 0xff]] {
            assert_eq!(name_of(entry), None, "{entry:?}");
        }
    }
}

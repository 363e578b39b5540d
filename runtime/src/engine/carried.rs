//! The ONNX Runtime that the binary carries inside, unpacked once.
//!
//! The library goes to `$SERIN_CACHE`, else `$XDG_CACHE_HOME/serin`, else `~/.cache/serin`, in a folder named after its
//! checksum. It appears there whole or not at all; a damaged copy is noticed at the next start and replaced.
//!
//! Threads: whoever loads ONNX Runtime. Not here: which library is taken (`library`).

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::cache_folder::cache_folder;
use crate::engine::library_error::LibraryError;
use crate::engine::memory;

/// The library as the build script found it.
mod embedded {
    include!(concat!(env!("OUT_DIR"), "/onnxruntime.rs"));
}

/// Bytes of the library that are written at a time.
const WRITE_BYTES: usize = 64 * 1024;

/// Short form of the library's checksum.
pub(super) fn id() -> &'static str {
    &embedded::SHA256[..16]
}

/// The unpacked library, ready to be loaded.
pub(super) fn unpacked() -> Result<PathBuf, LibraryError> {
    unpack_to(&cache_folder().ok_or(LibraryError::NoCacheFolder)?)
}

/// Whether this is the place that it is unpacked to.
pub(super) fn is_unpacked(library: &Path) -> bool {
    cache_folder().is_some_and(|cache| library == place_in(&cache))
}

fn place_in(cache: &Path) -> PathBuf {
    cache
        .join(format!("onnxruntime-{}", id()))
        .join("libonnxruntime.so")
}

/// Unpacks the library below `cache` unless a sound copy is there.
fn unpack_to(cache: &Path) -> Result<PathBuf, LibraryError> {
    let folder = cache.join(format!("onnxruntime-{}", id()));
    let library = folder.join("libonnxruntime.so");
    if is_sound(&library) {
        return Ok(library);
    }
    let failed = |error: &io::Error| LibraryError::Unpack {
        folder: folder.display().to_string(),
        reason: error.to_string(),
        megabytes: embedded::BYTES / 1_000_000 + 1,
    };
    std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
    let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(|error| failed(&error))?;
    let found = decompress(file.as_file_mut()).map_err(|error| failed(&error))?;
    if found != embedded::SHA256 {
        return Err(LibraryError::Damaged {
            found,
            expected: embedded::SHA256.to_owned(),
        });
    }
    // Other users may share the cache folder.
    let readable = std::fs::Permissions::from_mode(0o644);
    file.as_file()
        .set_permissions(readable)
        .map_err(|error| failed(&error))?;
    // Two processes at once: the later rename replaces a sound file by its twin.
    file.persist(&library)
        .map_err(|error| failed(&error.error))?;
    Ok(library)
}

/// Writes the library to `file`, down to the disk; its SHA-256.
fn decompress(file: &mut File) -> io::Result<String> {
    let mut library = Vec::with_capacity(usize::try_from(embedded::BYTES).unwrap_or(0));
    zstd::stream::Decoder::new(embedded::COMPRESSED)?.read_to_end(&mut library)?;
    memory::forget(embedded::COMPRESSED);
    // The system maps what is written at once as one piece, however little of it is run: a large write costs memory for good.
    for piece in library.chunks(WRITE_BYTES) {
        file.write_all(piece)?;
    }
    file.sync_all()?;
    Ok(Sha256::digest(&library)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Whether the file has the right size and CRC-32: a few milliseconds, where a cryptographic hash takes many.
fn is_sound(library: &Path) -> bool {
    let Ok(file) = File::open(library) else {
        return false;
    };
    if file.metadata().map_or(0, |metadata| metadata.len()) != embedded::BYTES {
        return false;
    }
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hasher = crc32fast::Hasher::new();
    loop {
        match io::BufRead::fill_buf(&mut reader) {
            Ok([]) => return hasher.finalize() == embedded::CRC32,
            Ok(chunk) => {
                hasher.update(chunk);
                let read = chunk.len();
                io::BufRead::consume(&mut reader, read);
            }
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_unpacked_once_and_a_damaged_copy_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let library = unpack_to(cache.path()).unwrap();
        let first = std::fs::metadata(&library).unwrap().modified().unwrap();
        assert_eq!(unpack_to(cache.path()).unwrap(), library);
        assert_eq!(
            std::fs::metadata(&library).unwrap().modified().unwrap(),
            first,
            "a sound copy is left alone"
        );

        let mut bytes = std::fs::read(&library).unwrap();
        bytes[1_000_000] ^= 1;
        std::fs::write(&library, &bytes).unwrap();
        unpack_to(cache.path()).unwrap();
        bytes[1_000_000] ^= 1;
        assert!(
            std::fs::read(&library).unwrap() == bytes,
            "the damaged byte is mended"
        );
        std::fs::write(&library, b"half").unwrap();
        unpack_to(cache.path()).unwrap();
        assert!(is_sound(&library));
        let files = std::fs::read_dir(library.parent().unwrap())
            .unwrap()
            .count();
        assert_eq!(files, 1, "nothing is left beside the library");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let message = unpack_to(&file).unwrap_err().to_string();
        assert!(message.contains(file.to_str().unwrap()), "{message}");
        assert!(message.contains("set SERIN_CACHE"), "{message}");
    }
}

//! The high-water mark: how much of the database was accepted, kept beside it.
//!
//! A database cannot know that it has become an older one: a log that was lost or cut off, a copy that was put back, or an empty
//! file open without complaint. So every change that is accepted moves a number in the database, and then the mark, and only then
//! is it accepted. A database behind its mark has lost something; one ahead of it was cut off between the two, and has not.
//!
//! ```text
//! <data>/serin.mark      two blocks, written in turns, each a line of JSON with a checksum, filled up with spaces
//! ```
//!
//! It is written in place: no crash leaves both blocks torn, and a full disk has room for what is there already.
//!
//! Threads: that of the store; everything blocks. Not here: what is compared with it (`guard`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name of the mark in the data folder.
pub(super) const MARK_FILE: &str = "serin.mark";

/// A page of every file system, so that no write touches both blocks.
const BLOCK_BYTES: usize = 4096;

/// What was accepted at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Mark {
    /// The database that it is about: drawn when that was made.
    pub(super) store: String,
    /// Durable transactions of that database.
    pub(super) commits: u64,
    /// The number of the desired state, for people.
    pub(super) revision: u64,
}

/// A block: the mark, and the checksum of its fields.
#[derive(Serialize, Deserialize)]
struct Block {
    #[serde(flatten)]
    mark: Mark,
    sha256: String,
}

impl Mark {
    fn checksum(&self) -> String {
        let text = format!("{}\0{}\0{}", self.store, self.commits, self.revision);
        hex(Sha256::new().chain_update(text))
    }

    fn block(&self) -> Vec<u8> {
        let block = Block {
            mark: self.clone(),
            sha256: self.checksum(),
        };
        let mut bytes = serde_json::to_vec(&block).expect("words and numbers are JSON");
        bytes.resize(BLOCK_BYTES - 1, b' ');
        bytes.push(b'\n');
        bytes
    }

    fn of_block(bytes: &[u8]) -> Option<Self> {
        let Block { mark, sha256 } = serde_json::from_slice(bytes).ok()?;
        (mark.checksum() == sha256).then_some(mark)
    }
}

/// What a look at the file of the mark finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundMark {
    /// No file.
    Missing,
    /// A file in which no block is whole.
    Damaged,
    /// The higher of the whole blocks.
    Is(Mark),
}

impl FoundMark {
    pub(super) fn in_folder(folder: &Path) -> io::Result<Self> {
        let bytes = match fs::read(folder.join(MARK_FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing),
            Err(error) => return Err(error),
        };
        let marks = bytes.chunks(BLOCK_BYTES).filter_map(Mark::of_block);
        let highest = marks.max_by_key(|mark| mark.commits);
        Ok(highest.map_or(Self::Damaged, Self::Is))
    }
}

/// The file of the mark, open.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    /// The block that is written next.
    next: u64,
}

impl MarkFile {
    /// Opens the file, or makes it, with this mark in it: there whole or not at all.
    pub(super) fn begin(folder: &Path, mark: &Mark) -> io::Result<Self> {
        let path = folder.join(MARK_FILE);
        let whole = fs::metadata(&path).is_ok_and(|found| found.len() == 2 * BLOCK_BYTES as u64);
        let file = if whole {
            File::options().write(true).open(&path)?
        } else {
            let made = folder.join("serin.mark.new");
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(&made)?;
            file.write_all_at(&[mark.block(), mark.block()].concat(), 0)?;
            file.sync_all()?;
            fs::rename(&made, &path)?;
            File::open(folder)?.sync_all()?;
            file
        };
        let mut begun = Self { file, next: 0 };
        // Both, so that nothing of an earlier mark is left to be taken for the higher one.
        begun.write(mark)?;
        begun.write(mark)?;
        Ok(begun)
    }

    /// Raises the mark. It is on disk when this returns.
    pub(super) fn write(&mut self, mark: &Mark) -> io::Result<()> {
        self.file
            .write_all_at(&mark.block(), self.next * BLOCK_BYTES as u64)?;
        self.file.sync_data()?;
        self.next = 1 - self.next;
        Ok(())
    }
}

/// The digits of a finished hash.
pub(super) fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(commits: u64) -> Mark {
        Mark {
            store: "s".to_owned(),
            commits,
            revision: 1,
        }
    }

    fn found(folder: &Path) -> FoundMark {
        FoundMark::in_folder(folder).expect("it can be read")
    }

    #[test]
    fn the_mark_that_was_written_last_is_found_and_none_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(found(folder.path()), FoundMark::Missing);
        let mut file = MarkFile::begin(folder.path(), &mark(1)).expect("made");
        for commits in 2..6 {
            file.write(&mark(commits)).expect("written");
            assert_eq!(found(folder.path()), FoundMark::Is(mark(commits)));
        }
        drop(file);
        // One that goes back, because a person accepted it.
        MarkFile::begin(folder.path(), &mark(3)).expect("opened");
        assert_eq!(found(folder.path()), FoundMark::Is(mark(3)));
    }

    /// A power cut in the middle of a write leaves any part of the new block over the old one.
    #[test]
    fn a_torn_write_leaves_the_mark_before_it_or_the_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = MarkFile::begin(folder.path(), &mark(1)).expect("made");
        file.write(&mark(8)).expect("written");
        let path = folder.path().join(MARK_FILE);
        let before = fs::read(&path).expect("read");
        file.write(&mark(999)).expect("written");
        let after = fs::read(&path).expect("read");
        for cut in (0..=before.len()).step_by(7) {
            fs::write(&path, [&after[..cut], &before[cut..]].concat()).expect("written");
            let found = found(folder.path());
            let expected = [FoundMark::Is(mark(8)), FoundMark::Is(mark(999))];
            assert!(expected.contains(&found), "{cut}: {found:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_never_another_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = MarkFile::begin(folder.path(), &mark(1)).expect("made");
        file.write(&mark(8)).expect("written");
        let path = folder.path().join(MARK_FILE);
        let whole = fs::read(&path).expect("read");
        for at in (0..2 * BLOCK_BYTES * 8).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            fs::write(&path, &bytes).expect("written");
            let expected = [FoundMark::Is(mark(1)), FoundMark::Is(mark(8))];
            let found = found(folder.path());
            assert!(expected.contains(&found), "{at}: {found:?}");
        }
        fs::write(&path, "").expect("written");
        assert_eq!(found(folder.path()), FoundMark::Damaged);
    }
}

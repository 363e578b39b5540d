//! The wire format of protobuf, read from a file in order: what is of no interest is skipped in the file.
//!
//! Threads: everything blocks. Not here: which messages there are (`external_data`, `graph::skeleton`).

use std::fs::File;
use std::io::{self, BufReader, Read as _};

/// Longest text that is kept, in bytes: as long as a path can be.
pub(super) const TEXT_BYTES_MAX: u64 = 4096;

/// A field as it begins; what it holds follows in the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Number(u64),
    /// This many bytes follow, after their length.
    Bytes(u64),
    /// This many bytes follow: 4 or 8.
    Fixed(u64),
}

/// Why the walk ended early.
#[derive(Debug)]
pub(super) enum Problem {
    /// These bytes are no protobuf.
    Malformed,
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Every length was found to be within the file: it has become shorter meanwhile.
            io::ErrorKind::UnexpectedEof => Self::Malformed,
            _ => Self::Io(error),
        }
    }
}

/// Bytes of a file in order, and where in it they are.
#[derive(Debug)]
pub(super) struct Wire {
    file: BufReader<File>,
    at: u64,
}

impl Wire {
    pub(super) fn new(file: File) -> Self {
        Self {
            file: BufReader::new(file),
            at: 0,
        }
    }

    /// Bytes that lie before the next one.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// All of what follows in this many bytes, added to `to`. The caller has bounded the length.
    pub(super) fn append(&mut self, length: u64, to: &mut Vec<u8>) -> Result<(), Problem> {
        let read = (&mut self.file).take(length).read_to_end(to)?;
        self.at += length;
        (read as u64 == length)
            .then_some(())
            .ok_or(Problem::Malformed)
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Problem::Malformed)
    }

    /// The next field: its number and how it begins. None of it lies at `end` or beyond.
    pub(super) fn field(&mut self, end: u64) -> Result<(u64, Value), Problem> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Fixed(8),
            2 => Value::Bytes(self.varint()?),
            5 => Value::Fixed(4),
            // Groups: no message of ONNX has any.
            _ => return Err(Problem::Malformed),
        };
        let length = match value {
            Value::Number(_) => 0,
            Value::Bytes(length) | Value::Fixed(length) => length,
        };
        let fits = end.checked_sub(self.at).is_some_and(|left| length <= left);
        if key >> 3 == 0 || !fits {
            return Err(Problem::Malformed);
        }
        Ok((key >> 3, value))
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<(), Problem> {
        let by = i64::try_from(length).map_err(|_| Problem::Malformed)?;
        self.file.seek_relative(by)?;
        self.at += length;
        Ok(())
    }

    /// The beginning of a text; the rest of a very long one is left out.
    pub(super) fn text(&mut self, length: u64) -> Result<Vec<u8>, Problem> {
        let kept = length.min(TEXT_BYTES_MAX);
        let mut text = vec![0; usize::try_from(kept).expect("a few thousand")];
        self.file.read_exact(&mut text)?;
        self.at += kept;
        self.skip(length - kept)?;
        Ok(text)
    }
}

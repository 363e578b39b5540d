//! A file that should be ONNX Runtime, read before it is loaded: to load a library is to run code of it.
//!
//! Only what the dynamic loader would read: the head, the table of segments, and the names. Bounds are checked, for the file may be
//! anything. The build script compiles this file too, so it names nothing of the crate.
//! Not here: which file is taken (`library`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The function that every ONNX Runtime exports.
const SYMBOL: &[u8] = b"OrtGetApiBase";
/// Start of the name by which ONNX Runtime marks its symbols with its version.
const VERSION_MARK: &[u8] = b"VERS_";
/// Bytes of the head of an ELF file of 64 bits.
const HEAD_BYTES: usize = 64;
/// Bytes of one line of its table of segments.
const SEGMENT_BYTES: usize = 56;
/// Most segments, and most bytes of names and of the dynamic table, that are read. ONNX Runtime has some ten, and some thousands.
const SEGMENTS_MAX: usize = 256;
const TABLE_BYTES_MAX: usize = 1 << 24;

const SHARED_LIBRARY: u16 = 3;
const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;
const NAMES_AT: u64 = 5;
const NAMES_BYTES: u64 = 10;

/// A segment of the file.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

/// Looks at the file for a machine of this kind (`linux`, `x86_64`): its version, where its names tell, or in words what was found
/// instead of an ONNX Runtime.
pub(crate) fn inspect(path: &Path, os: &str, arch: &str) -> Result<Option<String>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "nothing".to_owned(),
        _ => format!("no readable file ({error})"),
    })?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        return Err(what.to_owned());
    }
    let file = File::open(path).map_err(|error| format!("no readable file ({error})"))?;
    if os != "linux" {
        // Other systems have other formats; their loader says what is wrong.
        return Ok(None);
    }
    let names = names(&file, metadata.len(), arch)?;
    let mut names = names.split(|byte| *byte == 0);
    if !names.clone().any(|name| name == SYMBOL) {
        return Err("a library without the symbol OrtGetApiBase".to_owned());
    }
    let version = names.find_map(|name| name.strip_prefix(VERSION_MARK));
    Ok(version.map(|version| String::from_utf8_lossy(version).into_owned()))
}

/// The names of a shared library for this machine, each with a zero behind it.
fn names(file: &File, bytes: u64, arch: &str) -> Result<Vec<u8>, String> {
    let damaged = || "a damaged library (it was cut off, or is no ELF file all through)".to_owned();
    let head = read(file, 0, HEAD_BYTES).ok_or_else(|| format!("a file of {bytes} bytes"))?;
    check_head(&head, arch)?;
    let table_at = word(&head, 32).ok_or_else(damaged)?;
    let count = usize::from(half(&head, 56).unwrap_or(0)).min(SEGMENTS_MAX);
    let table = read(file, table_at, count * SEGMENT_BYTES).ok_or_else(damaged)?;
    let segments: Vec<Segment> = table
        .as_chunks::<SEGMENT_BYTES>()
        .0
        .iter()
        .filter_map(segment)
        .collect();
    let dynamic = segments.iter().find(|segment| segment.kind == DYNAMIC);
    let dynamic = dynamic.ok_or("an ELF file without dynamic symbols")?;
    let dynamic = read_bounded(file, dynamic.offset, dynamic.bytes).ok_or_else(damaged)?;
    let entry = |tag: u64| {
        let mut entries = dynamic.as_chunks::<16>().0.iter();
        entries.find_map(|entry| (word(entry, 0)? == tag).then(|| word(entry, 8))?)
    };
    let (address, size) = entry(NAMES_AT)
        .zip(entry(NAMES_BYTES))
        .ok_or_else(damaged)?;
    let offset = offset_of(&segments, address).ok_or_else(damaged)?;
    read_bounded(file, offset, size).ok_or_else(damaged)
}

fn check_head(head: &[u8], arch: &str) -> Result<(), String> {
    if !head.starts_with(b"\x7fELF") {
        return Err(match head {
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "a static library (.a)",
            [b'M', b'Z', ..] => "a library for Windows",
            [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a library for macOS",
            [b'P', b'K', ..] => "a zip file (a wheel is one: the library is inside)",
            _ => "a file that is no ELF library",
        }
        .to_owned());
    }
    // 64 bits, the least significant byte first.
    if head[4] != 2 || head[5] != 1 {
        return Err("a library of 32 bits, or of another order of bytes".to_owned());
    }
    let machine = half(head, 18).unwrap_or(0);
    let expected = match arch {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        _ => None,
    };
    if expected.is_some_and(|expected| expected != machine) {
        let found = match machine {
            62 => "x86_64".to_owned(),
            183 => "aarch64".to_owned(),
            other => format!("ELF machine {other}"),
        };
        return Err(format!("a library for {found}, where {arch} is needed"));
    }
    match half(head, 16) {
        Some(SHARED_LIBRARY) => Ok(()),
        _ => Err("an ELF file that is no shared library".to_owned()),
    }
}

fn segment(line: &[u8; SEGMENT_BYTES]) -> Option<Segment> {
    let kind = line.first_chunk::<4>()?;
    Some(Segment {
        kind: u32::from_le_bytes(*kind),
        offset: word(line, 8)?,
        address: word(line, 16)?,
        bytes: word(line, 32)?,
    })
}

/// The place in the file of what is at an address in memory.
fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let within = address.checked_sub(segment.address)?;
        let here = segment.kind == LOADED && within < segment.bytes;
        here.then(|| segment.offset.checked_add(within))?
    })
}

fn read_bounded(file: &File, offset: u64, bytes: u64) -> Option<Vec<u8>> {
    let bytes = usize::try_from(bytes).ok()?;
    (bytes <= TABLE_BYTES_MAX).then(|| read(file, offset, bytes))?
}

fn read(file: &File, offset: u64, bytes: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, offset).ok()?;
    Some(buffer)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// A library with these names, and nothing else that a loader would want.
#[cfg(test)]
pub(super) fn written(names: &[&str]) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") {
        183
    } else {
        62
    };
    let text: Vec<u8> = names
        .iter()
        .flat_map(|name| [b"\0", name.as_bytes()].concat())
        .chain([0])
        .collect();
    let (table_at, dynamic_at) = (HEAD_BYTES, HEAD_BYTES + 2 * SEGMENT_BYTES);
    let names_at = dynamic_at + 48;
    let mut bytes = vec![0; names_at];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &SHARED_LIBRARY.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(32, &(table_at as u64).to_le_bytes());
    put(56, &2_u16.to_le_bytes());
    // The whole file lies at address 4096 and on.
    for (at, kind, offset, size) in [
        (table_at, LOADED, 0, names_at + text.len()),
        (table_at + SEGMENT_BYTES, DYNAMIC, dynamic_at, 48),
    ] {
        put(at, &kind.to_le_bytes());
        put(at + 8, &(offset as u64).to_le_bytes());
        put(at + 16, &(4096 + offset as u64).to_le_bytes());
        put(at + 32, &(size as u64).to_le_bytes());
    }
    for (at, tag, value) in [
        (dynamic_at, NAMES_AT, 4096 + names_at),
        (dynamic_at + 16, NAMES_BYTES, text.len()),
    ] {
        put(at, &tag.to_le_bytes());
        put(at + 8, &(value as u64).to_le_bytes());
    }
    bytes.extend(text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(bytes: &[u8]) -> Result<Option<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        inspect(file.path(), std::env::consts::OS, std::env::consts::ARCH)
    }

    #[test]
    fn a_library_is_known_by_its_symbol_and_tells_its_version() {
        let names = ["malloc", "OrtGetApiBase", "VERS_1.32.0"];
        assert_eq!(inspected(&written(&names)), Ok(Some("1.32.0".to_owned())));
        assert_eq!(inspected(&written(&names[..2])), Ok(None));
        let near = inspected(&written(&["OrtGetApiBaseline", "xOrtGetApiBase"]));
        assert_eq!(
            near,
            Err("a library without the symbol OrtGetApiBase".to_owned())
        );
    }

    #[test]
    fn a_library_that_was_cut_off_anywhere_is_refused() {
        let whole = written(&["OrtGetApiBase"]);
        for end in 0..whole.len() {
            inspected(&whole[..end]).expect_err("a part");
        }
    }

    /// No byte of the file can lead the reader to memory that it does not have.
    #[test]
    fn no_byte_ends_in_a_panic() {
        let whole = written(&["OrtGetApiBase"]);
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut wrong = whole.clone();
                wrong[at] = byte;
                drop(inspected(&wrong));
            }
        }
    }

    #[test]
    fn what_was_found_is_said() {
        let mut other_machine = written(&["OrtGetApiBase"]);
        other_machine[18] = if cfg!(target_arch = "aarch64") {
            62
        } else {
            183
        };
        let mut program = written(&["OrtGetApiBase"]);
        program[16] = 2;
        let mut small = written(&["OrtGetApiBase"]);
        small[4] = 1;
        let with = |start: &[u8]| [start, &[0; 100]].concat();
        for (bytes, words) in [
            (other_machine, "is needed"),
            (program, "no shared library"),
            (small, "32 bits"),
            (with(b"PK"), "a wheel"),
            (with(b"MZ"), "Windows"),
            (with(b"!<arch>"), "static"),
            (with(&[0xcf, 0xfa, 0xed, 0xfe]), "macOS"),
            (with(b"#!/bin/sh"), "no ELF"),
            (b"short".to_vec(), "5 bytes"),
        ] {
            let found = inspected(&bytes).unwrap_err();
            assert!(found.contains(words), "{found}");
        }
        let folder = inspect(&std::env::temp_dir(), "linux", "x86_64");
        assert_eq!(folder, Err("a folder".to_owned()));
    }
}

//! The process of a lane that runs a scoring script: how it is started, what goes to it and what comes back.
//!
//! Its own side is `harness.py`, one file of Python without dependencies, which the binary carries and puts into the cache. It keeps
//! to the same shared memory as the process of a model; what differs is that a request brings its head along, and an answer may.
//!
//! Threads: the lane's own. Not here: the life of the process (`process`), where the files of a script come from (`control`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};
use serin_scorers::Signature;
use sha2::{Digest as _, Sha256};

use crate::cache_folder::{cache_folder_for, make_private};
use crate::engine::cores::{self, CoreId, ThreadPlacement};
use crate::engine::lane::page::Page;
use crate::engine::lane::words::LaneReport;
use crate::engine::loading::Loading;
use crate::engine::{RequestHead, ResponseHead, Scored, ScriptSpec};

/// What the process runs.
const HARNESS: &str = include_str!("harness.py");

/// The variable by which libraries of numbers learn how many threads they may make.
const THREADS_VARIABLE: &str = "OMP_NUM_THREADS";

/// The beginning of the name of its file.
const HARNESS_NAME: &str = "serin_harness_";

/// The order of the server, in the first row of the shared memory.
#[derive(Debug, Serialize)]
struct ScriptOrder<'a> {
    entry_script: &'a Path,
    app_root: &'a Path,
    source_directory: &'a Path,
    model_dir: Option<&'a Path>,
    environment: Option<&'a str>,
    /// Those of the file count before what the process is told otherwise.
    variables: &'a BTreeMap<String, String>,
    /// Most bytes of data that the process may have.
    memory_bytes_max: Option<u64>,
    /// Cores on which it may run.
    cores: &'a [CoreId],
    /// Its name in `ps` and `top`.
    comm: String,
}

/// A script that can answer, as its process saw it.
#[derive(Debug, Deserialize)]
pub(super) struct ScriptReport {
    /// The version of its Python.
    python: String,
    /// Its schemas as text, which are done without where they cannot be read.
    schemas: Option<String>,
}

impl ScriptReport {
    /// The same in the words of any lane. A script has no tensors, and says what it takes by schemas or not at all.
    pub(super) fn into_lane_report(self, loading: &Loading, process: i32) -> LaneReport {
        tracing::debug!(
            lane = loading.label,
            python = self.python,
            "a script is ready"
        );
        let thread = ThreadPlacement {
            name: name(loading),
            tid: process,
            cores_asked: cores_of(loading).to_vec(),
            cores_allowed: Vec::new(),
        };
        LaneReport {
            signature: Signature {
                inputs: Vec::new(),
                outputs: Vec::new(),
            },
            schemas: self
                .schemas
                .and_then(|schemas| serde_json::from_str(&schemas).ok()),
            measured: None,
            threads: vec![thread],
        }
    }
}

fn name(loading: &Loading) -> String {
    cores::thread_name(&loading.label, &loading.number)
}

/// Where a process may run: on the cores of its lane, or wherever the server may.
fn cores_of(loading: &Loading) -> &[CoreId] {
    loading.floats_over.as_deref().unwrap_or(&loading.cores)
}

/// The order as JSON.
pub(super) fn order(script: &ScriptSpec, loading: &Loading) -> io::Result<Vec<u8>> {
    let order = ScriptOrder {
        entry_script: &script.entry_script,
        app_root: &script.app_root,
        source_directory: &script.source_directory,
        model_dir: script.model_dir.as_deref(),
        environment: script.environment.as_deref(),
        variables: &script.variables,
        memory_bytes_max: loading.memory.bytes_max(),
        cores: cores_of(loading),
        comm: name(loading),
    };
    Ok(serde_json::to_vec(&order)?)
}

/// The command that starts the process, and the end of the pipe where all that it prints comes out. The pipe has no end as long as the
/// command is there.
pub(super) fn command(
    script: &ScriptSpec,
    loading: &Loading,
    page: &Page,
) -> io::Result<(Command, OwnedFd)> {
    let (printed, prints) = io::pipe()?;
    let mut command = Command::new(&script.python);
    command
        .arg(unpacked()?)
        .arg(serde_json::to_string(&page.layout())?)
        .env(THREADS_VARIABLE, loading.cores.len().to_string())
        .envs(&script.variables)
        // A group of its own, so that what the script starts can be ended with it.
        .process_group(0)
        .stdin(Stdio::from(page.file()?))
        .stdout(Stdio::from(prints.try_clone()?))
        .stderr(Stdio::from(prints));
    Ok((command, printed.into()))
}

/// The harness as a file of the cache. It appears there whole or not at all; one that is damaged is replaced.
fn unpacked() -> io::Result<PathBuf> {
    let cache = cache_folder_for("what runs scoring scripts")?;
    unpack_to(&cache.join("harness"))
}

fn unpack_to(folder: &Path) -> io::Result<PathBuf> {
    let digest = Sha256::digest(HARNESS.as_bytes());
    let file = folder.join(format!(
        "{HARNESS_NAME}{:016x}.py",
        digest.as_slice().get_u64()
    ));
    make_private(folder)?;
    if fs::read(&file).is_ok_and(|found| found == HARNESS.as_bytes()) {
        return Ok(file);
    }
    let mut whole = tempfile::NamedTempFile::new_in(folder)?;
    whole.write_all(HARNESS.as_bytes())?;
    let _file: File = whole.persist(&file)?;
    Ok(file)
}

/// Whether a line that a process prints may say why it ended. Of a crash Python prints where every thread was, the harness included.
pub(super) fn may_be_last_words(line: &str) -> bool {
    !line.contains(HARNESS_NAME) && !line.starts_with("Extension modules:")
}

/// The bytes before the body of a request: the length of its head, and the head as JSON.
pub(super) fn framed(head: Option<&RequestHead>) -> Vec<u8> {
    let plain;
    let head = match head {
        Some(head) => head,
        None => {
            plain = RequestHead::default();
            &plain
        }
    };
    let mut bytes = vec![0; size_of::<u32>()];
    // Strings and lists of them: nothing that could not be written.
    drop(serde_json::to_writer(&mut bytes, head));
    let len = u32::try_from(bytes.len() - size_of::<u32>()).unwrap_or(0);
    bytes[..size_of::<u32>()].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// The answer that came with a head; none where the bytes are no such thing.
pub(super) fn scored(mut bytes: Bytes) -> Option<Scored> {
    let len = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
    if len > bytes.len() {
        return None;
    }
    let head: ResponseHead = serde_json::from_slice(&bytes.split_to(len)).ok()?;
    Some(Scored {
        body: bytes.into(),
        head: Some(Box::new(head)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_is_in_the_cache_whole_also_where_it_was_damaged() {
        let cache = tempfile::tempdir().unwrap();
        let file = unpack_to(cache.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), HARNESS);
        fs::write(&file, "import sys").unwrap();
        assert_eq!(unpack_to(cache.path()).unwrap(), file);
        assert_eq!(fs::read_to_string(&file).unwrap(), HARNESS);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let cache = tempfile::tempdir().unwrap();
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(cache.path(), open).unwrap();
        unpack_to(cache.path()).unwrap_err();
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_head_goes_before_its_body_and_comes_back() {
        let framed = framed(None);
        let (len, head) = framed.split_at(4);
        assert_eq!(
            u32::from_le_bytes(len.try_into().unwrap()) as usize,
            head.len()
        );
        let head: RequestHead = serde_json::from_slice(head).unwrap();
        assert_eq!(head.method, "POST");
        let answer = br#"{"status":400,"headers":[["x-a","b"]],"failed":true}"#;
        let len = u32::try_from(answer.len()).unwrap().to_le_bytes();
        let bytes = [&len[..], &answer[..], b"body"].concat();
        let scored = scored(bytes.into()).unwrap();
        assert_eq!(scored.body.bytes(), b"body");
        let head = scored.head.unwrap();
        assert_eq!((head.status, head.failed), (400, true));
        assert_eq!(head.headers, [("x-a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn nonsense_is_no_answer() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\xff\xff\xff\xff{}",
            b"\x02\x00\x00\x00{}",
            b"\x00\x00\x00\x00",
        ] {
            assert!(scored(Bytes::copy_from_slice(bytes)).is_none(), "{bytes:?}");
        }
    }
}

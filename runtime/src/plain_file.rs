//! Plain files: opened without waiting for anybody, and read up to a bound.
//!
//! A path that somebody gives may lead to a named pipe that nobody writes to, which would be waited for without end, or to a device
//! that has no end. So every file is opened without waiting, and looked at before the first byte of it is taken.
//!
//! And folders: whether others may write to one whose files are believed.
//!
//! Threads: everything blocks, for as long as a disk takes. Not here: standard input and what a shell hands over (`cli::files`).

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a file to read it.
///
/// # Errors
///
/// The system's reason, or that it is no file but a folder, a pipe, a device, a socket.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = open_any(path)?;
    check_kind(file.metadata()?.file_type())?;
    Ok(file)
}

/// The whole of a file.
///
/// # Errors
///
/// As [`open`], and when it has more bytes than that.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let bytes = file.metadata()?.len();
    // Said before they are read. A file that grows meanwhile is bounded all the same.
    if bytes > bytes_max {
        return Err(too_long(&format!("found {bytes}"), bytes_max));
    }
    read_up_to(file, bytes_max)
}

/// All that comes, until its end.
///
/// # Errors
///
/// The system's reason, or that more comes than that.
pub(crate) fn read_up_to(from: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= bytes_max) {
        return Ok(bytes);
    }
    Err(too_long("found more", bytes_max))
}

/// Opens whatever is at a path, without waiting: a pipe that nobody writes to is at its end.
pub(crate) fn open_any(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Refuses what is no file.
pub(crate) fn check_kind(kind: FileType) -> io::Result<()> {
    let found = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let words = format!("expected a file, found {found}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, words))
}

/// Refuses a path that is not UTF-8: specs are stored as text, and processes tell each other paths in JSON.
pub(crate) fn check_text(path: &Path) -> Result<(), String> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => Err(format!(
            "expected a path of UTF-8 text, found {path:?}: rename the file or folder, or link to it by another name"
        )),
    }
}

/// Refuses a folder to keep files in that others may write to: what is read from it later may be theirs.
///
/// # Errors
///
/// The system's reason, or who may write to it and what to do about it.
pub(crate) fn check_private(folder: &Path) -> io::Result<()> {
    let (kind, me) = (fs::metadata(folder)?, me());
    let owned = kind.uid() == me || kind.uid() == ROOT;
    judge(folder, (kind.mode(), kind.uid()), me, owned)
}

/// Refuses to believe the files of a folder that others may write to. The administrator may look into everybody's.
///
/// # Errors
///
/// As [`check_private`].
pub(crate) fn check_believable(folder: &Path) -> io::Result<()> {
    let (kind, me) = (fs::metadata(folder)?, me());
    let owned = [me, ROOT].contains(&kind.uid()) || me == ROOT;
    judge(folder, (kind.mode(), kind.uid()), me, owned)
}

const ROOT: u32 = 0;

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn judge(folder: &Path, (mode, owner): (u32, u32), me: u32, owned: bool) -> io::Result<()> {
    let name = folder.display();
    let instead = "or name a folder in it, which is made for this user alone";
    let words = if !owned {
        format!(
            "it belongs to user {owner}, and this process runs as user {me}: `chown {me} {name}`, {instead}"
        )
    } else if mode & 0o022 != 0 {
        let mode = mode & 0o7777;
        format!("others may write to it (its mode is {mode:04o}): `chmod go-w {name}`, {instead}")
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
}

fn too_long(found: &str, bytes_max: u64) -> io::Error {
    let words = format!("expected at most {bytes_max} bytes, {found}");
    io::Error::new(io::ErrorKind::FileTooLarge, words)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Why what is at a path is not read.
    fn refusal(path: &Path) -> String {
        read(path, 8).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_kind_and_never_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        let link = place.path().join("link.yml");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        let socket = place.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(refusal(&pipe), "expected a file, found a named pipe");
        assert_eq!(refusal(&link), "expected a file, found a named pipe");
        assert_eq!(refusal(place.path()), "expected a file, found a folder");
        for device in ["/dev/zero", "/dev/null", "/dev/tty"] {
            let said = refusal(Path::new(device));
            assert!(
                // Without a terminal there is no such device to open.
                device == "/dev/tty" || said == "expected a file, found a device",
                "{device}: {said}"
            );
        }
        // A socket does not even open.
        assert!(open(&socket).is_err());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused_with_what_to_do() {
        let said = |mode, owner, me, owned| {
            let refused = judge(Path::new("/data"), (mode, owner), me, owned);
            refused.map_err(|error| error.to_string())
        };
        for mode in [0o700, 0o755, 0o750, 0o500] {
            assert_eq!(said(mode, 7, 7, true), Ok(()));
        }
        for mode in [0o777, 0o1777, 0o770, 0o702, 0o720] {
            let words = said(mode | 0o40000, 7, 7, true).unwrap_err();
            assert_eq!(
                words,
                format!(
                    "others may write to it (its mode is {mode:04o}): `chmod go-w /data`, or name a folder in it, which is made for \
                     this user alone"
                )
            );
        }
        assert_eq!(
            said(0o700, 7, 8, false).unwrap_err(),
            "it belongs to user 7, and this process runs as user 8: `chown 8 /data`, or name a folder in it, which is made for this \
             user alone"
        );
        let own = tempfile::tempdir().unwrap();
        check_private(own.path()).unwrap();
        check_believable(own.path()).unwrap();
        assert!(check_private(Path::new("/tmp")).is_err() || me() != ROOT);
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "12345678").unwrap();
        assert_eq!(read(&path, 8).unwrap(), b"12345678");
        fs::write(&path, "123456789").unwrap();
        assert_eq!(refusal(&path), "expected at most 8 bytes, found 9");
        // One of /proc says that it has none.
        assert_eq!(
            refusal(Path::new("/proc/self/status")),
            "expected at most 8 bytes, found more"
        );
        assert!(read_up_to(io::repeat(1), 8).is_err());
    }
}

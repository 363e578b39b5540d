//! Which cores the servers of a user have: a locked file for each, so that two of them do not pin their threads to the same ones.
//! Within one process they know of each other by the map (`cores`), and have one set of locks.
//!
//! A lock is the kernel's (`flock`) and lasts as long as its file is open, so a server that dies has none; processes that it
//! starts do not inherit it. The folder is known to all processes of a user on one machine, but not to those of another user or
//! of a container with a `/tmp` of its own, unless [`LOCKS_VARIABLE`] names one that they share.
//!
//! Threads: that of the control plane; one more waits for each core of a server whose place this one takes.
//! Not here: which cores an instance gets (`cores`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// The variable that names another folder for the locks.
const LOCKS_VARIABLE: &str = "SERIN_LOCKS";

/// Name of the thread that waits for a core.
const THREAD_NAME: &str = "serin-task";

/// Longest content of a lock file that is read: a number and a path.
const WORDS_BYTES_MAX: usize = 8192;

/// The locks of this server.
#[derive(Debug)]
pub(super) struct CoreLocks {
    folder: OwnedFd,
    /// Stands for what this server serves; empty where nobody could take its place. A server that has the same is about to end.
    identity: String,
    /// The open files by the number of the core, and how many have claimed each.
    held: BTreeMap<usize, (Arc<File>, usize)>,
}

/// Who has a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its process, if it has said so yet.
    pub(super) pid: Option<u32>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "held by serin with pid {pid}"),
            None => f.write_str("held by another serin"),
        }
    }
}

/// The reason why nothing is known of other servers.
#[derive(Debug, thiserror::Error)]
#[error(
    "the locks of cores in {folder:?} cannot be used ({source}): name another folder by {LOCKS_VARIABLE}, or say --pin on or off"
)]
pub(super) struct NoLocks {
    folder: PathBuf,
    source: io::Error,
}

impl CoreLocks {
    /// The locks that all servers of this user on this machine know.
    ///
    /// # Errors
    ///
    /// [`NoLocks`] when the folder cannot be made, or others could write to it.
    pub(super) fn of_this_user(served: Option<&Path>) -> Result<Self, NoLocks> {
        let chosen = std::env::var_os(LOCKS_VARIABLE).filter(|folder| !folder.is_empty());
        // Not by what a session sets, such as XDG_RUNTIME_DIR: two servers of a user may be of different sessions, or of none.
        let user = rustix::process::geteuid().as_raw();
        let folder = chosen.map_or_else(|| format!("/tmp/serin-{user}").into(), PathBuf::from);
        let identity = served.and_then(identity_of);
        Self::open(&folder, identity.unwrap_or_default())
            .map_err(|source| NoLocks { folder, source })
    }

    /// Says what is served too, where nothing was said before: whoever was first in this process may serve nothing that is kept.
    pub(super) fn serve(&mut self, served: Option<&Path>) {
        if self.identity.is_empty() {
            self.identity = served.and_then(identity_of).unwrap_or_default();
        }
    }

    fn open(folder: &Path, identity: String) -> io::Result<Self> {
        // Nothing where it is there already, whatever it is.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty())?;
        let found = rustix::fs::fstat(&opened)?;
        if found.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if found.st_mode & 0o022 != 0 {
            return Err(io::Error::other("other users may write to it"));
        }
        Ok(Self {
            folder: opened,
            identity,
            held: BTreeMap::new(),
        })
    }

    /// Takes a core for one more user in this server; nothing when it has it now, else who has it.
    ///
    /// # Errors
    ///
    /// When the file of the core cannot be opened or locked.
    pub(super) fn claim(&mut self, core: usize) -> io::Result<Option<Holder>> {
        if let Some((_, users)) = self.held.get_mut(&core) {
            *users += 1;
            return Ok(None);
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Opened so, a pipe in the place of the file holds nobody up.
        let flags = flags | OFlags::NONBLOCK;
        let name = format!("core-{core}");
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let file = Arc::new(File::from(file));
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("its lock is no file"));
        }
        match rustix::fs::flock(&*file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => say_who(&file, &self.identity),
            Err(Errno::WOULDBLOCK) => {
                let (holder, identity) = who_said(&file);
                if !self.takes_the_place_of(&holder, &identity) {
                    return Ok(Some(holder));
                }
                wait_for(Arc::clone(&file), self.identity.clone())?;
            }
            Err(error) => return Err(error.into()),
        }
        self.held.insert(core, (file, 1));
        Ok(None)
    }

    /// Gives a core back for one user of this server.
    pub(super) fn release(&mut self, core: usize) {
        if let Some((_, users)) = self.held.get_mut(&core) {
            *users -= 1;
            if *users == 0 {
                let file = self.held.remove(&core).map(|(file, _)| file);
                file.iter().for_each(unlock);
            }
        }
    }

    /// Whether the holder serves the same, so that it ends soon. What a lock that has just changed hands says is old: of a
    /// process that has ended.
    fn takes_the_place_of(&self, holder: &Holder, identity: &str) -> bool {
        let alive = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
        !self.identity.is_empty() && identity == self.identity && holder.pid.is_some_and(alive)
    }
}

impl Drop for CoreLocks {
    fn drop(&mut self) {
        self.held.values().for_each(|(file, _)| unlock(file));
    }
}

/// Gives a lock back at once: a process that is just being started may have the file open for a moment more. Who still waits for
/// the lock has it for a moment when the wait is over.
fn unlock(file: &Arc<File>) {
    if let Err(error) = rustix::fs::flock(&**file, FlockOperation::Unlock) {
        tracing::debug!(%error, "a core stays locked until its file is closed");
    }
}

/// Waits on a thread of its own until the core is free, and has it then; nothing is felt of its end.
fn wait_for(file: Arc<File>, identity: String) -> io::Result<()> {
    let wait = move || match rustix::fs::flock(&*file, FlockOperation::LockExclusive) {
        Ok(()) => say_who(&file, &identity),
        Err(error) => tracing::debug!(%error, "a core is not locked"),
    };
    let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned());
    thread.spawn(wait).map(drop)
}

/// Stands for a data folder, whatever its path is: containers that share locks may each have another one at the same path.
/// Nothing where it is not there yet, for then nobody serves it.
fn identity_of(data: &Path) -> Option<String> {
    let folder = std::fs::metadata(data).ok()?;
    Some(format!("{}:{}", folder.dev(), folder.ino()))
}

/// Writes who has the core, for people who ask. On a full disk nobody is named; the lock holds all the same.
fn say_who(file: &File, identity: &str) {
    let words = format!("{}\n{identity}", std::process::id());
    let told = file
        .set_len(0)
        .and_then(|()| file.write_all_at(words.as_bytes(), 0));
    if let Err(error) = told {
        tracing::debug!(%error, "cannot write who has a core");
    }
}

/// Who says to have the core, and what it serves.
fn who_said(file: &File) -> (Holder, String) {
    let mut bytes = vec![0; WORDS_BYTES_MAX];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    let words = String::from_utf8_lossy(&bytes[..read]);
    let (pid, identity) = words.split_once('\n').unwrap_or((&words, ""));
    let holder = Holder {
        pid: pid.parse().ok(),
    };
    (holder, identity.to_owned())
}

/// Names of the locks in a folder; for tests of who has which.
#[cfg(test)]
pub(super) fn in_folder(folder: &Path, identity: &str) -> io::Result<CoreLocks> {
    CoreLocks::open(folder, identity.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::{Command, Stdio};

    use super::*;

    fn here() -> Holder {
        Holder {
            pid: Some(std::process::id()),
        }
    }

    #[test]
    fn a_core_is_one_server_s_until_its_last_user_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = in_folder(folder.path(), "").unwrap();
        let mut other = in_folder(folder.path(), "").unwrap();
        assert_eq!(one.claim(3).unwrap(), None);
        assert_eq!(one.claim(3).unwrap(), None);
        assert_eq!(other.claim(3).unwrap(), Some(here()));
        assert_eq!(other.claim(4).unwrap(), None);
        one.release(3);
        assert_eq!(other.claim(3).unwrap(), Some(here()));
        one.release(3);
        assert_eq!(other.claim(3).unwrap(), None);
        drop(other);
        assert_eq!(one.claim(3).unwrap(), None, "the end of a server is enough");
    }

    #[test]
    fn a_process_that_was_started_does_not_keep_the_lock_of_a_server_that_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = in_folder(folder.path(), "").unwrap();
        one.claim(0).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(one);
        let mut other = in_folder(folder.path(), "").unwrap();
        assert_eq!(other.claim(0).unwrap(), None);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn the_server_whose_place_is_taken_keeps_its_cores_from_others_and_hands_them_on() {
        let folder = tempfile::tempdir().unwrap();
        let server = |identity| in_folder(folder.path(), identity).unwrap();
        let (mut before, mut after, mut stranger) =
            (server("/data"), server("/data"), server("/other"));
        assert_eq!(before.claim(1).unwrap(), None);
        assert_eq!(after.claim(1).unwrap(), None, "it serves the same");
        assert_eq!(stranger.claim(1).unwrap(), Some(here()));
        drop(before);
        // The thread that waits has it at some moment, or has it already; nobody else ever does for longer than a look.
        let file = Arc::downgrade(&after.held[&1].0);
        while file.strong_count() > 1 {
            std::thread::yield_now();
        }
        assert_eq!(stranger.claim(1).unwrap(), Some(here()));
        drop(after);
        assert_eq!(stranger.claim(1).unwrap(), None);
    }

    #[test]
    fn a_data_folder_is_known_again_by_another_path_and_not_taken_for_one_at_the_same_path() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        assert_eq!(identity_of(&data), None);
        fs::create_dir(&data).unwrap();
        let first = identity_of(&data);
        symlink(&data, place.path().join("link")).unwrap();
        assert_eq!(identity_of(&place.path().join("link")), first);
        // Another one takes the path while the first is still there, as in another container.
        fs::rename(&data, place.path().join("moved")).unwrap();
        fs::create_dir(&data).unwrap();
        assert!(first.is_some() && identity_of(&data) != first);
    }

    #[test]
    fn servers_that_serve_nothing_that_is_kept_take_nobody_s_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = in_folder(folder.path(), "").unwrap();
        let mut other = in_folder(folder.path(), "").unwrap();
        one.claim(0).unwrap();
        assert_eq!(other.claim(0).unwrap(), Some(here()));
    }

    #[test]
    fn a_folder_that_others_could_have_made_or_may_change_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let refusal = |folder: &Path| in_folder(folder, "").unwrap_err().to_string();
        let open = place.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refusal(&open).contains("other users may write"));
        let own = place.path().join("own");
        in_folder(&own, "").unwrap();
        let mode = fs::metadata(&own).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let link = place.path().join("link");
        symlink(&own, &link).unwrap();
        in_folder(&link, "").unwrap_err();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        in_folder(&file, "").unwrap_err();
        in_folder(&file.join("below"), "").unwrap_err();
    }

    #[test]
    fn a_link_in_the_place_of_a_lock_leads_nowhere_and_a_pipe_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut locks = in_folder(folder.path(), "").unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "precious").unwrap();
        symlink(&target, folder.path().join("core-0")).unwrap();
        locks.claim(0).unwrap_err();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("core-1"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        locks.claim(1).unwrap_err();
    }

    #[test]
    fn words_of_a_lock_that_mean_nothing_name_nobody() {
        let folder = tempfile::tempdir().unwrap();
        for words in ["", "x", "-1\n/data", "99999999999\n", "\n\n", "7"] {
            fs::write(folder.path().join("core-0"), words).unwrap();
            let file = File::open(folder.path().join("core-0")).unwrap();
            let (holder, _) = who_said(&file);
            assert_eq!(holder.pid, words.parse().ok(), "{words:?}");
        }
    }
}

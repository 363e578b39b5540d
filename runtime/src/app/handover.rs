//! The handover from a running server to the process that takes its place: listening sockets and data folder, over a socket in that
//! folder. The new process accepts from the same sockets before the old one stops, so nobody is refused or cut.
//!
//! ```text
//! new: Hello          old: lends the data folder, or says why not     Refused | Sockets (with the sockets themselves)
//! new: Serves(..)     old: compares with what it serves itself         Wait | Go; asked again whenever something has changed
//! new: Serving        old: accepts no more, finishes, ends
//! ```
//!
//! When the new process ends before it serves, the old one takes the folder back and goes on. Only this user may connect.
//!
//! Threads: control, on both sides; the new one's first words come before it has threads. Not here: what a lent folder means
//! (`control`), the way down (`server`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::app::error::AppError;
use crate::config::{
    ACCEPT_PAUSE, HANDOVER_WORD_BYTES_MAX, HANDOVER_WORD_MAX, HEALTH_PERIOD, REPLACE_READY_MAX,
};
use crate::control::ControllerHandle;
use crate::serve::Scoring;

/// The name of the socket in a data folder.
const FILE: &str = "handover.sock";

/// All that the two say, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Hello { pid: u32, version: String },
    Refused { why: String },
    Sockets,
    Serves { deployments: BTreeSet<String> },
    Wait { missing: Vec<String> },
    Go,
    Serving,
}

impl Word {
    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a word is JSON");
        line.push(b'\n');
        line
    }

    fn read(line: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(line).map_err(io::Error::other)
    }
}

/// The sockets to hand over, for as long as the server accepts from them.
#[derive(Debug, Clone, Default)]
pub(super) struct SocketsToGive(Arc<Mutex<Option<[OwnedFd; 2]>>>);

impl SocketsToGive {
    pub(super) fn new(scoring: OwnedFd, admin: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(Some([scoring, admin]))))
    }

    /// They are closed with the server's own.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<[OwnedFd; 2]>> {
        // Taken whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, stream: &UnixStream) -> io::Result<()> {
        let sockets = self.lock();
        let Some([scoring, admin]) = &*sockets else {
            return Err(io::Error::other("the server is stopping"));
        };
        let given = [scoring.as_fd(), admin.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&given));
        let line = Word::Sockets.line();
        sendmsg(
            stream,
            &[IoSlice::new(&line)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

/// The socket at which a server waits for the process that takes its place.
#[derive(Debug)]
pub(super) struct Handover {
    listener: UnixListener,
    sockets: SocketsToGive,
    supervised: bool,
    /// The folder of the socket, and the number of its file.
    place: (PathBuf, u64),
}

/// The process that has taken this server's place.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) pid: u32,
}

impl Handover {
    /// Listens in a data folder that is this process's own. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// The system's reason, as where the file system has no sockets.
    pub(super) fn listen(
        data: &Path,
        sockets: SocketsToGive,
        supervised: bool,
    ) -> io::Result<Self> {
        let (_folder, path) = short_path(data)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Nobody else may open the folder; the mode says it of the socket too.
        let listener = std_unix::UnixListener::bind(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let number = fs::symlink_metadata(&path)?.st_ino();
        Ok(Self {
            listener,
            sockets,
            supervised,
            place: (data.to_owned(), number),
        })
    }

    /// Waits until another process has taken this server's place. `went_wrong` is called when one has tried and the folder is back.
    pub(super) async fn until_replaced(
        &self,
        controller: &ControllerHandle,
        scoring: &Scoring,
        went_wrong: impl Fn(),
    ) -> Successor {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) if is_own(&stream) => stream,
                Ok(_) => {
                    warn!("another user asked to take this server's place, and was refused");
                    continue;
                }
                Err(error) => {
                    warn!(%error, "cannot hear who wants to take this server's place");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let mut talk = Talk::new(stream);
            let Ok(Word::Hello { pid, version }) = talk.hear(HANDOVER_WORD_MAX).await else {
                continue;
            };
            info!(
                pid,
                version, "another process wants to take this server's place"
            );
            if let Err(why) = self.lend(controller).await {
                warn!(why, "it was refused");
                talk.refuse(why).await;
                continue;
            }
            match self.accompany(&mut talk, scoring).await {
                Ok(()) => return Successor { pid },
                Err(error) => {
                    warn!(%error, "the other process did not take over: this server goes on");
                    // Without it the silence would mean that this server has ended.
                    talk.refuse(error.to_string()).await;
                    // Then it ends, and leaves the folder.
                    drop(talk);
                    controller.take_back().await;
                    went_wrong();
                }
            }
        }
    }

    async fn lend(&self, controller: &ControllerHandle) -> Result<(), String> {
        if self.supervised {
            let why =
                "it has a supervisor, which would end with it: end the supervisor and start anew";
            return Err(why.to_owned());
        }
        controller
            .lend()
            .await
            .map_err(|refused| refused.to_string())
    }

    /// Gives the sockets away and waits until they are served.
    async fn accompany(&self, talk: &mut Talk, scoring: &Scoring) -> io::Result<()> {
        let stream = talk.stream.get_ref();
        stream
            .async_io(Interest::WRITABLE, || self.sockets.send(stream))
            .await?;
        let equal = async {
            loop {
                let theirs = match talk.hear(REPLACE_READY_MAX).await? {
                    Word::Serves { deployments } => deployments,
                    other => return Err(unexpected(&other)),
                };
                let own = scoring.serves();
                let missing: Vec<_> = own.difference(&theirs).cloned().collect();
                if missing.is_empty() {
                    return Ok(());
                }
                talk.say(&Word::Wait { missing }).await?;
            }
        };
        // The other one gives up first, with better words.
        let within = REPLACE_READY_MAX + HANDOVER_WORD_MAX;
        let late = |_| io::Error::other("it was not ready in time");
        timeout(within, equal).await.map_err(late)??;
        talk.say(&Word::Go).await?;
        // From here on it may serve at any moment: only its end says that it does not.
        match talk.hear(Duration::MAX).await? {
            Word::Serving => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Handover {
    /// Removes the socket, which copies of the folder stumble over, unless it is that of a successor.
    fn drop(&mut self) {
        let (data, number) = &self.place;
        let Ok((_folder, path)) = short_path(data) else {
            return;
        };
        if fs::symlink_metadata(&path).is_ok_and(|found| found.st_ino() == *number) {
            // The next server removes it too.
            drop(fs::remove_file(&path));
        }
    }
}

fn unexpected(word: &Word) -> io::Error {
    io::Error::other(format!("it said {word:?}, which was not its turn"))
}

/// Whether the other end is a process of this user, or of root.
fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred();
    peer.is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// A conversation, in lines of a bounded length.
#[derive(Debug)]
struct Talk {
    stream: BufReader<UnixStream>,
}

impl Talk {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    async fn say(&mut self, word: &Word) -> io::Result<()> {
        self.stream.get_mut().write_all(&word.line()).await
    }

    /// The last word of who goes on alone.
    async fn refuse(&mut self, why: String) {
        // The other one may have ended.
        drop(self.say(&Word::Refused { why }).await);
    }

    async fn hear(&mut self, within: Duration) -> io::Result<Word> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(HANDOVER_WORD_BYTES_MAX);
        let heard = timeout(within, bounded.read_until(b'\n', &mut line)).await;
        heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended"));
        }
        Word::read(&line)
    }
}

/// The running server, as seen by the process that takes its place.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: std_unix::UnixStream,
}

impl Predecessor {
    /// Asks the server of a data folder for its sockets, in the order scoring, administration; none where no server runs there. From
    /// then on the folder is free for this process. Blocks.
    ///
    /// # Errors
    ///
    /// [`AppError::NotReplaced`] in the server's words.
    pub(super) fn ask(data: &Path) -> Result<Option<(Self, [OwnedFd; 2])>, AppError> {
        let not_replaced = |error: io::Error| AppError::NotReplaced(error.to_string());
        let Some(mut stream) = connect(data).map_err(not_replaced)? else {
            return Ok(None);
        };
        let hello = Word::Hello {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let bounded = stream
            .set_read_timeout(Some(HANDOVER_WORD_MAX))
            .and_then(|()| stream.write_all(&hello.line()));
        bounded.map_err(not_replaced)?;
        let heard = hear_with_sockets(&mut stream);
        let (word, sockets) = heard.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => AppError::NotReplaced(format!(
                "it did not answer within {} s; another process may be about to take its place",
                HANDOVER_WORD_MAX.as_secs()
            )),
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                let why = "it ended before it answered, perhaps because another process has taken its place; try again";
                AppError::NotReplaced(why.to_owned())
            }
            _ => not_replaced(error),
        })?;
        match (word, <[OwnedFd; 2]>::try_from(sockets)) {
            (Word::Sockets, Ok(sockets)) => Ok(Some((Self { stream }, sockets))),
            (Word::Refused { why }, _) => Err(AppError::NotReplaced(why)),
            (other, _) => Err(not_replaced(unexpected(&other))),
        }
    }

    /// Another end of the same conversation, for the last word.
    pub(super) fn last_word(&self) -> io::Result<LastWord> {
        Ok(LastWord(self.stream.try_clone()?))
    }

    /// Waits until this process serves what the other one serves, which that one decides. Where that has ended meanwhile there is
    /// nothing to compare with.
    pub(super) async fn until_equal(
        self,
        controller: &ControllerHandle,
        scoring: &Scoring,
    ) -> Result<(), AppError> {
        let not_replaced = |error: io::Error| AppError::NotReplaced(error.to_string());
        self.stream.set_nonblocking(true).map_err(not_replaced)?;
        let stream = UnixStream::from_std(self.stream).map_err(not_replaced)?;
        let mut talk = Talk::new(stream);
        let mut missing_last = Vec::new();
        let equal = async {
            controller.settled().await;
            loop {
                let mut changed = controller.changes();
                let deployments = scoring.serves();
                let word = Word::Serves { deployments };
                // One that has gone on alone has said so before it hung up; then only this fails.
                let said = talk.say(&word).await;
                match talk.hear(HANDOVER_WORD_MAX).await {
                    Ok(Word::Go) => return Ok(()),
                    Ok(Word::Wait { missing }) => missing_last = missing,
                    Ok(Word::Refused { why }) => return Err(io::Error::other(why)),
                    Ok(other) => return Err(unexpected(&other)),
                    Err(error) if said.is_err() || error.kind() == io::ErrorKind::UnexpectedEof => {
                        warn!("the server that was to be replaced has ended by itself");
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
                // The other one may serve less by now, which no event here tells.
                _ = timeout(HEALTH_PERIOD, changed.changed()).await;
            }
        };
        match timeout(REPLACE_READY_MAX, equal).await {
            Ok(equal) => equal.map_err(not_replaced),
            Err(_) => Err(AppError::NotReplaced(format!(
                "the new server does not serve {} after {} s",
                missing_last.join(", "),
                REPLACE_READY_MAX.as_secs()
            ))),
        }
    }
}

/// The end of a handover, on the side that serves now.
#[derive(Debug)]
pub(super) struct LastWord(std_unix::UnixStream);

impl LastWord {
    /// This process accepts: the other one may stop.
    pub(super) fn serving(mut self) {
        // One that has ended needs no telling.
        drop(self.0.write_all(&Word::Serving.line()));
    }
}

fn connect(data: &Path) -> io::Result<Option<std_unix::UnixStream>> {
    let found = short_path(data).and_then(|(_folder, path)| {
        let own = rustix::process::geteuid().as_raw();
        let owner = fs::symlink_metadata(&path)?.st_uid();
        if owner != own && own != 0 {
            return Err(io::Error::other(format!(
                "{FILE} in the data folder is another user's"
            )));
        }
        std_unix::UnixStream::connect(&path)
    });
    match found {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The path of the socket by way of the open folder: a path of a socket may have 107 bytes, and a folder more. It holds while the folder
/// is open.
fn short_path(data: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(data, flags, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    let path = PathBuf::from(format!("/proc/self/fd/{number}/{FILE}"));
    Ok((folder, path))
}

/// One word, and the sockets that came with it.
fn hear_with_sockets(stream: &mut std_unix::UnixStream) -> io::Result<(Word, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(&*stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            sockets.extend(files);
        }
    }
    let mut line = bytes[..received.bytes].to_vec();
    if line.is_empty() {
        return Err(io::Error::other("the running server said nothing"));
    }
    while !line.ends_with(b"\n") && line.len() < bytes.len() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok((Word::read(&line)?, sockets))
}

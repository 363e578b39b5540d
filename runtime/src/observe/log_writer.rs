//! The far end of the log: lines wait in memory, and one thread writes them.
//!
//! Who writes a line never waits for who reads it: a paused terminal or a full pipe holds up this thread alone. What finds no room is
//! dropped and counted, and the count is a line of the log as soon as it can be written again.
//!
//! Threads: lines come from any; `serin-log` writes. Not here: which lines are worth writing (`log_sampling`).

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::LOG_BYTES_MAX;

/// The queue of lines to be written; all clones are one queue.
#[derive(Clone, Debug)]
pub(super) struct LogWriter(Arc<Shared>);

/// The way to open what the log is written to, at the start and whenever it is to be opened again.
pub(super) type Open = Box<dyn Fn() -> io::Result<File> + Send>;

/// An event that the writing thread tells about its own work, which becomes a line of the log.
#[derive(Debug)]
pub(super) enum Told {
    /// So many lines were dropped since this was told last, and now lines are taken again.
    Dropped(u64),
    /// The log was opened again, as was asked for.
    OpenedAgain(io::Result<()>),
    /// The time has come to look at what was left out.
    TimeToLook,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something changed for the writing thread.
    work: Condvar,
    /// All that was queued has been written.
    empty: Condvar,
    /// Every line that was dropped.
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
    is_writing: bool,
    open_again: bool,
    look_later: bool,
    /// Lines that were dropped and not yet told of.
    untold: u64,
}

/// The work of the thread, taken out of the queue.
enum Work {
    Write { bytes: Vec<u8>, lines: u64 },
    OpenAgain,
    Look,
}

impl LogWriter {
    /// Starts the thread that writes. `tell` is called on it.
    ///
    /// # Errors
    ///
    /// When what the log is written to cannot be opened, or there is no thread.
    pub(super) fn start(
        open: Open,
        dropped: Counter,
        look_period: Duration,
        tell: impl Fn(Told) + Send + 'static,
    ) -> io::Result<Self> {
        let file = open()?;
        let shared = Arc::new(Shared {
            dropped,
            ..Shared::default()
        });
        let writing = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("serin-log".to_owned())
            .spawn(move || writing.write_for_ever(file, &open, look_period, tell))?;
        Ok(Self(shared))
    }

    /// Queues a line, or drops it where there is no room.
    fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.bytes.len() + line.len() > LOG_BYTES_MAX {
            queue.untold += 1;
            self.0.dropped.inc();
            return;
        }
        queue.bytes.extend_from_slice(line);
        queue.lines += 1;
        drop(queue);
        self.0.work.notify_one();
    }

    /// Has the log opened again once what is queued has been written.
    pub(super) fn open_again(&self) {
        self.0.lock().open_again = true;
        self.0.work.notify_one();
    }

    /// Has the thread look ([`Told::TimeToLook`]) when the period is over.
    pub(super) fn look_later(&self) {
        self.0.lock().look_later = true;
        self.0.work.notify_one();
    }

    /// Waits until all that is queued has been written, and at most so long; whether it was.
    pub(super) fn flush_within(&self, at_most: Duration) -> bool {
        let queue = self.0.lock();
        let waited = self.0.empty.wait_timeout_while(queue, at_most, |queue| {
            !queue.bytes.is_empty() || queue.is_writing
        });
        let (_queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }
}

/// A line is what is written in one go, which is how `tracing-subscriber` writes.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, file: File, open: &Open, look_period: Duration, tell: impl Fn(Told)) {
        let mut file = file;
        loop {
            match self.next(look_period) {
                Work::Write { bytes, lines } => self.write(&mut file, &bytes, lines, &tell),
                Work::OpenAgain => tell(Told::OpenedAgain(open().map(|opened| file = opened))),
                Work::Look => tell(Told::TimeToLook),
            }
        }
    }

    fn next(&self, look_period: Duration) -> Work {
        let mut queue = self.lock();
        loop {
            if !queue.bytes.is_empty() {
                queue.is_writing = true;
                return Work::Write {
                    bytes: std::mem::take(&mut queue.bytes),
                    lines: std::mem::take(&mut queue.lines),
                };
            }
            if std::mem::take(&mut queue.open_again) {
                return Work::OpenAgain;
            }
            if queue.look_later {
                let waited = self.work.wait_timeout(queue, look_period);
                let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                queue = after;
                if timeout.timed_out() {
                    queue.look_later = false;
                    return Work::Look;
                }
            } else {
                let waited = self.work.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn write(&self, file: &mut File, bytes: &[u8], lines: u64, tell: &impl Fn(Told)) {
        let written = write_all(file, bytes);
        let mut queue = self.lock();
        queue.is_writing = false;
        // What cannot be written, as on a full disk, is lost like what finds no room.
        let untold = if written.is_ok() {
            std::mem::take(&mut queue.untold)
        } else {
            queue.untold += lines;
            self.dropped.inc_by(lines);
            0
        };
        drop(queue);
        if untold > 0 {
            tell(Told::Dropped(untold));
        }
        let queue = self.lock();
        if queue.bytes.is_empty() {
            self.empty.notify_all();
        }
    }
}

/// Writes all, however long it takes. The other end may have been set not to block by another process that has it.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // What it says, and whether it fails, the next write tells.
                _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, PipeReader, Read as _, pipe};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A log into a pipe, and the pipe's other end.
    fn log() -> (LogWriter, PipeReader, mpsc::Receiver<Told>) {
        let (reader, writer) = pipe().unwrap();
        let writer = File::from(OwnedFd::from(writer));
        let (tell, told) = mpsc::channel();
        let log = LogWriter::start(
            Box::new(move || writer.try_clone()),
            Counter::default(),
            NEVER,
            move |what| drop(tell.send(what)),
        );
        (log.unwrap(), reader, told)
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (mut log, reader, _told) = log();
        for number in 0..1000 {
            log.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let lines = BufReader::new(reader).lines().take(1000);
        for (number, line) in lines.enumerate() {
            assert_eq!(line.unwrap(), number.to_string());
        }
        assert!(log.flush_within(PATIENCE));
    }

    #[test]
    fn who_writes_to_a_log_that_nobody_reads_does_not_wait_and_what_is_lost_is_counted() {
        let (mut log, mut reader, told) = log();
        let line = [b'x'; 1024];
        // More than the pipe, the batch that is being written and the queue hold together.
        let written = 4 * LOG_BYTES_MAX / line.len();
        for _ in 0..written {
            log.write_all(&line).unwrap();
        }
        assert!(!log.flush_within(Duration::from_millis(1)), "nobody reads");
        let dropped = log.0.dropped.get();
        assert!(dropped > 0);
        assert!(log.0.lock().bytes.len() <= LOG_BYTES_MAX);
        let mut left = vec![0; (written - usize::try_from(dropped).unwrap()) * line.len()];
        reader.read_exact(&mut left).unwrap();
        let Told::Dropped(count) = told.recv_timeout(PATIENCE).unwrap() else {
            panic!("the count comes first");
        };
        assert_eq!(count, dropped, "each lost line is told of once");
        log.write_all(b"and on").unwrap();
        let mut rest = [0; 6];
        reader.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"and on");
    }

    #[test]
    fn a_reader_that_has_gone_costs_its_lines_and_stops_nothing() {
        let (mut log, reader, _told) = log();
        drop(reader);
        log.write_all(b"one\n").unwrap();
        assert!(log.flush_within(PATIENCE));
        assert_eq!(log.0.dropped.get(), 1);
    }

    #[test]
    fn an_end_that_does_not_block_gets_every_byte_all_the_same() {
        let (mut reader, writer) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut writer = File::from(OwnedFd::from(writer));
        let bytes = vec![b'x'; LOG_BYTES_MAX];
        let many = bytes.len();
        let writing = std::thread::Builder::new().spawn(move || write_all(&mut writer, &bytes));
        let mut read = vec![0; many];
        reader.read_exact(&mut read).unwrap();
        writing.unwrap().join().unwrap().unwrap();
    }

    #[test]
    fn a_log_that_was_moved_away_is_written_to_its_old_place_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serin.log");
        let (tell, told) = mpsc::channel();
        let opened = path.clone();
        let open = move || File::options().append(true).create(true).open(&opened);
        let log = LogWriter::start(Box::new(open), Counter::default(), NEVER, move |what| {
            drop(tell.send(what));
        });
        let mut log = log.unwrap();
        log.write_all(b"before\n").unwrap();
        assert!(log.flush_within(PATIENCE));
        let moved = folder.path().join("serin.log.1");
        std::fs::rename(&path, &moved).unwrap();
        log.open_again();
        let again = told.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(again, Told::OpenedAgain(Ok(()))), "{again:?}");
        log.write_all(b"after\n").unwrap();
        assert!(log.flush_within(PATIENCE));
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "before\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "after\n");
    }
}

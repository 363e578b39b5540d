//! The last line that a process writes to its standard error, which often says why it ended.
//!
//! A process may write without end, or never end a line, and a child of its own may keep the pipe open when it has ended itself.
//!
//! Threads: the one that waits for the end of a process. Not here: the end itself (`process`).

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};

/// Bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 2048;
/// Bytes that are heard of a process which has ended: its pipe has no more, and what comes later is not its own.
const AFTER_END_BYTES_MAX: usize = 64 * 1024;

/// Hears a line; whether it may be somebody's last words.
pub(super) type Hears<'a> = &'a dyn Fn(&str) -> bool;

/// The line that is being heard, and the last whole one.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    line: Vec<u8>,
    last: String,
}

impl LastWords {
    /// Hears until the pipe ends, or the process does; tells each line that says something, cut where it is long.
    pub(super) fn hear(
        mut pipe: impl Read + AsFd,
        process: &OwnedFd,
        heard: Hears<'_>,
    ) -> io::Result<String> {
        ioctl_fionbio(&pipe, true)?;
        let mut words = Self::default();
        loop {
            let has_ended = wait(&pipe, process)?;
            let bytes_max = if has_ended { AFTER_END_BYTES_MAX } else { 4096 };
            let pipe_has_ended = words.take(&mut pipe, bytes_max, heard)?;
            if has_ended || pipe_has_ended {
                words.end_line(heard);
                return Ok(words.last);
            }
        }
    }

    /// Takes what is there; whether nothing will come any more.
    fn take(
        &mut self,
        pipe: &mut impl Read,
        bytes_max: usize,
        heard: Hears<'_>,
    ) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let mut taken = 0;
        while taken < bytes_max {
            match pipe.read(&mut bytes) {
                Ok(0) => return Ok(true),
                Ok(read) => {
                    self.add(&bytes[..read], heard);
                    taken += read;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn add(&mut self, bytes: &[u8], heard: Hears<'_>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line(heard);
            }
        }
    }

    fn end_line(&mut self, heard: Hears<'_>) {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        if !line.trim_start().is_empty() && heard(line) {
            line.trim_start().clone_into(&mut self.last);
        }
        self.line.clear();
    }
}

/// Waits for bytes, or for the end of the process; whether it has ended.
fn wait(pipe: &impl AsFd, process: &OwnedFd) -> io::Result<bool> {
    let mut fds = [
        PollFd::new(pipe, PollFlags::IN),
        PollFd::new(process, PollFlags::IN),
    ];
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(!fds[1].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    /// The last words of a shell that runs the script.
    fn last_words(script: &str) -> (Child, String) {
        let mut command = Command::new("/bin/sh");
        let command = command.args(["-c", script]).stdin(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let words = LastWords::hear(child.stderr.take().unwrap(), &pidfd, &|_| true).unwrap();
        (child, words)
    }

    #[test]
    fn the_last_line_that_says_something_is_kept() {
        let (mut child, words) = last_words("echo one >&2; echo two >&2; echo ' ' >&2");
        assert_eq!(words, "two");
        child.wait().unwrap();
        let (mut child, words) = last_words("printf 'no end of line' >&2");
        assert_eq!(words, "no end of line");
        child.wait().unwrap();
    }

    #[test]
    fn a_line_without_end_is_kept_in_part() {
        let (mut child, words) = last_words("head -c 3000000 /dev/zero | tr '\\0' x >&2");
        assert_eq!(words, "x".repeat(LINE_BYTES_MAX));
        child.wait().unwrap();
    }

    /// Its end was waited for in vain: a child that it left behind had the pipe open.
    #[test]
    fn a_child_that_keeps_the_pipe_open_keeps_nobody_waiting() {
        let (mut child, words) = last_words("cat <&0 >&2 & echo bye >&2; exit 3");
        assert_eq!(words, "bye");
        // Its standard input ends with this, and then it does.
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }
}

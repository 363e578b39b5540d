//! A command that is run to its end, or ended: its output line by line, its whole process group with it.
//!
//! Threads: blocks whoever calls. Not here: what is run (`python`, `build`), and what its output says (`words`).

use std::io::{self, PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::config::ENVIRONMENT_LOOK_PERIOD;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Longest line that is handed on in one piece.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Variables by which the surroundings of this process would reach into an interpreter that is not theirs.
const FOREIGN_VARIABLES: &[&str] = &[
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_REQUIREMENT",
    "PIP_CONSTRAINT",
    "UV_PYTHON",
    "UV_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_SYSTEM_PYTHON",
];

/// How a command ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Status(ExitStatus),
    /// Because nobody wants it any more.
    Canceled,
    /// Because its time was over.
    TooLong,
}

/// Runs a command and hands over each line that it writes, to standard output or error. None of its processes is left when this
/// returns, but one that has left its group.
///
/// # Errors
///
/// The system's reason why it cannot be started or waited for.
pub(super) fn run(
    mut command: Command,
    until: Instant,
    cancel: &dyn Fn() -> bool,
    line: &mut dyn FnMut(&str),
) -> io::Result<Ended> {
    let (output, input) = io::pipe()?;
    let mut child = command
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0)
        .spawn()?;
    // It has copies of the pipe's end, which would keep the output from ending.
    drop(command);
    let watched = watch(&child, output, until, cancel, line);
    end_group(&child);
    let status = child.wait()?;
    Ok(watched?.unwrap_or(Ended::Status(status)))
}

/// Keeps the surroundings of this process from an interpreter that is not theirs.
pub(super) fn leave_out_foreign_variables(command: &mut Command) {
    for variable in FOREIGN_VARIABLES {
        command.env_remove(variable);
    }
}

/// Reads until the command has ended: nothing, or the reason why it must be ended.
fn watch(
    child: &Child,
    mut output: PipeReader,
    until: Instant,
    cancel: &dyn Fn() -> bool,
    line: &mut dyn FnMut(&str),
) -> io::Result<Option<Ended>> {
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut is_open = true;
    loop {
        if cancel() {
            return Ok(Some(Ended::Canceled));
        }
        if Instant::now() > until {
            return Ok(Some(Ended::TooLong));
        }
        if is_open && is_readable(&output)? {
            let read = output.read(&mut chunk)?;
            is_open = read > 0;
            lines.take(&chunk[..read], line);
        } else if has_ended(child, is_open)? {
            // What a process that has left the group still writes is nobody's.
            lines.finish(line);
            return Ok(None);
        }
    }
}

/// Waits for output at most as long as one looks away.
fn is_readable(output: &PipeReader) -> io::Result<bool> {
    let mut fds = [PollFd::new(output, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(ENVIRONMENT_LOOK_PERIOD.subsec_nanos()),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process has ended. It stays to be waited for, so that its number is nobody else's meanwhile.
fn has_ended(child: &Child, looked_away: bool) -> io::Result<bool> {
    if !looked_away {
        std::thread::sleep(ENVIRONMENT_LOOK_PERIOD);
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid_of(child)), options) {
        Ok(ended) => Ok(ended.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn end_group(child: &Child) {
    // Nobody is left of it when the last process has ended by itself.
    let _gone = kill_process_group(pid_of(child), Signal::KILL);
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Bytes on their way to lines. A carriage return ends one too: bars of progress write it.
#[derive(Default)]
struct Lines {
    open: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.finish(line);
            } else {
                self.open.push(*byte);
                if self.open.len() == LINE_BYTES_MAX {
                    self.finish(line);
                }
            }
        }
    }

    fn finish(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.open.is_empty() {
            line(&String::from_utf8_lossy(&self.open));
            self.open.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn run_shell(script: &str, until: Instant) -> (Ended, Vec<String>) {
        let mut lines = Vec::new();
        let mut line = |line: &str| lines.push(line.to_owned());
        let ended = run(shell(script), until, &|| false, &mut line).expect("it runs");
        (ended, lines)
    }

    #[test]
    fn every_line_of_both_streams_comes_and_the_status() {
        let (ended, lines) = run_shell("echo a; echo b >&2; printf 'c\\rd'; exit 3", in_a_minute());
        assert!(matches!(ended, Ended::Status(status) if status.code() == Some(3)));
        assert_eq!(lines, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let (_, lines) = run_shell("head -c 40000 /dev/zero", in_a_minute());
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(
            lengths,
            [LINE_BYTES_MAX, LINE_BYTES_MAX, 40_000 - 2 * LINE_BYTES_MAX]
        );
    }

    /// The process that a line names: whether it has ended, or will at once.
    fn is_gone(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    }

    #[test]
    fn a_command_that_nobody_wants_ends_with_all_that_it_began() {
        let pid = Cell::new(None);
        let ended = run(
            shell("sleep 1000 & echo $!; wait"),
            in_a_minute(),
            &|| {
                pid.take()
                    .inspect(|found: &String| pid.set(Some(found.clone())))
                    .is_some()
            },
            &mut |line| pid.set(Some(line.to_owned())),
        );
        assert!(matches!(ended, Ok(Ended::Canceled)));
        let pid = pid.take().expect("a process");
        while !is_gone(&pid) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_ends_when_its_time_is_over() {
        let (ended, _) = run_shell("sleep 1000", Instant::now());
        assert!(matches!(ended, Ended::TooLong));
    }

    #[test]
    fn who_stays_behind_with_the_output_is_not_waited_for() {
        let (ended, lines) = run_shell("setsid sleep 30 & echo done", in_a_minute());
        assert!(matches!(ended, Ended::Status(status) if status.success()));
        assert_eq!(lines, ["done"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let run = run(Command::new("/none"), in_a_minute(), &|| false, &mut |_| {});
        assert_eq!(run.expect_err("none").kind(), io::ErrorKind::NotFound);
    }
}

//! A server in a child process, for as long as somebody needs one of their own.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest that the server may take to end; then it is killed.
const END_MAX: Duration = Duration::from_secs(15);

/// A server that is asked to end when the value goes.
#[derive(Debug)]
pub struct ChildServer {
    child: Child,
    data: PathBuf,
    left: bool,
}

/// The reason why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process or its log could not be made.
    #[error("cannot start a server")]
    Start(#[from] io::Error),
    /// It ended before it was ready.
    #[error("the server did not start:\n{0}")]
    NotReady(String),
}

impl ChildServer {
    /// Starts `exe serve` on free ports, with its data and its log below a folder and what `arguments` say besides; returns
    /// when it is ready. With `outlives` it does not end with this process.
    ///
    /// # Errors
    ///
    /// [`ChildError`].
    pub fn start(
        exe: &Path,
        folder: &Path,
        arguments: &[&str],
        outlives: bool,
    ) -> Result<Self, ChildError> {
        let log_path = folder.join("server.log");
        let data = folder.join("data");
        let mut command = Command::new(exe);
        command
            .args(["serve", "--port", "0", "--data"])
            .arg(&data)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(File::create(&log_path)?)
            // Ctrl-C at the terminal is for this process, which then ends the server in good order.
            .process_group(0);
        if outlives {
            command.stdin(Stdio::null());
        } else {
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let server = Self {
            child,
            data,
            left: false,
        };
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        if ready.is_empty() {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            return Err(ChildError::NotReady(log.trim_end().to_owned()));
        }
        Ok(server)
    }

    /// Its data folder, by which commands find it.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Leaves it to run on.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        // Its sign to end is that nobody holds its standard input.
        drop(self.child.stdin.take());
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // Nothing to do when it has ended already.
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < END_MAX {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

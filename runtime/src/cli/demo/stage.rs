//! What the demo needs around it: a folder with the files of the seed, and a server of its own.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::traffic::Row;
use crate::cli::exit::CliError;

/// Files by their path below the folder. The YAML files are those of the flow that the demo follows, unchanged.
const FILES: &[(&str, &[u8])] = &[
    (
        "configs/online-endpoint/mir/standard/managed-1-create-OnlineEndpoint.yaml",
        include_bytes!("../../../../tests/fixtures/seed/managed-1-create-OnlineEndpoint.yaml"),
    ),
    (
        "configs/online-endpoint/mir/standard/managed-2-blue-OnlineDeployment.yaml",
        include_bytes!("../../../../tests/fixtures/seed/managed-2-blue-OnlineDeployment.yaml"),
    ),
    (
        "configs/online-endpoint/mir/standard/managed-3-green-OnlineDeployment.yaml",
        include_bytes!("../../../../tests/fixtures/seed/managed-3-green-OnlineDeployment.yaml"),
    ),
    (
        "configs/online-endpoint/sample-request.json",
        include_bytes!("../../../../models/digits/2/sample-request.json"),
    ),
    (
        "models/digits/1/model.onnx",
        include_bytes!("../../../../models/digits/1/model.onnx"),
    ),
    (
        "models/digits/2/model.onnx",
        include_bytes!("../../../../models/digits/2/model.onnx"),
    ),
];

/// Rows that neither version was trained on, each with the digit that it is.
const HELD_OUT: &str = include_str!("../../../../models/digits/held-out.jsonl");

/// Longest that the server may take to end; then it is killed.
const END_MAX: Duration = Duration::from_secs(15);

/// The folder and the server. Both go with the value.
#[derive(Debug)]
pub(super) struct Stage {
    exe: PathBuf,
    // Before the folder, so that the server is gone when its folder goes.
    server: Server,
    folder: TempDir,
}

impl Stage {
    /// Writes the files and starts the server; with `outlives` it does not end with this process.
    pub(super) fn set(outlives: bool) -> Result<Self, CliError> {
        let exe = env::current_exe().map_err(CliError::Start)?;
        let folder = write_files().map_err(CliError::Start)?;
        let server = Server::start(&exe, folder.path(), outlives)?;
        Ok(Self {
            exe,
            server,
            folder,
        })
    }

    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where a person would type: beside `configs` and `models`.
    pub(super) fn working_folder(&self) -> PathBuf {
        self.folder.path().join("cli")
    }

    pub(super) fn held_out() -> Vec<Row> {
        HELD_OUT.lines().filter_map(Row::parse).collect()
    }

    /// Leaves server and folder to the user; the words that say how to go on.
    pub(super) fn leave_up(self) -> String {
        let pid = self.server.child.id();
        let exe = self.exe.display().to_string();
        let data = self.data();
        self.server.leave();
        let folder = self.folder.keep();
        format!(
            "export SERIN_DATA={data}\n\
             {exe} deployment list --endpoint-name {endpoint} --output table\n\
             {exe} endpoint invoke {endpoint} --request-file {folder}/configs/online-endpoint/sample-request.json\n\
             to end it: kill {pid}; rm -r {folder}\n",
            data = data.display(),
            endpoint = super::script::ENDPOINT,
            folder = folder.display(),
        )
    }
}

fn write_files() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("serin-demo-").tempdir()?;
    fs::create_dir(folder.path().join("cli"))?;
    for (path, bytes) in FILES {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("every file is in a folder"))?;
        fs::write(path, bytes)?;
    }
    Ok(folder)
}

/// A child process that serves, and that is asked to end when the value goes.
#[derive(Debug)]
struct Server {
    child: Child,
    left: bool,
}

impl Server {
    fn start(exe: &Path, folder: &Path, outlives: bool) -> Result<Self, CliError> {
        let log_path = folder.join("server.log");
        let log = File::create(&log_path).map_err(CliError::Start)?;
        let mut command = Command::new(exe);
        command
            .args(["serve", "--port", "0", "--data"])
            .arg(folder.join("data"))
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C at the terminal is for the demo, which then ends the server in good order.
            .process_group(0);
        if outlives {
            command.stdin(Stdio::null());
        } else {
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(CliError::Start)?;
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let server = Self { child, left: false };
        let mut ready = String::new();
        BufReader::new(stdout)
            .read_line(&mut ready)
            .map_err(CliError::Start)?;
        if ready.is_empty() {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            return Err(CliError::Demo(format!(
                "the server did not start:\n{}",
                log.trim_end()
            )));
        }
        Ok(server)
    }

    fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Server {
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

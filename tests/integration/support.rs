//! A serin server as a child process on free loopback ports, and the ways to talk to it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The longest that any wait of a test may take; a hang is a failure, never a pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A file below the repository's root.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("runtime/ is in the repository")
        .join(path)
}

/// A running `serin serve`.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    pub(crate) scoring: String,
    pub(crate) admin: String,
    pub(crate) token: String,
}

impl Server {
    /// Starts a server on the data folder and waits until it says that it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more flags of `serin serve`.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let mut command = serin(data);
        command
            .args(["serve", "--port", "0", "--admin-port", "0"])
            .args(arguments);
        Self::spawn(command, data)
    }

    /// Starts a server from another copy of the binary.
    pub(crate) fn start_command(command: Command, data: &Path) -> Self {
        Self::start_command_with(command, data, &[])
    }

    /// The same with more flags of `serin serve`.
    pub(crate) fn start_command_with(
        mut command: Command,
        data: &Path,
        arguments: &[&str],
    ) -> Self {
        command
            .args(["serve", "--port", "0", "--admin-port", "0"])
            .args(arguments);
        Self::spawn(command, data)
    }

    /// Starts a server by a command that has all its arguments.
    pub(crate) fn start_prepared(command: Command, data: &Path) -> Self {
        Self::spawn(command, data)
    }

    fn spawn(mut command: Command, data: &Path) -> Self {
        let mut child = spawn_piped(&mut command);
        if let Err((status, text)) = await_ready_or_end(&mut child) {
            panic!("the server did not become ready ({status}):\n{text}");
        }
        Self::of(child, data)
    }

    /// Starts a server that has no room to write where it is. Commands do not find it.
    pub(crate) fn start_unannounced(mut command: Command, data: &Path) -> Self {
        command.args(["serve", "--port", "0", "--admin-port", "0"]);
        let mut child = spawn_piped(&mut command);
        let line = match await_ready_or_end(&mut child) {
            Ok(line) => line,
            Err((status, text)) => panic!("the server did not become ready ({status}):\n{text}"),
        };
        let scoring = line.split_once("scoring on ").expect("the ready line").1;
        let scoring = scoring.split_once(',').expect("the ready line").0;
        Self {
            scoring: scoring.to_owned(),
            admin: String::new(),
            token: String::new(),
            data: data.to_owned(),
            child,
        }
    }

    fn of(child: Child, data: &Path) -> Self {
        let text = std::fs::read_to_string(data.join("server.json"))
            .expect("a ready server has written server.json");
        let file: Value = serde_json::from_str(&text).expect("server.json is JSON");
        let field = |name: &str| {
            file[name]
                .as_str()
                .expect("a field of server.json")
                .to_owned()
        };
        Self {
            child,
            data: data.to_owned(),
            scoring: format!("http://{}", field("scoring_address")),
            admin: format!("http://{}", field("admin_address")),
            token: field("token"),
        }
    }

    /// The same where the server may refuse: then the last that it says.
    pub(crate) fn start_unless_refused(data: &Path, arguments: &[&str]) -> Result<Self, String> {
        let mut command = serin(data);
        command
            .args(["serve", "--port", "0", "--admin-port", "0"])
            .args(arguments);
        let mut child = spawn_piped(&mut command);
        await_ready_or_end(&mut child).map_err(|(_, text)| text)?;
        Ok(Self::of(child, data))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command of serin against this server.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        run(&self.data, arguments)
    }

    /// Runs a command that must succeed; its JSON output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Value {
        self.run(arguments).ok()
    }

    /// Runs a command with `--file` and a file of this text.
    pub(crate) fn run_with(&self, arguments: &[&str], text: &str) -> Finished {
        let folder = folder();
        let path = folder.path().join("file.yml");
        std::fs::write(&path, text).expect("a file");
        let file = ["--file", path.to_str().expect("UTF-8")];
        self.run(&[arguments, &file].concat())
    }

    /// Creates an endpoint that asks for keys.
    pub(crate) fn create_endpoint(&self, name: &str) {
        let text = format!("name: {name}\nauth_mode: key\n");
        self.run_with(&["online-endpoint", "create"], &text).ok();
    }

    /// Registers the model of a folder of the repository.
    pub(crate) fn register(&self, name: &str, version: &str, path: &str) -> Finished {
        let path = model(path);
        let command = [
            "model",
            "create",
            "--name",
            name,
            "--version",
            version,
            "--path",
            &path,
        ];
        self.run(&command)
    }

    /// Updates an endpoint and waits until that is done.
    pub(crate) fn update(&self, endpoint: &str, arguments: &[&str]) -> Value {
        self.ok(&[&["endpoint", "update", "--name", endpoint], arguments].concat())
    }

    /// Creates a deployment of `iris`.
    pub(crate) fn create_deployment(&self, name: &str, model: &str, more: &str) -> Finished {
        let text = deployment(name, model, more);
        self.run_with(&["online-deployment", "create"], &text)
    }

    /// Runs a command that must fail; its exit code and stderr.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let finished = self.run(arguments);
        (finished.code, finished.error())
    }

    /// The bearer credential of an endpoint.
    pub(crate) fn key(&self, endpoint: &str) -> String {
        let credentials = self.ok(&["endpoint", "get-credentials", "--name", endpoint]);
        ["primaryKey", "accessToken"]
            .iter()
            .find_map(|name| credentials[*name].as_str())
            .expect("a credential")
            .to_owned()
    }

    /// Posts a body to the endpoint's scoring URI.
    pub(crate) fn score(
        &self,
        endpoint: &str,
        key: &str,
        deployment: Option<&str>,
        body: &str,
    ) -> Answer {
        let deployment = deployment.map(|name| ("azureml-model-deployment", name));
        self.score_with(endpoint, key, deployment.as_slice(), body)
    }

    /// The same with headers of one's own.
    pub(crate) fn score_with(
        &self,
        endpoint: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = agent()
            .post(format!("{}/endpoints/{endpoint}/score", self.scoring))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send(body).expect("an HTTP answer"))
    }

    /// Kills the process the hard way and waits for its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server ended");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("the server ended")
    }

    /// Does something again and again until the process has ended.
    pub(crate) fn wait_while(mut self, does: impl Fn()) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            does();
            std::thread::yield_now();
        }
    }

    /// Asks the process to end (SIGTERM) and waits; its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the server runs");
        self.child.wait().expect("the server ended").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended where a test killed it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An HTTP answer, any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let mut body = String::new();
        response
            .body_mut()
            .as_reader()
            .read_to_string(&mut body)
            .expect("the body is text");
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("a header is text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// The `message` of an error body.
    pub(crate) fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .expect("an error body has a message")
            .to_owned()
    }
}

/// Deletes the deployment `green` of `iris` without a question.
pub(crate) const DELETE_GREEN: &[&str] = &[
    "online-deployment",
    "delete",
    "-n",
    "green",
    "-e",
    "iris",
    "--yes",
];

/// A client that treats every status as an answer.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    arguments: Vec<String>,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The JSON output of a command that must have succeeded.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(
            self.code, 0,
            "serin {:?} failed:\n{}",
            self.arguments, self.stderr
        );
        if self.stdout.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).expect("the output is JSON")
    }

    /// What a command that must have failed said.
    pub(crate) fn error(self) -> String {
        assert_ne!(
            self.code, 0,
            "serin {:?} succeeded:\n{}",
            self.arguments, self.stdout
        );
        self.stderr
    }
}

/// A deployment file of `iris`, with more lines.
pub(crate) fn deployment(name: &str, model: &str, more: &str) -> String {
    format!(
        "name: {name}\nendpoint_name: iris\nmodel: {model}\ninstance_type: Standard_F2s_v2\n{more}"
    )
}

/// The path of a file below the repository's root, as text.
pub(crate) fn model(path: &str) -> String {
    repository(path)
        .to_str()
        .expect("the repository's path is UTF-8")
        .to_owned()
}

/// Runs one command of serin with a data folder.
pub(crate) fn run(data: &Path, arguments: &[&str]) -> Finished {
    let output = serin(data)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the serin binary starts");
    Finished {
        arguments: arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
        code: output.status.code().expect("the command was not killed"),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

pub(crate) fn serin(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
    command
        .env("SERIN_DATA", data)
        // Servers of other tests are not to be felt.
        .env("SERIN_LOCKS", locks(data))
        .env("NO_COLOR", "1")
        .env_remove("SERIN_LOG")
        // Set by cargo for the tests that load models themselves; the binary is to see to it on its own.
        .env_remove("ORT_DISABLE_TELEMETRY");
    command
}

/// The folder of core locks that servers of this data folder have for themselves.
pub(crate) fn locks(data: &Path) -> PathBuf {
    let name = data.file_name().unwrap_or_default();
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("locks")
        .join(name)
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn spawn_piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the serin binary starts")
}

/// Waits for the ready line on stdout and keeps both pipes empty from then on. Of a server that ends instead: how, and its words.
fn await_ready_or_end(child: &mut Child) -> Result<String, (ExitStatus, String)> {
    let (ready, is_ready) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut stderr = child.stderr.take().expect("stderr is a pipe");
    drain("stdout", move || {
        for line in stdout.lines().map_while(Result::ok) {
            if line.contains("ready") {
                let _unheard = ready.send(line);
            }
        }
    });
    let (said, heard) = mpsc::channel();
    drain("stderr", move || {
        let mut text = String::new();
        drop(stderr.read_to_string(&mut text));
        drop(said.send(text));
    });
    if let Ok(line) = is_ready.recv_timeout(PATIENCE) {
        return Ok(line);
    }
    drop(child.kill());
    let status = child.wait().expect("the server ended");
    Err((status, heard.recv_timeout(PATIENCE).unwrap_or_default()))
}

fn drain(name: &str, work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .expect("a thread");
}

//! A folder for one test, commands run in it, and a server when the test wants one.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;

/// A file below the repository's root.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("runtime/ is in the repository")
        .join(path)
}

/// A folder with a data folder in it. Commands run in it, with nothing of the caller's environment.
pub(crate) struct Place {
    folder: TempDir,
    working: PathBuf,
}

/// A running server; it ends with the value, because it holds the other end of the server's standard input.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let working = folder.path().join("cli");
        fs::create_dir(&working).expect("a new folder");
        Self { folder, working }
    }

    /// Writes a file into the working folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.working.join(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a new folder");
        fs::write(path, text).expect("a new file");
        self
    }

    /// Where a file of the working folder is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.working.join(name)
    }

    /// A file of the working folder.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file of text")
    }

    pub(crate) fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_serin"))
    }

    /// The same with another program.
    pub(crate) fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.working)
            .env_clear()
            .env("SERIN_DATA", self.folder.path().join("data"))
            // Else servers of other tests, and others of the machine, would hold its cores.
            .env("SERIN_LOCKS", self.folder.path().join("locks"))
            .env("XDG_CACHE_HOME", repository("target/cache"))
            .env("HOME", self.folder.path())
            .env("USER", "ann")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    /// Runs a line as a shell would; quotes hold words together.
    pub(crate) fn run(&self, line: &str) -> String {
        self.run_with(line, "")
    }

    /// The same, with text on standard input.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> String {
        let mut child = self
            .command()
            .args(words(line))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the serin binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that asks for nothing may have ended already.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        let output = child.wait_with_output().expect("the command ends");
        let text = format!(
            "code: {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().expect("it was not killed"),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        self.without_chance(&text)
    }

    /// Runs a line that must succeed; its standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    /// The same, with text on standard input.
    pub(crate) fn ok_with(&self, line: &str, input: &str) -> String {
        let text = self.run_with(line, input);
        let (code, rest) = text.split_once('\n').expect("the code has a line");
        assert_eq!(code, "code: 0", "serin {line}\n{rest}");
        let (stdout, _) = rest
            .split_once("--- stderr\n")
            .expect("both streams are there");
        stdout.trim_start_matches("--- stdout\n").to_owned()
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn serve(&self) -> Server {
        let mut command = self.command();
        command.args(["serve", "--port", "0", "--until-stdin-closes"]);
        Self::until_ready(command)
    }

    /// Starts a server that ends with its standard input, and waits until it is ready.
    pub(crate) fn until_ready(mut command: Command) -> Server {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the serin binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("the server says that it is ready");
        assert!(line.starts_with("ready: "), "{line:?}");
        let stdin = child.stdin.take();
        Server { child, stdin }
    }

    /// Text without what differs from run to run and from machine to machine: the folder, and how long it took, process ids, cores.
    fn without_chance(&self, text: &str) -> String {
        let folder = self
            .folder
            .path()
            .to_str()
            .expect("a temporary folder is UTF-8");
        let text = text.replace(folder, "[folder]");
        let text = match text.split_once("(pid ") {
            Some((before, after)) => {
                let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}(pid [pid]{after}")
            }
            None => text,
        };
        // Whether there are cores enough is the machine's affair.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("note: overcommitted: "));
        let lines = lines.map(|line| match line.rsplit_once(" in ") {
            Some((before, after)) if after.ends_with(" s") => format!("{before} in [time]\n"),
            _ => format!("{}\n", line.trim_end()),
        });
        lines.collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{what}: it did not come about");
}

/// The status and the body that a server answers to `GET`; `headers` are whole lines.
pub(crate) fn get(address: &str, headers: &str) -> (u16, String) {
    let address = address.strip_prefix("http://").expect("an address");
    let (host, path) = address.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("it listens");
    let request =
        format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

/// The words of a line; single and double quotes hold words together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None if c == ' ' => words.push(String::new()),
            _ => words.last_mut().expect("there is a word").push(c),
        }
    }
    words
}

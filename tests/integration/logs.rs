//! The log: nobody waits for who reads it, floods are counted, and signals open it again and have the status written there.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::hygiene::wait_until;
use crate::scoring::{deploy, sample};
use crate::support::{Answer, Server, agent, folder, serin};

/// A server whose standard error is a pipe that nobody reads until somebody wants to.
struct Unread {
    child: Child,
    stderr: ChildStderr,
    scoring: String,
    admin: String,
}

impl Unread {
    fn start(mut command: Command, data: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the serin binary starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut ready)
            .expect("a line");
        assert!(ready.contains("ready"), "{ready}");
        let text = fs::read_to_string(data.join("server.json")).expect("a ready server has one");
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let address = |name: &str| format!("http://{}", file[name].as_str().expect("an address"));
        Self {
            stderr: child.stderr.take().expect("a pipe"),
            child,
            scoring: address("scoring_address"),
            admin: address("admin_address"),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = get(&format!("{}/metrics", self.admin)).body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("a series").parse().expect("a number")
    }

    /// Has the server write lines until some find no room.
    fn fill(&self) {
        let long = "x".repeat(4000);
        let client = agent();
        wait_until("a line that is dropped", || {
            for _ in 0..100 {
                let wrong = client.get(format!("{}/{long}", self.scoring)).call();
                assert_eq!(wrong.expect("an answer").status().as_u16(), 404);
            }
            self.metric("serin_log_dropped_total") > 0
        });
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Ended already where a test waited for that.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn get(uri: &str) -> Answer {
    Answer::read(agent().get(uri).call().expect("an HTTP answer"))
}

fn signal(server: &Server, signal: Signal) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("it runs");
}

fn wordy(data: &Path) -> Command {
    let mut command = serin(data);
    command
        .args(["serve", "--port", "0", "--admin-port", "0"])
        .env("SERIN_LOG", "debug");
    command
}

#[test]
fn with_a_log_that_nobody_reads_it_scores_answers_for_its_health_and_ends_when_it_is_asked_to() {
    let data = folder();
    let before = Server::start(data.path());
    let key = deploy(&before, "models/digits/1/model.onnx", "");
    assert_eq!(before.terminate(), Some(0));
    let mut server = Unread::start(wordy(data.path()), data.path());
    server.fill();
    server.signal(Signal::USR1);
    server.signal(Signal::HUP);
    let request = agent()
        .post(format!("{}/score", server.scoring))
        .header("authorization", format!("Bearer {key}"));
    let answer = Answer::read(request.send(sample()).expect("an HTTP answer"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(get(&format!("{}/health/ready", server.scoring)).status, 200);
    assert_eq!(get(&format!("{}/health", server.admin)).status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().expect("it ended").code(), Some(0));
}

#[test]
fn who_reads_again_hears_how_many_lines_were_dropped() {
    let data = folder();
    let mut server = Unread::start(wordy(data.path()), data.path());
    server.fill();
    let dropped = server.metric("serin_log_dropped_total");
    let mut lines = BufReader::new(&mut server.stderr)
        .lines()
        .map_while(Result::ok);
    let told = lines.find(|line| line.contains("lines of the log were dropped"));
    let told = told.expect("the line");
    let count = told.split("lines=").nth(1).expect("a number");
    let count: u64 = count.trim().parse().expect("a number");
    assert!((1..=dropped).contains(&count), "{told}");
}

/// A pipe that takes nothing more, with its reader, who does not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe");
    let full = [0; 4096];
    while rustix::io::write(&writer, &full).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("a pipe");
    (reader, writer)
}

#[test]
fn an_error_that_nobody_reads_does_not_hold_up_the_end() {
    let data = folder();
    let (_reader, writer) = full_pipe();
    let mut child = serin(data.path())
        .args(["up", "--port", "0", "no-such-model.onnx"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .expect("the serin binary starts");
    assert_ne!(child.wait().expect("it ended").code(), Some(0));
}

#[test]
fn a_ready_line_that_nobody_reads_does_not_hold_up_the_server() {
    let data = folder();
    let (_reader, writer) = full_pipe();
    let mut child = serin(data.path())
        .args(["serve", "--port", "0", "--admin-port", "0"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .expect("the serin binary starts");
    let read = || fs::read_to_string(data.path().join("server.json"));
    wait_until("a server", || read().is_ok());
    let file: Value = serde_json::from_str(&read().expect("a file")).expect("JSON");
    let ready = format!(
        "http://{}/health/ready",
        file["scoring_address"].as_str().expect("an address")
    );
    let is_ready = || {
        let answer = agent().get(&ready).call();
        answer.is_ok_and(|answer| answer.status().as_u16() == 200)
    };
    wait_until("a server that is ready", is_ready);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
}

#[test]
fn of_many_like_lines_some_are_written_and_the_others_are_counted() {
    const FAILED: usize = 300;
    let data = folder();
    let log = data.path().join("serin.log");
    let server = logging(data.path(), &log, &[]);
    let key = deploy(&server, "models/test/picky.onnx", "");
    let begun = fs::read_to_string(&log).expect("a log").len();
    let client = agent();
    for _ in 0..FAILED {
        let request = client
            .post(format!("{}/score", server.scoring))
            .header("authorization", format!("Bearer {key}"));
        let answer = request.send(r#"{"data": [99]}"#).expect("an answer");
        assert_eq!(answer.status().as_u16(), 424);
    }
    assert_eq!(server.terminate(), Some(0));
    let text = fs::read_to_string(&log).expect("a log");
    let text = &text[begun..];
    let written = text
        .lines()
        .filter(|line| line.contains("the model") || line.contains("request refused"));
    let written = written.filter(|line| line.contains("status=424")).count();
    let counts = text.lines().filter_map(|line| {
        let line = line.contains("more lines like this one").then_some(line)?;
        let count = line.split("left_out=").nth(1)?.split(' ').next()?;
        line.contains("request refused")
            .then(|| count.parse::<usize>().expect("a number"))
    });
    let left_out: usize = counts.sum();
    assert!(left_out > 0, "{text}");
    assert_eq!(written + left_out, FAILED, "{text}");
}

fn logging(data: &Path, log: &Path, more: &[&str]) -> Server {
    let log = log.to_str().expect("UTF-8");
    Server::start_with(data, &[&["--log-file", log], more].concat())
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_hangup_opens_the_log_again_and_reads_its_level_and_no_request_notices() {
    let data = folder();
    let (log, old) = (
        data.path().join("serin.log"),
        data.path().join("serin.log.1"),
    );
    let level = data.path().join("level");
    let more = ["--log-level-file", level.to_str().expect("UTF-8")];
    let server = logging(data.path(), &log, &more);
    deploy(&server, "models/digits/1/model.onnx", "");
    let wrong = |path: &str| {
        assert_eq!(get(&format!("{}/{path}", server.scoring)).status, 404);
    };
    wrong("unheard");
    fs::rename(&log, &old).expect("a log");
    fs::write(&level, "debug\n").expect("a file");
    signal(&server, Signal::HUP);
    wait_until("another log", || text_of(&log).contains("opened again"));
    wrong("heard");
    wait_until("a line", || text_of(&log).contains("/heard"));
    assert!(!text_of(&old).contains("/unheard"));
    // Nonsense changes nothing but tells.
    fs::write(&level, "serin=loud").expect("a file");
    signal(&server, Signal::HUP);
    wait_until("a complaint", || text_of(&log).contains("stays as it is"));
    wrong("still");
    wait_until("a line", || text_of(&log).contains("/still"));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn the_status_is_written_to_the_log_whatever_its_level() {
    let data = folder();
    let log = data.path().join("serin.log");
    let level = data.path().join("level");
    fs::write(&level, "error").expect("a file");
    let more = ["--log-level-file", level.to_str().expect("UTF-8")];
    let server = logging(data.path(), &log, &more);
    deploy(&server, "models/digits/1/model.onnx", "");
    signal(&server, Signal::USR1);
    let whole = || text_of(&log).contains("status of a deployment");
    wait_until("a status", whole);
    let text = text_of(&log);
    for part in [
        &format!("pid={}", server.pid()),
        "ready=true",
        "deployments=1",
        "in_flight=0",
        "held_bytes=0",
        "uptime_s=",
        "sockets=",
        "traffic=100",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_so() {
    let data = folder();
    let log = data.path().join("serin.log");
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "trap '' HUP; exec \"$0\" serve --port 0 --admin-port 0 --log-file \"$1\"",
        ])
        .arg(serin(data.path()).get_program())
        .arg(&log)
        .env("SERIN_DATA", data.path());
    let mut server = Unread::start(command, data.path());
    let old = data.path().join("serin.log.1");
    fs::rename(&log, &old).expect("a log");
    server.signal(Signal::HUP);
    server.signal(Signal::USR1);
    wait_until("a status", || text_of(&old).contains("uptime_s="));
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().expect("it ended").code(), Some(0));
    assert!(!log.exists(), "{}", text_of(&log));
}

#[test]
fn a_supervisor_hears_a_hangup_for_its_server_which_goes_on() {
    let data = folder();
    let (log, old) = (
        data.path().join("serin.log"),
        data.path().join("serin.log.1"),
    );
    let server = logging(data.path(), &log, &["--supervise"]);
    let serving = || {
        let text = fs::read_to_string(data.path().join("server.json")).expect("a file");
        let file: Value = serde_json::from_str(&text).expect("JSON");
        file["pid"].as_u64().expect("a process id")
    };
    let before = serving();
    fs::rename(&log, &old).expect("a log");
    signal(&server, Signal::HUP);
    // Both processes write there, and both say so.
    let both = || text_of(&log).matches("opened again").count() == 2;
    wait_until("another log of both", both);
    signal(&server, Signal::USR1);
    let status = format!("pid={before}");
    wait_until("the server's status", || text_of(&log).contains(&status));
    assert_eq!(serving(), before);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_log_that_cannot_be_written_is_told_at_the_start() {
    let data = folder();
    let run = |arguments: &[&str]| {
        let output = serin(data.path()).arg("serve").args(arguments).output();
        let output = output.expect("the serin binary starts");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        (output.status.code(), text)
    };
    let ports = ["--port", "0", "--admin-port", "0"];
    let (code, text) = run(&[&ports, ["--log-file", "/no/such/folder/log"].as_slice()].concat());
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("/no/such/folder/log"), "{text}");
}

#[test]
fn a_terminal_that_is_closed_ends_the_server_that_had_it() {
    let data = folder();
    let pair = open_terminal();
    let mut command = serin(data.path());
    command.args(["serve", "--port", "0", "--admin-port", "0"]);
    let (controller, terminal) = pair;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(terminal)
        .spawn()
        .expect("the serin binary starts");
    drop(command);
    let mut ready = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut ready).expect("a line");
    drop(controller);
    kill_process(Pid::from_child(&child), Signal::HUP).expect("it runs");
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
}

/// A terminal, and the end that a terminal emulator has.
fn open_terminal() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&controller).expect("a terminal");
    unlockpt(&controller).expect("a terminal");
    let name = ptsname(&controller, Vec::new()).expect("its name");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty());
    (controller, terminal.expect("a terminal"))
}

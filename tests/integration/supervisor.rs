//! `serin serve --supervise`, and sockets that systemd hands over: clients wait while a server is replaced.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::deaths::{FATAL, ON_A_THREAD, deaths};
use crate::hygiene::{try_a_model_that_hangs, wait_until};
use crate::scoring::{deploy, sample, send_only};
use crate::support::{Server, agent, folder, run, serin};

fn supervised(data: &Path) -> Server {
    Server::start_with(data, &["--supervise"])
}

fn process(pid: u32) -> Pid {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.expect("a process id")
}

/// The process that serves, as commands find it; none before it has come up.
fn serving(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(data.join("server.json")).ok()?;
    let file: Value = serde_json::from_str(&text).ok()?;
    file["pid"].as_u64()?.try_into().ok()
}

/// Ends the process that serves and waits until there is another one.
fn replace(data: &Path, end: impl FnOnce(Pid)) -> u32 {
    let before = serving(data).expect("a server");
    end(process(before));
    let other = || serving(data).filter(|pid| *pid != before);
    wait_until("another server", || other().is_some());
    other().expect("another server")
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it runs");
}

fn has_ended(pid: u32) -> bool {
    // One that has ended and that nobody has asked after is still there, and runs no more.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty())
}

#[test]
fn while_a_server_is_killed_and_replaced_no_connection_is_refused_and_requests_succeed_again() {
    let data = folder();
    let server = supervised(data.path());
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    assert_ne!(serving(data.path()), Some(server.pid()));
    let over = AtomicBool::new(false);
    let (refused, answered, failed) = <(AtomicUsize, AtomicUsize, AtomicUsize)>::default();
    let address = server.scoring.strip_prefix("http://").expect("an address");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let connected = TcpStream::connect(address).map_err(|error| error.kind());
                if connected.is_err_and(|kind| kind == ErrorKind::ConnectionRefused) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                // One that the killed server had is reset; those that wait are answered by the next.
                let answer = agent()
                    .post(format!("{}/score", server.scoring))
                    .header("authorization", format!("Bearer {key}"))
                    .send(sample());
                match answer.map(|answer| answer.status().as_u16()) {
                    Ok(200) => _ = answered.fetch_add(1, Ordering::Relaxed),
                    Ok(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                    Err(_) => {}
                }
            }
        });
        for _ in 0..3 {
            replace(data.path(), kill);
            let before = answered.load(Ordering::Relaxed);
            wait_until("answers again", || {
                answered.load(Ordering::Relaxed) >= before + 2
            });
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(refused.load(Ordering::Relaxed), 0);
    // Nobody is told that the deployment is not there yet.
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    let deaths = deaths(&server);
    assert_eq!(deaths.len(), 3, "{deaths:?}");
    for death in deaths {
        let why = death["why"].as_str().expect("a sentence");
        assert!(why.starts_with("ended without a word (SIGKILL"), "{why}");
    }
}

#[test]
fn a_command_of_before_a_death_is_answered_by_the_next_server() {
    let data = folder();
    let server = supervised(data.path());
    // The token of the first server, as a command has it that was started before.
    replace(data.path(), kill);
    let status = agent()
        .get(format!("{}/v1/endpoints", server.admin))
        .header("authorization", format!("Bearer {}", server.token))
        .call()
        .expect("an answer")
        .status();
    assert_eq!(status.as_u16(), 200);
}

#[test]
fn a_model_that_kills_its_server_is_known_to_the_next_and_other_deployments_are_back() {
    let data = folder();
    let server = supervised(data.path());
    let key = deploy(&server, "models/test/divide.onnx", ON_A_THREAD);
    replace(data.path(), |_| {
        let mut client = send_only(&server, &key, FATAL);
        let mut answer = Vec::new();
        // Nothing, or a reset connection.
        let _ended = client.read_to_end(&mut answer);
        assert!(answer.is_empty());
    });
    let deaths = deaths(&server);
    assert_eq!(deaths[0]["change"]["signal"], "SIGFPE");
    assert_eq!(deaths[0]["change"]["isolated"], json!(["iris/blue"]));
    let fine = server.score("iris", &key, None, r#"{"data": {"a": [6], "b": [3]}}"#);
    assert_eq!(fine.status, 200);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn being_told_to_end_ends_both_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let data = folder();
        let server = supervised(data.path());
        let pid = serving(data.path()).expect("a server");
        kill_process(process(server.pid()), signal).expect("it runs");
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
        assert!(test_kill_process(process(pid)).is_err(), "it is gone");
        assert!(!data.path().join("server.json").exists());
    }
    // Whoever ends the server itself has ended it.
    let data = folder();
    let server = supervised(data.path());
    let pid = serving(data.path()).expect("a server");
    kill_process(process(pid), Signal::TERM).expect("it runs");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_supervisor_that_is_killed_leaves_no_server_behind() {
    let data = folder();
    let server = supervised(data.path());
    let pid = serving(data.path()).expect("a server");
    server.kill();
    wait_until("the end of the server", || has_ended(pid));
    // Its last threads may end later than its first, and its lock with them.
    let lock = File::open(data.path().join("lock")).expect("a lock");
    wait_until("a folder that is free", || lock.try_lock().is_ok());
    drop(lock);
    Server::start(data.path());
}

#[test]
fn a_supervisor_ends_with_the_code_of_a_server_that_cannot_start() {
    let data = folder();
    let _first = Server::start(data.path());
    let second = run(data.path(), &["serve", "--supervise", "--port", "0"]);
    assert_eq!(second.code, 8, "{}", second.stderr);
    assert!(
        second.stderr.contains("is in use by another server"),
        "{}",
        second.stderr
    );
    let mistaken = run(
        data.path(),
        &["serve", "--supervise", "--skus", "/missing.yml"],
    );
    assert_eq!(mistaken.code, 3, "{}", mistaken.stderr);
}

#[test]
fn processes_that_a_supervised_server_starts_do_not_hold_its_sockets() {
    let data = folder();
    let server = supervised(data.path());
    let pid = try_a_model_that_hangs(&server);
    assert_eq!(
        Some(pid),
        serving(data.path()),
        "the supervisor has one child"
    );
    let children = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
        let lists = tasks
            .flatten()
            .map(|task| fs::read_to_string(task.path().join("children")));
        lists.map(Result::unwrap_or_default).collect::<String>()
    };
    wait_until("a trial", || !children().trim().is_empty());
    let trial = children().split_whitespace().next().map(str::to_owned);
    let trial = trial.expect("a process id");
    let mut sockets = 0;
    for process in [&pid.to_string(), &trial] {
        let open = fs::read_dir(format!("/proc/{process}/fd")).expect("a process");
        let targets = open
            .flatten()
            .filter_map(|one| fs::read_link(one.path()).ok());
        let is_socket = |target: &PathBuf| target.to_string_lossy().starts_with("socket:");
        let found = targets.filter(is_socket).count();
        assert!(process != &trial || found == 0, "{found} sockets");
        sockets += found;
    }
    assert!(sockets >= 2, "the server itself has them");
}

#[test]
fn the_ready_line_comes_once_and_a_loop_of_deaths_backs_off_and_says_so() {
    let data = folder();
    let words = data.path().join("words");
    let mut child = serin(data.path())
        .args(["serve", "--supervise", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(File::create(&words).expect("a file"))
        .spawn()
        .expect("the serin binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("the ready line");
    assert!(first.starts_with("ready: "), "{first}");
    for _ in 0..3 {
        replace(data.path(), kill);
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "");
    let words = fs::read_to_string(&words).expect("its log");
    for said in [
        "the server died: it is started again",
        "signal: 9 (SIGKILL)",
        "in_a_row=2 pause_ms=100",
        "in_a_row=3 pause_ms=200",
    ] {
        assert!(words.contains(said), "{said}: {words}");
    }
}

#[test]
fn a_supervisor_can_be_told_to_end_while_it_waits_to_start_the_server_again() {
    let data = folder();
    let words = data.path().join("words");
    let mut child = serin(data.path())
        .args(["serve", "--supervise", "--port", "0"])
        .stdout(Stdio::null())
        .stderr(File::create(&words).expect("a file"))
        .spawn()
        .expect("the serin binary starts");
    wait_until("a server", || serving(data.path()).is_some());
    // Pauses of 0, 0.1, 0.2, 0.4, 0.8 and 1.6 s: the last is met with certainty, for it is told before it begins.
    for _ in 0..5 {
        replace(data.path(), kill);
    }
    kill(process(serving(data.path()).expect("a server")));
    let told = || fs::read_to_string(&words).is_ok_and(|words| words.contains("pause_ms=1600"));
    wait_until("the long pause", told);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
}

/// Starts a server with a listening socket as systemd would hand it over: by a shell, whose process becomes the server's.
fn activated(data: &Path, listener: &TcpListener, more: &str) -> Child {
    let program = serin(data).get_program().to_owned();
    let script = format!(
        "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve --port 1 {more}"
    );
    let socket = listener.try_clone().expect("a socket");
    Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(program)
        .env("SERIN_DATA", data)
        .env_remove("SERIN_LOG")
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

#[test]
fn a_socket_that_systemd_hands_over_is_served_whatever_the_port_says() {
    for more in ["", "--supervise"] {
        let data = folder();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        // The client is there first, and waits.
        let waiting = TcpStream::connect(address).expect("it listens");
        let mut child = activated(data.path(), &listener, more);
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("a line");
        assert!(
            ready.contains(&format!("scoring on http://{address}")),
            "{ready}"
        );
        let answer = agent().get(format!("http://{address}/health/live")).call();
        assert_eq!(answer.expect("an answer").status().as_u16(), 200);
        drop(waiting);
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        assert_eq!(child.wait().expect("it ended").code(), Some(0));
    }
}

#[test]
fn sockets_that_were_handed_over_and_are_none_are_refused_in_words() {
    let data = folder();
    let refused = run(data.path(), &["serve", "--handed-over", "1:77:78"]);
    assert_eq!(refused.code, 8);
    assert!(refused.stderr.contains("socket 77"), "{}", refused.stderr);
    let refused = run(data.path(), &["serve", "--handed-over", "nonsense"]);
    assert_eq!(refused.code, 2);
}

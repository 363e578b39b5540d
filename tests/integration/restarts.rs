//! Restarts that lose no request: a server drains, tells whom it cuts, and hands over to the process that takes its place.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hygiene::{try_a_model_that_hangs, wait_until};
use crate::scoring::{deploy, held, sample, send_only, slow_body};
use crate::support::{PATIENCE, Server, agent, folder, repository, run, serin};

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a process id");
    kill_process(pid, signal).expect("it runs");
}

/// The units that are shipped, in a folder, with the path of this binary.
fn units() -> TempDir {
    let units = folder();
    for name in ["serin.service", "serin.socket"] {
        let text = fs::read_to_string(repository("packaging/systemd").join(name)).expect("a unit");
        let text = text.replace("/usr/local/bin/serin", env!("CARGO_BIN_EXE_serin"));
        fs::write(units.path().join(name), text).expect("a file");
    }
    units
}

#[test]
fn the_unit_starts_a_command_that_there_is_and_waits_longer_than_the_end_takes() {
    let units = units();
    let text = fs::read_to_string(units.path().join("serin.service")).expect("a unit");
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
        values.next().expect(key).to_owned()
    };
    let command = value("ExecStart=");
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some(env!("CARGO_BIN_EXE_serin")));
    let words: Vec<_> = words.collect();
    // With wrong flags it is no help that is asked for.
    let help = run(units.path(), &[words.as_slice(), &["--help"]].concat());
    assert_eq!(help.code, 0, "{}", help.stderr);
    let at = words.iter().position(|word| *word == "--drain-delay");
    let delay: u64 = words[at.expect("a delay") + 1].parse().expect("seconds");
    let stop: u64 = value("TimeoutStopSec=").parse().expect("seconds");
    let needed = serin::config::GRACE_DEFAULT + serin::config::STOP_MAX;
    assert!(stop > delay + needed.as_secs());
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = units();
    let verified = Command::new("systemd-analyze")
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()))
        .args(["verify", "--man=no"])
        .args(["serin.service", "serin.socket"].map(|name| units.path().join(name)))
        .output();
    let verified = match verified {
        // The other test of the units holds on every machine.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        verified => verified.expect("systemd-analyze starts"),
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    assert!(!said.contains("serin."), "{said}");
}

/// What readiness says, with its status.
fn readiness(scoring: &str) -> (u16, Value) {
    let url = format!("{scoring}/health/ready");
    let mut answer = agent().get(url).call().expect("an answer");
    let mut body = String::new();
    let mut reader = answer.body_mut().as_reader();
    reader.read_to_string(&mut body).expect("text");
    let body = serde_json::from_str(&body).expect("JSON");
    (answer.status().as_u16(), body)
}

fn until_draining(server: &Server) {
    wait_until("a server that drains", || {
        readiness(&server.scoring) == (503, json!({"ready": false, "reason": "draining"}))
    });
}

/// A client with one connection, which it keeps for as long as the server does. It repeats nothing.
struct KeepAlive {
    address: String,
    request: Vec<u8>,
    connection: Option<BufReader<TcpStream>>,
    /// Whether the last answer was said to be its connection's last.
    is_last: Option<bool>,
}

impl KeepAlive {
    fn new(server: &Server, key: &str) -> Self {
        let address = server.scoring.strip_prefix("http://").expect("an address");
        let body = sample();
        let head = format!(
            "POST /score HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            address: address.to_owned(),
            request: head.into_bytes(),
            connection: None,
            is_last: None,
        }
    }

    fn another(&self) -> Self {
        Self {
            address: self.address.clone(),
            request: self.request.clone(),
            connection: None,
            is_last: None,
        }
    }

    /// The status of one request. What is not answered is a failure, whatever the reason.
    fn ask(&mut self) -> io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        connection.get_mut().write_all(&self.request)?;
        let (mut status, mut length, mut is_last) = (0, 0, false);
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
            is_last |= line == "connection: close";
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body)?;
        self.is_last = Some(is_last);
        self.connection = (!is_last).then_some(connection);
        Ok(status)
    }
}

/// Clients that ask without a pause while something is done: how many requests were answered, and every failure.
fn under_load(like: &KeepAlive, does: impl FnOnce(&AtomicUsize)) -> (usize, Vec<String>) {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = like.another();
                while !over.load(Ordering::Relaxed) {
                    match client.ask() {
                        Ok(200) => _ = answered.fetch_add(1, Ordering::Relaxed),
                        other => failures.lock().expect("whole").push(format!("{other:?}")),
                    }
                }
            });
        }
        let ends = EndOnDrop(&over);
        does(&answered);
        drop(ends);
    });
    (answered.into_inner(), failures.into_inner().expect("whole"))
}

/// Lets the clients end, also when the test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until more requests were answered since.
fn until_more_are_answered(answered: &AtomicUsize) {
    let before = answered.load(Ordering::Relaxed);
    wait_until("more answers", || {
        answered.load(Ordering::Relaxed) > before + 50
    });
}

fn digits(server: &Server) -> String {
    deploy(
        server,
        "models/digits/1/model.onnx",
        "request_settings: {max_concurrent_requests_per_instance: 8}\n",
    )
}

fn pid_of(data: &Path) -> u64 {
    let text = fs::read_to_string(data.join("server.json")).expect("a server");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    file["pid"].as_u64().expect("a process id")
}

/// Where the server listens: for requests, for commands.
fn addresses(server: &Server) -> (String, String) {
    (server.scoring.clone(), server.admin.clone())
}

fn revision(server: &Server) -> u64 {
    server.ok(&["status"])["revision"]
        .as_u64()
        .expect("a number")
}

fn change(server: &Server) {
    let traffic = [
        "endpoint",
        "update",
        "--name",
        "iris",
        "--traffic",
        "blue=100",
    ];
    server.ok(&traffic);
}

#[test]
fn three_servers_take_each_other_s_place_under_load_and_no_request_is_lost() {
    let data = folder();
    let mut server = Server::start(data.path());
    let key = digits(&server);
    let first = addresses(&server);
    let client = KeepAlive::new(&server, &key);
    let (answered, failures) = under_load(&client, |answered| {
        for _ in 0..3 {
            until_more_are_answered(answered);
            let next = Server::start_with(data.path(), &["--replace"]);
            assert_eq!(addresses(&next), first);
            let before = std::mem::replace(&mut server, next);
            assert_eq!(before.wait().code(), Some(0));
            assert_eq!(pid_of(data.path()), u64::from(server.pid()));
            // It has all that the one before had, and is the writer.
            let known = revision(&server);
            change(&server);
            assert!(revision(&server) > known);
        }
        until_more_are_answered(answered);
    });
    assert_eq!(failures, Vec::<String>::new());
    assert!(answered > 150);
    // Nobody died, in the words of the journal.
    let journal = server.ok(&["journal"]).to_string();
    assert!(!journal.contains("server_died"), "{journal}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_whose_replacement_dies_takes_changes_again_and_can_be_replaced() {
    let data = folder();
    let server = Server::start(data.path());
    let key = digits(&server);
    let client = KeepAlive::new(&server, &key);
    let (_, failures) = under_load(&client, |answered| {
        for _ in 0..3 {
            let mut other = begin_to_replace(data.path());
            wait_until("a server that lends its folder", || {
                fs::read_to_string(data.path().join("lock"))
                    .is_ok_and(|pid| pid == other.id().to_string())
            });
            other.kill().expect("it runs");
            other.wait().expect("it ended");
            wait_until("a server that takes changes", || {
                let change = [
                    "endpoint",
                    "update",
                    "--name",
                    "iris",
                    "--traffic",
                    "blue=100",
                ];
                server.run(&change).code == 0
            });
            until_more_are_answered(answered);
        }
    });
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(pid_of(data.path()), u64::from(server.pid()));
    let next = Server::start_with(data.path(), &["--replace"]);
    assert_eq!(server.wait().code(), Some(0));
    change(&next);
}

#[test]
fn metrics_go_on_at_their_address_when_a_server_is_replaced() {
    let data = folder();
    // Whatever is free now; the second server must have the same.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let server = Server::start_with(data.path(), &["--metrics", &address]);
    let url = format!("http://{address}/metrics");
    assert_eq!(agent().get(&url).call().expect("an answer").status(), 200);
    let next = Server::start_with(data.path(), &["--metrics", &address, "--replace"]);
    assert_eq!(server.wait().code(), Some(0));
    wait_until("metrics of the next server", || {
        agent()
            .get(&url)
            .call()
            .is_ok_and(|answer| answer.status() == 200)
    });
    assert_eq!(next.terminate(), Some(0));
}

#[test]
fn a_server_that_ends_while_another_takes_its_place_leaves_the_place_to_it() {
    let data = folder();
    let server = Server::start(data.path());
    let key = digits(&server);
    let own = server.pid().to_string();
    let next = thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("a server that lends its folder", || {
                let holder = fs::read_to_string(data.path().join("lock"));
                holder.is_ok_and(|pid| !pid.is_empty() && pid != own)
            });
            signal(&server, Signal::TERM);
        });
        Server::start_with(data.path(), &["--replace"])
    });
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(next.score("iris", &key, None, &sample()).status, 200);
    change(&next);
    assert_eq!(next.terminate(), Some(0));
}

/// A process that will replace the server, if it is let.
fn begin_to_replace(data: &Path) -> Child {
    serin(data)
        .args(["serve", "--port", "0", "--admin-port", "0", "--replace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the serin binary starts")
}

#[test]
fn of_two_processes_that_take_a_place_at_once_one_has_it_and_no_request_is_lost() {
    let data = folder();
    let server = Server::start(data.path());
    let key = digits(&server);
    let client = KeepAlive::new(&server, &key);
    let others = [(); 2].map(|()| Mutex::new(begin_to_replace(data.path())));
    let (_, failures) = under_load(&client, |answered| {
        assert_eq!(server.wait().code(), Some(0));
        // The other one is refused, or takes the place in its turn.
        wait_until("one process", || {
            let ended = |other: &&Mutex<Child>| {
                let mut other = other.lock().expect("whole");
                other.try_wait().expect("a child").is_some()
            };
            others.iter().filter(ended).count() == 1
        });
        until_more_are_answered(answered);
    });
    assert_eq!(failures, Vec::<String>::new());
    let traffic = [
        "endpoint",
        "update",
        "--name",
        "iris",
        "--traffic",
        "blue=100",
    ];
    let changed = run(data.path(), &traffic);
    assert_eq!(changed.code, 0, "{}", changed.stderr);
    for other in others {
        let mut other = other.into_inner().expect("whole");
        drop(other.kill());
        drop(other.wait());
    }
}

#[test]
fn a_server_serves_on_without_changes_when_a_later_release_has_written_its_folder() {
    let data = folder();
    let server = Server::start(data.path());
    let key = digits(&server);
    // What the later release does: it asks for the place, migrates the store, and dies.
    let stream = UnixStream::connect(data.path().join("handover.sock")).expect("a server");
    let mut stream = BufReader::new(stream);
    let hello = "{\"Hello\":{\"pid\":1,\"version\":\"9.9.9\",\"more\":1}}\n";
    stream
        .get_mut()
        .write_all(hello.as_bytes())
        .expect("a word");
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    assert_eq!(line, "\"Sockets\"\n");
    let traffic = [
        "endpoint",
        "update",
        "--name",
        "iris",
        "--traffic",
        "blue=100",
    ];
    let (code, said) = server.fails(&traffic);
    assert_eq!(code, 9, "{said}");
    assert!(said.contains("the server is being replaced"), "{said}");
    assert!(said.contains("try again"), "{said}");
    // The file format says where SQLite keeps `user_version`: at byte 60, big-endian.
    let path = data.path().join("serin.db");
    let mut database = fs::read(&path).expect("a database");
    database[60..64].copy_from_slice(&1000_u32.to_be_bytes());
    fs::write(&path, database).expect("a database");
    drop(stream);
    wait_until("a server that knows", || {
        server
            .fails(&traffic)
            .1
            .contains("written by a later release")
    });
    assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_is_not_replaced_while_something_is_under_way_or_under_a_supervisor() {
    let data = folder();
    let server = Server::start(data.path());
    try_a_model_that_hangs(&server);
    let refused = run(data.path(), &["serve", "--replace"]);
    assert_eq!(refused.code, 8);
    let words = "the running server was not replaced: operation";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    assert_eq!(server.terminate(), Some(0));
    let data = folder();
    let supervised = Server::start_with(data.path(), &["--supervise"]);
    let refused = run(data.path(), &["serve", "--replace"]);
    assert_eq!(refused.code, 8);
    assert!(
        refused.stderr.contains("it has a supervisor"),
        "{}",
        refused.stderr
    );
    assert_eq!(supervised.terminate(), Some(0));
}

#[test]
fn where_no_server_runs_there_is_nothing_to_replace_and_one_starts() {
    let data = folder();
    let first = Server::start_with(data.path(), &["--replace"]);
    // A server that was killed leaves its socket behind.
    first.kill();
    let second = Server::start_with(data.path(), &["--replace"]);
    assert_eq!(second.terminate(), Some(0));
}

#[test]
fn a_socket_in_the_folder_opens_for_its_owner_alone_and_words_that_make_no_sense_do_no_harm() {
    let data = folder();
    let server = Server::start(data.path());
    let path = data.path().join("handover.sock");
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for words in ["", "\n", "{}\n", "\"Serving\"\n", "\"Go\"\n{\"Hello\":1}\n"] {
        let mut stream = UnixStream::connect(&path).expect("a server");
        stream.write_all(words.as_bytes()).expect("words");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("a socket");
        let mut said = String::new();
        // It may hang up on what it has not read.
        drop(stream.read_to_string(&mut said));
        assert_eq!(said, "");
    }
    let next = Server::start_with(data.path(), &["--replace"]);
    assert_eq!(server.wait().code(), Some(0));
    // The successor has one of its own, and nothing is left of it at the end.
    assert!(path.exists());
    assert_eq!(next.terminate(), Some(0));
    assert!(!path.exists());
}

#[test]
fn for_the_drain_delay_a_server_is_not_ready_and_loses_nothing() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--drain-delay", "3"]);
    let key = digits(&server);
    let mut client = KeepAlive::new(&server, &key);
    signal(&server, Signal::TERM);
    until_draining(&server);
    // New connections are served, and those that are open.
    let mut late = KeepAlive::new(&server, &key);
    let mut answered = 0;
    while late.ask().is_ok_and(|status| status == 200) && late.connection.is_some() {
        assert_eq!(client.ask().expect("an answer"), 200);
        answered += 1;
    }
    assert!(answered > 0);
    // The answer that was its connection's last is an answer, and the other connection has one more.
    assert_eq!(late.is_last, Some(true));
    if client.connection.is_some() {
        assert_eq!(client.ask().expect("an answer"), 200);
        assert!(client.connection.is_none());
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// Reads to the end of the connection, and finds that the request was cut.
fn assert_is_cut(client: &mut TcpStream) {
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains("the server is stopping"), "{answer}");
}

#[test]
fn a_second_signal_tells_whom_it_cuts() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--drain-delay", "3600"]);
    let key = deploy(&server, "models/test/slow.onnx", "");
    let mut clients: Vec<_> = (0..2)
        .map(|_| send_only(&server, &key, &slow_body()))
        .collect();
    wait_until("two requests", || held(&server) >= 2.0);
    signal(&server, Signal::TERM);
    until_draining(&server);
    signal(&server, Signal::TERM);
    for client in &mut clients {
        assert_is_cut(client);
    }
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn the_end_of_the_grace_period_tells_whom_it_cuts() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--grace", "0"]);
    let key = deploy(&server, "models/test/slow.onnx", "");
    let mut client = send_only(&server, &key, &slow_body());
    wait_until("a request", || held(&server) >= 1.0);
    signal(&server, Signal::TERM);
    assert_is_cut(&mut client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn systemd_hears_that_a_server_is_ready_lives_was_replaced_and_ends() {
    let data = folder();
    let path = data.path().join("notify");
    let notified = UnixDatagram::bind(&path).expect("a socket");
    let (told, words) = mpsc::channel();
    let listen = move || {
        let mut bytes = [0; 256];
        while let Ok(length) = notified.recv(&mut bytes) {
            let word = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if told.send(word).is_err() {
                break;
            }
        }
    };
    let listening = thread::Builder::new().name("systemd".to_owned());
    listening.spawn(listen).expect("a thread");
    let heard = |wanted: &str| {
        loop {
            let word = words.recv_timeout(PATIENCE).expect("a word");
            if word == wanted {
                return;
            }
            assert_eq!(word, "WATCHDOG=1", "while {wanted} was waited for");
        }
    };
    let started = |more: &[&str]| {
        let mut command = serin(data.path());
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "20000");
        Server::start_command_with(command, data.path(), more)
    };
    let first = started(&[]);
    heard("READY=1");
    heard("WATCHDOG=1");
    let second = started(&["--replace"]);
    heard("READY=1");
    heard(&format!("MAINPID={}", second.pid()));
    assert_eq!(first.wait().code(), Some(0));
    signal(&second, Signal::TERM);
    heard("STOPPING=1");
    assert_eq!(second.wait().code(), Some(0));
}

#[test]
fn a_systemd_that_hears_nothing_holds_nothing_up() {
    let data = folder();
    let path = data.path().join("notify");
    // Its queue has room for few words, and is full soon.
    let _deaf = UnixDatagram::bind(&path).expect("a socket");
    let mut command = serin(data.path());
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "4000");
    let server = Server::start_command(command, data.path());
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.set_nonblocking(true).expect("a socket");
    wait_until("a full queue", || sender.send_to(b"x", &path).is_err());
    server.ok(&["status"]);
    assert_eq!(server.terminate(), Some(0));
}

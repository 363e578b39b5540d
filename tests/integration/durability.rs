//! What was accepted outlives any end of the process.

use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hygiene::wait_until;
use crate::scoring::{deploy, held, send_only};
use crate::support::{Server, agent, deployment, folder, model, repository, run};

/// How often the server is killed; `SERIN_TEST_KILLS` asks for more.
const KILLS: u64 = 12;

/// Posts a change to the administration and does not wait for its operation. `None`: the server went away.
fn submit(server: &Server, change: &Value) -> Option<u16> {
    agent()
        .post(format!("{}/v1/changes", server.admin))
        .header("authorization", format!("Bearer {}", server.token))
        .send_json(json!({"change": change, "by": "durability test"}))
        .ok()
        .map(|answer| answer.status().as_u16())
}

/// The n-th change of the script; each leaves a state that no other of its neighbours leaves.
fn change(n: u64) -> Value {
    match n % 3 {
        0 => {
            json!({"kind": "update_endpoint", "name": "iris", "update": {"traffic": {"blue": 100 - n % 50, "green": n % 50}}})
        }
        1 => {
            json!({"kind": "update_endpoint", "name": "iris", "update": {"set": [{"path": "tags.step", "value": n.to_string()}]}})
        }
        _ => {
            json!({"kind": "update_deployment", "endpoint": "iris", "name": "blue", "update": {"instance_count": 1 + n % 4}})
        }
    }
}

/// The state that the first `n` changes of the script leave.
fn state_after(n: u64) -> (Value, Value, Value) {
    let last = |kind: u64| (0..n).rev().find(|step| step % 3 == kind);
    let traffic = last(0).map_or(
        json!({"blue": 100, "green": 0}),
        |step| json!({"blue": 100 - step % 50, "green": step % 50}),
    );
    let tag = last(1).map_or(Value::Null, |step| json!(step.to_string()));
    let count = last(2).map_or(json!(1), |step| json!(1 + step % 4));
    (traffic, tag, count)
}

fn state(server: &Server) -> (Value, Value, Value) {
    let endpoint = server.ok(&["endpoint", "show", "--name", "iris"]);
    let blue = server.ok(&[
        "online-deployment",
        "show",
        "--name",
        "blue",
        "--endpoint-name",
        "iris",
    ]);
    let tag = match &endpoint["tags"]["step"] {
        Value::Number(number) => json!(number.to_string()),
        other => other.clone(),
    };
    (
        endpoint["traffic"].clone(),
        tag,
        blue["instance_count"].clone(),
    )
}

fn two_deployments(server: &Server) {
    server.create_endpoint("iris");
    for (name, version) in [("blue", 1), ("green", 2)] {
        let model = model(&format!("models/digits/{version}/model.onnx"));
        server
            .create_deployment(name, &model, "instance_count: 1\n")
            .ok();
    }
    server.update("iris", &["--traffic", "blue=100 green=0"]);
}

#[test]
fn kill_at_any_moment_leaves_the_last_accepted_state_or_the_one_in_flight() {
    let data = folder();
    let server = Server::start(data.path());
    two_deployments(&server);
    let key = server.key("iris");
    let body = std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request");
    server.kill();

    let kills = std::env::var("SERIN_TEST_KILLS")
        .map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let mut accepted = 0_u64;
    let mut slowest = Duration::ZERO;
    // A fixed sequence (Knuth's generator): the moments differ, the runs can be compared.
    let mut random = 0x5eed_u64;
    for kill in 0..kills {
        let started = Instant::now();
        let server = Server::start(data.path());
        let answer = server.score("iris", &key, None, &body);
        assert_eq!(answer.status, 200, "after kill {kill}: {}", answer.body);
        slowest = slowest.max(started.elapsed());

        // The one in flight at the kill may or may not have been accepted.
        let found = state(&server);
        if found == state_after(accepted + 1) {
            accepted += 1;
        }
        assert_eq!(
            found,
            state_after(accepted),
            "after kill {kill}, with {accepted} changes accepted"
        );

        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let moment = Duration::from_micros(random >> 33).as_micros() % 60_000;
        let pid = server.pid();
        let killer = std::thread::Builder::new()
            .name("killer".to_owned())
            .spawn(move || {
                // Not a wait for something: the moment of the kill is the test's input.
                std::thread::sleep(Duration::from_micros(
                    u64::try_from(moment).expect("below 60,000"),
                ));
                let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process id"))
                    .expect("a process id");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                    .expect("the server runs");
            })
            .expect("a thread");
        while let Some(status) = submit(&server, &change(accepted)) {
            assert_eq!(status, 202, "change {accepted}");
            accepted += 1;
        }
        killer.join().expect("the killer ends");
    }
    assert!(accepted > 0, "no change was accepted between {kills} kills");
    println!(
        "{kills} kills, {accepted} changes accepted, slowest restart to first answer {slowest:?}"
    );
}

#[test]
fn terminate_finishes_what_is_in_flight_and_exits_with_0() {
    // Also where another process computes it.
    for isolation in ["thread", "process"] {
        finishes_what_is_in_flight(isolation);
    }
}

fn finishes_what_is_in_flight(isolation: &str) {
    let data = folder();
    // Far longer than the run takes on any machine.
    let server = Server::start_with(data.path(), &["--grace", "60"]);
    let settings =
        format!("request_settings: {{request_timeout_ms: 60000, isolation: {isolation}}}\n");
    let key = deploy(&server, "models/test/slow.onnx", &settings);
    // Seconds of work, so that it is under way still when the server is told to end.
    let mut client = send_only(&server, &key, r#"{"data": [10000]}"#);
    wait_until("a request in hand", || held(&server) >= 1.0);
    client.set_nonblocking(true).expect("a socket");
    let early = client.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock), "it is in flight");
    client.set_nonblocking(false).expect("a socket");
    assert_eq!(server.terminate(), Some(0));
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\n\r\n{\"sum\":"), "{answer}");
    assert!(
        !data.path().join("server.json").exists(),
        "a server that ended is not announced"
    );
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let data = folder();
    let server = Server::start(data.path());
    let second = run(data.path(), &["serve", "--port", "0", "--admin-port", "0"]);
    assert_ne!(second.code, 0);
    assert!(
        second.stderr.contains("is in use by another server"),
        "{}",
        second.stderr
    );
    assert!(
        second.stderr.contains(&server.pid().to_string()),
        "{}",
        second.stderr
    );
}

#[test]
fn a_damaged_database_is_refused_in_words() {
    for damage in [
        "no database at all".repeat(1000),
        "SQLite format 3\0".repeat(1000),
    ] {
        let data = folder();
        let server = Server::start(data.path());
        two_deployments(&server);
        assert_eq!(server.terminate(), Some(0));
        std::fs::write(data.path().join("serin.db"), damage).expect("a file");
        let finished = run(data.path(), &["serve", "--port", "0"]);
        assert_ne!(finished.code, 0);
        assert!(
            finished
                .stderr
                .contains("serin.db in the data folder is damaged"),
            "{}",
            finished.stderr
        );
    }
}

#[test]
fn a_deployment_outlives_its_model_file_and_a_move_of_the_data_folder() {
    let models = folder();
    let model = models.path().join("model.onnx");
    std::fs::copy(repository("models/digits/1/model.onnx"), &model).expect("a copy");
    let before = folder();
    let server = Server::start(before.path());
    server.create_endpoint("iris");
    let blue = deployment("blue", model.to_str().expect("UTF-8"), "");
    server
        .run_with(&["online-deployment", "create", "--all-traffic"], &blue)
        .ok();
    let key = server.key("iris");
    assert_eq!(server.terminate(), Some(0));
    drop(models);
    let elsewhere = folder();
    let data = elsewhere.path().join("moved");
    std::fs::rename(before.path(), &data).expect("the same file system");
    let server = Server::start(&data);
    let body = std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request");
    assert_eq!(server.score("iris", &key, None, &body).status, 200);
}

#[test]
fn a_busy_port_is_named_with_the_flag_that_changes_it() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = busy.local_addr().expect("bound").port().to_string();
    let finished = run(
        folder().path(),
        &["serve", "--port", &port, "--admin-port", "0"],
    );
    assert_ne!(finished.code, 0);
    assert!(
        finished
            .stderr
            .contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.contains("--port"), "{}", finished.stderr);
}

#[test]
fn a_change_that_the_disk_has_no_room_for_is_refused_and_the_server_serves_on() {
    let data = folder();
    let server = Server::start(data.path());
    two_deployments(&server);
    let before = state(&server);
    // No file of the server may grow from now on: writes fail as on a full disk.
    let limited = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string(), "--fsize=1:"])
        .status()
        .expect("prlimit of util-linux");
    assert!(limited.success());
    let (code, error) = server.fails(&[
        "endpoint",
        "update",
        "--name",
        "iris",
        "--traffic",
        "blue=50 green=50",
    ]);
    assert!(
        error.contains("nothing was changed"),
        "exit {code}: {error}"
    );
    assert_eq!(state(&server), before);
    let key = server.key("iris");
    let body = std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request");
    assert_eq!(server.score("iris", &key, None, &body).status, 200);
    // Room again: the same change goes through.
    let lifted = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string(), "--fsize=unlimited:"])
        .status()
        .expect("prlimit of util-linux");
    assert!(lifted.success());
    server.update("iris", &["--traffic", "blue=50 green=50"]);
}

#[test]
fn a_data_folder_without_write_permission_is_refused() {
    // The super-user may write anywhere, so the folder is one where nobody may: a file stands in its place.
    let folder = folder();
    let blocked = folder.path().join("blocked");
    std::fs::write(&blocked, "not a folder").expect("a file");
    let finished = run(&blocked, &["serve", "--port", "0", "--admin-port", "0"]);
    assert_ne!(finished.code, 0);
    assert!(
        finished.stderr.contains(&blocked.display().to_string()),
        "{}",
        finished.stderr
    );
}

#[test]
fn the_binary_alone_in_an_empty_folder_serves() {
    let folder = folder();
    let alone = folder.path().join("serin");
    std::fs::copy(env!("CARGO_BIN_EXE_serin"), &alone).expect("room for a copy");
    let model = folder.path().join("digits.onnx");
    std::fs::copy(repository("models/digits/1/model.onnx"), &model).expect("room for a copy");
    let report = Command::new(&alone)
        .arg("--version")
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .output()
        .expect("the copy starts");
    assert!(report.status.success());
    let data = folder.path().join("data");
    let server = Server::start_command(isolated(&alone, folder.path(), &data), &data);
    server.create_endpoint("iris");
    let blue = deployment("blue", model.to_str().expect("UTF-8"), "");
    server
        .run_with(&["online-deployment", "create", "--all-traffic"], &blue)
        .ok();
    let key = server.key("iris");
    let body = std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request");
    assert_eq!(server.score("iris", &key, None, &body).status, 200);
    assert!(
        folder.path().join(".cache/serin").is_dir(),
        "ONNX Runtime was unpacked to the cache of this home"
    );
}

fn isolated(binary: &Path, home: &Path, data: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("HOME", home)
        .env("SERIN_DATA", data)
        .current_dir(home);
    command
}

//! Models that misbehave harm nobody else: a lane in a process ends alone.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Answer, Server, folder, model};
use crate::traffic::Traffic;

/// Ends the process that computes it: the least of all whole numbers by -1.
const FATAL: &str = "{\"data\": {\"a\": [-9223372036854775808], \"b\": [-1]}}";
const HARMLESS: &str = "{\"data\": {\"a\": [6], \"b\": [3]}}";

/// `iris`, which serves digits, and `trap`, whose model can end its process.
fn server(data: &Path, settings: &str) -> Server {
    deployed(Server::start(data), settings)
}

fn deployed(server: Server, settings: &str) -> Server {
    server.register("digits", "1", "models/digits/1").ok();
    server.create_endpoint("iris");
    server
        .run_with(
            &["online-deployment", "create", "--all-traffic"],
            &crate::support::deployment("blue", "azureml:digits:1", ""),
        )
        .ok();
    deploy(&server, "models/test/divide.onnx", settings);
    server
}

/// Deploys a model as the only one of `trap`.
fn deploy(server: &Server, path: &str, settings: &str) {
    server.create_endpoint("trap");
    let text = format!(
        "name: red\nendpoint_name: trap\nmodel: {}\ninstance_type: Standard_F2s_v2\n\
         request_settings: {{max_concurrent_requests_per_instance: 2{settings}}}\n",
        model(path)
    );
    server
        .run_with(&["online-deployment", "create", "--all-traffic"], &text)
        .ok();
}

fn shown(server: &Server) -> Value {
    server.ok(&[
        "deployment",
        "show",
        "--detail",
        "--endpoint-name",
        "trap",
        "--name",
        "red",
    ])
}

fn sample() -> String {
    std::fs::read_to_string(model("models/digits/1/sample-request.json")).expect("a sample")
}

fn score(server: &Server, key: &str, body: &str) -> Answer {
    server.score("trap", key, None, body)
}

#[test]
fn a_model_that_ends_its_process_harms_no_other_deployment() {
    let data = folder();
    let server = server(data.path(), "");
    let key = server.key("trap");
    let traffic = Traffic::start(&server, "iris", &sample(), 2);
    traffic.passes(20);
    for _ in 0..5 {
        let answer = score(&server, &key, FATAL);
        assert_eq!(answer.status, 424, "{}", answer.body);
        let message = answer.message();
        assert!(message.contains("signal 8, SIGFPE"), "{message}");
        let answer = score(&server, &key, HARMLESS);
        assert_eq!(answer.json(), json!({"quotient": [2]}));
        traffic.passes(20);
    }
    let (_, failures) = traffic.stop();
    assert!(failures.is_empty(), "{failures:?}");
    // The server looks after its instances now and then.
    let notes = loop {
        let shown = shown(&server);
        assert_eq!(shown["provisioning_state"], "Succeeded");
        if shown["notes"].to_string().contains("degraded") {
            break shown["notes"].to_string();
        }
    };
    assert!(notes.contains("SIGFPE"), "{notes}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn whatever_ends_the_process_of_a_lane_another_one_serves() {
    let data = folder();
    let server = server(data.path(), ", lanes: 1");
    let key = server.key("trap");
    let traffic = Traffic::start(&server, "iris", &sample(), 2);
    let shown = shown(&server);
    let mut process = shown["placements"][0]["threads"][1]["tid"].as_i64();
    for signal in [Signal::KILL, Signal::SEGV, Signal::ABORT] {
        let running = i32::try_from(process.take().unwrap_or_else(|| lane_of(&server)));
        let pid = Pid::from_raw(running.expect("a number")).expect("a process");
        kill_process(pid, signal).expect("it runs");
        // The request that meets its end may fail; the next one does not.
        score(&server, &key, HARMLESS);
        let answer = score(&server, &key, HARMLESS);
        assert_eq!(answer.json(), json!({"quotient": [2]}), "{signal:?}");
        traffic.passes(20);
    }
    let (_, failures) = traffic.stop();
    assert!(failures.is_empty(), "{failures:?}");
}

/// Descriptors, threads and children of the server, those that have ended among them.
fn held_by(server: &Server) -> [usize; 3] {
    let folder = |name: &str| format!("/proc/{}/{name}", server.pid());
    let entries = |name| std::fs::read_dir(folder(name)).expect("the server runs");
    let children = entries("task").flatten().map(|task| {
        let text = std::fs::read_to_string(task.path().join("children"));
        text.unwrap_or_default().split_whitespace().count()
    });
    [
        entries("fd").count(),
        entries("task").count(),
        children.sum(),
    ]
}

#[test]
fn processes_that_ended_leave_nothing_behind() {
    let data = folder();
    let server = server(data.path(), ", lanes: 1");
    let key = server.key("trap");
    let die = |times| {
        for _ in 0..times {
            assert_eq!(score(&server, &key, FATAL).status, 424);
            let answer = score(&server, &key, HARMLESS);
            assert_eq!(answer.json(), json!({"quotient": [2]}));
        }
    };
    die(2);
    let before = held_by(&server);
    die(25);
    // What waits for the end of a process ends a moment after it.
    while held_by(&server)
        .iter()
        .zip(before)
        .any(|(now, before)| *now > before)
    {
        std::thread::yield_now();
    }
    assert_eq!(server.terminate(), Some(0));
}

/// The child of the server that computes for a lane now.
fn lane_of(server: &Server) -> i64 {
    let children = format!("/proc/{0}/task", server.pid());
    let threads = std::fs::read_dir(children).expect("the server runs");
    let mut found: Vec<i64> = Vec::new();
    for thread in threads {
        let path = thread.expect("a thread").path().join("children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<i64>().ok()),
        );
    }
    found
        .into_iter()
        .find(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.contains("__lane"))
        })
        .expect("the process of a lane")
}

/// The system ends a service by a signal to all of its processes: they must not end before their requests.
#[test]
fn the_process_of_a_lane_does_not_end_before_its_server_does() {
    let data = folder();
    let server = server(data.path(), ", lanes: 1");
    let key = server.key("trap");
    let lane = lane_of(&server);
    let pid = Pid::from_raw(i32::try_from(lane).expect("a number")).expect("a process");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(pid, signal).expect("it runs");
        let answer = score(&server, &key, HARMLESS);
        assert_eq!(answer.json(), json!({"quotient": [2]}));
    }
    assert_eq!(lane_of(&server), lane);
    server.kill();
    while Path::new(&format!("/proc/{lane}")).exists() {
        std::thread::yield_now();
    }
}

/// An upgrade puts another file in the place of the binary; both sides of a lane must be of one version.
#[test]
fn lanes_are_of_the_binary_that_the_server_was_started_from() {
    let (data, folder) = (folder(), folder());
    let binary = folder.path().join("serin");
    std::fs::copy(env!("CARGO_BIN_EXE_serin"), &binary).expect("copied");
    let mut command = std::process::Command::new(&binary);
    command
        .env("SERIN_DATA", data.path())
        .env_remove("ORT_DISABLE_TELEMETRY");
    let server = deployed(Server::start_command(command, data.path()), "");
    let key = server.key("trap");
    std::fs::remove_file(&binary).expect("removed");
    std::fs::copy("/bin/false", &binary).expect("copied");
    assert_eq!(score(&server, &key, FATAL).status, 424);
    let answer = score(&server, &key, HARMLESS);
    assert_eq!(answer.json(), json!({"quotient": [2]}));
}

#[test]
fn show_says_where_lanes_compute_and_why() {
    let data = folder();
    let server = server(data.path(), "");
    let shown = shown(&server);
    let placement = &shown["placements"][0];
    assert_eq!(placement["isolation"], "process");
    let reason = placement["isolation_reason"].as_str().expect("a reason");
    assert!(reason.contains("Div"), "{reason}");
    let digits = server.ok(&["deployment", "show", "--detail", "-e", "iris", "-n", "blue"]);
    assert_eq!(digits["placements"][0]["isolation"], "thread");
    let (code, message) = server.fails(&[
        "deployment",
        "update",
        "-e",
        "trap",
        "-n",
        "red",
        "--set",
        "request_settings.isolation=container",
    ]);
    assert_ne!(code, 0);
    assert!(message.contains("auto"), "{message}");
}

//! Rules do not wait for instances: a rollback and a new key are in force while something else starts, fails or drains.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::support::{Answer, PATIENCE, Server, agent, deployment, folder, model};
use crate::traffic::Traffic;

/// A folder with the slow model, and a sample request of so many steps of about a millisecond.
fn slow_model(folder: &Path, steps: u32) -> String {
    std::fs::copy(model("models/test/slow.onnx"), folder.join("model.onnx")).expect("copied");
    let sample = format!("{{\"data\": [{steps}]}}");
    std::fs::write(folder.join("sample-request.json"), sample).expect("written");
    folder.to_str().expect("UTF-8").to_owned()
}

fn sample() -> String {
    std::fs::read_to_string(model("models/digits/1/sample-request.json")).expect("a sample")
}

/// `iris` with blue at 90 % and green at 10 %, and the slow model registered.
fn server(data: &Path) -> Server {
    let server = Server::start(data);
    server.register("one", "1", "models/digits/1").ok();
    server.register("two", "1", "models/digits/2").ok();
    let slow = folder();
    let path = slow_model(slow.path(), 100_000_000);
    server.ok(&[
        "model",
        "create",
        "--name",
        "slow",
        "--version",
        "1",
        "--path",
        &path,
    ]);
    server.create_endpoint("iris");
    server.create_deployment("blue", "azureml:one:1", "").ok();
    server.create_deployment("green", "azureml:two:1", "").ok();
    server.update("iris", &["--traffic", "blue:90,green:10"]);
    server
}

/// Begins to start the slow model as `name`, and does not wait.
fn begin_slow(server: &Server, name: &str) {
    let text = deployment(name, "azureml:slow:1", "");
    server
        .run_with(&["online-deployment", "create", "--no-wait"], &text)
        .ok();
}

/// A rollback and a new key are in force when their commands return, under load, and nothing fails.
fn rules_move(server: &Server) {
    server.update("iris", &["--traffic", "blue:90,green:10"]);
    let traffic = Traffic::start(server, "iris", &sample(), 2);
    traffic.passes(50);
    server.update("iris", &["--traffic", "blue:100,green:0"]);
    // Those under way when the command returned may still be green's.
    traffic.passes(10);
    let before = traffic.answered_by("green");
    traffic.passes(100);
    assert_eq!(
        traffic.answered_by("green"),
        before,
        "the rollback is in force"
    );
    let (_, failures) = traffic.stop();
    assert!(failures.is_empty(), "{failures:?}");

    let old = server.key("iris");
    server.ok(&[
        "endpoint",
        "regenerate-keys",
        "--name",
        "iris",
        "--key-type",
        "primary",
    ]);
    let answer = server.score("iris", &old, None, &sample());
    assert_eq!(answer.status, 401, "{}", answer.body);
}

#[test]
fn a_rollback_and_a_new_key_are_in_force_while_another_deployment_starts() {
    let data = folder();
    let server = server(data.path());
    begin_slow(&server, "red");
    rules_move(&server);
    let red = server.ok(&[
        "deployment",
        "show",
        "--name",
        "red",
        "--endpoint-name",
        "iris",
    ]);
    assert_eq!(red["provisioning_state"], "Creating", "it still starts");
}

/// Child processes of a server.
fn children(server: &Server) -> usize {
    let all = std::fs::read_dir("/proc").expect("the processes");
    let stats = all.filter_map(|entry| {
        let stat = entry.ok()?.path().join("stat");
        std::fs::read_to_string(stat).ok()
    });
    let parent = server.pid().to_string();
    // `pid (name) state parent ..`; the name may hold anything.
    let of_server = |stat: &String| {
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(parent.as_str())
    };
    stats.filter(of_server).count()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE / 2, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn the_trial_of_a_model_ends_when_nobody_waits_for_it_any_more() {
    let data = folder();
    let server = server(data.path());
    begin_slow(&server, "red");
    eventually("the model is being tried", || children(&server) == 1);
    // The trial alone would take longer than that.
    let delete = ["deployment", "delete", "--name", "red", "--yes"];
    server.ok(&[&delete[..], &["--endpoint-name", "iris"]].concat());
    eventually("the trial has ended", || children(&server) == 0);
    // And it is tried anew where somebody wants it again.
    begin_slow(&server, "red");
    eventually("the model is being tried again", || children(&server) == 1);
}

#[test]
fn a_rollback_is_in_force_while_the_deployment_itself_rolls() {
    let data = folder();
    let server = server(data.path());
    let text = deployment("green", "azureml:slow:1", "");
    server
        .run_with(
            &[
                "online-deployment",
                "update",
                "--no-wait",
                "--name",
                "green",
            ],
            &text,
        )
        .ok();
    rules_move(&server);
}

#[test]
fn a_rollback_is_in_force_while_another_deployment_drains() {
    let data = folder();
    let server = server(data.path());
    let quick = folder();
    let path = slow_model(quick.path(), 1);
    let settings = "request_settings: {request_timeout_ms: 60000}\n";
    server.create_deployment("red", &path, settings).ok();
    let key = server.key("iris");
    std::thread::scope(|scope| {
        let (server, key) = (&server, &key);
        let long = scope.spawn(move || {
            // About eight seconds on one core.
            server
                .score("iris", key, Some("red"), r#"{"data": [8000]}"#)
                .status
        });
        in_flight(server, "red");
        let delete = [
            "deployment",
            "delete",
            "--name",
            "red",
            "--yes",
            "--no-wait",
        ];
        server.ok(&[&delete[..], &["--endpoint-name", "iris"]].concat());
        let notes = server.ok(&["endpoint", "show", "iris", "--detail"])["notes"].to_string();
        assert!(
            notes.contains("deployment red is deleted and drains"),
            "{notes}"
        );
        rules_move(server);
        assert!(!long.is_finished(), "it drains still");
        assert_eq!(long.join().expect("no panic"), 200);
    });
}

/// Waits until a deployment has a request in flight.
fn in_flight(server: &Server, deployment: &str) {
    let begun = Instant::now();
    let series =
        format!("serin_requests_in_flight{{endpoint=\"iris\",deployment=\"{deployment}\"}} 1");
    loop {
        let metrics = agent().get(format!("{}/metrics", server.admin)).call();
        if Answer::read(metrics.expect("an answer"))
            .body
            .contains(&series)
        {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "a request is in flight");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_rollback_is_in_force_when_instances_of_another_deployment_cannot_start() {
    let data = folder();
    let server = server(data.path());
    let broken = folder();
    let file = broken.path().join("broken.onnx");
    std::fs::write(&file, "no model").expect("written");
    let text = deployment("red", file.to_str().expect("UTF-8"), "");
    let refused = server.run_with(&["online-deployment", "create"], &text);
    refused.error();
    rules_move(&server);
}

/// Overwrites the stored copies of a model with what is no model.
fn damage(server: &Server, data: &Path, name: &str) {
    let versions = server.ok(&["model", "show", "--name", name, "--version", "1"]);
    let digest = versions["digest"].as_str().expect("a digest");
    let file = data.join("models/sha256").join(digest).join("model.onnx");
    std::fs::write(file, "no model").expect("overwritten");
}

fn health(server: &Server) -> Answer {
    let response = agent()
        .get(format!("{}/health/ready", server.scoring))
        .header("authorization", format!("Bearer {}", server.key("iris")))
        .call();
    Answer::read(response.expect("an answer"))
}

#[test]
fn a_deployment_that_does_not_come_back_is_named_and_takes_nobody_with_it() {
    let data = folder();
    let server = server(data.path());
    server.update("iris", &["--traffic", "blue:99,green:1"]);
    assert_eq!(health(&server).json(), json!({"ready": true}));
    damage(&server, data.path(), "two");
    server.terminate();

    let server = Server::start(data.path());
    let key = server.key("iris");
    assert_eq!(
        server.score("iris", &key, Some("blue"), &sample()).status,
        200
    );
    let health = health(&server);
    let short = json!([{"endpoint": "iris", "deployment": "green", "traffic": 1}]);
    assert_eq!((health.status, &health.json()["short"]), (200, &short));
    assert_eq!(server.ok(&["status"])["short"], short);
    // The way out is open: nothing waits for green.
    server.update("iris", &["--traffic", "blue:100,green:0"]);
    let green = server.ok(&[
        "deployment",
        "show",
        "--name",
        "green",
        "--endpoint-name",
        "iris",
    ]);
    assert_eq!(green["provisioning_state"], "Failed");
}

#[test]
fn a_model_that_hangs_at_a_restart_holds_nobody_up() {
    let data = folder();
    let server = server(data.path());
    // The server ends while red, whose sample takes for ever, is tried, and tries it again when it starts.
    let slow = folder();
    let text = deployment("red", &slow_model(slow.path(), 100_000_000), "");
    server
        .run_with(&["online-deployment", "create", "--no-wait"], &text)
        .ok();
    server.terminate();

    let begun = Instant::now();
    let server = Server::start(data.path());
    let key = server.key("iris");
    for name in ["blue", "green"] {
        assert_eq!(
            server.score("iris", &key, Some(name), &sample()).status,
            200
        );
    }
    assert!(begun.elapsed() < PATIENCE);
    let red = server.ok(&[
        "deployment",
        "show",
        "--name",
        "red",
        "--endpoint-name",
        "iris",
    ]);
    assert_eq!(red["provisioning_state"], "Creating");
    rules_move(&server);
}

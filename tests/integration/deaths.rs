//! What kills the server is known to the next one.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::hygiene::wait_until;
use crate::scoring::{deploy, held, send_only, slow_body};
use crate::support::{Server, deployment, folder, model};

/// Division of the smallest integer by -1.
pub(crate) const FATAL: &str = r#"{"data": {"a": [-9223372036854775808], "b": [-1]}}"#;

/// The model may end the process of the server: without this it would be in one of its own.
pub(crate) const ON_A_THREAD: &str = "request_settings: {isolation: thread}\n";

/// Lines of the journal about deaths, oldest first.
pub(crate) fn deaths(server: &Server) -> Vec<Value> {
    let journal = server.ok(&["journal"]);
    let lines = journal.as_array().expect("a list").iter();
    let deaths = lines.filter(|line| line["change"]["kind"] == "server_died");
    deaths.cloned().collect()
}

/// The notes of a deployment of `iris`, as one text.
fn notes(server: &Server, name: &str) -> String {
    let show = [
        "online-deployment",
        "show",
        "--detail",
        "--endpoint-name",
        "iris",
    ];
    server.ok(&[&show[..], &["--name", name]].concat())["notes"].to_string()
}

/// Sends the server a signal and waits for its end by it.
fn end_by(server: Server, signal: Signal) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("the server runs");
    assert_eq!(server.wait().signal(), Some(signal.as_raw()));
}

#[test]
fn a_model_that_kills_the_server_is_named_by_the_next_start_and_isolated_until_it_is_replaced() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    server
        .register("divide", "2", "models/test/divide.onnx")
        .ok();
    server
        .create_deployment("green", "azureml:divide:2", ON_A_THREAD)
        .ok();
    server.update("iris", &["--traffic", "blue=0 green=100"]);
    let fine = server.score("iris", &key, None, r#"{"data": {"a": [6], "b": [3]}}"#);
    assert_eq!((fine.status, fine.json()), (200, json!({"quotient": [2]})));
    let _client = send_only(&server, &key, FATAL);
    assert_eq!(server.wait().signal(), Some(Signal::FPE.as_raw()));

    // Also at the second restart.
    for _ in 0..2 {
        let server = Server::start(data.path());
        let deaths = deaths(&server);
        let words = "killed by SIGFPE while deployment iris/green ran model divide:2";
        assert_eq!(deaths.len(), 1, "{deaths:?}");
        assert_eq!(deaths[0]["why"], words);
        assert_eq!(deaths[0]["change"]["signal"], "SIGFPE");
        assert_eq!(deaths[0]["change"]["isolated"], json!(["iris/green"]));
        let green = notes(&server, "green");
        assert!(
            green.contains("isolated") && green.contains(words),
            "{green}"
        );
        assert!(!notes(&server, "blue").contains("isolated"));
        assert_eq!(server.terminate(), Some(0));
    }

    let server = Server::start(data.path());
    let other = deployment("green", &model("models/digits/2/model.onnx"), "");
    server
        .run_with(&["online-deployment", "update"], &other)
        .ok();
    assert!(!notes(&server, "green").contains("isolated"));
}

#[test]
fn a_server_that_is_killed_says_what_ran_and_blames_nobody() {
    for (signal, words) in [
        (
            Signal::KILL,
            "ended without a word (SIGKILL, as when memory runs out)".to_owned(),
        ),
        (
            Signal::FPE,
            format!("ended by SIGFPE from process {}", std::process::id()),
        ),
    ] {
        let data = folder();
        let server = Server::start(data.path());
        let settings = "request_settings: {request_timeout_ms: 60000}\n";
        let key = deploy(&server, "models/test/slow.onnx", settings);
        let client = send_only(&server, &key, &slow_body());
        wait_until("a request in hand", || held(&server) >= 1.0);
        end_by(server, signal);
        drop(client);
        let server = Server::start(data.path());
        let deaths = deaths(&server);
        let why = deaths[0]["why"].as_str().expect("a sentence");
        assert_eq!(deaths.len(), 1, "{deaths:?}");
        assert!(why.starts_with(&words), "{why}");
        assert_eq!(deaths[0]["change"]["isolated"], json!([]));
        assert!(!notes(&server, "blue").contains("isolated"));
    }
}

#[test]
fn a_server_that_ends_in_good_order_or_at_once_because_it_is_told_to_leaves_no_word() {
    let data = folder();
    assert_eq!(Server::start(data.path()).terminate(), Some(0));
    let server = Server::start_with(data.path(), &["--grace", "60"]);
    let settings = "request_settings: {request_timeout_ms: 60000}\n";
    let key = deploy(&server, "models/test/slow.onnx", settings);
    let _client = send_only(&server, &key, &slow_body());
    wait_until("a request in hand", || held(&server) >= 1.0);
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process id");
    // The second signal means at once. Signals that come together count as one, so it is sent until it is heard.
    let code = server.wait_while(|| {
        let _ended = kill_process(pid, Signal::TERM);
    });
    assert_eq!(code.code(), Some(130));
    assert_eq!(deaths(&Server::start(data.path())), Vec::<Value>::new());
}

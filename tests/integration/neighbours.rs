//! Servers beside each other on one machine: each keeps to cores that no other has, or leaves it to the kernel and says so.

use std::path::Path;

use serde_json::Value;

use crate::support::{Server, folder, locks, model, serin};

/// A server that knows the neighbours of the data folder `first`.
fn neighbour(data: &Path, first: &Path, arguments: &[&str]) -> Server {
    let mut command = serin(data);
    command.env("SERIN_LOCKS", locks(first));
    command.args(["serve", "--port", "0", "--admin-port", "0", "--skus"]);
    command
        .arg(model("tests/fixtures/all-cores.yml"))
        .args(arguments);
    Server::start_prepared(command, data)
}

/// Deploys a model on every core of the machine; its placement.
fn placed(server: &Server, name: &str, more: &str) -> Value {
    let text = format!(
        "name: {name}\nendpoint_name: iris\nmodel: {}\ninstance_type: all\n\
         request_settings: {{max_concurrent_requests_per_instance: 2{more}}}\n",
        model("models/digits/1/model.onnx")
    );
    server
        .run_with(&["online-deployment", "create"], &text)
        .ok();
    let shown = server.ok(&["deployment", "show", "--detail", "-e", "iris", "-n", name]);
    let placement = shown["placements"][0].clone();
    assert_eq!(placement["verified"], true, "{shown:#}");
    let notes = shown["notes"].as_array().expect("notes");
    let noted = notes.contains(&placement["pinning"]);
    assert_eq!(noted, placement["pinned"] == false, "{shown:#}");
    placement
}

fn words(placement: &Value) -> &str {
    placement["pinning"].as_str().expect("words")
}

#[test]
fn two_servers_do_not_pin_to_the_same_cores_and_show_says_why() {
    let (first, second) = (folder(), folder());
    let (first, second) = (first.path(), second.path());
    let one = neighbour(first, first, &[]);
    one.create_endpoint("iris");
    // A process of its own for each lane: none of them keeps a core when the server has gone.
    let has = placed(&one, "blue", ", isolation: process");
    assert_eq!(has["pinned"], true, "{has:#}");
    assert!(words(&has).starts_with("pinned to core"), "{has:#}");

    let other = neighbour(second, first, &[]);
    other.create_endpoint("iris");
    for (name, isolation) in [("threads", ""), ("processes", ", isolation: process")] {
        let has = placed(&other, name, isolation);
        let end = format!("held by serin with pid {}", one.pid());
        assert!(words(&has).starts_with("not pinned: core"), "{has:#}");
        assert!(words(&has).ends_with(&end), "{has:#}");
    }

    one.kill();
    let has = placed(&other, "green", "");
    assert_eq!(
        has["pinned"], true,
        "the lock goes with its server: {has:#}"
    );
}

#[test]
fn a_server_that_starts_again_has_its_cores_again() {
    let data = folder();
    let server = neighbour(data.path(), data.path(), &[]);
    server.create_endpoint("iris");
    assert_eq!(placed(&server, "blue", "")["pinned"], true);
    server.kill();
    let server = neighbour(data.path(), data.path(), &[]);
    let shown = server.ok(&["deployment", "show", "--detail", "-e", "iris", "-n", "blue"]);
    assert_eq!(shown["placements"][0]["pinned"], true, "{shown:#}");
}

#[test]
fn pinning_is_as_it_was_asked_for() {
    let (first, second) = (folder(), folder());
    let (first, second) = (first.path(), second.path());
    let one = neighbour(first, first, &["--pin", "off"]);
    one.create_endpoint("iris");
    let has = placed(&one, "blue", "");
    assert_eq!(words(&has), "not pinned: as asked (pin off)");
    // Who floats has no core that others could not have.
    let other = neighbour(second, first, &["--pin", "on"]);
    other.create_endpoint("iris");
    let has = placed(&other, "blue", "");
    assert!(
        words(&has).starts_with("pinned to core") && !words(&has).contains("held"),
        "{has:#}"
    );
}

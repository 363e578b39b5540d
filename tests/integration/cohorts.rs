//! Clients that stay with their deployment: over a ramp, over a restart, and by no other rule than theirs.

use std::collections::BTreeSet;

use crate::scoring::metrics;
use crate::support::{Answer, Server, agent, folder, model};

const USERS: usize = 200;

/// Endpoint `iris` with two versions, blue with all traffic.
fn server(data: &std::path::Path) -> Server {
    let server = Server::start(data);
    server.create_endpoint("iris");
    for (name, version) in [("blue", "1"), ("green", "2")] {
        let model = model(&format!("models/digits/{version}/model.onnx"));
        server.create_deployment(name, &model, "").ok();
    }
    server.update("iris", &["--traffic", "blue:100"]);
    server
}

fn ask(server: &Server, key: &str, more: &[(&str, &str)], body: &str) -> String {
    let mut request = agent()
        .post(format!("{}/endpoints/iris/score", server.scoring))
        .header("authorization", format!("Bearer {key}"));
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let answer = Answer::read(request.send(body).expect("an HTTP answer"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let by = answer.header("azureml-model-deployment");
    by.expect("who answered").to_owned()
}

/// An image with this last pixel, or one without any.
fn digits(last: &str) -> String {
    format!("{{\"data\": [[{}{last}]]}}", "0,".repeat(63))
}

/// The users that green answers.
fn greens(server: &Server, key: &str) -> BTreeSet<usize> {
    let users = 0..USERS;
    let of_green = |user: &usize| {
        let user = format!("user-{user}");
        ask(server, key, &[("x-user-id", &user)], &digits("0")) == "green"
    };
    users.filter(of_green).collect()
}

fn misses(server: &Server) -> u64 {
    let text = metrics(server);
    let series = "serin_sticky_misses_total{endpoint=\"iris\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.expect("the series").parse().expect("a count")
}

#[test]
fn users_join_green_over_a_ramp_stay_over_a_kill_and_the_last_who_came_leave_first() {
    let data = folder();
    let mut server = server(data.path());
    let key = server.key("iris");
    server.update("iris", &["--set", "sticky.header=X-User-Id"]);
    let mut ramp = vec![BTreeSet::new()];
    for percent in ["5", "25", "50"] {
        let rest = 100 - percent.parse::<u8>().expect("a percent");
        server.update(
            "iris",
            &["--traffic", &format!("blue:{rest},green:{percent}")],
        );
        let now = greens(&server, &key);
        let before = ramp.last().expect("the first");
        assert!(
            now.is_superset(before) && now.len() > before.len(),
            "{percent}: {now:?}"
        );
        ramp.push(now);
        server.kill();
        server = Server::start(data.path());
        assert_eq!(Some(&greens(&server, &key)), ramp.last());
    }
    server.update("iris", &["--traffic", "blue:75,green:25"]);
    assert_eq!(greens(&server, &key), ramp[2]);
    // Another version is another matter than another user: a change of a deployment moves nobody.
    server.update("iris", &["--deployment", "green", "--instance-count", "2"]);
    assert_eq!(greens(&server, &key), ramp[2]);
    assert_eq!(misses(&server), 0);
}

#[test]
fn who_does_not_say_who_they_are_is_split_exactly_and_counted() {
    let data = folder();
    let server = server(data.path());
    let key = server.key("iris");
    server.update(
        "iris",
        &[
            "--set",
            "sticky={\"json_path\": \"/data/0/63\"}",
            "--traffic",
            "blue:90,green:10",
        ],
    );
    let greens = |body: &str| {
        let answers = (0..100).map(|_| ask(&server, &key, &[], body));
        answers.filter(|by| by == "green").count()
    };
    assert_eq!(greens(&digits("null")), 10);
    assert_eq!(misses(&server), 100);
    let of_one = greens(&digits("7"));
    assert!(of_one == 0 || of_one == 100, "{of_one}");
    assert_eq!(misses(&server), 100);
    // Who names a deployment says nothing about the split.
    server.score("iris", &key, Some("green"), &digits("0"));
    assert_eq!(misses(&server), 100);
}

#[test]
fn the_rule_is_shown_changed_and_taken_away_like_any_other_setting() {
    let data = folder();
    let server = server(data.path());
    let shown = || server.ok(&["endpoint", "show", "--name", "iris"])["sticky"].clone();
    server.update("iris", &["--set", "sticky.cookie=sid"]);
    assert_eq!(shown(), serde_json::json!({"cookie": "sid"}));
    let (_, told) = server.fails(&[
        "endpoint",
        "update",
        "--name",
        "iris",
        "--set",
        "sticky.header=x y",
    ]);
    assert!(told.contains("expected the name of a header"), "{told}");
    assert!(
        told.contains("expected one of header, cookie, json_path and client_ip"),
        "{told}"
    );
    server.update("iris", &["--set", "sticky=null"]);
    assert_eq!(shown(), serde_json::Value::Null);
}

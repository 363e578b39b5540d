//! Whose fault it is when requests fail: as the metrics, the readiness and `show` tell it.

use crate::scoring::{deploy, metrics, sample, slow_body};
use crate::support::{Answer, PATIENCE, Server, agent, folder, model};

/// Requests of `deployment` that ended so.
fn ended(server: &Server, deployment: &str, outcome: &str) -> String {
    let series = format!(
        "serin_requests_total{{endpoint=\"iris\",deployment=\"{deployment}\",outcome=\"{outcome}\"}} "
    );
    let metrics = metrics(server);
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(&series));
    count.expect("the series").to_owned()
}

fn ready(server: &Server, key: &str) -> Answer {
    let answer = agent()
        .get(format!("{}/health/ready", server.scoring))
        .header("authorization", format!("Bearer {key}"));
    Answer::read(answer.call().expect("an HTTP answer"))
}

#[test]
fn a_version_that_hangs_is_named_until_it_answers_and_the_others_serve_on() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    let hangs = "request_settings: {request_timeout_ms: 100}\n";
    server
        .create_deployment("green", &model("models/test/slow.onnx"), hangs)
        .ok();
    let degraded = || ready(&server, &key).json()["degraded"].clone();
    let begun = std::time::Instant::now();
    let mut sent = 0;
    while degraded().is_null() {
        let late = server.score("iris", &key, Some("green"), &slow_body());
        assert_eq!(late.status, 408, "{}", late.body);
        sent += 1;
        assert!(begun.elapsed() < PATIENCE, "still well after {sent}");
    }
    assert!(sent >= 20, "{sent}");
    assert_ne!(ended(&server, "green", "expired_running"), "0");
    let health = ready(&server, &key);
    assert_eq!(health.status, 200, "the others can answer");
    let named = &health.json()["degraded"][0];
    assert_eq!(named["deployment"], "green");
    assert_eq!(named["failures_in_a_row"], 20);
    assert_eq!(named["reason"], "the deadline passed while the model ran");
    assert_eq!(server.ok(&["status"])["degraded"][0], *named);
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "-n",
        "green",
        "-e",
        "iris",
    ]);
    assert_eq!(shown["degraded"]["reason"], named["reason"], "{shown}");
    let gauge = "serin_degraded{endpoint=\"iris\",deployment=\"green\"} 1\n";
    assert!(metrics(&server).contains(gauge));
    let blue = server.score("iris", &key, None, &sample());
    assert_eq!(blue.status, 200, "{}", blue.body);

    let quick = server.score("iris", &key, Some("green"), r#"{"data": [1]}"#);
    assert_eq!(quick.status, 200, "{}", quick.body);
    assert!(degraded().is_null());
}

/// One version takes what the other refuses: the counts tell that it is not the clients.
#[test]
fn what_a_version_refuses_is_counted_apart_from_what_no_version_could_take() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    server
        .create_deployment("green", &model("models/test/slow.onnx"), "")
        .ok();
    for _ in 0..3 {
        assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
        let refused = server.score("iris", &key, Some("green"), &sample());
        assert_eq!(refused.status, 424, "{}", refused.body);
    }
    let garbled = server.score("iris", &key, Some("green"), "{");
    assert_eq!(garbled.status, 424, "{}", garbled.body);
    assert_eq!(ended(&server, "blue", "ok"), "3");
    assert_eq!(ended(&server, "green", "rejected_by_model"), "3");
    assert_eq!(ended(&server, "green", "malformed"), "1");
}

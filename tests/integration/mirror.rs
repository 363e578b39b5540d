//! Copies of requests for shadows, as a client and an operator see them: not at all, and in the metrics.

use crate::scoring::{metrics, sample};
use crate::support::{PATIENCE, Server, folder, model};

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

/// The sum of the series that begin so.
fn sum(server: &Server, beginning: &str) -> u64 {
    let metrics = metrics(server);
    let values = metrics.lines().filter(|line| line.starts_with(beginning));
    let value = |line: &str| line.rsplit_once(' ').expect("a value").1.parse::<u64>();
    values.map(|line| value(line).expect("a count")).sum()
}

const COPIES: &str = "serin_mirrored_requests_total{endpoint=\"iris\",deployment=\"green\"";
const DROPPED: &str = "serin_mirror_dropped_total{endpoint=\"iris\",deployment=\"green\"";

/// Asks so often; blue answers each.
fn ask(server: &Server, times: u64) {
    let key = server.key("iris");
    for _ in 0..times {
        let answer = server.score("iris", &key, None, &sample());
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("x-serin-deployment"), Some("blue"));
    }
}

/// Waits until so many requests were copied, or were not for want of a slot.
fn until_copied(server: &Server, count: u64) {
    let patience = std::time::Instant::now() + PATIENCE;
    loop {
        let (copies, dropped) = (sum(server, COPIES), sum(server, DROPPED));
        if copies + dropped == count && copies > 0 {
            return;
        }
        assert!(
            std::time::Instant::now() < patience,
            "{copies}, {dropped} of {count}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn an_exact_share_of_requests_is_copied_and_the_live_series_of_the_shadow_stay_empty() {
    let data = folder();
    let server = server(data.path());
    server.update("iris", &["--mirror-traffic", "green=10"]);
    ask(&server, 200);
    until_copied(&server, 20);
    server.update(
        "iris",
        &[
            "--mirror-traffic",
            "green=0",
            "--set",
            "shadow_traffic.green=100",
        ],
    );
    ask(&server, 50);
    until_copied(&server, 70);
    let live = "serin_requests_total{endpoint=\"iris\",deployment=\"green\"";
    assert_eq!(sum(&server, live), 0);
    // A shadow goes with its deployment, and its series too.
    server.ok(&[
        "endpoint",
        "delete",
        "--name",
        "iris",
        "--deployment",
        "green",
        "--yes",
    ]);
    ask(&server, 10);
    let shown = server.ok(&["endpoint", "show", "--name", "iris"]);
    assert_eq!(shown["shadow_traffic"], serde_json::Value::Null);
    assert_eq!(sum(&server, COPIES), 0);
}

#[test]
fn a_deployment_gets_requests_or_copies_of_them_as_in_azure_and_both_where_that_is_written() {
    let data = folder();
    let server = server(data.path());
    let fails = |flag: &str, value: &str| {
        let (_, told) = server.fails(&["endpoint", "update", "--name", "iris", flag, value]);
        told
    };
    let told = fails("--mirror-traffic", "blue=10");
    assert!(told.contains("blue has live traffic (100 %)"), "{told}");
    server.update("iris", &["--mirror-traffic", "green=10"]);
    let told = fails("--traffic", "blue:90,green:10");
    assert!(told.contains("green has live traffic (10 %)"), "{told}");
    let told = fails("--set", "shadow_traffic.green=1");
    assert!(
        told.contains("stands in mirror_traffic and in shadow_traffic"),
        "{told}"
    );
    let told = fails("--set", "shadow_traffic.red=1");
    assert!(told.contains("shadow_traffic names \"red\""), "{told}");
    server.update("iris", &["--mirror-traffic", "green=0"]);
    server.update("iris", &["--set", "shadow_traffic.green=12.5"]);
    server.update("iris", &["--traffic", "blue:90,green:10"]);
    let shown = server.ok(&["endpoint", "show", "--name", "iris"]);
    assert_eq!(shown["shadow_traffic"], serde_json::json!({"green": 12.5}));
}

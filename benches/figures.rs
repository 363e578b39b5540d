//! The figures of the canary flow, measured on the real binary: `cargo bench --bench figures`.
//!
//! Prints a Markdown table: time from exec to the first answer, and requests lost while an operator switches, scales, replaces
//! and deletes under a steady 1,000 requests a second. Nothing here passes or fails by time.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/integration/support.rs"]
#[expect(dead_code, reason = "the integration tests need more of it")]
mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin::load::{Arrivals, Load, Pace, Summary, Target};

use support::{Server, folder, repository};

/// Restarts that are timed.
const STARTS: usize = 21;
/// Steady load, in requests a second.
const RATE: u32 = 1000;
/// Switches of all traffic from one deployment to the other and back.
const SWITCHES: usize = 20;
/// As many as three instances hold, running and waiting.
const CONNECTIONS: usize = 6;

fn main() {
    println!("| what | measured |\n|---|---|");
    ready();
    under_load();
}

/// Time from exec to the ready line, and to the first answer, with one small model deployed.
fn ready() {
    let data = folder();
    let server = Server::start(data.path());
    deploy(&server, &["1"]);
    let key = server.key("iris");
    server.terminate();
    let (mut to_ready, mut to_answer) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = Server::start(data.path());
        to_ready.push(begun.elapsed());
        let answer = server.score("iris", &key, None, &sample());
        to_answer.push(begun.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.body);
        server.terminate();
    }
    row("exec to ready", &spread(&mut to_ready));
    row("exec to first answer", &spread(&mut to_answer));
}

/// Requests lost while each kind of change happens.
fn under_load() {
    let data = folder();
    let server = Server::start(data.path());
    deploy(&server, &["1", "2"]);
    let mut took = Vec::new();
    lost(
        &server,
        &format!("{SWITCHES} switches of all traffic"),
        || {
            for turn in 0..SWITCHES {
                let (traffic, expected) =
                    [("blue=0 green=100", "green"), ("blue=100 green=0", "blue")][turn % 2];
                let begun = Instant::now();
                server.update("iris", &["--traffic", traffic]);
                took.push(begun.elapsed());
                let answer = server.score("iris", &server.key("iris"), None, &sample());
                assert_eq!(
                    answer.header("azureml-model-deployment"),
                    Some(expected),
                    "in force once the command returned"
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        },
    );
    row("a traffic switch, the whole command", &spread(&mut took));
    lost(&server, "scale 3 -> 5 -> 3", || {
        for count in ["5", "3"] {
            server.update("iris", &["--deployment", "blue", "--instance-count", count]);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    lost(&server, "replace the model version, and back", || {
        for version in ["2", "1"] {
            server.update(
                "iris",
                &[
                    "--set",
                    &format!("deployments.blue.model=azureml:digits:{version}"),
                ],
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    lost(&server, "switch to green, delete blue", || {
        server.update("iris", &["--traffic", "blue=0 green=100"]);
        server.ok(&[
            "endpoint",
            "delete",
            "--name",
            "iris",
            "--deployment",
            "blue",
            "--yes",
        ]);
        std::thread::sleep(Duration::from_millis(500));
    });
}

/// Sends `RATE` requests a second while `change` happens, and prints how many failed.
fn lost(server: &Server, what: &str, change: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let address = server
        .scoring
        .strip_prefix("http://")
        .expect("an address")
        .parse()
        .expect("an address");
    let key = server.key("iris");
    let target = Target::new(address, "/endpoints/iris/score")
        .and_then(|target| target.with_bearer(&key))
        .expect("a target");
    let seen = Arc::new(Mutex::new(Summary::new()));
    let body = Bytes::from(sample());
    let schedule = Arrivals::constant(NonZeroU32::new(RATE).expect("not zero"))
        .until(Duration::from_secs(600));
    let load = Load {
        target,
        connections: CONNECTIONS,
        timeout: Duration::from_secs(10),
        pace: Pace::Open(Box::new(schedule)),
        bodies: Arc::new(move |_| body.clone()),
        on_sample: {
            let seen = Arc::clone(&seen);
            Arc::new(move |sample| seen.lock().expect("no sender panicked").record(&sample))
        },
    };
    let entered = runtime.enter();
    let running = load.start().expect("the load starts");
    drop(entered);
    std::thread::sleep(Duration::from_millis(500));
    change();
    running.stop();
    runtime.block_on(running.finished());
    let seen = seen.lock().expect("no sender panicked");
    let latencies = format!(
        "p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        seen.p50(),
        seen.p99(),
        seen.max()
    );
    row(
        &format!("{what}, under {RATE} requests/s"),
        &format!(
            "{} failed of {}; {latencies}",
            seen.failures(),
            seen.count()
        ),
    );
}

/// Versions of the digits with three instances each: blue with all traffic, green with none.
fn deploy(server: &Server, versions: &[&str]) {
    server.create_endpoint("iris");
    for (version, name) in versions.iter().zip(["blue", "green"]) {
        let path = format!("models/digits/{version}");
        server.register("digits", version, &path).ok();
        let instances = if versions.len() == 1 { 1 } else { 3 };
        let more = format!("instance_count: {instances}\n");
        server
            .create_deployment(name, &format!("azureml:digits:{version}"), &more)
            .ok();
    }
    server.update("iris", &["--traffic", "blue=100"]);
}

fn sample() -> String {
    std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request")
}

fn row(what: &str, measured: &str) {
    println!("| {what} | {measured} |");
}

/// Median, least and most.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    format!(
        "median {median:.1?} ({least:.1?} to {most:.1?}, {} times)",
        times.len()
    )
}

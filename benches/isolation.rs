//! What lanes in processes cost, and what they save others from: a part of `figures`.

use std::time::{Duration, Instant};

use serin::load::Pace;

use crate::support::{self, Server, folder};
use crate::{Steady, deploy, lost, pss, pss_of, row, spread};

/// Pairs of windows in which a lane on a thread and one in a process answer the same load in turns.
const PAIRS: usize = 12;
const PAIR_WINDOW: Duration = Duration::from_secs(1);
/// Time for the first requests after the split has moved.
const PAIR_WARM_UP: Duration = Duration::from_millis(200);
/// Processes that a request ends.
const DEATHS: usize = 20;
/// Divides the least of all whole numbers by -1, which ends the process (SIGFPE); and a division that does not.
const FATAL: &str = r#"{"data": {"a": [-9223372036854775808], "b": [-1]}}"#;
const HARMLESS: &str = r#"{"data": {"a": [6], "b": [3]}}"#;
/// Runs that do not end.
const LOST_LANES: usize = 10;
/// One node that takes far longer than a run may go on once it was ended, and a run that is over at once.
const ENDLESS: &str = r#"{"data": [8000]}"#;
const SHORT: &str = r#"{"data": [2]}"#;
/// A run that takes 400 MB, and how long after it the memory is looked at.
const SWOLLEN: &str = r#"{"data": {"inside": [100000000], "outside": [1]}}"#;
const SLIM: &str = r#"{"data": {"inside": [1], "outside": [1]}}"#;
const AFTER_SWOLLEN: Duration = Duration::from_secs(5);

/// A tiny model on lanes in processes beside the same on threads, under the same load in turns.
pub(crate) fn processes() {
    let data = folder();
    let server = Server::start(data.path());
    server.create_endpoint("iris");
    for (name, isolation) in [("blue", "thread"), ("green", "process")] {
        let settings = format!(
            "request_settings: {{max_concurrent_requests_per_instance: 8, isolation: {isolation}}}\n"
        );
        let path = support::model("models/test/add.onnx");
        server.create_deployment(name, &path, &settings).ok();
    }
    for connections in [8, 1] {
        beside_threads(&server, connections);
    }
}

/// Moves the load from one deployment to the other and back, in the order A B B A.
fn beside_threads(server: &Server, connections: usize) {
    let body = r#"{"data": {"a": [[1, 2]], "b": [[3, 4]]}}"#.to_owned();
    server.update("iris", &["--traffic", "blue=100 green=0"]);
    let pace = Pace::Closed { requests: None };
    let load = Steady::<3>::start_with(server, connections, pace, body);
    let mut rates = Vec::new();
    for pair in 0..PAIRS {
        let mut rate = [0.0; 2];
        for place in [pair % 2, 1 - pair % 2] {
            let split = ["blue=100 green=0", "blue=0 green=100"][place];
            server.update("iris", &["--traffic", split]);
            std::thread::sleep(PAIR_WARM_UP);
            let before = load.count(place + 1);
            let begun = Instant::now();
            load.enter(place + 1);
            std::thread::sleep(PAIR_WINDOW);
            load.enter(0);
            let answered = load.count(place + 1) - before;
            let answered = u32::try_from(answered).expect("requests of a window");
            rate[place] = f64::from(answered) / begun.elapsed().as_secs_f64();
        }
        rates.push(rate);
    }
    let [_, threads, processes] = load.stop();
    let middle = |mut all: Vec<f64>| {
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let ratio = middle(
        rates
            .iter()
            .map(|[thread, process]| process / thread)
            .collect(),
    );
    let [thread, process] =
        [0, 1].map(|place| middle(rates.iter().map(|rate| rate[place]).collect()));
    row(
        &format!("a tiny model, {connections} connections: lanes on threads, in processes"),
        &format!(
            "{thread:.0}/s, {process:.0}/s, middle of {PAIRS} ratios {ratio:.2}; p50 {:.2?}, {:.2?}; {} failed",
            threads.p50(),
            processes.p50(),
            threads.failures() + processes.failures()
        ),
    );
}

/// What models do to others that end their process, do not end, or take much memory.
pub(crate) fn misbehaving() {
    let data = folder();
    let server = Server::start(data.path());
    // As many slots as there are connections: nobody is refused who only waits for a core.
    deploy(&server, &["1", "2"]);
    deaths(&server);
    lost_lanes(&server);
    for isolation in ["thread", "process"] {
        swollen(isolation);
    }
}

/// A deployment of its own endpoint.
fn deploy_alone(server: &Server, endpoint: &str, path: &str, settings: &str) {
    server.create_endpoint(endpoint);
    let text = format!(
        "name: red\nendpoint_name: {endpoint}\nmodel: {}\ninstance_type: Standard_F2s_v2\n\
         request_settings: {{{settings}}}\n",
        support::model(path)
    );
    let create = ["online-deployment", "create", "--all-traffic"];
    server.run_with(&create, &text).ok();
}

/// Time from the request that ends the only process of a deployment to its next good answer.
fn deaths(server: &Server) {
    deploy_alone(server, "trap", "models/test/divide.onnx", "lanes: 1");
    let key = server.key("trap");
    let mut took = Vec::new();
    let what = format!("{DEATHS} processes of another deployment ended by SIGFPE");
    lost(server, &what, || {
        for _ in 0..DEATHS {
            let begun = Instant::now();
            let answer = server.score("trap", &key, None, FATAL);
            assert_eq!(answer.status, 424, "{}", answer.body);
            while server.score("trap", &key, None, HARMLESS).status != 200 {}
            took.push(begun.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    row(
        "from the request that ends its process to the next good answer of that deployment",
        &spread(&mut took),
    );
}

/// Runs that do not end, one after another, on the lanes of a deployment that is asked for something else beside them.
fn lost_lanes(server: &Server) {
    let settings = "max_concurrent_requests_per_instance: 2, request_timeout_ms: 1000";
    deploy_alone(server, "abyss", "models/test/endless.onnx", settings);
    let key = server.key("abyss");
    let mut failed = 0;
    let mut asked = 0;
    let what = format!("{LOST_LANES} lanes of another deployment lost in runs that do not end");
    lost(server, &what, || {
        for turn in 1..=LOST_LANES {
            let answer = server.score("abyss", &key, None, ENDLESS);
            assert_eq!(answer.status, 408, "{}", answer.body);
            while troubles(server) < turn {
                asked += 1;
                failed += usize::from(server.score("abyss", &key, None, SHORT).status != 200);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    row(
        "other requests of the deployment that loses the lanes",
        &format!("{failed} failed of {asked}"),
    );
}

/// The number of lanes that `abyss` says it has lost.
fn troubles(server: &Server) -> usize {
    let shown = server.ok(&["deployment", "show", "--detail", "-e", "abyss", "-n", "red"]);
    let notes = shown["notes"].to_string();
    if !notes.contains("a run did not end") {
        return 0;
    }
    let times = notes.split(" times; the last time").next();
    let times = times.and_then(|before| before.rsplit(' ').next());
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Memory of a server and its processes before a run of 400 MB, and a while after it.
fn swollen(isolation: &str) {
    let data = folder();
    let server = Server::start(data.path());
    let settings = format!("lanes: 1, isolation: {isolation}");
    deploy_alone(&server, "iris", "models/test/swells.onnx", &settings);
    let key = server.key("iris");
    let ask = |body| {
        let answer = server.score("iris", &key, None, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    for _ in 0..100 {
        ask(SLIM);
    }
    let before = pss_with_children(&server);
    ask(SWOLLEN);
    std::thread::sleep(AFTER_SWOLLEN);
    let after = pss_with_children(&server);
    row(
        &format!("memory (PSS) before a run of 400 MB, and 5 s after it; isolation: {isolation}"),
        &format!("{before:.1} MB, {after:.1} MB: {:.2} times", after / before),
    );
}

/// Memory of a server and of the processes of its lanes, in megabytes.
fn pss_with_children(server: &Server) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid()));
    let children = threads
        .expect("the server runs")
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let children: String = children.collect();
    let children = children.split_whitespace();
    // One that has ended since it was listed has none.
    let children = children.filter_map(|pid| pss_of(pid.parse().expect("a number")));
    pss(server) + children.sum::<f64>()
}

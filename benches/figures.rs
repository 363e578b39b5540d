//! The figures of the canary flow, measured on the real binary: `cargo bench --bench figures`.
//!
//! Prints a Markdown table: time from exec to the first answer; requests lost while an operator switches, scales, replaces and
//! deletes under a steady 1,000 requests a second, also while something else starts, drains or cannot start; what those requests feel of large models that come and go; memory with
//! such models and without; the cost of a few requests; what the server adds to the run of a tiny model, by its own clock; and
//! what lanes in processes cost, and what they save others from; what new clients feel of thousands of strangers; what is left of a
//! server of which more is asked than it can do; and what two servers on one machine leave each other.
//! Nothing here passes or fails by time.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod isolation;
#[path = "../tests/integration/mlp.rs"]
mod mlp;
mod neighbours;
mod overload;
mod strangers;
#[path = "../tests/integration/support.rs"]
#[expect(dead_code, reason = "the integration tests need more of it")]
mod support;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin::load::{Arrivals, Load, Pace, RunningLoad, Summary, Target};

use mlp::Mlp;
use support::{Answer, Server, agent, folder, repository, serin};

/// Restarts that are timed.
const STARTS: usize = 21;
/// Steady load, in requests a second.
const RATE: u32 = 1000;
/// Switches of all traffic from one deployment to the other and back.
const SWITCHES: usize = 20;
/// Keys that are renewed.
const KEYS: usize = 10;
/// As many as three instances hold, running and waiting.
const CONNECTIONS: usize = 6;

/// Times that a large model comes and goes, each time another one.
const ARRIVALS: u64 = 5;
/// Sizes of the models that come and go, in megabytes.
const ARRIVING: [usize; 2] = [25, 128];
/// Size of the model whose memory is measured, in megabytes.
const LARGE: usize = 128;
/// A light load, in requests a second.
const LIGHT_RATE: u32 = 49;
/// How long the light load is watched.
const LIGHT_TIME: Duration = Duration::from_secs(20);

/// A model whose run takes next to no time.
const TINY: Mlp = Mlp {
    width: 4,
    layers: 2,
    seed: 1,
    external: false,
};
/// Windows in which it is asked without a pause, after a time in which nothing counts. The middle one of their means is what is
/// usual: the buckets of the metrics are too wide for the median of times so short.
const WINDOWS: usize = 100;
const WINDOW: Duration = Duration::from_millis(100);
const OVERHEAD_WARM_UP: Duration = Duration::from_secs(1);

fn main() {
    // `cargo bench --bench figures -- memory light`: only these.
    let asked: Vec<_> = std::env::args().skip(1).collect();
    let asked: Vec<_> = asked.iter().filter(|word| !word.starts_with('-')).collect();
    println!("| what | measured |\n|---|---|");
    let parts: [(&str, fn()); 12] = [
        ("ready", ready),
        ("changes", under_load),
        ("rules", rules),
        ("arrivals", || ARRIVING.into_iter().for_each(arrivals)),
        ("memory", memory),
        ("light", light),
        ("overhead", overhead),
        ("processes", isolation::processes),
        ("misbehaving", isolation::misbehaving),
        ("strangers", strangers::strangers),
        ("neighbours", neighbours::neighbours),
        ("overload", overload::overload),
    ];
    for (name, measure) in parts {
        if asked.is_empty() || asked.iter().any(|word| *word == name) {
            measure();
        }
    }
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

/// Rules that move while something else starts, cannot start, and drains; and a restart beside a model that hangs.
fn rules() {
    let (data, slow) = (folder(), folder());
    let server = Server::start(data.path());
    deploy(&server, &["1", "2"]);
    // One that takes longer to try than all that is measured.
    let path = slow_model(slow.path(), 100_000_000);
    let begin = ["online-deployment", "create", "--no-wait"];
    server
        .run_with(&begin, &support::deployment("red", &path, ""))
        .ok();
    rules_move(&server, "while another deployment starts");
    server.ok(&[
        "deployment",
        "delete",
        "--name",
        "red",
        "--endpoint-name",
        "iris",
        "--yes",
    ]);

    // One with a request of some ten seconds, deleted.
    let path = slow_model(slow.path(), 1);
    let long = "request_settings: {request_timeout_ms: 60000}\n";
    server.create_deployment("red", &path, long).ok();
    let key = server.key("iris");
    std::thread::scope(|scope| {
        let (server, key) = (&server, &key);
        scope.spawn(move || server.score("iris", key, Some("red"), r#"{"data": [4000]}"#));
        while !metrics(server)
            .contains("serin_requests_in_flight{endpoint=\"iris\",deployment=\"red\"} 1")
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let delete = [
            "deployment",
            "delete",
            "--name",
            "red",
            "--endpoint-name",
            "iris",
        ];
        server.ok(&[&delete[..], &["--yes", "--no-wait"]].concat());
        rules_move(server, "while another deployment drains");
    });

    // One that was good, and hangs after a restart; then one that does not load at all.
    server.create_deployment("red", &path, "").ok();
    let red = server.ok(&[
        "deployment",
        "show",
        "--detail",
        "--name",
        "red",
        "--endpoint-name",
        "iris",
    ]);
    let red = data
        .path()
        .join("models/sha256")
        .join(red["model_digest"].as_str().expect("a digest"));
    server.terminate();
    std::fs::write(red.join("sample-request.json"), r#"{"data": [100000000]}"#).expect("written");
    let mut to_answer = Vec::new();
    for _ in 0..5 {
        to_answer.push(exec_to_answer(data.path(), &key));
    }
    row(
        "exec to first answer beside a model that hangs while it loads",
        &spread(&mut to_answer),
    );
    std::fs::write(red.join("model.onnx"), "no model").expect("written");
    let server = Server::start(data.path());
    rules_move(&server, "while another deployment cannot start");
}

/// Time from exec to the first answer, whether or not the server says that it is ready.
fn exec_to_answer(data: &Path, key: &str) -> Duration {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let begun = Instant::now();
    let mut child = serin(data)
        .args(["serve", "--port", &port.to_string(), "--admin-port", "0"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the serin binary starts");
    let url = format!("http://127.0.0.1:{port}/endpoints/iris/score");
    loop {
        let request = agent()
            .post(&url)
            .header("authorization", format!("Bearer {key}"));
        if request
            .send(sample())
            .is_ok_and(|answer| answer.status() == 200)
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    took
}

/// The slow model in a folder, with a sample request of so many steps of about a millisecond.
fn slow_model(folder: &Path, steps: u32) -> String {
    let model = repository("models/test/slow.onnx");
    std::fs::copy(model, folder.join("model.onnx")).expect("copied");
    let sample = format!("{{\"data\": [{steps}]}}");
    std::fs::write(folder.join("sample-request.json"), sample).expect("written");
    folder.to_str().expect("UTF-8").to_owned()
}

/// Moves the split and renews a key again and again, under load.
fn rules_move(server: &Server, when: &str) {
    let (mut switches, mut keys) = (Vec::new(), Vec::new());
    lost(
        server,
        &format!("{SWITCHES} rollbacks and {KEYS} new keys {when}"),
        || {
            for turn in 0..SWITCHES {
                let split = ["blue=90 green=10", "blue=100 green=0"][turn % 2];
                let begun = Instant::now();
                server.update("iris", &["--traffic", split]);
                switches.push(begun.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            for _ in 0..KEYS {
                let old = server.ok(&["endpoint", "get-credentials", "--name", "iris"]);
                let old = old["secondaryKey"].as_str().expect("a key").to_owned();
                let renew = [
                    "endpoint",
                    "regenerate-keys",
                    "--name",
                    "iris",
                    "--key-type",
                    "secondary",
                ];
                let begun = Instant::now();
                server.ok(&renew);
                keys.push(begun.elapsed());
                // Not timed: after some wrong keys the next ones are answered late.
                let answer = server.score("iris", &old, None, &sample());
                assert_eq!(answer.status, 401, "{}", answer.body);
            }
        },
    );
    row(
        &format!("a rollback {when}, the whole command"),
        &spread(&mut switches),
    );
    row(
        &format!("a new key {when}, the whole command, after which the old one is refused"),
        &spread(&mut keys),
    );
}

/// Sends `RATE` requests a second while `change` happens, and prints how many failed.
fn lost(server: &Server, what: &str, change: impl FnOnce()) {
    let steady = Steady::start(server, RATE);
    std::thread::sleep(Duration::from_millis(500));
    change();
    let [seen] = steady.stop();
    row(
        &format!("{what}, under {RATE} requests/s"),
        &format!(
            "{} failed of {}; {}",
            seen.failures(),
            seen.count(),
            latencies(&seen)
        ),
    );
}

fn latencies(seen: &Summary) -> String {
    format!(
        "p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        seen.p50(),
        seen.p99(),
        seen.max()
    )
}

/// A steady load on `iris`, whose samples are kept apart by the phase in which they come.
struct Steady<const PHASES: usize> {
    running: RunningLoad,
    phase: Arc<AtomicUsize>,
    seen: Arc<Mutex<[Summary; PHASES]>>,
}

impl<const PHASES: usize> Steady<PHASES> {
    fn start(server: &Server, rate: u32) -> Self {
        let schedule = Arrivals::constant(NonZeroU32::new(rate).expect("not zero"))
            .until(Duration::from_secs(600));
        let pace = Pace::Open(Box::new(schedule));
        Self::start_with(server, CONNECTIONS, pace, sample())
    }

    fn start_with(server: &Server, connections: usize, pace: Pace, body: String) -> Self {
        let address = server.scoring.strip_prefix("http://").expect("an address");
        let target = Target::new(
            address.parse().expect("an address"),
            "/endpoints/iris/score",
        )
        .and_then(|target| target.with_bearer(&server.key("iris")))
        .expect("a target");
        let seen = Arc::new(Mutex::new(std::array::from_fn(|_| Summary::new())));
        let phase = Arc::new(AtomicUsize::new(0));
        let body = Bytes::from(body);
        let load = Load {
            target,
            connections,
            timeout: Duration::from_secs(10),
            pace,
            bodies: Arc::new(move |_| body.clone()),
            on_sample: {
                let (seen, phase) = (Arc::clone(&seen), Arc::clone(&phase));
                Arc::new(move |sample| {
                    let mut seen: std::sync::MutexGuard<'_, [Summary; PHASES]> =
                        seen.lock().expect("no sender panicked");
                    seen[phase.load(Ordering::Relaxed)].record(&sample);
                })
            },
        };
        let running = load.start().expect("the load starts");
        Self {
            running,
            phase,
            seen,
        }
    }

    /// Requests of a phase so far.
    fn count(&self, phase: usize) -> u64 {
        self.seen.lock().expect("no sender panicked")[phase].count()
    }

    fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn stop(self) -> [Summary; PHASES] {
        self.running.stop();
        _ = self.running.finish();
        std::mem::replace(
            &mut *self.seen.lock().expect("no sender panicked"),
            std::array::from_fn(|_| Summary::new()),
        )
    }
}

/// What the requests to a small model feel of a large one that is registered, deployed and deleted beside it.
fn arrivals(megabytes: usize) {
    let (data, cache) = (folder(), folder());
    let server = server(data.path(), cache.path());
    deploy(&server, &["1", "2"]);
    let steady = Steady::<5>::start(&server, RATE);
    for turn in 0..ARRIVALS {
        steady.enter(0);
        let model = folder();
        let mlp = Mlp {
            seed: turn,
            ..Mlp::of_megabytes(megabytes)
        };
        std::thread::sleep(Duration::from_secs(1));
        // Written by this process, which has the cores too.
        steady.enter(4);
        mlp.write(model.path());
        steady.enter(0);
        std::thread::sleep(Duration::from_secs(2));
        steady.enter(1);
        let version = turn.to_string();
        let path = model.path().to_str().expect("UTF-8");
        server.register("large", &version, path).ok();
        steady.enter(2);
        let reference = format!("azureml:large:{version}");
        server.create_deployment("large", &reference, "").ok();
        steady.enter(3);
        let large = ["--name", "iris", "--deployment", "large", "--yes"];
        server.ok(&[["endpoint", "delete"].as_slice(), &large].concat());
    }
    let [before, registered, loaded, deleted, _] = steady.stop();
    for (when, seen) in [
        ("before it comes", &before),
        ("while it is registered", &registered),
        ("while it is deployed", &loaded),
        ("while it is deleted", &deleted),
    ] {
        let failed = seen.failures();
        row(
            &format!(
                "a model of {megabytes} MB, {ARRIVALS} times, beside {RATE} requests/s: {when}"
            ),
            &format!("{failed} failed of {}; {}", seen.count(), latencies(seen)),
        );
    }
}

/// A server with a cache folder of its own, so that nothing is prepared yet.
fn server(data: &Path, cache: &Path) -> Server {
    let mut command = serin(data);
    command.env("SERIN_CACHE", cache);
    Server::start_command(command, data)
}

/// Memory of a server before, with and after two instances of a large model.
fn memory() {
    let (data, cache, model) = (folder(), folder(), folder());
    let mlp = Mlp::of_megabytes(LARGE);
    mlp.write(model.path());
    // Unpacks ONNX Runtime, which is done once and for all servers.
    let unpacks = server(data.path(), cache.path());
    await_library(&unpacks);
    unpacks.terminate();
    let server = server(data.path(), cache.path());
    await_library(&server);
    let fresh = pss(&server);
    server.create_endpoint("iris");
    for turn in ["", ", a second time"] {
        let path = model.path().to_str().expect("UTF-8");
        server
            .create_deployment(
                "blue",
                path,
                "instance_count: 2
",
            )
            .ok();
        let answer = server.score("iris", &server.key("iris"), Some("blue"), &mlp.request());
        assert_eq!(answer.status, 200, "{}", answer.body);
        let loaded = pss(&server);
        let blue = ["--name", "iris", "--deployment", "blue", "--yes"];
        server.ok(&[["endpoint", "delete"].as_slice(), &blue].concat());
        row(
            &format!("memory (PSS): no model, two instances of {LARGE} MB, deleted{turn}"),
            &format!("{:.1} MB, {:.1} MB, {:.1} MB", fresh, loaded, pss(&server)),
        );
    }
}

/// Waits until ONNX Runtime is loaded, on the thread that is there for it.
fn await_library(server: &Server) {
    let proc = Path::new("/proc").join(server.pid().to_string());
    let loads = || {
        let threads = std::fs::read_dir(proc.join("task")).expect("the server runs");
        let mut names =
            threads.filter_map(|one| std::fs::read_to_string(one.ok()?.path().join("comm")).ok());
        names.any(|name| name.trim() == "serin-library")
    };
    let loaded = || {
        let maps = std::fs::read_to_string(proc.join("maps")).expect("the server runs");
        maps.contains("libonnxruntime")
    };
    while !loaded() || loads() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the kernel counts as the server's memory, in megabytes.
fn pss(server: &Server) -> f64 {
    pss_of(server.pid()).expect("the server runs")
}

/// Nothing of a process that has ended.
fn pss_of(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes = line.trim().trim_end_matches(" kB");
    Some(kilobytes.parse::<f64>().expect("a number") * 1024.0 / 1e6)
}

/// The share of a core that a few requests a second take.
fn light() {
    let data = folder();
    let server = Server::start(data.path());
    deploy(&server, &["1"]);
    let steady = Steady::<1>::start(&server, LIGHT_RATE);
    std::thread::sleep(Duration::from_secs(1));
    let (begun, before) = (Instant::now(), cpu_seconds(&server));
    std::thread::sleep(LIGHT_TIME);
    let share = (cpu_seconds(&server) - before) / begun.elapsed().as_secs_f64();
    let [seen] = steady.stop();
    row(
        &format!("a core at {LIGHT_RATE} requests/s"),
        &format!("{:.1} %; {}", share * 100.0, latencies(&seen)),
    );
}

/// Processor time of the server so far.
fn cpu_seconds(server: &Server) -> f64 {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("the server runs");
    // User and system time, the 14th and 15th field; the third follows the name. Linux shows hundredths of a second.
    let fields = stat.rsplit_once(')').expect("a name").1;
    let ticks = fields.split_whitespace().skip(14 - 3).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}

/// What the server adds to the run of a tiny model on one connection, by its own clock.
fn overhead() {
    let (data, model) = (folder(), folder());
    TINY.write(model.path());
    let server = Server::start(data.path());
    server.create_endpoint("iris");
    let path = model.path().to_str().expect("UTF-8");
    server.create_deployment("blue", path, "").ok();
    server.update("iris", &["--traffic", "blue=100"]);
    let pace = Pace::Closed { requests: None };
    let load = Steady::<2>::start_with(&server, 1, pace, TINY.request());
    std::thread::sleep(OVERHEAD_WARM_UP);
    load.enter(1);
    let mut scrapes = vec![metrics(&server)];
    for _ in 0..WINDOWS {
        std::thread::sleep(WINDOW);
        scrapes.push(metrics(&server));
    }
    let [_, seen] = load.stop();
    let stage = |name| -> Vec<Stage> {
        let read = scrapes.iter().map(|scrape| Stage::read(scrape, name));
        read.collect()
    };
    let what = |stage: &str| format!("a tiny model, 1 connection, inside the server: {stage}");
    let (total, run) = (stage("total"), stage("run"));
    let not_in_it = "reading the request and writing the response are not in it";
    row(
        &what(&format!(
            "total, from the whole body to the answer; {not_in_it}"
        )),
        &in_all(&total),
    );
    for name in ["queue", "decode", "run", "encode"] {
        row(&what(name), &in_all(&stage(name)));
    }
    let difference = |from, to| mean_us(&total, from, to) - mean_us(&run, from, to);
    row(&what("total minus run"), &by_windows(difference));
    row(
        "the same, as the client sees it",
        &format!("{} failed; {}", seen.failures(), latencies(&seen)),
    );
}

fn metrics(server: &Server) -> String {
    let uri = format!("{}/metrics", server.admin);
    Answer::read(agent().get(uri).call().expect("an HTTP answer")).body
}

/// Times of one stage up to some moment, as the metrics have them.
struct Stage {
    sum_s: f64,
    /// Upper bounds in seconds, and how many are not longer; the last has no bound.
    buckets: Vec<(f64, f64)>,
}

impl Stage {
    fn read(metrics: &str, name: &str) -> Self {
        let (mut sum_s, mut buckets) = (0.0, Vec::new());
        let label = format!("stage=\"{name}\"");
        let lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("serin_request_duration_seconds_"));
        for line in lines.filter(|line| line.contains(&label)) {
            let value = line.rsplit(' ').next().expect("a value");
            let value = value.parse::<f64>().expect("a number");
            if line.starts_with("sum{") {
                sum_s = value;
            } else if let Some(rest) = line.strip_prefix("bucket{le=\"") {
                let bound = rest.split('"').next().expect("a bound");
                buckets.push((bound.parse().expect("a number"), value));
            }
        }
        assert!(!buckets.is_empty(), "no stage {name}: {metrics}");
        Self { sum_s, buckets }
    }

    fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }
}

/// Mean time between two scrapes.
fn mean_us(scrapes: &[Stage], from: usize, to: usize) -> f64 {
    let (from, to) = (&scrapes[from], &scrapes[to]);
    (to.sum_s - from.sum_s) / (to.count() - from.count()) * 1e6
}

/// The mean of all, and the middle one of the means of the windows, of which the least and the most stand beside it.
fn by_windows(mean_us: impl Fn(usize, usize) -> f64) -> String {
    let mut windows: Vec<f64> = (0..WINDOWS).map(|at| mean_us(at, at + 1)).collect();
    windows.sort_unstable_by(f64::total_cmp);
    format!(
        "mean {:.1} us; mean of {} ms: {:.1} us ({:.1} to {:.1} us, {WINDOWS} times)",
        mean_us(0, WINDOWS),
        WINDOW.as_millis(),
        windows[WINDOWS / 2],
        windows[0],
        windows[WINDOWS - 1]
    )
}

/// The means of a stage, and its median by the buckets.
fn in_all(scrapes: &[Stage]) -> String {
    let means = by_windows(|from, to| mean_us(scrapes, from, to));
    let buckets = scrapes[0].buckets.iter().zip(&scrapes[WINDOWS].buckets);
    let buckets = buckets.map(|((_, before), (bound, after))| (*bound, after - before));
    format!("{means}; {}", median(&buckets.collect::<Vec<_>>()))
}

/// The median on a straight line through its bucket, but for the first, which says no more than its bound.
fn median(buckets: &[(f64, f64)]) -> String {
    let requests = buckets.last().map_or(0.0, |(_, count)| *count);
    let rank = requests / 2.0;
    let at = buckets.iter().position(|(_, count)| *count >= rank);
    let p50 = match at.expect("some requests") {
        0 => format!("at most {:.0} us", buckets[0].0 * 1e6),
        at => {
            let ((lower, below), (upper, count)) = (buckets[at - 1], buckets[at]);
            let share = (rank - below) / (count - below);
            format!("{:.1} us", (lower + (upper - lower) * share) * 1e6)
        }
    };
    format!("p50 {p50} of {requests} requests")
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

//! Whether the verdicts of `serin bench` hold: `cargo bench --bench verdicts [-- NAME]`.
//!
//! - `same`: one version against itself, 100 short runs: how many name a winner.
//! - `drift`: both versions become 10 % slower over the run: how many of 20 runs name a winner.
//! - `slower`: a version that is 5 % slower: how many of 20 runs find it.
//! - `stall`: a server that stands still for 1 s in 10: what the two kinds of loop say of it.
//! - `shapes`: constant service times against exponential, bimodal and lognormal ones of the same mean: how many of 20 runs name a winner,
//!   and how many intervals miss the ratio of the times as they were.
//! - `queues`: M/M/1, M/D/1 and M/D/4 at loads from 0.5 to 1.1: the mean latency by that of theory, for M/M/1 the p99 too, and what the
//!   check says of it.
//! - `rate`: the most that the generator sends on one core, and how late it is at 20,000 a second.
//!
//! Servers stand in for versions, so that what is to be found is known: each answers after a time that is set, on cores that are
//! busy meanwhile. Not run by the tests: it takes some half an hour, and a quiet machine.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin::bench::{Bench, CheckState, Outcome, Report, Scenario, Subject, Version};
use serin::evidence::{SplitMix64, Tolerance};
use serin::load::Target;
use tokio::sync::watch;

/// What is asked.
const BODY: &str = r#"{"data": [[1, 2, 3, 4]]}"#;
/// What every server answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"label\":[1]}";
/// Time of an answer.
const SERVICE: Duration = Duration::from_millis(1);

fn main() {
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let all: [(&str, fn()); 7] = [
        ("same", same),
        ("drift", drift),
        ("slower", slower),
        ("stall", stall),
        ("shapes", shapes),
        ("queues", queues),
        ("rate", rate),
    ];
    for (name, measure) in all {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            measure();
        }
    }
}

fn same() {
    let service = |_| busy(SERVICE);
    let (one, other) = (server(service), server(service));
    let found = runs(100, &[one, other], Duration::from_secs(3));
    println!(
        "same: {} of 100 runs name a winner, {} withhold one",
        winners(&found),
        withheld(&found)
    );
}

fn drift() {
    const LENGTH: Duration = Duration::from_secs(6);
    let mut found = Vec::new();
    for seed in 0..20 {
        let start = Instant::now();
        let service = move |_| {
            let part = start.elapsed().as_secs_f64() / LENGTH.as_secs_f64();
            busy(SERVICE.mul_f64(1.0 + 0.1 * part));
        };
        let servers = [server(service), server(service)];
        found.push(run(&servers, LENGTH, seed));
    }
    println!(
        "drift: {} of 20 runs name a winner, {} withhold one",
        winners(&found),
        withheld(&found)
    );
}

fn slower() {
    let servers = [
        server(|_| busy(SERVICE)),
        server(|_| busy(SERVICE.mul_f64(1.05))),
    ];
    let found = runs(20, &servers, Duration::from_secs(15));
    let right = found
        .iter()
        .filter(|report| report.verdict.outcome == Outcome::Slower)
        .count();
    println!("slower: {right} of 20 runs find it");
    for report in &found {
        println!("  {}", report.verdict.words);
    }
}

fn stall() {
    let start = Instant::now();
    let service = move |_| {
        let since = Duration::from_nanos((start.elapsed().as_nanos() % 10_000_000_000) as u64);
        let left = Duration::from_secs(6).saturating_sub(since);
        // The second from 5 to 6.
        if left <= Duration::from_secs(1) {
            thread::sleep(left);
        }
        thread::sleep(SERVICE);
    };
    let address = server(service);
    for (name, scenario, connections, rates) in [
        ("open loop, 500/s", Scenario::Constant, 1024, vec![500]),
        ("closed loop, 1 connection", Scenario::Closed, 1, vec![]),
    ] {
        let report = Bench {
            scenario,
            connections: vec![connections],
            rates: rates.into_iter().filter_map(NonZeroU32::new).collect(),
            ..bench(&[address], Duration::from_secs(40), 1)
        };
        let report = measure(&report);
        let figures = &report.levels[0].figures[0];
        println!(
            "stall, {name}: p50 {:.3} ms, p99 {:.3} ms",
            figures.p50_ms, figures.p99_ms
        );
        for check in &report.checks {
            if check.state != CheckState::Ok {
                println!("  {}: {}", check.name, check.words);
            }
        }
    }
}

/// Equal means, over blocks that are short beside what the longest request takes: nobody is faster.
fn shapes() {
    for (name, shape) in [
        ("exponential", exponential as fn(u64) -> f64),
        ("bimodal", bimodal),
        ("lognormal", lognormal),
    ] {
        // Counted over all connections of all runs: each run has times of its own.
        let requests: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        let services: &'static [Services; 2] = Box::leak(Box::default());
        let servers = [
            server(|_| serve(4 * SERVICE, &services[0])),
            server(move |_| {
                let number = requests.fetch_add(1, Ordering::Relaxed);
                serve((4 * SERVICE).mul_f64(shape(number)), &services[1]);
            }),
        ];
        let run = |seed| {
            measure(&Bench {
                connections: vec![4],
                warm_up_connections: 4,
                ..bench(&servers, Duration::from_secs(6), seed)
            })
        };
        let found: Vec<_> = (0..20).map(run).collect();
        // A sleep takes longer than it was asked for: what was asked for is not what there is to find.
        let [base, other] = [0, 1].map(|version| Served::of(&services[version]).mean_s);
        let truth = base / other;
        let misses = |report: &&Report| {
            let found = report
                .levels
                .first()
                .and_then(|level| level.comparisons.first());
            let found = found.map(|one| one.ratio.estimate);
            found.is_none_or(|found| {
                found.low.is_none_or(|low| low > truth)
                    || found.high.is_none_or(|high| high < truth)
            })
        };
        println!(
            "shapes: constant against {name}: {} of 20 runs name a winner, {} withhold one; the true ratio is {truth:.3}, and {} intervals miss it",
            winners(&found),
            withheld(&found),
            found.iter().filter(misses).count()
        );
        for report in &found {
            println!("  {}", report.verdict.words);
        }
    }
}

/// The time of the request of this number, in means.
fn exponential(number: u64) -> f64 {
    -SplitMix64::new(number).unit().ln()
}

fn bimodal(number: u64) -> f64 {
    if SplitMix64::new(number).unit() <= 0.1 {
        5.5
    } else {
        0.5
    }
}

fn lognormal(number: u64) -> f64 {
    let mut random = SplitMix64::new(number);
    let normal = (-2.0 * random.unit().ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos();
    (normal - 0.5).exp()
}

/// Loads whose theory is known. Theory is asked with the service times as they were.
fn queues() {
    const LANE: Duration = Duration::from_millis(2);
    for (name, lanes, shape) in [
        ("M/M/1", 1, exponential as fn(u64) -> f64),
        ("M/D/1", 1, |_| 1.0),
        ("M/D/4", 4, |_| 1.0),
    ] {
        for percent in [50, 70, 80, 90, 95, 110] {
            let (address, served) = queue(lanes, move |number| LANE.mul_f64(shape(number)));
            // A lane answers 500 a second.
            let rate = percent * 5 * lanes;
            let wanted = f64::from(percent) / 100.0;
            let bench = Bench {
                scenario: Scenario::Server,
                connections: vec![1024],
                rates: NonZeroU32::new(rate).into_iter().collect(),
                ..bench(&[address], Duration::from_secs(30), 1)
            };
            let report = measure(&bench);
            let figures = &report.levels[0].figures[0];
            let found = figures.mean_ms;
            let Served { mean_s, variation } = Served::of(served);
            let load = f64::from(rate) * mean_s / f64::from(lanes);
            let theory = 1e3 * mean_s * (1.0 + wait(lanes, load, variation));
            // The time in an M/M/1 is exponential.
            let p99 = match name {
                "M/M/1" => format!(
                    "p99 {:.2}, {:.2} in theory; ",
                    figures.p99_ms,
                    theory * 100.0_f64.ln()
                ),
                _ => String::new(),
            };
            let settled = report.checks.iter().find(|check| check.name == "settled");
            println!(
                "queues: {name} at {wanted}, in fact {load:.3} (mean {:.2} ms, variation {variation:.2}): mean {found:.2} ms, {theory:.2} \
                 in theory; {p99}{:?}: {}",
                1e3 * mean_s,
                settled.map(|check| check.state),
                settled.map_or("", |check| &check.words)
            );
        }
    }
}

/// The mean wait in service times, by the squared coefficient of variation of these (Pollaczek and Khinchine; of several lanes between that of
/// exponential and of constant ones, Cosmetatos 1976); without an end from a load of 1 on.
fn wait(lanes: u32, load: f64, variation: f64) -> f64 {
    let idle = 1.0 - load;
    if idle <= 0.0 {
        return f64::INFINITY;
    }
    let lanes = f64::from(lanes);
    let offered = lanes * load;
    // Erlang's formula of how likely all are busy.
    let (mut term, mut free) = (1.0, 0.0);
    let mut number = 0.0;
    while number < lanes {
        free += term;
        number += 1.0;
        term *= offered / number;
    }
    let all_busy = term / idle;
    let exponential = all_busy / (free + all_busy) / (lanes * idle);
    let factor =
        1.0 + idle * (lanes - 1.0) * ((4.0 + 5.0 * lanes).sqrt() - 2.0) / (16.0 * lanes * load);
    exponential * (variation + (1.0 - variation) * factor / 2.0)
}

/// Services that were done: how many, and the sums of their times and of the squares, in seconds.
type Services = Mutex<(u32, f64, f64)>;

/// The times of services as they were: a sleep takes longer than it was asked for, on a busy machine by far.
struct Served {
    mean_s: f64,
    /// Variance by the square of the mean.
    variation: f64,
}

impl Served {
    fn of(services: &Services) -> Self {
        let (count, sum, squares) = *services.lock().expect("no thread panics with it");
        let count = f64::from(count.max(1));
        let mean_s = sum / count;
        Self {
            mean_s,
            variation: squares / count / mean_s.powi(2) - 1.0,
        }
    }
}

/// Sleeps, and notes how long it took.
fn serve(time: Duration, services: &Services) {
    let began = Instant::now();
    thread::sleep(time);
    let took = began.elapsed().as_secs_f64();
    let mut services = services.lock().expect("no thread panics with it");
    services.0 += 1;
    services.1 += took;
    services.2 += took.powi(2);
}

/// A server with a queue before so many lanes.
fn queue(
    lanes: u32,
    service: impl Fn(u64) -> Duration + Send + Sync + Copy + 'static,
) -> (SocketAddr, &'static Services) {
    let free: &'static _ = Box::leak(Box::new((
        Mutex::new(lanes),
        Condvar::new(),
        AtomicU64::new(0),
        Services::default(),
    )));
    let (lanes, freed, requests, services) = free;
    let address = server(move |_| {
        // A thread that panics ends its connection, and the run tells of it.
        let mut left = lanes.lock().expect("no thread panics with it");
        while *left == 0 {
            left = freed.wait(left).expect("no thread panics with it");
        }
        *left -= 1;
        drop(left);
        serve(service(requests.fetch_add(1, Ordering::Relaxed)), services);
        *lanes.lock().expect("no thread panics with it") += 1;
        freed.notify_one();
    });
    (address, services)
}

/// Server on the last core, generator on the first.
fn rate() {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (Some(first), Some(last)) = (cores.first(), cores.last()) else {
        return println!("rate: the cores of this machine are not known");
    };
    let address = static_server(*last);
    core_affinity::set_for_current(*first);
    for connections in [8, 32, 64] {
        let closed = Bench {
            connections: vec![connections],
            ..bench(&[address], Duration::from_secs(5), 1)
        };
        let report = measure(&closed);
        let figures = &report.levels[0].figures[0];
        println!(
            "rate, closed loop, {connections} connections: {:.0} answers/s, p50 {:.1} us",
            figures.throughput_per_s.point,
            figures.p50_ms * 1e3
        );
    }
    for scenario in [Scenario::Constant, Scenario::Server] {
        let open = Bench {
            scenario,
            connections: vec![64],
            rates: NonZeroU32::new(20_000).into_iter().collect(),
            ..bench(&[address], Duration::from_secs(6), 1)
        };
        let report = measure(&open);
        let figures = &report.levels[0].figures[0];
        let slip = report.checks.iter().find(|check| check.name == "schedule");
        println!(
            "rate, {scenario:?}, 20,000/s: {:.0} answers/s, {}",
            figures.throughput_per_s.point,
            slip.map_or("", |check| &check.words)
        );
    }
}

fn runs(count: u64, servers: &[SocketAddr], length: Duration) -> Vec<Report> {
    (0..count).map(|seed| run(servers, length, seed)).collect()
}

fn run(servers: &[SocketAddr], length: Duration, seed: u64) -> Report {
    measure(&bench(servers, length, seed))
}

fn measure(bench: &Bench) -> Report {
    let (_stop, stopped) = watch::channel(false);
    bench.run(stopped, |_| {}).expect("the servers answer")
}

fn bench(servers: &[SocketAddr], budget: Duration, seed: u64) -> Bench {
    let inputs: Arc<[Bytes]> = vec![Bytes::from(BODY)].into();
    let subject = |(index, address): (usize, &SocketAddr)| Subject {
        version: Version {
            label: format!("v{}", index + 1),
            what: address.to_string(),
            model_sha256: None,
            url: format!("http://{address}/score"),
            settings: None,
        },
        target: Target::new(*address, "/score").expect("a path"),
        inputs: Arc::clone(&inputs),
        process: None,
        timings: None,
    };
    Bench {
        subjects: servers.iter().enumerate().map(subject).collect(),
        inputs: "one request".to_owned(),
        scenario: Scenario::Closed,
        connections: vec![1],
        warm_up_connections: 1,
        rates: Vec::new(),
        budget,
        target_half_width: None,
        min_difference: None,
        slo: None,
        seed,
        timeout: Duration::from_secs(30),
        tolerance: Tolerance::default(),
        conditions: Vec::new(),
        onnxruntime: None,
    }
}

fn winners(found: &[Report]) -> usize {
    let wins =
        |report: &&Report| matches!(report.verdict.outcome, Outcome::Faster | Outcome::Slower);
    found.iter().filter(wins).count()
}

fn withheld(found: &[Report]) -> usize {
    let withheld = |report: &&Report| report.verdict.outcome == Outcome::Withheld;
    found.iter().filter(withheld).count()
}

fn busy(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Answers every request after `service`, a thread for each connection, until the process ends.
fn server(service: impl Fn(u64) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    start("version", move || {
        for stream in listener.incoming().flatten() {
            start("connection", move || {
                // The client has gone.
                drop(answer_all(stream, service));
            });
        }
    });
    address
}

fn answer_all(mut stream: TcpStream, service: impl Fn(u64)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    let mut have = 0;
    for number in 0.. {
        while !is_whole(&buffer[..have]) {
            match stream.read(&mut buffer[have..])? {
                0 => return Ok(()),
                read => have += read,
            }
        }
        have = 0;
        service(number);
        stream.write_all(ANSWER)?;
    }
    Ok(())
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).expect("a thread starts");
}

/// All requests are the same, so they end alike.
fn is_whole(bytes: &[u8]) -> bool {
    bytes.ends_with(BODY.as_bytes())
}

/// Answers at once, all connections on one thread that never sleeps, on a core of its own.
fn static_server(core: core_affinity::CoreId) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    let ready = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ready);
    start("static", move || {
        core_affinity::set_for_current(core);
        told.store(true, Ordering::Release);
        let mut streams: Vec<TcpStream> = Vec::new();
        let mut buffer = [0; 4096];
        for turn in 0_u64.. {
            if turn % 64 == 0
                && let Ok((stream, _)) = listener.accept()
            {
                let ready = stream
                    .set_nonblocking(true)
                    .and_then(|()| stream.set_nodelay(true));
                streams.extend(ready.ok().map(|()| stream));
            }
            streams.retain_mut(|stream| match stream.read(&mut buffer) {
                Ok(0) => false,
                // Requests are small: each comes whole.
                Ok(_) => stream.write_all(ANSWER).is_ok(),
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            });
        }
    });
    while !ready.load(Ordering::Acquire) {
        thread::yield_now();
    }
    address
}

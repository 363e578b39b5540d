//! Whether the verdicts of `serin bench` hold: `cargo bench --bench verdicts [-- NAME]`.
//!
//! - `same`: one version against itself, 200 short runs: how many name a winner.
//! - `drift`: both versions become 10 % slower over the run: how many of 20 runs name a winner.
//! - `slower`: a version that is 3 % slower: how many of 20 runs of 30 s find it.
//! - `stall`: a server that stands still for 1 s in 10: what the two kinds of loop say of it.
//! - `shapes`: constant service times against exponential, bimodal and lognormal ones of the same mean: how many of 20 runs name a winner,
//!   and how many intervals miss the ratio of the times as they were.
//! - `queues`: M/M/1, M/D/1 and M/D/4 at loads from 0.5 to 1.1: latencies by those of theory, and what the check says of them.
//! - `sustain`: the highest rate that keeps a p99, of six queues for which it is known, 20 runs of a minute each.
//! - `rate`: the most that the generator sends on one core, and how late it is at 20,000 a second.
//!
//! Servers stand in for versions, so that what is to be found is known: each answers after a time that is set, on cores that are
//! busy meanwhile. Not run by the tests: it takes some half an hour, and a quiet machine.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin::bench::{Bench, CheckState, Outcome, Report, Scenario, Subject, Version};
use serin::evidence::{Slo, SplitMix64, Tolerance};
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
    let all: [(&str, fn()); 8] = [
        ("same", same),
        ("drift", drift),
        ("slower", slower),
        ("stall", stall),
        ("shapes", shapes),
        ("queues", queues),
        ("sustain", sustain),
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
    let found = runs(200, &[one, other], Duration::from_secs(3));
    println!(
        "same: {} of 200 runs name a winner, {} withhold one",
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
        server(|_| busy(SERVICE.mul_f64(1.03))),
    ];
    let found = runs(20, &servers, Duration::from_secs(30));
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
        let services: &'static [Times; 2] = Box::leak(Box::default());
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
        let [base, other] = [0, 1].map(|version| services[version].mean_ms());
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

fn constant(_number: u64) -> f64 {
    1.0
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

/// What a server of known latency is: its name, its lanes, and the time of the request of a number, in means.
type Known = (&'static str, u32, fn(u64) -> f64);

/// Mean time of a request in a lane.
const LANE: Duration = Duration::from_millis(2);
/// Requests of which the latencies of theory are made.
const IN_THEORY: u64 = 2_000_000;

/// Loads whose latencies are known.
fn queues() {
    let known: [Known; 3] = [
        ("M/M/1", 1, exponential),
        ("M/D/1", 1, constant),
        ("M/D/4", 4, constant),
    ];
    for (name, lanes, shape) in known {
        for percent in [50, 70, 80, 90, 95, 110] {
            let (address, seen) = queue(lanes, shape);
            // A lane answers 500 a second.
            let rate = percent * 5 * lanes;
            let bench = Bench {
                scenario: Scenario::Server,
                connections: vec![1024],
                rates: NonZeroU32::new(rate).into_iter().collect(),
                ..bench(&[address], Duration::from_secs(30), 1)
            };
            let report = measure(&bench);
            let found = &report.levels[0].figures[0];
            let found = [found.p50_ms, found.p90_ms, found.p99_ms];
            let theory = match percent < 100 {
                true => {
                    let latencies = in_theory(lanes, shape, rate.into());
                    [0.5, 0.9, 0.99].map(|quantile| at(&latencies, quantile))
                }
                false => [f64::INFINITY; 3],
            };
            let told = |times: [f64; 3]| times.map(|time| format!("{time:.2}")).join(", ");
            let settled = report.checks.iter().find(|check| check.name == "settled");
            println!(
                "queues: {name} at {percent} %: p50, p90, p99 {} ms; as served {}, woken {:.2} ms late; in theory {}; {:?}: {}",
                told(found),
                told(seen.served.quantiles_ms()),
                seen.late.mean_ms(),
                told(theory),
                settled.map(|check| check.state),
                settled.map_or("", |check| &check.words)
            );
        }
    }
}

/// The highest rate that keeps a latency, of servers for which it is known: a minute each time, one after the other.
fn sustain() {
    const RUNS: u64 = 20;
    // Of what the lanes can do: what keeps the limit.
    const LOAD: f64 = 0.8;
    let known: [Known; 6] = [
        ("M/M/1", 1, exponential),
        ("M/D/1", 1, constant),
        ("M/bimodal/1", 1, bimodal),
        ("M/lognormal/1", 1, lognormal),
        ("M/D/4", 4, constant),
        ("M/M/4", 4, exponential),
    ];
    let servers = known.map(|(name, lanes, shape)| {
        let truth = LOAD * f64::from(lanes) / LANE.as_secs_f64();
        let limit_ms = at(&in_theory(lanes, shape, truth), 0.99);
        (name, truth, limit_ms, queue(lanes, shape))
    });
    let (mut hold, mut miss, mut unconfirmed) = (0, 0, 0);
    for seed in 0..RUNS {
        for (name, truth, limit_ms, (address, seen)) in &servers {
            let bench = Bench {
                scenario: Scenario::Server,
                connections: vec![1024],
                slo: Some(Slo {
                    quantile: 0.99,
                    // That somebody is woken late is no queue.
                    limit_ms: limit_ms + seen.late.mean_ms(),
                }),
                ..bench(&[*address], Duration::from_secs(60), seed)
            };
            let report = measure(&bench);
            let Some(found) = report.slo.as_ref().and_then(|slo| slo.versions.first()) else {
                continue;
            };
            let is_within = found.passed_per_s.is_none_or(|passed| passed <= *truth)
                && found.failed_per_s.is_none_or(|failed| failed >= *truth);
            let told = match (found.confirmed, is_within) {
                (false, _) => &mut unconfirmed,
                (true, true) => &mut hold,
                (true, false) => &mut miss,
            };
            *told += 1;
            println!(
                "sustain: {name}, p99 of {limit_ms:.2} ms, {truth} in truth: {:?} to {:?}, confirmed: {}, {} tries; {hold} intervals hold the \
                 truth, {miss} miss it, {unconfirmed} are said to be unconfirmed",
                found.passed_per_s.map(f64::round),
                found.failed_per_s.map(f64::round),
                found.confirmed,
                found.probes.len()
            );
        }
    }
}

/// Latencies in milliseconds, sorted, of requests that arrive by chance at a rate.
fn in_theory(lanes: u32, shape: fn(u64) -> f64, rate_per_s: f64) -> Vec<f64> {
    let mut random = SplitMix64::new(7);
    let mut free = vec![0.0_f64; lanes as usize];
    let mut now = 0.0;
    let mut latency = |number: u64| {
        now -= random.unit().ln() / rate_per_s;
        let first = free.iter_mut().min_by(|one, other| one.total_cmp(other));
        let first = first.expect("there is a lane");
        *first = first.max(now) + LANE.as_secs_f64() * shape(number);
        1e3 * (*first - now)
    };
    let mut latencies: Vec<f64> = (0..IN_THEORY).map(&mut latency).collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place within the list"
)]
fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[(sorted.len() as f64 * quantile) as usize]
}

/// Times of one kind as they were, in milliseconds.
#[derive(Default)]
struct Times(Mutex<Vec<f64>>);

impl Times {
    fn note(&self, time: Duration) {
        let mut times = self.0.lock().expect("no thread panics with it");
        times.push(1e3 * time.as_secs_f64());
    }

    fn mean_ms(&self) -> f64 {
        let times = self.0.lock().expect("no thread panics with it");
        times.iter().sum::<f64>() / times.len().max(1) as f64
    }

    /// Half of them, 90 % and 99 % are not longer.
    fn quantiles_ms(&self) -> [f64; 3] {
        let mut times = self.0.lock().expect("no thread panics with it").clone();
        times.sort_by(f64::total_cmp);
        [0.5, 0.9, 0.99].map(|quantile| at(&times, quantile))
    }
}

/// What a server saw of itself.
#[derive(Default)]
struct Seen {
    /// From the arrival of a request to its answer.
    served: Times,
    /// How much of that is because its thread was woken late.
    late: Times,
}

/// A server with a queue before so many lanes. When a request ends is reckoned as it arrives, from the time that its lane is free: what the
/// machine does to a sleep lengthens that one answer, and none behind it.
fn queue(lanes: u32, shape: fn(u64) -> f64) -> (SocketAddr, &'static Seen) {
    let free = vec![Instant::now(); lanes as usize];
    let state: &'static _ = Box::leak(Box::new((Mutex::new((free, 0)), Seen::default())));
    let (free, seen) = state;
    let address = server(move |_| {
        let arrived = Instant::now();
        let end = {
            // A thread that panics ends its connection, and the run tells of it.
            let (free, number) = &mut *free.lock().expect("no thread panics with it");
            let first = free.iter_mut().min().expect("there is a lane");
            *first = (*first).max(arrived) + LANE.mul_f64(shape(*number));
            *number += 1;
            *first
        };
        thread::sleep(end.saturating_duration_since(Instant::now()));
        seen.late.note(end.elapsed());
        seen.served.note(arrived.elapsed());
    });
    (address, seen)
}

/// Sleeps, and notes how long it took: a sleep takes longer than it was asked for, on a busy machine by far.
fn serve(time: Duration, took: &Times) {
    let began = Instant::now();
    thread::sleep(time);
    took.note(began.elapsed());
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

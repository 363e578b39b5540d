//! What grows with what: `cargo bench --bench scale`, or with the names of some tables after `--`.
//!
//! On the real binary: connections, deployments loaded, instances on too few cores, bodies. On simulated machines of up to 128
//! cores, which need none: who gets which cores, the pick of a deployment, admission under contention. Prints Markdown tables;
//! nothing here passes or fails by time.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/integration/support.rs"]
#[expect(dead_code, reason = "the integration tests need more of it")]
mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin::deadline::Deadline;
use serin::engine::{Capacity, CoreMap, Topology};
use serin::load::{Load, Pace, Summary, Target};
use serin::router::AdmissionControl;
use serin::spec::{Picker, TrafficSplit};

use support::{Server, folder, repository};

/// How long the load of a row lasts, after a time in which nothing counts; longer until there are some answers.
const TIME: Duration = Duration::from_secs(3);
const ANSWERS_MIN: u64 = 20;
const WARM_UP: Duration = Duration::from_millis(500);
/// Cores of the simulated machines.
const MACHINES: [usize; 6] = [4, 8, 16, 32, 64, 128];
/// Calls that are timed on a simulated machine.
const CALLS: u64 = 200_000;
/// Settings of a deployment that a bench cannot overload.
const PATIENT: &str =
    "request_settings: {max_concurrent_requests_per_instance: 64, request_timeout_ms: 180000}\n";

/// The tables, by name.
const TABLES: [(&str, fn()); 7] = [
    ("connections", connections),
    ("deployments", deployments),
    ("instances", instances),
    ("bodies", bodies),
    ("placement", placement),
    ("pick", pick),
    ("admission", admission),
];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for (name, table) in TABLES {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            table();
            println!();
        }
    }
}

/// One small model, from 1 to 64 clients.
fn connections() {
    println!("| connections | requests/s | p50 | p99 | failed |\n|--:|--:|--:|--:|--:|");
    let data = folder();
    let server = serving(data.path());
    deploy(&server, "blue", PATIENT);
    server.update("iris", &["--traffic", "blue=100"]);
    for connections in [1, 2, 4, 8, 16, 32, 64] {
        println!(
            "| {connections} | {} |",
            loaded(&server, connections, &sample())
        );
    }
}

/// Up to 200 deployments in memory, of which one is asked.
fn deployments() {
    println!(
        "| deployments | memory | last one deployed in | requests/s | p50 | p99 | failed |\n|--:|--:|--:|--:|--:|--:|--:|"
    );
    let data = folder();
    let server = serving(data.path());
    let mut made = 0;
    for wanted in [1, 10, 50, 200] {
        let mut took = Duration::ZERO;
        for number in made..wanted {
            let begun = Instant::now();
            deploy(&server, &format!("d{number:03}"), PATIENT);
            took = begun.elapsed();
        }
        if made == 0 {
            server.update("iris", &["--traffic", "d000=100"]);
        }
        made = wanted;
        println!(
            "| {made} | {} MB | {took:.0?} | {} |",
            memory_mb(&server),
            loaded(&server, 8, &sample())
        );
    }
}

/// Up to 64 instances of two cores each, on the cores that there are.
fn instances() {
    println!("| instances | memory | requests/s | p50 | p99 | failed |\n|--:|--:|--:|--:|--:|--:|");
    let data = folder();
    let server = serving(data.path());
    deploy(&server, "blue", PATIENT);
    server.update("iris", &["--traffic", "blue=100"]);
    for count in [1, 2, 4, 16, 32, 64] {
        // One deployment has at most 50.
        let each = if count > 32 { count / 2 } else { count };
        if each < count {
            deploy(
                &server,
                "green",
                &format!("instance_count: {each}\n{PATIENT}"),
            );
            server.update("iris", &["--traffic", "blue=50 green=50"]);
        }
        let count_of_blue = each.to_string();
        server.update(
            "iris",
            &["--deployment", "blue", "--instance-count", &count_of_blue],
        );
        println!(
            "| {count} | {} MB | {} |",
            memory_mb(&server),
            loaded(&server, 16, &sample())
        );
    }
}

/// From one row of numbers to 16 MB of them.
fn bodies() {
    println!("| body | requests/s | p50 | p99 | failed |\n|--:|--:|--:|--:|--:|");
    let data = folder();
    let server = serving(data.path());
    deploy(&server, "blue", PATIENT);
    server.update("iris", &["--traffic", "blue=100"]);
    let row = format!("{:?}", [7; 64]);
    for kilobytes in [1, 16, 256, 1024, 4096, 16384] {
        let rows = (kilobytes * 1024_usize).div_ceil(row.len() + 2);
        let body = format!("{{\"data\": [{}]}}", vec![row.as_str(); rows].join(", "));
        println!(
            "| {} kB | {} |",
            body.len() / 1024,
            loaded(&server, 2, &body)
        );
    }
}

/// Instances of 4 vCPUs until every core is had four times, and back.
fn placement() {
    println!(
        "| cores | instances | grant | release | fewest and most instances of a core |\n|--:|--:|--:|--:|--:|"
    );
    for cores in MACHINES {
        let allowed: Vec<usize> = (0..cores).collect();
        let siblings = |core| vec![core % (cores / 2), core % (cores / 2) + cores / 2];
        let topology = Topology::new(&allowed, siblings, None);
        let mut map = CoreMap::new(topology, Capacity::Overcommit);
        let begun = Instant::now();
        let grants: Vec<_> = (0..cores)
            .map(|_| map.grant(4).expect("cores are shared"))
            .collect();
        let granted = begun.elapsed() / u32::try_from(cores).expect("few cores");
        let mut users = BTreeMap::new();
        for core in grants.iter().flat_map(|grant| &grant.cores) {
            *users.entry(*core).or_insert(0) += 1;
        }
        let begun = Instant::now();
        for grant in &grants {
            map.release(grant);
        }
        let released = begun.elapsed() / u32::try_from(cores).expect("few cores");
        let (fewest, most) = (users.values().min(), users.values().max());
        println!(
            "| {cores} | {} | {granted:.1?} | {released:.1?} | {} and {} |",
            grants.len(),
            fewest.expect("there are cores"),
            most.expect("there are cores")
        );
    }
}

/// As many edge threads as a machine could have, all of which draw tickets of one split.
fn pick() {
    println!("| threads | picks a second, all together | exact |\n|--:|--:|--:|");
    let split: TrafficSplit = "blue:90,green:10".parse().expect("a split");
    for threads in MACHINES {
        let picker = Picker::new(&split, 0x5eed);
        let (tickets, tenth) = (AtomicU64::new(0), AtomicU64::new(0));
        let each = CALLS / threads as u64 / 100 * 100;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let green = (0..each)
                        .filter(|_| {
                            let ticket = tickets.fetch_add(1, Ordering::Relaxed);
                            black_box(picker.pick(ticket)) == Some(1)
                        })
                        .count();
                    tenth.fetch_add(green as u64, Ordering::Relaxed);
                });
            }
        });
        let all = each * threads as u64;
        let exact = tenth.load(Ordering::Relaxed) * 10 == all;
        println!(
            "| {threads} | {:.1} million | {exact} |",
            all as f64 / begun.elapsed().as_secs_f64() / 1e6
        );
    }
}

/// A deployment with a slot for each core, asked for twice as many at once.
fn admission() {
    println!("| slots | tasks | admitted a second | refused |\n|--:|--:|--:|--:|");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    for slots in MACHINES {
        let admission = AdmissionControl::new(slots);
        let refused = Arc::new(AtomicU64::new(0));
        let tasks = slots * 2;
        let each = CALLS / tasks as u64;
        let begun = Instant::now();
        runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..tasks {
                let (admission, refused) = (Arc::clone(&admission), Arc::clone(&refused));
                running.spawn(async move {
                    for _ in 0..each {
                        let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
                        match admission.admit(deadline).await {
                            // Held while others run, so that they have to wait.
                            Ok(_permit) => tokio::task::yield_now().await,
                            Err(_) => _ = refused.fetch_add(1, Ordering::Relaxed),
                        }
                    }
                });
            }
            running.join_all().await;
        });
        let all = each * tasks as u64;
        println!(
            "| {slots} | {tasks} | {:.0} thousand | {} |",
            all as f64 / begun.elapsed().as_secs_f64() / 1e3,
            refused.load(Ordering::Relaxed)
        );
    }
}

/// A server with an endpoint `iris` and the digits model.
fn serving(data: &std::path::Path) -> Server {
    let server = Server::start(data);
    server.create_endpoint("iris");
    server.register("digits", "1", "models/digits/1").ok();
    server
}

fn deploy(server: &Server, name: &str, more: &str) {
    server
        .create_deployment(name, "azureml:digits:1", more)
        .ok();
}

/// Loads the endpoint with so many clients, each of which sends when it has its answer: `requests/s | p50 | p99 | failed`.
fn loaded(server: &Server, connections: usize, body: &str) -> String {
    let address = server.scoring.strip_prefix("http://").map(str::parse);
    let target = Target::new(
        address.expect("an address").expect("an address"),
        "/endpoints/iris/score",
    )
    .and_then(|target| target.with_bearer(&server.key("iris")))
    .expect("a target");
    let seen = Arc::new(Mutex::new(Summary::new()));
    let body = Bytes::copy_from_slice(body.as_bytes());
    let begin = Instant::now() + WARM_UP;
    let load = Load {
        target,
        connections,
        timeout: Duration::from_secs(180),
        pace: Pace::Closed { requests: None },
        bodies: Arc::new(move |_| body.clone()),
        on_sample: {
            let seen = Arc::clone(&seen);
            Arc::new(move |sample| {
                if sample.done >= begin {
                    seen.lock().expect("no sender panicked").record(&sample);
                }
            })
        },
    };
    let running = load.start().expect("the load starts");
    std::thread::sleep(WARM_UP + TIME);
    while seen.lock().expect("no sender panicked").count() < ANSWERS_MIN {
        std::thread::sleep(TIME / 10);
    }
    // What is answered after the end of the load does not count.
    let time = begin.elapsed();
    let seen = seen.lock().expect("no sender panicked").clone();
    running.stop();
    _ = running.finish();
    format!(
        "{:.0} | {:.2?} | {:.2?} | {}",
        seen.count() as f64 / time.as_secs_f64(),
        seen.p50(),
        seen.p99(),
        seen.failures()
    )
}

/// Memory that the server has of the machine.
fn memory_mb(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the server runs");
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kilobytes.expect("the kernel tells") / 1000
}

fn sample() -> String {
    std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request")
}

//! What is left of a server when more is asked of it than it can do: a part of `figures`.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin::load::{Arrivals, Load, Pace, Sample, Summary, Target};

use crate::support::{self, Server, agent, folder};
use crate::{TINY, row};

/// Connections of a closed loop; the first are what the others are held against.
const CLOSED: [usize; 5] = [2, 8, 64, 256, 1000];
/// Requests in an open loop, as a multiple of what two connections get.
const OVERLOAD: u32 = 10;
/// Connections over which they come.
const OPEN_CONNECTIONS: usize = 64;
/// How long each is measured, after a time in which nothing counts.
const WINDOW: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
/// Pause between two looks at health, and at what administration says.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// The time that a run of the slower model is to take.
const SLOW_RUN: Duration = Duration::from_millis(10);
const ONE_SLOT: &str = "request_settings: {max_concurrent_requests_per_instance: 1}\n";

/// A tiny model with one slot, and one whose runs take 10 ms, asked for more and more.
pub(crate) fn overload() {
    let model = folder();
    TINY.write(model.path());
    let tiny = model.path().to_str().expect("UTF-8");
    let slow = support::model("models/test/slow.onnx");
    for threads in ["1", "2"] {
        let data = folder();
        let server = Server::start_with(data.path(), &["--edge-threads", threads]);
        server.create_endpoint("iris");
        server.create_deployment("blue", tiny, ONE_SLOT).ok();
        server.create_deployment("green", &slow, ONE_SLOT).ok();
        let what = |model: &str| format!("{model}, 1 slot, {threads} I/O threads");
        server.update("iris", &["--traffic", "blue=100"]);
        over(&server, &what("a tiny model"), &TINY.request());
        server.update("iris", &["--traffic", "blue=0 green=100"]);
        over(&server, &what("a model of 10 ms"), &slow_request(&server));
    }
}

/// The request whose run takes about [`SLOW_RUN`].
fn slow_request(server: &Server) -> String {
    let key = server.key("iris");
    let request = |steps: f64| format!("{{\"data\": [{steps:.0}]}}");
    let time = |steps: f64| {
        let begun = Instant::now();
        let answer = server.score("iris", &key, None, &request(steps));
        assert_eq!(answer.status, 200, "{}", answer.body);
        begun.elapsed()
    };
    let mut steps = 1000.0;
    while time(steps) < SLOW_RUN {
        steps *= 2.0;
    }
    let least = (0..10).map(|_| time(steps)).min().expect("several");
    request(steps * SLOW_RUN.as_secs_f64() / least.as_secs_f64())
}

/// Rows of one model: closed loops, then more than it can do.
fn over(server: &Server, what: &str, body: &str) {
    let mut of_two = None;
    for connections in CLOSED {
        let pace = Pace::Closed { requests: None };
        let seen = measure(server, (connections, pace), body);
        let of_two = *of_two.get_or_insert(seen.goodput());
        row(
            &format!("{what}, {connections} connections in a closed loop"),
            &seen.words(of_two),
        );
    }
    let of_two = of_two.expect("measured");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "requests a second"
    )]
    let rate = NonZeroU32::new(of_two as u32 * OVERLOAD).expect("some were answered");
    let pace = Pace::Open(Box::new(Arrivals::constant(rate).until(WARM_UP + WINDOW)));
    let seen = measure(server, (OPEN_CONNECTIONS, pace), body);
    row(
        &format!("{what}, {rate} requests a second over {OPEN_CONNECTIONS} connections"),
        &seen.words(of_two),
    );
}

/// Replies of a window, and how long health and administration took meanwhile.
struct Seen {
    answered: Summary,
    shed: Summary,
    failed: u64,
    window: Duration,
    health: Summary,
    administration: Summary,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            answered: Summary::new(),
            shed: Summary::new(),
            failed: 0,
            window: Duration::ZERO,
            health: Summary::new(),
            administration: Summary::new(),
        }
    }

    /// Counts a reply by the time since its request was sent: the wait for a connection is the generator's.
    fn record(&mut self, sample: &Sample) {
        let took = sample.done.saturating_duration_since(sample.sent);
        match sample.reply.as_ref().map(|reply| reply.status) {
            Ok(200) => self.answered.record_latency(took, true),
            Ok(429) => self.shed.record_latency(took, true),
            _ => self.failed += 1,
        }
    }

    /// Good answers a second.
    fn goodput(&self) -> f64 {
        per_s(self.answered.count(), self.window)
    }

    fn words(&self, of_two: f64) -> String {
        format!(
            "{:.0} answers/s, {:.2} of that of 2 connections, p99 {:.2?}; {:.0} refusals/s, p99 {:.2?}; {} failed; p99 of health {:.2?}, \
             of administration {:.2?}",
            self.goodput(),
            self.goodput() / of_two,
            self.answered.p99(),
            per_s(self.shed.count(), self.window),
            self.shed.p99(),
            self.failed,
            self.health.p99(),
            self.administration.p99(),
        )
    }
}

fn per_s(count: u64, window: Duration) -> f64 {
    f64::from(u32::try_from(count).expect("requests of a window")) / window.as_secs_f64()
}

fn measure(server: &Server, (connections, pace): (usize, Pace), body: &str) -> Seen {
    let seen = Arc::new(Mutex::new(None::<Seen>));
    let body = Bytes::from(body.to_owned());
    let load = Load {
        target: target(server),
        connections,
        timeout: Duration::from_secs(10),
        pace,
        bodies: Arc::new(move |_| body.clone()),
        on_sample: {
            let seen = Arc::clone(&seen);
            Arc::new(move |sample| {
                if let Some(seen) = &mut *seen.lock().expect("nobody panicked") {
                    seen.record(&sample);
                }
            })
        },
    };
    let running = load.start().expect("the load starts");
    std::thread::sleep(WARM_UP);
    let looks = Looks::start(server);
    let begun = Instant::now();
    *seen.lock().expect("nobody panicked") = Some(Seen::nothing());
    std::thread::sleep(WINDOW);
    let mut seen = seen.lock().expect("nobody panicked").take();
    let mut seen = seen.take().expect("begun");
    seen.window = begun.elapsed();
    [seen.health, seen.administration] = looks.stop();
    drop(running);
    seen
}

fn target(server: &Server) -> Target {
    let address = server.scoring.strip_prefix("http://").expect("an address");
    let address = address.parse().expect("an address");
    Target::new(address, "/endpoints/iris/score")
        .and_then(|target| target.with_bearer(&server.key("iris")))
        .expect("a target")
}

/// Threads that ask for health and for the metrics, each over a connection of its own, again and again.
struct Looks {
    stop: Arc<AtomicBool>,
    threads: [std::thread::JoinHandle<Summary>; 2],
}

impl Looks {
    fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let look = |name: &str, uri: String| {
            let stop = Arc::clone(&stop);
            let thread = std::thread::Builder::new().name(name.to_owned());
            let looking = thread.spawn(move || {
                let (agent, mut times) = (agent(), Summary::new());
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = agent.get(&uri).call().expect("an answer");
                    assert_eq!(answer.status(), 200);
                    drop(support::Answer::read(answer));
                    times.record_latency(begun.elapsed(), true);
                    std::thread::sleep(LOOK_PAUSE);
                }
                times
            });
            looking.expect("a thread starts")
        };
        let threads = [
            look("health", format!("{}/health/live", server.scoring)),
            look("metrics", format!("{}/metrics", server.admin)),
        ];
        Self { stop, threads }
    }

    fn stop(self) -> [Summary; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .map(|thread| thread.join().expect("it has ended well"))
    }
}

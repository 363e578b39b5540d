//! One stretch of load on one version.
//!
//! Latencies are of all requests that count, whenever they were answered: the longest would be missing else. A closed loop goes on
//! until those that were under way at the end of its block are answered, under the load that they were sent in. Which requests count
//! is said in `seen`.

use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::bench::deck::Dealt;
use crate::bench::report::Scenario;
use crate::bench::seen::{LEFT_OUT, Measured, Seen, Window, is_full, told};
use crate::bench::slo::Probe;
use crate::budget::{Budget, Over};
use crate::evidence::{ProbeOutcome, Slo, kept};
use crate::load::{Arrivals, Load, Pace, RunningLoad, Sample, Summary};
use crate::observe::Process;

/// Longest that the requests of an open loop may take to end after the last one was due, beyond the time limit of one.
const DRAIN: Duration = Duration::from_secs(1);
/// The time between two looks at a probe.
const LOOK: Duration = Duration::from_millis(5);
/// From one look at the proof of a try to the next: a look costs time that grows with the try.
pub(super) const NEXT_LOOK: f64 = 1.25;
/// The share of requests whose wait is so long that no rate is kept.
const FAR: f64 = 1e-6;
/// Times that a version is asked at the end whether it still answers: the first may meet a connection that was just closed.
const ALIVE_TRIES: u32 = 3;
/// The time between two looks at the end of a block.
const END_LOOK: Duration = Duration::from_millis(1);

/// An amount of load, and its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LoadPoint {
    pub(super) scenario: Scenario,
    pub(super) connections: usize,
    /// Requests a second, in an open loop.
    pub(super) rate: Option<NonZeroU32>,
}

/// The parts that all blocks of a run share.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) timeout: Duration,
    pub(super) budget: Budget,
}

/// One try of a rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    pub(super) slo: Slo,
    /// It is not decided before: a queue that grows must have had the time to show.
    pub(super) least: Duration,
    /// It is not tried for longer.
    pub(super) most: Duration,
    pub(super) seed: u64,
}

/// The outcome of a try.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    pub(super) probe: Probe,
    /// The lateness of the generator.
    pub(super) slips: Summary,
}

/// The answers to every input, as far as there are any.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Of the answers with 2xx, in the order of the deck; as many as were asked for.
    pub(super) bodies: Vec<Option<Bytes>>,
    /// The first failure, in words.
    pub(super) failure: Option<String>,
    /// Whether the server refused an input with 429.
    was_full: bool,
}

/// The reason why a block did not run to its end.
#[derive(Debug)]
pub(super) enum Broken {
    Over(Over),
    Threads(io::Error),
}

impl From<Over> for Broken {
    fn from(over: Over) -> Self {
        Self::Over(over)
    }
}

impl LoadPoint {
    pub(super) fn words(&self) -> String {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        match (self.scenario, self.rate) {
            (Scenario::MultiStream, _) => format!("{} requests at a time", self.connections),
            (_, Some(rate)) => format!("{rate} requests/s"),
            (_, None) => format!(
                "{} connection{}",
                self.connections,
                plural(self.connections)
            ),
        }
    }

    /// For an axis.
    pub(super) fn number(&self) -> f64 {
        self.rate
            .map_or(self.connections as f64, |rate| f64::from(rate.get()))
    }

    /// Requests of one query.
    pub(super) fn per_query(&self) -> u64 {
        match self.scenario {
            Scenario::MultiStream => self.connections as u64,
            _ => 1,
        }
    }

    /// The part of a load from `start` that counts.
    fn window(&self, start: Instant, length: Duration, seed: u64) -> Window {
        match (self.rate, self.scenario) {
            (Some(rate), _) => {
                let left_out = self.arrivals(rate, length.mul_f64(LEFT_OUT), seed).count();
                Window::open(start, length, left_out as u64)
            }
            (None, Scenario::MultiStream) => Window::closed(start, length, 1, self.per_query()),
            (None, _) => Window::closed(start, length, self.connections, 1),
        }
    }

    fn arrivals(
        &self,
        rate: NonZeroU32,
        duration: Duration,
        seed: u64,
    ) -> Box<dyn Iterator<Item = Duration> + Send> {
        let arrivals = match self.scenario {
            Scenario::Server => Arrivals::poisson(rate, seed),
            _ => Arrivals::constant(rate),
        };
        Box::new(arrivals.until(duration))
    }

    fn pace(&self, duration: Duration, seed: u64) -> Pace {
        match (self.scenario, self.rate) {
            (_, Some(rate)) => Pace::Open(self.arrivals(rate, duration, seed)),
            (Scenario::MultiStream, None) => Pace::Together,
            (_, None) => Pace::Closed { requests: None },
        }
    }
}

impl Blocks {
    /// Loads a version for some time.
    pub(super) fn measure(
        &self,
        dealt: Dealt<'_>,
        load: &LoadPoint,
        duration: Duration,
        seed: u64,
    ) -> Result<Measured, Broken> {
        let subject = dealt.subject;
        let reset = subject.process.is_some_and(Process::reset_peak);
        let cpu = || subject.process.and_then(Process::cpu);
        let (cpu_before, own_before) = (cpu(), own_cpu());
        let started = Instant::now();
        let window = load.window(started, duration, seed);
        let pace = load.pace(duration, seed);
        let (running, seen) = self
            .start(dealt, load, pace, window)
            .map_err(Broken::Threads)?;
        self.budget.sleep(duration)?;
        match load.rate {
            Some(_) => self.drain(&running)?,
            None => self.finish_cycles(&running, &seen)?,
        }
        let unsent = running.finish();
        // A closed loop always leaves requests behind that it would have sent.
        let unsent = if load.rate.is_some() { unsent } else { 0 };
        let used = |before: Option<Duration>, after: Option<Duration>| {
            Some(after?.saturating_sub(before?))
        };
        let seen = std::mem::take(&mut *lock(&seen));
        Ok(Measured {
            elapsed: match load.rate {
                Some(_) => window.length(),
                None => seen.cycles(),
            },
            took: started.elapsed(),
            rate: load.rate,
            unsent,
            cpu: used(cpu_before, cpu()),
            own_cpu: used(own_before, own_cpu()),
            peak_rss_mb: subject
                .process
                .filter(|_| reset)
                .and_then(Process::peak_rss_mb),
            seen,
        })
    }

    fn start(
        &self,
        dealt: Dealt<'_>,
        load: &LoadPoint,
        pace: Pace,
        window: Window,
    ) -> io::Result<(RunningLoad, Arc<Mutex<Seen>>)> {
        let seen = Arc::new(Mutex::new(Seen::of_inputs(dealt.deck.len())));
        let running = self
            .load(dealt, load, pace, {
                let seen = Arc::clone(&seen);
                move |sample| lock(&seen).record(&sample, &window)
            })
            .start()?;
        Ok((running, seen))
    }

    fn load(
        &self,
        dealt: Dealt<'_>,
        load: &LoadPoint,
        pace: Pace,
        on_sample: impl Fn(Sample) + Send + Sync + 'static,
    ) -> Load {
        let (deck, first) = (dealt.deck.clone(), dealt.place);
        Load {
            target: dealt.subject.target.clone(),
            connections: load.connections,
            timeout: self.timeout,
            pace,
            bodies: Arc::new(move |index| deck.body(first + index)),
            on_sample: Arc::new(on_sample),
        }
    }

    /// Goes on until what was under way at the end of a closed loop is answered: a server that works on all at once would do it sooner
    /// if nothing more came.
    fn finish_cycles(&self, running: &RunningLoad, seen: &Mutex<Seen>) -> Result<(), Over> {
        while !running.has_finished() && !lock(seen).has_ended() {
            self.budget.sleep(END_LOOK)?;
        }
        running.stop();
        Ok(())
    }

    /// Waits for the answers that an open loop still has to get.
    fn drain(&self, running: &RunningLoad) -> Result<(), Over> {
        let ends = Instant::now() + self.timeout + DRAIN;
        while !running.has_finished() && Instant::now() < ends {
            self.budget.sleep(LOOK)?;
        }
        running.stop();
        Ok(())
    }

    /// Asks for every input once, or for as many as the time allows; when the server was full meanwhile, once more and one by one.
    pub(super) fn answers(
        &self,
        dealt: Dealt<'_>,
        connections: usize,
        time: Duration,
    ) -> Result<Asked, Broken> {
        let asked = self.answers_once(dealt, connections, time)?;
        match asked.was_full && connections > 1 {
            true => self.answers_once(dealt, 1, time),
            false => Ok(asked),
        }
    }

    /// Whether a version still answers anything: the words for what came instead where it does not, asked a few times.
    pub(super) fn silence(&self, dealt: Dealt<'_>) -> Result<Option<String>, Broken> {
        for _ in 1..ALIVE_TRIES {
            if self.silence_once(dealt)?.is_none() {
                return Ok(None);
            }
        }
        self.silence_once(dealt)
    }

    fn silence_once(&self, dealt: Dealt<'_>) -> Result<Option<String>, Broken> {
        let load = LoadPoint {
            scenario: Scenario::Closed,
            connections: 1,
            rate: None,
        };
        let pace = Pace::Closed { requests: Some(1) };
        let heard = Arc::new(Mutex::new(None));
        let running = self
            .load(dealt, &load, pace, {
                let heard = Arc::clone(&heard);
                move |sample: Sample| {
                    let words = sample.reply.is_err().then(|| told(&sample.reply));
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = words;
                }
            })
            .start()
            .map_err(Broken::Threads)?;
        while !running.has_finished() {
            self.budget.sleep(LOOK)?;
        }
        _ = running.finish();
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(heard.take())
    }

    fn answers_once(
        &self,
        dealt: Dealt<'_>,
        connections: usize,
        time: Duration,
    ) -> Result<Asked, Broken> {
        let count = dealt.deck.len();
        let got = Arc::new(Mutex::new(Asked::default()));
        let load = LoadPoint {
            scenario: Scenario::Closed,
            connections: connections.min(count),
            rate: None,
        };
        let pace = Pace::Closed {
            requests: Some(count as u64),
        };
        let running = self
            .load(dealt, &load, pace, {
                let got = Arc::clone(&got);
                move |sample: Sample| {
                    let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
                    let index = usize::try_from(sample.index).unwrap_or(usize::MAX);
                    let asked = got.bodies.len().max(index + 1);
                    got.bodies.resize(asked, None);
                    match (sample.is_ok(), sample.reply) {
                        (true, Ok(reply)) => got.bodies[index] = Some(reply.body),
                        (_, reply) => {
                            got.was_full |= is_full(&reply);
                            got.failure.get_or_insert_with(|| told(&reply));
                        }
                    }
                }
            })
            .start()
            .map_err(Broken::Threads)?;
        let ends = Instant::now() + time;
        while !running.has_finished() {
            self.budget.sleep(LOOK)?;
            if Instant::now() > ends {
                running.stop();
            }
        }
        _ = running.finish();
        let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *got))
    }

    /// Sends at a rate until it is decided whether it keeps a latency.
    pub(super) fn probe(
        &self,
        dealt: Dealt<'_>,
        load: &LoadPoint,
        one: &Try,
    ) -> Result<Probed, Broken> {
        let tried = Arc::new(Mutex::new(Tried::new(one.slo)));
        let started = Instant::now();
        let running = self
            .load(dealt, load, load.pace(one.most, one.seed), {
                let tried = Arc::clone(&tried);
                move |sample: Sample| {
                    let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
                    tried.add(&sample);
                }
            })
            .start()
            .map_err(Broken::Threads)?;
        let behind = load.number() * far(one.slo).as_secs_f64() + load.connections as f64;
        let mut next_look = one.least;
        loop {
            self.budget.sleep(LOOK)?;
            let ended = running.has_finished();
            let elapsed = started.elapsed();
            let over = ended || elapsed > one.most + self.timeout;
            let is_behind = elapsed >= one.least && running.waiting() as f64 > behind;
            if !over && !is_behind && elapsed < next_look {
                continue;
            }
            next_look = elapsed.mul_f64(NEXT_LOOK);
            let tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
            let latencies = tried.latencies(Instant::now(), over);
            let found = match is_behind {
                true => Some(ProbeOutcome::Failed),
                false => kept(one.slo, &latencies),
            };
            if let Some(outcome) = found.or(over.then_some(ProbeOutcome::Undecided)) {
                let late = latencies
                    .iter()
                    .filter(|one_ms| **one_ms > one.slo.limit_ms);
                return Ok(Probed {
                    probe: Probe {
                        rate_per_s: load.number(),
                        requests: latencies.len() as u64,
                        over: late.count() as u64,
                        took_s: elapsed.as_secs_f64(),
                        outcome,
                    },
                    slips: tried.slips.clone(),
                });
            }
        }
    }
}

/// The wait that no queue of a rate that is kept comes to, of a million requests at most one: a tail falls by as much as one limit leaves
/// over with every limit more.
pub(super) fn far(slo: Slo) -> Duration {
    let limits = FAR.ln() / (1.0 - slo.quantile).ln();
    Duration::from_secs_f64(slo.limit_ms / 1e3).mul_f64(limits.clamp(2.0, 1e4))
}

/// The requests of a try so far.
#[derive(Debug)]
struct Tried {
    limit: Duration,
    /// Of each request, by its number, when it was due and its latency in milliseconds; none while it is under way.
    requests: Vec<Option<(Instant, f64)>>,
    slips: Summary,
}

impl Tried {
    fn new(slo: Slo) -> Self {
        Self {
            limit: Duration::from_secs_f64(slo.limit_ms / 1e3),
            requests: Vec::new(),
            slips: Summary::new(),
        }
    }

    fn add(&mut self, sample: &Sample) {
        let index = usize::try_from(sample.index).unwrap_or(usize::MAX);
        if index >= self.requests.len() {
            self.requests.resize(index + 1, None);
        }
        let latency_ms = match sample.is_ok() {
            true => sample.latency().as_secs_f64() * 1e3,
            false => f64::INFINITY,
        };
        self.requests[index] = Some((sample.scheduled, latency_ms));
        self.slips.record_latency(sample.slip, true);
    }

    /// The latencies in order, as far as all are known to be within the limit or over it: one that is under way and was due longer ago is
    /// over it. When all is over, of those that were sent.
    fn latencies(&self, now: Instant, all: bool) -> Vec<f64> {
        let is_known = |request: &Option<(Instant, f64)>| {
            request.is_some_and(|(due, _)| all || now.saturating_duration_since(due) > self.limit)
        };
        let known = self.requests.iter().rposition(is_known);
        let known = known.map_or(0, |last| last + 1);
        let latency = |request: &Option<(Instant, f64)>| match request {
            Some((_, latency_ms)) => *latency_ms,
            None => f64::INFINITY,
        };
        self.requests[..known].iter().map(latency).collect()
    }
}

/// Processor time of this process, with that of threads that have ended: the one that generated the load has.
fn own_cpu() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}

/// The whole number of requests a second that is nearest, at least one.
pub(super) fn whole_rate(per_s: f64) -> NonZeroU32 {
    /// More than any one thread sends.
    const RATE_MAX: f64 = 1e9;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the bounds of the type"
    )]
    let rounded = per_s.round().clamp(1.0, RATE_MAX) as u32;
    NonZeroU32::new(rounded).unwrap_or(NonZeroU32::MIN)
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Numbers are whole after each line that changes them.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use tokio::sync::watch;

    use super::*;
    use crate::bench::checks::checks;
    use crate::bench::deck::Deck;
    use crate::bench::environment::Before;
    use crate::bench::figures::Done;
    use crate::bench::report::{CheckState, Phase, Version};
    use crate::bench::subject::Subject;
    use crate::load::Target;

    /// The behaviour of a server towards the request of this number.
    type Does = fn(u64, &mut TcpStream);

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const FULL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}";
    /// The time for which the server stands still once.
    const STALL: Duration = Duration::from_millis(300);

    /// A server with a thread for each connection; they end with their clients.
    fn server(does: Does) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicU64::new(0));
        named(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                named(move || serve(stream, &count, does));
            }
        });
        address
    }

    fn named(body: impl FnOnce() + Send + 'static) {
        drop(
            thread::Builder::new()
                .name("fake".into())
                .spawn(body)
                .unwrap(),
        );
    }

    fn serve(stream: TcpStream, count: &AtomicU64, does: Does) {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut answers = stream;
        loop {
            let mut length = 0;
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if lines.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(found) = line.to_lowercase().strip_prefix("content-length:") {
                    length = found.trim().parse().unwrap();
                }
            }
            if lines.read_exact(&mut vec![0; length]).is_err() {
                return;
            }
            does(count.fetch_add(1, Ordering::SeqCst), &mut answers);
        }
    }

    fn subject(address: SocketAddr) -> Subject {
        Subject {
            version: Version {
                label: "fake".to_owned(),
                what: "fake".to_owned(),
                model_sha256: None,
                url: format!("http://{address}/score"),
                settings: None,
            },
            target: Target::new(address, "/score").unwrap(),
            inputs: Arc::from([Bytes::from_static(b"{}")]),
            process: None,
            timings: None,
        }
    }

    fn blocks(timeout: Duration) -> Blocks {
        Blocks {
            timeout,
            budget: Budget::start(Duration::ZERO, watch::channel(false).1).unwrap(),
        }
    }

    fn load(scenario: Scenario, rate: Option<u32>) -> LoadPoint {
        LoadPoint {
            scenario,
            connections: 1,
            rate: rate.and_then(NonZeroU32::new),
        }
    }

    fn measured(does: Does, load: LoadPoint) -> Measured {
        let subject = subject(server(does));
        let deck = Deck::new(&subject.inputs, 1);
        blocks(Duration::from_secs(30))
            .measure(dealt(&subject, &deck), &load, Duration::from_secs(1), 1)
            .unwrap()
    }

    fn dealt<'a>(subject: &'a Subject, deck: &'a Deck) -> Dealt<'a> {
        Dealt {
            subject,
            deck,
            place: 0,
        }
    }

    fn answers(subject: &Subject, timeout: Duration) -> Asked {
        let deck = Deck::new(&subject.inputs, 1);
        blocks(timeout)
            .answers(dealt(subject, &deck), 4, Duration::from_secs(60))
            .unwrap()
    }

    fn stalls_once(number: u64, answers: &mut TcpStream) {
        if number == 40 {
            thread::sleep(STALL);
        }
        drop(answers.write_all(OK));
    }

    #[test]
    fn a_server_that_stalls_is_in_the_tail_of_an_open_loop() {
        let measured = measured(stalls_once, load(Scenario::Constant, Some(100)));
        let seen = measured.seen;
        // A quarter of the block is left out.
        assert_eq!((seen.answers, seen.failures, measured.unsent), (75, 0, 0));
        // 30 requests were due while it stood still: they waited for most of it, on average for half of it.
        assert!(
            seen.latencies.p99() >= STALL * 9 / 10,
            "{:?}",
            seen.latencies
        );
        assert!(seen.latencies.p90() >= STALL / 2, "{:?}", seen.latencies);
    }

    #[test]
    fn a_server_that_stalls_is_told_of_in_a_closed_loop() {
        // However fast the machine is, one of them is after what is left out.
        let stalls_at_every_tenth = |number: u64, answers: &mut TcpStream| {
            if number % 10 == 9 {
                thread::sleep(STALL);
            }
            drop(answers.write_all(OK));
        };
        let mut measured = measured(stalls_at_every_tenth, load(Scenario::Closed, None));
        assert!(measured.seen.latencies.max() >= STALL);
        // It is one answer of many, so that the p99 hardly shows it: a warning does. How quick the others are is the machine's affair.
        measured.seen.latencies = Summary::new();
        for latency in [STALL].into_iter().chain([STALL / 100; 200]) {
            measured.seen.latencies.record_latency(latency, true);
        }
        let done = Done::new((Phase::Pair, 0), 0, Duration::ZERO, measured);
        let environment = Before::read().finish(Duration::ZERO, None);
        let found = checks(Scenario::Closed, &["fake"], &[], &[done], &environment);
        let stalls = found.iter().find(|check| check.name == "stalls");
        assert_eq!(stalls.unwrap().state, CheckState::Warning, "{found:?}");
    }

    #[test]
    fn requests_that_a_full_server_refuses_are_counted() {
        let measured = measured(
            |number, answers| drop(answers.write_all(if number % 4 == 3 { FULL } else { OK })),
            load(Scenario::Constant, Some(100)),
        );
        let seen = measured.seen;
        assert_eq!(seen.answers + seen.failures, 75);
        assert_eq!((seen.failures, seen.refused), (19, 19));
        // A failure is one in what is left out too.
        assert_eq!((seen.failed, seen.full, seen.sent()), (25, 25, 100));
        assert_eq!(seen.first_failure.as_deref(), Some("status 429: {}"));
    }

    #[test]
    fn a_server_that_was_full_is_asked_again() {
        let address = server(|number, answers| {
            drop(answers.write_all(if number == 1 { FULL } else { OK }));
        });
        let mut subject = subject(address);
        subject.inputs = vec![Bytes::from_static(b"{}"); 8].into();
        let asked = answers(&subject, Duration::from_secs(30));
        assert_eq!(asked.bodies, vec![Some(Bytes::from_static(b"{}")); 8]);
    }

    #[test]
    fn the_generator_s_processor_time_is_counted_after_its_thread_has_ended() {
        let measured = measured(
            |_, answers| drop(answers.write_all(OK)),
            load(Scenario::Closed, None),
        );
        let answers = u32::try_from(measured.seen.answers).unwrap();
        // No machine sends a request and reads its answer within a microsecond of processor time.
        assert!(measured.own_cpu.unwrap() >= answers * Duration::from_micros(1));
    }

    #[test]
    fn a_server_that_never_answers_is_given_up_after_the_time_limit() {
        let subject = subject(server(|_, _| {}));
        let asked = answers(&subject, Duration::from_millis(100));
        assert_eq!(asked.bodies, [None]);
        assert_eq!(asked.failure.as_deref(), Some("no answer within 100ms"));
    }
}

//! Tests of the server's side of a lane against processes that do whatever they like: write nonsense into the shared memory, stop,
//! end at any moment.
//!
//! The process is a real one, stopped where the test writes in its place.

use std::path::Path;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use crossbeam_channel::bounded;
use tokio::sync::oneshot;

use super::*;
use crate::deadline::Deadline;
use crate::engine::lane::page::Span;
use crate::engine::run_memory::MemoryShare;
use crate::engine::{Job, Permit, Reply, SlotOwner};
use crate::evidence::SplitMix64;
use crate::observe::Timings;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const CONCURRENCY: u32 = 64;

/// Counts the permits that came back.
#[derive(Debug, Default)]
struct Returned(AtomicU32);

impl SlotOwner for Returned {
    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A lane in a process that divides, and those who ask it.
struct Played {
    backend: ProcessBackend,
    control: Arc<ProcessControl>,
    state: Arc<InstanceState>,
    returned: Arc<Returned>,
}

/// One who asks.
struct Client {
    id: u64,
    numbers: (i64, i64),
    answer: oneshot::Receiver<Reply>,
}

impl Played {
    fn start() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/test/divide.onnx");
        let state = Arc::new(InstanceState::new(CONCURRENCY));
        let (ended, _wakes) = bounded(1);
        let (backend, _) = ProcessBackend::start(ProcessSpec {
            program: Program::Model(std::env::current_exe().unwrap()),
            loading: Loading {
                label: "test/red".to_owned(),
                number: "#0".to_owned(),
                cores: vec![0],
                floats_over: None,
                model,
                cached: None,
                sample_request: None,
                spin: false,
                non_finite: serin_scorers::NonFinite::default(),
                memory: MemoryShare::new(None),
                slot: Arc::new(crate::black_box::Slot::none()),
                measures: false,
            },
            suspect: None,
            background: false,
            state: Arc::clone(&state),
            ended,
        })
        .unwrap();
        Self {
            control: backend.control(),
            backend,
            state,
            returned: Arc::default(),
        }
    }

    fn request(&self, numbers: (i64, i64)) -> (ReservedJob, Client) {
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let id = Job::next_id();
        let owner: Arc<dyn SlotOwner> = Arc::clone(&self.returned) as _;
        let body = format!(
            "{{\"data\": {{\"a\": [{}], \"b\": [{}]}}}}",
            numbers.0, numbers.1
        );
        let job = Job {
            id,
            payload: Bytes::from(body).into(),
            head: None,
            deadline: Deadline::after(now, PATIENCE),
            timings: Timings::start(now),
            permit: Permit::new(owner),
            reply,
        };
        let client = Client {
            id,
            numbers,
            answer,
        };
        (self.state.reserve().unwrap().give_to(job), client)
    }

    fn requests(&self, count: i64) -> (Vec<ReservedJob>, Vec<Client>) {
        (1..=count).map(|number| self.request((12, number))).unzip()
    }

    /// Submits the requests to the process, which is stopped and answers none.
    fn submit(&mut self, requests: Vec<ReservedJob>) -> Arc<LaneProcess> {
        let process = self.process();
        stop(&process);
        let progress = self.backend.answer(requests, 16, Some(Instant::now()));
        assert_eq!(progress.unwrap(), Progress::Left);
        process
    }

    fn process(&self) -> Arc<LaneProcess> {
        Arc::clone(self.backend.process.as_ref().unwrap())
    }

    /// Goes on until all is answered.
    fn finish(&mut self) {
        let progress = self.backend.answer([], 16, None);
        assert_eq!(progress.unwrap(), Progress::Done);
    }

    /// Asks something harmless, and everything is free afterwards.
    fn divides(&mut self) {
        let (request, client) = self.request((6, 3));
        self.backend.answer([request], 16, None).unwrap();
        client.gets_its_quotient();
        assert_eq!(self.state.load(), 0);
    }
}

impl Client {
    fn outcome(self) -> Result<Scored, RunError> {
        self.answer.blocking_recv().expect("an answer").outcome
    }

    fn gets_its_quotient(self) {
        let (a, b) = self.numbers;
        let body = self.outcome().unwrap().body;
        let body: serde_json::Value = serde_json::from_slice(body.bytes()).unwrap();
        assert_eq!(body["quotient"], serde_json::json!([a / b]), "{a} / {b}");
    }
}

fn signal(process: &LaneProcess, signal: Signal) {
    // It may have ended already.
    let _sent = pidfd_send_signal(&process.pidfd, signal);
}

/// Stops the process, and comes back when it stands: a signal takes a moment.
fn stop(process: &LaneProcess) {
    signal(process, Signal::STOP);
    let pidfd = WaitId::PidFd(process.pidfd.as_fd());
    // Looked at and left, so that it is there also for who stops it twice.
    let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    waitid(pidfd, stopped).unwrap();
}

/// Answers as a faulty process would.
fn answer(page: &Page, row: &Row, (kind, text): (AnswerKind, &str)) {
    let (span, _) = page.write(4096, text.as_bytes()).unwrap();
    row.set_answer(kind, span);
    row.set_state(RowState::Answered);
    page.words().answered.raise();
}

#[test]
fn answers_that_are_nonsense_fail_their_requests_alone() {
    let mut played = Played::start();
    let (requests, clients) = played.requests(4);
    let process = played.submit(requests);
    let rows = process.page.rows(4);
    for (row, span) in rows.iter().zip([(u64::MAX, 1), (1, 1 << 32), (0, 1 << 31)]) {
        let (start, len) = span;
        row.set_answer(AnswerKind::Body, Span { start, len });
        row.set_state(RowState::Answered);
    }
    for time in rows[3].times() {
        time.store(u64::MAX, Ordering::Relaxed);
    }
    rows[3].joined().store(u32::MAX, Ordering::Relaxed);
    // The server alone knows who is in the batch, and when its process has ended.
    process.page.words().rows.store(0, Ordering::Relaxed);
    answer(&process.page, &rows[3], (AnswerKind::Body, "fine"));
    played.finish();
    let mut clients: Vec<_> = clients.into_iter().collect();
    let last = clients.pop().unwrap().answer.blocking_recv().unwrap();
    assert_eq!(last.outcome.unwrap().body.bytes(), b"fine");
    assert!(last.timings.joined <= 4, "{:?}", last.timings);
    assert!(last.timings.ran.unwrap() <= Instant::now());
    for client in clients {
        let error = client.outcome().unwrap_err().to_string();
        assert!(error.contains("no answer that can be read"), "{error}");
    }
    signal(&process, Signal::CONT);
    played.divides();
}

#[test]
fn errors_of_which_the_server_alone_knows_are_not_taken_from_a_process() {
    let mut played = Played::start();
    let (requests, clients) = played.requests(3);
    let process = played.submit(requests);
    let texts = [
        "\"InstanceGone\"",
        "{\"LaneLost\": {\"operator\": null}}",
        "[1",
    ];
    for ((row, text), client) in process.page.rows(3).iter().zip(texts).zip(clients) {
        answer(&process.page, row, (AnswerKind::Error, text));
        let progress = played.backend.answer([], 16, Some(Instant::now()));
        progress.unwrap();
        let error = client.outcome().unwrap_err();
        assert!(matches!(error, RunError::Model(_)), "{text}: {error}");
    }
    signal(&process, Signal::CONT);
    played.divides();
}

#[test]
fn answers_before_there_is_a_request_are_nobodys() {
    let mut played = Played::start();
    let process = played.process();
    stop(&process);
    for row in process.page.rows(8) {
        answer(&process.page, row, (AnswerKind::Body, "too early"));
    }
    let (requests, clients) = played.requests(8);
    played.submit(requests);
    signal(&process, Signal::CONT);
    played.finish();
    for client in clients {
        client.gets_its_quotient();
    }
}

/// It clears what the server has canceled, and says that it has no requests.
#[test]
fn a_process_that_hides_what_it_does_is_given_up_all_the_same() {
    let mut played = Played::start();
    let (requests, clients) = played.requests(2);
    let process = played.submit(requests);
    for client in &clients {
        assert_eq!(played.control.cancel(client.id), Some(false));
    }
    for row in process.page.rows(2) {
        // As new, and in a state that is none.
        row.begin(0, BodyKind::Body, Span { start: 0, len: 0 });
        row.damage(77);
    }
    process.page.words().rows.store(0, Ordering::Relaxed);
    let now = Instant::now();
    assert_eq!(played.control.look(now), Look::Busy);
    assert_eq!(played.control.look(now + RUN_END_MAX), Look::Stuck);
    played.control.give_up();
    played.finish();
    for client in clients {
        let outcome = client.outcome();
        assert!(
            matches!(outcome, Err(RunError::ExpiredRunning)),
            "{outcome:?}"
        );
    }
    assert_eq!(played.state.troubles(), None, "the watchdog tells of it");
    played.divides();
}

/// The process says that nobody sleeps, and makes the count what it was: no signal would wake the lane.
#[test]
fn a_lane_notices_the_end_of_a_process_that_has_damaged_its_signals() {
    let mut played = Played::start();
    let (requests, clients) = played.requests(1);
    let process = played.submit(requests);
    process.page.words().answered.damage();
    process.kill();
    played.finish();
    for client in clients {
        client.gets_its_quotient();
    }
    played.divides();
}

#[test]
fn requests_that_a_process_never_saw_are_not_blamed_for_its_end() {
    let mut played = Played::start();
    for _ in 0..3 {
        let (requests, clients) = played.requests(3);
        let process = played.submit(requests);
        signal(&process, Signal::KILL);
        played.finish();
        for client in clients {
            client.gets_its_quotient();
        }
    }
    let troubles = played.state.troubles().unwrap();
    assert!(troubles.contains("3 times"), "{troubles}");
}

#[test]
fn a_process_that_ends_while_it_is_idle_is_replaced_though_nobody_asks() {
    let mut played = Played::start();
    played.divides();
    let process = played.process();
    signal(&process, Signal::KILL);
    process.wait_ended(Instant::now() + PATIENCE);
    assert!(!played.backend.is_free(), "an I/O thread leaves it alone");
    played.finish();
    assert!(played.backend.is_free());
    // The new one has answered nothing yet: were it started again, it might go on so for ever.
    let process = played.process();
    signal(&process, Signal::KILL);
    process.wait_ended(Instant::now() + PATIENCE);
    played.finish();
    assert!(played.backend.process.is_none());
    played.divides();
}

#[test]
fn a_lane_that_stops_starts_no_process_for_what_waits() {
    let mut played = Played::start();
    let process = played.process();
    signal(&process, Signal::KILL);
    process.wait_ended(Instant::now() + PATIENCE);
    let (requests, clients) = played.requests(2);
    played.state.begin_to_stop();
    let progress = played.backend.answer(requests, 16, None);
    assert_eq!(progress.unwrap(), Progress::Done);
    assert!(played.backend.process.is_none());
    for client in clients {
        let outcome = client.outcome();
        assert!(
            matches!(outcome, Err(RunError::InstanceGone)),
            "{outcome:?}"
        );
    }
}

/// Ends processes of a lane at random moments while they have requests, and counts how many.
fn kill_at_random(control: &ProcessControl, (seed, over): (u64, &AtomicBool)) -> u64 {
    let mut random = SplitMix64::new(seed);
    let mut killed = 0;
    while killed < 12 && !over.load(Ordering::Relaxed) {
        for _ in 0..random.below(20_000) {
            std::hint::spin_loop();
        }
        let current = lock(&control.current);
        let process = current.process.clone();
        let process =
            process.filter(|process| !current.requests.is_empty() && !process.has_ended());
        drop(current);
        let Some(process) = process else { continue };
        // Not by SIGSEGV: Rust hears it once, for the overflow of a stack, and goes on where nothing is at fault.
        signal(&process, Signal::KILL);
        killed += 1;
        // The lane sleeps on the signal of the process, and there is room for one sleeper.
        while !process.has_ended() {
            std::thread::yield_now();
        }
    }
    killed
}

/// Says that it is over, also where the script fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One batch of a random script: some numbers are fatal, some clients leave. How many requests failed that were not fatal.
fn random_batch(played: &mut Played, random: &mut SplitMix64) -> u64 {
    let (mut requests, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..=random.below(12) {
        let b = i64::try_from(1 + random.below(9)).unwrap();
        let numbers = match random.below(25) {
            0 => (i64::MIN, -1),
            a => (i64::try_from(a).unwrap() * 100, b),
        };
        let (request, client) = played.request(numbers);
        requests.push(request);
        match random.below(10) {
            0 => drop(client),
            _ => clients.push(client),
        }
    }
    let rows_max = [1, 4, 16][random.below(3)];
    let until = (random.below(2) == 0).then(Instant::now);
    played.backend.answer(requests, rows_max, until).unwrap();
    // Clients that leave while it runs.
    while random.below(3) == 0
        && let Some(client) = clients.pop()
    {
        drop(client.answer);
        played.control.cancel(client.id);
    }
    played.finish();
    let mut failed = 0;
    for client in clients {
        if client.numbers.0 == i64::MIN {
            let outcome = client.outcome();
            assert!(matches!(outcome, Err(RunError::Died { .. })), "{outcome:?}");
        } else {
            let (numbers, outcome) = (client.numbers, client.outcome());
            match outcome {
                Ok(scored) => {
                    let quotient = numbers.0 / numbers.1;
                    assert_eq!(
                        scored.body.bytes(),
                        format!("{{\"quotient\":[{quotient}]}}").as_bytes()
                    );
                }
                Err(RunError::Died { .. }) => failed += 1,
                Err(error) => panic!("{numbers:?}: {error}"),
            }
        }
    }
    failed
}

/// A random script against a real process, which is also ended from outside: every answer is the right one, and a request fails
/// only by its own fault or with a process that was ended under it.
#[test]
fn whatever_happens_to_processes_no_request_gets_a_wrong_answer_or_none() {
    for seed in 0..4 {
        let mut played = Played::start();
        let over = AtomicBool::new(seed % 2 == 0);
        let control = Arc::clone(&played.control);
        let mut random = SplitMix64::new(seed);
        let (failed, killed) = std::thread::scope(|scope| {
            let killer = scope.spawn(|| kill_at_random(&control, (seed, &over)));
            let is_over = Over(&over);
            let batches = (0..30).map(|_| random_batch(&mut played, &mut random));
            let failed: u64 = batches.sum();
            drop(is_over);
            (failed, killer.join().unwrap())
        });
        assert!(failed <= killed, "seed {seed}: {failed} of {killed}");
        assert_eq!(played.state.load(), 0, "seed {seed}");
        played.divides();
    }
}

/// The watchdog looks, and acts a moment later: another batch may be there by then.
#[test]
fn only_a_run_that_nobody_needs_any_more_costs_its_process() {
    let mut played = Played::start();
    assert!(!played.control.give_up(), "nothing runs");
    let (requests, clients) = played.requests(2);
    let process = played.submit(requests);
    assert!(!played.control.give_up(), "somebody waits");
    for client in &clients {
        played.control.cancel(client.id);
    }
    assert!(played.control.give_up());
    played.finish();
    assert!(process.has_ended());
    played.divides();
}

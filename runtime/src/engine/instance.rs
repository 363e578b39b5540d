//! One model copy on its cores: the owner's half ([`Instance`]) and the sender's half ([`InstanceHandle`]).
//!
//! The owner starts, closes and stops the threads; senders hand jobs over and may keep their half for as long as they like.
//! Reference counts decide nothing.
//!
//! Threads: starting and stopping block and belong on a thread of their own; submitting never waits.
//! Not here: what a lane does with a job (`worker`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use crossbeam::channel::{Sender, bounded};
use serin_scorers::Signature;

use crate::engine::cores::{self, ThreadPlacement};
use crate::engine::session::{LoadError, Terminator};
use crate::engine::worker::{self, LaneSpec};
use crate::engine::{CacheEntry, Cancel, CoreGrant, Job, Placement, give_back_memory};

/// Set in the load word of an instance that takes no more jobs.
const CLOSED: u32 = 1 << 31;

/// Number of an instance, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

/// All that is needed to start one instance.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// `endpoint/deployment`, for logs, and shortened for thread names.
    pub label: String,
    /// The ONNX file.
    pub model: PathBuf,
    /// What the cache holds of the model: its prepared form is loaded instead, where there is one.
    pub cached: Option<Arc<CacheEntry>>,
    /// `max_concurrent_requests_per_instance`.
    pub concurrency: u32,
    /// Cores given; lanes and thread counts follow from them.
    pub cores: CoreGrant,
    /// Body for the warm-up runs; without it inputs are made from the model's own shapes.
    pub sample_request: Option<Bytes>,
    /// Others serve, and are not to feel that this one starts: it loads at the lowest priority.
    pub quiet: bool,
}

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model did not load; names the file and what is wrong with it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model refused the sample request, or failed on it.
    #[error("the warm-up run failed: {0}")]
    WarmUp(String),
    /// The system gave no thread.
    #[error("cannot start a score thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A thread ended before it was ready.
    #[error("a score thread ended while it loaded the model")]
    Ended,
}

/// The job comes back: this instance cannot take it.
#[derive(Debug)]
pub enum NotAccepted {
    /// It has as many requests as it may.
    Full(Job),
    /// It is being drained or has stopped; look the table up again.
    Closed(Job),
}

/// What senders, lanes and the owner share.
#[derive(Debug)]
pub(super) struct Shared {
    id: InstanceId,
    concurrency: u32,
    /// Jobs in hand, and [`CLOSED`].
    load: AtomicU32,
    /// Notified when a closed instance has no job left.
    idle: (Mutex<()>, Condvar),
    /// A lane ended without being told to.
    failed: AtomicBool,
    /// Lanes answer what they take with `InstanceGone`.
    stopping: AtomicBool,
}

impl Shared {
    /// One job has ended.
    fn job_ended(&self) {
        if self.load.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            // The lock orders this with a waiter that has looked but does not wait yet.
            drop(lock(&self.idle.0));
            self.idle.1.notify_all();
        }
    }

    pub(super) fn lane_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn is_idle(&self) -> bool {
        self.load.load(Ordering::Acquire) == CLOSED
    }
}

/// The lanes of an instance, as seen by who may have to end a run.
#[derive(Debug)]
pub(crate) struct Lanes(Vec<Arc<Lane>>);

impl Lanes {
    /// Ends the run of `job` where a lane has it.
    pub(super) fn cancel(&self, job: u64) {
        for lane in &self.0 {
            lane.cancel(job);
        }
    }
}

/// One score thread, as seen by who may have to end its run.
#[derive(Debug)]
pub(super) struct Lane {
    running: Mutex<Running>,
    /// A job is wanted and being worked on.
    computing: AtomicBool,
    terminator: Terminator,
}

#[derive(Debug, Default)]
struct Running {
    job: Option<u64>,
    terminated: bool,
}

impl Lane {
    pub(super) fn new(terminator: Terminator) -> Arc<Self> {
        Arc::new(Self {
            running: Mutex::default(),
            computing: AtomicBool::new(false),
            terminator,
        })
    }

    /// From now on [`Lanes::cancel`] can end this job.
    pub(super) fn begin(&self, job: u64) {
        lock(&self.running).job = Some(job);
    }

    /// The job is wanted still: its work begins.
    pub(super) fn compute(&self) {
        self.computing.store(true, Ordering::Release);
    }

    /// The job is over; whether its run was terminated. The lane can run again.
    pub(super) fn end(&self) -> bool {
        self.computing.store(false, Ordering::Release);
        let mut running = lock(&self.running);
        running.job = None;
        let terminated = std::mem::take(&mut running.terminated);
        if terminated {
            self.terminator.clear();
        }
        terminated
    }

    fn cancel(&self, job: u64) {
        let mut running = lock(&self.running);
        if running.job == Some(job) {
            running.terminated = true;
            self.terminator.terminate();
        }
    }

    /// Ends whatever runs.
    fn cancel_any(&self) {
        let mut running = lock(&self.running);
        if running.job.is_some() {
            running.terminated = true;
            self.terminator.terminate();
        }
    }
}

/// What an inbox holds.
#[derive(Debug)]
pub(super) enum Message {
    Job(Job, Place),
    Stop,
}

/// A job's part of the load. Dropping it lowers the load, wherever the job ends: answered, or lost with the last lane.
#[derive(Debug)]
pub(super) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.job_ended();
    }
}

/// The owner's half: threads to stop and join. Its calls block; not for the edge.
#[derive(Debug)]
pub struct Instance {
    handle: InstanceHandle,
    cores: CoreGrant,
    placement: Placement,
    threads: Vec<JoinHandle<()>>,
}

impl Instance {
    /// Starts the lanes: each pins itself, loads its own session and warms up. Returns when all can answer. Blocks.
    ///
    /// # Errors
    ///
    /// [`StartError`] of the first lane that failed; the others were stopped.
    pub fn start(spec: InstanceSpec) -> Result<Self, StartError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = InstanceId(NEXT.fetch_add(1, Ordering::Relaxed));
        let split = spec.cores.lanes(spec.concurrency);
        let shared = Arc::new(Shared {
            id,
            concurrency: spec.concurrency,
            load: AtomicU32::new(0),
            idle: Default::default(),
            failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        // Room for every admitted job and for one stop a lane, so that no sender ever waits.
        let (inbox, jobs) = bounded(
            usize::try_from(spec.concurrency)
                .unwrap_or(usize::MAX)
                .saturating_add(split.len()),
        );
        let (ready, readies) = mpsc::channel();
        let mut starting = Starting {
            inbox,
            threads: Vec::new(),
        };
        for (number, cores) in split.iter().enumerate() {
            let number = format!("#{}.{number}", id.0);
            let name = cores::thread_name(&spec.label, &number);
            let lane = LaneSpec {
                label: spec.label.clone(),
                number,
                cores: cores.clone(),
                model: spec.model.clone(),
                cached: spec.cached.clone(),
                sample_request: spec.sample_request.clone(),
                quiet: spec.quiet,
                jobs: jobs.clone(),
                shared: Arc::clone(&shared),
            };
            let ready = ready.clone();
            let thread = std::thread::Builder::new()
                .name(name)
                .spawn(move || worker::run(lane, ready))
                .map_err(StartError::Thread)?;
            starting.threads.push(thread);
        }
        drop(ready);
        let mut started = Vec::new();
        for _ in &split {
            started.push(readies.recv().map_err(|_| StartError::Ended)??);
        }
        let signature = Arc::clone(&started[0].signature);
        let (lanes, threads): (Vec<_>, Vec<_>) = started
            .into_iter()
            .map(|lane| (lane.lane, lane.threads))
            .unzip();
        let placement = placement(&spec.cores, &split, threads.concat());
        let (inbox, threads) = starting.finish();
        let handle = InstanceHandle {
            shared,
            inbox,
            lanes: Arc::new(Lanes(lanes)),
            signature,
        };
        Ok(Self {
            handle,
            cores: spec.cores,
            placement,
            threads,
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.handle.id()
    }

    /// The sender's half.
    #[must_use]
    pub fn handle(&self) -> InstanceHandle {
        self.handle.clone()
    }

    /// What was asked for, and what the kernel says was given.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Takes no more jobs from now on; it is idle when the last one has ended.
    pub fn close(&self) {
        self.handle.shared.load.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether it is closed and has no job left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.handle.shared.is_idle()
    }

    /// Waits until a closed instance is idle, at most until `until`; false when work was still running.
    #[must_use]
    pub fn wait_idle(&self, until: Instant) -> bool {
        let (mutex, changed) = &self.handle.shared.idle;
        let patience = until.saturating_duration_since(Instant::now());
        let waited = changed.wait_timeout_while(lock(mutex), patience, |()| !self.is_idle());
        drop(waited);
        self.is_idle()
    }

    /// Whether a lane ended without being told to.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.handle.shared.failed.load(Ordering::Acquire)
    }

    /// Ends the threads, terminating what still runs, joins them and gives the memory back. The cores come back to the caller.
    pub fn stop(self) -> CoreGrant {
        self.close();
        self.handle.shared.stopping.store(true, Ordering::Release);
        for lane in &self.handle.lanes.0 {
            lane.cancel_any();
        }
        stop_threads(&self.handle.inbox, self.threads);
        give_back_memory();
        self.cores
    }
}

/// Threads on their way up; dropped before it is finished, it ends and joins them.
struct Starting {
    inbox: Sender<Message>,
    threads: Vec<JoinHandle<()>>,
}

impl Starting {
    fn finish(mut self) -> (Sender<Message>, Vec<JoinHandle<()>>) {
        (self.inbox.clone(), std::mem::take(&mut self.threads))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        stop_threads(&self.inbox, std::mem::take(&mut self.threads));
    }
}

/// Tells each lane to stop and joins it.
fn stop_threads(inbox: &Sender<Message>, threads: Vec<JoinHandle<()>>) {
    for _ in &threads {
        // Fails only when every lane has ended already.
        drop(inbox.send(Message::Stop));
    }
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a score thread panicked");
        }
    }
}

fn placement(
    grant: &CoreGrant,
    lanes: &[Vec<usize>],
    mut threads: Vec<ThreadPlacement>,
) -> Placement {
    // Every thread is read, also after one that is elsewhere: the placement shows them all.
    let mut verified = true;
    for thread in &mut threads {
        verified &= thread.verify();
    }
    Placement {
        vcpus_asked: grant.vcpus,
        cores_given: grant.cores.clone(),
        lanes: lanes.len(),
        intra_op_threads: lanes.iter().map(Vec::len).max().unwrap_or(1),
        shared: grant.shared,
        verified,
        threads,
    }
}

/// The sender's half: cheap to clone, held by routing tables for as long as they like.
#[derive(Debug, Clone)]
pub struct InstanceHandle {
    shared: Arc<Shared>,
    inbox: Sender<Message>,
    lanes: Arc<Lanes>,
    signature: Arc<Signature>,
}

impl InstanceHandle {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.shared.id
    }

    /// Most requests at once.
    #[must_use]
    pub fn concurrency(&self) -> u32 {
        self.shared.concurrency
    }

    /// Requests that it has now.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.shared.load.load(Ordering::Relaxed) & !CLOSED
    }

    /// Lanes that work on a job now; the other jobs of its load wait in the inbox.
    #[must_use]
    pub fn computing(&self) -> usize {
        let lanes = self.lanes.0.iter();
        lanes
            .filter(|lane| lane.computing.load(Ordering::Acquire))
            .count()
    }

    /// Whether it takes no more jobs.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.load.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Inputs and outputs of the model.
    #[must_use]
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Hands the job over if the instance is open and has room. Never waits.
    ///
    /// # Errors
    ///
    /// [`NotAccepted`] gives the job back.
    pub fn submit(&self, job: Job) -> Result<Cancel, NotAccepted> {
        let mut load = self.shared.load.load(Ordering::Relaxed);
        loop {
            if load & CLOSED != 0 {
                return Err(NotAccepted::Closed(job));
            }
            if load >= self.shared.concurrency {
                return Err(NotAccepted::Full(job));
            }
            match self.shared.load.compare_exchange_weak(
                load,
                load + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(found) => load = found,
            }
        }
        let cancel = Cancel {
            job: job.id,
            lanes: Arc::clone(&self.lanes),
        };
        let place = Place(Arc::clone(&self.shared));
        match self.inbox.try_send(Message::Job(job, place)) {
            Ok(()) => Ok(cancel),
            // Every lane has died: as good as closed.
            Err(error) => match error.into_inner() {
                Message::Job(job, _place) => Err(NotAccepted::Closed(job)),
                Message::Stop => unreachable!("a job was sent"),
            },
        }
    }
}

/// Locks, also after a panic elsewhere: what these locks guard is valid at every instant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::deadline::Deadline;
    use crate::engine::{Capacity, CoreMap, Permit, Reply, RunError, SlotOwner, Topology, quiet};
    use crate::observe::Timings;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Counts the permits that came back.
    #[derive(Default)]
    struct Returned(AtomicU32);

    impl SlotOwner for Returned {
        fn give_back(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn spec(model: &str, concurrency: u32) -> InstanceSpec {
        let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
        InstanceSpec {
            label: "test/blue".to_owned(),
            model: Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .unwrap()
                .join(model),
            cached: None,
            concurrency,
            cores: cores.grant(2).unwrap(),
            sample_request: None,
            quiet: false,
        }
    }

    fn start(model: &str, concurrency: u32) -> Result<Instance, StartError> {
        Instance::start(spec(model, concurrency))
    }

    fn job(body: &str, returned: &Arc<Returned>) -> (Job, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let owner: Arc<dyn SlotOwner> = Arc::clone(returned) as _;
        let job = Job {
            id: Job::next_id(),
            payload: Bytes::copy_from_slice(body.as_bytes()),
            deadline: Deadline::after(now, PATIENCE),
            timings: Timings::start(now),
            permit: Permit::new(owner),
            reply,
        };
        (job, answer)
    }

    fn digits_body() -> String {
        format!("{{\"data\": [{:?}]}}", [0; 64])
    }

    const DIGITS: &str = "models/digits/1/model.onnx";
    const SLOW: &str = "models/test/slow.onnx";
    /// More work than any test waits for.
    const SLOW_BODY: &str = "{\"data\": [100000000]}";

    #[test]
    fn a_job_is_answered_and_its_slot_is_back_before_the_answer() {
        let instance = start(DIGITS, 1).unwrap();
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        instance.handle().submit(job).unwrap();
        let reply = answer.blocking_recv().unwrap();
        assert_eq!(returned.0.load(Ordering::SeqCst), 1);
        assert_eq!(instance.handle().load(), 0);
        let body: serde_json::Value = serde_json::from_slice(&reply.outcome.unwrap().body).unwrap();
        assert!(body["label"][0].is_number(), "{body}");
        assert!(
            reply.timings.encoded >= reply.timings.ran
                && reply.timings.ran >= reply.timings.decoded
        );
        instance.stop();
    }

    #[test]
    fn every_thread_runs_where_it_was_pinned() {
        let instance = start(DIGITS, 1).unwrap();
        let placement = instance.placement().clone();
        assert!(placement.verified, "{placement:?}");
        assert_eq!(
            placement.threads.len(),
            placement.cores_given.len(),
            "{placement:?}"
        );
        instance.stop();
    }

    #[test]
    fn an_instance_that_was_loaded_quietly_answers_at_the_usual_priority() {
        let mut spec = spec(DIGITS, 1);
        spec.quiet = true;
        let instance = Instance::start(spec).unwrap();
        let threads = &instance.placement().threads;
        assert_eq!(threads.len(), instance.placement().cores_given.len());
        assert!(instance.placement().verified, "{threads:?}");
        for thread in threads {
            assert!(!quiet::is_quiet(thread.tid), "{thread:?}");
        }
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        instance.handle().submit(job).unwrap();
        answer.blocking_recv().unwrap().outcome.unwrap();
        instance.stop();
    }

    #[test]
    fn a_full_instance_gives_the_job_back_and_a_closed_one_too() {
        let instance = start(SLOW, 1).unwrap();
        let handle = instance.handle();
        let returned = Arc::new(Returned::default());
        let (first, answer) = job(SLOW_BODY, &returned);
        let cancel = handle.submit(first).unwrap();
        let (second, _unanswered) = job(SLOW_BODY, &returned);
        let second = match handle.submit(second) {
            Err(NotAccepted::Full(job)) => job,
            other => panic!("expected Full, found {other:?}"),
        };
        instance.close();
        assert!(matches!(handle.submit(second), Err(NotAccepted::Closed(_))));
        assert!(!instance.is_idle());
        drop(cancel);
        instance.stop();
        assert!(matches!(
            answer.blocking_recv().unwrap().outcome,
            Err(RunError::InstanceGone)
        ));
    }

    #[test]
    fn a_cancelled_run_ends_and_the_next_one_runs() {
        let instance = start(SLOW, 1).unwrap();
        let handle = instance.handle();
        let returned = Arc::new(Returned::default());
        let (slow, answer) = job(SLOW_BODY, &returned);
        let cancel = handle.submit(slow).unwrap();
        // Taken by the lane or still in the inbox: both must end. A lane that has not taken it yet takes it now.
        while handle.computing() == 0 {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert!(matches!(
            answer.blocking_recv().unwrap().outcome,
            Err(RunError::DeadlinePassed)
        ));
        let (quick, answer) = job("{\"data\": [1]}", &returned);
        handle.submit(quick).unwrap();
        answer.blocking_recv().unwrap().outcome.unwrap();
        // An old cancel does not touch a new job.
        cancel.cancel();
        let (quick, answer) = job("{\"data\": [1]}", &returned);
        handle.submit(quick).unwrap();
        answer.blocking_recv().unwrap().outcome.unwrap();
        instance.stop();
    }

    #[test]
    fn a_body_that_does_not_fit_is_the_client_s_fault_and_the_lane_lives() {
        let instance = start(DIGITS, 2).unwrap();
        let returned = Arc::new(Returned::default());
        for body in ["", "{}", "{\"data\": [[1]]}"] {
            let (job, answer) = job(body, &returned);
            instance.handle().submit(job).unwrap();
            assert!(
                matches!(
                    answer.blocking_recv().unwrap().outcome,
                    Err(RunError::Input(_))
                ),
                "{body}"
            );
        }
        assert!(!instance.has_failed());
        instance.stop();
    }

    #[test]
    fn a_closed_instance_is_idle_when_its_last_job_has_ended() {
        let instance = start(DIGITS, 1).unwrap();
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        instance.handle().submit(job).unwrap();
        instance.close();
        assert!(instance.wait_idle(Instant::now() + PATIENCE));
        answer.blocking_recv().unwrap().outcome.unwrap();
        instance.stop();
    }

    #[test]
    fn a_file_that_is_no_model_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, problem) in [
            (
                "empty.onnx",
                &b""[..],
                "empty.onnx is empty; expected an ONNX model",
            ),
            ("text.onnx", b"hello", "text.onnx is not an ONNX model"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let message = start(path.to_str().unwrap(), 1).unwrap_err().to_string();
            assert!(message.starts_with(problem), "{message}");
        }
        assert!(
            start("models/missing.onnx", 1)
                .unwrap_err()
                .to_string()
                .contains("missing.onnx")
        );
    }

    #[test]
    fn thread_names_tell_instance_and_lane_however_long_the_label_is() {
        let mut spec = spec(DIGITS, 1);
        spec.label = "a-long-endpoint/blue".to_owned();
        let instance = Instance::start(spec).unwrap();
        let lane = format!("#{}.0", instance.id().0);
        let threads = &instance.placement().threads;
        assert!(threads[0].name.ends_with(&lane), "{threads:?}");
        for (number, thread) in threads.iter().enumerate().skip(1) {
            assert!(
                thread.name.ends_with(&format!("{lane}.{number}")),
                "{threads:?}"
            );
        }
        instance.stop();
    }

    /// Set in the process that tries whether telemetry stays off.
    const ALONE: &str = "SERIN_TEST_ALONE";

    /// In a process of its own: other tests of this one open sockets and start threads.
    #[test]
    fn loading_and_running_sends_no_telemetry() {
        if std::env::var_os(ALONE).is_some() {
            return load_and_run_alone();
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("engine::instance::tests::loading_and_running_sends_no_telemetry")
            .env(ALONE, "1")
            .env_remove("ORT_DISABLE_TELEMETRY")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && words.contains("1 passed"),
            "{words}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn load_and_run_alone() {
        let library_is_loaded = || {
            std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .contains("libonnxruntime")
        };
        crate::engine::prepare_process();
        assert_eq!(std::env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
        assert!(!library_is_loaded(), "telemetry is off before it is loaded");

        let before = numbers_in("/proc/self/task");
        let instance = start(DIGITS, 1).unwrap();
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        instance.handle().submit(job).unwrap();
        answer.blocking_recv().unwrap().outcome.unwrap();
        assert!(library_is_loaded());

        let ours = instance.placement().threads.iter().map(|one| one.tid);
        let expected: BTreeSet<i32> = before.into_iter().chain(ours).collect();
        assert_eq!(numbers_in("/proc/self/task"), expected, "no other thread");
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
            let target = target.to_string_lossy();
            assert!(!target.starts_with("socket:"), "{target}");
        }
        instance.stop();
    }

    /// The entries of a folder of `/proc` that is named by numbers.
    fn numbers_in(folder: &str) -> BTreeSet<i32> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect()
    }
}

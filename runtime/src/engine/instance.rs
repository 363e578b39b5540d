//! One model copy on its cores: the owner's half ([`Instance`]) and the sender's half ([`InstanceHandle`]).
//!
//! The owner starts, closes and stops the threads; senders hand jobs over and may keep their half for as long as they like.
//! Reference counts decide nothing.
//!
//! Threads: starting and stopping block and belong on a thread of their own; submitting never waits.
//! Not here: the jobs on their way (`inbox`), what a lane does with them (`lane`), the life of its thread (`worker`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use serin_scorers::{NonFinite, Signature, Tensor, TensorView};

use crate::black_box::{self, Slot};
use crate::config::{COLD_REQUESTS, CONCURRENCY_MAX, REQUEST_TIMEOUT_MAX};
use crate::engine::cores::{BackendKind, CoreId, ThreadPlacement};
use crate::engine::graph::{Fact, GraphFacts};
use crate::engine::inbox::{InstanceState, Message};
use crate::engine::inline_trust::InlineTrust;
use crate::engine::isolation::{self, Grounds};
use crate::engine::lane::{Inline, Program};
use crate::engine::lanes::{Lanes, Starting};
use crate::engine::loading::Loading;
use crate::engine::profile::{ModelProfile, WorkSize};
use crate::engine::profile_cache::{self, Threads, Turn};
use crate::engine::run_memory::MemoryShare;
use crate::engine::watchdog;
use crate::engine::worker::LaneSpec;
use crate::engine::{
    BatchSettings, CacheEntry, CoreGrant, Here, HereWork, InstanceId, Payload, Placement,
    Reservation, ReserveError, ReservedJob, ScriptSchemas, ScriptSpec, StartError,
    give_back_memory,
};
use crate::spec::Isolation;

/// All that is needed to start one instance.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// `endpoint/deployment`, for logs, and shortened for thread names.
    pub label: String,
    /// The ONNX file.
    pub model: PathBuf,
    /// The cache's entry of the model: its prepared form is loaded instead, where there is one.
    pub cached: Option<Arc<CacheEntry>>,
    /// `max_concurrent_requests_per_instance`.
    pub concurrency: u32,
    /// Score threads; without a number one for each request at once, as far as there are cores.
    pub lanes: Option<u32>,
    /// Bounds of the batches.
    pub batch: BatchSettings,
    /// The threads of a lane spin while they wait, where there are several and no other instance shares the cores.
    pub spin: bool,
    /// The form of NaN and infinities in its answers.
    pub non_finite: NonFinite,
    /// Stands for the content of the model: what is measured of it is kept under this name.
    pub digest: Option<String>,
    /// The cost of the model on as many threads as a lane has, where that is known already.
    pub profile: Option<Arc<ModelProfile>>,
    /// Cores given; thread counts follow from them.
    pub cores: CoreGrant,
    /// Most bytes that its runs may take together; without a number only the machine is the bound.
    pub memory_bytes_max: Option<u64>,
    /// Body for the warm-up runs; without it inputs are made from the model's own shapes.
    pub sample_request: Option<Bytes>,
    /// Others serve, and are not to feel that this one starts: it loads at background priority.
    pub background: bool,
    /// Where its lanes are to compute.
    pub isolation: Isolation,
    /// The reason why the model is suspected to have ended a process before, in words.
    pub suspicion: Option<String>,
    /// The scoring script that its lanes run instead of a model.
    pub script: Option<ScriptSpec>,
    /// The serin binary, for lanes in processes. Also a thread that had to be left behind in a run that does not end is replaced by a
    /// process, where this is known.
    pub exe: Option<PathBuf>,
}

impl InstanceSpec {
    /// One request at a time on a lane for itself, in this process where the graph allows it; nothing is known of the model beforehand.
    #[must_use]
    pub fn new(label: String, model: PathBuf, cores: CoreGrant) -> Self {
        Self {
            label,
            model,
            cached: None,
            concurrency: 1,
            lanes: None,
            batch: BatchSettings::default(),
            spin: false,
            non_finite: NonFinite::default(),
            digest: None,
            profile: None,
            cores,
            memory_bytes_max: None,
            sample_request: None,
            background: false,
            isolation: Isolation::default(),
            suspicion: None,
            script: None,
            exe: None,
        }
    }

    /// Refuses what no deployment can ask for: the room of the inbox is made for all requests at once, and lanes count time.
    fn check(&self) -> Result<(), StartError> {
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            let found = self.concurrency;
            return Err(StartError::Settings(format!(
                "expected 1 to {CONCURRENCY_MAX} requests at once, found {found}"
            )));
        }
        if self.batch.delay > REQUEST_TIMEOUT_MAX {
            let found = self.batch.delay;
            return Err(StartError::Settings(format!(
                "expected a batch delay of at most {REQUEST_TIMEOUT_MAX:?}, found {found:?}"
            )));
        }
        Ok(())
    }

    /// The threads of the widest lane, when the cores are split so.
    fn threads(&self, split: &[Vec<CoreId>]) -> Threads {
        let count = split.iter().map(Vec::len).max().unwrap_or(1);
        Threads {
            count,
            spin: self.spin && count > 1 && !self.cores.shared && self.cores.floats_over.is_none(),
        }
    }

    /// Whose it is to measure the cost of the model on lanes of such threads; nothing where nobody has a name for its content.
    fn turn_to_measure(&self, threads: Threads) -> Option<Turn> {
        if self.script.is_some() {
            return Some(Turn::Known(Arc::new(ModelProfile::of_script())));
        }
        let given = self.profile.clone().map(Turn::Known);
        given.or_else(|| Some(profile_cache::turn(self.digest.as_deref()?, threads)))
    }

    /// The cost of the model, which a lane has `measured` where it was to.
    fn profile(
        &self,
        turn: Option<Turn>,
        measured: Option<ModelProfile>,
    ) -> Result<Arc<ModelProfile>, StartError> {
        let measured = || measured.ok_or(StartError::Ended);
        Ok(match turn {
            Some(Turn::Known(known)) => known,
            Some(Turn::Mine(mine)) => mine.keep(measured()?),
            // Where that failed each request runs alone, on a lane's own thread.
            Some(Turn::Another(another)) => another
                .wait()
                .unwrap_or_else(|| Arc::new(ModelProfile::unmeasured(&self.model))),
            None => Arc::new(measured()?),
        })
    }

    /// The lanes on cores that are split so; the first of them `measures` the model, if one is to.
    fn lanes(
        &self,
        split: &[Vec<CoreId>],
        (state, jobs, back): (
            &Arc<InstanceState>,
            &Receiver<Message>,
            &Arc<Sender<Message>>,
        ),
        (place, measures): (&Place, bool),
    ) -> Vec<LaneSpec> {
        let of_model = || {
            let exe = self.exe.clone().map(Program::Model);
            exe.filter(|_| place.kind == BackendKind::Process)
        };
        let of_script = self.script.clone().map(Arc::new).map(Program::Script);
        let program = of_script.or_else(of_model);
        let memory = MemoryShare::new(self.memory_bytes_max);
        let slot = |number: &str| match place.kind {
            BackendKind::Thread => {
                let digest = self.digest.as_deref().unwrap_or_default();
                black_box::slot(&self.label, number, digest)
            }
            // What it runs cannot end this process.
            BackendKind::Process => Slot::none(),
        };
        let lane = |(index, cores): (usize, &Vec<CoreId>)| {
            let number = format!("#{}.{index}", state.id().0);
            LaneSpec {
                loading: Loading {
                    label: self.label.clone(),
                    slot: Arc::new(slot(&number)),
                    number,
                    cores: cores.clone(),
                    floats_over: self.cores.floats_over.clone(),
                    model: self.model.clone(),
                    cached: self.cached.clone(),
                    sample_request: self.sample_request.clone(),
                    spin: self.threads(split).spin,
                    non_finite: self.non_finite,
                    memory: Arc::clone(&memory),
                    measures: measures && index == 0,
                },
                program: program.clone(),
                suspect: place.suspect.clone(),
                delay: self.batch.delay,
                background: self.background,
                lanes: split.len(),
                jobs: jobs.clone(),
                back: Arc::downgrade(back),
                state: Arc::clone(state),
            }
        };
        split.iter().enumerate().map(lane).collect()
    }

    /// Where its lanes compute. Reads the model's graph.
    fn place(&self) -> Result<Place, StartError> {
        if self.script.is_some() {
            return Ok(Place {
                kind: BackendKind::Process,
                reason: "a scoring script runs in a process of its own".to_owned(),
                suspect: None,
            });
        }
        let facts = GraphFacts::of_file(&self.model);
        let (kind, reason) = isolation::choose(&Grounds {
            asked: self.isolation,
            suspicion: self.suspicion.as_deref(),
            trap: &facts.trap,
            has_binary: self.exe.is_some(),
        })?;
        let suspect = match facts.trap {
            Fact::Proven => None,
            Fact::Unproven(obstacle) => Some(obstacle.to_string()),
        };
        Ok(Place {
            kind,
            reason,
            suspect,
        })
    }
}

/// The place where lanes compute.
struct Place {
    kind: BackendKind,
    reason: String,
    /// What of the graph may end a process, in words.
    suspect: Option<String>,
}

/// The owner's half: threads to stop and join. Its calls block; not for the edge.
#[derive(Debug)]
pub struct Instance {
    handle: InstanceHandle,
    cores: CoreGrant,
    placement: Placement,
}

impl Instance {
    /// Starts the lanes: each pins itself, loads its own session and warms up. Returns when all can answer. Blocks.
    ///
    /// # Errors
    ///
    /// [`StartError`] of the first lane that failed; the others were stopped.
    pub fn start(spec: InstanceSpec) -> Result<Self, StartError> {
        spec.check()?;
        let split = spec.cores.lanes(spec.concurrency, spec.lanes);
        let state = Arc::new(InstanceState::new(spec.concurrency));
        let threads_of_lane = spec.threads(&split);
        let turn = spec.turn_to_measure(threads_of_lane);
        let measures = matches!(turn, None | Some(Turn::Mine(_)));
        // Room for every admitted job and for one stop a lane, so that no sender ever waits.
        let concurrency = usize::try_from(spec.concurrency).unwrap_or(usize::MAX);
        let (inbox, jobs) = bounded(concurrency.saturating_add(split.len()));
        let inbox = Arc::new(inbox);
        let place = spec.place()?;
        let lanes = spec.lanes(&split, (&state, &jobs, &inbox), (&place, measures));
        tracing::info!(
            deployment = spec.label,
            instance = state.id().0,
            "{}",
            spec.cores.pinning
        );
        drop(jobs);
        let (mut ready, starting) = Starting::lanes(Arc::clone(&inbox), lanes)?.wait()?;
        let signature = Arc::clone(&ready[0].signature);
        let schemas = ready[0].schemas.clone();
        let measured = ready.iter_mut().find_map(|lane| lane.measured.take());
        let profile = spec.profile(turn, measured)?;
        let rows_max = profile.rows_max(spec.batch.size_max);
        state.set_rows_max(rows_max);
        let threads = ready.iter().flat_map(|lane| lane.threads.clone());
        let mut placement = placement(&spec, &split, threads.collect());
        placement.isolation = place.kind;
        placement.isolation_reason = place.reason;
        let lanes = Arc::new(starting.finish(&ready, Arc::clone(&state), spec.exe.as_ref()));
        watchdog::watch(&lanes);
        let handle = InstanceHandle(Arc::new(SenderSide {
            state,
            inbox,
            lanes,
            signature,
            schemas,
            profile,
            inline: InlineTrust::new(spec.batch.delay.is_zero()),
            joins_over_time: !spec.batch.delay.is_zero(),
            runs_a_script: spec.script.is_some(),
            cold_left: AtomicU32::new(COLD_REQUESTS),
        }));
        Ok(Self {
            handle,
            cores: spec.cores,
            placement,
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

    /// The cores and threads that were asked for, and those that the kernel says were given.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Takes no more jobs from now on; it is idle when the last one has ended.
    pub fn close(&self) {
        self.handle.0.state.close();
    }

    /// Whether it is closed and has no job left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.handle.0.state.is_idle()
    }

    /// Waits until a closed instance is idle, at most until `until`; false when work was still running.
    #[must_use]
    pub fn wait_idle(&self, until: Instant) -> bool {
        self.handle.0.state.wait_idle(until)
    }

    /// Whether a lane ended without being told to.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.handle.0.state.has_failed()
    }

    /// Ends the threads, terminating what still runs, joins them and gives the memory back; threads in a run that does not end are
    /// left behind. The cores come back to the caller.
    pub fn stop(self) -> CoreGrant {
        self.close();
        self.handle.0.lanes.stop();
        give_back_memory();
        self.cores
    }
}

fn placement(
    spec: &InstanceSpec,
    lanes: &[Vec<CoreId>],
    mut threads: Vec<ThreadPlacement>,
) -> Placement {
    // Every thread is read, also after one that is elsewhere: the placement shows them all.
    let mut verified = true;
    for thread in &mut threads {
        verified &= thread.verify();
    }
    let (grant, of_lane) = (&spec.cores, spec.threads(lanes));
    Placement {
        vcpus_asked: grant.vcpus,
        cores_given: grant.cores.clone(),
        lanes: lanes.len(),
        intra_op_threads: of_lane.count,
        shared: grant.shared,
        pinned: grant.floats_over.is_none(),
        pinning: grant.pinning.clone(),
        spin_asked: spec.spin,
        spinning: of_lane.spin,
        isolation: BackendKind::Thread,
        isolation_reason: String::new(),
        verified,
        threads,
    }
}

/// The sender's half: cheap to clone, held by routing tables for as long as they like.
#[derive(Debug, Clone)]
pub struct InstanceHandle(Arc<SenderSide>);

#[derive(Debug)]
struct SenderSide {
    state: Arc<InstanceState>,
    inbox: Arc<Sender<Message>>,
    lanes: Arc<Lanes>,
    signature: Arc<Signature>,
    /// Those of a script that has some.
    schemas: Option<Arc<ScriptSchemas>>,
    profile: Arc<ModelProfile>,
    /// Small work may be answered on the sender's own thread. Not where requests are to wait for each other, nor where it takes long
    /// each time.
    inline: InlineTrust,
    /// Requests are to wait for each other.
    joins_over_time: bool,
    runs_a_script: bool,
    /// Requests that are still to come before it is warm.
    cold_left: AtomicU32,
}

impl InstanceHandle {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.0.state.id()
    }

    /// Most requests at once.
    #[must_use]
    pub fn concurrency(&self) -> u32 {
        self.0.state.concurrency()
    }

    /// Requests that it has now.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.0.state.load()
    }

    /// Lanes that work on a job now; the other jobs of its load wait in the inbox.
    #[must_use]
    pub fn computing(&self) -> usize {
        let lanes = self.0.lanes.iter();
        lanes.filter(|lane| lane.is_computing()).count()
    }

    /// Whether it takes no more jobs.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.state.is_closed()
    }

    /// Whether a scoring script answers, which reads the heads of requests, and not a model.
    #[must_use]
    pub fn runs_a_script(&self) -> bool {
        self.0.runs_a_script
    }

    /// Counts a request, and says whether it is one of the first.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        // Relaxed: a number and nothing else; a warm instance is only looked at.
        let left = &self.0.cold_left;
        left.load(Ordering::Relaxed) > 0
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
    }

    /// Inputs and outputs of the model.
    #[must_use]
    pub fn signature(&self) -> &Arc<Signature> {
        &self.0.signature
    }

    /// The schemas of a scoring script that has some.
    #[cfg(feature = "server")]
    pub(crate) fn schemas(&self) -> Option<&ScriptSchemas> {
        self.0.schemas.as_deref()
    }

    /// The measured cost of a run.
    #[must_use]
    pub fn profile(&self) -> &Arc<ModelProfile> {
        &self.0.profile
    }

    /// Makes a reservation for one job if the instance is open and has room. Never waits.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] says which of the two it is not.
    pub fn reserve(&self) -> Result<Reservation, ReserveError> {
        self.0.state.reserve()
    }

    /// Queues jobs that have their reservations here, in order. Never waits. Where every lane has died, they are dropped unanswered.
    pub fn queue(&self, jobs: impl IntoIterator<Item = ReservedJob>) {
        for job in jobs {
            // Not full: the channel has room for every reservation (`InstanceState::reserve` says why it is seen).
            drop(self.0.inbox.try_send(Message::Job(job)));
        }
    }

    /// Answers the jobs inline, here and now with an idle lane, when there is one, no other job waits and the work is small by the
    /// measured profile; else queues them.
    pub fn run_inline_or_queue(&self, mut jobs: Vec<ReservedJob>) {
        let trust = &self.0.inline;
        // Both looks are of a moment. A job that is queued after the first came later; a lane that has just taken one and not yet
        // its own lock waits for us, as long as small work takes.
        if trust.may() && self.is_small_work(&jobs) && self.0.inbox.is_empty() {
            for lane in self.0.lanes.nearest_first() {
                match lane.try_inline(jobs, self.0.state.rows_max()) {
                    Inline::Done => return trust.ended_well(),
                    Inline::Busy(left) => jobs = left,
                    Inline::Interrupted(left) => {
                        if trust.interrupted() {
                            tracing::info!(
                                instance = self.id().0,
                                "small work takes long each time: its lanes answer it from now on"
                            );
                        }
                        return self.queue(left);
                    }
                }
            }
        }
        self.queue(jobs);
    }

    /// Runs the model on this thread with a lane that is idle now, over the memory of the inputs. The work comes back where no lane is
    /// idle, others wait, requests are to wait for each other, or the lanes compute in processes; where the thread may not be kept
    /// for long, also where the run took too long for it. Never waits for others.
    pub fn run_here<'a>(&self, mut work: HereWork<'a>) -> Here<'a> {
        let trust = &self.0.inline;
        let brief = !work.may_take_long;
        if self.0.joins_over_time || (brief && !trust.may()) || !self.0.inbox.is_empty() {
            return Here::Left(work);
        }
        for lane in self.0.lanes.nearest_first() {
            match lane.run_here(work) {
                Here::Done(done) => {
                    if brief {
                        trust.ended_well();
                    }
                    return Here::Done(done);
                }
                Here::Left(left) => work = left,
            }
        }
        Here::Left(work)
    }

    /// Whether a run of these tensors is small work by the measured profile: one that a thread with other things to do may be kept for.
    #[must_use]
    pub fn is_small_run(&self, inputs: &[TensorView<'_>]) -> bool {
        let work = WorkSize {
            requests: 1,
            body_bytes: 0,
            tensor_rows: rows_of(inputs.iter().map(TensorView::rows)),
        };
        self.0.inline.may() && self.0.profile.is_small_work(work, self.0.state.rows_max())
    }

    /// Whether its lanes compute in processes: then the way there and back costs as much as several small requests.
    #[must_use]
    pub fn is_in_processes(&self) -> bool {
        self.0.lanes.iter().any(|lane| lane.is_a_process())
    }

    /// Whether the job alone would be answered inline, by a lane that is idle.
    #[must_use]
    pub fn is_small(&self, job: &ReservedJob) -> bool {
        self.0.inline.may() && self.is_small_work(std::slice::from_ref(job))
    }

    fn is_small_work(&self, jobs: &[ReservedJob]) -> bool {
        let mut work = WorkSize {
            requests: jobs.len(),
            ..WorkSize::default()
        };
        for job in jobs {
            match job.payload() {
                Payload::Body(body) => work.body_bytes += body.len(),
                Payload::Tensors(tensors) => {
                    work.tensor_rows += rows_of(tensors.iter().map(Tensor::rows));
                }
            }
        }
        self.0.profile.is_small_work(work, self.0.state.rows_max())
    }

    /// Ends the job: skipped if it waits, terminated if it runs and no other job shares the run (`RunOptions::terminate`),
    /// nothing if it has ended. Whether it was running.
    pub fn cancel(&self, job: u64) -> bool {
        self.0.lanes.iter().any(|lane| lane.cancel(job))
    }

    /// Ends what runs, and answers what waits with [`RunError::InstanceGone`](crate::engine::RunError::InstanceGone). For an instance
    /// that is closed already, and whose jobs nobody can wait for.
    pub fn cut(&self) {
        self.0.state.close();
        self.0.lanes.cut();
    }

    /// How often its lanes were in trouble.
    #[must_use]
    pub fn trouble_count(&self) -> u64 {
        self.0.state.trouble_count()
    }

    /// The troubles of its lanes, most recent last, in words; none where nothing happened to them.
    #[must_use]
    pub fn troubles(&self) -> Option<String> {
        self.0.state.troubles()
    }
}

/// Rows of the inputs of one request: those of the largest, for which the work is at least as much.
fn rows_of(rows: impl Iterator<Item = Option<usize>>) -> usize {
    rows.flatten().max().unwrap_or(1).max(1)
}

#[cfg(test)]
mod played;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::deadline::Deadline;
    use crate::engine::{
        Batching, Capacity, CoreMap, Job, Permit, Reply, RunError, SlotOwner, Topology, background,
    };
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
            concurrency,
            isolation: Isolation::Thread,
            ..InstanceSpec::new(
                "test/blue".to_owned(),
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .parent()
                    .unwrap()
                    .join(model),
                cores.grant(2).unwrap(),
            )
        }
    }

    /// The same on two cores, whatever the machine has: on paper, for both are the one that every machine has.
    fn spec_on_two_cores(model: &str, concurrency: u32) -> InstanceSpec {
        let spec = spec(model, concurrency);
        let core = spec.cores.cores[0];
        let topology = Topology::new(&[core, core], |core| vec![core], None);
        let mut cores = CoreMap::new(topology, Capacity::Overcommit);
        InstanceSpec {
            cores: cores.grant(2).unwrap(),
            ..spec
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
            payload: Bytes::copy_from_slice(body.as_bytes()).into(),
            head: None,
            deadline: Deadline::after(now, PATIENCE),
            timings: Timings::start(now),
            permit: Permit::new(owner),
            reply,
        };
        (job, answer)
    }

    /// Queues the job; its number.
    fn send(handle: &InstanceHandle, job: Job) -> u64 {
        let id = job.id;
        handle.queue([handle.reserve().unwrap().give_to(job)]);
        id
    }

    fn digits_body() -> String {
        format!("{{\"data\": [{:?}]}}", [0; 64])
    }

    const DIGITS: &str = "models/digits/1/model.onnx";
    const SLOW: &str = "models/test/slow.onnx";
    /// More work than any test waits for.
    const SLOW_BODY: &str = "{\"data\": [100000000]}";

    #[test]
    fn settings_that_no_memory_and_no_clock_bear_are_refused_with_words() {
        for concurrency in [0, CONCURRENCY_MAX + 1, u32::MAX] {
            let refused = start(DIGITS, concurrency).unwrap_err().to_string();
            let words = format!("expected 1 to 1024 requests at once, found {concurrency}");
            assert_eq!(refused, words);
        }
        let mut spec = spec(DIGITS, 1);
        spec.batch.delay = Duration::MAX;
        let refused = Instance::start(spec).unwrap_err().to_string();
        assert!(
            refused.starts_with("expected a batch delay of at most 180s, found"),
            "{refused}"
        );
    }

    #[test]
    fn a_job_is_answered_and_its_slot_is_back_before_the_answer() {
        let instance = start(DIGITS, 1).unwrap();
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        send(&instance.handle(), job);
        let reply = answer.blocking_recv().unwrap();
        assert_eq!(returned.0.load(Ordering::SeqCst), 1);
        assert_eq!(instance.handle().load(), 0);
        let body: serde_json::Value =
            serde_json::from_slice(reply.outcome.unwrap().body.bytes()).unwrap();
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
    fn an_instance_runs_the_lanes_that_it_was_asked_for() {
        let mut spec = spec_on_two_cores(DIGITS, 4);
        spec.lanes = Some(1);
        let instance = Instance::start(spec).unwrap();
        let placement = instance.placement();
        assert_eq!(placement.lanes, 1, "{placement:?}");
        assert_eq!(placement.intra_op_threads, 2, "{placement:?}");
        instance.stop();
    }

    /// Processor time of a thread of this process.
    fn time_of(thread: &ThreadPlacement) -> Duration {
        let path = format!("/proc/self/task/{}/schedstat", thread.tid);
        let text = std::fs::read_to_string(path).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn threads_spin_where_they_are_asked_to_and_no_instance_shares_the_cores() {
        let start = |spin, shared| {
            let mut spec = spec_on_two_cores(DIGITS, 1);
            spec.cores.shared = shared;
            Instance::start(InstanceSpec { spin, ..spec }).unwrap()
        };
        let spinning = |instance: &Instance| {
            let placement = instance.placement();
            (placement.spin_asked, placement.spinning)
        };
        let (silent, beside_another, alone) =
            (start(false, false), start(true, true), start(true, false));
        assert_eq!(spinning(&silent), (false, false));
        assert_eq!(spinning(&beside_another), (true, false));
        assert_eq!(spinning(&alone), (true, true));
        // After the warm-up nothing runs; 30 ms of it against 0.1 ms on the machine where this was written.
        let idle_time = |instance: &Instance| time_of(&instance.placement().threads[1]);
        let patient_until = Instant::now() + PATIENCE;
        let spins_more = |other| idle_time(&alone) > 5 * idle_time(other);
        while ![&silent, &beside_another].into_iter().all(spins_more) {
            assert!(Instant::now() < patient_until, "no thread spins");
            std::thread::sleep(Duration::from_millis(10));
        }
        for instance in [silent, beside_another, alone] {
            instance.stop();
        }
    }

    #[test]
    fn an_instance_that_was_loaded_in_the_background_answers_at_the_usual_priority() {
        let mut spec = spec(DIGITS, 1);
        spec.background = true;
        let instance = Instance::start(spec).unwrap();
        let threads = &instance.placement().threads;
        assert_eq!(threads.len(), instance.placement().cores_given.len());
        assert!(instance.placement().verified, "{threads:?}");
        for thread in threads {
            assert!(!background::is_in_background(thread.tid), "{thread:?}");
        }
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        send(&instance.handle(), job);
        answer.blocking_recv().unwrap().outcome.unwrap();
        instance.stop();
    }

    #[test]
    fn a_full_instance_has_no_room_and_a_closed_one_neither() {
        let instance = start(SLOW, 1).unwrap();
        let handle = instance.handle();
        let returned = Arc::new(Returned::default());
        let (first, answer) = job(SLOW_BODY, &returned);
        send(&handle, first);
        assert!(matches!(handle.reserve(), Err(ReserveError::Full)));
        instance.close();
        assert!(matches!(handle.reserve(), Err(ReserveError::Closed)));
        assert!(!instance.is_idle());
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
        let slow = send(&handle, slow);
        // Taken by the lane or still in the inbox: both must end. A lane that has not taken it yet takes it now.
        while handle.computing() == 0 {
            std::thread::yield_now();
        }
        handle.cancel(slow);
        assert!(matches!(
            answer.blocking_recv().unwrap().outcome,
            Err(RunError::ExpiredRunning)
        ));
        let (quick, answer) = job("{\"data\": [1]}", &returned);
        send(&handle, quick);
        answer.blocking_recv().unwrap().outcome.unwrap();
        // An old cancel does not touch a new job.
        handle.cancel(slow);
        let (quick, answer) = job("{\"data\": [1]}", &returned);
        send(&handle, quick);
        answer.blocking_recv().unwrap().outcome.unwrap();
        instance.stop();
    }

    /// One lane that waits until it has `together` jobs, of a model whose rows may share a run.
    fn joining(model: &str, together: u32) -> Instance {
        Instance::start(InstanceSpec {
            lanes: Some(1),
            batch: BatchSettings {
                size_max: Some(together),
                delay: PATIENCE,
            },
            ..spec(model, together)
        })
        .unwrap()
    }

    fn outcomes(instance: &Instance, bodies: &[&str]) -> Vec<Reply> {
        let returned = Arc::new(Returned::default());
        let answers: Vec<_> = bodies
            .iter()
            .map(|body| {
                let (job, answer) = job(body, &returned);
                send(&instance.handle(), job);
                answer
            })
            .collect();
        let replies = answers
            .into_iter()
            .map(|answer| answer.blocking_recv().unwrap());
        replies.collect()
    }

    fn json(reply: &Reply) -> serde_json::Value {
        let scored = reply.outcome.as_ref().unwrap();
        serde_json::from_slice(scored.body.bytes()).unwrap()
    }

    #[test]
    fn requests_that_run_together_get_the_answers_that_they_get_alone() {
        let sample = include_str!("../../../models/digits/2/sample-request.json");
        let bodies = [sample, &digits_body(), sample];
        let together = small("models/digits/2/model.onnx");
        let alone = joining("models/digits/2/model.onnx", 1);
        let returned = Arc::new(Returned::default());
        let sent = bodies.map(|body| job(body, &returned));
        let (jobs, answers): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let reserved = |job| together.handle().reserve().unwrap().give_to(job);
        // Of 2, 1 and 2 rows.
        let jobs = jobs.into_iter().map(reserved).collect();
        together.handle().run_inline_or_queue(jobs);
        for (answer, body) in answers.into_iter().zip(bodies) {
            let reply = &answer.blocking_recv().unwrap();
            assert_eq!(reply.timings.joined, 3);
            let one = outcomes(&alone, &[body]).remove(0);
            assert_eq!(one.timings.joined, 1);
            let (joined, one) = (json(reply), json(&one));
            assert_eq!(joined["label"], one["label"]);
            let numbers = |body: &serde_json::Value| -> Vec<f64> {
                let rows = body["probabilities"].as_array().unwrap().iter();
                rows.flat_map(|row| row.as_array().unwrap())
                    .map(|number| number.as_f64().unwrap())
                    .collect()
            };
            let pairs = numbers(&joined).into_iter().zip(numbers(&one));
            assert!(
                pairs
                    .into_iter()
                    .all(|(joined, one)| (joined - one).abs() < 1e-4)
            );
        }
        together.stop();
        alone.stop();
    }

    #[test]
    fn runs_of_one_shape_in_a_row_give_each_its_own_answer_and_another_shape_too() {
        let add = joining("models/test/add.onnx", 1);
        let sums = |rows: &[[i32; 2]]| {
            let body = format!("{{\"data\": {{\"a\": {rows:?}, \"b\": {rows:?}}}}}");
            json(&outcomes(&add, &[&body])[0])["sum"].clone()
        };
        // More than it takes for inputs and outputs to be bound.
        for number in 0..30 {
            let sum = f64::from(number * 2);
            assert_eq!(sums(&[[number, 1]]), serde_json::json!([[sum, 2.0]]));
        }
        assert_eq!(
            sums(&[[1, 2], [3, 4]]),
            serde_json::json!([[2.0, 4.0], [6.0, 8.0]])
        );
        assert_eq!(sums(&[[5, 6]]), serde_json::json!([[10.0, 12.0]]));
        add.stop();
    }

    #[test]
    fn an_output_whose_size_depends_on_the_values_is_whole_every_time() {
        let positions = joining("models/test/positions.onnx", 1);
        let found = |body: &str| json(&outcomes(&positions, &[body])[0])["found"].clone();
        for _ in 0..20 {
            assert_eq!(found("{\"data\": [0, 7, 0]}"), serde_json::json!([[1]]));
        }
        for _ in 0..3 {
            assert_eq!(found("{\"data\": [5, 7, 0]}"), serde_json::json!([[0, 1]]));
            assert_eq!(found("{\"data\": [0, 0, 0]}"), serde_json::json!([[]]));
        }
        positions.stop();
    }

    #[test]
    fn a_request_that_fails_alone_does_not_fail_those_beside_it() {
        let picky = joining("models/test/picky.onnx", 4);
        let bodies = [
            "{\"data\": [0]}",
            "{\"data\": [99]}",
            "no JSON",
            "{\"data\": [1]}",
        ];
        let replies = outcomes(&picky, &bodies);
        assert_eq!(json(&replies[0])["found"][0], 10.0);
        assert!(matches!(&replies[1].outcome, Err(RunError::Model(_))));
        assert!(matches!(&replies[2].outcome, Err(RunError::Input(_))));
        assert_eq!(json(&replies[3])["found"][0], 20.0);
        assert!(!picky.has_failed());
        picky.stop();
    }

    #[test]
    fn rows_that_change_each_other_s_answers_never_share_a_run() {
        for model in ["centred", "quantised", "running_sum", "time_first"] {
            let instance = Instance::start(InstanceSpec {
                lanes: Some(1),
                ..spec(&format!("models/test/{model}.onnx"), 2)
            });
            let instance = instance.unwrap();
            let profile = instance.handle().profile().clone();
            // Seen in answers too: rows of very different sizes, in both orders.
            assert_eq!(profile.batching, Batching::RowsDepend, "{model}");
            assert!(!profile.facts.rows.is_proven(), "{model}");
            assert_eq!(profile.rows_max(None), 1, "{model}");
            instance.stop();
        }
        let fixed = joining(SLOW, 2);
        assert_eq!(fixed.handle().profile().batching, Batching::FixedRows);
        fixed.stop();
    }

    #[test]
    fn rows_that_depend_share_a_run_where_the_file_asks_for_it() {
        let centred = joining("models/test/centred.onnx", 2);
        let replies = outcomes(&centred, &["{\"data\": [[1, 2]]}", "{\"data\": [[3, 4]]}"]);
        assert_eq!(json(&replies[0])["rest"], serde_json::json!([[-1.0, -1.0]]));
        assert_eq!(json(&replies[1])["rest"], serde_json::json!([[1.0, 1.0]]));
        centred.stop();
    }

    /// An instance with one lane whose work counts as small.
    fn small(model: &str) -> Instance {
        Instance::start(InstanceSpec {
            lanes: Some(1),
            profile: Some(Arc::new(ModelProfile::instant(16))),
            ..spec(model, 4)
        })
        .unwrap()
    }

    #[test]
    fn small_work_is_answered_inline_where_a_lane_is_idle() {
        let instance = small(DIGITS);
        let handle = instance.handle();
        let returned = Arc::new(Returned::default());
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (job, answer) = job(&digits_body(), &returned);
            jobs.push(handle.reserve().unwrap().give_to(job));
            answers.push(answer);
        }
        handle.run_inline_or_queue(jobs);
        for mut answer in answers {
            // Here already, so no other thread was waited for.
            let reply = answer.try_recv().unwrap();
            assert_eq!(reply.timings.joined, 3);
            reply.outcome.unwrap();
        }
        instance.stop();
    }

    #[test]
    fn nothing_runs_inline_on_a_busy_lane_nor_on_a_stopped_one() {
        let instance = small(SLOW);
        let handle = instance.handle();
        let returned = Arc::new(Returned::default());
        let (slow, answer) = job(SLOW_BODY, &returned);
        send(&handle, slow);
        while handle.computing() == 0 {
            std::thread::yield_now();
        }
        let (quick, mut queued) = job("{\"data\": [1]}", &returned);
        handle.run_inline_or_queue(vec![handle.reserve().unwrap().give_to(quick)]);
        assert!(queued.try_recv().is_err());
        let (late, mut dropped) = job("{\"data\": [1]}", &returned);
        let late = handle.reserve().unwrap().give_to(late);
        instance.stop();
        for answer in [answer, queued] {
            let outcome = answer.blocking_recv().unwrap().outcome;
            assert!(matches!(outcome, Err(RunError::InstanceGone)));
        }
        handle.run_inline_or_queue(vec![late]);
        assert!(dropped.try_recv().is_err(), "nobody is left to answer");
        assert_eq!(returned.0.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_body_that_does_not_fit_is_the_client_s_fault_and_the_lane_lives() {
        let instance = start(DIGITS, 2).unwrap();
        let returned = Arc::new(Returned::default());
        for body in ["", "{}", "{\"data\": [[1]]}"] {
            let (job, answer) = job(body, &returned);
            send(&instance.handle(), job);
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
        send(&instance.handle(), job);
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
        let mut spec = spec_on_two_cores(DIGITS, 1);
        spec.label = "a-long-endpoint/blue".to_owned();
        let instance = Instance::start(spec).unwrap();
        let lane = format!("#{}.0", instance.id().0);
        let threads = &instance.placement().threads;
        assert_eq!(threads.len(), 2, "{threads:?}");
        assert!(threads[0].name.ends_with(&lane), "{threads:?}");
        for (number, thread) in threads.iter().enumerate().skip(1) {
            assert!(
                thread.name.ends_with(&format!("{lane}.{number}")),
                "{threads:?}"
            );
        }
        instance.stop();
    }

    /// Set in the process that tries what loading does to it.
    const ALONE: &str = "SERIN_TEST_ALONE";

    /// Runs a test of this file in a process of its own, for other tests of this one open sockets and start threads; without
    /// the variable that switches telemetry off, and with a home that nobody needs.
    fn run_alone(test: &str) {
        let home = tempfile::tempdir().unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg(format!("engine::instance::tests::{test}"))
            .env(ALONE, "1")
            .env("HOME", home.path())
            .env_remove("XDG_CACHE_HOME")
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

    #[test]
    fn loading_and_running_sends_no_telemetry() {
        if std::env::var_os(ALONE).is_some() {
            return load_and_run_alone();
        }
        run_alone("loading_and_running_sends_no_telemetry");
    }

    #[test]
    fn a_library_leaves_the_environment_alone_and_opens_no_connection() {
        if std::env::var_os(ALONE).is_none() {
            return run_alone("a_library_leaves_the_environment_alone_and_opens_no_connection");
        }
        let before: BTreeSet<_> = std::env::vars_os().collect();
        start(DIGITS, 1).unwrap().stop();
        assert_eq!(std::env::vars_os().collect::<BTreeSet<_>>(), before);
        assert_no_socket();
    }

    fn assert_no_socket() {
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
            let target = target.to_string_lossy();
            assert!(!target.starts_with("socket:"), "{target}");
        }
    }

    fn load_and_run_alone() {
        let library_is_loaded = || {
            std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .contains("libonnxruntime")
        };
        #[expect(unsafe_code, reason = "as in `main`")]
        // SAFETY: with `--test-threads=1` a test runs on the first thread, and there is no other.
        unsafe {
            crate::engine::prepare_process();
        }
        assert_eq!(std::env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
        assert!(!library_is_loaded(), "telemetry is off before it is loaded");

        let before = numbers_in("/proc/self/task");
        let instance = start(DIGITS, 1).unwrap();
        let returned = Arc::new(Returned::default());
        let (job, answer) = job(&digits_body(), &returned);
        send(&instance.handle(), job);
        answer.blocking_recv().unwrap().outcome.unwrap();
        assert!(library_is_loaded());

        let ours = instance.placement().threads.iter().map(|one| one.tid);
        let expected: BTreeSet<i32> = before.into_iter().chain(ours).collect();
        assert_eq!(numbers_in("/proc/self/task"), expected, "no other thread");
        assert_no_socket();
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

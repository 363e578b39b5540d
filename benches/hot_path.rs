//! What each request costs outside the model: pick, admit, hand over, decode, join, encode. `cargo bench --bench hot_path`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ort::value::TensorRef;
use serin::canary::{Arm, Ending, Guard, GuardPlan, Observation, Routing};
use serin::config::EVIDENCE_EVENTS_MAX;
use serin::deadline::Deadline;
use serin::engine::{
    Capacity, CoreMap, Here, HereWork, Instance, InstanceHandle, InstanceSpec, Job, Permit, Reply,
    ReservedJob, ScriptSpec, SlotOwner, Topology, environment_in_use,
};
use serin::observe::evidence::{RequestEvent, drain, push};
use serin::observe::{Outcome, Timings};
use serin::router::AdmissionControl;
use serin::spec::{Isolation, Percent, Picker, TrafficSplit, hash64};
use serin_scorers::{
    ElementType, JsonScorer, OutputKind, OutputSpec, OutputView, Scorer as _, Signature, Tensor,
    TensorSpec, TensorView,
};
use tokio::sync::oneshot;

/// Key of the permuted block.
const SEED: u64 = 0x5eed;

/// Whole percents (blocks of 100) and hundredths (blocks of 10,000).
fn pick(criterion: &mut Criterion) {
    for (name, split) in [
        ("90/10", "blue:90,green:10"),
        ("99.99/0.01", "blue:99.99,green:0.01"),
    ] {
        let split: TrafficSplit = split.parse().expect("a split");
        let picker = Picker::new(&split, SEED);
        let mut ticket = 0;
        criterion.bench_function(&format!("pick {name}"), |bencher| {
            bencher.iter(|| {
                ticket += 1;
                black_box(picker.pick(black_box(ticket)))
            });
        });
    }
}

/// The evidence event of one request, with the consumer's part: rings are emptied as they fill.
fn evidence(criterion: &mut Criterion) {
    let event = RequestEvent {
        at_us: 0,
        block: 0,
        key_hash: 0,
        id_hash: 1,
        split: 1,
        series: 1,
        build: 0,
        queue_us: 1,
        run_us: 2,
        total_us: 3,
        share: Percent::HUNDRED,
        outcome: Outcome::Ok,
        not_finite: false,
        is_cold: false,
        is_copy: false,
    };
    let mut pushed = 0_usize;
    criterion.bench_function("evidence of one request, pushed and drained", |bencher| {
        bencher.iter(|| {
            pushed += 1;
            if pushed.is_multiple_of(EVIDENCE_EVENTS_MAX) {
                drain(|event| _ = black_box(event));
            }
            push(black_box(event));
        });
    });
    criterion.bench_function("hash of a request id", |bencher| {
        let id = b"0f8fad5b-d9cb-469f-a165-70867728950e";
        bencher.iter(|| hash64(&[black_box(id)]));
    });
}

/// What a canary is judged by takes in a request that was answered.
fn observe(criterion: &mut Criterion) {
    let mut guard = Guard::new(GuardPlan::default()).expect("a plan");
    let mut at = 0;
    criterion.bench_function("observe", |bencher| {
        bencher.iter(|| {
            at += 1;
            let is_canary = at % 10 == 0;
            guard.observe(black_box(&Observation {
                arm: if is_canary { Arm::Canary } else { Arm::Stable },
                routing: Routing::Random { weight: 0.1 },
                ending: Ending::Answered,
                at_us: at * 1000,
                queue_us: 10,
                run_us: 1000 + at % 100,
                total_us: 1100 + at % 1000,
                cold: false,
            }));
        });
    });
}

/// A free slot taken and given back.
fn admit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let admission = AdmissionControl::new(4);
    criterion.bench_function("admit and give back", |bencher| {
        bencher.iter(|| {
            let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
            runtime
                .block_on(admission.admit(deadline))
                .expect("a free slot")
        });
    });
}

/// Slots that nobody counts.
struct Unbounded;

impl SlotOwner for Unbounded {
    fn give_back(&self) {}
}

/// A scoring script that does nothing but read its request.
fn script() -> ScriptSpec {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/scripts");
    ScriptSpec {
        python: PathBuf::from("python3"),
        entry_script: folder.join("score.py"),
        source_directory: folder.clone(),
        app_root: folder,
        model_dir: None,
        variables: BTreeMap::new(),
        environment: None,
        keep: Vec::new(),
    }
}

/// One lane of a model that adds two rows of two numbers, on a thread or in a process, or of a script: what is left is the way to it.
fn lane(isolation: Isolation, script: Option<ScriptSpec>) -> Instance {
    lane_of("models/test/add.onnx", isolation, script)
}

fn lane_of(model: &str, isolation: Isolation, script: Option<ScriptSpec>) -> Instance {
    let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Instance::start(InstanceSpec {
        concurrency: 16,
        lanes: Some(1),
        isolation,
        script,
        exe: Some(PathBuf::from(env!("CARGO_BIN_EXE_serin"))),
        ..InstanceSpec::new(
            "bench/add".to_owned(),
            root.expect("runtime/ is in the repository").join(model),
            cores.grant(1).expect("a core"),
        )
    })
    .expect("the model starts")
}

fn job(
    handle: &InstanceHandle,
    owner: &Arc<dyn SlotOwner>,
) -> (ReservedJob, oneshot::Receiver<Reply>) {
    let (reply, answer) = oneshot::channel();
    let now = Instant::now();
    let job = Job {
        id: Job::next_id(),
        payload: Bytes::from_static(b"{\"data\":{\"a\":[[1,2]],\"b\":[[3,4]]}}").into(),
        head: None,
        deadline: Deadline::after(now, Duration::from_secs(5)),
        timings: Timings::start(now),
        permit: Permit::new(Arc::clone(owner)),
        reply,
    };
    let reservation = handle.reserve().expect("room");
    (reservation.give_to(job), answer)
}

/// A job to a lane and its answer back: through the lane's own thread, and inline on the calling thread; where the lane computes
/// on a thread, and where it does in a process.
fn hand_over(criterion: &mut Criterion) {
    for (isolation, place) in [
        (Isolation::Thread, ""),
        (Isolation::Process, " in a process"),
    ] {
        let instance = lane(isolation, None);
        to_and_fro(criterion, &instance.handle(), place);
        instance.stop();
    }
    let instance = lane(Isolation::Auto, Some(script()));
    queued(criterion, &instance.handle(), " of a script");
    instance.stop();
}

fn queued(criterion: &mut Criterion, handle: &InstanceHandle, place: &str) {
    let owner: Arc<dyn SlotOwner> = Arc::new(Unbounded);
    let name = format!("hand over to a lane{place} and back");
    criterion.bench_function(&name, |bencher| {
        bencher.iter(|| {
            let (job, answer) = job(handle, &owner);
            handle.queue([job]);
            answer.blocking_recv().expect("an answer")
        });
    });
}

fn to_and_fro(criterion: &mut Criterion, handle: &InstanceHandle, place: &str) {
    queued(criterion, handle, place);
    let owner: Arc<dyn SlotOwner> = Arc::new(Unbounded);
    for together in [1, 8] {
        let name = format!("answer {together} inline{place}");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let jobs = (0..together).map(|_| job(handle, &owner));
                let (jobs, answers): (Vec<_>, Vec<_>) = jobs.unzip();
                handle.run_inline_or_queue(jobs);
                for answer in answers {
                    black_box(answer.blocking_recv().expect("an answer"));
                }
            });
        });
    }
}

/// Tensors on the calling thread, over its memory; beside them the same by ONNX Runtime alone.
fn tensors(criterion: &mut Criterion) {
    const DIGITS: &str = "models/digits/1/model.onnx";
    let instance = lane_of(DIGITS, Isolation::Thread, None);
    let handle = instance.handle();
    let owner: Arc<dyn SlotOwner> = Arc::new(Unbounded);
    let mut bare = bare(DIGITS);
    for rows in [1, 1000] {
        let numbers = vec![0.5_f32; rows * 64];
        criterion.bench_function(&format!("run {rows} rows here"), |bencher| {
            bencher.iter(|| {
                let view = TensorView::new([rows, 64], &numbers).expect("its shape");
                run_here(&handle, &owner, &[view]);
            });
        });
        criterion.bench_function(
            &format!("run {rows} rows by ONNX Runtime alone"),
            |bencher| {
                bencher.iter(|| {
                    let view =
                        TensorRef::from_array_view(([rows, 64], &*numbers)).expect("its shape");
                    let outputs = bare.run(ort::inputs![view]).expect("a run");
                    let (_, probabilities) =
                        outputs[1].try_extract_tensor::<f32>().expect("floats");
                    black_box(probabilities[0])
                });
            },
        );
    }
    instance.stop();
}

fn run_here(handle: &InstanceHandle, owner: &Arc<dyn SlotOwner>, inputs: &[TensorView<'_>]) {
    let now = Instant::now();
    let work = HereWork {
        id: Job::next_id(),
        inputs,
        deadline: Deadline::after(now, Duration::from_secs(5)),
        may_take_long: true,
        timings: Timings::start(now),
        reservation: handle.reserve().expect("room"),
        permit: Permit::new(Arc::clone(owner)),
    };
    let Here::Done(done) = handle.run_here(work) else {
        panic!("the lane is idle");
    };
    black_box(done.outcome.expect("an answer"));
}

/// The model on the calling thread, without anything of ours.
fn bare(model: &str) -> ort::session::Session {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let model = root.expect("runtime/ is in the repository").join(model);
    let environment = environment_in_use().expect("ONNX Runtime");
    let builder = ort::session::Session::builder(&environment).expect("a builder");
    let mut builder = builder.with_intra_threads(1).expect("one thread");
    let loaded = builder.commit_from_file(model);
    loaded.expect("the model loads")
}

/// Rows of 16 requests joined into one input.
fn join(criterion: &mut Criterion) {
    let rows: Vec<_> = (0..16)
        .map(|_| Tensor::new([1, 64], vec![0.5_f32; 64]).expect("its shape"))
        .collect();
    let rows: Vec<_> = rows.iter().collect();
    criterion.bench_function("join 16 rows of 64", |bencher| {
        bencher.iter(|| Tensor::join(black_box(&rows)).expect("they fit"));
    });
}

/// The digits model: 64 numbers a row in, 10 out.
fn json(criterion: &mut Criterion) {
    let tensor = |name: &str, width| TensorSpec {
        name: name.to_owned(),
        datatype: ElementType::Fp32,
        shape: vec![-1, width],
        any_rank: false,
    };
    let output = tensor("probabilities", 10);
    let scorer = JsonScorer::new(Signature {
        inputs: vec![tensor("data", 64)],
        outputs: vec![OutputSpec {
            name: output.name,
            kind: OutputKind::Tensor {
                datatype: output.datatype,
                shape: output.shape,
            },
        }],
    });
    for rows in [1, 256] {
        let row: Vec<f32> = (0..64_u8).map(|pixel| f32::from(pixel % 17)).collect();
        let body = format!("{{\"data\":{:?}}}", vec![row; rows]);
        criterion.bench_function(&format!("decode {rows} rows of 64"), |bencher| {
            bencher.iter(|| {
                scorer
                    .preprocess(black_box(body.as_bytes()))
                    .expect("it fits")
            });
        });
        let answer = Tensor::new([rows, 10], vec![0.123_456_7_f32; rows * 10]).expect("its shape");
        criterion.bench_function(&format!("encode {rows} rows of 10"), |bencher| {
            bencher.iter(|| {
                scorer
                    .postprocess(&[OutputView::Tensor(black_box(answer.view()))])
                    .expect("it has a JSON form")
            });
        });
    }
}

criterion_group!(
    benches, pick, evidence, observe, admit, hand_over, tensors, join, json
);
criterion_main!(benches);

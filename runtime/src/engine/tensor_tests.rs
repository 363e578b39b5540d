//! Tests of tensors in and values out: on a caller's own thread, through the lanes, in processes, and beside JSON.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin_scorers::{Element, JsonScorer, Scorer as _, Signature, Tensor, TensorView, Value};
use tokio::sync::oneshot;

use crate::deadline::Deadline;
use crate::engine::session::views;
use crate::engine::{
    BatchSettings, Capacity, CoreMap, Here, HereDone, HereWork, Instance, InstanceHandle,
    InstanceSpec, Job, ModelProfile, Payload, Permit, Reply, RunError, ScoredBody, SlotOwner,
    Topology,
};
use crate::observe::Timings;
use crate::spec::Isolation;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const DIGITS: &str = "digits/2/model.onnx";
const ADD: &str = "test/add.onnx";
const SLOW: &str = "test/slow.onnx";

/// Counts the permits that came back.
#[derive(Debug, Default)]
struct Returned(AtomicU32);

impl SlotOwner for Returned {
    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn spec(model: &str, lanes: u32, isolation: Isolation) -> InstanceSpec {
    let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
    let core = cores.grant(1).unwrap().cores[0];
    // As many cores as lanes, on paper.
    let topology = Topology::new(&vec![core; lanes as usize], |core| vec![core], None);
    let mut cores = CoreMap::new(topology, Capacity::Overcommit);
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    InstanceSpec {
        concurrency: 16,
        lanes: Some(lanes),
        isolation,
        exe: Some(std::env::current_exe().unwrap()),
        ..InstanceSpec::new(
            "test/blue".to_owned(),
            models.join(model),
            cores.grant(lanes as usize).unwrap(),
        )
    }
}

fn start(model: &str, lanes: u32) -> Instance {
    Instance::start(spec(model, lanes, Isolation::Thread)).unwrap()
}

fn tensor<T: Element>(shape: &[usize], elements: &[T]) -> Tensor {
    Tensor::new(shape, elements.to_vec()).unwrap()
}

/// More work than any test waits for, in steps that can be ended one by one.
fn slow_steps() -> Tensor {
    tensor(&[1], &[100_000_000_i64])
}

fn work<'a>(
    handle: &InstanceHandle,
    inputs: &'a [TensorView<'a>],
    returned: &Arc<Returned>,
) -> HereWork<'a> {
    let now = Instant::now();
    let owner: Arc<dyn SlotOwner> = Arc::clone(returned) as _;
    HereWork {
        id: Job::next_id(),
        inputs,
        deadline: Deadline::after(now, PATIENCE),
        may_take_long: true,
        timings: Timings::start(now),
        reservation: handle.reserve().unwrap(),
        permit: Permit::new(owner),
    }
}

fn done(here: Here<'_>) -> HereDone {
    match here {
        Here::Done(done) => done,
        Here::Left(work) => panic!("left: {work:?}"),
    }
}

/// Runs the model here, and sees to it that nothing is occupied afterwards.
fn run_here(instance: &Instance, inputs: &[Tensor]) -> Result<Vec<Value>, RunError> {
    let (handle, returned) = (instance.handle(), Arc::new(Returned::default()));
    let views = views(inputs);
    let done = done(handle.run_here(work(&handle, &views, &returned)));
    assert_eq!((returned.0.load(Ordering::SeqCst), handle.load()), (1, 0));
    done.outcome
}

fn send(handle: &InstanceHandle, payload: Payload) -> (u64, oneshot::Receiver<Reply>) {
    let (reply, answer) = oneshot::channel();
    let (now, id) = (Instant::now(), Job::next_id());
    let job = Job {
        id,
        payload,
        head: None,
        deadline: Deadline::after(now, PATIENCE),
        timings: Timings::start(now),
        permit: Permit::new(Arc::new(Returned::default())),
        reply,
    };
    handle.queue([handle.reserve().unwrap().give_to(job)]);
    (id, answer)
}

fn values(reply: Reply) -> Result<Vec<Value>, RunError> {
    match reply.outcome?.body {
        ScoredBody::Values(values) => Ok(values),
        ScoredBody::Json(body) => panic!("tensors were answered with {body:?}"),
    }
}

fn ask(instance: &Instance, inputs: &[Tensor]) -> Result<Vec<Value>, RunError> {
    let (_, answer) = send(&instance.handle(), Payload::Tensors(inputs.to_vec()));
    values(answer.blocking_recv().unwrap())
}

fn of_json(signature: &Signature, data: &str) -> Vec<Tensor> {
    let body = format!("{{\"data\": {data}}}");
    let scorer = JsonScorer::new(signature.clone());
    scorer.preprocess(body.as_bytes()).unwrap()
}

fn wait_until_it_computes(handle: &InstanceHandle) {
    while handle.computing() == 0 {
        thread::yield_now();
    }
}

#[test]
fn every_kind_of_value_is_the_same_here_on_a_lane_and_in_a_process() {
    for (model, data) in [
        (DIGITS, format!("{:?}", [[0.5; 64], [1.5; 64]])),
        (ADD, "{\"a\": [[1, 2]], \"b\": [[3, 4]]}".to_owned()),
        (
            "test/strings.onnx",
            "[\"a\\u0000b\", \"é\", \"\"]".to_owned(),
        ),
        ("test/zipmap.onnx", "[[0.25, 0.75], [1, 0]]".to_owned()),
        ("test/sequences.onnx", "[[1, 2], [3, 4]]".to_owned()),
    ] {
        let (thread, process) = (
            start(model, 1),
            Instance::start(spec(model, 1, Isolation::Process)).unwrap(),
        );
        let inputs = of_json(thread.handle().signature(), &data);
        let here = run_here(&thread, &inputs).unwrap();
        assert_eq!(here.len(), thread.handle().signature().outputs.len());
        assert_eq!(ask(&thread, &inputs).unwrap(), here, "{model}");
        assert_eq!(ask(&process, &inputs).unwrap(), here, "{model}");
        thread.stop();
        process.stop();
    }
}

#[test]
fn what_does_not_fit_is_refused_in_the_words_of_json_wherever_it_runs() {
    // One for runs here alone: a lane that has just answered somebody may not be idle yet.
    let (here, thread, process) = (
        start(DIGITS, 1),
        start(DIGITS, 1),
        Instance::start(spec(DIGITS, 1, Isolation::Process)).unwrap(),
    );
    let name = thread.handle().signature().inputs[0].name.clone();
    let wanted = format!("input {name:?}: expected FP32 numbers of shape [-1, 64], found");
    let fits = tensor(&[1, 64], &[0.5_f32; 64]);
    for (inputs, words) in [
        (
            vec![tensor(&[1, 64], &[0.5_f64; 64])],
            format!("{wanted} FP64 of shape [1, 64]"),
        ),
        (
            vec![tensor(&[64, 1], &[0.5_f32; 64])],
            format!("{wanted} FP32 of shape [64, 1]"),
        ),
        (
            vec![tensor(&[64], &[0.5_f32; 64])],
            format!("{wanted} FP32 of shape [64]"),
        ),
        (
            vec![tensor(&[], &[0.5_f32])],
            format!("{wanted} FP32 of shape []"),
        ),
        (
            vec![],
            format!("the model takes 1 tensors ({name:?}), found 0"),
        ),
        (
            vec![fits.clone(), fits.clone()],
            format!("the model takes 1 tensors ({name:?}), found 2"),
        ),
    ] {
        for outcome in [
            run_here(&here, &inputs),
            ask(&thread, &inputs),
            ask(&process, &inputs),
        ] {
            let refused = outcome.unwrap_err();
            assert!(matches!(refused, RunError::Input(_)), "{refused:?}");
            assert_eq!(refused.to_string(), words);
        }
    }
    let fits = [fits];
    assert!(run_here(&here, &fits).is_ok() && ask(&process, &fits).is_ok());
    here.stop();
    thread.stop();
    process.stop();
}

#[test]
fn no_rows_are_answered_with_no_rows() {
    let digits = start(DIGITS, 1);
    let none = [tensor::<f32>(&[0, 64], &[])];
    for outcome in [run_here(&digits, &none), ask(&digits, &none)] {
        let values = outcome.unwrap();
        assert!(
            values
                .iter()
                .all(|value| value.as_tensor().unwrap().rows() == Some(0))
        );
    }
    digits.stop();
}

#[test]
fn tensors_and_json_share_a_run_and_each_is_answered_in_its_own_form() {
    let alone = start(DIGITS, 1);
    let together = Instance::start(InstanceSpec {
        batch: BatchSettings {
            size_max: Some(2),
            delay: PATIENCE,
        },
        ..spec(DIGITS, 1, Isolation::Thread)
    });
    let together = together.unwrap();
    let row: Vec<f32> = (0..64_u8).map(f32::from).collect();
    let inputs = [tensor(&[1, 64], &row)];
    let body = Bytes::from(format!("{{\"data\": [{:?}]}}", [1; 64]));
    let handle = together.handle();
    let (_, json) = send(&handle, body.clone().into());
    let (_, tensors) = send(&handle, Payload::Tensors(inputs.to_vec()));
    let [json, tensors] = [json, tensors].map(|answer| answer.blocking_recv().unwrap());
    assert_eq!((json.timings.joined, tensors.timings.joined), (2, 2));
    // Before the lane has answered anybody: it may not be idle at once then.
    let here_alone = run_here(&alone, &inputs).unwrap();
    let (_, json_alone) = send(&alone.handle(), body.into());
    let json_alone = json_alone.blocking_recv().unwrap();
    let label = |reply: Reply| {
        let body = reply.outcome.unwrap().body;
        serde_json::from_slice::<serde_json::Value>(body.bytes()).unwrap()["label"].clone()
    };
    assert_eq!(label(json), label(json_alone));
    // The order of additions differs with the size of a run.
    let pairs = values(tensors).unwrap().into_iter().zip(here_alone);
    for (joined, one) in pairs {
        let (joined, one) = (joined.as_tensor().unwrap(), one.as_tensor().unwrap());
        assert_eq!(joined.shape(), one.shape());
        match (joined.elements::<f32>(), one.elements::<f32>()) {
            (Some(joined), Some(one)) => {
                let mut pairs = joined.iter().zip(one);
                assert!(pairs.all(|(joined, one)| (joined - one).abs() < 1e-4));
            }
            _ => assert_eq!(joined, one),
        }
    }
    // Who is to wait for others does not run at once.
    let views = views(&inputs);
    let here = handle.run_here(work(&handle, &views, &Arc::default()));
    assert!(matches!(here, Here::Left(_)), "{here:?}");
    drop(here);
    alone.stop();
    together.stop();
}

#[test]
fn a_run_here_ends_at_its_deadline_and_the_next_one_runs() {
    let (slow, returned) = (start(SLOW, 1), Arc::new(Returned::default()));
    let (handle, steps) = (slow.handle(), slow_steps());
    let views = [steps.view()];
    let work = HereWork {
        deadline: Deadline::after(Instant::now(), Duration::from_millis(50)),
        ..work(&handle, &views, &returned)
    };
    let expired = done(handle.run_here(work)).outcome;
    // On a machine that stands still it passes before the run.
    let passed = matches!(
        expired,
        Err(RunError::ExpiredRunning | RunError::ExpiredWaiting)
    );
    assert!(passed, "{expired:?}");
    assert_eq!(returned.0.load(Ordering::SeqCst), 1);
    run_here(&slow, &[tensor(&[1], &[1_i64])]).unwrap();
    slow.stop();
}

#[test]
fn a_run_here_ends_when_it_is_canceled_and_with_its_instance() {
    let slow = start(SLOW, 1);
    let (handle, steps) = (slow.handle(), slow_steps());
    let (views, returned) = ([steps.view()], Arc::new(Returned::default()));
    let first = work(&handle, &views, &returned);
    let id = first.id;
    let canceled = thread::scope(|scope| {
        let caller = scope.spawn(|| done(handle.run_here(first)).outcome);
        wait_until_it_computes(&handle);
        assert!(handle.cancel(id));
        caller.join().unwrap()
    });
    assert!(matches!(canceled, Err(RunError::Abandoned)), "{canceled:?}");
    let second = work(&handle, &views, &returned);
    let stopped = thread::scope(|scope| {
        let caller = scope.spawn(|| done(handle.run_here(second)).outcome);
        wait_until_it_computes(&handle);
        slow.stop();
        caller.join().unwrap()
    });
    assert!(
        matches!(stopped, Err(RunError::InstanceGone)),
        "{stopped:?}"
    );
    assert_eq!(returned.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_thread_that_others_wait_for_gets_its_work_back() {
    let slow = Instance::start(InstanceSpec {
        profile: Some(Arc::new(ModelProfile::instant(16))),
        ..spec(SLOW, 1, Isolation::Thread)
    });
    let (slow, steps) = (slow.unwrap(), slow_steps());
    let (handle, views, returned) = (slow.handle(), [steps.view()], Arc::new(Returned::default()));
    let brief = HereWork {
        may_take_long: false,
        ..work(&handle, &views, &returned)
    };
    match handle.run_here(brief) {
        Here::Left(work) => {
            assert_eq!(handle.load(), 1, "it has its room still");
            assert_eq!(returned.0.load(Ordering::SeqCst), 0);
            drop(work);
        }
        Here::Done(done) => panic!("{done:?}"),
    }
    assert_eq!(returned.0.load(Ordering::SeqCst), 1);
    run_here(&slow, &[tensor(&[1], &[1_i64])]).unwrap();
    slow.stop();
}

/// The lane's own thread takes a job, finds its lane lent, and must neither keep the job nor take the next one.
#[test]
fn jobs_do_not_wait_for_a_caller_where_another_lane_is_idle() {
    let slow = start(SLOW, 2);
    let (handle, steps) = (slow.handle(), slow_steps());
    let views = [steps.view()];
    let long = work(&handle, &views, &Arc::default());
    let id = long.id;
    let ended = thread::scope(|scope| {
        let caller = scope.spawn(|| done(handle.run_here(long)).outcome);
        wait_until_it_computes(&handle);
        for _ in 0..20 {
            let quick = [tensor(&[1], &[1_i64])];
            ask(&slow, &quick).unwrap();
        }
        assert!(handle.cancel(id), "the caller computes all the while");
        caller.join().unwrap()
    });
    assert!(matches!(ended, Err(RunError::Abandoned)), "{ended:?}");
    for _ in 0..4 {
        ask(&slow, &[tensor(&[1], &[1_i64])]).unwrap();
    }
    slow.stop();
}

#[test]
fn a_job_that_waits_for_the_only_lane_runs_when_its_caller_is_done() {
    let slow = start(SLOW, 1);
    let (handle, steps) = (slow.handle(), slow_steps());
    let views = [steps.view()];
    let long = work(&handle, &views, &Arc::default());
    let id = long.id;
    thread::scope(|scope| {
        let caller = scope.spawn(|| done(handle.run_here(long)).outcome);
        wait_until_it_computes(&handle);
        let (_, answer) = send(&handle, Payload::Tensors(vec![tensor(&[1], &[1_i64])]));
        handle.cancel(id);
        values(answer.blocking_recv().unwrap()).unwrap();
        caller.join().unwrap().unwrap_err();
    });
    slow.stop();
}

#[test]
fn eight_threads_over_two_lanes_get_each_its_own_answer() {
    const TIMES: u8 = 100;
    let add = start(ADD, 2);
    let (handle, returned) = (add.handle(), Arc::new(Returned::default()));
    let asks = |number: u8| {
        for time in 0..TIMES {
            let (one, other) = (f32::from(number), f32::from(time));
            let inputs = [
                tensor(&[1, 2], &[one, other]),
                tensor(&[1, 2], &[other, other]),
            ];
            let views = views(&inputs);
            let outcome = match handle.run_here(work(&handle, &views, &returned)) {
                Here::Done(done) => done.outcome,
                Here::Left(work) => {
                    drop(work);
                    ask(&add, &inputs)
                }
            };
            let sum = tensor(&[1, 2], &[one + other, other + other]);
            assert_eq!(outcome.unwrap(), [Value::Tensor(sum)]);
        }
    };
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || asks(number));
        }
    });
    assert_eq!(returned.0.load(Ordering::SeqCst), 8 * u32::from(TIMES));
    add.stop();
}

#[test]
fn outputs_that_take_more_than_the_share_are_refused_with_the_numbers() {
    let swells = Instance::start(InstanceSpec {
        memory_bytes_max: Some(100_000_000),
        ..spec("test/swells.onnx", 1, Isolation::Thread)
    });
    let swells = swells.unwrap();
    let filled = |inside: i64, outside: i64| {
        let inputs = [inside, outside].map(|number| tensor(&[1], &[number]));
        run_here(&swells, &inputs)
    };
    let words = filled(1, 1_000_000_000).unwrap_err().to_string();
    assert!(words.starts_with("the run asked for 4.0 GB; "), "{words}");
    // Half of it is there twice: as the run gave it, and as the value.
    assert!(filled(1, 10_000_000).is_ok());
    let words = filled(1, 20_000_000).unwrap_err().to_string();
    assert!(words.starts_with("its answer is too large"), "{words}");
    swells.stop();
}

/// Its run is one node that cannot be ended: its room and the lane go to others, and its own thread comes back when it does.
#[test]
fn a_caller_whose_run_does_not_end_keeps_neither_the_lane_nor_its_room() {
    let endless = start("test/endless.onnx", 1);
    let (handle, returned) = (endless.handle(), Arc::new(Returned::default()));
    let side = tensor(&[1], &[5000_i64]);
    let views = [side.view()];
    let mut pause = Duration::from_millis(50);
    let mut tried = 0;
    while handle.troubles().is_none() {
        let long = work(&handle, &views, &returned);
        let id = long.id;
        thread::scope(|scope| {
            let caller = scope.spawn(|| done(handle.run_here(long)).outcome);
            wait_until_it_computes(&handle);
            // Ended before its long node begins, it ends well: then once more, with more patience.
            thread::sleep(pause);
            handle.cancel(id);
            // Waits in the inbox for this lane, or for the one that takes its place.
            ask(&endless, &[tensor(&[1], &[1_i64])]).unwrap();
            caller.join().unwrap().unwrap_err();
        });
        pause *= 2;
        tried += 1;
    }
    let troubles = handle.troubles().unwrap_or_default();
    assert!(
        troubles.contains("its thread was left behind"),
        "{troubles}"
    );
    assert_eq!(returned.0.load(Ordering::SeqCst), tried);
    assert_eq!(handle.load(), 0);
    endless.stop();
}

//! Tests of lanes whose models misbehave, with real models and real processes: the tests' own binary plays the process of a lane.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::deadline::Deadline;
use crate::engine::{
    BatchSettings, Capacity, CoreMap, Instance, InstanceSpec, Job, ModelProfile, Permit, Reply,
    RunError, SlotOwner, StartError, Topology,
};
use crate::observe::Timings;
use crate::spec::Isolation;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// More work than any test waits for, in steps that can be ended one by one.
const SLOW_BODY: &str = "{\"data\": [100000000]}";
/// Seconds of work in one node, which cannot be ended.
const ENDLESS_BODY: &str = "{\"data\": [5000]}";
/// Ends the process that computes it.
const FATAL_BODY: &str = "{\"data\": {\"a\": [-9223372036854775808], \"b\": [-1]}}";

#[derive(Debug, Default)]
struct Returned(AtomicU32);

impl SlotOwner for Returned {
    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn spec(model: &str, isolation: Isolation) -> InstanceSpec {
    let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    InstanceSpec {
        concurrency: 4,
        lanes: Some(1),
        isolation,
        exe: Some(std::env::current_exe().unwrap()),
        ..InstanceSpec::new(
            "test/blue".to_owned(),
            models.join(model),
            cores.grant(1).unwrap(),
        )
    }
}

fn start(model: &str, isolation: Isolation) -> Instance {
    Instance::start(spec(model, isolation)).unwrap()
}

/// A job, the number by which it is canceled, and where its answer comes.
fn job(body: &str, returned: &Arc<Returned>) -> (Job, u64, oneshot::Receiver<Reply>) {
    let (reply, answer) = oneshot::channel();
    let now = Instant::now();
    let id = Job::next_id();
    let owner: Arc<dyn SlotOwner> = Arc::clone(returned) as _;
    let job = Job {
        id,
        payload: Bytes::copy_from_slice(body.as_bytes()).into(),
        head: None,
        deadline: Deadline::after(now, PATIENCE),
        timings: Timings::start(now),
        permit: Permit::new(owner),
        reply,
    };
    (job, id, answer)
}

fn send(instance: &Instance, body: &str) -> (u64, oneshot::Receiver<Reply>) {
    let (job, id, answer) = job(body, &Arc::default());
    let handle = instance.handle();
    handle.queue([handle.reserve().unwrap().give_to(job)]);
    (id, answer)
}

fn ask(instance: &Instance, body: &str) -> Reply {
    send(instance, body).1.blocking_recv().unwrap()
}

fn json(reply: Reply) -> serde_json::Value {
    serde_json::from_slice(reply.outcome.unwrap().body.bytes()).unwrap()
}

/// Divides 6 by 3, as often as asked, joined or not.
fn divides(instance: &Instance) {
    let body = "{\"data\": {\"a\": [6], \"b\": [3]}}";
    let quotient = json(ask(instance, body))["quotient"].clone();
    assert_eq!(quotient, serde_json::json!([2]));
}

/// Waits until the instance works on something.
fn wait_until_it_computes(instance: &Instance) {
    while instance.handle().computing() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_process_gives_the_answers_that_a_thread_gives() {
    let models = [
        (
            "digits/1/model.onnx",
            format!("{{\"data\": [{:?}]}}", [0; 64]),
        ),
        ("digits/1/model.onnx", "no JSON".to_owned()),
        ("digits/1/model.onnx", "{\"data\": [[1]]}".to_owned()),
        ("test/picky.onnx", "{\"data\": [99]}".to_owned()),
        ("test/strings.onnx", "{\"data\": [\"a\", \"é\"]}".to_owned()),
    ];
    for (model, body) in models {
        let (thread, process) = (
            start(model, Isolation::Thread),
            start(model, Isolation::Process),
        );
        let told = |instance: &Instance| match ask(instance, &body).outcome {
            Ok(scored) => Ok(scored.body),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(told(&process), told(&thread), "{model} {body}");
        let (one, other) = (process.handle(), thread.handle());
        assert_eq!(one.signature(), other.signature());
        assert_eq!(one.profile().batching, other.profile().batching, "{model}");
        thread.stop();
        process.stop();
    }
}

#[test]
fn the_threads_of_a_process_are_seen_where_they_were_asked_for() {
    let instance = start("digits/1/model.onnx", Isolation::Process);
    let placement = instance.placement();
    assert!(placement.verified, "{placement:?}");
    // The lane's own thread here, and the one that computes there.
    assert_eq!(placement.threads.len(), 2);
    let there = placement.threads[1].tid;
    assert!(!Path::new(&format!("/proc/self/task/{there}")).exists());
    instance.stop();
    assert!(!Path::new(&format!("/proc/{there}")).exists());
}

#[test]
fn requests_that_run_together_in_a_process_get_their_own_answers() {
    let instance = Instance::start(InstanceSpec {
        profile: Some(Arc::new(ModelProfile::instant(16))),
        ..spec("test/add.onnx", Isolation::Process)
    })
    .unwrap();
    let handle = instance.handle();
    let returned = Arc::new(Returned::default());
    for round in 0..50 {
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for number in 0..4 {
            let body = format!("{{\"data\": {{\"a\": [[{round}, {number}]], \"b\": [[1, 2]]}}}}");
            let (job, _, answer) = job(&body, &returned);
            jobs.push(handle.reserve().unwrap().give_to(job));
            answers.push(answer);
        }
        handle.run_inline_or_queue(jobs);
        for (number, answer) in answers.into_iter().enumerate() {
            let reply = answer.blocking_recv().unwrap();
            let timings = reply.timings;
            assert!(timings.queue().is_some() && timings.run().is_some());
            let sum = json(reply)["sum"].clone();
            let expected = [
                f64::from(round + 1),
                f64::from(u8::try_from(number).unwrap()) + 2.0,
            ];
            assert_eq!(sum, serde_json::json!([expected]));
        }
    }
    assert_eq!(returned.0.load(Ordering::SeqCst), 200);
    assert_eq!(handle.load(), 0);
    instance.stop();
}

#[test]
fn a_request_that_ends_its_process_fails_alone_and_the_lane_goes_on() {
    let instance = start("test/divide.onnx", Isolation::Process);
    divides(&instance);
    for deaths in 1..=3 {
        let (_, before) = send(&instance, "{\"data\": {\"a\": [8], \"b\": [2]}}");
        let (_, fatal) = send(&instance, FATAL_BODY);
        let (_, behind) = send(&instance, "{\"data\": {\"a\": [9], \"b\": [3]}}");
        let error = fatal.blocking_recv().unwrap().outcome.unwrap_err();
        assert!(
            matches!(&error, RunError::Died { how, suspect: Some(suspect) }
                if how.contains("SIGFPE") && suspect.contains("Div")),
            "{error}"
        );
        for (answer, quotient) in [(before, 4), (behind, 3)] {
            let answer = json(answer.blocking_recv().unwrap());
            assert_eq!(answer["quotient"], serde_json::json!([quotient]));
        }
        let troubles = instance.handle().troubles().unwrap();
        assert!(troubles.contains("SIGFPE"), "{troubles}");
        assert_eq!(deaths > 1, troubles.starts_with(&format!("{deaths} times")));
    }
    assert!(!instance.has_failed());
    assert_eq!(instance.handle().load(), 0);
    instance.stop();
}

/// Nobody knows which of them it was, so each runs once more, alone.
#[test]
fn requests_that_shared_a_run_with_a_fatal_one_get_their_answers() {
    let instance = Instance::start(InstanceSpec {
        profile: Some(Arc::new(ModelProfile::instant(16))),
        batch: BatchSettings {
            size_max: Some(4),
            delay: PATIENCE,
        },
        ..spec("test/divide.onnx", Isolation::Process)
    })
    .unwrap();
    let bodies = [
        "{\"data\": {\"a\": [8], \"b\": [2]}}",
        FATAL_BODY,
        "{\"data\": {\"a\": [9], \"b\": [3]}}",
        "{\"data\": {\"a\": [5], \"b\": [1]}}",
    ];
    let answers: Vec<_> = bodies.iter().map(|body| send(&instance, body).1).collect();
    let mut outcomes = answers
        .into_iter()
        .map(|answer| answer.blocking_recv().unwrap());
    let mut next = || outcomes.next().unwrap();
    assert_eq!(json(next())["quotient"], serde_json::json!([4]));
    assert!(matches!(next().outcome, Err(RunError::Died { .. })));
    assert_eq!(json(next())["quotient"], serde_json::json!([3]));
    assert_eq!(json(next())["quotient"], serde_json::json!([5]));
    instance.stop();
}

/// An I/O thread does not wait for a new process.
#[test]
fn a_process_that_ends_under_an_inline_run_is_replaced_by_the_lane() {
    let instance = Instance::start(InstanceSpec {
        profile: Some(Arc::new(ModelProfile::instant(1))),
        ..spec("test/divide.onnx", Isolation::Process)
    })
    .unwrap();
    let handle = instance.handle();
    let (fatal, _, answer) = job(FATAL_BODY, &Arc::default());
    handle.run_inline_or_queue(vec![handle.reserve().unwrap().give_to(fatal)]);
    let outcome = answer.blocking_recv().unwrap().outcome;
    assert!(matches!(outcome, Err(RunError::Died { .. })), "{outcome:?}");
    divides(&instance);
    instance.stop();
}

#[test]
fn a_process_that_is_killed_between_requests_is_not_missed() {
    let instance = start("test/divide.onnx", Isolation::Process);
    let process = instance.placement().threads[1].tid;
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    while Path::new(&format!("/proc/{}", process.as_raw_nonzero())).exists() {
        std::thread::yield_now();
    }
    // Nobody is to be blamed.
    divides(&instance);
    let troubles = instance.handle().troubles().unwrap();
    assert!(troubles.contains("SIGKILL"), "{troubles}");
    instance.stop();
}

/// It never began the request, so nothing ran that could have been ended.
#[test]
fn a_process_that_was_stopped_from_outside_is_given_up() {
    let instance = start("test/divide.onnx", Isolation::Process);
    let process = instance.placement().threads[1].tid;
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let mut pause = Duration::from_millis(10);
    while instance.handle().troubles().is_none() {
        let (id, answer) = send(&instance, FATAL_BODY);
        // Not yet with the process, it is dropped there: then once more, with more patience.
        std::thread::sleep(pause);
        pause *= 2;
        drop(answer);
        while instance.handle().load() != 0 {
            instance.handle().cancel(id);
            std::thread::yield_now();
        }
    }
    let troubles = instance.handle().troubles().unwrap();
    assert!(troubles.contains("a run did not end"), "{troubles}");
    divides(&instance);
    instance.stop();
}

/// Two lanes on two cores, whatever the machine has: on paper, for both are the one that every machine has.
fn two_lanes(exe: &Path) -> Instance {
    let one = spec("test/divide.onnx", Isolation::Process);
    let core = one.cores.cores[0];
    let topology = Topology::new(&[core, core], |core| vec![core], None);
    let mut cores = CoreMap::new(topology, Capacity::Overcommit);
    Instance::start(InstanceSpec {
        cores: cores.grant(2).unwrap(),
        lanes: Some(2),
        exe: Some(exe.to_owned()),
        ..one
    })
    .unwrap()
}

#[test]
fn an_instance_goes_on_without_the_lane_that_cannot_start_again() {
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("serin");
    let put_it_there = || std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &exe);
    put_it_there().unwrap();
    let instance = two_lanes(&exe);
    let dies = || {
        let error = ask(&instance, FATAL_BODY).outcome.unwrap_err();
        assert!(matches!(error, RunError::Died { .. }), "{error}");
    };
    std::fs::remove_file(&exe).unwrap();
    dies();
    while !instance
        .handle()
        .troubles()
        .is_some_and(|troubles| troubles.contains("cannot go on"))
    {
        divides(&instance);
    }
    assert!(!instance.has_failed(), "the other lane serves");
    put_it_there().unwrap();
    dies();
    divides(&instance);
    std::fs::remove_file(&exe).unwrap();
    // Both of them, sooner or later; then nobody answers any more.
    let (_, mut answer) = send(&instance, FATAL_BODY);
    while !instance.has_failed() {
        if !matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            answer = send(&instance, FATAL_BODY).1;
        }
    }
    instance.stop();
}

#[test]
fn an_instance_stops_while_one_of_its_lanes_cannot_start_again() {
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("serin");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &exe).unwrap();
    let instance = two_lanes(&exe);
    std::fs::remove_file(&exe).unwrap();
    ask(&instance, FATAL_BODY).outcome.unwrap_err();
    instance.stop();
}

#[test]
fn a_run_in_a_process_ends_when_its_client_leaves() {
    let instance = start("test/slow.onnx", Isolation::Process);
    let process = instance.placement().threads[1].tid;
    let (id, answer) = send(&instance, SLOW_BODY);
    wait_until_it_computes(&instance);
    drop(answer);
    instance.handle().cancel(id);
    json(ask(&instance, "{\"data\": [1]}"));
    assert!(
        Path::new(&format!("/proc/{process}")).exists(),
        "by the same process"
    );
    assert_eq!(instance.handle().troubles(), None);
    instance.stop();
}

#[test]
fn a_stop_ends_what_a_process_runs() {
    let instance = start("test/slow.onnx", Isolation::Process);
    let (_, running) = send(&instance, SLOW_BODY);
    wait_until_it_computes(&instance);
    let (_, waiting) = send(&instance, SLOW_BODY);
    instance.stop();
    for answer in [running, waiting] {
        let outcome = answer.blocking_recv().unwrap().outcome;
        assert!(
            matches!(outcome, Err(RunError::InstanceGone)),
            "{outcome:?}"
        );
    }
}

/// Where the run is in a process that is ended; where it is on a thread that one is left behind, and a process takes its place.
#[test]
fn a_lane_goes_on_after_a_run_that_cannot_be_ended() {
    let binary = spec("test/endless.onnx", Isolation::Auto).exe;
    let places = [
        (Isolation::Process, binary.clone()),
        (Isolation::Thread, binary),
        // As in somebody's own program: another thread takes its place.
        (Isolation::Thread, None),
    ];
    for (isolation, exe) in places {
        let instance = Instance::start(InstanceSpec {
            exe,
            ..spec("test/endless.onnx", isolation)
        })
        .unwrap();
        let mut pause = Duration::from_millis(50);
        while instance.handle().troubles().is_none() {
            let (id, answer) = send(&instance, ENDLESS_BODY);
            wait_until_it_computes(&instance);
            // Ended before its long node begins, it ends well: then once more, with more patience.
            std::thread::sleep(pause);
            pause *= 2;
            drop(answer);
            instance.handle().cancel(id);
            let small = json(ask(&instance, "{\"data\": [2]}"));
            assert!(small["sum"].is_number(), "{small}");
        }
        let troubles = instance.handle().troubles().unwrap();
        assert!(troubles.contains("a run did not end"), "{troubles}");
        // The room and the slot of the run that was given up are free.
        while instance.handle().load() != 0 {
            std::thread::yield_now();
        }
        assert!(!instance.has_failed());
        instance.stop();
    }
}

#[test]
fn a_model_that_does_not_load_in_a_process_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("text.onnx");
    std::fs::write(&model, "hello").unwrap();
    let refused = |spec| Instance::start(spec).unwrap_err();
    let text = InstanceSpec {
        model,
        ..spec("test/add.onnx", Isolation::Process)
    };
    let message = refused(text).to_string();
    assert!(
        message.contains("text.onnx is not an ONNX model"),
        "{message}"
    );
    let no_binary = InstanceSpec {
        exe: None,
        ..spec("test/add.onnx", Isolation::Process)
    };
    assert!(matches!(refused(no_binary), StartError::NoBinary));
    let missing = InstanceSpec {
        exe: Some("/nowhere/serin".into()),
        ..spec("test/add.onnx", Isolation::Process)
    };
    let message = refused(missing).to_string();
    assert!(
        message.contains("cannot start the process of a lane"),
        "{message}"
    );
    // Some other program that ends at once.
    let other = InstanceSpec {
        exe: Some("/bin/false".into()),
        ..spec("test/add.onnx", Isolation::Process)
    };
    let message = refused(other).to_string();
    assert!(message.contains("exit code 1"), "{message}");
}

#[test]
fn memory_beyond_the_bound_of_a_process_fails_the_request_alone() {
    let instance = Instance::start(InstanceSpec {
        sample_request: Some(Bytes::from_static(b"{\"data\": [0.1]}")),
        memory_bytes_max: Some(1 << 30),
        ..spec("test/picky.onnx", Isolation::Process)
    });
    // The sample does not fit the model.
    assert!(instance.is_err());
    let instance = Instance::start(InstanceSpec {
        // A run on zeros would ask for 64 GiB.
        profile: Some(Arc::new(ModelProfile::instant(1))),
        memory_bytes_max: Some(3 << 29),
        ..spec("test/hungry.onnx", Isolation::Process)
    })
    .unwrap();
    let error = ask(&instance, "{\"data\": [50]}").outcome.unwrap_err();
    assert!(
        matches!(error, RunError::Model(_) | RunError::Died { .. }),
        "{error}"
    );
    json(ask(&instance, "{\"data\": [1]}"));
    instance.stop();
}

//! Tests of lanes that run scoring scripts, with the Python of this machine and real processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin_scorers::Tensor;
use tokio::sync::oneshot;

use crate::deadline::Deadline;
use crate::engine::{
    Capacity, CoreMap, Instance, InstanceSpec, Job, Payload, Permit, Reply, RequestHead,
    ResponseHead, RunError, ScriptSpec, SlotOwner, StartError, Topology,
};
use crate::observe::Timings;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A script whose `run` does what the request asks for.
const OBEYS: &str = r#"
import ctypes, json, os, subprocess, sys, threading, time

def init():
    global answers
    answers = 0

def run(data):
    global answers
    answers += 1
    asked = json.loads(data)
    for name, argument in asked.items():
        if name == "echo":
            return argument
        if name == "exit":
            os._exit(argument)
        if name == "signal":
            os.kill(os.getpid(), argument)
            time.sleep(1000)
        if name == "sleep":
            time.sleep(argument)
        if name == "spin":
            while True:
                pass
        if name == "start":
            return subprocess.Popen(["sleep", "100000"]).pid
        if name == "fork":
            child = os.fork()
            if child == 0:
                return "nobody reads this"
            return os.waitpid(child, 0)[1]
        if name == "print":
            line = "x" * 99
            for _ in range(argument):
                print(line)
            return argument
        if name == "read":
            return sys.stdin.read()
        if name == "raise":
            raise ValueError(argument)
        if name == "pid":
            return os.getpid()
        if name == "size":
            return len(data)
        if name == "answers":
            return answers
        if name == "variable":
            return os.environ.get(argument)
        if name == "model":
            with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], argument)) as file:
                return file.read()
"#;

#[derive(Debug, Default)]
struct Returned(AtomicU32);

impl SlotOwner for Returned {
    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A folder with a script in it.
struct Written(tempfile::TempDir);

impl Written {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("app/code")).unwrap();
        std::fs::write(folder.path().join("app/code/score.py"), script).unwrap();
        Self(folder)
    }

    fn spec(&self) -> InstanceSpec {
        let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
        let app = self.0.path().join("app");
        InstanceSpec {
            concurrency: 4,
            lanes: Some(1),
            script: Some(ScriptSpec {
                python: "python3".into(),
                entry_script: app.join("code/score.py"),
                source_directory: app.join("code"),
                app_root: app,
                model_dir: None,
                variables: BTreeMap::new(),
                environment: Some("env.yml".to_owned()),
                keep: Vec::new(),
            }),
            ..InstanceSpec::new(
                "test/script".to_owned(),
                PathBuf::new(),
                cores.grant(1).unwrap(),
            )
        }
    }

    fn start(&self) -> Instance {
        Instance::start(self.spec()).unwrap()
    }

    /// The reason why it does not start.
    fn refused(&self) -> String {
        match Instance::start(self.spec()) {
            Err(StartError::Process(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }
}

/// An instance of the script that does what it is asked for.
fn obeys() -> (Written, Instance) {
    let written = Written::new(OBEYS);
    let instance = written.start();
    (written, instance)
}

/// A request under way.
struct Asked {
    id: u64,
    returned: Arc<Returned>,
    answer: oneshot::Receiver<Reply>,
}

fn send_with(instance: &Instance, head: Option<RequestHead>, body: impl Into<Bytes>) -> Asked {
    send_payload(instance, head, Payload::Body(body.into()))
}

fn send_payload(instance: &Instance, head: Option<RequestHead>, payload: Payload) -> Asked {
    let (reply, answer) = oneshot::channel();
    let (now, id) = (Instant::now(), Job::next_id());
    let returned = Arc::new(Returned::default());
    let owner: Arc<dyn SlotOwner> = Arc::clone(&returned) as _;
    let job = Job {
        id,
        payload,
        head: head.map(Box::new),
        deadline: Deadline::after(now, PATIENCE),
        timings: Timings::start(now),
        permit: Permit::new(owner),
        reply,
    };
    let handle = instance.handle();
    handle.queue([handle.reserve().unwrap().give_to(job)]);
    Asked {
        id,
        returned,
        answer,
    }
}

#[test]
fn tensors_are_refused_by_a_script_which_reads_bodies_and_it_lives() {
    let (_written, instance) = obeys();
    let number = Tensor::new([1], vec![1_i64]).unwrap();
    let refused = send_payload(&instance, None, Payload::Tensors(vec![number])).reply();
    let words = refused.outcome.unwrap_err().to_string();
    assert!(words.starts_with("expected the bytes of a body"), "{words}");
    send(&instance, "{}").reply().outcome.unwrap();
    instance.stop();
}

fn send(instance: &Instance, body: &str) -> Asked {
    send_with(instance, None, body.to_owned())
}

impl Asked {
    fn reply(self) -> Reply {
        self.answer.blocking_recv().unwrap()
    }
}

fn ask(instance: &Instance, body: &str) -> serde_json::Value {
    let scored = send(instance, body).reply().outcome.unwrap();
    assert_eq!(scored.head, None, "{:?}", scored.body);
    serde_json::from_slice(scored.body.bytes()).unwrap()
}

fn wait_until_gone(pid: &serde_json::Value) {
    let place = format!("/proc/{pid}/exe");
    // A zombie has no such link: nobody has to reap it for it to have ended.
    while Path::new(&place).read_link().is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn a_script_answers_each_request_with_what_run_returns_and_keeps_what_it_remembers() {
    let (_written, instance) = obeys();
    let asked: Vec<_> = (0..4)
        .map(|number| send(&instance, &format!("{{\"echo\": {number}}}")))
        .collect();
    for (number, asked) in asked.into_iter().enumerate() {
        let reply = asked.reply();
        assert!(reply.timings.queue().is_some() && reply.timings.run().is_some());
        assert_eq!(
            reply.outcome.unwrap().body.bytes(),
            number.to_string().as_bytes()
        );
    }
    assert_eq!(ask(&instance, "{\"answers\": 0}"), 5);
    assert_eq!(instance.handle().load(), 0);
    assert!(instance.placement().verified, "{:?}", instance.placement());
    instance.stop();
}

#[test]
fn a_body_of_many_megabytes_reaches_the_script_whole() {
    let (_written, instance) = obeys();
    let body = format!("{{\"size\": \"{}\"}}", "é".repeat(10 << 20));
    assert_eq!(ask(&instance, &body), 12 + (10 << 20));
    let text = "y".repeat(20 << 20);
    assert_eq!(ask(&instance, &format!("{{\"echo\": \"{text}\"}}")), text);
    instance.stop();
}

#[test]
fn a_script_that_cannot_begin_says_why() {
    for (script, expected) in [
        ("def init(): pass", vec!["run", "init"]),
        ("def run(data): return data", vec!["init"]),
        ("def init(:\n    pass", vec!["score.py", "line 1"]),
        (
            "import surely_no_such_package\ndef init(): pass\ndef run(data): pass",
            vec!["surely_no_such_package", "env.yml"],
        ),
        (
            "def init(): raise ValueError('the model is stale')\ndef run(data): pass",
            vec!["ValueError: the model is stale", "score.py", "line 1"],
        ),
        (
            "import sys\ndef init(): sys.exit('enough')\ndef run(data): pass",
            vec!["init", "exit", "enough"],
        ),
        (
            "import os\ndef init():\n    print('last words', flush=True)\n    os.abort()\ndef run(data): pass",
            vec!["scoring script", "SIGABRT", "score.py", "line 4 in init"],
        ),
    ] {
        let problem = Written::new(script).refused();
        for word in expected {
            assert!(problem.contains(word), "{word}: {problem}");
        }
        // Where the harness was says nothing to a person.
        assert!(!problem.contains("harness"), "{problem}");
    }
}

#[test]
fn a_script_that_takes_all_memory_as_it_begins_fails_alone() {
    let written = Written::new(
        "def init():\n    global a\n    a = b'x' * (8 << 30)\ndef run(data): return 1",
    );
    let spec = InstanceSpec {
        memory_bytes_max: Some(1 << 30),
        ..written.spec()
    };
    let problem = Instance::start(spec).unwrap_err().to_string();
    assert!(problem.contains("MemoryError"), "{problem}");
}

#[test]
fn a_python_that_is_not_there_is_named() {
    let written = Written::new(OBEYS);
    let mut spec = written.spec();
    let script = spec.script.as_mut().unwrap();
    script.python = "/no/such/python".into();
    let problem = Instance::start(spec).unwrap_err().to_string();
    assert!(problem.contains("/no/such/python"), "{problem}");
}

#[test]
fn a_request_that_ends_its_process_fails_alone_and_says_how() {
    let (_written, instance) = obeys();
    for (fatal, how) in [
        ("{\"exit\": 7}", "code 7"),
        ("{\"signal\": 11}", "SIGSEGV"),
        ("{\"signal\": 9}", "SIGKILL"),
    ] {
        let asked = ["{\"echo\": 1}", fatal, "{\"echo\": 2}"].map(|body| send(&instance, body));
        let [before, fatal, behind] = asked;
        let error = fatal.reply().outcome.unwrap_err();
        assert!(
            matches!(&error, RunError::Died { how: found, .. } if found.contains(how)),
            "{error}"
        );
        assert_eq!(before.reply().outcome.unwrap().body.bytes(), b"1");
        assert_eq!(behind.reply().outcome.unwrap().body.bytes(), b"2");
    }
    assert!(!instance.has_failed());
    assert_eq!(instance.handle().load(), 0);
    instance.stop();
}

#[test]
fn a_run_that_nobody_waits_for_keeps_its_slot_until_its_process_is_ended() {
    let (_written, instance) = obeys();
    let before = ask(&instance, "{\"pid\": 0}");
    let endless = send(&instance, "{\"spin\": 0}");
    while instance.handle().computing() == 0 {
        std::thread::yield_now();
    }
    drop(endless.answer);
    assert!(instance.handle().cancel(endless.id));
    assert_eq!(endless.returned.0.load(Ordering::SeqCst), 0);
    assert_eq!(instance.handle().load(), 1);
    while endless.returned.0.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    wait_until_gone(&before);
    assert_ne!(ask(&instance, "{\"pid\": 0}"), before);
    let troubles = instance.handle().troubles().unwrap();
    assert!(troubles.contains("did not end"), "{troubles}");
    instance.stop();
}

#[test]
fn what_a_script_starts_ends_with_it() {
    let (_written, instance) = obeys();
    let child = ask(&instance, "{\"start\": 0}");
    let died = send(&instance, "{\"exit\": 1}").reply().outcome;
    assert!(matches!(died, Err(RunError::Died { .. })), "{died:?}");
    wait_until_gone(&child);
    let (child, process) = (
        ask(&instance, "{\"start\": 0}"),
        ask(&instance, "{\"pid\": 0}"),
    );
    instance.stop();
    wait_until_gone(&process);
    wait_until_gone(&child);
}

#[test]
fn a_script_that_forks_or_reads_its_input_or_prints_much_goes_on() {
    let (_written, instance) = obeys();
    assert!(ask(&instance, "{\"fork\": 0}").is_number());
    assert_eq!(ask(&instance, "{\"read\": 0}"), "");
    assert_eq!(ask(&instance, "{\"print\": 200000}"), 200_000);
    assert_eq!(
        ask(&instance, "{\"echo\": [1, null]}").to_string(),
        "[1,null]"
    );
    instance.stop();
}

#[test]
fn a_failure_of_run_is_an_answer_with_a_status() {
    let (_written, instance) = obeys();
    let scored = send(&instance, "{\"raise\": \"no\"}")
        .reply()
        .outcome
        .unwrap();
    let head = scored.head.unwrap();
    assert_eq!((head.status, head.failed), (500, true));
    let text = String::from_utf8(scored.body.bytes().to_vec()).unwrap();
    assert!(text.contains("scoring script"), "{text}");
    instance.stop();
}

#[test]
fn the_model_and_the_variables_are_where_the_script_looks_for_them() {
    let written = Written::new(OBEYS);
    let mut spec = written.spec();
    let model = written.0.path().join("models/iris/3");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::write(model.join("weights.txt"), "0.5").unwrap();
    let script = spec.script.as_mut().unwrap();
    script.model_dir = Some(model);
    script.variables = BTreeMap::from([
        ("COLOUR".to_owned(), "blue".to_owned()),
        ("AML_APP_ROOT".to_owned(), "of the file".to_owned()),
    ]);
    let instance = Instance::start(spec).unwrap();
    assert_eq!(ask(&instance, "{\"model\": \"weights.txt\"}"), "0.5");
    assert_eq!(ask(&instance, "{\"variable\": \"COLOUR\"}"), "blue");
    // What the file says counts before what serin would say.
    let root = ask(&instance, "{\"variable\": \"AML_APP_ROOT\"}");
    assert_eq!(root, "of the file");
    assert_eq!(ask(&instance, "{\"variable\": \"OMP_NUM_THREADS\"}"), "1");
    instance.stop();
}

#[test]
fn heads_go_to_the_script_and_come_back() {
    let written = Written::new(
        r#"
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    text = "%s %s %s" % (request.method, request.headers["x-colour"], request.get_data().decode())
    return AMLResponse(text, 418, {"x-shape": "round"})
"#,
    );
    let instance = written.start();
    let head = RequestHead {
        method: "POST".to_owned(),
        path: "/score".to_owned(),
        query: "a=1".to_owned(),
        headers: vec![("x-colour".to_owned(), "blue".to_owned())],
    };
    let asked = send_with(&instance, Some(head), "body");
    let scored = asked.reply().outcome.unwrap();
    let ResponseHead {
        status, headers, ..
    } = *scored.head.unwrap();
    assert_eq!(status, 418);
    let shape = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-shape"));
    assert_eq!(shape.unwrap().1, "round");
    assert!(
        scored.body.bytes().ends_with(b"POST blue body"),
        "{:?}",
        scored.body
    );
    instance.stop();
}

#[test]
fn a_script_that_ends_itself_without_a_word_is_told_by_what_it_printed_last() {
    let script = "import os\ndef init():\n    print('the licence is gone', flush=True)\n    os._exit(3)\ndef run(data): pass";
    let problem = Written::new(script).refused();
    assert!(problem.contains("code 3: the licence is gone"), "{problem}");
}

/// The lanes of two processes are killed again and again while requests come.
#[test]
fn lanes_that_are_killed_fail_one_request_each_at_most() {
    let written = Written::new(OBEYS);
    let spec = written.spec();
    let core = spec.cores.cores[0];
    let topology = Topology::new(&[core, core], |core| vec![core], None);
    let mut cores = CoreMap::new(topology, Capacity::Overcommit);
    let instance = Instance::start(InstanceSpec {
        cores: cores.grant(2).unwrap(),
        lanes: Some(2),
        ..spec
    })
    .unwrap();
    let mut failed = 0;
    const KILLS: usize = 10;
    for _ in 0..KILLS {
        let process = ask(&instance, "{\"pid\": 0}").as_i64().unwrap();
        let asked: Vec<_> = (0..3).map(|_| send(&instance, "{\"echo\": 1}")).collect();
        let process = rustix::process::Pid::from_raw(process.try_into().unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        for asked in asked {
            match asked.reply().outcome {
                Ok(scored) => assert_eq!(scored.body.bytes(), b"1"),
                Err(RunError::Died { .. }) => failed += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(failed <= KILLS, "{failed}");
    assert_eq!(ask(&instance, "{\"echo\": 1}"), 1);
    instance.stop();
}

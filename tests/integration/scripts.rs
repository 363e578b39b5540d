//! Scoring scripts behind the real binary: the seed's own files, canaries of a script and a model, and scripts that misbehave.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hygiene::wait_until;
use crate::support::{Answer, Server, agent, folder, repository, serin};
use crate::traffic::Traffic;

/// A script that does what its request asks for.
const OBEYS: &str = r#"
import json, os, subprocess, time
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    print("init was called", flush=True)

@rawhttp
def run(request):
    if request.method != "POST":
        return AMLResponse({"method": request.method, "a": request.args.get("a")}, 200, json_str=True)
    asked = json.loads(request.get_data().decode())
    if "status" in asked:
        return AMLResponse(asked, asked["status"], {"x-colour": "blue", "connection": "close, te"}, json_str=True)
    if "sleep" in asked:
        time.sleep(asked["sleep"])
    if "raise" in asked:
        raise ValueError(asked["raise"])
    if "exit" in asked:
        os._exit(asked["exit"])
    if "start" in asked:
        return AMLResponse(subprocess.Popen(["sleep", "100000"]).pid, 200, json_str=True)
    if "header" in asked:
        return AMLResponse(request.headers.get(asked["header"]), 200)
    return AMLResponse({"pid": os.getpid()}, 200, json_str=True)
"#;

/// A folder with a script, its model and the file of its deployment.
struct Written(TempDir);

impl Written {
    fn new(script: &str, more: &str) -> Self {
        let written = Self(folder());
        written.put("src/score.py", script);
        written.put("model.pkl", "weights");
        written.put(
            "blue.yml",
            &format!(
                "name: blue\nendpoint_name: iris\nmodel: {{path: model.pkl}}\ninstance_type: Standard_F2s_v2\n\
                 code_configuration: {{code: src, scoring_script: score.py}}\n{more}"
            ),
        );
        written
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// The words of the command that deploys it.
    fn deploy<'a>(&'a self, file: &'a str) -> [String; 4] {
        let path = self.path(file);
        let path = path.to_str().expect("UTF-8").to_owned();
        let words = ["online-deployment", "create", "--file"];
        let [one, two, three] = words.map(str::to_owned);
        [one, two, three, path]
    }
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// A server with the endpoint `iris`, all of whose traffic goes to the script; the key.
fn serve(written: &Written, data: &Path) -> (Server, String) {
    let server = Server::start(data);
    server.create_endpoint("iris");
    server.ok(&words(&written.deploy("blue.yml")));
    server.update("iris", &["--traffic", "blue=100"]);
    let key = server.key("iris");
    (server, key)
}

fn pid_of(answer: &Answer) -> i64 {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["pid"].as_i64().expect("a number")
}

fn runs(pid: i64) -> bool {
    // A zombie has no such link.
    Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()
}

/// The seed's folder: its files as they are, and beside them what they name.
fn seed() -> TempDir {
    let folder = folder();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    for name in [
        "managed-1-create-OnlineEndpoint.yaml",
        "managed-2-blue-OnlineDeployment.yaml",
        "managed-3-green-OnlineDeployment.yaml",
    ] {
        let text = std::fs::read_to_string(repository(&format!("tests/fixtures/seed/{name}")));
        put(name, &text.expect("the seed"));
    }
    for version in ["m1", "m2"] {
        put(
            &format!("src/onlinescoring/{version}/score.py"),
            &format!(
                "import json, os, six\n\
                 def init():\n    global model\n    folder = os.environ['AZUREML_MODEL_DIR']\n    \
                 model = open(os.path.join(folder, 'model.txt')).read()\n\
                 def run(data):\n    return [{version:?}, model, six.text_type(json.loads(data)['data'])]\n"
            ),
        );
        put(
            &format!("src/onlinescoring/env_{version}.yaml"),
            &format!(
                "name: env-{version}\nchannels:\n  - conda-forge\ndependencies:\n  - python>=3.8\n  - pip\n  - pip:\n    - six\n"
            ),
        );
        put(
            &format!("{version}/model.txt"),
            &format!("weights of {version}"),
        );
    }
    folder
}

/// The first step of the flow: two models, the endpoint and blue.
fn deploy_blue(server: &Server, seed: &Path) {
    let file = |name: &str| seed.join(name).to_str().expect("UTF-8").to_owned();
    for version in ["m1", "m2"] {
        let (name, path) = (
            format!("my-model-{version}"),
            file(&format!("{version}/model.txt")),
        );
        server.ok(&[
            "model",
            "create",
            "--name",
            &name,
            "--version",
            "1",
            "--path",
            &path,
        ]);
    }
    let endpoint = file("managed-1-create-OnlineEndpoint.yaml");
    server.ok(&["endpoint", "create", "--file", &endpoint]);
    let blue = file("managed-2-blue-OnlineDeployment.yaml");
    let told = server.run(&[
        "endpoint",
        "update",
        "--name",
        "myEndpoint",
        "--deployment",
        "blue",
        "--deployment-file",
        &blue,
    ]);
    assert!(told.stderr.contains("environment"), "{}", told.stderr);
    told.ok();
}

#[test]
fn the_seeds_own_files_run_their_scripts_from_the_first_step_to_the_last() {
    let (seed, data, cache) = (seed(), folder(), folder());
    let start = || {
        let mut command = serin(data.path());
        command.env("SERIN_CACHE", cache.path());
        Server::start_command(command, data.path())
    };
    let server = start();
    deploy_blue(&server, seed.path());
    server.update("myEndpoint", &["--traffic", "blue:100"]);
    let key = server.key("myEndpoint");
    let body = r#"{"data": 7}"#;
    let says = |deployment: Option<&str>| server.score("myEndpoint", &key, deployment, body).json();
    assert_eq!(says(None), json!(["m1", "weights of m1", "7"]));
    server.update(
        "myEndpoint",
        &["--set", "deployments.blue.scale.instance_count=5"],
    );
    let green = seed.path().join("managed-3-green-OnlineDeployment.yaml");
    let green = green.to_str().expect("UTF-8");
    server.update(
        "myEndpoint",
        &["--deployment", "green", "--deployment-file", green],
    );
    assert_eq!(says(Some("green")), json!(["m2", "weights of m2", "7"]));
    server.update("myEndpoint", &["--traffic", "blue:90,green:10"]);
    let mut by_green = 0;
    for _ in 0..100 {
        by_green += usize::from(says(None)[0] == "m2");
    }
    assert_eq!(by_green, 10);
    server.update("myEndpoint", &["--traffic", "blue:0,green:100"]);
    server.ok(&["endpoint", "delete", "--deployment", "blue", "--yes"]);
    assert_eq!(says(None)[0], "m2");
    server.terminate();

    // What was accepted serves again, with the environment that is there.
    std::fs::remove_dir_all(seed.path().join("src")).expect("gone");
    let server = start();
    assert_eq!(
        server
            .score("myEndpoint", &key_of(&server), None, body)
            .json()[0],
        "m2"
    );
    server.ok(&["endpoint", "delete", "--name", "myEndpoint", "--yes"]);
}

/// Tokens of an endpoint go with the server's life.
fn key_of(server: &Server) -> String {
    server.key("myEndpoint")
}

#[test]
fn statuses_headers_and_failures_of_a_script_reach_the_client() {
    let (written, data) = (Written::new(OBEYS, ""), folder());
    let (server, key) = serve(&written, data.path());
    let ask = |body: &str| server.score("iris", &key, None, body);
    let teapot = ask(r#"{"status": 418}"#);
    assert_eq!(
        (teapot.status, teapot.header("x-colour")),
        (418, Some("blue"))
    );
    assert_eq!(teapot.json(), json!({"status": 418}));
    let failed = ask(r#"{"status": 503}"#);
    assert_eq!(failed.status, 424);
    assert_eq!(
        failed.header("ms-azureml-model-error-statuscode"),
        Some("503")
    );
    assert_eq!(failed.json(), json!({"status": 503}));
    let raised = ask(r#"{"raise": "no"}"#);
    assert_eq!(
        (raised.status, raised.header("x-ms-run-function-failed")),
        (424, Some("True"))
    );
    assert_eq!(
        raised.header("ms-azureml-model-error-statuscode"),
        Some("500")
    );
    assert!(
        raised
            .body
            .contains("An unexpected error occurred in scoring script"),
        "{}",
        raised.body
    );
    let died = ask(r#"{"exit": 3}"#);
    assert_eq!(died.status, 424);
    assert!(died.message().contains("code 3"), "{}", died.body);
    let fine = ask("{}");
    assert_eq!(
        (fine.status, fine.header("x-ms-run-function-failed")),
        (200, Some("False"))
    );
    assert_eq!(fine.header("azureml-model-deployment"), Some("blue"));
    // The key opens the endpoint and is not the script's to know.
    let header = ask(r#"{"header": "authorization"}"#);
    assert!(!header.body.contains(&key), "{}", header.body);
    let uri = format!("{}/endpoints/iris/score?a=1", server.scoring);
    let get = agent()
        .get(&uri)
        .header("authorization", format!("Bearer {key}"));
    let got = Answer::read(get.call().expect("an answer"));
    assert_eq!(
        (got.status, got.json()),
        (200, json!({"method": "GET", "a": "1"}))
    );
}

#[test]
fn a_script_that_cannot_begin_fails_its_deployment_with_its_traceback_and_nothing_else() {
    let written = Written::new(OBEYS, "");
    written.put(
        "bad/score.py",
        "def init():\n    raise ValueError('stale weights')\ndef run(data): pass\n",
    );
    let text = std::fs::read_to_string(written.path("blue.yml")).expect("written");
    let text = text
        .replace("name: blue", "name: green")
        .replace("code: src", "code: bad");
    written.put("green.yml", &text);
    let data = folder();
    let (server, key) = serve(&written, data.path());
    let green = written.deploy("green.yml");
    let failed = server.run(&words(&green));
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    for word in ["ValueError: stale weights", "score.py", "line 2"] {
        assert!(failed.stderr.contains(word), "{word}: {}", failed.stderr);
    }
    assert_eq!(server.score("iris", &key, None, "{}").status, 200);
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "--endpoint-name",
        "iris",
        "--name",
        "blue",
    ]);
    assert_eq!(shown["scoring"], "script");
    assert_eq!(shown["script"]["entry_script"], "src/score.py", "{shown}");
    // Nothing was measured of it, and it says nothing of itself.
    assert!(
        shown.get("model_profile").is_none() && shown.get("batching").is_none(),
        "{shown}"
    );
    // Corrected, it takes the place of the one that never was ready.
    written.put(
        "bad/score.py",
        "def init(): pass\ndef run(data): return 'mended'\n",
    );
    server.ok(&words(&green));
    let mended = server.score("iris", &key, Some("green"), "{}");
    assert_eq!(mended.json(), "mended");
}

#[test]
fn at_the_deadline_the_client_is_answered_and_the_slot_returns_with_the_process() {
    let more =
        "request_settings: {request_timeout_ms: 500, max_concurrent_requests_per_instance: 1}\n";
    let (written, data) = (Written::new(OBEYS, more), folder());
    let (server, key) = serve(&written, data.path());
    let first = pid_of(&server.score("iris", &key, None, "{}"));
    let late = server.score("iris", &key, None, r#"{"sleep": 100000}"#);
    assert_eq!(late.status, 408, "{}", late.body);
    assert!(runs(first), "it has time to finish");
    wait_until("the end of a run that nobody waits for", || !runs(first));
    let mut next = server.score("iris", &key, None, "{}");
    while next.status == 408 || next.status == 429 {
        next = server.score("iris", &key, None, "{}");
    }
    assert_ne!(pid_of(&next), first);
}

#[test]
fn lanes_that_are_killed_again_and_again_fail_one_request_each_at_most_and_leave_nobody_behind() {
    const KILLS: usize = 30;
    let more = "request_settings: {max_concurrent_requests_per_instance: 2, lanes: 2}\n";
    let (written, data) = (Written::new(OBEYS, more), folder());
    let (server, key) = serve(&written, data.path());
    let traffic = Traffic::start(&server, "iris", "{}", 2);
    let mut started = Vec::new();
    for _ in 0..KILLS {
        let answer = server.score("iris", &key, None, "{}");
        // It may be the one that is killed.
        if answer.status == 200 {
            let pid = pid_of(&answer);
            started.push(pid);
            let process = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a number"));
            // It may have gone by itself meanwhile.
            let _sent = rustix::process::kill_process(
                process.expect("a process"),
                rustix::process::Signal::KILL,
            );
        }
        traffic.passes(3);
    }
    let child = server.score("iris", &key, None, r#"{"start": 1}"#).json();
    let (answered, failed) = traffic.stop();
    assert!(failed.len() <= KILLS, "{failed:?}");
    assert!(
        failed
            .iter()
            .all(|words| words.starts_with("424") && words.contains("SIGKILL")),
        "{failed:?}"
    );
    assert!(answered >= 3 * KILLS - failed.len(), "{answered}");
    let last = pid_of(&server.score("iris", &key, None, "{}"));
    server.terminate();
    started.extend([last, child.as_i64().expect("a number")]);
    for pid in started {
        wait_until("the end of what a script was", || !runs(pid));
    }
}

#[test]
fn a_server_that_is_killed_takes_its_scripts_along() {
    let (written, data) = (Written::new(OBEYS, ""), folder());
    let (server, key) = serve(&written, data.path());
    let pid = pid_of(&server.score("iris", &key, None, "{}"));
    server.kill();
    wait_until("the end of what a script was", || !runs(pid));
    // What it had laid out goes with the next start.
    let server = Server::start(data.path());
    assert_ne!(pid_of(&server.score("iris", &key, None, "{}")), pid);
    let laid_out = std::fs::read_dir(data.path().join("scripts"))
        .expect("a folder")
        .count();
    assert_eq!(laid_out, 1);
}

#[test]
fn a_script_and_its_onnx_form_stand_behind_one_endpoint_and_are_compared() {
    let data = folder();
    let server = Server::start(data.path());
    let own = |name: &str| {
        repository(&format!("models/digits/{name}"))
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    for (name, path) in [
        ("digits-pickle", own("script/model.pkl")),
        ("digits-onnx", own("1")),
    ] {
        server.ok(&[
            "model",
            "create",
            "--name",
            name,
            "--version",
            "1",
            "--path",
            &path,
        ]);
    }
    server.ok(&["endpoint", "create", "--file", &own("script/endpoint.yml")]);
    for name in ["blue", "green"] {
        server.ok(&[
            "online-deployment",
            "create",
            "--file",
            &own(&format!("script/{name}.yml")),
        ]);
    }
    server.update("myEndpoint", &["--traffic", "blue=50 green=50"]);
    let traffic = Traffic::start(
        &server,
        "myEndpoint",
        &std::fs::read_to_string(own("1/sample-request.json")).expect("the sample"),
        4,
    );
    traffic.passes(200);
    let (by_script, by_model) = (traffic.answered_by("blue"), traffic.answered_by("green"));
    assert!(by_script > 0 && by_model > 0, "{by_script} {by_model}");
    let (_, failed) = traffic.stop();
    assert_eq!(failed, Vec::<String>::new());
    let verdict = server.run(&[
        "bench",
        "blue",
        "green",
        "--endpoint-name",
        "myEndpoint",
        "--budget",
        "3",
        "-c",
        "2",
        "--tolerance",
        "1e-4",
    ]);
    let verdict: Value =
        serde_json::from_str(&verdict.stdout).unwrap_or_else(|_| panic!("{}", verdict.stderr));
    let answers = &verdict["answers"][0];
    assert_eq!(answers["differing"], 0, "{answers}");
    assert!(answers["compared"].as_u64() > Some(100), "{answers}");
}

#[test]
fn an_environment_that_was_built_serves_again_after_a_restart() {
    let more = "environment: env.yml\n";
    let written = Written::new(
        "import six\ndef init(): pass\ndef run(data): return six.__name__\n",
        more,
    );
    written.put("env.yml", "dependencies:\n  - pip:\n    - six\n");
    let data = folder();
    let (server, key) = serve(&written, data.path());
    assert_eq!(server.score("iris", &key, None, "{}").json(), "six");
    server.terminate();
    let server = Server::start(data.path());
    assert_eq!(server.score("iris", &key, None, "{}").json(), "six");
}

#[test]
fn a_package_that_is_missing_is_named_with_the_file_that_should_bring_it() {
    let more = "environment: env.yml\n";
    let written = Written::new(
        "import surely_not_there\ndef init(): pass\ndef run(data): pass\n",
        more,
    );
    written.put("env.yml", "dependencies:\n  - pip:\n    - six\n");
    let data = folder();
    let server = Server::start(data.path());
    server.create_endpoint("iris");
    let (code, error) = server.fails(&words(&written.deploy("blue.yml")));
    assert_eq!(code, 1);
    assert!(
        error.contains("surely_not_there") && error.contains("env.yml"),
        "{error}"
    );
}

#[test]
fn a_file_that_names_a_script_scores_the_model_without_it_where_that_is_asked_for() {
    let data = folder();
    let server = Server::start(data.path());
    server.create_endpoint("iris");
    let model = repository("models/digits/1/model.onnx");
    let text = format!(
        "name: blue\nendpoint_name: iris\nmodel: {{path: {}}}\ninstance_type: Standard_F2s_v2\nscoring: native\n\
         code_configuration: {{code: nowhere, scoring_script: score.py}}\nenvironment: nowhere.yml\n",
        model.display()
    );
    server
        .run_with(&["online-deployment", "create"], &text)
        .ok();
    let show = ["online-deployment", "show", "--detail", "-n", "blue"];
    let shown = server.ok(&[&show[..], &["-e", "iris"]].concat());
    assert!(
        shown["notes"].to_string().contains("scored natively"),
        "{shown}"
    );
    let key = server.key("iris");
    let sample = std::fs::read_to_string(repository("models/digits/1/sample-request.json"));
    let answer = server.score("iris", &key, Some("blue"), &sample.expect("the sample"));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

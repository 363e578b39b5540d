//! What a container asks of a server: a port and metrics where the platform wants them, a mounted folder with a model, and a root
//! that nobody writes to.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::{Answer, Server, agent, folder, model, repository, run, serin};

/// A running `serin up`, which ends with the value.
struct Up {
    child: Child,
    out: BufReader<ChildStdout>,
    address: String,
}

impl Up {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut up = Self {
            child,
            out,
            address: String::new(),
        };
        let line = up.line();
        let address = line.strip_prefix("ready: POST ").expect("a ready line");
        up.address = address.trim_end().trim_end_matches("/score").to_owned();
        up
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("text");
        line
    }

    fn get(&self, path: &str) -> Answer {
        get(&format!("{}{path}", self.address))
    }

    fn score(&self, path: &str) -> Answer {
        let request = agent().post(format!("{}{path}", self.address));
        Answer::read(request.send(sample()).expect("an answer"))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn get(url: &str) -> Answer {
    Answer::read(agent().get(url).call().expect("an answer"))
}

fn sample() -> String {
    std::fs::read_to_string(repository("models/digits/1/sample-request.json")).expect("a sample")
}

#[test]
fn a_mounted_folder_is_served_under_its_name_with_metrics_beside_scoring() {
    let (mounted, data) = (folder(), folder());
    for (version, of) in [("9", "1"), ("10", "2")] {
        let place = mounted.path().join(version);
        std::fs::create_dir(&place).expect("a folder");
        let file = format!("models/digits/{of}/model.onnx");
        std::fs::copy(repository(&file), place.join("model.onnx")).expect("a copy");
    }
    let mut command = serin(data.path());
    command.arg("up").arg(mounted.path());
    command.args(["--name", "digits", "--metrics", "scoring"]);
    // As the platform says it; the program's own variable wins.
    command.env("PORT", "1").env("SERIN_PORT", "0");
    let mut up = Up::start(command);
    let served = mounted.path().join("10/model.onnx");
    assert_eq!(up.line(), format!("  digits: {}\n", served.display()));
    for path in ["/score", "/endpoints/digits/score"] {
        let answer = up.score(path);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("azureml-model-deployment"), Some("digits"));
    }
    let shown = up.get("/metrics");
    assert_eq!(shown.status, 200);
    let counted = "serin_requests_total{endpoint=\"digits\",deployment=\"digits\"";
    assert!(shown.body.contains(counted), "{}", shown.body);
}

#[test]
fn clients_of_one_machine_are_not_refused() {
    let data = folder();
    let mut command = serin(data.path());
    command.args(["up", "--port", "0", "--name", "digits"]);
    command.arg(model("models/digits/1"));
    let up = Up::start(command);
    std::thread::scope(|clients| {
        for _ in 0..16 {
            clients.spawn(|| {
                for _ in 0..50 {
                    let answer = up.score("/score");
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            });
        }
    });
}

#[test]
fn as_many_requests_are_taken_as_was_asked_for() {
    let data = folder();
    let mut command = serin(data.path());
    command.args(["up", "--port", "0", "--max-concurrent-requests", "1"]);
    command.arg(model("models/test/slow.onnx"));
    let up = Up::start(command);
    // Each takes far longer than all of them take to arrive: one runs, one waits.
    let refused = std::thread::scope(|clients| {
        let ask = || {
            let request = agent().post(format!("{}/score", up.address));
            let sent = request.send("{\"data\": [100000000]}");
            Answer::read(sent.expect("an answer")).status
        };
        let asked: Vec<_> = (0..4).map(|_| clients.spawn(ask)).collect();
        let statuses = asked.into_iter().map(|one| one.join().expect("a status"));
        statuses.filter(|status| *status == 429).count()
    });
    assert_eq!(refused, 2);
}

#[test]
fn a_folder_without_a_model_is_refused_with_what_is_in_it() {
    let (mounted, data) = (folder(), folder());
    std::fs::write(mounted.path().join("model.pt"), "").expect("a file");
    let place = mounted.path().to_str().expect("UTF-8");
    let finished = run(data.path(), &["up", place, "--port", "0"]);
    assert_eq!(finished.code, 8, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("holds no model"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("found model.pt"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_variable_that_is_no_port_is_refused_by_its_name() {
    let data = folder();
    for command in [&["serve"][..], &["up", "model.onnx"]] {
        let mut serin = serin(data.path());
        serin.args(command).env("PORT", "tcp://10.0.0.1:80");
        let output = serin.output().expect("the serin binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("PORT must be a port"), "{said}");
    }
}

#[test]
fn metrics_have_a_listener_of_their_own_where_that_is_asked_for() {
    let data = folder();
    let mut command = serin(data.path());
    command.args(["up", "--port", "0", "--metrics", "0"]);
    command.arg(model("models/digits/1"));
    let mut up = Up::start(command);
    up.line();
    let line = up.line();
    let address = line.strip_prefix("  metrics: GET ").expect("a line");
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    assert_eq!(up.score("/score").status, 200);
    let shown = get(address.trim_end());
    assert!(
        shown.body.contains("serin_requests_total"),
        "{}",
        shown.body
    );
    assert_eq!(
        get(&address.trim_end().replace("/metrics", "/score")).status,
        404
    );
    assert_eq!(up.get("/metrics").status, 404, "nobody asked for it there");
}

#[test]
fn metrics_of_a_server_are_where_they_were_asked_for_and_a_busy_address_is_told() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--metrics", "scoring"]);
    let shown = get(&format!("{}/metrics", server.scoring));
    let administration = get(&format!("{}/metrics", server.admin));
    assert_eq!((shown.status, administration.status), (200, 200));
    for (header, value, status) in [
        ("host", "rebound.example", 421),
        ("origin", "http://page.example", 403),
    ] {
        let url = format!("{}/metrics", server.scoring);
        let asked = agent().get(&url).header(header, value).call();
        assert_eq!(asked.expect("an answer").status(), status, "{header}");
    }
    let busy = server.admin.trim_start_matches("http://").to_owned();
    let other = folder();
    let finished = run(other.path(), &["serve", "--port", "0", "--metrics", &busy]);
    assert_eq!(finished.code, 8, "{}", finished.stderr);
    assert!(
        finished.stderr.contains(&busy) && finished.stderr.contains("--metrics"),
        "{}",
        finished.stderr
    );
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let data = folder();
    for command in [&["serve"][..], &["up", "models/digits/1/model.onnx"]] {
        let mut serin = serin(data.path());
        serin.args(command).args(["--port", "0", "--log", "json"]);
        let mut child = serin
            .current_dir(repository(""))
            .env("SERIN_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the serin binary starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let ready = log.lines().any(|line| {
            let line = line.expect("text");
            let entry: Value = serde_json::from_str(&line).expect("each line is JSON");
            entry["message"] == "ready"
        });
        assert!(ready, "{command:?}");
        child.kill().expect("it runs");
        child.wait().expect("it ended");
    }
}

/// Makes the root of a process read-only but for three folders, of which the last is its `/tmp` unless this repository lies in the
/// real one, and becomes the command that follows them.
const READ_ONLY_ROOT: &str = r#"
set -e
mount --make-rprivate /
case "$3" in
    # What is below it must stay to be seen.
    /tmp/*) mount --bind /tmp /tmp ;;
    *) mount --bind "$3" /tmp ;;
esac
for place in "$1" "$2" "$3"; do mount --bind "$place" "$place"; done
mount -o remount,bind,ro /
if touch /written 2>/dev/null; then exit 1; fi
shift 3
exec "$@"
"#;

/// A command in a mount namespace whose root is read-only, or nothing where the system allows none.
fn on_read_only_root(places: [&Path; 3]) -> Option<Command> {
    let unshare = |what: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .args(what);
        command
    };
    let allowed = unshare(&["mount -o remount,bind,ro /"]).output().ok()?;
    let mut command = unshare(&[READ_ONLY_ROOT, "sh"]);
    command.args(places);
    command
        .env("SERIN_CACHE", places[1])
        .env("HOME", "/nowhere")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("ORT_DISABLE_TELEMETRY");
    command.arg(env!("CARGO_BIN_EXE_serin"));
    allowed.status.success().then_some(command)
}

/// A folder that is below `/tmp` only where this repository is.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

#[test]
fn a_read_only_root_with_places_for_data_cache_and_temporary_files_is_enough() {
    let places = [(); 3].map(|()| place());
    let [data, cache, temporary] = [0, 1, 2].map(|index: usize| places[index].path());
    let command = || on_read_only_root([data, cache, temporary]);
    let (Some(mut bare), Some(mut kept)) = (command(), command()) else {
        // Where the system does not let a user have this, nothing can be said.
        return;
    };
    bare.args(["up", "--port", "0", "--name", "digits"]);
    // A model that may end its process has one, with memory that both share.
    bare.args([model("models/digits/1"), model("models/test/divide.onnx")]);
    let up = Up::start(bare);
    assert_eq!(up.score("/score").status, 200);
    let mut unpacked = std::fs::read_dir(cache).expect("a folder");
    assert!(unpacked.next().is_some());

    kept.arg("serve").args(["--port", "0", "--data"]).arg(data);
    let server = Server::start_prepared(kept, data);
    server.register("digits", "1", "models/digits/1").ok();
    server.create_endpoint("iris");
    server
        .create_deployment("blue", "azureml:digits:1", "")
        .ok();
    let answer = server.score("iris", &server.key("iris"), Some("blue"), &sample());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(server.terminate(), Some(0));
}

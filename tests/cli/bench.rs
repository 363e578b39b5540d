//! `serin bench`: what it compares, tells, writes and decides, and what it refuses. Never how fast anything is.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Place, repository};

/// A run of a few seconds that has not ended by then never will.
const HANGS: Duration = Duration::from_secs(60);

/// A version of the digits model.
fn digits(version: u32) -> String {
    repository(&format!("models/digits/{version}"))
        .display()
        .to_string()
}

fn model(name: &str) -> String {
    repository(&format!("models/test/{name}"))
        .display()
        .to_string()
}

/// Two different versions.
fn both() -> String {
    format!("{} {}", digits(1), digits(2))
}

/// The same version twice.
fn twice() -> String {
    format!("{} {}", digits(1), digits(1))
}

/// Runs `serin bench` with a line that must be measured; the report. On a machine that is busy with something else a run at a rate
/// may rightly say that it says nothing.
fn report(place: &Place, line: &str) -> Value {
    let (code, report, said) = judged(place, line);
    let report = report.unwrap_or_else(|| panic!("serin bench {line}: code {code}\n{said}"));
    let invalid = report["verdict"]["outcome"] == "invalid";
    assert_eq!(code, if invalid { 3 } else { 0 }, "{report:#}\n{said}");
    report
}

/// The comparison of the answers to all inputs. A part of the budget bounds the time for them: this one is far more than they need,
/// and yet the run ends with its warm-up, because no rate can be judged by a limit that is longer than the budget.
fn answers(place: &Place, line: &str) -> Value {
    let mut report = report(place, &format!("{line} --budget 30 --slo p99=60s"));
    let answers = report["answers"][0].take();
    let inputs = &report["setup"]["inputs_count"];
    assert_eq!(&answers["compared"], inputs, "{answers:#}");
    answers
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs `serin bench` to its end; the exit code, the report if there is one, and standard error.
fn judged(place: &Place, line: &str) -> (i32, Option<Value>, String) {
    let child = place
        .command()
        .arg("bench")
        .args(line.split(' '))
        .arg("--only-show-errors")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the serin binary runs");
    let output = within_bounds(Pid::from_child(&child), || child.wait_with_output());
    let output = output.expect("it ends");
    let code = output.status.code();
    let code = code.unwrap_or_else(|| panic!("serin bench {line} did not end within {HANGS:?}"));
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    (code, (!stdout.is_empty()).then(|| parsed(&stdout)), stderr)
}

fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value:#}"))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value:#}"))
}

/// The level has figures of so many versions, and intervals that hold their points or are not there; of two versions the primary
/// metric is compared first.
fn is_sound(report: &Value, level: &Value, versions: usize) {
    let holds = |estimate: &Value| {
        let (low, high) = (&estimate["low"], &estimate["high"]);
        match (low.is_null(), high.is_null()) {
            (true, true) => {}
            _ => assert!(
                number(low) <= number(&estimate["point"])
                    && number(&estimate["point"]) <= number(high),
                "{estimate:#}"
            ),
        }
    };
    let figures = list(&level["figures"]);
    assert_eq!(figures.len(), versions, "{level:#}");
    for one in figures {
        assert!(number(&one["requests"]) > 0.0, "{one:#}");
        assert!(number(&one["p50_ms"]) > 0.0, "{one:#}");
        assert!(number(&one["p50_ms"]) <= number(&one["max_ms"]), "{one:#}");
        holds(&one["throughput_per_s"]);
    }
    let comparisons = list(&level["comparisons"]);
    assert_eq!(comparisons.is_empty(), versions == 1, "{level:#}");
    for one in comparisons {
        assert!(number(&one["ratio"]["pairs"]) >= 2.0, "{one:#}");
        holds(&one["ratio"]);
    }
    if let Some(first) = comparisons.first() {
        assert_eq!(first["metric"], report["setup"]["primary"]);
        let noise = &level["noise"];
        assert_eq!(noise["metric"], report["setup"]["primary"]);
        holds(&noise["ratio"]);
    }
}

/// An endpoint `iris` with the deployments `blue` and `green`, whose instances take one request at once.
fn with_blue_and_green(place: &Place) {
    for (name, version) in [("blue", 1), ("green", 2)] {
        let file = format!(
            "name: {name}\nendpoint_name: iris\nmodel: {}\ninstance_type: Standard_DS1_v2\n",
            digits(version)
        );
        place.write(&format!("{name}.yml"), file);
    }
    place.ok("endpoint create --name iris");
    place.ok("deployment create --file blue.yml --all-traffic");
    place.ok("deployment create --file green.yml");
}

/// The address that takes the requests of `iris`, and its key.
fn address_and_key(place: &Place) -> (String, String) {
    let endpoint = parsed(&place.ok("endpoint show --name iris --detail"));
    let credentials = parsed(&place.ok("endpoint get-credentials --name iris"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (
        text(&endpoint["scoring_uri"]),
        text(&credentials["primaryKey"]),
    )
}

/// An address of this machine where nothing listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// Starts `serin bench` and presses Ctrl-C when a line of its progress begins so; the exit code, and what it prints.
fn interrupted(place: &Place, line: &str, wanted: &str) -> (i32, String) {
    let mut child = place
        .command()
        .arg("bench")
        .args(line.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the serin binary runs");
    let pid = Pid::from_child(&child);
    let (status, text) = within_bounds(pid, || {
        let mut progress = BufReader::new(child.stderr.take().expect("a pipe"));
        let (mut said, mut last) = (String::new(), 0);
        while !said[last..].starts_with(wanted) {
            last = said.len();
            let read = progress.read_line(&mut said).expect("progress");
            assert!(read > 0, "it ended before {wanted:?}:\n{said}");
        }
        kill_process(pid, Signal::INT).expect("it is there");
        let mut text = String::new();
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut text).expect("the result");
        (child.wait().expect("it ends"), text)
    });
    (status.code().expect("it was not killed"), text)
}

/// Waits for a process, which is killed when it takes too long.
fn within_bounds<T>(pid: Pid, wait: impl FnOnce() -> T) -> T {
    let (ended, waits) = mpsc::channel::<()>();
    let watch = thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            if waits.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                kill_process(pid, Signal::KILL).expect("it is there");
            }
        })
        .expect("a thread");
    let waited = wait();
    drop(ended);
    watch.join().expect("the watch ends");
    waited
}

#[test]
fn two_files_are_compared_without_a_server_and_leave_nothing_behind() {
    let place = Place::new();
    place.write("folders/none", "");
    let folders = place.path("folders");
    let output = place
        .command()
        .env("TMPDIR", &folders)
        .args(["bench", &digits(1), &digits(2), "--budget", "3"])
        .output()
        .expect("the serin binary runs");
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert!(
        progress.starts_with("starting a server for digits-1\n"),
        "{progress}"
    );
    let report = parsed(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(
        (
            &report["schema"],
            &report["complete"],
            &report["interrupted"]
        ),
        (&3.into(), &true.into(), &false.into())
    );
    let versions = list(&report["versions"]);
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[0]["label"], "digits-1");
    assert_eq!(versions[1]["what"], digits(2));
    assert_ne!(versions[0]["model_sha256"], versions[1]["model_sha256"]);
    let levels = list(&report["levels"]);
    assert_eq!(levels.len(), 1);
    is_sound(&report, &levels[0], 2);
    for phase in ["warm-up", "noise", "pair"] {
        let blocks = list(&levels[0]["blocks"]).iter();
        let count = blocks.filter(|block| block["phase"] == phase).count();
        assert!(count >= 2, "{phase}: {count}");
    }
    let answers = &report["answers"][0];
    assert!(number(&answers["differing"]) > 0.0, "{answers:#}");
    assert!(number(&answers["agreement"]["point"]) < 1.0, "{answers:#}");
    let words = report["verdict"]["words"].as_str().expect("words");
    assert!(words.contains("digits-1") && words.contains("answers differ"));
    let left: Vec<_> = fs::read_dir(&folders)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["none"], "the servers' folders go with them");
}

#[test]
fn one_version_alone_is_measured_and_compared_with_nothing() {
    let place = Place::new();
    let report = report(&place, &format!("{} --budget 1", digits(1)));
    assert_eq!(report["verdict"]["outcome"], "alone");
    assert_eq!(report["answers"], serde_json::json!([]));
    assert_eq!(report["levels"][0]["noise"], Value::Null);
    is_sound(&report, &report["levels"][0], 1);
}

#[test]
fn a_file_agrees_with_itself() {
    let place = Place::new();
    let report = report(&place, &format!("{} --budget 3", twice()));
    let versions = list(&report["versions"]);
    assert_eq!(versions[1]["label"], "digits-1 (again)");
    assert_eq!(versions[0]["model_sha256"], versions[1]["model_sha256"]);
    let answers = &report["answers"][0];
    assert_eq!(
        (&answers["differing"], &answers["unanswered"]),
        (&0.into(), &0.into()),
        "{answers:#}"
    );
    assert!((number(&answers["agreement"]["point"]) - 1.0).abs() < 1e-12);
}

#[test]
fn deployments_are_found_measured_and_left_as_they_are() {
    let place = Place::new();
    let _server = place.serve();
    with_blue_and_green(&place);
    let show = || parsed(&place.ok("endpoint show --name iris --detail"));
    let before = show();
    let report = report(&place, "blue green --budget 3");
    assert_eq!(show(), before);
    let versions = list(&report["versions"]);
    assert_eq!(versions[0]["what"], "iris/blue");
    assert_eq!(versions[1]["what"], "iris/green");
    for (version, name) in versions.iter().zip(["blue", "green"]) {
        let settings = &version["settings"];
        assert_eq!(settings["instance_type"], "Standard_DS1_v2");
        assert_eq!(settings["instance_count"], 1);
        let sha256 = version["model_sha256"].as_str().expect("a hash");
        assert!(
            sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}: {sha256}"
        );
    }
    assert_ne!(versions[0]["model_sha256"], versions[1]["model_sha256"]);
    is_sound(&report, &report["levels"][0], 2);
    // One instance that takes one request at once is full when several come: it is asked again.
    let answers = answers(&place, "blue green --made 64");
    assert_eq!(answers["unanswered"], 0, "{answers:#}");
}

#[test]
fn a_server_at_an_address_is_asked_what_is_given() {
    let place = Place::new();
    let _server = place.serve();
    with_blue_and_green(&place);
    let (url, key) = address_and_key(&place);
    let input = format!("{}/sample-request.json", digits(1));
    let found = report(
        &place,
        &format!("--url {url} --key={key} --input {input} --budget 1 -c 1"),
    );
    assert_eq!(found["versions"][0]["url"], url);
    assert_eq!(found["setup"]["inputs_count"], 1);
    assert_eq!(found["levels"][0]["figures"][0]["failures"], 0);
    is_sound(&found, &found["levels"][0], 1);

    let (code, report, said) = judged(&place, &format!("--url {url} --key={key}"));
    assert_eq!((code, report), (3, None));
    assert!(
        said.contains("is not known: give requests with --input"),
        "{said}"
    );
    let (code, report, said) = judged(&place, &format!("--url {url} --key wrong --input {input}"));
    assert_eq!((code, report), (3, None));
    assert!(
        said.contains(
            "status 401: {\"message\":\"the credential is not valid for this endpoint\"}"
        ),
        "{said}"
    );
}

#[test]
fn an_address_where_nothing_listens_is_named() {
    let place = Place::new();
    place.write("one.json", r#"{"data": [[1]]}"#);
    let address = nobody();
    let line = format!("--url http://{address}/score --input one.json");
    let (code, report, said) = judged(&place, &line);
    assert_eq!((code, report), (3, None));
    assert!(
        said.contains(&format!("cannot connect to {address}")),
        "{said}"
    );
    let (code, report, said) = judged(&place, &format!("{line} --fail-if p99>1.1"));
    assert_eq!((code, report), (3, None), "{said}");
}

#[test]
fn the_page_holds_what_was_printed() {
    let place = Place::new();
    let report = report(&place, &format!("{} --budget 3 --html page.html", both()));
    let words = report["verdict"]["words"].as_str().expect("words");
    let page = place.read("page.html");
    let end = "answers differ beyond 1e-4";
    assert!(words.contains(end) && page.contains(end));
    for reference in ["<script src", "<link", "<img", "@import", "src=\"http"] {
        assert!(!page.contains(reference), "the page refers to {reference}");
    }
}

#[test]
fn a_table_begins_with_the_verdict() {
    let place = Place::new();
    let text = place.ok(&format!(
        "bench {} --budget 1 --output table --only-show-errors",
        digits(1)
    ));
    let first = text.lines().next().expect("a line");
    assert!(first.starts_with("digits-1 answers "), "{text}");
    for heading in ["\nVERSIONS\n", "\nCHECKS\n", "\nSETUP\n", "\nENVIRONMENT\n"] {
        assert!(text.contains(heading), "{heading}: {text}");
    }
}

#[test]
fn a_path_that_cannot_be_written_is_named_before_anything_is_measured() {
    let place = Place::new();
    let line = format!("{} --budget 1 --html missing/page.html", digits(1));
    let (code, report, said) = judged(&place, &line);
    assert_eq!((code, report), (3, None), "{said}");
    assert!(
        said.starts_with("error: --html: cannot write missing/page.html"),
        "{said}"
    );
}

#[test]
fn conditions_that_are_kept_pass() {
    let place = Place::new();
    let (code, report, said) = judged(
        &place,
        &format!(
            "{} --budget 3 --fail-if agreement<0.9 --fail-if top1<90%",
            twice()
        ),
    );
    assert_eq!(code, 0, "{said}");
    let report = report.expect("a report");
    let gates = list(&report["gates"]);
    assert_eq!(gates.len(), 2);
    assert!(
        gates.iter().all(|gate| gate["state"] == "passed"),
        "{report:#}"
    );
}

#[test]
fn a_condition_that_is_broken_is_a_regression() {
    let place = Place::new();
    let (code, report, said) = judged(
        &place,
        &format!("{} --budget 3 --made 400 --fail-if agreement<0.99", both()),
    );
    assert_eq!(code, 1, "{said}");
    assert!(
        said.starts_with("error: regression: agreement<0.99: "),
        "{said}"
    );
    assert_eq!(report.expect("a report")["gates"][0]["state"], "failed");
}

#[test]
fn a_condition_that_the_run_cannot_decide_is_refused_before_it_starts() {
    let place = Place::new();
    let refused = |line: &str| {
        let (code, report, said) = judged(&place, line);
        assert_eq!((code, report), (3, None), "{said}");
        assert!(!said.contains("starting a server"), "{said}");
        said
    };
    let said = refused(&format!(
        "{} --fail-if agreement<0.99 --fail-if p99>1.1",
        both()
    ));
    assert!(
        said.contains("agreement<0.99: 257 different inputs cannot prove it kept, whatever they say: at least 368 are needed"),
        "{said}"
    );
    let said = refused(&format!("{} --fail-if p99>1.1", digits(1)));
    assert!(said.contains("name another one too"), "{said}");
    let line = format!("{} --rate 100 --budget 10 --fail-if failures>0.1%", both());
    let said = refused(&line);
    assert!(said.contains("500 requests cannot prove it kept"), "{said}");
    assert!(said.contains("at least 3688 are needed"), "{said}");
}

#[test]
fn a_ratio_decides_unless_the_machine_is_too_unsteady() {
    let place = Place::new();
    let (code, report, said) = judged(
        &place,
        &format!(
            "{} --budget 3 --fail-if throughput<0.01 --fail-if throughput>0.01",
            twice()
        ),
    );
    let report = report.expect("a report");
    let withheld = report["verdict"]["outcome"] == "withheld";
    let states: Vec<_> = list(&report["gates"])
        .iter()
        .map(|gate| gate["state"].as_str().expect("a state"))
        .collect();
    if withheld {
        assert_eq!((code, &*states), (2, &["undecided"; 2][..]), "{said}");
    } else {
        assert_eq!((code, &*states), (1, &["passed", "failed"][..]), "{said}");
        assert!(
            said.starts_with("error: regression: throughput>0.01: "),
            "{said}"
        );
    }
}

#[test]
fn a_limit_within_the_interval_decides_nothing() {
    let place = Place::new();
    // Of these inputs, which the seed makes, 206 of 258 rows have the same largest number.
    let (code, report, said) = judged(
        &place,
        &format!(
            "{} --budget 3 --seed 1 --made 256 --fail-if top1<0.8",
            both()
        ),
    );
    let report = report.expect("a report");
    let top1 = &report["answers"][0]["top1"];
    assert!(
        number(&top1["low"]) < 0.8 && number(&top1["high"]) > 0.8,
        "{top1:#}"
    );
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("error: undecided: top1<0.8: "), "{said}");
}

#[test]
fn a_condition_without_a_decision_has_its_own_code() {
    let place = Place::new();
    let (code, report, said) = judged(&place, "blue --fail-if p99>1.1");
    assert_eq!((code, report), (3, None));
    assert!(
        said.starts_with("error: no decision\ncaused by: "),
        "{said}"
    );
    let line = format!("bench {} --fail-if nonsense>1", digits(1));
    assert_snapshot!(place.run(&line), @r#"
    code: 3
    --- stdout
    --- stderr
    error: invalid value 'nonsense>1' for '--fail-if <CONDITION>': unknown metric "nonsense"; the metrics are throughput, mean, p50, p90, p99, cpu, agreement, top1, failures

    For more information, try '--help'.
    "#);
}

#[test]
fn a_version_that_is_not_there_is_refused_with_what_to_do() {
    let place = Place::new();
    assert_snapshot!(place.run("bench blue"), @r#"
    code: 6
    --- stdout
    --- stderr
    error: cannot look for a deployment "blue", as there is no file of that name
    caused by: no server runs on "[folder]/data"; start one with `serin serve`, or name another folder with --data
    "#);
    assert_snapshot!(place.run("bench v1.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: v1.onnx: no model at v1.onnx: expected an ONNX file, or a folder with one
    ");
    assert_snapshot!(place.run("bench no_name"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: "no_name" is neither a file nor the name of a deployment: expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found "no_name"
    "#);
    let _server = place.serve();
    with_blue_and_green(&place);
    assert_snapshot!(place.run("bench red"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: no endpoint has a deployment "red"
    "#);
    assert_snapshot!(place.run("bench blue --endpoint-name roses"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: endpoint "roses" does not exist
    "#);
}

#[test]
fn what_is_no_model_is_refused() {
    let place = Place::new();
    place.write("text.onnx", "hello");
    place.write("empty/none", "");
    assert_snapshot!(place.run("bench text.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot bench text
    caused by: text.onnx is not an ONNX model, or only a part of one (ONNX Runtime: Load model from text.onnx failed:Protobuf parsing failed.)
    ");
    assert_snapshot!(place.run("bench ./empty"), @"
    code: 3
    --- stdout
    --- stderr
    error: ./empty: ./empty holds no model: expected `model.onnx` or exactly one `.onnx` file at its top
    ");
}

#[test]
fn more_versions_than_are_compared_in_one_run_are_refused() {
    let place = Place::new();
    let files = "1.onnx 2.onnx 3.onnx 4.onnx 5.onnx 6.onnx 7.onnx 8.onnx";
    assert_snapshot!(place.run(&format!("bench {files} --url http://127.0.0.1:1/score")), @"
    code: 3
    --- stdout
    --- stderr
    error: expected at most 8 versions, found 9: 1.onnx, 2.onnx, 3.onnx, 4.onnx, 5.onnx, 6.onnx, 7.onnx, 8.onnx, http://127.0.0.1:1/score
    ");
}

#[test]
fn a_version_that_takes_other_inputs_is_named() {
    let place = Place::new();
    let add = model("add.onnx");
    let (code, report, said) = judged(&place, &format!("{} {add} --budget 1", digits(1)));
    assert_eq!((code, report), (3, None));
    assert!(
        said.contains(
            "caused by: add does not take the requests that digits-1 takes: status 424: "
        ),
        "{said}"
    );
    assert!(
        said.contains("give requests that both take with --input"),
        "{said}"
    );
    let (code, report, said) = judged(&place, &format!("{add} {} --budget 1", digits(1)));
    assert_eq!((code, report), (3, None));
    assert!(
        said.contains("caused by: digits-1 does not take the requests that add takes: "),
        "{said}"
    );
}

#[test]
fn loads_that_contradict_each_other_are_refused() {
    let place = Place::new();
    let digits = digits(1);
    for (options, words) in [
        (
            "--rate 100 --scenario single-stream",
            "error: --rate is for the scenario server; the others send as fast as they are answered\n",
        ),
        (
            "--rate 100 -c 1,2",
            "error: several --connections are a sweep of a closed loop; with a rate, sweep with --rate 100,200,..\n",
        ),
        (
            "--scenario server -c 1,2",
            "error: several --connections are a sweep of a closed loop; with a rate, sweep with --rate 100,200,..\n",
        ),
    ] {
        let (code, report, said) = judged(&place, &format!("{digits} {options}"));
        assert_eq!((code, report, &*said), (3, None, words), "{options}");
    }
}

#[test]
fn mistakes_of_usage_are_told_apart_from_bad_files() {
    let place = Place::new();
    for line in [
        "bench",
        "bench m.onnx --arrivals constant",
        "bench m.onnx --slo p99=20",
        "bench m.onnx --slo p99=20ms --rate 100",
        "bench m.onnx --target-ci 0",
        "bench m.onnx --budget 0",
        "bench m.onnx --quick --thorough",
        "bench m.onnx -c 0",
        "bench m.onnx --rate 0",
        "bench m.onnx --tolerance -1",
        "bench m.onnx --key secret",
        "bench m.onnx --vcpus 1 --instance-type Standard_F2s_v2",
    ] {
        let said = place.run(line);
        assert!(
            said.starts_with("code: 2\n--- stdout\n--- stderr\nerror: "),
            "serin {line}\n{said}"
        );
    }
}

#[test]
fn requests_that_cannot_be_read_are_refused_with_their_place() {
    let place = Place::new();
    place.write("empty/none", "");
    place.write("broken.jsonl", "{\"data\": [[1, 2]]}\n\n{\"data\": \n");
    place.write("request.txt", "{}");
    let digits = digits(1);
    let refused = |input: &str| {
        let said = place.run(&format!("bench {digits} --input {input}"));
        said.replace(&digits, "[digits]")
    };
    assert_snapshot!(refused("empty"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot bench digits-1
    caused by: --input: no requests in empty: expected *.json files (one request each) or *.jsonl files (one request a line)
    ");
    assert_snapshot!(refused("broken.jsonl"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot bench digits-1
    caused by: --input: expected JSON in each request, found
    caused by:   broken.jsonl:3:8: EOF while parsing a value
    ");
    assert_snapshot!(refused("request.txt"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot bench digits-1
    caused by: --input: expected a .json file (one request), a .jsonl file (one request a line) or a folder of them, found request.txt
    ");
    assert_snapshot!(refused("missing.json"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot bench digits-1
    caused by: --input: cannot read the requests in missing.json: No such file or directory (os error 2)
    ");
    assert_snapshot!(refused("empty --input empty --input empty"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot bench digits-1
    caused by: --input is given once for all versions, or once for each of them
    ");
}

#[test]
fn requests_that_the_model_does_not_take_are_refused_with_its_words() {
    let place = Place::new();
    place.write("short.json", r#"{"data": [[1, 2, 3]]}"#);
    let (code, report, said) = judged(&place, &format!("{} --input short.json", digits(1)));
    assert_eq!((code, report), (3, None));
    assert!(
        said.contains("expected FP32 numbers of shape [-1, 64], row 1 has 3 numbers"),
        "{said}"
    );
}

/// Compares a file with itself under a load; the report, with the scenario and what is judged.
fn under(load: &str, scenario: &str, primary: &str) -> Value {
    let place = Place::new();
    let report = report(&place, &format!("{} --budget 3 --made 16 {load}", twice()));
    let setup = &report["setup"];
    assert_eq!(
        (&setup["scenario"], &setup["primary"]),
        (&scenario.into(), &primary.into())
    );
    let levels = list(&report["levels"]);
    assert_eq!(levels.len(), 1);
    is_sound(&report, &levels[0], 2);
    report
}

#[test]
fn one_request_at_a_time_is_judged_by_p90() {
    let report = under("--scenario single-stream", "single-stream", "p90");
    assert_eq!(report["levels"][0]["name"], "1 connection");
    // The server of a file takes as many at once as it is loaded with; all inputs are answered nevertheless.
    assert_eq!(report["answers"][0]["unanswered"], 0);
}

#[test]
fn queries_of_eight_requests_are_judged_by_p99() {
    let report = under("--scenario multi-stream", "multi-stream", "p99");
    assert_eq!(report["setup"]["requests_per_query"], 8);
    assert_eq!(report["levels"][0]["name"], "8 requests at a time");
}

#[test]
fn independent_arrivals_are_judged_by_p99() {
    let report = under("--rate 200", "server", "p99");
    let level = &report["levels"][0];
    assert_eq!(
        (&level["name"], &level["load"]),
        (&"200 requests/s".into(), &200.0.into())
    );
    let checks = list(&report["checks"]).iter();
    let names: Vec<_> = checks.filter_map(|check| check["name"].as_str()).collect();
    assert!(
        names.contains(&"schedule") && names.contains(&"sent"),
        "{names:?}"
    );
}

#[test]
fn even_arrivals_are_a_scenario_of_their_own() {
    let report = under("--rate 200 --arrivals constant", "constant", "p99");
    // The same schedule for both: what is due does not depend on who answers.
    let figures = list(&report["levels"][0]["figures"]);
    assert_eq!(figures[0]["requests"], figures[1]["requests"]);
}

#[test]
fn all_at_once_is_judged_by_throughput() {
    let report = under("--scenario offline", "offline", "throughput");
    assert_eq!(report["levels"][0]["name"], "16 connections");
}

#[test]
fn a_sweep_of_connections_has_a_level_for_each() {
    let place = Place::new();
    let report = report(&place, &format!("{} --budget 5 -c 2,1 --made 16", twice()));
    let levels = list(&report["levels"]);
    let names: Vec<_> = levels.iter().map(|level| &level["name"]).collect();
    assert_eq!(names, ["1 connection", "2 connections"]);
    for level in levels {
        is_sound(&report, level, 2);
    }
    let words = report["verdict"]["words"].as_str().expect("words");
    assert!(
        words.contains("2 loads") || words.contains("no winner"),
        "{words}"
    );
}

#[test]
fn a_sweep_of_rates_has_a_level_for_each() {
    let place = Place::new();
    let report = report(
        &place,
        &format!("{} --budget 2 --rate 100,50 --made 16", digits(1)),
    );
    let levels = list(&report["levels"]);
    let names: Vec<_> = levels.iter().map(|level| &level["name"]).collect();
    assert_eq!(names, ["50 requests/s", "100 requests/s"]);
    for level in levels {
        is_sound(&report, level, 1);
    }
}

#[test]
fn the_highest_rate_that_keeps_a_latency_is_looked_for() {
    let place = Place::new();
    let report = report(
        &place,
        &format!("{} --slo p99=20ms --budget 3 --made 16", digits(1)),
    );
    assert_eq!(report["slo"]["slo"]["quantile"], 0.99);
    let found = &report["slo"]["versions"][0];
    assert!(!list(&found["probes"]).is_empty(), "{found:#}");
    assert!(
        found["ended"]
            .as_str()
            .is_some_and(|words| !words.is_empty())
    );
    // On a machine whose neighbours stall it, three seconds may show nothing: then no try may have shown anything.
    let known = [&found["passed_per_s"], &found["failed_per_s"]];
    let is_known = known.iter().any(|rate| rate.is_number());
    let mut tries = list(&found["probes"]).iter();
    let none_shows = tries.all(|one| one["outcome"] == "undecided");
    assert!(is_known != none_shows, "{found:#}");
    let words = report["verdict"]["words"].as_str().expect("words");
    assert!(
        words.starts_with("p99 of 20 ms: ") && words.contains("digits-1"),
        "{words}"
    );
    assert_eq!(
        words.contains("(unconfirmed)"),
        found["confirmed"] == false,
        "{words}"
    );
}

#[test]
fn a_latency_that_no_rate_keeps_is_said_so() {
    let place = Place::new();
    let report = report(
        &place,
        &format!("{} --slo p50=0.000001ms --budget 2 --made 16", digits(1)),
    );
    assert_eq!(report["slo"]["versions"][0]["passed_per_s"], Value::Null);
    let words = report["verdict"]["words"].as_str().expect("words");
    assert!(
        words.starts_with("p50 of 0.000001 ms: digits-1 does not keep it at "),
        "{words}"
    );
}

#[test]
fn a_rate_that_is_not_confirmed_has_its_own_code_where_a_decision_is_asked_for() {
    let place = Place::new();
    let line = format!(
        "{} --slo p50=0.000001ms --budget 3 --made 16 --fail-if agreement<0.5",
        twice()
    );
    let (code, report, said) = judged(&place, &line);
    assert_eq!(code, 4, "{said}");
    assert!(
        said.starts_with("error: unconfirmed: p50 of 0.000001 ms: "),
        "{said}"
    );
    assert_eq!(report.expect("a report")["gates"][0]["state"], "passed");
}

#[test]
fn a_search_without_the_time_for_a_try_does_not_say_that_it_failed() {
    let place = Place::new();
    // A try takes ten times the latency at least.
    let report = report(
        &place,
        &format!("{} --slo p99=60s --budget 1 --made 16", digits(1)),
    );
    assert_eq!(
        report["slo"]["versions"][0]["probes"],
        Value::Array(Vec::new())
    );
    assert_eq!(
        report["verdict"]["words"],
        "p99 of 60,000 ms: no rate was tried on digits-1: more time is needed (--budget) (unconfirmed)"
    );
}

#[test]
fn an_interrupted_run_prints_what_it_has_and_says_that_it_is_incomplete() {
    let place = Place::new();
    let line = format!("{} --budget 6 -c 1,2 --made 16", both());
    // The first level is whole by then, the second has its time to come.
    let (code, text) = interrupted(&place, &line, "measuring under 2 connections");
    assert_eq!(code, 130);
    let report = parsed(&text);
    assert_eq!(
        (&report["interrupted"], &report["complete"]),
        (&true.into(), &false.into())
    );
    is_sound(&report, &report["levels"][0], 2);
}

#[test]
fn a_run_that_is_interrupted_before_anything_is_measured_prints_nothing() {
    let place = Place::new();
    let line = format!("{} --budget 86400 --fail-if p99>1.1", both());
    let (code, text) = interrupted(&place, &line, "asking digits-1");
    assert_eq!(code, 130);
    // The answers may be known by then.
    if !text.is_empty() {
        let report = parsed(&text);
        assert_eq!(report["interrupted"], true);
        assert!(list(&report["levels"]).is_empty(), "{report:#}");
        assert!(report["answers"][0].is_object(), "{report:#}");
    }
}

#[test]
fn a_run_ends_when_its_interval_is_as_narrow_as_was_asked_for() {
    let place = Place::new();
    let report = report(
        &place,
        &format!("{} --target-ci 90% --budget 30 --made 16", twice()),
    );
    assert_eq!(report["complete"], true);
    assert_eq!(report["setup"]["target_half_width"], 0.9);
    let ratio = &report["levels"][0]["comparisons"][0]["ratio"];
    // It looks after every fifth pair, from the tenth on.
    let pairs = ratio["pairs"].as_u64().expect("a number");
    assert!(pairs >= 10 && pairs.is_multiple_of(5), "{ratio:#}");
    let point = number(&ratio["point"]);
    assert!(number(&ratio["high"]) <= point * 1.9, "{ratio:#}");
    assert!(number(&ratio["low"]) >= point * 0.1, "{ratio:#}");
}

#[test]
fn a_seed_repeats_the_inputs() {
    let place = Place::new();
    let of_seed = |seed: u32| answers(&place, &format!("{} --made 64 --seed {seed}", both()));
    let first = of_seed(7);
    assert_eq!(first["compared"], 65);
    assert_eq!(of_seed(7), first);
    assert_ne!(of_seed(8), first);
}

#[test]
fn a_run_that_was_saved_is_compared_with_a_later_one() {
    let place = Place::new();
    for (file, budget) in [("old.json", 3), ("new.json", 4)] {
        place.ok(&format!(
            "bench {} --budget {budget} --made 16 --save {file} --output none",
            twice()
        ));
    }
    let found = parsed(&place.ok("bench compare old.json new.json"));
    assert_eq!(found["schema"], 1);
    // The baseline is the same model in both.
    assert!(found["anchor"].is_object(), "{found:#}");
    let versions = list(&found["levels"][0]["versions"]);
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0]["metrics"][0]["metric"], "throughput");
    let text = place.ok("bench compare old.json new.json --output table");
    assert!(text.contains("which both runs have"), "{text}");
    assert!(text.contains("new / old"), "{text}");
    // Other requests are another benchmark.
    place.ok(&format!(
        "bench {} --budget 3 --made 17 --save other.json --output none",
        twice()
    ));
    let said = place.run("bench compare old.json other.json");
    assert!(
        said.contains("these runs cannot be compared:\n  SHA-256 of the requests: ")
            || said
                .contains("these runs cannot be compared:\ncaused by:   SHA-256 of the requests: "),
        "{said}"
    );
}

#[test]
fn what_is_no_saved_run_is_refused() {
    let place = Place::new();
    place.write("report.json", "{\"schema\": 3}");
    assert_snapshot!(place.run("bench compare report.json missing.json"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot compare report.json and missing.json
    caused by: report.json: expected a run that was written by --save: missing field `saved` at line 1 column 13
    ");
    let said = place.run("bench compare missing.json report.json");
    assert!(said.contains("cannot read \"missing.json\""), "{said}");
    for line in [
        "bench compare one.json",
        "bench compare",
        "bench compare a b c",
        "bench compare a b --budget 3",
    ] {
        let said = place.run(line);
        assert!(said.starts_with("code: 2\n"), "serin {line}\n{said}");
    }
}

#[test]
fn an_https_server_is_known_by_its_certificate_or_not_asked() {
    let place = Place::new();
    let refused = |line: &str| {
        let said = place.run(&format!("bench --url https://127.0.0.1:1/score {line}"));
        assert!(said.starts_with("code: 3\n"), "{said}");
        said
    };
    place.write("requests.json", "{\"data\": [[1]]}");
    let said = refused("-i requests.json --insecure");
    assert!(said.contains("--insecure is not offered"), "{said}");
    let said = refused("-i requests.json --cacert missing.pem");
    assert!(
        said.contains("--cacert missing.pem: expected certificates as PEM"),
        "{said}"
    );
    let said = refused("-i requests.json --cacert requests.json");
    assert!(
        said.contains("expected certificates as PEM, found none"),
        "{said}"
    );
    let authority = repository("tests/tls/authority.pem");
    let said = refused(&format!(
        "-i requests.json --cacert {}",
        authority.display()
    ));
    assert!(said.contains("cannot connect to 127.0.0.1:1"), "{said}");
}

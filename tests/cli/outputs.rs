//! Outputs that answer a question: what they say, in which form, and that the form is the documented one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::schemas::problems;
use crate::server::with_blue;
use crate::support::{Place, repository, until};

/// Green, with nearly every key that a deployment can have.
const GREEN: &str = "\
name: green
endpoint_name: iris
model: azureml:digits:1
instance_type: Standard_F2s_v2
instance_count: 2
description: the next one
tags: {team: vision}
properties: {a: b}
environment_variables: {A: b}
app_insights_enabled: true
liveness_probe: {initial_delay: 5}
scale_settings: {type: default, min_instances: 1}
request_settings:
  request_timeout_ms: 3000
  max_concurrent_requests_per_instance: 2
  max_waiting_requests_per_instance: 3
  max_queue_wait_ms: 100
  max_batch_size: 1
  lanes: 1
  isolation: thread
";

const ROLLOUT: &str = "strategy: {canary: {steps: [{setWeight: 10}, {pause: {}}]}}\n";

/// What a line prints, whatever it decides.
fn printed(place: &Place, line: &str) -> Value {
    let said = place.run(line);
    let (_, rest) = said.split_once("--- stdout\n").expect("standard output");
    let (stdout, _) = rest.split_once("--- stderr\n").expect("standard error");
    serde_json::from_str(stdout).unwrap_or_else(|_| panic!("serin {line}: no JSON\n{said}"))
}

/// Holds what a line prints against the schema of that name.
#[track_caller]
fn check(place: &Place, line: &str, schema: &str) -> Value {
    let text = std::fs::read_to_string(repository("docs/schemas").join(schema));
    let schema: Value = serde_json::from_str(&text.expect("a schema")).expect("JSON");
    let said = printed(place, line);
    assert_eq!(
        problems(&schema, &said),
        Vec::<String>::new(),
        "serin {line}\n{said:#}"
    );
    said
}

/// A server with blue, which has the traffic, and green.
fn with_both(place: &Place) {
    with_blue(place);
    place.write("green.yml", GREEN);
    place.ok("deployment create --file green.yml");
}

/// A line in a terminal of so many columns, by the clock of Greenwich.
fn narrow(place: &Place, columns: &str, line: &str) -> String {
    let mut command = place.command();
    command.env("COLUMNS", columns).env("TZ", "UTC");
    let output = command.args(line.split(' ')).output().expect("it runs");
    assert!(output.status.success(), "serin {line}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_scripts_read_has_the_form_that_is_documented() {
    let place = Place::new();
    let _server = place.serve();
    let empty = check(&place, "status", "status.json");
    assert_eq!(empty["endpoints"], json!([]));
    assert_eq!(check(&place, "journal", "journal.json"), json!([]));
    with_both(&place);
    place.ok("endpoint update -n iris --mirror-traffic green=10");
    check(&place, "status --seconds 0.1", "status.json");
    check(
        &place,
        "endpoint show iris --detail",
        "endpoint-show-detail.json",
    );
    let green = "deployment show green -e iris --detail";
    let green = check(&place, green, "deployment-show-detail.json");
    assert_eq!(green["effective"]["max_waiting_requests_per_instance"], 3);
    check(
        &place,
        "deployment show blue -e iris --detail",
        "deployment-show-detail.json",
    );
    place.ok("endpoint update -n iris --mirror-traffic green=0");
    place.write("rollout.yml", ROLLOUT);
    let planned = "rollout start --file rollout.yml --dry-run -o json --from blue --to green";
    let planned = check(&place, planned, "rollout-status.json");
    assert!(planned["forecast"].is_object(), "{planned}");
    place.ok("rollout start --file rollout.yml --from blue --to green");
    check(&place, "rollout status", "rollout-status.json");
    let under_way = check(&place, "status --seconds 0", "status.json");
    let rollout = &under_way["endpoints"][0]["rollout"];
    assert_eq!(
        (&rollout["from"], &rollout["to"]),
        (&json!("blue"), &json!("green"))
    );
    check(&place, "verdict --from blue --to green", "verdict.json");
    let data = place.path("../data");
    let several = format!("verdict --from blue --to green --server {}", data.display());
    check(&place, &several, "verdict.json");
    place.ok("rollout abort");
    check(&place, "rollout status", "rollout-status.json");
    let why = check(&place, "rollout explain -o json", "rollout-explain.json");
    assert_eq!(why["entries"][0]["event"], "started");
    check(&place, "journal", "journal.json");
}

#[test]
fn every_schema_stands_in_the_list_of_forms_with_its_number() {
    let folder = repository("docs/schemas");
    let list = std::fs::read_to_string(folder.join("README.md")).expect("a list");
    let mut found = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a schema");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let title = schema["title"].as_str().expect("a title");
        let number = title.rsplit(' ').next().expect("a number");
        let row = list
            .lines()
            .find(|row| row.contains(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the list"));
        assert!(row.contains(&format!("| {number}")), "{row}\n{title}");
        found += 1;
    }
    assert_eq!(
        found,
        list.lines().filter(|row| row.contains(".json` |")).count()
    );
}

#[test]
fn a_row_of_the_journal_is_a_change_in_a_sentence_and_the_newest_stands_first() {
    let place = Place::new();
    let _server = place.serve();
    with_both(&place);
    place.ok("endpoint update -n iris --traffic blue=90 green=10");
    place.ok("endpoint update -n iris --traffic blue=100 green=0");
    // An end is written when everybody has been answered.
    let said = until("the end of each change is noted", || {
        let said = narrow(&place, "300", "journal -o table");
        (!said.contains("no end is noted yet")).then_some(said)
    });
    let sentences: Vec<&str> = said
        .lines()
        .skip(2)
        .map(|row| {
            row.split_once("ann   ")
                .or_else(|| row.split_once("ann  "))
                .expect("who")
                .1
        })
        .map(|row| row.split(", in force after ").next().expect("a sentence"))
        .collect();
    assert_eq!(
        sentences,
        [
            "traffic of iris: blue 90 -> 100, green 10 -> 0",
            "traffic of iris: blue 100 -> 90, green 0 -> 10",
            "iris/green is new: 2 x Standard_F2s_v2 of azureml:digits:1",
            "iris/blue is new: 1 x Standard_F2s_v2 of azureml:digits:1; traffic of iris: blue 0 -> 100",
            "iris is new",
            "register model digits:1",
        ],
        "{said}"
    );
    assert_eq!(said.matches(", in force after ").count(), 5, "{said}");
    let newest = place.ok("journal -o table --last 1");
    assert_eq!(newest.lines().count(), 3, "{newest}");
    assert!(newest.contains("blue 90 -> 100"), "{newest}");
}

#[test]
fn no_row_is_wider_than_the_terminal_and_no_colour_is_in_any() {
    let place = Place::new();
    let _server = place.serve();
    with_both(&place);
    for columns in ["1", "20", "40", "80"] {
        let widest = columns.parse::<usize>().expect("a number").max(20);
        for line in ["status -o table --seconds 0", "journal -o table"] {
            let said = narrow(&place, columns, line);
            assert!(
                said.lines().all(|row| row.chars().count() <= widest),
                "COLUMNS={columns} serin {line}\n{said}"
            );
            assert!(!said.contains('\u{1b}'), "{said}");
        }
    }
}

#[test]
fn rows_between_tabs_and_parts_are_there_of_each_output() {
    let place = Place::new();
    let _server = place.serve();
    with_both(&place);
    assert_snapshot!(place.ok("status -o tsv --seconds 0"), @"
    iris	blue	Succeeded	1	1	100	0		0
    iris	green	Succeeded	2	2	0	0		0
    ");
    let part = "status --seconds 0 -o tsv --query";
    assert_eq!(
        place.ok(&format!("{part} endpoints[].deployments[].name")),
        "blue\ngreen\n"
    );
    assert_eq!(place.ok(&format!("{part} ready")), "true\n");
    // Each line of the journal is a line here, oldest first: ends too.
    let lines = place.ok("journal -o tsv");
    assert!(
        lines
            .lines()
            .any(|line| line.ends_with("\toutcome\tSucceeded")),
        "{lines}"
    );
    assert_eq!(place.ok("journal -o tsv --query [0].by"), "ann\n");
    let users = place.ok("model show digits -o tsv --query used_by[].deployment");
    assert_eq!(users, "blue\ngreen\n");
    assert_eq!(
        place.ok("sku list -o tsv --query \"[?name=='Standard_F2s_v2'].vcpus\""),
        "2\n"
    );
}

#[test]
fn a_model_says_where_it_came_from_and_who_serves_it() {
    let place = Place::new();
    let _server = place.serve();
    let model = repository("models/digits/1");
    place.ok(&format!(
        "model create --name digits --path {}",
        model.display()
    ));
    let alone = place.ok("model show digits -o table");
    let origin = format!("copied from {}\n", model.display());
    assert!(alone.contains(&origin), "{alone}");
    assert!(alone.contains("used by no deployment\n"), "{alone}");
    place.ok("endpoint create -n iris");
    place.write("green.yml", GREEN);
    place.ok("deployment create -f green.yml");
    let used = place.ok("model show digits -o table");
    assert!(used.contains("used by iris/green\n"), "{used}");
}

#[test]
fn what_counts_is_said_also_where_the_file_says_nothing() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let blue = printed(&place, "deployment show blue -e iris --detail");
    let mut effective = blue["effective"].clone();
    // The best number of rows is measured.
    effective["max_batch_size"].take();
    assert_snapshot!(format!("{effective:#}"), @r#"
    {
      "request_timeout_ms": 5000,
      "max_concurrent_requests_per_instance": 1,
      "max_waiting_requests_per_instance": 1,
      "max_batch_size": null,
      "max_batch_delay_us": 0,
      "lanes": 1,
      "spin": false,
      "isolation": "auto",
      "non_finite": "nulls",
      "probes": "without effect: an instance is ready when it is warmed up"
    }
    "#);
    let table = place.ok("deployment show blue -e iris --detail -o table");
    assert!(
        table.contains("request_timeout_ms                    5000\n"),
        "{table}"
    );
    place.write("green.yml", GREEN);
    place.ok("deployment create -f green.yml");
    let green = printed(&place, "deployment show green -e iris");
    assert_eq!(
        green["request_settings"]["max_waiting_requests_per_instance"],
        3
    );
    // As many lanes as requests were asked for, and the machine may have fewer cores.
    let wide = GREEN
        .replace("green", "wide")
        .replace("Standard_F2s_v2", "Standard_F16s_v2")
        .replace("per_instance: 2", "per_instance: 16")
        .replace("  lanes: 1\n", "");
    place.write("wide.yml", wide);
    place.ok("deployment create -f wide.yml");
    let wide = printed(&place, "deployment show wide -e iris --detail");
    assert_eq!(wide["effective"]["lanes"], wide["placements"][0]["lanes"]);
}

/// A server that answers once that it has a deployment, and is gone.
fn one_answer(place: &Place) -> thread::JoinHandle<()> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = json!({
        "pid": 1, "scoring_address": address, "admin_address": address, "token": "t", "started": "2026-01-01T00:00:00Z",
    });
    place.write("data/server.json", server.to_string());
    let status = json!({
        "version": "0.1.0", "pid": 1, "started": "2026-01-01T00:00:00Z", "ready": true, "revision": 1,
        "scoring_address": address, "admin_address": address, "uptime_ms": 5,
        "endpoints": [{"name": "iris", "provisioning_state": "Succeeded", "deployments": [{
            "name": "blue", "provisioning_state": "Succeeded", "traffic": 100, "mirror_traffic": 0, "instances_ready": 1,
            "instance_count": 1, "requests": 1, "in_flight": 0, "degraded": false,
        }]}],
    })
    .to_string();
    thread::Builder::new()
        .name("one-answer".to_owned())
        .spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).expect("a request");
            let length = status.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{status}"
            )
            .expect("it takes it");
        })
        .expect("a thread")
}

fn status_of(place: &Place, seconds: &str) -> std::process::Output {
    let mut command: Command = place.command();
    command
        .env("SERIN_DATA", place.path("data"))
        .args(["status", "--seconds", seconds]);
    command.output().expect("it runs")
}

#[test]
fn a_server_that_stops_between_two_readings_is_said_to_have_stopped() {
    let place = Place::new();
    let server = one_answer(&place);
    let output = status_of(&place, "0.2");
    server.join().expect("it has answered");
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    // One reading is enough where no rate is wanted.
    let server = one_answer(&place);
    let output = status_of(&place, "0");
    server.join().expect("it has answered");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_watch_ends_when_nobody_reads_it() {
    let place = Place::new();
    let _server = place.serve();
    let mut child = place
        .command()
        .args(["status", "--watch", "--seconds", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

#[test]
fn the_time_over_which_requests_are_counted_has_bounds() {
    let place = Place::new();
    for wrong in ["-1", "3601", "nan", "inf", "soon"] {
        let said = place.run(&format!("status --seconds={wrong}"));
        assert!(said.starts_with("code: 2\n"), "{wrong}: {said}");
        assert!(said.contains("expected seconds from 0 to 3600"), "{said}");
    }
}

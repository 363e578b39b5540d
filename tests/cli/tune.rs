//! `serin tune`: what it prints, draws and applies, and what it refuses. Never how fast anything is.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Place, repository};

/// Runs a line that must succeed; the JSON that it prints.
fn json(place: &Place, line: &str) -> Value {
    let text = place.ok(line);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An endpoint `iris` with a ready deployment `blue`, whose instances have one core.
fn with_blue(place: &Place) {
    let model = repository("models/digits/1");
    place.write(
        "blue.yml",
        format!(
            "name: blue\nendpoint_name: iris\nmodel: {}\ninstance_type: Standard_DS1_v2\n",
            model.display()
        ),
    );
    place.ok("endpoint create --name iris");
    place.ok("deployment create --file blue.yml --all-traffic");
}

fn digits() -> String {
    repository("models/digits/1/model.onnx")
        .display()
        .to_string()
}

/// Holds of every outcome: what is told is consistent, however fast anything was.
fn is_sound(result: &Value) {
    let points = result["points"].as_array().expect("points");
    let marked = |mark: &str| -> Vec<&Value> {
        let has = points.iter().filter(|point| point[mark] == true);
        has.collect()
    };
    assert_eq!(marked("current").len(), 1, "{result:#}");
    assert_eq!(marked("current")[0]["ratio"], Value::Null, "{result:#}");
    for point in points {
        assert!(point["requests"].as_u64() > Some(0), "{point:#}");
    }
    // Where the runs do not say, nothing is chosen.
    let chosen = marked("chosen");
    assert_eq!(chosen.is_empty(), result["chosen"].is_null(), "{result:#}");
    for key in ["lanes", "max_batch_size", "spin"] {
        for point in &chosen {
            assert_eq!(point[key], result["chosen"][key], "{result:#}");
        }
    }
    // Nothing is recommended that was not confirmed twice, beyond what runs now.
    let runs = result["confirmations"].as_array().expect("runs");
    let is_change = !chosen.is_empty() && result["keeps_current"] == false;
    if is_change {
        let proving = runs.iter().filter(|run| run["low"].as_f64() > Some(1.0));
        assert!(proving.count() >= 2, "{result:#}");
    }
}

#[test]
fn a_bare_model_is_tuned_without_a_server() {
    let place = Place::new();
    let result = json(
        &place,
        &format!(
            "tune {} --vcpus 1 --budget 6 -c 4 --plot out.svg --only-show-errors",
            digits()
        ),
    );
    assert_eq!((&result["vcpus"], &result["cores"]), (&1.into(), &1.into()));
    assert_eq!(result["connections"], 4);
    assert_eq!(result["endpoint"], Value::Null);
    assert_eq!(result["applied"], false);
    assert_eq!(result["interrupted"], false);
    is_sound(&result);
    let points = result["points"].as_array().expect("points");
    // One lane with the defaults, without batches, and with batches of half of what comes.
    let sizes: Vec<_> = points
        .iter()
        .map(|point| &point["max_batch_size"])
        .collect();
    assert_eq!(sizes, [&Value::Null, &1.into(), &2.into()]);
    for point in points {
        assert_eq!(
            (&point["lanes"], &point["threads_per_lane"]),
            (&1.into(), &1.into())
        );
    }
    let plot = place.read("out.svg");
    assert!(plot.starts_with("<svg ") && plot.contains("requests a second"));
}

#[test]
fn a_table_ends_with_the_load_the_rule_and_the_advice() {
    let place = Place::new();
    let text = place.ok(&format!(
        "tune {} --vcpus 1 --budget 6 --connections 1 --p99-ms 60000 --output table",
        digits()
    ));
    let first = text.lines().next().expect("a heading");
    let headings: Vec<_> = first.split_whitespace().collect();
    assert_eq!(
        headings,
        [
            "lanes",
            "threads",
            "spin",
            "batch",
            "requests/s",
            "by_now",
            "p50_ms",
            "p99_ms",
            "note"
        ]
    );
    assert!(
        text.contains(
            "\nload:   1 request at once, over HTTP\nrule:   the most answers a second whose p99 is at most 60000 ms\nadvice: "
        ),
        "{text}"
    );
}

#[test]
fn a_deployment_becomes_what_was_proven_to_be_better_and_nothing_else_of_it_changes() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let show = || {
        json(
            &place,
            "deployment show --name blue --endpoint iris --detail",
        )
    };
    let before = show();
    // An instance takes one request at once: that is the load.
    let said =
        place.run("tune --deployment blue --budget 6 --p99-ms 60000 --apply --only-show-errors");
    let after = show();
    assert_eq!(after["model_digest"], before["model_digest"]);
    assert_eq!(after["provisioning_state"], "Succeeded");
    let (_, text) = said.split_once("--- stdout\n").expect("output");
    let (text, _) = text.split_once("--- stderr").expect("output");
    let result: Value = serde_json::from_str(text).expect("JSON");
    is_sound(&result);
    assert_eq!(
        (
            &result["endpoint"],
            &result["deployment"],
            &result["connections"]
        ),
        (&"iris".into(), &"blue".into(), &1.into())
    );
    if result["applied"] == true {
        for (key, value) in result["chosen"].as_object().expect("a choice") {
            assert_eq!(&after["request_settings"][key], value, "{result:#}");
        }
        assert_eq!(after["placements"][0]["lanes"], result["chosen"]["lanes"]);
    } else {
        assert_eq!(after["request_settings"], before["request_settings"]);
    }
    // It fails where the runs do not say.
    assert_eq!(
        said.starts_with("code: 0\n"),
        !result["chosen"].is_null(),
        "{said}"
    );
}

#[test]
fn deployments_on_the_same_cores_are_named() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    // Larger than any machine that tests run on, so it has every core.
    place.ok("deployment create --file blue.yml --name green --set instance_type=Standard_F72s_v2");
    let result = json(&place, "tune --deployment blue --endpoint iris --budget 5");
    let warnings = result["warnings"].as_array().expect("warnings");
    let named = warnings
        .iter()
        .filter_map(Value::as_str)
        .filter(|one| one.starts_with("iris/green may have served on the same cores"));
    assert_eq!(named.count(), 1, "{warnings:#?}");
}

#[test]
fn a_target_that_nothing_keeps_applies_nothing() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let said = place.run(
        "tune --deployment blue --budget 5 --p99-ms 0.000001 --apply --output none --only-show-errors",
    );
    assert!(
        said.starts_with(
            "code: 1\n--- stdout\n--- stderr\nerror: nothing was applied: no setting keeps the target; nearest is 1 lane x 1 thread, "
        ),
        "{said}"
    );
    let blue = json(
        &place,
        "deployment show --name blue --endpoint iris --detail",
    );
    assert_eq!(blue["request_settings"], Value::Null);
}

#[test]
fn a_run_that_is_interrupted_while_servers_start_says_so() {
    let place = Place::new();
    let mut child = place
        .command()
        .args(["tune", &digits(), "--vcpus", "1", "--budget", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the serin binary runs");
    let mut progress = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("  starting 1 lane") {
        line.clear();
        let read = progress.read_line(&mut line).expect("progress");
        assert!(read > 0, "it ended before a server was started");
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("it is there");
    let mut rest = String::new();
    progress.read_to_string(&mut rest).expect("the last words");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(
        rest.contains("interrupted before anything was measured"),
        "{rest}"
    );
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let place = Place::new();
    place.write("text.onnx", "hello");
    assert_snapshot!(place.run("tune missing.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot tune missing.onnx
    caused by: no model at missing.onnx: expected an ONNX file, or a folder with one
    ");
    assert_snapshot!(place.run("tune text.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot tune text.onnx
    caused by: text.onnx is not an ONNX model, or only a part of one (ONNX Runtime: Load model from text.onnx failed:Protobuf parsing failed.)
    ");
    assert_snapshot!(place.run("tune --deployment blue"), @r#"
    code: 6
    --- stdout
    --- stderr
    error: no server runs on "[folder]/data"; start one with `serin serve`, or name another folder with --data
    "#);
    assert_snapshot!(place.run(&format!("tune {} --instance-type nonsense", digits())).replace(&digits(), "[model]"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: expected an instance type of `serin sku list`, found "nonsense"
    "#);
    place.write("wrong.json", r#"{"data": [[1, 2, 3]]}"#);
    assert_snapshot!(place.run(&format!("tune {} --request-file wrong.json", digits())).replace(&digits(), "[model]"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot tune [model]
    caused by: the model does not run on its sample request: input "data": expected FP32 numbers of shape [-1, 64], row 1 has 3 numbers
    "#);
}

#[test]
fn a_deployment_that_is_not_there_or_is_there_twice_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.ok("endpoint create --name wine");
    place.ok("deployment create --file blue.yml --endpoint wine");
    assert_snapshot!(place.run("tune --deployment red"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: no endpoint has a deployment "red"
    "#);
    assert_snapshot!(place.run("tune --deployment red --endpoint iris"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: deployment "red" does not exist
    "#);
    assert_snapshot!(place.run("tune --deployment blue --endpoint roses"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: endpoint "roses" does not exist
    "#);
    assert_snapshot!(place.run("tune --deployment blue"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: several endpoints have a deployment "blue": iris, wine; name one with --endpoint-name
    "#);
}

#[test]
fn nothing_or_everything_to_tune_is_a_mistake_of_usage() {
    let place = Place::new();
    for line in [
        "tune",
        "tune m.onnx --deployment blue",
        "tune m.onnx --apply",
        "tune m.onnx --vcpus 1 --instance-type Standard_F2s_v2",
        "tune --deployment blue --vcpus 1",
        "tune m.onnx --p99-ms 0",
        "tune m.onnx --budget 0",
        "tune m.onnx --budget-s 0",
        "tune m.onnx --connections 0",
    ] {
        let said = place.run(line);
        assert!(said.starts_with("code: 2\n"), "serin {line}\n{said}");
    }
}

//! `get-logs`: what is noted of a deployment, how long, and how much of it.

use std::fs;

use crate::server::with_blue;
use crate::support::{Place, repository};

const GET_LOGS: &str = "online-deployment get-logs -n blue -e iris";

fn digits() -> Vec<u8> {
    fs::read(repository("models/digits/1/model.onnx")).expect("a model")
}

/// A number as protobuf writes it.
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

fn read_varint(bytes: &[u8], at: &mut usize) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// The model with one more initializer, which no node uses: ONNX Runtime warns of that.
fn with_an_initializer_that_nobody_uses(model: &[u8]) -> Vec<u8> {
    const GRAPH: usize = 7 << 3 | 2;
    // One float of the name `left-over`.
    let tensor = b"\x08\x01\x10\x01\x42\x09left-over\x4a\x04\0\0\0\0";
    let mut initializer = vec![5 << 3 | 2];
    initializer.extend(varint(tensor.len()));
    initializer.extend(tensor);
    let (mut at, mut made) = (0, Vec::new());
    while at < model.len() {
        let begun = at;
        let tag = read_varint(model, &mut at);
        let field = read_varint(model, &mut at);
        match tag & 7 {
            2 if tag == GRAPH => {
                made.extend(varint(tag));
                made.extend(varint(field + initializer.len()));
                made.extend(&model[at..at + field]);
                made.extend(&initializer);
                at += field;
            }
            2 => {
                at += field;
                made.extend(&model[begun..at]);
            }
            _ => made.extend(&model[begun..at]),
        }
    }
    made
}

#[test]
fn the_way_of_a_deployment_and_each_failed_request_are_in_its_log_after_a_restart_too() {
    let place = Place::new();
    let server = place.serve();
    with_blue(&place);
    place.write("wrong.json", r#"{"data": [["a"]]}"#);
    let refused = place.run("online-endpoint invoke -n iris -r wrong.json");
    assert!(!refused.starts_with("code: 0\n"), "{refused}");
    let before = place.ok(GET_LOGS);
    for part in [
        "ann: create deployment iris/blue",
        "Z instance: instance 1: starts",
        "Z instance: instance 1: loaded, warmed up and ready after ",
        "Z request: 424: ",
        "serin: Succeeded",
    ] {
        assert!(before.contains(part), "{part:?} in\n{before}");
    }
    let failed = before.lines().find(|line| line.contains("request: 424"));
    assert!(
        failed.is_some_and(|line| line.contains("(x-request-id ")),
        "{before}"
    );
    let times: Vec<_> = before
        .lines()
        .map(|line| &line[..24])
        .filter(|time| time.ends_with('Z'))
        .collect();
    assert!(times.is_sorted(), "{before}");
    drop(server);
    let _server = place.serve();
    let after = place.ok("endpoint get-logs -n IRIS -d Blue");
    assert!(after.contains("request: 424: "), "{after}");
    assert!(after.contains("instance 1: has ended"), "{after}");
    assert_eq!(
        place.ok(&format!("{GET_LOGS} --lines 2")).lines().count(),
        2
    );
    assert_eq!(place.ok(&format!("{GET_LOGS} -l 0")).trim(), "");
    let way = place.ok(&format!("{GET_LOGS} --container Storage-Initializer"));
    assert!(
        way.contains("create deployment") && way.contains("preparation: "),
        "{way}"
    );
    assert!(
        !way.contains("request: ") && !way.contains("instance: "),
        "{way}"
    );
    assert_eq!(
        place.ok(&format!("{GET_LOGS} -c inference-server")),
        place.ok(GET_LOGS)
    );
}

#[test]
fn a_log_is_deleted_with_its_deployment() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("wrong.json", r#"{"data": [["a"]]}"#);
    place.run("online-endpoint invoke -n iris -r wrong.json");
    assert!(place.ok(GET_LOGS).contains("request: 424"));
    place.ok("online-endpoint update -n iris --traffic blue=0");
    place.ok("online-deployment delete -n blue -e iris --yes");
    assert!(place.run(GET_LOGS).starts_with("code: 4\n"));
    place.ok("online-deployment create -f blue.yml --all-traffic");
    let told = place.ok(GET_LOGS);
    assert!(!told.contains("request: 424"), "{told}");
    assert!(told.contains("loaded, warmed up and ready"), "{told}");
    place.ok("online-endpoint delete -n iris --yes");
    let logs = place.path("../data/logs");
    let left: Vec<_> = fs::read_dir(logs)
        .expect("the folder of logs")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name != "lock")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_onnx_runtime_warns_of_is_in_the_log_of_the_deployment_whose_model_it_is() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("odd.onnx", with_an_initializer_that_nobody_uses(&digits()));
    for (name, isolation) in [("green", "thread"), ("red", "process")] {
        place.write(
            "odd.yml",
            format!(
                "name: {name}\nendpoint_name: iris\nmodel: odd.onnx\ninstance_type: Standard_F2s_v2\n\
                 request_settings: {{isolation: {isolation}}}\n"
            ),
        );
        place.ok("deployment create -f odd.yml");
        let told = place.ok(&format!("deployment get-logs -n {name} -e iris"));
        assert!(
            told.contains("onnxruntime: ") && told.contains("left-over"),
            "{isolation}: {told}"
        );
    }
    assert!(!place.ok(GET_LOGS).contains("left-over"));
}

#[test]
fn what_a_script_prints_and_what_it_failed_of_is_in_its_log() {
    let place = Place::new();
    let _server = place.serve();
    place.ok("endpoint create --name iris");
    place.write("model.pkl", "weights").write(
        "src/score.py",
        "import sys\n\n\ndef init():\n    print('init of the script')\n\n\ndef run(data):\n    print('asked', file=sys.stderr)\n    raise ValueError('no such flower')\n",
    );
    place.write(
        "blue.yml",
        "name: blue\nendpoint_name: iris\nmodel: {path: model.pkl}\ninstance_type: Standard_F2s_v2\n\
         code_configuration: {code: src, scoring_script: score.py}\n",
    );
    place.ok("deployment create --file blue.yml --all-traffic");
    place.write("request.json", "{}");
    place.run("online-endpoint invoke -n iris -r request.json");
    let told = place.ok(GET_LOGS);
    for part in [
        "script: init of the script",
        "script: asked",
        "ValueError: no such flower",
        "request: 424: the scoring script answered with status 500",
        "preparation: ",
    ] {
        assert!(told.contains(part), "{part:?} in\n{told}");
    }
}

#[test]
fn of_a_flood_of_failures_some_are_in_the_log_and_the_rest_is_a_number() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let key = place.ok("endpoint get-credentials -n iris --query primaryKey -o tsv");
    let address = place.ok("endpoint show -n iris --query scoring_uri -o tsv");
    let address = address.trim().trim_start_matches("http://");
    let (host, path) = address.split_once('/').expect("a path");
    let body = r#"{"data": [["a"]]}"#;
    let request = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        key.trim(),
        body.len()
    );
    let told = crate::support::until("a number of requests that were left out", || {
        send_many(host, &request, 500);
        let told = place.ok(GET_LOGS);
        told.contains("more like these were left out")
            .then_some(told)
    });
    let written = told.lines().filter(|line| line.contains("request: 424"));
    let written = written.count();
    assert!((1..400).contains(&written), "{written}");
}

/// Sends a request so often over one connection, and reads as many answers.
fn send_many(host: &str, request: &str, times: usize) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let stream = std::net::TcpStream::connect(host).expect("it listens");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    for _ in 0..times {
        (&stream)
            .write_all(request.as_bytes())
            .expect("it takes it");
        let (mut status, mut length) = (String::new(), 0);
        reader.read_line(&mut status).expect("a status");
        assert!(status.contains(" 424 "), "{status}");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().expect("a number");
            }
        }
        reader.read_exact(&mut vec![0; length]).expect("a body");
    }
}

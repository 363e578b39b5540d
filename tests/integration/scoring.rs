//! The scoring contract over HTTP: status codes, headers, credentials, admission.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::json;

use crate::support::{Answer, PATIENCE, Server, agent, deployment, folder, model, repository};

/// Deploys `model` as `blue` of `iris` with more lines for its file, all traffic to it; the key.
pub(crate) fn deploy(server: &Server, model: &str, more: &str) -> String {
    deploy_with(server, "key", model, more);
    server.key("iris")
}

fn deploy_with(server: &Server, auth_mode: &str, path: &str, more: &str) {
    let endpoint = format!("name: iris\nauth_mode: {auth_mode}\n");
    server
        .run_with(&["online-endpoint", "create"], &endpoint)
        .ok();
    let blue = deployment("blue", &model(path), more);
    server
        .run_with(&["online-deployment", "create", "--all-traffic"], &blue)
        .ok();
}

pub(crate) fn sample() -> String {
    std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request")
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = agent().post(format!("{}{path}", server.scoring));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::read(request.send(body).expect("an HTTP answer"))
}

fn with_digits(data: &Path) -> (Server, String) {
    let server = Server::start(data);
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    (server, key)
}

#[test]
fn the_answer_of_a_sample_model_is_the_expected_one() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let answer = server.score("iris", &key, None, &sample());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = std::fs::read_to_string(repository("models/digits/1/expected.json"))
        .expect("the expected answer");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let tolerance = expected["tolerance"].as_f64().expect("a tolerance");
    let (found, wanted) = (answer.json(), &expected["response"]);
    assert_eq!(found["label"], wanted["label"]);
    let rows = |value: &serde_json::Value| {
        serde_json::from_value::<Vec<Vec<f64>>>(value["probabilities"].clone())
            .expect("rows of numbers")
    };
    for (found, wanted) in rows(&found).concat().iter().zip(rows(wanted).concat()) {
        assert!(
            (found - wanted).abs() <= tolerance,
            "{found} is not {wanted}"
        );
    }
    assert_eq!(answer.header("azureml-model-deployment"), Some("blue"));
    assert!(answer.header("ms-azureml-model-time").is_some());
}

#[test]
fn requests_that_wait_together_share_a_run_and_each_gets_its_own_answer() {
    let data = folder();
    let server = Server::start(data.path());
    let together = "request_settings: {max_concurrent_requests_per_instance: 4, lanes: 1, max_batch_size: 4, max_batch_delay_us: 900000}\n";
    let key = deploy(&server, "models/test/picky.onnx", together);
    let ask = |indices: [i64; 4]| -> Vec<Answer> {
        std::thread::scope(|scope| {
            let clients = indices.map(|index| {
                let (server, key) = (&server, &key);
                let body = json!({ "data": [index] }).to_string();
                scope.spawn(move || server.score("iris", key, None, &body))
            });
            clients
                .map(|client| client.join().expect("an answer"))
                .into()
        })
    };
    for answer in ask([0, 1, 2, 0]) {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let metrics = metrics(&server);
    let joined = metrics
        .lines()
        .find_map(|line| line.strip_prefix("serin_requests_joined_total"))
        .and_then(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(joined >= Some(2), "{metrics}");
    // One that the model cannot answer costs the others nothing.
    let answers = ask([0, 99, 1, 2]);
    let found: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(found, [200, 424, 200, 200]);
    let found: Vec<_> = [0, 2, 3]
        .iter()
        .map(|answer| answers[*answer].json()["found"][0].clone())
        .collect();
    assert_eq!(found, [10.0, 20.0, 30.0]);
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "-n",
        "blue",
        "-e",
        "iris",
    ]);
    let profile = &shown["model_profile"];
    assert!(profile["runs"][0]["run_us"].is_number(), "{shown}");
    let batching = profile["batching"].as_str();
    assert!(matches!(batching, Some("pays" | "does_not_pay")), "{shown}");
    assert_eq!(
        shown["batching"],
        "requests are joined: rows proven independent"
    );
}

#[test]
fn a_model_whose_rows_depend_is_joined_only_where_the_file_says_so_and_show_names_the_operator() {
    let data = folder();
    let server = Server::start(data.path());
    let show = || {
        server.ok(&[
            "online-deployment",
            "show",
            "--detail",
            "-n",
            "blue",
            "-e",
            "iris",
        ])
    };
    let obstacle = "DynamicQuantizeLinear takes its scale from all rows together (node 0)";
    let many = "request_settings: {max_concurrent_requests_per_instance: 4}\n";
    deploy(&server, "models/test/quantised.onnx", many);
    assert_eq!(show()["batching"], format!("not joined: {obstacle}"));
    server.ok(&[
        "online-deployment",
        "update",
        "-n",
        "blue",
        "-e",
        "iris",
        "--set",
        "request_settings.max_batch_size=4",
    ]);
    let shown = show();
    assert_eq!(
        shown["batching"],
        format!("requests are joined as max_batch_size asks, but {obstacle}")
    );
    let notes = shown["notes"].to_string();
    assert!(notes.contains("DynamicQuantizeLinear"), "{notes}");
}

#[test]
fn a_model_in_training_mode_is_noted_and_its_requests_are_not_joined() {
    let data = folder();
    let server = Server::start(data.path());
    deploy(&server, "models/test/training.onnx", "");
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "-n",
        "blue",
        "-e",
        "iris",
    ]);
    let note = "BatchNormalization is in training mode (node 0): export the model for inference";
    assert_eq!(shown["notes"][0], note, "{shown}");
    let batching = shown["batching"].as_str();
    assert!(
        batching.is_some_and(|words| words.starts_with("not joined")),
        "{shown}"
    );
}

#[test]
fn the_short_path_works_while_there_is_one_endpoint() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let credential = format!("Bearer {key}");
    assert_eq!(
        post(
            &server,
            "/score",
            &[("authorization", &credential)],
            &sample()
        )
        .status,
        200
    );
    assert_eq!(
        post(
            &server,
            "/endpoints/nowhere/score",
            &[("authorization", &credential)],
            &sample()
        )
        .status,
        404
    );
}

#[test]
fn request_ids_are_echoed_or_made() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let credential = format!("Bearer {key}");
    let id = "7f3c1b0e-6f0f-4a55-9c4c-0d4a3b2c1d0e";
    let headers = [
        ("authorization", credential.as_str()),
        ("x-request-id", id),
        ("x-ms-client-request-id", "mine-1"),
    ];
    let answer = post(&server, "/score", &headers, &sample());
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert_eq!(answer.header("x-ms-client-request-id"), Some("mine-1"));
    let answer = post(
        &server,
        "/score",
        &[("authorization", &credential)],
        &sample(),
    );
    assert_eq!(answer.header("x-request-id").map(str::len), Some(36));
}

#[test]
fn a_credential_that_is_missing_or_wrong_is_401() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let answer = post(&server, "/score", &[], &sample());
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.message(),
        "no credential: send `Authorization: Bearer <key or token>`"
    );
    for wrong in ["Bearer wrong", "Basic abc", &format!("Bearer {key}x")] {
        assert_eq!(
            post(&server, "/score", &[("authorization", wrong)], &sample()).status,
            401,
            "{wrong}"
        );
    }
}

#[test]
fn both_keys_open_an_endpoint_until_one_is_made_anew() {
    let data = folder();
    let (server, _) = with_digits(data.path());
    let keys = server.ok(&["endpoint", "get-credentials", "--name", "iris"]);
    let key = |name: &str| keys[name].as_str().expect("a key").to_owned();
    for name in ["primaryKey", "secondaryKey"] {
        assert_eq!(
            server.score("iris", &key(name), None, &sample()).status,
            200,
            "{name}"
        );
    }
    server.ok(&[
        "endpoint",
        "regenerate-keys",
        "--name",
        "iris",
        "--key-type",
        "primary",
    ]);
    assert_eq!(
        server
            .score("iris", &key("primaryKey"), None, &sample())
            .status,
        401
    );
    assert_eq!(
        server
            .score("iris", &key("secondaryKey"), None, &sample())
            .status,
        200
    );
    assert_eq!(
        server
            .score("iris", &server.key("iris"), None, &sample())
            .status,
        200
    );
}

#[test]
fn no_key_is_at_rest() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    server.terminate();
    let mut folders = vec![data.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the data folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("a file");
                assert!(
                    !bytes
                        .windows(key.len())
                        .any(|window| window == key.as_bytes()),
                    "{} holds a key",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_token_opens_an_endpoint_with_aml_token() {
    let data = folder();
    let server = Server::start(data.path());
    deploy_with(&server, "aml_token", "models/digits/1/model.onnx", "");
    let credentials = server.ok(&["endpoint", "get-credentials", "--name", "iris"]);
    let (refresh, expiry) = (
        credentials["refreshAfterTimeUtc"].as_i64(),
        credentials["expiryTimeUtc"].as_i64(),
    );
    assert!(refresh < expiry, "{credentials}");
    assert_eq!(
        server
            .score("iris", &server.key("iris"), None, &sample())
            .status,
        200
    );
}

#[test]
fn a_token_that_has_expired_is_401_and_says_so() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--token-life", "5"]);
    deploy_with(&server, "aml_token", "models/digits/1/model.onnx", "");
    let token = server.key("iris");
    assert_eq!(server.score("iris", &token, None, &sample()).status, 200);
    let begun = std::time::Instant::now();
    let refused = loop {
        let answer = server.score("iris", &token, None, &sample());
        if answer.status != 200 {
            break answer;
        }
        assert!(begun.elapsed() < PATIENCE, "the token never expires");
    };
    assert_eq!(refused.status, 401);
    assert!(
        refused.message().starts_with("the token expired at 20"),
        "{}",
        refused.message()
    );
    // A new one opens the endpoint again.
    assert_eq!(
        server
            .score("iris", &server.key("iris"), None, &sample())
            .status,
        200
    );
}

#[test]
fn a_body_that_does_not_fit_is_424_with_what_the_model_wants() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    for body in [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"data": [[1, 2, 3]]}"#,
        r#"{"data": [["a"]]}"#,
        r#"{"dada": []}"#,
    ] {
        let answer = server.score("iris", &key, None, body);
        assert_eq!(answer.status, 424, "{body}: {}", answer.body);
        assert_eq!(
            answer.header("ms-azureml-model-error-statuscode"),
            Some("400"),
            "{body}"
        );
        assert_eq!(
            answer.header("ms-azureml-model-error-reason"),
            Some("model_error"),
            "{body}"
        );
        assert!(
            answer.message().contains("FP32"),
            "{body}: {}",
            answer.message()
        );
        assert!(
            answer.message().contains("64"),
            "{body}: {}",
            answer.message()
        );
    }
}

#[test]
fn a_deployment_that_is_not_there_is_404_and_names_those_that_are() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let answer = server.score("iris", &key, Some("purple"), &sample());
    assert_eq!(answer.status, 404);
    assert!(answer.message().contains("blue"), "{}", answer.message());
    server.update("iris", &["--traffic", "blue=0"]);
    let answer = server.score("iris", &key, None, &sample());
    assert_eq!(answer.status, 404);
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--body-bytes-max", "4096"]);
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    let answer = server.score("iris", &key, None, &" ".repeat(5000));
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(answer.message().contains("4096"), "{}", answer.message());
}

/// A request whose run takes far longer than any timeout of a test.
pub(crate) fn slow_body() -> String {
    json!({"data": [1_000_000_000]}).to_string()
}

#[test]
fn a_run_past_its_deadline_is_408_and_gives_its_slot_back() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(
        &server,
        "models/test/slow.onnx",
        "request_settings: {request_timeout_ms: 300}\n",
    );
    // One slot: the second answer can only come when the first run was ended.
    for _ in 0..3 {
        let answer = server.score("iris", &key, None, &slow_body());
        assert_eq!(answer.status, 408, "{}", answer.body);
        assert_eq!(answer.header("azureml-model-deployment"), Some("blue"));
    }
    let answer = server.score("iris", &key, None, r#"{"data": [1]}"#);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Sends a request and leaves the answer unread.
pub(crate) fn send_only(server: &Server, key: &str, body: &str) -> TcpStream {
    let address = server.scoring.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "POST /score HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .expect("a request");
    stream
}

pub(crate) fn held(server: &Server) -> f64 {
    let metrics = Answer::read(
        agent()
            .get(format!("{}/metrics", server.admin))
            .call()
            .expect("metrics"),
    )
    .body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("serin_requests_in_flight{"))
        .expect("the gauge")
        .to_owned();
    line.rsplit(' ')
        .next()
        .expect("a value")
        .parse()
        .expect("a number")
}

#[test]
fn twice_the_slots_are_held_and_the_next_is_429() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(
        &server,
        "models/test/slow.onnx",
        "request_settings: {request_timeout_ms: 20000}\n",
    );
    let holders = [
        send_only(&server, &key, &slow_body()),
        send_only(&server, &key, &slow_body()),
    ];
    let begun = std::time::Instant::now();
    while held(&server) < 2.0 {
        assert!(begun.elapsed() < PATIENCE, "two requests are never held");
        std::thread::yield_now();
    }
    let answer = server.score("iris", &key, None, &slow_body());
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert_eq!(
        answer.header("ms-azureml-model-error-reason"),
        Some("too_many_pending_request")
    );
    let retry: u64 = answer
        .header("retry-after")
        .expect("when to come again")
        .parse()
        .expect("seconds");
    assert!(retry >= 1);
    drop(holders);
}

#[test]
fn an_instance_alone_on_several_cores_spins_when_it_is_asked_to_and_show_says_so() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(
        &server,
        "models/digits/1/model.onnx",
        "request_settings: {spin: true}\n",
    );
    assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "-n",
        "blue",
        "-e",
        "iris",
    ]);
    let placement = &shown["placements"][0];
    let several = placement["intra_op_threads"].as_u64() > Some(1);
    assert_eq!(shown["request_settings"]["spin"], true);
    assert_eq!(placement["spin_asked"], true, "{shown:#}");
    assert_eq!(placement["spinning"], several, "{shown:#}");
    let two_lanes = "deployments.blue.request_settings.max_concurrent_requests_per_instance=2";
    server.update("iris", &["--set", two_lanes]);
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "-n",
        "blue",
        "-e",
        "iris",
    ]);
    let placement = &shown["placements"][0];
    assert_eq!(placement["intra_op_threads"], 1, "{shown:#}");
    assert_eq!(placement["spinning"], false, "{shown:#}");
    let notes = shown["notes"].as_array().expect("notes");
    let note = "spin has no effect: a lane has one thread";
    assert!(notes.iter().any(|one| one == note), "{shown:#}");
}

pub(crate) fn metrics(server: &Server) -> String {
    Answer::read(
        agent()
            .get(format!("{}/metrics", server.admin))
            .call()
            .expect("an HTTP answer"),
    )
    .body
}

#[test]
fn a_client_that_leaves_is_counted_so_and_its_core_is_free_for_the_next() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(
        &server,
        "models/test/slow.onnx",
        "request_settings: {request_timeout_ms: 180000}\n",
    );
    for gone in 1..=3 {
        let client = send_only(&server, &key, &slow_body());
        let begun = std::time::Instant::now();
        while held(&server) < 1.0 {
            assert!(begun.elapsed() < PATIENCE, "the request is never held");
            std::thread::yield_now();
        }
        drop(client);
        // One slot: comes only when the run of the one who left was ended.
        let answer = server.score("iris", &key, None, r#"{"data": [1]}"#);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let metrics = metrics(&server);
        for line in [
            format!("outcome=\"abandoned\"}} {gone}"),
            "serin_requests_in_flight{endpoint=\"iris\",deployment=\"blue\"} 0".to_owned(),
        ] {
            assert!(metrics.contains(&line), "no {line} in\n{metrics}");
        }
    }
}

#[test]
fn after_a_crowd_that_timed_out_or_left_no_slot_is_lost() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(
        &server,
        "models/test/slow.onnx",
        "request_settings: {request_timeout_ms: 150, max_concurrent_requests_per_instance: 2}\n",
    );
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (server, key) = (&server, &key);
            scope.spawn(move || {
                for turn in 0..4 {
                    if (client + turn) % 3 == 0 {
                        drop(send_only(server, key, &slow_body()));
                        continue;
                    }
                    let status = server.score("iris", key, None, &slow_body()).status;
                    assert!(matches!(status, 408 | 429), "{status}");
                }
            });
        }
    });
    let begun = std::time::Instant::now();
    while held(&server) > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "a slot is never given back");
        std::thread::yield_now();
    }
    for _ in 0..4 {
        let answer = server.score("iris", &key, None, r#"{"data": [1]}"#);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn the_model_s_own_message_is_in_the_424() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(&server, "models/test/picky.onnx", "");
    let answer = server.score("iris", &key, None, r#"{"data": [99]}"#);
    assert_eq!(answer.status, 424, "{}", answer.body);
    assert!(answer.message().contains("out of"), "{}", answer.message());
    assert_eq!(
        server.score("iris", &key, None, r#"{"data": [0]}"#).status,
        200
    );
}

#[test]
fn health_answers_without_a_credential() {
    let data = folder();
    let (server, _) = with_digits(data.path());
    let get = |path: &str| {
        let answer = Answer::read(
            agent()
                .get(format!("{}{path}", server.scoring))
                .call()
                .expect("an HTTP answer"),
        );
        (answer.status, answer.body)
    };
    assert_eq!(get("/"), (200, "Healthy".to_owned()));
    assert_eq!(
        get("/health/live"),
        (200, json!({"live": true}).to_string())
    );
    assert_eq!(
        get("/health/ready"),
        (200, json!({"ready": true}).to_string())
    );
    assert_eq!(get("/nowhere").0, 404);
    // What scoring has to say of a method is for who may score.
    assert_eq!(get("/score").0, 401);
}

/// The last request of a connection.
fn last(request: &str) -> String {
    request.replacen("\r\n", "\r\nconnection: close\r\n", 1)
}

/// Sends bytes as they are; all that comes back until the server closes.
fn converse(server: &Server, bytes: &str) -> String {
    let address = server.scoring.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// The status of every answer on a connection, in order.
fn statuses(server: &Server, bytes: &str) -> Vec<u16> {
    let answers = converse(server, bytes);
    let heads = answers.split("HTTP/1.").skip(1);
    heads
        .map(|head| head[2..5].parse().expect("a status"))
        .collect()
}

#[test]
fn every_way_to_send_a_request_is_understood() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let body = sample();
    let length = body.len();
    let head = format!("host: x\r\nauthorization: Bearer {key}\r\n");
    let whole = format!("POST /score HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{body}");
    assert_eq!(
        statuses(&server, &(whole.repeat(4) + &last(&whole))),
        [200; 5],
        "pipelined"
    );

    let old = format!("POST /score HTTP/1.0\r\n{head}content-length: {length}\r\n\r\n{body}");
    assert_eq!(statuses(&server, &old), [200], "HTTP/1.0");

    let (first, rest) = body.split_at(7);
    let chunks = format!("7\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
    let chunked =
        format!("POST /score HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n{chunks}");
    assert_eq!(statuses(&server, &last(&chunked)), [200], "chunked");

    let asking = whole.replacen("\r\n", "\r\nexpect: 100-continue\r\n", 1);
    assert_eq!(
        *statuses(&server, &last(&asking)).last().expect("an answer"),
        200
    );
    let stranger =
        "POST /score HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    assert_eq!(
        statuses(&server, stranger),
        [401],
        "told before it sends a body"
    );

    let compressed = whole.replacen("\r\n", "\r\ncontent-encoding: gzip\r\n", 1);
    assert_eq!(statuses(&server, &last(&compressed)), [415]);

    for method in ["GET", "OPTIONS"] {
        let asked = format!("{method} /score HTTP/1.1\r\n{head}\r\n");
        assert_eq!(statuses(&server, &last(&asked)), [405], "no script answers");
    }
    let answer = converse(&server, &last("HEAD /score HTTP/1.1\r\nhost: x\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[test]
fn a_connection_outlives_its_errors() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let head = format!("host: x\r\nauthorization: Bearer {key}\r\n");
    let post = |path: &str, more: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\n{head}{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let requests = [
        post("/score", "", "hello"),
        post("/nowhere", "", "hello"),
        post("/score", "azureml-model-deployment: red\r\n", "hello"),
        "POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        last(&post("/score", "", &sample())),
    ];
    assert_eq!(
        statuses(&server, &requests.concat()),
        [424, 404, 404, 401, 200]
    );
}

#[test]
fn bytes_that_are_not_http_do_not_hurt() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    let address = server.scoring.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .write_all(b"\x16\x03\x01\x00\xff nonsense\r\n\r\n")
        .expect("sent");
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
        .read_to_end(&mut rest)
        .expect("the server closes the connection");
    assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
}

#[test]
fn metrics_count_each_request_once() {
    let data = folder();
    let (server, key) = with_digits(data.path());
    for _ in 0..5 {
        server.score("iris", &key, None, &sample());
    }
    server.score("iris", &key, None, "not JSON");
    let metrics = Answer::read(
        agent()
            .get(format!("{}/metrics", server.admin))
            .call()
            .expect("metrics"),
    )
    .body;
    let count = |outcome: &str| {
        metrics
            .lines()
            .filter(|line| {
                line.starts_with("serin_requests_total{")
                    && line.contains(&format!("outcome=\"{outcome}\""))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    assert_eq!((count("ok"), count("malformed")), (5, 1), "{metrics}");
}

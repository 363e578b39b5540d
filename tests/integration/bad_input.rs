//! Wrong models and wrong files: each is refused with its reason, and nothing that serves notices.

use std::path::Path;
use std::time::Duration;

use crate::support::{PATIENCE, Server, deployment, folder, model, repository};

/// Creates `blue` of a new endpoint `iris` from a model file; the error of the command.
fn refused(server: &Server, model: &Path, more: &str) -> String {
    if server
        .run(&["online-endpoint", "show", "--name", "iris"])
        .code
        != 0
    {
        server.create_endpoint("iris");
    }
    let model = model.to_str().expect("UTF-8");
    server.create_deployment("blue", model, more).error()
}

#[test]
fn a_file_that_is_no_model_fails_its_deployment_with_the_reason() {
    let data = folder();
    let server = Server::start(data.path());
    let folder = folder();
    let model = std::fs::read(repository("models/digits/2/model.onnx")).expect("a model");
    for (name, bytes, reason) in [
        ("empty.onnx", &b""[..], "is empty"),
        (
            "text.onnx",
            b"hello, I am no model\n",
            "is not an ONNX model",
        ),
        (
            "truncated.onnx",
            &model[..model.len() / 2],
            "is not an ONNX model",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let error = refused(&server, &path, "");
        assert!(error.contains(reason), "{name}: {error}");
        server.run(&[
            "online-deployment",
            "delete",
            "--name",
            "blue",
            "--endpoint-name",
            "iris",
            "--yes",
        ]);
    }
    let error = refused(&server, &folder.path().join("missing.onnx"), "");
    assert!(error.contains("missing.onnx"), "{error}");
}

#[test]
fn a_model_that_eats_all_memory_fails_its_deployment_and_the_server_lives() {
    let data = folder();
    let server = Server::start(data.path());
    let error = refused(&server, &repository("models/test/hungry.onnx"), "");
    assert!(error.contains("memory"), "{error}");
    server.ok(&["online-endpoint", "show", "--name", "iris"]);
}

#[test]
fn an_update_to_a_bad_model_leaves_the_old_one_serving() {
    let data = folder();
    let server = Server::start(data.path());
    let folder = folder();
    server.create_endpoint("iris");
    let good = deployment("blue", &model("models/digits/1/model.onnx"), "");
    server
        .run_with(&["online-deployment", "create", "--all-traffic"], &good)
        .ok();
    let key = server.key("iris");
    let bad = folder.path().join("bad.onnx");
    std::fs::write(&bad, "no model").expect("a file");
    let bad = deployment("blue", bad.to_str().expect("UTF-8"), "");
    let error = server
        .run_with(&["online-deployment", "update"], &bad)
        .error();
    assert!(error.contains("is not an ONNX model"), "{error}");
    let body = std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request");
    assert_eq!(server.score("iris", &key, None, &body).status, 200);
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--name",
        "blue",
        "--endpoint-name",
        "iris",
    ]);
    assert_eq!(shown["provisioning_state"], "Failed");
    server
        .run_with(&["online-deployment", "update"], &good)
        .ok();
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--name",
        "blue",
        "--endpoint-name",
        "iris",
    ]);
    assert_eq!(shown["provisioning_state"], "Succeeded");
}

#[test]
fn more_instances_than_cores_are_refused_with_strict_capacity() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--capacity", "strict"]);
    let model = repository("models/digits/1/model.onnx");
    let error = refused(&server, &model, "instance_count: 50\n");
    assert!(error.contains("would ask for 100 vCPUs"), "{error}");
}

#[test]
fn a_model_in_use_is_not_deleted() {
    let data = folder();
    let server = Server::start(data.path());
    server.register("digits", "1", "models/digits/1").ok();
    server.create_endpoint("iris");
    server
        .create_deployment("blue", "azureml:digits@latest", "")
        .ok();
    let (_, error) = server.fails(&[
        "model",
        "delete",
        "--name",
        "digits",
        "--version",
        "1",
        "--yes",
    ]);
    assert!(error.contains("iris/blue"), "{error}");
    // The same content again is fine; other content under the same name and version is not.
    server.register("digits", "1", "models/digits/1").ok();
    let error = server.register("digits", "1", "models/digits/2").error();
    assert!(
        error.contains("immutable") || error.contains("other content"),
        "{error}"
    );
}

#[test]
fn up_refuses_a_file_that_is_no_model() {
    let folder = folder();
    let text = folder.path().join("notes.onnx");
    std::fs::write(&text, "hello").expect("a file");
    let path = text.to_str().expect("UTF-8");
    let finished = crate::support::run(folder.path(), &["up", path, "--port", "0"]);
    assert_ne!(finished.code, 0);
    assert!(
        finished.stderr.contains("notes.onnx is not an ONNX model"),
        "{}",
        finished.stderr
    );
}

/// What the child process that tries models says of one.
fn tried(model: &str, sample_request: Option<&str>, wall_max: Duration) -> String {
    let prober = serin::engine::Prober {
        exe: env!("CARGO_BIN_EXE_serin").into(),
        wall_max,
        memory_bytes_max: 2_000_000_000,
        cancel: serin::engine::Cancel::default(),
        tell: serin::engine::Tell::default(),
    };
    let sample_request = sample_request.map(str::as_bytes);
    let outcome = prober.probe(&repository(model), sample_request);
    outcome.expect_err("the model is refused").to_string()
}

#[test]
fn a_model_that_hangs_is_ended_at_its_time_limit() {
    assert_eq!(
        tried(
            "models/test/slow.onnx",
            Some(r#"{"data": [1000000000]}"#),
            Duration::from_secs(2),
        ),
        "the model did not load and answer once within 2s; it was ended"
    );
}

#[test]
fn a_model_that_takes_more_than_its_memory_is_told_the_limit() {
    assert_eq!(
        tried("models/test/hungry.onnx", None, PATIENCE),
        "the model needs more memory than the 2000 MB that a model may take to load and answer once; start the server with a larger --model-memory-mb to allow it"
    );
}

#[test]
fn a_sample_request_that_does_not_fit_the_model_is_refused_with_what_it_wants() {
    assert_eq!(
        tried(
            "models/digits/1/model.onnx",
            Some(r#"{"data": [[1, 2]]}"#),
            PATIENCE
        ),
        "the model does not run on its sample request: input \"data\": expected FP32 numbers of shape [-1, 64], row 1 has 2 numbers"
    );
}

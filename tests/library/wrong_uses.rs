//! Wrong uses of the library: each is an error with its words, and nothing panics, aborts or hangs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serin::settings::{Isolation, Queueing};
use serin::{Deployment, Endpoint, Model, Pending, Request, Serin, TensorView};

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx")
}

fn tiny(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/test/{model}.onnx"))
}

/// What was done, and a part of the words that it must end with.
type Case = (&'static str, String, &'static str);

/// The words of an error; what went well has none.
fn words<T, E: std::fmt::Display>(outcome: Result<T, E>) -> String {
    outcome.map_or_else(|error| error.to_string(), |_| "it went well".to_owned())
}

fn judge(cases: &[Case]) {
    let wrong: Vec<_> = cases
        .iter()
        .filter(|(_, words, part)| !words.contains(part))
        .map(|(what, words, part)| format!("{what}: expected {part:?}, found {words:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn settings_out_of_their_bounds_are_refused() {
    let serin = Serin::new().unwrap();
    let start = |deployment: Deployment| {
        let endpoint = serin.endpoint("digits").deployment("blue", deployment);
        words(endpoint.start_blocking())
    };
    let of = || Deployment::new(digits());
    let second = Duration::from_secs(1);
    judge(&[
        (
            "no instance",
            start(of().instances(0)),
            "instance_count: expected 1 to 50, found 0",
        ),
        (
            "51 instances",
            start(of().instances(51)),
            "instance_count: expected 1 to 50, found 51",
        ),
        (
            "endless instances",
            start(of().instances(usize::MAX)),
            "instance_count: expected 1 to 50",
        ),
        ("no vCPU", start(of().vcpus(0)), "vcpus: expected 1 to"),
        (
            "endless vCPUs",
            start(of().vcpus(usize::MAX)),
            "vcpus: expected 1 to",
        ),
        (
            "no request at once",
            start(of().concurrency(0)),
            "max_concurrent_requests_per_instance: expected 1 to",
        ),
        (
            "endless requests at once",
            start(of().concurrency(usize::MAX)),
            "max_concurrent_requests_per_instance: expected 1 to",
        ),
        (
            "2^32 requests at once",
            start(of().concurrency(1 << 32)),
            "max_concurrent_requests_per_instance: expected 1 to",
        ),
        ("no lane", start(of().lanes(0)), "lanes: expected 1 to"),
        (
            "16 lanes on one vCPU",
            start(of().concurrency(16).lanes(16)),
            "lanes",
        ),
        (
            "more lanes than requests",
            start(of().vcpus(4).concurrency(2).lanes(4)),
            "lanes",
        ),
        (
            "endless lanes",
            start(of().lanes(usize::MAX)),
            "lanes: expected 1 to",
        ),
        (
            "batches of none",
            start(of().batching(0, Duration::ZERO)),
            "max_batch_size: expected 1 to",
        ),
        (
            "endless batches",
            start(of().batching(usize::MAX, Duration::ZERO)),
            "max_batch_size: expected 1 to",
        ),
        (
            "an endless wait for company",
            start(of().batching(8, Duration::MAX)),
            "max_batch_delay_us: expected 0 to",
        ),
        (
            "a wait as long as the time",
            start(of().batching(8, second).timeout(second)),
            "max_batch_delay_us",
        ),
        (
            "no time",
            start(of().timeout(Duration::ZERO)),
            "request_timeout_ms: expected at least 1",
        ),
        (
            "an endless queue in number",
            start(of().queueing(Queueing::Waiting(u32::MAX))),
            "max_waiting_requests_per_instance",
        ),
        (
            "no instance type",
            start(of().instance_type("")),
            "instance_type",
        ),
        (
            "an unknown instance type",
            start(of().instance_type("Standard_Nope")),
            "Standard_Nope",
        ),
        (
            "processes without a binary",
            start(of().isolation(Isolation::Process)),
            "needs a serin binary",
        ),
        (
            "a sample that is no JSON",
            start(of().sample_request("no json")),
            "warm-up",
        ),
        (
            "a sample of another shape",
            start(of().sample_request("{\"data\": [[1]]}")),
            "warm-up",
        ),
    ]);
}

#[test]
fn settings_at_their_bounds_are_taken() {
    let serin = Serin::new().unwrap();
    let all = Deployment::new(digits())
        .concurrency(1000)
        .batching(8, Duration::from_millis(1))
        .timeout(Duration::MAX)
        .queueing(Queueing::Waiting(0));
    let endpoint = serin.endpoint("digits").deployment("blue", all);
    let endpoint = endpoint.start_blocking().unwrap();
    let pixels = [0.0_f32; 64];
    let image = TensorView::new([1, 64], &pixels).unwrap();
    endpoint
        .run_blocking(Request::tensors([image]).timeout(Duration::MAX))
        .unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn names_and_splits_that_cannot_be_are_refused() {
    let serin = Serin::new().unwrap();
    let named = |name: &str| {
        let endpoint = serin.endpoint("digits").deployment(name, digits());
        words(endpoint.start_blocking())
    };
    let endpoint_named = |name: &str| {
        let endpoint = serin.endpoint(name).deployment("blue", digits());
        words(endpoint.start_blocking())
    };
    let split = |split: &str| {
        let endpoint = serin
            .endpoint("digits")
            .deployment("blue", digits())
            .deployment("green", digits());
        words(endpoint.traffic(split).start_blocking())
    };
    let long = "x".repeat(65);
    judge(&[
        (
            "an empty name",
            named(""),
            "cannot be the name of a deployment",
        ),
        (
            "a long name",
            named(&long),
            "cannot be the name of a deployment",
        ),
        (
            "a space",
            named("a b"),
            "cannot be the name of a deployment",
        ),
        (
            "a slash",
            named("a/b"),
            "cannot be the name of a deployment",
        ),
        (
            "a quote",
            named("a\"b"),
            "cannot be the name of a deployment",
        ),
        (
            "a line break",
            named("a\nb"),
            "cannot be the name of a deployment",
        ),
        (
            "another alphabet",
            named("größe"),
            "cannot be the name of a deployment",
        ),
        (
            "an equals sign",
            named("a=b"),
            "cannot be the name of a deployment",
        ),
        (
            "an endpoint without a name",
            endpoint_named(""),
            "cannot be the name of an endpoint",
        ),
        (
            "an endpoint with a slash",
            endpoint_named("../x"),
            "cannot be the name of an endpoint",
        ),
        ("a split of nothing", split(""), "traffic"),
        ("a split without a number", split("blue"), "blue"),
        ("a split without a name", split("=100"), "found \"\""),
        (
            "a share that is empty",
            split("blue="),
            "expected a percent",
        ),
        ("a share above all", split("blue=101"), "101"),
        ("a share below nothing", split("blue=-1 green=101"), "-1"),
        ("a share that is no number", split("blue=NaN"), "NaN"),
        ("an endless share", split("blue=inf"), "inf"),
        ("shares of 90", split("blue=50 green=40"), "90"),
        ("shares twice", split("blue=50 blue=50"), "blue"),
        ("a share of nobody", split("red=100"), "red"),
        ("a long text", split(&"blue=1 ".repeat(10_000)), "blue"),
    ]);
}

/// However much is wrong, and however long it is, the words are such as somebody reads.
#[test]
fn endless_names_and_endless_faults_are_told_in_few_words() {
    let serin = Serin::new().unwrap();
    let long = "x".repeat(10 << 20);
    let endpoint = serin.endpoint(&long).deployment(&long, digits());
    let refused = words(endpoint.traffic(format!("{long}=100")).start_blocking());
    assert!(refused.len() < 2000, "{} bytes", refused.len());
    assert!(refused.contains("(10485760 bytes)"), "{refused}");
    let mut endpoint = serin.endpoint("digits");
    for _ in 0..100_000 {
        endpoint = endpoint.deployment("", digits());
    }
    let refused = words(endpoint.start_blocking());
    assert!(refused.ends_with("and 99950 more"), "{refused}");
    let endpoint = serin.endpoint("digits").deployment("blue", digits());
    let endpoint = endpoint.start_blocking().unwrap();
    let refused = words(endpoint.run_blocking(Request::json("{}").to(&long)));
    assert!(refused.len() < 2000, "{} bytes", refused.len());
}

#[test]
fn a_binary_that_is_none_is_refused_before_any_model_is_blamed_for_it() {
    for wrong in [Path::new("/missing/serin"), &digits(), Path::new("/tmp")] {
        let refused = words(Serin::builder().serin_binary(wrong).build());
        let expected = format!("the serin binary {} cannot be used: ", wrong.display());
        assert!(refused.starts_with(&expected), "{refused}");
    }
}

#[test]
fn names_of_programs_are_taken() {
    let serin = Serin::new().unwrap();
    let endpoint = serin
        .endpoint("my_model")
        .deployment("v1", digits())
        .deployment("2025.01", digits())
        .traffic("v1=90 2025.01=10")
        .start_blocking()
        .unwrap();
    endpoint.set_traffic("v1=0 2025.01=100").wait().unwrap();
    let status = endpoint.status().unwrap();
    assert!(status.deployment("V1").unwrap().traffic.abs() < f64::EPSILON);
}

#[test]
fn models_that_are_none_are_refused() {
    let serin = Serin::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = |model: Model| {
        let endpoint = serin.endpoint("digits").deployment("blue", model);
        words(endpoint.start_blocking())
    };
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Model::file(path)
    };
    let whole = std::fs::read(digits()).unwrap();
    let external = std::fs::read(tiny("outside")).unwrap();
    judge(&[
        (
            "no file",
            start(Model::file("no such file.onnx")),
            "no such file.onnx",
        ),
        ("an empty path", start(Model::file("")), "model"),
        ("a folder", start(Model::file(folder.path())), ""),
        (
            "an empty file",
            start(file("empty.onnx", b"")),
            "empty.onnx is empty",
        ),
        (
            "text",
            start(file("text.onnx", b"hello")),
            "text.onnx is not an ONNX model",
        ),
        (
            "half a model",
            start(file("half.onnx", &whole[..whole.len() / 2])),
            "half.onnx",
        ),
        (
            "endless zeros",
            start(Model::file("/dev/zero")),
            "found a device",
        ),
        (
            "nothing at all",
            start(Model::file("/dev/null")),
            "found a device",
        ),
        ("empty bytes", start(Model::bytes("")), "empty"),
        (
            "bytes that are none",
            start(Model::bytes("hello")),
            "is not an ONNX model",
        ),
        (
            "half of the bytes",
            start(Model::bytes(whole[..whole.len() / 2].to_vec())),
            "model",
        ),
        (
            "bytes without their data",
            start(Model::bytes(external)),
            "outside.bin",
        ),
        (
            "no form for an output",
            start(Model::file(tiny("odd-output"))),
            "no answer can hold",
        ),
    ]);
    assert!(!start(Model::file(folder.path())).contains("went well"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn requests_that_do_not_fit_are_refused() {
    let serin = Serin::new().unwrap();
    let endpoint = serin.endpoint("digits").deployment("blue", digits());
    let endpoint = endpoint.start_blocking().unwrap();
    let run = |request: Request<'_>| words(endpoint.run_blocking(request));
    let (floats, doubles) = ([0.0_f32; 128], [0.0_f64; 64]);
    let view = |shape: &[usize]| TensorView::new(shape, &floats[..shape.iter().product()]).unwrap();
    let image = || view(&[1, 64]);
    judge(&[
        (
            "no tensor",
            run(Request::tensors([])),
            "the model takes 1 tensors",
        ),
        (
            "two tensors",
            run(Request::tensors([image(), image()])),
            "found 2",
        ),
        ("no rank", run(Request::tensors([view(&[])])), "[-1, 64]"),
        (
            "one rank too few",
            run(Request::tensors([view(&[64])])),
            "[-1, 64]",
        ),
        (
            "one rank too many",
            run(Request::tensors([view(&[1, 1, 64])])),
            "[-1, 64]",
        ),
        (
            "another size",
            run(Request::tensors([view(&[1, 63])])),
            "[1, 63]",
        ),
        (
            "another type",
            run(Request::tensors([
                TensorView::new([1, 64], &doubles).unwrap()
            ])),
            "FP64",
        ),
        (
            "no name",
            run(Request::named([("", image())])),
            "no input \"\"",
        ),
        (
            "an unknown name",
            run(Request::named([("pixels", image())])),
            "no input \"pixels\"; it has \"data\"",
        ),
        (
            "a name twice",
            run(Request::named([("data", image()), ("data", image())])),
            "given twice",
        ),
        ("no names", run(Request::named::<&str>([])), "data"),
        ("no JSON", run(Request::json("hello")), "not JSON"),
        ("no body", run(Request::json("")), "not JSON"),
        ("an empty object", run(Request::json("{}")), "data"),
        (
            "JSON of another shape",
            run(Request::json("{\"data\": [[1, 2]]}")),
            "64",
        ),
        (
            "a deployment that is not there",
            run(Request::tensors([image()]).to("red")),
            "no deployment \"red\"; it has blue",
        ),
        (
            "a deployment without a name",
            run(Request::tensors([image()]).to("")),
            "no deployment \"\"",
        ),
        (
            "no time",
            run(Request::tensors([image()]).timeout(Duration::ZERO)),
            "deadline passed",
        ),
        (
            "a shape of more",
            words(TensorView::new([2, 64], &floats[..64])),
            "has 128 elements, found 64",
        ),
        (
            "a shape of less",
            words(TensorView::new([1], &floats)),
            "has 1 elements, found 128",
        ),
        (
            "a shape that overflows",
            words(TensorView::new([usize::MAX, 2], &floats)),
            "at most",
        ),
        (
            "an empty shape that overflows",
            words(TensorView::new([0, usize::MAX, 2], &floats[..0])),
            "at most",
        ),
    ]);
    // What went wrong has broken nothing.
    endpoint.run_blocking(Request::tensors([image()])).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn changes_that_cannot_be_are_refused() {
    let serin = Serin::new().unwrap();
    let endpoint = serin
        .endpoint("digits")
        .deployment("blue", digits())
        .deployment("green", digits())
        .traffic("blue=90 green=10")
        .start_blocking()
        .unwrap();
    let told = |pending: Pending| words(pending.wait());
    judge(&[
        (
            "what is there",
            told(endpoint.add("blue", digits())),
            "blue",
        ),
        (
            "what is there in capitals",
            told(endpoint.add("BLUE", digits())),
            "blue",
        ),
        (
            "a wrong name",
            told(endpoint.add("a b", digits())),
            "cannot be the name",
        ),
        (
            "wrong settings",
            told(endpoint.add("red", Deployment::new(digits()).vcpus(0))),
            "vcpus",
        ),
        (
            "a missing model",
            told(endpoint.add("red", "missing.onnx")),
            "missing.onnx",
        ),
        (
            "what is not there",
            told(endpoint.remove("orange")),
            "no deployment \"orange\"",
        ),
        (
            "what has traffic",
            told(endpoint.remove("green")),
            "has live traffic (10 %)",
        ),
        (
            "another version of nothing",
            told(endpoint.replace("orange", digits())),
            "no deployment \"orange\"",
        ),
        (
            "instances of nothing",
            told(endpoint.scale("orange", 2)),
            "no deployment \"orange\"",
        ),
        (
            "no instances",
            told(endpoint.scale("blue", 0)),
            "instance_count: expected 1 to 50, found 0",
        ),
        (
            "endless instances",
            told(endpoint.scale("blue", u32::MAX)),
            "instance_count: expected 1 to 50",
        ),
        (
            "a split of nothing",
            told(endpoint.set_traffic("")),
            "traffic",
        ),
        (
            "a split of somebody else",
            told(endpoint.set_traffic("orange=100")),
            "orange",
        ),
        (
            "the same endpoint",
            words(
                serin
                    .endpoint("DIGITS")
                    .deployment("x", digits())
                    .start_blocking(),
            ),
            "exists",
        ),
    ]);
    let pixels = [0.0_f32; 64];
    let image = TensorView::new([1, 64], &pixels).unwrap();
    let run = |endpoint: &Endpoint| endpoint.run_blocking(Request::tensors([image.clone()]));
    run(&endpoint).unwrap();
    let clone = endpoint.clone();
    endpoint.close().wait().unwrap();
    judge(&[
        ("a request after the end", words(run(&clone)), "closed"),
        (
            "a change after the end",
            words(clone.scale("blue", 2).wait()),
            "no endpoint \"digits\"",
        ),
        (
            "an end after the end",
            words(clone.close().wait()),
            "closed already",
        ),
    ]);
    serin.shutdown(Duration::MAX).wait().unwrap();
    let after = serin.endpoint("digits").deployment("blue", digits());
    judge(&[(
        "a start after the end of all",
        words(after.start_blocking()),
        "was shut down",
    )]);
}

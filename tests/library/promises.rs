//! The promises of the library to a program.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin::settings::{Capacity, Isolation, NonFinite};
use serin::status::State;
use serin::{Deployment, Endpoint, Error, Model, Pending, Request, ScoreError, Serin, TensorView};
use tokio::task::{JoinHandle, yield_now};

use crate::executor::block_on;

fn digits(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/digits/{version}/model.onnx"))
}

fn tiny(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/test/{model}.onnx"))
}

/// More work than any test waits for.
const ENDLESS: &str = "{\"data\": [100000000]}";

const PIXELS: [f32; 64] = [0.0; 64];

fn image() -> Request<'static> {
    Request::tensors([TensorView::new([1, 64], &PIXELS).expect("they fit")])
}

fn image_as_json() -> Request<'static> {
    Request::json(format!(r#"{{"data": [{:?}]}}"#, [0; 64]))
}

fn serin() -> Serin {
    Serin::new().expect("there are threads")
}

fn blue_and_green(serin: &Serin, traffic: &str) -> Result<Endpoint, Error> {
    serin
        .endpoint("digits")
        .deployment("blue", digits("1"))
        .deployment("green", digits("2"))
        .traffic(traffic)
        .start_blocking()
}

fn one(serin: &Serin, model: PathBuf) -> Endpoint {
    let endpoint = serin.endpoint("one").deployment("blue", model);
    endpoint.start_blocking().expect("it starts")
}

/// Requests that its blue deployment runs, or that wait there.
fn held(endpoint: &Endpoint) -> usize {
    let status = endpoint.status().expect("it is open");
    status.deployment("blue").expect("it is there").held
}

/// A run that does not end, once it is under way.
async fn endless_run(endpoint: &Endpoint) -> JoinHandle<Result<(), ScoreError>> {
    let running = endpoint.clone();
    let run = tokio::spawn(async move { running.run(Request::json(ENDLESS)).await.map(drop) });
    while held(endpoint) == 0 {
        yield_now().await;
    }
    run
}

#[tokio::test]
async fn a_split_is_exact_and_a_switch_is_in_force_at_once() {
    let endpoint = blue_and_green(&serin(), "blue=90 green=10").unwrap();
    let mut green = 0;
    for _ in 0..100 {
        let answer = endpoint.run(image()).await.unwrap();
        green += usize::from(answer.deployment() == "green");
    }
    assert_eq!(green, 10);
    endpoint.set_traffic("blue:0,green:100").await.unwrap();
    let answer = endpoint.run(image_as_json()).await.unwrap();
    assert_eq!(answer.deployment(), "green");
    let answer = endpoint.run(image().to("blue")).await.unwrap();
    assert_eq!(answer.deployment(), "blue");
    let refused = endpoint.run(image().to("red")).await.unwrap_err();
    assert!(matches!(refused, ScoreError::NoDeployment { .. }));
    assert_eq!(refused.http_status(), 404);
}

#[test]
fn tensors_and_json_have_the_same_answers() {
    let endpoint = blue_and_green(&serin(), "blue=100 green=0").unwrap();
    let pixels: Vec<f32> = (0_u8..128).map(|at| f32::from(at % 17)).collect();
    let two = || TensorView::new([2, 64], &pixels).unwrap();
    let answer = endpoint.run_blocking(Request::tensors([two()])).unwrap();
    let named = endpoint.run_blocking(Request::named([("pixels", two())]));
    let signature = endpoint.signature("blue").unwrap();
    let name = signature.inputs[0].name.clone();
    if name != "pixels" {
        assert!(matches!(named, Err(ScoreError::Input { .. })));
    }
    let named = endpoint
        .run_blocking(Request::named([(name, two())]))
        .unwrap();
    assert_eq!(answer.values(), named.values());
    let rows = serde_json::json!({"data": pixels.chunks(64).collect::<Vec<_>>()});
    let json = endpoint
        .run_blocking(Request::json(rows.to_string()))
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(json.json().unwrap()).unwrap();
    let labels = answer.tensor("label").unwrap();
    let labels = labels.elements::<i64>().unwrap();
    assert_eq!(json["label"], serde_json::json!(labels));
    assert_eq!(answer.json(), None);
    assert_eq!(answer.tensor("no such output"), None);
}

#[test]
fn everything_is_changed_under_load_and_nothing_fails() {
    let serin = serin();
    let endpoint = blue_and_green(&serin, "blue=100 green=0").unwrap();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for number in 0..4 {
            let (endpoint, stop, answered) = (endpoint.clone(), &stop, &answered);
            threads.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let request = if number % 2 == 0 {
                        image()
                    } else {
                        image_as_json()
                    };
                    endpoint.run_blocking(request).unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let changes = || -> Result<(), Error> {
            endpoint.scale("blue", 3).wait()?;
            assert_eq!(
                endpoint
                    .status()
                    .unwrap()
                    .deployment("blue")
                    .unwrap()
                    .instances
                    .len(),
                3
            );
            endpoint.scale("blue", 1).wait()?;
            endpoint.replace("blue", digits("2")).wait()?;
            endpoint.set_traffic("blue=50 green=50").wait()?;
            endpoint
                .replace("green", Deployment::new(digits("1")).concurrency(2))
                .wait()?;
            endpoint.add("third", digits("1")).wait()?;
            endpoint.set_traffic("blue=0 green=0 third=100").wait()?;
            endpoint.remove("blue").wait()?;
            endpoint.remove("green").wait()
        };
        let changed = catch_unwind(AssertUnwindSafe(changes));
        stop.store(true, Ordering::Relaxed);
        changed.expect("no panic").unwrap();
    });
    assert!(answered.load(Ordering::Relaxed) > 0);
    let status = endpoint.status().unwrap();
    assert_eq!(status.deployments.len(), 1);
    let third = status.deployment("third").unwrap();
    assert_eq!(
        (third.traffic, third.state, third.held),
        (100.0, State::Ready, 0)
    );
}

/// Eight callers, and whole hundreds of requests, while instances come, are exchanged and go.
#[test]
fn a_split_stays_exact_while_everything_behind_it_changes() {
    let serin = serin();
    let endpoint = blue_and_green(&serin, "blue=90 green=10").unwrap();
    let (asked, green, is_over) = (Mutex::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let may_ask = || {
        let mut asked = asked.lock().expect("nobody panics");
        let goes_on = *asked % 100 != 0 || !is_over.load(Ordering::SeqCst);
        *asked += usize::from(goes_on);
        goes_on
    };
    std::thread::scope(|threads| {
        for _ in 0..8 {
            let (endpoint, green, may_ask) = (endpoint.clone(), &green, &may_ask);
            threads.spawn(move || {
                while may_ask() {
                    let answer = endpoint.run_blocking(image()).expect("nothing fails");
                    let is_green = answer.deployment() == "green";
                    green.fetch_add(usize::from(is_green), Ordering::SeqCst);
                }
            });
        }
        let changes = || -> Result<(), Error> {
            endpoint.scale("blue", 3).wait()?;
            endpoint.replace("green", digits("1")).wait()?;
            endpoint.add("third", digits("2")).wait()?;
            let two = Deployment::new(digits("2")).instances(2);
            endpoint.replace("blue", two).wait()?;
            endpoint.scale("blue", 1).wait()?;
            endpoint.remove("third").wait()
        };
        let changed = catch_unwind(AssertUnwindSafe(changes));
        is_over.store(true, Ordering::SeqCst);
        changed.expect("no panic").unwrap();
    });
    let asked = asked.into_inner().unwrap();
    assert!(asked > 0 && asked % 100 == 0, "{asked}");
    assert_eq!(green.into_inner() * 10, asked);
}

#[test]
fn what_does_not_start_leaves_what_was_good_and_says_why() {
    let endpoint = blue_and_green(&serin(), "blue=100 green=0").unwrap();
    let failed = endpoint.replace("blue", "missing.onnx").wait().unwrap_err();
    assert!(failed.to_string().contains("missing.onnx"), "{failed}");
    endpoint.run_blocking(image()).unwrap();
    let status = endpoint.status().unwrap();
    let blue = status.deployment("blue").unwrap();
    assert_eq!(blue.state, State::Failed);
    assert!(blue.reason.as_ref().unwrap().contains("missing.onnx"));
    // Mended, it is as asked for again.
    endpoint.replace("blue", digits("2")).wait().unwrap();
    let status = endpoint.status().unwrap();
    assert_eq!(status.deployment("blue").unwrap().state, State::Ready);
}

#[test]
fn what_serves_can_be_scaled_while_its_successor_has_failed() {
    let endpoint = blue_and_green(&serin(), "blue=100 green=0").unwrap();
    endpoint
        .replace("blue", tiny("odd-input"))
        .wait()
        .unwrap_err();
    endpoint.scale("blue", 2).wait().unwrap();
    let status = endpoint.status().unwrap();
    let blue = status.deployment("blue").unwrap();
    assert_eq!((blue.state, blue.instances.len()), (State::Ready, 2));
    assert_eq!(blue.instances_asked, 2);
    endpoint.run_blocking(image()).unwrap();
}

#[test]
fn a_change_that_was_overtaken_says_so_in_words_of_the_program() {
    let endpoint = blue_and_green(&serin(), "blue=100 green=0").unwrap();
    let changes: Vec<_> = (0..20)
        .map(|turn| endpoint.replace("green", digits(["1", "2"][turn % 2])))
        .collect();
    let ends: Vec<_> = changes.into_iter().map(Pending::wait).collect();
    let (last, before) = ends.split_last().unwrap();
    assert_eq!(*last, Ok(()));
    let overtaken = "a newer change of the same deployment took the place of this one";
    for failed in before.iter().filter_map(|end| end.as_ref().err()) {
        assert_eq!(failed.to_string(), overtaken);
    }
    assert!(before.iter().any(Result::is_err));
}

#[test]
fn an_endpoint_prints_as_its_name() {
    let endpoint = one(&serin(), digits("1"));
    assert_eq!(format!("{endpoint:?}"), "Endpoint(\"one\")");
}

#[test]
fn a_change_that_cannot_be_is_refused_and_nothing_has_changed() {
    let endpoint = blue_and_green(&serin(), "blue=90 green=10").unwrap();
    let refused = |pending: Pending| pending.wait().unwrap_err();
    assert!(matches!(
        refused(endpoint.add("blue", digits("1"))),
        Error::AlreadyExists(_)
    ));
    assert!(matches!(
        refused(endpoint.remove("red")),
        Error::NotFound(_)
    ));
    assert!(matches!(
        refused(endpoint.replace("red", digits("1"))),
        Error::NotFound(_)
    ));
    assert!(matches!(
        refused(endpoint.remove("green")),
        Error::Conflict(_)
    ));
    assert!(matches!(
        refused(endpoint.scale("blue", 0)),
        Error::Invalid(_)
    ));
    for split in [
        "",
        "blue",
        "blue=101",
        "blue=50",
        "red=100",
        "blue=90 blue=10",
    ] {
        let error = refused(endpoint.set_traffic(split));
        assert!(matches!(error, Error::Invalid(_)), "{split:?}: {error}");
    }
    let split = |endpoint: &Endpoint| {
        let status = endpoint.status().unwrap();
        let percent = |name| status.deployment(name).unwrap().traffic;
        (percent("blue"), percent("green"))
    };
    assert_eq!(split(&endpoint), (90.0, 10.0));
}

#[test]
fn a_model_may_come_from_memory() {
    let bytes = std::fs::read(digits("1")).unwrap();
    let endpoint = serin()
        .endpoint("memory")
        .deployment("blue", Model::bytes(bytes))
        .start_blocking()
        .unwrap();
    endpoint.run_blocking(image()).unwrap();
    endpoint.scale("blue", 2).wait().unwrap();
    let wrong = endpoint.replace("blue", Model::bytes("no model at all"));
    let words = wrong.wait().unwrap_err().to_string();
    assert!(words.contains("is not an ONNX model"), "{words}");
}

#[test]
fn many_threads_wait_for_one_slot_and_all_are_answered() {
    let endpoint = one(&serin(), digits("1"));
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..50 {
                    endpoint.run_blocking(image()).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_request_may_have_less_time_than_its_deployment() {
    let endpoint = one(&serin(), tiny("slow"));
    let request = || Request::json(ENDLESS).timeout(Duration::from_millis(50));
    for answer in [
        endpoint.run_blocking(request()),
        block_on(endpoint.run(request())),
    ] {
        let error = answer.unwrap_err();
        assert!(
            matches!(error, ScoreError::DeadlinePassed { .. }),
            "{error}"
        );
        assert_eq!(error.http_status(), 408);
    }
}

/// "The deadline passed", 50 times of 50: the clock of a test had jumped.
#[tokio::test(start_paused = true)]
async fn a_paused_clock_of_the_caller_passes_no_deadline() {
    let endpoint = serin()
        .endpoint("one")
        .deployment(
            "blue",
            Deployment::new(tiny("slow")).timeout(Duration::from_secs(100)),
        )
        .start()
        .await
        .unwrap();
    for _ in 0..10 {
        endpoint
            .run(Request::json("{\"data\": [1000]}"))
            .await
            .unwrap();
    }
}

#[test]
fn a_runtime_of_tokio_without_timers_will_do() {
    let endpoint = one(&serin(), tiny("slow"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (one, other) = tokio::join!(
            endpoint.run(Request::json("{\"data\": [1000]}")),
            endpoint.run(Request::json("{\"data\": [1000]}")),
        );
        one.unwrap();
        other.unwrap();
    });
}

#[tokio::test]
async fn to_drop_an_endpoint_under_an_endless_run_keeps_nobody() {
    let serin = serin();
    let endpoint = one(&serin, tiny("slow"));
    let run = endless_run(&endpoint).await;
    run.abort();
    drop(run.await);
    // The future that was dropped held a clone; this is the last one.
    drop(endpoint);
    // Its name is free at once.
    let again = serin.endpoint("one").deployment("blue", digits("1"));
    again.start().await.unwrap().run(image()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_what_does_not_end_and_nothing_begins_after_it() {
    let serin = serin();
    let endpoint = one(&serin, tiny("slow"));
    let run = endless_run(&endpoint).await;
    serin.shutdown(Duration::from_millis(20)).await.unwrap();
    let cut = run.await.unwrap().unwrap_err();
    assert!(matches!(cut, ScoreError::Stopped), "{cut}");
    assert!(matches!(
        endpoint.run(image()).await,
        Err(ScoreError::Stopped)
    ));
    assert!(matches!(
        endpoint.scale("blue", 2).await,
        Err(Error::Stopped)
    ));
    let again = serin.endpoint("two").deployment("blue", digits("1"));
    assert!(matches!(again.start().await, Err(Error::Stopped)));
    // A second one has nothing to do.
    serin.shutdown(Duration::ZERO).await.unwrap();
}

#[test]
fn a_shutdown_lets_requests_end() {
    let serin = serin();
    let endpoint = one(&serin, tiny("slow"));
    std::thread::scope(|threads| {
        let run = threads.spawn(|| endpoint.run_blocking(Request::json("{\"data\": [20000]}")));
        while held(&endpoint) == 0 && !run.is_finished() {
            std::thread::yield_now();
        }
        serin.shutdown(Duration::from_secs(60)).wait().unwrap();
        run.join().unwrap().unwrap();
    });
}

/// They went on one after another, at the instance that they knew.
#[test]
fn who_waits_already_is_served_by_instances_that_come() {
    let serin = serin();
    let endpoint = one(&serin, tiny("slow"));
    let busy = || {
        let request = Request::json(ENDLESS).timeout(Duration::from_secs(60));
        endpoint.run_blocking(request).map(drop)
    };
    std::thread::scope(|threads| {
        threads.spawn(busy);
        let until_held = |least: usize| {
            while held(&endpoint) < least {
                std::thread::yield_now();
            }
        };
        until_held(1);
        let waiting = threads.spawn(|| endpoint.run_blocking(Request::json("{\"data\": [10]}")));
        until_held(2);
        endpoint.scale("blue", 2).wait().unwrap();
        // The other one runs for as long as anybody waits.
        waiting.join().unwrap().unwrap();
        serin.shutdown(Duration::ZERO).wait().unwrap();
    });
}

/// They were told that there is no deployment of that name, with 404.
#[test]
fn who_waits_for_a_slot_as_the_endpoint_goes_is_told_so() {
    let serin = serin();
    let endpoint = one(&serin, tiny("slow"));
    std::thread::scope(|threads| {
        let ask = || {
            let request = Request::json("{\"data\": [20000]}").to("blue");
            endpoint.run_blocking(request).map(drop)
        };
        let waiting: Vec<_> = (0..4).map(|_| threads.spawn(ask)).collect();
        while held(&endpoint) < 4 && !waiting.iter().all(|one| one.is_finished()) {
            std::thread::yield_now();
        }
        endpoint.clone().close().wait().unwrap();
        for answer in waiting {
            let answer = answer.join().unwrap();
            assert!(
                matches!(answer, Ok(()) | Err(ScoreError::Stopped)),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn an_endpoint_that_is_closed_answers_nobody_and_its_clones_know() {
    let endpoint = one(&serin(), digits("1"));
    let clone = endpoint.clone();
    endpoint.close().wait().unwrap();
    assert!(matches!(
        clone.run_blocking(image()),
        Err(ScoreError::Stopped)
    ));
    assert_eq!(clone.status(), None);
    assert!(clone.close().wait().is_err());
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let serin = serin();
    let wrong = serin
        .endpoint("no name!")
        .deployment("blue", Deployment::new(digits("1")).instances(0))
        .deployment("Blue", digits("2"))
        .deployment("also wrong!", digits("2"))
        .traffic("red")
        .start_blocking();
    let Err(Error::Invalid(problems)) = wrong else {
        panic!("{wrong:?}");
    };
    for part in [
        "the name of an endpoint: expected 1 to 64",
        "found \"no name!\"",
        "instance_count: expected 1 to 50, found 0",
        "given twice",
        "found \"also wrong!\"",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(part)),
            "{part}: {problems:?}"
        );
    }
    let none = serin.endpoint("empty").start_blocking().unwrap_err();
    assert!(none.to_string().contains("without a deployment"), "{none}");
}

#[test]
fn a_name_is_free_again_when_its_endpoint_is_dropped() {
    let serin = serin();
    let first = blue_and_green(&serin, "blue=100 green=0").unwrap();
    let second = blue_and_green(&serin, "blue=100 green=0").unwrap_err();
    assert_eq!(
        second.to_string(),
        "endpoint digits exists: change it, or choose another name"
    );
    // The refused one took nothing with it.
    first.run_blocking(image()).unwrap();
    drop(first);
    let third = blue_and_green(&serin, "blue=0 green=100").unwrap();
    assert_eq!(third.run_blocking(image()).unwrap().deployment(), "green");
}

#[test]
fn counts_are_values_and_a_text_that_can_be_joined() {
    let serin = serin();
    let endpoint = blue_and_green(&serin, "blue=90 green=10").unwrap();
    for _ in 0..10 {
        endpoint.run_blocking(image()).unwrap();
    }
    let counts = serin.metrics();
    let ok: Vec<_> = counts
        .iter()
        .map(|one| (one.deployment.as_str(), one.count("ok"), one.in_flight))
        .collect();
    assert_eq!(ok.iter().map(|(_, ok, _)| ok).sum::<u64>(), 10, "{ok:?}");
    let text = serin.metrics_text();
    assert!(
        text.contains("deployment=\"blue\"") && !text.contains("# EOF"),
        "{text}"
    );
}

#[cfg(feature = "prometheus-client")]
#[test]
fn metrics_stand_in_the_registry_of_the_program() {
    let serin = serin();
    let mut registry = prometheus_client::registry::Registry::with_prefix("shop");
    serin.register(&mut registry);
    // Also of what comes later.
    let endpoint = one(&serin, digits("1"));
    endpoint.run_blocking(image()).unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = "shop_serin_requests_total{endpoint=\"one\",deployment=\"blue\",outcome=\"ok\"} 1";
    assert!(text.contains(line), "{text}");
}

/// Mapped from the user's file, other answers came without a word, and a file cut off ended the process (SIGBUS).
#[test]
fn a_model_whose_files_are_rewritten_goes_on_as_it_was() {
    let user = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/test");
    for file in ["outside.onnx", "outside.bin"] {
        std::fs::copy(models.join(file), user.path().join(file)).unwrap();
    }
    let endpoint = one(&serin(), user.path().join("outside.onnx"));
    let found = || {
        let answer = endpoint.run_blocking(Request::json(r#"{"data": [0, 1, 2]}"#));
        answer.unwrap().json().unwrap().clone()
    };
    let before = found();
    assert_eq!(before, r#"{"found":[10.0,20.0,30.0]}"#);
    let weights = user.path().join("outside.bin");
    let bytes = std::fs::metadata(&weights).unwrap().len();
    // In place, as exporters do: the file stays the same, and is cut off first.
    let file = std::fs::OpenOptions::new().write(true).open(&weights);
    std::io::Write::write_all(
        &mut file.unwrap(),
        &vec![0x40; usize::try_from(bytes).unwrap()],
    )
    .unwrap();
    assert_eq!(found(), before);
    std::fs::File::create(&weights).unwrap();
    assert_eq!(found(), before);
    std::fs::remove_dir_all(user.path()).unwrap();
    assert_eq!(found(), before);
}

#[test]
fn missing_values_are_scored_and_answered_in_the_form_of_the_deployment() {
    let endpoint = serin()
        .endpoint("gaps")
        .deployment("nulls", tiny("gaps"))
        .deployment(
            "tokens",
            Deployment::new(tiny("gaps")).non_finite(NonFinite::Tokens),
        )
        .start_blocking()
        .unwrap();
    for (deployment, same, inf) in [
        ("nulls", "[[null,null]]", "null"),
        ("tokens", "[[NaN,-Infinity]]", "-Infinity"),
    ] {
        let body = "{\"data\": [[null, -Infinity]]}";
        let answer = endpoint.run_blocking(Request::json(body).to(deployment));
        let expected = format!("{{\"filled\":[[7.0,{inf}]],\"same\":{same}}}");
        assert_eq!(answer.unwrap().json().unwrap(), expected.as_bytes());
    }
}

#[test]
fn a_model_that_nobody_could_score_is_refused_when_it_is_deployed() {
    let serin = serin();
    for (model, part) in [
        (
            "odd-output",
            "output \"cast\" is a tensor of elements of type",
        ),
        (
            "odd-input",
            "input \"data\" is a tensor of elements of type",
        ),
        ("maybe", "output \"maybe\" is an optional value"),
    ] {
        let endpoint = serin.endpoint("odd").deployment("blue", tiny(model));
        let words = endpoint.start_blocking().unwrap_err().to_string();
        assert!(
            words.contains(part) && words.contains("can hold"),
            "{words}"
        );
    }
}

#[test]
fn processes_without_a_binary_to_start_are_refused_and_threads_do_without() {
    let start = |isolation| {
        let endpoint = serin()
            .endpoint("divide")
            .deployment("blue", Deployment::new(tiny("divide")).isolation(isolation));
        endpoint
            .start_blocking()
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let words = start(Isolation::Process).unwrap_err();
    assert!(words.contains("needs a serin binary"), "{words}");
    // Also where the model may end the process: there is nothing else.
    assert_eq!(start(Isolation::Auto), Ok(()));
    assert_eq!(start(Isolation::Thread), Ok(()));
}

#[test]
fn a_sequence_of_tensors_is_scored_and_never_joined() {
    let deployment = Deployment::new(tiny("sequences"))
        .concurrency(8)
        .lanes(1)
        .batching(8, Duration::from_millis(50));
    let endpoint = serin()
        .endpoint("sequences")
        .deployment("blue", deployment)
        .start_blocking()
        .unwrap();
    std::thread::scope(|threads| {
        for row in 1..8 {
            let endpoint = &endpoint;
            threads.spawn(move || {
                let request = Request::json(format!("{{\"data\": [[{row}, 0]]}}"));
                let answer = endpoint.run_blocking(request).unwrap();
                let start = format!("{{\"probabilities\":[[[{row}.0,0.0]],[[{row}.0],[0.0]]],");
                let body = answer.json().unwrap();
                assert!(body.starts_with(start.as_bytes()), "{body:?}");
            });
        }
    });
}

#[test]
fn without_room_for_its_cores_an_endpoint_is_refused_where_sharing_is_not_wanted() {
    let serin = Serin::builder().capacity(Capacity::Strict).build().unwrap();
    let refused = serin
        .endpoint("digits")
        .deployment("blue", Deployment::new(digits("1")).vcpus(500))
        .start_blocking();
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with("not enough cores: all deployments together would ask for 500 vCPUs"),
        "{refused}"
    );
}

#[test]
fn an_endpoint_is_shared_among_threads_and_tasks() {
    fn is_shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let serin = serin();
    is_shareable(&serin);
    is_shareable(&one(&serin, digits("1")));
    let endpoint = Arc::new(blue_and_green(&serin, "blue=100 green=0").unwrap());
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let future = is_send(endpoint.run(image()));
    block_on(future).unwrap();
}

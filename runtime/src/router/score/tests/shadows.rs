//! Shadows get copies, and nobody who asked notices.

use std::sync::mpsc;

use super::*;
use crate::observe::evidence;
use crate::observe::{NotCopied, ShadowMetrics};
use crate::router::pairs::{Pair, take_pairs_of};
use crate::router::{Routes, ShadowRoute};
use crate::spec::Percent;

/// Publishes `iris` with shadows, each with its share in percent.
fn publish_shadows(
    router: &Router,
    split: &str,
    deployments: &[&Deployment],
    shadows: &[(&Deployment, u16, &ShadowMetrics)],
) -> Arc<Endpoint> {
    let before = router.table();
    let shadows = shadows
        .iter()
        .map(|(shadow, percent, metrics)| ShadowRoute {
            name: shadow.name.clone(),
            share: Percent::from_hundredths(percent * 100).unwrap(),
            metrics: (*metrics).clone(),
        });
    let routes = Routes {
        shadows: shadows.collect(),
        ..TrafficSplit::parse(split).unwrap().into()
    };
    let deployments = deployments.iter().map(|one| Arc::new((*one).clone()));
    let endpoint = Endpoint::new(
        "iris".parse().unwrap(),
        EndpointAuth::Open,
        routes,
        deployments.collect(),
        before.endpoint("iris").map(Arc::as_ref),
    )
    .unwrap();
    router.publish(RoutingTable::new(vec![Arc::clone(&endpoint)]));
    endpoint
}

fn shadow_metrics() -> ShadowMetrics {
    Metrics::new().shadow("iris", "green")
}

/// Answers with its name, and the status that the request asks for.
fn named_script(name: &'static str) -> Deployment {
    answering(name, move |body| {
        let status = std::str::from_utf8(body).unwrap().parse().unwrap_or(200);
        Ok(Scored {
            body: Bytes::from_static(name.as_bytes()).into(),
            head: Some(Box::new(ResponseHead {
                status,
                headers: vec![],
                failed: false,
            })),
        })
    })
}

fn answering(
    name: &str,
    answer: impl Fn(&[u8]) -> Result<Scored, RunError> + Send + 'static,
) -> Deployment {
    let instance = InstanceHandle::played(true, move |_, body| answer(body));
    Deployment {
        instances: vec![instance],
        admission: AdmissionControl::new(4),
        ..deployment(name, &[])
    }
}

/// Waits until something is so; who makes it so runs on this thread and others.
async fn until(mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "it did not come to that");
        yield_now().await;
    }
}

fn dropped(metrics: &ShadowMetrics) -> u64 {
    metrics.counts_not_copied().iter().sum()
}

#[tokio::test]
async fn of_a_share_exactly_so_many_are_copied_and_both_answers_come_as_a_pair() {
    let (blue, green) = (named_script("blue"), named_script("green"));
    let metrics = shadow_metrics();
    let router = Router::new();
    let endpoint = publish_shadows(
        &router,
        "blue:100",
        &[&blue, &green],
        &[(&green, 25, &metrics)],
    );
    let series = green.metrics.series();
    let mut pairs = Vec::new();
    for id_hash in 1..=100 {
        let marks = Marks {
            id_hash,
            client: None,
        };
        let asked = ScoreRequest {
            marks,
            ..request("200")
        };
        let answer = router.score(&endpoint, asked).await.unwrap();
        assert_eq!(answer.body.bytes(), b"blue");
        // One after the other, so that each finds a slot.
        until(|| green.admission.held() == 0).await;
        yield_now().await;
        until(|| green.admission.held() == 0).await;
        pairs.extend(take_pairs_of(series));
    }
    until(|| {
        pairs.extend(take_pairs_of(series));
        pairs.len() == 25
    })
    .await;
    assert_eq!((metrics.count("ok"), dropped(&metrics)), (25, 0));
    for pair in &pairs {
        let Pair {
            request,
            live,
            shadow,
            ..
        } = pair;
        assert_eq!(
            (pair.endpoint.as_str(), &request[..]),
            ("iris", &b"200"[..])
        );
        assert_eq!(live.series, blue.metrics.series());
        assert_eq!(live.body.as_deref(), Some(&b"blue"[..]));
        assert_eq!(shadow.body.as_deref(), Some(&b"green"[..]));
        assert_eq!((live.outcome, shadow.outcome), (Outcome::Ok, Outcome::Ok));
        assert_eq!((live.status, shadow.status), (Some(200), Some(200)));
        assert!((1..=100).contains(&pair.id_hash));
    }
    // Copies are evidence of their own, and nothing of the live series.
    let copies = evidence::take_of(series);
    assert_eq!(copies.len(), 25);
    for copy in copies {
        assert!(copy.is_copy && copy.block == evidence::NO_BLOCK);
        assert_eq!(copy.share.hundredths(), 2500);
    }
    let lives = evidence::take_of(blue.metrics.series());
    assert!(lives.len() == 100 && lives.iter().all(|event| !event.is_copy));
    assert_eq!(recorded(&green), []);
}

#[tokio::test]
async fn a_blocked_shadow_gets_as_many_copies_as_it_has_slots_and_every_client_is_answered() {
    let blue = named_script("blue");
    let (release, blocked) = mpsc::channel::<()>();
    let green = answering("green", move |_| {
        // Until the test is over.
        _ = blocked.recv();
        Err(RunError::Model("released".to_owned()))
    });
    let metrics = shadow_metrics();
    let router = Router::new();
    let endpoint = publish_shadows(
        &router,
        "blue:100",
        &[&blue, &green],
        &[(&green, 100, &metrics)],
    );
    for _ in 0..200 {
        router.score(&endpoint, request("200")).await.unwrap();
        yield_now().await;
    }
    let [no_slot, rest @ ..] = metrics.counts_not_copied();
    assert_eq!((no_slot, rest), (196, [0; 3]));
    assert_eq!(recorded(&blue), [(Outcome::Ok, 200)]);
    drop(release);
    until(|| metrics.count("model_error") == 4).await;
    assert_eq!(green.metrics.streak().degraded(), None);
    assert_eq!(green.metrics.now_in_flight(), 0);
}

#[tokio::test]
async fn a_copy_leaves_one_slot_to_live_requests_and_never_waits_in_line() {
    let (blue, mut green) = (named_script("blue"), named_script("green"));
    green.admission = AdmissionControl::new(1);
    let metrics = shadow_metrics();
    let router = Router::new();
    let shadows = [(&green, 100, &metrics)];
    let endpoint = publish_shadows(&router, "blue:99,green:1", &[&blue, &green], &shadows);
    for _ in 0..100 {
        router.score(&endpoint, request("200")).await.unwrap();
        yield_now().await;
    }
    // With one slot there is none for a copy; what green answered itself is not copied to it.
    assert_eq!(metrics.counts_not_copied(), [99, 0, 0, 0]);
    // As a shadow alone it may have it, but not from somebody else.
    let endpoint = publish_shadows(&router, "blue:100", &[&blue, &green], &shadows);
    let slot = green.admission.admit_now().unwrap();
    router.score(&endpoint, request("200")).await.unwrap();
    assert_eq!(metrics.counts_not_copied(), [100, 0, 0, 0]);
    drop(slot);
    router.score(&endpoint, request("200")).await.unwrap();
    until(|| metrics.count("ok") == 1).await;
}

#[tokio::test]
async fn whatever_becomes_of_a_copy_is_the_shadow_s_and_not_the_client_s() {
    let blue = named_script("blue");
    let metrics = shadow_metrics();
    let router = Router::new();
    for (label, error) in [
        ("model_error", RunError::Panicked("a test".to_owned())),
        (
            "died",
            RunError::Died {
                how: "a test".to_owned(),
                suspect: None,
            },
        ),
    ] {
        let green = answering("green", move |_| Err(error.clone()));
        let endpoint = publish_shadows(
            &router,
            "blue:100",
            &[&blue, &green],
            &[(&green, 100, &metrics)],
        );
        for _ in 0..DEGRADED_AFTER {
            router.score(&endpoint, request("200")).await.unwrap();
            until(|| take_pairs_of(green.metrics.series()).len() == 1).await;
        }
        assert_eq!(metrics.count(label), DEGRADED_AFTER);
        assert_eq!(
            (recorded(&green), green.metrics.streak().degraded()),
            (vec![], None)
        );
    }
    assert_eq!(dropped(&metrics), 0);
}

#[tokio::test]
async fn a_failed_request_is_copied_too_and_one_that_names_its_deployment_never() {
    let (blue, green) = (named_script("blue"), named_script("green"));
    let metrics = shadow_metrics();
    let router = Router::new();
    let endpoint = publish_shadows(
        &router,
        "blue:100",
        &[&blue, &green],
        &[(&green, 100, &metrics)],
    );
    let to_blue = ScoreRequest {
        deployment: Some("blue".into()),
        ..request("200")
    };
    router.score(&endpoint, to_blue).await.unwrap();
    router.score(&endpoint, request("500")).await.unwrap();
    let mut pairs = Vec::new();
    until(|| {
        pairs.extend(take_pairs_of(green.metrics.series()));
        !pairs.is_empty()
    })
    .await;
    let [pair] = &pairs[..] else {
        panic!("one pair: {pairs:?}");
    };
    assert_eq!(pair.live.outcome, Outcome::ModelError);
    assert_eq!((metrics.count("model_error"), metrics.count("ok")), (1, 0));
}

#[tokio::test]
async fn a_shadow_that_is_taken_away_under_its_copies_ends_with_them_and_gets_no_more() {
    let blue = named_script("blue");
    let (release, blocked) = mpsc::channel::<()>();
    let green = answering("green", move |_| {
        _ = blocked.recv();
        Err(RunError::Model("released".to_owned()))
    });
    let metrics = shadow_metrics();
    let router = Router::new();
    let shadows = [(&green, 100, &metrics)];
    let endpoint = publish_shadows(&router, "blue:100", &[&blue, &green], &shadows);
    router.score(&endpoint, request("200")).await.unwrap();
    until(|| green.admission.held() == 1).await;
    publish_shadows(&router, "blue:100", &[&blue], &[]);
    let drained = tokio::spawn({
        let admission = Arc::clone(&green.admission);
        async move { admission.drain().await }
    });
    yield_now().await;
    // Who looks at the table of before asks for a copy still.
    router.score(&endpoint, request("200")).await.unwrap();
    until(|| dropped(&metrics) == 1).await;
    assert!(!drained.is_finished());
    drop(release);
    drained.await.unwrap();
    until(|| metrics.count("model_error") == 1).await;
}

#[tokio::test]
async fn copies_hold_no_more_memory_than_they_may() {
    let blue = named_script("blue");
    let (release, blocked) = mpsc::channel::<()>();
    let green = answering("green", move |_| {
        _ = blocked.recv();
        Err(RunError::Model("released".to_owned()))
    });
    let metrics = shadow_metrics();
    let router = Router::new();
    let endpoint = publish_shadows(
        &router,
        "blue:100",
        &[&blue, &green],
        &[(&green, 100, &metrics)],
    );
    // Zeroed memory that nobody touches.
    let large = Bytes::from(vec![0; 60 * 1024 * 1024]);
    for _ in 0..3 {
        router
            .score(&endpoint, request(large.clone()))
            .await
            .unwrap();
        yield_now().await;
    }
    let no_memory = NotCopied::ALL
        .iter()
        .position(|one| *one == NotCopied::NoMemory);
    assert_eq!(metrics.counts_not_copied()[no_memory.unwrap()], 1);
    drop(release);
    until(|| metrics.count("model_error") == 2).await;
    // And gives it back.
    router.score(&endpoint, request(large)).await.unwrap();
    until(|| metrics.count("model_error") == 3).await;
}

#[tokio::test]
async fn shares_go_on_through_tables_and_a_shadow_that_is_not_ready_is_counted() {
    let (blue, green) = (named_script("blue"), deployment("green", &[]));
    let metrics = shadow_metrics();
    let router = Router::new();
    let shadows = [(&green, 10, &metrics)];
    for _ in 0..100 {
        let endpoint = publish_shadows(&router, "blue:100", &[&blue, &green], &shadows);
        router.score(&endpoint, request("200")).await.unwrap();
    }
    assert_eq!(metrics.counts_not_copied(), [0, 0, 10, 0]);
}

//! Requests as evidence about the deployments that they were assigned to.

use super::*;
use crate::config::COLD_REQUESTS;
use crate::observe::evidence::{self, RequestEvent};
use crate::spec::Percent;

/// The evidence about a deployment so far: how often each end, and the events.
fn evidence_of(deployment: &Deployment) -> Vec<RequestEvent> {
    evidence::take_of(deployment.metrics.series())
}

fn ends(events: &[RequestEvent]) -> Vec<Outcome> {
    events.iter().map(|event| event.outcome).collect()
}

#[tokio::test]
async fn each_request_that_the_split_assigned_is_one_event_and_one_that_names_a_deployment_is_none()
{
    let (blue, green) = (played("blue", true), played("green", true));
    let router = Router::new();
    let endpoint = publish(&router, "blue:90,green:10", &[&blue, &green]);
    for id_hash in 1..=100 {
        let marks = Marks {
            id_hash,
            client: None,
        };
        let asked = ScoreRequest {
            marks,
            ..request("200")
        };
        router.score(&endpoint, asked).await.unwrap();
    }
    let to = |name: &str, status| ScoreRequest {
        deployment: Some(name.to_owned().into()),
        ..request(status)
    };
    router.score(&endpoint, to("green", "500")).await.unwrap();
    let (blues, greens) = (evidence_of(&blue), evidence_of(&green));
    assert_eq!((blues.len(), greens.len()), (90, 10));
    let first = blues[0];
    assert_eq!(
        (first.share.hundredths(), greens[0].share.hundredths()),
        (9000, 1000)
    );
    let mut ids: Vec<_> = blues
        .iter()
        .chain(&greens)
        .map(|event| event.id_hash)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    for event in blues.iter().chain(&greens) {
        assert_eq!((event.outcome, event.block), (Outcome::Ok, 0));
        assert_eq!((event.split, event.build), (first.split, 0));
        assert!(event.queue_us <= event.total_us && !event.is_copy);
    }
    // The first of each instance, whatever they are, are marked.
    let cold = |events: &[RequestEvent]| events.iter().filter(|event| event.is_cold).count();
    assert_eq!(
        (cold(&blues), cold(&greens)),
        (usize::try_from(COLD_REQUESTS).unwrap(), 10)
    );
}

#[tokio::test]
async fn another_split_and_another_build_are_told_apart() {
    let blue = played("blue", true);
    let router = Router::new();
    let endpoint = publish(&router, "blue:100", &[&blue]);
    router.score(&endpoint, request("200")).await.unwrap();
    // The same split goes on.
    publish(&router, "blue:100", &[&blue]);
    score_current(&router, request("200")).await.unwrap();
    blue.metrics.begin_build();
    publish(&router, "blue:100.00,green:0", &[&blue]);
    score_current(&router, request("200")).await.unwrap();
    let [first, same, another] = evidence_of(&blue)[..] else {
        panic!("three events");
    };
    assert_eq!((first.split, first.build), (same.split, same.build));
    assert_ne!(first.split, another.split);
    assert_eq!(another.build, 1);
}

#[tokio::test]
async fn evidence_belongs_to_the_arm_that_was_assigned_first_whoever_answers() {
    let one = instance(DIGITS[0], 1);
    let (blue, green) = (deployment("blue", &[&one]), deployment("green", &[&one]));
    let router = Router::new();
    let endpoint = publish(&router, "blue:100", &[&blue]);
    publish(&router, "blue:25,green:75", &[&blue, &green]);
    publish(&router, "green:100", &[&green]);
    blue.admission.drain().await;
    let answer = router.score(&endpoint, digits_request()).await.unwrap();
    assert_eq!(answer.deployment.as_str(), "green");
    let events = evidence_of(&blue);
    assert_eq!(ends(&events), [Outcome::Ok]);
    assert_eq!(events[0].share, Percent::HUNDRED);
    // Gone with its endpoint, it was assigned all the same.
    router.publish(RoutingTable::default());
    let error = router.score(&endpoint, digits_request()).await.unwrap_err();
    assert!(matches!(error, Unserved::NoDeployment { .. }), "{error}");
    assert_eq!(ends(&evidence_of(&blue)), [Outcome::NotReady]);
    assert_eq!(evidence_of(&green), []);
    one.stop();
}

#[tokio::test]
async fn every_end_is_evidence_of_its_kind() {
    let slow = instance(SLOW, 1);
    let mut blue = deployment("blue", &[&slow]);
    blue.request_timeout = PATIENCE;
    let router = Router::new();
    let endpoint = publish(&router, "blue:100", &[&blue]);
    {
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            let (router, endpoint) = (Arc::clone(&router), Arc::clone(&endpoint));
            clients.spawn(async move { router.score(&endpoint, request(SLOW_BODY)).await });
        }
        while blue.admission.held() < 2 || slow.handle().computing() < 1 {
            yield_now().await;
        }
        let shed = router.score(&endpoint, request(SLOW_BODY)).await;
        assert!(matches!(shed, Err(Unserved::Rejected { .. })), "{shed:?}");
        clients.shutdown().await;
    }
    let events = evidence_of(&blue);
    let [Outcome::Shed, Outcome::Abandoned, Outcome::Abandoned] = ends(&events)[..] else {
        panic!("{events:?}");
    };
    blue.admission.drain().await;
    slow.stop();
    let empty = deployment("blue", &[]);
    let endpoint = publish(&router, "blue:100", &[&empty]);
    router.score(&endpoint, digits_request()).await.unwrap_err();
    assert_eq!(ends(&evidence_of(&empty)), [Outcome::NotReady]);
    // What only a script could answer, and the arm has none.
    let model = played("blue", false);
    let endpoint = publish(&router, "blue:100", &[&model]);
    let asked = router.score(&endpoint, for_scripts(request(""))).await;
    assert!(matches!(asked, Err(Unserved::NoScript { .. })), "{asked:?}");
    assert_eq!(ends(&evidence_of(&model)), [Outcome::RejectedByModel]);
}

use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::bench::checks::checks;
use crate::bench::fake::{Mortal, server};
use crate::bench::report::{CheckState, Version};
use crate::bench::seen::Seen;
use crate::bench::subject::Subject;
use crate::evidence::{SplitMix64, Tolerance};
use crate::load::Target;

fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn bench(addresses: &[SocketAddr], bodies: &[String], conditions: &[&str]) -> Bench {
    let inputs: Arc<[Bytes]> = bodies.iter().cloned().map(Bytes::from).collect();
    let subject = |(index, address): (usize, &SocketAddr)| Subject {
        version: Version {
            label: format!("v{index}"),
            what: "fake".to_owned(),
            model_sha256: None,
            url: format!("http://{address}/score"),
            settings: None,
        },
        target: Target::new(*address, "/score").unwrap(),
        inputs: Arc::clone(&inputs),
        process: None,
        timings: None,
    };
    Bench {
        subjects: addresses.iter().enumerate().map(subject).collect(),
        inputs: "some".to_owned(),
        scenario: Scenario::Closed,
        connections: vec![1],
        warm_up_connections: 1,
        rates: Vec::new(),
        budget: Duration::from_secs(3),
        target_half_width: None,
        min_difference: None,
        slo: None,
        seed: 1,
        timeout: Duration::from_secs(30),
        tolerance: Tolerance::default(),
        conditions: conditions
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        onnxruntime: None,
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|at| at.to_string()).collect()
}

fn start(bench: &Bench) -> Run<'_> {
    Run::new(bench, watch::channel(false).1).unwrap()
}

/// The words of an end that came too soon.
fn refused(ended: Result<(), Ended>) -> String {
    match ended {
        Err(Ended::Error(error)) => error.to_string(),
        Err(Ended::Over(_)) => "over".to_owned(),
        Ok(()) => "well".to_owned(),
    }
}

#[test]
fn blocks_go_on_where_the_last_pair_ended_until_every_input_was_loaded() {
    let slow = |body: &str| {
        thread::sleep(Duration::from_millis(5));
        Some(body.to_owned())
    };
    let ((one, first), (two, second)) = (server(slow), server(|body| Some(body.to_owned())));
    let bodies = numbered(40);
    let bench = bench(&[one, two], &bodies, &[]);
    let mut run = start(&bench);
    let load = LoadPoint {
        scenario: Scenario::Closed,
        connections: 1,
        rate: None,
    };
    run.levels.push(Measuring::new(load, 2));
    run.block = BLOCK_MIN;
    let far = Instant::now() + Duration::from_secs(3600);
    // Of the slow one a block has ten at most.
    let mut pairs = 0;
    while run.place < 40 {
        let stretch = run.stretch(load, Phase::Pair, pairs);
        assert!(run.round(&[0, 1], stretch, far).is_ok());
        pairs += 1;
    }
    assert!(pairs >= 4, "{pairs}");
    let found = run.levels[0].level(&bench, &run.decks).inputs;
    assert_eq!((found.loaded, found.different), (40, 40));
    let all: HashSet<_> = bodies.into_iter().collect();
    assert_eq!(*first.lock().unwrap(), all);
    assert_eq!(*second.lock().unwrap(), all);
}

#[test]
fn a_difference_is_told_with_the_number_that_its_input_has_in_the_file() {
    let (base, _) = server(|_| Some("1".to_owned()));
    let (other, _) = server(|body| match body {
        "7" => Some("2".to_owned()),
        "9" => None,
        _ => Some("1".to_owned()),
    });
    let mut bodies = numbered(12);
    bodies.extend(numbered(12));
    let bench = bench(&[base, other], &bodies, &[]);
    let mut run = start(&bench);
    assert_eq!(refused(run.ask(&mut |_| {})), "well");
    let answers = &run.answers[0].answers;
    // Each different input once.
    assert_eq!((answers.compared, answers.differing), (12, 2));
    assert_eq!((answers.answered_by_one, answers.unanswered), (1, 0));
    let numbers: Vec<_> = answers.worst.iter().map(|one| one.input % 12).collect();
    assert_eq!(numbers, [9, 7]);
}

#[test]
fn a_condition_that_the_answers_cannot_decide_ends_the_run_before_any_load() {
    let (one, _) = server(|_| Some("[[0.1, 0.9]]".to_owned()));
    let bodies = numbered(20);
    let refused_for = |condition| {
        let bench = bench(&[one, one], &bodies, &[condition]);
        let mut run = start(&bench);
        let words = refused(run.everything(&mut |_| {}));
        assert!(run.levels.is_empty() && run.warm.is_empty());
        words
    };
    assert_eq!(
        refused_for("top1<0.9"),
        "conditions that this run cannot decide:\ntop1<0.9: 20 rows cannot prove it kept, whatever they say: at least 36 are \
         needed (--made, or more in --input)"
    );
    assert!(refused_for("agreement<0.9").contains("20 compared inputs cannot prove it kept"));
}

#[test]
fn a_version_that_fails_passes_nothing_however_fast_it_fails() {
    let (base, _) = server(|_| {
        thread::sleep(Duration::from_millis(1));
        Some("1".to_owned())
    });
    // One input of five, at once.
    let (other, _) = server(|body| (!body.ends_with(['0', '5'])).then(|| "1".to_owned()));
    let conditions = [
        "throughput<0.01",
        "p50>9",
        "p99>9",
        "failures>0.1%",
        "agreement<0.9",
    ];
    let bench = bench(&[base, other], &numbered(100), &conditions);
    let report = bench.run(watch::channel(false).1, |_| {}).unwrap();
    assert_eq!(report.verdict.outcome, Outcome::Invalid);
    let check = report
        .checks
        .iter()
        .find(|check| check.name == "failures")
        .unwrap();
    assert_eq!(check.state, CheckState::Invalid);
    assert!(check.words.starts_with("v0: 0 of "), "{}", check.words);
    assert!(check.words.contains("; v1: "), "{}", check.words);
    let states: Vec<_> = report.gates.iter().map(|gate| gate.state).collect();
    let (undecided, failed) = (GateState::Undecided, GateState::Failed);
    assert_eq!(states[..3], [undecided; 3]);
    assert_eq!(states[3], failed);
    // 80 of 100 agree.
    assert_eq!(states[4], failed);
    assert_eq!(report.answers[0].answers.answered_by_one, 20);
}

#[test]
fn a_version_that_dies_at_the_end_wins_nothing_and_the_headline_says_so() {
    let (base, _) = server(|_| {
        thread::sleep(Duration::from_millis(4));
        Some("1".to_owned())
    });
    // It is much faster, and dies after the last pair.
    let fast = Mortal::start();
    let bench = bench(&[base, fast.address], &numbered(20), &["throughput<0.9"]);
    let mut fast = Some(fast);
    let report = bench
        .run(watch::channel(false).1, |step| {
            if matches!(step, Progress::Pair(pair, about, _) if pair == about) {
                drop(fast.take());
            }
        })
        .unwrap();
    assert!(fast.is_none());
    let verdict = &report.verdict;
    assert_eq!(verdict.outcome, Outcome::Invalid, "{}", verdict.words);
    assert!(
        verdict
            .words
            .starts_with("this run says nothing: v1 no longer answers ("),
        "{}",
        verdict.words
    );
    let comparisons = &report.levels[0].comparisons;
    assert!(!comparisons.is_empty());
    assert!(
        comparisons
            .iter()
            .all(|one| one.outcome == Outcome::Invalid),
        "{comparisons:?}"
    );
    assert_eq!(report.gates[0].state, GateState::Undecided);
}

#[test]
fn each_of_several_versions_is_judged_beside_the_baseline() {
    let slow = |body: &str| {
        thread::sleep(Duration::from_millis(4));
        Some(body.to_owned())
    };
    let ((base, _), (fast, _)) = (server(slow), server(|body| Some(body.to_owned())));
    let (wrong, _) = server(|body| {
        thread::sleep(Duration::from_millis(12));
        Some(format!("1{body}"))
    });
    let conditions = ["throughput<0.9", "agreement<0.5"];
    let bench = bench(&[base, fast, wrong], &numbered(16), &conditions);
    let report = bench.run(watch::channel(false).1, |_| {}).unwrap();
    let verdict = &report.verdict;
    // One run in forty finds its baseline unlike itself, however quiet the machine is, and then it names nobody.
    if verdict.outcomes.contains(&Outcome::Withheld) {
        let told = "no winner is named: v0 differed from itself";
        assert!(verdict.words.contains(told), "{}", verdict.words);
    } else {
        assert_eq!(verdict.outcomes, [Outcome::Faster, Outcome::Slower]);
        assert_eq!(verdict.outcome, Outcome::Mixed);
        for told in ["v1 is ", "x faster than v0 ", "v2 is "] {
            assert!(verdict.words.contains(told), "{}", verdict.words);
        }
        let judged = report.gates.iter();
        let judged: Vec<_> = judged.map(|gate| (gate.version, gate.state)).collect();
        let (passed, failed) = (GateState::Passed, GateState::Failed);
        assert_eq!(judged, [(1, passed), (2, failed), (1, passed), (2, failed)]);
    }
    for told in ["v1: 0 of ", "v2: "] {
        assert!(verdict.words.contains(told), "{}", verdict.words);
    }
    // Each interval has its part of the error.
    let ratios = report.levels[0].comparisons.iter().map(|one| &one.ratio);
    assert!(ratios.clone().count() > 8);
    assert!(
        ratios
            .into_iter()
            .all(|one| (one.confidence - 0.975).abs() < 1e-9)
    );
}

/// A version as it may be: time of an answer in us, and of 400 requests of each block those that fail.
type Behaviour = (u64, Vec<u64>);

fn done(version: usize, pair: u32, (us, failures): (u64, u64), wobble: f64) -> Done {
    let mut seen = Seen::default();
    let answers = 400 - failures;
    for at in 0..answers {
        let latency = Duration::from_nanos(1000 * us + 200 * us * at / 400).mul_f64(wobble);
        seen.latencies.record_latency(latency, true);
    }
    for _ in 0..failures {
        seen.latencies.record_endless();
    }
    (seen.answers, seen.served) = (answers, answers);
    (seen.failures, seen.failed) = (failures, failures);
    let elapsed = Duration::from_micros(400 * us).mul_f64(wobble);
    let measured = Measured {
        elapsed,
        took: elapsed,
        rate: None,
        seen,
        unsent: 0,
        cpu: None,
        own_cpu: None,
        peak_rss_mb: None,
    };
    Done::new((Phase::Pair, pair), version, Duration::ZERO, measured)
}

/// What a run makes of versions: the outcome, those of all metrics, and the gates.
fn found<const COUNT: usize>(
    versions: [&Behaviour; COUNT],
    scenario: Scenario,
    conditions: &[&str],
) -> (Outcome, Vec<(Metric, Outcome)>, Vec<GateState>) {
    let mut bench = bench(&[nobody(); COUNT], &numbered(3), conditions);
    bench.scenario = scenario;
    let run = start(&bench);
    let mut measuring = Measuring::new(
        LoadPoint {
            scenario,
            connections: 1,
            rate: None,
        },
        COUNT,
    );
    let mut random = SplitMix64::new(9);
    for pair in 0..versions[0].1.len() {
        let wobble = 1.0 + 0.05 * random.unit();
        for (version, (us, failures)) in versions.iter().enumerate() {
            let number = u32::try_from(pair).unwrap();
            let one = done(version, number, (*us, failures[pair]), wobble);
            measuring.done.push(one);
        }
    }
    let done = measuring.done.clone();
    let levels = vec![measuring.level(&bench, &run.decks)];
    let environment = Before::read().finish(Duration::ZERO, None);
    let mut report = crate::bench::sample::report();
    let failures = checks(scenario, &bench.labels(), &levels, &done, &environment);
    report.checks = failures
        .into_iter()
        .filter(|check| check.name == "failures")
        .collect();
    let versions = bench.subjects.iter();
    report.versions = versions.map(|subject| subject.version.clone()).collect();
    report.levels = levels;
    report.verdict = sentence::verdict(&Evidence::from(&report));
    let states = judge(&report, &bench.conditions);
    let comparisons = &report.levels[0].comparisons;
    (
        report.verdict.outcome,
        comparisons
            .iter()
            .map(|one| (one.metric, one.outcome))
            .collect(),
        states.iter().map(|gate| gate.state).collect(),
    )
}

fn mirrored(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Faster => Outcome::Slower,
        Outcome::Slower => Outcome::Faster,
        same => same,
    }
}

const KEPT: [&str; 5] = [
    "throughput<0.9",
    "mean>1.1",
    "p50>1.1",
    "p90>1.1",
    "p99>1.1",
];

#[test]
fn a_faster_version_that_fails_two_per_cent_is_no_winner_and_passes_no_ratio() {
    let (steady, failing) = ((1000, vec![0; 10]), (500, vec![8; 10]));
    let (outcome, metrics, gates) = found([&steady, &failing], Scenario::Closed, &KEPT);
    assert_eq!(outcome, Outcome::FailsMore);
    assert!(
        metrics
            .iter()
            .all(|(_, outcome)| *outcome != Outcome::Faster),
        "{metrics:?}"
    );
    assert!(
        metrics.contains(&(Metric::P99, Outcome::Slower)),
        "{metrics:?}"
    );
    assert!(!gates.contains(&GateState::Passed), "{gates:?}");
    assert_eq!(gates[4], GateState::Failed);
    // Where the p99 is what counts, the one that has none is the slower one.
    let (outcome, ..) = found([&steady, &failing], Scenario::MultiStream, &[]);
    assert_eq!(outcome, Outcome::Slower);
}

#[test]
fn of_several_versions_each_has_an_outcome_of_its_own() {
    let [base, fast, slow] = [1000, 500, 3000].map(|us| (us, vec![0; 12]));
    let (outcome, metrics, gates) =
        found([&base, &fast, &slow], Scenario::Closed, &["throughput<0.9"]);
    assert_eq!(outcome, Outcome::Mixed);
    let throughput: Vec<_> = metrics
        .into_iter()
        .filter(|(metric, _)| *metric == Metric::Throughput)
        .map(|(_, outcome)| outcome)
        .collect();
    assert_eq!(throughput, [Outcome::Faster, Outcome::Slower]);
    assert_eq!(gates, [GateState::Passed, GateState::Failed]);
}

#[test]
fn blocks_without_an_answer_are_not_left_out_of_a_comparison() {
    let mut failures = vec![0; 10];
    failures[3] = 400;
    let (_, metrics, gates) = found(
        [&(1000, vec![0; 10]), &(500, failures)],
        Scenario::Closed,
        &KEPT,
    );
    assert!(
        metrics
            .iter()
            .all(|(_, outcome)| *outcome != Outcome::Faster),
        "{metrics:?}"
    );
    assert!(!gates.contains(&GateState::Passed), "{gates:?}");
}

#[test]
fn the_limit_of_failures_is_each_version_s_own() {
    // 6 % of one are 3 % of both.
    let (outcome, ..) = found(
        [&(1000, vec![24; 8]), &(1000, vec![0; 8])],
        Scenario::Closed,
        &[],
    );
    assert_eq!(outcome, Outcome::Invalid);
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let block = prop_oneof![6 => Just(0_u64), 2 => 1_u64..30, 1 => 30_u64..=400];
    (900_u64..1200, prop::collection::vec(block, 8))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn swapping_the_roles_mirrors_the_verdict(
        one in behaviour(),
        two in behaviour(),
        scenario in prop::sample::select(vec![
            Scenario::Closed, Scenario::SingleStream, Scenario::MultiStream, Scenario::Offline,
        ]),
    ) {
        let (outcome, metrics, _) = found([&one, &two], scenario, &[]);
        let (swapped, swapped_metrics, _) = found([&two, &one], scenario, &[]);
        prop_assert_eq!(swapped, mirrored(outcome));
        let mirrored: Vec<_> = metrics
            .into_iter()
            .map(|(metric, outcome)| (metric, mirrored(outcome)))
            .collect();
        prop_assert_eq!(swapped_metrics, mirrored);
    }

    #[test]
    fn a_version_that_is_proven_to_fail_more_never_passes_a_ratio_and_never_wins(
        other in behaviour(),
        us in 900_u64..3000,
    ) {
        let failures: u64 = other.1.iter().sum();
        let (outcome, metrics, gates) = found([&(us, vec![0; 8]), &other], Scenario::Closed, &KEPT);
        // Six of 3200 and none are not alike.
        if failures >= 6 {
            prop_assert!(outcome != Outcome::Faster);
            prop_assert!(metrics.iter().all(|(_, outcome)| *outcome != Outcome::Faster));
            prop_assert!(!gates.contains(&GateState::Passed), "{:?}", gates);
        }
    }
}

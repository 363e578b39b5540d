//! Reports for tests: what a run might have found.

use std::time::Duration;

use serde_json::json;

use crate::bench::report::{
    Block, Check, CheckState, Comparison, Environment, Failures, Figures, GateReport, GateState,
    InputTimes, Level, LoadedInputs, Metric, Outcome, Phase, Report, SCHEMA, Scenario, Setup,
    Verdict, Version, VersionAnswers,
};
use crate::bench::samples::SavedBlock;
use crate::bench::sentence::{Evidence, verdict};
use crate::bench::slo::{Probe, SloReport, Sustained};
use crate::evidence::{Answers, Difference, Estimate, ProbeOutcome, Ratio, Slo, Tolerance};
use crate::load::Summary;

const WARM_UPS: u32 = 2;
const NOISE_PAIRS: u32 = 5;
const PAIRS: u32 = 10;
/// Throughput of the baseline.
const BASE_PER_S: f64 = 78_900.0;
/// Times that the other version is faster.
const GAIN: f64 = 1.31;

/// Two versions, one load, ten pairs after five of noise.
pub(crate) fn report() -> Report {
    concluded(Report {
        schema: SCHEMA,
        complete: true,
        interrupted: false,
        elapsed_s: 41.2,
        setup: setup(),
        environment: environment(),
        versions: vec![version("blue", "a1b2"), version("green", "c3d4")],
        levels: vec![level("8 connections", 8.0, 1.0)],
        slo: None,
        answers: vec![VersionAnswers {
            version: 1,
            answers: answers(),
        }],
        checks: checks(),
        verdict: Verdict {
            outcome: Outcome::NoEvidence,
            outcomes: Vec::new(),
            words: String::new(),
        },
        gates: gates(),
    })
}

/// One version by itself.
pub(crate) fn alone() -> Report {
    let mut report = report();
    report.versions.truncate(1);
    report.answers.clear();
    report.gates.clear();
    for level in &mut report.levels {
        level.figures.truncate(1);
        level.comparisons.clear();
        level.noise = None;
        level.failures = Failures::of(&level.figures);
        level.inputs.apart.clear();
        for one in &mut level.inputs.slowest {
            one.mean_ms.truncate(1);
        }
        level
            .blocks
            .retain(|block| block.version == 0 && block.phase != Phase::Noise);
    }
    concluded(report)
}

/// Three loads, and the highest rate that keeps a latency.
pub(crate) fn sweep() -> Report {
    let mut report = report();
    report.levels = vec![
        level("1 connection", 1.0, 0.25),
        level("8 connections", 8.0, 1.0),
        level("32 connections", 32.0, 1.3),
    ];
    report.slo = Some(SloReport {
        slo: Slo {
            quantile: 0.99,
            limit_ms: 20.0,
        },
        versions: vec![sustained(2000.0), sustained(2600.0)],
    });
    concluded(report)
}

/// The baseline and two others, of which the second fares as the first.
pub(crate) fn three() -> Report {
    let mut report = report();
    report.versions.push(version("red", "e5f6"));
    report.setup.confidence_each = 0.975;
    for level in &mut report.levels {
        level.figures.push(level.figures[1].clone());
        level.failures = Failures::of(&level.figures);
        let again: Vec<_> = level.comparisons.clone();
        level.comparisons.extend(
            again
                .into_iter()
                .map(|one| Comparison { version: 2, ..one }),
        );
        let last = level
            .inputs
            .slowest
            .iter_mut()
            .chain(&mut level.inputs.apart);
        last.for_each(|one| one.mean_ms.push(Some(0.3)));
        let rounds: Vec<_> = level
            .blocks
            .chunk_by(|one, two| (one.phase, one.pair) == (two.phase, two.pair))
            .map(<[Block]>::to_vec)
            .collect();
        level.blocks = rounds.into_iter().flat_map(with_a_third).collect();
    }
    let mut answers = report.answers[0].clone();
    answers.version = 2;
    report.answers.push(answers);
    let mut gate = report.gates[0].clone();
    gate.version = 2;
    report.gates.push(gate);
    concluded(report)
}

/// A round with a block of the third version after those of the others.
fn with_a_third(mut round: Vec<Block>) -> Vec<Block> {
    let last = round.last().filter(|last| last.phase == Phase::Pair);
    let third = last.map(|last| Block {
        version: 2,
        ..last.clone()
    });
    round.extend(third);
    round
}

pub(crate) fn comparison(
    metric: Metric,
    [point, low, high]: [f64; 3],
    outcome: Outcome,
) -> Comparison {
    Comparison {
        version: 1,
        metric,
        ratio: Ratio {
            estimate: estimate(point, low, high),
            pairs: 10,
            confidence: 0.95,
            detectable: Some(0.014),
            bootstrap: None,
        },
        outcome,
        same_within: None,
    }
}

fn concluded(mut report: Report) -> Report {
    report.verdict = verdict(&Evidence::from(&report));
    report
}

fn estimate(point: f64, low: f64, high: f64) -> Estimate {
    Estimate {
        point,
        low: Some(low),
        high: Some(high),
    }
}

fn setup() -> Setup {
    Setup {
        scenario: Scenario::Closed,
        primary: Metric::Throughput,
        seed: 42,
        inputs: "sample-request.json".to_owned(),
        inputs_count: 4096,
        inputs_sha256: "e3b0".repeat(16),
        requests_per_query: 1,
        confidence: 0.95,
        confidence_each: 0.95,
        block_s: Some(1.0),
        target_half_width: Some(0.01),
        min_difference: None,
        timeout_ms: 5000.0,
    }
}

fn environment() -> Environment {
    Environment {
        started: "2026-11-25T01:20:00Z".to_owned(),
        serin: "0.1.0".to_owned(),
        system: "Linux 6.1.0".to_owned(),
        processor: "AMD EPYC".to_owned(),
        cores: 2,
        governor: None,
        load_before: Some(0.12),
        load_after: Some(1.9),
        stolen: 0.002,
        others: 0.03,
        onnxruntime: Some("1.24.1".to_owned()),
    }
}

fn version(label: &str, sha: &str) -> Version {
    Version {
        label: label.to_owned(),
        what: format!("deployment {label} of myEndpoint"),
        model_sha256: Some(sha.repeat(16)),
        url: "127.0.0.1:5001/endpoints/myEndpoint/score".to_owned(),
        settings: Some(json!({"instance_type": "Standard_F2s_v2", "instance_count": 1})),
    }
}

fn level(name: &str, load: f64, scale: f64) -> Level {
    let found = |metric, ratio| comparison(metric, ratio, Outcome::Faster);
    let figures = vec![
        figures(BASE_PER_S * scale, 0.095 * load.sqrt() / 2.83),
        figures(BASE_PER_S * GAIN * scale, 0.072 * load.sqrt() / 2.83),
    ];
    Level {
        name: name.to_owned(),
        load,
        failures: Failures::of(&figures),
        figures,
        inputs: loaded(),
        noise: Some(noise()),
        comparisons: vec![
            found(Metric::Throughput, [1.31, 1.28, 1.34]),
            found(Metric::P50, [0.758, 0.741, 0.776]),
            comparison(Metric::P99, [0.982, 0.931, 1.036], Outcome::NoEvidence),
            found(Metric::Cpu, [0.774, 0.769, 0.779]),
        ],
        blocks: blocks(load, scale),
        samples: [1.0, GAIN].map(|gain| saved(scale * gain)).into(),
    }
}

fn loaded() -> LoadedInputs {
    let one = |input, base, other| InputTimes {
        input,
        mean_ms: vec![Some(base), Some(other)],
    };
    LoadedInputs {
        loaded: 4096,
        different: 4096,
        slowest: vec![one(811, 0.412, 0.398), one(12, 0.391, 0.3)],
        apart: vec![one(77, 0.08, 0.16)],
    }
}

fn noise() -> Comparison {
    let ratio = [1.0012, 0.9951, 1.0073];
    let mut noise = comparison(Metric::Throughput, ratio, Outcome::NoEvidence);
    noise.version = 0;
    noise.ratio.pairs = 5;
    noise
}

fn figures(throughput: f64, median_ms: f64) -> Figures {
    let mut latencies = Summary::new();
    for index in 1..=20_000_u32 {
        let left = f64::from(20_001 - index) / 20_001.0;
        // A body and a heavy tail.
        let ms = median_ms * (0.7 + 0.5 * (1.0 - left) + 0.12 * left.powf(-0.55));
        latencies.record_latency(Duration::from_secs_f64(ms / 1e3), true);
    }
    let ms = |quantile| latencies.quantile(quantile).as_secs_f64() * 1e3;
    Figures {
        requests: 789_412,
        sent: 789_412,
        failures: 0,
        refused: 0,
        throughput_per_s: estimate(throughput, throughput - 1200.0, throughput + 1200.0),
        mean_ms: latencies.mean().as_secs_f64() * 1e3,
        p50_ms: ms(0.5),
        p90_ms: ms(0.9),
        p95_ms: ms(0.95),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: ms(1.0),
        cpu_s_per_1000: Some(1.0 / throughput * 1e3),
        peak_rss_mb: Some(31.4),
        queue_ms: Some(0.004),
        compute_ms: None,
        latencies,
    }
}

fn blocks(load: f64, scale: f64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut start_s = load * 2.0;
    let mut add = |phase, pair: u32, version: usize| {
        let wobble = 1.0 + 0.01 * (f64::from(pair) * 2.3 + start_s).sin();
        let gain = if version == 1 { GAIN } else { 1.0 };
        let cold = if phase == Phase::WarmUp && pair == 0 {
            0.6
        } else {
            1.0
        };
        let throughput_per_s = BASE_PER_S * scale * gain * wobble * cold;
        blocks.push(Block {
            phase,
            pair,
            version,
            start_s,
            elapsed_s: 1.0,
            answers: 78_900,
            failures: 0,
            throughput_per_s,
            mean_ms: 8e3 / throughput_per_s,
            p50_ms: 7e3 / throughput_per_s,
            p90_ms: 12e3 / throughput_per_s,
            p99_ms: 30e3 / throughput_per_s,
            cpu_s: Some(0.9),
            slip_p99_ms: None,
        });
        start_s += 1.05;
    };
    for pair in 0..WARM_UPS {
        add(Phase::WarmUp, pair, 0);
        add(Phase::WarmUp, pair, 1);
    }
    for pair in 0..NOISE_PAIRS {
        add(Phase::Noise, pair, 0);
        add(Phase::Noise, pair, 0);
    }
    for pair in 0..PAIRS {
        let first = usize::from(pair % 3 == 1);
        add(Phase::Pair, pair, first);
        add(Phase::Pair, pair, 1 - first);
    }
    blocks
}

/// Blocks whose latencies spread over a factor of two.
fn saved(speed: f64) -> Vec<SavedBlock> {
    let block = |at: u32| {
        let wobble = 1.0 + 0.01 * (f64::from(at) * 2.3).sin();
        let speed = speed * wobble;
        let latency = |step: u32| {
            let ns = 1e6 / speed * (1.0 + f64::from(step) / 100.0);
            // They are small, and whole nanoseconds are enough.
            (Duration::from_secs_f64(ns / 1e9).subsec_nanos().into(), 10)
        };
        SavedBlock {
            answers: 1000.0 * speed,
            elapsed_s: 1.0,
            cpu_s: Some(0.9),
            cpu_answers: 1000,
            sent: 1000,
            failures: 0,
            latencies_ns: (0..100).map(latency).collect(),
            endless: 0,
        }
    };
    (0..PAIRS).map(block).collect()
}

fn answers() -> Answers {
    Answers {
        compared: 4096,
        differing: 0,
        answered_by_one: 0,
        of_other_form: 0,
        unanswered: 0,
        tolerance: Tolerance {
            absolute: 1e-4,
            relative: 1e-4,
        },
        max_absolute: 4.8e-7,
        max_relative: 9.1e-6,
        agreement: estimate(1.0, 0.9991, 1.0),
        top1: Some(estimate(1.0, 0.9991, 1.0)),
        rows: 4096,
        worst: vec![Difference {
            input: 17,
            path: "/predictions/0/3".to_owned(),
            base: "0.31415".to_owned(),
            other: "0.31416".to_owned(),
            difference: Some(4.8e-7),
        }],
    }
}

fn checks() -> Vec<Check> {
    let ok = |name| Check {
        name,
        state: CheckState::Ok,
        words: "well".to_owned(),
    };
    vec![ok("generator"), ok("steal"), ok("drift")]
}

fn gates() -> Vec<GateReport> {
    vec![GateReport {
        condition: "throughput<0.97".to_owned(),
        version: 1,
        found: Some(estimate(1.31, 1.28, 1.34)),
        state: GateState::Passed,
    }]
}

fn sustained(rate: f64) -> Sustained {
    let probe = |factor: f64, outcome| Probe {
        rate_per_s: rate * factor,
        requests: 4000,
        over: 12,
        took_s: 1.5,
        outcome,
    };
    Sustained {
        passed_per_s: Some(rate),
        failed_per_s: Some(rate * 1.02),
        confirmed: true,
        ended: "the interval is narrower than 2 %".to_owned(),
        probes: vec![
            probe(0.5, ProbeOutcome::Passed),
            probe(0.75, ProbeOutcome::Passed),
            probe(1.125, ProbeOutcome::Failed),
            probe(0.94, ProbeOutcome::Passed),
            probe(1.03, ProbeOutcome::Undecided),
            probe(1.0, ProbeOutcome::Passed),
            probe(1.02, ProbeOutcome::Failed),
        ],
    }
}

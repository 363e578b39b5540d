//! What two saved runs say together that were not one run. Pure.
//!
//! Between two runs there is time: another load of the host, other places in memory, other neighbours. No statistic of the blocks within the
//! runs knows of it. So what follows depends on whether the baseline of both is the same model. If it is, each version is compared with it
//! within its run, in pairs, and these ratios are compared: what changed for both cancels. If it is not, only the runs are compared, and the
//! words say that the version, the machine or the hour may have made the difference.
//!
//! Blocks of one run that follow each other are alike, so that each run is cut into a few stretches, and those are the parts that a standard
//! error is made of.
//!
//! Not here: the file of a run (`saved`), tests and intervals (`crate::evidence`), text for a terminal (`cli`).

use serde::Serialize;
use serde_json::Value;

use crate::bench::figures::{CONFIDENCE, outcome};
use crate::bench::numbers::{UNKNOWN, percent, ratio, ratio_with};
use crate::bench::outline::{Part as Told, Table, numbers_column, words_column};
use crate::bench::report::{Metric, Outcome, Scenario};
use crate::bench::samples::{SavedBlock, batches};
use crate::bench::saved::{Saved, SavedLevel, SavedVersion};
use crate::bench::sentence::{metric_words, outcome_words, outward_of};
use crate::evidence::{
    Estimate, LogEstimate, Part, Quotient, Recorded, difference, pooled_log, pooled_ratio_log,
    quantile_log, quantile_ratio_log, quotient,
};

/// Version of the form of the JSON.
pub(super) const SCHEMA: u32 = 1;
/// Stretches that a run is cut into.
const STRETCHES: usize = 10;
/// Of the resampling of percentiles.
const SEED: u64 = 1;
/// What must be the same in both runs: where it stands in a report, and what it is.
const SAME: [(&str, &str); 6] = [
    ("/environment/processor", "processor"),
    ("/environment/cores", "cores"),
    ("/setup/inputs_sha256", "SHA-256 of the requests"),
    ("/setup/scenario", "scenario"),
    ("/setup/requests_per_query", "requests of a query"),
    ("/setup/timeout_ms", "timeout in ms"),
];
/// What may differ, and is told.
const TOLD: [(&str, &str); 4] = [
    ("/environment/serin", "serin"),
    ("/environment/onnxruntime", "ONNX Runtime"),
    ("/environment/system", "system"),
    ("/environment/governor", "frequency governor"),
];

/// What two runs say.
#[derive(Debug, Clone, Serialize)]
pub struct RunComparison {
    /// Version of this form.
    pub schema: u32,
    /// When the old run began.
    pub old: String,
    /// When the new run began.
    pub new: String,
    /// Of all intervals of a metric together.
    pub confidence: f64,
    /// What differs between the runs beside the versions, and what else must be known to believe it.
    pub told: Vec<String>,
    /// The baseline of both runs, where it is the same model: then versions are compared, beside it; else only runs are.
    pub anchor: Option<Anchor>,
    /// Under each load that both runs have.
    pub levels: Vec<LevelChange>,
    /// In one word, by the primary metric.
    pub outcome: Outcome,
    /// In a sentence.
    pub words: String,
}

/// The version that both runs have.
#[derive(Debug, Clone, Serialize)]
pub struct Anchor {
    /// In the old run.
    pub old: String,
    /// In the new run.
    pub new: String,
}

/// The changes under one load.
#[derive(Debug, Clone, Serialize)]
pub struct LevelChange {
    /// In words.
    pub name: String,
    /// The anchor's value in the new run by that in the old one, of the primary metric: what the machine and the time make.
    pub machine: Option<Quotient>,
    /// Of each version that is compared.
    pub versions: Vec<VersionChange>,
}

/// The changes of one version.
#[derive(Debug, Clone, Serialize)]
pub struct VersionChange {
    /// In the old run.
    pub old: String,
    /// In the new run.
    pub new: String,
    /// The new run's share of failures less the old one's.
    pub failures: Estimate,
    /// The primary one first.
    pub metrics: Vec<MetricChange>,
}

/// The change of one metric.
#[derive(Debug, Clone, Serialize)]
pub struct MetricChange {
    /// Which.
    pub metric: Metric,
    /// The new value by the old one; with an anchor, of the ratios to it.
    pub ratio: Quotient,
    /// What that stands for, of the new one.
    pub outcome: Outcome,
}

/// The reasons why two runs are not compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these runs cannot be compared:\n  {}", .0.join("\n  "))]
pub struct Refused(pub Vec<String>);

/// Compares two runs.
///
/// # Errors
///
/// [`Refused`] with all reasons: another machine, other requests, another load, or a run that says nothing.
pub fn compare(old: &Saved, new: &Saved) -> Result<RunComparison, Refused> {
    let mut problems = Vec::new();
    for (run, name) in [(old, "old"), (new, "new")] {
        if text(run, "/verdict/outcome") == "invalid" {
            let words = text(run, "/verdict/words");
            problems.push(format!("the {name} run says nothing: {words}"));
        }
    }
    problems.extend(differences(old, new, &SAME));
    let both: Vec<_> = old
        .levels
        .iter()
        .filter_map(|level| Some((level, new.levels.iter().find(|one| one.name == level.name)?)))
        .collect();
    if both.is_empty() {
        problems.push(format!(
            "no load is in both: {} in the old run, {} in the new one",
            names(old.levels.iter().map(|level| &level.name)),
            names(new.levels.iter().map(|level| &level.name))
        ));
    }
    let matched = both
        .first()
        .map_or_else(|| Ok(Matched::default()), |(old, new)| matched(old, new));
    let matched = matched.unwrap_or_else(|problem| {
        problems.push(problem);
        Matched::default()
    });
    let scenario: Option<Scenario> =
        serde_json::from_value(new.report["setup"]["scenario"].clone()).ok();
    match (scenario, problems.is_empty()) {
        (Some(scenario), true) => Ok(compared((old, new), &both, &matched, scenario)),
        (None, true) => Err(Refused(vec!["the new run names no scenario".to_owned()])),
        (_, false) => Err(Refused(problems)),
    }
}

/// Which versions are compared: their places in the old run and in the new one, and whether the first of each is the same model.
#[derive(Debug, Default)]
struct Matched {
    is_anchored: bool,
    pairs: Vec<(usize, usize)>,
}

/// Versions of the same label belong together; where each run has one version beside what both have, these do.
fn matched(old: &SavedLevel, new: &SavedLevel) -> Result<Matched, String> {
    let (olds, news) = (&old.versions[..], &new.versions[..]);
    let model =
        |versions: &[SavedVersion]| versions.first().and_then(|one| one.model_sha256.clone());
    let is_same_base = model(olds).is_some() && model(olds) == model(news);
    let is_anchored = is_same_base && olds.len() > 1 && news.len() > 1;
    let first = usize::from(is_anchored);
    let pairs = match (olds.len() - first, news.len() - first) {
        (1, 1) => vec![(first, first)],
        _ => (first..olds.len())
            .filter_map(|at| {
                let mut others = news.iter().skip(first);
                let other = others.position(|other| other.label == olds[at].label)?;
                Some((at, other + first))
            })
            .collect(),
    };
    match pairs.is_empty() {
        false => Ok(Matched { is_anchored, pairs }),
        true => Err(format!(
            "no version of the one is in the other by its label: {} in the old run, {} in the new one",
            names(olds.iter().map(|one| &one.label)),
            names(news.iter().map(|one| &one.label))
        )),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(String::as_str).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// A text or number of a report.
fn text(run: &Saved, place: &str) -> String {
    match run.report.pointer(place) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "unknown".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn differences(old: &Saved, new: &Saved, what: &[(&str, &str)]) -> Vec<String> {
    let differ = what.iter().filter_map(|(place, name)| {
        let (old, new) = (text(old, place), text(new, place));
        (old != new).then(|| format!("{name}: {old} in the old run, {new} in the new one"))
    });
    differ.collect()
}

fn compared(
    (old, new): (&Saved, &Saved),
    both: &[(&SavedLevel, &SavedLevel)],
    matched: &Matched,
    scenario: Scenario,
) -> RunComparison {
    let each = 1.0 - (1.0 - CONFIDENCE) / matched.pairs.len() as f64;
    let levels = both.iter().map(|(old, new)| LevelChange {
        name: old.name.clone(),
        machine: matched
            .is_anchored
            .then(|| changed(scenario.primary(), (old, new), (0, 0), each))
            .flatten(),
        versions: matched
            .pairs
            .iter()
            .map(|pair| version_change(scenario, (old, new), (*pair, matched.is_anchored), each))
            .collect(),
    });
    let levels: Vec<_> = levels.collect();
    let anchor = matched.is_anchored.then(|| Anchor {
        old: both[0].0.versions[0].label.clone(),
        new: both[0].1.versions[0].label.clone(),
    });
    let mut told = differences(old, new, &TOLD);
    for (run, name) in [(old, "old"), (new, "new")] {
        if text(run, "/complete") != "true" {
            told.push(format!("the {name} run is incomplete"));
        }
        let checks = run.report["checks"].as_array().into_iter().flatten();
        let doubts = checks.filter(|check| check["state"] == "warning");
        let words = doubts.filter_map(|check| check["words"].as_str());
        told.extend(words.map(|words| format!("the {name} run: {words}")));
    }
    let outcomes: Vec<_> = levels
        .iter()
        .flat_map(|level| &level.versions)
        .filter_map(|version| Some(version.metrics.first()?.outcome))
        .collect();
    let mut found = RunComparison {
        schema: SCHEMA,
        old: text(old, "/environment/started"),
        new: text(new, "/environment/started"),
        confidence: CONFIDENCE,
        told,
        anchor,
        levels,
        outcome: match &outcomes[..] {
            [] => Outcome::NoEvidence,
            [first, rest @ ..] if rest.iter().all(|other| other == first) => *first,
            _ => Outcome::Mixed,
        },
        words: String::new(),
    };
    found.words = words(&found);
    found
}

fn version_change(
    scenario: Scenario,
    (old, new): (&SavedLevel, &SavedLevel),
    (pair, is_anchored): ((usize, usize), bool),
    confidence: f64,
) -> VersionChange {
    let (one, two) = (&old.versions[pair.0], &new.versions[pair.1]);
    let counts = |version: &SavedVersion| {
        let blocks = version.blocks.iter();
        blocks.fold((0, 0), |(failures, sent), block| {
            (failures + block.failures, sent + block.sent)
        })
    };
    let failures = difference(counts(one), counts(two), confidence);
    let change = |metric: Metric| {
        let ratio = match is_anchored {
            true => changed_beside(metric, (old, new), pair, confidence),
            false => changed(metric, (old, new), pair, confidence),
        }?;
        let outcome = match outcome(metric, ratio.estimate) {
            Outcome::Faster if failures.low.is_some_and(|low| low > 0.0) => Outcome::FailsMore,
            Outcome::Slower if failures.high.is_some_and(|high| high < 0.0) => Outcome::FailsMore,
            outcome => outcome,
        };
        Some(MetricChange {
            metric,
            ratio,
            outcome,
        })
    };
    VersionChange {
        old: one.label.clone(),
        new: two.label.clone(),
        failures,
        metrics: scenario.metrics().into_iter().filter_map(change).collect(),
    }
}

/// The change of a version by itself.
fn changed(
    metric: Metric,
    (old, new): (&SavedLevel, &SavedLevel),
    (one, two): (usize, usize),
    confidence: f64,
) -> Option<Quotient> {
    let of = |level: &SavedLevel, version: usize| {
        let stretches = batches(&level.versions[version].blocks, STRETCHES);
        match quantile(metric) {
            Some(quantile) => {
                let recorded: Vec<_> = stretches.iter().map(SavedBlock::recorded).collect();
                quantile_log(&recorded.iter().collect::<Vec<_>>(), quantile, SEED)
            }
            None => {
                let parts: Option<Vec<_>> = stretches.iter().map(|one| one.part(metric)).collect();
                pooled_log(&parts?)
            }
        }
    };
    Some(quotient(of(old, one)?, of(new, two)?, confidence))
}

/// The change of the ratio of a version to the first of its run.
fn changed_beside(
    metric: Metric,
    (old, new): (&SavedLevel, &SavedLevel),
    (one, two): (usize, usize),
    confidence: f64,
) -> Option<Quotient> {
    let of = |level: &SavedLevel, version: usize| -> Option<LogEstimate> {
        let base = batches(&level.versions[0].blocks, STRETCHES);
        let other = batches(&level.versions[version].blocks, STRETCHES);
        let both = base.iter().zip(&other);
        match quantile(metric) {
            Some(quantile) => {
                let recorded: Vec<_> = both
                    .map(|(base, other)| [base.recorded(), other.recorded()])
                    .collect();
                let pairs: Vec<_> = recorded.iter().map(|[base, other]| [base, other]).collect();
                quantile_ratio_log(&pairs, quantile, SEED)
            }
            None => {
                let parts: Option<Vec<_>> = both
                    .map(|(base, other)| Some([base.part(metric)?, other.part(metric)?]))
                    .collect();
                pooled_ratio_log(&parts?)
            }
        }
    };
    Some(quotient(of(old, one)?, of(new, two)?, confidence))
}

fn quantile(metric: Metric) -> Option<f64> {
    match metric {
        Metric::P50 => Some(0.5),
        Metric::P90 => Some(0.9),
        Metric::P99 => Some(0.99),
        Metric::Throughput | Metric::Mean | Metric::Cpu => None,
    }
}

impl SavedBlock {
    fn recorded(&self) -> Recorded {
        Recorded::new(self.latencies_ns.iter().copied(), self.endless)
    }

    /// The part of a metric that is no percentile.
    fn part(&self, metric: Metric) -> Option<Part> {
        let (amount, per) = match metric {
            Metric::Throughput => (self.answers, self.elapsed_s),
            Metric::Cpu => (self.cpu_s?, self.cpu_answers as f64),
            Metric::Mean | Metric::P50 | Metric::P90 | Metric::P99 => {
                let latencies = self.latencies_ns.iter();
                latencies.fold((0.0, 0.0), |(sum, all), (ns, count)| {
                    let count = *count as f64;
                    (sum + *ns as f64 * count, all + count)
                })
            }
        };
        Some(Part { amount, per })
    }
}

/// The conclusion: what the runs say, and of what.
fn words(found: &RunComparison) -> String {
    let swept = found.levels.len() > 1;
    let mut clauses = Vec::new();
    for level in &found.levels {
        let under = match swept {
            true => format!(" under {}", level.name),
            false => String::new(),
        };
        clauses.extend(
            level
                .versions
                .iter()
                .map(|version| format!("{}{under}", version.words())),
        );
        if let Some((machine, anchor)) = level.machine.as_ref().zip(found.anchor.as_ref()) {
            let metric = level.versions.first().and_then(|one| one.metrics.first());
            let metric = metric.map_or("", |one| metric_words(one.metric));
            clauses.push(format!(
                "{} itself {} between the runs{under} ({metric}), which is left out",
                anchor.new,
                ratio(machine.estimate)
            ));
        }
    }
    clauses.push(match &found.anchor {
        Some(anchor) => format!("versions are compared beside {}, which both runs have", anchor.new),
        None => "this is of the runs: whether the version, the machine or the hour made it, only one run with both versions can say"
            .to_owned(),
    });
    clauses.join("; ")
}

impl VersionChange {
    fn words(&self) -> String {
        let name = match self.old == self.new {
            true => self.new.clone(),
            false => format!("{} (old: {})", self.new, self.old),
        };
        let Some(first) = self.metrics.first() else {
            return format!("too little to say of {name}");
        };
        let metric = metric_words(first.metric);
        let words = outcome_words(first.outcome, first.metric);
        match first.outcome {
            Outcome::Faster | Outcome::Slower => {
                let ratio = outward_of(first.metric, first.outcome, first.ratio.estimate);
                let told = ratio_with(ratio, &format!("{words} than in the old run"));
                format!("{name} is {told} ({metric})")
            }
            Outcome::FailsMore => {
                format!(
                    "{name}: no winner is named, for it fails more in one of the runs ({metric})"
                )
            }
            _ => {
                let seen = first.ratio.detectable.map_or_else(String::new, |least| {
                    format!("; a difference of {} would have been found", percent(least))
                });
                let ratio = ratio(first.ratio.estimate);
                format!("{name}: no evidence of a change, {ratio} ({metric}){seen}")
            }
        }
    }
}

impl RunComparison {
    /// What is told below the conclusion.
    pub(crate) fn parts(&self) -> Vec<Told> {
        let swept = self.levels.len() > 1;
        let row = |level: &LevelChange, version: &VersionChange, one: &MetricChange| {
            let detectable = one.ratio.detectable;
            let cells = [
                version.new.clone(),
                metric_words(one.metric).to_owned(),
                ratio(one.ratio.estimate),
                outcome_words(one.outcome, one.metric).to_owned(),
                detectable.map_or_else(|| UNKNOWN.to_owned(), percent),
            ];
            let load = swept.then(|| level.name.clone());
            load.into_iter().chain(cells).collect::<Vec<_>>()
        };
        let mut rows = Vec::new();
        for level in &self.levels {
            for version in &level.versions {
                rows.extend(version.metrics.iter().map(|one| row(level, version, one)));
            }
        }
        let head = [
            words_column("version"),
            words_column("metric"),
            numbers_column("new / old"),
            words_column("outcome"),
            numbers_column("could have seen"),
        ];
        let load = swept.then(|| words_column("load"));
        let mut parts = vec![Told::Table(Table {
            head: load.into_iter().chain(head).collect(),
            rows,
        })];
        let runs = [("old run", &self.old), ("new run", &self.new)];
        parts.push(Told::Facts(
            runs.map(|(name, started)| (name.to_owned(), started.clone()))
                .into(),
        ));
        let told = self.told.iter();
        parts.extend(told.map(|words| Told::Line(format!("note: {words}"))));
        parts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bench::sample;
    use crate::evidence::{SplitMix64, gaussian};

    /// A run whose versions have these speeds; blocks vary by 1 %.
    fn run(speeds: &[f64], seed: u64) -> Saved {
        let mut report = match speeds.len() {
            1 => sample::alone(),
            2 => sample::report(),
            _ => sample::three(),
        };
        let mut random = SplitMix64::new(seed);
        let mut of = |speed: f64| -> Vec<SavedBlock> {
            let block = |_| {
                let speed = speed * (1.0 + 0.01 * gaussian(&mut random));
                let ns = |share: f64| {
                    let ns = std::time::Duration::from_secs_f64(share / speed / 1e3);
                    u64::from(ns.subsec_nanos())
                };
                SavedBlock {
                    answers: 1000.0 * speed,
                    elapsed_s: 1.0,
                    cpu_s: Some(0.9),
                    cpu_answers: 1000,
                    sent: 1000,
                    failures: 0,
                    latencies_ns: (0..50)
                        .map(|at| (ns(0.5 + f64::from(at) / 50.0), 20))
                        .collect(),
                    endless: 0,
                }
            };
            (0..12).map(block).collect()
        };
        report.levels[0].samples = speeds.iter().map(|speed| of(*speed)).collect();
        Saved::of(&report)
    }

    fn refused(old: &Saved, new: &Saved) -> Vec<String> {
        compare(old, new).unwrap_err().0
    }

    #[test]
    fn versions_are_compared_beside_the_one_that_both_runs_have() {
        // The machine is 20 % faster in the new run, and the version beside it as much faster than the baseline as before.
        let found = compare(&run(&[1.0, 1.3], 1), &run(&[1.2, 1.56], 2)).unwrap();
        assert_eq!(found.outcome, Outcome::NoEvidence, "{}", found.words);
        let machine = found.levels[0].machine.unwrap().estimate;
        assert!(machine.low.unwrap() > 1.15, "{machine:?}");
        assert!(found.words.contains("blue itself 1.1"), "{}", found.words);
        assert!(
            found
                .words
                .ends_with("versions are compared beside blue, which both runs have")
        );
        let found = compare(&run(&[1.0, 1.3], 1), &run(&[1.2, 1.75], 2)).unwrap();
        assert_eq!(found.outcome, Outcome::Faster);
        assert!(
            found
                .words
                .starts_with("green is 1.13x faster than in the old run ["),
            "{}",
            found.words
        );
        let metrics = &found.levels[0].versions[0].metrics;
        assert_eq!(metrics[0].metric, Metric::Throughput);
        let p99 = metrics
            .iter()
            .find(|one| one.metric == Metric::P99)
            .unwrap();
        assert_eq!(p99.outcome, Outcome::Faster);
    }

    #[test]
    fn without_a_common_version_the_words_are_of_the_runs() {
        let found = compare(&run(&[1.0], 1), &run(&[0.8], 2)).unwrap();
        assert_eq!(found.outcome, Outcome::Slower);
        assert!(found.anchor.is_none() && found.levels[0].machine.is_none());
        assert!(
            found
                .words
                .starts_with("blue is 1.26x slower than in the old run ["),
            "{}",
            found.words
        );
        assert!(
            found
                .words
                .contains("only one run with both versions can say")
        );
        let mut other = run(&[1.0, 1.3], 2);
        other.levels[0].versions[0].model_sha256 = None;
        let found = compare(&run(&[1.0, 1.3], 1), &other).unwrap();
        assert!(found.anchor.is_none());
        let labels = found.levels[0].versions.iter().map(|one| one.new.as_str());
        assert_eq!(labels.collect::<Vec<_>>(), ["blue", "green"]);
    }

    #[test]
    fn all_that_forbids_a_comparison_is_told_at_once() {
        let old = run(&[1.0, 1.3], 1);
        let mut new = run(&[1.0, 1.3], 2);
        new.report["environment"]["processor"] = "another".into();
        new.report["environment"]["cores"] = 64.into();
        new.report["setup"]["inputs_sha256"] = "00".into();
        new.report["verdict"]["outcome"] = "invalid".into();
        new.report["verdict"]["words"] = "late".into();
        new.levels[0].name = "9 connections".into();
        let problems = refused(&old, &new);
        assert_eq!(problems[0], "the new run says nothing: late");
        assert_eq!(
            problems[1],
            "processor: AMD EPYC in the old run, another in the new one"
        );
        assert_eq!(problems[2], "cores: 2 in the old run, 64 in the new one");
        assert!(problems[3].starts_with("SHA-256 of the requests: e3b0"));
        assert_eq!(
            problems[4],
            "no load is in both: 8 connections in the old run, 9 connections in the new one"
        );
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn versions_that_have_nothing_to_do_with_each_other_are_refused() {
        let (old, mut new) = (run(&[1.0, 1.3], 1), run(&[1.0, 1.3], 2));
        for (version, label) in new.levels[0].versions.iter_mut().zip(["x", "y"]) {
            version.label = label.to_owned();
            version.model_sha256 = None;
        }
        assert_eq!(
            refused(&old, &new),
            [
                "no version of the one is in the other by its label: blue, green in the old run, x, y in the new one"
            ]
        );
    }

    #[test]
    fn what_may_differ_is_told() {
        let (old, mut new) = (run(&[1.0], 1), run(&[1.0], 2));
        new.report["environment"]["onnxruntime"] = "1.25.0".into();
        new.report["complete"] = false.into();
        new.report["checks"][0]["state"] = "warning".into();
        let found = compare(&old, &new).unwrap();
        assert_eq!(
            found.told,
            [
                "ONNX Runtime: 1.24.1 in the old run, 1.25.0 in the new one",
                "the new run is incomplete",
                "the new run: well",
            ]
        );
        let lines = found.parts().into_iter();
        let lines = lines.filter(|part| matches!(part, Told::Line(_)));
        assert_eq!(lines.count(), 3);
    }

    #[test]
    fn a_version_that_fails_more_in_the_new_run_is_not_faster() {
        let (old, mut new) = (run(&[1.0], 1), run(&[2.0], 2));
        for block in &mut new.levels[0].versions[0].blocks {
            (block.failures, block.endless) = (30, 30);
        }
        let found = compare(&old, &new).unwrap();
        assert_eq!(found.outcome, Outcome::FailsMore, "{}", found.words);
        let metrics = &found.levels[0].versions[0].metrics;
        assert!(
            metrics
                .iter()
                .all(|one| one.outcome != Outcome::Faster || one.metric == Metric::Cpu)
        );
    }

    #[test]
    fn runs_of_the_same_versions_differ_in_one_of_twenty_at_most() {
        // By throughput alone: percentiles are resampled, and simulated beside their tests.
        let changes = (0..200).filter(|seed| {
            let (old, new) = (run(&[1.0, 1.3], 2 * seed), run(&[1.1, 1.43], 2 * seed + 1));
            let levels = (&old.levels[0], &new.levels[0]);
            let found = changed_beside(Metric::Throughput, levels, (1, 1), 0.95).unwrap();
            outcome(Metric::Throughput, found.estimate) != Outcome::NoEvidence
        });
        // 10, and three standard deviations of 3.1.
        let changes = changes.count();
        assert!(changes <= 19, "{changes}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn swapping_the_runs_mirrors_the_outcome(speed in 0.7_f64..1.4) {
            let (old, new) = (run(&[1.0], 1), run(&[speed], 2));
            let there = compare(&old, &new).unwrap().outcome;
            let back = compare(&new, &old).unwrap().outcome;
            let mirrored = match there {
                Outcome::Faster => Outcome::Slower,
                Outcome::Slower => Outcome::Faster,
                other => other,
            };
            prop_assert_eq!(back, mirrored);
        }
    }
}

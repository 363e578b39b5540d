//! A report in the order in which it is read, as lines, facts and tables: what text and the page share. Pure.
//!
//! Not here: how either writes it (`cli`, `page`).

use serde_json::Value;

use crate::bench::numbers::{
    UNKNOWN, bare, count, fixed, percent, percent_estimate, plain, rate, ratio, ratio_with, short,
    short_or_unknown,
};
use crate::bench::report::{
    CheckState, Comparison, Environment, Figures, GateReport, InputTimes, Level, Outcome, Report,
    Scenario, Setup, Version, VersionAnswers,
};
use crate::bench::sentence::{answers_words, metric_words, outcome_words, outward, slo_words};
use crate::bench::slo::{SloReport, Sustained};
use crate::evidence::{Difference, Estimate};

/// Digits of a SHA-256 that tell models apart.
const SHA_DIGITS: usize = 12;

/// A part of a report under its own title.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its subject.
    pub(crate) kind: Kind,
    /// Its content.
    pub(crate) parts: Vec<Part>,
}

/// The subject of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Versions,
    Comparison,
    Answers,
    Inputs,
    Slo,
    Gates,
    Checks,
    Setup,
    Environment,
}

impl Kind {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Versions => "Versions",
            Self::Comparison => "Comparison",
            Self::Answers => "Answers",
            Self::Inputs => "Inputs",
            Self::Slo => "Highest rate",
            Self::Gates => "Conditions",
            Self::Checks => "Checks",
            Self::Setup => "Setup",
            Self::Environment => "Environment",
        }
    }
}

/// Something to write.
#[derive(Debug)]
pub(crate) enum Part {
    /// A sentence.
    Line(String),
    /// Names and what they stand for.
    Facts(Vec<(String, String)>),
    /// Rows.
    Table(Table),
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    /// The headings.
    pub(crate) head: Vec<Column>,
    /// As many cells each as there are headings.
    pub(crate) rows: Vec<Vec<String>>,
}

/// A heading, and on which side its cells stand.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) numbers: bool,
}

pub(super) fn words_column(name: impl Into<String>) -> Column {
    Column {
        name: name.into(),
        numbers: false,
    }
}

pub(super) fn numbers_column(name: impl Into<String>) -> Column {
    Column {
        name: name.into(),
        numbers: true,
    }
}

/// The words above all else: that the report is not whole.
pub(crate) fn mark(report: &Report) -> Option<&'static str> {
    if report.interrupted {
        Some("incomplete: interrupted")
    } else if report.complete {
        None
    } else {
        Some("incomplete: not all that was planned was measured")
    }
}

/// Everything below the verdict.
pub(crate) fn outline(report: &Report) -> Vec<Section> {
    let some = |kind, parts: Vec<Part>| (!parts.is_empty()).then_some(Section { kind, parts });
    let answers = report.answers.iter();
    let slo = report.slo.as_ref();
    [
        some(Kind::Versions, versions(report)),
        some(Kind::Comparison, comparison(report)),
        some(
            Kind::Answers,
            answers.flat_map(|one| answers_parts(one, report)).collect(),
        ),
        some(Kind::Inputs, inputs(report)),
        some(
            Kind::Slo,
            slo.map_or_else(Vec::new, |slo| slo_parts(slo, report)),
        ),
        some(Kind::Gates, gates(report)),
        some(Kind::Checks, checks(report)),
        some(Kind::Setup, setup(report)),
        some(
            Kind::Environment,
            vec![Part::Facts(environment(
                &report.environment,
                report.elapsed_s,
            ))],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The way in which requests arrived, in the words of MLPerf where it has some.
pub(super) fn scenario_words(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Closed => "closed loop",
        Scenario::Constant => "constant rate",
        Scenario::SingleStream => "single stream",
        Scenario::MultiStream => "multi-stream",
        Scenario::Server => "server (independent arrivals)",
        Scenario::Offline => "offline (all at once)",
    }
}

/// Puts the load before the row, where there are several.
fn with_load(swept: bool, level: &Level, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    let load = swept.then(|| level.name.clone());
    load.into_iter().chain(cells).collect()
}

fn load_column(swept: bool, rest: Vec<Column>) -> Vec<Column> {
    let load = swept.then(|| words_column("load"));
    load.into_iter().chain(rest).collect()
}

fn swept(report: &Report) -> bool {
    report.levels.len() > 1
}

fn versions(report: &Report) -> Vec<Part> {
    if report.levels.iter().all(|level| level.figures.is_empty()) {
        return Vec::new();
    }
    let work = [
        "requests",
        "failed",
        "answers/s",
        "CPU s/1000",
        "RSS MB",
        "queue ms",
        "compute ms",
    ];
    let latency = ["mean ms", "p50", "p90", "p95", "p99", "p99.9", "max"];
    vec![
        per_version(report, &work, work_cells),
        per_version(report, &latency, latency_cells),
    ]
}

/// A table with a row for each load and version.
fn per_version(report: &Report, names: &[&str], cells: fn(&Figures) -> Vec<String>) -> Part {
    let swept = swept(report);
    let mut head = vec![words_column("version")];
    head.extend(names.iter().map(|name| numbers_column(*name)));
    let rows_of = |level: &Level| -> Vec<Vec<String>> {
        let of_each = report.versions.iter().zip(&level.figures);
        of_each
            .map(|(version, figures)| {
                let label = [version.label.clone()].into_iter();
                with_load(swept, level, label.chain(cells(figures)))
            })
            .collect()
    };
    Part::Table(Table {
        head: load_column(swept, head),
        rows: report.levels.iter().flat_map(rows_of).collect(),
    })
}

fn work_cells(figures: &Figures) -> Vec<String> {
    let failed = match figures.refused {
        0 => count(figures.failures),
        refused => format!("{} ({} by 429)", count(figures.failures), count(refused)),
    };
    vec![
        count(figures.requests),
        failed,
        rate(figures.throughput_per_s),
        short_or_unknown(figures.cpu_s_per_1000),
        short_or_unknown(figures.peak_rss_mb),
        short_or_unknown(figures.queue_ms),
        short_or_unknown(figures.compute_ms),
    ]
}

fn latency_cells(figures: &Figures) -> Vec<String> {
    [
        figures.mean_ms,
        figures.p50_ms,
        figures.p90_ms,
        figures.p95_ms,
        figures.p99_ms,
        figures.p999_ms,
        figures.max_ms,
    ]
    .map(short)
    .into()
}

/// Whether more than one version is compared with the baseline.
pub(super) fn has_several(report: &Report) -> bool {
    report.versions.len() > 2
}

/// Puts the label of a version before the cells, where there are several.
fn with_version(report: &Report, version: usize, cells: Vec<String>) -> Vec<String> {
    let label = has_several(report).then(|| report.versions[version].label.clone());
    label.into_iter().chain(cells).collect()
}

fn comparison_head(report: &Report, base: &str, bootstrapped: bool) -> Vec<Column> {
    let others = &report.versions[1..];
    let ratio = match others {
        [other] => format!("{} / {base}", other.label),
        _ => format!("by that of {base}"),
    };
    let mut head = vec![
        words_column("metric"),
        numbers_column(ratio),
        words_column("outcome"),
        numbers_column("could have seen"),
        numbers_column("pairs"),
    ];
    if others.len() > 1 {
        head.insert(0, words_column("version"));
    }
    if bootstrapped {
        head.push(numbers_column("bootstrap"));
    }
    head
}

fn comparison(report: &Report) -> Vec<Part> {
    let [base, _, ..] = report.versions.as_slice() else {
        return Vec::new();
    };
    let swept = swept(report);
    let all = || report.levels.iter().flat_map(|level| &level.comparisons);
    let bootstrapped = all().any(|one| one.ratio.bootstrap.is_some());
    let row = |one: &Comparison| {
        let mut cells = vec![
            metric_words(one.metric).to_owned(),
            ratio(one.ratio.estimate),
            told_outcome(one),
            one.ratio.detectable.map_or_else(unknown, percent),
            one.ratio.pairs.to_string(),
        ];
        if bootstrapped {
            cells.push(one.ratio.bootstrap.map_or_else(unknown, bootstrap_words));
        }
        cells
    };
    let of_version = |level: &Level, version: usize| -> Vec<Vec<String>> {
        let rows = level.of(version).map(row);
        rows.chain(failures_cells(level, version, bootstrapped))
            .map(|cells| with_load(swept, level, with_version(report, version, cells)))
            .collect()
    };
    let rows_of = |level: &Level| -> Vec<Vec<String>> {
        let others = 1..report.versions.len();
        others
            .flat_map(|version| of_version(level, version))
            .collect()
    };
    let table = all().next().is_some().then(|| {
        Part::Table(Table {
            head: load_column(swept, comparison_head(report, &base.label, bootstrapped)),
            rows: report.levels.iter().flat_map(rows_of).collect(),
        })
    });
    let noise = report.levels.iter().filter_map(|level| {
        let with = if swept {
            format!(" under {}", level.name)
        } else {
            String::new()
        };
        Some(Part::Line(noise_words(
            level.noise.as_ref()?,
            &base.label,
            &with,
        )))
    });
    table.into_iter().chain(noise).collect()
}

/// The outcome with its factor as the headline says it, `1.07x slower` beside a ratio of 0.93; the interval is that of the row.
fn told_outcome(comparison: &Comparison) -> String {
    let words = outcome_words(comparison.outcome, comparison.metric);
    let told = ratio_with(outward(comparison), words);
    match (comparison.outcome, told.split_once(" [")) {
        (Outcome::Faster | Outcome::Slower, Some((factor, _))) => factor.to_owned(),
        _ => words.to_owned(),
    }
}

/// The row of failures: a difference of shares, for where none fails there is no ratio.
fn failures_cells(level: &Level, version: usize, bootstrapped: bool) -> Option<Vec<String>> {
    let mut cells = vec![
        "failures".to_owned(),
        points(level.failures.difference(version)?),
        level.failures.outcome_words(version).to_owned(),
        unknown(),
        unknown(),
    ];
    cells.extend(bootstrapped.then(unknown));
    Some(cells)
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}

fn bootstrap_words((low, high): (f64, f64)) -> String {
    format!("[{low:.3}, {high:.3}]")
}

/// A difference of shares: `+1.20 % [0.80, 1.60]`.
fn points(difference: Estimate) -> String {
    let sign = if difference.point > 0.0 { "+" } else { "" };
    format!("{sign}{}", percent_estimate(difference))
}

/// The ratio that the machine makes of no difference, in words.
pub(super) fn noise_words(noise: &Comparison, base: &str, with: &str) -> String {
    format!(
        "noise floor{with}: {base} against itself {} ({}, {} pairs)",
        ratio(noise.ratio.estimate),
        metric_words(noise.metric),
        noise.ratio.pairs
    )
}

fn answers_parts(found: &VersionAnswers, report: &Report) -> Vec<Part> {
    let answers = &found.answers;
    let label = &report.versions[found.version].label;
    let mut facts = vec![("agreement".to_owned(), percent_estimate(answers.agreement))];
    if let Some(top1) = answers.top1 {
        facts.push(("same largest number".to_owned(), percent_estimate(top1)));
    }
    facts.push((
        "largest difference".to_owned(),
        format!(
            "{}, {} of the value",
            power(answers.max_absolute),
            power(answers.max_relative)
        ),
    ));
    if answers.of_other_form > 0 {
        facts.push((
            "of another form".to_owned(),
            answers.of_other_form.to_string(),
        ));
    }
    let line = match has_several(report) {
        true => format!("{label}: {}", answers_words(answers)),
        false => answers_words(answers),
    };
    let mut parts = vec![Part::Line(line), Part::Facts(facts)];
    if !answers.worst.is_empty() {
        parts.push(Part::Table(worst(&answers.worst, found.version, report)));
    }
    parts
}

fn worst(worst: &[Difference], version: usize, report: &Report) -> Table {
    let label = |at: usize| report.versions[at].label.clone();
    let row = |one: &Difference| {
        vec![
            one.input.to_string(),
            one.path.clone(),
            one.base.clone(),
            one.other.clone(),
            one.difference
                .map_or_else(unknown, |difference| format!("{difference:.1e}")),
        ]
    };
    Table {
        head: vec![
            numbers_column("input"),
            words_column("where"),
            words_column(label(0)),
            words_column(label(version)),
            numbers_column("difference"),
        ],
        rows: worst.iter().map(row).collect(),
    }
}

/// How many were loaded, the slowest, and those on which versions differ most.
fn inputs(report: &Report) -> Vec<Part> {
    let swept = swept(report);
    let with = |level: &Level| match swept {
        true => format!(" under {}", level.name),
        false => String::new(),
    };
    let lines = report.levels.iter().map(|level| {
        let found = &level.inputs;
        Part::Line(format!(
            "loaded with {} of {} different inputs{}",
            found.loaded,
            found.different,
            with(level)
        ))
    });
    let row = |level: &Level, why: &str, one: &InputTimes| {
        let means = one.mean_ms.iter().map(|ms| short_or_unknown(*ms));
        let cells = [one.input.to_string()].into_iter().chain(means);
        with_load(swept, level, cells.chain([why.to_owned()]))
    };
    let mut rows = Vec::new();
    // Where there is but one, it is the slowest.
    for level in report
        .levels
        .iter()
        .filter(|level| level.inputs.different > 1)
    {
        let slowest = level.inputs.slowest.iter();
        rows.extend(slowest.map(|one| row(level, "slowest", one)));
        let apart = level.inputs.apart.iter();
        rows.extend(apart.map(|one| row(level, "differs most", one)));
    }
    let mut head = vec![numbers_column("input")];
    let labels = report.versions.iter().map(|version| &version.label);
    head.extend(labels.map(|label| numbers_column(format!("{label} mean ms"))));
    head.push(words_column("why"));
    let table = (!rows.is_empty()).then(|| {
        Part::Table(Table {
            head: load_column(swept, head),
            rows,
        })
    });
    lines.chain(table).collect()
}

fn slo_parts(slo: &SloReport, report: &Report) -> Vec<Part> {
    let per_s = |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{}/s", short(rate)));
    let row = |(version, found): (&Version, &Sustained)| {
        let confirmed = if found.confirmed { "yes" } else { "no" };
        vec![
            version.label.clone(),
            per_s(found.passed_per_s),
            per_s(found.failed_per_s),
            confirmed.to_owned(),
            found.probes.len().to_string(),
            found.ended.clone(),
        ]
    };
    vec![
        Part::Line(format!(
            "the highest rate that keeps {} lies between the two",
            slo_words(slo.slo)
        )),
        Part::Table(Table {
            head: vec![
                words_column("version"),
                numbers_column("kept"),
                numbers_column("not kept"),
                words_column("confirmed"),
                numbers_column("tries"),
                words_column("why it ended"),
            ],
            rows: report.versions.iter().zip(&slo.versions).map(row).collect(),
        }),
    ]
}

fn gates(report: &Report) -> Vec<Part> {
    if report.gates.is_empty() {
        return Vec::new();
    }
    let row = |gate: &GateReport| {
        let found = gate.found.map_or_else(unknown, bare);
        let cells = vec![gate.state.words().to_owned(), gate.condition.clone(), found];
        with_version(report, gate.version, cells)
    };
    let version = has_several(report).then(|| words_column("version"));
    let head = [
        words_column("state"),
        words_column("fails if"),
        numbers_column("found"),
    ];
    vec![Part::Table(Table {
        head: version.into_iter().chain(head).collect(),
        rows: report.gates.iter().map(row).collect(),
    })]
}

fn checks(report: &Report) -> Vec<Part> {
    let line =
        |state: &str, name: &str, words: &str| Part::Line(format!("{state}: {name}: {words}"));
    let mut parts: Vec<Part> = report
        .checks
        .iter()
        .filter_map(|check| match check.state {
            CheckState::Ok => None,
            CheckState::Warning => Some(line("warning", check.name, &check.words)),
            CheckState::Invalid => Some(line("invalid", check.name, &check.words)),
        })
        .collect();
    if parts.is_empty() && !report.checks.is_empty() {
        let names: Vec<&str> = report.checks.iter().map(|check| check.name).collect();
        parts.push(Part::Line(format!("all is well: {}", names.join(", "))));
    }
    parts
}

fn fact(name: impl Into<String>, words: impl Into<String>) -> (String, String) {
    (name.into(), words.into())
}

fn setup(report: &Report) -> Vec<Part> {
    let versions = report.versions.iter().flat_map(version_facts);
    let facts = setup_facts(&report.setup, report.versions.len());
    vec![Part::Facts(versions.chain(facts).collect())]
}

fn version_facts(version: &Version) -> Vec<(String, String)> {
    let label = &version.label;
    let mut facts = vec![fact(label, format!("{} at {}", version.what, version.url))];
    if let Some(sha) = &version.model_sha256 {
        let start = sha.get(..SHA_DIGITS).unwrap_or(sha);
        facts.push(fact(format!("{label} model"), format!("SHA-256 {start}")));
    }
    if let Some(settings) = &version.settings {
        facts.push(fact(format!("{label} settings"), settings_words(settings)));
    }
    facts
}

/// `instance_count 2, instance_type Standard_F2s_v2`.
fn settings_words(settings: &Value) -> String {
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    };
    match settings {
        Value::Object(fields) => fields.iter().map(one).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn setup_facts(setup: &Setup, versions: usize) -> Vec<(String, String)> {
    let order = match versions {
        0 | 1 => "",
        2 => " in pairs of random order,",
        _ => " in rounds of random order,",
    };
    let intervals = match versions {
        0..=2 => format!("{} confidence", percent(setup.confidence)),
        _ => format!(
            "{} confidence for all versions together, {} each (Bonferroni)",
            percent(setup.confidence),
            percent(setup.confidence_each)
        ),
    };
    let mut facts = vec![
        fact(
            "scenario",
            format!(
                "{}, {} first",
                scenario_words(setup.scenario),
                metric_words(setup.primary)
            ),
        ),
        fact(
            "inputs",
            format!("{} ({} different)", setup.inputs, setup.inputs_count),
        ),
        fact(
            "blocks",
            match setup.block_s {
                Some(block_s) => format!("{} s each,{order} seed {}", short(block_s), setup.seed),
                None => format!("as long as a decision takes, seed {}", setup.seed),
            },
        ),
        fact("intervals", intervals),
    ];
    if setup.requests_per_query > 1 {
        let requests = setup.requests_per_query;
        facts.push(fact("query", format!("{requests} requests")));
    }
    if let Some(half_width) = setup.target_half_width {
        facts.push(fact(
            "target",
            format!("the ratio to within {}", percent(half_width)),
        ));
    }
    if let Some(difference) = setup.min_difference {
        facts.push(fact("the same", format!("within {}", percent(difference))));
    }
    facts.push(fact("timeout", format!("{} ms", plain(setup.timeout_ms))));
    facts
}

fn environment(environment: &Environment, elapsed_s: f64) -> Vec<(String, String)> {
    let load = |load: Option<f64>| load.map_or_else(unknown, |load| fixed(load, 2));
    let governor = environment.governor.as_ref();
    let governor = governor.map_or_else(String::new, |governor| format!(", governor {governor}"));
    let runtime = environment.onnxruntime.as_ref();
    let runtime = runtime.map_or_else(String::new, |version| format!(", ONNX Runtime {version}"));
    vec![
        fact(
            "run",
            format!("{}, {} s", environment.started, short(elapsed_s)),
        ),
        fact(
            "machine",
            format!(
                "{}, {} cores{governor}",
                environment.processor, environment.cores
            ),
        ),
        fact(
            "software",
            format!(
                "serin {}{runtime}, {}",
                environment.serin, environment.system
            ),
        ),
        fact(
            "others",
            format!(
                "load average {} before, {} after; {} of the processor time stolen, {} used by other processes",
                load(environment.load_before),
                load(environment.load_after),
                percent(environment.stolen),
                percent(environment.others)
            ),
        ),
    ]
}

/// A difference by its order of magnitude: `3.1e-5`; none is `0`.
fn power(value: f64) -> String {
    if value.abs() < f64::MIN_POSITIVE {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Check, Metric};
    use crate::bench::sample;

    fn lines(parts: &[Part]) -> Vec<&str> {
        let parts = parts.iter();
        parts
            .filter_map(|part| match part {
                Part::Line(line) => Some(line.as_str()),
                Part::Facts(_) | Part::Table(_) => None,
            })
            .collect()
    }

    #[test]
    fn every_row_has_as_many_cells_as_there_are_headings() {
        for report in [
            sample::report(),
            sample::alone(),
            sample::sweep(),
            sample::three(),
        ] {
            for section in outline(&report) {
                for part in section.parts {
                    if let Part::Table(table) = part {
                        assert!(!table.rows.is_empty());
                        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
                    }
                }
            }
        }
    }

    #[test]
    fn one_version_is_compared_with_nothing() {
        let kinds: Vec<Kind> = outline(&sample::alone())
            .iter()
            .map(|section| section.kind)
            .collect();
        assert_eq!(
            kinds,
            [
                Kind::Versions,
                Kind::Inputs,
                Kind::Checks,
                Kind::Setup,
                Kind::Environment
            ]
        );
    }

    #[test]
    fn only_checks_that_matter_are_told_in_full() {
        let mut report = sample::report();
        assert_eq!(
            lines(&checks(&report)),
            ["all is well: generator, steal, drift"]
        );
        report.checks.push(Check {
            name: "load",
            state: CheckState::Warning,
            words: "1.2 before it began".to_owned(),
        });
        assert_eq!(
            lines(&checks(&report)),
            ["warning: load: 1.2 before it began"]
        );
    }

    #[test]
    fn the_noise_floor_is_told_for_each_load() {
        assert_eq!(
            lines(&comparison(&sample::report())),
            ["noise floor: blue against itself 1.001x [0.995, 1.007] (throughput, 5 pairs)"]
        );
        assert_eq!(lines(&comparison(&sample::sweep())).len(), 3);
    }

    #[test]
    fn a_ratio_without_an_interval_is_too_little_to_say() {
        let mut report = sample::report();
        let mut bare = sample::comparison(Metric::Mean, [1.7, 1.0, 1.0], Outcome::NoEvidence);
        bare.ratio.estimate.low = None;
        report.levels[0].comparisons = vec![bare];
        let Part::Table(table) = &comparison(&report)[0] else {
            panic!("a table first");
        };
        assert_eq!(table.rows[0][1], "too little to say");
    }
}

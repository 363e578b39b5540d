//! The findings of a benchmark: plain data, with nothing computed that a reader of the JSON could not check.
//!
//! Times are in milliseconds and rates in a second wherever a field ends with `_ms` or `_per_s`.
//!
//! Not here: how it is measured (`run`), statistics (`stats`), words and pictures (`outline`, `page`, `plots`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::samples::SavedBlock;
use crate::bench::slo::SloReport;
use crate::evidence::{Answers, Estimate, Ratio};
use crate::load::Summary;

/// Version of the form of the JSON. 2: `confirmed` of a search is a boolean, `took_s` of its tries, `same_within` of comparisons,
/// `min_difference` of the setup, the outcomes `same` and, of a comparison, `invalid`. 3: more than two versions: `version` of comparisons,
/// gates and answers, of which there is a list; `differences` of failures; `confidence_each` and `inputs_sha256` of the setup; `outcomes` of the verdict.
pub const SCHEMA: u32 = 3;

/// Versions that are compared in one run, at most: the baseline and seven others.
pub const VERSIONS_MAX: usize = 8;

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Everything that was planned was measured.
    pub complete: bool,
    /// It was ended by Ctrl-C.
    pub interrupted: bool,
    /// The time that it took in all.
    pub elapsed_s: f64,
    /// The way in which it was measured.
    pub setup: Setup,
    /// Where.
    pub environment: Environment,
    /// What: one version, or the baseline and the others.
    pub versions: Vec<Version>,
    /// The findings under each load, by rising load; one unless a sweep was asked for.
    pub levels: Vec<Level>,
    /// The highest rate that keeps the latency that was asked for.
    pub slo: Option<SloReport>,
    /// Whether the others say the same as the baseline; empty where they are asked something else.
    pub answers: Vec<VersionAnswers>,
    /// Whether the generator and the machine can be trusted.
    pub checks: Vec<Check>,
    /// The conclusion.
    pub verdict: Verdict,
    /// The conditions of `--fail-if`.
    pub gates: Vec<GateReport>,
}

/// The requests, their times, and how they are judged.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// In the names of MLPerf where it has one.
    pub scenario: Scenario,
    /// The metric that is compared first.
    pub primary: Metric,
    /// Of schedules, of the order within pairs, of inputs that are made.
    pub seed: u64,
    /// Where the requests come from, in words.
    pub inputs: String,
    /// Different requests, of the baseline.
    pub inputs_count: usize,
    /// SHA-256 of all requests of the baseline, each after its length.
    pub inputs_sha256: String,
    /// Requests of one query: more than one in multi-stream.
    pub requests_per_query: u32,
    /// Of all intervals of a metric together: 0.95.
    pub confidence: f64,
    /// Of each: more where several versions are compared with the baseline.
    pub confidence_each: f64,
    /// Length of one block, where there are any.
    pub block_s: Option<f64>,
    /// Half-width of the ratio that was asked for, if any: 0.01 is one per cent.
    pub target_half_width: Option<f64>,
    /// The difference below which versions are the same, if any was named: 0.01 is one per cent.
    pub min_difference: Option<f64>,
    /// Longest that one request may take.
    pub timeout_ms: f64,
}

/// The way in which requests arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The next request of a connection as soon as the last is answered; throughput is judged.
    Closed,
    /// At a constant rate, whatever the server does; latency from the scheduled time is judged.
    Constant,
    /// One request at a time; p90 latency is judged (MLPerf SingleStream).
    SingleStream,
    /// Eight requests at a time; the p99 of the time until all are answered is judged (MLPerf MultiStream).
    MultiStream,
    /// Independent arrivals at a rate; p99 latency from the scheduled time is judged (MLPerf Server).
    Server,
    /// All at once; throughput is judged (MLPerf Offline).
    Offline,
}

/// A metric that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Answers a second; more is better.
    Throughput,
    /// Mean latency; less is better, as of all that follow.
    Mean,
    /// Median latency.
    P50,
    /// 90 % are not slower.
    P90,
    /// 99 % are not slower.
    P99,
    /// Processor time of the server for one answer.
    Cpu,
}

/// The machine, and who else used it.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The time when it began, RFC 3339.
    pub started: String,
    /// Version of serin.
    pub serin: String,
    /// System and kernel.
    pub system: String,
    /// Model of the processor.
    pub processor: String,
    /// Logical cores that this process may use.
    pub cores: usize,
    /// Frequency governor, where there is one.
    pub governor: Option<String>,
    /// Load average of the last minute before it began.
    pub load_before: Option<f64>,
    /// And when it ended.
    pub load_after: Option<f64>,
    /// Share of processor time that other guests of the host took: 0 to 1.
    pub stolen: f64,
    /// Share of processor time that other processes used: 0 to 1.
    pub others: f64,
    /// Version of ONNX Runtime, where the server is ours.
    pub onnxruntime: Option<String>,
}

/// One version that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// Short, and different from the other's: `blue`, `v1.onnx`.
    pub label: String,
    /// The deployment, the file or the address, in full.
    pub what: String,
    /// SHA-256 of the model, where it is known.
    pub model_sha256: Option<String>,
    /// Where requests went.
    pub url: String,
    /// Instance type, count and request settings, where they are known.
    pub settings: Option<Value>,
}

/// The answers of a version beside those of the baseline.
#[derive(Debug, Clone, Serialize)]
pub struct VersionAnswers {
    /// Index of the version.
    pub version: usize,
    /// What is found.
    #[serde(flatten)]
    pub answers: Answers,
}

/// The findings under one load.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    /// In words: `8 connections`, `2000 requests/s`.
    pub name: String,
    /// The number of it, for an axis.
    pub load: f64,
    /// Each version by itself, in their order. Warm-up is left out.
    pub figures: Vec<Figures>,
    /// The baseline against itself: what this machine makes of no difference. By the primary metric.
    pub noise: Option<Comparison>,
    /// The other versions against the baseline, one after another, the primary metric of each first; empty with one version.
    pub comparisons: Vec<Comparison>,
    /// Requests that failed, of each version and beside each other.
    pub failures: Failures,
    /// The inputs that were loaded.
    pub inputs: LoadedInputs,
    /// All that was measured, in order.
    pub blocks: Vec<Block>,
    /// Of each version the blocks that count, with all their latencies.
    #[serde(skip)]
    pub(super) samples: Arc<[Vec<SavedBlock>]>,
}

impl Comparison {
    /// Takes both for the same within this difference. What failures have decided stands: a version that fails more is not the same.
    pub(super) fn hold_for_same(&mut self, difference: Option<f64>) {
        let is_open = matches!(
            self.outcome,
            Outcome::Faster | Outcome::Slower | Outcome::NoEvidence
        );
        if let Some(difference) = difference.filter(|_| is_open) {
            self.outcome = Outcome::Same;
            self.same_within = Some(difference);
        }
    }
}

impl Level {
    /// The comparisons of a version with the baseline.
    pub(super) fn of(&self, version: usize) -> impl Iterator<Item = &Comparison> {
        let own = self.comparisons.iter();
        own.filter(move |one| one.version == version)
    }

    /// The primary metric of a version.
    pub(super) fn primary(&self, version: usize) -> Option<&Comparison> {
        self.of(version).next()
    }

    /// Takes back every winner: what was measured says nothing.
    pub(super) fn claims_nothing(&mut self) {
        for comparison in &mut self.comparisons {
            comparison.outcome = Outcome::Invalid;
            comparison.same_within = None;
        }
    }
}

/// Requests that failed under a load.
#[derive(Debug, Clone, Serialize)]
pub struct Failures {
    /// Of each version the share of its requests that had no answer with 2xx, 0 to 1 (Clopper and Pearson).
    pub shares: Vec<Estimate>,
    /// Of each version the share of latencies that count and have no end; in multi-stream those of whole queries.
    #[serde(skip)]
    pub(super) endless: Vec<Estimate>,
    /// Of each other version its share less the baseline's (Newcombe 1998, method 10).
    pub differences: Vec<Estimate>,
}

/// The inputs that were loaded under a load.
#[derive(Debug, Clone, Serialize)]
pub struct LoadedInputs {
    /// Different inputs that every version was loaded with.
    pub loaded: usize,
    /// Different inputs that there are.
    pub different: usize,
    /// Those that take a version longest, the slowest first.
    pub slowest: Vec<InputTimes>,
    /// Those on which the mean latency of a version differs most from the baseline's, by their ratio.
    pub apart: Vec<InputTimes>,
}

/// The latency of one input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputTimes {
    /// Number of the input, from 0.
    pub input: usize,
    /// Mean of its answers, of each version; none without an answer.
    pub mean_ms: Vec<Option<f64>>,
}

/// The figures of one version, all its blocks together.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Requests, or queries where one has several requests.
    pub requests: u64,
    /// Requests that were sent, each one of a query.
    pub sent: u64,
    /// Of them, at any time of a block, without an answer, or with one that is no 2xx. Latencies are of answers; a quantile that failures reach has no end.
    pub failures: u64,
    /// Of the failures those that the server refused with 429.
    pub refused: u64,
    /// Answers a second over all blocks, with its interval.
    pub throughput_per_s: Estimate,
    /// Mean latency.
    pub mean_ms: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 90 % are not slower.
    pub p90_ms: f64,
    /// 95 % are not slower.
    pub p95_ms: f64,
    /// 99 % are not slower.
    pub p99_ms: f64,
    /// 99.9 % are not slower.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Processor time of the server for 1,000 answers, in seconds, where the server is a process of this machine.
    pub cpu_s_per_1000: Option<f64>,
    /// Most memory that the server had resident, in MB.
    pub peak_rss_mb: Option<f64>,
    /// Mean time in the server's queue, by its own account.
    pub queue_ms: Option<f64>,
    /// Mean time that the model ran, by the server's own account.
    pub compute_ms: Option<f64>,
    /// All latencies.
    #[serde(skip)]
    pub latencies: Summary,
}

/// One metric of a version and the baseline.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Index of the version, from 1; of the baseline against itself 0.
    pub version: usize,
    /// Which.
    pub metric: Metric,
    /// The other version's value by the baseline's.
    pub ratio: Ratio,
    /// The outcome.
    pub outcome: Outcome,
    /// The difference within which the versions are proven to be the same; none where they are not, or none was named.
    pub same_within: Option<f64>,
}

/// The outcome that an interval stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The other version is better than the baseline.
    Faster,
    /// It is worse.
    Slower,
    /// Both are proven to be the same within the difference that was named.
    Same,
    /// The interval holds 1, or there is no interval.
    NoEvidence,
    /// The baseline differed from itself, so that no winner is named.
    Withheld,
    /// The version that is better by the numbers is proven to fail more often, so that no winner is named.
    FailsMore,
    /// Several versions come to different outcomes.
    Mixed,
    /// One version: there is nothing to compare with.
    Alone,
    /// The run says nothing: see the checks.
    Invalid,
}

/// One stretch of load on one version.
#[derive(Debug, Clone, Serialize)]
pub struct Block {
    /// The phase of the run.
    pub phase: Phase,
    /// Number of its pair within the phase, from 0.
    pub pair: u32,
    /// Index of the version.
    pub version: usize,
    /// The time when it began, from the start of the run.
    pub start_s: f64,
    /// The time of it that counts: in a closed loop the mean over the connections, in whole cycles of a request and its answer.
    pub elapsed_s: f64,
    /// Requests that count and were answered with 2xx.
    pub answers: u64,
    /// Those that were not.
    pub failures: u64,
    /// Answers a second: in an open loop those that came in the time that counts.
    pub throughput_per_s: f64,
    /// Mean latency.
    pub mean_ms: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 90 % are not slower.
    pub p90_ms: f64,
    /// 99 % are not slower.
    pub p99_ms: f64,
    /// Processor time of the server, in seconds, where it is known.
    pub cpu_s: Option<f64>,
    /// The lateness of the generator at its 99th percentile, in an open loop.
    pub slip_p99_ms: Option<f64>,
}

/// The phase of a run that a block belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Until the server does not get faster any more; not in the figures.
    WarmUp,
    /// The baseline against itself.
    Noise,
    /// One version against the other.
    Pair,
}

/// Something that must hold for the numbers to mean what they say.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Of what.
    pub name: &'static str,
    /// The outcome.
    pub state: CheckState,
    /// The finding, and what to do.
    pub words: String,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// Well.
    Ok,
    /// The numbers stand, but should be read with care.
    Warning,
    /// The numbers say nothing.
    Invalid,
}

/// The conclusion.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// In one word, by the primary metric.
    pub outcome: Outcome,
    /// Of each version that was compared with the baseline; empty where the run says nothing.
    pub outcomes: Vec<Outcome>,
    /// In a sentence: `green is 1.31x faster than blue [1.28, 1.34]; 0 of 4096 answers differ beyond 1e-4`.
    pub words: String,
}

/// The outcome of a condition.
#[derive(Debug, Clone, Serialize)]
pub struct GateReport {
    /// As it was written.
    pub condition: String,
    /// Index of the version that it was judged of.
    pub version: usize,
    /// The estimate of its metric.
    pub found: Option<Estimate>,
    /// The outcome.
    pub state: GateState,
}

/// Whether a condition holds, by the bound of the interval. The worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// The whole interval is on the good side.
    Passed,
    /// The interval holds the limit, or there is none.
    Undecided,
    /// The whole interval is on the bad side: a regression is proven.
    Failed,
}

impl GateState {
    /// The outcome in a word.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Undecided => "undecided",
        }
    }
}

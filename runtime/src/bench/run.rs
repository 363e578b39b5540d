//! Spends a time budget: answers first, then warm-up, then the baseline against itself, then pairs in random order.
//!
//! Threads: [`Bench::run`] blocks its caller; each block has a thread that generates its load.
//! Not here: how one block is measured (`block`), what the numbers say (`crate::evidence`, `figures`, `checks`), words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::bench::block::{Asked, Blocks, Broken, LoadPoint, whole_rate};
use crate::bench::checks::{alive_check, inputs_check, search_checks, sweep_checks};
use crate::bench::deck::{Dealt, Deck};
use crate::bench::environment::Before;
use crate::bench::figures::{
    CONFIDENCE, Done, comparison, confidence_of, figures, is_same, noise_pairs, pairs, ratio,
};
use crate::bench::gate::{Condition, GateMetric, unanswerable};
use crate::bench::ledger::{Ledger, loaded};
use crate::bench::report::{
    Block, Comparison, Failures, GateReport, GateState, Level, Metric, Outcome, Phase, Report,
    SCHEMA, Scenario, Setup, Verdict, VersionAnswers,
};
use crate::bench::samples::SavedBlock;
use crate::bench::saved::inputs_sha256;
use crate::bench::seen::Measured;
use crate::bench::sentence::{self, Evidence};
use crate::bench::slo::SloReport;
use crate::bench::subject::Stages;
use crate::bench::sustain::sustain;
use crate::bench::task::{Bench, BenchError, Progress};
use crate::bench::warmup::{WARM_UP_REQUESTS_MIN, is_steady};
use crate::budget::{Budget, Over};
use crate::evidence::{Estimate, Looks, Ratio, Slo, compare, orders};
use crate::load::Summary;

/// Pairs of the baseline with itself.
const NOISE_PAIRS: u32 = 5;
/// Pairs that a budget is made for.
const PAIRS_AIM: u32 = 15;
/// Pairs that must fit, whatever the blocks need, those of the baseline included.
const PAIRS_MIN: u32 = 8;
/// Most of the time that the baseline may take with itself.
const NOISE_SHARE: f64 = 0.3;
/// Answers of a connection that a block is made for.
const BLOCK_ANSWERS: u32 = 20;
/// Requests of a rate that a block is made for.
const BLOCK_REQUESTS: u32 = 100;
/// Mean latencies that a block of a rate is made for: a queue needs time to come to what it stays at.
const BLOCK_LATENCIES: u32 = 100;
/// Shortest block: what starts and ends with it must be little of it.
const BLOCK_MIN: Duration = Duration::from_millis(50);
/// Longest block: more pairs say more than longer ones.
const BLOCK_MAX: Duration = Duration::from_secs(2);
/// Most of the budget that the answers and the warm-up may take, each.
const PREPARING_SHARE: f64 = 0.15;
/// A run that goes on until its interval is narrow looks at it after so many pairs more.
const LOOK_PAIRS: u32 = 5;
/// Connections over which answers are compared.
const ANSWERS_CONNECTIONS: usize = 4;
/// Rate of an open loop that has none, in the throughput of the slower version.
const RATE_SHARE: f64 = 0.5;

/// The end of measuring before all was measured.
enum Ended {
    Over(Over),
    Error(BenchError),
}

impl From<Over> for Ended {
    fn from(over: Over) -> Self {
        Self::Over(over)
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Over(over) => Self::Over(over),
            Broken::Threads(error) => Self::Error(error.into()),
        }
    }
}

impl Bench {
    /// Measures until all is measured, the budget is over or `stop` becomes true; then tells what there is. Blocks the calling
    /// thread, which must not be one of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BenchError`] when there is nothing to tell.
    pub fn run(
        &self,
        stop: watch::Receiver<bool>,
        mut progress: impl FnMut(&Progress<'_>),
    ) -> Result<Report, BenchError> {
        let mut run = Run::new(self, stop)?;
        let ended = run.everything(&mut progress);
        run.finish(ended)
    }
}

/// One run: what it measures with, and what it has measured.
struct Run<'a> {
    bench: &'a Bench,
    blocks: Blocks,
    /// The inputs of each version.
    decks: Vec<Deck>,
    /// The place in the decks that comes next.
    place: u64,
    before: Before,
    /// The time that a block takes beside its length, the longest so far.
    overhead: Duration,
    /// Length of the last block that counts.
    block: Duration,
    /// Mean latency of the slowest version when it was warm.
    latency: Duration,
    /// Of the others, beside the baseline.
    answers: Vec<VersionAnswers>,
    /// Blocks of the warm-up.
    warm: Vec<Block>,
    levels: Vec<Measuring>,
    /// With the lateness of the generator.
    slo: Option<(SloReport, Summary)>,
    /// Processor time of the servers, before anything was asked of them.
    servers_cpu: Duration,
    /// Of each version the words for what came at the end instead of an answer; none of one that still answers.
    silences: Vec<Option<String>>,
}

/// A block that is to be measured.
#[derive(Clone, Copy)]
struct Stretch {
    load: LoadPoint,
    length: Duration,
    phase: Phase,
    pair: u32,
    /// The place in the deck of its first request.
    place: u64,
}

/// A load and what was measured under it.
struct Measuring {
    load: LoadPoint,
    done: Vec<Done>,
    /// Of each version, over the blocks that count.
    stages: Vec<Stages>,
    /// Of each version, over the same blocks.
    ledgers: Vec<Ledger>,
    /// The confidence of each interval of the primary metric: more than usual where it was looked at before.
    confidence: f64,
}

impl Measuring {
    fn new(load: LoadPoint, versions: usize) -> Self {
        Self {
            load,
            done: Vec::new(),
            stages: vec![Stages::default(); versions],
            ledgers: vec![Ledger::default(); versions],
            confidence: confidence_of(versions),
        }
    }

    fn level(&self, bench: &Bench, decks: &[Deck]) -> Level {
        let versions = 0..bench.subjects.len();
        let figures: Vec<_> = versions
            .filter_map(|version| {
                let blocks: Vec<_> = self
                    .done
                    .iter()
                    .filter(|done| done.block.version == version && done.block.phase == Phase::Pair)
                    .collect();
                let stages = self.stages[version].means_since(&Stages::default());
                (!blocks.is_empty()).then(|| figures(&blocks, stages))
            })
            .collect();
        let failures = Failures::of(&figures);
        let noise = noise_pairs(&self.done);
        let noise = comparison(&noise, bench.scenario.primary(), CONFIDENCE, bench.seed);
        let noise = noise.map(|found| Comparison {
            version: 0,
            ..found
        });
        let differs_from_itself = noise
            .as_ref()
            .is_some_and(|noise| noise.outcome != Outcome::NoEvidence);
        let others = 1..bench.subjects.len();
        let comparisons = others
            .flat_map(|version| self.compared(bench, version, &failures, differs_from_itself));
        Level {
            name: self.load.words(),
            load: self.load.number(),
            comparisons: comparisons.collect(),
            figures,
            noise,
            failures,
            inputs: loaded(&self.ledgers, &decks[0]),
            samples: self.samples(bench.subjects.len()),
            blocks: self.done.iter().map(|done| done.block.clone()).collect(),
        }
    }

    /// The blocks of each version that count.
    fn samples(&self, versions: usize) -> Arc<[Vec<SavedBlock>]> {
        let of = |version: usize| -> Vec<SavedBlock> {
            let counts =
                |done: &&Done| done.block.phase == Phase::Pair && done.block.version == version;
            let own = self.done.iter().filter(counts);
            own.map(Done::saved).collect()
        };
        (0..versions).map(of).collect()
    }

    /// All metrics of a version beside the baseline. No winner by the primary one is named where the baseline differs from itself.
    fn compared(
        &self,
        bench: &Bench,
        version: usize,
        failures: &Failures,
        differs_from_itself: bool,
    ) -> Vec<Comparison> {
        let pairs = pairs(&self.done, version);
        let confidence = confidence_of(bench.subjects.len());
        let primary = bench.scenario.primary();
        let compare = |metric: Metric| {
            let own = if metric == primary {
                self.confidence
            } else {
                confidence
            };
            let found = comparison(&pairs, metric, own, bench.seed)?;
            let mut found = failures.applied(Comparison { version, ..found });
            let same = bench
                .min_difference
                .filter(|least| is_same(&pairs, metric, *least, (confidence, bench.seed)));
            found.hold_for_same(same);
            let is_claim = matches!(
                found.outcome,
                Outcome::Faster | Outcome::Slower | Outcome::Same
            );
            if metric == primary && differs_from_itself && is_claim {
                found.same_within = None;
                found.outcome = Outcome::Withheld;
            }
            Some(found)
        };
        let metrics = bench.scenario.metrics().into_iter();
        metrics.filter_map(compare).collect()
    }
}

impl<'a> Run<'a> {
    fn new(bench: &'a Bench, stop: watch::Receiver<bool>) -> Result<Self, BenchError> {
        Ok(Self {
            bench,
            blocks: Blocks {
                timeout: bench.timeout,
                budget: Budget::start(bench.budget, stop)?,
            },
            decks: bench
                .subjects
                .iter()
                .map(|subject| Deck::new(&subject.inputs, bench.seed))
                .collect(),
            place: 0,
            before: Before::read(),
            overhead: Duration::ZERO,
            block: Duration::ZERO,
            latency: Duration::ZERO,
            answers: Vec::new(),
            warm: Vec::new(),
            levels: Vec::new(),
            slo: None,
            servers_cpu: bench.servers_cpu(),
            silences: Vec::new(),
        })
    }

    fn everything(&mut self, progress: &mut impl FnMut(&Progress<'_>)) -> Result<(), Ended> {
        self.ask(progress)?;
        let speeds = self.warm_up(progress)?;
        let measured = self.measure_all(&speeds, progress);
        if !matches!(measured, Err(Ended::Over(Over::Stop) | Ended::Error(_))) {
            self.listen()?;
        }
        measured
    }

    /// Asks each version once more: one that has died did not lose, and did not win either.
    fn listen(&mut self) -> Result<(), Ended> {
        for (subject, deck) in self.bench.subjects.iter().zip(&self.decks) {
            let dealt = Dealt {
                subject,
                deck,
                place: 0,
            };
            self.silences.push(self.blocks.silence(dealt)?);
        }
        Ok(())
    }

    fn measure_all(
        &mut self,
        speeds: &[f64],
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<(), Ended> {
        if let Some(slo) = self.bench.slo {
            return self.sustain(slo, speeds, progress);
        }
        let loads = self.loads(speeds);
        for (index, load) in loads.iter().enumerate() {
            let left = loads.len() - index;
            self.level(*load, u32::try_from(left).unwrap_or(u32::MAX), progress)?;
        }
        Ok(())
    }

    /// Sends every input to every version once; compares what they say.
    fn ask(&mut self, progress: &mut impl FnMut(&Progress<'_>)) -> Result<(), Ended> {
        let mut all = Vec::new();
        let versions = self.bench.subjects.len() as f64;
        let time = self.bench.budget.mul_f64(PREPARING_SHARE / versions);
        for (subject, deck) in self.bench.subjects.iter().zip(&self.decks) {
            let label = &subject.version.label;
            let count = deck.len();
            let dealt = Dealt {
                subject,
                deck,
                place: 0,
            };
            progress(&Progress::Asking(label, count));
            let Asked {
                bodies, failure, ..
            } = self.blocks.answers(dealt, ANSWERS_CONNECTIONS, time)?;
            let answered = bodies.iter().any(Option::is_some);
            let first = failure.unwrap_or_default();
            match (answered, all.is_empty()) {
                (true, _) => all.push(bodies),
                (false, true) => {
                    return Err(Ended::Error(BenchError::Refused {
                        label: label.clone(),
                        url: subject.version.url.clone(),
                        count,
                        first,
                    }));
                }
                (false, false) => {
                    return Err(Ended::Error(BenchError::OtherInputs {
                        base: self.bench.subjects[0].version.label.clone(),
                        other: label.clone(),
                        first,
                    }));
                }
            }
        }
        // Where each is asked something else, there is nothing to compare.
        let subjects = &self.bench.subjects;
        if subjects
            .iter()
            .all(|subject| subject.inputs == subjects[0].inputs)
        {
            self.answers = (1..all.len())
                .map(|version| self.compared(&all, version))
                .collect();
        }
        // What is asked of them now can be told before an hour is spent.
        let problems = unanswerable(&self.bench.conditions, &self.answers);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Ended::Error(BenchError::Undecidable(problems.join("\n")))),
        }
    }

    /// Compares what a version and the baseline say to each different input that both were asked: a slow one was asked for fewer.
    fn compared(&self, all: &[Vec<Option<Bytes>>], version: usize) -> VersionAnswers {
        let (base, other) = (&all[0], &all[version]);
        let confidence = confidence_of(all.len());
        let deck = &self.decks[0];
        let places = deck.new_places(base.len().min(other.len()));
        let of = |bodies: &[Option<Bytes>]| -> Vec<_> {
            places.iter().map(|place| bodies[*place].clone()).collect()
        };
        let tolerance = self.bench.tolerance;
        let mut answers = compare(&of(base), &of(other), tolerance, confidence);
        for one in &mut answers.worst {
            one.input = deck.number(places[one.input] as u64);
        }
        VersionAnswers { version, answers }
    }

    /// Loads every version until it gets no faster; answers a second of each at the end.
    fn warm_up(&mut self, progress: &mut impl FnMut(&Progress<'_>)) -> Result<Vec<f64>, Ended> {
        let load = LoadPoint {
            scenario: Scenario::Closed,
            connections: self.bench.warm_up_connections,
            rate: None,
        };
        let length = (self.bench.budget / 100).clamp(BLOCK_MIN, BLOCK_MAX / 4);
        let mut speeds = Vec::new();
        for (version, subject) in self.bench.subjects.iter().enumerate() {
            let until = Instant::now()
                + self
                    .bench
                    .budget
                    .mul_f64(PREPARING_SHARE / self.bench.subjects.len() as f64);
            let mut latencies = Vec::new();
            let mut requests = 0;
            let speed = loop {
                let Done { block, .. } = self.measure(
                    version,
                    Stretch {
                        load,
                        length,
                        phase: Phase::WarmUp,
                        pair: 0,
                        place: requests,
                    },
                )?;
                requests += block.answers;
                latencies.push(block.mean_ms);
                progress(&Progress::Warming(
                    &subject.version.label,
                    block.throughput_per_s,
                ));
                let warm = is_steady(&latencies, requests, WARM_UP_REQUESTS_MIN);
                let (mean_ms, speed) = (block.mean_ms, block.throughput_per_s);
                self.warm.push(block);
                if warm || Instant::now() >= until {
                    let latency = Duration::from_secs_f64(mean_ms / 1e3);
                    self.latency = self.latency.max(latency);
                    break speed;
                }
            };
            speeds.push(speed);
        }
        Ok(speeds)
    }

    /// The loads that are measured, by rising load.
    fn loads(&self, speeds: &[f64]) -> Vec<LoadPoint> {
        let scenario = self.bench.scenario;
        let connections = &self.bench.connections;
        let mut loads = match scenario {
            Scenario::Constant | Scenario::Server => {
                let slowest = speeds.iter().copied().fold(f64::INFINITY, f64::min);
                let rates = match self.bench.rates.is_empty() {
                    true => vec![whole_rate(slowest * RATE_SHARE)],
                    false => self.bench.rates.clone(),
                };
                let load = |rate| LoadPoint {
                    scenario,
                    connections: connections[0],
                    rate: Some(rate),
                };
                rates.into_iter().map(load).collect::<Vec<_>>()
            }
            Scenario::Closed
            | Scenario::SingleStream
            | Scenario::MultiStream
            | Scenario::Offline => {
                let load = |connections: &usize| LoadPoint {
                    scenario,
                    connections: *connections,
                    rate: None,
                };
                connections.iter().map(load).collect()
            }
        };
        loads.sort_by(|one, other| one.number().total_cmp(&other.number()));
        loads
    }

    /// The baseline against itself, then the pairs; or one version, block by block.
    fn level(
        &mut self,
        load: LoadPoint,
        levels_left: u32,
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<(), Ended> {
        let versions = self.bench.subjects.len();
        self.levels.push(Measuring::new(load, versions));
        progress(&Progress::Level(&load.words()));
        let share = self.blocks.budget.left() / levels_left;
        let until = Instant::now() + share;
        self.block = self.block_for(&load, share);
        if versions > 1 {
            let noise_until = Instant::now() + share.mul_f64(NOISE_SHARE);
            for pair in 0..NOISE_PAIRS {
                match self.round(&[0, 0], self.stretch(load, Phase::Noise, pair), noise_until) {
                    Err(Ended::Over(Over::Time)) => break,
                    ended => ended?,
                }
                progress(&Progress::Noise(pair + 1, NOISE_PAIRS));
            }
        }
        // A queue makes answers slower than those of the warm-up.
        if load.rate.is_some() {
            let seen = self.measuring().done.iter().map(|done| done.block.mean_ms);
            let slowest = seen.fold(0.0, f64::max);
            self.latency = self.latency.max(Duration::from_secs_f64(slowest / 1e3));
            self.block = self.block_for(&load, share);
        }
        let mut looks = Looks::new(confidence_of(versions));
        self.place = 0;
        for (pair, order) in (0..).zip(orders(versions, self.bench.seed)) {
            // One that is alone has two blocks as well.
            let order = if versions > 1 { order } else { vec![0, 0] };
            match self.round(&order, self.stretch(load, Phase::Pair, pair), until) {
                Err(Ended::Over(Over::Time)) => break,
                ended => ended?,
            }
            let left = until.saturating_duration_since(Instant::now());
            let more = u32::try_from(left.as_nanos() / self.round_time(order.len()).as_nanos())
                .unwrap_or(u32::MAX);
            if versions == 1 {
                let last = self.measuring().done.last();
                let speed = last.map_or(0.0, |done| done.block.throughput_per_s);
                progress(&Progress::Block(
                    2 * (pair + 1),
                    2 * (pair + 1 + more),
                    speed,
                ));
                continue;
            }
            let found = self.found(1, confidence_of(versions));
            progress(&Progress::Pair(pair + 1, pair + 1 + more, found.as_ref()));
            if self.is_narrow(pair + 1, pair + 1 + more, &mut looks) {
                return Ok(());
            }
        }
        if self.bench.target_half_width.is_some() {
            self.measuring().confidence = looks.look(1.0);
        }
        let blocks = self.measuring().done.iter();
        let counted = blocks.filter(|done| done.block.phase == Phase::Pair);
        match counted.count() / versions.max(2) {
            // Two make an interval.
            0 | 1 => Err(Ended::Over(Over::Time)),
            _ => Ok(()),
        }
    }

    /// Length of a block: so that there are pairs enough, each block has answers enough, and, above all, a few pairs fit.
    fn block_for(&self, load: &LoadPoint, share: Duration) -> Duration {
        let blocks = self.blocks_of_round();
        let for_pairs = (share / (2 * NOISE_PAIRS + blocks * PAIRS_AIM))
            .saturating_sub(self.overhead)
            .min(BLOCK_MAX);
        let for_answers = match load.rate {
            Some(rate) => {
                let for_requests = Duration::from_secs(BLOCK_REQUESTS.into()) / rate.get();
                for_requests.max(self.latency * BLOCK_LATENCIES)
            }
            None => self.latency * BLOCK_ANSWERS,
        };
        let most = (share / (blocks * PAIRS_MIN)).saturating_sub(self.overhead);
        for_pairs.max(for_answers).min(most).max(BLOCK_MIN)
    }

    /// Blocks of a round: one of each version, or two of one that is alone.
    fn blocks_of_round(&self) -> u32 {
        u32::try_from(self.bench.subjects.len().max(2)).unwrap_or(u32::MAX)
    }

    fn measuring(&mut self) -> &mut Measuring {
        self.levels.last_mut().expect("a level has begun")
    }

    /// The ratio of the primary metric of a version so far under the present load.
    fn found(&mut self, version: usize, confidence: f64) -> Option<Ratio> {
        let (primary, seed) = (self.bench.scenario.primary(), self.bench.seed);
        let pairs = pairs(&self.measuring().done, version);
        ratio(&pairs, primary, confidence, seed)
    }

    /// Whether all intervals are as narrow as was asked for. Every look costs some of the error that is allowed.
    fn is_narrow(&mut self, pairs: u32, planned: u32, looks: &mut Looks) -> bool {
        let Some(target) = self.bench.target_half_width else {
            return false;
        };
        if !pairs.is_multiple_of(LOOK_PAIRS) || pairs == LOOK_PAIRS {
            return false;
        }
        let confidence = looks.look(f64::from(pairs) / f64::from(planned.max(pairs)));
        self.measuring().confidence = confidence;
        (1..self.bench.subjects.len()).all(|version| {
            let half = self
                .found(version, confidence)
                .and_then(|ratio| half_width(&ratio));
            half.is_some_and(|half| half <= target)
        })
    }

    fn round_time(&self, blocks: usize) -> Duration {
        u32::try_from(blocks).unwrap_or(u32::MAX) * (self.block + self.overhead)
    }

    /// A block of each of these versions, under the same schedule and inputs; none when the time does not suffice for all.
    fn round(&mut self, order: &[usize], stretch: Stretch, until: Instant) -> Result<(), Ended> {
        if Instant::now() + self.round_time(order.len()) > until {
            return Err(Ended::Over(Over::Time));
        }
        let mut all = Vec::new();
        for version in order {
            all.push(self.measure(*version, stretch)?);
        }
        // The slowest had fewest inputs, and those of the beginning of a block do not count: the next round begins before the place
        // where it ended by as many, so that none is left out of what counts.
        let counted = all.iter().map(|done| done.measured.seen.counted()).min();
        self.place += counted.unwrap_or_default();
        for done in &mut all {
            let inputs = std::mem::take(&mut done.measured.seen.inputs);
            if stretch.phase == Phase::Pair {
                let version = done.block.version;
                let deck = self.decks[version].clone();
                self.measuring().ledgers[version].add(&deck, stretch.place, &inputs);
            }
        }
        // A round counts whole or not at all.
        self.measuring().done.extend(all);
        Ok(())
    }

    fn stretch(&self, load: LoadPoint, phase: Phase, pair: u32) -> Stretch {
        Stretch {
            load,
            length: self.block,
            phase,
            pair,
            place: self.place,
        }
    }

    fn measure(&mut self, version: usize, stretch: Stretch) -> Result<Done, Ended> {
        let Stretch {
            load,
            length,
            phase,
            pair,
            place,
        } = stretch;
        let subject = &self.bench.subjects[version];
        let dealt = Dealt {
            subject,
            deck: &self.decks[version],
            place,
        };
        let began = Instant::now();
        let stages = || subject.timings.as_ref().and_then(|timings| timings.read());
        let counts = phase == Phase::Pair;
        let before = counts.then(stages).flatten();
        let start = self.blocks.budget.elapsed();
        let seed = self.bench.seed.wrapping_add(u64::from(pair));
        let measured: Measured = self.blocks.measure(dealt, &load, length, seed)?;
        if let Some((before, after)) = before.zip(counts.then(stages).flatten()) {
            self.measuring().stages[version].add_between(&before, &after);
        }
        self.overhead = self
            .overhead
            .max(began.elapsed().saturating_sub(length).min(length));
        Ok(Done::new((phase, pair), version, start, measured))
    }

    fn sustain(
        &mut self,
        slo: Slo,
        speeds: &[f64],
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<(), Ended> {
        let tell = |label: &str, words: &str| progress(&Progress::Tried(label, words));
        let versions = (self.bench, &self.decks[..]);
        let sought = sustain(&self.blocks, versions, slo, speeds, tell);
        self.slo = Some((sought.report, sought.slips));
        sought.broken?;
        match sought.over {
            true => Ok(()),
            false => Err(Ended::Over(Over::Time)),
        }
    }

    fn finish(self, ended: Result<(), Ended>) -> Result<Report, BenchError> {
        let bench = self.bench;
        let interrupted =
            matches!(ended, Err(Ended::Over(Over::Stop))) || self.blocks.budget.is_stopped();
        let complete = ended.is_ok();
        if let Err(Ended::Error(error)) = ended {
            return Err(error);
        }
        let (mut levels, all): (Vec<_>, Vec<_>) = self
            .levels
            .into_iter()
            .map(|measuring| (measuring.level(bench, &self.decks), measuring.done))
            .filter(|(level, _)| !level.figures.is_empty())
            .unzip();
        // What the versions answer is known before anything is measured.
        let is_told = interrupted && !self.answers.is_empty();
        if levels.is_empty() && self.slo.is_none() && !is_told {
            return Err(match interrupted {
                true => BenchError::Interrupted,
                false => BenchError::NoTime(bench.budget),
            });
        }
        let environment = self.before.finish(
            bench.servers_cpu().saturating_sub(self.servers_cpu),
            bench.onnxruntime.clone(),
        );
        let mut checks = match &self.slo {
            Some((found, slips)) => search_checks(slips, found.slo.limit_ms, &environment),
            // Nothing was measured of which it could be said whether it holds.
            None if levels.is_empty() => Vec::new(),
            None => sweep_checks(
                (bench.scenario, &bench.labels()),
                &mut levels,
                all,
                &environment,
            ),
        };
        // Before all others: it is why they find what they find.
        checks.splice(0..0, alive_check(&bench.labels(), &self.silences));
        let different = self.decks[0].different();
        checks.extend(inputs_check(different, &levels, &self.answers));
        let mut report = Report {
            schema: SCHEMA,
            complete,
            interrupted,
            elapsed_s: self.blocks.budget.elapsed().as_secs_f64(),
            setup: setup(bench, different, self.block),
            environment,
            versions: bench
                .subjects
                .iter()
                .map(|subject| subject.version.clone())
                .collect(),
            verdict: Verdict {
                outcome: Outcome::Alone,
                outcomes: Vec::new(),
                words: String::new(),
            },
            gates: Vec::new(),
            levels,
            slo: self.slo.map(|(report, _)| report),
            answers: self.answers,
            checks,
        };
        if let Some(level) = report.levels.first_mut() {
            level.blocks.splice(0..0, self.warm);
        }
        report.verdict = sentence::verdict(&Evidence::from(&report));
        if report.verdict.outcome == Outcome::Invalid {
            report.levels.iter_mut().for_each(Level::claims_nothing);
        }
        report.gates = judge(&report, &bench.conditions);
        Ok(report)
    }
}

fn setup(bench: &Bench, different: usize, block: Duration) -> Setup {
    Setup {
        scenario: bench.scenario,
        primary: bench.scenario.primary(),
        seed: bench.seed,
        inputs: bench.inputs.clone(),
        inputs_count: different,
        inputs_sha256: inputs_sha256(&bench.subjects[0].inputs),
        requests_per_query: match bench.scenario {
            Scenario::MultiStream => u32::try_from(bench.connections[0]).unwrap_or(u32::MAX),
            _ => 1,
        },
        confidence: CONFIDENCE,
        confidence_each: confidence_of(bench.subjects.len()),
        block_s: (!block.is_zero()).then_some(block.as_secs_f64()),
        target_half_width: bench.target_half_width,
        min_difference: bench.min_difference,
        timeout_ms: bench.timeout.as_secs_f64() * 1e3,
    }
}

/// The outcome of each condition, of each version that is compared, or of the one that is alone.
fn judge(report: &Report, conditions: &[Condition]) -> Vec<GateReport> {
    let last = report.versions.len().saturating_sub(1);
    let versions = last.min(1)..=last;
    let judge = |condition| {
        let versions = versions.clone();
        versions.map(move |version| judge_one(report, condition, version))
    };
    conditions.iter().flat_map(judge).collect()
}

/// The outcome of a condition of one version. Of a sweep every load must keep it: the worst speaks.
fn judge_one(report: &Report, condition: &Condition, version: usize) -> GateReport {
    let mut answers = report.answers.iter();
    let answers = answers.find(|one| one.version == version);
    let answers = answers.map(|one| &one.answers);
    // A machine that tells the baseline from itself tells nothing of ratios, and neither does a run that says nothing.
    let says = !matches!(report.verdict.outcome, Outcome::Invalid)
        && !report.verdict.outcomes.contains(&Outcome::Withheld);
    let levels = report.levels.iter();
    let judged: Vec<GateReport> = match condition.metric() {
        GateMetric::Agreement => {
            vec![condition.judge(version, answers.map(|found| found.agreement))]
        }
        GateMetric::Top1 => vec![condition.judge(version, answers.and_then(|found| found.top1))],
        GateMetric::Failures => levels
            .map(|level| condition.judge(version, level.failures.shares.get(version).copied()))
            .collect(),
        GateMetric::Ratio(metric) => levels
            .map(|level| ratio_gate(condition, (version, metric), says.then_some(level)))
            .collect(),
    };
    let worst = judged.into_iter().max_by_key(|gate| gate.state);
    worst.unwrap_or_else(|| condition.judge(version, None))
}

/// A ratio under one load. A version that is proven to fail more than the baseline passes none.
fn ratio_gate(
    condition: &Condition,
    (version, metric): (usize, Metric),
    level: Option<&Level>,
) -> GateReport {
    let found = level.and_then(|level| {
        let mut own = level.of(version);
        own.find(|one| one.metric == metric && one.outcome != Outcome::Invalid)
    });
    let mut gate = condition.judge(version, found.map(|one| one.ratio.estimate));
    let fails = level.is_some_and(|level| level.failures.fails_more(version));
    if gate.state == GateState::Passed && fails {
        gate.state = GateState::Undecided;
    }
    gate
}

/// The distance of the farther end of the interval from the ratio.
fn half_width(ratio: &Ratio) -> Option<f64> {
    let Estimate { point, low, high } = ratio.estimate;
    Some((high? / point - 1.0).max(1.0 - low? / point))
}

#[cfg(test)]
mod tests;

//! Looks for the highest rate that each version sustains under a latency target, in turn, so that what the machine does
//! meanwhile meets both.
//!
//! A try ends when something is proven, or when it has had its part of the time: the nearer a rate is to the edge, the longer its queue
//! takes to forget, and beyond some point no affordable time shows anything (`crate::evidence::kept`). Some time is kept back for the
//! second proof of what was found.

use std::time::Duration;

use crate::bench::block::{Blocks, Broken, LoadPoint, Probed, Try, whole_rate};
use crate::bench::deck::{Dealt, Deck};
use crate::bench::report::Scenario;
use crate::bench::search::{Search, Step, TimeLeft};
use crate::bench::slo::{Probe, SloReport};
use crate::bench::task::Bench;
use crate::evidence::{LatencyTest, ProbeOutcome, Slo};
use crate::load::Summary;

/// Where the search begins, in the throughput of a closed loop.
pub(super) const START_SHARE: f64 = 0.5;
/// Rates above so many times the throughput of a closed loop are not tried.
pub(super) const CAP_FACTOR: f64 = 4.0;
/// Tries that a budget is made for, of each version: that many may prove nothing.
const TRIES: u32 = 6;
/// Shortest time before a rate is decided, in latency limits: a queue that grows must have had the time to show.
const LIMITS_MIN: u32 = 10;
/// Shortest time before a rate is decided: a moment of the machine must not be taken for it.
const TIME_MIN: Duration = Duration::from_millis(300);
/// Shortest of the longest times, in the time in which a rate passes when all its requests are in time.
const ENOUGH: f64 = 2.0;
/// Time for a second proof, in that of the first: what is left to chance may take longer.
const AGAIN: f64 = 1.5;

/// The outcome of a search.
pub(super) struct Sought {
    pub(super) report: SloReport,
    /// The lateness of the generator, at the rates that passed.
    pub(super) slips: Summary,
    /// Nothing is left to try.
    pub(super) over: bool,
    /// The reason why it was broken off, if it was.
    pub(super) broken: Result<(), Broken>,
}

/// Searches until all intervals are narrow or the time is over; what is known then.
/// `decks` are the inputs of each version, `speeds` answers a second of each version in a closed loop; `tell` hears of every try.
pub(super) fn sustain(
    blocks: &Blocks,
    (bench, decks): (&Bench, &[Deck]),
    slo: Slo,
    speeds: &[f64],
    mut tell: impl FnMut(&str, &str),
) -> Sought {
    let times = Times::new(bench, slo, blocks.budget.left());
    let search = |speed: &f64| Search::new(speed * START_SHARE, speed * CAP_FACTOR);
    let mut searches: Vec<_> = speeds
        .iter()
        .map(|speed| (search(speed), Vec::new()))
        .collect();
    let mut broken = Ok(());
    let mut slips = Summary::new();
    'all: loop {
        let mut tried = false;
        let versions = bench.subjects.iter().zip(decks);
        for ((subject, deck), (search, probes)) in versions.zip(&mut searches) {
            let left = blocks.budget.left() / times.versions;
            let Some((step, most)) = times.next(search, probes, left) else {
                continue;
            };
            let one = Try {
                slo,
                least: times.least,
                most,
                seed: bench.seed.wrapping_add(probes.len() as u64),
            };
            tried = true;
            let load = LoadPoint {
                scenario: Scenario::Server,
                connections: bench.connections[0],
                rate: Some(whole_rate(step.rate_per_s)),
            };
            let dealt = Dealt {
                subject,
                deck,
                place: probes.iter().map(|probe: &Probe| probe.requests).sum(),
            };
            match blocks.probe(dealt, &load, &one) {
                Ok(Probed { probe, slips: late }) => {
                    search.learn(step, probe.outcome);
                    if probe.outcome == ProbeOutcome::Passed {
                        slips.add(&late);
                    }
                    tell(&subject.version.label, &probe.words(&slo));
                    probes.push(probe);
                }
                Err(error) => {
                    broken = Err(error);
                    break 'all;
                }
            }
        }
        if !tried {
            break;
        }
    }
    let stopped = match broken {
        Ok(()) => "the time was over",
        Err(_) => "interrupted",
    };
    let over = searches.iter().all(|(search, _)| search.ended().is_some());
    let versions = searches
        .into_iter()
        .map(|(search, probes)| search.sustained(probes, stopped))
        .collect();
    Sought {
        report: SloReport { slo, versions },
        slips,
        over,
        broken,
    }
}

/// The times of tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    slo: Slo,
    /// Versions that share what is left.
    versions: u32,
    /// Nothing is decided before.
    pub(super) least: Duration,
    /// The part of the time that one try may have.
    part: Duration,
}

impl Times {
    fn new(bench: &Bench, slo: Slo, left: Duration) -> Self {
        let versions = u32::try_from(bench.subjects.len()).unwrap_or(u32::MAX);
        Self::of(slo, versions, left)
    }

    pub(super) fn of(slo: Slo, versions: u32, left: Duration) -> Self {
        let limit = Duration::from_secs_f64(slo.limit_ms / 1e3);
        Self {
            slo,
            versions,
            least: TIME_MIN.max(LIMITS_MIN * limit),
            part: left / (TRIES * versions),
        }
    }

    /// The next step of a version that has so much time left, and its longest time; none when there is none, or no time for it.
    pub(super) fn next(
        &self,
        search: &Search,
        probes: &[Probe],
        left: Duration,
    ) -> Option<(Step, Duration)> {
        let explored = search
            .next(TimeLeft::Enough)
            .map(|step| (step, self.most(step, probes)));
        match explored {
            Some((step, most)) if left >= most + self.kept_back(search, probes) => {
                Some((step, most))
            }
            _ => {
                let step = search.next(TimeLeft::ToConfirm)?;
                let most = self.most(step, probes).max(self.part.min(left));
                (left >= most).then_some((step, most))
            }
        }
    }

    /// The longest time of a try.
    fn most(&self, step: Step, probes: &[Probe]) -> Duration {
        if step.confirm {
            return took(probes, step.rate_per_s).mul_f64(AGAIN).max(self.least);
        }
        let enough = LatencyTest::new(self.slo).requests_to_pass(0) as f64 / step.rate_per_s;
        self.part
            .max(2 * self.least)
            .max(Duration::try_from_secs_f64(enough * ENOUGH).unwrap_or(Duration::MAX))
    }

    /// For the second proof of both ends.
    fn kept_back(&self, search: &Search, probes: &[Probe]) -> Duration {
        let ends = [search.passed(), search.failed()];
        let times = ends
            .into_iter()
            .flatten()
            .map(|rate| took(probes, rate).mul_f64(AGAIN));
        times.sum()
    }
}

/// The time of the last proof of a rate.
fn took(probes: &[Probe], rate_per_s: f64) -> Duration {
    let of_rate = |probe: &&Probe| (probe.rate_per_s - rate_per_s).abs() <= 0.5;
    let found = probes.iter().rfind(of_rate);
    Duration::from_secs_f64(found.map_or(0.0, |probe| probe.took_s))
}

impl Probe {
    fn words(&self, slo: &Slo) -> String {
        let outcome = match self.outcome {
            ProbeOutcome::Passed => "kept",
            ProbeOutcome::Failed => "not kept",
            ProbeOutcome::Undecided => "not shown",
        };
        format!(
            "{:.0} requests/s: {outcome} ({} of {} over {} ms)",
            self.rate_per_s, self.over, self.requests, slo.limit_ms
        )
    }
}

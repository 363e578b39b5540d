//! Looks for the highest rate that each version sustains under a latency target, in turn, so that what the machine does
//! meanwhile meets both.

use std::time::Duration;

use crate::bench::block::{Blocks, Broken, Counts, LoadPoint, Probed, Try, whole_rate};
use crate::bench::deck::{Dealt, Deck};
use crate::bench::report::Scenario;
use crate::bench::search::{Search, Step};
use crate::bench::slo::{Probe, SloReport};
use crate::bench::task::Bench;
use crate::evidence::{LatencyTest, ProbeOutcome, Slo};
use crate::load::Summary;

/// Where the search begins, in the throughput of a closed loop.
const START_SHARE: f64 = 0.5;
/// Rates above so many times the throughput of a closed loop are not tried.
const CAP_FACTOR: f64 = 4.0;
/// Tries that a budget is made for, of each version.
const TRIES: u32 = 16;
/// Shortest time before a rate may pass, in latency limits: a queue that grows must have had the time to show.
const LIMITS_MIN: u32 = 10;
/// Shortest time before a rate may pass.
const TIME_MIN: Duration = Duration::from_millis(300);
/// Longest that a rate is tried, in the shortest.
const MOST_FACTOR: u32 = 4;

/// Shortest time of a try, in that which it takes to pass when all requests are in time.
const ENOUGH: f64 = 2.0;

/// Until requests of a try count, as a part of its shortest time.
const SETTLE_PART: u32 = 5;
/// At least.
const SETTLE_MIN: Duration = Duration::from_millis(100);

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
    let least = shortest(bench, slo, blocks.budget.left());
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
            let Some(step) = search.next() else { continue };
            let one = plan(
                slo,
                step,
                least,
                bench.seed.wrapping_add(probes.len() as u64),
            );
            if blocks.budget.left() < one.least {
                continue;
            }
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
                Ok(Probed { outcome, counts }) => {
                    search.learn(outcome);
                    let probe = counts.probe(load.number(), outcome);
                    if outcome == ProbeOutcome::Passed {
                        slips.add(&counts.slips);
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

/// Shortest time in which a rate may pass.
fn shortest(bench: &Bench, slo: Slo, left: Duration) -> Duration {
    let versions = u32::try_from(bench.subjects.len()).unwrap_or(u32::MAX);
    let share = left / (TRIES * versions);
    let limit = Duration::from_secs_f64(slo.limit_ms / 1e3);
    share.max(TIME_MIN).max(LIMITS_MIN * limit)
}

fn plan(slo: Slo, step: Step, least: Duration, seed: u64) -> Try {
    let enough = LatencyTest::requests_to_pass(slo, 0) as f64 / step.rate_per_s;
    let least = least.max(Duration::from_secs_f64(enough * ENOUGH));
    let least = if step.confirm { 2 * least } else { least };
    Try {
        slo,
        settle: (least / SETTLE_PART).max(SETTLE_MIN),
        least,
        most: MOST_FACTOR * least,
        seed,
    }
}

impl Counts {
    fn probe(&self, rate_per_s: f64, outcome: ProbeOutcome) -> Probe {
        Probe {
            rate_per_s,
            requests: self.in_time + self.over,
            over: self.over,
            outcome,
        }
    }
}

impl Probe {
    fn words(&self, slo: &Slo) -> String {
        let outcome = match self.outcome {
            ProbeOutcome::Passed => "kept",
            ProbeOutcome::Failed => "not kept",
            ProbeOutcome::Undecided => "undecided",
        };
        format!(
            "{:.0} requests/s: {outcome} ({} of {} over {} ms)",
            self.rate_per_s, self.over, self.requests, slo.limit_ms
        )
    }
}

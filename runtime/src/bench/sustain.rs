//! Looks for the highest rate that each version sustains under a latency target, in turn, so that what the machine does
//! meanwhile meets both.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::bench::block::{Blocks, Broken, LoadPoint};
use crate::bench::report::{Outcome, Scenario};
use crate::bench::slo::{LatencyTest, Probe, ProbeOutcome, Search, Slo, SloReport, Sustained};
use crate::bench::subject::Subject;

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

/// Searches until both intervals are narrow or the time is over; what is known then, and what broke the search off, if anything.
pub(super) fn sustain(
    blocks: &Blocks,
    subjects: &[Subject],
    (slo, connections, seed): (Slo, usize, u64),
    speeds: &[f64],
    until: Instant,
    mut tell: impl FnMut(&str, &str),
) -> (SloReport, Result<(), Broken>) {
    let limit = Duration::from_secs_f64(slo.limit_ms / 1e3);
    let tries = TRIES * u32::try_from(subjects.len()).unwrap_or(u32::MAX);
    let least = (until.saturating_duration_since(Instant::now()) / tries)
        .max(TIME_MIN)
        .max(LIMITS_MIN * limit);
    let mut searches: Vec<_> = speeds
        .iter()
        .map(|speed| (Search::new(speed * START_SHARE, speed * CAP_FACTOR), Vec::new()))
        .collect();
    let mut broken = Ok(());
    'all: loop {
        let mut tried = false;
        for (subject, (search, probes)) in subjects.iter().zip(&mut searches) {
            let Some(step) = search.next() else { continue };
            let least = if step.confirm { 2 * least } else { least };
            if Instant::now() + least > until {
                continue;
            }
            tried = true;
            let load = LoadPoint {
                scenario: Scenario::Server,
                connections,
                rate: Some(whole(step.rate_per_s)),
            };
            let seed = seed.wrapping_add(probes.len() as u64);
            let test = (limit, LatencyTest::new(slo.quantile));
            let probed = blocks.probe(subject, &load, test, (least, MOST_FACTOR * least), seed);
            let (test, outcome) = match probed {
                Ok(decided) => decided,
                Err(error) => {
                    broken = Err(error);
                    break 'all;
                }
            };
            search.learn(outcome);
            let probe = Probe {
                rate_per_s: load.number(),
                requests: test.requests(),
                over: test.over(),
                outcome,
            };
            tell(&subject.version.label, &probe.words(&slo));
            probes.push(probe);
        }
        if !tried {
            break;
        }
    }
    let versions = searches
        .into_iter()
        .map(|(search, probes)| search.sustained(probes))
        .collect();
    (SloReport { slo, versions }, broken)
}

fn whole(per_s: f64) -> NonZeroU32 {
    let rounded = per_s.round().clamp(1.0, f64::from(u32::MAX));
    NonZeroU32::new(rounded as u32).unwrap_or(NonZeroU32::MIN)
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

impl SloReport {
    /// Which version sustains more, where the intervals do not meet.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let [base, other] = &self.versions[..] else {
            return Outcome::Alone;
        };
        let above = |one: &Sustained, than: &Sustained| {
            one.passed_per_s
                .zip(than.failed_per_s)
                .is_some_and(|(passed, failed)| passed >= failed)
        };
        match (above(other, base), above(base, other)) {
            (true, _) => Outcome::Faster,
            (_, true) => Outcome::Slower,
            (false, false) => Outcome::NoEvidence,
        }
    }
}

//! Checks whether the generator and the machine can be trusted. Pure.

use std::collections::BTreeMap;
use std::slice;
use std::time::Duration;

use crate::bench::figures::Done;
use crate::bench::report::{
    Check, CheckState, Environment, Level, Phase, Scenario, VersionAnswers,
};
use crate::bench::settled::settled;
use crate::load::Summary;

/// A generator that is later than this tells of itself, unless that is little beside what it measures.
const SLIP_MAX: Duration = Duration::from_millis(1);
/// The share of the median latency that lateness may be.
const SLIP_SHARE: f64 = 0.05;
/// Share of requests that may fail before it is worth a warning.
const FAILURES_MAX: f64 = 0.001;
/// Share of a version's requests that may fail before times say nothing: a failure is answered sooner, or later, than work.
const FAILURES_INVALID: f64 = 0.05;
/// Share of processor time that others may take.
const OTHERS_MAX: f64 = 0.05;
/// Share that other guests of the host may take.
const STOLEN_MAX: f64 = 0.01;
/// Load of the machine before the start, in processes that want to run.
const LOAD_MAX: f64 = 0.3;
/// Share of one core from which the generator may be what is measured.
const OWN_CPU_MAX: f64 = 0.9;
/// A stall is an answer that took so many times the p99, and this long.
const STALL_FACTOR: f64 = 20.0;
/// Shortest stall.
const STALL_MIN_MS: f64 = 20.0;
/// Requests of a version from which its p99 is more than its slowest request.
const P99_REQUESTS: u64 = 100;

/// All checks, in the order in which a reader wants them.
pub(super) fn checks(
    scenario: Scenario,
    labels: &[&str],
    levels: &[Level],
    done: &[Done],
    environment: &Environment,
) -> Vec<Check> {
    let counted: Vec<_> = done
        .iter()
        .filter(|done| done.block.phase != Phase::WarmUp)
        .collect();
    let mut checks = vec![failures(labels, &counted)];
    if matches!(scenario, Scenario::Constant | Scenario::Server) {
        checks.push(slip(&slips(&counted), least_median_ms(levels)));
        checks.push(drops(&counted));
        checks.push(settled(alike(&counted)));
    } else {
        checks.extend(stalls(&counted));
    }
    checks.extend(noise(levels));
    checks.push(own_cpu(&counted));
    checks.push(machine(environment));
    checks.extend(few_requests(levels));
    checks
}

/// All checks of all loads. A load that says nothing takes none of the others with it: its own row says so, and a warning why.
pub(super) fn sweep_checks(
    (scenario, labels): (Scenario, &[&str]),
    levels: &mut [Level],
    done: Vec<Vec<Done>>,
    environment: &Environment,
) -> Vec<Check> {
    let mut lost = Vec::new();
    let mut said = vec![true; levels.len()];
    for (at, (level, done)) in levels.iter_mut().zip(&done).enumerate() {
        let own = checks(scenario, labels, slice::from_ref(level), done, environment);
        if let Some(found) = own.iter().find(|one| one.state == CheckState::Invalid) {
            said[at] = false;
            lost.push(format!("{}: {}", level.name, found.words));
        }
    }
    let is_lost = lost.len() == levels.len();
    let mut rest = Vec::new();
    let mut sound = Vec::new();
    for ((level, done), said) in levels.iter_mut().zip(done).zip(said) {
        if said || is_lost {
            rest.extend(done);
            sound.push(level.clone());
        } else {
            level.claims_nothing();
        }
    }
    let mut found = checks(scenario, labels, &sound, &rest, environment);
    if !lost.is_empty() && !is_lost {
        let words = format!("nothing is said of some loads: {}", lost.join("; "));
        found.push(check("loads", CheckState::Warning, words));
    }
    found
}

/// The blocks of each version at each rate.
fn alike<'a>(blocks: &[&'a Done]) -> Vec<Vec<&'a Done>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for done in blocks.iter().filter(|done| done.block.phase == Phase::Pair) {
        let key = (done.measured.rate, done.block.version);
        groups.entry(key).or_default().push(*done);
    }
    groups.into_values().collect()
}

fn check(name: &'static str, state: CheckState, words: String) -> Check {
    Check { name, state, words }
}

/// Of each version by itself: that another never fails is no excuse. The worst speaks for the check.
fn failures(labels: &[&str], blocks: &[&Done]) -> Check {
    let of_each = labels.iter().enumerate().map(|(version, label)| {
        let own: Vec<&Done> = blocks
            .iter()
            .copied()
            .filter(|done| done.block.version == version)
            .collect();
        let (state, words) = failures_of(&own);
        match labels.len() {
            1 => (state, words),
            _ => (state, format!("{label}: {words}")),
        }
    });
    let (states, words): (Vec<_>, Vec<_>) = of_each.unzip();
    let is_worst = |state: &CheckState| states.contains(state);
    let worst = [CheckState::Invalid, CheckState::Warning]
        .into_iter()
        .find(is_worst);
    check(
        "failures",
        worst.unwrap_or(CheckState::Ok),
        words.join("; "),
    )
}

fn failures_of(blocks: &[&Done]) -> (CheckState, String) {
    let sum = |of: fn(&Done) -> u64| blocks.iter().map(|done| of(done)).sum::<u64>();
    let failures = sum(|done| done.measured.seen.failed);
    let refused = sum(|done| done.measured.seen.full);
    let all = sum(|done| done.measured.seen.sent());
    let counted = sum(|done| done.measured.seen.latencies.count());
    let share = failures as f64 / all.max(1) as f64;
    let state = match (sum(|done| done.measured.seen.answers), share) {
        (0, _) => CheckState::Invalid,
        (_, share) if share > FAILURES_INVALID => CheckState::Invalid,
        (_, share) if share > FAILURES_MAX => CheckState::Warning,
        _ => CheckState::Ok,
    };
    if counted == 0 {
        let words = "no request was answered within a block: give more time with --budget";
        return (state, words.to_owned());
    }
    let mut words = format!("{failures} of {all} requests failed");
    if refused > 0 {
        words = format!(
            "{words}, {refused} of them because the server was full (429): fewer connections, a lower rate, or more instances"
        );
    } else if let Some(first) = blocks
        .iter()
        .find_map(|done| done.measured.seen.first_failure.as_ref())
    {
        words = format!("{words}; the first: {first}");
    }
    (state, words)
}

/// Whether every version still answers at the end; of each the words for what came instead, where it does not.
pub(super) fn alive_check(labels: &[&str], silences: &[Option<String>]) -> Option<Check> {
    let silent = labels.iter().zip(silences);
    let words: Vec<_> = silent
        .filter_map(|(label, words)| {
            Some(format!("{label} no longer answers ({})", words.as_ref()?))
        })
        .collect();
    (!words.is_empty()).then(|| {
        let words = format!(
            "{}: it died, or was stopped, while it was measured",
            words.join(", ")
        );
        check("alive", CheckState::Invalid, words)
    })
}

/// How many of the inputs the findings are of.
pub(super) fn inputs_check(
    different: usize,
    levels: &[Level],
    answers: &[VersionAnswers],
) -> Option<Check> {
    let loaded = levels.iter().map(|level| level.inputs.loaded).min();
    let compared = answers
        .iter()
        .map(|one| one.answers.compared + one.answers.unanswered)
        .min();
    let told = [(loaded, "loaded"), (compared, "compared")];
    let words: Vec<_> = told
        .iter()
        .filter_map(|(count, verb)| Some(format!("{verb} {}", (*count)?)))
        .collect();
    let fewest = loaded.into_iter().chain(compared).min()?;
    let (state, more) = match fewest < different {
        true => (
            CheckState::Warning,
            ": of the others nothing is known; --budget gives more time",
        ),
        false => (CheckState::Ok, ""),
    };
    let words = format!(
        "of {different} different inputs {}{more}",
        words.join(" and ")
    );
    Some(check("inputs", state, words))
}

/// Of a search for the highest rate: `slips` are those of the rates that passed.
pub(super) fn search_checks(
    slips: &Summary,
    limit_ms: f64,
    environment: &Environment,
) -> Vec<Check> {
    let slip = slips.p99().as_secs_f64() * 1e3;
    let share = slip / limit_ms;
    // A late request is over the limit sooner, so that the rate that is found is too low, if anything.
    let (state, more) = match share > SLIP_SHARE {
        true => (
            CheckState::Warning,
            "; what is found may be too low: a core for the generator helps",
        ),
        false => (CheckState::Ok, ""),
    };
    let words = format!(
        "99 % of requests left at most {slip:.3} ms late, {:.1} % of the limit{more}",
        share * 100.0
    );
    let sent = slips.count() > 0;
    let mut checks = Vec::from_iter(sent.then(|| check("schedule", state, words)));
    checks.push(machine(environment));
    checks
}

/// The smallest median latency, in milliseconds.
fn least_median_ms(levels: &[Level]) -> f64 {
    levels
        .iter()
        .flat_map(|level| &level.figures)
        .map(|figures| figures.p50_ms)
        .fold(f64::INFINITY, f64::min)
}

fn slips(blocks: &[&Done]) -> Summary {
    let mut slips = Summary::new();
    for done in blocks {
        slips.add(&done.measured.seen.slips);
    }
    slips
}

fn slip(slips: &Summary, median: f64) -> Check {
    let slip = slips.p99().as_secs_f64() * 1e3;
    let share = slip / median;
    let state = match (slip > SLIP_MAX.as_secs_f64() * 1e3, share > SLIP_SHARE) {
        (true, true) => CheckState::Invalid,
        (false, true) => CheckState::Warning,
        (_, false) => CheckState::Ok,
    };
    let mut words = format!(
        "99 % of requests left at most {slip:.3} ms late, {:.1} % of the median latency",
        share * 100.0
    );
    if state != CheckState::Ok {
        words += "; the latencies hold this lateness of the generator: a lower rate, or a core of its own, makes it less";
    }
    check("schedule", state, words)
}

fn drops(blocks: &[&Done]) -> Check {
    let unsent: usize = blocks.iter().map(|done| done.measured.unsent).sum();
    let (state, words) = match unsent {
        0 => (
            CheckState::Ok,
            "every request that was due was sent".to_owned(),
        ),
        _ => (
            CheckState::Invalid,
            format!(
                "{unsent} requests that were due were never sent: the server was too far behind; a lower rate measures it"
            ),
        ),
    };
    check("sent", state, words)
}

/// A closed loop asks nothing while a server stands still, so that its percentiles hardly show it.
fn stalls(blocks: &[&Done]) -> Option<Check> {
    let mut latencies = Summary::new();
    let mut time = Duration::ZERO;
    for done in blocks {
        latencies.add(&done.measured.seen.latencies);
        time += done.measured.elapsed;
    }
    let p99 = latencies.p99().as_secs_f64() * 1e3;
    let longest = latencies.max().as_secs_f64() * 1e3;
    if longest < STALL_MIN_MS || longest < p99 * STALL_FACTOR {
        return None;
    }
    Some(check(
        "stalls",
        CheckState::Warning,
        format!(
            "the longest answer took {longest:.0} ms, the p99 is {p99:.3} ms: a closed loop sends nothing while it waits, so that \
             a server that stands still is in it once and not once for every request that would have come; \
             --rate shows what those would have waited"
        ),
    ))
}

/// Without the baseline against itself nobody knows what this machine makes of no difference.
fn noise(levels: &[Level]) -> Option<Check> {
    let missing = levels
        .iter()
        .find(|level| !level.comparisons.is_empty() && level.noise.is_none())?;
    Some(check(
        "noise floor",
        CheckState::Warning,
        format!(
            "there was no time to compare the baseline with itself under {}: give more with --budget",
            missing.name
        ),
    ))
}

fn own_cpu(blocks: &[&Done]) -> Check {
    let mut used = Duration::ZERO;
    let mut time = Duration::ZERO;
    for Done { measured, .. } in blocks {
        used += measured.own_cpu.unwrap_or_default();
        time += measured.took;
    }
    let share = used.as_secs_f64() / time.as_secs_f64().max(f64::MIN_POSITIVE);
    let (state, more) = match share > OWN_CPU_MAX {
        true => (
            CheckState::Warning,
            ": it may be what was measured; fewer requests a second, or heavier ones, tell more",
        ),
        false => (CheckState::Ok, ""),
    };
    let words = format!(
        "the generator used {:.0} % of one core{more}",
        share * 100.0
    );
    check("generator", state, words)
}

fn machine(environment: &Environment) -> Check {
    let mut found = Vec::new();
    if environment.stolen > STOLEN_MAX {
        found.push(format!(
            "other guests of the host took {:.1} % of the processor time",
            environment.stolen * 100.0
        ));
    }
    if environment.others > OTHERS_MAX {
        found.push(format!(
            "other processes used {:.0} % of the processor time",
            environment.others * 100.0
        ));
    }
    if let Some(load) = environment.load_before.filter(|load| *load > LOAD_MAX) {
        found.push(format!("the load average was {load:.2} before the start"));
    }
    match found.is_empty() {
        true => check(
            "machine",
            CheckState::Ok,
            "the machine was quiet".to_owned(),
        ),
        false => check("machine", CheckState::Warning, found.join("; ")),
    }
}

/// Of a percentile that is the slowest request nobody knows how far off it is.
fn few_requests(levels: &[Level]) -> Option<Check> {
    let figures = levels.iter().flat_map(|level| &level.figures);
    let fewest = figures.map(|figures| figures.requests).min()?;
    (fewest < P99_REQUESTS).then(|| {
        check(
            "requests",
            CheckState::Warning,
            format!(
                "a version had {fewest} requests in all: with fewer than {P99_REQUESTS} the p99 is the slowest of them; \
                 more time with --budget, or --thorough, gives more"
            ),
        )
    })
}

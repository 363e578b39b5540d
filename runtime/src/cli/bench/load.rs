//! The load on the versions, and its time.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::bench::{Ground, Scenario, undecidable};
use crate::cli::args::{ArrivalKind, Bench as Typed, LoadScenario};
use crate::cli::bench::found::{Bodies, CONNECTIONS, Found, Place, slots};
use crate::cli::exit::CliError;

/// Default time to measure.
const QUICK: Duration = Duration::from_secs(30);
/// With `--thorough`.
const THOROUGH: Duration = Duration::from_secs(300);
/// At most, with `--target-ci`.
const TARGETED: Duration = Duration::from_secs(600);
/// Requests at once of a query in multi-stream (MLPerf).
const MULTI_STREAM: usize = 8;
/// Most connections of an open loop.
const CONNECTIONS_OPEN: usize = 128;
/// Most requests at once that are made of what deployments take.
const CONNECTIONS_MAX: usize = 256;

/// Refuses what the grammar cannot.
pub(super) fn check(typed: &Typed) -> Result<(), CliError> {
    if scenario(typed) != Scenario::Closed && typed.connections.len() > 1 {
        return Err(CliError::BadInput(
            "several --connections are a sweep of a closed loop; with a rate, sweep with --rate 100,200,.."
                .to_owned(),
        ));
    }
    if !typed.rate.is_empty()
        && typed
            .scenario
            .is_some_and(|scenario| scenario != LoadScenario::Server)
    {
        return Err(CliError::BadInput(
            "--rate is for the scenario server; the others send as fast as they are answered"
                .to_owned(),
        ));
    }
    if typed.insecure {
        return Err(CliError::BadInput(
            "--insecure is not offered: the requests and keys would go to whoever answers; name the authority, or the server's own \
             certificate, with --cacert"
                .to_owned(),
        ));
    }
    // Found out now, and not when all is measured.
    for (option, path) in [("--html", &typed.html), ("--save", &typed.save)] {
        let Some(path) = path else { continue };
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.map(drop).map_err(|error| {
            CliError::BadInput(format!(
                "{option}: cannot write {}: {error}",
                path.display()
            ))
        })?;
    }
    Ok(())
}

/// Refuses conditions that the run cannot decide, whatever it finds: better now than after an hour.
pub(super) fn decidable(typed: &Typed, inputs: &[Bodies]) -> Result<(), CliError> {
    let is_same = inputs.windows(2).all(|two| two[0] == two[1]);
    let different = || inputs[0].iter().collect::<HashSet<_>>().len() as u64;
    let slowest = typed.rate.iter().min().copied().map(u64::from);
    let ground = Ground {
        versions: inputs.len(),
        inputs: is_same.then(different),
        // Each version has at most its part of the time.
        requests: slowest.map(|rate| rate * budget(typed).as_secs() / inputs.len() as u64),
        is_search: typed.slo.is_some(),
    };
    let problems = undecidable(&typed.fail_if, &ground);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(CliError::BadInput(format!(
            "--fail-if: conditions that this run cannot decide:\n  {}",
            problems.join("\n  ")
        ))),
    }
}

pub(super) fn scenario(typed: &Typed) -> Scenario {
    match (typed.scenario, typed.arrivals) {
        (_, Some(ArrivalKind::Constant)) => Scenario::Constant,
        (Some(LoadScenario::Closed), _) => Scenario::Closed,
        (Some(LoadScenario::SingleStream), _) => Scenario::SingleStream,
        (Some(LoadScenario::MultiStream), _) => Scenario::MultiStream,
        (Some(LoadScenario::Offline), _) => Scenario::Offline,
        (Some(LoadScenario::Server), _) => Scenario::Server,
        (None, _) if typed.rate.is_empty() && typed.slo.is_none() => Scenario::Closed,
        (None, _) => Scenario::Server,
    }
}

pub(super) fn rates(typed: &Typed) -> Vec<NonZeroU32> {
    typed
        .rate
        .iter()
        .copied()
        .filter_map(NonZeroU32::new)
        .collect()
}

pub(super) fn budget(typed: &Typed) -> Duration {
    match typed.budget {
        Some(seconds) => Duration::from_secs(seconds.into()),
        None if typed.thorough => THOROUGH,
        None if typed.target_ci.is_some() => TARGETED,
        None => QUICK,
    }
}

/// Requests at once: as written, or what the versions take.
pub(super) fn connections(typed: &Typed, found: &[Found]) -> Vec<usize> {
    let scenario = scenario(typed);
    if !typed.connections.is_empty() {
        return typed.connections.iter().copied().map(usize::from).collect();
    }
    vec![match scenario {
        Scenario::Constant | Scenario::Server => CONNECTIONS_OPEN,
        Scenario::SingleStream => 1,
        Scenario::MultiStream => MULTI_STREAM,
        // As many again may wait before a server refuses.
        Scenario::Offline => (2 * all_slots(found)).min(CONNECTIONS_MAX),
        Scenario::Closed => all_slots(found),
    }]
}

/// Requests at once of the warm-up, which is a closed loop whatever comes after it.
pub(super) fn warm_up_connections(typed: &Typed, found: &[Found]) -> usize {
    let written = typed.connections.iter().copied().map(usize::from).min();
    match scenario(typed) {
        Scenario::SingleStream => 1,
        Scenario::Constant | Scenario::Server => all_slots(found),
        _ => written.unwrap_or_else(|| connections(typed, found)[0]),
    }
}

/// Requests at once that every version takes.
fn all_slots(found: &[Found]) -> usize {
    let each = found.iter().map(|one| match &one.place {
        Place::Deployment(deployed) => slots(&deployed.shown),
        Place::File | Place::Url { .. } => CONNECTIONS,
    });
    each.min().unwrap_or(CONNECTIONS).clamp(1, CONNECTIONS_MAX)
}

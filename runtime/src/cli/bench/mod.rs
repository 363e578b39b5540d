//! `serin bench`: runs of other times (`compare`), or what is compared (`versions`, `found`), what it is asked (`requests`) and how (`load`), progress while it is
//! measured, and what comes of it: a table (`words`), JSON, a page, an exit code.
//!
//! Not here: how it is measured and what the numbers say (`crate::bench`).

mod compare;
mod found;
mod load;
mod progress;
mod requests;
mod versions;
mod words;

use std::time::Duration;

pub(super) use self::found::CONNECTIONS;
use self::found::Place;
use self::load::{budget, check, connections, decidable, rates, scenario, warm_up_connections};
pub(super) use self::progress::Line;
use self::requests::inputs;
pub(super) use self::versions::not_served;
use self::versions::{find, subject};
use self::words::text;
use super::args::{Bench as Typed, BenchAction, Global, OutputFormat};
use super::exit::CliError;
use super::{files, output, signals, version};
use crate::bench::{
    Bench, BenchError, GateReport, GateState, Outcome, PrivateServer, Report, Saved, html,
};
use crate::evidence::Tolerance;

/// Measures, tells, writes and judges; or compares what was written.
pub(super) fn run(typed: &Typed, global: &Global) -> Result<(), CliError> {
    if let Some(BenchAction::Compare { old, new }) = &typed.action {
        return compare::run(old, new, global);
    }
    let outcome = measure(typed, global);
    match outcome {
        // A script that asked for a decision gets one: this run says nothing.
        Err(error) if !typed.fail_if.is_empty() => Err(error.into_no_decision()),
        outcome => outcome,
    }
}

fn measure(typed: &Typed, global: &Global) -> Result<(), CliError> {
    check(typed)?;
    let stop = signals::stop()?;
    let tell = |text: &str| {
        if !global.only_show_errors {
            output::complain(text);
        }
    };
    let found = find(typed, global)?;
    let names: Vec<_> = found.iter().map(|one| one.label.as_str()).collect();
    let doing = format!("bench {}", names.join(" "));
    let within = |error: CliError| match *stop.borrow() {
        true => CliError::NothingMeasured,
        false => error.while_doing(&doing),
    };
    let (inputs, words) = inputs(typed, &found).map_err(within)?;
    decidable(typed, &inputs)?;
    let connections = connections(typed, &found);
    let mut private = Vec::new();
    let mut subjects = Vec::new();
    for (one, inputs) in found.iter().zip(inputs) {
        if matches!(one.place, Place::File) {
            tell(&format!("starting a server for {}\n", one.label));
        }
        let subject = subject(one, inputs, typed, &connections, &mut private).map_err(within)?;
        subjects.push(subject);
    }
    let bench = Bench {
        subjects,
        inputs: words,
        scenario: scenario(typed),
        connections,
        warm_up_connections: warm_up_connections(typed, &found),
        rates: rates(typed),
        budget: budget(typed),
        target_half_width: typed.target_ci,
        min_difference: typed.min_difference,
        slo: typed.slo,
        seed: typed.seed,
        timeout: Duration::from_secs(typed.timeout.into()),
        tolerance: Tolerance {
            absolute: typed.tolerance,
            relative: typed.tolerance,
        },
        conditions: typed.fail_if.clone(),
        onnxruntime: private
            .first()
            .map(|_: &PrivateServer| version::ONNXRUNTIME.to_owned()),
    };
    tell(&format!(
        "measuring {} for at most {} s; Ctrl-C shows what is known by then\n",
        names.join(" and "),
        bench.budget.as_secs()
    ));
    let line = Line::new(!global.only_show_errors);
    let measured = bench.run(stop.clone(), |progress| line.show(progress));
    line.end();
    let report = measured.map_err(|error| within(refused(error)))?;
    drop(private);
    finish(&report, typed, global)
}

/// Prints, writes the files and decides.
fn finish(report: &Report, typed: &Typed, global: &Global) -> Result<(), CliError> {
    let format = match output::is_terminal() {
        true => global.format_for_people(),
        false => global.format(),
    };
    match format {
        OutputFormat::Table if !global.asks_for_part() => output::print_text(&text(report))?,
        _ => {
            let value = serde_json::to_value(report).expect("reports have a JSON form");
            output::print(&value, &global.form_as(format))?;
        }
    }
    if let Some(path) = &typed.html {
        let page = html(report).map_err(|error| CliError::BadInput(error.to_string()))?;
        files::write(path, page.as_bytes()).map_err(|error| {
            CliError::BadInput(format!("--html: cannot write {}: {error}", path.display()))
        })?;
    }
    if let Some(path) = &typed.save {
        let text = serde_json::to_vec(&Saved::of(report)).expect("runs have a JSON form");
        files::write(path, &text).map_err(|error| {
            CliError::BadInput(format!("--save: cannot write {}: {error}", path.display()))
        })?;
    }
    if report.interrupted {
        return Err(CliError::Interrupted);
    }
    decide(report, typed)
}

/// The exit code of a script.
fn decide(report: &Report, typed: &Typed) -> Result<(), CliError> {
    let words = || report.verdict.words.clone();
    if typed.fail_if.is_empty() {
        return match report.verdict.outcome {
            Outcome::Invalid => Err(CliError::SaysNothing(words())),
            _ => Ok(()),
        };
    }
    let with = |state| {
        let gates = report.gates.iter().filter(move |gate| gate.state == state);
        let labelled = |gate: &GateReport| match &report.versions[..] {
            [_, _, _, ..] => {
                let label = &report.versions[gate.version].label;
                format!("{label}: {}", gate.condition)
            }
            _ => gate.condition.clone(),
        };
        let conditions: Vec<_> = gates.map(labelled).collect();
        (!conditions.is_empty()).then(|| conditions.join(", "))
    };
    if let Some(conditions) = with(GateState::Failed) {
        return Err(CliError::Regression(format!("{conditions}: {}", words())));
    }
    // Failures and answers are proven whatever the times say.
    if report.verdict.outcome == Outcome::Invalid {
        return Err(CliError::SaysNothing(words()));
    }
    match with(GateState::Undecided) {
        Some(conditions) => Err(CliError::Undecided(format!("{conditions}: {}", words()))),
        None if is_unconfirmed(report) => Err(CliError::Unconfirmed(words())),
        None => Ok(()),
    }
}

/// Whether a highest rate was looked for, and is not proven for every version.
fn is_unconfirmed(report: &Report) -> bool {
    let versions = report.slo.iter().flat_map(|found| &found.versions);
    versions.into_iter().any(|version| !version.confirmed)
}

/// The reason why nothing was measured, and whose matter that is.
fn refused(error: BenchError) -> CliError {
    match error {
        BenchError::Interrupted => CliError::NothingMeasured,
        BenchError::Threads(source) => CliError::Start(source),
        error @ (BenchError::Refused { .. }
        | BenchError::OtherInputs { .. }
        | BenchError::Undecidable(_)
        | BenchError::NoTime(_)) => CliError::BadInput(error.to_string()),
    }
}

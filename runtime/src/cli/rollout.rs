//! `serin rollout`: a canary that judges itself, for people.

use std::fmt::Write as _;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::Global;
use super::exit::CliError;
use super::form::OutputFormat;
use super::output::{self, Columns};
use super::rollout_args::{
    Feedback, OfEndpoint, Rollout, RolloutNumber, RolloutReport, RolloutStart,
};
use super::server::{Server, who};
use super::{files, find};
use crate::admin::{RolloutCommand, RolloutRecord, RolloutRequest};
use crate::canary::{
    Command, Entry, Finding, Names, Phase, RolloutPlan, Verdict as Judged, read_plan,
};
use crate::config::{LABELS_BYTES_MAX, LABELS_MAX};
use crate::control::{Label, Learned, Replay, RolloutView};
use crate::rollout_report::html;
use crate::spec::{DeploymentName, EndpointName};

/// The pause between two looks at a rollout that is watched.
const WATCH_PERIOD: Duration = Duration::from_millis(500);
/// Wrong lines that are told.
const WRONG_LINES_TOLD: usize = 5;
/// The columns of a table of rollouts.
const COLUMNS: Columns = &[
    ("id", &["/id"]),
    ("endpoint", &["/endpoint"]),
    ("from", &["/from"]),
    ("to", &["/to"]),
    ("phase", &["/phase"]),
    ("weight", &["/weight"]),
    ("verdict", &["/verdict"]),
    ("requests", &["/requests"]),
];
/// The columns of a table of what happened.
const ENTRIES: Columns = &[
    ("at", &["/at"]),
    ("step", &["/step"]),
    ("weight", &["/weight"]),
    ("what", &["/what"]),
];

/// Obeys `serin rollout`.
pub(super) fn run(command: Rollout, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    match command {
        Rollout::Start(typed) => start(&server, &typed, global),
        Rollout::Status(typed) => {
            let endpoint = endpoint_of(&server, &typed.at)?;
            match typed.watch {
                true => watch(&server, &endpoint),
                false => print(&server, &server.client.rollout(&endpoint)?),
            }
        }
        Rollout::Promote(typed) => {
            let command = if typed.full {
                Command::PromoteFull
            } else {
                Command::Promote
            };
            tell(&server, &typed.at, command)
        }
        Rollout::Pause(at) => tell(&server, &at, Command::Pause),
        Rollout::Resume(at) => tell(&server, &at, Command::Resume),
        Rollout::Abort(at) => tell(&server, &at, Command::Abort),
        Rollout::Undo(at) => tell(&server, &at, Command::Undo),
        Rollout::History(typed) => history(&server, &typed),
        Rollout::Explain(typed) => explain(&server, &typed, global),
        Rollout::Replay(typed) => replay(&server, &typed),
        Rollout::Report(typed) => report(&server, &typed),
        Rollout::List => server.print_as(&server.client.rollouts()?, COLUMNS),
    }
}

/// Obeys `serin feedback`.
pub(super) fn feedback(typed: &Feedback, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let endpoint = endpoint_of(&server, &typed.at)?;
    let text = files::request(&typed.file)?;
    let text = String::from_utf8_lossy(&text);
    let (mut labels, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Label>(line) {
            Ok(label) => labels.push((label, line.len())),
            Err(error) => wrong.push(format!("line {number}: {error}")),
        }
    }
    if !wrong.is_empty() {
        let more = wrong.len().saturating_sub(WRONG_LINES_TOLD);
        wrong.truncate(WRONG_LINES_TOLD);
        let more = if more > 0 {
            format!("\nand {more} more")
        } else {
            String::new()
        };
        return Err(CliError::BadInput(format!(
            "expected lines such as {{\"id\": \"..\", \"right\": true}}, or with \"label\" or \"score\" in place of \"right\"; {}{more}",
            wrong.join("\n")
        )));
    }
    let mut learned = Learned::default();
    for heap in heaps(labels) {
        match server.client.feedback(&endpoint, &heap) {
            Ok(more) => learned = learned.and(more),
            // Those before count already.
            Err(error) => {
                if learned != Learned::default() {
                    server.print(&learned)?;
                }
                return Err(error.into());
            }
        }
    }
    server.print(&learned)
}

/// Labels, each with the length of its line, in heaps that are taken at once.
fn heaps(labels: Vec<(Label, usize)>) -> Vec<Vec<Label>> {
    let (mut heaps, mut bytes) = (vec![Vec::new()], 0);
    for (label, length) in labels {
        bytes += length + 1;
        match heaps.last_mut() {
            Some(heap) if heap.len() < LABELS_MAX && bytes <= LABELS_BYTES_MAX / 2 => {
                heap.push(label);
            }
            _ => {
                heaps.push(vec![label]);
                bytes = length + 1;
            }
        }
    }
    heaps.retain(|heap| !heap.is_empty());
    heaps
}

/// The endpoint that was named, else the only one.
pub(super) fn endpoint_of(server: &Server, at: &OfEndpoint) -> Result<EndpointName, CliError> {
    if let Some(name) = &at.endpoint_name {
        return Ok(name.clone());
    }
    let endpoints = server.client.endpoints()?;
    let names: Vec<_> = endpoints
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    match names[..] {
        [only] => only
            .parse()
            .map_err(|_| CliError::NotFound(format!("there is no endpoint {only:?}"))),
        [] => Err(CliError::NotFound(
            "there is no endpoint: create one first".to_owned(),
        )),
        [..] => Err(CliError::BadInput(format!(
            "there are several endpoints: {}; name one with --endpoint-name",
            names.join(", ")
        ))),
    }
}

fn start(server: &Server, typed: &RolloutStart, global: &Global) -> Result<(), CliError> {
    let plan = plan_of(server, typed)?;
    for note in &plan.notes {
        server.tell(&format!("note: {note}\n"));
    }
    let endpoint = plan.endpoint.clone();
    let request = RolloutRequest {
        plan,
        dry_run: typed.dry_run,
        by: who(),
    };
    let view = server.client.start_rollout(&request)?;
    match (typed.dry_run, global.format_for_people()) {
        (true, OutputFormat::Table) => output::print_text(&planned(&view)),
        (false, _) if typed.watch => watch(server, &endpoint),
        _ => print(server, &view),
    }
}

/// What would be, for people: the steps, and what it will take.
fn planned(view: &RolloutView) -> String {
    let mut text = format!(
        "This would be a rollout of {}: {} -> {}, at most {} % false alarms in all.\n",
        view.endpoint,
        view.from,
        view.to,
        view.alpha * 100.0
    );
    for (number, step) in (1..).zip(&view.steps) {
        writeln!(text, "  {number}. {}", step.step).expect("text takes any text");
    }
    let metrics = view
        .findings
        .iter()
        .map(|finding| finding.plan.metric.to_string());
    let metrics: Vec<_> = metrics.collect();
    writeln!(text, "Judged by {}.", metrics.join(", ")).expect("text takes any text");
    match &view.forecast {
        Some(forecast) => writeln!(text, "{forecast}").expect("text takes any text"),
        None => text.push_str("It does not judge errors: there is no forecast.\n"),
    }
    text
}

/// The plan of the file, else the usual one; names that were left out are those that can only be meant.
fn plan_of(server: &Server, typed: &RolloutStart) -> Result<RolloutPlan, CliError> {
    let mut names = Names {
        endpoint: typed.at.endpoint_name.clone(),
        from: typed.from.clone(),
        to: typed.to.clone(),
    };
    let Some(file) = &typed.file else {
        fill_in(server, &mut names)?;
        let (Some(endpoint), Some(from), Some(to)) = (names.endpoint, names.from, names.to) else {
            return Err(CliError::BadInput(
                "a rollout needs --from and --to".to_owned(),
            ));
        };
        return Ok(RolloutPlan::usual(endpoint, from, to));
    };
    let text = files::text(file)?;
    let shown = file.display().to_string();
    if let Ok(plan) = read_plan(&text, &shown, &names) {
        return Ok(plan);
    }
    // A manifest of a cluster names none of the three.
    let filled = fill_in(server, &mut names);
    read_plan(&text, &shown, &names).map_err(|wrong| {
        let names_alone = wrong.problems.iter().all(|problem| problem.place.is_none());
        match filled {
            Err(unclear) if names_alone => unclear,
            _ => wrong.into(),
        }
    })
}

fn fill_in(server: &Server, names: &mut Names) -> Result<(), CliError> {
    let at = OfEndpoint {
        endpoint_name: names.endpoint.clone(),
    };
    let endpoint = endpoint_of(server, &at)?;
    let shown = server.client.endpoint(&endpoint)?;
    names.endpoint = Some(endpoint);
    let known: Vec<_> = find::deployments(&shown)
        .map(|(name, _)| name.to_owned())
        .collect();
    if names.from.is_none() {
        let stable = known
            .iter()
            .find(|name| shown["traffic"][name.as_str()].as_f64() == Some(100.0));
        let stable = stable.ok_or_else(|| {
            CliError::BadInput("no deployment has all traffic: name the stable version with --from, and give it 100 % first".to_owned())
        })?;
        names.from = stable.parse().ok();
    }
    if names.to.is_none() {
        names.to = Some(only_other(&known, names.from.as_ref())?);
    }
    Ok(())
}

fn only_other(known: &[String], from: Option<&DeploymentName>) -> Result<DeploymentName, CliError> {
    let is_from = |name: &str| from.is_some_and(|from| find::is_same(from.as_str(), name));
    let others: Vec<_> = known.iter().filter(|name| !is_from(name)).collect();
    match others[..] {
        [only] => only
            .parse()
            .map_err(|_| CliError::BadInput("name the canary with --to".to_owned())),
        [] => Err(CliError::BadInput(
            "there is no other deployment to roll out: create one without traffic first".to_owned(),
        )),
        [..] => Err(CliError::BadInput(
            "there are several other deployments: name the canary with --to".to_owned(),
        )),
    }
}

fn tell(server: &Server, at: &OfEndpoint, command: Command) -> Result<(), CliError> {
    let endpoint = endpoint_of(server, at)?;
    let command = RolloutCommand { command, by: who() };
    print(server, &server.client.tell_rollout(&endpoint, &command)?)
}

fn print(server: &Server, view: &RolloutView) -> Result<(), CliError> {
    server.print_as(view, COLUMNS)
}

/// The rollout that is meant, and what its record makes of it.
fn record_of(server: &Server, typed: &RolloutNumber) -> Result<RolloutRecord, CliError> {
    let id = match typed.id {
        Some(id) => id,
        None => server.client.rollout(&endpoint_of(server, &typed.at)?)?.id,
    };
    Ok(server.client.replay(id)?)
}

fn history(server: &Server, typed: &RolloutNumber) -> Result<(), CliError> {
    let record = record_of(server, typed)?.replay;
    let lines: Vec<_> = record.entries.iter().map(explained_entry).collect();
    server.print_as(&lines, ENTRIES)
}

/// Prints why a rollout stands where it does: for people as a text, for programs the same in fields.
fn explain(server: &Server, typed: &RolloutNumber, global: &Global) -> Result<(), CliError> {
    let record = record_of(server, typed)?.replay;
    let format = global.format_for_people();
    if format != OutputFormat::Table {
        return output::print_as(&explained(&record), &[], &global.form_as(format));
    }
    output::print_text(&explanation(&record))
}

fn explained(record: &Replay) -> Value {
    let view = &record.rollout;
    let entries: Vec<_> = record.entries.iter().map(explained_entry).collect();
    json!({
        // Its number in `docs/schemas/rollout-explain.json`.
        "schema": 1,
        "id": view.id,
        "endpoint": view.endpoint,
        "from": view.from,
        "to": view.to,
        "alpha": view.alpha,
        "verdict": view.verdict,
        "findings": view.findings,
        "entries": entries,
        "standing": view.standing(),
    })
}

fn explained_entry(entry: &Entry) -> Value {
    let mut line = json!(entry);
    line["at"] = time_of(entry.at_ms).into();
    line["what"] = entry.to_string().into();
    line
}

fn explanation(record: &Replay) -> String {
    let view = &record.rollout;
    let mut text = format!(
        "Rollout {} of endpoint {}: from {} to {}, at most {} % false alarms in all.\n",
        view.id,
        view.endpoint,
        view.from,
        view.to,
        view.alpha * 100.0
    );
    for entry in &record.entries {
        writeln!(text, "{}  {entry}", time_of(entry.at_ms)).expect("text takes any text");
    }
    writeln!(text, "{}", view.standing()).expect("text takes any text");
    text
}

fn replay(server: &Server, typed: &RolloutNumber) -> Result<(), CliError> {
    let record = record_of(server, typed)?.replay;
    let said: Value = json!({
        "id": record.rollout.id,
        "is_equal": record.is_equal,
        "entries": record.entries.len(),
        "replayed": record.replayed,
        "phase": record.rollout.phase,
        "verdict": record.rollout.verdict,
    });
    server.print(&said)?;
    match record.is_equal {
        true => Ok(()),
        false => Err(CliError::OperationFailed(
            "the record does not make the journal that was written".to_owned(),
        )),
    }
}

fn report(server: &Server, typed: &RolloutReport) -> Result<(), CliError> {
    let record = record_of(server, &typed.of)?;
    let id = record.replay.rollout.id;
    let usual = || format!("rollout-{id}.html").into();
    let path = typed.html.clone().unwrap_or_else(usual);
    let page = html(&record).map_err(|error| CliError::BadInput(error.to_string()))?;
    files::write(&path, page.as_bytes()).map_err(|error| {
        CliError::BadInput(format!("--html: cannot write {}: {error}", path.display()))
    })?;
    server.print(&json!({"id": id, "html": path}))
}

/// Shows the rollout again and again until it has ended; on what is no terminal, a line for each change.
fn watch(server: &Server, endpoint: &EndpointName) -> Result<(), CliError> {
    let is_live = output::is_live(&io::stdout());
    let mut shown = String::new();
    loop {
        let view = server.client.rollout(endpoint)?;
        let text = if is_live {
            screen(&view)
        } else {
            format!("{}\n", view.standing())
        };
        if text != shown {
            let up = shown.lines().count();
            let back = if is_live && up > 0 {
                format!("\x1b[{up}A\x1b[J")
            } else {
                String::new()
            };
            output::print_text(&format!("{back}{text}"))?;
            shown = text;
        }
        if view.phase.has_ended() {
            return match view.phase {
                Phase::RolledBack { why } => Err(CliError::Regression(why)),
                Phase::Aborted { why } => Err(CliError::OperationFailed(why)),
                _ => Ok(()),
            };
        }
        sleep(WATCH_PERIOD);
    }
}

/// All of it, for a terminal: the ramp, and the evidence of each metric against what proves it.
fn screen(view: &RolloutView) -> String {
    let mut text = format!(
        "rollout {} of {}: {} -> {}\n",
        view.id, view.endpoint, view.from, view.to
    );
    for step in &view.steps {
        let mark = match step.state.as_str() {
            "done" => "x",
            "now" => ">",
            _ => " ",
        };
        writeln!(text, "  [{mark}] {}", step.step).expect("text takes any text");
    }
    writeln!(
        text,
        "  {} requests, {:.1} a second, {} pairs",
        view.requests, view.requests_per_s, view.pairs
    )
    .expect("text takes any text");
    for finding in &view.findings {
        text.push_str(&line_of(finding, view.requests_per_s));
    }
    writeln!(text, "{}", view.standing()).expect("text takes any text");
    text
}

fn line_of(finding: &Finding, requests_per_s: f64) -> String {
    let bar = |log_e: f64, threshold: f64| {
        let share = (log_e / threshold).clamp(0.0, 1.0);
        let full = (0..10)
            .filter(|tenth| share * 10.0 > f64::from(*tenth))
            .count();
        format!("{}{}", "#".repeat(full), ".".repeat(10 - full))
    };
    let verdict = match finding.verdict {
        Judged::Harm => "HARM",
        Judged::Safe => "SAFE",
        Judged::Undecided => "UNDECIDED",
    };
    let forecast = finding
        .forecast
        .filter(|_| finding.verdict == Judged::Undecided);
    let forecast = forecast.map_or_else(String::new, |requests| {
        let seconds = requests as f64 / requests_per_s;
        match seconds.is_finite() {
            true => format!(", safe in some {requests} requests ({seconds:.0} s)"),
            false => format!(", safe in some {requests} requests"),
        }
    });
    format!(
        "  {:<22} {verdict:<9} harm [{}] safe [{}] {}/{} against {}/{}{forecast}\n",
        finding.plan.metric.to_string(),
        bar(finding.log_e_harm, finding.threshold_harm),
        bar(finding.log_e_safe, finding.threshold_safe),
        finding.canary.events,
        finding.canary.of,
        finding.stable.events,
        finding.stable.of,
    )
}

fn time_of(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| at_ms.to_string(), |at| format!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench::schemas::check;
    use crate::canary::{Event, Guard, GuardPlan, Slowed, SwitchedBack};
    use crate::spec::Percent;

    const SCHEMA: &str = include_str!("../../../docs/schemas/rollout-explain.json");

    /// One event of each kind.
    fn events() -> Vec<Event> {
        let words = || "words".to_owned();
        let finding = Guard::new(GuardPlan::default())
            .unwrap()
            .findings()
            .remove(0);
        let slowed = Slowed {
            slow_us: 1,
            before: (0.0, 0.1),
            now: (0.2, 0.3),
        };
        let found = SwitchedBack {
            share: Percent::HUNDRED,
            pairs: 10,
            slot_seconds: 20,
            ratio: Some((0.9, 1.0, 1.1)),
            ratio_max: 1.05,
        };
        let unknown = SwitchedBack {
            ratio: None,
            ..found
        };
        vec![
            Event::Started {
                by: words(),
                steps: 1,
            },
            Event::Moved {
                before: Percent::ZERO,
            },
            Event::Found {
                finding: Box::new(finding),
            },
            Event::Slowed { slowed },
            Event::SwitchedBack { found },
            Event::SwitchedBack { found: unknown },
            Event::GoingBack { why: words() },
            Event::RolledBack { why: words() },
            Event::Promoted { is_flagged: true },
            Event::Aborted { why: words() },
            Event::Paused { why: words() },
            Event::Undecided { words: words() },
            Event::Answered {
                agrees: true,
                words: words(),
            },
            Event::Told {
                command: Command::Undo,
                by: words(),
            },
            Event::NotDone { reason: words() },
        ]
    }

    #[test]
    fn every_line_of_a_journal_is_as_the_schema_says_and_there_is_no_other_kind() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let mut of_entry = schema["$defs"]["Entry"].clone();
        of_entry["$defs"] = schema["$defs"].clone();
        let mut kinds = BTreeSet::new();
        for event in events() {
            let line = explained_entry(&Entry {
                at_ms: 0,
                step: 0,
                weight: Percent::ZERO,
                requests: 0,
                event,
            });
            assert_eq!(check::problems(&of_entry, &line), [""; 0], "{line}");
            kinds.insert(line["event"].clone().to_string());
        }
        let documented = schema["$defs"]["Entry"]["properties"]["event"]["enum"].as_array();
        let documented = documented.into_iter().flatten().map(Value::to_string);
        assert_eq!(kinds, documented.collect());
    }
}

//! `serin verdict`: what two deployments say of each other, on one server or on several.

use std::path::PathBuf;

use serde_json::json;

use super::args::Global;
use super::exit::CliError;
use super::rollout::endpoint_of;
use super::rollout_args::Verdict as Typed;
use super::server::Server;
use crate::admin::VerdictAnswer;
use crate::canary::{Finding, Machine, Verdict, merge};

/// Obeys `serin verdict`: 0 where the canary is safe, as a comparison of `bench` ends where it does harm or nothing is decided.
pub(super) fn run(typed: &Typed, global: &Global) -> Result<(), CliError> {
    if !typed.server.is_empty() {
        return of_several(typed, global);
    }
    let server = Server::find(global)?;
    let answer = ask(&server, typed)?;
    server.print(&answer.view)?;
    decide(answer.view.verdict, &answer.view.findings)
}

fn ask(server: &Server, typed: &Typed) -> Result<VerdictAnswer, CliError> {
    let endpoint = endpoint_of(server, &typed.at)?;
    let arms = (&typed.from, &typed.to);
    Ok(server.client.verdict(&endpoint, arms)?)
}

/// A server that does not answer is no server that agrees: then there is no verdict.
fn of_several(typed: &Typed, global: &Global) -> Result<(), CliError> {
    let (mut servers, mut answers) = (Vec::new(), Vec::new());
    for folder in &typed.server {
        let doing = || format!("cannot ask the server of {}", folder.display());
        let server = Server::at(folder, global).map_err(|error| error.while_doing(doing()))?;
        answers.push(ask(&server, typed).map_err(|error| error.while_doing(doing()))?);
        servers.push(server);
    }
    let machines: Vec<_> = typed.server.iter().zip(&answers).map(machine).collect();
    let merged = merge(&machines).map_err(|wrong| CliError::BadInput(wrong.join("\n")))?;
    let (Some(server), Some(first)) = (servers.first(), answers.first()) else {
        return Err(CliError::BadInput("no server is named".to_owned()));
    };
    for (place, folder) in typed.server.iter().enumerate() {
        if !merged.counted.contains(&place) {
            let folder = folder.display();
            server.tell(&format!(
                "note: the server of {folder} is named more than once and counts once\n"
            ));
        }
    }
    let counted = || merged.counted.iter().map(|place| &answers[*place]);
    let rows: Vec<_> = counted()
        .zip(&merged.counted)
        .map(|(answer, place)| row(answer, &typed.server[*place]))
        .collect();
    server.print(&json!({
        "endpoint": first.view.endpoint,
        "from": first.view.from,
        "to": first.view.to,
        "verdict": merged.verdict,
        "findings": merged.findings,
        "requests": counted().map(|answer| answer.view.requests).sum::<u64>(),
        "machines": rows,
    }))?;
    decide(merged.verdict, &merged.findings)
}

fn machine((folder, answer): (&PathBuf, &VerdictAnswer)) -> Machine {
    Machine {
        name: folder.display().to_string(),
        report: answer.report.clone(),
        findings: answer.view.findings.clone(),
    }
}

/// What is printed of one machine.
fn row(answer: &VerdictAnswer, folder: &PathBuf) -> serde_json::Value {
    json!({
        "server": folder,
        "verdict": answer.view.verdict,
        "requests": answer.view.requests,
        "rollout": answer.view.rollout,
        "start": answer.report.start,
        "revision": answer.report.revision,
    })
}

fn decide(verdict: Verdict, findings: &[Finding]) -> Result<(), CliError> {
    let words = |judged| {
        let findings = findings.iter().filter(|one| one.verdict == judged);
        let words = findings.map(ToString::to_string);
        words.collect::<Vec<_>>().join("; ")
    };
    match verdict {
        Verdict::Safe => Ok(()),
        Verdict::Harm => Err(CliError::Regression(words(Verdict::Harm))),
        Verdict::Undecided => Err(CliError::Undecided(words(Verdict::Undecided))),
    }
}

//! `get-logs`: what the server has noted of a deployment, oldest first.
//!
//! That is its changes with how each ended, from the journal; between them, by the time, its log: the way of its model, its instances,
//! what ONNX Runtime warned of, what its script printed, requests that failed by its fault; and at the end why it is degraded, and its
//! notes. Journal and log survive restarts.

use serde_json::Value;

use super::args::{Container, Global, LogLines};
use super::exit::CliError;
use super::output;
use super::server::{Server, notes_of};
use crate::config::JOURNAL_LAST_MAX;
use crate::control::JournalEntry;
use crate::spec::{DeploymentName, EndpointName};

/// Prints the last lines of a deployment.
pub(super) fn print(
    endpoint: &EndpointName,
    deployment: &DeploymentName,
    typed: &LogLines,
    global: &Global,
) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let said = server.client.deployment(endpoint, deployment)?;
    let entries = server.client.journal(JOURNAL_LAST_MAX)?;
    let mut lines = lines_of(endpoint.as_str(), deployment.as_str(), &entries);
    // All of them: those of one container may be far back.
    let noted = server
        .client
        .deployment_log(endpoint, deployment, usize::MAX)?;
    let is_asked = |line: &String| match typed.container {
        Some(Container::StorageInitializer) => line.contains(PREPARATION),
        Some(Container::InferenceServer) | None => true,
    };
    lines.extend(noted.into_iter().filter(is_asked));
    // Both are in order, and so is what happened at the same time.
    lines.sort_by(|one, other| time(one).cmp(time(other)));
    lines.extend(
        notes_of(&said)
            .iter()
            .map(|note| note.trim_end().to_owned()),
    );
    if let Some(reason) = said["degraded"]["reason"].as_str() {
        lines.push(format!("degraded: {reason}"));
    }
    let first = lines.len().saturating_sub(typed.lines);
    let text: Value = lines[first..].join("\n").into();
    match global.asks_for_part() {
        true => output::print(&text, &global.form()),
        false => output::print_text(&format!("{}\n", text.as_str().unwrap_or_default())),
    }
}

/// The word behind the time of lines on the way of a model, as the server writes it.
const PREPARATION: &str = "Z preparation: ";

/// The time that a line begins with.
fn time(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The entries that speak of a deployment, or of how a change of it ended.
fn lines_of(endpoint: &str, deployment: &str, entries: &[JournalEntry]) -> Vec<String> {
    let mut revisions = Vec::new();
    let mut lines = Vec::new();
    for entry in entries {
        let is_outcome = entry.change["kind"] == "outcome";
        let is_of_it = match is_outcome {
            true => revisions.contains(&entry.revision),
            false => speaks_of(&entry.change, endpoint, deployment),
        };
        if !is_of_it {
            continue;
        }
        revisions.push(entry.revision);
        let state = entry.change["provisioning_state"]
            .as_str()
            .unwrap_or_default();
        let words = match is_outcome {
            true => format!("{}: {state}", entry.by),
            false => format!("{}: {}", entry.by, entry.what()),
        };
        let why = entry
            .why
            .as_ref()
            .map_or(String::new(), |why| format!(": {why}"));
        lines.push(format!("{:.3} {words}{why}", entry.at));
    }
    lines
}

/// Whether a change names the deployment of the endpoint.
fn speaks_of(change: &Value, endpoint: &str, deployment: &str) -> bool {
    let is = |value: &Value, name: &str| {
        value
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case(name))
    };
    let of_endpoint = [
        &change["endpoint"],
        &change["name"],
        &change["endpoint"]["name"],
    ];
    if !of_endpoint.iter().any(|value| is(value, endpoint)) {
        return false;
    }
    let named = [
        &change["deployment"]["name"],
        &change["name"],
        &change["update"]["deployment"][0],
    ];
    let listed = [&change["deployments"], &change["update"]["deployments"]];
    let mut listed = listed.into_iter().filter_map(Value::as_array).flatten();
    named.iter().any(|value| is(value, deployment))
        || listed.any(|one| is(&one["name"], deployment))
        || change["update"]["traffic"].get(deployment).is_some()
}

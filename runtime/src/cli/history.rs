//! `serin history` and `serin rollback`: what was from what to what, and the way back.

use serde_json::{Value, json};

use super::args::{Global, History, OutputFormat, RollBack};
use super::exit::CliError;
use super::journal_words::value;
use super::output::Columns;
use super::server::Server;
use crate::control::{AsOf, Change, Difference, HistoryEntry, Revision};
use crate::spec::EndpointName;

const COLUMNS: Columns = &[
    ("revision", &["/revision"]),
    ("at", &["/at"]),
    ("by", &["/by"]),
    ("what", &["/what"]),
    ("state", &["/provisioning_state"]),
    ("from -> to", &["/changed"]),
    ("why", &["/why"]),
];

/// Prints the last changes.
pub(super) fn history(typed: &History, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let endpoint = typed.bare.as_ref().or(typed.name.as_ref());
    let entries = server.client.history(typed.last, endpoint)?;
    match global.format() {
        OutputFormat::Table | OutputFormat::Tsv if !global.asks_for_part() => {
            let lines: Vec<_> = entries.iter().map(line).collect();
            server.print_as(&lines, COLUMNS)
        }
        _ => server.print(&entries),
    }
}

/// An entry with what fits in the cells of its row.
fn line(entry: &HistoryEntry) -> Value {
    let mut line = json!(entry);
    line["at"] = format!("{:.0}", entry.at).into();
    let changed = entry.changed.iter().flatten().map(words);
    let changed: Vec<_> = changed.collect();
    line["changed"] = match &entry.changed {
        None => Value::Null,
        Some(_) => changed.join("; ").into(),
    };
    line
}

/// `traffic.blue: 100 -> 90`
fn words(one: &Difference) -> String {
    let (from, to) = (value(&one.from), value(&one.to));
    format!("{}: {from} -> {to}", one.path)
}

/// Brings endpoints back to what they were as of a revision.
pub(super) fn roll_back(typed: &RollBack, global: &Global) -> Result<(), CliError> {
    let to = Revision(typed.to);
    let server = Server::find(global)?;
    let differing = server.client.as_of(to)?;
    let named = typed.bare.as_ref().or(typed.name.as_ref());
    let (there, since): (Vec<_>, Vec<_>) = differing
        .into_iter()
        .filter(|one| named.is_none_or(|named| *named == one.endpoint))
        .partition(|one| one.was_there);
    for one in since {
        refuse_or_tell(&server, named, &one, to)?;
    }
    if there.is_empty() {
        if let Some(named) = named {
            server.client.endpoint(named)?;
        }
        server.tell(&format!(
            "nothing to do: all of it is as of revision {to}\n"
        ));
    }
    let mut done = Vec::new();
    for one in there {
        for change in &one.changed {
            server.tell(&format!("  {}: {}\n", one.endpoint, words(change)));
        }
        let change = Change::RollBack {
            endpoint: one.endpoint.clone(),
            to,
        };
        server.carry_out(change, typed.waiting)?;
        done.push(json!({
            "changed": one.changed,
            "endpoint": one.endpoint,
            "revision": server.client.status()?.revision,
            "rolled_back_to": to,
        }));
    }
    server.print(&done)
}

/// An endpoint that was made since: it stays, and who names it is told that there is nothing to go back to.
fn refuse_or_tell(
    server: &Server,
    named: Option<&EndpointName>,
    one: &AsOf,
    to: Revision,
) -> Result<(), CliError> {
    let endpoint = &one.endpoint;
    match named {
        Some(_) => Err(CliError::NotFound(format!(
            "endpoint {endpoint} was not there as of revision {to}; to be rid of it, delete it"
        ))),
        None => {
            server.tell(&format!(
                "note: endpoint {endpoint} was made since, and stays\n"
            ));
            Ok(())
        }
    }
}

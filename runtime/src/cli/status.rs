//! `serin status` and `serin journal`: what the server is, and what was done to it.

use serde_json::{Value, json};

use super::args::{Global, Journal, OutputFormat};
use super::exit::CliError;
use super::output::Columns;
use super::server::Server;
use crate::control::JournalEntry;

/// The columns of a table of the journal.
const COLUMNS: Columns = &[
    ("revision", &["/revision"]),
    ("at", &["/at"]),
    ("by", &["/by"]),
    ("what", &["/what"]),
    ("state", &["/change/provisioning_state"]),
    ("why", &["/why"]),
];

/// Prints what the server is.
pub(super) fn status(global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    server.print(&server.client.status()?)
}

/// Prints the last entries of the journal.
pub(super) fn journal(typed: &Journal, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let entries = server.client.journal(typed.last)?;
    match global.format() {
        OutputFormat::Table | OutputFormat::Tsv if !global.asks_for_part() => {
            let lines: Vec<_> = entries.iter().map(line).collect();
            server.print_as(&lines, COLUMNS)
        }
        _ => server.print(&entries),
    }
}

/// An entry with what fits in the cells of its row: whole seconds, and the change in words.
fn line(entry: &JournalEntry) -> Value {
    let mut line = json!(entry);
    line["at"] = format!("{:.0}", entry.at).into();
    line["what"] = entry.what().into();
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{COLUMNS, line};
    use crate::cli::output::table_of;
    use crate::control::JournalEntry;

    /// The row of an entry, below the headings.
    #[track_caller]
    fn check(change: &Value, why: Option<&str>, row: &str) {
        let entry: JournalEntry = serde_json::from_value(json!({
            "seq": 9,
            "revision": 7,
            "at": "2026-01-01T00:00:00.123456Z",
            "by": "ann",
            "change": change,
            "why": why,
        }))
        .unwrap();
        let table = table_of(&json!([line(&entry)]), COLUMNS);
        assert_eq!(table.lines().last(), Some(row), "{table}");
    }

    #[test]
    fn the_journal_shows_that_a_change_was_replaced() {
        check(
            &json!({"kind": "outcome", "operation": 7, "provisioning_state": "Canceled"}),
            Some("revision 8 took its place"),
            "7         2026-01-01T00:00:00Z  ann  outcome  Canceled  revision 8 took its place",
        );
    }

    #[test]
    fn the_journal_says_a_change_in_words() {
        check(
            &json!({"kind": "update_endpoint", "name": "iris", "update": {"traffic": {"blue": 90, "green": 10}}}),
            None,
            "7         2026-01-01T00:00:00Z  ann  update endpoint iris, traffic blue:90,green:10",
        );
        check(
            &json!({"kind": "delete_deployment", "name": "blue"}),
            None,
            "7         2026-01-01T00:00:00Z  ann  delete deployment blue",
        );
    }

    #[test]
    fn the_journal_names_the_model_that_came() {
        check(
            &json!({"kind": "register_model", "model": {"name": "digits", "version": "1"}}),
            None,
            "7         2026-01-01T00:00:00Z  ann  register model digits:1",
        );
    }

    #[test]
    fn a_change_of_a_later_release_is_shown_by_its_kind() {
        check(
            &json!({"kind": "mirror_endpoint", "name": "iris"}),
            None,
            "7         2026-01-01T00:00:00Z  ann  mirror endpoint",
        );
    }
}

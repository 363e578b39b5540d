//! `serin status` and `serin journal`: what the server is, and what was done to it.

use super::args::{Global, Journal};
use super::exit::CliError;
use super::output::Columns;
use super::server::Server;

/// The columns of a table of the journal.
const COLUMNS: Columns = &[
    ("revision", &["/revision"]),
    ("at", &["/at"]),
    ("by", &["/by"]),
    ("what", &["/change/kind"]),
    (
        "endpoint",
        &["/change/endpoint/name", "/change/endpoint", "/change/name"],
    ),
    ("state", &["/change/provisioning_state"]),
];

/// Prints what the server is.
pub(super) fn status(global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    server.print(&server.client.status()?)
}

/// Prints the last entries of the journal.
pub(super) fn journal(typed: &Journal, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    server.print_as(&server.client.journal(typed.last)?, COLUMNS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::COLUMNS;
    use crate::cli::output::table_of;
    use crate::control::JournalEntry;

    #[test]
    fn the_journal_shows_that_a_change_was_replaced() {
        let entry: JournalEntry = serde_json::from_value(json!({
            "seq": 9,
            "revision": 7,
            "at": "2026-01-01T00:00:00Z",
            "by": "ann",
            "change": {"kind": "outcome", "endpoint": "iris", "provisioning_state": "Canceled"},
            "why": "revision 8 took its place",
        }))
        .unwrap();
        let shown = serde_json::to_value([entry]).unwrap();
        assert_eq!(
            table_of(&shown, COLUMNS),
            "revision  at                    by   what     endpoint  state\n\
             --------  --------------------  ---  -------  --------  --------\n\
             7         2026-01-01T00:00:00Z  ann  outcome  iris      Canceled\n"
        );
    }
}

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

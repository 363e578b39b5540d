//! `serin status` and `serin journal`: what the server is, and what was done to it.

use super::args::{Global, Journal};
use super::exit::CliError;
use super::server::Server;

/// Prints what the server is.
pub(super) fn status(global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    server.print(&server.client.status()?)
}

/// Prints the last entries of the journal.
pub(super) fn journal(typed: &Journal, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    server.print(&server.client.journal(typed.last)?)
}

//! `serin backup` and `serin restore`: the whole state of a server, copied.
//!
//! Both work on files. A backup needs no server and disturbs none; a restore needs one that is stopped.

use std::path::Path;

use serde_json::json;

use super::args::{Backup, Global, Restore};
use super::exit::CliError;
use super::files;
use super::output;
use super::server::data_folder;
use crate::control::{back_up, restore as restore_state};

/// Copies the state of the data folder.
pub(super) fn backup(typed: &Backup, global: &Global) -> Result<(), CliError> {
    let data = data_folder(global)?;
    require_text([&data, &typed.to])?;
    let copied = back_up(&data, &typed.to).map_err(|error| {
        CliError::from(error).while_doing(format!("back up {}", data.display()))
    })?;
    output::print(&json!(copied), &global.form())
}

/// Brings a backup into the data folder.
pub(super) fn restore(typed: &Restore, global: &Global) -> Result<(), CliError> {
    let data = data_folder(global)?;
    require_text([&data, &typed.from])?;
    let copied = restore_state(&typed.from, &data, typed.force).map_err(|error| {
        CliError::from(error).while_doing(format!("restore {}", data.display()))
    })?;
    output::print(&json!(copied), &global.form())
}

/// SQLite and JSON know paths as text alone.
fn require_text(paths: [&Path; 2]) -> Result<(), CliError> {
    let mut checked = paths.into_iter().map(files::check_text);
    checked.try_for_each(|text| text.map_err(CliError::BadInput))
}

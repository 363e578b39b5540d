//! `serin status`: what the server is, and what it does now.
//!
//! What two readings say together is in `readings`; a table is drawn by `status_words`.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Global, OutputFormat, Status};
use super::exit::CliError;
use super::moment::Today;
use super::output::{self, Columns};
use super::readings::Seen;
use super::server::{Server, data_folder};
use super::{status_words, width};
use crate::admin::{ClientError, ServerStatus};

/// The columns between tabs: a row for each deployment.
const COLUMNS: Columns = &[
    ("endpoint", &["/endpoint"]),
    ("deployment", &["/name"]),
    ("state", &["/provisioning_state"]),
    ("ready", &["/instances_ready"]),
    ("instances", &["/instance_count"]),
    ("traffic", &["/traffic"]),
    ("mirror", &["/mirror_traffic"]),
    ("requests_per_s", &["/requests_per_s"]),
    ("in_flight", &["/in_flight"]),
];

/// Prints what the server is and does; with `--watch` again and again.
pub(super) fn status(typed: &Status, global: &Global) -> Result<(), CliError> {
    let (mut earlier, first) = readings(typed, global)?;
    print(&first, global, typed.watch)?;
    while typed.watch && !output::reader_has_gone() {
        let pause = Duration::from_secs_f64(typed.seconds);
        thread::sleep(pause.max(WATCH_PAUSE_MIN));
        let now = read(global)?;
        let seen = seen(&earlier, now.clone(), global)?;
        print(&seen, global, true)?;
        earlier = now;
    }
    Ok(())
}

/// Shortest time between two looks.
const WATCH_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The newest reading, and what it says beside the one before.
fn readings(typed: &Status, global: &Global) -> Result<(ServerStatus, Seen), CliError> {
    let first = read(global)?;
    let mut now = first.clone();
    // Where there is nothing to count there is nothing to wait for.
    if has_deployments(&first) && typed.seconds > 0.0 && !typed.watch {
        thread::sleep(Duration::from_secs_f64(typed.seconds));
        now = read(global)?;
    }
    let seen = seen(&first, now.clone(), global)?;
    Ok((now, seen))
}

fn has_deployments(status: &ServerStatus) -> bool {
    status
        .endpoints
        .iter()
        .any(|one| !one.deployments.is_empty())
}

/// Asks the server that has the data folder at this moment: another one may have taken over since the last time.
fn read(global: &Global) -> Result<ServerStatus, CliError> {
    let read = Server::find(global)?.client.status();
    match read {
        // The file named one that was on its way out.
        Err(ClientError::NoServer { .. }) => Ok(Server::find(global)?.client.status()?),
        read => Ok(read?),
    }
}

/// The newer of two readings, with the folder as it is called from anywhere.
fn seen(earlier: &ServerStatus, now: ServerStatus, global: &Global) -> Result<Seen, CliError> {
    let folder = data_folder(global)?;
    let folder = fs::canonicalize(&folder).unwrap_or(folder);
    Ok(Seen::of(earlier, now, &folder))
}

fn print(seen: &Seen, global: &Global, is_watched: bool) -> Result<(), CliError> {
    let format = global.format_on(output::is_terminal());
    if global.asks_for_part() {
        return output::print(&value(seen), &global.form_as(format));
    }
    match format {
        OutputFormat::Table => {
            let text = status_words::words(seen, &Today::here(), width::of_output());
            // The screen is one page as long as it is watched.
            if is_watched && output::is_live(&io::stdout()) {
                output::clear()?;
            }
            output::print_text(&text)
        }
        OutputFormat::Tsv => output::print_as(&rows(seen), COLUMNS, &global.form_as(format)),
        format => output::print(&value(seen), &global.form_as(format)),
    }
}

fn value(seen: &Seen) -> Value {
    serde_json::to_value(seen).expect("results have a JSON form")
}

/// A row for each deployment.
fn rows(seen: &Seen) -> Value {
    let endpoints = seen.status.endpoints.iter();
    let rows = endpoints.flat_map(|endpoint| {
        endpoint.deployments.iter().map(|deployment| {
            let mut row = json!(deployment);
            row["endpoint"] = json!(endpoint.name);
            row
        })
    });
    rows.collect()
}

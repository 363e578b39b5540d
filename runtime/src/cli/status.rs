//! `serin status`: what the server is, and what it does now.
//!
//! The rate of requests is the difference of two readings of counters, by a clock of the server that nobody sets. A table is drawn by
//! `status_words`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Global, OutputFormat, Status};
use super::exit::CliError;
use super::moment::Today;
use super::output::{self, Columns};
use super::server::{Server, data_folder};
use super::{status_words, width};
use crate::admin::{ClientError, DeploymentStatus, ServerStatus};

/// The number of the form of what is printed; `docs/schemas/status.json` has it.
const SCHEMA: u32 = 1;

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

/// What is printed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seen {
    pub(super) schema: u32,
    #[serde(flatten)]
    pub(super) status: ServerStatus,
    /// The folder of the server's data.
    pub(super) data_folder: PathBuf,
    /// The time over which requests a second are counted; none where they are not known.
    pub(super) rate_over_s: Option<f64>,
}

/// Prints what the server is and does; with `--watch` again and again.
pub(super) fn status(typed: &Status, global: &Global) -> Result<(), CliError> {
    let (mut earlier, first) = readings(typed, global)?;
    print(&first, global, typed.watch)?;
    while typed.watch && !output::reader_has_gone() {
        let pause = Duration::from_secs_f64(typed.seconds);
        thread::sleep(pause.max(WATCH_PAUSE_MIN));
        let now = read(global)?;
        let seen = Seen::new(&earlier, now.clone(), global)?;
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
    let seen = Seen::new(&first, now.clone(), global)?;
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

impl Seen {
    fn new(earlier: &ServerStatus, now: ServerStatus, global: &Global) -> Result<Self, CliError> {
        let folder = data_folder(global)?;
        Ok(Self::of(earlier, now, &folder))
    }

    fn of(earlier: &ServerStatus, now: ServerStatus, folder: &Path) -> Self {
        let rate_over_s = seconds_between(earlier, &now);
        let mut status = now;
        for endpoint in &mut status.endpoints {
            let before = earlier
                .endpoints
                .iter()
                .find(|one| one.name == endpoint.name);
            for deployment in &mut endpoint.deployments {
                let before = before.and_then(|before| {
                    let mut deployments = before.deployments.iter();
                    deployments.find(|one| one.name == deployment.name)
                });
                deployment.requests_per_s = rate(before, deployment, rate_over_s);
            }
        }
        Self {
            schema: SCHEMA,
            status,
            data_folder: fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()),
            rate_over_s,
        }
    }
}

/// The time between two readings of one server; none where they are of two, or one reading twice.
fn seconds_between(earlier: &ServerStatus, now: &ServerStatus) -> Option<f64> {
    let is_same = (earlier.pid, earlier.started) == (now.pid, now.started);
    let passed = now.uptime_ms.checked_sub(earlier.uptime_ms)?;
    (is_same && passed > 0).then(|| Duration::from_millis(passed).as_secs_f64())
}

/// Requests a second; none of a deployment that was not there before, or was made anew since.
fn rate(
    before: Option<&DeploymentStatus>,
    now: &DeploymentStatus,
    over_s: Option<f64>,
) -> Option<f64> {
    let ended = now.requests.checked_sub(before?.requests)?;
    // Hundreds of millions of years pass before the digits of a count are not enough.
    Some((ended as f64 / over_s? * 10.0).round() / 10.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uptime_ms: u64, requests: u64) -> ServerStatus {
        serde_json::from_value(json!({
            "version": "0.1.0", "pid": 7, "started": "2026-01-01T00:00:00Z", "ready": true, "revision": 3,
            "scoring_address": "127.0.0.1:1", "admin_address": "127.0.0.1:2", "uptime_ms": uptime_ms,
            "endpoints": [{"name": "iris", "provisioning_state": "Succeeded", "deployments": [{
                "name": "blue", "provisioning_state": "Succeeded", "traffic": 100, "mirror_traffic": 0, "instances_ready": 1,
                "instance_count": 1, "requests": requests, "in_flight": 2, "degraded": false,
            }]}],
        }))
        .unwrap()
    }

    fn seen(earlier: &ServerStatus, now: ServerStatus) -> (Option<f64>, Option<f64>) {
        let seen = Seen::of(earlier, now, Path::new("/nowhere"));
        let rate = seen.status.endpoints[0].deployments[0].requests_per_s;
        (seen.rate_over_s, rate)
    }

    #[test]
    fn a_rate_is_what_has_ended_between_two_readings() {
        let both = seen(&status(1000, 10), status(3000, 260));
        assert_eq!(both, (Some(2.0), Some(125.0)));
        assert_eq!(
            seen(&status(1000, 10), status(2000, 10)),
            (Some(1.0), Some(0.0))
        );
    }

    #[test]
    fn two_servers_and_one_reading_have_no_rate() {
        let mut other = status(3000, 260);
        other.pid = 8;
        assert_eq!(seen(&status(1000, 10), other), (None, None));
        assert_eq!(seen(&status(1000, 10), status(1000, 10)), (None, None));
        assert_eq!(seen(&status(1000, 10), status(900, 10)), (None, None));
    }

    #[test]
    fn a_deployment_that_was_made_anew_has_no_rate() {
        assert_eq!(seen(&status(1000, 10), status(2000, 3)), (Some(1.0), None));
    }

    #[test]
    fn an_answer_of_an_earlier_server_is_read() {
        let old: ServerStatus = serde_json::from_value(json!({
            "version": "0.1.0", "pid": 7, "started": "2026-01-01T00:00:00Z", "ready": true, "revision": 3,
            "scoring_address": "127.0.0.1:1", "admin_address": "127.0.0.1:2",
        }))
        .unwrap();
        let seen = Seen::of(&old, old.clone(), Path::new("/nowhere"));
        assert_eq!((seen.rate_over_s, rows(&seen)), (None, json!([])));
    }
}

//! The words of `serin status`: a head, a row for each deployment, and a sentence for all that is not as it should be. Pure.

use std::time::Duration;

use super::escape;
use super::moment::{self, Today};
use super::readings::Seen;
use super::table::{self, Heading};
use super::width;
use crate::admin::{DeploymentStatus, EndpointStatus, ServerStatus};

const HEAD: [(&str, bool); 8] = [
    ("endpoint", false),
    ("deployment", false),
    ("state", false),
    ("ready", true),
    ("traffic", true),
    ("mirror", true),
    ("req/s", true),
    ("in flight", true),
];

/// Stands where there is nothing to say.
const NOTHING: &str = "-";

/// All of it; no line is wider than the terminal.
pub(super) fn words(seen: &Seen, today: &Today, width: Option<usize>) -> String {
    let mut parts = vec![head(seen, today, width)];
    if seen.status.endpoints.is_empty() {
        parts.push("no endpoints\n".to_owned());
    } else {
        parts.push(deployments(seen, width));
    }
    let notes = notes(&seen.status);
    if !notes.is_empty() {
        parts.push(in_lines(&notes, width));
    }
    parts.join("\n")
}

fn head(seen: &Seen, today: &Today, width: Option<usize>) -> String {
    let status = &seen.status;
    let ready = if status.ready { "ready" } else { "not ready" };
    let lines = [
        format!(
            "serin {}, {ready}, up {} since {}, pid {}, revision {}",
            status.version,
            moment::span(Duration::from_millis(status.uptime_ms)),
            today.moment(status.started),
            status.pid,
            status.revision
        ),
        format!("data {}", seen.data_folder.display()),
        format!("scoring http://{}", status.scoring_address),
        format!("administration http://{}", status.admin_address),
    ];
    in_lines(&lines, width)
}

/// Sentences, each on lines of its own.
fn in_lines(sentences: &[String], width: Option<usize>) -> String {
    let lines = sentences
        .iter()
        .flat_map(|sentence| width::wrapped(&escape::line(sentence), width));
    lines.map(|line| line + "\n").collect()
}

fn deployments(seen: &Seen, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = seen.status.endpoints.iter().flat_map(rows_of).collect();
    let head = HEAD.map(|(name, numbers)| Heading { name, numbers });
    let drawn = table::table(&head, &rows, true);
    let widest = drawn.lines().map(|line| line.chars().count()).max();
    let mut text = match width {
        Some(width) if widest > Some(width) => stacked(&rows, width),
        _ => drawn,
    };
    if let Some(seconds) = seen.rate_over_s {
        let over = format!("req/s: requests that ended, a second, over the last {seconds:.1} s");
        text.push_str(&in_lines(&[over], width));
    }
    text
}

/// A row for each deployment; an endpoint without any has one too.
fn rows_of(endpoint: &EndpointStatus) -> Vec<Vec<String>> {
    let name = endpoint.name.to_string();
    if endpoint.deployments.is_empty() {
        let state = endpoint.provisioning_state.to_string();
        let mut row = vec![name, NOTHING.to_owned(), state];
        row.resize(HEAD.len(), NOTHING.to_owned());
        return vec![row];
    }
    let deployments = endpoint.deployments.iter();
    deployments.map(|one| row_of(&name, one)).collect()
}

fn row_of(endpoint: &str, one: &DeploymentStatus) -> Vec<String> {
    let share = |percent: crate::spec::Percent| match percent.hundredths() {
        0 => NOTHING.to_owned(),
        _ => format!("{percent} %"),
    };
    let rate = one.requests_per_s;
    vec![
        endpoint.to_owned(),
        one.name.to_string(),
        one.provisioning_state.to_string(),
        format!("{}/{}", one.instances_ready, one.instance_count),
        share(one.traffic),
        share(one.mirror_traffic),
        rate.map_or_else(|| NOTHING.to_owned(), |rate| format!("{rate:.1}")),
        one.in_flight.to_string(),
    ]
}

/// The same in blocks, for a terminal that has no place for columns.
fn stacked(rows: &[Vec<String>], width: usize) -> String {
    let blocks = rows.iter().map(|row| {
        let named: Vec<String> = HEAD
            .iter()
            .zip(row)
            .skip(2)
            .filter(|(_, cell)| *cell != NOTHING)
            .map(|((name, _), cell)| format!("{name} {cell}"))
            .collect();
        let name = match row[1].as_str() {
            NOTHING => row[0].clone(),
            deployment => format!("{}/{deployment}", row[0]),
        };
        width::block(&name, &named.join(", "), width)
    });
    blocks.collect()
}

/// A sentence for each thing that is on its way, or is not as it should be.
fn notes(status: &ServerStatus) -> Vec<String> {
    let short = status.short.iter().map(|one| {
        format!(
            "short: {}/{} has {} % of the traffic and no instance",
            one.endpoint, one.deployment, one.traffic
        )
    });
    let degraded = status.degraded.iter().map(|one| {
        format!(
            "degraded: {}/{} has failed {} times in a row: {}",
            one.endpoint, one.deployment, one.failures_in_a_row, one.reason
        )
    });
    let mut notes: Vec<String> = short.chain(degraded).collect();
    for endpoint in &status.endpoints {
        for one in &endpoint.deployments {
            let name = format!("{}/{}", endpoint.name, one.name);
            notes.extend(
                one.reason
                    .as_ref()
                    .map(|why| format!("failed: {name}: {why}")),
            );
            notes.extend(
                one.progress
                    .as_ref()
                    .map(|step| format!("under way: {name}: {step}")),
            );
        }
        notes.extend(
            endpoint
                .rollout
                .as_ref()
                .map(|one| format!("rollout {} of {}: {}", one.id, endpoint.name, one.standing)),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;

    fn today() -> Today {
        Today::at("2026-01-01T20:00:00Z".parse().unwrap(), TimeZone::UTC)
    }

    fn seen(endpoints: Value) -> Seen {
        let status = json!({
            "version": "0.1.0", "pid": 7, "started": "2026-01-01T14:03:22Z", "ready": true, "revision": 3,
            "scoring_address": "127.0.0.1:5001", "admin_address": "127.0.0.1:5002", "uptime_ms": 21_398_000,
            "endpoints": endpoints,
        });
        Seen {
            schema: 1,
            status: serde_json::from_value(status).unwrap(),
            data_folder: PathBuf::from("/data"),
            rate_over_s: Some(1.0),
        }
    }

    fn deployment(name: &str, more: Value) -> Value {
        let mut one = json!({
            "name": name, "provisioning_state": "Succeeded", "traffic": 90, "mirror_traffic": 0, "instances_ready": 1,
            "instance_count": 2, "requests": 10, "requests_per_s": 120.34, "in_flight": 2, "degraded": false,
        });
        for (name, field) in more.as_object().unwrap() {
            one[name] = field.clone();
        }
        one
    }

    fn iris() -> Value {
        json!([
            {
                "name": "digits", "provisioning_state": "Succeeded", "deployments": [],
            },
            {
                "name": "iris", "provisioning_state": "Succeeded",
                "rollout": {"id": 3, "from": "blue", "to": "green", "weight": 10, "standing": "green has 10 %: wait"},
                "deployments": [
                    deployment("blue", json!({})),
                    deployment("green", json!({"traffic": 10, "mirror_traffic": 12.5, "requests_per_s": null,
                        "provisioning_state": "Failed", "reason": "no\nmemory"})),
                ],
            },
        ])
    }

    #[test]
    fn a_server_is_told_in_a_head_a_table_and_what_is_not_as_it_should_be() {
        assert_eq!(
            words(&seen(iris()), &today(), None),
            "serin 0.1.0, ready, up 5 h 56 min since 14:03:22, pid 7, revision 3\n\
             data /data\n\
             scoring http://127.0.0.1:5001\n\
             administration http://127.0.0.1:5002\n\
             \n\
             endpoint  deployment  state      ready  traffic  mirror  req/s  in flight\n\
             --------  ----------  ---------  -----  -------  ------  -----  ---------\n\
             digits    -           Succeeded      -        -       -      -          -\n\
             iris      blue        Succeeded    1/2     90 %       -  120.3          2\n\
             iris      green       Failed       1/2     10 %  12.5 %      -          2\n\
             req/s: requests that ended, a second, over the last 1.0 s\n\
             \n\
             failed: iris/green: no\\nmemory\n\
             rollout 3 of iris: green has 10 %: wait\n"
        );
    }

    #[test]
    fn a_server_without_endpoints_says_so() {
        let told = words(&seen(json!([])), &today(), None);
        assert!(told.ends_with("\n\nno endpoints\n"), "{told}");
    }

    #[test]
    fn a_narrow_terminal_has_blocks_in_place_of_columns() {
        let told = words(&seen(iris()), &today(), Some(40));
        let block =
            "iris/blue\n  state Succeeded, ready 1/2, traffic 90\n  %, req/s 120.3, in flight 2\n";
        assert!(told.contains(block), "{told}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_whatever_the_names() {
        let longest = "abcdefghijklmnopqrstuvwxyz-01234";
        let all = json!([{"name": longest, "provisioning_state": "Succeeded",
            "deployments": [deployment(longest, json!({"reason": "x".repeat(300)}))]}]);
        for width in 20..140 {
            let told = words(&seen(all.clone()), &today(), Some(width));
            let widest = told.lines().map(|line| line.chars().count()).max();
            assert!(widest.unwrap() <= width, "{width}\n{told}");
        }
    }
}

//! Two readings of what a server does, and the rate of requests between them. Pure.
//!
//! A rate is the difference of two readings of counters, by a clock of the server that nobody sets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::admin::{DeploymentStatus, ServerStatus};

/// The number of the form of what is printed; `docs/schemas/status.json` has it.
const SCHEMA: u32 = 1;

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

impl Seen {
    /// The newer of two readings, with what they say together.
    pub(super) fn of(earlier: &ServerStatus, now: ServerStatus, folder: &Path) -> Self {
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
            data_folder: folder.to_owned(),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert_eq!((seen.rate_over_s, seen.status.endpoints.len()), (None, 0));
    }
}

//! The traffic that an endpoint has at present, for the forecast of a rollout that has not begun.

use std::time::Duration;

use tokio::time::sleep;

use crate::canary::{Ending, RolloutPlan, Seen};
use crate::config::FORECAST_LOOK;
use crate::observe::{Metrics, Outcome};

/// Counts for a while, and takes the mean of the time `up` that the server has been up where nothing came meanwhile.
///
/// # Cancel safety
///
/// It only reads.
pub async fn present(metrics: &Metrics, plan: &RolloutPlan, up: Duration) -> Seen {
    let before = counted(metrics, plan);
    sleep(FORECAST_LOOK).await;
    let now = counted(metrics, plan);
    let came = now.of_endpoint.saturating_sub(before.of_endpoint);
    let per_s = |requests: u64, time: Duration| requests as f64 / time.as_secs_f64().max(1.0);
    Seen {
        requests: now.of_stable,
        failures: now.failures,
        requests_per_s: match came {
            0 => per_s(now.of_endpoint, up),
            came => per_s(came, FORECAST_LOOK),
        },
        is_of_now: came > 0,
    }
}

/// Requests that a judgement would count.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    of_endpoint: u64,
    of_stable: u64,
    failures: u64,
}

fn counted(metrics: &Metrics, plan: &RolloutPlan) -> Counted {
    let mut all = Counted::default();
    let deployments = metrics.each_deployment(|endpoint, deployment, one| {
        let is_asked = endpoint.eq_ignore_ascii_case(plan.endpoint.as_str());
        let is_stable = deployment.eq_ignore_ascii_case(plan.from.as_str());
        let counts = Outcome::ALL.map(|outcome| (Ending::from(outcome), one.count(outcome)));
        is_asked.then_some((is_stable, counts))
    });
    for (is_stable, counts) in deployments.into_iter().flatten() {
        for (ending, count) in counts {
            if matches!(ending, Ending::Malformed | Ending::Abandoned) {
                continue;
            }
            all.of_endpoint += count;
            if is_stable {
                all.of_stable += count;
                all.failures += if ending == Ending::Failed { count } else { 0 };
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::observe::Timings;

    fn plan() -> RolloutPlan {
        let (endpoint, from, to) = ("iris", "blue", "green");
        RolloutPlan::usual(
            endpoint.parse().unwrap(),
            from.parse().unwrap(),
            to.parse().unwrap(),
        )
    }

    fn record(metrics: &Metrics, deployment: (&str, &str), outcomes: &[Outcome]) {
        let now = Instant::now();
        let series = metrics.deployment(deployment.0, deployment.1);
        for outcome in outcomes {
            series.record(*outcome, &Timings::start(now), now);
        }
    }

    #[test]
    fn what_a_judgement_does_not_count_and_other_endpoints_are_left_out() {
        let metrics = Metrics::new();
        let mixed = [
            Outcome::Ok,
            Outcome::Died,
            Outcome::Shed,
            Outcome::Malformed,
            Outcome::Abandoned,
        ];
        record(&metrics, ("Iris", "blue"), &mixed);
        record(&metrics, ("Iris", "green"), &[Outcome::ModelError]);
        record(&metrics, ("rose", "blue"), &mixed);
        let expected = Counted {
            of_endpoint: 4,
            of_stable: 3,
            failures: 1,
        };
        assert_eq!(counted(&metrics, &plan()), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_now_and_where_nothing_comes_that_since_the_start() {
        let metrics = Metrics::new();
        record(&metrics, ("iris", "blue"), &[Outcome::Ok; 30]);
        let up = Duration::from_secs(10);
        let quiet = present(&metrics, &plan(), up).await;
        assert_eq!((quiet.requests_per_s, quiet.is_of_now), (3.0, false));
        let plan = plan();
        let comes = async { record(&metrics, ("iris", "blue"), &[Outcome::Ok; 7]) };
        let (busy, ()) = tokio::join!(present(&metrics, &plan, up), comes);
        assert_eq!((busy.requests_per_s, busy.is_of_now), (7.0, true));
    }
}

//! Whether the judgement of a canary keeps its word: simulated rollouts by the real split, looked at after every event.
//!
//! Where a promise is "one in twenty at most", the bar is that and three standard deviations of as many runs. Successes change nothing in a
//! test of whose the failures are, so that only failures are handed in where nothing else is judged.

use serin::canary::{
    Arm, Ending, Guard, GuardPlan, Metric, MetricPlan, Observation, Routing, Time, Verdict,
};
use serin::evidence::{
    Block, Dependence, Fleet, LatencyCounts, QuantilePair, Slower, SplitMix64, bucket_of,
};
use serin::spec::{Picker, TrafficSplit};

const ALPHA: f64 = 0.05;
/// Of a thousand runs at 5 %: 50, and three standard deviations.
const OF_1000: usize = 71;

/// How requests are assigned.
enum Router {
    /// The split of the server, block by block.
    Exact { picker: Picker, percent: u32 },
    /// A draw of its own for each.
    Random(f64),
}

impl Router {
    fn exact(percent: u32, seed: u64) -> Self {
        let split: TrafficSplit = format!("blue:{},green:{percent}", 100 - percent)
            .parse()
            .expect("a split");
        Self::Exact {
            picker: Picker::new(&split, seed),
            percent,
        }
    }

    fn assign(&self, ticket: u64, random: &mut SplitMix64) -> (Arm, Routing) {
        let (is_canary, routing) = match self {
            Self::Exact { picker, percent } => {
                let block = Block {
                    number: ticket / 100,
                    canary: *percent,
                    both: 100,
                };
                (picker.pick(ticket) == Some(1), Routing::Exact(block))
            }
            Self::Random(weight) => (
                random.unit() <= *weight,
                Routing::Random { weight: *weight },
            ),
        };
        (if is_canary { Arm::Canary } else { Arm::Stable }, routing)
    }
}

fn guard(metrics: &[Metric]) -> Guard {
    Guard::new(GuardPlan {
        alpha: ALPHA,
        metrics: metrics.iter().copied().map(MetricPlan::new).collect(),
    })
    .expect("a plan")
}

fn observed((arm, routing): (Arm, Routing), ending: Ending, at_us: u64) -> Observation {
    Observation {
        arm,
        routing,
        ending,
        at_us,
        queue_us: 0,
        run_us: 1000,
        total_us: 1000,
        cold: false,
    }
}

fn failed(assigned: (Arm, Routing)) -> Observation {
    observed(assigned, Ending::Failed, 0)
}

fn is_harm(guard: &Guard) -> bool {
    guard.verdict() == Verdict::Harm
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Requests until the next one of a rate.
fn gap(rate: f64, random: &mut SplitMix64) -> u64 {
    whole(random.unit().ln() / (1.0 - rate).ln()) + 1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

fn gaussian(random: &mut SplitMix64) -> f64 {
    (-2.0 * random.unit().ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
}

/// The tickets of failures, in order, of so many requests.
type Failures = fn(u64, &mut SplitMix64) -> Vec<u64>;

/// One request in a hundred, each by itself.
fn single(requests: u64, random: &mut SplitMix64) -> Vec<u64> {
    let next = |ticket: &u64| Some(ticket + gap(0.01, random));
    std::iter::successors(Some(0), next)
        .take_while(|ticket| *ticket < requests)
        .skip(1)
        .collect()
}

/// One in a hundred, but up to sixty in a row.
fn in_bursts(requests: u64, random: &mut SplitMix64) -> Vec<u64> {
    let mut failures = Vec::new();
    let mut ticket = 0;
    loop {
        ticket += gap(1.0 / 3050.0, random);
        let length = 1 + random.next_u64() % 60;
        if ticket + length >= requests {
            return failures;
        }
        failures.extend(ticket..ticket + length);
        ticket += length;
    }
}

/// How many of so many rollouts of equal versions are harm. The percents follow each other, a fifth of the requests each.
fn false_harms(runs: u64, percents: &[u32], is_exact: bool, failures: Failures) -> usize {
    const REQUESTS: u64 = 50_000;
    let harmed = |seed: &u64| {
        let mut random = SplitMix64::new(*seed);
        let routers: Vec<_> = percents
            .iter()
            .map(|percent| match is_exact {
                true => Router::exact(*percent, random.next_u64()),
                false => Router::Random(f64::from(*percent) / 100.0),
            })
            .collect();
        let mut guard = guard(&[Metric::Errors]);
        let stretch = REQUESTS / percents.len() as u64;
        for ticket in failures(REQUESTS, &mut random) {
            let at = usize::try_from(ticket / stretch).expect("a few");
            let router = &routers[at.min(routers.len() - 1)];
            guard.observe(&failed(router.assign(ticket, &mut random)));
        }
        is_harm(&guard)
    };
    (0..runs).filter(harmed).count()
}

#[test]
fn equal_versions_are_harm_in_one_rollout_of_twenty_at_most_by_every_router_and_ramp() {
    for is_exact in [true, false] {
        for percents in [&[10][..], &[50], &[90], &[1, 5, 10, 25, 50]] {
            let found = false_harms(1000, percents, is_exact, single);
            assert!(found <= OF_1000, "{percents:?} {is_exact}: {found}");
        }
    }
}

#[test]
fn failures_in_bursts_are_harm_in_one_rollout_of_twenty_at_most() {
    for is_exact in [true, false] {
        for percents in [&[10][..], &[50], &[1, 5, 10, 25, 50]] {
            let found = false_harms(1000, percents, is_exact, in_bursts);
            assert!(found <= OF_1000, "{percents:?} {is_exact}: {found}");
        }
    }
}

/// Both versions fail every request of a client that comes with a period.
#[test]
fn failures_with_a_period_are_harm_in_one_rollout_of_twenty_at_most() {
    for period in [2, 3, 5, 7, 10, 20, 25, 50, 100] {
        let harmed = |seed: &u64| {
            let mut random = SplitMix64::new(*seed);
            let router = Router::exact(10, random.next_u64());
            let mut guard = guard(&[Metric::Errors]);
            for ticket in (0..10_000).step_by(period) {
                guard.observe(&failed(router.assign(ticket, &mut random)));
            }
            is_harm(&guard)
        };
        // 10, and three standard deviations of 3.1.
        let found = (0..200).filter(harmed).count();
        assert!(found <= 19, "period {period}: {found} of 200");
    }
}

/// One user in a hundred has inputs that every version fails; some come a hundred times as often as others, and stay with their arm.
#[test]
fn failures_of_users_that_stay_with_their_arm_are_harm_in_one_rollout_of_twenty_at_most() {
    const USERS: f64 = 20_000.0;
    let harmed = |seed: &u64| {
        let mut random = SplitMix64::new(*seed);
        let mut guard = guard(&[Metric::Errors]);
        for at in 0..3000 {
            // Failures only: a hundredth of the users, the first ones of which come most often.
            let user = whole(USERS / 100.0 * random.unit().powi(3));
            let drawn = SplitMix64::new(user ^ (seed << 32)).unit();
            let weight = [0.01, 0.05, 0.1, 0.25, 0.5][at / 600];
            let arm = if drawn <= weight {
                Arm::Canary
            } else {
                Arm::Stable
            };
            guard.observe(&failed((arm, Routing::Sticky { weight, key: user })));
        }
        is_harm(&guard)
    };
    let found = (0..1000).filter(harmed).count();
    assert!(found <= OF_1000, "{found}");
}

#[test]
fn a_canary_that_fails_five_times_as_often_is_found_within_1300_requests() {
    let needed = |seed: u64| {
        let mut random = SplitMix64::new(seed);
        let router = Router::exact(10, random.next_u64());
        let mut guard = guard(&[Metric::Errors]);
        let fails = (0..100_000).find(|ticket| {
            let assigned = router.assign(*ticket, &mut random);
            let rate = if assigned.0 == Arm::Canary {
                0.05
            } else {
                0.01
            };
            if random.unit() <= rate {
                guard.observe(&failed(assigned));
            }
            is_harm(&guard)
        });
        fails.unwrap_or(u64::MAX)
    };
    let found = median((0..301).map(needed).collect());
    assert!(found <= 1300, "{found}");
}

/// Percentiles of independent requests: the plain test of two arms.
#[test]
fn percentiles_of_equal_arms_differ_in_one_run_of_twenty_at_most_and_half_as_long_again_is_found() {
    let test = QuantilePair::new(0.99, ALPHA);
    let run = |seed: u64, scale: f64, most: u64| {
        let mut random = SplitMix64::new(seed);
        let (mut stable, mut canary) = (LatencyCounts::default(), LatencyCounts::default());
        let mut look = 500_u64;
        for request in 1..=most {
            let latency = 10_000.0 * (0.4 * gaussian(&mut random)).exp();
            match random.unit() <= 0.1 {
                true => canary.add(bucket_of(whole(latency * scale))),
                false => stable.add(bucket_of(whole(latency))),
            }
            if request == look {
                look += look / 10;
                let (log_e, slower) = test.log_e(&stable, &canary);
                if slower == Slower::Canary && log_e >= (1.0 / ALPHA).ln() {
                    return Some(request);
                }
            }
        }
        None
    };
    let found = (0..300).filter(|seed| run(*seed, 1.0, 10_000).is_some());
    let found = found.count();
    assert!(found <= 26, "{found} of 300");
    let needed = (0..101).map(|seed| run(seed, 1.5, 20_000).unwrap_or(u64::MAX));
    let needed = median(needed.collect());
    assert!(needed <= 4000, "{needed}");
}

/// A service of one lane for each arm: who comes while it is busy waits.
struct Service {
    /// Arrivals in a second, of both arms.
    rate: f64,
    percent: u32,
    /// Mean time of a run in seconds, for each arm.
    run: [f64; 2],
    /// Whether both arms have one lane together, as versions on the same cores.
    shares: bool,
    /// Seconds from stall to stall of 300 ms, of a lane by itself; none for never.
    stalls: Option<f64>,
    /// Whether requests come in bursts of some twenty.
    bursts: bool,
    /// Requests that take longer time out.
    timeout: f64,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            rate: 200.0,
            percent: 50,
            run: [0.002; 2],
            shares: false,
            stalls: None,
            bursts: false,
            timeout: 1.0,
        }
    }
}

impl Service {
    /// The requests of so many seconds as they end.
    fn serve(&self, seconds: f64, random: &mut SplitMix64) -> Vec<Observation> {
        let router = Router::exact(self.percent, random.next_u64());
        let exponential = |mean: f64, random: &mut SplitMix64| -mean * random.unit().ln();
        let mut free = [0.0_f64; 2];
        let mut stall = [0.0; 2].map(|_: f64| match self.stalls {
            Some(mean) => exponential(mean, random),
            None => f64::INFINITY,
        });
        let (mut now, mut ended) = (0.0, Vec::new());
        for ticket in 0.. {
            now += match (self.bursts, ticket % 20) {
                (true, 0) => exponential(20.0 / self.rate, random),
                (true, _) => 0.0,
                (false, _) => exponential(1.0 / self.rate, random),
            };
            if now > seconds {
                break;
            }
            let assigned = router.assign(ticket, random);
            let arm = usize::from(assigned.0 == Arm::Canary);
            let lane = if self.shares { 0 } else { arm };
            let mut begins = now.max(free[lane]);
            if begins >= stall[lane] {
                begins += 0.3;
                stall[lane] = begins + exponential(self.stalls.unwrap_or(f64::INFINITY), random);
            }
            let run = exponential(self.run[arm], random);
            let total = (begins + run - now).min(self.timeout);
            if begins - now < self.timeout {
                free[lane] = begins + run;
            }
            ended.push(self.end(assigned, now, run, total));
        }
        ended.sort_by_key(|observation| observation.at_us);
        ended
    }

    fn end(&self, assigned: (Arm, Routing), now: f64, run: f64, total: f64) -> Observation {
        let ending = match total < self.timeout {
            true => Ending::Answered,
            false => Ending::TimedOut,
        };
        Observation {
            run_us: whole(run * 1e6),
            total_us: whole(total * 1e6),
            ..observed(assigned, ending, whole((now + total) * 1e6))
        }
    }
}

fn latencies() -> Guard {
    let of = |quantile, time| Metric::Quantile {
        quantile,
        time,
        increase_max: 0.0,
    };
    let metrics = [
        Metric::Timeouts,
        Metric::Slow { limit_us: 50_000 },
        of(0.5, Time::Total),
        of(0.9, Time::Total),
        of(0.99, Time::Total),
        of(0.99, Time::Service),
    ];
    let plan = |metric| MetricPlan {
        promote_below: 1.5,
        ..MetricPlan::new(metric)
    };
    Guard::new(GuardPlan {
        alpha: ALPHA,
        metrics: metrics.map(plan).to_vec(),
    })
    .expect("a plan")
}

/// How many of sixty rollouts of equal versions are harm by any latency.
fn latency_harms(service: &Service) -> usize {
    let harmed = |seed: &u64| {
        let mut guard = latencies();
        for observation in service.serve(200.0, &mut SplitMix64::new(*seed)) {
            guard.observe(&observation);
        }
        is_harm(&guard)
    };
    (0..60).filter(harmed).count()
}

/// At 5 % three of sixty, and three standard deviations of 1.7.
const OF_60: usize = 8;

#[test]
fn arms_with_a_queue_each_near_saturation_are_harm_in_one_rollout_of_twenty_at_most() {
    let service = Service {
        run: [0.009; 2],
        ..Service::default()
    };
    let found = latency_harms(&service);
    assert!(found <= OF_60, "{found} of 60");
}

#[test]
fn arms_that_share_a_queue_near_saturation_are_harm_in_one_rollout_of_twenty_at_most() {
    let service = Service {
        run: [0.0045; 2],
        shares: true,
        percent: 10,
        ..Service::default()
    };
    let found = latency_harms(&service);
    assert!(found <= OF_60, "{found} of 60");
}

#[test]
fn arms_that_stand_still_for_300_ms_each_by_itself_are_harm_in_one_rollout_of_twenty_at_most() {
    for percent in [10, 50, 90] {
        let service = Service {
            stalls: Some(8.0),
            percent,
            ..Service::default()
        };
        let found = latency_harms(&service);
        assert!(found <= OF_60, "{percent} %: {found} of 60");
    }
}

#[test]
fn requests_that_come_in_bursts_are_harm_in_one_rollout_of_twenty_at_most() {
    let service = Service {
        bursts: true,
        run: [0.006; 2],
        ..Service::default()
    };
    let found = latency_harms(&service);
    assert!(found <= OF_60, "{found} of 60");
}

/// The number of requests at which a guard of all latencies says so.
fn found_after(service: &Service, seconds: f64, wanted: Verdict) -> u64 {
    let of = |seed: u64| {
        let mut guard = Guard::new(GuardPlan {
            alpha: 0.01,
            ..GuardPlan::default()
        })
        .expect("a plan");
        let ended = service.serve(seconds, &mut SplitMix64::new(seed));
        let found = ended.iter().position(|observation| {
            guard.observe(observation);
            guard.verdict() == wanted
        });
        found.map_or(u64::MAX, |at| at as u64 + 1)
    };
    median((0..5).map(of).collect())
}

/// A run of a fifth more is more than a fifth in all where requests wait.
#[test]
fn a_canary_that_is_three_times_as_slow_is_found_at_10_percent_in_30_000_requests() {
    let service = Service {
        rate: 1000.0,
        percent: 10,
        run: [0.0005, 0.0015],
        ..Service::default()
    };
    let needed = found_after(&service, 60.0, Verdict::Harm);
    assert!(needed <= 30_000, "{needed}");
}

/// As slow as it may be, and as often timed out as it may: neither is safe.
#[test]
fn a_canary_exactly_at_its_margins_is_safe_in_one_rollout_of_twenty_at_most() {
    let p99 = Metric::Quantile {
        quantile: 0.99,
        time: Time::Service,
        increase_max: 0.1,
    };
    let timeouts = MetricPlan {
        negligible: 0.0,
        ..MetricPlan::new(Metric::Timeouts)
    };
    let mut wrong = [0; 2];
    for seed in 0..60 {
        let mut random = SplitMix64::new(seed);
        let router = Router::exact(10, random.next_u64());
        let mut guard = Guard::new(GuardPlan {
            alpha: ALPHA,
            metrics: vec![MetricPlan::new(p99), timeouts],
        })
        .expect("a plan");
        for ticket in 0..100_000 {
            let assigned = router.assign(ticket, &mut random);
            let (slower, rate) = match assigned.0 {
                Arm::Canary => (1.1, 0.02),
                Arm::Stable => (1.0, 0.01),
            };
            let run = slower * 10_000.0 * (0.4 * gaussian(&mut random)).exp();
            // One that did not run has no service time.
            let (ending, run_us) = match random.unit() <= rate {
                true => (Ending::TimedOut, 0),
                false => (Ending::Answered, whole(run)),
            };
            guard.observe(&Observation {
                run_us,
                ..observed(assigned, ending, ticket * 1000)
            });
        }
        for (wrong, finding) in wrong.iter_mut().zip(guard.findings()) {
            *wrong += usize::from(finding.log_e_safe >= finding.threshold_safe);
        }
    }
    assert!(wrong.iter().all(|wrong| *wrong <= OF_60), "{wrong:?} of 60");
}

/// The tail of a service without a queue, at a thousand requests a second.
#[test]
fn a_tail_that_is_a_fifth_longer_is_found_in_40_000_requests_at_10_percent_and_at_50() {
    let plan = GuardPlan {
        alpha: 0.01,
        metrics: GuardPlan::default()
            .metrics
            .into_iter()
            .map(|plan| match plan.metric {
                Metric::Quantile { .. } => MetricPlan {
                    promote_below: 1.5,
                    metric: Metric::Quantile {
                        quantile: 0.99,
                        time: Time::Total,
                        increase_max: 0.0,
                    },
                    ..plan
                },
                _ => plan,
            })
            .collect(),
    };
    for percent in [10, 50] {
        let needed = |seed: u64| {
            let mut random = SplitMix64::new(seed);
            let router = Router::exact(percent, random.next_u64());
            let mut guard = Guard::new(plan.clone()).expect("a plan");
            let found = (1..=60_000).find(|ticket| {
                let assigned = router.assign(*ticket, &mut random);
                let mut total = 10_000.0 * (0.4 * gaussian(&mut random)).exp();
                if assigned.0 == Arm::Canary {
                    total *= 1.2;
                }
                guard.observe(&Observation {
                    total_us: whole(total),
                    run_us: whole(total),
                    ..observed(assigned, Ending::Answered, ticket * 1000 + whole(total))
                });
                is_harm(&guard)
            });
            found.unwrap_or(u64::MAX)
        };
        let needed = median((0..11).map(needed).collect());
        assert!(needed <= 40_000, "{percent} %: {needed}");
    }
}

/// The requests of each of several machines until their merged evidence is harm; a tenth is the canary's, and 1 % fail.
fn fleet_of(dependence: Dependence, machines: usize, ratio: f64, seed: u64, most: u64) -> u64 {
    let mut random = SplitMix64::new(seed);
    let mut guards = vec![guard(&[Metric::Errors]); machines];
    let routers: Vec<_> = (0..machines)
        .map(|_| Router::exact(10, random.next_u64()))
        .collect();
    let mut fleet = Fleet::default();
    let mut number = 0;
    for ticket in 0..most {
        for (at, guard) in guards.iter_mut().enumerate() {
            if random.unit() > 0.01 * ratio.max(1.0) {
                continue;
            }
            let assigned = routers[at].assign(ticket, &mut random);
            if assigned.0 == Arm::Stable && random.unit() * ratio.max(1.0) > 1.0 {
                continue;
            }
            guard.observe(&failed(assigned));
            number += 1;
            assert!(fleet.take(guard.report(at.to_string(), (1, number), "green".to_owned())));
            if fleet.merged(dependence)[0].log_e_harm >= (1.0 / ALPHA).ln() {
                return ticket;
            }
        }
    }
    most
}

#[test]
fn four_machines_that_are_merged_are_wrong_as_seldom_as_one_and_find_harm_with_a_third_of_its_requests()
 {
    const MOST: u64 = 5000;
    let wrong = (0..500).filter(|seed| fleet_of(Dependence::None, 4, 1.0, *seed, MOST) < MOST);
    // 25, and three standard deviations of 4.9.
    let wrong = wrong.count();
    assert!(wrong <= 39, "{wrong} of 500");
    for ratio in [2.0, 3.0] {
        let needed = |machines: usize| {
            let runs =
                (0..401).map(|seed| fleet_of(Dependence::None, machines, ratio, seed, 80_000));
            median(runs.collect())
        };
        let (one, four) = (needed(1), needed(4));
        assert!(four as f64 <= 0.35 * one as f64, "{ratio}: {four} of {one}");
    }
}

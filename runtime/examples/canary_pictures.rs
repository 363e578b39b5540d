//! The pictures of `docs/canary-statistics.md`, made of simulated rollouts.
//!
//! `cargo run --release --example canary_pictures [-- FOLDER]`; the folder is `docs/canary-statistics` where none is named.
//!
//! - `false-alarms.svg`: two equal versions, looked at more and more often: how many are called harm by our test and by a z-test.
//! - `detection.svg`: how many requests it takes to find a canary that fails more often, and how many were forecast.
//! - `queues.svg`: two equal versions with a queue each, nearer and nearer to saturation: how many are called harm where the slow requests are
//!   judged one by one, and where slots of time are.

#![expect(
    clippy::print_stdout,
    reason = "a program that makes pictures says what is in them"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serin::canary::{
    Arm, Ending, Guard, GuardPlan, Metric, MetricPlan, Observation, Routing, Time, Verdict,
};
use serin::evidence::{EventLabel, SplitMix64, requests_to_prove};
use serin::plot::{Axis, Colour, FAINT, HAIR, Mark, Picture, pen};

const ALPHA: f64 = 0.05;
/// One-sided, at 5 %.
const Z: f64 = 1.644_853_627;

fn main() -> Result<(), Box<dyn Error>> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/canary-statistics");
    let folder = std::env::args().nth(1).map_or_else(usual, PathBuf::from);
    fs::create_dir_all(&folder)?;
    let pictures = [
        ("false-alarms.svg", false_alarms(2000)?),
        ("detection.svg", detection(301)?),
        ("queues.svg", queues(200)?),
    ];
    for (name, svg) in pictures {
        fs::write(folder.join(name), svg)?;
    }
    Ok(())
}

fn is_proof(log_e: f64) -> bool {
    log_e >= (1.0 / ALPHA).ln()
}

/// A line, and its key.
fn line(number: usize, points: Vec<(f64, f64)>, words: &str) -> (Mark, (Mark, String)) {
    let pen = pen(Colour::Line(number));
    let key = (Mark::Line(Vec::new(), pen), words.to_owned());
    (Mark::Line(points, pen), key)
}

/// The budget as a line across.
fn budget(from: f64, to: f64) -> (Mark, (Mark, String)) {
    let pen = pen(Colour::Ink).width(HAIR).seen(FAINT);
    let key = (
        Mark::Line(Vec::new(), pen),
        "what was asked for: 5 %".to_owned(),
    );
    (Mark::Line(vec![(from, ALPHA), (to, ALPHA)], pen), key)
}

/// One rollout of equal versions, 1 % failures of 100,000 requests of which a tenth is the canary's: the number of the first look of a
/// z-test that finds harm, for each number of looks, and whether ours finds it at any event.
fn one_alarm(looks: &[u32], random: &mut SplitMix64) -> (Vec<bool>, bool) {
    const REQUESTS: f64 = 100_000.0;
    let mut test = EventLabel::harm(1.0);
    let mut counts = [0.0_f64; 2];
    let mut found = vec![false; looks.len()];
    let mut at = 0.0;
    while at < REQUESTS {
        let next = at - 100.0 * random.unit().ln();
        for (found, looks) in found.iter_mut().zip(looks) {
            let every = REQUESTS / f64::from(*looks);
            // The last look before the next event: at those before it in between, less has been seen of the same failures.
            let look = (next.min(REQUESTS) / every).floor() * every;
            *found |= look > at && z(counts, look) > Z;
        }
        let of_canary = random.unit() <= 0.1;
        counts[usize::from(of_canary)] += 1.0;
        test.event(of_canary, 0.1);
        at = next;
    }
    (found, is_proof(test.highest()))
}

/// The pooled z of failures of the stable version and of the canary, after so many requests.
fn z([stable, canary]: [f64; 2], requests: f64) -> f64 {
    let (of_stable, of_canary) = (0.9 * requests, 0.1 * requests);
    let pooled = (stable + canary) / requests;
    let error = (pooled * (1.0 - pooled) * (1.0 / of_stable + 1.0 / of_canary)).sqrt();
    (canary / of_canary - stable / of_stable) / error
}

fn false_alarms(runs: u32) -> Result<String, Box<dyn Error>> {
    const LOOKS: [u32; 7] = [1, 3, 10, 30, 100, 300, 1000];
    let mut random = SplitMix64::new(1);
    let mut by_z = [0_u32; LOOKS.len()];
    let mut ours = 0;
    for _ in 0..runs {
        let (found, own) = one_alarm(&LOOKS, &mut random);
        by_z.iter_mut()
            .zip(found)
            .for_each(|(sum, found)| *sum += u32::from(found));
        ours += u32::from(own);
    }
    let share = |count: u32| f64::from(count) / f64::from(runs);
    let points = LOOKS.iter().zip(by_z);
    let by_z: Vec<_> = points
        .map(|(looks, count)| (f64::from(*looks), share(count)))
        .collect();
    println!(
        "false alarms of a z-test by looks: {by_z:?}; of ours at every event: {}",
        share(ours)
    );
    let own = vec![(1.0, share(ours)), (1000.0, share(ours))];
    let (marks, keys) = [
        line(1, by_z, "z-test at 5 %, looked at so often"),
        line(0, own, "whose the failures are, looked at after each"),
        budget(1.0, 1000.0),
    ]
    .into_iter()
    .unzip();
    let keys: Vec<_> = keys;
    let picture = Picture {
        x: Axis::log("looks at 100,000 requests", (1.0, 1000.0)),
        y: Axis::linear("equal versions that are called harm", (0.0, 0.6)),
        marks,
    };
    Ok(picture.alone("False alarms against looks", &keys)?)
}

/// The median of requests until harm is found, 1 % failures of the stable version.
fn delay(ratio: f64, weight: f64, runs: u32, random: &mut SplitMix64) -> f64 {
    const RATE: f64 = 0.01;
    let events = RATE * (weight * ratio + 1.0 - weight);
    let of_canary = weight * ratio / (weight * ratio + 1.0 - weight);
    let one = |_| {
        let mut test = EventLabel::harm(1.0);
        let mut requests = 0.0;
        while !is_proof(test.log_e()) {
            requests += (random.unit().ln() / (1.0 - events).ln()).ceil();
            test.event(random.unit() <= of_canary, weight);
        }
        requests
    };
    let mut all: Vec<f64> = (0..runs).map(one).collect();
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}

fn detection(runs: u32) -> Result<String, Box<dyn Error>> {
    const RATIOS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0];
    let mut random = SplitMix64::new(2);
    let (mut marks, mut keys) = (Vec::new(), Vec::new());
    for (number, weight) in [0.01, 0.1, 0.5].into_iter().enumerate() {
        let found = RATIOS.map(|ratio| (ratio, delay(ratio, weight, runs, &mut random)));
        println!("requests to harm at {weight}: {found:?}");
        let (mark, key) = line(
            number,
            found.to_vec(),
            &format!("{} % of the requests", weight * 100.0),
        );
        let forecast = RATIOS.iter().filter_map(|ratio| {
            let needed = requests_to_prove((1.0 / ALPHA).ln(), 0.01, *ratio, weight)?;
            Some((*ratio, needed as f64))
        });
        let pen = pen(Colour::Line(number)).width(HAIR).seen(FAINT);
        marks.extend([mark, Mark::Line(forecast.collect(), pen)]);
        keys.push(key);
    }
    let forecast = pen(Colour::Ink).width(HAIR).seen(FAINT);
    keys.push((Mark::Line(Vec::new(), forecast), "forecast".to_owned()));
    let picture = Picture {
        x: Axis::log(
            "times as many failures as the stable version's 1 %",
            (1.5, 60.0),
        ),
        y: Axis::log("requests of both until harm, median", (10.0, 1e6)),
        marks,
    };
    Ok(picture.alone("How soon harm is found", &keys)?)
}

/// Two equal versions with a lane each that waits for nobody: 600 s of exponential runs at a load. Whether the slow ones are called harm one
/// by one, and by the guard.
fn one_queue(load: f64, random: &mut SplitMix64) -> Option<(bool, bool)> {
    const RUN: f64 = 0.01;
    let p90 = Metric::Quantile {
        quantile: 0.9,
        time: Time::Total,
        increase_max: 0.0,
    };
    let plan = MetricPlan {
        promote_below: 1.5,
        ..MetricPlan::new(p90)
    };
    let mut guard = Guard::new(GuardPlan {
        alpha: ALPHA,
        metrics: vec![plan],
    })
    .ok()?;
    let mut ended = Vec::new();
    let (mut now, mut free) = (0.0_f64, [0.0_f64; 2]);
    while now < 600.0 {
        now -= RUN / (2.0 * load) * random.unit().ln();
        let arm = usize::from(random.unit() <= 0.5);
        let run = -RUN * random.unit().ln();
        free[arm] = now.max(free[arm]) + run;
        ended.push((free[arm], [free[arm] - now, run], arm == 1));
    }
    ended.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    // What nine of ten requests of such a queue keep.
    let bar = RUN / (1.0 - load) * 10_f64.ln();
    let mut singly = EventLabel::harm(1.0);
    for (at, times, of_canary) in ended {
        if times[0] > bar {
            singly.event(of_canary, 0.5);
        }
        guard.observe(&observation(of_canary, at, times));
    }
    Some((is_proof(singly.highest()), guard.verdict() == Verdict::Harm))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of minutes, not negative"
)]
fn observation(of_canary: bool, at: f64, times: [f64; 2]) -> Observation {
    let [total_us, run_us] = times.map(|seconds| (seconds * 1e6) as u64);
    Observation {
        arm: if of_canary { Arm::Canary } else { Arm::Stable },
        routing: Routing::Random { weight: 0.5 },
        ending: Ending::Answered,
        at_us: (at * 1e6) as u64,
        queue_us: total_us.saturating_sub(run_us),
        run_us,
        total_us,
        cold: false,
    }
}

fn queues(runs: u32) -> Result<String, Box<dyn Error>> {
    const LOADS: [f64; 6] = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95];
    let mut random = SplitMix64::new(3);
    let (mut singly, mut by_slots) = (Vec::new(), Vec::new());
    for load in LOADS {
        let found: Vec<_> = (0..runs)
            .filter_map(|_| one_queue(load, &mut random))
            .collect();
        let share = |of: fn(&(bool, bool)) -> bool| {
            found.iter().filter(|one| of(one)).count() as f64 / f64::from(runs)
        };
        singly.push((load, share(|one| one.0)));
        by_slots.push((load, share(|one| one.1)));
    }
    println!("false alarms by load, one by one: {singly:?}; by slots: {by_slots:?}");
    let (marks, keys) = [
        line(1, singly, "slow requests, one by one"),
        line(0, by_slots, "slots of time"),
        budget(LOADS[0], 0.95),
    ]
    .into_iter()
    .unzip();
    let keys: Vec<_> = keys;
    let picture = Picture {
        x: Axis::linear("load of each of two equal versions", (LOADS[0], 0.95)),
        y: Axis::linear("equal versions that are called harm", (0.0, 1.0)),
        marks,
    };
    Ok(picture.alone("Versions with a queue each", &keys)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_are_drawn_of_a_few_runs() {
        for svg in [false_alarms(2), detection(1), queues(1)] {
            let svg = svg.unwrap();
            assert!(
                svg.starts_with("<svg ") && svg.contains("<polyline"),
                "{svg}"
            );
        }
    }
}

//! Searches for the highest rate on queues of known capacity, in virtual time: how often the told interval holds the true rate. Tests only.
//!
//! The same steps, times and proofs as in `sustain` and `block`, with a clock that a simulated server turns.

use std::time::Duration;

use crate::bench::block::{NEXT_LOOK, far};
use crate::bench::search::Search;
use crate::bench::slo::Probe;
use crate::bench::sustain::{CAP_FACTOR, START_SHARE, Times};
use crate::evidence::simulation::{Queue, Shape};
use crate::evidence::{LatencyTest, ProbeOutcome, Slo, SplitMix64, kept};

/// Mean time of a service, in seconds.
const SERVICE_S: f64 = 0.002;

/// A server of 500 requests a second for each lane.
#[derive(Debug, Clone, Copy)]
struct Server {
    shape: Shape,
    lanes: usize,
}

impl Server {
    /// Latencies in milliseconds by the times when they were due, in seconds, at a rate.
    fn course(self, rate_per_s: f64, length_s: f64, random: &mut SplitMix64) -> Vec<(f64, f64)> {
        let queue = Queue {
            shape: self.shape,
            lanes: self.lanes,
            load: rate_per_s * SERVICE_S / self.lanes as f64,
        };
        let course = queue.latencies(length_s / SERVICE_S, random);
        let real = |(due, latency): (f64, f64)| (due * SERVICE_S, latency * SERVICE_S * 1e3);
        course.into_iter().map(real).collect()
    }

    fn capacity(self) -> f64 {
        self.lanes as f64 / SERVICE_S
    }

    /// The limit that a rate keeps exactly.
    fn limit_ms(self, quantile: f64, rate_per_s: f64) -> f64 {
        let course = self.course(rate_per_s, 1500.0, &mut SplitMix64::new(77));
        let mut latencies: Vec<f64> = course.iter().map(|(_, latency)| *latency).collect();
        latencies.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place within the list"
        )]
        let place = (latencies.len() as f64 * quantile) as usize;
        latencies[place]
    }

    /// One try, with the looks of a real one.
    fn probe(
        self,
        slo: Slo,
        rate_per_s: f64,
        (least, most): (Duration, Duration),
        random: &mut SplitMix64,
    ) -> Probe {
        let most_s = most.as_secs_f64();
        let course = self.course(rate_per_s, most_s, random);
        let mut now = least.as_secs_f64();
        loop {
            let is_over = now >= most_s;
            let at = now.min(most_s);
            // What is known at that time.
            let until = if is_over {
                f64::INFINITY
            } else {
                at - slo.limit_ms / 1e3
            };
            let known = course.iter().take_while(|(due, _)| *due < until);
            let latencies: Vec<f64> = known.map(|(_, latency)| *latency).collect();
            // The oldest that is not answered was due so long ago that more wait than ever would.
            let waits = course.iter().take_while(|(due, _)| *due <= at);
            let waiting = waits
                .filter(|(due, latency)| due + latency / 1e3 > at)
                .count();
            let behind = rate_per_s * far(slo).as_secs_f64();
            let found = match waiting as f64 > behind {
                true => Some(ProbeOutcome::Failed),
                false => kept(slo, &latencies),
            };
            if let Some(outcome) = found.or(is_over.then_some(ProbeOutcome::Undecided)) {
                return Probe {
                    rate_per_s,
                    requests: latencies.len() as u64,
                    over: 0,
                    took_s: at,
                    outcome,
                };
            }
            now *= NEXT_LOOK;
        }
    }

    /// What is told of it after so long.
    fn search(self, slo: Slo, budget: Duration, random: &mut SplitMix64) -> (Search, Vec<Probe>) {
        let speed = self.capacity();
        let mut search = Search::new(speed * START_SHARE, speed * CAP_FACTOR);
        let mut probes: Vec<Probe> = Vec::new();
        let times = Times::of(slo, 1, budget);
        let mut left = budget;
        while let Some((step, most)) = times.next(&search, &probes, left) {
            let probe = self.probe(slo, step.rate_per_s, (times.least, most), random);
            left = left.saturating_sub(Duration::from_secs_f64(probe.took_s));
            search.learn(step, probe.outcome);
            probes.push(probe);
        }
        (search, probes)
    }
}

const SERVERS: [(Shape, usize); 4] = [
    (Shape::Exponential, 1),
    (Shape::Constant, 1),
    (Shape::Constant, 4),
    (Shape::Bimodal, 1),
];

#[test]
fn the_highest_rate_lies_in_the_told_interval_or_it_is_said_to_be_unconfirmed() {
    // 32 searches: were one in ten wrong, a seed without any would be one of thirty.
    const RUNS: usize = 4;
    let mut confirmed = 0;
    let mut all = 0;
    for (shape, lanes) in SERVERS {
        let server = Server { shape, lanes };
        for (quantile, load) in [(0.99, 0.816), (0.9, 0.7)] {
            let truth = load * server.capacity();
            let slo = Slo {
                quantile,
                limit_ms: server.limit_ms(quantile, truth),
            };
            let mut random = SplitMix64::new(5);
            let mut wrong = 0;
            for _ in 0..RUNS {
                let (found, _) = server.search(slo, Duration::from_secs(60), &mut random);
                let holds = found.passed().is_none_or(|passed| passed <= truth)
                    && found.failed().is_none_or(|failed| failed >= truth);
                wrong += usize::from(found.is_confirmed() && !holds);
                confirmed += usize::from(found.is_confirmed());
                all += 1;
            }
            // One in ten is promised; none is found in any of these by its seed.
            assert!(wrong * 10 <= RUNS, "{wrong} of {RUNS}: {server:?} {slo:?}");
        }
    }
    // Not everything is unconfirmed.
    assert!(confirmed * 2 > all, "{confirmed} of {all}");
}

#[test]
fn requests_taken_for_coins_of_their_own_prove_what_is_not_so() {
    const RUNS: u32 = 40;
    let server = Server {
        shape: Shape::Exponential,
        lanes: 1,
    };
    // The rate is 3 % too high.
    let slo = Slo {
        quantile: 0.99,
        limit_ms: server.limit_ms(0.99, 396.0),
    };
    let mut random = SplitMix64::new(3);
    let (mut coins, mut one_queue) = (0, 0);
    for _ in 0..RUNS {
        let course = server.course(408.0, 4.0, &mut random);
        let latencies: Vec<f64> = course.iter().map(|(_, latency)| *latency).collect();
        let over = latencies.iter().filter(|latency| **latency > slo.limit_ms);
        let over = over.count() as f64;
        let found = LatencyTest::new(slo).judge(latencies.len() as f64 - over, over);
        coins += u32::from(found == Some(ProbeOutcome::Passed));
        one_queue += u32::from(kept(slo, &latencies) == Some(ProbeOutcome::Passed));
    }
    assert!(coins * 4 > RUNS, "{coins} of {RUNS}");
    assert_eq!(one_queue, 0);
}

//! Whether the stable version has become slower than it was before the rollout. Pure.
//!
//! No comparison of the two shows a canary that takes the stable version's cores: both become slow alike. So the stable version is held
//! against itself. A request is slow that takes longer than 95 % did in the first half of what is known from before; shares of slow ones in
//! the second half, slot by slot, are the share that it had ([`Interference`] says what is proven then, and what is not).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::observation::{Arm, Ending, Observation};
use crate::evidence::Interference;

/// Requests of a slot.
const SLOT: usize = 20;
/// Slots from before that are kept.
const SLOTS_MAX: usize = 1000;
/// Requests from before that are not slow, of a hundred.
const USUAL: usize = 95;
/// The chance of a false alarm.
const ALPHA: f64 = 0.01;
/// The share of slow requests is so many times what it was, at least, before anybody is told.
const TIMES: f64 = 2.0;

/// How slow a version was before a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usual {
    /// Requests that take longer are slow, in microseconds.
    slow_us: u64,
    /// Slow ones of each [`SLOT`] requests, newest first.
    slow: Vec<u8>,
}

/// What the stable version's slow requests say: the limit, and the bounds of their share before the rollout and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slowed {
    /// Requests that take longer are slow, in microseconds.
    pub slow_us: u64,
    /// The share before.
    pub before: (f64, f64),
    /// The share now.
    pub now: (f64, f64),
}

impl fmt::Display for Slowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percents =
            |(least, most): (f64, f64)| format!("{:.1} to {:.1} %", 100.0 * least, 100.0 * most);
        let limit = self.slow_us as f64 / 1000.0;
        write!(
            f,
            "the stable version is slower than before: {} of its requests take longer than {limit:.1} ms, which {} did. The canary may \
             take its cores, or the load has grown: nothing is proven against the canary",
            percents(self.now),
            percents(self.before),
        )
    }
}

impl Usual {
    /// How slow the stable version is, from requests in their order; none where there are too few.
    #[must_use]
    pub fn of(requests: &[Observation]) -> Option<Self> {
        let latencies: Vec<_> = requests.iter().filter_map(latency_us).collect();
        let (first, second) = latencies.split_at(latencies.len() / 2);
        let mut first = first.to_vec();
        first.sort_unstable();
        let slow_us = *first.get(first.len() * USUAL / 100)?;
        let slots = second.chunks_exact(SLOT).rev().take(SLOTS_MAX);
        let slow: Vec<_> = slots.map(|slot| slow_of(slot, slow_us)).collect();
        (!slow.is_empty()).then_some(Self { slow_us, slow })
    }
}

fn slow_of(slot: &[u64], slow_us: u64) -> u8 {
    let slow = slot.iter().filter(|latency| **latency > slow_us).count();
    u8::try_from(slow).unwrap_or(u8::MAX)
}

/// The latency of a request that says something of its version.
fn latency_us(request: &Observation) -> Option<u64> {
    if request.arm != Arm::Stable || request.cold {
        return None;
    }
    match request.ending {
        Ending::Answered | Ending::BadOutput => Some(request.total_us),
        Ending::TimedOut => Some(u64::MAX),
        Ending::Failed | Ending::Shed | Ending::Abandoned | Ending::Malformed => None,
    }
}

/// The watch over the stable version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StableWatch {
    slow_us: u64,
    alarm: Interference,
    /// Latencies of the slot under way.
    slot: Vec<u64>,
}

impl StableWatch {
    pub(super) fn new(usual: &Usual) -> Self {
        let mut alarm = Interference::new(ALPHA);
        for slow in &usual.slow {
            alarm.before(f64::from(*slow) / SLOT as f64);
        }
        Self {
            slow_us: usual.slow_us,
            alarm,
            slot: Vec::new(),
        }
    }

    pub(super) fn observe(&mut self, request: &Observation) {
        self.slot.extend(latency_us(request));
        if self.slot.len() == SLOT {
            let slow = slow_of(&self.slot, self.slow_us);
            self.alarm.now(f64::from(slow) / SLOT as f64);
            self.slot.clear();
        }
    }

    /// What is to be told, where the version has become slower.
    pub(super) fn finding(&self) -> Option<Slowed> {
        let [before, now] = self.alarm.bands();
        let slow_us = self.slow_us;
        self.alarm.is_raised(TIMES).then_some(Slowed {
            slow_us,
            before,
            now,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::canary::observation::Routing;
    use crate::evidence::SplitMix64;

    fn request(total_us: u64) -> Observation {
        Observation {
            arm: Arm::Stable,
            routing: Routing::Random { weight: 0.1 },
            ending: Ending::Answered,
            at_us: 0,
            queue_us: 0,
            run_us: 0,
            total_us,
            cold: false,
        }
    }

    /// Exponential latencies of this mean, in microseconds.
    fn requests(count: usize, mean: u64, random: &mut SplitMix64) -> Vec<Observation> {
        let mean = Duration::from_micros(mean);
        let drawn = (0..count).map(|_| mean.mul_f64(-random.unit().ln()).as_micros());
        drawn.map(|us| request(us.try_into().unwrap())).collect()
    }

    fn tells(before: &[Observation], now: &[Observation]) -> Option<Slowed> {
        let mut watch = StableWatch::new(&Usual::of(before)?);
        now.iter().find_map(|request| {
            watch.observe(request);
            watch.finding()
        })
    }

    #[test]
    fn a_version_that_takes_twice_as_long_is_told_of_and_one_that_is_as_ever_never() {
        let mut random = SplitMix64::new(1);
        for _ in 0..50 {
            let before = requests(20_000, 5000, &mut random);
            let same = requests(40_000, 5000, &mut random);
            assert_eq!(tells(&before, &same), None);
            let slowed = tells(&before, &requests(20_000, 10_000, &mut random)).unwrap();
            // ln 20 times the mean; twice the mean makes 0.05 its root.
            assert!((13_500..16_500).contains(&slowed.slow_us), "{slowed:?}");
            assert!(slowed.before.0 < 0.05 && 0.05 < slowed.before.1);
            assert!(slowed.now.0 < 0.224 && 0.224 < slowed.now.1, "{slowed:?}");
        }
    }

    #[test]
    fn too_few_cold_ones_and_those_of_the_canary_say_nothing() {
        let mut random = SplitMix64::new(2);
        let few = requests(2 * SLOT - 2, 5000, &mut random);
        assert_eq!(Usual::of(&few), None);
        let before = requests(20_000, 5000, &mut random);
        let cold = |one: &Observation| Observation { cold: true, ..*one };
        let of_canary = |one: &Observation| Observation {
            arm: Arm::Canary,
            ..*one
        };
        let slow = requests(20_000, 50_000, &mut random);
        for other in [cold, of_canary] {
            let slow: Vec<_> = slow.iter().map(other).collect();
            assert_eq!(tells(&before, &slow), None);
        }
        assert!(tells(&before, &slow).is_some());
    }
}

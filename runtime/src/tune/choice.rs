//! The choice of the best of the measured points: the rule for latency, and what counts as a difference. Pure.
//!
//! Not here: measuring, words for people beyond one sentence that explains the choice.

use std::time::Duration;

use crate::tune::grid::{Point, Setting};

/// Without a target, a p99 of at most so many times the best one is taken for throughput: the knee of the curve.
const KNEE: f64 = 2.0;
/// Without a target, this p99 will do however much faster the best one is: less is not felt behind HTTP.
const KNEE_MIN: Duration = Duration::from_millis(1);
/// Throughputs closer than this share are not told apart, however steady they look.
const NOISE_MIN: f64 = 0.03;
/// The same for a point that was measured once, of which no spread is known.
const NOISE_OF_ONE: f64 = 0.10;

/// Throughput of a simpler point that is preferred, in that of the fastest, however noisy both are.
const SIMPLER_MIN: f64 = 0.9;

/// One measurement of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repetition {
    /// Answers within the window.
    pub requests: u64,
    /// Answers a second.
    pub throughput: f64,
    /// The median latency.
    pub p50: Duration,
    /// 99 of 100 are not slower.
    pub p99: Duration,
}

/// A point with all its measurements, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The point that was measured.
    pub point: Point,
    /// The figures of each time.
    pub repetitions: Vec<Repetition>,
}

impl Measured {
    /// Answers in all.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.repetitions.iter().map(|one| one.requests).sum()
    }

    /// Answers a second, the median of the repetitions.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        median(self.repetitions.iter().map(|one| one.throughput))
    }

    /// The median latency, the median of the repetitions.
    #[must_use]
    pub fn p50(&self) -> Duration {
        median_of(self.repetitions.iter().map(|one| one.p50))
    }

    /// The p99, the median of the repetitions.
    #[must_use]
    pub fn p99(&self) -> Duration {
        median_of(self.repetitions.iter().map(|one| one.p99))
    }

    /// The distance of the throughput of a repetition from their median, as a share of it: half of the range, of which the ends are
    /// left out when there are enough others.
    #[must_use]
    pub fn noise(&self) -> f64 {
        let mut throughputs: Vec<f64> = self.repetitions.iter().map(|one| one.throughput).collect();
        throughputs.sort_unstable_by(f64::total_cmp);
        let inner = match &throughputs[..] {
            [_, inner @ .., _] if inner.len() >= 2 => inner,
            all => all,
        };
        match inner {
            [least, .., most] => {
                let share = (most - least) / 2.0 / self.throughput().max(f64::MIN_POSITIVE);
                share.max(NOISE_MIN)
            }
            [_] | [] => NOISE_OF_ONE,
        }
    }

    /// Whether this may be as fast as `faster`, but for noise: what is usual of the one reaches into what is usual of the other.
    fn may_be_as_fast_as(&self, faster: &Self) -> bool {
        self.throughput() * (1.0 + self.noise()) >= faster.throughput() * (1.0 - faster.noise())
    }
}

/// A goal that a setting must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The highest throughput whose p99 is at most this.
    P99(Duration),
    /// The knee: the highest throughput whose p99 is at most twice the best p99, or a millisecond.
    Knee,
}

/// The way in which a choice came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its throughput is higher than that of all other points within the limit, beyond the noise or with nothing simpler near.
    Best,
    /// Another point is faster, within the noise only, and this one is simpler.
    Simpler,
    /// No point is faster than what runs now beyond the noise.
    Current,
}

/// The point that is recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Where it stands among the measured points.
    pub index: usize,
    /// The way in which it came about.
    pub outcome: Outcome,
    /// The longest p99 that was allowed.
    pub p99_max: Duration,
}

impl Goal {
    /// The longest p99 that a point may have; none without points.
    #[must_use]
    pub fn p99_max(self, measured: &[Measured]) -> Option<Duration> {
        match self {
            Self::P99(limit) => Some(limit),
            Self::Knee => {
                let best = measured.iter().map(Measured::p99).min()?;
                Some(best.mul_f64(KNEE).max(KNEE_MIN))
            }
        }
    }

    /// The rule in words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::P99(limit) => format!(
                "the highest throughput whose p99 is at most {} ms",
                milliseconds(limit)
            ),
            Self::Knee => format!(
                "the highest throughput whose p99 is at most {KNEE} times the best p99 of all points, or {} ms",
                milliseconds(KNEE_MIN)
            ),
        }
    }
}

/// Picks the point with the highest throughput whose p99 keeps the goal. Among points that are as fast but for noise it takes
/// `current`, what runs now, or else the simplest: no spinning, then smaller batches, then fewer requests at once, then fewer lanes.
///
/// None when no point keeps the goal.
#[must_use]
pub fn choose(measured: &[Measured], goal: Goal, current: Option<Point>) -> Option<Choice> {
    let p99_max = goal.p99_max(measured)?;
    let within: Vec<usize> = (0..measured.len())
        .filter(|index| measured[*index].p99() <= p99_max && measured[*index].throughput() > 0.0)
        .collect();
    let fastest = within.iter().copied().max_by(|one, two| {
        let (one, two) = (&measured[*one], &measured[*two]);
        // Among equals the simpler, so that the order of measuring decides nothing.
        one.throughput()
            .total_cmp(&two.throughput())
            .then_with(|| simplicity(two.point).cmp(&simplicity(one.point)))
    })?;
    let as_fast = within.into_iter().filter(|index| {
        let (one, best) = (&measured[*index], &measured[fastest]);
        let near = one.throughput() >= best.throughput() * SIMPLER_MIN;
        one.may_be_as_fast_as(best) && (near || Some(one.point) == current)
    });
    let preferred = as_fast.min_by_key(|index| {
        let point = measured[*index].point;
        (Some(point) != current, simplicity(point))
    });
    let index = preferred.unwrap_or(fastest);
    let outcome = if Some(measured[index].point) == current {
        Outcome::Current
    } else if index == fastest {
        Outcome::Best
    } else {
        Outcome::Simpler
    };
    Some(Choice {
        index,
        outcome,
        p99_max,
    })
}

/// Simpler is less. A batch size that is left to the engine counts as none. Spinning takes whole cores, so it comes last.
fn simplicity(point: Point) -> (bool, u32, u32, u32, bool) {
    let Setting {
        lanes,
        batch_size,
        spin,
    } = point.setting;
    (
        spin,
        batch_size.unwrap_or(1),
        point.clients,
        lanes,
        batch_size.is_some(),
    )
}

/// Milliseconds to three digits at most.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn median_of(values: impl Iterator<Item = Duration>) -> Duration {
    Duration::from_secs_f64(median(values.map(|value| value.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(lanes: u32, size: u32, clients: u32) -> Point {
        Point {
            setting: Setting {
                lanes,
                batch_size: Some(size),
                spin: false,
            },
            clients,
        }
    }

    /// A point with a throughput in each repetition, and always the same p99.
    fn measured(point: Point, throughputs: &[f64], p99_ms: u64) -> Measured {
        let repetition = |throughput: &f64| Repetition {
            requests: 100,
            throughput: *throughput,
            p50: Duration::from_millis(p99_ms) / 2,
            p99: Duration::from_millis(p99_ms),
        };
        Measured {
            point,
            repetitions: throughputs.iter().map(repetition).collect(),
        }
    }

    const TARGET: Goal = Goal::P99(Duration::from_millis(20));

    #[test]
    fn spinning_is_chosen_only_for_a_gain_beyond_the_noise() {
        let plain = point(1, 8, 16);
        let spinning = Point {
            setting: Setting {
                spin: true,
                ..point(1, 1, 1).setting
            },
            clients: 1,
        };
        let chosen = |spun: [f64; 3]| {
            let points = [
                measured(plain, &[97.0, 100.0, 103.0], 5),
                measured(spinning, &spun, 5),
            ];
            choose(&points, TARGET, None).map(|choice| (choice.index, choice.outcome))
        };
        // Fewer requests at once and no batches do not make up for it.
        assert_eq!(chosen([99.0, 104.0, 109.0]), Some((0, Outcome::Simpler)));
        assert_eq!(chosen([118.0, 120.0, 122.0]), Some((1, Outcome::Best)));
    }

    #[test]
    fn the_fastest_within_the_target_is_chosen() {
        let points = [
            measured(point(1, 1, 1), &[100.0; 3], 5),
            measured(point(2, 4, 8), &[300.0; 3], 20),
            measured(point(2, 8, 16), &[400.0; 3], 21),
        ];
        let choice = choose(&points, TARGET, Some(point(1, 1, 1))).unwrap();
        assert_eq!((choice.index, choice.outcome), (1, Outcome::Best));
    }

    #[test]
    fn without_a_target_the_knee_is_chosen() {
        let points = [
            measured(point(1, 1, 1), &[100.0; 3], 5),
            measured(point(2, 1, 2), &[190.0; 3], 10),
            measured(point(2, 8, 16), &[400.0; 3], 11),
        ];
        let choice = choose(&points, Goal::Knee, None).unwrap();
        assert_eq!(choice.index, 1);
        assert_eq!(choice.p99_max, Duration::from_millis(10));
    }

    #[test]
    fn microseconds_are_not_traded_for_throughput() {
        let mut quick = measured(point(1, 1, 1), &[100.0; 3], 0);
        for one in &mut quick.repetitions {
            one.p99 = Duration::from_micros(20);
        }
        let points = [
            quick,
            measured(point(2, 8, 16), &[400.0; 3], 1),
            measured(point(2, 16, 32), &[500.0; 3], 2),
        ];
        assert_eq!(choose(&points, Goal::Knee, None).unwrap().index, 1);
    }

    #[test]
    fn no_point_within_the_target_is_no_choice() {
        let points = [measured(point(1, 1, 1), &[100.0; 3], 21)];
        assert_eq!(choose(&points, TARGET, Some(point(1, 1, 1))), None);
        assert_eq!(choose(&[], Goal::Knee, None), None);
    }

    #[test]
    fn a_difference_within_the_noise_keeps_what_runs_now() {
        let now = point(2, 4, 8);
        let points = [
            measured(now, &[98.0, 100.0, 102.0], 10),
            measured(point(1, 1, 1), &[101.0, 101.0, 101.0], 10),
        ];
        let choice = choose(&points, TARGET, Some(now)).unwrap();
        assert_eq!((choice.index, choice.outcome), (0, Outcome::Current));
    }

    #[test]
    fn a_difference_within_the_noise_prefers_the_simpler() {
        let points = [
            measured(point(2, 8, 16), &[95.0, 104.0, 108.0], 10),
            measured(point(2, 1, 4), &[100.0, 100.0, 100.0], 10),
            measured(point(2, 1, 2), &[99.0, 99.0, 99.0], 10),
        ];
        let choice = choose(&points, TARGET, Some(point(1, 1, 1))).unwrap();
        assert_eq!((choice.index, choice.outcome), (2, Outcome::Simpler));
    }

    #[test]
    fn a_point_that_was_measured_once_must_be_far_better() {
        let now = point(1, 1, 1);
        let once = |throughput| {
            [
                measured(now, &[100.0], 10),
                measured(point(2, 2, 4), &[throughput], 10),
            ]
        };
        assert_eq!(choose(&once(109.0), TARGET, Some(now)).unwrap().index, 0);
        assert_eq!(choose(&once(130.0), TARGET, Some(now)).unwrap().index, 1);
    }

    #[test]
    fn a_slow_point_does_not_win_by_being_noisy() {
        let points = [
            measured(point(1, 1, 1), &[10.0, 30.0, 50.0, 70.0, 80.0], 10),
            measured(point(1, 1, 2), &[60.0, 70.0, 88.0, 95.0, 99.0], 10),
            measured(point(2, 8, 16), &[100.0; 5], 10),
        ];
        assert_eq!(choose(&points, TARGET, None).unwrap().index, 2);
        // What runs now is kept where it may be as fast, and not where it cannot.
        let chosen_over = |index: usize| choose(&points, TARGET, Some(points[index].point));
        assert_eq!(chosen_over(1).unwrap().index, 1);
        assert_eq!(chosen_over(0).unwrap().index, 2);
    }

    #[test]
    fn one_wild_repetition_does_not_move_the_median() {
        let wild = measured(point(1, 1, 1), &[100.0, 100.0, 1e9], 10);
        assert!((wild.throughput() - 100.0).abs() < f64::EPSILON);
        let even = measured(point(1, 1, 1), &[100.0, 200.0], 10);
        assert!((even.throughput() - 150.0).abs() < f64::EPSILON);
        let steady = measured(point(1, 1, 1), &[1.0, 100.0, 100.0, 100.0, 1e9], 10);
        assert!((steady.noise() - NOISE_MIN).abs() < f64::EPSILON);
    }

    fn any_measured() -> impl Strategy<Value = Vec<Measured>> {
        let one = (
            1_u32..=8,
            0_u32..=6,
            1_u32..=64,
            proptest::collection::vec(0.0_f64..1000.0, 1..5),
            0_u64..100,
        );
        let one = one.prop_map(|(lanes, size, clients, throughputs, p99_ms)| {
            measured(point(lanes, 1 << size, clients), &throughputs, p99_ms)
        });
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn what_is_chosen_keeps_the_goal_and_nothing_that_keeps_it_is_faster_beyond_the_noise(
            points in any_measured(),
            target in proptest::option::of(0_u64..100),
            current in 0_usize..12,
        ) {
            let goal = target.map_or(Goal::Knee, |ms| Goal::P99(Duration::from_millis(ms)));
            let current = points.get(current).map(|one| one.point);
            let keeps = |one: &&Measured| {
                one.throughput() > 0.0 && goal.p99_max(&points).is_some_and(|limit| one.p99() <= limit)
            };
            match choose(&points, goal, current) {
                None => prop_assert_eq!(points.iter().filter(keeps).count(), 0),
                Some(choice) => {
                    let chosen = &points[choice.index];
                    prop_assert!(keeps(&chosen));
                    prop_assert_eq!(choice.outcome == Outcome::Current, Some(chosen.point) == current);
                    let fastest = points.iter().filter(keeps).map(Measured::throughput).fold(0.0, f64::max);
                    let noise = points.iter().map(Measured::noise).fold(0.0, f64::max);
                    prop_assert!(chosen.throughput() * (1.0 + chosen.noise()) >= fastest * (1.0 - noise) - 1e-9);
                    if choice.outcome != Outcome::Current {
                        prop_assert!(chosen.throughput() >= fastest * SIMPLER_MIN);
                    }
                }
            }
        }

        #[test]
        fn the_order_of_measuring_decides_nothing(mut points in any_measured()) {
            // The same point measured twice would be two points of one name.
            points.sort_by_key(|one| one.point);
            points.dedup_by_key(|one| one.point);
            let chosen = |points: &[Measured]| {
                choose(points, TARGET, None).map(|choice| points[choice.index].point)
            };
            let there = chosen(&points);
            points.reverse();
            prop_assert_eq!(there, chosen(&points));
        }
    }
}

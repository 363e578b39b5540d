//! Arrivals of requests, as times from the start of a run. Pure: the same rate and seed give the same times.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::evidence::SplitMix64;

/// The times of arrivals from the start of a run, in order and without an end. Bounded by the methods of [`Iterator`], or by
/// [`Arrivals::until`].
#[derive(Debug, Clone)]
pub struct Arrivals {
    per_s: NonZeroU32,
    gaps: Gaps,
}

#[derive(Debug, Clone)]
enum Gaps {
    /// Number of the next arrival.
    Constant { next: u64 },
    /// The last arrival, and the state of the random numbers.
    Exponential { last: Duration, random: SplitMix64 },
}

impl Arrivals {
    /// One arrival each `1 / per_s` seconds, the first at once. Rounding does not add up.
    #[must_use]
    pub fn constant(per_s: NonZeroU32) -> Self {
        Self {
            per_s,
            gaps: Gaps::Constant { next: 0 },
        }
    }

    /// Independent arrivals, `per_s` a second in the mean: what many clients that know nothing of each other make.
    #[must_use]
    pub fn poisson(per_s: NonZeroU32, seed: u64) -> Self {
        Self {
            per_s,
            gaps: Gaps::Exponential {
                last: Duration::ZERO,
                random: SplitMix64::new(seed),
            },
        }
    }

    /// The arrivals before `end`.
    pub fn until(self, end: Duration) -> impl Iterator<Item = Duration> + Send + 'static {
        self.take_while(move |at| *at < end)
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let per_s = self.per_s;
        Some(match &mut self.gaps {
            Gaps::Constant { next } => {
                let number = *next;
                *next += 1;
                let per_s = u64::from(per_s.get());
                let ns = number % per_s * 1_000_000_000 / per_s;
                Duration::from_secs(number / per_s) + Duration::from_nanos(ns)
            }
            Gaps::Exponential { last, random } => {
                let gap_s = -random.unit().ln() / f64::from(per_s.get());
                *last += Duration::from_secs_f64(gap_s);
                *last
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn per_s(rate: u32) -> NonZeroU32 {
        NonZeroU32::new(rate).expect("a rate")
    }

    #[test]
    fn a_constant_rate_has_its_exact_count_in_any_time() {
        let count = |rate, end| Arrivals::constant(per_s(rate)).until(end).count();
        assert_eq!(count(1000, Duration::from_secs(2)), 2000);
        assert_eq!(count(7, Duration::from_secs(3)), 21);
        assert_eq!(count(4, Duration::from_millis(501)), 3);
        assert_eq!(count(4, Duration::ZERO), 0);
    }

    #[test]
    fn a_constant_rate_does_not_drift() {
        let third = Arrivals::constant(per_s(3)).nth(3 * 3600).unwrap();
        assert_eq!(third, Duration::from_secs(3600));
    }

    #[test]
    fn a_seed_repeats_its_arrivals_and_another_does_not() {
        let first = |seed| -> Vec<_> { Arrivals::poisson(per_s(100), seed).take(50).collect() };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn independent_arrivals_have_the_mean_and_the_spread_of_a_poisson_process() {
        let second = Duration::from_secs(1);
        let mut counts = vec![0_u32; 1000];
        for at in Arrivals::poisson(per_s(50), 42).until(1000 * second) {
            counts[usize::try_from(at.as_secs()).unwrap()] += 1;
        }
        let mean = counts.iter().copied().map(f64::from).sum::<f64>() / 1000.0;
        let variance = counts
            .iter()
            .map(|count| (f64::from(*count) - mean).powi(2))
            .sum::<f64>()
            / 1000.0;
        // Five standard deviations of the estimates: 50 +- 5 x 0.22, and 50 +- 5 x 2.2.
        assert!((mean - 50.0).abs() < 1.2, "{mean}");
        assert!((variance - 50.0).abs() < 12.0, "{variance}");
    }

    proptest! {
        #[test]
        fn arrivals_are_in_order(rate in 1..100_000_u32, seed: u64) {
            for arrivals in [Arrivals::constant(per_s(rate)), Arrivals::poisson(per_s(rate), seed)] {
                let times: Vec<_> = arrivals.take(200).collect();
                prop_assert!(times.is_sorted());
            }
        }
    }
}

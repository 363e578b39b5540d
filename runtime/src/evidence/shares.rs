//! The difference of two shares. Pure.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::evidence::stats::Estimate;

/// The share of `other` less that of `base`, each as hits of so many, with the hybrid score interval of Newcombe (1998, method 10):
/// it holds for rare hits and for none, and the other way round it is the same with the other sign. Of nothing there are no bounds.
#[must_use]
pub fn difference(base: (u64, u64), other: (u64, u64), confidence: f64) -> Estimate {
    let (Some(base), Some(other)) = (Score::of(base, confidence), Score::of(other, confidence))
    else {
        return Estimate {
            point: 0.0,
            low: None,
            high: None,
        };
    };
    let point = other.share - base.share;
    let down = (other.share - other.low).hypot(base.high - base.share);
    let up = (other.high - other.share).hypot(base.share - base.low);
    Estimate {
        point,
        low: Some((point - down).max(-1.0)),
        high: Some((point + up).min(1.0)),
    }
}

/// A share with the score interval of Wilson (1927).
struct Score {
    share: f64,
    low: f64,
    high: f64,
}

impl Score {
    fn of((hits, of): (u64, u64), confidence: f64) -> Option<Self> {
        if of == 0 {
            return None;
        }
        let (hits, of) = (hits.min(of) as f64, of as f64);
        let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, confidence));
        let share = hits / of;
        let centre = (hits + z * z / 2.0) / (of + z * z);
        let half = z / (of + z * z) * (hits * (1.0 - share) + z * z / 4.0).sqrt();
        Some(Self {
            share,
            // An end is the share itself where that is none or all, and no rounding may make it pass it.
            low: (centre - half).clamp(0.0, share),
            high: (centre + half).clamp(share, 1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::random::SplitMix64;

    #[test]
    fn the_intervals_are_those_of_newcombe_s_table() {
        // Newcombe (1998), table II, method 10.
        for (one, two, low, high) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((6, 7), (2, 7), 0.0582, 0.8062),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((0, 10), (0, 20), -0.1611, 0.2775),
            ((0, 10), (0, 10), -0.2775, 0.2775),
            ((10, 10), (0, 20), 0.6791, 1.0),
            ((10, 10), (0, 10), 0.6075, 1.0),
        ] {
            let found = difference(two, one, 0.95);
            let ends = [found.low.unwrap() - low, found.high.unwrap() - high];
            assert!(
                ends.iter().all(|off| off.abs() < 6e-5),
                "{one:?} {two:?}: {found:?}"
            );
        }
    }

    #[test]
    fn nothing_has_no_bounds() {
        let found = difference((0, 0), (1, 2), 0.95);
        assert_eq!((found.low, found.high), (None, None));
    }

    #[test]
    fn two_versions_that_fail_alike_are_told_apart_in_one_run_of_twenty_at_most() {
        const RUNS: u32 = 1000;
        let mut random = SplitMix64::new(1);
        for (share, requests) in [(0.0005, 2000), (0.002, 500), (0.01, 1000), (0.2, 200)] {
            let mut hits = || (0..requests).filter(|_| random.unit() <= share).count() as u64;
            let told = (0..RUNS)
                .map(|_| difference((hits(), requests), (hits(), requests), 0.95))
                .filter(|found| found.low.unwrap() > 0.0 || found.high.unwrap() < 0.0)
                .count();
            // Three standard deviations beyond 50.
            assert!(told <= 71, "{share} of {requests}: {told}");
        }
    }

    proptest! {
        #[test]
        fn swapped_shares_have_the_opposite_difference(
            base in (0_u64..2000, 1_u64..2000),
            other in (0_u64..2000, 1_u64..2000),
        ) {
            let found = difference(base, other, 0.95);
            let swapped = difference(other, base, 0.95);
            let near = |one: f64, two: f64| (one + two).abs() < 1e-12;
            prop_assert!(near(found.point, swapped.point));
            prop_assert!(near(found.low.unwrap(), swapped.high.unwrap()));
            prop_assert!(near(found.high.unwrap(), swapped.low.unwrap()));
            prop_assert!(found.low.unwrap() <= found.point && found.point <= found.high.unwrap());
        }
    }
}

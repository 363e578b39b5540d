//! The middle of values whose signs a coin has decided, exactly. Pure.
//!
//! Where each value is its middle and an error of which a coin says the sign, the means of all subsets of the values are typical values of the
//! middle: it falls between any two neighbours of them, and outside of all, with the same chance (Hartigan, *Using subsample values as
//! typical values*, 1969, theorem 1). Nothing is asked of the errors: they may be as large, as skewed and as unlike each other as they
//! like. It is the test that flips the signs of the differences (Fisher 1935), turned round.

use crate::evidence::random::SplitMix64;

/// Values of which all subsets are taken; of more of them so many subsets are drawn.
const ALL_MAX: usize = 12;

/// The middle and its bounds; no bounds with too few values for them: 99 % takes 8.
#[must_use]
pub fn typical(values: &[f64], confidence: f64) -> Option<(f64, f64, f64)> {
    let subsets = 1_usize << values.len().min(ALL_MAX);
    let mut means = Vec::with_capacity(subsets);
    if values.len() <= ALL_MAX {
        let subsets = 1..subsets;
        means.extend(subsets.map(|subset| mean_of(values, |at| subset >> at & 1 == 1)));
    } else {
        let mut random = SplitMix64::new(values.len() as u64);
        while means.len() + 1 < subsets {
            let drawn: Vec<bool> = values.iter().map(|_| random.unit() < 0.5).collect();
            // None of them has no mean, and is drawn less often than anything that matters.
            means.push(mean_of(values, |at| drawn[at]));
        }
    }
    means.retain(|mean| mean.is_finite());
    means.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place within the list"
    )]
    let outside = ((1.0 - confidence) / 2.0 * subsets as f64) as usize;
    let place = outside.checked_sub(1)?;
    let last = means.len().checked_sub(1 + place)?;
    Some((means[place], mean_of(values, |_| true), means[last]))
}

fn mean_of(values: &[f64], is_in: impl Fn(usize) -> bool) -> f64 {
    let within = values.iter().enumerate().filter(|(at, _)| is_in(*at));
    let (count, sum) = within.fold((0_u32, 0.0), |(count, sum), (_, value)| {
        (count + 1, sum + value)
    });
    sum / f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(values: &[f64]) -> bool {
        let (low, _, high) = typical(values, 0.9).unwrap();
        low > 1.0 || high < 1.0
    }

    /// In how many of all ways in which coins can fall the middle of 1 is missed, and of how many.
    fn missed(count: usize, error: impl Fn(usize) -> f64) -> (usize, usize) {
        let ways = 1_usize << count;
        let values = |way: usize| {
            let value = |at: usize| match way >> at & 1 == 1 {
                true => 1.0 + error(at),
                false => 1.0 - error(at),
            };
            (0..count).map(value).collect::<Vec<_>>()
        };
        let missed = (0..ways).filter(|way| misses(&values(*way)));
        (missed.count(), ways)
    }

    #[test]
    fn the_middle_is_missed_as_often_as_is_said_and_no_more_often_whatever_the_errors_are() {
        for (count, said) in [(5, 2), (8, 24)] {
            // No two subsets have the same mean: nothing is given away.
            let (unlike, _) = missed(count, |at| 3_f64.powf(at as f64));
            assert_eq!(unlike, said);
            let errors: [fn(usize) -> f64; 3] = [
                |_| 1.0,
                |at| 10_f64.powf((at % 3) as f64),
                |at| if at % 3 == 0 { 5.0 } else { 1e-9 },
            ];
            for error in errors {
                let (missed, of) = missed(count, error);
                assert!(missed <= said, "{missed} of {of}");
            }
        }
    }

    #[test]
    fn of_many_values_subsets_are_drawn() {
        let mut random = SplitMix64::new(3);
        let mut run = || {
            let value = |at: usize| {
                let sign = if random.unit() < 0.5 { -1.0 } else { 1.0 };
                1.0 + sign * (at % 7) as f64
            };
            misses(&(0..20).map(value).collect::<Vec<_>>())
        };
        let missed = (0..200).filter(|_| run()).count();
        // 20 are expected, and 33 are three standard deviations more.
        assert!((5..33).contains(&missed), "{missed}");
    }

    #[test]
    fn too_few_values_have_no_bounds_and_values_without_errors_have_no_width() {
        assert_eq!(typical(&[1.0; 7], 0.99), None);
        assert_eq!(typical(&[2.0; 8], 0.99), Some((2.0, 2.0, 2.0)));
        assert_eq!(typical(&[], 0.99), None);
        let (low, middle, high) = typical(&[2.0; 50], 0.99).unwrap();
        assert_eq!((low, middle, high), (2.0, 2.0, 2.0));
        let (low, _, high) = typical(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 0.99).unwrap();
        assert_eq!((low, high), (1.0, 8.0));
    }
}

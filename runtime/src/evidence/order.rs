//! The order of the versions within each pair, and of the inputs. Pure.
//!
//! The order is drawn anew for each pair: an order that repeats, ABAB or ABBA, gives a drift of the machine to one of the versions.

use crate::evidence::random::SplitMix64;

/// For each pair the index of the version that is measured first and of that which follows, without an end. The same seed gives
/// the same orders.
pub fn orders(seed: u64) -> impl Iterator<Item = [usize; 2]> {
    let mut random = SplitMix64::new(seed);
    std::iter::repeat_with(move || {
        let first = random.below(2);
        [first, 1 - first]
    })
}

/// The numbers from 0 to `count - 1`, shuffled (Fisher and Yates). The same seed gives the same order.
#[must_use]
pub fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = SplitMix64::new(seed);
    let mut numbers: Vec<usize> = (0..count).collect();
    for place in (1..count).rev() {
        numbers.swap(place, random.below(place + 1));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_orders_and_another_does_not() {
        let some = |seed| -> Vec<_> { orders(seed).take(64).collect() };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }

    #[test]
    fn each_version_goes_first_about_as_often_and_regardless_of_the_pair_before() {
        let firsts: Vec<usize> = orders(3).take(10_000).map(|[first, _]| first).collect();
        let second_first = firsts.iter().sum::<usize>();
        let changes = firsts.windows(2).filter(|two| two[0] != two[1]).count();
        // Five standard deviations of 50.
        assert!(second_first.abs_diff(5000) < 250, "{second_first}");
        assert!(changes.abs_diff(5000) < 250, "{changes}");
    }

    #[test]
    fn every_number_is_once_in_a_shuffle_and_at_every_place_equally_often() {
        let mut firsts = [0_u32; 6];
        for seed in 0..6000 {
            let numbers = shuffled(6, seed);
            firsts[numbers[0]] += 1;
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
            assert_eq!(shuffled(6, seed), numbers);
        }
        // Five standard deviations of 29.
        assert!(
            firsts.iter().all(|count| count.abs_diff(1000) < 145),
            "{firsts:?}"
        );
        assert!(shuffled(0, 1).is_empty());
    }

    #[test]
    fn a_pair_holds_both_versions() {
        assert!(orders(5).take(100).all(|[one, two]| one + two == 1));
    }
}

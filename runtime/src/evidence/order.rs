//! The order of the versions within each pair, and of the inputs. Pure.
//!
//! The order is drawn anew for each pair: an order that repeats, ABAB or ABBA, gives a drift of the machine to one of the versions.

use crate::evidence::random::SplitMix64;

/// For each round the indices of so many versions in the order in which they are measured, without an end; a round of two is a pair.
/// The same seed gives the same orders.
pub fn orders(versions: usize, seed: u64) -> impl Iterator<Item = Vec<usize>> {
    let mut random = SplitMix64::new(seed);
    std::iter::repeat_with(move || shuffle(versions, &mut random))
}

/// The numbers from 0 to `count - 1`, shuffled. The same seed gives the same order.
#[must_use]
pub fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    shuffle(count, &mut SplitMix64::new(seed))
}

/// By Fisher and Yates.
fn shuffle(count: usize, random: &mut SplitMix64) -> Vec<usize> {
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
        let some = |seed| -> Vec<_> { orders(2, seed).take(64).collect() };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }

    #[test]
    fn each_version_goes_first_about_as_often_and_regardless_of_the_pair_before() {
        let firsts: Vec<usize> = orders(2, 3).take(10_000).map(|order| order[0]).collect();
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
    fn a_round_holds_every_version_once_and_each_comes_after_each_other_one_as_often() {
        let mut follows = [[0_u32; 3]; 3];
        for order in orders(3, 5).take(6000) {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            order
                .windows(2)
                .for_each(|two| follows[two[0]][two[1]] += 1);
        }
        let others = (0..3).flat_map(|one| (0..3).map(move |two| (one, two)));
        // Five standard deviations of 37.
        assert!(
            others
                .filter(|(one, two)| one != two)
                .all(|(one, two)| follows[one][two].abs_diff(2000) < 185),
            "{follows:?}"
        );
    }
}

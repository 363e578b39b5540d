//! The inputs of a version in the order in which they are sent: shuffled once, and dealt on from block to block. Pure.
//!
//! A block that began with the first input again would load the first of them only, on a slow version the first ten of a thousand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::bench::subject::Subject;
use crate::evidence::shuffled;

/// All inputs of a version, shuffled. Two versions with as many inputs have the same order.
#[derive(Debug, Clone)]
pub(super) struct Deck {
    inputs: Arc<[Bytes]>,
    /// Numbers of the inputs, by place.
    order: Arc<[usize]>,
    /// Of each input the number of the first one that is the same.
    first_alike: Arc<[usize]>,
}

/// A version that is to be loaded, and the place in its deck that comes next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dealt<'a> {
    pub(super) subject: &'a Subject,
    pub(super) deck: &'a Deck,
    pub(super) place: u64,
}

impl Deck {
    pub(super) fn new(inputs: &Arc<[Bytes]>, seed: u64) -> Self {
        let mut firsts = HashMap::new();
        let first_alike = inputs
            .iter()
            .enumerate()
            .map(|(number, body)| *firsts.entry(body).or_insert(number))
            .collect();
        Self {
            inputs: Arc::clone(inputs),
            order: shuffled(inputs.len(), seed).into(),
            first_alike,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The number of the input at a place; after the last comes the first again.
    pub(super) fn number(&self, place: u64) -> usize {
        let place = place % self.order.len() as u64;
        self.order[usize::try_from(place).expect("below the number of inputs")]
    }

    pub(super) fn body(&self, place: u64) -> Bytes {
        self.inputs[self.number(place)].clone()
    }

    /// Inputs that differ from each other.
    pub(super) fn different(&self) -> usize {
        self.different_of(0..self.len())
    }

    /// Of these inputs those that differ from each other.
    pub(super) fn different_of(&self, numbers: impl IntoIterator<Item = usize>) -> usize {
        let firsts = numbers.into_iter().map(|number| self.first_alike[number]);
        firsts.collect::<HashSet<_>>().len()
    }

    /// Of the first so many places those whose input was at none before.
    pub(super) fn new_places(&self, places: usize) -> Vec<usize> {
        let mut seen = HashSet::new();
        let is_new = |place: &usize| seen.insert(self.first_alike[self.order[*place]]);
        (0..places).filter(is_new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deck(bodies: &[&'static str], seed: u64) -> Deck {
        let bodies = bodies
            .iter()
            .map(|body| Bytes::from_static(body.as_bytes()));
        Deck::new(&bodies.collect(), seed)
    }

    #[test]
    fn every_input_comes_before_any_comes_again() {
        let deck = deck(&["a", "b", "c", "d", "e"], 1);
        for round in 0..3 {
            let mut bodies: Vec<_> = (0..5).map(|at| deck.body(5 * round + at)).collect();
            bodies.sort_unstable();
            assert_eq!(bodies, ["a", "b", "c", "d", "e"]);
        }
    }

    #[test]
    fn versions_with_as_many_inputs_have_the_same_order() {
        let (one, two) = (deck(&["a", "b", "c"], 7), deck(&["x", "y", "z"], 7));
        assert!((0..9).all(|place| one.number(place) == two.number(place)));
        let orders: HashSet<Vec<usize>> = (0..64)
            .map(|seed| {
                (0..3)
                    .map(|at| deck(&["a", "b", "c"], seed).number(at))
                    .collect()
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn inputs_that_are_the_same_count_once() {
        let deck = deck(&["a", "b", "a", "a", "b", "c"], 3);
        assert_eq!((deck.len(), deck.different()), (6, 3));
        assert_eq!(deck.different_of([0, 2, 3]), 1);
        let places = deck.new_places(6);
        let mut bodies: Vec<_> = places.iter().map(|at| deck.body(*at as u64)).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, ["a", "b", "c"]);
    }
}

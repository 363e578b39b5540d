//! What came of each input under a load, of each version: which were loaded, which take longest, on which the versions differ. Pure.

use std::time::Duration;

use crate::bench::deck::Deck;
use crate::bench::report::{InputTimes, LoadedInputs};

/// Inputs of a list.
const TOLD_MAX: usize = 3;
/// Answers of each version from which a ratio of the means says something about one input.
const ANSWERS_MIN: u32 = 5;

/// The requests of one input.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    requests: u32,
    /// Answers whose time counts.
    answers: u32,
    /// Of the answers.
    total: Duration,
}

impl Times {
    /// Adds a request; its latency where it is one of an answer, and of those that count.
    pub(super) fn record(&mut self, latency: Duration, counts: bool) {
        self.requests = self.requests.saturating_add(1);
        if counts {
            self.answers = self.answers.saturating_add(1);
            self.total += latency;
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.answers = self.answers.saturating_add(other.answers);
        self.total += other.total;
    }

    fn is_loaded(&self) -> bool {
        self.requests > 0
    }

    fn mean_ms(&self) -> Option<f64> {
        let mean = self.total.checked_div(self.answers)?;
        Some(mean.as_secs_f64() * 1e3)
    }
}

/// All inputs of one version, by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Vec<Times>);

impl Ledger {
    /// Adds a block: what came of the inputs from a place of the deck on.
    pub(super) fn add(&mut self, deck: &Deck, first: u64, block: &[Times]) {
        self.0.resize(deck.len(), Times::default());
        for (place, times) in (first..).zip(block) {
            self.0[deck.number(place)].add(times);
        }
    }

    fn of(&self, input: usize) -> Times {
        self.0.get(input).copied().unwrap_or_default()
    }
}

/// What is told of the inputs; those that every version had count.
pub(super) fn loaded(ledgers: &[Ledger], deck: &Deck) -> LoadedInputs {
    let all = || 0..deck.len();
    let by_all = |input: &usize| ledgers.iter().all(|ledger| ledger.of(*input).is_loaded());
    let times = |input: usize| InputTimes {
        input,
        mean_ms: ledgers
            .iter()
            .map(|ledger| ledger.of(input).mean_ms())
            .collect(),
    };
    let slowest = |input: &usize| {
        let means = ledgers.iter().filter_map(|one| one.of(*input).mean_ms());
        means.reduce(f64::max)
    };
    let told = |mut ranked: Vec<(f64, usize)>| {
        // Stable: of equal ones the first inputs stay.
        ranked.sort_by(|(one, _), (two, _)| two.total_cmp(one));
        let first = ranked.into_iter().take(TOLD_MAX);
        first.map(|(_, input)| times(input)).collect()
    };
    LoadedInputs {
        loaded: deck.different_of(all().filter(by_all)),
        different: deck.different(),
        slowest: told(
            all()
                .filter_map(|input| Some((slowest(&input)?, input)))
                .collect(),
        ),
        apart: told(
            all()
                .filter_map(|input| Some((apart(ledgers, input)?, input)))
                .collect(),
        ),
    }
}

/// How far the ratio of the means is from 1, either way, of the version that is farthest from the baseline.
fn apart(ledgers: &[Ledger], input: usize) -> Option<f64> {
    let (base, others) = ledgers.split_first()?;
    let mean = |ledger: &Ledger| {
        let times = ledger.of(input);
        times.mean_ms().filter(|_| times.answers >= ANSWERS_MIN)
    };
    let base = mean(base)?;
    others
        .iter()
        .filter_map(|other| Some((mean(other)? / base).ln().abs()))
        .filter(|apart| apart.is_finite())
        .reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn deck(count: usize) -> Deck {
        let inputs: Arc<[Bytes]> = (0..count).map(|at| Bytes::from(at.to_string())).collect();
        Deck::new(&inputs, 1)
    }

    fn times(ms: u64, answers: u32) -> Times {
        let mut times = Times::default();
        for _ in 0..answers {
            times.record(Duration::from_millis(ms), true);
        }
        times
    }

    /// What a block of all inputs looks like, in the order in which they are dealt.
    fn block(deck: &Deck, of: impl Fn(usize) -> Times) -> Vec<Times> {
        (0..deck.len() as u64)
            .map(|at| of(deck.number(at)))
            .collect()
    }

    #[test]
    fn an_input_counts_when_every_version_had_it() {
        let deck = deck(10);
        let mut ledgers = [Ledger::default(), Ledger::default()];
        ledgers[0].add(&deck, 8, &[times(1, 1); 4]);
        ledgers[1].add(&deck, 9, &[times(1, 1); 1]);
        let mut failed = Times::default();
        failed.record(Duration::ZERO, false);
        ledgers[1].add(&deck, 0, &[failed]);
        let found = loaded(&ledgers, &deck);
        assert_eq!((found.loaded, found.different), (2, 10));
    }

    #[test]
    fn the_slowest_inputs_and_those_on_which_versions_differ_are_few_and_told_by_their_numbers() {
        let deck = deck(100);
        let mut ledgers = [Ledger::default(), Ledger::default()];
        let base = block(&deck, |input| times(10 + input as u64, 6));
        ledgers[0].add(&deck, 0, &base);
        let other = block(&deck, |input| match input {
            3 => times(39, 6),
            // Too few to say.
            4 => times(400, 2),
            _ => times(10 + input as u64, 6),
        });
        ledgers[1].add(&deck, 0, &other);
        let found = loaded(&ledgers, &deck);
        let numbers = |told: &[InputTimes]| told.iter().map(|one| one.input).collect::<Vec<_>>();
        assert_eq!(numbers(&found.slowest), [4, 99, 98]);
        assert_eq!(numbers(&found.apart)[0], 3);
        assert_eq!(found.apart.len(), TOLD_MAX);
        let means: Vec<_> = found.apart[0]
            .mean_ms
            .iter()
            .map(|ms| ms.unwrap())
            .collect();
        assert!((means[0] - 13.0).abs() < 1e-9 && (means[1] - 39.0).abs() < 1e-9);
    }

    #[test]
    fn one_version_differs_from_nothing() {
        let deck = deck(2);
        let mut ledgers = [Ledger::default()];
        ledgers[0].add(&deck, 0, &[times(1, 9); 2]);
        let found = loaded(&ledgers, &deck);
        assert_eq!((found.loaded, found.apart.len()), (2, 0));
    }
}

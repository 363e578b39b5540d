//! The search for the rate to try next, to find the highest that keeps a latency. Pure.
//!
//! Up or down by half until one rate has passed and a higher one failed, then between the two until they are within 2 %, then both
//! ends once more for twice as long: a moment of the machine must decide neither. Rates are requests a second.

use crate::bench::slo::{Probe, Sustained};
use crate::evidence::ProbeOutcome;

/// From one rate to the next while only one end is known.
const BRACKET: f64 = 1.5;

/// The ends of an interval that is narrow enough, one by the other.
const NARROW: f64 = 1.02;

/// The lowest rate that is tried, in requests a second: a server that does not keep one keeps none.
const RATE_MIN: f64 = 1.0;

/// Most tries: the rates from 1 to a million need 35 to be bracketed, 6 more for 2 %, and some are left for a rate that fails the
/// second time.
const STEPS_MAX: usize = 64;

/// A rate to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// Requests a second.
    pub rate_per_s: f64,
    /// It was tried before, and is to be tried again for twice as long.
    pub confirm: bool,
}

/// The reason why a search is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Found: a rate that passed twice, and one within 2 % that failed twice.
    Narrow,
    /// The highest rate that can be made was kept, twice.
    Ceiling,
    /// The lowest rate was not kept.
    Floor,
    /// The outcomes contradict each other, and it was tried often enough.
    Steps,
}

impl Ended {
    /// In words.
    #[must_use]
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Narrow => "found within 2 %",
            Self::Ceiling => "the load generator reached its highest rate, which was kept",
            Self::Floor => "no rate keeps the latency, not even one request a second",
            Self::Steps => "the tries contradict each other: the machine is not steady enough",
        }
    }
}

/// The knowledge so far.
#[derive(Debug, Clone)]
pub(super) struct Search {
    start: f64,
    cap: f64,
    /// Rates that passed, rising, all below what failed.
    passed: Vec<f64>,
    /// Rates that failed, falling.
    failed: Vec<f64>,
    /// The highest of `passed` passed again.
    confirmed: bool,
    /// The lowest of `failed` failed again.
    refuted: bool,
    steps: usize,
}

impl Search {
    /// Begins at a rate, never above `cap`, which is what the generator can make, and never below one request a second.
    #[must_use]
    pub(super) fn new(start_rate: f64, cap: f64) -> Self {
        let cap = cap.max(RATE_MIN);
        Self {
            start: start_rate.max(RATE_MIN).min(cap),
            cap,
            passed: Vec::new(),
            failed: Vec::new(),
            confirmed: false,
            refuted: false,
            steps: 0,
        }
    }

    /// The rate to try now; none when the search is over.
    #[must_use]
    pub(super) fn next(&self) -> Option<Step> {
        self.plan().ok()
    }

    /// Takes in what came of [`Search::next`]. A try that proved nothing counts as failed. Does nothing when the search is over.
    pub(super) fn learn(&mut self, outcome: ProbeOutcome) {
        let Ok(Step {
            rate_per_s,
            confirm,
        }) = self.plan()
        else {
            return;
        };
        self.steps += 1;
        let passes = outcome == ProbeOutcome::Passed;
        let passed_before = self.passed() == Some(rate_per_s);
        match (passes, confirm) {
            (true, true) if passed_before => self.confirmed = true,
            (false, true) if !passed_before => self.refuted = true,
            (true, _) => {
                self.failed.retain(|failed| *failed > rate_per_s);
                self.passed.push(rate_per_s);
                (self.confirmed, self.refuted) = (false, self.refuted && !confirm);
            }
            (false, _) => {
                self.passed.retain(|passed| *passed < rate_per_s);
                self.failed.push(rate_per_s);
                (self.confirmed, self.refuted) = (self.confirmed && !confirm, false);
            }
        }
    }

    /// Highest rate that passed, and did not fail when it was tried again.
    #[must_use]
    pub(super) fn passed(&self) -> Option<f64> {
        self.passed.last().copied()
    }

    /// Lowest rate that failed.
    #[must_use]
    pub(super) fn failed(&self) -> Option<f64> {
        self.failed.last().copied()
    }

    /// Whether [`Search::passed`] passed a second time, twice as long; none while that was not tried.
    #[must_use]
    pub(super) fn confirmed(&self) -> Option<bool> {
        self.confirmed.then_some(true)
    }

    /// The reason why it is over; none while there is something to try.
    #[must_use]
    pub(super) fn ended(&self) -> Option<Ended> {
        self.plan().err()
    }

    /// The outcome, for the report. `stopped` says why there was no more of it, for a search that is not over.
    #[must_use]
    pub(super) fn sustained(&self, probes: Vec<Probe>, stopped: &str) -> Sustained {
        Sustained {
            passed_per_s: self.passed(),
            failed_per_s: self.failed(),
            confirmed: self.confirmed(),
            ended: match self.ended() {
                Some(ended) => ended.words().to_owned(),
                None => stopped.to_owned(),
            },
            probes,
        }
    }

    fn plan(&self) -> Result<Step, Ended> {
        if self.steps == STEPS_MAX {
            return Err(Ended::Steps);
        }
        match (self.passed(), self.failed()) {
            (None, None) => Ok(first_try(self.start)),
            (None, Some(failed)) if failed <= RATE_MIN => Err(Ended::Floor),
            (None, Some(failed)) => Ok(first_try((failed / BRACKET).max(RATE_MIN))),
            (Some(passed), None) if passed < self.cap => {
                Ok(first_try((passed * BRACKET).min(self.cap)))
            }
            (Some(_), None) if self.confirmed => Err(Ended::Ceiling),
            (Some(passed), None) => Ok(again(passed)),
            (Some(passed), Some(failed)) if failed <= passed * NARROW => {
                match (self.confirmed, self.refuted) {
                    (false, _) => Ok(again(passed)),
                    (true, false) => Ok(again(failed)),
                    (true, true) => Err(Ended::Narrow),
                }
            }
            (Some(passed), Some(failed)) => Ok(first_try((passed * failed).sqrt())),
        }
    }
}

fn again(rate_per_s: f64) -> Step {
    Step {
        rate_per_s,
        confirm: true,
    }
}

fn first_try(rate_per_s: f64) -> Step {
    Step {
        rate_per_s,
        confirm: false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets a server decide until the search is over; the rates that were tried.
    fn search(start: f64, cap: f64, mut keeps: impl FnMut(Step) -> bool) -> (Search, Vec<Step>) {
        let mut search = Search::new(start, cap);
        let mut steps = Vec::new();
        while let Some(step) = search.next() {
            steps.push(step);
            search.learn(if keeps(step) {
                ProbeOutcome::Passed
            } else {
                ProbeOutcome::Failed
            });
        }
        (search, steps)
    }

    #[test]
    fn the_first_rates_rise_by_half_until_one_fails() {
        let (found, steps) = search(100.0, 1e6, |step| step.rate_per_s <= 300.0);
        let first: Vec<f64> = steps.iter().take(4).map(|step| step.rate_per_s).collect();
        assert_eq!(first, [100.0, 150.0, 225.0, 337.5]);
        assert_eq!(found.ended(), Some(Ended::Narrow));
        assert!(steps.len() <= 12, "{steps:?}");
    }

    #[test]
    fn the_last_tries_confirm_both_ends() {
        let (found, steps) = search(100.0, 1e6, |step| step.rate_per_s <= 300.0);
        let again: Vec<_> = steps.iter().filter(|step| step.confirm).collect();
        let rates: Vec<_> = again.iter().map(|step| Some(step.rate_per_s)).collect();
        assert_eq!(rates, [found.passed(), found.failed()]);
        assert_eq!(steps.last(), again.last().copied());
        assert_eq!(found.confirmed(), Some(true));
    }

    #[test]
    fn a_disturbance_of_one_try_is_found_out() {
        for disturbed in 0..10 {
            let mut number = 0;
            let (found, _) = search(100.0, 1e6, |step| {
                number += 1;
                number - 1 != disturbed && step.rate_per_s <= 300.0
            });
            assert_eq!(found.ended(), Some(Ended::Narrow));
            let (passed, failed) = (found.passed().unwrap(), found.failed().unwrap());
            assert!(passed <= 300.0 && 300.0 < failed, "{disturbed}: {found:?}");
        }
    }

    #[test]
    fn no_rate_is_kept_by_a_server_that_does_not_keep_one_a_second() {
        let (found, steps) = search(100.0, 1e6, |_| false);
        assert_eq!(found.ended(), Some(Ended::Floor));
        assert_eq!((found.passed(), found.failed()), (None, Some(1.0)));
        assert!(steps.len() <= 13, "{steps:?}");
    }

    #[test]
    fn the_highest_rate_of_the_generator_ends_the_search_when_it_is_confirmed() {
        let (found, steps) = search(100.0, 500.0, |_| true);
        assert_eq!(found.ended(), Some(Ended::Ceiling));
        assert_eq!(
            (found.passed(), found.failed(), found.confirmed()),
            (Some(500.0), None, Some(true))
        );
        assert!(steps.iter().all(|step| step.rate_per_s <= 500.0));
    }

    #[test]
    fn a_start_beyond_the_ends_is_moved_to_them() {
        assert_eq!(Search::new(1e9, 500.0).next(), Some(first_try(500.0)));
        assert_eq!(Search::new(0.0, 500.0).next(), Some(first_try(1.0)));
        assert_eq!(Search::new(f64::NAN, 500.0).next(), Some(first_try(1.0)));
    }

    #[test]
    fn a_try_that_proved_nothing_counts_as_failed() {
        let mut search = Search::new(100.0, 1e6);
        search.learn(ProbeOutcome::Undecided);
        assert_eq!((search.failed(), search.confirmed()), (Some(100.0), None));
        let sustained = search.sustained(Vec::new(), "interrupted");
        assert_eq!(sustained.ended, "interrupted");
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_capacity_and_is_narrow(capacity in 1.0..1e6_f64, start in 1.0..1e6_f64) {
            let (found, _) = search(start, 1e7, |step| step.rate_per_s <= capacity);
            prop_assert_eq!(found.ended(), Some(Ended::Narrow));
            let (passed, failed) = (found.passed().unwrap(), found.failed().unwrap());
            prop_assert!(passed <= capacity && capacity < failed);
            prop_assert!(failed <= passed * NARROW);
        }

        #[test]
        fn whatever_comes_of_the_tries_it_ends_and_what_passed_is_below_what_failed(
            outcomes in proptest::collection::vec(any::<bool>(), 128),
            start in 1.0..1e6_f64,
        ) {
            let mut outcomes = outcomes.into_iter();
            let (found, steps) = search(start, 1e6, |_| outcomes.next().unwrap());
            prop_assert!(steps.len() <= STEPS_MAX);
            if let (Some(passed), Some(failed)) = (found.passed(), found.failed()) {
                prop_assert!(passed < failed);
            }
            prop_assert!(steps.iter().all(|step| (RATE_MIN..=1e6).contains(&step.rate_per_s)));
        }
    }
}

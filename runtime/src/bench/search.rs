//! The search for the rate to try next, to find the highest that keeps a latency. Pure.
//!
//! A try proves that its rate is kept, that it is not, or neither: near the edge no affordable time shows which. Up or down by half until
//! one rate is kept and a higher one is not, then into the wider of the gaps between what is kept, what was not shown, and what is not
//! kept, until they are within 2 %; then both ends once more: a moment of the machine must decide neither. So the highest rate lies
//! between the two ends, and what lies between them is told as unknown. Rates are requests a second.
//!
//! Not here: when a rate is kept (`crate::evidence`), how long a try is (`sustain`).

use crate::bench::slo::{Probe, Sustained};
use crate::evidence::ProbeOutcome;

/// From one rate to the next while only one end is known.
const BRACKET: f64 = 1.5;

/// The ends of a gap that is narrow enough, one by the other.
const NARROW: f64 = 1.02;

/// The lowest rate that is tried, in requests a second: a server that does not keep one keeps none.
const RATE_MIN: f64 = 1.0;

/// Most tries: the rates from 1 to a million need 35 to be bracketed, 12 more for two gaps of 2 %, and some are left for a rate that
/// fails the second time.
const STEPS_MAX: usize = 64;

/// A rate to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// Requests a second.
    pub rate_per_s: f64,
    /// It was tried before, and is to be proven again.
    pub confirm: bool,
}

/// The reason why a search is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Found: a rate that is kept, and one within 2 % that is not.
    Narrow,
    /// Between the two are rates of which neither was shown.
    NotShown,
    /// The highest rate that can be made was kept.
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
            Self::NotShown => "a longer try is needed to show more (--budget)",
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
    /// Rates that were kept, rising, all below what was not kept.
    passed: Vec<f64>,
    /// Rates that were not, falling.
    failed: Vec<f64>,
    /// Rates of which neither was shown.
    vague: Vec<f64>,
    /// The highest of `passed` was proven again.
    confirmed: bool,
    /// The lowest of `failed` was.
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
            vague: Vec::new(),
            confirmed: false,
            refuted: false,
            steps: 0,
        }
    }

    /// The rate to try now; none when the search is over. With little time left only what is known is confirmed.
    #[must_use]
    pub(super) fn next(&self, time_left: TimeLeft) -> Option<Step> {
        match time_left {
            TimeLeft::Enough => self.plan().ok(),
            TimeLeft::ToConfirm => self.unconfirmed(),
        }
    }

    /// Takes in what came of a step. Does nothing when the search is over.
    pub(super) fn learn(&mut self, step: Step, outcome: ProbeOutcome) {
        let rate = step.rate_per_s;
        self.steps += 1;
        let is_passed = self.passed() == Some(rate);
        let is_failed = self.failed() == Some(rate);
        match outcome {
            ProbeOutcome::Passed if is_passed => self.confirmed = true,
            ProbeOutcome::Failed if is_failed => self.refuted = true,
            ProbeOutcome::Passed => {
                self.moves(|ends| ends.failed.retain(|failed| *failed > rate));
                self.moves(|ends| ends.passed.push(rate));
            }
            ProbeOutcome::Failed => {
                self.moves(|ends| ends.passed.retain(|passed| *passed < rate));
                self.moves(|ends| ends.failed.push(rate));
            }
            // What shows nothing the second time was luck, or is too near to the edge: the end before it is left.
            ProbeOutcome::Undecided => {
                if is_passed {
                    self.moves(|ends| {
                        ends.passed.pop();
                    });
                }
                if is_failed {
                    self.moves(|ends| {
                        ends.failed.pop();
                    });
                }
                self.vague.push(rate);
            }
        }
        let (low, high) = (self.passed(), self.failed());
        self.vague.retain(|rate| {
            low.is_none_or(|low| *rate > low) && high.is_none_or(|high| *rate < high)
        });
    }

    /// Changes the ends; a new one is not confirmed.
    fn moves(&mut self, change: impl FnOnce(&mut Self)) {
        let before = (self.passed(), self.failed());
        change(self);
        self.confirmed &= self.passed() == before.0;
        self.refuted &= self.failed() == before.1;
    }

    /// Highest rate that was kept, and was not found to be broken when it was tried again.
    #[must_use]
    pub(super) fn passed(&self) -> Option<f64> {
        self.passed.last().copied()
    }

    /// Lowest rate that was not kept.
    #[must_use]
    pub(super) fn failed(&self) -> Option<f64> {
        self.failed.last().copied()
    }

    /// Whether both ends were proven twice, or the one that there is.
    #[must_use]
    pub(super) fn is_confirmed(&self) -> bool {
        match self.plan() {
            Err(Ended::Steps) => false,
            Err(Ended::Floor) => true,
            _ => self.confirmed && (self.refuted || self.failed().is_none()),
        }
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
            confirmed: self.is_confirmed(),
            ended: match self.ended() {
                Some(ended) => ended.words().to_owned(),
                None => stopped.to_owned(),
            },
            probes,
        }
    }

    fn plan(&self) -> Result<Step, Ended> {
        if self.steps >= STEPS_MAX {
            return Err(Ended::Steps);
        }
        let lowest = self.vague.iter().copied().chain(self.failed());
        let lowest = lowest.reduce(f64::min);
        match (self.passed(), lowest) {
            (None, None) => Ok(first_try(self.start)),
            (None, Some(above)) if above <= RATE_MIN => match self.failed() {
                Some(failed) if failed <= RATE_MIN => Err(Ended::Floor),
                _ => Err(Ended::NotShown),
            },
            (None, Some(above)) => Ok(first_try((above / BRACKET).max(RATE_MIN))),
            (Some(passed), None) if passed < self.cap => {
                Ok(first_try((passed * BRACKET).min(self.cap)))
            }
            (Some(_), None) => self.unconfirmed().ok_or(Ended::Ceiling),
            (Some(passed), Some(above)) => self.between(passed, above),
        }
    }

    /// The wider of the gaps below and above what was not shown.
    fn between(&self, passed: f64, above: f64) -> Result<Step, Ended> {
        let highest = self.vague.iter().copied().reduce(f64::max);
        let below = above / passed;
        let Some(highest) = highest else {
            return match below > NARROW {
                true => Ok(first_try((passed * above).sqrt())),
                false => self.unconfirmed().ok_or(Ended::Narrow),
            };
        };
        let end = self.failed().unwrap_or_else(|| {
            let beyond = highest * BRACKET * BRACKET;
            beyond.min(self.cap * self.cap / highest)
        });
        let above_it = end / highest;
        match below.max(above_it) > NARROW {
            true if above_it >= below => Ok(first_try((highest * end).sqrt().min(self.cap))),
            true => Ok(first_try((passed * above).sqrt())),
            false => self.unconfirmed().ok_or(Ended::NotShown),
        }
    }

    /// An end that was proven once.
    fn unconfirmed(&self) -> Option<Step> {
        if self.steps >= STEPS_MAX {
            return None;
        }
        let passed = self.passed();
        let end = passed.filter(|_| !self.confirmed);
        // Below a rate that is not kept there is nothing to be told apart without one that is.
        let end = end.or_else(|| self.failed().filter(|_| passed.is_some() && !self.refuted));
        end.map(again)
    }
}

/// What there is time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeLeft {
    /// Any try.
    Enough,
    /// A second proof of what is known.
    ToConfirm,
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
        while let Some(step) = search.next(TimeLeft::Enough) {
            steps.push(step);
            let outcome = match keeps(step) {
                true => ProbeOutcome::Passed,
                false => ProbeOutcome::Failed,
            };
            search.learn(step, outcome);
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
        assert!(found.is_confirmed());
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
            (found.passed(), found.failed(), found.is_confirmed()),
            (Some(500.0), None, true)
        );
        assert!(steps.iter().all(|step| step.rate_per_s <= 500.0));
    }

    #[test]
    fn a_start_beyond_the_ends_is_moved_to_them() {
        let first = |start| Search::new(start, 500.0).next(TimeLeft::Enough);
        assert_eq!(first(1e9), Some(first_try(500.0)));
        assert_eq!(first(0.0), Some(first_try(1.0)));
        assert_eq!(first(f64::NAN), Some(first_try(1.0)));
    }

    fn outcome_of(rate: f64, kept: f64, broken: f64) -> ProbeOutcome {
        match (rate <= kept, rate >= broken) {
            (true, _) => ProbeOutcome::Passed,
            (_, true) => ProbeOutcome::Failed,
            _ => ProbeOutcome::Undecided,
        }
    }

    /// A server of which the rates between the two show nothing.
    fn vague(start: f64, kept: f64, broken: f64) -> Search {
        let mut search = Search::new(start, 1e6);
        while let Some(step) = search.next(TimeLeft::Enough) {
            search.learn(step, outcome_of(step.rate_per_s, kept, broken));
        }
        search
    }

    #[test]
    fn a_try_that_proved_nothing_is_neither_kept_nor_broken() {
        let mut search = Search::new(100.0, 1e6);
        search.learn(first_try(100.0), ProbeOutcome::Undecided);
        assert_eq!((search.passed(), search.failed()), (None, None));
        let sustained = search.sustained(Vec::new(), "interrupted");
        assert_eq!(sustained.ended, "interrupted");
        assert!(!sustained.confirmed);
    }

    #[test]
    fn rates_that_show_nothing_lie_between_the_ends() {
        for start in [10.0, 100.0, 330.0, 350.0, 1000.0] {
            let found = vague(start, 300.0, 400.0);
            assert_eq!(found.ended(), Some(Ended::NotShown), "{found:?}");
            let (passed, failed) = (found.passed().unwrap(), found.failed().unwrap());
            assert!((300.0 / NARROW..=300.0).contains(&passed), "{found:?}");
            assert!((400.0..=400.0 * NARROW).contains(&failed), "{found:?}");
            assert!(found.is_confirmed());
        }
    }

    #[test]
    fn a_server_of_which_no_try_shows_anything_ends_the_search() {
        for (start, kept, broken) in [(100.0, 0.0, 1e9), (100.0, 200.0, 1e9), (100.0, 0.0, 50.0)] {
            let found = vague(start, kept, broken);
            assert!(found.steps < STEPS_MAX, "{found:?}");
            assert_eq!(found.ended(), Some(Ended::NotShown), "{found:?}");
        }
    }

    #[test]
    fn what_shows_nothing_the_second_time_leaves_the_end_before_it() {
        let mut search = Search::new(100.0, 1e6);
        for rate in [100.0, 150.0] {
            search.learn(first_try(rate), ProbeOutcome::Passed);
        }
        search.learn(first_try(225.0), ProbeOutcome::Failed);
        assert_eq!(search.next(TimeLeft::ToConfirm), Some(again(150.0)));
        search.learn(again(150.0), ProbeOutcome::Undecided);
        assert_eq!(
            (search.passed(), search.failed()),
            (Some(100.0), Some(225.0))
        );
        assert_eq!(search.next(TimeLeft::ToConfirm), Some(again(100.0)));
        search.learn(again(100.0), ProbeOutcome::Passed);
        search.learn(again(225.0), ProbeOutcome::Undecided);
        // The lower end alone is known, and it is known for sure.
        assert_eq!((search.passed(), search.failed()), (Some(100.0), None));
        assert!(search.is_confirmed());
    }

    #[test]
    fn when_time_is_short_what_is_known_is_confirmed() {
        let mut search = Search::new(100.0, 1e6);
        assert_eq!(search.next(TimeLeft::ToConfirm), None);
        search.learn(first_try(100.0), ProbeOutcome::Passed);
        search.learn(first_try(150.0), ProbeOutcome::Failed);
        for (rate, outcome) in [(100.0, ProbeOutcome::Passed), (150.0, ProbeOutcome::Failed)] {
            assert!(!search.is_confirmed());
            assert_eq!(search.next(TimeLeft::ToConfirm), Some(again(rate)));
            search.learn(again(rate), outcome);
        }
        assert!(search.is_confirmed());
        assert_eq!(search.next(TimeLeft::ToConfirm), None);
        assert_eq!(search.ended(), None);
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
            outcomes in proptest::collection::vec((0..3_usize, any::<bool>()), 128),
            start in 1.0..1e6_f64,
        ) {
            let mut found = Search::new(start, 1e6);
            let mut steps = Vec::new();
            for (outcome, enough) in outcomes {
                let time = if enough { TimeLeft::Enough } else { TimeLeft::ToConfirm };
                if let Some(step) = found.next(time) {
                    steps.push(step);
                    found.learn(step, [ProbeOutcome::Passed, ProbeOutcome::Failed, ProbeOutcome::Undecided][outcome]);
                }
            }
            prop_assert!(steps.len() <= STEPS_MAX);
            if let (Some(passed), Some(failed)) = (found.passed(), found.failed()) {
                prop_assert!(passed < failed);
            }
            prop_assert!(steps.iter().all(|step| (RATE_MIN..=1e6).contains(&step.rate_per_s)));
        }
    }
}

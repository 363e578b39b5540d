//! The conclusions from comparisons of settings with what runs now. Pure.
//!
//! Of several settings the best by the numbers is so partly by luck, the more the more there are. So the search only names one that may
//! be better, and what is recommended was measured anew, beside what runs now, on servers that were started for it: by chance alone two such
//! runs in a row name it faster in one of 1,600 (each interval leaves out 1 on that side with 2.5 %).
//!
//! Not here: measuring (`run`), words (`report`).

use std::time::Duration;

use crate::bench::{self, Comparison, Level, Metric, Outcome};
use crate::evidence::Estimate;
use crate::tune::grid::Setting;

/// Settings whose throughputs are nearer to the best one's than this share are taken for equally fast.
const EQUAL: f64 = 0.03;
/// A setting that is faster by less is not worth another run.
const WORTH: f64 = 0.02;

/// The longest p99 that was asked for, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct P99Max(pub Option<Duration>);

/// What is recommended.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// To change to a setting, by its index. It was proven to be better each time.
    Change {
        /// Among the settings.
        to: usize,
        /// Its throughput by that of what runs now, of each run that confirms it.
        gains: Vec<Estimate>,
    },
    /// To keep what runs now: no setting is proven to be better.
    Keep {
        /// The most that one of them may be faster, by the intervals; none where there is no interval.
        within: Option<f64>,
    },
    /// No setting keeps the p99 that was asked for.
    NothingKeeps {
        /// The one with the shortest, by its index.
        nearest: usize,
        /// Its p99 in milliseconds.
        p99_ms: f64,
    },
    /// The runs say nothing.
    Unknown(String),
}

impl P99Max {
    fn keeps(self, level: &Level, version: usize) -> bool {
        let limit = self.0.map(|limit| limit.as_secs_f64() * 1e3);
        let p99_ms = level.figures.get(version).map(|figures| figures.p99_ms);
        limit.is_none_or(|limit| p99_ms.is_some_and(|p99_ms| p99_ms <= limit))
    }
}

/// The level of a run that says something.
fn level(found: &bench::Report) -> Result<&Level, Advice> {
    match found.verdict.outcome {
        Outcome::Invalid => Err(Advice::Unknown(found.verdict.words.clone())),
        _ if found.interrupted => Err(Advice::Unknown("it was interrupted".to_owned())),
        _ => found
            .levels
            .first()
            .filter(|level| level.figures.len() == found.versions.len())
            .ok_or_else(|| Advice::Unknown("nothing was measured".to_owned())),
    }
}

fn of(level: &Level, version: usize, metric: Metric) -> Option<&Comparison> {
    let mut all = level.comparisons.iter();
    all.find(|one| one.version == version && one.metric == metric)
}

/// Whether a version may be recommended at all: what it answers is the same, it fails no more, and its p99 is kept, or where none was asked
/// for not proven to be longer.
fn is_eligible(found: &bench::Report, level: &Level, version: usize, p99_max: P99Max) -> bool {
    let differs = found
        .answers
        .iter()
        .any(|one| one.version == version && one.answers.differing > 0);
    let is_longer = p99_max.0.is_none()
        && of(level, version, Metric::P99).is_some_and(|one| one.outcome == Outcome::Slower);
    let fails = of(level, version, Metric::Throughput)
        .is_none_or(|one| matches!(one.outcome, Outcome::FailsMore | Outcome::Invalid));
    !differs && !fails && !is_longer && p99_max.keeps(level, version)
}

fn gain(level: &Level, version: usize) -> f64 {
    of(level, version, Metric::Throughput).map_or(0.0, |one| one.ratio.estimate.point)
}

/// The setting that may be better than what runs now, which is the first, by its index.
///
/// # Errors
///
/// What is to be said where there is none.
pub(super) fn contender(
    found: &bench::Report,
    settings: &[Setting],
    p99_max: P99Max,
) -> Result<usize, Advice> {
    let level = level(found)?;
    let versions = 0..settings.len();
    if !versions
        .clone()
        .any(|version| p99_max.keeps(level, version))
    {
        let p99_ms = |version: usize| level.figures[version].p99_ms;
        let nearest = versions.min_by(|one, two| p99_ms(*one).total_cmp(&p99_ms(*two)));
        let nearest = nearest.unwrap_or_default();
        return Err(Advice::NothingKeeps {
            nearest,
            p99_ms: p99_ms(nearest),
        });
    }
    // Where what runs now does not keep the target, what does is worth a change however fast it is.
    let least = match p99_max.keeps(level, 0) {
        true => 1.0 + WORTH,
        false => 0.0,
    };
    let may_win: Vec<usize> = (1..settings.len())
        .filter(|version| is_eligible(found, level, *version, p99_max))
        .filter(|version| gain(level, *version) > least)
        .collect();
    let best = may_win.iter().map(|version| gain(level, *version));
    let best = best.fold(0.0, f64::max);
    may_win
        .into_iter()
        .filter(|version| gain(level, *version) >= best * (1.0 - EQUAL))
        .min_by_key(|version| settings[*version].distance(settings[0]))
        .ok_or_else(|| Advice::Keep {
            within: left_open(found, &[], None),
        })
}

/// What a second run says of a setting that may be better.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Confirmation {
    /// It is proven to be better; its throughput by that of what runs now.
    Better(Estimate),
    /// It is not.
    NotProven,
    /// What runs now differed from itself, so that the run says nothing of it.
    Unsteady,
    /// The run says nothing at all.
    Nothing(Advice),
}

/// What a run of two says of the second.
pub(super) fn confirmed(found: &bench::Report, p99_max: P99Max) -> Confirmation {
    let level = match level(found) {
        Ok(level) => level,
        Err(advice) => return Confirmation::Nothing(advice),
    };
    let Some(throughput) = of(level, 1, Metric::Throughput) else {
        return Confirmation::NotProven;
    };
    if throughput.outcome == Outcome::Withheld {
        return Confirmation::Unsteady;
    }
    let is_faster = |one: &Comparison| one.outcome == Outcome::Faster;
    let is_proven = match p99_max.keeps(level, 0) {
        true => is_faster(throughput),
        false => of(level, 1, Metric::P99).is_some_and(is_faster),
    };
    match is_proven && is_eligible(found, level, 1, p99_max) {
        true => Confirmation::Better(throughput.ratio.estimate),
        false => Confirmation::NotProven,
    }
}

/// The most by which a setting may be faster than what runs now, by the intervals: of the `contender` the least that a run left open.
pub(super) fn left_open(
    search: &bench::Report,
    confirmations: &[bench::Report],
    contender: Option<usize>,
) -> Option<f64> {
    let high = |found: &bench::Report, version: usize| {
        let level = found.levels.first()?;
        of(level, version, Metric::Throughput)?.ratio.estimate.high
    };
    let each = (1..search.versions.len()).map(|version| {
        let of_search = high(search, version);
        let again = confirmations.iter().filter_map(|found| high(found, 1));
        match contender == Some(version) {
            true => again.chain(of_search).reduce(f64::min),
            false => of_search,
        }
    });
    let highs: Option<Vec<f64>> = each.collect();
    let most = highs?.into_iter().reduce(f64::max)?;
    Some((most - 1.0).max(0.0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::sample;

    fn setting(lanes: u32, batch_size: Option<u32>) -> Setting {
        Setting {
            lanes,
            batch_size,
            spin: false,
        }
    }

    /// What runs now, and two others.
    pub(in crate::tune) fn settings() -> Vec<Setting> {
        vec![setting(2, None), setting(1, None), setting(1, Some(4))]
    }

    /// A run in which each other version has this throughput, its interval being 2 % to each side, and p99s in milliseconds of all.
    pub(in crate::tune) fn run(gains: &[f64], p99s: &[f64]) -> bench::Report {
        let mut report = match gains.len() {
            1 => sample::report(),
            _ => sample::three(),
        };
        let level = &mut report.levels[0];
        for (figures, p99_ms) in level.figures.iter_mut().zip(p99s) {
            figures.p99_ms = *p99_ms;
        }
        for one in &mut level.comparisons {
            let (point, is_better) = match one.metric {
                Metric::Throughput => (gains[one.version - 1], 1.0),
                Metric::P99 => (p99s[one.version] / p99s[0], -1.0),
                _ => continue,
            };
            let (low, high) = (point * 0.98, point * 1.02);
            (one.ratio.estimate.point, one.ratio.estimate.low) = (point, Some(low));
            one.ratio.estimate.high = Some(high);
            one.outcome = match (low > 1.0, high < 1.0) {
                (true, _) if is_better > 0.0 => Outcome::Faster,
                (_, true) if is_better < 0.0 => Outcome::Faster,
                (false, false) => Outcome::NoEvidence,
                _ => Outcome::Slower,
            };
        }
        report
    }

    const NONE: P99Max = P99Max(None);

    fn limit(ms: u64) -> P99Max {
        P99Max(Some(Duration::from_millis(ms)))
    }

    fn chosen(gains: &[f64], p99s: &[f64], p99_max: P99Max) -> Result<usize, Advice> {
        contender(&run(gains, p99s), &settings(), p99_max)
    }

    #[test]
    fn the_fastest_setting_is_measured_again() {
        assert_eq!(chosen(&[1.1, 1.4], &[5.0; 3], NONE), Ok(2));
    }

    #[test]
    fn of_settings_that_are_as_fast_the_one_that_changes_least_is_taken() {
        assert_eq!(chosen(&[1.38, 1.4], &[5.0; 3], NONE), Ok(1));
    }

    #[test]
    fn where_nothing_is_faster_the_answer_says_how_much_is_left_open() {
        let Err(Advice::Keep { within }) = chosen(&[0.9, 1.01], &[5.0; 3], NONE) else {
            panic!("nothing to measure again");
        };
        assert!((within.unwrap() - 0.0302).abs() < 1e-9, "{within:?}");
    }

    #[test]
    fn a_setting_with_a_longer_p99_is_not_recommended_for_its_throughput() {
        assert_eq!(chosen(&[1.4, 1.2], &[5.0, 9.0, 5.0], NONE), Ok(2));
        // Where a limit was named, that is what counts.
        assert_eq!(chosen(&[1.4, 1.2], &[5.0, 9.0, 5.0], limit(9)), Ok(1));
        assert_eq!(chosen(&[1.4, 1.2], &[5.0, 9.0, 5.0], limit(8)), Ok(2));
    }

    #[test]
    fn what_keeps_the_limit_is_worth_a_change_where_what_runs_now_does_not() {
        assert_eq!(chosen(&[0.8, 0.7], &[50.0, 9.0, 8.0], limit(20)), Ok(1));
        let found = run(&[0.8], &[50.0, 9.0]);
        assert!(matches!(
            confirmed(&found, limit(20)),
            Confirmation::Better(_)
        ));
        let both_keep = run(&[0.8], &[50.0, 49.9]);
        assert_eq!(confirmed(&both_keep, limit(50)), Confirmation::NotProven);
    }

    #[test]
    fn a_limit_that_nothing_keeps_is_told_with_the_nearest() {
        let found = chosen(&[1.4, 1.2], &[5.0, 9.0, 4.0], limit(3));
        let nearest = Advice::NothingKeeps {
            nearest: 2,
            p99_ms: 4.0,
        };
        assert_eq!(found, Err(nearest));
    }

    #[test]
    fn a_setting_that_changes_answers_or_fails_more_is_not_recommended() {
        let mut found = run(&[1.1, 1.4], &[5.0; 3]);
        found.answers[1].answers.differing = 1;
        assert_eq!(contender(&found, &settings(), NONE), Ok(1));
        let mut found = run(&[1.1, 1.4], &[5.0; 3]);
        let faster = found.levels[0].comparisons.iter_mut();
        faster
            .filter(|one| one.version == 2)
            .for_each(|one| one.outcome = Outcome::FailsMore);
        assert_eq!(contender(&found, &settings(), NONE), Ok(1));
    }

    #[test]
    fn only_an_interval_that_leaves_out_no_gain_confirms() {
        let Confirmation::Better(gain) = confirmed(&run(&[1.03], &[5.0; 2]), NONE) else {
            panic!("an interval above 1");
        };
        assert!((gain.point - 1.03).abs() < 1e-9);
        let open = Confirmation::NotProven;
        assert_eq!(confirmed(&run(&[1.015], &[5.0; 2]), NONE), open);
        assert_eq!(confirmed(&run(&[1.2], &[5.0, 9.0]), NONE), open);
        // A machine on which the baseline differs from itself names no winner.
        let mut withheld = run(&[1.2], &[5.0; 2]);
        withheld.levels[0].comparisons[0].outcome = Outcome::Withheld;
        assert_eq!(confirmed(&withheld, NONE), Confirmation::Unsteady);
    }

    #[test]
    fn a_run_that_says_nothing_gives_no_advice() {
        let mut found = run(&[1.1, 1.4], &[5.0; 3]);
        found.verdict.outcome = Outcome::Invalid;
        let unknown = |found: &bench::Report| {
            matches!(contender(found, &settings(), NONE), Err(Advice::Unknown(_)))
                && matches!(confirmed(found, NONE), Confirmation::Nothing(_))
        };
        assert!(unknown(&found));
        found.verdict.outcome = Outcome::Faster;
        found.interrupted = true;
        assert!(unknown(&found));
        found.interrupted = false;
        found.levels.clear();
        assert!(unknown(&found));
    }

    #[test]
    fn what_a_second_run_left_open_of_the_contender_counts_and_of_the_others_the_search() {
        let search = run(&[1.0, 1.4], &[5.0; 3]);
        let again = run(&[1.05], &[5.0; 2]);
        let open = |contender| left_open(&search, std::slice::from_ref(&again), contender).unwrap();
        assert!((open(Some(2)) - 0.071).abs() < 1e-9, "{}", open(Some(2)));
        assert!((open(None) - 0.428).abs() < 1e-9);
        let mut unknown = search.clone();
        unknown.levels[0].comparisons[0].ratio.estimate.high = None;
        assert_eq!(left_open(&unknown, &[], None), None);
    }
}

//! The check whether the latencies of an open loop are those of its rate. Pure.
//!
//! Not here: the test itself (`crate::evidence`), the other checks (`checks`).

use std::num::NonZeroU32;

use crate::bench::figures::Done;
use crate::bench::report::{Check, CheckState};
use crate::bench::seen::{Measured, OpenSeen};
use crate::evidence::{Course, Estimate, Part, Steadiness, steadiness};

/// The check of all that was measured in an open loop: each version under each load, the worst finding speaks.
pub(super) fn settled<'a>(groups: impl IntoIterator<Item = Vec<&'a Done>>) -> Check {
    let groups = groups.into_iter().filter_map(|group| finding(&group));
    let worst = groups.max_by_key(|(_, state, _)| *state as u8);
    let (state, words) = match worst {
        Some((_, CheckState::Ok, words)) => (CheckState::Ok, words),
        Some((rate, state, words)) => (state, format!("at {rate:.0} requests/s {words}")),
        None => {
            let words = "no request was due within a block: give more time with --budget";
            (CheckState::Warning, words.to_owned())
        }
    };
    Check {
        name: "settled",
        state,
        words,
    }
}

/// The rate that was offered, and what is found about it; none where nothing was.
fn finding(blocks: &[&Done]) -> Option<(f64, CheckState, String)> {
    let open = |done: &&&Done| done.measured.seen.open.filter(|open| offered(open) > 0.0);
    let known: Vec<_> = blocks
        .iter()
        .filter_map(|done| Some((&done.measured, open(&done)?)))
        .collect();
    let rate = blocks.iter().find_map(|done| done.measured.rate);
    let rate = f64::from(rate.map_or(0, NonZeroU32::get));
    let courses: Vec<_> = known
        .iter()
        .map(|(measured, open)| course(measured, open))
        .collect();
    let (state, words) = match steadiness(&courses) {
        _ if known.is_empty() => return None,
        Steadiness::Settled => (
            CheckState::Ok,
            "latencies do not grow within blocks, and the mean is known within 15 %".to_owned(),
        ),
        Steadiness::Overloaded { answered } => (
            CheckState::Invalid,
            format!(
                "the server is overloaded: it answered {:.0} requests/s of them, {:.1} %; the rest waits in a queue that grows for as \
                 long as the load lasts, so that it has no latency that could be told; a rate below {:.0} measures it",
                rate * answered.point,
                answered.point * 100.0,
                rate * answered.point
            ),
        ),
        Steadiness::Unsettled { halves, mean } => (
            CheckState::Warning,
            format!(
                "the latencies are not shown to be settled, and the mean may be off by more than 15 %: the second half of a block is {} \
                 as slow as the first, and the mean is {} ms; a lower rate or more time with --budget settles them",
                halves.map_or_else(|| "?".to_owned(), times),
                range(mean, 1e3)
            ),
        ),
    };
    Some((rate, state, words))
}

fn offered(open: &OpenSeen) -> f64 {
    (open.halves[0].1 + open.halves[1].1) as f64
}

fn course(measured: &Measured, open: &OpenSeen) -> Course {
    let half = |(amount, count): (f64, u64)| Part {
        amount,
        per: count as f64,
    };
    let offered = offered(open);
    // Of a request that takes longer than what is left out of a block, the first answers come late: that is no queue.
    let is_long = open
        .shortest
        .is_some_and(|shortest| shortest >= measured.elapsed / 3);
    Course {
        halves: open.halves.map(half),
        offered: offered + measured.unsent as f64,
        answered: if is_long {
            offered
        } else {
            open.replies as f64
        },
    }
}

fn times(ratio: Estimate) -> String {
    format!("{} times", range(ratio, 1.0))
}

fn range(Estimate { point, low, high }: Estimate, unit: f64) -> String {
    let scaled = |value: f64| format!("{:.3}", value * unit);
    match low.zip(high) {
        Some((low, high)) => format!("{} [{}, {}]", scaled(point), scaled(low), scaled(high)),
        None => format!("{} (of too few blocks for an interval)", scaled(point)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::checks::sweep_checks;
    use crate::bench::environment::Before;
    use crate::bench::report::{Level, Outcome, Phase, Scenario};
    use crate::bench::sample;
    use crate::bench::seen::Seen;

    /// A block of 200 requests a second over 3 s that count; latencies in milliseconds of the first half and of the second.
    fn block(first: f64, second: f64, replies: u64) -> Done {
        let half = |ms: f64| (300.0 * ms / 1e3, 300);
        let mut seen = Seen::default();
        seen.open = Some(OpenSeen {
            answers: replies,
            replies,
            halves: [half(first), half(second)],
            shortest: Some(Duration::from_millis(1)),
        });
        let measured = Measured {
            elapsed: Duration::from_secs(3),
            took: Duration::from_secs(4),
            rate: NonZeroU32::new(200),
            seen,
            unsent: 0,
            cpu: None,
            own_cpu: None,
            peak_rss_mb: None,
        };
        Done::new((Phase::Pair, 0), 0, Duration::ZERO, measured)
    }

    fn overloaded() -> [Done; 2] {
        [block(300.0, 900.0, 300), block(310.0, 900.0, 302)]
    }

    fn found(blocks: &[Done]) -> Check {
        settled([blocks.iter().collect()])
    }

    #[test]
    fn blocks_that_are_alike_are_settled() {
        let blocks = [block(5.0, 5.1, 600), block(5.1, 5.0, 600)];
        let blocks = [blocks.clone(), blocks].concat();
        assert_eq!(found(&blocks).state, CheckState::Ok);
    }

    #[test]
    fn overload_is_told_with_what_was_offered_and_what_was_answered() {
        let check = found(&[overloaded(), overloaded()].concat());
        assert_eq!(check.state, CheckState::Invalid);
        assert!(
            check.words.starts_with(
                "at 200 requests/s the server is overloaded: it answered 100 requests/s of them, 50.2 %; "
            ),
            "{}",
            check.words
        );
    }

    #[test]
    fn the_worst_of_the_versions_speaks() {
        let well = vec![block(5.0, 5.1, 600); 4];
        let over = [overloaded(), overloaded()].concat();
        let check = settled([well.iter().collect(), over.iter().collect()]);
        assert_eq!(check.state, CheckState::Invalid);
    }

    #[test]
    fn latencies_that_grow_are_unsettled_in_words() {
        let check = found(&vec![block(5.0, 7.5, 600); 4]);
        assert_eq!(check.state, CheckState::Warning);
        assert!(
            check.words.contains("1.500 [1.500, 1.500] times as slow"),
            "{}",
            check.words
        );
    }

    #[test]
    fn no_block_has_nothing_to_say() {
        let check = settled([Vec::new()]);
        assert_eq!(check.state, CheckState::Warning);
        assert!(check.words.starts_with("no request was due"));
    }

    #[test]
    fn answers_that_take_longer_than_what_is_left_out_are_no_overload() {
        let mut blocks = [overloaded(), overloaded()].concat();
        for done in &mut blocks {
            if let Some(open) = &mut done.measured.seen.open {
                open.shortest = Some(Duration::from_millis(1100));
            }
        }
        assert_eq!(found(&blocks).state, CheckState::Warning);
    }

    #[test]
    fn a_load_that_says_nothing_takes_no_other_with_it() {
        let environment = Before::read().finish(Duration::ZERO, None);
        let well = || vec![block(5.0, 5.0, 600); 4];
        let scenario = Scenario::Server;
        let checked = |levels: &mut [Level], done| {
            let found = sweep_checks((scenario, &["blue"]), levels, done, &environment);
            let invalid = found.iter().any(|one| one.state == CheckState::Invalid);
            let told = found.into_iter().find(|one| one.name == "loads");
            (invalid, told.map(|check| check.words))
        };
        let mut late = well();
        late[0].measured.unsent = 70;
        let answered = |mut blocks: Vec<Done>| {
            for done in &mut blocks {
                done.measured.seen.answers = 600;
                for _ in 0..600 {
                    done.measured
                        .seen
                        .latencies
                        .record_latency(Duration::from_millis(5), true);
                }
            }
            blocks
        };
        let mut levels = sample::sweep().levels[..2].to_vec();
        let (invalid, told) = checked(&mut levels, vec![answered(well()), answered(late.clone())]);
        assert!(!invalid);
        let told = told.expect("a warning");
        assert!(
            told.contains("8 connections: 70 requests that were due"),
            "{told}"
        );
        let outcome = |level: &Level| level.comparisons[0].outcome;
        assert_ne!(outcome(&levels[0]), Outcome::Invalid);
        assert_eq!(outcome(&levels[1]), Outcome::Invalid);
        // Where none says anything, the run does not.
        let mut levels = sample::sweep().levels[..2].to_vec();
        let (invalid, told) = checked(&mut levels, vec![answered(late.clone()), answered(late)]);
        assert!(invalid);
        assert_eq!(told, None);
    }
}

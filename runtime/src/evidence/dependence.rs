//! Whether a rate keeps a latency, of requests that stand in one queue and so depend on each other. Pure.
//!
//! One long wait makes many: near what a server can answer, the requests over a limit come in clumps, and a test that takes each for a
//! coin of its own finds proof in a single clump, or in the luck that there was none. So requests are first counted as what they are
//! worth. The variance of the mean of `n` values that depend on each other is that of `n / t` independent ones, where `t` is one and twice
//! the sum of their autocorrelations, from which the noise of far lags is kept away by adding pairs of lags until one is not above 0
//! (C. J. Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7, 1992; A. Sokal says the same of simulations in physics).
//! The requests over a high limit are no better: they come in clumps whose mean length, for a queue of exponential times, is the sum of
//! the autocorrelations of the queue itself (D. Aldous, "Probability Approximations via the Poisson Clumping Heuristic", 1989, chapter B), so
//! that the latencies tell how much not having seen one is worth. The larger of both times counts, and a try that is short in it says nothing.
//!
//! This is an estimate, no bound for every process: a server that stands still once an hour is not found out in a minute. `simulation`
//! and the simulated searches of `bench` hold it to queues of known theory.
//!
//! Not here: the test of independent requests (`latency_test`).

use crate::evidence::latency_test::LatencyTest;
use crate::evidence::slo::{ProbeOutcome, Slo};

/// The first requests that are left out, in all: a queue that began empty is not yet what it stays at.
const BEGINNING: usize = 10;
/// Fewest independent requests that a rate is kept by: with fewer the time that they depend on each other is itself not known.
const PASS_MIN: f64 = 50.0;
/// Fewest that it is not kept by.
const FAIL_MIN: f64 = 10.0;
/// Latencies beyond so many limits count as this: one of an hour must not hide the others.
const LIMITS_MAX: f64 = 4.0;
/// Most lags that are added up; where they do not suffice two values become one.
const LAGS_MAX: usize = 32;
/// Fewest values that have autocorrelations.
const VALUES_MIN: usize = 16;

/// The proof in the latencies of all requests of a try, in milliseconds and in the order in which they were due; of one that failed it is
/// infinite.
#[must_use]
pub fn kept(slo: Slo, latencies_ms: &[f64]) -> Option<ProbeOutcome> {
    let counted = &latencies_ms[latencies_ms.len() / BEGINNING..];
    let over: Vec<f64> = counted
        .iter()
        .map(|latency| f64::from(u8::from(*latency > slo.limit_ms)))
        .collect();
    let test = LatencyTest::new(slo);
    let count = over.len() as f64;
    let share = over.iter().sum::<f64>() / count.max(1.0);
    // Capital is a sum of powers of what they are worth, so that fewer are no proof where all together are none.
    test.judge(count * (1.0 - share), count * share)?;
    let capped = counted
        .iter()
        .map(|latency| latency.min(LIMITS_MAX * slo.limit_ms));
    let worth = independent(capped.collect()).min(independent(over));
    let found = test.judge(worth * (1.0 - share), worth * share)?;
    let enough = match found {
        ProbeOutcome::Passed => worth >= PASS_MIN,
        ProbeOutcome::Failed => worth >= FAIL_MIN,
        ProbeOutcome::Undecided => false,
    };
    enough.then_some(found)
}

/// The number of independent values that these are worth, for their mean.
fn independent(mut values: Vec<f64>) -> f64 {
    while values.len() >= VALUES_MIN {
        if let Some(time) = correlation_time(&values) {
            return values.len() as f64 / time;
        }
        values = values
            .chunks_exact(2)
            .map(|two| f64::midpoint(two[0], two[1]))
            .collect();
    }
    // They depend on each other for as long as there are any.
    1.0
}

/// One and twice the sum of the autocorrelations; none when they reach farther than is added up. At least one: what is more regular than
/// chance is worth no more.
fn correlation_time(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let at = |lag: usize| -> f64 {
        let both = centred.iter().zip(&centred[lag..]);
        both.map(|(one, other)| one * other).sum()
    };
    let variance = at(0);
    // Where all are alike, rounding is all that is left.
    if variance <= 1e-18 * count * mean * mean {
        return Some(1.0);
    }
    let mut sum = 0.0;
    for lag in (1..LAGS_MAX.min(values.len() / 4)).step_by(2) {
        let pair = at(lag) + at(lag + 1);
        if pair <= 0.0 {
            return Some(1.0 + 2.0 * sum / variance);
        }
        sum += pair;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::SplitMix64;
    use crate::evidence::stats::gaussian;

    const SLO: Slo = Slo {
        quantile: 0.99,
        limit_ms: 10.0,
    };

    /// Values of which each keeps this part of the one before.
    fn values(count: usize, kept: f64) -> Vec<f64> {
        let mut random = SplitMix64::new(3);
        let mut value = 0.0;
        let next = |_| {
            value = kept * value + (1.0 - kept * kept).sqrt() * gaussian(&mut random);
            value
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn values_that_remember_are_worth_as_many_as_theory_says() {
        for remembered in [0.0, 0.5, 0.9, 0.99, 0.999] {
            // Of a process whose autocorrelation at lag k is the k-th power: (1 + r) / (1 - r).
            let time = (1.0 + remembered) / (1.0 - remembered);
            let count = 100_000;
            let found = count as f64 / independent(values(count, remembered));
            // What far lags add is noise, and never less than nothing.
            assert!(
                (0.6..2.0).contains(&(found / time)),
                "{remembered}: {found} {time}"
            );
        }
    }

    #[test]
    fn requests_that_are_all_fast_pass_and_those_that_are_all_slow_fail() {
        assert_eq!(kept(SLO, &[1.0; 600]), Some(ProbeOutcome::Passed));
        assert_eq!(kept(SLO, &[11.0; 600]), Some(ProbeOutcome::Failed));
        assert_eq!(kept(SLO, &[f64::INFINITY; 600]), Some(ProbeOutcome::Failed));
        assert_eq!(kept(SLO, &[1.0; 100]), None);
        assert_eq!(kept(SLO, &[]), None);
    }

    #[test]
    fn one_stall_proves_nothing_however_many_requests_stood_in_it() {
        let mut latencies = vec![1.0; 2000];
        latencies[1000..1200].fill(50.0);
        assert_eq!(kept(SLO, &latencies), None);
        // The same number of them, each by itself, is proof.
        let mut latencies = vec![1.0; 2000];
        for late in latencies.iter_mut().step_by(10) {
            *late = 50.0;
        }
        assert_eq!(kept(SLO, &latencies), Some(ProbeOutcome::Failed));
    }

    #[test]
    fn a_queue_that_only_grows_proves_nothing_by_its_latencies() {
        let latencies: Vec<f64> = (0..2000_u32).map(|at| f64::from(at) / 100.0).collect();
        assert_eq!(kept(SLO, &latencies), None);
    }

    #[test]
    fn a_latency_without_an_end_is_one_that_is_over() {
        let mut latencies = vec![1.0; 4000];
        latencies[2000] = f64::INFINITY;
        assert_eq!(kept(SLO, &latencies), Some(ProbeOutcome::Passed));
    }
}

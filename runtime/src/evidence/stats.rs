//! Intervals and tests. Pure.
//!
//! A version's value is a quotient of sums over all its blocks (answers by time, time by answers), and versions are compared by the
//! quotient of these values: a mean of the blocks' own quotients is off by as much as their denominators vary, and so names the version
//! whose times vary less, or more, for a winner. The error is of a jackknife that leaves out whole pairs, on the logarithm: what drifts
//! meets both halves of a pair, and a ratio is as far from 1 whichever version is called the baseline.
//!
//! Not here: quantiles (`quantiles`).

use serde::Serialize;
use statrs::distribution::{Beta, Continuous, ContinuousCDF, Normal, StudentsT};

use crate::evidence::random::SplitMix64;

/// The share of runs in which a difference of the size [`Ratio::detectable`] is found.
const POWER: f64 = 0.8;

/// Fewest pairs of which a bootstrap says something: with fewer, a percentile interval excludes the truth too often.
pub(super) const BOOTSTRAP_PAIRS_MIN: usize = 30;

/// Resamples of a bootstrap: its spread is known to some 2 %.
const RESAMPLES: usize = 1000;

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub point: f64,
    /// Lower end of the interval; absent where there is too little to say.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A share of a value that is a quotient of sums: answers and the time that they took, or the other way round. Of one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// The numerator.
    pub amount: f64,
    /// The denominator.
    pub per: f64,
}

/// A ratio of two versions, from pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// The other version's value over all its blocks by the baseline's, with an interval by the t distribution.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Pairs.
    pub pairs: usize,
    /// Of the interval: 0.95, or more where the run was looked at several times.
    pub confidence: f64,
    /// Smallest relative difference that such a run finds four times in five: 0.014 is 1.4 %. Absent with fewer than 3 pairs.
    pub detectable: Option<f64>,
    /// Interval of a percentile bootstrap of the pairs, from 30 pairs on.
    pub bootstrap: Option<(f64, f64)>,
}

/// The logarithm of a value with its standard error, of so many parts that were measured one after another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogEstimate {
    /// The logarithm.
    pub centre: f64,
    /// Its standard error; infinite where there is none.
    pub error: f64,
    /// The parts.
    pub parts: usize,
}

/// A quotient of two values that were not measured in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quotient {
    /// The other value by the baseline's.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Of the interval.
    pub confidence: f64,
    /// Smallest relative difference that is found four times in five.
    pub detectable: Option<f64>,
}

impl Part {
    fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        let zero = Self {
            amount: 0.0,
            per: 0.0,
        };
        parts.into_iter().fold(zero, |sum, part| Self {
            amount: sum.amount + part.amount,
            per: sum.per + part.per,
        })
    }

    fn without(self, part: Self) -> Self {
        Self {
            amount: self.amount - part.amount,
            per: self.per - part.per,
        }
    }

    fn log(self) -> f64 {
        (self.amount / self.per).ln()
    }

    fn is_usable(&self) -> bool {
        self.amount.is_finite() && self.amount >= 0.0 && self.per.is_finite() && self.per > 0.0
    }
}

/// Compares pairs of blocks (baseline, other) of one metric, at `confidence` such as 0.95; `seed` is of the bootstrap.
///
/// A pair with a part whose denominator is not above 0, or that is not finite, is left out, and not counted in [`Ratio::pairs`]. None
/// with fewer than two pairs left, or when a version has nothing in all of them. At a confidence of 1 there is no interval.
#[must_use]
pub fn pooled_ratio(pairs: &[[Part; 2]], confidence: f64, seed: u64) -> Option<Ratio> {
    let found = pooled_ratio_log(pairs)?;
    let pairs: Vec<_> = usable(pairs).collect();
    let log_of = |drawn: &[usize]| {
        let of = |version: usize| Part::sum(drawn.iter().map(|pair| pairs[*pair][version]));
        of(1).log() - of(0).log()
    };
    let bootstrap = (pairs.len() >= BOOTSTRAP_PAIRS_MIN)
        .then(|| ends(resampled(pairs.len(), seed, log_of), confidence));
    Some(Ratio::new(
        (found.centre, found.error),
        pairs.len(),
        confidence,
        bootstrap,
    ))
}

fn usable(pairs: &[[Part; 2]]) -> impl Iterator<Item = &[Part; 2]> {
    let is_usable = |pair: &&[Part; 2]| pair.iter().all(Part::is_usable);
    pairs.iter().filter(is_usable)
}

/// The logarithm of the ratio of [`pooled_ratio`], under the same conditions.
#[must_use]
pub fn pooled_ratio_log(pairs: &[[Part; 2]]) -> Option<LogEstimate> {
    let pairs: Vec<_> = usable(pairs).collect();
    let of = |version: usize| Part::sum(pairs.iter().map(|pair| pair[version]));
    let (base, other) = (of(0), of(1));
    let centre = other.log() - base.log();
    if pairs.len() < 2 || !centre.is_finite() {
        return None;
    }
    let without: Vec<f64> = pairs
        .iter()
        .map(|pair| other.without(pair[1]).log() - base.without(pair[0]).log())
        .collect();
    Some(LogEstimate {
        centre,
        error: jackknife(&without),
        parts: pairs.len(),
    })
}

/// The logarithm of the value of one version over all its parts; none with fewer than two that can be used, or where nothing is in them.
#[must_use]
pub fn pooled_log(parts: &[Part]) -> Option<LogEstimate> {
    let parts: Vec<_> = parts.iter().filter(|part| part.is_usable()).collect();
    let all = Part::sum(parts.iter().copied().copied());
    let centre = all.log();
    if parts.len() < 2 || !centre.is_finite() {
        return None;
    }
    let without: Vec<f64> = parts.iter().map(|part| all.without(**part).log()).collect();
    Some(LogEstimate {
        centre,
        error: jackknife(&without),
        parts: parts.len(),
    })
}

/// The quotient of two values of which neither says anything of the other: their variances add, with the degrees of freedom of Welch and
/// Satterthwaite.
#[must_use]
pub fn quotient(base: LogEstimate, other: LogEstimate, confidence: f64) -> Quotient {
    let variances = [base, other].map(|one| one.error.powi(2));
    let error = variances.iter().sum::<f64>().sqrt();
    let below: f64 = [base, other]
        .iter()
        .zip(variances)
        .map(|(one, variance)| variance.powi(2) / (one.parts as f64 - 1.0))
        .sum();
    // Two that never vary have all the freedom there is.
    let freedom = match error.powi(4) / below {
        freedom if freedom.is_finite() => freedom.max(1.0),
        _ if error.is_finite() => (base.parts + other.parts) as f64 - 2.0,
        _ => 1.0,
    };
    let sure = t_of_freedom((1.0 + confidence) / 2.0, freedom);
    let detectable = ((t_of_freedom(POWER, freedom) + sure) * error).exp_m1();
    Quotient {
        estimate: interval(other.centre - base.centre, sure * error, f64::exp),
        confidence,
        detectable: Some(detectable).filter(|size| size.is_finite()),
    }
}

/// The quotient of the sums of all parts, with the interval of a jackknife. Parts whose denominator is not above 0 are left out; of
/// nothing the point is 0, and with fewer than two parts, or where one has all there is, there are no bounds.
#[must_use]
pub fn pooled(parts: &[Part], confidence: f64) -> Estimate {
    let parts: Vec<_> = parts.iter().filter(|part| part.is_usable()).collect();
    let all = Part::sum(parts.iter().copied().copied());
    if parts.len() < 2 || all.amount <= 0.0 {
        let point = if all.per > 0.0 {
            all.amount / all.per
        } else {
            0.0
        };
        return Estimate {
            point,
            low: None,
            high: None,
        };
    }
    let without: Vec<f64> = parts.iter().map(|part| all.without(**part).log()).collect();
    let sure = t_quantile((1.0 + confidence) / 2.0, parts.len());
    interval(all.log(), sure * jackknife(&without), f64::exp)
}

impl Ratio {
    /// A ratio by its logarithm with the standard error of so many pairs.
    pub(super) fn new(
        (centre, error): (f64, f64),
        pairs: usize,
        confidence: f64,
        bootstrap: Option<(f64, f64)>,
    ) -> Self {
        let sure = t_quantile((1.0 + confidence) / 2.0, pairs);
        let detectable = (t_quantile(POWER, pairs) + sure) * error;
        Self {
            estimate: interval(centre, sure * error, f64::exp),
            pairs,
            confidence,
            detectable: Some(detectable.exp_m1()).filter(|size| pairs > 2 && size.is_finite()),
            bootstrap,
        }
    }
}

/// The share of `hits` in `of`, 0 to 1, with the interval of Clopper and Pearson, which holds the truth at least as often as
/// `confidence` says, for any count. Of nothing the share is 0, without bounds.
#[must_use]
pub fn proportion(hits: u64, of: u64, confidence: f64) -> Estimate {
    if of == 0 {
        return Estimate {
            point: 0.0,
            low: None,
            high: None,
        };
    }
    let hits = hits.min(of);
    let tail = (1.0 - confidence) / 2.0;
    Estimate {
        point: hits as f64 / of as f64,
        low: Some(least_share(hits, of, tail)),
        high: Some(1.0 - least_share(of - hits, of, tail)),
    }
}

/// The share of which so many hits or more come with the probability `tail`.
fn least_share(hits: u64, of: u64, tail: f64) -> f64 {
    match Beta::new(hits as f64, (of - hits) as f64 + 1.0) {
        Ok(beta) if tail > 0.0 => {
            let start = beta.inverse_cdf(tail.min(0.5));
            polished(start, tail, |share| (beta.cdf(share), beta.pdf(share)))
        }
        // No hits, or no doubt allowed.
        _ => 0.0,
    }
}

/// Spends the chance of an error over several looks at one run, so that one may stop at any of them.
///
/// What may be spent until a share of the planned pairs is measured is the function of Lan and DeMets that resembles O'Brien and
/// Fleming: next to nothing early, most of it at the end. Each look has what was added since the last one, and so all intervals
/// together hold the truth with the confidence that was asked for, however it is decided when to stop.
#[derive(Debug, Clone)]
pub struct Looks {
    alpha: f64,
    spent: f64,
}

impl Looks {
    /// Looks that together have this confidence, such as 0.95.
    #[must_use]
    pub fn new(confidence: f64) -> Self {
        Self {
            alpha: 1.0 - confidence,
            spent: 0.0,
        }
    }

    /// The confidence to use at a look: `fraction` is the share of the planned pairs that is measured, 0 to 1. The look at 1 has
    /// all that is left; one at no more than the last look's share has nothing, a confidence of 1.
    pub fn look(&mut self, fraction: f64) -> f64 {
        let due = self.due(fraction).max(self.spent);
        let added = due - self.spent;
        self.spent = due;
        1.0 - added
    }

    /// The chance of an error that may be spent up to a share of the pairs.
    fn due(&self, fraction: f64) -> f64 {
        if fraction >= 1.0 {
            return self.alpha;
        }
        let normal = Normal::standard();
        let bar = normal.inverse_cdf(1.0 - self.alpha / 2.0) / fraction.max(0.0).sqrt();
        2.0 * normal.sf(bar)
    }
}

/// The standard error, from the values that are found without each of the parts; of at least two.
fn jackknife(without: &[f64]) -> f64 {
    let count = without.len() as f64;
    let centre = without.iter().sum::<f64>() / count;
    let squares: f64 = without.iter().map(|value| (value - centre).powi(2)).sum();
    ((count - 1.0) / count * squares).sqrt()
}

fn interval(centre: f64, half: f64, scale: impl Fn(f64) -> f64) -> Estimate {
    let end = |value: f64| Some(scale(value)).filter(|_| half.is_finite());
    Estimate {
        point: scale(centre),
        low: end(centre - half),
        high: end(centre + half),
    }
}

/// The value that the t statistic of so many values stays below with this probability, which is above a half; infinite where it
/// is 1.
fn t_quantile(below: f64, values: usize) -> f64 {
    t_of_freedom(below, values as f64 - 1.0)
}

/// The same by the degrees of freedom.
fn t_of_freedom(below: f64, freedom: f64) -> f64 {
    let above = 1.0 - below;
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(student) if above > 0.0 => {
            let start = student.inverse_cdf(below);
            polished(start, above, |t| (student.sf(t), -student.pdf(t)))
        }
        _ => f64::INFINITY,
    }
}

/// Brings a value nearer to where a probability is what is wanted, by Newton's method on logarithms; `at` gives the probability and
/// its slope. The quantiles of `statrs` alone are off by some 1e-9, too much for the tails of the first looks at a run.
fn polished(start: f64, wanted: f64, at: impl Fn(f64) -> (f64, f64)) -> f64 {
    let nearer = |value: f64| {
        let (chance, slope) = at(value);
        value * ((wanted / chance).ln() * chance / (slope * value)).exp()
    };
    let end = nearer(nearer(nearer(start)));
    if end.is_finite() { end } else { start }
}

/// The values of [`RESAMPLES`] samples of so many pairs with replacement, by the indices that were drawn.
pub(super) fn resampled(pairs: usize, seed: u64, value: impl Fn(&[usize]) -> f64) -> Vec<f64> {
    let mut random = SplitMix64::new(seed);
    let mut drawn = vec![0; pairs];
    let one = |_| {
        drawn.fill_with(|| random.below(pairs));
        value(&drawn)
    };
    (0..RESAMPLES).map(one).collect()
}

/// The ratio at the percentiles of resampled logarithms.
pub(super) fn ends(mut logs: Vec<f64>, confidence: f64) -> (f64, f64) {
    logs.sort_unstable_by(f64::total_cmp);
    // 2.5 % of 1000 are 25, of which the last is the end.
    let beyond = (1..=RESAMPLES / 2)
        .take_while(|rank| *rank as f64 <= RESAMPLES as f64 * (1.0 - confidence) / 2.0)
        .last()
        .unwrap_or(1);
    (logs[beyond - 1].exp(), logs[RESAMPLES - beyond].exp())
}

/// A normal variable, for simulations.
#[cfg(test)]
pub(crate) fn gaussian(random: &mut SplitMix64) -> f64 {
    (-2.0 * random.unit().ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::order::orders;

    fn close(found: f64, expected: f64, within: f64) -> bool {
        (found - expected).abs() <= within
    }

    /// The comparison of values that are quotients by 1.
    fn paired_ratio(pairs: &[(f64, f64)], confidence: f64, seed: u64) -> Option<Ratio> {
        let part = |amount| Part { amount, per: 1.0 };
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(base, other)| [part(*base), part(*other)])
            .collect();
        pooled_ratio(&pairs, confidence, seed)
    }

    /// Whether the interval excludes 1.
    fn is_winner(ratio: &Ratio) -> bool {
        let Estimate { low, high, .. } = ratio.estimate;
        low.is_some_and(|low| low > 1.0) || high.is_some_and(|high| high < 1.0)
    }

    /// Pairs as a machine that is shared gives them: throughput drifts over the run, wanders (AR(1) 0.7, sd 2 %), and is
    /// noisy (1 %). The other version is faster by `gain`.
    fn noisy_pairs(
        count: usize,
        drift: f64,
        gain: f64,
        random: &mut SplitMix64,
    ) -> Vec<(f64, f64)> {
        const MEMORY: f64 = 0.7;
        let mut wander = 0.02 * gaussian(random);
        let blocks = 2.0 * count as f64;
        let mut at = 0.0;
        let mut pairs = Vec::new();
        for order in orders(2, random.next_u64()).take(count) {
            let mut pair = [0.0; 2];
            for version in order {
                let effect = if version == 1 { 1.0 + gain } else { 1.0 };
                let noise = wander + 0.01 * gaussian(random);
                pair[version] = 1000.0 * effect * (1.0 + drift * at / blocks) * (1.0 + noise);
                wander = MEMORY * wander + (1.0 - MEMORY * MEMORY).sqrt() * 0.02 * gaussian(random);
                at += 1.0;
            }
            pairs.push((pair[0], pair[1]));
        }
        pairs
    }

    #[test]
    fn t_quantiles_are_those_of_the_tables() {
        for (below, values, expected) in [
            (0.975, 2, 12.706_205),
            (0.975, 10, 2.262_157),
            (0.975, 31, 2.042_272),
            (0.8, 10, 0.883_404),
            (0.995, 5, 4.604_095),
            // The first looks at a run ask for such ends.
            (1.0 - 1e-9, 6, 98.937),
        ] {
            let found = t_quantile(below, values);
            let within = if below > 0.999 { 1e-2 } else { 1e-5 };
            assert!(close(found, expected, within), "{below} {values}: {found}");
        }
        assert_eq!(
            t_quantile(1.0, 10).total_cmp(&f64::INFINITY),
            std::cmp::Ordering::Equal
        );
    }

    #[test]
    fn a_ratio_is_the_quotient_of_sums_with_the_interval_of_a_jackknife() {
        let pairs = [(100.0, 110.0), (200.0, 236.0), (50.0, 54.0), (80.0, 92.0)];
        let ratio = paired_ratio(&pairs, 0.95, 1).unwrap();
        // 492 by 430; the logarithms without each pair have the jackknife error .026388, t(3) is 3.182446.
        assert!(close(ratio.estimate.point, 1.144_186, 1e-6), "{ratio:?}");
        assert!(
            close(ratio.estimate.low.unwrap(), 1.052_023, 1e-5),
            "{ratio:?}"
        );
        assert!(
            close(ratio.estimate.high.unwrap(), 1.244_423, 1e-5),
            "{ratio:?}"
        );
        // (3.182446 + .978472) x .026388.
        assert!(
            close(ratio.detectable.unwrap(), 0.116_053, 1e-5),
            "{ratio:?}"
        );
        assert_eq!((ratio.pairs, ratio.bootstrap), (4, None));
    }

    #[test]
    fn a_quotient_of_values_that_are_no_pairs_is_welch_s() {
        let of = |centre, error, parts| LogEstimate {
            centre,
            error,
            parts,
        };
        let found = quotient(of(1.0, 0.03, 10), of(1.1, 0.04, 5), 0.95);
        // .05^4 by .03^4 / 9 + .04^4 / 4 are 8.563 degrees, of which t is 2.2801.
        let half = 2.2801 * 0.05;
        assert!(close(found.estimate.point.ln(), 0.1, 1e-9), "{found:?}");
        let low = found.estimate.low.unwrap().ln();
        assert!(close(low, 0.1 - half, 2e-4), "{found:?}");
        let swapped = quotient(of(1.1, 0.04, 5), of(1.0, 0.03, 10), 0.95);
        assert!(close(
            swapped.estimate.high.unwrap() * found.estimate.low.unwrap(),
            1.0,
            1e-9
        ));
        // One without an error that is known.
        let unknown = quotient(of(1.0, f64::INFINITY, 5), of(1.0, 0.03, 10), 0.95);
        assert_eq!((unknown.estimate.low, unknown.detectable), (None, None));
        // Two that never vary.
        let still = quotient(of(0.0, 0.0, 5), of(0.5, 0.0, 5), 0.95);
        assert!(close(still.estimate.low.unwrap(), 0.5_f64.exp(), 1e-9));
    }

    #[test]
    fn runs_of_the_same_version_differ_by_their_quotient_in_one_of_twenty() {
        let mut random = SplitMix64::new(21);
        let mut run = |parts: usize| {
            let part = |_| Part {
                amount: 1000.0 * (1.0 + 0.05 * gaussian(&mut random)),
                per: 1.0,
            };
            pooled_log(&(0..parts).map(part).collect::<Vec<_>>()).unwrap()
        };
        let differ = (0..500).filter(|_| {
            let found = quotient(run(10), run(6), 0.95).estimate;
            found.low.unwrap() > 1.0 || found.high.unwrap() < 1.0
        });
        // Three standard deviations of 4.9 beside 25.
        let differ = differ.count();
        assert!((10..=40).contains(&differ), "{differ}");
    }

    #[test]
    fn a_pair_without_a_denominator_is_left_out() {
        let part = |amount, per| Part { amount, per };
        let one = [part(1.0, 1.0), part(1.1, 1.0)];
        let bad = [
            part(1.0, 0.0),
            part(1.0, -1.0),
            part(1.0, f64::NAN),
            part(f64::INFINITY, 1.0),
        ];
        let mut pairs: Vec<_> = bad.map(|bad| [part(1.0, 1.0), bad]).into();
        assert_eq!(pooled_ratio(&pairs, 0.95, 1), None);
        pairs.push(one);
        assert_eq!(pooled_ratio(&pairs, 0.95, 1), None);
        pairs.push(one);
        assert_eq!(pooled_ratio(&pairs, 0.95, 1).unwrap().pairs, 2);
    }

    #[test]
    fn a_block_without_an_answer_counts_with_its_time() {
        let part = |amount, per| Part { amount, per };
        let pairs = [
            [part(10.0, 1.0), part(0.0, 1.0)],
            [part(10.0, 1.0), part(10.0, 1.0)],
            [part(10.0, 1.0), part(10.0, 1.0)],
        ];
        let ratio = pooled_ratio(&pairs, 0.95, 1).unwrap();
        assert!(close(ratio.estimate.point, 2.0 / 3.0, 1e-12), "{ratio:?}");
        // A version that answered in no block has no ratio.
        let nothing = pairs.map(|[base, _]| [base, part(0.0, 1.0)]);
        assert_eq!(pooled_ratio(&nothing, 0.95, 1), None);
        // Where one block has all there is, the spread is not known.
        let once = [pairs[0], pairs[0], pairs[1]];
        let ratio = pooled_ratio(&once, 0.95, 1).unwrap();
        assert_eq!((ratio.estimate.low, ratio.detectable), (None, None));
    }

    #[test]
    fn the_compared_ratio_is_the_quotient_of_the_pooled_values() {
        let mut random = SplitMix64::new(12);
        let mut part = || Part {
            amount: 100.0 * random.unit(),
            per: 1.0 + random.unit(),
        };
        let pairs: Vec<_> = (0..9).map(|_| [part(), part()]).collect();
        let of = |version: usize| {
            let parts: Vec<_> = pairs.iter().map(|pair| pair[version]).collect();
            pooled(&parts, 0.95).point
        };
        let ratio = pooled_ratio(&pairs, 0.95, 1).unwrap();
        assert!(close(ratio.estimate.point, of(1) / of(0), 1e-12));
    }

    #[test]
    fn two_pairs_have_an_interval_and_nothing_that_they_could_detect() {
        let ratio = paired_ratio(&[(1.0, 1.0), (1.0, 1.1)], 0.95, 1).unwrap();
        assert!(ratio.estimate.low.is_some() && ratio.detectable.is_none());
    }

    #[test]
    fn certainty_has_no_interval() {
        let ratio = paired_ratio(&[(1.0, 1.0), (1.0, 1.1), (1.0, 1.2)], 1.0, 1).unwrap();
        assert_eq!((ratio.estimate.low, ratio.estimate.high), (None, None));
        assert_eq!(ratio.detectable, None);
    }

    #[test]
    fn swapping_the_versions_inverts_the_ratio() {
        let pairs = noisy_pairs(12, 0.0, 0.1, &mut SplitMix64::new(3));
        let swapped: Vec<_> = pairs.iter().map(|(base, other)| (*other, *base)).collect();
        let (one, two) = (
            paired_ratio(&pairs, 0.95, 1).unwrap(),
            paired_ratio(&swapped, 0.95, 1).unwrap(),
        );
        assert!(close(one.estimate.point * two.estimate.point, 1.0, 1e-12));
        assert!(close(
            one.estimate.low.unwrap() * two.estimate.high.unwrap(),
            1.0,
            1e-12
        ));
    }

    #[test]
    fn a_bootstrap_comes_with_thirty_pairs_and_its_seed_repeats_it() {
        let pairs = noisy_pairs(30, 0.0, 0.05, &mut SplitMix64::new(4));
        assert_eq!(paired_ratio(&pairs[..29], 0.95, 1).unwrap().bootstrap, None);
        let ratio = paired_ratio(&pairs, 0.95, 1).unwrap();
        assert_eq!(ratio, paired_ratio(&pairs, 0.95, 1).unwrap());
        let (low, high) = ratio.bootstrap.unwrap();
        assert!(close(low, ratio.estimate.low.unwrap(), 0.004), "{ratio:?}");
        assert!(
            close(high, ratio.estimate.high.unwrap(), 0.004),
            "{ratio:?}"
        );
    }

    #[test]
    fn two_equal_versions_have_a_winner_in_one_run_of_twenty() {
        let mut random = SplitMix64::new(5);
        for drift in [0.0, 0.05, 0.10] {
            let runs = 2000;
            let winners = (0..runs).filter(|_| {
                let pairs = noisy_pairs(10, drift, 0.0, &mut random);
                is_winner(&paired_ratio(&pairs, 0.95, 1).unwrap())
            });
            // 5 %, and three standard deviations of 9.7 runs.
            let winners = winners.count();
            assert!(
                winners <= 129,
                "{winners} of {runs} with a drift of {drift}"
            );
            assert!(
                winners >= 60,
                "{winners} of {runs}: the interval is too wide"
            );
        }
    }

    #[test]
    fn a_difference_of_five_per_cent_is_found() {
        let mut random = SplitMix64::new(6);
        for (count, gain) in [(10, 0.05), (20, 0.05), (10, -0.05), (20, -0.05)] {
            let found = (0..300).filter(|_| {
                let pairs = noisy_pairs(count, 0.05, gain, &mut random);
                let estimate = paired_ratio(&pairs, 0.95, 1).unwrap().estimate;
                if gain > 0.0 {
                    estimate.low.unwrap() > 1.0
                } else {
                    estimate.high.unwrap() < 1.0
                }
            });
            let found = found.count();
            assert!(found >= 270, "{found} of 300 with {count} pairs");
        }
    }

    #[test]
    fn what_is_said_to_be_detectable_is_found_four_times_in_five() {
        let mut random = SplitMix64::new(7);
        let sd = 0.02_f64;
        let pairs = |gain: f64, random: &mut SplitMix64| -> Vec<(f64, f64)> {
            (0..10)
                .map(|_| (1.0, (gain + sd * gaussian(random)).exp()))
                .collect()
        };
        // With the true sd: (2.262157 + .883404) x .02 / sqrt(10) = .019894.
        let runs = 1000;
        let found = (0..runs)
            .filter(|_| is_winner(&paired_ratio(&pairs(0.019_894, &mut random), 0.95, 1).unwrap()));
        let found = found.count();
        assert!((760..=840).contains(&found), "{found} of {runs}");
    }

    #[test]
    fn a_pooled_value_has_the_interval_of_a_jackknife() {
        let parts = [10.0, 12.0, 11.0, 13.0].map(|amount| Part { amount, per: 1.0 });
        let estimate = pooled(&parts, 0.95);
        assert!(close(estimate.point, 11.5, 1e-12));
        assert!(close(estimate.low.unwrap(), 9.617_631, 1e-5));
        assert!(close(estimate.high.unwrap(), 13.750_787, 1e-5));
    }

    #[test]
    fn a_pooled_value_of_one_part_or_of_nothing_has_no_bounds() {
        let bare = |point| Estimate {
            point,
            low: None,
            high: None,
        };
        let part = |amount, per| Part { amount, per };
        assert_eq!(pooled(&[], 0.95), bare(0.0));
        assert_eq!(
            pooled(&[part(7.0, 2.0), part(1.0, f64::NAN)], 0.95),
            bare(3.5)
        );
        assert_eq!(pooled(&[part(0.0, 2.0), part(0.0, 1.0)], 0.95), bare(0.0));
    }

    #[test]
    fn a_share_has_the_interval_of_clopper_and_pearson() {
        for (hits, of, low, high) in [
            (0, 10, 0.0, 0.308_497),
            (10, 10, 0.691_503, 1.0),
            (3, 10, 0.066_739, 0.652_453),
            (4096, 4096, 0.999_100, 1.0),
            (999_000, 1_000_000, 0.998_936, 0.999_061),
        ] {
            let found = proportion(hits, of, 0.95);
            assert!(
                close(found.low.unwrap(), low, 2e-6),
                "{hits} of {of}: {found:?}"
            );
            assert!(
                close(found.high.unwrap(), high, 2e-6),
                "{hits} of {of}: {found:?}"
            );
        }
        assert_eq!(
            proportion(0, 0, 0.95),
            Estimate {
                point: 0.0,
                low: None,
                high: None
            }
        );
    }

    #[test]
    fn the_spending_function_is_that_of_the_published_table() {
        let looks = Looks::new(0.95);
        for (fraction, expected) in [(0.25, 0.000_09), (0.5, 0.0056), (0.75, 0.0236), (1.0, 0.05)] {
            assert!(
                close(looks.due(fraction), expected, 6e-5),
                "{fraction}: {}",
                looks.due(fraction)
            );
        }
        assert!(looks.due(0.0) < 1e-300);
    }

    #[test]
    fn all_looks_together_spend_what_one_would() {
        let mut looks = Looks::new(0.95);
        let spent: f64 = (1..=40)
            .map(|pairs| 1.0 - looks.look(f64::from(pairs) / 40.0))
            .sum();
        assert!(close(spent, 0.05, 1e-9), "{spent}");
        assert!(close(looks.look(1.0), 1.0, 0.0), "nothing is left");
    }

    #[test]
    fn stopping_at_the_first_look_that_pleases_still_errs_in_one_run_of_twenty() {
        let mut random = SplitMix64::new(8);
        // So few that no bootstrap is made, which decides nothing here.
        let (runs, cap) = (1000, 25);
        let wrong = (0..runs).filter(|_| {
            let pairs = noisy_pairs(cap, 0.05, 0.0, &mut random);
            let mut looks = Looks::new(0.95);
            for count in (5..=cap).step_by(5) {
                let confidence = looks.look(count as f64 / cap as f64);
                let ratio = paired_ratio(&pairs[..count], confidence, 1).unwrap();
                let Estimate { low, high, .. } = ratio.estimate;
                let narrow = low.zip(high).is_some_and(|(low, high)| high - low < 0.02);
                if is_winner(&ratio) {
                    return true;
                }
                if narrow {
                    return false;
                }
            }
            false
        });
        // 5 %, and three standard deviations of 6.9 runs.
        let wrong = wrong.count();
        assert!(wrong <= 70, "{wrong} of {runs}");
    }

    proptest! {
        #[test]
        fn an_interval_of_a_share_holds_the_share_and_has_its_tails(
            of in 1_u64..5_000_000,
            case in 0..3,
            part in 0_u64..=40,
            confidence in 0.5..0.9999_f64,
        ) {
            // Few hits, few misses, and all between.
            let hits = match case {
                0 => part.min(of),
                1 => of - part.min(of),
                _ => of / 41 * part,
            };
            let Estimate { point, low, high } = proportion(hits, of, confidence);
            let (low, high) = (low.unwrap(), high.unwrap());
            prop_assert!(0.0 <= low && low <= point && point <= high && high <= 1.0);
            let tail = (1.0 - confidence) / 2.0;
            let (hit, missed) = (hits as f64, (of - hits) as f64);
            if hits > 0 {
                let below = Beta::new(hit, missed + 1.0).unwrap().cdf(low);
                prop_assert!(close(below / tail, 1.0, 1e-3), "{below} {tail}");
            }
            if hits < of {
                let above = Beta::new(hit + 1.0, missed).unwrap().sf(high);
                prop_assert!(close(above / tail, 1.0, 1e-3), "{above} {tail}");
            }
        }

        #[test]
        fn a_t_quantile_leaves_out_its_tail(values in 2_usize..300, digits in 0.31..14.0_f64) {
            let tail = 10.0_f64.powf(-digits);
            let end = t_quantile(1.0 - tail, values);
            let left = StudentsT::new(0.0, 1.0, values as f64 - 1.0).unwrap().sf(end);
            // A probability near 1 has 16 digits.
            prop_assert!(close(left / tail, 1.0, 1e-3 + 1e-15 / tail), "{end}: {left} {tail}");
        }
    }
}

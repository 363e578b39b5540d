//! The conclusion in words. Pure.

use crate::bench::numbers::{
    TOO_LITTLE, interval, inverse, is_endless, percent, percent_estimate, plain, rate, ratio,
    ratio_with, short,
};
use crate::bench::report::{
    Check, CheckState, Comparison, Figures, Level, Metric, Outcome, Report, Verdict, Version,
    VersionAnswers,
};
use crate::bench::slo::{SloReport, Sustained};
use crate::evidence::{Answers, Estimate, Slo, Tolerance};

/// The ground of a conclusion: the parts of a [`Report`] of the same names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// One version, or the baseline and the others.
    pub(super) versions: &'a [Version],
    /// The findings under each load.
    pub(super) levels: &'a [Level],
    /// Whether they say the same.
    pub(super) answers: &'a [VersionAnswers],
    /// The highest rates.
    pub(super) slo: Option<&'a SloReport>,
    /// Whether the run can be trusted.
    pub(super) checks: &'a [Check],
}

impl<'a> From<&'a Report> for Evidence<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            versions: &report.versions,
            levels: &report.levels,
            answers: &report.answers,
            slo: report.slo.as_ref(),
            checks: &report.checks,
        }
    }
}

/// The conclusion: a failed check first, then an unsteady machine, then the primary metric.
///
/// Where several loads were measured, the versions differ when they do under at least one load and none says the opposite; the
/// words tell each.
#[must_use]
pub(super) fn verdict(evidence: &Evidence<'_>) -> Verdict {
    let invalid = |check: &&Check| check.state == CheckState::Invalid;
    if let Some(check) = evidence.checks.iter().find(invalid) {
        return Verdict {
            outcome: Outcome::Invalid,
            outcomes: Vec::new(),
            words: format!("this run says nothing: {}", check.words),
        };
    }
    let (outcomes, mut clauses) = match evidence.versions {
        [base, others @ ..] if !others.is_empty() => of_others(evidence, &base.label),
        [one] => (Vec::new(), alone(evidence, &one.label)),
        _ => (Vec::new(), vec!["nothing was measured".to_owned()]),
    };
    clauses.extend(evidence.answers.iter().map(|one| {
        let words = answers_words(&one.answers);
        match evidence.versions {
            [_, _] => words,
            versions => format!("{}: {words}", versions[one.version].label),
        }
    }));
    Verdict {
        outcome: match &outcomes[..] {
            [] => Outcome::Alone,
            [first, rest @ ..] if rest.iter().all(|other| other == first) => *first,
            _ => Outcome::Mixed,
        },
        outcomes,
        words: clauses.join("; "),
    }
}

/// `p50 latency`, in a sentence.
pub(super) fn metric_words(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput => "throughput",
        Metric::Mean => "mean latency",
        Metric::P50 => "p50 latency",
        Metric::P90 => "p90 latency",
        Metric::P99 => "p99 latency",
        Metric::Cpu => "processor time",
    }
}

/// An outcome in a word or two, as it is said of this metric.
pub(super) fn outcome_words(outcome: Outcome, metric: Metric) -> &'static str {
    match (outcome, metric) {
        (Outcome::Faster, Metric::Cpu) => "less",
        (Outcome::Slower, Metric::Cpu) => "more",
        (Outcome::Faster, _) => "faster",
        (Outcome::Slower, _) => "slower",
        (Outcome::Same, _) => "the same",
        (Outcome::NoEvidence, _) => "no evidence",
        (Outcome::Withheld, _) => "withheld",
        (Outcome::FailsMore, _) => "fails more",
        (Outcome::Mixed, _) => "mixed",
        (Outcome::Alone, _) => "alone",
        (Outcome::Invalid, _) => "invalid",
    }
}

/// The ratio so that it is above 1 when the outcome is what it says: a third of the latency is 3x faster.
pub(super) fn outward(comparison: &Comparison) -> Estimate {
    outward_of(
        comparison.metric,
        comparison.outcome,
        comparison.ratio.estimate,
    )
}

/// The same of any ratio.
pub(super) fn outward_of(metric: Metric, outcome: Outcome, ratio: Estimate) -> Estimate {
    let more_is_better = metric == Metric::Throughput;
    match outcome {
        Outcome::Faster if !more_is_better => inverse(ratio),
        // More processor time is told as such, not by its inverse.
        Outcome::Slower if more_is_better => inverse(ratio),
        _ => ratio,
    }
}

/// The distance that two answers may have: `1e-4`, or `1e-6 + 1e-3 of the value`.
pub(super) fn tolerance_words(tolerance: Tolerance) -> String {
    let Tolerance { absolute, relative } = tolerance;
    if relative <= 0.0 || (absolute - relative).abs() < f64::EPSILON * absolute {
        format!("{absolute:e}")
    } else if absolute <= 0.0 {
        format!("{relative:e} of the value")
    } else {
        format!("{absolute:e} + {relative:e} of the value")
    }
}

/// `0 of 4096 answers differ beyond 1e-4`.
pub(super) fn answers_words(answers: &Answers) -> String {
    if answers.compared == 0 {
        return "no input was answered".to_owned();
    }
    let share = match answers.differing {
        0 => String::new(),
        differing => format!(" ({})", percent(part(differing, answers.compared))),
    };
    let alone = match answers.answered_by_one {
        0 => String::new(),
        inputs => format!("; {inputs} of them were answered by one alone"),
    };
    let unanswered = match answers.unanswered {
        0 => String::new(),
        inputs => format!("; {inputs} of the inputs were answered by neither"),
    };
    format!(
        "{} of {} answers differ beyond {}{share}{alone}{unanswered}",
        answers.differing,
        answers.compared,
        tolerance_words(answers.tolerance)
    )
}

/// `p99 of 20 ms`.
pub(super) fn slo_words(slo: Slo) -> String {
    let percentile = slo.quantile * 100.0;
    let name = format!("{percentile:.3}");
    let name = name.trim_end_matches('0').trim_end_matches('.');
    format!("p{name} of {} ms", plain(slo.limit_ms))
}

#[expect(clippy::cast_precision_loss, reason = "a share to two digits")]
fn part(some: usize, all: usize) -> f64 {
    some as f64 / all.max(1) as f64
}

/// Each other version beside the baseline: its outcome, and the clauses of all.
fn of_others(evidence: &Evidence<'_>, base: &str) -> (Vec<Outcome>, Vec<String>) {
    let each = (1..).zip(&evidence.versions[1..]);
    let each = each.map(|(version, other)| of_one(evidence, version, [base, &other.label]));
    let (outcomes, clauses): (Vec<_>, Vec<Option<String>>) = each.unzip();
    let mut clauses: Vec<_> = clauses.into_iter().flatten().collect();
    // That the baseline differs from itself is one clause for all.
    clauses.dedup();
    clauses.extend(evidence.slo.map(|slo| slo_clause(slo, evidence.versions)));
    (outcomes, clauses)
}

fn of_one(
    evidence: &Evidence<'_>,
    version: usize,
    [base, other]: [&str; 2],
) -> (Outcome, Option<String>) {
    let primary: Vec<(&Level, &Comparison)> = evidence
        .levels
        .iter()
        .filter_map(|level| Some((level, level.primary(version)?)))
        .collect();
    match primary.as_slice() {
        [] => match evidence.slo {
            Some(found) => (slo_outcome(found, version), None),
            None => (
                Outcome::NoEvidence,
                Some(format!(
                    "{TOO_LITTLE} about {base} and {other}: no pair was measured"
                )),
            ),
        },
        all if all.iter().any(|(_, one)| one.outcome == Outcome::Withheld) => (
            Outcome::Withheld,
            Some(withheld(evidence.levels, version, base)),
        ),
        [(level, one)] if one.outcome == Outcome::FailsMore => {
            (one.outcome, Some(fails_more((level, version), base, other)))
        }
        [(_, one)] => (one.outcome, Some(compared(one, base, other))),
        all => (joint(all), Some(sweep(all, base, other))),
    }
}

/// The version that would be better, and by how much more it fails.
fn fails_more((level, version): (&Level, usize), base: &str, other: &str) -> String {
    let (worse, better) = match level.failures.fails_more(version) {
        true => (other, base),
        false => (base, other),
    };
    let shares = &level.failures.shares;
    let shares: Vec<_> = [(base, 0), (other, version)]
        .iter()
        .filter_map(|(label, at)| Some((label, shares.get(*at)?)))
        .map(|(label, share)| format!("{label} {}", percent_estimate(*share)))
        .collect();
    format!(
        "no winner is named: {worse} fails more often than {better} ({} of requests)",
        shares.join(", ")
    )
}

fn compared(comparison: &Comparison, base: &str, other: &str) -> String {
    let metric = metric_words(comparison.metric);
    if is_endless(comparison.ratio.estimate) {
        let (worse, better) = match comparison.outcome {
            Outcome::Faster => (base, other),
            _ => (other, base),
        };
        let words = outcome_words(comparison.outcome, comparison.metric);
        return format!(
            "{other} is {words} than {base}: more requests of {worse} fail than its {metric} leaves out, and not of {better}"
        );
    }
    let ratio_words = |words| ratio_with(outward(comparison), words);
    if let Some(difference) = comparison.same_within {
        return format!(
            "{base} and {other} are the same within {}: {} ({metric})",
            percent(difference),
            ratio(comparison.ratio.estimate)
        );
    }
    match (comparison.outcome, comparison.metric) {
        (Outcome::Faster, Metric::Cpu) => {
            format!(
                "{other} takes {} than {base}",
                ratio_words("less processor time")
            )
        }
        (Outcome::Slower, Metric::Cpu) => {
            format!(
                "{other} takes {} than {base}",
                ratio_words("more processor time")
            )
        }
        (Outcome::Faster | Outcome::Slower, _) => {
            let words = outcome_words(comparison.outcome, comparison.metric);
            let told = ratio_words(&format!("{words} than {base}"));
            format!("{other} is {told} ({metric})")
        }
        _ => no_evidence(comparison, base, other),
    }
}

fn no_evidence(comparison: &Comparison, base: &str, other: &str) -> String {
    let metric = metric_words(comparison.metric);
    if interval(comparison.ratio.estimate).is_none() {
        let pairs = comparison.ratio.pairs;
        return format!(
            "{TOO_LITTLE} about {base} and {other}: {pairs} pairs give no interval ({metric})"
        );
    }
    let detectable = comparison
        .ratio
        .detectable
        .map_or_else(String::new, |least| {
            format!("; a difference of {} would have been found", percent(least))
        });
    format!(
        "no evidence of a difference between {base} and {other}: {} ({metric}){detectable}",
        ratio(comparison.ratio.estimate)
    )
}

fn withheld(levels: &[Level], version: usize, base: &str) -> String {
    let is_withheld = |level: &&Level| {
        let first = level.primary(version);
        first.is_some_and(|one| one.outcome == Outcome::Withheld)
    };
    let by = levels
        .iter()
        .filter(is_withheld)
        .find_map(|level| Some(ratio(level.noise.as_ref()?.ratio.estimate)));
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    format!(
        "no winner is named: {base} differed from itself{by} in the same run; the machine is too unsteady"
    )
}

/// The outcome that all loads come to together.
fn joint(all: &[(&Level, &Comparison)]) -> Outcome {
    let any = |outcome| all.iter().any(|(_, one)| one.outcome == outcome);
    if any(Outcome::FailsMore) {
        return Outcome::FailsMore;
    }
    if all.iter().all(|(_, one)| one.outcome == Outcome::Same) {
        return Outcome::Same;
    }
    match (any(Outcome::Faster), any(Outcome::Slower)) {
        (true, false) => Outcome::Faster,
        (false, true) => Outcome::Slower,
        (true, true) | (false, false) => Outcome::NoEvidence,
    }
}

/// The number of loads for each outcome, and then each load.
fn sweep(all: &[(&Level, &Comparison)], base: &str, other: &str) -> String {
    let Some((_, first)) = all.first() else {
        return String::new();
    };
    let metric = first.metric;
    let of = |outcome| all.iter().filter(|(_, one)| one.outcome == outcome).count();
    let said: Vec<String> = [Outcome::Faster, Outcome::Slower, Outcome::Same]
        .into_iter()
        .filter(|outcome| of(*outcome) > 0)
        .map(|outcome| format!("{} under {}", outcome_words(outcome, metric), of(outcome)))
        .collect();
    let loads = all.len();
    let verb = if metric == Metric::Cpu { "takes" } else { "is" };
    let is_named =
        |(_, one): &(&Level, &Comparison)| matches!(one.outcome, Outcome::Faster | Outcome::Slower);
    let summary = if let Some((level, one)) = all
        .iter()
        .find(|(_, one)| one.outcome == Outcome::FailsMore)
    {
        let words = fails_more((level, one.version), base, other);
        format!("{words} under {}", level.name)
    } else if of(Outcome::Same) == loads {
        format!("{base} and {other} are the same under all of {loads} loads")
    } else if !all.iter().any(is_named) {
        format!("no evidence of a difference between {base} and {other} under any of {loads} loads")
    } else {
        format!(
            "{other} {verb} {} of {loads} loads than {base}",
            said.join(" and ")
        )
    };
    let one = |(level, one): &(&Level, &Comparison)| {
        let words = outcome_words(one.outcome, one.metric);
        let told = match one.outcome {
            Outcome::Faster | Outcome::Slower => ratio_with(outward(one), words),
            Outcome::Invalid => words.to_owned(),
            _ if interval(one.ratio.estimate).is_none() => TOO_LITTLE.to_owned(),
            _ => format!("{words}, {}", ratio(one.ratio.estimate)),
        };
        format!("{told} under {}", level.name)
    };
    let each: Vec<String> = all.iter().map(one).collect();
    format!("{summary} ({}); {}", metric_words(metric), each.join("; "))
}

fn alone(evidence: &Evidence<'_>, label: &str) -> Vec<String> {
    let best = evidence
        .levels
        .iter()
        .filter_map(|level| Some((level, level.figures.first()?)))
        .max_by(|(_, a), (_, b)| {
            f64::total_cmp(&a.throughput_per_s.point, &b.throughput_per_s.point)
        });
    let mut clauses: Vec<String> = best
        .map(|(level, figures)| alone_clause(label, level, figures, evidence.levels.len() > 1))
        .into_iter()
        .chain(evidence.slo.map(|slo| slo_clause(slo, evidence.versions)))
        .collect();
    if clauses.is_empty() {
        clauses.push(format!("{TOO_LITTLE} about {label}: nothing was measured"));
    }
    clauses
}

fn alone_clause(label: &str, level: &Level, figures: &Figures, swept: bool) -> String {
    let with = if swept {
        format!(" under {}, its most", level.name)
    } else {
        String::new()
    };
    format!(
        "{label} answers {}{with}; p50 {} ms, p99 {} ms",
        rate(figures.throughput_per_s),
        short(figures.p50_ms),
        short(figures.p99_ms)
    )
}

fn slo_clause(found: &SloReport, versions: &[Version]) -> String {
    let one = |(version, sustained): (&Version, &Sustained)| {
        let known = sustained_words(&version.label, sustained);
        match sustained.confirmed {
            true => known,
            false => format!("{known} (unconfirmed)"),
        }
    };
    let each: Vec<String> = versions.iter().zip(&found.versions).map(one).collect();
    format!("{}: {}", slo_words(found.slo), each.join(", "))
}

/// Only of rates that were tried, and showed something, is anything known.
fn sustained_words(label: &str, sustained: &Sustained) -> String {
    match (sustained.passed_per_s, sustained.failed_per_s) {
        (Some(kept), Some(broken)) => format!(
            "{label} keeps it at {}/s and not at {}/s",
            short(kept),
            short(broken)
        ),
        (Some(kept), None) => format!(
            "{label} keeps it at {}/s, and no rate was shown to be too high",
            short(kept)
        ),
        (None, Some(broken)) => format!(
            "{label} does not keep it at {}/s, and no rate was shown to be kept",
            short(broken)
        ),
        (None, None) => {
            let rates = sustained.probes.iter().map(|probe| probe.rate_per_s);
            match rates.min_by(f64::total_cmp) {
                Some(lowest) => format!(
                    "nothing was shown of {label}, down to {}/s: more time is needed (--budget)",
                    short(lowest)
                ),
                None => format!("no rate was tried on {label}: more time is needed (--budget)"),
            }
        }
    }
}

/// A version differs from the baseline when what one keeps is not less than what the other fails at.
fn slo_outcome(found: &SloReport, version: usize) -> Outcome {
    let versions = &found.versions;
    let Some((base, other)) = versions.first().zip(versions.get(version)) else {
        return Outcome::NoEvidence;
    };
    let beyond = |a: &Sustained, b: &Sustained| {
        a.passed_per_s
            .zip(b.failed_per_s)
            .is_some_and(|(passed, failed)| passed >= failed && a.confirmed && b.confirmed)
    };
    if beyond(other, base) {
        Outcome::Faster
    } else if beyond(base, other) {
        Outcome::Slower
    } else {
        Outcome::NoEvidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Failures;
    use crate::bench::sample;
    use crate::bench::slo::Probe;

    fn words(report: &Report) -> String {
        verdict(&Evidence::from(report)).words
    }

    #[test]
    fn a_faster_version_is_named_with_its_interval_and_its_answers() {
        let report = sample::report();
        assert_eq!(
            words(&report),
            "green is 1.31x faster than blue [1.28, 1.34] (throughput); 0 of 4096 answers differ beyond 1e-4"
        );
        assert_eq!(verdict(&Evidence::from(&report)).outcome, Outcome::Faster);
    }

    #[test]
    fn a_smaller_latency_is_faster_and_told_by_its_inverse() {
        let mut report = sample::report();
        report.answers.clear();
        report.levels[0].comparisons = vec![sample::comparison(
            Metric::P99,
            [0.5, 0.4, 0.8],
            Outcome::Faster,
        )];
        assert_eq!(
            words(&report),
            "green is 2.00x faster than blue [1.25, 2.50] (p99 latency)"
        );
        report.levels[0].comparisons = vec![sample::comparison(
            Metric::P99,
            [1.05, 1.02, 1.08],
            Outcome::Slower,
        )];
        assert_eq!(
            words(&report),
            "green is 1.05x slower than blue [1.02, 1.08] (p99 latency)"
        );
        report.levels[0].comparisons = vec![sample::comparison(
            Metric::Cpu,
            [0.5, 0.4, 0.8],
            Outcome::Faster,
        )];
        assert_eq!(
            words(&report),
            "green takes 2.00x less processor time [1.25, 2.50] than blue"
        );
    }

    #[test]
    fn less_throughput_is_slower_and_told_by_its_inverse() {
        let mut report = sample::report();
        report.answers.clear();
        report.levels[0].comparisons = vec![sample::comparison(
            Metric::Throughput,
            [0.8, 0.5, 0.9],
            Outcome::Slower,
        )];
        assert_eq!(
            words(&report),
            "green is 1.25x slower than blue [1.11, 2.00] (throughput)"
        );
    }

    #[test]
    fn no_evidence_says_what_would_have_been_found() {
        let mut report = sample::report();
        report.answers.clear();
        report.levels[0].comparisons = vec![sample::comparison(
            Metric::Throughput,
            [1.002, 0.9925, 1.0112],
            Outcome::NoEvidence,
        )];
        assert_eq!(
            words(&report),
            "no evidence of a difference between blue and green: 1.002x [0.993, 1.011] (throughput); a difference of 1.4 % \
             would have been found"
        );
        report.levels[0].comparisons[0].ratio.estimate.low = None;
        assert_eq!(
            words(&report),
            "too little to say about blue and green: 10 pairs give no interval (throughput)"
        );
        report.levels[0].comparisons.clear();
        assert_eq!(
            words(&report),
            "too little to say about blue and green: no pair was measured"
        );
    }

    #[test]
    fn an_unsteady_machine_names_no_winner() {
        let mut report = sample::report();
        report.answers.clear();
        report.levels[0].comparisons[0].outcome = Outcome::Withheld;
        report.levels[0].noise = Some(sample::comparison(
            Metric::Throughput,
            [1.04, 1.02, 1.06],
            Outcome::NoEvidence,
        ));
        assert_eq!(
            words(&report),
            "no winner is named: blue differed from itself by 1.04x [1.02, 1.06] in the same run; the machine is too unsteady"
        );
        assert_eq!(verdict(&Evidence::from(&report)).outcome, Outcome::Withheld);
    }

    #[test]
    fn a_better_version_that_fails_more_is_no_winner() {
        let mut report = sample::report();
        report.answers.clear();
        report.levels[0].figures[1].failures = 20_000;
        report.levels[0].failures = Failures::of(&report.levels[0].figures);
        report.levels[0].comparisons[0].outcome = Outcome::FailsMore;
        assert_eq!(
            words(&report),
            "no winner is named: green fails more often than blue (blue 0.00 % [0.00, 0.00], green 2.53 % [2.50, 2.57] of requests)"
        );
        assert_eq!(
            verdict(&Evidence::from(&report)).outcome,
            Outcome::FailsMore
        );
        let mut sweep = sample::sweep();
        sweep.levels[1] = report.levels.remove(0);
        let found = verdict(&Evidence::from(&sweep));
        assert_eq!(found.outcome, Outcome::FailsMore);
        assert!(
            found
                .words
                .starts_with("no winner is named: green fails more often")
        );
        assert!(
            found.words.contains("under 8 connections (throughput); "),
            "{}",
            found.words
        );
    }

    #[test]
    fn a_quantile_that_only_failures_reach_is_told_without_a_number() {
        let mut report = sample::report();
        report.answers.clear();
        let endless = [f64::INFINITY; 3];
        report.levels[0].comparisons =
            vec![sample::comparison(Metric::P99, endless, Outcome::Slower)];
        assert_eq!(
            words(&report),
            "green is slower than blue: more requests of green fail than its p99 latency leaves out, and not of blue"
        );
        report.levels[0].comparisons =
            vec![sample::comparison(Metric::P99, [0.0; 3], Outcome::Faster)];
        assert_eq!(
            words(&report),
            "green is faster than blue: more requests of blue fail than its p99 latency leaves out, and not of green"
        );
    }

    #[test]
    fn a_quantile_that_failures_may_reach_or_not_is_no_evidence() {
        let mut report = sample::report();
        report.answers.clear();
        for point in [0.0, f64::INFINITY, f64::NAN] {
            let mut found = sample::comparison(Metric::P99, [point; 3], Outcome::NoEvidence);
            (found.ratio.estimate.low, found.ratio.estimate.high) = (None, None);
            found.ratio.detectable = None;
            report.levels[0].comparisons = vec![found];
            let words = words(&report);
            assert!(words.starts_with("too little to say about"), "{words}");
            assert!(!words.contains("inf") && !words.contains("NaN"), "{words}");
        }
    }

    #[test]
    fn a_failed_check_comes_before_everything() {
        let mut report = sample::report();
        report.checks.push(Check {
            name: "generator",
            state: CheckState::Invalid,
            words: "requests left 3 ms late".to_owned(),
        });
        let found = verdict(&Evidence::from(&report));
        assert_eq!(found.outcome, Outcome::Invalid);
        assert_eq!(
            found.words,
            "this run says nothing: requests left 3 ms late"
        );
    }

    #[test]
    fn one_version_is_told_by_itself() {
        let report = sample::alone();
        assert_eq!(
            words(&report),
            "blue answers 78,900/s [77,700 to 80,100]; p50 0.107 ms, p99 0.257 ms"
        );
    }

    #[test]
    fn loads_that_say_the_opposite_give_no_winner() {
        let mut report = sample::sweep();
        report.answers.clear();
        report.slo = None;
        assert_eq!(verdict(&Evidence::from(&report)).outcome, Outcome::Faster);
        report.levels[0].comparisons[0] =
            sample::comparison(Metric::Throughput, [0.8, 0.5, 0.9], Outcome::Slower);
        assert_eq!(
            verdict(&Evidence::from(&report)).outcome,
            Outcome::NoEvidence
        );
        assert!(
            words(&report).starts_with(
                "green is faster under 2 and slower under 1 of 3 loads than blue (throughput); 1.25x slower [1.11, 2.00] under 1 connection; 1.31x faster"
            ),
            "{}",
            words(&report)
        );
    }

    #[test]
    fn a_rate_search_alone_is_a_verdict_too() {
        let mut report = sample::sweep();
        report.levels.clear();
        report.answers.clear();
        let found = verdict(&Evidence::from(&report));
        assert_eq!(found.outcome, Outcome::Faster);
        assert_eq!(
            found.words,
            "p99 of 20 ms: blue keeps it at 2,000/s and not at 2,040/s, green keeps it at 2,600/s and not at 2,652/s"
        );
        // Of what is not confirmed no winner is named.
        report.slo.as_mut().unwrap().versions[0].confirmed = false;
        let found = verdict(&Evidence::from(&report));
        assert_eq!(found.outcome, Outcome::NoEvidence);
        assert!(
            found
                .words
                .contains("not at 2,040/s (unconfirmed), green keeps it"),
            "{}",
            found.words
        );
    }

    #[test]
    fn a_rate_that_was_not_tried_is_not_said_to_fail() {
        let mut report = sample::sweep();
        report.levels.clear();
        report.answers.clear();
        report.versions.pop();
        let slo = report.slo.as_mut().unwrap();
        slo.versions.pop();
        slo.versions[0].passed_per_s = None;
        slo.versions[0].confirmed = false;
        let probe = slo.versions[0].probes[0].clone();
        slo.versions[0].probes = [900.0, 600.0]
            .map(|rate_per_s| Probe {
                rate_per_s,
                ..probe.clone()
            })
            .into();
        assert_eq!(
            words(&report),
            "p99 of 20 ms: blue does not keep it at 2,040/s, and no rate was shown to be kept (unconfirmed)"
        );
        report.slo.as_mut().unwrap().versions[0].failed_per_s = None;
        assert_eq!(
            words(&report),
            "p99 of 20 ms: nothing was shown of blue, down to 600/s: more time is needed (--budget) (unconfirmed)"
        );
        report.slo.as_mut().unwrap().versions[0].probes.clear();
        assert_eq!(
            words(&report),
            "p99 of 20 ms: no rate was tried on blue: more time is needed (--budget) (unconfirmed)"
        );
    }

    #[test]
    fn differing_answers_are_told_with_their_share() {
        let mut answers = sample::report().answers.remove(0).answers;
        answers.differing = 49;
        answers.unanswered = 2;
        answers.tolerance.relative = 1e-3;
        assert_eq!(
            answers_words(&answers),
            "49 of 4096 answers differ beyond 1e-4 + 1e-3 of the value (1.2 %); 2 of the inputs were answered by neither"
        );
        answers.answered_by_one = 7;
        assert!(
            answers_words(&answers).contains("(1.2 %); 7 of them were answered by one alone; 2 of"),
            "{}",
            answers_words(&answers)
        );
    }

    #[test]
    fn versions_that_are_the_same_are_said_to_be_with_the_difference_that_was_named() {
        let mut report = sample::report();
        let first = &mut report.levels[0].comparisons[0];
        *first = sample::comparison(
            Metric::Throughput,
            [1.001, 0.997, 1.005],
            Outcome::NoEvidence,
        );
        first.hold_for_same(Some(0.01));
        let found = verdict(&Evidence::from(&report));
        assert_eq!(found.outcome, Outcome::Same);
        assert!(
            found.words.starts_with(
                "blue and green are the same within 1.0 %: 1.001x [0.997, 1.005] (throughput)"
            ),
            "{}",
            found.words
        );
        report.levels.push(report.levels[0].clone());
        assert!(
            words(&report).starts_with("blue and green are the same under all of 2 loads"),
            "{}",
            words(&report)
        );
    }

    #[test]
    fn a_version_that_fails_more_is_not_the_same() {
        let mut found = sample::comparison(Metric::Mean, [1.0, 0.999, 1.001], Outcome::FailsMore);
        found.hold_for_same(Some(0.01));
        assert_eq!(
            (found.outcome, found.same_within),
            (Outcome::FailsMore, None)
        );
    }
}

//! Conditions of `--fail-if`: `throughput<0.97`, `p99>1.10`, `agreement<0.99`, `failures>0.1%`; and those that a run cannot decide. Pure.

use std::fmt;
use std::str::FromStr;

use crate::bench::figures::confidence_of;
use crate::bench::report::{GateReport, GateState, Metric, VersionAnswers};
use crate::evidence::Estimate;

/// Metrics that a condition can name.
const METRICS: &[(&str, GateMetric)] = &[
    ("throughput", GateMetric::Ratio(Metric::Throughput)),
    ("mean", GateMetric::Ratio(Metric::Mean)),
    ("p50", GateMetric::Ratio(Metric::P50)),
    ("p90", GateMetric::Ratio(Metric::P90)),
    ("p99", GateMetric::Ratio(Metric::P99)),
    ("cpu", GateMetric::Ratio(Metric::Cpu)),
    ("agreement", GateMetric::Agreement),
    ("top1", GateMetric::Top1),
    ("failures", GateMetric::Failures),
];

/// More inputs or requests than any run gets to.
const TRIALS_MAX: u64 = 1 << 40;

/// Largest ratio that can be a limit: more is likely milliseconds or a percentage without its sign.
const RATIO_MAX: f64 = 10.0;

/// The subject of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateMetric {
    /// The other version's value by the baseline's.
    Ratio(Metric),
    /// Share of answers that are the same within the tolerance.
    Agreement,
    /// Share of rows whose largest number is at the same place.
    Top1,
    /// Share of the other version's requests that failed under load; of a version that is alone, its own.
    Failures,
}

/// What is known of a run before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// Versions, the baseline included.
    pub versions: usize,
    /// Different inputs that all versions are asked; none where each is asked its own.
    pub inputs: Option<u64>,
    /// Requests of a version that the time suffices for, where their rate is given.
    pub requests: Option<u64>,
    /// Whether the highest rate is looked for, instead of a comparison.
    pub is_search: bool,
}

/// A condition under which a comparison fails: `throughput<0.97` fails when the other version has less than 97 % of the baseline's
/// throughput.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    written: String,
    metric: GateMetric,
    operator: Operator,
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A mistake in the text of a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Nothing compares.
    #[error(
        "expected a metric, one of < <= > >=, and a limit such as throughput<0.97, found {found:?}"
    )]
    Operator {
        /// As it was written.
        found: String,
    },
    /// The part before the operator.
    #[error("unknown metric {found:?}{}; the metrics are {}", meant(.found), names())]
    Metric {
        /// As it was written.
        found: String,
    },
    /// The part after the operator, of a ratio.
    #[error(
        "{metric} is compared by its ratio to the baseline's: expected a number above 0 and at most {RATIO_MAX} such as 0.97 or 97%, found {found:?}"
    )]
    Ratio {
        /// Name of the metric.
        metric: &'static str,
        /// As it was written.
        found: String,
    },
    /// The part after the operator, of a share.
    #[error(
        "{metric} is a share: expected a number from 0 to 1 such as 0.99 or 99%, found {found:?}"
    )]
    Share {
        /// Name of the metric.
        metric: &'static str,
        /// As it was written.
        found: String,
    },
}

impl Condition {
    /// Its subject.
    #[must_use]
    pub fn metric(&self) -> GateMetric {
        self.metric
    }

    /// Says what was found about the condition: failed or passed when the whole interval is on one side of the limit, and undecided
    /// when the limit is within, or a bound that it takes is not known. `version` is the index of the one that it was found of.
    #[must_use]
    pub fn judge(&self, version: usize, found: Option<Estimate>) -> GateReport {
        // All is bad when even the best end is, and good when even the worst is.
        let (best, worst) = match (found, self.operator) {
            (None, _) => (None, None),
            (Some(found), Operator::Less | Operator::LessOrEqual) => (found.high, found.low),
            (Some(found), Operator::Greater | Operator::GreaterOrEqual) => (found.low, found.high),
        };
        let bad = |end: f64| self.operator.holds(end, self.limit);
        let state = if best.is_some_and(bad) {
            GateState::Failed
        } else if worst.is_some_and(|end| !end.is_nan() && !bad(end)) {
            GateState::Passed
        } else {
            GateState::Undecided
        };
        GateReport {
            condition: self.written.clone(),
            version,
            found,
            state,
        }
    }
}

/// The conditions that no outcome of a run would decide, a line for each with the reason and what would do. Of rows nothing is known before they are there.
#[must_use]
pub fn undecidable(conditions: &[Condition], ground: &Ground) -> Vec<String> {
    let problem = |condition: &Condition| {
        let words = condition.problem(ground)?;
        Some(format!("{condition}: {words}"))
    };
    conditions.iter().filter_map(problem).collect()
}

/// The same of what is compared, when the answers are there: of the version with the fewest.
pub(super) fn unanswerable(conditions: &[Condition], answers: &[VersionAnswers]) -> Vec<String> {
    let versions = answers.len() + 1;
    let rows = answers.iter().map(|one| one.answers.rows).min();
    let compared = answers.iter().map(|one| one.answers.compared).min();
    // What is proven to be broken is decided, of however few.
    let is_broken = |condition: &Condition| {
        answers.iter().any(|one| {
            let found = match condition.metric {
                GateMetric::Agreement => Some(one.answers.agreement),
                GateMetric::Top1 => one.answers.top1,
                GateMetric::Ratio(_) | GateMetric::Failures => None,
            };
            condition.judge(one.version, found).state == GateState::Failed
        })
    };
    let problem = |condition: &Condition| {
        if is_broken(condition) {
            return None;
        }
        let words = match condition.metric {
            GateMetric::Top1 if rows? == 0 => Some(
                "the answers have no rows of numbers, of which one would be the largest".to_owned(),
            ),
            GateMetric::Top1 => condition.too_few(rows?, versions, "rows"),
            GateMetric::Agreement => {
                condition.too_few(compared? as u64, versions, "compared inputs")
            }
            GateMetric::Ratio(_) | GateMetric::Failures => None,
        }?;
        Some(format!("{condition}: {words}"))
    };
    conditions.iter().filter_map(problem).collect()
}

impl Condition {
    fn problem(&self, ground: &Ground) -> Option<String> {
        let words = match self.metric {
            GateMetric::Failures if ground.is_search => {
                "a search for the highest rate fails requests on purpose: leave out --slo"
            }
            GateMetric::Failures => {
                return self.too_few(ground.requests?, ground.versions, "requests");
            }
            _ if ground.versions < 2 => {
                "it compares versions, and there is one: name another one too"
            }
            GateMetric::Ratio(_) if ground.is_search => {
                "a search for the highest rate compares nothing else: leave out --slo"
            }
            GateMetric::Ratio(_) => return None,
            GateMetric::Agreement | GateMetric::Top1 => match ground.inputs {
                Some(inputs) if self.metric == GateMetric::Agreement => {
                    return self.too_few(inputs, ground.versions, "different inputs");
                }
                Some(_) => return None,
                None => "each version is asked its own inputs: give --input once, for both",
            },
        };
        Some(words.to_owned())
    }

    /// The words for so few that it is kept by no outcome, of so many versions.
    fn too_few(&self, count: u64, versions: usize, what: &str) -> Option<String> {
        if self.may_pass(count, versions) {
            return None;
        }
        Some(match self.fewest(versions) {
            Some(fewest) => format!(
                "{count} {what} cannot prove it kept, whatever they say: at least {fewest} are needed{}",
                self.remedy()
            ),
            None => "no number of trials can prove it kept: leave room between the limit and the perfect share"
                .to_owned(),
        })
    }

    fn remedy(&self) -> &'static str {
        match self.metric {
            GateMetric::Failures => " (more --budget, or a higher rate)",
            _ => " (--made, or more in --input)",
        }
    }

    /// Whether so many trials may keep it, all of which are hits, or none.
    fn may_pass(&self, count: u64, versions: usize) -> bool {
        // Of Clopper and Pearson's interval both ends have a closed form here, which holds for any count.
        let least = ((1.0 - confidence_of(versions)) / 2.0).powf(1.0 / count as f64);
        let passes = |point, low, high| {
            let (low, high) = (Some(low), Some(high));
            let found = Estimate { point, low, high };
            self.judge(0, Some(found)).state == GateState::Passed
        };
        count > 0 && (passes(0.0, 0.0, 1.0 - least) || passes(1.0, least, 1.0))
    }

    /// The fewest trials that may keep it.
    fn fewest(&self, versions: usize) -> Option<u64> {
        let mut enough = 1;
        while !self.may_pass(enough, versions) {
            enough *= 2;
            if enough > TRIALS_MAX {
                return None;
            }
        }
        let mut few = enough / 2;
        while enough - few > 1 {
            let middle = u64::midpoint(few, enough);
            match self.may_pass(middle, versions) {
                true => enough = middle,
                false => few = middle,
            }
        }
        Some(enough)
    }
}

/// `throughput<0.97`, `p99 > 1.10`, `agreement<99%`.
impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let text = text.trim();
        let (name, operator, limit) =
            Operator::split(text).ok_or_else(|| ConditionError::Operator {
                found: text.to_owned(),
            })?;
        let (known, metric) = METRICS
            .iter()
            .copied()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| ConditionError::Metric {
                found: name.to_owned(),
            })?;
        let found = || limit.to_owned();
        let limit = match metric {
            GateMetric::Ratio(_) => number(limit)
                .filter(|limit| *limit > 0.0 && *limit <= RATIO_MAX)
                .ok_or_else(|| ConditionError::Ratio {
                    metric: known,
                    found: found(),
                })?,
            GateMetric::Agreement | GateMetric::Top1 | GateMetric::Failures => number(limit)
                .filter(|limit| (0.0..=1.0).contains(limit))
                .ok_or_else(|| ConditionError::Share {
                    metric: known,
                    found: found(),
                })?,
        };
        Ok(Self {
            written: text.to_owned(),
            metric,
            operator,
            limit,
        })
    }
}

/// As it was written.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Operator {
    /// The text before, the operator, the text after; trimmed.
    fn split(text: &str) -> Option<(&str, Self, &str)> {
        let (before, after) = text.split_at(text.find(['<', '>'])?);
        let operators = [
            ("<=", Self::LessOrEqual),
            (">=", Self::GreaterOrEqual),
            ("<", Self::Less),
            (">", Self::Greater),
        ];
        operators.into_iter().find_map(|(sign, operator)| {
            let after = after.strip_prefix(sign)?;
            Some((before.trim(), operator, after.trim()))
        })
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
        }
    }
}

/// `0.97` or `97%`, in digits: no sign, exponent, `inf` or `nan`.
fn number(text: &str) -> Option<f64> {
    let (digits, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value: f64 = digits.parse().ok().filter(|_| plain)?;
    Some(value / scale)
}

/// `, did you mean "throughput"?`, where a metric is near.
fn meant(found: &str) -> String {
    let found = found.to_lowercase();
    METRICS
        .iter()
        .map(|(name, _)| (strsim::damerau_levenshtein(&found, name), name))
        .min()
        // One slip in three letters; more is another word.
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map_or_else(String::new, |(_, name)| format!(", did you mean {name:?}?"))
}

fn names() -> String {
    let names: Vec<_> = METRICS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::proportion;

    fn problem(text: &str) -> String {
        text.parse::<Condition>().unwrap_err().to_string()
    }

    fn judged(text: &str, low: impl Into<Option<f64>>, high: impl Into<Option<f64>>) -> GateState {
        let condition: Condition = text.parse().unwrap();
        let (low, high) = (low.into(), high.into());
        let found = Estimate {
            point: 1.0,
            low,
            high,
        };
        let report = condition.judge(1, Some(found));
        assert_eq!(report.condition, text);
        report.state
    }

    #[test]
    fn every_metric_can_be_named() {
        for (name, metric) in METRICS {
            let condition: Condition = format!("{name}<0.5").parse().unwrap();
            assert_eq!(condition.metric(), *metric);
        }
    }

    #[test]
    fn spaces_and_percents_are_understood() {
        let condition: Condition = " agreement  < 99.5 % ".parse().unwrap();
        assert_eq!(condition.to_string(), "agreement  < 99.5 %");
        assert!((condition.limit - 0.995).abs() < 1e-12);
        assert!(("p99>110%".parse::<Condition>().unwrap().limit - 1.1).abs() < 1e-12);
    }

    #[test]
    fn a_condition_without_an_operator_is_refused() {
        assert_eq!(
            problem("throughput=0.97"),
            "expected a metric, one of < <= > >=, and a limit such as throughput<0.97, found \"throughput=0.97\""
        );
        assert!(problem("").starts_with("expected a metric"));
    }

    #[test]
    fn a_misspelt_metric_is_refused_with_the_one_that_was_meant() {
        assert_eq!(
            problem("troughput<0.97"),
            "unknown metric \"troughput\", did you mean \"throughput\"?; the metrics are throughput, mean, p50, p90, p99, cpu, agreement, top1, failures"
        );
        assert!(problem("<0.97").starts_with("unknown metric \"\"; the metrics are"));
    }

    #[test]
    fn a_limit_that_is_no_ratio_is_refused() {
        assert_eq!(
            problem("p99>20ms"),
            "p99 is compared by its ratio to the baseline's: expected a number above 0 and at most 10 such as 0.97 or 97%, found \"20ms\""
        );
        for text in [
            "throughput<97",
            "mean>0",
            "mean>-1",
            "cpu>inf",
            "cpu>nan",
            "p50>",
            "p50>=>1",
            "p50>1e0",
        ] {
            assert!(problem(text).contains("is compared by its ratio"), "{text}");
        }
    }

    #[test]
    fn a_limit_that_is_no_share_is_refused() {
        assert_eq!(
            problem("agreement<99"),
            "agreement is a share: expected a number from 0 to 1 such as 0.99 or 99%, found \"99\""
        );
        assert!(problem("top1<101%").contains("is a share"));
    }

    #[test]
    fn a_regression_is_proven_when_the_whole_interval_is_on_the_bad_side() {
        assert_eq!(judged("throughput<0.97", 0.90, 0.96), GateState::Failed);
        assert_eq!(judged("p99>1.10", 1.11, 1.30), GateState::Failed);
    }

    #[test]
    fn a_condition_passes_when_the_whole_interval_is_on_the_good_side() {
        assert_eq!(judged("throughput<0.97", 0.98, 1.02), GateState::Passed);
        assert_eq!(judged("p99>1.10", 0.90, 1.09), GateState::Passed);
    }

    #[test]
    fn a_limit_within_the_interval_leaves_it_undecided() {
        assert_eq!(judged("throughput<0.97", 0.96, 0.98), GateState::Undecided);
        assert_eq!(judged("p99>1.10", 1.00, 1.20), GateState::Undecided);
    }

    #[test]
    fn an_end_at_the_limit_is_bad_only_where_the_operator_says_so() {
        assert_eq!(judged("throughput<0.5", 0.4, 0.5), GateState::Undecided);
        assert_eq!(judged("throughput<=0.5", 0.4, 0.5), GateState::Failed);
        assert_eq!(judged("throughput<0.5", 0.5, 0.6), GateState::Passed);
        assert_eq!(judged("throughput<=0.5", 0.5, 0.6), GateState::Undecided);
        assert_eq!(judged("p99>=1.5", 1.5, 1.6), GateState::Failed);
        assert_eq!(judged("p99>1.5", 1.4, 1.5), GateState::Passed);
    }

    #[test]
    fn without_bounds_nothing_is_decided() {
        assert_eq!(judged("throughput<0.97", None, None), GateState::Undecided);
        assert_eq!(
            judged("throughput<0.97", f64::NAN, f64::NAN),
            GateState::Undecided
        );
        let condition: Condition = "throughput<0.97".parse().unwrap();
        let report = condition.judge(1, None);
        assert_eq!((report.state, report.found), (GateState::Undecided, None));
    }

    #[test]
    fn one_bound_decides_where_it_is_the_one_that_it_takes() {
        assert_eq!(judged("throughput<0.97", None, 0.96), GateState::Failed);
        assert_eq!(judged("throughput<0.97", 0.96, None), GateState::Undecided);
        assert_eq!(judged("throughput<0.97", 0.98, None), GateState::Passed);
    }

    const ROOMY: Ground = Ground {
        versions: 2,
        inputs: Some(1000),
        requests: None,
        is_search: false,
    };

    fn refused(text: &str, ground: Ground) -> Vec<String> {
        undecidable(&[text.parse().unwrap()], &ground)
    }

    #[test]
    fn a_condition_that_the_inputs_cannot_decide_is_refused_with_the_number_that_would_do() {
        let inputs = |count| Ground {
            inputs: Some(count),
            ..ROOMY
        };
        assert_eq!(
            refused("agreement<0.99", inputs(257)),
            [
                "agreement<0.99: 257 different inputs cannot prove it kept, whatever they say: at least 368 are needed (--made, or more in --input)"
            ]
        );
        assert!(!refused("agreement<0.99", inputs(367)).is_empty());
        assert!(refused("agreement<0.99", inputs(368)).is_empty());
        assert!(refused("agreement<0.9", inputs(257)).is_empty());
        // Of one that fails when they agree too well.
        assert!(!refused("agreement>0.01", inputs(257)).is_empty());
        assert_eq!(
            refused("agreement<1", inputs(1 << 20)),
            [
                "agreement<1: no number of trials can prove it kept: leave room between the limit and the perfect share"
            ]
        );
    }

    #[test]
    fn a_condition_on_failures_is_refused_where_the_rate_gives_too_few_requests() {
        let requests = |count| Ground {
            requests: Some(count),
            versions: 1,
            ..ROOMY
        };
        let told = refused("failures>0.1%", requests(3000));
        assert!(
            told[0].contains("3000 requests cannot prove it kept"),
            "{told:?}"
        );
        assert!(
            told[0].contains("at least 3688 are needed (more --budget"),
            "{told:?}"
        );
        assert!(refused("failures>0.1%", requests(3688)).is_empty());
        assert!(refused("failures>0.1%", ROOMY).is_empty());
        assert!(
            !refused(
                "failures>0",
                Ground {
                    requests: Some(1 << 40),
                    ..ROOMY
                }
            )
            .is_empty()
        );
    }

    #[test]
    fn a_condition_without_a_second_version_or_a_comparison_is_refused() {
        let alone = Ground {
            versions: 1,
            ..ROOMY
        };
        let search = Ground {
            is_search: true,
            ..ROOMY
        };
        let apart = Ground {
            inputs: None,
            ..ROOMY
        };
        let all = [
            "throughput<0.97",
            "p99>1.1",
            "agreement<0.9",
            "top1<0.9",
            "failures>1%",
        ];
        let of = |ground| all.map(|text| refused(text, ground).len());
        assert_eq!(of(ROOMY), [0, 0, 0, 0, 0]);
        assert_eq!(of(alone), [1, 1, 1, 1, 0]);
        assert_eq!(of(search), [1, 1, 0, 0, 1]);
        assert_eq!(of(apart), [0, 0, 1, 1, 0]);
        let both = all.map(|text| text.parse().unwrap());
        assert_eq!(undecidable(&both, &alone).len(), 4);
    }

    #[test]
    fn rows_are_counted_when_the_answers_are_there() {
        let mut answers = crate::bench::sample::report().answers;
        let told = |answers: &[VersionAnswers]| {
            let conditions = ["top1<0.99", "agreement<0.99", "p99>1.1"];
            unanswerable(&conditions.map(|text| text.parse().unwrap()), answers)
        };
        assert!(told(&answers).is_empty());
        let first = &mut answers[0].answers;
        (first.rows, first.compared) = (300, 40);
        first.agreement = proportion(39, 40, 0.95);
        first.top1 = Some(proportion(299, 300, 0.95));
        let few = told(&answers);
        assert!(few[0].starts_with("top1<0.99: 300 rows cannot"), "{few:?}");
        assert!(
            few[1].starts_with("agreement<0.99: 40 compared inputs cannot"),
            "{few:?}"
        );
        answers[0].answers.rows = 0;
        assert!(told(&answers)[0].contains("no rows of numbers"));
        // Few are enough to prove that they differ.
        answers[0].answers.agreement = proportion(30, 40, 0.95);
        assert_eq!(told(&answers).len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_refused_is_kept_by_no_outcome_and_what_is_not_by_some(
            limit in 0.0..=1.0_f64,
            operator in prop::sample::select(vec!["<", "<=", ">", ">="]),
            count in 1_u64..60,
            versions in 2_usize..6,
        ) {
            let condition: Condition = format!("agreement{operator}{limit}").parse().unwrap();
            let ground = Ground { inputs: Some(count), versions, ..ROOMY };
            let kept = (0..=count).any(|hits| {
                condition.judge(1, Some(proportion(hits, count, confidence_of(versions)))).state == GateState::Passed
            });
            prop_assert_eq!(undecidable(&[condition], &ground).is_empty(), kept);
        }

        #[test]
        fn any_text_is_a_condition_or_a_problem(text: String, near in "[a-z0-9]{0,6}[<>=]{0,3}[0-9.%e-]{0,6}") {
            for text in [text, near] {
                match text.parse::<Condition>() {
                    Ok(condition) => prop_assert!(condition.limit >= 0.0),
                    Err(problem) => prop_assert!(problem.to_string().contains("found") || problem.to_string().contains("metric")),
                }
            }
        }

        #[test]
        fn what_fails_is_bad_and_what_passes_is_good(
            operator in prop::sample::select(vec!["<", "<=", ">", ">="]),
            limit in 0.1..2.0_f64,
            low in 0.0..2.0_f64,
            width in 0.0..1.0_f64,
            within in 0.0..=1.0_f64,
        ) {
            let condition: Condition = format!("p99{operator}{limit}").parse().unwrap();
            let truth = low + width * within;
            let estimate = Estimate { point: truth, low: Some(low), high: Some(low + width) };
            let bad = condition.operator.holds(truth, condition.limit);
            match condition.judge(1, Some(estimate)).state {
                GateState::Failed => prop_assert!(bad),
                GateState::Passed => prop_assert!(!bad),
                GateState::Undecided => prop_assert!(low <= limit && limit <= low + width),
            }
        }
    }
}

//! What several machines that serve the same two versions say together. Pure.
//!
//! Each draws the arms of its requests by itself, so the evidence of one metric adds up, as it is now and not at its highest. Agreement
//! draws nothing: the same requests may come to all machines, and there the mean is taken. Harm then means harm on some machine; safety
//! rests on the canary being the same version everywhere, and is not proven for each machine by itself.

use crate::canary::guard::{Finding, Verdict};
use crate::canary::guard_plan::{Metric, MetricPlan};
use crate::evidence::{Dependence, Fleet, Report, Tally};

/// What a machine says.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its name, for people.
    pub name: String,
    /// Its report.
    pub report: Report,
    /// The findings that the report is of.
    pub findings: Vec<Finding>,
}

/// What all say.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// What is proven of any metric, as of one machine.
    pub verdict: Verdict,
    /// What each metric says.
    pub findings: Vec<Finding>,
    /// The places of those that count; others are the same start of the same machine once more, or say what is no number.
    pub counted: Vec<usize>,
}

/// Merges what machines say.
///
/// # Errors
///
/// All machines that judge by something else than the first, for then there is no one question; or that there are none.
pub fn merge(machines: &[Machine]) -> Result<Merged, Vec<String>> {
    let first = machines
        .first()
        .ok_or_else(|| vec!["expected at least one machine, found none".to_owned()])?;
    let problems: Vec<_> = machines
        .iter()
        .filter_map(|machine| difference(first, machine))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut fleet = Fleet::default();
    let places = 0..machines.len();
    let counted: Vec<_> = places
        .filter(|place| {
            let rows = fleet.len();
            fleet.take(machines[*place].report.clone()) && fleet.len() > rows
        })
        .collect();
    if let [only] = counted[..] {
        // Its own word, where what was proven once stays proven.
        let findings = machines[only].findings.clone();
        return Ok(Merged {
            verdict: verdict(&findings),
            findings,
            counted,
        });
    }
    let [product, mean] = [Dependence::None, Dependence::Any].map(|how| fleet.merged(how));
    let findings: Vec<_> = first
        .findings
        .iter()
        .map(|finding| {
            let tallies = match finding.plan.metric {
                Metric::Agreement { .. } => &mean,
                _ => &product,
            };
            merged(finding, tallies)
        })
        .collect();
    Ok(Merged {
        verdict: verdict(&findings),
        findings,
        counted,
    })
}

/// The reason why a machine does not answer the question of the first.
fn difference(first: &Machine, machine: &Machine) -> Option<String> {
    let question = |machine: &Machine| {
        let findings = machine.findings.iter();
        let parts = findings.map(|one| (one.plan, one.threshold_harm, one.threshold_safe));
        parts.collect::<Vec<_>>()
    };
    let (asked, answered) = (question(first), question(machine));
    let names = |question: &[(MetricPlan, f64, f64)]| {
        let names = question.iter().map(|(plan, ..)| plan.metric.name());
        names.collect::<Vec<_>>().join(", ")
    };
    (asked != answered).then(|| {
        format!(
            "expected {} to judge as {} does ({}), found other metrics, margins or budgets ({}): start their rollouts by the same file",
            machine.name,
            first.name,
            names(&asked),
            names(&answered)
        )
    })
}

fn merged(finding: &Finding, tallies: &[Tally]) -> Finding {
    let mut merged = finding.clone();
    let name = finding.plan.metric.name();
    let Some(tally) = tallies.iter().find(|tally| tally.metric == name) else {
        return merged;
    };
    (merged.stable.events, merged.stable.of) = tally.stable;
    (merged.canary.events, merged.canary.of) = tally.canary;
    (merged.log_e_harm, merged.log_e_safe) = (tally.log_e_harm, tally.log_e_safe);
    merged.log_e_now = (tally.log_e_harm, tally.log_e_safe);
    merged.forecast = None;
    merged.verdict = if tally.log_e_harm >= merged.threshold_harm {
        Verdict::Harm
    } else if tally.log_e_safe >= merged.threshold_safe {
        Verdict::Safe
    } else {
        Verdict::Undecided
    };
    merged
}

/// Harm where any metric proves it, safe where all do.
fn verdict(findings: &[Finding]) -> Verdict {
    let has = |verdict| findings.iter().any(|finding| finding.verdict == verdict);
    if has(Verdict::Harm) {
        Verdict::Harm
    } else if has(Verdict::Undecided) {
        Verdict::Undecided
    } else {
        Verdict::Safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::guard::{Guard, report_of};
    use crate::canary::guard_plan::GuardPlan;
    use crate::canary::observation::{Arm, Ending, Observation, Routing};

    const METRICS: [Metric; 2] = [Metric::Errors, Metric::Agreement { least: 0.9 }];

    /// A machine whose canary has failed so many requests, and differs in half of so many pairs.
    fn machine(start: &str, (failures, pairs): (usize, usize), alpha: f64) -> Machine {
        let metrics = METRICS.map(MetricPlan::new).to_vec();
        let mut guard = Guard::new(GuardPlan { alpha, metrics }).unwrap();
        for _ in 0..failures {
            guard.observe(&Observation {
                arm: Arm::Canary,
                routing: Routing::Random { weight: 0.1 },
                ending: Ending::Failed,
                at_us: 0,
                queue_us: 0,
                run_us: 0,
                total_us: 0,
                cold: false,
            });
        }
        (0..pairs).for_each(|pair| guard.compare(pair % 2 == 0));
        let findings = guard.findings();
        let capitals = guard.capitals_harm();
        let (start_of, green) = (start.to_owned(), "green".to_owned());
        let report = report_of(&findings, &capitals, start_of, (3, 1), green);
        let of_guard = guard.report(start.to_owned(), (3, 1), "green".to_owned());
        assert_eq!(report.tallies, of_guard.tallies);
        Machine {
            name: start.to_owned(),
            report,
            findings,
        }
    }

    #[test]
    fn evidence_adds_up_over_machines_that_draw_apart() {
        let machines = ["one", "two"].map(|start| machine(start, (2, 0), 0.01));
        assert_eq!(machines[0].findings[0].verdict, Verdict::Undecided);
        let all = merge(&machines).unwrap();
        assert_eq!((all.verdict, all.counted), (Verdict::Harm, vec![0, 1]));
        // More than the product of both: what is not known of the ratio is paid for once.
        let alone = machines[0].findings[0].log_e_now.0;
        let four = machine("one alone", (4, 0), 0.01).findings[0].log_e_now.0;
        assert!((all.findings[0].log_e_harm - four).abs() < 1e-12 && four > 2.0 * alone);
        assert_eq!(all.findings[0].canary.events, 4);
    }

    #[test]
    fn pairs_that_may_be_the_same_on_all_machines_do_not_add_up() {
        let machines = ["one", "two"].map(|start| machine(start, (0, 9), 0.01));
        let alone = machines[0].findings[1].log_e_now.0;
        assert!(alone > 0.0);
        let all = merge(&machines).unwrap();
        assert!((all.findings[1].log_e_harm - alone).abs() < 1e-12);
    }

    #[test]
    fn a_machine_that_is_named_twice_counts_once_and_keeps_its_word() {
        let one = machine("one", (2, 0), 0.01);
        let all = merge(&[one.clone(), one.clone(), one.clone()]).unwrap();
        assert_eq!((all.findings, all.counted), (one.findings, vec![0]));
        assert_eq!(all.verdict, Verdict::Undecided);
    }

    #[test]
    fn machines_that_ask_another_question_are_refused_each_by_name() {
        let machines = [
            machine("one", (2, 0), 0.01),
            machine("two", (2, 0), 0.05),
            machine("three", (2, 0), 0.01),
            machine("four", (2, 0), 0.02),
        ];
        let problems = merge(&machines).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("expected two to judge as one does"));
        assert!(merge(&[]).is_err());
    }

    #[test]
    fn evidence_that_is_no_number_does_not_count() {
        let mut wrong = machine("two", (2, 0), 0.01);
        wrong.report.tallies[0].log_e_harm = f64::INFINITY;
        let all = merge(&[machine("one", (2, 0), 0.01), wrong]).unwrap();
        assert_eq!((all.verdict, all.counted), (Verdict::Undecided, vec![0]));
    }
}

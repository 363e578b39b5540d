//! A rollout as it is planned: two deployments, the steps of the ramp, and what the canary is judged by.
//!
//! Not here: how it is written in a file (`plan_file`), and how it goes on (`rollout`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::duration::Duration;
use crate::canary::feedback_plan::FeedbackPlan;
use crate::canary::guard_plan::{GuardPlan, Metric};
use crate::canary::switchback::SwitchbackPlan;
use crate::spec::{DeploymentName, EndpointName, Percent};

/// Pairs of a mirror step where none are given: with all of them alike, fewer than one answer in a hundred differs, at 1 % (canary.md 2.7).
pub(super) const PAIRS_DEFAULT: u64 = 500;

/// A rollout as it is planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The deployment that has the traffic: the stable version.
    pub from: DeploymentName,
    /// The deployment that is to have it: the canary.
    pub to: DeploymentName,
    /// The steps, in their order. When the last has been taken, the canary gets all traffic.
    pub steps: Vec<Step>,
    /// What the canary is judged by.
    pub guard: GuardPlan,
    /// What becomes of a step that ends without a verdict.
    pub on_undecided: OnUndecided,
    /// What becomes of it when the stable version is slower than before.
    #[serde(default)]
    pub on_slowed: OnSlowed,
    /// The longest that the rollout may take, in seconds; then it is as undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_max: Option<u64>,
    /// Cohorts, where users are to keep their version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickyKey>,
    /// What is remembered of answers, where labels come later; as usual where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<FeedbackPlan>,
    /// Who hears of each event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Hook>,
    /// Keys of the file that have no effect here, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One step of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// The canary gets copies of so many requests in a hundred, and its answers go to nobody, until so many pairs are compared.
    Mirror {
        /// The share that is copied.
        percent: Percent,
        /// Pairs of answers.
        pairs: u64,
    },
    /// The canary gets so much of the traffic.
    SetWeight {
        /// Its share.
        percent: Percent,
    },
    /// Nothing changes for a time, or until somebody says so.
    Pause {
        /// The time; without one until `serin rollout promote`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// Nothing changes until the canary is proven safe, by the traffic that it has.
    Analysis {
        /// The longest wait; then it is undecided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// The canary's share is taken away and given again, until it is known whether it slows the stable version.
    Switchback {
        /// How.
        plan: SwitchbackPlan,
    },
    /// The canary gets so many instances.
    SetScale {
        /// The number.
        instances: u32,
    },
    /// Somebody else is asked, and asked again, until he agrees.
    Gate {
        /// Who.
        hook: Hook,
    },
}

/// What becomes of a step without a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUndecided {
    /// It waits for somebody.
    #[default]
    Hold,
    /// It goes on, and says that nothing was proven.
    PromoteFlagged,
    /// All traffic goes back.
    Abort,
}

/// What becomes of a rollout when the stable version is slower than before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSlowed {
    /// It waits for somebody.
    #[default]
    Hold,
    /// It goes on, and says so.
    Tell,
}

/// The part of a request by which users are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StickyKey {
    /// A header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A place in the JSON of the body, as a JSON pointer.
    JsonPath(String),
    /// The address of the client.
    ClientIp(bool),
}

/// Somebody who hears of events, or is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// An address that takes a POST with JSON.
    Url(String),
    /// A program that gets the JSON on its standard input.
    Command(Vec<String>),
}

impl RolloutPlan {
    /// The plan where nobody says more: shadow, 1, 10, 50, 100 %.
    #[must_use]
    pub fn usual(endpoint: EndpointName, from: DeploymentName, to: DeploymentName) -> Self {
        let weight = |hundredths| Step::SetWeight {
            percent: Percent::from_hundredths(hundredths).unwrap_or(Percent::ZERO),
        };
        Self {
            endpoint,
            from,
            to,
            steps: vec![
                Step::Mirror {
                    percent: Percent::HUNDRED,
                    pairs: PAIRS_DEFAULT,
                },
                weight(100),
                Step::Pause { seconds: Some(60) },
                weight(1000),
                Step::Analysis { seconds: None },
                weight(5000),
                Step::Analysis { seconds: None },
                weight(10_000),
            ],
            guard: GuardPlan::default(),
            on_undecided: OnUndecided::default(),
            on_slowed: OnSlowed::default(),
            seconds_max: None,
            sticky: None,
            feedback: None,
            notify: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What it remembers of answers; none where no label is waited for.
    #[must_use]
    pub fn remembers(&self) -> Option<FeedbackPlan> {
        let metrics = self.guard.metrics.iter();
        let mut accuracy = metrics.filter(|one| one.metric == Metric::Accuracy);
        accuracy.next()?;
        Some(self.feedback.clone().unwrap_or_default())
    }

    /// All that is wrong with the plan as a whole, each with the path of its key.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.from == self.to {
            let words = format!("expected another deployment than `from`, found {}", self.to);
            problems.push(("to".to_owned(), words));
        }
        if self.steps.is_empty() {
            let words = "expected at least one step such as setWeight: 10, found none".to_owned();
            problems.push(("steps".to_owned(), words));
        }
        if self.feedback.is_some() && self.remembers().is_none() {
            let words = "expected accuracy among guard.metrics beside it: labels are judged by nothing else";
            problems.push(("feedback".to_owned(), words.to_owned()));
        }
        if self
            .feedback
            .as_ref()
            .is_some_and(|plan| plan.keep_seconds == 0)
        {
            let words = "expected a time in which labels can come, found none";
            problems.push(("feedback.keep".to_owned(), words.to_owned()));
        }
        problems.extend(self.problems_of_ramp());
        let of_guard = self.guard.problems();
        problems.extend(
            of_guard
                .iter()
                .map(|problem| ("guard".to_owned(), problem.to_string())),
        );
        problems
    }

    /// The weights rise, and nothing is judged that nobody could judge.
    fn problems_of_ramp(&self) -> Vec<(String, String)> {
        let (mut weight, mut problems) = (Percent::ZERO, Vec::new());
        for (index, step) in self.steps.iter().enumerate() {
            let problem = match step {
                Step::SetWeight { percent } if *percent <= weight => Some(format!(
                    "expected a weight above {weight}, that of the step before, found {percent}"
                )),
                Step::Analysis { .. } if weight == Percent::ZERO => Some(
                    "expected traffic to judge by: put a setWeight before it".to_owned(),
                ),
                Step::Analysis { .. } if weight == Percent::HUNDRED => Some(
                    "expected traffic at both versions to compare: put it before setWeight: 100".to_owned(),
                ),
                Step::Switchback { .. } if weight == Percent::ZERO || weight == Percent::HUNDRED => Some(
                    "expected traffic at both versions: put it behind a setWeight, and before setWeight: 100".to_owned(),
                ),
                Step::Switchback { .. } if self.sticky.is_some() => Some(
                    "expected no `sticky` beside it: users would lose their version with every slot".to_owned(),
                ),
                Step::Mirror { .. } if weight != Percent::ZERO => Some(
                    "expected before the first setWeight: a version that has traffic gets no copies".to_owned(),
                ),
                _ => None,
            };
            if let Step::SetWeight { percent } = step {
                weight = weight.max(*percent);
            }
            problems.extend(problem.map(|problem| (format!("steps[{index}]"), problem)));
        }
        problems
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mirror { percent, pairs: 0 } => write!(f, "mirror {percent} %"),
            Self::Mirror { percent, pairs } => {
                write!(f, "mirror {percent} % until {pairs} pairs are compared")
            }
            Self::SetWeight { percent } => write!(f, "weight {percent} %"),
            Self::Pause { seconds: None } => f.write_str("pause until somebody promotes"),
            Self::Pause {
                seconds: Some(seconds),
            } => write!(f, "pause {}", Duration(*seconds)),
            Self::Analysis { seconds: None } => f.write_str("analysis until it is safe"),
            Self::Analysis {
                seconds: Some(seconds),
            } => write!(
                f,
                "analysis until it is safe, {} at most",
                Duration(*seconds)
            ),
            Self::Switchback { plan } => write!(
                f,
                "switchback, {} pairs of slots of {}",
                plan.pairs,
                Duration(plan.slot_seconds)
            ),
            Self::SetScale { instances } => write!(f, "{instances} instances"),
            Self::Gate { hook } => write!(f, "gate {hook}"),
        }
    }
}

impl Hook {
    /// The same for logs: an address without its path, which is a secret of many services.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Url(url) => origin(url).to_owned(),
            Self::Command(_) => self.to_string(),
        }
    }
}

/// An address up to the end of its host and port.
pub(super) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']);
    end.map_or(url, |end| &url[..host + end])
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Command(words) => f.write_str(&words.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: Vec<Step>) -> RolloutPlan {
        let (endpoint, from, to) = ("iris", "blue", "green");
        RolloutPlan {
            steps,
            ..RolloutPlan::usual(
                endpoint.parse().unwrap(),
                from.parse().unwrap(),
                to.parse().unwrap(),
            )
        }
    }

    fn weight(percent: &str) -> Step {
        let percent = percent.parse().unwrap();
        Step::SetWeight { percent }
    }

    fn switchback() -> Step {
        let plan = SwitchbackPlan::default();
        Step::Switchback { plan }
    }

    #[test]
    fn the_usual_plan_has_no_problems() {
        let usual = plan(Vec::new());
        let usual = RolloutPlan::usual(usual.endpoint, usual.from, usual.to);
        assert_eq!(usual.problems(), []);
    }

    #[test]
    fn a_ramp_that_does_not_rise_is_refused_step_by_step() {
        let analysis = || Step::Analysis { seconds: None };
        let mirror = Step::Mirror {
            percent: Percent::HUNDRED,
            pairs: 1,
        };
        let steps = vec![
            analysis(),
            weight("10"),
            weight("10"),
            weight("5"),
            mirror,
            weight("100"),
            analysis(),
            switchback(),
        ];
        let places: Vec<_> = plan(steps)
            .problems()
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        assert_eq!(
            places,
            [
                "steps[0]", "steps[2]", "steps[3]", "steps[4]", "steps[6]", "steps[7]"
            ]
        );
    }

    #[test]
    fn a_switchback_needs_both_versions_and_no_users_who_keep_theirs() {
        let places = |plan: RolloutPlan| {
            let problems = plan.problems().into_iter();
            problems.map(|(place, _)| place).collect::<Vec<_>>()
        };
        let mut with_both = plan(vec![weight("10"), switchback()]);
        assert_eq!(places(with_both.clone()), [""; 0]);
        with_both.sticky = Some(StickyKey::ClientIp(true));
        assert_eq!(places(with_both), ["steps[1]"]);
        assert_eq!(places(plan(vec![switchback(), weight("10")])), ["steps[0]"]);
    }

    #[test]
    fn a_rollout_onto_itself_and_one_without_steps_are_refused() {
        let mut onto_itself = plan(Vec::new());
        onto_itself.to = "Blue".parse().unwrap();
        let places: Vec<_> = onto_itself
            .problems()
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        assert_eq!(places, ["to", "steps"]);
    }

    #[test]
    fn a_plan_is_written_down_and_read_to_the_same() {
        let usual = plan(vec![
            weight("0.01"),
            Step::Gate {
                hook: Hook::Command(vec!["true".to_owned()]),
            },
            Step::Pause { seconds: None },
            Step::SetScale { instances: 3 },
            switchback(),
        ]);
        let text = serde_json::to_string(&usual).unwrap();
        assert_eq!(serde_json::from_str::<RolloutPlan>(&text).unwrap(), usual);
    }
}

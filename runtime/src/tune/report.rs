//! The outcome of a run: every setting that was measured, the advice with its reason, and what may have spoilt it.
//!
//! Not here: how it is printed (`cli`) or drawn (`plot`).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::bench::{self, CheckState, Metric, Outcome};
use crate::evidence::{Estimate, Ratio};
use crate::tune::choice::{Advice, P99Max};
use crate::tune::grid::{Setting, counted};

/// A setting that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeasured {
    /// The setting.
    pub setting: Setting,
    /// Why.
    pub reason: String,
}

/// Everything that was measured, and how.
#[derive(Debug, Clone)]
pub struct Report {
    /// What runs now is what runs where nothing is written.
    pub is_default: bool,
    /// The p99 that the setting must keep.
    pub p99_max: P99Max,
    /// vCPUs that an instance asks for.
    pub vcpus: usize,
    /// Cores that it gets on this machine.
    pub cores: u32,
    /// Requests at once.
    pub connections: usize,
    /// Longest that a lane waited for more requests.
    pub batch_delay: Duration,
    /// The time that it took.
    pub elapsed: Duration,
    /// Whether somebody asked it to end early.
    pub interrupted: bool,
    /// What runs now, then those that were measured beside it.
    pub settings: Vec<Setting>,
    /// Settings that failed.
    pub unmeasured: Vec<Unmeasured>,
    /// All settings beside what runs now.
    pub search: bench::Report,
    /// What runs now and the setting that may be better, measured anew.
    pub confirmations: Vec<bench::Report>,
    /// What follows.
    pub advice: Advice,
}

/// One setting for people and programs. It has the names of `request_settings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointReport {
    /// Score threads.
    pub lanes: u32,
    /// Threads that take part in one run, of the widest lane.
    pub threads_per_lane: u32,
    /// They spin while they wait.
    pub spin: bool,
    /// Most rows of one run; none leaves it to the engine.
    pub max_batch_size: Option<u32>,
    /// Answers a second.
    pub throughput_per_s: f64,
    /// That by what runs now answers, of the search; none of what runs now.
    pub ratio: Option<Ratio>,
    /// The median latency.
    pub p50_ms: f64,
    /// 99 of 100 are not slower.
    pub p99_ms: f64,
    /// Requests in all.
    pub requests: u64,
    /// It is what runs now.
    pub current: bool,
    /// It is what is recommended.
    pub chosen: bool,
}

impl Report {
    /// The setting that is to run: another one, or what runs now; none where the runs do not say.
    #[must_use]
    pub fn chosen(&self) -> Option<Setting> {
        match self.advice {
            Advice::Change { to, .. } => Some(self.settings[to]),
            Advice::Keep { .. } => Some(self.settings[0]),
            Advice::NothingKeeps { .. } | Advice::Unknown(_) => None,
        }
    }

    /// Every setting that was measured.
    #[must_use]
    pub fn points(&self) -> Vec<PointReport> {
        let Some(level) = self.search.levels.first() else {
            return Vec::new();
        };
        let chosen = self.chosen();
        let point = |(version, (setting, figures)): (usize, (&Setting, &bench::Figures))| {
            let mut own = level.comparisons.iter();
            let found = own.find(|one| one.version == version && one.metric == Metric::Throughput);
            PointReport {
                lanes: setting.lanes,
                threads_per_lane: setting.threads(self.cores),
                spin: setting.spin,
                max_batch_size: setting.batch_size,
                throughput_per_s: figures.throughput_per_s.point,
                ratio: found.map(|one| one.ratio.clone()),
                p50_ms: figures.p50_ms,
                p99_ms: figures.p99_ms,
                requests: figures.requests,
                current: version == 0,
                chosen: chosen == Some(*setting),
            }
        };
        let all = self.settings.iter().zip(&level.figures);
        all.enumerate().map(point).collect()
    }

    /// The rule in words.
    #[must_use]
    pub fn rule(&self) -> String {
        match self.p99_max.0 {
            Some(limit) => format!(
                "the most answers a second whose p99 is at most {} ms",
                milliseconds(limit)
            ),
            None => "the most answers a second whose p99 is not longer than that of what runs now"
                .to_owned(),
        }
    }

    /// The name of what runs now: there is nothing else of a model that is not deployed.
    fn now(&self) -> &'static str {
        match self.is_default {
            true => "the defaults",
            false => "what runs now",
        }
    }

    /// The advice and its reason, in sentences.
    #[must_use]
    pub fn verdict(&self) -> String {
        let words = |version: usize| self.settings[version].words(self.cores);
        match &self.advice {
            Advice::Change { to, gains } => {
                let gains: Vec<_> = gains.iter().map(|gain| factor(*gain)).collect();
                format!(
                    "{}: {} the answers a second of {} ({}), on servers that were started anew for each run",
                    words(*to),
                    gains.join(" and "),
                    self.now(),
                    words(0)
                )
            }
            Advice::Keep { within } => self.kept(*within),
            Advice::NothingKeeps { nearest, p99_ms } => format!(
                "no setting keeps the target; nearest is {}: p99 {p99_ms:.3} ms",
                words(*nearest)
            ),
            Advice::Unknown(why) => format!("nothing is known: {why}"),
        }
    }

    fn kept(&self, within: Option<f64>) -> String {
        let now = self.now();
        let words = self.settings[0].words(self.cores);
        let others = u32::try_from(self.settings.len() - 1).unwrap_or(u32::MAX);
        match within {
            _ if others == 0 => format!("{words}: there is no other setting to try"),
            Some(within) => format!(
                "{now} are as good within {:.1} %: {words}; {} measured, and none is proven to be better",
                within * 100.0,
                match others {
                    1 => "one other was".to_owned(),
                    _ => format!("{others} others were"),
                }
            ),
            None => format!("{now} stay: {words}; there was too little time to tell others apart"),
        }
        .replace("what runs now are", "what runs now is")
        .replace("what runs now stay", "what runs now stays")
    }

    /// Warnings to be known before the advice is relied on.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.interrupted {
            warnings.push("interrupted: the figures are incomplete".to_owned());
        }
        let runs = std::iter::once(&self.search).chain(&self.confirmations);
        if runs
            .clone()
            .any(|run| run.verdict.outcomes.contains(&Outcome::Withheld))
        {
            warnings.push(format!(
                "{} differed from itself in a run: the machine is too unsteady to tell small differences",
                self.now()
            ));
        }
        if usize::try_from(self.cores).is_ok_and(|cores| cores < self.vcpus) {
            warnings.push(format!(
                "the instance asks for {} vCPUs and gets {} here: a larger machine may want other settings",
                self.vcpus, self.cores
            ));
        }
        // The same of several runs is told once, as the last one has it.
        let mut told = BTreeSet::new();
        let checks = self.confirmations.iter().rev().chain([&self.search]);
        let checks = checks.flat_map(|run| &run.checks);
        let doubts = checks.filter(|check| check.state == CheckState::Warning);
        let new = doubts.filter(|check| told.insert(check.name));
        warnings.extend(new.map(|check| check.words.clone()));
        warnings.extend(self.unmeasured.iter().map(|failed| {
            format!(
                "{} failed: {}",
                failed.setting.words(self.cores),
                failed.reason
            )
        }));
        warnings
    }

    /// The load in words.
    #[must_use]
    pub fn load(&self) -> String {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        format!("{} at once, over HTTP", counted(connections, "request"))
    }
}

/// A ratio with its interval: `1.31x [1.28, 1.34]`.
fn factor(estimate: Estimate) -> String {
    match estimate.low.zip(estimate.high) {
        Some((low, high)) => format!("{:.2}x [{low:.2}, {high:.2}]", estimate.point),
        None => format!("{:.2}x", estimate.point),
    }
}

/// In milliseconds, to a microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::Check;
    use crate::tune::choice::tests::{run, settings};

    pub(in crate::tune) fn report() -> Report {
        let gain = |point: f64| Estimate {
            point,
            low: Some(point - 0.03),
            high: Some(point + 0.03),
        };
        Report {
            is_default: true,
            p99_max: P99Max(None),
            vcpus: 2,
            cores: 2,
            connections: 8,
            batch_delay: Duration::ZERO,
            elapsed: Duration::from_secs(3),
            interrupted: false,
            settings: settings(),
            unmeasured: Vec::new(),
            search: run(&[0.9, 1.4], &[5.0; 3]),
            confirmations: vec![run(&[1.38], &[5.0; 2]), run(&[1.36], &[5.0; 2])],
            advice: Advice::Change {
                to: 2,
                gains: vec![gain(1.38), gain(1.36)],
            },
        }
    }

    #[test]
    fn the_verdict_names_the_setting_and_what_each_run_confirmed() {
        assert_eq!(
            report().verdict(),
            "1 lane x 2 threads, batches of at most 4: 1.38x [1.35, 1.41] and 1.36x [1.33, 1.39] the answers a second of the \
             defaults (2 lanes x 1 thread, batches as by default), on servers that were started anew for each run"
        );
    }

    #[test]
    fn where_nothing_is_better_the_verdict_says_how_much_is_left_open() {
        let mut report = report();
        report.advice = Advice::Keep {
            within: Some(0.034),
        };
        assert_eq!(
            report.verdict(),
            "the defaults are as good within 3.4 %: 2 lanes x 1 thread, batches as by default; 2 others were measured, and none \
             is proven to be better"
        );
        report.is_default = false;
        assert!(
            report
                .verdict()
                .starts_with("what runs now is as good within 3.4 %: ")
        );
        report.advice = Advice::Keep { within: None };
        assert!(report.verdict().starts_with("what runs now stays: "));
        report.settings.truncate(1);
        assert!(
            report
                .verdict()
                .ends_with("there is no other setting to try")
        );
    }

    #[test]
    fn without_advice_nothing_is_chosen_and_the_reason_is_told() {
        let mut report = report();
        report.advice = Advice::NothingKeeps {
            nearest: 1,
            p99_ms: 2.0,
        };
        assert_eq!(report.chosen(), None);
        assert_eq!(
            report.verdict(),
            "no setting keeps the target; nearest is 1 lane x 2 threads, batches as by default: p99 2.000 ms"
        );
        report.advice = Advice::Unknown("too little time".to_owned());
        assert_eq!(report.verdict(), "nothing is known: too little time");
        assert!(report.points().iter().all(|point| !point.chosen));
    }

    #[test]
    fn exactly_the_chosen_setting_and_what_runs_now_are_marked() {
        let marks = |report: &Report| {
            let points = report.points();
            let marks: Vec<_> = points
                .iter()
                .map(|point| (point.current, point.chosen))
                .collect();
            marks
        };
        let mut report = report();
        assert_eq!(
            marks(&report),
            [(true, false), (false, false), (false, true)]
        );
        assert!(report.points()[0].ratio.is_none() && report.points()[1].ratio.is_some());
        report.advice = Advice::Keep { within: None };
        assert_eq!(
            marks(&report),
            [(true, true), (false, false), (false, false)]
        );
    }

    #[test]
    fn everything_that_may_have_spoilt_the_figures_is_a_warning_and_told_once() {
        assert!(report().warnings().is_empty());
        let mut spoilt = report();
        spoilt.interrupted = true;
        spoilt.vcpus = 4;
        let check = |words: &str| Check {
            name: "machine",
            state: CheckState::Warning,
            words: words.to_owned(),
        };
        spoilt.search.checks.push(check("busy in the search"));
        spoilt.confirmations[1]
            .checks
            .push(check("busy at the end"));
        spoilt.confirmations[0].verdict.outcomes = vec![Outcome::Withheld];
        spoilt.unmeasured.push(Unmeasured {
            setting: settings()[2],
            reason: "no".to_owned(),
        });
        assert_eq!(
            spoilt.warnings(),
            [
                "interrupted: the figures are incomplete",
                "the defaults differed from itself in a run: the machine is too unsteady to tell small differences",
                "the instance asks for 4 vCPUs and gets 2 here: a larger machine may want other settings",
                "busy at the end",
                "1 lane x 2 threads, batches of at most 4 failed: no",
            ]
        );
    }
}

//! The outcome of a run of measurements: every point, the choice with its reason, and what may have spoilt it.
//!
//! Not here: how it is printed (`cli`) or drawn (`plot`).

use std::time::Duration;

use serde::Serialize;

use crate::observe::Others;
use crate::tune::choice::{Choice, Goal, Measured, Outcome, choose, milliseconds};
use crate::tune::grid::{Point, Setting, counted};

/// Share of the cores' time that other processes may use before the figures are doubted.
const BUSY_MAX: f64 = 0.10;
/// The same for time that the machine's host takes away.
const STOLEN_MAX: f64 = 0.02;
/// Fewer answers than these give no p99 to rely on.
const ANSWERS_FOR_A_P99: u64 = 100;

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
    /// The goal that the chosen setting must keep.
    pub goal: Goal,
    /// vCPUs that an instance asks for.
    pub vcpus: usize,
    /// Cores that it gets on this machine.
    pub cores: u32,
    /// Longest that a lane waited for more requests.
    pub batch_delay: Duration,
    /// The point that runs now.
    pub current: Option<Point>,
    /// The time that it took.
    pub elapsed: Duration,
    /// Whether somebody asked it to end early.
    pub interrupted: bool,
    /// Whether every point was measured as often as planned.
    pub complete: bool,
    /// Every point that has answers, in order of lanes, batch size and load.
    pub measured: Vec<Measured>,
    /// Settings that failed.
    pub unmeasured: Vec<Unmeasured>,
    /// Who else used the cores.
    pub others: Others,
}

/// One point for people and programs. The setting has the names of `request_settings`.
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
    /// Requests at once.
    pub max_concurrent_requests_per_instance: u32,
    /// Answers a second, the median of the repetitions.
    pub throughput_per_s: f64,
    /// The distance of a repetition from that, in percent.
    pub noise_percent: f64,
    /// The median latency.
    pub p50_ms: f64,
    /// 99 of 100 are not slower.
    pub p99_ms: f64,
    /// Times that it was measured.
    pub repetitions: usize,
    /// Answers in all.
    pub requests: u64,
    /// It is what runs now.
    pub current: bool,
    /// It is what is recommended.
    pub chosen: bool,
}

impl Report {
    /// The choice that is recommended; none when no point keeps the goal.
    #[must_use]
    pub fn choice(&self) -> Option<Choice> {
        choose(&self.measured, self.goal, self.current)
    }

    /// The recommended point.
    #[must_use]
    pub fn chosen(&self) -> Option<Point> {
        Some(self.measured[self.choice()?.index].point)
    }

    /// Every point.
    #[must_use]
    pub fn points(&self) -> Vec<PointReport> {
        let chosen = self.chosen();
        let point = |one: &Measured| {
            let Point { setting, clients } = one.point;
            PointReport {
                lanes: setting.lanes,
                threads_per_lane: setting.threads(self.cores),
                spin: setting.spin,
                max_batch_size: setting.batch_size,
                max_concurrent_requests_per_instance: clients,
                throughput_per_s: (one.throughput() * 10.0).round() / 10.0,
                noise_percent: (one.noise() * 1000.0).round() / 10.0,
                p50_ms: milliseconds(one.p50()),
                p99_ms: milliseconds(one.p99()),
                repetitions: one.repetitions.len(),
                requests: one.requests(),
                current: Some(one.point) == self.current,
                chosen: Some(one.point) == chosen,
            }
        };
        self.measured.iter().map(point).collect()
    }

    /// The choice and its reason, in sentences.
    #[must_use]
    pub fn verdict(&self) -> String {
        let Some(choice) = self.choice() else {
            return self.nothing_keeps_the_goal();
        };
        let chosen = &self.measured[choice.index];
        let what = self.words(chosen.point);
        let figures = format!(
            "{:.0} requests a second, p99 {} ms",
            chosen.throughput(),
            milliseconds(chosen.p99())
        );
        let reason = match choice.outcome {
            Outcome::Current => "it runs now, and nothing is faster beyond the noise".to_owned(),
            Outcome::Best => self
                .gain(chosen)
                .unwrap_or_else(|| "no other point within the limit is faster".to_owned()),
            Outcome::Simpler => {
                let noise = "faster points are so within the noise only, and this one is simpler";
                self.gain(chosen)
                    .map_or_else(|| noise.to_owned(), |gain| format!("{gain}; {noise}"))
            }
        };
        format!("{what}: {figures}; {reason}")
    }

    /// The gain of a point over what runs now.
    fn gain(&self, chosen: &Measured) -> Option<String> {
        let current = self
            .measured
            .iter()
            .find(|one| Some(one.point) == self.current)?;
        Some(format!(
            "{:.2} times the throughput of what runs now ({:.0} requests a second, p99 {} ms)",
            chosen.throughput() / current.throughput().max(f64::MIN_POSITIVE),
            current.throughput(),
            milliseconds(current.p99())
        ))
    }

    fn nothing_keeps_the_goal(&self) -> String {
        let quickest = self.measured.iter().min_by_key(|one| one.p99());
        quickest.map_or_else(
            || "nothing was measured".to_owned(),
            |quickest| {
                format!(
                    "no point keeps the target; nearest is {}: p99 {} ms",
                    self.words(quickest.point),
                    milliseconds(quickest.p99())
                )
            },
        )
    }

    /// A point in words: `2 lanes x 1 thread, batches of at most 4, 8 requests at once`.
    #[must_use]
    pub fn words(&self, point: Point) -> String {
        let Point { setting, clients } = point;
        format!(
            "{}, {} at once",
            setting.words(self.cores),
            counted(clients, "request")
        )
    }

    /// Warnings to be known before the figures are relied on.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.interrupted {
            warnings.push("interrupted: the figures are incomplete".to_owned());
        } else if !self.complete {
            warnings.push(
                "the time budget ended before all was measured as often as planned: a larger --budget-s is surer"
                    .to_owned(),
            );
        }
        if self.others.busy > BUSY_MAX {
            warnings.push(format!(
                "other processes used {:.0} % of the machine meanwhile: measure again when it is idle",
                self.others.busy * 100.0
            ));
        }
        if self.others.stolen > STOLEN_MAX {
            warnings.push(format!(
                "the machine's host took {:.0} % of its time away meanwhile (steal): figures of virtual machines vary",
                self.others.stolen * 100.0
            ));
        }
        if usize::try_from(self.cores).is_ok_and(|cores| cores < self.vcpus) {
            warnings.push(format!(
                "the instance asks for {} vCPUs and gets {} here: a larger machine may want other settings",
                self.vcpus, self.cores
            ));
        }
        if let Some(chosen) = self.choice().map(|choice| &self.measured[choice.index])
            && chosen.requests() < ANSWERS_FOR_A_P99
        {
            warnings.push(format!(
                "the p99 of the chosen point comes from {} only: a larger --budget-s is surer",
                counted(
                    u32::try_from(chosen.requests()).unwrap_or(u32::MAX),
                    "answer"
                )
            ));
        }
        warnings.extend(self.unmeasured.iter().map(|failed| {
            format!(
                "{} failed: {}",
                failed.setting.words(self.cores),
                failed.reason
            )
        }));
        warnings
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tune::choice::Repetition;

    fn point(lanes: u32, size: u32, clients: u32) -> Point {
        Point {
            setting: Setting {
                lanes,
                batch_size: Some(size),
                spin: false,
            },
            clients,
        }
    }

    fn measured(point: Point, throughput: f64, p99_ms: u64) -> Measured {
        let repetition = Repetition {
            requests: 500,
            throughput,
            p50: Duration::from_millis(p99_ms) / 2,
            p99: Duration::from_millis(p99_ms),
        };
        Measured {
            point,
            repetitions: vec![repetition; 3],
        }
    }

    pub(in crate::tune) fn report() -> Report {
        Report {
            goal: Goal::P99(Duration::from_millis(20)),
            vcpus: 2,
            cores: 2,
            batch_delay: Duration::ZERO,
            current: Some(point(1, 1, 1)),
            elapsed: Duration::from_secs(3),
            interrupted: false,
            complete: true,
            measured: vec![
                measured(point(1, 1, 1), 1000.0, 2),
                measured(point(2, 1, 2), 1900.0, 4),
                measured(point(2, 4, 8), 3000.0, 9),
                measured(point(2, 4, 16), 3500.0, 30),
            ],
            unmeasured: Vec::new(),
            others: Others::default(),
        }
    }

    #[test]
    fn the_verdict_names_the_setting_its_figures_and_the_gain() {
        assert_eq!(
            report().verdict(),
            "2 lanes x 1 thread, batches of at most 4, 8 requests at once: 3000 requests a second, p99 9 ms; 3.00 times the \
             throughput of what runs now (1000 requests a second, p99 2 ms)"
        );
    }

    #[test]
    fn words_and_rows_name_what_spins() {
        let mut report = report();
        let chosen = &mut report.measured[2].point;
        *chosen = point(1, 4, 8);
        chosen.setting.spin = true;
        let words = report.verdict();
        assert!(
            words.starts_with(
                "1 lane x 2 spinning threads, batches of at most 4, 8 requests at once: "
            ),
            "{words}"
        );
        let spin: Vec<_> = report.points().iter().map(|point| point.spin).collect();
        assert_eq!(spin, [false, false, true, false]);
    }

    #[test]
    fn where_nothing_is_faster_the_verdict_keeps_what_runs_now() {
        let mut report = report();
        report.measured.truncate(1);
        assert_eq!(
            report.verdict(),
            "1 lane x 2 threads, no batches, 1 request at once: 1000 requests a second, p99 2 ms; it runs now, and nothing is \
             faster beyond the noise"
        );
    }

    #[test]
    fn a_target_that_nothing_keeps_is_told_with_the_nearest_point() {
        let mut report = report();
        report.goal = Goal::P99(Duration::from_millis(1));
        assert_eq!(report.chosen(), None);
        assert_eq!(
            report.verdict(),
            "no point keeps the target; nearest is 1 lane x 2 threads, no batches, 1 request at once: p99 2 ms"
        );
        assert!(report.points().iter().all(|point| !point.chosen));
    }

    #[test]
    fn exactly_the_chosen_point_and_what_runs_now_are_marked() {
        let points = report().points();
        let marks: Vec<_> = points
            .iter()
            .map(|point| (point.current, point.chosen))
            .collect();
        assert_eq!(
            marks,
            [(true, false), (false, false), (false, true), (false, false)]
        );
        assert_eq!(points[0].threads_per_lane, 2);
    }

    #[test]
    fn everything_that_may_have_spoilt_the_figures_is_a_warning() {
        assert!(report().warnings().is_empty());
        let mut spoilt = report();
        spoilt.complete = false;
        spoilt.vcpus = 4;
        spoilt.others = Others {
            busy: 0.3,
            stolen: 0.05,
        };
        spoilt.unmeasured.push(Unmeasured {
            setting: point(2, 8, 1).setting,
            reason: "no".to_owned(),
        });
        for one in &mut spoilt.measured {
            one.repetitions[0].requests = 1;
            one.repetitions.truncate(1);
        }
        assert_eq!(
            spoilt.warnings(),
            [
                "the time budget ended before all was measured as often as planned: a larger --budget-s is surer",
                "other processes used 30 % of the machine meanwhile: measure again when it is idle",
                "the machine's host took 5 % of its time away meanwhile (steal): figures of virtual machines vary",
                "the instance asks for 4 vCPUs and gets 2 here: a larger machine may want other settings",
                "the p99 of the chosen point comes from 1 answer only: a larger --budget-s is surer",
                "2 lanes x 1 thread, batches of at most 8 failed: no",
            ]
        );
        spoilt.interrupted = true;
        assert_eq!(
            spoilt.warnings()[0],
            "interrupted: the figures are incomplete"
        );
    }
}

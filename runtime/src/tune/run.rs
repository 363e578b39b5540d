//! Spends a time budget on measuring: first a look at every setting that may be worth it, then repetitions of those that may
//! win, in turn, so that what the machine does meanwhile meets all of them.
//!
//! One setting runs at a time, on the cores that an instance would get. What a setting costs beside its measurements (loading
//! the model, stopping) counts against the budget.
//!
//! Threads: [`Tune::run`] blocks its caller; the clients have threads of their own.
//! Not here: how one window is measured (`measure`), which point is best (`choice`), words (`report`, `cli`).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::app::edge_threads;
use crate::budget::{Budget, Over};
use crate::config::{CONCURRENCY_MAX, REQUEST_TIMEOUT_MAX};
use crate::embedded::{Deployment, Endpoint, Error, ScoreError, Serin};
use crate::engine::{Pinning, Topology};
use crate::observe::CpuTimes;
use crate::spec::ProgramSettings;
use crate::tune::choice::{Goal, Measured, Repetition, choose};
use crate::tune::edge::Edge;
use crate::tune::grid::{Point, Scan, Setting, clients, divisors, more_clients};
use crate::tune::measure::{Window, measure};
use crate::tune::report::{Report, Unmeasured};

/// Endpoint and deployment within this process.
const NAMES: (&str, &str) = ("tune", "candidate");
/// Windows that a budget is made for, by numbers of lanes: a look at some five batch sizes under three loads, a second look, and
/// the repetitions.
const WINDOWS: u32 = 50;
/// Shortest window: enough answers of a fast model for a p99.
const WINDOW_MIN: Duration = Duration::from_millis(40);
/// Longest window: what is steady for so long is steady.
const WINDOW_MAX: Duration = Duration::from_secs(1);
/// Measurements of a point that may win, at most.
const REPETITIONS_MAX: usize = 5;
/// Points that are repeated, beside what runs now and the fastest to answer.
const FINALISTS: usize = 8;
/// Every point is measured a second time when the first look took at most this share of the budget.
const SECOND_LOOK_SHARE: f64 = 0.4;
/// Doublings of the load beyond what every setting is measured under, at most.
const RISES_MAX: u32 = 4;
/// Throughput of a point that may win, in that of the best.
const NEAR: f64 = 0.8;
/// The p99 of a point that may win, in the longest that is allowed.
const NEAR_LIMIT: f64 = 1.5;

/// The model that is tuned for, and the cores that an instance of it asks for.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The ONNX file.
    pub model: PathBuf,
    /// The request that every client sends; the model has answered it before.
    pub body: Bytes,
    /// vCPUs of the instance.
    pub vcpus: usize,
    /// The point that runs now: measured too, and kept unless something is better beyond the noise.
    pub current: Option<Point>,
    /// Longest that a lane waits for more requests, as it is now. Not varied.
    pub batch_delay: Duration,
    /// An instance has its cores to itself, so that its threads may spin.
    pub may_spin: bool,
}

/// A run that is to be done.
#[derive(Debug, Clone)]
pub struct Tune {
    /// The model and the cores.
    pub subject: Subject,
    /// The goal that the chosen setting must keep.
    pub goal: Goal,
    /// The time that all may take.
    pub budget: Duration,
}

/// A step of the way.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A setting was looked at: its best point. So many more are known to be worth it.
    Looked {
        /// The setting.
        setting: Setting,
        /// Its point with the highest throughput.
        best: &'a Measured,
        /// Settings that wait.
        waiting: usize,
    },
    /// A setting failed and is left out.
    Failed {
        /// The setting.
        setting: Setting,
        /// Why.
        reason: &'a str,
    },
    /// The points that may win are measured again.
    Repeating {
        /// This round.
        round: usize,
        /// Rounds if the time suffices.
        rounds: usize,
        /// Points of a round.
        points: usize,
    },
}

/// The reason why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The model does not start in this process.
    #[error(transparent)]
    Start(#[from] Error),
    /// The model did not answer.
    #[error("the model did not answer its request: {0}")]
    Unserved(#[from] ScoreError),
    /// The budget was over before the first answers.
    #[error(
        "nothing was measured within {}: give more time with --budget-s",
        .0.as_secs_f64()
    )]
    NoTime(Duration),
    /// It was asked to stop before anything was measured.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// A runtime or its threads could not be made.
    #[error("cannot start threads: {0}")]
    Threads(#[source] std::io::Error),
}

/// The loads that a setting is measured under.
#[derive(Debug)]
struct Loads {
    /// These, in this order.
    at_least: Vec<u32>,
    /// Then twice the last one, and so on, as long as that pays.
    rise: bool,
}

impl Loads {
    fn these(clients: &[u32]) -> Self {
        Self {
            at_least: clients.to_vec(),
            rise: false,
        }
    }

    fn rising(clients: &[u32]) -> Self {
        Self {
            rise: true,
            ..Self::these(clients)
        }
    }

    /// The most clients that there may be.
    fn most(&self) -> u32 {
        let most = self.at_least.iter().copied().max().unwrap_or(1);
        let risen = if self.rise { most << RISES_MAX } else { most };
        risen.clamp(1, CONCURRENCY_MAX)
    }
}

impl Tune {
    /// Cores that an instance gets on this machine.
    #[must_use]
    pub fn cores(&self) -> u32 {
        let given = Topology::read().len().min(self.subject.vcpus).max(1);
        u32::try_from(given).unwrap_or(u32::MAX)
    }

    /// Measures until all is measured, the budget is over or `stop` becomes true; then tells what there is. Blocks the calling
    /// thread, which must not be one of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TuneError`] when there is nothing to tell.
    pub fn run(
        &self,
        stop: watch::Receiver<bool>,
        mut progress: impl FnMut(&Progress<'_>),
    ) -> Result<Report, TuneError> {
        let mut bench = Bench::new(self, stop)?;
        let before = CpuTimes::read();
        let complete = match bench.look(&mut progress) {
            Ok(()) => bench.repeat(self.goal, &mut progress).is_ok(),
            Err(Over::Time | Over::Stop) => false,
        };
        if bench.measured.is_empty() {
            return Err(match bench.first_error.take() {
                Some(error) => error,
                None if bench.budget.is_stopped() => TuneError::Interrupted,
                None => TuneError::NoTime(self.budget),
            });
        }
        let others = CpuTimes::read()
            .zip(before)
            .map(|(after, before)| after.others_since(&before))
            .unwrap_or_default();
        Ok(Report {
            goal: self.goal,
            vcpus: self.subject.vcpus,
            cores: bench.cores,
            batch_delay: self.subject.batch_delay,
            current: self.subject.current,
            elapsed: bench.budget.elapsed(),
            interrupted: bench.budget.is_stopped(),
            complete,
            measured: bench.measured.into_values().collect(),
            unmeasured: bench.unmeasured,
            others,
        })
    }
}

/// One run: what it measures with, and what it has measured.
struct Bench<'a> {
    tune: &'a Tune,
    serin: Serin,
    edge: Edge,
    budget: Budget,
    window: Duration,
    /// Cores that an instance gets.
    cores: u32,
    /// The time that a setting took beside its windows, the longest so far.
    overhead: Duration,
    measured: BTreeMap<Point, Measured>,
    unmeasured: Vec<Unmeasured>,
    first_error: Option<TuneError>,
}

impl<'a> Bench<'a> {
    fn new(tune: &'a Tune, stop: watch::Receiver<bool>) -> Result<Self, TuneError> {
        let threads = edge_threads(Topology::read().len());
        let lanes = u32::try_from(divisors(tune.cores()).len()).unwrap_or(u32::MAX);
        Ok(Self {
            tune,
            budget: Budget::start(tune.budget, stop).map_err(TuneError::Threads)?,
            serin: Serin::builder().pinning(Pinning::On).build()?,
            edge: Edge::start(threads).map_err(TuneError::Threads)?,
            window: (tune.budget / (WINDOWS * lanes)).clamp(WINDOW_MIN, WINDOW_MAX),
            cores: tune.cores(),
            overhead: Duration::ZERO,
            measured: BTreeMap::new(),
            unmeasured: Vec::new(),
            first_error: None,
        })
    }

    /// Measures what runs now and every setting that may be worth it, once; then the best of them with threads that spin.
    fn look(&mut self, progress: &mut impl FnMut(&Progress<'_>)) -> Result<(), Over> {
        if let Some(current) = self.tune.subject.current {
            self.look_at(current.setting, &Loads::these(&[current.clients]), progress)?;
        }
        let mut scan = Scan::new(self.cores);
        while let Some(setting) = scan.next() {
            let best = self.look_at(setting, &Loads::rising(&clients(setting)), progress)?;
            scan.learn(setting, best.unwrap_or(0.0));
            self.tell_best_of(setting, scan.waiting(), progress);
        }
        if self.tune.subject.may_spin {
            let measured: Vec<_> = self.measured.values().cloned().collect();
            let mut spinning = worth_spinning(&measured, self.tune.goal, self.cores).into_iter();
            while let Some(setting) = spinning.next() {
                self.look_at(setting, &Loads::rising(&clients(setting)), progress)?;
                self.tell_best_of(setting, spinning.len(), progress);
            }
        }
        Ok(())
    }

    fn tell_best_of(
        &self,
        setting: Setting,
        waiting: usize,
        progress: &mut impl FnMut(&Progress<'_>),
    ) {
        if let Some(best) = self.best_of(setting) {
            progress(&Progress::Looked {
                setting,
                best,
                waiting,
            });
        }
    }

    /// Measures a setting once; its best throughput, none when it failed.
    fn look_at(
        &mut self,
        setting: Setting,
        loads: &Loads,
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<Option<f64>, Over> {
        match self.visit(setting, loads) {
            Ok(ended) => {
                ended?;
                Ok(self.best_of(setting).map(Measured::throughput))
            }
            Err(error) => {
                let reason = error.to_string();
                progress(&Progress::Failed {
                    setting,
                    reason: &reason,
                });
                self.unmeasured.push(Unmeasured { setting, reason });
                self.first_error.get_or_insert(error);
                Ok(None)
            }
        }
    }

    fn best_of(&self, setting: Setting) -> Option<&Measured> {
        let points = self.measured.values();
        points
            .filter(|one| one.point.setting == setting)
            .max_by(|one, other| one.throughput().total_cmp(&other.throughput()))
    }

    /// Measures points again, round by round, each round in the other direction: all of them once, and then those that may win.
    fn repeat(&mut self, goal: Goal, progress: &mut impl FnMut(&Progress<'_>)) -> Result<(), Over> {
        let all = self.budget.elapsed() < self.tune.budget.mul_f64(SECOND_LOOK_SHARE);
        for round in 2..=REPETITIONS_MAX {
            let points = if all && round == 2 {
                self.measured.keys().copied().collect()
            } else {
                let measured: Vec<_> = self.measured.values().cloned().collect();
                finalists(&measured, goal, self.tune.subject.current)
            };
            progress(&Progress::Repeating {
                round,
                rounds: REPETITIONS_MAX,
                points: points.len(),
            });
            let mut visits = by_setting(&points);
            if round % 2 == 0 {
                visits.reverse();
            }
            for (setting, clients) in visits {
                match self.visit(setting, &Loads::these(&clients)) {
                    Ok(ended) => ended?,
                    // It worked before; what was measured then stands.
                    Err(error) => tracing::debug!(%error, "a setting failed when it was repeated"),
                }
            }
        }
        Ok(())
    }

    /// Starts a setting, measures it under each load, and stops it.
    fn visit(&mut self, setting: Setting, loads: &Loads) -> Result<Result<(), Over>, TuneError> {
        if let Err(ended) = self.goes_on(self.overhead) {
            return Ok(Err(ended));
        }
        let began = Instant::now();
        let endpoint = Arc::new(self.start(setting, loads.most())?);
        let starting = began.elapsed();
        let outcome = self.measure_all(&endpoint, setting, loads);
        let stopping = Instant::now();
        // Every client has ended, so this is the last owner: the instance stops here, on this thread.
        drop(endpoint);
        self.overhead = self.overhead.max(starting + stopping.elapsed());
        outcome
    }

    /// Measures a setting that runs under each load.
    fn measure_all(
        &mut self,
        endpoint: &Arc<Endpoint>,
        setting: Setting,
        loads: &Loads,
    ) -> Result<Result<(), Over>, TuneError> {
        let mut waiting: VecDeque<u32> = loads.at_least.iter().copied().collect();
        let mut before = 0.0;
        while let Some(clients) = waiting.pop_front() {
            if let Err(ended) = self.goes_on(Duration::ZERO) {
                return Ok(Err(ended));
            }
            let Some(repetition) = self.measure(endpoint, clients)? else {
                // The time was over, or it was asked to stop; the next look says which.
                continue;
            };
            self.record(Point { setting, clients }, repetition);
            if loads.rise && waiting.is_empty() {
                let more = more_clients(clients, before, repetition.throughput);
                waiting.extend(more.filter(|more| *more <= loads.most()));
            }
            before = repetition.throughput;
        }
        Ok(Ok(()))
    }

    fn start(&self, setting: Setting, clients_max: u32) -> Result<Endpoint, TuneError> {
        let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let settings = ProgramSettings {
            vcpus: self.tune.subject.vcpus,
            max_concurrent_requests_per_instance: number(clients_max),
            lanes: Some(number(setting.lanes)),
            batch_size_max: setting.batch_size.map(number),
            batch_delay: self.tune.subject.batch_delay,
            spin: setting.spin,
            request_timeout: Some(REQUEST_TIMEOUT_MAX),
            ..ProgramSettings::default()
        };
        let (endpoint, deployment) = NAMES;
        let endpoint = self.serin.endpoint(endpoint);
        Ok(endpoint
            .deployment(
                deployment,
                Deployment::new(&self.tune.subject.model)
                    .with_settings(settings)
                    .sample_request(self.tune.subject.body.clone()),
            )
            .start_blocking()?)
    }

    fn measure(
        &self,
        endpoint: &Arc<Endpoint>,
        clients: u32,
    ) -> Result<Option<Repetition>, ScoreError> {
        let window = Window {
            clients,
            time: self.window,
        };
        let body = &self.tune.subject.body;
        let measured = |cut| measure(&self.edge, endpoint, body, window, cut);
        self.budget.wait(measured)
    }

    fn record(&mut self, point: Point, repetition: Repetition) {
        let measured = self.measured.entry(point).or_insert(Measured {
            point,
            repetitions: Vec::new(),
        });
        measured.repetitions.push(repetition);
    }

    /// Whether there is time for a window and what else it takes.
    fn goes_on(&self, overhead: Duration) -> Result<(), Over> {
        // Of the first window more is let go than none: without it there is nothing to tell.
        match self.measured.is_empty() {
            true if self.budget.is_stopped() => Err(Over::Stop),
            true => Ok(()),
            false => self.budget.has(overhead + self.window),
        }
    }
}

/// The loads of each setting, so that one start serves them all.
fn by_setting(points: &[Point]) -> Vec<(Setting, Vec<u32>)> {
    let mut loads: BTreeMap<Setting, Vec<u32>> = BTreeMap::new();
    for point in points {
        loads.entry(point.setting).or_default().push(point.clients);
    }
    loads.into_iter().collect()
}

/// The settings that are worth a look with threads that spin: of each number of lanes that have several threads, the setting that is best
/// without, or nearest to the target.
fn worth_spinning(measured: &[Measured], goal: Goal, cores: u32) -> Vec<Setting> {
    let best_of = |lanes: u32| {
        let these = |one: &&Measured| {
            let setting = one.point.setting;
            setting.lanes == lanes && setting.threads(cores) > 1 && !setting.spin
        };
        let these: Vec<_> = measured.iter().filter(these).cloned().collect();
        let best = choose(&these, goal, None).map(|choice| &these[choice.index]);
        let best = best.or_else(|| these.iter().min_by_key(|one| one.p99()))?;
        Some(Setting {
            spin: true,
            ..best.point.setting
        })
    };
    divisors(cores).into_iter().filter_map(best_of).collect()
}

/// The points that may win, what runs now, and the fastest to answer, for the knee is judged by it. And the first of them without
/// batches and without spinning under the same load, so that a batch that wins does so by batching and not by the load.
fn finalists(measured: &[Measured], goal: Goal, current: Option<Point>) -> Vec<Point> {
    let Some(limit) = goal.p99_max(measured) else {
        return Vec::new();
    };
    let near = |one: &&Measured| one.p99() <= limit.mul_f64(NEAR_LIMIT);
    let best = measured
        .iter()
        .filter(near)
        .map(Measured::throughput)
        .fold(0.0, f64::max);
    let mut may_win: Vec<&Measured> = measured
        .iter()
        .filter(near)
        .filter(|one| one.throughput() >= best * NEAR)
        .collect();
    may_win.sort_by(|one, other| other.throughput().total_cmp(&one.throughput()));
    let quickest = measured.iter().min_by_key(|one| one.p99());
    let first = may_win.first().map(|one| one.point);
    let plainer = first.into_iter().flat_map(|point| {
        let (setting, batch_size, spin) = (point.setting, Some(1), false);
        let unbatched = Setting {
            batch_size,
            ..setting
        };
        [unbatched, Setting { spin, ..setting }].map(|setting| Point { setting, ..point })
    });
    let mut points: Vec<Point> = may_win
        .into_iter()
        .take(FINALISTS)
        .chain(quickest)
        .map(|one| one.point)
        .chain(current)
        .chain(plainer)
        .collect();
    points.sort_unstable();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn digits() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx")
    }

    fn tune(budget: Duration) -> Tune {
        Tune {
            subject: Subject {
                model: digits(),
                body: format!("{{\"data\": [{:?}]}}", [0; 64]).into(),
                vcpus: 2,
                current: Some(Point {
                    setting: Setting {
                        lanes: 1,
                        batch_size: None,
                        spin: false,
                    },
                    clients: 3,
                }),
                batch_delay: Duration::ZERO,
                may_spin: true,
            },
            goal: Goal::Knee,
            budget,
        }
    }

    #[test]
    fn every_number_of_lanes_spinning_too_and_what_runs_now_are_measured() {
        let (_never, stop) = watch::channel(false);
        let tune = tune(Duration::from_secs(600));
        let mut bench = Bench::new(&tune, stop).unwrap();
        // The budget is for a machine that stands still; what is measured does not depend on it.
        bench.window = WINDOW_MIN;
        let mut looked = Vec::new();
        let outcome = bench.look(&mut |progress| {
            if let Progress::Looked { setting, .. } = progress {
                looked.push(*setting);
            }
        });
        assert!(outcome.is_ok());
        let (spinning, still): (Vec<_>, Vec<_>) = looked.into_iter().partition(|one| one.spin);
        let unbatched = still.iter().filter(|one| one.batch_size == Some(1));
        let lanes: Vec<_> = unbatched.map(|one| one.lanes).collect();
        assert_eq!(lanes, divisors(tune.cores()));
        let lanes: Vec<_> = spinning.iter().map(|one| one.lanes).collect();
        let several = |lanes: &u32| tune.cores() / lanes > 1;
        let expected: Vec<_> = divisors(tune.cores()).into_iter().filter(several).collect();
        assert_eq!(lanes, expected);
        assert!(bench.measured.contains_key(&tune.subject.current.unwrap()));
        for one in bench.measured.values() {
            assert!(one.requests() > 0 && one.p50() <= one.p99(), "{one:?}");
        }
    }

    #[test]
    fn nothing_spins_on_cores_that_are_shared() {
        let (_never, stop) = watch::channel(false);
        let mut tune = tune(Duration::from_secs(600));
        tune.subject.may_spin = false;
        let mut bench = Bench::new(&tune, stop).unwrap();
        bench.window = WINDOW_MIN;
        assert!(bench.look(&mut |_| {}).is_ok());
        assert!(bench.measured.keys().all(|point| !point.setting.spin));
    }

    #[test]
    fn a_run_ends_with_a_choice_of_what_it_measured() {
        let (_never, stop) = watch::channel(false);
        let report = tune(Duration::from_secs(1)).run(stop, |_| {}).unwrap();
        assert!(!report.interrupted);
        let chosen = report.chosen().expect("there is always a knee");
        assert!(report.measured.iter().any(|one| one.point == chosen));
    }

    #[test]
    fn an_instance_has_room_for_every_load_that_it_may_be_measured_under() {
        assert_eq!(Loads::these(&[3, 8]).most(), 8);
        assert_eq!(Loads::rising(&[2, 4]).most(), 64);
        assert_eq!(Loads::rising(&[512, 1024]).most(), CONCURRENCY_MAX);
    }

    #[test]
    fn a_stop_ends_it_with_what_was_measured_so_far() {
        let (ask, stop) = watch::channel(false);
        let report = tune(Duration::from_secs(600))
            .run(stop, |_| {
                ask.send_replace(true);
            })
            .unwrap();
        assert!(report.interrupted && !report.complete);
        assert!(!report.measured.is_empty());
    }

    #[test]
    fn stopped_before_the_first_answer_it_says_so() {
        let (_ask, stop) = watch::channel(true);
        let error = tune(Duration::from_secs(600))
            .run(stop, |_| {})
            .unwrap_err();
        assert!(matches!(error, TuneError::Interrupted), "{error}");
    }

    #[test]
    fn a_model_that_refuses_the_request_is_told_about() {
        let (_never, stop) = watch::channel(false);
        let mut tune = tune(Duration::from_secs(600));
        tune.subject.body = Bytes::from_static(b"{\"data\": [[1]]}");
        let error = tune.run(stop, |_| {}).unwrap_err().to_string();
        assert!(error.contains("shape [-1, 64]"), "{error}");
    }

    #[test]
    fn those_near_the_best_what_runs_now_and_the_quickest_are_repeated() {
        let measured = |clients, throughput, p99_ms| Measured {
            point: Point {
                setting: Setting {
                    lanes: 1,
                    batch_size: Some(1),
                    spin: false,
                },
                clients,
            },
            repetitions: vec![Repetition {
                requests: 1,
                throughput,
                p50: Duration::ZERO,
                p99: Duration::from_millis(p99_ms),
            }],
        };
        let points = [
            measured(1, 10.0, 1),
            measured(2, 95.0, 9),
            measured(3, 100.0, 10),
            measured(4, 500.0, 100),
            measured(5, 20.0, 9),
            measured(6, 30.0, 9),
        ];
        let goal = Goal::P99(Duration::from_millis(10));
        let repeated = finalists(&points, goal, Some(points[4].point));
        let clients: Vec<_> = repeated.iter().map(|point| point.clients).collect();
        assert_eq!(clients, [1, 2, 3, 5]);
    }

    #[test]
    fn the_best_of_each_number_of_lanes_with_several_threads_is_tried_spinning() {
        let setting = |lanes, size, spin| Setting {
            lanes,
            batch_size: Some(size),
            spin,
        };
        let measured = |setting, throughput, p99_ms| Measured {
            point: Point {
                setting,
                clients: 4,
            },
            repetitions: vec![Repetition {
                requests: 1,
                throughput,
                p50: Duration::ZERO,
                p99: Duration::from_millis(p99_ms),
            }],
        };
        let points = [
            measured(setting(1, 1, false), 100.0, 5),
            measured(setting(1, 2, false), 200.0, 9),
            measured(setting(1, 4, false), 300.0, 11),
            measured(setting(1, 8, true), 900.0, 1),
            measured(setting(2, 1, false), 200.0, 12),
            measured(setting(2, 2, false), 300.0, 13),
            measured(setting(4, 1, false), 500.0, 5),
        ];
        let goal = Goal::P99(Duration::from_millis(10));
        assert_eq!(
            worth_spinning(&points, goal, 4),
            [setting(1, 2, true), setting(2, 1, true)],
            "nothing of two lanes keeps the target: the nearest"
        );
    }

    #[test]
    fn a_leader_is_compared_with_none_of_its_batches_and_spinning_under_the_same_load() {
        let point = |size, spin| Point {
            setting: Setting {
                lanes: 2,
                batch_size: Some(size),
                spin,
            },
            clients: 16,
        };
        let measured = |point| Measured {
            point,
            repetitions: vec![Repetition {
                requests: 1,
                throughput: 1.0,
                p50: Duration::ZERO,
                p99: Duration::from_millis(1),
            }],
        };
        assert_eq!(
            finalists(&[measured(point(8, false))], Goal::Knee, None),
            [point(1, false), point(8, false)]
        );
        assert_eq!(
            finalists(&[measured(point(8, true))], Goal::Knee, None),
            [point(1, true), point(8, false), point(8, true)]
        );
    }
}

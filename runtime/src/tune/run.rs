//! Spends a time budget on measuring: first a look at every setting that may be worth it, then repetitions of those that may
//! win, in turn, so that what the machine does meanwhile meets all of them.
//!
//! One setting runs at a time, on the cores that an instance would get. What a setting costs beside its measurements (loading
//! the model, stopping) counts against the budget.
//!
//! Threads: [`Tune::run`] blocks its caller; the clients are tasks of a runtime of its own.
//! Not here: how one window is measured (`measure`), which point is best (`choice`), words (`report`, `cli`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::app::{DeploymentSettings, Embedded, EmbeddedEndpoint, EmbeddedError};
use crate::config::{CONCURRENCY_MAX, EDGE_THREADS_MAX, REQUEST_TIMEOUT_MAX};
use crate::engine::{BatchSettings, Topology};
use crate::router::Unserved;
use crate::tune::choice::{Goal, Measured, Repetition};
use crate::tune::grid::{Point, Scan, Setting, clients};
use crate::tune::machine::CpuTimes;
use crate::tune::measure::{Window, measure};
use crate::tune::report::{Report, Unmeasured};

/// Endpoint and deployment within this process.
const NAMES: (&str, &str) = ("tune", "candidate");
/// Windows that a budget is made for: a look at some 15 settings under three loads, and the repetitions.
const WINDOWS: u32 = 200;
/// Shortest window: enough answers of a fast model for a p99.
const WINDOW_MIN: Duration = Duration::from_millis(40);
/// Longest window: what is steady for so long is steady.
const WINDOW_MAX: Duration = Duration::from_millis(500);
/// Measurements of a point that may win, at most.
const REPETITIONS_MAX: usize = 5;
/// Points that are repeated, beside what runs now and the fastest to answer.
const FINALISTS: usize = 8;
/// Throughput of a point that may win, in that of the best.
const NEAR: f64 = 0.85;
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
    /// What runs now: measured too, and kept unless something is better beyond the noise.
    pub current: Option<Point>,
    /// Longest that a lane waits for more requests, as it is now. Not varied.
    pub batch_delay: Duration,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Tune {
    /// The model and the cores.
    pub subject: Subject,
    /// What the chosen setting must keep.
    pub goal: Goal,
    /// How long all may take.
    pub budget: Duration,
}

/// How far it has come.
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

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The model does not start in this process.
    #[error(transparent)]
    Start(#[from] EmbeddedError),
    /// The model did not answer.
    #[error("the model did not answer its request: {0}")]
    Unserved(#[from] Unserved),
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

/// What ends a setting's measurements early.
enum Ended {
    /// The budget is over.
    Time,
    /// The caller asked for it.
    Stop,
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
            Err(Ended::Time | Ended::Stop) => false,
        };
        if bench.measured.is_empty() {
            return Err(match bench.first_error.take() {
                Some(error) => error,
                None if bench.is_stopped() => TuneError::Interrupted,
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
            elapsed: bench.started.elapsed(),
            interrupted: bench.is_stopped(),
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
    serin: Embedded,
    runtime: Runtime,
    stop: watch::Receiver<bool>,
    started: Instant,
    until: Instant,
    window: Duration,
    /// Cores that an instance gets.
    cores: u32,
    /// What a setting took beside its windows, the longest so far.
    overhead: Duration,
    measured: BTreeMap<Point, Measured>,
    unmeasured: Vec<Unmeasured>,
    first_error: Option<TuneError>,
}

impl<'a> Bench<'a> {
    fn new(tune: &'a Tune, stop: watch::Receiver<bool>) -> Result<Self, TuneError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads((Topology::read().len() / 4).clamp(1, EDGE_THREADS_MAX))
            .thread_name("serin-clients")
            .enable_time()
            .build()
            .map_err(TuneError::Threads)?;
        let started = Instant::now();
        Ok(Self {
            tune,
            serin: Embedded::builder().build()?,
            runtime,
            stop,
            started,
            until: started + tune.budget,
            window: (tune.budget / WINDOWS).clamp(WINDOW_MIN, WINDOW_MAX),
            cores: tune.cores(),
            overhead: Duration::ZERO,
            measured: BTreeMap::new(),
            unmeasured: Vec::new(),
            first_error: None,
        })
    }

    /// Measures what runs now and every setting that may be worth it, once.
    fn look(&mut self, progress: &mut impl FnMut(&Progress<'_>)) -> Result<(), Ended> {
        if let Some(current) = self.tune.subject.current {
            self.look_at(current.setting, &[current.clients], progress)?;
        }
        let mut scan = Scan::new(self.cores);
        while let Some(setting) = scan.next() {
            let best = self.look_at(setting, &clients(setting), progress)?;
            scan.learn(setting, best.unwrap_or(0.0));
            if let Some(best) = self.best_of(setting) {
                progress(&Progress::Looked {
                    setting,
                    best,
                    waiting: scan.waiting(),
                });
            }
        }
        Ok(())
    }

    /// Measures a setting once; its best throughput, none when it failed.
    fn look_at(
        &mut self,
        setting: Setting,
        clients: &[u32],
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<Option<f64>, Ended> {
        match self.visit(setting, clients) {
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

    /// Measures the points that may win again, round by round, each round in the other direction.
    fn repeat(
        &mut self,
        goal: Goal,
        progress: &mut impl FnMut(&Progress<'_>),
    ) -> Result<(), Ended> {
        let measured: Vec<_> = self.measured.values().cloned().collect();
        let points = finalists(&measured, goal, self.tune.subject.current);
        let mut by_setting: BTreeMap<Setting, Vec<u32>> = BTreeMap::new();
        for point in &points {
            by_setting
                .entry(point.setting)
                .or_default()
                .push(point.clients);
        }
        let mut order: Vec<_> = by_setting.into_iter().collect();
        for round in 2..=REPETITIONS_MAX {
            progress(&Progress::Repeating {
                round,
                rounds: REPETITIONS_MAX,
                points: points.len(),
            });
            for (setting, clients) in &order {
                match self.visit(*setting, clients) {
                    Ok(ended) => ended?,
                    // It worked before; what was measured then stands.
                    Err(error) => tracing::debug!(%error, "a setting failed when it was repeated"),
                }
            }
            order.reverse();
        }
        Ok(())
    }

    /// Starts a setting, measures it under each load, and stops it.
    fn visit(&mut self, setting: Setting, loads: &[u32]) -> Result<Result<(), Ended>, TuneError> {
        if let Err(ended) = self.goes_on(self.overhead) {
            return Ok(Err(ended));
        }
        let began = Instant::now();
        let endpoint = Arc::new(self.start(setting, loads)?);
        let mut windows = Duration::ZERO;
        let mut outcome = Ok(Ok(()));
        for clients in loads {
            if let Err(ended) = self.goes_on(Duration::ZERO) {
                outcome = Ok(Err(ended));
                break;
            }
            let point = Point {
                setting,
                clients: *clients,
            };
            let measuring = Instant::now();
            let repetition = self.measure(&endpoint, point.clients);
            windows += measuring.elapsed();
            match repetition {
                Ok(Some(repetition)) => self.record(point, repetition),
                Ok(None) => {}
                Err(error) => {
                    outcome = Err(error.into());
                    break;
                }
            }
        }
        // Every client has ended, so this is the last owner: the instance stops here, on this thread.
        drop(endpoint);
        self.overhead = self.overhead.max(began.elapsed().saturating_sub(windows));
        outcome
    }

    fn start(&self, setting: Setting, loads: &[u32]) -> Result<EmbeddedEndpoint, TuneError> {
        let concurrency = loads.iter().copied().max().unwrap_or(1);
        let settings = DeploymentSettings {
            vcpus: self.tune.subject.vcpus,
            max_concurrent_requests_per_instance: concurrency.clamp(1, CONCURRENCY_MAX),
            lanes: Some(setting.lanes),
            batch: BatchSettings {
                size_max: setting.batch_size,
                delay: self.tune.subject.batch_delay,
            },
            request_timeout: REQUEST_TIMEOUT_MAX,
            sample_request: Some(self.tune.subject.body.clone()),
            ..DeploymentSettings::default()
        };
        let (endpoint, deployment) = NAMES;
        let endpoint = self.serin.endpoint(endpoint);
        Ok(endpoint
            .deployment_with(deployment, &self.tune.subject.model, settings)
            .start()?)
    }

    fn measure(
        &self,
        endpoint: &Arc<EmbeddedEndpoint>,
        clients: u32,
    ) -> Result<Option<Repetition>, Unserved> {
        let window = Window {
            clients,
            time: self.window,
        };
        let (body, until) = (&self.tune.subject.body, self.until);
        let mut stop = self.stop.clone();
        self.runtime.block_on(async {
            let cut = async {
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = stopped(&mut stop) => {}
                }
            };
            measure(endpoint, body, window, cut).await
        })
    }

    fn record(&mut self, point: Point, repetition: Repetition) {
        let measured = self.measured.entry(point).or_insert(Measured {
            point,
            repetitions: Vec::new(),
        });
        measured.repetitions.push(repetition);
    }

    /// Whether there is time for a window and what else it takes.
    fn goes_on(&self, overhead: Duration) -> Result<(), Ended> {
        if self.is_stopped() {
            return Err(Ended::Stop);
        }
        // Of the first window more is let go than none: without it there is nothing to tell.
        if !self.measured.is_empty() && Instant::now() + overhead + self.window > self.until {
            return Err(Ended::Time);
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Ends when it is asked to; never when nobody can ask any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The points that may win, what runs now, and the fastest to answer, for the knee is judged by it.
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
    let mut points: Vec<Point> = may_win
        .into_iter()
        .take(FINALISTS)
        .chain(quickest)
        .map(|one| one.point)
        .chain(current)
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
                    },
                    clients: 3,
                }),
                batch_delay: Duration::ZERO,
            },
            goal: Goal::Knee,
            budget,
        }
    }

    #[test]
    fn every_number_of_lanes_and_what_runs_now_are_measured() {
        let (_never, stop) = watch::channel(false);
        let mut looked = Vec::new();
        let report = tune(Duration::from_secs(5))
            .run(stop, |progress| {
                if let Progress::Looked { setting, .. } = progress {
                    looked.push(*setting);
                }
            })
            .unwrap();
        let lanes: Vec<_> = looked
            .iter()
            .filter(|one| one.batch_size == Some(1))
            .map(|one| one.lanes)
            .collect();
        assert_eq!(lanes, crate::tune::divisors(report.cores));
        let points: Vec<_> = report.measured.iter().map(|one| one.point).collect();
        assert!(points.contains(&report.current.unwrap()), "{points:?}");
        assert!(!report.interrupted);
        for one in &report.measured {
            assert!(one.requests() > 0 && one.p50() <= one.p99(), "{one:?}");
        }
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
}

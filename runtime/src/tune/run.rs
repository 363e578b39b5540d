//! Spends a time budget: a search that compares all settings with what runs now, then runs of the one that may be better, beside what runs
//! now, on servers that are started anew for each.
//!
//! Servers that are started anew, because one process may be faster than another of the same settings for its whole life, by where its
//! memory and its threads came to lie.
//!
//! Threads: [`Tune::run`] blocks its caller; each block of a run has a thread that generates its load.
//! Not here: how servers are started (whoever calls), how they are compared (`crate::bench`), what follows (`choice`), words (`report`).

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::bench::{self, Bench, BenchError, Scenario, Subject};
use crate::evidence::Tolerance;
use crate::tune::choice::{Advice, Confirmation, P99Max, confirmed, contender, left_open};
use crate::tune::grid::Setting;
use crate::tune::report::{Report, Unmeasured};

/// The search's part of the budget.
const SEARCH_SHARE: f64 = 0.4;
/// Runs that must confirm what the search found.
const CONFIRMATIONS: u32 = 2;
/// Runs that may be done again because what runs now differed from itself: one of twenty does by chance.
const AGAIN_MAX: u32 = 1;
/// Shortest run.
const RUN_MIN: Duration = Duration::from_secs(1);
/// Longest that one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A run that is to be done.
#[derive(Debug, Clone)]
pub struct Tune {
    /// What runs now, then the settings that are tried beside it.
    pub settings: Vec<Setting>,
    /// What runs now is what runs where nothing is written.
    pub is_default: bool,
    /// Requests at once.
    pub connections: usize,
    /// The requests in words.
    pub inputs: String,
    /// The p99 that the setting must keep.
    pub p99_max: P99Max,
    /// The time that all may take.
    pub budget: Duration,
    /// vCPUs that an instance asks for.
    pub vcpus: usize,
    /// Cores that it gets.
    pub cores: u32,
    /// Longest that a lane waits for more requests, as it is now. Not varied.
    pub batch_delay: Duration,
    /// The version of ONNX Runtime.
    pub onnxruntime: String,
}

/// A server that runs with a setting, for as long as the value lives.
#[derive(Debug)]
pub struct Started<S> {
    /// Ends it when it is dropped.
    pub server: S,
    /// Where its requests go.
    pub subject: Subject,
}

/// A step of the way.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A server is started with this setting.
    Starting(Setting),
    /// A setting failed and is left out.
    Failed(Setting, &'a str),
    /// This setting may be better than what runs now, and is measured again: the number of the run, from 1, and of how many.
    Again(Setting, u32, u32),
    /// A step of a run.
    Bench(&'a bench::Progress<'a>),
}

/// The reason why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError<E: std::error::Error> {
    /// What runs now does not start here.
    #[error(transparent)]
    Start(E),
    /// Nothing was measured.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

impl Tune {
    /// Measures until it is known what to recommend, the budget is over or `stop` becomes true; then tells what there is. `start` starts a
    /// server with a setting. Blocks the calling thread, which must not be one of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TuneError`] when there is nothing to tell.
    pub fn run<S, E: std::error::Error>(
        &self,
        stop: &watch::Receiver<bool>,
        start: impl FnMut(Setting) -> Result<Started<S>, E>,
        progress: impl FnMut(&Progress<'_>),
    ) -> Result<Report, TuneError<E>> {
        let mut run = Run {
            tune: self,
            stop,
            start,
            progress,
            until: Instant::now() + self.budget,
        };
        run.everything()
    }

    fn bench(&self, subjects: Vec<Subject>, budget: Duration, seed: u64) -> Bench {
        Bench {
            subjects,
            inputs: self.inputs.clone(),
            scenario: Scenario::Closed,
            connections: vec![self.connections],
            warm_up_connections: self.connections,
            rates: Vec::new(),
            budget,
            target_half_width: None,
            min_difference: None,
            slo: None,
            seed,
            timeout: TIMEOUT,
            tolerance: Tolerance::default(),
            conditions: Vec::new(),
            onnxruntime: Some(self.onnxruntime.clone()),
        }
    }
}

/// One run: what it measures with.
struct Run<'a, Start, Tell> {
    tune: &'a Tune,
    stop: &'a watch::Receiver<bool>,
    start: Start,
    progress: Tell,
    until: Instant,
}

impl<S, E, Start, Tell> Run<'_, Start, Tell>
where
    E: std::error::Error,
    Start: FnMut(Setting) -> Result<Started<S>, E>,
    Tell: FnMut(&Progress<'_>),
{
    fn everything(&mut self) -> Result<Report, TuneError<E>> {
        let began = Instant::now();
        let mut settings = vec![self.tune.settings[0]];
        let mut unmeasured = Vec::new();
        let mut servers = vec![self.started(settings[0]).map_err(TuneError::Start)?];
        for setting in &self.tune.settings[1..] {
            if *self.stop.borrow() {
                return Err(BenchError::Interrupted.into());
            }
            match self.started(*setting) {
                Ok(server) => {
                    settings.push(*setting);
                    servers.push(server);
                }
                Err(error) => {
                    let reason = error.to_string();
                    (self.progress)(&Progress::Failed(*setting, &reason));
                    unmeasured.push(Unmeasured {
                        setting: *setting,
                        reason,
                    });
                }
            }
        }
        let search = self.measured(servers, self.left().mul_f64(SEARCH_SHARE), 1)?;
        let mut confirmations = Vec::new();
        let advice = match contender(&search, &settings, self.tune.p99_max) {
            Ok(to) => self.again(&search, (to, settings[to]), &mut confirmations)?,
            Err(advice) => advice,
        };
        Ok(Report {
            is_default: self.tune.is_default,
            p99_max: self.tune.p99_max,
            vcpus: self.tune.vcpus,
            cores: self.tune.cores,
            connections: self.tune.connections,
            batch_delay: self.tune.batch_delay,
            elapsed: began.elapsed(),
            interrupted: *self.stop.borrow(),
            settings,
            unmeasured,
            search,
            confirmations,
            advice,
        })
    }

    /// Measures what may be better beside what runs now until that is confirmed, or once is not.
    fn again(
        &mut self,
        search: &bench::Report,
        (to, setting): (usize, Setting),
        found: &mut Vec<bench::Report>,
    ) -> Result<Advice, TuneError<E>> {
        let mut gains = Vec::new();
        let mut again = AGAIN_MAX;
        for seed in 2.. {
            let number = u32::try_from(gains.len()).unwrap_or(u32::MAX) + 1;
            if number > CONFIRMATIONS {
                break;
            }
            (self.progress)(&Progress::Again(setting, number, CONFIRMATIONS));
            let now = self.tune.settings[0];
            let mut servers = Vec::new();
            for setting in [now, setting] {
                servers.push(self.started(setting).map_err(TuneError::Start)?);
            }
            let time = self.left() / (CONFIRMATIONS + 1 - number + again);
            let run = match self.measured(servers, time, seed) {
                Ok(run) => run,
                // What the search found is told all the same.
                Err(BenchError::Interrupted) => {
                    return Ok(Advice::Unknown("it was interrupted".to_owned()));
                }
                Err(error) => return Ok(Advice::Unknown(error.to_string())),
            };
            let said = confirmed(&run, self.tune.p99_max);
            found.push(run);
            match said {
                Confirmation::Better(gain) => gains.push(gain),
                Confirmation::Unsteady if again > 0 => again -= 1,
                Confirmation::Nothing(advice) => return Ok(advice),
                Confirmation::NotProven | Confirmation::Unsteady => {
                    return Ok(Advice::Keep {
                        within: left_open(search, found, Some(to)),
                    });
                }
            }
        }
        Ok(Advice::Change { to, gains })
    }

    fn started(&mut self, setting: Setting) -> Result<Started<S>, E> {
        (self.progress)(&Progress::Starting(setting));
        (self.start)(setting)
    }

    /// Compares servers, which end then.
    fn measured(
        &mut self,
        servers: Vec<Started<S>>,
        time: Duration,
        seed: u64,
    ) -> Result<bench::Report, BenchError> {
        let (_held, subjects): (Vec<S>, Vec<_>) = servers
            .into_iter()
            .map(|one| (one.server, one.subject))
            .unzip();
        let bench = self.tune.bench(subjects, time.max(RUN_MIN), seed);
        let progress = &mut self.progress;
        bench.run(self.stop.clone(), |step| progress(&Progress::Bench(step)))
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::sync::Arc;
    use std::thread;

    use bytes::Bytes;

    use super::*;
    use crate::bench::Version;
    use crate::bench::fake::server;
    use crate::load::Target;

    const NOW: Setting = Setting {
        lanes: 2,
        batch_size: None,
        spin: false,
    };
    const OTHER: Setting = Setting { lanes: 1, ..NOW };

    fn tune(budget: Duration) -> Tune {
        Tune {
            settings: vec![NOW, OTHER],
            is_default: true,
            connections: 1,
            inputs: "one".to_owned(),
            p99_max: P99Max(None),
            budget,
            vcpus: 2,
            cores: 2,
            batch_delay: Duration::ZERO,
            onnxruntime: "1".to_owned(),
        }
    }

    /// A server that takes so long for each request.
    fn taking(time: Duration) -> Started<()> {
        let (address, _) = server(move |body| {
            thread::sleep(time);
            Some(body.to_owned())
        });
        let inputs: Arc<[Bytes]> = vec![Bytes::from_static(b"1")].into();
        Started {
            server: (),
            subject: Subject {
                version: Version {
                    label: address.to_string(),
                    what: "fake".to_owned(),
                    model_sha256: None,
                    url: address.to_string(),
                    settings: None,
                },
                target: Target::new(address, "/score").unwrap(),
                inputs,
                process: None,
                timings: None,
            },
        }
    }

    fn never() -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    fn millis(setting: Setting, now: u64, other: u64) -> Duration {
        Duration::from_millis(if setting == NOW { now } else { other })
    }

    #[test]
    fn a_setting_that_is_twice_as_fast_is_recommended_after_two_more_runs_on_new_servers() {
        let starts = Cell::new(0);
        let start = |setting| {
            starts.set(starts.get() + 1);
            Ok::<_, io::Error>(taking(millis(setting, 10, 2)))
        };
        let tune = tune(Duration::from_secs(8));
        let report = tune.run(&never(), start, |_| {}).unwrap();
        let Advice::Change { to, gains } = &report.advice else {
            panic!("{:?}", report.advice);
        };
        // Two in the search and in each run beside it; one may have been done again.
        let runs = report.confirmations.len();
        assert_eq!((*to, gains.len(), starts.get()), (1, 2, 2 + 2 * runs));
        assert!((2..=3).contains(&runs));
        assert!(
            gains
                .iter()
                .all(|gain| gain.low.is_some_and(|low| low > 1.0))
        );
    }

    #[test]
    fn what_was_faster_in_the_search_alone_is_not_recommended() {
        let starts = Cell::new(0);
        // As one that lay well in memory, once.
        let start = |setting| {
            starts.set(starts.get() + 1);
            let other = if starts.get() <= 2 { 1 } else { 20 };
            Ok::<_, io::Error>(taking(millis(setting, 6, other)))
        };
        let report = tune(Duration::from_secs(5)).run(&never(), start, |_| {});
        let report = report.unwrap();
        assert!(
            matches!(report.advice, Advice::Keep { within: Some(_) }),
            "{:?}",
            report.advice
        );
        let runs = report.confirmations.len();
        assert_eq!(starts.get(), 2 + 2 * runs);
        assert!((1..=2).contains(&runs));
    }

    #[test]
    fn a_setting_that_does_not_start_is_left_out_and_named() {
        let start = |setting| match setting == NOW {
            true => Ok(taking(Duration::from_millis(1))),
            false => Err(io::Error::other("no such lanes")),
        };
        let report = tune(Duration::from_secs(2)).run(&never(), start, |_| {});
        let report = report.unwrap();
        assert_eq!(report.settings, [NOW]);
        assert_eq!(report.unmeasured[0].reason, "no such lanes");
        assert!(matches!(report.advice, Advice::Keep { .. }));
    }

    #[test]
    fn what_runs_now_must_start() {
        let start = |_| Err::<Started<()>, _>(io::Error::other("no model"));
        let error = tune(Duration::from_secs(2)).run(&never(), start, |_| {});
        assert_eq!(error.unwrap_err().to_string(), "no model");
    }

    #[test]
    fn a_stop_in_a_second_run_tells_what_the_search_found_and_gives_no_advice() {
        let (ask, stop) = watch::channel(false);
        let start = |setting| Ok::<_, io::Error>(taking(millis(setting, 10, 2)));
        let report = tune(Duration::from_secs(6)).run(&stop, start, |step| {
            if matches!(step, Progress::Again(..)) {
                ask.send_replace(true);
            }
        });
        let report = report.unwrap();
        assert!(report.interrupted);
        assert!(matches!(report.advice, Advice::Unknown(_)));
        assert_eq!(report.points().len(), 2);
    }

    #[test]
    fn stopped_before_the_first_answer_it_says_so() {
        let (_ask, stop) = watch::channel(true);
        let start = |_| Ok::<_, io::Error>(taking(Duration::ZERO));
        let error = tune(Duration::from_secs(600)).run(&stop, start, |_| {});
        assert!(matches!(
            error.unwrap_err(),
            TuneError::Bench(BenchError::Interrupted)
        ));
    }
}

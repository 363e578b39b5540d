//! The performance: each step's commands, then a look at the traffic, and at the end what it comes to.

use std::num::NonZeroU32;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::follow::{Follow, judge};
use super::screen::Screen;
use super::script::{ENDPOINT, End, Script, Step, Traffic, typed};
use super::stage::Stage;
use super::traffic::{Stream, Tally};
use crate::admin::Client;
use crate::cli::exit::CliError;
use crate::spec::EndpointName;

/// The time between two moves of the numbers on a terminal.
const TICK: Duration = Duration::from_millis(200);

/// The demo while it runs.
#[derive(Debug)]
pub(super) struct Play<'a> {
    stage: &'a Stage,
    screen: &'a Screen,
    interrupted: Arc<AtomicBool>,
    rate: NonZeroU32,
    stream: Option<Stream>,
    total: Tally,
}

impl<'a> Play<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        screen: &'a Screen,
        interrupted: Arc<AtomicBool>,
        rate: NonZeroU32,
    ) -> Self {
        Self {
            stage,
            screen,
            interrupted,
            rate,
            stream: None,
            total: Tally::default(),
        }
    }

    /// Plays all steps; with `keep` all but the last, so that there is something to go on with.
    pub(super) fn run(mut self, script: &Script, keep: bool) -> Result<(), CliError> {
        let started = Instant::now();
        let last = script.steps.len() - usize::from(keep);
        for step in &script.steps[..last] {
            self.step(step)?;
        }
        self.stop_traffic();
        self.screen.summary(&self.total, started.elapsed());
        let failures = match script.failing {
            Some(deployment) => self.total.failures_beside(deployment),
            None => self.total.failures(),
        };
        match self.total.first_failure().filter(|_| failures > 0) {
            None if self.total.requests() > 0 => Ok(()),
            None => Err(CliError::Demo("no request was answered".to_owned())),
            Some(failure) => Err(CliError::Demo(format!(
                "{failures} of {} requests failed; the first: {failure}",
                self.total.requests()
            ))),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), CliError> {
        self.screen.step(step.title);
        if step.traffic == Traffic::EndsBefore {
            self.stop_traffic();
        }
        for command in step.commands {
            self.command(command)?;
        }
        if step.traffic == Traffic::Starts {
            self.stream = Some(self.start_traffic()?);
        }
        match step.rollout {
            Some(end) => self.follow(end),
            None => self.watch(Duration::from_millis(step.watch_ms)),
        }
    }

    /// Runs a command as a person would: another process, in the folder beside `configs`.
    fn command(&self, arguments: &[&str]) -> Result<(), CliError> {
        let line = typed(arguments);
        self.screen.command(&line);
        let output = Command::new(self.stage.exe())
            .args(arguments)
            .current_dir(self.stage.working_folder())
            .env("SERIN_DATA", self.stage.data())
            .stdin(Stdio::null())
            .output()
            .map_err(CliError::Start)?;
        self.go_on()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(CliError::Demo(format!(
                "`{line}` failed:\n{}",
                said.trim_end()
            )));
        }
        self.screen.outcome(said.lines());
        let printed = String::from_utf8_lossy(&output.stdout);
        match arguments {
            [_, "invoke", ..] => self.screen.answer(&printed),
            ["bench", ..] => self.screen.verdict(&printed),
            _ => {}
        }
        Ok(())
    }

    fn start_traffic(&self) -> Result<Stream, CliError> {
        let endpoint: EndpointName = ENDPOINT.parse().expect("a name of the script is a name");
        let client = Client::connect(&self.stage.data())?;
        let credentials = client.credentials(&endpoint)?;
        let address = client.server().scoring_address;
        let rows = Stage::held_out();
        Stream::start(address, &endpoint, credentials.bearer(), rows, self.rate)
    }

    fn stop_traffic(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.total.add(&stream.stop());
        }
    }

    /// Shows the numbers of the stream for a while; they start from zero with each step.
    fn watch(&mut self, time: Duration) -> Result<(), CliError> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let started = Instant::now();
        // What the commands of this step met counts in the total, and the numbers shown are those after them.
        self.total.add(&stream.take());
        if time.is_zero() {
            return Ok(());
        }
        while started.elapsed() < time {
            thread::sleep(TICK.min(time.saturating_sub(started.elapsed())));
            self.go_on()?;
            self.screen.live(&stream.peek(), self.total.failures());
        }
        let seen = stream.take();
        self.screen.clear_live();
        self.total.add(&seen);
        self.screen.numbers(&seen, self.total.failures());
        Ok(())
    }

    /// Tells a rollout until it has ended, which its plan sees to.
    fn follow(&mut self, wanted: End) -> Result<(), CliError> {
        let mut follow = Follow::new(self.screen, Client::connect(&self.stage.data())?);
        self.total.add(&self.seen_since());
        let view = loop {
            if let Some(view) = follow.look()? {
                break view;
            }
            if let Some(stream) = &self.stream {
                self.screen.live(&stream.peek(), self.total.failures());
            }
            thread::sleep(TICK);
            self.go_on()?;
        };
        self.screen.ending(&judge(&view, wanted)?);
        let seen = self.seen_since();
        self.total.add(&seen);
        self.screen.numbers(&seen, self.total.failures());
        Ok(())
    }

    fn seen_since(&self) -> Tally {
        self.stream.as_ref().map(Stream::take).unwrap_or_default()
    }

    fn go_on(&self) -> Result<(), CliError> {
        if self.interrupted.load(Ordering::Relaxed) || self.screen.reader_has_gone() {
            return Err(CliError::Interrupted);
        }
        Ok(())
    }
}

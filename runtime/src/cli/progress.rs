//! Words on standard error while something takes its time: one line that moves on a terminal, else a line for each step and one
//! from time to time. Nothing of what is quick.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::output;
use crate::config::SILENCE_TOLD_AFTER;
use crate::engine::{Stage, Tell};

/// The time between two moves of the line.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// Where lines do not move, one comes at least so often.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The progress of one thing that is waited for.
#[derive(Debug)]
pub(super) struct Progress {
    wanted: bool,
    moving: bool,
    began: Instant,
    /// The step of the last line, and when that was written.
    told: Option<(String, Instant)>,
}

impl Progress {
    pub(super) fn new(wanted: bool, began: Instant) -> Self {
        Self {
            wanted,
            moving: wanted && output::is_live(&io::stderr()),
            began,
            told: None,
        }
    }

    /// Shows what is done now, and its step, where it is time to.
    pub(super) fn show(&mut self, doing: &str, step: &str, now: Instant) {
        if !self.wanted || !(self.moving || self.is_due(step, now)) {
            return;
        }
        self.told = Some((step.to_owned(), now));
        let seconds = now.saturating_duration_since(self.began).as_secs();
        if self.moving {
            output::redraw(&format!("{doing}: {step}, {seconds} s "));
        } else {
            output::complain(&format!("{doing}: {step}, {seconds} s\n"));
        }
    }

    /// Whether a line of its own is worth it: of the first step that is not quick, of every other, and after a long silence.
    fn is_due(&self, step: &str, now: Instant) -> bool {
        match &self.told {
            None => now.saturating_duration_since(self.began) >= SILENCE_TOLD_AFTER,
            Some((told, at)) => told != step || now.saturating_duration_since(*at) >= SILENCE_MAX,
        }
    }

    /// Takes a line that moves away.
    pub(super) fn end(self) {
        if self.moving && self.told.is_some() {
            output::redraw("");
        }
    }
}

/// A thread that shows the steps of models until it is dropped.
#[derive(Debug)]
pub(super) struct Watching {
    steps: Option<mpsc::Sender<Option<(String, Stage)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    /// Starts it; without a thread nothing is shown. The other half is for who tells of the steps.
    pub(super) fn start() -> (Self, Tell) {
        let (sender, steps) = mpsc::channel();
        let thread = thread::Builder::new().name("progress".to_owned());
        let thread = thread.spawn(move || show_until_told(&steps)).ok();
        let told = sender.clone();
        let tell = Tell::new(move |model: &Path, stage| {
            drop(told.send(Some((model.display().to_string(), stage))));
        });
        let watching = Self {
            steps: Some(sender),
            thread,
        };
        (watching, tell)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(steps) = self.steps.take() {
            // The other half lives on with who tells.
            drop(steps.send(None));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn show_until_told(steps: &mpsc::Receiver<Option<(String, Stage)>>) {
    let mut progress = Progress::new(true, Instant::now());
    let mut current = None;
    loop {
        match steps.recv_timeout(TICK) {
            Ok(Some(step)) => current = Some(step),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some((model, stage)) = &current {
            progress.show(model, &stage.to_string(), Instant::now());
        }
    }
    progress.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_what_is_quick_and_each_step_of_what_is_not() {
        let began = Instant::now();
        let mut progress = Progress {
            wanted: true,
            moving: false,
            began,
            told: None,
        };
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!progress.is_due("trying", at(1)));
        assert!(progress.is_due("trying", at(3)));
        progress.told = Some(("trying".to_owned(), at(3)));
        assert!(!progress.is_due("trying", at(8)));
        assert!(progress.is_due("preparing", at(8)));
        assert!(progress.is_due("trying", at(14)));
    }
}

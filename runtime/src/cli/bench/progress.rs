//! Words while it is measured.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::bench::Progress;
use crate::cli::output;

/// Where lines do not move, one comes at least so often.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The progress: a line that moves on a terminal, else a line for each step that is worth one.
pub(in crate::cli) struct Line {
    wanted: bool,
    moving: bool,
    /// The time when the last line was written.
    said: Cell<Instant>,
}

impl Line {
    pub(in crate::cli) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            moving: output::is_live(&std::io::stderr()),
            said: Cell::new(Instant::now()),
        }
    }

    pub(in crate::cli) fn show(&self, progress: &Progress<'_>) {
        if !self.wanted {
            return;
        }
        let text = told(progress);
        if self.moving {
            output::redraw(&text);
        } else if is_worth_a_line(progress) || self.said.get().elapsed() >= SILENCE_MAX {
            self.said.set(Instant::now());
            output::complain(&format!("{text}\n"));
        }
    }

    pub(in crate::cli) fn end(&self) {
        if self.wanted && self.moving {
            output::redraw("");
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn told(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Asking(label, count) => format!(
            "asking {label} for its answers to {count} request{}",
            plural(*count)
        ),
        Progress::Warming(label, per_s) => format!("warming up {label}: {per_s:.0} answers/s"),
        Progress::Level(words) => format!("measuring under {words}"),
        Progress::Noise(pair, of) => format!("the baseline against itself: pair {pair} of {of}"),
        Progress::Pair(pair, about, found) => {
            let mut text = format!("pair {pair} of about {about}");
            if let Some(estimate) = found.map(|ratio| ratio.estimate)
                && let (Some(low), Some(high)) = (estimate.low, estimate.high)
            {
                write!(text, ": {:.3} [{low:.3}, {high:.3}] so far", estimate.point)
                    .expect("text takes any text");
            }
            text
        }
        Progress::Block(block, about, per_s) => {
            format!("block {block} of about {about}: {per_s:.0} answers/s")
        }
        Progress::Tried(label, words) => format!("{label}: {words}"),
    }
}

/// Where lines do not move, pairs and blocks would fill the screen.
fn is_worth_a_line(progress: &Progress<'_>) -> bool {
    match progress {
        Progress::Asking(..) | Progress::Level(_) | Progress::Tried(..) => true,
        Progress::Noise(pair, of) => pair == of,
        Progress::Pair(pair, ..) | Progress::Block(pair, ..) => pair % 10 == 0,
        Progress::Warming(..) => false,
    }
}

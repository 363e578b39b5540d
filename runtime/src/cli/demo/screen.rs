//! The screen of the demo: colours and a moving block of numbers on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::traffic::Tally;
use crate::cli::output::is_live;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const COMMAND: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// As much of an answer as fits a line.
const ANSWER_CHARS_MAX: usize = 72;

/// Standard output, and how many lines of it move.
#[derive(Debug)]
pub(super) struct Screen {
    moving: bool,
    live_lines: Cell<usize>,
    reader_has_gone: Cell<bool>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            moving: is_live(&io::stdout()),
            live_lines: Cell::new(0),
            reader_has_gone: Cell::new(false),
        }
    }

    /// Whether nobody looks any more, as after `| head`.
    pub(super) fn reader_has_gone(&self) -> bool {
        self.reader_has_gone.get()
    }

    /// The title of an act, apart from the one before.
    pub(super) fn act(&self, at: usize, text: &str, about: &str) {
        if at > 0 {
            self.write("\n\n");
        }
        self.write(&format!("{BOLD}{text}{BOLD:#}\n{DIM}{about}{DIM:#}\n"));
    }

    pub(super) fn step(&self, title: &str) {
        self.write(&format!("\n{BOLD}{title}{BOLD:#}\n"));
    }

    pub(super) fn command(&self, line: &str) {
        self.write(&format!("  {COMMAND}$ {line}{COMMAND:#}\n"));
    }

    pub(super) fn outcome<'a>(&self, lines: impl Iterator<Item = &'a str>) {
        for line in lines.filter(|line| !line.trim().is_empty()) {
            self.write(&format!("    {DIM}{line}{DIM:#}\n"));
        }
    }

    /// An answer of a model, which may be long.
    pub(super) fn answer(&self, text: &str) {
        let text = text.trim_end();
        match text.char_indices().nth(ANSWER_CHARS_MAX) {
            Some((end, _)) => self.outcome([format!("{} ..", &text[..end]).as_str()].into_iter()),
            None => self.outcome(text.lines()),
        }
    }

    /// The verdict of a comparison: the first line of its table, a line for each of its parts.
    pub(super) fn verdict(&self, text: &str) {
        let verdict = text.lines().next().unwrap_or_default();
        self.outcome(verdict.split("; "));
    }

    /// A line of the journal of a rollout, so long after its begin.
    pub(super) fn journal(&self, after_ms: i64, line: &str) {
        self.clear_live();
        let seconds = after_ms as f64 / 1000.0;
        self.write(&format!("    {DIM}{seconds:>5.1} s{DIM:#}  {line}\n"));
    }

    /// The end of a rollout, in a sentence.
    pub(super) fn ending(&self, line: &str) {
        self.clear_live();
        self.write(&format!("    {BOLD}{line}{BOLD:#}\n"));
    }

    /// The numbers so far, over those of the moment before.
    pub(super) fn live(&self, tally: &Tally, failures: u64) {
        if self.moving {
            self.clear_live();
            let text = self.block(tally, failures);
            self.live_lines.set(text.lines().count());
            self.write(&text);
        }
    }

    /// Takes the moving block away.
    pub(super) fn clear_live(&self) {
        let lines = self.live_lines.replace(0);
        if lines > 0 {
            self.write(&format!("\x1b[{lines}A\x1b[J"));
        }
    }

    /// The numbers of a step, for good.
    pub(super) fn numbers(&self, tally: &Tally, failures: u64) {
        self.write(&self.block(tally, failures));
    }

    pub(super) fn summary(&self, total: &Tally, took: Duration) {
        self.step("In all");
        self.write(&self.block(total, total.failures()));
        self.write(&format!(
            "    {DIM}{} requests in {:.0} s{DIM:#}\n",
            total.requests(),
            took.as_secs_f64()
        ));
    }

    /// A terminal shows the keys that were pressed; what follows gets a line of its own.
    pub(super) fn end_line(&self) {
        if self.moving {
            self.write("\n");
        }
    }

    pub(super) fn how_to_go_on(&self, lines: &str) {
        self.step("The server stays up");
        self.outcome(lines.lines());
    }

    /// A row for each deployment that answered. Fits 80 columns, for what wraps cannot be taken back.
    fn block(&self, tally: &Tally, failures: u64) -> String {
        let mut text = format!(
            "    {DIM}{:<10}  {:>8}  {:>7}  {:>8}  {:>8}  {:>8}{DIM:#}\n",
            "deployment", "requests", "share", "p50", "p99", "accuracy"
        );
        for (name, one) in tally.deployments() {
            let share = one.requests() as f64 / tally.requests() as f64;
            write!(
                text,
                "    {name:<10}  {:>8}  {:>7}  {:>8}  {:>8}  {:>8}",
                one.requests(),
                percent(share),
                milliseconds(one.p50()),
                milliseconds(one.p99()),
                percent(one.accuracy()),
            )
            .expect("text takes any text");
            if self.moving {
                let colour = colour_of(name);
                write!(text, "  {colour}{}{colour:#}", bar(share)).expect("text takes any text");
            }
            text.push('\n');
        }
        let style = if failures == 0 { GOOD } else { BAD };
        writeln!(text, "    {style}failures    {failures:>8}{style:#}")
            .expect("text takes any text");
        text
    }

    fn write(&self, text: &str) {
        let mut stdout = anstream::stdout().lock();
        let written = stdout.write_all(text.as_bytes());
        if written.and_then(|()| stdout.flush()).is_err() {
            self.reader_has_gone.set(true);
        }
    }
}

/// As far as a bar goes for all requests.
const BAR_CHARS: usize = 12;

/// One part of [`BAR_CHARS`] for each full part of the requests.
fn bar(share: f64) -> String {
    let threshold = |place: usize| (place as f64 + 0.5) / BAR_CHARS as f64;
    (0..BAR_CHARS)
        .map(|place| {
            if share >= threshold(place) {
                '█'
            } else {
                '░'
            }
        })
        .collect()
}

/// Deployments that are named after colours have them.
fn colour_of(deployment: &str) -> Style {
    match deployment {
        "blue" => AnsiColor::Blue.on_default(),
        "green" => AnsiColor::Green.on_default(),
        _ => Style::new(),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

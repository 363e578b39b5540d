//! How the demo looks: colours and a moving block of numbers on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::traffic::Tally;
use crate::cli::output::aligned;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const COMMAND: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Standard output, and how many lines of it move.
#[derive(Debug)]
pub(super) struct Screen {
    moving: bool,
    live_lines: Cell<usize>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            moving: io::stdout().is_terminal(),
            live_lines: Cell::new(0),
        }
    }

    pub(super) fn title(&self, text: &str) {
        self.write(&format!("{BOLD}{text}{BOLD:#}\n"));
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

    /// The numbers so far, over those of the moment before.
    pub(super) fn live(&self, tally: &Tally, failures: u64) {
        if self.moving {
            self.clear_live();
            let text = block(tally, failures);
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
        self.write(&block(tally, failures));
    }

    pub(super) fn summary(&self, total: &Tally, took: Duration) {
        self.step("In all");
        let mut rows = vec![
            [
                "deployment",
                "requests",
                "p50",
                "p99",
                "accuracy on held-out data",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for (name, one) in total.deployments() {
            rows.push(vec![
                name.to_owned(),
                one.requests().to_string(),
                milliseconds(one.p50()),
                milliseconds(one.p99()),
                format!("{:.1} %", one.accuracy() * 100.0),
            ]);
        }
        let mut text = String::new();
        for line in aligned(&rows).lines() {
            writeln!(text, "  {line}").expect("text takes any text");
        }
        let (style, failures) = (
            if total.failures() == 0 { GOOD } else { BAD },
            total.failures(),
        );
        writeln!(
            text,
            "  {style}{failures} failed{style:#} of {} requests, in {:.0} s",
            total.requests(),
            took.as_secs_f64()
        )
        .expect("text takes any text");
        self.write(&text);
    }

    pub(super) fn how_to_go_on(&self, lines: &str) {
        self.step("The server stays up");
        self.outcome(lines.lines());
    }

    /// Writes; a reader that has gone is no reason to stop.
    fn write(&self, text: &str) {
        let mut stdout = anstream::stdout().lock();
        drop(stdout.write_all(text.as_bytes()));
        drop(stdout.flush());
    }
}

fn block(tally: &Tally, failures: u64) -> String {
    let mut text = String::new();
    for (name, one) in tally.deployments() {
        writeln!(
            text,
            "    {name:<8} {:>6} requests   p50 {:>8}   p99 {:>8}   accuracy {:>5.1} %",
            one.requests(),
            milliseconds(one.p50()),
            milliseconds(one.p99()),
            one.accuracy() * 100.0
        )
        .expect("text takes any text");
    }
    let style = if failures == 0 { GOOD } else { BAD };
    writeln!(text, "    {style}failures {failures:>6}{style:#}").expect("text takes any text");
    text
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

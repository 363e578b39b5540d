//! Pages of `docs/` that are made from the program itself; `serin __page NAME` prints one, and a test compares each with its file.
//!
//! Not here: `docs/az-ml.md`, which people may ask for (`az_flags`), and pages that tell a story.

mod commands;
mod files;
mod settings;

use clap::ValueEnum;

/// A page that is made from the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Page {
    /// Every command, argument, default and exit code.
    Cli,
    /// Every key of the files of endpoints and deployments.
    Files,
    /// Every environment variable, folder and signal.
    Settings,
}

/// The text of a page.
pub(super) fn text(page: Page) -> String {
    match page {
        Page::Cli => commands::page(),
        Page::Files => files::page(),
        Page::Settings => settings::page(),
    }
}

/// A text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

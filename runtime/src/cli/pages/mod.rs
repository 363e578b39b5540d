//! Pages of `docs/` that are made from the program itself; `serin __page NAME` prints one, and a test compares each with its file.
//!
//! Not here: `docs/az-ml.md`, which people may ask for (`az_flags`), and pages that tell a story.

mod cell;
mod commands;
mod files;
mod settings;

use super::args::Page;

/// The text of a page.
pub(super) fn text(page: Page) -> String {
    match page {
        Page::Cli => commands::page(),
        Page::Files => files::page(),
        Page::Settings => settings::page(),
    }
}

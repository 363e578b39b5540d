//! `serin journal`: what was done to a server. For people a sentence for each change, newest first; for programs the lines as they are.

use super::args::{Global, Journal, OutputFormat};
use super::exit::CliError;
use super::journal_words::sentence;
use super::moment::Today;
use super::output::{self, Columns};
use super::server::Server;
use super::table::{self, Heading};
use super::{escape, width};
use crate::control::{HistoryEntry, JournalEntry};

/// The columns between tabs, which have a line for each line of the journal.
const COLUMNS: Columns = &[
    ("revision", &["/revision"]),
    ("at", &["/at"]),
    ("by", &["/by"]),
    ("what", &["/what"]),
    ("state", &["/change/provisioning_state"]),
    ("why", &["/why"]),
];

const HEADINGS: [&str; 4] = ["revision", "at", "by", "what"];

/// Longest name of who asked that has a column.
const BY_CHARS_MAX: usize = 48;

/// A sentence in fewer columns than these is not read; it stands below its row then.
const SENTENCE_WIDTH_MIN: usize = 40;

/// Prints the last entries of the journal.
pub(super) fn journal(typed: &Journal, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    match global.format() {
        OutputFormat::Table if !global.asks_for_part() => {
            let entries = server.client.history(typed.last, None)?;
            output::print_text(&words(&entries, &Today::here(), width::of_output()))
        }
        OutputFormat::Tsv if !global.asks_for_part() => {
            let entries = server.client.journal(typed.last)?;
            let lines: Vec<_> = entries.iter().map(line).collect();
            server.print_as(&lines, COLUMNS)
        }
        _ => server.print(&server.client.journal(typed.last)?),
    }
}

/// An entry with what fits in the cells of its row: whole seconds, and the change in words.
fn line(entry: &JournalEntry) -> serde_json::Value {
    let mut line = serde_json::json!(entry);
    line["at"] = format!("{:.0}", entry.at).into();
    line["what"] = entry.what().into();
    line
}

/// A row for each change, newest first. What does not fit goes on below itself, or where there is no place, below the row.
fn words(entries: &[HistoryEntry], today: &Today, width: Option<usize>) -> String {
    let plain = |text: &str| escape::line(text).into_owned();
    let rows = entries.iter().rev().map(|entry| {
        let revision = entry.revision.map(|revision| revision.to_string());
        let by = plain(&entry.by);
        let row = [
            revision.unwrap_or_default(),
            today.moment(entry.at),
            by.chars().take(BY_CHARS_MAX).collect(),
        ];
        (row, plain(&sentence(entry)))
    });
    let rows: Vec<([String; 3], String)> = rows.collect();
    let longest = |at: usize| {
        let cells = rows.iter().map(|(row, _)| row[at].chars().count());
        cells.max().unwrap_or(0).max(HEADINGS[at].len()) + 2
    };
    let before: usize = (0..3).map(longest).sum();
    match width {
        Some(width) if width < before + SENTENCE_WIDTH_MIN => stacked(&rows, width),
        width => beside(&rows, width.map(|width| width - before)),
    }
}

fn beside(rows: &[([String; 3], String)], width: Option<usize>) -> String {
    let mut cells = Vec::new();
    for ([revision, at, by], sentence) in rows {
        let mut lines = width::wrapped(sentence, width).into_iter();
        let first = lines.next().unwrap_or_default();
        cells.push(vec![revision.clone(), at.clone(), by.clone(), first]);
        let more = lines.map(|line| vec![String::new(), String::new(), String::new(), line]);
        cells.extend(more);
    }
    let head = HEADINGS.map(|name| Heading {
        name,
        numbers: false,
    });
    table::table(&head, &cells, true)
}

fn stacked(rows: &[([String; 3], String)], width: usize) -> String {
    let blocks = rows.iter().map(|(row, sentence)| {
        let words: Vec<&str> = row
            .iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        width::block(&words.join(" "), sentence, width)
    });
    blocks.collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::output::table_of;

    /// The row of an entry, below the headings.
    #[track_caller]
    fn check(change: &Value, why: Option<&str>, row: &str) {
        let entry: JournalEntry = serde_json::from_value(json!({
            "seq": 9,
            "revision": 7,
            "at": "2026-01-01T00:00:00.123456Z",
            "by": "ann",
            "change": change,
            "why": why,
        }))
        .unwrap();
        let table = table_of(&json!([line(&entry)]), COLUMNS);
        assert_eq!(table.lines().last(), Some(row), "{table}");
    }

    #[test]
    fn the_journal_shows_that_a_change_was_replaced() {
        check(
            &json!({"kind": "outcome", "operation": 7, "provisioning_state": "Canceled"}),
            Some("revision 8 took its place"),
            "7         2026-01-01T00:00:00Z  ann  outcome  Canceled  revision 8 took its place",
        );
    }

    #[test]
    fn the_journal_says_a_change_in_words() {
        check(
            &json!({"kind": "update_endpoint", "name": "iris", "update": {"traffic": {"blue": 90, "green": 10}}}),
            None,
            "7         2026-01-01T00:00:00Z  ann  update endpoint iris, traffic blue:90,green:10",
        );
        check(
            &json!({"kind": "delete_deployment", "name": "blue"}),
            None,
            "7         2026-01-01T00:00:00Z  ann  delete deployment blue",
        );
    }

    #[test]
    fn the_journal_names_the_model_that_came() {
        check(
            &json!({"kind": "register_model", "model": {"name": "digits", "version": "1"}}),
            None,
            "7         2026-01-01T00:00:00Z  ann  register model digits:1",
        );
    }

    #[test]
    fn a_change_of_a_later_release_is_shown_by_its_kind() {
        check(
            &json!({"kind": "mirror_endpoint", "name": "iris"}),
            None,
            "7         2026-01-01T00:00:00Z  ann  mirror endpoint",
        );
    }

    fn entries() -> Vec<HistoryEntry> {
        let entries = json!([
            {
                "revision": 6, "at": "2026-01-01T22:59:00Z", "by": "ann", "what": "update endpoint iris", "endpoint": "iris",
                "provisioning_state": "Failed", "ended": "2026-01-01T22:59:12Z", "why": "the model\nis none", "changed": null,
            },
            {
                "revision": 7, "at": "2026-01-02T14:03:22Z", "by": "bob", "what": "update endpoint iris", "endpoint": "iris",
                "provisioning_state": "Succeeded", "ended": "2026-01-02T14:03:22.003Z", "why": null,
                "changed": [{"path": "traffic.blue", "from": 90, "to": 100}, {"path": "traffic.green", "from": 10, "to": 0}],
            },
        ]);
        serde_json::from_value(entries).unwrap()
    }

    fn told(width: Option<usize>) -> String {
        let now: Timestamp = "2026-01-02T20:00:00Z".parse().unwrap();
        words(&entries(), &Today::at(now, TimeZone::UTC), width)
    }

    #[test]
    fn a_change_is_one_row_and_the_newest_stands_first() {
        assert_eq!(
            told(None),
            "revision  at                by   what\n\
             --------  ----------------  ---  -------------------------------------------------------------------\n\
             7         14:03:22          bob  traffic of iris: blue 90 -> 100, green 10 -> 0, in force after 3 ms\n\
             6         2026-01-01 22:59  ann  update endpoint iris, failed after 12 s: the model\\nis none\n"
        );
    }

    #[test]
    fn what_does_not_fit_goes_on_below_itself() {
        assert_eq!(
            told(Some(80)),
            "revision  at                by   what\n\
             --------  ----------------  ---  -----------------------------------------------\n\
             7         14:03:22          bob  traffic of iris: blue 90 -> 100, green 10 -> 0,\n\
             \x20                                in force after 3 ms\n\
             6         2026-01-01 22:59  ann  update endpoint iris, failed after 12 s: the\n\
             \x20                                model\\nis none\n"
        );
        assert_eq!(
            told(Some(40)),
            "7 14:03:22 bob\n\
             \x20 traffic of iris: blue 90 -> 100, green\n\
             \x20 10 -> 0, in force after 3 ms\n\
             6 2026-01-01 22:59 ann\n\
             \x20 update endpoint iris, failed after 12\n\
             \x20 s: the model\\nis none\n"
        );
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        for width in 20..130 {
            let told = told(Some(width));
            let widest = told.lines().map(|line| line.chars().count()).max();
            assert!(widest.unwrap() <= width, "{width}\n{told}");
        }
    }

    #[test]
    fn a_journal_without_entries_has_its_headings() {
        let now: Timestamp = "2026-01-02T20:00:00Z".parse().unwrap();
        let told = words(&[], &Today::at(now, TimeZone::UTC), None);
        assert_eq!(told.lines().count(), 2, "{told}");
    }
}

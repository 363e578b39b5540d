//! A report as text for a terminal. Pure.
//!
//! No table is wider than [`WIDTH`]: what is goes on below with its first columns again, and the words of a last column go on in the next
//! line. Sentences are left to the terminal.

use crate::bench::{Column, Part, Report, Section, mark, outline};
use crate::cli::table::{self, Heading};

/// Columns of the narrowest terminal that is usual.
const WIDTH: usize = 80;
/// Between two columns, as tables have it.
const GAP: usize = 2;
/// Narrowest column of words that go on in the next line.
const WORDS_MIN: usize = 24;

/// For a terminal, without colours.
pub(super) fn text(report: &Report) -> String {
    let mark = mark(report).map(str::to_owned);
    let head = mark.into_iter().chain([report.verdict.words.clone()]);
    let sections = outline(report);
    let blocks: Vec<String> = head.chain(sections.iter().map(section_text)).collect();
    blocks.join("\n\n") + "\n"
}

fn section_text(section: &Section) -> String {
    // Lines stand close; a table has room above it.
    let mut text = section.kind.title().to_uppercase() + "\n";
    for (at, part) in section.parts.iter().enumerate() {
        if at > 0 && matches!(part, Part::Table(_)) {
            text.push('\n');
        }
        text.push_str(&part_text(part));
    }
    text.trim_end().to_owned()
}

pub(super) fn part_text(part: &Part) -> String {
    match part {
        Part::Line(line) => format!("{line}\n"),
        Part::Facts(facts) => {
            let row = |(name, words): &(String, String)| vec![name.clone(), words.clone()];
            let rows: Vec<_> = facts.iter().map(row).collect();
            table::table(&[], &with_lines(&[], rows), false)
        }
        Part::Table(table) => {
            let parts = groups(&table.head, &table.rows);
            let parts: Vec<_> = parts
                .iter()
                .map(|columns| part_of(&table.head, &table.rows, columns))
                .collect();
            parts.join("\n")
        }
    }
}

/// Some columns of a table.
fn part_of(head: &[Column], rows: &[Vec<String>], columns: &[usize]) -> String {
    let head: Vec<_> = columns.iter().map(|at| heading(&head[*at])).collect();
    let cells = |row: &Vec<String>| columns.iter().map(|at| row[*at].clone()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let is_words = head.last().is_some_and(|last| !last.numbers);
    let rows = match is_words {
        true => with_lines(&head, rows),
        false => rows,
    };
    table::table(&head, &rows, false)
}

/// The columns of each part of a table, so that none is too wide; the words before its first number stand in each.
fn groups(head: &[Column], rows: &[Vec<String>]) -> Vec<Vec<usize>> {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| width(&row[at]));
        cells.max().unwrap_or_default().max(width(&head[at].name)) + GAP
    };
    let lead = head.iter().take_while(|column| !column.numbers).count();
    if lead == head.len() {
        return vec![(0..head.len()).collect()];
    }
    let start: usize = (0..lead).map(width).sum();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut used = usize::MAX;
    for at in lead..head.len() {
        // Words at the end go on in the next line.
        let is_last_words = at + 1 == head.len() && !head[at].numbers;
        let needed = match is_last_words {
            true => width(at).min(WORDS_MIN + GAP),
            false => width(at),
        };
        if used.saturating_add(needed) > WIDTH + GAP {
            groups.push((0..lead).collect());
            used = start;
        }
        used += needed;
        if let Some(group) = groups.last_mut() {
            group.push(at);
        }
    }
    groups
}

/// The rows, with the words of the last column on as many lines as they need.
fn with_lines(head: &[Heading<'_>], rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |at: usize| {
        let name = head.get(at).map(|heading| width(heading.name));
        let cells = rows.iter().map(|row| width(&row[at]));
        cells.chain(name).max().map(|widest| widest + GAP)
    };
    let before: usize = (0..columns.saturating_sub(1)).filter_map(widest).sum();
    let room = WIDTH.saturating_sub(before).max(WORDS_MIN);
    let split = |mut row: Vec<String>| {
        let words = row.pop().unwrap_or_default();
        let lines = wrapped(&words, room).into_iter().enumerate();
        let lines: Vec<_> = lines
            .map(|(at, line)| {
                let cells = match at {
                    0 => row.clone(),
                    _ => vec![String::new(); row.len()],
                };
                [cells, vec![line]].concat()
            })
            .collect();
        lines
    };
    rows.into_iter().flat_map(split).collect()
}

/// Lines of words. A word that is longer than a line has one for itself.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn heading(column: &Column) -> Heading<'_> {
    Heading {
        name: &column.name,
        numbers: column.numbers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn the_verdict_comes_first() {
        let report = sample::report();
        let verdict = &report.verdict.words;
        assert_eq!(text(&report).lines().next(), Some(verdict.as_str()));
    }

    #[test]
    fn an_incomplete_report_says_so_at_the_top() {
        let mut report = sample::report();
        report.complete = false;
        assert!(text(&report).starts_with("incomplete: not all that was planned was measured\n"));
        report.interrupted = true;
        assert!(text(&report).starts_with("incomplete: interrupted\n"));
    }

    fn squeezed(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tables_fit_a_terminal_of_eighty_columns() {
        let mut long = sample::sweep();
        for (version, label) in long
            .versions
            .iter_mut()
            .zip(["digits-of-2024", "digits-of-2025"])
        {
            version.label = label.to_owned();
        }
        for report in [
            sample::report(),
            sample::alone(),
            sample::sweep(),
            sample::three(),
            long,
        ] {
            for section in outline(&report) {
                for part in &section.parts {
                    if matches!(part, Part::Line(_)) {
                        continue;
                    }
                    for line in part_text(part).lines() {
                        let is_one_word = !line.trim().contains(' ');
                        let most = if is_one_word { usize::MAX } else { WIDTH };
                        assert!(width(line) <= most, "{} {line}", width(line));
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_that_is_too_wide_goes_on_below_with_its_first_column() {
        let head: Vec<_> = (0..6)
            .map(|at| Column {
                name: format!("column {at}"),
                numbers: at > 0,
            })
            .collect();
        let rows = vec![vec!["a cell of some length".to_owned(); 6]];
        let groups = groups(&head, &rows);
        assert_eq!(groups, [vec![0, 1, 2], vec![0, 3, 4], vec![0, 5]]);
    }

    #[test]
    fn words_go_on_in_the_next_line_and_none_is_lost() {
        let text = "one two three four";
        assert_eq!(wrapped(text, 9), ["one two", "three", "four"]);
        assert_eq!(wrapped(text, 1).join(" "), text);
        assert_eq!(wrapped("", 9), [""]);
    }

    #[test]
    fn every_section_and_every_cell_is_told() {
        for report in [
            sample::report(),
            sample::alone(),
            sample::sweep(),
            sample::three(),
        ] {
            let text = text(&report);
            for section in outline(&report) {
                assert!(text.contains(&section.kind.title().to_uppercase()));
                for part in &section.parts {
                    if let Part::Table(table) = part {
                        for cell in table.rows.iter().flatten() {
                            // Its words may stand on two lines.
                            assert!(squeezed(&text).contains(&squeezed(cell)), "{cell}: {text}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_comparison_is_a_row_of_the_table() {
        let text = text(&sample::report());
        for line in [
            "metric             green / blue          outcome      could have seen  pairs",
            "throughput       1.31x [1.28, 1.34]      1.31x faster           1.4 %     10",
        ] {
            assert!(squeezed(&text).contains(&squeezed(line)), "{line}:\n{text}");
        }
    }
}

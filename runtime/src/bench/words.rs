//! A report as text for a terminal. Pure.

use crate::bench::outline::{Column, Part, Section, Table, mark, outline};
use crate::bench::report::Report;

/// Between two columns.
const GAP: &str = "  ";

/// For a terminal of about 100 columns, without colours.
#[must_use]
pub fn table(report: &Report) -> String {
    let mark = mark(report).map(str::to_owned);
    let head = mark.into_iter().chain([report.verdict.words.clone()]);
    let sections = outline(report);
    let blocks: Vec<String> = head.chain(sections.iter().map(section_text)).collect();
    blocks.join("\n\n") + "\n"
}

fn section_text(section: &Section) -> String {
    let title = section.kind.title().to_uppercase();
    let parts: Vec<String> = section.parts.iter().map(part_text).collect();
    // Lines stand close; a table has room above it.
    let mut text = title;
    for (part, written) in section.parts.iter().zip(parts) {
        let apart = matches!(part, Part::Table(_)) && text.contains('\n');
        text.push_str(if apart { "\n\n" } else { "\n" });
        text.push_str(&written);
    }
    text
}

fn part_text(part: &Part) -> String {
    match part {
        Part::Line(line) => line.clone(),
        Part::Facts(facts) => {
            let names = facts.iter().map(|(name, _)| width(name));
            let widest = names.max().unwrap_or_default();
            let line = |(name, words): &(String, String)| format!("{name:widest$}{GAP}{words}");
            let lines: Vec<String> = facts.iter().map(line).collect();
            lines.join("\n")
        }
        Part::Table(table) => table_text(table),
    }
}

fn table_text(table: &Table) -> String {
    let names: Vec<String> = table
        .head
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|at| {
            let cells = table.rows.iter().chain([&names]);
            cells.map(|row| width(&row[at])).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &Vec<String>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(table.head.iter().zip(&widths))
            .map(|(cell, (column, width))| padded(cell, column, *width))
            .collect();
        padded.join(GAP).trim_end().to_owned()
    };
    let lines: Vec<String> = [&names].into_iter().chain(&table.rows).map(line).collect();
    lines.join("\n")
}

fn padded(cell: &str, column: &Column, width: usize) -> String {
    if column.numbers {
        format!("{cell:>width$}")
    } else {
        format!("{cell:width$}")
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn the_verdict_comes_first() {
        let report = sample::report();
        let verdict = &report.verdict.words;
        assert_eq!(table(&report).lines().next(), Some(verdict.as_str()));
    }

    #[test]
    fn an_incomplete_report_says_so_at_the_top() {
        let mut report = sample::report();
        report.complete = false;
        assert!(table(&report).starts_with("incomplete: not all that was planned was measured\n"));
        report.interrupted = true;
        assert!(table(&report).starts_with("incomplete: interrupted\n"));
    }

    #[test]
    fn tables_fit_a_terminal() {
        let text = table(&sample::report());
        let tables = text.split("\n\nSETUP").next().unwrap();
        for line in tables.lines() {
            assert!(width(line) <= 110, "{line}");
        }
    }

    #[test]
    fn every_section_and_every_cell_is_told() {
        for report in [sample::report(), sample::alone(), sample::sweep()] {
            let text = table(&report);
            for section in outline(&report) {
                assert!(text.contains(&section.kind.title().to_uppercase()));
                for part in &section.parts {
                    if let Part::Table(table) = part {
                        for cell in table.rows.iter().flatten() {
                            assert!(text.contains(cell.as_str()), "{cell}: {text}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_comparison_is_a_row_of_the_table() {
        let text = table(&sample::report());
        for line in [
            "metric             green / blue          outcome      could have seen  pairs",
            "throughput       1.31x [1.28, 1.34]      faster                 1.4 %     10",
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed(&text).contains(&squeezed(line)), "{line}:\n{text}");
        }
    }
}

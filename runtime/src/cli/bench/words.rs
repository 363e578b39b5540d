//! A report as text for a terminal. Pure.

use crate::bench::{Column, Part, Report, Section, mark, outline};
use crate::cli::table::{self, Heading};

/// For a terminal of about 100 columns, without colours.
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

fn part_text(part: &Part) -> String {
    match part {
        Part::Line(line) => format!("{line}\n"),
        Part::Facts(facts) => {
            let row = |(name, words): &(String, String)| vec![name.clone(), words.clone()];
            let rows: Vec<_> = facts.iter().map(row).collect();
            table::table(&[], &rows, false)
        }
        Part::Table(table) => {
            let head: Vec<_> = table.head.iter().map(heading).collect();
            table::table(&head, &table.rows, false)
        }
    }
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

    #[test]
    fn tables_fit_a_terminal() {
        let text = text(&sample::report());
        let tables = text.split("\n\nSETUP").next().unwrap();
        for line in tables.lines() {
            assert!(line.chars().count() <= 110, "{line}");
        }
    }

    #[test]
    fn every_section_and_every_cell_is_told() {
        for report in [sample::report(), sample::alone(), sample::sweep()] {
            let text = text(&report);
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
        let text = text(&sample::report());
        for line in [
            "metric             green / blue          outcome      could have seen  pairs",
            "throughput       1.31x [1.28, 1.34]      faster                 1.4 %     10",
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed(&text).contains(&squeezed(line)), "{line}:\n{text}");
        }
    }
}

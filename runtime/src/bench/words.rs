//! A report as text for a terminal and as Markdown. Pure.

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

/// The same in GitHub's Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mark = mark(report).map(|mark| format!("**{mark}**"));
    let verdict = format!("**{}**", escaped(&report.verdict.words));
    let sections = outline(report);
    let blocks: Vec<String> = mark
        .into_iter()
        .chain([verdict])
        .chain(sections.iter().map(section_markdown))
        .collect();
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

fn section_markdown(section: &Section) -> String {
    let title = format!("### {}", section.kind.title());
    let parts = section.parts.iter().map(part_markdown);
    let blocks: Vec<String> = [title].into_iter().chain(parts).collect();
    blocks.join("\n\n")
}

fn part_markdown(part: &Part) -> String {
    match part {
        Part::Line(line) => escaped(line),
        Part::Facts(facts) => {
            let line = |(name, words): &(String, String)| {
                format!("- {}: {}", escaped(name), escaped(words))
            };
            let lines: Vec<String> = facts.iter().map(line).collect();
            lines.join("\n")
        }
        Part::Table(table) => table_markdown(table),
    }
}

fn table_markdown(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let names = table.head.iter().map(|column| escaped(&column.name));
    let rules = table.head.iter().map(|column| {
        let rule = if column.numbers { "--:" } else { "---" };
        rule.to_owned()
    });
    let rows = table
        .rows
        .iter()
        .map(|row| line(row.iter().map(|cell| escaped(cell)).collect()));
    let lines: Vec<String> = [line(names.collect()), line(rules.collect())]
        .into_iter()
        .chain(rows)
        .collect();
    lines.join("\n")
}

/// Keeps text from being read as Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '|' | '~' | '#' => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
    }
    out
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
        let text = markdown(&report);
        assert_eq!(text.lines().next().unwrap(), format!("**{verdict}**"));
    }

    #[test]
    fn an_incomplete_report_says_so_at_the_top() {
        let mut report = sample::report();
        report.complete = false;
        assert!(table(&report).starts_with("incomplete: not all that was planned was measured\n"));
        report.interrupted = true;
        assert!(table(&report).starts_with("incomplete: interrupted\n"));
        assert!(markdown(&report).starts_with("**incomplete: interrupted**\n"));
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
    fn both_forms_say_the_same() {
        for report in [sample::report(), sample::alone(), sample::sweep()] {
            let (text, marked) = (table(&report), markdown(&report));
            for section in outline(&report) {
                assert!(text.contains(&section.kind.title().to_uppercase()));
                assert!(marked.contains(&format!("### {}\n", section.kind.title())));
                for part in &section.parts {
                    if let Part::Table(table) = part {
                        for cell in table.rows.iter().flatten() {
                            assert!(text.contains(cell.as_str()), "{cell}: {text}");
                            assert!(marked.contains(&escaped(cell)), "{cell}: {marked}");
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

    #[test]
    fn markdown_is_not_broken_by_a_label() {
        let mut report = sample::report();
        report.versions[1].label = "a|b<c>*\n`x`".to_owned();
        let text = markdown(&report);
        assert!(text.contains("| a\\|b&lt;c>\\* \\`x\\` |"), "{text}");
        let rows = text.lines().filter(|line| line.starts_with('|'));
        for row in rows {
            assert!(row.ends_with('|'), "{row}");
        }
    }
}

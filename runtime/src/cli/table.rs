//! Tables for a terminal: columns as wide as their widest cell. Pure.
//!
//! Not here: what stands in them.

/// Between two columns.
const GAP: &str = "  ";

/// A heading, and on which side its cells stand: numbers to the right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading<'a> {
    pub(super) name: &'a str,
    pub(super) numbers: bool,
}

/// Lines with an end each; without headings only the rows, and with `ruled` a rule between them.
pub(super) fn table(head: &[Heading<'_>], rows: &[Vec<String>], ruled: bool) -> String {
    let names: Vec<String> = head.iter().map(|one| one.name.to_owned()).collect();
    let widths = widths(&names, rows);
    let mut lines = Vec::new();
    if !head.is_empty() {
        lines.push(line(&names, head, &widths));
    }
    if ruled && !head.is_empty() {
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.push(rules.join(GAP));
    }
    lines.extend(rows.iter().map(|row| line(row, head, &widths)));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn widths(names: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = names.iter().map(|name| width(name)).collect();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    widths
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn line(cells: &[String], head: &[Heading<'_>], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths).enumerate();
    let padded: Vec<String> = cells
        .map(|(at, (cell, width))| match head.get(at) {
            Some(Heading { numbers: true, .. }) => format!("{cell:>width$}"),
            _ => format!("{cell:width$}"),
        })
        .collect();
    padded.join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["iris", "1,000"], ["\u{20ac}", ""]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    const HEAD: [Heading<'_>; 2] = [
        Heading {
            name: "n",
            numbers: false,
        },
        Heading {
            name: "each",
            numbers: true,
        },
    ];

    #[test]
    fn numbers_stand_to_the_right_and_nothing_stands_behind_the_last_cell() {
        assert_eq!(
            table(&HEAD, &rows(), false),
            "n      each\niris  1,000\n\u{20ac}\n"
        );
    }

    #[test]
    fn a_rule_is_as_wide_as_its_columns() {
        assert_eq!(
            table(&HEAD, &rows()[..1], true),
            "n      each\n----  -----\niris  1,000\n"
        );
    }

    #[test]
    fn without_headings_there_are_only_rows() {
        assert_eq!(table(&[], &rows(), false), "iris  1,000\n\u{20ac}\n");
        assert_eq!(table(&[], &[], false), "");
    }
}

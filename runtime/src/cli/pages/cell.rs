//! Cells of the tables of a page.

/// A text as it may stand in a cell of a table.
pub(super) fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

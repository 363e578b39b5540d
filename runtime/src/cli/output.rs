//! Results on standard output, words for people on standard error. A reader that has gone is no error.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use serde_json::Value;

use super::args::OutputFormat;
use super::exit::CliError;
use super::table::{self, Heading};

/// The columns of a table: a heading, and where in a result its cells are, as JSON pointers of which the first that leads
/// to something fit for a cell is taken.
pub(super) type Columns = &'static [(&'static str, &'static [&'static str])];

/// Prints a result in the format that was asked for.
pub(super) fn print(value: &Value, format: OutputFormat) -> Result<(), CliError> {
    print_as(value, &[], format)
}

/// Prints a result; rows have these columns, or without any all that fits in a cell.
pub(super) fn print_as(
    value: &Value,
    columns: Columns,
    format: OutputFormat,
) -> Result<(), CliError> {
    let text = match format {
        OutputFormat::Json => format!("{value:#}\n"),
        OutputFormat::Table => table_of(value, columns),
        OutputFormat::Tsv => tsv(rows(value, columns)),
        OutputFormat::None => return Ok(()),
    };
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(CliError::Output),
    }
}

/// Tells something on standard error. There is nobody left to tell when that fails.
pub(super) fn complain(text: &str) {
    let mut stderr = anstream::stderr().lock();
    drop(stderr.write_all(text.as_bytes()));
    drop(stderr.flush());
}

/// The same for the last words of a server, which nobody may be there to read: it waits for that at most so long.
pub(super) fn complain_within(text: &str, at_most: Duration) {
    let text = text.to_owned();
    let (told, is_told) = mpsc::channel();
    let telling = thread::Builder::new()
        .name("serin-last".to_owned())
        .spawn(move || {
            complain(&text);
            // Nobody waits any more when that took too long.
            _ = told.send(());
        });
    if telling.is_ok() {
        // What is not told by then is told to nobody.
        _ = is_told.recv_timeout(at_most);
    }
}

/// Whether lines on this stream can be written anew: a terminal that understands control sequences, and a user who has not
/// asked for plain text by `NO_COLOR`.
pub(super) fn is_live(stream: &impl RawStream) -> bool {
    stream.is_terminal() && AutoStream::choice(stream) != ColorChoice::Never
}

/// Whether results go to a person's screen.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Asks a question when a person is there to answer it; true when there is none, as with pipes and in scripts.
pub(super) fn confirmed(question: &str) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return true;
    }
    complain(&format!("{question} (y/N): "));
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        // Ctrl-D leaves the cursor behind the question.
        Ok(0) => {
            complain("\n");
            false
        }
        Ok(_) => matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
        Err(_) => false,
    }
}

/// The table of a result; without rows its headings, or nothing.
pub(super) fn table_of(value: &Value, columns: Columns) -> String {
    let rows = rows(value, columns);
    if !rows.is_empty() {
        return table(&rows);
    }
    if columns.is_empty() {
        return String::new();
    }
    let headings = columns.iter().map(|(heading, _)| (*heading, String::new()));
    format!("{}\n", table(&[headings.collect()]).trim_end())
}

/// Rows under headings. Of an object one row, of a list one row for each entry.
fn table(rows: &[Row<'_>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let cell = |row: &Row<'_>, name: &str| {
        let found = row.iter().find(|(other, _)| *other == name);
        found.map_or_else(String::new, |(_, text)| text.clone())
    };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| names.iter().map(|name| cell(row, name)).collect())
        .collect();
    let head: Vec<_> = names
        .iter()
        .map(|name| Heading {
            name,
            numbers: false,
        })
        .collect();
    table::table(&head, &cells, true)
}

/// Values between tabs, one line a row, without headings.
fn tsv(rows: Vec<Row<'_>>) -> String {
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(|(_, cell)| cell).collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

/// Headings and cells.
type Row<'a> = Vec<(&'a str, String)>;

/// The values that fit in a cell: scalars, and flat maps such as traffic.
fn rows<'a>(value: &'a Value, columns: Columns) -> Vec<Row<'a>> {
    match value {
        Value::Array(entries) => entries
            .iter()
            .flat_map(|entry| rows(entry, columns))
            .collect(),
        Value::Object(_) if !columns.is_empty() => {
            let cell_at = |pointers: &[&str]| {
                pointers
                    .iter()
                    .find_map(|pointer| cell(value.pointer(pointer)?))
            };
            vec![
                columns
                    .iter()
                    .map(|(heading, pointers)| (*heading, cell_at(pointers).unwrap_or_default()))
                    .collect(),
            ]
        }
        Value::Object(fields) => vec![
            fields
                .iter()
                .filter_map(|(name, value)| Some((name.as_str(), cell(value)?)))
                .collect(),
        ],
        Value::Null => Vec::new(),
        scalar => vec![vec![("value", cell(scalar).unwrap_or_default())]],
    }
}

fn cell(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        // A tab or a new line would end the cell; others would speak to the terminal.
        Value::String(text) => Some(text.replace(char::is_control, " ")),
        Value::Array(_) => None,
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::Object(_) | Value::Array(_) => None,
                scalar => Some(format!("{name}={}", cell(scalar)?)),
            })
            .collect::<Option<Vec<_>>>()
            .map(|pairs| pairs.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoints() -> Value {
        json!([
            {"name": "iris", "traffic": {"blue": 90, "green": 10}, "deployments": {"blue": {"name": "blue"}}},
            {"name": "digits", "traffic": {}, "scoring_uri": "http://127.0.0.1:5001/endpoints/digits/score"},
        ])
    }

    #[test]
    fn a_table_has_a_column_for_all_that_fits_in_a_cell() {
        assert_eq!(
            table(&rows(&endpoints(), &[])),
            "name    traffic           scoring_uri\n\
             ------  ----------------  --------------------------------------------\n\
             iris    blue=90 green=10\n\
             digits                    http://127.0.0.1:5001/endpoints/digits/score\n"
        );
    }

    #[test]
    fn tab_separated_values_have_no_headings() {
        let one = json!({"name": "iris", "count": 3});
        assert_eq!(tsv(rows(&one, &[])), "iris\t3\n");
    }

    #[test]
    fn a_cell_has_no_control_characters() {
        let told = json!([{"by": "ann\t\n\u{1b}[2Jbob"}]);
        assert_eq!(tsv(rows(&told, &[])), "ann   [2Jbob\n");
    }

    #[test]
    fn a_table_without_rows_has_its_headings_or_nothing() {
        const COLUMNS: Columns = &[("name", &["/name"]), ("state", &["/state"])];
        assert_eq!(table_of(&json!([]), COLUMNS), "name  state\n----  -----\n");
        assert_eq!(table_of(&json!([]), &[]), "");
    }

    #[test]
    fn chosen_columns_are_there_in_every_row() {
        const COLUMNS: Columns = &[
            ("uri", &["/scoring_uri"]),
            ("blue", &["/deployments/blue/name", "/name"]),
        ];
        assert_eq!(
            table(&rows(&endpoints(), COLUMNS)),
            "uri                                           blue\n\
             --------------------------------------------  ------\n\
             \x20                                             blue\n\
             http://127.0.0.1:5001/endpoints/digits/score  digits\n"
        );
        assert_eq!(
            tsv(rows(&endpoints(), COLUMNS)),
            "\tblue\nhttp://127.0.0.1:5001/endpoints/digits/score\tdigits\n"
        );
    }
}

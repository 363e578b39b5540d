//! Results on standard output, words for people on standard error. A reader that has gone is no error.
//!
//! All text passes here, and nothing of it speaks to the terminal, whoever wrote it; see `escape`. JSON stays exact.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use serde_json::Value;

use super::args::OutputFormat;
use super::escape;
use super::exit::CliError;
use super::table::{self, Heading};

/// The columns of a table: a heading, and where in a result its cells are, as JSON pointers of which the first that leads
/// to something fit for a cell is taken.
pub(super) type Columns = &'static [(&'static str, &'static [&'static str])];

/// Longest answer to a question that is looked at.
const ANSWER_BYTES_MAX: u64 = 64;

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
    match format {
        OutputFormat::Json => print_bytes(escape::json(&format!("{value:#}\n")).as_bytes()),
        OutputFormat::Table => print_text(&table_of(value, columns)),
        OutputFormat::Tsv => {
            // Each cell is harmless, and the tabs between them stay.
            print_bytes(tsv(rows(value, columns)).as_bytes())
        }
        OutputFormat::None => Ok(()),
    }
}

/// Prints lines for people.
pub(super) fn print_text(text: &str) -> Result<(), CliError> {
    print_bytes(escape::lines(text).as_bytes())
}

/// Prints the answer of an endpoint: as it came for a program, and harmless for a terminal.
pub(super) fn print_answer(body: &[u8]) -> Result<(), CliError> {
    let end: &[u8] = if body.ends_with(b"\n") { b"" } else { b"\n" };
    match str::from_utf8(body) {
        Ok(text) if is_terminal() => print_bytes(escape::json(text).as_bytes())?,
        _ => print_bytes(body)?,
    }
    print_bytes(end)
}

fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(CliError::Output),
    }
}

/// Tells something on standard error. There is nobody left to tell when that fails.
pub(super) fn complain(text: &str) {
    write_to_stderr(&escape::lines(text));
}

/// Writes a line of standard error anew; for streams that are live.
pub(super) fn redraw(line: &str) {
    write_to_stderr(&format!("\r\x1b[K{}", escape::line(line)));
}

fn write_to_stderr(text: &str) {
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

/// Asks a question on standard error, and takes the answer from standard input, whatever that is: a person, `yes`, a file.
///
/// # Errors
///
/// [`CliError::NotConfirmed`] when the answer is no, [`CliError::NotAnswered`] when there is none.
pub(super) fn confirm(question: &str) -> Result<(), CliError> {
    complain(&format!("{question} (y/N): "));
    // A stream without ends of lines is no answer either.
    let mut answer = Vec::new();
    let answered = io::stdin()
        .lock()
        .take(ANSWER_BYTES_MAX)
        .read_until(b'\n', &mut answer);
    if answer.last() != Some(&b'\n') || !io::stdin().is_terminal() {
        // The cursor is still behind the question.
        complain("\n");
    }
    if answered.is_err() || answer.is_empty() {
        return Err(CliError::NotAnswered);
    }
    let answer = answer.trim_ascii().to_ascii_lowercase();
    match answer.as_slice() {
        b"y" | b"yes" => Ok(()),
        _ => Err(CliError::NotConfirmed),
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
        Value::String(text) => Some(escape::line(text).into_owned()),
        Value::Array(_) => None,
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::Object(_) | Value::Array(_) => None,
                scalar => Some(format!("{}={}", escape::line(name), cell(scalar)?)),
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
        assert_eq!(tsv(rows(&told, &[])), "ann\\t\\n\\x1b[2Jbob\n");
        let tags = json!([{"tags": {"a\u{7}": "\u{1b}"}}]);
        assert_eq!(tsv(rows(&tags, &[])), "a\\x07=\\x1b\n");
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

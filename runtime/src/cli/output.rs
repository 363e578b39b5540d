//! Results on standard output, words for people on standard error. A reader that has gone is no error.
//!
//! All text passes here, and nothing of it speaks to the terminal, whoever wrote it; see `escape`. JSON stays exact.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value};

use super::exit::CliError;
use super::form::{Form, OutputFormat};
use super::table::{self, Heading};
use super::{colour, escape, yaml};

/// The columns of a table: a heading, and where in a result its cells are, as JSON pointers of which the first that leads
/// to something fit for a cell is taken.
pub(super) type Columns = &'static [(&'static str, &'static [&'static str])];

/// Longest answer to a question that is looked at.
const ANSWER_BYTES_MAX: u64 = 64;

/// Prints a result in the form that was asked for.
pub(super) fn print(value: &Value, form: &Form) -> Result<(), CliError> {
    print_as(value, &[], form)
}

/// Prints a result of a command that `az` has: the columns are of a table alone, for in `-o tsv` all values stand.
pub(super) fn print_as_az(value: &Value, columns: Columns, form: &Form) -> Result<(), CliError> {
    match form.format {
        OutputFormat::Table => print_as(value, columns, form),
        _ => print_as(value, &[], form),
    }
}

/// Prints a result; rows have these columns, or without any all that fits in a cell.
///
/// The columns are of the whole result: of the part that a query asks for a table has all.
pub(super) fn print_as(value: &Value, columns: Columns, form: &Form) -> Result<(), CliError> {
    let Some(query) = &form.query else {
        return print_whole(value, columns, form.format);
    };
    match query.of(value)? {
        // As `az` has it: where nothing is found nothing is printed.
        Value::Null => Ok(()),
        found => print_whole(&found, &[], form.format),
    }
}

fn print_whole(value: &Value, columns: Columns, format: OutputFormat) -> Result<(), CliError> {
    let quiet = |value| without_noise(value);
    match format {
        OutputFormat::Json => print_bytes(json(&quiet(value)).as_bytes()),
        OutputFormat::Jsonc => print_coloured(json(&quiet(value)), colour::json),
        OutputFormat::Yaml => print_bytes(yaml::document(&quiet(value)).as_bytes()),
        OutputFormat::Yamlc => print_coloured(yaml::document(&quiet(value)), colour::yaml),
        OutputFormat::Table => print_text(&table_of(&quiet(value), columns)),
        OutputFormat::Tsv => {
            let value = quiet(value);
            let text = match columns {
                [] => tsv_of(&value),
                columns => tsv(rows(&value, columns)),
            };
            // Each cell is harmless, and the tabs between them stay.
            print_bytes(text.as_bytes())
        }
        OutputFormat::None => Ok(()),
    }
}

fn json(value: &Value) -> String {
    escape::json(&format!("{value:#}\n")).into_owned()
}

/// Prints a text in colours where a terminal shows them.
fn print_coloured(text: String, coloured: fn(&str) -> String) -> Result<(), CliError> {
    match is_live(&io::stdout()) {
        true => print_bytes(coloured(&text).as_bytes()),
        false => print_bytes(text.as_bytes()),
    }
}

/// A value whose numbers have no digits that come from computing in binary alone: 7.645 in place of 7.6450000000000005.
fn without_noise(value: &Value) -> Value {
    match value {
        Value::Array(entries) => entries.iter().map(without_noise).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), without_noise(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().and_then(|number| {
                // 13 digits say all that is measured; as few as are the same number are written.
                format!("{number:.12e}").parse::<f64>().ok()
            });
            rounded.map_or_else(|| value.clone(), Value::from)
        }
        other => other.clone(),
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

/// Makes the screen empty; for streams that are live.
pub(super) fn clear() -> Result<(), CliError> {
    print_bytes(b"\x1b[H\x1b[2J")
}

fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(CliError::Output),
    }
}

/// Whether nobody reads results any more, as after `| head`.
pub(super) fn reader_has_gone() -> bool {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    // Ends of pipes are told unasked; where nothing can be told, somebody reads.
    _ = poll(&mut asked, Some(&Timespec::default()));
    asked[0].revents().contains(PollFlags::ERR)
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

/// Sees to it that a deletion is wanted: by `--yes`, by an answer, or, for the verbs that never asked in scripts of `az`, by the call.
pub(super) fn consent(question: &str, is_given: bool, never_asked: bool) -> Result<(), CliError> {
    if is_given {
        return Ok(());
    }
    if never_asked && !io::stdin().is_terminal() {
        complain(&format!(
            "{question} Yes: standard input is no terminal, and under the name `az` this never asked\n"
        ));
        return Ok(());
    }
    confirm(question)
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

/// Values between tabs as `az` prints them: a line for each entry of a list, with a value for each of its own.
fn tsv_of(value: &Value) -> String {
    let line = |entry: &Value| match entry {
        Value::Object(fields) => joined(fields.values().map(tsv_cell)),
        Value::Array(entries) => joined(entries.iter().map(tsv_cell)),
        Value::Bool(word) => format!("{word}\n"),
        scalar => format!("{}\n", tsv_cell(scalar)),
    };
    match value {
        Value::Array(entries) => entries.iter().map(line).collect(),
        entry => line(entry),
    }
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join("\t") + "\n"
}

/// A value as Python writes it; of a list its length, and of an object nothing.
fn tsv_cell(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => escape::line(text).into_owned(),
        Value::Array(entries) => entries.len().to_string(),
        Value::Object(_) => String::new(),
    }
}

/// The heading of values that have no name.
const RESULT: &str = "Result";

/// Headings of the values of a list within a list.
const NAMELESS: [&str; 12] = [
    "Column1", "Column2", "Column3", "Column4", "Column5", "Column6", "Column7", "Column8",
    "Column9", "Column10", "Column11", "Column12",
];

/// Headings and cells.
type Row<'a> = Vec<(&'a str, String)>;

/// The values that fit in a cell: scalars, and flat maps such as traffic.
fn rows<'a>(value: &'a Value, columns: Columns) -> Vec<Row<'a>> {
    match value {
        Value::Array(entries) => entries
            .iter()
            .flat_map(|entry| match entry {
                Value::Array(values) => vec![
                    NAMELESS
                        .into_iter()
                        .zip(values.iter().map(|value| cell(value).unwrap_or_default()))
                        .collect(),
                ],
                entry => rows(entry, columns),
            })
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
        scalar => vec![vec![(RESULT, cell(scalar).unwrap_or_default())]],
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
    fn tab_separated_values_are_as_az_prints_them() {
        let check = |value: Value, expected: &str| assert_eq!(tsv_of(&value), expected);
        check(json!("Succeeded"), "Succeeded\n");
        check(json!(true), "true\n");
        check(json!({"blue": 90, "green": 12.5}), "90\t12.5\n");
        check(json!(["a", "b"]), "a\nb\n");
        check(
            json!([["a", true, null], [1, [2, 3], {"x": 1}]]),
            "a\tTrue\tNone\n1\t2\t\n",
        );
        check(json!([]), "");
        check(json!(["a\tb\nc"]), "a\\tb\\nc\n");
    }

    #[test]
    fn numbers_have_no_noise() {
        let value = json!([
            7.6450000000000005,
            0.1 + 0.2,
            1e300,
            -2.5,
            3,
            12.0,
            9_007_199_254_740_993_u64
        ]);
        assert_eq!(
            without_noise(&value).to_string(),
            "[7.645,0.3,1e+300,-2.5,3,12.0,9007199254740993]"
        );
    }

    #[test]
    fn lists_and_bare_values_have_headings_in_a_table() {
        assert_eq!(table_of(&json!("x"), &[]), "Result\n------\nx\n");
        assert_eq!(
            table_of(&json!([["a", 1]]), &[]),
            "Column1  Column2\n-------  -------\na        1\n"
        );
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

//! The words of `serin model show`: a model as its file describes it.

use serde_json::Value;

use super::args::{Global, OutputFormat};
use super::escape;
use super::exit::CliError;
use super::output::{self, Columns};
use super::table::{self, Heading};
use crate::admin::ModelGraph;
use crate::engine::{Fact, GraphFacts, ModelSummary, TensorSummary};

/// Prints what is known of a model beside its graph, and the graph.
pub(super) fn print(
    mut record: Value,
    columns: Columns,
    graph: &ModelGraph,
    global: &Global,
) -> Result<(), CliError> {
    match global.format() {
        OutputFormat::Table if !global.asks_for_part() => {
            let mut text = output::table_of(&record, columns);
            text.push('\n');
            text.push_str(&origin(&record));
            match (&graph.graph, &graph.graph_unread) {
                (Some(graph), _) => text.push_str(&words(graph)),
                (None, why) => {
                    text.push_str("the graph was not read: ");
                    text.push_str(why.as_deref().unwrap_or_default());
                    text.push('\n');
                }
            }
            output::print_text(&text)
        }
        OutputFormat::Tsv if !global.asks_for_part() => {
            output::print_as(&record, columns, &global.form())
        }
        _ => {
            let graph = serde_json::to_value(graph).expect("results have a JSON form");
            if let (Value::Object(record), Value::Object(graph)) = (&mut record, graph) {
                record.extend(graph);
            }
            output::print(&record, &global.form())
        }
    }
}

/// Where a registered version came from, and who serves it; nothing of a file.
fn origin(record: &Value) -> String {
    let Some(users) = record["used_by"].as_array() else {
        return String::new();
    };
    let users = users.iter().map(|one| {
        let name = |key: &str| one[key].as_str().unwrap_or_default();
        format!("{}/{}", name("endpoint"), name("deployment"))
    });
    let users: Vec<String> = users.collect();
    let users = match users.is_empty() {
        true => "no deployment".to_owned(),
        false => users.join(", "),
    };
    let path = record["path"].as_str().unwrap_or_default();
    format!("copied from {}\nused by {}\n\n", plain(path), plain(users))
}

fn words(graph: &ModelSummary) -> String {
    let opsets = graph.opsets.iter();
    let opsets: Vec<String> = opsets
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    let mut operators: Vec<_> = graph.operators.iter().collect();
    operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let operators: Vec<String> = operators
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let external = graph.external_data.iter();
    let external: Vec<String> = external
        .map(|(file, bytes)| match bytes {
            Some(bytes) => format!("{file} ({bytes} bytes)"),
            None => format!("{file} (not there)"),
        })
        .collect();
    let mut rows = [
        ["producer", &graph.producer],
        ["ir_version", &graph.ir_version.to_string()],
        ["opsets", &opsets.join(", ")],
        ["parameters", &graph.parameters.to_string()],
        ["file_bytes", &graph.file_bytes.to_string()],
        ["operators", &operators.join(", ")],
    ]
    .map(|row| row.map(plain).to_vec())
    .to_vec();
    rows.retain(|row| !row[1].is_empty());
    if !external.is_empty() {
        rows.push(vec!["external_data".to_owned(), plain(external.join(", "))]);
    }
    let facts = facts(&graph.facts).into_iter();
    let facts: String = facts.map(|fact| format!("{}\n", plain(&fact))).collect();
    let rows = table::table(&[], &rows, false);
    format!("{}\n{rows}\n{facts}", tensors(graph))
}

fn tensors(graph: &ModelSummary) -> String {
    let row = |what: &str, one: &TensorSummary| {
        let shape = one.shape.as_ref();
        let shape = shape.map_or_else(
            || "any".to_owned(),
            |shape| format!("[{}]", shape.join(", ")),
        );
        [what, &one.name, &one.kind, &shape].map(plain).to_vec()
    };
    let inputs = graph.inputs.iter().map(|one| row("input", one));
    let outputs = graph.outputs.iter().map(|one| row("output", one));
    let rows: Vec<Vec<String>> = inputs.chain(outputs).collect();
    let head = ["", "name", "type", "shape"].map(|name| Heading {
        name,
        numbers: false,
    });
    table::table(&head, &rows, true)
}

/// A sentence for each fact.
fn facts(facts: &GraphFacts) -> Vec<String> {
    let say = |fact: &Fact, proven: &str, unproven: &str| match fact.obstacle() {
        None => proven.to_owned(),
        Some(obstacle) => format!("{unproven}: {obstacle}"),
    };
    let mut sentences = vec![
        say(
            &facts.rows,
            "rows: proven independent",
            "rows: not proven independent",
        ),
        say(
            &facts.work,
            "work: follows from the shapes of a request",
            "work: may depend on values",
        ),
        say(
            &facts.trap,
            "values: none is known or suspected to end the process",
            "values: some may end the process",
        ),
    ];
    let training = facts.training.iter();
    sentences.extend(training.map(|operator| format!("training: {operator}")));
    sentences
}

/// Names of a file may hold anything: an end of a line would break the table.
fn plain(text: impl AsRef<str>) -> String {
    escape::line(text.as_ref()).into_owned()
}

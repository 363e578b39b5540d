//! `serin model`: the registry of models.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Consent, Global, Model, ModelCreate};
use super::exit::CliError;
use super::output::Columns;
use super::server::{Server, who};
use super::{files, graph_words, output};
use crate::admin::{ModelGraph, ModelRequest};
use crate::control::FoundModel;
use crate::engine::ModelSummary;
use crate::spec::{ModelName, ModelSpec, ModelVersion, read_model};

/// The columns of a table of versions of models.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("version", &["/version"]),
    ("size_bytes", &["/size_bytes"]),
    ("created_at", &["/created_at"]),
    ("created_by", &["/created_by"]),
];

/// Runs one of the model commands.
pub(super) fn run(command: Model, global: &Global) -> Result<(), CliError> {
    match command {
        Model::Create(typed) => create(&typed, global),
        Model::List { name } => {
            let server = Server::find(global)?;
            let models = match name {
                Some(name) => server.client.model(&name)?,
                None => server.client.models()?,
            };
            server.print_as(&models, COLUMNS)
        }
        Model::Show { model, version } => match model.which() {
            Ok(name) => show(&name, version.as_ref(), global),
            Err(path) => show_file(&path, global),
        },
        Model::Delete {
            named,
            version,
            consent,
        } => delete(&named.name(), &version, consent, global),
    }
}

fn create(typed: &ModelCreate, global: &Global) -> Result<(), CliError> {
    let spec = model_spec(typed)?;
    let doing = format!("register model {} from {}", spec.name, spec.path.display());
    let path = seen_by_server(&spec.path)?;
    let server = Server::find(global)?;
    let registered = server.client.register_model(&ModelRequest {
        path,
        name: spec.name,
        version: spec.version,
        by: who(),
    });
    let record = registered.map_err(|e| CliError::from(e).while_doing(doing))?;
    server.tell(&format!("register model {}: done\n", record.reference()));
    server.print_as(&record, COLUMNS)
}

/// The path from anywhere, for the server has another working folder.
///
/// A file that is a link keeps the name and the folder of the link: its name says what it is, and the files with a model's data lie beside
/// it under the names that the model has for them.
fn seen_by_server(path: &Path) -> Result<PathBuf, CliError> {
    let mut seen = files::absolute(path)?;
    if let Some(name) = path.file_name()
        && seen.is_file()
    {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        seen = files::absolute(folder.unwrap_or(Path::new(".")))?.join(name);
    }
    if seen.to_str().is_none() {
        // The request has no form for it.
        return Err(CliError::Read {
            path: seen,
            source: io::Error::other("its path is not UTF-8: rename it"),
        });
    }
    Ok(seen)
}

/// The file with the flags over it; without a file the flags are all.
fn model_spec(typed: &ModelCreate) -> Result<ModelSpec, CliError> {
    let name = typed.name.as_ref().map(|name| ("name", name.as_str()));
    let version = typed.version.as_ref();
    let version = version.map(|version| ("version", version.as_str()));
    // What it says is of no account: the flag is used below, because it starts from the working folder and not from the file's.
    let path = typed.path.as_ref().map(|_| ("path", "--path"));
    let overrides: Vec<_> = [name, version, path]
        .into_iter()
        .flatten()
        .map(|(key, value)| files::assign(key, value))
        .collect();
    let mut spec = match &typed.file {
        Some(file) => files::model(file, &overrides)?,
        None => read_model("{}", "command line", &overrides)?,
    };
    if let Some(path) = &typed.path {
        spec.path.clone_from(path);
    }
    Ok(spec)
}

fn show(name: &ModelName, version: Option<&ModelVersion>, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let versions = server.client.model(name)?;
    let wanted = match version {
        Some(version) => versions.iter().find(|one| one.version == *version),
        None => versions.iter().max_by_key(|one| one.created_at),
    };
    let found = wanted.ok_or_else(|| {
        let known: Vec<&str> = versions.iter().map(|one| one.version.as_str()).collect();
        CliError::NotFound(format!(
            "model {name} has no version {}; it has {}",
            version.map_or("at all", |version| version.as_str()),
            known.join(", ")
        ))
    })?;
    let record = serde_json::to_value(found).expect("records have a JSON form");
    let graph = match &found.without_onnx {
        None => server.client.model_graph(name, &found.version)?,
        Some(_) => ModelGraph {
            graph: None,
            graph_unread: Some("it has no ONNX file".to_owned()),
        },
    };
    graph_words::print(record, COLUMNS, &graph, global)
}

fn show_file(path: &Path, global: &Global) -> Result<(), CliError> {
    let found = FoundModel::at(path).map_err(|error| CliError::BadInput(error.to_string()))?;
    let read = ModelSummary::of_file(&found.file);
    let graph = read.map_err(|why| {
        CliError::BadInput(format!(
            "cannot read the model in {}: {why}",
            path.display()
        ))
    })?;
    let record = json!({ "path": found.file });
    graph_words::print(record, &[("path", &["/path"])], &Ok(graph).into(), global)
}

fn delete(
    name: &ModelName,
    version: &ModelVersion,
    consent: Consent,
    global: &Global,
) -> Result<(), CliError> {
    let server = Server::find(global)?;
    // Asked only about what is there.
    server.client.model(name)?;
    if !consent.yes {
        output::confirm(&format!("Delete model {name}:{version}?"))?;
    }
    let by = who().unwrap_or_else(|| "cli".to_owned());
    let deleted = server.client.delete_model(name, version, &by);
    deleted.map_err(|e| CliError::from(e).while_doing(format!("delete model {name}:{version}")))?;
    server.tell(&format!("delete model {name}:{version}: done\n"));
    Ok(())
}

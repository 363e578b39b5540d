//! `serin model`: the registry of models.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Consent, Edits, Global, Model, ModelCreate, ModelUpdate, ModelVersions};
use super::edits::{self, Edited};
use super::exit::CliError;
use super::output::Columns;
use super::server::{Server, data_folder, who};
use super::{changes, files, find, graph_words, output};
use crate::admin::{AboutRequest, ModelGraph, ModelRequest};
use crate::control::{FoundModel, ModelRecord};
use crate::engine::ModelSummary;
use crate::spec::{
    DeploymentSpec, ModelAbout, ModelName, ModelRef, ModelSpec, ModelVersion, VersionRef,
    read_model,
};

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
        Model::List {
            name,
            include_archived,
            archived_only,
        } => {
            let server = Server::find(global)?;
            let models = match name {
                Some(name) => server.client.model(&name)?,
                None => server.client.models()?,
            };
            let is_listed = |one: &&ModelRecord| match one.about.is_archived {
                true => include_archived || archived_only,
                false => !archived_only,
            };
            let listed = models.iter().filter(is_listed);
            let listed = listed.map(|one| server.az.model(&json!(one)));
            output::print_as_az(&listed.collect(), COLUMNS, &global.form())
        }
        Model::Update(typed) => update(&typed, global),
        Model::Archive(typed) => archive(typed, true, global),
        Model::Restore(typed) => archive(typed, false, global),
        Model::Download {
            named,
            version,
            download_path,
        } => download(&named.name(), &version, &download_path, global),
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
    let mut record = registered.map_err(|e| CliError::from(e).while_doing(doing))?;
    server.tell(&format!("register model {}: done\n", record.reference()));
    // What is said of a version that was there already stays.
    if record.about.is_empty() && !spec.about.is_empty() {
        record = describe(&server, &record, spec.about)?;
    }
    print(&server, &record, global)
}

/// Registers the model that a deployment's file has with a name, a version and a path, and names it in its place.
pub(super) fn register_inline(
    server: &Server,
    deployment: &mut DeploymentSpec,
) -> Result<(), CliError> {
    let Some((path, name, version)) = deployment.model_to_register() else {
        return Ok(());
    };
    let doing = format!("register model {name}:{version} from {}", path.display());
    let registered = server.client.register_model(&ModelRequest {
        path: seen_by_server(path)?,
        name: name.clone(),
        version: Some(version.clone()),
        by: who(),
    });
    let record = registered.map_err(|e| CliError::from(e).while_doing(doing))?;
    server.tell(&format!("register model {}: done\n", record.reference()));
    deployment.use_registered(record.name, record.version);
    Ok(())
}

/// Tells the command that registers a model which a deployment names and nobody has registered.
pub(super) fn tell_how_to_register(
    server: &Server,
    model: &ModelRef,
    (file, global): (&Path, &Global),
) {
    let ModelRef::Registered { name, version } = model else {
        return;
    };
    let version = match version {
        VersionRef::Exact(version) => version.to_string(),
        VersionRef::Latest => "1".to_owned(),
    };
    let known = server.client.models().unwrap_or_default();
    let is_known = |one: &ModelRecord| one.name == *name && one.version.as_str() == version;
    if known.iter().any(is_known) {
        return;
    }
    let program = if global.as_az { "az ml" } else { "serin" };
    let path = likely_model(file).map_or_else(
        || "<PATH OF THE .onnx FILE OR ITS FOLDER>".to_owned(),
        |path| path.display().to_string(),
    );
    server.tell(&format!(
        "note: no model {name}:{version} is registered; this registers one:\n  {program} model create --name {name} --version \
         {version} --path {path}\n"
    ));
}

/// The only model file beside the deployment's file, or here; none where there are several.
fn likely_model(file: &Path) -> Option<PathBuf> {
    let beside = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folders = beside.into_iter().chain([Path::new(".")]);
    folders.into_iter().find_map(|folder| {
        let entries = fs::read_dir(folder).ok()?.take(ENTRIES_LOOKED_AT);
        let models = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            (path.extension()? == "onnx").then_some(path)
        });
        let models: Vec<_> = models.collect();
        match models.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    })
}

/// Entries of a folder among which a model file is looked for.
const ENTRIES_LOOKED_AT: usize = 1000;

fn print(server: &Server, record: &ModelRecord, global: &Global) -> Result<(), CliError> {
    output::print_as_az(&server.az.model(&json!(record)), COLUMNS, &global.form())
}

/// Has the server keep what is said of a version.
fn describe(
    server: &Server,
    record: &ModelRecord,
    about: ModelAbout,
) -> Result<ModelRecord, CliError> {
    let request = AboutRequest { about, by: who() };
    let described = server
        .client
        .describe_model(&record.name, &record.version, &request);
    described
        .map_err(|e| CliError::from(e).while_doing(format!("update model {}", record.reference())))
}

fn update(typed: &ModelUpdate, global: &Global) -> Result<(), CliError> {
    let Edits {
        set,
        add,
        remove,
        force_string,
    } = &typed.edits;
    let server = Server::find(global)?;
    let record = version_of(&server, typed.named.as_name(), typed.version.as_ref())?;
    let before = server.az.model(&json!(record));
    let mut edited = Edited::of(json!(record.about));
    let flags = [("description", &typed.description), ("stage", &typed.stage)];
    let flags = flags
        .into_iter()
        .filter_map(|(key, value)| Some(files::assign(key, value.as_deref()?)));
    edited.set(&flags.collect::<Vec<_>>());
    edited.set(&edits::assignments(set, *force_string)?);
    edited.add(add, *force_string)?;
    edited.remove(remove)?;
    let about = serde_json::from_value(edited.whole()).map_err(|mistake| {
        CliError::BadInput(format!(
            "a version of a model has a description, a stage, tags and properties that may change: {mistake}"
        ))
    })?;
    let after = describe(&server, &record, about)?;
    server.tell(&changes::told(&before, &server.az.model(&json!(after))));
    print(&server, &after, global)
}

/// Leaves versions out of lists, or takes them in again.
fn archive(typed: ModelVersions, is_archived: bool, global: &Global) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let name = typed.named.name();
    let versions = match &typed.version {
        Some(version) => vec![version_of(&server, &name, Some(version))?],
        None => server.client.model(&name)?,
    };
    let done = match is_archived {
        true => "archive",
        false => "restore",
    };
    for record in versions {
        let about = ModelAbout {
            is_archived,
            ..record.about.clone()
        };
        describe(&server, &record, about)?;
        server.tell(&format!("{done} model {}: done\n", record.reference()));
    }
    Ok(())
}

/// Copies the files of a version out of the server's own copy; the server has the same data folder as this command.
fn download(
    name: &ModelName,
    version: &ModelVersion,
    folder: &Path,
    global: &Global,
) -> Result<(), CliError> {
    let server = Server::find(global)?;
    let record = version_of(&server, name, Some(version))?;
    let digest = json!(record.digest);
    let stored = data_folder(global)?.join("models/sha256");
    let stored = stored.join(digest.as_str().unwrap_or_default());
    let target = folder.join(name.as_str());
    let refused = |source| CliError::Write {
        path: target.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(refused)?;
    // What is there already stays as it is.
    fs::create_dir(&target).map_err(refused)?;
    let copied = copy_files(&stored, &target);
    copied.map_err(|source| {
        refused(source).while_doing(format!("download model {}", record.reference()))
    })?;
    server.tell(&format!("download model {}: done\n", record.reference()));
    output::print(&json!({ "path": target }), &global.form())
}

/// Copies plain files and folders; the server's copies have nothing else.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            io::copy(
                &mut fs::File::open(entry.path())?,
                &mut fs::File::create_new(&target)?,
            )?;
        }
    }
    Ok(())
}

/// A registered version; without one the latest.
fn version_of(
    server: &Server,
    name: &ModelName,
    version: Option<&ModelVersion>,
) -> Result<ModelRecord, CliError> {
    let versions = server.client.model(name)?;
    let wanted = match version {
        Some(version) => versions.iter().find(|one| one.version == *version),
        None => versions.iter().max_by_key(|one| one.created_at),
    };
    wanted.cloned().ok_or_else(|| {
        let known: Vec<&str> = versions.iter().map(|one| one.version.as_str()).collect();
        CliError::NotFound(format!(
            "model {name} has no version {}; it has {}",
            version.map_or("at all", |version| version.as_str()),
            known.join(", ")
        ))
    })
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
    let description = typed
        .description
        .as_ref()
        .map(|text| ("description", text.as_str()));
    let stage = typed.stage.as_ref().map(|text| ("stage", text.as_str()));
    let mut overrides: Vec<_> = [name, version, path, description, stage]
        .into_iter()
        .flatten()
        .map(|(key, value)| files::assign(key, value))
        .collect();
    overrides.extend(edits::tags(&typed.tags));
    overrides.extend(edits::assignments(&typed.set, false)?);
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
    let found = version_of(&server, name, version)?;
    let mut record = server.az.model(&json!(found));
    record["used_by"] = json!(users_of(&found, &server.client.endpoints()?));
    let graph = match &found.without_onnx {
        None => server.client.model_graph(name, &found.version)?,
        Some(_) => ModelGraph {
            graph: None,
            graph_unread: Some("it has no ONNX file".to_owned()),
        },
    };
    graph_words::print(record, COLUMNS, &graph, global)
}

/// A deployment that stands for the content of a model.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct User<'a> {
    endpoint: &'a str,
    deployment: &'a str,
}

/// The deployments that serve a version, under whatever name.
fn users_of<'a>(record: &ModelRecord, endpoints: &'a [Value]) -> Vec<User<'a>> {
    let digest = json!(record.digest);
    let of = |endpoint: &'a Value| {
        let deployments = find::deployments(endpoint);
        let name = endpoint["name"].as_str().unwrap_or_default();
        deployments.map(move |(deployment, one)| (name, deployment, one))
    };
    let all = endpoints.iter().flat_map(of);
    let own = all.filter(|(_, _, one)| one["model_digest"] == digest);
    own.map(|(endpoint, deployment, _)| User {
        endpoint,
        deployment,
    })
    .collect()
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
    let question = format!("Delete model {name}:{version}?");
    output::consent(&question, consent.yes, global.as_az)?;
    let by = who().unwrap_or_else(|| "cli".to_owned());
    let deleted = server.client.delete_model(name, version, &by);
    deleted.map_err(|e| CliError::from(e).while_doing(format!("delete model {name}:{version}")))?;
    server.tell(&format!("delete model {name}:{version}: done\n"));
    Ok(())
}

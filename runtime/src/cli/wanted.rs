//! Files as what should be: `serin convert` prints them in the form of today, `serin endpoint diff` says what they would change, and
//! `serin apply` makes it so on one server or several.
//!
//! A server is asked what a file would change by the same change that would be made. So what is like the file already is left alone,
//! and with several servers nothing is done to any of them while one refuses.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::{Apply, Convert, Diff, Global, OutputFormat, Waiting};
use super::exit::CliError;
use super::output::Columns;
use super::server::Server;
use super::{files, model, output, yaml};
use crate::control::{Change, DeploymentUpdate, Difference, EndpointUpdate, Preview};
use crate::spec::{DeploymentSpec, EndpointFile, FileKind, SpecError, kind_of_file};

/// The columns of a table of what would change.
const COLUMNS_OF_CHANGES: Columns = &[("what", &["/path"]), ("from", &["/from"]), ("to", &["/to"])];

/// The columns of a table of servers.
const COLUMNS_OF_SERVERS: Columns = &[
    ("server", &["/server"]),
    ("endpoint", &["/endpoint"]),
    ("revision", &["/revision"]),
    ("result", &["/result"]),
];

/// An instance type as it was spelled at first, and as it is today.
const OLD_SPELLING: (&str, &str) = ("Standard_FS4_v2", "Standard_F4s_v2");

/// A file that was read.
#[derive(Debug, Clone)]
enum Wanted {
    Endpoint(Box<EndpointFile>),
    Deployment(Box<DeploymentSpec>),
}

fn read(path: &Path) -> Result<Wanted, CliError> {
    match kind_of_file(&files::text(path)?, &path.display().to_string()) {
        Ok(FileKind::Deployment) => {
            let read = files::deployment(path, (None, None), &[])?;
            Ok(Wanted::Deployment(Box::new(read)))
        }
        Ok(FileKind::Endpoint) => Ok(Wanted::Endpoint(Box::new(files::endpoint(path, &[])?))),
        Err(error) => Err(SpecError::into(error)),
    }
}

/// Prints a file in the form of today, or writes it into a folder, each thing into a file of its own.
pub(super) fn convert(typed: &Convert) -> Result<(), CliError> {
    let folder = files::folder(&typed.file)?;
    let documents = documents(read(&typed.file)?, &folder);
    let Some(to) = &typed.folder else {
        let texts = documents
            .iter()
            .map(|(_, document)| yaml::document(document));
        let texts: Vec<_> = texts.collect();
        return output::print_text(&texts.join("---\n"));
    };
    fs::create_dir_all(to).map_err(|source| CliError::Write {
        path: to.clone(),
        source,
    })?;
    let names = documents.iter().map(|(name, _)| to.join(name));
    if let Some(there) = names.clone().find(|path| path.exists()) {
        return Err(CliError::BadInput(format!(
            "{} is there already: choose a folder of its own",
            there.display()
        )));
    }
    for (path, (_, document)) in names.zip(&documents) {
        let text = yaml::document(document);
        fs::write(&path, text).map_err(|source| CliError::Write {
            path: path.clone(),
            source,
        })?;
        output::complain(&format!("{}\n", path.display()));
    }
    Ok(())
}

/// What a file holds, each with the name of a file of its own.
fn documents(wanted: Wanted, folder: &Path) -> Vec<(String, Value)> {
    let schema = "$schema";
    let of = |kind: &str, value: Value| {
        let mut document = json!({
            schema: format!("https://azuremlschemas.azureedge.net/latest/{kind}.schema.json"),
        });
        if let (Value::Object(document), Value::Object(fields)) = (&mut document, value) {
            document.extend(fields);
        }
        document
    };
    let deployment = |spec: &DeploymentSpec, endpoint: Option<&Value>| {
        let mut one = of_today(spec, endpoint);
        relative_again(&mut one, folder);
        let name = one["name"].as_str().unwrap_or("deployment");
        let file = format!("{name}-deployment.yml");
        (file, of("managedOnlineDeployment", one))
    };
    match wanted {
        Wanted::Deployment(one) => vec![deployment(&one, None)],
        Wanted::Endpoint(file) => {
            let name = json!(file.spec.name);
            let mut endpoint = json!(file.spec);
            // Of deployments that are files of their own no split can speak before they are there; `serin apply` knows that.
            if endpoint["traffic"].as_object().is_some_and(Map::is_empty)
                && let Some(fields) = endpoint.as_object_mut()
            {
                fields.shift_remove("traffic");
            }
            let mut all = vec![(
                "endpoint.yml".to_owned(),
                of("managedOnlineEndpoint", endpoint),
            )];
            let deployments = file.deployments.iter().flatten();
            all.extend(deployments.map(|one| deployment(one, Some(&name))));
            all
        }
    }
}

/// A deployment in the form of today: what was said of it in the words of before, and has no place there, is among its properties.
fn of_today(spec: &DeploymentSpec, endpoint: Option<&Value>) -> Value {
    let Value::Object(mut fields) = json!(spec) else {
        return Value::Null;
    };
    let mut first = Map::new();
    let written = fields.shift_remove("endpoint_name");
    for (key, value) in [
        ("name", fields.shift_remove("name")),
        ("endpoint_name", endpoint.cloned().or(written)),
    ] {
        first.extend(value.map(|value| (key.to_owned(), value)));
    }
    // The documents of the first form have this spelling, and Azure another.
    let is_old = spec.instance_type.eq_ignore_ascii_case(OLD_SPELLING.0);
    let instance_type = if is_old {
        OLD_SPELLING.1
    } else {
        &spec.instance_type
    };
    fields.insert("instance_type".to_owned(), json!(instance_type));
    fields.insert("instance_count".to_owned(), json!(spec.instance_count()));
    if let Some(Value::Object(bounds)) = fields.shift_remove("scale_settings") {
        let kept = bounds.into_iter().filter(|(key, _)| key != "type");
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        for (key, value) in kept {
            properties[key] = value.to_string().into();
        }
    }
    first.extend(fields);
    first.into()
}

/// Writes paths below the folder of the file as they may stand in a file there.
fn relative_again(value: &mut Value, folder: &Path) {
    match value {
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|one| relative_again(one, folder)),
        Value::Array(entries) => entries
            .iter_mut()
            .for_each(|one| relative_again(one, folder)),
        Value::String(text) => {
            if let Ok(below) = Path::new(text.as_str()).strip_prefix(folder) {
                *text = Path::new(".").join(below).to_string_lossy().into_owned();
            }
        }
        _ => {}
    }
}

/// Prints what a file would change.
pub(super) fn diff(typed: &Diff, global: &Global) -> Result<(), CliError> {
    let mut wanted = read(&typed.file)?;
    if let (Wanted::Endpoint(file), Some(name)) = (&mut wanted, &typed.name) {
        file.spec.name = name.clone();
    }
    let server = Server::find(global)?;
    let mut all = Vec::new();
    for mut change in changes_of(&server, std::slice::from_ref(&wanted))? {
        deployments_of(&mut change, |one| name_registered(&server, one))?;
        all.push(previewed(&server, change)?);
    }
    let is_for_people = global.format_for_people() == OutputFormat::Table;
    if !is_for_people || global.asks_for_part() {
        return output::print(&json!(all), &global.form());
    }
    let changed: Vec<&Difference> = all.iter().flat_map(|one| &one.changed).collect();
    for note in all.iter().filter_map(|one| one.note.as_ref()) {
        server.tell(&format!("note: {note}\n"));
    }
    match changed.is_empty() {
        true => output::print_text("nothing would change\n"),
        false => output::print_text(&output::table_of(&json!(changed), COLUMNS_OF_CHANGES)),
    }
}

fn previewed(server: &Server, change: Change) -> Result<Preview, CliError> {
    let doing = change.to_string();
    let told = server.client.preview(change);
    told.map_err(|error| CliError::from(error).while_doing(doing))
}

/// A model that would be registered is named where that is done already; else its path says what it is.
fn name_registered(server: &Server, deployment: &mut DeploymentSpec) -> Result<(), CliError> {
    let Some((path, name, version)) = deployment.model_to_register() else {
        return Ok(());
    };
    let known = server.client.models()?;
    let is_known = known
        .iter()
        .any(|one| one.name == *name && one.version == *version);
    match is_known {
        true => {
            let (name, version) = (name.clone(), version.clone());
            deployment.use_registered(name, version);
        }
        false => server.tell(&format!(
            "note: model {name}:{version} would be registered from {}\n",
            path.display()
        )),
    }
    Ok(())
}

/// What a server has after `apply`.
#[derive(Debug, Serialize)]
struct Outcome {
    server: PathBuf,
    endpoint: String,
    revision: u64,
    /// `unchanged`, `Succeeded`, or `accepted` where nobody waited.
    result: &'static str,
    changed: Vec<Difference>,
}

/// Makes it so on each server; all are asked before anything is done to one.
pub(super) fn apply(typed: &Apply, global: &Global) -> Result<(), CliError> {
    let wanted: Vec<_> = typed
        .file
        .iter()
        .map(|path| read(path))
        .collect::<Result<_, _>>()?;
    let folders = match typed.server.as_slice() {
        [] => vec![super::server::data_folder(global)?],
        folders => folders.to_vec(),
    };
    let servers = folders.iter().map(|folder| {
        let found = Server::at(folder, global);
        found.map_err(|error| error.while_doing(format!("ask the server of {}", folder.display())))
    });
    let servers: Vec<_> = servers.collect::<Result<_, _>>()?;
    for (folder, server) in folders.iter().zip(&servers) {
        judge(server, &wanted)
            .map_err(|error| error.while_doing(format!("apply to {}", folder.display())))?;
    }
    let mut outcomes = Vec::new();
    let mut failed = None;
    for (folder, server) in folders.iter().zip(&servers) {
        let made = make_so(server, &wanted, (folder, typed.waiting), &mut outcomes);
        if let Err(error) = made {
            failed = Some(error.while_doing(format!("apply to {}", folder.display())));
            break;
        }
    }
    // Also where one failed: who has what is then what a person needs.
    output::print_as(&json!(outcomes), COLUMNS_OF_SERVERS, &global.form())?;
    failed.map_or(Ok(()), Err)
}

/// Asks whether all of it could be done. What follows from what is not there yet cannot be asked.
fn judge(server: &Server, wanted: &[Wanted]) -> Result<(), CliError> {
    let mut changes = changes_of(server, wanted)?;
    let is_alone = changes.len() == 1;
    for change in &mut changes {
        deployments_of(change, |one| name_registered(server, one))?;
    }
    for change in changes {
        let follows = matches!(&change, Change::UpdateEndpoint { .. }) && !is_alone;
        if !follows {
            previewed(server, change)?;
        }
    }
    Ok(())
}

fn make_so(
    server: &Server,
    wanted: &[Wanted],
    (folder, waiting): (&Path, Waiting),
    outcomes: &mut Vec<Outcome>,
) -> Result<(), CliError> {
    for mut change in changes_of(server, wanted)? {
        deployments_of(&mut change, |one| model::register_inline(server, one))?;
        let Preview {
            revision,
            endpoint,
            changed,
            ..
        } = previewed(server, change.clone())?;
        let is_like_it = changed.is_empty() && is_in_force(server, &change)?;
        let (revision, result) = match is_like_it {
            true => (revision.0, "unchanged"),
            false => {
                let in_force = server.carry_out(change, waiting)?;
                let revision = server.client.status()?.revision;
                (revision.0, if in_force { "Succeeded" } else { "accepted" })
            }
        };
        outcomes.push(Outcome {
            server: folder.to_owned(),
            endpoint: endpoint.to_string(),
            revision,
            result,
            changed,
        });
    }
    Ok(())
}

/// Whether what the change speaks of is as it was asked for: what failed before is tried again.
fn is_in_force(server: &Server, change: &Change) -> Result<bool, CliError> {
    let endpoint = match change {
        Change::UpdateEndpoint { name, .. } => name,
        Change::UpdateDeployment { endpoint, .. } => endpoint,
        _ => return Ok(false),
    };
    let said = server.client.endpoint(endpoint)?;
    Ok(said["provisioning_state"] == "Succeeded")
}

/// The changes by which files become what is there. An endpoint that is not there yet is made with the deployments of the other files;
/// the split of one that is there comes last, for it may speak of deployments that these make.
fn changes_of(server: &Server, wanted: &[Wanted]) -> Result<Vec<Change>, CliError> {
    let known = server.client.endpoints()?;
    let is_known = |name: &str| {
        let mut names = known.iter().filter_map(|one| one["name"].as_str());
        names.any(|known| known.eq_ignore_ascii_case(name))
    };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for one in wanted {
        match one {
            Wanted::Endpoint(file) if is_known(file.spec.name.as_str()) => {
                last.push(Change::UpdateEndpoint {
                    name: file.spec.name.clone(),
                    update: EndpointUpdate {
                        file: Some(file.spec.clone()),
                        deployments: file.deployments.clone(),
                        ..EndpointUpdate::default()
                    },
                });
            }
            Wanted::Endpoint(file) => {
                let is_of_it =
                    |one: &DeploymentSpec| one.endpoint_name.as_ref() == Some(&file.spec.name);
                let others = wanted.iter().filter_map(|one| match one {
                    Wanted::Deployment(one) if is_of_it(one) => Some((**one).clone()),
                    _ => None,
                });
                let own = file.deployments.iter().flatten().cloned();
                first.push(Change::CreateEndpoint {
                    endpoint: file.spec.clone(),
                    deployments: own.chain(others).collect(),
                });
            }
            Wanted::Deployment(one) => {
                let endpoint = one.endpoint_name.clone().ok_or_else(|| {
                    CliError::BadInput(format!(
                        "deployment {}: no endpoint is named: write endpoint_name into its file",
                        one.name
                    ))
                })?;
                let is_made_with_it = wanted.iter().any(
                    |other| matches!(other, Wanted::Endpoint(file) if file.spec.name == endpoint),
                ) && !is_known(endpoint.as_str());
                if !is_made_with_it {
                    first.push(Change::UpdateDeployment {
                        endpoint,
                        name: one.name.clone(),
                        update: DeploymentUpdate {
                            file: Some((**one).clone()),
                            upsert: true,
                            replaces: true,
                            ..DeploymentUpdate::default()
                        },
                    });
                }
            }
        }
    }
    first.extend(last);
    Ok(first)
}

/// Does something to each deployment that a change brings.
fn deployments_of(
    change: &mut Change,
    mut each: impl FnMut(&mut DeploymentSpec) -> Result<(), CliError>,
) -> Result<(), CliError> {
    match change {
        Change::CreateEndpoint { deployments, .. } => deployments.iter_mut().try_for_each(each),
        Change::UpdateEndpoint { update, .. } => {
            update.deployments.iter_mut().flatten().try_for_each(each)
        }
        Change::UpdateDeployment { update, .. } => update.file.as_mut().map_or(Ok(()), &mut each),
        _ => Ok(()),
    }
}

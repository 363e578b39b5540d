//! `serin deployment`: from what was typed to a change, and what is shown of it.

use serde_json::{Value, json};

use super::args::{
    Consent, Deployment, DeploymentCreate, DeploymentUpdate, Global, OutputFormat, Waiting,
};
use super::edits::{self, Edited};
use super::exit::CliError;
use super::files::UpdateFile;
use super::output::Columns;
use super::server::{Server, notes_of};
use super::{changes, files, logs, model, output};
use crate::control::Change;
use crate::control::DeploymentUpdate as Update;
use crate::spec::{DeploymentName, EndpointName};

/// The columns of a table of deployments.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("state", &["/provisioning_state"]),
    ("ready", &["/instances_ready"]),
    ("instances", &["/instance_count"]),
    ("instance_type", &["/instance_type"]),
    ("model", &["/model/path", "/model"]),
];

/// The same for those of one endpoint, each with its share.
pub(super) const COLUMNS_WITH_TRAFFIC: Columns = &[
    ("deployment", &["/name"]),
    ("state", &["/provisioning_state"]),
    ("traffic", &["/traffic"]),
    ("ready", &["/instances_ready"]),
    ("instances", &["/instance_count"]),
    ("instance_type", &["/instance_type"]),
    ("model", &["/model/path", "/model"]),
];

/// The way in which something is deleted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletion {
    pub(super) consent: Consent,
    pub(super) waiting: Waiting,
    /// Whether scripts of `az` call it without `--yes` and without a terminal.
    pub(super) never_asked: bool,
}

/// Runs one of the deployment commands.
pub(super) fn run(command: Deployment, global: &Global) -> Result<(), CliError> {
    match command {
        Deployment::Create(typed) => create(typed, global),
        Deployment::Update(typed) => update(typed, global),
        Deployment::Delete(typed) => {
            let how = Deletion {
                consent: typed.consent,
                waiting: typed.waiting,
                never_asked: false,
            };
            delete(typed.endpoint_name, typed.named.name(), how, global)
        }
        Deployment::Show(typed) => {
            let server = Server::find(global)?;
            let (endpoint, name) = (typed.endpoint_name, typed.named.name());
            let said = server.client.deployment(&endpoint, &name)?;
            if typed.detail.detail {
                return print_detail(&server, &said, global);
            }
            print(&server, &said, &endpoint, global)?;
            notes_of(&said).iter().for_each(|note| server.tell(note));
            Ok(())
        }
        Deployment::GetLogs(typed) => {
            let name = typed.named.as_name();
            logs::print(&typed.endpoint_name, name, &typed.lines, global)
        }
        Deployment::List(typed) => {
            let server = Server::find(global)?;
            let all: Value = server.client.deployments(&typed.endpoint_name)?.into();
            print(&server, &all, &typed.endpoint_name, global)
        }
    }
}

/// Prints a deployment, or a list of them; a table has columns that Azure has no field for.
fn print(
    server: &Server,
    said: &Value,
    endpoint: &EndpointName,
    global: &Global,
) -> Result<(), CliError> {
    if global.format() == OutputFormat::Table && !global.asks_for_part() {
        return output::print_as(said, COLUMNS, &global.form());
    }
    let form = |said| server.az.deployment(said, endpoint.as_str());
    let shown = match said {
        Value::Array(all) => all.iter().map(form).collect(),
        said => form(said),
    };
    output::print_as_az(&shown, COLUMNS, &global.form())
}

/// Prints all that is known of a deployment; below a table what counts, also where the file says nothing.
fn print_detail(server: &Server, said: &Value, global: &Global) -> Result<(), CliError> {
    if global.format() != OutputFormat::Table || global.asks_for_part() {
        return server.print_as(said, COLUMNS);
    }
    let settings = said["effective"].as_object().into_iter().flatten();
    let rows: Value = settings
        .map(|(setting, value)| json!({"setting": setting, "effective": value}))
        .collect();
    let (deployment, rows) = (
        output::table_of(said, COLUMNS),
        output::table_of(&rows, &[]),
    );
    output::print_text(&format!("{deployment}\n{rows}"))
}

fn create(typed: DeploymentCreate, global: &Global) -> Result<(), CliError> {
    let overrides = edits::assignments(&typed.set, false)?;
    let flags = (typed.endpoint_name.as_ref(), typed.name.as_ref());
    let mut deployment = files::deployment(&typed.file, flags, &overrides)?;
    let endpoint = endpoint_of(typed.endpoint_name, deployment.endpoint_name.clone())?;
    let server = Server::find(global)?;
    model::register_inline(&server, &mut deployment)?;
    let (name, model) = (deployment.name.clone(), deployment.model.clone());
    let created = server.carry_out(
        Change::CreateDeployment {
            endpoint: endpoint.clone(),
            deployment,
            all_traffic: typed.all_traffic,
        },
        typed.waiting,
    );
    if created.is_err() {
        model::tell_how_to_register(&server, &model, (&typed.file, global));
    }
    created?;
    let said = server.client.deployment(&endpoint, &name)?;
    print(&server, &said, &endpoint, global)?;
    notes_of(&said).iter().for_each(|note| server.tell(note));
    Ok(())
}

fn update(typed: DeploymentUpdate, global: &Global) -> Result<(), CliError> {
    let typed_edits = &typed.edits;
    let mut set = edits::assignments(&typed_edits.set, typed_edits.force_string)?;
    let flags = (typed.endpoint_name.as_ref(), typed.name.as_ref());
    // They beat the file before it is judged, and below what the deployment is.
    let read = typed.file.as_deref();
    let read = read.map(|path| files::deployment_update(path, flags, &set));
    let (mut file, name, endpoint) = match read.transpose()? {
        None => (None, None, None),
        Some(UpdateFile::Whole(file)) => {
            let (name, endpoint) = (file.name.clone(), file.endpoint_name.clone());
            (Some(*file), Some(name), endpoint)
        }
        Some(UpdateFile::Part {
            name,
            endpoint_name,
            set: parts,
        }) => {
            // What is typed was read over the file, and stands last once more.
            set.splice(0..0, parts);
            (None, Some(name), endpoint_name)
        }
    };
    let endpoint = endpoint_of(typed.endpoint_name, endpoint)?;
    let name = typed
        .name
        .or(name)
        .expect("the grammar asks for a name or a file");
    let server = Server::find(global)?;
    if let Some(file) = &mut file {
        model::register_inline(&server, file)?;
    }
    let revision = typed_edits.revision_of(&server)?;
    let before = server.client.deployment(&endpoint, &name);
    if typed_edits.depend_on_what_is() {
        let mut edited = Edited::of(before.as_ref().map_or(Value::Null, Clone::clone));
        edited.set(&set);
        edited.add(&typed_edits.add, typed_edits.force_string)?;
        edited.remove(&typed_edits.remove)?;
        set.extend(edited.assignments());
    }
    let in_force = server.carry_out_since(
        revision,
        Change::UpdateDeployment {
            endpoint: endpoint.clone(),
            name: name.clone(),
            update: Update {
                file,
                set,
                ..Update::default()
            },
        },
        typed.waiting,
    )?;
    let after = server.client.deployment(&endpoint, &name)?;
    if in_force && let Ok(before) = before {
        let forms = [&before, &after].map(|said| server.az.deployment(said, endpoint.as_str()));
        server.tell(&changes::told(&forms[0], &forms[1]));
    }
    print(&server, &after, &endpoint, global)
}

/// Deletes a deployment; without an endpoint, of the only one that has it.
pub(super) fn delete(
    endpoint: Option<EndpointName>,
    name: DeploymentName,
    how: Deletion,
    global: &Global,
) -> Result<(), CliError> {
    let server = Server::find(global)?;
    // Asked only about what is there.
    if let Some(endpoint) = &endpoint {
        server.client.deployment(endpoint, &name)?;
    }
    let question = format!("Delete deployment {name}?");
    output::consent(&question, how.consent.yes, how.never_asked)?;
    server.carry_out(Change::DeleteDeployment { endpoint, name }, how.waiting)?;
    Ok(())
}

/// The flag beats the file.
fn endpoint_of(
    flag: Option<EndpointName>,
    file: Option<EndpointName>,
) -> Result<EndpointName, CliError> {
    flag.or(file).ok_or_else(|| {
        CliError::BadInput(
            "no endpoint is named: give --endpoint-name, or endpoint_name in the file".to_owned(),
        )
    })
}

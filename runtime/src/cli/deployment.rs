//! `serin deployment`: from what was typed to a change, and what is shown of it.

use super::args::{Consent, Deployment, DeploymentCreate, DeploymentUpdate, Global, Waiting};
use super::exit::CliError;
use super::output::Columns;
use super::server::Server;
use super::{files, output};
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

/// Runs one of the deployment commands.
pub(super) fn run(command: Deployment, global: &Global) -> Result<(), CliError> {
    match command {
        Deployment::Create(typed) => create(typed, global),
        Deployment::Update(typed) => update(typed, global),
        Deployment::Delete(typed) => {
            let how = (typed.consent, typed.waiting);
            delete(typed.endpoint_name, typed.named.name(), how, global)
        }
        Deployment::Show(typed) => {
            let server = Server::find(global)?;
            let name = typed.named.name();
            server.print_as(
                &server.client.deployment(&typed.endpoint_name, &name)?,
                COLUMNS,
            )
        }
        Deployment::List(typed) => {
            let server = Server::find(global)?;
            server.print_as(&server.client.deployments(&typed.endpoint_name)?, COLUMNS)
        }
    }
}

fn create(typed: DeploymentCreate, global: &Global) -> Result<(), CliError> {
    let overrides = files::typed_here(typed.set)?;
    let deployment = files::deployment(&typed.file, typed.name.as_ref(), &overrides)?;
    let endpoint = endpoint_of(typed.endpoint_name, deployment.endpoint_name.clone())?;
    let server = Server::find(global)?;
    let name = deployment.name.clone();
    server.carry_out(
        Change::CreateDeployment {
            endpoint: endpoint.clone(),
            deployment,
            all_traffic: typed.all_traffic,
        },
        typed.waiting,
    )?;
    server.print_as(&server.client.deployment(&endpoint, &name)?, COLUMNS)
}

fn update(typed: DeploymentUpdate, global: &Global) -> Result<(), CliError> {
    let file = match &typed.file {
        Some(path) => Some(files::deployment(path, typed.name.as_ref(), &[])?),
        None => None,
    };
    let endpoint = endpoint_of(
        typed.endpoint_name,
        file.as_ref().and_then(|file| file.endpoint_name.clone()),
    )?;
    let name = typed
        .name
        .or_else(|| Some(file.as_ref()?.name.clone()))
        .expect("the grammar asks for a name or a file");
    let server = Server::find(global)?;
    server.carry_out(
        Change::UpdateDeployment {
            endpoint: endpoint.clone(),
            name: name.clone(),
            update: Update {
                file,
                set: files::typed_here(typed.set)?,
                ..Update::default()
            },
        },
        typed.waiting,
    )?;
    server.print_as(&server.client.deployment(&endpoint, &name)?, COLUMNS)
}

/// Deletes a deployment; without an endpoint, of the only one that has it.
pub(super) fn delete(
    endpoint: Option<EndpointName>,
    name: DeploymentName,
    (consent, waiting): (Consent, Waiting),
    global: &Global,
) -> Result<(), CliError> {
    let server = Server::find(global)?;
    // Asked only about what is there.
    if let Some(endpoint) = &endpoint {
        server.client.deployment(endpoint, &name)?;
    }
    if !consent.yes {
        output::confirm(&format!("Delete deployment {name}?"))?;
    }
    server.carry_out(Change::DeleteDeployment { endpoint, name }, waiting)?;
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

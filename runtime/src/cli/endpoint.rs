//! `serin endpoint`: from what was typed to a change, and what is shown of it.

use super::args::{
    Auth, Endpoint, EndpointCreate, EndpointDelete, EndpointUpdate, Global, Invoke, Key,
    RegenerateKeys,
};
use super::exit::CliError;
use super::output::Columns;
use super::server::Server;
use super::{deployment, files, output};
use crate::control::EndpointUpdate as Update;
use crate::control::{Change, DeploymentUpdate, KeyType};
use crate::spec::{Assignment, EndpointFile, EndpointName, TrafficSplit, read_endpoint};

/// The columns of a table of endpoints.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("state", &["/provisioning_state"]),
    ("traffic", &["/traffic"]),
    ("scoring_uri", &["/scoring_uri"]),
];

/// Runs one of the endpoint commands.
pub(super) fn run(command: Endpoint, global: &Global) -> Result<(), CliError> {
    match command {
        Endpoint::Create(typed) => create(typed, global),
        Endpoint::Update(typed) => update(typed, global),
        Endpoint::Delete(typed) => delete(typed, global),
        Endpoint::Show(typed) => {
            let server = Server::find(global)?;
            server.print_as(&server.client.endpoint(&typed.named.name())?, COLUMNS)
        }
        Endpoint::List(_) => {
            let server = Server::find(global)?;
            server.print_as(&server.client.endpoints()?, COLUMNS)
        }
        Endpoint::Invoke(typed) => invoke(typed, global),
        Endpoint::GetCredentials(typed) => {
            let server = Server::find(global)?;
            server.print(&server.client.credentials(&typed.named.name())?)
        }
        Endpoint::RegenerateKeys(typed) => regenerate_keys(typed, global),
    }
}

fn create(typed: EndpointCreate, global: &Global) -> Result<(), CliError> {
    let waiting = typed.waiting;
    let file = endpoint_file(typed)?;
    let server = Server::find(global)?;
    let name = file.spec.name.clone();
    server.carry_out(
        Change::CreateEndpoint {
            endpoint: file.spec,
            deployments: file.deployments.unwrap_or_default(),
        },
        waiting,
    )?;
    server.print_as(&server.client.endpoint(&name)?, COLUMNS)
}

/// The file with the flags over it; without a file the flags are all.
fn endpoint_file(typed: EndpointCreate) -> Result<EndpointFile, CliError> {
    let mut overrides: Vec<Assignment> = Vec::new();
    if let Some(name) = &typed.name {
        overrides.push(files::assign("name", name.as_str()));
    }
    match typed.auth_mode {
        Some(Auth::Key) => overrides.push(files::assign("auth_mode", "key")),
        Some(Auth::AmlToken) => overrides.push(files::assign("auth_mode", "aml_token")),
        None => {}
    }
    overrides.extend(files::typed_here(typed.set)?);
    match &typed.file {
        Some(path) => files::endpoint(path, &overrides),
        None => Ok(read_endpoint("{}", "command line", &overrides)?),
    }
}

fn update(typed: EndpointUpdate, global: &Global) -> Result<(), CliError> {
    let waiting = typed.waiting;
    let (name, update) = endpoint_update(typed)?;
    let server = Server::find(global)?;
    server.carry_out(
        Change::UpdateEndpoint {
            name: name.clone(),
            update,
        },
        waiting,
    )?;
    server.print_as(&server.client.endpoint(&name)?, COLUMNS)
}

fn endpoint_update(typed: EndpointUpdate) -> Result<(EndpointName, Update), CliError> {
    let file = match &typed.file {
        Some(path) => {
            let name = typed
                .name
                .as_ref()
                .map(|name| files::assign("name", name.as_str()));
            Some(files::endpoint(path, name.as_slice())?)
        }
        None => None,
    };
    let deployment_file = match &typed.deployment_file {
        Some(path) => Some(files::deployment(path, typed.deployment.as_ref(), &[])?),
        None => None,
    };
    let name = typed
        .name
        .or_else(|| Some(file.as_ref()?.spec.name.clone()))
        .expect("the grammar asks for a name or a file");
    let count = typed.instance_count;
    let count = count.map(|count| files::assign("instance_count", count));
    // Without `--deployment` the file says which one it is about.
    let deployment = typed
        .deployment
        .or_else(|| Some(deployment_file.as_ref()?.name.clone()))
        .map(|deployment| {
            let update = DeploymentUpdate {
                upsert: deployment_file.is_some(),
                file: deployment_file,
                set: count.into_iter().collect(),
            };
            (deployment, update)
        });
    let (spec, deployments) = file.map_or((None, None), |file| (Some(file.spec), file.deployments));
    let update = Update {
        file: spec,
        deployments,
        deployment,
        traffic: split(&typed.traffic)?,
        set: files::typed_here(typed.set)?,
    };
    Ok((name, update))
}

/// The split of `--traffic`, in one word or several.
pub(super) fn split(words: &[String]) -> Result<Option<TrafficSplit>, CliError> {
    if words.is_empty() {
        return Ok(None);
    }
    Ok(Some(TrafficSplit::parse(&words.join(" "))?))
}

fn delete(typed: EndpointDelete, global: &Global) -> Result<(), CliError> {
    let name = typed.bare.or(typed.name);
    if let Some(deployment) = typed.deployment {
        return deployment::delete(name, deployment, (typed.consent, typed.waiting), global);
    }
    let name = name.expect("the grammar asks for a name or a deployment");
    let server = Server::find(global)?;
    // Asked only about what is there.
    server.client.endpoint(&name)?;
    if !typed.consent.yes {
        output::confirm(&format!("Delete endpoint {name} and all its deployments?"))?;
    }
    server.carry_out(Change::DeleteEndpoint { name }, typed.waiting)?;
    Ok(())
}

fn invoke(typed: Invoke, global: &Global) -> Result<(), CliError> {
    let request = files::request(&typed.request_file)?;
    let name = typed.named.name();
    let doing = format!("invoke endpoint {name}");
    let server = Server::find(global)?;
    let credentials = server.client.credentials(&name)?;
    let answer = server
        .client
        .score(
            &name,
            typed.deployment.as_ref(),
            credentials.bearer(),
            &request,
        )
        .map_err(|e| CliError::from(e).while_doing(&doing))?;
    if !(200..300).contains(&answer.status) {
        return Err(CliError::Scoring {
            status: answer.status,
            message: words(&answer.body),
        }
        .while_doing(doing));
    }
    print_answer(&answer.body, global)
}

/// Prints an answer as it came, or the part of it that is asked for.
fn print_answer(body: &[u8], global: &Global) -> Result<(), CliError> {
    if !global.asks_for_part() {
        return output::print_answer(body);
    }
    let answer = serde_json::from_slice(body).map_err(|error| {
        CliError::BadInput(format!(
            "--query: the answer is no JSON ({error}); leave --query out to see it"
        ))
    })?;
    output::print(&answer, &global.form())
}

/// The `message` of a refusal, which holds the model's own words; any other body as it is.
fn words(body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}

fn regenerate_keys(typed: RegenerateKeys, global: &Global) -> Result<(), CliError> {
    let name = typed.named.name();
    let server = Server::find(global)?;
    let key = match typed.key_type {
        Key::Primary => KeyType::Primary,
        Key::Secondary => KeyType::Secondary,
    };
    let in_force = server.carry_out(
        Change::RegenerateKey {
            endpoint: name.clone(),
            key,
        },
        typed.waiting,
    )?;
    if !in_force {
        return Ok(());
    }
    server.print(&server.client.credentials(&name)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::args::{Command, Typed};

    /// The update that a command line stands for, as it goes over the wire.
    fn sent(line: &str) -> Value {
        match Typed::parse_from(line.split(' ')).command {
            Command::Endpoint(Endpoint::Update(typed)) => {
                serde_json::to_value(endpoint_update(typed).unwrap().1).unwrap()
            }
            other => panic!("expected an update, found {other:?}"),
        }
    }

    #[test]
    fn the_number_of_instances_is_an_assignment_like_any_other() {
        let flag = sent("serin endpoint update --name iris --deployment blue --instance-count 3");
        let update = json!({"upsert": false, "set": [{"path": "instance_count", "value": 3}]});
        assert_eq!(flag, json!({"deployment": ["blue", update]}));
    }
}

//! `serin endpoint` and `serin online-endpoint`: from what was typed to a change, and what is shown of it.

use std::path::Path;

use serde_json::Value;

use super::args::{
    Auth, Detail, Edits, Endpoint, EndpointCreate, EndpointDelete, EndpointUpdate, Global, Invoke,
    Key, OutputFormat, RegenerateKeys,
};
use super::deployment::Deletion;
use super::edits::{self, Edited};
use super::exit::CliError;
use super::find;
use super::output::Columns;
use super::server::{Server, notes_of};
use super::{changes, deployment, files, logs, model, output, wanted};
use crate::control::EndpointUpdate as Update;
use crate::control::{Change, DeploymentUpdate, KeyType};
use crate::spec::{
    Assignment, DeploymentName, EndpointFile, EndpointName, TrafficSplit, read_endpoint,
};

/// The columns of a table of endpoints.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("state", &["/provisioning_state"]),
    ("traffic", &["/traffic"]),
    ("scoring_uri", &["/scoring_uri"]),
];

/// The words by which an endpoint was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// `endpoint`, as before 2022: its deployments are part of it.
    Old,
    /// `online-endpoint`.
    Today,
}

/// The way in which endpoints are printed.
#[derive(Debug, Clone, Copy)]
struct Showing<'a> {
    global: &'a Global,
    family: Family,
    detail: bool,
}

/// Runs one of the endpoint commands.
pub(super) fn run(command: Endpoint, family: Family, global: &Global) -> Result<(), CliError> {
    let showing = Showing {
        global,
        family,
        detail: false,
    };
    match command {
        Endpoint::Create(typed) => create(typed, showing),
        Endpoint::Update(typed) => update(typed, showing),
        Endpoint::Delete(typed) => delete(typed, showing),
        Endpoint::Show(typed) => {
            let server = Server::find(global)?;
            let said = server.client.endpoint(&typed.named.name())?;
            let Detail { detail } = typed.detail;
            Showing { detail, ..showing }.print(&server, &said)?;
            tell_notes(&server, &said, detail);
            Ok(())
        }
        Endpoint::List(typed) => {
            let server = Server::find(global)?;
            let Detail { detail } = typed.detail;
            let showing = Showing { detail, ..showing };
            let all = server.client.endpoints()?;
            let all = all.iter().map(|said| showing.form(&server, said));
            output::print_as_az(&all.collect(), COLUMNS, &global.form())
        }
        Endpoint::Invoke(typed) => invoke(typed, global),
        Endpoint::GetCredentials(typed) => {
            let server = Server::find(global)?;
            server.print(&server.client.credentials(&typed.named.name())?)
        }
        Endpoint::GetLogs(typed) => {
            let endpoint = typed.named.as_name();
            logs::print(endpoint, &typed.deployment, &typed.lines, global)
        }
        // Refused before, with every flag that it has.
        Endpoint::ListJobs(_) => Ok(()),
        Endpoint::Diff(typed) => wanted::diff(&typed, global),
        Endpoint::RegenerateKeys(typed) => regenerate_keys(typed, global),
    }
}

impl Showing<'_> {
    /// An endpoint as it is printed.
    fn form(self, server: &Server, said: &Value) -> Value {
        match self.detail {
            true => said.clone(),
            false => server.az.endpoint(said, self.family == Family::Old),
        }
    }

    /// Prints one endpoint; in a table its deployments stand below it.
    fn print(self, server: &Server, said: &Value) -> Result<(), CliError> {
        let is_table = self.global.format() == OutputFormat::Table && !self.global.asks_for_part();
        if !is_table {
            return output::print_as_az(&self.form(server, said), COLUMNS, &self.global.form());
        }
        let deployments: Value = find::deployments(said)
            .map(|(name, one)| {
                let mut row = one.clone();
                row["traffic"] = said["traffic"][name].clone();
                row
            })
            .collect();
        let endpoint = output::table_of(said, COLUMNS);
        let deployments = output::table_of(&deployments, deployment::COLUMNS_WITH_TRAFFIC);
        output::print_text(&format!("{endpoint}\n{deployments}"))
    }
}

/// Tells what the fields of Azure have no place for.
fn tell_notes(server: &Server, said: &Value, is_shown: bool) {
    if !is_shown {
        notes_of(said).iter().for_each(|note| server.tell(note));
    }
}

fn create(typed: EndpointCreate, showing: Showing<'_>) -> Result<(), CliError> {
    let waiting = typed.waiting;
    let mut file = endpoint_file(typed)?;
    let server = Server::find(showing.global)?;
    for deployment in file.deployments.iter_mut().flatten() {
        model::register_inline(&server, deployment)?;
    }
    let name = file.spec.name.clone();
    server.carry_out(
        Change::CreateEndpoint {
            endpoint: file.spec,
            deployments: file.deployments.unwrap_or_default(),
        },
        waiting,
    )?;
    let said = server.client.endpoint(&name)?;
    showing.print(&server, &said)?;
    tell_notes(&server, &said, false);
    Ok(())
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
    overrides.extend(edits::assignments(&typed.set, false)?);
    match &typed.file {
        Some(path) => files::endpoint(path, &overrides),
        None => Ok(read_endpoint("{}", "command line", &overrides)?),
    }
}

fn update(mut typed: EndpointUpdate, showing: Showing<'_>) -> Result<(), CliError> {
    let waiting = typed.waiting;
    let edits = Edits {
        set: std::mem::take(&mut typed.edits.set),
        add: std::mem::take(&mut typed.edits.add),
        remove: std::mem::take(&mut typed.edits.remove),
        force_string: typed.edits.force_string,
    };
    let set = edits::assignments(&edits.set, edits.force_string)?;
    let (name, mut update) = endpoint_update(typed, &set)?;
    let declared = update.deployments.iter().flatten();
    let declared: Vec<_> = declared.map(|one| one.name.clone()).collect();
    let set = set.into_iter().map(|one| one.by_name(&declared));
    update.set.extend(set);
    let server = Server::find(showing.global)?;
    let declared = update.deployments.iter_mut().flatten();
    let one = update.deployment.iter_mut();
    let one = one.filter_map(|(_, update)| update.file.as_mut());
    for deployment in declared.chain(one) {
        model::register_inline(&server, deployment)?;
    }
    let revision = edits.revision_of(&server)?;
    let before = server.client.endpoint(&name);
    if edits.depend_on_what_is() {
        let mut edited = Edited::of(before.as_ref().map_or(Value::Null, Clone::clone));
        edited.set(&update.set);
        edited.add(&edits.add, edits.force_string)?;
        edited.remove(&edits.remove)?;
        update.set.extend(edited.assignments());
    }
    let in_force = server.carry_out_since(
        revision,
        Change::UpdateEndpoint {
            name: name.clone(),
            update,
        },
        waiting,
    )?;
    let after = server.client.endpoint(&name)?;
    if in_force && let Ok(before) = before {
        let forms = [&before, &after].map(|said| server.az.endpoint(said, true));
        server.tell(&changes::told(&forms[0], &forms[1]));
    }
    showing.print(&server, &after)
}

/// The update that was typed, without what is edited.
fn endpoint_update(
    typed: EndpointUpdate,
    set: &[Assignment],
) -> Result<(EndpointName, Update), CliError> {
    let file = match &typed.file {
        Some(path) => Some(file_of_update(path, typed.name.as_ref(), set)?),
        None => None,
    };
    let deployment_file = match &typed.deployment_file {
        Some(path) => Some(files::deployment(
            path,
            (None, typed.deployment.as_ref()),
            &[],
        )?),
        None => None,
    };
    let name = typed
        .name
        .or_else(|| Some(file.as_ref()?.spec.name.clone()))
        .expect("the grammar asks for a name or a file");
    let count = typed.instance_count;
    let count = count.map(|count| files::assign("instance_count", count));
    let model = typed.model.map(|model| files::assign("model", model));
    let model = files::typed_here(model.into_iter().collect())?;
    // Without `--deployment` the file says which one it is about.
    let deployment = typed
        .deployment
        .or_else(|| Some(deployment_file.as_ref()?.name.clone()))
        .map(|deployment| {
            let update = DeploymentUpdate {
                replaces: false,
                scale: None,
                upsert: deployment_file.is_some(),
                file: deployment_file,
                set: count.into_iter().chain(model).collect(),
            };
            (deployment, update)
        });
    let (spec, deployments) = file.map_or((None, None), |file| (Some(file.spec), file.deployments));
    let update = Update {
        file: spec,
        deployments,
        deployment,
        traffic: split(&typed.traffic)?,
        set: match typed.mirror_traffic.as_slice() {
            [] => Vec::new(),
            words => vec![files::mirror(words)?],
        },
        ..Update::default()
    };
    Ok((name, update))
}

/// The file of an update; a placeholder in it may be filled in by an assignment, which is made once more to what comes of it.
fn file_of_update(
    path: &Path,
    name: Option<&EndpointName>,
    set: &[Assignment],
) -> Result<EndpointFile, CliError> {
    let name = name.map(|name| files::assign("name", name.as_str()));
    let read = files::endpoint(path, name.as_slice());
    match (&read, set) {
        (Ok(_), _) | (Err(_), []) => read,
        (Err(_), set) => {
            let all: Vec<_> = name.into_iter().chain(set.iter().cloned()).collect();
            files::endpoint(path, &all)
        }
    }
}

/// The split of `--traffic`, in one word or several.
pub(super) fn split(words: &[String]) -> Result<Option<TrafficSplit>, CliError> {
    if words.is_empty() {
        return Ok(None);
    }
    Ok(Some(TrafficSplit::parse(&words.join(" "))?))
}

fn delete(typed: EndpointDelete, showing: Showing<'_>) -> Result<(), CliError> {
    let global = showing.global;
    let never_asked = global.as_az && showing.family == Family::Old;
    let name = typed.bare.or(typed.name);
    if let Some(deployment) = typed.deployment {
        let how = Deletion {
            consent: typed.consent,
            waiting: typed.waiting,
            never_asked,
        };
        return deployment::delete(name, deployment, how, global);
    }
    let name = name.expect("the grammar asks for a name or a deployment");
    let server = Server::find(global)?;
    // Asked only about what is there.
    server.client.endpoint(&name)?;
    let question = format!("Delete endpoint {name} and all its deployments?");
    output::consent(&question, typed.consent.yes, never_asked)?;
    server.carry_out(Change::DeleteEndpoint { name }, typed.waiting)?;
    Ok(())
}

fn invoke(typed: Invoke, global: &Global) -> Result<(), CliError> {
    let file = typed.request_file.expect("the grammar asks for it");
    let request = files::request(&file)?;
    let name = typed.named.name();
    let doing = format!("invoke endpoint {name}");
    let server = Server::find(global)?;
    let deployment = match typed.accepted.local && typed.deployment.is_none() {
        true => Some(only_deployment(&server, &name)?),
        false => typed.deployment,
    };
    let credentials = server.client.credentials(&name)?;
    let answer = server
        .client
        .score(&name, deployment.as_ref(), credentials.bearer(), &request)
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

/// The deployment of an endpoint that has one: with `--local` there are no rules of traffic, as in Azure.
fn only_deployment(server: &Server, name: &EndpointName) -> Result<DeploymentName, CliError> {
    let said = server.client.endpoint(name)?;
    let mut deployments = find::deployments(&said);
    match (deployments.next(), deployments.next()) {
        (Some((only, _)), None) => only
            .parse()
            .map_err(|_| CliError::NotFound(format!("endpoint {name} has no deployment {only:?}"))),
        (None, _) => Err(CliError::BadInput(
            "This local endpoint does not have any deployments, so it cannot be invoked. Please use `serin deployment create` before \
             invoking."
                .to_owned(),
        )),
        (Some(_), Some(_)) => Err(CliError::BadInput(format!(
            "Multiple deployments found for local endpoint ({name}), please specify deployment name."
        ))),
    }
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
    serde_json::from_slice::<Value>(body)
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
    use serde_json::json;

    use super::*;
    use crate::cli::args::{Command, Typed};

    /// The update that a command line stands for, as it goes over the wire.
    fn sent(line: &str) -> Value {
        match Typed::parse_from(line.split(' ')).command {
            Command::Endpoint(Endpoint::Update(typed)) => {
                serde_json::to_value(endpoint_update(typed, &[]).unwrap().1).unwrap()
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

//! `serin model`: the registry of models.

use super::args::{Global, Model};
use super::exit::CliError;
use super::server::{Server, who};
use super::{files, output};
use crate::admin::ModelRequest;

/// Runs one of the model commands.
pub(super) fn run(command: Model, global: &Global) -> Result<(), CliError> {
    match command {
        Model::Create(typed) => {
            let path = files::absolute(&typed.path)?;
            let server = Server::find(global)?;
            let doing = format!(
                "register model {} from {}",
                typed.name,
                typed.path.display()
            );
            let record = server.client.register_model(&ModelRequest {
                path,
                name: typed.name,
                version: typed.version,
                by: who(),
            });
            server.print(&record.map_err(|e| CliError::from(e).while_doing(doing))?)
        }
        Model::List { name } => {
            let server = Server::find(global)?;
            server.print(&match name {
                Some(name) => server.client.model(&name)?,
                None => server.client.models()?,
            })
        }
        Model::Show { name, version } => {
            let server = Server::find(global)?;
            let versions = server.client.model(&name)?;
            let wanted = match &version {
                Some(version) => versions.iter().find(|one| one.version == *version),
                None => versions.iter().max_by_key(|one| one.created_at),
            };
            let found = wanted.ok_or_else(|| {
                let known: Vec<&str> = versions.iter().map(|one| one.version.as_str()).collect();
                CliError::NotFound(format!(
                    "model {name} has no version {}; it has {}",
                    version
                        .as_ref()
                        .map_or("at all", |version| version.as_str()),
                    known.join(", ")
                ))
            })?;
            server.print(found)
        }
        Model::Delete {
            name,
            version,
            consent,
        } => {
            let server = Server::find(global)?;
            if !consent.yes && !output::confirmed(&format!("Delete model {name}:{version}?")) {
                return Err(CliError::NotConfirmed);
            }
            let by = who().unwrap_or_else(|| "cli".to_owned());
            let deleted = server.client.delete_model(&name, &version, &by);
            deleted.map_err(|e| {
                CliError::from(e).while_doing(format!("delete model {name}:{version}"))
            })
        }
    }
}

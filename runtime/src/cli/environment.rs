//! `serin environment`: environments under a name, kept in a file of the user's, and put in place of their name in a deployment.
//!
//! The server knows no such names: a deployment that says `azureml:env:1` is sent with what the name stands for.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::args::{Environment, EnvironmentCreate, EnvironmentVersion, Global};
use super::defaults::{read_kept, write_kept};
use super::edits;
use super::exit::CliError;
use super::output::Columns;
use super::workspace::Workspace;
use super::{files, output};
use crate::spec::{DeploymentSpec, read_environment};

/// The columns of a table of environments.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("version", &["/version"]),
    ("image", &["/image"]),
    ("conda_file", &["/conda_file"]),
];

/// The file of the user's configuration that has them.
const FILE: &str = "environments.json";

/// One version of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    name: String,
    version: String,
    content: Map<String, Value>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Map<String, Value>,
    #[serde(default)]
    is_archived: bool,
}

impl Kept {
    fn shown(&self, workspace: &Workspace) -> Value {
        let path = format!("environments/{}/versions/{}", self.name, self.version);
        let mut shown = self.content.clone();
        let more = json!({
            "description": self.description, "id": workspace.id(&path), "name": self.name, "os_type": "linux",
            "tags": self.tags, "version": self.version,
        });
        shown.extend(more.as_object().cloned().unwrap_or_default());
        shown.sort_keys();
        shown.into()
    }
}

/// Runs one of the environment commands.
pub(super) fn run(command: Environment, global: &Global) -> Result<(), CliError> {
    let mut kept: Vec<Kept> = read_kept(FILE);
    let workspace = Workspace::of(global);
    match command {
        Environment::Create(typed) => {
            let new = create(&typed, &mut kept)?;
            write_kept(FILE, &kept)?;
            output::print_as_az(&new.shown(&workspace), COLUMNS, &global.form())
        }
        Environment::List { name } => {
            let is_listed = |one: &&Kept| {
                !one.is_archived && name.as_ref().is_none_or(|name| one.name == name.as_str())
            };
            let listed = kept.iter().filter(is_listed);
            let listed = listed.map(|one| one.shown(&workspace));
            output::print_as_az(&listed.collect(), COLUMNS, &global.form())
        }
        Environment::Show(typed) => {
            let at = place_of(&typed, &kept)?;
            output::print_as_az(&kept[at].shown(&workspace), COLUMNS, &global.form())
        }
        Environment::Archive(typed) | Environment::Delete(typed) => {
            let at = place_of(&typed, &kept)?;
            kept[at].is_archived = true;
            write_kept(FILE, &kept)
        }
        Environment::Restore(typed) => {
            let at = place_of(&typed, &kept)?;
            kept[at].is_archived = false;
            write_kept(FILE, &kept)
        }
    }
}

fn create(typed: &EnvironmentCreate, kept: &mut Vec<Kept>) -> Result<Kept, CliError> {
    let flags = [
        ("name", typed.name.as_ref().map(|name| name.as_str())),
        (
            "version",
            typed.version.as_ref().map(|version| version.as_str()),
        ),
        ("image", typed.image.as_deref()),
    ];
    let flags = flags.into_iter();
    let mut overrides: Vec<_> = flags
        .filter_map(|(key, value)| Some(files::assign(key, value?)))
        .collect();
    overrides.extend(edits::assignments(&typed.set, false)?);
    let mut spec = match &typed.file {
        Some(path) => files::environment(path, &overrides)?,
        None => read_environment("{}", "command line", &overrides)?,
    };
    if let Some(path) = &typed.conda_file {
        let path = files::absolute(path)?.to_string_lossy().into_owned();
        spec.content.insert("conda_file".to_owned(), path.into());
    }
    let name = spec.name.as_str();
    let of_name = kept.iter().filter(|one| one.name == name);
    let numbers = of_name.filter_map(|one| one.version.parse::<u64>().ok());
    let next = numbers.max().unwrap_or(0).saturating_add(1).to_string();
    let version = spec
        .version
        .map_or(next, |version| version.as_str().to_owned());
    let new = Kept {
        name: name.to_owned(),
        version,
        content: spec.content,
        description: spec.description,
        tags: spec.tags,
        is_archived: false,
    };
    let same = |one: &&mut Kept| one.name == new.name && one.version == new.version;
    match kept.iter_mut().find(same) {
        Some(known) if known.content != new.content => Err(CliError::BadInput(format!(
            "environment {}:{} is kept with other content; a version never changes: choose another version",
            new.name, new.version
        ))),
        Some(known) => {
            *known = new.clone();
            Ok(new)
        }
        None => {
            kept.push(new.clone());
            Ok(new)
        }
    }
}

/// A version by its number; without one the last that was made.
fn place_of(typed: &EnvironmentVersion, kept: &[Kept]) -> Result<usize, CliError> {
    let name = typed.named.as_name().as_str();
    let version = typed.version.as_ref().map(|version| version.as_str());
    find(name, version, kept).ok_or_else(|| {
        let known: Vec<_> = kept
            .iter()
            .map(|one| format!("{}:{}", one.name, one.version))
            .collect();
        CliError::NotFound(format!(
            "no environment {name}{}; there are {}",
            version.map_or(String::new(), |version| format!(":{version}")),
            match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            }
        ))
    })
}

fn find(name: &str, version: Option<&str>, kept: &[Kept]) -> Option<usize> {
    let is_it =
        |one: &Kept| one.name == name && version.is_none_or(|version| one.version == version);
    kept.iter().rposition(is_it)
}

/// Puts what a name stands for in its place; a name that is not kept stays, for the server to judge.
pub(super) fn resolve(deployment: &mut DeploymentSpec) {
    let Some(environment) = deployment.kept.get_mut("environment") else {
        return;
    };
    let Some(reference) = environment
        .as_str()
        .and_then(|text| text.strip_prefix("azureml:"))
    else {
        return;
    };
    let (name, version) = match reference.split_once('@') {
        Some((name, _)) => (name, None),
        None => match reference.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (reference, None),
        },
    };
    let kept: Vec<Kept> = read_kept(FILE);
    if let Some(at) = find(name, version, &kept) {
        *environment = kept[at].content.clone().into();
    }
}

/// Makes the path of a conda file absolute, seen from the folder of the environment's file.
pub(super) fn resolve_paths(content: &mut Map<String, Value>, folder: &Path) {
    if let Some(Value::String(path)) = content.get_mut("conda_file") {
        let bare = path.strip_prefix("file:").unwrap_or(path);
        *path = folder.join(bare).to_string_lossy().into_owned();
    }
}

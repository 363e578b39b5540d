//! `serin environment`: environments under a name, kept in a file of the user's.

use super::args::{Environment, EnvironmentCreate, EnvironmentVersion, Global};
use super::defaults::{read_kept, write_kept};
use super::edits;
use super::exit::CliError;
use super::kept_environments::{FILE, Kept, find};
use super::output::Columns;
use super::workspace::Workspace;
use super::{files, output};
use crate::spec::read_environment;

/// The columns of a table of environments.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("version", &["/version"]),
    ("image", &["/image"]),
    ("conda_file", &["/conda_file"]),
];

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

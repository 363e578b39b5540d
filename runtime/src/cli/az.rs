//! The name `az`: `az ml ...` is `serin ...`, and the commands of `az` around it that scripts call do no harm.
//!
//! `serin az install DIR` makes the link. Of the commands outside `ml` those that ask about the subscription, the group and the
//! defaults are answered consistently with the ids that `show` prints; those that make or delete what only the cloud has do
//! nothing, and say so on standard error; all others are refused, so that nobody believes that something was done.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::az_flags;
use super::defaults::Defaults;
use super::exit::CliError;
use super::form::{Form, OutputFormat};
use super::output;
use super::workspace::{NOBODY, Workspace};

/// Groups of commands about what only the cloud has.
const OF_THE_CLOUD: &[&str] = &[
    "acr",
    "ad",
    "deployment",
    "feedback",
    "identity",
    "keyvault",
    "login",
    "logout",
    "monitor",
    "network",
    "provider",
    "resource",
    "role",
    "storage",
    "tag",
    "upgrade",
];

/// Versions that are old enough for every flag that is understood, and new enough for every check of a script.
const VERSION: &str = "2.80.0";
const EXTENSION: &str = "2.40.0";

/// The words behind the name, where the program was called `az`.
pub(super) fn called_as_az(mut words: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let program = words.next()?;
    (Path::new(&program).file_name() == Some(OsStr::new("az"))).then(|| words.collect())
}

/// A command of `az` outside `ml`, taken apart.
#[derive(Debug, Default)]
struct Words {
    /// `group`, `show`: what stands before the first flag.
    verbs: Vec<String>,
    /// Flags without their dashes, and what stands behind each.
    flags: Vec<(String, Vec<String>)>,
}

impl Words {
    fn of(words: &[OsString]) -> Self {
        let mut taken = Self::default();
        for word in words {
            let word = word.to_string_lossy().into_owned();
            let flag = word.strip_prefix("--").or_else(|| {
                let short = word.strip_prefix('-')?;
                short
                    .starts_with(|c: char| c.is_ascii_alphabetic())
                    .then_some(short)
            });
            match (flag, taken.flags.last_mut()) {
                (Some(flag), _) => {
                    let (name, value) = match flag.split_once('=') {
                        Some((name, value)) if word.starts_with("--") => {
                            (name, vec![value.to_owned()])
                        }
                        _ => (flag, Vec::new()),
                    };
                    taken.flags.push((name.to_owned(), value));
                }
                (None, Some((_, values))) => values.push(word),
                (None, None) => taken.verbs.push(word),
            }
        }
        taken
    }

    /// What stands behind a flag, by its long name or a clear beginning of it, or its short name.
    fn values(&self, long: &str, short: &str) -> Option<&[String]> {
        let named = |name: &str| name == short || (name.len() > 2 && long.starts_with(name));
        let found = self.flags.iter().find(|(name, _)| named(name));
        found.map(|(_, values)| values.as_slice())
    }

    fn value(&self, long: &str, short: &str) -> Option<&str> {
        self.values(long, short)?.first().map(String::as_str)
    }

    fn form(&self) -> Result<Form, CliError> {
        let format = match self.value("output", "o") {
            None => OutputFormat::default(),
            Some(word) => OutputFormat::from_str(word, true).map_err(|_| {
                CliError::Usage(format!(
                    "--output: expected json, jsonc, yaml, yamlc, table, tsv or none, found {word:?}"
                ))
            })?,
        };
        let query = self.value("query", "query").map(str::parse).transpose();
        let query = query.map_err(|mistake| CliError::Usage(format!("--query: {mistake}")))?;
        Ok(Form { format, query })
    }
}

/// Does what a command of `az` outside `ml` asks for.
pub(super) fn run(words: &[OsString]) -> Result<(), CliError> {
    let words = Words::of(words);
    let form = words.form()?;
    let verbs: Vec<&str> = words.verbs.iter().map(String::as_str).collect();
    let print = |value: Value| output::print(&value, &form);
    match verbs.as_slice() {
        ["install", folder] => print(install(Path::new(folder))?),
        ["flags"] => az_flags::print(),
        [] if words.values("version", "v").is_some() => print(version()),
        [] if words.values("help", "h").is_some() => output::print_text(&format!("{}\n", known())),
        ["version"] => print(version()),
        ["configure"] => configure(&words, &form),
        ["config", rest @ ..] => config(rest, &form),
        ["account", "list"] => print(json!([account(&words)])),
        ["account", "show"] => print(account(&words)),
        ["account", ..] => Ok(()),
        ["group", "exists"] => print(true.into()),
        ["group", "list"] => print(json!([group(&words)])),
        ["group", "show" | "create" | "update"] => print(group(&words)),
        ["extension", "list"] => print(json!([extension()])),
        ["extension", "show"] => print(extension()),
        ["extension", ..] => Ok(()),
        [first, rest @ ..] if OF_THE_CLOUD.contains(first) => {
            told_as_nothing(&words);
            match rest.last() {
                Some(&"list") => print(json!([])),
                Some(&("show" | "create" | "update")) => print(of_the_cloud(&words)),
                _ => Ok(()),
            }
        }
        _ => Err(CliError::Usage(format!(
            "{}; found {:?}",
            known(),
            verbs.join(" ")
        ))),
    }
}

/// What may stand behind the name.
fn known() -> String {
    format!(
        "under the name `az` serin knows `az ml` (`az ml --help`), and what stands around it in scripts: account, config, \
         configure, extension, group, version; and {}, which do nothing",
        OF_THE_CLOUD.join(", ")
    )
}

fn told_as_nothing(words: &Words) {
    if words
        .values("only-show-errors", "only-show-errors")
        .is_none()
    {
        output::complain(&format!(
            "note: `az {}` does nothing here: serin has one machine, and nothing of the cloud\n",
            words.verbs.join(" ")
        ));
    }
}

/// A thing that only the cloud has, with the fields that scripts ask for and nothing behind them.
fn of_the_cloud(words: &Words) -> Value {
    json!({
        "clientId": NOBODY,
        "id": "",
        "location": "local",
        "name": words.value("name", "n").unwrap_or_default(),
        "principalId": NOBODY,
        "tenantId": NOBODY,
    })
}

/// The workspace as the flags name it, or the defaults.
fn workspace(words: &Words) -> Workspace {
    let kept = Defaults::read();
    let place = Workspace::default();
    let flag = |long, short| words.value(long, short).map(str::to_owned);
    let flag_of_group = || match words.verbs.first().map(String::as_str) {
        Some("group") => flag("name", "n"),
        _ => None,
    };
    let group = flag_of_group().or_else(|| flag("resource-group", "g"));
    Workspace {
        subscription: flag("subscription", "s")
            .or_else(|| kept.get("subscription"))
            .unwrap_or(place.subscription),
        group: group.or_else(|| kept.get("group")).unwrap_or(place.group),
        name: kept.get("workspace").unwrap_or(place.name),
    }
}

fn account(words: &Words) -> Value {
    json!({
        "environmentName": "AzureCloud",
        "homeTenantId": NOBODY,
        "id": workspace(words).subscription,
        "isDefault": true,
        "managedByTenants": [],
        "name": "local",
        "state": "Enabled",
        "tenantId": NOBODY,
        "user": {"name": env::var("USER").unwrap_or_default(), "type": "user"},
    })
}

fn group(words: &Words) -> Value {
    let Workspace {
        subscription,
        group,
        ..
    } = workspace(words);
    json!({
        "id": format!("/subscriptions/{subscription}/resourceGroups/{group}"),
        "location": words.value("location", "l").unwrap_or("local"),
        "managedBy": null,
        "name": group,
        "properties": {"provisioningState": "Succeeded"},
        "tags": {},
        "type": "Microsoft.Resources/resourceGroups",
    })
}

fn version() -> Value {
    json!({
        "azure-cli": VERSION,
        "azure-cli-core": VERSION,
        "azure-cli-telemetry": "1.1.0",
        "extensions": {"ml": EXTENSION},
        "serin": env!("CARGO_PKG_VERSION"),
    })
}

fn extension() -> Value {
    json!({"experimental": false, "extensionType": "whl", "name": "ml", "path": "", "preview": false, "version": EXTENSION})
}

/// `az configure --defaults group=.. workspace=..`, and `--list-defaults`.
fn configure(words: &Words, form: &Form) -> Result<(), CliError> {
    if words.values("list-defaults", "l").is_some() {
        return output::print(&listed(&Defaults::read()), form);
    }
    let pairs = words.values("defaults", "d").unwrap_or_default();
    if pairs.is_empty() {
        return Err(CliError::Usage(
            "az configure: expected defaults to keep: `az configure --defaults group=G workspace=W`".to_owned(),
        ));
    }
    keep(pairs.iter().map(String::as_str))
}

/// Keeps `name=value` pairs, all or none.
fn keep<'a>(pairs: impl Iterator<Item = &'a str>) -> Result<(), CliError> {
    let mut kept = Defaults::read();
    for pair in pairs {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            CliError::Usage(format!(
                "expected a default such as group=G, found {pair:?}"
            ))
        })?;
        kept.set(name.strip_prefix("defaults.").unwrap_or(name), value);
    }
    kept.write()
}

/// `az config get [defaults[.NAME]]`, `set NAME=VALUE ..`, `unset NAME ..`
fn config(words: &[&str], form: &Form) -> Result<(), CliError> {
    let kept = Defaults::read();
    match words {
        ["get"] => output::print(&json!({"defaults": listed(&kept)}), form),
        ["get", "defaults"] => output::print(&listed(&kept), form),
        ["get", name] => {
            let name = name.strip_prefix("defaults.").unwrap_or(name);
            let value = kept
                .get(name)
                .ok_or_else(|| CliError::NotFound(format!("no default {name:?} is kept")))?;
            output::print(&listed_one(name, &value), form)
        }
        ["set", pairs @ ..] => keep(pairs.iter().copied()),
        ["unset", names @ ..] => {
            let pairs: Vec<String> = names.iter().map(|name| format!("{name}=")).collect();
            keep(pairs.iter().map(String::as_str))
        }
        _ => Err(CliError::Usage(
            "az config: expected get, set or unset".to_owned(),
        )),
    }
}

fn listed(kept: &Defaults) -> Value {
    kept.all()
        .map(|(name, value)| listed_one(name, value))
        .collect()
}

fn listed_one(name: &str, value: &str) -> Value {
    json!({"name": name, "source": "serin", "value": value})
}

/// Makes the link `az` in a folder; what it prints says how it is found.
fn install(folder: &Path) -> Result<Value, CliError> {
    let link = folder.join("az");
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Write { path, source }
    };
    let program = env::current_exe().map_err(refused(&link))?;
    fs::create_dir_all(folder).map_err(refused(folder))?;
    match fs::read_link(&link) {
        Ok(there) if is_serin(&there) => fs::remove_file(&link).map_err(refused(&link))?,
        Ok(_) => return Err(occupied(&link)),
        Err(_) if link.symlink_metadata().is_ok() => return Err(occupied(&link)),
        Err(_) => {}
    }
    symlink(&program, &link).map_err(refused(&link))?;
    output::complain(&format!(
        "note: scripts find it when the folder comes first: export PATH={}:$PATH\n",
        folder.display()
    ));
    Ok(json!({"link": link, "program": program}))
}

fn is_serin(program: &Path) -> bool {
    program.file_name() == Some(OsStr::new("serin"))
}

fn occupied(link: &Path) -> CliError {
    let link: PathBuf = link.to_owned();
    CliError::BadInput(format!(
        "{} is another program: choose a folder of its own for the link",
        link.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        Words::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn verbs_end_at_the_first_flag_and_values_belong_to_theirs() {
        let words = words("storage account show --name acc -g group --query=id --out tsv -v");
        assert_eq!(words.verbs, ["storage", "account", "show"]);
        assert_eq!(words.value("name", "n"), Some("acc"));
        assert_eq!(words.value("resource-group", "g"), Some("group"));
        assert_eq!(words.form().unwrap().format, OutputFormat::Tsv);
        assert!(words.form().unwrap().query.is_some());
        assert_eq!(words.values("version", "v"), Some(&[][..]));
    }

    #[test]
    fn a_negative_number_is_a_value() {
        assert_eq!(
            words("monitor x --scale -1").value("scale", "s"),
            Some("-1")
        );
    }

    #[test]
    fn the_program_is_az_by_its_file_alone() {
        let called = |line: &str| called_as_az(line.split(' ').map(OsString::from));
        assert!(called("/opt/bin/az ml endpoint list").is_some());
        assert!(called("az").is_some());
        assert!(called("/az/serin az").is_none());
    }
}

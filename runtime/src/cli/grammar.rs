//! The grammar as a whole: what `args` declares, with the habits of `az`, and with what people read of it.
//!
//! Of a flag that is given twice the last counts, as in `az`; flags that take a list (`--set`) add up. Help has examples, and names the
//! flags that are kept for scripts, and those that are refused, in one line each.

use std::ffi::OsString;
use std::fs;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::Shell;

use super::args::{ManPages, Typed};
use super::exit::CliError;
use super::output;
use super::refused::{self, REFUSED};

/// Begins the help of a flag that is kept for scripts and has no effect.
pub(super) const KEPT: &str = "Kept for scripts of `az ml`";

/// The commands that matter first, as they are typed.
const FIRST: &[&str] = &[
    "demo",
    "serve",
    "model create",
    "endpoint create",
    "deployment create",
    "endpoint invoke",
    "endpoint update",
    "deployment get-logs",
    "bench",
    "rollback",
];

/// What one types, by command.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "rollout start",
        &[
            "serin rollout start --from blue --to green",
            "serin rollout start --file rollout.yml --watch",
            "serin rollout start --dry-run",
        ],
    ),
    ("rollout status", &["serin rollout status --watch"]),
    (
        "rollout promote",
        &["serin rollout promote", "serin rollout promote --full"],
    ),
    ("rollout pause", &["serin rollout pause"]),
    ("rollout resume", &["serin rollout resume"]),
    ("rollout abort", &["serin rollout abort"]),
    ("rollout undo", &["serin rollout undo"]),
    ("rollout history", &["serin rollout history -o table"]),
    ("rollout explain", &["serin rollout explain"]),
    ("rollout replay", &["serin rollout replay --id 1"]),
    (
        "rollout report",
        &["serin rollout report --html rollout.html"],
    ),
    ("rollout list", &["serin rollout list -o table"]),
    (
        "bench compare",
        &["serin bench compare before.json after.json"],
    ),
    ("verdict", &["serin verdict --from blue --to green"]),
    ("feedback", &["serin feedback --file labels.jsonl"]),
    ("demo", &["serin demo", "serin demo --keep"]),
    (
        "serve",
        &[
            "serin serve",
            "serin serve --port 0 --supervise",
            "serin serve --replace",
        ],
    ),
    (
        "up",
        &[
            "serin up model.onnx",
            "serin up iris-v1.onnx iris-v2.onnx --traffic iris-v1=90 iris-v2=10",
        ],
    ),
    (
        "endpoint create",
        &[
            "serin endpoint create --name iris",
            "serin endpoint create -f endpoint.yml --set tags.team=vision",
        ],
    ),
    (
        "endpoint update",
        &[
            "serin endpoint update -n iris --traffic blue=90 green=10",
            "serin endpoint update -n iris --deployment blue --instance-count 5",
            "serin endpoint update -f endpoint.yml",
        ],
    ),
    (
        "endpoint delete",
        &[
            "serin endpoint delete iris --yes",
            "serin endpoint delete --deployment blue --yes",
        ],
    ),
    (
        "endpoint show",
        &[
            "serin endpoint show iris",
            "serin endpoint show iris --query provisioning_state -o tsv",
            "serin endpoint show iris -o table",
        ],
    ),
    ("endpoint list", &["serin endpoint list -o table"]),
    (
        "endpoint invoke",
        &[
            "serin endpoint invoke iris --request-file request.json",
            "echo '{\"data\": [[1, 2]]}' | serin endpoint invoke iris -r - --deployment green",
        ],
    ),
    (
        "endpoint get-credentials",
        &["serin endpoint get-credentials iris --query primaryKey -o tsv"],
    ),
    (
        "endpoint regenerate-keys",
        &["serin endpoint regenerate-keys iris --key-type secondary"],
    ),
    (
        "endpoint get-logs",
        &["serin endpoint get-logs iris --deployment blue --lines 100"],
    ),
    (
        "endpoint diff",
        &[
            "serin endpoint diff -f endpoint.yml",
            "serin endpoint diff -f blue.yml -o json",
        ],
    ),
    (
        "deployment create",
        &[
            "serin deployment create -f blue.yml --all-traffic",
            "serin deployment create -f blue.yml -e iris --set instance_count=2",
        ],
    ),
    (
        "deployment update",
        &[
            "serin deployment update -n blue -e iris --set instance_count=5",
            "serin deployment update -f blue.yml",
        ],
    ),
    (
        "deployment delete",
        &["serin deployment delete blue -e iris --yes"],
    ),
    (
        "deployment show",
        &["serin deployment show blue -e iris --detail"],
    ),
    (
        "deployment list",
        &["serin deployment list -e iris -o table"],
    ),
    (
        "deployment get-logs",
        &["serin deployment get-logs blue -e iris --lines 100"],
    ),
    (
        "model create",
        &[
            "serin model create --name digits --path model.onnx",
            "serin model create --name digits --version 2 --path ./model --tags team=vision",
        ],
    ),
    (
        "model list",
        &[
            "serin model list -o table",
            "serin model list --name digits",
        ],
    ),
    (
        "model update",
        &["serin model update digits --version 2 --stage Production"],
    ),
    ("model archive", &["serin model archive digits --version 1"]),
    ("model restore", &["serin model restore digits --version 1"]),
    (
        "model download",
        &["serin model download digits --version 1 --download-path copies"],
    ),
    (
        "model show",
        &[
            "serin model show digits",
            "serin model show --path model.onnx",
        ],
    ),
    (
        "model delete",
        &["serin model delete digits --version 1 --yes"],
    ),
    (
        "environment create",
        &["serin environment create -f environment.yml"],
    ),
    ("environment list", &["serin environment list -o table"]),
    (
        "environment show",
        &["serin environment show my-env --version 1"],
    ),
    (
        "environment archive",
        &["serin environment archive my-env --version 1"],
    ),
    (
        "environment restore",
        &["serin environment restore my-env --version 1"],
    ),
    (
        "score-script check",
        &["serin score-script check ./onlinescoring --model model.pkl"],
    ),
    ("sku list", &["serin sku list -o table"]),
    ("sku show", &["serin sku show Standard_F4s_v2"]),
    (
        "tune",
        &[
            "serin tune model.onnx",
            "serin tune --deployment blue --apply",
        ],
    ),
    (
        "bench",
        &[
            "serin bench v1.onnx v2.onnx",
            "serin bench blue green --fail-if 'p99>1.10'",
        ],
    ),
    ("az", &["serin az install ~/bin", "serin az flags"]),
    (
        "apply",
        &[
            "serin apply -f endpoint.yml -f blue.yml",
            "serin apply -f endpoint.yml --server /srv/a --server /srv/b",
        ],
    ),
    (
        "convert",
        &[
            "serin convert old.yml",
            "serin convert old.yml --folder new",
        ],
    ),
    (
        "history",
        &["serin history iris -o table", "serin history --last 5"],
    ),
    (
        "rollback",
        &["serin rollback --to 7", "serin rollback iris --to 7"],
    ),
    (
        "status",
        &[
            "serin status",
            "serin status --watch",
            "serin status --query ready",
        ],
    ),
    ("journal", &["serin journal -o table --last 20"]),
    ("backup", &["serin backup /backups/today"]),
    ("restore", &["serin restore /backups/today"]),
    (
        "completions",
        &[
            "serin completions bash > ~/.local/share/bash-completion/completions/serin",
            "serin completions zsh > ~/.zfunc/_serin",
            "serin completions fish > ~/.config/fish/completions/serin.fish",
        ],
    ),
    ("man", &["serin man ~/.local/share/man/man1"]),
];

/// Commands whose result is for people where `--output` says nothing, and its form then.
const FOR_PEOPLE: &[(&str, &str)] = &[
    ("bench", "a table on a terminal, else json"),
    ("bench compare", "a table on a terminal, else json"),
    ("tune", "a table on a terminal, else json"),
    ("endpoint diff", "table"),
    ("score-script check", "words for people"),
    ("rollout start", "json, and words for people with --dry-run"),
    ("rollout explain", "words for people"),
    ("status", "a table on a terminal, else json"),
    (
        "serve",
        "a line when it is ready, and with none not even that",
    ),
    ("up", "words for people, whatever is asked for"),
    ("demo", "words for people, whatever is asked for"),
    ("convert", "yaml, whatever is asked for"),
    (
        "completions",
        "a script of the shell, whatever is asked for",
    ),
    ("man", "nothing, whatever is asked for"),
];

/// The form of a command's result where nobody asks for one, if it is not that of all others.
pub(super) fn for_people(path: &str) -> Option<&'static str> {
    let today = path.replacen("online-", "", 1);
    let found = FOR_PEOPLE.iter().find(|(of, _)| *of == today);
    found.map(|(_, default)| *default)
}

/// A command with the flag `--output` of its own, where its default is another.
fn with_own_output(command: Command, path: &str, globals: &[Arg]) -> Command {
    let output = globals.iter().find(|arg| arg.get_id() == "output");
    let (Some(default), Some(output)) = (for_people(path), output) else {
        return command;
    };
    let help = output.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let own = help.replace("[default: json]", &format!("[default: {default}]"));
    command.arg(last_counts(output.clone().help(own)))
}

/// Reads the words of a command line; the first is the program.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Typed, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let matches = match with_habits(Typed::command()).try_get_matches_from(&words) {
        // Only who asks for help waits for all of it to be put together.
        Err(asked)
            if matches!(
                asked.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            ) =>
        {
            whole().try_get_matches_from(words)
        }
        parsed => parsed,
    }?;
    let mut typed = Typed::from_arg_matches(&matches)?;
    typed.global.refusal = refused::of(&matches);
    Ok(typed)
}

/// A command and all below it with the habits of `az`.
fn with_habits(command: Command) -> Command {
    command.mut_args(last_counts).mut_subcommands(with_habits)
}

/// The grammar with all that is read of it.
pub(super) fn whole() -> Command {
    let declared = Typed::command();
    let globals: Vec<_> = declared
        .get_arguments()
        .filter(|one| one.is_global_set())
        .cloned()
        .collect();
    let overview = overview(&declared);
    completed(declared, "", &globals).help_template(overview)
}

/// The same for shells and manual pages: without the commands by which the server starts its own processes, which nobody types.
pub(super) fn listed() -> Command {
    let whole = completed(Typed::command(), "", &[]);
    let is_typed = |one: &&Command| !one.get_name().starts_with("__");
    let commands: Vec<_> = whole.get_subcommands().filter(is_typed).cloned().collect();
    let arguments: Vec<_> = whole.get_arguments().cloned().collect();
    Command::new("serin")
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .args(arguments)
        .subcommands(commands)
}

/// A command and all below it, with habits and examples.
fn completed(command: Command, path: &str, globals: &[Arg]) -> Command {
    let kept = after_help(&command, path, globals);
    let is_group = command.get_subcommands().next().is_some();
    let command = with_own_output(command.mut_args(last_counts), path, globals);
    let command = command.mut_subcommands(|below| {
        let name = below.get_name().to_owned();
        let path = match path {
            "" => name,
            path => format!("{path} {name}"),
        };
        completed(below, &path, globals)
    });
    match kept.is_empty() || (is_group && path.is_empty()) {
        true => command,
        false => match command.get_after_help().map(ToString::to_string) {
            Some(before) => command.after_help(format!("{before}\n\n{kept}")),
            None => command.after_help(kept),
        },
    }
}

/// Of a flag that is given twice the last one counts.
fn last_counts(arg: Arg) -> Arg {
    let is_one = matches!(
        arg.get_action(),
        ArgAction::Set | ArgAction::SetTrue | ArgAction::SetFalse
    );
    match is_one && !arg.is_positional() {
        true => {
            let id = arg.get_id().clone();
            arg.overrides_with(id)
        }
        false => arg,
    }
}

/// What one types for a command, by its path.
pub(super) fn examples(path: &str) -> &'static [&'static str] {
    let today = path.replacen("online-", "", 1);
    let found = EXAMPLES.iter().find(|(of, _)| *of == today);
    found.map_or(&[], |(_, lines)| lines)
}

/// Examples, and the flags that help does not describe.
fn after_help(command: &Command, path: &str, globals: &[Arg]) -> String {
    let examples = examples(path);
    let mut parts = Vec::new();
    if !examples.is_empty() {
        parts.push(format!("Examples:\n  {}", examples.join("\n  ")));
        let own = command.get_arguments().chain(globals);
        let all: Vec<&Arg> = own.collect();
        for (words, kind) in [
            ("Kept for scripts of `az ml`, without effect", Kind::Kept),
            ("Refused, with the reason", Kind::Refused),
        ] {
            let flags = all.iter().filter(|arg| Kind::of(arg) == kind);
            let mut flags: Vec<_> = flags.map(|arg| spelled(arg)).collect();
            flags.dedup();
            if !flags.is_empty() {
                parts.push(format!("{words}: {}", flags.join(", ")));
            }
        }
    }
    parts.join("\n\n")
}

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does what its help says.
    Works,
    /// It is understood, and changes nothing.
    Kept,
    /// It is refused in words.
    Refused,
    /// It is the server's own, between its processes.
    Internal,
}

impl Kind {
    pub(super) fn of(arg: &Arg) -> Self {
        let id = arg.get_id().as_str();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        match () {
            () if REFUSED.iter().any(|(refused, _)| *refused == id) => Self::Refused,
            () if help.starts_with(KEPT) => Self::Kept,
            () if arg.is_hide_set() => Self::Internal,
            () => Self::Works,
        }
    }
}

/// A flag as it is typed: `--name, -n`
pub(super) fn spelled(arg: &Arg) -> String {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let spelled: Vec<_> = long.into_iter().chain(short).collect();
    match spelled.is_empty() {
        true => {
            let names = arg.get_value_names().unwrap_or_default();
            names.first().map_or_else(String::new, ToString::to_string)
        }
        false => spelled.join(" "),
    }
}

/// The help of the program: what matters first, then the rest.
fn overview(declared: &Command) -> String {
    let mut text = "{about}\n\n{usage-heading} {usage}\n\nCommands that matter first:\n".to_owned();
    let first = FIRST.iter().filter_map(|path| {
        let found = path
            .split(' ')
            .try_fold(declared, |command, name| command.find_subcommand(name));
        Some(((*path).to_owned(), about(found?)))
    });
    text.push_str(&columns(first.collect()));
    text.push_str("\nAll commands:\n");
    let all = declared.get_subcommands().filter(|one| !one.is_hide_set());
    let all = all.map(|one| (one.get_name().to_owned(), about(one)));
    text.push_str(&columns(all.collect()));
    text.push_str("\nOptions:\n{options}{after-help}");
    text
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default().replace(['{', '}'], "");
    match command.get_visible_aliases().next() {
        Some(alias) => format!("{about} [alias: {alias}]"),
        None => about,
    }
}

fn columns(rows: Vec<(String, String)>) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter();
    lines
        .map(|(name, about)| format!("  {name:width$}  {about}\n"))
        .collect()
}

/// Prints what a shell completes.
pub(super) fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut listed(), "serin", &mut script);
    output::print_text(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages into a folder.
pub(super) fn man_pages(typed: &ManPages) -> Result<(), CliError> {
    let refused = |source| CliError::Write {
        path: typed.folder.clone(),
        source,
    };
    fs::create_dir_all(&typed.folder).map_err(refused)?;
    clap_mangen::generate_to(listed(), &typed.folder).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_people_see_has_an_example_that_may_be_typed() {
        let mut missing = Vec::new();
        let mut groups = vec![(String::new(), Typed::command())];
        while let Some((path, command)) = groups.pop() {
            let below = command.get_subcommands().filter(|one| !one.is_hide_set());
            let below: Vec<_> = below.cloned().collect();
            if below.is_empty() && !EXAMPLES.iter().any(|(of, _)| *of == path) {
                missing.push(path);
                continue;
            }
            groups.extend(
                below
                    .into_iter()
                    .map(|one| (format!("{path} {}", one.get_name()).trim().to_owned(), one)),
            );
        }
        assert!(missing.is_empty(), "{missing:?}");
        for (path, lines) in EXAMPLES {
            for line in *lines {
                let command = line
                    .rsplit('|')
                    .next()
                    .and_then(|line| line.split(" > ").next());
                let words = command.unwrap_or_default().trim().replace('\'', "");
                assert!(words.starts_with(&format!("serin {path}")), "{line}");
                let parsed = parse(words.split(' ').map(OsString::from));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn a_command_whose_result_is_for_people_does_not_say_that_it_is_json() {
        let help = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            let help = whole().try_get_matches_from(words).unwrap_err();
            let text = help.to_string();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for (path, default) in FOR_PEOPLE {
            let text = help(&format!("serin {path} -h"));
            assert!(text.contains(&format!("[default: {default}]")), "{text}");
            assert!(!text.contains("[default: json]"), "{text}");
        }
        assert!(help("serin endpoint show -h").contains("[default: json]"));
    }

    #[test]
    fn the_grammar_holds_together() {
        whole().debug_assert();
        listed().debug_assert();
    }

    #[test]
    fn of_a_flag_that_stands_there_twice_the_last_counts_and_lists_add_up() {
        let line = "serin endpoint update -n one --set a=1 --no-wait -n two --set b=2 --no-wait";
        let typed = parse(line.split(' ').map(OsString::from)).unwrap();
        let super::super::args::Command::Endpoint(super::super::args::Endpoint::Update(typed)) =
            typed.command
        else {
            panic!("{:?}", typed.command);
        };
        assert_eq!(typed.name.unwrap().as_str(), "two");
        assert_eq!(typed.edits.set.len(), 2);
        assert!(typed.waiting.no_wait);
    }
}

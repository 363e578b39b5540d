//! `docs/cli.md`: every command with its arguments and defaults, and the exit codes.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::cell::cell;
use crate::cli::exit;
use crate::cli::grammar::{self, Kind};

const BEGINNING: &str = "# Command line

Every command, made from the grammar by `serin __page cli`. `serin COMMAND --help` says the same for one command, `serin man FOLDER` writes
manual pages, and `serin completions bash` (`zsh`, `fish`) what a shell completes.

Long flags may be shortened to any clear beginning (`--endpoint` for `--endpoint-name`). Of a flag that is given twice the last counts, and
those that take a list (`--set`) add up. Results go to standard output, progress and what has changed to standard error. Flags that are kept
for scripts of `az ml`, or refused, stand with their reasons in [az-ml.md](az-ml.md); variables that stand for flags in
[settings.md](settings.md).

## Contents

";

/// The whole page.
pub(super) fn page() -> String {
    let mut grammar = grammar::listed();
    grammar.build();
    let mut page = BEGINNING.to_owned();
    let shown = |one: &&Command| !one.is_hide_set();
    for command in grammar.get_subcommands().filter(shown) {
        let (name, about) = (command.get_name(), about(command));
        _ = writeln!(page, "- [`serin {name}`](#serin-{name}): {about}");
    }
    page.push_str("- [Exit codes](#exit-codes)\n\n## Options of every command\n\n");
    write_arguments(
        &mut page,
        &grammar,
        grammar.get_arguments().filter(|arg| arg.is_global_set()),
    );
    for command in grammar.get_subcommands().filter(shown) {
        write_command(&mut page, command, command.get_name(), "##");
    }
    write_codes(&mut page);
    page
}

/// A command and all below it that help shows.
fn write_command(page: &mut String, command: &Command, path: &str, heading: &str) {
    _ = writeln!(page, "\n{heading} `serin {path}`\n\n{}.", about(command));
    let aliases: Vec<_> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        _ = writeln!(page, "\nAlso `serin {}`.", aliases.join("`, `serin "));
    }
    let below: Vec<_> = command
        .get_subcommands()
        .filter(|one| !one.is_hide_set())
        .collect();
    let has_own = command
        .get_arguments()
        .any(|arg| !arg.is_global_set() && !is_of_clap(arg));
    if below.is_empty() || has_own {
        write_own(page, command, path);
    }
    for one in below {
        let path = format!("{path} {}", one.get_name());
        write_command(page, one, &path, "###");
    }
}

/// Usage, arguments and examples of a command.
fn write_own(page: &mut String, command: &Command, path: &str) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let usage: Vec<_> = usage.lines().map(str::trim).collect();
    _ = writeln!(page, "\n```text\n{}\n```", usage.join("\n"));
    let own = command.get_arguments().filter(|arg| !arg.is_global_set());
    page.push('\n');
    write_arguments(page, command, own);
    if let Some(default) = grammar::for_people(path) {
        _ = writeln!(page, "\nWhere `--output` says nothing: {default}.");
    }
    let examples = grammar::examples(path);
    if !examples.is_empty() {
        _ = writeln!(page, "\n```sh\n{}\n```", examples.join("\n"));
    }
}

/// A table of what works, and a line of what is kept or refused; nothing where there is neither.
fn write_arguments<'a>(
    page: &mut String,
    command: &Command,
    arguments: impl Iterator<Item = &'a Arg>,
) {
    let arguments: Vec<_> = arguments.filter(|arg| !is_of_clap(arg)).collect();
    let of_kind = |kind| {
        let same = arguments.iter().filter(move |arg| Kind::of(arg) == kind);
        same.copied().collect::<Vec<_>>()
    };
    let works = of_kind(Kind::Works);
    if !works.is_empty() {
        page.push_str("| argument | default | what it says |\n|---|---|---|\n");
    }
    for argument in works {
        write_argument(page, command, argument);
    }
    for (words, kind) in [("Kept", Kind::Kept), ("Refused", Kind::Refused)] {
        let mut flags: Vec<_> = of_kind(kind).into_iter().map(grammar::spelled).collect();
        flags.dedup();
        if !flags.is_empty() {
            _ = writeln!(page, "\n{words}: `{}`.", flags.join("`, `"));
        }
    }
}

fn write_argument(page: &mut String, command: &Command, argument: &Arg) {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let (help, default) = without_default(&help);
    let mut words = cell(help);
    let values = argument.get_possible_values();
    let values: Vec<_> = values.iter().filter(|one| !one.is_hide_set()).collect();
    let is_told = argument.is_hide_possible_values_set();
    if !values.is_empty() && argument.get_action().takes_values() && !is_told {
        let names: Vec<_> = values.iter().map(|one| one.get_name()).collect();
        _ = write!(words, ": `{}`", names.join("`, `"));
    }
    let conflicts = command.get_arg_conflicts_with(argument);
    let mut not_with: Vec<_> = conflicts.into_iter().map(grammar::spelled).collect();
    not_with.dedup();
    if !not_with.is_empty() {
        _ = write!(words, "; not with `{}`", not_with.join("`, `"));
    }
    if argument.is_required_set() {
        words.push_str("; required");
    }
    let default = match default {
        Some(default) => cell(default),
        None => declared_default(argument),
    };
    _ = writeln!(page, "| `{}` | {default} | {words} |", typed(argument));
}

/// An argument with its value, as it is typed.
fn typed(argument: &Arg) -> String {
    let spelled = grammar::spelled(argument);
    let values = argument.get_value_names().unwrap_or_default();
    let takes = argument.get_action().takes_values();
    match values.first() {
        Some(value) if takes && !argument.is_positional() => {
            let more = argument
                .get_num_args()
                .is_some_and(|count| count.max_values() > 1);
            format!("{spelled} {value}{}", if more { " .." } else { "" })
        }
        _ => spelled,
    }
}

/// The default that the grammar itself puts in.
fn declared_default(argument: &Arg) -> String {
    let values = argument.get_default_values();
    let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
    match values.is_empty() || !argument.get_action().takes_values() {
        true => String::new(),
        false => format!("`{}`", values.join(" ")),
    }
}

/// Help, and the default that it ends with where the program works it out.
fn without_default(help: &str) -> (&str, Option<&str>) {
    let help = help.trim();
    let split = help
        .strip_suffix(']')
        .and_then(|help| help.rsplit_once("[default: "));
    match split {
        Some((help, default)) => (help.trim(), Some(default)),
        None => (help, None),
    }
}

/// Whether clap itself has put it in.
fn is_of_clap(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    // The alias has a line of its own.
    let about = about.split(" [alias: ").next().unwrap_or_default();
    about.trim_end_matches('.').to_owned()
}

fn write_codes(page: &mut String) {
    page.push_str("\n## Exit codes\n\n| code | what it says |\n|---|---|\n");
    for (code, words) in exit::EVERY {
        _ = writeln!(page, "| {code} | {} |", cell(words));
    }
    page.push_str(
        "\nA server under `serin serve --supervise` ends with the code of the server itself. `serin verdict` ends with 0 for safe, 1 for harm \
         and 2 for undecided. `serin bench` has codes of its own where it measures and decides:\n\n| code | what it says |\n|---|---|\n",
    );
    for (code, words) in exit::OF_BENCH {
        _ = writeln!(page, "| {code} | {} |", cell(words));
    }
    page.push_str(
        "\nA command that is interrupted, or loses its server, undoes nothing: a change that was accepted goes on, also after a restart. \
         `--no-wait` returns as soon as it is accepted. A deployment that failed before it was ever ready needs no deletion: `create` it \
         again, corrected.\n",
    );
}

//! `serin az flags`: the verbs and flags of `az ml`, and what becomes of each, made from the grammar.
//!
//! `docs/az-ml.md` is what this prints; a test compares the two.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::exit::CliError;
use super::grammar::{self, Kind};
use super::output;
use super::refused::{BATCH, OF_BATCH, REFUSED};

/// The groups that `az ml` has, in the order of the page.
const GROUPS: &[&str] = &[
    "endpoint",
    "online-endpoint",
    "online-deployment",
    "model",
    "environment",
    "workspace",
];

/// Prints the page.
pub(super) fn print() -> Result<(), CliError> {
    output::print_text(&page())
}

fn page() -> String {
    let mut grammar = grammar::whole();
    grammar.build();
    let mut page = "# Verbs and flags of `az ml`\n\n\
        What becomes of each verb and flag here, made from the grammar by `serin az flags`. A flag *works*, is *kept* (understood, and \
        without effect), or is *refused* with the reason. Long flags may be shortened to any clear beginning; of one that is given \
        twice the last counts, and those that take a list add up. `endpoint` and `online-endpoint` are one command: the first prints an \
        endpoint with its deployments.\n\n## Every command\n\n"
        .to_owned();
    let globals = grammar.get_arguments().filter(|arg| arg.is_global_set());
    write_table(&mut page, globals);
    for group in GROUPS {
        // An alias is a name of the same command.
        let Some(found) = grammar.find_subcommand(group) else {
            continue;
        };
        for verb in found.get_subcommands() {
            match verb.get_name() {
                "help" => {}
                OF_BATCH => write_refused(&mut page, group),
                _ => write_verb(&mut page, group, verb),
            }
        }
    }
    page
}

fn write_refused(page: &mut String, group: &str) {
    _ = writeln!(page, "\n## `az ml {group} {OF_BATCH}`\n\nRefused: {BATCH}.");
}

fn write_verb(page: &mut String, group: &str, verb: &Command) {
    let name = verb.get_name();
    let aliases: Vec<_> = verb
        .get_all_aliases()
        .map(|one| format!("`{one}`"))
        .collect();
    let also = match aliases.is_empty() {
        true => String::new(),
        false => format!(" (also {})", aliases.join(", ")),
    };
    _ = writeln!(page, "\n## `az ml {group} {name}`{also}\n");
    let about = verb
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    _ = writeln!(page, "{about}.\n");
    let own = verb.get_arguments().filter(|arg| !arg.is_global_set());
    write_table(page, own);
}

fn write_table<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    page.push_str("| flag | here | |\n|---|---|---|\n");
    for arg in args.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let (becomes, words) = match Kind::of(arg) {
            Kind::Internal => continue,
            Kind::Works => ("works", help),
            Kind::Kept => ("kept", why_kept(&help)),
            Kind::Refused => ("refused", why_refused(arg)),
        };
        let aliases = arg.get_all_aliases().unwrap_or_default();
        let aliases = aliases.iter().map(|one| format!(" --{one}"));
        let spelled = grammar::spelled(arg) + &aliases.collect::<String>();
        let words = words.replace('|', "\\|");
        _ = writeln!(page, "| `{spelled}` | {becomes} | {words} |");
    }
}

/// What stands behind the colon: why there is nothing to do.
fn why_kept(help: &str) -> String {
    let words = help.strip_prefix(grammar::KEPT).unwrap_or(help);
    words.trim_start_matches([':', ' ']).to_owned()
}

fn why_refused(arg: &Arg) -> String {
    let found = REFUSED.iter().find(|(id, _)| *id == arg.get_id().as_str());
    found.map_or_else(String::new, |(_, words)| (*words).to_owned())
}

//! Words for people: the grammar, the output, the exit codes.
//!
//! A command is read in two steps: `args` says what may be typed, the module of the command says what it means, which for
//! most is one `Change` for the server.
//!
//! Not here: any rule about endpoints and deployments; those are the server's, so that every way in obeys them.

mod args;
mod az;
mod az_flags;
mod az_form;
mod backup;
mod bench;
mod changes;
mod colour;
mod defaults;
mod demo;
mod deployment;
mod edits;
mod endpoint;
mod environment;
mod escape;
pub mod exit;
mod files;
mod find;
mod form;
mod grammar;
mod graph_words;
mod history;
mod journal;
mod journal_words;
mod kept_environments;
mod logs;
mod model;
mod moment;
mod output;
mod pages;
mod port;
mod progress;
mod query;
mod readings;
mod refused;
mod rollout;
mod rollout_args;
mod score_script;
mod script_folder;
mod serve;
mod server;
mod set_text;
mod signals;
mod sku;
mod status;
mod status_words;
mod table;
mod tune;
mod verdict;
mod version;
mod wanted;
mod width;
mod workspace;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use self::args::{Command, ScoreScript, Typed};
use self::endpoint::Family;
use self::exit::CliError;
use crate::config::LOG_FLUSH_MAX;
use crate::engine::{lane_child, probe_child};
use crate::observe::flush_log;

/// Reads the command line and does what it says. The codes are in `exit.rs` and in `docs/cli.md`.
#[must_use]
pub fn run() -> ExitCode {
    let behind_az = az::called_as_az(std::env::args_os());
    let parsed = match behind_az.as_deref() {
        None => grammar::parse(std::env::args_os()),
        Some([first, rest @ ..]) if first == "ml" => parse_as_az(rest),
        Some(words) => return ended(az::run(words), false),
    };
    let typed = match parsed {
        Ok(typed) => typed,
        Err(help_or_mistake) => {
            tell(&help_or_mistake);
            return match help_or_mistake.exit_code() {
                0 => ExitCode::from(exit::OK),
                // There 2 is a decision, which this is not.
                _ if asks_for_decision() => ExitCode::from(exit::BENCH_INVALID),
                _ => ExitCode::from(exit::USAGE),
            };
        }
    };
    match typed.command {
        Command::Probe { .. } => return ExitCode::from(probe_child()),
        Command::Lane => return ExitCode::from(lane_child()),
        _ => {}
    }
    let is_server = matches!(typed.command, Command::Serve(_) | Command::Up(_));
    let obeyed = obey(typed);
    flush_log(LOG_FLUSH_MAX);
    ended(obeyed, is_server)
}

/// Reads what stands behind `az ml`.
fn parse_as_az(words: &[OsString]) -> Result<Typed, clap::Error> {
    let name = OsString::from("az ml");
    let mut typed = grammar::parse(std::iter::once(&name).chain(words).cloned())?;
    typed.global.as_az = true;
    Ok(typed)
}

/// Tells how a command has ended; the code says the same.
fn ended(obeyed: Result<(), CliError>, is_server: bool) -> ExitCode {
    match obeyed {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            if is_server {
                output::complain_within(&error.text(), LOG_FLUSH_MAX);
            } else {
                output::complain(&error.text());
            }
            ExitCode::from(error.code())
        }
    }
}

/// Prints help, or what is wrong with the command line; words that a script passed on are shown as they are in other messages.
fn tell(help_or_mistake: &clap::Error) {
    let text = help_or_mistake.render().to_string();
    if help_or_mistake.use_stderr() && escape::lines(&text) != text {
        output::complain(&text);
        return;
    }
    // Nobody is left to tell when this fails.
    drop(help_or_mistake.print());
}

/// Whether the command line, wrong as it is, asks `bench` for a decision.
fn asks_for_decision() -> bool {
    std::env::args_os().any(|argument| argument.as_encoded_bytes().starts_with(b"--fail-if"))
}

fn obey(typed: Typed) -> Result<(), CliError> {
    let global = &typed.global;
    if let Some(words) = &global.refusal {
        return Err(CliError::Usage(words.clone()));
    }
    match typed.command {
        Command::Demo(typed) => demo::run(&typed),
        Command::Serve(typed) => {
            files::keep_private();
            serve::serve(&typed, global)
        }
        Command::Up(typed) => serve::up(typed),
        Command::Endpoint(command) => endpoint::run(command, Family::Old, global),
        Command::OnlineEndpoint(command) => endpoint::run(command, Family::Today, global),
        Command::Deployment(command) => deployment::run(command, global),
        Command::Model(command) => model::run(command, global),
        Command::ScoreScript(ScoreScript::Check(typed)) => score_script::check(&typed, global),
        Command::Sku(command) => sku::run(command, global),
        Command::Tune(typed) => tune::run(&typed, global),
        Command::Bench(typed) => bench::run(&typed, global),
        Command::Az { words } => az::run(&words),
        Command::Environment(command) => environment::run(command, global),
        Command::Workspace(command) => workspace::run(command, global),
        Command::Rollout(command) => rollout::run(command, global),
        Command::Feedback(typed) => rollout::feedback(&typed, global),
        Command::Verdict(typed) => verdict::run(&typed, global),
        Command::Status(typed) => status::status(&typed, global),
        Command::History(typed) => history::history(&typed, global),
        Command::Rollback(typed) => history::roll_back(&typed, global),
        Command::Completions { shell } => grammar::completions(shell),
        Command::Man(typed) => grammar::man_pages(&typed),
        Command::Convert(typed) => wanted::convert(&typed),
        Command::Apply(typed) => wanted::apply(&typed, global),
        Command::Journal(typed) => journal::journal(&typed, global),
        Command::Backup(typed) => backup::backup(&typed, global),
        Command::Restore(typed) => backup::restore(&typed, global),
        Command::Page { page } => output::print_text(&pages::text(page)),
        Command::Probe { .. } | Command::Lane => Ok(()),
    }
}

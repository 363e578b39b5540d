//! The command line as its users meet it: exit code, standard output, standard error.

#[path = "cli/support.rs"]
mod support;

#[path = "cli/az.rs"]
mod az;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/documents.rs"]
mod documents;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/given.rs"]
mod given;
#[path = "cli/grammar.rs"]
mod grammar;
#[path = "cli/habits.rs"]
mod habits;
#[path = "cli/harm.rs"]
mod harm;
#[path = "cli/history.rs"]
mod history;
#[path = "cli/install.rs"]
mod install;
#[path = "cli/logs.rs"]
mod logs;
#[path = "cli/models.rs"]
mod models;
#[path = "cli/openapi.rs"]
mod openapi;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/pages.rs"]
mod pages;
#[path = "schemas/check.rs"]
mod schemas;
#[path = "cli/seed.rs"]
mod seed;
#[path = "cli/sequences.rs"]
mod sequences;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/tune.rs"]
mod tune;

//! Environments of scoring scripts: from a conda file or a `requirements.txt` to a virtual environment on this machine.
//!
//! A [`Recipe`] is what a file asks for, in a normal form (`conda` and `requirements` read it, `wish` is the Python in it). `python` finds
//! an interpreter for it, `cache` has the place of each environment and who may use it, `build` fills the place with commands that
//! `command` runs and `words` understands.
//!
//! Threads: [`Environments`] blocks, for minutes while it builds. Not here: what runs in an environment (`engine`), where files
//! of environments are kept with a change (`control`), containers.

mod build;
mod cache;
mod command;
mod conda;
mod error;
mod python;
mod recipe;
mod requirements;
mod settings;
#[cfg(test)]
mod testing;
mod wish;
mod words;

pub use cache::{Environment, Environments};
pub use error::EnvironmentError;
pub use python::NoPython;
pub use recipe::Recipe;
pub use settings::BuildSettings;

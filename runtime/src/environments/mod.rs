//! Environments of scoring scripts: from a conda file or a `requirements.txt` to a virtual environment on this machine.
//!
//! A [`Recipe`] is what a file asks for, in a normal form (`conda` and `requirements` read it, `wish` is the Python in it). `python` finds
//! an interpreter for it, `cache` has the place of each environment and who may use it, `build` fills the place with commands that
//! `command` runs and `words` understands.
//!
//! Threads: [`Environments`] blocks, for minutes while it builds. Not here: what runs in an environment (`engine`), where files
//! of environments are kept with a change (`control`), containers.

#[cfg(feature = "server")]
mod build;
#[cfg(feature = "server")]
mod cache;
#[cfg(feature = "server")]
mod command;
#[cfg(feature = "server")]
mod conda;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
mod python;
mod recipe;
#[cfg(feature = "server")]
mod requirements;
#[cfg(feature = "server")]
mod settings;
#[cfg(test)]
#[cfg(feature = "server")]
mod testing;
mod wish;
#[cfg(feature = "server")]
mod words;

#[cfg(feature = "server")]
pub use cache::{Environment, Environments};
#[cfg(feature = "server")]
pub use error::EnvironmentError;
#[cfg(feature = "server")]
pub use python::NoPython;
pub use recipe::Recipe;
#[cfg(feature = "server")]
pub use settings::BuildSettings;
